//! ReplicaSet and ReplicationController: as many pods of a template as are wanted. Upstream's `replica_set` controller,
//! which runs both kinds as well.
//!
//! ```text
//! pods ──claim──▶ own active pods ──▶ too few: create ─┐
//!                                └──▶ too many: rank, delete the first ─┴──▶ Plan (status first)
//! ```
//!
//! **Invariant:** a plan creates no more than what lacks as of the version of the set and of the pods that it read, and
//! the next one sees its pods; so there are never more than wanted, across crashes too
//! (`converges_without_ever_overshooting`).
//!
//! The status goes first. It is an update of exactly the version that was read, so a set that has been scaled since
//! stops the plan before anything is created; and a set whose pods are all refused still says how many it has.

mod kind;
mod rank;
mod status;
#[cfg(test)]
mod tests;

pub use kind::{Counts, Replicated};
pub use rank::OnNode;
pub use status::Failure;

use crate::name::Names;
use crate::{owner, pod};
use api::apps::v1::ReplicaSet;
use api::core::v1::{Pod, ReplicationController};
use api::{ObjectExt, Status, Timestamp};
use client::write::Verb;
use client::{Caches, Controller, Key, Now, Plan, Watch, Write};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// Most creates or deletes of one plan, upstream's `burstReplicas`: a mistake in a number shall not flood the cluster
/// before somebody can correct it.
const BURST: usize = 500;

/// The controller of ReplicaSets.
pub fn replicasets() -> impl Controller {
    Sets::<ReplicaSet> { name: "replicaset-controller", failures: BTreeMap::new(), on_node, kind: PhantomData }
}

/// The controller of ReplicationControllers.
pub fn replication_controllers() -> impl Controller {
    let on_node = |_: &Caches, _: &ReplicationController| OnNode::new();
    Sets::<ReplicationController> {
        name: "replication-controller",
        failures: BTreeMap::new(),
        on_node,
        kind: PhantomData,
    }
}

struct Sets<S> {
    name: &'static str,
    /// What was refused since the key was last looked at: for the condition and the Event. Losing it delays them until
    /// the next refusal. Bounded by the number of sets, since each is taken out when its key comes up.
    failures: BTreeMap<Key, Failure>,
    on_node: fn(&Caches, &S) -> OnNode,
    kind: PhantomData<fn() -> S>,
}

impl<S: Replicated> Controller for Sets<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn watches(&self) -> Vec<Watch> {
        let of_pod =
            |caches: &Caches, pod: &Pod| owner::keys::<Pod, S>(caches, pod, |set, pod| set.selects(pod.labels()));
        vec![Watch::own::<S>(), Watch::map::<Pod>(of_pod)]
    }

    fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan {
        let failure = self.failures.remove(key);
        let Some(set) = caches.get::<S>(&key.namespace, &key.name) else { return Plan::nothing() };
        reconcile(caches, &**set, &|| (self.on_node)(caches, set), failure, now.wall)
    }

    fn refused(&mut self, key: &Key, write: &Write, status: &Status) {
        let causes = status.details.causes.as_deref().unwrap_or_default();
        let namespace_ends = causes.iter().any(|cause| cause.reason.as_deref() == Some("NamespaceTerminating"));
        if write.resource != Pod::resource() || namespace_ends {
            return;
        }
        let failure = match write.verb {
            Verb::Create { .. } => Failure { reason: "FailedCreate", message: format!("Error creating: {status}") },
            Verb::Delete { .. } => Failure { reason: "FailedDelete", message: format!("Error deleting: {status}") },
            Verb::Update { .. } | Verb::Patch { .. } | Verb::CreateSubresource { .. } => return,
        };
        mark::sometimes!("a pod of a set was refused");
        self.failures.insert(key.clone(), failure);
    }
}

