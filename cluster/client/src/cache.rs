//! What a process knows of the cluster: per kind, the objects as of some revision, in order of namespace and name.
//!
//! A [`Caches`] is a value: cloning it pins what it holds, at the cost of a few pointers. Deciding functions take it by
//! reference; informers replace objects in it; tests fill it by hand.

use crate::codec::{self, Codec};
use crate::held::{Erased, Held, typed};
use api::resource::Resource;
use api::{Object, ObjectExt, ObjectMeta};
use imbl::{OrdMap, OrdSet};
use std::any::Any;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// Namespace (empty for what is cluster-scoped) and name.
pub type Id = (Arc<str>, Arc<str>);

/// Group and kind.
type KindKey = (&'static str, &'static str);

/// All that is known, by kind.
#[derive(Clone, Default)]
pub struct Caches {
    /// Shared until it changes: snapshots are taken far more often.
    kinds: Arc<BTreeMap<KindKey, Arc<dyn Kind>>>,
}

/// The objects of one kind.
#[derive(Clone)]
pub struct Store<T> {
    objects: Objects,
    kind: PhantomData<fn() -> T>,
}

impl<T: Object> Default for Store<T> {
    fn default() -> Self {
        Self { objects: Objects::default(), kind: PhantomData }
    }
}

/// A [`Store`] of a type that only its user knows.
pub(crate) trait Kind: Any + Send + Sync {
    fn any(&self) -> &dyn Any;
    fn any_mut(&mut self) -> &mut dyn Any;
    fn cloned(&self) -> Arc<dyn Kind>;
    fn resource(&self) -> &'static Resource;
    fn objects(&self) -> &Objects;
    fn objects_mut(&mut self) -> &mut Objects;
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
    fn objects(&self) -> &Objects {
        &self.objects
    }
    fn objects_mut(&mut self) -> &mut Objects {
        &mut self.objects
    }
}

impl<T: Object> Store<T> {
    /// Puts an object in the place of any of its name. Returns what was there.
    pub fn put(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        self.objects.put(Arc::new(object)).map(|old| own_type::<T>(&old).clone())
    }

    /// Takes an object out.
    pub fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.objects.remove(&id_of(namespace, name)).map(|old| own_type::<T>(&old).clone())
    }

    /// Notes that everything up to `revision` is in here.
    pub fn seen(&mut self, revision: i64) {
        self.objects.seen(revision);
    }

    /// In order of namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.all().map(own_type)
    }
}

/// Objects, in some order.
type Iter<'a> = Box<dyn Iterator<Item = &'a Erased> + 'a>;

/// The objects of a kind, whatever their type.
#[derive(Clone, Default)]
pub(crate) struct Objects {
    objects: OrdMap<Id, Erased>,
    /// By UID of an owner, controlling or not; under the empty one, those that nothing controls.
    owned: OrdMap<Arc<str>, OrdSet<Id>>,
    revision: i64,
}

impl Objects {
    /// Puts an object in the place of any of its name. Returns what was there.
    pub(crate) fn put(&mut self, object: Erased) -> Option<Erased> {
        let id = id_of(object.namespace(), object.name());
        let old = self.objects.insert(id.clone(), object.clone());
        // Most changes leave the owners alone; then the index stays as it is.
        let same = old.as_ref().is_some_and(|old| old.owners() == object.owners());
        if !same {
            if let Some(old) = &old {
                self.disown(&**old, &id);
            }
            for uid in owner_uids(&*object) {
                self.owned.entry(uid.into()).or_default().insert(id.clone());
            }
        }
        old
    }

    /// Takes an object out.
    pub(crate) fn remove(&mut self, id: &Id) -> Option<Erased> {
        let old = self.objects.remove(id)?;
        self.disown(&*old, id);
        Some(old)
    }

    /// Notes that everything up to `revision` is in here.
    pub(crate) fn seen(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    fn disown(&mut self, object: &dyn Held, id: &Id) {
        for uid in owner_uids(object) {
            let Some(ids) = self.owned.get_mut(uid) else { continue };
            ids.remove(id);
            if ids.is_empty() {
                self.owned.remove(uid);
            }
        }
    }

    fn get(&self, namespace: &str, name: &str) -> Option<&Erased> {
        self.objects.get(&(namespace, name) as &dyn Names)
    }

    fn all(&self) -> Iter<'_> {
        Box::new(self.objects.values())
    }

