//! Scenarios in a line per step: who renews, what is done.

use super::*;
use crate::fake::Fake;
use api::coordination::v1::LeaseSpec;
use api::core::v1::{NodeCondition, NodeSpec, NodeStatus, PodCondition, PodSpec, PodStatus};
use api::meta::v1::MicroTime;
use api::{ObjectMeta, SignedDuration, Timestamp};
use expect_test::{Expect, expect};
use std::fmt::Write as _;

/// A cluster of nodes `a`, `b`, ... with a pod each, under the controller.
struct World {
    fake: Fake,
    controller: NodeLifecycle,
    second: u64,
    /// Who renews its lease.
    alive: Vec<String>,
    /// Whether this process sees Leases.
    sees: bool,
    log: String,
}

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
    let created = Some(api::Time(Timestamp::from_second(900_000).unwrap()));
    ObjectMeta { name: Some(name.to_owned()), namespace, creation_timestamp: created, ..ObjectMeta::default() }
}

fn ready(status: &str) -> NodeCondition {
    NodeCondition { type_: "Ready".to_owned(), status: status.to_owned(), ..NodeCondition::default() }
}

impl World {
    fn new(zones: &[(&str, &str)]) -> Self {
        let mut fake = Fake::new();
        let mut alive = Vec::new();
        for (zone, names) in zones {
            for name in names.chars().map(String::from) {
                let mut node = Node {
                    metadata: metadata("", &name),
                    spec: Some(NodeSpec::default()),
                    status: Some(NodeStatus { conditions: Some(vec![ready("True")]), ..NodeStatus::default() }),
                };
                let zone = ("topology.kubernetes.io/zone".to_owned(), (*zone).to_owned());
                node.metadata.labels = Some(BTreeMap::from([zone]));
                fake.put(node);
                let is_ready =
                    PodCondition { type_: "Ready".to_owned(), status: "True".to_owned(), ..PodCondition::default() };
                fake.put(Pod {
                    metadata: metadata("default", &format!("on-{name}")),
                    spec: Some(PodSpec { node_name: Some(name.clone()), ..PodSpec::default() }),
                    status: Some(PodStatus { conditions: Some(vec![is_ready]), ..PodStatus::default() }),
                });
                alive.push(name);
            }
        }
        let controller = NodeLifecycle::new(Config::default());
        Self { fake, controller, second: 0, alive, sees: true, log: String::new() }
    }

    fn now(&self) -> Now {
        let wall = Timestamp::from_second(1_000_000).unwrap() + SignedDuration::from_secs(self.second as i64);
        Now { wall, monotonic: Duration::from_secs(self.second) }
    }

    /// Lets so many seconds pass, asking about every node in each of them, and logs writes.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second += 1;
            let now = self.now();
            if self.sees && self.second.is_multiple_of(10) {
                for name in self.alive.clone() {
                    let spec = LeaseSpec { renew_time: Some(MicroTime(now.wall)), ..LeaseSpec::default() };
                    self.fake.put(Lease { metadata: metadata(LEASES, &name), spec: Some(spec) });
                }
            }
            // The leader's own lease is what shows that Leases are seen.
            if self.sees && self.second.is_multiple_of(2) {
                self.fake.put(Lease { metadata: metadata("kube-system", "leader"), spec: None });
            }
            self.controller.reconcile(&self.fake.caches, &Key::new("", ""), now);
            let names: Vec<String> = self.fake.caches.all::<Node>().map(|node| node.name().to_owned()).collect();
            for name in names {
                let caches = self.fake.caches.clone();
                let plan = self.controller.reconcile(&caches, &Key::new("", &name), now);
                for write in &plan.writes {
                    writeln!(self.log, "{} {write}", self.second).unwrap();
                    self.fake.write(write).unwrap();
                }
                for note in plan.seen.iter().chain(&plan.notes) {
                    let name = note.regarding.name.as_deref().unwrap();
                    writeln!(self.log, "{} event {} on {name}", self.second, note.reason).unwrap();
                }
            }
        }
    }

    fn check(&mut self, expect: Expect) {
        expect.assert_eq(&self.log);
        self.log.clear();
    }

    fn dies(&mut self, name: &str) {
        self.alive.retain(|alive| alive != name);
    }

    fn says(&mut self, name: &str, status: &str) {
        let heartbeat = Some(api::Time(self.now().wall));
        self.fake.change::<Node>("", name, |node| {
            let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
            let condition = conditions.iter_mut().find(|condition| condition.type_ == "Ready").unwrap();
            condition.status = status.to_owned();
            condition.last_heartbeat_time = heartbeat;
        });
    }

    fn taints(&self, name: &str) -> String {
        let node = self.fake.caches.get::<Node>("", name).unwrap();
        let short = |key: &str| key.rsplit('/').next().unwrap().to_owned();
        let taints: Vec<String> =
            taints::of(node).iter().map(|taint| format!("{}:{}", short(&taint.key), taint.effect)).collect();
        taints.join(" ")
    }
}

#[test]
fn a_node_that_renews_is_left_alone() {
    let mut world = World::new(&[("z", "abc")]);
    world.run(300);
    world.check(expect![""]);
}

