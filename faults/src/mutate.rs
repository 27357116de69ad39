//! Schedules made from others: a search that keeps what led somewhere changes a little of it instead of drawing anew.
//!
//! ```text
//! a schedule, another one, a seed --> mutate: splice, add, remove, shift, stretch, aim --> a schedule
//! ```
//!
//! How bad a fault is (probabilities, offsets, rates, bytes) is never changed, and neither is whether it strikes one host
//! or several: only [`draw`] knows what is fair to ask of the product, and reports count by what it drew.
//!
//! **Invariant:** what is made is what could have been drawn: sorted, with unique ids, healed in time, aimed at hosts that
//! there are, and never more than [`MAX_FAULTS`]
//! (`whatever_is_made_of_schedules_stays_within_bounds_through_generations`).
//! **Invariant:** equal arguments give equal schedules (`the_same_seed_makes_the_same_of_it`).
//! **Invariant:** what a scenario gives in every trial, and what is never healed, stays as it is (`what_a_scenario_gives_is_never_touched`).

use crate::draw::{FIRST_STRIKE_NS, MS, SECOND};
use crate::{Fault, Hosts, Kind, Ns, Schedule, Swarm, Target, When, draw};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

/// What the schedules of a trial stay within.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// From which attacks are drawn that are added.
    pub swarm: Swarm,
    /// Which hosts there are to be struck.
    pub hosts: Hosts,
    /// All is healed by then.
    pub faults_ns: Ns,
    /// Ids of faults that stay as they are: those that strike in every trial of a scenario.
    pub given: BTreeSet<u32>,
}

/// Makes another schedule of `parent`: one to [`MAX_EDITS`] things are changed, and one of them may be that it goes on like
/// `other` from some instant on. Both must be of trials of these bounds; what of `other` is not within them is left out.
/// The result may equal `parent`, where there is nothing to change. Pure.
pub fn mutate(parent: &Schedule, other: &Schedule, bounds: &Bounds, seed: u64) -> Schedule {
    let random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut edit = Edit { random, bounds, faults: parent.faults.clone() };
    let mut edits = 1;
    while edits < MAX_EDITS && edit.chance(500) {
        edits += 1;
    }
    (0..edits).for_each(|_| edit.anything(other));
    edit.into_schedule()
}

/// Things changed at once at most: half of the time it is one, so that what comes of it can be told from what was.
const MAX_EDITS: u32 = 5;

/// Faults in a schedule at most. The fullest that a swarm draws have about as many; beyond, nothing succeeds any more.
const MAX_FAULTS: usize = 120;

/// Ids of faults that are added, above those that are drawn, below those that scenarios give.
const ADDED_IDS: u32 = 100_000;

/// A shorter fault is none, and a fault that is stretched never lasts longer than this part of the time of faults, as
/// with [`draw`], unless it did so before.
const SHORTEST_NS: Ns = MS;
const LONGEST_PART: Ns = 2;

/// Left between what waits for a mark and the end, for the delay after the mark.
const LONGEST_DELAY_NS: Ns = 50 * MS;

/// A schedule while it is changed.
struct Edit<'a> {
    random: Xoshiro256PlusPlus,
    bounds: &'a Bounds,
    faults: Vec<Fault>,
}

