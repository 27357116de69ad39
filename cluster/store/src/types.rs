//! What clients ask of the store and what they are told: etcd v3's KV, Watch and Lease API as plain data.
//!
//! Revisions begin at 1 (an empty store) and rise by one with each transaction that changes something. Key ranges are
//! `[key, range_end)`: an empty `range_end` means `key` alone, the single byte 0 means every key from `key` on.
//!
//! Not carried over from etcd: nested transactions, sort orders other than by key, `ignore_value`, `ignore_lease`, and
//! filters by revision.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Operations in one branch of a transaction, and compares before it: etcd's default `--max-txn-ops`.
pub const MAX_TXN_OPS: usize = 128;
/// Bytes of one encoded request: etcd's default `--max-request-bytes`. A Kubernetes object may have 1 MiB.
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;
/// Longest lease in seconds, as in etcd: its double in nanoseconds still fits 64 bits.
pub const MAX_LEASE_TTL_S: i64 = 4_500_000_000;
/// Shortest lease in seconds; shorter ones are raised to it. One and a half of the shortest election timeout, rounded
/// up, as in etcd: a lease must be able to outlive a change of leaders.
pub const MIN_LEASE_TTL_S: i64 = 2;

/// Who answered, and as of when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The member that answered: its Raft id, from 1.
    pub member: u64,
    /// The store's revision when the request was served; for a write that changed something, its own.
    pub revision: i64,
    /// The answering member's Raft term.
    pub term: u64,
}

/// A key's state at some revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value. Empty in the event of a delete and under `keys_only`.
    pub value: Bytes,
    /// Revision of its creation; a delete ends a life, and the next put begins another.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Puts since its creation, that one included.
    pub version: i64,
    /// The lease that it is bound to; 0 for none.
    pub lease: i64,
}

/// Reads keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    /// First key. Never empty.
    pub key: Bytes,
    /// First key no more in the range; see the module.
    pub range_end: Bytes,
    /// At most so many keys; 0 for no limit.
    pub limit: i64,
    /// As of this revision; 0 for the latest.
    pub revision: i64,
    /// Answer from the asked member's own state, which may lag, instead of linearizably.
    pub serializable: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Answer only with the count.
    pub count_only: bool,
}

