//! The life of nodes: who is silent is unknown, who is unready gets taints, and its pods are not ready either.
//!
//! ```text
//! Lease, Node.status ─▶ health (when heard of) ─▶ silent too long: conditions Unknown
//! conditions ─▶ taint: NoSchedule at once ─▶ zone: NoExecute in turn ─▶ tainteviction deletes pods
//!            └▶ pods on it: Ready=False
//! ```
//!
//! What is kept in memory (when a node was heard of, who waits in which line) starts anew with a new leader: then every
//! node counts as heard of now, which only delays.
//!
//! **Invariant:** a node whose Lease is renewed within the grace period is never marked
//! (`a_node_that_renews_is_left_alone`); what this process did not see does not count as silence
//! (`blindness_is_not_silence`).

mod health;
mod taint;
mod zone;

use crate::Config;
use crate::pod;
use crate::taints::{self, NO_EXECUTE, NOT_READY, UNREACHABLE};
use api::ObjectExt;
use api::coordination::v1::Lease;
use api::core::v1::{Node, Pod};
use client::{Caches, Controller, Key, Now, Plan, Watch, Write};
use health::{Health, SeenClock};
use std::collections::BTreeMap;
use std::time::Duration;
use taint::NoExecute;
use zone::{Count, Turn, Zones};

/// Where kubelets keep their Leases.
const LEASES: &str = "kube-node-lease";
/// Label of a node that does not count for the state of its zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// How old the count of a zone's nodes may be: counting goes over all nodes, and nobody's turn is decided by a second.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The controller.
pub struct NodeLifecycle {
    config: Config,
    nodes: BTreeMap<String, Health>,
    zones: Zones,
    counted_at: Option<Duration>,
    clock: SeenClock,
}

impl NodeLifecycle {
    /// Nobody heard of yet.
    pub fn new(config: Config) -> Self {
        Self { config, nodes: BTreeMap::new(), zones: Zones::default(), counted_at: None, clock: SeenClock::default() }
    }
}

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        // Other Leases, among them the leader's own, show that Leases are seen: the key without a name.
        let node_of = |lease: &Lease| Key::new("", if lease.namespace() == LEASES { lease.name() } else { "" });
        vec![
            Watch::own::<Node>(),
            Watch::map::<Lease>(move |_, lease| vec![node_of(lease)]),
            // Only looked up, when a node ceases to be ready.
            Watch::lookup::<Pod>(),
        ]
    }

    fn restart(&mut self) {
        *self = Self::new(self.config.clone());
    }

    fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan {
        self.clock.sample(caches.revision(Lease::resource()), now.monotonic);
        let Some(node) = caches.get::<Node>("", &key.name) else {
            if let Some(health) = self.nodes.remove(&key.name) {
                self.zones.leave(&health.zone, &key.name);
            }
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        self.observe(caches, node, now, &mut plan);
        self.count(caches, now.monotonic);
        self.plan(caches, node, now, plan)
    }
}

impl NodeLifecycle {
    /// Takes in a node as it is now.
    fn observe(&mut self, caches: &Caches, node: &Node, now: Now, plan: &mut Plan) {
        let lease = caches.get::<Lease>(LEASES, node.name()).map(|lease| &**lease);
        let zone = zone_of(node);
        let known = self.nodes.get_mut(node.name()).filter(|health| health.uid == node.uid());
        let Some(health) = known else {
            let health = Health::new(node, lease, zone, self.clock.now());
            if let Some(former) = self.nodes.insert(node.name().to_owned(), health) {
                self.zones.leave(&former.zone, node.name());
            }
            let age = now.wall.duration_since(node.created());
            // After a change of leader old nodes are news to nobody.
            if age.unsigned_abs() < self.config.node_startup_grace_period {
                plan.saw(
                    node,
                    "RegisteredNode",
                    format!("Node {} event: Registered Node {0} in Controller", node.name()),
                );
            }
            return;
        };
        if health.zone != zone {
            self.zones.leave(&health.zone, node.name());
            health.zone = zone;
        }
        if health.observe(node, lease, self.clock.now()) {
            plan.saw(node, "NodeNotReady", format!("Node {} status is now: NodeNotReady", node.name()));
        }
    }

    /// Counts the nodes of all zones, unless that was done just now.
    fn count(&mut self, caches: &Caches, now: Duration) {
        if self.counted_at.is_some_and(|at| now.saturating_sub(at) < COUNT_EVERY) {
            return;
        }
        self.counted_at = Some(now);
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        for node in caches.all::<Node>() {
            let Some(ready) = taint::condition(node, "Ready") else { continue };
            let count = counts.entry(zone_of(node)).or_default();
            if node.labels().contains_key(EXCLUDED) {
                continue;
            }
            let health = self.nodes.get(node.name());
            let overdue = health.is_some_and(|health| health.is_overdue(self.clock.now(), &self.config));
            if ready.status == "True" && !overdue {
                count.ready += 1;
            } else {
                count.unready += 1;
            }
            let is_tainted = [NOT_READY, UNREACHABLE].iter().any(|key| taints::has(node, key, NO_EXECUTE));
            count.tainted += usize::from(is_tainted);
        }
        if self.zones.update(&counts, &self.config, now) {
            mark::sometimes!("some zone is back after all were down");
            // Nobody was looked after in the meantime: each gets its full time from now on.
            let seen = self.clock.now();
            self.nodes.values_mut().for_each(|health| health.heard_at = seen);
        }
    }

