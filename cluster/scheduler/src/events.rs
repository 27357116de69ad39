//! What happens in the cluster, and which parked pods that may help: upstream's queueing hints.
//!
//! A pod is parked with the set of rules that kept it off nodes. An event wakes it if it may have changed the answer of
//! one of them. A hint may err on the side of waking; a pod that it fails to wake waits for the flush of the queue.

use crate::filter::basic;
use crate::node::NodeFacts;
use crate::plugin::{Plugin, Plugins};
use crate::pod::{PodInfo, Term, Uid};
use client::Caches;
use std::sync::Arc;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    /// There is a node that was not there.
    NodeAdded(Arc<NodeFacts>),
    /// A node changed in something that a rule looks at: not by a heartbeat.
    NodeUpdated {
        /// What it was.
        old: Arc<NodeFacts>,
        /// What it is.
        new: Arc<NodeFacts>,
    },
    /// A node is gone.
    NodeRemoved(Arc<NodeFacts>),
    /// A pod was seen on a node.
    PodAdded(Arc<PodInfo>),
    /// A pod on a node changed its labels, asks for less, or is to be deleted.
    PodUpdated {
        /// What it was.
        old: Arc<PodInfo>,
        /// What it is.
        new: Arc<PodInfo>,
    },
    /// A pod freed what it had on a node, or what was held for it there.
    PodRemoved(Arc<PodInfo>),
    /// The waiting pod itself changed.
    Changed {
        /// Which.
        uid: Uid,
    },
    /// Labels of a namespace changed.
    NamespaceChanged,
    /// What happened was not kept: anything may have.
    Anything,
}

/// Whether `event` may let `pod` in, which the rules `rejectors` kept off all nodes.
pub fn helps(event: &ClusterEvent, pod: &PodInfo, rejectors: Plugins, caches: &Caches) -> bool {
    match event {
        ClusterEvent::Anything => true,
        ClusterEvent::Changed { uid } => *uid == pod.uid,
        // What was held for the pod itself was never in its way.
        ClusterEvent::PodRemoved(other) if other.uid == pod.uid => false,
        ClusterEvent::NodeAdded(_)
        | ClusterEvent::NodeUpdated { .. }
        | ClusterEvent::NodeRemoved(_)
        | ClusterEvent::PodAdded(_)
        | ClusterEvent::PodUpdated { .. }
        | ClusterEvent::PodRemoved(_)
        | ClusterEvent::NamespaceChanged => rejectors.iter().any(|plugin| helps_rule(plugin, event, pod, caches)),
    }
}

/// Whether a change of a node is one that a rule looks at.
pub fn concerns_rules(old: &NodeFacts, new: &NodeFacts) -> bool {
    old.allocatable != new.allocatable
        || old.allowed_pods != new.allowed_pods
        || old.labels() != new.labels()
        || old.taints() != new.taints()
        || old.unschedulable() != new.unschedulable()
}

fn helps_rule(plugin: Plugin, event: &ClusterEvent, pod: &PodInfo, caches: &Caches) -> bool {
    match plugin {
        Plugin::NodeUnschedulable => opens(event, |node| basic::schedulable(pod, node)),
        Plugin::TaintToleration => opens(event, |node| pod.untolerated(node.taints()).is_none()),
        Plugin::NodeAffinity => opens(event, |node| pod.node_requirement.matches(node.name(), node.labels())),
        Plugin::NodePorts => frees_port(event, pod),
        Plugin::NodeResourcesFit => frees_resources(event, pod),
        Plugin::PodTopologySpread => changes_spread(event, pod),
        Plugin::InterPodAffinity => changes_affinity(event, pod, caches),
        Plugin::NoNodes => matches!(event, ClusterEvent::NodeAdded(_)),
    }
}

/// Whether a node is added for which `accepts` holds, or one changes to be so.
fn opens(event: &ClusterEvent, accepts: impl Fn(&NodeFacts) -> bool) -> bool {
    match event {
        ClusterEvent::NodeAdded(new) => accepts(new),
        ClusterEvent::NodeUpdated { old, new } => !accepts(old) && accepts(new),
        ClusterEvent::NodeRemoved(_)
        | ClusterEvent::PodAdded(_)
        | ClusterEvent::PodUpdated { .. }
        | ClusterEvent::PodRemoved(_)
        | ClusterEvent::Changed { .. }
        | ClusterEvent::NamespaceChanged
        | ClusterEvent::Anything => false,
    }
}

