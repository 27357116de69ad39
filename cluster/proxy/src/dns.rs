//! One Service: the names that stand for it, after the Kubernetes DNS specification 1.1.0.

use crate::service::{cluster_ips, is_headless, is_ready};
use api::ObjectExt;
use api::core::v1::Service;
use api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Below what every pod has a name: `10-1-2-3.namespace.pod.cluster.local`.
pub fn pods_domain(domain: &str) -> String {
    format!("pod.{domain}")
}

/// The names that stand for a Service.
///
/// A headless Service's name stands for its ready endpoints, and a ready endpoint with a hostname has a name of its own
/// below it.
pub fn names<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    domain: &str,
) -> BTreeMap<String, Arc<[IpAddr]>> {
    let (name, namespace) = (service.name(), service.namespace());
    let full = format!("{name}.{namespace}.svc.{domain}");
    let (mut names, mut named) = (BTreeMap::new(), BTreeMap::<String, Vec<IpAddr>>::new());
    let endpoints = || slices.clone().flat_map(|slice| slice.endpoints.iter());
    let addresses: Arc<[IpAddr]> = if is_headless(service) {
        let ready: BTreeSet<IpAddr> = endpoints().filter(|endpoint| is_ready(endpoint)).flat_map(ips).collect();
        ready.into_iter().collect()
    } else {
        cluster_ips(service).into()
    };
    if !addresses.is_empty() {
        for searched in [full.clone(), format!("{name}.{namespace}.svc"), format!("{name}.{namespace}")] {
            names.insert(searched, addresses.clone());
        }
    }
    for endpoint in endpoints().filter(|endpoint| is_headless(service) && is_ready(endpoint)) {
        let Some(hostname) = &endpoint.hostname else { continue };
        named.entry(format!("{hostname}.{full}")).or_default().extend(ips(endpoint));
    }
    names.extend(named.into_iter().map(|(name, addresses)| (name, addresses.into())));
    names
}

fn ips(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    endpoint.addresses.iter().filter_map(|address| address.parse().ok())
}
