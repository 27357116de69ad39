//! The write-ahead log: what a member must not forget, in segments of fixed size.
//!
//! ```text
//! append ─> buffer ─one write─> current segment ──sync: one fdatasync──> durable
//!                                     │ full: link, sync
//!                                     v
//! background: prepare ───────> next segment, ready before it is needed <── spare <── release of old segments
//! ```
//!
//! - [`Wal::append`] writes, [`Wal::sync`] makes durable; whoever appends several things before a sync pays one sync for
//!   all. Between the two anything may happen to them, and nothing to what was synced before.
//! - An entry voids the entries at its index and after it, so a log is cut by appending.
//! - Segments are full size and zeroed before use, or recycled: appending never needs space. Space is needed to prepare
//!   the next one, long before the current one ends. While that fails ([`Wal::is_starved`]) the log goes on in what is left.
//! - After an error of the disk the log is closed for good. Only opening it anew finds out what is on the disk, and makes
//!   durable what it finds before it relies on it: what a page cache shows may be what a failed sync left behind.
//! - A tail that power loss tore is cut. A record missing before one that knows it to be durable is never passed over:
//!   [`WalError::Corrupt`].
//!
//! **Invariant:** what was appended before a successful sync is recovered, after any crash, and what is recovered is a
//! prefix of what was appended (`tests/wal_crash.rs`; for each torn variant of a log's bytes, `wal::tests`).

mod error;
mod mend;
mod record;
mod replay;
mod segment;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
pub use error::WalError;
use raft::{Entry, HardState, Index, SnapshotMeta};
use record::{HEAD_BYTES, Head, Kind, record_bytes};
use replay::{Log, Replayed};
use rt::disk::Dir;
use rt::task::{AbortOnDrop, JoinError};
pub(crate) use segment::remove_if_there;
use segment::{Segment, prepare};
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Space that is kept for the link at a segment's end: a sequence number takes at most 10 bytes in postcard's encoding.
const LINK_BYTES: u32 = record_bytes(10) as u32;
/// Space that a segment's first records may take: hard state (three numbers) and snapshot (two, and one per voter).
const STATE_BYTES: usize = record_bytes(30) + record_bytes(20 + 10 * MAX_VOTERS);
/// Voters in a snapshot's meta: far above what a cluster has.
const MAX_VOTERS: usize = 100;
/// What postcard adds to an entry's data: three numbers.
const ENTRY_OVERHEAD_BYTES: usize = 30;
/// Below this a segment would hold little but what every segment begins with.
const MIN_SEGMENT_BYTES: u32 = 4096;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u64,
    /// The member within it.
    pub member: u64,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Whose log it is: another's is refused.
    pub identity: Identity,
    /// Size of the segments that are made from now on; a multiple of 8. An entry must fit into one.
    pub segment_bytes: u32,
}

impl WalConfig {
    /// Large enough that a new segment is rare, small enough that a released one frees space soon.
    pub const DEFAULT_SEGMENT_BYTES: u32 = 4 << 20;

    /// With segments of the default size.
    pub fn new(identity: Identity) -> WalConfig {
        WalConfig { identity, segment_bytes: Self::DEFAULT_SEGMENT_BYTES }
    }
}

/// What a log held when it was opened. All of it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The newest one, or the default.
    pub hard_state: HardState,
    /// Contiguous. They begin at or before the entry after the snapshot that the log was opened with, agree with it, and
    /// may end before it only if there are none.
    pub entries: Vec<Entry>,
}

/// An open log. One per directory, which its caller has locked.
#[derive(Debug)]
pub struct Wal {
    dir: Dir,
    config: WalConfig,
    current: Segment,
    /// Highest index of an entry in the current segment.
    current_last_index: Index,
    older: VecDeque<Older>,
    next: Next,
    has_spare: bool,
    /// Records that are encoded and not yet written: those right before the current position.
    buffer: BytesMut,
    /// Newest of what each segment begins with.
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    /// Last entry, or the snapshot's index where there is none after it.
    last_index: Index,
    /// An operation failed, so that nobody knows what is on the disk.
    closed: Option<io::ErrorKind>,
}

