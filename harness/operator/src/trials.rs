//! Trials of an operator over seeds: undisturbed first, then struck, and what differs made small.

use crate::compare::Expected;
use crate::process::{self, Ended};
use crate::run::Ran;
use crate::strikes::{self, Aims, Strike};
use record::StrikeKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Undisturbed runs, from whose differences it is learned what says nothing.
const UNDISTURBED: u64 = 3;

/// What is tried, and how it goes undisturbed.
pub struct Trials {
    expected: Expected,
    /// What there is to aim at.
    pub aims: Aims,
    /// Objects in the end.
    pub objects: usize,
}

/// What a trial with its strikes comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// The trial's.
    pub seed: u64,
    /// Strikes that hit.
    pub hit: Vec<Strike>,
    /// What is wrong in the end; nothing if the trial held.
    pub wrong: Vec<String>,
}

/// A trial that failed, and the fewest strikes that it takes.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// As it was drawn.
    pub judged: Judged,
    /// What is left of its strikes, and what is wrong then. No strike: it goes wrong by itself, now and then.
    pub small: Plan,
    /// What is wrong with these.
    pub wrong: Vec<String>,
    /// Runs that it took to find out.
    pub tries: u32,
}

/// A trial, and what was found if it failed.
type Tried = (Judged, Option<Finding>);

/// A trial as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Of everything but the strikes.
    pub seed: u64,
    /// What strikes.
    #[serde(default)]
    pub strikes: Vec<Strike>,
}

/// What came of all trials.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sum {
    /// Trials made.
    pub trials: u64,
    /// By kind: strikes that hit, and those among them in trials that failed.
    pub hits: BTreeMap<StrikeKind, [u64; 2]>,
    /// Trials that failed, in order of seed.
    pub findings: Vec<Finding>,
}

impl Trials {
    /// Runs it undisturbed.
    ///
    /// # Errors
    /// It does not come to rest, panics or writes nothing, so that there is nothing to try.
    pub fn new() -> Result<Self, String> {
        let mut states = Vec::new();
        let mut aims = Aims { writes: u64::MAX, changes: u64::MAX };
        for seed in 1..=UNDISTURBED {
            let Ran { state, passed, rests, panics, .. } = match process::run(&Plan { seed, strikes: vec![] })? {
                Ended::Ran(ran) => *ran,
                Ended::Broke(how) => return Err(format!("undisturbed: {how}")),
            };
            if let Some(panic) = panics.first() {
                return Err(format!("undisturbed it panics: {panic}"));
            }
            if !rests {
                return Err("undisturbed it goes on writing when users have long done all they do".to_owned());
            }
            aims = Aims { writes: aims.writes.min(passed.writes), changes: aims.changes.min(passed.changes) };
            states.push(state);
        }
        if aims.writes == 0 {
            return Err("undisturbed it writes nothing; users must give it something to do".to_owned());
        }
        let objects = states.first().map_or(0, crate::compare::State::len);
        Ok(Self { expected: Expected::of(&states), aims, objects })
    }

    /// Runs a trial and judges it; without what came of it if its process broke. Whether a strike hit is then not known, and
    /// all count as if they had.
    ///
    /// # Errors
    /// The simulation itself panicked, or the machine is at its end.
    pub fn judge(&self, plan: &Plan) -> Result<(Judged, Option<Ran>), String> {
        let ran = match process::run(plan)? {
            Ended::Ran(ran) => *ran,
            Ended::Broke(how) => {
                let judged = Judged { seed: plan.seed, hit: plan.strikes.clone(), wrong: vec![how] };
                return Ok((judged, None));
            }
        };
        let mut wrong: Vec<String> = ran.panics.iter().map(|panic| format!("it panics: {panic}")).collect();
        wrong.extend((!ran.rests).then(|| "it goes on writing".to_owned()));
        wrong.extend(self.expected.differences(&ran.state));
        Ok((Judged { seed: plan.seed, hit: ran.hit.clone(), wrong }, Some(ran)))
    }

    /// Runs a trial of each seed, with strikes of these kinds, and makes the failing ones small. `done` is told of each.
    ///
    /// # Errors
    /// A simulation itself panicked, or the machine is at its end.
    pub fn run(
        &self,
        seeds: std::ops::Range<u64>,
        kinds: &[StrikeKind],
        jobs: usize,
        done: impl Fn(&Judged) + Sync,
    ) -> Result<Sum, String> {
        let next = AtomicU64::new(seeds.start);
        let results: Mutex<BTreeMap<u64, Result<Tried, String>>> = Mutex::default();
        thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let result = self.one(seed, kinds);
                        if let Ok((judged, _)) = &result {
                            done(judged);
                        }
                        results.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, result);
                    }
                });
            }
        });
        let mut sum = Sum::default();
        for result in results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
            let (judged, finding) = result?;
            sum.trials += 1;
            for strike in &judged.hit {
                let hits = sum.hits.entry(strike.kind()).or_default();
                hits[0] += 1;
                hits[1] += u64::from(finding.is_some());
            }
            sum.findings.extend(finding);
        }
        Ok(sum)
    }

    fn one(&self, seed: u64, kinds: &[StrikeKind]) -> Result<Tried, String> {
        let plan = Plan { seed, strikes: strikes::draw(seed, kinds, self.aims) };
        let (judged, _) = self.judge(&plan)?;
        if judged.wrong.is_empty() {
            return Ok((judged, None));
        }
        let mut tries = 0;
        let mut last = judged.wrong.clone();
        // What never hit strikes nothing, as long as what did hit stays.
        let hit = plan.strikes.iter().filter(|strike| judged.hit.contains(strike)).copied().collect();
        let strikes = strikes::shrink(hit, |strikes| {
            tries += 1;
            let judged = self.judge(&Plan { seed, strikes: strikes.to_vec() });
            let wrong = judged.map(|(judged, _)| judged.wrong).unwrap_or_default();
            let fails = !wrong.is_empty();
            if fails {
                last = wrong;
            }
            fails
        });
        let finding = Finding { judged: judged.clone(), small: Plan { seed, strikes }, wrong: last, tries };
        Ok((judged, Some(finding)))
    }
}
