//! What is where: nodes, the pods on them, and the pods that are about to be.
//!
//! ```text
//! informer ──put_node, put_pod, remove_*──▶ Cache ──&Cache──▶ filters, scores, preemption
//! cycle ────assume──▶ (binding) ──confirmed by put_pod, or forget──▲
//! ```
//!
//! The cache is its own snapshot: a scheduling cycle is synchronous, and nothing changes under it. It keeps counts that
//! make a cycle cheap: pods by namespace and labels, so that a selector is put to each *set* of labels once and not to
//! each pod; and pods by their affinity terms, of which those of a workload share one.
//!
//! **Invariant:** a node that was removed is never offered, even while pods are left on it
//! (`a_node_that_is_gone_is_not_offered_while_its_pods_are_left`).
//! **Invariant:** taking everything out leaves nothing (`what_is_put_and_removed_leaves_nothing`).

use crate::matching::{Labels, Selector};
use crate::node::{NodeFacts, NodeInfo};
use crate::pod::{PodInfo, PodTerms, Uid};
use api::ObjectExt;
use api::core::v1::Node;
use mark::sometimes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Place of a node in the cache. Stable while the node or any pod of it is there.
pub type NodeId = usize;

/// How many pods there are per node.
pub type PerNode = BTreeMap<NodeId, u32>;

/// Nodes and the pods on them.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    nodes: Vec<Option<NodeInfo>>,
    free: Vec<NodeId>,
    by_name: BTreeMap<Arc<str>, NodeId>,
    /// Nodes that exist, so that neighbours are of different zones.
    order: Vec<NodeId>,
    order_is_stale: bool,
    pods: BTreeMap<Uid, Placed>,
    classes: BTreeMap<String, BTreeMap<Labels, Class>>,
    groups: BTreeMap<Arc<PodTerms>, PerNode>,
    /// On how many nodes an image is.
    images: BTreeMap<String, i64>,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    node: NodeId,
    /// It is being bound, and nobody has seen it bound yet.
    assumed: bool,
}

/// Pods of one namespace that have the same labels.
#[derive(Clone, Debug, Default)]
pub struct Class {
    /// Those that stay.
    pub live: PerNode,
    /// Those whose deletion was asked for.
    pub ending: PerNode,
}

impl Cache {
    /// Notes a node as it is now. Returns what it was.
    pub fn put_node(&mut self, node: Arc<Node>) -> (Option<Arc<NodeFacts>>, Arc<NodeFacts>) {
        let facts = Arc::new(NodeFacts::new(node));
        let id = self.id_of(facts.name());
        let old = self.info_mut(id).facts.replace(facts.clone());
        if old.as_ref().is_none_or(|old| old.zone() != facts.zone()) {
            self.order_is_stale = true;
        }
        if let Some(old) = &old {
            self.count_images(old, -1);
        }
        self.count_images(&facts, 1);
        (old, facts)
    }

