//! How bytes get across: sent in bursts, acknowledged, and sent again when they were lost.
//!
//! ```text
//! write -> transmit --arrives--> on_segment -> reader, acknowledge -> credit for the writer
//!              `--lost--> retransmission timer -> on_retry -> send_again
//! ```

use std::io::ErrorKind;

use crate::sim::Ns;

use super::Network;
use super::connection::{RETRY_MAX_NS, RETRY_NS, other, wake};
use super::event::{CLIENT, Kind, SERVER, Side};
use super::link::{PACKET_BYTES, Passage};

/// Packets behind a lost one that make its sender try again at once: they are acknowledged as coming after a gap.
const DUPLICATES: usize = 3;

impl Network {
    /// Puts what is written and not sent on the link. `force`: even if that is nothing, which asks the other end for an
    /// acknowledgement, and even if something ahead of it is missing.
    pub(super) fn transmit(&mut self, c: u32, side: Side, now: Ns, force: bool) {
        let connection = &self.connections[c as usize];
        let pipe = &connection.pipes[side];
        let (sent, end, link) = (pipe.sent, pipe.end(), pipe.link);
        let idle = pipe.gap || sent >= end;
        if !connection.ends[side].alive || connection.connecting(side) || idle && !force {
            return;
        }
        if side == SERVER && self.waits(c) {
            return;
        }
        let bytes = (end - sent) as usize;
        match self.offer(link, bytes, now) {
            Passage::Arrives { at, bytes: passing } => {
                if passing > 0 || bytes == 0 {
                    self.put_under_way(c, side, sent + passing as u64, at);
                }
                if passing < bytes {
                    self.burst_torn(c, side, bytes - passing, at, now);
                }
            }
            Passage::Lost => self.segment_lost(c, side, now),
            Passage::Held => {
                self.keep(link, Kind::Segment, c, side);
                self.lost(c, side, now);
            }
        }
    }

    /// Bytes up to `end` arrive at `at`; not before those ahead of them, for they keep their order.
    fn put_under_way(&mut self, c: u32, side: Side, end: u64, at: Ns) {
        let pipe = self.pipe(c, side);
        pipe.sent = end;
        match pipe.under_way.back_mut() {
            Some(last) if last.1 >= at => last.0 = end,
            _ => {
                pipe.under_way.push_back((end, at));
                self.at(at, Kind::Segment, c, side);
            }
        }
    }

    /// The last `rest` bytes of a burst did not get through. If enough packets follow the lost one, their
    /// acknowledgements tell after a round trip.
    fn burst_torn(&mut self, c: u32, side: Side, rest: usize, arrival: Ns, now: Ns) {
        if rest <= DUPLICATES * PACKET_BYTES {
            return self.lost(c, side, now);
        }
        let back = self.connections[c as usize].link_back(side);
        let told = arrival + self.links[back as usize].delay();
        self.stats.lost += 1;
        let connection = &mut self.connections[c as usize];
        let pipe = &mut connection.pipes[side];
        if pipe.gap || !connection.ends[side].alive {
            return;
        }
        pipe.stalled.get_or_insert(now);
        pipe.gap = true;
        pipe.start_retrying();
        // That wait says nothing about the link's state: the next one is to be as long as it would have been.
        pipe.retry_ns = (pipe.retry_ns / 2).max(RETRY_NS / 2);
        self.at(told, Kind::Retry, c, side);
    }

    /// A cut, or a loss that nothing follows.
    fn segment_lost(&mut self, c: u32, side: Side, now: Ns) {
        let link = self.pipe(c, side).link;
        if self.severed(link) {
            if self.lies.partition_resets {
                self.connections[c as usize].ends[side].die(Some(ErrorKind::ConnectionReset));
                return self.forget_if_dead(c);
            }
            if self.lies.close_crosses_partition && self.pipe(c, side).finished {
                let pipe = self.pipe(c, side);
                pipe.sent = pipe.end();
                pipe.visible = pipe.end();
                self.connections[c as usize].ends[other(side)].wake();
            }
        }
        self.lost(c, side, now);
    }

    /// Sends again what did not arrive and is not under way.
    pub(super) fn send_again(&mut self, c: u32, side: Side, now: Ns) {
        let pipe = self.pipe(c, side);
        if pipe.under_way.is_empty() {
            pipe.sent = pipe.visible;
        }
        self.transmit(c, side, now, true);
    }

    pub(super) fn on_segment(&mut self, c: u32, side: Side, now: Ns) {
        let pipe = self.pipe(c, side);
        let mut arrived = None;
        while let Some(&(end, at)) = pipe.under_way.front() {
            if at > now {
                break;
            }
            arrived = Some(end);
            pipe.under_way.pop_front();
        }
        let Some(end) = arrived else { return };
        let link = pipe.link;
        if !self.passes(link, Kind::Segment, c, side) {
            self.pipe(c, side).lose_under_way();
            return self.segment_lost(c, side, now);
        }
        if self.pipe(c, side).visible == 0 {
            self.establish_server(c);
        }
        let connection = &mut self.connections[c as usize];
        let (pipe, reader) = (&mut connection.pipes[side], &mut connection.ends[other(side)]);
        let data = end.min(pipe.written) > pipe.visible.max(1);
        let known = reader.alive || reader.orderly && !data;
        if !known || !reader.open && data {
            return self.nobody_there(c, side, now);
        }
        if end > pipe.visible {
            pipe.visible = end;
            wake(&mut reader.reader);
        }
        self.acknowledge(c, side, now, false);
    }

