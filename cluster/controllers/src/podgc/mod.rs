//! Pods that nobody else takes away.
//!
//! | pod | what happens |
//! |---|---|
//! | bound to a node that does not exist, for 40 s | marked Failed and DisruptionTarget, deleted without grace |
//! | terminating, bound to no node | the same without the condition |
//! | terminating, on an unready node that is marked out of service | the same without the condition |
//! | ended, and one too many | deleted, the evicted and the oldest first |
//!
//! For how long a node has been missing is known by this process alone; a new leader waits anew.
//!
//! **Invariant:** every delete is of the UID that was judged (`a_pod_of_the_same_name_is_not_taken_for_the_old_one`).

use crate::taints::{self, NO_EXECUTE, NO_SCHEDULE, OUT_OF_SERVICE};
use crate::{Config, doomed, pod};
use api::core::v1::{Node, Pod};
use api::{ObjectExt, is_node_ready};
use client::{Caches, Controller, Key, Now, Plan, Watch, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a node must have been missing: kubelets register anew after their object was deleted by mistake.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How long to wait for the cache of nodes if it is behind.
const CATCH_UP: Duration = Duration::from_secs(2);
/// How many ended pods one plan deletes: a plan is a list in memory, and the next follows at once.
const DELETES_PER_PLAN: usize = 100;

/// The controller.
pub struct PodGc {
    /// So many ended pods may stay; 0 for any number.
    threshold: usize,
    /// Since when nodes with pods have been missing.
    missing: BTreeMap<String, Duration>,
}

impl PodGc {
    /// No node is missing yet.
    pub fn new(config: &Config) -> Self {
        Self { threshold: config.terminated_pod_threshold, missing: BTreeMap::new() }
    }
}

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "pod-garbage-collector-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        vec![Watch::map::<Pod>(keys_of_pod), Watch::map::<Node>(keys_of_node)]
    }

    fn restart(&mut self) {
        self.missing.clear();
    }

    fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan {
        if *key == everything() {
            let pods: Vec<&Arc<Pod>> = caches.all::<Pod>().collect();
            return plan_ended(&pods, self.threshold);
        }
        let Some(pod) = caches.get::<Pod>(&key.namespace, &key.name) else { return Plan::nothing() };
        let node = caches.get::<Node>("", pod::node(pod)).map(|node| &**node);
        let missing = self.missing_for(caches, pod, now.monotonic);
        plan(pod, node, missing, caches.revision(Node::resource()), now)
    }
}

/// The key of the ended pods of the whole cluster.
fn everything() -> Key {
    Key::new("", "")
}

/// Whether something may have to be done about a pod beside counting it.
fn keys_of_pod(caches: &Caches, pod: &Pod) -> Vec<Key> {
    let mut keys = Vec::new();
    let node = pod::node(pod);
    if pod.is_terminating() || (!node.is_empty() && caches.get::<Node>("", node).is_none()) {
        keys.push(Key::of(pod));
    }
    if pod::is_terminal(pod) {
        keys.push(everything());
    }
    keys
}

/// The pods on a node that is gone, and those that cannot end on one that is out of service.
fn keys_of_node(caches: &Caches, node: &Node) -> Vec<Key> {
    let gone = caches.get::<Node>("", node.name()).is_none_or(|now| now.uid() != node.uid());
    if !gone && !is_out_of_service(node) {
        return Vec::new();
    }
    let here = caches.all::<Pod>().filter(|pod| pod::node(pod) == node.name() && (gone || pod.is_terminating()));
    here.map(|pod| Key::of(&**pod)).collect()
}

impl PodGc {
    /// For how long the node of a pod has been missing; `None` if it exists, or is none.
    fn missing_for(&mut self, caches: &Caches, pod: &Pod, now: Duration) -> Option<Duration> {
        let node = pod::node(pod);
        if node.is_empty() {
            return None;
        }
        if caches.get::<Node>("", node).is_some() {
            self.missing.remove(node);
            return None;
        }
        if !self.missing.contains_key(node) {
            // Nodes whose pods are all gone need no memory.
            let with_pods: BTreeSet<&str> = caches.all::<Pod>().map(|pod| pod::node(pod)).collect();
            self.missing.retain(|name, _| with_pods.contains(name.as_str()));
            self.missing.insert(node.to_owned(), now);
        }
        self.missing.get(node).map(|since| now.saturating_sub(*since))
    }
}

