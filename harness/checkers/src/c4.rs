//! C4: the revision rises by exactly one with each transaction that changes something, and never falls.

use crate::History;
use crate::findings::Findings;
use crate::log::FIRST_REVISION;
use crate::order::{Point, fallen};
use crate::transactions::Fate;
use record::{Guarantee, Observation, Operation, Outcome, Request, Verdict};
use std::collections::BTreeMap;

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C4);
    revisions_have_no_gap(h, &mut findings);
    transactions_have_their_own_revision(h, &mut findings);
    answers_never_fall(h, &mut findings);
    members_never_fall(h, &mut findings);
    findings.verdict()
}

fn revisions_have_no_gap(h: &History<'_>, findings: &mut Findings) {
    let mut next = FIRST_REVISION + 1;
    for entry in &h.log.entries {
        findings.tested(1);
        if entry.revision != next {
            findings
                .violated(entry.at_ns, format!("revision {} was seen where revision {next} should be", entry.revision));
        }
        next = entry.revision + 1;
    }
}

/// What a transaction changes has one revision, which its client is told.
fn transactions_have_their_own_revision(h: &History<'_>, findings: &mut Findings) {
    for txn in &h.transactions.all {
        let (op, at_ns) = (txn.op, txn.op.completed_ns);
        let revisions: Vec<i64> = txn.landed.iter().map(|landing| landing.revision).collect();
        if revisions.len() > 1 {
            findings.violated(
                at_ns,
                format!("operation {} of client {} made more than one revision: {revisions:?}", op.id, op.client),
            );
        } else if let (Some((told, _)), Some(Fate::Elsewhere)) = (txn.answer(), txn.fate(&h.log)) {
            findings.violated(
                at_ns,
                format!(
                    "operation {} of client {} was told revision {told}, but made {}",
                    op.id, op.client, revisions[0]
                ),
            );
        }
    }
}

/// No answer speaks of an older revision than an answer given before it was asked for: for one client, and among all.
fn answers_never_fall(h: &History<'_>, findings: &mut Findings) {
    let mut points: Vec<Point<'_>> = h.record.operations.iter().filter_map(point).collect();
    findings.tested(points.len() as u64);
    for fallen in fallen(&mut points, std::iter::empty()) {
        findings.violated(fallen.point.op.completed_ns, fallen.text());
    }
}

/// Every answer that went through the log. Reads of the past speak of the past, and a keep-alive goes past the log.
fn point(op: &Operation) -> Option<Point<'_>> {
    let Outcome::Ok { revision, .. } = op.outcome else {
        return None;
    };
    let through_the_log = match op.request {
        Request::Read { revision: of, .. } => of == 0,
        Request::LeaseKeepAlive { .. } => false,
        // Not every front door tells a revision here.
        Request::LeaseGrant { .. } | Request::LeaseRevoke { .. } | Request::Compact { .. } => revision > 0,
        Request::Txn { .. } => true,
    };
    through_the_log.then_some(Point { op, revision, answered: true, makes: false })
}

/// A member's revision never falls while its process lives. One that restarts applies its log anew from its snapshot.
fn members_never_fall(h: &History<'_>, findings: &mut Findings) {
    let mut newest: BTreeMap<u32, i64> = BTreeMap::new();
    for observation in &h.record.observations {
        match observation {
            Observation::Process { member, .. } => {
                newest.remove(member);
            }
            Observation::State { at_ns, member, revision, .. } => {
                let before = newest.insert(*member, *revision);
                if before.is_some_and(|before| before > *revision) {
                    findings.violated(
                        *at_ns,
                        format!("member {member} fell from revision {} to {revision}", before.unwrap_or_default()),
                    );
                }
            }
            Observation::Applied { .. }
            | Observation::LeaseGranted { .. }
            | Observation::LeaseGone { .. }
            | Observation::Leads { .. }
            | Observation::StepsDown { .. }
            | Observation::Commits { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, changed_at, put};
    use record::WatchEvent;

    fn good() -> Story {
        let mut story = Story::new();
        story.put("a", "a1");
        story.txn(&[changed_at("a", 2)], &[put("a", "a2"), put("b", "b1")], &[]);
        story.txn(&[changed_at("a", 2)], &[put("a", "never")], &[]);
        story.delete("nothing");
        story.read("a");
        story
    }

    fn told(story: &mut Story, id: usize) -> &mut i64 {
        match &mut story.op(id).outcome {
            Outcome::Ok { revision, .. } => revision,
            Outcome::Refused { .. } | Outcome::Unknown { .. } => panic!("it was answered"),
        }
    }

    #[test]
    fn one_revision_for_each_change_and_none_for_what_changes_nothing_passes() {
        // Two revisions, five answers.
        good().passes(Guarantee::C4, 7);
        Story::new().passes(Guarantee::C4, 0);
    }

    #[test]
    fn a_gap_in_the_revisions_is_flagged() {
        let mut story = good();
        story.put("c", "c1");
        story.unsee(3);
        story.flags(Guarantee::C4, "revision 4 was seen where revision 3 should be");
        let mut story = good();
        story.unsee(2);
        story.flags(Guarantee::C4, "revision 3 was seen where revision 2 should be");
    }

    #[test]
    fn a_transaction_spread_over_two_revisions_is_flagged() {
        let mut story = good();
        let Some(WatchEvent::Put(mut second)) = story.events(3).pop() else { panic!("it was a put") };
        (second.mod_revision, second.create_revision) = (4, 4);
        story.applied(4, vec![WatchEvent::Put(second)]);
        story.flags(Guarantee::C4, "operation 1 of client 1 made more than one revision: [3, 4]");
    }

    #[test]
    fn a_write_told_another_revision_than_its_own_is_flagged() {
        let mut story = good();
        *told(&mut story, 0) = 1;
        story.flags(Guarantee::C4, "operation 0 of client 1 was told revision 1, but made 2");
    }

    #[test]
    fn an_answer_older_than_one_before_it_is_flagged() {
        let mut story = good();
        *told(&mut story, 4) = 2;
        story.flags(
            Guarantee::C4,
            "operation 4 of client 1 was told of revision 2, but was asked after operation 1 was told of revision 3",
        );
        let mut story = good();
        let grant = story.grant(7, 5);
        *told(&mut story, grant) = 1;
        story.flags(Guarantee::C4, "operation 5 of client 1 was told of revision 1");
        // Not every front door tells a revision with a lease.
        *told(&mut story, grant) = 0;
        story.passes(Guarantee::C4, 7);
    }

    #[test]
    fn answers_that_cross_may_come_in_any_order() {
        let mut story = good();
        *told(&mut story, 4) = 2;
        story.op(4).invoked_ns = story.record.operations[1].completed_ns;
        story.passes(Guarantee::C4, 7);
    }

    #[test]
    fn a_member_that_falls_while_it_lives_is_flagged_but_not_one_that_starts_anew() {
        let mut story = good();
        story.state(1, 2, 3, 0xa);
        story.process(1, story.now(), false);
        story.process(1, story.now(), true);
        story.state(1, 1, 2, 0xb);
        story.state(1, 2, 3, 0xa);
        story.passes(Guarantee::C4, 7);
        story.state(1, 2, 2, 0xa);
        story.flags(Guarantee::C4, "member 1 fell from revision 3 to 2");
    }
}
