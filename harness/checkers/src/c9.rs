//! C9: no lease is revoked before its acknowledged keep-alive plus TTL, and a keep-alive answered OK means that the
//! lease exists.
//!
//! What a leader measures with a clock up to a tenth too fast takes at least `TTL / 1.1`. A slow, frozen or stepping
//! clock only adds to it.

use crate::History;
use crate::findings::Findings;
use crate::leases::seconds_ns;
use faults::{Kind, Ns, What};
use record::{Guarantee, Operation, Record, Request, Strike, Verdict};

/// The fastest rate of a clock, in thousandths, under which anything is promised.
const FASTEST_PERMILLE: u64 = 1100;
/// A clock that runs true, in thousandths.
const TRUE_PERMILLE: u64 = 1000;

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C9);
    let too_fast = too_fast(h.record);
    for (id, lease) in &h.leases {
        for (op, ttl_s) in &lease.promises {
            let Some(gone_ns) = lease.gone_ns else {
                findings.tested(1);
                continue;
            };
            if gone_ns < op.invoked_ns {
                findings.tested(1);
                findings.violated(
                    op.completed_ns,
                    format!("{} of lease {id} was answered OK, but the lease was seen gone at {gone_ns} ns", named(op)),
                );
                continue;
            }
            // The end is seen a little late, which only spares a lease that ended a little early.
            let lives_ns = seconds_ns(*ttl_s) / FASTEST_PERMILLE * 1000;
            let revoked = lease.revoked_ns.is_some_and(|revoked_ns| revoked_ns <= gone_ns);
            let fast = too_fast.iter().any(|(from_ns, until_ns)| *from_ns < gone_ns && op.invoked_ns < *until_ns);
            if revoked || fast {
                continue;
            }
            findings.tested(1);
            if gone_ns < op.invoked_ns + lives_ns {
                findings.violated(
                    gone_ns,
                    format!(
                        "lease {id} is gone at {gone_ns} ns, although {} of {} ns was acknowledged for {ttl_s} s",
                        named(op),
                        op.invoked_ns
                    ),
                );
            }
        }
    }
    findings.verdict()
}

fn named(op: &Operation) -> String {
    let what = match op.request {
        Request::LeaseKeepAlive { .. } => "keep-alive",
        Request::LeaseGrant { .. } => "grant",
        Request::Read { .. } | Request::Txn { .. } | Request::LeaseRevoke { .. } | Request::Compact { .. } => {
            "operation"
        }
    };
    format!("{what} {} of client {}", op.id, op.client)
}

/// When some member's clocks ran faster than anything is promised for. Drifts of one member multiply; a jump takes no time.
fn too_fast(record: &Record) -> Vec<(Ns, Ns)> {
    let drifts: Vec<(&Strike, u64)> = record
        .strikes
        .iter()
        .filter(|strike| strike.kind == Kind::ClockDrift)
        .map(|strike| (strike, rate_permille(record, strike)))
        .collect();
    let jumps = |strike: &&Strike| strike.kind == Kind::ClockJump && !strike.members.is_empty();
    let mut fast: Vec<(Ns, Ns)> =
        record.strikes.iter().filter(jumps).map(|strike| (strike.from_ns, strike.from_ns + 1)).collect();
    for (begins, _) in &drifts {
        for member in &begins.members {
            let active = drifts.iter().filter(|(drift, _)| {
                drift.members.contains(member) && drift.from_ns <= begins.from_ns && begins.from_ns < drift.until_ns
            });
            let (rate, until_ns) = active
                .fold((TRUE_PERMILLE, begins.until_ns), |(rate, until_ns), (drift, drifts)| {
                    (rate * drifts / TRUE_PERMILLE, until_ns.max(drift.until_ns))
                });
            if rate > FASTEST_PERMILLE {
                fast.push((begins.from_ns, until_ns));
            }
        }
    }
    fast
}

