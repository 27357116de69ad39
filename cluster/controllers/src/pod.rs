//! Facts about pods that several controllers need, as upstream's `podutil` and `controller_utils` have them.

use api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use api::{ObjectExt, ObjectMeta, SignedDuration, Timestamp};
use std::time::Duration;

/// Its phase; empty before the kubelet or the API server wrote one.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The node that it is bound to; empty before that.
pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Whether its containers have ended for good: phase Succeeded or Failed.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it counts as a replica: neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.is_terminating()
}

/// One of its conditions.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// Whether its condition Ready is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when it is ready; `None` if it is not, or if nobody wrote since when.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether it has been ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod) && available_in(pod, min_ready_seconds, now).is_some_and(|wait| wait.is_zero())
}

/// How long until it is available if it stays ready; zero if it is already, `None` if it is not ready. Never more than
/// `min_ready_seconds`, however wrong the clocks are.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    let Ok(min_ready @ 1..) = u64::try_from(min_ready_seconds) else { return Some(Duration::ZERO) };
    let since = ready_since(pod)?;
    let elapsed = now.duration_since(since);
    let left = SignedDuration::from_secs(i64::from(min_ready_seconds)) - elapsed.max(SignedDuration::ZERO);
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO).min(Duration::from_secs(min_ready)))
}

/// How often its containers were started again: the most of any container, sidecars counted with the others when they
/// are equal in the others. Upstream's `maxContainerRestarts`, as (regular, sidecars).
pub fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let regular = status.container_statuses.iter().flatten().map(|container| container.restart_count).max();
    let is_sidecar = |name: &str| {
        let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
        let init = inits.into_iter().flatten().find(|container| container.name == name);
        init.is_some_and(|container| container.restart_policy.as_deref() == Some("Always"))
    };
    let inits = status.init_container_statuses.iter().flatten();
    let sidecars = inits.filter(|container| is_sidecar(&container.name)).map(|container| container.restart_count).max();
    (regular.unwrap_or(0), sidecars.unwrap_or(0))
}

/// A pod made of a template: its labels, annotations, finalizers and spec. It still lacks a name and an owner.
pub fn from_template(template: &PodTemplateSpec, namespace: &str) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Time;
    use api::core::v1::PodStatus;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready_at(second: i64) -> Pod {
        let ready = PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(at(second))),
            ..PodCondition::default()
        };
        Pod { status: Some(PodStatus { conditions: Some(vec![ready]), ..PodStatus::default() }), ..Pod::default() }
    }

    #[test]
    fn a_pod_is_available_after_having_been_ready_long_enough() {
        let pod = ready_at(100);
        assert!(is_available(&pod, 0, at(100)));
        assert!(!is_available(&pod, 10, at(109)));
        assert!(is_available(&pod, 10, at(110)));
        assert!(!is_available(&Pod::default(), 0, at(110)));
    }

    #[test]
    fn a_clock_that_is_behind_never_makes_it_wait_longer_than_asked_for() {
        let pod = ready_at(100);
        assert_eq!(available_in(&pod, 10, at(104)), Some(Duration::from_secs(6)));
        assert_eq!(available_in(&pod, 10, at(0)), Some(Duration::from_secs(10)));
        assert_eq!(available_in(&pod, 10, at(500)), Some(Duration::ZERO));
        assert_eq!(available_in(&Pod::default(), 10, at(500)), None);
    }
}