    fn list(&self, namespace: &str) -> Iter<'_> {
        let from = id_of(namespace, "");
        let namespace = from.0.clone();
        let here = self.objects.range(from..).take_while(move |(id, _)| id.0 == namespace);
        Box::new(here.map(|(_, object)| object))
    }

    fn owned(&self, owner_uid: &str) -> Iter<'_> {
        let ids = self.owned.get(owner_uid).into_iter().flatten();
        Box::new(ids.filter_map(|id| self.objects.get(id)))
    }

    fn controlled(&self, owner_uid: &str) -> Iter<'_> {
        let controller: Arc<str> = owner_uid.into();
        let controlled = move |object: &&Erased| object.controller().is_some_and(|owner| owner.uid == *controller);
        Box::new(self.owned(owner_uid).filter(controlled))
    }

    fn orphans(&self, namespace: &str) -> Iter<'_> {
        let from = id_of(namespace, "");
        let namespace = from.0.clone();
        let ids = self.owned.get("").into_iter().flat_map(move |ids| ids.range(from.clone()..));
        let here = ids.take_while(move |id| id.0 == namespace);
        Box::new(here.filter_map(|id| self.objects.get(id)))
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
        let kind = self.kind_mut(codec::of::<T>());
        kind.any_mut().downcast_mut().expect("a kind is kept under its own type")
    }

    /// The objects of a kind; `None` if this process does not follow it.
    pub fn store<T: Object>(&self) -> Option<&Store<T>> {
        let kind = self.kinds.get(&kind_of::<T>())?;
        Some(kind.any().downcast_ref().expect("a kind is kept under its own type"))
    }

    /// An object; `namespace` is empty for what is cluster-scoped.
    pub fn get<T: Object>(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.find(kind_of::<T>(), namespace, name).map(own_type)
    }

    /// All objects of a kind, in order of namespace and name.
    pub fn all<T: Object>(&self) -> impl Iterator<Item = &Arc<T>> {
        self.some(kind_of::<T>(), Objects::all).map(own_type)
    }

    /// The objects of a kind in one namespace, in order of name.
    pub fn list<T: Object>(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        self.some_of(kind_of::<T>(), Objects::list, namespace).map(own_type)
    }

    /// The objects of a kind whose controlling owner has this UID, in order of namespace and name.
    pub fn controlled<T: Object>(&self, owner_uid: &str) -> impl Iterator<Item = &Arc<T>> {
        self.some_of(kind_of::<T>(), Objects::controlled, owner_uid).map(own_type)
    }

    /// Metadata of all objects of every kind that have an owner with this UID, controlling or not, in order of group,
    /// kind, namespace and name.
    pub fn owned(&self, owner_uid: &str) -> impl Iterator<Item = (&'static Resource, &ObjectMeta)> {
        self.kinds.values().flat_map(move |kind| {
            let resource = kind.resource();
            kind.objects().owned(owner_uid).map(move |object| (resource, object.metadata()))
        })
    }

    /// The objects of a kind in one namespace that nothing controls, in order of name: those that a controller may adopt.
    pub fn orphans<T: Object>(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        self.some_of(kind_of::<T>(), Objects::orphans, namespace).map(own_type)
    }

    /// Up to which revision the objects of a kind are known; 0 if it is not followed.
    pub fn revision(&self, resource: &Resource) -> i64 {
        self.objects(key_of(resource)).map_or(0, |objects| objects.revision)
    }

    /// Notes that everything of a kind up to `revision` is in here: for informers.
    pub(crate) fn note_seen(&mut self, resource: &Resource, revision: i64) {
        if let Some(kind) = Arc::make_mut(&mut self.kinds).get_mut(&key_of(resource)) {
            own(kind).objects_mut().seen(revision);
        }
    }

    /// How many objects of a kind there are.
    pub fn count(&self, resource: &Resource) -> usize {
        self.objects(key_of(resource)).map_or(0, |objects| objects.objects.len())
    }

    /// All objects of a kind, in order of namespace and name, whatever their type.
    pub(crate) fn held(&self, resource: &Resource) -> impl Iterator<Item = &Erased> {
        self.some(key_of(resource), Objects::all)
    }

    /// One object, whatever its type.
    pub(crate) fn held_of(&self, resource: &Resource, id: &Id) -> Option<&Erased> {
        self.find(key_of(resource), &id.0, &id.1)
    }

    /// The kinds that are followed, in order of group and kind.
    pub fn resources(&self) -> impl Iterator<Item = &'static Resource> {
        self.kinds.values().map(|kind| kind.resource())
    }

    /// Metadata of all objects of a kind, in order of namespace and name, whatever their type.
    pub fn metadata(&self, resource: &Resource) -> impl Iterator<Item = &ObjectMeta> {
        self.some(key_of(resource), Objects::all).map(|object| object.metadata())
    }

    /// Metadata of all objects of a kind in one namespace, in order of name, whatever their type.
    pub fn metadata_in(&self, resource: &Resource, namespace: &str) -> impl Iterator<Item = &ObjectMeta> {
        self.some_of(key_of(resource), Objects::list, namespace).map(|object| object.metadata())
    }

    /// Metadata of one object, whatever its type.
    pub fn metadata_of(&self, resource: &Resource, namespace: &str, name: &str) -> Option<&ObjectMeta> {
        self.find(key_of(resource), namespace, name).map(|object| object.metadata())
    }

    fn objects(&self, kind: KindKey) -> Option<&Objects> {
        self.kinds.get(&kind).map(|kind| kind.objects())
    }

    fn find(&self, kind: KindKey, namespace: &str, name: &str) -> Option<&Erased> {
        self.objects(kind)?.get(namespace, name)
    }

    fn some(&self, kind: KindKey, which: fn(&Objects) -> Iter<'_>) -> Iter<'_> {
        self.objects(kind).map_or_else(|| Box::new(std::iter::empty()) as Iter<'_>, which)
    }

    fn some_of(&self, kind: KindKey, which: for<'a> fn(&'a Objects, &str) -> Iter<'a>, of: &str) -> Iter<'_> {
        self.objects(kind).map_or_else(|| Box::new(std::iter::empty()) as Iter<'_>, |objects| which(objects, of))
    }

    fn kind_mut(&mut self, codec: &'static Codec) -> &mut dyn Kind {
        own(Arc::make_mut(&mut self.kinds).entry(key_of((codec.resource)())).or_insert_with(codec.store))
    }

    /// [`Caches::store_mut`] of a type that only its user knows.
    pub(crate) fn objects_mut(&mut self, codec: &'static Codec) -> &mut Objects {
        self.kind_mut(codec).objects_mut()
    }
}

/// The kind for this holder alone, to be changed.
fn own(kind: &mut Arc<dyn Kind>) -> &mut dyn Kind {
    if Arc::get_mut(kind).is_none() {
        *kind = kind.cloned();
    }
    Arc::get_mut(kind).expect("it was just made this one's own")
}

fn kind_of<T: Object>() -> KindKey {
    (T::GROUP, T::KIND)
}

fn key_of(resource: &Resource) -> KindKey {
    (resource.group, resource.kind)
}

/// The object as what it is.
fn own_type<T: Object>(held: &Erased) -> &Arc<T> {
    typed(&**held).expect("a kind is kept under its own type")
}

/// The owners' UIDs, and an empty one if none of them controls it.
fn owner_uids(object: &dyn Held) -> impl Iterator<Item = &str> {
    let uncontrolled = object.controller().is_none().then_some("");
    object.owners().iter().map(|owner| owner.uid.as_str()).chain(uncontrolled)
}

/// An [`Id`], or the texts of one: what is looked up need not be made an `Id` for it.
trait Names {
    fn names(&self) -> (&str, &str);
}

impl Names for Id {
    fn names(&self) -> (&str, &str) {
        (&self.0, &self.1)
    }
}

impl Names for (&str, &str) {
    fn names(&self) -> (&str, &str) {
        *self
    }
}

impl<'a> Borrow<dyn Names + 'a> for Id {
    fn borrow(&self) -> &(dyn Names + 'a) {
        self
    }
}

impl PartialEq for dyn Names + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn Names + '_ {}

impl PartialOrd for dyn Names + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As that of [`Id`].
impl Ord for dyn Names + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(&other.names())
    }
}

fn id_of(namespace: &str, name: &str) -> Id {
    (namespace.into(), name.into())
}
