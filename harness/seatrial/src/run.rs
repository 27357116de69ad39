//! `run`: many seeds in worker processes, and one summary of them; `worker`: what those processes do.
//!
//! ```text
//! seeds -> pool -> worker: run, judge; if it failed, run again with its log and write both
//!       <- Result { summary of one trial, failures }  -> lines for people, summary of all -> table, report, exit code
//! ```
//!
//! Ctrl-C ends it early: workers are stopped, and what was done so far is concluded as ever.
//!
//! **Invariant:** the summary does not depend on the order in which workers answer: results are added by seed.

use crate::cli::{self, Run};
use crate::exit::Exit;
use crate::pool::{self, Crew, Done, Meter};
use crate::trial::{self, BUILD, CRASH, Clock};
use crate::{MARKS, interrupt, machine, report};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use record::Config;
use reports::{Run as Asked, Seeds, Summary};
use serde::{Deserialize, Serialize};
use sim::DiskLies;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where the marks are that a trial of a store alone can reach.
const STORE_FOLDERS: [&str; 3] = ["cluster/raft/", "cluster/rt/", "cluster/store/"];

/// A trial asked of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its seed.
    pub seed: u64,
    /// What it is made of.
    pub config: Config,
    /// Where the record and the log go if it fails.
    pub out: PathBuf,
    /// Whether it is the one that must fail.
    pub canary: bool,
}

/// By what a canary fails: neither content nor names are kept without power, whatever was synced. Where content alone is
/// lost, members find out and refuse to start.
pub const CANARY_LIES: DiskLies = DiskLies { synced_is_lost: true, synced_names_are_lost: true, ..DiskLies::NONE };

impl Job {
    fn trial(&self) -> sim::Trial {
        let disk_lies = if self.canary { CANARY_LIES } else { DiskLies::NONE };
        sim::Trial { disk_lies, ..sim::trial(self.config.clone(), self.seed) }
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
    /// Its seed.
    pub seed: Option<u64>,
}

/// Runs the trials and prints what came of them.
///
/// # Errors
/// A machine that cannot start workers or take files.
pub fn run(arguments: &Run) -> anyhow::Result<Exit> {
    let config = match trial::config(&arguments.setting) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(Exit::USAGE);
        }
    };
    let seeds = arguments.seeds();
    let jobs = seeds
        .clone()
        .map(|seed| (seed, Job { seed, config: config.clone(), out: arguments.out.clone(), canary: false }));
    let program = machine::this_program()?;
    let worker = || machine::worker(&program, "worker");
    let (begun, stop) = (Begun::now(), interrupt::listen());
    let bar = progress(seeds.end - seeds.start);
    let mut results = BTreeMap::new();
    let crew = Crew { slots: cli::jobs(arguments.jobs), hung_after: hung_after(&config), stop };
    let meter = Meter::default();
    let spent = || arguments.budget.is_some_and(|budget| meter.ns() >= budget * 1_000_000_000);
    pool::run_metered(worker, crew, &meter, jobs, |seed, done| {
        bar.inc(1);
        let told = match done {
            Done::Answered(told) => told,
            Done::Died(why) => crashed(&config, seed, &why),
        };
        if let Some(line) = &told.headline {
            // With --json stdout is for machines alone.
            bar.suspend(|| if arguments.json { eprintln!("{line}") } else { println!("{line}") });
        }
        let stop = (arguments.until_failure && told.headline.is_some()) || spent();
        results.insert(seed, told);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .context("a worker cannot be started")?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.brief {
        brief(path, &results, &meter)?;
    }
    let asked = seeds.end - seeds.start;
    // A signal that came when everything was done interrupted nothing.
    let interrupted = stop.load(Ordering::Relaxed) && (results.len() as u64) < asked;
    let asked = Asked { asked, interrupted, ..begun.asked(&config, &arguments.out, &results) };
    let out = arguments.brief.is_none().then_some(arguments.out.as_path());
    conclude(out, arguments.json, &asked, &results)
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
        }
    }
}

/// Writes what the board of mutants wants to know.
fn brief(path: &Path, results: &BTreeMap<u64, Told>, meter: &Meter) -> anyhow::Result<()> {
    let first = results.iter().find(|(_, told)| !told.failed.is_empty());
    let brief = Brief {
        trials: results.len() as u64,
        cpu_s: trial::seconds(meter.ns()),
        failed: first.map(|(_, told)| told.failed.iter().cloned().collect()).unwrap_or_default(),
        seed: first.map(|(seed, _)| *seed),
    };
    std::fs::write(path, serde_json::to_vec(&brief)?).with_context(|| format!("{} cannot be written", path.display()))
}

/// Wall time after which a trial counts as hung. One of a store takes a second at most and the standard one of an orchestrator
/// half a minute, with its twin twice as long; this leaves room for a loaded machine.
pub fn hung_after(config: &Config) -> Duration {
    let pods = config.cluster.as_ref().map_or(0, |cluster| cluster.pods);
    Duration::from_secs(300) + Duration::from_secs(10) * pods
}

/// Adds up what the workers said, prints it and writes the report to `out`, if that is given.
///
/// # Errors
/// A report that cannot be written.
pub fn conclude(out: Option<&Path>, json: bool, asked: &Asked, results: &BTreeMap<u64, Told>) -> anyhow::Result<Exit> {
    let mut summary = Summary::default();
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

/// On stderr, and only on a terminal.
fn progress(trials: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} trials, {elapsed} gone, {eta} to go");
    let bar = ProgressBar::new(trials);
    // The template is a literal that is seen to be good whenever there is a terminal; without a style there is still a bar.
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

/// What is said of a seed whose worker did not come back.
pub fn crashed(config: &Config, seed: u64, why: &str) -> Told {
    let (why, repeat) = (why.replace('\n', " "), trial::repeat(config, seed));
    Told {
        summary: Summary::crashed(seed),
        failed: BTreeSet::from([CRASH.to_owned()]),
        headline: Some(format!("{CRASH} of seed {seed}: {why}; repeat it with: {repeat}")),
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
    let judged = trial::judged(job.trial());
    let mut summary = Summary::of(&judged.record, machine::cpu_ns() - begun_ns);
    let failed = trial::failed(&judged.record);
    let mut headline = reports::failure_line(&judged.record, &trial::repeat(&job.config, job.seed));
    if let Some(line) = &mut headline
        && !keep(job, judged.record.log_hash)?
    {
        line.push_str(" (and running it again gave another log)");
        summary.merge(&Summary::diverged(job.seed));
    }
    Ok(Told { summary, failed, headline })
}

/// Runs a failed trial again and writes its record and log. Whether it went the same way.
fn keep(job: &Job, log_hash: u64) -> anyhow::Result<bool> {
    let mut again = job.trial();
    again.keep_log = true;
    let judged = trial::judged(again);
    write(&job.out, &judged.record, judged.log.as_deref())?;
    Ok(judged.record.log_hash == log_hash)
}

/// Writes `SEED.json` and `SEED.log`.
///
/// # Errors
/// The folder cannot be made, or they cannot be written.
pub fn write(out: &Path, record: &record::Record, log: Option<&str>) -> anyhow::Result<()> {
    debug_assert_eq!(record.build, BUILD, "a record names its build");
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let path = out.join(format!("{}.json", record.seed));
    record::write(&path, record).with_context(|| format!("{} cannot be written", path.display()))?;
    if let Some(log) = log {
        let path = out.join(format!("{}.log", record.seed));
        std::fs::write(&path, log).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
