//! Which pods go first when there are too many. Upstream's `ActivePodsWithRanks`.

use crate::pod;
use api::core::v1::Pod;
use api::{ObjectExt, Timestamp};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Annotation by which a user says what a pod's deletion costs compared to the others.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Active pods per node, of a set and of those that belong to the same Deployment.
pub type OnNode = BTreeMap<String, usize>;

/// The `count` pods that are to be deleted first.
///
/// The order is upstream's, except for two pods whose ages differ within the same power of two. Upstream goes straight
/// to their UIDs then, by which three pods can each come before the next in a circle. Here they are equal in age and the
/// next criterion decides, so that the order is total.
pub fn first(pods: &[Arc<Pod>], on_node: &OnNode, now: Timestamp, count: usize) -> Vec<Arc<Pod>> {
    let mut ranked: Vec<&Arc<Pod>> = pods.iter().collect();
    if count < ranked.len() {
        ranked.sort_by_cached_key(|pod| rank(pod, on_node, now));
    }
    ranked.into_iter().take(count).cloned().collect()
}

/// Smaller goes first, criterion by criterion.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Not yet on a node before those that are.
    assigned: bool,
    /// Pending before unknown before running.
    phase: u8,
    ready: bool,
    cost: i32,
    /// Where there are more of its kind on the node first.
    doubled_up: Reverse<usize>,
    /// Ready for a shorter time first, in powers of two; first of all if nobody knows since when.
    ready_for: Option<i64>,
    /// Often started again first.
    restarts: Reverse<(i32, i32)>,
    /// Younger first, in powers of two.
    age: Option<i64>,
    uid: String,
    name: String,
}

fn rank(pod: &Pod, on_node: &OnNode, now: Timestamp) -> Rank {
    let node = pod::node(pod);
    Rank {
        assigned: !node.is_empty(),
        phase: match pod::phase(pod) {
            "Unknown" => 1,
            "Running" => 2,
            _ => 0,
        },
        ready: pod::is_ready(pod),
        cost: cost(pod),
        doubled_up: Reverse(on_node.get(node).copied().unwrap_or(0)),
        ready_for: pod::ready_since(pod).map(|since| magnitude(since, now)),
        restarts: Reverse(pod::restarts(pod)),
        age: pod.metadata.creation_timestamp.as_ref().map(|created| magnitude(created.0, now)),
        uid: pod.uid().to_owned(),
        name: pod.name().to_owned(),
    }
}

/// The logarithm to base two of the nanoseconds since `since`, cut to an integer; -1 if that is not in the past.
/// In powers of two, so that of pods of about the same age not always the youngest are taken.
fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let elapsed = now.duration_since(since).as_nanos();
    if elapsed > 0 { i64::from(elapsed.ilog2()) } else { -1 }
}

fn cost(pod: &Pod) -> i32 {
    let Some(text) = pod.annotations().get(DELETION_COST) else { return 0 };
    // As upstream: no plus sign and no leading zeros. What is no number counts as nothing.
    let digits = text.strip_prefix('-').unwrap_or(text);
    if text.starts_with('+') || (digits.starts_with('0') && text != "0") {
        return 0;
    }
    text.parse().unwrap_or(0)
}
