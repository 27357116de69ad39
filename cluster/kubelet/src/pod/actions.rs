//! What is to be done next about one pod: [`pod_actions`].
//!
//! Ends are asked for as soon as they are due, any number at once ([`Stop`]). Everything else is one [`Step`] at a time,
//! so that whatever comes between is seen before the next one.

use super::record::{ContainerRecord, Facts, FailureKind, Hook, Record, Verdict, is_running, unknown_exit};
use super::spec::{self, Kind, Named};
use super::status;
use crate::runtime::{Container, ContainerState, Exit, Listing, Sandbox};
use api::core::v1::{Pod, PodStatus};
use client::{Note, Now};
use mark::sometimes;
use std::net::IpAddr;
use std::time::Duration;

/// Upstream's back-off after a container's second end; each further one doubles it.
const BACKOFF_FIRST_S: u32 = 10;
/// Upstream's largest back-off.
const BACKOFF_MAX_S: u32 = 300;
/// Upstream forgets the back-off of a container that ran for twice its largest back-off.
const BACKOFF_RESET: Duration = Duration::from_secs(600);
/// Upstream gives every container at least so long to end.
const MIN_GRACE: Duration = Duration::from_secs(2);

/// All that a decision about one pod sees.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// As the API has it, or had it last.
    pub pod: &'a Pod,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// What is durable of it.
    pub record: &'a Record,
    /// What the runtime has of it.
    pub listing: &'a Listing,
    /// What the agent knows of it.
    pub facts: &'a Facts,
    /// The node's own address.
    pub node_ip: IpAddr,
    /// The runtime's name, which begins container ids in a status.
    pub runtime: &'a str,
    /// The status that was decided last, or that the API has.
    pub previous: &'a PodStatus,
    /// The time.
    pub now: Now,
}

/// What is wanted of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is bound here.
    Run,
    /// Its deletion was asked for, or it is gone from the API.
    End,
}

/// What is to be done about a pod.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What must be durable before the step is done.
    pub record: Record,
    /// Containers that are to end, all at once.
    pub stops: Vec<Stop>,
    /// What else is to be done now.
    pub step: Option<Step>,
    /// What the API should show.
    pub status: PodStatus,
    /// Decide again at this time of the monotonic clock even if nothing changes.
    pub wake: Option<Duration>,
    /// Events for people.
    pub notes: Vec<Note>,
    /// Since when the pod is ending, if it is.
    pub ending: Option<Duration>,
    /// Nothing of the pod is left on this node, and nothing will come.
    pub ended: bool,
}

/// A container that is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its id.
    pub id: String,
    /// Its name.
    pub container: String,
    /// How long it has.
    pub grace: Duration,
    /// For people.
    pub message: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the pod's sandbox.
    CreateSandbox {
        /// The how manieth, from 0.
        attempt: u32,
    },
    /// Fetch the image, create and start a container.
    Start {
        /// Its name.
        container: String,
        /// The how manieth start, from 0.
        attempt: u32,
    },
    /// Forget a dead container.
    RemoveContainer {
        /// Its id.
        id: String,
    },
    /// Forget a sandbox and what is in it.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
}

/// Decides about one pod. Holds no state between calls.
pub fn pod_actions(view: &View<'_>) -> Decision {
    let mut life = Life::new(view);
    life.take_note();
    life.judge();
    let ending = view.wanted == Wanted::End || life.record.verdict.is_some() || life.is_complete();
    let mut ended = false;
    if ending {
        ended = life.end();
    } else {
        life.run();
    }
    let status = status::status(&life, ending);
    if life.record.verdict.is_none() && matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        life.record.verdict = Some(Verdict::Over {
            succeeded: status.phase.as_deref() == Some("Succeeded"),
            reason: status.reason.clone().unwrap_or_default(),
            message: status.message.clone().unwrap_or_default(),
        });
    }
    life.note_backoff(&status);
    Decision {
        record: life.planned.unwrap_or(life.record),
        stops: life.stops,
        step: life.step,
        status,
        wake: life.wake,
        notes: life.notes,
        ending: ending.then(|| view.facts.ending.unwrap_or(view.now.monotonic)),
        ended,
    }
}

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
    planned: Option<Record>,
    pub(super) containers: Vec<Named<'a>>,
    pub(super) sandbox: Option<&'a Sandbox>,
    stops: Vec<Stop>,
    step: Option<Step>,
    wake: Option<Duration>,
    notes: Vec<Note>,
}

