//! The log's writer: one task that makes durable what the loop hands it, as much as there is at once.
//!
//! ```text
//! loop ─ Job, Job, Mark ─▶ queue ─▶ append all ─▶ one sync ─▶ messages that waited for it ─▶ links
//!                                                         └─▶ Persisted(last number) ─▶ loop
//! ```
//!
//! **Invariant:** nothing that a job's messages promise is promised before the job is durable (`tests/member.rs`:
//! `what_was_acknowledged_survives_power_loss_of_all`).

use super::StopReason;
use super::input::Input;
use super::peer::{Frame, Links};
use crate::wal::{Wal, WalError};
use raft::{Entry, HardState, Index, Message, SnapshotMeta};
use rt::time::{Instant, sleep};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Jobs that may wait for the disk. It takes all of them at once, so that more only wait when the disk has stalled, and
/// then the member should fall behind instead of gathering work.
const QUEUE: usize = 128;

/// Places kept free for marks, of which one is under way at a time.
const RESERVE: usize = 2;

/// Jobs that one sync makes durable at most: all that can wait.
const BATCH: usize = QUEUE;

/// While the disk is full, it is tried again this often.
const SPACE_RETRY: Duration = Duration::from_millis(500);

/// What one Ready wants durable.
#[derive(Debug)]
pub struct Job {
    /// The Ready's.
    pub number: u64,
    /// Written if there is one.
    pub hard_state: Option<HardState>,
    /// Installed before the entries; its bytes are durable.
    pub snapshot: Option<SnapshotMeta>,
    /// Written.
    pub entries: Vec<Entry>,
    /// Sent when all of it is durable.
    pub messages: Vec<Message>,
}

/// What the task is handed.
#[derive(Debug)]
pub enum Work {
    /// Make it durable.
    Job(Job),
    /// A snapshot of this member's own state is durable: note it, and let go of what lies more than `keep` entries before.
    Mark {
        /// Which.
        meta: SnapshotMeta,
        /// Entries before it to keep.
        keep: u64,
    },
}

/// The loop's end of the queue.
pub struct LogQueue {
    work: mpsc::Sender<Work>,
    /// Numbers queued and not yet durable, each with when it was queued.
    queued: VecDeque<(u64, Instant)>,
    /// A hard state in which only the commit index changed: it is written with whatever comes next.
    lazy: Option<HardState>,
    has_space: bool,
    keep: u64,
}

impl LogQueue {
    /// A queue, and its other end for [`run`]. Of entries before a snapshot, the last `keep` stay in the log.
    pub fn new(keep: u64) -> (Self, mpsc::Receiver<Work>) {
        let (work, receiver) = mpsc::channel(QUEUE);
        (Self { work, queued: VecDeque::new(), lazy: None, has_space: true, keep }, receiver)
    }

    /// Whether another Ready may be taken from Raft.
    pub fn has_room(&self) -> bool {
        self.work.capacity() > RESERVE
    }

    /// Queues what a Ready wants durable. To be called for each, in order, while there is room.
    pub fn push(&mut self, job: Job, must_persist: bool, now: Instant) {
        self.lazy = job.hard_state.or(self.lazy);
        if !must_persist && job.messages.is_empty() {
            return;
        }
        self.queued.push_back((job.number, now));
        let job = Job { hard_state: self.lazy.take(), ..job };
        // If the task has ended, the disk has failed, and word of that is on its way to the loop.
        if let Err(TrySendError::Full(_)) = self.work.try_send(Work::Job(job)) {
            unreachable!("the loop takes nothing from Raft without room for it here");
        }
    }

    /// Queues word of a durable snapshot of this member's own state.
    pub fn mark(&mut self, meta: SnapshotMeta) {
        // One snapshot is saved at a time, and there are two places for them. Should a stalled disk have left none, the
        // next mark does it all.
        drop(self.work.try_send(Work::Mark { meta, keep: self.keep }));
    }

    /// Everything up to Ready `number` is durable.
    pub fn persisted(&mut self, number: u64) {
        while self.queued.pop_front_if(|(first, _)| *first <= number).is_some() {}
    }

