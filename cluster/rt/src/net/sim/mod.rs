//! The simulated network: what a program sees of Linux TCP, without a packet's details.
//!
//! ```text
//! program -> stream.rs -> pipe: bytes, offsets --offer--> link: fate, arrival --> agenda
//!    ^                                                                              |
//!    `-- waker <-- arrival, reset, retransmission, window  <-- driver task <--------'
//! ```
//!
//! What it keeps of TCP, sentence by sentence in tests/network:
//! - Connecting to a dead or cut-off host is silence until the caller's timeout; to a live host without a listener, a
//!   refusal after one round trip.
//! - Bytes keep their order per direction. Delay, jitter, loss, rate and a bounded window belong to the directed link.
//! - Loss shows as the delay of a retransmission, with backoff.
//! - A partition is silence: writes fill the window and block, and flow again at a retransmission after it heals, or
//!   fail after the retry limit.
//! - A killed process closes its sockets, and that news travels as data does. A host that lost power says nothing, its
//!   peers stay half open, and after reboot it answers old connections with a reset. A paused process's kernel goes on.
//! - Names take time to resolve. Nothing crosses a link at once.
//! - A connection with a fuse is reset once its acceptor has sent a number of bytes on it: they arrive, what follows does
//!   not, and both ends are told. Other connections are left alone.
//! - What the acceptor of one connection says can be withheld: it waits, the end of the stream and a reset too, and comes out
//!   all at once. What it hears, and all other connections, are left alone.
//!
//! An exchange costs one event, its arrival: acknowledgements carry nothing that a program sees, so that they are only
//! noted and looked at when the sender next writes, unless a writer is blocked. The simulator knows what was lost, so
//! that a retransmission timer exists only then. Segments are offsets, not bytes. There is no pump: an idle network has
//! no event.
//!
//! Limits: streams only; no congestion control, urgent data, keep-alive or path MTU; a lost packet is sent again after a
//! round trip if three others follow it, and otherwise only after the retransmission timeout; what is lost ahead of a
//! fuse's reset is not sent again, nor what was withheld if the acceptor's end was reset or lost its power meanwhile; the queue of a listener is bounded, the number of sockets and ports is not.
//!
//! **Invariant:** what a program reads is a prefix of what the other wrote, and a connection is forgotten once both
//! ends are (`chaos_conserves_bytes_and_leaks_nothing` in tests/determinism.rs).

mod connection;
mod event;
mod fuse;
mod handshake;
mod kernel;
mod link;
mod resolver;
mod stream;
mod teardown;
mod transfer;
mod withhold;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;
use std::time::Duration;

use madsim::time::TimeHandle;

use crate::random::{Random, seed_of};
use crate::sim::{Agenda, Config, Lies, Ns};

use connection::{Connection, wake};
use event::{Event, Kind, Packet, Side};
use kernel::Kernel;
use link::{Link, Passage};

pub use link::LinkConfig;
pub use resolver::ResolverConfig;
pub(crate) use resolver::lookup;
pub(crate) use stream::{Listener, ReadHalf, Stream, WriteHalf};

/// First of the ports that the kernel gives out, as on Linux.
const FIRST_PORT: u16 = 32_768;
/// Last of them.
const LAST_PORT: u16 = 60_999;

/// How the kernels' TCP gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    /// How long something may stay unacknowledged until its stream fails with `TimedOut`.
    pub retry_limit: Duration,
    /// How long connecting may stay unanswered until it fails with `TimedOut`.
    pub connect_limit: Duration,
}

impl Default for TcpConfig {
    /// Linux's: tcp_retries2 = 15 and tcp_syn_retries = 6.
    fn default() -> Self {
        TcpConfig { retry_limit: Duration::from_secs(924), connect_limit: Duration::from_secs(127) }
    }
}

/// What the network has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Events handled.
    pub events: u64,
    /// Bytes that programs wrote.
    pub bytes: u64,
    /// Connections asked for.
    pub connections: u64,
    /// Connections that at least one kernel still knows.
    pub live_connections: u64,
    /// Packets and bursts of which something was lost, to cuts too.
    pub lost: u64,
    /// Resets sent.
    pub resets: u64,
}

/// All hosts' kernels, as far as they concern the network, and the links between them.
pub(crate) struct Network {
    agenda: Agenda<Event>,
    seed: u64,
    tcp: TcpConfig,
    resolver: ResolverConfig,
    resolver_random: Random,
    lies: Lies,
    /// Of links that nothing else was said about.
    link_config: LinkConfig,
    /// By number of host.
    hosts: Vec<Host>,
    by_address: BTreeMap<IpAddr, u32>,
    by_name: BTreeMap<String, u32>,
    links: Vec<Link>,
    link_numbers: BTreeMap<(u32, u32), u32>,
    connections: Vec<Connection>,
    /// Numbers of connections that can be used again.
    free: Vec<u32>,
    digest: u64,
    stats: NetworkStats,
}

