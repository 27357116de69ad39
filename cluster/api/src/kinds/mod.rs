//! What is particular to each kind: defaults, the strategy of create and update, validation, columns, fields that can be
//! selected, scale.
//!
//! ```text
//! Value ──▶ typed ──▶ defaults ──▶ strategy (status reset or kept, generation) ──▶ validation ──▶ Value
//!            └ 400                                                                  └ 422
//! ```
//!
//! A kind with something particular implements [`Kind`] and has a row in `ROWS`; one without needs nothing here: it gets the
//! rules of metadata, and those of status and generation if it has a `status` subresource.
//!
//! Not done here, since it needs a server: names from `generateName`, UIDs, times of creation, versions, cluster IPs and
//! node ports, whether the namespace exists, admission.
//!
//! **Invariant:** filling in defaults twice is filling them in once (`defaults_are_idempotent`).

mod amounts;
mod config;
mod deployment;
mod endpoints;
mod errors;
mod event;
mod fields;
mod lease;
mod meta;
mod namespace;
mod node;
mod pod;
mod policy;
mod replicas;
pub mod scale;
mod service;
#[cfg(test)]
mod tests;

pub use fields::{check_field, field, selectable_fields, selectable_paths};
pub use pod::bind;
pub use service::{NODE_PORTS, node_port_out_of_range};

use crate::meta::v1::ObjectMeta;
use crate::resource::{Resource, Subresource};
use crate::schema;
use crate::status::Status;
use crate::table::{Column, age};
use crate::{
    Object, ObjectExt, QuantityText, Timestamp, apps, coordination, core, discovery, names, networking, policy as pdb,
    scheduling,
};
use errors::Errors;
use fields::Field;
use meta::NameCheck;
use serde::Serialize;
use serde_json::{Map, Value};

/// The column of ages.
const AGE: Column = Column::new("Age", "string", "Time since the object was created.");

/// Columns of a kind that says nothing of them.
const PLAIN_COLUMNS: &[Column] = &[Column::names(), AGE];

/// What is particular to a kind. Every default is what a kind without peculiarities has.
pub(crate) trait Kind: Object {
    /// Form of its names.
    const NAME: NameCheck = names::dns1123_subdomain;
    /// Columns of its table.
    const COLUMNS: &'static [Column] = PLAIN_COLUMNS;
    /// Fields that can be selected, besides those of metadata.
    const FIELDS: &'static [Field] = &[];

    /// Shows every quantity in it, so that all are read once and written as upstream writes them.
    fn quantities(&mut self, _visit: &mut dyn FnMut(&mut QuantityText)) {}
    /// Fills in what the user left out. Idempotent.
    fn fill(&mut self) {}
    /// Strategy of a create.
    fn on_create(&mut self) {}
    /// Strategy of an update of the object itself.
    fn on_update(&mut self, _old: &Self) {}
    /// Strategy of an update of `status`.
    fn on_status(&mut self, _old: &Self) {}
    /// Strategy of an update of `finalize`.
    fn on_finalize(&mut self, _old: &Self) {}
    /// What is wrong with it, besides metadata.
    fn validate(&self, _errors: &mut Errors) {}
    /// What is wrong with it as an update, besides metadata.
    fn validate_update(&self, _old: &Self, errors: &mut Errors) {
        self.validate(errors);
    }
    /// What is wrong with it as an update of `status`, besides metadata.
    fn validate_status(&self, _old: &Self, _errors: &mut Errors) {}
    /// Cells of its row, in the order of the columns.
    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![self.name().into(), self.age(now)]
    }
    /// Its age as a cell.
    fn age(&self, now: Timestamp) -> Value {
        age(self.metadata().creation_timestamp.as_ref().map(|time| time.0), now).into()
    }
}

