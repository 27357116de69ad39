//! The server: connections, each a task, over which hyper speaks HTTP/1.1.

use crate::auth::{Authenticator, Authorizer, Peer};
use crate::config::Config;
use crate::core::Core;
use crate::extension::Extension;
use crate::handler::handle;
use crate::model::{MAX_BODY_BYTES, too_large};
use crate::reply::{Body, Reply};
use crate::store::Store;
use crate::view::{Held, View};
use crate::{advertise, bootstrap};
use api::Status;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use rt::net::{TcpListener, TcpStream};
use rt::task::AbortOnDrop;
use rt::time::{Instant, sleep, timeout};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Connections open at once. Each watch takes one; a thousand nodes with eight watches each fit on one server, should all
/// others fail.
const MAX_CONNECTIONS: usize = 16_384;

/// A connection without a request for so long is closed: longer than clients keep them for the next one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// A body that is not there after so long is given up: what the largest takes over a slow link.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// After an error of accepting (too many open files), before the next attempt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long requests under way are waited for at a graceful stop: somewhat more than the store takes for one.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(6);

/// An API server that runs. Dropping it ends it at once.
pub struct ApiServer {
    core: Arc<Core>,
    address: SocketAddr,
    closing: Arc<Closing>,
    accept: Mutex<Option<AbortOnDrop<()>>>,
    bootstrapped: watch::Receiver<bool>,
    advertising: Mutex<Option<AbortOnDrop<()>>>,
    _tasks: Vec<AbortOnDrop<()>>,
}

/// Why an API server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen there.
    #[error("cannot listen at {address}: {error}; choose another address, or stop the program that has it")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
}

/// Whether the server stops.
#[derive(Debug, Default)]
struct Closing {
    begun: AtomicBool,
    news: Notify,
}

