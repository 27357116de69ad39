//! What strikes an operator, as values.

use crate::gate::Moment;
use record::StrikeKind;
use rt::random::Random;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// For how long an operator is told nothing, in seconds: from hardly at all to several of its own rounds.
const WITHHELD_S: RangeInclusive<u64> = 1..=20;

/// How many strikes a trial has.
const STRIKES: RangeInclusive<u64> = 1..=4;

/// One strike. It is aimed by counting from the trial's start, over crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Strike {
    /// The process is killed at a write.
    Crash {
        /// The how manieth, from 1.
        write: u64,
        /// Before it is sent, or when it is done and before the operator hears of it.
        moment: Moment,
    },
    /// What a watch tells is withheld for a while, from one change on, and then told: what the operator knows is old.
    Stale {
        /// The how manieth change that any watch tells, from 1.
        change: u64,
        /// For so many seconds.
        seconds: u64,
    },
    /// The same, and then the watch ends with 410, so that the operator lists anew: what was changed and changed back in
    /// between, or made and deleted, it never sees.
    Missed {
        /// The how manieth change that any watch tells, from 1.
        change: u64,
        /// For so many seconds.
        seconds: u64,
    },
}

impl Strike {
    /// Its kind.
    pub fn kind(self) -> StrikeKind {
        match self {
            Self::Crash { .. } => StrikeKind::Crash,
            Self::Stale { .. } => StrikeKind::Stale,
            Self::Missed { .. } => StrikeKind::Missed,
        }
    }

    /// The same, aimed further on or back.
    fn moved(self, (writes, changes): (i64, i64)) -> Self {
        let moved = |aim: u64, by: i64| aim.saturating_add_signed(by).max(1);
        match self {
            Self::Crash { write, moment } => Self::Crash { write: moved(write, writes), moment },
            Self::Stale { change, seconds } => Self::Stale { change: moved(change, changes), seconds },
            Self::Missed { change, seconds } => Self::Missed { change: moved(change, changes), seconds },
        }
    }

    /// The same for half as long; `None` if that is nothing less.
    fn shorter(self) -> Option<Self> {
        let half = |seconds: u64| (seconds > 1).then_some(seconds / 2);
        Some(match self {
            Self::Crash { .. } => return None,
            Self::Stale { change, seconds } => Self::Stale { change, seconds: half(seconds)? },
            Self::Missed { change, seconds } => Self::Missed { change, seconds: half(seconds)? },
        })
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { write, moment: Moment::Before } => write!(f, "crash before write {write}"),
            Self::Crash { write, moment: Moment::After } => write!(f, "crash after write {write}"),
            Self::Stale { change, seconds } => write!(f, "stale for {seconds} s from change {change} on"),
            Self::Missed { change, seconds } => write!(f, "change {change} and those of {seconds} s after it missed"),
        }
    }
}

/// How much there is to aim at: what undisturbed runs have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aims {
    /// Writes of the operator.
    pub writes: u64,
    /// Changes that its watches told of.
    pub changes: u64,
}

/// The strikes of a trial, of these kinds. None if there is nothing to aim at.
pub fn draw(seed: u64, kinds: &[StrikeKind], aims: Aims) -> Vec<Strike> {
    let mut random = Random::from_seed(seed);
    let count = within(&mut random, &STRIKES);
    let one = |_| {
        // Drawn for each kind alike, so that what is drawn next depends on none.
        let kind = *kinds.get(usize::try_from(random.below(kinds.len().max(1) as u64)).ok()?)?;
        let seconds = within(&mut random, &WITHHELD_S);
        let moment = if random.chance(500) { Moment::Before } else { Moment::After };
        let aims = if kind == StrikeKind::Crash { aims.writes } else { aims.changes };
        let aim = random.below(aims.max(1)) + 1;
        let strike = match kind {
            StrikeKind::Crash => Strike::Crash { write: aim, moment },
            StrikeKind::Stale => Strike::Stale { change: aim, seconds },
            StrikeKind::Missed => Strike::Missed { change: aim, seconds },
        };
        (aims > 0).then_some(strike)
    };
    (0..count).filter_map(one).collect()
}

