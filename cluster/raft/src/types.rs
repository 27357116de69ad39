//! What goes into the core and what comes out of it: plain data, without behaviour.
//!
//! [`Entry`], [`HardState`], [`SnapshotMeta`] and [`Message`] cross a wire or rest on a disk. They carry no version of their
//! own: the stream or the file that holds them does.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Identity of a member, unique in its cluster for ever. [`NONE`] is nobody.
pub type NodeId = u64;
/// A period with at most one leader. It never falls; 0 is before the first election.
pub type Term = u64;
/// Position in the log. The first entry has 1; 0 is before it.
pub type Index = u64;

/// Nobody: no leader known, no vote given.
pub const NONE: NodeId = 0;

/// One position of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Term of the leader that appended it.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// What was proposed. Empty: the entry with which a leader opens its term; nothing to apply.
    pub data: Bytes,
}

/// What has to survive a crash besides the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// Newest term seen.
    pub term: Term,
    /// Whom this member voted for in `term`, or [`NONE`].
    pub vote: NodeId,
    /// Everything up to here is committed and was durable here when this was handed out. A hint: it may lag.
    pub commit: Index,
}

/// Which prefix of the log a snapshot stands for. The store keeps and ships the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Last entry that went into the snapshot; 0: the empty state before the first entry.
    pub index: Index,
    /// Term of that entry.
    pub term: Term,
    /// Voters as of `index`. Empty only in the snapshot of index 0: then [`Config::voters`] counts.
    pub voters: Vec<NodeId>,
}

/// One message between two members. May be lost, duplicated, delayed and overtaken at will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
    /// The sender's term; the term it would campaign in for [`Body::PreVote`] and a granted [`Body::PreVoteReply`]; 0 for
    /// [`Body::Propose`] and [`Body::ReadIndex`], which belong to no term.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a [`Message`] says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Would you vote for me? Binds nobody.
    PreVote {
        /// Last index of the asker's log.
        last_index: Index,
        /// Term of that entry.
        last_term: Term,
    },
    /// Answer to [`Body::PreVote`].
    PreVoteReply {
        /// Whether the vote would be given.
        granted: bool,
    },
    /// Vote for me in this message's term.
    Vote {
        /// Last index of the candidate's log.
        last_index: Index,
        /// Term of that entry.
        last_term: Term,
        /// The leader itself asked for this campaign: its lease does not stand against it.
        transfer: bool,
    },
    /// Answer to [`Body::Vote`]. Leaves only once term and vote are durable.
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
    },
    /// Entries to append after (`prev_index`, `prev_term`). Without entries: do our logs agree up to there?
    Append {
        /// Index before the first of `entries`.
        prev_index: Index,
        /// Its term.
        prev_term: Term,
        /// The leader's commit index.
        commit: Index,
        /// Contiguous, from `prev_index + 1` on.
        entries: Vec<Entry>,
    },
    /// The log agrees with the leader's up to `index`, and is durable up to there.
    AppendAccepted {
        /// Last index on which both agree.
        index: Index,
    },
    /// The log has no entry (`prev_index`, `prev_term`) of the append that this answers.
    AppendRejected {
        /// `prev_index` of that append.
        rejected: Index,
        /// The logs agree nowhere above this.
        hint_index: Index,
        /// Term of the rejecting log at `hint_index`.
        hint_term: Term,
    },
    /// I lead. Asks for [`Body::HeartbeatReply`].
    Heartbeat {
        /// Committed, and known to be in the receiver's log.
        commit: Index,
        /// Newest round of read-index confirmation; 0 when there was none yet.
        round: u64,
    },
    /// You lead, as far as I know. To a leader of an older term: no longer.
    HeartbeatReply {
        /// The round of the heartbeat that this answers.
        round: u64,
    },
    /// News of the commit index alone. Asks for no answer: the next heartbeat repeats it.
    Commit {
        /// Committed, and known to be in the receiver's log.
        commit: Index,
    },
    /// Replace your log and state by this snapshot. The transport ships the bytes alongside; it passes the message to
    /// [`crate::Raft::step`] only after all of them have come and been verified.
    Snapshot {
        /// What the bytes stand for.
        meta: SnapshotMeta,
    },
    /// A follower passes on a proposal.
    Propose {
        /// What to append.
        data: Bytes,
    },
    /// A follower asks for a read index.
    ReadIndex {
        /// Chosen by the asker, returned to it.
        context: u64,
    },
    /// Answer to [`Body::ReadIndex`].
    ReadIndexReply {
        /// As asked.
        context: u64,
        /// See [`ReadState::index`].
        index: Index,
    },
    /// Campaign now: the leader wants to hand over.
    TimeoutNow,
}

