//! C15: Succeeded and Failed are final.

use super::World;
use super::facts::{is_terminal, pod_phase};
use crate::findings::Findings;
use record::{Guarantee, Verdict};

/// A pod that has come to a final phase keeps it, as long as its UID exists.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C15);
    for commit in &world.commits {
        let (Some(old), Some(new)) = commit.pods() else { continue };
        let (before, after) = (pod_phase(old), pod_phase(new));
        if old.metadata.uid != new.metadata.uid || !is_terminal(old) {
            // The first final phase is one that could be taken back from now on.
            findings.tested(u64::from(before != after && is_terminal(new)));
            continue;
        }
        if before != after {
            let text = format!("{} went from {before} to {after} at revision {}", commit.key, commit.revision);
            findings.violated(commit.at_ns, text);
        }
    }
    findings.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::{Tale, pod};

    fn tale() -> Tale {
        let mut tale = Tale::new();
        for phase in ["Pending", "Running", "Failed", "Failed"] {
            tale.put("core/pods/default/a", &pod("a", "uid-a", "", &format!(r#""phase":"{phase}""#)));
        }
        tale
    }

    #[test]
    fn a_final_phase_that_stays_passes() {
        let mut tale = tale();
        // Another pod of the same name begins anew.
        tale.delete("core/pods/default/a").put("core/pods/default/a", &pod("a", "uid-b", "", r#""phase":"Pending""#));
        tale.passes(check, Guarantee::C15, 1);
    }

    #[test]
    fn a_pod_that_comes_back_to_life_is_flagged() {
        for phase in ["Succeeded", "Running"] {
            let mut tale = tale();
            tale.put("core/pods/default/a", &pod("a", "uid-a", "", &format!(r#""phase":"{phase}""#)));
            tale.flags(check, &format!("/registry/core/pods/default/a went from Failed to {phase}"));
        }
    }
}
