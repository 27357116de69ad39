//! Of which trials a run consists, round by round; and what a guided one learns from those that are over.
//!
//! ```text
//! seeds -> round: some are trials of their seeds, others are made of kept ones -> pool -> told(place, situations)
//!            ^----- kept: those that reached what no trial before them had reached ----------------v
//! ```
//!
//! A trial is named by its place, which is a seed among those asked for. Rounds have a fixed size, and nobody is learned
//! from before a round is over, so that more workers make the same trials.
//!
//! Who is chosen to make another trial of is who reached what few others did, and was seldom chosen yet: Böhme, Pham and
//! Roychoudhury, "Coverage-based Greybox Fuzzing as Markov Chain" (2016).
//!
//! **Invariant:** what is tried follows from the seeds and from what was reached, not from who was faster
//! (`the_order_of_answers_changes_nothing`).
//! **Invariant:** what is kept is bounded, and what alone reached something goes last (`a_full_corpus_lets_the_common_go`).

use crate::cli::Policy;
use crate::trial;
use faults::{Bounds, Fault};
use record::{Case, Config, FaultRules};
use reports::{Guided, Seeds};
use rt::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Trials of a round: few, so that what they reached is soon made use of, and so many that workers who wait for the last
/// of them wait for a small part of the time.
const ROUND: u64 = 20;

/// Of a later round, every so many trials are those of their seeds: what nothing that is kept leads to is found by these.
const FRESH_EVERY: u64 = 3;

/// Trials kept at most. A thousand seeds of a store keep about half as many.
const MAX_CORPUS: usize = 256;

/// Keeps the choices of a search apart from what else comes from a seed.
const STREAM: u64 = 0x6775_6964_6564;

/// Trials that can be run in any order.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// Their places.
    pub places: Range<u64>,
    /// Of those that are not the trials of their seeds: what is tried instead.
    pub given: BTreeMap<u64, Case>,
}

/// A run while it goes on.
#[derive(Debug)]
pub struct Search {
    guided: bool,
    config: Config,
    rules: FaultRules,
    first: u64,
    left: Range<u64>,
    rounds: u64,
    /// Of the round that was handed out last.
    given: BTreeMap<u64, Case>,
    answers: BTreeMap<u64, Answer>,
    reached: BTreeMap<String, Reached>,
    corpus: Vec<Kept>,
    /// Places of trials that were made of others and are over.
    mutated: BTreeSet<u64>,
}

/// What came of a trial.
#[derive(Debug)]
struct Answer {
    situations: BTreeSet<String>,
    failed: bool,
}

/// A situation.
#[derive(Debug)]
struct Reached {
    /// The first place whose trial reached it.
    first: u64,
    /// Trials that did.
    times: u64,
}

/// A trial to make others of.
#[derive(Debug)]
struct Kept {
    case: Case,
    situations: BTreeSet<String>,
    chosen: u64,
}

impl Search {
    /// A run of `seeds`.
    pub fn new(policy: Policy, config: &Config, seeds: Range<u64>) -> Self {
        let mut rules = trial::rules(config);
        rules.swarm.kinds.retain(|kind| !config.backend.lacks().contains(kind));
        Self {
            guided: policy == Policy::Guided,
            config: config.clone(),
            rules,
            first: seeds.start,
            left: seeds,
            rounds: 0,
            given: BTreeMap::new(),
            answers: BTreeMap::new(),
            reached: BTreeMap::new(),
            corpus: Vec::new(),
            mutated: BTreeSet::new(),
        }
    }

    /// What is to be tried next, given what has been told; `None` if that was all. Who does not search has one round.
    pub fn round(&mut self) -> Option<Round> {
        self.learn();
        if self.left.is_empty() {
            return None;
        }
        let size = if self.guided { ROUND } else { u64::MAX };
        let places = self.left.start..self.left.start.saturating_add(size).min(self.left.end);
        self.left.start = places.end;
        self.rounds += 1;
        if self.guided && !self.corpus.is_empty() {
            let weights: Vec<u64> = self.corpus.iter().map(|kept| self.rarity(kept)).collect();
            let first = self.first;
            let made = places.clone().filter(|place| !(place - first).is_multiple_of(FRESH_EVERY));
            self.given = made.map(|place| (place, self.made(place, &weights))).collect();
        }
        Some(Round { places, given: self.given.clone() })
    }

