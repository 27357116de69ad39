//! Metadata: what every object's is checked for, and what of it survives an update.

use super::errors::{Errors, IMMUTABLE, METADATA, Path, list, shown, text};
use crate::ObjectMeta;
use crate::meta::v1::{LabelSelector, OwnerReference};
use crate::names;
use crate::resource::Resource;
use std::collections::BTreeMap;

/// The type of a selector in the facts of `schema`.
pub(super) const LABEL_SELECTOR: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";

/// The check of a kind's names.
pub(crate) type NameCheck = fn(&str) -> Vec<String>;

/// Removes what only the server may say of a new object.
pub(super) fn before_create(meta: &mut ObjectMeta) {
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.self_link = None;
}

/// Takes from the old object what an update may leave out or may not change.
pub(super) fn before_update(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.self_link = None;
    new.generation = old.generation;
    for (new, old) in [(&mut new.name, &old.name), (&mut new.namespace, &old.namespace), (&mut new.uid, &old.uid)] {
        if text(new).is_empty() {
            new.clone_from(old);
        }
    }
    if old.creation_timestamp.is_some() {
        new.creation_timestamp.clone_from(&old.creation_timestamp);
    }
    if old.deletion_timestamp.is_some() {
        new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    }
    if new.deletion_grace_period_seconds.is_none() {
        new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
}

/// What is wrong with the metadata of an object.
pub(super) fn validate(meta: &ObjectMeta, resource: &Resource, check: NameCheck, errors: &mut Errors) {
    let prefix = text(&meta.generate_name);
    if !prefix.is_empty() {
        errors.texts(&METADATA.child("generateName"), prefix, names::as_prefix(check, prefix, true));
    }
    let name = text(&meta.name);
    if name.is_empty() {
        errors.required(&METADATA.child("name"), "name or generateName is required");
    } else {
        errors.texts(&METADATA.child("name"), name, check(name));
    }
    let namespace = text(&meta.namespace);
    match (resource.namespaced, namespace.is_empty()) {
        (true, true) => errors.required(&METADATA.child("namespace"), ""),
        (true, false) => errors.texts(&METADATA.child("namespace"), namespace, names::dns1123_label(namespace)),
        (false, true) => {}
        (false, false) => errors.forbidden(&METADATA.child("namespace"), "not allowed on this type"),
    }
    errors.non_negative(&METADATA.child("generation"), meta.generation.unwrap_or_default());
    validate_common(meta, errors);
}

/// What is wrong with the change of an object's metadata.
pub(super) fn validate_update(new: &ObjectMeta, old: &ObjectMeta, errors: &mut Errors) {
    if old.deletion_timestamp.is_some() {
        let kept = list(&old.finalizers);
        let added: Vec<&String> = list(&new.finalizers).iter().filter(|name| !kept.contains(name)).collect();
        if !added.is_empty() {
            mark::sometimes!("finalizer added to an object being deleted");
            let mut quoted: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
            quoted.sort();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                quoted.join(", ")
            );
            errors.forbidden(&METADATA.child("finalizers"), &why);
        }
    }
    errors.unchanged(&METADATA.child("name"), text(&new.name), text(&old.name));
    errors.unchanged(&METADATA.child("namespace"), text(&new.namespace), text(&old.namespace));
    errors.unchanged(&METADATA.child("uid"), text(&new.uid), text(&old.uid));
    for (name, new, old) in [
        ("creationTimestamp", &new.creation_timestamp, &old.creation_timestamp),
        ("deletionTimestamp", &new.deletion_timestamp, &old.deletion_timestamp),
    ] {
        if new != old {
            errors.invalid(&METADATA.child(name), shown(new), IMMUTABLE);
        }
    }
    if new.deletion_grace_period_seconds != old.deletion_grace_period_seconds {
        let value = shown(&new.deletion_grace_period_seconds);
        errors.invalid(&METADATA.child("deletionGracePeriodSeconds"), value, IMMUTABLE);
    }
    validate_common(new, errors);
}

fn validate_common(meta: &ObjectMeta, errors: &mut Errors) {
    if let Some(labels) = &meta.labels {
        validate_labels(labels, &METADATA.child("labels"), errors);
    }
    if let Some(annotations) = &meta.annotations {
        validate_annotations(annotations, &METADATA.child("annotations"), errors);
    }
    validate_owners(list(&meta.owner_references), errors);
    validate_finalizers(list(&meta.finalizers), errors);
}

