//! C20: a rolling update keeps enough pods available, and its ReplicaSets never ask for too many.

use super::facts::{SECOND_NS, controller_uid, is_active, is_ready};
use super::workloads::{Bounds, controller_of, is_going, set_size, uid_of};
use super::{Commit, Deployment, Object, ReplicaSet, World};
use crate::findings::Findings;
use faults::Ns;
use record::{Guarantee, Verdict};
use std::collections::{BTreeMap, VecDeque};

/// How far back a status may have counted a pod as ready that is not any more: the cache of a leader that still believes
/// to lead, and whose writes still arrive, is not older. What was lost since is an involuntary loss.
const COUNTED_NS: Ns = 30 * SECOND_NS;

/// Every step of a rolling update, that is every change of the size of a Deployment's ReplicaSet, is judged by what its
/// controller may have known:
/// - of the Deployment, any spec since the one that its status tells of. The status is the last write of a plan, and the
///   next plan waits for it to be in the cache: who has told of a generation has read it.
/// - of the ReplicaSet, the very version that it replaces: the update names it.
/// - of the other ReplicaSets, their sizes, which nobody else changes and whose changes the controller waits for, and
///   one of their statuses since that version of the first: they come by one watch, in order.
///
/// **Up.** The sum of the sizes is at most replicas + maxSurge by one of those specs. While the sum is above it since a
/// spec changed, it may only fall.
///
/// **Down.** What is available is, of each set, what its status says, but no more than its size, and no more than pods
/// were really ready when that was counted. After the step it is at least replicas − maxUnavailable, or as much as
/// before: then the step takes away only what was not available. That promise is of rollouts alone. Where specs of
/// different sizes could have been read, or one that is paused, the step may be one of scaling, which shares a new size
/// among all sets whatever is available (as documented: proportional scaling), and is not judged.
///
/// Pods that are lost afterwards are nobody's step.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C20);
    let mut apps: BTreeMap<&str, App> = BTreeMap::new();
    let mut sets: BTreeMap<&str, Set<'_>> = BTreeMap::new();
    for commit in &world.commits {
        if let Some(gone) = commit.old.as_deref().filter(|_| commit.removes()) {
            apps.remove(gone.uid());
            if let Some(set) = sets.get_mut(gone.uid()) {
                set.exists = false;
            }
        }
        match commit.new.as_deref() {
            Some(Object::Deployment(deployment)) => {
                apps.entry(uid_of(&deployment.metadata)).or_default().changes(deployment);
            }
            Some(Object::ReplicaSet(set)) => step(commit, set, &apps, &mut sets, &mut findings),
            _ => pods_change(commit, &mut sets),
        }
    }
    findings.verdict()
}

/// What the controller may have known of a Deployment.
#[derive(Default)]
struct App {
    /// By generation, oldest first.
    specs: Vec<(i64, Bounds)>,
}

impl App {
    fn changes(&mut self, deployment: &Deployment) {
        let (Some(spec), false) = (&deployment.spec, is_going(&deployment.metadata)) else {
            // The controller steps no more, and whatever it had begun is nobody's promise.
            self.specs.clear();
            return;
        };
        let (generation, bounds) = (deployment.metadata.generation.unwrap_or(0), Bounds::of(spec));
        if self.specs.last() != Some(&(generation, bounds)) {
            self.specs.push((generation, bounds));
        }
        let told = deployment.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
        self.specs.retain(|(of, _)| *of >= told.min(generation));
    }

    /// The specs that may have been read, if each of them asks for a rolling update.
    fn rolling(&self) -> Option<&[(i64, Bounds)]> {
        (!self.specs.is_empty() && self.specs.iter().all(|(_, bounds)| bounds.rolling)).then_some(&self.specs)
    }

    /// What must be available, if a step can be nothing but one of a rollout.
    fn least(&self) -> Option<i64> {
        let specs = self.rolling()?;
        let one_size = specs.iter().all(|(_, bounds)| bounds.replicas == specs[0].1.replicas && !bounds.paused);
        specs.iter().filter(|_| one_size).map(|(_, bounds)| bounds.least()).min()
    }
}

/// A ReplicaSet of a Deployment.
#[derive(Default)]
struct Set<'a> {
    deployment: &'a str,
    key: &'a str,
    exists: bool,
    size: i64,
    /// What was available, from which revision on.
    available: Vec<(i64, i64)>,
    /// What the status said last.
    said: i64,
    /// How many of its pods were ready, from which time on; only what is recent.
    ready: VecDeque<(Ns, i64)>,
}

