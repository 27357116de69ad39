//! Facts about objects, strikes and clocks that several checkers need. None of it is taken from the product: what a pod
//! asks for, or which taints it tolerates, is worked out here anew.

use super::{Commit, Node, Object, Pod, World};
use crate::log::Log;
use api::core::v1::{NodeCondition, PodCondition, ResourceRequirements, Taint, Toleration};
use api::{Quantity, QuantityText};
use faults::{Kind, Ns, What};
use record::{Record, Sight, Strike, WatchEvent};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: Ns = 1_000_000_000;

/// D: how long after its last word a node is found lost.
pub(crate) const DETECTION_NS: Ns = 50 * SECOND_NS;

/// Effect of a taint: nothing new is scheduled.
pub(crate) const NO_SCHEDULE: &str = "NoSchedule";
/// Effect of a taint: what runs is evicted.
pub(crate) const NO_EXECUTE: &str = "NoExecute";

/// Where pods are kept.
pub(crate) const PODS: &str = "/registry/core/pods/";
/// Where nodes are kept.
pub(crate) const NODES: &str = "/registry/core/nodes/";

/// The Lease of the scheduler.
pub(crate) const SCHEDULER: &str = "kube-system/kube-scheduler";
/// The Lease of all other controllers.
pub(crate) const CONTROLLERS: &str = "kube-system/kube-controller-manager";

impl World<'_> {
    /// How often a process came to lead by this Lease between these times.
    pub(crate) fn elections_between(&self, by: &str, from_ns: Ns, until_ns: Ns) -> usize {
        let elections = self.record.cluster.sights.iter().filter(|sight| {
            let Sight::Elected { at_ns, lease, leads: true, .. } = sight else { return false };
            lease == by && (from_ns..=until_ns).contains(at_ns)
        });
        elections.count()
    }
}

impl Object {
    pub(crate) fn pod(&self) -> Option<&Pod> {
        let Object::Pod(pod) = self else { return None };
        Some(pod)
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        let Object::Node(node) = self else { return None };
        Some(node)
    }
}

impl Commit {
    /// The pod before it and after it, of whatever UID.
    pub(crate) fn pods(&self) -> (Option<&Pod>, Option<&Pod>) {
        (self.old.as_deref().and_then(Object::pod), self.new.as_deref().and_then(Object::pod))
    }

    /// The node before it and after it.
    pub(crate) fn nodes(&self) -> (Option<&Node>, Option<&Node>) {
        (self.old.as_deref().and_then(Object::node), self.new.as_deref().and_then(Object::node))
    }
}

// Pods.

/// The node that a pod is bound to; empty before that.
pub(crate) fn pod_node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Its phase; empty before anybody wrote one.
pub(crate) fn pod_phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// One of its conditions.
pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().map(|condition| &**condition).find(|condition| condition.type_ == kind)
}

/// Whether its condition Ready is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Whether its containers have ended for good.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(pod_phase(pod), "Succeeded" | "Failed")
}

/// Whether its deletion was asked for.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither ended nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

/// UID of the one owner that controls it.
pub(crate) fn controller_uid(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// G: how long its containers have to end once its deletion is asked for, as its spec says.
pub(crate) fn grace_ns(pod: &Pod) -> Ns {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    u64::try_from(seconds).unwrap_or(0) * SECOND_NS
}

/// The grace that its deletion left it: that of its spec or a shorter one. `None` while nobody deletes it.
pub(crate) fn deletion_grace_ns(pod: &Pod) -> Option<Ns> {
    pod.metadata.deletion_timestamp.as_ref()?;
    let seconds = pod.metadata.deletion_grace_period_seconds;
    Some(seconds.map_or_else(|| grace_ns(pod), |seconds| u64::try_from(seconds).unwrap_or(0) * SECOND_NS))
}

/// Amounts of resources in billionths of their units, by name; `pods` counts pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts(pub(crate) BTreeMap<String, i128>);

impl Amounts {
    fn of(texts: Option<&BTreeMap<String, QuantityText>>) -> Self {
        let read = |text: &QuantityText| Quantity::parse(&text.0).map_or(0, |quantity| quantity.nanos());
        Self(texts.into_iter().flatten().map(|(name, text)| (name.clone(), read(text))).collect())
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }

    pub(crate) fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let here = self.0.entry(name.clone()).or_default();
            *here = (*here).max(*amount);
        }
    }

    /// The first resource of which this is more than there is, with both amounts in billionths.
    pub(crate) fn beyond(&self, most: &Self) -> Option<(&str, i128, i128)> {
        self.0.iter().find_map(|(name, amount)| {
            let there = most.0.get(name).copied().unwrap_or(0);
            (*amount > there && *amount > 0).then_some((name.as_str(), *amount, there))
        })
    }
}

