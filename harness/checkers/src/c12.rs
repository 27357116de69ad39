//! C12: a write whose precondition fails never applies.
//!
//! A precondition is judged where the log has the transaction, not where somebody first looked at it.

use crate::History;
use crate::findings::Findings;
use crate::transactions::Branch;
use record::{Guarantee, Verdict};

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C12);
    for txn in h.transactions.all.iter().filter(|txn| !txn.compares.is_empty()) {
        let op = txn.op;
        let name = || format!("operation {} of client {}", op.id, op.client);
        let answer = txn.answer();
        if answer.is_some_and(|(_, branch)| branch == Branch::Failure) || !txn.landed.is_empty() {
            findings.tested(1);
        }
        for landing in &txn.landed {
            if let Some((told, branch)) = answer
                && branch != landing.branch
            {
                let what = match branch {
                    Branch::Failure => "failed",
                    Branch::Success => "succeeded",
                };
                findings.violated(
                    op.completed_ns,
                    format!(
                        "{} {what} at revision {told}, but revision {} has what it then must not write",
                        name(),
                        landing.revision
                    ),
                );
            }
            if txn.branch_at(&h.log, landing.revision - 1) != landing.branch {
                let what = match landing.branch {
                    Branch::Success => "although its precondition does not hold",
                    Branch::Failure => "as if its precondition failed, but it holds",
                };
                findings.violated(
                    op.completed_ns.min(h.record.ended_ns),
                    format!(
                        "{} made revision {} {what} at revision {}",
                        name(),
                        landing.revision,
                        landing.revision - 1
                    ),
                );
            }
        }
    }
    findings.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, changed_at, put};
    use record::{Outcome, Reply, Request};

    /// A transaction whose precondition holds, and two for which it fails, one of them with something else to do.
    fn good() -> Story {
        let mut story = Story::new();
        story.put("a", "a1");
        story.txn(&[changed_at("a", 2)], &[put("a", "a2")], &[]);
        story.txn(&[changed_at("a", 2)], &[put("a", "never")], &[]);
        story.txn(&[changed_at("a", 2)], &[put("a", "never")], &[put("b", "else")]);
        story
    }

    fn answered(story: &mut Story, id: usize, told: bool) {
        match &mut story.op(id).outcome {
            Outcome::Ok { reply: Reply::Txn { succeeded }, .. } => *succeeded = told,
            _ => panic!("it was answered"),
        }
    }

    fn expecting(story: &mut Story, id: usize, revision: i64) {
        match &mut story.op(id).request {
            Request::Txn { compares, .. } => *compares = vec![changed_at("a", revision)],
            _ => panic!("it was a transaction"),
        }
    }

    #[test]
    fn preconditions_that_decide_pass() {
        good().passes(Guarantee::C12, 3);
        let mut story = Story::new();
        story.put("a", "a1");
        story.passes(Guarantee::C12, 0);
    }

    #[test]
    fn a_transaction_said_to_have_failed_that_applied_is_flagged() {
        let mut story = good();
        answered(&mut story, 1, false);
        story.flags(
            Guarantee::C12,
            "operation 1 of client 1 failed at revision 3, but revision 3 has what it then must not write",
        );
    }

    #[test]
    fn the_branch_not_taken_must_not_be_in_the_log() {
        let mut story = good();
        answered(&mut story, 3, true);
        story.flags(
            Guarantee::C12,
            "operation 3 of client 1 succeeded at revision 4, but revision 4 has what it then must not write",
        );
    }

    #[test]
    fn a_precondition_that_held_only_when_it_was_asked_is_flagged() {
        // Looked at before revision 3 was in the log, applied after it.
        let mut story = good();
        let late = story.txn(&[], &[put("a", "late")], &[]);
        expecting(&mut story, late, 2);
        story.flags(
            Guarantee::C12,
            "operation 4 of client 1 made revision 5 although its precondition does not hold at revision 4",
        );
        story.unanswered(late);
        story.flags(
            Guarantee::C12,
            "operation 4 of client 1 made revision 5 although its precondition does not hold at revision 4",
        );
    }

    #[test]
    fn the_other_branch_must_not_run_while_the_precondition_holds() {
        let mut story = good();
        expecting(&mut story, 3, 3);
        story.flags(
            Guarantee::C12,
            "operation 3 of client 1 made revision 4 as if its precondition failed, but it holds at revision 3",
        );
    }

    #[test]
    fn a_transaction_that_never_happened_is_nothing_tested() {
        let mut story = good();
        story.unanswered(2);
        story.passes(Guarantee::C12, 2);
    }
}
