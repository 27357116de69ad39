//! Where the server asks `api` what holds for a kind, and where bodies become objects.

use crate::accept::{BodyForm, PatchForm};
use crate::query::FieldValidation;
pub use api::kinds::Update;
use api::patch::{self, PatchKind};
use api::resource::Subresource;
use api::schema::{self, Type};
use api::selector::Fields;
use api::table::Column;
use api::{Resource, Status, Timestamp, kinds, protobuf, yaml};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of a body: upstream's limit.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

/// The type of `DeleteOptions`.
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// The fields that selectors can name.
pub fn selectable_fields(resource: &'static Resource, object: &Value) -> BTreeMap<&'static str, String> {
    kinds::selectable_fields(resource, object)
}

/// Whether a selector names only fields that there are.
///
/// # Errors
/// 400.
pub fn check_fields(resource: &'static Resource, fields: &Fields) -> Result<(), Status> {
    let mut names = fields.requirements.iter().map(|requirement| &requirement.field);
    names.try_for_each(|name| kinds::check_field(resource, name)).map_err(Status::bad_request)
}

/// The columns of a kind's table.
pub fn columns(resource: &'static Resource) -> &'static [Column] {
    kinds::columns(resource)
}

/// The cells of an object's row.
pub fn row(resource: &'static Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    kinds::row(resource, object, now)
}

/// A new object as it is to be stored.
///
/// # Errors
/// What is wrong with it.
pub fn prepare_create(resource: &'static Resource, object: Value) -> Result<Value, Status> {
    kinds::prepare_create(resource, object)
}

/// A changed object as it is to be stored.
///
/// # Errors
/// What is wrong with it.
pub fn prepare_update(
    resource: &'static Resource,
    new: Value,
    old: &Value,
    subresource: Option<Subresource>,
) -> Result<Value, Status> {
    kinds::prepare_update(resource, new, old, subresource)
}

/// [`prepare_create`], appended to `out` as it is stored.
///
/// # Errors
/// What is wrong with it.
pub fn create_document(resource: &'static Resource, object: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    kinds::create_document(resource, object, out)
}

/// [`prepare_update`], appended to `out` as it is stored; and whether nothing holds the object any more.
///
/// # Errors
/// What is wrong with it.
pub fn update_document(resource: &'static Resource, update: &Update<'_>, out: &mut Vec<u8>) -> Result<bool, Status> {
    kinds::update_document(resource, update, out)
}

/// The paths of all fields that selectors can name.
pub fn selectable_paths(resource: &'static Resource) -> impl Iterator<Item = &'static str> {
    kinds::selectable_paths(resource)
}

/// Whether an update of what is not there creates it.
pub fn allows_create_on_update(resource: &'static Resource) -> bool {
    kinds::allows_create_on_update(resource)
}

/// Whether an update need not name the version that it is of.
pub fn allows_unconditional_update(resource: &'static Resource) -> bool {
    kinds::allows_unconditional_update(resource)
}

/// A pod that is bound as a Binding says.
///
/// # Errors
/// 409 if it cannot be bound, 422 if the Binding is wrong.
pub fn bind(resource: &'static Resource, pod: &Value, binding: &Value, now: Timestamp) -> Result<Value, Status> {
    kinds::bind(resource, pod, binding, now)
}

/// The Scale of an object.
///
/// # Errors
/// 500: the object cannot be read.
pub fn scale(resource: &'static Resource, object: &Value) -> Result<Value, Status> {
    kinds::scale::get(resource, object)
}

/// An object with the replicas and the version of a Scale, still to be prepared as an update.
///
/// # Errors
/// What is wrong with the Scale.
pub fn apply_scale(resource: &'static Resource, object: &Value, scale: &Value) -> Result<Value, Status> {
    let mut scaled = object.clone();
    kinds::scale::apply(resource, scale, &mut scaled)?;
    Ok(scaled)
}

/// What a body is expected to be.
#[derive(Clone, Debug)]
pub struct Expected {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    type_name: &'static str,
}

impl Expected {
    /// A Pod's Binding.
    pub const BINDING: Self =
        Self { group: "", version: "v1", kind: "Binding", type_name: "io.k8s.api.core.v1.Binding" };
    /// A Pod's Eviction.
    pub const EVICTION: Self =
        Self { group: "policy", version: "v1", kind: "Eviction", type_name: "io.k8s.api.policy.v1.Eviction" };
    /// A Scale.
    pub const SCALE: Self =
        Self { group: "autoscaling", version: "v1", kind: "Scale", type_name: "io.k8s.api.autoscaling.v1.Scale" };

    /// An object of a resource.
    pub fn object(resource: &'static Resource) -> Self {
        let Resource { group, version, kind, type_name, .. } = *resource;
        Self { group, version, kind, type_name }
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    fn cannot_be_handled(&self, why: &str) -> Status {
        let Self { kind, version, .. } = self;
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    }

    fn check_object(&self, value: &Value) -> Result<(), Status> {
        let none = |form: &str| {
            let why = format!("json: cannot unmarshal {form} into Go value of type {}.{}", self.version, self.kind);
            Err(self.cannot_be_handled(&why))
        };
        match value {
            Value::Object(_) => Ok(()),
            Value::Null => none("null"),
            Value::Bool(_) => none("bool"),
            Value::Number(_) => none("number"),
            Value::String(_) => none("string"),
            Value::Array(_) => none("array"),
        }
    }

    /// An object, and what was wrong with it already and is now besides.
    fn decode(&self, mut value: Value, mut wrong: Vec<String>) -> Result<(Value, Vec<String>), Status> {
        self.check_object(&value)?;
        self.check_type(&mut value)?;
        let decoded =
            schema::decode(find_type(self.type_name)?, value).map_err(|error| self.cannot_be_handled(&error.0))?;
        wrong.extend(decoded.unknown);
        Ok((decoded.value, wrong))
    }

    /// Fills in the type that a body leaves out, and refuses another one.
    fn check_type(&self, object: &mut Value) -> Result<(), Status> {
        let expected = self.api_version();
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if !api_version.is_empty() && api_version != expected {
            return Err(Status::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected})"
            )));
        }
        if !kind.is_empty() && kind != self.kind {
            let Self { version, kind: wanted, .. } = self;
            return Err(Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {wanted}")));
        }
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".to_owned(), expected.into());
            map.insert("kind".to_owned(), self.kind.into());
        }
        Ok(())
    }
}

