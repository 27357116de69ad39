//! Selectors: which objects are meant, by their labels or by a few of their fields.
//!
//! ```text
//! ?labelSelector=app in (a,b),!old ──parse──▶ Labels ──matches(labels)──▶ bool
//! spec.selector: LabelSelector ───────────────▶ Labels
//! ?fieldSelector=spec.nodeName=n1 ──parse──▶ Fields ──matches(values)──▶ bool
//! ```

mod fields;
mod parse;

pub use fields::{FieldRequirement, FieldSelectorError, Fields};
pub use parse::SelectorError;

use crate::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;
use std::fmt;

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// `=`.
    Equals,
    /// `==`, the same as `=`.
    DoubleEquals,
    /// `!=`: also true without the label.
    NotEquals,
    /// `in`.
    In,
    /// `notin`: also true without the label.
    NotIn,
    /// Has the label.
    Exists,
    /// Lacks the label.
    DoesNotExist,
    /// `>` as integers.
    GreaterThan,
    /// `<` as integers.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what: sorted, each once.
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether `labels` fulfil it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = |value: &String| self.values.contains(value);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value).is_some_and(|(value, bound)| value > bound),
            Operator::LessThan => self.compare(value).is_some_and(|(value, bound)| value < bound),
        }
    }

    fn compare(&self, value: Option<&String>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// Conditions on labels, all of which must hold, in order of their labels. None at all: everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// The conditions.
    pub requirements: Vec<Requirement>,
}

impl Labels {
    /// Reads a query parameter `labelSelector`.
    ///
    /// # Errors
    /// The text is no selector: the user's mistake, with upstream's words.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text).map(Self::sorted)
    }

    /// Exactly these values, as a Service's `spec.selector` means. An empty map matches everything, so callers for whom
    /// it means nothing must look first.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let equals = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self { requirements: labels.iter().map(equals).collect() }
    }

    /// The selector of an object, such as a ReplicaSet's `spec.selector`.
    ///
    /// # Errors
    /// It has an unknown operator, or values where there may be none, or the other way round.
    pub fn from_selector(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut labels = Self::from_map(selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()));
        for expression in selector.match_expressions.iter().flatten() {
            labels.requirements.push(parse::expression(expression)?);
        }
        Ok(Self::sorted(labels.requirements))
    }

    fn sorted(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements }
    }

    /// Whether it means everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether `labels` fulfil all conditions.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

/// Canonical form: what [`Labels::parse`] reads back.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, requirement) in self.requirements.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

/// Whether an object's selector means an object with these labels. An empty selector means everything; one that is
/// wrong means nothing. What an absent selector means is the caller's business.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    matches_map(selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()), labels)
        && selector.match_expressions.iter().flatten().all(|expression| matches_expression(expression, labels))
}

fn matches_expression(expression: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&expression.key);
    let values = expression.values.as_deref().unwrap_or_default();
    match (expression.operator.as_str(), values.is_empty()) {
        ("In", false) => value.is_some_and(|value| values.contains(value)),
        ("NotIn", false) => !value.is_some_and(|value| values.contains(value)),
        ("Exists", true) => value.is_some(),
        ("DoesNotExist", true) => value.is_none(),
        _ => false,
    }
}

/// Whether `labels` have every value of `selector`. An empty one matches everything.
pub fn matches_map(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a selector says nothing, and so means everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// An object's selector as columns show it: `<none>` if it is absent or empty, `<error>` if it is wrong.
pub fn format(selector: Option<&LabelSelector>) -> String {
    match selector.map(Labels::from_selector) {
        None => "<none>".to_owned(),
        Some(Ok(labels)) if labels.is_empty() => "<none>".to_owned(),
        Some(Ok(labels)) => labels.to_string(),
        Some(Err(_)) => "<error>".to_owned(),
    }
}

#[cfg(test)]
mod tests;
