//! The history of objects: what each revision changed, parsed once.

use crate::log::Log;
use api::apps::v1::{Deployment, ReplicaSet};
use api::coordination::v1::Lease;
use api::core::v1::{Endpoints, Namespace, Node, Pod, Service};
use api::discovery::v1::EndpointSlice;
use api::policy::v1::PodDisruptionBudget;
use api::{ObjectMeta, k8s_openapi};
use faults::Ns;
use record::WatchEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Where objects are kept.
pub(crate) const REGISTRY: &str = "/registry/";

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// When it was first seen.
    pub(crate) at_ns: Ns,
    /// It may have happened from this time on.
    pub(crate) since_ns: Ns,
    pub(crate) revision: i64,
    /// Registry key, `/registry/group/resource/namespace/name`.
    pub(crate) key: Rc<str>,
    /// What was there before.
    pub(crate) old: Option<Rc<Object>>,
    /// What is there from now on; `None` for a deletion.
    pub(crate) new: Option<Rc<Object>>,
}

/// An object as stored; kinds that no checker looks into are known by their metadata alone.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Pod(Pod),
    Node(Node),
    Namespace(Namespace),
    Service(Service),
    Endpoints(Endpoints),
    EndpointSlice(EndpointSlice),
    ReplicaSet(ReplicaSet),
    Deployment(Deployment),
    Budget(PodDisruptionBudget),
    Lease(Lease),
    Other(ObjectMeta),
}

impl Object {
    /// Its metadata.
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        use k8s_openapi::Metadata as _;
        match self {
            Object::Pod(object) => object.metadata(),
            Object::Node(object) => object.metadata(),
            Object::Namespace(object) => object.metadata(),
            Object::Service(object) => object.metadata(),
            Object::Endpoints(object) => object.metadata(),
            Object::EndpointSlice(object) => object.metadata(),
            Object::ReplicaSet(object) => object.metadata(),
            Object::Deployment(object) => object.metadata(),
            Object::Budget(object) => object.metadata(),
            Object::Lease(object) => object.metadata(),
            Object::Other(metadata) => metadata,
        }
    }

    /// Its UID.
    pub(crate) fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// What is stored at `key`. An object that does not read as its kind is as one of an unknown kind: the API server
    /// is judged by what it stored, not trusted to have stored well.
    fn parse(key: &str, value: &str) -> Self {
        let json = value.trim_start_matches(|first: char| first != '{');
        let resource = key.strip_prefix(REGISTRY).and_then(|rest| rest.split('/').nth(1)).unwrap_or_default();
        fn typed<T: DeserializeOwned>(json: &str, object: fn(T) -> Object) -> Option<Object> {
            // As `api` reads it, whose code is used then.
            serde_json::from_slice(json.as_bytes()).ok().map(object)
        }
        let known = match resource {
            "pods" => typed(json, Object::Pod),
            "nodes" => typed(json, Object::Node),
            "namespaces" => typed(json, Object::Namespace),
            "services" => typed(json, Object::Service),
            "endpoints" => typed(json, Object::Endpoints),
            "endpointslices" => typed(json, Object::EndpointSlice),
            "replicasets" => typed(json, Object::ReplicaSet),
            "deployments" => typed(json, Object::Deployment),
            "poddisruptionbudgets" => typed(json, Object::Budget),
            "leases" => typed(json, Object::Lease),
            _ => None,
        };
        known.unwrap_or_else(|| {
            let bare: Bare = serde_json::from_slice(json.as_bytes()).unwrap_or_default();
            Object::Other(bare.metadata)
        })
    }
}

/// What every object has.
#[derive(Default, Deserialize)]
struct Bare {
    #[serde(default)]
    metadata: ObjectMeta,
}

/// Every change of an object, in order of revision, each seen at most so much later than it happened.
pub(crate) fn commits(log: &Log<'_>, sample_ns: Ns) -> Vec<Commit> {
    let mut known: BTreeMap<&str, (Rc<str>, Rc<Object>)> = BTreeMap::new();
    let mut commits = Vec::new();
    for entry in &log.entries {
        for event in entry.events {
            let (key, value) = match event {
                WatchEvent::Put(kv) => (kv.key.as_str(), Some(kv.value.as_str())),
                WatchEvent::Delete { key, .. } => (key.as_str(), None),
            };
            if !key.starts_with(REGISTRY) {
                continue;
            }
            let new = value.map(|value| Rc::new(Object::parse(key, value)));
            let before = known.remove(key);
            let name: Rc<str> = before.as_ref().map_or_else(|| key.into(), |(name, _)| name.clone());
            if let Some(new) = &new {
                known.insert(key, (name.clone(), new.clone()));
            }
            let old = before.map(|(_, old)| old);
            let since_ns = entry.at_ns.saturating_sub(sample_ns);
            commits.push(Commit { at_ns: entry.at_ns, since_ns, revision: entry.revision, key: name, old, new });
        }
    }
    commits
}
