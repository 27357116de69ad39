//! gRPC's health checking protocol, from both ends: one `grpc.health.v1.Health/Check` on a connection of its own.
//!
//! The two messages have one field each and are written out here; HTTP/2 is the library's.
//! Source: the gRPC project's documents "GRPC Health Checking Protocol" and "gRPC over HTTP2".

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use rt::time::timeout;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// gRPC's status code of a call that succeeded.
const OK: u32 = 0;
/// Of one whose answer cannot be understood.
const UNKNOWN: u32 = 2;
/// Of a service that the server does not know.
const NOT_FOUND: u32 = 5;
/// Of a method that the server does not have.
pub(crate) const UNIMPLEMENTED: u32 = 12;

const PATH: &str = "/grpc.health.v1.Health/Check";
const CONTENT_TYPE: &str = "application/grpc";
const GRPC_STATUS: &str = "grpc-status";
const GRPC_MESSAGE: &str = "grpc-message";
/// A message is a name or a number; what is longer means something else.
const MAX_MESSAGE_BYTES: usize = 4096;

/// `HealthCheckResponse.ServingStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
}

impl Health {
    /// As the protocol names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Health::Unknown => "UNKNOWN",
            Health::Serving => "SERVING",
            Health::NotServing => "NOT_SERVING",
            Health::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }

    fn number(self) -> u8 {
        match self {
            Health::Unknown => 0,
            Health::Serving => 1,
            Health::NotServing => 2,
            Health::ServiceUnknown => 3,
        }
    }

    fn of(number: u64) -> Self {
        let known = [Health::Unknown, Health::Serving, Health::NotServing, Health::ServiceUnknown];
        known.into_iter().find(|it| u64::from(it.number()) == number).unwrap_or(Health::Unknown)
    }
}

/// Why nothing is known of a server's health.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrpcError {
    /// The connection broke, or what came over it is no HTTP/2.
    #[error("connection error: {0}")]
    Http2(#[from] h2::Error),
    /// The server answered with a status of HTTP alone.
    #[error("unexpected HTTP status code received from server: {0}")]
    Http(StatusCode),
    /// The call failed, by gRPC's code.
    #[error("rpc error: code = {code} desc = {message}")]
    Status {
        /// gRPC's status code.
        code: u32,
        /// What the server adds.
        message: String,
    },
}

/// Asks the server at the other end how a service of it is; an empty name stands for the server as a whole. Takes as long
/// as the server does: whoever calls sets the limit.
///
/// # Errors
/// What kept the server from saying so.
pub(crate) async fn check<S>(stream: S, authority: &str, service: &str) -> Result<Health, GrpcError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, connection) = client::handshake(stream).await?;
    let mut call = pin!(call(sender, authority, service));
    tokio::select! {
        biased;
        answer = &mut call => answer,
        // With it ends what is open on it: with the answer if that came in the same moment, or with why there is none.
        _ = connection => call.await,
    }
}

async fn call(sender: client::SendRequest<Bytes>, authority: &str, service: &str) -> Result<Health, GrpcError> {
    let request = Request::post(format!("http://{authority}{PATH}"))
        .header(http::header::CONTENT_TYPE, CONTENT_TYPE)
        .header(http::header::USER_AGENT, "kube-probe/1.35")
        .header(http::header::TE, "trailers")
        .body(())
        .map_err(|error| GrpcError::Status { code: UNKNOWN, message: error.to_string() })?;
    let mut sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(frame(&service_message(service)), true)?;
    let response = response.await?;
    if response.status() != StatusCode::OK {
        return Err(GrpcError::Http(response.status()));
    }
    let (head, mut body) = response.into_parts();
    // A call that fails at once has its status among the headers.
    status(&head.headers)?;
    let message = read_message(&mut body).await?;
    if let Some(trailers) = body.trailers().await? {
        status(&trailers)?;
    }
    let said = message.as_deref().and_then(number_of).map(Health::of);
    said.ok_or_else(|| GrpcError::Status { code: UNKNOWN, message: "the answer holds no status".to_owned() })
}