fn frees_port(event: &ClusterEvent, pod: &PodInfo) -> bool {
    let takes_ours = |other: &PodInfo| other.ports.iter().any(|theirs| pod.ports.iter().any(|it| it.conflicts(theirs)));
    match event {
        ClusterEvent::NodeAdded(_) => true,
        ClusterEvent::PodRemoved(other) => takes_ours(other),
        ClusterEvent::NodeUpdated { .. }
        | ClusterEvent::NodeRemoved(_)
        | ClusterEvent::PodAdded(_)
        | ClusterEvent::PodUpdated { .. }
        | ClusterEvent::Changed { .. }
        | ClusterEvent::NamespaceChanged
        | ClusterEvent::Anything => false,
    }
}

fn frees_resources(event: &ClusterEvent, pod: &PodInfo) -> bool {
    match event {
        ClusterEvent::NodeAdded(new) => basic::fits_empty(pod, new),
        ClusterEvent::NodeUpdated { old, new } => {
            let more = |of: fn(&crate::amounts::Amounts) -> i128| of(&new.allocatable) > of(&old.allocatable);
            let scalar = |facts: &NodeFacts, name: &String| facts.allocatable.scalars.get(name).copied().unwrap_or(0);
            let grew = new.allowed_pods > old.allowed_pods
                || more(|it| it.cpu_milli)
                || more(|it| it.memory)
                || more(|it| it.ephemeral)
                || pod.requests.scalars.keys().any(|name| scalar(new, name) > scalar(old, name));
            grew && basic::fits_empty(pod, new)
        }
        ClusterEvent::PodRemoved(_) => true,
        ClusterEvent::PodUpdated { old, new } => asks_less(old, new),
        ClusterEvent::NodeRemoved(_)
        | ClusterEvent::PodAdded(_)
        | ClusterEvent::Changed { .. }
        | ClusterEvent::NamespaceChanged
        | ClusterEvent::Anything => false,
    }
}

/// Whether a pod on a node came to ask for less of something.
pub fn asks_less(old: &PodInfo, new: &PodInfo) -> bool {
    let (old, new) = (&old.requests, &new.requests);
    new.cpu_milli < old.cpu_milli
        || new.memory < old.memory
        || new.ephemeral < old.ephemeral
        || old.scalars.iter().any(|(name, amount)| new.scalars.get(name).copied().unwrap_or(0) < *amount)
}

fn changes_spread(event: &ClusterEvent, pod: &PodInfo) -> bool {
    let hard = || pod.spread.iter().filter(|it| it.hard);
    let counted = |other: &PodInfo| {
        let stays = other.pod.metadata.deletion_timestamp.is_none();
        let matches = || hard().any(|it| it.selector.matches(other.labels()));
        stays && other.namespace() == pod.namespace() && matches()
    };
    let has_keys = |node: &NodeFacts| hard().all(|it| node.labels().contains_key(&it.topology_key));
    match event {
        ClusterEvent::PodAdded(other) => counted(other),
        // A pod that was ending is not counted any more since then, but it may be the update that was not seen.
        ClusterEvent::PodRemoved(other) => {
            other.namespace() == pod.namespace() && hard().any(|it| it.selector.matches(other.labels()))
        }
        ClusterEvent::PodUpdated { old, new } => counted(old) != counted(new),
        ClusterEvent::NodeAdded(node) | ClusterEvent::NodeRemoved(node) => has_keys(node),
        ClusterEvent::NodeUpdated { old, new } => {
            let moved = hard().any(|it| old.labels().get(&it.topology_key) != new.labels().get(&it.topology_key));
            let policy = |node: &NodeFacts| {
                let affine = pod.node_requirement.matches(node.name(), node.labels());
                (affine, pod.untolerated(node.taints()).is_none())
            };
            moved || (has_keys(new) && policy(old) != policy(new))
        }
        ClusterEvent::Changed { .. } | ClusterEvent::NamespaceChanged | ClusterEvent::Anything => false,
    }
}