impl Edit<'_> {
    fn anything(&mut self, other: &Schedule) {
        match self.below(100) {
            0..=24 => self.add(),
            25..=39 => self.remove(),
            40..=59 => self.shift(),
            60..=74 => self.stretch(),
            75..=89 => self.aim(),
            _ => self.splice(other),
        }
    }

    /// One attack more, as a swarm would draw it that knows no other kind.
    fn add(&mut self) {
        let Some(kind) = self.pick(&self.bounds.swarm.kinds) else { return };
        let Bounds { swarm, hosts, faults_ns, .. } = self.bounds;
        let own_permille = BTreeMap::from([(kind, 1000)]);
        let alone = Swarm { kinds: vec![kind], most: 1, own_permille, ..swarm.clone() };
        let attack = draw(&alone, self.random.next_u64(), *hosts, *faults_ns);
        attack.faults.into_iter().for_each(|fault| self.put(fault));
    }

    /// One fault less, or all of its kind.
    fn remove(&mut self) {
        let Some(at) = self.any() else { return };
        let (id, kind) = (self.faults[at].id, self.faults[at].kind);
        let whole_kind = self.chance(300);
        self.faults.retain(|it| self.bounds.fix(it) || !(it.id == id || whole_kind && it.kind == kind));
    }

    /// Sooner or later, mostly by little. What waits for something may wait for another time that it is said, or strike
    /// sooner or later after it.
    fn shift(&mut self) {
        let Some(at) = self.any() else { return };
        let (far, finely) = (self.chance(400), self.chance(500));
        let latest = self.bounds.faults_ns.saturating_sub(self.faults[at].for_ns + LONGEST_DELAY_NS);
        let earliest = FIRST_STRIKE_NS.min(latest);
        let anywhere = self.between(earliest, latest);
        let step = self.between(0, 4 * SECOND);
        let permille = self.permille();
        let nth = self.between(1, 40);
        let moved = |is: Ns| {
            let to = if far { anywhere } else { (is + step).saturating_sub(2 * SECOND) };
            to.clamp(earliest, latest)
        };
        match &mut self.faults[at].when {
            When::At(at) => *at = moved(*at),
            When::Marked { delay_ns, .. } if finely => *delay_ns = scaled(*delay_ns, permille).min(LONGEST_DELAY_NS),
            When::Effect { nth: is, .. } if finely => *is = u32::try_from(nth).unwrap_or(*is),
            When::Marked { from, .. } | When::Effect { from, .. } => *from = moved(*from),
        }
    }

    /// A quarter as long up to four times as long.
    fn stretch(&mut self) {
        let Some(at) = self.any() else { return };
        let permille = self.permille();
        let faults_ns = self.bounds.faults_ns;
        let fault = &mut self.faults[at];
        let room = faults_ns.saturating_sub(fault.when.earliest());
        let longest = (faults_ns / LONGEST_PART).max(fault.for_ns).min(room);
        fault.for_ns = scaled(fault.for_ns, permille).clamp(SHORTEST_NS.min(longest), longest);
    }

    /// At somebody else of the same sort, and as many of them.
    fn aim(&mut self) {
        let Some(at) = self.any() else { return };
        let (kind, target) = (self.faults[at].kind, self.faults[at].what.target().clone());
        // A link has two ends, which differ.
        if kind == Kind::LinkUnclog {
            return;
        }
        let Hosts { members, client_hosts, nodes, zones } = self.bounds.hosts;
        let other = match target {
            Target::Leader | Target::Follower | Target::Member(_) => match self.below(10) {
                0..=2 => Target::Leader,
                3..=4 => Target::Follower,
                _ => Target::Member(self.number(members)),
            },
            Target::Members(these) => Target::Members(self.some(members, these.len())),
            Target::Client(_) => Target::Client(self.number(client_hosts)),
            Target::Node(_) => Target::Node(self.number(nodes)),
            Target::Nodes(_) if kind == Kind::ZoneLost => {
                let zone = self.number(zones);
                Target::Nodes((0..nodes).filter(|node| node % zones.max(1) == zone).collect())
            }
            Target::Nodes(these) => Target::Nodes(self.some(nodes, these.len())),
            // Who says what is waited for is not for the schedule to choose, nor who leads.
            other @ (Target::Marked | Target::Leaders) => other,
        };
        *self.faults[at].what.target_mut() = other;
    }

    /// As it was until some instant, and from there on like another one.
    fn splice(&mut self, other: &Schedule) {
        let at = self.between(0, self.bounds.faults_ns);
        self.faults.retain(|it| self.bounds.fix(it) || it.when.earliest() < at);
        let rest = other.faults.iter().filter(|it| it.when.earliest() >= at && !self.bounds.fix(it));
        rest.cloned().for_each(|fault| self.put(fault));
    }

    /// Takes a fault in, under another id if its own is taken.
    fn put(&mut self, fault: Fault) {
        let taken: BTreeSet<u32> =
            self.faults.iter().map(|it| it.id).chain(self.bounds.given.iter().copied()).collect();
        let mut ids = std::iter::once(fault.id).chain(ADDED_IDS..);
        // There are far more numbers than faults.
        self.faults.extend(ids.find(|id| !taken.contains(id)).map(|id| Fault { id, ..fault }));
    }

    fn into_schedule(mut self) -> Schedule {
        let within = |fault: &Fault| self.bounds.fix(fault) || self.bounds.contain(fault);
        self.faults = std::mem::take(&mut self.faults).into_iter().filter(within).collect();
        while self.faults.len() > MAX_FAULTS
            && let Some(at) = self.any()
        {
            self.faults.remove(at);
        }
        self.faults.sort_by_key(|fault| (fault.when.earliest(), fault.id));
        Schedule { faults: self.faults }
    }

    /// Where one is that may be changed.
    fn any(&mut self) -> Option<usize> {
        let free: Vec<usize> = (0..self.faults.len()).filter(|at| !self.bounds.fix(&self.faults[*at])).collect();
        self.pick(&free)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len() as u64);
        from.get(usize::try_from(at).unwrap_or(0)).copied()
    }

    /// So many different numbers below `all`, or all of them, in order.
    fn some(&mut self, all: u32, count: usize) -> Vec<u32> {
        let mut left: Vec<u32> = (0..all).collect();
        while left.len() > count {
            let at = self.below(left.len() as u64);
            left.remove(usize::try_from(at).unwrap_or(0));
        }
        left
    }

    /// From a quarter to four times, as often less as more.
    fn permille(&mut self) -> u64 {
        if self.chance(500) { self.between(250, 1000) } else { self.between(1000, 4000) }
    }

    fn number(&mut self, below: u32) -> u32 {
        u32::try_from(self.below(below.into())).unwrap_or(0)
    }

    fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    fn between(&mut self, low: Ns, high: Ns) -> Ns {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// 0 if there is nothing below. Uniform but for one part in 2^64 / `end`.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.random.next_u64()) * u128::from(end)) >> 64) as u64
    }
}

impl Bounds {
    /// Whether it stays as it is: a scenario gives it, or it is the frozen minority of its trial.
    fn fix(&self, fault: &Fault) -> bool {
        self.given.contains(&fault.id) || fault.kind.outlasts()
    }

    /// Whether it strikes somebody whom there is, and is healed in time.
    fn contain(&self, fault: &Fault) -> bool {
        let Hosts { members, client_hosts, nodes, .. } = self.hosts;
        let somebody = match fault.what.target() {
            Target::Leader | Target::Leaders | Target::Follower | Target::Marked => true,
            Target::Member(member) => *member < members,
            Target::Members(these) => !these.is_empty() && these.iter().all(|it| *it < members),
            Target::Client(client) => *client < client_hosts,
            Target::Node(node) => *node < nodes,
            Target::Nodes(these) => !these.is_empty() && these.iter().all(|it| *it < nodes),
        };
        let ends_ns = fault.when.earliest().saturating_add(fault.for_ns);
        somebody && fault.for_ns > 0 && ends_ns <= self.faults_ns
    }
}

fn scaled(ns: Ns, permille: u64) -> Ns {
    u64::try_from(u128::from(ns) * u128::from(permille) / 1000).unwrap_or(ns)
}

#[cfg(test)]
mod tests;
