//! C39: SIGTERM, then up to G, before SIGKILL.

use super::facts::{PodLife, SECOND_NS, Timeline, deletion_grace_ns, grace_ns, pod_lives};
use super::{Pod, World};
use crate::findings::Findings;
use faults::{Kind, Ns};
use record::{Container, Guarantee, Sight, Verdict};
use std::collections::BTreeMap;

/// However little of the pod's grace is left, a container has this much of it; upstream's minimum.
const LEAST_GRACE_NS: Ns = 2 * SECOND_NS;

/// Signals are noted on their way to the container, so that two of them may be that much closer than they were meant,
/// and as much more as the machine was busy.
const SLACK_NS: Ns = 50_000_000;

/// A container that is killed was asked to end at least G before: the grace of its pod, that which the pod's deletion
/// left it, or that of a probe of its own, whichever is least. A container that is asked later than its pod's deletion,
/// as a sidecar is, has what is left of the time since then, and two seconds at least.
///
/// Not judged are containers whose pod is gone from the store (that was a forced deletion), or whose node's clock was
/// wrong between the signals. What ends by a crash or a power loss is killed by nobody.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C39);
    let timeline = Timeline::new(world);
    let lives = pod_lives(&timeline);
    let lives: BTreeMap<&str, &PodLife<'_>> = lives.iter().map(|life| (life.uid, life)).collect();
    let mut signalled: BTreeMap<&str, Signals<'_>> = BTreeMap::new();
    for sight in &world.record.cluster.sights {
        let Sight::Signalled { container, kill } = sight else { continue };
        let signals = signalled.entry(&container.id).or_default();
        let first = if *kill { &mut signals.killed } else { &mut signals.asked };
        first.get_or_insert(container);
    }
    for signals in signalled.values() {
        let Some(killed) = signals.killed else {
            findings.tested(1);
            continue;
        };
        let since_ns = signals.asked.map_or(killed.at_ns, |asked| asked.at_ns);
        let clock = world.strikes_on_node(killed.node, since_ns, killed.at_ns).any(|it| it.kind == Kind::NodeClock);
        let Some(life) = lives.get(killed.pod_uid.as_str()).filter(|_| !clock) else { continue };
        if life.gone.is_some_and(|(at_ns, _)| at_ns <= killed.at_ns + world.sample_ns()) {
            continue;
        }
        findings.tested(1);
        if let Some(what) = wrong(world, life, signals.asked, killed) {
            let Container { name, id, pod_uid, node, .. } = killed;
            let text =
                format!("container {name} ({id}) of {}, pod {pod_uid} on node {node}, was killed {what}", life.key);
            findings.violated(killed.at_ns, text);
        }
    }
    findings.verdict()
}

/// The first signals of a container.
#[derive(Default)]
struct Signals<'a> {
    asked: Option<&'a Container>,
    killed: Option<&'a Container>,
}

fn wrong(world: &World<'_>, life: &PodLife<'_>, asked: Option<&Container>, killed: &Container) -> Option<String> {
    let slack_ns = SLACK_NS + world.record.slack_ns;
    let Some(asked) = asked.filter(|asked| asked.at_ns <= killed.at_ns) else {
        return Some("without having been asked to end".to_owned());
    };
    // What the agent may have known by then.
    let known =
        || life.versions.iter().filter(|version| version.at_ns <= killed.at_ns + world.sample_ns()).map(|it| it.pod);
    let own = probe_graces(life.born().pod, &killed.name);
    let graces = known().map(|pod| deletion_grace_ns(pod).unwrap_or_else(|| grace_ns(pod))).chain(own);
    let grace_ns = graces.min().unwrap_or_else(|| grace_ns(life.born().pod));
    let had_ns = killed.at_ns - asked.at_ns + slack_ns;
    let deleted =
        life.first(super::facts::is_terminating).map(|version| version.at_ns.saturating_sub(world.sample_ns()));
    let pod_had_ns = deleted.map_or(0, |deleted_ns| killed.at_ns.saturating_sub(deleted_ns) + slack_ns);
    let enough = had_ns >= grace_ns || (pod_had_ns >= grace_ns && had_ns >= LEAST_GRACE_NS.min(grace_ns));
    let ms = |ns: Ns| ns / 1_000_000;
    (!enough)
        .then(|| format!("{} ms after it was asked to end, of {} ms that it has", ms(had_ns - slack_ns), ms(grace_ns)))
}

