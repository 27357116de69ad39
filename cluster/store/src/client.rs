//! A client of the store over all its members.
//!
//! ```text
//! Client ── one connection per member, made when needed, shared by all requests and watches ──▶ members
//! ```
//!
//! Every request ends within a bounded time in an answer or in one of three errors, by what is known of its effect:
//! refused and unavailable are certainly without, unknown is not known ([`ClientError`]). What certainly had no effect
//! is asked again, of the next member, after a jittered backoff, until the time is over. What may have had one is asked
//! again only if that does no harm: reads and keep-alives.
//!
//! **Invariant:** a write is sent again only if no member can have taken it up before
//! (`a_write_of_unknown_outcome_is_not_sent_again` in `tests/client.rs`).

mod connection;
mod watch;

pub use watch::{ResumingWatch, Watcher};

use crate::types::*;
use connection::Connection;
use rt::random::Random;
use rt::time::{Instant, sleep, timeout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a client waits for what.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Names this client's stream of random numbers: clients of one process go apart by it.
    pub name: String,
    /// A request ends within this time. Longer than an election with what comes after it.
    pub request_timeout: Duration,
    /// A request that may be repeated is asked of the next member after this time.
    pub attempt_timeout: Duration,
    /// A connection comes about within this time.
    pub dial_timeout: Duration,
    /// A watch that is sent nothing, not even a bookmark, for this long is broken.
    pub watch_idle: Duration,
    /// The first pause before asking again; each further one is twice as long. Half of every pause is random.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            name: "store client".to_owned(),
            request_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_millis(1500),
            dial_timeout: Duration::from_secs(1),
            watch_idle: Duration::from_secs(5),
            backoff: Duration::from_millis(25),
            backoff_max: Duration::from_millis(500),
        }
    }
}

/// A client of the store over all its members. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ClientConfig,
    members: Vec<Member>,
    /// The member to ask next: one that answered, as far as is known.
    preferred: AtomicUsize,
    random: Mutex<Random>,
}

#[derive(Debug)]
struct Member {
    endpoint: String,
    /// Held while dialling, so that all who wait share one dial.
    slot: tokio::sync::Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    /// When the last dial failed, and why.
    failed: Option<(Instant, String)>,
}

/// One method per request: asks, and takes the answer of its sort out.
macro_rules! requests {
    ($($(#[$doc:meta])* $method:ident($variant:ident: $request:ty) -> $response:ty;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $method(&self, request: $request) -> Result<$response, ClientError> {
                    match self.call(Request::$variant(request)).await? {
                        Response::$variant(response) => Ok(response),
                        other => Err(ClientError::Unknown(format!("the answer is of another sort: {other:?}"))),
                    }
                }
            )*
        }
    };
}