/// A segment that is written no more.
#[derive(Clone, Copy, Debug)]
struct Older {
    sequence: u64,
    segment_bytes: u32,
    /// Highest index of an entry that was ever in it; 0 if none was.
    last_index: Index,
}

impl Older {
    fn of(head: Head, last_index: Index) -> Self {
        Older { sequence: head.sequence, segment_bytes: head.segment_bytes, last_index }
    }
}

/// The segment after the current one.
#[derive(Debug)]
enum Next {
    Ready(Segment),
    Preparing(AbortOnDrop<Result<Segment, WalError>>),
    /// There was no space for it.
    Starved,
}

impl Wal {
    /// Opens the log in `dir`, or begins one. `snapshot` is the newest snapshot that can be read (index 0: there is none);
    /// it is noted if the log does not know it, as after a crash between the two.
    ///
    /// # Errors
    /// [`WalError::Corrupt`], [`WalError::Version`], [`WalError::Foreign`], [`WalError::SnapshotMissing`]: nothing was
    /// changed; somebody has to decide. [`WalError::NoSpace`] for a new log, or one to whose end nothing can be added.
    /// [`WalError::Io`]: try again.
    pub async fn open(dir: Dir, config: WalConfig, snapshot: &SnapshotMeta) -> Result<(Wal, Recovered), WalError> {
        assert!(
            config.segment_bytes >= MIN_SEGMENT_BYTES && config.segment_bytes.is_multiple_of(8),
            "segments of {} bytes",
            config.segment_bytes
        );
        let Replayed { mut log, older, tail, prepared } = mend::read_all(&dir, config.identity).await?;
        let snapshot_is_news = log.continue_from(snapshot, dir.path())?;
        // From here on the directory may change.
        let current_last_index = tail.map_or(0, |tail| tail.last_index);
        let mended = mend::take_over(&dir, &config, older.last(), tail, prepared).await?;
        let older = older.iter().map(|linked| Older::of(linked.head, linked.last_index));
        let mut wal = Wal {
            dir,
            config,
            current: mended.current,
            current_last_index,
            older: older.collect(),
            next: mended.next.map_or(Next::Starved, Next::Ready),
            has_spare: mended.has_spare,
            buffer: BytesMut::new(),
            hard_state: log.hard_state,
            last_index: log.last_index(),
            snapshot: None,
            closed: None,
        };
        wal.prepare_next();
        let Log { hard_state, snapshot, entries } = log;
        let is_bare = wal.current.position.offset as usize == HEAD_BYTES && !wal.older.is_empty();
        match snapshot {
            Some(snapshot) if snapshot_is_news && !is_bare => wal.snapshot(&snapshot).await?,
            known => wal.snapshot = known,
        }
        if is_bare {
            // A crash came between the link to this segment and its first records.
            wal.begin_segment();
            wal.flush().await?;
        }
        wal.sync().await?;
        Ok((wal, Recovered { hard_state, entries }))
    }

    /// Appends a hard state and entries, with one write. Durable after the next [`Wal::sync`].
    ///
    /// Entries are contiguous, and the first is at most one after the last in the log; those at its index and after it are
    /// void from now on.
    ///
    /// # Errors
    /// [`WalError::NoSpace`]: not all was appended; appending the same again later is right. [`WalError::TooLarge`].
    /// [`WalError::Io`]: final.
    pub async fn append(&mut self, hard_state: Option<&HardState>, entries: &[Entry]) -> Result<(), WalError> {
        self.check_open()?;
        let limit = self.max_entry_bytes();
        if let Some(entry) = entries.iter().find(|entry| entry.data.len() > limit) {
            return Err(WalError::TooLarge { bytes: entry.data.len(), limit });
        }
        for entry in entries {
            assert!(
                entry.index > 0 && entry.index <= self.last_index + 1,
                "entry {} would leave a gap after entry {}",
                entry.index,
                self.last_index
            );
            self.add(Kind::Entry, entry).await?;
            self.last_index = entry.index;
            self.current_last_index = self.current_last_index.max(entry.index);
        }
        // After the entries: its commit index must not outlive them.
        if let Some(hard_state) = hard_state {
            self.add(Kind::HardState, hard_state).await?;
            self.hard_state = *hard_state;
        }
        self.flush().await
    }

