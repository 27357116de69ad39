//! What may change of a pod that exists, and what not.

use super::super::differs;
use super::super::errors::{Errors, METADATA, Path, SPEC, STATUS, list, shown, text};
use super::{scheduling, spec};
use crate::ObjectExt;
use crate::core::v1::{Container, ContainerStatus, Pod, PodSpec, Toleration};
use crate::names;
use std::collections::BTreeSet;

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                          `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                          `spec.tolerations` (only additions to existing tolerations),\
                          `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is wrong with a change of the pod.
pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else { return };
    spec::validate_own_annotations(new.annotations(), &METADATA.child("annotations"), errors);
    spec::validate(new_spec, true, &SPEC, errors);
    let before = errors.len();
    for (name, new, old) in [
        ("containers", &new_spec.containers[..], &old_spec.containers[..]),
        ("initContainers", list(&new_spec.init_containers), list(&old_spec.init_containers)),
    ] {
        validate_containers(new, old, &SPEC.child(name), errors);
        if errors.len() > before {
            return;
        }
    }
    if !validate_deadline(new_spec, old_spec, errors) {
        return;
    }
    validate_tolerations(list(&new_spec.tolerations), list(&old_spec.tolerations), errors);
    validate_gates(new_spec, old_spec, errors);
    if new_spec != old_spec {
        let munged = munge(new_spec, old_spec, errors);
        if differs(&munged, old_spec, "io.k8s.api.core.v1.PodSpec") {
            errors.forbidden(&SPEC, MAY_CHANGE);
        }
    }
}

fn validate_containers(new: &[Container], old: &[Container], path: &Path<'_>, errors: &mut Errors) {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
        return;
    }
    for (i, container) in new.iter().enumerate() {
        let image = text(&container.image);
        if image.trim() != image {
            errors.text(&path.index(i).child("image"), image, "must not have leading or trailing whitespace");
        }
    }
}

/// The deadline may be set, and come closer. Whether to look further.
fn validate_deadline(new: &PodSpec, old: &PodSpec, errors: &mut Errors) -> bool {
    let path = SPEC.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(&path, new, &names::between(0, i64::from(i32::MAX)));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(&path, new, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(&path, "null", "must not update from a positive integer to nil value");
            true
        }
        (Some(_) | None, _) => true,
    }
}

