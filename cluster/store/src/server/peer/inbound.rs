//! The incoming half of what two members say to each other: connections that the others dial.
//!
//! Who dials says first who it is, of which cluster, and what for; a stranger is shown the door. A newer connection of
//! the same member retires its older one, which may be half open since that member lost power.

use super::frame::{Frame, HELLO_LEN, Hello, MAX_FRAME, Purpose};
use crate::protocol::{FrameReader, decode};
use crate::server::MemberConfig;
use crate::server::config::PeerTls;
use crate::server::input::Input;
use crate::server::snapshot_transfer::{self, Incoming};
use raft::NodeId;
use rt::net::{TcpListener, TcpStream};
use rt::task::AbortOnDrop;
use rt::time::{Instant, sleep, sleep_until, timeout};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// Connections of members at once: two per other member and purpose would do; the rest is for those half open.
const MAX_CONNECTIONS: usize = 64;

/// A connection whose hello has not come after this long is closed.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// What has come is acknowledged after this long. Long, because an acknowledgement says only that the connection lives;
/// well below the dialer's timeout.
const ACK_DELAY: Duration = Duration::from_millis(400);

/// After an error of accepting (too many open files), before the next attempt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every incoming connection needs.
#[derive(Clone)]
pub struct Doorkeeper {
    /// This member.
    pub id: NodeId,
    /// Its cluster.
    pub cluster_id: u64,
    /// How connections are secured.
    pub tls: PeerTls,
    /// Its loop.
    pub inbox: mpsc::Sender<Input>,
    /// Where incoming snapshots go.
    pub incoming: Incoming,
    current: Arc<Mutex<BTreeMap<NodeId, oneshot::Sender<()>>>>,
}

impl Doorkeeper {
    /// For one member.
    pub fn new(config: &MemberConfig, inbox: mpsc::Sender<Input>, incoming: Incoming) -> Self {
        let (id, cluster_id, tls) = (config.id, config.cluster_id(), config.peer_tls.clone());
        Self { id, cluster_id, tls, inbox, incoming, current: Arc::default() }
    }

    /// Accepts connections for ever.
    pub async fn run(self, listener: TcpListener) {
        let mut connections: Vec<AbortOnDrop<()>> = Vec::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.retain(|connection| !connection.is_finished());
                    if connections.len() < MAX_CONNECTIONS {
                        let greet = self.clone().greet(stream);
                        connections.push(rt::task::spawn("peer-inbound", greet).abort_on_drop());
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections of peers");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection to its end.
    async fn greet(self, stream: TcpStream) {
        let mut stream = match stream.secure(&self.tls.server).await {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "a peer's connection cannot be secured"),
        };
        if !self.tls.admits(stream.peer_subject()) {
            return tracing::warn!(shown = ?stream.peer_subject(), "a connection is refused: it is no member's");
        }
        let mut hello = [0; HELLO_LEN];
        match timeout(HELLO_TIMEOUT, stream.read_exact(&mut hello)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        let hello = match Hello::decode(hello) {
            Ok(hello) => hello,
            Err(error) => return tracing::warn!(%error, "a peer's connection is refused"),
        };
        if hello.cluster_id != self.cluster_id || hello.to != self.id {
            return tracing::warn!(
                from = hello.from,
                to = hello.to,
                "a connection is refused: it is meant for another cluster or member; compare the members' addresses"
            );
        }
        match hello.purpose {
            Purpose::Messages => {
                let (retire, retired) = oneshot::channel();
                self.current.lock().unwrap_or_else(PoisonError::into_inner).insert(hello.from, retire);
                tokio::select! {
                    biased;
                    _ = retired => {}
                    ended = listen(stream, hello.from, &self.inbox) => match ended {
                        Ok(()) => {}
                        Err(error) => tracing::debug!(peer = hello.from, %error, "a peer's connection ended"),
                    },
                }
            }
            Purpose::Snapshot => snapshot_transfer::receive(stream, hello.from, self.incoming, &self.inbox).await,
        }
    }
}

/// Hands what comes to the loop, and acknowledges it, until the connection or the loop ends.
async fn listen(stream: TcpStream, from: NodeId, inbox: &mpsc::Sender<Input>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut frames = FrameReader::new(reader, MAX_FRAME);
    let mut received: u64 = 0;
    let mut alarm = sleep_until(Instant::now());
    let mut owing = false;
    loop {
        tokio::select! {
            biased;
            frame = frames.next() => {
                let Some(frame) = frame? else { return Ok(()) };
                received += 1;
                if inbox.send(input(from, decode(&frame)?)).await.is_err() {
                    return Ok(());
                }
                if !owing {
                    owing = true;
                    alarm = sleep_until(Instant::now() + ACK_DELAY);
                }
            }
            () = &mut alarm, if owing => {
                owing = false;
                writer.write_all(&received.to_le_bytes()).await?;
            }
        }
    }
}

/// What a frame is to the loop.
fn input(from: NodeId, frame: Frame) -> Input {
    match frame {
        Frame::Raft(message) => Input::Message(message),
        Frame::Ask { id, request } => Input::Asked { from, id, request },
        Frame::Answer { id, outcome } => Input::Answered { id, outcome },
    }
}
