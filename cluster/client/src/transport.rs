//! HTTP/1.1 to one endpoint: connections that are kept, one exchange, and what is known of it when it fails.
//!
//! **Invariant:** a failure is [`Failed::Clean`] only if the server cannot have seen the whole request
//! (`a_write_is_repeated_only_if_it_had_no_effect` in tests/client.rs).

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use rt::net::TcpStream;
use rt::task::AbortOnDrop;
use rt::time::{Instant, timeout};
use rt::tls::ClientTls;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A connection attempt to a host in reach takes far less; one to a dead host must not use up a request's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Servers and what stands between drop connections that are idle for minutes; ours go first.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Idle connections kept per endpoint: what a burst of all controllers uses again at once.
const IDLE_CONNECTIONS: usize = 16;
/// Exchanges under way at once per endpoint: more only wait in the server instead of here.
const CONNECTIONS: usize = 64;
/// The longest body that is read: a page of 500 of the largest objects is far shorter.
const BODY_LIMIT: usize = 256 << 20;

/// What an API server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// The whole body.
    pub body: Bytes,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The request certainly had no effect.
    Clean(String),
    /// It may have had one.
    Dirty(String),
}

/// A connection and the task that drives it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Aborted, and so closed, with the connection.
    _task: AbortOnDrop<()>,
    used: Instant,
}

impl Connection {
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Connects to `address`, secured as `tls` says.
    async fn open(address: &str, tls: &ClientTls) -> Result<Self, String> {
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect_secured(address, tls)).await;
        let stream = match connecting {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("{address}: {error}")),
            Err(elapsed) => return Err(format!("{address}: connecting {elapsed}")),
        };
        // Without it small requests may wait for an acknowledgement; it is no reason not to go on.
        let _ = stream.set_nodelay(true);
        let (sender, connection) =
            http1::handshake(rt::http::Io::new(stream)).await.map_err(|error| format!("{address}: {error}"))?;
        let drive = async move {
            // How it ended shows in the exchange that was under way; an idle one that ends is of no interest.
            let _ = connection.await;
        };
        let task = rt::task::spawn("client-connection", drive).abort_on_drop();
        Ok(Self { sender, _task: task, used: Instant::now() })
    }

    /// Sends a request and waits for the head of the answer. `sent` tells, whenever this is dropped, whether the server
    /// may have seen the request.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        sent: &mut bool,
    ) -> Result<Response<Incoming>, Failed> {
        if let Err(error) = self.sender.ready().await {
            return Err(Failed::Clean(error.to_string()));
        }
        *sent = true;
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(error) if error.message().is_some() => {
                *sent = false;
                Err(Failed::Clean(error.error().to_string()))
            }
            Err(error) => Err(Failed::Dirty(error.error().to_string())),
        }
    }
}

/// The connections to one endpoint.
pub(crate) struct Pool {
    address: String,
    tls: ClientTls,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Pool {
    pub(crate) fn new(address: String, tls: ClientTls) -> Self {
        Self { address, tls, idle: Mutex::default(), permits: Semaphore::new(CONNECTIONS) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A connection of its own.
    pub(crate) async fn open(&self) -> Result<Connection, String> {
        Connection::open(&self.address, &self.tls).await
    }

    /// One request and its whole answer, within `limit`.
    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<Answer, Failed> {
        let mut sent = false;
        match timeout(limit, self.exchange_whole(request, &mut sent)).await {
            Ok(result) => result,
            Err(_) => {
                // Whatever is idle leads to the same silence.
                self.lock().clear();
                let what = format!("{}: no answer within {} ms", self.address, limit.as_millis());
                Err(if sent { Failed::Dirty(what) } else { Failed::Clean(what) })
            }
        }
    }

    async fn exchange_whole(&self, request: Request<Full<Bytes>>, sent: &mut bool) -> Result<Answer, Failed> {
        let _permit = self.permits.acquire().await.map_err(|closed| Failed::Clean(closed.to_string()))?;
        // A kept connection may have been closed at the other end: that costs an attempt on it, not the request.
        while let Some(mut connection) = self.take() {
            match connection.send(request.clone(), sent).await {
                Ok(response) => return self.finish(connection, response).await,
                Err(Failed::Clean(_)) => {}
                Err(Failed::Dirty(why)) => return Err(Failed::Dirty(format!("{}: {why}", self.address))),
            }
        }
        let mut connection = self.open().await.map_err(Failed::Clean)?;
        let response = connection.send(request, sent).await?;
        self.finish(connection, response).await
    }

    /// Reads the body, and keeps the connection.
    async fn finish(&self, mut connection: Connection, response: Response<Incoming>) -> Result<Answer, Failed> {
        let response = whole(response).await?;
        connection.used = Instant::now();
        let mut idle = self.lock();
        if !connection.sender.is_closed() && idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
        Ok(response)
    }

    /// The connection used last, so that surplus ones grow old.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.lock();
        idle.retain(|connection| !connection.sender.is_closed() && connection.used.elapsed() < IDLE_LIMIT);
        idle.pop()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an answer to its end.
pub(crate) async fn whole(response: Response<Incoming>) -> Result<Answer, Failed> {
    let (head, body) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after_s = retry_after.and_then(|seconds| seconds.trim().parse().ok());
    let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|error| Failed::Dirty(error.to_string()))?;
    Ok(Answer { code: head.status.as_u16(), body: body.to_bytes(), retry_after_s })
}
