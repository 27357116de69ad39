//! The outgoing half of what two members say to each other: one connection that this member dials.
//!
//! ```text
//! loop, WAL task -> Links::send -> bounded queue -> link task -> connection -> the other's inbound task
//!                                                        ^------ acknowledgements ------'
//! ```
//!
//! Raft bears the loss of any message, so nothing is ever kept for later: what does not fit, and what is sent while there
//! is no connection, is dropped, and the sender knows it.
//!
//! **Invariant:** a connection on which nothing is acknowledged for [`ACK_TIMEOUT`] after a send is closed and dialled
//! anew, so that the exponential retransmission of TCP after a partition never delays the cluster's recovery (test
//! `a_member_cut_off_is_heard_again_soon_after_the_network_heals`).

use super::frame::{Frame, Hello, MAX_FRAME};
use crate::protocol::put_frame;
use crate::server::input::Input;
use bytes::{Buf, BytesMut};
use raft::NodeId;
use rt::net::TcpStream;
use rt::random::Random;
use rt::time::{Instant, sleep, sleep_until, timeout};
use rt::tls::ClientTls;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Frames that may wait for a connection to take them. Appends in flight are bounded by Raft far below this; what is
/// beyond it would be stale when it arrived.
const QUEUE: usize = 1_024;

/// Bytes encoded but not yet taken by the connection, above which no more frames are encoded.
const MAX_OUT: usize = 1 << 20;

/// A connection on which nothing is acknowledged for this long after a send is given up. Above the largest delay after
/// which the other side acknowledges plus a slow round trip, and below an election timeout.
const ACK_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long to wait for a connection. A live host answers within one round trip.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two attempts to dial, drawn anew each time from here ...
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// ... up to here, so that a restarted member is found well within an election timeout.
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// The links of one member to all others. Cheap to clone.
#[derive(Clone)]
pub struct Links(Arc<BTreeMap<NodeId, Link>>);

struct Link {
    queue: mpsc::Sender<Frame>,
    connected: Arc<AtomicBool>,
}

/// What one link needs to know.
pub struct Route {
    /// Where the other listens for members.
    pub address: String,
    /// How the connection is secured.
    pub tls: ClientTls,
    /// What to say first.
    pub hello: Hello,
}

impl Links {
    /// Builds the links and the tasks that serve them, one per route, to be spawned by the caller.
    pub fn new(
        routes: Vec<Route>,
        inbox: &mpsc::Sender<Input>,
    ) -> (Self, Vec<impl Future<Output = ()> + Send + 'static>) {
        let mut links = BTreeMap::new();
        let mut tasks = Vec::new();
        for route in routes {
            let (sender, queue) = mpsc::channel(QUEUE);
            let connected = Arc::new(AtomicBool::new(false));
            links.insert(route.hello.to, Link { queue: sender, connected: Arc::clone(&connected) });
            tasks.push(run(route, queue, connected, inbox.clone()));
        }
        (Self(Arc::new(links)), tasks)
    }

    /// Hands `frame` to the connection with `to`. Returns false if it was certainly not and never will be sent.
    pub fn send(&self, to: NodeId, frame: Frame) -> bool {
        match self.0.get(&to) {
            Some(link) => link.connected.load(Ordering::Relaxed) && link.queue.try_send(frame).is_ok(),
            None => false,
        }
    }
}

/// Dials, converses, and dials again, for ever.
async fn run(route: Route, mut queue: mpsc::Receiver<Frame>, connected: Arc<AtomicBool>, inbox: mpsc::Sender<Input>) {
    let mut random = rt::random::stream(&format!("link to {}", route.hello.to));
    let mut known_down = false;
    loop {
        match dial(&route.address, &route.tls).await {
            Ok(stream) => {
                if known_down {
                    mark::sometimes!("peer link redialled");
                    tracing::info!(peer = route.hello.to, "connected to peer");
                }
                known_down = false;
                connected.store(true, Ordering::Relaxed);
                let broken = converse(stream, &route.hello, &mut queue).await;
                connected.store(false, Ordering::Relaxed);
                // Between the last look at the queue and now something may have slipped in; it must not wait for the
                // next connection.
                while queue.try_recv().is_ok() {}
                let Err(error) = broken else { return };
                note_down(&mut known_down, &route, &error);
                // A full inbox means that the loop is busy; it notices a silent follower by itself.
                let _ = inbox.try_send(Input::Unreachable(route.hello.to));
            }
            Err(error) => note_down(&mut known_down, &route, &error),
        }
        sleep(backoff(&mut random)).await;
    }
}

