//! The control plane of a server: API server, controllers, scheduler.

use apiserver::{AllowAll, ApiServer, PeerAuthenticator, StartError, User};
use client::{Caches, Client, ClientConfig, DriverConfig, DriverHandle, LeaseConfig};
use rt::task::AbortOnDrop;
use scheduler::{SchedulerConfig, SchedulerHandle};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use store::server::Member;

/// Namespace of the Leases by which controllers and schedulers are elected.
const SYSTEM_NAMESPACE: &str = "kube-system";

/// The controllers' name as a component, and their Lease's.
const CONTROLLERS: &str = "kube-controller-manager";
/// The scheduler's.
const SCHEDULER: &str = "kube-scheduler";

/// How a control plane is set up.
#[derive(Clone)]
pub struct ControlConfig {
    /// This server's name, unique in the cluster.
    pub name: String,
    /// How its API server is set up.
    pub api: apiserver::Config,
    /// Addresses of all API servers; its own components prefer the first.
    pub api_servers: Vec<String>,
    /// What operators choose about controllers.
    pub controllers: controllers::Config,
    /// Which node speaks from which address. Everybody else is taken for an administrator: where that is not so, nobody
    /// but those whom it may concern must reach the API server.
    pub peers: BTreeMap<IpAddr, String>,
}

/// A component at one moment.
#[derive(Clone)]
pub struct ComponentView {
    /// What it knows.
    pub caches: Caches,
    /// By queue: keys that wait in it, and for how long the oldest of them has.
    pub queues: BTreeMap<String, (u64, Duration)>,
}

/// A control plane that runs.
pub(crate) struct Control {
    api: ApiServer,
    controllers: Arc<DriverHandle>,
    scheduler: SchedulerHandle,
    _components: Vec<AbortOnDrop<()>>,
}

impl ControlConfig {
    /// With upstream's defaults.
    pub fn new(name: &str, listen: &str, api_servers: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            api: apiserver::Config::new(listen),
            api_servers,
            controllers: controllers::Config::default(),
            peers: BTreeMap::new(),
        }
    }

    fn authenticator(&self) -> PeerAuthenticator {
        let node = |name: &String| User::new(&format!("system:node:{name}"), &["system:nodes", "system:authenticated"]);
        let nodes = self.peers.iter().map(|(ip, name)| (*ip, node(name))).collect();
        PeerAuthenticator::new(nodes, Some(User::new("admin", &["system:masters", "system:authenticated"])))
    }

    fn client(&self, component: &str) -> Client {
        Client::new(ClientConfig::new(self.api_servers.clone(), component))
    }

    fn lease(&self, component: &str) -> LeaseConfig {
        LeaseConfig::new(SYSTEM_NAMESPACE, component, &self.name)
    }
}

impl Control {
    pub(crate) async fn start(config: ControlConfig, store: &Member) -> Result<Self, StartError> {
        let authenticator = Arc::new(config.authenticator());
        let api =
            ApiServer::start(config.api.clone(), Arc::new(store.local()), authenticator, Arc::new(AllowAll)).await?;

        let driver = DriverConfig::new(config.lease(CONTROLLERS), &config.name);
        let handle = driver.view.clone();
        let table = controllers::all(&config.controllers);
        let run = client::run_controllers(driver, config.client(CONTROLLERS), table);
        let controllers = rt::task::spawn("controllers", run).abort_on_drop();

        let scheduler_config = SchedulerConfig::new(&config.name, &config.name);
        let scheduler = scheduler_config.handle.clone();
        let run = scheduler::run(scheduler_config, config.client(SCHEDULER));
        let scheduling = rt::task::spawn("scheduler", run).abort_on_drop();

        Ok(Self { api, controllers: handle, scheduler, _components: vec![controllers, scheduling] })
    }

    pub(crate) fn components(&self) -> BTreeMap<&'static str, ComponentView> {
        let mut components = BTreeMap::new();
        if let Some(following) = self.controllers.following() {
            let queue = |queue: client::QueueView| {
                let length = (queue.ready + queue.delayed + queue.running) as u64;
                (queue.controller.to_owned(), (length, queue.oldest))
            };
            let queues = self.controllers.view().controllers.into_iter().map(queue).collect();
            components.insert(CONTROLLERS, ComponentView { caches: following.caches(), queues });
        }
        if let Some(following) = self.scheduler.following() {
            let sizes = self.scheduler.view().summary.queue;
            // Pods that nothing can be done for wait as long as that is so: no promise bounds it.
            let queue = ((sizes.active + sizes.backoff) as u64, Duration::ZERO);
            let queues = BTreeMap::from([("pods".to_owned(), queue)]);
            components.insert(SCHEDULER, ComponentView { caches: following.caches(), queues });
        }
        components
    }

    pub(crate) fn requests(&self) -> BTreeMap<(String, String, u16), u64> {
        self.api.view().requests
    }

    /// Gives leadership up and answers what is under way.
    pub(crate) async fn shutdown(&self) {
        self.controllers.stop();
        self.scheduler.stop();
        self.api.shutdown().await;
    }
}
