//! Trials as the harness runs them.

use faults::{Cut, Fault, Kind, Schedule, Target, What, When};
use record::{Config, Observation, Outcome, Record, Request, Sight};
use sim::{Swerve, Trial, run, scenario, trial};

const SECOND: u64 = 1_000_000_000;

fn shorter(name: &str, faults_s: u64, calm_s: u64) -> Config {
    let config = scenario(name).expect("it is listed");
    Config { faults_ns: faults_s * SECOND, calm_ns: calm_s * SECOND, ..config }
}

/// Panics with whatever was violated.
fn judge(record: &Record) {
    assert_eq!(record.panics, [], "seed {}", record.seed);
    for verdict in checkers::judge(record) {
        assert!(verdict.violations.is_empty(), "seed {}: {:?}", record.seed, verdict);
    }
}

/// The last thing seen of each member: what it applied, and the hash of its state.
fn last_states(record: &Record) -> Vec<(i64, u64, u64)> {
    let last = |wanted: u32| {
        record.observations.iter().rev().find_map(|observation| match observation {
            Observation::State { member, revision, applied, hash, .. } if *member == wanted => {
                Some((*revision, *applied, *hash))
            }
            _ => None,
        })
    };
    (0..record.config.members).map(|member| last(member).expect("every member ran")).collect()
}

fn answered(record: &Record) -> usize {
    record.operations.iter().filter(|operation| matches!(operation.outcome, Outcome::Ok { .. })).count()
}

#[test]
fn a_trial_without_faults_holds_and_ends_with_equal_members() {
    let record = run(trial(shorter("calm", 10, 10), 1)).record;
    judge(&record);
    let states = last_states(&record);
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    assert!(states[0].0 > 50, "hardly anything was written: {states:?}");
    let asked = record.operations.len();
    assert!((300..900).contains(&asked), "{asked} operations in 20 s at a rate of 30");
    assert!(answered(&record) * 100 > asked * 85, "{} of {asked} operations were answered", answered(&record));
}

#[test]
fn a_trial_that_swerves_is_the_same_until_then_and_another_one_afterwards() {
    let log = |swerve| {
        let trial = Trial { keep_log: true, swerve, ..trial(shorter("store", 10, 5), 3) };
        run(trial).log.expect("it was to be kept")
    };
    let (straight, at_ns) = (log(None), 6 * SECOND);
    assert!(straight == log(Some(Swerve { at_ns, way: 0 })), "way 0 is the one that it goes anyhow");
    let ways = [1, 2].map(|way| log(Some(Swerve { at_ns, way })));
    assert!(ways[0] != ways[1]);
    for way in &ways {
        let same = straight.lines().zip(way.lines()).take_while(|(a, b)| a == b).last().expect("they begin alike").0;
        let until_ns: u64 = same.split(' ').next().expect("a time").parse().expect("a time");
        assert!((at_ns - SECOND / 2..at_ns + SECOND).contains(&until_ns), "the last common event is at {until_ns} ns");
    }
}

#[test]
fn the_end_state_is_read_through_every_member() {
    let record = run(trial(shorter("calm", 5, 10), 2)).record;
    for member in 0..3 {
        let read = record.operations.iter().rev().find(|op| op.client == workloads::store::READERS + member);
        let read = read.expect("each member has its reader");
        assert!(matches!(read.request, Request::Read { revision: 0, .. }));
        assert!(matches!(read.outcome, Outcome::Ok { .. }), "{read:?}");
    }
}

#[test]
fn the_same_trial_gives_the_same_log() {
    let again = || run(Trial { keep_log: true, ..trial(shorter("store", 20, 10), 3) });
    let (one, other) = (again(), again());
    let differs = one.log.iter().zip(&other.log).flat_map(|(a, b)| a.lines().zip(b.lines())).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(one.record.log_hash, other.record.log_hash);
    assert_eq!(one.record.checkpoints, other.record.checkpoints);
    assert_eq!(one.record.checkpoints.len(), 30);
}

#[test]
fn keeping_the_log_or_measuring_changes_nothing() {
    let plain = trial(shorter("store", 10, 5), 4);
    let watched = Trial { keep_log: true, profile: true, ..plain.clone() };
    let (plain, watched) = (run(plain), run(watched));
    assert_eq!(plain.record.log_hash, watched.record.log_hash);
    assert_eq!((plain.log.is_some(), watched.log.is_some()), (false, true));
}

#[test]
fn another_seed_or_another_order_of_tasks_is_another_trial() {
    let first = trial(shorter("store", 5, 5), 5);
    let order = Trial { executor_seed: 99, ..first.clone() };
    let other = trial(shorter("store", 5, 5), 6);
    let [first, order, other] = [first, order, other].map(|trial| run(trial).record.log_hash);
    assert!(first != order && first != other);
}

