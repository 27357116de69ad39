//! Bytes of the log: the head of a segment and the records behind it. Pure.
//!
//! ```text
//! segment:  head (64) | record | record | ... | link | rest (zeros, or what an earlier use of the file left)
//! record:   len u32 | kind u8, 3 zeros | unsynced u32 | previous u32 | payload crc u32 | crc u32 | payload | up to 7 zeros
//! ```
//!
//! All numbers are little-endian, every record begins at a multiple of 8. A record's `crc` covers its header and starts
//! from the checksum of the segment's head, so that it is valid in this use of this file alone; `previous` is the `crc`
//! of the record before it, which chains them. Each record can therefore be verified for itself, wherever it is found.
//!
//! `unsynced` is how many bytes before the record were not known to be durable when it was written. It is what tells a
//! torn tail from rot: power loss may lose a record and keep a later one, but never one that the later one calls synced.

use super::{Identity, WalError};
use bytes::{BufMut, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use std::ops::Range;

/// Version of all that this module writes.
pub const FORMAT: u32 = 1;
/// Bytes before the first record.
pub const HEAD_BYTES: usize = 64;
/// Bytes before a record's payload.
pub const RECORD_HEAD_BYTES: usize = 24;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;
/// What a segment begins with; the line break shows files that were converted as text.
const MAGIC: [u8; 8] = *b"SEAWAL\r\n";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counts the segments of this log; no two uses of a file have the same.
    pub sequence: u64,
    /// Size of the file.
    pub segment_bytes: u32,
    /// Whose log it is.
    pub identity: Identity,
}

impl Head {
    /// The first bytes of the segment.
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.identity.cluster.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.identity.member.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEAD_BYTES - 4]);
        bytes[HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Checksum of the head, from which those of the segment's records start.
    pub fn salt(&self) -> u32 {
        u32_at(&self.encode(), HEAD_BYTES - 4)
    }

    /// Reads what a segment says of itself, and the start of its chain of checksums.
    ///
    /// # Errors
    /// [`WalError::Version`] for a format that this build does not know; [`WalError::Corrupt`] for anything else that is
    /// not a head. `segment` is for the message.
    pub fn decode(segment: &str, bytes: &[u8]) -> Result<(Head, u32), WalError> {
        let corrupt = |what: &str| WalError::Corrupt { segment: segment.to_owned(), offset: 0, what: what.to_owned() };
        if bytes.len() < HEAD_BYTES {
            return Err(corrupt("the file is shorter than its head"));
        }
        if bytes[..8] != MAGIC {
            return Err(corrupt("the file does not begin as a segment of the log does"));
        }
        let format = u32_at(bytes, 8);
        if format != FORMAT {
            return Err(WalError::Version { segment: segment.to_owned(), found: format, known: FORMAT });
        }
        let crc = u32_at(bytes, HEAD_BYTES - 4);
        if crc != crc32c::crc32c(&bytes[..HEAD_BYTES - 4]) {
            return Err(corrupt("the head's checksum is wrong"));
        }
        let head = Head {
            segment_bytes: u32_at(bytes, 12),
            sequence: u64_at(bytes, 16),
            identity: Identity { cluster: u64_at(bytes, 24), member: u64_at(bytes, 32) },
        };
        Ok((head, crc))
    }
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`raft::HardState`] in postcard's encoding.
    HardState = 1,
    /// [`raft::Entry`] in postcard's encoding. Ends the log before its index: what was there before is void.
    Entry = 2,
    /// [`raft::SnapshotMeta`] in postcard's encoding: a snapshot of this is durable.
    Snapshot = 3,
    /// The sequence number of the segment where the log goes on. Nothing follows it in this one.
    Link = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::HardState, Kind::Entry, Kind::Snapshot, Kind::Link].into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// Where a log stands within its current segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Checksum that the records of this segment start from.
    pub salt: u32,
    /// `crc` of the last record, or `salt`.
    pub chain: u32,
    /// Where the next record begins.
    pub offset: u32,
    /// Everything before this is known to be durable.
    pub synced: u32,
}

impl Position {
    /// Before the first record of a segment whose head has the checksum `salt` and is durable.
    pub fn first(salt: u32) -> Position {
        Position { salt, chain: salt, offset: HEAD_BYTES as u32, synced: HEAD_BYTES as u32 }
    }
}

