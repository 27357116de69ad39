//! C21: a rollout or rollback completes within T after Q, or reports ProgressDeadlineExceeded for a template that cannot
//! run.

use super::facts::{SECOND_NS, controller_uid, is_active, is_ready, skew_ns};
use super::workloads::{
    BACKOFF_NS, Bounds, Pods, Settling, can_run, deployment_size, deployments_of_sets, images, is_going, uid_of,
};
use super::{Commit, Deployment, Object, Pod, World};
use crate::findings::Findings;
use api::apps::v1::DeploymentSpec;
use faults::Ns;
use record::{Guarantee, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Seconds between two looks of a probe that does not say how many.
const PROBE_PERIOD_S: i64 = 10;

/// Of each Deployment that exists in the end and is not paused: how long after Q, and after the last change of its spec,
/// its rollout was over, and so to the end.
///
/// It is over when its status tells of this spec and of nothing but updated, available pods, and when the active pods of
/// its sets are as many as it wants, all of them ready and with the images of its template. Each round of a rolling
/// update takes as long as pods take to be found ready, by which T is longer; crashed containers and pods that fit no node
/// are excused as by C19. For a template that cannot run it is over as well when the status says so, for which
/// there is time until the progress deadline, by clocks that may be wrong.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C21);
    let deployments = deployments_of_sets(world);
    let mut rollouts = last_specs(world);
    for commit in &world.commits {
        match commit.new.as_deref() {
            Some(Object::Deployment(deployment)) => {
                let Some(rollout) = rollouts.get_mut(uid_of(&deployment.metadata)) else { continue };
                rollout.told = rollout.tells(deployment);
                rollout.settle(commit.at_ns);
            }
            _ => pods_change(world, commit, &deployments, &mut rollouts),
        }
    }
    for rollout in rollouts.values_mut() {
        rollout.excuse(world, world.record.ended_ns);
        let Some(extra_ns) = rollout.extra_ns(world) else { continue };
        let Rollout { key, pods, updated, told, .. } = &*rollout;
        let wanted = deployment_size(rollout.spec);
        let says = || {
            format!(
                "{key}: its rollout to {wanted} pods (now {} active, {updated} updated and ready; status: {told:?}) was over",
                pods.active
            )
        };
        rollout.settling.judge(world, extra_ns, &mut findings, says);
    }
    findings.verdict()
}

/// What a status says of the rollout of the last spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// That it is not over, or nothing.
    Underway,
    Complete,
    /// That it made no progress for too long.
    Exceeded,
}

struct Rollout<'a> {
    key: &'a str,
    spec: &'a DeploymentSpec,
    generation: i64,
    runs: bool,
    told: Told,
    pods: Pods,
    /// Active pods that are ready and made from the last template.
    updated: i64,
    settling: Settling,
}

impl Rollout<'_> {
    fn tells(&self, deployment: &Deployment) -> Told {
        let Some(status) = &deployment.status else { return Told::Underway };
        if deployment.spec.as_deref() != Some(self.spec) || status.observed_generation.unwrap_or(0) < self.generation {
            return Told::Underway;
        }
        let wanted = deployment_size(self.spec);
        let all = |count: Option<i32>| i64::from(count.unwrap_or(0)) == wanted;
        let progressing = status.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
        if all(status.replicas) && all(status.updated_replicas) && all(status.available_replicas) {
            Told::Complete
        } else if progressing.is_some_and(|progressing| {
            progressing.status == "False" && progressing.reason.as_deref() == Some("ProgressDeadlineExceeded")
        }) {
            Told::Exceeded
        } else {
            Told::Underway
        }
    }

    fn settle(&mut self, at_ns: Ns) {
        let wanted = deployment_size(self.spec);
        let over = match self.told {
            Told::Underway => false,
            Told::Complete => self.pods.active == wanted && self.updated == wanted,
            Told::Exceeded => !self.runs,
        };
        self.settling.is(at_ns, over);
    }

    fn excuse(&mut self, world: &World<'_>, at_ns: Ns) {
        if self.pods.unplaced > 0 {
            self.settling.not_before(at_ns);
        }
        if self.pods.backing_off > 0 {
            self.settling.not_before(at_ns.min(world.quiet_ns.saturating_add(BACKOFF_NS)));
        }
    }

    /// What it may take beside T; `None` if nothing is promised.
    fn extra_ns(&self, world: &World<'_>) -> Option<Ns> {
        if !self.runs {
            let deadline_s = self.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
            let strikes = world.record.strikes.iter();
            let skew_ns = strikes.map(|strike| skew_ns(world.record, strike.until_ns)).max().unwrap_or(0);
            return Some((u64::try_from(deadline_s).unwrap_or(0) * SECOND_NS).saturating_add(skew_ns));
        }
        let bounds = Bounds::of(self.spec);
        let at_once = if bounds.rolling { (bounds.surge + bounds.unavailable).max(1) } else { bounds.replicas.max(1) };
        let rounds = u64::try_from((bounds.replicas + at_once - 1) / at_once).unwrap_or(0);
        let probed = self.spec.template.spec.iter().flat_map(|spec| &spec.containers);
        let periods = probed.filter_map(|container| container.readiness_probe.as_ref());
        let period_s = periods.map(|probe| probe.period_seconds.map_or(PROBE_PERIOD_S, i64::from)).max().unwrap_or(0);
        Some(rounds * u64::try_from(period_s).unwrap_or(0) * SECOND_NS)
    }
}

