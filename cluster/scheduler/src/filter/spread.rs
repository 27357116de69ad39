//! PodTopologySpread, the part that must hold: `DoNotSchedule`.

use super::Rejection;
use crate::cache::Cache;
use crate::node::NodeFacts;
use crate::plugin::Plugin;
use crate::pod::{Constraint, PodInfo};
use api::ObjectExt;
use std::collections::BTreeMap;

/// Counts of the pods that a pod's constraints are about, by domain.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// One per constraint that must hold, in the pod's order.
    domains: Vec<Domains>,
}

#[derive(Clone, Debug, Default)]
struct Domains {
    counts: BTreeMap<String, i64>,
    /// How many domains have each count: gives the emptiest without a look at all of them.
    histogram: BTreeMap<i64, usize>,
}

impl Domains {
    fn change(&mut self, domain: &str, by: i64) {
        let old = self.counts.get(domain).copied();
        let new = old.unwrap_or(0) + by;
        match self.counts.get_mut(domain) {
            Some(count) => *count = new,
            None => drop(self.counts.insert(domain.to_owned(), new)),
        }
        if let Some(old) = old
            && let Some(number) = self.histogram.get_mut(&old)
        {
            *number -= 1;
            if *number == 0 {
                self.histogram.remove(&old);
            }
        }
        *self.histogram.entry(new).or_default() += 1;
    }

    fn emptiest(&self, min_domains: usize) -> i64 {
        if self.counts.len() < min_domains {
            return 0;
        }
        self.histogram.first_key_value().map_or(0, |(count, _)| *count)
    }
}

/// Whether a node's domains are counted for a constraint.
pub fn is_counted(constraint: &Constraint, pod: &PodInfo, node: &NodeFacts) -> bool {
    (!constraint.honor_affinity || pod.node_requirement.matches(node.name(), node.labels()))
        && (!constraint.honor_taints || pod.untolerated(node.taints()).is_none())
}

/// Whether a node has all the labels that `constraints` name.
pub fn has_keys<'a>(mut constraints: impl Iterator<Item = &'a Constraint>, node: &NodeFacts) -> bool {
    constraints.all(|it| node.labels().contains_key(&it.topology_key))
}

fn hard(pod: &PodInfo) -> impl Iterator<Item = &Constraint> {
    pod.spread.iter().filter(|it| it.hard)
}

impl State {
    /// Counts, over all nodes.
    pub fn new(pod: &PodInfo, cache: &Cache) -> Self {
        let per_node: Vec<_> = hard(pod).map(|it| cache.matching(pod.namespace(), &it.selector)).collect();
        let mut state = Self { domains: vec![Domains::default(); per_node.len()] };
        if per_node.is_empty() {
            return state;
        }
        for (id, info) in cache.nodes() {
            let Some(node) = info.facts.as_ref().filter(|node| has_keys(hard(pod), node)) else { continue };
            for ((constraint, counts), domains) in hard(pod).zip(&per_node).zip(&mut state.domains) {
                if is_counted(constraint, pod, node) {
                    domains
                        .change(&node.labels()[&constraint.topology_key], counts.get(&id).copied().unwrap_or(0).into());
                }
            }
        }
        state
    }

    /// Counts `other` once more, or once less, on a node.
    pub fn change(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeFacts, by: i64) {
        let counts = other.namespace() == pod.namespace() && !other.pod.is_terminating();
        if self.domains.is_empty() || !counts || !has_keys(hard(pod), node) {
            return;
        }
        for (constraint, domains) in hard(pod).zip(&mut self.domains) {
            if constraint.selector.matches(other.labels()) && is_counted(constraint, pod, node) {
                domains.change(&node.labels()[&constraint.topology_key], by);
            }
        }
    }

