//! The course of a trial's faults: which strike when, whom they hit, what must be done to the world, when they end.
//!
//! ```text
//! schedule, marks said --> Storm::advance(now) --> actions on the world, strikes for the record
//!                                Storm::next_ns --> when to advance again
//! effect that was awaited --> Storm::strike_now(now) --> the same, of what waited for it alone
//! ```
//!
//! Pure but for its own state: who calls it acts on the world.
//!
//! **Invariant:** after `faults_ns` no fault is active but one that outlasts it by its kind
//! (`everything_is_over_when_the_time_of_faults_is`).

use crate::effects::{self, Action, Active, Host, Situation, Topology, Wanted};
use faults::{Fault, Ns, Schedule, What, When};
use record::Strike;
use std::collections::BTreeMap;

/// The faults of a trial, from before the first strikes until after the last is healed.
#[derive(Debug)]
pub(crate) struct Storm {
    topology: Topology,
    faults_ns: Ns,
    /// Not yet struck and at a fixed time, the next one last.
    coming: Vec<Fault>,
    /// Waiting for a mark, for the delay after it, or for an effect.
    waiting: BTreeMap<u32, Fault>,
    active: BTreeMap<u32, Active>,
    is: Wanted,
    strikes: Vec<Strike>,
}

/// A fault that waits for something that a member says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Awaited {
    pub(crate) fault: u32,
    pub(crate) from_ns: Ns,
    pub(crate) sign: Sign,
}

/// What a fault waits for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sign {
    /// A mark; then it waits for a while more.
    Mark { text: String, delay_ns: Ns },
    /// As many effects as this; then it strikes at that instant.
    Effects { left: u32, index: u64, before: bool },
}

/// What is known of the hosts while faults strike and end.
pub(crate) struct Senses<'a> {
    /// The member that last said that it leads.
    pub(crate) leader: Option<u32>,
    /// The members that believe that they lead.
    pub(crate) leading: Vec<u32>,
    /// Whether a host is at work.
    pub(crate) busy: &'a dyn Fn(Host) -> bool,
    /// How often what such a fault does has had an effect on a host so far; `None` if that is not counted, and whoever was
    /// at work when it struck felt it.
    pub(crate) felt: &'a dyn Fn(&What, Host) -> Option<u64>,
}

