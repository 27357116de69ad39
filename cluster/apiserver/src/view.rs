//! What an API server has done, for those who look at it from outside.

use crate::core::Core;
use crate::fairness::LevelView;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// An API server as it is at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Requests answered, by verb, resource (with subresource) and HTTP code.
    pub requests: BTreeMap<(String, String, u16), u64>,
    /// Watches that are open.
    pub open_watches: u64,
    /// Events sent to watches.
    pub events: u64,
    /// Connections that are open.
    pub connections: u64,
    /// The store's revision here.
    pub revision: i64,
    /// By priority level: what is answered, and what waits for that.
    pub levels: BTreeMap<&'static str, LevelView>,
}

/// Counts.
#[derive(Debug, Default)]
pub struct Counters {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    /// Watches that are open.
    pub open_watches: AtomicU64,
    /// Events sent to watches.
    pub events: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicU64,
}

impl Counters {
    /// One more request was answered. What is counted is bounded: verbs, resources and codes are.
    pub fn answered(&self, verb: &'static str, resource: String, code: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((verb, resource, code)).or_default() += 1;
    }

    /// All of them.
    pub fn view(&self, revision: i64, levels: BTreeMap<&'static str, LevelView>) -> View {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = |((verb, resource, code), count): (&(&str, String, u16), &u64)| {
            (((*verb).to_owned(), resource.clone(), *code), *count)
        };
        View {
            requests: requests.iter().map(owned).collect(),
            open_watches: self.open_watches.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            revision,
            levels,
        }
    }
}

/// Counts something up while it lives.
#[derive(Debug)]
pub struct Held {
    core: Arc<Core>,
    which: fn(&Counters) -> &AtomicU64,
}

impl Held {
    /// From now on.
    pub fn new(core: Arc<Core>, which: fn(&Counters) -> &AtomicU64) -> Self {
        which(&core.counters).fetch_add(1, Ordering::Relaxed);
        Self { core, which }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.which)(&self.core.counters).fetch_sub(1, Ordering::Relaxed);
    }
}
