//! The scheduler against a small cluster: what it is told lags behind, what it asks for may fail.

use super::*;
use crate::testing::{node, pod_object};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Pods and nodes as the API server has them, and what the scheduler was not told yet.
#[derive(Default)]
struct Cluster {
    scheduler: Scheduler,
    now: Duration,
    /// Text of each node.
    nodes: BTreeMap<String, String>,
    /// CPUs of each node that ever was.
    cpus: BTreeMap<String, i128>,
    /// Text of each pod, and the node that it is bound to.
    pods: BTreeMap<String, (String, Option<String>)>,
    lagging: VecDeque<Told>,
    jobs: Vec<Job>,
    draws: u64,
}

#[derive(Clone)]
enum Told {
    Node(String),
    NodeGone(String),
    Pod(String),
    PodGone(String),
}

impl Cluster {
    fn new() -> Self {
        Self { scheduler: Scheduler::new("default-scheduler"), ..Self::default() }
    }

    fn node(&mut self, text: &str) {
        let facts = crate::node::NodeFacts::new(node(text));
        self.cpus.insert(facts.name().to_owned(), facts.allocatable.cpu_milli);
        self.nodes.insert(facts.name().to_owned(), text.to_owned());
        self.lagging.push_back(Told::Node(text.to_owned()));
    }

    fn remove_node(&mut self, name: &str) {
        if self.nodes.remove(name).is_some() {
            self.lagging.push_back(Told::NodeGone(name.to_owned()));
        }
    }

    fn create(&mut self, text: &str) {
        let name = text.split_whitespace().next().expect("a pod has a name").to_owned();
        if self.pods.contains_key(&name) {
            return;
        }
        self.pods.insert(name, (text.to_owned(), None));
        self.lagging.push_back(Told::Pod(text.to_owned()));
    }

    fn delete(&mut self, name: &str) {
        if self.pods.remove(name).is_some() {
            self.lagging.push_back(Told::PodGone(name.to_owned()));
        }
    }

    /// Tells the scheduler the next thing that it does not know.
    fn tell(&mut self) {
        let (scheduler, now) = (&mut self.scheduler, self.now);
        match self.lagging.pop_front() {
            None => {}
            Some(Told::Node(text)) => scheduler.put_node(node(&text), now),
            Some(Told::NodeGone(name)) => scheduler.remove_node(&name, now),
            Some(Told::Pod(text)) => scheduler.put_pod(pod_object(&text), now),
            Some(Told::PodGone(uid)) => scheduler.remove_pod(&uid, now),
        }
    }

    fn decide(&mut self) {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if let Some(job) = self.scheduler.next(self.now, self.draws) {
            self.jobs.push(job);
        }
    }

    /// Performs one of the jobs; or it fails.
    fn perform(&mut self, which: usize, fails: bool) {
        if self.jobs.is_empty() {
            return;
        }
        let job = self.jobs.remove(which % self.jobs.len());
        let name = job.pod.name().to_owned();
        let outcome = if !self.pods.contains_key(&name) {
            Outcome::Gone
        } else if fails {
            Outcome::Failed
        } else {
            match &job.task {
                Task::Bind(node) => self.bind(&name, node),
                Task::Fail(Failure { nomination: Nomination::Preempt(preemption), .. }) => {
                    preemption.victims.iter().for_each(|victim| self.delete(victim.name()));
                }
                Task::Fail(_) | Task::SayGated => {}
            }
            Outcome::Done
        };
        self.scheduler.finish(&job, &outcome, self.now);
    }

    fn bind(&mut self, name: &str, node: &str) {
        let Some((text, bound)) = self.pods.get_mut(name) else { return };
        assert_eq!(bound.replace(node.to_owned()), None, "{name} is bound once");
        self.lagging.push_back(Told::Pod(format!("{text} on={node}")));
    }

    fn check_capacity(&self) {
        let mut used: BTreeMap<&str, i128> = BTreeMap::new();
        for (text, node) in self.pods.values() {
            if let Some(node) = node {
                *used.entry(node).or_default() += crate::testing::pod(text).requests.cpu_milli;
            }
        }
        for (node, used) in used {
            assert!(used <= self.cpus[node], "{node} has {} and gives {used}", self.cpus[node]);
        }
    }

    fn check_none_lost(&self) {
        let untold: BTreeSet<String> = self
            .lagging
            .iter()
            .filter_map(|it| match it {
                Told::Pod(text) => text.split_whitespace().next().map(str::to_owned),
                Told::PodGone(name) => Some(name.clone()),
                Told::Node(_) | Told::NodeGone(_) => None,
            })
            .collect();
        for name in self.pods.keys().filter(|name| !untold.contains(*name)) {
            let known = self.scheduler.queue.place(name).is_some() || self.scheduler.cache.pod(name).is_some();
            assert!(known, "{name} is lost");
        }
    }