/// How a member takes part. All members of a cluster should agree on the ticks.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member; not [`NONE`].
    pub id: NodeId,
    /// The first voters of the cluster. A snapshot's voters take precedence.
    pub voters: Vec<NodeId>,
    /// A follower that hears no leader for this many ticks, plus a random number below it, campaigns; a leader that hears no
    /// majority for this many ticks steps down.
    pub election_ticks: u32,
    /// A leader sends heartbeats every so many ticks. Well below `election_ticks`.
    pub heartbeat_ticks: u32,
    /// Largest sum of entry sizes in one append. A single larger entry goes alone.
    pub max_append_bytes: usize,
    /// Appends to one follower that may be unanswered.
    pub max_inflight_appends: usize,
    /// Sum of entry sizes that a leader holds uncommitted before it refuses proposals.
    pub max_uncommitted_bytes: usize,
    /// Largest sum of entry sizes in one [`Ready::committed`], so that applying does not hold up heartbeats.
    pub max_committed_bytes: usize,
}

impl Config {
    /// The product's settings for member `id` of `voters`.
    pub fn new(id: NodeId, voters: Vec<NodeId>) -> Config {
        Config {
            id,
            voters,
            // With ticks of 100 ms: campaigns after 1 to 2 s of silence.
            election_ticks: 10,
            // Four heartbeats may be lost before the shortest election timeout.
            heartbeat_ticks: 2,
            // Large enough to fill a batch of log writes, small enough not to hold up heartbeats on a slow link.
            max_append_bytes: 512 * 1024,
            // Enough for 64 appends per round trip: a window that small entries seldom fill.
            max_inflight_appends: 64,
            // A few seconds of the fastest disk; far below the memory of any member.
            max_uncommitted_bytes: 64 * 1024 * 1024,
            // About a millisecond of applying.
            max_committed_bytes: 1024 * 1024,
        }
    }
}

/// What was found on disk at start. [`Restored::default`] is a new member of a new cluster.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Newest durable hard state.
    pub hard_state: HardState,
    /// Newest durable snapshot.
    pub snapshot: SnapshotMeta,
    /// The durable log, contiguous, from any index up to `snapshot.index + 1` on; see [`Restored::drop_superseded_log`]. Entries up
    /// to the snapshot's index are welcome: they spare laggards a snapshot. When the log is replayed, the record of an
    /// *installed* snapshot ([`Ready::snapshot`]) discards every entry recorded before it.
    pub entries: Vec<Entry>,
    /// Last entry in the restored state, at least `snapshot.index`.
    pub applied: Index,
}

impl Restored {
    /// Drops the entries if they end before the snapshot or contradict it: a crash fell between an installed snapshot and the
    /// log's record of it. Returns whether it did so; then the log on disk has to be begun anew, at the snapshot, before
    /// anything is written to it.
    pub fn drop_superseded_log(&mut self) -> bool {
        let at = self.snapshot.index;
        let superseded = self.entries.first().is_some_and(|first| {
            let agrees = |offset| self.entries.get(offset as usize).is_some_and(|e| e.term == self.snapshot.term);
            at.checked_sub(first.index).is_some_and(|offset| !agrees(offset))
        });
        if superseded {
            self.entries.clear();
        }
        superseded
    }
}

