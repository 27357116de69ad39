//! Which way a client's request goes through a member, decided before it has any effect.

use crate::types::{ClientError, RangeRequest, RefusedKind, Request, RequestOp, TxnRequest};
use raft::{NONE, NodeId};

/// A way through the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Answered from this member's own state, as it is.
    Local,
    /// Answered from this member's own state once a round has confirmed how far that must be.
    Read,
    /// Through the log.
    Propose,
    /// Answered by this member because it leads and so keeps the leases' time.
    Lessor,
    /// Forwarded to the leader, which keeps the leases' time.
    AskLeader(NodeId),
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// This member.
    pub id: NodeId,
    /// The leader that it knows, or [`NONE`].
    pub leader: NodeId,
    /// Its quota or its disk is used up.
    pub out_of_space: bool,
    /// It is shutting down.
    pub closing: bool,
    /// There is room for another proposal.
    pub proposals_have_room: bool,
    /// There is room for another read.
    pub reads_have_room: bool,
}

/// Decides.
///
/// # Errors
/// What the client is told; the request certainly has no effect.
pub fn route(request: &Request, standing: Standing) -> Result<Route, ClientError> {
    let way = way_of(request);
    if way == Way::Local {
        return Ok(Route::Local);
    }
    if standing.closing {
        return Err(unavailable("this member is shutting down"));
    }
    if standing.leader == NONE {
        return Err(unavailable("no leader is known"));
    }
    match way {
        Way::Local => Ok(Route::Local),
        Way::Read if !standing.reads_have_room => Err(unavailable("too many reads are under way")),
        Way::Read => Ok(Route::Read),
        Way::Write { grows } if grows && standing.out_of_space => Err(RefusedKind::NoSpace.into()),
        Way::Write { .. } if !standing.proposals_have_room => Err(unavailable("too many writes are under way")),
        Way::Write { .. } => Ok(Route::Propose),
        Way::Lessor if !standing.reads_have_room => Err(unavailable("too many requests are under way")),
        Way::Lessor if standing.leader == standing.id => Ok(Route::Lessor),
        Way::Lessor => Ok(Route::AskLeader(standing.leader)),
    }
}

/// What a request needs, whoever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Local,
    Read,
    Write {
        /// Whether it may need space; what only frees space always passes.
        grows: bool,
    },
    Lessor,
}

fn way_of(request: &Request) -> Way {
    match request {
        Request::Range(range) => way_of_range(range),
        Request::Txn(txn) => way_of_txn(txn),
        Request::Put(_) | Request::LeaseGrant(_) => Way::Write { grows: true },
        Request::DeleteRange(_) | Request::Compact(_) | Request::LeaseRevoke(_) => Way::Write { grows: false },
        Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_) => Way::Lessor,
        Request::Status(_) => Way::Local,
    }
}

fn way_of_range(range: &RangeRequest) -> Way {
    if range.serializable { Way::Local } else { Way::Read }
}

/// A transaction that can change nothing is a read, and goes the way of reads.
fn way_of_txn(txn: &TxnRequest) -> Way {
    let ops = || txn.success.iter().chain(&txn.failure);
    if ops().any(|op| matches!(op, RequestOp::Put(_))) {
        Way::Write { grows: true }
    } else if ops().any(|op| matches!(op, RequestOp::DeleteRange(_))) {
        Way::Write { grows: false }
    } else {
        Way::Read
    }
}

