//! Deployments.

use super::errors::{Errors, IMMUTABLE, Path, SPEC, STATUS, shown, text};
use super::meta::{LABEL_SELECTOR, selector_text};
use super::policy::{validate_at_most_all, validate_int_or_percent};
use super::{Kind, differs, next_generation, pod, replicas};
use crate::apps::v1::{Deployment, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment};
use crate::table::Column;
use crate::{IntOrString, ObjectExt, QuantityText, Timestamp, names};
use serde_json::Value;

/// Old ReplicaSets that are kept to go back to.
const REVISION_HISTORY_LIMIT: i32 = 10;
/// How long a rollout may stand still, in seconds.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;
/// How many pods may be away or too many during a rollout.
const ROLLING: &str = "25%";

impl Kind for Deployment {
    const COLUMNS: &'static [Column] = &[
        Column::names(),
        Column::new("Ready", "string", "Pods that are ready, of those that should be."),
        Column::new("Up-to-date", "string", "Pods of the latest template."),
        Column::new("Available", "string", "Pods that have been ready for long enough."),
        super::AGE,
        Column::wide("Containers", "string", "Containers of each pod."),
        Column::wide("Images", "string", "Images of the containers."),
        Column::wide("Selector", "string", "Labels of its pods."),
    ];

    fn quantities(&mut self, visit: &mut dyn FnMut(&mut QuantityText)) {
        pod::visit_template(self.spec.as_mut().map(|spec| &mut spec.template), visit);
    }

    fn fill(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(REVISION_HISTORY_LIMIT);
        spec.progress_deadline_seconds.get_or_insert(PROGRESS_DEADLINE_SECONDS);
        let strategy = spec.strategy.get_or_insert_default();
        if text(&strategy.type_).is_empty() {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if text(&strategy.type_) == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            for value in [&mut rolling.max_surge, &mut rolling.max_unavailable] {
                value.get_or_insert_with(|| IntOrString::String(ROLLING.to_owned()));
            }
        }
        replicas::fill_template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn on_create(&mut self) {
        self.status = Some(DeploymentStatus::default());
        self.metadata.generation = Some(1);
    }

    fn on_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
        // Annotations count too: they are copied to ReplicaSets.
        if self.annotations() != old.annotations()
            || differs(&self.spec, &old.spec, "io.k8s.api.apps.v1.DeploymentSpec")
        {
            next_generation(&mut self.metadata, &old.metadata);
        }
    }

    fn on_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        self.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        errors.non_negative(&SPEC.child("replicas"), spec.replicas.unwrap_or_default());
        replicas::validate_own_selector(&spec.selector, errors);
        replicas::validate_template(&spec.template, &spec.selector, "ReplicaSet", errors);
        if let Some(strategy) = &spec.strategy {
            validate_strategy(strategy, &SPEC.child("strategy"), errors);
        }
        let min_ready = spec.min_ready_seconds.unwrap_or_default();
        errors.non_negative(&SPEC.child("minReadySeconds"), min_ready);
        errors.non_negative(&SPEC.child("revisionHistoryLimit"), spec.revision_history_limit.unwrap_or_default());
        if let Some(seconds) = spec.progress_deadline_seconds {
            let path = SPEC.child("progressDeadlineSeconds");
            errors.non_negative(&path, seconds);
            if seconds <= min_ready {
                errors.invalid(&path, seconds, "must be greater than minReadySeconds");
            }
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

    fn validate_status(&self, old: &Self, errors: &mut Errors) {
        let (status, before) = (self.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
        validate_status(&status, &before, errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let (names, images) = replicas::containers(spec.template.spec.as_ref());
        vec![
            self.name().into(),
            format!("{}/{}", status.ready_replicas.unwrap_or_default(), spec.replicas.unwrap_or_default()).into(),
            status.updated_replicas.unwrap_or_default().into(),
            status.available_replicas.unwrap_or_default().into(),
            self.age(now),
            names,
            images,
            selector_text(Some(&spec.selector)).into(),
        ]
    }
}

fn validate_strategy(strategy: &DeploymentStrategy, path: &Path<'_>, errors: &mut Errors) {
    let rolling = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", Some(_)) => errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'"),
        ("Recreate", None) => {}
        ("RollingUpdate", Some(update)) => validate_rolling(update, &rolling, errors),
        ("RollingUpdate", None) => errors.required(&rolling, "this should be defaulted and never be nil"),
        (other, _) => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

fn validate_rolling(update: &RollingUpdateDeployment, path: &Path<'_>, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = update.max_surge.as_ref().unwrap_or(&zero);
    let path_unavailable = path.child("maxUnavailable");
    validate_int_or_percent(unavailable, &path_unavailable, errors);
    validate_int_or_percent(surge, &path.child("maxSurge"), errors);
    if amount(unavailable) == 0 && amount(surge) == 0 {
        errors.invalid(&path_unavailable, shown(unavailable), "may not be 0 when `maxSurge` is 0");
    }
    validate_at_most_all(unavailable, &path_unavailable, errors);
}

/// The number, of pods or per cent; what is neither reads as none.
fn amount(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(percent) => names::percent(percent).unwrap_or_default(),
    }
}

fn validate_status(status: &DeploymentStatus, before: &DeploymentStatus, errors: &mut Errors) {
    const WHY: &str = "cannot be greater than status.replicas";
    let replicas = status.replicas.unwrap_or_default();
    let (ready, available) = (status.ready_replicas.unwrap_or_default(), status.available_replicas.unwrap_or_default());
    let parts = [
        ("updatedReplicas", status.updated_replicas.unwrap_or_default()),
        ("readyReplicas", ready),
        ("availableReplicas", available),
    ];
    errors.non_negative(&STATUS.child("observedGeneration"), status.observed_generation.unwrap_or_default());
    errors.non_negative(&STATUS.child("replicas"), replicas);
    for (name, count) in parts {
        errors.non_negative(&STATUS.child(name), count);
    }
    errors.non_negative(&STATUS.child("unavailableReplicas"), status.unavailable_replicas.unwrap_or_default());
    errors.non_negative(&STATUS.child("terminatingReplicas"), status.terminating_replicas.unwrap_or_default());
    let (collisions, were) = (status.collision_count, before.collision_count.unwrap_or_default());
    errors.non_negative(&STATUS.child("collisionCount"), collisions.unwrap_or_default());
    for (name, count) in parts {
        if count > replicas {
            errors.invalid(&STATUS.child(name), count, WHY);
        }
    }
    if available > ready {
        errors.invalid(&STATUS.child("availableReplicas"), available, "cannot be greater than readyReplicas");
    }
    if collisions.unwrap_or_default() < were {
        let value = collisions.map_or_else(|| "null".to_owned(), |count| count.to_string());
        errors.invalid(&STATUS.child("collisionCount"), value, "cannot be decremented");
    }
}
