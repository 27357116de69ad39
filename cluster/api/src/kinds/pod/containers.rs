//! What is wrong with containers: names, images, ports, environment, mounts, resources.

use super::super::amounts;
use super::super::errors::{Errors, Path, list, shown, text};
use super::handlers;
use super::volumes::{validate_field_ref, validate_relative, validate_resource_ref};
use crate::IntOrString;
use crate::core::v1::{Container, ContainerPort, EnvFromSource, EnvVar, PodSpec, SecurityContext};
use crate::names;
use std::collections::BTreeSet;

/// What the containers of one pod have in common.
struct Shared<'a> {
    volumes: BTreeSet<&'a str>,
    grace_seconds: i64,
    restart_policy: &'a str,
}

/// What is wrong with the containers of a pod.
pub(super) fn validate(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let shared = Shared {
        volumes: list(&spec.volumes).iter().map(|volume| volume.name.as_str()).collect(),
        grace_seconds: spec.termination_grace_period_seconds.unwrap_or_default(),
        restart_policy: text(&spec.restart_policy),
    };
    let regular = path.child("containers");
    if spec.containers.is_empty() {
        errors.required(&regular, "");
    }
    let mut seen = BTreeSet::new();
    for (i, container) in spec.containers.iter().enumerate() {
        let path = regular.index(i);
        validate_common(container, &shared, &path, errors);
        if !seen.insert(container.name.as_str()) {
            errors.duplicate(&path.child("name"), &container.name);
        }
        handlers::validate(container, shared.grace_seconds, &path, errors);
        if let Some(policy) = &container.restart_policy {
            validate_own_policy(policy, container, &["Always", "Never", "OnFailure"], &path, errors);
        }
    }
    validate_host_ports(&spec.containers, &regular, errors);
    let init = path.child("initContainers");
    for (i, container) in list(&spec.init_containers).iter().enumerate() {
        let path = init.index(i);
        validate_common(container, &shared, &path, errors);
        if let Some(policy) = &container.restart_policy {
            validate_own_policy(policy, container, &["Always", "Never", "OnFailure"], &path, errors);
        }
        if !seen.insert(container.name.as_str()) {
            errors.duplicate(&path.child("name"), &container.name);
        }
        validate_host_ports(std::slice::from_ref(container), &init, errors);
        if container.restart_policy.as_deref() == Some("Always") {
            handlers::validate(container, shared.grace_seconds, &path, errors);
        } else {
            for (name, given) in [
                ("lifecycle", container.lifecycle.is_some()),
                ("livenessProbe", container.liveness_probe.is_some()),
                ("readinessProbe", container.readiness_probe.is_some()),
                ("startupProbe", container.startup_probe.is_some()),
            ] {
                if given {
                    errors.forbidden(
                        &path.child(name),
                        "may not be set for init containers without restartPolicy=Always",
                    );
                }
            }
        }
    }
    validate_ephemeral(spec, &seen, path, errors);
}

/// Restart policies of containers, and rules by exit code, are those of KEP-5307.
fn validate_own_policy(policy: &str, container: &Container, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if !allowed.contains(&policy) {
        errors.not_supported(&path.child("restartPolicy"), policy, allowed);
    }
    if policy == "Always" && !list(&container.restart_policy_rules).is_empty() {
        let why = "restartPolicyRules are not allowed when restartPolicy is Always";
        errors.forbidden(&path.child("restartPolicyRules"), why);
    }
}

fn validate_ephemeral(spec: &PodSpec, names: &BTreeSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    let mut all = names.clone();
    let ephemeral = path.child("ephemeralContainers");
    for (i, container) in list(&spec.ephemeral_containers).iter().enumerate() {
        let path = ephemeral.index(i);
        validate_name(&container.name, &path, errors);
        if text(&container.image).is_empty() {
            errors.required(&path.child("image"), "");
        }
        if !all.insert(container.name.as_str()) {
            errors.duplicate(&path.child("name"), &container.name);
        }
        let target = text(&container.target_container_name);
        if !target.is_empty() && !names.contains(target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        for (name, given) in [
            ("ports", !list(&container.ports).is_empty()),
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if given {
                errors.forbidden(&path.child(name), "cannot be set for an Ephemeral Container");
            }
        }
    }
}

fn validate_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        errors.texts(&path.child("name"), name, names::dns1123_label(name));
    }
}

