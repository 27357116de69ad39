//! The state machine itself: what it holds, how messages reach the rule that concerns them, and how a [`Ready`] is made.
//! The rules are in `election.rs`, `replication.rs` and `read.rs`.

use bytes::Bytes;

use crate::log::Log;
use crate::progress::Peer;
use crate::quorum::Voters;
use crate::read::Reads;
use crate::{
    Body, CommitAdvance, Config, HardState, Index, Message, NONE, NodeId, PeerStatus, ProposeError, ReadState, Ready,
    Restored, Role, SnapshotMeta, Status, Term,
};

/// One member of a cluster that agrees on a log. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) voters: Voters,
    /// All voters, this one included, in the order of their ids.
    pub(crate) peers: Vec<Peer>,
    pub(crate) term: Term,
    pub(crate) vote: NodeId,
    pub(crate) role: Role,
    pub(crate) leader: NodeId,
    pub(crate) log: Log,
    /// Ticks since a leader was heard or a vote given; of a leader, since it last checked its quorum.
    pub(crate) election_elapsed: u32,
    /// Ticks of silence after which to campaign; drawn at the next tick when `None`.
    pub(crate) election_timeout: Option<u32>,
    pub(crate) heartbeat_elapsed: u32,
    /// To whom this leader hands over, and for how many ticks it has tried.
    pub(crate) transferee: NodeId,
    pub(crate) transfer_elapsed: u32,
    /// Sizes of this leader's entries above the commit index.
    pub(crate) uncommitted_bytes: usize,
    pub(crate) reads: Reads,
    pub(crate) messages: Vec<Message>,
    pub(crate) messages_after_persist: Vec<Message>,
    pub(crate) read_states: Vec<ReadState>,
    pub(crate) commit_advance: Option<CommitAdvance>,
    number: u64,
    told_hard_state: HardState,
    told_lead: (Role, Term, NodeId),
}

impl Raft {
    /// A follower, with the state found on disk.
    ///
    /// # Panics
    /// When `config` makes no sense, or the restored state contradicts itself: entries that were durable and committed are
    /// gone. Such a member must not take part.
    pub fn new(config: Config, restored: Restored) -> Raft {
        assert!(config.id != NONE, "id 0 stands for nobody");
        assert!(config.heartbeat_ticks >= 1, "a leader without heartbeats loses its followers");
        assert!(config.election_ticks > config.heartbeat_ticks, "an election timeout leaves time for a heartbeat");
        assert!(config.max_inflight_appends >= 1, "without appends nothing is replicated");
        let Restored { hard_state, ref snapshot, .. } = restored;
        let voters = voters_of(snapshot, &config);
        // A crash may leave an installed snapshot durable, but not yet the hard state that came with it.
        let behind = snapshot.term > hard_state.term;
        let (term, vote) = if behind { (snapshot.term, NONE) } else { (hard_state.term, hard_state.vote) };
        let log = Log::new(restored);
        let last_term = log.last_term();
        assert!(term >= last_term, "the log has entries of term {last_term}, the hard state is of {term}");
        Raft {
            peers: voters.ids().iter().map(|id| Peer::new(*id)).collect(),
            voters,
            term,
            vote,
            role: Role::Follower,
            leader: NONE,
            log,
            election_elapsed: 0,
            election_timeout: None,
            heartbeat_elapsed: 0,
            transferee: NONE,
            transfer_elapsed: 0,
            uncommitted_bytes: 0,
            reads: Reads::default(),
            messages: Vec::new(),
            messages_after_persist: Vec::new(),
            read_states: Vec::new(),
            commit_advance: None,
            number: 0,
            told_hard_state: hard_state,
            told_lead: (Role::Follower, term, NONE),
            config,
        }
    }

    /// One tick of time passed. `random` is fresh at every call: election timeouts are drawn from it.
    pub fn tick(&mut self, random: u64) {
        if self.election_timeout.is_none() {
            let ticks = self.config.election_ticks;
            self.election_timeout = Some(ticks + (random % u64::from(ticks)) as u32);
        }
        match self.role {
            Role::Leader => self.tick_leader(),
            Role::Follower | Role::PreCandidate | Role::Candidate => self.tick_election(),
        }
    }

