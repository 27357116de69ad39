//! How many pods a budget has to do with, and how many of them must stay healthy.

use super::View;
use crate::owner;
use crate::percent::scaled;
use crate::replicaset::Replicated;
use api::apps::v1::{Deployment, ReplicaSet};
use api::core::v1::{Pod, ReplicationController};
use api::policy::v1::PodDisruptionBudgetSpec;
use api::{IntOrString, ObjectExt};
use client::Caches;
use std::collections::BTreeMap;

/// What a budget asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// How many pods there should be.
    pub expected: i32,
    /// How many of them must be healthy.
    pub desired: i32,
}

/// What a budget asks for.
///
/// # Errors
/// It is relative to a number of pods that nobody states, or its own number cannot be read.
pub fn desired(spec: Option<&PodDisruptionBudgetSpec>, view: &View<'_>) -> Result<Desired, String> {
    let max_unavailable = spec.and_then(|spec| spec.max_unavailable.as_ref());
    let min_available = spec.and_then(|spec| spec.min_available.as_ref());
    if let Some(max_unavailable) = max_unavailable {
        let expected = expected(view)?;
        let unavailable = scaled(max_unavailable, expected, true)?;
        return Ok(Desired { expected, desired: expected.saturating_sub(unavailable).max(0) });
    }
    match min_available {
        None => Ok(Desired { expected: 0, desired: 0 }),
        Some(IntOrString::Int(number)) => {
            Ok(Desired { expected: i32::try_from(view.pods.len()).unwrap_or(i32::MAX), desired: *number })
        }
        Some(percent @ IntOrString::String(_)) => {
            let expected = expected(view)?;
            Ok(Desired { expected, desired: scaled(percent, expected, true)? })
        }
    }
}

/// The sizes of all controllers of the pods. Pods without controller count for nothing, as upstream has it.
fn expected(view: &View<'_>) -> Result<i32, String> {
    let mut sizes: BTreeMap<String, i32> = BTreeMap::new();
    for pod in view.pods.iter().filter(|pod| pod.controller().is_some()) {
        let (uid, size) = (view.scale)(pod).ok_or_else(|| format!("found no controllers for pod {:?}", pod.name()))?;
        sizes.insert(uid, size);
    }
    Ok(sizes.values().fold(0, |sum: i32, size| sum.saturating_add(*size)))
}

/// UID and size of what controls a pod: a ReplicationController, a ReplicaSet, or the Deployment above that.
pub fn scale_of(caches: &Caches, pod: &Pod) -> Option<(String, i32)> {
    if let Some(set) = owner::of::<ReplicationController, Pod>(caches, pod) {
        return Some((set.uid().to_owned(), set.replicas()));
    }
    let set = owner::of::<ReplicaSet, Pod>(caches, pod)?;
    match set.controller() {
        Some(controller) if controller.kind == "Deployment" => {
            let deployment = owner::of::<Deployment, ReplicaSet>(caches, set)?;
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            Some((deployment.uid().to_owned(), replicas))
        }
        _ => Some((set.uid().to_owned(), set.replicas())),
    }
}
