//! What is wrong with a pod's spec, in pods and in templates.

use super::super::amounts;
use super::super::errors::{Errors, Path, list, shown, text};
use super::super::meta::{validate_annotations, validate_labels};
use super::{containers, scheduling, volumes};
use crate::core::v1::{PodDNSConfig, PodSpec, PodTemplateSpec};
use crate::names;
use std::collections::{BTreeMap, BTreeSet};

/// Name servers that libc's resolver asks at most.
const MAX_NAMESERVERS: usize = 3;
/// Search paths that libc's resolver follows at most.
const MAX_SEARCHES: usize = 32;
/// Length of all search paths with a blank between, libc's limit.
const MAX_SEARCH_BYTES: usize = 2048;

/// What is wrong with the annotation that ranks a pod's deletion.
pub(super) fn validate_own_annotations(annotations: &BTreeMap<String, String>, path: &Path<'_>, errors: &mut Errors) {
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(cost) = annotations.get(COST) {
        let plain = cost.trim_start_matches('-') == "0" || !cost.trim_start_matches('-').starts_with('0');
        if cost.parse::<i32>().is_err() || !plain || cost.starts_with('+') {
            errors.text(&path.key(COST), cost, "must be a 32bit integer");
        }
    }
}

/// What is wrong with a template of pods.
pub(in super::super) fn validate_template(template: &PodTemplateSpec, path: &Path<'_>, errors: &mut Errors) {
    let empty = BTreeMap::new();
    let metadata = template.metadata.as_ref();
    let labels = metadata.and_then(|metadata| metadata.labels.as_ref()).unwrap_or(&empty);
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref()).unwrap_or(&empty);
    validate_labels(labels, &path.child("labels"), errors);
    validate_annotations(annotations, &path.child("annotations"), errors);
    validate_own_annotations(annotations, &path.child("annotations"), errors);
    let spec = template.spec.clone().unwrap_or_default();
    validate(&spec, false, &path.child("spec"), errors);
    if !list(&spec.ephemeral_containers).is_empty() {
        errors.forbidden(&path.child("spec.ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// What is wrong with a spec.
pub(super) fn validate(spec: &PodSpec, is_pod: bool, path: &Path<'_>, errors: &mut Errors) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    volumes::validate(list(&spec.volumes), &path.child("volumes"), errors);
    containers::validate(spec, path, errors);
    if let Some(resources) = &spec.resources {
        amounts::validate_requirements(resources, &path.child("resources"), errors);
    }
    validate_host_network(spec, is_pod, path, errors);
    let policy = text(&spec.restart_policy);
    errors.one_of(&path.child("restartPolicy"), policy, &["Always", "OnFailure", "Never"]);
    let dns = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of(&path.child("dnsPolicy"), text(&spec.dns_policy), dns);
    validate_security(spec, path, errors);
    scheduling::validate(spec, is_pod, path, errors);
    validate_dns(spec.dns_config.as_ref(), text(&spec.dns_policy), &path.child("dnsConfig"), errors);
    for (i, gate) in list(&spec.readiness_gates).iter().enumerate() {
        let kind = &gate.condition_type;
        errors.texts(&path.child("readinessGates").index(i).child("conditionType"), kind, names::qualified_name(kind));
    }
    let mut seen = BTreeSet::new();
    for (i, gate) in list(&spec.scheduling_gates).iter().enumerate() {
        let gates = path.child("schedulingGates");
        errors.texts(&gates.index(i), &gate.name, names::qualified_name(&gate.name));
        if !seen.insert(gate.name.as_str()) {
            errors.duplicate(&gates.index(i), &gate.name);
        }
    }
    validate_names(spec, path, errors);
    let largest = i64::from(i32::MAX);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| !(1..=largest).contains(seconds)) {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, &names::between(1, largest));
    }
    for (i, alias) in list(&spec.host_aliases).iter().enumerate() {
        let aliases = path.child("hostAliases");
        let path = aliases.index(i);
        errors.texts(&path.child("ip"), &alias.ip, names::ip(&alias.ip));
        for (j, name) in list(&alias.hostnames).iter().enumerate() {
            errors.texts(&path.child("hostnames").index(j), name, names::dns1123_subdomain(name));
        }
    }
    if let Some(policy) = &spec.preemption_policy {
        errors.one_of(&path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
    for (name, amount) in spec.overhead.iter().flatten() {
        amounts::validate_amount(name, amount, &path.child("overhead").key(name), errors);
    }
    if let Some(os) = &spec.os {
        errors.one_of(&path.child("os.name"), &os.name, &["linux", "windows"]);
    }
}

fn validate_names(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    type Check = fn(&str) -> Vec<String>;
    let checked: [(&str, &Option<String>, Check); 6] = [
        ("serviceAccountName", &spec.service_account_name, names::dns1123_subdomain),
        ("nodeName", &spec.node_name, names::dns1123_subdomain),
        ("hostname", &spec.hostname, names::dns1123_label),
        ("subdomain", &spec.subdomain, names::dns1123_label),
        ("priorityClassName", &spec.priority_class_name, names::dns1123_subdomain),
        ("runtimeClassName", &spec.runtime_class_name, names::dns1123_subdomain),
    ];
    for (name, value, check) in checked {
        let value = text(value);
        if !value.is_empty() {
            errors.texts(&path.child(name), value, check(value));
        }
    }
}

/// On the host's network a container's port is the host's. A template may leave the latter out: its pods get it.
fn validate_host_network(spec: &PodSpec, is_pod: bool, path: &Path<'_>, errors: &mut Errors) {
    if spec.host_network != Some(true) {
        return;
    }
    let containers = path.child("containers");
    for (i, container) in spec.containers.iter().enumerate() {
        for (j, port) in list(&container.ports).iter().enumerate() {
            let host = port.host_port.unwrap_or_default();
            if (is_pod || host != 0) && host != port.container_port {
                let path = containers.index(i);
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&path.child("ports").index(j).child("hostPort"), host, why);
            }
        }
    }
    if spec.host_users == Some(false) {
        errors.forbidden(&path.child("hostNetwork"), "when `pod.Spec.HostUsers` is false");
    }
}

fn validate_security(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let Some(context) = &spec.security_context else { return };
    let path = path.child("securityContext");
    for (name, id) in
        [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)]
    {
        containers::validate_id(id, &path.child(name), errors);
    }
    for (i, id) in list(&context.supplemental_groups).iter().enumerate() {
        containers::validate_id(Some(*id), &path.child("supplementalGroups").index(i), errors);
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, why);
    }
    if let Some(policy) = &context.fs_group_change_policy
        && !matches!(policy.as_str(), "Always" | "OnRootMismatch")
    {
        errors.not_supported(&path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
}

fn validate_dns(config: Option<&PodDNSConfig>, policy: &str, path: &Path<'_>, errors: &mut Errors) {
    let Some(config) = config else {
        if policy == "None" {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let (servers, searches) = (list(&config.nameservers), list(&config.searches));
    let (servers_path, searches_path) = (path.child("nameservers"), path.child("searches"));
    if policy == "None" && servers.is_empty() {
        errors.required(&servers_path, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        return;
    }
    if servers.len() > MAX_NAMESERVERS {
        errors.invalid(
            &servers_path,
            shown(&servers),
            &format!("must not have more than {MAX_NAMESERVERS} nameservers"),
        );
    }
    for (i, server) in servers.iter().enumerate() {
        errors.texts(&servers_path.index(i), server, names::ip(server));
    }
    if searches.len() > MAX_SEARCHES {
        errors.invalid(
            &searches_path,
            shown(&searches),
            &format!("must not have more than {MAX_SEARCHES} search paths"),
        );
    }
    if searches.join(" ").len() > MAX_SEARCH_BYTES {
        let why =
            format!("must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list");
        errors.invalid(&searches_path, shown(&searches), &why);
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        // An underscore is in the names of service records.
        let wrong = names::dns1123_subdomain(&search.replace('_', "a"));
        errors.texts(&searches_path.index(i), search, wrong);
    }
    for (i, option) in list(&config.options).iter().enumerate() {
        if text(&option.name).is_empty() {
            errors.required(&path.child("options").index(i), "must not be empty");
        }
    }
}
