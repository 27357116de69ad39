//! Shipping a snapshot to a follower that needs entries which the leader's log no longer has.
//!
//! ```text
//! leader:   Body::Snapshot ─▶ ship: newest snapshot file ─▶ offer, chunks ─▶ ... ─▶ verdict ─▶ report_snapshot
//! follower: receive: chunks, checksums ─▶ decode ─▶ save durably ─▶ loop: step Body::Snapshot ─▶ install
//! ```
//!
//! Each snapshot has a connection of its own, so that heartbeats never queue behind it. The receiver says a byte for each
//! chunk, and while it decodes and saves; a side that hears nothing for [`SILENCE`] gives up, and the leader tries anew.
//!
//! **Invariant:** Raft sees the message only when the whole snapshot is verified and durable
//! (test `a_snapshot_cut_short_or_damaged_is_refused`).

use super::input::Input;
use super::peer::{Hello, MAX_FRAME, dial};
use super::shared::Shared;
use crate::format::Format;
use crate::protocol::{FrameReader, decode, put_frame};
use crate::snapshot_file::SnapshotDir;
use crate::state::StateMachine;
use bytes::Bytes;
use raft::{Body, Message, NodeId, SnapshotMeta};
use rt::net::{OwnedReadHalf, OwnedWriteHalf, TcpStream};
use rt::time::{sleep, timeout};
use rt::tls::ClientTls;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};

/// Either side gives up after this long without a sign of life. Above the slowest round trip that still makes sense, and
/// low, because the leader sends the follower nothing else meanwhile.
const SILENCE: Duration = Duration::from_secs(3);

/// While it decodes and saves, the receiver says a byte this often.
const PULSE: Duration = Duration::from_millis(500);

/// Snapshots received at once: that of a new leader must not wait for that of an old one to time out. Each needs memory
/// for a whole state.
const MAX_RECEIVING: usize = 2;

/// Largest snapshot: the quota, twice, for what surrounds keys and values.
const MAX_SNAPSHOT: u64 = 16 << 30;

/// The receiver is still there.
const ALIVE: u8 = 0;
/// The snapshot is durable at the receiver, or not needed.
const TAKEN: u8 = 1;

/// What a shipment begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Offer {
    /// The message for Raft.
    message: Message,
    /// Bytes that follow in chunks.
    length: u64,
}

/// One piece of it: large beside what surrounds it, and no more than a moment even on a slow link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chunk {
    crc32c: u32,
    data: Bytes,
}

/// A snapshot that came whole and is durable.
pub struct Received {
    /// To be stepped.
    pub message: Message,
    /// What the snapshot stands for.
    pub meta: SnapshotMeta,
    /// The state in it.
    pub state: StateMachine,
}

/// What is needed to receive snapshots.
#[derive(Clone)]
pub struct Incoming {
    snapshots: Arc<SnapshotDir>,
    shared: Arc<Shared>,
    reads: Format,
    gate: Arc<Semaphore>,
}

impl Incoming {
    /// Saves to `snapshots` what is newer than `shared` and of no newer format than `reads`.
    pub fn new(snapshots: Arc<SnapshotDir>, shared: Arc<Shared>, reads: Format) -> Self {
        Self { snapshots, shared, reads, gate: Arc::new(Semaphore::new(MAX_RECEIVING)) }
    }
}

/// Ships the newest snapshot in `snapshots` with `message`, whose meta becomes that snapshot's.
///
/// # Errors
/// It was not taken; the follower may be asked again later.
pub async fn ship(
    snapshots: &SnapshotDir,
    (address, tls): (&str, &ClientTls),
    hello: Hello,
    mut message: Message,
) -> io::Result<()> {
    let (meta, data) =
        snapshots.load_newest().await?.ok_or_else(|| io::Error::other("there is no snapshot to ship"))?;
    message.body = Body::Snapshot { meta };
    let (mut reader, writer) = dial(address, tls).await?.into_split();
    tokio::select! {
        biased;
        verdict = await_verdict(&mut reader) => verdict,
        Err(error) = deliver(writer, hello, message, data) => Err(error),
    }
}

/// Writes everything, each piece of the snapshot as a chunk, and then keeps the connection open until it is dropped.
async fn deliver(mut writer: OwnedWriteHalf, hello: Hello, message: Message, data: Vec<Bytes>) -> io::Result<()> {
    let mut out = hello.encode().to_vec();
    let offer = Offer { message, length: data.iter().map(|piece| piece.len() as u64).sum() };
    put_frame(&mut out, &offer, MAX_FRAME).map_err(io::Error::other)?;
    for data in data {
        let chunk = Chunk { crc32c: crc32c::crc32c(&data), data };
        put_frame(&mut out, &chunk, MAX_FRAME).map_err(io::Error::other)?;
        writer.write_all(&out).await?;
        out.clear();
    }
    writer.write_all(&out).await?;
    std::future::pending().await
}

async fn await_verdict(reader: &mut OwnedReadHalf) -> io::Result<()> {
    loop {
        match timeout(SILENCE, reader.read_u8()).await.map_err(|_| io::ErrorKind::TimedOut)?? {
            ALIVE => {}
            TAKEN => return Ok(()),
            other => return Err(io::Error::other(format!("the receiver says {other}, which means nothing"))),
        }
    }
}

