//! Endpoints: the older form of the same, one object per Service, for clients that still read it.
//!
//! Subsets come in a canonical order (ports, then addresses) instead of upstream's order of hashes; nobody can rely on
//! either.

use super::CATCH_UP;
use super::endpoint::{self, HEADLESS, TRIGGER_TIME};
use crate::pod;
use api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Namespace, Pod, Service};
use api::{ObjectExt, ObjectMeta};
use client::{Caches, Key, Now, Plan, Watch, Write};
use std::collections::{BTreeMap, BTreeSet};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Says that addresses were left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// How many addresses Endpoints hold at most, as upstream: the whole object goes to every watcher at each change.
const MAX_ADDRESSES: usize = 1000;

pub(super) fn watches() -> Vec<Watch> {
    let ours = |endpoints: &Endpoints| {
        let manager = endpoints.labels().get(MANAGED_BY);
        manager.filter(|manager| *manager == MANAGER).map(|_| Key::of(endpoints)).into_iter().collect()
    };
    vec![
        Watch::own::<Service>(),
        Watch::map::<Pod>(super::services_of),
        Watch::map::<Endpoints>(move |_, endpoints| ours(endpoints)),
        // Only looked up.
        Watch::lookup::<Namespace>(),
    ]
}

pub(super) fn reconcile(caches: &Caches, key: &Key, _now: Now) -> Plan {
    let current = caches.get::<Endpoints>(&key.namespace, &key.name).map(|endpoints| &**endpoints);
    let Some(service) = caches.get::<Service>(&key.namespace, &key.name) else {
        return current.map_or_else(Plan::nothing, |left| without_service(left, caches.revision(Service::resource())));
    };
    if !endpoint::is_served(service) {
        return Plan::nothing();
    }
    let pods = caches.list::<Pod>(&key.namespace).filter(|pod| endpoint::selects(service, pod));
    let pods: Vec<&Pod> = pods.map(|pod| &**pod).collect();
    plan(service, &pods, current, super::is_closing(caches, service))
}

/// Removes the Endpoints of a Service that is gone, if they were made here; `known` is the revision up to which
/// Services are known.
fn without_service(left: &Endpoints, known: i64) -> Plan {
    let ours = left.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    if !ours || left.is_terminating() {
        return Plan::nothing();
    }
    if left.resource_version().parse::<i64>().is_ok_and(|version| version <= known) {
        return Plan::write(Write::delete(left).with_version(left.resource_version()));
    }
    let mut plan = Plan::nothing();
    plan.requeue(CATCH_UP);
    plan
}

