//! The hollow container runtime: containers that live in memory, really listen on the pod's address, and can be hurt.
//!
//! ```text
//! agent ──ContainerRuntime──▶ Hollow ──state file──▶ data directory
//!                               │ Programs: what a container does
//!                               ▼
//!                             program task ──▶ HTTP servers on podIP:containerPort ◀── HollowFaults: a trial's hand
//! ```
//!
//! A container goes on "running" while the process is down, as one would under a real runtime: a new process in the same
//! boot takes it up under the same id, with the same start. After a reboot all are dead, and nobody knows how they ended.
//!
//! **What a container does** follows from its image, then its command, then its environment:
//!
//! | image | does |
//! |---|---|
//! | `hollow/web:TAG`, any unknown one | serves HTTP on every declared TCP port; ends with 0 when asked to |
//! | `hollow/job`, `hollow/fail` | serves nothing; ends after 5 s with 0, with 1 |
//! | `hollow/sleep` | serves nothing; runs until it is stopped |
//! | `hollow/crash`, `hollow/oom` | serves; ends after 1 s with 1, with 137 (OOMKilled) |
//! | `hollow/never-ready`, `hollow/flapping` | serves; is never ready, is ready every other 15 s |
//! | `hollow/slow-start` | serves after 20 s |
//! | `hollow/hang` | accepts connections and never answers |
//! | `hollow/stubborn` | serves; ignores SIGTERM |
//! | `hollow/missing` | cannot be pulled |
//!
//! Commands that are understood: `true`, `false`, `sleep N`, `sleep infinity`, `sh -c "exit N"`.
//!
//! | variable | means |
//! |---|---|
//! | `VERSION` | what answers say as `version`; default: the image's tag |
//! | `HOLLOW_RUN_MS`, `HOLLOW_EXIT_CODE` | ends after so long, with this code |
//! | `HOLLOW_OOM_MS` | is killed for memory after so long |
//! | `HOLLOW_START_MS` | listens only after so long |
//! | `HOLLOW_READY=never`, `HOLLOW_FLAP_MS` | is never ready; changes every so long, beginning unready |
//! | `HOLLOW_HANG=1`, `HOLLOW_SLOW_MS` | never answers; answers after so long |
//! | `HOLLOW_IGNORE_TERM=1` | ignores SIGTERM |
//! | `HOLLOW_DRAIN_MS`, `HOLLOW_TERM_CODE` | how long it takes to end when asked to (50 ms), and with which code (0) |
//!
//! **What it answers**: `/healthz` and `/readyz` say 503 while it is not ready; any other path, `/livez` for one, says 200
//! with who answers: `pod`, `namespace`, `node`, `uid`, `container`, `id`, `version`, `image`, `ip`. On the same ports it
//! speaks gRPC's health protocol: the server as a whole and `readiness` serve while it is ready, `liveness` always does.
//!
//! On a real machine that lets this user listen only from port 1024 on, port 80 is found at 8080, 443 at 8443 and so on;
//! probes find it anyway.
//!
//! **What `exec` does**: `true` and `false` as one would think, `sleep N`, `sh -c "exit N"`; anything whose last word is
//! `ready` succeeds while the program is ready; all else succeeds. In a program that hangs, nothing ever returns.
//!
//! **Invariant:** a start that is not durable did not happen (`an_intent_is_durable_before_a_container_starts`).
//!
//! **Invariant:** an end that is not durable is not told (`an_end_is_told_when_it_is_on_disk`).

mod faults;
mod life;
mod programs;
mod server;
mod state;

pub use faults::{Fault, HollowFaults, Running, Target};
pub use programs::{End, Program, Programs, StandardPrograms};

