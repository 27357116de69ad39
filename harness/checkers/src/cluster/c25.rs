//! C25: admitted evictions never exceed disruptionsAllowed of the status that they decremented, and no status write
//! loses a decrement.

use super::facts::{PODS, SECOND_NS, Timeline, condition, is_ready, is_terminal, is_terminating, skew_ns};
use super::{Budget, Commit, Object, Pod, World};
use crate::findings::Findings;
use api::selector;
use faults::Ns;
use record::{Guarantee, Sight, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Where budgets are kept.
const BUDGETS: &str = "/registry/policy/poddisruptionbudgets/";

/// How long an evicted pod counts as going although its deletion is not seen.
const NOTED_NS: Ns = 120 * SECOND_NS;

/// A time stored in whole seconds may be as much earlier than what it stands for.
const ROUNDING_NS: Ns = SECOND_NS;

/// Name of the controller in its sights.
const CONTROLLER: &str = "disruption-controller";

/// Four things:
/// - A status that notes further pods as disrupted follows one that allowed as many, and allows as many less.
/// - What is noted stays so until the pod is going, gone, or not the budget's any more, or two minutes have passed:
///   then no status was written over an eviction that its writer had not seen.
/// - After an eviction the status was not written more often than its controller began to write it: else one of these
///   writes began before the eviction, and was stored over it.
/// - A ready pod that the eviction API condemns is noted in each budget that selects it, as of that very revision.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C25);
    let timeline = Timeline::new(world);
    // When each budget noted each pod, and how its status was written.
    let mut noted: BTreeMap<(&str, String), Ns> = BTreeMap::new();
    let mut written: BTreeMap<&str, Vec<Written<'_>>> = BTreeMap::new();
    for commit in &world.commits {
        if let (Some(Object::Budget(old)), Some(Object::Budget(new))) = (commit.old.as_deref(), commit.new.as_deref())
            && old.uid() == new.uid()
        {
            additions(commit, old, new, &mut noted, &mut findings);
            removals(world, commit, (old, new), &timeline, &noted, &mut findings);
            written.entry(&commit.key).or_default().extend(Written::of(world, commit, old, new));
        }
        if let (Some(old), Some(new)) = commit.pods() {
            condemned(commit, old, new, &timeline, &mut findings);
        }
    }
    for (key, begun) in begun(world) {
        overwrites(written.get(&*key).map_or(&[], Vec::as_slice), &begun, &mut findings);
    }
    findings.verdict()
}

fn disrupted(budget: &Budget) -> BTreeSet<&String> {
    budget.status.iter().flat_map(|status| status.disrupted_pods.iter().flat_map(BTreeMap::keys)).collect()
}

fn allowed(budget: &Budget) -> i64 {
    budget.status.as_ref().map_or(0, |status| status.disruptions_allowed.into())
}

fn additions<'a>(
    commit: &'a Commit,
    old: &Budget,
    new: &Budget,
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
    (old, new): (&Budget, &Budget),
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
        let slack_ns = (world.sample_ns() + ROUNDING_NS).saturating_add(skew_ns(world.record, commit.at_ns));
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

/// A status of a budget was written.
struct Written<'a> {
    commit: &'a Commit,
    /// By an eviction, no earlier than this; else by the controller.
    evicted_ns: Option<Ns>,
}

impl<'a> Written<'a> {
    fn of(world: &World<'_>, commit: &'a Commit, old: &Budget, new: &Budget) -> Option<Self> {
        let (before, after) = (disrupted(old), disrupted(new));
        let added = after.difference(&before);
        let evicted_ns = added.map(|pod| first_asked(world, new.namespace(), pod).max(commit.since_ns)).min();
        (old.status != new.status).then_some(Self { commit, evicted_ns })
    }
}

/// When a user first asked for a pod's eviction; 0 if nobody was seen to.
fn first_asked(world: &World<'_>, namespace: &str, pod: &str) -> Ns {
    let object = format!("pods {namespace}/{pod}");
    let asked = world.record.cluster.writes.iter().filter(|write| write.what == "evict" && write.object == object);
    asked.map(|write| write.invoked_ns).min().unwrap_or(0)
}

