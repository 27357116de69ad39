//! The twin of a trial: the same without faults, in which the writes of users that took effect are made again.
//!
//! ```text
//! struck trial -> its effective writes, in order of revision -> twin -> Twin -> compared with the struck trial's end
//! ```
//!
//! Compared are counts; never names, UIDs, addresses, nodes or times, which differ between any two runs.

use faults::Ns;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A write of a user that took effect, as a request that has the same effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveWrite {
    /// When its effect was first seen.
    pub at_ns: Ns,
    /// What a user would call it: `create`, `change`, `delete`.
    pub what: &'static str,
    /// The object, as `resource namespace/name`.
    pub object: String,
    /// HTTP method.
    pub method: &'static str,
    /// Path of the object, or of the collection that it is created in.
    pub path: String,
    /// Of the body.
    pub content_type: &'static str,
    /// As JSON.
    pub body: String,
}

/// What is known of a twin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Twin {
    /// Requests that its API servers answered, per simulated second.
    pub requests: Vec<u64>,
    /// Whether every write took effect there too. If not, its end says nothing of the struck trial's.
    pub complete: bool,
    /// Where it arrived.
    pub end: Arrival,
}

/// Where a trial's objects arrived, as far as two trials of the same writes must agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// Of each Deployment whose template can run and that is neither paused nor going, by `namespace/name`: its active
    /// pods by the hash of their template, all of them and those that are ready.
    pub deployments: BTreeMap<String, BTreeMap<String, (u64, u64)>>,
    /// Of each Service with a selector, by `namespace/name`: how many endpoints its slices have as ready.
    pub services: BTreeMap<String, u64>,
    /// Of each namespace: whether nothing of users is left in it.
    pub empty_namespaces: BTreeMap<String, bool>,
}
