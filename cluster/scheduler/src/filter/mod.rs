//! Filters: whether a pod may run on a node, and if not, why.
//!
//! What concerns the whole cluster (how pods are spread, which pods repel which) is counted once per cycle into a
//! [`State`]; a filter then only looks at one node. Preemption and nominated pods change a copy of the state pod by pod.

pub mod affinity;
pub mod basic;
pub mod spread;

#[cfg(test)]
use basic::tests as basic_tests;

use crate::cache::Cache;
use crate::node::{NodeFacts, NodeInfo};
use crate::plugin::Plugin;
use crate::pod::PodInfo;
use client::Caches;
use std::borrow::Cow;

/// Why a pod may not run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The rule that says so.
    pub plugin: Plugin,
    /// In upstream's words; usually one.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether removing other pods cannot help.
    pub unresolvable: bool,
}

impl Rejection {
    /// One that goes away if other pods do.
    pub fn new(plugin: Plugin, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { plugin, reasons: vec![reason.into()], unresolvable: false }
    }

    /// One that no removal of pods changes.
    pub fn unresolvable(plugin: Plugin, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { plugin, reasons: vec![reason.into()], unresolvable: true }
    }
}

/// What the filters of one pod must know of the whole cluster.
#[derive(Clone, Debug)]
pub struct State {
    spread: spread::State,
    affinity: affinity::State,
}

impl State {
    /// Counts.
    pub fn new(pod: &PodInfo, cache: &Cache, caches: &Caches) -> Self {
        Self { spread: spread::State::new(pod, cache), affinity: affinity::State::new(pod, cache, caches) }
    }

    /// Counts as if `other` were on a node too.
    pub fn add(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeFacts, caches: &Caches) {
        self.spread.change(pod, other, node, 1);
        self.affinity.change(pod, other, node, 1, caches);
    }

    /// Counts as if `other` were not on a node.
    pub fn remove(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeFacts, caches: &Caches) {
        self.spread.change(pod, other, node, -1);
        self.affinity.change(pod, other, node, -1, caches);
    }
}

/// Whether `pod` may run on `node`.
///
/// # Errors
/// The first rule that keeps it off, in upstream's order.
pub fn check(pod: &PodInfo, node: &NodeInfo, facts: &NodeFacts, state: &State) -> Result<(), Rejection> {
    basic::node_unschedulable(pod, facts)?;
    basic::taints(pod, facts)?;
    basic::node_affinity(pod, facts)?;
    basic::ports(pod, node)?;
    basic::resources(pod, node, facts)?;
    state.spread.check(pod, facts)?;
    state.affinity.check(facts)
}
