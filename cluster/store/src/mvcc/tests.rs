//! The tree against a list of all versions that ever were.

use super::*;
use crate::types::{Event, EventKind};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What was done, and nothing clever.
#[derive(Clone, Debug)]
struct Model {
    history: Vec<(i64, Vec<Event>)>,
    revision: i64,
    compacted: i64,
}

impl Model {
    fn new() -> Self {
        Self { history: Vec::new(), revision: 1, compacted: 0 }
    }

    fn as_of(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut state = BTreeMap::new();
        for event in self.history.iter().filter(|(at, _)| *at <= revision).flat_map(|(_, events)| events) {
            match event.kind {
                EventKind::Put => state.insert(event.kv.key.clone(), event.kv.clone()),
                EventKind::Delete => state.remove(&event.kv.key),
            };
        }
        state
    }

    fn transact(&mut self, writes: &[Write]) {
        let revision = self.revision + 1;
        let mut state = self.as_of(self.revision);
        let mut events = Vec::new();
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    let key = name(*key);
                    let prev_kv = state.get(&key).cloned();
                    let kv = KeyValue {
                        key: key.clone(),
                        value: Bytes::from(vec![*value]),
                        create_revision: prev_kv.as_ref().map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: prev_kv.as_ref().map_or(0, |kv| kv.version) + 1,
                        lease: i64::from(*value),
                    };
                    state.insert(key, kv.clone());
                    events.push(Event { kind: EventKind::Put, kv, prev_kv });
                }
                Write::Delete(from, until) => {
                    let span = Span::new(name(*from), name(*until));
                    let gone: Vec<KeyValue> = state.values().filter(|kv| span.contains(&kv.key)).cloned().collect();
                    for before in gone {
                        state.remove(&before.key);
                        let kv = KeyValue { key: before.key.clone(), mod_revision: revision, ..KeyValue::default() };
                        events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(before) });
                    }
                }
            }
        }
        if !events.is_empty() {
            self.history.push((revision, events));
            self.revision = revision;
        }
    }
}

#[derive(Clone, Debug)]
enum Write {
    Put(u8, u8),
    Delete(u8, u8),
}

#[derive(Clone, Debug)]
enum Step {
    Transact(Vec<Write>),
    /// At this share of what is there to be compacted.
    Compact(u8),
    /// Keep a clone until the end.
    Pin,
}

fn name(key: u8) -> Bytes {
    Bytes::from(vec![b'a' + key])
}

/// No key is changed twice by one transaction: who writes through `txn` cannot.
fn distinct(writes: Vec<Write>) -> Vec<Write> {
    let mut kept: Vec<Write> = Vec::new();
    for write in writes {
        let clash = |other: &Write| match (&write, other) {
            (Write::Put(a, _), Write::Put(b, _)) => a == b,
            (Write::Put(key, _), Write::Delete(from, until)) | (Write::Delete(from, until), Write::Put(key, _)) => {
                Span::new(name(*from), name(*until)).contains(&name(*key))
            }
            (Write::Delete(..), Write::Delete(..)) => false,
        };
        if !kept.iter().any(clash) {
            kept.push(write);
        }
    }
    kept
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = prop_oneof![
        4 => (0..6_u8, any::<u8>()).prop_map(|(key, value)| Write::Put(key, value)),
        2 => (0..6_u8, 0..8_u8).prop_map(|(from, until)| Write::Delete(from, until)),
    ];
    let step = prop_oneof![
        12 => prop::collection::vec(write, 1..4).prop_map(|writes| Step::Transact(distinct(writes))),
        2 => any::<u8>().prop_map(Step::Compact),
        1 => Just(Step::Pin),
    ];
    prop::collection::vec(step, 0..40)
}

fn transact(tree: &mut Tree, writes: &[Write]) -> i64 {
    let mut writer = tree.write();
    for write in writes {
        match write {
            Write::Put(key, value) => {
                writer.put(name(*key), Bytes::from(vec![*value]), i64::from(*value));
            }
            Write::Delete(from, until) => {
                writer.delete(&Span::new(name(*from), name(*until)));
            }
        }
    }
    writer.finish()
}

/// Everything that can be read of `tree`, against the model.
fn agree(tree: &Tree, model: &Model) {
    assert_eq!((tree.revision(), tree.compacted()), (model.revision, model.compacted));
    for revision in 1..=model.revision + 1 {
        let all = RangeRequest { key: "a".into(), range_end: "\0".into(), revision, ..RangeRequest::default() };
        let read = tree.range(&all);
        if revision < model.compacted {
            assert_eq!(read, Err(RefusedKind::Compacted(model.compacted)));
        } else if revision > model.revision {
            assert_eq!(read, Err(RefusedKind::FutureRevision));
        } else {
            let expected: Vec<KeyValue> = model.as_of(revision).into_values().collect();
            assert_eq!(read.unwrap().kvs, expected, "as of {revision}");
            for key in (0..6).map(name) {
                let one = RangeRequest { key: key.clone(), range_end: Bytes::new(), ..all.clone() };
                let expected: Vec<KeyValue> = expected.iter().filter(|kv| kv.key == key).cloned().collect();
                assert_eq!(tree.range(&one).unwrap().kvs, expected, "as of {revision}");
            }
        }
    }
    let told: Vec<(i64, Vec<Event>)> = tree
        .changes(0)
        .map(|(revision, changes)| (revision, changes.iter().map(|change| change.event(true)).collect()))
        .collect();
    let mut expected: Vec<_> = model.history.iter().filter(|(at, _)| *at >= model.compacted).cloned().collect();
    for (_, events) in expected.iter_mut().filter(|(at, _)| *at == model.compacted) {
        events.iter_mut().for_each(|event| event.prev_kv = None);
    }
    assert_eq!(told, expected);
    counted(tree);
}

