//! News for watches: one task follows the store, sorts changes by what watches want, and wakes those that want them.
//!
//! ```text
//! store ─▶ run ─┬─▶ feed of pods ◀── pull ──────────── watches of pods
//!               │     └─▶ feed of spec.nodeName=n1 ◀── the agent of n1
//!               └─▶ feed of nodes ◀── pull ─────────── watches of nodes
//! ```
//!
//! Each watch pulls from where it is. What it wants is in its feed, decoded and encoded once for all of them; one that
//! is further behind pulls from the store's tree, and one that compaction has overtaken is told so. Nobody waits for
//! anybody. A watch whose field selector asks for one value has a feed that it shares only with those that ask for the
//! same: of a thousand node agents, a change of a pod wakes one.
//!
//! **Invariant:** pulls give a resource's changes in order, each once, all of one revision together
//! (`a_watch_far_behind_and_one_that_follows_are_told_the_same`).

use crate::event::Change;
use crate::facts::{FactsCache, Selector};
use crate::keys;
use crate::store::Store;
use api::Resource;
use api::resource::RESOURCES;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::mvcc::Tree;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Changes that a feed of a resource keeps: some ten seconds of the busiest one of a thousand nodes. Older ones come from
/// the tree.
const MAX_KEPT: usize = 1_024;

/// Changes that a feed of one value keeps: what happens to the pods of a node within some ten seconds.
const MAX_KEPT_OF_VALUE: usize = 128;

/// Of the changes that a feed keeps, so many, the newest, keep what they are as lines of a watch: most watches are no further
/// behind.
const MAX_KEPT_LINES: usize = 64;

/// Changes in one pull, unless a revision has more, so that a watch that catches up lets others have their turn.
const MAX_PULLED: usize = 256;

/// Revisions looked at in one pull from the tree.
const MAX_SCANNED: usize = 10_000;

/// What a pull gives.
#[derive(Debug)]
pub enum Pull {
    /// These, in order, perhaps none, and more perhaps than were asked for; and the first revision that may hold more.
    Changes(Vec<Arc<Change>>, i64),
    /// Nothing more until there is news.
    UpToDate,
    /// What comes next is compacted.
    Overtaken,
}

/// The news of all resources.
#[derive(Debug)]
pub struct Hub {
    /// By place in the table of resources.
    feeds: Vec<Arc<Feed>>,
    /// Held while changes are sorted, so that who subscribes meanwhile misses none.
    values: Mutex<BTreeMap<ValueKey, Arc<Feed>>>,
    /// Everything up to this revision is in the feeds.
    sorted: AtomicI64,
    ended: AtomicBool,
}

/// Which objects a feed is about: place of the resource, a field, its value.
type ValueKey = (usize, String, String);

/// The last changes of some objects.
#[derive(Debug, Default)]
pub struct Feed {
    kept: Mutex<Kept>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    /// All changes of later revisions up to the hub's are in `changes`.
    since: i64,
    changes: VecDeque<Arc<Change>>,
}

/// A watch's part in the news.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    resource: &'static Resource,
    feed: Arc<Feed>,
    /// The key of the feed, if it is one of a value.
    key: Option<ValueKey>,
}

impl Hub {
    /// Begins at the state of `tree`.
    pub fn new(tree: &Tree) -> Self {
        let revision = tree.revision();
        Self {
            feeds: RESOURCES.iter().map(|_| Arc::new(Feed::since(revision))).collect(),
            values: Mutex::default(),
            sorted: AtomicI64::new(revision),
            ended: AtomicBool::new(false),
        }
    }

    /// Follows the store until it stops.
    pub async fn run(&self, store: &dyn Store, facts: &FactsCache) {
        while store.newer(self.sorted()).await.is_ok() {
            self.advance(&store.latest(), facts);
        }
        self.end();
    }

