//! What a pod's spec says about its containers.

use api::core::v1::{Container, Pod, PodSpec};
use std::time::Duration;

/// Upstream's default of `terminationGracePeriodSeconds`.
const DEFAULT_GRACE_S: i64 = 30;

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end before what follows.
    Init,
    /// An init container that is kept running (restartPolicy Always).
    Sidecar,
    /// What the pod is for.
    Regular,
}

/// A container and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// As the spec has it.
    pub container: &'a Container,
    /// What it is to the pod.
    pub kind: Kind,
}

impl<'a> Named<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.container.name
    }
}

/// All containers: the initial ones, then the regular ones, each in order.
pub fn containers(pod: &Pod) -> Vec<Named<'_>> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let initial = spec.init_containers.iter().flatten().map(|container| {
        let kind = if container.restart_policy.as_deref() == Some("Always") { Kind::Sidecar } else { Kind::Init };
        Named { container, kind }
    });
    initial.chain(spec.containers.iter().map(|container| Named { container, kind: Kind::Regular })).collect()
}

/// Whether a container that ended with `code` is to be started again.
pub(super) fn restarts(pod: &Pod, named: Named<'_>, code: i32) -> bool {
    let rules = named.container.restart_policy_rules.iter().flatten();
    let fits = |rule: &&api::core::v1::ContainerRestartRule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let among = codes.values.iter().flatten().any(|value| *value == code);
        match codes.operator.as_str() {
            "In" => among,
            "NotIn" => !among,
            _ => false,
        }
    };
    if named.kind != Kind::Sidecar && rules.filter(|rule| rule.action == "Restart").any(|rule| fits(&rule)) {
        return true;
    }
    let own = named.container.restart_policy.as_deref();
    let policy = own.unwrap_or_else(|| policy(pod));
    match (named.kind, policy) {
        (Kind::Sidecar, _) => true,
        (Kind::Init, "Never") | (Kind::Regular, "Never") => false,
        // An initial container that succeeded is done, whatever the policy.
        (Kind::Init, _) | (Kind::Regular, "OnFailure") => code != 0,
        (Kind::Regular, _) => true,
    }
}

/// The pod's restartPolicy.
pub(super) fn policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether this container, under the pod's policy and without rules of its own, starts at most once.
pub(super) fn at_most_once(pod: &Pod, named: Named<'_>) -> bool {
    let own = named.container.restart_policy.is_some() || named.container.restart_policy_rules.is_some();
    named.kind == Kind::Regular && policy_is_never(pod) && !own
}

/// Whether the pod's restartPolicy is Never.
pub fn policy_is_never(pod: &Pod) -> bool {
    policy(pod) == "Never"
}

/// How long the pod's containers have to end.
pub fn grace(pod: &Pod) -> Duration {
    let spec = pod.spec.as_ref().and_then(|spec: &PodSpec| spec.termination_grace_period_seconds);
    let asked = pod.metadata.deletion_timestamp.as_ref().and(pod.metadata.deletion_grace_period_seconds);
    let seconds = asked.or(spec).unwrap_or(DEFAULT_GRACE_S);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
