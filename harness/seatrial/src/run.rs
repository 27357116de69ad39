//! `run`: many seeds in worker processes, and one summary of them; `worker`: what those processes do.
//!
//! ```text
//! seeds -> search -> pool -> worker: run, judge; if it failed, run again with its log and write both
//!             ^ <- Told { summary of one trial, failures, situations }  -> lines for people, summary of all
//!             '----- the next round, if it is a guided one -----'          -> table, report, exit code
//! ```
//!
//! A trial is called by its seed; one of a guided run that was made of others by its place among the seeds, and its files
//! begin with `guided-`.
//!
//! Ctrl-C ends it early: workers are stopped, and what was done so far is concluded as ever.
//!
//! **Invariant:** the summary does not depend on the order in which workers answer: results are added by seed.

use crate::cli::{self, Policy, Run, Setting};
use crate::exit::Exit;
use crate::pool::{self, Crew, Done, Meter};
use crate::progress::Progress;
use crate::search::Search;
use crate::trial::{self, BUILD, CRASH, Clock};
use crate::{MARKS, both, interrupt, machine, report};
use anyhow::Context;
use record::{Case, Config, Record};
use reports::{Failure, Guided, Run as Asked, Seeds, Summary};
use serde::{Deserialize, Serialize};
use sim::DiskLies;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where the marks are that a trial of a store alone can reach.
const STORE_FOLDERS: [&str; 3] = ["cluster/raft/", "cluster/rt/", "cluster/store/"];

/// A trial asked of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its seed, or its place in a guided run.
    pub seed: u64,
    /// What it is made of.
    pub config: Config,
    /// Where the record and the log go if it fails.
    pub out: PathBuf,
    /// What is tried in the place of the seed's own trial.
    pub given: Option<Case>,
    /// Whether somebody wants to know what situations it reached.
    pub curious: bool,
    /// Whether it is the one that must fail.
    pub canary: bool,
}

/// By what a canary fails: neither content nor names are kept without power, whatever was synced. Where content alone is
/// lost, members find out and refuse to start.
pub const CANARY_LIES: DiskLies = DiskLies { synced_is_lost: true, synced_names_are_lost: true, ..DiskLies::NONE };

impl Job {
    /// The trial of a seed, about which nobody is curious.
    pub fn of_seed(config: &Config, seed: u64, out: &Path) -> Self {
        Self { seed, config: config.clone(), out: out.to_owned(), given: None, curious: false, canary: false }
    }

    fn trial(&self) -> sim::Trial {
        let disk_lies = if self.canary { CANARY_LIES } else { DiskLies::NONE };
        let drawn = || sim::trial(self.config.clone(), self.seed);
        sim::Trial { disk_lies, ..self.given.as_ref().map_or_else(drawn, trial::of_case) }
    }

    /// What it is called, for people.
    fn name(&self) -> String {
        reports::trial_name(self.seed, self.given.is_some())
    }

    /// What its files are called, their extension apart.
    fn stem(&self) -> String {
        reports::trial_stem(self.seed, self.given.is_some())
    }

    /// The command that repeats it.
    fn repeat(&self) -> String {
        match self.given {
            Some(_) => reports::replay_mutated(&self.out.display().to_string(), self.seed),
            None => trial::repeat(&self.config, self.seed),
        }
    }

    /// Leaves what no seed repeats as a file, with what fails in it.
    ///
    /// # Errors
    /// The folder cannot be made, or it cannot be written.
    fn leave(&self, fails: &str) -> anyhow::Result<()> {
        let Some(case) = &self.given else { return Ok(()) };
        std::fs::create_dir_all(&self.out).with_context(|| format!("{} cannot be made", self.out.display()))?;
        let path = self.out.join(format!("{}.toml", self.stem()));
        let case = Case { fails: fails.to_owned(), ..case.clone() };
        case.write(&path).with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// What a worker says of a trial.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// Of this one trial.
    pub summary: Summary,
    /// Names of what failed, each once.
    pub failed: BTreeSet<String>,
    /// The line for people, if it failed.
    pub headline: Option<String>,
    /// What it reached, if somebody wanted to know.
    pub situations: BTreeSet<String>,
}

/// A run in short, for the board of mutants.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Brief {
    /// Trials run.
    pub trials: u64,
    /// CPU seconds that they took.
    pub cpu_s: f64,
    /// Names of what failed in the failing trial with the lowest seed.
    pub failed: Vec<String>,
    /// What its files are called, their extension apart.
    pub trial: Option<String>,
    /// Situations that all of them together reached.
    pub situations: u64,
}

