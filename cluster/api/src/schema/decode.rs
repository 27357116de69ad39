//! What upstream's decoding into a struct and encoding again makes of JSON: types checked, unknown fields told and dropped,
//! `null` taken for absent, quantities and times in their canonical form, zero values written or left out.

use super::json::MAX_STRICT_ERRORS;
use super::{Emit, Field, Kind, Type};
use crate::Timestamp;
use crate::quantity::Quantity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// A value does not fit its type; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// A value that fits its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// As upstream would write it.
    pub value: Value,
    /// `unknown field "spec.foo"` for each field that was dropped.
    pub unknown: Vec<String>,
}

/// Makes of `value` what upstream would store for an object of type `ty`. Doing it again changes nothing.
///
/// # Errors
/// A field has a value of the wrong type: the user's mistake; see [`super::cannot_be_handled`].
pub fn decode(ty: &Type, value: Value) -> Result<Decoded, DecodeError> {
    let unknown = unknown_fields(ty, &value);
    let value = Decoder::default().value(&ty.kind, value)?;
    Ok(Decoded { value, unknown })
}

/// `unknown field "spec.foo[0].bar"` for each field that the type lacks, up to upstream's limit.
pub fn unknown_fields(ty: &Type, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    find_unknown(&ty.kind, value, &mut String::new(), &mut found);
    found
}

