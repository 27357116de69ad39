//! Whose an object is: an owner adopts what matches its selector and has no controller, and releases what is its own
//! and matches no more. Upstream's `ControllerRefManager`.

use api::meta::v1::OwnerReference;
use api::{Object, ObjectExt};
use client::{Caches, Key, Write};
use serde::Serialize;
use std::sync::Arc;

/// What becomes of the objects that may be an owner's.
pub struct Claims<T> {
    /// The owner's, those about to be adopted included.
    pub own: Vec<Arc<T>>,
    /// Adopts and releases.
    pub writes: Vec<Write>,
}

/// Sorts out the objects in the owner's namespace that it controls already or that nothing controls, as far as `among`
/// lets them in.
///
/// An owner that is being deleted neither adopts nor releases. That an adopting owner is not being deleted, and is still
/// itself, is made sure of by a patch of its own that changes nothing, but fails unless the store has the version that
/// was read: upstream's read past its cache, without which an owner deleted with its dependents orphaned would take them back.
pub fn claim<O: Object, T: Object>(
    caches: &Caches,
    owner: &O,
    among: impl Fn(&T) -> bool,
    matches: impl Fn(&T) -> bool,
) -> Claims<T> {
    let mut claims = Claims { own: Vec::new(), writes: Vec::new() };
    let namespace = owner.namespace();
    for object in caches.controlled::<T>(owner.uid()).filter(|object| object.namespace() == namespace && among(object))
    {
        if matches(object) {
            claims.own.push(object.clone());
        } else if !owner.is_terminating() {
            mark::sometimes!("a controller releases an object that matches no more");
            let others = object.owners().iter().filter(|other| other.uid != owner.uid());
            claims.writes.push(change(&**object, Some(others.cloned().collect())));
        }
    }
    if owner.is_terminating() {
        return claims;
    }
    let orphans = caches.orphans::<T>(namespace);
    let adopted = orphans.filter(|object| !object.is_terminating() && among(object) && matches(object));
    for (index, object) in adopted.enumerate() {
        mark::sometimes!("a controller adopts an orphan");
        if index == 0 {
            claims.writes.insert(0, change(owner, None));
        }
        let others = object.owners().iter().filter(|other| other.uid != owner.uid());
        let owners = others.cloned().chain([owner.controller_ref()]).collect();
        claims.writes.push(change(&**object, Some(owners)));
        claims.own.push(object.clone());
    }
    claims
}

/// The keys of the objects of kind `O` that an object of kind `T` concerns: its controller, or without one all that
/// might adopt it.
pub fn keys<T: Object, O: Object>(caches: &Caches, object: &T, matches: impl Fn(&O, &T) -> bool) -> Vec<Key> {
    match object.controller() {
        Some(owner) if owner.kind == O::KIND && owner.api_version == O::API_VERSION => {
            vec![Key::new(object.namespace(), &owner.name)]
        }
        Some(_) => Vec::new(),
        None => {
            let owners = caches.list::<O>(object.namespace());
            owners.filter(|owner| matches(owner, object)).map(|owner| Key::of(&**owner)).collect()
        }
    }
}

/// The object of kind `O` that controls `object`, if it is still the one that is meant.
pub fn of<'a, O: Object, T: Object>(caches: &'a Caches, object: &T) -> Option<&'a Arc<O>> {
    let reference = object.controller()?;
    if reference.kind != O::KIND || reference.api_version != O::API_VERSION {
        return None;
    }
    let owner = caches.get::<O>(object.namespace(), &reference.name)?;
    (owner.uid() == reference.uid).then_some(owner)
}

/// A patch that fails unless the object is of the version that was read.
#[derive(Serialize)]
struct Change<'a> {
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    uid: &'a str,
    resource_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_references: Option<Vec<OwnerReference>>,
}

fn change<T: Object>(object: &T, owner_references: Option<Vec<OwnerReference>>) -> Write {
    let metadata = Metadata { uid: object.uid(), resource_version: object.resource_version(), owner_references };
    Write::patch(object, &Change { metadata })
}
