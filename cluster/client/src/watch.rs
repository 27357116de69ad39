//! One watch: a stream of events from one API server, over a connection of its own.

use crate::client::Boxed;
use crate::codec::Codec;
use crate::error::{Error, from_wire};
use crate::held::{Erased, take};
use crate::recent;
use crate::transport::Connection;
use api::meta::v1;
use api::{Object, ObjectExt};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mark::sometimes;
use rt::time::timeout;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

/// The longest event: an object of the largest size, with room.
const EVENT_LIMIT: usize = 16 << 20;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent<T> {
    /// The object is new, or new to what was selected.
    Added(T),
    /// It was changed.
    Modified(T),
    /// It is gone, or no longer selected. This is its last state, under the version at which it went.
    Deleted(T),
    /// Everything up to this version was told.
    Bookmark(i64),
}

impl<T> WatchEvent<T> {
    pub(crate) fn map<U>(self, object: impl FnOnce(T) -> U) -> WatchEvent<U> {
        match self {
            WatchEvent::Added(new) => WatchEvent::Added(object(new)),
            WatchEvent::Modified(new) => WatchEvent::Modified(object(new)),
            WatchEvent::Deleted(old) => WatchEvent::Deleted(object(old)),
            WatchEvent::Bookmark(revision) => WatchEvent::Bookmark(revision),
        }
    }
}

/// The events of a watch, in order of version. Dropping it closes its connection.
pub struct WatchStream<T> {
    events: Events,
    kind: PhantomData<fn() -> T>,
}

impl<T: Object> WatchStream<T> {
    pub(crate) fn new(events: Events) -> Self {
        Self { events, kind: PhantomData }
    }

    /// The next event; `None` at the end, after which a watch from the last version goes on. May be dropped while it
    /// waits.
    ///
    /// # Errors
    /// `Status` as the server says it, of code 410 when the version is gone; `Unreachable` when the connection broke, or
    /// when nothing came for the idle timeout. Nothing follows an error.
    pub async fn next(&mut self) -> Option<Result<WatchEvent<T>, Error>> {
        let line = self.events.next_line_boxed().await?;
        let event = line.and_then(|line| (self.events.codec.event)(&line));
        self.events.over |= event.is_err();
        Some(event.map(|event| event.map(take)))
    }

    /// Whether the connection behind it is still there; for tests.
    pub fn is_over(&self) -> bool {
        self.events.over || self.events.connection.is_closed()
    }
}

/// What a watch tells next, or why it tells nothing more.
type Told = Result<WatchEvent<Erased>, Error>;

/// The next line of a watch, or why there is none.
type Line = Result<Bytes, Error>;

/// A [`WatchStream`] of a type that only its user knows.
pub(crate) struct Events {
    connection: Connection,
    body: Incoming,
    buffer: BytesMut,
    /// Up to where the buffer is known to hold no end of line.
    scanned: usize,
    idle_timeout: Duration,
    endpoint: usize,
    over: bool,
    codec: &'static Codec,
}

impl Events {
    pub(crate) fn new(
        codec: &'static Codec,
        connection: Connection,
        body: Incoming,
        idle_timeout: Duration,
        endpoint: usize,
    ) -> Self {
        Self { connection, body, buffer: BytesMut::new(), scanned: 0, idle_timeout, endpoint, over: false, codec }
    }

    /// Which of the client's endpoints it comes from.
    pub(crate) fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// See [`WatchStream::next`]. Objects are shared with others who are told the same.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        let line = self.next_line().await?;
        let event = line.and_then(|line| recent::event(self.codec, &line));
        // Nothing follows a line that cannot be read.
        self.over |= event.is_err();
        Some(event)
    }

    /// The next line that is not empty.
    async fn next_line(&mut self) -> Option<Line> {
        loop {
            if self.over {
                return None;
            }
            if let Some(line) = self.line() {
                if line.is_empty() {
                    continue;
                }
                return Some(Ok(line.freeze()));
            }
            let frame = timeout(self.idle_timeout, self.body.frame()).await;
            let problem = match frame {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if self.buffer.len() + data.len() <= EVENT_LIMIT => {
                        self.buffer.extend_from_slice(&data);
                        continue;
                    }
                    Ok(_) => Error::Malformed("an event of a watch is too long".to_owned()),
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => Error::Unreachable(error.to_string()),
                Ok(None) => {
                    self.over = true;
                    return None;
                }
                Err(_) => {
                    sometimes!("watch was silent for too long");
                    Error::Unreachable(format!("a watch was silent for {} s", self.idle_timeout.as_secs()))
                }
            };
            self.over = true;
            return Some(Err(problem));
        }
    }

    /// The same for other crates, none of which has to compile it.
    fn next_line_boxed(&mut self) -> Boxed<'_, Option<Line>> {
        Box::pin(self.next_line())
    }

    /// The next whole line, without its end.
    fn line(&mut self) -> Option<BytesMut> {
        match memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
            Some(found) => {
                let mut line = self.buffer.split_to(self.scanned + found + 1);
                line.truncate(line.len() - 1);
                self.scanned = 0;
                Some(line)
            }
            None => {
                self.scanned = self.buffer.len();
                None
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Wire<'a, T> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    object: T,
}

/// What every object has, whatever else is wrong with it.
#[derive(Deserialize, Serialize)]
struct Bare {
    #[serde(default)]
    metadata: v1::ObjectMeta,
}

/// An event from its line.
pub(crate) fn decode<T: Object>(line: &[u8]) -> Result<WatchEvent<T>, Error> {
    match serde_json::from_slice::<Wire<'_, T>>(line) {
        Ok(event) => match &*event.kind {
            "ADDED" => Ok(WatchEvent::Added(event.object)),
            "MODIFIED" => Ok(WatchEvent::Modified(event.object)),
            "DELETED" => Ok(WatchEvent::Deleted(event.object)),
            "BOOKMARK" => Ok(WatchEvent::Bookmark(revision_of(event.object.resource_version()))),
            other => Err(Error::Malformed(format!("a watch told of an event {other:?}"))),
        },
        Err(error) => {
            let object = serde_json::from_slice(&decode_other(line, &error)?).map_err(|error| malformed(&error))?;
            Ok(WatchEvent::Deleted(object))
        }
    }
}

