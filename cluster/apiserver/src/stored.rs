//! Objects as the store has them: bytes that are served without being looked into.
//!
//! ```text
//! 0x01 {"apiVersion":"v1","kind":"Pod","metadata":{"name":...},"spec":...}          stored
//!      {"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"7","name"...   served
//!      {"metadata":{"resourceVersion":"7","name"...                                  served in a list
//! ```
//!
//! The head is always the same, so that the version is spliced in, and the type left out, at a place known beforehand.

use api::{Resource, Status};
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use store::KeyValue;

/// The first byte of a value that is plain JSON.
pub const PLAIN: u8 = 1;

/// What a list item begins with.
const ITEM_HEAD: &[u8] = b"{\"metadata\":{";

/// An object in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Of which kind.
    pub resource: &'static Resource,
    /// Revision of its last change.
    pub revision: i64,
    value: Bytes,
}

impl Stored {
    /// From what a key holds.
    pub fn of(resource: &'static Resource, kv: &KeyValue) -> Self {
        Self { resource, revision: kv.mod_revision, value: kv.value.clone() }
    }

    /// An object that was stored at a revision just now, or would have been in a dry run.
    pub fn new(resource: &'static Resource, value: Bytes, revision: i64) -> Self {
        Self { resource, revision, value }
    }

    /// The same at another revision: the last state of an object, as of its deletion.
    pub fn at(&self, revision: i64) -> Self {
        Self { revision, ..self.clone() }
    }

    /// Appends it as a whole document.
    ///
    /// # Errors
    /// It is not of a form that this version knows.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Status> {
        let head = head(self.resource);
        match self.json()?.strip_prefix(head.as_bytes()) {
            Some(rest) => {
                out.extend_from_slice(head.as_bytes());
                self.write_rest(rest, out);
            }
            None => write(&self.decode()?, out),
        }
        Ok(())
    }

    /// Appends it as an item of a list, which has no type of its own.
    ///
    /// # Errors
    /// It is not of a form that this version knows.
    pub fn write_item(&self, out: &mut Vec<u8>) -> Result<(), Status> {
        match self.json()?.strip_prefix(head(self.resource).as_bytes()) {
            Some(rest) => {
                out.extend_from_slice(ITEM_HEAD);
                self.write_rest(rest, out);
            }
            None => write(&self.decode()?, out),
        }
        Ok(())
    }

    fn write_rest(&self, rest: &[u8], out: &mut Vec<u8>) {
        // The revision is zero only in dry runs of creates, which have no version.
        if self.revision > 0 {
            out.extend_from_slice(format!("\"resourceVersion\":\"{}\",", self.revision).as_bytes());
        }
        out.extend_from_slice(rest);
    }

    /// It as a document.
    ///
    /// # Errors
    /// As of [`Self::write`].
    pub fn to_json(&self) -> Result<Vec<u8>, Status> {
        let mut out = Vec::with_capacity(self.value.len() + 64);
        self.write(&mut out)?;
        Ok(out)
    }

    /// It to look into, with its version.
    ///
    /// # Errors
    /// As of [`Self::write`].
    pub fn decode(&self) -> Result<Value, Status> {
        let mut object: Value = self.read()?;
        if self.revision > 0 {
            set_meta(&mut object, "resourceVersion", self.revision.to_string().into());
        }
        Ok(object)
    }

    /// It as something that is read from JSON, without its version.
    ///
    /// # Errors
    /// As of [`Self::write`], or that it cannot be read so.
    pub fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Status> {
        serde_json::from_slice(self.json()?).map_err(|error| self.unknown(error))
    }

    /// Only what is at these paths, with dots between names.
    ///
    /// # Errors
    /// As of [`Self::write`].
    pub fn pick(&self, paths: &[&str]) -> Result<Value, Status> {
        let mut deserializer = serde_json::Deserializer::from_slice(self.json()?);
        let picked = Pick(paths).deserialize(&mut deserializer);
        picked.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| self.unknown(error))
    }

    /// The stored bytes.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// It as JSON, without its version.
    ///
    /// # Errors
    /// As of [`Self::write`].
    pub fn json(&self) -> Result<&[u8], Status> {
        match self.value.split_first() {
            Some((&PLAIN, json)) => Ok(json),
            Some(_) | None => Err(self.unknown("another version of this program wrote it")),
        }
    }

    fn unknown(&self, why: impl fmt::Display) -> Status {
        mark::sometimes!("stored object of an unknown form");
        Status::internal(format!("a stored object of {} cannot be read: {why}", self.resource.qualified()))
    }
}

/// An object as it is stored: without its version, the head first.
pub fn encode(resource: &Resource, object: &Value) -> Bytes {
    let empty = Map::new();
    let object = object.as_object().unwrap_or(&empty);
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let mut out = vec![PLAIN];
    out.extend_from_slice(head(resource).as_bytes());
    write_fields(metadata.iter().filter(|(key, _)| *key != "resourceVersion"), &mut out);
    out.push(b'}');
    for (key, value) in object.iter().filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata")) {
        out.push(b',');
        write_field(key, value, &mut out);
    }
    out.push(b'}');
    out.into()
}