/// The last spec of each Deployment that is left in the end, by UID, and since when it is so.
fn last_specs<'a>(world: &'a World<'_>) -> BTreeMap<&'a str, Rollout<'a>> {
    let mut last: BTreeMap<&str, Rollout<'a>> = BTreeMap::new();
    for commit in &world.commits {
        if let Some(gone) = commit.old.as_deref().filter(|_| commit.removes()) {
            last.remove(gone.uid());
        }
        let Some(Object::Deployment(deployment)) = commit.new.as_deref() else { continue };
        let uid = uid_of(&deployment.metadata);
        let Some(spec) =
            deployment.spec.as_deref().filter(|spec| !is_going(&deployment.metadata) && spec.paused != Some(true))
        else {
            last.remove(uid);
            continue;
        };
        if last.get(uid).is_some_and(|rollout| rollout.spec == spec) {
            continue;
        }
        let mut settling = Settling::default();
        settling.not_before(commit.at_ns);
        let generation = deployment.metadata.generation.unwrap_or(0);
        let (runs, told) = (can_run(Some(&spec.template)), Told::Underway);
        let (key, pods, updated) = (&*commit.key, Pods::default(), 0);
        last.insert(uid, Rollout { key, spec, generation, runs, told, pods, updated, settling });
    }
    last
}

fn pods_change<'a>(
    world: &World<'_>,
    commit: &'a Commit,
    deployments: &BTreeMap<&'a str, &'a str>,
    rollouts: &mut BTreeMap<&'a str, Rollout<'a>>,
) {
    let (old, new) = commit.pods();
    let mut touched: BTreeSet<&str> = BTreeSet::new();
    for (pod, times) in [(old, -1), (new, 1)] {
        let Some((pod, set)) = pod.and_then(|pod| Some((pod, controller_uid(pod)?))) else { continue };
        let Some(uid) = deployments.get(set).copied() else { continue };
        let Some(rollout) = rollouts.get_mut(uid) else { continue };
        if touched.insert(uid) {
            rollout.excuse(world, commit.at_ns);
        }
        rollout.pods.add(Pods::of(pod), times);
        rollout.updated += times * i64::from(is_updated(pod, rollout.spec));
    }
    for uid in touched {
        if let Some(rollout) = rollouts.get_mut(uid) {
            rollout.settle(commit.at_ns);
        }
    }
}

