//! What is behind a Service: EndpointSlices and Endpoints; and the IPAddress that says whose a cluster IP is.

use super::errors::{Errors, IMMUTABLE, Path, SPEC, list, shown, text};
use super::meta::NameCheck;
use super::service::validate_reachable_ip;
use super::{Kind, differs, next_generation, pod};
use crate::core::v1::{EndpointAddress, Endpoints};
use crate::discovery::v1::{Endpoint, EndpointSlice};
use crate::networking::v1::{IPAddress, ParentReference};
use crate::table::Column;
use crate::{ObjectExt, Timestamp, names};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Endpoints in one slice at most; upstream's limit.
const MAX_ENDPOINTS: usize = 1000;
/// Ports in one slice at most; upstream's limit.
const MAX_PORTS: usize = 20_000;
/// Addresses of one endpoint at most; upstream's limit.
const MAX_ADDRESSES: usize = 100;
/// Addresses that a table shows.
const SHOWN: usize = 3;

impl Kind for EndpointSlice {
    const COLUMNS: &'static [Column] = &[
        Column::names(),
        Column::new("AddressType", "string", "What its addresses are."),
        Column::new("Ports", "string", "Ports of its endpoints."),
        Column::new("Endpoints", "string", "Addresses of its endpoints."),
        super::AGE,
    ];

    fn fill(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            if text(&port.protocol).is_empty() {
                port.protocol = Some("TCP".to_owned());
            }
        }
        for endpoint in &mut self.endpoints {
            endpoint.conditions.get_or_insert_default();
        }
    }

    fn on_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn on_update(&mut self, old: &Self) {
        // Labels count too: controllers choose slices by them.
        let same = self.labels() == old.labels() && self.endpoints == old.endpoints && self.ports == old.ports;
        if !same || self.address_type != old.address_type {
            next_generation(&mut self.metadata, &old.metadata);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        errors.one_of(&Path::Root("addressType"), &self.address_type, &["FQDN", "IPv4", "IPv6"]);
        let path = Path::Root("endpoints");
        if self.endpoints.len() > MAX_ENDPOINTS {
            errors.too_many(&path, self.endpoints.len(), MAX_ENDPOINTS);
        }
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            validate_endpoint(endpoint, &self.address_type, &path.index(i), errors);
        }
        let (path, ports) = (Path::Root("ports"), list(&self.ports));
        if ports.len() > MAX_PORTS {
            errors.too_many(&path, ports.len(), MAX_PORTS);
        }
        let mut seen = BTreeSet::new();
        for (i, port) in ports.iter().enumerate() {
            let path = path.index(i);
            let name = text(&port.name);
            if !name.is_empty() {
                errors.texts(&path.child("name"), name, names::dns1123_label(name));
            }
            if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.one_of(&path.child("protocol"), text(&port.protocol), &["SCTP", "TCP", "UDP"]);
            if let Some(protocol) = &port.app_protocol {
                errors.texts(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
            }
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        self.validate(errors);
        errors.unchanged(&Path::Root("addressType"), &self.address_type, &old.address_type);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let ports = list(&self.ports).iter().map(|port| match port.port {
            Some(number) => number.to_string(),
            None if !text(&port.name).is_empty() => text(&port.name).to_owned(),
            None => "*".to_owned(),
        });
        let addresses = self.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().cloned());
        vec![
            self.name().into(),
            self.address_type.as_str().into(),
            some_of(ports.collect(), "<unset>").into(),
            some_of(addresses.collect(), "<unset>").into(),
            self.age(now),
        ]
    }
}

/// The first few, and how many more there are.
fn some_of(all: Vec<String>, none: &str) -> String {
    let first = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    match all.len() {
        0 => none.to_owned(),
        many if many > SHOWN => format!("{first} + {} more...", many - SHOWN),
        _ => first,
    }
}

