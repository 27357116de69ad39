//! An agent: a node's kubelet over its container runtime, and its service proxy.

use client::{Client, ClientConfig};
use kubelet::hollow::{Hollow, HollowConfig, HollowFaults, Programs, StandardPrograms};
use proxy::{ProxyConfig, ProxyView};
use rt::task::AbortOnDrop;
use rt::tls::ClientTls;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Upstream's.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// At once, as far as a person can tell: where a request costs little. It rarely changes.
pub(crate) const STATUS_SOON: Duration = Duration::from_millis(100);

/// How an agent is set up.
#[derive(Clone)]
pub struct AgentConfig {
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub ip: IpAddr,
    /// Where the agent and its runtime keep their state.
    pub data_dir: String,
    /// Addresses of all API servers; the first is preferred.
    pub api_servers: Vec<String>,
    /// How the connections to them are secured: not at all by default.
    pub tls: ClientTls,
    /// The zone that the node is in.
    pub zone: String,
    /// The cluster's domain.
    pub domain: String,
    /// What hollow containers do.
    pub programs: Arc<dyn Programs>,
    /// By which hollow containers are told to do wrong.
    pub faults: HollowFaults,
    /// How soon after another a changed status of the node is reported at the earliest.
    pub status_interval: Duration,
    /// Whether the node's network takes the tables of a service proxy.
    pub serves_services: bool,
    /// By which the proxy is observed.
    pub proxy: Arc<ProxyView>,
}

impl AgentConfig {
    /// In a zone called `local`, with containers that do what their images say.
    pub fn new(node: &str, ip: IpAddr, data_dir: &str, api_servers: Vec<String>) -> Self {
        Self {
            node: node.to_owned(),
            ip,
            data_dir: data_dir.to_owned(),
            api_servers,
            tls: ClientTls::default(),
            zone: "local".to_owned(),
            domain: "cluster.local".to_owned(),
            programs: Arc::new(StandardPrograms),
            faults: HollowFaults::new(),
            status_interval: STATUS_INTERVAL,
            serves_services: true,
            proxy: Arc::default(),
        }
    }
}

/// Why an agent cannot start; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The runtime's state cannot be read.
    #[error("the container runtime's state in {path} cannot be read: {error}")]
    Hollow {
        /// The directory.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The node agent's records cannot.
    #[error(transparent)]
    Kubelet(#[from] kubelet::StartError),
}

/// Label of a Node that says which zone it is in.
const ZONE: &str = "topology.kubernetes.io/zone";

/// A node's process that runs. Dropping it ends it at once, as a kill would.
pub struct Agent {
    kubelet: kubelet::Agent,
    _proxy: Option<AbortOnDrop<()>>,
}

impl Agent {
    /// Starts the node's roles. When this returns, the state on disk is read and what ran is taken up.
    ///
    /// # Errors
    /// What is wrong with the configuration or the data directory, in a sentence for the operator.
    pub async fn start(config: AgentConfig) -> Result<Self, AgentError> {
        let client = |component: &str| {
            let tls = config.tls.clone();
            Client::new(ClientConfig { tls, ..ClientConfig::new(config.api_servers.clone(), component) })
        };
        let hollow_config = HollowConfig::new(&config.node, &config.data_dir);
        let hollow = Hollow::open(hollow_config, config.programs.clone(), config.faults.clone());
        let hollow = hollow.await.map_err(|error| AgentError::Hollow { path: config.data_dir.clone(), error })?;
        let mut kubelet_config = kubelet::AgentConfig::new(&config.node, config.ip, &config.data_dir);
        kubelet_config.status_interval = config.status_interval;
        kubelet_config.labels.insert(ZONE.to_owned(), config.zone.clone());
        let kubelet = kubelet::Agent::start(kubelet_config, client("kubelet"), Arc::new(hollow)).await?;
        let proxy = config.serves_services.then(|| {
            let proxy =
                ProxyConfig { node: config.node.clone(), domain: config.domain.clone(), view: config.proxy.clone() };
            rt::task::spawn("proxy", proxy::run(proxy, client("kube-proxy"))).abort_on_drop()
        });
        Ok(Self { kubelet, _proxy: proxy })
    }

    /// The node's agent.
    pub fn kubelet(&self) -> &kubelet::Agent {
        &self.kubelet
    }

    /// Stops the agent after what it has begun to write is on disk; what runs on the node runs on.
    pub async fn shutdown(self) {
        self.kubelet.shutdown().await;
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}
