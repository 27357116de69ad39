//! C19: ready = replicas within T after Q, and stays; creates never exceed the largest desired count since the version
//! that was read.

use super::facts::controller_uid;
use super::workloads::{
    BACKOFF_NS, Bounds, Pods, Settling, can_run, deployments_of_sets, is_going, set_observed, set_of, set_size, uid_of,
};
use super::{Commit, Object, World, twin};
use crate::findings::Findings;
use faults::Ns;
use record::{Guarantee, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Both halves, of which only the second one has a bound in time; and where there is a twin, that it arrived at the same.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C19);
    overshoot(world, &mut findings);
    settle(world, &mut findings);
    twin::compare_deployments(world, &mut findings);
    findings.verdict()
}

/// No overshoot: with each pod that is created for a ReplicaSet, its active pods are no more than `most`.
///
/// `most` is the largest size in a version that the controller may have planned with, less what was lost since:
/// - a version of the set with another size raises it to that size, never lowers it: the plan may be older;
/// - a status that tells of the newest generation lowers it to the size of that version: it was written by the
///   controller, whose next plan waits for it to be in its cache, and before the same plan's creates;
/// - a pod that is lost lowers it by one, down to the size that is wanted: a plan that was made with an older version
///   counted that pod, since its loss would have changed the status, which is written first and on that version alone.
///
/// So a plan in flight while its set is scaled down is within it, and one that forgot its own creates is not.
fn overshoot(world: &World<'_>, findings: &mut Findings) {
    #[derive(Default)]
    struct Set {
        wanted: i64,
        most: i64,
        active: i64,
    }
    let mut sets: BTreeMap<&str, Set> = BTreeMap::new();
    for commit in &world.commits {
        if let Some(Object::ReplicaSet(set)) = commit.new.as_deref() {
            let state = sets.entry(uid_of(&set.metadata)).or_default();
            state.wanted = set_size(set);
            state.most = if set_observed(set) { state.wanted } else { state.most.max(state.wanted) };
        }
        let (old, new) = commit.pods();
        if set_of(old) != set_of(new) || commit.creates() {
            if let Some(state) = set_of(old).and_then(|set| sets.get_mut(set)) {
                state.active -= 1;
                state.most = state.wanted.max(state.most - 1);
            }
            if let Some(state) = set_of(new).and_then(|set| sets.get_mut(set)) {
                state.active += 1;
            }
        }
        let Some(set) = new.filter(|_| commit.creates()).and_then(controller_uid) else { continue };
        let Some(Set { wanted, most, active }) = sets.get(set) else { continue };
        findings.tested(1);
        if active > most {
            let text = format!(
                "{} was created for set {set} at revision {} as one of {active} active pods, at most {most} could be \
                 wanted (now {wanted})",
                commit.key, commit.revision
            );
            findings.violated(commit.at_ns, text);
        }
    }
}

/// A ReplicaSet or a Deployment on its way to the right number of ready pods.
struct Owner<'a> {
    key: &'a str,
    wanted: i64,
    /// Nobody judges what cannot run, is held up, or goes.
    judged: bool,
    pods: Pods,
    /// It never had pods and wants none.
    idle: bool,
    settling: Settling,
}

impl<'a> Owner<'a> {
    fn new(key: &'a str) -> Self {
        let (wanted, pods, settling) = (0, Pods::default(), Settling::default());
        Self { key, wanted, judged: false, pods, idle: true, settling }
    }

    /// Before anything changes: what its pods could not help until now.
    fn excuse(&mut self, world: &World<'_>, at_ns: Ns) {
        if self.pods.unplaced > 0 {
            self.settling.not_before(at_ns);
        }
        if self.pods.backing_off > 0 {
            self.settling.not_before(at_ns.min(world.quiet_ns.saturating_add(BACKOFF_NS)));
        }
    }

    fn wants(&mut self, at_ns: Ns, wanted: i64) {
        if wanted != self.wanted {
            self.wanted = wanted;
            self.settling.not_before(at_ns);
        }
    }

    /// After something changed.
    fn settle(&mut self, at_ns: Ns) {
        let Pods { active, ready, .. } = self.pods;
        self.idle &= active == 0 && self.wanted == 0;
        self.settling.is(at_ns, active == self.wanted && ready == self.wanted);
    }
}

