//! When a node was last heard of, by this process's monotonic clock.
//!
//! Times in Leases and conditions are by the node's own clock; only that they change counts. And they count only as far
//! as this process sees: while nothing at all arrives of Leases, among them the one that its own leader renews every
//! two seconds, no node grows older. So a watch that stalls makes nobody look dead, neither while it lasts nor when
//! what was held back arrives bit by bit.

use super::taint::condition;
use crate::Config;
use api::coordination::v1::Lease;
use api::core::v1::{Node, NodeCondition};
use api::meta::v1::MicroTime;
use api::{ObjectExt, Time, Timestamp};
use std::time::Duration;

/// How much time at most passes between two signs that Leases are seen: five times the period in which a leader renews
/// its own. What is longer was blindness.
const BLIND_AFTER: Duration = Duration::from_secs(10);

/// A clock that runs only while Leases are seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SeenClock {
    revision: i64,
    moved_at: Option<Duration>,
    seen: Duration,
}

impl SeenClock {
    /// Takes in up to which revision Leases are known now.
    pub(super) fn sample(&mut self, revision: i64, now: Duration) {
        let moved_at = *self.moved_at.get_or_insert(now);
        if revision > self.revision {
            let passed = now.saturating_sub(moved_at);
            if passed > BLIND_AFTER {
                mark::sometimes!("the view of node leases stalled");
            }
            self.seen += passed.min(BLIND_AFTER);
            self.moved_at = Some(now);
            self.revision = revision;
        }
    }

    /// How long Leases have been seen.
    pub(super) fn now(self) -> Duration {
        self.seen
    }
}

/// What is remembered of a node.
#[derive(Clone, Debug)]
pub(super) struct Health {
    /// Which node of that name.
    pub uid: String,
    /// In which zone it is.
    pub zone: String,
    /// When it was last heard of, by the clock that runs while Leases are seen.
    pub heard_at: Duration,
    /// Its readiness when last looked at.
    pub ready: Option<String>,
    /// Whether its pods have been marked as not ready since it is not.
    pub pods_marked: bool,
    /// Whether it has had its turn to be tainted for eviction.
    pub granted: bool,
    heartbeat: Option<Time>,
    renewed: Option<MicroTime>,
}

impl Health {
    /// A node that is seen for the first time counts as heard of now.
    pub(super) fn new(node: &Node, lease: Option<&Lease>, zone: String, seen: Duration) -> Self {
        let ready = condition(node, "Ready");
        Self {
            uid: node.uid().to_owned(),
            zone,
            heard_at: seen,
            ready: ready.map(|ready| ready.status.clone()),
            // Whoever led before marked them when it ceased to be ready.
            pods_marked: ready.is_some_and(|ready| ready.status == "False"),
            granted: false,
            heartbeat: ready.and_then(|ready| ready.last_heartbeat_time.clone()),
            renewed: renewed(lease),
        }
    }

    /// Takes in the node as it is now. Says whether it has just ceased to be ready.
    pub(super) fn observe(&mut self, node: &Node, lease: Option<&Lease>, seen: Duration) -> bool {
        let ready = condition(node, "Ready");
        let heartbeat = ready.and_then(|ready| ready.last_heartbeat_time.clone());
        let first = ready.is_some() != self.ready.is_some();
        if first || heartbeat != self.heartbeat {
            self.heard_at = seen;
        }
        let renewed = renewed(lease);
        if renewed.is_some() && renewed != self.renewed {
            self.heard_at = seen;
            self.renewed = renewed;
        }
        self.heartbeat = heartbeat;
        let status = ready.map(|ready| ready.status.clone());
        let ceased = self.ready.as_deref() == Some("True") && status.as_deref() != Some("True");
        if ceased {
            self.pods_marked = false;
        }
        if status.as_deref() == Some("True") {
            self.granted = false;
            self.pods_marked = false;
        }
        self.ready = status;
        ceased
    }

    /// How long it may be silent.
    pub(super) fn grace(&self, config: &Config) -> Duration {
        if self.ready.is_some() { config.node_monitor_grace_period } else { config.node_startup_grace_period }
    }

    /// Whether it has been silent for too long.
    pub(super) fn is_overdue(&self, seen: Duration, config: &Config) -> bool {
        self.due_in(seen, config).is_zero()
    }

    /// How much longer it may be silent.
    pub(super) fn due_in(&self, seen: Duration, config: &Config) -> Duration {
        (self.heard_at + self.grace(config)).saturating_sub(seen)
    }
}

fn renewed(lease: Option<&Lease>) -> Option<MicroTime> {
    lease?.spec.as_ref()?.renew_time.clone()
}

/// The conditions that nobody knows of once a node is silent. NetworkUnavailable is not the kubelet's to say.
const UNKNOWN_WHEN_SILENT: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The node with what nobody knows any more as unknown; `None` if it says so already.
pub(super) fn silent(node: &Node, now: Timestamp) -> Option<Node> {
    let mut changed = node.clone();
    let conditions = changed.status.get_or_insert_default().conditions.get_or_insert_default();
    let now = api::object::seconds(now);
    let mut any = false;
    for type_ in UNKNOWN_WHEN_SILENT {
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(now.clone());
                any = true;
            }
            None => {
                conditions.push(NodeCondition {
                    type_: type_.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(now.clone()),
                });
                any = true;
            }
        }
    }
    any.then_some(changed)
}
