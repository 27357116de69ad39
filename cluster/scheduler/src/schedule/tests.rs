//! Whole cycles in the tiny notation: messages, sampling, ties, preemption.

use super::*;
use crate::testing::{node, pod, selector};
use api::core::v1::Pod;
use api::meta::v1::Time;
use api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use expect_test::{Expect, expect};

#[derive(Default)]
struct World {
    cache: Cache,
    caches: Caches,
    nominated: Nominated,
}

impl World {
    fn new(nodes: &[&str], pods: &[&str]) -> Self {
        let mut world = Self::default();
        nodes.iter().for_each(|text| drop(world.cache.put_node(node(text))));
        for text in pods {
            let pod = pod(text);
            if pod.node_name().is_empty() {
                let node = pod.nominated_node_name().to_owned();
                world.nominated.set(pod, &node);
            } else {
                world.cache.put_pod(pod);
            }
        }
        world.cache.settle();
        world
    }

    /// A budget over the pods of `app=NAME`.
    fn budget(mut self, name: &str, allowed: i32) -> Self {
        let mut budget = PodDisruptionBudget::default();
        budget.metadata.name = Some(name.to_owned());
        budget.metadata.namespace = Some("default".to_owned());
        let selector = Some(selector(&format!("app={name}")));
        budget.spec = Some(PodDisruptionBudgetSpec { selector, ..PodDisruptionBudgetSpec::default() });
        budget.status =
            Some(PodDisruptionBudgetStatus { disruptions_allowed: allowed, ..PodDisruptionBudgetStatus::default() });
        self.caches = self.caches.with(budget);
        self
    }

    fn decide(&self, candidate: &str, chance: Chance) -> (Decision, usize) {
        let view = View { cache: &self.cache, caches: &self.caches, nominated: &self.nominated };
        schedule_one(view, &pod(candidate), chance)
    }

    fn check(&self, candidate: &str, expected: Expect) {
        expected.assert_eq(&show(&self.decide(candidate, Chance::default()).0));
    }
}

fn show(decision: &Decision) -> String {
    let names = |pods: &[Arc<PodInfo>]| pods.iter().map(|it| it.name().to_owned()).collect::<Vec<_>>().join(" ");
    match decision {
        Decision::Bind(node) => format!("on {node}"),
        Decision::Fail(failure) => match &failure.nomination {
            Nomination::Keep => format!("{} (keep)", failure.message),
            Nomination::Clear => failure.message.clone(),
            Nomination::Preempt(it) => {
                let cleared = names(&it.no_longer_nominated);
                let cleared = if cleared.is_empty() { cleared } else { format!(", clear {cleared}") };
                format!("{} On {} without {}{cleared}", failure.message, it.node, names(&it.victims))
            }
        },
    }
}

#[test]
fn says_why_in_upstreams_words() {
    World::new(&[], &[]).check("a", expect!["no nodes available to schedule pods"]);
    let nodes =
        ["n1 cpu=1", "n2 cpu=2", "n3 taint:x=y:NoSchedule", "n4 taint:x=y:NoSchedule", "n5 taint:x=y:NoSchedule"];
    World::new(&nodes, &["p on=n2 cpu=2"]).check("a cpu=2", expect!["0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had untolerated taint {x: y}. preemption: 0/5 nodes are available: 1 No preemption victims found for incoming pod, 4 Preemption is not helpful for scheduling."]);
    World::new(&nodes, &[]).check("a cpu=3 never", expect!["0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had untolerated taint {x: y}. preemption: not eligible due to preemptionPolicy=Never. (keep)"]);
    World::new(&["n1 cpu=1 mem=1Gi pods=1", "n2"], &["p on=n1 prio=5", "q on=n2 port=80"]).check(
        "a cpu=2 mem=2Gi port=80",
        expect!["0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods, 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."],
    );
}

#[test]
fn remembers_which_rules_kept_it_off() {
    let world = World::new(&["n1 cpu=1", "n2 unschedulable"], &[]);
    let (Decision::Fail(failure), _) = world.decide("a cpu=2", Chance::default()) else { panic!("it fits nowhere") };
    expect!["{NodeUnschedulable, NodeResourcesFit}"].assert_eq(&format!("{:?}", failure.rejectors));
}

