//! What all requests share, and how a request that changes something is decided and carried out.
//!
//! ```text
//!           ┌────────────── not current ◀── another was faster ─────────────┐
//!           ▼                                                               │
//! local tree ─▶ decide ─▶ change with what it relies on ─▶ transaction ─▶ done
//!                  └─ refused, by a tree that may lag ─▶ decide again over a current one
//! ```
//!
//! **Invariant:** nothing is answered from a tree that may lag but what a transaction has confirmed
//! (`a_lagging_server_refuses_nothing_wrongly`).

use crate::auth::{Authenticator, Authorizer};
use crate::change::Change;
use crate::config::Config;
use crate::expiry::EventLease;
use crate::extension::Extension;
use crate::facts::FactsCache;
use crate::fairness::Fairness;
use crate::fence::Fence;
use crate::hub::Hub;
use crate::store::{Store, status};
use crate::view::{Counters, View};
use api::{Resource, Status, Timestamp};
use rt::random::Random;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use store::mvcc::Tree;
use store::{ClientError, RefusedKind};

/// How often a request is decided before it is given up because others are always faster: upstream's number for patches,
/// after the first.
const ATTEMPTS: usize = 6;

/// Bytes that a transaction may put: the store's bound, less what surrounds them.
const MAX_PUT_BYTES: usize = store::MAX_REQUEST_BYTES - 16 * 1024;

/// Upstream's words for an object that is not what the client believes it to be.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// What all requests share.
pub struct Core {
    /// How it is set up.
    pub config: Config,
    /// Where everything is.
    pub store: Arc<dyn Store>,
    /// News for watches.
    pub hub: Arc<Hub>,
    /// What selectors look at.
    pub facts: FactsCache,
    /// Who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Whether they may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Serves paths that the API does not know, once it is there.
    pub extension: OnceLock<Arc<dyn Extension>>,
    /// Whose turn it is.
    pub fairness: Fairness,
    /// What was asked and answered.
    pub counters: Counters,
    /// What Events are bound to.
    pub(crate) event_lease: EventLease,
    random: Mutex<Random>,
}

/// What is to be done, and what it gives.
#[derive(Debug)]
pub enum Decision<T> {
    /// This change.
    Write(Change, T),
    /// Nothing: things are already as they should be, or it is a dry run.
    Keep(T),
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Core {
    /// What it has done.
    pub fn view(&self) -> View {
        self.counters.view(self.store.latest().revision(), self.fairness.view())
    }

    /// Over a store, whose state it looks at at once.
    pub fn new(
        config: Config,
        store: Arc<dyn Store>,
        authenticator: Arc<dyn Authenticator>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Self {
        let hub = Arc::new(Hub::new(&store.latest()));
        Self {
            fairness: Fairness::new(config.max_requests_in_flight),
            config,
            store,
            hub,
            facts: FactsCache::default(),
            authenticator,
            authorizer,
            extension: OnceLock::new(),
            counters: Counters::default(),
            event_lease: EventLease::default(),
            random: Mutex::new(rt::random::stream("apiserver")),
        }
    }

    /// The time, as this host believes.
    pub fn now(&self) -> Timestamp {
        let ns = i128::from(rt::time::Timestamp::now().unix_ns);
        Timestamp::from_nanosecond(ns).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Randomness, for names, UIDs and addresses.
    pub fn random(&self) -> MutexGuard<'_, Random> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides and carries out; gives what the decision gives, and the revision that it is of.
    ///
    /// # Errors
    /// What the decision refuses, over a tree that is current; 409 if others are always faster; the store's own.
    pub async fn transact<T>(
        &self,
        fence: Option<&Fence>,
        about: (&'static Resource, &str),
        decide: impl FnMut(&Tree) -> Result<Decision<T>, Status>,
    ) -> Result<(T, i64), Status> {
        let done = self.try_transact(fence, about, decide).await?;
        done.ok_or_else(|| Status::conflict(about.0, about.1, MODIFIED))
    }

    /// As [`transact`](Self::transact), but `None` if others are always faster.
    ///
    /// # Errors
    /// What the decision refuses, over a tree that is current; the store's own.
    pub async fn try_transact<T>(
        &self,
        fence: Option<&Fence>,
        about: (&'static Resource, &str),
        mut decide: impl FnMut(&Tree) -> Result<Decision<T>, Status>,
    ) -> Result<Option<(T, i64)>, Status> {
        let mut tree = self.store.latest();
        let mut current = false;
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            let guarded = decide(&tree).and_then(|decision| guard(decision, fence, &tree, about));
            match guarded {
                Ok(Decision::Write(change, given)) => {
                    check_size(&change)?;
                    attempts += 1;
                    let answer = self.store.txn(change.into_txn()).await.map_err(|error| {
                        if error == ClientError::Refused(RefusedKind::LeaseNotFound) {
                            self.event_lease.forget();
                        }
                        status(error)
                    })?;
                    if answer.succeeded {
                        return Ok(Some((given, answer.header.revision)));
                    }
                    mark::sometimes!("write decided again because another was faster");
                }
                Ok(Decision::Keep(given)) if current => return Ok(Some((given, tree.revision()))),
                Err(refused) if current => return Err(refused),
                Ok(Decision::Keep(_)) | Err(_) => {}
            }
            tree = self.store.tree().await.map_err(status)?;
            current = true;
        }
        mark::sometimes!("write given up because others are always faster");
        Ok(None)
    }
}

fn guard<T>(
    decision: Decision<T>,
    fence: Option<&Fence>,
    tree: &Tree,
    about: (&Resource, &str),
) -> Result<Decision<T>, Status> {
    match (decision, fence) {
        (Decision::Write(mut change, given), Some(fence)) => {
            fence.guard(tree, &mut change, about)?;
            Ok(Decision::Write(change, given))
        }
        (decision, _) => Ok(decision),
    }
}

fn check_size(change: &Change) -> Result<(), Status> {
    if change.bytes() > MAX_PUT_BYTES {
        let message = format!("Request entity is too large: limit is {MAX_PUT_BYTES}");
        return Err(Status::new(413, "RequestEntityTooLarge", message));
    }
    Ok(())
}
