//! One trial from its setting and seed to its judged record.

use crate::cli::{self, Policy, Setting};
use crate::machine;
use faults::{Ns, Swarm};
use record::{Backend, Base, CASE_FORMAT, Case, Config, FaultRules, Record};
use reports::Failure;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// What is tried if nobody says otherwise: the standard trial of a whole orchestrator.
pub const DEFAULT_SCENARIO: &str = "deployments";

/// A store alone.
pub const STORE: &str = "store";

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
    let mut config = scenario(&setting.scenario)?;
    match setting.policy {
        Policy::Swarm => {}
        Policy::Uniform => config.rules = evenly(&config),
        Policy::Guided => {
            return Err(
                "what a guided run made of other trials follows from no seed; give the file that it left".into()
            );
        }
    }
    config.backend = backend(setting.backend, &config)?;
    config.rate = setting.rate.unwrap_or(config.rate);
    match &mut config.cluster {
        Some(cluster) => {
            cluster.nodes = setting.nodes.unwrap_or(cluster.nodes);
            if let Some(pods) = setting.pods {
                // As many pods to a Deployment as in the scenario.
                let per_app = (cluster.pods / cluster.apps.max(1)).max(1);
                (cluster.pods, cluster.apps) = (pods, pods.div_ceil(per_app));
            }
        }
        None if setting.nodes.or(setting.pods).is_some() => {
            return Err(format!(
                "the scenario {:?} has no nodes and no pods; leave --nodes and --pods out",
                config.scenario
            ));
        }
        None => {}
    }
    Ok(config)
}

/// What is to run such trials. The error is one sentence.
fn backend(asked: cli::Backend, config: &Config) -> Result<Backend, String> {
    match asked {
        cli::Backend::Madsim => Ok(Backend::Madsim),
        cli::Backend::Turmoil if config.cluster.is_none() => Ok(Backend::Turmoil),
        cli::Backend::Turmoil => {
            let stores = sim::SCENARIOS.iter().map(|(name, _)| *name);
            let stores = stores.filter(|name| sim::scenario(name).is_some_and(|config| config.cluster.is_none()));
            Err(format!(
                "--backend turmoil runs stores alone, not {:?}: the scenarios {}, and files with one of them as their base",
                config.scenario,
                stores.collect::<Vec<_>>().join(", ")
            ))
        }
        cli::Backend::Both => Err("--backend both is for `cargo trial run`".to_owned()),
    }
}

/// The scenario of this name, or the one that a user wrote into the file of this name. The error is one sentence.
fn scenario(name: &str) -> Result<Config, String> {
    if is_file(name) {
        return record::read_scenario(Path::new(name), &bases()).map_err(|error| error.to_string());
    }
    sim::scenario(name).ok_or_else(|| {
        let names: Vec<&str> = sim::SCENARIOS.iter().map(|(name, _)| *name).collect();
        format!("there is no scenario {name:?}; there are {}, and files that end in .toml", names.join(", "))
    })
}

/// From what the faults of this configuration's trials are drawn, and what strikes in each of them besides; from nothing, if
/// nothing is to happen in them.
pub fn rules(config: &Config) -> FaultRules {
    let swarm = sim::swarm(config);
    if !config.faults {
        return FaultRules { swarm: Swarm { kinds: vec![], ..swarm }, strikes: vec![] };
    }
    config.rules.clone().unwrap_or(FaultRules { swarm, strikes: vec![] })
}

/// The same kinds, all of them on in each trial, and each of them once: about as many faults as a swarm has that strikes up
/// to four times with half of the kinds, so that policies differ in how faults are spread and not in how many there are.
/// Nothing where nothing strikes.
fn evenly(config: &Config) -> Option<FaultRules> {
    let FaultRules { swarm, strikes } = rules(config);
    let own_permille = swarm.kinds.iter().map(|kind| (*kind, 1000)).collect();
    config.faults.then_some(FaultRules { swarm: Swarm { most: 1, own_permille, ..swarm }, strikes })
}

/// Whether a scenario's name is that of a file.
pub fn is_file(scenario: &str) -> bool {
    Path::new(scenario).extension().is_some_and(|extension| extension == "toml")
}

