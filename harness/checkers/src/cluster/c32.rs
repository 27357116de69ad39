//! C32: within T after Q, endpoints with ready true, and every node's proxy table, equal the ready pods selected.

use super::facts::{Timeline, is_ready, is_terminal, is_terminating, node_name, pod_node};
use super::objects::Slice;
use super::workloads::{NAMESPACES, SERVICES, Settling, is_going, namespace_of};
use super::{Commit, Object, Pod, Service, World, twin};
use crate::findings::Findings;
use api::IntOrString;
use api::core::v1::{ServicePort, ServiceSpec};
use api::discovery::v1::Endpoint;
use faults::Ns;
use record::{CONVERGE_NS, Guarantee, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Label by which a slice names its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Of each Service that selects pods and exists in the end: how long after Q, and after the last change of it and of the
/// readiness of its pods, its slices had exactly the ready pods' addresses as ready, and so to the end; and whether
/// in the end each node redirects its cluster IPs to exactly these pods, or to those that terminate and still serve if no
/// other is left. Besides, no node redirects addresses that are no Service's.
///
/// What changed within the last T of the trial is not judged, nor is the proxy of an agent that does not run. Where there is
/// a twin, each Service has as many ready endpoints as there.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C32);
    let timeline = Timeline::new(world);
    // Where connections may be redirected from, and when that changed last.
    let (mut addresses, mut changed_ns) = (BTreeSet::new(), world.quiet_ns);
    for (key, history) in timeline.below(SERVICES) {
        changed_ns = changed_ns.max(history.last().map_or(0, |last| last.at_ns));
        let Some(Object::Service(service)) = timeline.at_end(key) else { continue };
        let Some(spec) = &service.spec else { continue };
        for port in ports(spec) {
            addresses.extend(cluster_ips(spec).filter_map(|ip| address(ip, port.port)).map(|at| at.to_string()));
        }
        if is_judged(&timeline, key, service, spec) {
            Judged::new(world, &timeline, key, service, spec).judge(world, &timeline, &mut findings);
        }
    }
    if world.record.ended_ns.saturating_sub(changed_ns) > CONVERGE_NS {
        for (node, table) in &world.record.cluster.end.proxies {
            for at in table.keys().filter(|at| !addresses.contains(*at)) {
                let text = format!("node {} redirects {at}, which is no Service's", node_name(*node));
                findings.violated(world.record.ended_ns, text);
            }
        }
    }
    twin::compare_services(world, &timeline, &mut findings);
    findings.verdict()
}

fn is_judged(timeline: &Timeline<'_>, key: &str, service: &Service, spec: &ServiceSpec) -> bool {
    let namespace = namespace_of(key).and_then(|name| timeline.at_end(&format!("{NAMESPACES}{name}")));
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    selects
        && spec.type_.as_deref() != Some("ExternalName")
        && !is_going(&service.metadata)
        && !namespace.is_some_and(|namespace| is_going(namespace.metadata()))
}

/// How a pod serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Serves {
    Ready,
    /// It is being deleted, and still answers.
    Terminating,
}

/// A Service and the pods that it is to lead to in the end.
struct Judged<'a> {
    key: &'a str,
    spec: &'a ServiceSpec,
    pods: Vec<(&'a Pod, Serves)>,
    /// Since when it leads to these pods as ready, and to these pods at all.
    ready_since_ns: Ns,
    since_ns: Ns,
}

impl<'a> Judged<'a> {
    fn new(
        world: &World<'_>,
        timeline: &Timeline<'a>,
        key: &'a str,
        service: &'a Service,
        spec: &'a ServiceSpec,
    ) -> Self {
        let of_service = timeline.history(key).iter().filter(|commit| changes_spec(commit));
        let last_ns = of_service.map(|commit| commit.at_ns).max().unwrap_or(0).max(world.quiet_ns);
        let mut judged = Self { key, spec, pods: Vec::new(), ready_since_ns: last_ns, since_ns: last_ns };
        let namespace = service.metadata.namespace.as_deref().or(namespace_of(key)).unwrap_or_default();
        let prefix = format!("/registry/core/pods/{namespace}/");
        for (_, history) in timeline.below(&prefix) {
            for commit in history {
                let (old, new) = commit.pods();
                let of = |pod: Option<&Pod>| pod.and_then(|pod| Some((addresses_of(pod), serves(spec, pod)?)));
                let (before, after) = (of(old), of(new));
                if before == after {
                    continue;
                }
                judged.since_ns = judged.since_ns.max(commit.at_ns);
                let ready = |it: &Option<(Vec<IpAddr>, Serves)>| it.as_ref().is_some_and(|it| it.1 == Serves::Ready);
                if ready(&before) || ready(&after) {
                    judged.ready_since_ns = judged.ready_since_ns.max(commit.at_ns);
                }
            }
            let last = history.last().and_then(|last| last.new.as_deref()).and_then(Object::pod);
            judged.pods.extend(last.and_then(|pod| Some((pod, serves(spec, pod)?))));
        }
        judged
    }

