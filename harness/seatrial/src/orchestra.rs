//! `real --minutes`: a whole orchestrator of real processes, judged by what can be seen of it from outside.
//!
//! ```text
//! Order ──▶ real-trial (production build): servers, agents, users, faults ──▶ Record ──▶ checkers ──▶ reports
//!                                        the simulator, with the same faults ──▶ Record ──▶ checkers ──▶ do both agree?
//! ```
//!
//! The cluster speaks TLS, which is not in the simulator build that this program is of: so another one runs it, and this one
//! judges.

use crate::cli::Real;
use crate::exit::Exit;
use crate::trial::{self, BUILD, Judged};
use crate::{cargo, machine, run};
use anyhow::{Context, bail};
use real::{NOT_JUDGED, Order, RECORD_FILE};
use record::{Config, Guarantee, Record, Verdict};
use reports::Summary;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// From look to look whether the trial is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The scenario from which the simulated store has its clients' load, so that there are some.
const LIKE: &str = "squall";

/// Runs a trial with the `seaworthy` at `program`, judges it, prints what came of it and whether the simulator agrees.
///
/// # Errors
/// A build or machine that does not work, a cluster that does not come to be ready, an interrupt.
pub fn real(arguments: &Real, minutes: u32, program: PathBuf) -> anyhow::Result<Exit> {
    let runner = cargo::build_real_trial(&cargo::root()?)?;
    let own = machine::this_program()?;
    let folder = arguments.out.join(format!("real-{}", std::process::id()));
    let config = real::config(minutes);
    let order = Order {
        program,
        before: vec![own.display().to_string(), "tether".to_owned(), "--".to_owned()],
        folder: folder.clone(),
        seed: arguments.seed,
        schedule: real::faults(&config, arguments.seed),
        config,
    };
    let begun_ns = machine::cpu_ns();
    let Some(status) = run_order(&own, &runner, &order)? else {
        fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        bail!("interrupted");
    };
    if !status.success() {
        bail!("the trial could not be run; data and logs are in {}", folder.display());
    }
    let path = folder.join(RECORD_FILE);
    let mut record = record::read(&path, "").context("the trial left no record that can be used")?;
    BUILD.clone_into(&mut record.build);
    record.verdicts = judged(&record);
    let mut summary = Summary::of(&record, machine::cpu_ns() - begun_ns);
    NOT_JUDGED.iter().for_each(|(guarantees, why)| summary.leave_out(guarantees, why));
    summary.of_real_processes(&real::KINDS);
    let say = |line: &str| {
        // With --json stdout is for machines alone.
        if arguments.json { eprintln!("{line}") } else { println!("{line}") }
    };
    let repeat = format!("cargo trial real --minutes {minutes} --seed {}", arguments.seed);
    if let Some(line) = reports::failure_line(&record, &repeat) {
        say(&line);
    }
    run::print(&summary, arguments.json);

    let simulated = simulated(&order)?;
    say(&compare(&record.verdicts, &simulated.record.verdicts));
    if let Some(line) = reports::failure_line(&simulated.record, "the same command") {
        say(&format!("in the simulator: {line}"));
    }
    let exit = match Exit::of(&summary) {
        Exit::HELD => Exit::of(&Summary::of(&simulated.record, simulated.cost.cpu_ns)),
        failed => failed,
    };
    if exit == Exit::HELD {
        fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    } else {
        record::write(&path, &record).with_context(|| format!("{} cannot be written", path.display()))?;
        eprintln!("the record, the processes' data and their logs are in {}", folder.display());
    }
    Ok(exit)
}

