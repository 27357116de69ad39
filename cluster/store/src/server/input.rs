//! What reaches a member's loop, and whom it answers.

use super::StopReason;
use super::snapshot_transfer::Received;
use crate::protocol::{ToClient, ToClientBody};
use crate::types::{ClientError, Request, Response};
use raft::{NodeId, SnapshotMeta};
use tokio::sync::{mpsc, oneshot};

/// Inputs that may wait for the loop. Who has more waits in turn: connections are not read meanwhile.
pub const INBOX: usize = 1_024;

/// One thing for the loop to deal with. Ticks are the loop's own.
pub enum Input {
    /// Raft's, from another member.
    Message(raft::Message),
    /// Another member forwards a request to the leader, this one it believes.
    Asked {
        /// Which member.
        from: NodeId,
        /// Its number for the request.
        id: u64,
        /// What it asks.
        request: Request,
    },
    /// The answer to what this member forwarded.
    Answered {
        /// Its number for the request.
        id: u64,
        /// The answer.
        outcome: Result<Response, ClientError>,
    },
    /// A client's.
    Request {
        /// What it asks.
        request: Request,
        /// Whom to answer.
        to: ReplyTo,
    },
    /// Everything handed to the log up to this Ready is durable.
    Persisted(u64),
    /// Whether the log has space for more than what frees space.
    LogSpace(bool),
    /// The connection to this member broke.
    Unreachable(NodeId),
    /// A snapshot of this member's own state is durable.
    Saved(SnapshotMeta),
    /// There was no space for it.
    NotSaved,
    /// A leader's snapshot came whole, and is durable.
    Received(Box<Received>),
    /// An attempt to ship a snapshot is over.
    Shipped {
        /// To whom.
        to: NodeId,
        /// Whether it was taken there.
        delivered: bool,
    },
    /// Something failed that this member cannot live with.
    Failed(StopReason),
    /// Be so kind as to stop.
    Shutdown,
}

/// Whom to answer.
pub enum ReplyTo {
    /// A client of this member.
    Client {
        /// The client's number for the request.
        id: u64,
        /// The place reserved for the answer.
        place: mpsc::OwnedPermit<ToClient>,
    },
    /// Another member, which forwarded the request.
    Member {
        /// Which.
        member: NodeId,
        /// Its number for the request.
        id: u64,
    },
    /// Somebody in this process.
    Local(oneshot::Sender<Result<Response, ClientError>>),
}

/// As the body of a frame.
pub fn body(outcome: Result<Response, ClientError>) -> ToClientBody {
    match outcome {
        Ok(response) => ToClientBody::Response(response),
        Err(error) => ToClientBody::Error(error),
    }
}
