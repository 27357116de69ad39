//! Kubernetes' protobuf, driven by the table of types: bodies that kubectl and client-go send.
//!
//! ```text
//! bytes ──open──▶ Envelope { apiVersion, kind, raw } ──decode(type)──▶ Value, as from JSON
//! Value ──encode_object──▶ bytes
//! ```
//!
//! A message is `k8s\0` and then upstream's `runtime.Unknown`, whose `raw` is the object itself without `apiVersion` and
//! `kind`. Members that are flat in JSON may lie in an inlined message; a few lists lie in a message of their own. Fields
//! with unknown numbers are skipped, as upstream skips them.

mod encode;
mod wire;

pub use encode::{encode, encode_object};

use crate::Timestamp;
use crate::schema::{self, Field, Kind, MAX_DEPTH, MAX_VALUES, Type};
use crate::status::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use wire::{Part, Reader};

/// The content type of such bodies.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every message begins with.
const MAGIC: &[u8; 4] = b"k8s\0";

/// Why bytes are no message, or not one of the type: always the sender's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// Not `k8s\0`.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// It ends in the middle of something.
    #[error("unexpected EOF")]
    Truncated,
    /// A number that does not end.
    #[error("proto: integer overflow")]
    Overflow,
    /// A field in another form than its type has.
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WireType {
        /// What it has.
        wire: u8,
        /// The field.
        field: String,
    },
    /// Forms that nobody uses any more, and field number 0.
    #[error("proto: illegal tag {0}")]
    Tag(u64),
    /// Messages within messages without end.
    #[error("exceeded max depth")]
    TooDeep,
    /// More values than any object has.
    #[error("limit is {MAX_VALUES} values")]
    TooMany,
    /// Text that is no text.
    #[error("proto: field {0} contains invalid UTF-8")]
    Utf8(String),
    /// The object in the envelope is not in protobuf, or packed in a way that nobody knows.
    #[error("unable to decode content of type {0:?}")]
    Content(String),
    /// A field with a value that its type does not allow.
    #[error("{0}")]
    Value(String),
}

impl From<ProtobufError> for Status {
    fn from(error: ProtobufError) -> Status {
        match &error {
            ProtobufError::TooMany => schema::too_large(&error),
            ProtobufError::Prefix
            | ProtobufError::Truncated
            | ProtobufError::Overflow
            | ProtobufError::WireType { .. }
            | ProtobufError::Tag(_)
            | ProtobufError::TooDeep
            | ProtobufError::Utf8(_)
            | ProtobufError::Content(_)
            | ProtobufError::Value(_) => Status::bad_request(error.to_string()),
        }
    }
}

/// What a body says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `group/version`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// The object, for [`decode`].
    pub raw: &'a [u8],
}

/// Whether a body is in protobuf.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads the envelope.
///
/// # Errors
/// The bytes are no envelope.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let bytes = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Prefix)?;
    let mut envelope = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    for part in Reader::new(bytes) {
        match part? {
            (1, part) => {
                for part in Reader::new(part.bytes("typeMeta")?) {
                    match part? {
                        (1, part) => envelope.api_version = part.text("apiVersion")?,
                        (2, part) => envelope.kind = part.text("kind")?,
                        _ => {}
                    }
                }
            }
            (2, part) => envelope.raw = part.bytes("raw")?,
            (3 | 4, part) => {
                let content = part.text("contentType")?;
                // Upstream leaves both empty; the content type may say what is true anyway.
                if !content.is_empty() && content != CONTENT_TYPE {
                    return Err(ProtobufError::Content(content));
                }
            }
            _ => {}
        }
    }
    Ok(envelope)
}

/// The object in an envelope as JSON, as [`schema::decode`] makes it, with `apiVersion` and `kind` of the envelope.
///
/// # Errors
/// The bytes are no object of this type.
pub fn decode_object(ty: &Type, envelope: &Envelope<'_>) -> Result<Value, ProtobufError> {
    let mut value = decode(ty, envelope.raw)?;
    if let Value::Object(map) = &mut value {
        for (name, text) in [("apiVersion", &envelope.api_version), ("kind", &envelope.kind)] {
            if !text.is_empty() && ty.field(name).is_some() {
                map.insert(name.to_owned(), Value::String(text.clone()));
            }
        }
    }
    Ok(value)
}

