//! What changed since somebody last looked, per object once, however often it changed.
//!
//! **Invariant:** folding all changes that a subscriber took over what it had gives what the cache holds, and it never
//! sees an object become another one of the same name (`coalesces_to_what_is_there`).

use crate::cache::Id;
use crate::held::{Erased, Held, typed};
use api::{Object, Resource};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// An object, or that there is none.
pub(crate) type State = Option<Erased>;

/// One object came, changed, or went.
#[derive(Clone)]
pub struct Change {
    /// Of which kind.
    pub resource: &'static Resource,
    /// In which namespace; empty for a cluster-scoped object.
    pub namespace: Arc<str>,
    /// Of which name.
    pub name: Arc<str>,
    old: State,
    new: State,
}

impl Change {
    /// The object as it was; `None` if it is new to the subscriber. `None` too if `T` is another kind.
    pub fn old<T: Object>(&self) -> Option<Arc<T>> {
        self.old.as_deref().and_then(typed).cloned()
    }

    /// The object as it is; `None` if it is gone. `None` too if `T` is another kind.
    #[expect(clippy::new_ret_no_self, reason = "it is the other half of `old`, not a constructor")]
    pub fn new<T: Object>(&self) -> Option<Arc<T>> {
        self.new.as_deref().and_then(typed).cloned()
    }

    /// The object as it was, an `Arc<T>`, as [`Watch::keys`](crate::Watch::keys) takes it.
    pub fn old_any(&self) -> Option<&dyn Any> {
        self.old.as_deref().map(Held::any)
    }

    /// The object as it is, an `Arc<T>`, as [`Watch::keys`](crate::Watch::keys) takes it.
    pub fn new_any(&self) -> Option<&dyn Any> {
        self.new.as_deref().map(Held::any)
    }
}

/// As golden tests show it: `pods default/web-1 3 -> 7`.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = |state: &State| state.as_deref().map_or("none".to_owned(), |held| held.version().to_owned());
        let (old, new) = (version(&self.old), version(&self.new));
        write!(f, "{} {}/{} {old} -> {new}", self.resource.plural, self.namespace, self.name)
    }
}

/// Group, kind, namespace and name.
type ObjectKey = (&'static str, &'static str, Id);

/// What a subscriber has yet to take: at most one entry per object.
#[derive(Default)]
pub(crate) struct Pending {
    entries: BTreeMap<ObjectKey, Entry>,
    /// In which order the entries came.
    count: u64,
}

struct Entry {
    order: u64,
    resource: &'static Resource,
    /// What the subscriber has.
    taken: State,
    /// What there is.
    latest: State,
}

impl Pending {
    /// An object changed from `old` to `new`.
    pub(crate) fn push(&mut self, resource: &'static Resource, id: &Id, old: State, new: State) {
        let key = (resource.group, resource.kind, id.clone());
        let order = self.count;
        self.count += 1;
        let entry = self.entries.entry(key).or_insert_with(|| Entry { order, resource, taken: old, latest: None });
        entry.latest = new;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Everything, in the order in which objects first changed. Empty if all that came went again.
    pub(crate) fn take(&mut self) -> Vec<Change> {
        let mut entries: Vec<(ObjectKey, Entry)> = std::mem::take(&mut self.entries).into_iter().collect();
        entries.sort_by_key(|(_, entry)| entry.order);
        self.count = 0;
        let mut changes = Vec::with_capacity(entries.len());
        for ((_, _, (namespace, name)), entry) in entries {
            let Entry { resource, taken, latest, .. } = entry;
            let change = |old, new| Change { resource, namespace: namespace.clone(), name: name.clone(), old, new };
            match (taken, latest) {
                (None, None) => {}
                (Some(old), Some(new)) if old.uid() != new.uid() => {
                    changes.push(change(Some(old), None));
                    changes.push(change(None, Some(new)));
                }
                (old, new) => changes.push(change(old, new)),
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ObjectMeta;
    use api::core::v1::Pod;
    use expect_test::{Expect, expect};

    /// `a1u a2u -` is: pod a came at version 1 with UID u, became version 2, went. `|` is where the subscriber takes.
    fn check(events: &str, expected: Expect) {
        let mut pending = Pending::default();
        let mut now: BTreeMap<String, State> = BTreeMap::new();
        let mut taken: BTreeMap<String, State> = BTreeMap::new();
        let mut told = String::new();
        for event in events.split_whitespace().chain(["|"]) {
            if event == "|" {
                for change in pending.take() {
                    told.push_str(&format!("{change:?}\n"));
                    let had = taken.insert(change.name.to_string(), change.new.clone()).flatten();
                    assert_eq!(
                        had.map(|held| held.version().to_owned()),
                        change.old.as_ref().map(|held| held.version().to_owned())
                    );
                }
                continue;
            }
            let (name, rest) = event.split_at(1);
            let new: State = (rest != "-").then(|| -> Erased {
                let (version, uid) = rest.split_at(1);
                let metadata = ObjectMeta {
                    name: Some(name.to_owned()),
                    uid: Some(uid.to_owned()),
                    resource_version: Some(version.to_owned()),
                    ..ObjectMeta::default()
                };
                Arc::new(Arc::new(Pod { metadata, ..Pod::default() }))
            });
            let old = now.insert(name.to_owned(), new.clone()).flatten();
            pending.push(api::resource::of::<Pod>(), &("".into(), name.into()), old, new);
        }
        let versions = |states: &BTreeMap<String, State>| -> Vec<(String, String)> {
            let some =
                states.iter().filter_map(|(name, state)| Some((name.clone(), state.as_ref()?.version().to_owned())));
            some.collect()
        };
        assert_eq!(versions(&now), versions(&taken));
        expected.assert_eq(&told);
    }

    #[test]
    fn coalesces_to_what_is_there() {
        check(
            "b1u a2u a3u | a4u a5u",
            expect![[r#"
            pods /b none -> 1
            pods /a none -> 3
            pods /a 3 -> 5
        "#]],
        );
    }

    #[test]
    fn what_came_and_went_unseen_is_not_told() {
        check("a1u a-", expect![""]);
        check(
            "a1u | a- a2v a-",
            expect![[r#"
            pods /a none -> 1
            pods /a 1 -> none
        "#]],
        );
    }

    #[test]
    fn another_object_of_the_same_name_is_a_delete_and_an_add() {
        check(
            "a1u | a- a2v a3v",
            expect![[r#"
            pods /a none -> 1
            pods /a 1 -> none
            pods /a none -> 3
        "#]],
        );
        check(
            "a1u | a2v | a3w a4u",
            expect![[r#"
            pods /a none -> 1
            pods /a 1 -> none
            pods /a none -> 2
            pods /a 2 -> none
            pods /a none -> 4
        "#]],
        );
    }
}