struct Host {
    name: String,
    address: IpAddr,
    powered: bool,
    paused: bool,
    /// Number of its process, counting those that are gone.
    epoch: u32,
    /// By the address that they are heard at, which for a listener on all of the host's is the host's own.
    listeners: BTreeMap<SocketAddr, Backlog>,
    kernel: Kernel,
    next_port: u16,
    /// How many connections that were accepted here a fuse has reset.
    fuses_blown: u64,
    /// How often something said on a connection that was accepted here had to wait because it was withheld.
    withheld: u64,
}

/// Connections that wait to be accepted.
#[derive(Default)]
struct Backlog {
    queue: VecDeque<u32>,
    acceptor: Option<Waker>,
}

impl Network {
    pub(crate) fn new(time: TimeHandle, config: &Config) -> Self {
        Network {
            agenda: Agenda::new(time),
            seed: config.seed,
            tcp: config.tcp,
            resolver: config.resolver,
            resolver_random: Random::from_seed(seed_of(config.seed, &[b"resolver"])),
            lies: config.lies,
            link_config: config.link,
            hosts: Vec::new(),
            by_address: BTreeMap::new(),
            by_name: BTreeMap::new(),
            links: Vec::new(),
            link_numbers: BTreeMap::new(),
            connections: Vec::new(),
            free: Vec::new(),
            digest: config.seed,
            stats: NetworkStats::default(),
        }
    }

    pub(crate) fn add_host(&mut self, name: &str, address: IpAddr) -> u32 {
        let host = self.hosts.len() as u32;
        assert!(self.by_address.insert(address, host).is_none(), "{address} is taken");
        assert!(self.by_name.insert(name.to_owned(), host).is_none(), "{name} is taken");
        self.hosts.push(Host {
            name: name.to_owned(),
            address,
            powered: true,
            paused: false,
            epoch: 0,
            listeners: BTreeMap::new(),
            kernel: Kernel::new(Random::from_seed(seed_of(self.seed, &[b"kernel", name.as_bytes()]))),
            next_port: FIRST_PORT,
            fuses_blown: 0,
            withheld: 0,
        });
        host
    }

    pub(crate) fn address(&self, host: u32) -> IpAddr {
        self.hosts[host as usize].address
    }

    pub(crate) fn set_cut(&mut self, from: u32, to: u32, cut: bool) {
        let link = self.link(from, to);
        self.links[link as usize].cut = cut;
        if self.lies.links_are_not_directed {
            let back = self.link(to, from);
            self.links[back as usize].cut = cut;
        }
        if self.lies.healing_is_noticed_at_once && !cut {
            self.retry_all_on(link);
        }
    }

    pub(crate) fn set_link(&mut self, from: u32, to: u32, config: LinkConfig) {
        let config = self.believed(config);
        let link = self.link(from, to);
        self.links[link as usize].configure(config);
        if self.lies.links_are_not_directed {
            let back = self.link(to, from);
            self.links[back as usize].configure(config);
        }
    }

    pub(crate) fn link_config(&mut self, from: u32, to: u32) -> LinkConfig {
        let link = self.link(from, to);
        self.links[link as usize].config()
    }

    pub(crate) fn hold(&mut self, from: u32, to: u32) {
        if self.lies.hold_leaks {
            return;
        }
        let link = self.link(from, to);
        self.links[link as usize].held.get_or_insert_default();
    }

    pub(crate) fn release(&mut self, from: u32, to: u32) {
        let link = self.link(from, to);
        let now = self.now();
        for packet in self.links[link as usize].held.take().unwrap_or_default() {
            let c = packet.connection;
            if self.connections[c as usize].generation != packet.generation {
                continue;
            }
            match packet.kind {
                Kind::Syn => self.send_syn(c, now),
                Kind::SynAck => self.send_syn_ack(c, now),
                Kind::Reset => self.send_reset(c, packet.side, now),
                Kind::Ack => self.acknowledge(c, packet.side, now, true),
                Kind::Segment => {
                    self.pipe(c, packet.side).stop_retrying();
                    self.send_again(c, packet.side, now);
                }
                Kind::Retry | Kind::Writable => unreachable!("these stay on their host"),
            }
        }
    }

