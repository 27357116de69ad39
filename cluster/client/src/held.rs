//! Objects whose type only their user knows: what lists, watches, caches and changes pass on.
//!
//! Nothing between the API server's answer and a typed accessor depends on the type. So that code, all that is
//! asynchronous above all, is compiled once in here, and not again for every kind in every crate that uses it.

use api::meta::v1::OwnerReference;
use api::{Object, ObjectMeta};
use std::any::Any;
use std::sync::Arc;

/// An `Arc<T>` of an object of some kind.
pub(crate) trait Held: Any + Send + Sync {
    /// The `Arc<T>`.
    fn any(&self) -> &dyn Any;
    fn metadata(&self) -> &ObjectMeta;
}

impl<T: Object> Held for Arc<T> {
    fn any(&self) -> &dyn Any {
        self
    }
    fn metadata(&self) -> &ObjectMeta {
        (**self).metadata()
    }
}

/// What `api::ObjectExt` is to objects of a known type.
impl dyn Held {
    pub(crate) fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }

    pub(crate) fn owners(&self) -> &[OwnerReference] {
        self.metadata().owner_references.as_deref().unwrap_or_default()
    }

    pub(crate) fn controller(&self) -> Option<&OwnerReference> {
        self.owners().iter().find(|owner| owner.controller == Some(true))
    }
}

/// An object whose type only its user knows.
pub(crate) type Erased = Arc<dyn Held>;

/// Forgets the type of an object.
pub(crate) fn hold<T: Object>(object: T) -> Erased {
    Arc::new(Arc::new(object))
}

/// The object again; `None` if it is of another kind.
pub(crate) fn typed<T: Object>(held: &dyn Held) -> Option<&Arc<T>> {
    held.any().downcast_ref()
}

/// The object itself, which nobody else has yet.
pub(crate) fn take<T: Object>(held: Erased) -> T {
    let any: Arc<dyn Any + Send + Sync> = held;
    let object = any.downcast::<Arc<T>>().ok().and_then(Arc::into_inner).and_then(Arc::into_inner);
    object.expect("a codec reads objects of its own type, and only its caller has them")
}
