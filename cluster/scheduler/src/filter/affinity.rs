//! InterPodAffinity, the part that must hold.

use super::Rejection;
use crate::cache::Cache;
use crate::node::NodeFacts;
use crate::plugin::Plugin;
use crate::pod::{PodInfo, Term};
use client::Caches;
use std::collections::BTreeMap;

/// Counts by topology key and domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology(BTreeMap<String, BTreeMap<String, i64>>);

impl Topology {
    /// Adds to the domain that a node is in; nothing if it is in none. What comes to zero is gone.
    pub fn change(&mut self, key: &str, node: &NodeFacts, by: i64) {
        let Some(domain) = node.labels().get(key) else { return };
        if !self.0.contains_key(key) {
            self.0.insert(key.to_owned(), BTreeMap::new());
        }
        let Some(domains) = self.0.get_mut(key) else { return };
        let count = domains.entry(domain.clone()).or_default();
        *count += by;
        if *count == 0 {
            domains.remove(domain);
        }
        if domains.is_empty() {
            self.0.remove(key);
        }
    }

    /// The count of a domain.
    pub fn get(&self, key: &str, domain: &str) -> i64 {
        self.0.get(key).and_then(|domains| domains.get(domain)).copied().unwrap_or(0)
    }

    /// The sum over all keys of the domains that a node is in.
    pub fn sum(&self, node: &NodeFacts) -> i64 {
        self.0.iter().filter_map(|(key, domains)| domains.get(node.labels().get(key)?)).sum()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is where of the pods that attract or repel a pod.
#[derive(Clone, Debug, Default)]
pub struct State {
    affinity: Vec<Term>,
    anti_affinity: Vec<Term>,
    /// Whether the pod is one that its own affinity asks for.
    attracts_itself: bool,
    /// Domains of pods that all its affinity terms match.
    near: Topology,
    /// Domains of pods that its anti-affinity matches.
    away: Topology,
    /// Domains from which pods on nodes repel it.
    repelled: Topology,
}

impl State {
    /// Counts, over all pods.
    pub fn new(pod: &PodInfo, cache: &Cache, caches: &Caches) -> Self {
        let mut state = Self::default();
        for (terms, per_node) in cache.groups() {
            for term in terms.anti_affinity.iter().filter(|term| is_meant(term, pod, caches)) {
                for (id, count) in per_node {
                    if let Some(node) = &cache.info(*id).facts {
                        state.repelled.change(&term.topology_key, node, i64::from(*count));
                    }
                }
            }
        }
        let Some(terms) = pod.terms.as_ref().filter(|it| !it.affinity.is_empty() || !it.anti_affinity.is_empty())
        else {
            return state;
        };
        state.affinity.clone_from(&terms.affinity);
        state.anti_affinity.clone_from(&terms.anti_affinity);
        state.attracts_itself = state.affinity.iter().all(|term| is_meant(term, pod, caches));
        for (namespace, labels, class) in cache.classes() {
            let matches = |term: &Term| term.matches(namespace, labels, caches);
            let near = !terms.affinity.is_empty() && terms.affinity.iter().all(matches);
            let away: Vec<&Term> = terms.anti_affinity.iter().filter(|term| matches(term)).collect();
            if !near && away.is_empty() {
                continue;
            }
            for (id, count) in class.live.iter().chain(&class.ending) {
                let Some(node) = &cache.info(*id).facts else { continue };
                let near = if near { &terms.affinity[..] } else { &[] };
                near.iter().for_each(|term| state.near.change(&term.topology_key, node, i64::from(*count)));
                away.iter().for_each(|term| state.away.change(&term.topology_key, node, i64::from(*count)));
            }
        }
        state
    }

    /// Counts `other` once more, or once less, on a node.
    pub fn change(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeFacts, by: i64, caches: &Caches) {
        if let Some(terms) = &other.terms {
            for term in terms.anti_affinity.iter().filter(|term| is_meant(term, pod, caches)) {
                self.repelled.change(&term.topology_key, node, by);
            }
        }
        if !self.affinity.is_empty() && self.affinity.iter().all(|term| is_meant(term, other, caches)) {
            self.affinity.iter().for_each(|term| self.near.change(&term.topology_key, node, by));
        }
        for term in self.anti_affinity.iter().filter(|term| is_meant(term, other, caches)) {
            self.away.change(&term.topology_key, node, by);
        }
    }

    /// Whether a node is near all that attracts the pod and away from all that repels it.
    pub fn check(&self, node: &NodeFacts) -> Result<(), Rejection> {
        let counted = |counts: &Topology, term: &Term| {
            node.labels().get(&term.topology_key).map(|domain| counts.get(&term.topology_key, domain) > 0)
        };
        if !self.is_near(|term| counted(&self.near, term)) {
            let reason = "node(s) didn't match pod affinity rules";
            return Err(Rejection::unresolvable(Plugin::InterPodAffinity, reason));
        }
        if self.anti_affinity.iter().any(|term| counted(&self.away, term) == Some(true)) {
            return Err(Rejection::new(Plugin::InterPodAffinity, "node(s) didn't match pod anti-affinity rules"));
        }
        if self.repelled.sum(node) > 0 {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Rejection::new(Plugin::InterPodAffinity, reason));
        }
        Ok(())
    }

    /// `counted` says of a term whether there are pods in the node's domain; `None` if the node is in none.
    fn is_near(&self, counted: impl Fn(&Term) -> Option<bool>) -> bool {
        let mut all = true;
        for term in &self.affinity {
            match counted(term) {
                None => return false,
                Some(there) => all &= there,
            }
        }
        // The first of a set that wants to be together has nobody to be with.
        all || (self.near.is_empty() && self.attracts_itself)
    }
}

fn is_meant(term: &Term, pod: &PodInfo, caches: &Caches) -> bool {
    term.matches(pod.namespace(), pod.labels(), caches)
}

#[cfg(test)]
mod tests {
    use crate::filter::basic_tests::check;
    use expect_test::expect;

