//! What the active faults make of the world, added up.

use std::collections::{BTreeMap, BTreeSet};

use faults::{Component, ContainerFault, DiskFault, Ns, What};

use super::aim::{clogged_links, cut_links, lagging_links, links_from, links_of};
use super::{Active, Host, Topology};

/// What the faults make of the world. Whatever it does not name is as in peace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(super) cut: BTreeSet<(Host, Host)>,
    pub(super) held: BTreeSet<(Host, Host)>,
    pub(super) links: BTreeMap<(Host, Host), LinkTrouble>,
    pub(super) hosts: BTreeMap<Host, HostTrouble>,
    /// By host and fault: how many bytes a fuse lets pass.
    pub(super) fuses: BTreeMap<(Host, u32), u64>,
    /// By host and fault: on which connection what is said is withheld.
    pub(super) withheld: BTreeMap<(Host, u32), u32>,
    /// By host and fault: how many callers ask its API server.
    pub(super) floods: BTreeMap<(Host, u32), u32>,
    /// What stands still of which process.
    pub(super) hung: BTreeSet<(Host, Component)>,
}

/// What ails a directed link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LinkTrouble {
    pub(crate) loss_permille: u32,
    pub(crate) delay_ns: Ns,
    pub(crate) jitter_ns: Ns,
    /// 0 is no limit.
    pub(crate) bytes_per_second: u64,
}

/// What ails a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HostTrouble {
    pub(super) power: Power,
    pub(super) paused: bool,
    pub(super) rate_permille: u32,
    pub(super) wall_offset_ns: i64,
    pub(super) disk: DiskTrouble,
    pub(super) containers: ContainerTrouble,
    /// Faults that took its disk for good.
    pub(super) lost: u32,
    /// Faults that made its containers crash.
    pub(super) crashes: u32,
    /// Faults that took the memory from its containers.
    pub(super) starved: u32,
    /// Faults that reset its connections to the store's members.
    pub(super) resets: u32,
    /// When what it shows API servers ended.
    pub(super) expired_ns: Option<Ns>,
    /// Whether its program is replaced by the newer one or by the older one.
    pub(super) newer: Option<bool>,
    /// By how much faults made its clocks jump.
    pub(super) jumped_ns: Ns,
    /// With which configuration its process starts again.
    pub(super) setting: Option<u32>,
}

/// What ails a node's containers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ContainerTrouble {
    pub(crate) hang: bool,
    pub(crate) unready: bool,
    pub(crate) flap: bool,
    pub(crate) ignore_term: bool,
    pub(crate) slow_ms: u64,
    pub(crate) no_pulls: bool,
}

/// Worse is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Power {
    Running,
    /// The process is dead, the host lives.
    Killed,
    /// A host without power. It gets it back only to run again: while another fault keeps its process dead it makes no
    /// difference but that old connections would be answered by a reset.
    Off,
}

/// What ails a disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DiskTrouble {
    pub(crate) write_error_permille: u32,
    pub(crate) sync_error_permille: u32,
    pub(crate) read_error_permille: u32,
    pub(crate) stalled: bool,
    pub(crate) slow: u32,
    pub(crate) full: bool,
}

impl Default for DiskTrouble {
    fn default() -> Self {
        Self {
            write_error_permille: 0,
            sync_error_permille: 0,
            read_error_permille: 0,
            stalled: false,
            slow: 1,
            full: false,
        }
    }
}

impl Default for HostTrouble {
    fn default() -> Self {
        Self {
            power: Power::Running,
            paused: false,
            rate_permille: TRUE_RATE,
            wall_offset_ns: 0,
            disk: DiskTrouble::default(),
            containers: ContainerTrouble::default(),
            lost: 0,
            crashes: 0,
            starved: 0,
            resets: 0,
            expired_ns: None,
            newer: None,
            jumped_ns: 0,
            setting: None,
        }
    }
}

/// A clock that runs true, in thousandths.
pub(super) const TRUE_RATE: u32 = 1000;

/// What the world must be like now, given what it was like before.
pub(crate) fn wanted(active: &BTreeMap<u32, Active>, topology: Topology, now_ns: Ns, before: &Wanted) -> Wanted {
    let mut wanted = Wanted::default();
    for active in active.values() {
        wanted.add(active, topology, now_ns);
    }
    for (host, was) in &before.hosts {
        if was.power == Power::Off
            && let Some(trouble) = wanted.hosts.get_mut(host)
            && trouble.power == Power::Killed
        {
            trouble.power = Power::Off;
        }
    }
    wanted.hosts.retain(|_, trouble| *trouble != HostTrouble::default());
    wanted
}

