//! A directed link: how long a packet is under way, and whether it arrives.

use std::time::Duration;

use crate::random::Random;
use crate::sim::Ns;

use super::event::Packet;

/// What a packet carries at most on Ethernet: loss strikes packets, not writes.
pub(super) const PACKET_BYTES: usize = 1448;
/// IP and TCP header, which use up rate too.
const HEADER_BYTES: u64 = 40;
/// Nothing crosses a link at once: not even a link configured without delay.
const SHORTEST_NS: Ns = 1_000;

/// How a directed link treats what enters it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// How long each packet is under way at least; never less than a microsecond.
    pub delay: Duration,
    /// Added at random on top, up to this. Bytes of one stream keep their order all the same.
    pub jitter: Duration,
    /// Probability that a packet of up to 1448 bytes is lost, in thousandths. Streams notice as a delay.
    pub loss_permille: u32,
    /// How much the link carries, all streams together; 0 is no limit.
    pub bytes_per_second: u64,
    /// How many bytes of each stream may be written and not yet known to be read at the other end.
    pub window: usize,
}

impl Default for LinkConfig {
    /// Two machines in one room, on a network with some load.
    fn default() -> Self {
        LinkConfig {
            delay: Duration::from_micros(300),
            jitter: Duration::from_micros(700),
            loss_permille: 0,
            bytes_per_second: 0,
            window: 256 * 1024,
        }
    }
}

impl LinkConfig {
    /// From a host to itself: memory, not wire.
    pub(super) fn loopback(&self) -> LinkConfig {
        LinkConfig {
            delay: Duration::from_micros(30),
            jitter: Duration::ZERO,
            loss_permille: 0,
            bytes_per_second: 0,
            window: self.window,
        }
    }
}

/// What becomes of a packet, or of a burst of them, that enters a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// The first `bytes` of the burst arrive `at` that time; what is behind them is lost.
    Arrives { at: Ns, bytes: usize },
    /// Nothing arrives.
    Lost,
    /// It waits until the link is released.
    Held,
}

pub(super) struct Link {
    pub(super) to: u32,
    /// Nothing passes.
    pub(super) cut: bool,
    /// What waits while the link is held.
    pub(super) held: Option<Vec<Packet>>,
    config: LinkConfig,
    delay: Ns,
    jitter: Ns,
    /// Until when the wire is taken, if its rate is limited.
    busy: Ns,
    /// Touched by this link's packets alone.
    random: Random,
}

impl Link {
    pub(super) fn new(to: u32, config: LinkConfig, random: Random) -> Self {
        let mut link = Link { to, cut: false, held: None, config, delay: 0, jitter: 0, busy: 0, random };
        link.configure(config);
        link
    }

    pub(super) fn config(&self) -> LinkConfig {
        self.config
    }

    /// For what enters from now on.
    pub(super) fn configure(&mut self, config: LinkConfig) {
        self.config = config;
        self.delay = (config.delay.as_nanos() as Ns).max(SHORTEST_NS);
        self.jitter = config.jitter.as_nanos() as Ns;
    }

    pub(super) fn window(&self) -> usize {
        self.config.window
    }

    /// How long a packet is under way if nothing comes between.
    pub(super) fn delay(&self) -> Ns {
        self.delay
    }

    /// A burst of `bytes` enters; 0 is a packet without data.
    pub(super) fn offer(&mut self, now: Ns, bytes: usize) -> Passage {
        if self.cut {
            return Passage::Lost;
        }
        if self.held.is_some() {
            return Passage::Held;
        }
        let Some(passing) = self.passing(bytes) else {
            return Passage::Lost;
        };
        let mut at = now;
        if self.config.bytes_per_second > 0 {
            let size = u128::from(bytes as u64 + HEADER_BYTES) * 1_000_000_000;
            at = at.max(self.busy) + (size / u128::from(self.config.bytes_per_second)) as Ns;
            self.busy = at;
        }
        at += self.delay;
        if self.jitter > 0 {
            at += self.random.below(self.jitter);
        }
        Passage::Arrives { at, bytes: passing }
    }

    /// How many bytes of a burst come before its first lost packet; `None` if it had no data and is lost.
    fn passing(&mut self, bytes: usize) -> Option<usize> {
        if self.config.loss_permille == 0 {
            return Some(bytes);
        }
        if bytes == 0 {
            return (!self.random.chance(self.config.loss_permille)).then_some(0);
        }
        let packets = bytes.div_ceil(PACKET_BYTES);
        let lost = (0..packets).find(|_| self.random.chance(self.config.loss_permille));
        Some(lost.map_or(bytes, |packet| packet * PACKET_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(config: LinkConfig) -> Link {
        Link::new(1, config, Random::from_seed(1))
    }

    const PLAIN: LinkConfig = LinkConfig {
        delay: Duration::from_nanos(5_000),
        jitter: Duration::ZERO,
        loss_permille: 0,
        bytes_per_second: 0,
        window: 0,
    };

    #[test]
    fn nothing_crosses_at_once() {
        let mut instant = link(LinkConfig { delay: Duration::ZERO, ..PLAIN });
        assert_eq!(instant.offer(70, 9), Passage::Arrives { at: 1_070, bytes: 9 });
    }

    #[test]
    fn a_limited_link_sends_one_after_the_other() {
        let mut slow = link(LinkConfig { bytes_per_second: 1_000_000_000, ..PLAIN });
        assert_eq!(slow.offer(0, 60), Passage::Arrives { at: 5_100, bytes: 60 });
        assert_eq!(slow.offer(0, 60), Passage::Arrives { at: 5_200, bytes: 60 });
        assert_eq!(slow.offer(9_000, 60), Passage::Arrives { at: 14_100, bytes: 60 });
    }

    #[test]
    fn jitter_stays_below_its_limit_and_varies() {
        let mut link = link(LinkConfig { jitter: Duration::from_nanos(100), ..PLAIN });
        let mut times: Vec<_> = (0..50)
            .map(|_| match link.offer(0, 1) {
                Passage::Arrives { at, .. } => at,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(times.iter().all(|at| (5_000..5_100).contains(at)));
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 10);
    }

    #[test]
    fn loss_strikes_packets_and_spares_what_came_before() {
        let mut lossy = link(LinkConfig { loss_permille: 100, ..PLAIN });
        let burst = 100 * PACKET_BYTES;
        let whole: Vec<_> = (0..200)
            .map(|_| match lossy.offer(0, burst) {
                Passage::Arrives { bytes, .. } => bytes,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(whole.iter().all(|bytes| bytes % PACKET_BYTES == 0 && *bytes <= burst));
        assert!(whole.iter().any(|&bytes| bytes > 20 * PACKET_BYTES), "{whole:?}");
        let lost = (0..1000).filter(|_| lossy.offer(0, 0) == Passage::Lost).count();
        assert!((60..140).contains(&lost), "{lost}");
    }

    #[test]
    fn a_cut_loses_and_a_hold_keeps() {
        let mut link = link(PLAIN);
        link.held = Some(vec![]);
        assert_eq!(link.offer(0, 1), Passage::Held);
        link.cut = true;
        assert_eq!(link.offer(0, 1), Passage::Lost);
    }
}
