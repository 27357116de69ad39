//! A node as the scheduler sees it: what it has to give, and who is on it.

use crate::amounts::{Amounts, Nonzero};
use crate::matching::Labels;
use crate::pod::{HostPort, PodInfo, Uid};
use api::ObjectExt;
use api::core::v1::{Node, Taint};
use api::quantity::Quantity;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What follows from a Node object. Immutable: a changed node is a new value.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    /// As it was last observed.
    pub node: Arc<Node>,
    /// What pods may take of it.
    pub allocatable: Amounts,
    /// How many pods it may have.
    pub allowed_pods: usize,
    /// Images that are on it already, by each of their names, in bytes.
    pub images: BTreeMap<String, i64>,
}

impl NodeFacts {
    /// Works out what follows from `node`.
    pub fn new(node: Arc<Node>) -> Self {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let pods = allocatable.and_then(|list| list.get("pods")).and_then(|text| Quantity::parse(&text.0).ok());
        let mut images = BTreeMap::new();
        for image in status.and_then(|status| status.images.as_ref()).into_iter().flatten() {
            for name in image.names.iter().flatten() {
                images.insert(name.clone(), image.size_bytes.unwrap_or_default());
            }
        }
        Self {
            allocatable: Amounts::of(allocatable),
            allowed_pods: pods.and_then(|it| usize::try_from(it.value()).ok()).unwrap_or(0),
            images,
            node,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        self.node.labels()
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    /// Whether somebody cordoned it.
    pub fn unschedulable(&self) -> bool {
        self.node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
    }

    /// Region and zone, of which no two nodes in a row are taken when there is a choice. Empty if unknown.
    pub fn zone(&self) -> String {
        let of = |keys: [&str; 2]| keys.iter().find_map(|key| self.labels().get(*key)).map_or("", String::as_str);
        let region = of(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]);
        let zone = of([ZONE, "failure-domain.beta.kubernetes.io/zone"]);
        if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
    }
}

/// Label of a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of a node's own name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// A node and the pods that are on it, or are about to be.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What it is. `None` for a ghost: its pods are still there, the node is not.
    pub facts: Option<Arc<NodeFacts>>,
    /// What its pods ask for.
    pub requested: Amounts,
    /// What its pods count for in scores.
    pub nonzero: Nonzero,
    /// Its pods.
    pub pods: BTreeMap<Uid, Arc<PodInfo>>,
    /// Ports that its pods take, and how many take each.
    pub ports: BTreeMap<HostPort, u32>,
}

impl NodeInfo {
    /// A node without pods, of which nothing else is known.
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            facts: None,
            requested: Amounts::default(),
            nonzero: Nonzero::default(),
            pods: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    /// Puts a pod on it, in the place of any of the same UID.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.remove(&pod.uid);
        self.requested.add(&pod.requests);
        self.nonzero.cpu_milli += pod.nonzero.cpu_milli;
        self.nonzero.memory += pod.nonzero.memory;
        for port in &pod.ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Takes a pod off it.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested.sub(&pod.requests);
        self.nonzero.cpu_milli -= pod.nonzero.cpu_milli;
        self.nonzero.memory -= pod.nonzero.memory;
        for port in &pod.ports {
            if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
        Some(pod)
    }
}
