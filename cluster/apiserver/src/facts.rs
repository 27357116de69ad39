//! What selectors look at: an object's labels and selectable fields, read once per state of an object.

use crate::model;
use crate::query::ListOptions;
use crate::stored::{Stored, meta};
use api::Status;
use api::selector::{Fields, Labels};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// States of objects that are remembered: those of a thousand nodes with fifty objects each. At some 500 bytes each that
/// is 30 MB; without it each of a thousand node agents that lists its pods would decode those of all others.
const MAX_REMEMBERED: usize = 65_536;

/// What selectors look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its selectable fields.
    pub fields: BTreeMap<&'static str, String>,
}

impl Facts {
    /// Those of a stored object.
    ///
    /// # Errors
    /// 500: it cannot be read.
    pub fn read(stored: &Stored) -> Result<Self, Status> {
        let paths: Vec<&str> = model::selectable_paths(stored.resource).chain(["metadata.labels"]).collect();
        Ok(Self::of(stored.resource, &stored.pick(&paths)?))
    }

    /// Those of an object.
    pub fn of(resource: &'static api::Resource, object: &Value) -> Self {
        let labels = meta(object, "labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
        Self { labels, fields: model::selectable_fields(resource, object) }
    }
}

/// Which objects are meant.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// By labels.
    pub labels: Labels,
    /// By fields.
    pub fields: Fields,
}

impl Selector {
    /// That of a list or watch.
    pub fn of(options: &ListOptions) -> Self {
        Self { labels: options.labels.clone(), fields: options.fields.clone() }
    }

    /// Whether every object is meant.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object with these facts is meant.
    pub fn matches(&self, facts: &Facts) -> bool {
        let field = |name: &str| facts.fields.get(name).map(String::as_str);
        self.labels.matches(&facts.labels) && self.fields.matches_by(field)
    }
}

/// The facts of states that were looked at lately.
#[derive(Debug, Default)]
pub struct FactsCache {
    /// By key: the revision of the state and its facts.
    states: Mutex<BTreeMap<Bytes, (i64, Arc<Facts>)>>,
}

impl FactsCache {
    /// The facts of an object.
    ///
    /// # Errors
    /// 500: it cannot be read.
    pub fn of(&self, key: &Bytes, stored: &Stored) -> Result<Arc<Facts>, Status> {
        if let Some((revision, facts)) = self.states.lock().unwrap_or_else(PoisonError::into_inner).get(key)
            && *revision == stored.revision
        {
            return Ok(Arc::clone(facts));
        }
        let facts = Arc::new(Facts::read(stored)?);
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= MAX_REMEMBERED && !states.contains_key(key) {
            states.pop_first();
        }
        states.insert(key.clone(), (stored.revision, Arc::clone(&facts)));
        Ok(facts)
    }

    /// Whether an object is meant. One that cannot be read is not, unless all are.
    pub fn matches(&self, selector: &Selector, key: &Bytes, stored: &Stored) -> bool {
        selector.is_empty() || self.of(key, stored).is_ok_and(|facts| selector.matches(&facts))
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Bytes) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