/// What a pod asks a node for: its containers and sidecars together, or, if that is more, one of its init containers
/// with the sidecars before it; its overhead on top; and one place.
pub(crate) fn requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let of = |resources: &Option<ResourceRequirements>| {
        Amounts::of(resources.as_ref().and_then(|resources| resources.requests.as_ref()))
    };
    let mut running = Amounts::default();
    spec.containers.iter().for_each(|container| running.add(&of(&container.resources)));
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let asked = of(&container.resources);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&asked);
            starting.raise(&sidecars);
        } else {
            let mut both = sidecars.clone();
            both.add(&asked);
            starting.raise(&both);
        }
    }
    running.add(&sidecars);
    running.raise(&starting);
    // What is asked for the pod as a whole stands for what its containers ask for.
    running.0.extend(of(&spec.resources).0);
    running.add(&Amounts::of(spec.overhead.as_ref()));
    running.0.insert("pods".to_owned(), i128::from(SECOND_NS));
    running
}

// Nodes.

/// Name of a node by its number.
pub(crate) fn node_name(node: u32) -> String {
    format!("n{}", node + 1)
}

/// Number of a node by its name; `None` for a name that the harness gives to none.
pub(crate) fn node_number(name: &str) -> Option<u32> {
    name.strip_prefix('n')?.parse::<u32>().ok()?.checked_sub(1)
}

/// What a node has for pods.
pub(crate) fn allocatable(node: &Node) -> Amounts {
    Amounts::of(node.status.as_ref().and_then(|status| status.allocatable.as_ref()))
}

/// One of a node's conditions.
pub(crate) fn node_condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Whether a node's condition Ready is true.
pub(crate) fn node_is_ready(node: &Node) -> bool {
    node_condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Whether a node is closed to new pods.
pub(crate) fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

/// A node's taints.
pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// A node's labels.
pub(crate) fn node_label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// A pod's tolerations.
pub(crate) fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// Whether a toleration is one of this taint: its effect, its key and its value, each if it names one.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "Exists" => true,
            "" | "Equal" => value(&toleration.value) == value(&taint.value),
            _ => false,
        }
}

// Strikes and clocks.

impl World<'_> {
    /// The strikes on a node that touch the time between these two.
    pub(crate) fn strikes_on_node(&self, node: u32, from_ns: Ns, until_ns: Ns) -> impl Iterator<Item = &Strike> {
        self.strikes_between(from_ns, until_ns).filter(move |strike| strike.nodes.contains(&node))
    }

    /// All strikes that touch the time between these two.
    pub(crate) fn strikes_between(&self, from_ns: Ns, until_ns: Ns) -> impl Iterator<Item = &Strike> {
        self.record.strikes.iter().filter(move |strike| strike.from_ns <= until_ns && strike.until_ns >= from_ns)
    }

    /// The number of a pod's node.
    pub(crate) fn node_of(&self, pod: &Pod) -> Option<u32> {
        node_number(pod_node(pod)).filter(|node| *node < self.cluster.nodes)
    }
}

/// Whether a strike makes clocks of its hosts wrong.
pub(crate) fn is_of_clocks(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ClockOffset | Kind::ClockDrift | Kind::ClockSteps | Kind::ClockFreeze | Kind::ClockJump | Kind::NodeClock
    )
}

/// How far the wall clocks of two members may be apart by this time. An offset ends with its fault; what a drift, a
/// jump or a frozen clock has gained or lost stays.
pub(crate) fn skew_ns(record: &Record, at_ns: Ns) -> Ns {
    let wrong = |strike: &Strike| -> Ns {
        let lasted = strike.until_ns.min(at_ns).saturating_sub(strike.from_ns);
        let active = strike.from_ns <= at_ns && at_ns <= strike.until_ns.saturating_add(SECOND_NS);
        let fault = record.schedule.faults.iter().find(|fault| fault.id == strike.fault);
        match fault.map(|fault| &fault.what) {
            Some(What::ClockOffset { offset_ns, .. }) => {
                if active {
                    offset_ns.unsigned_abs()
                } else {
                    0
                }
            }
            Some(What::ClockSteps { step_ns, .. }) => {
                if active {
                    step_ns.unsigned_abs()
                } else {
                    0
                }
            }
            Some(What::ClockDrift { permille, .. }) => lasted / 1000 * Ns::from(permille.abs_diff(1000)),
            Some(What::ClockFreeze { .. }) => lasted,
            Some(What::ClockJump { ahead_ns, .. }) => *ahead_ns,
            Some(_) => 0,
            // A strike that no fault of the schedule explains: nobody knows how far.
            None => Ns::MAX,
        }
    };
    let strikes = record.strikes.iter().filter(|strike| is_of_clocks(strike.kind) && !strike.members.is_empty());
    strikes.filter(|strike| strike.from_ns <= at_ns).map(wrong).fold(0, Ns::saturating_add)
}

