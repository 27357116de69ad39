//! Schedules drawn from a seed.
//!
//! A swarm: each trial switches a random subset of the kinds on and draws how often each of them strikes, because a
//! kind that is always on hides others. Beside strikes at random times there are aimed ones, which hit what random
//! ones seldom hit: the leader, the voter that has just voted, a majority at once.
//!
//! **Invariant:** each kind draws from a stream of its own, so that editing one shifts no other
//! (`leaving_a_kind_out_changes_no_other`).
//! **Invariant:** equal arguments give equal schedules (`the_same_seed_gives_the_same_schedule`).
//! **Invariant:** everything is healed when the time of faults is over
//! (`schedules_are_sorted_with_unique_ids_and_end_in_time`).

use crate::{Cut, DiskFault, Fault, Kind, Ns, Schedule, Target, What, When};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which kinds may strike in a trial, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Swarm {
    /// Kinds to choose from.
    pub kinds: Vec<Kind>,
    /// Probability that a trial is a quiet one, in thousandths: what shows only when it lasts is hidden by whatever else
    /// shakes the cluster.
    pub quiet_permille: u32,
    /// Probability that a trial switches a kind on, in thousandths.
    pub on_permille: u32,
    /// The same in a quiet trial.
    pub quiet_on_permille: u32,
    /// A kind that is on strikes from once up to so often; an aimed attack of several faults counts as one.
    pub most: u32,
    /// Kinds that are switched on with a probability of their own, quiet trial or not, in thousandths.
    pub own_permille: BTreeMap<Kind, u32>,
}

impl Default for Swarm {
    /// Half of the kinds, each up to four times: the 26 kinds then keep about half of the time disturbed, and
    /// a cluster that recovers in seconds still answers most of what it is asked. In a quiet trial, one or two kinds.
    /// Nodes are lost in most trials that have some, because what comes of it takes most of a trial; and agents are killed in
    /// most, because little can be told of it where something else strikes the same node.
    fn default() -> Self {
        Self {
            kinds: Kind::STORE.to_vec(),
            quiet_permille: 250,
            on_permille: 520,
            quiet_on_permille: 70,
            most: 4,
            own_permille: BTreeMap::from([(Kind::NodeLost, 850), (Kind::NodeKill, 700)]),
        }
    }
}

impl Swarm {
    /// Probability that a trial of so many members switches `kind` on. A quiet trial of an even number of members is
    /// for partitions in which each half still hears the other's voice through one member.
    fn on_permille(&self, kind: Kind, quiet: bool, members: u32) -> u32 {
        if let Some(own) = self.own_permille.get(&kind) {
            return *own;
        }
        match (quiet, kind) {
            (false, _) => self.on_permille,
            (true, Kind::PartitionBridge) if members.is_multiple_of(2) => EVEN_BRIDGE_PERMILLE,
            (true, _) => self.quiet_on_permille,
        }
    }
}

/// Which hosts there are to be struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// The store's members, which also are the control plane.
    pub members: u32,
    /// With clients on them.
    pub client_hosts: u32,
    /// That run pods.
    pub nodes: u32,
    /// That the nodes are spread over: node `n` is in zone `n % zones`.
    pub zones: u32,
}

/// Draws what goes wrong in a trial of these hosts, all of it healed after `faults_ns`. Pure.
///
/// A fault that waits for a mark can strike late; whoever applies it must not let it strike when it would outlast
/// `faults_ns`.
pub fn draw(swarm: &Swarm, seed: u64, hosts: Hosts, faults_ns: Ns) -> Schedule {
    let mut faults = Vec::new();
    let Hosts { members, .. } = hosts;
    let quiet_permille = if members.is_multiple_of(2) { EVEN_QUIET_PERMILLE } else { swarm.quiet_permille };
    let quiet = stream_seed(seed, "quiet") % 1000 < u64::from(quiet_permille);
    for &kind in &swarm.kinds {
        let mut draw = Draw::new(kind, seed, hosts, faults_ns);
        if draw.chance(swarm.on_permille(kind, quiet, members)) {
            let attacks = draw.between(1, u64::from(swarm.most.max(1)));
            (0..attacks).for_each(|_| draw.attack());
        }
        faults.append(&mut draw.faults);
    }
    faults.sort_by_key(|fault| (fault.when.earliest(), fault.id));
    Schedule { faults }
}

