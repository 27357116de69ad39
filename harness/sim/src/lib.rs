//! The simulated world of a trial: hosts running the product, faults that strike them, and the record of what happened.
//!
//! ```text
//! Trial { config, seeds, schedule } -> run -> rt::sim --+-- s1..sN: members of the store      (product code)
//!                                                      +-- c1..cM: workloads::store           -> Recorder
//!                                                      +-- storm: faults at their time        -> World
//!                                                      +-- sampler: views of running members
//!                                                      +-- supervisors: restart what exits
//!                                                                    all of it -> Observer -> Outcome { record, log }
//! ```
//!
//! Everything is on one fresh thread, in simulated time, from seeds: the same [`Trial`] gives the same [`Record`] and the
//! same log, byte for byte.
//!
//! Which simulator runs the hosts is a field of the configuration; nothing here but the schedule knows.
//!
//! **Invariant:** equal trials give equal logs (`the_same_trial_gives_the_same_log` in tests/trial.rs, and
//! `the_same_trial_gives_the_same_log_under_turmoil` in tests/turmoil.rs).

#[cfg(not(madsim))]
compile_error!(
    "`sim` exists only in the simulator build: run `cargo trial`, which sets --cfg madsim and keeps a target directory of its own"
);

mod archive;
mod credentials;
mod crowd;
mod effects;
mod listener;
mod log;
mod nodes;
mod observer;
mod sampler;
mod settings;
mod stage;
mod storm;

use faults::{Fault, Hosts, Kind, Ns, Schedule, Swarm};
use record::{Backend, Cluster, Config, EffectiveWrite, FaultRules, Record};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use archive::Archives;
pub use rt::sim::{DiskLies, TaskCost};

/// A trial that is to be run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What it is made of.
    pub config: Config,
    /// Of the workload, the network, the disks and everything else that is drawn, the schedule apart.
    pub seed: u64,
    /// Of the order in which ready tasks run.
    pub executor_seed: u64,
    /// What goes wrong.
    pub schedule: Schedule,
    /// Whether the event log is kept as text; it is hashed in any case.
    pub keep_log: bool,
    /// Whether to measure what each kind of task costs. Changes nothing in what happens.
    pub profile: bool,
    /// Whether a twin is to be run too, to compare with; [`run`] itself runs none.
    pub twin: bool,
    /// What users do, if it is given beforehand instead of being chosen by them.
    pub script: Option<Arc<[EffectiveWrite]>>,
    /// Promises that the disks break, for a trial that must fail. None in a record, and in any other trial.
    pub disk_lies: DiskLies,
    /// From when on it is to go another way, and which; `None` for the way that its seeds say.
    pub swerve: Option<Swerve>,
}

/// Another way for a trial: the same until an instant, and from there on ready tasks run in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swerve {
    /// Until then, rounded up to the observer's next look ([`record::SAMPLE_NS`]), nothing changes.
    pub at_ns: Ns,
    /// Which way, counted from 1. 0 is the way that it would go anyhow.
    pub way: u32,
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All that is to be judged; the verdicts and the build are left to the caller.
    pub record: Record,
    /// The event log, if it was to be kept: a line per thing that happened, each beginning with its time in nanoseconds.
    pub log: Option<String>,
    /// What it cost.
    pub cost: Cost,
}

/// What a trial cost. Differs from run to run, so it is no part of the record.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// CPU time of the simulation, in nanoseconds, from its begin until the record was complete.
    pub cpu_ns: u64,
    /// What the simulated network did: packets and bursts that arrived, handshakes, retransmissions and the like.
    pub network_events: u64,
    /// The part of each kind of task in it, by name, if that was measured.
    pub profile: BTreeMap<&'static str, TaskCost>,
}

