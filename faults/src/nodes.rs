//! Attacks on nodes, on what runs on them, and on the control plane above them.

use crate::draw::{Draw, FIRST_STRIKE_NS, MS, SECOND};
use crate::{Component, ContainerFault, Cut, DiskFault, Kind, Ns, Target, What, When};

/// Of the partitions of nodes, so many in a thousand are of all of them.
const CUT_OFF_PERMILLE: u32 = 150;

impl Draw {
    /// Draws one attack of this kind. Without nodes there is nothing to attack.
    pub(crate) fn cluster_attack(&mut self) {
        if self.hosts.nodes == 0 {
            return;
        }
        match self.kind {
            Kind::NodePartition => {
                if self.chance(CUT_OFF_PERMILLE) {
                    return self.control_plane_cut_off();
                }
                let side = self.nodes();
                let cut = if self.chance(600) { Cut::ControlPlane } else { Cut::Symmetric };
                self.absent(What::Partition { side, cut });
            }
            Kind::NodeLink => {
                let target = self.nodes();
                let what = match self.between(0, 9) {
                    0..=3 => What::Loss { target, permille: self.between(20, 300) as u32 },
                    4..=7 => {
                        let delay_ns = self.between(5 * MS, 800 * MS);
                        What::Delay { target, delay_ns, jitter_ns: self.between(0, delay_ns) }
                    }
                    _ => self.rate(target),
                };
                let for_ns = self.between(2 * SECOND, 40 * SECOND);
                self.at_any_time(for_ns, what);
            }
            Kind::NodeKill => {
                let target = self.nodes();
                if self.chance(250) {
                    return self.restart_loop(&target, 12);
                }
                let for_ns = self.between(50 * MS, 20 * SECOND);
                self.at_any_time(for_ns, What::Kill { target });
            }
            Kind::NodePowerLoss => {
                let target = self.nodes();
                if self.chance(750) {
                    return self.absent(What::PowerLoss { target });
                }
                self.reboot(target);
            }
            Kind::NodePause => {
                let target = self.nodes();
                self.absent(What::Pause { target });
            }
            Kind::NodeClock => self.node_clock(),
            Kind::NodeDisk => {
                let target = self.one_node();
                let fault = match self.between(0, 3) {
                    0 => DiskFault::Stall,
                    1 => DiskFault::Slow(self.between(5, 100) as u32),
                    2 => DiskFault::Full,
                    _ => DiskFault::WriteErrors(self.between(50, 1000) as u32),
                };
                let for_ns = self.between(SECOND, 30 * SECOND);
                self.at_any_time(for_ns, What::Disk { target, fault });
            }
            Kind::NodeLost => {
                let target = self.one_node();
                // Beyond detection and eviction, or back before anybody has given it up.
                if self.chance(800) {
                    self.long(What::Lost { target });
                } else {
                    let for_ns = self.between(5 * SECOND, 40 * SECOND);
                    self.at_any_time(for_ns, What::Lost { target });
                }
            }
            Kind::ZoneLost => {
                let zones = self.hosts.zones.max(1);
                let zone = self.between(0, u64::from(zones) - 1) as u32;
                let target = Target::Nodes((0..self.hosts.nodes).filter(|node| node % zones == zone).collect());
                self.absent(What::PowerLoss { target });
            }
            Kind::ContainerCrash => self.containers(&[ContainerFault::Crash, ContainerFault::OutOfMemory]),
            Kind::ContainerSick => {
                self.containers(&[ContainerFault::Hang, ContainerFault::Unready, ContainerFault::Flap]);
            }
            Kind::ContainerSlow => {
                let slow = ContainerFault::Slow(self.between(500, 20_000));
                self.containers(&[ContainerFault::IgnoreTerm, slow]);
            }
            Kind::ImagePull => self.image_pull(),
            Kind::Reset => {
                let target = if self.chance(500) { self.nodes() } else { self.one_member() };
                self.at_any_time(MS, What::Reset { target });
            }
            Kind::ApiLag => {
                let target = self.one_member();
                let for_ns = self.lag();
                self.at_any_time(for_ns, What::Lag { target });
            }
            Kind::ResponseDrop => {
                let target = self.one_member();
                let for_ns = self.between(3 * SECOND, 12 * SECOND);
                self.at_any_time(for_ns, What::Fuse { target, bytes: 0 });
            }
            Kind::WatchCut => {
                let target = self.one_member();
                let bytes = self.between(1, 4000);
                let for_ns = self.between(5 * SECOND, 30 * SECOND);
                self.at_any_time(for_ns, What::Fuse { target, bytes });
            }
            Kind::CrashPoint => self.crash_point(),
            Kind::EventsWithheld => self.events_withheld(),
            Kind::CredentialsExpired => {
                let target = if self.chance(600) { self.nodes() } else { self.one_member() };
                self.absent(What::Expire { target });
            }
            Kind::ApiOverload => {
                let target = self.one_member();
                let callers = self.between(10, 120) as u32;
                let for_ns = self.between(2 * SECOND, 20 * SECOND);
                self.at_any_time(for_ns, What::Flood { target, callers });
            }
            Kind::NodeRestart => {
                let target = self.nodes();
                let for_ns = self.restart_time();
                self.at_any_time(for_ns, What::Restart { target });
            }
            Kind::PartitionOne
            | Kind::PartitionMinority
            | Kind::PartitionMajority
            | Kind::PartitionOneWay
            | Kind::PartitionBridge
            | Kind::LinkLoss
            | Kind::LinkDelay
            | Kind::LinkHold
            | Kind::Kill
            | Kind::Restart
            | Kind::PowerLoss
            | Kind::Pause
            | Kind::ClockOffset
            | Kind::ClockDrift
            | Kind::ClockSteps
            | Kind::ClockFreeze
            | Kind::DiskError
            | Kind::DiskStall
            | Kind::DiskFull
            | Kind::PartitionRing
            | Kind::PartitionPrimaries
            | Kind::LinkUnclog
            | Kind::RollingUpgrade
            | Kind::LinkRate
            | Kind::ClockJump
            | Kind::ComponentHang
            | Kind::ConfigChange
            | Kind::Frozen => {}
        }
    }

