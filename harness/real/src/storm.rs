//! The course of the faults that strike real processes: which strike when, whom they hit, when they end.
//!
//! ```text
//! schedule, marks said --> Storm::advance(now) --> what each process is to be like; strikes for the record
//! ```
//!
//! Pure but for its own state: who calls it sends the signals. As in the simulator, where faults of several kinds may hit
//! a process at once; here they are kills, requests to end, and pauses, and nothing else.
//!
//! **Invariant:** after the time of faults nothing is to be down or paused (`everything_is_over_when_the_faults_are`).

use crate::story::Host;
use faults::{Fault, Ns, Schedule, Target, What, When};
use record::Strike;

/// How many there are to be struck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    pub(crate) members: u32,
    pub(crate) nodes: u32,
}

/// What a process is to be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Not running, and how it is brought about.
    pub(crate) down: Option<Down>,
    pub(crate) paused: bool,
}

/// How a process is brought down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Down {
    /// It is asked to end.
    Asked,
    /// It is killed.
    Killed,
}

/// What is known of the processes while faults strike and end.
pub(crate) struct Senses<'a> {
    /// The member that last said that it leads.
    pub(crate) leader: Option<u32>,
    /// Whether a process is at work.
    pub(crate) busy: &'a dyn Fn(Host) -> bool,
    /// Whether it runs.
    pub(crate) runs: &'a dyn Fn(Host) -> bool,
}

/// The faults of a trial.
#[derive(Debug)]
pub(crate) struct Storm {
    topology: Topology,
    faults_ns: Ns,
    /// Not yet struck, from the last to the first; with the member that said what it waited for.
    coming: Vec<(Ns, Fault, Option<u32>)>,
    /// Waiting for a mark.
    waiting: Vec<Fault>,
    active: Vec<Active>,
    strikes: Vec<Strike>,
}

#[derive(Debug)]
struct Active {
    does: Does,
    until_ns: Ns,
    hosts: Vec<Host>,
    /// Its place among the strikes.
    strike: usize,
}

/// What a fault does to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Pause,
    Down(Down),
}

impl Does {
    /// What can be done of this to real processes, and to whom.
    fn of(what: &What) -> Option<(Self, &Target)> {
        match what {
            What::Kill { target } => Some((Does::Down(Down::Killed), target)),
            What::Restart { target } => Some((Does::Down(Down::Asked), target)),
            What::Pause { target } => Some((Does::Pause, target)),
            What::Partition { .. }
            | What::Loss { .. }
            | What::Delay { .. }
            | What::Rate { .. }
            | What::Hold { .. }
            | What::PowerLoss { .. }
            | What::ClockOffset { .. }
            | What::ClockDrift { .. }
            | What::ClockSteps { .. }
            | What::ClockFreeze { .. }
            | What::Containers { .. }
            | What::Lost { .. }
            | What::Reset { .. }
            | What::Disk { .. }
            | What::Lag { .. }
            | What::Clog { .. }
            | What::Withhold { .. }
            | What::Expire { .. }
            | What::Replace { .. }
            | What::ClockJump { .. }
            | What::Hang { .. }
            | What::Reconfigure { .. }
            | What::Flood { .. }
            | What::Fuse { .. } => None,
        }
    }
}

impl Storm {
    /// Nothing strikes such that it would last beyond `faults_ns`.
    pub(crate) fn new(schedule: &Schedule, topology: Topology, faults_ns: Ns) -> Self {
        let in_time = schedule.faults.iter().filter(|fault| fault.when.earliest() + fault.for_ns <= faults_ns).cloned();
        let (timed, waiting): (Vec<Fault>, Vec<Fault>) = in_time.partition(|fault| matches!(fault.when, When::At(_)));
        let coming = timed.into_iter().map(|fault| (fault.when.earliest(), fault, None)).collect();
        let mut storm = Self { topology, faults_ns, coming, waiting, active: Vec::new(), strikes: Vec::new() };
        storm.sort();
        storm
    }

    fn sort(&mut self) {
        self.coming.sort_by_key(|(at_ns, fault, _)| std::cmp::Reverse((*at_ns, fault.id)));
    }

