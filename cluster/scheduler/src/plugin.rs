//! The rules that can keep a pod off a node, by upstream's names of plugins.

use std::fmt;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plugin {
    /// The node is cordoned.
    NodeUnschedulable,
    /// The node has a taint.
    TaintToleration,
    /// The node is not one that the pod requires.
    NodeAffinity,
    /// A port of the node is taken.
    NodePorts,
    /// The node has not enough left.
    NodeResourcesFit,
    /// The pods of a set would be too unevenly spread.
    PodTopologySpread,
    /// Pods that must be near are not, or such that must not be are.
    InterPodAffinity,
    /// There is no node at all.
    NoNodes,
}

/// All of them, in upstream's order of filters.
pub const ALL: [Plugin; 8] = [
    Plugin::NodeUnschedulable,
    Plugin::TaintToleration,
    Plugin::NodeAffinity,
    Plugin::NodePorts,
    Plugin::NodeResourcesFit,
    Plugin::PodTopologySpread,
    Plugin::InterPodAffinity,
    Plugin::NoNodes,
];

/// A set of rules.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Plugins(u16);

impl Plugins {
    /// None.
    pub const NONE: Self = Self(0);

    /// Exactly one.
    pub fn only(plugin: Plugin) -> Self {
        Self(1 << plugin as u16)
    }

    /// Adds one.
    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u16;
    }

    /// Whether one is in it.
    pub fn contains(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u16) != 0
    }

    /// Whether none is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in order.
    pub fn iter(self) -> impl Iterator<Item = Plugin> {
        ALL.into_iter().filter(move |plugin| self.contains(*plugin))
    }
}

impl FromIterator<Plugin> for Plugins {
    fn from_iter<I: IntoIterator<Item = Plugin>>(plugins: I) -> Self {
        let mut all = Self::NONE;
        plugins.into_iter().for_each(|plugin| all.insert(plugin));
        all
    }
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
