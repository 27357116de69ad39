//! Volumes of a pod: how many sources each has, and what is wrong with the common ones.

use super::super::amounts::amount;
use super::super::errors::{Errors, Path, list, text};
use crate::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, ProjectedVolumeSource, ResourceFieldSelector, Volume,
};
use crate::names;
use std::collections::BTreeSet;

/// The sources that a volume names; it should be one.
pub(super) fn sources(volume: &Volume) -> Vec<&'static str> {
    let given = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ];
    given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
}

/// What is wrong with the volumes.
pub(super) fn validate(volumes: &[Volume], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.index(i);
        validate_source(volume, &path, errors);
        if volume.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.texts(&path.child("name"), &volume.name, names::dns1123_label(&volume.name));
            if !seen.insert(volume.name.as_str()) {
                errors.duplicate(&path.child("name"), &volume.name);
            }
        }
    }
}

fn validate_source(volume: &Volume, path: &Path<'_>, errors: &mut Errors) {
    let sources = sources(volume);
    for extra in sources.iter().skip(1) {
        errors.forbidden(&path.child(extra), "may not specify more than 1 volume type");
    }
    let Some(first) = sources.first() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    let path = &path.child(first);
    if let Some(empty) = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref())
        && amount(empty).is_negative()
    {
        errors.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
    match *first {
        "hostPath" => validate_host_path(volume, path, errors),
        "secret" => {
            let Some(secret) = &volume.secret else { return };
            if text(&secret.secret_name).is_empty() {
                errors.required(&path.child("secretName"), "");
            }
            validate_mode(secret.default_mode, &path.child("defaultMode"), errors);
            validate_items(list(&secret.items), &path.child("items"), errors);
        }
        "configMap" => {
            let Some(config_map) = &volume.config_map else { return };
            if config_map.name.is_empty() {
                errors.required(&path.child("name"), "");
            }
            validate_mode(config_map.default_mode, &path.child("defaultMode"), errors);
            validate_items(list(&config_map.items), &path.child("items"), errors);
        }
        "persistentVolumeClaim" if volume.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name.is_empty()) => {
            errors.required(&path.child("claimName"), "");
        }
        "nfs" => {
            let Some(nfs) = &volume.nfs else { return };
            if nfs.server.is_empty() {
                errors.required(&path.child("server"), "");
            }
            if nfs.path.is_empty() {
                errors.required(&path.child("path"), "");
            } else if !nfs.path.starts_with('/') {
                errors.text(&path.child("path"), &nfs.path, "must be an absolute path");
            }
        }
        "csi" if volume.csi.as_ref().is_some_and(|csi| csi.driver.is_empty()) => {
            errors.required(&path.child("driver"), "");
        }
        "downwardAPI" => {
            let Some(downward) = &volume.downward_api else { return };
            validate_mode(downward.default_mode, &path.child("defaultMode"), errors);
            for file in list(&downward.items) {
                validate_downward_file(file, path, errors);
            }
        }
        "projected" => {
            if let Some(projected) = &volume.projected {
                validate_projected(projected, path, errors);
            }
        }
        _ => {}
    }
}

fn validate_host_path(volume: &Volume, path: &Path<'_>, errors: &mut Errors) {
    const TYPES: &[&str] =
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let Some(host_path) = &volume.host_path else { return };
    if host_path.path.is_empty() {
        errors.required(&path.child("path"), "");
    } else if host_path.path.split('/').any(|part| part == "..") {
        errors.text(&path.child("path"), &host_path.path, "must not contain '..'");
    }
    let of_type = text(&host_path.type_);
    if !TYPES.contains(&of_type) {
        errors.not_supported(&path.child("type"), of_type, TYPES);
    }
}

