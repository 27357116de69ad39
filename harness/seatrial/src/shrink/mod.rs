//! `shrink`: a failing trial becomes the smallest that fails still, in a file that repeats it.
//!
//! ```text
//! record -> Case -> reduce: smaller cases, one after the other -> workers: each under several orders of ready tasks
//!                     ^------ the same guarantee fails: it is the best so far, and on disk at once ------v
//! ```

mod reduce;

use crate::cli::{self, Shrink};
use crate::exit::Exit;
use crate::pool::{self, Crew, Done};
use crate::trial::{self, BUILD, CRASH};
use crate::{machine, replay, run};
use anyhow::Context;
use faults::Ns;
use indicatif::{ProgressBar, ProgressStyle};
use record::{CASE_FORMAT, Case, Config};
use reduce::{Attempt, Stop};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Shrinks a trial and says what is left of it.
///
/// # Errors
/// A machine that cannot start workers or take files.
pub fn shrink(arguments: &Shrink) -> anyhow::Result<Exit> {
    let (case, failed_ns) = match failing(&arguments.record, arguments.guarantee.as_ref()) {
        Ok(failing) => failing,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(Exit::USAGE);
        }
    };
    let out = arguments.out.clone().unwrap_or_else(|| arguments.record.with_extension("toml"));
    let mut shrinking = Shrinking {
        program: machine::this_program()?,
        slots: cli::jobs(arguments.jobs),
        orders: arguments.orders,
        tries_left: arguments.tries,
        out: out.clone(),
        bar: bar(),
    };
    let Some(first) = shrinking.fails(&case)? else {
        shrinking.bar.finish_and_clear();
        println!("{} does not fail when this trial is run again: nothing to shrink", case.fails);
        return Ok(Exit::DIVERGENCE);
    };
    let case = Case { executor_seed: first, ..case };
    shrinking.keep(&case, "as it was")?;
    let begun = case.clone();
    let (best, stopped) = reduce::reduce(case, failed_ns, &mut shrinking);
    shrinking.bar.finish_and_clear();
    let ended = match stopped {
        Ok(()) => "no part of it can be left out",
        Err(Stop::Spent) => "more tries might make it smaller still (--tries)",
        Err(Stop::Failed(error)) => return Err(error),
    };
    print!("{}", comparison(&begun, &best));
    println!("{} tries; {ended}", arguments.tries - shrinking.tries_left);
    println!("repeat it with: cargo trial replay {}", out.display());
    Ok(Exit::HELD)
}

/// The failing trial that a file holds, what fails in it (what was asked for, or what failed first and gravest), and when that
/// showed first, if the file tells. The error is one sentence.
pub fn failing(path: &Path, asked: Option<&String>) -> Result<(Case, Option<Ns>), String> {
    if replay::is_case(path) {
        let case = Case::read(path).map_err(|error| error.to_string())?;
        let fails = asked.cloned().unwrap_or_else(|| case.fails.clone());
        if fails.is_empty() {
            return Err(format!("{} does not say what fails in it; say so with --guarantee", path.display()));
        }
        return Ok((Case { fails, ..case }, None));
    }
    let record = record::read(path, BUILD).map_err(|error| error.to_string())?;
    let failed = trial::failed(&record);
    let fails = match (asked, trial::gravest(&record)) {
        (_, None) => return Err(format!("nothing failed in {}: there is nothing to look for", path.display())),
        (None, Some(gravest)) => gravest,
        (Some(asked), Some(_)) => {
            let known = failed.iter().find(|name| name.eq_ignore_ascii_case(asked));
            let all: Vec<&str> = failed.iter().map(String::as_str).collect();
            let unknown = || format!("{asked} did not fail in {}; what did is {}", path.display(), all.join(", "));
            known.ok_or_else(unknown)?.clone()
        }
    };
    let failed_ns = trial::failed_ns(&record, &fails);
    let case = Case {
        format: CASE_FORMAT,
        fails,
        seed: record.seed,
        executor_seed: record.executor_seed,
        twin: record.cluster.twin.is_some(),
        // What a scenario's file says of faults has become faults.
        config: Config { rules: None, ..record.config },
        faults: record.schedule.faults,
    };
    Ok((case, failed_ns))
}

