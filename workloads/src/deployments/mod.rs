//! Workload `deployments`: users who keep changing Deployments, and clients who keep calling their Services.
//!
//! ```text
//! run_host --+-- users: Planner -> Ask -> API -> Recorder           until the faults end; then they leave all in order
//!            +-- operators: drain nodes; evict, delete, run pods     the same
//!            |   or a script, in their place
//!            +-- callers: names and cluster IPs -> HTTP -> Recorder   until shortly before the end
//! ```
//!
//! Each app, a Deployment with its Service and perhaps a budget, belongs to one user, so that what users asked last says
//! what there should be; operators touch pods and nodes of everybody.

mod ask;
mod call;
mod plan;
mod script;
mod user;

pub use ask::MISSING_IMAGE;
pub use plan::{app_name, namespace_of};

use crate::recorder::{Ns, Recorder};
use client::{Client, ClientConfig};
use record::{Cluster, Config, EffectiveWrite};
use rt::task::JoinHandle;
use std::sync::Arc;
use std::time::Duration;

/// Users on each client host: two, so that one who waits for an answer holds nobody up.
pub const USERS_PER_HOST: u32 = 2;

/// The callers fall silent this long before the end.
const QUIET_NS: Ns = 3_000_000_000;

/// How long a user waits for the API: a little more than an election takes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the workload finds the cluster, and what it is told to do.
#[derive(Clone)]
pub struct Setting {
    /// Collects the history.
    pub recorder: Recorder,
    /// How the API servers are reached.
    pub api: ClientConfig,
    /// Of the trial.
    pub config: Config,
    /// The orchestrator's part of it.
    pub cluster: Cluster,
    /// Names of the nodes, in order.
    pub nodes: Vec<String>,
    /// The cluster's domain, as its DNS has it.
    pub domain: String,
    /// Of the trial.
    pub seed: u64,
    /// What users do, if it is given beforehand: then nobody chooses anything.
    pub script: Option<Arc<[EffectiveWrite]>>,
}

impl Setting {
    /// Users of all hosts together.
    pub fn users(&self) -> u32 {
        (self.config.client_hosts * USERS_PER_HOST).max(1)
    }

    fn client(&self, host: u32) -> Client {
        let mut config = ClientConfig { request_timeout: REQUEST_TIMEOUT, ..self.api.clone() };
        let endpoints = config.endpoints.len().max(1);
        config.endpoints.rotate_left(host as usize % endpoints);
        // A person who gets no answer looks first, and does not send the same thing twice unseen.
        Client::new(config).with_limits(REQUEST_TIMEOUT, 2)
    }
}

/// The users of a client host, and on the first one the operators.
fn choosers(setting: &Setting, host: u32) -> Vec<JoinHandle<()>> {
    let here = (0..setting.users()).filter(|user| user % setting.config.client_hosts.max(1) == host);
    let mut tasks: Vec<_> =
        here.map(|user| rt::task::spawn("user", user::user(setting.clone(), user, setting.client(host)))).collect();
    if host == 0 {
        tasks.push(rt::task::spawn("operator", user::node_operator(setting.clone(), setting.client(host))));
        tasks.push(rt::task::spawn("operator", user::pod_operator(setting.clone(), setting.client(host))));
    }
    tasks
}

/// Runs client host number `host`'s share of the workload to its end. Everything it starts ends when it is dropped.
pub async fn run_host(setting: Setting, host: u32) {
    let mut tasks: Vec<JoinHandle<()>> = Vec::new();
    match setting.script.clone() {
        Some(script) if host == 0 => {
            let (setting, api) = (setting.clone(), setting.client(host));
            tasks.push(rt::task::spawn("script", async move { script::perform_all(&setting, &api, &script).await }));
        }
        Some(_) => {}
        None => tasks.extend(choosers(&setting, host)),
    }
    if setting.cluster.calls_per_s > 0 {
        tasks.push(rt::task::spawn("callers", call::callers(setting.clone(), host, setting.client(host))));
    }
    let tasks: Vec<_> = tasks.into_iter().map(JoinHandle::abort_on_drop).collect();
    for task in tasks {
        // A user that panics is recorded by whoever runs the trial.
        let _ = task.await;
    }
}
