//! `nightly`: what runs for as long as there is time while nobody looks, and tells whether somebody should.
//!
//! ```text
//! canary: a trial that must fail -----------------> held? the alarm is silent, and nothing else is believed
//! known seeds, then fresh ones of each scenario --> pool -> per scenario: the report of `run`    in DIR/SCENARIO
//! a sample of the mutants, if asked for ----------> board
//!                                                     '-> nightly.json, summary.md in DIR, exit code
//! ```
//!
//! **Invariant:** scenarios get equal shares of the CPU time, whatever a trial of each costs
//! (`the_scenario_that_has_had_least_is_next`).

mod canary;
mod report;

use crate::cli::{self, MUTANT_BUDGET_S, NIGHTS, Nightly, Setting};
use crate::exit::Exit;
use crate::mutants::{self, Effort, Score};
use crate::pool::{self, Crew, Done};
use crate::run::{self, Begun, Job, Told};
use crate::{interrupt, machine, trial};
use anyhow::Context;
use record::{Config, Guarantee, Scope};
use report::Report;
use reports::{Summary, VACUOUS_FROM};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Seeds that have failed once, each with the reason to try it again every night.
const KNOWN: &str = include_str!("../../regressions.toml");

/// Fresh seeds of a night are so many apart from those of the next: more than a night can run.
const SEEDS_PER_NIGHT: u64 = 1 << 20;

/// With less time left, no further mutant is begun: it takes minutes to build one.
const LEAST_FOR_A_MUTANT: Duration = Duration::from_secs(240);

/// A seed of [`KNOWN`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    scenario: String,
    seed: u64,
    /// What was wrong; read by people.
    reason: String,
}

fn known() -> anyhow::Result<Vec<Known>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        known: Vec<Known>,
    }
    let file: File = toml::from_str(KNOWN).context("harness/seatrial/regressions.toml is damaged")?;
    Ok(file.known)
}

/// Runs for as long as it may, and says what came of it.
///
/// # Errors
/// A machine that cannot start workers or take files.
pub fn nightly(arguments: &Nightly) -> anyhow::Result<Exit> {
    let (begun, since, stop) = (Instant::now(), Begun::now(), interrupt::listen());
    let mut courses = Vec::new();
    // Each once, however often it is named.
    for scenario in arguments.scenario.iter().collect::<BTreeSet<_>>() {
        match trial::config(&Setting { scenario: scenario.clone(), ..Setting::default() }) {
            Ok(config) => courses.push(Course::new(config)),
            Err(why) => {
                eprintln!("error: {why}");
                return Ok(Exit::USAGE);
            }
        }
    }
    let night = match arguments.seed {
        Some(seed) => seed,
        None => drawn()?,
    };
    println!(
        "seed {night}; repeat this night with: cargo trial nightly --seed {night} --minutes {}",
        arguments.minutes
    );
    let whole = Duration::from_secs(arguments.minutes * 60);
    let for_mutants = whole * u32::from(arguments.mutants) / 100;
    fs::create_dir_all(&arguments.out).with_context(|| format!("{} cannot be made", arguments.out.display()))?;
    let mut report = Report::new(night);

    println!("the canary, which must fail:");
    report.canary = canary::sing(&arguments.out.join("canary"))?;
    if let Err(why) = &report.canary {
        println!("THE ALARM IS SILENT: {why}; no result of this testbed can be believed");
        report.write(&arguments.out)?;
        return Ok(Exit::FAILED);
    }
    // Whatever ends this before its time, what is there then is the report of a night that did not succeed.
    report.write(&arguments.out)?;

    let mut schedule = Schedule { night, courses, known: known()?, deadline: begun + whole - for_mutants };
    schedule.add_courses_of_known_seeds()?;
    let mut merged = Summary::default();
    let mut untried = false;
    for course in run_all(arguments, schedule, stop)? {
        untried |= course.results.is_empty();
        conclude(arguments, since, &course)?;
        let summary = course.summary();
        merged.merge(&summary);
        report.scenarios.push(report::Scenario::of(&course.config.scenario, &summary, course.spent_ns));
    }
    let interrupted = stop.load(Ordering::Relaxed);
    let mut exit = if interrupted { Exit::of_some(&merged) } else { exit_of(&merged) };
    if exit == Exit::HELD && untried {
        // A scenario for which there was no time has not held.
        exit = Exit::VACUOUS;
    }
    if arguments.mutants > 0 && !interrupted {
        let rows = sample(night, arguments.jobs, begun + whole)?;
        let score = Score::of(&rows);
        if exit == Exit::HELD && !score.good() {
            exit = Exit::SAFETY;
        }
        report.mutants = Some((score, rows));
    }
    report.exit = exit;
    report.write(&arguments.out)?;
    println!("{}", report.text());
    Ok(exit)
}

