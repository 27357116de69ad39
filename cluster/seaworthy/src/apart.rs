//! The roles as processes of their own: a server among up to seven, and a node's agent.
//!
//! ```text
//! s1: authority, tokens, made at its first start ◀─ join ── s2, s3: the same from s1
//! s1 ◀─ TLS, certificates of both ─▶ s2 ◀─▶ s3      members of the store
//! n1 ── join ─▶ any server;  n1 ── TLS, its certificate ─▶ whichever API server answers
//! ```
//!
//! Every server is told of every server, in the same words; the first one of all is started without being told to join.
//! A server that has joined, or has made the authority, needs no token any more. An agent asks for a new certificate at a
//! start when a third of the old one's life is left.

use crate::addresses::PodRange;
use crate::agent::{Agent, AgentConfig, STATUS_SOON};
use crate::data_dir::{DataDir, Purpose};
use crate::files;
use crate::identity::{Expiring, is_old};
use crate::join::{self, JoinError, JoinToken, Role, Shared, Welcome};
use crate::kubeconfig::{self, Shows};
use crate::process_error::ProcessError;
use crate::secured::{Secured, free_address};
use crate::server::{Server, ServerConfig};
use apiserver::Build;
use rt::time::Timestamp;
use rt::tls::{ClientTls, Pair};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use store::Format;
use store::server::{MemberAddress, MemberConfig, StopReason};

/// What an agent was given, in its data directory.
const AGENT_FILE: &str = "agent.json";

/// A server as others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// `host:port` where members of the store reach it.
    pub peer: String,
    /// `host:port` of its API server.
    pub api: String,
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct ServerProcessConfig {
    /// Which of the servers this one is.
    pub name: String,
    /// Where everything is kept.
    pub data_dir: String,
    /// All servers of the cluster, the same for each of them, in the same order.
    pub servers: Vec<Named>,
    /// Where it listens for members of the store, if not where they reach it.
    pub listen_peer: Option<String>,
    /// Where its API server listens, if not where it is reached.
    pub listen: Option<String>,
    /// Further names and addresses by which clients reach it.
    pub names: Vec<String>,
    /// From where nodes and their pods have their addresses.
    pub pods: PodRange,
    /// By what it joins those that are there, at its first start; `None` for the first server of all.
    pub token: Option<JoinToken>,
    /// Up to which format its store's log and snapshots are read and written.
    pub store_format: Format,
    /// About how many requests its API server answers at once; `None` for the default.
    pub max_requests_in_flight: Option<usize>,
    /// What the program was built from.
    pub build: Build,
}

/// A server that runs. Dropping it ends it at once, as a kill would.
#[derive(Debug)]
pub struct ServerProcess {
    server: Server,
    kubeconfig: String,
    tokens: [String; 2],
    _dir: DataDir,
}

impl ServerProcess {
    /// Starts a server. When this returns, it listens; the cluster may yet have to elect a leader.
    ///
    /// # Errors
    /// Nothing runs.
    pub async fn start(config: ServerProcessConfig) -> Result<Self, ProcessError> {
        let own = own(&config)?.clone();
        // First of all what changes nothing: a port in use must leave no directory behind.
        let listen = free_address(config.listen.as_ref().unwrap_or(&own.api)).await?;
        let data = DataDir::open(&config.data_dir, Purpose::Server).await?;
        let now = Timestamp::now();
        if let Some(token) = &config.token
            && !Shared::is_in(&data.dir).await?
        {
            let others: Vec<String> =
                config.servers.iter().filter(|server| **server != own).map(|server| server.api.clone()).collect();
            let welcome = join::ask(&others, token, Role::Server, &own.name).await?;
            let given = welcome.server.ok_or_else(|| JoinError::NotUnderstood("it has no keys".to_owned()))?;
            Shared::keep(&data.dir, &welcome.authority, &given).await?;
        }
        let expiring = if config.servers.len() == 1 { Expiring::Renew } else { Expiring::Warn };
        let shared = Shared::open(&data.dir, expiring, now).await?;
        let mut names = config.names.clone();
        names.push(host(&own.api).to_owned());
        let sole = config.servers.len() == 1;
        let secured = Secured {
            name: &own.name,
            listen,
            names: &names,
            api_servers: apis(&config, &own),
            pods: config.pods,
            sole,
            advertise: host(&own.api).parse().ok(),
            build: config.build.clone(),
        };
        let mut control = secured.config(&shared, now)?;
        control.shared = Some(shared.clone());
        if let Some(most) = config.max_requests_in_flight {
            control.api.max_requests_in_flight = most;
        }
        let store = store_config(&config, &own, &data, &shared, now)?;
        let server = Server::start(ServerConfig { store, control: Some(control) }).await?;

        let kubeconfig = format!("{}/kubeconfig", config.data_dir);
        let text = kubeconfig::text(&own.api, shared.authority.certificate(), &Shows::Token(shared.admin.clone()));
        kubeconfig::write(&kubeconfig, &text).await?;
        let mut tokens = Vec::new();
        for role in [Role::Server, Role::Agent] {
            let name = format!("{}-token", role.name());
            let file = format!("{}/{name}", config.data_dir);
            let written = files::replace(&data.dir, &name, &format!("{}\n", shared.token(role)?)).await;
            written.map_err(|error| ProcessError::Io { file: file.clone(), error })?;
            tokens.push(file);
        }
        let tokens = [tokens.remove(0), tokens.remove(0)];
        Ok(Self { server, kubeconfig, tokens, _dir: data })
    }

