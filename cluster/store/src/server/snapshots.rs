//! The loop's part in snapshots: when to save one, what was saved, what to install, what is on its way to whom.

use super::input::Input;
use super::peer::{Hello, Purpose};
use super::shared::Shared;
use super::snapshot_transfer;
use super::{MemberConfig, StopReason};
use crate::snapshot_file::SnapshotDir;
use crate::state::StateMachine;
use raft::{Index, Message, NodeId, SnapshotMeta};
use rt::task::AbortOnDrop;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Of a member's loop.
pub struct Snapshots {
    config: Arc<MemberConfig>,
    dir: Arc<SnapshotDir>,
    inbox: mpsc::Sender<Input>,
    /// Index of the newest that is durable.
    last: Index,
    saving: Option<AbortOnDrop<()>>,
    /// Not before this index is applied is the next one saved.
    next: Index,
    /// Came from a leader; Raft decides whether it is installed.
    received: Option<(SnapshotMeta, StateMachine)>,
    shipments: BTreeMap<NodeId, AbortOnDrop<()>>,
}

impl Snapshots {
    /// For a member whose newest snapshot is of index `last`.
    pub fn new(config: Arc<MemberConfig>, dir: Arc<SnapshotDir>, inbox: mpsc::Sender<Input>, last: Index) -> Self {
        let next = last + config.snapshot_entries;
        Self { config, dir, inbox, last, saving: None, next, received: None, shipments: BTreeMap::new() }
    }

    /// Begins to save `state` if it is time to.
    pub fn consider(&mut self, state: &StateMachine, voters: &[NodeId]) {
        if state.index() < self.next || self.saving.is_some() {
            return;
        }
        let meta = SnapshotMeta { index: state.index(), term: state.term(), voters: voters.to_vec() };
        let save = save(Arc::clone(&self.dir), meta, state.pin(), self.inbox.clone());
        self.saving = Some(rt::task::spawn("snapshot-save", save).abort_on_drop());
    }

    /// A snapshot of this member's own state is durable. Returns it if it is news.
    pub fn saved(&mut self, meta: SnapshotMeta) -> Option<SnapshotMeta> {
        self.saving = None;
        let news = meta.index > self.last;
        self.last = self.last.max(meta.index);
        self.next = self.last + self.config.snapshot_entries;
        news.then_some(meta)
    }

    /// There was no space for one. It is tried again a little later.
    pub fn not_saved(&mut self) {
        self.saving = None;
        self.next += self.config.snapshot_entries.div_ceil(10);
    }

    /// A leader's snapshot came, and is durable.
    pub fn received(&mut self, meta: SnapshotMeta, state: StateMachine) {
        self.received = Some((meta, state));
    }

    /// Replaces the state by the snapshot that Raft has accepted.
    ///
    /// # Errors
    /// It is not the one that came last, so that nobody knows what the state should be.
    pub fn install(&mut self, meta: &SnapshotMeta, shared: &Shared) -> Result<(), StopReason> {
        let Some((_, state)) = self.received.take_if(|(received, _)| received == meta) else {
            return Err(StopReason::Bug(format!("snapshot {} is to be installed, but never came", meta.index)));
        };
        mark::sometimes!("snapshot installed");
        tracing::info!(index = meta.index, revision = state.revision(), "the leader's snapshot replaces the state");
        let revision = state.revision();
        *shared.state_mut() = state;
        // Watches pull from the new state whatever they have not been sent.
        shared.announce(revision);
        self.last = self.last.max(meta.index);
        self.next = self.last + self.config.snapshot_entries;
        Ok(())
    }

    /// Ships the newest snapshot to whom `message` of Raft's is meant for.
    pub fn ship(&mut self, message: Message) {
        let to = message.to;
        let Some(address) = self.config.members.get(&to).map(|member| member.peer.clone()) else { return };
        mark::sometimes!("snapshot sent");
        let hello =
            Hello { purpose: Purpose::Snapshot, cluster_id: self.config.cluster_id(), from: self.config.id, to };
        let (dir, inbox) = (Arc::clone(&self.dir), self.inbox.clone());
        let tls = self.config.peer_tls.client.clone();
        let shipment = async move {
            let shipped = snapshot_transfer::ship(&dir, (&address, &tls), hello, message).await;
            match &shipped {
                Ok(()) => tracing::info!(peer = to, "a snapshot was shipped"),
                Err(error) => tracing::warn!(peer = to, %error, "a snapshot was not shipped"),
            }
            drop(inbox.send(Input::Shipped { to, delivered: shipped.is_ok() }).await);
        };
        self.shipments.insert(to, rt::task::spawn("snapshot-ship", shipment).abort_on_drop());
    }
}

/// Saves a pinned state, durably, and tells the loop.
async fn save(dir: Arc<SnapshotDir>, meta: SnapshotMeta, state: StateMachine, inbox: mpsc::Sender<Input>) {
    let measured = rt::task::unblock("measure a snapshot", move || (state.snapshot_bytes(), state));
    let (bytes, state) = measured.await;
    let input = match dir.save(&meta, bytes, state.snapshot()).await.map_err(io::Error::from) {
        Ok(()) => Input::Saved(meta),
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            mark::sometimes!("snapshot not saved for want of space");
            tracing::warn!("the disk has no space for a snapshot");
            Input::NotSaved
        }
        Err(error) => Input::Failed(StopReason::Disk(format!("a snapshot cannot be saved: {error}"))),
    };
    drop(inbox.send(input).await);
}
