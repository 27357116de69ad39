//! Garbage: what no owner wants any more is deleted, in the order that whoever deleted the owner asked for.
//!
//! ```text
//! any object changes ─▶ which objects may have to go or wait for it ─▶ one key each, "group/Kind/name"
//!   terminating, finalizer orphan             ─▶ take it out of its dependents' owners, then drop the finalizer
//!   terminating, finalizer foregroundDeletion ─▶ wait until no dependent blocks, then drop the finalizer
//!   no owner left alive                       ─▶ delete, at the UID and version seen
//!   some owners left                          ─▶ take the others out of its owners
//! ```
//!
//! Dependents are found by the caches' index of owners' UIDs, so that a change costs what it concerns.
//!
//! **Invariant:** nothing with a living owner is deleted: absence is believed only of a cache that is at least as new
//! as the dependent (`graph::owner`), and the delete holds only for the very version that was judged
//! (`nothing_is_deleted_on_old_knowledge`).

mod graph;

use crate::kinds::with_every_kind;
use api::core::v1::Event;
use api::meta::v1::OwnerReference;
use api::resource::{self, Resource};
use api::{Object, ObjectExt, ObjectMeta};
use client::{Caches, Key, Now, Plan, Propagation, Row, Watch, Write};
use graph::{FOREGROUND, Item, ORPHAN, Owner};
use std::time::Duration;

/// The controller.
pub const ROW: Row = Row { name: "garbage-collector-controller", watches, reconcile };

/// How long to wait for a cache that is behind: bookmarks move the caches of kinds that nobody changes.
const CATCH_UP: Duration = Duration::from_secs(2);

/// How many dependents one plan orphans: a plan is a list in memory, and the next follows at once.
const ORPHANS_PER_PLAN: usize = 100;

macro_rules! watch_every {
    ([$($kind:ty),*]) => { vec![$(watch::<$kind>()),*] };
}

fn watches() -> Vec<Watch> {
    let mut watches: Vec<Watch> = with_every_kind!(watch_every);
    // As upstream: Events have no owners, and there are many.
    watches.retain(|watch| !std::ptr::eq(watch.resource(), Event::resource()));
    watches
}

fn watch<T: Object>() -> Watch {
    Watch::map::<T>(|caches, object| concerned(caches, Item { resource: T::resource(), metadata: object.metadata() }))
}

/// The keys that a change of `item` concerns, given as it was before or is after the change.
fn concerned(caches: &Caches, item: Item<'_>) -> Vec<Key> {
    let mut keys = Vec::new();
    let now = caches.metadata_of(item.resource, item.namespace(), item.name());
    let now = now.map(|metadata| Item { resource: item.resource, metadata }).filter(|now| now.uid() == item.uid());
    if now.is_some_and(|now| needs_care(caches, now)) {
        keys.push(key_of(item));
    }
    let leaving = now.is_none_or(Item::is_terminating);
    if leaving {
        keys.extend(graph::dependents(caches, item).map(key_of));
    }
    // An owner that waits for its dependents, or lets go of them, is interested in what becomes of them.
    for reference in item.owners() {
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        let Some(resource) = resource::find(group, &reference.kind) else { continue };
        let namespace = if resource.namespaced { item.namespace() } else { "" };
        let owner = caches.metadata_of(resource, namespace, &reference.name);
        let owner = owner.map(|metadata| Item { resource, metadata }).filter(|owner| owner.uid() == reference.uid);
        keys.extend(owner.filter(|owner| owner.is_terminating()).map(key_of));
    }
    keys
}

/// Whether there can be something to do about it: whether its owners are all well need not be asked again.
fn needs_care(caches: &Caches, item: Item<'_>) -> bool {
    if item.is_terminating() {
        return item.has_finalizer(FOREGROUND) || item.has_finalizer(ORPHAN);
    }
    item.owners().iter().any(|reference| graph::owner(caches, item, reference) != Owner::Solid)
}

fn key_of(item: Item<'_>) -> Key {
    Key::new(item.namespace(), &format!("{}/{}/{}", item.resource.group, item.resource.kind, item.name()))
}

