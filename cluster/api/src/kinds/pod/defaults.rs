//! What a Pod has when its user does not say: upstream's `SetDefaults_*` of `core/v1`.

use super::super::amounts;
use super::super::errors::text;
use crate::IntOrString;
use crate::core::v1::{
    Container, EmptyDirVolumeSource, EphemeralContainer, LifecycleHandler, Pod, PodIP, PodSecurityContext, PodSpec,
    PodStatus, Probe, Volume,
};
use std::collections::BTreeMap;

/// Mode of the files of a volume made from an object: `0644`.
const FILE_MODE: i32 = 0o644;
/// How long a pod may take to end, in seconds.
const GRACE_SECONDS: i64 = 30;
/// How long a projected token is good for, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// Sets an absent or empty text.
fn or_text(value: &mut Option<String>, default: &str) {
    if text(value).is_empty() {
        *value = Some(default.to_owned());
    }
}

/// Sets an absent or zero number.
fn or_number(value: &mut Option<i32>, default: i32) {
    if value.unwrap_or_default() == 0 {
        *value = Some(default);
    }
}

/// An empty text is the same as none.
fn drop_empty(value: &mut Option<String>) {
    if text(value).is_empty() {
        *value = None;
    }
}

/// Everything that a Pod, and no template, is given.
pub(super) fn fill_pod(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    fill_spec(spec);
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let resources = container.resources.get_or_insert_default();
        if let Some(limits) = &resources.limits {
            let requests = resources.requests.get_or_insert_default();
            for (name, limit) in limits {
                requests.entry(name.clone()).or_insert_with(|| limit.clone());
            }
        }
        if host_network {
            for port in container.ports.iter_mut().flatten() {
                or_number(&mut port.host_port, port.container_port);
            }
        }
    }
    if let Some(resources) = &mut spec.resources
        && let Some(limits) = resources.limits.as_ref().filter(|limits| !limits.is_empty())
    {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    fill_status(pod.status.get_or_insert_default());
}

/// `podIP` and the first of `podIPs` are one; where they differ, the former counts, as old agents know no other.
fn fill_status(status: &mut PodStatus) {
    for ip in [&mut status.pod_ip, &mut status.host_ip, &mut status.nominated_node_name, &mut status.phase] {
        drop_empty(ip);
    }
    let first = status.pod_ips.iter().flatten().next().map(|ip| ip.ip.clone());
    match (&status.pod_ip, first) {
        (Some(ip), first) if first.as_ref() != Some(ip) => status.pod_ips = Some(vec![PodIP { ip: ip.clone() }]),
        (None, Some(first)) => status.pod_ip = Some(first),
        (Some(_) | None, _) => {}
    }
}

/// Everything that a pod's spec is given, in templates too.
pub(in super::super) fn fill_spec(spec: &mut PodSpec) {
    or_text(&mut spec.dns_policy, "ClusterFirst");
    or_text(&mut spec.restart_policy, "Always");
    or_text(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_with(PodSecurityContext::default);
    spec.termination_grace_period_seconds.get_or_insert(GRACE_SECONDS);
    for value in [
        &mut spec.node_name,
        &mut spec.hostname,
        &mut spec.subdomain,
        &mut spec.service_account_name,
        &mut spec.service_account,
        &mut spec.priority_class_name,
    ] {
        drop_empty(value);
    }
    // The older name of the field is still shown, and read where the newer is missing.
    if spec.service_account_name.is_none() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
    spec.volumes.iter_mut().flatten().for_each(fill_volume);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        fill_container(container);
    }
    spec.ephemeral_containers.iter_mut().flatten().for_each(fill_ephemeral);
    amounts::round(&mut spec.overhead);
}

