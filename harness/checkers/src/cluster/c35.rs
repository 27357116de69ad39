//! C35: restarting an agent alone, for less than D, changes no running container and no readiness.

use super::facts::{
    DETECTION_NS, NODES, PodLife, SECOND_NS, Timeline, is_active, is_ready, node_is_ready, node_name, pod_lives,
    pod_node,
};
use super::{Commit, Pod, World};
use crate::findings::Findings;
use faults::{Kind, Ns};
use record::{CONVERGE_NS, Container, Guarantee, Sight, Verdict};
use std::collections::BTreeMap;

/// A node's last word is up to this old when its agent goes down, and its first one comes up to this late.
const WORD_NS: Ns = 20 * SECOND_NS;

/// Each time that an agent is down for less than D, and nothing else is wrong with its node from T before until T
/// after:
/// - what ran on the node runs on: no container ends, or starts again beside itself, until T after, but those of pods
///   that are being deleted or were changed;
/// - if the agent is back in time for its node's next word, no pod on it ceases to be ready: as long as the node does
///   not, nobody but its agent can have said so, wherever else something is wrong;
/// - if nothing at all is wrong in that time, in the control plane either, the node does not cease to be ready.
///
/// Each container that ran is a test of the first; of the others, each outage is one test at most.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C35);
    let timeline = Timeline::new(world);
    let lives = pod_lives(&timeline);
    let by_uid: BTreeMap<&str, &PodLife<'_>> = lives.iter().map(|life| (life.uid, life)).collect();
    for outage in outages(world) {
        let (from_ns, until_ns) = (outage.down_ns.saturating_sub(CONVERGE_NS), outage.judged_until_ns());
        let mut here = world.strikes_on_node(outage.node, from_ns, until_ns);
        let killed = here.next().is_none_or(|strike| matches!(strike.kind, Kind::NodeKill | Kind::NodeRestart));
        if !killed || here.next().is_some() || until_ns > world.record.ended_ns {
            continue;
        }
        let running = running(world, &outage);
        if running.is_empty() {
            continue;
        }
        findings.tested(running.len() as u64);
        containers(world, &outage, running, &by_uid, &mut findings);
        if outage.up_ns - outage.down_ns + WORD_NS > DETECTION_NS {
            continue;
        }
        let alone = world.strikes_between(from_ns, until_ns).count() <= 1;
        if alone {
            findings.tested(1);
            node_readiness(&outage, &timeline, &mut findings);
        }
        if alone || stays_ready(&timeline, outage.node, from_ns, until_ns) {
            findings.tested(1);
            pod_readiness(&outage, &lives, world.sample_ns(), &mut findings);
        }
    }
    findings.verdict()
}

/// An agent was down.
struct Outage {
    node: u32,
    down_ns: Ns,
    up_ns: Ns,
}

impl Outage {
    fn judged_until_ns(&self) -> Ns {
        self.up_ns + CONVERGE_NS
    }

    fn says(&self) -> String {
        let ms = (self.up_ns - self.down_ns) / 1_000_000;
        format!("the agent of {} was down at {} s for {ms} ms", node_name(self.node), self.down_ns / SECOND_NS)
    }
}

fn outages(world: &World<'_>) -> Vec<Outage> {
    let mut down: BTreeMap<u32, Ns> = BTreeMap::new();
    let mut outages = Vec::new();
    for sight in &world.record.cluster.sights {
        let Sight::Agent { at_ns, node, up } = sight else { continue };
        if !up {
            down.insert(*node, *at_ns);
        } else if let Some(down_ns) = down.remove(node) {
            outages.push(Outage { node: *node, down_ns, up_ns: *at_ns });
        }
    }
    outages.retain(|outage| outage.up_ns.saturating_sub(outage.down_ns) < DETECTION_NS);
    outages
}

/// What ran on the node when its agent went down, by id.
fn running<'a>(world: &World<'a>, outage: &Outage) -> BTreeMap<&'a str, &'a Container> {
    let mut running: BTreeMap<&str, &Container> = BTreeMap::new();
    for sight in world.record.cluster.sights.iter().filter(|sight| sight.at_ns() < outage.down_ns) {
        match sight {
            Sight::Started(container) if container.node == outage.node => {
                running.insert(&container.id, container);
            }
            Sight::Exited { container, .. } => drop(running.remove(container.id.as_str())),
            Sight::NodeDown { node, .. } if *node == outage.node => running.clear(),
            Sight::Started(_)
            | Sight::NodeDown { .. }
            | Sight::Signalled { .. }
            | Sight::Agent { .. }
            | Sight::Elected { .. }
            | Sight::Effect { .. } => {}
        }
    }
    running
}

