//! One trial from its setting and seed to its judged record.

use crate::cli::Setting;
use crate::exit::Exit;
use crate::machine;
use faults::Ns;
use record::{Config, Record, Side};
use std::time::Instant;

/// What is tried if nobody says otherwise.
pub const DEFAULT_SCENARIO: &str = "store";

/// Hash of the sources that this program was built from.
pub const BUILD: &str = env!("SEATRIAL_BUILD_HASH");

/// A trial that was run and judged.
#[derive(Debug)]
pub struct Judged {
    /// With its verdicts.
    pub record: Record,
    /// The whole event log, if it was kept.
    pub log: Option<String>,
    /// What the simulation cost.
    pub cost: sim::Cost,
    /// CPU time of the checkers.
    pub checkers_ns: u64,
}

/// The configuration that a setting asks for. The error is one sentence.
pub fn config(setting: &Setting) -> Result<Config, String> {
    let mut config = sim::scenario(&setting.scenario).ok_or_else(|| {
        let names: Vec<&str> = sim::SCENARIOS.iter().map(|(name, _)| *name).collect();
        format!("there is no scenario {:?}; there are {}", setting.scenario, names.join(", "))
    })?;
    config.rate = setting.rate.unwrap_or(config.rate);
    Ok(config)
}

/// Runs the trial, which takes a thread of its own, and judges it here.
pub fn judged(trial: sim::Trial) -> Judged {
    let sim::Outcome { mut record, log, cost } = sim::run(trial);
    BUILD.clone_into(&mut record.build);
    let begun_ns = machine::cpu_ns();
    record.verdicts = checkers::judge(&record);
    let checkers_ns = machine::cpu_ns() - begun_ns;
    Judged { record, log, cost, checkers_ns }
}

/// A failure that a person reads first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it showed.
    pub at_ns: Ns,
    /// Which guarantee, or what else.
    pub name: String,
    /// What was seen.
    pub text: String,
    /// What it means for the run.
    pub exit: Exit,
}

/// What failed in a trial, the gravest kind first and then in order of time.
pub fn failures(record: &Record) -> Vec<Failure> {
    let panics = record.panics.iter().map(|panic| Failure {
        at_ns: panic.at_ns,
        name: "panic".to_owned(),
        text: format!("{} panicked: {}", panic.host, panic.message),
        exit: Exit::Crash,
    });
    let violations = record.verdicts.iter().flat_map(|verdict| {
        let guaranteed = verdict.guarantee.guaranteed();
        verdict.violations.iter().map(move |violation| Failure {
            at_ns: violation.at_ns,
            name: guaranteed.id.to_string(),
            text: violation.text.clone(),
            exit: match guaranteed.side {
                Side::Safety => Exit::Safety,
                Side::Liveness => Exit::Liveness,
            },
        })
    });
    let mut failures: Vec<Failure> = violations.chain(panics).collect();
    failures.sort_by_key(|failure| (failure.exit.code(), failure.at_ns));
    failures
}

/// The command that repeats a trial.
pub fn repeat(config: &Config, seed: u64) -> String {
    let mut command = format!("cargo trial replay --seed {seed}");
    if config.scenario != DEFAULT_SCENARIO {
        command += &format!(" --scenario {}", config.scenario);
    }
    if sim::scenario(&config.scenario).is_some_and(|own| own.rate != config.rate) {
        command += &format!(" --rate {}", config.rate);
    }
    command
}

/// The one line that a person reads first.
pub fn headline(failure: &Failure, seed: u64, repeat: &str) -> String {
    let text = failure.text.replace('\n', " ");
    format!("{} failed at {:.3} s of seed {seed}: {text}; repeat it with: {repeat}", failure.name, seconds(failure.at_ns))
}

/// Nanoseconds as seconds, for people.
pub fn seconds(ns: Ns) -> f64 {
    ns as f64 / 1e9
}

/// True time of a trial that is not simulated.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// The trial begins now.
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Since then.
    pub fn now_ns(self) -> Ns {
        // Half a millennium fits.
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(Ns::MAX)
    }
}
