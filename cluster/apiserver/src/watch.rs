//! Watches: a stream of what happens to a collection, from a version on.
//!
//! ```text
//! no version: ADDED for what is there, then changes     a version: changes after it
//! sendInitialEvents: ADDED for what is there, a bookmark that says so, then changes
//! ```
//!
//! A watch pulls from the hub's feed whenever there is news of its resource, and is made as the client reads it. Bookmarks
//! say up to which version everything was sent; a server that is cut off from the others sends none, so that its clients
//! notice.
//!
//! **Invariant:** a watch is sent every change of what it selects, each once and in order, or ends with 410
//! (`a_watch_tells_all_that_happens_to_what_it_selects`).

use crate::accept::Form;
use crate::core::Core;
use crate::event::{Change, EventType, event_type, line};
use crate::facts::Selector;
use crate::hub::{Pull, Subscription};
use crate::list::{span, too_large};
use crate::model;
use crate::query::{AskedVersion, ListOptions};
use crate::reply::Reply;
use crate::route::Target;
use crate::stored::{Stored, write};
use crate::table;
use crate::view::Held;
use api::{Resource, Status};
use bytes::Bytes;
use rt::time::{Instant, sleep_until};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::mvcc::{Span, Tree};
use tokio::sync::mpsc;

/// A watch that does not say how long it wants to last ends after at least so long, and at most the double: upstream's
/// default. Ends are spread so that clients do not come back all at once.
const MIN_TIMEOUT: Duration = Duration::from_secs(1_800);

/// Events are gathered up to this size before they are handed over.
const MAX_CHUNK: usize = 64 << 10;

/// A watch that has begun.
struct Watch {
    core: Arc<Core>,
    resource: &'static Resource,
    news: Subscription,
    keys: Span,
    selector: Selector,
    form: Form,
    /// The first revision of which something may still have to be sent.
    next: i64,
    /// Whether an event was sent: a Table has its columns in the first one alone.
    begun: bool,
    chunks: mpsc::Sender<Bytes>,
}

/// Why a watch ends.
enum End {
    /// Nobody reads it any more.
    Closed,
    /// It was told of its end.
    Told,
}

/// What a watch begins with.
enum Begin {
    /// Everything that is there, and whether to say when that was all.
    State(Tree, bool),
    /// What comes after this revision.
    After(i64),
}

impl Core {
    /// Begins a watch.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn watch(self: &Arc<Self>, target: &Target, options: &ListOptions, form: Form) -> Result<Reply, Status> {
        model::check_fields(target.resource, &options.fields)?;
        let begin = self.begin(options).await?;
        let core = Arc::clone(self);
        let (first, end) = span(target, options);
        let (resource, options) = (target.resource, options.clone());
        let held = Held::new(Arc::clone(self), |counters| &counters.open_watches);
        let reply = Reply::stream(move |chunks| async move {
            let _held = held;
            let selector = Selector::of(&options);
            let keys = Span::new(first, end);
            let news = core.hub.subscribe(resource, &selector);
            let watch = Watch { core, resource, news, keys, selector, form, next: 0, begun: false, chunks };
            // How it ends is the client's business.
            let _ = watch.run(begin, &options).await;
        });
        Ok(reply)
    }

    async fn begin(&self, options: &ListOptions) -> Result<Begin, Status> {
        match (options.version, options.initial_events) {
            (version, Some(true)) => Ok(Begin::State(self.tree_for(version).await?, options.bookmarks)),
            (AskedVersion::At(version), _) => {
                let mut revision = self.store.latest().revision();
                if revision < version {
                    revision = self.store.tree().await.map_err(crate::store::status)?.revision();
                }
                if revision < version { Err(too_large(version, revision)) } else { Ok(Begin::After(version)) }
            }
            (version, Some(false)) => Ok(Begin::After(self.tree_for(version).await?.revision())),
            (version, None) => Ok(Begin::State(self.tree_for(version).await?, false)),
        }
    }
}