/// The code of all trials together. What only an orchestrator promises may well go untested while few of them were tried,
/// however many stores were.
fn exit_of(merged: &Summary) -> Exit {
    let few_clusters = merged.clusters.is_some_and(|clusters| clusters.trials < VACUOUS_FROM);
    let of_a_store = |id: &Guarantee| id.guaranteed().scope == Scope::Store;
    match Exit::of(merged) {
        Exit::VACUOUS if few_clusters && !merged.vacuous().iter().any(of_a_store) => Exit::HELD,
        exit => exit,
    }
}

/// A number that nobody chose.
fn drawn() -> anyhow::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    let mut source = fs::File::open("/dev/urandom").context("the system has no randomness")?;
    source.read_exact(&mut bytes).context("the system has no randomness")?;
    Ok(u64::from_le_bytes(bytes) % NIGHTS)
}

/// The trials of one scenario.
struct Course {
    config: Config,
    /// Fresh seeds handed out so far.
    fresh: u64,
    /// Whether it gets fresh seeds, or only known ones.
    goes_on: bool,
    /// CPU time that its trials took; of those that never ended, the time that somebody waited for them.
    spent_ns: u64,
    results: BTreeMap<u64, Told>,
}

impl Course {
    fn new(config: Config) -> Self {
        Self { config, fresh: 0, goes_on: true, spent_ns: 0, results: BTreeMap::new() }
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        self.results.values().for_each(|told| summary.merge(&told.summary));
        summary
    }
}

/// Which trial is next, until the night is over.
struct Schedule {
    night: u64,
    courses: Vec<Course>,
    known: Vec<Known>,
    deadline: Instant,
}

impl Schedule {
    /// Known seeds of scenarios that get no fresh ones tonight are tried all the same.
    fn add_courses_of_known_seeds(&mut self) -> anyhow::Result<()> {
        for Known { scenario, .. } in &self.known {
            if !self.courses.iter().any(|course| course.config.scenario == *scenario) {
                let setting = Setting { scenario: scenario.clone(), ..Setting::default() };
                let config = trial::config(&setting).map_err(anyhow::Error::msg)?;
                self.courses.push(Course { goes_on: false, ..Course::new(config) });
            }
        }
        Ok(())
    }

    /// The next trial: its scenario, as a position, and its seed. `waiting` is what has been begun and is not over yet, by
    /// scenario. Known seeds come first and come all; fresh ones until the deadline.
    fn next(&mut self, waiting: &[u64], now: Instant) -> Option<(usize, u64)> {
        if let Some(known) = self.known.pop() {
            let at = self.courses.iter().position(|course| course.config.scenario == known.scenario)?;
            return Some((at, known.seed));
        }
        if now >= self.deadline {
            return None;
        }
        let at = least_served(&self.courses, waiting)?;
        let course = &mut self.courses[at];
        course.fresh += 1;
        Some((at, self.night.wrapping_mul(SEEDS_PER_NIGHT).wrapping_add(course.fresh)))
    }
}

/// The scenario that has had the least CPU time, those trials included that are under way: they cost what such a trial has
/// cost so far, or nothing is known of it, and then a second one can wait.
fn least_served(courses: &[Course], waiting: &[u64]) -> Option<usize> {
    let had = |at: usize| {
        let (course, under_way) = (&courses[at], waiting.get(at).copied().unwrap_or(0));
        let ended = course.results.len() as u64;
        match course.spent_ns.checked_div(ended) {
            Some(each_ns) => course.spent_ns + each_ns * under_way,
            None if under_way == 0 => 0,
            None => u64::MAX,
        }
    };
    (0..courses.len()).filter(|at| courses[*at].goes_on).min_by_key(|at| (had(*at), *at))
}

