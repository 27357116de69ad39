//! The orchestrator's part of a stage: control planes on the members, agents on the nodes, users on the client hosts.
//!
//! ```text
//! s1..sM  store + API server + controllers + scheduler   (seaworthy::Server)
//! n1..nN  node agent with hollow containers + proxy       (seaworthy::Agent)
//! c1..cC  proxy for the host's callers, users, callers    (workloads::deployments)
//! ```

use crate::credentials::{Credentials, control_plane, node_agent, tenant};
use crate::effects::{ContainerTrouble, Host};
use crate::stage::{Process, Stage, ip, lock};
use faults::Ns;
use kubelet::hollow::{Fault, HollowFaults, StandardPrograms};
use proxy::{ProxyConfig, ProxyView};
use record::{Cached, Config, EffectiveWrite, EndState, Sight};
use rt::sim::{Exit, ExitReason, HostId, World};
use seaworthy::{Access, Agent, AgentConfig, ControlConfig};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use workloads::deployments;

/// Where API servers listen.
pub(crate) const API_PORT: u16 = 6443;

/// Pods' addresses: enough for as many nodes as a trial may have.
const POD_CIDR: &str = "10.128.0.0/9";

/// Apart from all other hosts.
const CROWD_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 1));

/// The cluster's domain.
const DOMAIN: &str = "cluster.local";

/// The nodes of a trial; none in a trial of a store alone.
pub(crate) struct Nodes {
    pub(crate) ids: Vec<HostId>,
    /// Where those are who flood API servers, if there are any of these; no fault strikes it.
    pub(crate) crowd: Option<HostId>,
    /// Of each node: what runs, once it has started.
    agents: Vec<Mutex<Option<Arc<Agent>>>>,
    /// Of each node: what its containers are told to do wrong.
    faults: Vec<HollowFaults>,
    /// Of each node: what its proxy applied.
    proxies: Vec<Arc<ProxyView>>,
    /// Requests that API servers answered, per second of the trial so far.
    pub(crate) requests: Mutex<Vec<u64>>,
    /// Of each queue, by process: the most keys and the longest wait seen.
    queues: Mutex<BTreeMap<String, (u64, Ns)>>,
    /// Of each member: how many its API server had answered when they were counted last.
    counted: Mutex<Vec<u64>>,
    /// Who is who to the API servers.
    pub(crate) credentials: Credentials,
}

impl Nodes {
    pub(crate) fn new(world: &World, config: &Config) -> Self {
        let count = config.cluster.as_ref().map_or(0, |cluster| cluster.nodes);
        let ids: Vec<HostId> = (0..count).map(|node| world.add_host(&node_name(node), node_address(node))).collect();
        let crowd = config.cluster.as_ref().map(|_| world.add_host("crowd", CROWD_ADDRESS));
        crowd.inspect(|crowd| world.start(*crowd, || Box::pin(std::future::pending())));
        let nodes = (0..count).map(|node| (Host::Node(node), node_agent(&node_name(node))));
        let members = (0..config.members).map(|member| (Host::Member(member), control_plane()));
        let clients = (0..config.client_hosts).map(|client| (Host::Client(client), tenant()));
        let users = nodes.chain(members).chain(clients).map(|(host, user)| (ip(host), user));
        Self {
            crowd,
            agents: ids.iter().map(|_| Mutex::default()).collect(),
            faults: ids.iter().map(|_| faults_of_a_node()).collect(),
            proxies: ids.iter().map(|_| Arc::default()).collect(),
            requests: Mutex::default(),
            queues: Mutex::default(),
            counted: Mutex::new(vec![0; config.members as usize]),
            credentials: Credentials::of(users),
            ids,
        }
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.ids.len()).expect("a trial has fewer hosts than 32 bits hold")
    }
}

fn faults_of_a_node() -> HollowFaults {
    let faults = HollowFaults::new();
    faults.fail_pulls(deployments::MISSING_IMAGE);
    faults
}

fn node_name(node: u32) -> String {
    format!("n{}", node + 1)
}

/// A node's address.
pub(crate) fn node_address(node: u32) -> IpAddr {
    let [high, low] = u16::try_from(node + 1).expect("a trial has fewer nodes than 16 bits hold").to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 2, high, low))
}

