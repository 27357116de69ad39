//! The replicated state: determinism, snapshots, and the fence around what leaders decide.

use super::*;
use crate::command::Checkpoint;
use crate::format::Format;
use crate::script::Script;
use expect_test::expect;
use proptest::prelude::*;

/// Any command, over few keys and leases, so that they meet.
fn command() -> impl Strategy<Value = String> {
    let key = (0..5_usize).prop_map(|key| ["a", "b", "c", "d", "e"][key]);
    let span = (0..4_usize).prop_map(|span| ["a..c", "b..e", "c..", "e"][span]);
    let lease = 1..4_i64;
    prop_oneof![
        6 => (key.clone(), 0..100, 0..4_i64).prop_map(|(key, value, lease)| format!("put {key}={value} lease {lease}")),
        2 => span.clone().prop_map(|span| format!("del {span}")),
        2 => (key.clone(), 0..20, key, 0..100, span)
            .prop_map(|(of, at, key, value, span)| format!("if mod({of})<{at} then put {key}={value}; get {span} else del {span}")),
        3 => (lease.clone(), 1..20).prop_map(|(lease, ttl)| format!("grant {lease} {ttl}")),
        1 => lease.clone().prop_map(|lease| format!("revoke {lease}")),
        1 => (lease.clone(), 1..4).prop_map(|(lease, term)| format!("expire {lease} by {term}")),
        1 => (lease.clone(), 0..5000, 1..4).prop_map(|(lease, ms, term)| format!("note {lease} {ms} by {term}")),
        1 => lease.prop_map(|lease| format!("clear {lease}")),
        1 => (0..20).prop_map(|revision| format!("compact {revision}")),
        1 => (1..4).prop_map(|term| format!("term {term}")),
        1 => (1..4, 1..3).prop_map(|(member, format)| format!("reads {member} {format}")),
    ]
}

proptest! {
    #[test]
    fn restored_member_goes_on_as_if_it_had_applied_everything(
        first in prop::collection::vec(command(), 0..40),
        then in prop::collection::vec(command(), 0..40),
    ) {
        let mut applied = Script::new();
        first.iter().for_each(|line| drop(applied.line(line)));
        let pinned = applied.state.pin();
        let bytes = applied.state.encode();
        let mut restored = Script { state: StateMachine::decode([&bytes]).unwrap(), term: applied.term };
        prop_assert_eq!(restored.state.revision(), applied.state.revision());
        prop_assert_eq!(restored.state.tree().bytes(), applied.state.tree().bytes());
        for line in &then {
            let (one, other) = (applied.line(line), restored.line(line));
            prop_assert_eq!(one, other, "{}", line);
        }
        prop_assert_eq!(restored.state.hash(), applied.state.hash());
        prop_assert_eq!(restored.state.encode(), applied.state.encode());
        prop_assert_eq!(restored.state.tree().bytes(), applied.state.tree().bytes());
        // What was pinned before is what it was.
        prop_assert_eq!(pinned.encode(), bytes);
    }

    #[test]
    fn each_lease_holds_exactly_the_keys_that_name_it(lines in prop::collection::vec(command(), 0..80)) {
        let mut script = Script::new();
        for line in &lines {
            script.line(line);
            let all = crate::mvcc::Span::From(Bytes::new());
            let mut named: Vec<_> = script.state.tree().latest(&all)
                .filter(|version| version.kv.lease != 0)
                .map(|version| (version.kv.lease, version.kv.key.clone()))
                .collect();
            named.sort_unstable();
            let held: Vec<_> = script.state.leases().iter()
                .flat_map(|(id, lease)| lease.keys.iter().map(move |key| (id, key.clone())))
                .collect();
            prop_assert_eq!(named, held, "after {}", line);
        }
    }

    #[test]
    fn a_snapshot_cut_anywhere_restores_the_same(lines in prop::collection::vec(command(), 0..30), step in 1..40_usize) {
        let mut script = Script::new();
        lines.iter().for_each(|line| drop(script.line(line)));
        let encoded = script.state.encode();
        prop_assert_eq!(script.state.snapshot_bytes(), encoded.len());
        let restored = StateMachine::decode(encoded.chunks(step)).unwrap();
        prop_assert_eq!(restored.encode(), encoded);
    }
}

#[test]
fn a_large_snapshot_comes_in_chunks() {
    let mut script = Script::new();
    for key in 0..50 {
        script.line(&format!("put {key:02}={}", "v".repeat(10_000)));
    }
    let chunks: Vec<_> = script.state.snapshot().collect();
    assert!(chunks.len() > 5 && chunks.iter().all(|chunk| chunk.len() < 100_000));
    assert_eq!(chunks.concat(), script.state.encode());
}

