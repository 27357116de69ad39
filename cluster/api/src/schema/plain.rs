//! [`super::strict_parse`] and [`super::decode`] in one pass, for bodies in which there is nothing to tell: almost all.
//!
//! What is unusual in any way (a duplicate, an unknown field, a value of a wrong type) is not decided here: the two passes
//! do it again and find the words for it.
//!
//! **Invariant:** what this gives is what the two passes give (`one_pass_gives_what_two_give`).

use super::decode::{base64_again, emitted, quantity_again, time_again, zero};
use super::json::{MAX_DEPTH, MAX_VALUES, Seen, Strict};
use super::{Emit, Field, Kind, Type};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Types with more fields than a set of bits holds are left to the two passes; the largest has some forty.
const MAX_FIELDS: usize = 128;

/// What an object of type `ty` that is written as JSON is to upstream; `None` if it is none, or if there is something to
/// tell of it.
pub fn decode_plain(ty: &Type, bytes: &[u8]) -> Option<Value> {
    let mut seen = Seen::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let plain = Plain { kind: &ty.kind, seen: &mut seen, depth: 0 };
    let value = plain.deserialize(&mut deserializer).ok()??;
    deserializer.end().ok()?;
    (value.is_object() && seen.duplicates.is_empty()).then_some(value)
}

/// Reads a value of a kind; `None` is `null`.
struct Plain<'a> {
    kind: &'a Kind,
    seen: &'a mut Seen,
    depth: usize,
}

/// There is something to tell.
fn unusual<E: Error>() -> E {
    E::custom("unusual")
}

impl Plain<'_> {
    fn deeper<E: Error>(&self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH { Err(unusual()) } else { Ok(self.depth + 1) }
    }

    fn number<E: Error>(self, number: Number) -> Result<Option<Value>, E> {
        let fits = match self.kind {
            Kind::Double => true,
            Kind::Int32 | Kind::IntOrString => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Kind::Int64 => number.as_i64().is_some(),
            Kind::Quantity => return quantity_again(&Value::Number(number)).map(Some).map_err(E::custom),
            Kind::String
            | Kind::Bytes
            | Kind::Bool
            | Kind::Time
            | Kind::MicroTime
            | Kind::Duration
            | Kind::Raw
            | Kind::FieldsV1
            | Kind::Object(_)
            | Kind::List(_)
            | Kind::Map(_) => false,
        };
        if fits { Ok(Some(Value::Number(number))) } else { Err(unusual()) }
    }

    fn map<'de, A: MapAccess<'de>>(self, element: &Kind, mut access: A) -> Result<Option<Value>, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(Plain { kind: element, seen: self.seen, depth })?;
            if map.insert(key, value.unwrap_or_else(|| zero(element))).is_some() {
                return Err(unusual());
            }
        }
        Ok(Some(Value::Object(map)))
    }

    fn object<'de, A: MapAccess<'de>>(self, ty: &Type, mut access: A) -> Result<Option<Value>, A::Error> {
        let depth = self.deeper()?;
        if ty.fields.len() > MAX_FIELDS {
            return Err(unusual());
        }
        let mut found: Vec<(usize, Value)> = Vec::new();
        let (mut told, mut present) = (0_u128, 0_u128);
        let (mut sorted, mut next) = (true, 0);
        while let Some(place) = access.next_key_seed(Place { ty, next })? {
            next = place + 1;
            let bit = 1_u128 << place;
            if told & bit != 0 {
                return Err(unusual());
            }
            told |= bit;
            let field = &ty.fields[place];
            let Some(value) = access.next_value_seed(Plain { kind: &field.kind, seen: self.seen, depth })? else {
                continue;
            };
            present |= bit;
            if let Some(value) = emitted(field, Some(value)) {
                sorted &= found.last().is_none_or(|(last, _)| *last < place);
                found.push((place, value));
            }
        }
        for (place, field) in ty.fields.iter().enumerate() {
            if matches!(field.emit, Emit::Always | Emit::Nullable)
                && present & (1_u128 << place) == 0
                && let Some(value) = emitted(field, None)
            {
                sorted &= found.last().is_none_or(|(last, _)| *last < place);
                found.push((place, value));
            }
        }
        if !sorted {
            found.sort_unstable_by_key(|(place, _)| *place);
        }
        // Fields are in order of their names, so that the map is built as it comes.
        let fields = found.into_iter().map(|(place, value)| (ty.fields[place].name.to_owned(), value));
        Ok(Some(Value::Object(fields.collect())))
    }
}

