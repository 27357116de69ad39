//! C34: a taint evicts when its toleration, counted from timeAdded, ends; only if it still holds, and only that UID.

use super::facts::{
    NO_EXECUTE, NODES, PodLife, SECOND_NS, Timeline, Version, condition, is_active, pod_lives, pod_node, skew_ns,
    taints, tolerates, tolerations,
};
use super::{Pod, World};
use crate::findings::Findings;
use api::core::v1::Taint;
use faults::Ns;
use record::{CONVERGE_NS, Guarantee, Verdict};

/// `timeAdded` is stored in whole seconds, so that a toleration may end up to one second early; and whoever evicts
/// looks at a clock of its own, in whole seconds too.
const ROUNDING_NS: Ns = 2 * SECOND_NS;

/// How far behind the store whoever evicts may be while nothing is wrong.
const BEHIND_NS: Ns = 5 * SECOND_NS;

/// A strike that ended this long before may still keep a view behind.
const AFTERMATH_NS: Ns = 60 * SECOND_NS;

/// Two things:
/// - A pod that is condemned because of a taint is so after the end of its toleration of some NoExecute taint that its
///   node has had, counted from when that was stored; never because of taints that it tolerates for ever. That taint
///   still holds, or did a moment before, or when the faults began that are near.
/// - After Q, a pod is going within T after the end of its toleration of a taint that stands that long.
///
/// As many seconds are allowed for as the members' wall clocks may be apart, and as the taint took to be stored. The
/// condition is on the pod that is condemned, so that each UID is judged by itself.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C34);
    let timeline = Timeline::new(world);
    for life in pod_lives(&timeline) {
        too_early(world, &life, &timeline, &mut findings);
        too_late(world, &life, &timeline, &mut findings);
    }
    findings.verdict()
}

/// A NoExecute taint of a node, and when it was there.
struct Standing<'a> {
    taint: &'a Taint,
    from_ns: Ns,
    until_ns: Ns,
}

/// All NoExecute taints that a node of this name ever had, each from when it was added until it was taken away.
fn standing<'a>(timeline: &Timeline<'a>, node: &str, ended_ns: Ns) -> Vec<Standing<'a>> {
    let mut all: Vec<Standing<'a>> = Vec::new();
    for commit in timeline.history(&format!("{NODES}{node}")) {
        let now: &[Taint] = commit.nodes().1.map(taints).unwrap_or_default();
        let evicting = || now.iter().filter(|taint| taint.effect == NO_EXECUTE);
        for standing in all.iter_mut().filter(|standing| standing.until_ns == Ns::MAX) {
            if !evicting().any(|taint| taint == standing.taint) {
                standing.until_ns = commit.at_ns;
            }
        }
        let new: Vec<&'a Taint> =
            evicting().filter(|taint| !all.iter().any(|it| it.until_ns == Ns::MAX && it.taint == *taint)).collect();
        all.extend(new.into_iter().map(|taint| Standing { taint, from_ns: commit.since_ns, until_ns: Ns::MAX }));
    }
    all.iter_mut().for_each(|standing| standing.until_ns = standing.until_ns.min(ended_ns));
    all
}

/// For how long a pod tolerates a taint; `None` for ever. The first toleration of it counts.
fn tolerated_ns(pod: &Pod, taint: &Taint) -> Option<Ns> {
    match tolerations(pod).iter().find(|toleration| tolerates(toleration, taint)) {
        None => Some(0),
        Some(toleration) => {
            toleration.toleration_seconds.map(|seconds| u64::try_from(seconds).unwrap_or(0).saturating_mul(SECOND_NS))
        }
    }
}

fn is_condemned(pod: &Pod) -> bool {
    let target = condition(pod, "DisruptionTarget").filter(|target| target.status == "True");
    target.is_some_and(|target| target.reason.as_deref() == Some("DeletionByTaintManager"))
}

/// From when the taint was meant to be added until the pod was meant to be condemned, as they say themselves.
fn meant_ns(pod: &Pod, taint: &Taint) -> Ns {
    let condemned = condition(pod, "DisruptionTarget").and_then(|target| target.last_transition_time.as_ref());
    let (Some(condemned), Some(added)) = (condemned, &taint.time_added) else { return 0 };
    u64::try_from(condemned.0.duration_since(added.0).as_nanos()).unwrap_or(0)
}

