//! The command line.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use record::StrikeKind;
use std::ffi::OsString;
use std::path::PathBuf;

/// Sea trials: the product in a simulator that breaks networks, disks, clocks and processes, from a seed, repeatably
#[derive(Debug, Parser)]
#[command(name = "cargo trial", bin_name = "cargo trial", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
   0  everything held
   1  it could not be done
   2  wrong usage, or a record that is damaged or of another build
  10  a safety guarantee was broken
  11  something did not happen in time
  12  product code panicked, or a worker died
  13  the same seed did two different things
  14  a guarantee was never put to the test (judged from 100 seeds on)
 130  interrupted, and nothing that was tried failed

Begin with:
  cargo trial run";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run trials over many seeds and judge them
    Run(Run),
    /// Run one trial again, compare it with its record, write its whole log
    Replay(Replay),
    /// Make a failing trial as small as it can be and fail still
    Shrink(Shrink),
    /// Run each seed in the debug and the optimised build and compare the logs byte by byte
    Determinism(Determinism),
    /// Measure simulated seconds per CPU second, and where the time goes
    Bench(Bench),
    /// Show from when on a failing trial was bound to fail
    Why(Why),
    /// Find the first event in which two runs differ
    Diff(Diff),
    /// Run trials for as long as there is time, as CI does at night
    Nightly(Nightly),
    /// Plant known bugs in a copy of the product and see whether the trials find them
    Mutants(Mutants),
    /// Kill, stop and restart real processes under load and judge their history
    Real(Real),
    /// Try an operator made with kube-rs against a simulated cluster
    Operator(Operator),
    /// List the rare situations that the product's source marks
    #[command(after_help = "Examples:\n  cargo trial marks")]
    Marks,
    /// Print the hash of the sources that this program was built from
    #[command(after_help = "Examples:\n  cargo trial build-hash")]
    BuildHash,
    /// Run the trials that come in as lines, for `run`
    #[command(hide = true)]
    Worker,
    /// Run the trials that come in as lines, for `shrink`
    #[command(hide = true)]
    Attempt,
    /// Run the trials that come in as lines, for `why`
    #[command(hide = true)]
    Branch,
    /// Run the trials that come in as lines, for `bench`
    #[command(hide = true)]
    Measure,
    /// Write one trial's log, for `determinism`
    #[command(hide = true)]
    Log(Log),
    /// Become another program that ends when this one's parent does, for `real`
    #[command(hide = true)]
    Tether {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Where faults come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Policy {
    /// Each trial has some kinds of fault, drawn from its seed, and each of these strikes once or a few times
    #[default]
    Swarm,
    /// Each trial has every kind once
    Uniform,
    /// Trials that reached what none had reached before are kept, and others are made of them
    Guided,
}

impl Policy {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Swarm, Self::Uniform, Self::Guided];

    /// As arguments name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Uniform => "uniform",
            Self::Guided => "guided",
        }
    }
}

/// Which trial it is, the seed apart.
#[derive(Clone, Debug, Default, Args)]
pub struct Setting {
    /// What is tried: a scenario's name, or a file of your own, as the README describes it
    #[arg(long, value_name = "NAME|FILE.toml", default_value = crate::trial::DEFAULT_SCENARIO)]
    pub scenario: String,
    /// Which simulator runs the hosts
    #[arg(long, value_enum, default_value_t = Backend::Madsim)]
    pub backend: Backend,
    /// Operations per simulated second, of all clients together; the scenario's own if not given
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,
    /// Machines that run pods, in a scenario with an orchestrator; the scenario's own if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub nodes: Option<u32>,
    /// Pods that all Deployments together may ask for; the scenario's own if not given
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pods: Option<u32>,
    /// Where faults come from
    #[arg(long, value_enum, default_value_t)]
    pub policy: Policy,
}

/// Which simulator runs the hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// madsim, with a network of our own
    #[default]
    Madsim,
    /// tokio under turmoil, for a second opinion on a store
    Turmoil,
    /// One after the other, and where they disagree; of `run` and `mutants` alone
    Both,
}

