//! Does what was decided: steps, stops, hooks. What comes of it goes back to the agent's loop as a [`Message`].

use super::Message;
use super::env::{self, Addresses};
use super::records::Records;
use crate::pod::{FailureKind, Kind, Record, Step, Stop, containers};
use crate::probe::{Look, perform};
use crate::runtime::{ContainerConfig, ContainerRuntime, Listing, RuntimeError, SandboxConfig};
use api::ObjectExt;
use api::core::v1::{Container, Pod};
use client::plan::reference;
use client::{Client, Note, Recorder};
use rt::time::{Instant, sleep, timeout};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What effects need.
pub(super) struct Tools {
    pub(super) client: Client,
    pub(super) runtime: Arc<dyn ContainerRuntime>,
    pub(super) recorder: Recorder,
    pub(super) records: Arc<Records>,
    pub(super) node_ip: IpAddr,
}

/// What came of a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// It failed, and certainly has no effect.
    pub(crate) failure: Option<(FailureKind, String)>,
    /// The container that was started, by id, and whether its postStart hook is to be run.
    pub(super) started: Option<(String, bool)>,
    /// What the runtime has of the pod now.
    pub(super) listing: Option<Listing>,
}

impl Outcome {
    /// Whether it came to nothing.
    pub(super) fn failed(&self) -> bool {
        self.failure.is_some()
    }

    fn failure(kind: FailureKind, error: &impl ToString) -> Self {
        Outcome { failure: Some((kind, error.to_string())), ..Outcome::default() }
    }
}

/// A container of a pod, for events.
pub(super) fn note(pod: &Pod, container: &str, warning: bool, reason: &'static str, message: String) -> Note {
    let mut regarding = reference(pod);
    let initial = containers(pod).into_iter().any(|it| it.name() == container && it.kind != Kind::Regular);
    let list = if initial { "initContainers" } else { "containers" };
    regarding.field_path = Some(format!("spec.{list}{{{container}}}"));
    Note { regarding, warning, reason, message }
}

/// After something failed, before the same pod's next attempt: whatever it was, a full disk above all, is still so at
/// once, and an attempt that only fails again costs the node its time.
pub(super) const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Does one step. The record that was decided with it becomes durable first.
pub(super) async fn step(tools: &Tools, pod: &Arc<Pod>, record: &Record, step: &Step, cancel: &Notify) -> Outcome {
    let failed_kind = match step {
        Step::Start { .. } => FailureKind::Run,
        Step::CreateSandbox { .. } | Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } => FailureKind::Sandbox,
    };
    let mut outcome = match tools.records.save().await {
        Err(error) => Outcome::failure(failed_kind, &error),
        Ok(()) => match step {
            Step::CreateSandbox { attempt } => create_sandbox(tools, pod, record, *attempt).await,
            Step::Start { container, attempt } => start(tools, pod, record, container, *attempt, cancel).await,
            Step::RemoveContainer { id } => removed(tools.runtime.remove_container(id).await),
            Step::RemoveSandbox { id } => removed(tools.runtime.remove_sandbox(id).await),
        },
    };
    outcome.listing = tools.runtime.list(Some(&record.uid)).await.ok();
    outcome
}

fn removed(result: Result<(), RuntimeError>) -> Outcome {
    match result {
        Ok(()) | Err(RuntimeError::NotFound(_)) => Outcome::default(),
        Err(error) => Outcome::failure(FailureKind::Sandbox, &error),
    }
}

async fn create_sandbox(tools: &Tools, pod: &Pod, record: &Record, attempt: u32) -> Outcome {
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let Some(ip) = record.ip else { return Outcome::failure(FailureKind::Sandbox, &"the pod has no address") };
    let config = SandboxConfig {
        pod_uid: record.uid.clone(),
        namespace: record.namespace.clone(),
        name: record.name.clone(),
        attempt,
        ip,
        host_network,
    };
    match tools.runtime.run_sandbox(&config).await {
        Ok(_) => Outcome::default(),
        Err(error) => {
            let message = format!("Failed to create pod sandbox: {error}");
            let note = Note { regarding: reference(pod), warning: true, reason: "FailedCreatePodSandBox", message };
            tools.recorder.record(&note);
            Outcome::failure(FailureKind::Sandbox, &error)
        }
    }
}

async fn start(tools: &Tools, pod: &Arc<Pod>, record: &Record, name: &str, attempt: u32, cancel: &Notify) -> Outcome {
    let Some(container) = containers(pod).into_iter().find(|it| it.name() == name).map(|it| it.container) else {
        return Outcome::failure(FailureKind::Config, &"no such container");
    };
    let say = |warning, reason, message| tools.recorder.record(&note(pod, name, warning, reason, message));
    let prepared = tokio::select! {
        biased;
        () = cancel.notified() => return Outcome::failure(FailureKind::Create, &"the pod is to end"),
        prepared = prepare(tools, pod, record, container, attempt) => prepared,
    };
    let config = match prepared {
        Ok(config) => config,
        Err((kind, message)) => return Outcome::failure(kind, &message),
    };
    let id = match tools.runtime.create_container(&config).await {
        Ok(id) => id,
        Err(error) => {
            say(true, "Failed", format!("Error: {error}"));
            return Outcome::failure(FailureKind::Create, &error);
        }
    };
    say(false, "Created", "Container created".to_owned());
    if let Err(error) = tools.runtime.start_container(&id).await {
        say(true, "Failed", format!("Error: {error}"));
        drop(tools.runtime.remove_container(&id).await);
        return Outcome::failure(FailureKind::Run, &error);
    }
    say(false, "Started", "Container started".to_owned());
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()).is_some();
    Outcome { started: Some((id, hook)), ..Outcome::default() }
}