impl ApiServer {
    /// Starts a server. When this returns, it listens; the store may yet have to elect a leader.
    ///
    /// # Errors
    /// Nothing runs.
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        authenticator: Arc<dyn Authenticator>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<Self, StartError> {
        let listen = config.listen.clone();
        let failed = |error| StartError::Listen { address: listen.clone(), error };
        let listener = TcpListener::bind(&listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let core = Arc::new(Core::new(config, store, authenticator, authorizer));
        let closing = Arc::new(Closing::default());
        let mut tasks = background(&core);
        let front = Front { core: Arc::clone(&core), closing: Arc::clone(&closing) };
        let accept = rt::task::spawn("api-accept", front.run(listener)).abort_on_drop();
        let (made, bootstrapped) = watch::channel(!core.config.bootstrap);
        if core.config.bootstrap {
            let core = Arc::clone(&core);
            let port = address.port();
            let make = async move {
                bootstrap::run(&core, port).await;
                made.send_replace(true);
            };
            tasks.push(rt::task::spawn("api-bootstrap", make).abort_on_drop());
        }
        let advertising = core.config.advertise.map(|ip| {
            let core = Arc::clone(&core);
            let advertise = async move { advertise::run(&core, ip, address.port()).await };
            rt::task::spawn("api-advertise", advertise).abort_on_drop()
        });
        tracing::info!(%address, "API server started");
        Ok(Self {
            core,
            address,
            closing,
            accept: Mutex::new(Some(accept)),
            bootstrapped,
            advertising: Mutex::new(advertising),
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Completes when every object is there that every cluster has, if this server is to make them.
    pub async fn bootstrapped(&self) {
        // The sender is dropped only when all is made, or with the server.
        let _ = self.bootstrapped.clone().wait_for(|made| *made).await;
    }

    /// What it has done.
    pub fn view(&self) -> View {
        self.core.view()
    }

    /// Lets `extension` serve the paths that the API does not know, from now on. The first one stays.
    pub fn extend(&self, extension: Arc<dyn Extension>) {
        let _ = self.core.extension.set(extension);
    }

    /// What answers requests, without sockets.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Stops gracefully: takes no more requests, ends watches, and answers those under way, for a few seconds at most.
    /// When this returns, the port is free.
    pub async fn shutdown(&self) {
        self.closing.begun.store(true, Ordering::Release);
        self.closing.news.notify_waiters();
        self.core.hub.end();
        let advertising = self.advertising.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(task), Some(ip)) = (advertising, self.core.config.advertise) {
            drop(task);
            advertise::withdraw(&self.core, ip, self.address.port()).await;
        }
        let accept = self.accept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(accept) = accept {
            let _ = accept.await;
        }
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The tasks that every server has, whether it listens or not: news for watches, and the end of old history.
pub fn background(core: &Arc<Core>) -> Vec<AbortOnDrop<()>> {
    let follow = {
        let core = Arc::clone(core);
        async move { core.hub.run(&*core.store, &core.facts).await }
    };
    let compact = {
        let core = Arc::clone(core);
        async move { bootstrap::compact(&core).await }
    };
    vec![rt::task::spawn("api-hub", follow).abort_on_drop(), rt::task::spawn("api-compactor", compact).abort_on_drop()]
}

/// What every connection needs.
#[derive(Clone)]
struct Front {
    core: Arc<Core>,
    closing: Arc<Closing>,
}

impl Closing {
    /// Completes when the server stops.
    async fn begins(&self) {
        // Made before the look, so that nothing between the two is missed.
        let news = self.news.notified();
        if !self.begun.load(Ordering::Acquire) {
            news.await;
        }
    }
}

impl Front {
    /// Accepts clients until the server stops, then waits for those under way.
    async fn run(self, listener: TcpListener) {
        let mut connections: Vec<AbortOnDrop<()>> = Vec::new();
        let mut tidy_at = 64;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.closing.begins() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if connections.len() >= tidy_at {
                        connections.retain(|connection| !connection.is_finished());
                        // So that each look at all of them is paid for by as many new ones.
                        tidy_at = (connections.len() * 2).clamp(64, MAX_CONNECTIONS);
                    }
                    if connections.len() < MAX_CONNECTIONS {
                        let serve = self.clone().serve(stream, peer);
                        connections.push(rt::task::spawn("api-connection", serve).abort_on_drop());
                    } else {
                        tracing::warn!(%peer, "a client is refused: {MAX_CONNECTIONS} are connected");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept clients");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let all = async {
            for connection in connections {
                let _ = connection.await;
            }
        };
        if timeout(SHUTDOWN_TIMEOUT, all).await.is_err() {
            mark::sometimes!("API server stopped with requests under way");
        }
    }

    /// Serves one connection to its end. How it ends is the client's business.
    async fn serve(self, stream: TcpStream, address: SocketAddr) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let stream = match stream.secure(&self.core.config.tls).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%address, %error, "a client's connection cannot be secured");
                return;
            }
        };
        let peer = Peer { address, subject: stream.peer_subject().cloned().map(Arc::new) };
        let _held = Held::new(Arc::clone(&self.core), |counters| &counters.connections);
        let activity = Arc::new(Activity::new());
        let (core, watched) = (Arc::clone(&self.core), Arc::clone(&activity));
        let service = service_fn(move |request: Request<Incoming>| {
            let (core, activity, peer) = (Arc::clone(&core), Arc::clone(&watched), peer.clone());
            async move {
                let busy = activity.begin();
                let response = respond(&core, &peer, request).await;
                Ok::<_, Infallible>(response.map(|body| Tracked { body, _busy: busy }))
            }
        });
        let mut http = http1::Builder::new();
        // The date would be that of the machine, and nobody needs it.
        let connection = http.auto_date_header(false).serve_connection(rt::http::Io::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = self.closing.begins() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
            () = activity.idle() => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's connection ended");
        }
    }
}

/// Reads the body, and answers.
async fn respond(core: &Arc<Core>, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let read = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    let body: Bytes = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            mark::sometimes!("body of a request is too large");
            return Reply::from(too_large()).into_response();
        }
        Ok(Err(error)) => return Reply::from(Status::bad_request(error.to_string())).into_response(),
        Err(_) => return Reply::from(Status::bad_request("the body did not come in time")).into_response(),
    };
    handle(core, peer, Request::from_parts(parts, body)).await
}

/// Whether a connection has requests under way.
#[derive(Debug)]
struct Activity {
    /// How many, and since when there are none.
    state: Mutex<(usize, Instant)>,
}

/// A request under way.
struct Busy(Arc<Activity>);

impl Activity {
    fn new() -> Self {
        Self { state: Mutex::new((0, Instant::now())) }
    }

    fn begin(self: &Arc<Self>) -> Busy {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        Busy(Arc::clone(self))
    }

    /// Completes when there was no request for too long.
    async fn idle(&self) {
        loop {
            let (under_way, since) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = if under_way > 0 { Duration::ZERO } else { since.elapsed() };
            if idle >= IDLE_TIMEOUT {
                mark::sometimes!("idle connection closed by the API server");
                return;
            }
            sleep(IDLE_TIMEOUT - idle).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 -= 1;
        state.1 = Instant::now();
    }
}

/// A body during whose transmission its connection is busy.
struct Tracked {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
