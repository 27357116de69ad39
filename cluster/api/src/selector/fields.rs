//! Field selectors: comparisons of a few fields, joined by commas. Which fields a kind offers is the kind's business.

use std::collections::BTreeMap;
use std::fmt;

/// Why a text is no field selector; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A part is no comparison.
    #[error("invalid selector: '{selector}'; can't understand '{part}'")]
    Part {
        /// The whole.
        selector: String,
        /// What is wrong in it.
        part: String,
    },
    /// A backslash before something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A value with a `,` or `=` that lacks its backslash.
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(char),
}

/// One comparison of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Path of the field, such as `spec.nodeName`.
    pub field: String,
    /// Whether it must be `value`, or must not be.
    pub equal: bool,
    /// The value, as text.
    pub value: String,
}

/// Comparisons, all of which must hold. None at all: everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The comparisons, in order of their texts.
    pub requirements: Vec<FieldRequirement>,
}

impl Fields {
    /// Reads a query parameter `fieldSelector`.
    ///
    /// # Errors
    /// The text is no selector: the user's mistake.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut parts = split(text);
        parts.sort_unstable();
        let mut requirements = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let wrong = || FieldSelectorError::Part { selector: text.to_owned(), part: part.to_owned() };
            let (field, equal, value) = compare(part).ok_or_else(wrong)?;
            requirements.push(FieldRequirement { field: field.to_owned(), equal, value: unescape(value)? });
        }
        Ok(Self { requirements })
    }

    /// One comparison for equality.
    pub fn equal(field: &str, value: &str) -> Self {
        Self { requirements: vec![FieldRequirement { field: field.to_owned(), equal: true, value: value.to_owned() }] }
    }

    /// Whether it means everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these fields is meant. A field that is absent reads as empty.
    pub fn matches(&self, fields: &BTreeMap<String, String>) -> bool {
        self.matches_by(|field| fields.get(field).map(String::as_str))
    }

    /// The same with a function that reads a field.
    pub fn matches_by<'a>(&self, read: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|wanted| (read(&wanted.field).unwrap_or("") == wanted.value) == wanted.equal)
    }

    /// The one value that a field must have, if there is one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let found = self.requirements.iter().find(|wanted| wanted.equal && wanted.field == field)?;
        Some(&found.value)
    }
}

/// Canonical form: what [`Fields::parse`] reads back.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, wanted) in self.requirements.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let sign = if wanted.equal { "=" } else { "!=" };
            let value = wanted.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{sign}{value}", wanted.field)?;
        }
        Ok(())
    }
}

/// Cuts at the commas that have no backslash.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (place, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            parts.push(&text[start..place]);
            start = place + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn compare(part: &str) -> Option<(&str, bool, &str)> {
    for (place, _) in part.char_indices() {
        for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = part[place..].strip_prefix(sign) {
                return Some((&part[..place], equal, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, FieldSelectorError> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(next @ ('\\' | ',' | '=')) => plain.push(next),
                Some(next) => return Err(FieldSelectorError::Escape(format!("\\{next}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            other => plain.push(other),
        }
    }
    Ok(plain)
}
