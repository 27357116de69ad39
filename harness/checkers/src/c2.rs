//! C2: an acknowledged write is in every later consistent read unless overwritten.
//!
//! Checked at both ends: what clients were told and read back, and how leaders came to count a write as committed. A
//! leader that counts replicas of an older term's entry loses acknowledged writes only when a third failure comes at the
//! right moment; that it counted so shows at once (Raft, section 5.4.2).

use crate::History;
use crate::findings::Findings;
use crate::transactions::{Fate, Maker};
use record::{Guarantee, KeyValue, Observation, Operation, Outcome, Reply, Request, Verdict};

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C2);
    acknowledged_writes_are_in_the_log(h, &mut findings);
    reads_have_what_was_acknowledged(h, &mut findings);
    leaders_commit_what_lasts(h, &mut findings);
    findings.verdict()
}

fn acknowledged_writes_are_in_the_log(h: &History<'_>, findings: &mut Findings) {
    for txn in &h.transactions.all {
        let Some((revision, _)) = txn.answer() else {
            continue;
        };
        match txn.fate(&h.log) {
            Some(Fate::Made | Fate::Elsewhere) => findings.tested(1),
            Some(Fate::Nothing) | None => {}
            Some(fate @ (Fate::Lost | Fate::Torn)) => {
                findings.tested(1);
                let part = if fate == Fate::Lost { "its write" } else { "a part of its write" };
                findings.violated(
                    txn.op.completed_ns,
                    format!(
                        "operation {} of client {} was acknowledged at revision {revision}, but {part} is lost",
                        txn.op.id, txn.op.client
                    ),
                );
            }
        }
    }
}

/// An acknowledged write of a key: the operation and its revision.
type Acknowledged<'a> = Option<(i64, &'a Operation)>;

/// Each read against the newest write of each key that was acknowledged before it was asked.
fn reads_have_what_was_acknowledged(h: &History<'_>, findings: &mut Findings) {
    let mut reads: Vec<&Operation> =
        h.record.operations.iter().filter(|op| matches!(op.request, Request::Read { revision: 0, .. })).collect();
    reads.sort_by_key(|op| op.invoked_ns);
    let mut acknowledged: Vec<(usize, i64, &Operation)> = Vec::with_capacity(h.log.entries.len());
    for (slot, maker) in h.transactions.makers.iter().enumerate() {
        if let Maker::Txn(position) = maker
            && let op = h.transactions.all[*position].op
            && matches!(op.outcome, Outcome::Ok { .. })
        {
            acknowledged.push((slot, h.log.entries[slot].revision, op));
        }
    }
    acknowledged.sort_by_key(|(_, _, op)| op.completed_ns);

    let mut newest: Vec<Acknowledged<'_>> = vec![None; h.log.key_count()];
    let mut acknowledged = acknowledged.into_iter().peekable();
    for read in reads {
        while let Some((slot, revision, op)) = acknowledged.next_if(|(_, _, op)| op.completed_ns < read.invoked_ns) {
            for event in h.log.entries[slot].events {
                if let Some(position) = h.log.position(crate::log::key_of(event))
                    && newest[position].is_none_or(|(newest, _)| newest < revision)
                {
                    newest[position] = Some((revision, op));
                }
            }
        }
        read_has(h, read, &newest, findings);
    }
}

fn read_has(h: &History<'_>, read: &Operation, newest: &[Acknowledged<'_>], findings: &mut Findings) {
    let (Request::Read { range, .. }, Outcome::Ok { revision, reply: Reply::Read(kvs), .. }) =
        (&read.request, &read.outcome)
    else {
        return;
    };
    let mut kvs = kvs.iter().peekable();
    for (position, key) in h.log.keys_in(range) {
        while kvs.next_if(|kv| kv.key.as_str() < key).is_some() {}
        let got = kvs.next_if(|kv| kv.key == key);
        let Some((needed, write)) = newest[position] else {
            continue;
        };
        findings.tested(1);
        if !is_no_older(h, key, got, *revision, needed) {
            let got = got.map_or("nothing".to_owned(), |kv| format!("{} of revision {}", kv.value, kv.mod_revision));
            findings.violated(
                read.completed_ns,
                format!(
                    "operation {} of client {} read {got} under {key}, but operation {} had been acknowledged to write it at revision {needed}",
                    read.id, read.client, write.id
                ),
            );
        }
    }
}

/// Whether what a read told at `revision` got for `key` is the write at `needed`, or has come after it.
fn is_no_older(h: &History<'_>, key: &str, got: Option<&KeyValue>, revision: i64, needed: i64) -> bool {
    match got {
        Some(kv) => kv.mod_revision >= needed,
        None => h.log.version_at(key, revision).is_some_and(|v| v.kv.is_none() && v.revision >= needed),
    }
}

