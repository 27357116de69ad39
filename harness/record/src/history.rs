//! What clients asked, what watchers were sent, and what the harness saw of the members.

use faults::Ns;
use serde::{Deserialize, Serialize};

/// One request of a client and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Unique in the trial, in order of invocation.
    pub id: u64,
    /// Which client; a client has at most one operation under way.
    pub client: u32,
    /// When the client asked.
    pub invoked_ns: Ns,
    /// When it had its answer, or gave up.
    pub completed_ns: Ns,
    /// What it asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Read `range` as of `revision`; 0 is the latest, linearizably.
    Read {
        /// Which keys.
        range: KeyRange,
        /// As of when; 0 for now.
        revision: i64,
    },
    /// A transaction. A put or delete alone is one without compares.
    Txn {
        /// All of them must hold for `success` to run.
        compares: Vec<Compare>,
        /// Then.
        success: Vec<Change>,
        /// Else.
        failure: Vec<Change>,
    },
    /// Grant a lease of this time to live.
    LeaseGrant {
        /// Chosen by the client.
        lease: i64,
        /// Seconds.
        ttl_s: i64,
    },
    /// Keep a lease alive.
    LeaseKeepAlive {
        /// Which.
        lease: i64,
    },
    /// End a lease, and with it every key bound to it.
    LeaseRevoke {
        /// Which.
        lease: i64,
    },
    /// Forget revisions before this one.
    Compact {
        /// The first that remains readable.
        revision: i64,
    },
}

/// A key alone, or all keys from `from` up to but without `until`, in order of bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key.
    pub from: String,
    /// First key no more in the range; `None` for `from` alone.
    pub until: Option<String>,
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<String>) -> Self {
        Self { from: key.into(), until: None }
    }
    /// Whether `key` is in it.
    pub fn contains(&self, key: &str) -> bool {
        match &self.until {
            None => key == self.from,
            Some(until) => self.from.as_str() <= key && key < until.as_str(),
        }
    }
}

/// A condition of a transaction on one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// Of this key.
    pub key: String,
    /// What must be equal.
    pub expect: Expect,
}

/// What a compare expects to be equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expect {
    /// The revision of its last change; 0 if it does not exist. What a resourceVersion precondition becomes.
    ModRevision(i64),
    /// The revision of its creation; 0 if it does not exist.
    CreateRevision(i64),
    /// Its value.
    Value(String),
}

/// What a transaction does to one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Set it. Each value is written at most once in a trial, so that a value names its write.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: String,
        /// Bound to this lease; 0 for none.
        lease: i64,
    },
    /// Remove it.
    Delete {
        /// Which.
        key: String,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Answered.
    Ok {
        /// The store's revision that the answer speaks of; for a write, its own.
        revision: i64,
        /// The member that answered, counted from 0.
        member: u32,
        /// The rest of it.
        reply: Reply,
    },
    /// Refused, and certainly without effect.
    Refused {
        /// Why.
        why: Refusal,
    },
    /// No answer: it may have happened, may yet happen, or never.
    Unknown {
        /// What the client saw.
        why: String,
    },
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Refusal {
    /// The revision asked for is compacted; this one is the first that is left.
    Compacted(i64),
    /// No such lease.
    LeaseNotFound,
    /// The lease exists.
    LeaseExists,
    /// The revision asked for is in the future.
    FutureRevision,
    /// Nobody could take it: no leader, no space, no connection.
    Unavailable(String),
}

/// What an answer says beside the revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To a read: what is there, in order of keys.
    Read(Vec<KeyValue>),
    /// To a transaction: whether `success` ran.
    Txn {
        /// Whether all compares held.
        succeeded: bool,
    },
    /// To a grant or keep-alive: the time to live in force, in seconds.
    Lease {
        /// Seconds.
        ttl_s: i64,
    },
    /// Done.
    Done,
}

/// A key's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: crate::Value,
    /// Revision of its creation.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Changes since its creation, that one included.
    pub version: i64,
    /// The lease that it is bound to, or 0.
    pub lease: i64,
}