fn fill_container(container: &mut Container) {
    let image = text(&container.image).to_owned();
    or_text(&mut container.image_pull_policy, pull_policy(&image));
    or_text(&mut container.termination_message_path, "/dev/termination-log");
    or_text(&mut container.termination_message_policy, "File");
    let resources = container.resources.get_or_insert_default();
    amounts::round(&mut resources.limits);
    amounts::round(&mut resources.requests);
    for port in container.ports.iter_mut().flatten() {
        or_text(&mut port.protocol, "TCP");
    }
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe] {
        probe.iter_mut().for_each(fill_probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        lifecycle.post_start.iter_mut().for_each(fill_handler);
        lifecycle.pre_stop.iter_mut().for_each(fill_handler);
    }
    for env in container.env.iter_mut().flatten() {
        if let Some(field) = env.value_from.as_mut().and_then(|from| from.field_ref.as_mut()) {
            or_text(&mut field.api_version, "v1");
        }
    }
}

fn fill_ephemeral(container: &mut EphemeralContainer) {
    let image = text(&container.image).to_owned();
    or_text(&mut container.image_pull_policy, pull_policy(&image));
    or_text(&mut container.termination_message_path, "/dev/termination-log");
    or_text(&mut container.termination_message_policy, "File");
    container.resources.get_or_insert_default();
}

/// An image whose tag moves is pulled each time. One without tag or digest is `latest`.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match (tag, digest) {
        (Some("latest"), _) | (None, false) => "Always",
        (Some(_), _) | (None, true) => "IfNotPresent",
    }
}

fn fill_probe(probe: &mut Probe) {
    or_number(&mut probe.timeout_seconds, 1);
    or_number(&mut probe.period_seconds, 10);
    or_number(&mut probe.success_threshold, 1);
    or_number(&mut probe.failure_threshold, 3);
    if let Some(http) = &mut probe.http_get {
        or_text(&mut http.path, "/");
        or_text(&mut http.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn fill_handler(handler: &mut LifecycleHandler) {
    if let Some(http) = &mut handler.http_get {
        or_text(&mut http.path, "/");
        or_text(&mut http.scheme, "HTTP");
    }
}

fn fill_volume(volume: &mut Volume) {
    if super::volumes::sources(volume).is_empty() {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        for field in downward.items.iter_mut().flatten().filter_map(|item| item.field_ref.as_mut()) {
            or_text(&mut field.api_version, "v1");
        }
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
    if let Some(image) = &mut volume.image {
        let reference = text(&image.reference).to_owned();
        or_text(&mut image.pull_policy, pull_policy(&reference));
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(FILE_MODE);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(token) = &mut source.service_account_token {
                token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
            }
            for field in source.downward_api.iter_mut().flat_map(|downward| downward.items.iter_mut().flatten()) {
                if let Some(field) = &mut field.field_ref {
                    or_text(&mut field.api_version, "v1");
                }
            }
        }
    }
}

/// Whether a number of a port, or its name, was left out.
pub(in super::super) fn is_unset(port: Option<&IntOrString>) -> bool {
    match port {
        None => true,
        Some(IntOrString::Int(number)) => *number == 0,
        Some(IntOrString::String(name)) => name.is_empty(),
    }
}

/// Quality of service: what the kubelet does with the pod when its node runs short.
pub(super) fn qos_class(spec: &PodSpec) -> &'static str {
    let mut requests: BTreeMap<&str, i128> = BTreeMap::new();
    let mut limits: BTreeMap<&str, i128> = BTreeMap::new();
    let mut all_limited = true;
    let of_pod = spec.resources.as_ref().filter(|resources| {
        resources.requests.as_ref().is_some_and(|map| !map.is_empty())
            || resources.limits.as_ref().is_some_and(|map| !map.is_empty())
    });
    let of_containers =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.resources.as_ref());
    let asked: Vec<_> = of_pod.map_or_else(|| of_containers.collect(), |resources| vec![Some(resources)]);
    for resources in asked {
        let mut limited = 0;
        for (from, into, is_limit) in [
            (resources.and_then(|resources| resources.requests.as_ref()), &mut requests, false),
            (resources.and_then(|resources| resources.limits.as_ref()), &mut limits, true),
        ] {
            for (name, text) in from.into_iter().flatten() {
                let amount = amounts::amount(text).nanos();
                if matches!(name.as_str(), "cpu" | "memory") && amount > 0 {
                    *into.entry(name).or_default() += amount;
                    limited += i32::from(is_limit);
                }
            }
        }
        all_limited &= limited == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if all_limited && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