impl Set<'_> {
    /// The most pods that were really ready within [`COUNTED_NS`] before.
    fn recently_ready(&mut self, at_ns: Ns) -> i64 {
        let from_ns = at_ns.saturating_sub(COUNTED_NS);
        while self.ready.len() > 1 && self.ready[1].0 <= from_ns {
            self.ready.pop_front();
        }
        self.ready.iter().map(|(_, count)| *count).max().unwrap_or(0)
    }

    /// The most that a status since `revision` said to be available.
    fn available_since(&self, revision: i64) -> i64 {
        let first = self.available.partition_point(|(at, _)| *at <= revision).saturating_sub(1);
        self.available[first..].iter().map(|(_, count)| *count).max().unwrap_or(0)
    }

    fn told(&mut self, commit: &Commit, status: i64) {
        let real = self.recently_ready(commit.at_ns);
        let before = self.available.last().map_or(0, |(_, count)| *count);
        // A status that says the same as before may have been counted then.
        let count = if status == self.said { status.min(real.max(before)) } else { status.min(real) };
        self.said = status;
        self.available.push((commit.revision, count));
    }
}

/// A commit of a ReplicaSet: judged if it changes its size.
fn step<'a>(
    commit: &'a Commit,
    set: &'a ReplicaSet,
    apps: &BTreeMap<&'a str, App>,
    sets: &mut BTreeMap<&'a str, Set<'a>>,
    findings: &mut Findings,
) {
    let uid = uid_of(&set.metadata);
    let Some(deployment) = controller_of(&set.metadata) else { return };
    let state = sets.entry(uid).or_default();
    let (before, after) = (state.size, set_size(set));
    let read = state.available.last().copied();
    (state.deployment, state.key, state.exists, state.size) = (deployment, &commit.key, true, after);
    if let Some(app) = apps.get(deployment).filter(|_| before != after) {
        let (key, revision) = (&commit.key, commit.revision);
        if let Some(specs) = app.rolling() {
            findings.tested(1);
            let sum: i64 = of(sets, deployment).map(|set| set.size).sum();
            let most = specs.iter().map(|(_, bounds)| bounds.most()).max().unwrap_or(0);
            if after > before && sum > most {
                let text = format!(
                    "{key} went from {before} to {after} at revision {revision}: its Deployment's sets ask for {sum} pods, \
                     at most {most} are allowed"
                );
                findings.violated(commit.at_ns, text);
            }
        }
        if let (Some(least), Some((version, available)), true) = (app.least(), read, after < before) {
            let others = of(sets, deployment).filter(|other| other.key != &**key);
            let others: i64 = others.map(|other| other.size.min(other.available_since(version))).sum();
            let (had, left) = (others + available.min(before), others + available.min(after));
            if left < least && left < had {
                let text = format!(
                    "{key} went from {before} to {after} at revision {revision}: of {had} available pods {left} are left, \
                     at least {least} must be"
                );
                findings.violated(commit.at_ns, text);
            }
        }
    }
    let status = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    sets.entry(uid).or_default().told(commit, status.into());
}

fn of<'b, 'a>(sets: &'b BTreeMap<&'a str, Set<'a>>, deployment: &'b str) -> impl Iterator<Item = &'b Set<'a>> {
    sets.values().filter(move |set| set.exists && set.deployment == deployment)
}