/// What a user's scenario can begin with.
fn bases() -> Vec<Base> {
    let all = sim::SCENARIOS.iter().filter_map(|(name, _)| sim::scenario(name));
    all.map(|config| (config.clone(), sim::swarm(&config))).collect()
}

/// Runs the trial, which takes a thread of its own, and its twin if it is to have one, and judges it here.
pub fn judged(trial: sim::Trial) -> Judged {
    let struck = trial.twin.then(|| trial.clone());
    let sim::Outcome { mut record, log, mut cost } = sim::run(trial);
    BUILD.clone_into(&mut record.build);
    machine::give_back_memory();
    if let Some(struck) = struck {
        let script = checkers::effective_writes_of(&record);
        let archives = sim::Archives::of(&mut record);
        let twin = sim::run(sim::twin(&struck, script));
        machine::give_back_memory();
        record.cluster.twin = Some(checkers::twin_of(&twin.record));
        drop(twin.record);
        archives.back_to(&mut record);
        cost.cpu_ns += twin.cost.cpu_ns;
    }
    let begun_ns = machine::cpu_ns();
    record.verdicts = checkers::judge(&record);
    let checkers_ns = machine::cpu_ns() - begun_ns;
    Judged { record, log, cost, checkers_ns }
}

/// The trial that a case describes.
pub fn of_case(case: &Case) -> sim::Trial {
    let trial = sim::trial(case.config.clone(), case.seed);
    sim::Trial { executor_seed: case.executor_seed, schedule: case.schedule(), twin: case.twin, ..trial }
}

/// The trial as a case, of which nothing is known to fail.
pub fn case_of(trial: sim::Trial) -> Case {
    let sim::Trial { config, seed, executor_seed, schedule, twin, .. } = trial;
    // What a scenario's file says of faults has become faults.
    let config = Config { rules: None, ..config };
    Case { format: CASE_FORMAT, fails: String::new(), seed, executor_seed, twin, config, faults: schedule.faults }
}

/// What failed first and gravest in a judged trial, as [`failed`] names it.
pub fn gravest(record: &Record) -> Option<String> {
    let first = Failure::first_of(record)?;
    // A failure's line speaks of a panic where this name is wanted.
    Some(if failed(record).contains(&first.what) { first.what } else { CRASH.to_owned() })
}

/// Beside the guarantees, what can fail: product code panicked, or a worker died.
pub const CRASH: &str = "crash";

/// Names of what failed in a judged trial, each once: guarantees, and [`CRASH`].
pub fn failed(record: &Record) -> BTreeSet<String> {
    let violated = record.verdicts.iter().filter(|verdict| !verdict.violations.is_empty());
    let panicked = (!record.panics.is_empty()).then(|| CRASH.to_owned());
    violated.map(|verdict| verdict.guarantee.to_string()).chain(panicked).collect()
}

/// When something that [`failed`] names showed first in a judged trial.
pub fn failed_ns(record: &Record, what: &str) -> Option<Ns> {
    let violated = record.verdicts.iter().filter(|verdict| verdict.guarantee.to_string() == what);
    let violations = violated.flat_map(|verdict| &verdict.violations).map(|violation| violation.at_ns);
    let panics = record.panics.iter().filter(|_| what == CRASH).map(|panic| panic.at_ns);
    violations.chain(panics).min()
}

/// The command that repeats a trial.
pub fn repeat(config: &Config, seed: u64) -> String {
    format!("cargo trial replay --seed {seed}{}", setting_words(config))
}