    /// Notes that a node is gone. Pods that are left on it stay, on a ghost that is offered to nobody.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<NodeFacts>> {
        let id = *self.by_name.get(name)?;
        let facts = self.info_mut(id).facts.take()?;
        self.order_is_stale = true;
        self.order.retain(|it| *it != id);
        self.count_images(&facts, -1);
        if !self.info(id).pods.is_empty() {
            sometimes!("node removed while pods remain on it");
        }
        self.drop_if_empty(id);
        Some(facts)
    }

    /// Notes a pod that is bound to a node, as it is now; that confirms one that was assumed. Returns what it was, unless
    /// it was only assumed.
    pub fn put_pod(&mut self, pod: Arc<PodInfo>) -> Option<Arc<PodInfo>> {
        let id = self.id_of(pod.node_name());
        let placed = self.pods.get(&pod.uid).copied();
        if placed.is_some_and(|placed| placed.assumed && placed.node != id) {
            sometimes!("pod was assumed on one node and bound to another");
        }
        let old = self.replace(pod, id, false);
        old.filter(|_| placed.is_some_and(|placed| !placed.assumed))
    }

    /// Counts a pod as being on `node` from now on, before it is bound there.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        let id = self.id_of(node);
        self.replace(pod, id, true);
    }

    /// Takes back what was assumed; nothing if the pod was seen bound meanwhile.
    pub fn forget(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        if self.is_assumed(uid) { self.take(uid) } else { None }
    }

    /// Notes that a pod is gone, or has ended.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.take(uid)
    }

    /// Whether a pod is counted on a node without having been seen there.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    /// Pods that are assumed, in order of UID.
    pub fn assumed(&self) -> impl Iterator<Item = &Uid> {
        self.pods.iter().filter(|(_, placed)| placed.assumed).map(|(uid, _)| uid)
    }

    /// The node that a pod is on.
    pub fn node_of(&self, uid: &str) -> Option<&NodeInfo> {
        self.pods.get(uid).map(|placed| self.info(placed.node))
    }

    /// A pod, as it is counted.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.node_of(uid).and_then(|node| node.pods.get(uid))
    }

    /// All pods, in order of UID.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.pods.keys().filter_map(|uid| self.pod(uid))
    }

    /// How many pods there are.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// Brings the order of nodes up to date; before a cycle.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.order_is_stale) {
            return;
        }
        let mut zones: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
        for id in self.by_name.values() {
            if let Some(facts) = &self.info(*id).facts {
                zones.entry(facts.zone()).or_default().push(*id);
            }
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        self.order = (0..longest).flat_map(|i| zones.values().filter_map(move |zone| zone.get(i).copied())).collect();
    }

    /// Nodes that exist, in an order in which neighbours are of different zones.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// How many nodes exist.
    pub fn node_count(&self) -> usize {
        self.by_name.values().filter(|id| self.info(**id).facts.is_some()).count()
    }

    /// Nodes that exist, in that order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeInfo)> {
        self.order.iter().map(|id| (*id, self.info(*id)))
    }

    /// A node by its place.
    pub fn info(&self, id: NodeId) -> &NodeInfo {
        self.nodes[id].as_ref().expect("places are handed out for nodes that are there")
    }

    /// A node that exists, by name.
    pub fn node(&self, name: &str) -> Option<(NodeId, &NodeInfo)> {
        let id = *self.by_name.get(name)?;
        Some((id, self.info(id))).filter(|(_, info)| info.facts.is_some())
    }

    /// Pods of a namespace that `selector` matches and that stay, per node.
    pub fn matching(&self, namespace: &str, selector: &Selector) -> PerNode {
        let classes = self.classes.get(namespace).into_iter().flatten();
        let mut sum = PerNode::new();
        for (_, class) in classes.filter(|(labels, _)| selector.matches(labels)) {
            for (node, count) in &class.live {
                *sum.entry(*node).or_default() += count;
            }
        }
        sum
    }

    /// Pods by namespace and labels.
    pub fn classes(&self) -> impl Iterator<Item = (&str, &Labels, &Class)> {
        let all = self.classes.iter();
        all.flat_map(|(namespace, classes)| classes.iter().map(move |(labels, it)| (namespace.as_str(), labels, it)))
    }

    /// Pods that have affinity terms, by these.
    pub fn groups(&self) -> impl Iterator<Item = (&Arc<PodTerms>, &PerNode)> {
        self.groups.iter()
    }

    /// On how many nodes an image is.
    pub fn nodes_with_image(&self, name: &str) -> i64 {
        self.images.get(name).copied().unwrap_or(0)
    }

    /// Puts a pod in the place of any of its UID.
    fn replace(&mut self, pod: Arc<PodInfo>, id: NodeId, assumed: bool) -> Option<Arc<PodInfo>> {
        let old = self.lift(&pod.uid);
        self.count(&pod, id, true);
        self.pods.insert(pod.uid.clone(), Placed { node: id, assumed });
        self.info_mut(id).add(pod);
        // Only now: a ghost goes with its last pod, and this may be the next one on the same ghost.
        old.map(|(old, from)| {
            self.drop_if_empty(from);
            old
        })
    }

    fn take(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let (pod, from) = self.lift(uid)?;
        self.drop_if_empty(from);
        Some(pod)
    }

    fn lift(&mut self, uid: &str) -> Option<(Arc<PodInfo>, NodeId)> {
        let placed = self.pods.remove(uid)?;
        let pod = self.info_mut(placed.node).remove(uid)?;
        self.count(&pod, placed.node, false);
        Some((pod, placed.node))
    }

    fn count(&mut self, pod: &PodInfo, id: NodeId, up: bool) {
        let classes = self.classes.entry(pod.namespace().to_owned()).or_default();
        if !classes.contains_key(pod.labels()) {
            classes.insert(pod.labels().clone(), Class::default());
        }
        if let Some(class) = classes.get_mut(pod.labels()) {
            bump(if pod.pod.is_terminating() { &mut class.ending } else { &mut class.live }, id, up);
            if class.live.is_empty() && class.ending.is_empty() {
                classes.remove(pod.labels());
            }
        }
        if classes.is_empty() {
            self.classes.remove(pod.namespace());
        }
        if let Some(terms) = &pod.terms {
            let group = self.groups.entry(terms.clone()).or_default();
            bump(group, id, up);
            if group.is_empty() {
                self.groups.remove(terms);
            }
        }
    }

    fn count_images(&mut self, facts: &NodeFacts, by: i64) {
        for name in facts.images.keys() {
            let count = self.images.entry(name.clone()).or_default();
            *count += by;
            if *count == 0 {
                self.images.remove(name);
            }
        }
    }

    fn id_of(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        self.nodes[id] = Some(NodeInfo::new(name.clone()));
        self.by_name.insert(name, id);
        id
    }

    fn info_mut(&mut self, id: NodeId) -> &mut NodeInfo {
        self.nodes[id].as_mut().expect("places are handed out for nodes that are there")
    }

    fn drop_if_empty(&mut self, id: NodeId) {
        let info = self.info(id);
        if info.facts.is_none() && info.pods.is_empty() {
            let name = info.name.clone();
            self.by_name.remove(&name);
            self.nodes[id] = None;
            self.free.push(id);
        }
    }
}