    /// A message from another member. Foreign and outdated ones are ignored. [`Body::Snapshot`] only once its bytes are here.
    pub fn step(&mut self, message: Message) {
        let Message { from, to, term, body } = message;
        if to != self.config.id || from == self.config.id || !self.voters.contains(from) {
            return;
        }
        match body {
            Body::Propose { data } => self.step_propose(from, data),
            Body::ReadIndex { context } => self.step_read_index(from, context),
            body if term < self.term => self.answer_older_term(from, &body),
            body => {
                if term == self.term || self.meet_newer_term(from, term, &body) {
                    self.step_in_term(from, term, body);
                }
            }
        }
    }

    /// `term` is this member's, except in pre-votes and their grants, which speak of the term after.
    fn step_in_term(&mut self, from: NodeId, term: Term, body: Body) {
        match body {
            Body::PreVote { last_index, last_term } => self.step_pre_vote(from, term, last_index, last_term),
            Body::PreVoteReply { granted } => self.step_pre_vote_reply(from, term, granted),
            Body::Vote { last_index, last_term, .. } => self.step_vote(from, last_index, last_term),
            Body::VoteReply { granted } => self.step_vote_reply(from, granted),
            Body::Append { prev_index, prev_term, commit, entries } => {
                if self.follow(from) {
                    self.step_append(from, prev_index, prev_term, commit, entries);
                }
            }
            Body::Heartbeat { commit, round } => {
                if self.follow(from) {
                    self.log.commit_to(commit);
                    self.send(from, Body::HeartbeatReply { round });
                }
            }
            Body::Commit { commit } => {
                if self.follow(from) {
                    self.log.commit_to(commit);
                }
            }
            Body::Snapshot { meta } => {
                if self.follow(from) {
                    self.step_snapshot(from, meta);
                }
            }
            Body::TimeoutNow => {
                if self.follow(from) {
                    self.step_timeout_now();
                }
            }
            Body::ReadIndexReply { context, index } => self.read_states.push(ReadState { context, index }),
            Body::AppendAccepted { index } => self.step_append_accepted(from, index),
            Body::AppendRejected { rejected, hint_index, hint_term } => {
                self.step_append_rejected(from, rejected, hint_index, hint_term);
            }
            Body::HeartbeatReply { round } => self.step_heartbeat_reply(from, round),
            Body::Propose { .. } | Body::ReadIndex { .. } => {
                unreachable!("belong to no term and were dealt with")
            }
        }
    }

    /// Appends `data`, which is not empty, if this member leads; passes it to the leader if it follows one. `Ok` promises
    /// nothing: only [`Ready::committed`] does, and a proposal that was passed on may be lost or, if the caller repeats it,
    /// committed twice.
    ///
    /// # Errors
    /// The proposal certainly has no effect. See [`ProposeError`].
    pub fn propose(&mut self, data: Bytes) -> Result<(), ProposeError> {
        assert!(!data.is_empty(), "an empty entry is a new leader's");
        if self.role == Role::Leader {
            return self.append_proposal(data);
        }
        if self.leader == NONE {
            return Err(ProposeError::NoLeader);
        }
        mark::sometimes!("proposal forwarded");
        self.forward(Body::Propose { data });
        Ok(())
    }

    /// What there is to do, or `None`. Call until `None`.
    pub fn ready(&mut self) -> Option<Ready> {
        if self.role == Role::Leader {
            self.begin_read_round();
            self.send_appends();
        }
        let hard_state = HardState { term: self.term, vote: self.vote, commit: self.log.durable_commit() };
        let lead = (self.role, self.term, self.leader);
        let nothing = hard_state == self.told_hard_state
            && lead == self.told_lead
            && self.messages.is_empty()
            && self.messages_after_persist.is_empty()
            && self.read_states.is_empty()
            && self.commit_advance.is_none()
            && !self.log.has_unhanded()
            && !self.log.has_undelivered();
        if nothing {
            return None;
        }
        let told = std::mem::replace(&mut self.told_hard_state, hard_state);
        assert!(hard_state.commit >= told.commit, "commit never falls: {told:?} to {hard_state:?}");
        assert!(hard_state.term >= told.term, "terms never fall: {told:?} to {hard_state:?}");
        let must_persist = (told.term, told.vote) != (self.term, self.vote) || self.log.has_unhanded();
        self.number += 1;
        let mut ready = Ready {
            number: self.number,
            hard_state: (hard_state != told).then_some(hard_state),
            snapshot: self.log.take_install(),
            entries: self.log.take_unhanded(),
            messages: std::mem::take(&mut self.messages),
            messages_after_persist: std::mem::take(&mut self.messages_after_persist),
            committed: self.log.take_committed(self.config.max_committed_bytes),
            read_states: std::mem::take(&mut self.read_states),
            lead_change: (lead != self.told_lead).then_some(lead),
            commit_advance: self.commit_advance.take(),
            must_persist,
        };
        self.told_lead = lead;
        if must_persist {
            self.log.begin_write(self.number, &hard_state);
        } else if !self.log.has_writes() {
            // All that these messages promise is durable already.
            ready.messages.append(&mut ready.messages_after_persist);
        }
        Some(ready)
    }

