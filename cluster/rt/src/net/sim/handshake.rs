//! How a connection comes about: SYN, SYN-ACK, and the last step, which is offset 0 of the client's pipe.
//!
//! ```text
//! connect -> SYN --> listener? --no--> reset (refused)
//!                        `--yes-> SYN-ACK --> established --> segment with offset 0 --> listener's queue --> accept
//! ```
//!
//! The server's kernel keeps nothing of a connection until the last step arrives.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use crate::sim::Ns;

use super::connection::{Connection, End, RETRY_NS, wake};
use super::event::{CLIENT, Kind, SERVER};
use super::link::Passage;
use super::{Backlog, FIRST_PORT, LAST_PORT, Network};

/// How many connections wait to be accepted, as tokio asks of Linux; later ones have to try again.
const BACKLOG: usize = 1024;

impl Network {
    /// The host at `address` as `host` sees it; `None` if there is none.
    pub(super) fn host_at(&self, host: u32, address: IpAddr) -> Option<u32> {
        if address.is_loopback() {
            return Some(host);
        }
        self.by_address.get(&address).copied()
    }

    /// A client on host `from` asks for a connection. Returns its number and generation.
    pub(super) fn connect(&mut self, from: u32, to: u32, at: SocketAddr) -> (u32, u32) {
        let now = self.now();
        let (there, back) = (self.link(from, to), self.link(to, from));
        let local = SocketAddr::new(self.hosts[from as usize].address, self.free_port(from));
        let remote =
            if at.ip().is_loopback() { SocketAddr::new(self.hosts[to as usize].address, at.port()) } else { at };
        let (client, server) = (End::new(from, local, true), End::new(to, remote, false));
        let c = self.free.pop().unwrap_or(self.connections.len() as u32);
        let generation = self.connections.get(c as usize).map_or(0, |old| old.generation);
        let connection = Connection::new(generation, client, server, there, back);
        match self.connections.get_mut(c as usize) {
            Some(old) => *old = connection,
            None => self.connections.push(connection),
        }
        self.stats.connections += 1;
        self.send_syn(c, now);
        (c, generation)
    }

    /// A listener on `host`; port 0 is any. Returns its address.
    pub(super) fn listen(&mut self, host: u32, at: SocketAddr) -> io::Result<SocketAddr> {
        let ours = self.hosts[host as usize].address;
        let ip = if at.ip().is_unspecified() || at.ip().is_loopback() { ours } else { at.ip() };
        if !self.answers_for(host, ip) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        let port = if at.port() == 0 { self.free_port(host) } else { at.port() };
        let at = SocketAddr::new(ip, port);
        let listeners = &mut self.hosts[host as usize].listeners;
        if listeners.contains_key(&at) {
            return Err(ErrorKind::AddrInUse.into());
        }
        listeners.insert(at, Backlog::default());
        Ok(at)
    }

    fn free_port(&mut self, host: u32) -> u16 {
        let host = &mut self.hosts[host as usize];
        loop {
            let port = host.next_port;
            host.next_port = if port == LAST_PORT { FIRST_PORT } else { port + 1 };
            if !host.listeners.contains_key(&SocketAddr::new(host.address, port)) {
                return port;
            }
        }
    }

    pub(super) fn send_syn(&mut self, c: u32, now: Ns) {
        let link = self.pipe(c, CLIENT).link;
        match self.offer(link, 0, now) {
            Passage::Arrives { at, .. } => self.at(at, Kind::Syn, c, CLIENT),
            Passage::Lost => self.syn_lost(c, now),
            Passage::Held => {
                self.keep(link, Kind::Syn, c, CLIENT);
                self.lost(c, CLIENT, now);
            }
        }
    }

    pub(super) fn on_syn(&mut self, c: u32, now: Ns) {
        let connection = &self.connections[c as usize];
        let (link, server) = (connection.pipes[CLIENT].link, &connection.ends[SERVER]);
        let (host, mut at) = (server.host as usize, server.address);
        if connection.established || !connection.ends[CLIENT].alive {
            return;
        }
        if !self.passes(link, Kind::Syn, c, CLIENT) {
            return self.syn_lost(c, now);
        }
        if self.lies.added_addresses_are_the_hosts_own && !self.hosts[host].listeners.contains_key(&at) {
            at.set_ip(self.hosts[host].address);
        }
        match self.hosts[host].listeners.get(&at) {
            Some(backlog) if backlog.queue.len() < BACKLOG => {
                self.connections[c as usize].server_epoch = self.hosts[host].epoch;
                self.send_syn_ack(c, now);
            }
            Some(_) => self.lost(c, CLIENT, now),
            None if self.lies.missing_listener_is_silent => self.lost(c, CLIENT, now),
            None => self.send_reset(c, CLIENT, now),
        }
    }

    /// Nobody hears the client: it asks again, for as long as it has patience.
    fn syn_lost(&mut self, c: u32, now: Ns) {
        if self.lies.dead_host_refuses {
            self.connections[c as usize].ends[CLIENT].die(Some(ErrorKind::ConnectionRefused));
            return self.forget_if_dead(c);
        }
        self.lost(c, CLIENT, now);
    }

    pub(super) fn send_syn_ack(&mut self, c: u32, now: Ns) {
        let link = self.pipe(c, SERVER).link;
        match self.offer(link, 0, now) {
            Passage::Arrives { at, .. } => self.at(at, Kind::SynAck, c, SERVER),
            Passage::Lost => self.lost(c, CLIENT, now),
            Passage::Held => {
                self.keep(link, Kind::SynAck, c, SERVER);
                self.lost(c, CLIENT, now);
            }
        }
    }

    pub(super) fn on_syn_ack(&mut self, c: u32, now: Ns) {
        let link = self.pipe(c, SERVER).link;
        if !self.passes(link, Kind::SynAck, c, SERVER) {
            return self.lost(c, CLIENT, now);
        }
        let connection = &mut self.connections[c as usize];
        if connection.established || !connection.ends[CLIENT].alive {
            return;
        }
        connection.established = true;
        let pipe = &mut connection.pipes[CLIENT];
        pipe.retry_ns = RETRY_NS;
        pipe.stalled = None;
        pipe.stop_retrying();
        connection.ends[CLIENT].wake();
        self.transmit(c, CLIENT, now, false);
    }

    /// The last step arrived: the connection waits to be accepted, unless the listener is gone or another.
    pub(super) fn establish_server(&mut self, c: u32) {
        let connection = &mut self.connections[c as usize];
        let server = &mut connection.ends[SERVER];
        let host = &mut self.hosts[server.host as usize];
        if connection.server_epoch != host.epoch {
            return;
        }
        if let Some(backlog) = host.listeners.get_mut(&server.address) {
            server.alive = true;
            server.open = true;
            backlog.queue.push_back(c);
            wake(&mut backlog.acceptor);
        }
    }
}
