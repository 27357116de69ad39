//! [`Agent`]: the node agent's process, thin shells around the decisions of [`pod`](crate::pod).
//!
//! ```text
//! pods bound here ─informer─▶ ┌───────────────┐ ─stops, steps─▶ runtime ─changed()─┐
//! Node ───────────informer──▶ │  the one loop │ ─probes───────▶ network ───────────┤
//! deadlines ────────────────▶ └───────────────┘ ─statuses─────▶ writer ─▶ API      │
//!                                     ▲────────────── messages ◀───────────────────┘
//! beside it: Node registration and status, the node's Lease
//! ```
//!
//! Nothing polls: the loop wakes for events and for the earliest deadline that a decision named.
//!
//! **Invariant:** before the pods bound here were listed once, nothing is killed (`Core::run` awaits the list first).

mod attend;
mod core;
mod effects;
mod entry;
mod env;
mod node;
mod records;
mod view;
mod writer;

pub use view::{ContainerView, PodView, View};

use crate::pod::ProbeResults;
use crate::probe::Report;
use crate::runtime::ContainerRuntime;
use api::core::v1::Taint;
use client::{Client, Recorder};
use effects::Outcome;
use mark::sometimes;
use records::Records;
use rt::task::AbortOnDrop;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use writer::Writer;

/// Messages that wait for the loop at most: each pod has a handful of senders, which wait when it is full.
const MESSAGES: usize = 1024;

/// How a node agent is set up.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The node's name.
    pub node: String,
    /// The node's own address.
    pub ip: IpAddr,
    /// Where the agent keeps its records.
    pub data_dir: String,
    /// What the machine has.
    pub capacity: Capacity,
    /// Labels of the Node besides those that follow from its name, such as zone and region.
    pub labels: BTreeMap<String, String>,
    /// Taints that the Node is registered with.
    pub taints: Vec<Taint>,
    /// The range of pod addresses; by default the API's `spec.podCIDR` of the Node.
    pub pod_cidr: Option<String>,
    /// How often the node's Lease is renewed; upstream: a quarter of its duration.
    pub lease_interval: Duration,
    /// For how long a renewal counts.
    pub lease_duration: Duration,
    /// How soon after another a changed status of the node is reported at the earliest.
    pub status_interval: Duration,
    /// How often an unchanged one is reported.
    pub status_report: Duration,
}

/// What a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// In thousandths of a core.
    pub cpu_milli: i64,
    /// In bytes.
    pub memory_bytes: i64,
    /// In bytes.
    pub storage_bytes: i64,
    /// How many pods.
    pub pods: i64,
}

impl Default for Capacity {
    /// A machine of 4 cores, 16 GiB, 100 GiB, with upstream's 110 pods.
    fn default() -> Self {
        Capacity { cpu_milli: 4000, memory_bytes: 16 << 30, storage_bytes: 100 << 30, pods: 110 }
    }
}

impl AgentConfig {
    /// With upstream's intervals.
    pub fn new(node: &str, ip: IpAddr, data_dir: &str) -> Self {
        AgentConfig {
            node: node.to_owned(),
            ip,
            data_dir: data_dir.to_owned(),
            capacity: Capacity::default(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            pod_cidr: None,
            lease_interval: Duration::from_secs(10),
            lease_duration: Duration::from_secs(40),
            status_interval: Duration::from_secs(10),
            status_report: Duration::from_secs(300),
        }
    }
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The records in the data directory cannot be read.
    #[error("records of the node agent in {path}: {source}")]
    Records {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// A node agent that runs. Dropping it kills it: what runs in the runtime runs on.
pub struct Agent {
    shared: Arc<view::Shared>,
    stop: Arc<Notify>,
    core: rt::task::JoinHandle<()>,
    tasks: Vec<AbortOnDrop<()>>,
}

/// What comes back to the loop.
pub(crate) enum Message {
    /// A step is done.
    Stepped { uid: String, outcome: Outcome },
    /// A stop is done; `failed` is the container that could not be stopped.
    Stopped { uid: String, failed: Option<String> },
    /// A postStart hook is done.
    Hooked { uid: String, id: String, failed: bool },
    /// A probe found something.
    Probed(Report),
    /// A pod's status is known to the API.
    Written(String),
    /// A write of the records is over; whether it worked shows in them.
    Saved,
}

impl From<Report> for Message {
    fn from(report: Report) -> Self {
        Message::Probed(report)
    }
}

impl Agent {
    /// Starts a node agent, which registers its Node and takes up what its runtime runs.
    ///
    /// # Errors
    /// When its records cannot be read. That the API cannot be reached is none: the agent goes on trying.
    pub async fn start(
        config: AgentConfig,
        client: Client,
        runtime: Arc<dyn ContainerRuntime>,
    ) -> Result<Agent, StartError> {
        let error = |source| StartError::Records { path: config.data_dir.clone(), source };
        let records = Arc::new(Records::open(&config.data_dir).await.map_err(error)?);
        let recorder = Recorder::new(client.clone(), "kubelet", &config.node);
        let clock = client::Clock::new();
        let (sender, messages) = mpsc::channel(MESSAGES);
        let writer = Writer::new();
        let shared = view::Shared::new(&config.node, records.clone(), writer.clone(), runtime.clone());
        let stop = Arc::new(Notify::new());
        let mut informers = client::Informers::new(client.clone());
        informers.follow_fields::<api::core::v1::Pod>(&format!("spec.nodeName={}", config.node));
        informers.follow_fields::<api::core::v1::Node>(&format!("metadata.name={}", config.node));
        let following = informers.start();
        let nodes = following.subscribe_to(&[api::resource::of::<api::core::v1::Node>()]);
        let beat = node::Heart { config: config.clone(), client: client.clone(), shared: shared.clone(), clock };
        let leases = node::Leases { config: config.clone(), client: client.clone() };
        let writing = writer.clone().run(client.clone(), records.clone(), sender.clone(), clock);
        let tasks = vec![
            rt::task::spawn("kubelet-status", writing).abort_on_drop(),
            rt::task::spawn("kubelet-node", beat.run(nodes)).abort_on_drop(),
            rt::task::spawn("kubelet-lease", leases.run()).abort_on_drop(),
        ];
        let tools = effects::Tools { client, runtime, recorder, records, node_ip: config.ip };
        let core = core::Core::new(config, tools, shared.clone(), writer, sender, clock);
        let core = rt::task::spawn("kubelet-pods", core.run(following, messages, stop.clone()));
        Ok(Agent { shared, stop, core, tasks })
    }

    /// What the agent knows and does, as plain data.
    pub fn view(&self) -> View {
        self.shared.view()
    }

    /// Ends the agent after what it has begun to write is on disk. What runs in the runtime runs on.
    pub async fn shutdown(mut self) {
        self.stop.notify_one();
        if (&mut self.core).await.is_err() {
            // It panicked: that too is an end.
            sometimes!("node agent's loop ended by itself");
        }
        self.tasks.clear();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.core.abort();
    }
}

/// Whether two results of probes are of the same container.
fn same_container(results: &ProbeResults, id: &str) -> bool {
    results.id == id
}
