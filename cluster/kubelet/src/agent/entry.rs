//! What the agent holds of a pod, and how it takes in what comes back about it.

use super::effects::{self, Outcome, Tools};
use crate::pod::{Facts, Failure, FailureKind, Hook, Step, Verdict, same, shown};
use crate::probe::{Kind, Report};
use crate::runtime::{ContainerState, Listing};
use api::ObjectExt;
use api::core::v1::{Pod, PodStatus};
use client::Now;
use rt::task::AbortOnDrop;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What the agent holds of a pod.
pub(super) struct Entry {
    /// As the API has it, or had it last.
    pub(super) pod: Arc<Pod>,
    /// It is gone from the API.
    pub(super) gone: bool,
    pub(super) listing: Listing,
    pub(super) facts: Facts,
    /// What was decided last.
    pub(super) status: PodStatus,
    /// Nothing is left of it.
    pub(super) ended: bool,
    /// The step under way, and how to hurry it.
    pub(super) step: Option<(Step, Arc<Notify>, AbortOnDrop<()>)>,
    /// By container and kind; of the container with this id.
    pub(super) probes: BTreeMap<(String, Kind), (String, AbortOnDrop<()>)>,
    /// The deletion was handed to the writer.
    pub(super) confirmed: bool,
    pub(super) wake: Option<Duration>,
    /// The status as it is was handed to the writer since the API showed another.
    pub(super) told: bool,
    /// Containers that ran before this agent, by id.
    pub(super) restored: BTreeSet<String>,
}

impl Entry {
    /// Whether it counts against what the node has.
    pub(super) fn holds_resources(&self, verdict: Option<&Verdict>) -> bool {
        let rejected = matches!(verdict, Some(Verdict::Rejected { .. }));
        !rejected && !self.ended && !matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }
}

impl Entry {
    pub(super) fn new(pod: Arc<Pod>, listing: Listing, now: Now) -> Entry {
        let mut facts = Facts::default();
        facts.notice(&listing, now);
        let status = pod.status.clone().unwrap_or_default();
        facts.acknowledged = status.start_time.is_some();
        Entry {
            pod,
            gone: false,
            listing,
            facts,
            status,
            ended: false,
            step: None,
            probes: BTreeMap::new(),
            confirmed: false,
            wake: None,
            told: false,
            restored: BTreeSet::new(),
        }
    }

    /// The step under way, for a view.
    pub(super) fn step_name(&self) -> Option<String> {
        self.step.as_ref().map(|(step, ..)| format!("{step:?}"))
    }

    /// Takes up what the API shows of containers that ran before this agent: who was ready stays so until a probe says
    /// otherwise.
    pub(super) fn restore(&mut self, first: bool) {
        for container in &self.listing.containers {
            let running = matches!(container.state, ContainerState::Running { .. });
            if !running || !first {
                continue;
            }
            self.restored.insert(container.id.clone());
            let Some((ready, started)) = shown(&self.pod, &container.name, &container.id) else { continue };
            let mut results = self.facts.probes_of(&container.name, &container.id);
            results.readiness = Some(ready);
            results.startup = started.then_some(true);
            self.facts.probes.insert(container.name.clone(), results);
        }
    }

    /// Takes a newer version in. Says whether it matters for decisions.
    pub(super) fn update(&mut self, pod: Arc<Pod>) -> bool {
        let before = &self.pod;
        let gates = pod.spec.as_ref().is_some_and(|spec| spec.readiness_gates.is_some());
        let theirs = pod.status.clone().unwrap_or_default();
        let matters = pod.generation() != before.generation()
            || pod.metadata.deletion_timestamp != before.metadata.deletion_timestamp
            || pod.metadata.deletion_grace_period_seconds != before.metadata.deletion_grace_period_seconds
            || gates
            || (theirs.start_time.is_some() && !self.facts.acknowledged)
            || !same(&self.status, &theirs);
        self.facts.acknowledged |= theirs.start_time.is_some();
        // A status that somebody else changed is to be written again.
        self.told &= same(&self.status, &theirs);
        self.pod = pod;
        matters
    }
}

impl Tools {
    /// A step is done. Returns the container whose postStart hook is to be run, by name and id.
    pub(super) fn stepped(&self, entry: &mut Entry, uid: &str, outcome: Outcome, now: Now) -> Option<(String, String)> {
        let (step, ..) = entry.step.take()?;
        entry.facts.busy = None;
        if let Some(listing) = outcome.listing {
            entry.listing = listing;
        }
        let name = match step {
            Step::Start { container, .. } => container,
            Step::CreateSandbox { .. } | Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } => String::new(),
        };
        match outcome.failure {
            Some((kind, message)) => {
                self.records.change(uid, |record| {
                    if let Some(container) = record.containers.get_mut(&name) {
                        container.undo_start();
                    }
                });
                entry.facts.fail(&name, kind, message, now);
            }
            None => drop(entry.facts.failures.remove(&name)),
        }
        let (id, hook) = outcome.started?;
        hook.then(|| {
            entry.facts.hooks.insert(id.clone(), Hook::Running);
            (name, id)
        })
    }

    pub(super) fn take_report(&self, node: &str, entry: &mut Entry, report: &Report) {
        if let Some(failure) = &report.failure {
            let message = format!("{} probe failed: {failure}", report.kind.title());
            self.recorder.record(&effects::note(&entry.pod, &report.container, true, "Unhealthy", message));
        }
        let Some(verdict) = report.verdict else { return };
        mark::probed(node, &report.pod_uid, &report.container, &report.id, report.kind.name(), verdict);
        let mut results = entry.facts.probes_of(&report.container, &report.id);
        let result = match report.kind {
            Kind::Startup => &mut results.startup,
            Kind::Liveness => &mut results.liveness,
            Kind::Readiness => &mut results.readiness,
        };
        *result = Some(verdict);
        entry.facts.probes.insert(report.container.clone(), results);
    }
}

impl Facts {
    pub(super) fn fail(&mut self, name: &str, kind: FailureKind, message: String, now: Now) {
        let count = self.failures.get(name).filter(|before| before.kind == kind).map_or(0, |before| before.count);
        let failure = Failure { kind, message, count: count + 1, at: now.monotonic };
        self.failures.insert(name.to_owned(), failure);
    }
}