    /// A member said a mark: what waited for it comes.
    pub(crate) fn said(&mut self, at_ns: Ns, member: u32, said: &str) {
        let mut waiting = Vec::new();
        for fault in self.waiting.drain(..) {
            match &fault.when {
                When::Marked { from, mark, delay_ns } if mark == said && at_ns >= *from => {
                    self.coming.push((at_ns + delay_ns, fault, Some(member)));
                }
                When::At(_) | When::Marked { .. } | When::Effect { .. } => waiting.push(fault),
            }
        }
        self.waiting = waiting;
        self.sort();
    }

    /// Lets strike and end whatever is due. Who was asked to end is given the time for it.
    pub(crate) fn advance(&mut self, now_ns: Ns, senses: &Senses<'_>) {
        let strikes = &mut self.strikes;
        self.active.retain(|active| {
            let runs = || active.hosts.iter().any(|host| (senses.runs)(*host));
            let over = active.until_ns <= now_ns && !(active.does == Does::Down(Down::Asked) && runs());
            if over {
                strikes[active.strike].until_ns = now_ns;
            }
            !over
        });
        while self.coming.last().is_some_and(|(at_ns, _, _)| *at_ns <= now_ns) {
            if let Some((_, fault, marked)) = self.coming.pop()
                && now_ns + fault.for_ns <= self.faults_ns
            {
                self.strike(now_ns, fault, marked, senses);
            }
        }
    }

    fn strike(&mut self, now_ns: Ns, fault: Fault, marked: Option<u32>, senses: &Senses<'_>) {
        let Some((does, target)) = Does::of(&fault.what) else { return };
        let hosts = self.resolve(target, marked, senses.leader);
        let members: Vec<u32> = hosts.iter().filter_map(|host| host.member()).collect();
        let until_ns = now_ns + fault.for_ns;
        self.strikes.push(Strike {
            fault: fault.id,
            kind: fault.kind,
            from_ns: now_ns,
            until_ns,
            disabled: members.clone(),
            members,
            clients: Vec::new(),
            nodes: hosts.iter().filter_map(|host| host.node()).collect(),
            busy: hosts.iter().any(|host| (senses.busy)(*host)),
            severed: Vec::new(),
        });
        self.active.push(Active { does, until_ns, hosts, strike: self.strikes.len() - 1 });
    }

    /// Whom it hits.
    fn resolve(&self, target: &Target, marked: Option<u32>, leader: Option<u32>) -> Vec<Host> {
        let leader = leader.unwrap_or(0);
        let Topology { members, nodes } = self.topology;
        let hosts: Vec<Host> = match target {
            Target::Member(member) => vec![Host::Member(*member)],
            Target::Members(members) => members.iter().copied().map(Host::Member).collect(),
            Target::Leader | Target::Leaders => vec![Host::Member(leader)],
            Target::Follower => vec![Host::Member((leader + 1) % members.max(1))],
            Target::Marked => vec![Host::Member(marked.unwrap_or(0))],
            Target::Client(_) => vec![],
            Target::Node(node) => vec![Host::Node(*node)],
            Target::Nodes(nodes) => nodes.iter().copied().map(Host::Node).collect(),
        };
        let exists = |host: &Host| match host {
            Host::Member(member) => *member < members,
            Host::Node(node) => *node < nodes,
        };
        hosts.into_iter().filter(exists).collect()
    }

    /// What a process is to be like now.
    pub(crate) fn wanted(&self, host: Host) -> Wanted {
        let mut wanted = Wanted::default();
        for active in self.active.iter().filter(|active| active.hosts.contains(&host)) {
            match active.does {
                Does::Down(down) => wanted.down = wanted.down.max(Some(down)),
                Does::Pause => wanted.paused = true,
            }
        }
        wanted
    }

    /// What struck, in order of time.
    pub(crate) fn into_strikes(self) -> Vec<Strike> {
        self.strikes
    }
}

impl Host {
    fn member(self) -> Option<u32> {
        match self {
            Host::Member(member) => Some(member),
            Host::Node(_) => None,
        }
    }