/// What is under way: of each trial its scenario, its seed, and since when.
struct Desk {
    schedule: Schedule,
    under_way: BTreeMap<u64, (usize, u64, Instant)>,
}

fn run_all(arguments: &Nightly, schedule: Schedule, stop: &AtomicBool) -> anyhow::Result<Vec<Course>> {
    let program = machine::this_program()?;
    let hung_after = schedule.courses.iter().map(|course| run::hung_after(&course.config)).max().unwrap_or_default();
    let crew = Crew { slots: cli::jobs(arguments.jobs), hung_after, stop };
    let desk = Mutex::new(Desk { schedule, under_way: BTreeMap::new() });
    let jobs = (0..).map_while(|number| {
        let mut desk = lock(&desk);
        let mut waiting = vec![0; desk.schedule.courses.len()];
        desk.under_way.values().for_each(|(at, _, _)| waiting[*at] += 1);
        let (at, seed) = desk.schedule.next(&waiting, Instant::now())?;
        desk.under_way.insert(number, (at, seed, Instant::now()));
        let config = &desk.schedule.courses[at].config;
        Some((number, Job::of_seed(config, seed, &arguments.out.join(folder(&config.scenario)))))
    });
    pool::run(
        || machine::worker(&program, "worker"),
        crew,
        jobs,
        |number, done| {
            let mut desk = lock(&desk);
            let Some((at, seed, since)) = desk.under_way.remove(&number) else { return ControlFlow::Continue(()) };
            let course = &mut desk.schedule.courses[at];
            let (told, spent_ns) = match done {
                Done::Answered(told) => {
                    let Told { summary, .. } = &told;
                    let spent_ns = summary.cpu_ns;
                    (told, spent_ns)
                }
                Done::Died(why) => {
                    let waited_ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    (run::died(&Job::of_seed(&course.config, seed, &arguments.out), &why), waited_ns)
                }
            };
            if let Some(line) = &told.headline {
                println!("{}: {line}", course.config.scenario);
            }
            course.spent_ns += spent_ns;
            course.results.insert(seed, told);
            ControlFlow::Continue(())
        },
    )
    .context("a worker cannot be started")?;
    Ok(desk.into_inner().unwrap_or_else(PoisonError::into_inner).schedule.courses)
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The report of one scenario's trials, as `run` would have made it.
fn conclude(arguments: &Nightly, begun: Begun, course: &Course) -> anyhow::Result<()> {
    println!("\n{}:", course.config.scenario);
    if course.results.is_empty() {
        println!("there was no time for a trial; give it more --minutes");
        return Ok(());
    }
    let out = arguments.out.join(folder(&course.config.scenario));
    let asked = begun.asked(&course.config, &out, &course.results);
    run::conclude(Some(&out), false, &asked, None, &course.results).map(drop)
}

/// Where the report of a scenario goes: its name, or the path of its file in one word.
fn folder(scenario: &str) -> String {
    scenario.replace(['/', '\\'], "_")
}

/// Tries mutants, in an order that follows from the night, for as long as there is time.
fn sample(night: u64, jobs: Option<u16>, until: Instant) -> anyhow::Result<Vec<mutants::Row>> {
    let mut rows = Vec::new();
    for name in mutants::shuffled(night)? {
        let left = until.saturating_duration_since(Instant::now());
        if left < LEAST_FOR_A_MUTANT {
            break;
        }
        let budget_s = (left.as_secs() * cli::jobs(jobs) as u64).min(MUTANT_BUDGET_S);
        let effort = Effort { budget_s, ..Effort::default() };
        let row = mutants::one(&name, effort, jobs)?;
        // The end of the night says nothing of a bug that was not found by then.
        if !(row.is_missed() && budget_s < MUTANT_BUDGET_S) {
            rows.push(row);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn course(scenario: &str) -> Course {
        Course::new(trial::config(&Setting { scenario: scenario.into(), ..Setting::default() }).expect("there is one"))
    }

    fn told() -> Told {
        Told { summary: Summary::default(), failed: BTreeSet::new(), headline: None, situations: BTreeSet::new() }
    }

    #[test]
    fn the_scenario_that_has_had_least_is_next() {
        let mut courses = vec![course("store"), course("squall"), course("deployments")];
        let costs_ns = [SECOND_NS / 2, 5 * SECOND_NS, 40 * SECOND_NS];
        for number in 0..2_000 {
            let at = least_served(&courses, &[0, 0, 0]).expect("there are some");
            courses[at].spent_ns += costs_ns[at];
            courses[at].results.insert(number, told());
        }
        let shares: Vec<u64> = courses.iter().map(|course| course.spent_ns / SECOND_NS).collect();
        let (least, most) = (shares.iter().min().expect("three"), shares.iter().max().expect("three"));
        assert!(most - least <= 41, "no two are further apart than one trial of the costliest: {shares:?}");
    }

    #[test]
    fn what_is_under_way_counts_and_what_is_new_is_tried_once_first() {
        let mut courses = vec![course("store"), course("squall")];
        assert_eq!(least_served(&courses, &[0, 0]), Some(0));
        assert_eq!(least_served(&courses, &[1, 0]), Some(1), "the other has never been tried");
        courses[0].results.insert(1, told());
        courses[0].spent_ns = SECOND_NS;
        assert_eq!(least_served(&courses, &[0, 1]), Some(0), "nobody knows yet what the other costs");
        courses[1].results.insert(1, told());
        courses[1].spent_ns = 2 * SECOND_NS;
        assert_eq!(least_served(&courses, &[0, 0]), Some(0));
        assert_eq!(least_served(&courses, &[2, 0]), Some(1), "two more would make it three seconds");
        courses[1].goes_on = false;
        assert_eq!(least_served(&courses, &[2, 0]), Some(0));
    }

    #[test]
    fn known_seeds_are_tried_even_if_there_is_no_time_and_fresh_ones_differ_from_night_to_night() {
        let now = Instant::now();
        let known = vec![Known { scenario: "calm".into(), seed: 450, reason: "a test".into() }];
        let mut schedule = Schedule { night: 3, courses: vec![course("store")], known, deadline: now };
        schedule.add_courses_of_known_seeds().expect("there is such a scenario");
        assert_eq!(schedule.next(&[0, 0], now), Some((1, 450)));
        assert_eq!(schedule.next(&[0, 0], now), None);
        let seeds = |night| {
            let deadline = now + Duration::from_secs(1);
            let mut schedule = Schedule { night, courses: vec![course("store")], known: vec![], deadline };
            (0..50).map(|_| schedule.next(&[0], now).expect("there is time").1).collect::<BTreeSet<u64>>()
        };
        assert_eq!(seeds(3).len(), 50);
        assert!(seeds(3).is_disjoint(&seeds(4)));
        assert_eq!(seeds(3), seeds(3));
    }

    #[test]
    fn what_few_orchestrators_did_not_test_is_no_failure_of_a_night() {
        let mut merged = Summary { trials: VACUOUS_FROM + 5, ..Summary::default() };
        for guaranteed in record::GUARANTEES.iter().filter(|it| it.scope == Scope::Store) {
            merged.guarantees.entry(guaranteed.id).or_default().tested = 1;
        }
        merged.clusters.get_or_insert_default().trials = 5;
        assert_eq!((Exit::of(&merged), exit_of(&merged)), (Exit::VACUOUS, Exit::HELD));
        merged.clusters.get_or_insert_default().trials = VACUOUS_FROM;
        assert_eq!(exit_of(&merged), Exit::VACUOUS);
        merged.clusters.get_or_insert_default().trials = 5;
        merged.guarantees.remove(&Guarantee::C1);
        assert_eq!(exit_of(&merged), Exit::VACUOUS, "stores were tried often enough");
        merged.crashed = 1;
        assert_eq!(exit_of(&merged), Exit::CRASH);
    }

    #[test]
    fn every_known_seed_has_a_scenario_and_a_reason() {
        let all = known().expect("the file can be read");
        assert!(!all.is_empty());
        for Known { scenario, seed, reason } in all {
            assert!(sim::scenario(&scenario).is_some(), "seed {seed}: {scenario}");
            assert!(reason.trim().len() > 20, "seed {seed} of {scenario} is here for no reason");
        }
    }

    #[test]
    fn a_report_goes_where_no_other_one_does() {
        let folders: BTreeSet<String> = ["store", "store.toml", "a/store.toml", "../a/store.toml"].map(folder).into();
        assert_eq!(folders.len(), 4);
        assert!(folders.iter().all(|folder| !folder.contains('/')));
    }
}
