//! What a member's tasks share: the state machine, how this member stands in Raft, and news of new revisions.
//!
//! Only the loop writes. It applies entries under the lock and holds it for no longer than a batch; whoever reads takes it
//! for one pull, or pins what it needs by cloning.

use super::View;
use crate::state::StateMachine;
use crate::types::Header;
use raft::{Index, NONE, NodeId, Role, Term};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The whole of it.
pub struct Shared {
    member: NodeId,
    state: RwLock<StateMachine>,
    standing: Mutex<Standing>,
    revision: AtomicI64,
    /// Wakes in the order of waiting. (tokio's `watch` wakes in an order of its own drawing, which no seed repeats.)
    news: Notify,
}

/// Follows the revisions of a member.
pub struct Revisions<'a> {
    shared: &'a Shared,
    seen: i64,
}

/// How a member stands in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its term.
    pub term: Term,
    /// Its role in it.
    pub role: Role,
    /// The leader that it knows, or [`NONE`].
    pub leader: NodeId,
    /// Committed, as far as it knows.
    pub commit: Index,
}

impl Shared {
    /// For a member whose state was just restored.
    pub fn new(member: NodeId, state: StateMachine) -> Self {
        let revision = AtomicI64::new(state.revision());
        let standing = Standing { term: 0, role: Role::Follower, leader: NONE, commit: state.index() };
        Self { member, state: RwLock::new(state), standing: Mutex::new(standing), revision, news: Notify::new() }
    }

    /// The state, to look at. Not to be held while waiting for anything.
    pub fn state(&self) -> RwLockReadGuard<'_, StateMachine> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, to change: for the loop alone.
    pub fn state_mut(&self) -> RwLockWriteGuard<'_, StateMachine> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the member stands now: for the loop alone.
    pub fn stand(&self, standing: Standing) {
        *self.standing() = standing;
    }

    /// Wakes those who wait for a new revision, if there is one: for the loop alone.
    pub fn announce(&self, revision: i64) {
        if self.revision.swap(revision, Ordering::AcqRel) != revision {
            self.news.notify_waiters();
        }
    }

    /// Changes whenever a new revision was applied.
    pub fn revisions(&self) -> Revisions<'_> {
        Revisions { shared: self, seen: self.revision() }
    }

    /// Completes when the next new revision is announced after this call.
    pub fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Last revision applied.
    pub fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Last Raft index applied.
    pub fn applied(&self) -> Index {
        self.state().index()
    }

    /// Whether this member knows a leader.
    pub fn has_leader(&self) -> bool {
        self.standing().leader != NONE
    }

    /// What answers begin with, as of now.
    pub fn header(&self) -> Header {
        Header { member: self.member, revision: self.revision(), term: self.standing().term }
    }

    /// The member as it is now; the parts that speak of the state are of one instant.
    pub fn view(&self) -> View {
        let standing = *self.standing();
        let state = self.state();
        View {
            member: self.member,
            term: standing.term,
            role: standing.role,
            leader: standing.leader,
            commit: standing.commit,
            applied: state.index(),
            format: state.formats().agreed(),
            revision: state.revision(),
            compacted_revision: state.tree().compacted(),
            state_hash: state.hash(),
            keys: state.tree().len(),
            bytes: state.tree().bytes(),
            leases: state.leases().iter().map(|(id, lease)| (id, lease.ttl_s)).collect(),
        }
    }
}

impl Revisions<'_> {
    /// Completes when there is another revision than at the last time. May be dropped and called again.
    pub async fn changed(&mut self) {
        loop {
            // Made before the look, so that nothing between the two is missed.
            let news = self.shared.news.notified();
            let revision = self.shared.revision();
            if revision != self.seen {
                self.seen = revision;
                return;
            }
            news.await;
        }
    }
}