#[test]
fn of_equally_good_nodes_the_draw_picks_each_alike() {
    let world = World::new(&["n1", "n2", "n3", "n4 cpu=1m"], &[]);
    let mut picked: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..300_u64 {
        let chance = Chance { start: 0, draw: (u64::MAX / 300) * i + 1000 };
        *picked.entry(show(&world.decide("a cpu=1", chance).0)).or_default() += 1;
    }
    expect![[r#"{"on n1": 100, "on n2": 100, "on n3": 100}"#]].assert_eq(&format!("{picked:?}"));
}

#[test]
fn of_many_nodes_a_part_is_enough_and_the_next_cycle_goes_on_behind_it() {
    assert_eq!([5, 99, 100, 250, 1000, 5000, 20_000].map(enough_of), [5, 99, 100, 120, 420, 500, 1000]);
    let names: Vec<String> = (0..300).map(|i| format!("n{i:03}")).collect();
    let world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    let (_, first) = world.decide("a", Chance::default());
    assert_eq!(first, 144);
    let (decision, second) = world.decide("a", Chance { start: first, draw: 0 });
    assert_eq!((show(&decision), second), ("on n144".to_owned(), 144));
}

#[test]
fn a_place_that_is_held_is_not_given_to_the_less_important() {
    let nominated = ["big cpu=6 prio=5 nominated=n1"];
    World::new(&["n1"], &nominated).check("a cpu=3 prio=4", expect!["0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."]);
    World::new(&["n1"], &nominated).check("a cpu=3 prio=6", expect!["on n1"]);
    World::new(&["n1"], &nominated).check("big cpu=6 prio=5 nominated=n1", expect!["on n1"]);
    // What is held is not there yet: affinity to it is in vain.
    World::new(&["n1"], &["big prio=5 label:app=db nominated=n1"]).check("a near:host:app=db", expect!["0/1 nodes are available: 1 node(s) didn't match pod affinity rules. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."]);
}

#[test]
fn pushes_out_as_few_and_as_unimportant_as_possible() {
    let pods =
        ["low1 on=n1 cpu=3 prio=1", "low2 on=n1 cpu=3 prio=2", "mid on=n2 cpu=6 prio=3", "top on=n3 cpu=6 prio=9"];
    let world = World::new(&["n1", "n2", "n3"], &pods);
    world.check("a cpu=4 prio=5", expect!["0/3 nodes are available: 3 Insufficient cpu. On n1 without low1"]);
    world.check("a cpu=6 prio=5", expect!["0/3 nodes are available: 3 Insufficient cpu. On n1 without low2 low1"]);
    world.check("a cpu=8 prio=2", expect!["0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 1 Insufficient cpu, 2 No preemption victims found for incoming pod."]);
    world.check("a cpu=4 prio=5 never", expect!["0/3 nodes are available: 3 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never. (keep)"]);
    world.check("a cpu=9 prio=5", expect!["0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."]);
}

#[test]
fn spares_those_whose_budget_is_used_up() {
    let pods = ["web on=n1 cpu=4 prio=1 label:app=web", "db on=n1 cpu=4 prio=2 label:app=db", "big on=n2 cpu=8 prio=4"];
    World::new(&["n1"], &pods)
        .check("a cpu=4 prio=5", expect!["0/1 nodes are available: 1 Insufficient cpu. On n1 without web"]);
    World::new(&["n1"], &pods)
        .budget("web", 0)
        .check("a cpu=4 prio=5", expect!["0/1 nodes are available: 1 Insufficient cpu. On n1 without db"]);
    World::new(&["n1"], &pods)
        .budget("web", 1)
        .check("a cpu=4 prio=5", expect!["0/1 nodes are available: 1 Insufficient cpu. On n1 without web"]);
    // Fewer violations matter more than lower priority.
    World::new(&["n1", "n2"], &pods)
        .budget("web", 0)
        .budget("db", 0)
        .check("a cpu=4 prio=5", expect!["0/2 nodes are available: 2 Insufficient cpu. On n2 without big"]);
}

#[test]
fn prefers_fewer_victims_then_the_youngest() {
    let nodes = ["n1", "n2", "n3"];
    let many = ["a1 on=n1 cpu=4 prio=1", "a2 on=n1 cpu=4 prio=1", "b on=n2 cpu=8 prio=1", "c on=n3 cpu=8 prio=2"];
    World::new(&nodes, &many)
        .check("a cpu=8 prio=5", expect!["0/3 nodes are available: 3 Insufficient cpu. On n2 without b"]);
    let ages = ["a on=n1 cpu=8 started=10", "b on=n2 cpu=8 started=30", "c on=n3 cpu=8 started=20"];
    World::new(&nodes, &ages)
        .check("p cpu=8 prio=5", expect!["0/3 nodes are available: 3 Insufficient cpu. On n2 without b"]);
}

#[test]
fn waits_for_victims_that_are_leaving() {
    let pods = ["v on=n1 cpu=8 preempted ending", "w on=n2 cpu=8"];
    World::new(&["n1", "n2"], &pods).check("a cpu=8 prio=5 nominated=n1", expect!["0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node. (keep)"]);
    World::new(&["n1 unschedulable", "n2"], &pods).check(
        "a cpu=8 prio=5 nominated=n1",
        expect!["0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. On n2 without w"],
    );
}

#[test]
fn a_less_important_pod_loses_the_place_that_was_held_for_it() {
    let pods = ["v on=n1 cpu=8", "mid cpu=8 prio=3 nominated=n1"];
    World::new(&["n1"], &pods)
        .check("a cpu=8 prio=5", expect!["0/1 nodes are available: 1 Insufficient cpu. On n1 without v, clear mid"]);
}

#[test]
fn anti_affinity_is_resolved_by_pushing_out_and_affinity_is_not_broken_by_it() {
    let pods = ["v on=n1 label:app=web", "w on=n2 label:app=db prio=9 cpu=8"];
    World::new(&["n1", "n2"], &pods).check("a prio=5 cpu=1 anti:host:app=web", expect!["0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod anti-affinity rules. On n1 without v"]);
    World::new(&["n1"], &["v on=n1 cpu=8 label:app=web"]).check("a prio=5 cpu=1 near:host:app=web", expect!["0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 node(s) didn't match pod affinity rules."]);
}

#[test]
fn the_same_view_gives_the_same_decision() {
    let pods = ["v on=n1 cpu=8", "w on=n2 cpu=8", "x on=n3 cpu=7"];
    let world = || World::new(&["n1", "n2", "n3"], &pods);
    for candidate in ["a cpu=8 prio=5", "a cpu=1", "a cpu=9"] {
        let chance = Chance { start: 1, draw: 1 << 63 };
        assert_eq!(world().decide(candidate, chance), world().decide(candidate, chance));
    }
}

#[test]
fn a_pod_is_preempted_when_it_leaves_for_that_reason() {
    let mut victim: Pod = (*crate::testing::pod_object("v preempted")).clone();
    assert!(!preemption::is_preempted(&victim));
    victim.metadata.deletion_timestamp = Some(Time(api::Timestamp::UNIX_EPOCH));
    assert!(preemption::is_preempted(&victim));
}
