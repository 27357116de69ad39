//! C8: each informer cache equals the store within T after Q.

use super::facts::{SECOND_NS, Timeline};
use super::{Commit, World};
use crate::findings::Findings;
use faults::Ns;
use record::{CONVERGE_NS, Cached, Guarantee, Verdict};
use std::collections::BTreeMap;

/// How far a watch may be behind: what was written in the last moments of a trial is still on its way.
const BEHIND_NS: Ns = 5 * SECOND_NS;

/// At the end of a trial, every cache knows the objects of its kinds that the store holds, each in a version that was the
/// newest within the last [`BEHIND_NS`], and no others. Nothing is judged before T after Q.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C8);
    if world.record.ended_ns < world.quiet_ns.saturating_add(CONVERGE_NS) {
        return findings.verdict();
    }
    let timeline = Timeline::new(world);
    for (process, cached) in world.record.cluster.end.caches.iter().filter(|(process, _)| !world.is_frozen(process)) {
        compare(world, &timeline, process, cached, &mut findings);
    }
    findings.verdict()
}

fn compare(world: &World<'_>, timeline: &Timeline<'_>, process: &str, cached: &Cached, findings: &mut Findings) {
    let ended_ns = world.record.ended_ns;
    let mut left: BTreeMap<&str, i64> = cached.objects.iter().map(|(key, version)| (key.as_str(), *version)).collect();
    for prefix in &cached.prefixes {
        for (key, history) in timeline.below(prefix) {
            let known = left.remove(key);
            if known.is_none() && history.last().is_none_or(|last| last.new.is_none()) {
                continue;
            }
            findings.tested(1);
            let knows = match known {
                Some(version) => format!("knows {key} at version {version}"),
                None => format!("does not know {key}"),
            };
            let Some(superseded_ns) = superseded_ns(history, known) else {
                findings.violated(ended_ns, format!("{process} {knows}, which the store never held"));
                continue;
            };
            let lag_ns = superseded_ns.map_or(0, |at_ns| ended_ns.saturating_sub(at_ns));
            findings.took(lag_ns);
            if lag_ns > BEHIND_NS {
                findings.violated(ended_ns, format!("{process} {knows}, which has been out of date for {lag_ns} ns"));
            }
        }
    }
    for (key, version) in left {
        findings.tested(1);
        findings.violated(ended_ns, format!("{process} knows {key} at version {version}, which the store never held"));
    }
}

/// When what is known of an object ceased to be true: `Some(None)` for what still is, `None` for what never was.
fn superseded_ns(history: &[&Commit], known: Option<i64>) -> Option<Option<Ns>> {
    let holds = |commit: &&Commit| match (known, &commit.new) {
        (Some(version), Some(_)) => commit.revision == version,
        (None, None) => true,
        _ => false,
    };
    // Before its first version an object was not there, as after its removal.
    let next = match (history.iter().rposition(holds), known) {
        (Some(place), _) => place + 1,
        (None, None) => 0,
        (None, Some(_)) => return None,
    };
    Some(history.get(next).map(|commit| commit.at_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::{Tale, pod};
    use record::Kind;

    const A: &str = "/registry/core/pods/default/a";
    const B: &str = "/registry/core/pods/default/b";

    /// Pod a at versions 2 and 3, pod b at 4 and gone at 5; a ConfigMap that the process does not follow.
    fn tale(knows: &[(&str, i64)]) -> Tale {
        let mut tale = Tale::new();
        for _ in 0..2 {
            tale.put("core/pods/default/a", &pod("a", "uid-a", "", ""));
        }
        tale.put("core/pods/default/b", &pod("b", "uid-b", "", "")).at(597).delete("core/pods/default/b");
        tale.put("core/configmaps/default/c", r#"{"metadata":{"name":"c"}}"#);
        let objects = knows.iter().map(|(key, version)| ((*key).to_owned(), *version)).collect();
        let cached = Cached { prefixes: vec!["/registry/core/pods/".into()], objects };
        tale.record.cluster.end.caches.insert("s1/x".into(), cached);
        tale
    }

    #[test]
    fn a_cache_that_is_a_moment_behind_passes() {
        tale(&[(A, 3)]).passes(check, Guarantee::C8, 1);
        tale(&[(A, 3), (B, 4)]).passes(check, Guarantee::C8, 2);
    }

    #[test]
    fn of_a_member_that_nobody_heals_nothing_is_expected_and_of_the_others_no_less() {
        let mut tale = tale(&[]);
        let x = tale.record.cluster.end.caches["s1/x"].clone();
        tale.record.cluster.end.caches.insert("s10/x".into(), Cached { objects: [(A.to_owned(), 3)].into(), ..x });
        tale.strike(Kind::Frozen, 20, 600).members = vec![0];
        tale.passes(check, Guarantee::C8, 1);
        tale.record.strikes[0].members = vec![9];
        tale.flags(check, &format!("s1/x does not know {A}, which has been out of date for 599000000000 ns"));
        tale.record.strikes[0].until_ns = tale.record.healed_ns;
        tale.record.cluster.end.caches.remove("s1/x");
        tale.passes(check, Guarantee::C8, 1);
    }

    #[test]
    fn what_is_not_over_is_not_judged() {
        let mut tale = tale(&[]);
        tale.record.healed_ns = tale.record.ended_ns;
        tale.passes(check, Guarantee::C8, 0);
    }

    #[test]
    fn what_is_missing_old_left_over_or_made_up_is_flagged() {
        tale(&[]).flags(check, &format!("s1/x does not know {A}, which has been out of date for 599000000000 ns"));
        tale(&[(A, 2)]).flags(check, &format!("s1/x knows {A} at version 2, which has been out of date"));
        let mut late = tale(&[(A, 3), (B, 4)]);
        late.record.ended_ns += 3 * SECOND_NS;
        late.flags(check, &format!("s1/x knows {B} at version 4, which has been out of date"));
        tale(&[(A, 3), (B, 5)]).flags(check, &format!("s1/x knows {B} at version 5, which the store never held"));
        let other = "/registry/core/pods/default/x";
        tale(&[(A, 3), (other, 9)])
            .flags(check, &format!("s1/x knows {other} at version 9, which the store never held"));
    }
}