fn containers(
    world: &World<'_>,
    outage: &Outage,
    mut running: BTreeMap<&str, &Container>,
    lives: &BTreeMap<&str, &PodLife<'_>>,
    findings: &mut Findings,
) {
    let times = outage.down_ns..=outage.judged_until_ns();
    for sight in world.record.cluster.sights.iter().filter(|sight| times.contains(&sight.at_ns())) {
        let (container, what) = match sight {
            Sight::Exited { container, code } => {
                if running.remove(container.id.as_str()).is_none() {
                    continue;
                }
                (container, format!("ended with {code}"))
            }
            Sight::Started(container) if container.node == outage.node => {
                let same = |it: &&&Container| (&it.pod_uid, &it.name) == (&container.pod_uid, &container.name);
                let Some(before) = running.values().find(same).filter(|before| before.id != container.id) else {
                    continue;
                };
                (container, format!("started beside {}", before.id))
            }
            Sight::Started(_)
            | Sight::NodeDown { .. }
            | Sight::Signalled { .. }
            | Sight::Agent { .. }
            | Sight::Elected { .. }
            | Sight::Effect { .. } => continue,
        };
        let Some(life) = lives.get(container.pod_uid.as_str()) else { continue };
        if !stays(life, outage, container.at_ns + 2 * world.sample_ns()) {
            continue;
        }
        let Container { name, id, pod_uid, at_ns, .. } = container;
        let text = format!("{}, and container {name} ({id}) of {}, pod {pod_uid}, {what}", outage.says(), life.key);
        findings.violated(*at_ns, text);
    }
}

/// Whether a pod that is to run on is the same as before the outage, as far as was seen until `known_ns`: the agent may
/// know of a change before the harness has seen it.
fn stays(life: &PodLife<'_>, outage: &Outage, known_ns: Ns) -> bool {
    let restarts = |pod: &Pod| {
        let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
        policy == "Always"
    };
    let versions = || life.versions.iter().filter(|version| version.at_ns <= known_ns);
    let before = versions().take_while(|version| version.at_ns <= outage.down_ns).last();
    let containers = |pod: &Pod| pod.spec.as_ref().map(|spec| spec.containers.clone());
    life.gone.is_none_or(|(gone_ns, _)| gone_ns > known_ns)
        && versions().all(|version| is_active(version.pod) && restarts(version.pod))
        && before.is_some_and(|before| versions().all(|version| containers(version.pod) == containers(before.pod)))
}

fn node_readiness(outage: &Outage, timeline: &Timeline<'_>, findings: &mut Findings) {
    let times = outage.down_ns..=outage.judged_until_ns();
    let key = format!("{NODES}{}", node_name(outage.node));
    for commit in timeline.history(&key).iter().filter(|commit| times.contains(&commit.at_ns)) {
        if let (Some(old), Some(new)) = commit.nodes()
            && node_is_ready(old)
            && !node_is_ready(new)
        {
            let text = format!("{}, and the node ceased to be ready at revision {}", outage.says(), commit.revision);
            findings.violated(commit.at_ns, text);
        }
    }
}

/// Whether a node is ready between these times, as stored, from the first time on that it ever was.
fn stays_ready(timeline: &Timeline<'_>, node: u32, from_ns: Ns, until_ns: Ns) -> bool {
    let history = timeline.history(&format!("{NODES}{}", node_name(node)));
    let is_ready = |commit: &Commit| commit.nodes().1.is_some_and(node_is_ready);
    let Some(first) = history.iter().position(|commit| is_ready(commit)) else { return false };
    let history = &history[first..];
    // The version that held when the time began, and all that came in it.
    let begin = history.partition_point(|commit| commit.at_ns <= from_ns).saturating_sub(1);
    history[begin..].iter().take_while(|commit| commit.at_ns <= until_ns).all(|commit| is_ready(commit))
}

