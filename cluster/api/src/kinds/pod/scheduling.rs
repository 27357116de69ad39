//! What is wrong with where a pod wants to run: affinity, tolerations, spread; and what labels of the pod itself add to it.

use super::super::errors::{Errors, Path, list, text};
use super::super::meta::{validate_labels, validate_selector};
use crate::core::v1::{
    Affinity, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use crate::meta::v1::{LabelSelector, LabelSelectorRequirement};
use crate::names;
use std::collections::{BTreeMap, BTreeSet};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// Effects of a taint.
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// What is wrong with all of it. `is_pod`: keys of labels to match are already part of the selectors then.
pub(super) fn validate(spec: &PodSpec, is_pod: bool, path: &Path<'_>, errors: &mut Errors) {
    if let Some(selector) = &spec.node_selector {
        validate_labels(selector, &path.child("nodeSelector"), errors);
    }
    if let Some(affinity) = &spec.affinity {
        validate_affinity(affinity, is_pod, &path.child("affinity"), errors);
    }
    validate_spread(list(&spec.topology_spread_constraints), is_pod, &path.child("topologySpreadConstraints"), errors);
    validate_tolerations(list(&spec.tolerations), &path.child("tolerations"), errors);
}

fn validate_affinity(affinity: &Affinity, is_pod: bool, path: &Path<'_>, errors: &mut Errors) {
    if let Some(nodes) = &affinity.node_affinity {
        validate_node_affinity(nodes, &path.child("nodeAffinity"), errors);
    }
    let pods = affinity.pod_affinity.as_ref();
    let anti = affinity.pod_anti_affinity.as_ref();
    for (name, required, preferred) in [
        (
            "podAffinity",
            pods.map(|pods| &pods.required_during_scheduling_ignored_during_execution),
            pods.map(|pods| &pods.preferred_during_scheduling_ignored_during_execution),
        ),
        (
            "podAntiAffinity",
            anti.map(|pods| &pods.required_during_scheduling_ignored_during_execution),
            anti.map(|pods| &pods.preferred_during_scheduling_ignored_during_execution),
        ),
    ] {
        let path = path.child(name);
        let all = path.child(REQUIRED);
        for (i, term) in required.map(list).unwrap_or_default().iter().enumerate() {
            validate_pod_term(term, is_pod, &all.index(i), errors);
        }
        let all = path.child(PREFERRED);
        for (i, WeightedPodAffinityTerm { pod_affinity_term, weight }) in
            preferred.map(list).unwrap_or_default().iter().enumerate()
        {
            let path = all.index(i);
            validate_weight(*weight, &path, errors);
            validate_pod_term(pod_affinity_term, is_pod, &path.child("podAffinityTerm"), errors);
        }
    }
}

fn validate_weight(weight: i32, path: &Path<'_>, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn validate_node_affinity(nodes: &NodeAffinity, path: &Path<'_>, errors: &mut Errors) {
    if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
        let path = path.child(REQUIRED);
        let terms = path.child("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            errors.required(&terms, "must have at least one node selector term");
        }
        for (i, term) in required.node_selector_terms.iter().enumerate() {
            validate_node_term(term, true, &terms.index(i), errors);
        }
    }
    let all = path.child(PREFERRED);
    for (i, term) in list(&nodes.preferred_during_scheduling_ignored_during_execution).iter().enumerate() {
        let path = all.index(i);
        validate_weight(term.weight, &path, errors);
        // A value that no label can have merely never matches, and is let through in a preference.
        validate_node_term(&term.preference, false, &path.child("preference"), errors);
    }
}

fn validate_node_term(term: &NodeSelectorTerm, check_values: bool, path: &Path<'_>, errors: &mut Errors) {
    let expressions = path.child("matchExpressions");
    for (i, requirement) in list(&term.match_expressions).iter().enumerate() {
        validate_node_requirement(requirement, check_values, &expressions.index(i), errors);
    }
    let fields = path.child("matchFields");
    for (i, requirement) in list(&term.match_fields).iter().enumerate() {
        let path = fields.index(i);
        let values = list(&requirement.values);
        match requirement.operator.as_str() {
            "In" | "NotIn" => {
                if values.len() != 1 {
                    let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                    errors.required(&path.child("values"), why);
                }
            }
            other => errors.text(&path.child("operator"), other, "not a valid selector operator"),
        }
        if requirement.key == "metadata.name" {
            for (j, value) in values.iter().enumerate() {
                errors.texts(&path.child("values").index(j), value, names::dns1123_subdomain(value));
            }
        } else {
            errors.text(&path.child("key"), &requirement.key, "not a valid field selector key");
        }
    }
}

fn validate_node_requirement(
    requirement: &NodeSelectorRequirement,
    check_values: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let values = list(&requirement.values);
    let values_path = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                errors.forbidden(&values_path, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                errors.required(&values_path, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
        }
        other => errors.text(&path.child("operator"), other, "not a valid selector operator"),
    }
    errors.texts(&path.child("key"), &requirement.key, names::qualified_name(&requirement.key));
    if check_values {
        for (i, value) in values.iter().enumerate() {
            errors.texts(&values_path.index(i), value, names::label_value(value));
        }
    }
}

fn validate_topology_key(key: &str, path: &Path<'_>, errors: &mut Errors) {
    if key.is_empty() {
        errors.required(path, "can not be empty");
    } else {
        errors.texts(path, key, names::qualified_name(key));
    }
}

