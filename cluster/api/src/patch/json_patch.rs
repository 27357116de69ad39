//! JSON Patch, with upstream's limits.

use crate::schema::{MAX_DEPTH, depth, too_large};
use crate::status::Status;
use json_patch::{Patch, PatchOperation};
use mark::sometimes;
use serde_json::Value;

/// Most operations in a patch: upstream's limit.
pub const MAX_OPERATIONS: usize = 10_000;

/// How often the depth of the whole object is measured for one patch. Between two measurements a bound is kept, which grows
/// with what the operations could do at most; only patches that nest on purpose need more than a few.
const MAX_MEASUREMENTS: usize = 100;

pub(super) fn apply(mut object: Value, patch: Value, max_bytes: usize) -> Result<Value, Status> {
    let length = patch.as_array().map_or(0, Vec::len);
    if length > MAX_OPERATIONS {
        sometimes!("a JSON patch has too many operations");
        let why = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {length}");
        return Err(too_large(why));
    }
    let wrong = |error: serde_json::Error| Status::bad_request(format!("error decoding patch: {error}"));
    let Patch(operations) = serde_json::from_value(patch).map_err(wrong)?;
    let mut bounds = Bounds { depth: depth(&object), measurements: 0, copied: 0 };
    for operation in operations {
        if is_absent_as_tested(&object, &operation) {
            continue;
        }
        bounds.before(&object, &operation, max_bytes)?;
        // Nobody sees the object if an operation fails, so there is nothing to undo.
        let one = std::slice::from_ref(&operation);
        json_patch::patch_unsafe(&mut object, one).map_err(|error| unprocessable(&error.to_string()))?;
        bounds.after(&object)?;
    }
    Ok(object)
}

/// To upstream a field that is absent is null when it is tested, if there is something that could have it: by such a test
/// clients such as kube-rs make sure that they are the first to add a finalizer.
fn is_absent_as_tested(object: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let path = test.path.as_str();
    let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    test.value.is_null() && parent.is_some_and(Value::is_object) && object.pointer(path).is_none()
}

/// What upstream answers to a patch that does not fit the object; the cause says more than upstream does.
fn unprocessable(why: &str) -> Status {
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request").cause(
        "UnexpectedServerResponse",
        why,
        "",
    )
}

/// Keeps a patch from blowing the object up: `copy` doubles, `move` nests.
struct Bounds {
    /// At least the depth of the object.
    depth: usize,
    measurements: usize,
    copied: usize,
}

impl Bounds {
    fn before(&mut self, object: &Value, operation: &PatchOperation, max_bytes: usize) -> Result<(), Status> {
        let reached = match operation {
            PatchOperation::Add(add) => add.path.count() + depth(&add.value),
            PatchOperation::Replace(replace) => replace.path.count() + depth(&replace.value),
            PatchOperation::Move(r#move) => r#move.path.count() + self.depth.saturating_sub(r#move.from.count()),
            PatchOperation::Copy(copy) => {
                let size = object.pointer(copy.from.as_str()).map_or(0, size);
                self.copied = self.copied.saturating_add(size);
                if self.copied > max_bytes {
                    let copied = self.copied;
                    let why = "Unable to copy, the accumulated size increase of copy is";
                    return Err(unprocessable(&format!("{why} {copied}, exceeding the limit {max_bytes}")));
                }
                copy.path.count() + self.depth.saturating_sub(copy.from.count())
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => 0,
        };
        self.depth = self.depth.max(reached);
        Ok(())
    }

    fn after(&mut self, object: &Value) -> Result<(), Status> {
        if self.depth <= MAX_DEPTH {
            return Ok(());
        }
        self.measurements += 1;
        self.depth = depth(object);
        if self.depth > MAX_DEPTH || self.measurements > MAX_MEASUREMENTS {
            sometimes!("a JSON patch makes an object too deep");
            return Err(unprocessable("exceeded max depth"));
        }
        Ok(())
    }
}

/// The number of bytes of a value as JSON, near enough.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => 2 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>(),
    }
}