fn pods_change<'a>(commit: &'a Commit, sets: &mut BTreeMap<&'a str, Set<'a>>) {
    let (old, new) = commit.pods();
    for (pod, times) in [(old, -1), (new, 1)] {
        let counts = pod.filter(|pod| is_active(pod) && is_ready(pod));
        let Some(set) = counts.and_then(controller_uid).and_then(|set| sets.get_mut(set)) else { continue };
        let ready = set.ready.back().map_or(0, |(_, count)| *count);
        set.ready.push_back((commit.at_ns, ready + times));
    }
    // A pod that only changes was counted out and in again.
    for pod in [old, new].into_iter().flatten() {
        let Some(set) = controller_uid(pod).and_then(|set| sets.get_mut(set)) else { continue };
        set.recently_ready(commit.at_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    /// A Deployment of four pods that may have one more, and of which none may be unavailable.
    fn deployment(tale: &mut Tale, replicas: u32, generation: u32, observed: u32, more: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"d","uid":"uid-d","generation":{generation}}},"spec":{{"replicas":{replicas},"strategy":{{"type":"RollingUpdate","rollingUpdate":{{"maxSurge":1,"maxUnavailable":0}}}},"selector":{{}},"template":{{}}{more}}},"status":{{"observedGeneration":{observed}}}}}"#
        );
        tale.put("apps/deployments/default/d", &json);
    }

    fn set(tale: &mut Tale, name: &str, replicas: u32, available: u32) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","uid":"uid-{name}","ownerReferences":[{{"apiVersion":"apps/v1","kind":"Deployment","name":"d","uid":"uid-d","controller":true}}]}},"spec":{{"replicas":{replicas},"selector":{{}}}},"status":{{"replicas":{available},"availableReplicas":{available}}}}}"#
        );
        tale.put(&format!("apps/replicasets/default/{name}"), &json);
    }

    fn pod(tale: &mut Tale, name: &str, set: &str, ready: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","uid":"uid-{name}","ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"{set}","uid":"uid-{set}","controller":true}}]}},"status":{{"conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
        );
        tale.put(&format!("core/pods/default/{name}"), &json);
    }

    /// Four old pods, all available, and a new set of one.
    fn tale() -> Tale {
        let mut tale = Tale::new();
        deployment(&mut tale, 4, 1, 0, "");
        set(&mut tale, "old", 4, 0);
        for name in ["a", "b", "c", "e"] {
            pod(&mut tale, name, "old", "True");
        }
        set(&mut tale, "old", 4, 4);
        deployment(&mut tale, 4, 1, 1, "");
        set(&mut tale, "new", 1, 0);
        tale
    }

    fn arrives(tale: &mut Tale) {
        pod(tale, "n", "new", "True");
        set(tale, "new", 1, 1);
    }

    #[test]
    fn step_by_step_passes() {
        let mut tale = tale();
        arrives(&mut tale);
        set(&mut tale, "old", 3, 4);
        set(&mut tale, "new", 2, 1);
        tale.passes(check, Guarantee::C20, 4);
    }

    #[test]
    fn a_set_that_grows_too_far_is_flagged() {
        let mut tale = tale();
        set(&mut tale, "new", 2, 0);
        tale.flags(
            check,
            "replicasets/default/new went from 1 to 2 at revision 11: its Deployment's sets ask for 6 pods",
        );
    }

    #[test]
    fn a_spec_that_may_have_been_read_still_counts() {
        // Two more are wanted, two fewer again; a step for the former is on its way.
        let mut tale = tale();
        deployment(&mut tale, 6, 2, 1, "");
        deployment(&mut tale, 4, 3, 1, "");
        set(&mut tale, "new", 3, 0);
        tale.passes(check, Guarantee::C20, 3);
        deployment(&mut tale, 4, 3, 3, "");
        set(&mut tale, "new", 2, 0);
        set(&mut tale, "new", 3, 0);
        tale.flags(
            check,
            "went from 2 to 3 at revision 16: its Deployment's sets ask for 7 pods, at most 5 are allowed",
        );
    }

    #[test]
    fn a_set_that_shrinks_too_early_is_flagged() {
        let mut tale = tale();
        set(&mut tale, "old", 3, 4);
        let text = "old went from 4 to 3 at revision 11: of 4 available pods 3 are left, at least 4 must be";
        tale.flags(check, text);
    }

    #[test]
    fn a_status_that_counts_what_was_never_ready_is_not_believed() {
        let mut tale = tale();
        pod(&mut tale, "n", "new", "False");
        set(&mut tale, "new", 1, 1);
        set(&mut tale, "old", 3, 4);
        tale.flags(check, "of 4 available pods 3 are left, at least 4 must be");
    }

    #[test]
    fn what_was_lost_meanwhile_is_nobodys_step() {
        let mut tale = tale();
        arrives(&mut tale);
        // The controller has not seen this yet.
        pod(&mut tale, "n", "new", "False");
        set(&mut tale, "new", 1, 0);
        set(&mut tale, "old", 3, 4);
        tale.passes(check, Guarantee::C20, 3);
    }

    #[test]
    fn what_is_not_available_may_go() {
        let mut tale = tale();
        pod(&mut tale, "a", "old", "False");
        set(&mut tale, "old", 4, 3);
        set(&mut tale, "old", 3, 3);
        tale.passes(check, Guarantee::C20, 3);
    }

    #[test]
    fn scaling_and_recreation_are_not_rollouts() {
        let mut scaled = tale();
        deployment(&mut scaled, 3, 2, 1, "");
        set(&mut scaled, "old", 2, 4);
        scaled.passes(check, Guarantee::C20, 3);
        let mut paused = tale();
        deployment(&mut paused, 4, 2, 1, r#","paused":true"#);
        set(&mut paused, "old", 2, 4);
        paused.passes(check, Guarantee::C20, 3);
    }
}