pub(crate) const MS: Ns = 1_000_000;
pub(crate) const SECOND: Ns = 1_000_000_000;

/// How many trials of an even number of members are quiet, in thousandths: that number is tried for their sake.
const EVEN_QUIET_PERMILLE: u32 = 600;
/// How many of these see bridges, in thousandths.
const EVEN_BRIDGE_PERMILLE: u32 = 800;

/// Faults of one kind's attacks have ids from `kind * IDS_PER_KIND` on, so that none depends on another kind's draws.
const IDS_PER_KIND: u32 = 1000;

/// Nothing strikes earlier: the cluster elects its first leader and serves its first operations.
pub(crate) const FIRST_STRIKE_NS: Ns = 2 * SECOND;

/// A member has just promised its vote, and must still know it whatever happens to it.
const VOTE: &str = "vote granted";

/// Marks of product code at which a process is worth killing or unplugging: it has just said, or is about to say,
/// something to others that it must still know afterwards.
pub const MOMENTS: [&str; 5] =
    [VOTE, "proposal forwarded", "lease checkpoint", "snapshot installed", "log conflict truncated"];

/// One kind's faults while they are drawn.
pub(crate) struct Draw {
    random: Xoshiro256PlusPlus,
    pub(crate) kind: Kind,
    pub(crate) hosts: Hosts,
    pub(crate) faults_ns: Ns,
    pub(crate) faults: Vec<Fault>,
}

