//! Deployment: pods of a template, replaced without an outage when the template changes. Upstream's `deployment`
//! controller.
//!
//! ```text
//! ReplicaSets ──claim──▶ own ──divide──▶ new (has the template), old ones
//!    paused or resized:  share the size among the active ones          (scale)
//!    otherwise:          a step from the old ones towards the new one  (rollout)
//!                        ──▶ Plan: ReplicaSets, then status, then revision, then what the history has no room for
//! ```
//!
//! The controller never touches a pod. It decides on the sizes of ReplicaSets, each by an update of exactly the version
//! that was read, and waits for what their status says. A rollback is a template that was there before: its set
//! becomes the new one and gets the next revision.
//!
//! Two updates go through one key at a time, so a plan is one step of upstream's: what upstream writes into the status
//! in between is collected, and written once at the end.

mod rollout;
mod scale;
mod sets;
mod spec;
mod status;
#[cfg(test)]
mod tests;

pub use spec::{Strategy, Wanted};

use crate::{owner, pod};
use api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use api::core::v1::Pod;
use api::meta::v1::LabelSelector;
use api::{ObjectExt, Status, Timestamp, selector};
use client::write::Verb;
use client::{Caches, Controller, Key, Now, Plan, Watch, Write};
use serde::Serialize;
use sets::Set;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The controller of Deployments.
pub fn deployments() -> impl Controller {
    Deployments { refusals: BTreeMap::new() }
}

struct Deployments {
    /// Why the new set was refused since the key was last looked at: for the condition and the Event. Losing it delays
    /// them until the next refusal. Bounded by the number of Deployments, since each is taken out when its key comes up.
    refusals: BTreeMap<Key, String>,
}

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        vec![Watch::own::<Deployment>(), Watch::map::<ReplicaSet>(of_set), Watch::map::<Pod>(of_pod)]
    }

    fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan {
        let refusal = self.refusals.remove(key);
        let Some(deployment) = caches.get::<Deployment>(&key.namespace, &key.name) else { return Plan::nothing() };
        reconcile(caches, deployment, refusal, now.wall)
    }

    fn refused(&mut self, key: &Key, write: &Write, status: &Status) {
        let causes = status.details.causes.as_deref().unwrap_or_default();
        let namespace_ends = causes.iter().any(|cause| cause.reason.as_deref() == Some("NamespaceTerminating"));
        if write.resource == ReplicaSet::resource() && matches!(write.verb, Verb::Create { .. }) && !namespace_ends {
            mark::sometimes!("a deployment's new set was refused");
            self.refusals.insert(key.clone(), format!("Failed to create new replica set {:?}: {status}", write.name));
        }
    }
}

fn of_set(caches: &Caches, set: &ReplicaSet) -> Vec<Key> {
    owner::keys::<ReplicaSet, Deployment>(caches, set, |deployment, set| {
        selector_of(deployment).is_some_and(|selector| selector::matches(selector, set.labels()))
    })
}

/// A pod concerns its Deployment only if that waits for the last old one to be gone; all else the sets' status tells.
fn of_pod(caches: &Caches, pod: &Pod) -> Vec<Key> {
    let set = owner::of::<ReplicaSet, Pod>(caches, pod);
    let deployment = set.and_then(|set| owner::of::<Deployment, ReplicaSet>(caches, set));
    let recreates = |deployment: &&Arc<Deployment>| {
        let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    };
    deployment.filter(recreates).map(|deployment| Key::of(&**deployment)).into_iter().collect()
}

fn selector_of(deployment: &Deployment) -> Option<&LabelSelector> {
    // One that selects everything is a mistake, and selects nothing here.
    deployment.spec.as_ref().map(|spec| &spec.selector).filter(|selector| !selects_all(selector))
}

fn selects_all(selector: &LabelSelector) -> bool {
    selector.match_labels.iter().flatten().next().is_none()
        && selector.match_expressions.iter().flatten().next().is_none()
}

fn reconcile(caches: &Caches, deployment: &Deployment, refusal: Option<String>, now: Timestamp) -> Plan {
    let selects = |labels: &BTreeMap<String, String>| {
        selector_of(deployment).is_some_and(|selector| selector::matches(selector, labels))
    };
    if selector_of(deployment).is_none() {
        return selecting_all(deployment);
    }
    let claims = owner::claim(caches, deployment, |_: &ReplicaSet| true, |set: &ReplicaSet| selects(set.labels()));
    if !claims.writes.is_empty() {
        // What is decided about sets needs their versions as they are after this.
        return Plan { writes: claims.writes, ..Plan::default() };
    }
    let old_pods_run = |new: Option<&str>| {
        let old = claims.own.iter().filter(|set| Some(set.uid()) != new);
        let mut pods = old.flat_map(|set| caches.controlled::<Pod>(set.uid()));
        pods.any(|pod| !pod::is_terminal(pod) && selects(pod.labels()))
    };
    let named = |name: &str| caches.get::<ReplicaSet>(deployment.namespace(), name).cloned();
    plan(deployment, &View { sets: &claims.own, named: &named, old_pods_run: &old_pods_run, refusal }, now)
}

/// A Deployment that selects all pods is looked at, and otherwise left alone.
fn selecting_all(deployment: &Deployment) -> Plan {
    let mut plan = Plan::nothing();
    let text = "This deployment is selecting all pods. A non-empty selector is required.";
    plan.warn(deployment, "SelectingAll", text);
    let mut status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation.unwrap_or(0) < deployment.generation() {
        status.observed_generation = Some(deployment.generation());
        plan.writes.push(Write::update_status(&Deployment { status: Some(status), ..deployment.clone() }));
    }
    plan
}

