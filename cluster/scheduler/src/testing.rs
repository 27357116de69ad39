//! Objects in a tiny notation, for the tests of this crate.
//!
//! ```text
//! web on=n1 cpu=1 mem=1Gi prio=5 port=80 label:app=web anti:host:app=web spread:zone:1:hard:app=web
//! n1 cpu=4 pods=10 zone=a taint:key=value:NoSchedule image=app:1@100000000 unschedulable
//! ```

use crate::pod::PodInfo;
use api::core::v1::*;
use api::meta::v1::{LabelSelector, ObjectMeta, Time};
use api::{QuantityText, Timestamp};
use client::Caches;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pod whose UID is its name.
pub fn pod(text: &str) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(pod_object(text), &Caches::new()))
}

/// The same as an object.
pub fn pod_object(text: &str) -> Arc<Pod> {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a pod has a name").to_owned();
    let mut pod = Pod {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some("default".into()),
            uid: Some(name),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { containers: vec![Container::default()], ..PodSpec::default() }),
        status: Some(PodStatus::default()),
    };
    for word in words {
        apply(&mut pod, word);
    }
    Arc::new(pod)
}

fn apply(pod: &mut Pod, word: &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let parts: Vec<&str> = word.split(':').collect();
    let spec = pod.spec.as_mut().expect("it was made with one");
    let status = pod.status.as_mut().expect("it was made with one");
    match parts.as_slice() {
        ["label", pair] => insert(pod.metadata.labels.get_or_insert_default(), pair),
        ["select", pair] => insert(spec.node_selector.get_or_insert_default(), pair),
        ["tol", rest @ ..] => spec.tolerations.get_or_insert_default().push(toleration(rest)),
        ["near", topology, pair] => pod_affinity(spec)
            .required_during_scheduling_ignored_during_execution
            .get_or_insert_default()
            .push(term(topology, pair)),
        ["anti", topology, pair] => pod_anti_affinity(spec)
            .required_during_scheduling_ignored_during_execution
            .get_or_insert_default()
            .push(term(topology, pair)),
        ["like", weight, topology, pair] => pod_affinity(spec)
            .preferred_during_scheduling_ignored_during_execution
            .get_or_insert_default()
            .push(weighted(weight, topology, pair)),
        ["dislike", weight, topology, pair] => pod_anti_affinity(spec)
            .preferred_during_scheduling_ignored_during_execution
            .get_or_insert_default()
            .push(weighted(weight, topology, pair)),
        ["require", requirement] => {
            let required = &mut node_affinity(spec).required_during_scheduling_ignored_during_execution;
            required.get_or_insert_default().node_selector_terms.push(node_term(requirement));
        }
        ["prefer", weight, requirement] => {
            let weight = weight.parse().expect("a weight");
            let preferred = &mut node_affinity(spec).preferred_during_scheduling_ignored_during_execution;
            let term = PreferredSchedulingTerm { weight, preference: node_term(requirement) };
            preferred.get_or_insert_default().push(term);
        }
        ["spread", topology, skew, kind, pair, rest @ ..] => {
            spec.topology_spread_constraints.get_or_insert_default().push(TopologySpreadConstraint {
                topology_key: topology_key(topology),
                max_skew: skew.parse().expect("a skew"),
                when_unsatisfiable: if *kind == "hard" { "DoNotSchedule".into() } else { "ScheduleAnyway".into() },
                label_selector: Some(selector(pair)),
                min_domains: rest.iter().find_map(|it| it.strip_prefix("min")).map(|it| it.parse().expect("a number")),
                node_taints_policy: rest.contains(&"taints").then(|| "Honor".into()),
                node_affinity_policy: rest.contains(&"anynode").then(|| "Ignore".into()),
                match_label_keys: rest.iter().find_map(|it| it.strip_prefix("keys")).map(|it| vec![it.to_owned()]),
            });
        }
        _ => match key {
            "cpu" => ask(spec, "cpu", value),
            "mem" => ask(spec, "memory", value),
            "disk" => ask(spec, "ephemeral-storage", value),
            "gpu" => ask(spec, "example.com/gpu", value),
            "ns" => pod.metadata.namespace = Some(value.into()),
            "uid" => pod.metadata.uid = Some(value.into()),
            "version" => pod.metadata.resource_version = Some(value.into()),
            "on" => spec.node_name = Some(value.into()),
            "prio" => spec.priority = Some(value.parse().expect("a priority")),
            "class" => spec.priority_class_name = Some(value.into()),
            "never" => spec.preemption_policy = Some("Never".into()),
            "scheduler" => spec.scheduler_name = Some(value.into()),
            "gate" => spec.scheduling_gates = Some(vec![PodSchedulingGate { name: "g".into() }]),
            "ending" => pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)),
            "preempted" => status.conditions.get_or_insert_default().push(PodCondition {
                type_: "DisruptionTarget".into(),
                status: "True".into(),
                reason: Some("PreemptionByScheduler".into()),
                ..PodCondition::default()
            }),
            "phase" => status.phase = Some(value.into()),
            "nominated" => status.nominated_node_name = Some(value.into()),
            "started" => status.start_time = Some(Time(at(value.parse().expect("seconds")))),
            "image" => spec.containers[0].image = Some(value.into()),
            "port" => {
                let host_port = Some(value.parse().expect("a port"));
                let port = ContainerPort { host_port, ..ContainerPort::default() };
                spec.containers[0].ports.get_or_insert_default().push(port);
            }
            _ => panic!("nobody knows {word:?} of a pod"),
        },
    }
}