/// Reads what is at some paths, and passes over everything else.
struct Pick<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    // Below what is no object there is nothing.
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<Name<'de>>()? {
            if self.0.contains(&&*key.0) {
                map.insert(key.0.into_owned(), access.next_value()?);
                continue;
            }
            let below = self.0.iter().filter_map(|path| path.strip_prefix(&*key.0)?.strip_prefix('.'));
            let below: Vec<&str> = below.collect();
            if below.is_empty() {
                access.next_value::<IgnoredAny>()?;
            } else {
                map.insert(key.0.into_owned(), access.next_value_seed(Pick(&below))?);
            }
        }
        Ok(Value::Object(map))
    }
}

/// The name of a field, borrowed if it can be.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn head(resource: &Resource) -> String {
    format!("{{\"apiVersion\":\"{}\",\"kind\":\"{}\",\"metadata\":{{", resource.api_version(), resource.kind)
}

fn write_fields<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut Vec<u8>) {
    for (place, (key, value)) in fields.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_field(key, value, out);
    }
}

fn write_field(key: &str, value: &Value, out: &mut Vec<u8>) {
    write(&key, out);
    out.push(b':');
    write(value, out);
}

/// Appends a value as JSON.
pub fn write(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    // Memory does not fail to be written to, and all that is written here has text for keys.
    serde_json::to_writer(out, value).expect("a value has a form in JSON");
}

/// Reads a field of the metadata.
pub fn meta<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(field)
}

/// Reads a text of the metadata; what is absent is empty.
pub fn meta_text<'a>(object: &'a Value, field: &str) -> &'a str {
    meta(object, field).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a field of the metadata.
pub fn set_meta(object: &mut Value, field: &str, value: Value) {
    if let Some(metadata) = map_at(object, "metadata") {
        metadata.insert(field.to_owned(), value);
    }
}

/// Removes a field of the metadata.
pub fn remove_meta(object: &mut Value, field: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove(field);
    }
}

/// A map within an object, made if it is absent or null; `None` if something else is in its place.
pub fn map_at<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = object.as_object_mut()?.entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

/// The texts of a list; what is absent is empty.
pub fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::resource;
    use serde_json::json;

    fn pod() -> (&'static Resource, Value) {
        let pod = resource::find("", "Pod").unwrap();
        let metadata = json!({"name": "a", "resourceVersion": "3", "uid": "u"});
        (pod, json!({"metadata": metadata, "kind": "Pod", "apiVersion": "v1", "spec": {"nodeName": "n"}}))
    }

    #[test]
    fn the_version_is_spliced_in_and_never_stored() {
        let (resource, object) = pod();
        let value = encode(resource, &object);
        assert_eq!(
            value,
            &b"\x01{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"uid\":\"u\"},\
               \"spec\":{\"nodeName\":\"n\"}}"[..]
        );
        let stored = Stored::new(resource, value, 7);
        let served: Value = serde_json::from_slice(&stored.to_json().unwrap()).unwrap();
        assert_eq!(served, stored.decode().unwrap());
        assert_eq!(served["metadata"]["resourceVersion"], "7");
        let mut item = Vec::new();
        stored.write_item(&mut item).unwrap();
        let item: Value = serde_json::from_slice(&item).unwrap();
        assert_eq!(
            item,
            json!({"metadata": {"name": "a", "resourceVersion": "7", "uid": "u"}, "spec": {"nodeName": "n"}})
        );
    }

    #[test]
    fn what_is_picked_is_what_is_there() {
        let json = r#"{"metadata":{"name":"a","labels":{"x":"y"},"namesake":"b"},"spec":{"node":{"name":"n","b":[1]},"c":7},"status":[]}"#;
        let value = [&[PLAIN], json.as_bytes()].concat();
        let stored = Stored::new(pod().0, value.into(), 7);
        let picked = stored.pick(&["metadata.name", "metadata.labels", "spec.node.name", "spec.c.d", "status.phase"]);
        assert_eq!(
            picked.unwrap(),
            json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"node": {"name": "n"}, "c": null}, "status": null})
        );
        let broken = Stored::new(pod().0, Bytes::from_static(b"\x01{\"a\":[}"), 7);
        assert_eq!(broken.pick(&[]).unwrap_err().code, 500);
    }

    #[test]
    fn another_order_of_fields_is_served_too_and_another_form_is_refused() {
        let (resource, _) = pod();
        let odd = b"\x01{\"metadata\":{\"name\":\"a\"},\"kind\":\"Pod\",\"apiVersion\":\"v1\"}";
        let stored = Stored::new(resource, Bytes::from_static(odd), 7);
        let served: Value = serde_json::from_slice(&stored.to_json().unwrap()).unwrap();
        assert_eq!(served["metadata"], json!({"name": "a", "resourceVersion": "7"}));
        let foreign = Stored::new(resource, Bytes::from_static(b"\x02{}"), 7);
        assert_eq!(foreign.to_json().unwrap_err().code, 500);
    }
}
