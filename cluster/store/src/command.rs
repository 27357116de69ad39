//! What a Raft entry carries: one change of the replicated state, who asked for it, and in which term.
//!
//! ```text
//! format 1: 1 | Command in postcard
//! format 2: 2 | crc32c of what follows: u32, little-endian | Command in postcard
//! ```
//! Empty data is a new leader's own entry and carries no command.

use crate::format::{Format, UnreadFormat};
use crate::types::{
    CompactRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp, TxnRequest,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The member whose client asked: its Raft id. It alone answers.
    pub origin: u64,
    /// Number of the request at its origin, by which it finds who waits. A member never uses one twice in a process.
    pub request: u64,
    /// The origin's Raft term when it proposed. What a leader decides about leases ([`Action::LeaseExpire`],
    /// [`Action::LeaseCheckpoint`]) has an effect only in an entry of this very term.
    pub term: u64,
    /// What to change.
    pub action: Action,
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Set a key.
    Put(PutRequest),
    /// Remove keys.
    DeleteRange(DeleteRangeRequest),
    /// A transaction.
    Txn(TxnRequest),
    /// Compact the history.
    Compact(CompactRequest),
    /// Grant a lease. Its id has been chosen.
    LeaseGrant(LeaseGrantRequest),
    /// A client ends a lease.
    LeaseRevoke(LeaseRevokeRequest),
    /// The leader of `term` found a lease expired.
    LeaseExpire {
        /// Which.
        id: i64,
        /// Raft index of its grant, so that a later lease of the same id is not meant.
        granted: u64,
    },
    /// The leader of `term` notes how much of some leases' time is left, so that the next leader need not begin afresh.
    LeaseCheckpoint(Vec<Checkpoint>),
    /// The origin says up to which format it reads.
    Announce {
        /// That format.
        format: Format,
        /// All members of the cluster.
        members: Vec<u64>,
    },
}

/// How much of a lease's time is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which lease.
    pub id: i64,
    /// Raft index of its grant.
    pub granted: u64,
    /// Milliseconds left; `None` clears the checkpoint: the lease was kept alive.
    pub remaining_ms: Option<u64>,
}

/// Why an entry's data is not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nobody can know what would be left out.
    #[error(transparent)]
    Format(#[from] UnreadFormat),
    /// It is damaged.
    #[error("it does not decode: {0}")]
    Damaged(String),
}

const CHECKSUM_BYTES: usize = 4;
/// By so many of its first bytes a value is found in its entry.
const BEGIN_BYTES: usize = 32;
/// So many places that begin like it are looked at: in an object there is one, and who sends other things must not make
/// members search for long.
const MAX_PLACES: usize = 4;

impl Command {
    /// As an entry's data, in this format.
    pub fn encode(&self, format: Format) -> Bytes {
        let mut data = Vec::with_capacity(self.size_hint());
        data.push(format.number());
        let checked = format >= Format::CHECKED;
        if checked {
            data.extend_from_slice(&[0; CHECKSUM_BYTES]);
        }
        let body = data.len();
        let mut data = postcard::to_extend(self, data).expect("plain data encodes into memory");
        if checked {
            let checksum = crc32c::crc32c(&data[body..]).to_le_bytes();
            data[body - CHECKSUM_BYTES..body].copy_from_slice(&checksum);
        }
        // The log keeps it, and with it whatever room is left.
        Bytes::from(data.into_boxed_slice())
    }

    /// The format of an entry's data; `None` if it carries no command, or none that this build knows.
    pub fn format_of(data: &[u8]) -> Option<Format> {
        data.first().and_then(|number| Format::new(*number).ok())
    }

    /// From an entry's data, which is not empty. A value that makes up at least half of the data shares its memory, which the
    /// log holds anyhow.
    ///
    /// # Errors
    /// The entry is of an unknown format, or damaged. The member cannot go on.
    pub fn decode(data: &Bytes) -> Result<Command, CommandError> {
        let mut command = Self::decode_apart(data)?;
        for value in command.values().filter(|value| value.len() >= data.len() / 2) {
            // To look for all of a long value would be to learn all of it first.
            let begin = &value[..value.len().min(BEGIN_BYTES)];
            let mut places = memchr::memmem::find_iter(data, begin).take(MAX_PLACES);
            if let Some(at) = places.find(|at| data[*at..].starts_with(value)) {
                *value = data.slice(at..at + value.len());
            }
        }
        Ok(command)
    }

    fn decode_apart(data: &[u8]) -> Result<Command, CommandError> {
        let damaged = |what: &str| CommandError::Damaged(what.to_owned());
        let (&number, mut body) = data.split_first().ok_or_else(|| damaged("it is empty"))?;
        let format = Format::new(number)?;
        if format >= Format::CHECKED {
            let (checksum, checked) = body.split_first_chunk().ok_or_else(|| damaged("it is cut short"))?;
            if crc32c::crc32c(checked) != u32::from_le_bytes(*checksum) {
                return Err(damaged("its checksum is that of another content"));
            }
            body = checked;
        }
        match postcard::take_from_bytes::<Command>(body) {
            Ok((command, [])) => Ok(command),
            Ok((_, rest)) => Err(CommandError::Damaged(format!("{} bytes too many", rest.len()))),
            Err(error) => Err(CommandError::Damaged(error.to_string())),
        }
    }