fn too_early(world: &World<'_>, life: &PodLife<'_>, timeline: &Timeline<'_>, findings: &mut Findings) {
    let Some(Version { at_ns, revision, pod }) = life.first(is_condemned) else { return };
    let node = pod_node(pod);
    let slack_ns = ROUNDING_NS.saturating_add(skew_ns(world.record, at_ns));
    // A view may be as old as the first of the faults that are near.
    let near = world.strikes_between(at_ns.saturating_sub(AFTERMATH_NS), at_ns);
    let behind_ns = BEHIND_NS + near.map(|strike| at_ns.saturating_sub(strike.from_ns)).max().unwrap_or(0);
    let all = standing(timeline, node, world.record.ended_ns);
    let over = |standing: &&Standing<'_>| {
        let Some(tolerated_ns) = tolerated_ns(pod, standing.taint) else { return false };
        // The taint may have taken a while to be stored, and says when it was meant.
        let stood_ns = at_ns.saturating_sub(standing.from_ns).max(meant_ns(pod, standing.taint));
        standing.from_ns <= at_ns && tolerated_ns <= stood_ns.saturating_add(slack_ns)
    };
    findings.tested(1);
    let said = || format!("{} ({}) was condemned by a taint of {node} at revision {revision}", life.key, life.uid);
    let mut ran_out = all.iter().filter(over).peekable();
    if ran_out.peek().is_none() {
        let text = match all.iter().rev().find(|standing| standing.from_ns <= at_ns) {
            None => format!("{}, which has none", said()),
            Some(standing) => {
                let tolerated = match tolerated_ns(pod, standing.taint) {
                    None => "for ever".to_owned(),
                    Some(ns) => format!("for {} s", ns / SECOND_NS),
                };
                let stood_s = (at_ns - standing.from_ns) / SECOND_NS;
                format!("{}, whose {} it tolerates {tolerated}, after {stood_s} s", said(), standing.taint.key)
            }
        };
        findings.violated(at_ns, text);
    } else if !ran_out.any(|standing| standing.until_ns.saturating_add(behind_ns) >= at_ns) {
        findings.violated(at_ns, format!("{}, which did not hold any more", said()));
    }
}