/// Runs the trials and prints what came of them.
///
/// # Errors
/// A machine that cannot start workers or take files.
pub fn run(arguments: &Run) -> anyhow::Result<Exit> {
    if arguments.setting.backend == cli::Backend::Both {
        return both::run(arguments);
    }
    match config(&arguments.setting) {
        Ok(config) => Ok(tried(arguments, &config, &arguments.out, interrupt::listen())?.0),
        Err(why) => {
            eprintln!("error: {why}");
            Ok(Exit::USAGE)
        }
    }
}

/// Runs the trials of one configuration, prints what came of them, and returns it too.
///
/// # Errors
/// A machine that cannot start workers or take files.
pub fn tried(
    arguments: &Run,
    config: &Config,
    out: &Path,
    stop: &'static AtomicBool,
) -> anyhow::Result<(Exit, BTreeMap<u64, Told>)> {
    let (seeds, policy) = (arguments.seeds(), arguments.setting.policy);
    let program = machine::this_program()?;
    let worker = || machine::worker(&program, "worker");
    let begun = Begun::now();
    let mut progress = Progress::of(seeds.end - seeds.start, "trials");
    let mut results = BTreeMap::new();
    let crew = Crew { slots: cli::jobs(arguments.jobs), hung_after: hung_after(config), stop };
    let meter = Meter::default();
    let spent = || arguments.budget.is_some_and(|budget| meter.ns() >= budget * 1_000_000_000);
    let mut search = Search::new(policy, config, seeds.clone());
    let curious = policy == Policy::Guided || arguments.brief.is_some();
    let mut over = false;
    while !over && let Some(round) = search.round() {
        let job = |seed| {
            let given = round.given.get(&seed).cloned();
            Job { given, curious, ..Job::of_seed(config, seed, out) }
        };
        let jobs = round.places.clone().map(|seed| (seed, job(seed)));
        pool::run_metered(worker, crew, &meter, jobs, |seed, done| {
            progress.step();
            let mut told = match done {
                Done::Answered(told) => told,
                Done::Died(why) => died(&job(seed), &why),
            };
            if let Some(line) = &told.headline {
                // With --json stdout is for machines alone.
                progress.suspend(|| if arguments.json { eprintln!("{line}") } else { println!("{line}") });
            }
            over |= (arguments.until_failure && told.headline.is_some()) || spent();
            search.told(seed, std::mem::take(&mut told.situations), told.headline.is_some());
            results.insert(seed, told);
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .context("a worker cannot be started")?;
        over |= stop.load(Ordering::Relaxed);
    }
    progress.end();
    let guided = search.guided();
    let asked = seeds.end - seeds.start;
    // A signal that came when everything was done interrupted nothing.
    let interrupted = stop.load(Ordering::Relaxed) && (results.len() as u64) < asked;
    let mutated = search.mutated();
    let asked = Asked { asked, interrupted, mutated, ..begun.asked(config, out, &results) };
    if let Some(path) = &arguments.brief {
        brief(path, &asked, search.situations(), &results, &meter)?;
    }
    let out = arguments.brief.is_none().then_some(out);
    Ok((conclude(out, arguments.json, &asked, guided, &results)?, results))
}

/// The configuration of the trials that follow from seeds: a guided run has those of a swarm among its own. The error is one
/// sentence.
pub fn config(setting: &Setting) -> Result<Config, String> {
    let policy = match setting.policy {
        Policy::Guided => Policy::Swarm,
        policy @ (Policy::Swarm | Policy::Uniform) => policy,
    };
    trial::config(&Setting { policy, ..setting.clone() })
}

/// When a run began.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    unix_s: u64,
    clock: Clock,
}

impl Begun {
    /// Now.
    pub fn now() -> Self {
        Self { unix_s: machine::unix_s(), clock: Clock::begin() }
    }

    /// What was run since then, for the report, if no more was asked for than was done.
    pub fn asked(self, config: &Config, out: &Path, results: &BTreeMap<u64, Told>) -> Asked {
        Asked {
            scenario: config.scenario.clone(),
            setting: trial::setting_words(config),
            build: BUILD.to_owned(),
            folder: out.display().to_string(),
            begun_unix_s: self.unix_s,
            took_s: trial::seconds(self.clock.now_ns()),
            asked: results.len() as u64,
            seeds: Seeds::of(results.keys().copied()),
            interrupted: false,
            mutated: None,
        }
    }
}

/// Writes what the board of mutants wants to know.
fn brief(
    path: &Path,
    asked: &Asked,
    situations: u64,
    results: &BTreeMap<u64, Told>,
    meter: &Meter,
) -> anyhow::Result<()> {
    let first = results.iter().find(|(_, told)| !told.failed.is_empty());
    let brief = Brief {
        trials: results.len() as u64,
        cpu_s: trial::seconds(meter.ns()),
        failed: first.map(|(_, told)| told.failed.iter().cloned().collect()).unwrap_or_default(),
        trial: first.map(|(seed, _)| reports::trial_stem(*seed, asked.is_mutated(*seed))),
        situations,
    };
    std::fs::write(path, serde_json::to_vec(&brief)?).with_context(|| format!("{} cannot be written", path.display()))
}

/// Wall time after which a trial counts as hung. One of a store takes a second at most and the standard one of an orchestrator
/// half a minute, with its twin twice as long; this leaves room for a loaded machine.
pub fn hung_after(config: &Config) -> Duration {
    let pods = config.cluster.as_ref().map_or(0, |cluster| cluster.pods);
    Duration::from_secs(300) + Duration::from_secs(10) * pods
}

/// Adds up what the workers said, prints it, with what a guided run came to, and writes the report to `out`, if that is given.
///
/// # Errors
/// A report that cannot be written.
pub fn conclude(
    out: Option<&Path>,
    json: bool,
    asked: &Asked,
    guided: Option<Guided>,
    results: &BTreeMap<u64, Told>,
) -> anyhow::Result<Exit> {
    let mut summary = Summary { guided, ..Summary::default() };
    results.values().for_each(|told| summary.merge(&told.summary));
    let orchestrates = summary.clusters.is_some();
    let expected =
        MARKS.iter().filter(|(_, place)| orchestrates || STORE_FOLDERS.iter().any(|it| place.starts_with(it)));
    summary.expect_marks(expected.map(|(text, _)| *text));
    print(&summary, json);
    if let Some(out) = out {
        let page = report::write(out, asked, &summary)?;
        // With --json stdout is for machines alone.
        if json { eprintln!("report: {}", page.display()) } else { println!("report: {}", page.display()) }
    }
    Ok(if asked.interrupted { Exit::of_some(&summary) } else { Exit::of(&summary) })
}

/// As tables, in colour on a terminal, or as JSON.
pub fn print(summary: &Summary, json: bool) {
    if json {
        println!("{}", summary.json());
    } else {
        println!("{}", summary.tables(std::io::stdout().is_terminal()));
    }
}

/// What is said of a trial whose worker did not come back, which is left as a file if no seed repeats it.
pub fn died(job: &Job, why: &str) -> Told {
    let (why, name, repeat) = (why.replace('\n', " "), job.name(), job.repeat());
    let left = job.leave(CRASH).err().map(|error| format!(" (and it is lost: {error:#})")).unwrap_or_default();
    Told {
        summary: Summary::crashed(job.seed),
        failed: BTreeSet::from([CRASH.to_owned()]),
        headline: Some(format!("{CRASH} of {name}: {why}; repeat it with: {repeat}{left}")),
        situations: BTreeSet::new(),
    }
}

/// Runs the trials that come in as lines until there are no more.
///
/// # Errors
/// Lines that are no jobs.
pub fn worker() -> anyhow::Result<()> {
    pool::work(attempt)
}

fn attempt(job: &Job) -> anyhow::Result<Told> {
    let begun_ns = machine::cpu_ns();
    // In a run a trial goes by its place there, which is its seed unless it was made of another one.
    let record = Record { seed: job.seed, ..trial::judged(job.trial()).record };
    let mut summary = Summary::of(&record, machine::cpu_ns() - begun_ns);
    let situations = if job.curious { reports::situations(&record) } else { BTreeSet::new() };
    let mut headline = Failure::first_of(&record).map(|failure| failure.line(&job.name(), &job.repeat()));
    if let Some(line) = &mut headline
        && !keep(job, record.log_hash)?
    {
        line.push_str(" (and running it again gave another log)");
        summary.merge(&Summary::diverged(job.seed));
    }
    Ok(Told { summary, failed: trial::failed(&record), headline, situations })
}

/// Runs a failed trial again and writes its record and log, and itself if no seed repeats it. Whether it went the same way.
fn keep(job: &Job, log_hash: u64) -> anyhow::Result<bool> {
    let mut again = job.trial();
    again.keep_log = true;
    let judged = trial::judged(again);
    job.leave(&trial::gravest(&judged.record).unwrap_or_default())?;
    write(&job.out, &job.stem(), &judged.record, judged.log.as_deref())?;
    Ok(judged.record.log_hash == log_hash)
}

/// Writes `STEM.json` and `STEM.log`.
///
/// # Errors
/// The folder cannot be made, or they cannot be written.
pub fn write(out: &Path, stem: &str, record: &Record, log: Option<&str>) -> anyhow::Result<()> {
    debug_assert_eq!(record.build, BUILD, "a record names its build");
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let path = out.join(format!("{stem}.json"));
    record::write(&path, record).with_context(|| format!("{} cannot be written", path.display()))?;
    if let Some(log) = log {
        let path = out.join(format!("{stem}.log"));
        std::fs::write(&path, log).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay;
    use faults::{Fault, Kind, Target, What, When};
    use std::fs;

    const SECOND_NS: u64 = 1_000_000_000;

    /// A trial in the place of seed 9 that was made of that of seed 2, for a folder of its own.
    fn job(name: &str) -> Job {
        let out = std::env::temp_dir().join(format!("seatrial-run-{name}-{}", std::process::id()));
        let store = sim::scenario(trial::STORE).expect("there is one");
        let (faults_ns, calm_ns) = (15 * SECOND_NS, 15 * SECOND_NS);
        let config = Config { one_more_permille: 0, faults_ns, calm_ns, ..store };
        let what = What::PowerLoss { target: Target::Members(vec![0, 1, 2]) };
        let outage =
            Fault { id: 1, kind: Kind::PowerLoss, when: When::At(10 * SECOND_NS), for_ns: SECOND_NS / 5, what };
        let parent = trial::case_of(sim::trial(config.clone(), 2));
        let given = Some(Case { faults: vec![outage], ..parent });
        Job { given, curious: true, ..Job::of_seed(&config, 9, &out) }
    }

    fn files(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_failing_trial_that_no_seed_repeats_is_left_as_a_file_that_does_and_that_no_seed_has() {
        let mut job = Job { canary: true, ..job("left") };
        let mut given = job.given.take().expect("it has one");
        let told = (2..20).find_map(|seed| {
            given = Case { seed, executor_seed: seed, ..given.clone() };
            job.given = Some(given.clone());
            Some(attempt(&job).expect("a folder")).filter(|told| told.headline.is_some())
        });
        let told = told.expect("a store on disks that lie fails in one of them");
        let path = job.out.join("guided-9.toml");
        let (left, case) = (files(&job.out), Case::read(&path).expect("a case"));
        let (again, recorded) = replay::given(&job.out.join("guided-9.json")).expect("a record");
        let page = report::write(
            &job.out,
            &Asked { mutated: Some(Seeds::of([9])), folder: job.out.display().to_string(), ..Asked::default() },
            &told.summary,
        );
        let page = fs::read_to_string(page.expect("a folder")).expect("a page");
        fs::remove_dir_all(&job.out).expect("it is there");
        assert_eq!(left, ["guided-9.json", "guided-9.log", "guided-9.toml"].map(String::from).into());
        assert!(told.failed.contains(&case.fails), "{} is not of {:?}", case.fails, told.failed);
        assert_eq!(Case { fails: String::new(), ..case }, given);
        assert_eq!(recorded.expect("a record").seed, given.seed);
        assert_eq!((again.seed, again.schedule.faults), (given.seed, given.faults));
        let line = told.headline.expect("it failed");
        assert!(line.contains(" of guided trial 9: "), "{line}");
        assert!(line.ends_with(&format!("repeat it with: cargo trial replay {}", path.display())), "{line}");
        assert_eq!(told.summary.failures[0].seed, 9);
        assert!(page.contains(&format!("cargo trial replay {}", path.display())), "{page}");
        assert!(told.situations.contains("power-loss of leader in calm"), "{:?}", told.situations);
    }

    #[test]
    fn a_worker_that_dies_over_what_no_seed_repeats_leaves_it_too() {
        let job = job("died");
        let told = died(&job, "the worker\nwas ended by signal 9");
        let (left, case) = (files(&job.out), Case::read(&job.out.join("guided-9.toml")).expect("a case"));
        fs::remove_dir_all(&job.out).expect("it is there");
        assert_eq!(left, BTreeSet::from(["guided-9.toml".to_owned()]));
        assert_eq!(case, Case { fails: CRASH.to_owned(), ..job.given.clone().expect("it has one") });
        let line = told.headline.expect("it failed");
        assert!(
            line.starts_with("crash of guided trial 9: the worker was ended by signal 9; repeat it with: "),
            "{line}"
        );
        let of_seed = Job { given: None, ..job };
        let told = died(&of_seed, "gone");
        assert!(!of_seed.out.exists(), "a seed needs no file");
        assert!(
            told.headline
                .expect("it failed")
                .contains("crash of seed 9: gone; repeat it with: cargo trial replay --seed 9")
        );
    }
}
