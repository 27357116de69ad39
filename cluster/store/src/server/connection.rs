//! Clients' connections: one task each, which reads requests, writes answers and feeds the connection's watches.
//!
//! ```text
//! frames ─▶ read ─┬─ request + a place in the queue ─▶ loop ─ answer into that place ─┐
//!                 └─ watch ─▶ feed (pulls from the tree) ─────────────────────────────┴─▶ queue ─▶ write ─▶ frames
//! ```
//!
//! A request reserves the place of its answer in the queue before it is handed to the loop. So the loop never waits for a
//! client, and a client that does not read its answers is not read from either.

use super::input::{Input, ReplyTo};
use super::shared::Shared;
use super::watches;
use crate::protocol::{
    FrameReader, MAX_REQUEST_FRAME, MAX_RESPONSE_FRAME, PREAMBLE, ToClient, ToClientBody, ToMember, ToMemberBody,
    decode, put_frame,
};
use crate::types::ClientError;
use rt::net::{OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream};
use rt::task::AbortOnDrop;
use rt::time::{sleep, timeout};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Clients connected at once. Each API server holds a handful of connections; beyond this number somebody leaks them.
const MAX_CONNECTIONS: usize = 4_096;

/// Requests of one connection under way plus messages waiting to be written to it.
const QUEUE: usize = 256;

/// Watches opened or cancelled but not yet taken up: that takes no longer than a pull, so few ever wait.
const WATCH_COMMANDS: usize = 16;

/// Answers are gathered up to this size before they are written.
const MAX_WRITE: usize = 256 << 10;

/// A connection that has not said what protocol it speaks after this long is closed.
const PREAMBLE_TIMEOUT: Duration = Duration::from_secs(5);

/// After an error of accepting (too many open files), before the next attempt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection needs.
#[derive(Clone)]
pub struct Front {
    /// The member's loop.
    pub inbox: mpsc::Sender<Input>,
    /// The state that watches pull from.
    pub shared: Arc<Shared>,
    /// A watch that asked for bookmarks gets one after this much silence.
    pub progress_interval: Duration,
}

impl Front {
    /// Accepts clients for ever.
    pub async fn run(self, listener: TcpListener) {
        let mut connections: Vec<AbortOnDrop<()>> = Vec::new();
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    connections.retain(|connection| !connection.is_finished());
                    if connections.len() < MAX_CONNECTIONS {
                        let serve = self.clone().serve(stream);
                        connections.push(rt::task::spawn("client-connection", serve).abort_on_drop());
                    } else {
                        tracing::warn!(%address, "a client is refused: {MAX_CONNECTIONS} are connected");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept clients");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection to its end. How it ends is the client's business.
    async fn serve(self, stream: TcpStream) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let (reader, writer) = stream.into_split();
        let (answers, queue) = mpsc::channel(QUEUE);
        let (commands, orders) = mpsc::channel(WATCH_COMMANDS);
        let read = read(reader, &self.inbox, answers.clone(), commands);
        let ended = tokio::select! {
            biased;
            ended = write(writer, queue) => ended,
            ended = read => ended,
            () = watches::feed(&self.shared, self.progress_interval, orders, &answers) => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's connection ended");
        }
    }
}

/// Takes requests off the connection until it ends.
async fn read(
    reader: OwnedReadHalf,
    inbox: &mpsc::Sender<Input>,
    answers: mpsc::Sender<ToClient>,
    commands: mpsc::Sender<watches::Command>,
) -> io::Result<()> {
    let mut frames = FrameReader::new(reader, MAX_REQUEST_FRAME);
    timeout(PREAMBLE_TIMEOUT, frames.preamble(&PREAMBLE)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    while let Some(frame) = frames.next().await? {
        let ToMember { id, body } = decode(&frame)?;
        match body {
            ToMemberBody::Request(request) => {
                let place = answers.clone().reserve_owned().await.map_err(|_| io::ErrorKind::BrokenPipe)?;
                let to = ReplyTo::Client { id, place };
                inbox.send(Input::Request { request, to }).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            ToMemberBody::Watch(request) => {
                commands.send(watches::Command::Open { id, request }).await.map_err(gone)?
            }
            ToMemberBody::CancelWatch => commands.send(watches::Command::Cancel { id }).await.map_err(gone)?,
        }
    }
    Ok(())
}

/// Writes answers until the connection breaks: all that are there at once.
async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<ToClient>) -> io::Result<()> {
    let mut out = PREAMBLE.to_vec();
    while let Some(first) = queue.recv().await {
        put(&mut out, first);
        while out.len() < MAX_WRITE
            && let Ok(next) = queue.try_recv()
        {
            put(&mut out, next);
        }
        writer.write_all(&out).await?;
        out.clear();
        // What one huge answer needed is not kept for the connection's whole life.
        out.shrink_to(MAX_WRITE);
    }
    Ok(())
}

/// Appends an answer, or, if it is longer than a frame may be, word of that.
fn put(out: &mut Vec<u8>, message: ToClient) {
    if let Err(error) = put_frame(out, &message, MAX_RESPONSE_FRAME) {
        // Whether the request had an effect depends on the request, and only its answer is at hand here.
        let why = format!("{error}; ask for less at once");
        let body = ToClientBody::Error(ClientError::Unknown(why));
        put_frame(out, &ToClient { id: message.id, body }, MAX_RESPONSE_FRAME).expect("an error is short");
    }
}
