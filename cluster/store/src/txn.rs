//! What a put, a delete, a transaction do to keys and leases: etcd's semantics, as functions over the state.
//!
//! A change either happens as a whole, in one revision, or is refused before anything of it is done. Within a
//! transaction each operation sees what those before it did; a read as of an explicit revision sees that one.
//!
//! **Invariant:** compares are judged on the state that the log's order gives, at the time the entry is applied
//! (`compares_see_the_state_at_their_place_in_the_log`).
//! **Invariant:** a refused transaction leaves no trace (`refused_transaction_leaves_no_trace`).

use crate::lease::{LeaseTable, check_grant};
use crate::mvcc::{Span, Tree, Writer};
use crate::types::*;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Checks what is wrong with a request whatever the state is, so that no member proposes it.
///
/// # Errors
/// [`RefusedKind::InvalidArgument`].
pub fn check(request: &Request) -> Result<(), RefusedKind> {
    match request {
        Request::Range(range) => check_range(range),
        Request::Put(put) => check_key(&put.key),
        Request::DeleteRange(delete) => check_key(&delete.key),
        Request::Txn(txn) => check_txn(txn),
        Request::LeaseGrant(grant) => check_grant(grant.ttl_s),
        Request::Compact(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::LeaseTimeToLive(_)
        | Request::Status(_) => Ok(()),
    }
}

/// Checks where a watch may begin.
///
/// # Errors
/// [`RefusedKind::InvalidArgument`].
pub fn check_watch(request: &WatchRequest) -> Result<(), RefusedKind> {
    check_key(&request.key)?;
    if request.start_revision < 0 {
        return Err(invalid("a start revision must not be negative"));
    }
    Ok(())
}

/// Sets a key.
pub(crate) fn put(tree: &mut Tree, leases: &mut LeaseTable, request: PutRequest) -> Result<PutResponse, RefusedKind> {
    check_key(&request.key)?;
    check_lease(leases, request.lease)?;
    let mut writer = tree.write();
    let mut response = put_one(&mut writer, leases, request);
    response.header.revision = writer.finish();
    Ok(response)
}

/// Removes keys.
pub(crate) fn delete_range(
    tree: &mut Tree,
    leases: &mut LeaseTable,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, RefusedKind> {
    check_key(&request.key)?;
    let mut writer = tree.write();
    let mut response = delete_some(&mut writer, leases, request);
    response.header.revision = writer.finish();
    Ok(response)
}

/// Removes the keys of a lease that is no more, in one revision if there are any; gives the latest revision.
pub(crate) fn delete_keys_of(tree: &mut Tree, lease: &crate::lease::Lease) -> i64 {
    let mut writer = tree.write();
    for key in &lease.keys {
        writer.delete(&Span::Key(key.clone()));
    }
    writer.finish()
}

/// Judges the compares and does one branch.
pub(crate) fn txn(tree: &mut Tree, leases: &mut LeaseTable, request: TxnRequest) -> Result<TxnResponse, RefusedKind> {
    check_txn(&request)?;
    let succeeded = request.compare.iter().all(|compare| holds(tree, compare));
    let branch = if succeeded { request.success } else { request.failure };
    for op in &branch {
        check_op_now(tree, leases, op)?;
    }
    // A read as of a revision must not see what this transaction does; a clone costs little, but only if there is one.
    let historical = |op: &RequestOp| matches!(op, RequestOp::Range(range) if range.revision > 0);
    let before = branch.iter().any(historical).then(|| tree.clone());
    let mut writer = tree.write();
    let mut responses = Vec::with_capacity(branch.len());
    for op in branch {
        responses.push(match op {
            RequestOp::Range(range) => {
                let seen = before.as_ref().filter(|_| range.revision > 0).unwrap_or(writer.tree());
                ResponseOp::Range(seen.range(&range)?)
            }
            RequestOp::Put(put) => ResponseOp::Put(put_one(&mut writer, leases, put)),
            RequestOp::DeleteRange(delete) => ResponseOp::DeleteRange(delete_some(&mut writer, leases, delete)),
        });
    }
    let header = Header { revision: writer.finish(), ..Header::default() };
    for response in &mut responses {
        match response {
            ResponseOp::Range(range) => range.header = header,
            ResponseOp::Put(put) => put.header = header,
            ResponseOp::DeleteRange(delete) => delete.header = header,
        }
    }
    Ok(TxnResponse { header, succeeded, responses })
}

fn put_one(writer: &mut Writer<'_>, leases: &mut LeaseTable, request: PutRequest) -> PutResponse {
    let before = writer.put(request.key.clone(), request.value, request.lease);
    leases.rebind(&request.key, before.as_ref().map_or(0, |before| before.lease), request.lease);
    PutResponse { header: Header::default(), prev_kv: before.filter(|_| request.prev_kv) }
}

fn delete_some(writer: &mut Writer<'_>, leases: &mut LeaseTable, request: DeleteRangeRequest) -> DeleteRangeResponse {
    let removed = writer.delete(&Span::new(request.key, request.range_end));
    for kv in &removed {
        leases.rebind(&kv.key, kv.lease, 0);
    }
    let deleted = removed.len() as i64;
    let prev_kvs = if request.prev_kv { removed } else { Vec::new() };
    DeleteRangeResponse { header: Header::default(), deleted, prev_kvs }
}

/// Whether a compare holds: for every key of its range, or, where there is none, for a key that does not exist.
fn holds(tree: &Tree, compare: &Compare) -> bool {
    let span = Span::new(compare.key.clone(), compare.range_end.clone());
    let mut some = false;
    for version in tree.latest(&span) {
        some = true;
        if !holds_for(&version.kv, compare) {
            return false;
        }
    }
    // Nothing tells a value that is missing from an empty one, so that no compare of a value holds.
    some || !matches!(compare.target, CompareTarget::Value(_)) && holds_for(&KeyValue::default(), compare)
}

fn holds_for(kv: &KeyValue, compare: &Compare) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(given) => kv.version.cmp(given),
        CompareTarget::CreateRevision(given) => kv.create_revision.cmp(given),
        CompareTarget::ModRevision(given) => kv.mod_revision.cmp(given),
        CompareTarget::Lease(given) => kv.lease.cmp(given),
        CompareTarget::Value(given) => kv.value.cmp(given),
    };
    match compare.result {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
    }
}

