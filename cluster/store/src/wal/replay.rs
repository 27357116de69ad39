//! What a log says, from the bytes of its segments. Pure.
//!
//! ```text
//! segment 7 ─link─> segment 8 ─link─> segment 9 (the tail, perhaps torn)    segment 10 (prepared, without records)
//! ```
//!
//! A link is durable before anything is written to the segment that it leads to. So only the last linked segment can be
//! torn, and records in a segment that no link leads to mean that a durable link is gone.

use super::record::{Head, Kind, Position, Record, scan};
use super::segment;
use super::{Identity, WalError};
use raft::{Entry, HardState, Index, SnapshotMeta};
use serde::de::DeserializeOwned;

/// Reads segments one after the other, in order of their sequence numbers.
pub struct Replay {
    dir: String,
    identity: Identity,
    log: Log,
    /// The linked segments before the tail.
    older: Vec<Linked>,
    tail: Option<Linked>,
    /// The segment that the tail's link leads to.
    link: Option<u64>,
    /// The segment after the tail, if it is there already.
    prepared: Option<Head>,
}

/// What the records say, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Newest term, vote and commit.
    pub hard_state: HardState,
    /// Newest snapshot that was noted.
    pub snapshot: Option<SnapshotMeta>,
    /// Contiguous; the first may be before or after the snapshot.
    pub entries: Vec<Entry>,
}

/// A segment that is part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linked {
    /// What it says of itself.
    pub head: Head,
    /// Highest index of an entry that was ever in it; 0 if none was.
    pub last_index: Index,
    /// Behind its last record.
    pub position: Position,
    /// Where records end that a crash left beyond the log's end, if there are any.
    pub stray_end: Option<usize>,
}

/// The whole of what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What the records say.
    pub log: Log,
    /// All that others follow, in order.
    pub older: Vec<Linked>,
    /// The one in which the log ends. None for a log that has no segment.
    pub tail: Option<Linked>,
    /// A segment that is ready to follow the tail.
    pub prepared: Option<Head>,
}

impl Replay {
    /// Of the log in `dir` (for messages), which must belong to `identity`.
    pub fn new(dir: &str, identity: Identity) -> Replay {
        Replay {
            dir: dir.to_owned(),
            identity,
            log: Log::default(),
            older: Vec::new(),
            tail: None,
            link: None,
            prepared: None,
        }
    }

    /// Reads the next segment, whose name says `sequence`. Returns whether the log goes on into it.
    ///
    /// # Errors
    /// Any but those about space and writing.
    pub fn segment(&mut self, sequence: u64, bytes: &[u8]) -> Result<bool, WalError> {
        let path = self.path(sequence);
        let (head, salt) = Head::decode(&path, bytes)?;
        if head.identity != self.identity {
            return Err(WalError::Foreign { segment: path, found: head.identity, expected: self.identity });
        }
        if head.sequence != sequence || bytes.len() != head.segment_bytes as usize {
            return Err(self.corrupt(sequence, 0, "name or size are not what the head says"));
        }
        let before = self.prepared.or(self.tail.as_ref().map(|tail| tail.head));
        if before.is_some_and(|before| before.sequence + 1 != sequence) {
            return Err(self.corrupt(sequence, 0, "the segment before it is missing"));
        }
        let scan = scan(bytes, salt)
            .map_err(|offset| self.corrupt(sequence, offset, "a record that was synced is damaged or missing"))?;
        match (&self.tail, self.link.take()) {
            (Some(tail), None) => {
                if !scan.records.is_empty() || scan.stray_end.is_some() {
                    let (tail, end) = (tail.head.sequence, tail.position.offset as usize);
                    return Err(self.corrupt(
                        tail,
                        end,
                        "the record that leads to the next segment is damaged or missing",
                    ));
                }
                self.prepared = Some(head);
                return Ok(false);
            }
            (Some(tail), Some(link)) if link != sequence => {
                return Err(self.corrupt(tail.head.sequence, 0, "it leads to a segment that is not there"));
            }
            (Some(tail), Some(_)) => self.older.push(*tail),
            (None, _) => {}
        }
        let mut last_index = 0;
        for record in &scan.records {
            last_index = last_index.max(self.apply(sequence, bytes, record)?);
        }
        self.tail = Some(Linked { head, last_index, position: scan.position, stray_end: scan.stray_end });
        Ok(true)
    }

