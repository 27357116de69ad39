//! What depends on the type of an object, kind by kind: how it is read and written.
//!
//! serde makes of every type some thousands of lines of machine code, again in each crate that names it. This table keeps
//! them in here: typed functions find their row in it and stay thin.
//!
//! **Invariant:** every resource has a row (`every_resource_has_a_codec`).

use crate::cache::{Kind, Store};
use crate::client::List;
use crate::error::Error;
use crate::held::{Erased, hold};
use crate::watch::{self, WatchEvent, revision_of};
use api::meta::v1::ListMeta;
use api::{Object, ObjectExt, Resource};
use mark::sometimes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::sync::Arc;

/// What can be done with objects of one kind without knowing their type.
pub(crate) struct Codec {
    of: TypeId,
    /// As in messages.
    pub(crate) kind: &'static str,
    /// The row of the table of resources.
    pub(crate) resource: fn() -> &'static Resource,
    /// An object from its JSON.
    pub(crate) object: fn(&[u8]) -> Result<Erased, Error>,
    /// A list, or a page of it, from its JSON.
    pub(crate) list: fn(&[u8]) -> Result<List<Erased>, Error>,
    /// What a line of a watch tells.
    pub(crate) event: fn(&[u8]) -> Result<WatchEvent<Erased>, Error>,
    /// The JSON of an object, given as the `T` that it is.
    json: fn(&dyn Any) -> serde_json::Result<Vec<u8>>,
    /// The same without its spec.
    status_json: fn(&dyn Any) -> serde_json::Result<Vec<u8>>,
    /// A store of no objects yet.
    pub(crate) store: fn() -> Arc<dyn Kind>,
}

impl Codec {
    const fn new<T: Object>() -> Self {
        Self {
            of: TypeId::of::<T>(),
            kind: T::KIND,
            resource: T::resource,
            object: |body| parse::<T>(body).map(hold),
            list: |body| list::<T>(body).map(|list| list.map(hold)),
            event: |line| watch::decode::<T>(line).map(|event| event.map(hold)),
            json: |object| serde_json::to_vec(object.downcast_ref::<T>().expect("a codec is used for its own type")),
            status_json: |object| {
                let object = object.downcast_ref::<T>().expect("a codec is used for its own type");
                let mut json = Vec::with_capacity(2048);
                api::document::write(object, "spec", &mut json).map(|()| json)
            },
            store: || Arc::new(Store::<T>::default()),
        }
    }
}

macro_rules! codecs {
    ($($kind:ty),* $(,)?) => { &[$(Codec::new::<$kind>()),*] };
}

/// Every kind, in the order of [`api::resource::RESOURCES`].
static CODECS: &[Codec] = codecs![
    api::core::v1::ConfigMap,
    api::core::v1::Endpoints,
    api::core::v1::Event,
    api::core::v1::Namespace,
    api::core::v1::Node,
    api::core::v1::Pod,
    api::core::v1::ReplicationController,
    api::core::v1::Secret,
    api::core::v1::ServiceAccount,
    api::core::v1::Service,
    api::apps::v1::Deployment,
    api::apps::v1::ReplicaSet,
    api::coordination::v1::Lease,
    api::discovery::v1::EndpointSlice,
    api::networking::v1::IPAddress,
    api::policy::v1::PodDisruptionBudget,
    api::scheduling::v1::PriorityClass,
];

/// The row of a type. Panics for a type that the table lacks, as [`api::resource::of`] does.
pub(crate) fn of<T: Object>() -> &'static Codec {
    find(TypeId::of::<T>(), T::KIND)
}

fn find(of: TypeId, kind: &'static str) -> &'static Codec {
    CODECS.iter().find(|codec| codec.of == of).unwrap_or_else(|| panic!("{kind} is not in the table of codecs"))
}

/// The JSON of an object.
pub(crate) fn json<T: Object>(object: &T) -> serde_json::Result<Vec<u8>> {
    (of::<T>().json)(object)
}

/// The JSON of an object as an update of its status has it: the API server takes the spec from what is stored, so that it
/// need not be sent.
pub(crate) fn status_json<T: Object>(object: &T) -> serde_json::Result<Vec<u8>> {
    (of::<T>().status_json)(object)
}

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Malformed(error.to_string()))
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct WireList<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

/// A list from its body. Objects that cannot be read are left out: one bad object must not hide all others.
fn list<T: Object>(body: &[u8]) -> Result<List<T>, Error> {
    let list = match serde_json::from_slice::<WireList<T>>(body) {
        Ok(list) => list,
        Err(error) => {
            let WireList { metadata, items } = one_by_one(body, &error, T::KIND)?;
            WireList { metadata, items: items.iter().filter_map(|item| serde_json::from_slice(item).ok()).collect() }
        }
    };
    let resource_version = revision_of(list.metadata.resource_version.as_deref().unwrap_or_default());
    let continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
    Ok(List { items: list.items, resource_version, continue_token })
}

/// A list whose objects are not all of their kind, each as JSON again, so that there is but one way to read a type.
fn one_by_one(body: &[u8], error: &serde_json::Error, kind: &str) -> Result<WireList<Vec<u8>>, Error> {
    let list: WireList<serde_json::Value> = parse(body)?;
    sometimes!("object in a list could not be read");
    tracing::warn!(%error, kind, "objects that cannot be read are left out");
    let items = list.items.into_iter().map(|item| item.to_string().into_bytes()).collect();
    Ok(WireList { metadata: list.metadata, items })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_a_codec() {
        let resources: Vec<&Resource> = api::resource::RESOURCES.iter().collect();
        let codecs: Vec<&Resource> = CODECS.iter().map(|codec| (codec.resource)()).collect();
        assert_eq!(codecs, resources);
    }
}
