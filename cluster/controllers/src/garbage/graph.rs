//! What is known of an object's owners and dependents, with how far that knowledge reaches.

use api::ObjectMeta;
use api::meta::v1::OwnerReference;
use api::resource::{self, Resource};
use client::Caches;

/// Finalizer: dependents that block go first.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer: dependents stay, without this owner.
pub(super) const ORPHAN: &str = "orphan";

/// An object of whatever kind.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub resource: &'static Resource,
    pub metadata: &'a ObjectMeta,
}

impl<'a> Item<'a> {
    pub(super) fn uid(self) -> &'a str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn namespace(self) -> &'a str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(self) -> &'a str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn version(self) -> &'a str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }

    /// Its version as a revision of the store. One that is none never is: then nothing is known well enough.
    pub(super) fn revision(self) -> i64 {
        self.version().parse().unwrap_or(i64::MAX)
    }

    pub(super) fn owners(self) -> &'a [OwnerReference] {
        self.metadata.owner_references.as_deref().unwrap_or_default()
    }

    pub(super) fn has_finalizer(self, finalizer: &str) -> bool {
        self.metadata.finalizers.iter().flatten().any(|held| held == finalizer)
    }

    pub(super) fn is_terminating(self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it waits for its dependents to be deleted.
    pub(super) fn waits_for_dependents(self) -> bool {
        self.is_terminating() && self.has_finalizer(FOREGROUND)
    }
}

/// What an owner reference comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The owner lives, or is on its way out without regard to its dependents.
    Solid,
    /// There is no such object any more.
    Absent,
    /// It waits for its dependents to be deleted.
    Waiting,
    /// The cache of its kind may be older than the reference.
    Unsure,
    /// Its kind is not served here: it may be anything.
    Foreign,
    /// It is where it cannot own the dependent: in another namespace, or in one at all while the dependent is in none.
    Misplaced,
}

/// Classifies one owner of `item`.
///
/// An owner is absent only if its kind is known up to the dependent's own version: the reference in it names a UID that
/// the API server had given before, and a UID never comes back. Absence in an older view may be that of an owner that
/// is not seen yet.
pub(super) fn owner(caches: &Caches, item: Item<'_>, reference: &OwnerReference) -> Owner {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    let Some(resource) = resource::find(group, &reference.kind) else { return Owner::Foreign };
    if resource.namespaced && !item.resource.namespaced {
        return Owner::Misplaced;
    }
    let known = caches.revision(resource);
    // A namespaced owner is in the dependent's own namespace, whatever else there is under its name and UID.
    let namespace = if resource.namespaced { item.namespace() } else { "" };
    let found = caches.metadata_of(resource, namespace, &reference.name).map(|metadata| Item { resource, metadata });
    match found.filter(|found| found.uid() == reference.uid) {
        Some(owner) if owner.waits_for_dependents() => Owner::Waiting,
        Some(_) => Owner::Solid,
        None if known == 0 => Owner::Foreign,
        None if known < item.revision() => Owner::Unsure,
        None if resource.namespaced && lives(caches, resource, &reference.uid) => Owner::Misplaced,
        None => Owner::Absent,
    }
}

fn lives(caches: &Caches, resource: &Resource, uid: &str) -> bool {
    caches.metadata(resource).any(|metadata| metadata.uid.as_deref() == Some(uid))
}

/// The dependents of `item`, in order of kind, namespace and name: what names it as an owner and can.
pub(super) fn dependents<'a>(caches: &'a Caches, item: Item<'a>) -> impl Iterator<Item = Item<'a>> {
    let all = caches.owned(item.uid()).map(|(resource, metadata)| Item { resource, metadata });
    all.filter(move |dependent| !item.resource.namespaced || dependent.namespace() == item.namespace())
}

/// Whether the dependent keeps its owner from going before it.
pub(super) fn blocks(dependent: Item<'_>, owner: Item<'_>) -> bool {
    let of = |reference: &&OwnerReference| reference.uid == owner.uid();
    dependent.owners().iter().filter(of).any(|reference| reference.block_owner_deletion == Some(true))
}

/// Whether every kind whose objects could depend on `item` is known up to its own version.
pub(super) fn knows_dependents(caches: &Caches, item: Item<'_>) -> bool {
    let can = |resource: &&'static Resource| resource.namespaced || !item.resource.namespaced;
    caches.resources().filter(can).all(|resource| caches.revision(resource) >= item.revision())
}
