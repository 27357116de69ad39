//! Facts about what makes pods and what sends them calls: Deployments, ReplicaSets, owners, Services. None of it is taken
//! from the product.

use super::facts::{self, SECOND_NS, Timeline, condition, is_active, is_ready, pod_node};
use super::{Commit, Object, Pod, ReplicaSet, World};
use crate::findings::Findings;
use api::apps::v1::DeploymentSpec;
use api::core::v1::{PodSpec, PodTemplateSpec};
use api::meta::v1::OwnerReference;
use api::resource::{self, Resource};
use api::{IntOrString, ObjectMeta};
use faults::Ns;
use record::{Answer, CONVERGE_NS};
use std::collections::BTreeMap;

/// Where Services are kept.
pub(crate) const SERVICES: &str = "/registry/core/services/";
/// Where namespaces are kept.
pub(crate) const NAMESPACES: &str = "/registry/core/namespaces/";

/// By which the garbage collector keeps an object whose dependents go first.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// R: the longest time that a container which crashed waits before it starts again.
pub(crate) const BACKOFF_NS: Ns = 300 * SECOND_NS;

/// The image that users name for a version that cannot run, and that the harness lets nobody pull.
const MISSING_IMAGE: &str = "hollow/missing";

impl Commit {
    /// Whether an object comes to be that was not there before.
    pub(crate) fn creates(&self) -> bool {
        match (&self.old, &self.new) {
            (None, Some(_)) => true,
            (Some(old), Some(new)) => old.uid() != new.uid(),
            (_, None) => false,
        }
    }

    /// Whether the object that was there is gone with it.
    pub(crate) fn removes(&self) -> bool {
        match (&self.old, &self.new) {
            (Some(_), None) => true,
            (Some(old), Some(new)) => old.uid() != new.uid(),
            (None, _) => false,
        }
    }
}

/// An object's UID; empty in a tale that gives it none.
pub(crate) fn uid_of(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

/// UID of the one owner that controls an object.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&str> {
    owners_of(metadata).iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// Everything that an object names as its owner.
pub(crate) fn owners_of(metadata: &ObjectMeta) -> &[OwnerReference] {
    metadata.owner_references.as_deref().unwrap_or_default()
}

/// Whether an object's deletion was asked for.
pub(crate) fn is_going(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_some()
}

/// The namespace in a registry key; `None` for what is in none.
pub(crate) fn namespace_of(key: &str) -> Option<&str> {
    let mut parts = key.strip_prefix(super::objects::REGISTRY)?.split('/').skip(2);
    let namespace = parts.next()?;
    parts.next().map(|_| namespace)
}

/// Registry key of the object of this resource.
pub(crate) fn key_of(resource: &Resource, namespace: &str, name: &str) -> String {
    let group = if resource.group.is_empty() { "core" } else { resource.group };
    let namespace = if resource.namespaced { format!("{namespace}/") } else { String::new() };
    format!("/registry/{group}/{}/{namespace}{name}", resource.plural)
}

/// Registry key of an owner of the object at `key`; `None` for an owner of a kind that is not served, or that cannot own
/// it since it lives in a namespace and the object in none.
pub(crate) fn owner_key(key: &str, owner: &OwnerReference) -> Option<String> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let resource = resource::find(group, &owner.kind)?;
    let namespace = namespace_of(key);
    if resource.namespaced && namespace.is_none() {
        return None;
    }
    Some(key_of(resource, namespace.unwrap_or_default(), &owner.name))
}

/// How many pods a set is to have.
pub(crate) fn set_size(set: &ReplicaSet) -> i64 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).into()
}

/// Generation of the spec that a set's status tells of, which is one that its controller has read.
pub(crate) fn set_observed(set: &ReplicaSet) -> bool {
    let observed = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    observed > 0 && observed >= set.metadata.generation.unwrap_or(0)
}

/// How many pods a Deployment is to have.
pub(crate) fn deployment_size(spec: &DeploymentSpec) -> i64 {
    spec.replicas.unwrap_or(1).into()
}

/// What a Deployment allows its rollouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) replicas: i64,
    /// Whether old pods are replaced step by step, and not all at once.
    pub(crate) rolling: bool,
    pub(crate) paused: bool,
    /// How many pods more than wanted there may be.
    pub(crate) surge: i64,
    /// How many pods of those wanted may be unavailable.
    pub(crate) unavailable: i64,
}