/// Of each ReplicaSet and Deployment that exists in the end: how long after Q and after the last change of its size its
/// active pods were as many as it wants, all ready, and so to the end. Pods are counted as stored, not as any status says.
///
/// A Deployment has this long from each step of its rollout on: how long all steps take is C21's. Not judged are
/// Deployments that are paused, and templates that cannot run. Pods of which a container waits to be started again
/// after a crash are excused until the longest backoff after Q is over, and pods that fit no node for as long as that
/// is so (C18).
fn settle(world: &World<'_>, findings: &mut Findings) {
    let deployments = deployments_of_sets(world);
    let mut owners: BTreeMap<&str, Owner<'_>> = BTreeMap::new();
    for commit in &world.commits {
        if let Some(gone) = commit.old.as_deref().filter(|_| commit.removes()) {
            owners.remove(gone.uid());
        }
        match commit.new.as_deref() {
            Some(Object::ReplicaSet(set)) => {
                let owner = owners.entry(uid_of(&set.metadata)).or_insert_with(|| Owner::new(&commit.key));
                let step = owner.wanted != set_size(set);
                owner.wants(commit.at_ns, set_size(set));
                let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
                owner.judged = can_run(template) && !is_going(&set.metadata);
                owner.settle(commit.at_ns);
                let deployment = deployments.get(uid_of(&set.metadata)).and_then(|uid| owners.get_mut(uid));
                if let Some(deployment) = deployment.filter(|_| step) {
                    deployment.settling.not_before(commit.at_ns);
                }
            }
            Some(Object::Deployment(deployment)) => {
                let Some(spec) = &deployment.spec else { continue };
                let bounds = Bounds::of(spec);
                let owner = owners.entry(uid_of(&deployment.metadata)).or_insert_with(|| Owner::new(&commit.key));
                owner.wants(commit.at_ns, bounds.replicas);
                let judged = can_run(Some(&spec.template)) && !bounds.paused && !is_going(&deployment.metadata);
                if judged && !owner.judged {
                    owner.settling.not_before(commit.at_ns);
                }
                owner.judged = judged;
                owner.settle(commit.at_ns);
            }
            _ => pods_change(world, commit, &deployments, &mut owners),
        }
    }
    let ended_ns = world.record.ended_ns;
    for owner in owners.values_mut().filter(|owner| owner.judged && !owner.idle) {
        owner.excuse(world, ended_ns);
        let (key, wanted, Pods { active, ready, .. }) = (owner.key, owner.wanted, owner.pods);
        let says = || format!("{key} wants {wanted} ready pods and in the end has {active}, {ready} of them ready");
        owner.settling.judge(world, 0, findings, says);
    }
}