/// The keys read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResponse {
    /// Who answered.
    pub header: Header,
    /// In order of keys.
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` kept some back.
    pub more: bool,
    /// Keys in the range, those kept back by `limit` included.
    pub count: i64,
}

/// Sets a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutRequest {
    /// Never empty.
    pub key: Bytes,
    /// To what.
    pub value: Bytes,
    /// Bind the key to this lease, which must exist, and to no other; 0 unbinds it.
    pub lease: i64,
    /// Answer with the state before.
    pub prev_kv: bool,
}

/// A key was set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutResponse {
    /// Who answered; its revision is that of the change.
    pub header: Header,
    /// The state before, if it was asked for and existed.
    pub prev_kv: Option<KeyValue>,
}

/// Removes keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRangeRequest {
    /// First key. Never empty.
    pub key: Bytes,
    /// First key no more in the range; see the module.
    pub range_end: Bytes,
    /// Answer with what was removed.
    pub prev_kv: bool,
}

/// Keys were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRangeResponse {
    /// Who answered. Removing nothing leaves the revision as it is.
    pub header: Header,
    /// How many.
    pub deleted: i64,
    /// What they were, if it was asked for, in order of keys.
    pub prev_kvs: Vec<KeyValue>,
}

/// A condition of a transaction, on a key or on every key of a range. Where there is no key, numbers are compared as 0,
/// and a compare of the value fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// First key. Never empty.
    pub key: Bytes,
    /// First key no more in the range; see the module.
    pub range_end: Bytes,
    /// What is compared, with what.
    pub target: CompareTarget,
    /// How the stored one must relate to the given one.
    pub result: CompareResult,
}

/// What is compared, and the given side of the comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// Puts since the creation.
    Version(i64),
    /// Revision of the creation.
    CreateRevision(i64),
    /// Revision of the last change.
    ModRevision(i64),
    /// The lease.
    Lease(i64),
    /// The value, byte by byte.
    Value(Bytes),
}

/// `stored <this> given`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareResult {
    /// They are equal.
    Equal,
    /// They differ.
    NotEqual,
    /// The stored one is greater.
    Greater,
    /// The stored one is less.
    Less,
}

/// If all compares hold `success`, else `failure`: all of it at once, in one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnRequest {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// Then.
    pub success: Vec<RequestOp>,
    /// Else.
    pub failure: Vec<RequestOp>,
}

/// An operation within a transaction. It sees what those before it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestOp {
    /// Reads.
    Range(RangeRequest),
    /// Sets. A key that is put is neither put nor removed by another operation of the same branch.
    Put(PutRequest),
    /// Removes.
    DeleteRange(DeleteRangeRequest),
}

/// A transaction's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnResponse {
    /// Who answered.
    pub header: Header,
    /// Whether all compares held.
    pub succeeded: bool,
    /// One per operation of the branch taken, each with the transaction's own header.
    pub responses: Vec<ResponseOp>,
}

/// An operation's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResponseOp {
    /// To a read.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    DeleteRange(DeleteRangeResponse),
}

/// Forgets what was overwritten before a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactRequest {
    /// The first revision that remains readable; above the last compacted one, at most the current one.
    pub revision: i64,
}

/// History was compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactResponse {
    /// Who answered. Compaction leaves the revision as it is.
    pub header: Header,
}

/// Grants a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrantRequest {
    /// Its id; 0 lets the member choose one.
    pub id: i64,
    /// Time to live in seconds, raised to [`MIN_LEASE_TTL_S`].
    pub ttl_s: i64,
}

/// A lease was granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrantResponse {
    /// Who answered. A grant leaves the revision as it is.
    pub header: Header,
    /// Its id.
    pub id: i64,
    /// Time to live in force, in seconds.
    pub ttl_s: i64,
}

/// Ends a lease and removes every key bound to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRevokeRequest {
    /// Which.
    pub id: i64,
}

/// A lease was ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRevokeResponse {
    /// Who answered. The revision rose by one if a key was bound to it.
    pub header: Header,
}

/// Starts a lease's time to live afresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseKeepAliveRequest {
    /// Which.
    pub id: i64,
}

/// A lease was kept alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseKeepAliveResponse {
    /// Who answered.
    pub header: Header,
    /// Which.
    pub id: i64,
    /// It lives at least so many seconds from when it was asked for.
    pub ttl_s: i64,
}

/// Asks how long a lease still lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTimeToLiveRequest {
    /// Which.
    pub id: i64,
    /// Answer with its keys too.
    pub keys: bool,
}

/// How long a lease still lives. (Where etcd answers with −1 for a lease that does not exist, this store refuses with
/// [`RefusedKind::LeaseNotFound`].)
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTimeToLiveResponse {
    /// Who answered.
    pub header: Header,
    /// Which.
    pub id: i64,
    /// Seconds left, rounded down.
    pub ttl_s: i64,
    /// Seconds that a keep-alive gives.
    pub granted_ttl_s: i64,
    /// The keys bound to it, in order, if asked for.
    pub keys: Vec<Bytes>,
}

/// Asks a member how it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRequest {}

/// How a member is, as it knows itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusResponse {
    /// Who answered.
    pub header: Header,
    /// The leader that it follows, itself perhaps; 0 for none.
    pub leader: u64,
    /// Last Raft index applied.
    pub applied: u64,
    /// First revision that is readable.
    pub compacted_revision: i64,
    /// Bytes of keys and values held, history included.
    pub bytes: u64,
}

/// Opens a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    /// First key. Never empty.
    pub key: Bytes,
    /// First key no more in the range; see the module.
    pub range_end: Bytes,
    /// First revision to be sent; 0 for what comes after the asked member's current one.
    pub start_revision: i64,
    /// Send bookmarks when there is nothing else to send.
    pub progress_notify: bool,
    /// Send each key's state before, where it is not compacted.
    pub prev_kv: bool,
}

/// What a watch is sent. Events come in order of revision, each once, all events of one revision in one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchResponse {
    /// Changes.
    Events {
        /// Who sent it.
        header: Header,
        /// Every change in the watch up to this revision has been sent with this message or before it.
        revision: i64,
        /// In order of revision, and within one as the transaction made them. Never empty.
        events: Vec<Event>,
    },
    /// A bookmark.
    Progress {
        /// Every change in the watch up to this revision has been sent.
        revision: i64,
    },
    /// The watch is over, and nothing follows.
    Canceled {
        /// If history that the watch had still to be sent is compacted: the first revision that is left. Otherwise 0.
        compact_revision: i64,
        /// Why, for people.
        reason: String,
    },
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It was set.
    Put,
    /// It was removed.
    Delete,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The state after; of a delete only `key` and `mod_revision`.
    pub kv: KeyValue,
    /// The state before, if the watch asked for it, it existed, and it is not compacted.
    pub prev_kv: Option<KeyValue>,
}

/// Any request with one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is named and documented as its request")]
pub enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseKeepAlive(LeaseKeepAliveRequest),
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    Status(StatusRequest),
}

/// Any answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is named and documented as its response")]
pub enum Response {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    LeaseKeepAlive(LeaseKeepAliveResponse),
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    Status(StatusResponse),
}

impl Response {
    /// Names the answering member and its term; the revision stays as the state machine set it.
    pub fn stamp(&mut self, member: u64, term: u64) {
        let stamp = |header: &mut Header| {
            header.member = member;
            header.term = term;
        };
        match self {
            Response::Range(r) => stamp(&mut r.header),
            Response::Put(r) => stamp(&mut r.header),
            Response::DeleteRange(r) => stamp(&mut r.header),
            Response::Txn(r) => {
                stamp(&mut r.header);
                for op in &mut r.responses {
                    match op {
                        ResponseOp::Range(r) => stamp(&mut r.header),
                        ResponseOp::Put(r) => stamp(&mut r.header),
                        ResponseOp::DeleteRange(r) => stamp(&mut r.header),
                    }
                }
            }
            Response::Compact(r) => stamp(&mut r.header),
            Response::LeaseGrant(r) => stamp(&mut r.header),
            Response::LeaseRevoke(r) => stamp(&mut r.header),
            Response::LeaseKeepAlive(r) => stamp(&mut r.header),
            Response::LeaseTimeToLive(r) => stamp(&mut r.header),
            Response::Status(r) => stamp(&mut r.header),
        }
    }
}

/// Why a request was refused. A refused request has certainly no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RefusedKind {
    /// The revision is compacted; the one given is the first that is left. Start over from the latest state.
    #[error("the revision is compacted; the first that is left is {0}")]
    Compacted(i64),
    /// The store has not come to this revision. Who read it from another member may wait.
    #[error("the revision is in the future")]
    FutureRevision,
    /// No such lease: it never was, expired, or was revoked.
    #[error("no such lease")]
    LeaseNotFound,
    /// There is a lease of this id.
    #[error("the lease exists")]
    LeaseExists,
    /// The request is wrong in itself, and will be at any other time.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// The quota or the disk is used up; reads, deletes and compaction still work.
    #[error("the store is out of space")]
    NoSpace,
}

/// Why a request has no answer, by what is known of its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ClientError {
    /// Refused: certainly without effect. Asking again the same way is in vain.
    #[error("refused: {0}")]
    Refused(RefusedKind),
    /// Nobody could take it: certainly without effect. Asking again may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// No answer came: it may have happened, may yet happen, or never. Read before asking again.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

impl From<RefusedKind> for ClientError {
    fn from(kind: RefusedKind) -> Self {
        ClientError::Refused(kind)
    }
}