fn within(random: &mut Random, range: &RangeInclusive<u64>) -> u64 {
    range.start() + random.below(range.end() - range.start() + 1)
}

/// By how much what is aimed at writes and at changes is moved when a strike before it is left out, which had some of them
/// repeated, or not told: what was the eighth write is now the seventh.
const MOVES: [(i64, i64); 9] = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-2, 0), (2, 0), (0, -2), (0, 2)];

/// Leaves out and shortens what it can of strikes that fail, as long as what is left `fails`. What is returned fails, if
/// what was given did.
pub fn shrink(strikes: Vec<Strike>, mut fails: impl FnMut(&[Strike]) -> bool) -> Vec<Strike> {
    let mut small = strikes;
    // Strikes are few: one by one is as quick as halves.
    let mut at = 0;
    while at < small.len() {
        let mut without = small.clone();
        without.remove(at);
        let aimed = if without.is_empty() { &MOVES[..1] } else { &MOVES };
        let moved = |by: &(i64, i64)| without.iter().map(|strike| strike.moved(*by)).collect::<Vec<_>>();
        match aimed.iter().map(moved).find(|candidate| fails(candidate)) {
            Some(candidate) => small = candidate,
            None => at += 1,
        }
    }
    for at in 0..small.len() {
        while let Some(shorter) = small[at].shorter() {
            let mut candidate = small.clone();
            candidate[at] = shorter;
            if !fails(&candidate) {
                break;
            }
            small = candidate;
        }
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    const AIMS: Aims = Aims { writes: 5, changes: 9 };

    #[test]
    fn strikes_follow_from_the_seed_and_hit_what_there_is() {
        let drawn: Vec<Strike> = (0..200).flat_map(|seed| draw(seed, &StrikeKind::ALL, AIMS)).collect();
        assert_eq!(draw(7, &StrikeKind::ALL, AIMS), draw(7, &StrikeKind::ALL, AIMS));
        for kind in StrikeKind::ALL {
            assert!(drawn.iter().filter(|strike| strike.kind() == kind).count() > 50, "{kind}");
        }
        let hits = |strike: &Strike| match *strike {
            Strike::Crash { write, .. } => (1..=5).contains(&write),
            Strike::Stale { change, seconds } | Strike::Missed { change, seconds } => {
                (1..=9).contains(&change) && WITHHELD_S.contains(&seconds)
            }
        };
        assert!(drawn.iter().all(hits));
        assert!(draw(1, &[StrikeKind::Stale], AIMS).iter().all(|strike| strike.kind() == StrikeKind::Stale));
        assert_eq!(draw(1, &[StrikeKind::Crash], Aims::default()), []);
    }

    #[test]
    fn what_matters_is_left() {
        let crash = |write| Strike::Crash { write, moment: Moment::After };
        let stale = |seconds| Strike::Stale { change: 1, seconds };
        let given = vec![crash(1), stale(20), crash(3), crash(4)];
        let needs = |strikes: &[Strike]| {
            strikes.contains(&crash(3))
                && strikes.iter().any(|strike| matches!(strike, Strike::Stale { seconds, .. } if *seconds >= 4))
        };
        assert_eq!(shrink(given.clone(), needs), [stale(5), crash(3)]);
        assert_eq!(shrink(given, |_| true), []);
    }

    #[test]
    fn what_was_the_third_write_after_a_crash_is_the_second_without() {
        let crash = |write| Strike::Crash { write, moment: Moment::Before };
        // A crash has a write repeated, so that each before it moves what must be struck by one.
        let fails = |strikes: &[Strike]| {
            let struck = |aim: u64| strikes.contains(&crash(aim));
            (struck(3) && struck(2)) || (struck(2) && strikes.len() == 1)
        };
        assert_eq!(shrink(vec![crash(2), crash(3)], fails), [crash(2)]);
    }
}