use crate::runtime::{
    BoxFuture, ContainerConfig, ContainerRuntime, ExecOutput, Exit, Listing, Pulled, RuntimeError, SandboxConfig,
};
use crate::state_file::{Found, Saver, StateFile};
use crate::wall;
use client::Backoff;
use life::Live;
use mark::sometimes;
use rt::random::Random;
use state::{ContainerRecord, Phase, SandboxRecord, State};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The file in the data directory.
const FILE: &str = "hollow.json";

/// How a hollow runtime is set up.
#[derive(Clone, Debug)]
pub struct HollowConfig {
    /// The node's name, which answers carry.
    pub node: String,
    /// Where its state is kept.
    pub data_dir: String,
    /// Of this boot of the machine.
    pub boot_id: String,
    /// How long it takes to pull an image that is not there.
    pub pull: Duration,
}

impl HollowConfig {
    /// Of a node, for this boot of its machine.
    pub fn new(node: &str, data_dir: &str) -> Self {
        HollowConfig {
            node: node.to_owned(),
            data_dir: data_dir.to_owned(),
            boot_id: rt::boot_id(),
            pull: Duration::from_millis(500),
        }
    }
}

/// From one attempt to write that a container has ended to the next, at first and at most.
const SAVE_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The hollow runtime. Dropping it ends its containers' tasks, not their lives: see the module's documentation.
pub struct Hollow(Arc<Shared>);

struct Shared {
    config: HollowConfig,
    programs: Arc<dyn Programs>,
    faults: HollowFaults,
    saver: Saver,
    inner: Mutex<Inner>,
    /// Something changed by itself.
    changed: Notify,
}

struct Inner {
    state: State,
    /// Rises with each change of the state.
    version: u64,
    live: BTreeMap<String, Live>,
    changed: BTreeSet<String>,
    images: BTreeSet<String>,
    ids: Random,
    trouble: Option<String>,
}

impl Hollow {
    /// Opens the runtime's state and takes up what runs.
    ///
    /// # Errors
    /// Those of the disk. A damaged state counts as none, as if the disk were new.
    pub async fn open(config: HollowConfig, programs: Arc<dyn Programs>, faults: HollowFaults) -> io::Result<Hollow> {
        let (file, found) = StateFile::open(&config.data_dir, FILE).await?;
        let state = match found {
            Found::Content(content) => serde_json::from_slice(&content).unwrap_or_default(),
            Found::Nothing | Found::Damaged => State::default(),
        };
        let state: State = state.after_restart(&config.boot_id, wall());
        let images = state.containers.values().map(|container| container.config.image.clone()).collect();
        let inner = Inner {
            state,
            version: 1,
            live: BTreeMap::new(),
            changed: BTreeSet::new(),
            images,
            ids: rt::random::stream("hollow-ids"),
            trouble: None,
        };
        let shared = Shared {
            config,
            programs,
            faults,
            saver: Saver::new(file),
            inner: Mutex::new(inner),
            changed: Notify::new(),
        };
        shared.faults.begin_anew();
        let hollow = Hollow(Arc::new(shared));
        hollow.0.durable().await.map_err(|error| io::Error::other(error.to_string()))?;
        hollow.take_up();
        Ok(hollow)
    }

    /// What there is, for a view.
    pub fn listing(&self) -> Listing {
        self.0.listing(None)
    }

    /// Lets what ran before this process run on, and says of what had ended that it has: its process may not have come to
    /// that.
    fn take_up(&self) {
        let (sandboxes, ended, containers) = {
            let inner = self.0.lock();
            let ready: Vec<SandboxConfig> =
                inner.state.sandboxes.values().filter(|it| it.ready).map(|it| it.config.clone()).collect();
            let started = inner.state.containers.iter().filter_map(|(id, container)| match container.phase {
                Phase::Starting { started_at } | Phase::Running { started_at } => Some((id.clone(), started_at)),
                Phase::Created | Phase::Exited(_) => None,
            });
            let ended = inner.state.containers.iter().filter_map(|(id, container)| match &container.phase {
                Phase::Exited(exit) => Some((id.clone(), container.config.clone(), exit.code)),
                Phase::Created | Phase::Starting { .. } | Phase::Running { .. } => None,
            });
            (ready, ended.collect::<Vec<_>>(), started.collect::<Vec<_>>())
        };
        for sandbox in sandboxes {
            if !sandbox.host_network
                && let Err(error) = add_address(sandbox.ip)
            {
                sometimes!("address of a pod that ran before is not to be had");
                tracing::warn!(%error, ip = %sandbox.ip, "address of a pod");
            }
        }
        for (id, config, code) in ended {
            mark::container_exited(&self.0.config.node, &config.pod_uid, &config.name, &id, code);
        }
        for (id, started_at) in containers {
            sometimes!("container adopted by a new process of its node");
            self.0.launch(&id, started_at, true);
        }
    }
}