impl Bounds {
    /// Surge is rounded up and unavailability down; if both come to nothing, one pod may be unavailable.
    pub(crate) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = deployment_size(spec);
        let strategy = spec.strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate");
        let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = part(update.and_then(|update| update.max_surge.as_ref()), replicas, true);
        let unavailable = part(update.and_then(|update| update.max_unavailable.as_ref()), replicas, false);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        let unavailable = unavailable.min(replicas);
        Self { replicas, rolling, paused: spec.paused == Some(true), surge, unavailable }
    }

    /// The most pods that its sets may ask for together.
    pub(crate) fn most(&self) -> i64 {
        self.replicas + self.surge
    }

    /// The fewest pods that must be available.
    pub(crate) fn least(&self) -> i64 {
        self.replicas - self.unavailable
    }
}

fn part(value: Option<&IntOrString>, of: i64, up: bool) -> i64 {
    match value {
        // What the API server defaults to is written into the object: without it, as little as possible.
        None => 0,
        Some(IntOrString::Int(number)) => i64::from(*number).max(0),
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(0);
            let hundredths = percent.max(0) * of;
            if up { (hundredths + 99) / 100 } else { hundredths / 100 }
        }
    }
}

/// What the containers of a pod are made from.
pub(crate) fn images(spec: Option<&PodSpec>) -> Vec<(&str, &str)> {
    let containers = spec.into_iter().flat_map(|spec| &spec.containers);
    containers.map(|container| (container.name.as_str(), container.image.as_deref().unwrap_or_default())).collect()
}

/// Whether pods of a template can run: each of its images can be pulled.
pub(crate) fn can_run(template: Option<&PodTemplateSpec>) -> bool {
    let images = images(template.and_then(|template| template.spec.as_ref()));
    images.iter().all(|(_, image)| image.split_once(':').map_or(*image, |(name, _)| name) != MISSING_IMAGE)
}

/// Which Deployment each set belongs to, by UIDs, as its first version says.
pub(crate) fn deployments_of_sets<'a>(world: &'a World<'_>) -> BTreeMap<&'a str, &'a str> {
    let mut of = BTreeMap::new();
    for commit in &world.commits {
        let Some(Object::ReplicaSet(set)) = commit.new.as_deref() else { continue };
        if let Some(deployment) = controller_of(&set.metadata) {
            of.entry(uid_of(&set.metadata)).or_insert(deployment);
        }
    }
    of
}

/// Number of an owner's active pods, of those that are ready, and of those that nobody can hurry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pods {
    pub(crate) active: i64,
    pub(crate) ready: i64,
    /// Whose containers crashed and wait before they start again.
    pub(crate) backing_off: i64,
    /// That fit no node.
    pub(crate) unplaced: i64,
}

impl Pods {
    /// What one pod counts.
    pub(crate) fn of(pod: &Pod) -> Self {
        if !is_active(pod) {
            return Self::default();
        }
        let unplaced = pod_node(pod).is_empty()
            && condition(pod, "PodScheduled").is_some_and(|scheduled| {
                scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable")
            });
        Self {
            active: 1,
            ready: is_ready(pod).into(),
            backing_off: is_backing_off(pod).into(),
            unplaced: unplaced.into(),
        }
    }

    pub(crate) fn add(&mut self, other: Self, times: i64) {
        self.active += times * other.active;
        self.ready += times * other.ready;
        self.backing_off += times * other.backing_off;
        self.unplaced += times * other.unplaced;
    }
}

fn is_backing_off(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    status.waiting.iter().any(|reason| reason == "CrashLoopBackOff")
}

/// Follows whether something is as it shall be, and stays so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settling {
    /// Since when it has been so without interruption.
    since_ns: Option<Ns>,
    /// Before this nobody could expect it.
    from_ns: Ns,
}

impl Settling {
    /// It cannot be expected from before this time.
    pub(crate) fn not_before(&mut self, at_ns: Ns) {
        self.from_ns = self.from_ns.max(at_ns);
    }

    /// From this time on it is so, or not.
    pub(crate) fn is(&mut self, at_ns: Ns, good: bool) {
        self.since_ns = good.then(|| self.since_ns.unwrap_or(at_ns));
    }

    /// From when on it has been so to the end, at the earliest when it could be expected; `None` if it is not so.
    pub(crate) fn settled_ns(&self) -> Option<Ns> {
        self.since_ns.map(|since_ns| since_ns.max(self.from_ns))
    }

    /// Puts it to the test whether it came to be so within T after Q and after it could be expected, with `extra_ns` for
    /// what takes longer; `says` what should have been. What may still come about in time is not tested.
    pub(crate) fn judge(
        &self,
        world: &World<'_>,
        extra_ns: Ns,
        findings: &mut Findings,
        says: impl FnOnce() -> String,
    ) {
        let due_ns = self.from_ns.max(world.quiet_ns).saturating_add(extra_ns);
        let until_ns = self.since_ns.unwrap_or(world.record.ended_ns);
        let late_ns = until_ns.saturating_sub(due_ns);
        if self.since_ns.is_none() && late_ns <= CONVERGE_NS {
            return;
        }
        findings.tested(1);
        findings.took(late_ns);
        if late_ns > CONVERGE_NS {
            let when = if self.since_ns.is_some() { "only since" } else { "not even at" };
            findings.violated(until_ns, format!("{}: {when} {until_ns} ns, expected from {due_ns} ns on", says()));
        }
    }
}

