//! What a controller is: which kinds concern it, which keys a change concerns, and what it would do about a key.

use crate::cache::Caches;
use crate::informer::Informers;
use crate::plan::Plan;
use crate::write::Write;
use api::meta::v1::OwnerReference;
use api::resource::Resource;
use api::{Object, ObjectExt, ObjectMeta, Status, Timestamp};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a controller is asked about: usually an object of its own kind, which may be gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Empty for what is cluster-scoped.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn of<T: Object>(object: &T) -> Self {
        Self::new(object.namespace(), object.name())
    }

    /// The key of an object that is known by its names.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// As logs and marks show it: `namespace/name`, or `name` alone.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// The time of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By the wall clock, which may be wrong and jump: for what is written into objects.
    pub wall: Timestamp,
    /// By the monotonic clock, since a point of the process's own choosing: for how long something lasts.
    pub monotonic: Duration,
}

/// A controller: one driver runs all of them.
///
/// What a decision needs is in the caches, in time, and in whatever the controller keeps in itself; that must be such
/// that losing it at a restart is harmless.
pub trait Controller: Send + 'static {
    /// As in the names of its Events and logs: `replicaset-controller`.
    fn name(&self) -> &'static str;

    /// The kinds that concern it, each with the keys that a change concerns.
    fn watches(&self) -> Vec<Watch>;

    /// What it would do about `key` now. Never fails: what is wrong with an object becomes a condition or a [`Note`].
    ///
    /// [`Note`]: crate::plan::Note
    fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan;

    /// The API server refused a write of the last plan about `key`, for good and not because of a conflict. The key is
    /// looked at again after its backoff.
    fn refused(&mut self, _key: &Key, _write: &Write, _status: &Status) {}

    /// A new term of leadership begins: what was kept in the last one may be long out of date.
    fn restart(&mut self) {}
}

/// A controller without any state: a row of a table.
pub struct Row {
    /// See [`Controller::name`].
    pub name: &'static str,
    /// See [`Controller::watches`].
    pub watches: fn() -> Vec<Watch>,
    /// See [`Controller::reconcile`].
    pub reconcile: fn(&Caches, &Key, Now) -> Plan,
}

impl Controller for Row {
    fn name(&self) -> &'static str {
        self.name
    }
    fn watches(&self) -> Vec<Watch> {
        (self.watches)()
    }
    fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan {
        (self.reconcile)(caches, key, now)
    }
}

/// Which keys an object concerns.
type Keys = dyn Fn(&Caches, &dyn Any) -> Vec<Key> + Send + Sync;

/// A kind that concerns a controller.
pub struct Watch {
    resource: &'static Resource,
    /// Keys that concern an object of this kind, given as the `Arc<T>` that it is.
    keys: Box<Keys>,
    /// Has a set of informers follow the kind.
    follow: fn(&mut Informers),
    /// Whether changes of it concern no key.
    only_looked_up: bool,
}

impl Watch {
    /// Objects of the controller's own kind: each is its own key.
    pub fn own<T: Object>() -> Self {
        Self::map::<T>(|_, object| vec![Key::of(object)])
    }

    /// Objects whose controlling owner is of kind `Owner`: the owner is the key.
    pub fn controlled_by<T: Object, Owner: Object>() -> Self {
        Self::map::<T>(|_, object| owner_key(object.metadata(), Owner::KIND, Owner::API_VERSION))
    }

    /// Objects of `T`, of which `keys` says which keys they concern. It is asked of the object before a change and of
    /// the one after it.
    pub fn map<T: Object>(keys: impl Fn(&Caches, &T) -> Vec<Key> + Send + Sync + 'static) -> Self {
        let keys = move |caches: &Caches, object: &dyn Any| -> Vec<Key> {
            let object: &Arc<T> = object.downcast_ref().expect("an informer hands out objects of its own kind");
            keys(caches, object)
        };
        let follow = Informers::follow::<T>;
        Self { resource: T::resource(), keys: Box::new(keys), follow, only_looked_up: false }
    }

    /// Objects of `T` are looked up in the caches; changes of them concern no key.
    pub fn lookup<T: Object>() -> Self {
        Self { only_looked_up: true, ..Self::map::<T>(|_, _| Vec::new()) }
    }

    /// Whether it is a [`Watch::lookup`].
    pub fn is_lookup(&self) -> bool {
        self.only_looked_up
    }

    /// Of which kind.
    pub fn resource(&self) -> &'static Resource {
        self.resource
    }

    /// Has `informers` follow the kind.
    pub fn follow(&self, informers: &mut Informers) {
        (self.follow)(informers);
    }

    /// The keys that `object`, an `Arc` of the kind's type, concerns.
    pub fn keys(&self, caches: &Caches, object: &dyn Any) -> Vec<Key> {
        (self.keys)(caches, object)
    }
}

/// The key of the owner that controls an object, if it is of this kind.
fn owner_key(metadata: &ObjectMeta, kind: &str, api_version: &str) -> Vec<Key> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let owner = owner.filter(|owner| owner.kind == kind && owner.api_version == api_version);
    let key = |owner: &OwnerReference| Key::new(metadata.namespace.as_deref().unwrap_or_default(), &owner.name);
    owner.map(key).into_iter().collect()
}
