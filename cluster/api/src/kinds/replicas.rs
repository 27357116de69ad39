//! ReplicaSets and ReplicationControllers: the same thing with an old and a new selector.

use super::errors::{Errors, IMMUTABLE, SPEC, STATUS, shown, text};
use super::fields::Field;
use super::meta::{LABEL_SELECTOR, is_empty_selector, selector_text, selects, validate_labels, validate_selector};
use super::{Kind, differs, next_generation, pod};
use crate::apps::v1::{ReplicaSet, ReplicaSetStatus};
use crate::core::v1::{PodSpec, PodTemplateSpec, ReplicationController, ReplicationControllerStatus};
use crate::meta::v1::LabelSelector;
use crate::table::Column;
use crate::{ObjectExt, QuantityText, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;

const COLUMNS: &[Column] = &[
    Column::names(),
    Column::new("Desired", "integer", "Pods that there should be."),
    Column::new("Current", "integer", "Pods that there are."),
    Column::new("Ready", "integer", "Pods that are ready."),
    super::AGE,
    Column::wide("Containers", "string", "Containers of each pod."),
    Column::wide("Images", "string", "Images of the containers."),
    Column::wide("Selector", "string", "Labels of its pods."),
];

/// Fills in a template of pods.
pub(super) fn fill_template(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    pod::fill_spec(template.spec.get_or_insert_default());
}

/// What is wrong with a selector that says which pods are its owner's. The text says deployment for all of them.
pub(super) fn validate_own_selector(selector: &LabelSelector, errors: &mut Errors) {
    let path = SPEC.child("selector");
    if *selector == LabelSelector::default() {
        // An absent selector reads as an empty one here; it is what users forget.
        errors.required(&path, "");
    }
    validate_selector(selector, &path, errors);
    if is_empty_selector(selector) {
        errors.invalid(&path, shown(selector), "empty selector is invalid for deployment");
    }
}

/// What is wrong with a template of pods that are replaced for ever. `of` is who replaces them.
pub(super) fn validate_template(template: &PodTemplateSpec, selector: &LabelSelector, of: &str, errors: &mut Errors) {
    let path = SPEC.child("template");
    let none = BTreeMap::new();
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref()).unwrap_or(&none);
    if !is_empty_selector(selector) && !selects(selector, labels) {
        let why = "`selector` does not match template `labels`";
        errors.invalid(&path.child("metadata.labels"), shown(labels), why);
    }
    pod::validate_template(template, &path, errors);
    let Some(spec) = &template.spec else { return };
    let policy = text(&spec.restart_policy);
    if policy != "Always" {
        errors.not_supported(&path.child("spec.restartPolicy"), policy, &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        let why = format!("activeDeadlineSeconds in {of} is not Supported");
        errors.forbidden(&path.child("spec.activeDeadlineSeconds"), &why);
    }
}

/// Names and images of a template's containers, each with commas between.
pub(super) fn containers(spec: Option<&PodSpec>) -> (Value, Value) {
    let containers = spec.map(|spec| &spec.containers[..]).unwrap_or_default();
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    let images: Vec<&str> = containers.iter().map(|container| text(&container.image)).collect();
    (names.join(",").into(), images.join(",").into())
}

/// Counts of replicas in a status: none negative, none more than there are.
fn validate_counts(
    [replicas, labeled, ready, available]: [i32; 4],
    observed: Option<i64>,
    terminating: Option<i32>,
    errors: &mut Errors,
) {
    const WHY: &str = "cannot be greater than status.replicas";
    errors.non_negative(&STATUS.child("replicas"), replicas);
    let parts = [("fullyLabeledReplicas", labeled), ("readyReplicas", ready), ("availableReplicas", available)];
    for (name, count) in parts {
        errors.non_negative(&STATUS.child(name), count);
    }
    errors.non_negative(&STATUS.child("observedGeneration"), observed.unwrap_or_default());
    errors.non_negative(&STATUS.child("terminatingReplicas"), terminating.unwrap_or_default());
    for (name, count) in parts {
        if count > replicas {
            errors.invalid(&STATUS.child(name), count, WHY);
        }
    }
    if available > ready {
        errors.invalid(&STATUS.child("availableReplicas"), available, "cannot be greater than readyReplicas");
    }
}

impl Kind for ReplicaSet {
    const COLUMNS: &'static [Column] = COLUMNS;
    const FIELDS: &'static [Field] = &[Field::number("status.replicas")];

    fn quantities(&mut self, visit: &mut dyn FnMut(&mut QuantityText)) {
        pod::visit_template(self.spec.as_mut().and_then(|spec| spec.template.as_mut()), visit);
    }

    fn fill(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        fill_template(spec.template.get_or_insert_default());
        self.status.get_or_insert_default();
    }

    fn on_create(&mut self) {
        self.status = Some(ReplicaSetStatus::default());
        self.metadata.generation = Some(1);
    }

    fn on_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
        if differs(&self.spec, &old.spec, "io.k8s.api.apps.v1.ReplicaSetSpec") {
            next_generation(&mut self.metadata, &old.metadata);
        }
    }

    fn on_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        errors.non_negative(&SPEC.child("replicas"), spec.replicas.unwrap_or_default());
        errors.non_negative(&SPEC.child("minReadySeconds"), spec.min_ready_seconds.unwrap_or_default());
        validate_own_selector(&spec.selector, errors);
        if let Some(template) = &spec.template {
            validate_template(template, &spec.selector, "ReplicaSet", errors);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        self.validate(errors);
        if let (Some(new), Some(old)) = (&self.spec, &old.spec)
            && differs(&new.selector, &old.selector, LABEL_SELECTOR)
        {
            errors.invalid(&SPEC.child("selector"), shown(&new.selector), IMMUTABLE);
        }
    }

    fn validate_status(&self, _old: &Self, errors: &mut Errors) {
        let status = self.status.clone().unwrap_or_default();
        let counts = [
            status.replicas,
            status.fully_labeled_replicas.unwrap_or_default(),
            status.ready_replicas.unwrap_or_default(),
            status.available_replicas.unwrap_or_default(),
        ];
        validate_counts(counts, status.observed_generation, status.terminating_replicas, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let (names, images) = containers(spec.template.as_ref().and_then(|template| template.spec.as_ref()));
        vec![
            self.name().into(),
            spec.replicas.unwrap_or_default().into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or_default().into(),
            self.age(now),
            names,
            images,
            selector_text(Some(&spec.selector)).into(),
        ]
    }
}

/// An old selector as a new one.
pub(super) fn selector_of(labels: Option<&BTreeMap<String, String>>) -> LabelSelector {
    LabelSelector { match_expressions: None, match_labels: labels.cloned() }
}

impl Kind for ReplicationController {
    const COLUMNS: &'static [Column] = COLUMNS;
    const FIELDS: &'static [Field] = &[Field::number("status.replicas"), Field::alias("name", "metadata.name")];

    fn quantities(&mut self, visit: &mut dyn FnMut(&mut QuantityText)) {
        pod::visit_template(self.spec.as_mut().and_then(|spec| spec.template.as_mut()), visit);
    }

    fn fill(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        if let Some(template) = &mut spec.template {
            fill_template(template);
            let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
            if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
                if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
                    spec.selector = Some(labels.clone());
                }
                if self.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
                    self.metadata.labels = Some(labels);
                }
            }
        }
        self.status.get_or_insert_default();
    }

    fn on_create(&mut self) {
        self.status = Some(ReplicationControllerStatus::default());
        self.metadata.generation = Some(1);
    }

    fn on_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
        if differs(&self.spec, &old.spec, "io.k8s.api.core.v1.ReplicationControllerSpec") {
            next_generation(&mut self.metadata, &old.metadata);
        }
    }

    fn on_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        errors.non_negative(&SPEC.child("minReadySeconds"), spec.min_ready_seconds.unwrap_or_default());
        match spec.selector.as_ref().filter(|selector| !selector.is_empty()) {
            None => errors.required(&SPEC.child("selector"), ""),
            Some(selector) => validate_labels(selector, &SPEC.child("selector"), errors),
        }
        errors.non_negative(&SPEC.child("replicas"), spec.replicas.unwrap_or_default());
        match &spec.template {
            None => errors.required(&SPEC.child("template"), ""),
            Some(template) => {
                validate_template(template, &selector_of(spec.selector.as_ref()), "ReplicationController", errors);
            }
        }
    }

    fn validate_status(&self, _old: &Self, errors: &mut Errors) {
        let status = self.status.clone().unwrap_or_default();
        let counts = [
            status.replicas,
            status.fully_labeled_replicas.unwrap_or_default(),
            status.ready_replicas.unwrap_or_default(),
            status.available_replicas.unwrap_or_default(),
        ];
        validate_counts(counts, status.observed_generation, None, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let (names, images) = containers(spec.template.as_ref().and_then(|template| template.spec.as_ref()));
        vec![
            self.name().into(),
            spec.replicas.unwrap_or_default().into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or_default().into(),
            self.age(now),
            names,
            images,
            selector_text(Some(&selector_of(spec.selector.as_ref()))).into(),
        ]
    }
}
