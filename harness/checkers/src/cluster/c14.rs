//! C14: with restartPolicy Never a regular container starts at most once per pod UID.

use super::{Object, World};
use crate::findings::Findings;
use record::{Guarantee, Sight, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Of each pod that asks for no restarts, each regular container really started at most once, on whatever node.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C14);
    // What a pod asks for never changes, so that its first version says it.
    let mut regular: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for commit in world.commits.iter().filter(|commit| commit.old.is_none()) {
        let Some(Object::Pod(pod)) = commit.new.as_deref() else { continue };
        let Some(spec) = pod.spec.as_ref().filter(|spec| spec.restart_policy.as_deref() == Some("Never")) else {
            continue;
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        regular.insert(uid, spec.containers.iter().map(|container| container.name.as_str()).collect());
    }
    let mut started: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for sight in &world.record.cluster.sights {
        let Sight::Started(container) = sight else { continue };
        let (uid, name) = (container.pod_uid.as_str(), container.name.as_str());
        if !regular.get(uid).is_some_and(|names| names.contains(name)) {
            continue;
        }
        findings.tested(1);
        if let Some(first) = started.insert((uid, name), &container.id) {
            let text = format!(
                "container {name} of pod {uid} started again as {} on node {}, after {first}, though it is never to be restarted",
                container.id, container.node
            );
            findings.violated(container.at_ns, text);
        }
    }
    findings.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    fn tale() -> Tale {
        let mut tale = Tale::new();
        let pod = |policy: &str| {
            format!(
                r#"{{"metadata":{{"name":"a","namespace":"default","uid":"uid-{policy}"}},"spec":{{"restartPolicy":"{policy}","containers":[{{"name":"one"}},{{"name":"two"}}]}}}}"#
            )
        };
        tale.put("core/pods/default/a", &pod("Never")).put("core/pods/default/b", &pod("Always"));
        tale.starts(0, "uid-Never", "one", "c1").starts(0, "uid-Never", "two", "c2");
        tale.starts(0, "uid-Always", "one", "c3").starts(0, "uid-Always", "one", "c4");
        tale
    }

    #[test]
    fn each_container_once_passes_and_others_may_restart() {
        tale().passes(check, Guarantee::C14, 2);
    }

    #[test]
    fn a_second_start_is_flagged_on_another_node_too() {
        let mut tale = tale();
        tale.at(9).starts(2, "uid-Never", "one", "c9");
        tale.flags(check, "container one of pod uid-Never started again as c9 on node 2");
    }
}