/// One watch of a client from its start to its end. A watch that a client resumes is several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Which client; the watches of one client, in order, resume each other.
    pub client: u32,
    /// Over which keys.
    pub range: KeyRange,
    /// The first revision asked for.
    pub start_revision: i64,
    /// When it was asked for.
    pub opened_ns: Ns,
    /// What came, in order.
    pub messages: Vec<WatchMessage>,
    /// How and when it ended.
    pub end: WatchEnd,
    /// When.
    pub ended_ns: Ns,
}

/// What a watch was sent at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchMessage {
    /// When it arrived.
    pub at_ns: Ns,
    /// Every change up to this revision has been sent, with this message or before it.
    pub revision: i64,
    /// In order of revision, then of key within a revision as committed; empty in a bookmark.
    pub events: Vec<WatchEvent>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WatchEvent {
    /// A key was set.
    Put(KeyValue),
    /// A key was removed at this revision.
    Delete {
        /// Which.
        key: String,
        /// When.
        mod_revision: i64,
    },
}

/// How a watch ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WatchEnd {
    /// The client stopped, or the trial was over.
    Closed,
    /// The connection broke or fell silent.
    Broken,
    /// Its next revision is compacted; this one is the first that is left.
    Compacted(i64),
}

/// Something the harness saw of a member, not through its clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// The first member to be seen with this revision applied, and what the revision changed.
    Applied {
        /// When it was seen; it happened at most [`SAMPLE_NS`] before.
        at_ns: Ns,
        /// Where.
        member: u32,
        /// Which revision.
        revision: i64,
        /// What it changed: as committed.
        events: Vec<WatchEvent>,
    },
    /// A member's state at a revision.
    State {
        /// When.
        at_ns: Ns,
        /// Whose.
        member: u32,
        /// At which revision.
        revision: i64,
        /// Raft index applied.
        applied: u64,
        /// Hash of all live keys and leases.
        hash: u64,
    },
    /// A lease came to be, as first seen applied.
    LeaseGranted {
        /// When.
        at_ns: Ns,
        /// Where it was first seen.
        member: u32,
        /// Which.
        lease: i64,
        /// Seconds.
        ttl_s: i64,
    },
    /// A lease is gone, as first seen applied.
    LeaseGone {
        /// When.
        at_ns: Ns,
        /// Where it was first seen.
        member: u32,
        /// Which.
        lease: i64,
    },
    /// A member began to believe that it leads; exact in time.
    Leads {
        /// When.
        at_ns: Ns,
        /// Who.
        member: u32,
        /// In which term.
        term: u64,
    },
    /// A member ceased to believe so, or died believing it; exact in time.
    StepsDown {
        /// When.
        at_ns: Ns,
        /// Who.
        member: u32,
        /// From which term.
        term: u64,
    },
    /// A leader counted replicas and so committed; exact in time.
    Commits {
        /// When.
        at_ns: Ns,
        /// Who.
        member: u32,
        /// As leader of this term.
        term: u64,
        /// Up to this Raft index.
        index: u64,
        /// Term of the entry there.
        entry_term: u64,
    },
    /// A member's process started, restarted, or ended.
    Process {
        /// When.
        at_ns: Ns,
        /// Whose.
        member: u32,
        /// Whether it runs from now on.
        up: bool,
    },
}

impl Observation {
    /// When it was seen, or happened.
    pub fn at_ns(&self) -> Ns {
        match self {
            Observation::Applied { at_ns, .. }
            | Observation::State { at_ns, .. }
            | Observation::LeaseGranted { at_ns, .. }
            | Observation::LeaseGone { at_ns, .. }
            | Observation::Leads { at_ns, .. }
            | Observation::StepsDown { at_ns, .. }
            | Observation::Commits { at_ns, .. }
            | Observation::Process { at_ns, .. } => *at_ns,
        }
    }
}

/// How often the harness looks at each member.
pub const SAMPLE_NS: Ns = 100_000_000;
