//! C1: writes and consistent reads are strictly serializable.
//!
//! The revisions are a serial order that the store itself claims, so nothing needs to be searched: every operation has
//! its place, and it is enough that each is right there and that real time agrees. That is stronger than strict
//! serializability alone: a history that some other order would explain still contradicts the revisions it was given.
//! Windows of the history are looked at once more without them (second_opinion.rs).
//!
//! Every client that writes must be in the record, or its revisions are nobody's.

use crate::History;
use crate::findings::Findings;
use crate::log::{FIRST_REVISION, revision_of};
use crate::order::{Point, fallen};
use crate::second_opinion;
use crate::transactions::{Branch, Fate, Maker, Txn};
use record::{Guarantee, KeyRange, KeyValue, Operation, Outcome, Refusal, Reply, Request, Verdict, WatchEvent};

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C1);
    by_revisions(h, &mut findings);
    second_opinion::check(h, &mut findings);
    findings.verdict()
}

/// Whether everything is right where the revisions put it.
pub(crate) fn by_revisions(h: &History<'_>, findings: &mut Findings) {
    events_follow_from_the_state(h, findings);
    revisions_have_makers(h, findings);
    for op in &h.record.operations {
        answer_is_right(h, op, findings);
    }
    for txn in &h.transactions.all {
        transaction_is_right(h, txn, findings);
    }
    real_time(h, findings);
}

/// The log by itself: each event has its revision, and counts on from the version before it.
fn events_follow_from_the_state(h: &History<'_>, findings: &mut Findings) {
    for entry in &h.log.entries {
        let revision = entry.revision;
        for event in entry.events {
            let key = crate::log::key_of(event);
            let before = h.log.at(key, revision - 1);
            let (create_revision, version) = before.map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
            let right = revision_of(event) == revision
                && match event {
                    WatchEvent::Put(kv) => kv.create_revision == create_revision && kv.version == version,
                    WatchEvent::Delete { .. } => before.is_some(),
                };
            if !right {
                findings.violated(
                    entry.at_ns,
                    format!(
                        "revision {revision} has the event {}, but before it was {}",
                        shown_event(event),
                        shown(before)
                    ),
                );
            }
        }
    }
}

/// Each revision is exactly what one transaction asked for, not earlier than it asked, or the end of a lease.
fn revisions_have_makers(h: &History<'_>, findings: &mut Findings) {
    for (entry, maker) in h.log.entries.iter().zip(&h.transactions.makers) {
        let revision = entry.revision;
        match *maker {
            Maker::LeaseEnd(_) => {}
            // What the orchestrator keeps in the store is judged by what is promised of an orchestrator.
            Maker::Nobody if h.record.config.cluster.is_some() && entry.is_the_orchestrators() => {}
            Maker::Nobody => findings.violated(
                entry.at_ns,
                format!("revision {revision} changes {}, which nobody asked for", shown_events(entry.events)),
            ),
            Maker::Txn(position) => {
                let op = h.transactions.all[position].op;
                if op.invoked_ns > entry.at_ns {
                    findings.violated(
                        entry.at_ns,
                        format!(
                            "revision {revision} was seen before operation {} of client {} asked for it",
                            op.id, op.client
                        ),
                    );
                }
            }
        }
    }
}

/// What does not depend on the log's makers: reads, revocations, refusals.
fn answer_is_right(h: &History<'_>, op: &Operation, findings: &mut Findings) {
    match (&op.request, &op.outcome) {
        (Request::Read { range, revision }, Outcome::Ok { revision: told, reply: Reply::Read(kvs), .. }) => {
            findings.tested(1);
            let of = if *revision == 0 { *told } else { *revision };
            if of < FIRST_REVISION || of > h.log.last() || *told < of {
                findings.violated(
                    op.completed_ns,
                    format!(
                        "operation {} of client {} read revision {of} (told {told}), but the log ends at {}",
                        op.id,
                        op.client,
                        h.log.last()
                    ),
                );
            } else if let Some(difference) = differs(h, range, of, kvs) {
                findings.violated(
                    op.completed_ns,
                    format!("operation {} of client {} read at revision {of} {difference}", op.id, op.client),
                );
            }
        }
        (Request::Read { revision, .. }, Outcome::Refused { why: Refusal::Compacted(first) }) => {
            if *revision == 0 || revision >= first || !h.compacted_by(*first, op.completed_ns) {
                findings.violated(
                    op.completed_ns,
                    format!(
                        "operation {} of client {} was refused revision {revision} as compacted up to {first}, which is not so",
                        op.id, op.client
                    ),
                );
            }
        }
        (Request::LeaseRevoke { lease }, Outcome::Ok { revision, .. }) if *revision > 0 => {
            findings.tested(1);
            if let Some(key) = h.log.bound_to(*lease, *revision).next() {
                findings.violated(
                    op.completed_ns,
                    format!("operation {} of client {} revoked lease {lease} at revision {revision}, but {key} is still bound to it", op.id, op.client),
                );
            }
        }
        (
            Request::Read { .. }
            | Request::Txn { .. }
            | Request::LeaseGrant { .. }
            | Request::LeaseKeepAlive { .. }
            | Request::LeaseRevoke { .. }
            | Request::Compact { .. },
            Outcome::Ok { .. } | Outcome::Refused { .. } | Outcome::Unknown { .. },
        ) => {}
    }
}

