//! Pods for which a node was made free: until they are bound, others of lower priority may not take their place.

use crate::pod::{PodInfo, Uid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which pods are nominated to which nodes.
#[derive(Clone, Debug, Default)]
pub struct Nominated {
    by_node: BTreeMap<String, BTreeMap<Uid, Arc<PodInfo>>>,
    nodes: BTreeMap<Uid, String>,
}

impl Nominated {
    /// Nominates a pod to a node and to no other.
    pub fn set(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove(&pod.uid);
        self.nodes.insert(pod.uid.clone(), node.to_owned());
        self.by_node.entry(node.to_owned()).or_default().insert(pod.uid.clone(), pod);
    }

    /// Takes a nomination back. Returns the pod and its node, if it had one.
    pub fn remove(&mut self, uid: &str) -> Option<(Arc<PodInfo>, String)> {
        let node = self.nodes.remove(uid)?;
        let pods = self.by_node.get_mut(&node)?;
        let pod = pods.remove(uid)?;
        if pods.is_empty() {
            self.by_node.remove(&node);
        }
        Some((pod, node))
    }

    /// Pods that are nominated to a node, in order of UID.
    pub fn on(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.by_node.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// The node that a pod is nominated to.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.nodes.get(uid).map(String::as_str)
    }

    /// How many pods are nominated.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}