/// A body as an object, and what the client is to be warned of.
///
/// # Errors
/// 400 if it cannot be read, or is of another kind; 413 if it is too large.
pub fn decode(
    form: BodyForm,
    body: &[u8],
    expected: &Expected,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let ty = find_type(expected.type_name)?;
    let (mut object, wrong) = match form {
        BodyForm::Protobuf => {
            let opened = protobuf::open(body).and_then(|envelope| protobuf::decode_object(ty, &envelope));
            (opened.map_err(|error| expected.cannot_be_handled(&error.to_string()))?, Vec::new())
        }
        BodyForm::Json => {
            if body.len() <= MAX_BODY_BYTES
                && let Some(mut object) = schema::decode_plain(ty, body)
            {
                expected.check_type(&mut object)?;
                return Ok((object, Vec::new()));
            }
            let (value, duplicates) = schema::strict_parse(body, MAX_BODY_BYTES)?;
            expected.decode(value, duplicates)?
        }
        BodyForm::Yaml => {
            let (value, duplicates) = yaml::parse(body, MAX_BODY_BYTES)?;
            expected.decode(value, duplicates.into_iter().collect())?
        }
    };
    expected.check_type(&mut object)?;
    match validation {
        FieldValidation::Strict if !wrong.is_empty() => {
            Err(expected.cannot_be_handled(&format!("strict decoding error: {}", wrong.join(", "))))
        }
        FieldValidation::Warn => Ok((object, wrong)),
        FieldValidation::Strict | FieldValidation::Ignore => Ok((object, Vec::new())),
    }
}

