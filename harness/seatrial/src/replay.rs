//! `replay`: one trial again, compared with what its record says of it.

use crate::cli::{Log, Replay};
use crate::exit::Exit;
use crate::trial::{self, BUILD, Judged};
use anyhow::Context;
use record::Record;
use std::path::{Path, PathBuf};

/// Runs it again, says what came of it, and writes the whole log.
///
/// # Errors
/// The log cannot be written.
pub fn replay(arguments: &Replay) -> anyhow::Result<Exit> {
    let (trial, recorded) = match asked(arguments) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(Exit::Usage);
        }
    };
    let (config, seed) = (trial.config.clone(), trial.seed);
    let Judged { record, log, .. } = trial::judged(sim::Trial { keep_log: true, ..trial });
    let path = arguments.log.clone().unwrap_or_else(|| PathBuf::from(format!("target/trials/{seed}.log")));
    write_log(&path, &log.unwrap_or_default())?;
    let failures = trial::failures(&record);
    for failure in &failures {
        println!("{}", trial::headline(failure, seed, &trial::repeat(&config, seed)));
    }
    print_verdicts(&record);
    println!("the whole log: {}", path.display());
    if let Some(difference) = recorded.and_then(|recorded| difference(&recorded, &record)) {
        println!("{difference}");
        return Ok(Exit::Divergence);
    }
    Ok(failures.first().map_or(Exit::Held, |failure| failure.exit))
}

/// Writes a trial's log and nothing else.
///
/// # Errors
/// The log cannot be written.
pub fn log(arguments: &Log) -> anyhow::Result<Exit> {
    let config = trial::config(&arguments.setting).map_err(anyhow::Error::msg)?;
    let mut trial = sim::trial(config, arguments.seed);
    trial.keep_log = true;
    write_log(&arguments.out, &sim::run(trial).log.unwrap_or_default())?;
    Ok(Exit::Held)
}

/// The trial asked for, and its record if that is what was given. The error is one sentence.
fn asked(arguments: &Replay) -> Result<(sim::Trial, Option<Record>), String> {
    let Some(path) = &arguments.record else {
        let seed = arguments.seed.ok_or("give a record or a seed")?;
        return Ok((sim::trial(trial::config(&arguments.setting)?, seed), None));
    };
    let recorded = record::read(path, BUILD).map_err(|error| error.to_string())?;
    let mut trial = sim::trial(recorded.config.clone(), recorded.seed);
    trial.executor_seed = recorded.executor_seed;
    trial.schedule = recorded.schedule.clone();
    Ok((trial, Some(recorded)))
}

fn write_log(path: &Path, log: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, log))
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn print_verdicts(record: &Record) {
    for verdict in &record.verdicts {
        let guaranteed = verdict.guarantee.guaranteed();
        let result = match (verdict.violations.len(), verdict.tested) {
            (0, 0) => "vacuous".to_owned(),
            (0, tested) => format!("held, tested {tested} times"),
            (failed, tested) => format!("FAILED {failed} times, tested {tested} times"),
        };
        println!("{:<4} {result}: {}", guaranteed.id, guaranteed.text);
    }
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
