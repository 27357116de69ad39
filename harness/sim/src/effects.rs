//! What the world must be like while faults are active: a pure function of the active faults and the time.
//!
//! ```text
//! active faults, now -> Wanted -> actions(what it was, what it must be) -> the world
//! ```
//!
//! Nothing is counted up and down. Faults of all kinds may overlap on one host or link, strike it while it is down, and
//! end in any order: what is wanted is computed afresh each time, and only the difference is done.
//!
//! **Invariant:** when no fault is active nothing is left of any (`all_is_well_when_every_fault_is_over`).

use faults::{ContainerFault, Cut, DiskFault, Fault, Ns, Target, What};
use std::collections::{BTreeMap, BTreeSet};

/// A host of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// Of the store's member with this number.
    Member(u32),
    /// With clients on it.
    Client(u32),
    /// That runs pods.
    Node(u32),
}

/// Which hosts there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    pub(crate) members: u32,
    pub(crate) client_hosts: u32,
    pub(crate) nodes: u32,
}

/// What decides whom a fault hits, when it strikes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Situation {
    /// The member that last said that it leads.
    pub(crate) leader: Option<u32>,
    /// The member that said what this fault waited for.
    pub(crate) marked: Option<u32>,
}

/// A fault that has struck and is not over.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) fault: Fault,
    pub(crate) from_ns: Ns,
    /// Whom it hit.
    pub(crate) hosts: Vec<Host>,
    /// How many connections to these hosts fuses had reset before.
    pub(crate) blown: u64,
}

/// What the faults make of the world. Whatever it does not name is as in peace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    cut: BTreeSet<(Host, Host)>,
    held: BTreeSet<(Host, Host)>,
    links: BTreeMap<(Host, Host), LinkTrouble>,
    hosts: BTreeMap<Host, HostTrouble>,
    /// By host and fault: how many bytes a fuse lets pass.
    fuses: BTreeMap<(Host, u32), u64>,
}

/// What ails a directed link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LinkTrouble {
    pub(crate) loss_permille: u32,
    pub(crate) delay_ns: Ns,
    pub(crate) jitter_ns: Ns,
}

/// What ails a host.
#[derive(Clone, Copy, Debug, PartialEq)]
struct HostTrouble {
    power: Power,
    paused: bool,
    rate_permille: u32,
    wall_offset_ns: i64,
    disk: DiskTrouble,
    containers: ContainerTrouble,
    /// Faults that took its disk for good.
    lost: u32,
    /// Faults that made its containers crash.
    crashes: u32,
    /// Faults that reset its connections to the store's members.
    resets: u32,
}

/// What ails a node's containers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ContainerTrouble {
    pub(crate) hang: bool,
    pub(crate) unready: bool,
    pub(crate) flap: bool,
    pub(crate) ignore_term: bool,
    pub(crate) slow_ms: u64,
}

/// Worse is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Power {
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
            resets: 0,
        }
    }
}

/// A clock that runs true, in thousandths.
const TRUE_RATE: u32 = 1000;

/// Something to be done to the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    Cut(Host, Host),
    Heal(Host, Host),
    Hold(Host, Host),
    Release(Host, Host),
    Link(Host, Host, LinkTrouble),
    Disk(Host, DiskTrouble),
    Rate(Host, u32),
    WallOffset(Host, i64),
    Kill(Host),
    PowerOff(Host),
    /// Put an empty disk into a host without power.
    ReplaceDisk(Host),
    /// What ails a node's containers from now on.
    Containers(Host, ContainerTrouble),
    /// Let a node's containers crash.
    Crash(Host),
    /// Reset a host's connections to the store's members.
    Reset(Host),
    /// Put a fuse that lets so many bytes pass into the connections to a host's API server.
    Fuse(Host, u64),
    /// Take out all of a host's fuses.
    Defuse(Host),
    /// Start a process that was killed; power is on.
    Start(Host),
    /// Give a host its power back, and with it its process.
    PowerOn(Host),
    Pause(Host),
    Resume(Host),
}

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
            | What::Hold { .. }
            | What::Kill { .. }
            | What::PowerLoss { .. }
            | What::Pause { .. }
            | What::ClockOffset { .. }
            | What::ClockDrift { .. }
            | What::ClockFreeze { .. }
            | What::Containers { .. }
            | What::Lost { .. }
            | What::Reset { .. }
            | What::Lag { .. }
            | What::Fuse { .. }
            | What::Disk { .. } => None,
        })
        .min()
}