// What was there when.

/// Every object's history, by registry key.
pub(crate) struct Timeline<'a> {
    histories: BTreeMap<&'a str, Vec<&'a Commit>>,
}

impl<'a> Timeline<'a> {
    pub(crate) fn new(world: &'a World<'_>) -> Self {
        let mut histories: BTreeMap<&'a str, Vec<&'a Commit>> = BTreeMap::new();
        for commit in &world.commits {
            histories.entry(&commit.key).or_default().push(commit);
        }
        Self { histories }
    }

    /// Every change of one object, in order.
    pub(crate) fn history(&self, key: &str) -> &[&'a Commit] {
        self.histories.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every key that begins so, in order, with its changes.
    pub(crate) fn below<'b>(&'b self, prefix: &'b str) -> impl Iterator<Item = (&'a str, &'b [&'a Commit])> {
        let from = self.histories.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, commits)| (*key, commits.as_slice()))
    }

    /// What is stored at a key once `revision` is applied.
    pub(crate) fn at_revision(&self, key: &str, revision: i64) -> Option<&'a Object> {
        let history = self.history(key);
        last(history, history.partition_point(|commit| commit.revision <= revision))
    }

    /// What was seen to be stored at a key at a time.
    pub(crate) fn at_time(&self, key: &str, at_ns: Ns) -> Option<&'a Object> {
        let history = self.history(key);
        last(history, history.partition_point(|commit| commit.at_ns <= at_ns))
    }

    /// What is stored at a key in the end.
    pub(crate) fn at_end(&self, key: &str) -> Option<&'a Object> {
        let history = self.history(key);
        last(history, history.len())
    }
}

fn last<'a>(history: &[&'a Commit], count: usize) -> Option<&'a Object> {
    history[..count].last().and_then(|commit| commit.new.as_deref())
}

/// The life of one pod: from when its UID was first stored until it was so no more.
pub(crate) struct PodLife<'a> {
    pub(crate) key: &'a str,
    pub(crate) uid: &'a str,
    /// Every version of it, in order; never empty.
    pub(crate) versions: Vec<Version<'a>>,
    /// When it was gone, and at which revision.
    pub(crate) gone: Option<(Ns, i64)>,
}

/// A pod from this time on.
#[derive(Clone, Copy)]
pub(crate) struct Version<'a> {
    pub(crate) at_ns: Ns,
    pub(crate) revision: i64,
    pub(crate) pod: &'a Pod,
}

impl<'a> PodLife<'a> {
    /// The first version of which this is true.
    pub(crate) fn first(&self, is: impl Fn(&Pod) -> bool) -> Option<Version<'a>> {
        self.versions.iter().copied().find(|version| is(version.pod))
    }

    /// It as first stored.
    pub(crate) fn born(&self) -> Version<'a> {
        self.versions[0]
    }

    /// It as last stored.
    pub(crate) fn last(&self) -> Version<'a> {
        self.versions[self.versions.len() - 1]
    }

    /// When it was gone, or the end of the trial.
    pub(crate) fn until_ns(&self, world: &World<'_>) -> Ns {
        self.gone.map_or(world.record.ended_ns, |(at_ns, _)| at_ns)
    }
}

/// The lives of all pods, by key and then in order of time.
pub(crate) fn pod_lives<'a>(timeline: &Timeline<'a>) -> Vec<PodLife<'a>> {
    let mut lives: Vec<PodLife<'a>> = Vec::new();
    for (key, history) in timeline.below(PODS) {
        // Of this key: whether its last life in `lives` goes on.
        let mut alive = false;
        for commit in history {
            let (at_ns, revision) = (commit.at_ns, commit.revision);
            let new = commit.new.as_deref().and_then(Object::pod);
            if let Some(life) = lives.last_mut().filter(|_| alive)
                && new.is_none_or(|pod| pod.uid() != life.uid)
            {
                life.gone = Some((at_ns, revision));
                alive = false;
            }
            let Some(pod) = new else { continue };
            let version = Version { at_ns, revision, pod };
            match lives.last_mut().filter(|_| alive) {
                Some(life) => life.versions.push(version),
                None => lives.push(PodLife { key, uid: pod.uid(), versions: vec![version], gone: None }),
            }
            alive = true;
        }
    }
    lives
}

