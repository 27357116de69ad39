//! Leader election on a Lease (coordination.k8s.io/v1), as client-go does it.
//!
//! ```text
//! candidate ──not held, or not changed for its duration──▶ take it, in a new epoch ──▶ lead() runs
//!     ▲                                                                                  │ renewals every 2 s
//!     └──────── lead() is dropped at once ◀── renewed by nobody for 10 s, or taken ◀─────┘
//! ```
//!
//! **Invariant:** of two processes whose clocks run alike within 10 %, never both believe that they lead. A belief lasts
//! 10 s from *before* the request that renewed it; whoever takes the lease has waited for 15 s *after* it saw that
//! renewal. (`a_belief_ends_before_another_begins`)
//!
//! **Invariant:** nothing is written after the belief, and what was under way is refused once the next leader is
//! elected: the epoch is raised by the very write that takes the Lease.

use crate::client::{Boxed, Client};
use crate::clock::wall;
use crate::election::{Action, Observed, decide, is_held, released, renewed, transitions};
use crate::error::Error;
use crate::watch::revision_of;
use api::ObjectExt;
use api::coordination::v1::Lease;
use mark::sometimes;
use rt::random::Random;
use rt::time::{Instant, sleep, timeout};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one request about the Lease may take: several fit into the time to renew.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// One attempt per request: each later one is decided anew.
const ATTEMPTS: u32 = 1;
/// How long giving up the Lease may take: the next leader can do without.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Upstream's `JitterFactor`, in tenths: candidates try again after one to 2.2 periods.
const JITTER_TENTHS: u32 = 12;

/// In which epoch of which Lease something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Its `spec.leaseTransitions`.
    pub transitions: i32,
}

/// As the header has it: `kube-system/controllers=3`.
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={}", self.namespace, self.name, self.transitions)
    }
}

/// Until when this process believes that it leads.
pub(crate) struct Belief {
    until: Mutex<Instant>,
}

impl Belief {
    pub(crate) fn holds(&self) -> bool {
        Instant::now() < self.until()
    }

    fn new(until: Instant) -> Self {
        Self { until: Mutex::new(until) }
    }

    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Which Lease is fought for, by whom, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this is. [`Elector::new`] adds what tells one start of a process from another.
    pub identity: String,
    /// For how long a lease is held that is not seen to change.
    pub duration: Duration,
    /// For how long a leader believes in a renewal.
    pub renew_deadline: Duration,
    /// How often a leader renews, and a candidate tries at most.
    pub retry_period: Duration,
    /// Whoever held the lease before this process is gone, and there is no other candidate: whoever says so knows it for
    /// certain, as by a lock. Then nothing is waited for.
    pub sole: bool,
}

impl LeaseConfig {
    /// With upstream's durations.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            sole: false,
        }
    }
}

/// One time of leading, from an election to the loss.
#[derive(Clone)]
pub struct Term {
    /// Writes in this term only: sends the epoch along, and nothing once the term is over.
    pub client: Client,
    /// The epoch.
    pub fence: Fence,
    /// Version of the Lease that was taken: what is known must not be older ([`Informers::not_before`]).
    ///
    /// [`Informers::not_before`]: crate::Informers::not_before
    pub revision: i64,
}

/// A candidate for the leadership.
pub struct Elector {
    /// For the Lease.
    client: Client,
    /// For whoever leads.
    unlimited: Client,
    config: LeaseConfig,
    random: Random,
    origin: Instant,
    observed: Observed,
    /// The next epoch is not below this.
    floor: i32,
}

/// A lease that was taken.
pub(crate) struct Held {
    lease: Lease,
    fence: Fence,
    belief: Arc<Belief>,
    client: Client,
}

impl Elector {
    /// A candidate that has not tried yet.
    pub fn new(client: Client, mut config: LeaseConfig) -> Self {
        let mut random = rt::random::stream("elector");
        config.identity = format!("{}_{:016x}", config.identity, random.next_u64());
        let unlimited = client;
        let client = unlimited.with_limits(REQUEST_TIMEOUT.min(config.renew_deadline), ATTEMPTS);
        Self { client, unlimited, config, random, origin: Instant::now(), observed: Observed::default(), floor: 0 }
    }

    /// What the Lease calls this process when it leads.
    pub fn identity(&self) -> &str {
        &self.config.identity
    }

    /// For ever: waits for the leadership, and drives what `lead` returns until it ends or the leadership is lost. Then
    /// that is dropped where it stands, before the belief is over: tasks that it spawned must end with it.
    ///
    /// When `lead`'s future ends by itself, the Lease is given up, and another may lead.
    pub async fn run<F, Fut>(mut self, mut lead: F)
    where
        F: FnMut(Term) -> Fut + Send,
        Fut: Future<Output = ()> + Send,
    {
        loop {
            let held = self.acquire().await;
            self.hold(held, &mut lead).await;
            // Others have a chance, and a leader that fails at once does not spin.
            self.pause().await;
        }
    }

    /// Leads until that ends or the leadership is lost.
    pub(crate) async fn hold<F, Fut>(&mut self, mut held: Held, lead: F)
    where
        F: FnOnce(Term) -> Fut + Send,
        Fut: Future<Output = ()> + Send,
    {
        let lease = format!("{}/{}", self.config.namespace, self.config.name);
        mark::elected(&lease, &self.config.identity, held.fence.transitions.into());
        let term = Term {
            client: held.client.clone(),
            fence: held.fence.clone(),
            revision: revision_of(held.lease.resource_version()),
        };
        let ended = {
            let mut leading = std::pin::pin!(lead(term));
            tokio::select! {
                biased;
                () = self.keep(&mut held) => false,
                () = &mut leading => true,
            }
        };
        // From here on no clone of the term's client writes.
        held.belief.set(Instant::now());
        self.floor = self.floor.max(held.fence.transitions.saturating_add(1));
        mark::unelected(&lease, &self.config.identity, held.fence.transitions.into());
        if ended {
            self.release(&held).await;
        }
    }