    fn judge(&self, world: &World<'_>, timeline: &Timeline<'_>, findings: &mut Findings) {
        let ready = self.pods.iter().filter(|(_, serves)| *serves == Serves::Ready);
        let ready: BTreeSet<IpAddr> = ready.flat_map(|(pod, _)| addresses_of(pod)).collect();
        let (settling, published) = self.slices(timeline, &ready);
        let says = || format!("{}: its slices have {published:?} as ready, and its ready pods are {ready:?}", self.key);
        settling.judge(world, 0, findings, says);
        // A proxy can know no sooner.
        let since_ns = self.since_ns.max(settling.settled_ns().unwrap_or(0));
        let over = world.record.ended_ns.saturating_sub(since_ns) > CONVERGE_NS;
        for node in 0..world.cluster.nodes {
            let Some(table) = world.record.cluster.end.proxies.get(&node) else { continue };
            let wrong = self.wrong(node, table);
            if wrong.is_none() || over {
                findings.tested(1);
            }
            if let Some(text) = wrong.filter(|_| over) {
                findings.violated(world.record.ended_ns, text);
            }
        }
    }

    /// Whether and since when the slices have exactly these addresses as ready; and those that they have in the end.
    fn slices(&self, timeline: &Timeline<'_>, ready: &BTreeSet<IpAddr>) -> (Settling, BTreeSet<IpAddr>) {
        let prefix =
            format!("/registry/discovery.k8s.io/endpointslices/{}/", namespace_of(self.key).unwrap_or_default());
        let name = self.key.rsplit('/').next().unwrap_or_default();
        let mut commits: Vec<&Commit> = timeline.below(&prefix).flat_map(|(_, history)| history).copied().collect();
        commits.sort_by_key(|commit| commit.revision);
        let mut settling = Settling::default();
        settling.not_before(self.ready_since_ns);
        let mut slices: BTreeMap<&str, &Slice> = BTreeMap::new();
        let mut published = BTreeSet::new();
        settling.is(0, ready.is_empty());
        for commit in commits {
            let slice = match commit.new.as_deref() {
                Some(Object::EndpointSlice(slice)) if is_slice_of(slice, name) => Some(slice),
                _ => None,
            };
            match slice {
                Some(slice) => drop(slices.insert(&commit.key, slice)),
                None if slices.remove(&*commit.key).is_none() => continue,
                None => {}
            }
            published = slices.values().flat_map(|slice| ready_in(slice)).collect();
            settling.is(commit.at_ns, published == *ready);
        }
        (settling, published)
    }

    /// What is wrong with how a node redirects connections to the Service.
    fn wrong(&self, node: u32, table: &BTreeMap<String, Vec<String>>) -> Option<String> {
        for port in ports(self.spec) {
            let expected: Vec<String> = self.backends(port, node).iter().map(ToString::to_string).collect();
            for at in cluster_ips(self.spec).filter_map(|ip| address(ip, port.port)) {
                let Some(found) = table.get(&at.to_string()) else {
                    return Some(format!("{}: node {} does not redirect {at}", self.key, node_name(node)));
                };
                let (mut is, mut shall) = (found.clone(), expected.clone());
                is.sort();
                shall.sort();
                if is != shall {
                    let node = node_name(node);
                    return Some(format!(
                        "{}: node {node} redirects {at} to {is:?}, and it leads to {shall:?}",
                        self.key
                    ));
                }
            }
        }
        None
    }

