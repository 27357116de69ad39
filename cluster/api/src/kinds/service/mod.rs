//! Services.
//!
//! Cluster IPs and node ports are the API server's to give; what is checked here is what a user may ask for, and what of an
//! earlier allocation an update keeps.

mod validation;

pub(super) use validation::validate_reachable_ip;

use super::errors::{Errors, STATUS, list, text};
use super::fields::Field;
use super::meta::NameCheck;
use super::{Kind, pod};
use crate::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, ServiceStatus, SessionAffinityConfig};
use crate::status::FieldError;
use crate::table::Column;
use crate::{IntOrString, ObjectExt, Timestamp, names};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Ports that nodes open for services; upstream's default range.
pub const NODE_PORTS: RangeInclusive<i32> = 30_000..=32_767;
/// How long a client stays with its endpoint, in seconds, unless said otherwise: three hours.
const AFFINITY_SECONDS: i32 = 10_800;
/// The cluster IP of a service that wants none.
const NONE: &str = "None";

/// What is wrong with a node port out of the range.
pub fn node_port_out_of_range(index: usize, port: i32) -> FieldError {
    let why = format!(
        "provided port is not in the valid range. The range of valid ports is {}-{}",
        NODE_PORTS.start(),
        NODE_PORTS.end()
    );
    FieldError::invalid(format!("spec.ports[{index}].nodePort"), port, &why)
}

impl Kind for Service {
    const NAME: NameCheck = names::dns1035_label;
    const COLUMNS: &'static [Column] = &[
        Column::names(),
        Column::new("Type", "string", "How the service is reached."),
        Column::new("Cluster-IP", "string", "Its address in the cluster."),
        Column::new("External-IP", "string", "Its addresses outside."),
        Column::new("Port(s)", "string", "Its ports, with those of the nodes."),
        super::AGE,
        Column::wide("Selector", "string", "Labels of the pods behind it."),
    ];
    const FIELDS: &'static [Field] = &[Field::text("spec.clusterIP"), Field::text("spec.type")];

    fn fill(&mut self) {
        fill_spec(self.spec.get_or_insert_default());
        let status = self.status.get_or_insert_default();
        status.load_balancer.get_or_insert_default();
        if self.spec.as_ref().is_some_and(|spec| text(&spec.type_) == "LoadBalancer") {
            let ingress = status.load_balancer.iter_mut().flat_map(|status| status.ingress.iter_mut().flatten());
            for ingress in ingress.filter(|ingress| !text(&ingress.ip).is_empty()) {
                ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
            }
        }
    }

    fn on_create(&mut self) {
        let load_balancer = Some(crate::core::v1::LoadBalancerStatus::default());
        self.status = Some(ServiceStatus { conditions: None, load_balancer });
        let spec = self.spec.get_or_insert_default();
        if list(&spec.cluster_ips).is_empty()
            && let Some(ip) = &spec.cluster_ip
        {
            spec.cluster_ips = Some(vec![ip.clone()]);
        }
        fill_families(spec);
    }

    fn on_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
        let before = old.spec.clone().unwrap_or_default();
        let spec = self.spec.get_or_insert_default();
        normalize_cluster_ips(spec, &before);
        drop_dependent(spec, &before);
        keep_allocated(spec, &before);
        fill_families(spec);
    }

    fn on_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        validation::validate_annotations(self, errors);
        validation::validate_spec(spec, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        if let (Some(spec), Some(before)) = (&self.spec, &old.spec) {
            validation::validate_kept(spec, before, errors);
        }
        self.validate(errors);
    }

    fn validate_status(&self, _old: &Self, errors: &mut Errors) {
        let status = self.status.clone().unwrap_or_default();
        let ingress = status.load_balancer.unwrap_or_default().ingress.unwrap_or_default();
        let path = STATUS.child("loadBalancer.ingress");
        if !ingress.is_empty() && self.spec.as_ref().is_none_or(|spec| text(&spec.type_) != "LoadBalancer") {
            errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
            return;
        }
        for (i, ingress) in ingress.iter().enumerate() {
            let (ip, host) = (text(&ingress.ip), text(&ingress.hostname));
            if !ip.is_empty() {
                errors.texts(&path.index(i).child("ip"), ip, names::ip(ip));
            }
            if !host.is_empty() {
                errors.texts(&path.index(i).child("hostname"), host, names::dns1123_subdomain(host));
                if host.parse::<IpAddr>().is_ok() {
                    errors.text(&path.index(i).child("hostname"), host, "must be a DNS name, not an IP address");
                }
            }
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let ip = list(&spec.cluster_ips).first().map_or(text(&spec.cluster_ip), String::as_str);
        let ports: Vec<String> = list(&spec.ports).iter().map(port_text).collect();
        let labels: Vec<String> = spec.selector.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            self.name().into(),
            text(&spec.type_).into(),
            or_none(ip.to_owned()),
            external_ip(self, &spec).into(),
            or_none(ports.join(",")),
            self.age(now),
            or_none(labels.join(",")),
        ]
    }
}

pub(super) fn or_none(text: String) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn port_text(port: &ServicePort) -> String {
    let protocol = text(&port.protocol);
    match port.node_port.filter(|port| *port > 0) {
        Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
        None => format!("{}/{protocol}", port.port),
    }
}