    const ZONES: [&str; 4] = ["n1 zone=a", "n2 zone=a", "n3 zone=b", "n4"];

    #[test]
    fn affinity_needs_a_matching_pod_in_the_domain() {
        let pods = ["p on=n1 label:app=db"];
        check(
            "a near:zone:app=db",
            &ZONES,
            &pods,
            expect![[r#"
            n4: node(s) didn't match pod affinity rules (for good)
            n1: yes
            n3: node(s) didn't match pod affinity rules (for good)
            n2: yes
        "#]],
        );
        check(
            "a near:zone:app=db near:host:app=db",
            &ZONES[..3],
            &pods,
            expect![[r#"
            n1: yes
            n3: node(s) didn't match pod affinity rules (for good)
            n2: node(s) didn't match pod affinity rules (for good)
        "#]],
        );
    }

    #[test]
    fn the_first_of_its_kind_may_go_where_the_domain_is_known() {
        check(
            "a label:app=web near:zone:app=web",
            &ZONES,
            &[],
            expect![[r#"
            n4: node(s) didn't match pod affinity rules (for good)
            n1: yes
            n3: yes
            n2: yes
        "#]],
        );
        check(
            "a near:zone:app=web",
            &ZONES[..1],
            &[],
            expect![[r#"
            n1: node(s) didn't match pod affinity rules (for good)
        "#]],
        );
        // One is somewhere: the next goes there.
        check(
            "a label:app=web near:zone:app=web",
            &ZONES[..3],
            &["p on=n3 label:app=web"],
            expect![[r#"
            n1: node(s) didn't match pod affinity rules (for good)
            n3: yes
            n2: node(s) didn't match pod affinity rules (for good)
        "#]],
        );
    }

    #[test]
    fn anti_affinity_holds_both_ways() {
        check(
            "a anti:zone:app=db",
            &ZONES,
            &["p on=n1 label:app=db"],
            expect![[r#"
            n4: yes
            n1: node(s) didn't match pod anti-affinity rules
            n3: yes
            n2: node(s) didn't match pod anti-affinity rules
        "#]],
        );
        check(
            "a label:app=web",
            &ZONES,
            &["p on=n1 anti:zone:app=web"],
            expect![[r#"
            n4: yes
            n1: node(s) didn't satisfy existing pods anti-affinity rules
            n3: yes
            n2: node(s) didn't satisfy existing pods anti-affinity rules
        "#]],
        );
    }

    #[test]
    fn terms_mean_their_own_namespace_unless_they_select_others() {
        let pods = ["p ns=other on=n1 label:app=db"];
        check("a anti:host:app=db", &ZONES[..1], &pods, expect!["n1: yes\n"]);
        check(
            "a anti:host:*/app=db",
            &ZONES[..1],
            &pods,
            expect![[r#"
            n1: node(s) didn't match pod anti-affinity rules
        "#]],
        );
        check("a anti:host:team=x/app=db", &ZONES[..1], &pods, expect!["n1: yes\n"]);
    }
}
