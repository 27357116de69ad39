//! C17: taken in order of revision, bindings never exceed the node's allocatable as then stored.

use super::facts::{Amounts, allocatable, is_terminal, pod_node, requests};
use super::{Commit, Object, World};
use crate::findings::Findings;
use record::{Guarantee, Verdict};
use std::collections::BTreeMap;

/// What the pods that were bound to a node ask for together, each as when it was bound, is within what the node has, at
/// every binding; pods count as a resource of their own. A pod counts from its binding until it has ended for good or
/// is gone.
///
/// Excepted are pods that were created on their node, pods that were resized since, and nodes that shrank: what counts
/// is the most of each resource that a node of that name has had. The agent rejects what does not fit then.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C17);
    let mut capacity: BTreeMap<&str, Amounts> = BTreeMap::new();
    let mut bound: BTreeMap<&str, BTreeMap<&str, Amounts>> = BTreeMap::new();
    for commit in &world.commits {
        if let Some(Object::Node(node)) = commit.new.as_deref() {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            capacity.entry(name).or_default().raise(&allocatable(node));
        }
        free(commit, &mut bound);
        let Some((node, amounts)) = binding(commit) else { continue };
        findings.tested(1);
        let here = bound.entry(node).or_default();
        here.insert(&commit.key, amounts);
        let mut sum = Amounts::default();
        here.values().for_each(|amounts| sum.add(amounts));
        let most = capacity.entry(node).or_default();
        if let Some((resource, asked, there)) = sum.beyond(most) {
            let text = format!(
                "{} was bound to {node} at revision {}: the {} pods bound there ask for {asked} billionths of {resource}, the \
                 node has {there}",
                commit.key,
                commit.revision,
                here.len()
            );
            findings.violated(commit.at_ns, text);
        }
    }
    findings.verdict()
}

/// A pod that has ended, is gone, or has made way for another of its name frees its place.
fn free<'a>(commit: &'a Commit, bound: &mut BTreeMap<&'a str, BTreeMap<&'a str, Amounts>>) {
    let (Some(old), new) = commit.pods() else { return };
    let stays = new.is_some_and(|new| new.uid() == old.uid() && !is_terminal(new));
    if let Some(here) = bound.get_mut(pod_node(old)).filter(|_| !stays) {
        here.remove(&*commit.key);
    }
}

/// The node that a pod which existed before is bound to by this change, and what the pod asks for.
fn binding(commit: &Commit) -> Option<(&str, Amounts)> {
    let (Some(old), Some(new)) = commit.pods() else { return None };
    let now = old.uid() == new.uid() && pod_node(old).is_empty() && !pod_node(new).is_empty() && !is_terminal(new);
    now.then(|| (pod_node(new), requests(new)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    fn pod(name: &str, node: &str, cpu: &str, phase: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}","uid":"uid-{name}"}},"spec":{{"nodeName":"{node}","containers":[{{"name":"c","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}},"status":{{"phase":"{phase}"}}}}"#
        )
    }

    fn node(cpu: &str, pods: u32) -> String {
        format!(r#"{{"metadata":{{"name":"n1"}},"status":{{"allocatable":{{"cpu":"{cpu}","pods":"{pods}"}}}}}}"#)
    }

    fn put(tale: &mut Tale, name: &str, node: &str, cpu: &str, phase: &str) {
        tale.put(&format!("core/pods/default/{name}"), &pod(name, node, cpu, phase));
    }

    fn bind(tale: &mut Tale, name: &str, cpu: &str) {
        put(tale, name, "", cpu, "Pending");
        put(tale, name, "n1", cpu, "Pending");
    }

    fn tale() -> Tale {
        let mut tale = Tale::new();
        tale.put("core/nodes/n1", &node("1", 3));
        bind(&mut tale, "a", "600m");
        bind(&mut tale, "b", "400m");
        tale
    }

    #[test]
    fn what_fits_passes_and_what_ended_or_went_makes_room() {
        let mut tale = tale();
        put(&mut tale, "a", "n1", "600m", "Succeeded");
        bind(&mut tale, "c", "600m");
        tale.delete("core/pods/default/c");
        bind(&mut tale, "d", "600m");
        tale.passes(check, Guarantee::C17, 4);
    }

    #[test]
    fn pods_with_a_preset_node_and_nodes_that_shrink_are_excepted() {
        let mut tale = tale();
        put(&mut tale, "preset", "n1", "5", "Pending");
        put(&mut tale, "b", "n1", "400m", "Failed");
        tale.put("core/nodes/n1", &node("500m", 3));
        bind(&mut tale, "c", "300m");
        tale.passes(check, Guarantee::C17, 3);
    }

    #[test]
    fn too_much_of_a_resource_is_flagged() {
        let mut tale = tale();
        bind(&mut tale, "c", "1m");
        tale.flags(check, "the 3 pods bound there ask for 1001000000 billionths of cpu, the node has 1000000000");
    }

    #[test]
    fn too_many_pods_are_flagged() {
        let mut tale = tale();
        bind(&mut tale, "c", "0");
        bind(&mut tale, "d", "0");
        tale.flags(check, "pods/default/d was bound to n1 at revision 10: the 4 pods bound there ask for 4000000000 billionths of pods");
    }

    #[test]
    fn a_binding_to_a_node_that_never_was_is_flagged() {
        let mut tale = Tale::new();
        bind(&mut tale, "a", "1m");
        tale.flags(check, "the node has 0");
    }
}
