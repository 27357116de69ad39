//! C38: controlled pods of a node lost for good, with default tolerations or shorter ones, run elsewhere within D + V + T
//! plus what C33 delays, given capacity.

use super::c33::{INTERVAL_NS, is_tainted, restraints, zone_of};
use super::facts::{
    CONTROLLERS, DETECTION_NS, NO_EXECUTE, NODES, PodLife, SCHEDULER, SECOND_NS, Timeline, controller_uid, is_active,
    is_ready, node_name, pod_lives, pod_node, skew_ns, tolerates, tolerations,
};
use super::places::{Places, is_simple};
use super::{Object, Pod, ReplicaSet, World};
use crate::findings::Findings;
use api::core::v1::Taint;
use faults::{Kind, Ns};
use record::{CONVERGE_NS, FAILOVER_NS, Guarantee, Strike, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// V of pods with default tolerations: how long they tolerate that their node is lost. Others' is shorter here.
const DEFAULT_NS: Ns = 300 * SECOND_NS;

/// What a change of leaders takes.
const ELECTION_NS: Ns = 25 * SECOND_NS;

/// New leaders of the controllers count every node as heard of when they come: so much later is a node found lost.
const LEADER_NS: Ns = DETECTION_NS + ELECTION_NS;

/// Nodes are looked at now and then, and their last word may be late.
const LOOKS_NS: Ns = 15 * SECOND_NS;

/// Nodes that are lost together are found so one by one, and their zone is only partly down meanwhile; that holds
/// nobody up for long.
const PASSING_NS: Ns = 5 * SECOND_NS;

/// For each node that is lost for longer than detection and eviction take, and each ReplicaSet that had a pod there and
/// as many ready pods as it wants: within D + V + T it has as many on nodes that are not lost.
///
/// Where its pods tolerate less than is the default, V is that. The time is longer by one interval of C33 for each
/// further node of the zone that is lost with it; by the faults of the control plane while it has something to do, until
/// the node is tainted and again when tolerations end, by a detection for each leader of the controllers elected then, and
/// by an election for each leader of the scheduler; and by what the clocks are apart by which the taint was dated. Not
/// judged are losses during which a zone is to be left alone, ReplicaSets that are scaled or deleted meanwhile, and, if it
/// does not come to that, those whose pods were struck or deleted elsewhere shortly before the end or fit on no node.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C38);
    let timeline = Timeline::new(world);
    let lives = pod_lives(&timeline);
    let mut by_owner: BTreeMap<&str, Vec<&PodLife<'_>>> = BTreeMap::new();
    for life in &lives {
        if let Some(owner) = controller_uid(life.born().pod) {
            by_owner.entry(owner).or_default().push(life);
        }
    }
    let mut restrained = restraints(world);
    restrained.retain(|restraint| restraint.until_ns - restraint.from_ns > PASSING_NS);
    for lost in lost(world, &timeline) {
        let mut by_tolerated: BTreeMap<Ns, Loss<'_>> = BTreeMap::new();
        for (uid, pods) in &by_owner {
            let Some(tolerated_ns) = tolerated(pods, &lost) else { continue };
            let loss = by_tolerated.entry(tolerated_ns).or_insert_with(|| Loss {
                late_ns: lost.line_ns + late_ns(world, &timeline, &lost, tolerated_ns),
                tolerated_ns,
                lost: &lost,
            });
            let alone = restrained
                .iter()
                .all(|it| it.zone != lost.zone || it.until_ns < lost.from_ns || it.from_ns > loss.deadline_ns());
            if !alone || loss.deadline_ns() > world.record.ended_ns || lost.until_ns < loss.evicted_ns() {
                continue;
            }
            let Some(wanted) = wanted(&timeline, pods, uid, loss) else { continue };
            judge(world, &Owner { pods, wanted }, loss, &mut findings);
        }
    }
    findings.verdict()
}

/// A node is lost.
struct Lost<'a> {
    node: String,
    zone: String,
    from_ns: Ns,
    until_ns: Ns,
    /// How long it may wait for its turn, when others of its zone are lost with it.
    line_ns: Ns,
    strike: &'a Strike,
}

impl Lost<'_> {
    fn is_lost(&self, node: &str) -> bool {
        self.strike.nodes.iter().any(|number| node_name(*number) == node)
    }
}

