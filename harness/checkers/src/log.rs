//! The serial order of a trial: what each revision changed, as the harness saw it applied, and the state after each.

use faults::Ns;
use record::{Compare, Expect, KeyRange, KeyValue, Observation, Record, WatchEvent};
use std::collections::BTreeMap;

/// Revision of an empty store. The first transaction that changes something makes the next one.
pub(crate) const FIRST_REVISION: i64 = 1;

/// Every revision seen, in order, and every key's history.
pub(crate) struct Log<'a> {
    /// One per revision, ascending.
    pub(crate) entries: Vec<Entry<'a>>,
    /// Further observations of a revision that is among the entries already.
    pub(crate) repeats: Vec<Entry<'a>>,
    /// In order of bytes.
    keys: Vec<&'a str>,
    /// By position in `keys`; ascending by revision.
    versions: Vec<Vec<Version<'a>>>,
}

/// What one revision changed.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) revision: i64,
    /// When it was first seen.
    pub(crate) at_ns: Ns,
    /// Where.
    pub(crate) member: u32,
    pub(crate) events: &'a [WatchEvent],
}

/// A key from this revision on.
#[derive(Clone, Copy)]
pub(crate) struct Version<'a> {
    pub(crate) revision: i64,
    /// `None` once deleted.
    pub(crate) kv: Option<&'a KeyValue>,
}

impl Entry<'_> {
    /// Whether an orchestrator on the store made it: its keys are paths, and no client's are.
    pub(crate) fn is_the_orchestrators(&self) -> bool {
        self.events.iter().all(|event| key_of(event).starts_with('/'))
    }
}

impl<'a> Log<'a> {
    pub(crate) fn new(record: &'a Record) -> Self {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        for observation in &record.observations {
            if let Observation::Applied { at_ns, member, revision, events } = observation {
                entries.push(Entry { revision: *revision, at_ns: *at_ns, member: *member, events });
            }
        }
        entries.sort_by_key(|e| e.revision);
        let mut repeats = Vec::new();
        entries.dedup_by(|later, first| {
            let repeated = later.revision == first.revision;
            if repeated {
                repeats.push(*later);
            }
            repeated
        });
        let (keys, versions) = histories(&entries);
        Self { entries, repeats, keys, versions }
    }

    /// The newest revision seen.
    pub(crate) fn last(&self) -> i64 {
        self.entries.last().map_or(FIRST_REVISION, |e| e.revision)
    }

    /// Position of `revision` in `entries`.
    pub(crate) fn slot(&self, revision: i64) -> Option<usize> {
        self.entries.binary_search_by_key(&revision, |e| e.revision).ok()
    }

    /// Position of the first entry after `revision`.
    pub(crate) fn after(&self, revision: i64) -> usize {
        self.entries.partition_point(|e| e.revision <= revision)
    }

    /// The key's state once `revision` is applied.
    pub(crate) fn at(&self, key: &str, revision: i64) -> Option<&'a KeyValue> {
        self.version_at(key, revision)?.kv
    }

    /// The key's last change up to `revision`, a deletion included.
    pub(crate) fn version_at(&self, key: &str, revision: i64) -> Option<Version<'a>> {
        let position = self.keys.binary_search(&key).ok()?;
        version_at(&self.versions[position], revision)
    }

    /// Everything that the key ever was, in order.
    pub(crate) fn history(&self, key: &str) -> &[Version<'a>] {
        self.position(key).map_or(&[], |position| &self.versions[position])
    }

    /// The state once `revision` is applied of all keys in `range`, in order.
    pub(crate) fn range_at(&self, range: &KeyRange, revision: i64) -> impl Iterator<Item = &'a KeyValue> {
        let positions = self.positions(range);
        self.versions[positions].iter().filter_map(move |versions| version_at(versions, revision)?.kv)
    }

    /// Every key in `range` that ever changed, in order, with its position among all keys.
    pub(crate) fn keys_in(&self, range: &KeyRange) -> impl Iterator<Item = (usize, &'a str)> {
        let positions = self.positions(range);
        positions.clone().zip(self.keys[positions].iter().copied())
    }

    /// Keys that ever changed.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The key's position among all keys.
    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        self.keys.binary_search(&key).ok()
    }

    /// Keys bound to `lease` once `revision` is applied.
    pub(crate) fn bound_to(&self, lease: i64, revision: i64) -> impl Iterator<Item = &'a str> {
        self.versions.iter().filter_map(move |versions| {
            let kv = version_at(versions, revision)?.kv?;
            (kv.lease == lease).then_some(kv.key.as_str())
        })
    }

    /// Whether `compare` holds once `revision` is applied. A key that does not exist has revisions 0 and no value.
    pub(crate) fn holds(&self, compare: &Compare, revision: i64) -> bool {
        let kv = self.at(&compare.key, revision);
        match &compare.expect {
            Expect::ModRevision(expected) => kv.map_or(0, |kv| kv.mod_revision) == *expected,
            Expect::CreateRevision(expected) => kv.map_or(0, |kv| kv.create_revision) == *expected,
            Expect::Value(expected) => kv.is_some_and(|kv| kv.value == *expected),
        }
    }

    fn positions(&self, range: &KeyRange) -> std::ops::Range<usize> {
        let from = self.keys.partition_point(|key| *key < range.from.as_str());
        let until = match &range.until {
            Some(until) => self.keys.partition_point(|key| *key < until.as_str()),
            None => from + usize::from(self.keys.get(from) == Some(&range.from.as_str())),
        };
        from..until.max(from)
    }
}

/// The key that an event is about.
pub(crate) fn key_of(event: &WatchEvent) -> &str {
    match event {
        WatchEvent::Put(kv) => &kv.key,
        WatchEvent::Delete { key, .. } => key,
    }
}

/// The revision that an event says it happened at.
pub(crate) fn revision_of(event: &WatchEvent) -> i64 {
    match event {
        WatchEvent::Put(kv) => kv.mod_revision,
        WatchEvent::Delete { mod_revision, .. } => *mod_revision,
    }
}

fn histories<'a>(entries: &[Entry<'a>]) -> (Vec<&'a str>, Vec<Vec<Version<'a>>>) {
    let mut histories: BTreeMap<&'a str, Vec<Version<'a>>> = BTreeMap::new();
    for entry in entries {
        for event in entry.events {
            let kv = match event {
                WatchEvent::Put(kv) => Some(kv),
                WatchEvent::Delete { .. } => None,
            };
            let revision = entry.revision;
            histories.entry(key_of(event)).or_default().push(Version { revision, kv });
        }
    }
    histories.into_iter().unzip()
}

fn version_at<'a>(versions: &[Version<'a>], revision: i64) -> Option<Version<'a>> {
    let newer = versions.partition_point(|v| v.revision <= revision);
    Some(versions[newer.checked_sub(1)?])
}