    /// What it puts, all of it.
    fn values(&mut self) -> impl Iterator<Item = &mut Bytes> {
        let (put, txn) = match &mut self.action {
            Action::Put(put) => (Some(put), None),
            Action::Txn(txn) => (None, Some(txn)),
            _ => (None, None),
        };
        let operations = txn.into_iter().flat_map(|txn| txn.success.iter_mut().chain(&mut txn.failure));
        let within = operations.filter_map(|operation| match operation {
            RequestOp::Put(put) => Some(put),
            RequestOp::Range(_) | RequestOp::DeleteRange(_) => None,
        });
        put.into_iter().chain(within).map(|put| &mut put.value)
    }

    /// Roughly the encoded length, so that a put is encoded into one allocation.
    fn size_hint(&self) -> usize {
        const NUMBERS: usize = 48;
        let of_put = |put: &PutRequest| put.key.len() + put.value.len();
        let of_operation = |operation: &RequestOp| match operation {
            RequestOp::Put(put) => NUMBERS + of_put(put),
            RequestOp::Range(range) => NUMBERS + range.key.len() + range.range_end.len(),
            RequestOp::DeleteRange(delete) => NUMBERS + delete.key.len() + delete.range_end.len(),
        };
        NUMBERS
            + match &self.action {
                Action::Put(put) => of_put(put),
                Action::DeleteRange(delete) => delete.key.len() + delete.range_end.len(),
                Action::Txn(TxnRequest { compare, success, failure }) => {
                    let compares = compare.iter().map(|it| NUMBERS + it.key.len() + it.range_end.len());
                    compares.chain(success.iter().chain(failure).map(of_operation)).sum()
                }
                Action::Compact(_) | Action::LeaseGrant(_) | Action::LeaseRevoke(_) | Action::LeaseExpire { .. } => 0,
                Action::LeaseCheckpoint(leases) => leases.len() * 24,
                Action::Announce { members, .. } => members.len() * 10,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put() -> Command {
        let put = PutRequest { key: "k".into(), value: "v".into(), lease: 7, prev_kv: true };
        Command { origin: 2, request: 9, term: 4, action: Action::Put(put) }
    }

    #[test]
    fn a_command_survives_encoding() {
        for format in [Format::FIRST, Format::CHECKED] {
            assert_eq!(Command::decode(&put().encode(format)), Ok(put()));
        }
    }

    #[test]
    fn a_value_shares_the_memory_of_its_entry_if_that_is_mostly_the_value() {
        let shared = |action: Action| {
            let data = Command { action, ..put() }.encode(Format::LATEST);
            let within = data.as_ptr_range();
            let mut command = Command::decode(&data).unwrap();
            command.values().map(|value| within.contains(&value.as_ptr())).collect::<Vec<_>>()
        };
        let put =
            |bytes: usize| PutRequest { key: "k".into(), value: vec![b'v'; bytes].into(), ..PutRequest::default() };
        assert_eq!(shared(Action::Put(put(500))), [true]);
        assert_eq!(shared(Action::Put(put(0))), [false]);
        let txn = |success: &[usize], failure: &[usize]| {
            let puts = |sizes: &[usize]| sizes.iter().map(|size| RequestOp::Put(put(*size))).collect();
            Action::Txn(TxnRequest { compare: vec![], success: puts(success), failure: puts(failure) })
        };
        assert_eq!(shared(txn(&[500, 10], &[10])), [true, false, false]);
        assert_eq!(shared(txn(&[10], &[500])), [false, true]);
        assert_eq!(shared(txn(&[200, 200], &[200])), [false, false, false], "each would keep all of them");
    }

    #[test]
    fn an_unknown_format_is_refused_by_number() {
        let mut data = put().encode(Format::LATEST).to_vec();
        data[0] = Format::LATEST.number() + 1;
        let error = Command::decode(&data.into()).unwrap_err().to_string();
        assert_eq!(error, "it has format 3, and this member reads up to format 2");
    }

    #[test]
    fn damage_is_noticed() {
        for format in [Format::FIRST, Format::CHECKED] {
            let data = put().encode(format);
            assert!(matches!(Command::decode(&data.slice(..data.len() - 1)), Err(CommandError::Damaged(_))));
            assert!(matches!(Command::decode(&[&data[..], b"x"].concat().into()), Err(CommandError::Damaged(_))));
            assert!(matches!(Command::decode(&Bytes::new()), Err(CommandError::Damaged(_))));
        }
    }

    #[test]
    fn each_flipped_bit_is_noticed_from_the_second_format_on() {
        let data = put().encode(Format::CHECKED);
        for bit in 8..data.len() * 8 {
            let mut data = data.to_vec();
            data[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Command::decode(&data.into()), Err(CommandError::Damaged(_))), "bit {bit}");
        }
    }
}
