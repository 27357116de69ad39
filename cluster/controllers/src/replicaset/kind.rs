//! What ReplicaSet and ReplicationController have in common: a wanted number of pods of one template.

use api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use api::{Object, selector};
use std::collections::BTreeMap;

/// A kind that keeps a number of pods of one template.
pub trait Replicated: Object {
    /// Whether its status counts the pods that are being deleted.
    const COUNTS_TERMINATING: bool;
    /// How many pods are wanted.
    fn replicas(&self) -> i32;
    /// How long a pod must be ready to count as available.
    fn min_ready_seconds(&self) -> i32;
    /// Whether a pod with these labels is meant.
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool;
    /// What its pods are made from.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// Its status as it stands.
    fn counts(&self) -> Counts;
    /// The same object with another status.
    fn with_counts(&self, counts: Counts) -> Self;
}

/// The status of either kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Active pods.
    pub replicas: i32,
    /// Those with all labels of the template.
    pub fully_labeled: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that have been ready for long enough.
    pub available: i32,
    /// Pods that are being deleted; a ReplicationController does not count them.
    pub terminating: Option<i32>,
    /// Generation of the spec that this tells of.
    pub observed_generation: i64,
    /// Conditions, in the form of a ReplicaSet.
    pub conditions: Vec<ReplicaSetCondition>,
}

impl Replicated for ReplicaSet {
    const COUNTS_TERMINATING: bool = true;
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, labels))
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().and_then(|spec| spec.template.as_ref())
    }
    fn counts(&self) -> Counts {
        let Some(status) = &self.status else { return Counts::default() };
        Counts {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas,
            observed_generation: status.observed_generation.unwrap_or(0),
            conditions: status.conditions.clone().unwrap_or_default(),
        }
    }
    fn with_counts(&self, counts: Counts) -> Self {
        let status = ReplicaSetStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: some(counts.fully_labeled),
            ready_replicas: some(counts.ready),
            available_replicas: some(counts.available),
            terminating_replicas: counts.terminating,
            observed_generation: Some(counts.observed_generation),
            conditions: (!counts.conditions.is_empty()).then_some(counts.conditions),
        };
        Self { status: Some(status), ..self.clone() }
    }
}

impl Replicated for ReplicationController {
    const COUNTS_TERMINATING: bool = false;
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let wanted = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        // The API server fills in an absent selector; one that is empty would mean every pod.
        wanted.is_some_and(|wanted| !wanted.is_empty() && selector::matches_map(wanted, labels))
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().and_then(|spec| spec.template.as_ref())
    }
    fn counts(&self) -> Counts {
        let Some(status) = &self.status else { return Counts::default() };
        Counts {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: None,
            observed_generation: status.observed_generation.unwrap_or(0),
            conditions: status.conditions.iter().flatten().cloned().map(from_controller).collect(),
        }
    }
    fn with_counts(&self, counts: Counts) -> Self {
        let conditions: Vec<_> = counts.conditions.into_iter().map(to_controller).collect();
        let status = ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: some(counts.fully_labeled),
            ready_replicas: some(counts.ready),
            available_replicas: some(counts.available),
            observed_generation: Some(counts.observed_generation),
            conditions: (!conditions.is_empty()).then_some(conditions),
        };
        Self { status: Some(status), ..self.clone() }
    }
}

/// Zero is left out, as upstream does.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn from_controller(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    }
}

fn to_controller(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    }
}