/// Receives one snapshot and hands it to the loop.
pub async fn receive(stream: TcpStream, from: NodeId, incoming: Incoming, inbox: &mpsc::Sender<Input>) {
    let Ok(_permit) = incoming.gate.try_acquire() else { return };
    let (reader, mut writer) = stream.into_split();
    match take(reader, &mut writer, from, &incoming, inbox).await {
        // The leader learns it from Raft too if this byte is lost.
        Ok(()) => drop(writer.write_u8(TAKEN).await),
        Err(error) => tracing::warn!(leader = from, %error, "a snapshot was not received"),
    }
}

async fn take(
    reader: OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    from: NodeId,
    incoming: &Incoming,
    inbox: &mpsc::Sender<Input>,
) -> io::Result<()> {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let mut frames = FrameReader::new(reader, MAX_FRAME);
    let Offer { message, length } = decode(&next(&mut frames).await?)?;
    let foreign = || io::Error::other("what is offered is no snapshot of the one who offers it");
    let Body::Snapshot { meta } = &message.body else { return Err(foreign()) };
    if message.from != from || length > MAX_SNAPSHOT {
        return Err(foreign());
    }
    let meta = meta.clone();
    if meta.index <= incoming.shared.applied() {
        // Raft tells the leader how far this member is; it has no use for the bytes.
        return inbox.send(Input::Message(message)).await.map_err(gone);
    }
    let data = collect(&mut frames, writer, length).await?;
    let kept = alive_during(writer, keep(incoming, meta.clone(), data)).await?;
    let received = Received { message, meta, state: kept };
    inbox.send(Input::Received(Box::new(received))).await.map_err(gone)
}

/// The chunks' content, in order.
async fn collect<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    frames: &mut FrameReader<R>,
    writer: &mut W,
    length: u64,
) -> io::Result<Vec<Bytes>> {
    let (mut data, mut missing) = (Vec::new(), length);
    while missing > 0 {
        let chunk: Chunk = decode(&next(frames).await?)?;
        if crc32c::crc32c(&chunk.data) != chunk.crc32c || chunk.data.is_empty() {
            return Err(io::Error::other("a chunk of it is damaged"));
        }
        missing = missing
            .checked_sub(chunk.data.len() as u64)
            .ok_or_else(|| io::Error::other("it is longer than announced"))?;
        data.push(chunk.data);
        writer.write_u8(ALIVE).await?;
    }
    Ok(data)
}

async fn next<R: AsyncRead + Unpin>(frames: &mut FrameReader<R>) -> io::Result<Bytes> {
    let frame = timeout(SILENCE, frames.next()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    frame.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Decodes what came and makes it durable.
async fn keep(incoming: &Incoming, meta: SnapshotMeta, data: Vec<Bytes>) -> io::Result<StateMachine> {
    let encoded = data.clone();
    let decoded = rt::task::unblock("decode a snapshot", move || StateMachine::decode(encoded)).await;
    let state = decoded.and_then(|state| state.within(incoming.reads)).map_err(io::Error::other)?;
    if state.index() != meta.index {
        return Err(io::Error::other(format!("it holds index {} and not {}", state.index(), meta.index)));
    }
    let data_bytes = data.iter().map(Bytes::len).sum();
    incoming.snapshots.save(&meta, data_bytes, data).await?;
    Ok(state)
}

/// Says a byte every so often until `work` is done.
async fn alive_during<T>(writer: &mut OwnedWriteHalf, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep(PULSE) => writer.write_u8(ALIVE).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is collected of these pieces, of which `change` may spoil each, when `length` bytes are announced.
    fn check(length: u64, change: impl Fn(usize, &mut Chunk)) -> Result<Vec<u8>, String> {
        rt::task::block_on(async {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let (reader, mut writer) = tokio::io::split(ours);
            let (_acks, mut sender) = tokio::io::split(theirs);
            let mut out = Vec::new();
            for (at, piece) in [&b"abc"[..], b"de"].into_iter().enumerate() {
                let mut chunk = Chunk { crc32c: crc32c::crc32c(piece), data: piece.into() };
                change(at, &mut chunk);
                put_frame(&mut out, &chunk, MAX_FRAME).unwrap();
            }
            sender.write_all(&out).await.unwrap();
            sender.shutdown().await.unwrap();
            let mut frames = FrameReader::new(reader, MAX_FRAME);
            let collected = collect(&mut frames, &mut writer, length).await;
            collected.map(|pieces| pieces.concat()).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn a_snapshot_cut_short_or_damaged_is_refused() {
        assert_eq!(check(5, |_, _| {}).unwrap(), b"abcde");
        assert_eq!(check(3, |_, _| {}).unwrap(), b"abc", "what follows is not its business");
        assert_eq!(check(4, |_, _| {}).unwrap_err(), "it is longer than announced");
        assert_eq!(check(6, |_, _| {}).unwrap_err(), "unexpected end of file");
        let damaged = check(5, |at, chunk| {
            if at == 1 {
                chunk.data = b"dE"[..].into()
            }
        });
        assert_eq!(damaged.unwrap_err(), "a chunk of it is damaged");
        let empty = check(5, |_, chunk| *chunk = Chunk { crc32c: 0, data: Bytes::new() });
        assert_eq!(empty.unwrap_err(), "a chunk of it is damaged");
    }
}