impl<'a> Life<'a> {
    fn new(view: &'a View<'a>) -> Self {
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

    fn now(&self) -> Duration {
        self.view.now.monotonic
    }

    fn wake_at(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |already| already.min(at)));
    }

    fn is_busy(&self) -> bool {
        self.view.facts.busy.is_some()
    }

    /// The container of the latest start.
    fn current(&self, name: &str) -> Option<&'a Container> {
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

    fn unknown(&self) -> Exit {
        unknown_exit(self.record.started, self.view.now.wall)
    }

    /// Remembers what the runtime shows of the latest starts, for when it shows them no more.
    fn take_note(&mut self) {
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
    fn judge(&mut self) {
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

    fn is_past_deadline(&mut self) -> bool {
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
    fn lost_its_only_try(&self) -> bool {
        let began = || self.record.containers.values().any(|container| container.starts > 0);
        spec::policy_is_never(self.view.pod)
            && self.sandbox.is_none()
            && !self.is_busy()
            && began()
            && !self.is_complete()
    }

    fn failed_to_initialize(&self) -> bool {
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

    fn starts_again(&self, named: Named<'_>, code: i32) -> bool {
        spec::restarts(self.view.pod, named, code) && !spec::at_most_once(self.view.pod, named)
    }

    /// Whether a container that runs counts as started: its hook is done and its startup probe succeeded.
    pub(super) fn is_started(&self, named: Named<'_>, id: &str) -> bool {
        let probed = named.container.startup_probe.is_none()
            || self.view.facts.probes_of(named.name(), id).startup == Some(true);
        probed && !self.view.facts.hooks.contains_key(id)
    }

    fn is_here(&self, container: Option<&Container>) -> bool {
        matches!((container, self.sandbox), (Some(container), Some(sandbox)) if container.sandbox_id == sandbox.id)
    }

    /// What a pod that is to run needs next.
    fn run(&mut self) {
        self.stop_strays();
        self.stop_unhealthy();
        if self.is_busy() {
            return;
        }
        if self.remove_unmeant() {
            return;
        }
        match self.sandbox {
            None => self.make_sandbox(),
            Some(sandbox) => {
                if self.run_initial(sandbox) {
                    self.run_regular();
                }
            }
        }
        if self.step.is_none() {
            self.collect();
        }
    }

    /// Ends what runs beside the sandbox or beside a later start: a runtime that was restored from an older state can
    /// show such.
    fn stop_strays(&mut self) {
        let strays = self.view.listing.containers.iter().filter(|container| {
            let starting = self.view.facts.busy.as_deref() == Some(container.name.as_str());
            let latest = container.attempt + 1 >= self.record.container(&container.name).starts;
            let here = self.sandbox.is_some_and(|sandbox| sandbox.id == container.sandbox_id);
            is_running(container) && !starting && (!latest || !here)
        });
        for stray in strays.collect::<Vec<_>>() {
            let message = format!("Stopping container {}", stray.name);
            self.stop(stray, Duration::from_secs(self.record.grace_s), message);
        }
    }

    /// Ends what its probes or its hook say is to be started anew.
    fn stop_unhealthy(&mut self) {
        for named in self.containers.clone() {
            let State::Running(container, _) = self.state(named.name()) else { continue };
            let found = self.view.facts.probes_of(named.name(), &container.id);
            let hook_failed = self.view.facts.hooks.get(&container.id) == Some(&Hook::Failed);
            let (what, probe) = if hook_failed {
                ("PostStartHook", None)
            } else if found.startup == Some(false) {
                ("startup probe", named.container.startup_probe.as_ref())
            } else if found.liveness == Some(false) {
                ("liveness probe", named.container.liveness_probe.as_ref())
            } else {
                continue;
            };
            let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
            let own = own.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
            let grace = own.unwrap_or_else(|| spec::grace(self.view.pod));
            let name = named.name();
            let message = match (hook_failed, self.starts_again(named, 137)) {
                (true, _) => format!("FailedPostStartHook: Container {name} failed"),
                (false, true) => format!("Container {name} failed {what}, will be restarted"),
                (false, false) => format!("Container {name} failed {what}"),
            };
            self.stop(container, grace, message);
        }
    }

    /// Asks a container to end, unless it already has to by then.
    fn stop(&mut self, container: &Container, grace: Duration, message: String) {
        let grace = grace.max(MIN_GRACE);
        let by = self.now() + grace;
        if self.view.facts.stopping.get(&container.id).is_some_and(|already| *already <= by) {
            return;
        }
        let (id, name) = (container.id.clone(), container.name.clone());
        self.stops.push(Stop { id, container: name, grace, message });
    }

    fn make_sandbox(&mut self) {
        if self.record.ip.is_none() || !self.may_try("") {
            return;
        }
        let mut planned = self.record.clone();
        let attempt = planned.sandboxes;
        planned.sandboxes += 1;
        planned.initialized = None;
        self.planned = Some(planned);
        self.step = Some(Step::CreateSandbox { attempt });
    }

    /// Whether a former failure to start this is long enough ago.
    fn may_try(&mut self, name: &str) -> bool {
        let Some(failure) = self.view.facts.failures.get(name) else { return true };
        let due = failure.at + failure.delay();
        if due <= self.now() {
            return true;
        }
        self.wake_at(due);
        if failure.kind == FailureKind::Pull && failure.fresh_until() > self.now() {
            self.wake_at(failure.fresh_until());
        }
        false
    }

    /// Runs the initial containers, each when the one before is done or, for a sidecar, started. True when the regular
    /// ones may run.
    fn run_initial(&mut self, sandbox: &Sandbox) -> bool {
        let done = self.record.initialized.as_ref() == Some(&sandbox.id);
        let initial: Vec<Named<'a>> =
            self.containers.iter().filter(|named| named.kind != Kind::Regular).copied().collect();
        for named in initial {
            if done && named.kind == Kind::Init {
                continue;
            }
            let goes_on = match self.state(named.name()) {
                State::Starting => false,
                State::Fresh => {
                    self.start(named, 0);
                    false
                }
                State::Created(container) => {
                    self.forget(named, container);
                    false
                }
                State::Running(container, _) => named.kind == Kind::Sidecar && self.is_started(named, &container.id),
                State::Ended(exit) => self.is_done_or_restarts(named, &exit),
            };
            if !goes_on && !done {
                return false;
            }
        }
        self.record.initialized = Some(sandbox.id.clone());
        true
    }

    /// An initial container that ended: done if it succeeded in this sandbox, else started again.
    fn is_done_or_restarts(&mut self, named: Named<'a>, exit: &Exit) -> bool {
        let here = self.is_here(self.current(named.name()));
        if named.kind == Kind::Init && here && exit.code == 0 {
            return true;
        }
        self.restart(named, exit);
        false
    }

    fn run_regular(&mut self) {
        let regular: Vec<Named<'a>> =
            self.containers.iter().filter(|named| named.kind == Kind::Regular).copied().collect();
        for named in regular {
            if self.step.is_some() {
                return;
            }
            match self.state(named.name()) {
                State::Fresh => self.start(named, 0),
                State::Created(container) => self.forget(named, container),
                // Upstream starts one after the other, each with its hook.
                State::Running(container, _) if self.view.facts.hooks.contains_key(&container.id) => return,
                State::Starting | State::Running(..) => {}
                State::Ended(exit) => {
                    if self.starts_again(named, exit.code) {
                        self.restart(named, &exit);
                    }
                }
            }
        }
    }

    /// Starts a container again when its back-off is over.
    fn restart(&mut self, named: Named<'a>, exit: &Exit) {
        let backoff = self.backoff(named.name(), exit);
        let left = self.backoff_left(named.name(), exit);
        if left > Duration::ZERO {
            self.wake_at(self.now() + left);
            return;
        }
        self.start(named, if backoff == 0 { BACKOFF_FIRST_S } else { (backoff * 2).min(BACKOFF_MAX_S) });
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

    /// Starts a container: the intent goes into the record.
    fn start(&mut self, named: Named<'a>, backoff_s: u32) {
        let never = spec::policy_is_never(self.view.pod);
        // What the API has not heard of would be started twice if this node came back without its disk.
        if self.step.is_some() || (never && !self.view.facts.acknowledged) || !self.may_try(named.name()) {
            return;
        }
        let before = self.record.container(named.name());
        if spec::at_most_once(self.view.pod, named) && before.starts > 0 {
            return;
        }
        let after = ContainerRecord {
            starts: before.starts + 1,
            id: None,
            image_id: before.image_id.clone(),
            exit: None,
            last: before.exit.clone().map(|exit| (before.id.clone(), exit)).or_else(|| before.last.clone()),
            backoff_s,
        };
        self.step = Some(Step::Start { container: named.name().to_owned(), attempt: before.starts });
        let mut planned = self.record.clone();
        planned.containers.insert(named.name().to_owned(), after);
        self.planned = Some(planned);
    }

    /// Removes a container that was created and will not be started: the agent was killed in between.
    fn forget(&mut self, named: Named<'a>, container: &Container) {
        if self.step.is_some() {
            return;
        }
        sometimes!("container created and not started by an agent that died");
        let mut planned = self.record.clone();
        if let Some(record) = planned.containers.get_mut(named.name()) {
            record.undo_start();
        }
        self.planned = Some(planned);
        self.step = Some(Step::RemoveContainer { id: container.id.clone() });
    }

    /// Removes a container of a start that was taken back, whose attempt the next start takes.
    fn remove_unmeant(&mut self) -> bool {
        let unmeant = self.view.listing.containers.iter().find(|container| {
            !is_running(container) && container.attempt + 1 > self.record.container(&container.name).starts
        });
        self.step = unmeant.map(|container| Step::RemoveContainer { id: container.id.clone() });
        self.step.is_some()
    }

    /// Removes what is of no use any more, one at a time.
    fn collect(&mut self) {
        let old = self.view.listing.containers.iter().find(|container| {
            !is_running(container) && container.attempt + 1 < self.record.container(&container.name).starts
        });
        if let Some(old) = old {
            self.step = Some(Step::RemoveContainer { id: old.id.clone() });
            return;
        }
        let is_empty = |sandbox: &Sandbox| !self.view.listing.containers.iter().any(|it| it.sandbox_id == sandbox.id);
        let current = self.sandbox.map(|sandbox| sandbox.id.as_str());
        let old = self.view.listing.sandboxes.iter();
        let old = old.filter(|sandbox| Some(sandbox.id.as_str()) != current).find(|sandbox| is_empty(sandbox));
        self.step = old.map(|sandbox| Step::RemoveSandbox { id: sandbox.id.clone() });
    }

    /// Ends the pod: regular containers at once, then sidecars from the last to the first, then the sandbox. True when
    /// nothing is left.
    fn end(&mut self) -> bool {
        let since = self.view.facts.ending.unwrap_or(self.now());
        let deadline = since + Duration::from_secs(self.record.grace_s);
        let left = deadline.saturating_sub(self.now());
        let running: Vec<&'a Container> = self.view.listing.containers.iter().filter(|it| is_running(it)).collect();
        let is_sidecar = |container: &Container| {
            self.containers.iter().any(|named| named.kind == Kind::Sidecar && named.name() == container.name)
        };
        let (mut sidecars, others): (Vec<_>, Vec<_>) = running.iter().copied().partition(|it| is_sidecar(it));
        sidecars.sort_by_key(|it| self.containers.iter().position(|named| named.name() == it.name));
        let message = |container: &Container| format!("Stopping container {}", container.name);
        for container in &others {
            self.stop(container, left, message(container));
        }
        if left == Duration::ZERO {
            for container in &sidecars {
                self.stop(container, left, message(container));
            }
        } else if others.is_empty() {
            if let Some(container) = sidecars.last() {
                self.stop(container, left, message(container));
            }
        }
        if !running.is_empty() {
            if left > Duration::ZERO {
                self.wake_at(deadline);
            }
            return false;
        }
        if self.is_busy() {
            return false;
        }
        let sandbox = self.view.listing.sandboxes.first().map(|it| Step::RemoveSandbox { id: it.id.clone() });
        let container = self.view.listing.containers.first().map(|it| Step::RemoveContainer { id: it.id.clone() });
        self.step = sandbox.or(container);
        self.step.is_none()
    }

    /// Tells people once that a container is being held back.
    fn note_backoff(&mut self, status: &PodStatus) {
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

impl ContainerRecord {
    /// Takes back a start that certainly did not happen.
    pub fn undo_start(&mut self) {
        self.starts = self.starts.saturating_sub(1);
        if let Some((id, exit)) = self.last.take() {
            self.id = id;
            self.exit = Some(exit);
        } else {
            self.id = None;
        }
    }
}