impl Watch {
    async fn run(mut self, begin: Begin, options: &ListOptions) -> Result<(), End> {
        let core = Arc::clone(&self.core);
        let (timeout, mut bookmark_in) = {
            let mut random = core.random();
            let timeout = options.timeout.unwrap_or_else(|| MIN_TIMEOUT + random.jitter(MIN_TIMEOUT));
            // Spread, so that the watches of many clients do not all wake at once.
            (timeout, random.jitter(core.config.bookmark_interval))
        };
        let deadline = Instant::now() + timeout;
        match begin {
            Begin::State(tree, say_so) => {
                self.send_state(&tree).await?;
                self.next = tree.revision() + 1;
                if say_so {
                    self.send_bookmark(true).await?;
                }
            }
            Begin::After(revision) => self.next = revision + 1,
        }
        let feed = self.news.feed();
        let mut alarm = sleep_until(deadline.min(Instant::now() + bookmark_in));
        loop {
            // Made before the look, so that nothing between the two is missed.
            let news = feed.news();
            self.send_changes().await?;
            if core.hub.has_ended() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = news => {}
                () = &mut alarm => {
                    self.send_changes().await?;
                    if options.bookmarks && core.store.is_connected() {
                        self.send_bookmark(false).await?;
                    }
                    let now = Instant::now();
                    if now >= deadline {
                        return Ok(());
                    }
                    bookmark_in = core.config.bookmark_interval;
                    alarm = sleep_until(deadline.min(now + bookmark_in));
                }
            }
        }
    }

    /// Sends everything that is there as if it had just been added.
    async fn send_state(&mut self, tree: &Tree) -> Result<(), End> {
        let versions: Vec<_> = tree.latest(&self.keys).cloned().collect();
        let mut chunk = Vec::new();
        for version in versions {
            let stored = Stored::of(self.resource, &version.kv);
            if self.core.facts.matches(&self.selector, &version.kv.key, &stored) {
                chunk.extend_from_slice(&self.event(EventType::Added, &stored));
            }
            if chunk.len() >= MAX_CHUNK {
                self.send(std::mem::take(&mut chunk).into()).await?;
            }
        }
        self.send(chunk.into()).await
    }

    /// Sends what happened since, until there is nothing more.
    async fn send_changes(&mut self) -> Result<(), End> {
        loop {
            match self.news.pull(self.next, &*self.core.store) {
                Pull::UpToDate => return Ok(()),
                Pull::Changes(changes, next) => {
                    self.send_some(&changes).await?;
                    self.next = next;
                }
                Pull::Overtaken => {
                    mark::sometimes!("API watch overtaken by compaction");
                    let compacted = self.core.store.latest().compacted();
                    let why = format!("too old resource version: {} ({compacted})", self.next - 1);
                    let error = json!({"type": "ERROR", "object": Status::expired(why).body()});
                    self.send(as_line(&error)).await?;
                    return Err(End::Told);
                }
            }
        }
    }

    async fn send_some(&mut self, changes: &[Arc<Change>]) -> Result<(), End> {
        let mut chunk = Vec::new();
        let mut lines = Vec::new();
        for change in changes {
            if !self.keys.contains(&change.key) {
                continue;
            }
            let Some(event) = self.event_of(change) else { continue };
            lines.push(match self.form {
                Form::Object => change.line(event),
                Form::Table(..) | Form::Metadata(_) => {
                    change.shown(event).map_or_else(Bytes::new, |stored| self.event(event, &stored))
                }
            });
            self.core.counters.events.fetch_add(1, Ordering::Relaxed);
        }
        // One alone, which is the commonest, is not copied.
        if let [only] = &lines[..] {
            return self.send(only.clone()).await;
        }
        for line in lines {
            chunk.extend_from_slice(&line);
            if chunk.len() >= MAX_CHUNK {
                self.send(std::mem::take(&mut chunk).into()).await?;
            }
        }
        self.send(chunk.into()).await
    }

    /// What this watch is told of a change.
    fn event_of(&self, change: &Change) -> Option<EventType> {
        if self.selector.is_empty() {
            return event_type(change.before.is_some(), change.after.is_some());
        }
        let [before, after] = change.facts(&self.core.facts);
        let meant =
            |facts: &Option<Arc<crate::facts::Facts>>| facts.as_ref().is_some_and(|facts| self.selector.matches(facts));
        event_type(meant(before), meant(after))
    }

    fn event(&mut self, event: EventType, stored: &Stored) -> Bytes {
        match self.form {
            Form::Object => line(event.name(), stored),
            Form::Table(..) | Form::Metadata(_) => {
                let headers = !std::mem::replace(&mut self.begun, true);
                let converted = table::converted(stored, self.form, headers, self.core.now());
                converted
                    .map_or_else(|_| Bytes::new(), |object| as_line(&json!({"type": event.name(), "object": object})))
            }
        }
    }

    async fn send_bookmark(&mut self, initial_events_end: bool) -> Result<(), End> {
        let mut metadata = json!({"resourceVersion": (self.next - 1).to_string()});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata});
        self.send(as_line(&json!({"type": "BOOKMARK", "object": object}))).await
    }

    async fn send(&self, chunk: Bytes) -> Result<(), End> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.chunks.send(chunk).await.map_err(|_| End::Closed)
    }
}

fn as_line(value: &Value) -> Bytes {
    let mut out = Vec::new();
    write(value, &mut out);
    out.push(b'\n');
    out.into()
}
