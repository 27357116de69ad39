//! C36: a deleted pod without finalizers is gone within G + T after its node is back or removed.

use super::facts::{NODES, PodLife, SECOND_NS, Timeline, deletion_grace_ns, is_terminating, pod_lives, pod_node};
use super::{Pod, World};
use crate::findings::Findings;
use faults::Ns;
use record::{CONVERGE_NS, Guarantee, Sight, Verdict};

/// What the collector of pods takes to find that a pod's node is gone: it looks every 20 s, and believes what it sees
/// after another 40 s.
const COLLECTION_NS: Ns = 60 * SECOND_NS;

/// After Q, a pod whose deletion was asked for and that no finalizer holds is gone within its grace and T: by its
/// node's agent, which must be up; or, if there is no such node, by the collector of pods, which has a minute more.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C36);
    let timeline = Timeline::new(world);
    for life in pod_lives(&timeline) {
        let Some(since_ns) = free_since(&life) else { continue };
        let last = life.last().pod;
        let from_ns = since_ns.max(world.quiet_ns);
        let until_ns = life.until_ns(world);
        if until_ns <= from_ns {
            continue;
        }
        let node = pod_node(last);
        let has_node = timeline.at_time(&format!("{NODES}{node}"), from_ns).is_some();
        let grace_ns = deletion_grace_ns(last).unwrap_or(0) + if has_node { 0 } else { COLLECTION_NS };
        let deadline_ns = from_ns + grace_ns + CONVERGE_NS;
        if until_ns < deadline_ns && life.gone.is_none() || has_node && is_down(world, last, until_ns) {
            continue;
        }
        findings.tested(1);
        findings.took((until_ns - from_ns).saturating_sub(grace_ns));
        if until_ns > deadline_ns {
            let text = format!(
                "{} ({}) on node {node:?} is still there at revision {}, {} s after its deletion could go on, with a grace of {} s",
                life.key,
                life.uid,
                life.last().revision,
                (until_ns - from_ns) / SECOND_NS,
                deletion_grace_ns(last).unwrap_or(0) / SECOND_NS
            );
            findings.violated(deadline_ns, text);
        }
    }
    findings.verdict()
}

/// Since when nothing but its containers holds a pod that is being deleted, to its end.
fn free_since(life: &PodLife<'_>) -> Option<Ns> {
    let held = |pod: &Pod| pod.metadata.finalizers.as_ref().is_some_and(|them| !them.is_empty());
    let free = life.versions.iter().rev().take_while(|version| is_terminating(version.pod) && !held(version.pod));
    free.last().map(|version| version.at_ns)
}

/// Whether the agent of a pod's node is down at a time.
fn is_down(world: &World<'_>, pod: &Pod, at_ns: Ns) -> bool {
    let Some(number) = world.node_of(pod) else { return false };
    let last = world.record.cluster.sights.iter().rev().find_map(|sight| {
        let Sight::Agent { at_ns: then_ns, node, up } = sight else { return None };
        (*node == number && *then_ns <= at_ns).then_some(*up)
    });
    last == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    /// A pod on a node; with a deletion if that is under way, and a finalizer.
    fn put(tale: &mut Tale, node: &str, deletion: bool, finalizer: bool) {
        let deletion = if deletion {
            r#","deletionTimestamp":"2023-11-14T22:13:25Z","deletionGracePeriodSeconds":10"#
        } else {
            ""
        };
        let finalizer = if finalizer { r#","finalizers":["a/b"]"# } else { "" };
        let json = format!(
            r#"{{"metadata":{{"name":"a","uid":"ua"{deletion}{finalizer}}},"spec":{{"nodeName":"{node}","containers":[]}}}}"#
        );
        tale.put("core/pods/default/a", &json);
    }

    /// Q is at 100 s.
    fn tale(deleted_s: u64, finalizer: bool) -> Tale {
        let mut tale = Tale::new();
        tale.put("core/nodes/n1", "{}").agent(0, true);
        put(&mut tale, "n1", false, finalizer);
        tale.at(deleted_s);
        put(&mut tale, "n1", true, finalizer);
        tale
    }

    #[test]
    fn a_pod_that_goes_in_time_passes() {
        tale(50, false).at(169).delete("core/pods/default/a").passes(check, Guarantee::C36, 1);
        tale(150, false).at(219).delete("core/pods/default/a").passes(check, Guarantee::C36, 1);
    }

    #[test]
    fn what_goes_before_the_quiet_is_held_or_is_on_a_dead_node_is_not_judged() {
        tale(50, false).at(99).delete("core/pods/default/a").passes(check, Guarantee::C36, 0);
        tale(50, true).passes(check, Guarantee::C36, 0);
        tale(50, false).at(99).agent(0, false).passes(check, Guarantee::C36, 0);
        // It is not over yet.
        tale(590, false).passes(check, Guarantee::C36, 0);
    }

    #[test]
    fn a_pod_that_stays_or_goes_late_is_flagged() {
        tale(50, false).flags(check, "/registry/core/pods/default/a (ua) on node \"n1\" is still there at revision 4");
        tale(150, false).at(221).delete("core/pods/default/a").flags(check, "71 s after its deletion could go on");
    }

    #[test]
    fn a_finalizer_that_goes_lets_the_time_begin() {
        let mut tale = tale(50, true);
        tale.at(300);
        put(&mut tale, "n1", true, false);
        tale.at(369).delete("core/pods/default/a").passes(check, Guarantee::C36, 1);
    }

    #[test]
    fn a_pod_without_its_node_has_a_minute_more() {
        let mut gone = tale(50, false);
        gone.at(60).delete("core/nodes/n1").at(229).delete("core/pods/default/a");
        gone.passes(check, Guarantee::C36, 1);
        let mut late = tale(50, false);
        late.at(60).delete("core/nodes/n1").at(231).delete("core/pods/default/a");
        late.flags(check, "131 s after");
    }
}
