//! C25: admitted evictions never exceed disruptionsAllowed of the status that they decremented, and no status write
//! loses a decrement.

use super::facts::{PODS, SECOND_NS, Timeline, condition, is_ready, is_terminal, is_terminating, skew_ns};
use super::{Commit, Object, World};
use crate::findings::Findings;
use api::core::v1::Pod;
use api::policy::v1::PodDisruptionBudget;
use api::{ObjectExt, selector};
use faults::Ns;
use record::{Guarantee, SAMPLE_NS, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// How long an evicted pod counts as going although its deletion is not seen.
const NOTED_NS: Ns = 120 * SECOND_NS;

/// A time stored in whole seconds may be as much earlier than what it stands for.
const ROUNDING_NS: Ns = SECOND_NS;

/// Three things:
/// - A status that notes further pods as disrupted follows one that allowed as many, and allows as many less.
/// - What is noted stays so until the pod is going, gone, or not the budget's any more, or two minutes have passed:
///   then no status was written over an eviction that its writer had not seen.
/// - A ready pod that the eviction API condemns is noted in each budget that selects it, as of that very revision.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C25);
    let timeline = Timeline::new(world);
    // When each budget noted each pod.
    let mut noted: BTreeMap<(&str, String), Ns> = BTreeMap::new();
    for commit in &world.commits {
        if let (Some(Object::Budget(old)), Some(Object::Budget(new))) = (commit.old.as_deref(), commit.new.as_deref())
            && old.uid() == new.uid()
        {
            additions(commit, old, new, &mut noted, &mut findings);
            removals(world, commit, (old, new), &timeline, &noted, &mut findings);
        }
        if let (Some(old), Some(new)) = commit.pods() {
            condemned(commit, old, new, &timeline, &mut findings);
        }
    }
    findings.verdict()
}

fn disrupted(budget: &PodDisruptionBudget) -> BTreeSet<&String> {
    budget.status.iter().flat_map(|status| status.disrupted_pods.iter().flat_map(BTreeMap::keys)).collect()
}

fn allowed(budget: &PodDisruptionBudget) -> i64 {
    budget.status.as_ref().map_or(0, |status| status.disruptions_allowed.into())
}

fn additions<'a>(
    commit: &'a Commit,
    old: &PodDisruptionBudget,
    new: &PodDisruptionBudget,
    noted: &mut BTreeMap<(&'a str, String), Ns>,
    findings: &mut Findings,
) {
    let (before, after) = (disrupted(old), disrupted(new));
    let added: Vec<&String> = after.difference(&before).copied().collect();
    for pod in &added {
        noted.insert((&commit.key, (*pod).clone()), commit.at_ns);
    }
    let count = i64::try_from(added.len()).unwrap_or(i64::MAX);
    findings.tested(added.len() as u64);
    if count == 0 {
        return;
    }
    let (had, has) = (allowed(old), allowed(new));
    let said = || format!("{} noted {added:?} as disrupted at revision {}", commit.key, commit.revision);
    if had < count {
        findings.violated(commit.at_ns, format!("{}, though it allowed {had} disruptions", said()));
    } else if has != had - count {
        findings.violated(commit.at_ns, format!("{}, and went from {had} disruptions allowed to {has}", said()));
    }
}

fn removals(
    world: &World<'_>,
    commit: &Commit,
    (old, new): (&PodDisruptionBudget, &PodDisruptionBudget),
    timeline: &Timeline<'_>,
    noted: &BTreeMap<(&str, String), Ns>,
    findings: &mut Findings,
) {
    let (before, after) = (disrupted(old), disrupted(new));
    for name in before.difference(&after) {
        findings.tested(1);
        let key = format!("{PODS}{}/{name}", old.namespace());
        let pod = timeline.at_revision(&key, commit.revision).and_then(Object::pod);
        let Some(pod) = pod.filter(|pod| !is_terminating(pod) && selects(new, pod)) else { continue };
        let since_ns = noted.get(&(&*commit.key, (*name).clone())).copied().unwrap_or(0);
        let slack_ns = (SAMPLE_NS + ROUNDING_NS).saturating_add(skew_ns(world.record, commit.at_ns));
        let age_ns = commit.at_ns.saturating_sub(since_ns).saturating_add(slack_ns);
        if age_ns < NOTED_NS {
            let text = format!(
                "{} forgot at revision {} that {} is disrupted, after {} s and though the pod was not going",
                commit.key,
                commit.revision,
                pod.name(),
                commit.at_ns.saturating_sub(since_ns) / SECOND_NS
            );
            findings.violated(commit.at_ns, text);
        }
    }
}