    /// The kubeconfig's path.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// The paths of the files with the tokens by which servers and agents join.
    pub fn tokens(&self) -> &[String; 2] {
        &self.tokens
    }

    /// Completes when a role has stopped, and says why. May be dropped and called again.
    pub async fn stopped(&self) -> StopReason {
        self.server.stopped().await
    }

    /// Stops gracefully: leadership is handed over, requests under way are answered for a moment, and everything is
    /// durable when this returns.
    pub async fn shutdown(&self) -> StopReason {
        self.server.shutdown().await
    }
}

/// This server's own entry.
fn own(config: &ServerProcessConfig) -> Result<&Named, ProcessError> {
    let names: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    config
        .servers
        .iter()
        .find(|server| server.name == config.name)
        .ok_or_else(|| ProcessError::Config(format!("{} is none of the servers: {}", config.name, names.join(", "))))
}

/// All API servers, from this one on: its components prefer it, and fail over in an order of their own.
fn apis(config: &ServerProcessConfig, own: &Named) -> Vec<String> {
    let mut apis: Vec<String> = config.servers.iter().map(|server| server.api.clone()).collect();
    let at = apis.iter().position(|api| *api == own.api).unwrap_or(0);
    apis.rotate_left(at);
    apis
}

fn store_config(
    config: &ServerProcessConfig,
    own: &Named,
    data: &DataDir,
    shared: &Shared,
    now: Timestamp,
) -> Result<MemberConfig, ProcessError> {
    let address = |server: &Named| MemberAddress { peer: server.peer.clone(), client: server.api.clone() };
    let members: BTreeMap<u64, MemberAddress> = (1..).zip(config.servers.iter().map(address)).collect();
    let own_id = (1..).zip(&config.servers).find(|(_, server)| *server == own).map_or(0, |(id, _)| id);
    let mut store = MemberConfig::new(&own.name, own_id, members, &format!("{}/store", data.dir.path()));
    // The store's clients are the API servers, each in the process of its member.
    store.listen_client = None;
    store.format = config.store_format;
    store.listen_peer =
        (config.servers.len() > 1).then(|| config.listen_peer.clone().unwrap_or_else(|| own.peer.clone()));
    store.peer_tls = shared.authority.peer(&own.name, &[host(&own.peer).to_owned()], now)?;
    store.validate().map_err(|error| ProcessError::Config(error.to_string()))?;
    Ok(store)
}

/// What is before the port, without brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// How an agent is set up.
#[derive(Clone, Debug)]
pub struct AgentProcessConfig {
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub ip: IpAddr,
    /// Where its state is kept.
    pub data_dir: String,
    /// `host:port` of API servers; it is told of the others when it joins.
    pub servers: Vec<String>,
    /// By what it joins, when it has no certificate or an old one.
    pub token: Option<JoinToken>,
}

/// A node's agent that runs. Dropping it ends it at once, as a kill would.
pub struct AgentProcess {
    agent: Agent,
    _dir: DataDir,
}

