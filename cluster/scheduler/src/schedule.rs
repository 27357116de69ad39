//! One scheduling cycle: where a pod is to run, or why nowhere, as a function of what is known.

use crate::cache::{Cache, NodeId};
use crate::filter::{self, Rejection, State};
use crate::message;
use crate::node::{NodeFacts, NodeInfo};
use crate::nominated::Nominated;
use crate::plugin::{Plugin, Plugins};
use crate::pod::PodInfo;
use crate::{preemption, score};
use client::Caches;
use mark::sometimes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Up to this many nodes are always looked at; of more, a part will do. Upstream's `minFeasibleNodesToFind`.
const MIN_FEASIBLE: usize = 100;
/// The least part of many nodes, in hundredths: upstream's `minFeasibleNodesPercentageToFind`.
const MIN_PERCENT: usize = 5;

/// What a decision is made of.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Nodes and pods on them; settled.
    pub cache: &'a Cache,
    /// Everything else: budgets, namespaces, Services.
    pub caches: &'a Caches,
    /// Pods for which nodes were made free.
    pub nominated: &'a Nominated,
}

/// What differs from cycle to cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chance {
    /// At which place of the order of nodes to begin, so that every node has its turn.
    pub start: usize,
    /// A random number that breaks ties.
    pub draw: u64,
}

/// What is to be done with a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is to run there.
    Bind(Arc<str>),
    /// It fits nowhere now.
    Fail(Failure),
}

/// Why a pod fits nowhere, and what comes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// The rules that kept it off nodes: what must change before another try makes sense.
    pub rejectors: Plugins,
    /// What is to be done about the node that is held for it.
    pub nomination: Nomination,
}

/// A change of the node that is held for a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Nomination {
    /// None.
    Keep,
    /// No node is held any more.
    Clear,
    /// Others have to go.
    Preempt(Preemption),
}

/// Pods that have to go for another.
#[derive(Clone, Debug, PartialEq)]
pub struct Preemption {
    /// From this node.
    pub node: Arc<str>,
    /// These, most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// The node is no longer held for these, which are less important than the one that it is held for now.
    pub no_longer_nominated: Vec<Arc<PodInfo>>,
}

/// Decides about `pod`. Also says how many nodes were looked at: the next cycle starts after them.
pub fn schedule_one(view: View<'_>, pod: &PodInfo, chance: Chance) -> (Decision, usize) {
    if view.cache.order().is_empty() {
        let rejectors = Plugins::only(Plugin::NoNodes);
        let message = "no nodes available to schedule pods".to_owned();
        return (Decision::Fail(Failure { message, rejectors, nomination: Nomination::Clear }), 0);
    }
    let state = State::new(pod, view.cache, view.caches);
    if let Some(node) = nominated_node(view, pod, &state) {
        sometimes!("pod was bound to the node that was held for it");
        return (Decision::Bind(node), 0);
    }
    let found = find(view, pod, &state, chance.start);
    if found.feasible.is_empty() {
        return (Decision::Fail(fail(view, pod, &state, &found.rejected, chance.draw)), found.examined);
    }
    let best = choose(view, pod, &found.feasible, chance.draw);
    (Decision::Bind(view.cache.info(best).name.clone()), found.examined)
}

/// Whether `pod` may run on a node, also with the pods of no lower priority for which it is held.
///
/// Both is asked: without them, because they may never come, and affinity to them would be in vain.
pub fn check(
    view: View<'_>,
    pod: &PodInfo,
    info: &NodeInfo,
    facts: &NodeFacts,
    state: &State,
) -> Result<(), Rejection> {
    let counts = |other: &&Arc<PodInfo>| other.priority >= pod.priority && other.uid != pod.uid;
    let held: Vec<&Arc<PodInfo>> = view.nominated.on(&info.name).filter(counts).collect();
    if !held.is_empty() {
        let (mut info, mut state) = (info.clone(), state.clone());
        for other in held {
            info.add(other.clone());
            state.add(pod, other, facts, view.caches);
        }
        filter::check(pod, &info, facts, &state)?;
    }
    filter::check(pod, info, facts, state)
}

struct Found {
    feasible: Vec<NodeId>,
    rejected: BTreeMap<NodeId, Rejection>,
    examined: usize,
}

fn nominated_node(view: View<'_>, pod: &PodInfo, state: &State) -> Option<Arc<str>> {
    let name = view.nominated.node_of(&pod.uid).or(Some(pod.nominated_node_name()).filter(|name| !name.is_empty()))?;
    let (_, info) = view.cache.node(name)?;
    check(view, pod, info, info.facts.as_ref()?, state).ok()?;
    Some(info.name.clone())
}

/// Nodes that will do, from `start` on, until there are enough of them.
fn find(view: View<'_>, pod: &PodInfo, state: &State, start: usize) -> Found {
    let order = view.cache.order();
    let enough = enough_of(order.len());
    let mut found = Found { feasible: Vec::new(), rejected: BTreeMap::new(), examined: 0 };
    for i in 0..order.len() {
        if found.feasible.len() >= enough {
            break;
        }
        let id = order[(start + i) % order.len()];
        let info = view.cache.info(id);
        let Some(facts) = &info.facts else { continue };
        match check(view, pod, info, facts, state) {
            Ok(()) => found.feasible.push(id),
            Err(rejection) => drop(found.rejected.insert(id, rejection)),
        }
        found.examined += 1;
    }
    found
}

/// How many nodes that will do are enough: all of few, a falling part of many.
fn enough_of(nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(MIN_PERCENT);
    (nodes * percent / 100).max(MIN_FEASIBLE)
}

/// The best of the nodes; of several equally good ones, the one that the draw picks.
fn choose(view: View<'_>, pod: &PodInfo, feasible: &[NodeId], draw: u64) -> NodeId {
    if let [only] = feasible {
        return *only;
    }
    let scores = score::rank(pod, feasible, view.cache, view.caches);
    let best = scores.iter().copied().max().unwrap_or(0);
    let equal: Vec<NodeId> = feasible.iter().zip(&scores).filter(|(_, it)| **it == best).map(|(id, _)| *id).collect();
    equal[below(draw, equal.len())]
}

/// A place below `n`, which is not 0, from a random number.
pub fn below(draw: u64, n: usize) -> usize {
    let place = (u128::from(draw) * n as u128) >> 64;
    usize::try_from(place).unwrap_or(0).min(n.saturating_sub(1))
}

fn fail(view: View<'_>, pod: &PodInfo, state: &State, rejected: &BTreeMap<NodeId, Rejection>, draw: u64) -> Failure {
    let reasons = rejected.values().flat_map(|it| it.reasons.iter().map(AsRef::as_ref));
    let mut message = message::unavailable(view.cache.order().len(), reasons);
    let (why_not, nomination) = preemption::preempt(view, pod, state, rejected, draw);
    if let Some(why_not) = why_not {
        message = format!("{message} preemption: {why_not}");
    }
    Failure { message, rejectors: rejected.values().map(|it| it.plugin).collect(), nomination }
}

#[cfg(test)]
mod tests;