impl Drop for Hollow {
    fn drop(&mut self) {
        // Tasks hold the shared part, which holds the tasks.
        let live = std::mem::take(&mut self.0.lock().live);
        drop(live);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the state as it is now is durable.
    async fn durable(&self) -> Result<(), RuntimeError> {
        let wanted = self.lock().version;
        let encode = || {
            let inner = self.lock();
            (inner.version, serde_json::to_vec(&inner.state).expect("text keys and plain values have a form in JSON"))
        };
        let saved = self.saver.save(wanted, encode).await;
        let mut inner = self.lock();
        match saved {
            Ok(()) => {
                inner.trouble = None;
                Ok(())
            }
            Err(error) => {
                sometimes!("hollow runtime cannot write its state");
                tracing::error!(%error, "the hollow runtime cannot write its state");
                inner.trouble = Some(format!("container runtime cannot write its state: {error}"));
                Err(RuntimeError::Disk(error.to_string()))
            }
        }
    }

    /// Changes the state.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        inner.version += 1;
        change(&mut inner)
    }

    /// Tells whoever waits that something of a pod changed by itself.
    fn tell(&self, pod_uid: &str) {
        self.lock().changed.insert(pod_uid.to_owned());
        self.changed.notify_one();
    }

    fn new_id(&self) -> String {
        let mut inner = self.lock();
        (0..4).map(|_| format!("{:016x}", inner.ids.next_u64())).collect()
    }

