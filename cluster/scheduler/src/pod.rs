//! A pod as the scheduler sees it: what it asks for and what it requires, worked out once when it is observed.

use crate::amounts::{self, Amounts, Nonzero};
use crate::matching::{Labels, NodeRequirement, NodeTerm, Requirement, Selector};
use api::core::v1::{Container, Pod, PodAffinityTerm, PodSpec, Taint, Toleration, TopologySpreadConstraint};
use api::core::v1::{Namespace, WeightedPodAffinityTerm};
use api::scheduling::v1::PriorityClass;
use api::{ObjectExt, Timestamp};
use client::Caches;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A pod's UID.
pub type Uid = Arc<str>;

/// A pod and what follows from it. Immutable: a changed pod is a new value.
#[derive(Clone, Debug, PartialEq)]
pub struct PodInfo {
    /// As it was last observed.
    pub pod: Arc<Pod>,
    /// Its UID.
    pub uid: Uid,
    /// What it asks for.
    pub requests: Amounts,
    /// What it counts for in scores.
    pub nonzero: Nonzero,
    /// Effective priority.
    pub priority: i32,
    /// Whether it may push out others of lower priority.
    pub may_preempt: bool,
    /// Ports that it takes from its node.
    pub ports: Vec<HostPort>,
    /// `nodeSelector` and required node affinity.
    pub node_requirement: NodeRequirement,
    /// Preferred node affinity: weights and terms.
    pub node_preferences: Vec<(i64, NodeTerm)>,
    /// Affinity and anti-affinity to other pods; `None` without any.
    pub terms: Option<Arc<PodTerms>>,
    /// Topology spread constraints.
    pub spread: Vec<Constraint>,
    /// Images of its containers and init containers, one entry each, with tags.
    pub images: Vec<String>,
}

/// Affinity terms of a pod. Pods of one workload share equal ones, which is why they are compared and counted in groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodTerms {
    /// Required affinity.
    pub affinity: Vec<Term>,
    /// Required anti-affinity.
    pub anti_affinity: Vec<Term>,
    /// Preferred affinity with weights, and anti-affinity with negative ones.
    pub preferred: Vec<(i64, Term)>,
}

/// One affinity term: pods of certain namespaces and labels, seen from a topology.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// Label of nodes whose value names a domain.
    pub topology_key: String,
    selector: Selector,
    namespaces: BTreeSet<String>,
    namespace_selector: Selector,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Label of nodes whose value names a domain.
    pub topology_key: String,
    /// By how much a domain may exceed the emptiest one.
    pub max_skew: i64,
    /// With fewer domains than this, the emptiest one counts as empty.
    pub min_domains: usize,
    /// `DoNotSchedule` rather than `ScheduleAnyway`.
    pub hard: bool,
    /// Which pods are counted.
    pub selector: Selector,
    /// Whether nodes that the pod's node affinity excludes are left out.
    pub honor_affinity: bool,
    /// Whether nodes with taints that the pod does not tolerate are left out.
    pub honor_taints: bool,
}

/// A port of a node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    port: i32,
    protocol: String,
    ip: String,
}

impl HostPort {
    /// Whether both cannot be had on one node: the same port on the same address, where the wildcard is every address.
    pub fn conflicts(&self, other: &Self) -> bool {
        let wild = |port: &Self| port.ip == WILDCARD;
        self.port == other.port && self.protocol == other.protocol && (self.ip == other.ip || wild(self) || wild(other))
    }
}

/// All addresses of a node.
const WILDCARD: &str = "0.0.0.0";
/// The scheduler that pods name if they name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

