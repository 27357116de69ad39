//! Amounts of resources that containers ask for and nodes have.

use super::errors::{Errors, Path};
use crate::QuantityText;
use crate::core::v1::ResourceRequirements;
use crate::names;
use crate::quantity::Quantity;
use std::collections::BTreeMap;

/// Amounts by the name of their resource.
pub(super) type Amounts = BTreeMap<String, QuantityText>;

/// An amount; what does not parse was refused when the body was read, and reads as nothing in what was stored before.
pub(super) fn amount(text: &QuantityText) -> Quantity {
    Quantity::parse(&text.0).unwrap_or(Quantity::ZERO)
}

/// Shows every quantity of these.
pub(super) fn visit(amounts: &mut Option<Amounts>, visit: &mut dyn FnMut(&mut QuantityText)) {
    amounts.iter_mut().flat_map(BTreeMap::values_mut).for_each(visit);
}

/// Rounds up to thousandths, the finest that is kept.
pub(super) fn round(amounts: &mut Option<Amounts>) {
    for text in amounts.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Ok(quantity) = Quantity::parse(&text.0) {
            *text = quantity.round_up_milli().to_text();
        }
    }
}

/// Whether it is one of Kubernetes' own resources: without a domain, or with its.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether more of it may be promised than there is.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn is_standard(name: &str) -> bool {
    const STANDARD: &[&str] = &[
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
    ];
    STANDARD.contains(&name) || is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

fn validate_container_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        errors.texts(path, name, wrong);
    } else if !name.contains('/') {
        if !is_standard(name) {
            errors.text(path, name, "must be a standard resource type or fully qualified");
        }
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_pages(name) {
            errors.text(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.text(path, name, "doesn't follow extended resource name standard");
    }
}

/// What is wrong with an amount of a resource.
pub(super) fn validate_amount(name: &str, text: &QuantityText, path: &Path<'_>, errors: &mut Errors) {
    let value = amount(text);
    if value.is_negative() {
        errors.text(path, &text.0, "must be greater than or equal to 0");
    }
    let whole = is_extended(name) || matches!(name, "pods" | "services" | "secrets" | "configmaps" | "resourcequotas");
    if whole && !value.is_whole() {
        errors.text(path, &text.0, "must be an integer");
    }
}

/// What is wrong with what a container asks for.
pub(super) fn validate_requirements(requirements: &ResourceRequirements, path: &Path<'_>, errors: &mut Errors) {
    let empty = Amounts::new();
    let limits = requirements.limits.as_ref().unwrap_or(&empty);
    let requests = requirements.requests.as_ref().unwrap_or(&empty);
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (name, text) in limits {
        let path = limits_path.key(name);
        validate_container_resource(name, &path, errors);
        validate_amount(name, text, &path, errors);
    }
    for (name, text) in requests {
        let path = requests_path.key(name);
        validate_container_resource(name, &path, errors);
        validate_amount(name, text, &path, errors);
        let request = amount(text);
        match limits.get(name) {
            Some(limit) if !may_overcommit(name) && request != amount(limit) => {
                errors.text(&requests_path, &text.0, &format!("must be equal to {name} limit of {}", limit.0));
            }
            Some(limit) if request > amount(limit) => {
                let why = format!("must be less than or equal to {name} limit of {}", limit.0);
                errors.text(&requests_path, &text.0, &why);
            }
            Some(_) => {}
            None if may_overcommit(name) => {}
            None => errors.required(&limits_path, "Limit must be set for non overcommitable resources"),
        }
    }
}
