//! The whole state as bytes, and back.
//!
//! ```text
//! format byte, then records, each a u32 length and postcard:
//! Head · Key … (as of the compacted revision) · Revision … (each with its changes) · Lease … · Formats · End
//! ```
//!
//! The format is the one that the members have agreed on, so that none is sent what it cannot read; so far the form is
//! the same in all.
//! Records come in order of keys, revisions, leases, so that equal states give equal bytes. Checksums are the file's
//! and the transport's business; the state's hash at the end tells a wrong restorer from a right one.
//!
//! **Invariant:** what is restored hashes as what was written, or is refused (`damaged_snapshot_is_refused`).

use super::{Pinned, StateMachine};
use crate::format::{Format, Formats, UnreadFormat};
use crate::lease::{Lease, LeaseTable};
use crate::mvcc::Tree;
use crate::types::KeyValue;
use bytes::Bytes;
use postcard::ser_flavors::Size;
use serde::{Deserialize, Serialize};

/// A chunk ends with the record that brings it to this many bytes: few calls, and little held at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Most records take fewer bytes than this.
const USUAL_RECORD: usize = 8 * 1024;
/// The first of all says the format.
const FORMAT_BYTES: usize = 1;
/// Bytes before a record that say its length.
const RECORD_HEADER: usize = 4;
/// Bytes of one record. The largest is one revision that removed very many keys; more than this is damage.
const MAX_RECORD: usize = 1024 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
enum Record {
    Head {
        index: u64,
        term: u64,
        compacted: i64,
    },
    Key(KeyValue),
    /// Each change with whether it removed its key.
    Revision {
        revision: i64,
        changes: Vec<(KeyValue, bool)>,
    },
    Lease {
        id: i64,
        ttl_s: i64,
        granted: u64,
        remaining_ms: Option<u64>,
    },
    End {
        hash: u64,
    },
    /// Not written if nobody has announced anything.
    Formats(Formats),
}

/// A snapshot's bytes, in chunks of some ten thousand.
pub struct Chunks<'a> {
    records: Box<dyn Iterator<Item = Record> + Send + 'a>,
    format: Format,
    started: bool,
}

impl std::fmt::Debug for Chunks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunks").field("started", &self.started).finish_non_exhaustive()
    }
}

impl StateMachine {
    /// The whole state as of the last applied entry, chunk by chunk: take it from a pinned one, and others go on.
    pub fn snapshot(&self) -> Chunks<'_> {
        Chunks { records: Box::new(self.records()), format: self.formats.agreed(), started: false }
    }

    /// How long the chunks of [`Self::snapshot`] are together.
    pub fn snapshot_bytes(&self) -> usize {
        let size = |record| postcard::serialize_with_flavor(&record, Size::default()).expect("plain data has a size");
        FORMAT_BYTES + self.records().map(|record| RECORD_HEADER + size(record)).sum::<usize>()
    }

    fn records(&self) -> impl Iterator<Item = Record> + Send + '_ {
        let head = Record::Head { index: self.index, term: self.term, compacted: self.tree.compacted() };
        let keys = self.tree.base().map(|kv| Record::Key(kv.clone()));
        let revisions = self.tree.changes(0).map(|(revision, changes)| {
            let changes = changes.iter().map(|change| (change.version.kv.clone(), change.version.removed));
            Record::Revision { revision, changes: changes.collect() }
        });
        let leases = self.leases.iter().map(|(id, lease)| Record::Lease {
            id,
            ttl_s: lease.ttl_s,
            granted: lease.granted,
            remaining_ms: lease.remaining_ms,
        });
        let formats = (self.formats != Formats::default()).then(|| Record::Formats(self.formats.clone()));
        let end = Record::End { hash: self.hash() };
        let records = std::iter::once(head).chain(keys).chain(revisions).chain(leases).chain(formats);
        records.chain(std::iter::once(end))
    }

    /// The state itself, for a member that reads up to this format.
    ///
    /// # Errors
    /// [`RestoreError::Format`]: what the members have agreed on is newer.
    pub fn within(self, reads: Format) -> Result<StateMachine, RestoreError> {
        self.formats.agreed().within(reads)?;
        Ok(self)
    }

    /// The whole state in one piece.
    pub fn encode(&self) -> Vec<u8> {
        self.snapshot().flatten().collect()
    }

    /// The state that [`Self::snapshot`] gave, of its pieces in order, however they are cut. Each is let go as soon as it is
    /// read.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn decode<P: AsRef<[u8]>>(pieces: impl IntoIterator<Item = P>) -> Result<StateMachine, RestoreError> {
        let mut restorer = Restorer::default();
        for piece in pieces {
            restorer.push(piece.as_ref())?;
        }
        restorer.finish()
    }
}

