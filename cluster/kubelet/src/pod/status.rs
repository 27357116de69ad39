//! The status of a pod, as upstream's node agent writes it: phase, conditions, states of containers.
//!
//! Times of transitions are kept from the previous status, so that equal facts give an equal status.

use super::actions::Wanted;
use super::life::{Life, State};
use super::record::{ContainerRecord, FailureKind, Hook, UNKNOWN_CODE, UNKNOWN_REASON, Verdict, unknown_exit};
use super::spec::{self, Kind, Named};
use crate::resources;
use crate::runtime::Exit;
use api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodCondition, PodIP, PodStatus,
};
use api::object::seconds;
use api::{Time, Timestamp};
use client::Note;
use client::plan::reference;
use std::time::Duration;

/// Conditions that the node agent owns; others are left as they are.
const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The status that follows from a decision.
pub(super) fn status(life: &Life<'_>, ending: bool) -> PodStatus {
    if let Some(Verdict::Rejected { reason, message }) = &life.record.verdict {
        return rejected(life, reason, message);
    }
    let initial: Vec<ContainerStatus> = statuses(life, |kind| kind != Kind::Regular);
    let regular: Vec<ContainerStatus> = statuses(life, |kind| kind == Kind::Regular);
    let mut status = PodStatus {
        phase: Some(phase(life, &initial, &regular, ending).to_owned()),
        observed_generation: life.view.pod.metadata.generation,
        start_time: Some(seconds(life.record.started)),
        qos_class: Some(resources::qos_class(life.view.pod).to_owned()),
        host_ip: Some(life.view.node_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: life.view.node_ip.to_string() }]),
        resource_claim_statuses: life.view.pod.status.as_ref().and_then(|it| it.resource_claim_statuses.clone()),
        ..PodStatus::default()
    };
    let shows_ip = life.sandbox.is_some() || life.view.previous.pod_ip.is_some();
    if let Some(ip) = life.record.ip.filter(|_| shows_ip) {
        status.pod_ip = Some(ip.to_string());
        status.pod_ips = Some(vec![PodIP { ip: ip.to_string() }]);
    }
    let terminal = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if let Some(Verdict::Over { reason, message, .. }) = &life.record.verdict
        && terminal
    {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        (status.reason, status.message) = (some(reason), some(message));
    }
    status.init_container_statuses = (!initial.is_empty()).then_some(initial);
    status.container_statuses = (!regular.is_empty()).then_some(regular);
    if terminal {
        close(&mut status, life.view.now.wall);
    }
    status.conditions = Some(conditions(life, &status));
    status
}

fn rejected(life: &Life<'_>, reason: &str, message: &str) -> PodStatus {
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        observed_generation: life.view.pod.metadata.generation,
        start_time: Some(seconds(life.record.started)),
        qos_class: Some(resources::qos_class(life.view.pod).to_owned()),
        conditions: life.view.pod.status.as_ref().and_then(|status| status.conditions.clone()),
        ..PodStatus::default()
    }
}

/// Upstream's phase; a terminal one only when nothing runs any more, so that whoever waits for the end of a pod can
/// rely on it.
fn phase<'a>(life: &Life<'a>, initial: &[ContainerStatus], regular: &[ContainerStatus], ending: bool) -> &'a str {
    let runs = life.view.listing.containers.iter().any(super::record::is_running) || life.view.facts.busy.is_some();
    let api = life.view.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match &life.record.verdict {
        // What the API calls terminal stays what it is.
        Some(verdict) if !runs || matches!(api, Some("Succeeded" | "Failed")) => return verdict.phase(),
        Some(_) | None => {}
    }
    let state = |status: &ContainerStatus| status.state.clone().unwrap_or_default();
    if ending && !runs {
        let all_succeeded = !regular.is_empty()
            && regular.iter().all(|it| state(it).terminated.is_some_and(|ended| ended.exit_code == 0));
        return if all_succeeded { "Succeeded" } else { "Failed" };
    }
    let waits = |status: &&ContainerStatus| state(status).waiting.is_some() && !has_ended_before(status);
    let initializing = life.containers.iter().zip(initial).any(|(named, status)| match named.kind {
        Kind::Init => state(status).terminated.is_none_or(|ended| ended.exit_code != 0),
        Kind::Sidecar => status.started != Some(true) && state(status).terminated.is_none(),
        Kind::Regular => false,
    });
    let began = regular.iter().any(|status| state(status).waiting.is_none() || has_ended_before(status));
    if (initializing && !began) || regular.iter().filter(waits).count() > 0 { "Pending" } else { "Running" }
}