impl Setting {
    /// The arguments that say the same.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--scenario={}", self.scenario)];
        if let Some(backend) = self.backend.to_possible_value() {
            arguments.push(format!("--backend={}", backend.get_name()));
        }
        let mut number = |name: &str, value: Option<u32>| {
            arguments.extend(value.map(|value| format!("--{name}={value}")));
        };
        number("rate", self.rate);
        number("nodes", self.nodes);
        number("pods", self.pods);
        arguments.push(format!("--policy={}", self.policy.name()));
        arguments
    }
}

/// Trials without `--seeds` and without `--seed`: a minute's work on two cores.
pub const DEFAULT_SEEDS: u64 = 4;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial run                            4 standard trials of a whole orchestrator, seeds 1 to 4
  cargo trial run --scenario store --seeds 50   a store alone, which takes seconds
  cargo trial run --seeds 200 --jobs 8       seeds 1 to 200, eight at once
  cargo trial run --seed 17                  seed 17 alone
  cargo trial run --seed 1000 --seeds 50     seeds 1000 to 1049
  cargo trial run --scenario workloads/scenarios/blackout.toml
  cargo trial run --scenario squall --seeds 400 --policy guided
                                             keep what reached new situations and make other trials of it
  cargo trial run --scenario store --backend both --seeds 50   in two simulators, and where they disagree
  cargo trial run --json > trials.json
  cargo trial run --out nightly              and then open nightly/index.html

A guided run goes in rounds of 20 trials: the first is that of a swarm, and in later ones every third trial is. The others are
made of trials that are kept; no seed repeats those, so a failing one is left as guided-N.toml, N being its place in the run.

Ctrl-C ends it early, with table and report of what was done so far; a second one at once.")]
pub struct Run {
    /// How many seeds [default: 4, or 1 with --seed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub seeds: Option<u64>,
    /// The first seed, or the only one [default: 1]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Worker processes [default: one per core]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    #[command(flatten)]
    pub setting: Setting,
    /// Where the report goes (index.html, summary.md, junit.xml, report.json), and records and logs of failing trials
    #[arg(long, value_name = "DIR", default_value = "target/trials")]
    pub out: PathBuf,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
    /// Begin no further trial once one has failed
    #[arg(long)]
    pub until_failure: bool,
    /// Where the result goes in short, for `mutants`
    #[arg(long, hide = true)]
    pub brief: Option<PathBuf>,
    /// CPU seconds of the workers after which no further trial is begun, for `mutants`
    #[arg(long, hide = true)]
    pub budget: Option<u64>,
}

/// `3+10` as members and nodes.
fn hosts(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str, most: u32| text.parse().ok().filter(|number| (1..=most).contains(number));
    let parts = text.split_once('+').and_then(|(members, nodes)| Some((number(members, 9)?, number(nodes, 5_000)?)));
    parts.ok_or_else(|| "give members (1 to 9) and nodes (1 to 5000), such as 3+10".to_owned())
}

