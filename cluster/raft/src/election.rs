//! Elections: timeouts, pre-votes, votes, the lease of a leader that is being heard, the check of its quorum, handing over.
//!
//! ```text
//!            silence            majority would             majority does
//!  Follower ────────> PreCandidate ──────────> Candidate ──────────────> Leader
//!     ^ ^─────────────────┘ no majority            │                       │
//!     └────────────────────────────────────────────┴── newer term, or ─────┘
//!                                                      no quorum heard
//! ```

use crate::quorum::Tally;
use crate::{Body, Index, Message, NONE, NodeId, ProposeError, Raft, Role, Term};

impl Raft {
    pub(crate) fn tick_election(&mut self) {
        self.election_elapsed += 1;
        let due = self.election_timeout.is_some_and(|timeout| self.election_elapsed >= timeout);
        if !due || !self.voters.contains(self.config.id) {
            return;
        }
        if self.log.has_writes() {
            // A member whose disk has unfinished writes could not even vote for itself. Campaigning again and again it would
            // only raise its term, and with that depose the next leader.
            mark::sometimes!("campaign waits for the disk");
            self.become_follower(self.term, NONE);
        } else {
            self.pre_campaign();
        }
    }

    pub(crate) fn tick_leader(&mut self) {
        self.election_elapsed += 1;
        self.heartbeat_elapsed += 1;
        if self.election_elapsed >= self.config.election_ticks {
            self.election_elapsed = 0;
            if !self.take_quorum_heard() {
                mark::sometimes!("check-quorum stepped down");
                return self.become_follower(self.term, NONE);
            }
        }
        if self.transferee != NONE {
            self.transfer_elapsed += 1;
            if self.transfer_elapsed >= self.config.election_ticks {
                mark::sometimes!("leadership transfer given up");
                self.transferee = NONE;
            }
        }
        if self.heartbeat_elapsed >= self.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.send_heartbeats();
            self.send_timeout_now();
        }
    }

    /// Whether a majority was heard since the last call.
    fn take_quorum_heard(&mut self) -> bool {
        let (id, peers) = (self.config.id, &self.peers);
        let heard = |of: NodeId| (of == id || peers.iter().any(|p| p.id == of && p.active)).then_some(true);
        let tally = self.voters.tally(heard);
        for peer in &mut self.peers {
            peer.active = false;
        }
        tally == Tally::Won
    }

    /// Asks whether a campaign would succeed, so that a member that was cut off does not depose a leader that is fine.
    fn pre_campaign(&mut self) {
        self.reset(NONE);
        self.role = Role::PreCandidate;
        let id = self.config.id;
        self.record_vote(id, true);
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        self.broadcast(self.term + 1, &Body::PreVote { last_index, last_term });
        self.decide_pre_campaign();
    }

    /// Stands for election in the next term. Its own vote counts, and others are asked, once term, vote and log are durable: a
    /// vote that was asked for with a log that a crash then shortens must not exist.
    fn campaign(&mut self, transfer: bool) {
        self.reset(NONE);
        self.role = Role::Candidate;
        self.term += 1;
        self.vote = self.config.id;
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        for to in self.voters.ids().iter().filter(|to| **to != self.config.id) {
            let body = Body::Vote { last_index, last_term, transfer };
            let message = Message { from: self.config.id, to: *to, term: self.term, body };
            self.messages_after_persist.push(message);
        }
    }

    /// A message of a newer term. Returns whether it still has to be dealt with in the term that holds then.
    pub(crate) fn meet_newer_term(&mut self, from: NodeId, term: Term, body: &Body) -> bool {
        let leader = match body {
            Body::PreVote { .. } if self.is_leased() => {
                mark::sometimes!("pre-vote refused by lease");
                return false;
            }
            Body::Vote { transfer: false, .. } if self.is_leased() => {
                mark::sometimes!("vote refused by lease");
                return false;
            }
            // Both speak of a term that nobody is in yet.
            Body::PreVote { .. } | Body::PreVoteReply { granted: true } => return true,
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Commit { .. }
            | Body::Snapshot { .. }
            | Body::TimeoutNow
            | Body::ReadIndexReply { .. } => from,
            Body::PreVoteReply { granted: false }
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::HeartbeatReply { .. }
            | Body::Propose { .. }
            | Body::ReadIndex { .. } => NONE,
        };
        self.become_follower(term, leader);
        true
    }

    /// Whether a leader was heard so recently that nobody else may be elected: otherwise a member that hears it badly could
    /// depose a leader that serves everybody else.
    fn is_leased(&self) -> bool {
        self.leader != NONE && self.election_elapsed < self.config.election_ticks
    }

    /// A message of an older term is void, but some senders have to learn that there is a newer one: a leader that is
    /// none any more, and a member that cannot be elected because its term is behind.
    pub(crate) fn answer_older_term(&mut self, from: NodeId, body: &Body) {
        match body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => {
                self.send(from, Body::HeartbeatReply { round: 0 });
            }
            Body::PreVote { .. } => self.send(from, Body::PreVoteReply { granted: false }),
            Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::HeartbeatReply { .. }
            | Body::Commit { .. }
            | Body::Propose { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::TimeoutNow => {}
        }
    }

    /// `from` leads in this term. False when that is this member itself: two leaders in one term would be a breach that is
    /// judged from outside, and here the one keeps to its own log.
    pub(crate) fn follow(&mut self, from: NodeId) -> bool {
        if self.role == Role::Leader {
            return false;
        }
        if self.role != Role::Follower || self.leader != from {
            self.become_follower(self.term, from);
        }
        self.election_elapsed = 0;
        true
    }

    pub(crate) fn step_pre_vote(&mut self, from: NodeId, term: Term, last_index: Index, last_term: Term) {
        let granted = term > self.term && self.log.is_up_to_date(last_index, last_term);
        // A grant speaks of the term asked for; a refusal tells the asker the term that it may have missed.
        let term = if granted { term } else { self.term };
        let body = Body::PreVoteReply { granted };
        self.messages.push(Message { from: self.config.id, to: from, term, body });
    }

    pub(crate) fn step_pre_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        let current = if granted { term == self.term + 1 } else { term == self.term };
        if self.role == Role::PreCandidate && current {
            self.record_vote(from, granted);
            self.decide_pre_campaign();
        }
    }

    fn decide_pre_campaign(&mut self) {
        match self.tally() {
            Tally::Won => self.campaign(false),
            Tally::Lost => self.become_follower(self.term, NONE),
            Tally::Open => {}
        }
    }

    pub(crate) fn step_vote(&mut self, from: NodeId, last_index: Index, last_term: Term) {
        let free = self.vote == from || (self.vote == NONE && self.leader == NONE);
        let granted = free && self.log.is_up_to_date(last_index, last_term);
        if granted {
            mark::sometimes!("vote granted");
            self.vote = from;
            self.election_elapsed = 0;
        }
        self.send_after_persist(from, Body::VoteReply { granted });
    }

    pub(crate) fn step_vote_reply(&mut self, from: NodeId, granted: bool) {
        if self.role == Role::Candidate {
            self.record_vote(from, granted);
            self.decide_campaign();
        }
    }

    /// Term and vote of this candidate are durable.
    pub(crate) fn count_own_vote(&mut self) {
        let id = self.config.id;
        self.record_vote(id, true);
        self.decide_campaign();
    }

    fn decide_campaign(&mut self) {
        match self.tally() {
            Tally::Won => self.become_leader(),
            Tally::Lost => {
                mark::sometimes!("election lost");
                self.become_follower(self.term, NONE);
            }
            Tally::Open => {}
        }
    }

    /// The first answer of each voter counts.
    fn record_vote(&mut self, of: NodeId, granted: bool) {
        if let Some(peer) = self.peer(of) {
            peer.vote.get_or_insert(granted);
        }
    }

    fn tally(&self) -> Tally {
        self.voters.tally(|id| self.peers.iter().find(|p| p.id == id).and_then(|p| p.vote))
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: NodeId) {
        assert!(term >= self.term, "terms never fall: {} to {term}", self.term);
        if self.transferee != NONE && term > self.term {
            mark::sometimes!("leadership transferred");
        }
        if term > self.term {
            self.term = term;
            self.vote = NONE;
        }
        self.reset(leader);
        self.role = Role::Follower;
    }

    fn become_leader(&mut self) {
        self.reset(self.config.id);
        self.role = Role::Leader;
        let last_index = self.log.last_index();
        for peer in &mut self.peers {
            peer.reset(last_index);
        }
        self.uncommitted_bytes = self.log.bytes(self.log.commit() + 1, last_index);
        // What earlier terms left becomes committed by committing an entry of this term (§5.4.2), so there has to be one.
        self.append_own(bytes::Bytes::new());
        self.count_own_log();
    }

    /// What belongs to one role in one term ends with it. Reads that wait for this leader's quorum are dropped: nobody may
    /// answer them any more, and their askers ask again.
    fn reset(&mut self, leader: NodeId) {
        self.leader = leader;
        self.election_elapsed = 0;
        self.election_timeout = None;
        self.heartbeat_elapsed = 0;
        self.transferee = NONE;
        self.transfer_elapsed = 0;
        self.uncommitted_bytes = 0;
        self.reads.clear();
        for peer in &mut self.peers {
            peer.vote = None;
        }
    }

    /// Hands leadership to voter `to`, or to the one that is furthest along when `to` is [`NONE`]. Does nothing unless this
    /// member leads. Proposals are refused until it is done or, after one election timeout, given up.
    pub fn transfer_leadership(&mut self, to: NodeId) {
        let id = self.config.id;
        let furthest = self.peers.iter().filter(|p| p.id != id).max_by_key(|p| (p.active, p.match_index));
        let to = if to == NONE { furthest.map_or(NONE, |p| p.id) } else { to };
        if self.role != Role::Leader || to == id || to == self.transferee || !self.voters.contains(to) {
            return;
        }
        self.transferee = to;
        self.transfer_elapsed = 0;
        self.send_timeout_now();
    }

    /// Tells the transferee to campaign, as soon as it has the whole log.
    pub(crate) fn send_timeout_now(&mut self) {
        let (to, last_index) = (self.transferee, self.log.last_index());
        if self.peer(to).is_some_and(|p| p.match_index == last_index) {
            self.send(to, Body::TimeoutNow);
        }
    }

    pub(crate) fn step_timeout_now(&mut self) {
        if self.voters.contains(self.config.id) && !self.log.is_installing() {
            mark::sometimes!("campaign on the leader's wish");
            self.campaign(true);
        }
    }

    /// Whether proposals are refused because of a transfer.
    pub(crate) fn check_not_transferring(&self) -> Result<(), ProposeError> {
        if self.transferee == NONE { Ok(()) } else { Err(ProposeError::Transferring) }
    }
}
