//! C40: within T after Q the API request rate is at most twice that of the twin without faults.

use super::World;
use crate::findings::Findings;
use record::{CONVERGE_NS, Guarantee, Twin, Verdict};

/// Rates are compared over windows of so many seconds: about a turn of everything that is done periodically.
const WINDOW_S: usize = 20;

/// From one window to the next.
const STEP_S: usize = 5;

/// Requests per second that a cluster may make beyond twice its twin's: a handful of nodes and leaders whose turns fall
/// together in one window.
const ALLOWANCE: u64 = 5;

const SECOND_NS: u64 = 1_000_000_000;

/// From T after Q on, in each window, the API servers answer at most twice as many requests as those of the twin did in the
/// same window. Only trials that have a twin are judged.
///
/// The time that is reported is how long after Q the last window above the bound ended.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C40);
    let history = &world.record.cluster;
    let Some(Twin { requests: twin, .. }) = &history.twin else { return findings.verdict() };
    let windows = history.requests.windows(WINDOW_S).zip(twin.windows(WINDOW_S)).enumerate().step_by(STEP_S);
    for (from_s, (requests, twin)) in windows {
        let from_ns = from_s as u64 * SECOND_NS;
        let until_ns = from_ns + WINDOW_S as u64 * SECOND_NS;
        if from_ns < world.quiet_ns {
            continue;
        }
        let (made, allowed) = (rate(requests), 2 * rate(twin) + ALLOWANCE);
        let too_many = made > allowed;
        findings.took(if too_many { until_ns - world.quiet_ns } else { 0 });
        if from_ns < world.quiet_ns + CONVERGE_NS {
            continue;
        }
        findings.tested(1);
        if too_many {
            let text = format!(
                "{made} API requests per second from {} s on, though its twin without faults makes {}",
                from_ns / SECOND_NS,
                rate(twin)
            );
            findings.violated(until_ns, text);
        }
    }
    findings.verdict()
}

fn rate(requests: &[u64]) -> u64 {
    requests.iter().sum::<u64>() / requests.len().max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    fn tale(rates: impl Fn(usize) -> u64) -> Tale {
        let mut tale = Tale::new();
        tale.record.cluster.requests = (0..300).map(rates).collect();
        tale.record.cluster.twin = Some(Twin { requests: vec![50; 300], ..Twin::default() });
        tale
    }

    #[test]
    fn a_rush_that_settles_in_time_passes() {
        // Faults end at 100 s, and T is 60 s.
        tale(|second| if second < 150 { 400 } else { 90 }).passes(check, Guarantee::C40, 25);
    }

    #[test]
    fn a_rush_that_lasts_is_flagged() {
        tale(|_| 130).flags(check, "130 API requests per second from 160 s on");
    }

    #[test]
    fn without_a_twin_there_is_nothing_to_compare() {
        let mut tale = tale(|_| 400);
        tale.record.cluster.twin = None;
        tale.passes(check, Guarantee::C40, 0);
    }
}
