//! What is remembered of a pod: on disk ([`Record`]) and in memory ([`Facts`]).

use crate::runtime::{Container, ContainerState, Exit, Listing};
use api::core::v1::{ContainerStatus, Pod};
use api::{ObjectExt, Timestamp};
use client::Now;
use mark::sometimes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::spec;

/// Exit code of a container of which nobody knows how it ended; never 0, so that it never passes for success.
pub(crate) const UNKNOWN_CODE: i32 = 137;
/// Reason of such an end, as upstream has it.
pub(crate) const UNKNOWN_REASON: &str = "ContainerStatusUnknown";
/// Message of such an end, as upstream has it.
const UNKNOWN_MESSAGE: &str = "The container could not be located when the pod was terminated";

/// What is durable of a pod, from before anything of it starts until it is gone from the API and from this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The pod's UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address, once it has one. Nobody else gets it while this record exists.
    pub ip: Option<IpAddr>,
    /// `status.startTime`: when this node took note of it.
    pub started: Timestamp,
    /// How long its containers have to end, for when the API no longer says.
    pub grace_s: u64,
    /// How many sandboxes were made for it.
    pub sandboxes: u32,
    /// The sandbox in which its initial containers are done.
    pub initialized: Option<String>,
    /// By name of the container.
    pub containers: BTreeMap<String, ContainerRecord>,
    /// What was decided for good.
    pub verdict: Option<Verdict>,
}

/// What is durable of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// How often it was meant to start; the latest start has the attempt `starts - 1`.
    pub starts: u32,
    /// The latest one's id, once it was seen.
    pub id: Option<String>,
    /// The image that it runs, as the runtime calls it.
    pub image_id: String,
    /// How the latest one ended, if it did.
    pub exit: Option<Exit>,
    /// How the one before ended, and its id.
    pub last: Option<(Option<String>, Exit)>,
    /// How long the next start waits after an end; 0 before the first restart.
    pub backoff_s: u32,
}

/// What was decided about a pod for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It never gets to run here.
    Rejected {
        /// As `status.reason`: `OutOfcpu`.
        reason: String,
        /// As `status.message`.
        message: String,
    },
    /// It is over, once nothing of it runs.
    Over {
        /// `Succeeded` instead of `Failed`.
        succeeded: bool,
        /// As `status.reason`; may be empty.
        reason: String,
        /// As `status.message`; may be empty.
        message: String,
    },
}

impl Verdict {
    /// The phase that it stands for.
    pub fn phase(&self) -> &'static str {
        match self {
            Verdict::Over { succeeded: true, .. } => "Succeeded",
            Verdict::Over { succeeded: false, .. } | Verdict::Rejected { .. } => "Failed",
        }
    }
}

/// What is known of a pod as long as the agent lives.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The container that is being started by the step under way; empty for another step.
    pub busy: Option<String>,
    /// The API server has said that it knows `status.startTime`: what runs here cannot be forgotten together with the disk.
    pub acknowledged: bool,
    /// When each end of a container was noticed, by name and attempt.
    pub noticed: BTreeMap<(String, u32), Duration>,
    /// By container id: until when it has to end.
    pub stopping: BTreeMap<String, Duration>,
    /// By name of the container.
    pub probes: BTreeMap<String, ProbeResults>,
    /// By container id: how its postStart hook fares. One that is not here has none, or is done.
    pub hooks: BTreeMap<String, Hook>,
    /// By name of the container (empty for the sandbox): why it could not be started.
    pub failures: BTreeMap<String, Failure>,
    /// Since when the pod is to end.
    pub ending: Option<Duration>,
}

/// What probes found about a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResults {
    /// About the container with this id.
    pub id: String,
    /// Of the startup probe.
    pub startup: Option<bool>,
    /// Of the liveness probe.
    pub liveness: Option<bool>,
    /// Of the readiness probe.
    pub readiness: Option<bool>,
}

/// How a postStart hook fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// It runs.
    Running,
    /// It failed, and so did its container.
    Failed,
}

/// Why something could not be started, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
    /// How often in a row.
    pub count: u32,
    /// When it failed last.
    pub at: Duration,
}

/// What failed when something could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The image cannot be had.
    Pull,
    /// What the container is made from is wrong.
    Config,
    /// The runtime did not make it.
    Create,
    /// The runtime did not start it.
    Run,
    /// The runtime did not make the sandbox.
    Sandbox,
}

/// For how long a failed pull shows as such, before the wait for the next one shows.
const FRESH: Duration = Duration::from_secs(1);

impl Failure {
    /// Until when it shows as what it is, and not as the wait that follows it.
    pub(super) fn fresh_until(&self) -> Duration {
        self.at + FRESH
    }

    /// How long after the failure to try again: 10 s, doubled up to 5 minutes for images and sandboxes as upstream's
    /// image back-off; other failures are tried at the pace of upstream's worker, 10 s.
    pub fn delay(&self) -> Duration {
        match self.kind {
            FailureKind::Pull => Duration::from_secs((10_u64 << self.count.saturating_sub(1).min(5)).min(300)),
            FailureKind::Sandbox => Duration::from_secs((1_u64 << self.count.saturating_sub(1).min(5)).min(30)),
            FailureKind::Config | FailureKind::Create | FailureKind::Run => Duration::from_secs(10),
        }
    }
}

