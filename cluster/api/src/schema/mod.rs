//! Facts about the types that are served: their fields, how each is merged, defaulted and written, in JSON and protobuf.
//!
//! ```text
//! bytes ──strict_parse──▶ Value, duplicate fields ──decode──▶ Value as upstream would write it, unknown fields
//! ```
//!
//! The facts are a table, `facts/types.tsv` (see `facts/NOTICE` for where it comes from and `facts/cut.py` for how it is
//! made), read once. Upstream decodes into structs of Go; [`decode`] does what that does, driven by the table.

mod decode;
mod facts;
mod json;
mod plain;

pub(crate) use decode::write_time;
pub use decode::{DecodeError, Decoded, decode, unknown_fields};
pub use facts::find;
pub(crate) use json::too_large;
pub use json::{MAX_DEPTH, MAX_VALUES, ParseError, depth, strict_parse};
pub use plain::decode_plain;

use crate::resource::Resource;
use crate::status::Status;
use serde_json::Value;

/// A type of the API.
#[derive(Debug, PartialEq)]
pub struct Type {
    /// Its full name, such as `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// What it is: an object with fields, or one of the special forms (a quantity, a time...).
    pub kind: Kind,
    /// Whether server-side apply takes it as a whole.
    pub atomic: bool,
    /// Its fields, in order of their names.
    pub fields: Vec<Field>,
}

impl Type {
    /// A field by its name in JSON.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let place = self.fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
        self.fields.get(place)
    }

    /// The last part of its name, such as `Pod`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// As Go names it in messages, such as `v1.Pod`.
    pub fn go_name(&self) -> String {
        let mut parts = self.name.rsplit('.');
        let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("{version}.{name}")
    }
}

/// A place in the table of types; holds for the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeId(u16);

impl TypeId {
    /// The type.
    pub fn get(self) -> &'static Type {
        facts::get(self)
    }
}

/// A field of a type.
#[derive(Debug, PartialEq)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// Whether OpenAPI says that it must be there.
    pub required: bool,
    /// What server-side apply takes its list for.
    pub list_type: ListType,
    /// Which fields tell the elements of its list apart, for server-side apply.
    pub list_map_keys: Vec<&'static str>,
    /// Whether server-side apply takes its map as a whole.
    pub atomic: bool,
    /// Strategic merge patch: its list is merged with that of the patch, instead of being replaced.
    pub merge: bool,
    /// Strategic merge patch: only the fields that `$retainKeys` names stay.
    pub retain_keys: bool,
    /// Strategic merge patch: its object is replaced, instead of being merged.
    pub replace: bool,
    /// Strategic merge patch: which field tells the elements of its list apart.
    pub merge_key: Option<&'static str>,
    /// The default that OpenAPI publishes. It is not the server's defaulting.
    pub default: Option<Value>,
    /// The values that OpenAPI publishes. They are not what validation allows.
    pub enums: Vec<&'static str>,
    /// How it is written when it is absent or zero.
    pub emit: Emit,
    /// Its number in protobuf; several for a member of an inlined message, outermost first; none if it has no place there.
    pub number: Vec<u32>,
    /// Whether protobuf has its list in a message of its own.
    pub wrapped: bool,
    /// Whether protobuf has it in the envelope alone: `apiVersion` and `kind`.
    pub envelope: bool,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Text.
    String,
    /// Bytes; in base64 in JSON.
    Bytes,
    /// An integer of 32 bits.
    Int32,
    /// An integer of 64 bits.
    Int64,
    /// True or false.
    Bool,
    /// A number with a fraction.
    Double,
    /// An amount of a resource; see [`crate::quantity`].
    Quantity,
    /// A time in whole seconds.
    Time,
    /// A time in microseconds.
    MicroTime,
    /// A length of time, as text.
    Duration,
    /// A number or a text.
    IntOrString,
    /// Any JSON.
    Raw,
    /// Any JSON: the fields that somebody manages.
    FieldsV1,
    /// An object with the fields of a type.
    Object(TypeId),
    /// A list.
    List(Box<Kind>),
    /// A map from texts.
    Map(Box<Kind>),
}

/// What server-side apply takes a list for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// One value, replaced as a whole; also whatever is no list.
    Atomic,
    /// Values each of which stands once.
    Set,
    /// Objects told apart by some of their fields.
    Map,
}

/// How a field is written when it is absent or zero; Go's `omitempty` and pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Always written.
    Always,
    /// Left out when zero or empty.
    OmitEmpty,
    /// Left out when absent; zero is kept.
    Pointer,
    /// `null` when absent.
    Nullable,
}

/// What upstream answers to a body that is not an object of the resource's kind.
pub fn cannot_be_handled(resource: &Resource, why: &str) -> Status {
    let (kind, version) = (resource.kind, resource.version);
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

/// What upstream answers to unknown or duplicate fields when `fieldValidation` is `Strict`.
pub fn strict_decoding_error(resource: &Resource, errors: &[String]) -> Status {
    cannot_be_handled(resource, &format!("strict decoding error: {}", errors.join(", ")))
}

#[cfg(test)]
mod tests;
