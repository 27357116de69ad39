//! What a pod that is to run needs next, and how one that is to end ends.

use super::actions::{Step, Stop};
use super::life::{Life, State};
use super::record::{ContainerRecord, FailureKind, Hook, is_running};
use super::spec::{self, Kind, Named};
use crate::runtime::{Container, Exit, Sandbox};
use mark::sometimes;
use std::time::Duration;

/// Upstream's back-off after a container's second end; each further one doubles it.
const BACKOFF_FIRST_S: u32 = 10;
/// Upstream's largest back-off.
const BACKOFF_MAX_S: u32 = 300;
/// Upstream gives every container at least so long to end.
const MIN_GRACE: Duration = Duration::from_secs(2);

impl<'a> Life<'a> {
    /// What a pod that is to run needs next.
    pub(super) fn run(&mut self) {
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
    pub(super) fn stop_strays(&mut self) {
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
    pub(super) fn stop_unhealthy(&mut self) {
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
    pub(super) fn stop(&mut self, container: &Container, grace: Duration, message: String) {
        let grace = grace.max(MIN_GRACE);
        let by = self.now() + grace;
        if self.view.facts.stopping.get(&container.id).is_some_and(|already| *already <= by) {
            return;
        }
        let (id, name) = (container.id.clone(), container.name.clone());
        self.stops.push(Stop { id, container: name, grace, message });
    }

    pub(super) fn make_sandbox(&mut self) {
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
    pub(super) fn may_try(&mut self, name: &str) -> bool {
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
    pub(super) fn run_initial(&mut self, sandbox: &Sandbox) -> bool {
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
    pub(super) fn is_done_or_restarts(&mut self, named: Named<'a>, exit: &Exit) -> bool {
        let here = self.is_here(self.current(named.name()));
        if named.kind == Kind::Init && here && exit.code == 0 {
            return true;
        }
        self.restart(named, exit);
        false
    }

    pub(super) fn run_regular(&mut self) {
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
    pub(super) fn restart(&mut self, named: Named<'a>, exit: &Exit) {
        let backoff = self.backoff(named.name(), exit);
        let left = self.backoff_left(named.name(), exit);
        if left > Duration::ZERO {
            self.wake_at(self.now() + left);
            return;
        }
        self.start(named, if backoff == 0 { BACKOFF_FIRST_S } else { (backoff * 2).min(BACKOFF_MAX_S) });
    }

    /// Starts a container: the intent goes into the record.
    pub(super) fn start(&mut self, named: Named<'a>, backoff_s: u32) {
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
    pub(super) fn forget(&mut self, named: Named<'a>, container: &Container) {
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
    pub(super) fn remove_unmeant(&mut self) -> bool {
        let unmeant = self.view.listing.containers.iter().find(|container| {
            !is_running(container) && container.attempt + 1 > self.record.container(&container.name).starts
        });
        self.step = unmeant.map(|container| Step::RemoveContainer { id: container.id.clone() });
        self.step.is_some()
    }

    /// Removes what is of no use any more, one at a time.
    pub(super) fn collect(&mut self) {
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
    pub(super) fn end(&mut self) -> bool {
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
        } else if others.is_empty()
            && let Some(container) = sidecars.last()
        {
            self.stop(container, left, message(container));
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
