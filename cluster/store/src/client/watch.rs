//! Watching, at one member or at whichever is reachable.

use super::{Backoff, Client, Connection};
use crate::types::{ClientError, RangeRequest, WatchRequest, WatchResponse};
use rt::time::{sleep, timeout};
use tokio::sync::mpsc;

/// A watch at one member. When it breaks, it is over, and the caller resumes after the last revision that it was told.
#[derive(Debug)]
pub struct Watcher {
    client: Client,
    request: WatchRequest,
    /// Whether the caller asked for bookmarks; the member is always asked, so that silence means a broken watch.
    bookmarks: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Unopened,
    Open { connection: Connection, messages: mpsc::Receiver<Result<WatchResponse, ClientError>> },
    Over,
}

impl Watcher {
    pub(super) fn new(client: Client, mut request: WatchRequest) -> Self {
        let bookmarks = std::mem::replace(&mut request.progress_notify, true);
        Self { client, request, bookmarks, state: State::Unopened }
    }

    /// The next message; [`WatchResponse::Canceled`] is the last. May be dropped and called again: nothing is lost.
    ///
    /// # Errors
    /// The watch is over, and nothing follows: [`ClientError::Refused`] if it can never be, otherwise
    /// [`ClientError::Unavailable`] if no member could be reached, the connection broke, or nothing, not even a
    /// bookmark, came for [`super::ClientConfig::watch_idle`].
    pub async fn next(&mut self) -> Result<WatchResponse, ClientError> {
        loop {
            let (connection, messages) = match &mut self.state {
                State::Open { connection, messages } => (connection, messages),
                State::Over => return Err(ClientError::Unavailable("the watch is over".to_owned())),
                State::Unopened => {
                    self.open().await?;
                    continue;
                }
            };
            let heard = connection.heard();
            let message = match timeout(self.client.shared.config.watch_idle, messages.recv()).await {
                Ok(Some(message)) => message,
                Ok(None) => {
                    Err(ClientError::Unavailable("the connection broke, or the reader was too slow".to_owned()))
                }
                Err(_) => {
                    mark::sometimes!("watch fell silent");
                    connection.timed_out(heard);
                    Err(ClientError::Unavailable("the watch fell silent".to_owned()))
                }
            };
            match message {
                Ok(WatchResponse::Progress { .. }) if !self.bookmarks => {}
                Ok(WatchResponse::Canceled { compact_revision, reason }) => {
                    self.state = State::Over;
                    return Ok(WatchResponse::Canceled { compact_revision, reason });
                }
                Ok(message) => return Ok(message),
                Err(error) => return Err(self.end(error)),
            }
        }
    }

    async fn open(&mut self) -> Result<(), ClientError> {
        let member = self.client.preferred();
        let opened = timeout(self.client.shared.config.attempt_timeout, async {
            let connection = self.client.connect(member).await?;
            let messages = connection.watch(self.request.clone()).await?;
            Ok(State::Open { connection, messages })
        });
        match opened.await {
            Ok(Ok(open)) => {
                self.state = open;
                Ok(())
            }
            Ok(Err(error)) => Err(self.end(error)),
            Err(_) => Err(self.end(ClientError::Unavailable("the watch was not opened in time".to_owned()))),
        }
    }

    /// Notes that it is over, and lets the next one begin elsewhere.
    fn end(&mut self, error: ClientError) -> ClientError {
        self.state = State::Over;
        self.client.avoid(self.client.preferred());
        error
    }
}

/// A watch that goes on at another member when it breaks: every change from its first revision on, once and in order.
///
/// If it has no first revision, it begins after what a consistent read tells when it is opened.
#[derive(Debug)]
pub struct ResumingWatch {
    client: Client,
    request: WatchRequest,
    /// Whether the caller asked for bookmarks; they are always used, so that quiet keys are not overtaken by compaction.
    bookmarks: bool,
    watcher: Option<Watcher>,
    backoff: Backoff,
}

impl ResumingWatch {
    pub(super) fn new(client: Client, mut request: WatchRequest) -> Self {
        let backoff = client.backoff();
        let bookmarks = std::mem::replace(&mut request.progress_notify, true);
        Self { client, request, bookmarks, watcher: None, backoff }
    }

    /// The next message. [`WatchResponse::Canceled`] is the last: history that it still needed is compacted, and the
    /// caller starts over from a read. May be dropped and called again: nothing is lost.
    ///
    /// # Errors
    /// [`ClientError::Refused`]: the watch can never be.
    pub async fn next(&mut self) -> Result<WatchResponse, ClientError> {
        loop {
            let error = match self.attempt().await {
                Ok(WatchResponse::Canceled { compact_revision: 0, reason }) => ClientError::Unavailable(reason),
                Ok(message) => {
                    self.backoff = self.client.backoff();
                    if self.bookmarks || !matches!(message, WatchResponse::Progress { .. }) {
                        return Ok(message);
                    }
                    continue;
                }
                Err(error) => error,
            };
            self.watcher = None;
            match error {
                ClientError::Refused(kind) => return Err(ClientError::Refused(kind)),
                ClientError::Unavailable(_) | ClientError::Unknown(_) => {
                    mark::sometimes!("watch resumed");
                    sleep(self.backoff.next(&self.client)).await;
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<WatchResponse, ClientError> {
        if self.request.start_revision == 0 {
            let range_end = self.request.range_end.clone();
            let now =
                RangeRequest { key: self.request.key.clone(), range_end, count_only: true, ..RangeRequest::default() };
            self.request.start_revision = self.client.range(now).await?.header.revision + 1;
        }
        let watcher = self.watcher.get_or_insert_with(|| self.client.watch(self.request.clone()));
        let message = watcher.next().await?;
        match &message {
            WatchResponse::Events { revision, .. } | WatchResponse::Progress { revision } => {
                // A bookmark of a member that lags may lie before the first revision asked for.
                self.request.start_revision = self.request.start_revision.max(revision + 1);
            }
            WatchResponse::Canceled { .. } => {}
        }
        Ok(message)
    }
}
