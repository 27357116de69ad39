//! Fields that a field selector can name.

use super::find;
use crate::resource::Resource;
use serde_json::Value;
use std::collections::BTreeMap;

/// A field that can be selected.
pub(crate) struct Field {
    label: &'static str,
    read: Read,
}

enum Read {
    /// The value at the path that is the label; absent reads as this.
    Path(&'static str),
    /// The value at another path.
    Other(&'static str),
    /// What a function makes of the values at these paths.
    With(fn(&Value) -> String, &'static [&'static str]),
}

impl Field {
    /// A text; absent reads as empty.
    pub(crate) const fn text(label: &'static str) -> Self {
        Self { label, read: Read::Path("") }
    }
    /// A truth value; absent reads as false.
    pub(crate) const fn flag(label: &'static str) -> Self {
        Self { label, read: Read::Path("false") }
    }
    /// A number; absent reads as 0.
    pub(crate) const fn number(label: &'static str) -> Self {
        Self { label, read: Read::Path("0") }
    }
    /// Another name for the field at `path`.
    pub(crate) const fn alias(label: &'static str, path: &'static str) -> Self {
        Self { label, read: Read::Other(path) }
    }
    /// What a function makes of the object, of which it looks at the values at `paths` alone.
    pub(crate) const fn with(label: &'static str, read: fn(&Value) -> String, paths: &'static [&'static str]) -> Self {
        Self { label, read: Read::With(read, paths) }
    }

    fn paths(&self) -> &[&'static str] {
        match &self.read {
            Read::Path(_) => std::slice::from_ref(&self.label),
            Read::Other(path) => std::slice::from_ref(path),
            Read::With(_, paths) => paths,
        }
    }

    fn read(&self, object: &Value) -> String {
        match self.read {
            Read::Path(absent) => at(object, self.label, absent),
            Read::Other(path) => at(object, path, ""),
            Read::With(read, _) => read(object),
        }
    }
}

static METADATA: &[Field] = &[Field::text("metadata.name"), Field::text("metadata.namespace")];

/// The value at a path of names with dots between.
pub(crate) fn at(object: &Value, path: &str, absent: &str) -> String {
    let found = path.split('.').try_fold(object, |value, name| value.get(name));
    match found {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(_) | Value::Null | Value::Array(_) | Value::Object(_)) | None => absent.to_owned(),
    }
}

fn fields(resource: &Resource) -> &'static [Field] {
    find(resource).map_or(&[], |row| row.fields)
}

fn known(resource: &Resource, label: &str) -> Option<&'static Field> {
    METADATA.iter().chain(fields(resource)).find(|field| field.label == label)
}

/// Every field of an object that can be selected, by its label.
pub fn selectable_fields(resource: &Resource, object: &Value) -> BTreeMap<&'static str, String> {
    METADATA.iter().chain(fields(resource)).map(|field| (field.label, field.read(object))).collect()
}

/// The paths, with dots between names, of all that [`selectable_fields`] looks at.
pub fn selectable_paths(resource: &Resource) -> impl Iterator<Item = &'static str> {
    METADATA.iter().chain(fields(resource)).flat_map(Field::paths).copied()
}

/// One field of an object; none if objects of the kind cannot be selected by it.
pub fn field(resource: &Resource, label: &str, object: &Value) -> Option<String> {
    known(resource, label).map(|field| field.read(object))
}

/// Whether objects of the kind can be selected by a field.
///
/// # Errors
/// What upstream says if not.
pub fn check_field(resource: &Resource, label: &str) -> Result<(), String> {
    if known(resource, label).is_some() {
        Ok(())
    } else if fields(resource).is_empty() {
        Err(format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""))
    } else {
        Err(format!("field label not supported: {label}"))
    }
}
