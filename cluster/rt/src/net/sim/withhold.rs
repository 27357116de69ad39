//! Connections on which what the acceptor says is withheld, so that one listener alone lags.
//!
//! ```text
//! transmit of the acceptor -> waits: not yet -> deliver: all of it at once, and a reset behind it if there was one
//! ```
//!
//! As a stuck proxy on the way would do it: it takes what the acceptor says and does not pass it on. Whether the other
//! end sees a delay or gives up first depends on how patient it is; in between nothing can be seen to be missing, for a
//! stream that was left out in parts would be no stream.
//!
//! A program that speaks although it was not asked has news: it is by that, and not by what is said, that connections
//! are chosen. Nobody needs to know what they carry.

use std::cmp::Reverse;

use crate::sim::{Ns, Withheld};

use super::Network;
use super::event::{CLIENT, SERVER};

/// Who speaks so long after it was last spoken to does not answer: it has news. Answers take less in peace.
const NEWS_NS: Ns = 1_000_000_000;

/// What waits in a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    /// Bytes, or the end of the stream.
    said: bool,
    reset: bool,
}

impl Network {
    /// Withholds what the acceptor says on one of the connections that are open now, were accepted on `host` at `port` and
    /// have news: the `nth`, counted round, from the one that had news last. `None` if there is no such connection.
    pub(crate) fn withhold(&mut self, host: u32, port: u16, nth: u32) -> Option<Withheld> {
        let mut open: Vec<(Reverse<Ns>, u32)> = Vec::new();
        for (c, connection) in (0..).zip(&self.connections) {
            let server = &connection.ends[SERVER];
            let accepted = server.host == host && server.address.port() == port && server.alive && server.open;
            let [asked_ns, said_ns] = [CLIENT, SERVER].map(|side| connection.pipes[side].wrote_ns);
            if connection.in_use && accepted && connection.withheld.is_none() && said_ns >= asked_ns + NEWS_NS {
                open.push((Reverse(said_ns), c));
            }
        }
        open.sort_unstable();
        let (_, chosen) = *open.get((nth as usize).checked_rem(open.len())?)?;
        if self.lies.all_is_withheld {
            for (_, c) in open {
                self.connections[c as usize].withheld = Some(Waiting::default());
            }
        }
        let connection = &mut self.connections[chosen as usize];
        connection.withheld = Some(Waiting::default());
        Some(Withheld { connection: chosen, generation: connection.generation })
    }

    /// Lets out what was withheld, and withholds no more. Nothing if the connection is gone.
    pub(crate) fn deliver(&mut self, Withheld { connection: c, generation }: Withheld) {
        let connection = &mut self.connections[c as usize];
        if connection.generation != generation {
            return;
        }
        let Some(Waiting { said, reset }) = connection.withheld.take() else { return };
        let now = self.now();
        if said {
            self.pipe(c, SERVER).stop_retrying();
            self.send_again(c, SERVER, now);
        }
        if reset {
            self.send_reset(c, CLIENT, now);
        }
    }

    /// How often something that was said on a connection that was accepted on `host` had to wait.
    pub(crate) fn withheld(&self, host: u32) -> u64 {
        self.hosts[host as usize].withheld
    }

    /// Whether what the acceptor is about to send has to wait.
    pub(super) fn waits(&mut self, c: u32) -> bool {
        let connection = &mut self.connections[c as usize];
        let Some(waiting) = connection.withheld.as_mut().filter(|_| !self.lies.what_is_withheld_arrives) else {
            return false;
        };
        waiting.said = true;
        self.hosts[connection.ends[SERVER].host as usize].withheld += 1;
        true
    }

    /// Whether a reset of the acceptor's host has to wait.
    pub(super) fn reset_waits(&mut self, c: u32) -> bool {
        let waiting = &mut self.connections[c as usize].withheld;
        waiting.as_mut().map(|waiting| waiting.reset = true).is_some()
    }
}