/// A message of a type as JSON, without `apiVersion` and `kind`.
///
/// # Errors
/// The bytes are no message of this type.
pub fn decode(ty: &Type, bytes: &[u8]) -> Result<Value, ProtobufError> {
    let value = Decoder { values: 0, depth: 0 }.value(&ty.kind, ty.name, bytes)?;
    // The wire has zero values where JSON has nothing.
    schema::decode(ty, value).map(|decoded| decoded.value).map_err(|error| ProtobufError::Value(error.to_string()))
}

struct Decoder {
    values: usize,
    depth: usize,
}

impl Decoder {
    fn count(&mut self) -> Result<(), ProtobufError> {
        self.values += 1;
        if self.values > MAX_VALUES { Err(ProtobufError::TooMany) } else { Ok(()) }
    }

    /// A value that is a message of its own.
    fn value(&mut self, kind: &Kind, name: &str, bytes: &[u8]) -> Result<Value, ProtobufError> {
        self.count()?;
        match kind {
            Kind::Object(id) => {
                let mut map = Map::new();
                self.message(id.get(), &mut Vec::new(), bytes, &mut map)?;
                Ok(Value::Object(map))
            }
            Kind::String => wire::text(bytes, name).map(Value::String),
            Kind::Bytes => Ok(Value::String(STANDARD.encode(bytes))),
            Kind::Quantity => {
                let text = first(bytes, 1)?.map_or(Ok("0".to_owned()), |part| part.text(name))?;
                Ok(Value::String(if text.is_empty() { "0".to_owned() } else { text }))
            }
            Kind::Time | Kind::MicroTime => time(bytes, name, *kind == Kind::MicroTime),
            Kind::IntOrString => int_or_string(bytes, name),
            Kind::Raw | Kind::FieldsV1 => raw(bytes, name),
            Kind::Duration => {
                let nanos = first(bytes, 1)?.map_or(Ok(0), |part| part.number(name))?;
                Ok(Value::String(format!("{}ns", nanos.cast_signed())))
            }
            Kind::List(element) => {
                // A list in a message of its own.
                let mut items = Vec::new();
                for part in Reader::new(bytes) {
                    if let (1, part) = part? {
                        self.elements(element, name, part, &mut items)?;
                    }
                }
                Ok(Value::Array(items))
            }
            Kind::Int32 | Kind::Int64 | Kind::Bool | Kind::Double | Kind::Map(_) => {
                Err(ProtobufError::WireType { wire: wire::BYTES, field: name.to_owned() })
            }
        }
    }