/// What is done about one pod. Its node has been `missing` for so long; nodes are known up to revision `known`.
fn plan(pod: &Pod, node: Option<&Node>, missing: Option<Duration>, known: i64, now: Now) -> Plan {
    let mut plan = Plan::nothing();
    // What is left then is for finalizers.
    let forced = pod.is_terminating() && pod.metadata.deletion_grace_period_seconds == Some(0);
    if forced {
        return plan;
    }
    if pod.is_terminating() && pod::node(pod).is_empty() {
        mark::sometimes!("a pod ended before it was bound");
        plan.writes = force(pod, None, now);
    } else if let Some(missing) = missing {
        if missing < QUARANTINE {
            plan.wait(format!("node {} has been missing for {} s", pod::node(pod), missing.as_secs()));
            plan.requeue(QUARANTINE - missing);
        } else if pod.resource_version().parse::<i64>().is_ok_and(|version| version > known) {
            plan.wait("nodes are not known well enough");
            plan.requeue(CATCH_UP);
        } else {
            mark::sometimes!("a pod's node is gone");
            plan.writes = force(pod, Some("PodGC: node no longer exists"), now);
        }
    } else if pod.is_terminating() && node.is_some_and(|node| is_out_of_service(node) && !is_node_ready(node)) {
        mark::sometimes!("a pod cannot end on a node out of service");
        plan.writes = force(pod, None, now);
    }
    plan
}

/// Marks a pod as failed, unless it has ended, and deletes it without grace.
fn force(pod: &Pod, disrupted: Option<&str>, now: Now) -> Vec<Write> {
    let mut writes = Vec::new();
    if !pod::is_terminal(pod) {
        let mut failed = pod.clone();
        failed.status.get_or_insert_default().phase = Some("Failed".to_owned());
        if let Some(message) = disrupted {
            doomed::mark_disrupted(&mut failed, "DeletionByPodGC", message, now.wall);
        }
        writes.push(Write::update_status(&failed));
    }
    writes.push(Write::delete(pod).with_grace(0));
    writes
}

/// What is done about the ended pods of the whole cluster if only so many may stay.
fn plan_ended(pods: &[&Arc<Pod>], threshold: usize) -> Plan {
    let mut ended: Vec<&Pod> = pods.iter().map(|pod| &***pod).filter(|pod| pod::is_terminal(pod)).collect();
    if threshold == 0 || ended.len() <= threshold {
        return Plan::nothing();
    }
    mark::sometimes!("too many pods have ended");
    let too_many = ended.len() - threshold;
    let evicted = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.reason.as_deref() == Some("Evicted"));
    ended.sort_by_key(|pod| (!evicted(pod), pod.created(), pod.namespace().to_owned(), pod.name().to_owned()));
    let oldest = ended.iter().take(too_many).filter(|pod| !pod.is_terminating()).take(DELETES_PER_PLAN);
    Plan { writes: oldest.map(|pod| Write::delete(*pod).with_grace(0)).collect(), ..Plan::nothing() }
}