    /// What is to be done about a node that has just been observed.
    fn plan(&mut self, caches: &Caches, node: &Node, now: Now, mut plan: Plan) -> Plan {
        let Some(health) = self.nodes.get(node.name()) else { return plan };
        let overdue = health.is_overdue(self.clock.now(), &self.config);
        if overdue && let Some(silent) = health::silent(node, now.wall) {
            mark::sometimes!("a node fell silent");
            plan.writes.push(Write::update_status(&silent));
            plan.requeue(self.config.node_monitor_period);
            return plan;
        }
        let no_execute = self.no_execute(node, now.monotonic, &mut plan);
        if let Some(taints) = taint::change(node, no_execute, now.wall) {
            plan.writes.push(taints::replace(node, taints));
        }
        self.mark_pods(caches, node, overdue, now, &mut plan);
        let Some(health) = self.nodes.get(node.name()) else { return plan };
        let ready = health.ready.as_deref() == Some("True");
        let due = health.due_in(self.clock.now(), &self.config);
        let look = if ready && !due.is_zero() { due } else { self.config.node_monitor_period };
        plan.requeue(look);
        plan
    }

    /// What shall become of the node's taint that evicts.
    fn no_execute(&mut self, node: &Node, now: Duration, plan: &mut Plan) -> NoExecute {
        let Some(health) = self.nodes.get_mut(node.name()) else { return NoExecute::Keep };
        if self.zones.all_down() {
            health.granted = false;
            return NoExecute::Clear;
        }
        let Some(wanted) = taint::evicting(node) else {
            self.zones.leave(&health.zone, node.name());
            return if health.ready.is_some() { NoExecute::Clear } else { NoExecute::Keep };
        };
        let tainted = [NOT_READY, UNREACHABLE].iter().any(|key| taints::has(node, key, NO_EXECUTE));
        if tainted || health.granted {
            // Only the reason changes, or the write that it had its turn for is not seen.
            health.granted &= !tainted;
            self.zones.leave(&health.zone, node.name());
            return NoExecute::Set(wanted);
        }
        match self.zones.ask(&health.zone, node.name(), now, self.config.node_monitor_period) {
            Turn::Now => {
                health.granted = true;
                NoExecute::Set(wanted)
            }
            Turn::After(wait) => {
                plan.requeue(wait);
                plan.wait(format!("node {} waits its turn for eviction", node.name()));
                NoExecute::Keep
            }
            Turn::Never => {
                plan.wait(format!("zone of node {} is down too far for evictions", node.name()));
                NoExecute::Keep
            }
        }
    }

    /// Marks the pods of a node that ceased to be ready, once. A kubelet that lives and says that its node is not ready
    /// may say otherwise of its pods afterwards.
    fn mark_pods(&mut self, caches: &Caches, node: &Node, overdue: bool, now: Now, plan: &mut Plan) {
        let Some(health) = self.nodes.get_mut(node.name()) else { return };
        let unready = match health.ready.as_deref() {
            None | Some("True") => false,
            Some("False") => true,
            Some(_) => overdue,
        };
        if !unready || health.pods_marked {
            return;
        }
        let here = caches.all::<Pod>().filter(|pod| pod::node(pod) == node.name() && pod::is_ready(pod));
        let before = plan.writes.len();
        for pod in here {
            plan.writes.push(Write::update_status(&unready_pod(pod, now)));
            plan.warn(&**pod, "NodeNotReady", "Node is not ready");
        }
        // Once is enough where a kubelet lives: saying it again and again would be a quarrel.
        health.pods_marked = plan.writes.len() == before || health.ready.as_deref() == Some("False");
    }
}

/// The pod with its condition Ready false.
fn unready_pod(pod: &Pod, now: Now) -> Pod {
    let mut pod = pod.clone();
    let conditions = pod.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
    for condition in conditions.filter(|condition| condition.type_ == "Ready") {
        condition.status = "False".to_owned();
        condition.last_transition_time = Some(api::object::seconds(now.wall));
    }
    pod
}

/// Region and zone of a node, as one text; upstream's `GetZoneKey`.
fn zone_of(node: &Node) -> String {
    let label = |key: &str| node.labels().get(key).map(String::as_str).unwrap_or_default();
    let (region, zone) = (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"));
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
}

#[cfg(test)]
mod tests;