/// Tells the operator once per outage.
fn note_down(known_down: &mut bool, route: &Route, error: &io::Error) {
    if !*known_down {
        *known_down = true;
        tracing::info!(peer = route.hello.to, address = %route.address, %error, "no connection to peer");
    }
}

/// How long to wait before dialling again.
fn backoff(random: &mut Random) -> Duration {
    MIN_BACKOFF + random.jitter(MAX_BACKOFF - MIN_BACKOFF)
}

/// A new connection to `address`.
pub async fn dial(address: &str, tls: &ClientTls) -> io::Result<TcpStream> {
    let stream = timeout(DIAL_TIMEOUT, TcpStream::connect_secured(address, tls))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to dialling"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends what comes through `queue` until the connection breaks. Returns `Ok` when this member is closing.
async fn converse(stream: TcpStream, hello: &Hello, queue: &mut mpsc::Receiver<Frame>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut out: Vec<u8> = hello.encode().to_vec();
    let mut written = 0;
    let mut acks = Acks::default();
    let mut incoming = [0; 64];
    let mut alarm = sleep_until(Instant::now());
    let mut alarm_set = false;
    loop {
        tokio::select! {
            biased;
            read = reader.read(&mut incoming) => match read? {
                0 => return Err(io::ErrorKind::ConnectionReset.into()),
                n => acks.received(&incoming[..n], Instant::now()),
            },
            wrote = writer.write(&out[written..]), if written < out.len() => {
                match wrote? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => written += n,
                }
                if written == out.len() {
                    out.clear();
                    written = 0;
                }
            }
            frame = queue.recv(), if out.len() - written < MAX_OUT => {
                let Some(frame) = frame else { return Ok(()) };
                out.drain(..written);
                written = 0;
                acks.sent(encode(&mut out, &frame), Instant::now());
                while out.len() < MAX_OUT && let Ok(frame) = queue.try_recv() {
                    acks.sent(encode(&mut out, &frame), Instant::now());
                }
                if !alarm_set {
                    alarm_set = true;
                    alarm = sleep_until(Instant::now() + ACK_TIMEOUT);
                }
            }
            () = &mut alarm, if alarm_set => match acks.oldest_unacknowledged {
                None => alarm_set = false,
                Some(since) if Instant::now() - since >= ACK_TIMEOUT => return Err(io::ErrorKind::TimedOut.into()),
                Some(since) => alarm = sleep_until(since + ACK_TIMEOUT),
            },
        }
    }
}

/// Appends `frame` to `out` if it fits the bound on frames, which all that Raft makes do. Returns how many were appended.
fn encode(out: &mut Vec<u8>, frame: &Frame) -> u64 {
    match put_frame(out, frame, MAX_FRAME) {
        Ok(()) => 1,
        Err(error) => {
            tracing::warn!(%error, "a message to a peer is dropped");
            0
        }
    }
}

/// What of the frames sent on one connection was acknowledged.
#[derive(Default)]
struct Acks {
    sent: u64,
    acknowledged: u64,
    /// Since when something sent has not been acknowledged, counted from the last progress.
    oldest_unacknowledged: Option<Instant>,
    /// The front of an acknowledgement that has not come whole.
    partial: BytesMut,
}

impl Acks {
    fn sent(&mut self, frames: u64, now: Instant) {
        self.sent += frames;
        self.oldest_unacknowledged.get_or_insert(now);
    }

    fn received(&mut self, bytes: &[u8], now: Instant) {
        self.partial.extend_from_slice(bytes);
        while let Some((number, _)) = self.partial.split_first_chunk::<8>() {
            let number = u64::from_le_bytes(*number);
            self.partial.advance(8);
            if number > self.acknowledged {
                self.acknowledged = number;
                self.oldest_unacknowledged = (number < self.sent).then_some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_progress_of_acknowledgements_keeps_a_connection() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut acks = Acks::default();
        acks.sent(3, at(0));
        acks.sent(1, at(400));
        assert_eq!(acks.oldest_unacknowledged, Some(at(0)));
        let ack = 3u64.to_le_bytes();
        acks.received(&ack[..5], at(500));
        assert_eq!(acks.oldest_unacknowledged, Some(at(0)), "half an acknowledgement is none");
        acks.received(&ack[5..], at(600));
        assert_eq!(acks.oldest_unacknowledged, Some(at(600)), "one frame is still on its way");
        acks.received(&ack, at(700));
        assert_eq!(acks.oldest_unacknowledged, Some(at(600)), "an old acknowledgement is no progress");
        acks.received(&4u64.to_le_bytes(), at(800));
        assert_eq!(acks.oldest_unacknowledged, None);
    }
}
