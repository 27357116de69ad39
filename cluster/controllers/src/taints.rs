//! Taints and tolerations: what matches what, and how a node's list of taints changes.

use api::core::v1::{Node, NodeSpec, Taint, Toleration};
use api::{ObjectExt, ObjectMeta};
use client::Write;

/// Effect: nothing new is scheduled.
pub(crate) const NO_SCHEDULE: &str = "NoSchedule";
/// Effect: what runs is evicted.
pub(crate) const NO_EXECUTE: &str = "NoExecute";

/// The node says that it is not ready.
pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The node says nothing.
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// An administrator closed the node.
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// An administrator says that the machine is off.
pub(crate) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The taints of a node.
pub(crate) fn of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Whether the node has a taint of this key and effect.
pub(crate) fn has(node: &Node, key: &str, effect: &str) -> bool {
    of(node).iter().any(|taint| taint.key == key && taint.effect == effect)
}

/// Whether the toleration lets a pod live with the taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let unset_or =
        |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == is);
    if !unset_or(&toleration.effect, &taint.effect) || !unset_or(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
        "Exists" => true,
        _ => false,
    }
}

/// The write that replaces the taints of a node, if it is still of this version.
pub(crate) fn replace(node: &Node, taints: Vec<Taint>) -> Write {
    let patch = Node {
        metadata: ObjectMeta {
            uid: Some(node.uid().to_owned()),
            resource_version: Some(node.resource_version().to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec { taints: Some(taints), ..NodeSpec::default() }),
        status: None,
    };
    Write::patch(node, &patch)
}
