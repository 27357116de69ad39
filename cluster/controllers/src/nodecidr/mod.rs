//! Pod CIDRs: each node gets a block of the cluster's range, and no two nodes have the same.
//!
//! ```text
//! Node without podCIDR ─▶ lowest block that nobody holds ─▶ patch at the version seen
//! ```
//!
//! A block is held by a node that has it; by one that this process gave it to, as long as a node of that name lives;
//! and after the node, by its pods, as long as the store has any of them: its machine may still answer for their
//! addresses. All of it but the last write is in the caches, so that a new leader knows it too; the memory is for
//! several nodes in one go, whose writes are not in the caches yet.
//!
//! **Invariant:** no two nodes hold one block (`blocks_are_unique_across_deletions_and_new_leaders`).

use crate::{Config, pod};
use api::core::v1::{Node, NodeSpec, Pod};
use api::{ObjectExt, ObjectMeta};
use client::{Caches, Controller, Key, Now, Plan, Watch, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How long a node waits for a block if there is none: blocks come free by deletions, which are rare.
const NO_BLOCK: Duration = Duration::from_secs(30);

/// A range of IPv4 addresses that is cut into blocks of equal size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u32,
    bits: u8,
    block_bits: u8,
}

/// One block: its number in the range, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block(u32);

/// Why a range cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It is no IPv4 range.
    #[error("{0:?} is no IPv4 range such as 10.244.0.0/16")]
    NotARange(String),
    /// Blocks do not fit into it, or are too many.
    #[error("blocks of /{1} do not fit {0}: they must be smaller than the range by up to 16 bits, and at most /30")]
    Blocks(String, u8),
}

impl Range {
    /// A range in CIDR notation, and how many bits of an address say the block.
    ///
    /// # Errors
    /// If it is none or is not to be cut like that.
    pub fn parse(text: &str, block_bits: u8) -> Result<Self, RangeError> {
        let parts = text.split_once('/');
        let base = parts.and_then(|(base, _)| base.parse::<Ipv4Addr>().ok());
        let bits = parts.and_then(|(_, bits)| bits.parse::<u8>().ok());
        let (Some(base), Some(bits @ 1..=32)) = (base, bits) else {
            return Err(RangeError::NotARange(text.to_owned()));
        };
        // More than 65,536 nodes is no cluster, and a /30 has no address left for a pod.
        if block_bits < bits || block_bits - bits > 16 || block_bits > 30 {
            return Err(RangeError::Blocks(text.to_owned(), block_bits));
        }
        let base = u32::from(base) & (u32::MAX << (32 - u32::from(bits)));
        Ok(Self { base, bits, block_bits })
    }

    fn blocks(self) -> u32 {
        1 << (self.block_bits - self.bits)
    }

    /// The block that an address is in.
    fn block_of(self, address: Ipv4Addr) -> Option<Block> {
        let offset = u32::from(address).checked_sub(self.base)?;
        let block = offset >> (32 - u32::from(self.block_bits));
        (block < self.blocks()).then_some(Block(block))
    }

    /// The blocks that a CIDR overlaps; empty if it is none of this range.
    fn blocks_of(self, cidr: &str) -> Vec<Block> {
        let Some((base, bits)) = cidr.split_once('/') else { return Vec::new() };
        let (Ok(base), Ok(bits @ 1..=32)) = (base.parse::<Ipv4Addr>(), bits.parse::<u32>()) else { return Vec::new() };
        let first = u32::from(base) & (u32::MAX << (32 - bits));
        let last = first | u32::MAX.checked_shr(bits).unwrap_or(0);
        let end = self.base | (u32::MAX >> u32::from(self.bits));
        if last < self.base || first > end {
            return Vec::new();
        }
        let shift = 32 - u32::from(self.block_bits);
        let block = |address: u32| (address.clamp(self.base, end) - self.base) >> shift;
        (block(first)..=block(last)).map(Block).collect()
    }

    fn show(self, block: Block) -> Cidr {
        let base = self.base + (block.0 << (32 - u32::from(self.block_bits)));
        Cidr { base: base.into(), bits: self.block_bits }
    }
}

/// A CIDR as it is written.
struct Cidr {
    base: Ipv4Addr,
    bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// The controller.
pub struct NodeCidr {
    range: Result<Range, RangeError>,
    /// What was given, or seen to be held, by name of the node.
    held: BTreeMap<String, BTreeSet<Block>>,
}

impl NodeCidr {
    /// Blocks of the range that `config` names. A range that is none gives no blocks, and every node a warning.
    pub fn new(config: &Config) -> Self {
        Self { range: Range::parse(&config.cluster_cidr, config.node_cidr_mask_size), held: BTreeMap::new() }
    }
}

impl Controller for NodeCidr {
    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        // Only looked up: pods of nodes that are gone hold their blocks.
        vec![Watch::own::<Node>(), Watch::lookup::<Pod>()]
    }

    fn restart(&mut self) {
        self.held.clear();
    }

