//! The service proxy and cluster DNS of a node: tables computed from Services and EndpointSlices, applied by the host's
//! network.
//!
//! ```text
//! Services, EndpointSlices ──informers──▶ Tables::update (pure, per Service) ──▶ rt::net::set_redirects, set_names
//! ```
//!
//! What a Service needs is computed when the Service or one of its slices changes, and only then; the whole tables are
//! handed to the host's network at most every [`SYNC_EVERY`].
//!
//! Limits: TCP; cluster IPs and no node ports, external IPs or load balancers; names with the cluster's domain, and
//! `service.namespace` and `service.namespace.svc` as a search list would complete them; names of pods
//! for any address, whether or not a pod has it; no `ExternalName`.

mod dns;
mod service;
mod slices;
mod tables;

pub use tables::{Changed, ServiceKey, Tables};

use api::ObjectExt;
use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use client::{Client, Informers};
use rt::net::{Names, Redirects};
use slices::Slices;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The tables are not applied more often than this: a rollout changes slices many times a second, and a connection
/// that is a moment late is retried by whoever made it. Upstream's default `minSyncPeriod` is a second.
pub const SYNC_EVERY: Duration = Duration::from_millis(100);

/// What a node's proxy must know.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Name of the node that it serves: for policies that prefer its own endpoints.
    pub node: String,
    /// The cluster's domain: `cluster.local`.
    pub domain: String,
    /// Where to look at what it applied.
    pub view: Arc<ProxyView>,
}

/// What a proxy has applied, for whoever wants to look.
#[derive(Debug, Default)]
pub struct ProxyView(Mutex<Option<Tables>>);

impl ProxyView {
    /// Both tables as they were last handed to the host's network.
    pub fn tables(&self) -> (Redirects, Names) {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.as_ref().map(|tables| (tables.redirects(), tables.names())).unwrap_or_default()
    }

    fn set(&self, tables: Tables) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tables);
    }
}

/// Keeps the host's tables up to date for ever. They stay as they are when this is dropped.
pub async fn run(config: ProxyConfig, client: Client) {
    let mut informers = Informers::new(client);
    informers.follow::<Service>();
    informers.follow::<EndpointSlice>();
    let following = informers.start();
    let mut subscription = following.subscribe();
    // Until everything was listed once, what is missing may exist: connections go on by the tables that are there.
    following.synced().await;
    let mut tables = Tables::new(&config.node, &config.domain);
    let mut slices = Slices::default();
    // What an earlier process left in the host's network is replaced whatever it is.
    let mut changed = Changed::ALL;
    loop {
        let changes = subscription.next().await;
        let services = changes.iter().flat_map(|change| [change.old::<Service>(), change.new::<Service>()]);
        let mut touched: BTreeSet<ServiceKey> =
            services.flatten().map(|service| (service.namespace().to_owned(), service.name().to_owned())).collect();
        for change in &changes {
            touched.extend(slices.change(&change.name, change.old(), change.new()));
        }
        let caches = following.caches();
        for key in touched {
            let service = caches.get::<Service>(&key.0, &key.1);
            changed |= tables.update(&key, service.map(|service| &**service), slices.of(&key));
        }
        if changed.any() && apply(&config, &tables, changed) {
            changed = Changed::default();
        }
        rt::time::sleep(SYNC_EVERY).await;
    }
}

/// Hands over what changed. Says whether it was taken.
fn apply(config: &ProxyConfig, tables: &Tables, changed: Changed) -> bool {
    let redirects = || if changed.redirects { rt::net::set_redirects(tables.redirects()) } else { Ok(()) };
    let names = || if changed.names { rt::net::set_names(tables.names()) } else { Ok(()) };
    if let Err(error) = redirects().and_then(|()| names()) {
        tracing::warn!(%error, "the host's network does not take the proxy's tables");
        return false;
    }
    config.view.set(tables.clone());
    true
}
