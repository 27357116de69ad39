//! Reads JSON strictly: what stands twice is told, and no body is too deep or too large for the stack or the heap.

use crate::status::Status;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::collections::BTreeSet;
use std::fmt;

/// How deep objects and lists may lie within one another. Upstream's parser allows 10,000, on a stack that grows; ours
/// has two megabytes at the least, and what is recursive here takes up to a kilobyte for a level in a debug build. No type of
/// the API needs more than 30 levels.
pub const MAX_DEPTH: usize = 120;

/// How many duplicate fields are told; upstream's limit on strict errors.
pub(super) const MAX_STRICT_ERRORS: usize = 100;

/// How many values a body may have. A value of two bytes takes some hundred once it is a struct with its zero values; no
/// object that the store takes has as many as this.
pub const MAX_VALUES: usize = 200_000;

/// Why bytes are no JSON, or none that is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON: 400.
    #[error("{0}")]
    Syntax(String),
    /// Objects within objects without end: 400.
    #[error("exceeded max depth")]
    TooDeep,
    /// More values than any object has: 413.
    #[error("limit is {MAX_VALUES} values")]
    TooMany,
    /// More bytes than allowed: 413.
    #[error("limit is {limit}")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
}

impl From<ParseError> for Status {
    fn from(error: ParseError) -> Status {
        match error {
            ParseError::Syntax(_) | ParseError::TooDeep => {
                Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
            }
            ParseError::TooMany | ParseError::TooLarge { .. } => too_large(&error),
        }
    }
}

/// What upstream answers to a body that is too large.
pub(crate) fn too_large(why: impl fmt::Display) -> Status {
    Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
}

/// The value, and `duplicate field "a.b[0].c"` for each field that stands more than once; the last one counts.
///
/// # Errors
/// It is no JSON, or too much of it: the sender's mistake.
pub fn strict_parse(bytes: &[u8], max_bytes: usize) -> Result<(Value, Vec<String>), ParseError> {
    if bytes.len() > max_bytes {
        return Err(ParseError::TooLarge { limit: max_bytes });
    }
    let mut seen = Seen::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Strict { seen: &mut seen, depth: 0 }.deserialize(&mut deserializer);
    let parsed = parsed.and_then(|value| deserializer.end().map(|()| value));
    match parsed {
        Ok(value) => Ok((value, seen.duplicates)),
        Err(_) if seen.too_deep => Err(ParseError::TooDeep),
        Err(_) if seen.values > MAX_VALUES => Err(ParseError::TooMany),
        Err(error) => Err(ParseError::Syntax(error.to_string())),
    }
}

/// How deep objects and lists lie within one another: 0 for a number, 1 for `{}`.
pub fn depth(value: &Value) -> usize {
    // A list of what is still to be looked at, and not recursion: this is asked about values that may be too deep.
    let mut todo = vec![(value, 0)];
    let mut deepest = 0;
    while let Some((value, level)) = todo.pop() {
        match value {
            Value::Array(items) => {
                deepest = deepest.max(level + 1);
                todo.extend(items.iter().map(|item| (item, level + 1)));
            }
            Value::Object(map) => {
                deepest = deepest.max(level + 1);
                todo.extend(map.values().map(|item| (item, level + 1)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    deepest
}

#[derive(Default)]
pub(super) struct Seen {
    path: String,
    pub(super) duplicates: Vec<String>,
    too_deep: bool,
    pub(super) values: usize,
}

pub(super) struct Strict<'a> {
    pub(super) seen: &'a mut Seen,
    pub(super) depth: usize,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(&mut self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH {
            self.seen.too_deep = true;
            return Err(E::custom("exceeded max depth"));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.seen.values += 1;
        if self.seen.values > MAX_VALUES {
            return Err(serde::de::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let length = self.seen.path.len();
        let mut items = Vec::new();
        loop {
            self.seen.path.push_str(&format!("[{}]", items.len()));
            let item = access.next_element_seed(Strict { seen: self.seen, depth })?;
            self.seen.path.truncate(length);
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let length = self.seen.path.len();
        let mut map = Map::new();
        let mut told = BTreeSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if length > 0 {
                self.seen.path.push('.');
            }
            self.seen.path.push_str(&key);
            if map.contains_key(&key) && self.seen.duplicates.len() < MAX_STRICT_ERRORS && told.insert(key.clone()) {
                self.seen.duplicates.push(format!("duplicate field {:?}", self.seen.path));
            }
            let value = access.next_value_seed(Strict { seen: self.seen, depth })?;
            self.seen.path.truncate(length);
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
