//! A whole cluster in one process: an embedded store of one member, the control plane, and hollow nodes.
//!
//! ```text
//! data directory ─▶ authority, token ─▶ Server (store without listeners, API server with TLS) ◀─TLS─ Agents
//!                                        └─▶ kubeconfig                                            controllers, scheduler
//! ```
//!
//! Everything is in the data directory, so that the process may end in any way and go on where it was: pods keep their
//! UIDs, and hollow containers run on as far as anybody can tell.
//!
//! **Invariant:** what listens is the API server and the pods of hollow nodes, nothing else; nobody is served without a
//! token or a certificate (`nothing_is_open_wider_than_it_must_be` in tests/up.rs).

use crate::addresses::PodRange;
use crate::agent::{Agent, AgentConfig, STATUS_SOON};
use crate::data_dir::{DataDir, Purpose};
use crate::identity::{Authority, Expiring};
use crate::join::Shared;
use crate::kubeconfig::{self, Shows};
use crate::process_error::ProcessError;
use crate::secured::{MASTERS, Secured, free_address, reached_at};
use crate::server::{Server, ServerConfig};
use api::core::v1::Node;
use api::{ObjectExt, is_node_ready};
use apiserver::Build;
use client::{Client, ClientConfig, ListOptions};
use rt::time::{Timestamp, sleep};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use store::server::{MemberAddress, MemberConfig, StopReason};

/// This server's name in its own cluster.
const NAME: &str = "up";

/// The store's only member is reached by nobody, and its directory belongs to a cluster of this name.
const NOWHERE: [&str; 2] = ["embedded:1", "embedded:2"];

/// From look to look whether the nodes are ready: what a person does not notice.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a whole cluster in one process is set up.
#[derive(Clone, Debug)]
pub struct UpConfig {
    /// Where everything is kept.
    pub data_dir: String,
    /// Where the API server listens, `ip:port`; port 0 takes any that is free.
    pub listen: String,
    /// Further names and addresses by which clients reach it.
    pub names: Vec<String>,
    /// How many hollow nodes there are.
    pub nodes: u32,
    /// From where they and their pods have their addresses.
    pub pods: PodRange,
    /// Where the kubeconfig is written; by default in the data directory.
    pub kubeconfig: Option<String>,
    /// What the program was built from.
    pub build: Build,
}

impl UpConfig {
    /// One node; on loopback, at upstream's port.
    pub fn new(data_dir: &str) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            listen: "127.0.0.1:6443".to_owned(),
            names: Vec::new(),
            nodes: 1,
            pods: PodRange::default(),
            kubeconfig: None,
            build: Build::default(),
        }
    }
}

/// A cluster that runs. Dropping it ends it at once, as a kill would.
pub struct Up {
    // Dropped in this order: nodes before the server that they talk to, the lock last.
    agents: Vec<Agent>,
    server: Server,
    admin: Client,
    address: SocketAddr,
    kubeconfig: String,
    _dir: DataDir,
}

impl Up {
    /// Starts a cluster. When this returns, everything runs and the kubeconfig is written; nodes may yet have to become
    /// ready.
    ///
    /// # Errors
    /// Nothing runs.
    pub async fn start(config: UpConfig) -> Result<Self, ProcessError> {
        check(&config)?;
        // First of all what changes nothing: a port in use must leave no directory behind.
        let listen = free_address(&config.listen).await?;
        let data = DataDir::open(&config.data_dir, Purpose::Up).await?;
        let now = Timestamp::now();
        let shared = Shared::open(&data.dir, Expiring::Renew, now).await?;
        let authority = &shared.authority;
        let api_server = reached_at(listen).to_string();
        let control = Secured {
            name: NAME,
            listen,
            names: &config.names,
            api_servers: vec![api_server.clone()],
            pods: config.pods,
            // The lock on the data directory says so.
            sole: true,
            advertise: Some(listen.ip()),
            build: config.build.clone(),
        };

        let server =
            Server::start(ServerConfig { store: store_config(&data), control: Some(control.config(&shared, now)?) })
                .await?;
        let mut agents = Vec::new();
        for place in 0..config.nodes {
            agents.push(agent(&config, place, &data, &api_server, authority, now).await?);
        }
        let kubeconfig = config.kubeconfig.unwrap_or_else(|| format!("{}/kubeconfig", config.data_dir));
        let text = kubeconfig::text(&api_server, authority.certificate(), &Shows::Token(shared.admin.clone()));
        kubeconfig::write(&kubeconfig, &text).await?;
        let tls = authority.client("seaworthy-up", Some(MASTERS), now)?;
        let admin = Client::new(ClientConfig { tls, ..ClientConfig::new(vec![api_server], "seaworthy-up") });
        Ok(Self { agents, server, admin, address: reached_at(listen), kubeconfig, _dir: data })
    }

    /// Where the API server is reached on this machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The kubeconfig's path.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// A client that may do anything.
    pub fn admin(&self) -> &Client {
        &self.admin
    }

    /// Completes when every hollow node is ready.
    pub async fn ready(&self) {
        loop {
            match self.admin.list::<Node>("", &ListOptions::default()).await {
                Ok(nodes) => {
                    let is_there =
                        |name: String| nodes.items.iter().any(|node| node.name() == name && is_node_ready(node));
                    if (0..self.agents.len()).map(node_name).all(is_there) {
                        return;
                    }
                }
                Err(error) => tracing::debug!(%error, "nodes cannot be listed yet"),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Completes when a role has stopped, and says why. May be dropped and called again.
    pub async fn stopped(&self) -> StopReason {
        self.server.stopped().await
    }

    /// Stops gracefully: nodes first, then leadership is given up, requests under way are answered for a moment, and
    /// everything is durable when this returns.
    pub async fn shutdown(self) -> StopReason {
        for agent in self.agents {
            agent.shutdown().await;
        }
        self.server.shutdown().await
    }
}

impl fmt::Debug for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Up").field("address", &self.address).finish_non_exhaustive()
    }
}

fn check(config: &UpConfig) -> Result<(), ProcessError> {
    if config.nodes > config.pods.nodes() {
        let (range, most) = (config.pods, config.pods.nodes());
        return Err(ProcessError::Config(format!(
            "{} has addresses for {most} nodes, not for {}",
            range, config.nodes
        )));
    }
    Ok(())
}

fn store_config(data: &DataDir) -> MemberConfig {
    let [peer, client] = NOWHERE.map(str::to_owned);
    let members = BTreeMap::from([(1, MemberAddress { peer, client })]);
    let mut config = MemberConfig::new(NAME, 1, members, &format!("{}/store", data.dir.path()));
    (config.listen_peer, config.listen_client) = (None, None);
    config
}

async fn agent(
    config: &UpConfig,
    place: u32,
    data: &DataDir,
    api_server: &str,
    authority: &Authority,
    now: Timestamp,
) -> Result<Agent, ProcessError> {
    let node = node_name(place as usize);
    let dir = format!("{}/nodes/{node}", data.dir.path());
    let mut agent = AgentConfig::new(&node, config.pods.node(place), &dir, vec![api_server.to_owned()]);
    agent.tls = authority.client(&format!("system:node:{node}"), Some("system:nodes"), now)?;
    agent.status_interval = STATUS_SOON;
    // The tables of a service proxy are for a network that takes them, and this machine's is left alone.
    agent.serves_services = false;
    Agent::start(agent).await.map_err(|error| ProcessError::Node { node, error })
}

fn node_name(place: usize) -> String {
    format!("hollow-{}", place + 1)
}
