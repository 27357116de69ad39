//! The status of PodDisruptionBudgets: how many of the selected pods may be evicted now. Upstream's `disruption`
//! controller.
//!
//! ```text
//! pods ──▶ healthy ─┐
//! their controllers' sizes ──▶ expected ──▶ desired ─┴──▶ disruptionsAllowed ◀── decremented by the API server's evictions
//! ```
//!
//! **Invariant:** no status overwrites an eviction's decrement. It is an update of exactly the version that was read,
//! and after a conflict everything is computed anew from what is known then; putting the computed status over the newer
//! version is what upstream once did (kubernetes#82149). What was evicted is in `disruptedPods` and does not count as
//! healthy until it is seen to be going, or two minutes have passed
//! (`an_evicted_pod_does_not_count_before_its_deletion_is_seen`).

mod expected;
#[cfg(test)]
mod tests;

use crate::pod;
use api::apps::v1::{Deployment, ReplicaSet};
use api::core::v1::{Pod, PodTemplateSpec, ReplicationController};
use api::meta::v1::Condition;
use api::object::seconds;
use api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use api::{ObjectExt, SignedDuration, Time, Timestamp, selector};
use client::{Caches, Key, Now, Plan, Row, Watch, Write};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long an evicted pod counts as going although its deletion is not seen; upstream's `DeletionTimeout`. Longer than
/// any API server takes from the decrement to the deletion.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

/// Type of the condition that says whether pods may be evicted.
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// When to look again at a budget whose pods are known only up to a revision before its own.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The controller: its keys are budgets.
pub fn row() -> Row {
    Row { name: "disruption-controller", watches, reconcile }
}

fn watches() -> Vec<Watch> {
    vec![
        Watch::own::<PodDisruptionBudget>(),
        Watch::map::<Pod>(|caches, pod| budgets(caches, pod.namespace(), pod.labels())),
        Watch::map::<Deployment>(|caches, deployment| {
            of_template(caches, deployment.namespace(), deployment.spec.as_ref().map(|spec| &spec.template))
        }),
        Watch::map::<ReplicaSet>(|caches, set| {
            of_template(caches, set.namespace(), set.spec.as_ref().and_then(|spec| spec.template.as_ref()))
        }),
        Watch::map::<ReplicationController>(|caches, set| {
            of_template(caches, set.namespace(), set.spec.as_ref().and_then(|spec| spec.template.as_ref()))
        }),
    ]
}

/// Unlike upstream, a change of a controller's size is not left to be noticed with its next pod.
fn of_template(caches: &Caches, namespace: &str, template: Option<&PodTemplateSpec>) -> Vec<Key> {
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    labels.map(|labels| budgets(caches, namespace, labels)).unwrap_or_default()
}

fn budgets(caches: &Caches, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Key> {
    let budgets = caches.list::<PodDisruptionBudget>(namespace);
    budgets.filter(|budget| selects(budget, labels)).map(|budget| Key::of(&**budget)).collect()
}

/// No selector selects nothing; an empty one selects everything.
fn selects(budget: &PodDisruptionBudget, labels: &BTreeMap<String, String>) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| selector::matches(selector, labels))
}

fn reconcile(caches: &Caches, key: &Key, now: Now) -> Plan {
    let Some(budget) = caches.get::<PodDisruptionBudget>(&key.namespace, &key.name) else { return Plan::nothing() };
    let pods: Vec<Arc<Pod>> =
        caches.list::<Pod>(&key.namespace).filter(|pod| selects(budget, pod.labels())).cloned().collect();
    let pods_revision = caches.revision(Pod::resource());
    let knows_all = budget.resource_version().parse().is_ok_and(|revision: i64| pods_revision >= revision);
    let scale = |pod: &Pod| expected::scale_of(caches, pod);
    plan(budget, &View { pods: &pods, knows_all, scale: &scale }, now.wall)
}

/// What is known besides the budget.
pub struct View<'a> {
    /// The selected pods.
    pub pods: &'a [Arc<Pod>],
    /// Whether these are all pods as of the budget's own version.
    pub knows_all: bool,
    /// UID and size of what controls a pod, if that is of a kind that has one.
    pub scale: &'a dyn Fn(&Pod) -> Option<(String, i32)>,
}