/// Leaders count replicas only of entries of their own term, and never commit two entries at the same index.
fn leaders_commit_what_lasts(h: &History<'_>, findings: &mut Findings) {
    let mut committed = Vec::new();
    for observation in &h.record.observations {
        if let Observation::Commits { at_ns, member, term, index, entry_term } = observation {
            findings.tested(1);
            if entry_term != term {
                findings.violated(
                    *at_ns,
                    format!("member {member}, leading in term {term}, committed index {index} of term {entry_term} by counting replicas"),
                );
            }
            committed.push((*index, *at_ns, *member, *entry_term));
        }
    }
    committed.sort_unstable();
    for pair in committed.windows(2) {
        let ((index, _, member, entry_term), (next_index, at_ns, next_member, next_term)) = (pair[0], pair[1]);
        // Terms never fall along a log, so a committed entry followed by one of an older term is not in the same log.
        let conflict = if index == next_index { entry_term != next_term } else { entry_term > next_term };
        if conflict {
            findings.violated(
                at_ns,
                format!(
                    "member {member} committed index {index} of term {entry_term}, but member {next_member} index {next_index} of term {next_term}"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, put};
    use record::{KeyRange, WatchEvent};

    /// Two writes, an overwrite and a deletion, read back; two leaders that commit.
    fn good() -> Story {
        let mut story = Story::new();
        story.put("a", "a1");
        story.put("b", "b1");
        story.put("a", "a2");
        story.delete("b");
        story.read_range(KeyRange { from: "a".into(), until: Some("z".into()) }, 0);
        story.commits(0, 1, 1, 1, 1);
        story.commits(0, 2, 1, 4, 1);
        story.commits(2, 3, 3, 6, 3);
        story
    }

    fn read_back(story: &mut Story, id: usize) -> (&mut i64, &mut Vec<KeyValue>) {
        match &mut story.op(id).outcome {
            Outcome::Ok { revision, reply: Reply::Read(kvs), .. } => (revision, kvs),
            _ => panic!("it was a read"),
        }
    }

    #[test]
    fn what_was_acknowledged_and_read_back_passes() {
        // Four writes, two keys read back, three commits.
        good().passes(Guarantee::C2, 9);
        Story::new().passes(Guarantee::C2, 0);
    }

    #[test]
    fn an_acknowledged_write_that_is_not_in_the_log_is_flagged() {
        let mut story = good();
        story.put("c", "c1");
        story.unsee(6);
        story.flags(Guarantee::C2, "operation 5 of client 1 was acknowledged at revision 6, but its write is lost");
    }

    #[test]
    fn an_acknowledged_write_of_which_a_part_is_missing_is_flagged() {
        let mut story = good();
        story.txn(&[], &[put("c", "c1"), put("d", "d1")], &[]);
        story.events(6).pop();
        story.flags(
            Guarantee::C2,
            "operation 5 of client 1 was acknowledged at revision 6, but a part of its write is lost",
        );
    }

    #[test]
    fn an_acknowledged_write_whose_revision_became_another_write_is_flagged() {
        let mut story = good();
        let other = story.events(3).clone();
        *story.events(2) = other;
        story.flags(Guarantee::C2, "operation 0 of client 1 was acknowledged at revision 2, but its write is lost");
    }

    #[test]
    fn a_read_of_what_was_overwritten_before_it_was_asked_is_flagged() {
        let mut story = good();
        let old = match &story.events(2)[0] {
            WatchEvent::Put(kv) => kv.clone(),
            WatchEvent::Delete { .. } => panic!("it was a put"),
        };
        read_back(&mut story, 4).1[0] = old;
        story.flags(
            Guarantee::C2,
            "read a1 of revision 2 under a, but operation 2 had been acknowledged to write it at revision 4",
        );
        // Under way at the same time, it may be right.
        story.op(4).invoked_ns = 0;
        story.passes(Guarantee::C2, 7);
    }

    #[test]
    fn a_read_that_lacks_an_acknowledged_write_is_flagged_but_not_one_that_saw_it_deleted() {
        let mut story = good();
        story.put("b", "b2");
        let read = story.read("b");
        read_back(&mut story, read).1.clear();
        story.flags(
            Guarantee::C2,
            "read nothing under b, but operation 5 had been acknowledged to write it at revision 6",
        );
        story.delete("b");
        *read_back(&mut story, read).0 = 7;
        story.passes(Guarantee::C2, 12);
    }

    #[test]
    fn a_commit_of_an_older_terms_entry_by_counting_is_flagged() {
        let mut story = good();
        story.commits(1, 9, 5, 8, 3);
        story.flags(Guarantee::C2, "member 1, leading in term 5, committed index 8 of term 3 by counting replicas");
    }

    #[test]
    fn two_entries_committed_at_one_index_are_flagged() {
        let mut story = good();
        story.commits(1, 9, 5, 4, 5);
        story.flags(Guarantee::C2, "member 0 committed index 4 of term 1, but member 1 index 4 of term 5");
    }

    #[test]
    fn a_commit_below_an_older_terms_is_flagged() {
        let mut story = good();
        story.commits(1, 9, 5, 3, 5);
        story.flags(Guarantee::C2, "member 1 committed index 3 of term 5, but member 0 index 4 of term 1");
    }
}