/// An event that holds no object of the kind: a failure, or an object that is none. What cannot be read does not exist
/// for this process: it is told as deleted, so that one bad object neither ends the watch nor stays as it was. Gives that
/// object as JSON, with its metadata alone.
fn decode_other(line: &[u8], error: &serde_json::Error) -> Result<Vec<u8>, Error> {
    if let Ok(event) = serde_json::from_slice::<Wire<'_, v1::Status>>(line)
        && event.kind == "ERROR"
    {
        return Err(Error::Status(Box::new(from_wire(200, event.object))));
    }
    let bare = serde_json::from_slice::<Wire<'_, Bare>>(line).map_err(|_| malformed(error))?;
    if bare.kind == "ERROR" {
        return Err(malformed(error));
    }
    sometimes!("object in a watch could not be read");
    tracing::warn!(%error, name = bare.object.metadata.name, "an object cannot be read; it counts as deleted");
    serde_json::to_vec(&bare.object).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::Malformed(format!("an event of a watch: {error}"))
}

/// A version as a number; 0 for what is none.
pub(crate) fn revision_of(resource_version: &str) -> i64 {
    resource_version.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::v1::ConfigMap;
    use expect_test::{Expect, expect};

    fn check(line: &str, expected: Expect) {
        let told = |kind: &str, map: &ConfigMap| format!("{kind} {} at {}", map.name(), map.resource_version());
        let event = match decode::<ConfigMap>(line.as_bytes()) {
            Ok(WatchEvent::Added(map)) => told("added", &map),
            Ok(WatchEvent::Modified(map)) => told("modified", &map),
            Ok(WatchEvent::Deleted(map)) => told("deleted", &map),
            Ok(WatchEvent::Bookmark(revision)) => format!("bookmark at {revision}"),
            Err(error) => format!("{} {error}", error.code()),
        };
        expected.assert_eq(&event);
    }

    #[test]
    fn reads_every_type_of_event() {
        let object = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"7"}}"#;
        check(&format!(r#"{{"type":"ADDED","object":{object}}}"#), expect!["added a at 7"]);
        check(&format!(r#"{{"object":{object},"type":"MODIFIED"}}"#), expect!["modified a at 7"]);
        check(&format!(r#"{{"type":"DELETED","object":{object}}}"#), expect!["deleted a at 7"]);
        let bookmark = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"9"}}"#;
        check(&format!(r#"{{"type":"BOOKMARK","object":{bookmark}}}"#), expect!["bookmark at 9"]);
        check(
            &format!(r#"{{"type":"SONG","object":{object}}}"#),
            expect![[r#"0 the answer cannot be understood: a watch told of an event "SONG""#]],
        );
    }

    #[test]
    fn an_error_has_its_status() {
        let status = r#"{"kind":"Status","apiVersion":"v1","code":410,"reason":"Expired","message":"too old"}"#;
        check(&format!(r#"{{"type":"ERROR","object":{status}}}"#), expect!["410 too old"]);
    }

    #[test]
    fn an_object_that_cannot_be_read_counts_as_deleted() {
        let object = r#"{"kind":"ConfigMap","apiVersion":"v1","data":7,"metadata":{"name":"a","resourceVersion":"7"}}"#;
        check(&format!(r#"{{"type":"MODIFIED","object":{object}}}"#), expect!["deleted a at 7"]);
    }
}