fn has_ended_before(status: &ContainerStatus) -> bool {
    status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
}

/// In a pod that is over no container waits or runs: one that never came to run counts as unknown.
fn close(status: &mut PodStatus, wall: Timestamp) {
    let initial = status.init_container_statuses.iter_mut().flatten();
    for container in initial.chain(status.container_statuses.iter_mut().flatten()) {
        let state = container.state.get_or_insert_default();
        if state.terminated.is_none() {
            let mut ended = terminated(None, &unknown_exit(wall, wall), "");
            (ended.started_at, ended.finished_at) = (None, None);
            *state = ContainerState { terminated: Some(ended), ..ContainerState::default() };
        }
        container.ready = false;
        container.started = Some(false);
    }
}

fn statuses(life: &Life<'_>, of: impl Fn(Kind) -> bool) -> Vec<ContainerStatus> {
    life.containers.iter().filter(|named| of(named.kind)).map(|named| container_status(life, *named)).collect()
}

fn container_status(life: &Life<'_>, named: Named<'_>) -> ContainerStatus {
    let record = life.record.container(named.name());
    let scheme = life.view.runtime;
    let full_id = |id: &Option<String>| id.as_ref().map(|id| format!("{scheme}://{id}"));
    let last = record.last.as_ref().map(|(id, exit)| ended_state(id.as_ref(), exit, scheme));
    let mut status = ContainerStatus {
        name: named.name().to_owned(),
        image: named.container.image.clone().unwrap_or_default(),
        image_id: record.image_id.clone(),
        container_id: full_id(&record.id),
        restart_count: i32::try_from(record.starts.saturating_sub(1)).unwrap_or(i32::MAX),
        started: Some(false),
        last_state: last,
        ..ContainerStatus::default()
    };
    let failure = life.view.facts.failures.get(named.name());
    let state = match life.state(named.name()) {
        State::Running(container, started_at) => {
            status.container_id = full_id(&Some(container.id.clone()));
            status.started = Some(life.is_started(named, &container.id));
            status.ready = is_ready(life, named, &container.id);
            let running = ContainerStateRunning { started_at: Some(seconds(started_at)) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        }
        State::Ended(exit) => {
            let again = !(named.kind == Kind::Init && exit.code == 0);
            match failure.filter(|_| again) {
                Some(failure) => {
                    status.last_state = Some(ended_state(record.id.as_ref(), &exit, scheme));
                    waiting_for(life, named, failure.kind, &failure.message)
                }
                None => ended_or_backoff(life, named, &mut status, record, &exit),
            }
        }
        State::Starting => {
            status.restart_count = i32::try_from(record.starts.saturating_sub(2)).unwrap_or(i32::MAX);
            match &record.last {
                Some((id, exit)) => {
                    status.container_id = full_id(id);
                    ended_state(id.as_ref(), exit, scheme)
                }
                None => waiting(life),
            }
        }
        State::Fresh | State::Created(_) => match failure {
            Some(failure) => waiting_for(life, named, failure.kind, &failure.message),
            None => waiting(life),
        },
    };
    // A container that succeeded for good was ready: initial ones show it.
    if named.kind == Kind::Init && state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0) {
        status.ready = true;
    }
    status.state = Some(state);
    status
}

/// What a dead container shows: how it ended, or that its next start is being held back.
fn ended_or_backoff(
    life: &Life<'_>,
    named: Named<'_>,
    status: &mut ContainerStatus,
    record: &ContainerRecord,
    exit: &Exit,
) -> ContainerState {
    let scheme = life.view.runtime;
    let again = spec::restarts(life.view.pod, named, exit.code) && !spec::at_most_once(life.view.pod, named);
    let is_over = life.record.verdict.is_some() || life.view.wanted == Wanted::End;
    let held = life.backoff_left(named.name(), exit) > Duration::ZERO;
    if !again || is_over || !held {
        return ended_state(record.id.as_ref(), exit, scheme);
    }
    status.last_state = Some(ended_state(record.id.as_ref(), exit, scheme));
    let backoff = backoff_text(life.backoff(named.name(), exit));
    let pod = &life.record;
    let message = format!(
        "back-off {backoff} restarting failed container={} pod={}_{}({})",
        named.name(),
        pod.name,
        pod.namespace,
        pod.uid
    );
    waiting_state("CrashLoopBackOff", Some(message))
}