/// What leads from one state of the world to the other. Processes come last, so that they start into the world as it
/// must be.
pub(crate) fn actions(before: &Wanted, after: &Wanted) -> Vec<Action> {
    let mut actions = Vec::new();
    actions.extend(before.cut.difference(&after.cut).map(|(from, to)| Action::Heal(*from, *to)));
    actions.extend(after.cut.difference(&before.cut).map(|(from, to)| Action::Cut(*from, *to)));
    actions.extend(before.held.difference(&after.held).map(|(from, to)| Action::Release(*from, *to)));
    actions.extend(after.held.difference(&before.held).map(|(from, to)| Action::Hold(*from, *to)));
    let links: BTreeSet<(Host, Host)> = before.links.keys().chain(after.links.keys()).copied().collect();
    for link in links {
        let trouble = |wanted: &Wanted| wanted.links.get(&link).copied().unwrap_or_default();
        if trouble(before) != trouble(after) {
            actions.push(Action::Link(link.0, link.1, trouble(after)));
        }
    }
    fuse_actions(before, after, &mut actions);
    let hosts: BTreeSet<Host> = before.hosts.keys().chain(after.hosts.keys()).copied().collect();
    for host in hosts {
        let trouble = |wanted: &Wanted| wanted.hosts.get(&host).copied().unwrap_or_default();
        host_actions(host, trouble(before), trouble(after), &mut actions);
    }
    actions
}

/// What a fuse was put into stays such until the last fuse on its host is over.
fn fuse_actions(before: &Wanted, after: &Wanted, actions: &mut Vec<Action>) {
    let hosts = |wanted: &Wanted| -> BTreeSet<Host> { wanted.fuses.keys().map(|(host, _)| *host).collect() };
    actions.extend(hosts(before).difference(&hosts(after)).map(|host| Action::Defuse(*host)));
    let new = after.fuses.iter().filter(|(at, _)| !before.fuses.contains_key(at));
    actions.extend(new.map(|((host, _), bytes)| Action::Fuse(*host, *bytes)));
}