    /// Whether the pod would be spread evenly enough with one more on a node.
    pub fn check(&self, pod: &PodInfo, node: &NodeFacts) -> Result<(), Rejection> {
        for (constraint, domains) in hard(pod).zip(&self.domains) {
            let Some(domain) = node.labels().get(&constraint.topology_key) else {
                let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Rejection::unresolvable(Plugin::PodTopologySpread, reason));
            };
            let itself = i64::from(constraint.selector.matches(pod.labels()));
            let there = domains.counts.get(domain).copied().unwrap_or(0);
            if there + itself - domains.emptiest(constraint.min_domains) > constraint.max_skew {
                let reason = "node(s) didn't match pod topology spread constraints";
                return Err(Rejection::new(Plugin::PodTopologySpread, reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::basic_tests::check;
    use expect_test::expect;

    const ZONES: [&str; 4] = ["n1 zone=a", "n2 zone=a", "n3 zone=b", "n4"];
    const WEB: &str = "a label:app=web";

    #[test]
    fn a_domain_may_not_exceed_the_emptiest_by_more_than_the_skew() {
        let pods = ["p on=n1 label:app=web", "q on=n2 label:app=db"];
        check(
            &format!("{WEB} spread:zone:1:hard:app=web"),
            &ZONES,
            &pods,
            expect![[r#"
            n4: node(s) didn't match pod topology spread constraints (missing required label) (for good)
            n1: node(s) didn't match pod topology spread constraints
            n3: yes
            n2: node(s) didn't match pod topology spread constraints
        "#]],
        );
        check(
            &format!("{WEB} spread:zone:2:hard:app=web"),
            &ZONES[..3],
            &pods,
            expect![[r#"
            n1: yes
            n3: yes
            n2: yes
        "#]],
        );
    }

    #[test]
    fn a_pod_that_is_not_one_of_the_set_does_not_count_itself() {
        check(
            "a spread:zone:1:hard:app=web",
            &ZONES[..3],
            &["p on=n1 label:app=web"],
            expect![[r#"
            n1: yes
            n3: yes
            n2: yes
        "#]],
        );
    }

    #[test]
    fn too_few_domains_count_as_an_empty_one() {
        let pods = ["p on=n1 label:app=web", "q on=n3 label:app=web"];
        check(
            &format!("{WEB} spread:zone:1:hard:app=web:min3"),
            &ZONES[..3],
            &pods,
            expect![[r#"
            n1: node(s) didn't match pod topology spread constraints
            n3: node(s) didn't match pod topology spread constraints
            n2: node(s) didn't match pod topology spread constraints
        "#]],
        );
        check(
            &format!("{WEB} spread:zone:1:hard:app=web:min2"),
            &ZONES[..3],
            &pods,
            expect![[r#"
            n1: yes
            n3: yes
            n2: yes
        "#]],
        );
    }

    #[test]
    fn nodes_that_are_out_of_reach_count_or_not_as_the_policies_say() {
        let nodes = ["n1 zone=a", "n2 zone=b taint:x=y:NoSchedule", "n3 zone=c label:disk=hdd"];
        let pods = ["p on=n1 label:app=web"];
        // The emptiest domain is b, where the pod cannot go.
        check(
            &format!("{WEB} select:kubernetes.io/hostname=n1 spread:zone:1:hard:app=web"),
            &nodes,
            &pods,
            expect![[r#"
            n1: yes
            n2: node(s) had untolerated taint {x: y} (for good)
            n3: node(s) didn't match Pod's node affinity/selector (for good)
        "#]],
        );
        let anywhere = format!("{WEB} select:kubernetes.io/hostname=n1 spread:zone:1:hard:app=web:anynode");
        check(&anywhere, &nodes[..1], &pods, expect!["n1: yes\n"]);
        check(
            &anywhere,
            &nodes,
            &pods,
            expect![[r#"
            n1: node(s) didn't match pod topology spread constraints
            n2: node(s) had untolerated taint {x: y} (for good)
            n3: node(s) didn't match Pod's node affinity/selector (for good)
        "#]],
        );
        let honoring = format!("{WEB} spread:zone:1:hard:app=web:taints");
        check(
            &honoring,
            &nodes[..2],
            &pods,
            expect![[r#"
            n1: yes
            n2: node(s) had untolerated taint {x: y} (for good)
        "#]],
        );
    }

    #[test]
    fn revisions_are_spread_apart_and_ending_pods_do_not_count() {
        let pods = ["p on=n1 label:app=web label:hash=1", "q on=n3 label:app=web label:hash=2 ending"];
        let next = "a label:app=web label:hash=2 spread:zone:1:hard:app=web:keyshash";
        check(
            next,
            &ZONES[..3],
            &pods,
            expect![[r#"
            n1: yes
            n3: yes
            n2: yes
        "#]],
        );
    }
}