    /// What all segments say together.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] when a segment is missing at the end.
    pub fn finish(self) -> Result<Replayed, WalError> {
        if let (Some(link), Some(tail)) = (self.link, &self.tail) {
            let what = format!("it leads to {}, which is not there", segment::name(link));
            return Err(self.corrupt(tail.head.sequence, tail.position.offset as usize, &what));
        }
        Ok(Replayed { log: self.log, older: self.older, tail: self.tail, prepared: self.prepared })
    }

    /// Takes in one record; returns the index of its entry, or 0.
    fn apply(&mut self, sequence: u64, bytes: &[u8], record: &Record) -> Result<Index, WalError> {
        let payload = &bytes[record.payload.clone()];
        let at = (sequence, record.offset);
        match record.kind {
            Kind::HardState => self.log.hard_state = self.plain(at, payload)?,
            Kind::Snapshot => {
                let snapshot = self.plain(at, payload)?;
                self.log.note_snapshot(snapshot);
            }
            Kind::Link => self.link = Some(self.plain(at, payload)?),
            Kind::Entry => {
                let entry: Entry = self.plain(at, payload)?;
                let index = entry.index;
                self.log.put(entry).map_err(|what| self.corrupt(at.0, at.1, &what))?;
                return Ok(index);
            }
        }
        Ok(0)
    }

    fn plain<T: DeserializeOwned>(&self, at: (u64, usize), payload: &[u8]) -> Result<T, WalError> {
        postcard::from_bytes(payload).map_err(|error| {
            self.corrupt(at.0, at.1, &format!("a record with a good checksum makes no sense ({error})"))
        })
    }

    fn corrupt(&self, sequence: u64, offset: usize, what: &str) -> WalError {
        WalError::Corrupt { segment: self.path(sequence), offset: offset as u64, what: what.to_owned() }
    }

    fn path(&self, sequence: u64) -> String {
        format!("{}/{}", self.dir, segment::name(sequence))
    }
}

impl Log {
    /// Index of the last entry; without entries, that of the snapshot or 0.
    pub fn last_index(&self) -> Index {
        let snapshot = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        self.entries.last().map_or(snapshot, |entry| entry.index)
    }

    /// Takes in a snapshot, if it is newer than the one noted. One that the entries do not lead up to replaces them all.
    pub fn note_snapshot(&mut self, snapshot: SnapshotMeta) {
        if self.snapshot.as_ref().is_some_and(|noted| noted.index >= snapshot.index) {
            return;
        }
        if !self.leads_up_to(&snapshot) {
            self.entries.clear();
        }
        self.snapshot = Some(snapshot);
    }

    /// Takes in an entry, and drops those at its index and after it.
    fn put(&mut self, entry: Entry) -> Result<(), String> {
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
            if entry.index > last.index + 1 {
                return Err(format!("entry {} follows entry {}", entry.index, last.index));
            }
            self.entries.truncate(entry.index.saturating_sub(first.index) as usize);
        }
        self.entries.push(entry);
        Ok(())
    }

    fn leads_up_to(&self, snapshot: &SnapshotMeta) -> bool {
        let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) else {
            return true;
        };
        match snapshot.index.checked_sub(first.index) {
            // Entries that begin after it: only its own index could contradict, and that is gone from the log.
            None => true,
            Some(_) if last.index < snapshot.index => false,
            Some(at) => self.entries[at as usize].term == snapshot.term,
        }
    }

    /// Checks that the log continues `newest`, the newest snapshot that can be read (index 0: there is none), and notes
    /// it. Returns whether it was news.
    ///
    /// # Errors
    /// [`WalError::SnapshotMissing`]; [`WalError::Corrupt`] when the log lost entries that are committed. `dir` is for the
    /// message.
    pub fn continue_from(&mut self, newest: &SnapshotMeta, dir: &str) -> Result<bool, WalError> {
        let noted = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        let is_news = newest.index > noted;
        if is_news {
            self.note_snapshot(newest.clone());
        }
        let wanted = self.entries.first().map_or(noted, |first| first.index - 1);
        if newest.index < wanted {
            return Err(WalError::SnapshotMissing { dir: dir.to_owned(), wanted, found: newest.index });
        }
        let (last, commit) = (self.last_index(), self.hard_state.commit);
        if last < commit {
            return Err(WalError::Corrupt {
                segment: dir.to_owned(),
                offset: 0,
                what: format!("the log ends at entry {last}, but entries up to {commit} were committed"),
            });
        }
        Ok(is_news)
    }
}
