//! Patches: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386) and Kubernetes' strategic merge patch.
//!
//! ```text
//! stored object ──apply(patch)──▶ Value ──schema::decode──▶ defaults, validation, as for an update
//! ```
//!
//! All three are functions from an object and a patch to an object. What comes out may have unknown fields or wrong types:
//! decoding finds them.

mod json_patch;
mod strategic;

pub use json_patch::MAX_OPERATIONS;
pub use strategic::StrategicError;

use crate::schema::Type;
use crate::status::Status;
use serde_json::{Map, Value};

/// The kinds of patches, by their content types. Server-side apply is none of them: it needs managed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
}

impl PatchKind {
    /// Every kind, in the order in which upstream lists them.
    pub const ALL: [Self; 3] = [Self::Json, Self::Merge, Self::Strategic];

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
        }
    }

    /// The kind of a content type, which may carry parameters.
    pub fn of(content_type: &str) -> Option<Self> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|kind| kind.content_type().eq_ignore_ascii_case(media))
    }
}

/// The object after the patch. `max_bytes` bounds what a JSON Patch may copy; the size of a body is a good value.
///
/// # Errors
/// The patch is wrong, or does not fit the object: a `Status` for its sender.
pub fn apply(kind: PatchKind, ty: &Type, object: Value, patch: Value, max_bytes: usize) -> Result<Value, Status> {
    match kind {
        PatchKind::Json => json_patch::apply(object, patch, max_bytes),
        PatchKind::Merge if patch.is_object() => {
            let mut object = object;
            merge(&mut object, patch);
            Ok(object)
        }
        PatchKind::Merge => Err(Status::bad_request("Invalid JSON Patch")),
        PatchKind::Strategic => strategic::apply(ty, object, patch).map_err(StrategicError::into_status),
    }
}

/// JSON Merge Patch: objects are merged, `null` removes, everything else replaces.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            map.remove(&name);
        } else {
            merge(map.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// The JSON Merge Patch that makes `new` of `old`; empty (`{}`) if they are equal. Lists are replaced as wholes, and
/// `null` in `new` is taken for absent.
pub fn diff(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let mut patch = Map::new();
    for (name, value) in new.iter().filter(|(_, value)| !value.is_null()) {
        match old.get(name) {
            Some(before) if before == value => {}
            Some(before) if before.is_object() && value.is_object() => {
                patch.insert(name.clone(), diff(before, value));
            }
            Some(_) | None => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old.keys().filter(|name| new.get(*name).is_none_or(Value::is_null)) {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests;