    /// Ends all watches, as there will be no news, or nobody to tell them.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let values = self.values();
        self.feeds.iter().chain(values.values()).for_each(|feed| feed.news.notify_waiters());
    }

    /// Takes in what is new in `tree`.
    pub fn advance(&self, tree: &Tree, facts: &FactsCache) {
        let values = self.values();
        let next = self.sorted() + 1;
        // Of the compacted revision itself the states before are gone.
        if next <= tree.compacted() {
            mark::sometimes!("watch feeds begin anew behind a compaction");
            for feed in self.feeds.iter().chain(values.values()) {
                *feed.kept() = Kept { since: tree.revision(), changes: VecDeque::new() };
            }
            self.sorted.store(tree.revision(), Ordering::Release);
            self.feeds.iter().chain(values.values()).for_each(|feed| feed.news.notify_waiters());
            return;
        }
        let mut woken: Vec<&Arc<Feed>> = Vec::new();
        for (revision, changes) in tree.changes(next) {
            for change in changes {
                let Some(place) = keys::parse(&change.version.kv.key).map(|key| place_of(key.resource)) else {
                    continue;
                };
                let change = Arc::new(Change::of(&RESOURCES[place], revision, change));
                self.feeds[place].push(&change, MAX_KEPT);
                woken.push(&self.feeds[place]);
                for feed in feeds_of_values(&values, place, &change, facts) {
                    feed.push(&change, MAX_KEPT_OF_VALUE);
                    woken.push(feed);
                }
            }
        }
        self.sorted.store(tree.revision(), Ordering::Release);
        // To wake those of a feed twice is to wake nobody the second time.
        woken.iter().for_each(|feed| feed.news.notify_waiters());
    }

    /// Up to which revision pulls give everything.
    pub fn sorted(&self) -> i64 {
        self.sorted.load(Ordering::Acquire)
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Takes part in the news of a resource, as far as it is selected; perhaps one is told more.
    pub fn subscribe(self: &Arc<Self>, resource: &'static Resource, selector: &Selector) -> Subscription {
        let place = place_of(resource);
        let asked = selector.fields.requirements.iter().find(|requirement| requirement.equal);
        let key = asked.map(|asked| (place, asked.field.clone(), asked.value.clone()));
        let feed = match &key {
            Some(key) => {
                let mut values = self.values();
                let sorted = self.sorted();
                Arc::clone(values.entry(key.clone()).or_insert_with(|| Arc::new(Feed::since(sorted))))
            }
            None => Arc::clone(&self.feeds[place]),
        };
        Subscription { hub: Arc::clone(self), resource, feed, key }
    }

    fn values(&self) -> MutexGuard<'_, BTreeMap<ValueKey, Arc<Feed>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The feeds of values that an object had before or has after a change.
fn feeds_of_values<'a>(
    values: &'a BTreeMap<ValueKey, Arc<Feed>>,
    place: usize,
    change: &Change,
    facts: &FactsCache,
) -> Vec<&'a Arc<Feed>> {
    let mut feeds = Vec::new();
    let mut from = (place, String::new(), String::new());
    // Each field that somebody asks for, which are one or two.
    while let Some(((at, field, _), _)) = values.range(from..).next()
        && *at == place
    {
        let [before, after] = change.facts(facts);
        let value = |facts: &Option<Arc<crate::facts::Facts>>| facts.as_ref()?.fields.get(field.as_str()).cloned();
        let (before, after) = (value(before), value(after));
        let different = if before == after { None } else { before };
        for value in [after, different].into_iter().flatten() {
            feeds.extend(values.get(&(place, field.clone(), value)));
        }
        // No field's name has a character that comes before this one.
        from = (place, format!("{field}\0"), String::new());
    }
    feeds
}

impl Feed {
    fn since(since: i64) -> Self {
        Self { kept: Mutex::new(Kept { since, changes: VecDeque::new() }), news: Notify::new() }
    }

    /// Completes at the next news after this call.
    pub fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    fn push(&self, change: &Arc<Change>, most: usize) {
        let mut kept = self.kept();
        kept.changes.push_back(Arc::clone(change));
        if let Some(older) = kept.changes.iter().nth_back(MAX_KEPT_LINES) {
            older.let_lines_go();
        }
        if kept.changes.len() > most
            && let Some(oldest) = kept.changes.pop_front()
        {
            kept.since = oldest.revision;
        }
    }