/// Certainly without effect, and perhaps better luck elsewhere or later.
pub fn unavailable(why: &str) -> ClientError {
    ClientError::Unavailable(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{
        CompactRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, StatusRequest,
    };
    use expect_test::{Expect, expect};

    /// What becomes of one request of each kind. `standing` is a word per thing that is wrong.
    fn check(standing: &str, expected: Expect) {
        let has = |word: &str| standing.split(' ').any(|w| w == word);
        let standing = Standing {
            id: 1,
            leader: if has("leaderless") { NONE } else { 1 + u64::from(has("follower")) },
            out_of_space: has("full"),
            closing: has("closing"),
            proposals_have_room: !has("writes"),
            reads_have_room: !has("reads"),
        };
        let txn = |ops: &[RequestOp]| Request::Txn(TxnRequest { success: ops.to_vec(), ..TxnRequest::default() });
        let (put, delete) =
            (RequestOp::Put(PutRequest::default()), RequestOp::DeleteRange(DeleteRangeRequest::default()));
        let requests = [
            ("status", Request::Status(StatusRequest {})),
            ("local range", Request::Range(RangeRequest { serializable: true, ..RangeRequest::default() })),
            ("range", Request::Range(RangeRequest::default())),
            ("reading txn", txn(&[RequestOp::Range(RangeRequest::default())])),
            ("put", Request::Put(PutRequest::default())),
            ("putting txn", txn(&[delete.clone(), put])),
            ("grant", Request::LeaseGrant(LeaseGrantRequest::default())),
            ("deleting txn", txn(&[delete])),
            ("compact", Request::Compact(CompactRequest::default())),
            ("keep-alive", Request::LeaseKeepAlive(LeaseKeepAliveRequest::default())),
        ];
        let lines = requests.map(|(name, request)| match route(&request, standing) {
            Ok(route) => format!("{name}: {route:?}\n"),
            Err(error) => format!("{name}: {error}\n"),
        });
        expected.assert_eq(&lines.concat());
    }

    #[test]
    fn each_request_goes_its_way() {
        check(
            "",
            expect![[r#"
            status: Local
            local range: Local
            range: Read
            reading txn: Read
            put: Propose
            putting txn: Propose
            grant: Propose
            deleting txn: Propose
            compact: Propose
            keep-alive: Lessor
        "#]],
        );
        check(
            "follower full",
            expect![[r#"
            status: Local
            local range: Local
            range: Read
            reading txn: Read
            put: refused: the store is out of space
            putting txn: refused: the store is out of space
            grant: refused: the store is out of space
            deleting txn: Propose
            compact: Propose
            keep-alive: AskLeader(2)
        "#]],
        );
        check(
            "follower writes",
            expect![[r#"
            status: Local
            local range: Local
            range: Read
            reading txn: Read
            put: unavailable: too many writes are under way
            putting txn: unavailable: too many writes are under way
            grant: unavailable: too many writes are under way
            deleting txn: unavailable: too many writes are under way
            compact: unavailable: too many writes are under way
            keep-alive: AskLeader(2)
        "#]],
        );
        check(
            "reads",
            expect![[r#"
            status: Local
            local range: Local
            range: unavailable: too many reads are under way
            reading txn: unavailable: too many reads are under way
            put: Propose
            putting txn: Propose
            grant: Propose
            deleting txn: Propose
            compact: Propose
            keep-alive: unavailable: too many requests are under way
        "#]],
        );
    }

    #[test]
    fn without_a_leader_only_local_reads_are_answered() {
        check(
            "leaderless",
            expect![[r#"
            status: Local
            local range: Local
            range: unavailable: no leader is known
            reading txn: unavailable: no leader is known
            put: unavailable: no leader is known
            putting txn: unavailable: no leader is known
            grant: unavailable: no leader is known
            deleting txn: unavailable: no leader is known
            compact: unavailable: no leader is known
            keep-alive: unavailable: no leader is known
        "#]],
        );
        check(
            "closing",
            expect![[r#"
            status: Local
            local range: Local
            range: unavailable: this member is shutting down
            reading txn: unavailable: this member is shutting down
            put: unavailable: this member is shutting down
            putting txn: unavailable: this member is shutting down
            grant: unavailable: this member is shutting down
            deleting txn: unavailable: this member is shutting down
            compact: unavailable: this member is shutting down
            keep-alive: unavailable: this member is shutting down
        "#]],
        );
    }
}
