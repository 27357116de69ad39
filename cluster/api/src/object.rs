//! What every object has: its identity and its metadata, read without spelling out options.

use crate::Timestamp;
use crate::core::v1::Node;
use crate::meta::v1::{ObjectMeta, OwnerReference, Time};
use crate::resource::{self, Resource};
use k8s_openapi::Metadata;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// A Kubernetes object of a type known when this was built. Implemented for every type of k8s-openapi that has metadata.
pub trait Object: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Object for T {}

/// Metadata without options: what is absent reads as empty.
pub trait ObjectExt: Object {
    /// The row of the table of resources. Panics for a type that the table lacks: that is a mistake of the caller's code.
    fn resource() -> &'static Resource {
        resource::of::<Self>()
    }
    /// Its name; empty before a create chose one.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }
    /// Its namespace; empty for a cluster-scoped object.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }
    /// Its UID; empty before it was created.
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }
    /// Its version, as the API server writes it.
    fn resource_version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }
    /// How often its spec was changed, from 1.
    fn generation(&self) -> i64 {
        self.metadata().generation.unwrap_or_default()
    }
    /// Its labels.
    fn labels(&self) -> &BTreeMap<String, String> {
        self.metadata().labels.as_ref().unwrap_or(&EMPTY)
    }
    /// Its annotations.
    fn annotations(&self) -> &BTreeMap<String, String> {
        self.metadata().annotations.as_ref().unwrap_or(&EMPTY)
    }
    /// Its owners.
    fn owners(&self) -> &[OwnerReference] {
        self.metadata().owner_references.as_deref().unwrap_or_default()
    }
    /// The one owner that controls it.
    fn controller(&self) -> Option<&OwnerReference> {
        self.owners().iter().find(|owner| owner.controller == Some(true))
    }
    /// Whether its deletion was asked for.
    fn is_terminating(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
    /// When it was created; the epoch before it was.
    fn created(&self) -> Timestamp {
        self.metadata().creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    }
    /// A reference to it as an owner that controls, as upstream's `NewControllerRef`.
    fn controller_ref(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::API_VERSION.to_owned(),
            kind: Self::KIND.to_owned(),
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

impl<T: Object> ObjectExt for T {}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

/// Whether a node says that it is ready, and nobody has said otherwise of it since.
pub fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True")
}

/// `timestamp` cut to whole seconds, as `metav1.Time` is stored.
pub fn seconds(timestamp: Timestamp) -> Time {
    Time(Timestamp::from_second(timestamp.as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::v1::{ConfigMap, Pod};

    #[test]
    fn what_is_absent_reads_as_empty() {
        let pod = Pod::default();
        assert_eq!(
            (pod.name(), pod.namespace(), pod.uid(), pod.resource_version(), pod.generation()),
            ("", "", "", "", 0)
        );
        assert!(pod.labels().is_empty() && pod.annotations().is_empty() && pod.owners().is_empty());
        assert!(pod.controller().is_none() && !pod.is_terminating());
        assert_eq!(pod.created(), Timestamp::UNIX_EPOCH);
        assert_eq!(Pod::resource().plural, "pods");
    }

    #[test]
    fn one_owner_controls() {
        let mut map = ConfigMap::default();
        map.metadata.name = Some("a".to_owned());
        map.metadata.uid = Some("u".to_owned());
        let controls = map.controller_ref();
        let owns = OwnerReference { controller: None, uid: "v".to_owned(), ..controls.clone() };
        let mut pod = Pod::default();
        pod.metadata.owner_references = Some(vec![owns, controls.clone()]);
        assert_eq!(pod.controller(), Some(&controls));
        assert_eq!((controls.api_version.as_str(), controls.kind.as_str()), ("v1", "ConfigMap"));
        assert_eq!((controls.name.as_str(), controls.block_owner_deletion), ("a", Some(true)));
    }

    #[test]
    fn times_are_kept_in_whole_seconds() {
        let time: Timestamp = "2024-01-01T00:00:01.9Z".parse().expect("a time");
        assert_eq!(seconds(time).0.to_string(), "2024-01-01T00:00:01Z");
    }
}
