//! One state of one key, and its share of the state's hash.

use crate::types::{Event, EventKind, KeyValue};
use std::sync::Arc;

/// One state of one key: put, or removed.
#[derive(Debug)]
pub struct Version {
    /// The state. Of a removed key only `key` and `mod_revision`.
    pub kv: KeyValue,
    /// Whether the key was removed.
    pub removed: bool,
    /// Place among the changes of its revision.
    pub(super) place: u32,
    /// Its share of [`super::Tree::hash`] while it is its key's latest; 0 of a removed key.
    pub(super) hash: u64,
}

/// What a revision did to a key.
#[derive(Clone, Debug)]
pub struct Change {
    /// The key's state since.
    pub version: Arc<Version>,
    /// The key's state before, a removed one too; `None` if there was none or it is compacted.
    pub before: Option<Arc<Version>>,
}

/// What a version costs beside its key and value: its share of the two maps and its own numbers, rounded.
const OVERHEAD_BYTES: u64 = 200;

impl Version {
    pub(super) fn put(kv: KeyValue, place: u32) -> Arc<Self> {
        let hash = hash(&kv);
        Arc::new(Self { kv, removed: false, place, hash })
    }

    pub(super) fn removed(kv: KeyValue, place: u32) -> Arc<Self> {
        Arc::new(Self { kv, removed: true, place, hash: 0 })
    }

    /// What it holds, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (self.kv.key.len() + self.kv.value.len()) as u64 + OVERHEAD_BYTES
    }
}

impl Change {
    /// The key's state before, if it existed and is not compacted.
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        self.before.as_deref().filter(|before| !before.removed).map(|before| &before.kv)
    }

    /// As a watch sends it.
    pub fn event(&self, prev_kv: bool) -> Event {
        let kind = if self.version.removed { EventKind::Delete } else { EventKind::Put };
        let prev_kv = if prev_kv { self.prev_kv().cloned() } else { None };
        Event { kind, kv: self.version.kv.clone(), prev_kv }
    }
}

/// Hash of a key's whole state: the same on every machine and in every build of this version.
fn hash(kv: &KeyValue) -> u64 {
    let mut hash = bytes_hash(SEED, &kv.key);
    hash = bytes_hash(hash, &kv.value);
    for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
        hash = mix(hash, number.cast_unsigned());
    }
    hash
}

/// Any odd number with well-spread bits: 2^64 divided by the golden ratio.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds `word` into `hash`: a multiplication to 128 bits, both halves kept, so that every bit reaches every other.
pub fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word ^ SEED) * u128::from(word.rotate_left(32) ^ 0xd6e8_feb8_6659_fd93);
    (product as u64) ^ ((product >> 64) as u64) ^ hash.rotate_left(23)
}

fn bytes_hash(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The length tells trailing zeros from none.
    mix(mix(hash, u64::from_le_bytes(last)), bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn every_field_of_a_state_is_in_its_hash() {
        let base = KeyValue {
            key: Bytes::from_static(b"0123456789"),
            value: Bytes::from_static(b"v"),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: 0,
        };
        let others = [
            KeyValue { key: Bytes::from_static(b"0123456780"), ..base.clone() },
            KeyValue { value: Bytes::from_static(b"v\0"), ..base.clone() },
            KeyValue { create_revision: 3, ..base.clone() },
            KeyValue { mod_revision: 4, ..base.clone() },
            KeyValue { version: 1, ..base.clone() },
            KeyValue { lease: 1, ..base.clone() },
            KeyValue { key: Bytes::from_static(b"0123456789v"), value: Bytes::new(), ..base.clone() },
        ];
        for other in others {
            assert_ne!(hash(&base), hash(&other), "{other:?}");
        }
    }
}