/// Runs a trial to its end on a thread of its own.
///
/// A panic of the harness itself, or a world in which nothing can happen any more, gives a record that holds nothing
/// but that panic.
pub fn run(trial: Trial) -> Outcome {
    let config = rt::sim::Config {
        seed: trial.seed,
        executor_seed: trial.executor_seed,
        profile: trial.profile,
        backend: match trial.config.backend {
            Backend::Madsim => rt::sim::Backend::Madsim,
            Backend::Turmoil => rt::sim::Backend::Turmoil,
        },
        disk: rt::sim::DiskConfig { lies: trial.disk_lies, ..rt::sim::DiskConfig::default() },
        ..rt::sim::Config::default()
    };
    let failed = empty_record(&trial);
    let run = rt::sim::run(config, move |world| stage::run(world, trial));
    let run = run.map(|(Outcome { record, log, mut cost }, archives)| {
        let begun_ns = stage::thread_cpu_ns();
        // What was recorded lies scattered among all that the simulation has freed by now, a copy of it does not.
        let mut record = record.clone();
        archives.back_to(&mut record);
        cost.cpu_ns += stage::thread_cpu_ns() - begun_ns;
        Outcome { record, log, cost }
    });
    run.unwrap_or_else(|panicked| {
        let panics = vec![stage::panic_record(&panicked)];
        let ended_ns = panicked.at_ns;
        Outcome { record: Record { panics, ended_ns, ..failed }, log: None, cost: Cost::default() }
    })
}

/// The trial of `config` and `seed` as it is run unless somebody edits it: topology, schedule and executor's seed follow
/// from the seed.
pub fn trial(config: Config, seed: u64) -> Trial {
    let one_more = rt::random::Random::from_seed(seed ^ TOPOLOGY).chance(config.one_more_permille);
    let config = Config { members: config.members + u32::from(one_more), one_more_permille: 0, ..config };
    let schedule = schedule(&config, seed);
    let twin = config.faults && config.cluster.is_some() && seed.is_multiple_of(TWIN_EVERY);
    Trial {
        config,
        seed,
        executor_seed: seed,
        schedule,
        keep_log: false,
        profile: false,
        twin,
        script: None,
        disk_lies: DiskLies::NONE,
        swerve: None,
    }
}

/// What goes wrong: what is drawn, and what a scenario gives beside it, as far as the backend can do it.
fn schedule(config: &Config, seed: u64) -> Schedule {
    if !config.faults {
        return Schedule::default();
    }
    let own;
    let (swarm, strikes): (&Swarm, &[Fault]) = match &config.rules {
        None => {
            own = swarm(config);
            (&own, &[])
        }
        Some(FaultRules { swarm, strikes }) => (swarm, strikes),
    };
    let Schedule { mut faults } = faults::draw(swarm, seed, hosts(config), config.faults_ns);
    faults.extend(strikes.iter().cloned());
    let Config { freeze_minority_permille, faults_ns, calm_ns, .. } = *config;
    faults.extend(faults::freeze(freeze_minority_permille, seed, hosts(config), faults_ns, calm_ns));
    // Each kind has its own stream: what is left strikes as it does under any other backend.
    faults.retain(|fault| !config.backend.lacks().contains(&fault.kind));
    faults.sort_by_key(|fault| (fault.when.earliest(), fault.id));
    Schedule { faults }
}

/// The twin of a trial: nothing goes wrong, and users do again what took effect in the struck one.
pub fn twin(trial: &Trial, script: Vec<EffectiveWrite>) -> Trial {
    Trial {
        config: Config { faults: false, ..trial.config.clone() },
        schedule: Schedule::default(),
        keep_log: false,
        profile: false,
        twin: false,
        swerve: None,
        script: Some(script.into()),
        ..trial.clone()
    }
}

/// Which hosts there are to be struck.
pub fn hosts(config: &Config) -> Hosts {
    let (nodes, zones) = config.cluster.as_ref().map_or((0, 0), |cluster| (cluster.nodes, cluster.zones));
    Hosts { members: config.members, client_hosts: config.client_hosts, nodes, zones }
}

/// Of the trials of an orchestrator, every so many has a twin: it costs as much as the trial itself.
const TWIN_EVERY: u64 = 6;

/// What may strike unless a scenario says so itself.
pub fn swarm(config: &Config) -> Swarm {
    if config.cluster.is_none() {
        return Swarm::default();
    }
    Swarm { kinds: Kind::all().collect(), on_permille: CLUSTER_ON_PERMILLE, ..Swarm::default() }
}

/// Of the kinds of fault, how many a trial of an orchestrator switches on, in thousandths: there are nearly twice as
/// many as for a store, and the time that a rollout takes must now and then pass undisturbed.
const CLUSTER_ON_PERMILLE: u32 = 375;

