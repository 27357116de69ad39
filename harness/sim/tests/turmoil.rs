//! Trials of a store under turmoil: the same harness, faults and checkers, on another simulator.

use faults::{Fault, Kind};
use record::{Backend, Config, Outcome, Record};
use sim::{Trial, run, scenario, trial};
use std::collections::BTreeSet;

const SECOND: u64 = 1_000_000_000;

fn under_turmoil(name: &str, faults_s: u64, calm_s: u64) -> Config {
    let config = scenario(name).expect("it is listed");
    Config { backend: Backend::Turmoil, faults_ns: faults_s * SECOND, calm_ns: calm_s * SECOND, ..config }
}

/// Panics with whatever was violated.
fn judge(record: &Record) {
    assert_eq!(record.panics, [], "seed {}", record.seed);
    for verdict in checkers::judge(record) {
        assert!(verdict.violations.is_empty(), "seed {}: {:?}", record.seed, verdict);
    }
}

/// How many of a hundred operations were answered.
fn answered_percent(record: &Record) -> usize {
    let answered = record.operations.iter().filter(|operation| matches!(operation.outcome, Outcome::Ok { .. })).count();
    answered * 100 / record.operations.len()
}

#[test]
fn a_trial_without_faults_holds_under_turmoil() {
    let record = run(trial(under_turmoil("calm", 10, 10), 1)).record;
    judge(&record);
    assert!((300..900).contains(&record.operations.len()), "{} operations", record.operations.len());
    assert!(answered_percent(&record) > 85, "{} % were answered", answered_percent(&record));
    assert_eq!(record.config.backend, Backend::Turmoil);
}

#[test]
fn trials_with_faults_hold_under_turmoil() {
    let mut struck = BTreeSet::new();
    let never = |struck: &BTreeSet<Kind>| -> Vec<Kind> {
        Kind::STORE.into_iter().filter(|kind| !struck.contains(kind)).collect()
    };
    for seed in 10..30 {
        if seed >= 16 && never(&struck) == Backend::Turmoil.lacks() {
            break;
        }
        let record = run(trial(under_turmoil("store", 25, 20), seed)).record;
        judge(&record);
        struck.extend(record.strikes.iter().map(|strike| strike.kind));
        assert!(answered_percent(&record) > 50, "seed {seed}: {} % were answered", answered_percent(&record));
    }
    assert_eq!(never(&struck), Backend::Turmoil.lacks(), "all kinds strike that can");
}

#[test]
fn the_same_trial_gives_the_same_log_under_turmoil() {
    let again =
        |executor_seed| run(Trial { keep_log: true, executor_seed, ..trial(under_turmoil("store", 20, 10), 3) });
    let (one, same, other) = (again(3), again(3), again(4));
    let differs = one.log.iter().zip(&same.log).flat_map(|(a, b)| a.lines().zip(b.lines())).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!((one.record.log_hash, one.record.checkpoints), (same.record.log_hash, same.record.checkpoints));
    assert_ne!(one.record.log_hash, other.record.log_hash, "another order of hosts");
}

#[test]
fn what_turmoil_lacks_is_left_out_and_nothing_else_of_the_schedule_is_changed() {
    let schedule = |backend, seed| trial(Config { backend, ..under_turmoil("store", 60, 30) }, seed).schedule.faults;
    let mut left_out = 0;
    for seed in 0..10 {
        let all = schedule(Backend::Madsim, seed);
        let lacks = |fault: &Fault| Backend::Turmoil.lacks().contains(&fault.kind);
        let (lost, rest): (Vec<Fault>, Vec<Fault>) = all.into_iter().partition(lacks);
        assert_eq!(schedule(Backend::Turmoil, seed), rest, "seed {seed}");
        left_out += lost.len();
    }
    assert!(left_out > 0);
}
