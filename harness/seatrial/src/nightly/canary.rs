//! The canary: a trial that must fail, on the very way that every other trial takes.
//!
//! ```text
//! disks that lie: a sync makes nothing durable, and everybody loses power -> acknowledged writes are gone in some trials
//!    -> worker, checkers, headline, record on disk, report, exit code: each must tell of it
//! ```
//!
//! The product is as it is; the lie is the simulated disk's, one of those by which the disk itself is tested.

use crate::exit::Exit;
use crate::machine;
use crate::pool::{self, Crew, Done};
use crate::run::{self, Begun, Job, Told};
use crate::trial::BUILD;
use anyhow::Context;
use faults::{Fault, Kind, Ns, Swarm, Target, What, When};
use record::{Config, FaultRules, Guarantee, Side};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What it is called.
const NAME: &str = "canary";

/// Seeds that are tried; one of them must fail. Where a member still has a part of what it was told is safe, it finds out
/// and refuses to start, which is as it should be. Two of three times some have nothing left, and begin anew.
const SEEDS: RangeInclusive<u64> = 1..=8;

const SECOND_NS: Ns = 1_000_000_000;

/// The trial: a store whose members all lose power once, in the middle of their work, and nothing else.
fn config() -> anyhow::Result<Config> {
    let store = sim::scenario(crate::trial::STORE).context("the scenario of a store is gone")?;
    let what = What::PowerLoss { target: Target::Members((0..store.members).collect()) };
    let outage = Fault { id: 1, kind: Kind::PowerLoss, when: When::At(10 * SECOND_NS), for_ns: SECOND_NS / 5, what };
    let swarm = Swarm { kinds: vec![], ..Swarm::default() };
    Ok(Config {
        scenario: NAME.to_owned(),
        one_more_permille: 0,
        freeze_minority_permille: 0,
        faults_ns: 15 * SECOND_NS,
        calm_ns: 15 * SECOND_NS,
        faults: true,
        rules: Some(FaultRules { swarm, strikes: vec![outage] }),
        ..store
    })
}

/// Runs it. What it told, or in what way it was silent.
///
/// # Errors
/// A machine that cannot start workers or take files.
pub fn sing(out: &Path) -> anyhow::Result<Result<String, String>> {
    let config = config()?;
    // What an earlier night left there must not be taken for what this one says.
    for record in SEEDS.map(|seed| record_of(out, seed)).filter(|record| record.exists()) {
        std::fs::remove_file(&record).with_context(|| format!("{} cannot be removed", record.display()))?;
    }
    let program = machine::this_program()?;
    let (begun, stop) = (Begun::now(), AtomicBool::new(false));
    let crew = Crew { slots: 1, hung_after: run::hung_after(&config), stop: &stop };
    let jobs = SEEDS.map(|seed| (seed, Job { canary: true, ..Job::of_seed(&config, seed, out) }));
    let mut results: BTreeMap<u64, Told> = BTreeMap::new();
    let mut died = None;
    pool::run(
        || machine::worker(&program, "worker"),
        crew,
        jobs,
        |seed, done| {
            match done {
                Done::Answered(told) => drop(results.insert(seed, told)),
                Done::Died(why) => died = Some(why),
            }
            ControlFlow::Continue(())
        },
    )
    .context("a worker cannot be started")?;
    if let Some(why) = died {
        return Ok(Err(format!("the worker of the trial that must fail did not answer: {why}")));
    }
    let asked = begun.asked(&config, out, &results);
    let exit = run::conclude(Some(out), false, &asked, None, &results)?;
    Ok(heard(&results, exit, out))
}

/// Whether everybody told of it who must.
fn heard(results: &BTreeMap<u64, Told>, exit: Exit, out: &Path) -> Result<String, String> {
    let mut failed = results.iter().filter(|(_, told)| told.failed.iter().any(|name| is_safety(name)));
    let (seed, told) = failed.next().ok_or("no checker saw that stores lost what they had acknowledged")?;
    let headline = told.headline.clone().ok_or("what failed has no line for people")?;
    if exit != Exit::SAFETY {
        return Err(format!("a broken guarantee ends with code {}", exit.code()));
    }
    let path = record_of(out, *seed);
    let record = record::read(&path, BUILD).map_err(|error| format!("the failed trial left no record: {error}"))?;
    if record.verdicts.iter().all(|verdict| verdict.violations.is_empty()) {
        return Err(format!("{} says nothing of what failed", path.display()));
    }
    Ok(headline)
}

fn record_of(out: &Path, seed: u64) -> PathBuf {
    out.join(format!("{seed}.json"))
}

fn is_safety(name: &str) -> bool {
    let all = record::GUARANTEES.iter();
    all.filter(|it| it.side == Side::Safety).any(|it| Guarantee::to_string(&it.id) == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial;
    use std::collections::BTreeSet;

    #[test]
    fn a_disk_that_lies_is_told_of_and_an_honest_one_is_not() {
        let failed = |seed, disk_lies| {
            let trial = sim::trial(config().expect("there is one"), seed);
            trial::failed(&trial::judged(sim::Trial { disk_lies, ..trial }).record)
        };
        assert!(SEEDS.into_iter().any(|seed| failed(seed, run::CANARY_LIES).iter().any(|name| is_safety(name))));
        for seed in SEEDS.take(2) {
            assert_eq!(failed(seed, sim::DiskLies::NONE), BTreeSet::new(), "the trial itself is harmless");
        }
    }

    #[test]
    fn a_trial_that_holds_or_a_report_that_says_so_is_silence() {
        let told = |failed: &[&str]| Told {
            summary: reports::Summary::default(),
            failed: failed.iter().map(|name| String::from(*name)).collect(),
            headline: Some("C2 failed".to_owned()),
            situations: BTreeSet::new(),
        };
        let silence = |told: Option<Told>, exit| {
            let results = told.map(|told| (1, told)).into_iter().collect();
            heard(&results, exit, Path::new("/nonexistent")).expect_err("is silence")
        };
        assert!(silence(None, Exit::SAFETY).contains("no checker"));
        assert!(silence(Some(told(&[])), Exit::SAFETY).contains("no checker"));
        assert!(silence(Some(told(&["C6"])), Exit::SAFETY).contains("no checker"));
        assert!(silence(Some(told(&["C2"])), Exit::HELD).contains("ends with code 0"));
        assert!(silence(Some(Told { headline: None, ..told(&["C2"]) }), Exit::SAFETY).contains("no line"));
        assert!(silence(Some(told(&["C2"])), Exit::SAFETY).contains("left no record"));
    }
}
