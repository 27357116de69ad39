//! Writes as values: what a decision wants changed, each with its precondition.

use crate::codec;
use api::resource::{Resource, Subresource};
use api::{Object, ObjectExt, ObjectMeta};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One request that changes something.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// Of which kind.
    pub resource: &'static Resource,
    /// In which namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// Of which object. A create names it too: see the barrier in the driver.
    pub name: String,
    /// What is to be done.
    pub verb: Verb,
}

/// What is to be done to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Create it. After an unknown outcome the same create is sent again; that the name is taken then by an object of the
    /// same controlling owner means that it was done.
    Create {
        /// The object as JSON.
        body: Arc<str>,
        /// UID of the controlling owner, if it has one.
        owner: Option<String>,
    },
    /// Replace it, or a subresource of it, if it is still of the version that `body` names.
    Update {
        /// The object as JSON, with `metadata.resourceVersion`.
        body: Arc<str>,
        /// A subresource, or the object itself.
        subresource: Option<Subresource>,
    },
    /// Merge into it (RFC 7386). `metadata.uid` and `metadata.resourceVersion` in the patch are preconditions.
    Patch {
        /// The patch as JSON.
        body: Arc<str>,
        /// A subresource, or the object itself.
        subresource: Option<Subresource>,
    },
    /// Delete it. That it is gone already means that it was done.
    Delete {
        /// Only if it has this UID.
        uid: Option<String>,
        /// Only if it is of this version.
        resource_version: Option<String>,
        /// Grace period in seconds instead of the object's own.
        grace_s: Option<i64>,
        /// What becomes of its dependents; `None` for the kind's default.
        propagation: Option<Propagation>,
    },
    /// Create a subresource of it: a Pod's Binding or Eviction.
    CreateSubresource {
        /// The subresource's object as JSON.
        body: Arc<str>,
        /// Which.
        subresource: Subresource,
    },
}

/// What becomes of the dependents of an object that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without this owner.
    Orphan,
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
}

impl Propagation {
    /// As `DeleteOptions.propagationPolicy` has it.
    pub fn name(self) -> &'static str {
        match self {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
    }
}

impl Write {
    fn on<T: Object>(object: &T, verb: Verb) -> Self {
        Self::on_metadata(T::resource(), object.metadata(), verb)
    }

    /// Creates `object`, which must have a name.
    pub fn create<T: Object>(object: &T) -> Self {
        let owner = object.controller().map(|owner| owner.uid.clone());
        Self::on(object, Verb::Create { body: whole(object), owner })
    }

    /// Replaces the object if it is still of `object`'s version.
    pub fn update<T: Object>(object: &T) -> Self {
        Self::on(object, Verb::Update { body: whole(object), subresource: None })
    }

    /// Replaces the object's status if it is still of `object`'s version.
    pub fn update_status<T: Object>(object: &T) -> Self {
        let body = text(codec::status_json(object));
        Self::on(object, Verb::Update { body, subresource: Some(Subresource::Status) })
    }

    /// Merges `patch` into the object if its UID is still that of `object`.
    pub fn patch<T: Object, P: Serialize>(object: &T, patch: &P) -> Self {
        Self::on(object, Verb::Patch { body: json(patch), subresource: None })
    }

    /// Merges `patch` into the object's status.
    pub fn patch_status<T: Object, P: Serialize>(object: &T, patch: &P) -> Self {
        Self::on(object, Verb::Patch { body: json(patch), subresource: Some(Subresource::Status) })
    }

    /// Deletes the object if its UID is still that of `object`.
    pub fn delete<T: Object>(object: &T) -> Self {
        let uid = (!object.uid().is_empty()).then(|| object.uid().to_owned());
        Self::on(object, Verb::Delete { uid, resource_version: None, grace_s: None, propagation: None })
    }

    /// Replaces the object's finalizers through its subresource if it is still of `object`'s version.
    pub fn finalize<T: Object>(object: &T) -> Self {
        Self::on(object, Verb::Update { body: whole(object), subresource: Some(Subresource::Finalize) })
    }

    /// Merges `patch` into the metadata of an object of whatever kind. Its UID and version in `patch`, if any, are
    /// preconditions.
    pub fn patch_metadata(resource: &'static Resource, object: &ObjectMeta, patch: &ObjectMeta) -> Self {
        let body = json(&BTreeMap::from([("metadata", patch)]));
        Self::on_metadata(resource, object, Verb::Patch { body, subresource: None })
    }

    /// Deletes an object of whatever kind if its UID is still that of `object`.
    pub fn delete_metadata(resource: &'static Resource, object: &ObjectMeta) -> Self {
        let uid = object.uid.clone();
        Self::on_metadata(
            resource,
            object,
            Verb::Delete { uid, resource_version: None, grace_s: None, propagation: None },
        )
    }

    fn on_metadata(resource: &'static Resource, object: &ObjectMeta, verb: Verb) -> Self {
        let namespace = object.namespace.clone().unwrap_or_default();
        Self { resource, namespace, name: object.name.clone().unwrap_or_default(), verb }
    }

    /// Creates a subresource of the object: a Pod's Binding or Eviction.
    pub fn create_subresource<T: Object, B: Serialize>(object: &T, subresource: Subresource, body: &B) -> Self {
        Self::on(object, Verb::CreateSubresource { body: json(body), subresource })
    }

    /// The same delete with a grace period.
    pub fn with_grace(mut self, seconds: i64) -> Self {
        if let Verb::Delete { grace_s, .. } = &mut self.verb {
            *grace_s = Some(seconds);
        }
        self
    }

    /// The same delete, only if the object is still of this version.
    pub fn with_version(mut self, version: &str) -> Self {
        if let Verb::Delete { resource_version, .. } = &mut self.verb {
            *resource_version = Some(version.to_owned());
        }
        self
    }

    /// The same delete with a propagation policy.
    pub fn with_propagation(mut self, policy: Propagation) -> Self {
        if let Verb::Delete { propagation, .. } = &mut self.verb {
            *propagation = Some(policy);
        }
        self
    }
}

/// The object as the wire has it.
fn whole<T: Object>(object: &T) -> Arc<str> {
    text(codec::json(object))
}

/// A patch, or a subresource's object, as the wire has it.
fn json<T: Serialize>(value: &T) -> Arc<str> {
    text(serde_json::to_vec(value))
}

fn text(json: serde_json::Result<Vec<u8>>) -> Arc<str> {
    // Types of the API and patches made of them have text for keys: that is all that could fail.
    let json = json.expect("an API object has a form in JSON");
    String::from_utf8(json).expect("JSON is text").into()
}

/// As golden tests show it: `create replicasets default/web-1`.
impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, subresource) = match &self.verb {
            Verb::Create { .. } => ("create", None),
            Verb::Update { subresource, .. } => ("update", *subresource),
            Verb::Patch { subresource, .. } => ("patch", *subresource),
            Verb::Delete { .. } => ("delete", None),
            Verb::CreateSubresource { subresource, .. } => ("create", Some(*subresource)),
        };
        write!(f, "{verb} {}", self.resource.plural)?;
        if let Some(subresource) = subresource {
            write!(f, "/{}", subresource.name())?;
        }
        if self.namespace.is_empty() {
            write!(f, " {}", self.name)
        } else {
            write!(f, " {}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} {:?}", self.verb)
    }
}
