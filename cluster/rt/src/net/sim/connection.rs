//! A connection as the two kernels hold it: two ends, and a pipe of bytes in each direction.
//!
//! Pipes count bytes by offset. Offset 0 of the client's pipe is the last step of the handshake, and the offset after
//! the last byte is the end of the stream, so that both are ordered, lost and retransmitted as data is:
//!
//! ```text
//! read <= visible (arrived) <= sent <= written (+ 1 with the end of the stream)
//! ```

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::Waker;

use crate::sim::Ns;

use super::event::{CLIENT, SERVER, Side};
use super::withhold::Waiting;

/// First wait before something lost is sent again: Linux's TCP_RTO_MIN.
pub(super) const RETRY_NS: Ns = 200_000_000;
/// The same for the first step of the handshake: Linux's TCP_TIMEOUT_INIT.
pub(super) const CONNECT_RETRY_NS: Ns = 1_000_000_000;
/// Longest such wait: Linux's TCP_RTO_MAX.
pub(super) const RETRY_MAX_NS: Ns = 120_000_000_000;

/// Both ends and both pipes. Pipe `n` is written by end `n`.
pub(super) struct Connection {
    /// How often this number was used before.
    pub(super) generation: u32,
    /// False while its number is free.
    pub(super) in_use: bool,
    /// The client knows that the server agreed.
    pub(super) established: bool,
    /// The server process's number when its host agreed: another one knows nothing of it.
    pub(super) server_epoch: u32,
    /// The offset of the server's pipe beyond which nothing passes.
    pub(super) fuse: Option<u64>,
    /// What the acceptor says waits here.
    pub(super) withheld: Option<Waiting>,
    pub(super) ends: [End; 2],
    pub(super) pipes: [Pipe; 2],
}

impl Connection {
    /// One that the client is about to ask for, over the links from it and to it.
    pub(super) fn new(generation: u32, client: End, server: End, there: u32, back: u32) -> Self {
        Connection {
            generation,
            in_use: true,
            established: false,
            server_epoch: 0,
            fuse: None,
            withheld: None,
            ends: [client, server],
            pipes: [Pipe::new(there, 0, CONNECT_RETRY_NS), Pipe::new(back, 1, RETRY_NS)],
        }
    }

    /// The client still waits for an answer to its wish to connect.
    pub(super) fn connecting(&self, side: Side) -> bool {
        side == CLIENT && !self.established
    }

    /// The link on which acknowledgements for pipe `side` travel.
    pub(super) fn link_back(&self, side: Side) -> u32 {
        self.pipes[other(side)].link
    }
}

/// The other end.
pub(super) fn other(side: Side) -> Side {
    CLIENT + SERVER - side
}

