//! The course of a trial's faults: which strike when, whom they hit, what must be done to the world, when they end.
//!
//! ```text
//! schedule, marks said --> Storm::advance(now) --> actions on the world, strikes for the record
//!                                Storm::next_ns --> when to advance again
//! ```
//!
//! Pure but for its own state: who calls it acts on the world.
//!
//! **Invariant:** after `faults_ns` no fault is active (`everything_is_over_when_the_time_of_faults_is`).

use crate::effects::{self, Action, Active, Host, Situation, Topology, Wanted};
use faults::{Fault, Ns, Schedule, When};
use record::Strike;
use std::collections::BTreeMap;

/// The faults of a trial, from before the first strikes until after the last is healed.
#[derive(Debug)]
pub(crate) struct Storm {
    topology: Topology,
    faults_ns: Ns,
    /// Not yet struck and at a fixed time, the next one last.
    coming: Vec<Fault>,
    /// Waiting for a mark, or for the delay after it.
    waiting: BTreeMap<u32, Fault>,
    active: BTreeMap<u32, Active>,
    is: Wanted,
    strikes: Vec<Strike>,
}

/// A fault that waits for a mark.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Awaited {
    pub(crate) fault: u32,
    pub(crate) from_ns: Ns,
    pub(crate) mark: String,
    pub(crate) delay_ns: Ns,
}

/// A fault whose mark was said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Due {
    pub(crate) fault: u32,
    /// When it strikes.
    pub(crate) at_ns: Ns,
    /// Who said the mark.
    pub(crate) member: u32,
}

/// What a fault did, for the log.
#[derive(Debug, PartialEq)]
pub(crate) enum Turn {
    /// It struck.
    Struck(Strike),
    /// It was healed.
    Healed(u32),
}

impl Storm {
    /// Nothing strikes such that it would last beyond `faults_ns`.
    pub(crate) fn new(schedule: &Schedule, topology: Topology, faults_ns: Ns) -> Self {
        let in_time = schedule.faults.iter().filter(|fault| fault.when.earliest() + fault.for_ns <= faults_ns);
        let (mut coming, waiting): (Vec<Fault>, Vec<Fault>) =
            in_time.cloned().partition(|fault| matches!(fault.when, When::At(_)));
        coming.sort_by_key(|fault| std::cmp::Reverse((fault.when.earliest(), fault.id)));
        Self {
            topology,
            faults_ns,
            coming,
            waiting: waiting.into_iter().map(|fault| (fault.id, fault)).collect(),
            active: BTreeMap::new(),
            is: Wanted::default(),
            strikes: Vec::new(),
        }
    }

    /// No faults.
    pub(crate) fn over() -> Self {
        Self::new(&Schedule::default(), Topology { members: 0, client_hosts: 0, nodes: 0 }, 0)
    }

    /// The faults that wait for a mark.
    pub(crate) fn awaited(&self) -> Vec<Awaited> {
        let awaited = |fault: &Fault| match &fault.when {
            When::At(_) => None,
            When::Marked { from, mark, delay_ns } => {
                Some(Awaited { fault: fault.id, from_ns: *from, mark: mark.clone(), delay_ns: *delay_ns })
            }
        };
        self.waiting.values().filter_map(awaited).collect()
    }

    /// When something strikes, ends or steps next, those apart that wait for a mark.
    pub(crate) fn next_ns(&self, now_ns: Ns) -> Option<Ns> {
        let strike = self.coming.last().map(|fault| fault.when.earliest());
        let end = self.active.values().map(Active::until_ns).min();
        let step = effects::next_step(&self.active, now_ns);
        [strike, end, step].into_iter().flatten().min()
    }

    /// Lets strike and end whatever is due, and says what must be done to the world.
    pub(crate) fn advance(
        &mut self,
        now_ns: Ns,
        due: &[Due],
        leader: Option<u32>,
        busy: impl Fn(Host) -> bool,
    ) -> (Vec<Action>, Vec<Turn>) {
        let mut turns = Vec::new();
        self.end(now_ns, &mut turns);
        while self.coming.last().is_some_and(|fault| fault.when.earliest() <= now_ns) {
            if let Some(fault) = self.coming.pop() {
                turns.push(self.strike(now_ns, fault, Situation { leader, marked: None }, &busy));
            }
        }
        for due in due {
            if let Some(fault) = self.waiting.remove(&due.fault)
                && now_ns + fault.for_ns <= self.faults_ns
            {
                turns.push(self.strike(now_ns, fault, Situation { leader, marked: Some(due.member) }, &busy));
            }
        }
        let wanted = effects::wanted(&self.active, self.topology, now_ns, &self.is);
        let actions = effects::actions(&self.is, &wanted);
        self.is = wanted;
        (actions, turns)
    }

    /// What the faults make of the world now.
    pub(crate) fn is(&self) -> &Wanted {
        &self.is
    }

    /// What struck, in order of time.
    pub(crate) fn into_strikes(self) -> Vec<Strike> {
        self.strikes
    }

    fn end(&mut self, now_ns: Ns, turns: &mut Vec<Turn>) {
        let over: Vec<u32> =
            self.active.iter().filter(|(_, active)| active.until_ns() <= now_ns).map(|(id, _)| *id).collect();
        for id in over {
            self.active.remove(&id);
            turns.push(Turn::Healed(id));
            let strike = self.strikes.iter_mut().rev().find(|strike| strike.fault == id);
            strike.expect("what is active has struck").until_ns = now_ns;
        }
    }