    /// What is kept from revision `next` on, as far as it is sorted; `None` if that is not all.
    fn pull(&self, next: i64, sorted: i64) -> Option<Pull> {
        let kept = self.kept();
        if next <= kept.since {
            return None;
        }
        // Counted from the end: most who ask have everything but the last few.
        let new = kept.changes.iter().rev().take_while(|change| change.revision >= next).count();
        let first = kept.changes.len() - new;
        let known = kept.changes.range(first..).take_while(|change| change.revision <= sorted);
        let (pulled, next) = whole_revisions(known.cloned(), sorted);
        Some(Pull::Changes(pulled, next))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// What tells of news.
    pub fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feed)
    }

    /// The changes from revision `next` on.
    pub fn pull(&self, next: i64, store: &dyn Store) -> Pull {
        let sorted = self.hub.sorted();
        if next > sorted {
            return Pull::UpToDate;
        }
        let whole = &self.hub.feeds[place_of(self.resource)];
        let kept = self.feed.pull(next, sorted).or_else(|| whole.pull(next, sorted));
        kept.unwrap_or_else(|| pull_from(&store.latest(), self.resource, next))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let mut values = self.hub.values();
        // The table's own and this one: nobody else shares it, and nobody can begin to while the table is held.
        if Arc::strong_count(&self.feed) <= 2 {
            values.remove(key);
        }
    }
}

/// Takes about as many as one pull may have, and says where the next begins; `last` is the last revision there is.
fn whole_revisions(changes: impl Iterator<Item = Arc<Change>>, last: i64) -> (Vec<Arc<Change>>, i64) {
    let mut pulled: Vec<Arc<Change>> = Vec::new();
    for change in changes {
        if pulled.len() >= MAX_PULLED
            && let Some(before) = pulled.last()
            && before.revision != change.revision
        {
            let next = before.revision + 1;
            return (pulled, next);
        }
        pulled.push(change);
    }
    (pulled, last + 1)
}

/// The same from the tree, for a watch that is behind what the feeds keep.
fn pull_from(tree: &Tree, resource: &'static Resource, next: i64) -> Pull {
    // Of the compacted revision itself the states before are gone, without which nobody can tell what left a selection.
    if next <= tree.compacted() {
        return Pull::Overtaken;
    }
    mark::sometimes!("watch pulls from the tree");
    let (first, end) = keys::collection(resource, "");
    let mut pulled = Vec::new();
    let mut last = tree.revision();
    for (scanned, (revision, changes)) in tree.changes(next).enumerate() {
        if scanned == MAX_SCANNED || pulled.len() >= MAX_PULLED {
            last = revision - 1;
            break;
        }
        let meant = changes.iter().filter(|change| (&first..&end).contains(&&change.version.kv.key));
        pulled.extend(meant.map(|change| Arc::new(Change::of(resource, revision, change))));
    }
    Pull::Changes(pulled, last + 1)
}