fn host_actions(host: Host, was: HostTrouble, is: HostTrouble, actions: &mut Vec<Action>) {
    if was.disk != is.disk {
        actions.push(Action::Disk(host, is.disk));
    }
    if was.rate_permille != is.rate_permille {
        actions.push(Action::Rate(host, is.rate_permille));
    }
    if was.wall_offset_ns != is.wall_offset_ns {
        actions.push(Action::WallOffset(host, is.wall_offset_ns));
    }
    // A pause ends before whatever happens to the process and is taken up again by the next process: so neither the
    // old one nor the new one is left in it.
    let stopped = |trouble: HostTrouble| trouble.paused && trouble.power == Power::Running;
    if stopped(was) && !stopped(is) {
        actions.push(Action::Resume(host));
    }
    match (was.power, is.power) {
        (Power::Running, Power::Killed) => actions.push(Action::Kill(host)),
        (Power::Running | Power::Killed, Power::Off) => actions.push(Action::PowerOff(host)),
        (Power::Killed, Power::Running) => actions.push(Action::Start(host)),
        (Power::Off, Power::Running) => actions.push(Action::PowerOn(host)),
        // `wanted` keeps a host off that would be merely killed.
        (Power::Off, Power::Killed)
        | (Power::Running, Power::Running)
        | (Power::Killed, Power::Killed)
        | (Power::Off, Power::Off) => {}
    }
    if is.lost > was.lost {
        actions.push(Action::ReplaceDisk(host));
    }
    if stopped(is) && !stopped(was) {
        actions.push(Action::Pause(host));
    }
    if was.containers != is.containers {
        actions.push(Action::Containers(host, is.containers));
    }
    if is.crashes > was.crashes {
        actions.push(Action::Crash(host));
    }
    if is.resets > was.resets {
        actions.push(Action::Reset(host));
    }
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
                let trouble = LinkTrouble { loss_permille: 0, delay_ns: *delay_ns, jitter_ns: *jitter_ns };
                self.trouble_links(&active.hosts, topology, trouble);
            }
            What::Hold { .. } => self.held.extend(links_from(&active.hosts, topology)),
            What::Kill { .. } => hosts.for_each(|host| self.power(host, Power::Killed)),
            What::PowerLoss { .. } => hosts.for_each(|host| self.power(host, Power::Off)),
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
            What::Containers { fault, .. } => hosts.for_each(|host| self.host(host).containers.add(*fault)),
            What::Lost { .. } => hosts.for_each(|host| {
                self.power(host, Power::Off);
                self.host(host).lost += 1;
            }),
            What::Reset { .. } => hosts.for_each(|host| self.host(host).resets += 1),
            What::Lag { .. } => self.held.extend(lagging_links(&active.hosts, topology)),
            What::Fuse { bytes, .. } => {
                self.fuses.extend(hosts.map(|host| ((host, active.fault.id), *bytes)));
            }
            What::Disk { fault, .. } => hosts.for_each(|host| self.host(host).disk.add(fault)),
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
    /// Delays add up; a packet passes if no fault loses it.
    fn add(&mut self, other: LinkTrouble) {
        let passes = (1000 - self.loss_permille.min(1000)) * (1000 - other.loss_permille.min(1000)) / 1000;
        self.loss_permille = 1000 - passes;
        self.delay_ns += other.delay_ns;
        self.jitter_ns += other.jitter_ns;
    }
}