    /// Until nothing happens any more; shorter than the queue's flush.
    fn settle(&mut self) {
        for _ in 0..40 {
            // Pods that push each other out end somewhere: far below so many steps.
            for _ in 0..200 {
                let busy = !self.lagging.is_empty() || !self.jobs.is_empty() || self.scheduler.is_ready();
                if !busy {
                    break;
                }
                while !self.lagging.is_empty() {
                    self.tell();
                }
                self.decide();
                self.perform(0, false);
                self.check_capacity();
            }
            self.now += seconds(1);
            self.scheduler.advance(self.now);
        }
    }

    /// No pod that fits somewhere is left waiting.
    fn check_all_placed(&mut self) {
        self.scheduler.cache.settle();
        let scheduler = &self.scheduler;
        let view = View { cache: &scheduler.cache, caches: &scheduler.caches, nominated: &scheduler.nominated };
        for pod in scheduler.queue.pods().filter(|pod| !pod.is_gated()) {
            let (decision, _) = schedule_one(view, pod, Chance::default());
            let fits = matches!(decision, Decision::Bind(_));
            assert!(!fits, "{} waits in {:?} but {decision:?}", pod.name(), scheduler.queue.place(&pod.uid));
        }
    }
}

#[test]
fn places_pods_and_parks_what_does_not_fit_until_room_is_made() {
    let mut cluster = Cluster::new();
    cluster.node("n1 cpu=2");
    cluster.create("a cpu=2");
    cluster.settle();
    assert_eq!(cluster.pods["a"].1.as_deref(), Some("n1"));
    cluster.create("b cpu=1");
    cluster.settle();
    assert_eq!((cluster.pods["b"].1.clone(), cluster.scheduler.summary(cluster.now).queue.unschedulable), (None, 1));
    cluster.delete("a");
    cluster.settle();
    assert_eq!(cluster.pods["b"].1.as_deref(), Some("n1"));
}

#[test]
fn a_failed_bind_gives_the_place_back() {
    let mut cluster = Cluster::new();
    cluster.node("n1 cpu=2");
    cluster.create("a cpu=2");
    (0..2).for_each(|_| cluster.tell());
    cluster.decide();
    assert_eq!(cluster.scheduler.summary(cluster.now).assumed, [("a".to_owned(), "n1".to_owned())]);
    cluster.perform(0, true);
    let summary = cluster.scheduler.summary(cluster.now);
    assert_eq!((summary.assumed.len(), summary.queue.backoff, summary.placed), (0, 1, 0));
    cluster.settle();
    assert_eq!(cluster.pods["a"].1.as_deref(), Some("n1"));
}

#[test]
fn a_bound_pod_keeps_its_place_until_it_is_seen_there() {
    let mut cluster = Cluster::new();
    cluster.node("n1 cpu=2");
    cluster.create("a cpu=2");
    (0..2).for_each(|_| cluster.tell());
    cluster.decide();
    cluster.perform(0, false);
    // A version from before the binding is told late: it is not scheduled again.
    cluster.scheduler.put_pod(pod_object("a cpu=2"), cluster.now);
    cluster.decide();
    assert!(cluster.jobs.is_empty());
    assert_eq!(cluster.scheduler.summary(cluster.now).assumed.len(), 1);
    cluster.now += seconds(100_000);
    cluster.scheduler.advance(cluster.now);
    assert_eq!(cluster.scheduler.summary(cluster.now).assumed.len(), 1, "it never expires");
    cluster.settle();
    let summary = cluster.scheduler.summary(cluster.now);
    assert_eq!((summary.assumed.len(), summary.placed), (0, 1));
}

#[test]
fn room_that_is_made_while_a_failure_is_written_is_not_missed() {
    let mut cluster = Cluster::new();
    cluster.node("n1 cpu=2");
    cluster.create("a cpu=2");
    cluster.settle();
    cluster.create("b cpu=2");
    cluster.tell();
    cluster.decide();
    cluster.delete("a");
    cluster.tell();
    cluster.perform(0, false);
    assert_eq!(cluster.scheduler.summary(cluster.now).queue.unschedulable, 0);
    cluster.settle();
    assert_eq!(cluster.pods["b"].1.as_deref(), Some("n1"));
}

#[test]
fn a_preempting_pod_gets_the_place_that_it_made() {
    let mut cluster = Cluster::new();
    cluster.node("n1 cpu=2");
    cluster.create("low cpu=2");
    cluster.settle();
    cluster.create("high cpu=2 prio=9");
    cluster.create("mid cpu=2 prio=5");
    cluster.settle();
    assert_eq!(cluster.pods["high"].1.as_deref(), Some("n1"));
    assert_eq!(cluster.pods["mid"].1, None);
    assert!(!cluster.pods.contains_key("low"));
    assert_eq!(cluster.scheduler.summary(cluster.now).nominated, 0);
}

