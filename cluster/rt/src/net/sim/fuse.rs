//! Fuses: connections that are reset in the middle of what their acceptor says.
//!
//! ```text
//! poll_write of the acceptor -> holds_back: too much? -> transmit what may pass -> blow: reset, behind what passes
//! ```
//!
//! As a broken middlebox on the way would do it: the acceptor's program has written everything and is told later, and the
//! other end gets the first part and then a reset.

use std::io::ErrorKind;

use crate::sim::Ns;

use super::Network;
use super::event::{CLIENT, SERVER};

impl Network {
    /// Puts a fuse into each connection that is open now and was accepted on `host` at `port`: it is reset once `bytes`
    /// more were sent by the acceptor. Where there is a fuse already, the one that blows first stays.
    pub(crate) fn fuse(&mut self, host: u32, port: u16, bytes: u64) {
        for connection in &mut self.connections {
            let server = &connection.ends[SERVER];
            let accepted = server.host == host && server.address.port() == port && server.alive;
            if connection.in_use && accepted {
                let at = connection.pipes[SERVER].written.saturating_add(bytes);
                connection.fuse = Some(connection.fuse.map_or(at, |fuse| fuse.min(at)));
            }
        }
    }

    /// Takes out the fuses of all connections that were accepted on `host`.
    pub(crate) fn defuse(&mut self, host: u32) {
        for connection in self.connections.iter_mut().filter(|connection| connection.ends[SERVER].host == host) {
            connection.fuse = None;
        }
    }

    pub(crate) fn fuses_blown(&self, host: u32) -> u64 {
        self.hosts[host as usize].fuses_blown
    }

    /// Whether the acceptor has written more than its fuse lets pass; takes back what is too much.
    pub(super) fn holds_back(&mut self, c: u32) -> bool {
        let connection = &mut self.connections[c as usize];
        let pipe = &mut connection.pipes[SERVER];
        let Some(fuse) = connection.fuse.filter(|fuse| pipe.written > *fuse && !self.lies.fuses_never_blow) else {
            return false;
        };
        if !self.lies.what_blows_a_fuse_arrives {
            let excess = (pipe.written - fuse) as usize;
            pipe.bytes.truncate(pipe.bytes.len() - excess);
            pipe.written = fuse;
        }
        true
    }

    /// Resets a connection whose fuse has blown: the acceptor's end at once, the other behind what passed.
    pub(super) fn blow(&mut self, c: u32, now: Ns) {
        let connection = &mut self.connections[c as usize];
        connection.fuse = None;
        let server = &mut connection.ends[SERVER];
        server.die(Some(ErrorKind::ConnectionReset));
        let host = server.host;
        self.hosts[host as usize].fuses_blown += 1;
        self.send_reset(c, CLIENT, now);
    }
}