fn reconcile<S: Replicated>(
    caches: &Caches,
    set: &S,
    on_node: &dyn Fn() -> OnNode,
    failure: Option<Failure>,
    now: Timestamp,
) -> Plan {
    let claims = owner::claim(caches, set, pod::is_active, |pod: &Pod| set.selects(pod.labels()));
    let terminating = caches.controlled::<Pod>(set.uid()).filter(|pod| {
        pod.namespace() == set.namespace()
            && pod.is_terminating()
            && !pod::is_terminal(pod)
            && set.selects(pod.labels())
    });
    let view = View {
        active: claims.own,
        terminating: terminating.count(),
        on_node,
        failure,
        revision: caches.revision(Pod::resource()),
        taken: &|name| caches.get::<Pod>(set.namespace(), name).is_some(),
    };
    let rest = plan(set, &view, now);
    let writes = claims.writes.into_iter().chain(rest.writes).collect();
    Plan { writes, ..rest }
}

/// What is known besides the set.
pub struct View<'a> {
    /// Its active pods.
    pub active: Vec<Arc<Pod>>,
    /// How many of its pods are being deleted.
    pub terminating: usize,
    /// Active pods per node, those of the set's relatives included. Asked only to choose between pods.
    pub on_node: &'a dyn Fn() -> OnNode,
    /// What was refused last time.
    pub failure: Option<Failure>,
    /// Up to which revision pods are known.
    pub revision: i64,
    /// Whether a pod of this name is known.
    pub taken: &'a dyn Fn(&str) -> bool,
}

/// What is to be done about a set now.
pub fn plan<S: Replicated>(set: &S, view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    if let Some(failure) = &view.failure {
        plan.warn(set, failure.reason, failure.message.clone());
    }
    let counts = status::counts(set, &view.active, view.terminating, view.failure.as_ref(), now);
    if counts != set.counts() {
        plan.writes.push(Write::update_status(&set.with_counts(counts)));
    }
    let waits = view.active.iter().filter_map(|pod| pod::available_in(pod, set.min_ready_seconds(), now));
    if let Some(wait) = waits.filter(|wait| !wait.is_zero()).min() {
        plan.requeue(wait);
    }
    // One that is being deleted keeps what it has: its pods are the garbage collector's.
    if !set.is_terminating() {
        scale(set, view, now, &mut plan);
    }
    plan
}

fn scale<S: Replicated>(set: &S, view: &View<'_>, now: Timestamp, plan: &mut Plan) {
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    let have = view.active.len();
    if have < wanted {
        create(set, view, (wanted - have).min(BURST), plan);
    }
    if have > wanted {
        for pod in rank::first(&view.active, &(view.on_node)(), now, (have - wanted).min(BURST)) {
            plan.writes.push(Write::delete(&*pod));
            plan.note(set, "SuccessfulDelete", format!("Deleted pod: {}", pod.name()));
        }
    }
}

fn create<S: Replicated>(set: &S, view: &View<'_>, count: usize, plan: &mut Plan) {
    let Some(template) = set.template() else {
        plan.warn(set, "FailedCreate", "Error creating: unable to create pods, no template");
        plan.wait("it has no template for pods");
        return;
    };
    let mut names = Names::new(set.name(), set.uid(), view.revision);
    for _ in 0..count {
        let mut pod = pod::from_template(template, set.namespace());
        names.assign(&mut pod.metadata, view.taken);
        pod.metadata.owner_references = Some(vec![set.controller_ref()]);
        plan.note(set, "SuccessfulCreate", format!("Created pod: {}", pod.name()));
        plan.writes.push(Write::create(&pod));
    }
}

/// Active pods per node of all ReplicaSets of the same Deployment, so that scaling down one of them first takes pods
/// from nodes that have more of them. A set without controller has no relatives, not even itself, as upstream has it.
fn on_node(caches: &Caches, set: &ReplicaSet) -> OnNode {
    let mut on_node = OnNode::new();
    let Some(controller) = set.controller() else { return on_node };
    for relative in caches.controlled::<ReplicaSet>(&controller.uid) {
        for pod in caches.controlled::<Pod>(relative.uid()).filter(|pod| pod::is_active(pod)) {
            *on_node.entry(pod::node(pod).to_owned()).or_default() += 1;
        }
    }
    on_node
}