/// A drift's rate. A strike whose fault was edited away may have been any.
fn rate_permille(record: &Record, strike: &Strike) -> u64 {
    let fault = record.schedule.faults.iter().find(|fault| fault.id == strike.fault);
    match fault.map(|fault| &fault.what) {
        Some(What::ClockDrift { permille, .. }) => u64::from(*permille),
        Some(_) | None => FASTEST_PERMILLE + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, seconds};
    use faults::{Fault, Kind, Target, When};

    /// A lease of 11 s, kept alive after 5 s and gone after 15 s more: at about 20 s.
    fn good() -> Story {
        let mut story = Story::new();
        story.grant(7, 11);
        story.end(seconds(6));
        story.keep_alive(7, 11);
        story.end(seconds(21));
        story.gone(7);
        story
    }

    fn gone_at(story: &mut Story, at: Ns) {
        for observation in &mut story.record.observations {
            if let record::Observation::LeaseGone { at_ns, .. } = observation {
                *at_ns = at;
            }
        }
    }

    #[test]
    fn a_lease_that_lives_long_enough_passes() {
        good().passes(Guarantee::C9, 2);
        Story::new().passes(Guarantee::C9, 0);
    }

    #[test]
    fn a_clock_within_bound_may_end_it_a_tenth_early() {
        let mut story = good();
        gone_at(&mut story, seconds(16));
        story.passes(Guarantee::C9, 2);
        gone_at(&mut story, seconds(16) - 1);
        story.flags(Guarantee::C9, "lease 7 is gone at 15999999999 ns, although keep-alive 1 of client 1 of 6000000000 ns was acknowledged for 11 s");
    }

    #[test]
    fn a_lease_gone_before_its_first_time_to_live_is_flagged() {
        let mut story = Story::new();
        story.grant(7, 11);
        story.end(seconds(9));
        story.gone(7);
        story.flags(Guarantee::C9, "although grant 0 of client 1");
    }

    #[test]
    fn a_keep_alive_that_was_not_acknowledged_promises_nothing() {
        let mut story = good();
        gone_at(&mut story, seconds(13));
        story.unanswered(1);
        story.passes(Guarantee::C9, 1);
    }

    #[test]
    fn a_lease_may_be_revoked_at_any_time_but_then_only_by_who_asked() {
        let mut story = Story::new();
        story.grant(7, 11);
        let revoke = story.revoke(7);
        story.unanswered(revoke);
        story.record.operations[revoke].invoked_ns = 0;
        story.passes(Guarantee::C9, 0);
        story.op(revoke).outcome = record::Outcome::Refused { why: record::Refusal::Unavailable("no leader".into()) };
        story.flags(Guarantee::C9, "although grant 0");
    }

    #[test]
    fn a_keep_alive_answered_after_the_end_is_flagged() {
        let mut story = good();
        story.wait(1);
        story.keep_alive(7, 11);
        story.flags(Guarantee::C9, "keep-alive 2 of client 1 of lease 7 was answered OK, but the lease was seen gone");
    }

    #[test]
    fn a_clock_out_of_bound_leaves_nothing_to_judge() {
        let mut story = good();
        gone_at(&mut story, seconds(13));
        let drift = |permille| What::ClockDrift { target: Target::Leader, permille };
        let fault = |what| Fault { id: 0, kind: Kind::ClockDrift, when: When::At(0), for_ns: seconds(60), what };
        story.strike(Kind::ClockDrift, 0, seconds(60)).members = vec![0];
        story.record.schedule.faults = vec![fault(drift(1100))];
        story.flags(Guarantee::C9, "lease 7 is gone");
        story.record.schedule.faults = vec![fault(drift(1101))];
        story.passes(Guarantee::C9, 0);
        story.record.strikes[0].until_ns = seconds(5);
        story.flags(Guarantee::C9, "lease 7 is gone");
    }

    #[test]
    fn a_clock_that_jumps_takes_the_time_from_the_leases_that_it_finds() {
        let mut story = good();
        gone_at(&mut story, seconds(13));
        story.strike(Kind::ClockJump, seconds(8), seconds(13)).members = vec![0];
        story.passes(Guarantee::C9, 0);
        story.record.strikes[0].from_ns = seconds(2);
        story.flags(Guarantee::C9, "lease 7 is gone");
    }

    #[test]
    fn two_drifts_within_bound_may_be_out_of_bound_together() {
        let mut story = good();
        gone_at(&mut story, seconds(13));
        let what = What::ClockDrift { target: Target::Leader, permille: 1060 };
        for id in 0..2 {
            story.strike(Kind::ClockDrift, seconds(5 + u64::from(id)), seconds(60)).members = vec![id];
            let (when, for_ns, what) = (When::At(0), seconds(60), what.clone());
            let kind = Kind::ClockDrift;
            story.record.schedule.faults.push(Fault { id, kind, when, for_ns, what });
        }
        story.flags(Guarantee::C9, "lease 7 is gone");
        story.record.strikes[1].members = vec![0];
        story.passes(Guarantee::C9, 0);
        story.record.strikes[0].until_ns = seconds(6);
        story.flags(Guarantee::C9, "lease 7 is gone");
    }
}