/// What is wrong with labels, wherever they are.
pub(crate) fn validate_labels(labels: &BTreeMap<String, String>, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in labels {
        errors.texts(path, key, names::qualified_name(key));
        errors.texts(path, value, names::label_value(value));
    }
}

/// What is wrong with annotations, wherever they are.
pub(crate) fn validate_annotations(annotations: &BTreeMap<String, String>, path: &Path<'_>, errors: &mut Errors) {
    for key in annotations.keys() {
        // Upper case is let through in the prefix, for annotations older than this rule.
        errors.texts(path, key, names::qualified_name(&key.to_lowercase()));
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > names::ANNOTATIONS_MAX_BYTES {
        errors.too_long(path, names::ANNOTATIONS_MAX_BYTES);
    }
}

fn validate_owners(owners: &[OwnerReference], errors: &mut Errors) {
    let path = METADATA.child("ownerReferences");
    let mut controller: Option<String> = None;
    for owner in owners {
        match owner.api_version.split('/').collect::<Vec<_>>()[..] {
            [""] | [_, ""] => {
                errors.text(&path.child("apiVersion"), &owner.api_version, "version must not be empty");
            }
            [_] | [_, _] => {}
            _ => {
                let why = format!("unexpected GroupVersion string: {}", owner.api_version);
                errors.text(&path.child("apiVersion"), &owner.api_version, &why);
            }
        }
        for (name, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                errors.text(&path.child(name), value, "must not be empty");
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            errors.invalid(&path, shown(owner), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.controller == Some(true) {
            let this = format!("{}/{}", owner.kind, owner.name);
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.invalid(&path, shown(&owners), &why);
            } else {
                controller = Some(this);
            }
        }
    }
}

fn validate_finalizers(finalizers: &[String], errors: &mut Errors) {
    let path = METADATA.child("finalizers");
    for (i, name) in finalizers.iter().enumerate() {
        errors.texts(&path, name, names::qualified_name(name));
        validate_finalizer(name, &path.index(i), errors);
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(&path, shown(&finalizers), why);
    }
}

/// What is wrong with a finalizer's name beyond its form: one without a prefix is one of Kubernetes' own.
pub(super) fn validate_finalizer(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
        errors.text(path, name, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

/// What is wrong with a selector of labels.
pub(crate) fn validate_selector(selector: &LabelSelector, path: &Path<'_>, errors: &mut Errors) {
    if let Some(labels) = &selector.match_labels {
        validate_labels(labels, &path.child("matchLabels"), errors);
    }
    let expressions = path.child("matchExpressions");
    for (i, requirement) in list(&selector.match_expressions).iter().enumerate() {
        let path = expressions.index(i);
        let values = list(&requirement.values);
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.text(&path.child("operator"), other, "not a valid selector operator"),
        }
        errors.texts(&path.child("key"), &requirement.key, names::qualified_name(&requirement.key));
        for (j, value) in values.iter().enumerate() {
            errors.texts(&path.child("values").index(j), value, names::label_value(value));
        }
    }
}

/// Whether a selector chooses everything.
pub(super) fn is_empty_selector(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty) && list(&selector.match_expressions).is_empty()
}

/// Whether a selector chooses an object with these labels; a selector with an unknown operator chooses nothing.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && list(&selector.match_expressions).iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let among = value.is_some_and(|value| list(&requirement.values).contains(value));
            match requirement.operator.as_str() {
                "In" => among,
                "NotIn" => !among,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// A selector as `kubectl` shows it: `a=b,c in (d,e),!f`; `<none>` for one that chooses everything.
pub(super) fn selector_text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "<none>".to_owned() };
    // By key, as upstream's parsed selectors are.
    let mut parts: Vec<(String, String)> =
        selector.match_labels.iter().flatten().map(|(key, value)| (key.clone(), format!("{key}={value}"))).collect();
    for requirement in list(&selector.match_expressions) {
        let key = &requirement.key;
        let mut values = list(&requirement.values).to_vec();
        values.sort();
        let values = values.join(",");
        let part = match requirement.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        parts.push((key.clone(), part));
    }
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    parts.sort();
    parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(",")
}