#[test]
fn gated_pods_are_said_to_be_so_once_and_wait() {
    let mut cluster = Cluster::new();
    cluster.node("n1");
    cluster.create("a gate");
    cluster.settle();
    assert_eq!((cluster.pods["a"].1.clone(), cluster.scheduler.summary(cluster.now).queue.gated), (None, 1));
    cluster.scheduler.put_pod(pod_object("a"), cluster.now);
    cluster.settle();
    assert_eq!(cluster.pods["a"].1.as_deref(), Some("n1"));
}

#[test]
fn pods_of_other_schedulers_and_pods_that_leave_are_let_be() {
    let mut cluster = Cluster::new();
    cluster.node("n1");
    cluster.create("other scheduler=mine");
    cluster.create("leaving ending");
    cluster.create("ended phase=Failed");
    while !cluster.lagging.is_empty() {
        cluster.tell();
    }
    cluster.decide();
    assert!(cluster.jobs.is_empty());
}

#[test]
fn priority_comes_from_the_class_when_nobody_filled_it_in() {
    use api::scheduling::v1::PriorityClass;
    let mut class = PriorityClass { value: 7, ..PriorityClass::default() };
    class.metadata.name = Some("gold".to_owned());
    let mut scheduler = Scheduler::new("default-scheduler");
    scheduler.put_pod(pod_object("a class=gold"), seconds(0));
    scheduler.put_pod(pod_object("b prio=3"), seconds(0));
    scheduler.set_caches(Caches::new().with(class));
    scheduler.priority_classes_changed(seconds(1));
    assert_eq!(scheduler.next(seconds(1), 0).map(|job| job.pod.name().to_owned()).as_deref(), Some("a"));
}

#[derive(Clone, Debug)]
enum Step {
    Create(usize, usize),
    Delete(usize),
    Node(usize, usize),
    RemoveNode(usize),
    Tell(usize),
    Decide,
    Perform(usize, bool),
    Wait(u64),
}

const PODS: [&str; 12] = [
    "cpu=1",
    "cpu=2",
    "cpu=3 prio=5",
    "cpu=1 prio=9",
    "port=80",
    "cpu=1 label:app=x anti:host:app=x",
    "cpu=1 label:app=x",
    "label:app=y spread:zone:1:hard:app=y",
    "label:app=z near:zone:app=z",
    "cpu=1 select:disk=ssd",
    "cpu=1 near:host:app=x",
    "gate",
];

const NODES: [&str; 6] = [
    "cpu=3",
    "cpu=4 zone=a",
    "cpu=4 zone=b label:disk=ssd",
    "cpu=4 unschedulable",
    "cpu=4 taint:x:NoSchedule",
    "cpu=5 zone=a pods=3",
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..14_usize, 0..PODS.len()).prop_map(|(pod, kind)| Step::Create(pod, kind)),
        2 => (0..14_usize).prop_map(Step::Delete),
        // Nodes only grow: what shrinks may exceed what it has.
        2 => (0..4_usize, 0..NODES.len()).prop_map(|(node, kind)| Step::Node(node, kind)),
        1 => (0..4_usize).prop_map(Step::RemoveNode),
        5 => (1..4_usize).prop_map(Step::Tell),
        6 => Just(Step::Decide),
        5 => (0..8_usize, prop::bool::weighted(0.2)).prop_map(|(job, fails)| Step::Perform(job, fails)),
        2 => (0..12_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn capacity_is_never_exceeded_and_no_pod_is_lost(steps in proptest::collection::vec(step(), 1..150)) {
        let mut cluster = Cluster::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Create(pod, kind) => cluster.create(&format!("p{pod}-{number} {}", PODS[kind])),
                Step::Delete(pod) => {
                    let prefix = format!("p{pod}-");
                    let name = cluster.pods.keys().find(|name| name.starts_with(&prefix)).cloned();
                    name.into_iter().for_each(|name| cluster.delete(&name));
                }
                Step::Node(number, kind) => {
                    let text = format!("n{number} {}", NODES[kind]);
                    let cpu = crate::node::NodeFacts::new(node(&text)).allocatable.cpu_milli;
                    if cluster.cpus.get(&format!("n{number}")).is_none_or(|before| *before <= cpu) {
                        cluster.node(&text);
                    }
                }
                Step::RemoveNode(number) => cluster.remove_node(&format!("n{number}")),
                Step::Tell(times) => (0..times).for_each(|_| cluster.tell()),
                Step::Decide => cluster.decide(),
                Step::Perform(job, fails) => cluster.perform(job, fails),
                Step::Wait(s) => {
                    cluster.now += seconds(s);
                    cluster.scheduler.advance(cluster.now);
                }
            }
            cluster.check_capacity();
            cluster.check_none_lost();
        }
        while !cluster.jobs.is_empty() {
            cluster.perform(0, false);
        }
        cluster.settle();
        cluster.check_none_lost();
        cluster.check_all_placed();
    }
}