/// What that is to pods that tolerate it for a certain time.
struct Loss<'a> {
    lost: &'a Lost<'a>,
    tolerated_ns: Ns,
    /// What their eviction may be late for good reasons.
    late_ns: Ns,
}

impl Loss<'_> {
    /// The pods' tolerations have ended.
    fn evicted_ns(&self) -> Ns {
        (self.lost.from_ns + DETECTION_NS + self.tolerated_ns + LOOKS_NS).saturating_add(self.late_ns)
    }

    fn deadline_ns(&self) -> Ns {
        (self.lost.from_ns + time_ns(self.tolerated_ns)).saturating_add(self.late_ns)
    }
}

/// D + V + T.
fn time_ns(tolerated_ns: Ns) -> Ns {
    FAILOVER_NS - DEFAULT_NS + tolerated_ns
}

fn lost<'a>(world: &World<'a>, timeline: &Timeline<'_>) -> Vec<Lost<'a>> {
    let mut lost = Vec::new();
    for strike in &world.record.strikes {
        let loses = matches!(
            strike.kind,
            Kind::NodePartition | Kind::NodePowerLoss | Kind::NodeLost | Kind::ZoneLost | Kind::NodePause
        );
        if !loses {
            continue;
        }
        let zone = |number: &u32| {
            let node = timeline.at_time(&format!("{NODES}{}", node_name(*number)), strike.from_ns);
            node.and_then(Object::node).map(zone_of)
        };
        for number in &strike.nodes {
            let Some(own) = zone(number) else { continue };
            let others =
                strike.nodes.iter().filter(|other| zone(other).as_ref() == Some(&own)).count().saturating_sub(1);
            lost.push(Lost {
                node: node_name(*number),
                zone: own,
                from_ns: strike.from_ns,
                until_ns: strike.until_ns,
                line_ns: INTERVAL_NS * others as Ns,
                strike,
            });
        }
    }
    lost
}

/// For how long whoever has to act on a loss may have been held up.
fn late_ns(world: &World<'_>, timeline: &Timeline<'_>, lost: &Lost<'_>, tolerated_ns: Ns) -> Ns {
    let from_ns = lost.from_ns;
    let until_ns = from_ns + time_ns(tolerated_ns) + lost.line_ns;
    let tainted = timeline.history(&format!("{NODES}{}", lost.node)).iter().filter(|commit| {
        let (old, new) = commit.nodes();
        let comes = new.is_some_and(is_tainted) && !old.is_some_and(is_tainted);
        comes && (from_ns..=until_ns).contains(&commit.at_ns)
    });
    let [tainted] = tainted.collect::<Vec<_>>()[..] else { return held_up_ns(world, from_ns, until_ns) };
    let due_ns = tainted.at_ns + tolerated_ns;
    let found_ns = held_up_ns(world, from_ns, tainted.at_ns);
    // Whoever is elected while the tolerations run has nothing to do for the lost node's pods until they end.
    let acted_ns = held_up_ns(world, due_ns.saturating_sub(LEADER_NS).max(tainted.at_ns + 1), until_ns);
    (found_ns + acted_ns).saturating_add(skew_ns(world.record, tainted.at_ns))
}

/// How long the control plane may be held up between these times.
fn held_up_ns(world: &World<'_>, from_ns: Ns, until_ns: Ns) -> Ns {
    let of_members = world.strikes_between(from_ns, until_ns).filter(|strike| !strike.members.is_empty());
    let struck_ns: Ns =
        of_members.map(|strike| strike.until_ns.min(until_ns).saturating_sub(strike.from_ns.max(from_ns))).sum();
    let elections = |lease| world.elections_between(lease, from_ns, until_ns) as Ns;
    struck_ns + LEADER_NS * elections(CONTROLLERS) + ELECTION_NS * elections(SCHEDULER)
}

struct Owner<'a> {
    pods: &'a [&'a PodLife<'a>],
    /// How many it wants, all the time.
    wanted: usize,
}

impl Owner<'_> {
    /// Its ready pods at a time on nodes that are or are not lost.
    fn ready(&self, loss: &Loss<'_>, lost: bool, at_ns: Ns) -> usize {
        let ready = self
            .pods
            .iter()
            .filter_map(|life| at(life, at_ns))
            .filter(|pod| is_active(pod) && is_ready(pod) && loss.lost.is_lost(pod_node(pod)) == lost);
        ready.count()
    }
}

