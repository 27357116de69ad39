//! The row that `kubectl get pods` shows: how far a pod is, in one word.

use super::super::Kind;
use super::super::errors::{list, text};
use crate::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodStatus};
use crate::table::{Column, age};
use crate::{ObjectExt, Timestamp};
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[
    Column::names(),
    Column::new("Ready", "string", "Ready containers, of all that should be."),
    Column::new("Status", "string", "How far the pod is, or what keeps it."),
    Column::new("Restarts", "string", "Restarts of its containers, and when the last one was."),
    super::super::AGE,
    Column::wide("IP", "string", "Address of the pod."),
    Column::wide("Node", "string", "Node that it is bound to."),
    Column::wide("Nominated Node", "string", "Node where room is being made for it."),
    Column::wide("Readiness Gates", "string", "Readiness gates that are open, of all."),
];

pub(super) fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (pod.spec.clone().unwrap_or_default(), pod.status.clone().unwrap_or_default());
    let shown = Shown::of(pod);
    let restarts = match shown.last_restart {
        Some(at) if shown.restarts != 0 => format!("{} ({} ago)", shown.restarts, age(Some(at), now)),
        Some(_) | None => shown.restarts.to_string(),
    };
    let or_none = |value: &str| if value.is_empty() { Value::from("<none>") } else { Value::from(value) };
    let ip = list(&status.pod_ips).first().map_or(text(&status.pod_ip), |ip| ip.ip.as_str());
    let gates = list(&spec.readiness_gates);
    let open = gates.iter().filter(|gate| has_condition(&status, &gate.condition_type)).count();
    let gates = if gates.is_empty() { "<none>".to_owned() } else { format!("{open}/{}", gates.len()) };
    vec![
        pod.name().into(),
        format!("{}/{}", shown.ready, shown.total).into(),
        shown.reason.into(),
        restarts.into(),
        pod.age(now),
        or_none(ip),
        or_none(text(&spec.node_name)),
        or_none(text(&status.nominated_node_name)),
        gates.into(),
    ]
}

struct Shown {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Restarts of some containers, and the end of the last run before one.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count += i64::from(status.restart_count);
        let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        self.last = self.last.max(ended.and_then(|ended| ended.finished_at.as_ref()).map(|time| time.0));
    }
}

fn has_condition(status: &PodStatus, kind: &str) -> bool {
    let found = list(&status.conditions).iter().find(|condition| condition.type_ == kind);
    found.is_some_and(|condition| condition.status == "True")
}

fn is_sidecar(container: Option<&Container>) -> bool {
    container.is_some_and(|container| container.restart_policy.as_deref() == Some("Always"))
}

/// Why a container ended: its reason, else its signal or exit code.
fn ended(state: &ContainerState) -> Option<String> {
    let ended = state.terminated.as_ref()?;
    let reason = text(&ended.reason);
    Some(if !reason.is_empty() {
        reason.to_owned()
    } else if let Some(signal) = ended.signal.filter(|signal| *signal != 0) {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", ended.exit_code)
    })
}

impl Shown {
    fn of(pod: &Pod) -> Self {
        let (spec, status) = (pod.spec.clone().unwrap_or_default(), pod.status.clone().unwrap_or_default());
        let init = list(&spec.init_containers);
        let phase = text(&status.phase);
        let mut reason = if text(&status.reason).is_empty() { phase } else { text(&status.reason) }.to_owned();
        let gated = |kind: &str, why: &str| kind == "PodScheduled" && why == "SchedulingGated";
        if list(&status.conditions).iter().any(|c| gated(&c.type_, text(&c.reason))) {
            "SchedulingGated".clone_into(&mut reason);
        }
        let total = spec.containers.len() + init.iter().filter(|container| is_sidecar(Some(container))).count();
        let (mut all, mut sidecars, mut ready) = (Restarts::default(), Restarts::default(), 0);
        let mut initializing = false;
        for (i, container) in list(&status.init_container_statuses).iter().enumerate() {
            let sidecar = is_sidecar(init.iter().find(|spec| spec.name == container.name));
            all.add(container);
            if sidecar {
                sidecars.add(container);
            }
            let state = container.state.clone().unwrap_or_default();
            if state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0) {
                continue;
            }
            if sidecar && container.started == Some(true) {
                ready += usize::from(container.ready);
                continue;
            }
            let waiting = state.waiting.as_ref().map(|waiting| text(&waiting.reason)).unwrap_or_default();
            reason = match ended(&state) {
                Some(ended) => format!("Init:{ended}"),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{i}/{}", init.len()),
            };
            initializing = true;
            break;
        }
        let mut restarts = all;
        if !initializing || has_condition(&status, "Initialized") {
            restarts = sidecars;
            let mut running = false;
            for container in list(&status.container_statuses).iter().rev() {
                restarts.add(container);
                let state = container.state.clone().unwrap_or_default();
                let waiting = state.waiting.as_ref().map(|waiting| text(&waiting.reason)).unwrap_or_default();
                if !waiting.is_empty() {
                    waiting.clone_into(&mut reason);
                } else if let Some(ended) = ended(&state) {
                    reason = ended;
                } else if container.ready && state.running.is_some() {
                    running = true;
                    ready += 1;
                }
            }
            if reason == "Completed" && running {
                let word = if has_condition(&status, "Ready") { "Running" } else { "NotReady" };
                word.clone_into(&mut reason);
            }
        }
        if pod.is_terminating() {
            if text(&status.reason) == "NodeLost" {
                "Unknown".clone_into(&mut reason);
            } else if !matches!(phase, "Failed" | "Succeeded") {
                "Terminating".clone_into(&mut reason);
            }
        }
        Self { ready, total, reason, restarts: restarts.count, last_restart: restarts.last }
    }
}