impl AgentProcess {
    /// Joins if need be, and starts the node's roles.
    ///
    /// # Errors
    /// Nothing runs.
    pub async fn start(config: AgentProcessConfig) -> Result<Self, ProcessError> {
        let data = DataDir::open(&config.data_dir, Purpose::Agent).await?;
        let welcome = identity(&config, &data).await?;
        let keys = welcome.agent.as_ref().ok_or_else(|| JoinError::NotUnderstood("it has no keys".to_owned()))?;
        let pair = Pair { certificate: keys.certificate.clone(), key: keys.key.clone() };
        let mut servers = config.servers.clone();
        servers.extend(welcome.servers.iter().filter(|server| !config.servers.contains(server)).cloned());
        let dir = format!("{}/nodes/{}", data.dir.path(), config.node);
        let mut agent = AgentConfig::new(&config.node, config.ip, &dir, servers);
        agent.tls = ClientTls::new(&welcome.authority, Some(&pair))?;
        agent.status_interval = STATUS_SOON;
        // The tables of a service proxy are for a network that takes them, and this machine's is left alone.
        agent.serves_services = false;
        Ok(Self { agent: Agent::start(agent).await?, _dir: data })
    }

    /// Stops the agent after what it has begun to write is on disk; what runs on the node runs on.
    pub async fn shutdown(self) {
        self.agent.shutdown().await;
    }
}

impl fmt::Debug for AgentProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentProcess").finish_non_exhaustive()
    }
}

/// What this agent was given, now or at an earlier start.
async fn identity(config: &AgentProcessConfig, data: &DataDir) -> Result<Welcome, ProcessError> {
    let file = format!("{}/{AGENT_FILE}", config.data_dir);
    let io = |error| ProcessError::Io { file: file.clone(), error };
    let kept = files::read(&data.dir, AGENT_FILE).await.map_err(io)?;
    let kept: Option<Welcome> = match kept {
        Some(text) => Some(serde_json::from_str(&text).map_err(|error| {
            ProcessError::Config(format!("{file} is damaged: {error}; remove it, and join again with a token"))
        })?),
        None => None,
    };
    let now = Timestamp::now();
    let is_fresh = |welcome: &Welcome| {
        welcome.agent.as_ref().is_some_and(|keys| is_old(&keys.certificate, now).is_ok_and(|old| !old))
    };
    match (kept, &config.token) {
        (Some(kept), _) if is_fresh(&kept) => Ok(kept),
        (Some(kept), None) => {
            tracing::warn!("this agent's certificate is old, and there is no token to ask for a new one");
            Ok(kept)
        }
        (None, None) => Err(ProcessError::Config(
            "an agent needs a token to join; a server has it in the file agent-token of its data directory".to_owned(),
        )),
        (_, Some(token)) => {
            let welcome = join::ask(&config.servers, token, Role::Agent, &config.node).await?;
            let text = serde_json::to_string(&welcome).expect("texts have a form in JSON");
            files::replace(&data.dir, AGENT_FILE, &text).await.map_err(io)?;
            Ok(welcome)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_components_prefer_it() {
        let named = |name: &str| Named { name: name.to_owned(), peer: format!("{name}:1"), api: format!("{name}:2") };
        let config = ServerProcessConfig {
            name: "b".to_owned(),
            data_dir: "d".to_owned(),
            servers: ["a", "b", "c"].map(named).to_vec(),
            listen_peer: None,
            listen: None,
            names: Vec::new(),
            pods: PodRange::default(),
            token: None,
            store_format: Format::LATEST,
            max_requests_in_flight: None,
            build: Build::default(),
        };
        assert_eq!(apis(&config, own(&config).unwrap()), ["b:2", "c:2", "a:2"]);
        let stranger = ServerProcessConfig { name: "x".to_owned(), ..config };
        assert_eq!(own(&stranger).unwrap_err().to_string(), "x is none of the servers: a, b, c");
    }

    #[test]
    fn a_host_is_what_comes_before_the_port() {
        assert_eq!([host("a.example:1"), host("[::1]:1"), host("10.0.0.1:6443")], ["a.example", "::1", "10.0.0.1"]);
    }
}
