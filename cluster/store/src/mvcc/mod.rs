//! All keys at all revisions that are not compacted, as an immutable tree: cloning it pins a revision for as long as
//! the clone lives, at the price of a few reference counts.
//!
//! ```text
//! keys: key ─▶ latest version          log: revision ─▶ its changes, each with the version before
//!
//! "a" ─▶ put@9 ──────────────────────▶ 9: [a: put@9, before ─▶ put@4]
//!                                      7: [b: removed@7, before ─▶ put@5]
//! "b" ─▶ removed@7 ──────────────────▶ …
//! ```
//!
//! A read of the latest state takes it from `keys`. A read as of revision r goes back from a key's latest version,
//! through the changes that made the later ones, to the first that is not younger than r. A watch walks `log`. After
//! compaction at c, `log` holds the revisions from c on, and `keys` no longer those that were removed by then; what the
//! changes after c found before them is kept by these changes themselves.
//!
//! **Invariant:** the revision rises by exactly one with each transaction that changes something
//! (`revisions_rise_by_one_per_effective_transaction` in `tests`, C4).
//! **Invariant:** every read and every watch from the compacted revision on tells the same before and after compaction
//! (`agrees_with_a_list_of_all_versions`).
//! **Invariant:** `hash`, `bytes` and `len` are what a full count would give (`agrees_with_a_list_of_all_versions`).

mod span;
#[cfg(test)]
mod tests;
mod version;
mod writer;

pub use span::{Span, TO_THE_END};
pub use version::{Change, Version, mix};
pub use writer::Writer;

use crate::types::{KeyValue, RangeRequest, RangeResponse, RefusedKind};
use bytes::Bytes;
use imbl::OrdMap;
use std::sync::Arc;

/// Revision of an empty store, as in etcd.
pub const FIRST_REVISION: i64 = 1;

/// All keys at all revisions that are not compacted. Cloning is cheap and pins what it shows.
#[derive(Clone, Debug)]
pub struct Tree {
    keys: OrdMap<Bytes, Arc<Version>>,
    log: OrdMap<i64, Arc<[Change]>>,
    revision: i64,
    compacted: i64,
    len: u64,
    bytes: u64,
    hash: u64,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            keys: OrdMap::new(),
            log: OrdMap::new(),
            revision: FIRST_REVISION,
            compacted: 0,
            len: 0,
            bytes: 0,
            hash: 0,
        }
    }

    /// The latest revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The first revision that is readable; 0 before the first compaction.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Keys that exist.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no key exists.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held, roughly: keys and values of all versions, history included, and what surrounds them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hash of all existing keys with their values and numbers. Equal states have equal hashes, however they came to be.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// A key's latest state.
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key).filter(|version| !version.removed).map(|version| &version.kv)
    }

    /// Every key of `span` that exists now, in order.
    pub fn latest<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = &'a Arc<Version>> {
        self.slots(span).filter(|version| !version.removed)
    }

    /// Answers a read; the header's revision is the latest, whatever revision was read.
    ///
    /// # Errors
    /// [`RefusedKind::Compacted`] and [`RefusedKind::FutureRevision`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, RefusedKind> {
        self.check_revision(request.revision)?;
        let span = Span::new(request.key.clone(), request.range_end.clone());
        let mut response = RangeResponse::default();
        response.header.revision = self.revision;
        let limit = if request.limit > 0 { request.limit } else { i64::MAX };
        let historical = request.revision > 0 && request.revision < self.revision;
        for latest in self.slots(&span) {
            let found = if historical { self.as_of(latest, request.revision) } else { Some(latest) };
            let Some(version) = found.filter(|version| !version.removed) else { continue };
            response.count += 1;
            if request.count_only {
                continue;
            }
            if response.count > limit {
                response.more = true;
                continue;
            }
            let mut kv = version.kv.clone();
            if request.keys_only {
                kv.value = Bytes::new();
            }
            response.kvs.push(kv);
        }
        Ok(response)
    }

    /// Whether a read as of `revision`, 0 for the latest, can be answered.
    ///
    /// # Errors
    /// [`RefusedKind::Compacted`] and [`RefusedKind::FutureRevision`].
    pub fn check_revision(&self, revision: i64) -> Result<(), RefusedKind> {
        if revision > self.revision {
            Err(RefusedKind::FutureRevision)
        } else if revision > 0 && revision < self.compacted {
            Err(RefusedKind::Compacted(self.compacted))
        } else {
            Ok(())
        }
    }

    /// The revisions from `from` on that are not compacted, each with its changes as its transaction made them.
    pub fn changes(&self, from: i64) -> impl Iterator<Item = (i64, &[Change])> {
        self.log.range::<_, i64>(from..).map(|(revision, changes)| (*revision, &changes[..]))
    }

    /// Begins a transaction. What it does shows at once; [`Writer::finish`] gives it its revision.
    pub fn write(&mut self) -> Writer<'_> {
        Writer::new(self)
    }

    /// Forgets every version that was overwritten or removed by `revision`, and the changes before it.
    ///
    /// # Errors
    /// [`RefusedKind::Compacted`] if this was done already, [`RefusedKind::FutureRevision`].
    pub fn compact(&mut self, revision: i64) -> Result<(), RefusedKind> {
        if revision <= self.compacted {
            return Err(RefusedKind::Compacted(self.compacted));
        }
        if revision > self.revision {
            return Err(RefusedKind::FutureRevision);
        }
        let until_now = self.compacted;
        let passed: Vec<(i64, Arc<[Change]>)> =
            self.log.range::<_, i64>(..=revision).map(|(at, changes)| (*at, changes.clone())).collect();
        for (at, changes) in &passed {
            for change in changes.iter() {
                if let Some(before) = change.before.as_ref().filter(|before| !before.removed) {
                    self.bytes -= before.bytes();
                }
                if change.version.removed && *at > until_now {
                    self.forget_removed(&change.version);
                }
            }
            if *at < revision {
                self.log.remove(at);
            }
        }
        if let Some((at, changes)) = passed.last().filter(|(at, _)| *at == revision) {
            // What this revision found is compacted; a watch from here on still sees what it did.
            let alone = changes.iter().map(|change| Change { version: change.version.clone(), before: None });
            self.log.insert(*at, alone.collect());
        }
        self.compacted = revision;
        Ok(())
    }

    /// Every key of `span` that has a version, in order, those removed too.
    fn slots<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = &'a Arc<Version>> {
        // One key is found faster than a range is opened, and it is the commonest read.
        let (only, range) = match span {
            Span::Key(key) => (self.keys.get(&key[..]), None),
            Span::Between(..) | Span::From(_) | Span::Nothing => (None, span.bounds()),
        };
        let range = range.map(|bounds| self.keys.range::<_, [u8]>(bounds));
        only.into_iter().chain(range.into_iter().flatten().map(|(_, version)| version))
    }

    /// The state as of `revision`, which is not compacted, of the key whose latest version is given.
    fn as_of<'a>(&'a self, latest: &'a Arc<Version>, revision: i64) -> Option<&'a Arc<Version>> {
        let mut version = latest;
        while version.kv.mod_revision > revision {
            let changes = self.log.get(&version.kv.mod_revision)?;
            version = changes[version.place as usize].before.as_ref()?;
        }
        Some(version)
    }

    /// Drops a removed key's last version, unless the key exists again.
    fn forget_removed(&mut self, removed: &Arc<Version>) {
        self.bytes -= removed.bytes();
        let latest = self.keys.get(&removed.kv.key[..]);
        if latest.is_some_and(|latest| latest.kv.mod_revision == removed.kv.mod_revision) {
            self.keys.remove(&removed.kv.key[..]);
        }
    }
}