impl World<'_> {
    /// How many requests of users of this kind about this object may have had an effect between these two times.
    pub(crate) fn asked_by_users(&self, what: &[&str], object: &str, from_ns: Ns, until_ns: Ns) -> usize {
        let writes = self.record.cluster.writes.iter().filter(|write| write.invoked_ns <= until_ns);
        let effective = writes.filter(|write| match &write.outcome {
            Answer::Ok { .. } => write.completed_ns >= from_ns,
            // It may happen long after it was given up.
            Answer::Unknown { .. } => true,
            Answer::Refused { .. } => false,
        });
        effective.filter(|write| what.contains(&write.what.as_str()) && write.object == object).count()
    }
}

/// An object as users name it, `pods default/a`, by its registry key.
pub(crate) fn users_name(key: &str) -> String {
    let parts: Vec<&str> = key.trim_start_matches('/').splitn(4, '/').skip(2).collect();
    parts.join(" ")
}

/// The owner of the object at `key` that lives as of `revision`: an object of that UID which does not wait for its
/// dependents to be deleted.
pub(crate) fn living_owner(timeline: &Timeline<'_>, key: &str, metadata: &ObjectMeta, revision: i64) -> Option<String> {
    owners_of(metadata).iter().find_map(|owner| {
        let at = owner_key(key, owner)?;
        let found = timeline.at_revision(&at, revision)?;
        let waits = is_going(found.metadata()) && has_finalizer(found.metadata(), FOREGROUND);
        (found.uid() == owner.uid && !waits).then_some(at)
    })
}

/// Whether this finalizer holds an object.
pub(crate) fn has_finalizer(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.finalizers.iter().flatten().any(|held| held == finalizer)
}

/// The set of an active pod, by UID.
pub(crate) fn set_of(pod: Option<&Pod>) -> Option<&str> {
    pod.filter(|pod| is_active(pod)).and_then(facts::controller_uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_rounded_and_never_both_nothing() {
        let bounds = |replicas: i32, surge: &str, unavailable: &str| {
            let json = format!(
                r#"{{"replicas":{replicas},"selector":{{}},"template":{{}},"strategy":{{"rollingUpdate":{{"maxSurge":{surge},"maxUnavailable":{unavailable}}}}}}}"#
            );
            let bounds = Bounds::of(&serde_json::from_str(&json).unwrap());
            (bounds.most(), bounds.least())
        };
        assert_eq!(bounds(10, r#""25%""#, r#""25%""#), (13, 8));
        assert_eq!(bounds(3, "1", "0"), (4, 3));
        assert_eq!(bounds(3, "0", r#""25%""#), (3, 2));
        assert_eq!(bounds(2, "0", "7"), (2, 0));
    }

    #[test]
    fn an_owner_is_looked_for_where_it_can_be() {
        let owner = |kind: &str, version: &str| OwnerReference {
            api_version: version.into(),
            kind: kind.into(),
            name: "x".into(),
            ..OwnerReference::default()
        };
        let pod = "/registry/core/pods/default/a";
        let key = |key, kind, version| owner_key(key, &owner(kind, version)).unwrap_or_default();
        assert_eq!(key(pod, "ReplicaSet", "apps/v1"), "/registry/apps/replicasets/default/x");
        assert_eq!(key(pod, "Node", "v1"), "/registry/core/nodes/x");
        assert_eq!(key("/registry/core/nodes/n1", "Pod", "v1"), "");
        assert_eq!(key(pod, "Whatever", "example.com/v1"), "");
        assert_eq!(users_name(pod), "pods default/a");
        assert_eq!(namespace_of(pod), Some("default"));
        assert_eq!(namespace_of("/registry/core/nodes/n1"), None);
    }

    #[test]
    fn a_template_with_a_missing_image_cannot_run() {
        let template = |image: &str| {
            let json = format!(r#"{{"spec":{{"containers":[{{"name":"web","image":"{image}"}}]}}}}"#);
            serde_json::from_str(&json).unwrap()
        };
        assert!(can_run(Some(&template("hollow/web:3"))) && can_run(None));
        assert!(!can_run(Some(&template("hollow/missing:3"))) && !can_run(Some(&template("hollow/missing"))));
    }
}
