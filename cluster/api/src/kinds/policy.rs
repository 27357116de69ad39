//! How pods may be disturbed: PodDisruptionBudgets and PriorityClasses.

use super::errors::{Errors, IMMUTABLE, METADATA, Path, SPEC, STATUS, shown, text};
use super::meta::validate_selector;
use super::{Kind, differs, next_generation};
use crate::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use crate::scheduling::v1::PriorityClass;
use crate::table::Column;
use crate::{IntOrString, ObjectExt, Timestamp, names};
use serde_json::Value;

/// Highest priority that a user may give.
const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;
/// Beginning of the names of Kubernetes' own priority classes.
const SYSTEM_PREFIX: &str = "system-";
/// Kubernetes' own priority classes.
const SYSTEM_CLASSES: &[(&str, i32)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// What is wrong with a number or percentage that is to be at least zero.
pub(super) fn validate_int_or_percent(value: &IntOrString, path: &Path<'_>, errors: &mut Errors) {
    match value {
        IntOrString::Int(number) => errors.non_negative(path, *number),
        IntOrString::String(percent) if names::percent(percent).is_none() => {
            errors.text(path, percent, &names::percent_form());
        }
        IntOrString::String(_) => {}
    }
}

/// What is wrong with a percentage of more than all.
pub(super) fn validate_at_most_all(value: &IntOrString, path: &Path<'_>, errors: &mut Errors) {
    if let IntOrString::String(percent) = value
        && names::percent(percent).is_some_and(|percent| percent > 100)
    {
        errors.text(path, percent, "must not be greater than 100%");
    }
}

impl Kind for PodDisruptionBudget {
    const COLUMNS: &'static [Column] = &[
        Column::names(),
        Column::new("Min Available", "string", "Pods that must stay."),
        Column::new("Max Unavailable", "string", "Pods that may be away."),
        Column::new("Allowed Disruptions", "integer", "Pods that may be disturbed now."),
        super::AGE,
    ];

    fn fill(&mut self) {
        self.spec.get_or_insert_default();
        self.status.get_or_insert_default();
    }

    fn on_create(&mut self) {
        self.status = Some(PodDisruptionBudgetStatus::default());
        self.metadata.generation = Some(1);
    }

    fn on_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
        if differs(&self.spec, &old.spec, "io.k8s.api.policy.v1.PodDisruptionBudgetSpec") {
            next_generation(&mut self.metadata, &old.metadata);
        }
    }

    fn on_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            errors.invalid(&SPEC, shown(spec), "minAvailable and maxUnavailable cannot be both set");
        }
        for (name, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                validate_int_or_percent(value, &SPEC.child(name), errors);
                validate_at_most_all(value, &SPEC.child(name), errors);
            }
        }
        if let Some(selector) = &spec.selector {
            validate_selector(selector, &SPEC.child("selector"), errors);
        }
        if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
            const KNOWN: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];
            if !KNOWN.contains(&policy.as_str()) {
                errors.not_supported(&SPEC.child("unhealthyPodEvictionPolicy"), policy, KNOWN);
            }
        }
    }

    fn validate_status(&self, _old: &Self, errors: &mut Errors) {
        let Some(status) = &self.status else { return };
        for (name, value) in [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ] {
            errors.non_negative(&STATUS.child(name), value);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let shown = |value: &Option<IntOrString>| match value {
            None => "N/A".to_owned(),
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(percent)) => percent.clone(),
        };
        vec![
            self.name().into(),
            shown(&spec.min_available).into(),
            shown(&spec.max_unavailable).into(),
            self.status.as_ref().map(|status| status.disruptions_allowed).unwrap_or_default().into(),
            self.age(now),
        ]
    }
}

impl Kind for PriorityClass {
    const COLUMNS: &'static [Column] = &[
        Column::names(),
        Column::new("Value", "integer", "The priority that it stands for."),
        Column::new("Global-Default", "boolean", "Whether pods without a class have it."),
        super::AGE,
        Column::new("PreemptionPolicy", "string", "Whether its pods may push others away."),
    ];

    fn fill(&mut self) {
        if text(&self.preemption_policy).is_empty() {
            self.preemption_policy = Some("PreemptLowerPriority".to_owned());
        }
    }

    fn on_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn validate(&self, errors: &mut Errors) {
        let name = self.name();
        if name.starts_with(SYSTEM_PREFIX) {
            let why = match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
                None => Some(format!("{name} is not a known system priority class")),
                Some((_, value)) if *value != self.value => {
                    Some(format!("value of {name} PriorityClass must be {value}"))
                }
                Some(_) if self.global_default == Some(true) => {
                    Some(format!("globalDefault of {name} PriorityClass must be false"))
                }
                Some(_) => None,
            };
            if let Some(why) = why {
                let why = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
                );
                errors.forbidden(&METADATA.child("name"), &why);
            }
        } else if self.value > HIGHEST_USER_PRIORITY {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
            errors.forbidden(&Path::Root("value"), &why);
        }
        let policy = text(&self.preemption_policy);
        errors.one_of(&Path::Root("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        if self.value != old.value {
            errors.forbidden(&Path::Root("value"), "may not be changed in an update.");
        }
        if self.preemption_policy != old.preemption_policy {
            errors.text(&Path::Root("preemptionPolicy"), text(&self.preemption_policy), IMMUTABLE);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.name().into(),
            self.value.into(),
            self.global_default.unwrap_or_default().into(),
            self.age(now),
            text(&self.preemption_policy).into(),
        ]
    }
}