/// A fault whose mark was said, or whose effect is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Due {
    pub(crate) fault: u32,
    /// When it strikes.
    pub(crate) at_ns: Ns,
    /// Who said it.
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
    /// Nothing strikes such that it would last beyond `faults_ns`, but for what outlasts it by its kind.
    pub(crate) fn new(schedule: &Schedule, topology: Topology, faults_ns: Ns) -> Self {
        let in_time = schedule.faults.iter().filter(|fault| {
            let earliest_ns = fault.when.earliest();
            earliest_ns + if fault.kind.outlasts() { 0 } else { fault.for_ns } <= faults_ns
        });
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

    /// The faults that wait for a mark or an effect.
    pub(crate) fn awaited(&self) -> Vec<Awaited> {
        let awaited = |fault: &Fault| match &fault.when {
            When::At(_) => None,
            When::Marked { from, mark, delay_ns } => {
                let sign = Sign::Mark { text: mark.clone(), delay_ns: *delay_ns };
                Some(Awaited { fault: fault.id, from_ns: *from, sign })
            }
            When::Effect { from, nth, index, before } => {
                let sign = Sign::Effects { left: *nth, index: *index, before: *before };
                Some(Awaited { fault: fault.id, from_ns: *from, sign })
            }
        };
        self.waiting.values().filter_map(awaited).collect()
    }

    /// When something strikes, ends or steps next, those apart that wait for somebody to say something.
    pub(crate) fn next_ns(&self, now_ns: Ns) -> Option<Ns> {
        let strike = self.coming.last().map(|fault| fault.when.earliest());
        let end = self.active.values().map(Active::until_ns).min();
        let step = effects::next_step(&self.active, now_ns);
        [strike, end, step].into_iter().flatten().min()
    }

    /// Lets strike and end whatever is due, and says what must be done to the world.
    pub(crate) fn advance(&mut self, now_ns: Ns, due: &[Due], senses: &Senses<'_>) -> (Vec<Action>, Vec<Turn>) {
        let mut turns = Vec::new();
        self.end(now_ns, senses, &mut turns);
        while self.coming.last().is_some_and(|fault| fault.when.earliest() <= now_ns) {
            if let Some(fault) = self.coming.pop() {
                turns.push(self.strike(now_ns, fault, None, senses));
            }
        }
        let (actions, struck) = self.strike_now(now_ns, due, senses);
        turns.extend(struck);
        (actions, turns)
    }

    /// Lets what has waited for this strike, and says what must be done to the world.
    pub(crate) fn strike_now(&mut self, now_ns: Ns, due: &[Due], senses: &Senses<'_>) -> (Vec<Action>, Vec<Turn>) {
        let mut turns = Vec::new();
        for due in due {
            if let Some(fault) = self.waiting.remove(&due.fault)
                && (fault.kind.outlasts() || now_ns + fault.for_ns <= self.faults_ns)
            {
                turns.push(self.strike(now_ns, fault, Some(due.member), senses));
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

    /// What struck until the trial's end, in order of time.
    pub(crate) fn into_strikes(mut self, ended_ns: Ns) -> Vec<Strike> {
        self.strikes.iter_mut().for_each(|strike| strike.until_ns = strike.until_ns.min(ended_ns));
        self.strikes
    }

    fn end(&mut self, now_ns: Ns, senses: &Senses<'_>, turns: &mut Vec<Turn>) {
        let over: Vec<u32> =
            self.active.iter().filter(|(_, active)| active.until_ns() <= now_ns).map(|(id, _)| *id).collect();
        for id in over {
            let ended = self.active.remove(&id);
            turns.push(Turn::Healed(id));
            let strike = self.strikes.iter_mut().rev().find(|strike| strike.fault == id);
            let strike = strike.expect("what is active has struck");
            strike.until_ns = now_ns;
            if let Some(felt) =
                ended.and_then(|ended| Some(total(&ended.fault.what, &ended.hosts, senses)? > ended.felt))
            {
                strike.busy = felt;
            }
        }
    }

    fn strike(&mut self, now_ns: Ns, fault: Fault, marked: Option<u32>, senses: &Senses<'_>) -> Turn {
        let situation = Situation { leader: senses.leader, leading: senses.leading.clone(), marked };
        let hosts = effects::resolve(fault.what.target(), &situation, self.topology);
        let consequences = effects::consequences(&fault.what, &hosts, self.topology);
        let strike = Strike {
            fault: fault.id,
            kind: fault.kind,
            from_ns: now_ns,
            until_ns: now_ns + fault.for_ns,
            members: hosts.iter().filter_map(|host| host.member()).collect(),
            clients: hosts.iter().filter_map(|host| host.client()).collect(),
            nodes: hosts.iter().filter_map(|host| host.node()).collect(),
            busy: hosts.iter().any(|host| (senses.busy)(*host)),
            disabled: consequences.disabled,
            severed: consequences.severed,
        };
        self.strikes.push(strike.clone());
        let felt = total(&fault.what, &hosts, senses).unwrap_or_default();
        self.active.insert(fault.id, Active { fault, from_ns: now_ns, hosts, felt });
        Turn::Struck(strike)
    }
}

/// How often what such a fault does has had an effect on any of these hosts; `None` if that is not counted.
fn total(what: &What, hosts: &[Host], senses: &Senses<'_>) -> Option<u64> {
    hosts.iter().map(|host| (senses.felt)(what, *host)).sum()
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

    fn senses<'a>(leader: Option<u32>, busy: &'a dyn Fn(Host) -> bool) -> Senses<'a> {
        Senses { leader, leading: leader.into_iter().collect(), busy, felt: &|_, _| None }
    }

    fn marked() -> When {
        When::Marked { from: SECOND, mark: "vote granted".into(), delay_ns: 5 }
    }

    #[test]
    fn a_fault_at_a_time_strikes_the_leader_of_that_time_and_ends() {
        let schedule = Schedule { faults: vec![kill(7, When::At(SECOND), Target::Leader)] };
        let mut storm = Storm::new(&schedule, TOPOLOGY, 10 * SECOND);
        assert_eq!(storm.next_ns(0), Some(SECOND));
        let (actions, _) = storm.advance(SECOND, &[], &senses(Some(2), &|host| host == Host::Member(2)));
        assert_eq!(actions, [Action::Kill(Host::Member(2))]);
        assert!(storm.is().keeps_down(Host::Member(2)));
        assert_eq!(storm.next_ns(SECOND), Some(2 * SECOND));
        let (actions, turns) = storm.advance(2 * SECOND, &[], &senses(Some(0), &|_| false));
        assert_eq!((actions, turns), (vec![Action::Start(Host::Member(2))], vec![Turn::Healed(7)]));
        let strikes = storm.into_strikes(10 * SECOND);
        assert_eq!((strikes[0].from_ns, strikes[0].until_ns, strikes[0].busy), (SECOND, 2 * SECOND, true));
        assert_eq!((&strikes[0].members[..], &strikes[0].disabled[..]), (&[2][..], &[2][..]));
    }

    #[test]
    fn a_fault_that_waits_for_a_mark_strikes_who_said_it_once() {
        let schedule = Schedule { faults: vec![kill(7, marked(), Target::Marked)] };
        let mut storm = Storm::new(&schedule, TOPOLOGY, 10 * SECOND);
        let sign = Sign::Mark { text: "vote granted".into(), delay_ns: 5 };
        let awaited = Awaited { fault: 7, from_ns: SECOND, sign };
        assert_eq!((storm.awaited(), storm.next_ns(0)), (vec![awaited], None));
        let due = Due { fault: 7, at_ns: 3 * SECOND, member: 1 };
        let (actions, _) = storm.advance(3 * SECOND, &[due, due], &senses(None, &|_| true));
        assert_eq!(actions, [Action::Kill(Host::Member(1))]);
        assert_eq!(storm.into_strikes(10 * SECOND).len(), 1);
    }

    #[test]
    fn a_mark_that_comes_too_late_does_nothing() {
        let schedule = Schedule { faults: vec![kill(7, marked(), Target::Marked)] };
        let mut storm = Storm::new(&schedule, TOPOLOGY, 10 * SECOND);
        let due = Due { fault: 7, at_ns: 9 * SECOND + 1, member: 1 };
        let (actions, turns) = storm.advance(9 * SECOND + 1, &[due], &senses(None, &|_| true));
        assert_eq!((actions, turns), (vec![], vec![]));
    }

    #[test]
    fn an_effect_strikes_at_once_what_waits_for_it_and_nothing_else() {
        let when = When::Effect { from: SECOND, nth: 3, index: 1, before: true };
        let lag = Fault {
            kind: Kind::ApiLag,
            what: What::Lag { target: Target::Marked },
            ..kill(8, when.clone(), Target::Marked)
        };
        let faults = vec![kill(6, When::At(SECOND), Target::Member(2)), kill(7, when, Target::Marked), lag];
        let mut storm = Storm::new(&Schedule { faults }, TOPOLOGY, 10 * SECOND);
        let sign = Sign::Effects { left: 3, index: 1, before: true };
        let awaited = [7, 8].map(|fault| Awaited { fault, from_ns: SECOND, sign: sign.clone() });
        assert_eq!(storm.awaited(), awaited);
        let due = [7, 8].map(|fault| Due { fault, at_ns: SECOND, member: 1 });
        let (actions, turns) = storm.strike_now(SECOND, &due, &senses(None, &|_| true));
        let m = Host::Member;
        assert_eq!(actions, [Action::Hold(m(0), m(1)), Action::Hold(m(2), m(1)), Action::Kill(m(1))]);
        assert_eq!(turns.len(), 2);
        let (actions, _) = storm.advance(SECOND, &[], &senses(None, &|_| true));
        assert_eq!(actions, [Action::Kill(m(2))], "at its own time");
    }

    #[test]
    fn a_fuse_was_busy_if_it_blew() {
        let fuse = |id, at_ns, member| {
            let what = What::Fuse { target: Target::Member(member), bytes: 0 };
            Fault { kind: Kind::ResponseDrop, what, ..kill(id, When::At(at_ns), Target::Leader) }
        };
        let faults = vec![fuse(1, SECOND, 0), fuse(2, SECOND, 1)];
        let mut storm = Storm::new(&Schedule { faults }, TOPOLOGY, 10 * SECOND);
        let blown = |since: u64| move |_: &What, host| Some(if host == Host::Member(0) { since } else { 4 });
        storm.advance(SECOND, &[], &Senses { felt: &blown(2), ..senses(None, &|_| true) });
        storm.advance(2 * SECOND, &[], &Senses { felt: &blown(3), ..senses(None, &|_| true) });
        let busy: Vec<bool> = storm.into_strikes(10 * SECOND).iter().map(|strike| strike.busy).collect();
        assert_eq!(busy, [true, false]);
    }

    #[test]
    fn what_outlasts_the_time_of_faults_is_there_until_the_end() {
        let frozen = Fault { kind: Kind::Frozen, for_ns: 60 * SECOND, ..kill(1, When::At(9 * SECOND), Target::Leader) };
        let too_long = Fault { for_ns: 60 * SECOND, ..kill(2, When::At(9 * SECOND), Target::Leader) };
        let mut storm = Storm::new(&Schedule { faults: vec![frozen, too_long] }, TOPOLOGY, 10 * SECOND);
        storm.advance(9 * SECOND, &[], &senses(Some(1), &|_| true));
        storm.advance(68 * SECOND, &[], &senses(Some(1), &|_| true));
        assert!(storm.is().keeps_down(Host::Member(1)));
        let strikes = storm.into_strikes(40 * SECOND);
        assert_eq!(
            strikes.iter().map(|strike| (strike.fault, strike.until_ns)).collect::<Vec<_>>(),
            [(1, 40 * SECOND)]
        );
    }

    #[test]
    fn everything_is_over_when_the_time_of_faults_is() {
        for seed in 0..100 {
            let faults_ns = 60 * SECOND;
            let swarm = Swarm { kinds: Kind::all().collect(), ..Swarm::default() };
            let hosts = faults::Hosts { nodes: 4, zones: 2, ..HOSTS };
            let schedule = faults::draw(&swarm, seed, hosts, faults_ns);
            let mut storm = Storm::new(&schedule, Topology { nodes: 4, ..TOPOLOGY }, faults_ns);
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
                storm.advance(now_ns, due, &senses(Some(0), &|_| true));
                rounds += 1;
            }
            assert!(now_ns <= faults_ns && *storm.is() == Wanted::default(), "seed {seed}");
        }
    }
}