/// Adds a record to `buffer`, which is to be written at the position that it began with, and moves `position` behind it.
pub fn encode<T: Serialize>(buffer: &mut BytesMut, position: &mut Position, kind: Kind, payload: &T) {
    let start = buffer.len();
    buffer.put_bytes(0, RECORD_HEAD_BYTES);
    postcard::serialize_with_flavor(payload, Tail(buffer)).expect("plain data always has an encoding");
    let body = start + RECORD_HEAD_BYTES;
    let len = u32::try_from(buffer.len() - body).expect("the caller bounds records by the size of a segment");
    let payload_crc = crc32c::crc32c(&buffer[body..]);
    let head = &mut buffer[start..body];
    head[0..4].copy_from_slice(&len.to_le_bytes());
    head[4] = kind as u8;
    head[8..12].copy_from_slice(&(position.offset - position.synced).to_le_bytes());
    head[12..16].copy_from_slice(&position.chain.to_le_bytes());
    head[16..20].copy_from_slice(&payload_crc.to_le_bytes());
    let crc = crc32c::crc32c_append(position.salt, &head[..20]);
    head[20..24].copy_from_slice(&crc.to_le_bytes());
    buffer.put_bytes(0, record_bytes(len as usize) - RECORD_HEAD_BYTES - len as usize);
    position.chain = crc;
    position.offset += record_bytes(len as usize) as u32;
}

/// Bytes of a record whose payload has `len`.
pub const fn record_bytes(len: usize) -> usize {
    (RECORD_HEAD_BYTES + len).next_multiple_of(ALIGNMENT)
}

/// A record whose head was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: Kind,
    /// Where it begins in the segment.
    pub offset: usize,
    /// Where its payload is in the segment.
    pub payload: Range<usize>,
    /// What had been synced when it was written: everything before this.
    pub synced: usize,
    previous: u32,
    payload_crc: u32,
    crc: u32,
}

impl Record {
    fn end(&self) -> usize {
        self.offset + record_bytes(self.payload.len())
    }

    fn is_whole(&self, segment: &[u8]) -> bool {
        crc32c::crc32c(&segment[self.payload.clone()]) == self.payload_crc
    }
}

/// The record at `offset` of a segment, if there is one. Its payload may be damaged.
fn decode(segment: &[u8], salt: u32, offset: usize) -> Option<Record> {
    let head = segment.get(offset..offset + RECORD_HEAD_BYTES)?;
    let kind = Kind::from_byte(head[4])?;
    let crc = u32_at(head, 20);
    if head[5..8] != [0; 3] || crc != crc32c::crc32c_append(salt, &head[..20]) {
        return None;
    }
    let body = offset + RECORD_HEAD_BYTES;
    let end = body.checked_add(u32_at(head, 0) as usize)?;
    let synced = offset.checked_sub(u32_at(head, 8) as usize)?;
    (end <= segment.len()).then(|| Record {
        kind,
        offset,
        payload: body..end,
        synced,
        previous: u32_at(head, 12),
        payload_crc: u32_at(head, 16),
        crc,
    })
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The records that chain from the head on.
    pub records: Vec<Record>,
    /// Behind the last of them. `synced` is what later records prove to be durable, as far as they go.
    pub position: Position,
    /// The end of the last record beyond, if there are any that are damaged or out of reach: what power loss kept of
    /// unsynced records, of which it lost some.
    pub stray_end: Option<usize>,
}

/// Reads the records of a segment, whose head has the checksum `salt`.
///
/// The log ends where no valid record continues the chain. If a record beyond says that this place was synced, a record
/// was there that somebody was told to be durable.
///
/// # Errors
/// The offset at which a durable record is missing.
pub fn scan(segment: &[u8], salt: u32) -> Result<Scan, usize> {
    let mut records: Vec<Record> = Vec::new();
    let mut position = Position::first(salt);
    let mut linked = false;
    while !linked
        && let Some(record) = decode(segment, salt, position.offset as usize)
        && record.previous == position.chain
        && record.is_whole(segment)
    {
        position.chain = record.crc;
        position.offset = record.end() as u32;
        position.synced = position.synced.max(record.synced as u32);
        linked = record.kind == Kind::Link;
        records.push(record);
    }
    let end = position.offset as usize;
    let mut stray_end = None;
    let mut at = end;
    while at + RECORD_HEAD_BYTES <= segment.len() {
        // No record begins with eight zeros, and most of what is beyond the end is zeros.
        let stray = if segment[at..at + 8] == [0; 8] { None } else { decode(segment, salt, at) };
        if stray.as_ref().is_some_and(|record| record.synced > end) {
            return Err(end);
        }
        at = stray.as_ref().map_or(at + ALIGNMENT, Record::end);
        stray_end = stray.map(|record| record.end()).or(stray_end);
    }
    Ok(Scan { records, position, stray_end })
}

/// postcard's way into a buffer that is already there.
struct Tail<'a>(&'a mut BytesMut);

impl Flavor for Tail<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
