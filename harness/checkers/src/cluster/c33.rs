//! C33: how fast nodes may be tainted for eviction, by how much of their zone is down.

use super::facts::{CONTROLLERS, NO_EXECUTE, SECOND_NS, node_condition, node_is_ready, node_label, taints};
use super::{Commit, Node, World};
use crate::findings::Findings;
use faults::{Kind, Ns};
use record::{Guarantee, Verdict};
use std::collections::BTreeMap;

/// Time between two nodes of a zone: a tenth of a node per second.
pub(crate) const INTERVAL_NS: Ns = 10 * SECOND_NS;
/// The same in a large zone of which a great part is down.
const SECONDARY_NS: Ns = 100 * SECOND_NS;
/// A zone of at most so many nodes is left alone while a great part of it is down.
const SMALL_ZONE: usize = 50;
/// From so many unready nodes on, and so many percent, a great part is down.
const PARTIAL_UNREADY: usize = 3;
const PARTIAL_PERCENT: usize = 55;
/// Label of a node that does not count for its zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// How far behind the store the controller's view and its writes may be, while nothing is wrong with the control plane,
/// and while something is or was a minute ago.
const BEHIND_NS: (Ns, Ns) = (15 * SECOND_NS, 75 * SECOND_NS);
/// How much closer two writes may be than their turns were, likewise.
const JITTER_NS: (Ns, Ns) = (2 * SECOND_NS, 30 * SECOND_NS);
const AFTERMATH_NS: Ns = 60 * SECOND_NS;

/// Taints of key `not-ready` or `unreachable` and effect NoExecute come to nodes
/// - not at all while every node of every zone is down, or a great part of a small zone, once that is known;
/// - else one per zone and interval. Writes may be held up and so come closer to each other; each new leader begins
///   with a turn to give away.
///
/// How it stands with a zone is judged by what the store says of its nodes. Every taint is a test, and so is every time
/// in which a node waits for one that it must not get. While clocks of members run wrong, intervals are not judged.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C33);
    let restraints = restraints(world);
    let held = |restraint: &&Restraint| restraint.until_ns - restraint.from_ns > BEHIND_NS.0;
    let never = restraints.iter().filter(|restraint| restraint.pace == Pace::Never);
    findings.tested(never.filter(|restraint| restraint.waiting).filter(held).count() as u64);
    let mut given: BTreeMap<String, Vec<Ns>> = BTreeMap::new();
    for commit in &world.commits {
        let (Some(old), Some(new)) = commit.nodes() else { continue };
        if is_tainted(old) || !is_tainted(new) {
            continue;
        }
        findings.tested(1);
        let zone = zone_of(old);
        let struck = members_struck(world, commit.at_ns.saturating_sub(AFTERMATH_NS), commit.at_ns, |_| true);
        let behind_ns = if struck { BEHIND_NS.1 } else { BEHIND_NS.0 };
        let restrained = restraints
            .iter()
            .find(|it| it.zone == zone && it.from_ns + behind_ns < commit.at_ns && commit.at_ns <= it.until_ns);
        if let Some(restraint) = restrained.filter(|restraint| restraint.pace == Pace::Never) {
            let since_s = (commit.at_ns - restraint.from_ns) / SECOND_NS;
            let text = format!(
                "{} was tainted for eviction at revision {}, {since_s} s after {} was down too far for that",
                commit.key, commit.revision, restraint.what
            );
            findings.violated(commit.at_ns, text);
        }
        let times = given.entry(zone).or_default();
        times.push(commit.at_ns);
        let interval_ns = if restrained.is_some_and(|it| it.pace == Pace::Slow) { SECONDARY_NS } else { INTERVAL_NS };
        let slow_from = restrained.filter(|it| it.pace == Pace::Slow).map_or(0, |it| it.from_ns + behind_ns);
        pace(world, commit, times, (interval_ns, slow_from), &mut findings);
    }
    findings.verdict()
}

/// Judges the last of these times against all before, back to a time.
fn pace(world: &World<'_>, commit: &Commit, times: &[Ns], (interval_ns, from_ns): (Ns, Ns), findings: &mut Findings) {
    let rates = |kind| matches!(kind, Kind::ClockDrift | Kind::ClockFreeze | Kind::ClockJump);
    for (before, first_ns) in times.iter().enumerate().rev().skip(1).take_while(|(_, at_ns)| **at_ns >= from_ns) {
        let (span_ns, near_ns) = (commit.at_ns - first_ns, first_ns.saturating_sub(AFTERMATH_NS));
        if members_struck(world, near_ns, commit.at_ns, rates) {
            return;
        }
        let struck = members_struck(world, near_ns, commit.at_ns, |_| true);
        let jitter_ns = if struck { JITTER_NS.1 } else { JITTER_NS.0 };
        let given = times.len() - before;
        let leaders = world.elections_between(CONTROLLERS, first_ns.saturating_sub(jitter_ns), commit.at_ns);
        let most = 1 + leaders + usize::try_from((span_ns + jitter_ns) / interval_ns).unwrap_or(usize::MAX);
        if given > most {
            let text = format!(
                "{} was tainted for eviction at revision {}: {given} nodes of its zone in {} ms, where {most} may be",
                commit.key,
                commit.revision,
                span_ns / 1_000_000
            );
            findings.violated(commit.at_ns, text);
            return;
        }
    }
}