/// When the world changes next without a fault beginning or ending: a clock that steps.
pub(crate) fn next_step(active: &BTreeMap<u32, Active>, now_ns: Ns) -> Option<Ns> {
    active
        .values()
        .filter_map(|active| match &active.fault.what {
            What::ClockSteps { every_ns, .. } => {
                let every_ns = (*every_ns).max(1);
                Some(active.from_ns + ((now_ns - active.from_ns) / every_ns + 1) * every_ns)
            }
            What::Partition { .. }
            | What::Loss { .. }
            | What::Delay { .. }
            | What::Rate { .. }
            | What::Hold { .. }
            | What::Kill { .. }
            | What::Restart { .. }
            | What::PowerLoss { .. }
            | What::Pause { .. }
            | What::ClockOffset { .. }
            | What::ClockDrift { .. }
            | What::ClockFreeze { .. }
            | What::Containers { .. }
            | What::Lost { .. }
            | What::Reset { .. }
            | What::Lag { .. }
            | What::Clog { .. }
            | What::Withhold { .. }
            | What::Expire { .. }
            | What::Replace { .. }
            | What::ClockJump { .. }
            | What::Hang { .. }
            | What::Reconfigure { .. }
            | What::Flood { .. }
            | What::Fuse { .. }
            | What::Disk { .. } => None,
        })
        .min()
}

impl Wanted {
    /// Whether a fault keeps this host's process from running.
    pub(crate) fn keeps_down(&self, host: Host) -> bool {
        self.hosts.get(&host).is_some_and(|trouble| trouble.power > Power::Running)
    }

    /// Whether a fault has stopped this host's process, for when it is started by others than faults.
    pub(crate) fn pauses(&self, host: Host) -> bool {
        self.hosts.get(&host).is_some_and(|trouble| trouble.paused)
    }

    fn add(&mut self, active: &Active, topology: Topology, now_ns: Ns) {
        let hosts = active.hosts.iter().copied();
        match &active.fault.what {
            What::Partition { cut, .. } => self.cut.extend(cut_links(&active.hosts, cut, topology)),
            What::Loss { permille, .. } => {
                self.trouble_links(&active.hosts, topology, LinkTrouble { loss_permille: *permille, ..<_>::default() });
            }
            What::Delay { delay_ns, jitter_ns, .. } => {
                let trouble = LinkTrouble { delay_ns: *delay_ns, jitter_ns: *jitter_ns, ..<_>::default() };
                self.trouble_links(&active.hosts, topology, trouble);
            }
            What::Rate { bytes_per_second, .. } => {
                let trouble = LinkTrouble { bytes_per_second: *bytes_per_second, ..<_>::default() };
                self.trouble_links(&active.hosts, topology, trouble);
            }
            What::Hold { .. } => self.held.extend(links_from(&active.hosts, topology)),
            What::Kill { .. } | What::Restart { .. } => hosts.for_each(|host| self.power(host, Power::Killed)),
            What::PowerLoss { .. } => hosts.for_each(|host| self.power(host, Power::Off)),
            What::Replace { newer, .. } => hosts.for_each(|host| {
                self.power(host, Power::Killed);
                self.host(host).newer = Some(*newer);
            }),
            What::Pause { .. } => hosts.for_each(|host| self.host(host).paused = true),
            What::ClockOffset { offset_ns, .. } => hosts.for_each(|host| self.offset(host, *offset_ns)),
            What::ClockDrift { permille, .. } => hosts.for_each(|host| self.rate(host, *permille)),
            What::ClockSteps { step_ns, every_ns, .. } => {
                let steps = (now_ns - active.from_ns) / (*every_ns).max(1);
                if steps.is_multiple_of(2) {
                    hosts.for_each(|host| self.offset(host, *step_ns));
                }
            }
            What::ClockFreeze { .. } => hosts.for_each(|host| self.rate(host, 0)),
            What::Containers { fault: ContainerFault::Crash, .. } => {
                hosts.for_each(|host| self.host(host).crashes += 1);
            }
            What::Containers { fault: ContainerFault::OutOfMemory, .. } => {
                hosts.for_each(|host| self.host(host).starved += 1);
            }
            What::Containers { fault, .. } => hosts.for_each(|host| self.host(host).containers.add(*fault)),
            What::Lost { .. } => hosts.for_each(|host| {
                self.power(host, Power::Off);
                self.host(host).lost += 1;
            }),
            What::Reset { .. } => hosts.for_each(|host| self.host(host).resets += 1),
            What::Lag { .. } => self.held.extend(lagging_links(&active.hosts, topology)),
            What::Clog { to, .. } => self.held.extend(clogged_links(&active.hosts, *to, topology)),
            What::Withhold { nth, .. } => {
                self.withheld.extend(hosts.map(|host| ((host, active.fault.id), *nth)));
            }
            What::Fuse { bytes, .. } => {
                self.fuses.extend(hosts.map(|host| ((host, active.fault.id), *bytes)));
            }
            What::ClockJump { ahead_ns, .. } => hosts.for_each(|host| {
                let jumped_ns = &mut self.host(host).jumped_ns;
                *jumped_ns = jumped_ns.saturating_add(*ahead_ns);
            }),
            What::Hang { component, .. } => self.hung.extend(hosts.map(|host| (host, *component))),
            What::Reconfigure { setting, .. } => hosts.for_each(|host| {
                self.power(host, Power::Killed);
                self.host(host).setting = Some(*setting);
            }),
            What::Flood { callers, .. } => {
                self.floods.extend(hosts.map(|host| ((host, active.fault.id), *callers)));
            }
            What::Disk { fault, .. } => hosts.for_each(|host| self.host(host).disk.add(fault)),
            What::Expire { .. } => hosts.for_each(|host| {
                let expired_ns = &mut self.host(host).expired_ns;
                *expired_ns = Some(expired_ns.map_or(active.from_ns, |already| already.min(active.from_ns)));
            }),
        }
    }

