//! What a leader knows about one voter.

use std::collections::VecDeque;

use crate::{Index, NodeId, ReplicationState};

/// A voter, as an elector (`vote`) and as a replica (everything else, maintained by a leader only).
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    /// Its answer in the current campaign.
    pub(crate) vote: Option<bool>,
    /// Its log agrees, durably, up to here.
    pub(crate) match_index: Index,
    /// The next entry to send.
    pub(crate) next_index: Index,
    pub(crate) state: ReplicationState,
    /// A question is out and unanswered while probing: the next goes out after an answer or a heartbeat reply.
    pub(crate) paused: bool,
    /// While replicating: ask whether what was sent has arrived, for the last append may be lost.
    pub(crate) ask: bool,
    /// Heard of since the last check of the quorum.
    pub(crate) active: bool,
    /// Newest read round that it confirmed.
    pub(crate) round: u64,
    /// Highest commit index that it was told of since it is being replicated to.
    told_commit: Index,
    /// Last index of each append that is unanswered while replicating.
    inflight: VecDeque<Index>,
}

impl Peer {
    pub(crate) fn new(id: NodeId) -> Peer {
        Peer {
            id,
            vote: None,
            match_index: 0,
            next_index: 1,
            state: ReplicationState::Probe,
            paused: false,
            ask: false,
            active: false,
            round: 0,
            told_commit: 0,
            inflight: VecDeque::new(),
        }
    }

    /// As a new leader sees it, whose log ends at `last_index`.
    pub(crate) fn reset(&mut self, last_index: Index) {
        self.match_index = 0;
        self.active = false;
        self.round = 0;
        self.probe(last_index + 1);
    }

    /// Looks for agreement before `next`, which is above what agrees already.
    pub(crate) fn probe(&mut self, next: Index) {
        self.state = ReplicationState::Probe;
        self.next_index = next.max(self.match_index + 1);
        self.paused = false;
        self.ask = false;
        self.told_commit = 0;
        self.inflight.clear();
    }

    fn replicate(&mut self) {
        self.state = ReplicationState::Replicate;
        self.next_index = self.match_index + 1;
    }

    /// Waits for the snapshot at `index`.
    pub(crate) fn await_snapshot(&mut self, index: Index) {
        self.probe(index + 1);
        self.state = ReplicationState::Snapshot(index);
    }

    /// An append up to `last` is on its way.
    pub(crate) fn sent(&mut self, last: Index, commit: Index) {
        self.next_index = last + 1;
        self.inflight.push_back(last);
        // Its answer tells whether all before it arrived.
        self.ask = false;
        self.told(commit.min(last));
    }

    /// Whether no more appends may be sent for now.
    pub(crate) fn is_full(&self, max_inflight: usize) -> bool {
        self.inflight.len() >= max_inflight
    }

    /// The commit index of which it should be told, given the leader's.
    pub(crate) fn untold_commit(&self, commit: Index) -> Option<Index> {
        let commit = commit.min(self.match_index);
        (commit > self.told_commit).then_some(commit)
    }

    /// It was told that `commit` is committed.
    pub(crate) fn told(&mut self, commit: Index) {
        self.told_commit = self.told_commit.max(commit);
    }

    /// It has everything up to `index`; the leader's log begins after `base`.
    pub(crate) fn accepted(&mut self, index: Index, base: Index) {
        while self.inflight.pop_front_if(|last| *last <= index).is_some() {}
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(index + 1);
        match self.state {
            ReplicationState::Probe => self.replicate(),
            // Whatever became of the snapshot, the log can go on from here.
            ReplicationState::Snapshot(_) if self.match_index >= base => self.replicate(),
            ReplicationState::Snapshot(_) | ReplicationState::Replicate => {}
        }
    }

    /// It has no entry at `rejected` that agrees, and none above `hint` can. False when that is old news.
    pub(crate) fn rejected(&mut self, rejected: Index, hint: Index) -> bool {
        match self.state {
            ReplicationState::Replicate if rejected > self.match_index => {
                self.probe(self.match_index + 1);
                true
            }
            ReplicationState::Probe if rejected + 1 == self.next_index => {
                self.probe(rejected.min(hint + 1));
                true
            }
            ReplicationState::Replicate | ReplicationState::Probe | ReplicationState::Snapshot(_) => false,
        }
    }
}
