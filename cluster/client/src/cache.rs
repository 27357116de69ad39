//! What a process knows of the cluster: per kind, the objects as of some revision, in order of namespace and name.
//!
//! A [`Caches`] is a value: cloning it pins what it holds, at the cost of a few pointers. Deciding functions take it by
//! reference; informers replace objects in it; tests fill it by hand.

use crate::changes::Held;
use api::resource::{self, Resource};
use api::{Object, ObjectExt, ObjectMeta};
use imbl::{OrdMap, OrdSet};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace (empty for what is cluster-scoped) and name.
pub type Id = (Arc<str>, Arc<str>);

/// All that is known, by kind.
#[derive(Clone, Default)]
pub struct Caches {
    kinds: BTreeMap<(&'static str, &'static str), Arc<dyn Kind>>,
}

/// The objects of one kind.
#[derive(Clone)]
pub struct Store<T> {
    objects: OrdMap<Id, Arc<T>>,
    /// By UID of an owner, controlling or not; under the empty one, those that nothing controls.
    owned: OrdMap<Arc<str>, OrdSet<Id>>,
    revision: i64,
}

impl<T: Object> Default for Store<T> {
    fn default() -> Self {
        Self { objects: OrdMap::new(), owned: OrdMap::new(), revision: 0 }
    }
}

/// A [`Store`] of a type that only its user knows.
trait Kind: Any + Send + Sync {
    fn any(&self) -> &dyn Any;
    fn any_mut(&mut self) -> &mut dyn Any;
    fn cloned(&self) -> Arc<dyn Kind>;
    fn resource(&self) -> &'static Resource;
    fn revision(&self) -> i64;
    fn seen(&mut self, revision: i64);
    fn len(&self) -> usize;
    fn held(&self) -> Box<dyn Iterator<Item = (&Id, Arc<dyn Held>)> + '_>;
    fn metadata(&self) -> Box<dyn Iterator<Item = &ObjectMeta> + '_>;
    fn metadata_in(&self, namespace: &str) -> Box<dyn Iterator<Item = &ObjectMeta> + '_>;
    fn metadata_of(&self, id: &Id) -> Option<&ObjectMeta>;
    fn owned(&self, uid: &str) -> Box<dyn Iterator<Item = &ObjectMeta> + '_>;
}

impl<T: Object> Kind for Store<T> {
    fn any(&self) -> &dyn Any {
        self
    }
    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn cloned(&self) -> Arc<dyn Kind> {
        Arc::new(self.clone())
    }
    fn resource(&self) -> &'static Resource {
        T::resource()
    }
    fn revision(&self) -> i64 {
        self.revision
    }
    fn seen(&mut self, revision: i64) {
        Store::seen(self, revision);
    }
    fn len(&self) -> usize {
        self.objects.len()
    }
    fn held(&self) -> Box<dyn Iterator<Item = (&Id, Arc<dyn Held>)> + '_> {
        Box::new(self.objects.iter().map(|(id, object)| (id, Arc::new(object.clone()) as Arc<dyn Held>)))
    }
    fn metadata(&self) -> Box<dyn Iterator<Item = &ObjectMeta> + '_> {
        Box::new(self.objects.values().map(|object| object.metadata()))
    }
    fn metadata_in(&self, namespace: &str) -> Box<dyn Iterator<Item = &ObjectMeta> + '_> {
        let from = id_of(namespace, "");
        let namespace = from.0.clone();
        let here = self.objects.range(from..).take_while(move |(id, _)| id.0 == namespace);
        Box::new(here.map(|(_, object)| object.metadata()))
    }
    fn metadata_of(&self, id: &Id) -> Option<&ObjectMeta> {
        self.objects.get(id).map(|object| object.metadata())
    }
    fn owned(&self, uid: &str) -> Box<dyn Iterator<Item = &ObjectMeta> + '_> {
        let ids = self.owned.get(uid).into_iter().flatten();
        Box::new(ids.filter_map(|id| self.objects.get(id)).map(|object| object.metadata()))
    }
}

impl<T: Object> Store<T> {
    /// Puts an object in the place of any of its name. Returns what was there.
    pub fn put(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        let id = id_of(object.namespace(), object.name());
        let old = self.objects.insert(id.clone(), object.clone());
        // Most changes leave the owners alone; then the index stays as it is.
        let same = old.as_ref().is_some_and(|old| old.owners() == object.owners());
        if !same {
            if let Some(old) = &old {
                self.disown(old, &id);
            }
            for uid in owner_uids(&*object) {
                self.owned.entry(uid.into()).or_default().insert(id.clone());
            }
        }
        old
    }

    /// Takes an object out.
    pub fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let id = id_of(namespace, name);
        let old = self.objects.remove(&id)?;
        self.disown(&old, &id);
        Some(old)
    }

    /// Notes that everything up to `revision` is in here.
    pub fn seen(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    /// In order of namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.values()
    }

    fn disown(&mut self, object: &T, id: &Id) {
        for uid in owner_uids(object) {
            let Some(ids) = self.owned.get_mut(uid) else { continue };
            ids.remove(id);
            if ids.is_empty() {
                self.owned.remove(uid);
            }
        }
    }
}

impl Caches {
    /// Nothing known of any kind.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with `object` in it: for tests.
    pub fn with<T: Object>(mut self, object: T) -> Self {
        self.store_mut::<T>().put(Arc::new(object));
        self
    }

    /// The objects of a kind, to be changed: for informers. From then on the kind is known, if empty.
    pub fn store_mut<T: Object>(&mut self) -> &mut Store<T> {
        let kind = self.kinds.entry(kind_of::<T>()).or_insert_with(|| Arc::new(Store::<T>::default()));
        own(kind).any_mut().downcast_mut().expect("a kind is kept under its own type")
    }

