//! C10: a lease without holder expires within TTL + leaderless time + one checkpoint interval per leader change + 10 Er.

use crate::History;
use crate::findings::Findings;
use crate::leases::{Lease, seconds_ns};
use faults::Ns;
use record::{Guarantee, Operation, PROGRESS_NS, Record, Verdict};

/// How often a leader tells the others how long each lease still lives: a new one may give back that much.
const CHECKPOINT_NS: Ns = 5_000_000_000;

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C10);
    for (id, lease) in &h.leases {
        let Some((seen_ns, ttl_s)) = lease.seen else {
            continue;
        };
        let until_ns = lease.gone_ns.unwrap_or(h.record.ended_ns);
        if lease.revoked_ns.is_some_and(|revoked_ns| lease.gone_ns.is_some_and(|gone_ns| revoked_ns <= gone_ns)) {
            continue;
        }
        let from_ns = last_sign_of_life(h.record, lease, until_ns).max(seen_ns);
        // A clock a tenth too slow, times without a leader that could end it, and what leaders forget.
        let ttl_ns = seconds_ns(ttl_s);
        let due_ns = ttl_ns
            + ttl_ns / 10
            + h.timeline.unled_ns(from_ns, until_ns)
            + CHECKPOINT_NS * h.timeline.leader_changes(from_ns, until_ns);
        let late_ns = until_ns.saturating_sub(from_ns).saturating_sub(due_ns);
        if lease.gone_ns.is_none() && late_ns <= PROGRESS_NS {
            continue;
        }
        findings.tested(1);
        findings.took(late_ns);
        if late_ns > PROGRESS_NS {
            let state = if lease.gone_ns.is_some() { "was seen gone only" } else { "is still there" };
            findings.violated(
                until_ns,
                format!(
                    "lease {id} of {ttl_s} s, last kept alive at {from_ns} ns, {state} at {until_ns} ns, {late_ns} ns late"
                ),
            );
        }
    }
    findings.verdict()
}

/// When the lease's time to live can last have begun anew, by what was asked before `until_ns`.
fn last_sign_of_life(record: &Record, lease: &Lease<'_>, until_ns: Ns) -> Ns {
    let promised =
        lease.promises.iter().map(|(op, _)| *op).filter(|op| op.invoked_ns <= until_ns).map(|op| op.completed_ns);
    let perhaps = lease.perhaps.iter().filter(|op| op.invoked_ns <= until_ns).map(|op| arrives_by(record, op));
    promised.chain(perhaps).max().unwrap_or(0).min(until_ns)
}

/// When an unanswered request is delivered at the latest: a fault may hold it until it ends. What reaches a member that
/// nobody heals is never delivered.
fn arrives_by(record: &Record, op: &Operation) -> Ns {
    let heals = record.strikes.iter().filter(|s| !s.is_frozen(record.ended_ns));
    let holds = heals.filter(|s| s.from_ns <= op.completed_ns && op.invoked_ns <= s.until_ns);
    holds.map(|s| s.until_ns).max().unwrap_or(0).max(op.completed_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, seconds};
    use record::Observation;

    /// One leader all along, and a lease of 10 s kept alive once, at 5 s.
    fn kept_alive() -> Story {
        let mut story = Story::new();
        story.leads(0, 0, 1);
        story.grant(7, 10);
        story.end(seconds(5));
        story.keep_alive(7, 10);
        story
    }

    fn gone_after(mut story: Story, at: Ns) -> Story {
        story.end(at);
        story.gone(7);
        story
    }

    #[test]
    fn a_lease_that_ends_in_time_passes() {
        let story = gone_after(kept_alive(), seconds(17));
        story.passes(Guarantee::C10, 1);
        // 17 s, less 5.005 s when it was last kept alive, less 11 s by a slow clock.
        assert_eq!(story.verdict(Guarantee::C10).largest_ns, Some(995_000_000));
        gone_after(kept_alive(), seconds(36)).passes(Guarantee::C10, 1);
    }

    #[test]
    fn a_lease_that_ends_late_or_never_is_flagged() {
        gone_after(kept_alive(), seconds(37)).flags(
            Guarantee::C10,
            "lease 7 of 10 s, last kept alive at 5005000000 ns, was seen gone only at 37000000000 ns",
        );
        let mut story = kept_alive();
        story.end(seconds(36));
        story.passes(Guarantee::C10, 0);
        story.end(seconds(37));
        story.flags(Guarantee::C10, "is still there at 37000000000 ns");
    }

    #[test]
    fn a_lease_that_somebody_revokes_is_not_judged() {
        let mut story = kept_alive();
        let revoke = story.revoke(7);
        story.op(revoke).invoked_ns = 0;
        story.passes(Guarantee::C10, 0);
    }

    #[test]
    fn time_without_an_able_leader_is_added() {
        let led = |disabled_until: Ns| {
            let mut story = kept_alive();
            story.disabled(0, seconds(10), disabled_until);
            gone_after(story, seconds(41))
        };
        led(seconds(15)).passes(Guarantee::C10, 1);
        led(seconds(14)).flags(Guarantee::C10, "was seen gone only at 41000000000 ns");
    }

    #[test]
    fn each_change_of_leader_may_give_back_a_checkpoint() {
        let mut story = kept_alive();
        story.leads(1, seconds(12), 2);
        gone_after(story, seconds(41)).passes(Guarantee::C10, 1);
    }

    #[test]
    fn an_unanswered_keep_alive_may_have_arrived_when_the_fault_that_held_it_ended() {
        let held = |until_ns: Ns| {
            let mut story = kept_alive();
            story.strike(faults::Kind::LinkHold, seconds(5), until_ns);
            story.unanswered(1);
            gone_after(story, seconds(41))
        };
        held(seconds(11)).passes(Guarantee::C10, 1);
        held(seconds(9)).flags(Guarantee::C10, "last kept alive at 9000000000 ns");
    }

    #[test]
    fn a_lease_that_was_granted_without_an_answer_must_end_too() {
        let mut story = Story::new();
        story.leads(0, 0, 1);
        story.observe(Observation::LeaseGranted { at_ns: seconds(1), member: 2, lease: 9, ttl_s: 2 });
        story.end(seconds(24));
        story.flags(Guarantee::C10, "lease 9 of 2 s, last kept alive at 1000000000 ns, is still there");
    }
}