/// A transaction's answer and its changes agree with the log.
fn transaction_is_right(h: &History<'_>, txn: &Txn<'_>, findings: &mut Findings) {
    let (op, log) = (txn.op, &h.log);
    let at_ns = op.completed_ns;
    let name = format!("operation {} of client {}", op.id, op.client);
    if let ([landing], false) = (txn.landed.as_slice(), matches!(op.outcome, Outcome::Ok { .. })) {
        findings.tested(1);
        if matches!(op.outcome, Outcome::Refused { .. }) {
            findings.violated(at_ns, format!("{name} was refused, but made revision {}", landing.revision));
        } else if !landing.whole {
            findings.violated(
                at_ns,
                format!("{name} made revision {}, but not all of its changes and no others", landing.revision),
            );
        }
    } else if txn.landed.len() > 1 {
        let revisions: Vec<i64> = txn.landed.iter().map(|l| l.revision).collect();
        findings.violated(at_ns, format!("{name} is in the log more than once, at revisions {revisions:?}"));
    }

    let (Some((revision, branch)), Some(fate)) = (txn.answer(), txn.fate(log)) else {
        return;
    };
    findings.tested(1);
    let before = match fate {
        Fate::Made => revision - 1,
        Fate::Nothing => revision,
        Fate::Torn => {
            findings.violated(
                at_ns,
                format!("{name} was acknowledged at revision {revision}, which has not just its changes"),
            );
            return;
        }
        Fate::Lost => {
            findings.violated(
                at_ns,
                format!("{name} was acknowledged at revision {revision}, which does not have its changes"),
            );
            return;
        }
        Fate::Elsewhere => {
            findings.violated(
                at_ns,
                format!(
                    "{name} was acknowledged at revision {revision}, but the log has it at {}",
                    txn.landed[0].revision
                ),
            );
            return;
        }
    };
    if before < 0 || before > log.last() {
        findings.violated(at_ns, format!("{name} was told of revision {revision}, but the log ends at {}", log.last()));
    } else if txn.branch_at(log, before) != branch {
        let told = if branch == Branch::Success { "succeeded" } else { "failed" };
        findings.violated(
            at_ns,
            format!("{name} {told} at revision {revision}, but on the state of {before} its compares say otherwise"),
        );
    }
}

/// Nobody falls behind what was answered, or seen applied, before it asked.
fn real_time(h: &History<'_>, findings: &mut Findings) {
    let reads = h.record.operations.iter().filter_map(|op| match (&op.request, &op.outcome) {
        (Request::Read { revision: 0, .. }, Outcome::Ok { revision, .. }) => {
            Some(Point { op, revision: *revision, answered: true, makes: false })
        }
        _ => None,
    });
    let transactions = h.transactions.all.iter().filter_map(|txn| match (txn.answer(), txn.landed.first()) {
        (Some((revision, _)), landed) => {
            Some(Point { op: txn.op, revision, answered: true, makes: landed.is_some_and(|l| l.revision == revision) })
        }
        (None, Some(landing)) => Some(Point { op: txn.op, revision: landing.revision, answered: false, makes: true }),
        (None, None) => None,
    });
    let mut points: Vec<Point<'_>> = reads.chain(transactions).collect();
    let seen = h.log.entries.iter().map(|entry| (entry.at_ns, entry.revision));
    for fallen in fallen(&mut points, seen) {
        findings.violated(fallen.point.op.completed_ns, fallen.text());
    }
}

