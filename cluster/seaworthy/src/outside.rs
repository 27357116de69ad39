//! What a server shows besides the API: how it is, what its store held, and how a cluster is joined.
//!
//! | path | shows |
//! |---|---|
//! | `/metrics` | figures for Prometheus |
//! | `/debug/view` | the server at this moment |
//! | `/debug/history/N` | the store's member at this moment, and what its revisions from `N` on changed, as it is kept |
//! | `/debug/caches` | what each component that leads knows: versions by key |

use crate::control::{ComponentView, Components};
use crate::join::{self, Shared};
use crate::metrics::{self, Facts};
use api::Status;
use apiserver::{Asked, BoxFuture, Extension, JOIN, Told};
use rt::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;
use store::server::{Local, View};
use store::types::{Event, EventKind};

/// Where the history is.
const HISTORY: &str = "/debug/history/";

/// Revisions told at once: some megabytes at most, since most are of one object of a few kilobytes.
const REVISIONS_AT_ONCE: usize = 500;

/// See the module's documentation.
pub(crate) struct Outside {
    /// The store's member.
    pub(crate) store: Local,
    /// Controllers and scheduler.
    pub(crate) components: Components,
    /// The API server, which holds this.
    pub(crate) api: Weak<apiserver::Core>,
    /// For those who join, with the addresses of all API servers; nobody can where there is none.
    pub(crate) shared: Option<(Shared, Vec<String>)>,
}

impl Extension for Outside {
    fn answer<'a>(&'a self, asked: Asked<'a>) -> Option<BoxFuture<'a, Result<Told, Status>>> {
        let told = match (asked.method, asked.path) {
            ("GET", "/metrics") => {
                Ok(Told { content_type: metrics::CONTENT_TYPE, body: metrics::text(&self.facts()).into_bytes() })
            }
            ("GET", "/debug/view") => json(&self.view()),
            ("GET", "/debug/caches") => json(&self.caches()),
            ("GET", path) if path.starts_with(HISTORY) => {
                let from = path[HISTORY.len()..].parse().ok()?;
                json(&History {
                    store: StoreView::of(&self.store.view()),
                    changes: self.store.changes(from, REVISIONS_AT_ONCE).into_iter().map(changes).collect(),
                })
            }
            ("POST", path) if path.starts_with(JOIN) => {
                let (shared, servers) = self.shared.as_ref()?;
                join::welcome(shared, servers, asked.user, path, asked.body, Timestamp::now())
                    .and_then(|welcome| json(&welcome))
            }
            _ => return None,
        };
        Some(Box::pin(std::future::ready(told)))
    }
}

/// A server at one moment, as plain data.
#[derive(Serialize)]
struct ServerView {
    store: StoreView,
    api: ApiView,
    /// By component and queue. Nothing of components that do not lead.
    queues: BTreeMap<&'static str, BTreeMap<String, QueueView>>,
}

#[derive(Serialize)]
struct QueueView {
    /// Keys that wait.
    length: u64,
    /// For how long the first of them has been due.
    oldest_ms: u64,
}

#[derive(Serialize)]
struct History {
    store: StoreView,
    /// In order of revision. What is compacted is missing.
    changes: Vec<Changes>,
}

/// What a revision changed.
#[derive(Serialize)]
struct Changes {
    revision: i64,
    events: Vec<Changed>,
}

#[derive(Serialize)]
struct Changed {
    key: String,
    /// `None` if the key was removed.
    value: Option<String>,
    create_revision: i64,
    version: i64,
    lease: i64,
}

/// What a component knows.
#[derive(Serialize)]
struct Known {
    /// The kinds that it knows wholly, as prefixes of keys.
    prefixes: Vec<String>,
    /// Versions of objects by key.
    objects: BTreeMap<String, i64>,
}

#[derive(Serialize)]
struct StoreView {
    member: u64,
    term: u64,
    role: String,
    leader: u64,
    commit: u64,
    applied: u64,
    format: u8,
    revision: i64,
    compacted_revision: i64,
    state_hash: String,
    keys: u64,
    bytes: u64,
    leases: usize,
}

#[derive(Serialize)]
struct ApiView {
    connections: u64,
    open_watches: u64,
    events: u64,
    revision: i64,
}

impl StoreView {
    fn of(view: &View) -> Self {
        Self {
            member: view.member,
            term: view.term,
            role: format!("{:?}", view.role),
            leader: view.leader,
            commit: view.commit,
            applied: view.applied,
            format: view.format.number(),
            revision: view.revision,
            compacted_revision: view.compacted_revision,
            state_hash: format!("{:016x}", view.state_hash),
            keys: view.keys,
            bytes: view.bytes,
            leases: view.leases.len(),
        }
    }
}

fn changes((revision, events): (i64, Vec<Event>)) -> Changes {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let changed = |Event { kind, kv, .. }: Event| Changed {
        key: text(&kv.key),
        value: (kind == EventKind::Put).then(|| text(&kv.value)),
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
    };
    Changes { revision, events: events.into_iter().map(changed).collect() }
}

impl Outside {
    fn api(&self) -> apiserver::View {
        self.api.upgrade().map(|core| core.view()).unwrap_or_default()
    }

    fn facts(&self) -> Facts {
        let (store, api) = (self.store.view(), self.api());
        let queues = self.components.view().into_values().flat_map(|component| component.queues);
        Facts {
            requests: api.requests,
            watches: api.open_watches,
            watch_events: api.events,
            connections: api.connections,
            levels: api.levels,
            leader: (store.leader != 0, store.leader == store.member),
            proposals: (store.commit, store.applied),
            keys: (store.keys, store.bytes),
            revisions: (store.revision, store.compacted_revision),
            queues: queues.map(|(queue, (length, _))| (queue, length)).collect(),
        }
    }

    fn caches(&self) -> BTreeMap<&'static str, Known> {
        let known = |view: ComponentView| {
            let (prefixes, objects) = view.versions();
            Known { prefixes, objects }
        };
        self.components.view().into_iter().map(|(name, view)| (name, known(view))).collect()
    }

    fn view(&self) -> ServerView {
        let api = self.api();
        let queue = |(queue, (length, oldest)): (String, (u64, Duration))| {
            (queue, QueueView { length, oldest_ms: oldest.as_millis().try_into().unwrap_or(u64::MAX) })
        };
        let queues = |component: ComponentView| component.queues.into_iter().map(queue).collect();
        ServerView {
            store: StoreView::of(&self.store.view()),
            api: ApiView {
                connections: api.connections,
                open_watches: api.open_watches,
                events: api.events,
                revision: api.revision,
            },
            queues: self.components.view().into_iter().map(|(name, view)| (name, queues(view))).collect(),
        }
    }
}

fn json(value: &impl Serialize) -> Result<Told, Status> {
    let body = serde_json::to_vec(value).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Told { content_type: "application/json", body })
}
