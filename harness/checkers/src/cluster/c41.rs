//! C41: queues stay within their bounds; no key waits longer than R + T.

use super::World;
use crate::findings::Findings;
use record::{Guarantee, QUEUE_NS, Verdict};
use std::collections::BTreeSet;

/// Keys that a queue may hold beside one for each object that ever was: some controllers name keys of their own, such as
/// one for everything of a kind.
const OWN_KEYS: u64 = 10_000;

/// Of each queue, as it was looked at every few seconds of the whole trial: how many keys it held, and for how long the
/// first of them had been due.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C41);
    let objects: BTreeSet<&str> = world.commits.iter().map(|commit| &*commit.key).collect();
    let most = OWN_KEYS + objects.len() as u64;
    let ended_ns = world.record.ended_ns;
    for (queue, (length, oldest_ns)) in &world.record.cluster.end.queues {
        findings.tested(1);
        findings.took(*oldest_ns);
        // Nobody works on what waits in a member that nobody heals.
        if *oldest_ns > QUEUE_NS && !world.is_frozen(queue) {
            findings
                .violated(ended_ns, format!("a key waited {oldest_ns} ns in queue {queue}, at most {QUEUE_NS} ns may"));
        }
        if *length > most {
            findings.violated(ended_ns, format!("queue {queue} held {length} keys, at most {most} may wait"));
        }
    }
    findings.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use record::Kind;

    fn tale(length: u64, oldest_ns: u64) -> Tale {
        let mut tale = Tale::new();
        tale.record.cluster.end.queues.insert("s1/x/garbage".into(), (7, 5));
        tale.record.cluster.end.queues.insert("s1/x/pods".into(), (length, oldest_ns));
        tale
    }

    #[test]
    fn short_queues_pass() {
        tale(10_000, QUEUE_NS).passes(check, Guarantee::C41, 2);
    }

    #[test]
    fn a_long_wait_and_a_long_queue_are_flagged() {
        tale(1, QUEUE_NS + 1).flags(check, "a key waited 360000000001 ns in queue s1/x/pods");
        let mut frozen = tale(1, QUEUE_NS + 1);
        frozen.strike(Kind::Frozen, 20, 600).members = vec![0];
        frozen.passes(check, Guarantee::C41, 2);
        tale(10_001, 1).flags(check, "queue s1/x/pods held 10001 keys");
    }
}