/// The graces of a container's own probes.
fn probe_graces(pod: &Pod, name: &str) -> Vec<Ns> {
    let Some(spec) = &pod.spec else { return vec![] };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let probes = all.filter(|container| container.name == name).flat_map(|container| {
        [&container.liveness_probe, &container.startup_probe]
            .map(|probe| probe.as_ref()?.termination_grace_period_seconds)
    });
    probes.flatten().map(|seconds| u64::try_from(seconds).unwrap_or(0) * SECOND_NS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::{Tale, pod};

    fn tale() -> Tale {
        let mut tale = Tale::new();
        let spec = r#""nodeName":"n1","terminationGracePeriodSeconds":5"#;
        tale.put("core/pods/default/a", &pod("a", "uid-a", spec, ""));
        tale
    }

    fn deleted(tale: &mut Tale, grace: u32) {
        let deletion =
            format!(r#""deletionTimestamp":"2023-11-14T22:13:25Z","deletionGracePeriodSeconds":{grace},"uid":"uid-a""#);
        let json = pod("a", "uid-a", r#""nodeName":"n1","terminationGracePeriodSeconds":5"#, "");
        tale.put("core/pods/default/a", &json.replace(r#""uid":"uid-a""#, &deletion));
    }

    #[test]
    fn a_container_that_had_its_time_passes() {
        let mut tale = tale();
        tale.at(10).signals(0, "uid-a", "web", "c1", false).exits(0, "uid-a", "web", "c1", 0);
        tale.at(20).signals(0, "uid-a", "web", "c2", false);
        tale.at(25).signals(0, "uid-a", "web", "c2", true).exits(0, "uid-a", "web", "c2", 137);
        tale.passes(check, Guarantee::C39, 2);
    }

    #[test]
    fn a_sidecar_has_what_is_left_of_its_pods_time() {
        let mut tale = tale();
        tale.at(10);
        deleted(&mut tale, 5);
        tale.at(13).signals(0, "uid-a", "side", "c1", false).at(15).signals(0, "uid-a", "side", "c1", true);
        tale.passes(check, Guarantee::C39, 1);
    }

    #[test]
    fn a_shorter_grace_of_the_deletion_counts() {
        let mut tale = tale();
        tale.at(10);
        deleted(&mut tale, 3);
        tale.at(11).signals(0, "uid-a", "web", "c1", false).at(14).signals(0, "uid-a", "web", "c1", true);
        tale.passes(check, Guarantee::C39, 1);
    }

    #[test]
    fn a_kill_without_asking_is_flagged() {
        let mut tale = tale();
        tale.at(10).signals(0, "uid-a", "web", "c1", true);
        tale.flags(check, "pod uid-a on node 0, was killed without having been asked to end");
    }

    #[test]
    fn a_kill_before_its_time_is_flagged() {
        let mut tale = tale();
        tale.at(10).signals(0, "uid-a", "web", "c1", false).at(14).signals(0, "uid-a", "web", "c1", true);
        tale.flags(check, "was killed 4000 ms after it was asked to end, of 5000 ms that it has");
    }

    #[test]
    fn a_busy_machine_may_note_a_signal_later() {
        let mut tale = tale();
        tale.at(10).signals(0, "uid-a", "web", "c1", false).at(14).signals(0, "uid-a", "web", "c1", true);
        tale.record.slack_ns = SECOND_NS;
        tale.passes(check, Guarantee::C39, 1);
        tale.record.slack_ns = SECOND_NS / 2;
        tale.flags(check, "was killed 4000 ms");
    }

    #[test]
    fn a_late_deletion_does_not_excuse_a_kill() {
        let mut tale = tale();
        tale.at(10).signals(0, "uid-a", "web", "c1", false).at(12);
        deleted(&mut tale, 5);
        tale.at(14).signals(0, "uid-a", "web", "c1", true);
        tale.flags(check, "was killed 4000 ms");
    }

    #[test]
    fn forced_deletions_and_wrong_clocks_are_not_judged() {
        let mut forced = tale();
        forced.at(10).delete("core/pods/default/a").at(11).signals(0, "uid-a", "web", "c1", true);
        forced.passes(check, Guarantee::C39, 0);
        let mut wrong = tale();
        wrong.at(10).signals(0, "uid-a", "web", "c1", false).at(14).signals(0, "uid-a", "web", "c1", true);
        wrong.strike(Kind::NodeClock, 5, 12).nodes = vec![0];
        wrong.passes(check, Guarantee::C39, 0);
    }
}
