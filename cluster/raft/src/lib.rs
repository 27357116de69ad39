//! Raft consensus as a pure state machine, in the shape of etcd/raft: events in, [`Ready`] out. No I/O, no clock, no
//! randomness of its own.
//!
//! ```text
//!  tick(random) ─┐                         ┌─> hard_state, snapshot, entries ──> log on disk ──┐
//!  step(message) ┤                         ├─> messages ──────────────> peers                  │ durable
//!  propose       ┼──> Raft ──> ready() ────┤   messages_after_persist ──> peers <──────────────┤
//!  read_index    ┤                         ├─> committed ──> state machine ──> applied(index)  │
//!  persisted(n) ─┘<────────────────────────┼── read_states, lead_change, commit_advance        │
//!        ^─────────────────────────────────┴──────────────────────────────────────────────────┘
//! ```
//!
//! The caller's duties, in the order in which they come up:
//! - at start, [`Restored::drop_superseded_log`], then [`Raft::new`];
//! - one [`Raft::tick`] per unit of time; any number of other calls; then [`Raft::ready`] until it returns `None`;
//! - write what a [`Ready`] says in order of its number, and call [`Raft::persisted`] once it is durable (one call for the last
//!   of a batch is enough); until then [`Ready::messages_after_persist`] wait;
//! - apply [`Ready::committed`] in order and call [`Raft::applied`];
//! - tell what became of a [`Body::Snapshot`] with [`Raft::report_snapshot`], always, or the follower gets nothing more.
//!
//! **Invariant:** at most one leader per term; logs that agree at an index agree before it; a committed entry is in the log of
//! every later leader; members commit the same entries; a leader only appends; a read's index covers whatever was acknowledged
//! before it was asked for; what was durable is kept over restarts; after faults end, proposals commit. All kept by
//! `tests/adversary`.
//!
//! Limits: the voters are those of [`Config::voters`] or of the newest snapshot; they do not change otherwise. All counting of
//! votes and acknowledgements is in `quorum.rs`.
//!
//! Deliberate differences from etcd/raft: a vote is asked for only once the candidate's own term and log are durable (so that an
//! old grant can never serve a shorter log after a crash); a probe carries no entries; the commit index travels in a message
//! without answer; appends are made when a Ready is taken, so that one carries all that came in before; a member whose disk has
//! unfinished writes does not campaign.

mod election;
mod log;
mod progress;
mod quorum;
mod raft;
mod read;
mod replication;
mod types;

pub use raft::Raft;
pub use types::*;