impl Iterator for Chunks<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + USUAL_RECORD);
        while chunk.len() < CHUNK_BYTES {
            let Some(record) = self.records.next() else { break };
            if !self.started {
                self.started = true;
                chunk.push(self.format.number());
            }
            let start = chunk.len();
            chunk.extend_from_slice(&[0; RECORD_HEADER]);
            chunk = postcard::to_extend(&record, chunk).expect("plain data encodes into memory");
            let length = chunk.len() - start - RECORD_HEADER;
            let length = u32::try_from(length).expect("one revision's changes stay below 4 GiB");
            chunk[start..start + RECORD_HEADER].copy_from_slice(&length.to_le_bytes());
        }
        if chunk.is_empty() { None } else { Some(chunk.into()) }
    }
}

/// Why a snapshot was not restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It is of a newer program.
    #[error("the snapshot cannot be read: {0}")]
    Format(#[from] UnreadFormat),
    /// It is damaged or cut short.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

/// Makes a state of a snapshot's bytes, however they are cut.
#[derive(Default)]
struct Restorer {
    input: Vec<u8>,
    format: Option<Format>,
    state: Option<Pinned>,
    ended: Option<u64>,
}

impl Restorer {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// See [`RestoreError`]; there is no going on.
    fn push(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.input.extend_from_slice(bytes);
        let mut at = 0;
        if self.format.is_none() {
            let Some(&number) = self.input.first() else { return Ok(()) };
            self.format = Some(Format::new(number)?);
            at = FORMAT_BYTES;
        }
        while let Some(header) = self.input[at..].first_chunk::<RECORD_HEADER>() {
            let length = u32::from_le_bytes(*header) as usize;
            if length > MAX_RECORD {
                return Err(damaged(format!("a record of {length} bytes")));
            }
            let content = at + RECORD_HEADER..at + RECORD_HEADER + length;
            let Some(record) = self.input.get(content.clone()) else { break };
            let record = match postcard::take_from_bytes(record) {
                Ok((record, [])) => record,
                Ok((_, rest)) => return Err(damaged(format!("a record has {} bytes too many", rest.len()))),
                Err(error) => return Err(damaged(error.to_string())),
            };
            load(&mut self.state, &mut self.ended, record).map_err(damaged)?;
            at = content.end;
        }
        self.input.drain(..at);
        Ok(())
    }

    /// The state, when all bytes were given.
    ///
    /// # Errors
    /// [`RestoreError::Damaged`]: something is missing, or the state is not the one that was written.
    fn finish(mut self) -> Result<StateMachine, RestoreError> {
        let (Some(format), Some(mut state), Some(hash)) = (self.format, self.state.take(), self.ended) else {
            return Err(damaged("it is cut short"));
        };
        if !self.input.is_empty() {
            return Err(damaged("something follows its end"));
        }
        bind_keys(&state.tree, &mut state.leases).map_err(damaged)?;
        if state.hash() != hash || state.formats.agreed() != format {
            return Err(damaged("the restored state is not the one that was written"));
        }
        Ok(state)
    }
}

fn load(state: &mut Option<StateMachine>, ended: &mut Option<u64>, record: Record) -> Result<(), String> {
    if ended.is_some() {
        return Err("something follows its end".to_owned());
    }
    let Some(state) = state else {
        let Record::Head { index, term, compacted } = record else {
            return Err("it does not begin with its head".to_owned());
        };
        *state = Some(StateMachine { tree: Tree::compacted_at(compacted), index, term, ..StateMachine::default() });
        return Ok(());
    };
    match record {
        Record::Head { .. } => return Err("it has two heads".to_owned()),
        Record::Key(kv) => state.tree.load_base(kv),
        Record::Revision { revision, changes } => state.tree.load_changes(revision, changes)?,
        Record::Lease { id, ttl_s, granted, remaining_ms } => {
            let keys = imbl::OrdSet::new();
            state.leases.load(id, Lease { ttl_s, granted, remaining_ms, keys });
        }
        Record::Formats(formats) => state.formats = formats,
        Record::End { hash } => *ended = Some(hash),
    }
    Ok(())
}

/// A key names its lease; the lease's list of keys follows from that.
fn bind_keys(tree: &Tree, leases: &mut LeaseTable) -> Result<(), String> {
    let all = crate::mvcc::Span::From(Bytes::new());
    for version in tree.latest(&all).filter(|version| version.kv.lease != 0) {
        if leases.get(version.kv.lease).is_none() {
            return Err(format!("a key is bound to the lease {}, which does not exist", version.kv.lease));
        }
        leases.rebind(&version.kv.key, 0, version.kv.lease);
    }
    Ok(())
}

fn damaged(why: impl Into<String>) -> RestoreError {
    RestoreError::Damaged(why.into())
}