/// A pod's commit changes what its set and that one's Deployment have.
fn pods_change<'a>(
    world: &World<'_>,
    commit: &'a Commit,
    deployments: &BTreeMap<&'a str, &'a str>,
    owners: &mut BTreeMap<&'a str, Owner<'a>>,
) {
    let (old, new) = commit.pods();
    let mut touched: BTreeSet<&str> = BTreeSet::new();
    for (pod, times) in [(old, -1), (new, 1)] {
        let Some((pod, set)) = pod.and_then(|pod| Some((pod, controller_uid(pod)?))) else { continue };
        for uid in [Some(set), deployments.get(set).copied()].into_iter().flatten() {
            let Some(owner) = owners.get_mut(uid) else { continue };
            if touched.insert(uid) {
                owner.excuse(world, commit.at_ns);
            }
            owner.pods.add(Pods::of(pod), times);
        }
    }
    for uid in touched {
        if let Some(owner) = owners.get_mut(uid) {
            owner.settle(commit.at_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    const READY: &str = r#""conditions":[{"type":"Ready","status":"True"}]"#;

    fn set(tale: &mut Tale, replicas: u32, generation: u32, observed: u32) {
        let json = format!(
            r#"{{"metadata":{{"name":"r","uid":"uid-r","generation":{generation},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"Deployment","name":"d","uid":"uid-d","controller":true}}]}},"spec":{{"replicas":{replicas},"selector":{{}}}},"status":{{"replicas":0,"observedGeneration":{observed}}}}}"#
        );
        tale.put("apps/replicasets/default/r", &json);
    }

    fn deployment(tale: &mut Tale, replicas: u32, image: &str, paused: bool) {
        let json = format!(
            r#"{{"metadata":{{"name":"d","uid":"uid-d"}},"spec":{{"replicas":{replicas},"paused":{paused},"selector":{{}},"template":{{"spec":{{"containers":[{{"name":"web","image":"{image}"}}]}}}}}}}}"#
        );
        tale.put("apps/deployments/default/d", &json);
    }

    fn pod(tale: &mut Tale, name: &str, status: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","uid":"uid-{name}","ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"uid-r","controller":true}}]}},"status":{{{status}}}}}"#
        );
        tale.put(&format!("core/pods/default/{name}"), &json);
    }

    /// A set of three is scaled to one while its plan is in flight.
    fn scaled_down() -> Tale {
        let mut tale = Tale::new();
        set(&mut tale, 3, 1, 0);
        set(&mut tale, 3, 1, 1);
        pod(&mut tale, "a", READY);
        pod(&mut tale, "b", READY);
        set(&mut tale, 1, 2, 1);
        tale
    }

    #[test]
    fn a_plan_in_flight_may_go_on() {
        let mut tale = scaled_down();
        pod(&mut tale, "c", "");
        tale.delete("core/pods/default/b").delete("core/pods/default/c");
        set(&mut tale, 1, 2, 2);
        tale.passes(check, Guarantee::C19, 4);
    }

    #[test]
    fn one_more_than_was_ever_wanted_is_flagged() {
        let mut tale = scaled_down();
        pod(&mut tale, "c", "");
        pod(&mut tale, "d", "");
        tale.flags(
            check,
            "core/pods/default/d was created for set uid-r at revision 8 as one of 4 active pods, at most 3",
        );
    }

    #[test]
    fn a_create_after_the_controller_knew_better_is_flagged() {
        let mut tale = scaled_down();
        set(&mut tale, 1, 2, 2);
        pod(&mut tale, "c", "");
        tale.flags(check, "as one of 3 active pods, at most 1 could be wanted (now 1)");
    }

    #[test]
    fn what_was_lost_on_the_way_was_counted_by_the_plan() {
        let mut tale = scaled_down();
        tale.delete("core/pods/default/a");
        pod(&mut tale, "c", READY);
        pod(&mut tale, "d", READY);
        tale.flags(
            check,
            "core/pods/default/d was created for set uid-r at revision 9 as one of 3 active pods, at most 2",
        );
    }

    /// A Deployment of one pod, which is ready at `s` seconds; Q is at 100 s.
    fn ready_at(s: u64, status: &str) -> Tale {
        let mut tale = Tale::new();
        deployment(&mut tale, 1, "hollow/web:1", false);
        set(&mut tale, 1, 1, 1);
        pod(&mut tale, "a", status);
        tale.at(s);
        pod(&mut tale, "a", READY);
        tale
    }

    #[test]
    fn pods_that_are_ready_in_time_pass() {
        ready_at(160, "").passes(check, Guarantee::C19, 3);
    }

    #[test]
    fn what_nobody_can_hurry_is_excused() {
        let backing_off = r#""containerStatuses":[{"name":"web","image":"i","imageID":"i","ready":false,"restartCount":1,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]"#;
        ready_at(399, backing_off).passes(check, Guarantee::C19, 3);
        ready_at(461, backing_off).flags(check, "wants 1 ready pods");
        let unplaced = r#""conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable"}]"#;
        ready_at(500, unplaced).passes(check, Guarantee::C19, 3);
    }

    #[test]
    fn pods_that_are_late_too_few_or_not_steady_are_flagged() {
        ready_at(161, "")
            .flags(check, "deployments/default/d wants 1 ready pods and in the end has 1, 1 of them ready");
        let mut steady = ready_at(110, "");
        steady.at(300);
        pod(&mut steady, "a", "");
        steady.at(301);
        pod(&mut steady, "a", READY);
        steady.flags(check, "replicasets/default/r wants 1 ready pods");
        let mut few = ready_at(110, "");
        few.at(200);
        deployment(&mut few, 2, "hollow/web:1", false);
        few.flags(check, "deployments/default/d wants 2 ready pods and in the end has 1, 1 of them ready: not even at");
    }

    #[test]
    fn what_cannot_run_or_is_paused_or_not_over_is_not_judged() {
        for (image, paused) in [("hollow/missing:2", false), ("hollow/web:2", true)] {
            let mut tale = ready_at(110, "");
            tale.at(200);
            deployment(&mut tale, 2, image, paused);
            tale.passes(check, Guarantee::C19, 2);
        }
        let mut tale = ready_at(110, "");
        tale.at(560);
        deployment(&mut tale, 2, "hollow/web:1", false);
        tale.passes(check, Guarantee::C19, 2);
    }
}
