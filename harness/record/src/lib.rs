//! A trial's record as plain data: what was asked for, what was done and seen, and what was judged of it.
//!
//! ```text
//! config + seed -> sim (or real processes) -> Record { schedule, strikes, operations, watches, observations }
//!                                                  -> checkers -> verdicts -> reports
//! ```
//!
//! Nothing here knows a product type: keys are text, times are nanoseconds since the trial began, and whoever writes a
//! record translates into it. A record on disk is one JSON document that begins with its format version.

use faults::{Fault, Schedule, Swarm};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

mod case;
mod cluster;
mod file;
mod guarantees;
mod history;
mod operator;
mod scenario;
mod twin;
mod value;
// Reports read records and know no faults but those named in them.
pub use case::{CASE_FORMAT, Case, CaseError};
pub use cluster::*;
pub use faults::{Kind, Ns};
pub use file::{ReadError, read, write, write_whole};
pub use guarantees::{
    CONVERGE_NS, ELECTION_NS, FAILOVER_NS, GUARANTEES, Guarantee, Guaranteed, PROGRESS_NS, QUEUE_NS, Scope, Side,
};
pub use history::*;
pub use operator::{OperatorOrders, StrikeKind};
pub use scenario::{Base, ScenarioError, read_scenario};
pub use twin::*;
pub use value::{Unpacker, Value, pack};

/// Version of the record's form. A reader refuses every other one.
pub const FORMAT: u32 = 4;

/// One trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// Hash of the sources that `seatrial` was built from; a record repeats only under the same.
    pub build: String,
    /// What was to be tried.
    pub config: Config,
    /// The trial's seed: topology, workload and schedule come from it.
    pub seed: u64,
    /// Seed of the order in which ready tasks run.
    pub executor_seed: u64,
    /// What was to go wrong.
    pub schedule: Schedule,
    /// What went wrong.
    pub strikes: Vec<Strike>,
    /// What clients asked and were told, in order of invocation.
    pub operations: Vec<Operation>,
    /// What watchers were sent.
    pub watches: Vec<Watch>,
    /// What the harness saw of the members, in order of time.
    pub observations: Vec<Observation>,
    /// What was seen of an orchestrator.
    pub cluster: ClusterHistory,
    /// How often each mark was said.
    pub marks: BTreeMap<String, u64>,
    /// When the faults ended.
    pub healed_ns: Ns,
    /// When the trial ended.
    pub ended_ns: Ns,
    /// How much later than it happened, or was meant to, anything may be seen or done, because the machine was busy. 0 in
    /// the simulator, where nothing takes time that is not meant to.
    pub slack_ns: Ns,
    /// Hash of the whole event log.
    pub log_hash: u64,
    /// Hash of the event log so far, at the end of each simulated second.
    pub checkpoints: Vec<u64>,
    /// Panics of product code: where, and what it said. Each is a failure of its own.
    pub panics: Vec<Panic>,
    /// What was judged, in order of [`Guarantee`]. Empty until judged.
    pub verdicts: Vec<Verdict>,
}

impl Record {
    /// The members that a fault has kept from the others to the very end, so that nothing is expected of them.
    pub fn frozen_members(&self) -> BTreeSet<u32> {
        let frozen = self.strikes.iter().filter(|strike| strike.is_frozen(self.ended_ns));
        frozen.flat_map(|strike| strike.members.iter().copied()).collect()
    }
}

impl Strike {
    /// Whether nobody heals it before the trial has ended, at `ended_ns`.
    pub fn is_frozen(&self, ended_ns: Ns) -> bool {
        self.kind.outlasts() && self.until_ns >= ended_ns
    }
}

