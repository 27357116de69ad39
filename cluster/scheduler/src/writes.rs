//! What is written about a pod, as values: bindings, conditions, nominations, Events.

use crate::message::truncated;
use crate::pod::PodInfo;
use crate::preemption::{DISRUPTION_TARGET, PREEMPTED};
use crate::schedule::Nomination;
use api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use api::object::seconds;
use api::resource::Subresource;
use api::{ObjectExt, ObjectMeta, Timestamp};
use client::plan::reference;
use client::{Note, Write};
use serde::Serialize;

const SCHEDULED: &str = "PodScheduled";
/// Upstream's message of a pod whose gates keep it back.
const GATED: &str = "Scheduling is blocked due to non-empty scheduling gates";

/// Binds a pod to a node, if it still is the pod of that UID.
pub fn bind(pod: &Pod, node: &str) -> Write {
    let some = |text: &str| Some(text.to_owned());
    let metadata = ObjectMeta {
        name: some(pod.name()),
        namespace: some(pod.namespace()),
        uid: some(pod.uid()),
        ..ObjectMeta::default()
    };
    let target = ObjectReference { kind: some("Node"), name: some(node), ..ObjectReference::default() };
    Write::create_subresource(pod, Subresource::Binding, &Binding { metadata, target })
}

/// Says on a pod why it fits nowhere, and which node is held for it. `None` if it says so already.
pub fn unschedulable(pod: &Pod, message: &str, nomination: &Nomination, now: Timestamp) -> Option<Write> {
    let held = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default();
    let nominated = match nomination {
        Nomination::Keep => None,
        Nomination::Clear => (!held.is_empty()).then_some(None),
        Nomination::Preempt(preemption) => (held != &*preemption.node).then(|| Some(preemption.node.to_string())),
    };
    let conditions = with_condition(pod, not_scheduled(pod, "Unschedulable", message), now);
    if conditions.is_none() && nominated.is_none() {
        return None;
    }
    Some(patch(pod, Fields { conditions, nominated }))
}

/// Says on a pod that its gates keep it back. `None` if it says so already.
pub fn gated(pod: &Pod, now: Timestamp) -> Option<Write> {
    let conditions = with_condition(pod, not_scheduled(pod, "SchedulingGated", GATED), now)?;
    Some(patch(pod, Fields { conditions: Some(conditions), nominated: None }))
}

/// Whether a pod says that its gates keep it back.
pub fn says_gated(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == SCHEDULED && it.reason.as_deref() == Some("SchedulingGated"))
}

/// Says on a pod that no node is held for it any more. `None` if it says so already.
pub fn no_longer_nominated(pod: &Pod) -> Option<Write> {
    let held = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default();
    (!held.is_empty()).then(|| patch(pod, Fields { conditions: None, nominated: Some(None) }))
}

/// Says on a pod that it has to go for another. `None` if it says so already.
pub fn preempted(victim: &Pod, scheduler: &str, now: Timestamp) -> Option<Write> {
    let condition = PodCondition {
        type_: DISRUPTION_TARGET.to_owned(),
        status: "True".to_owned(),
        reason: Some(PREEMPTED.to_owned()),
        message: Some(format!("{scheduler}: preempting to accommodate a higher priority pod")),
        observed_generation: generation(victim),
        ..PodCondition::default()
    };
    let conditions = with_condition(victim, condition, now)?;
    Some(patch(victim, Fields { conditions: Some(conditions), nominated: None }))
}

/// Event of a pod that was bound.
pub fn note_scheduled(pod: &PodInfo, node: &str) -> Note {
    let message = format!("Successfully assigned {} to {node}", pod.key());
    Note { regarding: reference(&*pod.pod), warning: false, reason: "Scheduled", message }
}

/// Event of a pod that fits nowhere.
pub fn note_failed(pod: &PodInfo, message: &str) -> Note {
    Note { regarding: reference(&*pod.pod), warning: true, reason: "FailedScheduling", message: truncated(message) }
}

/// Event of a pod that has to go for another.
pub fn note_preempted(victim: &PodInfo, by: &PodInfo, node: &str) -> Note {
    let message = format!("Preempted by pod {} on node {node}", by.uid);
    Note { regarding: reference(&*victim.pod), warning: false, reason: "Preempted", message }
}

fn not_scheduled(pod: &Pod, reason: &str, message: &str) -> PodCondition {
    PodCondition {
        type_: SCHEDULED.to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        observed_generation: generation(pod),
        ..PodCondition::default()
    }
}

fn generation(pod: &Pod) -> Option<i64> {
    Some(pod.generation()).filter(|generation| *generation > 0)
}

/// The pod's conditions with one put in its place; `None` if nothing changes. The time of transition stays unless the
/// condition's status changes.
fn with_condition(pod: &Pod, mut condition: PodCondition, now: Timestamp) -> Option<Vec<PodCondition>> {
    let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    condition.last_transition_time = Some(seconds(now));
    match conditions.iter_mut().find(|it| it.type_ == condition.type_) {
        None => conditions.push(condition),
        Some(old) => {
            if old.status == condition.status {
                condition.last_transition_time.clone_from(&old.last_transition_time);
            }
            condition.last_probe_time.clone_from(&old.last_probe_time);
            if *old == condition {
                return None;
            }
            *old = condition;
        }
    }
    Some(conditions)
}

#[derive(Serialize)]
struct StatusPatch {
    metadata: Precondition,
    status: Fields,
}

/// A merge replaces the whole list of conditions, so it may only meet the version whose list it took over.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Precondition {
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
}