/// How what was read differs from the state at `revision`, if it does.
fn differs(h: &History<'_>, range: &KeyRange, revision: i64, read: &[KeyValue]) -> Option<String> {
    let mut read = read.iter();
    for expected in h.log.range_at(range, revision) {
        let got = read.next();
        if got != Some(expected) {
            return Some(format!("{} where the state has {}", shown(got), shown(Some(expected))));
        }
    }
    read.next().map(|surplus| format!("{} where the state has nothing more", shown(Some(surplus))))
}

fn shown(kv: Option<&KeyValue>) -> String {
    match kv {
        None => "nothing".to_owned(),
        Some(kv) => format!(
            "{}={} (created {}, changed {}, version {}, lease {})",
            kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease
        ),
    }
}

fn shown_event(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Put(kv) => shown(Some(kv)),
        WatchEvent::Delete { key, mod_revision } => format!("deletion of {key} at {mod_revision}"),
    }
}

fn shown_events(events: &[WatchEvent]) -> String {
    let shown: Vec<String> = events.iter().map(shown_event).collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, changed_at, delete, put};
    use record::Compare;

    /// Writes, overwrites, transactions both ways, deletes, and reads of now and then.
    fn good() -> Story {
        let mut story = Story::new();
        story.read("a");
        story.put("a", "a1");
        story.put("b", "b1");
        story.txn(&[changed_at("a", 2)], &[put("a", "a2"), delete("b"), delete("c")], &[]);
        story.txn(&[changed_at("a", 2)], &[put("a", "never")], &[put("c", "else")]);
        story.txn(&[changed_at("a", 2)], &[put("a", "never either")], &[]);
        story.delete("nothing");
        story.read_range(KeyRange { from: "a".into(), until: Some("z".into()) }, 0);
        story.read_range(KeyRange { from: "a".into(), until: Some("z".into()) }, 3);
        story
    }

    fn answer(op: &mut Operation) -> (&mut i64, &mut Reply) {
        match &mut op.outcome {
            Outcome::Ok { revision, reply, .. } => (revision, reply),
            Outcome::Refused { .. } | Outcome::Unknown { .. } => panic!("it was answered"),
        }
    }

    fn kvs(op: &mut Operation) -> &mut Vec<KeyValue> {
        match answer(op).1 {
            Reply::Read(kvs) => kvs,
            _ => panic!("it was a read"),
        }
    }

    #[test]
    fn what_one_store_would_have_done_passes() {
        good().passes(Guarantee::C1, 9);
    }

    #[test]
    fn nothing_asked_is_nothing_tested() {
        Story::new().passes(Guarantee::C1, 0);
    }

    #[test]
    fn a_read_of_an_overwritten_value_is_flagged() {
        let mut story = good();
        let read = story.read("a");
        kvs(story.op(read))[0].value = "a1".into();
        story.flags(Guarantee::C1, "operation 9 of client 1 read at revision 5 a=a1");
    }

    #[test]
    fn a_read_that_lacks_a_key_or_invents_one_is_flagged() {
        let mut story = good();
        let read = story.read("a");
        kvs(story.op(read)).clear();
        story.flags(Guarantee::C1, "nothing where the state has a=a2");
        let mut story = good();
        let read = story.read("b");
        let ghost =
            KeyValue { key: "b".into(), value: "b1".into(), create_revision: 3, mod_revision: 3, version: 1, lease: 0 };
        kvs(story.op(read)).push(ghost);
        story.flags(Guarantee::C1, "b=b1 (created 3, changed 3, version 1, lease 0) where the state has nothing more");
    }

    #[test]
    fn a_read_of_the_past_must_be_of_that_past() {
        let mut story = good();
        let read = story.read_range(KeyRange::key("a"), 3);
        kvs(story.op(read))[0].value = "a2".into();
        story.flags(Guarantee::C1, "read at revision 3 a=a2");
    }

    #[test]
    fn a_consistent_read_of_an_old_state_is_flagged_though_that_state_was_once_right() {
        let mut story = good();
        let read = story.read("a");
        *answer(story.op(read)).0 = 2;
        *kvs(story.op(read)) = vec![KeyValue {
            key: "a".into(),
            value: "a1".into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: 0,
        }];
        story.flags(Guarantee::C1, "operation 9 of client 1 was told of revision 2, but was asked after");
        // Had it been asked before anything else was answered, the same answer would be right.
        let begin = story.record.operations[0].invoked_ns;
        story.op(read).invoked_ns = begin;
        story.passes(Guarantee::C1, 10);
    }

    #[test]
    fn a_read_that_misses_what_the_harness_has_seen_applied_is_flagged_though_nobody_was_told() {
        let mut story = Story::new();
        let write = story.put("a", "a1");
        let read = story.read("a");
        story.unanswered(write);
        story.passes(Guarantee::C1, 2);
        *answer(story.op(read)).0 = 1;
        kvs(story.op(read)).clear();
        story.flags(Guarantee::C1, "was told of revision 1, but was asked after the harness had seen revision 2");
    }

    #[test]
    fn an_acknowledged_write_must_be_at_its_revision() {
        let mut story = good();
        *answer(story.op(1)).0 = 3;
        story.flags(Guarantee::C1, "operation 1 of client 1 was acknowledged at revision 3, but the log has it at 2");
        let mut story = good();
        let lost = story.put("a", "a3");
        story.unsee(6);
        story.flags(
            Guarantee::C1,
            &format!("operation {lost} of client 1 was acknowledged at revision 6, which does not have"),
        );
    }

    #[test]
    fn an_acknowledged_delete_must_have_deleted() {
        let mut story = good();
        story.delete("c");
        story.unsee(6);
        story.flags(Guarantee::C1, "was acknowledged at revision 6, which does not have its changes");
    }

    #[test]
    fn half_a_transaction_is_flagged() {
        let mut story = good();
        story.events(4).pop();
        story.flags(Guarantee::C1, "was acknowledged at revision 4");
        let mut story = good();
        story.unanswered(3);
        story.events(4).pop();
        story.flags(Guarantee::C1, "operation 3 of client 1 made revision 4, but not all of its changes");
    }

    #[test]
    fn a_write_without_an_answer_may_be_there_or_not_but_not_twice() {
        let mut story = Story::new();
        let write = story.put("a", "a1");
        story.unanswered(write);
        story.passes(Guarantee::C1, 1);
        let again = story.put("b", "b1");
        story.events(3).clear();
        let first = story.events(2).clone();
        story.events(3).extend(first);
        story.unanswered(again);
        story.flags(Guarantee::C1, "operation 0 of client 1 is in the log more than once, at revisions [2, 3]");
        story.unsee(2);
        story.unsee(3);
        story.passes(Guarantee::C1, 0);
    }

    #[test]
    fn a_delete_without_an_answer_explains_a_deletion_once() {
        let mut story = Story::new();
        story.put("a", "a1");
        let delete = story.delete("a");
        story.unanswered(delete);
        story.passes(Guarantee::C1, 2);
        story.op(delete).outcome = Outcome::Refused { why: Refusal::Unavailable("no leader".into()) };
        story.flags(Guarantee::C1, "revision 3 changes deletion of a at 3, which nobody asked for");
    }

    #[test]
    fn two_deletes_at_one_revision_are_one_that_did_it_and_one_that_had_nothing_to_do() {
        let mut story = Story::new();
        story.put("a", "a1");
        story.delete("a");
        story.delete("a");
        story.passes(Guarantee::C1, 3);
    }

    #[test]
    fn the_delete_that_cannot_have_found_it_done_is_the_one_that_did_it() {
        // Both are told revision 3. The first was asked earlier; the second says that it found the key at revision 2.
        let mut story = Story::new();
        story.put("a", "a1");
        let plain = story.delete("nothing");
        let made = story.txn(&[changed_at("a", 2)], &[delete("a")], &[]);
        match &mut story.op(plain).request {
            Request::Txn { success, .. } => *success = vec![delete("a")],
            _ => panic!("it was a transaction"),
        }
        *answer(story.op(plain)).0 = 3;
        story.op(plain).completed_ns = story.record.operations[made].completed_ns;
        story.passes(Guarantee::C1, 3);
    }

    #[test]
    fn unanswered_deletes_explain_as_much_as_they_can_together() {
        // The first delete of a was the second asked for: only that one requires what the first one found.
        let mut story = Story::new();
        story.put("a", "a1");
        let second = story.delete("nothing");
        let first = story.txn(&[changed_at("a", 2)], &[delete("a")], &[]);
        story.put("a", "a2");
        let again = story.delete("a");
        story.record.operations.remove(again);
        match &mut story.op(second).request {
            Request::Txn { success, .. } => *success = vec![delete("a")],
            _ => panic!("it was a transaction"),
        }
        story.unanswered(second);
        story.unanswered(first);
        story.passes(Guarantee::C1, 4);
        story.record.operations.remove(second);
        story.flags(Guarantee::C1, "revision 5 changes deletion of a at 5, which nobody asked for");
    }

    #[test]
    fn a_refused_write_must_not_be_in_the_log() {
        let mut story = good();
        story.op(2).outcome = Outcome::Refused { why: Refusal::Unavailable("no leader".into()) };
        story.flags(Guarantee::C1, "operation 2 of client 1 was refused, but made revision 3");
    }

    #[test]
    fn a_revision_that_nobody_asked_for_is_flagged() {
        let mut story = good();
        story.record.operations.remove(2);
        story.flags(Guarantee::C1, "revision 3 changes b=b1");
        let mut story = good();
        story.applied(6, vec![]);
        story.flags(Guarantee::C1, "revision 6 changes nothing, which nobody asked for");
    }

    #[test]
    fn a_revision_seen_before_it_was_asked_for_is_flagged() {
        let mut story = good();
        let late = story.now();
        let op = story.op(2);
        (op.invoked_ns, op.completed_ns) = (late, late + 1);
        story.flags(Guarantee::C1, "revision 3 was seen before operation 2 of client 1 asked for it");
    }

    #[test]
    fn events_must_count_on_from_the_state_before_them() {
        let tamper = |change: fn(&mut KeyValue)| {
            let mut story = good();
            for event in story.events(4) {
                if let WatchEvent::Put(kv) = event {
                    change(kv);
                }
            }
            story.flags(Guarantee::C1, "revision 4 has the event a=a2");
        };
        tamper(|kv| kv.version = 1);
        tamper(|kv| kv.create_revision = 4);
        tamper(|kv| kv.mod_revision = 3);
    }

    #[test]
    fn a_transaction_must_have_taken_the_branch_that_its_compares_say() {
        let mut story = good();
        let compares = |story: &mut Story, id: usize, new: Vec<Compare>| match &mut story.op(id).request {
            Request::Txn { compares, .. } => *compares = new,
            _ => panic!("it was a transaction"),
        };
        compares(&mut story, 3, vec![changed_at("a", 3)]);
        story.flags(Guarantee::C1, "operation 3 of client 1 succeeded at revision 4, but on the state of 3");
        let mut story = good();
        compares(&mut story, 5, vec![changed_at("a", 4)]);
        story.flags(Guarantee::C1, "operation 5 of client 1 failed at revision 5, but on the state of 5");
    }

    #[test]
    fn the_end_of_a_lease_explains_the_deletion_of_all_its_keys_and_of_no_others() {
        let mut story = Story::new();
        story.grant(7, 5);
        story.put_bound("a", "a1", 7);
        story.put_bound("b", "b1", 7);
        story.put("c", "c1");
        story.gone(7);
        story.read_range(KeyRange { from: "a".into(), until: Some("z".into()) }, 0);
        story.wait(crate::story::seconds(5));
        story.passes(Guarantee::C1, 4);
        story.events(5).pop();
        story.flags(Guarantee::C1, "revision 5 changes deletion of a at 5, which nobody asked for");
    }

    #[test]
    fn a_revoked_lease_must_have_lost_its_keys() {
        let mut story = Story::new();
        story.grant(7, 5);
        story.put_bound("a", "a1", 7);
        let revoke = story.revoke(7);
        story.passes(Guarantee::C1, 2);
        *answer(story.op(revoke)).0 = 2;
        story.flags(Guarantee::C1, "revoked lease 7 at revision 2, but a is still bound to it");
    }

    #[test]
    fn only_what_was_compacted_may_be_refused_as_compacted() {
        let mut story = good();
        story.compact(4);
        let refused = Outcome::Refused { why: Refusal::Compacted(4) };
        let range = KeyRange::key("a");
        story.asks(Request::Read { range: range.clone(), revision: 3 }, refused.clone());
        story.passes(Guarantee::C1, 9);
        story.asks(Request::Read { range: range.clone(), revision: 4 }, refused);
        story.flags(Guarantee::C1, "operation 11 of client 1 was refused revision 4 as compacted up to 4");
        let mut story = good();
        story.asks(Request::Read { range, revision: 3 }, Outcome::Refused { why: Refusal::Compacted(4) });
        story.flags(Guarantee::C1, "operation 9 of client 1 was refused revision 3 as compacted up to 4");
    }
}