/// What a trial is made of, the seed apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Name of the scenario that this is a setting of.
    pub scenario: String,
    /// Members of the store.
    pub members: u32,
    /// Of a thousand seeds, how many try one member more: in an even number, one member and its friend may be no
    /// majority. 0 in the record of a trial, where `members` is what was tried.
    pub one_more_permille: u32,
    /// Of a thousand seeds, how many leave a minority of the members cut off, dead or stopped for good instead of healing
    /// it with the rest.
    #[serde(default)]
    pub freeze_minority_permille: u32,
    /// Hosts with clients on them.
    pub client_hosts: u32,
    /// How long faults strike.
    pub faults_ns: Ns,
    /// How long everything is left in peace afterwards.
    pub calm_ns: Ns,
    /// Operations that all clients together aim at per simulated second.
    pub rate: u32,
    /// Distinct keys that they use.
    pub keys: u32,
    /// Whether faults strike at all.
    pub faults: bool,
    /// What runs the hosts.
    #[serde(default, skip_serializing_if = "Backend::is_madsim")]
    pub backend: Backend,
    /// The orchestrator on the store, if there is one.
    pub cluster: Option<Cluster>,
    /// What may strike, where the scenario says so itself: one that a user wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<FaultRules>,
}

/// Which simulator runs a trial's hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Simulator A: madsim, with a network of our own. Of real processes, which have no simulator, too.
    #[default]
    Madsim,
    /// Simulator B, for a second opinion on stores: tokio under turmoil.
    Turmoil,
}

impl Backend {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Madsim => "madsim",
            Backend::Turmoil => "turmoil",
        }
    }

    /// The kinds of fault that strike stores and that it has no means for: they are left out of its trials' schedules.
    pub fn lacks(self) -> &'static [Kind] {
        match self {
            Backend::Madsim => &[],
            // turmoil's streams send nothing again, so that what is lost once ends them without a word; and its links
            // carry whatever they are given.
            Backend::Turmoil => &[Kind::LinkLoss, Kind::LinkRate],
        }
    }

    fn is_madsim(&self) -> bool {
        *self == Backend::Madsim
    }
}

/// What may strike in a trial of a scenario that says so itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRules {
    /// From which each trial's faults are drawn.
    pub swarm: Swarm,
    /// What strikes in each trial besides.
    pub strikes: Vec<Fault>,
}

/// A fault that struck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strike {
    /// The fault's id in the schedule.
    pub fault: u32,
    /// The fault's kind.
    pub kind: faults::Kind,
    /// From this time.
    pub from_ns: Ns,
    /// Until this time; what a restart or a healed network needs to recover is not in it.
    pub until_ns: Ns,
    /// Numbers of the members affected, resolved.
    pub members: Vec<u32>,
    /// Numbers of the client hosts affected, resolved.
    pub clients: Vec<u32>,
    /// Numbers of the nodes affected, resolved.
    pub nodes: Vec<u32>,
    /// Whether what it struck was at work: its target was up and had applied or served something in the second before.
    pub busy: bool,
    /// Members that cannot serve in a majority meanwhile: down, paused, frozen, drifting too far, without a disk.
    /// Empty for a fault of links.
    pub disabled: Vec<u32>,
    /// Directed links between members that are cut or held or too slow meanwhile, as pairs `(from, to)`.
    pub severed: Vec<(u32, u32)>,
}

/// Product code panicked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Panic {
    /// When.
    pub at_ns: Ns,
    /// On which host.
    pub host: String,
    /// Its message and place.
    pub message: String,
}

/// What was judged of one guarantee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which.
    pub guarantee: Guarantee,
    /// How often its condition was met, so that it could have failed. 0: vacuous.
    pub tested: u64,
    /// How it failed, in order of time; at most [`MAX_VIOLATIONS`].
    pub violations: Vec<Violation>,
    /// For a guarantee with a bound in time: the largest time seen.
    pub largest_ns: Option<Ns>,
}

/// Violations kept per guarantee: the first tells what is wrong, and a record stays readable.
pub const MAX_VIOLATIONS: usize = 16;

/// One way in which a guarantee failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// When it showed.
    pub at_ns: Ns,
    /// What was seen and what should have been, with the operations' ids.
    pub text: String,
}