requests! {
    /// Reads keys.
    ///
    /// # Errors
    /// See [`ClientError`]; never unknown.
    range(Range: RangeRequest) -> RangeResponse;
    /// Sets a key.
    ///
    /// # Errors
    /// See [`ClientError`].
    put(Put: PutRequest) -> PutResponse;
    /// Removes keys.
    ///
    /// # Errors
    /// See [`ClientError`].
    delete_range(DeleteRange: DeleteRangeRequest) -> DeleteRangeResponse;
    /// Does one of two branches, by compares.
    ///
    /// # Errors
    /// See [`ClientError`].
    txn(Txn: TxnRequest) -> TxnResponse;
    /// Forgets history.
    ///
    /// # Errors
    /// See [`ClientError`].
    compact(Compact: CompactRequest) -> CompactResponse;
    /// Grants a lease.
    ///
    /// # Errors
    /// See [`ClientError`].
    lease_grant(LeaseGrant: LeaseGrantRequest) -> LeaseGrantResponse;
    /// Ends a lease.
    ///
    /// # Errors
    /// See [`ClientError`].
    lease_revoke(LeaseRevoke: LeaseRevokeRequest) -> LeaseRevokeResponse;
    /// Keeps a lease alive: once answered, it lives for its time from when this was called on.
    ///
    /// # Errors
    /// See [`ClientError`]. Asking again does no harm.
    lease_keep_alive(LeaseKeepAlive: LeaseKeepAliveRequest) -> LeaseKeepAliveResponse;
    /// Asks how long a lease still lives.
    ///
    /// # Errors
    /// See [`ClientError`]; never unknown.
    lease_time_to_live(LeaseTimeToLive: LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse;
}

impl Client {
    /// Over the members at these addresses, `host:port`. Nothing is dialled before the first request.
    ///
    /// # Panics
    /// If there is no address.
    pub fn new(endpoints: Vec<String>, config: ClientConfig) -> Self {
        assert!(!endpoints.is_empty(), "a client needs the address of a member");
        let mut random = rt::random::stream(&config.name);
        // Clients begin at different members, so that no member has them all.
        let preferred = AtomicUsize::new(random.below(endpoints.len() as u64) as usize);
        let slot = tokio::sync::Mutex::default;
        let members = endpoints.into_iter().map(|endpoint| Member { endpoint, slot: slot() }).collect();
        Self { shared: Arc::new(Shared { config, members, preferred, random: Mutex::new(random) }) }
    }

    /// How the member at `endpoint`, one of this client's, is. Asked once, of that member alone.
    ///
    /// # Errors
    /// See [`ClientError`]; never unknown.
    pub async fn status(&self, endpoint: &str) -> Result<StatusResponse, ClientError> {
        let Some(member) = self.shared.members.iter().position(|member| member.endpoint == endpoint) else {
            let text = format!("{endpoint} is not an address of this client's");
            return Err(RefusedKind::InvalidArgument(text).into());
        };
        let until = Instant::now() + self.shared.config.attempt_timeout;
        match self.attempt(member, Request::Status(StatusRequest {}), until).await {
            Ok(Response::Status(status)) => Ok(status),
            Ok(other) => Err(ClientError::Unavailable(format!("the answer is of another sort: {other:?}"))),
            Err(ClientError::Unknown(why)) => Err(ClientError::Unavailable(why)),
            Err(error) => Err(error),
        }
    }

    /// A watch at one member, to be resumed by the caller when it breaks. Opened by the first [`Watcher::next`].
    pub fn watch(&self, request: WatchRequest) -> Watcher {
        Watcher::new(self.clone(), request)
    }

    /// A watch that goes on at another member when it breaks, without gap or repetition.
    pub fn resuming_watch(&self, request: WatchRequest) -> ResumingWatch {
        ResumingWatch::new(self.clone(), request)
    }

    /// Asks until there is an answer, a refusal, a doubt, or no more time.
    async fn call(&self, request: Request) -> Result<Response, ClientError> {
        let config = &self.shared.config;
        let repeat = Repeat::of(&request);
        let deadline = Instant::now() + config.request_timeout;
        let mut backoff = self.backoff();
        let mut doubted = false;
        loop {
            let member = self.preferred();
            let until = match repeat {
                Repeat::Read | Repeat::Harmless => deadline.min(Instant::now() + config.attempt_timeout),
                Repeat::Never => deadline,
            };
            let (why, doubt) = match self.attempt(member, request.clone(), until).await {
                Ok(response) => return Ok(response),
                Err(ClientError::Refused(kind)) => return Err(ClientError::Refused(kind)),
                Err(ClientError::Unavailable(why)) => (why, false),
                Err(ClientError::Unknown(why)) => (why, true),
            };
            self.avoid(member);
            doubted |= doubt && repeat != Repeat::Read;
            let pause = backoff.next(self);
            let over = Instant::now() + pause >= deadline;
            if doubted && repeat == Repeat::Never {
                mark::sometimes!("outcome of a write unknown to its client");
                return Err(ClientError::Unknown(why));
            }
            if over {
                return Err(if doubted { ClientError::Unknown(why) } else { ClientError::Unavailable(why) });
            }
            mark::sometimes!("request asked of another member");
            sleep(pause).await;
        }
    }

    /// Asks one member once, until then at the latest.
    async fn attempt(&self, member: usize, request: Request, until: Instant) -> Result<Response, ClientError> {
        let connection = match timeout(until - Instant::now(), self.connect(member)).await {
            Ok(connection) => connection?,
            Err(_) => {
                return Err(ClientError::Unavailable(format!("{}: no connection in time", self.endpoint(member))));
            }
        };
        connection.request(request, until).await
    }

    /// The connection to a member, a new one if there is none or it broke.
    async fn connect(&self, member: usize) -> Result<Connection, ClientError> {
        let asked = Instant::now();
        let Member { endpoint, slot } = &self.shared.members[member];
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|connection| connection.works()) {
            return Ok(connection.clone());
        }
        if let Some((_, why)) = slot.failed.as_ref().filter(|(at, _)| *at >= asked) {
            // Somebody dialled while this one waited for its turn.
            return Err(ClientError::Unavailable(why.clone()));
        }
        let why = match timeout(self.shared.config.dial_timeout, rt::net::TcpStream::connect(endpoint)).await {
            Ok(Ok(stream)) => {
                let connection = Connection::over(stream);
                slot.connection = Some(connection.clone());
                return Ok(connection);
            }
            Ok(Err(error)) => format!("{endpoint}: {error}"),
            Err(_) => format!("{endpoint}: no connection in time"),
        };
        slot.failed = Some((Instant::now(), why.clone()));
        Err(ClientError::Unavailable(why))
    }

    fn endpoint(&self, member: usize) -> &str {
        &self.shared.members[member].endpoint
    }

    fn preferred(&self) -> usize {
        self.shared.preferred.load(Ordering::Relaxed)
    }

    /// Prefers another member, unless somebody has done so already.
    fn avoid(&self, member: usize) {
        let next = (member + 1) % self.shared.members.len();
        // It failing means that another request was first: its choice is as good.
        let _ = self.shared.preferred.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn backoff(&self) -> Backoff {
        Backoff { pause: self.shared.config.backoff }
    }
}

/// Whether to ask again when the outcome is not known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It has no effect.
    Read,
    /// Its effect twice is its effect once.
    Harmless,
    Never,
}

impl Repeat {
    fn of(request: &Request) -> Self {
        match request {
            Request::Range(_) | Request::LeaseTimeToLive(_) | Request::Status(_) => Repeat::Read,
            Request::LeaseKeepAlive(_) => Repeat::Harmless,
            Request::Txn(txn) => {
                let mut ops = txn.success.iter().chain(&txn.failure);
                if ops.all(|op| matches!(op, RequestOp::Range(_))) { Repeat::Read } else { Repeat::Never }
            }
            Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_) => Repeat::Never,
        }
    }
}

/// Growing pauses between attempts.
#[derive(Debug)]
struct Backoff {
    pause: Duration,
}

impl Backoff {
    fn next(&mut self, client: &Client) -> Duration {
        let half = self.pause / 2;
        self.pause = (self.pause * 2).min(client.shared.config.backoff_max);
        let mut random = client.shared.random.lock().unwrap_or_else(PoisonError::into_inner);
        half + random.jitter(half)
    }
}