/// Where a member's API server is to be found.
pub(crate) fn api_server(member: u32) -> String {
    format!("s{}:{API_PORT}", member + 1)
}

impl Stage {
    /// Addresses of the API servers.
    pub(crate) fn api_servers(&self) -> Vec<String> {
        (0..self.config.members).map(api_server).collect()
    }

    /// What a member runs beside its store.
    pub(crate) fn control_config(&self, member: u32) -> Option<ControlConfig> {
        self.config.cluster.as_ref()?;
        let mut api_servers = self.api_servers();
        api_servers.rotate_left(member as usize);
        let mut config = ControlConfig::new(&format!("s{}", member + 1), &format!("0.0.0.0:{API_PORT}"), api_servers);
        POD_CIDR.clone_into(&mut config.controllers.cluster_cidr);
        config.access = Access::Vouched(Arc::new(self.nodes.credentials.clone()));
        Some(config)
    }

    /// What users and callers are told; `None` without an orchestrator.
    pub(crate) fn users_setting(
        &self,
        seed: u64,
        script: Option<Arc<[EffectiveWrite]>>,
    ) -> Option<deployments::Setting> {
        let cluster = self.config.cluster.clone()?;
        Some(deployments::Setting {
            recorder: self.recorder.clone(),
            api: client::ClientConfig::new(self.api_servers(), "kubectl"),
            config: self.config.clone(),
            nodes: (0..cluster.nodes).map(node_name).collect(),
            cluster,
            domain: DOMAIN.to_owned(),
            seed,
            script,
        })
    }

    pub(crate) fn start_nodes(self: &Arc<Self>) {
        for node in 0..self.nodes.count() {
            let stage = Arc::clone(self);
            let process = move || -> Process { Box::pin(Arc::clone(&stage).agent(node)) };
            self.world.start(self.nodes.ids[node as usize], process);
        }
    }

    /// A node's process: it ends when the agent stops.
    async fn agent(self: Arc<Self>, node: u32) {
        lock(&self.observer).saw(Sight::Agent { at_ns: self.world.now_ns(), node, up: true });
        let zones = self.config.cluster.as_ref().map_or(1, |cluster| cluster.zones.max(1));
        let mut api_servers = self.api_servers();
        api_servers.rotate_left(node as usize % self.config.members.max(1) as usize);
        let mut config = AgentConfig::new(&node_name(node), node_address(node), "/data", api_servers);
        config.zone = format!("z{}", node % zones + 1);
        config.programs = Arc::new(StandardPrograms);
        config.faults = self.nodes.faults[node as usize].clone();
        config.proxy = self.nodes.proxies[node as usize].clone();
        match Agent::start(config).await {
            Ok(agent) => {
                *lock(&self.nodes.agents[node as usize]) = Some(Arc::new(agent));
                std::future::pending().await
            }
            Err(error) => {
                let why = format!("{} does not start: {error}", node_name(node));
                lock(&self.observer).warned(self.world.now_ns(), None, &why);
            }
        }
    }

    pub(crate) fn agent_exited(&self, node: u32, exit: &Exit) {
        *lock(&self.nodes.agents[node as usize]) = None;
        let mut observer = lock(&self.observer);
        observer.saw(Sight::Agent { at_ns: exit.at_ns, node, up: false });
        if exit.reason == ExitReason::PoweredOff {
            observer.saw(Sight::NodeDown { at_ns: exit.at_ns, node, wiped: false });
        }
    }

    /// Sets what is wrong with the containers that run on a node now.
    pub(crate) fn trouble_containers(&self, host: Host, trouble: ContainerTrouble) {
        let Some(faults) = host.node().map(|node| &self.nodes.faults[node as usize]) else { return };
        let ContainerTrouble { hang, unready, flap, ignore_term, slow_ms, no_pulls } = trouble;
        let mut lasting = Vec::new();
        lasting.extend(hang.then_some(Fault::Hang));
        lasting.extend(unready.then_some(Fault::Unready));
        lasting.extend(flap.then_some(Fault::Flap(FLAP_EVERY)));
        lasting.extend(ignore_term.then_some(Fault::IgnoreTerm));
        lasting.extend((slow_ms > 0).then_some(Fault::Slow(Duration::from_millis(slow_ms))));
        faults.clear_all();
        faults.fail_pulls(deployments::MISSING_IMAGE);
        if no_pulls {
            faults.take_registry();
        }
        for (target, _) in faults.running() {
            for fault in &lasting {
                // What has ended meanwhile has nothing left to suffer.
                let _ = faults.inject(&target, *fault);
            }
        }
    }