fn find_unknown(kind: &Kind, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (kind, value) {
        (Kind::Object(id), Value::Object(map)) => {
            let ty = id.get();
            for (name, value) in map {
                push_name(path, name);
                match ty.field(name) {
                    Some(field) => find_unknown(&field.kind, value, path, found),
                    None if found.len() < MAX_STRICT_ERRORS => found.push(format!("unknown field {path:?}")),
                    None => {}
                }
                path.truncate(length);
            }
        }
        (Kind::List(element), Value::Array(items)) => {
            for (place, value) in items.iter().enumerate() {
                path.push_str(&format!("[{place}]"));
                find_unknown(element, value, path, found);
                path.truncate(length);
            }
        }
        (Kind::Map(element), Value::Object(map)) => {
            for (name, value) in map {
                push_name(path, name);
                find_unknown(element, value, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Where in the types it is, for messages: Go names the innermost struct, and the fields from the root without indices.
#[derive(Default)]
struct Decoder {
    structs: Vec<&'static str>,
    fields: Vec<&'static str>,
}

impl Decoder {
    fn value(&mut self, kind: &Kind, value: Value) -> Result<Value, DecodeError> {
        if value.is_null() {
            return Ok(zero(kind));
        }
        match (kind, value) {
            (Kind::Raw | Kind::FieldsV1, value) => Ok(value),
            (Kind::String | Kind::Duration, value @ Value::String(_)) | (Kind::Bool, value @ Value::Bool(_)) => {
                Ok(value)
            }
            (Kind::Double, value @ Value::Number(_)) => Ok(value),
            (Kind::Int32, Value::Number(number)) => {
                let fits = number.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
                if fits { Ok(Value::Number(number)) } else { Err(self.wrong(kind, &format!("number {number}"))) }
            }
            (Kind::Int64, Value::Number(number)) => {
                let fits = number.as_i64().is_some();
                if fits { Ok(Value::Number(number)) } else { Err(self.wrong(kind, &format!("number {number}"))) }
            }
            (Kind::Bytes, Value::String(text)) => base64_again(&text),
            (Kind::Quantity, value) => quantity_again(&value),
            (Kind::Time | Kind::MicroTime, Value::String(text)) => time_again(&text, *kind == Kind::MicroTime),
            (Kind::Time | Kind::MicroTime, value) => Err(plain(form(&value), "string")),
            (Kind::IntOrString, value) => int_or_string(value),
            (Kind::Object(id), Value::Object(map)) => self.object(id.get(), map),
            (Kind::List(element), Value::Array(items)) => {
                items.into_iter().map(|item| self.value(element, item)).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            (Kind::Map(element), Value::Object(map)) => {
                let pair = |(name, value)| Ok((name, self.value(element, value)?));
                map.into_iter().map(pair).collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
            (kind, value) => Err(self.wrong(kind, form(&value))),
        }
    }

    fn object(&mut self, ty: &'static Type, mut map: Map<String, Value>) -> Result<Value, DecodeError> {
        self.structs.push(ty.short_name());
        let mut result = Map::new();
        for field in &ty.fields {
            let present = map.remove(field.name).filter(|value| !value.is_null());
            let value = match present {
                Some(value) => {
                    self.fields.push(field.name);
                    let value = self.value(&field.kind, value)?;
                    self.fields.pop();
                    Some(value)
                }
                None => None,
            };
            if let Some(value) = emitted(field, value) {
                result.insert(field.name.to_owned(), value);
            }
        }
        self.structs.pop();
        Ok(Value::Object(result))
    }

    fn wrong(&self, kind: &Kind, form: &str) -> DecodeError {
        let go_type = go_type(kind);
        match self.structs.last() {
            Some(name) => DecodeError(format!(
                "json: cannot unmarshal {form} into Go struct field {name}.{} of type {go_type}",
                self.fields.join(".")
            )),
            None => plain(form, &go_type),
        }
    }
}

fn plain(form: &str, go_type: &str) -> DecodeError {
    DecodeError(format!("json: cannot unmarshal {form} into Go value of type {go_type}"))
}

fn form(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type(kind: &Kind) -> String {
    match kind {
        Kind::String => "string".to_owned(),
        Kind::Bytes => "[]uint8".to_owned(),
        Kind::Int32 => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::Double => "float64".to_owned(),
        Kind::Quantity => "resource.Quantity".to_owned(),
        Kind::Time => "v1.Time".to_owned(),
        Kind::MicroTime => "v1.MicroTime".to_owned(),
        Kind::Duration => "v1.Duration".to_owned(),
        Kind::IntOrString => "intstr.IntOrString".to_owned(),
        Kind::Raw => "runtime.RawExtension".to_owned(),
        Kind::FieldsV1 => "v1.FieldsV1".to_owned(),
        Kind::Object(id) => id.get().go_name(),
        Kind::List(element) => format!("[]{}", go_type(element)),
        Kind::Map(element) => format!("map[string]{}", go_type(element)),
    }
}

/// What a field is written as, if it is written at all.
pub(crate) fn emitted(field: &Field, value: Option<Value>) -> Option<Value> {
    match (field.emit, value) {
        (Emit::Always, value) => Some(value.unwrap_or_else(|| zero(&field.kind))),
        (Emit::Nullable, value) => Some(value.unwrap_or(Value::Null)),
        (Emit::Pointer, value) => value,
        (Emit::OmitEmpty, value) => value.filter(|value| !is_empty(&field.kind, value)),
    }
}

/// The zero value of Go, as JSON writes it.
pub(crate) fn zero(kind: &Kind) -> Value {
    match kind {
        Kind::String => Value::String(String::new()),
        Kind::Quantity | Kind::Duration => Value::String("0".to_owned()),
        Kind::Int32 | Kind::Int64 | Kind::IntOrString | Kind::Double => 0.into(),
        Kind::Bool => Value::Bool(false),
        Kind::Bytes | Kind::Time | Kind::MicroTime | Kind::Raw | Kind::FieldsV1 | Kind::List(_) | Kind::Map(_) => {
            Value::Null
        }
        Kind::Object(id) => {
            let written = |field: &Field| Some((field.name.to_owned(), emitted(field, None)?));
            Value::Object(id.get().fields.iter().filter_map(written).collect())
        }
    }
}

/// Whether `omitempty` leaves the value out. A struct never is empty to Go.
fn is_empty(kind: &Kind, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() && matches!(kind, Kind::Map(_)),
    }
}

pub(super) fn base64_again(text: &str) -> Result<Value, DecodeError> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = STANDARD.decode(&text).map_err(|error| {
        let place = match error {
            base64::DecodeError::InvalidByte(place, _) | base64::DecodeError::InvalidLastSymbol(place, _) => place,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len(),
        };
        DecodeError(format!("illegal base64 data at input byte {place}"))
    })?;
    Ok(Value::String(STANDARD.encode(bytes)))
}

pub(super) fn quantity_again(value: &Value) -> Result<Value, DecodeError> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    match Quantity::parse(&text) {
        Ok(quantity) => Ok(Value::String(quantity.to_string())),
        Err(error) => Err(DecodeError(error.to_string())),
    }
}

fn int_or_string(value: Value) -> Result<Value, DecodeError> {
    match &value {
        Value::String(_) => Ok(value),
        Value::Number(number) => {
            let fits = number.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            if fits { Ok(value) } else { Err(plain(&format!("number {number}"), "int32")) }
        }
        other => Err(plain(form(other), "int32")),
    }
}

/// The form of RFC 3339 as Go names its parts; `0` stands for a digit.
const LAYOUT: [(&str, &str); 11] = [
    ("2006", "0000"),
    ("-", "-"),
    ("01", "00"),
    ("-", "-"),
    ("02", "00"),
    ("T", "T"),
    ("15", "00"),
    (":", ":"),
    ("04", "00"),
    (":", ":"),
    ("05", "00"),
];

pub(super) fn time_again(text: &str, micro: bool) -> Result<Value, DecodeError> {
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let wrong = |rest: &str, part: &str| {
        DecodeError(format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}"))
    };
    let mut rest = text;
    for (part, form) in LAYOUT {
        rest = strip(rest, form).ok_or_else(|| wrong(rest, part))?;
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if digits.len() == fraction.len() {
            return Err(wrong(rest, "Z07:00"));
        }
        rest = digits;
    }
    let zone = rest == "Z" || rest.strip_prefix(['+', '-']).and_then(|zone| strip(zone, "00:00")) == Some("");
    if !zone {
        return Err(wrong(rest, "Z07:00"));
    }
    if text == "0001-01-01T00:00:00Z" {
        return Ok(Value::Null);
    }
    let time: Timestamp = text.parse().map_err(|_| DecodeError(format!("parsing time {text:?}: day out of range")))?;
    Ok(Value::String(write_time(time, micro)))
}

fn strip<'a>(text: &'a str, form: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(form.len())?;
    let same = |(c, form): (u8, u8)| if form == b'0' { c.is_ascii_digit() } else { c == form };
    head.bytes().zip(form.bytes()).all(same).then_some(rest)
}

/// A time as upstream writes it: in whole seconds, or always with six digits.
pub(crate) fn write_time(time: Timestamp, micro: bool) -> String {
    if micro {
        return format!("{time:.6}");
    }
    let nanos = i64::from(time.subsec_nanosecond());
    // Towards the past, also before 1970: Go cuts the fraction off the clock's reading.
    let second = time.as_second() - i64::from(nanos < 0);
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