/// As Go prints a duration of whole seconds: `1m20s`.
fn backoff_text(seconds: u32) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn waiting(life: &Life<'_>) -> ContainerState {
    let initial = life.containers.iter().any(|named| named.kind != Kind::Regular);
    waiting_state(if initial { "PodInitializing" } else { "ContainerCreating" }, None)
}

fn waiting_for(life: &Life<'_>, named: Named<'_>, kind: FailureKind, message: &str) -> ContainerState {
    let image = named.container.image.as_deref().unwrap_or_default();
    let failure = life.view.facts.failures.get(named.name());
    let held = failure.is_some_and(|it| it.fresh_until() <= life.view.now.monotonic);
    match kind {
        FailureKind::Pull if held => {
            let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
            waiting_state("ImagePullBackOff", Some(message))
        }
        FailureKind::Pull => waiting_state("ErrImagePull", Some(message.to_owned())),
        FailureKind::Config => waiting_state("CreateContainerConfigError", Some(message.to_owned())),
        FailureKind::Create => waiting_state("CreateContainerError", Some(message.to_owned())),
        FailureKind::Run => waiting_state("RunContainerError", Some(message.to_owned())),
        FailureKind::Sandbox => waiting(life),
    }
}

fn waiting_state(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn ended_state(id: Option<&String>, exit: &Exit, scheme: &str) -> ContainerState {
    ContainerState { terminated: Some(terminated(id, exit, scheme)), ..ContainerState::default() }
}

fn terminated(id: Option<&String>, exit: &Exit, scheme: &str) -> ContainerStateTerminated {
    let code = if exit.reason == UNKNOWN_REASON && exit.code == 0 { UNKNOWN_CODE } else { exit.code };
    ContainerStateTerminated {
        container_id: id.map(|id| format!("{scheme}://{id}")),
        exit_code: code,
        finished_at: Some(seconds(exit.finished_at)),
        message: (!exit.message.is_empty()).then(|| exit.message.clone()),
        reason: Some(exit.reason.clone()),
        signal: None,
        started_at: Some(seconds(exit.started_at)),
    }
}

fn is_ready(life: &Life<'_>, named: Named<'_>, id: &str) -> bool {
    // An initial container is ready once it succeeded.
    if named.kind == Kind::Init || !life.is_started(named, id) || life.view.facts.hooks.get(id) == Some(&Hook::Failed) {
        return false;
    }
    named.container.readiness_probe.is_none() || life.view.facts.probes_of(named.name(), id).readiness == Some(true)
}

/// Whether the status shows that a container's next start is being held back.
pub(super) fn is_in_backoff(status: &PodStatus, name: &str) -> bool {
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut all = all.filter(|container| container.name == name);
    all.any(|container| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff")
    })
}

/// An Event on a container of a pod.
pub(super) fn note(pod: &Pod, named: Named<'_>, warning: bool, reason: &'static str, message: String) -> Note {
    let mut regarding = reference(pod);
    let list = if named.kind == Kind::Regular { "containers" } else { "initContainers" };
    regarding.field_path = Some(format!("spec.{list}{{{}}}", named.name()));
    Note { regarding, warning, reason, message }
}

