//! What is wrong with a Service, and with the change of one.

use super::super::errors::{Errors, IMMUTABLE, METADATA, Path, SPEC, list, shown, text};
use super::super::meta::validate_labels;
use super::super::pod;
use super::{NONE, externally_accessible, is_headless, needs_cluster_ip, needs_health_check};
use crate::core::v1::{Service, ServiceSpec};
use crate::{ObjectExt, names};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How long a client may stay with its endpoint at most, in seconds: a day.
const AFFINITY_MAX_SECONDS: i32 = 86_400;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(super) fn validate_annotations(service: &Service, errors: &mut Errors) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    let annotations = service.annotations();
    if let (Some(mode), Some(hints)) = (annotations.get(MODE), annotations.get(HINTS))
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        errors.text(&METADATA.child("annotations").key(MODE), mode, &why);
    }
}

pub(super) fn validate_spec(spec: &ServiceSpec, errors: &mut Errors) {
    let of_type = text(&spec.type_);
    let ports = list(&spec.ports);
    if ports.is_empty() && !is_headless(spec) && of_type != "ExternalName" {
        errors.required(&SPEC.child("ports"), "");
    }
    match of_type {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let why = format!("may not be set to 'None' for {of_type} services");
            errors.text(&SPEC.child("clusterIPs").index(0), NONE, &why);
        }
        "ExternalName" => validate_external_name(spec, errors),
        _ => {}
    }
    validate_ports(spec, errors);
    if let Some(selector) = &spec.selector {
        validate_labels(selector, &SPEC.child("selector"), errors);
    }
    validate_affinity(spec, errors);
    if of_type != "ExternalName" {
        validate_cluster_ips(spec, errors);
    }
    for (i, ip) in list(&spec.external_ips).iter().enumerate() {
        validate_reachable_ip(ip, &SPEC.child("externalIPs").index(i), errors);
    }
    errors.one_of(&SPEC.child("type"), of_type, TYPES);
    validate_load_balancer(spec, errors);
    validate_traffic(spec, errors);
}

fn validate_external_name(spec: &ServiceSpec, errors: &mut Errors) {
    for (name, given) in [
        ("clusterIPs", !list(&spec.cluster_ips).is_empty()),
        ("ipFamilies", !list(&spec.ip_families).is_empty()),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ] {
        if given {
            errors.forbidden(&SPEC.child(name), "may not be set for ExternalName services");
        }
    }
    let name = text(&spec.external_name);
    let path = SPEC.child("externalName");
    // A dot at the end says that the name is complete.
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(&path, ""),
        name => errors.texts(&path, name, names::dns1123_subdomain(name)),
    }
}

