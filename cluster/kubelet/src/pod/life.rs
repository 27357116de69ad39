//! What a decision about a pod is made from: what became of each container, and what was decided for good.

use super::actions::{Step, Stop, View};
use super::record::{Record, Verdict, unknown_exit};
use super::spec::{self, Kind, Named};
use super::status;
use crate::runtime::{Container, ContainerState, Exit, Sandbox};
use api::core::v1::PodStatus;
use client::Note;
use mark::sometimes;
use std::time::Duration;

/// Upstream forgets the back-off of a container that ran for twice its largest back-off.
const BACKOFF_RESET: Duration = Duration::from_secs(600);

/// What became of the latest start of a container.
pub(super) enum State<'a> {
    /// It was never meant to start.
    Fresh,
    /// The step under way starts it.
    Starting,
    /// It exists and never started.
    Created(&'a Container),
    /// It runs.
    Running(&'a Container, api::Timestamp),
    /// It is dead, as far as anybody knows.
    Ended(Exit),
}

/// A decision in the making.
pub(super) struct Life<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) record: Record,
    /// The record with the intent of the step in it; the status is that of before.
    pub(super) planned: Option<Record>,
    pub(super) containers: Vec<Named<'a>>,
    pub(super) sandbox: Option<&'a Sandbox>,
    pub(super) stops: Vec<Stop>,
    pub(super) step: Option<Step>,
    pub(super) wake: Option<Duration>,
    pub(super) notes: Vec<Note>,
}