/// When the controller began to write about each budget, in order of time.
fn begun(world: &World<'_>) -> BTreeMap<String, Vec<Ns>> {
    let mut begun: BTreeMap<String, Vec<Ns>> = BTreeMap::new();
    for sight in &world.record.cluster.sights {
        if let Sight::Effect { at_ns, controller, key, .. } = sight
            && controller == CONTROLLER
        {
            begun.entry(format!("{BUDGETS}{key}")).or_default().push(*at_ns);
        }
    }
    begun
}

/// Judges how a budget's status was written after each eviction.
fn overwrites(written: &[Written<'_>], begun: &[Ns], findings: &mut Findings) {
    let begun_by = |at_ns: Ns| begun.partition_point(|began_ns| *began_ns <= at_ns);
    for (place, evicted) in written.iter().enumerate() {
        let Some(evicted_ns) = evicted.evicted_ns else { continue };
        findings.tested(1);
        let before = begun.partition_point(|began_ns| *began_ns < evicted_ns);
        let after = written[place + 1..].iter().filter(|later| later.evicted_ns.is_none());
        let over =
            after.enumerate().find(|(count, later)| *count >= begun_by(later.commit.at_ns).saturating_sub(before));
        if let Some((count, later)) = over {
            let text = format!(
                "{} was written {} times from revision {}, an eviction, to revision {}, once by who began before it",
                evicted.commit.key,
                count + 1,
                evicted.commit.revision,
                later.commit.revision
            );
            findings.violated(later.commit.at_ns, text);
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
    let prefix = format!("{BUDGETS}{}/", old.namespace());
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
fn selects(budget: &Budget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| selector::matches(selector, pod.labels()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use record::{Answer, UserWrite};

    const MS: Ns = 1_000_000;

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

    /// Evicted at 10 s and written at 20 and 30 s, by writes that the controller began at these milliseconds.
    fn written_after(begun_ms: &[u64]) -> Tale {
        let mut tale = tale();
        tale.at(10);
        evict(&mut tale, 0);
        tale.at(20);
        budget(&mut tale, 1, &[]);
        tale.at(30);
        budget(&mut tale, 0, &[]);
        for began_ms in begun_ms {
            let (at_ns, key) = (began_ms * MS, "default/b".to_owned());
            tale.saw(Sight::Effect { at_ns, member: 0, controller: CONTROLLER.to_owned(), key });
        }
        tale
    }

    #[test]
    fn what_is_written_after_an_eviction_was_begun_after_it() {
        written_after(&[11_000, 21_000]).passes(check, Guarantee::C25, 4);
        // Some came to nothing.
        written_after(&[5_000, 11_000, 12_000, 13_000, 29_000]).passes(check, Guarantee::C25, 4);
        // Nobody was seen to begin: nobody knows.
        written_after(&[]).passes(check, Guarantee::C25, 3);
    }

    #[test]
    fn a_status_that_was_begun_before_an_eviction_and_stored_over_it_is_flagged() {
        for (begun_ms, revision) in [(&[9_000, 21_000][..], 7), (&[9_000], 7), (&[9_000, 11_000], 8)] {
            let text = format!("from revision 6, an eviction, to revision {revision}, once by who began before it");
            written_after(begun_ms).flags(check, &text);
        }
    }

    #[test]
    fn an_eviction_is_no_earlier_than_it_was_asked_for() {
        let mut tale = written_after(&[9_950, 21_000]);
        tale.passes(check, Guarantee::C25, 4);
        let (what, object) = ("evict".to_owned(), "pods default/p".to_owned());
        let outcome = Answer::Ok { resource_version: 6 };
        let (invoked_ns, completed_ns) = (9_960 * MS, 10_010 * MS);
        tale.record.cluster.writes.push(UserWrite { invoked_ns, completed_ns, what, object, outcome });
        tale.flags(check, "from revision 6, an eviction, to revision 7");
    }

    #[test]
    fn a_ready_pod_that_goes_without_its_budget_is_flagged() {
        let mut tale = tale();
        pod(&mut tale, "q", true, true);
        tale.flags(check, "pods/default/q was evicted at revision 6 while it was ready");
    }
}