/// Names of all scenarios, with what they are.
pub const SCENARIOS: [(&str, &str); 7] = [
    ("store", "a store of 3 (now and then 4) members under all kinds of faults, 30 operations per second"),
    ("store-5", "the same with 5 members, so that two may be lost"),
    ("busy", "a store of 3 members under all kinds of faults, 300 operations per second"),
    ("calm", "a store of 3 members to which nothing happens"),
    (
        "deployments",
        "an orchestrator of 3 + 10 hosts with 100 pods: Deployments and Services under all kinds of faults",
    ),
    ("harbour", "the same, to which nothing happens"),
    ("squall", "a small one of 3 + 4 hosts with 16 pods, in three minutes: what takes longer is not seen"),
];

/// The scenario called `name`.
pub fn scenario(name: &str) -> Option<Config> {
    let store = Config {
        scenario: name.to_owned(),
        members: 3,
        one_more_permille: 150,
        freeze_minority_permille: 0,
        client_hosts: 2,
        faults_ns: 60 * SECOND,
        calm_ns: 30 * SECOND,
        rate: 30,
        keys: 40,
        faults: true,
        cluster: None,
        backend: <_>::default(),
        rules: None,
    };
    match name {
        "store" => Some(Config { freeze_minority_permille: FREEZE_PERMILLE, ..store }),
        "store-5" => Some(Config { members: 5, one_more_permille: 0, ..store }),
        "busy" => Some(Config { rate: 300, keys: 200, ..store }),
        "calm" => Some(Config { faults: false, ..store }),
        "deployments" => Some(deployments(store)),
        "squall" => Some(squall(store)),
        "harbour" => Some(Config { faults: false, ..deployments(store) }),
        _ => None,
    }
}

/// A trial of an orchestrator that takes seconds of CPU time: for every change of the source.
fn squall(store: Config) -> Config {
    let cluster = Cluster { nodes: 4, zones: 2, apps: 4, pods: 16, writes_per_ks: 1_000, calls_per_s: 6 };
    Config {
        one_more_permille: 0,
        freeze_minority_permille: FREEZE_PERMILLE,
        client_hosts: 1,
        faults_ns: 70 * SECOND,
        calm_ns: 110 * SECOND,
        rate: 4,
        keys: 20,
        cluster: Some(cluster),
        ..store
    }
}

/// The standard trial of an orchestrator: ten simulated minutes, of which eight are such that a node can be found lost,
/// its pods be evicted and run elsewhere while it is away.
fn deployments(store: Config) -> Config {
    let cluster = Cluster { nodes: 10, zones: 3, apps: 12, pods: 100, writes_per_ks: 1_000, calls_per_s: 10 };
    Config {
        one_more_permille: 0,
        faults_ns: 480 * SECOND,
        calm_ns: 120 * SECOND,
        rate: 4,
        keys: 20,
        cluster: Some(cluster),
        ..store
    }
}

/// Of a thousand trials of the small scenarios, how many leave a minority as it is in the end: often enough that a run of
/// every change sees some, seldom enough that most still judge how everybody comes back.
const FREEZE_PERMILLE: u32 = 150;

const SECOND: Ns = 1_000_000_000;

/// Keeps the choice of topology apart from what else comes from a trial's seed.
const TOPOLOGY: u64 = 0x746f_706f_6c6f_6779;

/// The record of a trial before it.
fn empty_record(trial: &Trial) -> Record {
    Record {
        format: record::FORMAT,
        build: String::new(),
        config: trial.config.clone(),
        seed: trial.seed,
        executor_seed: trial.executor_seed,
        schedule: trial.schedule.clone(),
        strikes: vec![],
        operations: vec![],
        watches: vec![],
        observations: vec![],
        cluster: <_>::default(),
        marks: BTreeMap::new(),
        healed_ns: trial.config.faults_ns,
        ended_ns: 0,
        slack_ns: 0,
        log_hash: 0,
        checkpoints: vec![],
        panics: vec![],
        verdicts: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_is_listed_exists_and_no_other() {
        for (name, text) in SCENARIOS {
            assert_eq!(scenario(name).map(|config| config.scenario), Some(name.to_owned()));
            assert!(!text.is_empty());
        }
        assert_eq!(scenario("storm"), None);
    }
}