    /// Only a lie asks whether a process is paused: its kernel is not.
    pub(crate) fn set_paused(&mut self, host: u32, paused: bool) {
        self.hosts[host as usize].paused = paused;
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn stats(&self) -> NetworkStats {
        let live_connections = (self.connections.len() - self.free.len()) as u64;
        NetworkStats { live_connections, ..self.stats }
    }

    /// What the driver does when woken.
    pub(crate) fn drive(&mut self, waker: &Waker) {
        self.agenda.begin(waker);
        let now = self.now();
        while let Some((at, event)) = self.agenda.next_due(now) {
            self.handle(at, event, now);
        }
        self.agenda.end();
    }

    /// Forgets everything; what it kept of tasks is to be dropped without a lock held.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        let mut wakers: Vec<Waker> = self.agenda.clear().into_iter().collect();
        for connection in &mut self.connections {
            for end in &mut connection.ends {
                end.off = true;
                wakers.extend(end.reader.take());
                wakers.extend(end.writer.take());
            }
        }
        for host in &mut self.hosts {
            host.epoch += 1;
            let listeners = std::mem::take(&mut host.listeners);
            wakers.extend(listeners.into_values().filter_map(|backlog| backlog.acceptor));
        }
        wakers
    }

    fn handle(&mut self, at: Ns, event: Event, now: Ns) {
        let (c, side) = (event.connection, Side::from(event.side));
        let connection = &self.connections[c as usize];
        let pipe = &connection.pipes[side];
        let void = connection.generation != event.generation
            || event.kind == Kind::Retry && !(pipe.retrying && pipe.timer == event.timer);
        if void {
            return;
        }
        self.stats.events += 1;
        let what = u64::from(c) << 16 | (event.kind as u64) << 8 | u64::from(event.side);
        for part in [at, what, pipe.visible ^ pipe.written << 32] {
            self.digest = (self.digest ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        match event.kind {
            Kind::Syn => self.on_syn(c, now),
            Kind::SynAck => self.on_syn_ack(c, now),
            Kind::Segment => self.on_segment(c, side, now),
            Kind::Reset => self.on_reset(c, side),
            Kind::Retry => self.on_retry(c, side, now),
            Kind::Writable => wake(&mut self.connections[c as usize].ends[side].writer),
            Kind::Ack => unreachable!("an acknowledgement is no event"),
        }
    }

    // What the handlers share.

    fn now(&self) -> Ns {
        self.agenda.now()
    }

    fn at(&mut self, at: Ns, kind: Kind, c: u32, side: Side) {
        let connection = &self.connections[c as usize];
        let timer = if kind == Kind::Retry { connection.pipes[side].timer } else { 0 };
        let generation = connection.generation;
        self.agenda.at(at, Event { kind, side: side as u8, connection: c, generation, timer });
    }

    fn pipe(&mut self, c: u32, side: Side) -> &mut connection::Pipe {
        &mut self.connections[c as usize].pipes[side]
    }

    /// Number of the link; made at its first use.
    fn link(&mut self, from: u32, to: u32) -> u32 {
        if let Some(&link) = self.link_numbers.get(&(from, to)) {
            return link;
        }
        let config = if from == to { self.link_config.loopback() } else { self.link_config };
        let name = |host: u32| self.hosts[host as usize].name.as_bytes();
        let random = Random::from_seed(seed_of(self.seed, &[b"link", name(from), name(to)]));
        let link = self.links.len() as u32;
        self.links.push(Link::new(to, self.believed(config), random));
        self.link_numbers.insert((from, to), link);
        link
    }

    /// A link's configuration, but for the lies told.
    fn believed(&self, mut config: LinkConfig) -> LinkConfig {
        if self.lies.links_have_no_jitter {
            config.jitter = Duration::ZERO;
        }
        if self.lies.links_have_no_rate {
            config.bytes_per_second = 0;
        }
        if self.lies.loss_is_harmless {
            config.loss_permille = 0;
        }
        if self.lies.window_is_unbounded {
            config.window = usize::MAX;
        }
        config
    }

    /// A burst of `bytes` enters a link.
    fn offer(&mut self, link: u32, bytes: usize, now: Ns) -> Passage {
        match self.links[link as usize].offer(now, bytes) {
            Passage::Arrives { bytes, .. } if self.lies.links_have_no_delay => Passage::Arrives { at: now, bytes },
            passage => passage,
        }
    }

    fn severed(&self, link: u32) -> bool {
        self.links[link as usize].cut
    }

    /// Whether what comes out of the link now reaches its host. If it is held it waits on; otherwise it is lost.
    fn passes(&mut self, link: u32, kind: Kind, c: u32, side: Side) -> bool {
        let to = &self.hosts[self.links[link as usize].to as usize];
        let deaf = !to.powered || to.paused && self.lies.paused_kernel_stops;
        if self.severed(link) || deaf {
            return false;
        }
        if self.links[link as usize].held.is_some() {
            self.keep(link, kind, c, side);
            return false;
        }
        true
    }

    /// Lets a packet wait in a held link. What is sent again meanwhile waits there already.
    fn keep(&mut self, link: u32, kind: Kind, c: u32, side: Side) {
        let generation = self.connections[c as usize].generation;
        let packet = Packet { kind, connection: c, generation, side };
        if let Some(held) = &mut self.links[link as usize].held
            && !held.contains(&packet)
        {
            held.push(packet);
        }
    }
}