    /// Ready `number` and all before it are durable.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.number, "Ready {number} was never handed out");
        if let Some((term, vote)) = self.log.persisted(number) {
            match self.role {
                // A leader's own log counts like any follower's: once it is durable.
                Role::Leader => self.count_own_log(),
                Role::Candidate if (term, vote) == (self.term, self.config.id) => self.count_own_vote(),
                Role::Candidate | Role::PreCandidate | Role::Follower => {}
            }
        }
    }

    /// State is applied up to `index`.
    pub fn applied(&mut self, index: Index) {
        self.log.applied_to(index);
    }

    /// The store has a durable snapshot of its state at `snapshot.index`, applied here, and will send this one to followers
    /// that need one. The log drops what it covers except the last `tail` entries, which spare laggards the snapshot. What is
    /// older than the newest is ignored.
    pub fn compact(&mut self, snapshot: SnapshotMeta, tail: u64) {
        self.log.compact(snapshot, tail);
    }

    /// This member, as it is now. Allocates for a leader's peers; the getters below do not.
    pub fn status(&self) -> Status {
        let as_seen = |peer: &Peer| PeerStatus {
            id: peer.id,
            match_index: peer.match_index,
            next_index: peer.next_index,
            state: peer.state,
            active: peer.active,
        };
        let others = self.peers.iter().filter(|p| p.id != self.config.id && self.role == Role::Leader);
        Status {
            id: self.config.id,
            term: self.term,
            vote: self.vote,
            role: self.role,
            leader: self.leader,
            commit: self.log.commit(),
            applied: self.log.applied(),
            first_index: self.log.base_index() + 1,
            last_index: self.log.last_index(),
            durable_index: self.log.durable(),
            transferee: self.transferee,
            peers: others.map(as_seen).collect(),
        }
    }

    /// This member.
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The leader it knows, or [`NONE`].
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// Last index known to be committed.
    pub fn commit(&self) -> Index {
        self.log.commit()
    }

    /// Last index of the log.
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// The voters, ascending.
    pub fn voters(&self) -> &[NodeId] {
        self.voters.ids()
    }

    /// Term of the entry at `index`, while the log still has it.
    pub fn entry_term(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    pub(crate) fn peer(&mut self, id: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|p| p.id == id)
    }

    /// Sends at once, in the current term.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        self.messages.push(Message { from: self.config.id, to, term: self.term, body });
    }

    /// Sends once everything up to now is durable, in the current term.
    pub(crate) fn send_after_persist(&mut self, to: NodeId, body: Body) {
        self.messages_after_persist.push(Message { from: self.config.id, to, term: self.term, body });
    }

    /// Passes on to the leader what belongs to no term.
    pub(crate) fn forward(&mut self, body: Body) {
        self.messages.push(Message { from: self.config.id, to: self.leader, term: 0, body });
    }

    /// Sends `body` to every other voter, at once and under `term`.
    pub(crate) fn broadcast(&mut self, term: Term, body: &Body) {
        let (from, messages) = (self.config.id, &mut self.messages);
        for to in self.voters.ids().iter().filter(|to| **to != from) {
            messages.push(Message { from, to: *to, term, body: body.clone() });
        }
    }

    /// Takes the voters of a snapshot from the leader.
    pub(crate) fn adopt_voters(&mut self, snapshot: &SnapshotMeta) {
        let voters = voters_of(snapshot, &self.config);
        if voters != self.voters {
            self.peers = voters.ids().iter().map(|id| Peer::new(*id)).collect();
            self.voters = voters;
        }
    }
}

fn voters_of(snapshot: &SnapshotMeta, config: &Config) -> Voters {
    Voters::new(if snapshot.voters.is_empty() { &config.voters } else { &snapshot.voters })
}
