//! What members say to each other, as bytes.
//!
//! ```text
//! dialer -> acceptor:  Hello, then frames as in `protocol`, each a Frame    (or a snapshot: snapshot_transfer.rs)
//! acceptor -> dialer:  acknowledgements { frames received so far: u64 }
//! ```
//! Numbers are little-endian.

use crate::types::{ClientError, Request, Response};
use bytes::Buf;
use raft::NodeId;
use serde::{Deserialize, Serialize};

/// Version of everything between members. A member refuses every other one.
const VERSION: u8 = 1;

/// Bytes of a hello.
pub const HELLO_LEN: usize = 2 + 3 * 8;

/// Longest frame: an append of Raft's largest batch and the largest request behind it fit several times over, and a
/// length that is garbage is noticed before memory is set aside for it.
pub const MAX_FRAME: usize = 32 << 20;

/// What a connection between members is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Frames.
    Messages,
    /// One snapshot.
    Snapshot,
}

/// The first bytes of a connection: who speaks, to whom, of which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What follows.
    pub purpose: Purpose,
    /// [`crate::server::MemberConfig::cluster_id`] of the one who dials.
    pub cluster_id: u64,
    /// Who dials.
    pub from: NodeId,
    /// Whom it means to reach.
    pub to: NodeId,
}

impl Hello {
    /// As bytes.
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let mut bytes = [0; HELLO_LEN];
        bytes[0] = VERSION;
        bytes[1] = match self.purpose {
            Purpose::Messages => 1,
            Purpose::Snapshot => 2,
        };
        for (at, number) in [self.cluster_id, self.from, self.to].into_iter().enumerate() {
            bytes[2 + at * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// What is wrong with them: the connection is to be closed.
    pub fn decode(bytes: [u8; HELLO_LEN]) -> Result<Self, HelloError> {
        if bytes[0] != VERSION {
            return Err(HelloError::Version(bytes[0]));
        }
        let purpose = match bytes[1] {
            1 => Purpose::Messages,
            2 => Purpose::Snapshot,
            other => return Err(HelloError::Purpose(other)),
        };
        let mut numbers = &bytes[2..];
        Ok(Self { purpose, cluster_id: numbers.get_u64_le(), from: numbers.get_u64_le(), to: numbers.get_u64_le() })
    }
}

/// One thing that a member says to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// A message of Raft.
    Raft(raft::Message),
    /// A request that only the leader can answer, forwarded to it.
    Ask {
        /// Chosen by the asker; comes back with the answer.
        id: u64,
        /// What is asked.
        request: Request,
    },
    /// The answer to an `Ask`.
    Answer {
        /// The asker's.
        id: u64,
        /// The answer.
        outcome: Result<Response, ClientError>,
    },
}

/// Why a connection cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Another version.
    #[error("it speaks version {0} of the members' protocol, and this member speaks {VERSION}")]
    Version(u8),
    /// No purpose of this version.
    #[error("it opens a connection for an unknown purpose ({0})")]
    Purpose(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_of_another_version_is_refused() {
        let hello = Hello { purpose: Purpose::Snapshot, cluster_id: 5, from: 1, to: 2 };
        assert_eq!(Hello::decode(hello.encode()), Ok(hello));
        let mut bytes = hello.encode();
        bytes[0] = 9;
        assert_eq!(Hello::decode(bytes), Err(HelloError::Version(9)));
        bytes = hello.encode();
        bytes[1] = 0;
        assert_eq!(Hello::decode(bytes), Err(HelloError::Purpose(0)));
    }
}