    /// Back before anybody else has noticed; at times with a wall clock that has lost the time, until somebody sets it.
    fn reboot(&mut self, target: Target) {
        let off_ns = self.between(5 * MS, 500 * MS);
        let wrong_ns = self.between(SECOND, 30 * SECOND);
        let at = self.time_for(off_ns + wrong_ns);
        if self.chance(400) {
            let offset_ns = -(self.between(SECOND, 24 * 3600 * SECOND) as i64);
            let clock = What::ClockOffset { target: target.clone(), offset_ns };
            self.push_beside(Kind::NodeClock, When::At(at), off_ns + wrong_ns, clock);
        }
        self.push(When::At(at), off_ns, What::PowerLoss { target });
    }

    /// Short, and long before the end: whoever was refused three times waits for longer than the fault lasted.
    fn image_pull(&mut self) {
        let target = self.nodes();
        let for_ns = self.between(2 * SECOND, 25 * SECOND).min(self.faults_ns / 4);
        let latest = (self.faults_ns * 3 / 4).saturating_sub(for_ns);
        let at = self.between(FIRST_STRIKE_NS.min(latest), latest);
        self.push(When::At(at), for_ns, What::Containers { target, fault: ContainerFault::NoPulls });
    }

    /// Shorter than an election, or so long that whoever listens to that replica alone is far behind.
    fn lag(&mut self) -> Ns {
        match self.between(0, 9) {
            0..=3 => self.between(100 * MS, 900 * MS),
            4..=6 => self.between(SECOND, 8 * SECOND),
            _ => self.between(10 * SECOND, 40 * SECOND),
        }
    }

    /// One informer hears nothing: for less time than it waits for a sign of life, 30 s, or for more. Mostly it is one that
    /// was just told something, now and then as a controller of that member has acted, of which it then does not hear.
    fn events_withheld(&mut self) {
        let for_ns = match self.between(0, 9) {
            0..=5 => self.between(500 * MS, 10 * SECOND),
            6..=7 => self.between(10 * SECOND, 28 * SECOND),
            _ => self.between(31 * SECOND, 60 * SECOND),
        };
        let for_ns = for_ns.min(self.faults_ns / 2);
        let nth = if self.chance(750) { self.between(0, 5) } else { self.between(0, 199) } as u32;
        if self.chance(400) {
            let (from, nth_effect) = (self.time_for(for_ns), self.between(1, 20) as u32);
            let when = When::Effect { from, nth: nth_effect, index: 0, before: self.chance(500) };
            return self.push(when, for_ns, What::Withhold { target: Target::Marked, nth });
        }
        let target = self.one_member();
        self.at_any_time(for_ns, What::Withhold { target, nth });
    }

