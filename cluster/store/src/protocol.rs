//! What travels between a client and a member.
//!
//! Both sides begin a connection with a preamble ([`PREAMBLE`]: magic and version) and neither waits for the other's
//! before it sends more. Then come frames: the length of the rest as `u32` little-endian, and a [`ToMember`] or
//! [`ToClient`] in postcard. The client numbers its requests; answers come in any order. A watch is a request with many
//! answers, the last of which is [`WatchResponse::Canceled`] unless the client ends it.
//!
//! ```text
//! client ─ PREAMBLE · {1, Request(Put)} · {2, Watch} · {3, Request(Range)} ───────────────▶ member
//! client ◀── PREAMBLE · {3, Response(Range)} · {1, Response(Put)} · {2, Watch(Events)} · … ─ member
//! ```
//!
//! **Invariant:** a frame longer than its bound is refused before anything of it is kept
//! (`an_overlong_frame_is_refused_at_its_header`).

use crate::types::{ClientError, MAX_REQUEST_BYTES, Request, Response, WatchRequest, WatchResponse};
use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Version of the wire's form. Each side refuses every other one.
pub const WIRE_VERSION: u8 = 1;
/// How a connection between client and member begins, in both directions.
pub const PREAMBLE: [u8; 5] = *b"SWKV\x01";
/// Bytes of a frame to a member: a request, and room for what is around it.
pub const MAX_REQUEST_FRAME: usize = MAX_REQUEST_BYTES + 64 * 1024;
/// Bytes of a frame to a client. A read of all keys is one frame, and so are all events of one revision; 64 MiB is more
/// than a list of ten thousand Kubernetes objects, and what a client must be ready to hold. Who wants more asks for pages.
pub const MAX_RESPONSE_FRAME: usize = 64 * 1024 * 1024;
/// Bytes before a frame that say its length.
pub const FRAME_HEADER: usize = 4;

/// A client's frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ToMember {
    /// The client's number for it: used once in a connection. Of [`ToMemberBody::CancelWatch`]: the watch's.
    pub id: u64,
    /// What it asks.
    pub body: ToMemberBody,
}

/// What a client's frame asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum ToMemberBody {
    /// One answer, please.
    Request(Request),
    /// A watch: answers until it is cancelled by either side.
    Watch(WatchRequest),
    /// No more of the watch with this frame's id. What is on its way may still arrive.
    CancelWatch,
}

/// A member's frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ToClient {
    /// The number of what is answered.
    pub id: u64,
    /// The answer.
    pub body: ToClientBody,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum ToClientBody {
    /// Done.
    Response(Response),
    /// Not done, or not known to be; to a watch: it never began, or is over.
    Error(ClientError),
    /// The next of a watch.
    Watch(WatchResponse),
}

/// Appends `message` as a frame to `out`.
///
/// # Errors
/// It is longer than `max`; nothing was appended.
pub fn put_frame<T: Serialize>(out: &mut Vec<u8>, message: &T, max: usize) -> Result<(), FrameTooLong> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER]);
    let taken = std::mem::take(out);
    *out = postcard::to_extend(message, taken).expect("plain data encodes into memory");
    let length = out.len() - start - FRAME_HEADER;
    if length > max {
        out.truncate(start);
        return Err(FrameTooLong { length, max });
    }
    let length = u32::try_from(length).expect("bounds of frames are below 4 GiB");
    out[start..start + FRAME_HEADER].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// A message is longer than a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {length} bytes exceeds the {max} that a frame may have")]
pub struct FrameTooLong {
    /// Its bytes.
    pub length: usize,
    /// The bound.
    pub max: usize,
}

/// Takes the next whole frame's content off `input`, if it is there.
///
/// # Errors
/// The other side announces a frame longer than `max`: it is broken or foreign, and the connection is to be closed.
pub fn take_frame(input: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameTooLong> {
    let Some(header) = input.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
    let length = u32::from_le_bytes(*header) as usize;
    if length > max {
        return Err(FrameTooLong { length, max });
    }
    if input.len() < FRAME_HEADER + length {
        return Ok(None);
    }
    input.advance(FRAME_HEADER);
    Ok(Some(input.split_to(length).freeze()))
}

/// Decodes a frame's content.
///
/// # Errors
/// `InvalidData`: it is not of this version's form; the connection is to be closed.
pub fn decode<T: DeserializeOwned>(content: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(content) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(invalid(format!("a frame has {} bytes too many", rest.len()))),
        Err(error) => Err(invalid(format!("a frame does not decode: {error}"))),
    }
}