    /// Makes durable all that was appended.
    ///
    /// # Errors
    /// [`WalError::Io`]: final.
    pub async fn sync(&mut self) -> Result<(), WalError> {
        self.check_open()?;
        if self.current.position.synced == self.current.position.offset {
            return Ok(());
        }
        let file = self.current.file.clone();
        self.complete(file.sync_data()).await?;
        self.current.position.synced = self.current.position.offset;
        Ok(())
    }

    /// Notes that the snapshot `meta` is durable. If the entries do not lead up to it, they are void: the log goes on
    /// after it. Durable after the next [`Wal::sync`]. Does nothing if a snapshot as new is noted.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub async fn snapshot(&mut self, meta: &SnapshotMeta) -> Result<(), WalError> {
        self.check_open()?;
        assert!(meta.voters.len() <= MAX_VOTERS, "a snapshot with {} voters", meta.voters.len());
        if self.snapshot.as_ref().is_some_and(|noted| noted.index >= meta.index) {
            return Ok(());
        }
        self.add(Kind::Snapshot, meta).await?;
        self.snapshot = Some(meta.clone());
        self.last_index = self.last_index.max(meta.index);
        self.flush().await
    }

    /// Lets go of whole segments that have no entry from `before` on. What the newest noted snapshot does not cover stays.
    ///
    /// # Errors
    /// [`WalError::Io`]: final.
    pub async fn release(&mut self, before: Index) -> Result<(), WalError> {
        let covered = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        let before = before.min(covered + 1);
        // The snapshot's record, and what the current segment begins with, take the place of what goes.
        self.sync().await?;
        while self.older.front().is_some_and(|oldest| oldest.last_index < before)
            && let Some(oldest) = self.older.pop_front()
        {
            let name = segment::name(oldest.sequence);
            let spare_is_wanted = !self.has_spare
                && !matches!(self.next, Next::Preparing(_))
                && oldest.segment_bytes == self.config.segment_bytes;
            let dir = self.dir.clone();
            if spare_is_wanted {
                mark::sometimes!("log segment recycled");
                self.complete(dir.rename(&name, segment::SPARE)).await?;
                self.has_spare = true;
            } else {
                self.complete(dir.remove(&name)).await?;
            }
        }
        if matches!(self.next, Next::Starved) {
            self.prepare_next();
        }
        Ok(())
    }

    /// Whether the next segment could not be prepared for want of space. Appending goes on in what is left of this one;
    /// whoever can refuse should.
    pub fn is_starved(&mut self) -> bool {
        self.look_at_next();
        matches!(self.next, Next::Starved)
    }

    /// Whether the next segment is ready.
    pub fn is_prepared(&mut self) -> bool {
        self.look_at_next();
        matches!(self.next, Next::Ready(_))
    }

    /// Tries in the background to prepare the next segment, if there is none and no attempt is under way. For a starved
    /// log, from time to time.
    pub fn prepare_next(&mut self) {
        self.look_at_next();
        if matches!(self.next, Next::Starved) && self.closed.is_none() {
            let head = self.config.head(self.current.head.sequence + 1);
            let recycle = std::mem::take(&mut self.has_spare);
            let task = rt::task::spawn("wal prepare", prepare(self.dir.clone(), head, recycle));
            self.next = Next::Preparing(task.abort_on_drop());
        }
    }

    /// Largest data of an entry that can be appended.
    pub fn max_entry_bytes(&self) -> usize {
        let first = HEAD_BYTES + STATE_BYTES;
        self.config.segment_bytes as usize - first - LINK_BYTES as usize - record_bytes(ENTRY_OVERHEAD_BYTES) - 8
    }

    /// Encodes a record, in the next segment where this one has no room for it.
    async fn add<T: Serialize>(&mut self, kind: Kind, payload: &T) -> Result<(), WalError> {
        if !self.fits(kind, payload) {
            self.roll().await?;
            assert!(self.fits(kind, payload), "a record that fits into no segment");
        }
        Ok(())
    }

    /// Encodes a record if this segment has room for it.
    fn fits<T: Serialize>(&mut self, kind: Kind, payload: &T) -> bool {
        let (before, len) = (self.current.position, self.buffer.len());
        record::encode(&mut self.buffer, &mut self.current.position, kind, payload);
        let fits = self.current.position.offset <= self.current.head.segment_bytes - LINK_BYTES;
        if !fits {
            self.current.position = before;
            self.buffer.truncate(len);
        }
        fits
    }

    /// Ends the current segment with a link to the next, and goes on there.
    async fn roll(&mut self) -> Result<(), WalError> {
        self.flush().await?;
        let next = self.take_next().await?;
        record::encode(&mut self.buffer, &mut self.current.position, Kind::Link, &next.head.sequence);
        self.flush().await?;
        // Durable before anything follows it, so that only the last segment of a log can be torn.
        self.sync().await?;
        mark::sometimes!("log segment begun");
        self.older.push_back(Older::of(self.current.head, self.current_last_index));
        self.current = next;
        self.current_last_index = 0;
        self.prepare_next();
        self.begin_segment();
        Ok(())
    }

    /// Encodes what is needed of the segments before, so that they can go.
    fn begin_segment(&mut self) {
        record::encode(&mut self.buffer, &mut self.current.position, Kind::HardState, &self.hard_state);
        if let Some(snapshot) = &self.snapshot {
            record::encode(&mut self.buffer, &mut self.current.position, Kind::Snapshot, snapshot);
        }
    }

    /// The next segment, once it is ready.
    async fn take_next(&mut self) -> Result<Segment, WalError> {
        if let Next::Preparing(task) = &mut self.next {
            let done = task.await;
            self.settle_next(done);
        }
        self.check_open()?;
        match std::mem::replace(&mut self.next, Next::Starved) {
            Next::Ready(segment) => Ok(segment),
            Next::Preparing(_) | Next::Starved => {
                mark::sometimes!("log out of space");
                Err(WalError::NoSpace)
            }
        }
    }

    /// Notices that the next segment is ready, without waiting for it.
    fn look_at_next(&mut self) {
        if let Next::Preparing(task) = &mut self.next
            && let Poll::Ready(done) = Pin::new(task).poll(&mut Context::from_waker(Waker::noop()))
        {
            self.settle_next(done);
        }
    }

    fn settle_next(&mut self, done: Result<Result<Segment, WalError>, JoinError>) {
        self.next = match done {
            Ok(Ok(segment)) => Next::Ready(segment),
            Ok(Err(WalError::NoSpace)) => Next::Starved,
            Ok(Err(error)) => {
                self.closed.get_or_insert(io::Error::from(error).kind());
                Next::Starved
            }
            // The program is ending.
            Err(_) => {
                self.closed.get_or_insert(io::ErrorKind::Interrupted);
                Next::Starved
            }
        };
    }

    /// Writes what is encoded.
    async fn flush(&mut self) -> Result<(), WalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data: Bytes = self.buffer.split().freeze();
        let offset = u64::from(self.current.position.offset) - data.len() as u64;
        let file = self.current.file.clone();
        self.complete(file.write_at(offset, data)).await
    }

    /// Does an operation of the disk. If it fails, or if the caller goes away before it ends, the log is closed: what is
    /// on the disk is unknown then.
    async fn complete(&mut self, operation: impl Future<Output = io::Result<()>>) -> Result<(), WalError> {
        self.closed = Some(io::ErrorKind::Interrupted);
        let result = operation.await;
        self.closed = result.as_ref().err().map(io::Error::kind);
        result.map_err(WalError::Io)
    }

    fn check_open(&self) -> Result<(), WalError> {
        match self.closed {
            None => Ok(()),
            Some(kind) => Err(WalError::Io(io::Error::new(kind, "an earlier operation of the disk failed"))),
        }
    }
}

impl WalConfig {
    fn head(&self, sequence: u64) -> Head {
        Head { sequence, segment_bytes: self.segment_bytes, identity: self.identity }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of cluster {:016x}", self.member, self.cluster)
    }
}