/// The kind and the name that a key stands for.
fn parse(key: &Key) -> Option<(&'static Resource, &str)> {
    let mut parts = key.name.splitn(3, '/');
    let (group, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some((resource::find(group, kind)?, name))
}

fn reconcile(caches: &Caches, key: &Key, _now: Now) -> Plan {
    let Some((resource, name)) = parse(key) else { return Plan::nothing() };
    let Some(metadata) = caches.metadata_of(resource, &key.namespace, name) else { return Plan::nothing() };
    plan(caches, Item { resource, metadata })
}

/// What is done about one object.
fn plan(caches: &Caches, item: Item<'_>) -> Plan {
    if item.is_terminating() {
        if item.has_finalizer(ORPHAN) {
            return orphan(caches, item);
        }
        if item.has_finalizer(FOREGROUND) {
            return wait_for_dependents(caches, item);
        }
        return Plan::nothing();
    }
    judge(caches, item)
}

/// Lets the dependents of an object go on without it.
fn orphan(caches: &Caches, item: Item<'_>) -> Plan {
    let mut plan = Plan::nothing();
    for dependent in graph::dependents(caches, item).take(ORPHANS_PER_PLAN) {
        let rest = dependent.owners().iter().filter(|reference| reference.uid != item.uid());
        plan.writes.push(set_owners(dependent, rest.cloned().collect()));
    }
    if !plan.is_empty() {
        mark::sometimes!("dependents were orphaned");
        return plan;
    }
    // A dependent that is overlooked now would be deleted afterwards, against what was asked for.
    release(caches, item, ORPHAN)
}

/// Lets an object go once no dependent blocks it.
fn wait_for_dependents(caches: &Caches, item: Item<'_>) -> Plan {
    let blocking = graph::dependents(caches, item).filter(|dependent| graph::blocks(*dependent, item)).count();
    if blocking > 0 {
        // Each of them is its own key, and this one's change is theirs too.
        let mut plan = Plan::nothing();
        plan.wait(format!("{blocking} dependents block"));
        return plan;
    }
    release(caches, item, FOREGROUND)
}

/// Drops a finalizer if the view of all dependents is as new as the object.
fn release(caches: &Caches, item: Item<'_>, finalizer: &str) -> Plan {
    if !graph::knows_dependents(caches, item) {
        mark::sometimes!("a finalizer waits for caches to catch up");
        let mut plan = Plan::nothing();
        plan.wait("dependents are not known well enough");
        plan.requeue(CATCH_UP);
        return plan;
    }
    let rest = item.metadata.finalizers.iter().flatten().filter(|held| *held != finalizer).cloned().collect();
    let patch = ObjectMeta { finalizers: Some(rest), ..precondition(item) };
    Plan::write(Write::patch_metadata(item.resource, item.metadata, &patch))
}

/// Decides by its owners whether an object stays.
fn judge(caches: &Caches, item: Item<'_>) -> Plan {
    let mut plan = Plan::nothing();
    let owners: Vec<(&OwnerReference, Owner)> =
        item.owners().iter().map(|reference| (reference, graph::owner(caches, item, reference))).collect();
    let any = |wanted: &[Owner]| owners.iter().any(|(_, owner)| wanted.contains(owner));
    if any(&[Owner::Misplaced]) {
        // A mistake of whoever wrote it: nothing is deleted because of it. Upstream does delete if the owner lives in
        // another namespace.
        mark::sometimes!("an owner is in the wrong namespace");
        for (owner, _) in owners.iter().filter(|(_, owner)| *owner == Owner::Misplaced) {
            plan.notes.push(client::Note {
                regarding: reference(item),
                warning: true,
                reason: "OwnerRefInvalidNamespace",
                message: format!("ownerRef {} does not exist in namespace {:?}", describe(owner), item.namespace()),
            });
        }
        return plan;
    }
    if any(&[Owner::Unsure]) {
        mark::sometimes!("an owner is not known well enough to be absent");
        plan.wait("an owner is not known well enough");
        plan.requeue(CATCH_UP);
        return plan;
    }
    if any(&[Owner::Solid, Owner::Foreign]) {
        if any(&[Owner::Absent, Owner::Waiting]) {
            mark::sometimes!("an object keeps some of its owners");
            let stay = |(_, owner): &&(&OwnerReference, Owner)| matches!(owner, Owner::Solid | Owner::Foreign);
            let rest = owners.iter().filter(stay).map(|(reference, _)| (*reference).clone()).collect();
            plan.writes.push(set_owners(item, rest));
        }
        return plan;
    }
    if owners.is_empty() {
        return plan;
    }
    let has_dependents = graph::dependents(caches, item).next().is_some();
    if any(&[Owner::Waiting]) && has_dependents {
        if graph::dependents(caches, item).any(Item::waits_for_dependents) {
            // A circle of objects that wait for each other would never end: this one blocks nobody any more.
            mark::sometimes!("a circle of owners was cut");
            let unblocked = |reference: &OwnerReference| OwnerReference {
                block_owner_deletion: reference.block_owner_deletion.map(|_| false),
                ..reference.clone()
            };
            let owners: Vec<OwnerReference> = item.owners().iter().map(unblocked).collect();
            if owners != item.owners() {
                plan.writes.push(set_owners(item, owners));
                return plan;
            }
        }
        plan.writes.push(delete(item, Propagation::Foreground));
        return plan;
    }
    // A wish that was written on it before its turn came is kept.
    let policy = if item.has_finalizer(ORPHAN) {
        Propagation::Orphan
    } else if item.has_finalizer(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    plan.writes.push(delete(item, policy));
    plan
}

/// Deletes the object if it is still what was judged: an owner that was added since changed its version.
fn delete(item: Item<'_>, policy: Propagation) -> Write {
    Write::delete_metadata(item.resource, item.metadata).with_version(item.version()).with_propagation(policy)
}

fn set_owners(item: Item<'_>, owners: Vec<OwnerReference>) -> Write {
    let patch = ObjectMeta { owner_references: Some(owners), ..precondition(item) };
    Write::patch_metadata(item.resource, item.metadata, &patch)
}

fn precondition(item: Item<'_>) -> ObjectMeta {
    ObjectMeta {
        uid: item.metadata.uid.clone(),
        resource_version: item.metadata.resource_version.clone(),
        ..ObjectMeta::default()
    }
}

fn describe(owner: &OwnerReference) -> String {
    format!("[{}/{}, name: {}, uid: {}]", owner.api_version, owner.kind, owner.name, owner.uid)
}

fn reference(item: Item<'_>) -> api::core::v1::ObjectReference {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    api::core::v1::ObjectReference {
        api_version: Some(item.resource.api_version()),
        kind: Some(item.resource.kind.to_owned()),
        name: some(item.name()),
        namespace: some(item.namespace()),
        resource_version: some(item.version()),
        uid: some(item.uid()),
        field_path: None,
    }
}

#[cfg(test)]
mod tests;