/// Has an order done by a process that ends with this one. How that ended; `None` after an interrupt.
fn run_order(own: &Path, runner: &Path, order: &Order) -> anyhow::Result<Option<ExitStatus>> {
    let (folder, path) = (&order.folder, order.folder.join("order.json"));
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    fs::write(&path, serde_json::to_vec(order)?).with_context(|| format!("{} cannot be written", path.display()))?;
    let mut command = Command::new(own);
    command.args(["tether", "--"]).arg(runner).arg(&path);
    // A process group of its own: an interrupt at the terminal is for this program, which then ends that one.
    let mut child = command.stdin(Stdio::null()).process_group(0).spawn().context("real-trial cannot be run")?;
    let ended = rt::task::block_on(async {
        tokio::select! {
            biased;
            () = rt::task::shutdown_signal() => None,
            ended = async {
                loop {
                    match child.try_wait() {
                        Ok(None) => rt::time::sleep(LOOK_EVERY).await,
                        ended => break ended,
                    }
                }
            } => Some(ended),
        }
    });
    match ended {
        Some(ended) => ended.context("real-trial is lost"),
        None => {
            // Its own processes end with it.
            child.kill().and_then(|()| child.wait()).context("real-trial cannot be ended")?;
            Ok(None)
        }
    }
}

/// What is judged of a trial with real processes.
fn judged(record: &Record) -> Vec<Verdict> {
    let mut verdicts = checkers::judge(record);
    verdicts.retain(|verdict| !NOT_JUDGED.iter().any(|(guarantees, _)| guarantees.contains(&verdict.guarantee)));
    verdicts
}

/// The same in the simulator: users, cluster and faults, with clients of the store besides.
fn simulated(order: &Order) -> anyhow::Result<Judged> {
    let like = sim::scenario(LIKE).with_context(|| format!("the scenario {LIKE} is gone"))?;
    let config = Config { rate: like.rate, keys: like.keys, ..order.config.clone() };
    let trial = sim::trial(Config { faults: false, ..config.clone() }, order.seed);
    Ok(trial::judged(sim::Trial { config, schedule: order.schedule.clone(), twin: false, ..trial }))
}

/// Whether the simulator says the same of each guarantee that both put to the test.
fn compare(real: &[Verdict], simulated: &[Verdict]) -> String {
    let simulated: BTreeMap<Guarantee, &Verdict> =
        simulated.iter().map(|verdict| (verdict.guarantee, verdict)).collect();
    let held = |verdict: &Verdict| verdict.violations.is_empty();
    let tested = |verdict: &&Verdict| verdict.tested > 0 || !held(verdict);
    let both = real.iter().filter(tested).filter_map(|verdict| {
        Some((verdict, *simulated.get(&verdict.guarantee).filter(|simulated| tested(simulated))?))
    });
    let both: Vec<(&Verdict, &Verdict)> = both.collect();
    let differing: Vec<String> = both
        .iter()
        .filter(|(real, simulated)| held(real) != held(simulated))
        .map(|(real, _)| {
            format!("{} {}", real.guarantee, if held(real) { "held only here" } else { "failed only here" })
        })
        .collect();
    let agree = both.len() - differing.len();
    let put = format!("agreement with the simulator: {agree} of {} guarantees that both put to the test", both.len());
    if differing.is_empty() { put } else { format!("{put}; {}", differing.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::Violation;

    fn verdict(guarantee: Guarantee, tested: u64, failed: bool) -> Verdict {
        let violation = Violation { at_ns: 1, text: "it failed".to_owned() };
        Verdict { guarantee, tested, violations: failed.then_some(violation).into_iter().collect(), largest_ns: None }
    }

    #[test]
    fn who_agrees_says_the_same_of_what_both_tested() {
        let real = [
            verdict(Guarantee::C3, 5, false),
            verdict(Guarantee::C4, 5, false),
            verdict(Guarantee::C5, 0, false),
            verdict(Guarantee::C8, 5, true),
        ];
        let simulated = [
            verdict(Guarantee::C1, 5, true),
            verdict(Guarantee::C3, 5, false),
            verdict(Guarantee::C5, 5, false),
            verdict(Guarantee::C8, 5, true),
        ];
        let all = "agreement with the simulator: 2 of 2 guarantees that both put to the test";
        assert_eq!(compare(&real, &simulated), all);
        let other = [verdict(Guarantee::C3, 1, true), verdict(Guarantee::C8, 1, false)];
        assert_eq!(
            compare(&real, &other),
            "agreement with the simulator: 0 of 2 guarantees that both put to the test; C3 held only here, C8 failed only here"
        );
    }
}
