//! Linearizable reads without writing to the log (§6.4 of the Raft dissertation).
//!
//! A leader notes its commit index when a read arrives, proves by a round of heartbeats that it still led after that, and only
//! then answers. Rounds are numbered; all reads that arrive before a Ready is taken share one; a majority that
//! confirmed round n confirmed all before it.
//!
//! **Invariant:** a read's index covers every write acknowledged before it was asked for (`tests/adversary`).

use std::collections::VecDeque;

use crate::{Body, Index, NONE, NodeId, Raft, ReadIndexError, ReadState, Role};

/// Reads of one leader that may wait at a time. Each takes 32 bytes here; more than a member's clients ask in an election
/// timeout means that rounds get nowhere.
const MAX_WAITING: usize = 64 * 1024;

/// A leader's waiting reads.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Newest round that was begun in this leadership.
    round: u64,
    /// In the order of their rounds. Those of `round + 1` wait for it to begin.
    waiting: VecDeque<Waiting>,
    /// Asked before the leader committed in its own term.
    deferred: Vec<(NodeId, u64)>,
}

#[derive(Debug)]
struct Waiting {
    origin: NodeId,
    context: u64,
    index: Index,
    round: u64,
}

impl Reads {
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Drops all reads. The rounds begin anew, for acknowledgements of an earlier leadership carry its term.
    pub(crate) fn clear(&mut self) {
        *self = Reads::default();
    }

    fn is_full(&self) -> bool {
        self.waiting.len() + self.deferred.len() >= MAX_WAITING
    }
}

impl Raft {
    /// Asks for an index that covers everything committed so far anywhere. The answer comes as [`crate::Ready::read_states`]
    /// with the same `context`, or never: leadership or messages may be lost; then ask again. `context` is unique among the
    /// reads of this member, *over restarts too*: an answer to an earlier one may still be under way.
    ///
    /// # Errors
    /// Nothing was asked. See [`ReadIndexError`].
    pub fn read_index(&mut self, context: u64) -> Result<(), ReadIndexError> {
        if self.role == Role::Leader {
            if self.reads.is_full() {
                return Err(ReadIndexError::TooManyReads);
            }
            self.add_read(self.config.id, context);
            return Ok(());
        }
        if self.leader == NONE {
            return Err(ReadIndexError::NoLeader);
        }
        mark::sometimes!("read index forwarded");
        self.forward(Body::ReadIndex { context });
        Ok(())
    }

    /// A follower asks. A member that does not lead leaves it at that: the asker asks again.
    pub(crate) fn step_read_index(&mut self, from: NodeId, context: u64) {
        if self.role == Role::Leader && !self.reads.is_full() {
            self.add_read(from, context);
        }
    }

    fn add_read(&mut self, origin: NodeId, context: u64) {
        // Before that, the commit index may be behind what an earlier leader committed and acknowledged.
        if !self.has_committed_in_term() {
            mark::sometimes!("read index deferred to own term");
            self.reads.deferred.push((origin, context));
            return;
        }
        let (index, round) = (self.log.commit(), self.reads.round + 1);
        self.reads.waiting.push_back(Waiting { origin, context, index, round });
    }

    /// The leader committed: reads that waited for that join the next round.
    pub(crate) fn register_deferred_reads(&mut self) {
        if self.reads.deferred.is_empty() || !self.has_committed_in_term() {
            return;
        }
        for (origin, context) in std::mem::take(&mut self.reads.deferred) {
            self.add_read(origin, context);
        }
    }

    /// Begins a round for the reads that wait for one.
    pub(crate) fn begin_read_round(&mut self) {
        let next = self.reads.round + 1;
        if self.reads.waiting.back().is_some_and(|read| read.round == next) {
            self.reads.round = next;
            self.send_heartbeats();
            self.confirm_reads();
        }
    }

    /// Answers the reads whose round a majority has confirmed.
    pub(crate) fn confirm_reads(&mut self) {
        let (id, own, peers) = (self.config.id, self.reads.round, &self.peers);
        let round_of = |of| {
            if of == id { own } else { peers.iter().find(|p| p.id == of).map_or(0, |p| p.round) }
        };
        let confirmed = self.voters.reached(round_of);
        while let Some(read) = self.reads.waiting.pop_front_if(|read| read.round <= confirmed) {
            self.answer_read(read);
        }
    }

    fn answer_read(&mut self, read: Waiting) {
        let Waiting { origin, context, index, .. } = read;
        if origin == self.config.id {
            self.read_states.push(ReadState { context, index });
        } else {
            self.send(origin, Body::ReadIndexReply { context, index });
        }
    }
}