fn bump(counts: &mut PerNode, id: NodeId, up: bool) {
    let count = counts.entry(id).or_default();
    *count = if up { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        counts.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    fn names(cache: &mut Cache) -> Vec<String> {
        cache.settle();
        cache.nodes().map(|(_, info)| info.name.to_string()).collect()
    }

    #[test]
    fn a_node_that_is_gone_is_not_offered_while_its_pods_are_left() {
        let mut cache = Cache::default();
        cache.put_node(node("n1"));
        cache.put_pod(pod("a on=n1 cpu=1"));
        cache.remove_node("n1");
        assert!(names(&mut cache).is_empty() && cache.node("n1").is_none());
        assert_eq!(cache.pod_count(), 1);
        cache.put_node(node("n1"));
        assert_eq!(names(&mut cache), ["n1"]);
        assert_eq!(cache.node("n1").unwrap().1.requested.cpu_milli, 1000);
    }

    #[test]
    fn neighbours_are_of_different_zones() {
        let mut cache = Cache::default();
        for text in ["n1 zone=a", "n2 zone=a", "n3 zone=b", "n4 zone=a", "n5 zone=c"] {
            cache.put_node(node(text));
        }
        assert_eq!(names(&mut cache), ["n1", "n3", "n5", "n2", "n4"]);
    }

    #[test]
    fn an_assumed_pod_counts_until_it_is_forgotten_or_confirmed() {
        let mut cache = Cache::default();
        cache.put_node(node("n1"));
        cache.assume(pod("a cpu=1"), "n1");
        assert!(cache.is_assumed("a") && cache.node("n1").unwrap().1.requested.cpu_milli == 1000);
        assert!(cache.forget("a").is_some() && cache.forget("a").is_none());
        assert_eq!(cache.node("n1").unwrap().1.requested.cpu_milli, 0);
        cache.assume(pod("a cpu=1"), "n1");
        assert!(cache.put_pod(pod("a on=n1 cpu=1")).is_none(), "it is news to everybody else");
        assert!(cache.forget("a").is_none() && cache.pod("a").is_some());
    }

    #[test]
    fn a_pod_bound_elsewhere_than_assumed_is_where_it_was_bound() {
        let mut cache = Cache::default();
        cache.put_node(node("n1"));
        cache.put_node(node("n2"));
        cache.assume(pod("a cpu=1"), "n1");
        cache.put_pod(pod("a on=n2 cpu=1"));
        assert_eq!(&*cache.node_of("a").unwrap().name, "n2");
        assert_eq!(cache.node("n1").unwrap().1.requested.cpu_milli, 0);
    }

    #[test]
    fn what_is_put_and_removed_leaves_nothing() {
        let mut cache = Cache::default();
        cache.put_node(node("n1 image=app:1"));
        cache.put_pod(pod("a on=n1 cpu=1 port=80 label:x=y anti:host:x=y"));
        cache.put_pod(pod("b on=n2 ending"));
        cache.put_pod(pod("b on=n2"));
        cache.remove_pod("a");
        cache.remove_pod("b");
        cache.remove_node("n1");
        cache.settle();
        assert!(cache.classes.is_empty() && cache.groups.is_empty() && cache.images.is_empty());
        assert!(cache.by_name.is_empty() && cache.pods.is_empty() && cache.nodes.iter().all(Option::is_none));
    }
}
