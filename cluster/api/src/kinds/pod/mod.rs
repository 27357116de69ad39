//! Pods.

mod containers;
mod defaults;
mod handlers;
mod print;
mod scheduling;
mod spec;
#[cfg(test)]
mod tests;
mod update;
mod volumes;

pub(super) use containers::{validate_port, validate_port_number};
pub(super) use defaults::{fill_spec, is_unset};
pub(super) use scheduling::validate_effect;
pub(super) use spec::validate_template;

use super::errors::{Errors, METADATA, SPEC, list, text};
use super::fields::Field;
use super::{Kind, amounts, differs, next_generation};
use crate::core::v1::{Binding, Pod, PodCondition, PodSpec, PodStatus, PodTemplateSpec};
use crate::object::seconds;
use crate::resource::Resource;
use crate::status::{FieldError, Status};
use crate::table::Column;
use crate::{ObjectExt, QuantityText, Time, Timestamp};
use serde::Deserialize;
use serde_json::Value;

impl Kind for Pod {
    const COLUMNS: &'static [Column] = print::COLUMNS;
    const FIELDS: &'static [Field] = &[
        Field::text("spec.nodeName"),
        Field::text("spec.restartPolicy"),
        Field::text("spec.schedulerName"),
        Field::text("spec.serviceAccountName"),
        Field::flag("spec.hostNetwork"),
        Field::text("status.phase"),
        Field::text("status.podIP"),
        Field::with("status.podIPs", |pod| super::fields::at(pod, "status.podIP", ""), &["status.podIP"]),
        Field::text("status.nominatedNodeName"),
        // The name of the field in the first beta.
        Field::alias("spec.host", "spec.nodeName"),
    ];

    fn quantities(&mut self, visit: &mut dyn FnMut(&mut QuantityText)) {
        if let Some(spec) = &mut self.spec {
            visit_spec(spec, visit);
        }
    }

    fn fill(&mut self) {
        defaults::fill_pod(self);
    }

    fn on_create(&mut self) {
        self.metadata.generation = Some(1);
        let labels = self.labels().clone();
        let spec = self.spec.get_or_insert_default();
        scheduling::merge_label_keys(spec, &labels);
        let mut status = PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(defaults::qos_class(spec).to_owned()),
            ..PodStatus::default()
        };
        if !list(&spec.scheduling_gates).is_empty() {
            status.conditions = Some(vec![PodCondition {
                type_: "PodScheduled".to_owned(),
                status: "False".to_owned(),
                reason: Some("SchedulingGated".to_owned()),
                message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
                ..PodCondition::default()
            }]);
        }
        self.status = Some(status);
    }

    fn on_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
        if differs(&self.spec, &old.spec, "io.k8s.api.core.v1.PodSpec") {
            next_generation(&mut self.metadata, &old.metadata);
        }
    }

    fn on_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        self.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
        self.metadata.owner_references.clone_from(&old.metadata.owner_references);
        let (status, before) = (self.status.get_or_insert_default(), old.status.as_ref());
        if text(&status.qos_class).is_empty() {
            status.qos_class = before.and_then(|before| before.qos_class.clone());
        }
        // A component that does not know the field must not take it away.
        if status.observed_generation.is_none() {
            status.observed_generation = before.and_then(|before| before.observed_generation);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        spec::validate_own_annotations(self.annotations(), &METADATA.child("annotations"), errors);
        spec::validate(spec, true, &SPEC, errors);
        let init = list(&spec.init_containers);
        for (name, containers) in [("containers", &spec.containers[..]), ("initContainers", init)] {
            for (i, container) in containers.iter().enumerate() {
                let image = text(&container.image);
                if image.trim() != image {
                    let path = SPEC.child(name);
                    errors.text(&path.index(i).child("image"), image, "must not have leading or trailing whitespace");
                }
            }
        }
        if !list(&spec.ephemeral_containers).is_empty() {
            errors.forbidden(&SPEC.child("ephemeralContainers"), "cannot be set on create");
        }
        if !text(&spec.node_name).is_empty() && !list(&spec.scheduling_gates).is_empty() {
            errors.forbidden(&SPEC.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        update::validate(self, old, errors);
    }

    fn validate_status(&self, old: &Self, errors: &mut Errors) {
        update::validate_status(self, old, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        print::cells(self, now)
    }
}

/// Shows every quantity of a template.
pub(super) fn visit_template(template: Option<&mut PodTemplateSpec>, visit: &mut dyn FnMut(&mut QuantityText)) {
    if let Some(spec) = template.and_then(|template| template.spec.as_mut()) {
        visit_spec(spec, visit);
    }
}

fn visit_spec(spec: &mut PodSpec, visit: &mut dyn FnMut(&mut QuantityText)) {
    amounts::visit(&mut spec.overhead, visit);
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    for resources in containers.filter_map(|container| container.resources.as_mut()).chain(spec.resources.as_mut()) {
        amounts::visit(&mut resources.limits, visit);
        amounts::visit(&mut resources.requests, visit);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(limit) = volume.empty_dir.as_mut().and_then(|dir| dir.size_limit.as_mut()) {
            visit(limit);
        }
    }
}

/// The pod bound to the node that `binding` names: what `pods/binding` stores. `now` is when the condition says it was.
///
/// # Errors
/// 400 or 422 for a bad binding, 409 for a pod that is bound, being deleted, gated, or another than was meant: whoever
/// schedules looks at the pod again.
pub fn bind(resource: &Resource, pod: &Value, binding: &Value, now: Timestamp) -> Result<Value, Status> {
    let binding = Binding::deserialize(binding).map_err(|error| Status::bad_request(error.to_string()))?;
    let mut pod = Pod::deserialize(pod).map_err(Status::internal)?;
    let target = &binding.target;
    let node = text(&target.name).to_owned();
    let mut wrong = Vec::new();
    let kind = text(&target.kind);
    if !matches!(kind, "" | "Node") {
        wrong.push(FieldError::not_supported("target.kind", format_args!("{kind:?}"), &["Node", "<empty>"]));
    }
    if node.is_empty() {
        wrong.push(FieldError::required("target.name", ""));
    }
    if !wrong.is_empty() {
        let mut status = Status::invalid(resource, binding.name(), &wrong);
        status.message = status.message.replacen("Pod ", "Binding ", 1);
        status.details.kind = Some("Binding".to_owned());
        return Err(status);
    }
    let name = pod.name().to_owned();
    let conflict = |why: String| {
        let message = format!("Operation cannot be fulfilled on pods/binding {name:?}: {why}");
        Status::new(409, "Conflict", message).about(resource, &name)
    };
    let uid = binding.uid();
    if !uid.is_empty() && uid != pod.uid() {
        mark::sometimes!("binding meant an earlier pod of the name");
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", pod.uid());
        return Err(conflict(why));
    }
    if pod.is_terminating() {
        mark::sometimes!("binding of a pod being deleted");
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let spec = pod.spec.get_or_insert_default();
    if !text(&spec.node_name).is_empty() {
        mark::sometimes!("binding of a bound pod");
        return Err(conflict(format!("pod {name} is already assigned to node {:?}", text(&spec.node_name))));
    }
    if !list(&spec.scheduling_gates).is_empty() {
        return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    spec.node_name = Some(node);
    for (add, to) in [
        (&binding.metadata.annotations, &mut pod.metadata.annotations),
        (&binding.metadata.labels, &mut pod.metadata.labels),
    ] {
        if let Some(add) = add {
            to.get_or_insert_default().extend(add.clone());
        }
    }
    set_scheduled(pod.status.get_or_insert_default(), seconds(now));
    serde_json::to_value(pod).map_err(Status::internal)
}

fn set_scheduled(status: &mut PodStatus, now: Time) {
    status.nominated_node_name = None;
    let conditions = status.conditions.get_or_insert_default();
    let kept = conditions.iter().position(|condition| condition.type_ == "PodScheduled");
    let condition = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(now),
        ..PodCondition::default()
    };
    match kept {
        Some(i) if conditions[i].status == "True" => {}
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
}