/// A pod as it was at a time.
fn at<'a>(life: &PodLife<'a>, at_ns: Ns) -> Option<&'a Pod> {
    let gone = life.gone.is_some_and(|(gone_ns, _)| gone_ns <= at_ns);
    let known = life.versions.iter().take_while(|version| version.at_ns <= at_ns).last();
    known.filter(|_| !gone).map(|version| version.pod)
}

/// For how long those of the pods tolerate the loss that were on the node; `None` if there are none, or some for ever or
/// for longer than is the default.
fn tolerated(pods: &[&PodLife<'_>], lost: &Lost<'_>) -> Option<Ns> {
    let here = pods.iter().filter_map(|life| at(life, lost.from_ns));
    let here = here.filter(|pod| is_active(pod) && pod_node(pod) == lost.node);
    let all = here.map(stays_ns).collect::<Option<Vec<Ns>>>()?;
    all.into_iter().max().filter(|longest| *longest <= DEFAULT_NS)
}

/// How many pods the owner wants from the loss until the deadline; `None` if it is no ReplicaSet or changes its mind, or
/// if no pod of it was lost, or if it was not complete before.
fn wanted(timeline: &Timeline<'_>, pods: &[&PodLife<'_>], uid: &str, loss: &Loss<'_>) -> Option<usize> {
    let from_ns = loss.lost.from_ns;
    let mut alive = pods.iter().filter_map(|life| at(life, from_ns));
    let pod = alive.find(|pod| is_active(pod) && pod_node(pod) == loss.lost.node)?;
    let owner =
        pod.metadata.owner_references.iter().flatten().find(|owner| owner.uid == uid && owner.kind == "ReplicaSet")?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let key = format!("/registry/apps/replicasets/{namespace}/{}", owner.name);
    let same = |object: Option<&Object>| {
        let Some(Object::ReplicaSet(set)) = object else { return None };
        wants(set).filter(|_| set.metadata.uid.as_deref() == Some(uid))
    };
    let wanted = same(timeline.at_time(&key, from_ns)).filter(|wanted| *wanted > 0)?;
    let times = from_ns..=loss.deadline_ns();
    let changes = timeline.history(&key).iter().filter(|commit| times.contains(&commit.at_ns));
    if changes.map(|commit| same(commit.new.as_deref())).any(|now| now != Some(wanted)) {
        return None;
    }
    let owner = Owner { pods, wanted };
    let (lost, elsewhere) = (owner.ready(loss, true, from_ns), owner.ready(loss, false, from_ns));
    (elsewhere < wanted && lost + elsewhere >= wanted).then_some(wanted)
}

/// What a ReplicaSet wants; `None` once it is being deleted.
fn wants(set: &ReplicaSet) -> Option<usize> {
    if set.metadata.deletion_timestamp.is_some() {
        return None;
    }
    usize::try_from(set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)).ok()
}

/// For how long the pod stays on an unreachable node; `None` if for ever.
fn stays_ns(pod: &Pod) -> Option<Ns> {
    let key = "node.kubernetes.io/unreachable".to_owned();
    let taint = Taint { key, effect: NO_EXECUTE.to_owned(), value: None, time_added: None };
    match tolerations(pod).iter().find(|toleration| tolerates(toleration, &taint)) {
        None => Some(0),
        Some(toleration) => {
            let seconds = toleration.toleration_seconds?;
            Some(u64::try_from(seconds).unwrap_or(0).saturating_mul(SECOND_NS))
        }
    }
}

fn judge(world: &World<'_>, owner: &Owner<'_>, loss: &Loss<'_>, findings: &mut Findings) {
    let (from_ns, deadline_ns) = (loss.lost.from_ns, loss.deadline_ns());
    let changes: BTreeSet<Ns> = owner
        .pods
        .iter()
        .flat_map(|life| life.versions.iter().map(|version| version.at_ns).chain(life.gone.map(|gone| gone.0)))
        .filter(|at_ns| (from_ns..=deadline_ns).contains(at_ns))
        .collect();
    let replaced = changes.iter().find(|at_ns| owner.ready(loss, false, **at_ns) >= owner.wanted);
    if let Some(at_ns) = replaced {
        findings.tested(1);
        // As if the pods had the default tolerations, whose bound the guarantee's is.
        let took_ns = (at_ns - from_ns).saturating_sub(loss.late_ns);
        findings.took(took_ns + (DEFAULT_NS - loss.tolerated_ns));
        return;
    }
    if is_excused(world, owner, loss) {
        return;
    }
    findings.tested(1);
    findings.took(FAILOVER_NS + 1);
    let has = owner.ready(loss, false, deadline_ns);
    let first = owner.pods.first().map_or("", |life| life.key);
    let set = owner.pods.first().and_then(|life| life.born().pod.metadata.owner_references.as_ref()?.first());
    let text = format!(
        "{} was lost at {} s, and {} s later ReplicaSet {} has {has} ready pods of {} elsewhere (one of its pods is {first})",
        loss.lost.node,
        from_ns / SECOND_NS,
        (deadline_ns - from_ns) / SECOND_NS,
        set.map_or("", |owner| owner.name.as_str()),
        owner.wanted
    );
    findings.violated(deadline_ns, text);
}

