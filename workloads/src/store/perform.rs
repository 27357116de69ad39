//! From the record's plain requests to the product's client and back.

use bytes::Bytes;
use record::{Change, Compare, Expect, KeyRange, KeyValue, Outcome, Refusal, Reply, Request, WatchEvent};
use store::client::Client;
use store::types;

/// Asks `request` and waits for what comes of it, at most as long as the client waits.
pub async fn perform(client: &Client, request: &Request) -> Outcome {
    match ask(client, request).await {
        Ok((header, reply)) => Outcome::Ok { revision: header.revision, member: member_number(header.member), reply },
        Err(types::ClientError::Refused(kind)) => Outcome::Refused { why: refusal(kind) },
        Err(types::ClientError::Unavailable(why)) => Outcome::Refused { why: Refusal::Unavailable(why) },
        Err(types::ClientError::Unknown(why)) => Outcome::Unknown { why },
    }
}

type Answer = Result<(types::Header, Reply), types::ClientError>;

async fn ask(client: &Client, request: &Request) -> Answer {
    match request {
        Request::Read { range, revision } => read(client, range, *revision).await,
        Request::Txn { compares, success, failure } => match (compares.as_slice(), success.as_slice()) {
            ([], [change]) => single(client, change).await,
            _ => transaction(client, compares, success, failure).await,
        },
        Request::LeaseGrant { lease, ttl_s } => {
            let answer = client.lease_grant(types::LeaseGrantRequest { id: *lease, ttl_s: *ttl_s }).await?;
            Ok((answer.header, Reply::Lease { ttl_s: answer.ttl_s }))
        }
        Request::LeaseKeepAlive { lease } => {
            let answer = client.lease_keep_alive(types::LeaseKeepAliveRequest { id: *lease }).await?;
            Ok((answer.header, Reply::Lease { ttl_s: answer.ttl_s }))
        }
        Request::LeaseRevoke { lease } => {
            let answer = client.lease_revoke(types::LeaseRevokeRequest { id: *lease }).await?;
            Ok((answer.header, Reply::Done))
        }
        Request::Compact { revision } => {
            let answer = client.compact(types::CompactRequest { revision: *revision }).await?;
            Ok((answer.header, Reply::Done))
        }
    }
}

async fn read(client: &Client, range: &KeyRange, revision: i64) -> Answer {
    let (key, range_end) = bounds(range);
    let request = types::RangeRequest { key, range_end, revision, ..types::RangeRequest::default() };
    let answer = client.range(request).await?;
    let found = answer.kvs.iter().map(key_value).collect();
    Ok((answer.header, Reply::Read(found)))
}

/// A put or delete alone has a request of its own, as clients that need no transaction use it.
async fn single(client: &Client, change: &Change) -> Answer {
    let header = match change {
        Change::Put { key, value, lease } => client.put(put(key, value, *lease)).await?.header,
        Change::Delete { key } => client.delete_range(delete(key)).await?.header,
    };
    Ok((header, Reply::Txn { succeeded: true }))
}

async fn transaction(client: &Client, compares: &[Compare], success: &[Change], failure: &[Change]) -> Answer {
    let request = types::TxnRequest {
        compare: compares.iter().map(compare).collect(),
        success: success.iter().map(operation).collect(),
        failure: failure.iter().map(operation).collect(),
    };
    let answer = client.txn(request).await?;
    Ok((answer.header, Reply::Txn { succeeded: answer.succeeded }))
}

/// Product's first and last key of a range.
pub(super) fn bounds(range: &KeyRange) -> (Bytes, Bytes) {
    (text(&range.from), range.until.as_ref().map(|until| text(until)).unwrap_or_default())
}

fn compare(compare: &Compare) -> types::Compare {
    let target = match &compare.expect {
        Expect::ModRevision(revision) => types::CompareTarget::ModRevision(*revision),
        Expect::CreateRevision(revision) => types::CompareTarget::CreateRevision(*revision),
        Expect::Value(value) => types::CompareTarget::Value(text(value)),
    };
    types::Compare { key: text(&compare.key), range_end: Bytes::new(), target, result: types::CompareResult::Equal }
}

fn operation(change: &Change) -> types::RequestOp {
    match change {
        Change::Put { key, value, lease } => types::RequestOp::Put(put(key, value, *lease)),
        Change::Delete { key } => types::RequestOp::DeleteRange(delete(key)),
    }
}

fn put(key: &str, value: &str, lease: i64) -> types::PutRequest {
    types::PutRequest { key: text(key), value: text(value), lease, prev_kv: false }
}

fn delete(key: &str) -> types::DeleteRangeRequest {
    types::DeleteRangeRequest { key: text(key), ..types::DeleteRangeRequest::default() }
}

fn refusal(kind: types::RefusedKind) -> Refusal {
    match kind {
        types::RefusedKind::Compacted(first) => Refusal::Compacted(first),
        types::RefusedKind::FutureRevision => Refusal::FutureRevision,
        types::RefusedKind::LeaseNotFound => Refusal::LeaseNotFound,
        types::RefusedKind::LeaseExists => Refusal::LeaseExists,
        types::RefusedKind::InvalidArgument(why) => Refusal::Unavailable(format!("invalid argument: {why}")),
        types::RefusedKind::NoSpace => Refusal::Unavailable("no space".to_owned()),
    }
}

/// The record's form of a key's state.
pub fn key_value(kv: &types::KeyValue) -> KeyValue {
    KeyValue {
        key: string(&kv.key),
        value: string(&kv.value).into(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// The record's form of a change.
pub fn watch_event(event: &types::Event) -> WatchEvent {
    match event.kind {
        types::EventKind::Put => WatchEvent::Put(key_value(&event.kv)),
        types::EventKind::Delete => {
            WatchEvent::Delete { key: string(&event.kv.key), mod_revision: event.kv.mod_revision }
        }
    }
}

/// Raft ids count from 1, the record's members from 0.
pub fn member_number(raft_id: u64) -> u32 {
    u32::try_from(raft_id.saturating_sub(1)).unwrap_or(u32::MAX)
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What the store answers is judged, not trusted: bytes that no client wrote show as such.
fn string(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
