//! A handle on a member for code of its own process: requests without a connection, and the tree itself to read.
//!
//! ```text
//! request ─▶ inbox ─▶ loop ─▶ oneshot ─▶ answer          tree: a read-index round, then a pin
//!                      └─▶ Shared ─▶ latest, following    latest: a pin, at once
//! ```
//!
//! **Invariant:** a request means what a client's means: refused and unavailable had no effect, unknown may have had one
//! (`tests/local.rs`: `a_member_that_stops_answers_nobody_and_says_so`).
//! **Invariant:** a pinned tree of [`Local::tree`] has every write that was acknowledged before it was asked for, by
//! whatever member (`tests/member.rs`: `a_tree_has_whatever_was_acknowledged_before`).

use super::flow::unavailable;
use super::input::{Input, ReplyTo};
use super::shared::Shared;
use super::{Member, View};
use crate::mvcc::Tree;
use crate::types::{ClientError, Event, RangeRequest, Request, Response};
use crate::watch;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A handle on a member of this process. Clones are the same member; it may outlive it.
#[derive(Clone)]
pub struct Local {
    inbox: mpsc::Sender<Input>,
    shared: Arc<Shared>,
}

/// Follows the revisions that a member applies.
#[derive(Clone, Debug)]
pub struct Following {
    local: Local,
    seen: i64,
}

impl Member {
    /// A handle on this member for others in its process.
    pub fn local(&self) -> Local {
        Local { inbox: self.inbox.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl Local {
    /// As a client's request to this member.
    ///
    /// # Errors
    /// See [`ClientError`]; a member that has stopped is unavailable, one that stops before it answers leaves the outcome
    /// unknown.
    pub async fn request(&self, request: Request) -> Result<Response, ClientError> {
        let (to, answer) = oneshot::channel();
        let input = Input::Request { request, to: ReplyTo::Local(to) };
        self.inbox.send(input).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| {
            mark::sometimes!("local request lost with its member");
            Err(ClientError::Unknown("the member stopped before it answered".to_owned()))
        })
    }

    /// The tree, at least as new as every write that was acknowledged before this call.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] when that cannot be confirmed.
    pub async fn tree(&self) -> Result<Tree, ClientError> {
        // The answer does not matter, only that the round was confirmed and what it requires is applied.
        let round = RangeRequest { key: vec![0].into(), count_only: true, ..RangeRequest::default() };
        match self.request(Request::Range(round)).await {
            Ok(_) => Ok(self.latest()),
            // A read has no effect to be unsure of.
            Err(ClientError::Unknown(why)) => Err(ClientError::Unavailable(why)),
            Err(error) => Err(error),
        }
    }

    /// The tree as this member has it now, which may lag. Never older than one that this process saw before.
    pub fn latest(&self) -> Tree {
        self.shared.state().tree().clone()
    }

    /// The member as it is now. Cheap, but for the list of leases.
    pub fn view(&self) -> View {
        self.shared.view()
    }

    /// What the revisions from `from` on changed, at most `max` of them, as far as they are not compacted: straight from
    /// the tree.
    pub fn changes(&self, from: i64, max: usize) -> Vec<(i64, Vec<Event>)> {
        watch::changes(&self.latest(), from, max)
    }

    /// The last revision that this member applied.
    pub fn revision(&self) -> i64 {
        self.shared.revision()
    }

    /// Whether this member runs and knows a leader: without one it hears of nothing new.
    pub fn has_leader(&self) -> bool {
        !self.inbox.is_closed() && self.shared.has_leader()
    }

    /// Follows new revisions, from what is applied now.
    pub fn follow(&self) -> Following {
        self.follow_from(self.revision())
    }

    /// Follows new revisions, from one that was seen.
    pub fn follow_from(&self, seen: i64) -> Following {
        Following { local: self.clone(), seen }
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Following {
    /// Completes when there is a newer revision than at the last time, and gives it. May be dropped and called again.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] when the member has stopped.
    pub async fn changed(&mut self) -> Result<i64, ClientError> {
        let Local { inbox, shared } = &self.local;
        loop {
            // Made before the look, so that nothing between the two is missed.
            let news = shared.news();
            let revision = shared.revision();
            if revision > self.seen {
                self.seen = revision;
                return Ok(revision);
            }
            tokio::select! {
                biased;
                () = news => {}
                () = inbox.closed() => return Err(stopped()),
            }
        }
    }
}

fn stopped() -> ClientError {
    unavailable("the member has stopped")
}
