//! `replay`: one trial again, compared with what its record says of it.

use crate::cli::{Log, Replay};
use crate::exit::Exit;
use crate::trial::{self, BUILD, Judged};
use anyhow::Context;
use record::{Case, Record};
use reports::Summary;
use std::path::{Path, PathBuf};

/// Runs it again, says what came of it, and writes the whole log and, if asked for, the timeline.
///
/// # Errors
/// One of them cannot be written.
pub fn replay(arguments: &Replay) -> anyhow::Result<Exit> {
    let (trial, recorded) = match asked(arguments) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(Exit::USAGE);
        }
    };
    let (config, seed) = (trial.config.clone(), trial.seed);
    let Judged { record, log, .. } = trial::judged(sim::Trial { keep_log: true, ..trial });
    let path = arguments.log.clone().unwrap_or_else(|| PathBuf::from(format!("target/trials/{seed}.log")));
    write_log(&path, &log.unwrap_or_default())?;
    let repeat = match &arguments.record {
        Some(path) => format!("cargo trial replay {}", path.display()),
        None => trial::repeat(&config, seed),
    };
    if let Some(line) = reports::failure_line(&record, &repeat) {
        println!("{line}");
    }
    verdicts(&record).iter().for_each(|line| println!("{line}"));
    println!("the whole log: {}", path.display());
    if let Some(path) = &arguments.html {
        record::write_whole(path, reports::trial_page(&record, &repeat).as_bytes())
            .with_context(|| format!("{} cannot be written", path.display()))?;
        println!("its timeline: {}", path.display());
    }
    if let Some(difference) = recorded.and_then(|recorded| difference(&recorded, &record)) {
        println!("{difference}");
        return Ok(Exit::DIVERGENCE);
    }
    Ok(Exit::of(&Summary::of(&record, 0)))
}

/// Writes a trial's log and nothing else.
///
/// # Errors
/// The simulator panicked, or the log cannot be written.
pub fn log(arguments: &Log) -> anyhow::Result<Exit> {
    let config = trial::config(&arguments.setting).map_err(anyhow::Error::msg)?;
    write_log(&arguments.out, &log_of(sim::trial(config, arguments.seed))?)?;
    Ok(Exit::HELD)
}

/// The whole log of a trial.
///
/// # Errors
/// The simulator panicked.
pub fn log_of(trial: sim::Trial) -> anyhow::Result<String> {
    let outcome = sim::run(sim::Trial { keep_log: true, ..trial });
    let panics: Vec<&str> = outcome.record.panics.iter().map(|panic| panic.message.as_str()).collect();
    outcome.log.with_context(|| format!("the simulator itself panicked: {}", panics.join("; ")))
}

/// The trial asked for, and its record if that is what was given. The error is one sentence.
fn asked(arguments: &Replay) -> Result<(sim::Trial, Option<Record>), String> {
    let Some(path) = &arguments.record else {
        let seed = arguments.seed.ok_or("give a record or a seed")?;
        return Ok((sim::trial(trial::config(&arguments.setting)?, seed), None));
    };
    given(path)
}

/// The trial that a file holds, and its record if that is what it is. The error is one sentence.
pub fn given(path: &Path) -> Result<(sim::Trial, Option<Record>), String> {
    if is_case(path) {
        return Ok((trial::of_case(&Case::read(path).map_err(|error| error.to_string())?), None));
    }
    let recorded = record::read(path, BUILD).map_err(|error| error.to_string())?;
    let mut trial = sim::trial(recorded.config.clone(), recorded.seed);
    trial.executor_seed = recorded.executor_seed;
    trial.schedule = recorded.schedule.clone();
    Ok((trial, Some(recorded)))
}

/// Whether the file is one of a given trial rather than a record: by its name.
pub fn is_case(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn write_log(path: &Path, log: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, log))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// What was judged, a line each, with everything that was found below it.
fn verdicts(record: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    for verdict in &record.verdicts {
        let (id, text) = (verdict.guarantee, verdict.guarantee.guaranteed().text);
        let result = match (verdict.violations.len(), verdict.tested) {
            (0, 0) => "never put to the test".to_owned(),
            (0, tested) => format!("held, tested {tested} times"),
            (_, tested) => format!("FAILED, tested {tested} times"),
        };
        lines.push(format!("{:<4} {result}: {text}", id.to_string()));
        let violations = verdict.violations.iter();
        lines.extend(violations.map(|it| format!("     at {:.3} s: {}", trial::seconds(it.at_ns), it.text)));
    }
    let panics = record.panics.iter();
    lines.extend(panics.map(|it| format!("panic at {:.3} s on {}: {}", trial::seconds(it.at_ns), it.host, it.message)));
    lines
}

/// How a trial went another way than its record says, if it did.
fn difference(recorded: &Record, again: &Record) -> Option<String> {
    if recorded.log_hash == again.log_hash && recorded.checkpoints == again.checkpoints {
        return None;
    }
    let (first, second) = (&recorded.checkpoints, &again.checkpoints);
    let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
    Some(format!(
        "it went another way than its record says, first in simulated second {}: log {:016x} in the record, {:016x} now",
        same + 1,
        recorded.log_hash,
        again.log_hash
    ))
}