    fn host(&mut self, host: Host) -> &mut HostTrouble {
        self.hosts.entry(host).or_default()
    }

    fn power(&mut self, host: Host, power: Power) {
        let trouble = self.host(host);
        trouble.power = trouble.power.max(power);
    }

    fn offset(&mut self, host: Host, offset_ns: i64) {
        let trouble = self.host(host);
        trouble.wall_offset_ns = trouble.wall_offset_ns.saturating_add(offset_ns);
    }

    /// Drifts multiply, and a frozen clock stands still whatever else is wrong with it.
    fn rate(&mut self, host: Host, permille: u32) {
        let trouble = self.host(host);
        let rate = u64::from(trouble.rate_permille) * u64::from(permille) / u64::from(TRUE_RATE);
        trouble.rate_permille = u32::try_from(rate).unwrap_or(u32::MAX);
    }

    fn trouble_links(&mut self, hosts: &[Host], topology: Topology, trouble: LinkTrouble) {
        for link in links_of(hosts, topology) {
            self.links.entry(link).or_default().add(trouble);
        }
    }
}

impl LinkTrouble {
    /// Delays add up; a packet passes if no fault loses it; the lowest rate is what counts.
    fn add(&mut self, other: LinkTrouble) {
        let passes = (1000 - self.loss_permille.min(1000)) * (1000 - other.loss_permille.min(1000)) / 1000;
        self.loss_permille = 1000 - passes;
        self.delay_ns += other.delay_ns;
        self.jitter_ns += other.jitter_ns;
        let rates = [self.bytes_per_second, other.bytes_per_second];
        self.bytes_per_second = rates.into_iter().filter(|rate| *rate > 0).min().unwrap_or(0);
    }
}

impl ContainerTrouble {
    fn add(&mut self, fault: ContainerFault) {
        match fault {
            ContainerFault::Crash | ContainerFault::OutOfMemory => {}
            ContainerFault::NoPulls => self.no_pulls = true,
            ContainerFault::Hang => self.hang = true,
            ContainerFault::Unready => self.unready = true,
            ContainerFault::Flap => self.flap = true,
            ContainerFault::IgnoreTerm => self.ignore_term = true,
            ContainerFault::Slow(ms) => self.slow_ms = self.slow_ms.max(ms),
        }
    }
}

impl DiskTrouble {
    fn add(&mut self, fault: &DiskFault) {
        match fault {
            DiskFault::WriteErrors(permille) => {
                self.write_error_permille = self.write_error_permille.max(*permille);
            }
            DiskFault::SyncErrors(permille) => self.sync_error_permille = self.sync_error_permille.max(*permille),
            DiskFault::ReadErrors(permille) => self.read_error_permille = self.read_error_permille.max(*permille),
            DiskFault::Stall => self.stalled = true,
            DiskFault::Slow(times) => self.slow = self.slow.max(*times),
            DiskFault::Full => self.full = true,
        }
    }
}