    /// The fields of a type that lie in this message; `inlined` is the way to it through inlined messages.
    fn message(
        &mut self,
        ty: &Type,
        inlined: &mut Vec<u32>,
        bytes: &[u8],
        map: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        if self.depth >= MAX_DEPTH {
            return Err(ProtobufError::TooDeep);
        }
        self.depth += 1;
        for part in Reader::new(bytes) {
            let (number, part) = part?;
            inlined.push(number);
            let found = ty.fields.iter().find(|field| field.number.starts_with(inlined));
            match found {
                Some(field) if field.number.len() == inlined.len() => self.field(field, part, map)?,
                Some(field) => self.message(ty, inlined, part.bytes(field.name)?, map)?,
                None => {}
            }
            inlined.pop();
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(&mut self, field: &Field, part: Part<'_>, map: &mut Map<String, Value>) -> Result<(), ProtobufError> {
        let name = field.name;
        match &field.kind {
            Kind::List(element) if !field.wrapped => {
                let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(items) = list {
                    self.elements(element, name, part, items)?;
                }
            }
            Kind::Map(element) => {
                let (key, value) = self.entry(element, name, part.bytes(name)?)?;
                if let Value::Object(entries) = map.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                    entries.insert(key, value);
                }
            }
            kind => {
                let value = self.single(kind, name, part)?;
                map.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn single(&mut self, kind: &Kind, name: &str, part: Part<'_>) -> Result<Value, ProtobufError> {
        match kind {
            Kind::Int32 | Kind::Int64 | Kind::Bool => {
                self.count()?;
                Ok(scalar(kind, part.number(name)?))
            }
            Kind::Double => {
                self.count()?;
                Ok(serde_json::Number::from_f64(f64::from_bits(part.fixed(name)?)).map_or(Value::Null, Value::Number))
            }
            kind => self.value(kind, name, part.bytes(name)?),
        }
    }

    /// One element, or several numbers packed together.
    fn elements(
        &mut self,
        kind: &Kind,
        name: &str,
        part: Part<'_>,
        items: &mut Vec<Value>,
    ) -> Result<(), ProtobufError> {
        let packed = matches!(kind, Kind::Int32 | Kind::Int64 | Kind::Bool);
        match part {
            Part::Bytes(bytes) if packed => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    self.count()?;
                    items.push(scalar(kind, wire::varint(&mut rest)?));
                }
            }
            part => items.push(self.single(kind, name, part)?),
        }
        Ok(())
    }

    fn entry(&mut self, kind: &Kind, name: &str, bytes: &[u8]) -> Result<(String, Value), ProtobufError> {
        let mut key = String::new();
        let mut value = None;
        for part in Reader::new(bytes) {
            match part? {
                (1, part) => key = part.text(name)?,
                (2, part) => value = Some(self.single(kind, name, part)?),
                _ => {}
            }
        }
        Ok((key, value.unwrap_or(Value::Null)))
    }
}

fn scalar(kind: &Kind, number: u64) -> Value {
    match kind {
        Kind::Bool => Value::Bool(number != 0),
        // As Go does: the lower half of what came.
        Kind::Int32 => (number as u32).cast_signed().into(),
        _ => number.cast_signed().into(),
    }
}

/// The last field of this number, as protobuf has it.
fn first(bytes: &[u8], wanted: u32) -> Result<Option<Part<'_>>, ProtobufError> {
    let mut found = None;
    for part in Reader::new(bytes) {
        let (number, part) = part?;
        if number == wanted {
            found = Some(part);
        }
    }
    Ok(found)
}

fn time(bytes: &[u8], name: &str, micro: bool) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let number = |wanted| first(bytes, wanted)?.map_or(Ok(0), |part| part.number(name));
    let (seconds, nanos) = (number(1)?.cast_signed(), (number(2)? as u32).cast_signed());
    let wrong = || ProtobufError::Value(format!("time out of range in field {name}"));
    // Upstream writes the zero time as an empty message, and reads no other as zero.
    let time = Timestamp::new(seconds, if micro { nanos } else { 0 }).map_err(|_| wrong())?;
    Ok(Value::String(schema::write_time(time, micro)))
}

fn int_or_string(bytes: &[u8], name: &str) -> Result<Value, ProtobufError> {
    if first(bytes, 1)?.map_or(Ok(0), |part| part.number(name))? == 1 {
        return first(bytes, 3)?.map_or(Ok(String::new()), |part| part.text(name)).map(Value::String);
    }
    Ok(scalar(&Kind::Int32, first(bytes, 2)?.map_or(Ok(0), |part| part.number(name))?))
}

fn raw(bytes: &[u8], name: &str) -> Result<Value, ProtobufError> {
    let json = first(bytes, 1)?.map_or(Ok(&[] as &[u8]), |part| part.bytes(name))?;
    if json.is_empty() {
        return Ok(Value::Null);
    }
    let parsed = schema::strict_parse(json, json.len());
    parsed.map(|(value, _)| value).map_err(|error| ProtobufError::Value(error.to_string()))
}

#[cfg(test)]
mod tests;
