//! C29: garbage collection never deletes an object with a living owner.

use super::facts::{SECOND_NS, Timeline};
use super::workloads::{is_going, key_of, living_owner, owners_of, users_name};
use super::{Commit, World};
use crate::findings::Findings;
use api::resource;
use faults::Ns;
use record::{Guarantee, Sight, Verdict};
use std::collections::BTreeMap;

/// The controller's name in its sights.
const COLLECTOR: &str = "garbage-collector-controller";

/// A delete that the collector began is taken to be what deletes the object within this time: the longest that a request
/// usually takes to be tried elsewhere.
const EFFECT_NS: Ns = 5 * SECOND_NS;

/// Whenever an object is deleted (removed, or marked for it) soon after the collector began to write about it, none of
/// its owners lives soon after: an owner that is absent for the collector never comes back, so that the check holds
/// whenever the collector looked. Soon after is as of the last revision that was seen together with the deletion, for
/// the collector may have begun only then: after somebody else, its owner's controller, had deleted the object.
///
/// What the collector writes may also be about the object's metadata, which is no deletion, and whoever deletes the
/// object meanwhile is none of its business: a change of its owners ends the suspicion, and a user who asked for it is
/// believed. An object that was on its way out before is not judged: others decided that.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C29);
    let timeline = Timeline::new(world);
    let effects = effects(world);
    for commit in &world.commits {
        let Some(old) = commit.old.as_deref() else { continue };
        let deletes = commit.removes() || commit.new.as_deref().is_some_and(|new| is_going(new.metadata()));
        if !deletes || is_going(old.metadata()) || !is_collected(&timeline, commit, &effects, world.sample_ns()) {
            continue;
        }
        let by_user = world.asked_by_users(&["delete", "evict"], &users_name(&commit.key), 0, commit.at_ns);
        if by_user > 0 {
            continue;
        }
        findings.tested(1);
        let seen_with_it = world.commits.partition_point(|other| other.at_ns <= commit.at_ns);
        let seen = world.commits[..seen_with_it].last().map_or(commit.revision, |last| last.revision);
        if let Some(owner) = living_owner(&timeline, &commit.key, old.metadata(), seen) {
            let text = format!(
                "{} ({}) was collected at revision {} although its owner {owner} lives",
                commit.key,
                old.uid(),
                commit.revision
            );
            findings.violated(commit.at_ns, text);
        }
    }
    findings.verdict()
}

/// When the collector began to write, by registry key, in order of time.
fn effects(world: &World<'_>) -> BTreeMap<String, Vec<Ns>> {
    let mut effects: BTreeMap<String, Vec<Ns>> = BTreeMap::new();
    for sight in &world.record.cluster.sights {
        if let Sight::Effect { at_ns, controller, key, .. } = sight
            && controller == COLLECTOR
            && let Some(key) = registry_key(key)
        {
            effects.entry(key).or_default().push(*at_ns);
        }
    }
    effects
}

/// The object that a key of the collector stands for: `namespace/group/Kind/name`, without the namespace if it is in none.
fn registry_key(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('/').collect();
    let (namespace, group, kind, name) = match parts[..] {
        [group, kind, name] => ("", group, kind, name),
        [namespace, group, kind, name] => (namespace, group, kind, name),
        _ => return None,
    };
    Some(key_of(resource::find(group, kind)?, namespace, name))
}

