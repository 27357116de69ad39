//! The history of objects: what each revision changed, parsed once.

use super::facts::{controller_uid, pod_node};
use crate::log::Log;
use api::ObjectMeta;
use api::apps::v1 as apps;
use api::coordination::v1 as coordination;
use api::core::v1 as core;
use api::discovery::v1::{Endpoint, EndpointSlice};
use api::policy::v1 as policy;
use faults::Ns;
use record::{Unpacker, WatchEvent};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    EndpointSlice(Slice),
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
    type Spec: Part;
    type Status: Part;

    /// Metadata, spec and status.
    fn into_parts(self) -> (ObjectMeta, Option<Self::Spec>, Option<Self::Status>);
}

/// A part of an object, in memory once for all objects that have the same.
pub(crate) trait Part: Clone + Debug + PartialEq {
    /// Takes from `before`, which differs, what is the same in it.
    fn share(&mut self, _before: &Self) {}
}

macro_rules! parted {
    ($($kind:ty: $spec:ty, $status:ty;)*) => {$(
        impl Part for $spec {}
        impl Part for $status {}
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
    core::Node: core::NodeSpec, core::NodeStatus;
    core::Namespace: core::NamespaceSpec, core::NamespaceStatus;
    core::Service: core::ServiceSpec, core::ServiceStatus;
    apps::ReplicaSet: apps::ReplicaSetSpec, apps::ReplicaSetStatus;
    apps::Deployment: apps::DeploymentSpec, apps::DeploymentStatus;
    policy::PodDisruptionBudget: policy::PodDisruptionBudgetSpec, policy::PodDisruptionBudgetStatus;
}

impl Part for ObjectMeta {}
impl Part for core::PodSpec {}
impl Part for coordination::LeaseSpec {}
impl Part for () {}

impl Parted for coordination::Lease {
    type Spec = coordination::LeaseSpec;
    /// There is none.
    type Status = ();

    fn into_parts(self) -> (ObjectMeta, Option<Self::Spec>, Option<()>) {
        (self.metadata, self.spec, None)
    }
}

/// What checkers look at in a pod's status.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    pub(crate) nominated_node_name: Option<String>,
    /// `podIPs` and `podIP`.
    pub(crate) ips: Vec<String>,
    pub(crate) conditions: Vec<Rc<core::PodCondition>>,
    /// Why containers wait, init containers included: the reasons of those that do.
    pub(crate) waiting: Vec<String>,
}

impl Part for PodStatus {
    fn share(&mut self, before: &Self) {
        share_each(&mut self.conditions, &before.conditions);
    }
}

impl Parted for core::Pod {
    type Spec = core::PodSpec;
    type Status = PodStatus;

    fn into_parts(self) -> (ObjectMeta, Option<core::PodSpec>, Option<PodStatus>) {
        let status = self.status.map(|status| {
            let mut ips: Vec<String> = status.pod_ips.into_iter().flatten().map(|ip| ip.ip).collect();
            ips.extend(status.pod_ip.filter(|ip| !ips.contains(ip)));
            let containers = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
            PodStatus {
                phase: status.phase,
                nominated_node_name: status.nominated_node_name,
                ips,
                conditions: status.conditions.into_iter().flatten().map(Rc::new).collect(),
                waiting: containers.filter_map(|container| container.state?.waiting?.reason).collect(),
            }
        });
        (self.metadata, self.spec, status)
    }
}

/// What checkers look at in an EndpointSlice.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) metadata: Rc<ObjectMeta>,
    pub(crate) endpoints: Vec<Rc<Endpoint>>,
}

impl Slice {
    fn parse(json: &str, before: Option<&Self>) -> Option<Self> {
        let EndpointSlice { metadata, endpoints, .. } = serde_json::from_slice(json.as_bytes()).ok()?;
        let mut endpoints: Vec<_> = endpoints.iter().cloned().map(Rc::new).collect();
        if let Some(before) = before {
            share_each(&mut endpoints, &before.endpoints);
        }
        let metadata = shared(unmanaged(metadata), before.map(|before| &before.metadata));
        Some(Self { metadata, endpoints })
    }
}

/// Those that are among `before` too become the same.
fn share_each<T: PartialEq>(some: &mut [Rc<T>], before: &[Rc<T>]) {
    for one in some {
        if let Some(same) = before.iter().find(|before| *before == one) {
            one.clone_from(same);
        }
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
fn shared<T: Part>(part: T, before: Option<&Rc<T>>) -> Rc<T> {
    match before {
        Some(before) if **before == part => Rc::clone(before),
        Some(before) => {
            let mut part = part.clone();
            part.share(before);
            Rc::new(part)
        }
        None => Rc::new(part.clone()),
    }
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
        macro_rules! before {
            ($kind:ident) => {
                before.and_then(|before| if let Object::$kind(before) = before { Some(before) } else { None })
            };
        }
        macro_rules! read {
            ($as:ident, $kind:ident) => {
                $as::parse(json, before!($kind)).map(Object::$kind)
            };
        }
        let known = match resource {
            "pods" => read!(Parts, Pod),
            "nodes" => read!(Parts, Node),
            "namespaces" => read!(Parts, Namespace),
            "services" => read!(Parts, Service),
            "endpointslices" => read!(Slice, EndpointSlice),
            "replicasets" => read!(Parts, ReplicaSet),
            "deployments" => read!(Parts, Deployment),
            "poddisruptionbudgets" => read!(Parts, Budget),
            "leases" => read!(Parts, Lease),
            _ => None,
        };
        known.unwrap_or_else(|| {
            let bare: Bare = serde_json::from_slice(json.as_bytes()).unwrap_or_default();
            Object::Other(shared(unmanaged(bare.metadata), before!(Other)))
        })
    }
}

/// What every object has.
#[derive(Default, Deserialize)]
struct Bare {
    #[serde(default)]
    metadata: ObjectMeta,
}

/// Specs of pods, by UID of the owner and by node: the pods of an owner on a node mostly have the same.
#[derive(Default)]
struct Siblings(BTreeMap<(String, String), Rc<core::PodSpec>>);

impl Siblings {
    fn share(&mut self, pod: &mut Pod) {
        let (Some(owner), Some(spec)) = (controller_uid(pod), &pod.spec) else { return };
        let of = (owner.to_owned(), pod_node(pod).to_owned());
        match self.0.entry(of) {
            Entry::Occupied(sibling) if sibling.get() == spec => pod.spec = Some(Rc::clone(sibling.get())),
            entry => drop(entry.insert_entry(Rc::clone(spec))),
        }
    }
}

/// Every change of an object, in order of revision, each seen at most so much later than it happened.
pub(crate) fn commits(log: &Log<'_>, sample_ns: Ns) -> Vec<Commit> {
    let mut known: BTreeMap<&str, (Rc<str>, Rc<Object>)> = BTreeMap::new();
    let mut commits = Vec::with_capacity(log.entries.iter().map(|entry| entry.events.len()).sum());
    let (mut values, mut siblings) = (Unpacker::default(), Siblings::default());
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
            let mut new = value.map(|value| Object::parse(key, values.text(value), old));
            if let Some(Object::Pod(pod)) = &mut new {
                siblings.share(pod);
            }
            let new = new.map(Rc::new);
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