fn validate_ports(spec: &ServiceSpec, errors: &mut Errors) {
    let (ports, all) = (list(&spec.ports), SPEC.child("ports"));
    let (mut names_seen, mut ports_seen, mut nodes_seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, port) in ports.iter().enumerate() {
        let path = all.index(i);
        let name = text(&port.name);
        if !name.is_empty() {
            errors.texts(&path.child("name"), name, names::dns1123_label(name));
            if !names_seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        } else if ports.len() > 1 {
            errors.required(&path.child("name"), "");
        }
        pod::validate_port_number(port.port, &path.child("port"), errors);
        errors.one_of(&path.child("protocol"), text(&port.protocol), &["SCTP", "TCP", "UDP"]);
        if let Some(target) = &port.target_port {
            pod::validate_port(target, &path.child("targetPort"), errors);
        }
        if let Some(protocol) = &port.app_protocol {
            errors.texts(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let path = all.index(i);
        if let Some(node_port) = port.node_port.filter(|port| *port != 0) {
            if text(&spec.type_) == "ClusterIP" {
                errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
            }
            pod::validate_port_number(node_port, &path.child("nodePort"), errors);
            if !nodes_seen.insert((text(&port.protocol), node_port)) {
                errors.duplicate_value(&path.child("nodePort"), node_port);
            }
        }
        if !ports_seen.insert((text(&port.protocol), port.port)) {
            let value = format!("{{\"protocol\":{:?},\"port\":{}}}", text(&port.protocol), port.port);
            errors.duplicate_value(&path, value);
        }
    }
}

fn validate_affinity(spec: &ServiceSpec, errors: &mut Errors) {
    let path = SPEC.child("sessionAffinity");
    errors.one_of(&path, text(&spec.session_affinity), &["ClientIP", NONE]);
    let path = SPEC.child("sessionAffinityConfig");
    match (text(&spec.session_affinity), &spec.session_affinity_config) {
        (NONE, Some(_)) => errors.forbidden(&path, "must not be set when session affinity is None"),
        ("ClientIP", config) => {
            const WHY: &str = "when session affinity type is ClientIP";
            let client = config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = client.and_then(|client| client.timeout_seconds);
            let timeout = path.child("clientIP.timeoutSeconds");
            match seconds {
                None => errors.required(&timeout, WHY),
                Some(seconds) if !(1..=AFFINITY_MAX_SECONDS).contains(&seconds) => {
                    let why = format!("must be greater than 0 and less than {AFFINITY_MAX_SECONDS}");
                    errors.invalid(&timeout, seconds, &why);
                }
                Some(_) => {}
            }
        }
        (_, _) => {}
    }
}

fn validate_cluster_ips(spec: &ServiceSpec, errors: &mut Errors) {
    let (ip, ips) = (text(&spec.cluster_ip), list(&spec.cluster_ips));
    let path = SPEC.child("clusterIPs");
    match (ip, ips.first()) {
        ("", Some(_)) => errors.invalid(&path, shown(&ips), "must be empty when `clusterIP` is not specified"),
        (ip, None) if !ip.is_empty() => errors.required(&path, ""),
        (ip, Some(first)) if ip != first => {
            errors.invalid(&path, shown(&ips), "first value must match `clusterIP`");
        }
        (_, _) => {}
    }
    let mut seen = BTreeSet::new();
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == NONE {
            if ips.len() > 1 {
                errors.invalid(&path, shown(&ips), "'None' must be the first and only value");
            }
            continue;
        }
        errors.texts(&path.index(i), ip, names::ip(ip));
        if !seen.insert(ip) {
            errors.duplicate(&path.index(i), ip);
        }
    }
    if ips.len() > 2 {
        errors.invalid(&path, shown(&ips), "may only hold up to 2 values");
    }
    if let Some(policy) = &spec.ip_family_policy {
        let known = &["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.one_of(&SPEC.child("ipFamilyPolicy"), policy, known);
    }
    let (families, path) = (list(&spec.ip_families), SPEC.child("ipFamilies"));
    let mut seen = BTreeSet::new();
    for (i, family) in families.iter().enumerate() {
        errors.one_of(&path.index(i), family, &["IPv4", "IPv6"]);
        if !seen.insert(family) {
            errors.duplicate(&path.index(i), family);
        }
    }
    for (i, (ip, family)) in ips.iter().zip(families).enumerate() {
        let Ok(address) = ip.parse::<IpAddr>() else { continue };
        if address.is_ipv6() != (family == "IPv6") {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.text(&SPEC.child("clusterIPs").index(i), ip, &why);
        }
    }
}

/// What is wrong with an address that packets from elsewhere should reach.
pub(in super::super) fn validate_reachable_ip(ip: &str, path: &Path<'_>, errors: &mut Errors) {
    let Ok(address) = ip.parse::<IpAddr>() else {
        errors.texts(path, ip, names::ip(ip));
        return;
    };
    let link_local = match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
    };
    let link_local_multicast = match address {
        IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
        IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
    };
    if address.is_unspecified() {
        errors.text(path, ip, "may not be unspecified (0.0.0.0 or ::)");
    }
    if address.is_loopback() {
        errors.text(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        errors.text(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        errors.text(path, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn validate_load_balancer(spec: &ServiceSpec, errors: &mut Errors) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let is_one = text(&spec.type_) == "LoadBalancer";
    let ranges = list(&spec.load_balancer_source_ranges);
    // The capital letter is upstream's.
    let path = SPEC.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && !is_one {
        errors.forbidden(&path, ONLY);
    }
    for (i, range) in ranges.iter().enumerate() {
        if names::cidr(range.trim()).is_none() {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.text(&path.index(i), range.trim(), why);
        }
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !is_one {
        errors.forbidden(&SPEC.child("allocateLoadBalancerNodePorts"), ONLY);
    }
    if let Some(class) = &spec.load_balancer_class {
        let path = SPEC.child("loadBalancerClass");
        if !is_one {
            errors.forbidden(&path, ONLY);
        } else {
            errors.texts(&path, class, names::qualified_name(class));
        }
    }
}

fn validate_traffic(spec: &ServiceSpec, errors: &mut Errors) {
    let external = text(&spec.external_traffic_policy);
    let path = SPEC.child("externalTrafficPolicy");
    if externally_accessible(spec) {
        errors.one_of(&path, external, &["Cluster", "Local"]);
    } else if !external.is_empty() {
        errors.text(&path, external, "may only be set for externally-accessible services");
    }
    if let Some(port) = spec.health_check_node_port.filter(|port| *port != 0) {
        let path = SPEC.child("healthCheckNodePort");
        if needs_health_check(spec) {
            pod::validate_port_number(port, &path, errors);
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&path, port, why);
        }
    }
    if needs_cluster_ip(spec) || spec.internal_traffic_policy.is_some() {
        let internal = text(&spec.internal_traffic_policy);
        errors.one_of(&SPEC.child("internalTrafficPolicy"), internal, &["Cluster", "Local"]);
    }
    if let Some(distribution) = &spec.traffic_distribution {
        let known = &["PreferClose", "PreferSameNode", "PreferSameZone"];
        if !known.contains(&distribution.as_str()) {
            errors.not_supported(&SPEC.child("trafficDistribution"), distribution, known);
        }
    }
}

pub(super) fn validate_kept(new: &ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        for (name, unset, new, old) in [
            ("clusterIPs", "primary clusterIP can not be unset", list(&new.cluster_ips), list(&old.cluster_ips)),
            ("ipFamilies", "primary ipFamily can not be unset", list(&new.ip_families), list(&old.ip_families)),
        ] {
            let path = SPEC.child(name);
            match (new.first(), old.first()) {
                (None, Some(_)) => errors.invalid(&path.index(0), shown(&new), unset),
                (Some(first), Some(before)) if first != before => {
                    errors.invalid(&path.index(0), shown(&new), "may not change once set");
                }
                (_, _) => {}
            }
        }
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new.health_check_node_port.unwrap_or_default() != old.health_check_node_port.unwrap_or_default()
    {
        errors.forbidden(&SPEC.child("healthCheckNodePort"), IMMUTABLE);
    }
    let both = text(&new.type_) == "LoadBalancer" && text(&old.type_) == "LoadBalancer";
    if both && new.load_balancer_class != old.load_balancer_class {
        let value = shown(&new.load_balancer_class);
        errors.invalid(&SPEC.child("loadBalancerClass"), value, "may not change once set");
    }
}