/// A pinned tree as a list from which an equal one is made, and back.
impl Tree {
    /// The state as of the compacted revision: what [`Self::changes`] from there on begin with.
    pub(crate) fn base(&self) -> impl Iterator<Item = &KeyValue> {
        let revision = self.compacted;
        let versions = self.keys.values().filter_map(move |latest| self.as_of(latest, revision));
        versions.filter(|version| !version.removed).map(|version| &version.kv)
    }

    /// An empty tree, compacted at `compacted`, into which a base and then changes are loaded.
    pub(crate) fn compacted_at(compacted: i64) -> Self {
        Self { revision: compacted.max(FIRST_REVISION), compacted, ..Self::new() }
    }

    /// Loads one key of the base.
    pub(crate) fn load_base(&mut self, kv: KeyValue) {
        let version = Version::put(kv, 0);
        self.bytes += version.bytes();
        self.set_latest(&version);
    }

    /// Loads the changes of the next revision, each with whether it removed its key. The compacted revision's come first.
    ///
    /// # Errors
    /// What is wrong, for people: `revision` is not the next.
    pub(crate) fn load_changes(&mut self, revision: i64, changes: Vec<(KeyValue, bool)>) -> Result<(), String> {
        let first = self.log.is_empty() && revision == self.compacted;
        if !first && revision != self.revision + 1 {
            return Err(format!("revision {revision} follows {}", self.revision));
        }
        let mut loaded = Vec::with_capacity(changes.len());
        for (place, (kv, removed)) in (0..).zip(changes) {
            let version = if removed { Version::removed(kv, place) } else { Version::put(kv, place) };
            let mut before = None;
            if first {
                // It is in the base already, or removed there.
                if !removed {
                    self.keys.insert(version.kv.key.clone(), version.clone());
                }
            } else {
                self.bytes += version.bytes();
                before = self.set_latest(&version);
            }
            loaded.push(Change { version, before });
        }
        self.log.insert(revision, loaded.into());
        self.revision = revision;
        Ok(())
    }

    /// Makes `version` its key's latest, keeping `len` and `hash`; gives the one before.
    fn set_latest(&mut self, version: &Arc<Version>) -> Option<Arc<Version>> {
        let before = match self.keys.get_mut(&version.kv.key[..]) {
            Some(latest) => Some(std::mem::replace(latest, version.clone())),
            None => {
                self.keys.insert(version.kv.key.clone(), version.clone());
                None
            }
        };
        let existed = before.as_ref().is_some_and(|before| !before.removed);
        self.len = self.len + u64::from(!version.removed) - u64::from(existed);
        self.hash = self.hash.wrapping_add(version.hash).wrapping_sub(before.as_ref().map_or(0, |before| before.hash));
        before
    }
}