fn external_ip(service: &Service, spec: &ServiceSpec) -> String {
    let own = list(&spec.external_ips).join(",");
    match text(&spec.type_) {
        "ClusterIP" | "NodePort" => {
            if own.is_empty() {
                "<none>".to_owned()
            } else {
                own
            }
        }
        "LoadBalancer" => {
            let status = service.status.clone().unwrap_or_default().load_balancer.unwrap_or_default();
            let ingress = status.ingress.unwrap_or_default();
            let given: BTreeSet<String> = ingress
                .iter()
                .map(|ingress| if text(&ingress.ip).is_empty() { text(&ingress.hostname) } else { text(&ingress.ip) })
                .filter(|address| !address.is_empty())
                .map(str::to_owned)
                .collect();
            let all: Vec<String> = given.into_iter().chain(list(&spec.external_ips).iter().cloned()).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => text(&spec.external_name).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn fill_spec(spec: &mut ServiceSpec) {
    for value in [&mut spec.cluster_ip, &mut spec.external_traffic_policy, &mut spec.load_balancer_ip] {
        if text(value).is_empty() {
            *value = None;
        }
    }
    if text(&spec.session_affinity).is_empty() {
        spec.session_affinity = Some(NONE.to_owned());
    }
    match text(&spec.session_affinity) {
        NONE => spec.session_affinity_config = None,
        "ClientIP" => {
            let config = spec.session_affinity_config.get_or_insert_with(SessionAffinityConfig::default);
            let client = config.client_ip.get_or_insert_with(ClientIPConfig::default);
            client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
        }
        _ => {}
    }
    if text(&spec.type_).is_empty() {
        spec.type_ = Some("ClusterIP".to_owned());
    }
    for port in spec.ports.iter_mut().flatten() {
        if text(&port.protocol).is_empty() {
            port.protocol = Some("TCP".to_owned());
        }
        if pod::is_unset(port.target_port.as_ref()) {
            port.target_port = Some(IntOrString::Int(port.port));
        }
        if port.node_port == Some(0) {
            port.node_port = None;
        }
    }
    if externally_accessible(spec) && spec.external_traffic_policy.is_none() {
        spec.external_traffic_policy = Some("Cluster".to_owned());
    }
    if spec.internal_traffic_policy.is_none() && needs_cluster_ip(spec) {
        spec.internal_traffic_policy = Some("Cluster".to_owned());
    }
    if text(&spec.type_) == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

/// One stack, that of the address asked for; IPv4 if none was.
fn fill_families(spec: &mut ServiceSpec) {
    if text(&spec.type_) == "ExternalName" {
        return;
    }
    spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
    if list(&spec.ip_families).is_empty() {
        let six = spec.cluster_ip.as_deref().is_some_and(|ip| ip.contains(':'));
        spec.ip_families = Some(vec![if six { "IPv6" } else { "IPv4" }.to_owned()]);
    }
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(text(&spec.type_), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_node_port(spec: &ServiceSpec) -> bool {
    match text(&spec.type_) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    text(&spec.type_) == "LoadBalancer" && text(&spec.external_traffic_policy) == "Local"
}

fn externally_accessible(spec: &ServiceSpec) -> bool {
    match text(&spec.type_) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list(&spec.external_ips).is_empty(),
        _ => false,
    }
}

fn is_headless(spec: &ServiceSpec) -> bool {
    text(&spec.cluster_ip) == NONE
}

/// A client that knows only `clusterIP` changes or clears the list with it.
fn normalize_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    let same_list = list(&new.cluster_ips) == list(&old.cluster_ips);
    match (text(&old.cluster_ip), text(&new.cluster_ip)) {
        ("", ip) if !ip.is_empty() && list(&new.cluster_ips).is_empty() => new.cluster_ips = Some(vec![ip.to_owned()]),
        (old_ip, "") if !old_ip.is_empty() && same_list => new.cluster_ips = None,
        (old_ip, ip) if !ip.is_empty() && old_ip != ip && same_list => new.cluster_ips = Some(vec![ip.to_owned()]),
        _ => {}
    }
}

/// What a type has no use for goes away with a change of the type, unless the user changed it too.
fn drop_dependent(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if new.cluster_ip == old.cluster_ip && list(&new.cluster_ips) == list(&old.cluster_ips) {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if list(&new.ip_families) == list(&old.ip_families) {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
        if new.internal_traffic_policy == old.internal_traffic_policy {
            new.internal_traffic_policy = None;
        }
    }
    if needs_node_port(old) && !needs_node_port(new) {
        let node_ports = |spec: &ServiceSpec| -> BTreeSet<i32> {
            list(&spec.ports).iter().filter_map(|port| port.node_port).collect()
        };
        let before = node_ports(old);
        if node_ports(new).is_subset(&before) {
            new.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
        }
    }
    if needs_health_check(old) && !needs_health_check(new) && new.health_check_node_port == old.health_check_node_port {
        new.health_check_node_port = None;
    }
    if text(&old.type_) == "LoadBalancer" && text(&new.type_) != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if externally_accessible(old)
        && !externally_accessible(new)
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = None;
    }
}

/// What was allocated and is still needed stays, if the user left it out.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if new.cluster_ip.is_none() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if list(&new.cluster_ips).is_empty() && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if list(&new.ip_families).is_empty() {
            new.ip_families.clone_from(&old.ip_families);
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        let used: BTreeSet<(String, i32)> = list(&new.ports)
            .iter()
            .filter_map(|port| Some((text(&port.protocol).to_owned(), port.node_port?)))
            .collect();
        for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.is_none()) {
            let before = list(&old.ports)
                .iter()
                .find(|before| before.port == port.port && text(&before.protocol) == text(&port.protocol));
            port.node_port = before
                .and_then(|before| before.node_port)
                .filter(|number| !used.contains(&(text(&port.protocol).to_owned(), *number)));
        }
    }
    if needs_health_check(old) && needs_health_check(new) && new.health_check_node_port.unwrap_or_default() == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}
