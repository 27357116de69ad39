//! What the API server needs of a store, and a member of this process as one.
//!
//! Everything is read from pinned trees: [`Store::tree`] for what must be current, [`Store::latest`] for what may lag.

use api::Status;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use store::mvcc::Tree;
use store::server::Local;
use store::{ClientError, CompactRequest, LeaseGrantRequest, RefusedKind, Request, Response, TxnRequest, TxnResponse};

/// A future behind a pointer, so that stores can be chosen when the program runs.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A replicated store. Clones of its trees show one revision for as long as they are kept.
pub trait Store: Send + Sync + 'static {
    /// Does a transaction, once.
    ///
    /// # Errors
    /// See [`ClientError`]: unavailable had no effect, unknown may have had one.
    fn txn(&self, txn: TxnRequest) -> BoxFuture<'_, Result<TxnResponse, ClientError>>;

    /// The tree, with whatever was acknowledged before this call by whatever server.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] when nobody can confirm that.
    fn tree(&self) -> BoxFuture<'_, Result<Tree, ClientError>>;

    /// The tree as it is here now. It never goes back.
    fn latest(&self) -> Tree;

    /// Completes when the tree here is of a later revision than `seen`.
    ///
    /// # Errors
    /// The store has stopped.
    fn newer(&self, seen: i64) -> BoxFuture<'_, Result<(), ClientError>>;

    /// Whether this store hears of what others write: without it, bookmarks would promise too much.
    fn is_connected(&self) -> bool;

    /// Grants a lease: keys bound to it are removed when it ends.
    ///
    /// # Errors
    /// As of [`Self::txn`].
    fn lease(&self, ttl_seconds: i64) -> BoxFuture<'_, Result<i64, ClientError>>;

    /// Forgets what was overwritten before `revision`.
    ///
    /// # Errors
    /// As of [`Self::txn`].
    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), ClientError>>;
}

impl Store for Local {
    fn txn(&self, txn: TxnRequest) -> BoxFuture<'_, Result<TxnResponse, ClientError>> {
        Box::pin(async move {
            match self.request(Request::Txn(txn)).await? {
                Response::Txn(response) => Ok(response),
                other => Err(foreign(&other)),
            }
        })
    }

    fn tree(&self) -> BoxFuture<'_, Result<Tree, ClientError>> {
        Box::pin(Local::tree(self))
    }

    fn latest(&self) -> Tree {
        Local::latest(self)
    }

    fn newer(&self, seen: i64) -> BoxFuture<'_, Result<(), ClientError>> {
        Box::pin(async move { self.follow_from(seen).changed().await.map(drop) })
    }

    fn is_connected(&self) -> bool {
        self.has_leader()
    }

    fn lease(&self, ttl_seconds: i64) -> BoxFuture<'_, Result<i64, ClientError>> {
        Box::pin(async move {
            match self.request(Request::LeaseGrant(LeaseGrantRequest { id: 0, ttl_s: ttl_seconds })).await? {
                Response::LeaseGrant(response) => Ok(response.id),
                other => Err(foreign(&other)),
            }
        })
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), ClientError>> {
        Box::pin(async move {
            match self.request(Request::Compact(CompactRequest { revision })).await {
                // Another server was faster.
                Err(ClientError::Refused(RefusedKind::Compacted(_))) => Ok(()),
                other => other.map(drop),
            }
        })
    }
}

fn foreign(response: &impl fmt::Debug) -> ClientError {
    ClientError::Unknown(format!("the store gave the answer to another request: {response:?}"))
}

/// What a client of the API is told of a store's error.
pub fn status(error: ClientError) -> Status {
    match error {
        ClientError::Unavailable(why) => Status::unavailable(format!("the store cannot be asked now: {why}")),
        ClientError::Unknown(why) => Status::timeout(format!("the outcome is not known: {why}")),
        ClientError::Refused(kind) => match kind {
            RefusedKind::Compacted(_) => Status::expired("The provided resource version is no longer available."),
            RefusedKind::FutureRevision => Status::timeout("Timeout: Too large resource version"),
            RefusedKind::NoSpace => Status::internal("the store is out of space"),
            RefusedKind::LeaseNotFound | RefusedKind::LeaseExists | RefusedKind::InvalidArgument(_) => {
                Status::internal(kind)
            }
        },
    }
}
