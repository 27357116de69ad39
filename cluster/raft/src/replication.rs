//! Replication: what a leader sends to each follower, what a follower answers, and when an entry is committed.
//!
//! A leader keeps, per follower, one of three states. It *probes* with one empty append at a time until the logs agree
//! somewhere, then *replicates* by streaming appends without waiting, within a window. A follower that needs what the log no longer
//! has waits for a *snapshot*.

use bytes::Bytes;

use crate::log;
use crate::{
    Body, CommitAdvance, Entry, Index, Message, NONE, NodeId, ProposeError, Raft, ReplicationState, Role, SnapshotMeta,
    Term,
};

impl Raft {
    /// Appends a proposal to this leader's log.
    pub(crate) fn append_proposal(&mut self, data: Bytes) -> Result<(), ProposeError> {
        self.check_not_transferring()?;
        // One proposal always goes, however large; otherwise it could never.
        if self.uncommitted_bytes > 0 && self.uncommitted_bytes + data.len() > self.config.max_uncommitted_bytes {
            mark::sometimes!("proposal refused: too much uncommitted");
            return Err(ProposeError::TooMuchUncommitted);
        }
        self.append_own(data);
        Ok(())
    }

    /// A follower passed on a proposal. What cannot be accepted is dropped: its proposer hears nothing and times out.
    pub(crate) fn step_propose(&mut self, from: NodeId, data: Bytes) {
        if data.is_empty() {
            return;
        }
        if self.role == Role::Leader {
            if self.append_proposal(data).is_err() {
                mark::sometimes!("forwarded proposal dropped");
            }
        } else if self.leader != NONE && self.leader != from {
            self.forward(Body::Propose { data });
        }
    }

    /// Appends to the leader's own log. It is written and sent when the next Ready is taken.
    pub(crate) fn append_own(&mut self, data: Bytes) {
        let entry = Entry { term: self.term, index: self.log.last_index() + 1, data };
        self.uncommitted_bytes += log::size(&entry);
        self.log.push(entry);
    }

    /// This leader's log counts as far as it is durable.
    pub(crate) fn count_own_log(&mut self) {
        let (id, durable) = (self.config.id, self.log.durable());
        if let Some(own) = self.peer(id) {
            own.match_index = durable;
        }
        self.advance_commit();
    }

    /// Commits what a majority has, if that is an entry of this leader's term.
    fn advance_commit(&mut self) {
        let peers = &self.peers;
        let reached = |id| peers.iter().find(|p| p.id == id).map_or(0, |p| p.match_index);
        let index = self.voters.reached(reached);
        let before = self.log.commit();
        if index <= before {
            return;
        }
        let Some(entry_term) = self.log.term(index) else {
            return;
        };
        // An entry of an older term on a majority can still be replaced by a later leader (§5.4.2).
        if entry_term != self.term {
            return;
        }
        self.uncommitted_bytes -= self.log.bytes(before + 1, index);
        self.log.commit_to(index);
        self.commit_advance = Some(CommitAdvance { term: self.term, index, entry_term });
        self.register_deferred_reads();
    }

    /// Whether this leader committed in its own term: only then its commit index covers all that earlier leaders committed.
    pub(crate) fn has_committed_in_term(&self) -> bool {
        self.log.term(self.log.commit()) == Some(self.term)
    }

    /// To every follower whatever is due to it.
    pub(crate) fn send_appends(&mut self) {
        for at in 0..self.peers.len() {
            if self.peers[at].id != self.config.id {
                while self.send_next(at) {}
            }
        }
    }

    /// One message to the follower at `at`. Returns whether there may be another.
    fn send_next(&mut self, at: usize) -> bool {
        let (commit, last_index) = (self.log.commit(), self.log.last_index());
        let Raft { peers, config, .. } = self;
        let peer = &mut peers[at];
        match peer.state {
            ReplicationState::Snapshot(_) => false,
            ReplicationState::Probe => {
                if !peer.paused {
                    peer.paused = true;
                    self.send_append(at, 0);
                }
                false
            }
            ReplicationState::Replicate
                if peer.next_index <= last_index && !peer.is_full(config.max_inflight_appends) =>
            {
                let max_bytes = config.max_append_bytes;
                self.send_append(at, max_bytes)
            }
            ReplicationState::Replicate if peer.ask => {
                peer.ask = false;
                self.send_append(at, 0)
            }
            ReplicationState::Replicate => {
                if peer.next_index <= last_index {
                    mark::sometimes!("appends throttled");
                }
                if let Some(commit) = peer.untold_commit(commit) {
                    peer.told(commit);
                    let to = peer.id;
                    self.send(to, Body::Commit { commit });
                }
                false
            }
        }
    }

    /// An append from the follower's next entry on, of at most `max_bytes`, 0 for an empty one; or, when the log no longer
    /// goes back so far, a snapshot. Returns whether it was an append.
    fn send_append(&mut self, at: usize, max_bytes: usize) -> bool {
        let Raft { peers, log, messages, config, term, .. } = self;
        let peer = &mut peers[at];
        let prev_index = peer.next_index - 1;
        let Some(prev_term) = log.term(prev_index) else {
            self.send_snapshot(at);
            return false;
        };
        let last = if max_bytes > 0 { log.last_index() } else { prev_index };
        let entries = log.slice(peer.next_index, last, max_bytes);
        let commit = log.commit();
        if let Some(last) = entries.last() {
            peer.sent(last.index, commit);
        }
        let body = Body::Append { prev_index, prev_term, commit, entries };
        messages.push(Message { from: config.id, to: peer.id, term: *term, body });
        true
    }