fn validate_pod_term(term: &PodAffinityTerm, is_pod: bool, path: &Path<'_>, errors: &mut Errors) {
    if let Some(selector) = &term.label_selector {
        validate_selector(selector, &path.child("labelSelector"), errors);
    }
    if let Some(selector) = &term.namespace_selector {
        validate_selector(selector, &path.child("namespaceSelector"), errors);
    }
    for name in list(&term.namespaces) {
        errors.texts(&path.child("namespace"), name, names::dns1123_label(name));
    }
    for (name, keys) in [("matchLabelKeys", &term.match_label_keys), ("mismatchLabelKeys", &term.mismatch_label_keys)] {
        validate_label_keys(list(keys), term.label_selector.as_ref(), is_pod, name, path, errors);
    }
    validate_topology_key(&term.topology_key, &path.child("topologyKey"), errors);
}

fn validate_label_keys(
    keys: &[String],
    selector: Option<&LabelSelector>,
    is_pod: bool,
    name: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let path = path.child(name);
    let Some(selector) = selector else {
        if !keys.is_empty() {
            errors.forbidden(&path, "must not be specified when labelSelector is not set");
        }
        return;
    };
    for (i, key) in keys.iter().enumerate() {
        errors.texts(&path.index(i), key, names::qualified_name(key));
        let labels = selector.match_labels.as_ref();
        let known = labels.is_some_and(|labels| labels.contains_key(key))
            || list(&selector.match_expressions).iter().any(|requirement| requirement.key == *key);
        if known && !is_pod {
            errors.text(&path.index(i), key, &format!("exists in both {name} and labelSelector"));
        }
    }
}

fn validate_spread(constraints: &[TopologySpreadConstraint], is_pod: bool, path: &Path<'_>, errors: &mut Errors) {
    const ACTIONS: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];
    const POLICIES: &[&str] = &["Honor", "Ignore"];
    let mut seen = BTreeSet::new();
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        if constraint.max_skew <= 0 {
            errors.invalid(&path.child("maxSkew"), constraint.max_skew, "must be greater than zero");
        }
        validate_topology_key(&constraint.topology_key, &path.child("topologyKey"), errors);
        let action = constraint.when_unsatisfiable.as_str();
        if !ACTIONS.contains(&action) {
            errors.not_supported(&path.child("whenUnsatisfiable"), action, ACTIONS);
        }
        if !seen.insert((constraint.topology_key.as_str(), action)) {
            let pair = format!("{{{}, {action}}}", constraint.topology_key);
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), &pair);
        }
        if let Some(domains) = constraint.min_domains {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.invalid(&path, domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&path, domains, &why);
            }
        }
        for (name, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            if let Some(policy) = policy.as_deref().filter(|policy| !POLICIES.contains(policy)) {
                errors.not_supported(&path.child(name), policy, POLICIES);
            }
        }
        let keys = list(&constraint.match_label_keys);
        validate_label_keys(keys, constraint.label_selector.as_ref(), is_pod, "matchLabelKeys", &path, errors);
        if let Some(selector) = &constraint.label_selector {
            validate_selector(selector, &path.child("labelSelector"), errors);
        }
    }
}

/// What is wrong with tolerations.
pub(super) fn validate_tolerations(tolerations: &[Toleration], path: &Path<'_>, errors: &mut Errors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.index(i);
        let (key, operator) = (text(&toleration.key), text(&toleration.operator));
        let (value, effect) = (text(&toleration.value), text(&toleration.effect));
        if !key.is_empty() {
            errors.texts(&path.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.text(&path.child("operator"), operator, why);
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            errors.text(&path.child("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.text(&path.child("operator"), value, &wrong.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    errors.text(&path.child("operator"), value, "value must be empty when `operator` is 'Exists'");
                }
            }
            other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, EFFECTS);
        }
    }
}

/// What is wrong with the effect of a taint.
pub(in super::super) fn validate_effect(effect: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.one_of(path, effect, EFFECTS);
}

/// Adds the pod's own labels to selectors that name keys of labels to match, as a create does, once and for all.
pub(super) fn merge_label_keys(spec: &mut PodSpec, labels: &BTreeMap<String, String>) {
    if let Some(affinity) = &mut spec.affinity {
        let pods = affinity.pod_affinity.iter_mut().flat_map(|pods| {
            let preferred = pods.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
            let required = pods.required_during_scheduling_ignored_during_execution.iter_mut().flatten();
            required.chain(preferred.map(|term| &mut term.pod_affinity_term))
        });
        let anti = affinity.pod_anti_affinity.iter_mut().flat_map(|pods| {
            let preferred = pods.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
            let required = pods.required_during_scheduling_ignored_during_execution.iter_mut().flatten();
            required.chain(preferred.map(|term| &mut term.pod_affinity_term))
        });
        for term in pods.chain(anti) {
            merge(term.label_selector.as_mut(), list(&term.match_label_keys), "In", labels);
            merge(term.label_selector.as_mut(), list(&term.mismatch_label_keys), "NotIn", labels);
        }
    }
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        merge(constraint.label_selector.as_mut(), list(&constraint.match_label_keys), "In", labels);
    }
}

fn merge(selector: Option<&mut LabelSelector>, keys: &[String], operator: &str, labels: &BTreeMap<String, String>) {
    let Some(selector) = selector else { return };
    for key in keys {
        if let Some(value) = labels.get(key) {
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    }
}