/// The arguments by which a trial differs from one that nobody said anything about: empty, or with a space in front.
pub fn setting_words(config: &Config) -> String {
    let mut command = String::new();
    if config.scenario != DEFAULT_SCENARIO {
        command += &format!(" --scenario {}", config.scenario);
    }
    if config.backend != Backend::default() {
        command += &format!(" --backend {}", config.backend.name());
    }
    // A file that has gone meanwhile says nothing of what was asked for besides.
    let Ok(own) = scenario(&config.scenario) else { return command };
    if own.rate != config.rate {
        command += &format!(" --rate {}", config.rate);
    }
    if own.rules != config.rules && config.rules == evenly(&own) {
        command += &format!(" --policy {}", Policy::Uniform.name());
    }
    if let (Some(own), Some(is)) = (own.cluster, &config.cluster) {
        if own.nodes != is.nodes {
            command += &format!(" --nodes {}", is.nodes);
        }
        if own.pods != is.pods {
            command += &format!(" --pods {}", is.pods);
        }
    }
    command
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo;
    use faults::Kind;

    #[test]
    fn the_scenarios_that_are_shipped_can_be_tried_and_differ_from_their_base() {
        let folder = cargo::root().expect("a checkout").join("workloads/scenarios");
        let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut count = 0;
        for path in files {
            let name = path.display().to_string();
            let config = config(&Setting { scenario: name.clone(), ..Setting::default() });
            let config = config.unwrap_or_else(|why| panic!("{why}"));
            assert!(
                bases().iter().all(|(base, _)| Config { scenario: name.clone(), ..base.clone() } != config),
                "{name}"
            );
            let schedule = sim::trial(config, 1).schedule;
            assert!(!schedule.faults.is_empty(), "{name}: nothing strikes");
            count += 1;
        }
        assert!(count >= 2, "there are {count}");
    }

    #[test]
    fn a_uniform_trial_has_every_kind_as_often_and_is_repeated_as_one() {
        let uniform =
            |scenario: &str| Setting { scenario: scenario.into(), policy: Policy::Uniform, ..Setting::default() };
        for (name, kinds) in [("store", Kind::STORE.len()), ("squall", Kind::all().count())] {
            let uniform = config(&uniform(name)).expect("there is one");
            assert!(repeat(&uniform, 3).ends_with(" --policy uniform"), "{}", repeat(&uniform, 3));
            let swarm = config(&Setting { scenario: name.into(), ..Setting::default() }).expect("there is one");
            assert!(!repeat(&swarm, 3).contains("--policy"));
            let (mut evenly, mut swarming) = (0, 0);
            for seed in 0..40 {
                let trial = sim::trial(uniform.clone(), seed);
                // A minority that is never healed is drawn apart, whatever the policy.
                let drawn = trial.schedule.faults.into_iter().filter(|fault| !fault.kind.outlasts());
                let faults: Vec<_> = drawn.collect();
                let on: BTreeSet<_> = faults.iter().map(|fault| fault.kind).collect();
                assert_eq!(on.len(), kinds, "seed {seed} of {name}");
                evenly += faults.len();
                swarming += sim::trial(swarm.clone(), seed).schedule.faults.len();
            }
            let share = evenly * 100 / swarming;
            assert!((70..140).contains(&share), "{name}: {share} % of a swarm's faults");
        }
        let root = cargo::root().expect("a checkout");
        let file = root.join("workloads/scenarios/blackout.toml").display().to_string();
        let file = config(&uniform(&file)).expect("there is one");
        assert!(repeat(&file, 3).ends_with(".toml --policy uniform"));
        assert_eq!(config(&uniform("calm")).expect("there is one").rules, None, "nothing strikes there");
        let guided = Setting { policy: Policy::Guided, scenario: STORE.into(), ..Setting::default() };
        assert!(config(&guided).expect_err("is no trial of a seed").contains("give the file"));
    }

    #[test]
    fn a_trial_of_a_file_is_repeated_with_that_file_and_what_was_asked_for_besides() {
        let root = cargo::root().expect("a checkout");
        let scenario = root.join("workloads/scenarios/blackout.toml").display().to_string();
        let setting = Setting { scenario: scenario.clone(), rate: Some(77), ..Setting::default() };
        let config = config(&setting).expect("there is one");
        assert_eq!(repeat(&config, 3), format!("cargo trial replay --seed 3 --scenario {scenario} --rate 77"));
    }

    #[test]
    fn a_trial_under_turmoil_is_repeated_there() {
        let setting = Setting { scenario: STORE.into(), backend: cli::Backend::Turmoil, ..Setting::default() };
        let config = config(&setting).expect("a store alone");
        assert_eq!(repeat(&config, 3), "cargo trial replay --seed 3 --scenario store --backend turmoil");
        assert!(setting.arguments().contains(&"--backend=turmoil".to_owned()));
    }
}