fn validate_endpoint(endpoint: &Endpoint, of_type: &str, path: &Path<'_>, errors: &mut Errors) {
    let addresses = path.child("addresses");
    if endpoint.addresses.is_empty() {
        errors.required(&addresses, "must contain at least 1 address");
    } else if endpoint.addresses.len() > MAX_ADDRESSES {
        errors.too_many(&addresses, endpoint.addresses.len(), MAX_ADDRESSES);
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        let path = addresses.index(i);
        let parsed = address.parse::<IpAddr>().ok();
        match of_type {
            "IPv4" if !parsed.is_some_and(|ip| ip.is_ipv4()) => {
                errors.text(&path, address, "must be a valid IPv4 address")
            }
            "IPv6" if !parsed.is_some_and(|ip| ip.is_ipv6()) => {
                errors.text(&path, address, "must be a valid IPv6 address")
            }
            "IPv4" | "IPv6" => validate_endpoint_ip(address, &path, errors),
            "FQDN" => {
                let name = address.strip_suffix('.').unwrap_or(address);
                let wrong = names::dns1123_subdomain(name);
                if wrong.is_empty() && !name.contains('.') {
                    errors.text(&path, address, "should be a domain with at least two segments separated by dots");
                }
                errors.texts(&path, address, wrong);
            }
            _ => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        errors.texts(&path.child("nodeName"), node, names::dns1123_subdomain(node));
    }
    if let Some(host) = &endpoint.hostname {
        errors.texts(&path.child("hostname"), host, names::dns1123_label(host));
    }
    let zones = endpoint.hints.as_ref().map(|hints| list(&hints.for_zones)).unwrap_or_default();
    for (i, zone) in zones.iter().enumerate() {
        errors.texts(&path.child("hints.forZones").index(i).child("name"), &zone.name, names::label_value(&zone.name));
    }
}

impl Kind for Endpoints {
    const COLUMNS: &'static [Column] =
        &[Column::names(), Column::new("Endpoints", "string", "Addresses that are ready."), super::AGE];

    fn fill(&mut self) {
        for port in self.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten()) {
            if text(&port.protocol).is_empty() {
                port.protocol = Some("TCP".to_owned());
            }
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root("subsets");
        for (i, subset) in list(&self.subsets).iter().enumerate() {
            let path = path.index(i);
            let (ready, unready) = (list(&subset.addresses), list(&subset.not_ready_addresses));
            if ready.is_empty() && unready.is_empty() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            for (name, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
                for (j, address) in addresses.iter().enumerate() {
                    validate_address(address, &path.child(name).index(j), errors);
                }
            }
            let ports = list(&subset.ports);
            for (j, port) in ports.iter().enumerate() {
                let all = path.child("ports");
                let path = all.index(j);
                let name = text(&port.name);
                if !name.is_empty() {
                    errors.texts(&path.child("name"), name, names::dns1123_label(name));
                } else if ports.len() > 1 {
                    errors.required(&path.child("name"), "");
                }
                pod::validate_port_number(port.port, &path.child("port"), errors);
                errors.one_of(&path.child("protocol"), text(&port.protocol), &["SCTP", "TCP", "UDP"]);
                if let Some(protocol) = &port.app_protocol {
                    errors.texts(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
                }
            }
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let mut all = Vec::new();
        for subset in list(&self.subsets) {
            let addresses = list(&subset.addresses);
            if list(&subset.ports).is_empty() {
                all.extend(addresses.iter().map(|address| address.ip.clone()));
            }
            for port in list(&subset.ports) {
                all.extend(addresses.iter().map(|address| {
                    let six = address.ip.contains(':');
                    if six {
                        format!("[{}]:{}", address.ip, port.port)
                    } else {
                        format!("{}:{}", address.ip, port.port)
                    }
                }));
            }
        }
        let none = if list(&self.subsets).is_empty() { "<none>" } else { "" };
        vec![self.name().into(), some_of(all, none).into(), self.age(now)]
    }
}

fn validate_address(address: &EndpointAddress, path: &Path<'_>, errors: &mut Errors) {
    validate_endpoint_ip(&address.ip, &path.child("ip"), errors);
    let host = text(&address.hostname);
    if !host.is_empty() {
        errors.texts(&path.child("hostname"), host, names::dns1123_label(host));
    }
    if let Some(node) = &address.node_name {
        errors.texts(&path.child("nodeName"), node, names::dns1123_subdomain(node));
    }
}

/// Upstream refuses all of 127.0.0.0/8, so that no Service leads to what a machine's programs keep to themselves. They
/// listen on addresses in 127.0.0.0/16, which is refused here too; the rest is where pods of hollow nodes are on a real
/// machine.
fn validate_endpoint_ip(ip: &str, path: &Path<'_>, errors: &mut Errors) {
    let hollow = ip.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback() && ip.octets()[1] != 0);
    if !hollow {
        validate_reachable_ip(ip, path, errors);
    }
}

/// Its name is the address, in the one form that all agree on.
fn canonical_ip(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Err(_) => names::ip(name),
        Ok(ip) if ip.to_string() != name => vec!["must be a canonical format IP address".to_owned()],
        Ok(_) => Vec::new(),
    }
}

impl Kind for IPAddress {
    const NAME: NameCheck = canonical_ip;
    const COLUMNS: &'static [Column] =
        &[Column::names(), Column::new("ParentRef", "string", "Whose address it is."), super::AGE];

    fn validate(&self, errors: &mut Errors) {
        let path = SPEC.child("parentRef");
        let Some(parent) =
            self.spec.as_ref().map(|spec| &spec.parent_ref).filter(|p| **p != ParentReference::default())
        else {
            errors.required(&path, "");
            return;
        };
        let group = text(&parent.group);
        if !group.is_empty() {
            errors.texts(&path.child("group"), group, names::dns1123_subdomain(group));
        }
        for (name, value) in [("resource", parent.resource.as_str()), ("name", parent.name.as_str())] {
            if value.is_empty() {
                errors.required(&path.child(name), "");
            } else {
                errors.texts(&path.child(name), value, names::path_segment(value));
            }
        }
        let namespace = text(&parent.namespace);
        if !namespace.is_empty() {
            errors.texts(&path.child("namespace"), namespace, names::path_segment(namespace));
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        let parent = |address: &Self| address.spec.as_ref().map(|spec| spec.parent_ref.clone());
        if differs(&parent(self), &parent(old), "io.k8s.api.networking.v1.ParentReference") {
            errors.invalid(&SPEC.child("parentRef"), shown(&parent(self)), IMMUTABLE);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let parent = self.spec.as_ref().map(|spec| &spec.parent_ref);
        let parent = parent.map_or_else(
            || "<none>".to_owned(),
            |parent| {
                let mut shown = parent.resource.clone();
                for (between, part) in [(".", text(&parent.group)), ("/", text(&parent.namespace))] {
                    if !part.is_empty() {
                        shown.push_str(between);
                        shown.push_str(part);
                    }
                }
                format!("{shown}/{}", parent.name)
            },
        );
        vec![self.name().into(), parent.into(), self.age(now)]
    }
}