    /// Waits until this process leads.
    pub(crate) fn acquire(&mut self) -> Boxed<'_, Held> {
        Box::pin(self.acquiring())
    }

    async fn acquiring(&mut self) -> Held {
        loop {
            match self.try_acquire().await {
                Ok(Some(held)) => return held,
                Ok(None) => {}
                Err(error) if error.is_stale_fence() => {
                    sometimes!("election with a used up epoch");
                    // Which epoch is the newest is not told: doubling finds one above it in a few attempts.
                    let tried = self.observed.lease.as_ref().map_or(0, transitions);
                    self.floor = self.floor.max(tried).saturating_add(1).saturating_mul(2);
                }
                Err(error) => tracing::debug!(lease = self.config.name, %error, "an attempt to lead failed"),
            }
            self.pause().await;
        }
    }

    async fn try_acquire(&mut self) -> Result<Option<Held>, Error> {
        let (namespace, name) = (&self.config.namespace, &self.config.name);
        let read = match self.client.get::<Lease>(namespace, name).await {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        // Not before the answer is here: to see a change late is to wait longer.
        self.observed.see(read, self.origin.elapsed());
        let action = decide(&self.observed, self.origin.elapsed(), wall(), &self.config, self.floor);
        let (lease, create) = match action {
            Action::Create(lease) => (lease, true),
            Action::Take(lease) => (lease, false),
            Action::Wait(_) => return Ok(None),
        };
        let fence = Fence { namespace: namespace.clone(), name: name.clone(), transitions: transitions(&lease) };
        // The belief counts from before the request: it may have been applied just then.
        let belief = Arc::new(Belief::new(Instant::now() + self.config.renew_deadline));
        let client = self.client.with_belief(&fence, belief.clone());
        let lease = if create { client.create(&lease).await? } else { client.update(&lease).await? };
        if !belief.holds() {
            sometimes!("election answered too late");
            return Ok(None);
        }
        self.observed.see(Some(lease.clone()), self.origin.elapsed());
        let client = self.unlimited.with_belief(&fence, belief.clone());
        Ok(Some(Held { lease, fence, belief, client }))
    }

    /// Renews until the leadership is lost.
    fn keep<'a>(&'a mut self, held: &'a mut Held) -> Boxed<'a, ()> {
        Box::pin(self.keeping(held))
    }

    async fn keeping(&mut self, held: &mut Held) {
        loop {
            let until = held.belief.until();
            // After a renewal that took long, the next one must not come too late.
            let wait = self.config.retry_period.min((until - Instant::now()) / 2);
            sleep(wait).await;
            match timeout(until - Instant::now(), self.renew(held)).await {
                Ok(Ok(began)) => held.belief.set(began + self.config.renew_deadline),
                Ok(Err(Lost)) => {
                    sometimes!("leader finds its lease taken");
                    return;
                }
                Err(_) => {
                    sometimes!("leader could not renew in time");
                    return;
                }
            }
        }
    }

    /// One renewal, however many attempts it takes. Returns when the one that worked began.
    async fn renew(&mut self, held: &mut Held) -> Result<Instant, Lost> {
        let client = self.client.with_belief(&held.fence, held.belief.clone());
        loop {
            let began = Instant::now();
            match client.update(&renewed(&held.lease, &self.config, wall())).await {
                Ok(lease) => {
                    self.observed.see(Some(lease.clone()), self.origin.elapsed());
                    held.lease = lease;
                    return Ok(began);
                }
                Err(error) if error.is_stale_fence() => return Err(Lost),
                Err(error) => tracing::debug!(lease = self.config.name, %error, "a renewal failed"),
            }
            // Either it is another's now, or it was changed, perhaps by a renewal of which no answer came.
            match client.get::<Lease>(&self.config.namespace, &self.config.name).await {
                Ok(lease) => {
                    self.observed.see(Some(lease.clone()), self.origin.elapsed());
                    if !is_held(&lease, &self.config, &held.fence) {
                        return Err(Lost);
                    }
                    let changed = lease.resource_version() != held.lease.resource_version();
                    held.lease = lease;
                    if changed {
                        continue;
                    }
                }
                Err(error) if error.is_not_found() => {
                    self.observed.see(None, self.origin.elapsed());
                    return Err(Lost);
                }
                Err(error) => tracing::debug!(lease = self.config.name, %error, "reading the lease failed"),
            }
            sleep(self.config.retry_period).await;
        }
    }

    /// Gives the Lease up, at best effort.
    async fn release(&mut self, held: &Held) {
        let client = self.client.with_fence(held.fence.clone());
        let lease = released(&held.lease, &self.config, wall());
        if let Ok(Ok(lease)) = timeout(RELEASE_TIMEOUT, client.update(&lease)).await {
            self.observed.see(Some(lease), self.origin.elapsed());
        }
    }

    /// Between one attempt to lead and the next.
    pub(crate) async fn pause(&mut self) {
        let period = self.config.retry_period;
        sleep(period + self.random.jitter(period * JITTER_TENTHS / 10)).await;
    }
}

/// The leadership is lost.
struct Lost;