    /// The objects of a kind; `None` if this process does not follow it.
    pub fn store<T: Object>(&self) -> Option<&Store<T>> {
        let kind = self.kinds.get(&kind_of::<T>())?;
        Some(kind.any().downcast_ref().expect("a kind is kept under its own type"))
    }

    /// An object; `namespace` is empty for what is cluster-scoped.
    pub fn get<T: Object>(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.store::<T>()?.objects.get(&id_of(namespace, name))
    }

    /// All objects of a kind, in order of namespace and name.
    pub fn all<T: Object>(&self) -> impl Iterator<Item = &Arc<T>> {
        self.store::<T>().into_iter().flat_map(|store| store.objects.values())
    }

    /// The objects of a kind in one namespace, in order of name.
    pub fn list<T: Object>(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        let from = id_of(namespace, "");
        let namespace: Arc<str> = from.0.clone();
        let range = self.store::<T>().into_iter().flat_map(move |store| store.objects.range(from.clone()..));
        range.take_while(move |(id, _)| id.0 == namespace).map(|(_, object)| object)
    }

    /// The objects of a kind whose controlling owner has this UID, in order of namespace and name.
    pub fn controlled<T: Object>(&self, owner_uid: &str) -> impl Iterator<Item = &Arc<T>> {
        let store = self.store::<T>();
        let ids = store.and_then(|store| store.owned.get(owner_uid)).into_iter().flatten();
        let objects = ids.filter_map(move |id| store.and_then(|store| store.objects.get(id)));
        objects.filter(move |object| object.controller().is_some_and(|owner| owner.uid == owner_uid))
    }

    /// Metadata of all objects of every kind that have an owner with this UID, controlling or not, in order of group,
    /// kind, namespace and name.
    pub fn owned(&self, owner_uid: &str) -> impl Iterator<Item = (&'static Resource, &ObjectMeta)> {
        self.kinds.values().flat_map(move |kind| kind.owned(owner_uid).map(|metadata| (kind.resource(), metadata)))
    }

    /// The objects of a kind in one namespace that nothing controls, in order of name: those that a controller may adopt.
    pub fn orphans<T: Object>(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        let store = self.store::<T>();
        let from = id_of(namespace, "");
        let namespace: Arc<str> = from.0.clone();
        let ids = store.and_then(|store| store.owned.get("")).into_iter();
        let ids = ids.flat_map(move |ids| ids.range(from.clone()..)).take_while(move |id| id.0 == namespace);
        ids.filter_map(move |id| store.and_then(|store| store.objects.get(id)))
    }

    /// Up to which revision the objects of a kind are known; 0 if it is not followed.
    pub fn revision(&self, resource: &Resource) -> i64 {
        self.kinds.get(&(resource.group, resource.kind)).map_or(0, |kind| kind.revision())
    }

    /// Notes that everything of a kind up to `revision` is in here: for informers.
    pub(crate) fn note_seen(&mut self, resource: &Resource, revision: i64) {
        if let Some(kind) = self.kinds.get_mut(&(resource.group, resource.kind)) {
            own(kind).seen(revision);
        }
    }

    /// How many objects of a kind there are.
    pub fn count(&self, resource: &Resource) -> usize {
        self.kinds.get(&(resource.group, resource.kind)).map_or(0, |kind| kind.len())
    }

    /// All objects of a kind, each an `Arc` of its type.
    pub(crate) fn held(&self, resource: &Resource) -> impl Iterator<Item = (&Id, Arc<dyn Held>)> {
        self.kinds.get(&(resource.group, resource.kind)).into_iter().flat_map(|kind| kind.held())
    }

    /// The kinds that are followed, in order of group and kind.
    pub fn resources(&self) -> impl Iterator<Item = &'static Resource> {
        self.kinds.values().map(|kind| kind.resource())
    }

    /// Metadata of all objects of a kind, in order of namespace and name, whatever their type.
    pub fn metadata(&self, resource: &Resource) -> impl Iterator<Item = &ObjectMeta> {
        self.kinds.get(&(resource.group, resource.kind)).into_iter().flat_map(|kind| kind.metadata())
    }

    /// Metadata of all objects of a kind in one namespace, in order of name, whatever their type.
    pub fn metadata_in(&self, resource: &Resource, namespace: &str) -> impl Iterator<Item = &ObjectMeta> {
        let kind = self.kinds.get(&(resource.group, resource.kind));
        kind.into_iter().flat_map(move |kind| kind.metadata_in(namespace))
    }

    /// Metadata of one object, whatever its type.
    pub fn metadata_of(&self, resource: &Resource, namespace: &str, name: &str) -> Option<&ObjectMeta> {
        self.kinds.get(&(resource.group, resource.kind))?.metadata_of(&id_of(namespace, name))
    }
}

/// The kind for this holder alone, to be changed.
fn own(kind: &mut Arc<dyn Kind>) -> &mut dyn Kind {
    if Arc::get_mut(kind).is_none() {
        *kind = kind.cloned();
    }
    Arc::get_mut(kind).expect("it was just made this one's own")
}

fn kind_of<T: Object>() -> (&'static str, &'static str) {
    let resource = resource::of::<T>();
    (resource.group, resource.kind)
}

/// The owners' UIDs, and an empty one if none of them controls it.
fn owner_uids<T: Object>(object: &T) -> impl Iterator<Item = &str> {
    let uncontrolled = object.controller().is_none().then_some("");
    object.owners().iter().map(|owner| owner.uid.as_str()).chain(uncontrolled)
}

fn id_of(namespace: &str, name: &str) -> Id {
    (namespace.into(), name.into())
}
