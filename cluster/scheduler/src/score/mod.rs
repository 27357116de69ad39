//! Scores: which of the nodes that a pod may run on suits it best.
//!
//! Each rule gives every node 0 to 100; their weighted sum decides. All of it is integer arithmetic, so that every
//! machine and build comes to the same sum.

mod affinity;
mod basic;
mod spread;

use crate::cache::{Cache, NodeId};
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::PodInfo;
use client::Caches;

/// The best that a rule can say of a node: upstream's `MaxNodeScore`.
pub const MAX: i64 = 100;

/// What a rule says of each candidate, normalised; `None` if the pod gives it nothing to say.
type Scores = Option<Vec<i64>>;

/// A node that a pod may run on.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    id: NodeId,
    info: &'a NodeInfo,
    facts: &'a NodeFacts,
}

/// What the rules need to know.
struct Context<'a> {
    pod: &'a PodInfo,
    cache: &'a Cache,
    caches: &'a Caches,
    candidates: Vec<Candidate<'a>>,
}

/// A rule and its weight.
struct Rule {
    name: &'static str,
    weight: i64,
    score: fn(&Context<'_>) -> Scores,
}

/// Upstream's rules and default weights.
const RULES: [Rule; 7] = [
    Rule { name: "TaintToleration", weight: 3, score: basic::taints },
    Rule { name: "NodeAffinity", weight: 2, score: basic::node_affinity },
    Rule { name: "NodeResourcesFit", weight: 1, score: basic::least_allocated },
    Rule { name: "PodTopologySpread", weight: 2, score: spread::scores },
    Rule { name: "InterPodAffinity", weight: 2, score: affinity::scores },
    Rule { name: "NodeResourcesBalancedAllocation", weight: 1, score: basic::balanced },
    Rule { name: "ImageLocality", weight: 1, score: basic::images },
];

/// The weighted sum for each of `nodes`, in their order.
pub fn rank(pod: &PodInfo, nodes: &[NodeId], cache: &Cache, caches: &Caches) -> Vec<i64> {
    let context = Context::new(pod, nodes, cache, caches);
    let mut sums = vec![0; context.candidates.len()];
    for rule in &RULES {
        let Some(scores) = (rule.score)(&context) else { continue };
        debug_assert!(scores.iter().all(|score| (0..=MAX).contains(score)), "{} says {scores:?}", rule.name);
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum += rule.weight * score;
        }
    }
    sums
}

impl<'a> Context<'a> {
    fn new(pod: &'a PodInfo, nodes: &[NodeId], cache: &'a Cache, caches: &'a Caches) -> Self {
        let candidate = |id: &NodeId| {
            let info = cache.info(*id);
            info.facts.as_deref().map(|facts| Candidate { id: *id, info, facts })
        };
        Self { pod, cache, caches, candidates: nodes.iter().filter_map(candidate).collect() }
    }

