//! The control plane of a server: API server, controllers, scheduler.

use crate::join::Shared;
use crate::outside::Outside;
use apiserver::{AllowAll, ApiServer, Authenticator, Authorizer, Roles, StartError};
use client::{Caches, Client, ClientConfig, DriverConfig, DriverHandle, LeaseConfig};
use rt::task::AbortOnDrop;
use rt::time::sleep;
use rt::tls::ClientTls;
use scheduler::{SchedulerConfig, SchedulerHandle};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::server::Member;

/// Namespace of the Leases by which controllers and schedulers are elected.
const SYSTEM_NAMESPACE: &str = "kube-system";

/// The controllers' name as a component, and their Lease's.
pub(crate) const CONTROLLERS: &str = "kube-controller-manager";
/// The scheduler's.
pub(crate) const SCHEDULER: &str = "kube-scheduler";

/// From look to look whether the store is led: less than electing its only member takes.
const LOOK_EVERY: Duration = Duration::from_millis(2);

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
    /// How those who ask are told apart.
    pub access: Access,
    /// What those are given who join the cluster by this server; nobody can where there is none.
    pub shared: Option<Shared>,
    /// There is no other server, and whoever ran this one before is gone, for certain. Then each role starts when the one
    /// that it needs is of use, and no Lease is waited for: the cluster is ready seconds sooner.
    pub sole: bool,
}

/// How those who ask the API server are told apart, and how its own components are among them.
#[derive(Clone)]
pub enum Access {
    /// By somebody who vouches for them, and for these components too, which show nothing. Whoever is known may do anything.
    Vouched(Arc<dyn Authenticator>),
    /// By what they show.
    Shown {
        /// Who knows them by it.
        authenticator: Arc<dyn Authenticator>,
        /// What each component of the control plane shows, by its name.
        components: BTreeMap<&'static str, ClientTls>,
    },
}

/// A component at one moment.
#[derive(Clone)]
pub struct ComponentView {
    /// What it knows.
    pub caches: Caches,
    /// By queue: keys that wait in it, and for how long the oldest of them has.
    pub queues: BTreeMap<String, (u64, Duration)>,
}

impl ComponentView {
    /// The kinds that it knows wholly, as registry prefixes such as `/registry/core/pods/`, and the `resourceVersion` of
    /// each object that it knows, by registry key.
    pub fn versions(&self) -> (Vec<String>, BTreeMap<String, i64>) {
        let (mut prefixes, mut objects) = (Vec::new(), BTreeMap::new());
        for resource in self.caches.resources() {
            let group = if resource.group.is_empty() { "core" } else { resource.group };
            let prefix = format!("/registry/{group}/{}/", resource.plural);
            for metadata in self.caches.metadata(resource) {
                let namespace = metadata.namespace.as_deref().map(|namespace| format!("{namespace}/"));
                let name = metadata.name.as_deref().unwrap_or_default();
                let key = format!("{prefix}{}{name}", namespace.unwrap_or_default());
                let version = metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
                objects.insert(key, version.unwrap_or(0));
            }
            prefixes.push(prefix);
        }
        (prefixes, objects)
    }
}

/// A control plane that runs.
pub(crate) struct Control {
    api: ApiServer,
    components: Components,
    _tasks: Vec<AbortOnDrop<()>>,
}

/// What watches the components of a control plane.
#[derive(Clone)]
pub(crate) struct Components {
    controllers: Arc<DriverHandle>,
    scheduler: SchedulerHandle,
}

impl ControlConfig {
    /// With upstream's defaults.
    pub fn new(name: &str, listen: &str, api_servers: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            api: apiserver::Config::new(listen),
            api_servers,
            controllers: controllers::Config::default(),
            access: Access::Vouched(Arc::new(AllowAll)),
            shared: None,
            sole: false,
        }
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        match &self.access {
            Access::Vouched(authenticator) | Access::Shown { authenticator, .. } => Arc::clone(authenticator),
        }
    }

    fn authorizer(&self) -> Arc<dyn Authorizer> {
        match &self.access {
            Access::Vouched(_) => Arc::new(AllowAll),
            Access::Shown { .. } => Arc::new(Roles),
        }
    }

    fn client(&self, component: &str) -> Client {
        let tls = match &self.access {
            Access::Vouched(_) => ClientTls::default(),
            Access::Shown { components, .. } => components.get(component).cloned().unwrap_or_default(),
        };
        Client::new(ClientConfig { tls, ..ClientConfig::new(self.api_servers.clone(), component) })
    }

    fn lease(&self, component: &str) -> LeaseConfig {
        LeaseConfig { sole: self.sole, ..LeaseConfig::new(SYSTEM_NAMESPACE, component, &self.name) }
    }
}

impl Control {
    pub(crate) async fn start(config: ControlConfig, store: &Member) -> Result<Self, StartError> {
        let authenticator = config.authenticator();
        if config.sole {
            while !store.local().has_leader() {
                sleep(LOOK_EVERY).await;
            }
        }
        let authorizer = config.authorizer();
        let api = ApiServer::start(config.api.clone(), Arc::new(store.local()), authenticator, authorizer).await?;

        if config.sole {
            api.bootstrapped().await;
        }
        let driver = DriverConfig::new(config.lease(CONTROLLERS), &config.name);
        let handle = driver.view.clone();
        let table = controllers::all(&config.controllers);
        let run = client::run_controllers(driver, config.client(CONTROLLERS), table);
        let controllers = rt::task::spawn("controllers", run).abort_on_drop();

        let mut scheduler_config = SchedulerConfig::new(&config.name, &config.name);
        scheduler_config.lease.sole = config.sole;
        let scheduler = scheduler_config.handle.clone();
        let run = scheduler::run(scheduler_config, config.client(SCHEDULER));
        let scheduling = rt::task::spawn("scheduler", run).abort_on_drop();

        let components = Components { controllers: handle, scheduler };
        if let Access::Shown { .. } = config.access {
            api.extend(Arc::new(Outside {
                store: store.local(),
                components: components.clone(),
                api: Arc::downgrade(api.core()),
                shared: config.shared.map(|shared| (shared, config.api_servers)),
            }));
        }
        Ok(Self { api, components, _tasks: vec![controllers, scheduling] })
    }

    pub(crate) fn components(&self) -> BTreeMap<&'static str, ComponentView> {
        self.components.view()
    }

    pub(crate) fn requests(&self) -> BTreeMap<(String, String, u16), u64> {
        self.api.view().requests
    }

    /// Gives leadership up and answers what is under way.
    pub(crate) async fn shutdown(&self) {
        self.components.controllers.stop();
        self.components.scheduler.stop();
        self.api.shutdown().await;
    }
}

impl Components {
    /// Of those that lead.
    pub(crate) fn view(&self) -> BTreeMap<&'static str, ComponentView> {
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
}
