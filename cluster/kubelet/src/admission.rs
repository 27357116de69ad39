//! Whether this node takes a pod that is bound to it: upstream's predicates, in upstream's order, with its reasons.
//!
//! The scheduler believed that the pod fits; it may be wrong, or nobody asked it.

use crate::resources::{self, Amounts};
use api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use std::collections::BTreeMap;

/// What of the node matters for admission.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What pods can have: cpu in thousandths, memory in bytes, `pods`.
    pub allocatable: Amounts,
}

/// Why a pod is refused: as `status.reason`, and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `OutOfcpu`, `NodePorts`, `NodeAffinity`, `TaintToleration`.
    pub reason: String,
    /// What is wrong.
    pub message: String,
}

impl Refusal {
    /// Upstream's text of a predicate that failed.
    fn predicate(name: &str, why: &str) -> Self {
        Refusal { reason: name.to_owned(), message: format!("Predicate {name} failed: {why}") }
    }
}

/// Whether `pod` fits beside `others`, the pods that were admitted and may still run.
pub fn admit(pod: &Pod, others: &[&Pod], node: &NodeFacts) -> Result<(), Refusal> {
    let asked = with_itself(resources::requests(pod));
    let mut used = Amounts::new();
    for other in others {
        for (resource, amount) in with_itself(resources::requests(other)) {
            let sum = used.entry(resource).or_default();
            *sum = sum.saturating_add(amount);
        }
    }
    // Pods first, as upstream; then cpu, memory and whatever else, by name.
    let order = ["pods", "cpu", "memory"].into_iter().map(str::to_owned);
    let rest = asked.keys().filter(|it| !["pods", "cpu", "memory"].contains(&it.as_str())).cloned();
    for resource in order.chain(rest) {
        let requested = asked.get(&resource).copied().unwrap_or(0);
        let taken = used.get(&resource).copied().unwrap_or(0);
        let Some(capacity) = node.allocatable.get(&resource).copied() else { continue };
        if requested > 0 && requested > capacity.saturating_sub(taken) {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {taken}, capacity: {capacity}"
            );
            return Err(Refusal { reason: format!("OutOf{resource}"), message });
        }
    }
    if !selects(pod, node) {
        return Err(Refusal::predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let wanted = resources::host_ports(pod);
    let taken = others.iter().flat_map(|other| resources::host_ports(other));
    if taken.into_iter().any(|taken| wanted.iter().any(|port| resources::collide(port, &taken))) {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return Err(Refusal::predicate("NodePorts", why));
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let hard = node.taints.iter().filter(|taint| taint.effect == "NoExecute");
    if hard.into_iter().any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))) {
        return Err(Refusal::predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate"));
    }
    Ok(())
}

fn with_itself(mut amounts: Amounts) -> Amounts {
    amounts.insert("pods".to_owned(), 1);
    amounts
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if some(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let key = some(&toleration.key);
    if key.as_ref().is_some_and(|key| *key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            key.is_some() && toleration.value.clone().unwrap_or_default() == taint.value.clone().unwrap_or_default()
        }
        Some(_) => false,
    }
}

/// Whether the pod's node selector and required node affinity select this node.
fn selects(pod: &Pod, node: &NodeFacts) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let mut selector = spec.node_selector.iter().flatten();
    if !selector.all(|(key, value)| node.labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_selects(term, node)))
}

fn term_selects(term: &NodeSelectorTerm, node: &NodeFacts) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term that says nothing selects nothing.
    let says = !expressions.is_empty() || !fields.is_empty();
    let field = |requirement: &NodeSelectorRequirement| (requirement.key == "metadata.name").then_some(&node.name);
    says && expressions.iter().all(|it| requirement_holds(it, node.labels.get(&it.key)))
        && fields.iter().all(|it| requirement_holds(it, field(it)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let bound = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => bound().is_some_and(|(value, bound)| value > bound),
        "Lt" => bound().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::QuantityText;
    use api::core::v1::{Container, ContainerPort, PodSpec, ResourceRequirements};
    use expect_test::{Expect, expect};

    /// A pod of words: `cpu=1`, `memory=1Gi` asked for, `port=80` of the host, `zone=a` selected, `tolerates=key`.
    fn pod(text: &str) -> Pod {
        let mut spec = PodSpec::default();
        let mut container = Container { name: "a".to_owned(), ..Container::default() };
        let mut requests = BTreeMap::new();
        for word in text.split_whitespace() {
            match word.split_once('=').unwrap() {
                ("port", port) => {
                    let port = port.parse().unwrap();
                    let port =
                        ContainerPort { container_port: port, host_port: Some(port), ..ContainerPort::default() };
                    container.ports.get_or_insert_default().push(port);
                }
                ("zone", zone) => {
                    spec.node_selector = Some([("zone".to_owned(), zone.to_owned())].into());
                }
                ("tolerates", key) => {
                    let toleration = Toleration {
                        key: Some(key.to_owned()),
                        operator: Some("Exists".to_owned()),
                        ..Toleration::default()
                    };
                    spec.tolerations.get_or_insert_default().push(toleration);
                }
                (resource, amount) => {
                    requests.insert(resource.to_owned(), QuantityText(amount.to_owned()));
                }
            }
        }
        container.resources =
            Some(ResourceRequirements { requests: Some(requests), ..ResourceRequirements::default() });
        spec.containers.push(container);
        Pod { spec: Some(spec), ..Pod::default() }
    }

    fn check(others: &[&str], new: &str, taint: Option<&str>, expect: Expect) {
        let tainted = |key: &str| Taint { key: key.to_owned(), effect: "NoExecute".to_owned(), ..Taint::default() };
        let node = NodeFacts {
            name: "n".to_owned(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            taints: taint.map(tainted).into_iter().collect(),
            allocatable: [("cpu", 2000), ("memory", 1 << 30), ("pods", 3)].map(|(it, n)| (it.to_owned(), n)).into(),
        };
        let others: Vec<Pod> = others.iter().map(|text| pod(text)).collect();
        let shown = match admit(&pod(new), &others.iter().collect::<Vec<_>>(), &node) {
            Ok(()) => "admitted".to_owned(),
            Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn resources_run_out_one_after_the_other() {
        check(&["cpu=1500m"], "cpu=500m", None, expect!["admitted"]);
        check(
            &["cpu=1500m"],
            "cpu=501m",
            None,
            expect!["OutOfcpu: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"],
        );
        check(
            &["memory=1Gi"],
            "memory=1",
            None,
            expect![
                "OutOfmemory: Node didn't have enough resource: memory, requested: 1, used: 1073741824, capacity: 1073741824"
            ],
        );
        check(
            &["cpu=1", "cpu=1", "cpu=0"],
            "cpu=1",
            None,
            expect!["OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"],
        );
    }

    #[test]
    fn ports_labels_and_taints_count_too() {
        check(
            &["port=80"],
            "port=80",
            None,
            expect![
                "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
            ],
        );
        check(&["port=80"], "port=81", None, expect!["admitted"]);
        check(
            &[],
            "zone=b",
            None,
            expect!["NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"],
        );
        check(
            &[],
            "zone=a",
            Some("gone"),
            expect![
                "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
            ],
        );
        check(&[], "zone=a tolerates=gone", Some("gone"), expect!["admitted"]);
    }
}