fn validate_common(container: &Container, shared: &Shared<'_>, path: &Path<'_>, errors: &mut Errors) {
    validate_name(&container.name, path, errors);
    if text(&container.image).is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policy = text(&container.termination_message_policy);
    errors.one_of(&path.child("terminationMessagePolicy"), policy, &["File", "FallbackToLogsOnError"]);
    validate_ports(list(&container.ports), &path.child("ports"), errors);
    validate_env(list(&container.env), &path.child("env"), errors);
    validate_env_from(list(&container.env_from), &path.child("envFrom"), errors);
    validate_mounts(container, shared, path, errors);
    let policy = text(&container.image_pull_policy);
    errors.one_of(&path.child("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    if let Some(resources) = &container.resources {
        amounts::validate_requirements(resources, &path.child("resources"), errors);
    }
    validate_resize(container, shared, path, errors);
    if let Some(context) = &container.security_context {
        validate_security(context, &path.child("securityContext"), errors);
    }
}

fn validate_resize(container: &Container, shared: &Shared<'_>, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("resizePolicy");
    let mut seen = BTreeSet::new();
    for (i, resize) in list(&container.resize_policy).iter().enumerate() {
        if !seen.insert(resize.resource_name.as_str()) {
            errors.duplicate(&path.index(i), &resize.resource_name);
        }
        errors.one_of(&path, &resize.resource_name, &["cpu", "memory"]);
        errors.one_of(&path, &resize.restart_policy, &["NotRequired", "RestartContainer"]);
        if shared.restart_policy == "Never" && resize.restart_policy != "NotRequired" {
            errors.text(&path, &resize.restart_policy, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

fn validate_ports(ports: &[ContainerPort], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = text(&port.name);
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.texts(&path.child("name"), name, wrong);
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            validate_port_number(port.container_port, &path.child("containerPort"), errors);
        }
        if let Some(port) = port.host_port.filter(|port| *port != 0) {
            validate_port_number(port, &path.child("hostPort"), errors);
        }
        errors.one_of(&path.child("protocol"), text(&port.protocol), &["SCTP", "TCP", "UDP"]);
    }
}

/// What is wrong with the number of a port.
pub(in super::super) fn validate_port_number(port: i32, path: &Path<'_>, errors: &mut Errors) {
    for why in names::port_number(i64::from(port)) {
        errors.invalid(path, port, &why);
    }
}

/// What is wrong with the number or name of a port.
pub(in super::super) fn validate_port(port: &IntOrString, path: &Path<'_>, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => validate_port_number(*number, path, errors),
        IntOrString::String(name) => errors.texts(path, name, names::port_name(name)),
    }
}

fn validate_host_ports(containers: &[Container], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in list(&container.ports).iter().enumerate() {
            let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
            let claim = format!("{}/{}/{host_port}", text(&port.protocol), text(&port.host_ip));
            if !seen.insert(claim.clone()) {
                errors.duplicate(&path.index(i).child("ports").index(j).child("hostPort"), &claim);
            }
        }
    }
}

fn validate_env(env: &[EnvVar], path: &Path<'_>, errors: &mut Errors) {
    for (i, variable) in env.iter().enumerate() {
        let path = path.index(i);
        if variable.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.texts(&path.child("name"), &variable.name, names::env_name(&variable.name));
        }
        if variable.value_from.is_some() {
            validate_env_source(variable, &path.child("valueFrom"), errors);
        }
    }
}

