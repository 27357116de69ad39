//! C31: finalizers hold; a namespace that is gone is empty; nothing is created in a terminating one.

use super::facts::Timeline;
use super::workloads::{FOREGROUND, NAMESPACES, is_going, namespace_of, owners_of, users_name};
use super::{Commit, Object, World};
use crate::findings::Findings;
use record::{Guarantee, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// By which the garbage collector keeps an object whose dependents are to stay.
const ORPHAN: &str = "orphan";

/// Namespaces that nobody can delete: a create in them puts nothing to the test.
const LASTING: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Put to the test by each removal of an object that finalizers held, by each removal of a namespace, and by each create
/// in a namespace that can go.
///
/// The write that takes the last finalizer off an object removes it, so that its last stored version still has that
/// finalizer. What is certainly wrong is a removal
/// - of an object whose deletion had not been asked for, or that more than one party held: nobody may take off both;
/// - by the garbage collector while a dependent blocks, or has not been orphaned, that has done so since before the
///   object's last version. A user who asks for the deletion of the object a second time may change what becomes of
///   its dependents, and is believed to have.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C31);
    let timeline = Timeline::new(world);
    let mut places = Places::default();
    for commit in &world.commits {
        if commit.removes() {
            removal(world, &timeline, &places, commit, &mut findings);
        }
        if commit.creates() {
            creation(&timeline, commit, &mut findings);
        }
        places.apply(commit);
    }
    findings.verdict()
}

/// What is where, and what depends on what.
#[derive(Default)]
struct Places<'a> {
    by_namespace: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// By UID of an owner.
    dependents: BTreeMap<&'a str, BTreeMap<&'a str, &'a Object>>,
}

impl<'a> Places<'a> {
    fn apply(&mut self, commit: &'a Commit) {
        let key = &*commit.key;
        if let Some(old) = &commit.old {
            if let Some(inside) = namespace_of(key).and_then(|namespace| self.by_namespace.get_mut(namespace)) {
                inside.remove(key);
            }
            for owner in owners_of(old.metadata()) {
                self.dependents.entry(&owner.uid).or_default().remove(key);
            }
        }
        if let Some(new) = &commit.new {
            if let Some(namespace) = namespace_of(key) {
                self.by_namespace.entry(namespace).or_default().insert(key);
            }
            for owner in owners_of(new.metadata()) {
                self.dependents.entry(&owner.uid).or_default().insert(key, new);
            }
        }
    }
}

fn removal(world: &World<'_>, timeline: &Timeline<'_>, places: &Places<'_>, commit: &Commit, findings: &mut Findings) {
    let Some(old) = commit.old.as_deref() else { return };
    let (key, revision) = (&commit.key, commit.revision);
    if let Some(name) = key.strip_prefix(NAMESPACES) {
        findings.tested(1);
        if let Some(left) = places.by_namespace.get(name).and_then(BTreeSet::first) {
            findings.violated(commit.at_ns, format!("{key} was removed at revision {revision} while {left} was in it"));
        }
    }
    let holders = finalizers(old);
    if holders.is_empty() {
        return;
    }
    findings.tested(1);
    let foreign = holders.iter().any(|holder| !matches!(*holder, FOREGROUND | ORPHAN));
    if foreign && (!is_going(old.metadata()) || holders.len() > 1) {
        let asked = if is_going(old.metadata()) { "" } else { " and nobody had asked for its deletion" };
        let text = format!("{key} was removed at revision {revision} while {holders:?} held it{asked}");
        findings.violated(commit.at_ns, text);
    } else if let Some(dependent) = dependent(timeline, places, commit, old, &holders) {
        let history = timeline.history(key).iter().rev().filter(|other| other.revision < revision);
        let born_ns = history.into_iter().find(|other| other.creates()).map_or(0, |born| born.since_ns);
        // The first request of a user is what marked the object.
        if world.asked_by_users(&["delete"], &users_name(key), born_ns, commit.at_ns) > 1 {
            return;
        }
        let text = format!("{key} was removed at revision {revision} while {holders:?} held it for {dependent}");
        findings.violated(commit.at_ns, text);
    }
}

/// A dependent for which a finalizer of the garbage collector keeps an object.
fn dependent<'a>(
    timeline: &Timeline<'_>,
    places: &Places<'a>,
    commit: &Commit,
    old: &Object,
    holders: &[&str],
) -> Option<&'a str> {
    let history = timeline.history(&commit.key);
    let place = history.partition_point(|other| other.revision < commit.revision);
    let last = history.get(place.checked_sub(1)?)?.revision;
    let waits_for = |dependent: &Object| {
        owners_of(dependent.metadata()).iter().any(|owner| {
            owner.uid == old.uid()
                && (holders.contains(&ORPHAN)
                    || (holders.contains(&FOREGROUND) && owner.block_owner_deletion == Some(true)))
        })
    };
    let namespace = namespace_of(&commit.key);
    let can_depend = |key: &str| namespace.is_none() || namespace_of(key) == namespace;
    places.dependents.get(old.uid())?.iter().find_map(|(key, now)| {
        let then = timeline.at_revision(key, last)?;
        (can_depend(key) && then.uid() == now.uid() && waits_for(then) && waits_for(now)).then_some(*key)
    })
}

