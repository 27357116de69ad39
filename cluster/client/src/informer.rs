//! Informers: per kind, a list and then a watch that keep the caches up to date.
//!
//! ```text
//!         ┌── list, consistent, by pages ──▶ diff against the cache ──┐
//! start ──┤        ▲ 410: the version is gone                         ├──▶ Caches, Subscriptions, those who wait
//!         └────────┴── watch from the last version ──▶ each event ────┘
//!                      ▲ end, broken, silent: again from there
//! ```
//!
//! The cache of a kind never goes back in time, whichever API server answers: see [`crate::known`].

use crate::backoff::Backoff;
use crate::cache::Caches;
use crate::changes::Change;
use crate::client::{Client, List};
use crate::codec::{self, Codec};
use crate::error::Error;
use crate::held::Erased;
use crate::known::{Known, Tally};
use crate::options::{ListOptions, WatchOptions};
use crate::watch::{Events, WatchEvent};
use api::{Object, Resource};
use mark::sometimes;
use rt::random::Random;
use rt::task::AbortOnDrop;
use rt::time::{Instant, timeout};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Objects per page of a list, as upstream's informers ask for.
const PAGE: u32 = 500;
/// A watch lasts this long and up to as long again, as upstream: so that not all end together.
const WATCH_S: u64 = 300;
/// The first wait after a failure.
const RETRY_BASE: Duration = Duration::from_millis(200);
/// The longest wait after a failure: a cache should not be older than a node's lease because its informer waits.
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// A watch that lasted this long has worked.
const WORKED: Duration = Duration::from_secs(5);
/// How long somebody waits for a revision before the watch counts as lagging: events travel in milliseconds, but what a
/// field selector leaves out shows only in a bookmark.
const LAG_LIMIT: Duration = Duration::from_secs(20);

/// The informers of a process, before they run: one per kind, shared by all its controllers.
pub struct Informers {
    client: Client,
    kinds: BTreeMap<(&'static str, &'static str), Followed>,
    not_before: i64,
}

/// A kind to be followed.
struct Followed {
    codec: &'static Codec,
    field_selector: String,
}

impl Informers {
    /// None yet.
    pub fn new(client: Client) -> Self {
        Self { client, kinds: BTreeMap::new(), not_before: 0 }
    }

    /// Follows the kind `T`, once, however often it is asked to.
    pub fn follow<T: Object>(&mut self) {
        self.follow_fields::<T>("");
    }

    /// Follows those objects of kind `T` that `field_selector` selects. If somebody else follows the kind too, but not
    /// the same objects of it, then all of them.
    pub fn follow_fields<T: Object>(&mut self, field_selector: &str) {
        self.follow_codec(codec::of::<T>(), field_selector);
    }

    fn follow_codec(&mut self, codec: &'static Codec, field_selector: &str) {
        let resource = (codec.resource)();
        let key = (resource.group, resource.kind);
        let same = self.kinds.get(&key).is_none_or(|followed| followed.field_selector == field_selector);
        let field_selector = if same { field_selector.to_owned() } else { String::new() };
        self.kinds.insert(key, Followed { codec, field_selector });
    }

    /// Nothing older than `revision` counts as known: the first lists are at least as new, whoever answers them.
    pub fn not_before(&mut self, revision: i64) {
        self.not_before = self.not_before.max(revision);
    }

    /// Starts them. They run until the last clone of what is returned, and of its subscriptions, is dropped.
    pub fn start(self) -> Following {
        let Self { client, kinds, not_before } = self;
        let known = Known::new(kinds.values().map(|followed| followed.codec), not_before);
        let nudges = kinds.keys().map(|&key| (key, Notify::new())).collect();
        let shared = Arc::new(Shared { known: Mutex::new(known), changed: Notify::new(), nudges });
        let start = |followed: Followed| {
            let informer = Informer::new(client.clone(), shared.clone(), followed);
            rt::task::spawn("informer", informer.run()).abort_on_drop()
        };
        let _tasks = Arc::new(kinds.into_values().map(start).collect());
        Following { shared, _tasks }
    }
}

/// What the informers and their users share.
struct Shared {
    known: Mutex<Known>,
    /// A kind was listed for the first time.
    changed: Notify,
    /// Per kind: somebody waits for what the watch should have brought long ago.
    nudges: BTreeMap<(&'static str, &'static str), Notify>,
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Informers that run.
#[derive(Clone)]
pub struct Following {
    shared: Arc<Shared>,
    /// Ends with the last clone.
    _tasks: Arc<Vec<AbortOnDrop<()>>>,
}

/// What informers know, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowingView {
    /// Per kind that is followed, in order of group and kind.
    pub kinds: Vec<KindView>,
}