/// Whether there is another reason for that the pods are not there in the end.
fn is_excused(world: &World<'_>, owner: &Owner<'_>, loss: &Loss<'_>) -> bool {
    let deadline_ns = loss.deadline_ns();
    let near_ns = deadline_ns - 2 * CONVERGE_NS;
    let struck = world.strikes_between(near_ns, deadline_ns).any(|strike| {
        !std::ptr::eq(strike, loss.lost.strike) && (!strike.nodes.is_empty() || !strike.members.is_empty())
    });
    // Somebody else's deletion, of a pod that was to stay.
    let deleted = owner.pods.iter().any(|life| {
        let going = life.first(|pod| !is_active(pod)).map(|version| version.at_ns).or(life.gone.map(|gone| gone.0));
        going.is_some_and(|at_ns| (near_ns..=deadline_ns).contains(&at_ns))
            && !loss.lost.is_lost(pod_node(life.last().pod))
    });
    if struck || deleted {
        return true;
    }
    let mut places = Places::default();
    for commit in world.commits.iter().take_while(|commit| commit.at_ns <= deadline_ns) {
        places.apply(commit);
    }
    let pending = owner.pods.iter().filter_map(|life| at(life, deadline_ns));
    let mut pending = pending.filter(|pod| is_active(pod) && pod_node(pod).is_empty());
    pending.any(|pod| !is_simple(pod) || !places.nodes().any(|node| places.fits(pod, node)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use crate::story::seconds;

    fn node(tale: &mut Tale, name: &str, zone: &str, ready: bool) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"topology.kubernetes.io/zone":"{zone}"}}}},"spec":{{}},"status":{{"allocatable":{{"pods":"1"}},"conditions":[{{"type":"Ready","status":"{}"}}]}}}}"#,
            if ready { "True" } else { "Unknown" }
        );
        tale.put(&format!("core/nodes/{name}"), &json);
    }

    fn set(tale: &mut Tale, replicas: u32) {
        let json = format!(
            r#"{{"metadata":{{"name":"s","namespace":"default","uid":"us"}},"spec":{{"replicas":{replicas},"selector":{{}}}}}}"#
        );
        tale.put("apps/replicasets/default/s", &json);
    }

    fn pod(tale: &mut Tale, name: &str, node: &str, ready: bool) {
        tolerant(tale, name, node, ready, 300);
    }

    fn tolerant(tale: &mut Tale, name: &str, node: &str, ready: bool, seconds: u32) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"u-{name}","ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"s","uid":"us","controller":true}}]}},"spec":{{"nodeName":"{node}","containers":[],"tolerations":[{{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":{seconds}}}]}},"status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"{}"}}]}}}}"#,
            if ready { "True" } else { "False" }
        );
        tale.put(&format!("core/pods/default/{name}"), &json);
    }

    /// Two pods on two nodes, of which the first is lost at 50 s; a third one has room.
    fn tale() -> Tale {
        tale_of(300)
    }

    /// The same with pods that tolerate the loss for so long.
    fn tale_of(tolerated_s: u32) -> Tale {
        let mut tale = Tale::new();
        for (name, zone) in [("n1", "a"), ("n2", "b"), ("n3", "b")] {
            node(&mut tale, name, zone, true);
        }
        set(&mut tale, 2);
        tolerant(&mut tale, "p1", "n1", true, tolerated_s);
        tolerant(&mut tale, "p2", "n2", true, tolerated_s);
        tale.strike(Kind::NodePowerLoss, 50, 450).nodes = vec![0];
        tale.at(100);
        node(&mut tale, "n1", "a", false);
        tolerant(&mut tale, "p1", "n1", false, tolerated_s);
        tale
    }

    #[test]
    fn a_pod_that_is_replaced_in_time_passes() {
        let mut tale = tale();
        tale.at(410);
        pod(&mut tale, "p3", "n3", true);
        tale.passes(check, Guarantee::C38, 1);
        assert_eq!(tale.verdict(check).largest_ns, Some(seconds(360)));
    }

    #[test]
    fn pods_that_tolerate_less_are_replaced_sooner() {
        let mut short = tale_of(20);
        short.record.strikes[0].until_ns = seconds(140);
        short.at(175);
        short.flags(check, "n1 was lost at 50 s, and 130 s later ReplicaSet s has 1 ready pods of 2 elsewhere");
        pod(&mut short, "p3", "n3", true);
        short.passes(check, Guarantee::C38, 1);
        assert_eq!(short.verdict(check).largest_ns, Some(seconds(405)), "125 s, of 130 instead of 410");
        short.record.strikes[0].until_ns = seconds(134);
        short.passes(check, Guarantee::C38, 0);
    }

    #[test]
    fn a_pod_that_is_not_replaced_is_flagged() {
        let mut tale = tale();
        tale.flags(check, "n1 was lost at 50 s, and 410 s later ReplicaSet s has 1 ready pods of 2 elsewhere");
        tale.at(300);
        pod(&mut tale, "p3", "", false);
        tale.flags(check, "n1 was lost");
        tale.at(461);
        pod(&mut tale, "p3", "n3", true);
        tale.flags(check, "n1 was lost");
    }

    #[test]
    fn short_losses_and_owners_that_change_their_mind_are_not_judged() {
        let mut short = tale();
        short.record.strikes[0].until_ns = seconds(414);
        short.passes(check, Guarantee::C38, 0);
        let mut scaled = tale();
        set(&mut scaled, 1);
        scaled.passes(check, Guarantee::C38, 0);
        let mut deleted = tale();
        deleted.delete("apps/replicasets/default/s").passes(check, Guarantee::C38, 0);
    }

    #[test]
    fn a_pod_that_fits_nowhere_or_is_struck_elsewhere_is_not_judged() {
        let mut full = tale();
        full.at(300);
        node(&mut full, "n3", "b", false);
        pod(&mut full, "p3", "", false);
        full.passes(check, Guarantee::C38, 0);
        let mut struck = tale();
        struck.strike(Kind::ContainerSick, 400, 430).nodes = vec![2];
        struck.passes(check, Guarantee::C38, 0);
    }

    #[test]
    fn a_loss_of_everything_is_not_judged() {
        let mut tale = tale();
        for name in ["n2", "n3"] {
            node(&mut tale, name, "b", false);
        }
        tale.passes(check, Guarantee::C38, 0);
    }

    #[test]
    fn a_new_leader_makes_it_later() {
        let mut tale = tale();
        tale.record.strikes[0].until_ns = seconds(520);
        tale.at(110).elected(1, "kube-system/kube-controller-manager", 1, true).at(500);
        pod(&mut tale, "p3", "n3", true);
        tale.passes(check, Guarantee::C38, 1);
        assert_eq!(tale.verdict(check).largest_ns, Some(seconds(375)));
    }

    #[test]
    fn a_new_leader_of_the_scheduler_makes_it_later_by_an_election_alone() {
        for (by_s, fits) in [(20, true), (30, false)] {
            let mut tale = tale();
            tale.record.strikes[0].until_ns = seconds(520);
            tale.at(110).elected(1, SCHEDULER, 1, true).at(50 + FAILOVER_NS / SECOND_NS + by_s);
            pod(&mut tale, "p3", "n3", true);
            tale.at(550);
            match fits {
                true => tale.passes(check, Guarantee::C38, 1),
                false => tale.flags(check, "n1 was lost at 50 s"),
            };
        }
    }

    #[test]
    fn a_new_leader_makes_nothing_later_while_tolerations_run() {
        let mut tale = tale();
        tale.record.strikes[0].until_ns = seconds(520);
        tale.put(
            "core/nodes/n1",
            r#"{"metadata":{"name":"n1","labels":{"topology.kubernetes.io/zone":"a"}},"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"}]},"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}"#,
        );
        tale.at(200).elected(1, "kube-system/kube-controller-manager", 1, true).at(470);
        pod(&mut tale, "p3", "n3", true);
        tale.flags(check, "n1 was lost at 50 s, and 410 s later");
    }
}
