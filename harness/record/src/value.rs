//! Values as text, of which a trial's record holds many that are alike: packed, they take a fraction of their size.
//!
//! ```text
//! values of up to a million bytes -> pack -> one compressed Pack, shared by all of them
//! Value -> as_str: unpacks it and keeps it so        Unpacker -> text: unpacks one pack after the other and keeps none
//! ```
//!
//! **Invariant:** a packed value is equal to what it was before (`what_is_packed_reads_as_before`).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A value as text. On disk it is a string.
#[derive(Clone)]
pub struct Value(Held);

#[derive(Clone)]
enum Held {
    Text(Box<str>),
    Packed(Arc<Pack>, Range<usize>),
}

struct Pack {
    compressed: Box<[u8]>,
    /// Of the text.
    bytes: usize,
    unpacked: OnceLock<String>,
}

impl Pack {
    fn unpack(&self) -> String {
        let text = lz4_flex::block::decompress(&self.compressed, self.bytes).expect("it was compressed here");
        String::from_utf8(text).expect("it was text")
    }
}

impl Value {
    /// Its text. If it is packed, all that is in its pack is in memory unpacked from then on: whoever reads most values of a
    /// record does it with an [`Unpacker`].
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Text(text) => text,
            Held::Packed(pack, range) => &pack.unpacked.get_or_init(|| pack.unpack())[range.clone()],
        }
    }

    /// Bytes of its text.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Held::Text(text) => text.len(),
            Held::Packed(_, range) => range.len(),
        }
    }

    fn is_worth_packing(&self) -> bool {
        matches!(&self.0, Held::Text(text) if text.len() >= WORTH_BYTES)
    }
}

/// Packs these values together, but those that are packed or so short that it is not worth it. To unpack one of them is to
/// unpack all.
pub fn pack<'a>(values: impl IntoIterator<Item = &'a mut Value>) {
    let mut values: Vec<&mut Value> = values.into_iter().filter(|value| value.is_worth_packing()).collect();
    let text: String = values.iter().map(|value| value.as_str()).collect();
    if text.is_empty() {
        return;
    }
    let compressed = lz4_flex::block::compress(text.as_bytes()).into();
    let pack = Arc::new(Pack { compressed, bytes: text.len(), unpacked: OnceLock::new() });
    let mut at = 0;
    for value in &mut values {
        let range = at..at + value.bytes();
        at = range.end;
        value.0 = Held::Packed(Arc::clone(&pack), range);
    }
}

/// What a packed value takes beside its text is nearly as much as this.
const WORTH_BYTES: usize = 128;

/// Reads values one after the other, those of a pack best together, and keeps no more than one pack unpacked.
#[derive(Default)]
pub struct Unpacker(Option<(Arc<Pack>, String)>);

impl Unpacker {
    /// Its text.
    pub fn text<'a>(&'a mut self, value: &'a Value) -> &'a str {
        let Held::Packed(pack, range) = &value.0 else { return value.as_str() };
        if !self.0.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, pack)) {
            self.0 = Some((Arc::clone(pack), pack.unpack()));
        }
        self.0.as_ref().map_or("", |(_, text)| &text[range.clone()])
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(Held::Text(text.into()))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(Held::Text(text.into()))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl PartialEq<String> for Value {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_str().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<str>::deserialize(deserializer).map(|text| Self(Held::Text(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<Value> {
        let long = |number: u32| format!("{{\"number\": {number}, \"text\": \"{}\"}}", "æ".repeat(200));
        (0..50).flat_map(|number| [Value::from("short"), long(number).into()]).collect()
    }

    #[test]
    fn what_is_packed_reads_as_before() {
        let (before, mut after) = (values(), values());
        pack(&mut after[..30]);
        pack(&mut after);
        let mut unpacker = Unpacker::default();
        for (before, after) in before.iter().zip(&after).chain(before.iter().zip(&after).rev()) {
            assert_eq!(unpacker.text(after), before.as_str());
            assert_eq!(unpacker.text(before), before.as_str());
        }
        assert!(after == before, "{after:?}");
        let json = serde_json::to_string(&after).unwrap();
        assert_eq!(json, serde_json::to_string(&before).unwrap());
        assert!(serde_json::from_str::<Vec<Value>>(&json).unwrap() == before);
    }

    #[test]
    fn what_is_packed_is_small_and_stays_so() {
        let mut values = values();
        pack(&mut values);
        let mut unpacker = Unpacker::default();
        for value in &values {
            unpacker.text(value);
            let Held::Packed(pack, _) = &value.0 else {
                assert_eq!(value.as_str(), "short");
                continue;
            };
            assert!(pack.bytes > 20_000 && pack.compressed.len() < 2_000, "{}", pack.compressed.len());
            assert!(pack.unpacked.get().is_none());
        }
        pack(&mut []);
    }
}
