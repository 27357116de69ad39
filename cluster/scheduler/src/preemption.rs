//! Preemption: which pods of lower priority have to go so that one fits, as upstream's DefaultPreemption decides.
//!
//! For each node where it may help, all pods of lower priority are thought away; if the pod fits then, they are spared
//! one by one, those first whose disruption budget would be violated, then by importance, as long as it still fits. Of
//! the nodes, the one is taken where the least is lost.

use crate::cache::NodeId;
use crate::filter::{Rejection, State};
use crate::matching::Selector;
use crate::message;
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::PodInfo;
use crate::schedule::{Nomination, Preemption, View, below, check};
use api::core::v1::Pod;
use api::policy::v1::PodDisruptionBudget;
use api::{ObjectExt, Timestamp};
use mark::sometimes;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Candidates that are enough to choose from: upstream's `minCandidateNodesAbsolute`.
const MIN_CANDIDATES: usize = 100;
/// The part of many nodes that is enough, in hundredths: upstream's `minCandidateNodesPercentage`.
const MIN_CANDIDATES_PERCENT: usize = 10;

/// Type of the condition of pods that have to go.
pub const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// Its reason when they have to go for another pod.
pub const PREEMPTED: &str = "PreemptionByScheduler";

/// A node from which pods would have to go.
#[derive(Clone, Debug)]
struct Candidate {
    node: Arc<str>,
    /// Most important first.
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// What preemption can do for `pod`, which `rejected` keeps off every node: why not, and what is to be done.
pub fn preempt(
    view: View<'_>,
    pod: &PodInfo,
    state: &State,
    rejected: &BTreeMap<NodeId, Rejection>,
    draw: u64,
) -> (Option<String>, Nomination) {
    if let Some(why_not) = not_eligible(view, pod, rejected) {
        return (Some(why_not.to_owned()), Nomination::Keep);
    }
    let nodes = view.cache.order().len();
    // In the order of names, not of places in the cache, which depend on its past.
    let mut potential: Vec<NodeId> = rejected.iter().filter(|(_, it)| !it.unresolvable).map(|(id, _)| *id).collect();
    potential.sort_by(|a, b| view.cache.info(*a).name.cmp(&view.cache.info(*b).name));
    let (candidates, why_not) = dry_run(view, pod, state, &potential, draw);
    let Some(best) = pick(candidates) else {
        let helpless = nodes - why_not.len();
        let reasons = why_not.iter().flat_map(|it| it.reasons.iter().map(AsRef::as_ref));
        let rest = std::iter::repeat_n("Preemption is not helpful for scheduling", helpless);
        return (Some(message::unavailable(nodes, reasons.chain(rest))), Nomination::Clear);
    };
    sometimes!("preemption nominated a node");
    let lower = view.nominated.on(&best.node).filter(|it| it.priority < pod.priority).cloned().collect();
    (None, Nomination::Preempt(Preemption { node: best.node, victims: best.victims, no_longer_nominated: lower }))
}

/// Whether a pod has to go for another already.
pub fn is_preempted(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut conditions = conditions.filter(|it| it.type_ == DISRUPTION_TARGET && it.status == "True");
    pod.is_terminating() && conditions.any(|it| it.reason.as_deref() == Some(PREEMPTED))
}

fn not_eligible(view: View<'_>, pod: &PodInfo, rejected: &BTreeMap<NodeId, Rejection>) -> Option<&'static str> {
    if !pod.may_preempt {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = view.nominated.node_of(&pod.uid).unwrap_or_else(|| pod.nominated_node_name());
    let (id, info) = view.cache.node(nominated)?;
    if rejected.get(&id).is_some_and(|it| it.unresolvable) {
        return None;
    }
    let leaving = info.pods.values().any(|it| it.priority < pod.priority && is_preempted(&it.pod));
    leaving.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Candidates, from a random node on until there are enough; and why the other nodes are none.
fn dry_run(
    view: View<'_>,
    pod: &PodInfo,
    state: &State,
    potential: &[NodeId],
    draw: u64,
) -> (Vec<Candidate>, Vec<Rejection>) {
    let (mut candidates, mut why_not) = (Vec::new(), Vec::new());
    let enough = (potential.len() * MIN_CANDIDATES_PERCENT / 100).max(MIN_CANDIDATES);
    let offset = if potential.is_empty() { 0 } else { below(draw, potential.len()) };
    let budgets = Budgets::new(view);
    for i in 0..potential.len() {
        let harmless = candidates.iter().any(|it: &Candidate| it.violations == 0);
        if harmless && candidates.len() >= enough {
            break;
        }
        let info = view.cache.info(potential[(offset + i) % potential.len()]);
        let Some(facts) = &info.facts else { continue };
        match DryRun::new(view, pod, state, info, facts).run(&budgets) {
            Ok(candidate) => candidates.push(candidate),
            Err(rejection) => why_not.push(rejection),
        }
    }
    (candidates, why_not)
}

/// A node from which pods are thought away.
struct DryRun<'a> {
    view: View<'a>,
    pod: &'a PodInfo,
    facts: &'a NodeFacts,
    info: NodeInfo,
    state: State,
}

impl<'a> DryRun<'a> {
    fn new(view: View<'a>, pod: &'a PodInfo, state: &State, info: &NodeInfo, facts: &'a NodeFacts) -> Self {
        Self { view, pod, facts, info: info.clone(), state: state.clone() }
    }

    fn run(mut self, budgets: &Budgets) -> Result<Candidate, Rejection> {
        let lower = self.info.pods.values().filter(|it| it.priority < self.pod.priority);
        let mut lower: Vec<Arc<PodInfo>> = lower.cloned().collect();
        if lower.is_empty() {
            let reason = "No preemption victims found for incoming pod";
            return Err(Rejection::unresolvable(crate::plugin::Plugin::NodeResourcesFit, reason));
        }
        lower.iter().for_each(|it| self.remove(it));
        self.check()?;
        lower.sort_by(|a, b| importance(a).cmp(&importance(b)));
        let (violating, others) = budgets.split(lower);
        let mut violations = 0;
        let mut victims = Vec::new();
        for victim in violating {
            if !self.spare(&victim) {
                violations += 1;
                victims.push(victim);
            }
        }
        for victim in others {
            if !self.spare(&victim) {
                victims.push(victim);
            }
        }
        victims.sort_by(|a, b| importance(a).cmp(&importance(b)));
        Ok(Candidate { node: self.info.name.clone(), victims, violations })
    }

    /// Whether a pod may stay.
    fn spare(&mut self, victim: &Arc<PodInfo>) -> bool {
        self.info.add(victim.clone());
        self.state.add(self.pod, victim, self.facts, self.view.caches);
        let fits = self.check().is_ok();
        if !fits {
            self.remove(victim);
        }
        fits
    }

    fn remove(&mut self, victim: &PodInfo) {
        self.info.remove(&victim.uid);
        self.state.remove(self.pod, victim, self.facts, self.view.caches);
    }

    fn check(&self) -> Result<(), Rejection> {
        check(self.view, self.pod, &self.info, self.facts, &self.state)
    }
}

/// Order of importance, the most important first: by priority, then by how long it runs.
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp, &str) {
    (Reverse(pod.priority), started(pod), &*pod.uid)
}

/// One that does not run yet is the youngest.
fn started(pod: &PodInfo) -> Timestamp {
    pod.started().unwrap_or(Timestamp::MAX)
}

/// Disruption budgets and how many pods each can spare.
struct Budgets(Vec<(Arc<PodDisruptionBudget>, Selector, i32)>);

impl Budgets {
    fn new(view: View<'_>) -> Self {
        let budget = |it: &Arc<PodDisruptionBudget>| {
            let selector = Selector::new(it.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
            let allowed = it.status.as_ref().map_or(0, |status| status.disruptions_allowed);
            (it.clone(), selector, allowed)
        };
        Self(view.caches.all::<PodDisruptionBudget>().map(budget).filter(|(_, it, _)| !it.is_everything()).collect())
    }

    /// Those that a budget cannot spare if all of `pods` went in this order, and the others.
    fn split(&self, pods: Vec<Arc<PodInfo>>) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
        let mut left: Vec<i32> = self.0.iter().map(|(_, _, allowed)| *allowed).collect();
        pods.into_iter().partition(|pod| {
            let mut violated = false;
            for ((budget, selector, _), left) in self.0.iter().zip(&mut left) {
                let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
                let counts = budget.namespace() == pod.namespace()
                    && !pod.labels().is_empty()
                    && selector.matches(pod.labels())
                    // The API server has let this one go already.
                    && !disrupted.is_some_and(|pods| pods.contains_key(pod.name()));
                if counts {
                    *left -= 1;
                    violated |= *left < 0;
                }
            }
            violated
        })
    }
}

/// Upstream's criteria, in order: fewest violated budgets, least important victim at the top, least priority in all,
/// fewest victims, youngest of the most important ones. Then the name.
fn pick(candidates: Vec<Candidate>) -> Option<Candidate> {
    // Where nobody has to go, nothing is lost.
    let key = |it: &Candidate| {
        let highest = it.victims.first().map_or(i32::MIN, |victim| victim.priority);
        let sum: i64 = it.victims.iter().map(|victim| i64::from(victim.priority) - i64::from(i32::MIN)).sum();
        let oldest = it.victims.iter().filter(|victim| victim.priority == highest).map(|victim| started(victim)).min();
        let youngest = Reverse(oldest.unwrap_or(Timestamp::MAX));
        (!it.victims.is_empty(), it.violations, highest, sum, it.victims.len(), youngest, it.node.clone())
    };
    candidates.into_iter().min_by(|a, b| key(a).cmp(&key(b)))
}
