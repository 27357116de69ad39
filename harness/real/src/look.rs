//! Looks at running servers over their own API, as an administrator: what the store's member holds, what components know.
//!
//! ```text
//! per server, every SAMPLE_NS: /debug/history/N -> Applied, once per revision, by the first to show it; State
//!             every QUEUES_EVERY: /debug/view   -> the longest queues
//! at the end:                     /debug/caches -> what each component that leads knows
//! ```
//!
//! **Invariant:** each revision is told once (`the_first_server_to_show_a_revision_tells_it`).

use crate::clock::Clock;
use client::{Client, ClientConfig, JSON, Method};
use faults::Ns;
use record::{Cached, KeyValue, Observation, SAMPLE_NS, WatchEvent};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a server may take to answer: one that is stopped never does.
const PATIENCE: Duration = Duration::from_secs(2);

/// From look to look at the queues: a key that waits too long does so for minutes.
const QUEUES_EVERY: Duration = Duration::from_secs(5);

/// What was seen so far. Clones are one.
#[derive(Clone)]
pub(crate) struct Looks {
    seen: Arc<Mutex<Seen>>,
    clock: Clock,
}

/// One server as it is looked at.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) member: u32,
    client: Client,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) observations: Vec<Observation>,
    /// Of each queue, by process: the most keys and the longest wait.
    pub(crate) queues: BTreeMap<String, (u64, Ns)>,
    /// Up to which revision all is told.
    revision: i64,
    /// Of each member: up to which Raft index it was last seen to have applied, and when that last changed.
    applied: BTreeMap<u32, (u64, Ns)>,
}

/// What a server answers about its history.
#[derive(Debug, Deserialize)]
struct History {
    store: Store,
    changes: Vec<Changes>,
}

#[derive(Debug, Deserialize)]
struct Store {
    applied: u64,
    revision: i64,
    /// In hexadecimal.
    state_hash: String,
}

#[derive(Debug, Deserialize)]
struct Changes {
    revision: i64,
    events: Vec<Changed>,
}

#[derive(Debug, Deserialize)]
struct Changed {
    key: String,
    value: Option<String>,
    create_revision: i64,
    version: i64,
    lease: i64,
}

#[derive(Debug, Deserialize)]
struct View {
    queues: BTreeMap<String, BTreeMap<String, Queue>>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    length: u64,
    oldest_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Known {
    prefixes: Vec<String>,
    objects: BTreeMap<String, i64>,
}

impl Server {
    /// The server number `member`, reached as `admin` says.
    pub(crate) fn new(admin: &ClientConfig, member: u32) -> Self {
        let endpoints = admin.endpoints.get(member as usize).cloned().into_iter().collect();
        let config = ClientConfig { endpoints, request_timeout: PATIENCE, max_attempts: 1, ..admin.clone() };
        Self { member, client: Client::new(config).with_limits(PATIENCE, 1) }
    }

    /// What it answers; `None` if it does not.
    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let answer = self.client.request(Method::GET, path, JSON, Vec::new().into()).await.ok()?;
        if answer.code != 200 {
            return None;
        }
        serde_json::from_slice(&answer.body).ok()
    }

    /// What each of its components knows, by the component's name after the server's; `None` if it does not answer.
    pub(crate) async fn caches(&self) -> Option<BTreeMap<String, Cached>> {
        let known: BTreeMap<String, Known> = self.ask("/debug/caches").await?;
        let name = |component: String| format!("s{}/{component}", self.member + 1);
        let cached = |known: Known| Cached { prefixes: known.prefixes, objects: known.objects };
        Some(known.into_iter().map(|(component, known)| (name(component), cached(known))).collect())
    }
}

