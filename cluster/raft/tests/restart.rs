//! What a member makes of the disk it finds.

use bytes::Bytes;
use raft::{Body, Config, Entry, HardState, Message, NONE, Raft, Restored, SnapshotMeta};

fn entries(terms: &[(u64, u64)]) -> Vec<Entry> {
    let entry = |&(index, term)| Entry { term, index, data: Bytes::from_static(b"x") };
    terms.iter().map(entry).collect()
}

fn snapshot(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta { index, term, voters: vec![1, 2, 3] }
}

fn config() -> Config {
    Config::new(1, vec![1, 2, 3])
}

#[test]
fn a_log_goes_on_where_it_ended_and_what_was_applied_is_not_delivered_again() {
    let hard_state = HardState { term: 4, vote: 2, commit: 6 };
    let log = entries(&[(3, 1), (4, 1), (5, 2), (6, 4), (7, 4)]);
    let mut restored = Restored { hard_state, snapshot: snapshot(4, 1), entries: log, applied: 5 };
    assert!(!restored.drop_superseded_log());
    let mut raft = Raft::new(config(), restored);
    let status = raft.status();
    assert_eq!((status.term, status.vote, status.commit), (4, 2, 6));
    assert_eq!((status.first_index, status.last_index), (4, 7), "entries before the snapshot spare laggards one");
    let ready = raft.ready().expect("there is something to apply");
    assert_eq!(ready.committed, entries(&[(6, 4)]));
    assert!(!ready.must_persist && ready.entries.is_empty() && ready.hard_state.is_none());
    assert_eq!(raft.ready(), None);
}

#[test]
fn a_log_that_ends_before_the_snapshot_or_contradicts_it_is_superseded() {
    for log in [&[(1, 1), (2, 1)][..], &[(1, 1), (2, 1), (3, 1), (4, 1)][..], &[(2, 2), (3, 4)][..]] {
        let hard_state = HardState { term: 4, vote: NONE, commit: 1 };
        let mut restored = Restored { hard_state, snapshot: snapshot(3, 2), entries: entries(log), applied: 3 };
        assert!(restored.drop_superseded_log(), "{log:?}");
        let raft = Raft::new(config(), restored);
        assert_eq!((raft.commit(), raft.last_index(), raft.entry_term(3)), (3, 3, Some(2)));
    }
}

#[test]
fn a_snapshot_of_a_newer_term_raises_the_term_and_frees_the_vote() {
    let hard_state = HardState { term: 2, vote: 3, commit: 1 };
    let restored = Restored { hard_state, snapshot: snapshot(3, 5), entries: Vec::new(), applied: 3 };
    let mut raft = Raft::new(config(), restored);
    let ready = raft.ready().expect("the new term has to become durable");
    assert_eq!(ready.hard_state, Some(HardState { term: 5, vote: NONE, commit: 3 }));
    assert!(ready.must_persist);
}

#[test]
#[should_panic(expected = "lost committed entries up to 3")]
fn a_log_without_what_was_committed_is_refused() {
    let hard_state = HardState { term: 1, vote: 1, commit: 3 };
    let restored = Restored { hard_state, entries: entries(&[(1, 1), (2, 1)]), ..Restored::default() };
    Raft::new(config(), restored);
}

#[test]
fn messages_of_strangers_and_for_others_are_ignored() {
    let mut raft = Raft::new(config(), Restored::default());
    let body = Body::Heartbeat { commit: 0, round: 0 };
    for (from, to) in [(4, 1), (2, 3), (1, 1), (NONE, 1)] {
        raft.step(Message { from, to, term: 9, body: body.clone() });
    }
    assert_eq!(raft.ready(), None);
    raft.step(Message { from: 2, to: 1, term: 9, body });
    assert!(raft.ready().is_some(), "one of a voter is not");
}
