//! What is wrong with an object, collected with the path of each field.
//!
//! A [`Path`] is a chain of references on the stack: naming a field costs nothing until something is wrong with it.

use crate::status::FieldError;
use std::fmt;

/// Where a field is, such as `spec.containers[0].name`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    /// A field of the object.
    Root(&'a str),
    /// A field of a field; the name may have dots for fields in between.
    Child(&'a Path<'a>, &'a str),
    /// An element of a list.
    Index(&'a Path<'a>, usize),
    /// An entry of a map.
    Key(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    /// A field of this one.
    pub(crate) fn child(&'a self, name: &'a str) -> Path<'a> {
        Path::Child(self, name)
    }
    /// An element of this list.
    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }
    /// An entry of this map.
    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(name) => f.write_str(name),
            Path::Child(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

pub(crate) const METADATA: Path<'static> = Path::Root("metadata");
pub(crate) const SPEC: Path<'static> = Path::Root("spec");
pub(crate) const STATUS: Path<'static> = Path::Root("status");

/// What is said of a negative number.
const NEGATIVE: &str = "must be greater than or equal to 0";
/// What is said of a field that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// What is wrong with an object.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<FieldError>);

impl Errors {
    /// All of it, in the order in which it was found; what was found twice is said once.
    pub(crate) fn into_vec(self) -> Vec<FieldError> {
        let mut unique: Vec<FieldError> = Vec::with_capacity(self.0.len());
        for error in self.0 {
            if !unique.contains(&error) {
                unique.push(error);
            }
        }
        unique
    }
    /// How much was found so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
    /// A value is missing.
    pub(crate) fn required(&mut self, path: &Path<'_>, why: &str) {
        self.0.push(FieldError::required(path.to_string(), why));
    }
    /// A value that is no text is wrong.
    pub(crate) fn invalid(&mut self, path: &Path<'_>, value: impl fmt::Display, why: &str) {
        self.0.push(FieldError::invalid(path.to_string(), value, why));
    }
    /// A text is wrong.
    pub(crate) fn text(&mut self, path: &Path<'_>, value: &str, why: &str) {
        self.0.push(FieldError::invalid(path.to_string(), format_args!("{value:?}"), why));
    }
    /// A text is wrong in each of these ways.
    pub(crate) fn texts(&mut self, path: &Path<'_>, value: &str, wrong: Vec<String>) {
        for why in wrong {
            self.text(path, value, &why);
        }
    }
    /// A text is none of those allowed.
    pub(crate) fn not_supported(&mut self, path: &Path<'_>, value: &str, allowed: &[&str]) {
        self.0.push(FieldError::not_supported(path.to_string(), format_args!("{value:?}"), allowed));
    }
    /// A text, required, is one of those allowed.
    pub(crate) fn one_of(&mut self, path: &Path<'_>, value: &str, allowed: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else if !allowed.contains(&value) {
            self.not_supported(path, value, allowed);
        }
    }
    /// A text stands twice.
    pub(crate) fn duplicate(&mut self, path: &Path<'_>, value: &str) {
        self.0.push(FieldError::duplicate(path.to_string(), format_args!("{value:?}")));
    }
    /// A value that is no text stands twice.
    pub(crate) fn duplicate_value(&mut self, path: &Path<'_>, value: impl fmt::Display) {
        self.0.push(FieldError::duplicate(path.to_string(), value));
    }
    /// A value may not be there, or not so.
    pub(crate) fn forbidden(&mut self, path: &Path<'_>, why: &str) {
        self.0.push(FieldError::forbidden(path.to_string(), why));
    }
    /// A value is too long.
    pub(crate) fn too_long(&mut self, path: &Path<'_>, limit: usize) {
        self.0.push(FieldError::too_long(path.to_string(), limit));
    }
    /// A value refers to what is not there.
    pub(crate) fn not_found(&mut self, path: &Path<'_>, value: &str) {
        self.0.push(FieldError {
            field: path.to_string(),
            reason: "FieldValueNotFound",
            message: format!("Not found: {value:?}"),
        });
    }
    /// A list is too long.
    pub(crate) fn too_many(&mut self, path: &Path<'_>, count: usize, limit: usize) {
        self.0.push(FieldError {
            field: path.to_string(),
            reason: "FieldValueTooMany",
            message: format!("Too many: {count}: must have at most {limit} items"),
        });
    }
    /// A number is not negative.
    pub(crate) fn non_negative(&mut self, path: &Path<'_>, value: impl Into<i64>) {
        let value = value.into();
        if value < 0 {
            self.invalid(path, value, NEGATIVE);
        }
    }
    /// A text is as it was.
    pub(crate) fn unchanged(&mut self, path: &Path<'_>, new: &str, old: &str) {
        if new != old {
            self.text(path, new, IMMUTABLE);
        }
    }
}

/// A value as JSON shows it, for a message.
pub(crate) fn shown(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// An optional text; absent reads as empty.
pub(crate) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// An optional list; absent reads as empty.
pub(crate) fn list<T>(value: &Option<Vec<T>>) -> &[T] {
    value.as_deref().unwrap_or_default()
}