    fn each(&self, score: impl Fn(&Candidate<'a>) -> i64) -> Vec<i64> {
        self.candidates.iter().map(score).collect()
    }
}

/// Stretches to 0..=100 so that the largest gets 100; or, reversed, so that zero does.
fn normalise(mut scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in &mut scores {
        let stretched = if largest == 0 { 0 } else { MAX * *score / largest };
        *score = if reverse { MAX - stretched } else { stretched };
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use expect_test::{Expect, expect};

    /// What each rule that has something to say says of each node, and the weighted sum.
    fn check(candidate: &str, nodes: &[&str], pods: &[&str], caches: &Caches, expected: Expect) {
        let mut cache = Cache::default();
        nodes.iter().for_each(|text| drop(cache.put_node(node(text))));
        pods.iter().for_each(|text| drop(cache.put_pod(pod(text))));
        cache.settle();
        let (candidate, ids) = (pod(candidate), cache.order().to_vec());
        let context = Context::new(&candidate, &ids, &cache, caches);
        let names: Vec<&str> = context.candidates.iter().map(|it| it.facts.name()).collect();
        let mut text = format!("{}\n", names.join(" "));
        for rule in &RULES {
            if let Some(scores) = (rule.score)(&context) {
                let scores: Vec<String> = scores.iter().map(ToString::to_string).collect();
                text += &format!("{} {}\n", scores.join(" "), rule.name);
            }
        }
        let sums: Vec<String> = rank(&candidate, &ids, &cache, caches).iter().map(ToString::to_string).collect();
        expected.assert_eq(&(text + &sums.join(" ")));
    }

    #[test]
    fn the_emptier_and_the_more_balanced_node_is_better() {
        let nodes = ["n1 cpu=4 mem=4Gi", "n2 cpu=4 mem=4Gi", "n3 cpu=8 mem=4Gi"];
        check(
            "a cpu=1 mem=1Gi",
            &nodes,
            &["p on=n1 cpu=2 mem=1Gi"],
            &Caches::new(),
            expect![[r#"
            n1 n2 n3
            100 100 100 TaintToleration
            37 75 81 NodeResourcesFit
            87 100 93 NodeResourcesBalancedAllocation
            0 0 0 ImageLocality
            424 475 474"#]],
        );
        // Nothing asked counts for something, but says nothing about balance.
        check(
            "a",
            &nodes[..2],
            &["p on=n1"],
            &Caches::new(),
            expect![[r#"
            n1 n2
            100 100 TaintToleration
            92 96 NodeResourcesFit
            0 0 ImageLocality
            392 396"#]],
        );
    }

    #[test]
    fn taints_to_be_avoided_cost() {
        let nodes = ["n1 taint:x=y:PreferNoSchedule", "n2", "n3 taint:x=y:PreferNoSchedule taint:z:PreferNoSchedule"];
        check(
            "a",
            &nodes,
            &[],
            &Caches::new(),
            expect![[r#"
            n1 n2 n3
            50 100 0 TaintToleration
            98 98 98 NodeResourcesFit
            0 0 0 ImageLocality
            248 398 98"#]],
        );
        check(
            "a tol:x=y:PreferNoSchedule tol:z",
            &nodes,
            &[],
            &Caches::new(),
            expect![[r#"
            n1 n2 n3
            100 100 100 TaintToleration
            98 98 98 NodeResourcesFit
            0 0 0 ImageLocality
            398 398 398"#]],
        );
        check(
            "a tol:x=y:NoSchedule",
            &nodes[..2],
            &[],
            &Caches::new(),
            expect![[r#"
            n1 n2
            0 100 TaintToleration
            98 98 NodeResourcesFit
            0 0 ImageLocality
            98 398"#]],
        );
    }

    #[test]
    fn preferred_nodes_get_their_weights() {
        let nodes = ["n1 zone=a", "n2 zone=b label:cores=9", "n3"];
        check(
            "a prefer:80:zone=a prefer:20:cores>8",
            &nodes,
            &[],
            &Caches::new(),
            expect![[r#"
            n3 n1 n2
            100 100 100 TaintToleration
            0 100 25 NodeAffinity
            98 98 98 NodeResourcesFit
            0 0 0 ImageLocality
            398 598 448"#]],
        );
    }

    #[test]
    fn images_that_are_there_already_count_by_size_and_by_how_common_they_are() {
        let nodes = ["n1 image=app:1@600000000", "n2 image=app:1@600000000", "n3 image=app:2@900000000", "n4"];
        check(
            "a image=app:1",
            &nodes,
            &[],
            &Caches::new(),
            expect![[r#"
            n1 n2 n3 n4
            100 100 100 100 TaintToleration
            98 98 98 98 NodeResourcesFit
            26 26 0 0 ImageLocality
            424 424 398 398"#]],
        );
        check(
            "a image=reg:5000/app",
            &["n1 image=reg:5000/app:latest@900000000"],
            &[],
            &Caches::new(),
            expect![[r#"
            n1
            100 TaintToleration
            98 NodeResourcesFit
            85 ImageLocality
            483"#]],
        );
    }

    #[test]
    fn constraints_that_need_not_hold_are_preferences() {
        let nodes = ["n1 zone=a", "n2 zone=a", "n3 zone=b", "n4"];
        let pods = ["p on=n1 label:app=web", "q on=n1 label:app=web", "r on=n3 label:app=web"];
        check(
            "a label:app=web spread:zone:1:soft:app=web",
            &nodes,
            &pods,
            &Caches::new(),
            expect![[r#"
            n4 n1 n3 n2
            100 100 100 100 TaintToleration
            98 96 97 98 NodeResourcesFit
            0 33 100 33 PodTopologySpread
            0 0 0 0 ImageLocality
            398 462 597 464"#]],
        );
        check(
            "a label:app=web spread:host:1:soft:app=web",
            &nodes,
            &pods,
            &Caches::new(),
            expect![[r#"
            n4 n1 n3 n2
            100 100 100 100 TaintToleration
            98 96 97 98 NodeResourcesFit
            100 0 50 100 PodTopologySpread
            0 0 0 0 ImageLocality
            598 396 497 598"#]],
        );
    }

    #[test]
    fn pods_of_a_service_are_spread_without_being_told() {
        use api::core::v1::{Service, ServiceSpec};
        let mut service = Service::default();
        service.metadata.name = Some("web".into());
        service.metadata.namespace = Some("default".into());
        let selector = crate::testing::selector("app=web").match_labels;
        service.spec = Some(ServiceSpec { selector, ..ServiceSpec::default() });
        let nodes = ["n1 zone=a", "n2 zone=a", "n3 zone=b"];
        let pods = ["p on=n1 label:app=web"];
        check(
            "a label:app=web",
            &nodes,
            &pods,
            &Caches::new().with(service.clone()),
            expect![[r#"
            n1 n3 n2
            100 100 100 TaintToleration
            97 98 98 NodeResourcesFit
            66 100 88 PodTopologySpread
            0 0 0 ImageLocality
            529 598 574"#]],
        );
        check(
            "a label:app=db",
            &nodes,
            &pods,
            &Caches::new().with(service),
            expect![[r#"
            n1 n3 n2
            100 100 100 TaintToleration
            97 98 98 NodeResourcesFit
            0 0 0 ImageLocality
            397 398 398"#]],
        );
    }

    #[test]
    fn pods_attract_and_repel_by_preference_both_ways() {
        let nodes = ["n1 zone=a", "n2 zone=a", "n3 zone=b"];
        let pods = ["p on=n1 label:app=db", "q on=n3 label:app=web dislike:10:host:app=x"];
        let fond = "a label:app=x like:30:zone:app=db dislike:20:host:app=web";
        check(
            fond,
            &nodes,
            &pods,
            &Caches::new(),
            expect![[r#"
            n1 n3 n2
            100 100 100 TaintToleration
            97 97 98 NodeResourcesFit
            100 0 100 InterPodAffinity
            0 0 0 ImageLocality
            597 397 598"#]],
        );
        // What others require of such pods counts a little.
        check(
            "a label:app=x",
            &nodes,
            &["p on=n1 near:host:app=x"],
            &Caches::new(),
            expect![[r#"
            n1 n3 n2
            100 100 100 TaintToleration
            97 98 98 NodeResourcesFit
            100 0 0 InterPodAffinity
            0 0 0 ImageLocality
            597 398 398"#]],
        );
    }

    #[test]
    fn normalising_keeps_to_the_bounds() {
        assert_eq!(normalise(vec![0, 1, 3], false), [0, 33, 100]);
        assert_eq!(normalise(vec![0, 1, 3], true), [100, 67, 0]);
        assert_eq!(normalise(vec![0, 0], true), [100, 100]);
        assert_eq!(normalise(vec![0, 0], false), [0, 0]);
    }
}
