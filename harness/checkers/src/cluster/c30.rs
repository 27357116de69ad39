//! C30: dependents of a missing owner are gone within T after Q unless orphaned, otherwise owned, or held by a finalizer.

use super::World;
use super::facts::Timeline;
use super::workloads::{is_going, owner_key, owners_of};
use crate::findings::Findings;
use api::ObjectMeta;
use faults::Ns;
use record::{CONVERGE_NS, Guarantee, Verdict};
use std::collections::BTreeMap;

/// Of each object that names owners none of which exists any more: how long, after Q, it goes on without being deleted.
///
/// It is over when the object is gone or its deletion was asked for: then a finalizer holds it, or, if it is a pod, its
/// node (C36). It is over too when its owners change: somebody adopted it, or let it go. An owner of a kind that is not
/// served may exist elsewhere, and one that lives where it cannot own the object is somebody's mistake: neither is
/// missing.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C30);
    let timeline = Timeline::new(world);
    let ends = ends(world);
    for (key, history) in timeline.below(super::objects::REGISTRY) {
        // Since when the object names these owners.
        let mut since_ns: Ns = 0;
        for (place, commit) in history.iter().enumerate() {
            let Some(new) = commit.new.as_deref() else { continue };
            let (uid, owners) = (new.uid(), owners_of(new.metadata()));
            let before = commit.old.as_deref().filter(|old| old.uid() == uid);
            if before.is_none_or(|old| owners_of(old.metadata()) != owners) {
                since_ns = commit.at_ns;
            }
            let missing_ns = missing_since(key, new.metadata(), &ends);
            let Some(missing_ns) = missing_ns.filter(|_| !is_going(new.metadata())) else { continue };
            let next = history.get(place + 1);
            let after = next.map(|next| next.new.as_deref().filter(|after| after.uid() == uid));
            let (over, until_ns) = match (next, after) {
                // Told again of its next version.
                (_, Some(Some(after))) if !is_going(after.metadata()) && owners_of(after.metadata()) == owners => {
                    continue;
                }
                (Some(next), _) => (true, next.at_ns),
                (None, _) => (false, world.record.ended_ns),
            };
            let from_ns = since_ns.max(missing_ns).max(world.quiet_ns);
            // Whoever changes the owners while one of them lives ends nothing.
            if over && until_ns < since_ns.max(missing_ns) {
                continue;
            }
            let late_ns = until_ns.saturating_sub(from_ns);
            if !over && late_ns <= CONVERGE_NS {
                continue;
            }
            findings.tested(1);
            findings.took(late_ns);
            if late_ns > CONVERGE_NS {
                let how = if over { "was deleted only at" } else { "still is not deleted at" };
                let text = format!(
                    "{key} ({uid}), without owners since {} ns, {how} {until_ns} ns (version {})",
                    since_ns.max(missing_ns),
                    commit.revision
                );
                findings.violated(until_ns, text);
            }
        }
    }
    findings.verdict()
}

/// Of each UID that ever was: when it was gone; `None` while it exists.
fn ends<'a>(world: &'a World<'_>) -> BTreeMap<&'a str, Option<Ns>> {
    let mut ends = BTreeMap::new();
    for commit in &world.commits {
        if let Some(old) = commit.old.as_deref().filter(|_| commit.removes()) {
            ends.insert(old.uid(), Some(commit.at_ns));
        }
        if let Some(new) = commit.new.as_deref().filter(|_| commit.creates()) {
            ends.insert(new.uid(), None);
        }
    }
    ends
}

/// Since when all owners that an object names are missing; 0 if none of them ever was.
fn missing_since(key: &str, metadata: &ObjectMeta, ends: &BTreeMap<&str, Option<Ns>>) -> Option<Ns> {
    let mut since_ns = None;
    for owner in owners_of(metadata) {
        owner_key(key, owner)?;
        let gone_ns = ends.get(owner.uid.as_str()).copied().unwrap_or(Some(0))?;
        since_ns = since_ns.max(Some(gone_ns));
    }
    since_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    const OWNER: &str = "apps/replicasets/default/r";
    const POD: &str = "core/pods/default/a";
    const GOING: &str = r#","deletionTimestamp":"2025-01-01T00:00:00Z""#;

    fn pod(owner: &str, more: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"a","namespace":"default","uid":"uid-a","ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"{owner}"}}]{more}}}}}"#
        )
    }

    /// A pod whose owner is gone at 200 s, 100 s after Q.
    fn tale() -> Tale {
        let mut tale = Tale::new();
        tale.put(OWNER, r#"{"metadata":{"name":"r","namespace":"default","uid":"uid-r"}}"#);
        tale.put(POD, &pod("uid-r", "")).at(200).delete(OWNER).put(POD, &pod("uid-r", r#","labels":{}"#));
        tale
    }

    #[test]
    fn what_goes_is_adopted_or_let_go_in_time_passes() {
        for next in [pod("uid-r", GOING), pod("uid-other", ""), r#"{"metadata":{"uid":"uid-a"}}"#.to_owned()] {
            let mut tale = tale();
            tale.put("apps/replicasets/default/o", r#"{"metadata":{"name":"o","uid":"uid-other"}}"#);
            tale.at(260).put(POD, &next);
            tale.passes(check, Guarantee::C30, 1);
        }
        let mut gone = tale();
        gone.at(260).delete(POD);
        gone.passes(check, Guarantee::C30, 1);
    }

    #[test]
    fn what_has_an_owner_or_may_yet_go_is_not_judged() {
        let mut tale = tale();
        tale.record.ended_ns = crate::story::seconds(260);
        tale.passes(check, Guarantee::C30, 0);
        let mut owned = Tale::new();
        owned.put(OWNER, r#"{"metadata":{"name":"r","namespace":"default","uid":"uid-r"}}"#);
        owned.put(POD, &pod("uid-r", ""));
        owned.passes(check, Guarantee::C30, 0);
    }

    #[test]
    fn what_stays_or_goes_late_is_flagged() {
        tale().flags(check, "core/pods/default/a (uid-a), without owners since 200000000000 ns, still is not deleted");
        let mut late = tale();
        late.at(261).delete(POD);
        late.flags(check, "was deleted only at 261000000000 ns (version 5)");
        let mut never = Tale::new();
        never.put(POD, &pod("uid-never", ""));
        never.flags(check, "without owners since 1000000000 ns, still is not deleted at 600000000000 ns");
    }
}