impl PodInfo {
    /// Works out what follows from `pod`. `caches` give priority classes to a pod whose priority nobody filled in.
    pub fn new(pod: Arc<Pod>, caches: &Caches) -> Self {
        let absent = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&absent);
        let class = PriorityOf::new(spec, caches);
        let affinity = spec.affinity.as_ref();
        let node = affinity.and_then(|it| it.node_affinity.as_ref());
        let required = node.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = node.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref());
        let terms = pod_terms(&pod, spec);
        Self {
            uid: pod.uid().into(),
            requests: amounts::pod_requests(spec),
            nonzero: amounts::pod_nonzero(spec),
            priority: class.priority,
            may_preempt: class.may_preempt,
            ports: host_ports(spec),
            node_requirement: NodeRequirement::new(spec.node_selector.as_ref(), required),
            node_preferences: preferred
                .into_iter()
                .flatten()
                .map(|it| (i64::from(it.weight), NodeTerm::new(&it.preference)))
                .collect(),
            terms: (terms != PodTerms::default()).then(|| Arc::new(terms)),
            spread: spec.topology_spread_constraints.iter().flatten().map(|it| constraint(it, pod.labels())).collect(),
            images: all_containers(spec).filter_map(|it| it.image.as_deref()).map(with_tag).collect(),
            pod,
        }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.pod.namespace()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.pod.name()
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        self.pod.labels()
    }

    /// The node that it was bound to; empty before.
    pub fn node_name(&self) -> &str {
        self.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
    }

    /// The node that was made free for it; empty if none was.
    pub fn nominated_node_name(&self) -> &str {
        self.pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default()
    }

    /// What it tolerates.
    pub fn tolerations(&self) -> &[Toleration] {
        self.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }

    /// Whether something must happen before it may be scheduled.
    pub fn is_gated(&self) -> bool {
        self.pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
    }

    /// Whether it has ended, and so takes nothing from a node.
    pub fn is_terminal(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Whether a scheduler of this name is to schedule it.
    pub fn is_for(&self, scheduler: &str) -> bool {
        let named = self.pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or_default();
        if named.is_empty() { scheduler == DEFAULT_SCHEDULER } else { named == scheduler }
    }

    /// Since when it runs.
    pub fn started(&self) -> Option<Timestamp> {
        self.pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0)
    }

    /// Whether the priority was read from a class, which may change.
    pub fn priority_is_looked_up(&self) -> bool {
        self.pod.spec.as_ref().is_none_or(|spec| spec.priority.is_none())
    }

    /// Whether it tolerates `taint`.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations().iter().any(|it| tolerates(it, taint))
    }

    /// The first taint that keeps it off a node.
    pub fn untolerated<'a>(&self, taints: &'a [Taint]) -> Option<&'a Taint> {
        taints
            .iter()
            .find(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && !self.tolerates(taint))
    }

    /// Whether anything differs that decides where it can run. Status does not: the scheduler writes it itself.
    pub fn schedules_differently(&self, other: &Self) -> bool {
        self.pod.spec != other.pod.spec || self.labels() != other.labels()
    }

    /// `namespace/name`, as messages have it.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }
}

/// Whether a toleration is meant for a taint and accepts it.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let unset_or = |field: &Option<String>, value: &str| field.as_deref().is_none_or(|it| it.is_empty() || it == value);
    if !unset_or(&toleration.effect, &taint.effect) || !unset_or(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
        "Exists" => true,
        _ => false,
    }
}

impl Term {
    fn new(term: &PodAffinityTerm, pod: &Pod) -> Self {
        let mut selector = Selector::new(term.label_selector.as_ref());
        for (key, value) in values_of(term.match_label_keys.as_ref(), pod.labels()) {
            selector.and(Requirement::equals(key, value));
        }
        for (key, value) in values_of(term.mismatch_label_keys.as_ref(), pod.labels()) {
            selector.and(Requirement::differs(key, value));
        }
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(pod.namespace().to_owned());
        }
        let namespace_selector = Selector::new(term.namespace_selector.as_ref());
        Self { topology_key: term.topology_key.clone(), selector, namespaces, namespace_selector }
    }

    /// Whether a pod of these labels in this namespace is meant.
    pub fn matches(&self, namespace: &str, labels: &Labels, caches: &Caches) -> bool {
        self.selector.matches(labels) && self.covers(namespace, caches)
    }

    /// Whether labels of namespaces decide what it means.
    pub fn depends_on_namespaces(&self) -> bool {
        self.namespace_selector != Selector::Nothing
    }

    fn covers(&self, namespace: &str, caches: &Caches) -> bool {
        if self.namespaces.contains(namespace) || self.namespace_selector.is_everything() {
            return true;
        }
        if self.namespace_selector == Selector::Nothing {
            return false;
        }
        caches.get::<Namespace>("", namespace).is_some_and(|it| self.namespace_selector.matches(it.labels()))
    }
}

