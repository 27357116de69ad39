//! What informers know, and who is to hear of it: the pure part of [`crate::informer`].
//!
//! Events of a kind have revisions that never fall. So whatever is older than the cache comes from an API server that
//! lags, and is ignored. Several objects can change at the same revision: a watch that goes on at revision `r` without a
//! bookmark asks for everything *from* `r` on, and what it had is recognised.
//!
//! **Invariant:** the revision of a kind never falls, and neither does the version of an object
//! (`never_goes_back_in_time`).

use crate::cache::{Caches, Id};
use crate::changes::{Change, Pending};
use crate::client::List;
use crate::codec::Codec;
use crate::held::{Erased, Held};
use crate::watch::revision_of;
use api::Resource;
use mark::sometimes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// Group and kind.
type KindKey = (&'static str, &'static str);

/// All that is known, and who waits.
pub(crate) struct Known {
    caches: Caches,
    kinds: BTreeMap<KindKey, Kind>,
    subscribers: BTreeMap<u64, Subscriber>,
    /// Numbers subscribers and those who wait.
    count: u64,
    /// What the first lists must not be older than.
    not_before: i64,
}

/// What is known of one kind besides its objects.
struct Kind {
    resource: &'static Resource,
    codec: &'static Codec,
    tally: Tally,
    /// Whether everything at the cache's revision is known, and not only what came so far.
    complete: bool,
    /// Who waits for a revision, by that revision.
    revisions: BTreeMap<(i64, u64), oneshot::Sender<()>>,
    /// Who waits for an object to go, with its UID.
    leaving: BTreeMap<(Id, u64), (String, oneshot::Sender<()>)>,
}

/// What happened to one kind, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) synced: bool,
    pub(crate) lists: u64,
    pub(crate) events: u64,
    pub(crate) stale: u64,
}

struct Subscriber {
    /// `None` for all kinds.
    kinds: Option<Vec<KindKey>>,
    pending: Pending,
    notify: Arc<Notify>,
}

impl Subscriber {
    fn wants(&self, kind: KindKey) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }
}

/// A list is older than what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    /// The list's revision.
    pub(crate) listed: i64,
    /// What is known.
    pub(crate) known: i64,
}