    fn node(self) -> Option<u32> {
        match self {
            Host::Node(node) => Some(node),
            Host::Member(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::Kind;

    const TOPOLOGY: Topology = Topology { members: 3, nodes: 2 };
    const LEADER: Host = Host::Member(2);

    fn fault(id: u32, when: When, for_ns: Ns, what: What) -> Fault {
        Fault { id, kind: Kind::Kill, when, for_ns, what }
    }

    fn storm(faults: Vec<Fault>) -> Storm {
        Storm::new(&Schedule { faults }, TOPOLOGY, 100)
    }

    fn advance(storm: &mut Storm, now_ns: Ns, runs: bool) {
        storm.advance(now_ns, &Senses { leader: Some(2), busy: &|_| true, runs: &|_| runs });
    }

    fn down(storm: &Storm, host: Host) -> Option<Down> {
        storm.wanted(host).down
    }

    #[test]
    fn a_kill_keeps_the_leader_of_that_time_down() {
        let mut storm = storm(vec![fault(7, When::At(10), 5, What::Kill { target: Target::Leader })]);
        advance(&mut storm, 9, true);
        assert_eq!(down(&storm, LEADER), None);
        advance(&mut storm, 11, true);
        assert_eq!(down(&storm, LEADER), Some(Down::Killed));
        assert_eq!(down(&storm, Host::Member(0)), None);
        advance(&mut storm, 16, false);
        assert_eq!(storm.wanted(LEADER), Wanted::default());
        let strikes = storm.into_strikes();
        assert_eq!((strikes[0].from_ns, strikes[0].until_ns, &strikes[0].members[..]), (11, 16, &[2][..]));
    }

    #[test]
    fn who_is_asked_to_end_is_waited_for() {
        let mut storm = storm(vec![fault(7, When::At(10), 5, What::Restart { target: Target::Node(1) })]);
        advance(&mut storm, 10, true);
        advance(&mut storm, 30, true);
        assert_eq!(down(&storm, Host::Node(1)), Some(Down::Asked));
        advance(&mut storm, 31, false);
        assert_eq!(down(&storm, Host::Node(1)), None);
        assert_eq!(storm.into_strikes()[0].until_ns, 31);
    }

    #[test]
    fn faults_of_one_process_add_up() {
        let target = || Target::Nodes(vec![0, 9]);
        let mut storm = storm(vec![
            fault(1, When::At(10), 50, What::Pause { target: target() }),
            fault(2, When::At(20), 10, What::Kill { target: target() }),
            fault(3, When::At(20), 10, What::Restart { target: target() }),
        ]);
        advance(&mut storm, 20, true);
        assert_eq!(storm.wanted(Host::Node(0)), Wanted { down: Some(Down::Killed), paused: true });
        advance(&mut storm, 30, false);
        assert_eq!(storm.wanted(Host::Node(0)), Wanted { down: None, paused: true });
        assert_eq!(storm.into_strikes()[0].nodes, [0], "there is no tenth node");
    }

    #[test]
    fn a_fault_waits_for_its_mark() {
        let when = When::Marked { from: 10, mark: "vote granted".into(), delay_ns: 3 };
        let mut storm = storm(vec![fault(1, when, 5, What::Kill { target: Target::Marked })]);
        storm.said(9, 0, "vote granted");
        storm.said(12, 0, "torn tail cut");
        advance(&mut storm, 20, true);
        assert_eq!(down(&storm, Host::Member(0)), None);
        storm.said(21, 1, "vote granted");
        advance(&mut storm, 23, true);
        assert_eq!(down(&storm, Host::Member(1)), None);
        advance(&mut storm, 24, true);
        assert_eq!(down(&storm, Host::Member(1)), Some(Down::Killed));
    }

    #[test]
    fn everything_is_over_when_the_faults_are() {
        let when = || When::Marked { from: 10, mark: "m".into(), delay_ns: 0 };
        let mut storm = storm(vec![
            fault(1, When::At(95), 6, What::Kill { target: Target::Leader }),
            fault(2, when(), 20, What::Kill { target: Target::Leader }),
            fault(3, when(), 5, What::Pause { target: Target::Leader }),
        ]);
        storm.said(90, 1, "m");
        advance(&mut storm, 95, true);
        assert_eq!(storm.wanted(LEADER), Wanted { down: None, paused: true });
        advance(&mut storm, 100, true);
        assert_eq!(storm.wanted(LEADER), Wanted::default());
        assert_eq!(storm.into_strikes().len(), 1);
    }
}