    fn strike(&mut self, now_ns: Ns, fault: Fault, situation: Situation, busy: &impl Fn(Host) -> bool) -> Turn {
        let hosts = effects::resolve(effects::target(&fault.what), situation, self.topology);
        let consequences = effects::consequences(&fault.what, &hosts, self.topology);
        let strike = Strike {
            fault: fault.id,
            kind: fault.kind,
            from_ns: now_ns,
            until_ns: now_ns + fault.for_ns,
            members: hosts.iter().filter_map(|host| host.member()).collect(),
            clients: hosts.iter().filter_map(|host| host.client()).collect(),
            nodes: hosts.iter().filter_map(|host| host.node()).collect(),
            busy: hosts.iter().any(|host| busy(*host)),
            disabled: consequences.disabled,
            severed: consequences.severed,
        };
        self.strikes.push(strike.clone());
        self.active.insert(fault.id, Active { fault, from_ns: now_ns, hosts });
        Turn::Struck(strike)
    }
}

impl Active {
    fn until_ns(&self) -> Ns {
        self.from_ns + self.fault.for_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::{Kind, Swarm, Target, What};

    const SECOND: Ns = 1_000_000_000;
    const TOPOLOGY: Topology = Topology { members: 3, client_hosts: 2, nodes: 0 };
    const HOSTS: faults::Hosts = faults::Hosts { members: 3, client_hosts: 2, nodes: 0, zones: 0 };

    fn kill(id: u32, when: When, target: Target) -> Fault {
        Fault { id, kind: Kind::Kill, when, for_ns: SECOND, what: What::Kill { target } }
    }

    fn marked() -> When {
        When::Marked { from: SECOND, mark: "vote granted".into(), delay_ns: 5 }
    }

    #[test]
    fn a_fault_at_a_time_strikes_the_leader_of_that_time_and_ends() {
        let schedule = Schedule { faults: vec![kill(7, When::At(SECOND), Target::Leader)] };
        let mut storm = Storm::new(&schedule, TOPOLOGY, 10 * SECOND);
        assert_eq!(storm.next_ns(0), Some(SECOND));
        let (actions, _) = storm.advance(SECOND, &[], Some(2), |host| host == Host::Member(2));
        assert_eq!(actions, [Action::Kill(Host::Member(2))]);
        assert!(storm.is().keeps_down(Host::Member(2)));
        assert_eq!(storm.next_ns(SECOND), Some(2 * SECOND));
        let (actions, turns) = storm.advance(2 * SECOND, &[], Some(0), |_| false);
        assert_eq!((actions, turns), (vec![Action::Start(Host::Member(2))], vec![Turn::Healed(7)]));
        let strikes = storm.into_strikes();
        assert_eq!((strikes[0].from_ns, strikes[0].until_ns, strikes[0].busy), (SECOND, 2 * SECOND, true));
        assert_eq!((&strikes[0].members[..], &strikes[0].disabled[..]), (&[2][..], &[2][..]));
    }

    #[test]
    fn a_fault_that_waits_for_a_mark_strikes_who_said_it_once() {
        let schedule = Schedule { faults: vec![kill(7, marked(), Target::Marked)] };
        let mut storm = Storm::new(&schedule, TOPOLOGY, 10 * SECOND);
        let awaited = Awaited { fault: 7, from_ns: SECOND, mark: "vote granted".into(), delay_ns: 5 };
        assert_eq!((storm.awaited(), storm.next_ns(0)), (vec![awaited], None));
        let due = Due { fault: 7, at_ns: 3 * SECOND, member: 1 };
        let (actions, _) = storm.advance(3 * SECOND, &[due, due], None, |_| true);
        assert_eq!(actions, [Action::Kill(Host::Member(1))]);
        assert_eq!(storm.into_strikes().len(), 1);
    }

    #[test]
    fn a_mark_that_comes_too_late_does_nothing() {
        let schedule = Schedule { faults: vec![kill(7, marked(), Target::Marked)] };
        let mut storm = Storm::new(&schedule, TOPOLOGY, 10 * SECOND);
        let (actions, turns) =
            storm.advance(9 * SECOND + 1, &[Due { fault: 7, at_ns: 9 * SECOND + 1, member: 1 }], None, |_| true);
        assert_eq!((actions, turns), (vec![], vec![]));
    }

    #[test]
    fn everything_is_over_when_the_time_of_faults_is() {
        for seed in 0..100 {
            let faults_ns = 60 * SECOND;
            let schedule = faults::draw(&Swarm::default(), seed, HOSTS, faults_ns);
            let mut storm = Storm::new(&schedule, TOPOLOGY, faults_ns);
            let due: Vec<Due> = storm
                .awaited()
                .iter()
                .map(|awaited| Due { fault: awaited.fault, at_ns: 30 * SECOND, member: seed as u32 % 3 })
                .collect();
            let mut now_ns = 0;
            let mut rounds = 0;
            while let Some(next_ns) = storm.next_ns(now_ns) {
                assert!(next_ns > now_ns || rounds == 0, "seed {seed}");
                let due: &[Due] = if now_ns < 30 * SECOND && next_ns >= 30 * SECOND { &due } else { &[] };
                now_ns = next_ns;
                storm.advance(now_ns, due, Some(0), |_| true);
                rounds += 1;
            }
            assert!(now_ns <= faults_ns && *storm.is() == Wanted::default(), "seed {seed}");
        }
    }
}