// Fences.

/// Where fences are kept.
const FENCES: &str = "/fence/";

/// A change of the highest epoch that ever wrote under a Lease.
#[derive(Clone, Debug)]
pub(crate) struct FenceCommit<'a> {
    pub(crate) at_ns: Ns,
    pub(crate) revision: i64,
    /// `namespace/name` of the Lease.
    pub(crate) lease: &'a str,
    /// The epoch, as text; `None` if the fence was torn down.
    pub(crate) value: Option<&'a str>,
    /// Registry keys of what was written with it.
    pub(crate) with: Vec<&'a str>,
}

/// Every change of a fence, in order of revision.
pub(crate) fn fences<'a>(log: &Log<'a>) -> Vec<FenceCommit<'a>> {
    let mut fences = Vec::new();
    for entry in &log.entries {
        for event in entry.events {
            let key = crate::log::key_of(event);
            let Some(lease) = key.strip_prefix(FENCES) else { continue };
            let value = match event {
                WatchEvent::Put(kv) => Some(kv.value.as_str()),
                WatchEvent::Delete { .. } => None,
            };
            let others = entry.events.iter().map(crate::log::key_of).filter(|other| *other != key);
            fences.push(FenceCommit {
                at_ns: entry.at_ns,
                revision: entry.revision,
                lease,
                value,
                with: others.collect(),
            });
        }
    }
    fences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        Pod::parse(&format!(r#"{{"spec":{spec}}}"#), None).expect("a pod")
    }

    fn asks(spec: &str, resource: &str) -> i128 {
        requests(&pod(spec)).0.get(resource).copied().unwrap_or(0) / 1_000_000
    }

    #[test]
    fn a_pod_asks_for_what_it_needs_at_most_at_once() {
        let cpu = |name: &str, milli: u32, extra: &str| {
            format!(r#"{{"name":"{name}","resources":{{"requests":{{"cpu":"{milli}m"}}}}{extra}}}"#)
        };
        let (a, b) = (cpu("a", 100, ""), cpu("b", 250, ""));
        assert_eq!(asks(&format!(r#"{{"containers":[{a},{b}]}}"#), "cpu"), 350);
        assert_eq!(asks(&format!(r#"{{"containers":[{a}],"initContainers":[{b}]}}"#), "cpu"), 250);
        let sidecar = cpu("s", 30, r#","restartPolicy":"Always""#);
        assert_eq!(asks(&format!(r#"{{"containers":[{a}],"initContainers":[{sidecar}]}}"#), "cpu"), 130);
        assert_eq!(asks(&format!(r#"{{"containers":[{a}],"initContainers":[{sidecar},{b}]}}"#), "cpu"), 280);
        assert_eq!(asks(&format!(r#"{{"containers":[{a}],"overhead":{{"cpu":"5m"}}}}"#), "cpu"), 105);
        assert_eq!(asks(r#"{"containers":[]}"#, "pods"), 1000);
    }

    #[test]
    fn a_toleration_is_of_what_it_names() {
        let taint = |key: &str, value: &str, effect: &str| Taint {
            key: key.into(),
            value: Some(value.into()),
            effect: effect.into(),
            time_added: None,
        };
        let toleration = |json: &str| serde_json::from_str::<Toleration>(json).expect("a toleration");
        let one = taint("k", "v", NO_EXECUTE);
        for (json, expected) in [
            (r#"{"operator":"Exists"}"#, true),
            (r#"{"key":"k","operator":"Exists","effect":"NoExecute"}"#, true),
            (r#"{"key":"k","operator":"Exists","effect":"NoSchedule"}"#, false),
            (r#"{"key":"k","value":"v"}"#, true),
            (r#"{"key":"k","value":"w"}"#, false),
            (r#"{"key":"j","operator":"Exists"}"#, false),
            (r#"{"key":"k","operator":"Weird"}"#, false),
        ] {
            assert_eq!(tolerates(&toleration(json), &one), expected, "{json}");
        }
    }

    #[test]
    fn nodes_are_numbered_from_zero_and_named_from_one() {
        assert_eq!((node_name(0).as_str(), node_number("n3")), ("n1", Some(2)));
        assert_eq!((node_number("n0"), node_number("x1"), node_number("")), (None, None, None));
    }
}
