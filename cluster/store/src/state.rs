//! The replicated state: what every member computes alike from the entries of the log.
//!
//! ```text
//! entry (index, term, data) ─▶ StateMachine::apply ─▶ Applied: whom to answer what, which leases changed
//!                                    │ pin
//!                                    ▼
//!                               Pinned: reads, snapshots
//! ```
//!
//! **Invariant:** equal logs give equal states, whether applied entry by entry or restored from a snapshot in between
//! (`restored_member_goes_on_as_if_it_had_applied_everything`, C3).
//! **Invariant:** restoring changes no revision (same test, C4).
//! **Invariant:** what a leader decided about leases has an effect only in an entry of its own term
//! (`expiry_decided_in_another_term_has_no_effect`, C9).

mod snapshot;

pub use snapshot::{Chunks, RestoreError};

use crate::command::{Action, Command, CommandError};
use crate::format::Formats;
use crate::lease::{LeaseChange, LeaseTable};
use crate::mvcc::{Tree, mix};
use crate::txn;
use crate::types::*;
use bytes::Bytes;

/// The replicated state.
#[derive(Clone, Debug, Default)]
pub struct StateMachine {
    tree: Tree,
    leases: LeaseTable,
    formats: Formats,
    index: u64,
    term: u64,
}

/// The state as of one applied entry, for as long as it is kept. Cheap to make and to clone, and not in the way of
/// what is applied meanwhile.
pub type Pinned = StateMachine;

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The member whose client waits for it; see [`Command::origin`].
    pub origin: u64,
    /// The origin's number of the request.
    pub request: u64,
    /// The latest revision with it.
    pub revision: i64,
    /// Whether this entry made that revision, so that watchers have something to look at.
    pub changed: bool,
    /// Leases that it changed, for the lessor, in order.
    pub leases: Vec<LeaseChange>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an entry's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer. Member and term of its header are still to be stamped: [`Response::stamp`].
    Response(Response),
    /// No effect, and why.
    Refused(RefusedKind),
    /// A member's own command had its effect: of a leader, about leases where those still exist; of any, about formats.
    Noted,
    /// A leader's own command about leases came through in another term than its own, and had no effect.
    Stale,
}

impl StateMachine {
    /// Of an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the entry after the last applied one. `None`: the entry has no command (a new leader's own).
    ///
    /// # Errors
    /// The entry is not a command that this build reads. Nothing was applied, and the member must stop: others may know it.
    pub fn apply(&mut self, index: u64, term: u64, data: &Bytes) -> Result<Option<Applied>, CommandError> {
        let command = if data.is_empty() { None } else { Some(Command::decode(data)?) };
        assert!(index == self.index + 1, "entries are applied in order: {index} after {}", self.index);
        self.index = index;
        self.term = term;
        Ok(command.map(|command| self.apply_command(command)))
    }

    /// The pinned state.
    pub fn pin(&self) -> Pinned {
        self.clone()
    }

    /// All keys.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// All leases.
    pub fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    /// What the members have said about the formats that they read.
    pub fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Raft index of the last entry applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Term of the last entry applied.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The latest revision.
    pub fn revision(&self) -> i64 {
        self.tree.revision()
    }

    /// Hash of all that exists: keys, leases, formats, the latest and the compacted revision. Equal on members that applied
    /// the same index. (Leases and compaction do not raise the revision: equal revisions alone do not make equal hashes.)
    pub fn hash(&self) -> u64 {
        let parts = self.tree.hash().wrapping_add(self.leases.hash()).wrapping_add(self.formats.hash());
        mix(mix(parts, self.tree.revision().cast_unsigned()), self.tree.compacted().cast_unsigned())
    }

    fn apply_command(&mut self, command: Command) -> Applied {
        let Command { origin, request, term, action } = command;
        let before = self.tree.revision();
        let mut leases = Vec::new();
        let outcome = match self.act(origin, term, action, &mut leases) {
            Ok(outcome) => outcome,
            Err(kind) => Outcome::Refused(kind),
        };
        let revision = self.tree.revision();
        Applied { origin, request, revision, changed: revision > before, leases, outcome }
    }

    fn act(
        &mut self,
        origin: u64,
        decided_in: u64,
        action: Action,
        changed: &mut Vec<LeaseChange>,
    ) -> Result<Outcome, RefusedKind> {
        let (tree, leases) = (&mut self.tree, &mut self.leases);
        let response = match action {
            Action::Put(put) => Response::Put(txn::put(tree, leases, put)?),
            Action::DeleteRange(delete) => Response::DeleteRange(txn::delete_range(tree, leases, delete)?),
            Action::Txn(txn) => Response::Txn(txn::txn(tree, leases, txn)?),
            Action::Compact(compact) => {
                tree.compact(compact.revision)?;
                Response::Compact(CompactResponse { header: self.header() })
            }
            Action::LeaseGrant(LeaseGrantRequest { id, ttl_s }) => {
                let ttl_s = leases.grant(id, ttl_s, self.index)?;
                changed.push(LeaseChange::Granted { id });
                Response::LeaseGrant(LeaseGrantResponse { header: self.header(), id, ttl_s })
            }
            Action::LeaseRevoke(LeaseRevokeRequest { id }) => {
                if !self.end_lease(id, changed) {
                    return Err(RefusedKind::LeaseNotFound);
                }
                Response::LeaseRevoke(LeaseRevokeResponse { header: self.header() })
            }
            Action::LeaseExpire { .. } | Action::LeaseCheckpoint(_) if decided_in != self.term => {
                mark::sometimes!("stale lease revoke refused");
                return Ok(Outcome::Stale);
            }
            Action::LeaseExpire { id, granted } => {
                if leases.get(id).is_some_and(|lease| lease.granted == granted) {
                    mark::sometimes!("lease expired");
                    self.end_lease(id, changed);
                }
                return Ok(Outcome::Noted);
            }
            Action::LeaseCheckpoint(checkpoints) => {
                for checkpoint in checkpoints {
                    if leases.checkpoint(checkpoint.id, checkpoint.granted, checkpoint.remaining_ms) {
                        mark::sometimes!("lease checkpoint");
                        changed.push(LeaseChange::Checkpointed { id: checkpoint.id });
                    }
                }
                return Ok(Outcome::Noted);
            }
            Action::Announce { format, members } => {
                self.formats.announced(origin, format, &members);
                return Ok(Outcome::Noted);
            }
        };
        Ok(Outcome::Response(response))
    }

    /// Takes a lease out with its keys; says whether it existed.
    fn end_lease(&mut self, id: i64, changed: &mut Vec<LeaseChange>) -> bool {
        let Some(lease) = self.leases.remove(id) else { return false };
        txn::delete_keys_of(&mut self.tree, &lease);
        changed.push(LeaseChange::Gone { id });
        true
    }

    fn header(&self) -> Header {
        Header { revision: self.tree.revision(), ..Header::default() }
    }
}

#[cfg(test)]
mod tests;