fn validate_env_source(variable: &EnvVar, path: &Path<'_>, errors: &mut Errors) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let Some(from) = &variable.value_from else { return };
    let mut given = 0;
    if let Some(field) = &from.field_ref {
        given += 1;
        validate_field_ref(field, FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &from.resource_field_ref {
        given += 1;
        validate_resource_ref(resource, false, &path.child("resourceFieldRef"), errors);
    }
    let keyed = [
        ("configMapKeyRef", from.config_map_key_ref.as_ref().map(|key| (&key.name, &key.key))),
        ("secretKeyRef", from.secret_key_ref.as_ref().map(|key| (&key.name, &key.key))),
    ];
    for (field, reference) in keyed {
        let Some((name, key)) = reference else { continue };
        given += 1;
        let path = path.child(field);
        errors.texts(&path.child("name"), name, names::dns1123_subdomain(name));
        if key.is_empty() {
            errors.required(&path.child("key"), "");
        } else {
            errors.texts(&path.child("key"), key, names::config_key(key));
        }
    }
    given += i32::from(from.file_key_ref.is_some());
    if given == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.text(path, "", why);
    }
    if !text(&variable.value).is_empty() {
        if given != 0 {
            errors.text(path, "", "may not be specified when `value` is not empty");
        }
    } else if given > 1 {
        errors.text(path, "", "may not have more than one field specified at a time");
    }
}

fn validate_env_from(sources: &[EnvFromSource], path: &Path<'_>, errors: &mut Errors) {
    for (i, source) in sources.iter().enumerate() {
        let path = path.index(i);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            errors.texts(&path.child("prefix"), prefix, names::env_name(prefix));
        }
        let mut given = 0;
        for (field, name) in [
            ("configMapRef", source.config_map_ref.as_ref().map(|reference| &reference.name)),
            ("secretRef", source.secret_ref.as_ref().map(|reference| &reference.name)),
        ] {
            let Some(name) = name else { continue };
            given += 1;
            let path = path.child(field);
            if name.is_empty() {
                errors.required(&path.child("name"), "");
            } else {
                errors.texts(&path.child("name"), name, names::dns1123_subdomain(name));
            }
        }
        if given == 0 {
            errors.text(&path, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if given > 1 {
            errors.text(&path, "", "may not have more than one field specified at a time");
        }
    }
}

fn validate_mounts(container: &Container, shared: &Shared<'_>, path: &Path<'_>, errors: &mut Errors) {
    let devices = list(&container.volume_devices);
    let (mut paths, mounts_path) = (BTreeSet::new(), path.child("volumeMounts"));
    for (i, mount) in list(&container.volume_mounts).iter().enumerate() {
        let path = mounts_path.index(i);
        if mount.name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !shared.volumes.contains(mount.name.as_str()) {
            errors.not_found(&path.child("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if !paths.insert(mount.mount_path.as_str()) {
            errors.text(&path.child("mountPath"), &mount.mount_path, "must be unique");
        }
        if devices.iter().any(|device| device.name == mount.name) {
            errors.text(&path.child("name"), &mount.name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.device_path == mount.mount_path) {
            let why = "must not already exist as a path in volumeDevices";
            errors.text(&path.child("mountPath"), &mount.mount_path, why);
        }
        let (sub_path, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
        validate_relative(sub_path, &mounts_path.child("subPath"), errors);
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.text(&path.child("subPathExpr"), expression, why);
            }
            validate_relative(expression, &mounts_path.child("subPathExpr"), errors);
        }
        if let Some(propagation) = &mount.mount_propagation {
            const KNOWN: &[&str] = &["Bidirectional", "HostToContainer", "None"];
            if !KNOWN.contains(&propagation.as_str()) {
                errors.not_supported(&path.child("mountPropagation"), propagation, KNOWN);
            }
        }
    }
    let devices_path = path.child("volumeDevices");
    for (i, device) in devices.iter().enumerate() {
        let path = devices_path.index(i);
        if device.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !shared.volumes.contains(device.name.as_str()) {
            errors.not_found(&path.child("name"), &device.name);
        }
        if device.device_path.is_empty() {
            errors.required(&path.child("devicePath"), "");
        }
    }
}

fn validate_security(context: &SecurityContext, path: &Path<'_>, errors: &mut Errors) {
    validate_id(context.run_as_user, &path.child("runAsUser"), errors);
    validate_id(context.run_as_group, &path.child("runAsGroup"), errors);
    if let Some(mount) = &context.proc_mount
        && !matches!(mount.as_str(), "Default" | "Unmasked")
    {
        errors.not_supported(&path.child("procMount"), mount, &["Default", "Unmasked"]);
    }
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, shown(context), why);
        }
        let added = context.capabilities.as_ref().map(|capabilities| list(&capabilities.add)).unwrap_or_default();
        if added.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, shown(context), why);
        }
    }
}

/// What is wrong with the number of a user or group.
pub(super) fn validate_id(id: Option<i64>, path: &Path<'_>, errors: &mut Errors) {
    let largest = i64::from(i32::MAX);
    if let Some(id) = id.filter(|id| !(0..=largest).contains(id)) {
        errors.invalid(path, id, &names::between(0, largest));
    }
}