/// Fetches what a container needs.
async fn prepare(
    tools: &Tools,
    pod: &Pod,
    record: &Record,
    container: &Container,
    attempt: u32,
) -> Result<ContainerConfig, (FailureKind, String)> {
    let say = |warning, reason, message| {
        tools.recorder.record(&note(pod, &container.name, warning, reason, message));
    };
    let image = container.image.as_deref().unwrap_or_default();
    match tools.runtime.pull_image(image).await {
        Ok(pulled) if pulled.present => {
            let message =
                format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
            say(false, "Pulled", message);
        }
        Ok(pulled) => {
            let took = pulled.took.as_millis();
            let message = format!("Successfully pulled image \"{image}\" in {took}ms ({took}ms including waiting)");
            say(false, "Pulled", message);
        }
        Err(error) => {
            say(true, "Failed", format!("Failed to pull image \"{image}\": {error}"));
            say(true, "Failed", "Error: ErrImagePull".to_owned());
            return Err((FailureKind::Pull, error.to_string()));
        }
    }
    let sandboxes = tools.runtime.list(Some(&record.uid)).await.map_err(|it| (FailureKind::Create, it.to_string()))?;
    let ready = sandboxes.sandboxes.iter().filter(|sandbox| sandbox.ready);
    let Some(sandbox) = ready.max_by_key(|sandbox| sandbox.config.attempt) else {
        return Err((FailureKind::Create, "the pod's sandbox is gone".to_owned()));
    };
    let (ip, node) = (sandbox.config.ip.to_string(), tools.node_ip.to_string());
    let addresses = Addresses { pod: &ip, node: &node };
    let env = env::resolve(&tools.client, pod, container, addresses).await.map_err(|message| {
        say(true, "Failed", format!("Error: {message}"));
        (FailureKind::Config, message)
    })?;
    let expand = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| env::expand(word, &env)).collect();
    let tcp = container.ports.iter().flatten().filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
    Ok(ContainerConfig {
        sandbox_id: sandbox.id.clone(),
        pod_uid: record.uid.clone(),
        namespace: record.namespace.clone(),
        pod_name: record.name.clone(),
        name: container.name.clone(),
        attempt,
        image: image.to_owned(),
        command: expand(&container.command),
        args: expand(&container.args),
        ip: sandbox.config.ip,
        ports: tcp.filter_map(|port| u16::try_from(port.container_port).ok()).collect(),
        env,
    })
}

/// Ends a container: its preStop hook, which is part of the grace, then the runtime's stop.
pub(super) async fn stop(tools: &Tools, pod: &Pod, stop: &Stop, ip: IpAddr) -> Message {
    tools.recorder.record(&note(pod, &stop.container, false, "Killing", stop.message.clone()));
    let began = Instant::now();
    let named = containers(pod).into_iter().find(|it| it.name() == stop.container);
    let lifecycle = named.and_then(|it| it.container.lifecycle.as_ref());
    if let (Some(named), Some(hook)) = (named, lifecycle.and_then(|it| it.pre_stop.as_ref())) {
        let look = Look::of_hook(hook, named.container, ip);
        match timeout(stop.grace, perform(&look, &*tools.runtime, &stop.id)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => {
                let message = format!("PreStopHook failed: {error}");
                tools.recorder.record(&note(pod, &stop.container, true, "FailedPreStopHook", message));
            }
        }
    }
    // Upstream gives every container two seconds at least after its hook.
    let left = stop.grace.saturating_sub(began.elapsed()).max(Duration::from_secs(2));
    let failure = match tools.runtime.stop_container(&stop.id, left).await {
        Ok(()) | Err(RuntimeError::NotFound(_)) => None,
        Err(error) => {
            let message = format!("error killing pod: failed to \"KillContainer\" for \"{}\": {error}", stop.container);
            let note = Note { regarding: reference(pod), warning: true, reason: "FailedKillPod", message };
            tools.recorder.record(&note);
            sleep(FAILURE_PAUSE).await;
            Some(stop.id.clone())
        }
    };
    Message::Stopped { uid: pod.uid().to_owned(), failed: failure }
}

/// Runs a postStart hook.
pub(super) async fn post_start(tools: &Tools, pod: &Pod, container: &str, id: &str, ip: IpAddr) -> Message {
    let named = containers(pod).into_iter().find(|it| it.name() == container);
    let hook = named.and_then(|it| it.container.lifecycle.as_ref()?.post_start.as_ref().map(|hook| (it, hook)));
    let result = match hook {
        Some((named, hook)) => perform(&Look::of_hook(hook, named.container, ip), &*tools.runtime, id).await,
        None => Ok(()),
    };
    if let Err(error) = &result {
        let message = format!("PostStartHook failed: {error}");
        tools.recorder.record(&note(pod, container, true, "FailedPostStartHook", message));
    }
    Message::Hooked { uid: pod.uid().to_owned(), id: id.to_owned(), failed: result.is_err() }
}
