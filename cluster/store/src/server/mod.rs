//! A member of the store: Raft, the log, the state and the connections, wired together.
//!
//! ```text
//!            ┌────────── peer-inbound (per member) ◀── other members
//!  clients ─▶│ client-connection (per client)
//!            ▼                                  ┌─▶ peer-link (per member) ──▶ other members
//!          inbox ─▶ loop (owns Raft, state) ────┼─▶ log (owns the WAL) ─▶ disk
//!                      │  ▲                     └─▶ snapshots: save, ship (while there is one)
//!                      ▼  └── Persisted, Saved, Received, ...
//!                   Shared ─▶ watches, reads, views, handles of this process ([`Local`])
//! ```
//!
//! Decisions are in pure parts beside their shells: [`flow`] (which way a request goes), [`pending`] and [`read_queue`]
//! (who waits for what), [`crate::lease`], [`crate::watch`], and Raft itself.
//!
//! **Invariant:** a member that fails to write stops, and never writes again (`tests/member.rs`:
//! `a_member_whose_disk_fails_stops_and_says_so`).

mod config;
mod connection;
mod flow;
mod input;
mod local;
mod log_task;
mod member_loop;
mod peer;
mod pending;
mod read_queue;
mod requests;
mod shared;
mod snapshot_transfer;
mod snapshots;
mod start;
mod watches;

pub use config::{MAX_MEMBERS, MemberAddress, MemberConfig, PeerTls};
pub use local::{Following, Local};
pub use start::StartError;

use crate::format::Format;
use crate::types::Event;
use input::Input;
use raft::{Index, NodeId, Role, Term};
use rt::task::AbortOnDrop;
use rt::time::timeout;
use shared::Shared;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How long a member that stops waits for what it has queued to be durable.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);

/// A member that runs. Dropping it ends it at once, as a kill would.
pub struct Member {
    shared: Arc<Shared>,
    inbox: mpsc::Sender<Input>,
    end: Arc<End>,
    client_address: Option<SocketAddr>,
    /// Waits for the loop, then for the log, and ends all other tasks.
    _supervisor: AbortOnDrop<()>,
}

/// Why a member stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// It was asked to.
    #[error("it was shut down")]
    Shutdown,
    /// The disk failed. What is on it is only known by starting anew.
    #[error("the disk failed: {0}; check it, then start this member again")]
    Disk(String),
    /// The log has an entry that this build does not know.
    #[error("entry {index} of the log: {why}; run the version of this program that the other members run")]
    ForeignEntry {
        /// Which.
        index: Index,
        /// What is wrong with it.
        why: String,
    },
    /// A bug: a part of it ended that never should.
    #[error("{0}; this is a bug, please report it")]
    Bug(String),
}

/// A member as it is at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its Raft id.
    pub member: NodeId,
    /// Its Raft term.
    pub term: Term,
    /// Its role in that term.
    pub role: Role,
    /// The leader that it knows; 0 for none.
    pub leader: NodeId,
    /// Last Raft index that it knows to be committed.
    pub commit: Index,
    /// Last Raft index applied. What follows is as of that.
    pub applied: Index,
    /// The format that the members have agreed to write.
    pub format: Format,
    /// The store's revision.
    pub revision: i64,
    /// The first revision that is readable; 0 before the first compaction.
    pub compacted_revision: i64,
    /// Hash of all keys and leases, the same on every member at the same applied index.
    pub state_hash: u64,
    /// Keys that exist.
    pub keys: u64,
    /// Bytes of keys and values, history included.
    pub bytes: u64,
    /// Every lease with the seconds it was granted for, by id.
    pub leases: Vec<(i64, i64)>,
}

impl Member {
    /// Starts a member. When this returns, its directory is locked and read, and its ports are listened on; a leader may
    /// yet have to be elected.
    ///
    /// # Errors
    /// See [`StartError`]: nothing runs.
    pub async fn start(config: MemberConfig) -> Result<Self, StartError> {
        start::start(config).await
    }

    /// The member as it is now. Cheap, but for the list of leases.
    pub fn view(&self) -> View {
        self.shared.view()
    }

    /// What the revisions from `from` on changed, at most `max` of them, as far as they are not compacted: straight from
    /// the tree.
    pub fn changes(&self, from: i64, max: usize) -> Vec<(i64, Vec<Event>)> {
        self.local().changes(from, max)
    }

    /// Where it listens for clients, if it does.
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.client_address
    }

    /// Completes when the member has stopped, and says why. May be dropped and called again.
    pub async fn stopped(&self) -> StopReason {
        loop {
            // Made before the look, so that nothing between the two is missed.
            let news = self.end.news.notified();
            if let Some(reason) = self.end.reason().clone() {
                return reason;
            }
            news.await;
        }
    }

    /// Stops gracefully: hands leadership over, refuses new requests and answers those under way, for a few seconds at
    /// most. When this returns, everything is durable, the directory is unlocked and the ports are free.
    pub async fn shutdown(&self) -> StopReason {
        // If the loop is gone, it has stopped already.
        drop(self.inbox.send(Input::Shutdown).await);
        self.stopped().await
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("client_address", &self.client_address).finish_non_exhaustive()
    }
}

/// What a member's supervisor holds: the tasks and the lock on the directory.
struct Supervised {
    main: AbortOnDrop<StopReason>,
    log: AbortOnDrop<()>,
    /// Aborted when the loop has ended.
    others: Vec<AbortOnDrop<()>>,
    /// Released last.
    lock: start::Lock,
    end: Arc<End>,
}

/// Why a member stopped, once it has.
#[derive(Default)]
struct End {
    reason: Mutex<Option<StopReason>>,
    news: Notify,
}

impl End {
    fn reason(&self) -> MutexGuard<'_, Option<StopReason>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervised {
    /// Waits for the loop, then for the log to be durable.
    async fn run(self) {
        let Supervised { main, log, others, lock, end } = self;
        let reason = main.await.unwrap_or_else(|error| StopReason::Bug(format!("the member's loop ended: {error}")));
        // Nobody is answered any more, and no peer is told anything. An aborted task lets go of what it holds only when
        // it is dropped: the ports are free once that has happened.
        others.iter().for_each(AbortOnDrop::abort);
        for other in others {
            let _ = other.await;
        }
        // The loop's end of the queue is gone: the log writes what it has, and ends. What it cannot write for want of
        // space was promised to nobody.
        let _ = timeout(LOG_TIMEOUT, log).await;
        drop(lock);
        match &reason {
            StopReason::Shutdown => tracing::info!("stopped"),
            StopReason::Disk(_) | StopReason::ForeignEntry { .. } | StopReason::Bug(_) => {
                tracing::error!(%reason, "stopped");
            }
        }
        *end.reason() = Some(reason);
        end.news.notify_waiters();
    }
}
