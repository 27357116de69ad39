//! C16: `nodeName` is written once.

use super::{Object, Pod, World};
use crate::findings::Findings;
use record::{Guarantee, Verdict};

/// A pod that has a node keeps it, as long as its UID exists.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C16);
    for commit in &world.commits {
        let (Some(Object::Pod(old)), Some(Object::Pod(new))) = (commit.old.as_deref(), commit.new.as_deref()) else {
            continue;
        };
        if old.metadata.uid != new.metadata.uid {
            continue;
        }
        let (before, after) = (node(old), node(new));
        findings.tested(u64::from(before.is_empty() && !after.is_empty()));
        if !before.is_empty() && before != after {
            let text = format!("{} went from node {before:?} to {after:?} at revision {}", commit.key, commit.revision);
            findings.violated(commit.at_ns, text);
        }
    }
    findings.verdict()
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::{Tale, pod};

    fn bound(tale: &mut Tale, node: &str) {
        tale.put("core/pods/default/a", &pod("a", "uid-a", &format!(r#""nodeName":"{node}""#), ""));
    }

    #[test]
    fn one_binding_passes() {
        let mut tale = Tale::new();
        tale.put("core/pods/default/a", &pod("a", "uid-a", "", ""));
        bound(&mut tale, "n1");
        bound(&mut tale, "n1");
        tale.passes(check, Guarantee::C16, 1);
    }

    #[test]
    fn a_second_binding_is_flagged() {
        let mut tale = Tale::new();
        bound(&mut tale, "n1");
        bound(&mut tale, "n2");
        tale.flags(check, r#"went from node "n1" to "n2""#);
    }
}