fn finalizers(object: &Object) -> Vec<&str> {
    let own = object.metadata().finalizers.iter().flatten();
    let of_spec = match object {
        Object::Namespace(namespace) => namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref()),
        _ => None,
    };
    own.chain(of_spec.into_iter().flatten()).map(String::as_str).collect()
}

fn creation(timeline: &Timeline<'_>, commit: &Commit, findings: &mut Findings) {
    let Some(name) = namespace_of(&commit.key).filter(|name| !LASTING.contains(name)) else { return };
    findings.tested(1);
    let namespace = timeline.at_revision(&format!("{NAMESPACES}{name}"), commit.revision - 1);
    let why = match namespace {
        None => "does not exist",
        Some(namespace) if is_going(namespace.metadata()) => "is terminating",
        Some(_) => return,
    };
    let text = format!("{} was created at revision {} in a namespace that {why}", commit.key, commit.revision);
    findings.violated(commit.at_ns, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use crate::story::seconds;
    use record::{Answer, UserWrite};

    fn object(uid: &str, more: &str) -> String {
        format!(r#"{{"metadata":{{"name":"x","uid":"{uid}"{more}}}}}"#)
    }

    const GOING: &str = r#","deletionTimestamp":"2025-01-01T00:00:00Z""#;

    fn namespace(more: &str, finalizers: &str) -> String {
        format!(r#"{{"metadata":{{"name":"team","uid":"uid-team"{more}}},"spec":{{"finalizers":[{finalizers}]}}}}"#)
    }

    fn owned(blocks: bool) -> String {
        object(
            "uid-d",
            &format!(
                r#","ownerReferences":[{{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"uid-o","blockOwnerDeletion":{blocks}}}]"#
            ),
        )
    }

    fn held(finalizers: &str) -> String {
        object("uid-o", &format!(r#"{GOING},"finalizers":[{finalizers}]"#))
    }

    #[test]
    fn an_orderly_end_passes() {
        let mut tale = Tale::new();
        tale.put("core/namespaces/team", &namespace("", r#""kubernetes""#));
        tale.put("core/configmaps/team/x", &held(r#""mine""#)).delete("core/configmaps/team/x");
        tale.put("core/namespaces/team", &namespace(GOING, r#""kubernetes""#)).delete("core/namespaces/team");
        // In the default namespace: nothing to test but what was held.
        tale.put("core/configmaps/default/x", &held(r#""foregroundDeletion""#));
        // Created too late for the collector to know.
        tale.put("core/secrets/default/d", &owned(true)).delete("core/configmaps/default/x");
        tale.passes(check, Guarantee::C31, 5);
    }

    #[test]
    fn what_is_removed_though_held_is_flagged() {
        let mut tale = Tale::new();
        tale.put("core/configmaps/default/x", &object("uid-x", r#","finalizers":["mine"]"#));
        tale.delete("core/configmaps/default/x");
        tale.flags(check, r#"was removed at revision 3 while ["mine"] held it and nobody had asked for its deletion"#);
        let mut tale = Tale::new();
        tale.put("core/configmaps/default/x", &held(r#""mine","yours""#)).delete("core/configmaps/default/x");
        tale.flags(check, r#"was removed at revision 3 while ["mine", "yours"] held it"#);
    }

    #[test]
    fn what_is_removed_before_its_dependents_is_flagged() {
        for (finalizer, blocks, wrong) in [(FOREGROUND, true, true), (FOREGROUND, false, false), (ORPHAN, false, true)]
        {
            let mut tale = Tale::new();
            tale.put("core/secrets/default/d", &owned(blocks));
            tale.put("core/configmaps/default/x", &held(&format!("{finalizer:?}")));
            tale.delete("core/configmaps/default/x");
            if wrong {
                tale.flags(check, "held it for /registry/core/secrets/default/d");
            } else {
                tale.passes(check, Guarantee::C31, 1);
            }
        }
    }

    #[test]
    fn a_user_who_deletes_again_is_believed_to_have_changed_the_policy() {
        let mut tale = Tale::new();
        tale.put("core/secrets/default/d", &owned(true));
        tale.put("core/configmaps/default/x", &held(r#""foregroundDeletion""#)).at(9);
        tale.delete("core/configmaps/default/x");
        let write = |what: &str| UserWrite {
            invoked_ns: seconds(8),
            completed_ns: seconds(9),
            what: what.into(),
            object: "configmaps default/x".into(),
            outcome: Answer::Ok { resource_version: 0 },
        };
        tale.record.cluster.writes = vec![write("delete"), write("scale")];
        tale.flags(check, "held it for");
        tale.record.cluster.writes = vec![write("delete"), write("delete")];
        tale.passes(check, Guarantee::C31, 1);
    }

    #[test]
    fn a_namespace_that_goes_with_something_in_it_is_flagged() {
        let mut tale = Tale::new();
        tale.put("core/namespaces/team", &namespace(GOING, r#""kubernetes""#));
        tale.put("core/configmaps/team/x", &object("uid-x", "")).delete("core/namespaces/team");
        tale.flags(check, "namespaces/team was removed at revision 4 while /registry/core/configmaps/team/x was in it");
        tale.flags(check, "configmaps/team/x was created at revision 3 in a namespace that is terminating");
    }

    #[test]
    fn a_create_in_no_namespace_is_flagged() {
        let mut tale = Tale::new();
        tale.put("core/configmaps/team/x", &object("uid-x", ""));
        tale.flags(check, "configmaps/team/x was created at revision 2 in a namespace that does not exist");
    }
}