/// The running counts against full ones.
fn counted(tree: &Tree) {
    let latest: Vec<&Arc<Version>> = tree.keys.values().collect();
    assert_eq!(tree.len(), latest.iter().filter(|version| !version.removed).count() as u64);
    assert_eq!(tree.hash(), latest.iter().fold(0_u64, |sum, version| sum.wrapping_add(version.hash)));
    let base: u64 = tree.base().map(|kv| Version::put(kv.clone(), 0).bytes()).sum();
    let later = tree.changes(tree.compacted() + 1).flat_map(|(_, changes)| changes);
    assert_eq!(tree.bytes(), base + later.map(|change| change.version.bytes()).sum::<u64>());
    assert!(latest.iter().all(|version| !version.removed || version.kv.mod_revision > tree.compacted()));
}

/// What is made of the tree's own list.
fn reloaded(tree: &Tree) -> Tree {
    let mut made = Tree::compacted_at(tree.compacted());
    tree.base().for_each(|kv| made.load_base(kv.clone()));
    for (revision, changes) in tree.changes(0) {
        let list = changes.iter().map(|change| (change.version.kv.clone(), change.version.removed)).collect();
        made.load_changes(revision, list).unwrap();
    }
    made
}

proptest! {
    #[test]
    fn agrees_with_a_list_of_all_versions(steps in steps()) {
        let (mut tree, mut model) = (Tree::new(), Model::new());
        let mut pinned = Vec::new();
        for step in &steps {
            match step {
                Step::Transact(writes) => {
                    transact(&mut tree, writes);
                    model.transact(writes);
                }
                Step::Compact(share) => {
                    let left = model.revision - model.compacted;
                    let revision = model.compacted + left * i64::from(*share) / 255;
                    let expected = if revision <= model.compacted { Err(RefusedKind::Compacted(model.compacted)) } else { Ok(()) };
                    prop_assert_eq!(tree.compact(revision), expected);
                    model.compacted = revision;
                }
                Step::Pin => pinned.push((tree.clone(), model.clone())),
            }
        }
        agree(&tree, &model);
        let again = reloaded(&tree);
        agree(&again, &model);
        prop_assert_eq!((again.hash(), again.len(), again.bytes()), (tree.hash(), tree.len(), tree.bytes()));
        for (tree, model) in &pinned {
            agree(tree, model);
        }
    }

    #[test]
    fn revisions_rise_by_one_per_effective_transaction(steps in steps()) {
        let mut tree = Tree::new();
        for step in &steps {
            let Step::Transact(writes) = step else { continue };
            let (before, state) = (tree.revision(), tree.hash());
            let after = transact(&mut tree, writes);
            prop_assert_eq!(after, tree.revision());
            let effective = tree.changes(before + 1).next().is_some();
            prop_assert_eq!(after, before + i64::from(effective));
            // A put changes its key's version at the least, so that an effect always shows.
            prop_assert_eq!(tree.hash() != state, effective);
        }
    }

    #[test]
    fn a_limit_cuts_and_still_counts_all(steps in steps(), limit in 1..4_i64) {
        let mut tree = Tree::new();
        for step in &steps {
            if let Step::Transact(writes) = step {
                transact(&mut tree, writes);
            }
        }
        let all = RangeRequest { key: "b".into(), range_end: "e".into(), ..RangeRequest::default() };
        let whole = tree.range(&all).unwrap();
        let cut = tree.range(&RangeRequest { limit, ..all.clone() }).unwrap();
        let kept = usize::try_from(limit).unwrap().min(whole.kvs.len());
        prop_assert_eq!(&cut.kvs[..], &whole.kvs[..kept]);
        prop_assert_eq!((cut.count, cut.more), (whole.kvs.len() as i64, whole.kvs.len() > kept));
        let counted = tree.range(&RangeRequest { count_only: true, ..all.clone() }).unwrap();
        prop_assert_eq!((counted.count, counted.kvs.len(), counted.more), (whole.count, 0, false));
        let keys = tree.range(&RangeRequest { keys_only: true, ..all }).unwrap();
        prop_assert!(keys.kvs.iter().all(|kv| kv.value.is_empty()));
        prop_assert_eq!(keys.kvs.len(), whole.kvs.len());
    }
}

#[test]
fn compaction_refuses_what_is_done_or_to_come() {
    let mut tree = Tree::new();
    transact(&mut tree, &[Write::Put(0, 1)]);
    assert_eq!(tree.compact(3), Err(RefusedKind::FutureRevision));
    assert_eq!(tree.compact(2), Ok(()));
    assert_eq!(tree.compact(2), Err(RefusedKind::Compacted(2)));
    assert_eq!(tree.compact(1), Err(RefusedKind::Compacted(2)));
}