impl Looks {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { seen: Arc::default(), clock }
    }

    /// Looks at a server for ever.
    pub(crate) async fn follow(self, server: Server) {
        loop {
            self.look(&server).await;
            rt::time::sleep(Duration::from_nanos(SAMPLE_NS)).await;
        }
    }

    /// Looks at its queues for ever.
    pub(crate) async fn follow_queues(self, server: Server) {
        loop {
            self.look_at_queues(&server).await;
            rt::time::sleep(QUEUES_EVERY).await;
        }
    }

    /// Looks once, until nothing is left that is new. Whether it answered.
    pub(crate) async fn look(&self, server: &Server) -> bool {
        loop {
            let path = format!("/debug/history/{}", self.seen().revision + 1);
            let Some(history) = server.ask::<History>(&path).await else { return false };
            if !self.seen().take(self.clock.now_ns(), server.member, history) {
                return true;
            }
        }
    }

    /// Looks once at the queues.
    pub(crate) async fn look_at_queues(&self, server: &Server) {
        let Some(view) = server.ask::<View>("/debug/view").await else { return };
        let mut seen = self.seen();
        for (component, queues) in view.queues {
            for (queue, Queue { length, oldest_ms }) in queues {
                let name = format!("s{}/{component}/{queue}", server.member + 1);
                let most = seen.queues.entry(name).or_default();
                *most = (most.0.max(length), most.1.max(oldest_ms * 1_000_000));
            }
        }
    }

    /// Whether a member was seen to apply something within so much time before now.
    pub(crate) fn at_work(&self, member: u32, ns: Ns) -> bool {
        let last = self.seen().applied.get(&member).map(|(_, at_ns)| *at_ns);
        last.is_some_and(|last_ns| last_ns + ns >= self.clock.now_ns())
    }

    /// Everything seen so far, which is forgotten here.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen())
    }

    /// Nobody panics while holding it, and what there is stays good.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// A server answered this. Whether it has more to tell.
    fn take(&mut self, at_ns: Ns, member: u32, History { store, changes }: History) -> bool {
        let before = self.applied.get(&member).map_or(0, |(applied, _)| *applied);
        let known = self.revision;
        for Changes { revision, events } in changes.into_iter().filter(|changes| changes.revision > known) {
            let events = events.into_iter().map(|changed| changed.event(revision)).collect();
            self.observations.push(Observation::Applied { at_ns, member, revision, events });
            self.revision = revision;
        }
        if store.applied != before {
            self.applied.insert(member, (store.applied, at_ns));
            if let Ok(hash) = u64::from_str_radix(&store.state_hash, 16) {
                let (revision, applied) = (store.revision, store.applied);
                self.observations.push(Observation::State { at_ns, member, revision, applied, hash });
            }
        }
        self.revision > known && self.revision < store.revision
    }
}

impl Changed {
    fn event(self, revision: i64) -> WatchEvent {
        let Changed { key, value, create_revision, version, lease } = self;
        match value {
            Some(value) => WatchEvent::Put(KeyValue {
                key,
                value: value.into(),
                create_revision,
                mod_revision: revision,
                version,
                lease,
            }),
            None => WatchEvent::Delete { key, mod_revision: revision },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that has applied up to this index and revision and shows these revisions, each of which deletes "k".
    fn history(applied: u64, revision: i64, shown: std::ops::RangeInclusive<i64>) -> History {
        let changes: Vec<String> = shown
            .map(|revision| {
                let event = r#"{"key":"k","value":null,"create_revision":0,"version":0,"lease":0}"#;
                format!(r#"{{"revision":{revision},"events":[{event}]}}"#)
            })
            .collect();
        let store = format!(r#"{{"applied":{applied},"revision":{revision},"state_hash":"00ff"}}"#);
        serde_json::from_str(&format!(r#"{{"store":{store},"changes":[{}]}}"#, changes.join(","))).unwrap()
    }

    fn shapes(seen: &mut Seen) -> Vec<String> {
        let shape = |observation: Observation| match observation {
            Observation::Applied { at_ns, member, revision, .. } => format!("{at_ns} s{member} r{revision}"),
            Observation::State { at_ns, member, revision, applied, hash } => {
                format!("{at_ns} s{member} at {applied}: r{revision} #{hash}")
            }
            other => panic!("{other:?}"),
        };
        seen.observations.drain(..).map(shape).collect()
    }

    #[test]
    fn the_first_server_to_show_a_revision_tells_it() {
        let mut seen = Seen::default();
        assert!(!seen.take(5, 0, history(8, 3, 2..=3)));
        assert_eq!(shapes(&mut seen), ["5 s0 r2", "5 s0 r3", "5 s0 at 8: r3 #255"]);
        assert!(!seen.take(6, 1, history(9, 4, 3..=4)));
        assert_eq!(shapes(&mut seen), ["6 s1 r4", "6 s1 at 9: r4 #255"]);
        // Nothing new; and one that is behind is seen too.
        assert!(!seen.take(7, 1, history(9, 4, 4..=4)));
        assert!(!seen.take(8, 2, history(7, 2, 2..=2)));
        assert_eq!(shapes(&mut seen), ["8 s2 at 7: r2 #255"]);
    }

    #[test]
    fn what_was_not_told_at_once_is_asked_for() {
        let mut seen = Seen::default();
        assert!(seen.take(5, 0, history(8, 9, 2..=5)));
        assert!(!seen.take(5, 0, history(8, 9, 6..=9)));
        assert_eq!(seen.revision, 9);
    }
}