/// A body as `DeleteOptions`.
///
/// # Errors
/// As of [`decode`].
pub fn decode_delete_options(form: BodyForm, body: &[u8]) -> Result<Value, Status> {
    let expected = Expected { group: "", version: "v1", kind: "DeleteOptions", type_name: DELETE_OPTIONS };
    let ty = find_type(DELETE_OPTIONS)?;
    let value = match form {
        BodyForm::Protobuf => {
            let opened = protobuf::open(body).and_then(|envelope| protobuf::decode_object(ty, &envelope));
            return opened.map_err(|error| expected.cannot_be_handled(&error.to_string()));
        }
        BodyForm::Json => {
            if body.len() <= MAX_BODY_BYTES
                && let Some(object) = schema::decode_plain(ty, body)
            {
                return Ok(object);
            }
            schema::strict_parse(body, MAX_BODY_BYTES)?.0
        }
        BodyForm::Yaml => yaml::parse(body, MAX_BODY_BYTES)?.0,
    };
    expected.check_object(&value)?;
    // Its group is that of any resource.
    let decoded = schema::decode(ty, value).map_err(|error| expected.cannot_be_handled(&error.0))?;
    Ok(decoded.value)
}

/// A patch, and what the client is to be warned of.
///
/// # Errors
/// 400 if it is no JSON.
pub fn decode_patch(body: &[u8], validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
    let (patch, duplicates) = schema::strict_parse(body, MAX_BODY_BYTES)?;
    match validation {
        FieldValidation::Strict if !duplicates.is_empty() => {
            Err(Status::bad_request(format!("strict decoding error: {}", duplicates.join(", "))))
        }
        FieldValidation::Warn => Ok((patch, duplicates)),
        FieldValidation::Strict | FieldValidation::Ignore => Ok((patch, Vec::new())),
    }
}

/// An object with a patch applied.
///
/// # Errors
/// 400 and 422.
pub fn patch(form: PatchForm, resource: &'static Resource, object: Value, patch: &Value) -> Result<Value, Status> {
    let ty = find_type(resource.type_name)?;
    let mut patched = patch::apply(kind_of(form), ty, object, patch.clone(), MAX_BODY_BYTES)?;
    let expected = Expected::object(resource);
    expected.check_object(&patched)?;
    expected.check_type(&mut patched)?;
    Ok(patched)
}

/// An object that was patched as it is decoded, and the fields that nobody knows.
///
/// # Errors
/// 400 if a field has a value of the wrong type.
pub fn decode_patched(resource: &'static Resource, object: Value) -> Result<(Value, Vec<String>), Status> {
    let ty = find_type(resource.type_name)?;
    let decoded = schema::decode(ty, object).map_err(|error| Expected::object(resource).cannot_be_handled(&error.0))?;
    Ok((decoded.value, decoded.unknown))
}

/// A Scale with a patch applied.
///
/// # Errors
/// 400 and 422.
pub fn patch_scale(form: PatchForm, scale: Value, patch: &Value) -> Result<Value, Status> {
    patch::apply(kind_of(form), find_type(Expected::SCALE.type_name)?, scale, patch.clone(), MAX_BODY_BYTES)
}

fn kind_of(form: PatchForm) -> PatchKind {
    match form {
        PatchForm::Json => PatchKind::Json,
        PatchForm::Merge => PatchKind::Merge,
        PatchForm::Strategic => PatchKind::Strategic,
    }
}

fn find_type(name: &str) -> Result<&'static Type, Status> {
    schema::find(name).ok_or_else(|| Status::internal(format!("nothing is known of the type {name}")))
}

/// 413, with upstream's words.
pub fn too_large() -> Status {
    Status::new(413, "RequestEntityTooLarge", format!("Request entity is too large: limit is {MAX_BODY_BYTES}"))
}
