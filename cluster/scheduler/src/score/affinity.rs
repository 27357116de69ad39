//! InterPodAffinity, the part that need not hold: what the pod prefers to be near, and who prefers it.

use super::{Context, MAX, Scores};
use crate::filter::affinity::Topology;
use crate::pod::Term;

/// What a pod that *requires* to be near this one counts for: upstream's `hardPodAffinityWeight`.
const REQUIRED_WEIGHT: i64 = 1;

/// Weights of all that prefers to be together, summed over the domains of each node.
pub fn scores(context: &Context<'_>) -> Scores {
    let sums = weigh(context);
    if sums.is_empty() {
        return None;
    }
    let raw = context.each(|it| sums.sum(it.facts));
    let (least, most) = (raw.iter().min()?, raw.iter().max()?);
    let spread = most - least;
    Some(raw.iter().map(|score| if spread == 0 { 0 } else { MAX * (score - least) / spread }).collect())
}

fn weigh(context: &Context<'_>) -> Topology {
    let (pod, cache, caches) = (context.pod, context.cache, context.caches);
    let mut sums = Topology::default();
    let means_us = |term: &Term| term.matches(pod.namespace(), pod.labels(), caches);
    for (terms, per_node) in cache.groups() {
        let required = terms.affinity.iter().map(|term| (REQUIRED_WEIGHT, term));
        let preferred = terms.preferred.iter().map(|(weight, term)| (*weight, term));
        for (weight, term) in required.chain(preferred).filter(|(_, term)| means_us(term)) {
            for (id, count) in per_node {
                if let Some(node) = &cache.info(*id).facts {
                    sums.change(&term.topology_key, node, weight * i64::from(*count));
                }
            }
        }
    }
    let preferred = pod.terms.iter().flat_map(|terms| &terms.preferred);
    for (weight, term) in preferred {
        for (_, _, class) in cache.classes().filter(|(namespace, labels, _)| term.matches(namespace, labels, caches)) {
            for (id, count) in class.live.iter().chain(&class.ending) {
                if let Some(node) = &cache.info(*id).facts {
                    sums.change(&term.topology_key, node, weight * i64::from(*count));
                }
            }
        }
    }
    sums
}