struct Row {
    group: &'static str,
    kind: &'static str,
    create: fn(&'static Resource, Value) -> Result<Value, Status>,
    update: fn(&'static Resource, Value, &Value, Option<Subresource>) -> Result<Value, Status>,
    create_stored: fn(&'static Resource, &Value, &mut Vec<u8>) -> Result<(), Status>,
    update_stored: fn(&'static Resource, &Update<'_>, &mut Vec<u8>) -> Result<bool, Status>,
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Option<Vec<Value>>,
    fields: &'static [Field],
}

const fn entry<T: Kind>() -> Row {
    Row {
        group: T::GROUP,
        kind: T::KIND,
        create: create::<T>,
        update: update::<T>,
        create_stored: create_stored::<T>,
        update_stored: update_stored::<T>,
        columns: T::COLUMNS,
        cells: cells::<T>,
        fields: T::FIELDS,
    }
}

/// The kinds that have something particular.
static ROWS: &[Row] = &[
    entry::<core::v1::ConfigMap>(),
    entry::<core::v1::Endpoints>(),
    entry::<core::v1::Event>(),
    entry::<core::v1::Namespace>(),
    entry::<core::v1::Node>(),
    entry::<core::v1::Pod>(),
    entry::<core::v1::ReplicationController>(),
    entry::<core::v1::Secret>(),
    entry::<core::v1::Service>(),
    entry::<core::v1::ServiceAccount>(),
    entry::<apps::v1::Deployment>(),
    entry::<apps::v1::ReplicaSet>(),
    entry::<coordination::v1::Lease>(),
    entry::<discovery::v1::EndpointSlice>(),
    entry::<networking::v1::IPAddress>(),
    entry::<pdb::v1::PodDisruptionBudget>(),
    entry::<scheduling::v1::PriorityClass>(),
];

fn find(resource: &Resource) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.kind == resource.kind && row.group == resource.group)
}

/// A new object as it is to be stored: defaults filled in, status reset, checked. The caller has chosen its name, and adds
/// what only the server knows. The body has been through [`schema::decode`]: what is zero and what is absent is the same
/// already, and messages on wrong types are better there.
///
/// # Errors
/// 400 if the body cannot be read as the kind, 422 with what is wrong with it; either is the user's mistake.
pub fn prepare_create(resource: &'static Resource, object: Value) -> Result<Value, Status> {
    match find(resource) {
        Some(row) => (row.create)(resource, object),
        None => create_plain(resource, object),
    }
}

/// A changed object as it is to be stored: what the caller may not change is taken from `old`, generation counted, the
/// change checked. `subresource` is what the caller addressed. A change of `scale` is one of the object itself.
///
/// # Errors
/// 400 if the body cannot be read as the kind, 422 with what is wrong with the change, 500 if `old` cannot be read.
pub fn prepare_update(
    resource: &'static Resource,
    new: Value,
    old: &Value,
    subresource: Option<Subresource>,
) -> Result<Value, Status> {
    match find(resource) {
        Some(row) => (row.update)(resource, new, old, subresource),
        None => update_plain(resource, new, old, subresource),
    }
}

/// [`prepare_create`], appended to `out` as JSON: the type first, then the metadata without a version, then the rest.
///
/// # Errors
/// As of [`prepare_create`].
pub fn create_document(resource: &'static Resource, object: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    let Some(row) = find(resource) else { return Err(Status::internal("nothing is known of the kind")) };
    (row.create_stored)(resource, object, out)
}

/// An update of an object that is at hand as JSON.
pub struct Update<'a> {
    /// As it is to be.
    pub new: &'a Value,
    /// As it is: JSON.
    pub old: &'a [u8],
    /// What the caller addressed.
    pub subresource: Option<Subresource>,
    /// What must hold of the metadata that it has, before anything else is looked at.
    pub check: &'a dyn Fn(&ObjectMeta) -> Result<(), Status>,
}

