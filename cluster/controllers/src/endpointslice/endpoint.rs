//! From a Service and a pod to what both kinds of endpoints are made of: addresses, ports, conditions.

use crate::pod;
use api::core::v1::{ContainerPort, Node, ObjectReference, Pod, Service, ServicePort};
use api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone};
use api::{IntOrString, ObjectExt, Timestamp};

/// Label of a node that says in which zone it is.
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
/// Label on what is made for a headless Service.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
/// Annotation that says when that happened which caused the last change.
pub(super) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Whether this controller makes endpoints for it: it selects pods, and is not a mere name for another host.
pub(super) fn is_served(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
}

/// Whether its selector matches the labels of `pod`.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.labels();
    selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Whether it has no address of its own.
pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

/// Whether pods that are not ready are published as if they were.
pub(super) fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

/// Its ports.
pub(super) fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

/// Its address families, `IPv4` or `IPv6`, in its order; IPv4 before the API server chose.
pub(super) fn families(service: &Service) -> Vec<&str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    match families {
        Some(families) if !families.is_empty() => families.iter().map(String::as_str).collect(),
        Some(_) | None => vec!["IPv4"],
    }
}

/// The addresses of a pod, of one family.
pub(super) fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut ips: Vec<&str> = ips.filter(|ip| !ip.is_empty()).collect();
    if ips.is_empty() {
        ips.extend(status.pod_ip.as_deref().filter(|ip| !ip.is_empty()));
    }
    let is_v6 = family == "IPv6";
    ips.into_iter().filter(|ip| ip.contains(':') == is_v6).map(str::to_owned).collect()
}

/// Whether a pod has endpoints at all: its containers have not ended, and it has an address.
pub(super) fn has_endpoints(pod: &Pod, include_terminating: bool) -> bool {
    // An address is of one of both families.
    let has_ip = || {
        let status = pod.status.as_ref();
        let several = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten()).any(|ip| !ip.ip.is_empty());
        several || status.and_then(|status| status.pod_ip.as_deref()).is_some_and(|ip| !ip.is_empty())
    };
    !pod::is_terminal(pod) && has_ip() && (include_terminating || !pod.is_terminating())
}

/// The number of the port of `pod` that the Service's port stands for; `None` if it has no such port.
pub(super) fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let is_sidecar = |policy: &Option<String>| policy.as_deref() == Some("Always");
    let inits = spec.init_containers.iter().flatten().filter(|container| is_sidecar(&container.restart_policy));
    let ports = spec.containers.iter().chain(inits).flat_map(|container| container.ports.iter().flatten());
    let protocol = protocol(port);
    let fits = |found: &&ContainerPort| {
        found.name.as_deref() == Some(name.as_str()) && found.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.into_iter().find(fits).map(|found| found.container_port)
}

/// Its protocol, TCP if it names none.
pub(super) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The ports that a pod serves for a Service, as slices have them.
pub(super) fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let port = |port: &ServicePort| {
        let Some(number) = find_port(pod, port) else {
            mark::sometimes!("a pod lacks the named port of a service");
            return None;
        };
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(number),
            protocol: Some(protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports(service).iter().filter_map(port).collect()
}

/// The endpoint that a pod is for a Service, in a slice of this family; `None` if it has no address of it.
pub(super) fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, family: &str) -> Option<Endpoint> {
    let addresses = addresses(pod, family);
    if addresses.is_empty() {
        return None;
    }
    let serving = pod::is_ready(pod);
    let terminating = pod.is_terminating();
    // Never true while it terminates: who falls back to endpoints that still serve looks at `serving`.
    let ready = publishes_unready(service) || (serving && !terminating);
    let zone = node.and_then(|node| node.labels().get(ZONE)).filter(|zone| !zone.is_empty()).cloned();
    let node_name = some(pod::node(pod));
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(service, ready, zone.as_deref(), node_name.as_deref()),
        hostname: hostname(service, pod),
        node_name,
        target_ref: Some(target(pod)),
        zone,
        deprecated_topology: None,
    })
}

/// For whom an endpoint is meant, if the Service prefers traffic to stay near. Upstream's `trafficdist`.
fn hints(service: &Service, ready: bool, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let for_zones = || zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let hints = match distribution {
        _ if !ready => return None,
        "PreferClose" | "PreferSameZone" => EndpointHints { for_zones: for_zones(), for_nodes: None },
        "PreferSameNode" => {
            let for_nodes = node.map(|node| vec![ForNode { name: node.to_owned() }]);
            EndpointHints { for_zones: for_zones(), for_nodes }
        }
        _ => return None,
    };
    (hints != EndpointHints::default()).then_some(hints)
}

/// The pod's name in the Service's domain, if it asks for one there.
pub(super) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let here = spec.subdomain.as_deref() == Some(service.name()) && pod.namespace() == service.namespace();
    spec.hostname.clone().filter(|name| here && !name.is_empty())
}

/// The reference from an endpoint to its pod.
pub(super) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: some(pod.namespace()),
        name: some(pod.name()),
        uid: some(pod.uid()),
        ..ObjectReference::default()
    }
}

/// When that happened which these endpoints show: the last time that the Service was created or that the readiness of
/// one of its pods changed. Upstream keeps in memory what it saw last and takes the earliest of what is new since; here
/// nothing is kept, and the latest is taken.
pub(super) fn trigger_time<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod>) -> Option<String> {
    let ready = pods.filter_map(|pod| pod::condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0));
    let latest = ready.chain([service.created()]).max().filter(|latest| *latest > Timestamp::UNIX_EPOCH)?;
    Some(latest.to_string())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