fn is_out_of_service(node: &Node) -> bool {
    [NO_EXECUTE, NO_SCHEDULE].iter().any(|effect| taints::has(node, OUT_OF_SERVICE, effect))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use api::core::v1::{NodeCondition, NodeSpec, NodeStatus, PodSpec, PodStatus, Taint};
    use api::{ObjectMeta, Time, Timestamp};
    use expect_test::{Expect, expect};

    fn now(second: u64) -> Now {
        Now { wall: Timestamp::from_second(1_000_000).unwrap(), monotonic: Duration::from_secs(second) }
    }

    /// `name@node`, then `T`erminating, `F`ailed, `E`victed.
    fn a_pod(text: &str) -> Pod {
        let (path, flags) = text.split_once(' ').unwrap_or((text, ""));
        let (name, node) = path.split_once('@').unwrap_or((path, ""));
        let has = |flag| flags.contains(flag);
        Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("default".to_owned()),
                deletion_timestamp: has('T').then(|| Time(now(0).wall)),
                deletion_grace_period_seconds: has('T').then_some(30),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { node_name: Some(node.to_owned()), ..PodSpec::default() }),
            status: Some(PodStatus {
                phase: Some(if has('F') { "Failed" } else { "Running" }.to_owned()),
                reason: has('E').then(|| "Evicted".to_owned()),
                ..PodStatus::default()
            }),
        }
    }

    fn a_node(ready: &str, out_of_service: bool) -> Node {
        let taint = Taint { key: OUT_OF_SERVICE.to_owned(), effect: NO_EXECUTE.to_owned(), ..Taint::default() };
        let ready = NodeCondition { type_: "Ready".to_owned(), status: ready.to_owned(), ..NodeCondition::default() };
        Node {
            metadata: ObjectMeta { name: Some("n".to_owned()), ..ObjectMeta::default() },
            spec: Some(NodeSpec { taints: out_of_service.then(|| vec![taint]), ..NodeSpec::default() }),
            status: Some(NodeStatus { conditions: Some(vec![ready]), ..NodeStatus::default() }),
        }
    }

    /// What is done about pod `p` in the first and in the fiftieth second.
    fn check(pod: &str, node: Option<Node>, expect: Expect) {
        let mut fake = Fake::new();
        fake.put(a_pod(pod));
        node.into_iter().for_each(|node| drop(fake.put(node)));
        let mut controller = PodGc::new(&Config::default());
        let mut log = Vec::new();
        for second in [0, 39, 40, 41] {
            let plan = controller.reconcile(&fake.caches, &Key::new("default", "p"), now(second));
            log.extend(plan.writes.iter().map(|write| format!("{second} {write}")));
            fake.perform(&plan).unwrap();
        }
        expect.assert_eq(&log.join("\n"));
    }

    #[test]
    fn pods_of_a_missing_node_go_after_quarantine() {
        check(
            "p@n",
            None,
            expect![[r#"
                40 update pods/status default/p
                40 delete pods default/p"#]],
        );
        check("p@n F", None, expect!["40 delete pods default/p"]);
        check("p@n", Some(a_node("Unknown", false)), expect![""]);
        check("p", None, expect![""]);
    }

    #[test]
    fn terminating_pods_without_a_node_or_on_one_out_of_service_go_at_once() {
        check(
            "p T",
            None,
            expect![[r#"
                0 update pods/status default/p
                0 delete pods default/p"#]],
        );
        check(
            "p@n T",
            Some(a_node("Unknown", true)),
            expect![[r#"
                0 update pods/status default/p
                0 delete pods default/p"#]],
        );
        check("p@n T", Some(a_node("True", true)), expect![""]);
        check("p@n T", Some(a_node("Unknown", false)), expect![""]);
        check("p@n", Some(a_node("Unknown", true)), expect![""]);
    }

    #[test]
    fn a_node_that_comes_back_in_time_keeps_its_pods() {
        let mut fake = Fake::new();
        fake.put(a_pod("p@n"));
        let mut controller = PodGc::new(&Config::default());
        let key = Key::new("default", "p");
        assert!(controller.reconcile(&fake.caches, &key, now(0)).is_empty());
        fake.put(a_node("True", false));
        assert!(controller.reconcile(&fake.caches, &key, now(50)).is_empty());
        fake.remove::<Node>("", "n");
        let plan = controller.reconcile(&fake.caches, &key, now(60));
        assert_eq!(plan.requeue_after, Some(QUARANTINE));
    }

    #[test]
    fn a_pod_of_the_same_name_is_not_taken_for_the_old_one() {
        let mut fake = Fake::new();
        fake.put(a_pod("p T"));
        let plan = PodGc::new(&Config::default()).reconcile(&fake.caches, &Key::new("default", "p"), now(0));
        fake.remove::<Pod>("default", "p");
        fake.put(a_pod("p"));
        assert!(fake.perform(&plan).is_err());
        assert!(fake.caches.get::<Pod>("default", "p").is_some());
    }

    #[test]
    fn ended_pods_above_the_threshold_go_evicted_first_then_the_oldest() {
        let mut fake = Fake::new();
        for (index, flags) in ["F", "F", "FE", "", "F"].iter().enumerate() {
            let mut pod = a_pod(&format!("p{index}@n {flags}"));
            pod.metadata.creation_timestamp = Some(Time(Timestamp::from_second(10 - index as i64).unwrap()));
            fake.put(pod);
        }
        let pods: Vec<&Arc<Pod>> = fake.caches.all::<Pod>().collect();
        let show = |plan: Plan| plan.writes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        expect![[r#"
            delete pods default/p2
            delete pods default/p4"#]]
        .assert_eq(&show(plan_ended(&pods, 2)));
        expect![""].assert_eq(&show(plan_ended(&pods, 4)));
    }
}