/// [`prepare_update`], appended to `out` as JSON: the type first, then the metadata without a version, then the rest. Says
/// whether the object is being deleted and nothing in its metadata holds it.
///
/// # Errors
/// As of [`prepare_update`], and those of the check.
pub fn update_document(resource: &'static Resource, update: &Update<'_>, out: &mut Vec<u8>) -> Result<bool, Status> {
    let Some(row) = find(resource) else { return Err(Status::internal("nothing is known of the kind")) };
    (row.update_stored)(resource, update, out)
}

/// Columns of the resource's table; those of priority 1 are for `-o wide`.
pub fn columns(resource: &Resource) -> &'static [Column] {
    find(resource).map_or(PLAIN_COLUMNS, |row| row.columns)
}

/// Cells of an object's row, in the order of [`columns`]. An object that cannot be read shows its name alone.
pub fn row(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let cells = find(resource).and_then(|row| (row.cells)(object, now));
    cells.unwrap_or_else(|| {
        let meta = ObjectMeta::deserialize_from(object).unwrap_or_default();
        let mut cells = vec![Value::from(meta.name.unwrap_or_default())];
        let created = meta.creation_timestamp.map(|time| time.0);
        for column in &columns(resource)[1..] {
            cells.push(if column.name == AGE.name { age(created, now).into() } else { "<unknown>".into() });
        }
        cells
    })
}

/// Whether an update of what is not there creates it.
pub fn allows_create_on_update(resource: &Resource) -> bool {
    matches!(
        (resource.group, resource.kind),
        ("", "Endpoints" | "Event" | "Service") | ("coordination.k8s.io", "Lease")
    )
}

/// Whether an update without `resourceVersion` overwrites whatever is there.
pub fn allows_unconditional_update(resource: &Resource) -> bool {
    !matches!((resource.group, resource.kind), ("coordination.k8s.io", "Lease") | ("policy", "PodDisruptionBudget"))
}

fn create<T: Kind>(resource: &'static Resource, object: Value) -> Result<Value, Status> {
    let object: T = created(resource, &object)?;
    serde_json::to_value(object).map_err(Status::internal)
}

fn create_stored<T: Kind>(resource: &'static Resource, object: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    let object: T = created(resource, object)?;
    write(object, out)
}

fn created<T: Kind>(resource: &'static Resource, object: &Value) -> Result<T, Status> {
    let mut object: T = read(resource, object)?;
    meta::before_create(object.metadata_mut());
    object.on_create();
    let mut errors = Errors::default();
    meta::validate(object.metadata(), resource, T::NAME, &mut errors);
    object.validate(&mut errors);
    checked(resource, object, errors)
}

fn update<T: Kind>(
    resource: &'static Resource,
    new: Value,
    old: &Value,
    subresource: Option<Subresource>,
) -> Result<Value, Status> {
    let new: T = read(resource, &new)?;
    let old = T::deserialize(old).map_err(|error| unreadable(resource, &error))?;
    let object = updated(resource, new, old, subresource)?;
    serde_json::to_value(object).map_err(Status::internal)
}

fn update_stored<T: Kind>(resource: &'static Resource, update: &Update<'_>, out: &mut Vec<u8>) -> Result<bool, Status> {
    let old: T = serde_json::from_slice(update.old).map_err(|error| unreadable(resource, &error))?;
    (update.check)(old.metadata())?;
    let mut new: T = read(resource, update.new)?;
    new.metadata_mut().managed_fields = None;
    let object = updated(resource, new, old, update.subresource)?;
    let meta = object.metadata();
    let released = meta.deletion_timestamp.is_some()
        && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
        && meta.deletion_grace_period_seconds.unwrap_or_default() == 0;
    write(object, out)?;
    Ok(released)
}