/// Whether the collector began to write about the object shortly before the commit, and nothing has become of that yet.
fn is_collected(timeline: &Timeline<'_>, commit: &Commit, effects: &BTreeMap<String, Vec<Ns>>, sample_ns: Ns) -> bool {
    let Some(began) = effects.get(&*commit.key) else { return false };
    let latest = began[..began.partition_point(|at_ns| *at_ns <= commit.at_ns)].last();
    let Some(began_ns) = latest.filter(|began_ns| **began_ns + EFFECT_NS + sample_ns >= commit.at_ns) else {
        return false;
    };
    let since = timeline.history(&commit.key).iter().filter(|other| other.revision < commit.revision);
    let mut since = since.filter(|other| other.at_ns >= *began_ns);
    // A change of owners is what the collector wanted; an object that was not there yet is not what it meant.
    !since.any(|other| match (other.old.as_deref(), other.new.as_deref()) {
        (Some(old), Some(new)) => owners_of(old.metadata()) != owners_of(new.metadata()) || old.uid() != new.uid(),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use crate::story::seconds;
    use record::{Answer, UserWrite};

    const OWNER: &str = "apps/replicasets/default/r";
    const GOING: &str = r#","deletionTimestamp":"2025-01-01T00:00:00Z""#;

    fn owner(uid: &str, more: &str) -> String {
        format!(r#"{{"metadata":{{"name":"r","namespace":"default","uid":"{uid}"{more}}}}}"#)
    }

    fn pod(owner: &str, more: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"a","namespace":"default","uid":"uid-a","ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"{owner}","controller":true}}]{more}}}}}"#
        )
    }

    fn collects(tale: &mut Tale, key: &str) {
        let at_ns = seconds(tale.now_s);
        tale.saw(Sight::Effect { at_ns, member: 0, controller: COLLECTOR.into(), key: key.into() });
    }

    /// A pod that the collector deletes at 10 s.
    fn tale(owner_is: Option<String>) -> Tale {
        let mut tale = Tale::new();
        if let Some(owner) = owner_is {
            tale.put(OWNER, &owner);
        }
        tale.put("core/pods/default/a", &pod("uid-r", "")).at(10);
        collects(&mut tale, "default//Pod/a");
        tale
    }

    #[test]
    fn what_has_no_living_owner_is_collected() {
        for owner in [
            None,
            Some(owner("uid-other", "")),
            Some(owner("uid-r", &format!(r#"{GOING},"finalizers":["foregroundDeletion"]"#))),
        ] {
            let mut tale = tale(owner);
            tale.put("core/pods/default/a", &pod("uid-r", GOING)).at(12).delete("core/pods/default/a");
            tale.passes(check, Guarantee::C29, 1);
        }
    }

    #[test]
    fn what_has_a_living_owner_is_flagged() {
        for marked in [true, false] {
            let mut tale = tale(Some(owner("uid-r", GOING)));
            if marked {
                tale.put("core/pods/default/a", &pod("uid-r", GOING));
            } else {
                tale.delete("core/pods/default/a");
            }
            tale.flags(check, "core/pods/default/a (uid-a) was collected at revision 4 although its owner");
        }
    }

    #[test]
    fn others_may_delete_what_has_an_owner() {
        // The owner's controller did, in the moment in which the owner was deleted and the collector took notice.
        let mut together = tale(Some(owner("uid-r", "")));
        together.put("core/pods/default/a", &pod("uid-r", GOING));
        together.put(OWNER, &owner("uid-r", &format!(r#"{GOING},"finalizers":["foregroundDeletion"]"#)));
        together.passes(check, Guarantee::C29, 1);
        // Long after the collector wrote.
        let mut late = tale(Some(owner("uid-r", "")));
        late.at(16).delete("core/pods/default/a");
        late.passes(check, Guarantee::C29, 0);
        // The collector changed its owners.
        let mut changed = tale(Some(owner("uid-r", "")));
        changed.put("core/pods/default/a", r#"{"metadata":{"name":"a","namespace":"default","uid":"uid-a"}}"#);
        changed.delete("core/pods/default/a");
        changed.passes(check, Guarantee::C29, 0);
        // A user asked for it.
        let mut asked = tale(Some(owner("uid-r", "")));
        asked.delete("core/pods/default/a");
        asked.record.cluster.writes.push(UserWrite {
            invoked_ns: seconds(9),
            completed_ns: seconds(11),
            what: "evict".into(),
            object: "pods default/a".into(),
            outcome: Answer::Unknown { why: "timeout".into() },
        });
        asked.passes(check, Guarantee::C29, 0);
    }

    #[test]
    fn keys_of_the_collector_name_objects() {
        assert_eq!(registry_key("default//Pod/a").as_deref(), Some("/registry/core/pods/default/a"));
        assert_eq!(registry_key("/Node/n1").as_deref(), Some("/registry/core/nodes/n1"));
        let lease = "kube-system/coordination.k8s.io/Lease/x";
        assert_eq!(registry_key(lease).as_deref(), Some("/registry/coordination.k8s.io/leases/kube-system/x"));
        assert_eq!(registry_key("default/pods"), None);
    }
}
