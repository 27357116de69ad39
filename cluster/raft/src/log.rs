//! The log in memory: which entries there are, and how far they are handed out, durable, committed and delivered.
//!
//! ```text
//!        base            delivered      commit         durable      handed        last
//!  ───────┼───────────────────┼────────────┼──────────────┼────────────┼────────────┤
//!   gone  │ kept for laggards, to be applied             │ being      │ to be      │
//!         │                                              │ written    │ written    │
//! ```
//! `durable` and `commit` move independently of each other; what is delivered is both.
//!
//! **Invariant:** entries are contiguous, their terms never fall, nothing at or below `commit` is ever replaced, `commit` never
//! falls and never passes the end. Asserted here; exercised by `tests/adversary`.

use std::collections::VecDeque;

use crate::{Entry, HardState, Index, NodeId, Restored, SnapshotMeta, Term};

/// What an entry takes besides its data, so that bounds in bytes also bound the number of empty entries.
const ENTRY_OVERHEAD: usize = 32;

/// Size of an entry for the purpose of all bounds.
pub(crate) fn size(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD
}

#[derive(Debug)]
pub(crate) struct Log {
    /// Index and term of the entry before the first of `entries`.
    base_index: Index,
    base_term: Term,
    entries: VecDeque<Entry>,
    /// The newest snapshot that can be sent: at `base_index` or above.
    snapshot: SnapshotMeta,
    /// `snapshot` came from the leader and has not been handed out to be installed.
    install: bool,
    handed: Index,
    durable: Index,
    commit: Index,
    delivered: Index,
    applied: Index,
    writes: VecDeque<Write>,
}

/// A Ready whose contents are being made durable.
#[derive(Debug)]
struct Write {
    number: u64,
    /// The log is durable up to here once this is. Lowered when entries that it wrote are replaced meanwhile.
    covers: Index,
    term: Term,
    vote: NodeId,
}

impl Log {
    pub(crate) fn new(restored: Restored) -> Log {
        let Restored { hard_state, snapshot, entries, applied } = restored;
        assert!(applied >= snapshot.index, "state applied up to {applied} lacks its snapshot at {}", snapshot.index);
        let mut log = Log {
            base_index: snapshot.index,
            base_term: snapshot.term,
            entries: VecDeque::new(),
            install: false,
            handed: snapshot.index,
            durable: snapshot.index,
            commit: hard_state.commit.max(applied),
            delivered: applied,
            applied,
            writes: VecDeque::new(),
            snapshot,
        };
        log.restore_entries(entries);
        log.handed = log.last_index();
        log.durable = log.last_index();
        assert!(
            log.commit <= log.durable,
            "the log ends at {} and lost committed entries up to {}",
            log.durable,
            log.commit
        );
        log
    }

    fn restore_entries(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        let at_snapshot = self.snapshot.index;
        assert!(first.index <= at_snapshot + 1, "entries {}..={} are missing", at_snapshot + 1, first.index - 1);
        if first.index <= at_snapshot {
            let agrees =
                entries.get((at_snapshot - first.index) as usize).is_some_and(|e| e.term == self.snapshot.term);
            assert!(agrees, "the log has no entry that agrees with its snapshot at {at_snapshot}");
            // The first entry turns into the base: of the one before it, the term is unknown.
            (self.base_index, self.base_term) = (first.index, first.term);
        }
        for entry in entries {
            if entry.index > self.base_index {
                self.push(entry);
            }
        }
    }

    pub(crate) fn base_index(&self) -> Index {
        self.base_index
    }

    pub(crate) fn last_index(&self) -> Index {
        self.base_index + self.entries.len() as u64
    }

    pub(crate) fn last_term(&self) -> Term {
        self.entries.back().map_or(self.base_term, |e| e.term)
    }

    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn snapshot(&self) -> &SnapshotMeta {
        &self.snapshot
    }

    /// Whether a snapshot from the leader is not yet durable here: until then the log has no durable beginning.
    pub(crate) fn is_installing(&self) -> bool {
        self.durable < self.base_index
    }