#[derive(Serialize)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    conditions: Option<Vec<PodCondition>>,
    /// Inside, none means that none is named any more.
    #[serde(rename = "nominatedNodeName", skip_serializing_if = "Option::is_none")]
    nominated: Option<Option<String>>,
}

fn patch(pod: &Pod, status: Fields) -> Write {
    let metadata = Precondition { uid: pod.uid().to_owned(), resource_version: pod.resource_version().to_owned() };
    Write::patch_status(pod, &StatusPatch { metadata, status })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Preemption;
    use crate::testing::{at, pod_object};
    use expect_test::{Expect, expect};

    fn check(write: Option<Write>, expected: Expect) {
        expected.assert_eq(&write.map_or("nothing".to_owned(), |write| format!("{write:?}")));
    }

    #[test]
    fn a_binding_names_the_pods_uid() {
        check(
            Some(bind(&pod_object("a uid=u1"), "n1")),
            expect![[
                r#"create pods/binding default/a CreateSubresource { body: "{\"apiVersion\":\"v1\",\"kind\":\"Binding\",\"metadata\":{\"name\":\"a\",\"namespace\":\"default\",\"uid\":\"u1\"},\"target\":{\"kind\":\"Node\",\"name\":\"n1\"}}", subresource: Binding }"#
            ]],
        );
    }

    #[test]
    fn a_failure_becomes_a_condition_once() {
        let pod = pod_object("a version=7 preempted");
        check(
            unschedulable(&pod, "why", &Nomination::Clear, at(5)),
            expect![[
                r#"patch pods/status default/a Patch { body: "{\"metadata\":{\"uid\":\"a\",\"resourceVersion\":\"7\"},\"status\":{\"conditions\":[{\"reason\":\"PreemptionByScheduler\",\"status\":\"True\",\"type\":\"DisruptionTarget\"},{\"lastTransitionTime\":\"1970-01-01T00:00:05Z\",\"message\":\"why\",\"reason\":\"Unschedulable\",\"status\":\"False\",\"type\":\"PodScheduled\"}]}}", subresource: Some(Status) }"#
            ]],
        );
        let mut said = (*pod).clone();
        let conditions = with_condition(&said, not_scheduled(&said, "Unschedulable", "why"), at(5));
        said.status.get_or_insert_default().conditions = conditions;
        check(unschedulable(&said, "why", &Nomination::Clear, at(9)), expect![["nothing"]]);
        // Another message is no transition.
        check(
            unschedulable(&said, "other", &Nomination::Keep, at(9)),
            expect![[
                r#"patch pods/status default/a Patch { body: "{\"metadata\":{\"uid\":\"a\",\"resourceVersion\":\"7\"},\"status\":{\"conditions\":[{\"reason\":\"PreemptionByScheduler\",\"status\":\"True\",\"type\":\"DisruptionTarget\"},{\"lastTransitionTime\":\"1970-01-01T00:00:05Z\",\"message\":\"other\",\"reason\":\"Unschedulable\",\"status\":\"False\",\"type\":\"PodScheduled\"}]}}", subresource: Some(Status) }"#
            ]],
        );
    }

    #[test]
    fn nominations_are_named_and_taken_back() {
        let preemption = Preemption { node: "n1".into(), victims: vec![], no_longer_nominated: vec![] };
        let nomination = Nomination::Preempt(preemption);
        check(
            unschedulable(&pod_object("a"), "why", &nomination, at(5)),
            expect![[
                r#"patch pods/status default/a Patch { body: "{\"metadata\":{\"uid\":\"a\"},\"status\":{\"conditions\":[{\"lastTransitionTime\":\"1970-01-01T00:00:05Z\",\"message\":\"why\",\"reason\":\"Unschedulable\",\"status\":\"False\",\"type\":\"PodScheduled\"}],\"nominatedNodeName\":\"n1\"}}", subresource: Some(Status) }"#
            ]],
        );
        check(
            no_longer_nominated(&pod_object("a nominated=n2")),
            expect![[
                r#"patch pods/status default/a Patch { body: "{\"metadata\":{\"uid\":\"a\"},\"status\":{\"nominatedNodeName\":null}}", subresource: Some(Status) }"#
            ]],
        );
        check(no_longer_nominated(&pod_object("a")), expect![["nothing"]]);
    }

    #[test]
    fn victims_and_gated_pods_say_why() {
        check(
            preempted(&pod_object("v"), "default-scheduler", at(5)),
            expect![[
                r#"patch pods/status default/v Patch { body: "{\"metadata\":{\"uid\":\"v\"},\"status\":{\"conditions\":[{\"lastTransitionTime\":\"1970-01-01T00:00:05Z\",\"message\":\"default-scheduler: preempting to accommodate a higher priority pod\",\"reason\":\"PreemptionByScheduler\",\"status\":\"True\",\"type\":\"DisruptionTarget\"}]}}", subresource: Some(Status) }"#
            ]],
        );
        check(
            gated(&pod_object("g gate"), at(5)),
            expect![[
                r#"patch pods/status default/g Patch { body: "{\"metadata\":{\"uid\":\"g\"},\"status\":{\"conditions\":[{\"lastTransitionTime\":\"1970-01-01T00:00:05Z\",\"message\":\"Scheduling is blocked due to non-empty scheduling gates\",\"reason\":\"SchedulingGated\",\"status\":\"False\",\"type\":\"PodScheduled\"}]}}", subresource: Some(Status) }"#
            ]],
        );
    }
}