/// What a condition says, before it has its times.
struct Said {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Said {
    fn yes(kind: &'static str) -> Self {
        Said { kind, holds: true, reason: None, message: None }
    }
    fn no(kind: &'static str, reason: &'static str, message: Option<String>) -> Self {
        Said { kind, holds: false, reason: Some(reason), message }
    }
}

fn conditions(life: &Life<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let containers = containers_ready(life, status);
    let network = if life.sandbox.is_some() {
        Said::yes("PodReadyToStartContainers")
    } else {
        Said { kind: "PodReadyToStartContainers", holds: false, reason: None, message: None }
    };
    let ready = ready(life, &containers);
    let said = [network, initialized(life, status), ready, containers, Said::yes("PodScheduled")];
    let foreign = life.view.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let foreign = foreign.filter(|condition| !OWN_CONDITIONS.contains(&condition.type_.as_str())).cloned();
    let own = said.into_iter().map(|said| condition(life, said));
    foreign.chain(own).collect()
}

fn condition(life: &Life<'_>, said: Said) -> PodCondition {
    let status = if said.holds { "True" } else { "False" };
    let find =
        |status: &PodStatus| status.conditions.iter().flatten().find(|condition| condition.type_ == said.kind).cloned();
    let before = find(life.view.previous).or_else(|| life.view.pod.status.as_ref().and_then(find));
    let since = before.filter(|before| before.status == status).and_then(|before| before.last_transition_time);
    PodCondition {
        type_: said.kind.to_owned(),
        status: status.to_owned(),
        reason: said.reason.map(str::to_owned),
        message: said.message,
        observed_generation: life.view.pod.metadata.generation,
        last_probe_time: None,
        last_transition_time: Some(since.unwrap_or_else(|| now(life))),
    }
}

fn now(life: &Life<'_>) -> Time {
    seconds(life.view.now.wall)
}

fn initialized(life: &Life<'_>, status: &PodStatus) -> Said {
    let initial: Vec<&ContainerStatus> = status.init_container_statuses.iter().flatten().collect();
    if status.phase.as_deref() == Some("Succeeded") {
        return Said { reason: Some("PodCompleted"), ..Said::yes("Initialized") };
    }
    let regular = status.container_statuses.iter().flatten();
    let mut states = regular.filter_map(|container| container.state.as_ref());
    let began = states.any(|state| {
        let unknown = |ended: &ContainerStateTerminated| ended.reason.as_deref() == Some(UNKNOWN_REASON);
        state.running.is_some() || state.terminated.as_ref().is_some_and(|ended| !unknown(ended))
    });
    if began {
        return Said::yes("Initialized");
    }
    let incomplete = life.containers.iter().zip(&initial).filter(|(named, status)| match named.kind {
        Kind::Sidecar => status.started != Some(true),
        Kind::Init => !status.ready,
        Kind::Regular => false,
    });
    let incomplete: Vec<&str> = incomplete.map(|(named, _)| named.name()).collect();
    if incomplete.is_empty() {
        return Said::yes("Initialized");
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Said::no("Initialized", "ContainersNotInitialized", Some(message))
}

fn containers_ready(life: &Life<'_>, status: &PodStatus) -> Said {
    match status.phase.as_deref() {
        Some("Succeeded") => return Said::no("ContainersReady", "PodCompleted", None),
        Some("Failed") => return Said::no("ContainersReady", "PodFailed", None),
        _ => {}
    }
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let counts = life.containers.iter().zip(all).filter(|(named, _)| named.kind != Kind::Init);
    let unready: Vec<&str> = counts.filter(|(_, status)| !status.ready).map(|(named, _)| named.name()).collect();
    if unready.is_empty() {
        return Said::yes("ContainersReady");
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Said::no("ContainersReady", "ContainersNotReady", Some(message))
}

fn ready(life: &Life<'_>, containers: &Said) -> Said {
    if !containers.holds {
        let reason = containers.reason.unwrap_or("ContainersNotReady");
        return Said::no("Ready", reason, containers.message.clone());
    }
    let gates = life.view.pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let found = |kind: &str| {
        let conditions = life.view.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().find(|condition| condition.type_ == kind)
    };
    let wrong: Vec<String> = gates
        .filter_map(|gate| match found(&gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => None,
        })
        .collect();
    if wrong.is_empty() {
        return Said::yes("Ready");
    }
    Said::no("Ready", "ReadinessGatesNotReady", Some(wrong.join(", ")))
}

/// Whether two statuses say the same of what the node agent says, whatever others added.
pub fn same(ours: &PodStatus, theirs: &PodStatus) -> bool {
    let own = |status: &PodStatus| {
        let mut status = status.clone();
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|condition| OWN_CONDITIONS.contains(&condition.type_.as_str()));
            conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        }
        status.nominated_node_name = None;
        status
    };
    own(ours) == own(theirs)
}

/// Our status with what others wrote beside it in `theirs`: their conditions and the nomination.
pub(crate) fn merged(ours: &PodStatus, theirs: &PodStatus) -> PodStatus {
    let mut merged = ours.clone();
    let foreign = theirs.conditions.iter().flatten();
    let foreign = foreign.filter(|condition| !OWN_CONDITIONS.contains(&condition.type_.as_str()));
    let own = ours.conditions.iter().flatten();
    let own = own.filter(|condition| OWN_CONDITIONS.contains(&condition.type_.as_str()));
    merged.conditions = Some(foreign.chain(own).cloned().collect());
    merged.nominated_node_name.clone_from(&theirs.nominated_node_name);
    merged
}

/// What a container shows in the API, for those who restore from it: whether it was ready and started under this id.
pub(crate) fn shown(pod: &Pod, name: &str, id: &str) -> Option<(bool, bool)> {
    let status = pod.status.as_ref()?;
    let mut all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let found = all.find(|container| container.name == name)?;
    let same = found.container_id.as_deref().map(super::record::bare_id).as_deref() == Some(id);
    same.then(|| (found.ready, found.started == Some(true)))
}