fn is_updated(pod: &Pod, spec: &DeploymentSpec) -> bool {
    is_active(pod) && is_ready(pod) && images(pod.spec.as_deref()) == images(spec.template.spec.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    const COMPLETE: &str = r#""replicas":1,"updatedReplicas":1,"availableReplicas":1"#;
    const EXCEEDED: &str =
        r#""replicas":1,"conditions":[{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded"}]"#;

    /// Its Deployment of one pod, whose probe looks every ten seconds, and which has 40 s to make progress.
    fn deployment(tale: &mut Tale, image: &str, more: &str, observed: u32, status: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"d","uid":"uid-d","generation":2}},"spec":{{"replicas":1,"progressDeadlineSeconds":40,"selector":{{}},"template":{{"spec":{{"containers":[{{"name":"web","image":"{image}","readinessProbe":{{"periodSeconds":10}}}}]}}}}{more}}},"status":{{"observedGeneration":{observed},{status}}}}}"#
        );
        tale.put("apps/deployments/default/d", &json);
    }

    fn pod(tale: &mut Tale, image: &str) {
        let owner = r#"{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"uid-r","controller":true}"#;
        let json = format!(
            r#"{{"metadata":{{"name":"a","uid":"uid-a","ownerReferences":[{owner}]}},"spec":{{"containers":[{{"name":"web","image":"{image}"}}]}},"status":{{"conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
        );
        tale.put("core/pods/default/a", &json);
    }

    /// A Deployment that comes to be at 50 s; Q is at 100 s.
    fn tale(image: &str) -> Tale {
        let mut tale = Tale::new();
        tale.at(50);
        deployment(&mut tale, image, "", 1, COMPLETE);
        let owner = r#"{"apiVersion":"apps/v1","kind":"Deployment","name":"d","uid":"uid-d","controller":true}"#;
        let set = format!(r#"{{"metadata":{{"name":"r","uid":"uid-r","ownerReferences":[{owner}]}}}}"#);
        tale.put("apps/replicasets/default/r", &set);
        tale
    }

    #[test]
    fn a_rollout_that_is_over_in_time_passes() {
        let mut tale = tale("hollow/web:2");
        pod(&mut tale, "hollow/web:2");
        tale.at(170);
        deployment(&mut tale, "hollow/web:2", "", 2, COMPLETE);
        tale.passes(check, Guarantee::C21, 1);
    }

    #[test]
    fn a_rollout_that_is_late_or_whose_pods_are_old_is_flagged() {
        let mut late = tale("hollow/web:2");
        pod(&mut late, "hollow/web:2");
        late.at(171);
        deployment(&mut late, "hollow/web:2", "", 2, COMPLETE);
        late.flags(check, "deployments/default/d: its rollout to 1 pods (now 1 active, 1 updated and ready");
        let mut old = tale("hollow/web:2");
        pod(&mut old, "hollow/web:1");
        deployment(&mut old, "hollow/web:2", "", 2, COMPLETE);
        old.flags(check, "(now 1 active, 0 updated and ready; status: Complete) was over: not even at");
        let mut unheard = tale("hollow/web:2");
        pod(&mut unheard, "hollow/web:2");
        unheard.flags(check, "status: Underway");
        let mut exceeded = tale("hollow/web:2");
        deployment(&mut exceeded, "hollow/web:2", "", 2, EXCEEDED);
        exceeded.flags(check, "status: Exceeded");
    }

    #[test]
    fn a_template_that_cannot_run_must_be_reported() {
        let report = |at: u64| {
            let mut tale = tale("hollow/missing:2");
            tale.at(at);
            deployment(&mut tale, "hollow/missing:2", "", 2, EXCEEDED);
            tale
        };
        report(200).passes(check, Guarantee::C21, 1);
        report(201).flags(check, "only since 201000000000 ns, expected from 140000000000 ns on");
        tale("hollow/missing:2").flags(check, "not even at 600000000000 ns");
    }

    #[test]
    fn what_is_paused_goes_or_is_not_over_is_not_judged() {
        let mut paused = tale("hollow/web:2");
        deployment(&mut paused, "hollow/web:2", r#","paused":true"#, 1, COMPLETE);
        paused.passes(check, Guarantee::C21, 0);
        let mut gone = tale("hollow/web:2");
        gone.delete("apps/deployments/default/d");
        gone.passes(check, Guarantee::C21, 0);
        let mut late = tale("hollow/web:2");
        late.at(540);
        deployment(&mut late, "hollow/web:3", "", 1, COMPLETE);
        late.passes(check, Guarantee::C21, 0);
    }
}
