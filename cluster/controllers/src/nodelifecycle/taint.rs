//! Which taints a node shall have by what it says of itself.

use crate::taints::{NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE, of};
use api::Timestamp;
use api::core::v1::{Node, NodeCondition, Taint};

/// Condition of a node, its status, and the taint that follows from that.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// What shall become of the taint that evicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoExecute {
    /// It stays as it is.
    Keep,
    /// This is the one.
    Set(&'static str),
    /// There is none.
    Clear,
}

/// One of a node's conditions.
pub(super) fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// The taint that evicts which fits the node's readiness; `None` if it is ready or never said.
pub(super) fn evicting(node: &Node) -> Option<&'static str> {
    match condition(node, "Ready")?.status.as_str() {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    }
}

/// The taints that the node shall have; `None` if it has them.
pub(super) fn change(node: &Node, no_execute: NoExecute, now: Timestamp) -> Option<Vec<Taint>> {
    let wanted = no_schedule(node);
    let said = condition(node, "Ready").is_some();
    let keep = |taint: &Taint| match (taint.effect.as_str(), taint.key.as_str()) {
        // A node that never said whether it is ready keeps the taint that it was made with.
        (NO_SCHEDULE, NOT_READY | UNREACHABLE) if !said => true,
        (NO_SCHEDULE, key) if is_ours(key) => wanted.contains(&key),
        (NO_EXECUTE, key @ (NOT_READY | UNREACHABLE)) => match no_execute {
            NoExecute::Keep => true,
            NoExecute::Set(set) => key == set,
            NoExecute::Clear => false,
        },
        _ => true,
    };
    let mut taints: Vec<Taint> = of(node).iter().filter(|taint| keep(taint)).cloned().collect();
    let mut add = |key: &str, effect: &str| {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            let time_added = Some(api::object::seconds(now));
            taints.push(Taint { key: key.to_owned(), effect: effect.to_owned(), time_added, value: None });
        }
    };
    wanted.iter().for_each(|key| add(key, NO_SCHEDULE));
    match no_execute {
        NoExecute::Set(key) => add(key, NO_EXECUTE),
        NoExecute::Keep | NoExecute::Clear => {}
    }
    (taints != of(node)).then_some(taints)
}

/// The keys of taints that keep new pods away from the node now.
fn no_schedule(node: &Node) -> Vec<&'static str> {
    let holds =
        |(type_, status, _): &&(&str, &str, &str)| condition(node, type_).is_some_and(|is| is.status == *status);
    let mut keys: Vec<&'static str> = BY_CONDITION.iter().filter(holds).map(|(_, _, key)| *key).collect();
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        keys.push(UNSCHEDULABLE);
    }
    keys
}

fn is_ours(key: &str) -> bool {
    key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, ours)| *ours == key)
}
