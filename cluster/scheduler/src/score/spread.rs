//! PodTopologySpread, the part that need not hold: `ScheduleAnyway`, and the defaults for pods of Services and workloads.

use super::{Candidate, Context, MAX, Scores};
use crate::cache::PerNode;
use crate::filter::spread::{has_keys, is_counted};
use crate::matching::{Labels, Requirement, Selector};
use crate::node::{HOSTNAME, ZONE};
use crate::pod::{Constraint, PodInfo};
use api::ObjectExt;
use api::apps::v1::ReplicaSet;
use api::core::v1::{ReplicationController, Service};
use client::Caches;
use std::collections::BTreeMap;

/// Upstream's defaults for pods that say nothing: topology and skew.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), (ZONE, 5)];
/// Parts of the unit in which logarithms are counted.
const MICRO: i128 = 1_000_000;

/// A constraint with what is counted for it.
struct Counted {
    constraint: Constraint,
    per_node: PerNode,
    /// Per domain that a candidate is in; unused for the hostname, where each node is its own.
    domains: BTreeMap<String, i64>,
    /// Larger for a topology of more domains, whose counts are smaller: the logarithm of their number.
    weight_micro: i128,
}

/// The fewer pods of the set are in its domains, the better a node.
pub fn scores(context: &Context<'_>) -> Scores {
    let pod = context.pod;
    let constraints = if pod.spread.is_empty() {
        defaults(pod, context.caches)
    } else {
        pod.spread.iter().filter(|it| !it.hard).cloned().collect()
    };
    if constraints.is_empty() {
        return None;
    }
    // Only what the pod itself asks for makes nodes without the labels worthless.
    let needs_keys = !pod.spread.is_empty();
    let ignored = |it: &Candidate<'_>| needs_keys && !has_keys(constraints.iter(), it.facts);
    let counted = count(context, &constraints, ignored, needs_keys);
    let raw: Vec<Option<i128>> =
        context.candidates.iter().map(|it| (!ignored(it)).then(|| raw_score(it, &counted))).collect();
    let known = || raw.iter().flatten().copied();
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let score = |raw: Option<i128>| match raw {
        None => 0,
        Some(_) if most == 0 => MAX,
        Some(raw) => i64::try_from(i128::from(MAX) * (most + least - raw) / most).unwrap_or(0),
    };
    Some(raw.into_iter().map(score).collect())
}

fn count(
    context: &Context<'_>,
    constraints: &[Constraint],
    ignored: impl Fn(&Candidate<'_>) -> bool,
    needs_keys: bool,
) -> Vec<Counted> {
    let (pod, cache) = (context.pod, context.cache);
    let taking_part = || context.candidates.iter().filter(|it| !ignored(it));
    let count = |constraint: &Constraint| {
        let per_node = cache.matching(pod.namespace(), &constraint.selector);
        let key = constraint.topology_key.as_str();
        let mut domains: BTreeMap<String, i64> = BTreeMap::new();
        let size = if key == HOSTNAME {
            taking_part().count()
        } else {
            domains.extend(taking_part().filter_map(|it| it.facts.labels().get(key)).map(|it| (it.clone(), 0)));
            for (id, count) in &per_node {
                let Some(node) = &cache.info(*id).facts else { continue };
                let counts = (!needs_keys || has_keys(constraints.iter(), node)) && is_counted(constraint, pod, node);
                if let Some(sum) = node.labels().get(key).filter(|_| counts).and_then(|it| domains.get_mut(it)) {
                    *sum += i64::from(*count);
                }
            }
            domains.len()
        };
        let weight_micro = ln_micro(size as u64 + 2);
        Counted { constraint: constraint.clone(), per_node, domains, weight_micro }
    };
    constraints.iter().map(count).collect()
}

/// Weighted counts of the node's domains, rounded to whole numbers as upstream does.
fn raw_score(node: &Candidate<'_>, counted: &[Counted]) -> i128 {
    let of = |it: &Counted| {
        let Some(domain) = node.facts.labels().get(&it.constraint.topology_key) else { return 0 };
        let count = if it.constraint.topology_key == HOSTNAME {
            it.per_node.get(&node.id).copied().unwrap_or(0).into()
        } else {
            it.domains.get(domain).copied().unwrap_or(0)
        };
        i128::from(count) * it.weight_micro + i128::from(it.constraint.max_skew - 1) * MICRO
    };
    (counted.iter().map(of).sum::<i128>() + MICRO / 2) / MICRO
}

/// What upstream assumes for a pod without constraints that belongs to a Service or a workload.
fn defaults(pod: &PodInfo, caches: &Caches) -> Vec<Constraint> {
    let selector = default_selector(pod, caches);
    if selector.is_everything() {
        return Vec::new();
    }
    let constraint = |(key, max_skew): (&str, i64)| Constraint {
        topology_key: key.to_owned(),
        max_skew,
        min_domains: 1,
        hard: false,
        selector: selector.clone(),
        honor_affinity: true,
        honor_taints: false,
    };
    DEFAULTS.into_iter().map(constraint).collect()
}

/// What the Services that mean the pod, and its controlling workload, select; everything if there are none.
fn default_selector(pod: &PodInfo, caches: &Caches) -> Selector {
    let mut selector = Selector::All(Vec::new());
    let mut equal = |labels: &Labels| {
        labels.iter().for_each(|(key, value)| selector.and(Requirement::equals(key, value)));
    };
    for service in caches.list::<Service>(pod.namespace()) {
        let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|it| !it.is_empty());
        if let Some(wanted) = wanted.filter(|it| it.iter().all(|(key, value)| pod.labels().get(key) == Some(value))) {
            equal(wanted);
        }
    }
    let Some(owner) = pod.pod.controller() else { return selector };
    if owner.kind == "ReplicationController" {
        let owner = caches.get::<ReplicationController>(pod.namespace(), &owner.name);
        owner.and_then(|it| it.spec.as_ref()).and_then(|spec| spec.selector.as_ref()).into_iter().for_each(equal);
    } else if owner.kind == "ReplicaSet" {
        let owner = caches.get::<ReplicaSet>(pod.namespace(), &owner.name);
        if let Some(Selector::All(all)) =
            owner.and_then(|it| it.spec.as_ref()).map(|spec| Selector::new(Some(&spec.selector)))
        {
            all.into_iter().for_each(|requirement| selector.and(requirement));
        }
    }
    selector
}

/// The natural logarithm of `n`, which is at least 1, in millionths, rounded down.
fn ln_micro(n: u64) -> i128 {
    /// Bits of fraction of the binary logarithm: its error stays far below a millionth.
    const BITS: u32 = 32;
    /// ln 2 in units of 10^-12.
    const LN_2: u128 = 693_147_180_560;
    let whole = n.max(1).ilog2();
    let one = 1_u128 << 62;
    // `n` over the largest power of two below it, squared again and again: each carry is a bit of the logarithm.
    let mut x = (u128::from(n.max(1)) << 62) >> whole;
    let mut log2 = u128::from(whole);
    for _ in 0..BITS {
        x = (x * x) >> 62;
        log2 <<= 1;
        if x >= 2 * one {
            x >>= 1;
            log2 |= 1;
        }
    }
    i128::try_from(((log2 * LN_2) >> BITS) / 1_000_000).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_a_millionth() {
        let known = [(1, 0), (2, 693_147), (3, 1_098_612), (10, 2_302_585), (1002, 6_909_753), (5002, 8_517_593)];
        for (n, expected) in known {
            assert!((ln_micro(n) - expected).abs() <= 1, "ln {n} = {} / {expected}", ln_micro(n));
        }
    }
}
