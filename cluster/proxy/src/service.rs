//! One Service: where connections to its cluster IPs go.

use api::ObjectExt;
use api::core::v1::{Service, ServicePort};
use api::discovery::v1::{Endpoint, EndpointSlice};
use rt::net::Backends;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Upstream's default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_S: i32 = 10_800;

/// The Service that a slice belongs to, as namespace and name.
pub fn of_slice(slice: &EndpointSlice) -> Option<(String, String)> {
    let name = slice.labels().get(SERVICE_NAME)?;
    Some((slice.namespace().to_owned(), name.clone()))
}

/// Whether an endpoint takes new connections. One that says nothing is taken to.
pub fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// Whether an endpoint that terminates still answers.
fn serves_while_terminating(endpoint: &Endpoint) -> bool {
    let Some(conditions) = &endpoint.conditions else { return false };
    conditions.terminating == Some(true) && conditions.serving.unwrap_or(true)
}

/// The cluster IPs that connections are redirected from; none for a headless or external Service.
pub fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return vec![] };
    if spec.type_.as_deref() == Some("ExternalName") {
        return vec![];
    }
    let first = spec.cluster_ip.iter();
    let all: BTreeSet<&String> = first.chain(spec.cluster_ips.iter().flatten()).collect();
    all.into_iter().filter_map(|ip| ip.parse().ok()).collect()
}

/// Whether it is a Service without a cluster IP, by choice.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

/// Where connections to each of its addresses go, seen from `node`.
///
/// Those to ready endpoints; if there is none, those that terminate and still serve (KEP-1669). With
/// `internalTrafficPolicy: Local` only endpoints on this node count.
pub fn redirects<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    node: &str,
) -> BTreeMap<SocketAddr, Arc<Backends>> {
    let Some(spec) = &service.spec else { return BTreeMap::new() };
    let ips = cluster_ips(service);
    let local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(AFFINITY_S);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    });
    let mut redirects = BTreeMap::new();
    for port in spec.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref())) {
        let to = backends(port, slices.clone(), local.then_some(node));
        let backends = Arc::new(Backends { to, affinity });
        for ip in &ips {
            let Ok(number) = u16::try_from(port.port) else { continue };
            redirects.insert(SocketAddr::new(*ip, number), backends.clone());
        }
    }
    redirects
}

/// The endpoints of one port, in order of address; only those on `node`, if one is given.
fn backends<'a>(
    port: &ServicePort,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    node: Option<&str>,
) -> Vec<SocketAddr> {
    let (mut ready, mut terminating) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let name = port.name.as_deref().unwrap_or_default();
        let found = slice
            .ports
            .iter()
            .flatten()
            .find(|at| at.name.as_deref().unwrap_or_default() == name && is_tcp(at.protocol.as_deref()));
        let Some(number) = found.and_then(|at| u16::try_from(at.port?).ok()) else { continue };
        let here = |endpoint: &&Endpoint| node.is_none_or(|node| endpoint.node_name.as_deref() == Some(node));
        for endpoint in slice.endpoints.iter().filter(here) {
            let addresses = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
            let addresses = addresses.map(|ip| SocketAddr::new(ip, number));
            if is_ready(endpoint) {
                ready.extend(addresses);
            } else if serves_while_terminating(endpoint) {
                terminating.extend(addresses);
            }
        }
    }
    if ready.is_empty() && !terminating.is_empty() {
        mark::sometimes!("only terminating endpoints are left to a service");
        return terminating.into_iter().collect();
    }
    ready.into_iter().collect()
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}