    pub(crate) fn end_containers(&self, host: Host, fault: Fault) {
        let Some(faults) = host.node().map(|node| &self.nodes.faults[node as usize]) else { return };
        for (target, _) in faults.running() {
            faults.inject(&target, fault);
        }
    }

    /// Ends a simulated second of the API servers' counts.
    pub(crate) fn count_requests(&self) {
        if self.config.cluster.is_none() {
            return;
        }
        let mut counted = lock(&self.nodes.counted);
        let mut answered = 0;
        for (before, running) in counted.iter_mut().zip(&self.running) {
            let total: u64 = lock(running).as_ref().map_or(0, |server| server.requests().values().sum());
            // A new process counts from zero.
            answered += if total >= *before { total - *before } else { total };
            *before = total;
        }
        let mut requests = lock(&self.nodes.requests);
        requests.push(answered);
        if requests.len().is_multiple_of(QUEUES_EVERY_S) {
            self.look_at_queues();
        }
    }

    fn look_at_queues(&self) {
        let mut seen = lock(&self.nodes.queues);
        for (number, running) in self.running.iter().enumerate() {
            let Some(server) = lock(running).clone() else { continue };
            // Queues tell how long keys have waited by their process's own clock.
            let components = self.world.look_as(self.members[number], || server.components());
            for (component, view) in components.unwrap_or_default() {
                for (queue, (length, oldest)) in view.queues {
                    let oldest_ns = oldest.as_nanos().try_into().unwrap_or(Ns::MAX);
                    let most = seen.entry(format!("s{}/{component}/{queue}", number + 1)).or_default();
                    *most = (most.0.max(length), most.1.max(oldest_ns));
                }
            }
        }
    }

    /// How the processes stand now.
    pub(crate) fn end_state(&self) -> EndState {
        let mut end = EndState::default();
        if self.config.cluster.is_none() {
            return end;
        }
        for (number, running) in self.running.iter().enumerate() {
            let Some(server) = lock(running).clone() else { continue };
            for ((verb, resource, code), count) in server.requests() {
                *end.requests.entry(format!("{verb} {resource} {code}")).or_default() += count;
            }
            for (component, view) in server.components() {
                let name = format!("s{}/{component}", number + 1);
                let (prefixes, objects) = view.versions();
                end.caches.insert(name, Cached { prefixes, objects });
            }
        }
        self.look_at_queues();
        end.queues.clone_from(&lock(&self.nodes.queues));
        for (node, (agent, proxy)) in (0..).zip(self.nodes.agents.iter().zip(&self.nodes.proxies)) {
            if lock(agent).is_none() {
                continue;
            }
            let (redirects, _) = proxy.tables();
            let table = redirects
                .0
                .into_iter()
                .map(|(at, backends)| (at.to_string(), backends.to.iter().map(ToString::to_string).collect()));
            end.proxies.insert(node, table.collect());
        }
        end
    }
}

/// From look to look at the queues, in seconds: a key that waits too long does so for minutes.
const QUEUES_EVERY_S: usize = 5;

/// How often a flapping container changes its mind.
const FLAP_EVERY: Duration = Duration::from_secs(7);

/// What runs on a client host of a trial with an orchestrator: the store's clients, users and callers, and the proxy
/// through which the callers' connections go.
pub(crate) async fn run_client_host(
    store: impl Future<Output = ()> + Send + 'static,
    users: deployments::Setting,
    host: u32,
    api_servers: Vec<String>,
) {
    let config = ProxyConfig { node: String::new(), domain: DOMAIN.to_owned(), view: Arc::new(ProxyView::default()) };
    let api = client::Client::new(client::ClientConfig::new(api_servers, "kube-proxy"));
    let _proxy = rt::task::spawn("proxy", proxy::run(config, api)).abort_on_drop();
    let store = rt::task::spawn("store-clients", store).abort_on_drop();
    deployments::run_host(users, host).await;
    // Whoever panics is recorded by the trial.
    let _ = store.await;
}