    fn send_snapshot(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if !peer.active {
            // To a follower that is not there it would be a waste; its next sign of life resumes.
            peer.probe(peer.next_index);
            peer.paused = true;
            return;
        }
        mark::sometimes!("snapshot needed");
        let meta = self.log.snapshot().clone();
        assert!(meta.index >= self.log.base_index(), "what the log dropped is in the snapshot");
        peer.await_snapshot(meta.index);
        let to = peer.id;
        self.send(to, Body::Snapshot { meta });
    }

    /// To every follower, with what it is known to have of the committed, and the newest read round.
    pub(crate) fn send_heartbeats(&mut self) {
        let Raft { peers, log, messages, config, term, reads, .. } = self;
        for peer in peers.iter_mut().filter(|p| p.id != config.id) {
            let commit = log.commit().min(peer.match_index);
            peer.told(commit);
            let body = Body::Heartbeat { commit, round: reads.round() };
            messages.push(Message { from: config.id, to: peer.id, term: *term, body });
        }
    }

    pub(crate) fn step_heartbeat_reply(&mut self, from: NodeId, round: u64) {
        if self.role != Role::Leader {
            return;
        }
        let last_index = self.log.last_index();
        if let Some(peer) = self.peer(from) {
            peer.active = true;
            peer.paused = false;
            peer.ask = peer.match_index < last_index;
            peer.round = peer.round.max(round);
        }
        self.confirm_reads();
    }

    pub(crate) fn step_append(
        &mut self,
        from: NodeId,
        prev_index: Index,
        prev_term: Term,
        commit: Index,
        entries: Vec<Entry>,
    ) {
        assert!(self.role == Role::Follower, "a leader only appends to its log");
        let (mut prev_index, mut prev_term, mut entries) = (prev_index, prev_term, entries);
        let committed = self.log.commit();
        if prev_index < committed {
            // Up to the commit index the leader's log is the same as this one, which may no longer go back so far.
            let known = entries.iter().take_while(|e| e.index <= committed).count();
            entries.drain(..known);
            if entries.is_empty() {
                return self.send_after_persist(from, Body::AppendAccepted { index: committed });
            }
            (prev_index, prev_term) =
                (committed, self.log.term(committed).expect("the log goes back to its commit index"));
        }
        if self.log.term(prev_index) != Some(prev_term) {
            let (hint_index, hint_term) = self.log.last_at_most(prev_index, prev_term);
            let body = Body::AppendRejected { rejected: prev_index, hint_index, hint_term };
            return self.send_after_persist(from, body);
        }
        let index = prev_index + entries.len() as u64;
        if self.log.merge(entries) {
            mark::sometimes!("log conflict truncated");
        }
        self.log.commit_to(commit.min(index));
        self.send_after_persist(from, Body::AppendAccepted { index });
    }

    pub(crate) fn step_append_accepted(&mut self, from: NodeId, index: Index) {
        if self.role != Role::Leader {
            return;
        }
        let (base_index, last_index) = (self.log.base_index(), self.log.last_index());
        assert!(
            index <= last_index,
            "member {from} agrees up to {index}, beyond this leader's log, which ends at {last_index}"
        );
        let Some(peer) = self.peer(from) else { return };
        peer.active = true;
        peer.accepted(index, base_index);
        self.advance_commit();
        if from == self.transferee {
            self.send_timeout_now();
        }
    }

    pub(crate) fn step_append_rejected(&mut self, from: NodeId, rejected: Index, hint_index: Index, hint_term: Term) {
        if self.role != Role::Leader {
            return;
        }
        let (hint, _) = self.log.last_at_most(hint_index, hint_term);
        if let Some(peer) = self.peer(from) {
            peer.active = true;
            if peer.rejected(rejected, hint) {
                mark::sometimes!("append rejected");
            }
        }
    }

    /// The bytes of the snapshot are here; whether it is needed is decided now.
    pub(crate) fn step_snapshot(&mut self, from: NodeId, meta: SnapshotMeta) {
        let index = meta.index;
        if index > self.log.commit() {
            if self.log.term(index) == Some(meta.term) {
                // The log has all that it stands for.
                self.log.commit_to(index);
            } else {
                mark::sometimes!("snapshot taken");
                self.adopt_voters(&meta);
                self.log.install(meta);
            }
        }
        self.send_after_persist(from, Body::AppendAccepted { index: self.log.commit() });
    }

    /// Messages to `to` were lost: what is on its way has to be asked for again.
    pub fn report_unreachable(&mut self, to: NodeId) {
        if self.role == Role::Leader
            && let Some(peer) = self.peer(to)
            && peer.state == ReplicationState::Replicate
        {
            peer.probe(peer.match_index + 1);
        }
    }

    /// What became of the last snapshot sent to `to`: whether all of it arrived. Has to be told in every case, also
    /// when it is not known: that is `false`.
    pub fn report_snapshot(&mut self, to: NodeId, ok: bool) {
        if self.role == Role::Leader
            && let Some(peer) = self.peer(to)
            && let ReplicationState::Snapshot(index) = peer.state
        {
            if !ok {
                mark::sometimes!("snapshot failed");
            }
            peer.probe(if ok { index + 1 } else { peer.match_index + 1 });
            // Its next heartbeat reply resumes: installing takes time, and a failure is not repeated at full speed.
            peer.paused = true;
        }
    }
}
