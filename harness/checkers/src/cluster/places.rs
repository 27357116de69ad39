//! Where a pod would fit: nodes and what is bound to them, commit by commit.

use super::facts::{
    Amounts, NO_EXECUTE, NO_SCHEDULE, allocatable, is_cordoned, is_terminal, node_is_ready, pod_node, requests, taints,
    tolerates, tolerations,
};
use super::{Commit, Node, Pod};
use std::collections::{BTreeMap, BTreeSet};

/// The nodes that exist, by name, and what the pods that are bound or promised to each ask for, by key.
#[derive(Default)]
pub(crate) struct Places<'a> {
    nodes: BTreeMap<&'a str, &'a Node>,
    bound: BTreeMap<&'a str, BTreeMap<&'a str, Amounts>>,
}

impl<'a> Places<'a> {
    /// Takes in a change. Returns the nodes on which there may be more or less room than before.
    pub(crate) fn apply(&mut self, commit: &'a Commit) -> BTreeSet<&'a str> {
        let mut touched = BTreeSet::new();
        let name = commit.key.rsplit('/').next().unwrap_or_default();
        let changed = match commit.nodes() {
            (None, None) => false,
            (_, Some(node)) => {
                self.nodes.insert(name, node);
                true
            }
            (Some(_), None) => self.nodes.remove(name).is_some(),
        };
        touched.extend(changed.then_some(name));
        let (old, new) = commit.pods();
        if let Some(node) = old.and_then(claimed) {
            self.bound.entry(node).or_default().remove(&*commit.key);
            touched.insert(node);
        }
        if let Some((node, pod)) = new.and_then(|pod| Some((claimed(pod)?, pod))) {
            self.bound.entry(node).or_default().insert(&commit.key, requests(pod));
            touched.insert(node);
        }
        touched
    }

    /// Names of all nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'a str> {
        self.nodes.keys().copied()
    }

    /// Whether the pod, if nothing else moves, can run on the node: it is ready and open, the pod selects it and
    /// tolerates its taints, and there is room.
    pub(crate) fn fits(&self, pod: &Pod, name: &str) -> bool {
        let Some(node) = self.nodes.get(name).filter(|node| node_is_ready(node) && !is_cordoned(node)) else {
            return false;
        };
        let keeps_away = |effect: &str| matches!(effect, NO_SCHEDULE | NO_EXECUTE);
        let mut hostile = taints(node).iter().filter(|taint| keeps_away(&taint.effect));
        if node.metadata.deletion_timestamp.is_some()
            || hostile.any(|taint| !tolerations(pod).iter().any(|toleration| tolerates(toleration, taint)))
        {
            return false;
        }
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
        if !selector.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
            return false;
        }
        let mut sum = requests(pod);
        self.bound.get(name).into_iter().flat_map(BTreeMap::values).for_each(|amounts| sum.add(amounts));
        sum.beyond(&allocatable(node)).is_none()
    }
}

/// The node on which a pod takes up room: its own, or the one that preemption made room on for it.
fn claimed(pod: &Pod) -> Option<&str> {
    if is_terminal(pod) {
        return None;
    }
    let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    Some(pod_node(pod)).filter(|node| !node.is_empty()).or(nominated).filter(|node| !node.is_empty())
}

/// Whether [`Places::fits`] knows all that a scheduler would have to look at.
pub(crate) fn is_simple(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let has_ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let scheduler = spec.scheduler_name.as_deref().unwrap_or_default();
    let claims = spec
        .volumes
        .iter()
        .flatten()
        .any(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
    matches!(scheduler, "" | "default-scheduler")
        && spec.affinity.is_none()
        && spec.topology_spread_constraints.as_ref().is_none_or(Vec::is_empty)
        && spec.resource_claims.as_ref().is_none_or(Vec::is_empty)
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && !claims
        && !has_ports.into_iter().any(|port| port.host_port.is_some_and(|number| number > 0))
}