/// What the caller has to do. Taking it from [`crate::Raft::ready`] accepts it at once; it has to be carried out, in order of
/// `number`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// 1, 2, 3 and so on.
    pub number: u64,
    /// To be written to the log when it is `Some`.
    pub hard_state: Option<HardState>,
    /// To be installed before `entries` are written and before anything further is applied: its bytes came with the message
    /// last stepped with this meta. The log before it is void: first the bytes become durable, then the log's record of it.
    pub snapshot: Option<SnapshotMeta>,
    /// To be written to the log. The first truncates whatever the log has at or after its index.
    pub entries: Vec<Entry>,
    /// To be sent at once.
    pub messages: Vec<Message>,
    /// To be sent once this Ready and all before it are durable. Empty when nothing is outstanding.
    pub messages_after_persist: Vec<Message>,
    /// Committed and durable here: to be applied in order. Every index exactly once, from [`Restored::applied`] on.
    pub committed: Vec<Entry>,
    /// Reads that may be served.
    pub read_states: Vec<ReadState>,
    /// Role, term and known leader, when one of them changed.
    pub lead_change: Option<(Role, Term, NodeId)>,
    /// This member, as leader, counted replicas and so committed.
    pub commit_advance: Option<CommitAdvance>,
    /// Whether this has to become durable, and [`crate::Raft::persisted`] to be told. False: nothing to write, or a hard state
    /// in which only `commit` changed and which may be written with whatever comes next.
    pub must_persist: bool,
}

/// A read asked for by [`crate::Raft::read_index`] on this member may be served once `index` is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// As given to [`crate::Raft::read_index`].
    pub context: u64,
    /// At least everything that was committed anywhere when the read was asked for.
    pub index: Index,
}

/// A leader of `term` found `index`, an entry of `entry_term`, on a majority and committed up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitAdvance {
    /// The leader's term.
    pub term: Term,
    /// The new commit index.
    pub index: Index,
    /// Term of the entry there.
    pub entry_term: Term,
}

/// What a member is in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A member as it is now; for views and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: NodeId,
    /// Its role.
    pub role: Role,
    /// The leader it knows, or [`NONE`].
    pub leader: NodeId,
    /// Last index known to be committed.
    pub commit: Index,
    /// As told by [`crate::Raft::applied`].
    pub applied: Index,
    /// First index still in the log; `last_index + 1` when it is empty.
    pub first_index: Index,
    /// Last index of the log.
    pub last_index: Index,
    /// Last index known to be durable here.
    pub durable_index: Index,
    /// The leader that this one hands over to, or [`NONE`].
    pub transferee: NodeId,
    /// The other voters, as a leader sees them; empty otherwise.
    pub peers: Vec<PeerStatus>,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The follower.
    pub id: NodeId,
    /// Its log is known to agree up to here, durably.
    pub match_index: Index,
    /// The next entry to send.
    pub next_index: Index,
    /// How it is being sent to.
    pub state: ReplicationState,
    /// Whether it was heard of since the last check of the quorum.
    pub active: bool,
}

/// How a leader sends to one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationState {
    /// Looks for the place where the logs agree, one question at a time.
    Probe,
    /// Streams entries.
    Replicate,
    /// Waits until the snapshot with this index has arrived.
    Snapshot(Index),
}

/// Why a proposal was refused. It certainly has no effect; try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// This leader is handing over.
    #[error("the leader is handing over to another member")]
    Transferring,
    /// Too much is waiting to be committed ([`Config::max_uncommitted_bytes`]).
    #[error("too much is waiting to be committed")]
    TooMuchUncommitted,
}

/// Why a read index was refused. Try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// Too many reads wait for confirmation.
    #[error("too many reads are waiting")]
    TooManyReads,
}