/// Checks what only the state can tell of an operation, before anything of its transaction is done.
fn check_op_now(tree: &Tree, leases: &LeaseTable, op: &RequestOp) -> Result<(), RefusedKind> {
    match op {
        RequestOp::Range(range) => tree.check_revision(range.revision),
        RequestOp::Put(put) => check_lease(leases, put.lease),
        RequestOp::DeleteRange(_) => Ok(()),
    }
}

fn check_lease(leases: &LeaseTable, lease: i64) -> Result<(), RefusedKind> {
    if lease == 0 || leases.get(lease).is_some() { Ok(()) } else { Err(RefusedKind::LeaseNotFound) }
}

fn check_txn(request: &TxnRequest) -> Result<(), RefusedKind> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    if longest > MAX_TXN_OPS {
        return Err(invalid("a transaction has more operations than a store takes"));
    }
    for compare in &request.compare {
        check_key(&compare.key)?;
    }
    check_branch(&request.success)?;
    check_branch(&request.failure)
}

/// A key that is put must not be put or removed by another operation: the order among them would decide in silence.
fn check_branch(ops: &[RequestOp]) -> Result<(), RefusedKind> {
    let mut removed = Vec::new();
    for op in ops {
        match op {
            RequestOp::Range(range) => check_range(range)?,
            RequestOp::Put(put) => check_key(&put.key)?,
            RequestOp::DeleteRange(delete) => {
                check_key(&delete.key)?;
                removed.push(Span::new(delete.key.clone(), delete.range_end.clone()));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for op in ops {
        let RequestOp::Put(put) = op else { continue };
        if !seen.insert(&put.key) || removed.iter().any(|span| span.contains(&put.key)) {
            return Err(invalid("a transaction changes a key twice"));
        }
    }
    Ok(())
}

fn check_range(request: &RangeRequest) -> Result<(), RefusedKind> {
    check_key(&request.key)?;
    if request.limit < 0 || request.revision < 0 {
        return Err(invalid("a limit or revision must not be negative"));
    }
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), RefusedKind> {
    if key.is_empty() { Err(invalid("a key must not be empty")) } else { Ok(()) }
}

fn invalid(why: &str) -> RefusedKind {
    RefusedKind::InvalidArgument(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use expect_test::{Expect, expect};

    fn check_lines(lines: &str, expected: Expect) {
        expected.assert_eq(&Script::new().run(lines));
    }

    #[test]
    fn revision_version_and_creation_follow_a_keys_lives() {
        check_lines(
            "put a=1
             put a=2 prev
             get a
             del a prev
             get a
             del a
             put a=3
             get a
             get a @2
             get a @4
             get a @9",
            expect![[r#"
                put a=1 -> @2
                put a=2 prev -> @3 was 1
                get a -> @3 count 1: a=2 (c2 m3 v2)
                del a prev -> @4 deleted 1 (a)
                get a -> @4 count 0: 
                del a -> @4 deleted 0
                put a=3 -> @5
                get a -> @5 count 1: a=3 (c5 m5 v1)
                get a @2 -> @5 count 1: a=1 (c2 m2 v1)
                get a @4 -> @5 count 0: 
                get a @9 -> the revision is in the future
            "#]],
        );
    }

    #[test]
    fn ranges_end_before_their_end() {
        check_lines(
            "if then put a=1; put b=2; put c=3; put d=4
             get b..d
             get b..
             get d..b
             get a.. limit 2
             get a.. keys limit 1
             get a.. count
             del b..d prev
             get a..",
            expect![[r#"
                if then put a=1; put b=2; put c=3; put d=4 -> @2 then [@2; @2; @2; @2]
                get b..d -> @2 count 2: b=2 (c2 m2 v1), c=3 (c2 m2 v1)
                get b.. -> @2 count 3: b=2 (c2 m2 v1), c=3 (c2 m2 v1), d=4 (c2 m2 v1)
                get d..b -> @2 count 0: 
                get a.. limit 2 -> @2 count 4: a=1 (c2 m2 v1), b=2 (c2 m2 v1) more
                get a.. keys limit 1 -> @2 count 4: a= (c2 m2 v1) more
                get a.. count -> @2 count 4: 
                del b..d prev -> @3 deleted 2 (b c)
                get a.. -> @3 count 2: a=1 (c2 m2 v1), d=4 (c2 m2 v1)
            "#]],
        );
    }

    #[test]
    fn operations_see_what_those_before_them_did() {
        check_lines(
            "put a=1
             if then get a; put a=2 prev; get a; get a @2; del b..; del c; get a..
             if then get a; del x
             if then del a; del a..; get a",
            expect![[r#"
                put a=1 -> @2
                if then get a; put a=2 prev; get a; get a @2; del b..; del c; get a.. -> @3 then [@3 count 1: a=1 (c2 m2 v1); @3 was 1; @3 count 1: a=2 (c2 m3 v2); @3 count 1: a=1 (c2 m2 v1); @3 deleted 0; @3 deleted 0; @3 count 1: a=2 (c2 m3 v2)]
                if then get a; del x -> @3 then [@3 count 1: a=2 (c2 m3 v2); @3 deleted 0]
                if then del a; del a..; get a -> @4 then [@4 deleted 1; @4 deleted 0; @4 count 0: ]
            "#]],
        );
    }

    #[test]
    fn compares_see_the_state_at_their_place_in_the_log() {
        check_lines(
            "if mod(a)=0 then put a=1 else get a
             if mod(a)=0 then put a=2 else get a
             if mod(a)=2, value(a)=1, version(a)<2, create(a)>1, lease(a)=0 then put a=3
             if mod(a)!=3 then put a=4 else del a
             if version(a)=0, create(a)=0, lease(a)=0 then put b=1
             if value(a)= then put b=2
             if value(a)!=x then put b=2
             put c=1
             if mod(b..d)>4 then put all=yes
             if mod(b..d)>5 then put all=no
             if mod(x..z)=0 then put none=0",
            expect![[r#"
                if mod(a)=0 then put a=1 else get a -> @2 then [@2]
                if mod(a)=0 then put a=2 else get a -> @2 else [@2 count 1: a=1 (c2 m2 v1)]
                if mod(a)=2, value(a)=1, version(a)<2, create(a)>1, lease(a)=0 then put a=3 -> @3 then [@3]
                if mod(a)!=3 then put a=4 else del a -> @4 else [@4 deleted 1]
                if version(a)=0, create(a)=0, lease(a)=0 then put b=1 -> @5 then [@5]
                if value(a)= then put b=2 -> @5 else []
                if value(a)!=x then put b=2 -> @5 else []
                put c=1 -> @6
                if mod(b..d)>4 then put all=yes -> @7 then [@7]
                if mod(b..d)>5 then put all=no -> @7 else []
                if mod(x..z)=0 then put none=0 -> @8 then [@8]
            "#]],
        );
    }

    #[test]
    fn a_key_is_changed_once_or_the_transaction_is_refused() {
        check_lines(
            "if then put a=1; put a=2
             if then put b=1; del a..c
             if then del a; put a=1
             if then put b=1 else put a=1; put a=2
             if then put b=1; del a..b; del a..b
             put =1",
            expect![[r#"
                if then put a=1; put a=2 -> invalid argument: a transaction changes a key twice
                if then put b=1; del a..c -> invalid argument: a transaction changes a key twice
                if then del a; put a=1 -> invalid argument: a transaction changes a key twice
                if then put b=1 else put a=1; put a=2 -> invalid argument: a transaction changes a key twice
                if then put b=1; del a..b; del a..b -> @2 then [@2; @2 deleted 0; @2 deleted 0]
                put =1 -> invalid argument: a key must not be empty
            "#]],
        );
    }

    #[test]
    fn refused_transaction_leaves_no_trace() {
        let mut script = Script::new();
        script.run("grant 7 10\nput a=1 lease 7\nput a=2 lease 7\nput a=3 lease 7\ncompact 3");
        let before = script.state.encode();
        for line in [
            "if then put b=1; put c=1 lease 8",
            "if then del a; get a @2",
            "if then put b=1; get a @5",
            "put b=1 lease 8",
            "compact 3",
            "compact 5",
            "grant 7 10",
            "grant 8 0",
            "revoke 8",
        ] {
            script.line(line);
            // The index of the last entry is all that may differ; it follows the version, a length and a tag.
            let after = script.state.encode();
            assert_eq!(after.len(), before.len(), "{line}");
            assert_eq!(&after[8..], &before[8..], "{line}");
        }
        assert_eq!(script.line("if then put b=1; get a @3"), "@5 then [@5; @5 count 1: a=2 (c2 m3 v2 l7)]");
    }

    #[test]
    fn leases_hold_the_keys_that_were_last_bound_to_them() {
        check_lines(
            "put a=1 lease 7
             grant 7 1
             grant 8 100
             put a=1 lease 7
             put b=1 lease 7
             put c=1 lease 7
             put a=2 lease 8
             put b=2
             del c
             put c=3
             revoke 7
             get a..
             revoke 8
             get a..
             revoke 8",
            expect![[r#"
                put a=1 lease 7 -> no such lease
                grant 7 1 -> @1 lease 7 for 2 s
                grant 8 100 -> @1 lease 8 for 100 s
                put a=1 lease 7 -> @2
                put b=1 lease 7 -> @3
                put c=1 lease 7 -> @4
                put a=2 lease 8 -> @5
                put b=2 -> @6
                del c -> @7 deleted 1
                put c=3 -> @8
                revoke 7 -> @8 LeaseRevoke
                get a.. -> @8 count 3: a=2 (c2 m5 v2 l8), b=2 (c3 m6 v2), c=3 (c8 m8 v1)
                revoke 8 -> @9 LeaseRevoke
                get a.. -> @9 count 2: b=2 (c3 m6 v2), c=3 (c8 m8 v1)
                revoke 8 -> no such lease
            "#]],
        );
    }

    #[test]
    fn too_many_operations_are_refused() {
        let many = vec![RequestOp::Range(RangeRequest { key: "a".into(), ..RangeRequest::default() }); MAX_TXN_OPS + 1];
        let request = TxnRequest { success: many[1..].to_vec(), ..TxnRequest::default() };
        assert_eq!(check(&Request::Txn(request)), Ok(()));
        let request = TxnRequest { failure: many, ..TxnRequest::default() };
        assert!(matches!(check(&Request::Txn(request)), Err(RefusedKind::InvalidArgument(_))));
    }
}