fn place_of(resource: &'static Resource) -> usize {
    RESOURCES.iter().position(|row| std::ptr::eq(row, resource)).expect("a resource is a row of the table")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use api::selector::Fields;
    use bytes::Bytes;
    use serde_json::json;
    use store::{PutRequest, RequestOp, TxnRequest};

    fn pods() -> &'static Resource {
        api::resource::find("", "Pod").unwrap()
    }

    fn of_node(node: &str) -> Selector {
        Selector { fields: Fields::equal("spec.nodeName", node), ..Selector::default() }
    }

    /// Puts objects of a node.
    async fn put(store: &MemoryStore, keys: &[String], node: &str) {
        let put = |key: &String| {
            let value = format!("\x01{}", json!({"metadata": {"name": "x"}, "spec": {"nodeName": node}}));
            RequestOp::Put(PutRequest { key: key.clone().into(), value: value.into(), ..PutRequest::default() })
        };
        let txn = TxnRequest { success: keys.iter().map(put).collect(), ..TxnRequest::default() };
        store.txn(txn).await.unwrap();
    }

    /// Pulls all there is from `next` on, which it moves.
    fn pull_all(subscription: &Subscription, next: &mut i64, store: &MemoryStore) -> Vec<(i64, Bytes)> {
        let mut all = Vec::new();
        loop {
            match subscription.pull(*next, store) {
                Pull::Changes(changes, then) => {
                    all.extend(changes.iter().map(|change| (change.revision, change.key.clone())));
                    assert!(then > *next);
                    *next = then;
                }
                Pull::UpToDate => return all,
                Pull::Overtaken => panic!("nothing is compacted"),
            }
        }
    }

    #[test]
    fn the_newest_changes_keep_their_lines_and_older_ones_make_them_anew() {
        rt::task::block_on(async {
            let (store, facts) = (MemoryStore::new(), FactsCache::default());
            let hub = Arc::new(Hub::new(&store.latest()));
            let follower = hub.subscribe(pods(), &Selector::default());
            put(&store, &["/registry/core/pods/a/first".to_owned()], "n").await;
            hub.advance(&store.latest(), &facts);
            let Pull::Changes(changes, _) = follower.pull(2, &store) else { panic!("there is one") };
            let line = || changes[0].line(crate::event::EventType::Added);
            let (first, mut made_anew_after) = (line(), None);
            for n in 1..=MAX_KEPT_LINES + 1 {
                put(&store, &[format!("/registry/core/pods/a/p{n}")], "n").await;
                hub.advance(&store.latest(), &facts);
                assert_eq!(line(), first);
                if line().as_ptr() != first.as_ptr() {
                    made_anew_after.get_or_insert(n);
                }
            }
            assert_eq!(made_anew_after, Some(MAX_KEPT_LINES));
        });
    }

    #[test]
    fn a_watch_far_behind_and_one_that_follows_are_told_the_same() {
        rt::task::block_on(async {
            let (store, facts) = (MemoryStore::new(), FactsCache::default());
            let hub = Arc::new(Hub::new(&store.latest()));
            let follower = hub.subscribe(pods(), &Selector::default());
            let (mut followed, mut next) = (Vec::new(), 2);
            for n in 0..MAX_KEPT + 300 {
                let keys = [format!("/registry/core/pods/a/p{n}"), format!("/registry/core/pods/b/p{n}")];
                put(&store, if n % 3 == 0 { &keys } else { &keys[..1] }, "n").await;
                put(&store, &[format!("/registry/core/nodes/n{n}")], "").await;
                hub.advance(&store.latest(), &facts);
                followed.extend(pull_all(&follower, &mut next, &store));
            }
            assert!(followed.len() > MAX_KEPT);
            assert_eq!(pull_all(&follower, &mut 2, &store), followed);
            assert!(pull_all(&follower, &mut next, &store).is_empty());
        });
    }

    #[test]
    fn who_asks_for_a_value_is_told_of_what_has_or_had_it() {
        rt::task::block_on(async {
            let (store, facts) = (MemoryStore::new(), FactsCache::default());
            let hub = Arc::new(Hub::new(&store.latest()));
            let key = |n: usize| format!("/registry/core/pods/a/p{n}");
            put(&store, &[key(0)], "n1").await;
            hub.advance(&store.latest(), &facts);
            let one = hub.subscribe(pods(), &of_node("n1"));
            let two = hub.subscribe(pods(), &of_node("n2"));
            assert!(Arc::ptr_eq(&one.feed(), &hub.subscribe(pods(), &of_node("n1")).feed()));
            for n in 0..3 * MAX_KEPT_OF_VALUE {
                put(&store, &[key(n)], if n % 2 == 0 { "n1" } else { "n2" }).await;
                hub.advance(&store.latest(), &facts);
            }
            let before = store.latest().revision();
            put(&store, &[key(1)], "n1").await;
            hub.advance(&store.latest(), &facts);
            let moved = vec![(before + 1, Bytes::from(key(1)))];
            assert_eq!(pull_all(&one, &mut (before + 1), &store), moved);
            assert_eq!(pull_all(&two, &mut (before + 1), &store), moved, "it left");
            // Whoever is behind what is kept is told no less.
            let revisions: std::collections::BTreeSet<i64> =
                pull_all(&two, &mut 2, &store).into_iter().map(|(revision, _)| revision).collect();
            assert!(
                (2..=before + 1).filter(|revision| revision % 2 == 0).all(|revision| revisions.contains(&revision))
            );
            drop((one, two));
            assert!(hub.values().is_empty(), "feeds that nobody reads are gone");
        });
    }

    #[test]
    fn what_is_compacted_is_told_and_never_skipped() {
        rt::task::block_on(async {
            let (store, facts) = (MemoryStore::new(), FactsCache::default());
            let hub = Arc::new(Hub::new(&store.latest()));
            for _ in 0..5 {
                put(&store, &["/registry/core/pods/a/p".to_owned()], "n").await;
            }
            store.compact(4).await.unwrap();
            hub.advance(&store.latest(), &facts);
            let late = hub.subscribe(pods(), &Selector::default());
            assert!(matches!(late.pull(2, &store), Pull::Overtaken));
            assert!(matches!(late.pull(4, &store), Pull::Overtaken));
            assert!(matches!(late.pull(5, &store), Pull::Changes(changes, 7) if changes.len() == 2));
        });
    }
}
