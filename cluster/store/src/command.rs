//! What a Raft entry carries: one change of the replicated state, who asked for it, and in which term.
//!
//! An entry's data is one version byte and then a [`Command`] in postcard. Empty data is a new leader's own entry and
//! carries no command.

use crate::types::{CompactRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Version of a command's form. A member that meets another one stops: it cannot know what it would leave out.
pub const COMMAND_VERSION: u8 = 1;

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
    /// Another version wrote it.
    #[error("a log entry has command version {0}, and this build knows only version {COMMAND_VERSION}")]
    Version(u8),
    /// It is damaged.
    #[error("a log entry does not decode: {0}")]
    Damaged(String),
}

impl Command {
    /// As an entry's data.
    pub fn encode(&self) -> Bytes {
        let mut data = Vec::with_capacity(self.size_hint());
        data.push(COMMAND_VERSION);
        let data = postcard::to_extend(self, data).expect("plain data encodes into memory");
        Bytes::from(data)
    }

    /// From an entry's data, which is not empty.
    ///
    /// # Errors
    /// The entry is of another version, or damaged. The member cannot go on.
    pub fn decode(data: &[u8]) -> Result<Command, CommandError> {
        let (&version, body) = data.split_first().ok_or_else(|| CommandError::Damaged("it is empty".to_owned()))?;
        if version != COMMAND_VERSION {
            return Err(CommandError::Version(version));
        }
        match postcard::take_from_bytes::<Command>(body) {
            Ok((command, [])) => Ok(command),
            Ok((_, rest)) => Err(CommandError::Damaged(format!("{} bytes too many", rest.len()))),
            Err(error) => Err(CommandError::Damaged(error.to_string())),
        }
    }

    /// Roughly the encoded length, so that a put is encoded into one allocation.
    fn size_hint(&self) -> usize {
        const NUMBERS: usize = 48;
        NUMBERS
            + match &self.action {
                Action::Put(put) => put.key.len() + put.value.len(),
                Action::DeleteRange(delete) => delete.key.len() + delete.range_end.len(),
                Action::Txn(_) => 256,
                Action::Compact(_) | Action::LeaseGrant(_) | Action::LeaseRevoke(_) | Action::LeaseExpire { .. } => 0,
                Action::LeaseCheckpoint(leases) => leases.len() * 24,
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
        assert_eq!(Command::decode(&put().encode()), Ok(put()));
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut data = put().encode().to_vec();
        data[0] = 2;
        assert_eq!(Command::decode(&data), Err(CommandError::Version(2)));
    }

    #[test]
    fn damage_is_noticed() {
        let data = put().encode();
        assert!(matches!(Command::decode(&data[..data.len() - 1]), Err(CommandError::Damaged(_))));
        assert!(matches!(Command::decode(&[&data[..], b"x"].concat()), Err(CommandError::Damaged(_))));
        assert!(matches!(Command::decode(&[]), Err(CommandError::Damaged(_))));
    }
}
