//! The end of namespaces: whatever is in one goes before it.
//!
//! ```text
//! Namespace terminating ─▶ delete its pods ─▶ all gone: delete the rest ─▶ nothing left: finalize
//!                             └──────────────────┴─ conditions say what remains
//! ```
//!
//! Pods go first, as upstream: what they may need on their way out (Secrets, Services, policies) is still there.
//!
//! **Invariant:** a namespace is finalized only if every kind is known to be empty at its own version or later
//! (`it_is_finalized_only_on_new_knowledge`); nothing can be created in it since its deletion was asked for.

mod conditions;

use crate::kinds::with_every_kind;
use api::core::v1::{Namespace, Pod};
use api::resource::{RESOURCES, Resource};
use api::{Object, ObjectExt, ObjectMeta, Timestamp};
use client::{Caches, Key, Now, Plan, Row, Watch, Write};
use conditions::Remaining;
use std::time::Duration;

/// The controller.
pub const ROW: Row = Row { name: "namespace-controller", watches, reconcile };

/// The finalizer in a namespace's spec that is this controller's.
const FINALIZER: &str = "kubernetes";
/// How long to wait for caches that are behind: bookmarks move those of kinds that nobody changes.
const CATCH_UP: Duration = Duration::from_secs(2);
/// How many objects one plan deletes: a plan is a list in memory, and the next follows at once.
const DELETES_PER_PLAN: usize = 100;
/// How long to wait for finalizers of others, as upstream's estimate for them.
const FINALIZERS: Duration = Duration::from_secs(15);

macro_rules! watch_every {
    ([$($kind:ty),*]) => { vec![$(watch::<$kind>()),*] };
}

fn watches() -> Vec<Watch> {
    let mut watches: Vec<Watch> = with_every_kind!(watch_every);
    watches.retain(|watch| watch.resource().namespaced);
    watches.push(Watch::own::<Namespace>());
    watches
}

/// What is in a namespace concerns it once that goes.
fn watch<T: Object>() -> Watch {
    Watch::map::<T>(|caches, object| {
        let namespace = caches.get::<Namespace>("", object.namespace());
        namespace
            .filter(|namespace| namespace.is_terminating())
            .map(|namespace| Key::of(&**namespace))
            .into_iter()
            .collect()
    })
}

fn reconcile(caches: &Caches, key: &Key, now: Now) -> Plan {
    let namespace = caches.get::<Namespace>("", &key.name);
    namespace.map_or_else(Plan::nothing, |namespace| plan(caches, namespace, now.wall))
}

/// What is done about a namespace.
pub fn plan(caches: &Caches, namespace: &Namespace, now: Timestamp) -> Plan {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default();
    if !namespace.is_terminating() || !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Plan::nothing();
    }
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Terminating") {
        let mut terminating = namespace.clone();
        terminating.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        return Plan::write(Write::update_status(&terminating));
    }
    let mut plan = Plan::nothing();
    let mut remaining = Remaining::default();
    let pods = Pod::resource();
    let has_pods = empty(caches, pods, namespace.name(), &mut plan, &mut remaining);
    if has_pods {
        plan.requeue(grace_left(caches, namespace.name(), now));
    } else {
        for resource in contents().filter(|resource| !std::ptr::eq(*resource, pods)) {
            empty(caches, resource, namespace.name(), &mut plan, &mut remaining);
        }
    }
    if !remaining.is_empty() {
        plan.wait(remaining.text());
        plan.requeue(FINALIZERS);
    }
    if !plan.is_empty() {
        return plan;
    }
    if !remaining.is_empty() {
        plan.writes.extend(conditions::update(namespace, &remaining, now).as_ref().map(Write::update_status));
        return plan;
    }
    finish(caches, namespace)
}

/// The kinds whose objects live in namespaces, in order.
fn contents() -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(|resource| resource.namespaced)
}

/// Deletes what there is of a kind, and notes what remains although its deletion was asked for. Says whether there was
/// anything.
fn empty(
    caches: &Caches,
    resource: &'static Resource,
    namespace: &str,
    plan: &mut Plan,
    remaining: &mut Remaining,
) -> bool {
    let mut any = false;
    for metadata in caches.metadata_in(resource, namespace) {
        any = true;
        if metadata.deletion_timestamp.is_some() {
            remaining.note(resource, metadata);
        } else if plan.writes.len() < DELETES_PER_PLAN {
            plan.writes.push(Write::delete_metadata(resource, metadata));
        }
    }
    any
}

/// How long the pods may still take by their grace periods; a little more, so that they are gone then.
fn grace_left(caches: &Caches, namespace: &str, now: Timestamp) -> Duration {
    let left = |metadata: &ObjectMeta| {
        // The time of deletion includes the grace period.
        let end = metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
        Duration::try_from(end.duration_since(now)).unwrap_or_default()
    };
    let longest = caches.metadata_in(Pod::resource(), namespace).map(left).max().unwrap_or_default();
    longest.min(FINALIZERS) + CATCH_UP
}

/// Lets the namespace go if it is known to be empty.
fn finish(caches: &Caches, namespace: &Namespace) -> Plan {
    let version = namespace.resource_version().parse().unwrap_or(i64::MAX);
    if let Some(behind) = contents().find(|resource| caches.revision(resource) < version) {
        mark::sometimes!("an empty namespace waits for caches to catch up");
        let mut plan = Plan::nothing();
        plan.wait(format!("{} are not known well enough", behind.plural));
        plan.requeue(CATCH_UP);
        return plan;
    }
    let mut finalized = namespace.clone();
    let finalizers = finalized.spec.get_or_insert_default().finalizers.get_or_insert_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    Plan::write(Write::finalize(&finalized))
}

#[cfg(test)]
mod tests;
