//! Filters that look at the pod and the node alone.

use super::Rejection;
use crate::amounts::Amounts;
use crate::node::{NodeFacts, NodeInfo};
use crate::plugin::Plugin;
use crate::pod::PodInfo;
use api::core::v1::Taint;

/// Whether a node is not cordoned, or the pod does not mind.
pub fn schedulable(pod: &PodInfo, node: &NodeFacts) -> bool {
    let cordon = || Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    !node.unschedulable() || pod.tolerates(&cordon())
}

/// NodeUnschedulable.
pub fn node_unschedulable(pod: &PodInfo, node: &NodeFacts) -> Result<(), Rejection> {
    if schedulable(pod, node) {
        return Ok(());
    }
    Err(Rejection::unresolvable(Plugin::NodeUnschedulable, "node(s) were unschedulable"))
}

/// TaintToleration.
pub fn taints(pod: &PodInfo, node: &NodeFacts) -> Result<(), Rejection> {
    let Some(taint) = pod.untolerated(node.taints()) else { return Ok(()) };
    let value = taint.value.as_deref().unwrap_or_default();
    let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
    Err(Rejection::unresolvable(Plugin::TaintToleration, reason))
}

/// NodeAffinity, with `nodeSelector`.
pub fn node_affinity(pod: &PodInfo, node: &NodeFacts) -> Result<(), Rejection> {
    if pod.node_requirement.matches(node.name(), node.labels()) {
        return Ok(());
    }
    Err(Rejection::unresolvable(Plugin::NodeAffinity, "node(s) didn't match Pod's node affinity/selector"))
}

/// NodePorts.
pub fn ports(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let taken = pod.ports.iter().any(|port| node.ports.keys().any(|other| port.conflicts(other)));
    if !taken {
        return Ok(());
    }
    Err(Rejection::new(Plugin::NodePorts, "node(s) didn't have free ports for the requested pod ports"))
}

/// NodeResourcesFit.
pub fn resources(pod: &PodInfo, node: &NodeInfo, facts: &NodeFacts) -> Result<(), Rejection> {
    shortage(pod, facts, &node.requested, node.pods.len()).map_or(Ok(()), Err)
}

/// Whether a node without any pods has enough.
pub fn fits_empty(pod: &PodInfo, node: &NodeFacts) -> bool {
    shortage(pod, node, &Amounts::default(), 0).is_none()
}