impl Run {
    /// The seeds asked for.
    pub fn seeds(&self) -> std::ops::Range<u64> {
        let first = self.seed.unwrap_or(1);
        let count = self.seeds.unwrap_or(if self.seed.is_some() { 1 } else { DEFAULT_SEEDS });
        first..first.saturating_add(count)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial replay --seed 17
  cargo trial replay --seed 17 --log 17.log
  cargo trial replay --seed 17 --html 17.html
  cargo trial replay target/trials/17.json
  cargo trial replay target/trials/17.toml   what `shrink` left of it
  cargo trial replay target/trials/guided-17.toml   a trial that a guided run made of others")]
pub struct Replay {
    /// A record that `run` wrote, which must come from the same sources, or a `.toml` file that it or `shrink` did
    #[arg(value_name = "RECORD", required_unless_present = "seed", conflicts_with_all = ["seed", "scenario", "rate", "policy", "backend"])]
    pub record: Option<PathBuf>,
    /// The seed, if there is no record
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub setting: Setting,
    /// Where the whole log goes [default: target/trials/SEED.log]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Where a page with the trial's timeline goes; none is written if not given
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial shrink target/trials/17.json
  cargo trial shrink target/trials/17.json --guarantee C20 --tries 300
  cargo trial shrink target/trials/17.toml   go on where it was left

The best so far is in the output file at any time: stop it whenever you like.")]
pub struct Shrink {
    /// The failing trial: a record that `run` wrote, or a `.toml` file of an earlier `shrink`
    #[arg(value_name = "RECORD")]
    pub record: PathBuf,
    /// What is to go on failing: a guarantee, or `crash` [default: what failed first and gravest]
    #[arg(long, value_name = "C", ignore_case = true)]
    pub guarantee: Option<String>,
    /// Smaller trials to try at most
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tries: u32,
    /// Orders of ready tasks in which a smaller trial is tried before it counts as one that holds
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub orders: u64,
    /// Worker processes [default: one per core]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Where the result goes [default: RECORD with .toml in the end]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial determinism --seeds 30
  cargo trial determinism --seed 17 --seeds 1")]
pub struct Determinism {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seeds: u64,
    /// The first of them
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub setting: Setting,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial bench --seeds 1                the standard trial, without a quiet tail
  cargo trial bench --scenario store         a store alone
  cargo trial bench --scenario store --rate 30 --seeds 9
  cargo trial bench --hosts 3+10,5+50,5+200 --seeds 1   how it scales, as a table
  cargo trial bench --seconds 300 --json")]
pub struct Bench {
    /// Simulated seconds of each trial; the scenario's own if not given
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pub seconds: Option<u64>,
    /// Operations on the store per simulated second, one figure for each [default: 30,300, or the scenario's own with an
    /// orchestrator]
    #[arg(long, value_name = "R,...", value_delimiter = ',')]
    pub rate: Vec<u32>,
    /// Members and nodes of an orchestrator, M+N, one figure for each; with more than ten nodes, five pods a node [default: the
    /// scenario's own]
    #[arg(long, value_name = "M+N,...", value_delimiter = ',', value_parser = hosts)]
    pub hosts: Vec<(u32, u32)>,
    /// Seeds per figure, of which the median is printed; each is run three times, which takes seconds for a store and two
    /// minutes for the standard trial
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// What is tried: a scenario's name, or a file of your own
    #[arg(long, value_name = "NAME|FILE.toml", default_value = crate::trial::DEFAULT_SCENARIO)]
    pub scenario: String,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial why target/trials/17.json
  cargo trial why target/trials/17.toml --points 20 --ways 16
  cargo trial why target/trials/17.json --guarantee C20

Until each instant a run is the failing one; from there on tasks that are ready run in other orders. Faults strike as they
did. The more of these runs fail too, the more is decided by then.")]
pub struct Why {
    /// The failing trial: a record that `run` wrote, or a `.toml` file of `shrink`
    #[arg(value_name = "RECORD")]
    pub record: PathBuf,
    /// What failed: a guarantee, or `crash` [default: what failed first and gravest]
    #[arg(long, value_name = "C", ignore_case = true)]
    pub guarantee: Option<String>,
    /// Instants to begin with; half as many more are tried where the chance rises most
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub points: u32,
    /// Other ways that are tried from each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub ways: u32,
    /// Worker processes [default: one per core]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial diff 17.log 17-on-the-other-machine.log
  cargo trial diff target/trials/17.json target/trials/17.toml   a failing trial, and what `shrink` left of it
  cargo trial diff 17 17.log                                     seed 17 as it goes now, and as it went

Ends with 0 if the runs are the same, and with 13 if not.")]
pub struct Diff {
    /// A log, a record, a trial as a `.toml` file, or a seed
    #[arg(value_name = "A")]
    pub left: String,
    /// What to compare it with
    #[arg(value_name = "B")]
    pub right: String,
    /// Lines shown before the first that differs, and on both sides after it
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub context: u16,
    #[command(flatten)]
    pub setting: Setting,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial nightly --minutes 60
  cargo trial nightly --minutes 60 --seed 20260131           what a certain night tried
  cargo trial nightly --minutes 240 --mutants 25 --out night
  cargo trial nightly --minutes 10 --scenario store,workloads/scenarios/blackout.toml

First a trial on disks that lie, which must fail; if it does not, nothing else is run and the code is 1. Then the seeds of
harness/seatrial/regressions.toml, then fresh ones.")]
pub struct Nightly {
    /// Wall time, in minutes; trials under way at its end are waited for
    #[arg(long, value_name = "M", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub minutes: u64,
    /// What the fresh seeds follow from, such as the date [default: drawn, and printed]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(0..NIGHTS))]
    pub seed: Option<u64>,
    /// What is tried, with equal shares of the CPU time
    #[arg(long, value_name = "NAME|FILE.toml,...", value_delimiter = ',', default_values_t = ["store", "squall", "deployments"].map(String::from))]
    pub scenario: Vec<String>,
    /// Percent of the time that is kept for mutants, as many as there is time for
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=90))]
    pub mutants: u8,
    /// Worker processes [default: one per core]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Where reports, and records and logs of failing trials go
    #[arg(long, value_name = "DIR", default_value = "target/nightly")]
    pub out: PathBuf,
}

/// Nights are told apart by numbers below this, so that all seeds fit into what readers of JSON keep exactly.
pub const NIGHTS: u64 = 1 << 32;

/// What a mutant may cost unless somebody says otherwise: 400 trials of a store take a minute, as many of a small
/// orchestrator would take half an hour, and what is not found in a third of an hour is not found by a run of every day.
pub const MUTANT_BUDGET_S: u64 = 20 * 60;

/// Trials of a mutant unless somebody says otherwise.
pub const MUTANT_SEEDS: u64 = 400;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial mutants                        all of harness/mutants
  cargo trial mutants vote-not-persisted     one
  cargo trial mutants --resume               go on where a board was stopped
  cargo trial mutants --budget 300 --shrink  five CPU minutes for each; then, how few faults it takes
  cargo trial mutants --check                only see whether every patch applies
  cargo trial mutants --policy guided        the same search as `run --policy guided`, on a board of its own
  cargo trial mutants --compare              the ten hardest on the board under each policy, with the same effort
  cargo trial mutants --compare vote-not-persisted --seeds 200 --resume
  cargo trial mutants --backend both         the stores' mutants in both simulators, and what they agree on

Ends with 0 if nine of ten bugs were found, no control was flagged and everything was built; with --compare or --backend both,
if all could be tried.")]
pub struct Mutants {
    /// Names of patches, without `.patch`; all if none is given
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Trials for each at most; the first that fails is enough
    #[arg(long, value_name = "N", default_value_t = MUTANT_SEEDS, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seeds: u64,
    /// Worker processes [default: one per core]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// CPU time for each at most, user and system, of all workers together, in seconds
    #[arg(long, value_name = "CPU-SECONDS", default_value_t = MUTANT_BUDGET_S, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub budget: u64,
    /// Where faults come from; each policy has a board of its own
    #[arg(long, value_enum, default_value_t, conflicts_with = "compare")]
    pub policy: Policy,
    /// Which simulator runs the hosts; each has a board of its own, and with `both` it is told what they agree on
    #[arg(long, value_enum, default_value_t)]
    pub backend: Backend,
    /// Try each under every policy and tell which finds it, and how soon [default NAMEs: the ten hardest on the board]
    #[arg(long)]
    pub compare: bool,
    /// Take over what is on the board already, from the same sources and patches
    #[arg(long)]
    pub resume: bool,
    /// Shrink the first failing trial of each that is found, and tell how many faults it takes
    #[arg(long)]
    pub shrink: bool,
    /// Build and run nothing: see whether every patch applies, and list them with their numbers, guarantees and sources
    #[arg(long)]
    pub check: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    long_about = "Try an operator made with kube-rs against a simulated cluster.\n\nIts crate is built for the simulator, with \
                  crate `operator` (harness/operator), whose documentation says what its program is. Each trial strikes \
                  it a few times: it crashes before or after a write, a watch of its tells late, or never, what has \
                  changed. In the end the cluster must be as it is when nothing strikes. What fails is made small.",
    after_help = "\
Examples:
  cargo trial operator                                the example, workloads/replicated
  cargo trial operator --bin planted-crash            the same with a bug planted in it
  cargo trial operator --manifest-path ../mine/Cargo.toml --seeds 200
  cargo trial operator --strikes crash --seeds 50     crashes alone
  cargo trial operator --bin planted-crash --plan target/operator/22.toml
                                                      one trial, and all that happened in it

Ends with 0 if all held, 11 if some did not, 2 if what users do cannot be read. The first build takes minutes: kube is large."
)]
pub struct Operator {
    /// Manifest of the operator's crate; of the example if not given
    #[arg(long, value_name = "FILE")]
    pub manifest_path: Option<PathBuf>,
    /// Which of its programs; its own default if not given
    #[arg(long, value_name = "NAME")]
    pub bin: Option<String>,
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Which kinds of strike
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', default_values_t = StrikeKind::ALL, value_parser = strike_kind())]
    pub strikes: Vec<StrikeKind>,
    /// Trials at once [default: one per core]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Where the smallest plans of failing trials go
    #[arg(long, value_name = "DIR", default_value = "target/operator")]
    pub out: PathBuf,
    /// Run the one trial of a file, and print what happened in it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "seed", "strikes"])]
    pub plan: Option<PathBuf>,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
}

/// Reads the name of a kind of strike.
fn strike_kind() -> impl TypedValueParser<Value = StrikeKind> {
    PossibleValuesParser::new(StrikeKind::ALL.map(StrikeKind::name))
        .map(|name| StrikeKind::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or_default())
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo trial real                           a store, 50 kills, about two minutes
  cargo trial real --kills 5                 what CI does
  cargo trial real --kills 200 --rate 500 --seconds 600
  cargo trial real --minutes 10              an orchestrator: three servers, five nodes, users

With --minutes, servers and agents are killed, asked to end, stopped and continued, and then left in peace for two minutes.
Judged is what can be seen from outside; the table says what is not. In the end the simulator tries the same with the same
faults, and it is said whether both agree.")]
pub struct Real {
    /// Try a whole orchestrator instead of a store: how long its processes are struck
    #[arg(long, value_name = "M", conflicts_with_all = ["kills", "rate", "seconds"], value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub minutes: Option<u32>,
    /// How often a random member is killed and started again
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub kills: u32,
    /// Operations per second, of all clients together
    #[arg(long, value_name = "R", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Seconds in which members are killed [default: two per kill]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seconds: Option<u64>,
    /// Seed of kills and operations; real machines do not repeat, but these do
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Where data, logs and the record go if something fails
    #[arg(long, value_name = "DIR", default_value = "target/trials")]
    pub out: PathBuf,
    /// A `seaworthy` binary; built by cargo if not given
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Log {
    #[arg(long)]
    pub seed: u64,
    #[command(flatten)]
    pub setting: Setting,
    #[arg(long)]
    pub out: PathBuf,
}

/// `jobs`, or one per core.
pub fn jobs(jobs: Option<u16>) -> usize {
    jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(words: &[&str]) -> Run {
        match Cli::try_parse_from([&["cargo trial", "run"], words].concat()).expect("good arguments").command {
            Command::Run(run) => run,
            other => panic!("not a run: {other:?}"),
        }
    }

    #[test]
    fn seeds_begin_where_they_are_told() {
        assert_eq!(run(&[]).seeds(), 1..5);
        assert_eq!(run(&["--seed", "17"]).seeds(), 17..18);
        assert_eq!(run(&["--seeds", "3"]).seeds(), 1..4);
        assert_eq!(run(&["--seed", "17", "--seeds", "3"]).seeds(), 17..20);
    }

    #[test]
    fn every_command_shows_examples_and_the_whole_is_consistent() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("cargo trial"), "{} has no examples", command.get_name());
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_code_2() {
        let wrong: [&[&str]; 12] = [
            &["run", "--wrong"],
            &["run", "--seeds", "0"],
            &["bench", "--hosts", "3"],
            &["bench", "--hosts", "3+10,0+5"],
            &["run", "--jobs", "many"],
            &["replay"],
            &["replay", "r.json", "--seed", "1"],
            &["real", "--minutes", "2", "--kills", "5"],
            &["fly"],
            &["run", "--policy", "lucky"],
            &["replay", "r.toml", "--policy", "guided"],
            &["mutants", "--compare", "--policy", "guided"],
        ];
        for words in wrong {
            let error = Cli::try_parse_from([&["cargo trial"], words].concat()).expect_err("wrong");
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }
}