    /// The trial at this place of the last round is over, reached this and perhaps failed.
    pub fn told(&mut self, place: u64, situations: BTreeSet<String>, failed: bool) {
        for situation in &situations {
            let reached = self.reached.entry(situation.clone()).or_insert(Reached { first: place, times: 0 });
            reached.first = reached.first.min(place);
            reached.times += 1;
        }
        if self.guided {
            self.mutated.extend(self.given.contains_key(&place).then_some(place));
            self.answers.insert(place, Answer { situations, failed });
        }
    }

    /// Situations reached so far.
    pub fn situations(&self) -> u64 {
        self.reached.len() as u64
    }

    /// What it came to so far, if it is a guided one.
    pub fn guided(&mut self) -> Option<Guided> {
        self.learn();
        let by_mutated = self.reached.values().filter(|reached| self.mutated.contains(&reached.first)).count() as u64;
        self.guided.then(|| Guided {
            rounds: self.rounds,
            corpus: self.corpus.len() as u64,
            mutated: self.mutated.len() as u64,
            situations: self.situations(),
            by_mutated,
        })
    }

    /// Of a guided one, the places of trials that were made of others and are over.
    pub fn mutated(&self) -> Option<Seeds> {
        self.guided.then(|| Seeds::of(self.mutated.iter().copied()))
    }

    /// Keeps what went where none before it went. What failed is found: whatever is made of it would fail the same way.
    fn learn(&mut self) {
        let mut given = std::mem::take(&mut self.given);
        for (place, Answer { situations, failed }) in std::mem::take(&mut self.answers) {
            let is_new = |it: &String| self.reached.get(it).is_some_and(|reached| reached.first == place);
            if failed || !situations.iter().any(is_new) {
                continue;
            }
            let case = given.remove(&place).unwrap_or_else(|| self.own(place));
            self.corpus.push(Kept { case, situations, chosen: 0 });
        }
        self.let_go();
    }

    /// The trial of the seed that this place is.
    fn own(&self, place: u64) -> Case {
        trial::case_of(sim::trial(self.config.clone(), place))
    }

    /// Makes room by letting go what reached only what many others do; of equals, the older.
    fn let_go(&mut self) {
        let Some(over @ 1..) = self.corpus.len().checked_sub(MAX_CORPUS) else { return };
        let mut order: Vec<(u64, usize)> =
            self.corpus.iter().enumerate().map(|(at, kept)| (self.rarity(kept), at)).collect();
        order.sort_unstable();
        let gone: BTreeSet<usize> = order.into_iter().take(over).map(|(_, at)| at).collect();
        let mut at = 0..;
        self.corpus.retain(|_| at.next().is_none_or(|at| !gone.contains(&at)));
    }

    /// A situation counts for as much less as more trials reached it.
    fn rarity(&self, kept: &Kept) -> u64 {
        let times = |it: &String| self.reached.get(it).map_or(1, |reached| reached.times.max(1));
        kept.situations.iter().map(|it| RAREST / times(it)).sum()
    }

    /// A trial for this place, made of kept ones, of which each has its weight.
    fn made(&mut self, place: u64, weights: &[u64]) -> Case {
        let mut random = Random::from_seed(place ^ STREAM);
        let at = chosen(&self.corpus, weights, &mut random);
        self.corpus[at].chosen += 1;
        let parent = &self.corpus[at].case;
        let hosts = sim::hosts(&parent.config);
        let alike: Vec<&Case> =
            self.corpus.iter().map(|kept| &kept.case).filter(|case| sim::hosts(&case.config) == hosts).collect();
        let other = alike[random.below(alike.len() as u64) as usize];
        let bounds = Bounds {
            swarm: self.rules.swarm.clone(),
            hosts,
            faults_ns: parent.config.faults_ns,
            given: self.rules.strikes.iter().map(|fault| fault.id).collect(),
        };
        let faults = faults::mutate(&parent.schedule(), &other.schedule(), &bounds, random.next_u64()).faults;
        // What a schedule leads to must not hang on one seed: half of the time it strikes the world of another.
        let own = random.chance(500).then(|| self.own(place)).filter(|own| sim::hosts(&own.config) == hosts);
        if let Some(own) = own {
            return Case { faults: in_the_world_of(&own, faults), ..own };
        }
        // Another order of ready tasks is another trial too, and the only other one where nothing may strike.
        let another_order = random.chance(500) || faults == parent.faults;
        let executor_seed = if another_order { place } else { parent.executor_seed };
        Case { executor_seed, faults, ..parent.clone() }
    }
}