    /// Since when something has been waiting to become durable.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.queued.front().map(|(_, since)| *since)
    }

    /// Whether there is space for what needs more.
    pub fn has_space(&self) -> bool {
        self.has_space
    }

    /// The task tells whether there is.
    pub fn set_space(&mut self, has_space: bool) {
        self.has_space = has_space;
    }
}

/// Writes until the loop is gone or the disk fails. What was handed over before is durable when this returns.
pub async fn run(mut wal: Wal, mut queue: mpsc::Receiver<Work>, links: Links, inbox: mpsc::Sender<Input>) {
    let mut starved = false;
    loop {
        let first = tokio::select! {
            biased;
            work = queue.recv() => match work {
                Some(work) => Some(work),
                None => return,
            },
            () = sleep(SPACE_RETRY), if starved => {
                wal.prepare_next();
                None
            }
        };
        let mut batch: Vec<Work> = first.into_iter().collect();
        while batch.len() < BATCH
            && !batch.is_empty()
            && let Ok(work) = queue.try_recv()
        {
            batch.push(work);
        }
        let keep_from = batch.iter().rev().find_map(Work::as_mark);
        let written = write(&mut wal, &batch, &mut starved, &inbox).await;
        let done = match written {
            Ok(()) => {
                if let Some(number) = release(batch, &links)
                    && inbox.send(Input::Persisted(number)).await.is_err()
                {
                    return;
                }
                match keep_from {
                    Some(index) => wal.release(index).await,
                    None => Ok(()),
                }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::error!(%error, "the log cannot be written");
            return drop(inbox.send(Input::Failed(StopReason::Disk(error.to_string()))).await);
        }
        let now_starved = wal.is_starved();
        note_space(&mut starved, now_starved, &inbox).await;
    }
}

impl Work {
    /// The first index that a mark wants kept.
    fn as_mark(&self) -> Option<Index> {
        match self {
            Work::Mark { meta, keep } => Some((meta.index + 1).saturating_sub(*keep)),
            Work::Job(_) => None,
        }
    }
}

/// Appends all of `batch` and makes it durable.
async fn write(wal: &mut Wal, batch: &[Work], starved: &mut bool, inbox: &mpsc::Sender<Input>) -> Result<(), WalError> {
    for work in batch {
        while let Err(error) = append(wal, work).await {
            let WalError::NoSpace = error else { return Err(error) };
            // What was appended before may as well be durable; nothing is promised of it yet.
            mark::sometimes!("log waits for space");
            note_space(starved, true, inbox).await;
            sleep(SPACE_RETRY).await;
            wal.prepare_next();
        }
    }
    wal.sync().await
}

async fn append(wal: &mut Wal, work: &Work) -> Result<(), WalError> {
    match work {
        Work::Job(job) => {
            if let Some(meta) = &job.snapshot {
                wal.snapshot(meta).await?;
            }
            wal.append(job.hard_state.as_ref(), &job.entries).await
        }
        Work::Mark { meta, .. } => wal.snapshot(meta).await,
    }
}

/// Tells the loop and the operator when the disk became full, and when it has space again.
async fn note_space(starved: &mut bool, now: bool, inbox: &mpsc::Sender<Input>) {
    if *starved == now {
        return;
    }
    *starved = now;
    if now {
        mark::sometimes!("disk full");
        tracing::warn!("the disk is full: only what frees space is taken");
    } else {
        tracing::info!("the disk has space again");
    }
    drop(inbox.send(Input::LogSpace(!now)).await);
}

/// Sends what waited for `batch` to be durable. Returns the last number in it, if there was one.
fn release(batch: Vec<Work>, links: &Links) -> Option<u64> {
    let mut last = None;
    for work in batch {
        let Work::Job(job) = work else { continue };
        last = Some(job.number);
        for message in job.messages {
            // Raft bears the loss of any message.
            let _ = links.send(message.to, Frame::Raft(message));
        }
    }
    last
}