/// The eviction API condemns a pod that is counted as healthy.
fn condemned(commit: &Commit, old: &Pod, new: &Pod, timeline: &Timeline<'_>, findings: &mut Findings) {
    let evicted = |pod: &Pod| {
        let target = condition(pod, "DisruptionTarget").filter(|target| target.status == "True");
        target.is_some_and(|target| target.reason.as_deref() == Some("EvictionByEvictionAPI"))
    };
    if old.uid() != new.uid() || evicted(old) || !evicted(new) {
        return;
    }
    // Nobody asks the budget about a pod that has not begun, has ended, or goes already.
    let pending = super::facts::pod_phase(old) == "Pending";
    if !is_ready(old) || pending || is_terminal(old) || is_terminating(old) {
        return;
    }
    let prefix = format!("/registry/policy/poddisruptionbudgets/{}/", old.namespace());
    for (key, _) in timeline.below(&prefix) {
        let Some(Object::Budget(budget)) = timeline.at_revision(key, commit.revision) else { continue };
        if !selects(budget, old) {
            continue;
        }
        findings.tested(1);
        if !disrupted(budget).contains(&old.name().to_owned()) {
            let text = format!(
                "{} was evicted at revision {} while it was ready, and {key} did not pay for it",
                commit.key, commit.revision
            );
            findings.violated(commit.at_ns, text);
        }
    }
}

/// No selector selects nothing; an empty one selects everything.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| selector::matches(selector, pod.labels()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    const BUDGET: &str = "policy/poddisruptionbudgets/default/b";

    fn budget(tale: &mut Tale, allowed: i32, disrupted: &[&str]) {
        tale.put(BUDGET, &budget_json(allowed, disrupted));
    }

    fn budget_json(allowed: i32, disrupted: &[&str]) -> String {
        let pods: Vec<String> = disrupted.iter().map(|pod| format!(r#""{pod}":"2023-11-14T22:13:20Z""#)).collect();
        format!(
            r#"{{"metadata":{{"name":"b","namespace":"default","uid":"ub"}},"spec":{{"selector":{{"matchLabels":{{"app":"x"}}}}}},"status":{{"disruptionsAllowed":{allowed},"currentHealthy":2,"desiredHealthy":1,"expectedPods":2,"disruptedPods":{{{}}}}}}}"#,
            pods.join(",")
        )
    }

    /// A pod that is ready; its deletion asked for, or marked by the eviction API too.
    fn pod_json(name: &str, terminating: bool, evicted: bool) -> String {
        let deletion = if terminating { r#","deletionTimestamp":"2023-11-14T22:13:25Z""# } else { "" };
        let target = if evicted {
            r#",{"type":"DisruptionTarget","status":"True","reason":"EvictionByEvictionAPI"}"#
        } else {
            ""
        };
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"u-{name}","labels":{{"app":"x"}}{deletion}}},"spec":{{"containers":[]}},"status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"True"}}{target}]}}}}"#
        )
    }

    fn pod(tale: &mut Tale, name: &str, terminating: bool, evicted: bool) {
        tale.put(&format!("core/pods/default/{name}"), &pod_json(name, terminating, evicted));
    }

    fn tale() -> Tale {
        let mut tale = Tale::new();
        pod(&mut tale, "p", false, false);
        pod(&mut tale, "q", false, false);
        budget(&mut tale, 0, &[]);
        budget(&mut tale, 1, &[]);
        tale
    }

    /// The whole of an eviction in one revision.
    fn evict(tale: &mut Tale, allowed: i32) {
        let (pod, budget) = (pod_json("p", true, true), budget_json(allowed, &["p"]));
        tale.put_together(&[(BUDGET, &budget), ("core/pods/default/p", &pod)]);
    }

    #[test]
    fn an_eviction_that_is_allowed_noted_and_forgotten_in_time_passes() {
        let mut tale = tale();
        evict(&mut tale, 0);
        budget(&mut tale, 0, &[]);
        // The note, the pod's condition, and the end of the note.
        tale.passes(check, Guarantee::C25, 3);
    }

    #[test]
    fn a_pod_that_is_not_deleted_is_forgotten_after_two_minutes() {
        let mut tale = tale();
        budget(&mut tale, 0, &["p"]);
        tale.at(125);
        budget(&mut tale, 1, &[]);
        tale.passes(check, Guarantee::C25, 2);
    }

    #[test]
    fn an_eviction_that_is_not_allowed_is_flagged() {
        let mut tale = tale();
        budget(&mut tale, 0, &[]);
        evict(&mut tale, 0);
        tale.flags(check, "noted [\"p\"] as disrupted at revision 7, though it allowed 0 disruptions");
    }

    #[test]
    fn a_decrement_that_is_not_made_is_flagged() {
        let mut tale = tale();
        evict(&mut tale, 1);
        tale.flags(check, "and went from 1 disruptions allowed to 1");
    }

    #[test]
    fn a_decrement_that_is_lost_is_flagged() {
        let mut tale = tale();
        budget(&mut tale, 0, &["p"]);
        tale.at(30);
        budget(&mut tale, 1, &[]);
        tale.flags(check, "forgot at revision 7 that p is disrupted, after 29 s");
    }

    #[test]
    fn a_ready_pod_that_goes_without_its_budget_is_flagged() {
        let mut tale = tale();
        pod(&mut tale, "q", true, true);
        tale.flags(check, "pods/default/q was evicted at revision 6 while it was ready");
    }
}