#[test]
fn a_silent_node_becomes_unknown_tainted_and_its_pods_unready() {
    let mut world = World::new(&[("z", "abcd")]);
    world.run(20);
    world.dies("b");
    world.run(100);
    world.check(expect![[r#"
        70 update nodes/status b
        71 patch nodes b
        71 update pods/status default/on-b
        71 event NodeNotReady on b
        71 event NodeNotReady on on-b
    "#]]);
    expect!["unreachable:NoSchedule unreachable:NoExecute"].assert_eq(&world.taints("b"));
    let node = world.fake.caches.get::<Node>("", "b").unwrap();
    let said = node.status.as_ref().unwrap().conditions.as_ref().unwrap().iter();
    let said: Vec<_> =
        said.map(|condition| format!("{}={}", condition.type_, condition.reason.as_deref().unwrap())).collect();
    expect!["Ready=NodeStatusUnknown MemoryPressure=NodeStatusNeverUpdated DiskPressure=NodeStatusNeverUpdated PIDPressure=NodeStatusNeverUpdated"].assert_eq(&said.join(" "));
    // It comes back.
    world.alive.push("b".to_owned());
    world.says("b", "True");
    world.run(60);
    world.check(expect![[r#"
        121 patch nodes b
    "#]]);
    expect![""].assert_eq(&world.taints("b"));
}

#[test]
fn blindness_is_not_silence() {
    let mut world = World::new(&[("z", "abc")]);
    world.run(20);
    world.sees = false;
    world.run(300);
    world.check(expect![""]);
    world.sees = true;
    world.run(100);
    world.check(expect![""]);
}

#[test]
fn the_loss_of_every_node_taints_nobody_for_eviction() {
    let mut world = World::new(&[("y", "ab"), ("z", "cd")]);
    world.run(20);
    world.alive.clear();
    world.run(200);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(world.taints(name), "unreachable:NoSchedule");
    }
    // One comes back: the others get their full time before they are evicted, one by one.
    world.log.clear();
    world.says("d", "True");
    world.alive.push("d".to_owned());
    world.run(60);
    let tainted: Vec<&str> = world.log.lines().filter(|line| line.contains("patch nodes")).collect();
    expect![[r#"
        221 patch nodes d
        232 patch nodes a
        232 patch nodes c
        242 patch nodes b"#]]
    .assert_eq(&tainted.join("\n"));
}

#[test]
fn a_lost_zone_is_tainted_one_node_per_ten_seconds() {
    let mut world = World::new(&[("y", "ab"), ("z", "cde")]);
    world.run(20);
    ["c", "d", "e"].iter().for_each(|name| world.dies(name));
    world.run(90);
    let evicting = |name: &&str| world.taints(name).contains("NoExecute");
    assert!(["c", "d", "e"].iter().all(evicting));
    let patches: Vec<&str> = world.log.lines().filter(|line| line.contains("patch nodes")).collect();
    expect![[r#"
        71 patch nodes c
        71 patch nodes d
        71 patch nodes e
        81 patch nodes d
        91 patch nodes e"#]]
    .assert_eq(&patches.join("\n"));
}

#[test]
fn a_node_that_says_it_is_not_ready_is_not_ready_rather_than_unreachable() {
    let mut world = World::new(&[("z", "abc")]);
    world.run(20);
    world.says("a", "False");
    world.run(5);
    expect!["not-ready:NoSchedule not-ready:NoExecute"].assert_eq(&world.taints("a"));
    // Its kubelet says again that its pod is ready; that stands.
    world.fake.change::<Pod>("default", "on-a", |pod| {
        let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
        conditions[0].status = "True".to_owned();
    });
    world.log.clear();
    world.run(20);
    world.check(expect![""]);
    // It falls silent: the reason changes at once.
    world.dies("a");
    world.run(60);
    expect!["unreachable:NoSchedule unreachable:NoExecute"].assert_eq(&world.taints("a"));
}

#[test]
fn pressure_and_closure_are_taints() {
    let mut world = World::new(&[("z", "a")]);
    world.fake.change::<Node>("", "a", |node| {
        node.spec.as_mut().unwrap().unschedulable = Some(true);
        let pressure = NodeCondition { type_: "MemoryPressure".to_owned(), status: "True".to_owned(), ..ready("True") };
        node.status.as_mut().unwrap().conditions.as_mut().unwrap().push(pressure);
    });
    world.run(3);
    expect!["memory-pressure:NoSchedule unschedulable:NoSchedule"].assert_eq(&world.taints("a"));
    world.fake.change::<Node>("", "a", |node| node.spec.as_mut().unwrap().unschedulable = None);
    world.run(3);
    expect!["memory-pressure:NoSchedule"].assert_eq(&world.taints("a"));
}

#[test]
fn a_new_leader_forgets_what_it_did_not_see_and_taints_no_faster() {
    let mut world = World::new(&[("y", "ab"), ("z", "cde")]);
    world.run(20);
    ["c", "d", "e"].iter().for_each(|name| world.dies(name));
    world.run(52);
    let (second, fake) = (world.second, std::mem::replace(&mut world.fake, Fake::new()));
    let mut next = World { controller: NodeLifecycle::new(Config::default()), fake, log: String::new(), ..world };
    next.run(30);
    assert_eq!(second, 72);
    next.check(expect![[r#"
        83 patch nodes d
        93 patch nodes e
    "#]]);
}
