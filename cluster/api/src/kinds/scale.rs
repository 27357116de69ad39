//! The `scale` subresource: how many replicas, the same for every kind that has replicas.

use super::meta::selector_text;
use super::replicas::selector_of;
use crate::apps::v1::{Deployment, ReplicaSet};
use crate::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use crate::core::v1::ReplicationController;
use crate::meta::v1::{LabelSelector, ObjectMeta};
use crate::resource::Resource;
use crate::status::{FieldError, Status};
use serde::Deserialize;
use serde_json::Value;

/// What a Scale is in messages; it has no row in the table of resources, since it is not stored.
static SCALE: Resource = Resource {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    plural: "scales",
    singular: "scale",
    short_names: &[],
    categories: &[],
    namespaced: true,
    subresources: &[],
    type_name: "io.k8s.api.autoscaling.v1.Scale",
};

struct Replicas {
    metadata: ObjectMeta,
    wanted: i32,
    present: i32,
    selector: LabelSelector,
}

fn read(resource: &Resource, object: &Value) -> Result<Replicas, Status> {
    let unreadable = |error: serde_json::Error| Status::internal(format_args!("stored object cannot be read: {error}"));
    Ok(match (resource.group, resource.kind) {
        ("apps", "Deployment") => {
            let Deployment { metadata, spec, status } = Deployment::deserialize(object).map_err(unreadable)?;
            let spec = spec.unwrap_or_default();
            let present = status.and_then(|status| status.replicas).unwrap_or_default();
            Replicas { metadata, wanted: spec.replicas.unwrap_or(1), present, selector: spec.selector }
        }
        ("apps", "ReplicaSet") => {
            let ReplicaSet { metadata, spec, status } = ReplicaSet::deserialize(object).map_err(unreadable)?;
            let spec = spec.unwrap_or_default();
            let present = status.map(|status| status.replicas).unwrap_or_default();
            Replicas { metadata, wanted: spec.replicas.unwrap_or(1), present, selector: spec.selector }
        }
        ("", "ReplicationController") => {
            let ReplicationController { metadata, spec, status } =
                ReplicationController::deserialize(object).map_err(unreadable)?;
            let spec = spec.unwrap_or_default();
            let present = status.map(|status| status.replicas).unwrap_or_default();
            let selector = selector_of(spec.selector.as_ref());
            Replicas { metadata, wanted: spec.replicas.unwrap_or(1), present, selector }
        }
        (_, kind) => return Err(Status::internal(format_args!("{kind} has no scale"))),
    })
}

/// The Scale of an object.
///
/// # Errors
/// 500 if the object cannot be read, or has none.
pub fn get(resource: &Resource, object: &Value) -> Result<Value, Status> {
    let replicas = read(resource, object)?;
    let selector = selector_text(Some(&replicas.selector));
    let scale = Scale {
        metadata: ObjectMeta {
            name: replicas.metadata.name,
            namespace: replicas.metadata.namespace,
            uid: replicas.metadata.uid,
            resource_version: replicas.metadata.resource_version,
            creation_timestamp: replicas.metadata.creation_timestamp,
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec { replicas: Some(replicas.wanted) }),
        status: Some(ScaleStatus { replicas: replicas.present, selector: (selector != "<none>").then_some(selector) }),
    };
    serde_json::to_value(scale).map_err(Status::internal)
}

/// Sets an object's replicas, and its version if the Scale names one, so that a change in between is noticed. What comes
/// out goes through `prepare_update` as a change of the object.
///
/// # Errors
/// 400 if the Scale cannot be read or is another object's, 422 if it is wrong, 409 if it is an earlier object's.
pub fn apply(resource: &Resource, scale: &Value, object: &mut Value) -> Result<(), Status> {
    let scale = Scale::deserialize(scale).map_err(|error| {
        Status::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: json: {error}"))
    })?;
    let old = read(resource, object)?;
    let name = old.metadata.name.clone().unwrap_or_default();
    if let Some(other) = scale.metadata.name.as_ref().filter(|other| !other.is_empty() && **other != name) {
        let why = format!("the name of the object ({other}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(why));
    }
    let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or_default();
    if replicas < 0 {
        let wrong = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(&SCALE, &name, &[wrong]));
    }
    if let Some(uid) = scale.metadata.uid.as_ref().filter(|uid| !uid.is_empty())
        && Some(uid) != old.metadata.uid.as_ref()
    {
        mark::sometimes!("scale meant an earlier object of the name");
        let known = old.metadata.uid.unwrap_or_default();
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {known}");
        return Err(Status::conflict(resource, &name, &why));
    }
    if let Some(version) = scale.metadata.resource_version.filter(|version| !version.is_empty()) {
        set(object, "metadata", "resourceVersion", version.into());
    }
    set(object, "spec", "replicas", replicas.into());
    Ok(())
}

fn set(object: &mut Value, part: &str, field: &str, value: Value) {
    let Value::Object(map) = object else { return };
    let part = map.entry(part).or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Value::Object(map) = part {
        map.insert(field.to_owned(), value);
    }
}