    /// Where connections to a port of the Service are to go from a node.
    fn backends(&self, port: &ServicePort, node: u32) -> BTreeSet<SocketAddr> {
        let local = self.spec.internal_traffic_policy.as_deref() == Some("Local");
        let here = self.pods.iter().filter(|(pod, _)| !local || pod_node(pod) == node_name(node));
        let mut by_serving: BTreeMap<Serves, BTreeSet<SocketAddr>> = BTreeMap::new();
        for (pod, serves) in here {
            let Some(number) = target(pod, port) else { continue };
            let addresses = addresses_of(pod).into_iter().filter_map(|ip| address(ip, number));
            by_serving.entry(*serves).or_default().extend(addresses);
        }
        // In order: those that terminate only if no other is left.
        by_serving.into_values().find(|addresses| !addresses.is_empty()).unwrap_or_default()
    }
}

fn changes_spec(commit: &Commit) -> bool {
    match (commit.old.as_deref(), commit.new.as_deref()) {
        (Some(Object::Service(old)), Some(Object::Service(new))) => old.spec != new.spec,
        _ => true,
    }
}

/// How a Service is to lead to a pod: not at all if it does not select it, or if the pod has ended or has no address yet.
fn serves(spec: &ServiceSpec, pod: &Pod) -> Option<Serves> {
    let selector = spec.selector.as_ref()?;
    let labels = pod.metadata.labels.as_ref();
    let selected = selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    if !selected || is_terminal(pod) || addresses_of(pod).is_empty() {
        return None;
    }
    if spec.publish_not_ready_addresses == Some(true) || (is_ready(pod) && !is_terminating(pod)) {
        return Some(Serves::Ready);
    }
    is_ready(pod).then_some(Serves::Terminating)
}

fn addresses_of(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: BTreeSet<IpAddr> = status.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    all.into_iter().collect()
}

/// The number of the port of a pod that a Service's port stands for.
fn target(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port)
}

/// The ports of a Service that proxies redirect.
fn ports(spec: &ServiceSpec) -> impl Iterator<Item = &ServicePort> {
    spec.ports.iter().flatten().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
}

/// Its addresses; none if it is headless.
fn cluster_ips(spec: &ServiceSpec) -> impl Iterator<Item = IpAddr> {
    let all: BTreeSet<&String> = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()).collect();
    all.into_iter().filter_map(|ip| ip.parse().ok())
}