    /// A controller dies at a write of a plan: half of the time it has performed others of that plan. Now and then its
    /// own replica, or another that its successor may ask, lags when it is back.
    fn crash_point(&mut self) {
        let for_ns = self.restart_time();
        let from = self.time_for(for_ns);
        let index = u64::from(self.chance(500));
        // Soon, or in the midst of what goes on then.
        let nth = if self.chance(600) { self.between(1, 3) } else { self.between(4, 40) } as u32;
        let when = When::Effect { from, nth, index, before: self.chance(600) };
        self.push(when.clone(), for_ns, What::Kill { target: Target::Marked });
        let lag_ns = self.lag().max(for_ns + SECOND);
        match self.between(0, 9) {
            0..=5 => {}
            6..=7 => self.push_beside(Kind::ApiLag, when, lag_ns, What::Lag { target: Target::Marked }),
            _ => {
                let target = self.one_member();
                self.push_beside(Kind::ApiLag, When::At(from), lag_ns, What::Lag { target });
            }
        }
    }

    fn node_clock(&mut self) {
        let target = self.one_node();
        let size = self.between(10 * MS, 600 * SECOND) as i64;
        let offset_ns = if self.chance(500) { size } else { -size };
        let what = match self.between(0, 3) {
            0 => What::ClockOffset { target, offset_ns },
            1 => What::ClockDrift { target, permille: self.between(900, 1100) as u32 },
            2 => What::ClockJump { target, ahead_ns: self.jump() },
            _ => What::ClockSteps { target, step_ns: offset_ns, every_ns: self.between(200 * MS, 5 * SECOND) },
        };
        let for_ns = self.between(5 * SECOND, 40 * SECOND);
        self.at_any_time(for_ns, what);
    }

    fn containers(&mut self, faults: &[ContainerFault]) {
        let target = self.nodes();
        let fault = faults[self.between(0, faults.len() as u64 - 1) as usize];
        let for_ns = self.between(2 * SECOND, 40 * SECOND);
        self.at_any_time(for_ns, What::Containers { target, fault });
    }

    /// All is well but the links between the control plane and the nodes, for longer than it takes to find them lost. Then it
    /// is the control plane that is away, and whoever evicts what runs there evicts everything.
    fn control_plane_cut_off(&mut self) {
        let side = Target::Nodes((0..self.hosts.nodes).collect());
        let for_ns = self.between(75 * SECOND, 150 * SECOND);
        self.at_any_time(for_ns, What::Partition { side, cut: Cut::ControlPlane });
    }

    /// Nodes are away: mostly shorter than their detection takes, now and then longer than eviction waits.
    fn absent(&mut self, what: What) {
        match self.between(0, 9) {
            0..=4 => {
                let for_ns = self.between(SECOND, 30 * SECOND);
                self.at_any_time(for_ns, what);
            }
            5..=7 => {
                let for_ns = self.between(45 * SECOND, 120 * SECOND);
                self.at_any_time(for_ns, what);
            }
            _ => self.long(what),
        }
    }

    /// Nearly all the time of faults, once there is something to lose: in eight minutes, longer than detection and
    /// eviction together, with something to spare for what comes in their way.
    fn long(&mut self, what: What) {
        let at = self.between(self.faults_ns / 20, self.faults_ns / 10).max(FIRST_STRIKE_NS);
        let for_ns = self.faults_ns - at - self.between(0, self.faults_ns / 96);
        self.push(When::At(at), for_ns, what);
    }

    /// Something stands still while the rest of its process goes on, and so keeps others from noticing.
    pub(crate) fn component_hang(&mut self) {
        let of_a_node = self.hosts.nodes > 0 && self.chance(500);
        let (target, components): (Target, &[Component]) = match (of_a_node, self.hosts.nodes) {
            (true, _) => (self.nodes(), &Component::OF_NODES),
            (false, 0) => (self.one_member(), &[Component::Store]),
            (false, _) => (self.one_member(), &Component::OF_MEMBERS),
        };
        let component = components[self.between(0, components.len() as u64 - 1) as usize];
        let for_ns = match component {
            Component::Store => self.duration(),
            _ if self.chance(600) => self.between(SECOND, 12 * SECOND),
            _ => self.between(12 * SECOND, 50 * SECOND),
        };
        self.at_any_time(for_ns.min(self.faults_ns / 2), What::Hang { target, component });
    }

    fn one_node(&mut self) -> Target {
        Target::Node(self.between(0, u64::from(self.hosts.nodes) - 1) as u32)
    }

    /// One node, or up to a third of them.
    fn nodes(&mut self) -> Target {
        let most = u64::from(self.hosts.nodes / 3);
        if most < 2 || self.chance(600) {
            return self.one_node();
        }
        let mut left: Vec<u32> = (0..self.hosts.nodes).collect();
        let count = self.between(2, most);
        let mut chosen: Vec<u32> = (0..count).map(|_| self.take(&mut left)).collect();
        chosen.sort_unstable();
        Target::Nodes(chosen)
    }
}