impl Known {
    pub(crate) fn new(codecs: impl Iterator<Item = &'static Codec>, not_before: i64) -> Self {
        let kind = |codec: &'static Codec| {
            let resource = (codec.resource)();
            let (revisions, leaving) = (BTreeMap::new(), BTreeMap::new());
            let kind = Kind { resource, codec, tally: Tally::default(), complete: false, revisions, leaving };
            (key(resource), kind)
        };
        let kinds = codecs.map(kind).collect();
        Self { caches: Caches::new(), kinds, subscribers: BTreeMap::new(), count: 0, not_before }
    }

    pub(crate) fn caches(&self) -> Caches {
        self.caches.clone()
    }

    pub(crate) fn synced(&self) -> bool {
        self.kinds.values().all(|kind| kind.tally.synced)
    }

    pub(crate) fn tallies(&self) -> impl Iterator<Item = (&'static Resource, Tally)> {
        self.kinds.values().map(|kind| (kind.resource, kind.tally))
    }

    pub(crate) fn count(&self, resource: &Resource) -> usize {
        self.caches.count(resource)
    }

    /// Up to which revision a kind is known; 0 before its first list.
    pub(crate) fn revision(&self, resource: &Resource) -> i64 {
        self.caches.revision(resource)
    }

    /// From which version a watch has to go on.
    pub(crate) fn resume(&self, resource: &Resource) -> i64 {
        let complete = self.kinds.get(&key(resource)).is_none_or(|kind| kind.complete);
        self.revision(resource) - i64::from(!complete)
    }

    /// Takes a whole list in: what it lacks is gone, what is of another version has changed. Nothing for a kind that is not
    /// followed; likewise below.
    pub(crate) fn replace(&mut self, resource: &'static Resource, list: List<Erased>) -> Result<(), Behind> {
        let Some(kind) = self.kinds.get(&key(resource)) else { return Ok(()) };
        let listed = list.resource_version;
        let known = self.revision(resource).max(self.not_before);
        if listed < known {
            return Err(Behind { listed, known });
        }
        let gone = difference(self.caches.held(resource), &list.items);
        // It is known from now on even if there is no object of it.
        self.caches.objects_mut(kind.codec).seen(listed);
        for id in gone {
            sometimes!("informer missed a delete");
            self.change(resource, &id, None);
        }
        for object in list.items {
            let id = id_of(&*object);
            let old = self.caches.held_of(resource, &id);
            let same = old.is_some_and(|old| old.version() == object.version() && old.uid() == object.uid());
            if !same {
                self.change(resource, &id, Some(object));
            }
        }
        if let Some(kind) = self.kinds.get_mut(&key(resource)) {
            kind.tally.synced = true;
            kind.tally.lists += 1;
            kind.complete = true;
        }
        self.wake(resource);
        Ok(())
    }

    /// An object is new or has changed.
    pub(crate) fn put(&mut self, resource: &'static Resource, object: Erased) {
        let id = id_of(&*object);
        if self.advance(resource, &*object, &id, false) {
            self.change(resource, &id, Some(object));
            self.wake(resource);
        }
    }

    /// An object is gone.
    pub(crate) fn delete(&mut self, resource: &'static Resource, object: &dyn Held) {
        let id = id_of(object);
        if self.advance(resource, object, &id, true) {
            self.change(resource, &id, None);
            self.wake(resource);
        }
    }

    /// Everything up to `revision` was told.
    pub(crate) fn bookmark(&mut self, resource: &'static Resource, revision: i64) {
        let known = self.revision(resource);
        if revision >= known {
            self.caches.note_seen(resource, revision);
            if let Some(kind) = self.kinds.get_mut(&key(resource)) {
                kind.complete = true;
            }
            self.wake(resource);
        }
    }

    /// Whether an event is news. If so, its revision is noted.
    fn advance(&mut self, resource: &'static Resource, object: &dyn Held, id: &Id, delete: bool) -> bool {
        let revision = revision_of(object.version());
        let known = self.revision(resource);
        let had = self.caches.held_of(resource, id).map(|had| revision_of(had.version()));
        let Some(kind) = self.kinds.get_mut(&key(resource)) else { return false };
        if revision < known {
            sometimes!("event was older than the cache");
            kind.tally.stale += 1;
            return false;
        }
        // A delete is news of the version at which the object went, or, from some servers, of its last one.
        let news = had.map_or(!delete, |had| revision > had || (delete && revision == had));
        if revision > known {
            kind.complete = false;
        }
        self.caches.objects_mut(kind.codec).seen(revision);
        if !news {
            kind.tally.stale += 1;
            self.wake(resource);
            return false;
        }
        kind.tally.events += 1;
        true
    }

    /// Changes the cache, and tells subscribers.
    fn change(&mut self, resource: &'static Resource, id: &Id, new: Option<Erased>) {
        let Some(kind) = self.kinds.get(&key(resource)) else { return };
        let objects = self.caches.objects_mut(kind.codec);
        let old = match &new {
            Some(object) => objects.put(object.clone()),
            None => objects.remove(id),
        };
        for subscriber in self.subscribers.values_mut().filter(|subscriber| subscriber.wants(key(resource))) {
            subscriber.pending.push(resource, id, old.clone(), new.clone());
            subscriber.notify.notify_one();
        }
        self.wake_leaving(resource, id);
    }

    pub(crate) fn subscribe(&mut self, resources: Option<&[&'static Resource]>, notify: Arc<Notify>) -> u64 {
        let kinds = resources.map(|resources| resources.iter().map(|resource| key(resource)).collect());
        let mut subscriber = Subscriber { kinds, pending: Pending::default(), notify };
        for resource in self.caches.resources() {
            if !subscriber.wants(key(resource)) {
                continue;
            }
            for held in self.caches.held(resource) {
                subscriber.pending.push(resource, &id_of(&**held), None, Some(held.clone()));
            }
        }
        self.count += 1;
        self.subscribers.insert(self.count, subscriber);
        self.count
    }

    pub(crate) fn unsubscribe(&mut self, number: u64) {
        self.subscribers.remove(&number);
    }

    pub(crate) fn take(&mut self, number: u64) -> Vec<Change> {
        let subscriber = self.subscribers.get_mut(&number).filter(|subscriber| !subscriber.pending.is_empty());
        subscriber.map(|subscriber| subscriber.pending.take()).unwrap_or_default()
    }

    /// Completes when `revision` is known; `None` if it is already, or if the kind is not followed.
    pub(crate) fn wait_revision(&mut self, resource: &Resource, revision: i64) -> Option<oneshot::Receiver<()>> {
        if self.revision(resource) >= revision {
            return None;
        }
        let kind = self.kinds.get_mut(&key(resource))?;
        let (sender, receiver) = oneshot::channel();
        kind.revisions.retain(|_, waiting| !waiting.is_closed());
        kind.revisions.insert((revision, self.count), sender);
        self.count += 1;
        Some(receiver)
    }

    /// Completes when the object of this UID is going or gone; `None` if it is already, or if the kind is not followed.
    pub(crate) fn wait_gone(
        &mut self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Option<oneshot::Receiver<()>> {
        if self.is_gone(resource, namespace, name, uid) {
            return None;
        }
        let kind = self.kinds.get_mut(&key(resource))?;
        let (sender, receiver) = oneshot::channel();
        kind.leaving.retain(|_, (_, waiting)| !waiting.is_closed());
        kind.leaving.insert(((namespace.into(), name.into()), self.count), (uid.to_owned(), sender));
        self.count += 1;
        Some(receiver)
    }

    fn is_gone(&self, resource: &Resource, namespace: &str, name: &str, uid: &str) -> bool {
        let metadata = self.caches.metadata_of(resource, namespace, name);
        metadata.is_none_or(|had| had.uid.as_deref() != Some(uid) || had.deletion_timestamp.is_some())
    }

    /// Wakes who waited for the revision that is known now.
    fn wake(&mut self, resource: &Resource) {
        let known = self.revision(resource);
        let Some(kind) = self.kinds.get_mut(&key(resource)) else { return };
        while let Some(first) = kind.revisions.first_entry().filter(|first| first.key().0 <= known) {
            // Whoever no longer waits needs no waking.
            let _ = first.remove().send(());
        }
    }

    /// Wakes who waited for an object to go.
    fn wake_leaving(&mut self, resource: &Resource, id: &Id) {
        let Some(kind) = self.kinds.get_mut(&key(resource)) else { return };
        if kind.leaving.is_empty() {
            return;
        }
        let range = (id.clone(), 0)..=(id.clone(), u64::MAX);
        let waiting: Vec<(Id, u64)> = kind.leaving.range(range).map(|(key, _)| key.clone()).collect();
        for waiting in waiting {
            let kind = self.kinds.get(&key(resource)).and_then(|kind| kind.leaving.get(&waiting));
            let gone = kind.is_some_and(|(uid, _)| self.is_gone(resource, &id.0, &id.1, uid));
            if !gone {
                continue;
            }
            let kind = self.kinds.get_mut(&key(resource));
            if let Some((_, sender)) = kind.and_then(|kind| kind.leaving.remove(&waiting)) {
                let _ = sender.send(());
            }
        }
    }
}

/// What a list lacks of what is known.
fn difference<'a>(known: impl Iterator<Item = &'a Erased>, listed: &[Erased]) -> Vec<Id> {
    let mut there: Vec<(&str, &str)> = listed.iter().map(|object| (object.namespace(), object.name())).collect();
    there.sort_unstable();
    let lacks = |object: &&Erased| there.binary_search(&(object.namespace(), object.name())).is_err();
    known.filter(lacks).map(|object| id_of(&**object)).collect()
}

