//! How connections end: closed by a program, reset, killed with a process, or silent with a host.

use std::io::ErrorKind;

use crate::sim::Ns;

use super::connection::{Pipe, other};
use super::event::{CLIENT, Kind, SERVER, Side};
use super::link::Passage;
use super::{Backlog, Network};

impl Network {
    /// The program says that it writes no more: the end of the stream travels as data does.
    pub(super) fn shut_down(&mut self, c: u32, side: Side, now: Ns) {
        let connection = &mut self.connections[c as usize];
        let pipe = &mut connection.pipes[side];
        if connection.ends[side].alive && !pipe.finished {
            pipe.finished = true;
            self.transmit(c, side, now, false);
        }
    }

    /// The program lets go of its end. What it left unread is answered with a reset, as Linux does.
    pub(super) fn close(&mut self, c: u32, side: Side, now: Ns) {
        let connection = &mut self.connections[c as usize];
        let connecting = connection.connecting(side);
        let unread = connection.pipes[other(side)].available() > 0;
        let end = &mut connection.ends[side];
        end.open = false;
        (end.reader, end.writer) = (None, None);
        if !end.alive {
            return self.forget_if_dead(c);
        }
        if connecting || unread {
            end.alive = false;
            if unread {
                self.send_reset(c, other(side), now);
            }
            return self.forget_if_dead(c);
        }
        self.shut_down(c, side, now);
        self.forget_if_closed(c, side);
    }

    /// Nobody accepts from these any more.
    pub(super) fn close_backlog(&mut self, backlog: Backlog, now: Ns) {
        for c in backlog.queue {
            let server = &mut self.connections[c as usize].ends[SERVER];
            server.open = false;
            if server.alive {
                server.alive = false;
                self.send_reset(c, CLIENT, now);
            }
            self.forget_if_dead(c);
        }
    }

    /// A reset for the end `to`. It does not overtake what is under way.
    pub(super) fn send_reset(&mut self, c: u32, to: Side, now: Ns) {
        if to == CLIENT && self.reset_waits(c) {
            return;
        }
        self.stats.resets += 1;
        let pipe = self.pipe(c, other(to));
        let (link, last) = (pipe.link, pipe.under_way.back().map_or(0, |last| last.1));
        match self.offer(link, 0, now) {
            Passage::Arrives { at, .. } => {
                let at = if self.lies.refusal_is_instant { now } else { at };
                self.at(at.max(last), Kind::Reset, c, to);
            }
            Passage::Held => self.keep(link, Kind::Reset, c, to),
            // The other end asks again, or stays half open.
            Passage::Lost => {}
        }
    }

    pub(super) fn on_reset(&mut self, c: u32, to: Side) {
        let link = self.pipe(c, other(to)).link;
        if !self.passes(link, Kind::Reset, c, to) {
            return;
        }
        let connection = &mut self.connections[c as usize];
        let error = if connection.connecting(to) { ErrorKind::ConnectionRefused } else { ErrorKind::ConnectionReset };
        if connection.ends[to].alive {
            connection.pipes[to].under_way.clear();
            connection.ends[to].die(Some(error));
        }
        self.forget_if_dead(c);
    }

    /// The host's process is killed: its kernel closes all its sockets, now, and says so to the others.
    pub(crate) fn kill_process(&mut self, host: u32) {
        let now = self.now();
        let entry = &mut self.hosts[host as usize];
        entry.epoch += 1;
        let listeners = std::mem::take(&mut entry.listeners);
        for backlog in listeners.into_values() {
            self.close_backlog(backlog, now);
        }
        for (c, side) in self.ends_on(host) {
            let end = &mut self.connections[c as usize].ends[side];
            if !end.open {
                continue;
            }
            end.off = true;
            if self.lies.killed_process_says_nothing {
                end.open = false;
                continue;
            }
            self.close(c, side, now);
            if self.lies.kill_news_is_instant {
                let connection = &mut self.connections[c as usize];
                let pipe = &mut connection.pipes[side];
                (pipe.sent, pipe.visible) = (pipe.end(), pipe.end());
                connection.ends[other(side)].wake();
            }
        }
    }

    /// The host loses its power: it says nothing to anybody. What had left it is under way.
    pub(crate) fn power_off(&mut self, host: u32) {
        if self.lies.power_loss_closes {
            self.kill_process(host);
        }
        let entry = &mut self.hosts[host as usize];
        entry.epoch += 1;
        entry.powered = false;
        let listeners = std::mem::take(&mut entry.listeners);
        for (c, side) in self.ends_on(host) {
            let end = &mut self.connections[c as usize].ends[side];
            end.open = false;
            end.alive = false;
            end.orderly = false;
            end.off = true;
            (end.reader, end.writer) = (None, None);
            self.forget_if_dead(c);
        }
        drop(listeners);
    }

    /// The host is back at its address, and remembers nothing.
    pub(crate) fn power_on(&mut self, host: u32) {
        self.hosts[host as usize].powered = true;
        self.forget_told(host);
    }

    /// Both ends of every connection between the two hosts are told that it is reset.
    pub(crate) fn reset_between(&mut self, one: u32, other_host: u32) {
        for c in 0..self.connections.len() {
            let connection = &mut self.connections[c];
            let hosts = (connection.ends[0].host, connection.ends[1].host);
            if !connection.in_use || (hosts != (one, other_host) && hosts != (other_host, one)) {
                continue;
            }
            for side in 0..connection.ends.len() {
                if connection.ends[side].alive {
                    connection.pipes[side].under_way.clear();
                    connection.ends[side].die(Some(ErrorKind::ConnectionReset));
                }
            }
            self.forget_if_dead(c as u32);
        }
    }

    /// All ends on `host` that a program holds or its kernel knows.
    fn ends_on(&self, host: u32) -> Vec<(u32, Side)> {
        let mut ends = Vec::new();
        for (c, connection) in self.connections.iter().enumerate() {
            for (side, end) in connection.ends.iter().enumerate() {
                if connection.in_use && end.host == host && (end.open || end.alive) {
                    ends.push((c as u32, side));
                }
            }
        }
        ends
    }

    /// The kernel of an end that was closed forgets it once the other has acknowledged everything.
    pub(super) fn forget_if_closed(&mut self, c: u32, side: Side) {
        let connection = &mut self.connections[c as usize];
        let (pipe, end) = (&connection.pipes[side], &mut connection.ends[side]);
        let acknowledged = pipe.finished && pipe.visible == pipe.end() && !pipe.retrying;
        if !end.open && end.alive && acknowledged {
            end.alive = false;
            end.orderly = true;
            self.forget_if_dead(c);
        }
    }

    /// The connection's number is free again once neither program nor kernel knows of it.
    pub(super) fn forget_if_dead(&mut self, c: u32) {
        let connection = &mut self.connections[c as usize];
        let known = connection.ends.iter().any(|end| end.open || end.alive);
        if known || !connection.in_use {
            return;
        }
        connection.in_use = false;
        connection.generation += 1;
        connection.pipes.iter_mut().for_each(Pipe::empty);
        self.free.push(c);
    }
}
