//! A document's events become a value.

use super::scalar::{MERGE, resolve};
use crate::schema::{MAX_DEPTH, MAX_VALUES, depth};
use crate::status::Status;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How many keys that stand twice are told: as of JSON's.
const MAX_DUPLICATES: usize = 100;

/// Why a body is no YAML, or none that is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// Not YAML, or YAML that JSON has nothing for: 400.
    #[error("error converting YAML to JSON: {0}")]
    Syntax(String),
    /// More bytes or values than any object has, aliases counted as what they stand for: 413.
    #[error("Request entity too large: limit is {limit} {of}")]
    TooLarge {
        /// What is allowed.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
}

impl From<YamlError> for Status {
    fn from(error: YamlError) -> Status {
        match error {
            YamlError::Syntax(_) => Status::bad_request(error.to_string()),
            YamlError::TooLarge { .. } => Status::new(413, "RequestEntityTooLarge", error.to_string()),
        }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        at(error.marker().line(), error.info())
    }
}

/// The value of the first document, and what upstream's strict reader says of keys that stand more than once; the last one
/// counts.
///
/// # Errors
/// It is no YAML, or too much of it: the sender's mistake.
pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<(Value, Option<String>), YamlError> {
    if bytes.len() > max_bytes {
        return Err(YamlError::TooLarge { limit: max_bytes, of: "bytes" });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| YamlError::Syntax("yaml: invalid UTF-8".to_owned()))?;
    let mut reader = Reader { max_bytes, ..Reader::default() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        reader.line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node =
                    Node { value: reader.scalar(&text, style, tag.as_deref())?, plain: style == ScalarStyle::Plain };
                reader.keep(anchor, &node.value)?;
                reader.take(node)?;
            }
            Event::Alias(anchor) => {
                let node = Node { value: reader.aliased(anchor)?, plain: false };
                reader.take(node)?;
            }
            Event::SequenceStart(anchor, _) => reader.open(anchor, Inside::Sequence(Vec::new()))?,
            Event::MappingStart(anchor, _) => reader.open(anchor, Inside::Mapping(Mapping::default()))?,
            Event::SequenceEnd | Event::MappingEnd => reader.close()?,
            Event::DocumentEnd => break,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
    }
    let told = (!reader.duplicates.is_empty())
        .then(|| format!("yaml: unmarshal errors:\n  {}", reader.duplicates.join("\n  ")));
    Ok((reader.whole.unwrap_or_default(), told))
}

/// A value, and whether it was written without quotes.
struct Node {
    value: Value,
    plain: bool,
}

/// What is being read.
#[derive(Default)]
struct Reader {
    max_bytes: usize,
    line: usize,
    /// Values and bytes so far, aliases counted as what they stand for.
    values: usize,
    bytes: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Value>,
    duplicates: Vec<String>,
    whole: Option<Value>,
}

/// A collection whose end is still to come.
struct Open {
    anchor: usize,
    line: usize,
    inside: Inside,
}

enum Inside {
    Sequence(Vec<Value>),
    Mapping(Mapping),
}

#[derive(Default)]
struct Mapping {
    map: Map<String, Value>,
    /// What is merged, in order.
    merged: Vec<Value>,
    /// The key whose value is still to come; `None` within for that of a merge.
    key: Option<Option<String>>,
}

impl Reader {
    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, YamlError> {
        let resolved = match tag {
            None => style == ScalarStyle::Plain,
            Some(tag) => tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "null" | "bool" | "int" | "float"),
        };
        if !resolved {
            return Ok(text.into());
        }
        resolve(text).ok_or_else(|| at(self.line, &format!("unsupported value: {text}")))
    }

    /// Counts a value before it is kept or copied.
    fn spend(&mut self, value: &Value) -> Result<(), YamlError> {
        let mut todo = vec![value];
        while let Some(value) = todo.pop() {
            self.values += 1;
            match value {
                Value::String(text) => self.bytes += text.len(),
                Value::Array(items) => todo.extend(items),
                Value::Object(map) => {
                    self.bytes += map.keys().map(String::len).sum::<usize>();
                    todo.extend(map.values());
                }
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
            if self.values > MAX_VALUES {
                return Err(YamlError::TooLarge { limit: MAX_VALUES, of: "values" });
            }
            if self.bytes > self.max_bytes {
                return Err(YamlError::TooLarge { limit: self.max_bytes, of: "bytes" });
            }
        }
        Ok(())
    }

    /// Remembers what an anchor stands for.
    fn keep(&mut self, anchor: usize, value: &Value) -> Result<(), YamlError> {
        if anchor > 0 {
            self.spend(value)?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(())
    }

    fn aliased(&mut self, anchor: usize) -> Result<Value, YamlError> {
        let value = self.anchors.get(&anchor).cloned();
        let value = value.ok_or_else(|| at(self.line, "an anchor's value contains itself"))?;
        self.spend(&value)?;
        if self.open.len() + depth(&value) > MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(value)
    }

    fn open(&mut self, anchor: usize, inside: Inside) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.open.push(Open { anchor, line: self.line, inside });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(Open { anchor, line, inside }) = self.open.pop() else { return Ok(()) };
        self.line = line;
        let value = match inside {
            Inside::Sequence(items) => Value::Array(items),
            Inside::Mapping(mapping) => Value::Object(mapping.merge(line)?),
        };
        self.keep(anchor, &value)?;
        self.take(Node { value, plain: false })
    }

    /// Puts a value where it belongs.
    fn take(&mut self, Node { value, plain }: Node) -> Result<(), YamlError> {
        // What is within it was counted as it came.
        self.spend(match &value {
            Value::Array(_) | Value::Object(_) => &Value::Null,
            scalar => scalar,
        })?;
        let line = self.line;
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.whole = Some(value),
            Some(Inside::Sequence(items)) => items.push(value),
            Some(Inside::Mapping(mapping)) => match mapping.key.take() {
                None if plain && value == MERGE => mapping.key = Some(None),
                None => mapping.key = Some(Some(key(value, line)?)),
                Some(None) => mapping.merged.push(value),
                Some(Some(key)) => {
                    if mapping.map.contains_key(&key) && self.duplicates.len() < MAX_DUPLICATES {
                        self.duplicates.push(format!("line {line}: key {key:?} already set in map"));
                    }
                    mapping.map.insert(key, value);
                }
            },
        }
        Ok(())
    }
}

impl Mapping {
    /// With what it takes over from others; its own come first, then those of the first one.
    fn merge(self, line: usize) -> Result<Map<String, Value>, YamlError> {
        let mut map = self.map;
        for merged in self.merged {
            let others = match merged {
                Value::Array(others) => others,
                other => vec![other],
            };
            for other in others {
                let Value::Object(other) = other else {
                    return Err(at(line, "map merge requires map or sequence of maps as the value"));
                };
                for (key, value) in other {
                    map.entry(key).or_insert(value);
                }
            }
        }
        Ok(map)
    }
}

/// Keys are text in JSON.
fn key(value: Value, line: usize) -> Result<String, YamlError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(at(line, &format!("invalid map key: {value}"))),
    }
}

fn at(line: usize, what: &str) -> YamlError {
    YamlError::Syntax(format!("yaml: line {line}: {what}"))
}

fn too_deep() -> YamlError {
    YamlError::Syntax("yaml: exceeded max depth".to_owned())
}