fn updated<T: Kind>(
    resource: &'static Resource,
    mut new: T,
    mut old: T,
    subresource: Option<Subresource>,
) -> Result<T, Status> {
    old.fill();
    meta::before_update(new.metadata_mut(), old.metadata());
    match subresource {
        None | Some(Subresource::Scale) => new.on_update(&old),
        Some(Subresource::Status) => new.on_status(&old),
        Some(Subresource::Finalize) => new.on_finalize(&old),
        // What is created below an object is no object of this kind, and has functions of its own.
        Some(Subresource::Binding | Subresource::Eviction) => {}
    }
    let mut errors = Errors::default();
    meta::validate_update(new.metadata(), old.metadata(), &mut errors);
    match subresource {
        None | Some(Subresource::Scale) => new.validate_update(&old, &mut errors),
        Some(Subresource::Status) => new.validate_status(&old, &mut errors),
        Some(Subresource::Finalize) => new.validate(&mut errors),
        Some(Subresource::Binding | Subresource::Eviction) => {}
    }
    checked(resource, new, errors)
}

fn cells<T: Kind>(object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    T::deserialize(object).ok().map(|object| object.cells(now))
}

/// Reads a body, its quantities too, and fills in what it leaves out. Borrowed, always: code that reads a whole kind from
/// yet another form takes a third longer to compile.
fn read<T: Kind>(resource: &Resource, object: &Value) -> Result<T, Status> {
    let mut object = T::deserialize(object).map_err(|error| misread(resource, &error.to_string()))?;
    let mut wrong = None;
    object.quantities(&mut |text| match crate::quantity::Quantity::parse(&text.0) {
        Ok(quantity) => *text = quantity.to_text(),
        Err(error) => wrong = Some(error),
    });
    if let Some(error) = wrong {
        return Err(cannot_handle(resource, &error.to_string()));
    }
    object.fill();
    Ok(object)
}

/// An object of which nothing is wrong.
fn checked<T: Kind>(resource: &Resource, object: T, errors: Errors) -> Result<T, Status> {
    let errors = errors.into_vec();
    if errors.is_empty() { Ok(object) } else { Err(Status::invalid(resource, object.name(), &errors)) }
}

/// Appends an object as a document without its version.
fn write<T: Kind>(mut object: T, out: &mut Vec<u8>) -> Result<(), Status> {
    object.metadata_mut().resource_version = None;
    crate::document::write(&object, "", out).map_err(Status::internal)
}

fn unreadable(resource: &Resource, error: &serde_json::Error) -> Status {
    Status::internal(format_args!("stored {} cannot be read: {error}", resource.kind))
}