impl ContainerTrouble {
    fn add(&mut self, fault: ContainerFault) {
        match fault {
            ContainerFault::Crash => {}
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

impl Topology {
    fn has(self, host: Host) -> bool {
        match host {
            Host::Member(member) => member < self.members,
            Host::Client(client) => client < self.client_hosts,
            Host::Node(node) => node < self.nodes,
        }
    }

    pub(crate) fn hosts(self) -> impl Iterator<Item = Host> {
        let nodes = (0..self.nodes).map(Host::Node);
        (0..self.members).map(Host::Member).chain((0..self.client_hosts).map(Host::Client)).chain(nodes)
    }
}

/// Whom a fault hits. Members and clients that there are not (in an edited schedule) are nobody.
pub(crate) fn resolve(target: &Target, situation: Situation, topology: Topology) -> Vec<Host> {
    let leader = situation.leader.unwrap_or(0);
    let hosts = match target {
        Target::Member(member) => vec![Host::Member(*member)],
        Target::Members(members) => members.iter().copied().map(Host::Member).collect(),
        Target::Leader => vec![Host::Member(leader)],
        Target::Follower => vec![Host::Member((leader + 1) % topology.members.max(1))],
        Target::Marked => vec![Host::Member(situation.marked.unwrap_or(0))],
        Target::Client(client) => vec![Host::Client(*client)],
        Target::Node(node) => vec![Host::Node(*node)],
        Target::Nodes(nodes) => nodes.iter().copied().map(Host::Node).collect(),
    };
    hosts.into_iter().filter(|host| topology.has(*host)).collect()
}

/// Whom a fault is aimed at.
pub(crate) fn target(what: &What) -> &Target {
    match what {
        What::Partition { side: target, .. }
        | What::Loss { target, .. }
        | What::Delay { target, .. }
        | What::Hold { target }
        | What::Kill { target }
        | What::PowerLoss { target }
        | What::Pause { target }
        | What::ClockOffset { target, .. }
        | What::ClockDrift { target, .. }
        | What::ClockSteps { target, .. }
        | What::ClockFreeze { target }
        | What::Containers { target, .. }
        | What::Lost { target }
        | What::Reset { target }
        | What::Lag { target }
        | What::Fuse { target, .. }
        | What::Disk { target, .. } => target,
    }
}

/// Directed links between these hosts and all others, both ways.
fn links_of(hosts: &[Host], topology: Topology) -> impl Iterator<Item = (Host, Host)> {
    links_from(hosts, topology).flat_map(|(from, to)| [(from, to), (to, from)])
}

/// Directed links from these hosts to all others.
fn links_from(hosts: &[Host], topology: Topology) -> impl Iterator<Item = (Host, Host)> {
    let others: Vec<Host> = topology.hosts().filter(|host| !hosts.contains(host)).collect();
    hosts.iter().flat_map(move |from| others.clone().into_iter().map(move |to| (*from, to)))
}

/// Directed links from other members to these.
fn lagging_links(hosts: &[Host], topology: Topology) -> impl Iterator<Item = (Host, Host)> {
    let between_members =
        links_from(hosts, topology).filter(|(from, to)| from.member().is_some() && to.member().is_some());
    between_members.map(|(from, to)| (to, from))
}

fn cut_links(side: &[Host], cut: &Cut, topology: Topology) -> Vec<(Host, Host)> {
    match cut {
        Cut::Symmetric => links_of(side, topology).collect(),
        Cut::Outbound => links_from(side, topology).collect(),
        Cut::Inbound => links_from(side, topology).map(|(from, to)| (to, from)).collect(),
        Cut::Peers => {
            links_of(side, topology).filter(|(from, to)| from.member().is_some() && to.member().is_some()).collect()
        }
        Cut::ControlPlane => {
            links_of(side, topology).filter(|(from, to)| from.member().is_some() || to.member().is_some()).collect()
        }
        Cut::Thread => {
            let spared = side.last().and_then(|host| host.member()).map(|last| (last + 1) % topology.members.max(1));
            let between_members =
                links_of(side, topology).filter_map(|(from, to)| Some((from, to, from.member()?, to.member()?)));
            between_members
                .filter(|(_, _, from, to)| Some(*from) != spared && Some(*to) != spared)
                .map(|(from, to, _, _)| (from, to))
                .collect()
        }
        Cut::Bridge => {
            let others: Vec<Host> =
                (0..topology.members).map(Host::Member).filter(|host| !side.contains(host)).collect();
            let (left, right) = others.split_at(others.len() / 2);
            left.iter().flat_map(|a| right.iter().flat_map(|b| [(*a, *b), (*b, *a)])).collect()
        }
    }
}

/// What a fault means for judging availability.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Consequences {
    /// Members that cannot serve in a majority meanwhile.
    pub(crate) disabled: Vec<u32>,
    /// Directed links between members that are of no use meanwhile.
    pub(crate) severed: Vec<(u32, u32)>,
}

/// A link that adds more than this to each way counts as severed: two such faults on one way, there and back, come to
/// a heartbeat's patience.
const SEVERING_DELAY_NS: Ns = 100_000_000;
/// A link that loses more than this counts as severed: TCP then spends seconds in retransmission.
const SEVERING_LOSS_PERMILLE: u32 = 100;
/// Clock rates within this of the truth are what the store promises to work with.
const TOLERATED_DRIFT_PERMILLE: u32 = 100;
/// A disk this many times slower counts as none: a sync then takes as long as an election.
const DISABLING_SLOWNESS: u32 = 50;

/// What a fault on these hosts means for judging availability.
pub(crate) fn consequences(what: &What, hosts: &[Host], topology: Topology) -> Consequences {
    let disabled =
        || Consequences { disabled: hosts.iter().filter_map(|host| host.member()).collect(), severed: vec![] };
    let severed = |links: Vec<(Host, Host)>| {
        let between_members = links.into_iter().filter_map(|(from, to)| Some((from.member()?, to.member()?)));
        Consequences { disabled: vec![], severed: between_members.collect() }
    };
    match what {
        What::Partition { cut, .. } => severed(cut_links(hosts, cut, topology)),
        What::Loss { permille, .. } if *permille > SEVERING_LOSS_PERMILLE => {
            severed(links_of(hosts, topology).collect())
        }
        What::Delay { delay_ns, jitter_ns, .. } if delay_ns + jitter_ns > SEVERING_DELAY_NS => {
            severed(links_of(hosts, topology).collect())
        }
        What::Hold { .. } => severed(links_from(hosts, topology).collect()),
        What::Lag { .. } => severed(lagging_links(hosts, topology).collect()),
        What::Kill { .. }
        | What::PowerLoss { .. }
        | What::Lost { .. }
        | What::Pause { .. }
        | What::ClockFreeze { .. } => disabled(),
        What::ClockDrift { permille, .. } if permille.abs_diff(TRUE_RATE) > TOLERATED_DRIFT_PERMILLE => disabled(),
        What::Disk { fault: DiskFault::Slow(times), .. } if *times < DISABLING_SLOWNESS => Consequences::default(),
        What::Disk { .. } => disabled(),
        What::Loss { .. }
        | What::Delay { .. }
        | What::ClockOffset { .. }
        | What::ClockSteps { .. }
        | What::Containers { .. }
        | What::Reset { .. }
        | What::Fuse { .. }
        | What::ClockDrift { .. } => Consequences::default(),
    }
}

impl Host {
    /// Its number, if it is a member.
    pub(crate) fn member(self) -> Option<u32> {
        match self {
            Host::Member(member) => Some(member),
            Host::Client(_) | Host::Node(_) => None,
        }
    }

    /// Its number, if clients are on it.
    pub(crate) fn client(self) -> Option<u32> {
        match self {
            Host::Client(client) => Some(client),
            Host::Member(_) | Host::Node(_) => None,
        }
    }

    /// Its number, if it runs pods.
    pub(crate) fn node(self) -> Option<u32> {
        match self {
            Host::Node(node) => Some(node),
            Host::Member(_) | Host::Client(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::{Kind, When};

    const TOPOLOGY: Topology = Topology { members: 3, client_hosts: 1, nodes: 0 };
    const HOSTS: faults::Hosts = faults::Hosts { members: 3, client_hosts: 1, nodes: 0, zones: 0 };
    const M0: Host = Host::Member(0);
    const M1: Host = Host::Member(1);
    const M2: Host = Host::Member(2);

    /// Faults that begin and end in the order of `steps` (negative: the fault of that number, from 1, ends); what is
    /// done at each step.
    fn play(faults: &[What], steps: &[i32]) -> Vec<Vec<Action>> {
        let mut active = BTreeMap::new();
        let mut is = Wanted::default();
        let mut done = Vec::new();
        for step in steps {
            let number = step.unsigned_abs();
            if *step < 0 {
                active.remove(&number);
            } else {
                let what = faults[number as usize - 1].clone();
                let hosts = resolve(target(&what), Situation::default(), TOPOLOGY);
                let fault = Fault { id: number, kind: Kind::Kill, when: When::At(0), for_ns: 0, what };
                active.insert(number, Active { fault, from_ns: 0, hosts, blown: 0 });
            }
            let next = wanted(&active, TOPOLOGY, 0, &is);
            done.push(actions(&is, &next));
            is = next;
        }
        done
    }

    fn kill() -> What {
        What::Kill { target: Target::Leader }
    }
    fn power_loss() -> What {
        What::PowerLoss { target: Target::Member(0) }
    }
    fn pause() -> What {
        What::Pause { target: Target::Member(0) }
    }
    fn partition(side: Target, cut: Cut) -> What {
        What::Partition { side, cut }
    }

    #[test]
    fn a_host_that_is_killed_twice_starts_when_both_are_over() {
        let done = play(&[kill(), kill()], &[1, 2, -1, -2]);
        assert_eq!(done, [vec![Action::Kill(M0)], vec![], vec![], vec![Action::Start(M0)]]);
    }

    #[test]
    fn power_lost_while_down_takes_unsynced_writes_and_returns_with_the_process() {
        let done = play(&[kill(), power_loss()], &[1, 2, -2, -1]);
        assert_eq!(done, [vec![Action::Kill(M0)], vec![Action::PowerOff(M0)], vec![], vec![Action::PowerOn(M0)]]);
    }

    #[test]
    fn a_kill_without_power_changes_nothing_until_power_is_back() {
        let done = play(&[power_loss(), kill()], &[1, 2, -2, -1]);
        assert_eq!(done, [vec![Action::PowerOff(M0)], vec![], vec![], vec![Action::PowerOn(M0)]]);
    }

    #[test]
    fn a_pause_outlives_a_restart() {
        let done = play(&[pause(), power_loss()], &[1, 2, -2, -1]);
        let expected = [
            vec![Action::Pause(M0)],
            vec![Action::Resume(M0), Action::PowerOff(M0)],
            vec![Action::PowerOn(M0), Action::Pause(M0)],
            vec![Action::Resume(M0)],
        ];
        assert_eq!(done, expected);
    }

    #[test]
    fn a_pause_that_ends_while_the_process_is_down_is_over() {
        let done = play(&[pause(), kill()], &[2, 1, -1, -2]);
        assert_eq!(done, [vec![Action::Kill(M0)], vec![], vec![], vec![Action::Start(M0)]]);
    }

    #[test]
    fn a_link_that_two_partitions_cut_heals_with_the_second() {
        let faults = [partition(Target::Member(0), Cut::Outbound), partition(Target::Member(0), Cut::Symmetric)];
        let done = play(&faults, &[1, 2, -1, -2]);
        assert_eq!(done[0], [(M0, M1), (M0, M2), (M0, Host::Client(0))].map(|(a, b)| Action::Cut(a, b)));
        assert_eq!(done[1], [(M1, M0), (M2, M0), (Host::Client(0), M0)].map(|(a, b)| Action::Cut(a, b)));
        assert_eq!(done[2], []);
        assert_eq!(done[3].len(), 6);
    }

    #[test]
    fn a_bridge_parts_all_but_the_bridge() {
        let done = play(&[partition(Target::Member(1), Cut::Bridge)], &[1]);
        assert_eq!(done[0], [Action::Cut(M0, M2), Action::Cut(M2, M0)]);
    }

    #[test]
    fn peers_that_are_parted_still_hear_clients() {
        let done = play(&[partition(Target::Member(0), Cut::Peers)], &[1]);
        assert_eq!(done[0], [(M0, M1), (M0, M2), (M1, M0), (M2, M0)].map(|(a, b)| Action::Cut(a, b)));
    }

    #[test]
    fn a_thread_leaves_the_target_one_peer() {
        let done = play(&[partition(Target::Member(2), Cut::Thread)], &[1]);
        assert_eq!(done[0], [Action::Cut(M1, M2), Action::Cut(M2, M1)]);
    }

    #[test]
    fn a_member_that_lags_hears_nothing_of_members_and_all_else() {
        let lag = What::Lag { target: Target::Member(0) };
        let done = play(&[lag, What::Hold { target: Target::Member(1) }], &[1, 2, -1, -2]);
        assert_eq!(done[0], [(M1, M0), (M2, M0)].map(|(a, b)| Action::Hold(a, b)));
        assert_eq!(done[1], [(M1, M2), (M1, Host::Client(0))].map(|(a, b)| Action::Hold(a, b)));
        assert_eq!(done[2], [Action::Release(M2, M0)], "the other fault holds the other link");
        assert_eq!(done[3].len(), 3);
    }

    #[test]
    fn fuses_go_in_when_each_fault_strikes_and_come_out_with_the_last() {
        let fuse = |bytes| What::Fuse { target: Target::Member(0), bytes };
        let done = play(&[fuse(0), fuse(9)], &[1, 2, -1, -2]);
        assert_eq!(done, [vec![Action::Fuse(M0, 0)], vec![Action::Fuse(M0, 9)], vec![], vec![Action::Defuse(M0)]]);
    }

    #[test]
    fn troubles_of_a_link_add_up() {
        let delay = What::Delay { target: Target::Member(0), delay_ns: 10, jitter_ns: 1 };
        let loss = What::Loss { target: Target::Member(1), permille: 500 };
        let done = play(&[delay, loss.clone(), loss], &[1, 2, 3]);
        let both = LinkTrouble { loss_permille: 750, delay_ns: 10, jitter_ns: 1 };
        assert!(done[2].contains(&Action::Link(M0, M1, both)), "{done:?}");
    }

    #[test]
    fn a_frozen_clock_stands_still_whatever_its_drift() {
        let target = || Target::Member(0);
        let faults = [What::ClockFreeze { target: target() }, What::ClockDrift { target: target(), permille: 1100 }];
        let done = play(&faults, &[1, 2, -1, -2]);
        let rates = [vec![Action::Rate(M0, 0)], vec![], vec![Action::Rate(M0, 1100)], vec![Action::Rate(M0, 1000)]];
        assert_eq!(done, rates);
    }

    #[test]
    fn a_stepping_clock_goes_forth_and_back() {
        let what = What::ClockSteps { target: Target::Member(0), step_ns: 7, every_ns: 10 };
        let fault = Fault { id: 1, kind: Kind::ClockSteps, when: When::At(100), for_ns: 40, what };
        let active = BTreeMap::from([(1, Active { fault, from_ns: 100, hosts: vec![M0], blown: 0 })]);
        let offset = |now_ns| {
            let is = wanted(&active, TOPOLOGY, now_ns, &Wanted::default());
            is.hosts.get(&M0).map_or(0, |trouble| trouble.wall_offset_ns)
        };
        assert_eq!([100, 109, 110, 119, 120].map(offset), [7, 7, 0, 0, 7]);
        assert_eq!([100, 109, 110].map(|now_ns| next_step(&active, now_ns)), [Some(110), Some(110), Some(120)]);
    }

    #[test]
    fn all_is_well_when_every_fault_is_over() {
        let swarm = faults::Swarm { kinds: Kind::all().collect(), ..faults::Swarm::default() };
        let hosts = faults::Hosts { nodes: 4, zones: 2, ..HOSTS };
        let topology = Topology { nodes: 4, ..TOPOLOGY };
        for seed in 0..100 {
            let schedule = faults::draw(&swarm, seed, hosts, 60_000_000_000);
            let mut active = BTreeMap::new();
            let mut is = Wanted::default();
            for fault in &schedule.faults {
                let hosts = resolve(target(&fault.what), Situation::default(), topology);
                active.insert(fault.id, Active { fault: fault.clone(), from_ns: 0, hosts, blown: 0 });
                is = wanted(&active, topology, seed, &is);
            }
            while let Some((id, _)) = active.pop_first() {
                let next = wanted(&active, topology, seed, &is);
                assert!(actions(&is, &next).len() < 200, "seed {seed}, fault {id}");
                is = next;
            }
            assert_eq!(is, Wanted::default(), "seed {seed}");
        }
    }

    #[test]
    fn availability_is_judged_by_what_faults_take_away() {
        let on = |what: &What| consequences(what, &resolve(target(what), Situation::default(), TOPOLOGY), TOPOLOGY);
        assert_eq!(on(&kill()).disabled, [0]);
        assert_eq!(on(&partition(Target::Follower, Cut::Inbound)).severed, [(0, 1), (2, 1)]);
        assert_eq!(on(&partition(Target::Client(0), Cut::Symmetric)), Consequences::default());
        assert_eq!(on(&What::Loss { target: Target::Leader, permille: 50 }), Consequences::default());
        assert_eq!(on(&What::Hold { target: Target::Leader }).severed, [(0, 1), (0, 2)]);
        assert_eq!(on(&What::Lag { target: Target::Leader }).severed, [(1, 0), (2, 0)]);
        assert_eq!(on(&What::Fuse { target: Target::Leader, bytes: 0 }), Consequences::default());
        let drift = |permille| What::ClockDrift { target: Target::Leader, permille };
        assert_eq!([drift(1100), drift(1101)].map(|what| on(&what).disabled.len()), [0, 1]);
    }
}