fn changes_affinity(event: &ClusterEvent, pod: &PodInfo, caches: &Caches) -> bool {
    let meant = |terms: &[Term], other: &PodInfo| {
        terms.iter().any(|term| term.matches(other.namespace(), other.labels(), caches))
    };
    let (affinity, anti): (&[Term], &[Term]) =
        pod.terms.as_ref().map_or((&[], &[]), |terms| (&terms.affinity, &terms.anti_affinity));
    let repels_us = |other: &PodInfo| other.terms.as_ref().is_some_and(|it| meant(&it.anti_affinity, pod));
    match event {
        ClusterEvent::PodAdded(other) => meant(affinity, other),
        // Also one that affinity was satisfied by elsewhere: without it, the pod may be the first of its kind.
        ClusterEvent::PodRemoved(other) => meant(anti, other) || meant(affinity, other) || repels_us(other),
        ClusterEvent::PodUpdated { old, new } => {
            meant(affinity, old) != meant(affinity, new) || (meant(anti, old) && !meant(anti, new))
        }
        ClusterEvent::NodeAdded(_) | ClusterEvent::NamespaceChanged => true,
        ClusterEvent::NodeUpdated { old, new } => old.labels() != new.labels(),
        ClusterEvent::NodeRemoved(_) | ClusterEvent::Changed { .. } | ClusterEvent::Anything => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use expect_test::{Expect, expect};

    fn facts(text: &str) -> Arc<NodeFacts> {
        Arc::new(NodeFacts::new(node(text)))
    }

    /// Which rules of `pod` each event helps.
    fn check(waiting: &str, events: &[(&str, ClusterEvent)], expected: Expect) {
        let waiting = pod(waiting);
        let mut text = String::new();
        for (name, event) in events {
            let helped = crate::plugin::ALL
                .into_iter()
                .filter(|plugin| helps(event, &waiting, Plugins::only(*plugin), &Caches::new()));
            text += &format!("{name}: {:?}\n", helped.collect::<Plugins>());
        }
        expected.assert_eq(&text);
    }

    fn updated(old: &str, new: &str) -> ClusterEvent {
        ClusterEvent::NodeUpdated { old: facts(old), new: facts(new) }
    }

    #[test]
    fn a_node_wakes_those_that_it_may_take() {
        check(
            "a cpu=4 select:disk=ssd port=80",
            &[
                ("small", ClusterEvent::NodeAdded(facts("n cpu=2"))),
                ("large", ClusterEvent::NodeAdded(facts("n cpu=8 label:disk=ssd"))),
                ("cordoned", ClusterEvent::NodeAdded(facts("n unschedulable"))),
                ("tainted", ClusterEvent::NodeAdded(facts("n taint:x=y:NoSchedule"))),
                ("uncordoned", updated("n unschedulable", "n")),
                ("untainted", updated("n taint:x=y:NoExecute", "n")),
                ("grown", updated("n cpu=4", "n cpu=5")),
                ("grown too little", updated("n cpu=1", "n cpu=2")),
                ("labelled", updated("n", "n label:disk=ssd")),
                ("shrunk", updated("n cpu=9", "n cpu=8")),
            ],
            expect![[r#"
                small: {NodeUnschedulable, TaintToleration, NodePorts, PodTopologySpread, InterPodAffinity, NoNodes}
                large: {NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, PodTopologySpread, InterPodAffinity, NoNodes}
                cordoned: {TaintToleration, NodePorts, NodeResourcesFit, PodTopologySpread, InterPodAffinity, NoNodes}
                tainted: {NodeUnschedulable, NodePorts, NodeResourcesFit, PodTopologySpread, InterPodAffinity, NoNodes}
                uncordoned: {NodeUnschedulable}
                untainted: {TaintToleration, PodTopologySpread}
                grown: {NodeResourcesFit}
                grown too little: {}
                labelled: {NodeAffinity, PodTopologySpread, InterPodAffinity}
                shrunk: {}
            "#]],
        );
    }

    #[test]
    fn a_pod_wakes_those_that_it_was_in_the_way_of_or_that_want_it_near() {
        check(
            "a label:app=me port=80 near:host:app=db anti:host:app=web spread:host:1:hard:app=web",
            &[
                ("db comes", ClusterEvent::PodAdded(pod("p on=n label:app=db"))),
                ("web comes", ClusterEvent::PodAdded(pod("p on=n label:app=web"))),
                ("web goes", ClusterEvent::PodRemoved(pod("p on=n label:app=web"))),
                ("who repels it goes", ClusterEvent::PodRemoved(pod("p on=n anti:host:app=me"))),
                ("port goes", ClusterEvent::PodRemoved(pod("p on=n port=80"))),
                ("other goes", ClusterEvent::PodRemoved(pod("p on=n port=81"))),
                (
                    "web is renamed",
                    ClusterEvent::PodUpdated { old: pod("p on=n label:app=web"), new: pod("p on=n label:app=x") },
                ),
                ("pod shrinks", ClusterEvent::PodUpdated { old: pod("p on=n cpu=2"), new: pod("p on=n cpu=1") }),
                ("namespace", ClusterEvent::NamespaceChanged),
            ],
            expect![[r#"
                db comes: {InterPodAffinity}
                web comes: {PodTopologySpread}
                web goes: {NodeResourcesFit, PodTopologySpread, InterPodAffinity}
                who repels it goes: {NodeResourcesFit, InterPodAffinity}
                port goes: {NodePorts, NodeResourcesFit}
                other goes: {NodeResourcesFit}
                web is renamed: {PodTopologySpread, InterPodAffinity}
                pod shrinks: {NodeResourcesFit}
                namespace: {InterPodAffinity}
            "#]],
        );
    }
}