/// A node that has 8 CPUs, 16 GiB and room for 110 pods unless it says otherwise.
pub fn node(text: &str) -> Arc<Node> {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a node has a name");
    let mut allocatable: BTreeMap<String, QuantityText> = BTreeMap::new();
    for (key, value) in [("cpu", "8"), ("memory", "16Gi"), ("pods", "110"), ("ephemeral-storage", "100Gi")] {
        allocatable.insert(key.into(), QuantityText(value.into()));
    }
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    labels.insert("kubernetes.io/hostname".into(), name.into());
    let (mut spec, mut status) = (NodeSpec::default(), NodeStatus::default());
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let parts: Vec<&str> = word.split(':').collect();
        match (key, parts.as_slice()) {
            (_, ["label", pair]) => insert(&mut labels, pair),
            (_, ["taint", pair, effect]) => {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                let value = (!value.is_empty()).then(|| value.to_owned());
                let taint = Taint { key: key.into(), value, effect: (*effect).into(), time_added: None };
                spec.taints.get_or_insert_default().push(taint);
            }
            ("zone", _) => drop(labels.insert(topology_key("zone"), value.into())),
            ("unschedulable", _) => spec.unschedulable = Some(true),
            ("image", _) => {
                let (name, size) = value.split_once('@').unwrap_or((value, "0"));
                let image = ContainerImage { names: Some(vec![name.into()]), size_bytes: size.parse().ok() };
                status.images.get_or_insert_default().push(image);
            }
            ("cpu" | "pods", _) => drop(allocatable.insert(key.into(), QuantityText(value.into()))),
            ("mem", _) => drop(allocatable.insert("memory".into(), QuantityText(value.into()))),
            ("gpu", _) => drop(allocatable.insert("example.com/gpu".into(), QuantityText(value.into()))),
            _ => panic!("nobody knows {word:?} of a node"),
        }
    }
    status.allocatable = Some(allocatable);
    let metadata = ObjectMeta {
        name: Some(name.into()),
        uid: Some(format!("uid-{name}")),
        labels: Some(labels),
        ..ObjectMeta::default()
    };
    Arc::new(Node { metadata, spec: Some(spec), status: Some(status) })
}

/// Seconds after the epoch.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a small number of seconds")
}

/// A selector `key=value`.
pub fn selector(pair: &str) -> LabelSelector {
    let mut labels = BTreeMap::new();
    insert(&mut labels, pair);
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn insert(labels: &mut BTreeMap<String, String>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    labels.insert(key.into(), value.into());
}

fn topology_key(short: &str) -> String {
    match short {
        "host" => "kubernetes.io/hostname".into(),
        "zone" => "topology.kubernetes.io/zone".into(),
        other => other.into(),
    }
}

fn ask(spec: &mut PodSpec, name: &str, value: &str) {
    let resources = spec.containers[0].resources.get_or_insert_default();
    resources.requests.get_or_insert_default().insert(name.into(), QuantityText(value.into()));
}

fn toleration(parts: &[&str]) -> Toleration {
    let (key, value) = parts[0].split_once('=').map_or((parts[0], None), |(key, value)| (key, Some(value)));
    Toleration {
        key: (!key.is_empty()).then(|| key.into()),
        operator: Some(if value.is_some() { "Equal".into() } else { "Exists".into() }),
        value: value.map(Into::into),
        effect: parts.get(1).map(|it| (*it).into()),
        toleration_seconds: None,
    }
}

fn pod_affinity(spec: &mut PodSpec) -> &mut PodAffinity {
    spec.affinity.get_or_insert_default().pod_affinity.get_or_insert_default()
}

fn pod_anti_affinity(spec: &mut PodSpec) -> &mut PodAntiAffinity {
    spec.affinity.get_or_insert_default().pod_anti_affinity.get_or_insert_default()
}

fn node_affinity(spec: &mut PodSpec) -> &mut NodeAffinity {
    spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default()
}

fn term(topology: &str, pair: &str) -> PodAffinityTerm {
    // `team=*/app=web`: in all namespaces that are labelled `team`.
    let (namespaces, pair) = pair.split_once('/').map_or((None, pair), |(namespaces, pair)| (Some(namespaces), pair));
    PodAffinityTerm {
        topology_key: topology_key(topology),
        label_selector: Some(selector(pair)),
        namespace_selector: namespaces.map(|it| if it == "*" { LabelSelector::default() } else { selector(it) }),
        ..PodAffinityTerm::default()
    }
}

fn weighted(weight: &str, topology: &str, pair: &str) -> WeightedPodAffinityTerm {
    WeightedPodAffinityTerm { weight: weight.parse().expect("a weight"), pod_affinity_term: term(topology, pair) }
}

/// `key=value`, `key>number`, or `name=NODE` for the node's name.
fn node_term(text: &str) -> NodeSelectorTerm {
    let (key, operator, value) = match text.split_once('>') {
        Some((key, value)) => (key, "Gt", value),
        None => text.split_once('=').map(|(key, value)| (key, "In", value)).expect("key=value"),
    };
    let (field, key) = if key == "name" { (true, "metadata.name".to_owned()) } else { (false, topology_key(key)) };
    let requirement = NodeSelectorRequirement { key, operator: operator.into(), values: Some(vec![value.into()]) };
    if field {
        NodeSelectorTerm { match_fields: Some(vec![requirement]), ..NodeSelectorTerm::default() }
    } else {
        NodeSelectorTerm { match_expressions: Some(vec![requirement]), ..NodeSelectorTerm::default() }
    }
}