    /// A segment for a connection that the reader's kernel does not know, or data for one that its program closed.
    fn nobody_there(&mut self, c: u32, side: Side, now: Ns) {
        let connection = &mut self.connections[c as usize];
        let reader = &mut connection.ends[other(side)];
        reader.alive = false;
        reader.orderly = false;
        let rebooted = reader.off;
        connection.pipes[side].lose_under_way();
        self.lost(c, side, now);
        if !(self.lies.reboot_is_silent && rebooted) {
            self.send_reset(c, side, now);
        }
        self.forget_if_dead(c);
    }

    /// Tells the writer of pipe `side` what has arrived and been read. `update`: only the latter has changed.
    pub(super) fn acknowledge(&mut self, c: u32, side: Side, now: Ns, update: bool) {
        let connection = &self.connections[c as usize];
        let (back, writer) = (connection.link_back(side), &connection.ends[side]);
        let blocked = writer.writer.is_some();
        if !writer.alive {
            return;
        }
        match self.offer(back, 0, now) {
            Passage::Arrives { at, .. } => self.acknowledged(c, side, at, now, blocked),
            passage => {
                if passage == Passage::Held && (blocked || !update) {
                    self.keep(back, Kind::Ack, c, side);
                }
                if blocked || !update {
                    self.unacknowledged(c, side, now);
                }
            }
        }
    }

    fn acknowledged(&mut self, c: u32, side: Side, at: Ns, now: Ns, blocked: bool) {
        let pipe = self.pipe(c, side);
        pipe.settle(now);
        let at = pipe.acks.back().map_or(at, |last| last.0.max(at));
        match pipe.acks.back_mut() {
            Some(last) if last.0 == at => last.1 = pipe.read,
            _ => pipe.acks.push_back((at, pipe.read)),
        }
        let all = pipe.visible == pipe.end();
        if pipe.visible > pipe.acked || all {
            pipe.acked = pipe.visible;
            pipe.retry_ns = RETRY_NS;
            pipe.stalled = None;
            if all && pipe.retrying {
                pipe.stop_retrying();
            }
        }
        if blocked {
            self.at(at, Kind::Writable, c, side);
        }
        self.forget_if_closed(c, side);
    }

    /// Something of pipe `side` was lost: its writer sends it again after a while, and what follows waits for it.
    pub(super) fn lost(&mut self, c: u32, side: Side, now: Ns) {
        self.pipe(c, side).gap = true;
        self.unacknowledged(c, side, now);
    }

    /// The writer of pipe `side` gets no answer: it tries again after a while.
    pub(super) fn unacknowledged(&mut self, c: u32, side: Side, now: Ns) {
        self.stats.lost += 1;
        let limit = self.patience(c, side);
        let connection = &mut self.connections[c as usize];
        let pipe = &mut connection.pipes[side];
        if pipe.retrying || !connection.ends[side].alive {
            return;
        }
        let since = *pipe.stalled.get_or_insert(now);
        pipe.start_retrying();
        let at = (now + pipe.retry_ns).min((since + limit).max(now + 1));
        self.at(at, Kind::Retry, c, side);
    }

    pub(super) fn on_retry(&mut self, c: u32, side: Side, now: Ns) {
        let limit = self.patience(c, side);
        let connection = &mut self.connections[c as usize];
        let connecting = connection.connecting(side);
        let pipe = &mut connection.pipes[side];
        pipe.stop_retrying();
        if !connection.ends[side].alive {
            return;
        }
        if pipe.stalled.is_some_and(|since| now - since >= limit) {
            pipe.under_way.clear();
            connection.ends[side].die(Some(ErrorKind::TimedOut));
            return self.forget_if_dead(c);
        }
        if !self.lies.retransmission_never_backs_off {
            pipe.retry_ns = (pipe.retry_ns * 2).min(RETRY_MAX_NS);
        }
        if connecting {
            self.send_syn(c, now);
        } else {
            self.send_again(c, side, now);
        }
    }

    /// How long the writer of pipe `side` goes on without an answer.
    fn patience(&self, c: u32, side: Side) -> Ns {
        let connecting = side == CLIENT && self.connections[c as usize].connecting(side);
        if self.lies.retries_have_no_limit {
            return Ns::MAX / 4;
        }
        let limit = if connecting { self.tcp.connect_limit } else { self.tcp.retry_limit };
        limit.as_nanos() as Ns
    }

    /// The lie of a network that tells streams when it is whole again.
    pub(super) fn retry_all_on(&mut self, link: u32) {
        let now = self.now();
        for c in 0..self.connections.len() as u32 {
            for side in 0..2 {
                let connection = &mut self.connections[c as usize];
                let pipe = &mut connection.pipes[side];
                if connection.in_use && pipe.retrying && pipe.link == link {
                    pipe.stop_retrying();
                    self.send_again(c, side, now);
                }
            }
        }
    }
}
