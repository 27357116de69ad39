//! Scores that look at the pod and the node alone.

use super::{Context, MAX, Scores, normalise};
use crate::node::NodeFacts;

/// Sizes of images below this say nothing: upstream's `minThreshold`.
const SMALL_IMAGE: i64 = 23 * 1024 * 1024;
/// Sizes above this, per container, say no more: upstream's `maxContainerThreshold`.
const LARGE_IMAGE: i64 = 1000 * 1024 * 1024;

/// TaintToleration: how few taints that are to be avoided the pod does not tolerate.
pub fn taints(context: &Context<'_>) -> Scores {
    let avoided = |facts: &NodeFacts| {
        let taints = facts.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule");
        taints.filter(|taint| !context.pod.tolerates(taint)).count()
    };
    let counts = context.each(|it| i64::try_from(avoided(it.facts)).unwrap_or(i64::MAX / MAX));
    Some(normalise(counts, true))
}

/// NodeAffinity: the weights of the preferences that a node meets.
pub fn node_affinity(context: &Context<'_>) -> Scores {
    let preferences = &context.pod.node_preferences;
    if preferences.is_empty() {
        return None;
    }
    let met = |facts: &NodeFacts| {
        let met = preferences.iter().filter(|(_, term)| term.matches(facts.name(), facts.labels()));
        met.map(|(weight, _)| *weight).sum()
    };
    Some(normalise(context.each(|it| met(it.facts)), false))
}

/// NodeResourcesFit: how much of CPU and memory would be left.
pub fn least_allocated(context: &Context<'_>) -> Scores {
    let pod = context.pod.nonzero;
    Some(context.each(|it| {
        let (taken, all) = (it.info.nonzero, &it.facts.allocatable);
        let shares =
            [left(taken.cpu_milli + pod.cpu_milli, all.cpu_milli), left(taken.memory + pod.memory, all.memory)];
        let known: Vec<i64> = shares.into_iter().flatten().collect();
        i64::try_from(known.len()).ok().filter(|n| *n > 0).map_or(0, |n| known.iter().sum::<i64>() / n)
    }))
}

/// What share is left, in hundredths; `None` of what there is nothing.
fn left(taken: i128, all: i128) -> Option<i64> {
    if all == 0 {
        return None;
    }
    let share = if taken > all { 0 } else { (all - taken) * i128::from(MAX) / all };
    Some(i64::try_from(share).unwrap_or(0))
}

/// NodeResourcesBalancedAllocation: how close to each other the used shares of CPU and memory would be.
pub fn balanced(context: &Context<'_>) -> Scores {
    let pod = &context.pod.requests;
    if pod.cpu_milli == 0 && pod.memory == 0 {
        return None;
    }
    Some(context.each(|it| {
        let (taken, all) = (&it.info.requested, &it.facts.allocatable);
        balance(taken.cpu_milli + pod.cpu_milli, all.cpu_milli, taken.memory + pod.memory, all.memory)
    }))
}

/// 100 less half the difference between two shares in hundredths, which is their standard deviation.
fn balance(cpu: i128, all_cpu: i128, memory: i128, all_memory: i128) -> i64 {
    if all_cpu <= 0 || all_memory <= 0 {
        return MAX;
    }
    // Both shares over the common denominator, so that nothing is rounded before the end.
    let whole = all_cpu.saturating_mul(all_memory);
    let difference = cpu.min(all_cpu).saturating_mul(all_memory) - memory.min(all_memory).saturating_mul(all_cpu);
    let doubled = whole.saturating_mul(2);
    let score = (doubled - difference.abs()).saturating_mul(MAX.into()) / doubled;
    i64::try_from(score).unwrap_or(0).clamp(0, MAX)
}

/// ImageLocality: how much of the pod's images is on a node already. Images count the more, the more nodes have them, so
/// that one node does not draw all pods of an image.
pub fn images(context: &Context<'_>) -> Scores {
    let containers = i64::try_from(context.pod.images.len()).unwrap_or(1).max(1);
    let nodes = i64::try_from(context.cache.order().len()).unwrap_or(1).max(1);
    let largest = LARGE_IMAGE * containers;
    Some(context.each(|it| {
        let sizes = context.pod.images.iter().filter_map(|name| {
            let size = it.facts.images.get(name)?;
            Some(size.saturating_mul(context.cache.nodes_with_image(name)) / nodes)
        });
        let sum = sizes.fold(0, i64::saturating_add).clamp(SMALL_IMAGE, largest);
        MAX * (sum - SMALL_IMAGE) / (largest - SMALL_IMAGE)
    }))
}