fn key(resource: &Resource) -> KindKey {
    (resource.group, resource.kind)
}

fn id_of(object: &dyn Held) -> Id {
    (object.namespace().into(), object.name().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::held::hold;
    use api::core::v1::ConfigMap;
    use api::{ObjectExt, ObjectMeta};
    use expect_test::{Expect, expect};
    use rt::random::Random;

    fn map(name: &str, version: i64, uid: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn resource() -> &'static Resource {
        ConfigMap::resource()
    }

    fn new(not_before: i64) -> Known {
        Known::new(std::iter::once(codec::of::<ConfigMap>()), not_before)
    }

    fn replace(known: &mut Known, list: List<ConfigMap>) -> Result<(), Behind> {
        known.replace(resource(), list.map(hold))
    }

    fn put(known: &mut Known, map: ConfigMap) {
        known.put(resource(), hold(map));
    }

    fn delete(known: &mut Known, map: &ConfigMap) {
        known.delete(resource(), &*hold(map.clone()));
    }

    /// `a:3:u` is object a of version 3 and UID u.
    fn object(text: &str) -> ConfigMap {
        let parts: Vec<&str> = text.split(':').collect();
        map(parts[0], parts[1].parse().expect("a version is a number"), parts[2])
    }

    /// One step per line: `list 5 a:3:u b:4:v`, `put a:7:u`, `delete a:8:u`, `mark 9`. Each line of what is expected is
    /// what a subscriber is told, and what is known then.
    fn check(steps: &str, expected: Expect) {
        let mut known = new(0);
        let number = known.subscribe(None, Arc::new(Notify::new()));
        let mut told = String::new();
        for step in steps.lines().map(str::trim).filter(|step| !step.is_empty()) {
            let words: Vec<&str> = step.split_whitespace().collect();
            match (words[0], words[1]) {
                ("list", revision) => {
                    let resource_version = revision.parse().expect("a revision is a number");
                    let items = words[2..].iter().map(|text| object(text)).collect();
                    let replaced = replace(&mut known, List { items, resource_version, continue_token: None });
                    if let Err(behind) = replaced {
                        told.push_str(&format!("{behind:?} "));
                    }
                }
                ("put", text) => put(&mut known, object(text)),
                ("delete", text) => delete(&mut known, &object(text)),
                ("mark", revision) => known.bookmark(resource(), revision.parse().expect("a revision is a number")),
                other => panic!("{other:?}"),
            }
            let (revision, resume) = (known.revision(resource()), known.resume(resource()));
            told.push_str(&format!("{:?} at {revision}, from {resume}\n", known.take(number)));
        }
        expected.assert_eq(&told);
    }

    #[test]
    fn a_list_and_events_give_the_cache() {
        check(
            "list 5 a:3:u b:4:v
             put a:7:u
             put c:8:w
             delete b:9:v
             mark 12",
            expect![[r#"
                [configmaps /a none -> 3, configmaps /b none -> 4] at 5, from 5
                [configmaps /a 3 -> 7] at 7, from 6
                [configmaps /c none -> 8] at 8, from 7
                [configmaps /b 4 -> none] at 9, from 8
                [] at 12, from 12
            "#]],
        );
    }

    #[test]
    fn a_list_tells_what_was_missed() {
        check(
            "list 5 a:3:u b:4:v c:5:w
             list 9 a:3:u b:8:x",
            expect![[r#"
                [configmaps /a none -> 3, configmaps /b none -> 4, configmaps /c none -> 5] at 5, from 5
                [configmaps /c 5 -> none, configmaps /b 4 -> none, configmaps /b none -> 8] at 9, from 9
            "#]],
        );
    }

    #[test]
    fn what_is_older_than_the_cache_is_ignored() {
        check(
            "list 5 a:3:u b:4:v
             put a:7:u
             put b:6:v
             delete a:6:u
             list 6 a:3:u
             mark 6",
            expect![[r#"
                [configmaps /a none -> 3, configmaps /b none -> 4] at 5, from 5
                [configmaps /a 3 -> 7] at 7, from 6
                [] at 7, from 6
                [] at 7, from 6
                Behind { listed: 6, known: 7 } [] at 7, from 6
                [] at 7, from 6
            "#]],
        );
    }

    #[test]
    fn a_watch_cut_within_a_revision_goes_on_in_it() {
        check(
            "list 5
             put a:7:u
             put a:7:u
             put b:7:v
             mark 7",
            expect![[r#"
                [] at 5, from 5
                [configmaps /a none -> 7] at 7, from 6
                [] at 7, from 6
                [configmaps /b none -> 7] at 7, from 6
                [] at 7, from 7
            "#]],
        );
    }

    #[test]
    fn the_first_list_is_not_older_than_asked_for() {
        let mut known = new(9);
        let list = |resource_version| List::<ConfigMap> { items: Vec::new(), resource_version, continue_token: None };
        assert_eq!(replace(&mut known, list(8)), Err(Behind { listed: 8, known: 9 }));
        assert!(!known.synced());
        assert_eq!(replace(&mut known, list(9)), Ok(()));
        assert!(known.synced());
    }

    #[test]
    fn who_waits_is_woken_by_what_it_waits_for() {
        let mut known = new(0);
        let list = List { items: vec![map("a", 3, "u")], resource_version: 5, continue_token: None };
        replace(&mut known, list).expect("nothing is known");
        assert!(known.wait_revision(resource(), 5).is_none());
        assert!(known.wait_gone(resource(), "", "a", "other").is_none());
        let mut revision = known.wait_revision(resource(), 8).expect("it is not known yet");
        let mut gone = known.wait_gone(resource(), "", "a", "u").expect("it is there");
        put(&mut known, map("a", 7, "u"));
        assert!(revision.try_recv().is_err() && gone.try_recv().is_err());
        delete(&mut known, &map("a", 8, "u"));
        assert!(revision.try_recv().is_ok() && gone.try_recv().is_ok());
        assert!(known.wait_revision(api::core::v1::Pod::resource(), 1).is_none(), "nobody follows pods");
    }

    #[test]
    fn an_object_that_is_terminating_is_going() {
        let mut known = new(0);
        let list = List { items: vec![map("a", 3, "u")], resource_version: 5, continue_token: None };
        replace(&mut known, list).expect("nothing is known");
        let mut gone = known.wait_gone(resource(), "", "a", "u").expect("it is there");
        let mut going = map("a", 6, "u");
        going.metadata.deletion_timestamp = Some(api::Time(api::Timestamp::UNIX_EPOCH));
        put(&mut known, going);
        assert!(gone.try_recv().is_ok());
    }

    #[test]
    fn a_subscriber_hears_of_its_kinds_alone_and_of_what_was_there() {
        let mut known = new(0);
        let list = List { items: vec![map("a", 3, "u")], resource_version: 5, continue_token: None };
        replace(&mut known, list).expect("nothing is known");
        let all = known.subscribe(None, Arc::new(Notify::new()));
        let pods = known.subscribe(Some(&[api::core::v1::Pod::resource()]), Arc::new(Notify::new()));
        assert_eq!(known.take(all).len(), 1);
        assert_eq!(known.take(all).len(), 0);
        assert_eq!(known.take(pods).len(), 0);
    }

    /// A history, of which lists and watches from servers that lag more or less are replayed in any order.
    #[test]
    fn never_goes_back_in_time() {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mut random = Random::from_seed(11);
        for _ in 0..50 {
            let mut states: Vec<BTreeMap<&str, (i64, String)>> = vec![BTreeMap::new()];
            let mut events: Vec<(bool, ConfigMap)> = Vec::new();
            for revision in 1..60_i64 {
                let mut state = states.last().cloned().unwrap_or_default();
                let name = NAMES[usize::try_from(random.below(4)).unwrap()];
                let uid = state.get(name).map_or_else(|| format!("u{revision}"), |(_, uid)| uid.clone());
                let delete = state.contains_key(name) && random.chance(400);
                events.push((delete, map(name, revision, &uid)));
                if delete {
                    state.remove(name)
                } else {
                    state.insert(name, (revision, uid))
                };
                states.push(state);
            }
            let mut known = new(0);
            let mut newest = 0;
            for _ in 0..30 {
                let at = usize::try_from(random.below(states.len() as u64)).unwrap();
                if random.chance(300) || newest == 0 {
                    let items = states[at].iter().map(|(name, (version, uid))| map(name, *version, uid)).collect();
                    let list = List { items, resource_version: at as i64, continue_token: None };
                    newest = newest.max(if replace(&mut known, list).is_ok() { at } else { 0 });
                } else {
                    // A server that lags: the watch goes on from what is known, and ends somewhere.
                    let from = usize::try_from(known.resume(resource())).unwrap();
                    for (gone, object) in &events[from..at.max(from)] {
                        if *gone { delete(&mut known, object) } else { put(&mut known, object.clone()) }
                    }
                    newest = newest.max(at);
                }
                let caches = known.caches();
                let there: Vec<(&str, i64)> =
                    caches.all::<ConfigMap>().map(|map| (map.name(), revision_of(map.resource_version()))).collect();
                let wanted: Vec<(&str, i64)> =
                    states[newest].iter().map(|(name, (version, _))| (*name, *version)).collect();
                assert_eq!(there, wanted);
                assert_eq!(known.revision(resource()), newest as i64);
            }
        }
    }
}