/// One end.
pub(super) struct End {
    pub(super) host: u32,
    pub(super) address: SocketAddr,
    /// A program holds it, or the queue of a listener does.
    pub(super) open: bool,
    /// The kernel knows it.
    pub(super) alive: bool,
    /// It was closed, and the other kernel knows: no reset for what comes late.
    pub(super) orderly: bool,
    /// Its process or host died under it: its program is not to notice anything any more.
    pub(super) off: bool,
    /// What the program is to be told next.
    pub(super) error: Option<ErrorKind>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl End {
    pub(super) fn new(host: u32, address: SocketAddr, open: bool) -> Self {
        End { host, address, open, alive: open, orderly: false, off: false, error: None, reader: None, writer: None }
    }

    pub(super) fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// The kernel forgets it; the program is told `error`.
    pub(super) fn die(&mut self, error: Option<ErrorKind>) {
        self.alive = false;
        self.error = error;
        self.wake();
    }
}

/// Wakes whoever waits, once.
pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// One direction's bytes.
pub(super) struct Pipe {
    /// The link that they travel.
    pub(super) link: u32,
    /// Bytes from `read` to `written`.
    pub(super) bytes: VecDeque<u8>,
    /// Taken by the reading program.
    pub(super) read: u64,
    /// Arrived at the reader's host.
    pub(super) visible: u64,
    /// On the link, or arrived.
    pub(super) sent: u64,
    /// Accepted from the writing program.
    pub(super) written: u64,
    /// When something last was.
    pub(super) wrote_ns: Ns,
    /// The writer said that nothing follows.
    pub(super) finished: bool,
    /// What is on the link: (offset after it, arrival), both rising.
    pub(super) under_way: VecDeque<(u64, Ns)>,
    /// What is on the link back: (arrival, `read` as it was), both rising. Looked at when the writer next writes.
    pub(super) acks: VecDeque<(Ns, u64)>,
    /// What the writer knows to be read.
    pub(super) credit: u64,
    /// What was acknowledged.
    pub(super) acked: u64,
    /// A retransmission timer runs. The simulator knows what was lost, so it runs only then.
    pub(super) retrying: bool,
    /// What was lost is data: what follows it waits for it to be sent again.
    pub(super) gap: bool,
    /// Number of that timer: earlier ones are void.
    pub(super) timer: u32,
    /// How long the next one runs.
    pub(super) retry_ns: Ns,
    /// Since when nothing was acknowledged although something was lost.
    pub(super) stalled: Option<Ns>,
}

impl Pipe {
    fn new(link: u32, visible: u64, retry_ns: Ns) -> Self {
        Pipe {
            link,
            bytes: VecDeque::new(),
            read: 1,
            visible,
            sent: visible,
            written: 1,
            wrote_ns: 0,
            finished: false,
            under_way: VecDeque::new(),
            acks: VecDeque::new(),
            credit: 1,
            acked: visible,
            retrying: false,
            gap: false,
            timer: 0,
            retry_ns,
            stalled: None,
        }
    }

    /// The offset after all that is to be sent.
    pub(super) fn end(&self) -> u64 {
        self.written + u64::from(self.finished)
    }

    /// How many bytes the reader can take.
    pub(super) fn available(&self) -> usize {
        self.visible.min(self.written).saturating_sub(self.read) as usize
    }

    /// The reader took all, and nothing follows.
    pub(super) fn at_end(&self) -> bool {
        self.finished && self.visible > self.written
    }

    /// The writer learns from the acknowledgements that have arrived.
    pub(super) fn settle(&mut self, now: Ns) {
        while let Some(&(at, read)) = self.acks.front() {
            if at > now {
                break;
            }
            self.credit = self.credit.max(read);
            self.acks.pop_front();
        }
    }

    /// Takes bytes from the writing program. `overtaking`: ahead of those that have not arrived yet, which is a lie.
    pub(super) fn append(&mut self, bytes: &[u8], overtaking: bool) {
        self.bytes.extend(bytes);
        self.written += bytes.len() as u64;
        if overtaking {
            let arrived = self.available().min(self.bytes.len() - bytes.len());
            self.bytes.make_contiguous()[arrived..].rotate_right(bytes.len());
        }
    }

    /// How many bytes the writer may add.
    pub(super) fn room(&self, window: usize) -> usize {
        window.saturating_sub((self.written - self.credit) as usize)
    }

    /// What was on the link is lost: it has to be sent again from what arrived.
    pub(super) fn lose_under_way(&mut self) {
        self.under_way.clear();
        self.sent = self.visible;
    }

    /// Frees its memory.
    pub(super) fn empty(&mut self) {
        self.bytes = VecDeque::new();
        self.under_way = VecDeque::new();
        self.acks = VecDeque::new();
    }

    /// A new retransmission timer is to run, in place of any other.
    pub(super) fn start_retrying(&mut self) {
        self.retrying = true;
        self.timer += 1;
    }

    /// No retransmission timer runs any more.
    pub(super) fn stop_retrying(&mut self) {
        self.retrying = false;
        self.gap = false;
        self.timer += 1;
    }
}
