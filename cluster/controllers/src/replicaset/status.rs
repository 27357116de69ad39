//! The status of a set of pods. Upstream's `replica_set_utils`.

use super::kind::{Counts, Replicated};
use crate::pod;
use api::apps::v1::ReplicaSetCondition;
use api::core::v1::Pod;
use api::object::seconds;
use api::{ObjectExt, Timestamp, selector};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Type of the condition that says that pods could not be created or deleted.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Why pods could not be created or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// The status of `set` with these active and terminating pods.
pub fn counts<S: Replicated>(
    set: &S,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Counts {
    let old = set.counts();
    let none = BTreeMap::new();
    let labels = set.template().and_then(|template| template.metadata.as_ref()?.labels.as_ref()).unwrap_or(&none);
    let min_ready = set.min_ready_seconds();
    let number = |is: &dyn Fn(&Pod) -> bool| count(active.iter().filter(|pod| is(pod)).count());
    Counts {
        replicas: count(active.len()),
        fully_labeled: number(&|pod| selector::matches_map(labels, pod.labels())),
        ready: number(&pod::is_ready),
        available: number(&|pod| pod::is_available(pod, min_ready, now)),
        terminating: S::COUNTS_TERMINATING.then(|| count(terminating)),
        observed_generation: set.generation(),
        conditions: conditions(old.conditions, failure, now),
    }
}

/// A condition that is there already stays as it is, as upstream has it.
fn conditions(
    mut old: Vec<ReplicaSetCondition>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Vec<ReplicaSetCondition> {
    let already = old.iter().any(|condition| condition.type_ == REPLICA_FAILURE);
    match failure {
        Some(failure) if !already => old.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(seconds(now)),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
        }),
        Some(_) => {}
        None => old.retain(|condition| condition.type_ != REPLICA_FAILURE),
    }
    old
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
