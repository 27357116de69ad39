//! The history of objects: what each revision changed, parsed once.

use crate::log::Log;
use api::ObjectMeta;
use api::apps::v1 as apps;
use api::coordination::v1 as coordination;
use api::core::v1 as core;
use api::discovery::v1::EndpointSlice;
use api::policy::v1 as policy;
use faults::Ns;
use record::{Unpacker, WatchEvent};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
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
    EndpointSlice(Box<EndpointSlice>),
    ReplicaSet(ReplicaSet),
    Deployment(Deployment),
    Budget(Budget),
    Lease(Lease),
    Other(Rc<ObjectMeta>),
}

pub(crate) type Pod = Parts<core::Pod>;
pub(crate) type Node = Parts<core::Node>;
pub(crate) type Namespace = Parts<core::Namespace>;
pub(crate) type Service = Parts<core::Service>;
pub(crate) type ReplicaSet = Parts<apps::ReplicaSet>;
pub(crate) type Deployment = Parts<apps::Deployment>;
pub(crate) type Budget = Parts<policy::PodDisruptionBudget>;
pub(crate) type Lease = Parts<coordination::Lease>;

/// An object of kind `K`. Most changes are of its status alone: each part is in memory once for all revisions between which
/// it did not change. Who manages which field is left out.
#[derive(Clone, Debug)]
pub(crate) struct Parts<K: Parted> {
    pub(crate) metadata: Rc<ObjectMeta>,
    pub(crate) spec: Option<Rc<K::Spec>>,
    pub(crate) status: Option<Rc<K::Status>>,
}

/// A kind whose objects come in [`Parts`].
pub(crate) trait Parted: DeserializeOwned {
    type Spec: Clone + Debug + PartialEq;
    type Status: Clone + Debug + PartialEq;

    /// Metadata, spec and status.
    fn into_parts(self) -> (ObjectMeta, Option<Self::Spec>, Option<Self::Status>);
}

macro_rules! parted {
    ($($kind:ty: $spec:ty, $status:ty;)*) => {$(
        impl Parted for $kind {
            type Spec = $spec;
            type Status = $status;

            fn into_parts(self) -> (ObjectMeta, Option<$spec>, Option<$status>) {
                (self.metadata, self.spec, self.status)
            }
        }
    )*};
}

parted! {
    core::Pod: core::PodSpec, core::PodStatus;
    core::Node: core::NodeSpec, core::NodeStatus;
    core::Namespace: core::NamespaceSpec, core::NamespaceStatus;
    core::Service: core::ServiceSpec, core::ServiceStatus;
    apps::ReplicaSet: apps::ReplicaSetSpec, apps::ReplicaSetStatus;
    apps::Deployment: apps::DeploymentSpec, apps::DeploymentStatus;
    policy::PodDisruptionBudget: policy::PodDisruptionBudgetSpec, policy::PodDisruptionBudgetStatus;
}

impl Parted for coordination::Lease {
    type Spec = coordination::LeaseSpec;
    /// There is none.
    type Status = ();

    fn into_parts(self) -> (ObjectMeta, Option<Self::Spec>, Option<()>) {
        (self.metadata, self.spec, None)
    }
}

impl<K: Parted> Parts<K> {
    /// Empty in a tale that gives it none.
    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Empty for an object of the whole cluster.
    pub(crate) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.metadata.labels.as_ref().unwrap_or(&NONE)
    }

    /// Parts equal to those of `before` are those of `before`. `None` for what does not read as its kind.
    pub(crate) fn parse(json: &str, before: Option<&Self>) -> Option<Self> {
        // As `api` reads it, whose code is used then.
        let (metadata, spec, status) = serde_json::from_slice::<K>(json.as_bytes()).ok()?.into_parts();
        let before_spec = before.and_then(|before| before.spec.as_ref());
        let before_status = before.and_then(|before| before.status.as_ref());
        Some(Self {
            metadata: shared(unmanaged(metadata), before.map(|before| &before.metadata)),
            spec: spec.map(|spec| shared(spec, before_spec)),
            status: status.map(|status| shared(status, before_status)),
        })
    }
}

/// `part`, or what is equal to it. Lists that were read have room to grow, often for thrice as much as is in them; a clone's
/// have none.
fn shared<T: Clone + PartialEq>(part: T, before: Option<&Rc<T>>) -> Rc<T> {
    before.filter(|before| ***before == part).map_or_else(|| Rc::new(part.clone()), Rc::clone)
}

/// Without the record of who manages which field, which is most of it.
fn unmanaged(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta { managed_fields: None, ..metadata }
}

impl Object {
    /// Its metadata.
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::Pod(object) => &object.metadata,
            Object::Node(object) => &object.metadata,
            Object::Namespace(object) => &object.metadata,
            Object::Service(object) => &object.metadata,
            Object::EndpointSlice(object) => &object.metadata,
            Object::ReplicaSet(object) => &object.metadata,
            Object::Deployment(object) => &object.metadata,
            Object::Budget(object) => &object.metadata,
            Object::Lease(object) => &object.metadata,
            Object::Other(metadata) => metadata,
        }
    }

    /// Its UID.
    pub(crate) fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// What is stored at `key`, which held `before`. An object that does not read as its kind is as one of an unknown kind:
    /// the API server is judged by what it stored, not trusted to have stored well.
    fn parse(key: &str, value: &str, before: Option<&Self>) -> Self {
        let json = value.trim_start_matches(|first: char| first != '{');
        let resource = key.strip_prefix(REGISTRY).and_then(|rest| rest.split('/').nth(1)).unwrap_or_default();
        macro_rules! parts {
            ($kind:ident) => {{
                let before =
                    before.and_then(|before| if let Object::$kind(before) = before { Some(before) } else { None });
                Parts::parse(json, before).map(Object::$kind)
            }};
        }
        let known = match resource {
            "pods" => parts!(Pod),
            "nodes" => parts!(Node),
            "namespaces" => parts!(Namespace),
            "services" => parts!(Service),
            "endpointslices" => serde_json::from_slice::<EndpointSlice>(json.as_bytes()).ok().map(|slice| {
                let metadata = unmanaged(slice.metadata);
                Object::EndpointSlice(Box::new(EndpointSlice { metadata, ..slice }.clone()))
            }),
            "replicasets" => parts!(ReplicaSet),
            "deployments" => parts!(Deployment),
            "poddisruptionbudgets" => parts!(Budget),
            "leases" => parts!(Lease),
            _ => None,
        };
        known.unwrap_or_else(|| {
            let bare: Bare = serde_json::from_slice(json.as_bytes()).unwrap_or_default();
            let before = before.and_then(|before| if let Object::Other(before) = before { Some(before) } else { None });
            Object::Other(shared(unmanaged(bare.metadata), before))
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
    let (mut commits, mut values) = (Vec::new(), Unpacker::default());
    for entry in &log.entries {
        for event in entry.events {
            let (key, value) = match event {
                WatchEvent::Put(kv) => (kv.key.as_str(), Some(&kv.value)),
                WatchEvent::Delete { key, .. } => (key.as_str(), None),
            };
            if !key.starts_with(REGISTRY) {
                continue;
            }
            let before = known.remove(key);
            let old = before.as_ref().map(|(_, old)| &**old);
            let new = value.map(|value| Rc::new(Object::parse(key, values.text(value), old)));
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
