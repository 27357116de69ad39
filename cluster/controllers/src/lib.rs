//! Controllers: pure functions from what is to what shall be, as rows of one table.
//!
//! ```text
//! Caches ──▶ reconcile(caches, key, now): looks up what the decision needs
//!                 └──▶ plan(object, dependents, now): decides ──▶ Plan { writes, requeue, events }
//! ```
//!
//! A controller is a function of what is known, and keeps nothing between calls unless its module says so. The one
//! driver of crate `client` watches, queues, performs and waits: no plan of a key runs before the writes of the plan
//! before it are definite and in the caches. Controllers rely on that, see [`name`].
//!
//! A new controller is a module with these two functions, and a row in [`all`].

pub mod deployment;
pub mod disruption;
mod doomed;
pub mod endpointslice;
#[cfg(test)]
mod fake;
pub mod garbage;
mod kinds;
#[cfg(test)]
mod model;
pub mod name;
pub mod namespace;
pub mod nodecidr;
pub mod nodelifecycle;
pub mod owner;
pub mod percent;
pub mod pod;
pub mod podgc;
pub mod replicaset;
pub mod serviceaccount;
pub mod tainteviction;
mod taints;

use client::Controller;
use std::time::Duration;

/// What an operator can choose. The default is upstream's.
#[derive(Clone, Debug)]
pub struct Config {
    /// From which range nodes get their pods' addresses, in CIDR notation.
    pub cluster_cidr: String,
    /// How many bits of an address are the node's.
    pub node_cidr_mask_size: u8,
    /// How long a node may be silent before it counts as lost; upstream's `--node-monitor-grace-period`.
    pub node_monitor_grace_period: Duration,
    /// The same for a node that never reported; upstream's `--node-startup-grace-period`.
    pub node_startup_grace_period: Duration,
    /// How often nodes are looked at; upstream's `--node-monitor-period`.
    pub node_monitor_period: Duration,
    /// Time between two nodes tainted for eviction in a healthy zone; the inverse of `--node-eviction-rate`.
    pub node_eviction_interval: Duration,
    /// The same in a large zone that is partly down; the inverse of `--secondary-node-eviction-rate`.
    pub secondary_node_eviction_interval: Duration,
    /// A zone of at most so many nodes gets no eviction while it is partly down; `--large-cluster-size-threshold`.
    pub large_cluster_size_threshold: usize,
    /// From so many percent of unready nodes on, a zone is partly down; `--unhealthy-zone-threshold`.
    pub unhealthy_zone_threshold_percent: usize,
    /// So many finished pods may stay; `--terminated-pod-gc-threshold`.
    pub terminated_pod_threshold: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster_cidr: "10.244.0.0/16".to_owned(),
            node_cidr_mask_size: 24,
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            node_monitor_period: Duration::from_secs(5),
            node_eviction_interval: Duration::from_secs(10),
            secondary_node_eviction_interval: Duration::from_secs(100),
            large_cluster_size_threshold: 50,
            unhealthy_zone_threshold_percent: 55,
            terminated_pod_threshold: 12_500,
        }
    }
}

/// Every controller.
pub fn all(config: &Config) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(deployment::deployments()),
        Box::new(disruption::row()),
        Box::new(endpointslice::ENDPOINTS),
        Box::new(endpointslice::SLICES),
        Box::new(garbage::ROW),
        Box::new(namespace::ROW),
        Box::new(nodecidr::NodeCidr::new(config)),
        Box::new(nodelifecycle::NodeLifecycle::new(config.clone())),
        Box::new(podgc::PodGc::new(config)),
        Box::new(replicaset::replication_controllers()),
        Box::new(replicaset::replicasets()),
        Box::new(serviceaccount::row()),
        Box::new(tainteviction::TaintEviction::default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_controller_has_a_name_of_its_own_and_watches_kinds_that_are_served() {
        let controllers = all(&Config::default());
        let names: BTreeSet<&str> = controllers.iter().map(|controller| controller.name()).collect();
        assert_eq!(names.len(), controllers.len());
        assert!(controllers.iter().all(|controller| !controller.watches().is_empty()));
    }
}