/// What the controller does about a Service that selects `pods`; nothing new is made if it is `closing`.
pub(super) fn plan(service: &Service, pods: &[&Pod], current: Option<&Endpoints>, closing: bool) -> Plan {
    let mut wanted = Endpoints {
        metadata: current.map_or_else(
            || ObjectMeta {
                name: Some(service.name().to_owned()),
                namespace: Some(service.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            |current| current.metadata.clone(),
        ),
        subsets: None,
    };
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    if endpoint::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    wanted.metadata.labels = Some(labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if truncated {
        mark::sometimes!("endpoints were truncated");
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    // The time alone is no reason to write.
    let same = |current: &Endpoints| {
        current.subsets.as_deref().unwrap_or_default() == wanted.subsets.as_deref().unwrap_or_default()
            && *current.labels() == *wanted.labels()
            && current.annotations().get(OVER_CAPACITY) == wanted.annotations().get(OVER_CAPACITY)
    };
    if current.is_some_and(same) {
        return Plan::nothing();
    }
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    match endpoint::trigger_time(service, pods.iter().copied()) {
        Some(time) => annotations.insert(TRIGGER_TIME.to_owned(), time),
        None => annotations.remove(TRIGGER_TIME),
    };
    match current {
        None if closing => Plan::nothing(),
        None => Plan::write(Write::create(&wanted)),
        Some(_) => Plan::write(Write::update(&wanted)),
    }
}

/// A port as a key: name, number, protocol, application protocol. A headless Service may have none at all.
type Port = Option<(String, i32, String, String)>;
/// An address as a key, by IP and UID of its pod, so that addresses come in this order.
type Address = (String, String);

/// The addresses of the pods, each set of addresses once with all ports that it serves: upstream's `RepackSubsets`.
fn subsets(service: &Service, pods: &[&Pod]) -> Vec<EndpointSubset> {
    let mut addresses: BTreeMap<Address, EndpointAddress> = BTreeMap::new();
    // Per port, the addresses that serve it and whether they are ready.
    let mut served: BTreeMap<Port, BTreeMap<Address, bool>> = BTreeMap::new();
    let unready_too = endpoint::publishes_unready(service);
    let family = endpoint::families(service).first().copied().unwrap_or("IPv4");
    for pod in pods.iter().filter(|pod| endpoint::has_endpoints(pod, unready_too)) {
        let Some(ip) = endpoint::addresses(pod, family).into_iter().next() else { continue };
        let key = (ip.clone(), pod.uid().to_owned());
        let ready = unready_too || pod::is_ready(pod);
        for port in ports(service, pod) {
            let known = served.entry(port).or_default().entry(key.clone()).or_insert(ready);
            // Two ports of the Service can be the same port of the pod.
            *known &= ready;
        }
        addresses.insert(key, address(service, pod, ip));
    }
    let mut ports_of: BTreeMap<BTreeMap<Address, bool>, BTreeSet<Port>> = BTreeMap::new();
    for (port, set) in served {
        ports_of.entry(set).or_default().insert(port);
    }
    let mut subsets: Vec<(BTreeSet<Port>, EndpointSubset)> = Vec::new();
    for (set, ports) in ports_of {
        let pick = |wanted: bool| {
            let keys = set.iter().filter(|(_, ready)| **ready == wanted).map(|(key, _)| key);
            let list: Vec<EndpointAddress> = keys.filter_map(|key| addresses.get(key).cloned()).collect();
            (!list.is_empty()).then_some(list)
        };
        let list: Vec<EndpointPort> = ports.iter().flatten().map(subset_port).collect();
        let subset = EndpointSubset {
            addresses: pick(true),
            not_ready_addresses: pick(false),
            ports: (!list.is_empty()).then_some(list),
        };
        subsets.push((ports, subset));
    }
    // Sets of addresses are distinct and each port is in one of them, so that ports alone give an order.
    subsets.sort_by(|a, b| a.0.cmp(&b.0));
    subsets.into_iter().map(|(_, subset)| subset).collect()
}

/// The ports that a pod serves for the Service; one `None` if that is headless and has none.
fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    if endpoint::ports(service).is_empty() && endpoint::is_headless(service) {
        return vec![None];
    }
    let number = |port| Some((port, endpoint::find_port(pod, port)?));
    let found = endpoint::ports(service).iter().filter_map(number);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    found
        .map(|(port, number)| {
            let protocol = endpoint::protocol(port).to_owned();
            Some((text(&port.name), number, protocol, text(&port.app_protocol)))
        })
        .collect()
}

fn subset_port(port: &(String, i32, String, String)) -> EndpointPort {
    let (name, port, protocol, app_protocol) = port.clone();
    let some = |text: String| (!text.is_empty()).then_some(text);
    EndpointPort { app_protocol: some(app_protocol), name: some(name), port, protocol: Some(protocol) }
}

fn address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let node = pod::node(pod);
    EndpointAddress {
        hostname: endpoint::hostname(service, pod),
        ip,
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        target_ref: Some(endpoint::target(pod)),
    }
}

/// Cuts the addresses down to what fits: first those that are not ready, in proportion. Says whether it did.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let unready: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + unready <= MAX_ADDRESSES {
        return false;
    }
    let cut_ready = ready > MAX_ADDRESSES;
    let (room, total) = if cut_ready { (MAX_ADDRESSES, ready) } else { (MAX_ADDRESSES - ready, unready) };
    let mut left = room;
    for subset in subsets {
        if cut_ready {
            subset.not_ready_addresses = None;
        }
        let list = if cut_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        // Rounded up, so that the last subset may get less than its part.
        let part = (count(list) * room).div_ceil(total).min(left);
        left -= part;
        if let Some(addresses) = list {
            addresses.truncate(part);
        }
        if part == 0 {
            *list = None;
        }
    }
    true
}