#[test]
fn what_members_answered_before_their_end_is_seen_no_later_than_the_next_look() {
    // One member hears nothing while the other two go on, until they lose power between two looks.
    let fault = |id, kind, at_ns, for_ns, what| Fault { id, kind, when: When::At(at_ns), for_ns, what };
    let cut = What::Partition { side: Target::Members(vec![0]), cut: Cut::Symmetric };
    let outage = What::PowerLoss { target: Target::Members(vec![1, 2]) };
    let faults = vec![
        fault(1, Kind::PartitionOne, 4 * SECOND, 6 * SECOND, cut),
        fault(2, Kind::PowerLoss, 9 * SECOND + record::SAMPLE_NS * 9 / 10, SECOND, outage),
    ];
    let trial = trial(Config { rate: 300, ..shorter("calm", 12, 10) }, 6);
    let record = run(Trial { schedule: Schedule { faults }, ..trial }).record;
    judge(&record);
    assert_eq!(record.strikes.len(), 2, "{:?}", record.strikes);
    let seen_ns = |wanted: i64| {
        record.observations.iter().find_map(|observation| match observation {
            Observation::Applied { at_ns, revision, .. } if *revision >= wanted => Some(*at_ns),
            _ => None,
        })
    };
    for operation in &record.operations {
        let Outcome::Ok { revision, .. } = operation.outcome else { continue };
        let seen_ns = seen_ns(revision).expect("what was answered is seen in the end");
        assert!(seen_ns <= operation.completed_ns + record::SAMPLE_NS, "{operation:?} was seen at {seen_ns} ns");
    }
}

#[test]
fn trials_with_faults_hold_and_converge() {
    for seed in 10..14 {
        let trial = trial(scenario("store").expect("it is listed"), seed);
        let planned = trial.schedule.faults.len();
        let record = run(trial).record;
        judge(&record);
        let frozen = record.frozen_members();
        let all = (0..).zip(last_states(&record));
        let states: Vec<_> = all.filter(|(member, _)| !frozen.contains(member)).map(|(_, state)| state).collect();
        assert!(states.iter().all(|state| *state == states[0]), "seed {seed}: {states:?}");
        assert!(!record.strikes.is_empty() && record.strikes.len() <= planned, "seed {seed}");
        assert!(record.strikes.iter().all(|it| it.until_ns <= record.healed_ns || it.kind.outlasts()), "seed {seed}");
        let (asked, answered) = (record.operations.len(), answered(&record));
        assert!(answered * 2 > asked, "seed {seed}: {answered} of {asked} operations were answered");
    }
}

#[test]
fn a_minority_that_nobody_heals_holds_up_nobody_else() {
    for (seed, what) in (20..).zip([
        What::Partition { side: Target::Leader, cut: Cut::Symmetric },
        What::Pause { target: Target::Leader },
        What::PowerLoss { target: Target::Follower },
        What::Kill { target: Target::Leader },
    ]) {
        let calm = shorter("calm", 10, 20);
        let (when, for_ns) = (When::At(9 * SECOND), calm.faults_ns + calm.calm_ns);
        let faults = vec![Fault { id: 1, kind: Kind::Frozen, when, for_ns, what }];
        let record = run(Trial { schedule: Schedule { faults }, ..trial(calm, seed) }).record;
        judge(&record);
        let frozen = record.frozen_members();
        assert_eq!(frozen.len(), 1, "seed {seed}");
        let late = |operation: &&record::Operation| operation.invoked_ns > 15 * SECOND;
        let asked = record.operations.iter().filter(late).count();
        let answered = record.operations.iter().filter(late).filter(|it| matches!(it.outcome, Outcome::Ok { .. }));
        assert!(answered.count() * 2 > asked, "seed {seed}: hardly anything of {asked} operations was answered");
        let states = last_states(&record);
        let (ill, well): (Vec<_>, Vec<_>) = (0..).zip(states).partition(|(member, _)| frozen.contains(member));
        assert!(well[0].1 == well[1].1 && ill[0].1.1 < well[0].1.1, "seed {seed}: {ill:?} {well:?}");
    }
}

#[test]
fn what_is_withheld_from_an_informer_was_on_its_way() {
    let config = shorter("squall", 20, 30);
    let fault = |id, nth, what: fn(u32) -> What| Fault {
        id,
        kind: Kind::EventsWithheld,
        when: When::At(12 * SECOND),
        for_ns: 6 * SECOND,
        what: what(nth),
    };
    let of_all = |nth| What::Withhold { target: Target::Members(vec![0, 1, 2]), nth };
    let of_nobody = |nth| What::Withhold { target: Target::Members(vec![]), nth };
    let faults = vec![fault(1, 0, of_all), fault(2, 1, of_all), fault(3, 0, of_nobody)];
    let record = run(Trial { schedule: Schedule { faults }, twin: false, ..trial(config, 9) }).record;
    judge(&record);
    let busy: Vec<bool> = record.strikes.iter().map(|strike| strike.busy).collect();
    assert_eq!(busy, [true, true, false]);
}

#[test]
fn an_orchestrator_holds_and_its_log_repeats() {
    let again = || run(Trial { keep_log: true, ..trial(scenario("squall").expect("it is listed"), 8) });
    let (one, other) = (again(), again());
    judge(&one.record);
    let differs = one.log.iter().zip(&other.log).flat_map(|(a, b)| a.lines().zip(b.lines())).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(one.record.log_hash, other.record.log_hash);
    let history = &one.record.cluster;
    assert!(history.sights.iter().any(|sight| matches!(sight, Sight::Started(_))), "containers ran");
    assert!(history.calls.iter().any(|call| call.answer.is_ok()), "Services were called");
}
