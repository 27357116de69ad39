//! C6: while a majority is mutually connected, its disks answer and its clocks drift within bound, a write commits in
//! time.
//!
//! Somebody must ask for writes: the harness has a client that asks every member several times a second, and nothing is
//! judged before the first operation or after the last.

use crate::History;
use crate::findings::Findings;
use crate::timeline::{Stretch, shown};
use faults::Ns;
use record::{Guarantee, Observation, PROGRESS_NS, Record, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Windows that are counted as tests begin at every full second.
const STEP_NS: Ns = 1_000_000_000;

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C6);
    let Some((begin_ns, end_ns)) = at_work(h.record) else {
        return findings.verdict();
    };
    let commits = commits(h.record);
    let mut windows: BTreeSet<Ns> = BTreeSet::new();
    // By its end: several majorities see the same gap, and the one that was able for longest sees most of it.
    let mut gaps: BTreeMap<Ns, Stretch> = BTreeMap::new();
    for stretch in h.timeline.stretches() {
        let stretch =
            Stretch { from_ns: stretch.from_ns.max(begin_ns), until_ns: stretch.until_ns.min(end_ns), ..stretch };
        if stretch.from_ns >= stretch.until_ns {
            continue;
        }
        let last_window = (stretch.until_ns / STEP_NS).checked_sub(PROGRESS_NS / STEP_NS);
        windows.extend(stretch.from_ns.div_ceil(STEP_NS)..last_window.map_or(0, |last| last + 1));
        for gap in gaps_of(stretch, &commits) {
            findings.took(gap.until_ns - gap.from_ns);
            if gap.until_ns - gap.from_ns > PROGRESS_NS {
                let longest = gaps.entry(gap.until_ns).or_insert(gap);
                if gap.from_ns < longest.from_ns {
                    *longest = gap;
                }
            }
        }
    }
    findings.tested(windows.len() as u64);
    for Stretch { from_ns, until_ns, majority } in gaps.into_values() {
        findings.violated(
            from_ns + PROGRESS_NS,
            format!(
                "members {} were able and connected, but nothing committed from {from_ns} ns to {until_ns} ns",
                shown(majority)
            ),
        );
    }
    findings.verdict()
}

/// From the first operation to be asked to the last.
fn at_work(record: &Record) -> Option<(Ns, Ns)> {
    let asked = record.operations.iter().map(|op| op.invoked_ns);
    Some((asked.clone().min()?, asked.max()?))
}

/// When somebody's write was seen to be committed, in order. The first commit of a term may be no more than what the new
/// leader wrote itself: elections without end are no progress.
fn commits(record: &Record) -> Vec<Ns> {
    let mut terms: BTreeSet<u64> = BTreeSet::new();
    let mut commits: Vec<Ns> = Vec::new();
    for observation in &record.observations {
        match observation {
            Observation::Applied { at_ns, .. } => commits.push(*at_ns),
            Observation::Commits { at_ns, term, .. } if !terms.insert(*term) => commits.push(*at_ns),
            Observation::Commits { .. }
            | Observation::State { .. }
            | Observation::LeaseGranted { .. }
            | Observation::LeaseGone { .. }
            | Observation::Leads { .. }
            | Observation::StepsDown { .. }
            | Observation::Process { .. } => {}
        }
    }
    commits.sort_unstable();
    commits
}

/// The times within a stretch from its begin to the first commit, from one to the next, and from the last to its end.
fn gaps_of(stretch: Stretch, commits: &[Ns]) -> impl Iterator<Item = Stretch> {
    let first = commits.partition_point(|at_ns| *at_ns <= stretch.from_ns);
    let end = commits.partition_point(|at_ns| *at_ns < stretch.until_ns);
    let within = commits.get(first..end).unwrap_or_default();
    let begins = std::iter::once(stretch.from_ns).chain(within.iter().copied());
    let ends = within.iter().copied().chain(std::iter::once(stretch.until_ns));
    begins.zip(ends).map(move |(from_ns, until_ns)| Stretch { from_ns, until_ns, ..stretch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, seconds};

    /// Somebody asks for a minute, and one leader commits every second from second to second.
    fn committing(from: u64, until: u64) -> Story {
        let mut story = Story::new();
        story.read("a");
        story.end(seconds(61));
        story.read("a");
        for second in from..until {
            story.commits(0, seconds(second), 1, second, 1);
        }
        story
    }

    #[test]
    fn a_cluster_that_commits_all_the_time_passes() {
        committing(1, 62).passes(Guarantee::C6, 41);
        assert_eq!(committing(1, 62).verdict(Guarantee::C6).largest_ns, Some(seconds(1)));
    }

    #[test]
    fn silence_of_an_able_majority_is_flagged() {
        committing(1, 30).flags(
            Guarantee::C6,
            "members 0, 1 were able and connected, but nothing committed from 29000000000 ns to 61000000000 ns",
        );
        committing(25, 62).flags(Guarantee::C6, "nothing committed from 1000000000 ns");
        let mut story = committing(1, 20);
        story.commits(0, seconds(41), 1, 100, 1);
        story.flags(Guarantee::C6, "from 19000000000 ns to 41000000000 ns");
    }

    #[test]
    fn silence_is_nothing_while_no_majority_is_able_for_long_enough() {
        let mut story = committing(1, 20);
        story.disabled(0, seconds(20), seconds(40));
        story.severed(2, 1, seconds(22), seconds(42));
        story.commits(0, seconds(59), 1, 100, 1);
        story.passes(Guarantee::C6, 4);
    }

    #[test]
    fn a_majority_that_hears_each_other_must_commit_although_the_leader_is_deaf() {
        let mut story = committing(1, 20);
        story.severed(1, 0, seconds(20), seconds(61));
        story.severed(2, 0, seconds(20), seconds(61));
        story.flags(Guarantee::C6, "members 1, 2 were able and connected");
    }

    #[test]
    fn elections_without_end_are_no_progress() {
        let mut story = committing(1, 20);
        for term in 2..40 {
            story.commits(term as u32 % 3, seconds(20 + term), term, 100 + term, term);
        }
        story.flags(Guarantee::C6, "nothing committed from 19000000000 ns");
    }

    #[test]
    fn a_change_seen_applied_is_progress() {
        let mut story = committing(1, 20);
        for second in 20..62 {
            story.observe(Observation::Applied {
                at_ns: seconds(second),
                member: 1,
                revision: second as i64,
                events: vec![],
            });
        }
        story.passes(Guarantee::C6, 41);
    }

    #[test]
    fn nothing_is_judged_while_nobody_asks() {
        let mut story = Story::new();
        story.end(seconds(60));
        story.passes(Guarantee::C6, 0);
        story.read("a");
        story.passes(Guarantee::C6, 0);
    }
}
