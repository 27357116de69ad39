//! One Service: the names that stand for it, after the Kubernetes DNS specification 1.1.0.

use crate::service::{cluster_ips, is_headless, is_ready};
use api::ObjectExt;
use api::core::v1::Service;
use api::discovery::v1::{Endpoint, EndpointSlice};
use rt::net::Names;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The names that stand for a Service, and for the pods behind it.
///
/// A headless Service's name stands for its ready endpoints, and a ready endpoint with a hostname has a name of its own
/// below it. Every endpoint that is a pod has its address as a name: `10-1-2-3.namespace.pod.cluster.local`.
pub fn names(service: &Service, slices: &[&EndpointSlice], domain: &str) -> Names {
    let (name, namespace) = (service.name(), service.namespace());
    let full = format!("{name}.{namespace}.svc.{domain}");
    let mut names = Names::new();
    let endpoints = || slices.iter().flat_map(|slice| slice.endpoints.iter());
    let addresses: Vec<IpAddr> = if is_headless(service) {
        let ready: BTreeSet<IpAddr> = endpoints().filter(|endpoint| is_ready(endpoint)).flat_map(ips).collect();
        ready.into_iter().collect()
    } else {
        cluster_ips(service)
    };
    if !addresses.is_empty() {
        for searched in [full.clone(), format!("{name}.{namespace}.svc"), format!("{name}.{namespace}")] {
            names.insert(searched, addresses.clone());
        }
    }
    for endpoint in endpoints() {
        if let Some(hostname) = endpoint.hostname.as_deref().filter(|_| is_headless(service) && is_ready(endpoint)) {
            names.entry(format!("{hostname}.{full}")).or_default().extend(ips(endpoint));
        }
        let is_pod = endpoint.target_ref.as_ref().is_some_and(|target| target.kind.as_deref() == Some("Pod"));
        for ip in ips(endpoint).filter(|_| is_pod) {
            let dashed = ip.to_string().replace(['.', ':'], "-");
            names.insert(format!("{dashed}.{namespace}.pod.{domain}"), vec![ip]);
        }
    }
    names
}

fn ips(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    endpoint.addresses.iter().filter_map(|address| address.parse().ok())
}
