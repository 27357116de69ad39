//! Answers: a document, or a stream of watch events.

use crate::accept::{Encoding, YAML};
use api::{Status, yaml};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// An answer in the making.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status code.
    pub code: u16,
    /// What is not said by the body itself.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// The body of an answer.
pub enum Body {
    /// All of it is there.
    Whole(Option<Bytes>),
    /// It comes bit by bit.
    Stream(Stream),
}

/// A body that is made while it is read: whoever reads it drives `producer`, which hands its chunks over one by one.
pub struct Stream {
    producer: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
    chunks: mpsc::Receiver<Bytes>,
}

impl Reply {
    /// A document that is JSON already.
    pub fn json(code: u16, body: Vec<u8>) -> Self {
        Self::document(code, "application/json", body)
    }

    /// A value as JSON.
    pub fn value(code: u16, value: &impl Serialize) -> Self {
        let mut body = Vec::new();
        crate::stored::write(value, &mut body);
        Self::json(code, body)
    }

    /// Plain text.
    pub fn text(code: u16, text: String) -> Self {
        Self::document(code, "text/plain; charset=utf-8", text.into_bytes())
    }

    /// A document.
    pub fn document(code: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self::new(code, content_type, Body::Whole(Some(body.into())))
    }

    /// A stream; `make` is given where its chunks go.
    pub fn stream<F>(make: impl FnOnce(mpsc::Sender<Bytes>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // One chunk at a time: what is not read is not made.
        let (sender, chunks) = mpsc::channel(1);
        let producer = Box::pin(make(sender));
        Self::new(200, "application/json", Body::Stream(Stream { producer, ended: false, chunks }))
    }

    fn new(code: u16, content_type: &'static str, body: Body) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        Self { code, headers, body }
    }

    /// The same with a header; one whose value cannot be a header's is left out.
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    /// The same with warnings for the person who asked.
    pub fn with_warnings(self, warnings: &[String]) -> Self {
        warnings.iter().fold(self, |reply, warning| {
            let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            reply.with_header(header::WARNING, &format!("299 - \"{quoted}\""))
        })
    }

    /// The same written in this: JSON's documents can be in anything, others are what they are.
    pub fn encoded(self, encoding: Encoding) -> Self {
        let is_json = self.headers.get(header::CONTENT_TYPE).is_some_and(|it| it.as_bytes() == b"application/json");
        let (Encoding::Yaml, true, Body::Whole(Some(json))) = (encoding, is_json, &self.body) else { return self };
        let Ok(value) = serde_json::from_slice(json) else { return self };
        let mut headers = self.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(YAML));
        Self { code: self.code, headers, body: Body::Whole(Some(yaml::write(&value).into())) }
    }

    /// As hyper sends it.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = self.headers;
        response
    }
}

impl From<Status> for Reply {
    fn from(status: Status) -> Self {
        let reply = Self::value(status.code, &status.body());
        match status.details.retry_after_seconds {
            Some(seconds) if seconds > 0 => reply.with_header(header::RETRY_AFTER, &seconds.to_string()),
            Some(_) | None => reply,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Stream(stream) => stream.poll_chunk(cx).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

impl Stream {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Poll::Ready(chunk) = self.chunks.poll_recv(cx) {
                return Poll::Ready(chunk);
            }
            if self.ended {
                // Its sender is gone with it.
                return Poll::Ready(None);
            }
            match self.producer.as_mut().poll(cx) {
                Poll::Ready(()) => self.ended = true,
                // It may have handed a chunk over before it had to wait.
                Poll::Pending => return self.chunks.poll_recv(cx),
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Whole(bytes) => f.debug_tuple("Whole").field(bytes).finish(),
            Body::Stream(_) => f.write_str("Stream"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[test]
    fn a_stream_is_made_as_it_is_read() {
        rt::task::block_on(async {
            let reply = Reply::stream(|chunks| async move {
                for n in 0..5_u8 {
                    if chunks.send(vec![n].into()).await.is_err() {
                        return;
                    }
                }
            });
            let body = reply.body.collect().await.unwrap().to_bytes();
            assert_eq!(&body[..], [0, 1, 2, 3, 4]);
        });
    }

    #[test]
    fn a_failure_says_when_to_come_back_and_warnings_are_quoted() {
        let reply = Reply::from(Status::too_many_requests("later", 10)).with_warnings(&["unknown field \"a\"".into()]);
        assert_eq!((reply.code, &reply.headers[header::RETRY_AFTER]), (429, &HeaderValue::from_static("10")));
        assert_eq!(reply.headers[header::WARNING], "299 - \"unknown field \\\"a\\\"\"");
    }
}