    fn reconcile(&mut self, caches: &Caches, key: &Key, _now: Now) -> Plan {
        let Some(node) = caches.get::<Node>("", &key.name) else { return Plan::nothing() };
        let range = match &self.range {
            Ok(range) => *range,
            Err(error) if cidrs(node).is_empty() => {
                let mut plan = Plan::nothing();
                plan.warn(&**node, "CIDRNotAvailable", error.to_string());
                return plan;
            }
            Err(_) => return Plan::nothing(),
        };
        let has: BTreeSet<Block> = cidrs(node).iter().flat_map(|cidr| range.blocks_of(cidr)).collect();
        if !cidrs(node).is_empty() {
            self.held.insert(key.name.clone(), has);
            return Plan::nothing();
        }
        if node.is_terminating() {
            return Plan::nothing();
        }
        self.release(caches);
        let given = self.held.get(&key.name).and_then(|blocks| blocks.first().copied());
        let taken = taken(range, caches, &key.name, &self.held);
        let given = given.filter(|block| !taken.contains(block));
        let block = given.or_else(|| (0..range.blocks()).map(Block).find(|block| !taken.contains(block)));
        let Some(block) = block else {
            mark::sometimes!("no pod CIDR is left");
            let mut plan = Plan::nothing();
            plan.note(&**node, "CIDRNotAvailable", format!("Node {} status is now: CIDRNotAvailable", key.name));
            plan.wait("no pod CIDR is left");
            plan.requeue(NO_BLOCK);
            return plan;
        };
        self.held.insert(key.name.clone(), BTreeSet::from([block]));
        Plan::write(give(node, range.show(block)))
    }
}

impl NodeCidr {
    /// Forgets the blocks of nodes that are gone with all their pods.
    fn release(&mut self, caches: &Caches) {
        let is_gone = |name: &String| caches.get::<Node>("", name).is_none();
        if !self.held.keys().any(is_gone) {
            return;
        }
        let with_pods: BTreeSet<&str> = caches.all::<Pod>().map(|pod| pod::node(pod)).collect();
        self.held.retain(|name, _| !is_gone(name) || with_pods.contains(name.as_str()));
    }
}

/// The blocks that anybody but the node of this name holds.
fn taken(range: Range, caches: &Caches, name: &str, held: &BTreeMap<String, BTreeSet<Block>>) -> BTreeSet<Block> {
    let others = held.iter().filter(|(other, _)| *other != name);
    let mut taken: BTreeSet<Block> = others.flat_map(|(_, blocks)| blocks.iter().copied()).collect();
    for node in caches.all::<Node>() {
        taken.extend(cidrs(node).iter().flat_map(|cidr| range.blocks_of(cidr)));
    }
    // Pods of a node that is gone: its block is known to nobody but by their addresses after a change of leader.
    for pod in caches.all::<Pod>() {
        let status = pod.status.as_ref();
        let ip = status.and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse::<IpAddr>().ok());
        match ip {
            Some(IpAddr::V4(ip)) => taken.extend(range.block_of(ip)),
            Some(IpAddr::V6(_)) | None => {}
        }
    }
    taken
}

/// All that a node holds.
fn cidrs(node: &Node) -> BTreeSet<&str> {
    let Some(spec) = &node.spec else { return BTreeSet::new() };
    let one = spec.pod_cidr.as_deref().filter(|cidr| !cidr.is_empty());
    one.into_iter().chain(spec.pod_cidrs.iter().flatten().map(String::as_str)).collect()
}

