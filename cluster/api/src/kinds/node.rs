//! Nodes.

use super::amounts;
use super::errors::{Errors, METADATA, SPEC, STATUS, list, shown, text};
use super::fields::Field;
use super::{Kind, pod};
use crate::core::v1::{Node, Taint};
use crate::table::Column;
use crate::{ObjectExt, QuantityText, Timestamp, names};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

impl Kind for Node {
    const COLUMNS: &'static [Column] = &[
        Column::names(),
        Column::new("Status", "string", "Whether it is ready, and takes pods."),
        Column::new("Roles", "string", "What it is for."),
        super::AGE,
        Column::new("Version", "string", "Version of its kubelet."),
        Column::wide("Internal-IP", "string", "Its address among the nodes."),
        Column::wide("External-IP", "string", "Its address outside."),
        Column::wide("OS-Image", "string", "Its operating system."),
        Column::wide("Kernel-Version", "string", "Its kernel."),
        Column::wide("Container-Runtime", "string", "What runs its containers."),
    ];
    const FIELDS: &'static [Field] = &[Field::flag("spec.unschedulable")];

    fn quantities(&mut self, visit: &mut dyn FnMut(&mut QuantityText)) {
        if let Some(status) = &mut self.status {
            amounts::visit(&mut status.capacity, visit);
            amounts::visit(&mut status.allocatable, visit);
        }
    }

    fn fill(&mut self) {
        let spec = self.spec.get_or_insert_default();
        // One network or a list with it as the first; where they differ, the list of old clients is the single one.
        if text(&spec.pod_cidr).is_empty() {
            spec.pod_cidr = list(&spec.pod_cidrs).first().cloned();
        } else if list(&spec.pod_cidrs).first() != spec.pod_cidr.as_ref() {
            spec.pod_cidrs = spec.pod_cidr.clone().map(|cidr| vec![cidr]);
        }
        let status = self.status.get_or_insert_default();
        amounts::round(&mut status.capacity);
        amounts::round(&mut status.allocatable);
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
        status.daemon_endpoints.get_or_insert_default().kubelet_endpoint.get_or_insert_default();
        status.node_info.get_or_insert_default();
    }

    fn on_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }

    fn on_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self, errors: &mut Errors) {
        validate_both(self, errors);
        let spec = self.spec.clone().unwrap_or_default();
        let (cidrs, path) = (list(&spec.pod_cidrs), SPEC.child("podCIDRs"));
        let mut seen = BTreeSet::new();
        for (i, cidr) in cidrs.iter().enumerate() {
            if names::cidr(cidr).is_none() {
                let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.text(&path.index(i), cidr, why);
            }
            if !seen.insert(cidr) {
                errors.duplicate(&path.index(i), cidr);
            }
        }
        if cidrs.len() > 1 {
            let six = cidrs.iter().filter(|cidr| cidr.contains(':')).count();
            if cidrs.len() > 2 || six != 1 {
                errors.invalid(&path, shown(&cidrs), "may specify no more than one CIDR for each IP family");
            }
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        validate_both(self, errors);
        let (spec, before) = (self.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let status = self.status.clone().unwrap_or_default();
        let mut seen = BTreeSet::new();
        for (i, address) in list(&status.addresses).iter().enumerate() {
            if !seen.insert((address.type_.as_str(), address.address.as_str())) {
                errors.duplicate_value(&STATUS.child("addresses").index(i), shown(address));
            }
        }
        if !list(&before.pod_cidrs).is_empty() && list(&spec.pod_cidrs) != list(&before.pod_cidrs) {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&SPEC.child("podCIDRs"), why);
        }
        let provider = text(&before.provider_id);
        if !provider.is_empty() && provider != text(&spec.provider_id) {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(&SPEC.child("providerID"), why);
        }
        if text(&spec.external_id) != text(&before.external_id) {
            errors.forbidden(&SPEC.child("externalID"), "may not be updated");
        }
        if list(&before.pod_cidrs).is_empty() && !list(&spec.pod_cidrs).is_empty() {
            self.validate(errors);
        }
    }

    fn validate_status(&self, old: &Self, errors: &mut Errors) {
        self.validate_update(old, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let ready = list(&status.conditions).iter().find(|condition| condition.type_ == "Ready");
        let mut state = match ready.map(|condition| condition.status.as_str()) {
            Some("True") => "Ready".to_owned(),
            Some(_) => "NotReady".to_owned(),
            None => "Unknown".to_owned(),
        };
        if spec.unschedulable == Some(true) {
            state.push_str(",SchedulingDisabled");
        }
        let address = |kind: &str| {
            let found = list(&status.addresses).iter().find(|address| address.type_ == kind);
            found.map_or_else(|| "<none>".to_owned(), |address| address.address.clone())
        };
        let info = status.node_info.clone().unwrap_or_default();
        let or_unknown = |value: String| if value.is_empty() { "<unknown>".to_owned() } else { value };
        vec![
            self.name().into(),
            state.into(),
            super::service::or_none(roles(self.labels())),
            self.age(now),
            info.kubelet_version.into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            or_unknown(info.os_image).into(),
            or_unknown(info.kernel_version).into(),
            or_unknown(info.container_runtime_version).into(),
        ]
    }
}

fn roles(labels: &BTreeMap<String, String>) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in labels {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.insert(role),
            _ if key == "kubernetes.io/role" && !value.is_empty() => roles.insert(value.as_str()),
            Some(_) | None => false,
        };
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn validate_both(node: &Node, errors: &mut Errors) {
    let status = node.status.clone().unwrap_or_default();
    for (name, amounts) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (resource, amount) in amounts.iter().flatten() {
            amounts::validate_amount(resource, amount, &STATUS.child(name).child(resource), errors);
        }
    }
    validate_taints(node.spec.as_ref().map(|spec| list(&spec.taints)).unwrap_or_default(), errors);
}

fn validate_taints(taints: &[Taint], errors: &mut Errors) {
    // The path is upstream's, though taints are part of the spec.
    let path = METADATA.child("taints");
    let mut seen = BTreeSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        errors.texts(&path.child("key"), &taint.key, names::qualified_name(&taint.key));
        let value = text(&taint.value);
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.text(&path.child("value"), value, &wrong.join(";"));
        }
        pod::validate_effect(&taint.effect, &path.child("effect"), errors);
        if !seen.insert((taint.effect.as_str(), taint.key.as_str())) {
            let value = format!("{}: taints must be unique by key and effect pair", shown(taint));
            errors.duplicate_value(&path, value);
        }
    }
}
