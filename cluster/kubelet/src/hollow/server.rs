//! The server in a hollow container: small answers by HTTP/1.1 that say who gives them, and by gRPC how it is.
//!
//! HTTP/1.1 is written out rather than taken from a library: it is asked some tens of times per simulated second and node,
//! and must cost next to nothing.

use super::faults::{HollowFaults, Target};
use super::programs::Program;
use crate::grpc_health::{self, Health};
use rt::net::{TcpListener, TcpStream};
use rt::task::AbortOnDrop;
use rt::time::{Instant, sleep, timeout};
use std::future::pending;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

/// A head of a request is a few hundred bytes; who sends more means something else.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// What a connection by HTTP/2 begins with, up to the end of what looks like a head (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// A body is read and dropped; who sends more is cut off.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// A connection on which nothing comes is closed, so that peers that are gone leave nothing behind.
const IDLE: Duration = Duration::from_secs(120);
/// Connections that one port serves at once; further ones are closed. A simulated node sees some tens.
const MAX_CONNECTIONS: usize = 512;
/// After a failed accept: the cause is a lack of something, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server shows: who it is and how it feels.
pub(super) struct Face {
    pub(super) target: Target,
    pub(super) program: Program,
    pub(super) faults: HollowFaults,
    pub(super) body: String,
    /// When this process began to run the container, for what changes with time.
    pub(super) since: Instant,
    /// How long the container had run before.
    pub(super) ran: Duration,
}

impl Face {
    pub(super) fn hangs(&self) -> bool {
        self.program.hangs || self.faults.lasting(&self.target).hang
    }

    pub(super) fn is_ready(&self) -> bool {
        let lasting = self.faults.lasting(&self.target);
        let flaps = lasting.flap.or(self.program.flaps).filter(|every| !every.is_zero());
        let age = self.ran + self.since.elapsed();
        let down = flaps.is_some_and(|every| (age.as_millis() / every.as_millis().max(1)).is_multiple_of(2));
        let started = age >= self.program.starts_after;
        started && !self.program.never_ready && !lasting.unready && !down
    }

    fn slow(&self) -> Duration {
        self.faults.lasting(&self.target).slow.unwrap_or(self.program.slow)
    }
}

/// One port that is served, until this is dropped.
pub(super) struct Server {
    drain: Option<oneshot::Sender<()>>,
    _task: AbortOnDrop<()>,
}

impl Server {
    pub(super) fn start(listener: TcpListener, face: Arc<Face>) -> Server {
        let (drain, draining) = oneshot::channel();
        let task = rt::task::spawn("hollow-server", serve(listener, face, draining));
        Server { drain: Some(drain), _task: task.abort_on_drop() }
    }

    /// Stops accepting, and goes on with the connections that there are.
    pub(super) fn drain(&mut self) {
        self.drain = None;
    }
}

async fn serve(listener: TcpListener, face: Arc<Face>, mut draining: oneshot::Receiver<()>) {
    let mut connections: Vec<AbortOnDrop<()>> = Vec::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut draining => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.retain(|connection| !connection.is_finished());
                if connections.len() < MAX_CONNECTIONS {
                    let face = face.clone();
                    let task = rt::task::spawn("hollow-connection", async move {
                        // A connection that breaks is the business of the peer alone.
                        drop(converse(stream, &face).await);
                    });
                    connections.push(task.abort_on_drop());
                }
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    pending::<()>().await;
    drop(connections);
}

/// Answers request after request.
async fn converse(mut stream: TcpStream, face: &Face) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(1024);
    loop {
        let Some(request) = read_request(&mut stream, &mut buffer).await? else { return Ok(()) };
        if request.http2 {
            let stream = preceded(HTTP2_PREFACE, buffer, stream);
            return grpc_health::serve(stream, IDLE, |service| health(service, face)).await;
        }
        if face.hangs() {
            return pending().await;
        }
        let slow = face.slow();
        if !slow.is_zero() {
            sleep(slow).await;
        }
        stream.write_all(answer(&request, face).as_bytes()).await?;
        stream.flush().await?;
        if request.close {
            return stream.shutdown().await;
        }
    }
}

/// What gRPC's health protocol says of a service of this server; `None` if there is none of that name.
async fn health(service: String, face: &Face) -> Option<Health> {
    if face.hangs() {
        return pending().await;
    }
    let slow = face.slow();
    if !slow.is_zero() {
        sleep(slow).await;
    }
    match service.as_str() {
        "liveness" => Some(Health::Serving),
        "" | "readiness" if face.is_ready() => Some(Health::Serving),
        "" | "readiness" => Some(Health::NotServing),
        _ => None,
    }
}

/// A stream whose first bytes have been read already.
fn preceded(head: &'static [u8], rest: Vec<u8>, stream: TcpStream) -> impl AsyncRead + AsyncWrite + Unpin {
    let (reader, writer) = tokio::io::split(stream);
    tokio::io::join(head.chain(Cursor::new(rest)).chain(reader), writer)
}

struct Request {
    /// It is the beginning of HTTP/2, and what follows is of that.
    http2: bool,
    path: String,
    head_only: bool,
    close: bool,
}

/// The next request; `None` when the peer has no more.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > MAX_HEAD_BYTES || !more(stream, buffer).await? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let old = words.next() == Some("HTTP/1.0");
    let http2 = head.as_bytes() == HTTP2_PREFACE;
    let mut request = Request { http2, path: path.to_owned(), head_only: method == "HEAD", close: old };
    let mut body = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            body = value.trim().parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("connection") {
            request.close = value.trim().eq_ignore_ascii_case("close");
        }
    }
    if body > MAX_BODY_BYTES {
        return Ok(None);
    }
    while buffer.len() < end + body {
        if !more(stream, buffer).await? {
            return Ok(None);
        }
    }
    buffer.drain(..end + body);
    Ok(Some(request))
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    match timeout(IDLE, stream.read_buf(buffer)).await {
        Ok(read) => Ok(read? > 0),
        Err(_) => Ok(false),
    }
}

fn answer(request: &Request, face: &Face) -> String {
    let path = request.path.split('?').next().unwrap_or_default();
    let (line, body) = match path {
        "/healthz" | "/readyz" if !face.is_ready() => ("503 Service Unavailable", "{\"ready\":false}"),
        _ => ("200 OK", face.body.as_str()),
    };
    let close = if request.close { "Connection: close\r\n" } else { "" };
    let shown = if request.head_only { "" } else { body };
    let length = body.len();
    format!("HTTP/1.1 {line}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{close}\r\n{shown}")
}