/// Tolerations may be added, and theirs times changed.
fn validate_tolerations(new: &[Toleration], old: &[Toleration], errors: &mut Errors) {
    let path = SPEC.child("tolerations");
    let same = |old: &Toleration, new: &Toleration| {
        let timed = Toleration { toleration_seconds: new.toleration_seconds, ..old.clone() };
        timed == *new
    };
    if !old.iter().all(|old| new.iter().any(|new| same(old, new))) {
        errors.forbidden(&path, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    scheduling::validate_tolerations(new, &path, errors);
}

fn validate_gates(new: &PodSpec, old: &PodSpec, errors: &mut Errors) {
    let known: BTreeSet<&str> = list(&old.scheduling_gates).iter().map(|gate| gate.name.as_str()).collect();
    let path = SPEC.child("schedulingGates");
    for (i, gate) in list(&new.scheduling_gates).iter().enumerate() {
        if !known.contains(gate.name.as_str()) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.forbidden(&path.index(i).child("name"), &why);
        }
    }
}

/// The new spec with everything as before that may change.
fn munge(new: &PodSpec, old: &PodSpec, errors: &mut Errors) -> PodSpec {
    let mut munged = new.clone();
    let pairs = munged.containers.iter_mut().zip(&old.containers);
    let init = munged.init_containers.iter_mut().flatten().zip(list(&old.init_containers));
    for (new, old) in pairs.chain(init) {
        new.image.clone_from(&old.image);
    }
    munged.active_deadline_seconds = old.active_deadline_seconds;
    munged.scheduling_gates.clone_from(&old.scheduling_gates);
    munged.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && munged.termination_grace_period_seconds == Some(1)
    {
        munged.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if !list(&old.scheduling_gates).is_empty() {
        // A pod that is held back may still be told more of where to run.
        let kept = old.node_selector.iter().flatten();
        let added = munged.node_selector.clone().unwrap_or_default();
        if kept.into_iter().any(|(key, value)| added.get(key) != Some(value)) {
            errors.invalid(&SPEC.child("nodeSelector"), shown(&added), "only additions are allowed");
        }
        munged.node_selector.clone_from(&old.node_selector);
        validate_gated_affinity(&mut munged, old, errors);
    }
    munged
}

/// Requirements may be added to the terms of a gated pod's node affinity, and preferences changed freely.
fn validate_gated_affinity(munged: &mut PodSpec, old: &PodSpec, errors: &mut Errors) {
    let nodes = |spec: &PodSpec| spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    let (new_nodes, old_nodes) = (nodes(munged), nodes(old));
    if new_nodes == old_nodes {
        return;
    }
    let path = SPEC.child("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
    let old_required = old_nodes.as_ref().and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    let new_required = new_nodes.as_ref().and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    if let Some(old_required) = old_required {
        let (old_terms, new_terms) =
            (&old_required.node_selector_terms, new_required.map(|n| &n.node_selector_terms[..]).unwrap_or_default());
        if old_terms.len() != new_terms.len() {
            let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
            errors.invalid(&path.child("nodeSelectorTerms"), shown(&new_terms), why);
        } else {
            for (i, (new, old)) in new_terms.iter().zip(old_terms).enumerate() {
                let kept = list(&new.match_expressions).starts_with(list(&old.match_expressions))
                    && list(&new.match_fields).starts_with(list(&old.match_fields));
                if !kept {
                    let terms = path.child("nodeSelectorTerms");
                    errors.invalid(
                        &terms.index(i),
                        shown(new),
                        "only additions are allowed (no mutations or deletions)",
                    );
                }
            }
        }
    }
    match (&mut munged.affinity, &old.affinity) {
        (Some(affinity), None) if affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none() => {
            munged.affinity = None;
        }
        (Some(affinity), _) => affinity.node_affinity = old_nodes,
        (None, _) if old_nodes.is_some() => munged.affinity.clone_from(&old.affinity),
        (None, _) => {}
    }
}

/// What is wrong with a change of the pod's status.
pub(super) fn validate_status(new: &Pod, old: &Pod, errors: &mut Errors) {
    let (Some(status), Some(before)) = (&new.status, &old.status) else { return };
    let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else { return };
    let conditions = METADATA.child("conditions");
    for (i, condition) in list(&status.conditions).iter().enumerate() {
        let kind = condition.type_.as_str();
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            errors.texts(&conditions.index(i).child("Type"), kind, names::qualified_name(kind));
        }
    }
    if text(&new_spec.node_name) != text(&old_spec.node_name) {
        errors.forbidden(&STATUS.child("nodeName"), "may not be changed directly");
    }
    let nominated = text(&status.nominated_node_name);
    if nominated != text(&before.nominated_node_name) && !nominated.is_empty() {
        errors.texts(&STATUS.child("nominatedNodeName"), nominated, names::dns1123_subdomain(nominated));
    }
    errors.unchanged(&STATUS.child("qosClass"), text(&status.qos_class), text(&before.qos_class));
    let policy = text(&old_spec.restart_policy);
    let none = BTreeSet::new();
    let sidecars: BTreeSet<&str> = list(&old_spec.init_containers)
        .iter()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    // A container with a policy of its own is restarted by that.
    let own: BTreeSet<&str> = old_spec
        .containers
        .iter()
        .filter(|container| container.restart_policy.is_some())
        .map(|container| container.name.as_str())
        .collect();
    for (name, new, old, policy, restarted) in [
        ("containerStatuses", &status.container_statuses, &before.container_statuses, policy, &own),
        ("initContainerStatuses", &status.init_container_statuses, &before.init_container_statuses, policy, &sidecars),
        (
            "ephemeralContainerStatuses",
            &status.ephemeral_container_statuses,
            &before.ephemeral_container_statuses,
            "Never",
            &none,
        ),
    ] {
        validate_restarts(list(new), list(old), policy, restarted, &STATUS.child(name), errors);
    }
    let pod_ips: Vec<&str> = list(&status.pod_ips).iter().map(|ip| ip.ip.as_str()).collect();
    let host_ips: Vec<&str> = list(&status.host_ips).iter().map(|ip| ip.ip.as_str()).collect();
    if let Some(first) = host_ips.first().filter(|first| **first != text(&status.host_ip)) {
        errors.text(&STATUS.child("hostIPs").index(0).child("ip"), first, "must be equal to `hostIP`");
    }
    validate_ips(&pod_ips, &STATUS.child("podIPs"), errors);
    validate_ips(&host_ips, &STATUS.child("hostIPs"), errors);
}

/// A container that has ended for good stays so.
fn validate_restarts(
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    policy: &str,
    restarted: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if policy == "Always" {
        return;
    }
    for (i, before) in old.iter().enumerate() {
        let Some(ended) = before.state.as_ref().and_then(|state| state.terminated.as_ref()) else { continue };
        if (ended.exit_code != 0 && policy == "OnFailure") || restarted.contains(before.name.as_str()) {
            continue;
        }
        let runs = |status: &&ContainerStatus| {
            status.name == before.name && status.state.as_ref().is_none_or(|state| state.terminated.is_none())
        };
        if new.iter().any(|status| runs(&status)) {
            mark::sometimes!("status restarts a container that ended for good");
            errors.forbidden(&path.index(i).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn validate_ips(ips: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, ip) in ips.iter().enumerate() {
        errors.texts(&path.index(i), ip, names::ip(ip));
        if !seen.insert(*ip) {
            errors.duplicate_value(&path.index(i), format_args!("{{\"ip\":{ip:?}}}"));
        }
    }
    if ips.len() > 1 {
        let six = ips.iter().filter(|ip| ip.contains(':')).count();
        if ips.len() > 2 || six != 1 {
            let all: Vec<String> = ips.iter().map(|ip| format!("{{\"ip\":{ip:?}}}")).collect();
            let why = "may specify no more than one IP for each IP family";
            errors.invalid(path, format_args!("[{}]", all.join(",")), why);
        }
    }
}