    async fn pull(&self, image: &str) -> Result<Pulled, RuntimeError> {
        let refused = || self.faults.refuses_pull(image) || !self.programs.exists(image);
        let image_id = state::image_id(image);
        if refused() {
            return Err(pull_error(image));
        }
        if self.lock().images.contains(image) {
            return Ok(Pulled { image_id, present: true, took: Duration::ZERO });
        }
        rt::time::sleep(self.config.pull).await;
        if refused() || !self.faults.has_registry() {
            return Err(pull_error(image));
        }
        self.lock().images.insert(image.to_owned());
        Ok(Pulled { image_id, present: false, took: self.config.pull })
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<String, RuntimeError> {
        if !config.host_network {
            add_address(config.ip).map_err(|error| RuntimeError::Address(format!("{}: {error}", config.ip)))?;
        }
        let id = self.new_id();
        let record = SandboxRecord { config: config.clone(), ready: true };
        self.change(|inner| inner.state.sandboxes.insert(id.clone(), record));
        if let Err(error) = self.durable().await {
            self.change(|inner| inner.state.sandboxes.remove(&id));
            if !config.host_network {
                rt::net::remove_address(config.ip);
            }
            return Err(error);
        }
        Ok(id)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let inside: Vec<String> = {
            let inner = self.lock();
            let inside = inner.state.containers.iter().filter(|(_, container)| container.config.sandbox_id == id);
            inside.map(|(id, _)| id.clone()).collect()
        };
        for container in &inside {
            self.stop(container, Duration::ZERO).await?;
        }
        let removed = self.change(|inner| {
            inner.state.containers.retain(|_, container| container.config.sandbox_id != id);
            inner.state.sandboxes.remove(id)
        });
        if let Some(removed) = removed {
            let in_use = |it: &SandboxRecord| it.ready && it.config.ip == removed.config.ip;
            let pod_is_gone = {
                let inner = self.lock();
                if removed.ready && !removed.config.host_network && !inner.state.sandboxes.values().any(in_use) {
                    rt::net::remove_address(removed.config.ip);
                }
                !inner.state.sandboxes.values().any(|it| it.config.pod_uid == removed.config.pod_uid)
            };
            if pod_is_gone {
                self.faults.forget(&removed.config.pod_uid);
            }
        }
        self.durable().await
    }

    async fn create(&self, config: &ContainerConfig) -> Result<String, RuntimeError> {
        let id = self.new_id();
        self.change(|inner| {
            if !inner.state.sandboxes.get(&config.sandbox_id).is_some_and(|sandbox| sandbox.ready) {
                return Err(RuntimeError::NotFound(format!("sandbox {}", config.sandbox_id)));
            }
            let record = ContainerRecord { config: config.clone(), phase: Phase::Created };
            inner.state.containers.insert(id.clone(), record);
            Ok(())
        })?;
        // It need not be durable before its start is.
        Ok(id)
    }

    async fn start(self: &Arc<Self>, id: &str) -> Result<(), RuntimeError> {
        let started_at = wall();
        self.change(|inner| {
            let container = inner.state.containers.get_mut(id).ok_or_else(|| not_found(id))?;
            if container.phase != Phase::Created {
                return Err(RuntimeError::State(format!("container {id} was started before")));
            }
            container.phase = Phase::Starting { started_at };
            Ok(())
        })?;
        if let Err(error) = self.durable().await {
            // Whether the intent is durable is not known: this container is never started.
            self.change(|inner| {
                if let Some(container) = inner.state.containers.get_mut(id) {
                    container.phase = Phase::Created;
                }
            });
            return Err(error);
        }
        self.launch(id, started_at, false);
        Ok(())
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let (control, face) = {
            let inner = self.lock();
            match (inner.live.get(id), inner.state.containers.contains_key(id)) {
                (Some(live), _) => (live.control.clone(), live.face.clone()),
                (None, true) => return Ok(()),
                (None, false) => return Err(not_found(id)),
            }
        };
        let signalled = |signal| {
            let Target { pod_uid, container } = &face.target;
            mark::container_signalled(&self.config.node, pod_uid, container, id, signal);
        };
        if !self.has_ended(id) && control.terminate() {
            signalled("SIGTERM");
        }
        if grace.is_zero() || rt::time::timeout(grace, control.ended()).await.is_err() {
            if !self.has_ended(id) && control.kill() {
                sometimes!("container killed that did not end in its grace");
                signalled("SIGKILL");
            }
            control.ended().await;
        }
        Ok(())
    }

    fn listing(&self, pod_uid: Option<&str>) -> Listing {
        let inner = self.lock();
        inner.state.listing(pod_uid, |id| inner.live.contains_key(id))
    }

    /// Whether a container's program has ended, though that may not be on disk yet: there is nobody to signal.
    fn has_ended(&self, id: &str) -> bool {
        self.lock().state.containers.get(id).is_none_or(|container| matches!(container.phase, Phase::Exited(_)))
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.change(|inner| match inner.state.containers.get(id).map(|it| &it.phase) {
            Some(Phase::Starting { .. }) if !inner.live.contains_key(id) => {
                inner.state.containers.remove(id);
                Ok(())
            }
            Some(Phase::Starting { .. } | Phase::Running { .. }) => {
                Err(RuntimeError::State(format!("container {id} runs")))
            }
            Some(Phase::Created | Phase::Exited(_)) => {
                inner.state.containers.remove(id);
                Ok(())
            }
            None => Ok(()),
        })
    }

    /// How a container ended: on disk when this returns, however long that takes, so that what is told of it from then on
    /// stays true. The pod that it was of, if it is still known.
    async fn ended(&self, id: &str, exit: Exit) -> Option<String> {
        let pod_uid = self.change(|inner| {
            let container = inner.state.containers.get_mut(id)?;
            container.phase = Phase::Exited(exit);
            Some(container.config.pod_uid.clone())
        });
        if pod_uid.is_some() {
            let mut backoff = Backoff::new(SAVE_AGAIN.0, SAVE_AGAIN.1);
            let mut random = rt::random::stream("hollow-saves");
            while self.durable().await.is_err() {
                sometimes!("end of a hollow container is not on disk yet");
                rt::time::sleep(backoff.next(&mut random)).await;
            }
        }
        pod_uid
    }

    async fn exec(&self, id: &str, command: &[String]) -> Result<ExecOutput, RuntimeError> {
        let face = {
            let inner = self.lock();
            let live = inner.live.get(id).ok_or_else(|| RuntimeError::State(format!("container {id} does not run")))?;
            live.face.clone()
        };
        if face.hangs() {
            return pending().await;
        }
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let code = match words.as_slice() {
            ["false" | "/bin/false"] => 1,
            ["sleep" | "/bin/sleep", seconds] => {
                rt::time::sleep(Duration::from_secs(seconds.parse().unwrap_or(0))).await;
                0
            }
            ["sh" | "/bin/sh", "-c", script] => {
                script.strip_prefix("exit ").and_then(|code| code.parse().ok()).unwrap_or(0)
            }
            [.., last] if last.ends_with("ready") => i32::from(!face.is_ready()),
            _ => 0,
        };
        Ok(ExecOutput { code, output: String::new() })
    }
}

/// The address of a pod. On a real machine, where this process cannot have addresses of its own, those of the loopback
/// interface do.
fn add_address(ip: IpAddr) -> io::Result<()> {
    match rt::net::add_address(ip) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        other => other,
    }
}