impl<'a> Life<'a> {
    pub(super) fn new(view: &'a View<'a>) -> Self {
        let ready = view.listing.sandboxes.iter().filter(|sandbox| sandbox.ready);
        let record = Record { grace_s: spec::grace(view.pod).as_secs(), ..view.record.clone() };
        Life {
            view,
            record,
            planned: None,
            containers: spec::containers(view.pod),
            sandbox: ready.max_by_key(|sandbox| sandbox.config.attempt),
            stops: Vec::new(),
            step: None,
            wake: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.view.now.monotonic
    }

    pub(super) fn wake_at(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |already| already.min(at)));
    }

    pub(super) fn is_busy(&self) -> bool {
        self.view.facts.busy.is_some()
    }

    /// The container of the latest start.
    pub(super) fn current(&self, name: &str) -> Option<&'a Container> {
        let starts = self.record.container(name).starts;
        self.view.listing.containers.iter().find(|it| it.name == name && it.attempt + 1 == starts)
    }

    pub(super) fn state(&self, name: &str) -> State<'a> {
        let record = self.record.container(name);
        if self.view.facts.busy.as_deref() == Some(name) {
            return State::Starting;
        }
        if record.starts == 0 {
            return State::Fresh;
        }
        match self.current(name) {
            Some(container) => match &container.state {
                ContainerState::Created => State::Created(container),
                ContainerState::Running { started_at } => State::Running(container, *started_at),
                ContainerState::Exited(exit) => State::Ended(exit.clone()),
            },
            None => State::Ended(record.exit.clone().unwrap_or_else(|| self.unknown())),
        }
    }

    pub(super) fn unknown(&self) -> Exit {
        unknown_exit(self.record.started, self.view.now.wall)
    }

    /// Remembers what the runtime shows of the latest starts, for when it shows them no more.
    pub(super) fn take_note(&mut self) {
        for name in self.containers.iter().map(|named| named.name()).collect::<Vec<_>>() {
            if self.view.facts.busy.as_deref() == Some(name) || self.record.container(name).starts == 0 {
                continue;
            }
            let current = self.current(name);
            let unknown = self.unknown();
            let Some(record) = self.record.containers.get_mut(name) else { continue };
            let Some(current) = current else {
                if record.exit.is_none() {
                    sometimes!("container that was meant to start is unknown to its runtime");
                    record.exit = Some(unknown);
                }
                continue;
            };
            if record.id.as_ref() != Some(&current.id) {
                record.id = Some(current.id.clone());
            }
            if record.image_id != current.image_id {
                record.image_id.clone_from(&current.image_id);
            }
            if let ContainerState::Exited(exit) = &current.state
                && record.exit.as_ref() != Some(exit)
            {
                record.exit = Some(exit.clone());
            }
        }
    }

    /// Decides what is decided for good.
    pub(super) fn judge(&mut self) {
        if self.record.verdict.is_some() {
            return;
        }
        let status = self.view.pod.status.as_ref();
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        let over = |reason: &str, message: &str| {
            Some(Verdict::Over { succeeded: false, reason: reason.to_owned(), message: message.to_owned() })
        };
        let phase = status.and_then(|status| status.phase.as_deref());
        if let (Some(status), Some("Succeeded" | "Failed")) = (status, phase) {
            self.record.verdict = Some(Verdict::Over {
                succeeded: phase == Some("Succeeded"),
                reason: text(status.reason.as_ref()),
                message: text(status.message.as_ref()),
            });
        } else if self.is_past_deadline() {
            sometimes!("pod ran longer than its deadline");
            self.record.verdict =
                over("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
        } else if self.lost_its_only_try() || self.failed_to_initialize() {
            self.record.verdict = over("", "");
        }
    }

    pub(super) fn is_past_deadline(&mut self) -> bool {
        let Some(allowed) = self.view.pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds) else {
            return false;
        };
        let allowed = Duration::from_secs(u64::try_from(allowed).unwrap_or(0));
        let active = self.view.now.wall.duration_since(self.record.started);
        let active = Duration::try_from(active).unwrap_or_default();
        if active < allowed {
            self.wake_at(self.now() + (allowed - active));
        }
        active >= allowed
    }

    /// Under restartPolicy Never a sandbox that is lost takes what has not run yet with it.
    pub(super) fn lost_its_only_try(&self) -> bool {
        let began = || self.record.containers.values().any(|container| container.starts > 0);
        spec::policy_is_never(self.view.pod)
            && self.sandbox.is_none()
            && !self.is_busy()
            && began()
            && !self.is_complete()
    }

    pub(super) fn failed_to_initialize(&self) -> bool {
        let initial = self.containers.iter().filter(|named| named.kind == Kind::Init);
        let failed = |named: &&Named<'_>| match self.state(named.name()) {
            State::Ended(exit) => exit.code != 0 && !spec::restarts(self.view.pod, **named, exit.code),
            State::Fresh | State::Starting | State::Created(_) | State::Running(..) => false,
        };
        initial.filter(failed).count() > 0
    }

    /// Every regular container is done for good.
    pub(super) fn is_complete(&self) -> bool {
        let mut regular = self.containers.iter().filter(|named| named.kind == Kind::Regular).peekable();
        regular.peek().is_some()
            && regular.all(|named| match self.state(named.name()) {
                State::Ended(exit) => !self.starts_again(*named, exit.code),
                State::Fresh | State::Starting | State::Created(_) | State::Running(..) => false,
            })
    }

    pub(super) fn starts_again(&self, named: Named<'_>, code: i32) -> bool {
        spec::restarts(self.view.pod, named, code) && !spec::at_most_once(self.view.pod, named)
    }

    /// Whether a container that runs counts as started: its hook is done and its startup probe succeeded.
    pub(super) fn is_started(&self, named: Named<'_>, id: &str) -> bool {
        let probed = named.container.startup_probe.is_none()
            || self.view.facts.probes_of(named.name(), id).startup == Some(true);
        probed && !self.view.facts.hooks.contains_key(id)
    }

    pub(super) fn is_here(&self, container: Option<&Container>) -> bool {
        matches!((container, self.sandbox), (Some(container), Some(sandbox)) if container.sandbox_id == sandbox.id)
    }

    /// The back-off after this end, in seconds.
    pub(super) fn backoff(&self, name: &str, exit: &Exit) -> u32 {
        let ran = Duration::try_from(exit.finished_at.duration_since(exit.started_at)).unwrap_or_default();
        if ran > BACKOFF_RESET { 0 } else { self.record.container(name).backoff_s }
    }

    /// How much is left of the back-off after this end.
    pub(super) fn backoff_left(&self, name: &str, exit: &Exit) -> Duration {
        let backoff = Duration::from_secs(u64::from(self.backoff(name, exit)));
        let attempt = self.record.container(name).starts.saturating_sub(1);
        let passed = match self.view.facts.noticed.get(&(name.to_owned(), attempt)) {
            Some(at) => self.now().saturating_sub(*at),
            None => {
                let passed = self.view.now.wall.duration_since(exit.finished_at);
                Duration::try_from(passed).unwrap_or_default()
            }
        };
        backoff.saturating_sub(passed)
    }

    /// Tells people once that a container is being held back.
    pub(super) fn note_backoff(&mut self, status: &PodStatus) {
        let held = |status: &PodStatus, name: &str| status::is_in_backoff(status, name);
        for named in self.containers.clone() {
            let name = named.name();
            if held(status, name) && !held(self.view.previous, name) {
                let pod = &self.record;
                let message = format!(
                    "Back-off restarting failed container {name} in pod {}_{}({})",
                    pod.name, pod.namespace, pod.uid
                );
                self.notes.push(status::note(self.view.pod, named, true, "BackOff", message));
            }
        }
    }
}
