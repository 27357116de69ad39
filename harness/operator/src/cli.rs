//! The program of an operator's trials, as `cargo trial operator` calls it.

use crate::Subject;
use crate::process;
use crate::report;
use crate::trials::{Plan, Trials};
use crate::users;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use record::OperatorOrders;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Exit codes, as those of `cargo trial`.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// What was to come did not come.
const LIVENESS: u8 = 11;

/// Tries the operator as `cargo trial operator` asks, whose exit codes it has.
pub fn main(subject: Subject) -> ExitCode {
    let steps = match users::parse(subject.users) {
        Ok(steps) => steps,
        Err(why) => {
            eprintln!("error: what users do cannot be read: {why}");
            return ExitCode::from(USAGE);
        }
    };
    let argument = std::env::args().nth(1).unwrap_or_default();
    if let Some(one) = process::of(&argument) {
        return one.play(subject, steps.into());
    }
    let Ok(orders) = serde_json::from_str::<OperatorOrders>(&argument) else {
        eprintln!("error: this is run by `cargo trial operator --manifest-path FILE --bin {}`", subject.name);
        return ExitCode::from(USAGE);
    };
    process::fix_addresses();
    let tried = Trials::new().map_err(anyhow::Error::msg).and_then(|trials| match &orders.plan {
        Some(path) => replay(&trials, path, orders.json),
        None => run(subject, &trials, &orders),
    });
    tried.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn run(subject: Subject, trials: &Trials, orders: &OperatorOrders) -> anyhow::Result<ExitCode> {
    let OperatorOrders { seed, seeds, strikes, jobs, out, json, called, plan: _ } = orders;
    fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    if !json {
        println!("{}\n", report::undisturbed(subject.name, trials));
    }
    let bar = ProgressBar::new(*seeds);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} trials, {msg} failed, {eta} left") {
        bar.set_style(style);
    }
    bar.set_message("0");
    let failed = AtomicU64::new(0);
    let sum = trials.run(*seed..seed.saturating_add(*seeds), strikes, *jobs, |judged| {
        if !judged.wrong.is_empty() {
            bar.set_message((failed.fetch_add(1, Ordering::Relaxed) + 1).to_string());
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    let sum = sum.map_err(anyhow::Error::msg)?;
    for finding in &sum.findings {
        let path = report::file(out, finding);
        let text = toml::to_string(&finding.small).context("a plan has a form in TOML")?;
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    println!("{}", if *json { report::json(subject.name, &sum)? } else { report::table(&sum, out, called) });
    Ok(if sum.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(LIVENESS) })
}

/// Runs the trial of a file and prints what happened.
fn replay(trials: &Trials, path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let plan: Plan = toml::from_str(&text).with_context(|| format!("{} is no plan of a trial", path.display()))?;
    let (judged, ran) = trials.judge(&plan).map_err(anyhow::Error::msg)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&judged)?);
    } else {
        ran.iter().flat_map(|ran| &ran.log).for_each(|line| println!("{line}"));
        judged.wrong.iter().for_each(|line| println!("{line}"));
        if judged.wrong.is_empty() {
            println!("it came to what it comes to undisturbed");
        }
    }
    Ok(if judged.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(LIVENESS) })
}
