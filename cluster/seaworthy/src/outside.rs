//! What a server shows besides the API: `/metrics`, `/debug/view`, and how a cluster is joined.

use crate::control::Components;
use crate::join::{self, Shared};
use crate::metrics::{self, Facts};
use api::Status;
use apiserver::{Asked, BoxFuture, Extension, JOIN, Told};
use rt::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Weak;
use store::server::Local;

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
    /// By component and queue: keys that wait. Nothing of components that do not lead.
    queues: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

#[derive(Serialize)]
struct StoreView {
    member: u64,
    term: u64,
    role: String,
    leader: u64,
    commit: u64,
    applied: u64,
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

impl Outside {
    fn api(&self) -> apiserver::View {
        self.api.upgrade().map(|core| core.view()).unwrap_or_default()
    }

    fn facts(&self) -> Facts {
        let (store, api) = (self.store.view(), self.api());
        let queues = self.components.queues().into_values().flatten().collect();
        Facts {
            requests: api.requests,
            watches: api.open_watches,
            watch_events: api.events,
            connections: api.connections,
            leader: (store.leader != 0, store.leader == store.member),
            proposals: (store.commit, store.applied),
            keys: (store.keys, store.bytes),
            revisions: (store.revision, store.compacted_revision),
            queues,
        }
    }

    fn view(&self) -> ServerView {
        let (store, api) = (self.store.view(), self.api());
        ServerView {
            store: StoreView {
                member: store.member,
                term: store.term,
                role: format!("{:?}", store.role),
                leader: store.leader,
                commit: store.commit,
                applied: store.applied,
                revision: store.revision,
                compacted_revision: store.compacted_revision,
                state_hash: format!("{:016x}", store.state_hash),
                keys: store.keys,
                bytes: store.bytes,
                leases: store.leases.len(),
            },
            api: ApiView {
                connections: api.connections,
                open_watches: api.open_watches,
                events: api.events,
                revision: api.revision,
            },
            queues: self.components.queues(),
        }
    }
}

fn json(value: &impl Serialize) -> Result<Told, Status> {
    let body = serde_json::to_vec(value).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Told { content_type: "application/json", body })
}