impl Draw {
    pub(crate) fn new(kind: Kind, seed: u64, hosts: Hosts, faults_ns: Ns) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(stream_seed(seed, kind.name()));
        Self { random, kind, hosts, faults_ns, faults: Vec::new() }
    }

    /// Draws one attack of this kind: most are one fault, aimed ones a few that belong together.
    fn attack(&mut self) {
        match self.kind {
            Kind::PartitionOne => self.partition_one(),
            Kind::PartitionMinority => self.partition_minority(),
            Kind::PartitionMajority => self.partition_majority(),
            Kind::PartitionOneWay => self.partition_one_way(),
            Kind::PartitionBridge => self.partition_bridge(),
            Kind::LinkLoss => self.link_loss(),
            Kind::LinkDelay => self.link_delay(),
            Kind::LinkHold => self.link_hold(),
            Kind::Kill => self.kill(),
            Kind::PowerLoss => self.power_loss(),
            Kind::Pause => self.pause(),
            Kind::ClockOffset => self.clock_offset(),
            Kind::ClockDrift => self.clock_drift(),
            Kind::ClockSteps => self.clock_steps(),
            Kind::ClockFreeze => self.clock_freeze(),
            Kind::DiskError => self.disk_error(),
            Kind::DiskStall => self.disk_stall(),
            Kind::DiskFull => self.disk_full(),
            Kind::PartitionRing => self.partition_ring(),
            Kind::PartitionPrimaries => self.partition_primaries(),
            Kind::LinkUnclog => self.link_unclog(),
            Kind::RollingUpgrade => self.rolling_upgrade(),
            Kind::LinkRate => self.link_rate(),
            Kind::ClockJump => self.clock_jump(),
            Kind::ComponentHang => self.component_hang(),
            Kind::ConfigChange => self.config_change(),
            Kind::NodePartition
            | Kind::NodeLink
            | Kind::NodeKill
            | Kind::NodePowerLoss
            | Kind::NodePause
            | Kind::NodeClock
            | Kind::NodeDisk
            | Kind::NodeLost
            | Kind::ZoneLost
            | Kind::ContainerCrash
            | Kind::ContainerSick
            | Kind::ContainerSlow
            | Kind::ImagePull
            | Kind::Reset
            | Kind::ApiLag
            | Kind::ResponseDrop
            | Kind::WatchCut
            | Kind::CrashPoint
            | Kind::EventsWithheld
            | Kind::CredentialsExpired
            | Kind::ApiOverload
            | Kind::NodeRestart => self.cluster_attack(),
            Kind::Restart => {
                let target = self.one_member();
                let for_ns = self.restart_time();
                self.at_any_time(for_ns, What::Restart { target });
            }
            // Once in a trial at most, and never healed: `freeze` draws it.
            Kind::Frozen => {}
        }
    }

    fn partition_one(&mut self) {
        let side = self.one_member();
        let for_ns = self.duration();
        // Clients that still reach a leader without followers are who notices that it answers from memory.
        let cut = if self.chance(500) { Cut::Peers } else { Cut::Symmetric };
        self.at_any_time(for_ns, What::Partition { side, cut });
    }

    fn partition_minority(&mut self) {
        let most = (self.hosts.members.max(1) - 1) / 2;
        let side = if most >= 2 && self.chance(700) {
            let size = self.between(2, u64::from(most)) as u32;
            self.some_members(size)
        } else {
            self.client()
        };
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::Partition { side, cut: Cut::Symmetric });
    }

    fn partition_majority(&mut self) {
        let size = self.between(u64::from(self.majority()), u64::from(self.hosts.members)) as u32;
        let side = self.some_members(size);
        let for_ns = self.outage();
        self.at_any_time(for_ns, What::Partition { side, cut: Cut::Symmetric });
    }

    /// A leader that is heard but hears nothing keeps its followers from electing another, and one that hears but is
    /// not heard goes on believing: both show only in time, so some last longer than the store may take to recover.
    fn partition_one_way(&mut self) {
        let cut = if self.chance(500) { Cut::Inbound } else { Cut::Outbound };
        let (side, for_ns) = if self.chance(400) {
            (Target::Leader, self.between(25 * SECOND, 40 * SECOND))
        } else {
            (self.one_member(), self.duration())
        };
        self.at_any_time(for_ns, What::Partition { side, cut });
    }

    /// A leader that keeps one follower, through which the others still hear of it, must give up where two are no
    /// majority. That too shows only in time.
    fn partition_bridge(&mut self) {
        let (side, cut) =
            if self.chance(400) { (Target::Leader, Cut::Thread) } else { (self.one_member(), Cut::Bridge) };
        let for_ns = if self.chance(350) { self.between(22 * SECOND, 32 * SECOND) } else { self.duration() };
        self.at_any_time(for_ns, What::Partition { side, cut });
    }

    fn link_loss(&mut self) {
        let target = self.anyone();
        // From an annoyance to a link on which TCP all but stops.
        let permille = self.between(20, 500) as u32;
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::Loss { target, permille });
    }

    fn link_delay(&mut self) {
        let target = self.anyone();
        // Most delays are those of a long way; some come near an election timeout.
        let delay_ns = if self.chance(700) { self.between(MS, 60 * MS) } else { self.between(60 * MS, 800 * MS) };
        let jitter_ns = self.between(0, delay_ns);
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::Delay { target, delay_ns, jitter_ns });
    }

    fn link_rate(&mut self) {
        let target = self.anyone();
        let for_ns = self.duration();
        let what = self.rate(target);
        self.at_any_time(for_ns, what);
    }

    fn link_hold(&mut self) {
        let target = self.anyone();
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::Hold { target });
    }

    fn kill(&mut self) {
        match self.between(0, 9) {
            0..=3 => self.kill_at_the_vote(),
            4..=5 => {
                let target = self.one_member();
                self.restart_loop(&target, 12);
            }
            6..=7 => {
                let for_ns = self.restart_time();
                self.at_any_time(for_ns, What::Kill { target: Target::Leader });
            }
            _ => {
                let target = if self.chance(300) { self.several_members() } else { self.one_member() };
                let for_ns = self.restart_time();
                self.at_any_time(for_ns, What::Kill { target });
            }
        }
    }

    /// The leader dies, and whoever then votes dies as it votes, alone or with all others, and is back before the
    /// election is over: what it promised must be on its disk. A second voter may meet the same fate.
    fn kill_at_the_vote(&mut self) {
        // Back before the election, as one more voter, or away until long after it.
        let leader_down =
            if self.chance(500) { self.between(50 * MS, 900 * MS) } else { self.between(3 * SECOND, 8 * SECOND) };
        let at = self.time_for(leader_down.max(5 * SECOND));
        if self.chance(800) {
            self.push(When::At(at), leader_down, What::Kill { target: Target::Leader });
        }
        let mark = if self.chance(800) { VOTE } else { self.pick(&MOMENTS) };
        for _ in 0..self.between(1, 2) {
            let target = self.marked_or_more();
            let delay_ns = if mark == VOTE { self.vote_counted() } else { self.moment() };
            let for_ns = self.between(2 * MS, 30 * MS);
            self.push(When::Marked { from: at, mark: mark.to_owned(), delay_ns }, for_ns, What::Kill { target });
        }
    }

    /// Half of those who lose power have a slow disk at that moment, so that something is being written when it goes.
    fn power_loss(&mut self) {
        if self.chance(300) {
            return self.power_loss_at_the_vote();
        }
        let for_ns = if self.chance(600) { self.between(5 * MS, 300 * MS) } else { self.restart_time() };
        if self.chance(300) {
            let target = self.marked_or_more();
            let (from, delay_ns) = (self.time_for(for_ns), self.moment());
            let when = When::Marked { from, mark: self.pick(&MOMENTS).to_owned(), delay_ns };
            return self.push(when, for_ns, What::PowerLoss { target });
        }
        let target = match self.between(0, 9) {
            0..=3 => self.all_members(),
            4..=5 => self.several_members(),
            _ => self.one_member(),
        };
        let slow_ns = self.between(50 * MS, SECOND);
        let at = self.time_for(slow_ns + for_ns);
        if self.chance(500) {
            let fault = DiskFault::Slow(self.between(10, 200) as u32);
            let slow = What::Disk { target: target.clone(), fault };
            self.push_beside(Kind::DiskStall, When::At(at), slow_ns + for_ns, slow);
        }
        self.push(When::At(at + slow_ns), for_ns, What::PowerLoss { target });
    }

    /// The leader goes out for a moment, and as soon as its successor has a vote, perhaps on slow disks, everybody does:
    /// whoever then stands for the same term again must not find voters who have forgotten.
    fn power_loss_at_the_vote(&mut self) {
        let at = self.time_for(5 * SECOND);
        let leader_off = self.between(50 * MS, 900 * MS);
        self.push(When::At(at), leader_off, What::PowerLoss { target: Target::Leader });
        if self.chance(500) {
            let fault = DiskFault::Slow(self.between(3, 30) as u32);
            let disks = What::Disk { target: self.all_members(), fault };
            self.push_beside(Kind::DiskStall, When::At(at), 4 * SECOND, disks);
        }
        let delay_ns = self.vote_counted();
        let for_ns = self.between(5 * MS, 100 * MS);
        let when = When::Marked { from: at, mark: VOTE.to_owned(), delay_ns };
        self.push(when, for_ns, What::PowerLoss { target: self.all_members() });
    }

    fn pause(&mut self) {
        let (target, for_ns) = match self.between(0, 9) {
            // Longer than an election: it wakes up believing that it leads.
            0..=4 => (Target::Leader, self.between(2500 * MS, 8 * SECOND)),
            5 => (Target::Leader, self.between(12 * SECOND, 25 * SECOND)),
            6 => (self.several_members(), self.between(200 * MS, 3 * SECOND)),
            _ => (self.one_member(), self.duration()),
        };
        self.at_any_time(for_ns, What::Pause { target });
    }

    fn clock_offset(&mut self) {
        let target = self.one_member();
        let size = self.between(MS, 3600 * SECOND) as i64;
        let offset_ns = if self.chance(500) { size } else { -size };
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::ClockOffset { target, offset_ns });
    }

    fn clock_drift(&mut self) {
        let target = self.one_member();
        // Mostly within the bound that leases are promised for; beyond it, everything else must hold all the same.
        let permille = if self.chance(750) { self.between(900, 1100) } else { self.between(300, 3000) } as u32;
        let for_ns = if self.chance(500) { self.between(10 * SECOND, 30 * SECOND) } else { self.duration() };
        self.at_any_time(for_ns, What::ClockDrift { target, permille });
    }

    fn clock_steps(&mut self) {
        let target = self.one_member();
        let size = self.between(10 * MS, 30 * SECOND) as i64;
        let step_ns = if self.chance(500) { size } else { -size };
        let every_ns = self.between(50 * MS, 2 * SECOND);
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::ClockSteps { target, step_ns, every_ns });
    }

    fn clock_freeze(&mut self) {
        let target = self.one_member();
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::ClockFreeze { target });
    }

    fn clock_jump(&mut self) {
        let target = self.one_member();
        let ahead_ns = self.jump();
        // What it brings about is there at once and lasts for as long as an election may take.
        self.at_any_time(5 * SECOND, What::ClockJump { target, ahead_ns });
    }

    fn disk_error(&mut self) {
        let target = self.one_member();
        // Few, so that one hits in the middle of something, or many, so that nothing can begin.
        let permille = if self.chance(600) { self.between(5, 100) } else { self.between(100, 1000) } as u32;
        let fault = match self.between(0, 9) {
            0..=3 => DiskFault::WriteErrors(permille),
            4..=7 => DiskFault::SyncErrors(permille),
            _ => DiskFault::ReadErrors(permille),
        };
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::Disk { target, fault });
    }

    fn disk_stall(&mut self) {
        let target = self.one_member();
        let (fault, for_ns) = if self.chance(600) {
            (DiskFault::Stall, self.between(200 * MS, 6 * SECOND))
        } else {
            (DiskFault::Slow(self.between(5, 500) as u32), self.duration())
        };
        self.at_any_time(for_ns, What::Disk { target, fault });
    }

    fn disk_full(&mut self) {
        let target = if self.chance(150) { self.several_members() } else { self.one_member() };
        let for_ns = self.duration();
        self.at_any_time(for_ns, What::Disk { target, fault: DiskFault::Full });
    }

    // What attacks are made of, from here on.

    /// From a link on which little more than heartbeats passes in time to one that is noticed only by snapshots. What is on
    /// its way when the fault ends is under way for a few seconds yet.
    pub(crate) fn rate(&mut self, target: Target) -> What {
        let doublings = self.between(0, 5);
        What::Rate { target, bytes_per_second: (128 << doublings) * 1024 }
    }

    /// Past a heartbeat or an election, or past most timeouts.
    pub(crate) fn jump(&mut self) -> Ns {
        if self.chance(700) { self.between(50 * MS, 4 * SECOND) } else { self.between(4 * SECOND, 20 * SECOND) }
    }

    /// Most faults are short, and some outlast every timeout of the store and its clients.
    pub(crate) fn duration(&mut self) -> Ns {
        if self.chance(720) { self.between(200 * MS, 3 * SECOND) } else { self.between(5 * SECOND, 15 * SECOND) }
    }

    /// For faults that stop all service: long enough for elections, short enough that most operations succeed.
    pub(crate) fn outage(&mut self) -> Ns {
        if self.chance(800) { self.between(200 * MS, 3 * SECOND) } else { self.between(3 * SECOND, 7 * SECOND) }
    }

    /// How long a process that was killed stays down.
    pub(crate) fn restart_time(&mut self) -> Ns {
        match self.between(0, 3) {
            0 => self.between(2 * MS, 30 * MS),
            1 | 2 => self.between(30 * MS, 2 * SECOND),
            _ => self.between(2 * SECOND, 8 * SECOND),
        }
    }

    pub(crate) fn one_member(&mut self) -> Target {
        match self.between(0, 9) {
            0..=3 => Target::Leader,
            4..=5 => Target::Follower,
            _ => Target::Member(self.between(0, u64::from(self.hosts.members.max(1)) - 1) as u32),
        }
    }

    fn client(&mut self) -> Target {
        if self.hosts.client_hosts == 0 {
            return self.one_member();
        }
        Target::Client(self.between(0, u64::from(self.hosts.client_hosts) - 1) as u32)
    }

    fn anyone(&mut self) -> Target {
        if self.chance(200) { self.client() } else { self.one_member() }
    }

    /// A majority or more, so that the cluster must come back from what they have on disk.
    fn several_members(&mut self) -> Target {
        let size = self.between(u64::from(self.majority()), u64::from(self.hosts.members)) as u32;
        self.some_members(size)
    }

    pub(crate) fn some_members(&mut self, size: u32) -> Target {
        let mut left: Vec<u32> = (0..self.hosts.members).collect();
        let mut chosen: Vec<u32> = (0..size.min(self.hosts.members)).map(|_| self.take(&mut left)).collect();
        chosen.sort_unstable();
        Target::Members(chosen)
    }

    fn majority(&self) -> u32 {
        self.hosts.members / 2 + 1
    }

    /// Who said the mark, or with it enough of the others that nobody is left to remember for it.
    fn marked_or_more(&mut self) -> Target {
        match self.between(0, 9) {
            0..=4 => Target::Marked,
            5..=7 => self.all_members(),
            _ => self.several_members(),
        }
    }

    fn all_members(&self) -> Target {
        Target::Members((0..self.hosts.members).collect())
    }

    /// From a vote to the strike: mostly so long that the vote is counted, and so short that nothing which its candidate
    /// sends as leader is on a disk.
    fn vote_counted(&mut self) -> Ns {
        if self.chance(750) { self.between(MS / 2, 3 * MS / 2) } else { self.between(0, 15 * MS) }
    }

    /// From a mark to the strike: mostly about a message's way and a disk's write, so that half of what follows from the
    /// mark has happened.
    fn moment(&mut self) -> Ns {
        if self.chance(600) { self.between(0, 3 * MS) } else { self.between(3 * MS, 20 * MS) }
    }

    /// A time at which something that lasts `for_ns` still ends in time, marks' delays included.
    pub(crate) fn time_for(&mut self, for_ns: Ns) -> Ns {
        let latest = self.faults_ns.saturating_sub(for_ns + 50 * MS);
        self.between(FIRST_STRIKE_NS.min(latest), latest)
    }

    pub(crate) fn at_any_time(&mut self, for_ns: Ns, what: What) {
        let for_ns = for_ns.min(self.faults_ns / 2);
        let at = self.time_for(for_ns);
        self.push(When::At(at), for_ns, what);
    }

    pub(crate) fn push(&mut self, when: When, for_ns: Ns, what: What) {
        self.push_beside(self.kind, when, for_ns, what);
    }

    /// A fault that belongs to an attack of this kind, but counts as another.
    pub(crate) fn push_beside(&mut self, kind: Kind, when: When, for_ns: Ns, what: What) {
        let room = self.faults_ns.saturating_sub(when.earliest());
        if room == 0 {
            // The time of faults is shorter than this attack.
            return;
        }
        let id = self.kind as u32 * IDS_PER_KIND + self.faults.len() as u32;
        self.faults.push(Fault { id, kind, when, for_ns: for_ns.min(room), what });
    }

    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        self.between(0, 999) < u64::from(permille)
    }

    /// Takes one out of these, of which there must be some.
    pub(crate) fn take<T>(&mut self, from: &mut Vec<T>) -> T {
        from.remove(self.between(0, from.len() as u64 - 1) as usize)
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.between(0, from.len() as u64 - 1) as usize]
    }

    /// From `low` up to and with `high`; `low` if there is nothing between. Uniform but for one part in 2^64 / range.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let width = u128::from(high.saturating_sub(low)) + 1;
        low + ((u128::from(self.random.next_u64()) * width) >> 64) as u64
    }
}

impl When {
    /// The earliest time at which a fault with this trigger can strike.
    pub fn earliest(&self) -> Ns {
        match self {
            When::At(at) => *at,
            When::Marked { from, delay_ns, .. } => from + delay_ns,
            When::Effect { from, .. } => *from,
        }
    }
}

/// Seed of the stream `name` in a trial: FNV-1a over the name, then splitmix64's finish, which spreads every bit.
fn stream_seed(seed: u64, name: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