impl<'de> DeserializeSeed<'de> for Plain<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        if matches!(self.kind, Kind::Raw | Kind::FieldsV1) {
            let value = Strict { seen: self.seen, depth: self.depth }.deserialize(deserializer)?;
            return Ok(Some(value).filter(|value| !value.is_null()));
        }
        self.seen.values += 1;
        if self.seen.values > MAX_VALUES {
            return Err(unusual());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Option<Value>, E> {
        if *self.kind == Kind::Bool { Ok(Some(Value::Bool(value))) } else { Err(unusual()) }
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Option<Value>, E> {
        self.number(value.into())
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Option<Value>, E> {
        self.number(value.into())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Option<Value>, E> {
        let number = Number::from_f64(value).ok_or_else(unusual)?;
        self.number(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<Value>, E> {
        let value = match self.kind {
            Kind::String | Kind::Duration | Kind::IntOrString => Ok(Value::String(text.to_owned())),
            Kind::Bytes => base64_again(text),
            Kind::Quantity => quantity_again(&Value::String(text.to_owned())),
            Kind::Time if is_canonical_time(text, "") => Ok(Value::String(text.to_owned())),
            Kind::MicroTime if is_canonical_time(text, ".000000") => Ok(Value::String(text.to_owned())),
            Kind::Time | Kind::MicroTime => time_again(text, *self.kind == Kind::MicroTime),
            Kind::Int32
            | Kind::Int64
            | Kind::Bool
            | Kind::Double
            | Kind::Raw
            | Kind::FieldsV1
            | Kind::Object(_)
            | Kind::List(_)
            | Kind::Map(_) => return Err(unusual()),
        };
        value.map(Some).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Option<Value>, A::Error> {
        let Kind::List(element) = self.kind else { return Err(unusual()) };
        let depth = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Plain { kind: element, seen: self.seen, depth })? {
            items.push(item.unwrap_or_else(|| zero(element)));
        }
        Ok(Some(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Option<Value>, A::Error> {
        match self.kind {
            Kind::Object(id) => self.object(id.get(), access),
            Kind::Map(element) => self.map(element, access),
            Kind::String
            | Kind::Bytes
            | Kind::Int32
            | Kind::Int64
            | Kind::Bool
            | Kind::Double
            | Kind::Quantity
            | Kind::Time
            | Kind::MicroTime
            | Kind::Duration
            | Kind::IntOrString
            | Kind::Raw
            | Kind::FieldsV1
            | Kind::List(_) => Err(unusual()),
        }
    }
}

/// Finds the place of a field by its name.
struct Place<'a> {
    ty: &'a Type,
    /// Where it is likely to be, or shortly after: writers have their fields in order of names.
    next: usize,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }
    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        let (before, after) = self.ty.fields.split_at(self.next.min(self.ty.fields.len()));
        let is_it = |field: &Field| field.name == name;
        let found = after.iter().position(is_it).map(|place| self.next + place);
        found.or_else(|| before.iter().position(is_it)).ok_or_else(unusual)
    }
}

/// Whether a time is written as it would be written again. Days that not every month has are left to the calendar.
fn is_canonical_time(text: &str, fraction: &str) -> bool {
    let form = ["0000-00-00T00:00:00", fraction, "Z"];
    let form = form.iter().flat_map(|part| part.bytes());
    let bytes = text.as_bytes();
    if bytes.len() != 20 + fraction.len() {
        return false;
    }
    let alike = bytes.iter().zip(form).all(|(c, form)| if form == b'0' { c.is_ascii_digit() } else { *c == form });
    let within = |place: usize, first: &str, last: &str| (first..=last).contains(&&text[place..place + 2]);
    alike
        && within(0, "19", "29")
        && within(5, "01", "12")
        && within(8, "01", "28")
        && within(11, "00", "23")
        && within(14, "00", "59")
        && within(17, "00", "59")
}