/// The failure that headers or trailers tell of, if they do.
fn status(headers: &HeaderMap) -> Result<(), GrpcError> {
    let Some(code) = headers.get(GRPC_STATUS) else { return Ok(()) };
    let code = code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
    if code == OK {
        return Ok(());
    }
    let message = headers.get(GRPC_MESSAGE).map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    Err(GrpcError::Status { code, message: message.unwrap_or_default() })
}

/// Answers every check on a connection, until the peer ends it or asks nothing for so long. `health` says how a service
/// is, or that there is none of that name.
pub(crate) async fn serve<S, F>(stream: S, idle: Duration, health: impl Fn(String) -> F) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Option<Health>>,
{
    let mut connection = server::handshake(stream).await.map_err(io::Error::other)?;
    loop {
        let accepted = match timeout(idle, connection.accept()).await {
            Ok(Some(accepted)) => accepted.map_err(io::Error::other)?,
            Ok(None) => return Ok(()),
            Err(_) => {
                connection.graceful_shutdown();
                continue;
            }
        };
        let (request, respond) = accepted;
        let mut answering = pin!(answer(request, respond, &health));
        // What is answered goes out, and what is asked comes in, only while the connection is polled.
        let answered = poll_fn(|context| {
            let closed = connection.poll_closed(context);
            match (answering.as_mut().poll(context), closed) {
                (Poll::Ready(result), _) => Poll::Ready(result.map_err(io::Error::other)),
                (Poll::Pending, Poll::Ready(closed)) => Poll::Ready(closed.map_err(io::Error::other)),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        });
        answered.await?;
    }
}

async fn answer<F>(
    request: Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    health: &impl Fn(String) -> F,
) -> Result<(), h2::Error>
where
    F: Future<Output = Option<Health>>,
{
    let known = request.uri().path() == PATH;
    let (_, mut body) = request.into_parts();
    let message = read_message(&mut body).await?;
    let service = message.as_deref().and_then(service_of);
    let (code, serving) = match (known, service) {
        (false, _) => (UNIMPLEMENTED, None),
        (true, None) => (UNKNOWN, None),
        (true, Some(service)) => match health(service).await {
            Some(serving) => (OK, Some(serving)),
            None => (NOT_FOUND, None),
        },
    };
    let mut head = Response::new(());
    head.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    let mut stream: SendStream<Bytes> = respond.send_response(head, false)?;
    if let Some(serving) = serving {
        stream.send_data(frame(&[STATUS_TAG, serving.number()]), false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(code));
    stream.send_trailers(trailers)
}

/// Field 1 as bytes: `HealthCheckRequest.service`.
const SERVICE_TAG: u8 = 0x0a;
/// Field 1 as a number: `HealthCheckResponse.status`.
const STATUS_TAG: u8 = 0x08;
/// Before each message: whether it is compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// A message as gRPC sends it.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

fn service_message(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 4);
    if !service.is_empty() {
        message.push(SERVICE_TAG);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    message
}

/// The whole of the one message that a body holds; `None` if there is none, or it cannot be understood.
async fn read_message(body: &mut RecvStream) -> Result<Option<Vec<u8>>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
        if bytes.len() > FRAME_HEAD_BYTES + MAX_MESSAGE_BYTES {
            return Ok(None);
        }
    }
    let Some((mut head, message)) = bytes.split_at_checked(FRAME_HEAD_BYTES) else { return Ok(None) };
    let plain = head.get_u8() == 0 && head.get_u32() as usize == message.len();
    Ok(plain.then(|| message.to_vec()))
}

/// Which service is asked for.
fn service_of(message: &[u8]) -> Option<String> {
    let Some((&tag, mut rest)) = message.split_first() else { return Some(String::new()) };
    if tag != SERVICE_TAG {
        return None;
    }
    let length = take_varint(&mut rest)?;
    let name = rest.get(..usize::try_from(length).ok()?)?;
    String::from_utf8(name.to_vec()).ok()
}

/// The number of the status that an answer holds; that which is zero is left out.
fn number_of(message: &[u8]) -> Option<u64> {
    let Some((&tag, mut rest)) = message.split_first() else { return Some(0) };
    if tag == STATUS_TAG { take_varint(&mut rest) } else { None }
}

fn put_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