fn address(ip: IpAddr, port: i32) -> Option<SocketAddr> {
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

fn is_slice_of(slice: &Slice, service: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    !is_going(&slice.metadata) && labels.and_then(|labels| labels.get(SERVICE_NAME)).is_some_and(|name| name == service)
}

/// Ready unless it says that it is not.
pub(super) fn is_ready_endpoint(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn ready_in(slice: &Slice) -> impl Iterator<Item = IpAddr> {
    let ready = slice.endpoints.iter().filter(|endpoint| is_ready_endpoint(endpoint));
    ready.flat_map(|endpoint| &endpoint.addresses).filter_map(|address| address.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    fn pod(tale: &mut Tale, name: &str, ip: &str, ready: bool, more: &str) {
        let status = if ready { "True" } else { "False" };
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","uid":"uid-{name}","labels":{{"app":"w"}}{more}}},"spec":{{"nodeName":"n1","containers":[{{"name":"web","ports":[{{"name":"http","containerPort":8080}}]}}]}},"status":{{"podIP":"{ip}","conditions":[{{"type":"Ready","status":"{status}"}}]}}}}"#
        );
        tale.put(&format!("core/pods/default/{name}"), &json);
    }

    fn slice(tale: &mut Tale, endpoints: &[(&str, bool)]) {
        let endpoint =
            |(ip, ready): &(&str, bool)| format!(r#"{{"addresses":["{ip}"],"conditions":{{"ready":{ready}}}}}"#);
        let endpoints: Vec<String> = endpoints.iter().map(endpoint).collect();
        let json = format!(
            r#"{{"metadata":{{"name":"w-1","uid":"uid-w-1","labels":{{"{SERVICE_NAME}":"w"}}}},"addressType":"IPv4","endpoints":[{}],"ports":[]}}"#,
            endpoints.join(",")
        );
        tale.put("discovery.k8s.io/endpointslices/default/w-1", &json);
    }

    fn service(tale: &mut Tale, more: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"w","namespace":"default","uid":"uid-w"}},"spec":{{"clusterIP":"10.96.0.7","selector":{{"app":"w"}},"ports":[{{"port":80,"targetPort":"http"}}]{more}}}}}"#
        );
        tale.put("core/services/default/w", &json);
    }

    fn redirects(tale: &mut Tale, node: u32, to: &[&str]) {
        let table = BTreeMap::from([("10.96.0.7:80".to_owned(), to.iter().map(|to| (*to).to_owned()).collect())]);
        tale.record.cluster.end.proxies.insert(node, table);
    }

    /// A Service with a ready pod since 150 s, and one that is not; its slice knows at 160 s.
    fn tale() -> Tale {
        let mut tale = Tale::new();
        service(&mut tale, "");
        pod(&mut tale, "b", "10.1.0.3", false, "");
        tale.at(150);
        pod(&mut tale, "a", "10.1.0.2", true, "");
        tale.at(160);
        slice(&mut tale, &[("10.1.0.2", true), ("10.1.0.3", false)]);
        redirects(&mut tale, 0, &["10.1.0.2:8080"]);
        redirects(&mut tale, 1, &["10.1.0.2:8080"]);
        tale
    }

    #[test]
    fn endpoints_and_tables_that_lead_to_the_ready_pod_pass() {
        tale().passes(check, Guarantee::C32, 3);
    }

    #[test]
    fn without_ready_pods_those_that_terminate_serve() {
        let mut tale = tale();
        tale.at(200);
        pod(&mut tale, "a", "10.1.0.2", true, r#","deletionTimestamp":"2025-01-01T00:00:00Z""#);
        slice(&mut tale, &[("10.1.0.2", false)]);
        tale.passes(check, Guarantee::C32, 3);
    }

    #[test]
    fn unready_pods_may_be_published_and_a_policy_may_be_local() {
        let mut tale = tale();
        tale.at(200);
        service(&mut tale, r#","publishNotReadyAddresses":true,"internalTrafficPolicy":"Local""#);
        slice(&mut tale, &[("10.1.0.2", true), ("10.1.0.3", true)]);
        redirects(&mut tale, 0, &["10.1.0.2:8080", "10.1.0.3:8080"]);
        redirects(&mut tale, 1, &[]);
        tale.passes(check, Guarantee::C32, 3);
    }

    #[test]
    fn slices_that_are_late_or_wrong_are_flagged() {
        let mut late = tale();
        late.at(200);
        slice(&mut late, &[]);
        late.at(211);
        slice(&mut late, &[("10.1.0.2", true)]);
        late.flags(
            check,
            "services/default/w: its slices have {10.1.0.2} as ready, and its ready pods are {10.1.0.2}: only",
        );
        let mut wrong = tale();
        slice(&mut wrong, &[("10.1.0.2", true), ("10.1.0.3", true)]);
        wrong.flags(check, "its slices have {10.1.0.2, 10.1.0.3} as ready");
        let mut lost = tale();
        lost.delete("discovery.k8s.io/endpointslices/default/w-1");
        lost.flags(check, "its slices have {} as ready");
    }

    #[test]
    fn tables_that_are_wrong_are_flagged() {
        let mut wrong = tale();
        redirects(&mut wrong, 1, &["10.1.0.2:8080", "10.1.0.3:8080"]);
        wrong.flags(check, r#"node n2 redirects 10.96.0.7:80 to ["10.1.0.2:8080", "10.1.0.3:8080"], and it leads to"#);
        let mut missing = tale();
        missing.record.cluster.end.proxies.insert(2, BTreeMap::new());
        missing.flags(check, "node n3 does not redirect 10.96.0.7:80");
        let mut gone = tale();
        gone.at(300).delete("core/services/default/w");
        gone.flags(check, "node n1 redirects 10.96.0.7:80, which is no Service's");
    }

    #[test]
    fn what_changed_just_now_is_not_judged() {
        let mut tale = tale();
        tale.at(545);
        pod(&mut tale, "b", "10.1.0.3", true, "");
        tale.passes(check, Guarantee::C32, 0);
    }
}