fn not_found(id: &str) -> RuntimeError {
    RuntimeError::NotFound(format!("container {id}"))
}

fn pull_error(image: &str) -> RuntimeError {
    sometimes!("image cannot be pulled");
    RuntimeError::Image(format!("failed to pull and unpack image \"{image}\": {image}: not found"))
}

impl ContainerRuntime for Hollow {
    fn version(&self) -> String {
        "hollow://1.0".to_owned()
    }
    fn pull_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Pulled, RuntimeError>> {
        Box::pin(self.0.pull(image))
    }
    fn run_sandbox<'a>(&'a self, config: &'a SandboxConfig) -> BoxFuture<'a, Result<String, RuntimeError>> {
        Box::pin(self.0.run_sandbox(config))
    }
    fn remove_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(self.0.remove_sandbox(id))
    }
    fn create_container<'a>(&'a self, config: &'a ContainerConfig) -> BoxFuture<'a, Result<String, RuntimeError>> {
        Box::pin(self.0.create(config))
    }
    fn start_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(self.0.start(id))
    }
    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(self.0.stop(id, grace))
    }
    fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(self.0.remove_container(id))
    }
    fn list<'a>(&'a self, pod_uid: Option<&'a str>) -> BoxFuture<'a, Result<Listing, RuntimeError>> {
        Box::pin(async move { Ok(self.0.listing(pod_uid)) })
    }
    fn exec<'a>(&'a self, id: &'a str, command: &'a [String]) -> BoxFuture<'a, Result<ExecOutput, RuntimeError>> {
        Box::pin(self.0.exec(id, command))
    }
    fn changed(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            loop {
                let told = self.0.changed.notified();
                let changed = std::mem::take(&mut self.0.lock().changed);
                if !changed.is_empty() {
                    return changed.into_iter().collect();
                }
                told.await;
            }
        })
    }
    fn trouble(&self) -> Option<String> {
        self.0.lock().trouble.clone()
    }
}
