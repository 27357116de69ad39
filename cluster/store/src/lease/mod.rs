//! Leases: the replicated table ([`LeaseTable`]), and the leader's own judgement of when one expires ([`Lessor`]).
//!
//! ```text
//!            grant, revoke, expire, checkpoint (through the log)
//! client ───────────────────▶ LeaseTable (every member, no clock) ──changes──▶ Lessor (the leader, its clock)
//!                                  ▲                                             │ due: expire, checkpoint
//!                                  └───────────── through the log ◀──────────────┘
//! ```
//!
//! The table says which leases exist, for how long each was granted, which keys are bound to it, and how much time a
//! leader noted to be left. Only a leader's lessor knows instants, and they are forgotten with its leadership.
//!
//! Keeping a lease alive, in this order, so that no lease ends before an answered keep-alive plus its time to live (C9):
//! 1. [`Lessor::renew`]: from now on this leader lets it live for its whole time.
//! 2. If that gives a checkpoint to clear, the command to clear it is applied: no later leader may take the old one up.
//! 3. A read-index round, begun after 1, is waited for: no other leader led when the lease was renewed.
//! 4. The lease still exists in the table, with the same grant. Then the answer.

mod lessor;
mod table;

pub use lessor::{CHECKPOINT_INTERVAL, Lessor, MAX_DUE, PROMOTION_EXTENSION, RETRY_AFTER, RenewError, Renewal};
pub(crate) use table::check_grant;
pub use table::{Lease, LeaseTable};

/// What an entry did to a lease: what the lessor must be told, on every member and in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It was granted.
    Granted {
        /// Which.
        id: i64,
    },
    /// It was revoked or expired.
    Gone {
        /// Which.
        id: i64,
    },
    /// Its checkpoint was set or cleared.
    Checkpointed {
        /// Which.
        id: i64,
    },
}