fn pod_readiness(outage: &Outage, lives: &[PodLife<'_>], sample_ns: Ns, findings: &mut Findings) {
    let times = outage.down_ns..=outage.judged_until_ns();
    let name = node_name(outage.node);
    for life in lives {
        for pair in life.versions.windows(2) {
            let (old, new) = (pair[0], pair[1]);
            if times.contains(&new.at_ns)
                && pod_node(new.pod) == name
                && is_ready(old.pod)
                && !is_ready(new.pod)
                && stays(life, outage, new.at_ns + 2 * sample_ns)
            {
                let text =
                    format!("{}, and {} ceased to be ready at revision {}", outage.says(), life.key, new.revision);
                findings.violated(new.at_ns, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::{Tale, pod};

    fn condition(ready: bool) -> String {
        format!(r#""conditions":[{{"type":"Ready","status":"{}"}}]"#, if ready { "True" } else { "False" })
    }

    fn put_pod(tale: &mut Tale, ready: bool) {
        let status = format!(r#""phase":"Running",{}"#, condition(ready));
        tale.put("core/pods/default/a", &pod("a", "ua", r#""nodeName":"n1""#, &status));
    }

    fn put_node(tale: &mut Tale, ready: bool) {
        tale.put("core/nodes/n1", &format!(r#"{{"metadata":{{"name":"n1"}},"status":{{{}}}}}"#, condition(ready)));
    }

    /// The agent of the first node is killed for three seconds, and back at 203 s.
    fn tale() -> Tale {
        let mut tale = Tale::new();
        put_node(&mut tale, true);
        put_pod(&mut tale, true);
        tale.agent(0, true).starts(0, "ua", "web", "c1").starts(1, "ub", "web", "c2");
        tale.at(200).agent(0, false).at(203).agent(0, true);
        tale.strike(Kind::NodeKill, 200, 203).nodes = vec![0];
        tale
    }

    #[test]
    fn a_restart_that_nobody_notices_passes() {
        let mut tale = tale();
        tale.at(210).exits(1, "ub", "web", "c2", 1);
        // What happens later has other reasons.
        tale.at(270).exits(0, "ua", "web", "c1", 1);
        put_pod(&mut tale, false);
        tale.passes(check, Guarantee::C35, 3);
    }

    #[test]
    fn faults_elsewhere_leave_the_containers_to_be_judged_and_readiness_while_the_node_has_it() {
        let mut struck = tale();
        struck.strike(Kind::PartitionOne, 180, 190).members = vec![0];
        struck.passes(check, Guarantee::C35, 2);
        put_pod(&mut struck, false);
        struck.flags(check, "/registry/core/pods/default/a ceased to be ready at revision 4");
        // Whoever found the node lost said so of its pods.
        let mut lost = tale();
        lost.strike(Kind::PartitionOne, 180, 190).members = vec![0];
        put_node(&mut lost, false);
        put_pod(&mut lost, false);
        lost.passes(check, Guarantee::C35, 1);
    }

    #[test]
    fn a_node_that_was_found_lost_shortly_before_may_have_its_pods_marked_yet() {
        let mut tale = Tale::new();
        put_node(&mut tale, true);
        tale.at(130);
        put_node(&mut tale, false);
        tale.at(150);
        put_node(&mut tale, true);
        put_pod(&mut tale, true);
        tale.agent(0, true).starts(0, "ua", "web", "c1");
        tale.at(200).agent(0, false).at(203).agent(0, true);
        tale.strike(Kind::NodeKill, 200, 203).nodes = vec![0];
        tale.strike(Kind::PartitionOne, 180, 190).members = vec![0];
        put_pod(&mut tale, false);
        tale.passes(check, Guarantee::C35, 1);
    }

    #[test]
    fn other_faults_of_the_node_and_long_outages_are_not_judged() {
        let mut sick = tale();
        sick.strike(Kind::ContainerCrash, 205, 206).nodes = vec![0];
        sick.at(205).exits(0, "ua", "web", "c1", 1);
        sick.passes(check, Guarantee::C35, 0);
        let mut long = tale();
        long.at(300).agent(0, false).at(351).agent(0, true).exits(0, "ua", "web", "c1", 1);
        long.passes(check, Guarantee::C35, 3);
    }

    #[test]
    fn a_container_that_ends_is_flagged_unless_its_pod_goes() {
        let mut ended = tale();
        ended.at(204).exits(0, "ua", "web", "c1", 137);
        ended.flags(check, "the agent of n1 was down at 200 s for 3000 ms, and container web (c1) of /registry/core/pods/default/a, pod ua, ended with 137");
        let mut deleted = tale();
        let json = pod("a", "ua", r#""nodeName":"n1""#, &condition(false));
        deleted.put(
            "core/pods/default/a",
            &json.replace(r#""uid""#, r#""deletionTimestamp":"2023-11-14T22:13:25Z","uid""#),
        );
        deleted.at(204).exits(0, "ua", "web", "c1", 0);
        deleted.passes(check, Guarantee::C35, 3);
    }

    #[test]
    fn a_container_that_starts_beside_itself_is_flagged() {
        let mut tale = tale();
        tale.starts(0, "ua", "web", "c9");
        tale.flags(check, "container web (c9) of /registry/core/pods/default/a, pod ua, started beside c1");
    }

    #[test]
    fn a_program_that_ends_by_itself_ceases_to_be_ready_and_passes() {
        let once = |ready| pod("a", "ua", r#""nodeName":"n1","restartPolicy":"Never""#, &condition(ready));
        let mut tale = Tale::new();
        put_node(&mut tale, true);
        tale.put("core/pods/default/a", &once(true)).agent(0, true).starts(0, "ua", "web", "c1");
        tale.at(200).agent(0, false).at(203).agent(0, true).put("core/pods/default/a", &once(false));
        tale.strike(Kind::NodeKill, 200, 203).nodes = vec![0];
        tale.passes(check, Guarantee::C35, 3);
    }

    #[test]
    fn a_node_or_a_pod_that_ceases_to_be_ready_is_flagged() {
        let mut node = tale();
        put_node(&mut node, false);
        node.flags(check, "the node ceased to be ready at revision 4");
        let mut pods = tale();
        put_pod(&mut pods, false);
        pods.flags(check, "/registry/core/pods/default/a ceased to be ready at revision 4");
    }
}
