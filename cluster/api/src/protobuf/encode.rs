//! JSON to protobuf: byte for byte what upstream writes, given fields in order of their numbers and maps in order of keys.

use super::MAGIC;
use super::wire::{self, put_bytes, put_number, put_tag};
use crate::Timestamp;
use crate::schema::{Emit, Field, Kind, Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

static NOTHING: Value = Value::Null;

/// A whole body: the envelope with `apiVersion` and `kind` of the object, and the object.
pub fn encode_object(ty: &Type, object: &Value) -> Vec<u8> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().as_bytes();
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, text("apiVersion"));
    put_bytes(&mut meta, 2, text("kind"));
    let mut out = MAGIC.to_vec();
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, &encode(ty, object));
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// A message of a type. What does not fit the type is written as its zero value: `schema::decode` comes first.
pub fn encode(ty: &Type, value: &Value) -> Vec<u8> {
    message_of(&ty.kind, value)
}

/// The content of a value that is a message of its own, or text or bytes.
fn message_of(kind: &Kind, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        Kind::Object(id) => {
            let mut fields: Vec<&Field> = id.get().fields.iter().filter(|field| !field.number.is_empty()).collect();
            fields.sort_by(|a, b| a.number.cmp(&b.number));
            let empty = Map::new();
            fields_of(&fields, 0, value.as_object().unwrap_or(&empty), &mut out);
        }
        Kind::String => out.extend_from_slice(value.as_str().unwrap_or_default().as_bytes()),
        Kind::Bytes => out = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default(),
        Kind::Quantity => put_bytes(&mut out, 1, value.as_str().unwrap_or("0").as_bytes()),
        Kind::Time | Kind::MicroTime => {
            if let Some(time) = value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
                let nanos = if *kind == Kind::Time { 0 } else { time.subsec_nanosecond() };
                put_number(&mut out, 1, time.as_second().cast_unsigned());
                put_number(&mut out, 2, i64::from(nanos).cast_unsigned());
            }
        }
        Kind::IntOrString => {
            put_number(&mut out, 1, u64::from(value.is_string()));
            put_number(&mut out, 2, value.as_i64().unwrap_or_default().cast_unsigned());
            put_bytes(&mut out, 3, value.as_str().unwrap_or_default().as_bytes());
        }
        Kind::Raw | Kind::FieldsV1 if value.is_null() => {}
        Kind::Raw | Kind::FieldsV1 => put_bytes(&mut out, 1, value.to_string().as_bytes()),
        Kind::Duration => {
            let nanos = value.as_str().and_then(|text| text.strip_suffix("ns")?.parse::<i64>().ok());
            put_number(&mut out, 1, nanos.unwrap_or_default().cast_unsigned());
        }
        Kind::List(element) => {
            for item in value.as_array().into_iter().flatten() {
                put(element, 1, item, &mut out);
            }
        }
        Kind::Int32 | Kind::Int64 | Kind::Bool | Kind::Double | Kind::Map(_) => {}
    }
    out
}

/// Fields in order of their numbers, of which the first `level` places are the same for all.
fn fields_of(fields: &[&Field], level: usize, map: &Map<String, Value>, out: &mut Vec<u8>) {
    for group in fields.chunk_by(|a, b| a.number[level] == b.number[level]) {
        let number = group[0].number[level];
        if group[0].number.len() > level + 1 {
            let mut inlined = Vec::new();
            fields_of(group, level + 1, map, &mut inlined);
            put_bytes(out, number, &inlined);
        } else {
            let value = map.get(group[0].name).unwrap_or(&NOTHING);
            field_of(group[0], number, value, out);
        }
    }
}

fn field_of(field: &Field, number: u32, value: &Value, out: &mut Vec<u8>) {
    match &field.kind {
        Kind::List(_) if field.wrapped => {
            if !value.is_null() {
                put_bytes(out, number, &message_of(&field.kind, value));
            }
        }
        Kind::List(element) => {
            for item in value.as_array().into_iter().flatten() {
                put(element, number, item, out);
            }
        }
        Kind::Map(element) => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, key.as_bytes());
                put(element, 2, value, &mut entry);
                put_bytes(out, number, &entry);
            }
        }
        Kind::Bytes if value.is_null() => {}
        kind => match field.emit {
            Emit::Always | Emit::OmitEmpty => put(kind, number, value, out),
            Emit::Pointer | Emit::Nullable if value.is_null() => {}
            Emit::Pointer | Emit::Nullable => put(kind, number, value, out),
        },
    }
}

fn put(kind: &Kind, number: u32, value: &Value, out: &mut Vec<u8>) {
    match kind {
        Kind::Int32 | Kind::Int64 => put_number(out, number, value.as_i64().unwrap_or_default().cast_unsigned()),
        Kind::Bool => put_number(out, number, u64::from(value.as_bool().unwrap_or_default())),
        Kind::Double => {
            put_tag(out, number, wire::FIXED64);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_bits().to_le_bytes());
        }
        kind => put_bytes(out, number, &message_of(kind, value)),
    }
}