fn validate_mode(mode: Option<i32>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn validate_items(items: &[KeyToPath], path: &Path<'_>, errors: &mut Errors) {
    for (i, item) in items.iter().enumerate() {
        let path = path.index(i);
        if item.key.is_empty() {
            errors.required(&path.child("key"), "");
        }
        validate_file_path(&item.path, &path.child("path"), errors);
        validate_mode(item.mode, &path.child("mode"), errors);
    }
}

fn validate_file_path(file: &str, path: &Path<'_>, errors: &mut Errors) {
    if file.is_empty() {
        errors.required(path, "");
        return;
    }
    validate_relative(file, path, errors);
    if file.starts_with("..") && !file.starts_with("../") {
        errors.text(path, file, "must not start with '..'");
    }
}

/// What is wrong with a path that must stay below where it begins.
pub(super) fn validate_relative(file: &str, path: &Path<'_>, errors: &mut Errors) {
    if file.starts_with('/') {
        errors.text(path, file, "must be a relative path");
    }
    if file.split('/').any(|part| part == "..") {
        errors.text(path, file, "must not contain '..'");
    }
}

fn validate_projected(projected: &ProjectedVolumeSource, path: &Path<'_>, errors: &mut Errors) {
    validate_mode(projected.default_mode, &path.child("defaultMode"), errors);
    let all = path.child("sources");
    for (i, source) in list(&projected.sources).iter().enumerate() {
        let path = all.index(i);
        let mut given = 0;
        if let Some(secret) = &source.secret {
            given += 1;
            if secret.name.is_empty() {
                errors.required(&path.child("secret.name"), "");
            }
            validate_items(list(&secret.items), &path.child("secret.items"), errors);
        }
        if let Some(config_map) = &source.config_map {
            given += 1;
            if config_map.name.is_empty() {
                errors.required(&path.child("configMap.name"), "");
            }
            validate_items(list(&config_map.items), &path.child("configMap.items"), errors);
        }
        if let Some(downward) = &source.downward_api {
            given += 1;
            for file in list(&downward.items) {
                validate_downward_file(file, &path.child("downwardAPI"), errors);
            }
        }
        if let Some(token) = &source.service_account_token {
            given += 1;
            let path = path.child("serviceAccountToken");
            let seconds = token.expiration_seconds.unwrap_or_default();
            if seconds < 600 {
                errors.invalid(
                    &path.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            } else if seconds > 1 << 32 {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.invalid(&path.child("expirationSeconds"), seconds, why);
            }
            validate_file_path(&token.path, &path.child("path"), errors);
        }
        given += i32::from(source.cluster_trust_bundle.is_some()) + i32::from(source.pod_certificate.is_some());
        if given > 1 {
            errors.forbidden(&path, "may not specify more than 1 volume type per source");
        } else if given == 0 {
            errors.required(&path, "must specify a volume type");
        }
    }
}

fn validate_downward_file(file: &DownwardAPIVolumeFile, path: &Path<'_>, errors: &mut Errors) {
    const FIELDS: &[&str] =
        &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    validate_file_path(&file.path, &path.child("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), None) => validate_field_ref(field, FIELDS, &path.child("fieldRef"), errors),
        (None, Some(resource)) => validate_resource_ref(resource, true, &path.child("resourceFieldRef"), errors),
        (Some(_), Some(_)) => {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.text(path, "resource", why);
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    validate_mode(file.mode, &path.child("mode"), errors);
}

/// What is wrong with a reference to a field of the pod.
pub(super) fn validate_field_ref(field: &ObjectFieldSelector, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let name = field.field_path.as_str();
    if text(&field.api_version).is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    if name.is_empty() {
        errors.required(&path.child("fieldPath"), "");
        return;
    }
    let path = path.child("fieldPath");
    let entry = name.strip_suffix("']").and_then(|name| name.split_once("['"));
    match entry {
        Some(("metadata.annotations", key)) => errors.texts(&path, key, names::qualified_name(&key.to_lowercase())),
        Some(("metadata.labels", key)) => errors.texts(&path, key, names::qualified_name(key)),
        Some(_) => errors.text(&path, name, "does not support subscript"),
        None if allowed.contains(&name) => {}
        None if KNOWN_FIELDS.contains(&name) => errors.not_supported(&path, name, allowed),
        None => errors.text(&path, name, &format!("error converting fieldPath: field label not supported: {name}")),
    }
}

/// Fields that downward API knows, though not everywhere.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

/// What is wrong with a reference to a container's resources.
pub(super) fn validate_resource_ref(
    field: &ResourceFieldSelector,
    in_volume: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    const RESOURCES: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    if in_volume && text(&field.container_name).is_empty() {
        errors.required(&path.child("containerName"), "");
        return;
    }
    let name = field.resource.as_str();
    if name.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&name)
        && !name.starts_with("limits.hugepages-")
        && !name.starts_with("requests.hugepages-")
    {
        errors.not_supported(&path.child("resource"), name, RESOURCES);
    }
}