/// The keys that the labels have, with their values.
fn values_of<'a>(keys: Option<&'a Vec<String>>, labels: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
    keys.into_iter().flatten().filter_map(|key| labels.get(key).map(|value| (key.as_str(), value.as_str())))
}

fn pod_terms(pod: &Pod, spec: &PodSpec) -> PodTerms {
    let Some(affinity) = &spec.affinity else { return PodTerms::default() };
    let (to, away) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let all = |terms: Option<&Vec<PodAffinityTerm>>| terms.into_iter().flatten().map(|it| Term::new(it, pod)).collect();
    let weighted = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| -> Vec<(i64, Term)> {
        let terms = terms.into_iter().flatten();
        terms.map(|it| (sign * i64::from(it.weight), Term::new(&it.pod_affinity_term, pod))).collect()
    };
    let mut preferred = weighted(to.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref()), 1);
    preferred
        .extend(weighted(away.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref()), -1));
    PodTerms {
        affinity: all(to.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref())),
        anti_affinity: all(away.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref())),
        preferred,
    }
}

fn constraint(it: &TopologySpreadConstraint, labels: &Labels) -> Constraint {
    let mut selector = Selector::new(it.label_selector.as_ref());
    for (key, value) in values_of(it.match_label_keys.as_ref(), labels) {
        selector.and(Requirement::equals(key, value));
    }
    Constraint {
        topology_key: it.topology_key.clone(),
        max_skew: it.max_skew.into(),
        min_domains: it.min_domains.and_then(|it| usize::try_from(it).ok()).unwrap_or(1),
        hard: it.when_unsatisfiable == "DoNotSchedule",
        selector,
        honor_affinity: it.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: it.node_taints_policy.as_deref() == Some("Honor"),
    }
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Ports of containers and sidecars. Other init containers are gone before the pod's ports matter.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|it| amounts::is_sidecar(it));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|it| it.ports.iter().flatten());
    let text = |field: &Option<String>, default: &str| match field.as_deref() {
        None | Some("") => default.to_owned(),
        Some(text) => text.to_owned(),
    };
    let port = |it: &api::core::v1::ContainerPort| HostPort {
        port: it.host_port.unwrap_or_default(),
        protocol: text(&it.protocol, "TCP"),
        ip: text(&it.host_ip, WILDCARD),
    };
    ports.map(port).filter(|it| it.port > 0).collect()
}

/// An image without a tag is the latest.
fn with_tag(image: &str) -> String {
    if image.rfind(':') <= image.rfind('/') { format!("{image}:latest") } else { image.to_owned() }
}

/// What a pod's priority class says.
struct PriorityOf {
    priority: i32,
    may_preempt: bool,
}

impl PriorityOf {
    fn new(spec: &PodSpec, caches: &Caches) -> Self {
        let looked_up = match (spec.priority, spec.priority_class_name.as_deref().unwrap_or_default()) {
            (Some(_), _) => None,
            (None, "") => default_class(caches),
            (None, name) => caches.get::<PriorityClass>("", name),
        };
        let built_in = match spec.priority_class_name.as_deref() {
            Some("system-cluster-critical") => 2_000_000_000,
            Some("system-node-critical") => 2_000_001_000,
            _ => 0,
        };
        let priority = spec.priority.unwrap_or_else(|| looked_up.map_or(built_in, |class| class.value));
        let policy = spec.preemption_policy.as_ref().or_else(|| looked_up.and_then(|it| it.preemption_policy.as_ref()));
        Self { priority, may_preempt: policy.is_none_or(|policy| policy != "Never") }
    }
}

/// The class of pods that name none: of several, the lowest.
fn default_class(caches: &Caches) -> Option<&Arc<PriorityClass>> {
    let classes = caches.all::<PriorityClass>().filter(|class| class.global_default == Some(true));
    classes.min_by(|a, b| (a.value, a.name()).cmp(&(b.value, b.name())))
}
