//! `run`: many seeds in worker processes, and one summary of them; `worker`: what those processes do.
//!
//! ```text
//! seeds -> pool -> worker: run, judge; if it failed, run again with its log and write both
//!       <- Result { summary of one trial, failures }  -> lines for people, summary of all -> table, exit code
//! ```
//!
//! **Invariant:** the summary does not depend on the order in which workers answer: results are added by seed.

use crate::cli::{self, Run};
use crate::exit::Exit;
use crate::pool::{self, Answer, Done};
use crate::trial::{self, BUILD};
use crate::{machine, mutants};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use record::Config;
use reports::Summary;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seeds from which on a guarantee that was never tested fails the run: fewer may miss it by chance.
const VACUOUS_FROM: u64 = 100;

/// A trial asked of a worker.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    seed: u64,
    config: Config,
    /// Where the record and the log go if it fails.
    out: PathBuf,
}

/// What a worker says of a trial.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    summary: Summary,
    /// Names of what failed, each once.
    failed: BTreeSet<String>,
    /// The line for people, if it failed.
    headline: Option<String>,
    exit: Exit,
    cpu_ns: u64,
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
            return Ok(Exit::Usage);
        }
    };
    let seeds = arguments.seeds();
    let jobs = seeds.clone().map(|seed| (seed, Job { seed, config: config.clone(), out: arguments.out.clone() }));
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let worker = || {
        let mut command = Command::new(&program);
        command.arg("worker");
        command
    };
    let bar = progress(seeds.end - seeds.start);
    let mut results = BTreeMap::new();
    pool::run(worker, cli::jobs(arguments.jobs), jobs, |seed, done| {
        bar.inc(1);
        let told = match done {
            Done::Answered(told) => told,
            Done::Died(why) => crashed(&config, seed, &why),
        };
        if let Some(line) = &told.headline {
            // With --json stdout is for machines alone.
            bar.suspend(|| if arguments.json { eprintln!("{line}") } else { println!("{line}") });
        }
        let stop = arguments.until_failure && told.exit != Exit::Held;
        results.insert(seed, told);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .context("a worker cannot be started")?;
    bar.finish_and_clear();
    conclude(arguments, &results)
}

/// Adds up what the workers said and prints it.
fn conclude(arguments: &Run, results: &BTreeMap<u64, Told>) -> anyhow::Result<Exit> {
    let mut summary = Summary::default();
    for told in results.values() {
        summary.merge(&told.summary);
    }
    if arguments.json {
        println!("{}", summary.json());
    } else {
        println!("{}", summary.table());
    }
    if let Some(path) = &arguments.brief {
        let brief = brief(results);
        std::fs::write(path, serde_json::to_vec(&brief)?).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(exit(results, &summary))
}

/// The gravest of the trials' results; if all held, whether each guarantee was put to the test.
fn exit(results: &BTreeMap<u64, Told>, summary: &Summary) -> Exit {
    let gravest = results.values().map(|told| told.exit).filter(|exit| *exit != Exit::Held).min_by_key(|exit| exit.code());
    let vacuous = results.len() as u64 >= VACUOUS_FROM && !summary.vacuous().is_empty();
    gravest.unwrap_or(if vacuous { Exit::Vacuous } else { Exit::Held })
}

fn brief(results: &BTreeMap<u64, Told>) -> Brief {
    let first = results.values().find(|told| !told.failed.is_empty());
    Brief {
        trials: results.len() as u64,
        cpu_s: results.values().map(|told| told.cpu_ns).sum::<u64>() as f64 / 1e9,
        failed: first.map(|told| told.failed.iter().cloned().collect()).unwrap_or_default(),
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
fn crashed(config: &Config, seed: u64, why: &str) -> Told {
    let why = why.replace('\n', " ");
    Told {
        summary: Summary::crashed(seed),
        failed: BTreeSet::from([mutants::CRASH.to_owned()]),
        headline: Some(format!("crash of seed {seed}: {why}; repeat it with: {}", trial::repeat(config, seed))),
        exit: Exit::Crash,
        cpu_ns: 0,
    }
}

/// Runs the trials that come in as lines until there are no more.
///
/// # Errors
/// Lines that are no jobs.
pub fn worker() -> anyhow::Result<()> {
    machine::end_with_parent().context("this worker cannot be tied to its parent")?;
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in input.lines() {
        let job: Job = serde_json::from_str(&line?).context("not a job")?;
        let answer = Answer { rss_bytes: machine::rss_bytes(), result: attempt(&job)? };
        serde_json::to_writer(&mut output, &answer)?;
        writeln!(output)?;
        output.flush()?;
    }
    Ok(())
}

fn attempt(job: &Job) -> anyhow::Result<Told> {
    let begun_ns = machine::cpu_ns();
    let judged = trial::judged(sim::trial(job.config.clone(), job.seed));
    let cpu_ns = machine::cpu_ns() - begun_ns;
    let failures = trial::failures(&judged.record);
    let summary = Summary::of(&judged.record, cpu_ns);
    let Some(first) = failures.first() else {
        return Ok(Told { summary, failed: BTreeSet::new(), headline: None, exit: Exit::Held, cpu_ns });
    };
    let headline = trial::headline(first, job.seed, &trial::repeat(&job.config, job.seed));
    let (headline, exit) = match keep(job, judged.record.log_hash)? {
        true => (headline, first.exit),
        false => (format!("{headline} (and running it again gave another log)"), Exit::Divergence),
    };
    let failed = failures.into_iter().map(|failure| if failure.exit == Exit::Crash { mutants::CRASH.to_owned() } else { failure.name });
    Ok(Told { summary, failed: failed.collect(), headline: Some(headline), exit, cpu_ns })
}

/// Runs a failed trial again and writes its record and log. Whether it went the same way.
fn keep(job: &Job, log_hash: u64) -> anyhow::Result<bool> {
    let mut again = sim::trial(job.config.clone(), job.seed);
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