/// Checks the other side's preamble.
///
/// # Errors
/// `InvalidData`: it speaks another protocol, or another version of this one.
pub fn check_preamble(found: &[u8; PREAMBLE.len()], expected: &[u8; PREAMBLE.len()]) -> io::Result<()> {
    let (magic, version) = (&found[..4], found[4]);
    if magic != &expected[..4] {
        return Err(invalid("the other side does not speak this protocol".to_owned()));
    }
    if version != expected[4] {
        return Err(invalid(format!("the other side speaks version {version}, and this build only {}", expected[4])));
    }
    Ok(())
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads frames off a stream, several per read where they come together.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    input: BytesMut,
    max: usize,
}

/// Bytes asked for in one read: several small frames, and few reads for a large one.
const READ_BYTES: usize = 16 * 1024;

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `max` bytes.
    pub fn new(stream: R, max: usize) -> Self {
        Self { stream, input: BytesMut::new(), max }
    }

    /// Reads and checks the other side's preamble. Comes before the first frame.
    ///
    /// # Errors
    /// The stream broke, ended, or begins otherwise.
    pub async fn preamble(&mut self, expected: &[u8; PREAMBLE.len()]) -> io::Result<()> {
        while self.input.len() < PREAMBLE.len() {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let found = *self.input.first_chunk().expect("it was just filled");
        check_preamble(&found, expected)?;
        self.input.advance(PREAMBLE.len());
        Ok(())
    }

    /// The next frame's content; `None` when the stream ended between frames. May be dropped and called again.
    ///
    /// # Errors
    /// The stream broke, ended within a frame, or announced an overlong one.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return if self.input.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next frame's content if it is here already.
    ///
    /// # Errors
    /// An overlong one was announced.
    pub fn buffered(&mut self) -> io::Result<Option<Bytes>> {
        take_frame(&mut self.input, self.max).map_err(|error| invalid(error.to_string()))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.input.reserve(READ_BYTES);
        self.stream.read_buf(&mut self.input).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PutRequest, RefusedKind};

    fn messages() -> Vec<ToMember> {
        let put = Request::Put(PutRequest { key: "a".into(), value: "b".into(), ..PutRequest::default() });
        vec![
            ToMember { id: 1, body: ToMemberBody::Request(put) },
            ToMember { id: 2, body: ToMemberBody::Watch(WatchRequest { key: "a".into(), ..WatchRequest::default() }) },
            ToMember { id: 2, body: ToMemberBody::CancelWatch },
        ]
    }

    #[test]
    fn frames_cut_anywhere_come_out_whole_and_in_order() {
        let mut wire = Vec::new();
        for message in messages() {
            put_frame(&mut wire, &message, MAX_REQUEST_FRAME).unwrap();
        }
        for cut in 0..=wire.len() {
            let (mut input, mut found) = (BytesMut::new(), Vec::new());
            for part in [&wire[..cut], &wire[cut..]] {
                input.extend_from_slice(part);
                while let Some(content) = take_frame(&mut input, MAX_REQUEST_FRAME).unwrap() {
                    found.push(decode::<ToMember>(&content).unwrap());
                }
            }
            assert_eq!(found, messages(), "cut at {cut}");
        }
    }

    #[test]
    fn an_overlong_frame_is_refused_at_its_header() {
        let mut input = BytesMut::from(&9_u32.to_le_bytes()[..]);
        assert_eq!(take_frame(&mut input, 8), Err(FrameTooLong { length: 9, max: 8 }));
    }

    #[test]
    fn a_message_that_does_not_fit_leaves_nothing_behind() {
        let mut out = b"before".to_vec();
        assert!(put_frame(&mut out, &messages()[0], 3).is_err());
        assert_eq!(&out[..], b"before");
    }

    #[test]
    fn a_foreign_preamble_and_another_version_are_told_apart() {
        let error = |found: &[u8; 5]| check_preamble(found, &PREAMBLE).unwrap_err().to_string();
        assert!(check_preamble(&PREAMBLE, &PREAMBLE).is_ok());
        assert_eq!(error(b"HTTP/"), "the other side does not speak this protocol");
        assert_eq!(error(b"SWKV\x02"), "the other side speaks version 2, and this build only 1");
    }

    #[test]
    fn an_answer_keeps_what_is_known_of_the_effect() {
        let body = ToClientBody::Error(ClientError::Refused(RefusedKind::Compacted(7)));
        let mut wire = Vec::new();
        put_frame(&mut wire, &ToClient { id: 3, body: body.clone() }, MAX_RESPONSE_FRAME).unwrap();
        let content = take_frame(&mut BytesMut::from(&wire[..]), MAX_RESPONSE_FRAME).unwrap().unwrap();
        assert_eq!(decode::<ToClient>(&content).unwrap(), ToClient { id: 3, body });
    }
}
