//! The watches of one client connection.
//!
//! No event is ever put aside for a watch: it knows its next revision, and pulls from the tree's history what it has not
//! been sent whenever the member has applied more. So a slow watch holds nobody up and loses nothing, and when the whole
//! state is replaced by a leader's snapshot a watch goes on from where it was.
//!
//! **Invariant:** a bookmark is sent only when everything up to its revision was sent, by a member that knows a leader:
//! one that is cut off falls silent, and its clients notice (test `a_bookmark_needs_silence_and_a_leader`).

use super::shared::Shared;
use crate::protocol::{ToClient, ToClientBody};
use crate::txn;
use crate::types::{ClientError, WatchRequest, WatchResponse};
use crate::watch::{Batch, Cursor};
use rt::time::{Instant, sleep_until};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Watches of one connection. A controller opens one per kind; who wants more opens another connection.
const MAX_WATCHES: usize = 1_024;

/// What a client wants of its watches.
pub enum Command {
    /// A new one.
    Open {
        /// The client's number for it.
        id: u64,
        /// What to watch.
        request: WatchRequest,
    },
    /// No more of one.
    Cancel {
        /// The client's number for it.
        id: u64,
    },
}

/// One watch.
struct Watch {
    cursor: Cursor,
    /// When to send a bookmark unless something else is sent before; `None` if it did not ask for any.
    bookmark_at: Option<Instant>,
}

/// The connection does not take any more.
struct Closed;

/// Feeds a connection's watches until the connection is dropped.
pub async fn feed(
    shared: &Shared,
    interval: Duration,
    mut orders: mpsc::Receiver<Command>,
    answers: &mpsc::Sender<ToClient>,
) {
    let mut watches = BTreeMap::new();
    let mut revisions = shared.revisions();
    let mut alarm = sleep_until(Instant::now());
    let mut alarm_set = false;
    loop {
        // Every event puts a bookmark off. The alarm is left as it is then: setting it costs more than waking in vain.
        let next_bookmark = watches.values().filter_map(|watch: &Watch| watch.bookmark_at).min();
        if let Some(at) = next_bookmark
            && (!alarm_set || at < alarm.deadline())
        {
            alarm = sleep_until(at);
            alarm_set = true;
        }
        let fed = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Command::Open { id, request }) => {
                    open(&mut watches, id, &request, shared, interval, answers).await
                }
                Some(Command::Cancel { id }) => {
                    watches.remove(&id);
                    Ok(())
                }
                None => return,
            },
            () = revisions.changed(), if !watches.is_empty() => {
                pull_all(&mut watches, shared, interval, answers).await
            }
            () = &mut alarm, if alarm_set => {
                alarm_set = false;
                bookmarks(&mut watches, shared, interval, answers).await
            }
        };
        if let Err(Closed) = fed {
            return;
        }
    }
}

/// Opens a watch and sends it what it has already missed.
async fn open(
    watches: &mut BTreeMap<u64, Watch>,
    id: u64,
    request: &WatchRequest,
    shared: &Shared,
    interval: Duration,
    answers: &mpsc::Sender<ToClient>,
) -> Result<(), Closed> {
    let refused = if watches.len() >= MAX_WATCHES {
        Some(ClientError::Unavailable(format!("this connection has {MAX_WATCHES} watches already")))
    } else {
        txn::check_watch(request).err().map(ClientError::Refused)
    };
    if let Some(error) = refused {
        return send(answers, id, ToClientBody::Error(error)).await;
    }
    let cursor = Cursor::open(request, shared.state().tree());
    let bookmark_at = request.progress_notify.then(|| Instant::now() + interval);
    let mut watch = Watch { cursor, bookmark_at };
    if pull(&mut watch, id, shared, interval, answers).await? {
        watches.insert(id, watch);
    }
    Ok(())
}

/// Sends every watch what it has not been sent yet.
async fn pull_all(
    watches: &mut BTreeMap<u64, Watch>,
    shared: &Shared,
    interval: Duration,
    answers: &mpsc::Sender<ToClient>,
) -> Result<(), Closed> {
    let mut over = Vec::new();
    for (id, watch) in watches.iter_mut() {
        if !pull(watch, *id, shared, interval, answers).await? {
            over.push(*id);
        }
    }
    for id in over {
        watches.remove(&id);
    }
    Ok(())
}

/// Sends one watch what it has not been sent yet. Returns whether it goes on.
async fn pull(
    watch: &mut Watch,
    id: u64,
    shared: &Shared,
    interval: Duration,
    answers: &mpsc::Sender<ToClient>,
) -> Result<bool, Closed> {
    loop {
        let batch = watch.cursor.pull(shared.state().tree());
        match batch {
            Batch::UpToDate { .. } => return Ok(true),
            // Others may want the state, or this thread.
            Batch::More => rt::task::yield_now().await,
            Batch::Events { .. } | Batch::Overtaken { .. } => {
                let over = matches!(batch, Batch::Overtaken { .. });
                if let Some(response) = batch.into_response(shared.header()) {
                    send(answers, id, ToClientBody::Watch(response)).await?;
                }
                if over {
                    return Ok(false);
                }
                watch.bookmark_at = watch.bookmark_at.map(|_| Instant::now() + interval);
            }
        }
    }
}

/// Sends bookmarks to the watches that were silent for long enough.
async fn bookmarks(
    watches: &mut BTreeMap<u64, Watch>,
    shared: &Shared,
    interval: Duration,
    answers: &mpsc::Sender<ToClient>,
) -> Result<(), Closed> {
    // Whatever a bookmark speaks for was sent before it.
    pull_all(watches, shared, interval, answers).await?;
    let now = Instant::now();
    for (id, watch) in watches.iter_mut().filter(|(_, watch)| watch.bookmark_at.is_some_and(|at| at <= now)) {
        watch.bookmark_at = Some(now + interval);
        if let Some(revision) = bookmark(&watch.cursor, shared.revision(), shared.has_leader()) {
            send(answers, *id, ToClientBody::Watch(WatchResponse::Progress { revision })).await?;
        }
    }
    Ok(())
}

/// The revision that a bookmark may speak of now, if any.
fn bookmark(cursor: &Cursor, applied_revision: i64, has_leader: bool) -> Option<i64> {
    // A watch that begins in the future has not come to anything yet, and one that is behind has more to be sent.
    let sent = cursor.next_revision() - 1;
    (has_leader && sent == applied_revision).then_some(sent)
}

async fn send(answers: &mpsc::Sender<ToClient>, id: u64, body: ToClientBody) -> Result<(), Closed> {
    answers.send(ToClient { id, body }).await.map_err(|_| Closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::Tree;

    #[test]
    fn a_bookmark_needs_silence_and_a_leader() {
        let tree = Tree::new();
        let request = WatchRequest { key: "a".into(), ..WatchRequest::default() };
        let from_now = Cursor::open(&request, &tree);
        assert_eq!(bookmark(&from_now, 1, true), Some(1));
        assert_eq!(bookmark(&from_now, 1, false), None, "no leader is known");
        assert_eq!(bookmark(&from_now, 2, true), None, "revision 2 is not sent yet");
        let from_later = Cursor::open(&WatchRequest { start_revision: 9, ..request }, &tree);
        assert_eq!(bookmark(&from_later, 1, true), None, "the watch has not begun");
    }
}