fn members_struck(world: &World<'_>, from_ns: Ns, until_ns: Ns, kinds: impl Fn(Kind) -> bool) -> bool {
    world.strikes_between(from_ns, until_ns).any(|strike| !strike.members.is_empty() && kinds(strike.kind))
}

/// How fast a zone's nodes may be tainted, if not at the usual pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Slow,
    Never,
}

/// A time in which a zone's nodes are to be tainted slowly or not at all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Restraint {
    pub(crate) zone: String,
    pub(crate) pace: Pace,
    pub(crate) from_ns: Ns,
    pub(crate) until_ns: Ns,
    /// Some node is not ready and has no such taint.
    waiting: bool,
    what: &'static str,
}

/// All of them, in order of when they ended.
pub(crate) fn restraints(world: &World<'_>) -> Vec<Restraint> {
    let mut nodes: BTreeMap<&str, &Node> = BTreeMap::new();
    let mut open: BTreeMap<String, Restraint> = BTreeMap::new();
    let mut over: Vec<Restraint> = Vec::new();
    for commit in &world.commits {
        match commit.nodes() {
            (None, None) => continue,
            (_, Some(node)) => drop(nodes.insert(&commit.key, node)),
            (Some(_), None) => drop(nodes.remove(&*commit.key)),
        }
        let zones = Zone::census(&nodes);
        let all_down = !zones.is_empty() && zones.values().all(|zone| zone.ready == 0 && zone.unready > 0);
        let now = |zone: &Zone| match zone.pace() {
            _ if all_down => Some((Pace::Never, "everything")),
            Some(pace) => Some((pace, "its zone")),
            None => None,
        };
        let ended: Vec<String> = open
            .iter()
            .filter(|(name, restraint)| {
                zones.get(*name).and_then(now).is_none_or(|now| now != (restraint.pace, restraint.what))
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            over.extend(open.remove(&name).map(|restraint| Restraint { until_ns: commit.at_ns, ..restraint }));
        }
        for (name, zone) in &zones {
            let Some((pace, what)) = now(zone) else { continue };
            let restraint = open.entry(name.clone()).or_insert_with(|| Restraint {
                zone: name.clone(),
                pace,
                from_ns: commit.at_ns,
                until_ns: Ns::MAX,
                waiting: false,
                what,
            });
            restraint.waiting |= zone.waiting;
        }
    }
    let until_ns = world.record.ended_ns;
    over.extend(open.into_values().map(|restraint| Restraint { until_ns, ..restraint }));
    over
}

/// How it stands with a zone.
#[derive(Default)]
struct Zone {
    ready: usize,
    unready: usize,
    waiting: bool,
}

impl Zone {
    /// All zones. A node that never said whether it is ready does not count.
    fn census(nodes: &BTreeMap<&str, &Node>) -> BTreeMap<String, Zone> {
        let mut zones: BTreeMap<String, Zone> = BTreeMap::new();
        for node in nodes.values().filter(|node| node_condition(node, "Ready").is_some()) {
            let zone = zones.entry(zone_of(node)).or_default();
            if node_label(node, EXCLUDED).is_some() {
                continue;
            }
            let ready = node_is_ready(node);
            zone.ready += usize::from(ready);
            zone.unready += usize::from(!ready);
            zone.waiting |= !ready && !is_tainted(node);
        }
        zones
    }

    fn pace(&self) -> Option<Pace> {
        let total = self.ready + self.unready;
        let partial =
            self.ready > 0 && self.unready >= PARTIAL_UNREADY && self.unready * 100 >= PARTIAL_PERCENT * total;
        match (partial, total > SMALL_ZONE) {
            (false, _) => None,
            (true, false) => Some(Pace::Never),
            (true, true) => Some(Pace::Slow),
        }
    }
}

/// Region and zone of a node.
pub(crate) fn zone_of(node: &Node) -> String {
    let label = |key: &str| node_label(node, key).unwrap_or_default();
    format!("{}/{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

/// Whether the node is tainted for eviction because it is not ready.
pub(crate) fn is_tainted(node: &Node) -> bool {
    taints(node).iter().any(|taint| {
        let key = taint.key.as_str();
        taint.effect == NO_EXECUTE && matches!(key, "node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    /// A node of a zone, ready or not, and tainted or not.
    fn node(tale: &mut Tale, name: &str, zone: &str, ready: bool, tainted: bool) {
        let taint = if tainted { r#"{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"}"# } else { "" };
        let status = if ready { "True" } else { "Unknown" };
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"topology.kubernetes.io/zone":"{zone}"}}}},"spec":{{"taints":[{taint}]}},"status":{{"conditions":[{{"type":"Ready","status":"{status}"}}]}}}}"#
        );
        tale.put(&format!("core/nodes/{name}"), &json);
    }

    /// A zone with as many nodes, of which so many are down.
    fn zone(tale: &mut Tale, zone: &str, nodes: usize, down: usize) {
        for number in 0..nodes {
            node(tale, &format!("{zone}n{number}"), zone, number >= down, false);
        }
    }

    fn taint(tale: &mut Tale, at_s: u64, zone: &str, number: usize) {
        tale.at(at_s);
        node(tale, &format!("{zone}n{number}"), zone, false, true);
    }

    #[test]
    fn one_node_per_zone_and_interval_passes() {
        let mut tale = Tale::new();
        zone(&mut tale, "a", 6, 3);
        zone(&mut tale, "b", 2, 2);
        for (at_s, zone, number) in [(10, "a", 0), (10, "b", 0), (20, "a", 1), (21, "b", 1), (30, "a", 2)] {
            taint(&mut tale, at_s, zone, number);
        }
        // The reason may change at any time, and who was tainted and is ready again may be so once more.
        taint(&mut tale, 30, "a", 0);
        tale.at(35);
        node(&mut tale, "an1", "a", true, false);
        taint(&mut tale, 40, "a", 1);
        tale.passes(check, Guarantee::C33, 6);
    }

    #[test]
    fn two_at_once_are_flagged() {
        let mut tale = Tale::new();
        zone(&mut tale, "a", 6, 3);
        taint(&mut tale, 10, "a", 0);
        taint(&mut tale, 17, "a", 1);
        tale.flags(check, "/registry/core/nodes/an1 was tainted for eviction at revision 9: 2 nodes of its zone in 7000 ms, where 1 may be");
    }

    #[test]
    fn a_new_leader_has_a_turn_of_its_own() {
        let mut tale = Tale::new();
        zone(&mut tale, "a", 6, 3);
        taint(&mut tale, 10, "a", 0);
        tale.at(12).elected(1, "kube-system/kube-controller-manager", 1, true);
        taint(&mut tale, 13, "a", 1);
        tale.passes(check, Guarantee::C33, 2);
        taint(&mut tale, 16, "a", 2);
        tale.flags(check, "3 nodes of its zone in 6000 ms, where 2 may be");
    }

    #[test]
    fn writes_that_a_fault_held_up_may_come_together() {
        let mut tale = Tale::new();
        zone(&mut tale, "a", 6, 3);
        taint(&mut tale, 10, "a", 0);
        taint(&mut tale, 11, "a", 1);
        tale.flags(check, "2 nodes");
        tale.strike(Kind::LinkHold, 5, 9).members = vec![1];
        tale.passes(check, Guarantee::C33, 2);
    }

    #[test]
    fn a_taint_while_everything_is_down_is_flagged() {
        let down = || {
            let mut tale = Tale::new();
            zone(&mut tale, "a", 2, 2);
            zone(&mut tale, "b", 1, 1);
            tale
        };
        down().passes(check, Guarantee::C33, 2);
        // It takes a moment to be known.
        let mut soon = down();
        taint(&mut soon, 5, "a", 0);
        soon.passes(check, Guarantee::C33, 3);
        let mut late = down();
        taint(&mut late, 30, "a", 0);
        late.flags(
            check,
            "/registry/core/nodes/an0 was tainted for eviction at revision 5, 29 s after everything was down too far",
        );
    }

    #[test]
    fn a_taint_in_a_small_zone_that_is_partly_down_is_flagged() {
        let mut tale = Tale::new();
        zone(&mut tale, "a", 5, 3);
        zone(&mut tale, "b", 1, 0);
        tale.passes(check, Guarantee::C33, 1);
        taint(&mut tale, 30, "a", 0);
        tale.flags(check, "29 s after its zone was down too far");
    }

    #[test]
    fn a_large_zone_that_is_partly_down_is_slow() {
        let mut tale = Tale::new();
        zone(&mut tale, "a", 60, 40);
        taint(&mut tale, 30, "a", 0);
        taint(&mut tale, 130, "a", 1);
        tale.passes(check, Guarantee::C33, 2);
        taint(&mut tale, 200, "a", 2);
        tale.flags(check, "2 nodes of its zone in 70000 ms, where 1 may be");
    }
}