/// What is to be done about a budget now.
pub fn plan(budget: &PodDisruptionBudget, view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let old = budget.status.clone().unwrap_or_default();
    let disrupted = disrupted(budget, view, now, &mut plan);
    let status = match expected::desired(budget.spec.as_ref(), view) {
        Ok(desired) => {
            let healthy = view.pods.iter().filter(|pod| is_healthy(pod, &disrupted)).count();
            counted(budget, desired, i32::try_from(healthy).unwrap_or(i32::MAX), disrupted, now)
        }
        Err(error) => {
            mark::sometimes!("a budget cannot be computed");
            failed(budget, &error, now)
        }
    };
    if normal(&status) == normal(&old) {
        return plan;
    }
    if view.pods.is_empty() {
        plan.note(budget, "NoPods", "No matching pods found");
    }
    if let Some(failed) = status.conditions.iter().flatten().find(|condition| condition.reason == "SyncFailed") {
        let text = format!("Failed to calculate the number of expected pods: {}", failed.message);
        plan.warn(budget, "CalculateExpectedPodCountFailed", text);
    }
    plan.writes.push(Write::update_status(&PodDisruptionBudget { status: Some(status), ..budget.clone() }));
    plan
}

/// The evicted pods that are not seen going yet, each with the time of its eviction.
fn disrupted(budget: &PodDisruptionBudget, view: &View<'_>, now: Timestamp, plan: &mut Plan) -> BTreeMap<String, Time> {
    let timeout = SignedDuration::try_from(DELETION_TIMEOUT).unwrap_or(SignedDuration::MAX);
    let mut kept = BTreeMap::new();
    let old = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    for (name, since) in old.into_iter().flatten() {
        let pod = view.pods.iter().find(|pod| pod.name() == name);
        let left = timeout - now.duration_since(since.0);
        match pod {
            Some(pod) if pod.is_terminating() => {}
            Some(pod) if !left.is_positive() => {
                mark::sometimes!("an evicted pod was not deleted");
                let budget = format!("{}/{}", budget.namespace(), budget.name());
                plan.warn(
                    &**pod,
                    "NotDeleted",
                    format!("Pod was expected by PDB {budget} to be deleted but it wasn't"),
                );
            }
            // A clock that ran ahead must not hold a pod down for longer than the timeout from now.
            Some(_) => {
                plan.requeue(Duration::try_from(left).unwrap_or(Duration::ZERO).min(DELETION_TIMEOUT));
                kept.insert(name.clone(), since.clone());
            }
            None if view.knows_all || !left.is_positive() => {}
            // It may just not be known yet; once it is, it must not count as healthy.
            None => {
                mark::sometimes!("a budget knows an evicted pod before the pod is seen");
                plan.requeue(CATCH_UP);
                kept.insert(name.clone(), since.clone());
            }
        }
    }
    kept
}

fn is_healthy(pod: &Pod, disrupted: &BTreeMap<String, Time>) -> bool {
    !pod.is_terminating() && !disrupted.contains_key(pod.name()) && pod::is_ready(pod)
}

fn counted(
    budget: &PodDisruptionBudget,
    expected::Desired { expected, desired }: expected::Desired,
    healthy: i32,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    // A budget without pods allows nothing, so that the first ones are safe before they are counted.
    let allowed = if expected > 0 { healthy.saturating_sub(desired).max(0) } else { 0 };
    let (truth, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let generation = budget.generation();
    PodDisruptionBudgetStatus {
        conditions: Some(with_condition(budget, truth, reason, "", Some(generation), now)),
        current_healthy: healthy,
        desired_healthy: desired,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: allowed,
        expected_pods: expected,
        observed_generation: Some(generation),
    }
}

/// What cannot be computed allows nothing; the rest stays as it was.
fn failed(budget: &PodDisruptionBudget, error: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let conditions = with_condition(budget, "False", "SyncFailed", error, old.observed_generation, now);
    PodDisruptionBudgetStatus { disruptions_allowed: 0, conditions: Some(conditions), ..old }
}

/// The budget's conditions with this one; its time is that of the last change between true and false.
fn with_condition(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let old = budget.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let same = old.iter().find(|condition| condition.type_ == DISRUPTION_ALLOWED && condition.status == status);
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation,
        last_transition_time: same.map_or_else(|| seconds(now), |same| same.last_transition_time.clone()),
    };
    let others = old.into_iter().filter(|condition| condition.type_ != DISRUPTION_ALLOWED);
    others.chain([condition]).collect()
}

/// The status with one way to say nothing.
fn normal(status: &PodDisruptionBudgetStatus) -> PodDisruptionBudgetStatus {
    let mut status = status.clone();
    status.disrupted_pods.take_if(|pods| pods.is_empty());
    for condition in status.conditions.iter_mut().flatten() {
        condition.observed_generation.take_if(|generation| *generation == 0);
    }
    status.observed_generation.take_if(|generation| *generation == 0);
    status
}