/// These faults in a trial whose own are others, those apart that nobody heals: these belong to its seed, as its hosts do.
fn in_the_world_of(own: &Case, faults: Vec<Fault>) -> Vec<Fault> {
    let outlasting = own.faults.iter().filter(|fault| fault.kind.outlasts()).cloned();
    let mut faults: Vec<Fault> = faults.into_iter().filter(|fault| !fault.kind.outlasts()).chain(outlasting).collect();
    faults.sort_by_key(|fault| (fault.when.earliest(), fault.id));
    faults
}

/// What a situation counts that one trial alone reached.
const RAREST: u64 = 1 << 20;

/// Where somebody is, the more likely the heavier and the less often chosen.
fn chosen(corpus: &[Kept], weights: &[u64], random: &mut Random) -> usize {
    let weight = |at: usize| (weights[at] / (1 + corpus[at].chosen)).max(1);
    let mut left = random.below((0..corpus.len()).map(weight).sum());
    let mut at = 0;
    while left >= weight(at) {
        left -= weight(at);
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(policy: Policy, seeds: Range<u64>) -> Search {
        Search::new(policy, &sim::scenario(trial::STORE).expect("there is one"), seeds)
    }

    fn trial_of(round: &Round, place: u64) -> Case {
        let own = || trial::case_of(sim::trial(sim::scenario(trial::STORE).expect("there is one"), place));
        round.given.get(&place).cloned().unwrap_or_else(own)
    }

    /// A product that is in a situation for each kind of fault, for pairs of kinds in a row, and for how many faults there are.
    fn situations(case: &Case) -> BTreeSet<String> {
        let kinds: Vec<&str> = case.faults.iter().map(|fault| fault.kind.name()).collect();
        let pairs = kinds.windows(2).map(|pair| pair.join(" then "));
        let own = kinds.iter().map(|kind| String::from(*kind)).chain([format!("{} faults", kinds.len())]);
        own.chain(pairs).collect()
    }

    /// Runs to the end; answers come in an order that `shuffle` makes.
    fn whole(search: &mut Search, mut shuffle: impl FnMut(&mut Vec<u64>)) -> Vec<Round> {
        let mut rounds = Vec::new();
        while let Some(round) = search.round() {
            let mut places: Vec<u64> = round.places.clone().collect();
            shuffle(&mut places);
            for place in places {
                search.told(place, situations(&trial_of(&round, place)), place % 50 == 7);
            }
            rounds.push(round);
        }
        rounds
    }

    #[test]
    fn who_does_not_search_tries_every_seed_in_one_round() {
        for policy in [Policy::Swarm, Policy::Uniform] {
            let mut search = search(policy, 5..1_000_005);
            assert_eq!(search.round(), Some(Round { places: 5..1_000_005, given: BTreeMap::new() }));
            search.told(7, BTreeSet::from(["a mark".into()]), false);
            assert_eq!((search.round(), search.situations()), (None, 1));
            assert_eq!((search.guided(), search.mutated()), (None, None));
        }
    }

    #[test]
    fn the_order_of_answers_changes_nothing() {
        let (mut one, mut other) = (search(Policy::Guided, 1..141), search(Policy::Guided, 1..141));
        let rounds = whole(&mut one, |_| ());
        let mut random = Random::from_seed(5);
        let same = whole(&mut other, |places| {
            for at in (1..places.len()).rev() {
                places.swap(at, random.below(at as u64 + 1) as usize);
            }
        });
        assert_eq!(rounds, same);
        assert_eq!(one.guided(), other.guided());
        assert_eq!(rounds.len(), 7);
    }

    #[test]
    fn more_seeds_begin_with_the_same_rounds() {
        let rounds = whole(&mut search(Policy::Guided, 1..61), |_| ());
        let more = whole(&mut search(Policy::Guided, 1..141), |_| ());
        assert_eq!(rounds[..], more[..3]);
    }

    #[test]
    fn the_first_round_is_a_swarms_and_later_ones_are_so_in_part() {
        let mut search = search(Policy::Guided, 1..101);
        let rounds = whole(&mut search, |_| ());
        assert_eq!(rounds[0].given, BTreeMap::new());
        for round in &rounds[1..] {
            let fresh = round.places.clone().filter(|place| !round.given.contains_key(place)).count();
            assert!((6..=7).contains(&fresh), "{fresh}");
        }
        let guided = search.guided().expect("it is one");
        assert_eq!((guided.rounds, guided.mutated), (5, 53));
        assert!(guided.corpus > 20 && guided.by_mutated > 10, "{guided:?}");
        let mutated = search.mutated().expect("it is one");
        assert!(rounds[1].given.keys().all(|place| mutated.contains(*place)) && !mutated.contains(1));
    }

    #[test]
    fn trials_are_made_of_those_that_were_new_and_of_none_that_failed() {
        let mut search = search(Policy::Guided, 1..41);
        let round = search.round().expect("the first");
        for place in round.places {
            let of_all = BTreeSet::from(["of all".to_owned()]);
            let own = BTreeSet::from([format!("of {place}")]);
            let situations = if [3, 4].contains(&place) { own } else { of_all };
            search.told(place, situations, place == 4);
        }
        let round = search.round().expect("the second");
        let (of_others, of_parents): (Vec<_>, Vec<_>) =
            round.given.iter().partition(|(place, case)| case.seed == **place);
        let seeds: BTreeSet<u64> = of_parents.iter().map(|(_, case)| case.seed).collect();
        assert_eq!(seeds, BTreeSet::from([1, 3]), "the first was new then, and so was the third");
        let of_third = of_parents.iter().filter(|(_, case)| case.seed == 3).count();
        assert!(of_third * 2 > of_parents.len(), "what one trial alone reached is chosen more often: {of_third}");
        let drawn = |seed| trial::case_of(sim::trial(sim::scenario(trial::STORE).expect("there is one"), seed));
        let world = |case: &Case| Case { faults: vec![], executor_seed: 0, ..case.clone() };
        for (place, case) in of_parents {
            let parent = drawn(case.seed);
            assert_ne!(*case, parent);
            assert_eq!(world(case), world(&parent));
            assert!([case.seed, *place].contains(&case.executor_seed));
        }
        assert!(!of_others.is_empty(), "a schedule is tried in other worlds too");
        for (place, case) in of_others {
            let own = drawn(*place);
            assert_ne!(case.faults, own.faults);
            assert_eq!((world(case), case.executor_seed), (world(&own), *place));
            let outlasting =
                |case: &Case| case.faults.iter().filter(|it| it.kind.outlasts()).cloned().collect::<Vec<_>>();
            assert_eq!(outlasting(case), outlasting(&own));
        }
    }

    #[test]
    fn a_full_corpus_lets_the_common_go() {
        let mut search = search(Policy::Guided, 1..2_001);
        let case = trial::case_of(sim::trial(search.config.clone(), 1));
        for place in 0..=MAX_CORPUS as u64 {
            let own = if place == 5 { "of many".to_owned() } else { format!("of {place}") };
            search.reached.insert(own.clone(), Reached { first: place, times: 1 + u64::from(place == 5) });
            search.corpus.push(Kept { case: case.clone(), situations: BTreeSet::from([own]), chosen: place });
        }
        search.let_go();
        assert_eq!(search.corpus.len(), MAX_CORPUS);
        assert!(search.corpus.iter().all(|kept| kept.chosen != 5));
    }

    #[test]
    fn where_nothing_may_strike_the_order_of_tasks_is_what_changes() {
        let mut search = Search::new(Policy::Guided, &sim::scenario("calm").expect("there is one"), 1..41);
        let round = search.round().expect("the first");
        round.places.for_each(|place| search.told(place, BTreeSet::from([format!("of {place}")]), false));
        let round = search.round().expect("the second");
        assert!(!round.given.is_empty());
        for (place, case) in round.given {
            assert_eq!((case.faults.len(), case.executor_seed), (0, place));
        }
    }
}
