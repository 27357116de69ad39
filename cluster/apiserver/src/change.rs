//! What one request changes, all of it or nothing.

use bytes::Bytes;
use store::{Compare, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

/// A transaction in the making.
#[derive(Clone, Debug, Default)]
pub struct Change {
    txn: TxnRequest,
    bytes: usize,
}

impl Change {
    /// One that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if `key` was last changed at `revision`; 0: only if it does not exist.
    pub fn expect(&mut self, key: Bytes, revision: i64) {
        self.txn.compare.push(Compare {
            key,
            range_end: Bytes::new(),
            target: CompareTarget::ModRevision(revision),
            result: CompareResult::Equal,
        });
    }

    /// Only if nothing from `first` up to `end` was created or changed after `revision`. What was deleted is not noticed.
    pub fn expect_nothing_newer(&mut self, (first, end): (Bytes, Bytes), revision: i64) {
        self.txn.compare.push(Compare {
            key: first,
            range_end: end,
            target: CompareTarget::ModRevision(revision + 1),
            result: CompareResult::Less,
        });
    }

    /// Sets a key.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.put_until(key, value, 0);
    }

    /// Sets a key until a lease ends; 0: for good.
    pub fn put_until(&mut self, key: Bytes, value: Bytes, lease: i64) {
        self.bytes += key.len() + value.len();
        self.txn.success.push(RequestOp::Put(PutRequest { key, value, lease, prev_kv: false }));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: Bytes) {
        self.txn.success.push(RequestOp::DeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }));
    }

    /// Bytes that it puts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// For the store.
    pub fn into_txn(self) -> TxnRequest {
        self.txn
    }
}
