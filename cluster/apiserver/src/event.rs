//! A change of one object, and what watches are told of it. Decoded and encoded once for all of them.

use crate::facts::{Facts, FactsCache};
use crate::stored::Stored;
use api::Resource;
use bytes::Bytes;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A change of one object.
#[derive(Debug)]
pub struct Change {
    /// When.
    pub revision: i64,
    /// The object's key.
    pub key: Bytes,
    /// Its state after; `None` if it was removed.
    pub after: Option<Stored>,
    /// Its state before; `None` if it did not exist.
    pub before: Option<Stored>,
    facts: OnceLock<[Option<Arc<Facts>>; 2]>,
    /// By type of event, as far as they are made and not let go.
    lines: Mutex<[Option<Bytes>; 3]>,
}

/// What happened to an object from the point of view of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is there, or is meant from now on.
    Added,
    /// It is another.
    Modified,
    /// It is gone, or is no longer meant.
    Deleted,
}

impl EventType {
    /// As the wire has it.
    pub fn name(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

/// What a watch is told of a change, by whether the object was meant before and is meant after.
pub fn event_type(before: bool, after: bool) -> Option<EventType> {
    match (before, after) {
        (false, true) => Some(EventType::Added),
        (true, true) => Some(EventType::Modified),
        (true, false) => Some(EventType::Deleted),
        (false, false) => None,
    }
}

impl Change {
    /// From what the store's history has.
    pub fn of(resource: &'static Resource, revision: i64, change: &store::mvcc::Change) -> Self {
        let kv = &change.version.kv;
        Self {
            revision,
            key: kv.key.clone(),
            after: (!change.version.removed).then(|| Stored::of(resource, kv)),
            before: change.prev_kv().map(|kv| Stored::of(resource, kv)),
            facts: OnceLock::new(),
            lines: Default::default(),
        }
    }

    /// The facts before and after, for selectors.
    pub fn facts(&self, cache: &FactsCache) -> &[Option<Arc<Facts>>; 2] {
        self.facts.get_or_init(|| {
            let before = self.before.as_ref().and_then(|stored| cache.of(&self.key, stored).ok());
            let after = self.after.as_ref().and_then(|stored| cache.of(&self.key, stored).ok());
            if self.after.is_none() {
                cache.forget(&self.key);
            }
            [before, after]
        })
    }

    /// The object that an event of this type shows: what is gone is shown as it was, at the version of its going.
    pub fn shown(&self, event: EventType) -> Option<Stored> {
        match event {
            EventType::Added | EventType::Modified => self.after.clone(),
            EventType::Deleted => self.before.as_ref().map(|stored| stored.at(self.revision)),
        }
    }

    /// The event as a line of a watch. Made once for all watches that do not lag. Empty if the object cannot be read.
    pub fn line(&self, event: EventType) -> Bytes {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || self.shown(event).map_or_else(Bytes::new, |stored| line(event.name(), &stored));
        lines[event as usize].get_or_insert_with(make).clone()
    }

    /// Keeps no line any longer: they are made again for who asks.
    pub fn let_lines_go(&self) {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }
}

/// An event as a line; empty if the object cannot be read.
pub fn line(event: &str, stored: &Stored) -> Bytes {
    let mut out = Vec::with_capacity(stored.value().len() + 128);
    out.extend_from_slice(format!("{{\"type\":\"{event}\",\"object\":").as_bytes());
    if stored.write(&mut out).is_err() {
        return Bytes::new();
    }
    out.extend_from_slice(b"}\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_let_go_is_made_again() {
        let resource = api::resource::find("", "Pod").expect("pods");
        let value = crate::stored::encode(resource, &serde_json::json!({"metadata": {"name": "a"}}));
        let after = Some(Stored::new(resource, value, 7));
        let (facts, lines) = Default::default();
        let change = Change { revision: 7, key: "k".into(), after, before: None, facts, lines };
        let line = change.line(EventType::Added);
        assert_eq!(change.line(EventType::Added).as_ptr(), line.as_ptr());
        change.let_lines_go();
        assert_ne!(change.line(EventType::Added).as_ptr(), line.as_ptr());
        assert_eq!(change.line(EventType::Added), line);
    }

    #[test]
    fn selections_are_entered_and_left() {
        let told: Vec<_> = [(false, false), (false, true), (true, true), (true, false)]
            .map(|(before, after)| event_type(before, after))
            .into();
        assert_eq!(told, [None, Some(EventType::Added), Some(EventType::Modified), Some(EventType::Deleted)]);
    }
}