impl Record {
    /// Of a pod that this node hears of for the first time, as far as the API and the runtime know.
    ///
    /// A pod of which the API says that it was started, but of which there is no record, ran on a disk that is gone. One
    /// that must not start twice fails then; the others go on counting where the API stands.
    pub fn new(pod: &Pod, listing: &Listing, wall: Timestamp) -> Record {
        let status = pod.status.clone().unwrap_or_default();
        let mut record = Record {
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            ip: None,
            started: status.start_time.as_ref().map_or(wall, |time| time.0),
            grace_s: spec::grace(pod).as_secs(),
            sandboxes: listing.sandboxes.iter().map(|sandbox| sandbox.config.attempt + 1).max().unwrap_or(0),
            initialized: None,
            containers: BTreeMap::new(),
            verdict: None,
        };
        record.ip = listing.sandboxes.iter().find(|sandbox| sandbox.ready).map(|sandbox| sandbox.config.ip);
        let statuses = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        for status in statuses {
            if let Some(container) = restored(status, wall) {
                record.containers.insert(status.name.clone(), container);
            }
        }
        for container in &listing.containers {
            let known = record.containers.entry(container.name.clone()).or_default();
            if container.attempt >= known.starts {
                *known =
                    ContainerRecord { starts: container.attempt + 1, last: known.last.clone(), ..Default::default() };
            }
        }
        let terminal = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let acknowledged = status.start_time.is_some();
        if acknowledged && !terminal && listing.containers.is_empty() && spec::policy_is_never(pod) {
            sometimes!("pod that must not start twice lost with its node's disk");
            record.verdict = Some(Verdict::Over {
                succeeded: false,
                reason: "NodeStateLost".to_owned(),
                message: "The node lost its record of this pod, whose containers must not start twice".to_owned(),
            });
        }
        record
    }

    /// What is known of a container.
    pub fn container(&self, name: &str) -> &ContainerRecord {
        self.containers.get(name).unwrap_or(&NEVER_STARTED)
    }
}

static NEVER_STARTED: ContainerRecord =
    ContainerRecord { starts: 0, id: None, image_id: String::new(), exit: None, last: None, backoff_s: 0 };

/// What the API knows of a container whose record is lost; `None` if it never started.
fn restored(status: &ContainerStatus, wall: Timestamp) -> Option<ContainerRecord> {
    let state = status.state.clone().unwrap_or_default();
    let began = state.running.is_some() || state.terminated.is_some() || status.restart_count > 0;
    if !began && status.container_id.is_none() {
        return None;
    }
    let exit = match state.terminated {
        Some(ended) => Exit {
            code: ended.exit_code,
            reason: ended.reason.unwrap_or_default(),
            message: ended.message.unwrap_or_default(),
            started_at: ended.started_at.map_or(wall, |time| time.0),
            finished_at: ended.finished_at.map_or(wall, |time| time.0),
        },
        None => unknown_exit(state.running.and_then(|running| running.started_at).map_or(wall, |time| time.0), wall),
    };
    Some(ContainerRecord {
        starts: u32::try_from(status.restart_count).unwrap_or(0).saturating_add(1),
        id: status.container_id.as_deref().map(bare_id),
        image_id: status.image_id.clone(),
        exit: Some(exit),
        last: None,
        backoff_s: 0,
    })
}

/// A container's id without the runtime's name before it.
pub(crate) fn bare_id(id: &str) -> String {
    id.split_once("://").map_or(id, |(_, bare)| bare).to_owned()
}

/// The end of a container of which nobody knows how it ended.
pub(super) fn unknown_exit(started_at: Timestamp, wall: Timestamp) -> Exit {
    Exit {
        code: UNKNOWN_CODE,
        reason: UNKNOWN_REASON.to_owned(),
        message: UNKNOWN_MESSAGE.to_owned(),
        started_at,
        finished_at: wall,
    }
}

impl Facts {
    /// Takes note of what the runtime shows: when ends were first seen, and that what is dead need not be stopped.
    ///
    /// Ends that were there before the agent are placed by the wall clock, but never into the future, so that a clock that
    /// was set back makes nothing wait for ever.
    pub fn notice(&mut self, listing: &Listing, now: Now) {
        for container in &listing.containers {
            if let ContainerState::Exited(exit) = &container.state {
                let ago = now.wall.duration_since(exit.finished_at);
                let ago = Duration::try_from(ago).unwrap_or_default();
                let key = (container.name.clone(), container.attempt);
                self.noticed.entry(key).or_insert_with(|| now.monotonic.saturating_sub(ago));
            }
        }
        let lives = |id: &String| listing.containers.iter().any(|it| it.id == *id && is_running(it));
        self.stopping.retain(|id, _| lives(id));
        self.hooks.retain(|id, _| lives(id));
        self.noticed.retain(|(name, attempt), _| {
            listing.containers.iter().any(|it| it.name == *name && it.attempt <= *attempt)
        });
    }

    /// What probes found about the container `name`, if it still is the one with this id.
    pub fn probes_of(&self, name: &str, id: &str) -> ProbeResults {
        let known = self.probes.get(name).filter(|results| results.id == id).cloned();
        known.unwrap_or_else(|| ProbeResults { id: id.to_owned(), ..Default::default() })
    }
}

/// Whether a container is running now.
pub(super) fn is_running(container: &Container) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}
