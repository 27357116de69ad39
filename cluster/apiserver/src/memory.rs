//! A store in memory, for tests and for trying the API alone. Nothing survives it.

use crate::store::{BoxFuture, Store};
use std::sync::{Mutex, MutexGuard, PoisonError};
use store::command::{Action, Command};
use store::mvcc::Tree;
use store::state::{Outcome, StateMachine};
use store::{ClientError, CompactRequest, LeaseGrantRequest, RefusedKind, Response, TxnRequest, TxnResponse};
use tokio::sync::Notify;

/// The state machine of the real store, without replication.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<StateMachine>,
    news: Notify,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, StateMachine> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, action: Action) -> Result<Response, ClientError> {
        let mut state = self.state();
        let command = Command { origin: 1, request: 1, term: 1, action };
        let index = state.index() + 1;
        let data = command.encode(state.formats().agreed());
        let applied = state.apply(index, 1, &data).map_err(|error| unknown(&error.to_string()))?;
        drop(state);
        self.news.notify_waiters();
        match applied.map(|applied| applied.outcome) {
            Some(Outcome::Response(response)) => Ok(response),
            Some(Outcome::Refused(kind)) => Err(ClientError::Refused(kind)),
            Some(Outcome::Noted | Outcome::Stale) | None => Err(unknown("it was answered as another request")),
        }
    }
}

impl Store for MemoryStore {
    fn txn(&self, txn: TxnRequest) -> BoxFuture<'_, Result<TxnResponse, ClientError>> {
        Box::pin(async move {
            match self.act(Action::Txn(txn))? {
                Response::Txn(response) => Ok(response),
                _ => Err(unknown("the store gave the answer to another request")),
            }
        })
    }

    fn tree(&self) -> BoxFuture<'_, Result<Tree, ClientError>> {
        Box::pin(async move { Ok(self.latest()) })
    }

    fn latest(&self) -> Tree {
        self.state().tree().clone()
    }

    fn newer(&self, seen: i64) -> BoxFuture<'_, Result<(), ClientError>> {
        Box::pin(async move {
            loop {
                // Made before the look, so that nothing between the two is missed.
                let news = self.news.notified();
                if self.state().revision() > seen {
                    return Ok(());
                }
                news.await;
            }
        })
    }

    fn is_connected(&self) -> bool {
        true
    }

    /// Leases do not end here: nobody keeps their time.
    fn lease(&self, ttl_seconds: i64) -> BoxFuture<'_, Result<i64, ClientError>> {
        Box::pin(async move {
            let id = i64::try_from(self.state().index()).unwrap_or_default() + 1;
            match self.act(Action::LeaseGrant(LeaseGrantRequest { id, ttl_s: ttl_seconds }))? {
                Response::LeaseGrant(response) => Ok(response.id),
                _ => Err(unknown("the store gave the answer to another request")),
            }
        })
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), ClientError>> {
        Box::pin(async move {
            match self.act(Action::Compact(CompactRequest { revision })) {
                Err(ClientError::Refused(RefusedKind::Compacted(_))) => Ok(()),
                other => other.map(drop),
            }
        })
    }
}

fn unknown(why: &str) -> ClientError {
    ClientError::Unknown(why.to_owned())
}
