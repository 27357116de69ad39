//! An API server of a few lines over [`Caches`], for tests: it performs plans the way the real one would, so that a test
//! can apply them until they are empty.

use crate::kinds::with_every_kind;
use api::resource::{Resource, Subresource};
use api::{Object, ObjectExt, Time, Timestamp};
use client::{Caches, Plan, Verb, Write};
use serde_json::Value;
use std::sync::Arc;

/// The fake server: all that is stored, and the revision of the last change.
pub(crate) struct Fake {
    pub caches: Caches,
    pub revision: i64,
    pub now: Timestamp,
}

macro_rules! perform_any {
    ([$($kind:ty),*], $fake:ident, $write:ident) => {
        $(if std::ptr::eq(<$kind>::resource(), $write.resource) {
            return $fake.perform_on::<$kind>($write);
        })*
    };
}

macro_rules! advance_every {
    ([$($kind:ty),*], $fake:ident) => { $( $fake.caches.store_mut::<$kind>().seen($fake.revision); )* };
}

/// Plans until empty end after fewer steps than this, or never.
const STEPS: usize = 100;

impl Fake {
    pub(crate) fn new() -> Self {
        let mut fake = Self { caches: Caches::new(), revision: 1, now: Timestamp::from_second(1_000_000).unwrap() };
        fake.advance();
        fake
    }

    /// Stores an object as it is, with a new version, and a UID made of its kind and name if it has none.
    pub(crate) fn put<T: Object>(&mut self, mut object: T) -> Arc<T> {
        self.revision += 1;
        let uid = format!("{}-{}", object.name(), self.revision);
        let metadata = object.metadata_mut();
        metadata.resource_version = Some(self.revision.to_string());
        metadata.uid.get_or_insert(uid);
        let object = Arc::new(object);
        self.caches.store_mut::<T>().put(object.clone());
        self.advance();
        object
    }

    /// Changes an object that is there.
    pub(crate) fn change<T: Object>(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut T)) {
        let mut object = T::clone(self.caches.get::<T>(namespace, name).expect("there is such an object"));
        change(&mut object);
        self.put(object);
    }

    /// Takes an object out, whatever its finalizers.
    pub(crate) fn remove<T: Object>(&mut self, namespace: &str, name: &str) {
        self.revision += 1;
        self.caches.store_mut::<T>().remove(namespace, name);
        self.advance();
    }

    fn advance(&mut self) {
        let fake = &mut *self;
        with_every_kind!(advance_every, fake);
    }

    /// Performs the writes in order; says at which it stopped.
    pub(crate) fn perform(&mut self, plan: &Plan) -> Result<(), String> {
        plan.writes.iter().try_for_each(|write| self.write(write).map_err(|error| format!("{write}: {error}")))
    }

    /// Applies what `plan` says until it changes nothing; returns the writes, a line each, rounds apart by `--`.
    pub(crate) fn settle(&mut self, mut plan: impl FnMut(&Caches, Timestamp) -> Plan) -> String {
        let mut log = Vec::new();
        for _ in 0..STEPS {
            let next = plan(&self.caches, self.now);
            let again = plan(&self.caches, self.now);
            assert_eq!(next.writes, again.writes, "equal views give equal plans");
            if next.is_empty() {
                return log.join("\n");
            }
            if !log.is_empty() {
                log.push("--".to_owned());
            }
            log.extend(next.writes.iter().map(ToString::to_string));
            self.perform(&next).expect("no write of a plan on current knowledge fails");
        }
        panic!("plans do not come to an end:\n{}", log.join("\n"));
    }

    /// One write.
    pub(crate) fn write(&mut self, write: &Write) -> Result<(), String> {
        let fake = self;
        with_every_kind!(perform_any, fake, write);
        Err(format!("{} is not served", write.resource.kind))
    }

    fn perform_on<T: Object>(&mut self, write: &Write) -> Result<(), String> {
        let stored = self.caches.get::<T>(&write.namespace, &write.name).cloned();
        match &write.verb {
            Verb::Create { body, .. } => {
                if stored.is_some() {
                    return Err("AlreadyExists".to_owned());
                }
                let mut object: T = decode(body)?;
                object.metadata_mut().creation_timestamp = Some(Time(self.now));
                self.put(object);
            }
            Verb::Update { body, subresource } => {
                let stored = stored.ok_or("NotFound")?;
                let sent: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
                precondition(&*stored, &sent)?;
                let mut object = sent.clone();
                if *subresource == Some(Subresource::Status) {
                    object = serde_json::to_value(&*stored).expect("it was decoded from JSON");
                    object["status"] = sent["status"].clone();
                }
                self.keep(decode::<T>(&object.to_string())?);
            }
            Verb::Patch { body, .. } => {
                let stored = stored.ok_or("NotFound")?;
                let patch: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
                precondition(&*stored, &patch)?;
                let mut object = serde_json::to_value(&*stored).expect("it was decoded from JSON");
                merge(&mut object, &patch);
                self.keep(decode::<T>(&object.to_string())?);
            }
            Verb::Delete { uid, resource_version, grace_s, propagation } => {
                let Some(stored) = stored else { return Ok(()) };
                if uid.as_deref().is_some_and(|uid| uid != stored.uid()) {
                    return Err("Conflict: UID".to_owned());
                }
                if resource_version.as_deref().is_some_and(|version| version != stored.resource_version()) {
                    return Err("Conflict: resourceVersion".to_owned());
                }
                self.delete(T::clone(&stored), *grace_s, propagation.map(client::Propagation::name));
            }
            Verb::CreateSubresource { .. } => return Err("not served by the fake".to_owned()),
        }
        Ok(())
    }

    /// What the API server does at a delete: a pod on a node waits for its kubelet, finalizers hold.
    fn delete<T: Object>(&mut self, mut object: T, grace_s: Option<i64>, propagation: Option<&str>) {
        let resource: &Resource = T::resource();
        let graceful = resource.kind == "Pod" && grace_s != Some(0);
        let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
        let policy = match propagation {
            Some("Orphan") => Some("orphan"),
            Some("Foreground") => Some("foregroundDeletion"),
            _ => None,
        };
        if let Some(policy) = policy
            && !finalizers.iter().any(|finalizer| finalizer == policy)
        {
            finalizers.push(policy.to_owned());
        }
        if !graceful && finalizers.is_empty() {
            let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
            self.remove::<T>(&namespace, &name);
            return;
        }
        object.metadata_mut().deletion_timestamp.get_or_insert(Time(self.now));
        self.put(object);
    }

    /// Stores the changed object, or lets it go if its last finalizer went.
    fn keep<T: Object>(&mut self, object: T) {
        let held = object.metadata().finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty());
        if object.is_terminating() && !held && T::KIND != "Pod" && T::KIND != "Namespace" {
            let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
            self.remove::<T>(&namespace, &name);
        } else {
            self.put(object);
        }
    }
}

fn decode<T: Object>(body: &str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|error| error.to_string())
}

fn precondition<T: Object>(stored: &T, sent: &Value) -> Result<(), String> {
    for (field, is) in [("uid", stored.uid()), ("resourceVersion", stored.resource_version())] {
        match sent["metadata"][field].as_str() {
            Some(wanted) if wanted != is => return Err(format!("Conflict: {field}")),
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("it was made one").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
