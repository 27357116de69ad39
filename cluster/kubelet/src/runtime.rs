//! What the agent asks of a container runtime: the shape of CRI, so that a real one fits behind it.
//!
//! ```text
//! agent ──run_sandbox, create, start, stop, remove──▶ runtime
//! agent ◀──changed(): these pods changed, then list(pod)── runtime
//! ```
//!
//! A runtime keeps its own records: what it lists after a restart is what really happened, as far as it can know.

use api::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

/// A future of a runtime's method.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Containers and the sandboxes that they live in. Every method may be called at any time, from several tasks.
///
/// **Invariant:** what `start_container` was called for is durable before the container does anything
/// (`an_intent_is_durable_before_a_container_starts` in tests/agent.rs).
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Name and version: `hollow://1.0`.
    fn version(&self) -> String;

    /// Fetches an image. Says whether it was there already.
    fn pull_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<Pulled, RuntimeError>>;

    /// Makes a pod's sandbox and gives it its address. Returns its id.
    fn run_sandbox<'a>(&'a self, config: &'a SandboxConfig) -> BoxFuture<'a, Result<String, RuntimeError>>;

    /// Kills whatever runs in a sandbox, takes its address away and forgets it. Gone already is fine.
    fn remove_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Makes a container, which does nothing yet. Returns its id.
    fn create_container<'a>(&'a self, config: &'a ContainerConfig) -> BoxFuture<'a, Result<String, RuntimeError>>;

    /// Starts a container that was created. An error means that it did not start and never will.
    fn start_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Asks a container to end, waits at most `grace`, then kills it. Returns when it is dead. A second call with a
    /// shorter grace counts beside the first.
    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Forgets a container that does not run. Gone already is fine.
    fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// What there is of one pod, or of all.
    fn list<'a>(&'a self, pod_uid: Option<&'a str>) -> BoxFuture<'a, Result<Listing, RuntimeError>>;

    /// Runs a command in a container that runs.
    fn exec<'a>(&'a self, id: &'a str, command: &'a [String]) -> BoxFuture<'a, Result<ExecOutput, RuntimeError>>;

    /// Waits until something changed by itself (a container ended) and returns the UIDs of the pods concerned, each
    /// once, in order. What changes while nobody waits is kept: one entry per pod.
    fn changed(&self) -> BoxFuture<'_, Vec<String>>;

    /// Why the runtime cannot work now, if so: becomes the node's Ready condition.
    fn trouble(&self) -> Option<String>;
}

/// Why a runtime did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The image cannot be had now.
    #[error("{0}")]
    Image(String),
    /// There is no such container or sandbox.
    #[error("{0} not found")]
    NotFound(String),
    /// It is not in a state for this.
    #[error("{0}")]
    State(String),
    /// The address of a sandbox cannot be had.
    #[error("address: {0}")]
    Address(String),
    /// The runtime's records cannot be written.
    #[error("disk: {0}")]
    Disk(String),
}

/// What came of pulling an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Its id, as a status shows it.
    pub image_id: String,
    /// It was on this machine already.
    pub present: bool,
    /// How long it took.
    pub took: Duration,
}

/// What a sandbox is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The pod's UID.
    pub pod_uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The how manieth sandbox of this pod, from 0.
    pub attempt: u32,
    /// The pod's address.
    pub ip: IpAddr,
    /// The address is the node's own.
    pub host_network: bool,
}

/// What a container is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// In which sandbox.
    pub sandbox_id: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The container's name in the pod.
    pub name: String,
    /// The how manieth start of this container in this pod, from 0.
    pub attempt: u32,
    /// Its image.
    pub image: String,
    /// Entry point, instead of the image's.
    pub command: Vec<String>,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// The pod's address.
    pub ip: IpAddr,
    /// TCP ports that it declares.
    pub ports: Vec<u16>,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In order of id.
    pub sandboxes: Vec<Sandbox>,
    /// In order of id.
    pub containers: Vec<Container>,
}

/// A sandbox that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// What it was made from.
    pub config: SandboxConfig,
    /// Containers can run in it.
    pub ready: bool,
}

/// A container that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// In which sandbox.
    pub sandbox_id: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// The container's name in the pod.
    pub name: String,
    /// The how manieth start of this container in this pod, from 0.
    pub attempt: u32,
    /// The image that it was made from, as the runtime calls it.
    pub image_id: String,
    /// What became of it.
    pub state: ContainerState,
}

/// What became of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// It never started.
    Created,
    /// It runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// It is dead.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 is success; 137 was killed.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerStatusUnknown`.
    pub reason: String,
    /// For people; may be empty.
    pub message: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// What a command in a container answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// 0 is success.
    pub code: i32,
    /// What it printed.
    pub output: String,
}