    /// Term of the entry at `index`; `None` when it is before the base or after the end.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base_index {
            return Some(self.base_term);
        }
        self.entry(index).map(|e| e.term)
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        let offset = index.checked_sub(self.base_index + 1)?;
        self.entries.get(offset as usize)
    }

    /// Whether a log with this end holds everything that may be committed here (§5.4.1).
    pub(crate) fn is_up_to_date(&self, last_index: Index, last_term: Term) -> bool {
        (last_term, last_index) >= (self.last_term(), self.last_index())
    }

    /// Entries from `from` on, at least one if there is one, of at most `max_bytes` together.
    pub(crate) fn slice(&self, from: Index, to: Index, max_bytes: usize) -> Vec<Entry> {
        assert!(from > self.base_index, "entry {from} is compacted up to {}", self.base_index);
        if to < from {
            return Vec::new();
        }
        let range = (from - self.base_index - 1) as usize..(to - self.base_index) as usize;
        let mut bytes = 0;
        let count = self
            .entries
            .range(range.clone())
            .take_while(|e| {
                bytes += size(e);
                bytes <= max_bytes
            })
            .count()
            .max(1);
        self.entries.range(range.start..range.start + count).cloned().collect()
    }

    /// Sum of the sizes of entries `from..=to`.
    pub(crate) fn bytes(&self, from: Index, to: Index) -> usize {
        (from..=to).filter_map(|index| self.entry(index)).map(size).sum()
    }

    /// The largest index up to `index` whose term is at most `term`, with its term: nothing above it can agree with a log
    /// whose entry at `index` has `term`.
    pub(crate) fn last_at_most(&self, index: Index, term: Term) -> (Index, Term) {
        let index = index.min(self.last_index());
        let Some(within) = index.checked_sub(self.base_index) else {
            return (index, 0);
        };
        // Terms never fall along the log, so those above `term` are at its end.
        let count = self.entries.partition_point(|e| e.term <= term).min(within as usize);
        let found = self.base_index + count as u64;
        (found, self.term(found).unwrap_or(0))
    }

    /// Appends at the end.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index() + 1, "the log is contiguous");
        assert!(entry.term >= self.last_term(), "terms never fall: {} after {}", entry.term, self.last_term());
        self.entries.push_back(entry);
    }

    /// Appends what a leader sent to follow an entry that is here and agrees; what is here already is left alone, what
    /// contradicts is replaced. Returns whether something was replaced.
    pub(crate) fn merge(&mut self, entries: Vec<Entry>) -> bool {
        let mut replaced = false;
        for entry in entries {
            if entry.index <= self.last_index() {
                if self.term(entry.index) == Some(entry.term) {
                    continue;
                }
                self.truncate(entry.index);
                replaced = true;
            }
            self.push(entry);
        }
        replaced
    }

    /// Drops entries from `from` on, and whatever was claimed about them.
    fn truncate(&mut self, from: Index) {
        assert!(from > self.commit, "entry {from} is committed (up to {}) and never replaced", self.commit);
        self.entries.truncate((from - self.base_index - 1) as usize);
        self.handed = self.handed.min(from - 1);
        self.forget_durable(from - 1);
    }

    /// Only what is at or below `index` may still count as durable, also once writes under way are done.
    fn forget_durable(&mut self, index: Index) {
        self.durable = self.durable.min(index);
        for write in &mut self.writes {
            write.covers = write.covers.min(index);
        }
    }

    /// Raises the commit index.
    pub(crate) fn commit_to(&mut self, index: Index) {
        if index > self.commit {
            assert!(
                index <= self.last_index(),
                "asked to commit {index}, but the log ends at {}: entries that were \
                acknowledged as durable are lost",
                self.last_index()
            );
            self.commit = index;
        }
    }

    /// Replaces the whole log by a snapshot from the leader, above the commit index.
    pub(crate) fn install(&mut self, meta: SnapshotMeta) {
        assert!(meta.index > self.commit, "a snapshot never takes back what is committed");
        self.forget_durable(self.commit);
        self.entries.clear();
        (self.base_index, self.base_term) = (meta.index, meta.term);
        self.commit = meta.index;
        self.handed = meta.index;
        self.delivered = meta.index;
        self.snapshot = meta;
        self.install = true;
    }

    /// Takes `snapshot` as the one to send from now on and drops what it covers, except the last `tail` entries.
    pub(crate) fn compact(&mut self, snapshot: SnapshotMeta, tail: u64) {
        if snapshot.index <= self.snapshot.index {
            return;
        }
        assert!(
            snapshot.index <= self.applied,
            "a snapshot at {} of state applied up to {}",
            snapshot.index,
            self.applied
        );
        assert_eq!(self.term(snapshot.index), Some(snapshot.term), "the snapshot at {} is of this log", snapshot.index);
        // Until the entries are written the log cannot do without them.
        let base = (snapshot.index - tail.min(snapshot.index)).min(self.durable);
        self.snapshot = snapshot;
        if let Some(term) = self.term(base).filter(|_| base > self.base_index) {
            self.entries.drain(..(base - self.base_index) as usize);
            (self.base_index, self.base_term) = (base, term);
        }
    }

    /// State is applied up to `index`.
    pub(crate) fn applied_to(&mut self, index: Index) {
        assert!(index <= self.delivered, "applied {index}, but only up to {} was delivered", self.delivered);
        self.applied = self.applied.max(index);
    }

    /// The hard state's commit: never above what is durable, so that it can be written in any order with the entries.
    pub(crate) fn durable_commit(&self) -> Index {
        self.commit.min(self.durable)
    }

    pub(crate) fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    pub(crate) fn has_unhanded(&self) -> bool {
        self.install || self.handed < self.last_index()
    }

    pub(crate) fn has_undelivered(&self) -> bool {
        self.delivered < self.durable_commit()
    }

    /// The snapshot to install, once.
    pub(crate) fn take_install(&mut self) -> Option<SnapshotMeta> {
        std::mem::take(&mut self.install).then(|| self.snapshot.clone())
    }

    /// The entries to write, once.
    pub(crate) fn take_unhanded(&mut self) -> Vec<Entry> {
        let entries = self.slice(self.handed + 1, self.last_index(), usize::MAX);
        self.handed = self.last_index();
        entries
    }

    /// What may be applied, once.
    pub(crate) fn take_committed(&mut self, max_bytes: usize) -> Vec<Entry> {
        if !self.has_undelivered() {
            return Vec::new();
        }
        let entries = self.slice(self.delivered + 1, self.durable_commit(), max_bytes);
        self.delivered += entries.len() as u64;
        entries
    }

    /// Ready `number` writes everything handed out so far.
    pub(crate) fn begin_write(&mut self, number: u64, hard_state: &HardState) {
        let (term, vote) = (hard_state.term, hard_state.vote);
        self.writes.push_back(Write { number, covers: self.handed, term, vote });
    }

    /// Ready `number` and all before it are durable. Returns the term and vote that are durable now, if anything is news.
    pub(crate) fn persisted(&mut self, number: u64) -> Option<(Term, NodeId)> {
        let mut news = None;
        while let Some(write) = self.writes.pop_front_if(|w| w.number <= number) {
            self.durable = self.durable.max(write.covers);
            news = Some((write.term, write.vote));
        }
        news
    }
}