fn shortage(pod: &PodInfo, facts: &NodeFacts, taken: &Amounts, pods: usize) -> Option<Rejection> {
    let mut reasons = Vec::new();
    if pods + 1 > facts.allowed_pods {
        reasons.push("Too many pods".into());
    }
    let mut unresolvable = false;
    let mut lacks = |asked: i128, allocatable: i128, taken: i128| {
        let lacks = asked > 0 && asked > allocatable - taken;
        unresolvable |= lacks && asked > allocatable;
        lacks
    };
    let (asked, all) = (&pod.requests, &facts.allocatable);
    if lacks(asked.cpu_milli, all.cpu_milli, taken.cpu_milli) {
        reasons.push("Insufficient cpu".into());
    }
    if lacks(asked.memory, all.memory, taken.memory) {
        reasons.push("Insufficient memory".into());
    }
    if lacks(asked.ephemeral, all.ephemeral, taken.ephemeral) {
        reasons.push("Insufficient ephemeral-storage".into());
    }
    for (name, amount) in &asked.scalars {
        let of = |amounts: &Amounts| amounts.scalars.get(name).copied().unwrap_or(0);
        if lacks(*amount, of(all), of(taken)) {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    (!reasons.is_empty()).then_some(Rejection { plugin: Plugin::NodeResourcesFit, reasons, unresolvable })
}

#[cfg(test)]
pub(super) mod tests {
    use crate::cache::Cache;
    use crate::filter::{State, check as filter};
    use crate::testing::{node, pod};
    use client::Caches;
    use expect_test::{Expect, expect};

    /// A pod and each node alone, with the pods that are on it.
    pub(in crate::filter) fn check(candidate: &str, nodes: &[&str], pods: &[&str], expected: Expect) {
        let mut cache = Cache::default();
        nodes.iter().for_each(|text| drop(cache.put_node(node(text))));
        pods.iter().for_each(|text| drop(cache.put_pod(pod(text))));
        cache.settle();
        let (candidate, caches) = (pod(candidate), Caches::new());
        let state = State::new(&candidate, &cache, &caches);
        let mut text = String::new();
        for (_, info) in cache.nodes() {
            let facts = info.facts.as_ref().expect("ghosts are not listed");
            let verdict = match filter(&candidate, info, facts, &state) {
                Ok(()) => "yes".to_owned(),
                Err(no) => format!("{}{}", no.reasons.join("; "), if no.unresolvable { " (for good)" } else { "" }),
            };
            text += &format!("{}: {verdict}\n", info.name);
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn cordoned_nodes_take_only_who_tolerates_it() {
        check(
            "a",
            &["n1", "n2 unschedulable"],
            &[],
            expect![[r#"
            n1: yes
            n2: node(s) were unschedulable (for good)
        "#]],
        );
        let tolerant = "a tol:node.kubernetes.io/unschedulable";
        check(tolerant, &["n2 unschedulable"], &[], expect!["n2: yes\n"]);
    }

    #[test]
    fn taints_must_be_tolerated_by_key_value_and_effect() {
        let nodes = [
            "n1 taint:x=y:NoSchedule",
            "n2 taint:x=z:NoExecute",
            "n3 taint:x=y:PreferNoSchedule",
            "n4 taint:w:NoSchedule",
        ];
        check(
            "a",
            &nodes,
            &[],
            expect![[r#"
            n1: node(s) had untolerated taint {x: y} (for good)
            n2: node(s) had untolerated taint {x: z} (for good)
            n3: yes
            n4: node(s) had untolerated taint {w: } (for good)
        "#]],
        );
        check(
            "a tol:x=y:NoSchedule tol:w",
            &nodes,
            &[],
            expect![[r#"
            n1: yes
            n2: node(s) had untolerated taint {x: z} (for good)
            n3: yes
            n4: yes
        "#]],
        );
        check(
            "a tol:x=y:NoExecute",
            &nodes[..1],
            &[],
            expect![[r#"
            n1: node(s) had untolerated taint {x: y} (for good)
        "#]],
        );
        check(
            "a tol:",
            &nodes,
            &[],
            expect![[r#"
            n1: yes
            n2: yes
            n3: yes
            n4: yes
        "#]],
        );
    }

    #[test]
    fn selector_and_one_of_the_affinity_terms_must_match() {
        let nodes = ["n1 zone=a label:disk=ssd", "n2 zone=b label:disk=ssd", "n3 zone=a label:cores=16"];
        check(
            "a select:disk=ssd require:zone=a",
            &nodes,
            &[],
            expect![[r#"
            n1: yes
            n2: node(s) didn't match Pod's node affinity/selector (for good)
            n3: node(s) didn't match Pod's node affinity/selector (for good)
        "#]],
        );
        check(
            "a require:name=n2 require:cores>8",
            &nodes,
            &[],
            expect![[r#"
            n1: node(s) didn't match Pod's node affinity/selector (for good)
            n2: yes
            n3: yes
        "#]],
        );
    }

    #[test]
    fn a_host_port_is_had_once_per_node() {
        check(
            "a port=80",
            &["n1", "n2"],
            &["p on=n1 port=80", "q on=n2 port=81"],
            expect![[r#"
            n1: node(s) didn't have free ports for the requested pod ports
            n2: yes
        "#]],
        );
    }

    #[test]
    fn resources_are_counted_each_and_named_in_order() {
        let pods = ["p on=n1 cpu=6 mem=15Gi", "q on=n2"];
        check(
            "a cpu=3 mem=2Gi gpu=1",
            &["n1", "n2 pods=1 gpu=1", "n3 cpu=2 gpu=1", "n4 gpu=1"],
            &pods,
            expect![[r#"
            n1: Insufficient cpu; Insufficient memory; Insufficient example.com/gpu (for good)
            n2: Too many pods
            n3: Insufficient cpu (for good)
            n4: yes
        "#]],
        );
        check("a cpu=2", &["n1"], &["p on=n1 cpu=6"], expect!["n1: yes\n"]);
        check("a cpu=2001m", &["n1"], &["p on=n1 cpu=6"], expect!["n1: Insufficient cpu\n"]);
        check("a", &["n1 cpu=1"], &["p on=n1 cpu=2"], expect!["n1: yes\n"]);
    }
}