struct Shrinking {
    program: PathBuf,
    slots: usize,
    orders: u64,
    tries_left: u32,
    out: PathBuf,
    bar: ProgressBar,
}

impl Attempt for Shrinking {
    fn attempt(&mut self, case: &Case, change: &str) -> Result<Option<u64>, Stop> {
        self.tries_left = self.tries_left.checked_sub(1).ok_or(Stop::Spent)?;
        self.bar.set_message(format!("{} left; trying: {change}", self.tries_left));
        let failed = self.fails(case).map_err(Stop::Failed)?;
        if let Some(executor_seed) = failed {
            self.keep(&Case { executor_seed, ..case.clone() }, change).map_err(Stop::Failed)?;
        }
        Ok(failed)
    }
}

impl Shrinking {
    /// The order of ready tasks in which what is to fail does, of those that are tried: the known one, and a few more.
    fn fails(&self, case: &Case) -> anyhow::Result<Option<u64>> {
        let orders = (0..self.orders).map(|n| case.executor_seed.wrapping_add(n));
        let jobs = orders.map(|executor_seed| (executor_seed, Case { executor_seed, ..case.clone() }));
        let worker = || machine::command(&self.program, "attempt");
        // Ctrl-C ends this process and with it its workers: the best so far is on disk.
        let (hung_after, stop) = (HUNG.max(run::hung_after(&case.config)), AtomicBool::new(false));
        let crew = Crew { slots: self.slots, hung_after, stop: &stop };
        let mut found: Option<u64> = None;
        pool::run(worker, crew, jobs, |executor_seed, done: Done<BTreeSet<String>>| {
            let fails = match done {
                Done::Answered(failed) => failed.contains(&case.fails),
                Done::Died(_) => case.fails == CRASH,
            };
            if fails {
                found = Some(found.map_or(executor_seed, |known| known.min(executor_seed)));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
        .context("a worker cannot be started")?;
        Ok(found)
    }

    /// Puts the best so far on disk and says what it is.
    fn keep(&self, best: &Case, change: &str) -> anyhow::Result<()> {
        best.write(&self.out).with_context(|| format!("{} cannot be written", self.out.display()))?;
        let line = format!("{} still fails with {}: {change}", best.fails, size(best));
        self.bar.suspend(|| eprintln!("{line}"));
        Ok(())
    }
}

/// A worker that is given trials answers after this long at the latest.
const HUNG: Duration = Duration::from_secs(300);

/// Runs the trials that come in as lines and tells what failed in each.
///
/// # Errors
/// Lines that are no trials.
pub fn worker() -> anyhow::Result<()> {
    pool::work(|case: &Case| Ok(trial::failed(&trial::judged(trial::of_case(case)).record)))
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {elapsed} gone, {msg}");
    // The template is a literal that is seen to be good whenever there is a terminal.
    let bar = if let Ok(style) = style { bar.with_style(style) } else { bar };
    if std::io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

/// How large a trial is, in a few words.
fn size(case: &Case) -> String {
    let kinds: BTreeSet<_> = case.faults.iter().map(|fault| fault.kind).collect();
    let config = &case.config;
    let seconds = trial::seconds(config.faults_ns + config.calm_ns);
    let pods = config.cluster.as_ref().map(|it| format!(", {} nodes, {} pods", it.nodes, it.pods)).unwrap_or_default();
    format!("{} faults of {} kinds, {seconds:.0} s, {} operations/s{pods}", case.faults.len(), kinds.len(), config.rate)
}

/// What it was and what it is, and each fault that is left.
fn comparison(begun: &Case, best: &Case) -> String {
    let mut text = format!("from {}\nto   {}\n", size(begun), size(best));
    for fault in &best.faults {
        text += &format!(
            "  {:<20} at {:.3} s for {:.3} s: {:?}\n",
            fault.kind.name(),
            trial::seconds(fault.when.earliest()),
            trial::seconds(fault.for_ns),
            fault.what
        );
    }
    text
}