/// What the informer of one kind knows, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindView {
    /// Which kind.
    pub resource: &'static Resource,
    /// Whether it was listed.
    pub synced: bool,
    /// Up to which revision everything is known.
    pub revision: i64,
    /// How many objects.
    pub objects: usize,
    /// How often it was listed.
    pub lists: u64,
    /// How many events changed the cache.
    pub events: u64,
    /// How many events were older than the cache.
    pub stale: u64,
}

impl Following {
    /// What is known now: a value that no longer changes.
    pub fn caches(&self) -> Caches {
        self.shared.known().caches()
    }

    /// Waits until every kind was listed once.
    pub async fn synced(&self) {
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.shared.known().synced() {
                return;
            }
            changed.await;
        }
    }

    /// Tells of changes of every kind from now on, and of everything that is known already.
    pub fn subscribe(&self) -> Subscription {
        self.subscription(None)
    }

    /// Tells of changes of some kinds from now on, and of everything that is known of them already.
    pub fn subscribe_to(&self, resources: &[&'static Resource]) -> Subscription {
        self.subscription(Some(resources))
    }

    fn subscription(&self, resources: Option<&[&'static Resource]>) -> Subscription {
        let notify = Arc::new(Notify::new());
        let number = self.shared.known().subscribe(resources, notify.clone());
        Subscription { following: self.clone(), number, notify }
    }

    /// Waits until everything up to `revision` is known of a kind. Returns at once for one that is not followed.
    pub async fn seen(&self, resource: &'static Resource, revision: i64) {
        let wait = self.shared.known().wait_revision(resource, revision);
        self.wait(resource, wait).await;
    }

    /// Waits until the object of this UID is known to be gone, or to be going. Returns at once for a kind that is not
    /// followed.
    pub async fn gone(&self, resource: &'static Resource, namespace: &str, name: &str, uid: &str) {
        let wait = self.shared.known().wait_gone(resource, namespace, name, uid);
        self.wait(resource, wait).await;
    }

    async fn wait(&self, resource: &'static Resource, wait: Option<oneshot::Receiver<()>>) {
        let Some(mut wait) = wait else { return };
        while timeout(LAG_LIMIT, &mut wait).await.is_err() {
            sometimes!("watch lags behind an own write");
            if let Some(nudge) = self.shared.nudges.get(&(resource.group, resource.kind)) {
                nudge.notify_one();
            }
        }
    }

    /// A plain snapshot for whoever observes.
    pub fn view(&self) -> FollowingView {
        let known = self.shared.known();
        let view = |(resource, tally): (&'static Resource, Tally)| KindView {
            resource,
            synced: tally.synced,
            revision: known.revision(resource),
            objects: known.count(resource),
            lists: tally.lists,
            events: tally.events,
            stale: tally.stale,
        };
        FollowingView { kinds: known.tallies().map(view).collect() }
    }
}

/// Tells of changes.
pub struct Subscription {
    following: Following,
    number: u64,
    notify: Arc<Notify>,
}

impl Subscription {
    /// What changed since the last call: at least one change, per object the sum of what happened, in the order in which
    /// objects first changed. The first batch has everything that was known at the subscription. Whatever it tells of is
    /// in [`Following::caches`]. May be dropped while it waits.
    pub async fn next(&mut self) -> Vec<Change> {
        loop {
            let changes = self.following.shared.known().take(self.number);
            if !changes.is_empty() {
                return changes;
            }
            self.notify.notified().await;
        }
    }

    /// The informers that it tells of.
    pub fn following(&self) -> &Following {
        &self.following
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.following.shared.known().unsubscribe(self.number);
    }
}

/// The informer of one kind.
struct Informer {
    client: Client,
    shared: Arc<Shared>,
    codec: &'static Codec,
    resource: &'static Resource,
    field_selector: String,
    random: Random,
    backoff: Backoff,
}

/// Why a watch is over.
enum Ended {
    /// Go on from the last version.
    Again,
    /// Go on from the last version, after a while.
    Failed,
    /// The last version is gone.
    Expired,
}

impl Informer {
    fn new(client: Client, shared: Arc<Shared>, followed: Followed) -> Self {
        let Followed { codec, field_selector } = followed;
        let random = rt::random::stream("informer");
        let backoff = Backoff::new(RETRY_BASE, RETRY_LIMIT);
        Self { client, shared, codec, resource: (codec.resource)(), field_selector, random, backoff }
    }

    async fn run(mut self) {
        loop {
            match self.list_once().await {
                Ok(()) => {
                    self.backoff.reset();
                    self.watch().await;
                }
                Err(error) => {
                    tracing::debug!(kind = self.codec.kind, %error, "listing failed");
                    self.pause().await;
                }
            }
        }
    }

    async fn list_once(&self) -> Result<(), Error> {
        let list = self.list().await?;
        let replaced = self.shared.known().replace(self.resource, list);
        if let Err(behind) = replaced {
            sometimes!("list was older than the cache");
            return Err(Error::Malformed(format!("the list is older than what is known: {behind:?}")));
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// All pages. The first time the list is consistent; later, one that is not older than the cache will do.
    async fn list(&self) -> Result<List<Erased>, Error> {
        let floor = self.shared.known().revision(self.resource);
        let mut options =
            ListOptions { field_selector: self.field_selector.clone(), limit: PAGE, ..ListOptions::default() };
        if floor > 0 {
            options.resource_version = floor.to_string();
            options.resource_version_match = "NotOlderThan".to_owned();
        }
        let mut whole = self.client.list_held(self.codec, "", &options).await?;
        // A page belongs to the version that its token names.
        options.resource_version.clear();
        options.resource_version_match.clear();
        while let Some(token) = whole.continue_token.take() {
            options.continue_token = token;
            let page = self.client.list_held(self.codec, "", &options).await?;
            whole.items.extend(page.items);
            whole.resource_version = whole.resource_version.max(page.resource_version);
            whole.continue_token = page.continue_token;
        }
        Ok(whole)
    }

    /// Watches until the last version is gone.
    async fn watch(&mut self) {
        loop {
            let began = Instant::now();
            let ended = self.watch_once().await;
            if began.elapsed() >= WORKED {
                self.backoff.reset();
            }
            match ended {
                Ended::Again if began.elapsed() >= WORKED => {}
                Ended::Again | Ended::Failed => self.pause().await,
                Ended::Expired => {
                    sometimes!("informer lists anew");
                    return;
                }
            }
        }
    }

    async fn watch_once(&mut self) -> Ended {
        let options = WatchOptions {
            field_selector: self.field_selector.clone(),
            resource_version: self.shared.known().resume(self.resource).to_string(),
            timeout_s: u32::try_from(WATCH_S + self.random.below(WATCH_S)).unwrap_or(u32::MAX),
            ..WatchOptions::default()
        };
        let mut stream = match self.client.watch_held(self.codec, "", &options).await {
            Ok(stream) => stream,
            Err(error) => return ended(&error),
        };
        loop {
            let event = tokio::select! {
                biased;
                event = stream.next() => event,
                () = self.nudged() => return self.leave(&stream),
            };
            match event {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    self.shared.known().put(self.resource, object);
                }
                Some(Ok(WatchEvent::Deleted(object))) => self.shared.known().delete(self.resource, &*object),
                Some(Ok(WatchEvent::Bookmark(revision))) => self.shared.known().bookmark(self.resource, revision),
                Some(Err(error)) => {
                    tracing::debug!(kind = self.codec.kind, %error, "a watch failed");
                    if error.status().is_none() {
                        self.client.distrust(stream.endpoint());
                    }
                    return ended(&error);
                }
                None => return Ended::Again,
            }
        }
    }

    async fn nudged(&self) {
        match self.shared.nudges.get(&(self.resource.group, self.resource.kind)) {
            Some(nudge) => nudge.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Leaves an API server whose watch lags.
    fn leave(&self, stream: &Events) -> Ended {
        self.client.distrust(stream.endpoint());
        Ended::Failed
    }

    async fn pause(&mut self) {
        rt::time::sleep(self.backoff.next(&mut self.random)).await;
    }
}

fn ended(error: &Error) -> Ended {
    match error {
        Error::Status(_) if error.is_expired() => Ended::Expired,
        // It would be told again from the same version; a list leaves out what cannot be read.
        Error::Malformed(_) => Ended::Expired,
        Error::Status(_) | Error::Unreachable(_) | Error::Unknown(_) => Ended::Failed,
    }
}
