//! What is written on a pod before a controller deletes it: why, for whoever asks later.

use crate::pod;
use api::core::v1::{Pod, PodCondition};
use api::{ObjectExt, Timestamp};
use client::Write;

const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Puts the condition DisruptionTarget on the status of `pod`; says whether that changed anything.
pub(crate) fn mark_disrupted(pod: &mut Pod, reason: &str, message: &str, now: Timestamp) -> bool {
    let old = pod::condition(pod, DISRUPTION_TARGET);
    if old.is_some_and(|old| old.status == "True" && old.reason.as_deref() == Some(reason)) {
        return false;
    }
    let since = old.filter(|old| old.status == "True").and_then(|old| old.last_transition_time.clone());
    let condition = PodCondition {
        type_: DISRUPTION_TARGET.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since.unwrap_or_else(|| api::object::seconds(now))),
        observed_generation: Some(pod.generation()).filter(|generation| *generation > 0),
        last_probe_time: None,
    };
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != DISRUPTION_TARGET);
    conditions.push(condition);
    true
}

/// The writes that mark a pod as disrupted and then delete it, if it still is that pod.
pub(crate) fn evict(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Vec<Write> {
    let mut marked = pod.clone();
    let mut writes = Vec::new();
    if mark_disrupted(&mut marked, reason, message, now) {
        writes.push(Write::update_status(&marked));
    }
    writes.push(Write::delete(pod));
    writes
}