/// What is known besides the Deployment.
pub struct View<'a> {
    /// Its sets.
    pub sets: &'a [Arc<ReplicaSet>],
    /// Any set in its namespace, by name.
    pub named: &'a dyn Fn(&str) -> Option<Arc<ReplicaSet>>,
    /// Whether pods run of any of its sets but the one of this UID.
    pub old_pods_run: &'a dyn Fn(Option<&str>) -> bool,
    /// Why the new set was refused last time.
    pub refusal: Option<String>,
}

/// What is to be done about a Deployment now.
pub fn plan(deployment: &Deployment, view: &View<'_>, now: Timestamp) -> Plan {
    let mut rollout = Rollout::new(deployment, view, now);
    if deployment.is_terminating() {
        rollout.report();
        return rollout.finish();
    }
    let refreshed =
        rollout.new.as_ref().and_then(|new| sets::refreshed(new, deployment, &rollout.wanted, &rollout.old));
    if let Some(refreshed) = refreshed {
        return Plan::write(Write::update(&refreshed));
    }
    if let Some(refusal) = &view.refusal {
        rollout.note_refused(refusal);
        if rollout.status_write().is_some() {
            return rollout.finish();
        }
    }
    rollout.note_found();
    rollout.note_pause();
    if rollout.wanted.paused {
        rollout.scale();
        rollout.clean_up();
        rollout.report();
    } else if rollout.is_scaling() {
        rollout.scale();
        rollout.report();
    } else {
        match rollout.wanted.strategy {
            Strategy::Recreate => rollout.recreate(),
            Strategy::RollingUpdate { .. } => rollout.roll(),
        }
    }
    rollout.finish()
}

/// A decision in the making.
struct Rollout<'a> {
    deployment: &'a Deployment,
    view: &'a View<'a>,
    wanted: Wanted,
    now: Timestamp,
    /// The status as it was read.
    stored: DeploymentStatus,
    /// The status as it shall be.
    status: DeploymentStatus,
    /// The set of the template.
    new: Option<Set>,
    /// Whether it is yet to be created.
    creates: bool,
    /// All others, oldest first.
    old: Vec<Set>,
    cleanup: Vec<Write>,
    plan: Plan,
}

impl<'a> Rollout<'a> {
    fn new(deployment: &'a Deployment, view: &'a View<'a>, now: Timestamp) -> Self {
        let wanted = Wanted::of(deployment);
        let (new, old) = sets::divide(view.sets, &wanted.template);
        let stored = deployment.status.clone().unwrap_or_default();
        let status = stored.clone();
        let (creates, cleanup, plan) = (false, Vec::new(), Plan::nothing());
        Self { deployment, view, wanted, now, stored, status, new, creates, old, cleanup, plan }
    }

    fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    fn active_mut(&mut self) -> impl Iterator<Item = &mut Set> {
        self.old.iter_mut().chain(&mut self.new).filter(|set| set.is_active())
    }

    /// Makes the set of the template unless it is there. If its name is taken by a set of another template, or of
    /// somebody else, the next plan tries another: then there is nothing more to do now.
    fn ensure_new(&mut self) -> bool {
        if self.new.is_some() {
            return true;
        }
        let hash = sets::hash(&self.wanted.template, self.status.collision_count);
        if (self.view.named)(&sets::set_name(self.deployment, &hash)).is_some() {
            mark::sometimes!("a template's hash collided");
            self.status.collision_count = Some(self.status.collision_count.unwrap_or(0).saturating_add(1));
            return false;
        }
        let mut set = sets::make(self.deployment, &self.wanted, &hash, &self.old);
        let total = self.old.iter().map(|old| old.replicas).sum();
        set.spec.get_or_insert_default().replicas = Some(self.new_size(0, total));
        self.note_created(set.name());
        self.new = Some(Set::new(Arc::new(set)));
        self.creates = true;
        true
    }

    fn finish(mut self) -> Plan {
        let mut writes = Vec::new();
        for (index, set) in self.new.iter().chain(&self.old).enumerate() {
            let creates = self.creates && index == 0;
            let changed = if creates { Some(ReplicaSet::clone(&set.set)) } else { set.changed(&self.wanted) };
            let Some(changed) = changed else { continue };
            writes.push(if creates { Write::create(&changed) } else { Write::update(&changed) });
            let before = if creates { 0 } else { crate::replicaset::Replicated::replicas(&*set.set) };
            if before != set.replicas {
                let direction = if set.replicas > before { "up" } else { "down" };
                let (name, after) = (set.set.name(), set.replicas);
                let text = format!("Scaled {direction} replica set {name} from {before} to {after}");
                self.plan.note(self.deployment, "ScalingReplicaSet", text);
            }
        }
        writes.extend(self.status_write());
        writes.extend(self.revision_write());
        writes.append(&mut self.cleanup);
        self.plan.writes = writes;
        self.plan
    }

    /// The Deployment has the revision of its new set. A patch without a version, since the status goes before it; none
    /// but this controller writes the annotation.
    fn revision_write(&self) -> Option<Write> {
        let revision = self.new.as_ref()?.set.annotations().get(sets::REVISION)?;
        if self.deployment.is_terminating() || self.deployment.annotations().get(sets::REVISION) == Some(revision) {
            return None;
        }
        let annotations = BTreeMap::from([(sets::REVISION, revision.as_str())]);
        let metadata = RevisionMetadata { uid: self.deployment.uid(), annotations };
        Some(Write::patch(self.deployment, &RevisionPatch { metadata }))
    }
}

#[derive(Serialize)]
struct RevisionPatch<'a> {
    metadata: RevisionMetadata<'a>,
}

#[derive(Serialize)]
struct RevisionMetadata<'a> {
    uid: &'a str,
    annotations: BTreeMap<&'static str, &'a str>,
}
