//! A member's start: ports, directory, what the disk holds, and the tasks.

use super::connection::Front;
use super::input::INBOX;
use super::log_task::{self, LogQueue};
use super::member_loop::{MemberLoop, Parts};
use super::peer::{Doorkeeper, Hello, Links, Purpose, Route};
use super::shared::Shared;
use super::snapshot_transfer::Incoming;
use super::snapshots::Snapshots;
use super::{End, Member, MemberConfig, Supervised};
use crate::data_dir::{DataDir, DataDirError};
use crate::snapshot_file::{SnapshotDir, SnapshotError};
use crate::state::{RestoreError, StateMachine};
use crate::wal::{Identity, Wal, WalConfig, WalError};
use raft::{NONE, Raft, Restored, SnapshotMeta};
use rt::net::TcpListener;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The lock on a member's directory.
pub type Lock = DataDir;

/// Why a member cannot start. Its text is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// It cannot listen there.
    #[error("cannot listen at {address}: {error}; choose another address, or stop the program that has it")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The data directory is not to be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The newest snapshot cannot be loaded.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The newest snapshot can be loaded, but not restored.
    #[error("{dir}: {error}; run the version of this program that wrote it")]
    Restore {
        /// The directory.
        dir: String,
        /// What is wrong.
        error: RestoreError,
    },
}

/// See [`Member::start`].
pub async fn start(config: MemberConfig) -> Result<Member, StartError> {
    config.validate()?;
    // First of all what changes nothing: a port in use must leave no directory behind.
    let peer_listener = listen(config.listen_peer.as_deref()).await?;
    let client_listener = listen(config.listen_client.as_deref()).await?;
    let client_address = client_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let config = Arc::new(config);
    let Opened { lock, wal, snapshot_dir, raft, state, snapshot_index } = open(&config).await?;
    tracing::info!(
        name = %config.name,
        member = config.id,
        term = raft.term(),
        index = raft.last_index(),
        revision = state.revision(),
        peers = config.listen_peer.as_ref().map(display),
        clients = config.listen_client.as_ref().map(display),
        "started"
    );

    let (inbox, inputs) = mpsc::channel(INBOX);
    let shared = Arc::new(Shared::new(config.id, state));
    let snapshot_dir = Arc::new(snapshot_dir);
    let (links, link_tasks) = Links::new(routes(&config), &inbox);
    let (log, work) = LogQueue::new(config.catch_up_entries);
    let log_task = rt::task::spawn("log", log_task::run(wal, work, links.clone(), inbox.clone())).abort_on_drop();
    let mut others: Vec<_> =
        link_tasks.into_iter().map(|task| rt::task::spawn("peer-link", task).abort_on_drop()).collect();

    let incoming = Incoming::new(Arc::clone(&snapshot_dir), Arc::clone(&shared), config.format);
    let door = Doorkeeper::new(&config, inbox.clone(), incoming);
    if let Some(listener) = peer_listener {
        others.push(rt::task::spawn("peer-accept", door.run(listener)).abort_on_drop());
    }
    let front =
        Front { inbox: inbox.clone(), shared: Arc::clone(&shared), progress_interval: config.progress_interval };
    if let Some(listener) = client_listener {
        others.push(rt::task::spawn("client-accept", front.run(listener)).abort_on_drop());
    }

    let snapshots = Snapshots::new(Arc::clone(&config), snapshot_dir, inbox.clone(), snapshot_index);
    let parts = Parts { config, raft, shared: Arc::clone(&shared), links, log, snapshots };
    let main = rt::task::spawn("member-loop", MemberLoop::new(parts).run(inputs)).abort_on_drop();
    let end = Arc::new(End::default());
    let supervised = Supervised { main, log: log_task, others, lock, end: Arc::clone(&end) };
    let supervisor = rt::task::spawn("member-supervisor", supervised.run()).abort_on_drop();
    Ok(Member { shared, inbox, end, client_address, _supervisor: supervisor })
}

async fn listen(address: Option<&str>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).map_err(|error| StartError::Listen { address: address.to_owned(), error })
}

/// What was on the disk, ready to go on.
struct Opened {
    lock: Lock,
    wal: Wal,
    snapshot_dir: SnapshotDir,
    raft: Raft,
    state: StateMachine,
    snapshot_index: raft::Index,
}

/// Opens the directory, and restores state and Raft from the newest snapshot and the log.
async fn open(config: &MemberConfig) -> Result<Opened, StartError> {
    let identity = Identity { cluster: config.cluster_id(), member: config.id };
    let lock = DataDir::open(&config.data_dir, identity, &config.name).await?;
    let snapshot_dir = SnapshotDir::open(lock.dir().clone()).await?;
    let (meta, state) = match snapshot_dir.load_newest().await? {
        Some((meta, data)) => {
            let decoded = rt::task::unblock("decode a snapshot", move || StateMachine::decode(data)).await;
            let read = decoded.and_then(|state| state.within(config.format));
            (meta, read.map_err(|error| StartError::Restore { dir: config.data_dir.clone(), error })?)
        }
        None => (SnapshotMeta::default(), StateMachine::new()),
    };
    let wal = WalConfig { segment_bytes: config.segment_bytes, ..WalConfig::new(identity) };
    let (wal, recovered) = Wal::open(lock.dir().clone(), wal, &meta).await?;
    let mut hard_state = recovered.hard_state;
    if hard_state.term < meta.term {
        // A leader's snapshot was saved just before a crash, and the log never heard of its term: this member did not
        // vote in it.
        hard_state.term = meta.term;
        hard_state.vote = NONE;
    }
    let snapshot_index = meta.index;
    let restored = Restored { hard_state, snapshot: meta, entries: recovered.entries, applied: snapshot_index };
    let voters = config.members.keys().copied().collect();
    let raft = Raft::new(raft::Config::new(config.id, voters), restored);
    Ok(Opened { lock, wal, snapshot_dir, raft, state, snapshot_index })
}

/// To every other member.
fn routes(config: &MemberConfig) -> Vec<Route> {
    let others = config.members.iter().filter(|(id, _)| **id != config.id);
    others
        .map(|(id, address)| Route {
            address: address.peer.clone(),
            tls: config.peer_tls.client.clone(),
            hello: Hello { purpose: Purpose::Messages, cluster_id: config.cluster_id(), from: config.id, to: *id },
        })
        .collect()
}