fn too_late(world: &World<'_>, life: &PodLife<'_>, timeline: &Timeline<'_>, findings: &mut Findings) {
    let Some(bound) = life.first(|pod| !pod_node(pod).is_empty()) else { return };
    let going_ns = life.first(|pod| !is_active(pod)).map_or(life.until_ns(world), |version| version.at_ns);
    let ended_ns = world.record.ended_ns;
    let skew_ns = skew_ns(world.record, ended_ns);
    let mut worst: Option<(Ns, &str)> = None;
    let mut tested = false;
    let all = standing(timeline, pod_node(bound.pod), ended_ns);
    for standing in &all {
        let Some(tolerated_ns) = tolerated_ns(bound.pod, standing.taint) else { continue };
        let ends_ns = standing.from_ns.max(bound.at_ns).saturating_add(tolerated_ns).saturating_add(skew_ns);
        let deadline_ns = ends_ns.max(world.quiet_ns).saturating_add(CONVERGE_NS + ROUNDING_NS);
        // Whether the taint stands until the pod is going, or until it should be.
        let stands = standing.until_ns >= going_ns.min(deadline_ns);
        if !stands
            || going_ns < ends_ns.max(world.quiet_ns)
            || going_ns.min(ended_ns) == ended_ns && ended_ns < deadline_ns
        {
            continue;
        }
        tested = true;
        if going_ns > deadline_ns && worst.is_none_or(|(at_ns, _)| deadline_ns < at_ns) {
            worst = Some((deadline_ns, &standing.taint.key));
        }
    }
    findings.tested(u64::from(tested));
    if let Some((deadline_ns, taint)) = worst {
        let text = format!(
            "{} ({}) was not going at {} s, revision {}, though its toleration of {taint} on {} had ended",
            life.key,
            life.uid,
            deadline_ns / SECOND_NS,
            life.last().revision,
            pod_node(bound.pod)
        );
        findings.violated(deadline_ns, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use faults::Kind;

    const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

    fn node(tale: &mut Tale, taint: &str) {
        let taint = match taint {
            "" => String::new(),
            key => format!(r#"{{"key":"{key}","effect":"NoExecute","timeAdded":"2023-11-14T22:13:30Z"}}"#),
        };
        tale.put("core/nodes/n1", &format!(r#"{{"metadata":{{"name":"n1"}},"spec":{{"taints":[{taint}]}}}}"#));
    }

    /// A pod on n1 that tolerates an unreachable node for so long; condemned by its taint, or not.
    fn pod(tale: &mut Tale, seconds: &str, condemned: bool) {
        let condition = if condemned {
            r#"{"type":"DisruptionTarget","status":"True","reason":"DeletionByTaintManager"}"#
        } else {
            ""
        };
        let json = format!(
            r#"{{"metadata":{{"name":"a","uid":"ua"}},"spec":{{"nodeName":"n1","containers":[],"tolerations":[{{"key":"{UNREACHABLE}","operator":"Exists","effect":"NoExecute"{seconds}}}]}},"status":{{"phase":"Running","conditions":[{condition}]}}}}"#
        );
        tale.put("core/pods/default/a", &json);
    }

    const S30: &str = r#","tolerationSeconds":30"#;

    /// Nothing is wrong any more from 100 s on.
    fn tale(seconds: &str, taint: &str, condemned_s: u64) -> Tale {
        let mut tale = Tale::new();
        node(&mut tale, "");
        pod(&mut tale, seconds, false);
        tale.at(10);
        node(&mut tale, taint);
        tale.at(condemned_s);
        pod(&mut tale, seconds, true);
        tale
    }

    #[test]
    fn a_pod_that_goes_when_its_toleration_ends_passes() {
        tale(S30, UNREACHABLE, 40).delete("core/pods/default/a").passes(check, Guarantee::C34, 1);
        // What it does not tolerate evicts at once.
        tale(S30, "other", 10).delete("core/pods/default/a").passes(check, Guarantee::C34, 1);
        // A taint that stands into the quiet time evicts in it.
        tale(S30, UNREACHABLE, 155).delete("core/pods/default/a").passes(check, Guarantee::C34, 2);
    }

    #[test]
    fn a_pod_that_goes_too_early_is_flagged() {
        tale(S30, UNREACHABLE, 35).flags(
            check,
            "pods/default/a (ua) was condemned by a taint of n1 at revision 5, whose node.kubernetes.io/unreachable it tolerates for 30 s, after 25 s",
        );
    }

    #[test]
    fn a_pod_that_goes_from_what_it_tolerates_for_ever_is_flagged() {
        tale("", UNREACHABLE, 500).flags(check, "it tolerates for ever");
    }

    #[test]
    fn a_pod_that_goes_from_an_untainted_node_is_flagged() {
        tale(S30, "", 40).flags(check, "which has none");
    }

    #[test]
    fn a_pod_that_goes_after_its_taint_is_flagged_unless_a_fault_is_near() {
        let gone = || {
            let mut tale = Tale::new();
            pod(&mut tale, S30, false);
            node(&mut tale, UNREACHABLE);
            tale.at(50);
            node(&mut tale, "");
            tale.at(60);
            pod(&mut tale, S30, true);
            tale
        };
        gone().flags(check, "which did not hold any more");
        let mut struck = gone();
        struck.strike(Kind::PartitionOne, 20, 55).members = vec![0];
        struck.delete("core/pods/default/a").passes(check, Guarantee::C34, 1);
    }

    #[test]
    fn clocks_that_are_apart_are_allowed_for() {
        let mut early = tale(S30, UNREACHABLE, 35);
        early.strike(Kind::ClockFreeze, 20, 26).members = vec![0];
        early.delete("core/pods/default/a").passes(check, Guarantee::C34, 1);
    }

    #[test]
    fn a_taint_that_took_long_to_be_stored_counts_from_when_it_was_meant() {
        let condemned_at = |second: u32| {
            let mut tale = tale(S30, UNREACHABLE, 33);
            let json = format!(
                r#"{{"metadata":{{"name":"b","uid":"ub"}},"spec":{{"nodeName":"n1","containers":[],"tolerations":[{{"operator":"Exists","tolerationSeconds":30}}]}},"status":{{"conditions":[{{"type":"DisruptionTarget","status":"True","reason":"DeletionByTaintManager","lastTransitionTime":"2023-11-14T22:13:{second}Z"}}]}}}}"#
            );
            tale.put("core/pods/default/b", &json).delete("core/pods/default/b");
            tale
        };
        let flagged = |tale: &Tale| tale.verdict(check).violations.iter().any(|it| it.text.contains("default/b"));
        assert!(flagged(&condemned_at(55)));
        assert!(!flagged(&condemned_at(59)));
    }

    #[test]
    fn a_pod_that_stays_is_flagged() {
        let mut tale = Tale::new();
        pod(&mut tale, S30, false);
        node(&mut tale, UNREACHABLE);
        tale.flags(check, "pods/default/a (ua) was not going at 162 s, revision 2, though its toleration of node.kubernetes.io/unreachable on n1 had ended");
    }

    #[test]
    fn a_pod_whose_time_is_not_over_is_not_judged() {
        let mut tale = Tale::new();
        pod(&mut tale, r#","tolerationSeconds":590"#, false);
        node(&mut tale, UNREACHABLE);
        tale.passes(check, Guarantee::C34, 0);
    }
}