/// The write that gives a node its block, if it is still of the version that has none.
fn give(node: &Node, cidr: Cidr) -> Write {
    let cidr = cidr.to_string();
    let patch = Node {
        metadata: ObjectMeta {
            uid: Some(node.uid().to_owned()),
            resource_version: Some(node.resource_version().to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec { pod_cidr: Some(cidr.clone()), pod_cidrs: Some(vec![cidr]), ..NodeSpec::default() }),
        status: None,
    };
    Write::patch(node, &patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use api::Timestamp;
    use api::core::v1::{PodSpec, PodStatus};
    use expect_test::expect;

    fn now() -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO }
    }

    fn a_node(name: &str, cidr: Option<&str>) -> Node {
        Node {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            spec: Some(NodeSpec { pod_cidr: cidr.map(str::to_owned), ..NodeSpec::default() }),
            status: None,
        }
    }

    fn a_pod(name: &str, node: &str, ip: Option<&str>) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("default".to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { node_name: Some(node.to_owned()), ..PodSpec::default() }),
            status: Some(PodStatus { pod_ip: ip.map(str::to_owned), ..PodStatus::default() }),
        }
    }

    fn controller(range: &str, bits: u8) -> NodeCidr {
        let config = Config { cluster_cidr: range.to_owned(), node_cidr_mask_size: bits, ..Config::default() };
        NodeCidr::new(&config)
    }

    fn settle(fake: &mut Fake, controller: &mut NodeCidr) {
        let names: Vec<String> = fake.caches.all::<Node>().map(|node| node.name().to_owned()).collect();
        // All plans on the same view, before any of the writes is seen.
        let caches = fake.caches.clone();
        let plans: Vec<Plan> =
            names.iter().map(|name| controller.reconcile(&caches, &Key::new("", name), now())).collect();
        plans.iter().for_each(|plan| fake.perform(plan).unwrap());
        for name in names {
            assert!(controller.reconcile(&fake.caches, &Key::new("", &name), now()).is_empty());
        }
    }

    fn show(fake: &Fake) -> String {
        let nodes = fake.caches.all::<Node>();
        let show = |node: &std::sync::Arc<Node>| {
            format!("{}={}", node.name(), node.spec.as_ref().unwrap().pod_cidr.as_deref().unwrap_or("-"))
        };
        nodes.map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nodes_get_the_lowest_free_blocks_all_different() {
        let (mut fake, mut controller) = (Fake::new(), controller("10.244.0.0/16", 24));
        fake.put(a_node("a", None));
        fake.put(a_node("b", Some("10.244.1.0/24")));
        fake.put(a_node("c", None));
        fake.put(a_node("d", None));
        settle(&mut fake, &mut controller);
        expect!["a=10.244.0.0/24 b=10.244.1.0/24 c=10.244.2.0/24 d=10.244.3.0/24"].assert_eq(&show(&fake));
    }

    #[test]
    fn a_block_is_free_again_when_its_node_is_gone_with_all_pods() {
        let (mut fake, mut first) = (Fake::new(), controller("10.244.0.0/16", 24));
        fake.put(a_node("a", None));
        settle(&mut fake, &mut first);
        fake.put(a_pod("p", "a", None));
        fake.remove::<Node>("", "a");
        fake.put(a_node("b", None));
        settle(&mut fake, &mut first);
        expect!["b=10.244.1.0/24"].assert_eq(&show(&fake));
        // A new leader knows by the pod's address.
        fake.put(a_pod("p", "a", Some("10.244.0.9")));
        fake.put(a_node("c", None));
        let mut second = controller("10.244.0.0/16", 24);
        settle(&mut fake, &mut second);
        expect!["b=10.244.1.0/24 c=10.244.2.0/24"].assert_eq(&show(&fake));
        fake.remove::<Pod>("default", "p");
        fake.put(a_node("d", None));
        settle(&mut fake, &mut second);
        expect!["b=10.244.1.0/24 c=10.244.2.0/24 d=10.244.0.0/24"].assert_eq(&show(&fake));
    }

    #[test]
    fn blocks_are_unique_across_deletions_and_new_leaders() {
        let mut fake = Fake::new();
        let mut current = controller("10.244.0.0/20", 24);
        for step in 0u32..200 {
            let name = format!("n{}", step * 7 % 13);
            match step % 5 {
                0 => current = controller("10.244.0.0/20", 24),
                1 if fake.caches.get::<Node>("", &name).is_some() => fake.remove::<Node>("", &name),
                1..5 if fake.caches.get::<Node>("", &name).is_none() => drop(fake.put(a_node(&name, None))),
                _ => {}
            }
            settle(&mut fake, &mut current);
            let all: Vec<String> = fake.caches.all::<Node>().flat_map(|node| node.spec.clone()?.pod_cidr).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
            assert_eq!(all.len(), fake.caches.all::<Node>().count());
        }
    }

    #[test]
    fn a_node_waits_when_there_is_no_block() {
        let (mut fake, mut controller) = (Fake::new(), controller("10.244.0.0/24", 24));
        fake.put(a_node("a", None));
        fake.put(a_node("b", None));
        settle(&mut fake, &mut controller);
        expect!["a=10.244.0.0/24 b=-"].assert_eq(&show(&fake));
        let plan = controller.reconcile(&fake.caches, &Key::new("", "b"), now());
        assert_eq!(plan.requeue_after, Some(NO_BLOCK));
        assert_eq!(plan.notes[0].reason, "CIDRNotAvailable");
    }

    #[test]
    fn a_cidr_of_another_size_holds_every_block_that_it_overlaps() {
        let range = Range::parse("10.244.0.0/20", 24).unwrap();
        let blocks = |cidr| range.blocks_of(cidr).iter().map(|block| block.0.to_string()).collect::<Vec<_>>().join(" ");
        expect!["3"].assert_eq(&blocks("10.244.3.0/24"));
        expect!["4 5 6 7"].assert_eq(&blocks("10.244.4.0/22"));
        expect!["5"].assert_eq(&blocks("10.244.5.128/25"));
        expect!["0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"].assert_eq(&blocks("10.0.0.0/8"));
        expect![""].assert_eq(&blocks("10.244.16.0/24"));
        expect![""].assert_eq(&blocks("fd00::/64"));
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        assert!(Range::parse("10.244.0.0", 24).is_err());
        assert!(Range::parse("fd00::/64", 24).is_err());
        assert!(Range::parse("10.244.0.0/16", 12).is_err());
        assert!(Range::parse("10.0.0.0/8", 30).is_err());
        assert!(Range::parse("10.244.0.0/0", 8).is_err());
    }
}
