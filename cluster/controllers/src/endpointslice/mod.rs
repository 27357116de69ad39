//! EndpointSlices, and the older Endpoints, of Services that select pods.
//!
//! ```text
//! Service ─┐            ┌─ per family, per set of ports ─▶ pack ─▶ EndpointSlices   (slices)
//! Pods ────┼─▶ endpoint ┤
//! Nodes ───┘            └─ repacked subsets ──────────────────────▶ Endpoints        (endpoints)
//! ```
//!
//! Services without a selector are left alone: whoever made them makes their endpoints. Endpoints of pods that
//! terminate are kept with `ready: false`, so that a proxy can fall back to those that still serve.
//!
//! **Invariant:** an endpoint stays in its slice as long as its pod is desired there
//! (`a_change_of_one_pod_changes_one_slice`).

mod endpoint;
pub mod endpoints;
mod pack;
mod slices;

use api::ObjectExt;
use api::core::v1::{Namespace, Node, Pod, Service};
use api::discovery::v1::EndpointSlice;
use client::{Caches, Key, Now, Plan, Row, Watch};

/// How long to wait for a cache that is behind: as long as a watch usually needs, many times over.
const CATCH_UP: std::time::Duration = std::time::Duration::from_secs(2);

/// The controller of EndpointSlices.
pub const SLICES: Row = Row { name: "endpoint-slice-controller", watches: watch_slices, reconcile: reconcile_slices };

/// The controller of Endpoints.
pub const ENDPOINTS: Row =
    Row { name: "endpoint-controller", watches: endpoints::watches, reconcile: endpoints::reconcile };

fn watch_slices() -> Vec<Watch> {
    let owner = |slice: &EndpointSlice| {
        let service = slice.labels().get(slices::SERVICE_NAME).filter(|_| slices::is_ours(slice));
        service.map(|service| Key::new(slice.namespace(), service)).into_iter().collect()
    };
    vec![
        Watch::own::<Service>(),
        Watch::map::<Pod>(services_of),
        Watch::map::<EndpointSlice>(move |_, slice| owner(slice)),
        // Only looked up: a pod that is bound to a node not known yet makes the key come again.
        Watch::lookup::<Node>(),
        Watch::lookup::<Namespace>(),
    ]
}

/// Whether nothing new can be made for a Service: it goes, or its namespace does.
fn is_closing(caches: &Caches, service: &Service) -> bool {
    let namespace = caches.get::<Namespace>("", service.namespace());
    service.is_terminating() || namespace.is_some_and(|namespace| namespace.is_terminating())
}

/// The Services that select a pod.
fn services_of(caches: &Caches, pod: &Pod) -> Vec<Key> {
    let services = caches.list::<Service>(pod.namespace());
    services.filter(|service| endpoint::selects(service, pod)).map(|service| Key::of(&**service)).collect()
}

fn reconcile_slices(caches: &Caches, key: &Key, _now: Now) -> Plan {
    let labelled = |slice: &&std::sync::Arc<EndpointSlice>| {
        slices::is_ours(slice) && slice.labels().get(slices::SERVICE_NAME).is_some_and(|name| *name == key.name)
    };
    // One that is being deleted already is as good as gone.
    let slices = caches.list::<EndpointSlice>(&key.namespace).filter(labelled).filter(|slice| !slice.is_terminating());
    let slices: Vec<_> = slices.cloned().collect();
    let Some(service) = caches.get::<Service>(&key.namespace, &key.name) else {
        return slices::plan_without_service(&slices, caches.revision(Service::resource()));
    };
    if !endpoint::is_served(service) {
        return Plan::nothing();
    }
    let pods = caches.list::<Pod>(&key.namespace).filter(|pod| endpoint::selects(service, pod));
    let pods: Vec<_> = pods.map(|pod| &**pod).collect();
    let view = slices::View {
        service,
        closing: is_closing(caches, service),
        pods: &pods,
        slices: &slices,
        node: &|name| caches.get::<Node>("", name).map(|node| &**node),
        taken: &|name| caches.get::<EndpointSlice>(&key.namespace, name).is_some(),
        revision: caches.revision(EndpointSlice::resource()),
        max_endpoints: pack::MAX_ENDPOINTS,
    };
    slices::plan(&view)
}

#[cfg(test)]
mod tests;