#[test]
fn damaged_snapshot_is_refused() {
    let mut script = Script::new();
    script.run("grant 7 10\nput a=1 lease 7\nput b=1\ndel b\ncompact 3\nput c=1");
    let good = script.state.encode();
    assert!(StateMachine::decode([&good]).is_ok());
    for length in 0..good.len() {
        assert!(StateMachine::decode([&good[..length]]).is_err(), "cut at {length}");
    }
    let mut noticed = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        noticed += usize::from(StateMachine::decode([&bad]).is_err());
    }
    // The file's checksum is what notices everything; this is for a restorer that goes wrong.
    assert!(noticed * 2 > good.len(), "{noticed} of {}", good.len());
    let mut other = good;
    other[0] = Format::LATEST.number() + 1;
    let why = StateMachine::decode([&other]).unwrap_err().to_string();
    assert_eq!(why, "the snapshot cannot be read: it has format 3, and this member reads up to format 2");
}

#[test]
fn what_is_written_has_the_format_that_all_members_read() {
    let mut script = Script::new();
    script.run("reads 1 2\nreads 2 2");
    assert_eq!(script.state.encode()[0], Format::FIRST.number());
    script.run("reads 3 2\nput a=1");
    let snapshot = script.state.encode();
    assert_eq!(snapshot[0], Format::CHECKED.number());
    assert_eq!(StateMachine::decode([&snapshot]).unwrap().formats(), script.state.formats());
}

#[test]
fn expiry_decided_in_another_term_has_no_effect() {
    let out = Script::new().run(
        "term 4
         grant 7 10
         put a=1 lease 7
         put b=1 lease 7
         note 7 1500 by 3
         expire 7 by 3
         expire 7 by 5
         get a.. count
         term 5
         expire 7 by 4
         expire 7 by 5
         get a.. count
         expire 7 by 5",
    );
    expect![[r#"
        term 4 -> ok
        grant 7 10 -> @1 lease 7 for 10 s
        put a=1 lease 7 -> @2
        put b=1 lease 7 -> @3
        note 7 1500 by 3 -> stale
        expire 7 by 3 -> stale
        expire 7 by 5 -> stale
        get a.. count -> @3 count 2: 
        term 5 -> ok
        expire 7 by 4 -> stale
        expire 7 by 5 -> @4
        get a.. count -> @4 count 0: 
        expire 7 by 5 -> @4
    "#]]
    .assert_eq(&out);
}

#[test]
fn an_expiry_means_one_grant_and_not_a_later_lease_of_the_same_id() {
    let mut script = Script::new();
    script.run("grant 7 10");
    let granted = script.state.leases().get(7).unwrap().granted;
    script.run("revoke 7\ngrant 7 10");
    let expire = Action::LeaseExpire { id: 7, granted };
    assert_eq!(script.apply(1, expire).outcome, Outcome::Noted);
    let note = Action::LeaseCheckpoint(vec![Checkpoint { id: 7, granted, remaining_ms: Some(1) }]);
    assert!(script.apply(1, note).leases.is_empty());
    assert_eq!(script.state.leases().get(7).unwrap().remaining_ms, None);
}

#[test]
fn entries_say_whom_to_answer_and_what_changed() {
    let mut state = StateMachine::new();
    assert_eq!(state.apply(1, 1, &Bytes::new()), Ok(None));
    let put = PutRequest { key: "a".into(), ..PutRequest::default() };
    let data = Command { origin: 3, request: 9, term: 1, action: Action::Put(put) }.encode(Format::FIRST);
    let applied = state.apply(2, 1, &data).unwrap().unwrap();
    assert_eq!((applied.origin, applied.request, applied.revision, applied.changed), (3, 9, 2, true));
    let data =
        Command { origin: 3, request: 10, term: 1, action: Action::LeaseGrant(LeaseGrantRequest { id: 5, ttl_s: 9 }) };
    let applied = state.apply(3, 1, &data.encode(Format::FIRST)).unwrap().unwrap();
    assert_eq!((applied.revision, applied.changed), (2, false));
    assert_eq!(applied.leases, [LeaseChange::Granted { id: 5 }]);
    assert_eq!((state.index(), state.term()), (3, 1));
}

#[test]
fn an_entry_of_an_unknown_format_is_not_applied() {
    let mut state = StateMachine::new();
    let why = state.apply(1, 1, &Bytes::from_static(&[99])).unwrap_err().to_string();
    assert_eq!(why, "it has format 99, and this member reads up to format 2");
    assert_eq!(state.index(), 0);
}