fn cannot_handle(resource: &Resource, why: &str) -> Status {
    let Resource { kind, version, .. } = resource;
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

/// Says in Go's words what serde found: `invalid type: string "a", expected i32`.
fn misread(resource: &Resource, error: &str) -> Status {
    let words = error.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "));
    let Some((found, expected)) = words else { return cannot_handle(resource, &format!("json: {error}")) };
    let found = match found.split_whitespace().next().unwrap_or_default() {
        "integer" | "floating" | "number" => "number",
        "boolean" => "bool",
        "sequence" => "array",
        "map" => "object",
        other => other,
    };
    let expected = match expected {
        "i32" => "int32",
        "i64" => "int64",
        "a boolean" => "bool",
        "a string" => "string",
        "a map" => "map[string]string",
        "a sequence" => "[]",
        other => other,
    };
    let expected = expected.strip_prefix("struct ").unwrap_or(expected);
    cannot_handle(resource, &format!("json: cannot unmarshal {found} into Go value of type {expected}"))
}

trait DeserializeFrom: Sized {
    fn deserialize_from(object: &Value) -> Result<Self, serde_json::Error>;
}

impl DeserializeFrom for ObjectMeta {
    fn deserialize_from(object: &Value) -> Result<Self, serde_json::Error> {
        object.get("metadata").map_or_else(|| Ok(ObjectMeta::default()), serde::Deserialize::deserialize)
    }
}

/// Whether the resource tells what is wanted from what is.
fn has_status(resource: &Resource) -> bool {
    resource.subresources.contains(&Subresource::Status)
}

fn create_plain(resource: &'static Resource, object: Value) -> Result<Value, Status> {
    let mut map = object_map(resource, object)?;
    let mut metadata = plain_metadata(resource, &map)?;
    meta::before_create(&mut metadata);
    if has_status(resource) {
        metadata.generation = Some(1);
        map.remove("status");
    }
    let mut errors = Errors::default();
    meta::validate(&metadata, resource, names::dns1123_subdomain, &mut errors);
    write_plain(resource, map, &metadata, errors)
}

fn update_plain(
    resource: &'static Resource,
    new: Value,
    old: &Value,
    subresource: Option<Subresource>,
) -> Result<Value, Status> {
    let mut map = object_map(resource, new)?;
    let mut metadata = plain_metadata(resource, &map)?;
    let old_metadata = ObjectMeta::deserialize_from(old).map_err(|error| unreadable(resource, &error))?;
    meta::before_update(&mut metadata, &old_metadata);
    if has_status(resource) {
        let status = if subresource == Some(Subresource::Status) { map.get("status") } else { old.get("status") };
        let status = status.cloned();
        if subresource == Some(Subresource::Status) {
            map = old.as_object().cloned().unwrap_or_default();
            metadata = ObjectMeta { resource_version: metadata.resource_version, ..old_metadata.clone() };
        }
        map.remove("status");
        let unchanged = map.iter().all(|(key, value)| key == "metadata" || old.get(key) == Some(value))
            && old.as_object().into_iter().flatten().all(|(key, _)| key == "status" || map.contains_key(key));
        if !unchanged {
            metadata.generation = Some(old_metadata.generation.unwrap_or_default() + 1);
        }
        if let Some(status) = status {
            map.insert("status".to_owned(), status);
        }
    }
    let mut errors = Errors::default();
    meta::validate_update(&metadata, &old_metadata, &mut errors);
    write_plain(resource, map, &metadata, errors)
}

fn object_map(resource: &Resource, object: Value) -> Result<Map<String, Value>, Status> {
    match object {
        Value::Object(map) => Ok(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(cannot_handle(resource, "json: cannot unmarshal value into Go value of type object"))
        }
    }
}

fn plain_metadata(resource: &Resource, map: &Map<String, Value>) -> Result<ObjectMeta, Status> {
    let read = map.get("metadata").map_or_else(|| Ok(ObjectMeta::default()), serde::Deserialize::deserialize);
    read.map_err(|error: serde_json::Error| misread(resource, &error.to_string()))
}

fn write_plain(
    resource: &Resource,
    mut map: Map<String, Value>,
    metadata: &ObjectMeta,
    errors: Errors,
) -> Result<Value, Status> {
    let errors = errors.into_vec();
    if !errors.is_empty() {
        return Err(Status::invalid(resource, metadata.name.as_deref().unwrap_or_default(), &errors));
    }
    map.insert("metadata".to_owned(), serde_json::to_value(metadata).map_err(Status::internal)?);
    Ok(Value::Object(map))
}

/// Whether one differs from the other as upstream would write them: zero and absent are the same where Go cannot tell them
/// apart. `type_name` is their type in the facts of `schema`.
fn differs<S: PartialEq + Serialize>(new: &S, old: &S, type_name: &str) -> bool {
    new != old && as_written(new, type_name) != as_written(old, type_name)
}

fn as_written(value: &impl Serialize, type_name: &str) -> Value {
    let value = serde_json::to_value(value).unwrap_or_default();
    let decoded = schema::find(type_name).and_then(|ty| schema::decode(ty, value.clone()).ok());
    decoded.map_or(value, |decoded| decoded.value)
}

/// Counts a change of what is wanted.
fn next_generation(meta: &mut ObjectMeta, old: &ObjectMeta) {
    meta.generation = Some(old.generation.unwrap_or_default() + 1);
}
