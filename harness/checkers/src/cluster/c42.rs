//! C42: a controller's creations are at most the demand (spec increases and pods lost).

use super::facts::{condition, controller_uid};
use super::workloads::{set_of, set_size, uid_of, users_name};
use super::{Commit, Object, Pod, World};
use crate::findings::Findings;
use record::{Guarantee, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// At each creation of a pod for a ReplicaSet, the pods created for it so far are no more than it first asked for, plus
/// every increase since, plus every pod that it has lost, plus one for each backoff step: a create that got no answer is sent
/// again under the same name, and comes to be a second time if the first was deleted meanwhile.
///
/// Lost is a pod that ended, that was let go, or whose deletion somebody else asked for: a user, or whoever announced it
/// by the condition DisruptionTarget. A pod that is deleted without that was deleted by the controller because it was
/// one too many, which is no reason to create another; so one that creates and deletes in turns is found out.
///
/// Tested are ReplicaSets with creations.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C42);
    let mut sets: BTreeMap<&str, Demand<'_>> = BTreeMap::new();
    let mut tested: BTreeSet<&str> = BTreeSet::new();
    for commit in &world.commits {
        if let Some(Object::ReplicaSet(set)) = commit.new.as_deref() {
            let demand = sets.entry(uid_of(&set.metadata)).or_default();
            let wanted = set_size(set);
            demand.asked += (wanted - demand.wanted).max(0);
            demand.wanted = wanted;
        }
        let (old, new) = commit.pods();
        if let Some(demand) = set_of(old).and_then(|set| sets.get_mut(set)) {
            let leaves = set_of(old) != set_of(new) || commit.creates();
            demand.lost += i64::from(leaves && is_lost(world, commit, old, new));
        }
        let Some(set) = new.filter(|_| commit.creates()).and_then(controller_uid) else { continue };
        let Some(demand) = sets.get_mut(set) else { continue };
        if tested.insert(set) {
            findings.tested(1);
        }
        demand.created += 1;
        demand.repeated += i64::from(!demand.names.insert(&*commit.key));
        if demand.created > demand.asked + demand.lost + demand.repeated {
            let Demand { asked, lost, created, .. } = demand;
            let text = format!(
                "{} was created for set {set} at revision {} as its pod number {created}, but only {asked} were asked \
                 for and {lost} lost",
                commit.key, commit.revision
            );
            findings.violated(commit.at_ns, text);
        }
    }
    findings.verdict()
}

/// What there was reason to create for a set.
#[derive(Default)]
struct Demand<'a> {
    wanted: i64,
    /// The first size and all increases.
    asked: i64,
    lost: i64,
    created: i64,
    /// Registry keys of its pods.
    names: BTreeSet<&'a str>,
    /// How often a name came to be once more.
    repeated: i64,
}

/// Whether an active pod that is a set's no more was taken from it.
fn is_lost(world: &World<'_>, commit: &Commit, old: Option<&Pod>, new: Option<&Pod>) -> bool {
    let Some(old) = old else { return false };
    let new = new.filter(|new| new.uid() == old.uid());
    let deleted = new.is_none_or(|new| new.metadata.deletion_timestamp.is_some());
    let is_disrupted = |pod: &Pod| condition(pod, "DisruptionTarget").is_some_and(|target| target.status == "True");
    !deleted
        || is_disrupted(old)
        || new.is_some_and(is_disrupted)
        || world.asked_by_users(&["delete", "evict"], &users_name(&commit.key), 0, commit.at_ns) > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use crate::story::seconds;
    use record::{Answer, UserWrite};

    fn sized(tale: &mut Tale, replicas: u32) {
        let json =
            format!(r#"{{"metadata":{{"name":"r","uid":"uid-r"}},"spec":{{"replicas":{replicas},"selector":{{}}}}}}"#);
        tale.put("apps/replicasets/default/r", &json);
    }

    fn pod(tale: &mut Tale, name: &str, metadata: &str, status: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","uid":"uid-{name}","ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"uid-r","controller":true}}]{metadata}}},"status":{{{status}}}}}"#
        );
        tale.put(&format!("core/pods/default/{name}"), &json);
    }

    /// Asked for 2, then 1, then 3; lost: one that failed, one that was announced, one that a user deleted.
    fn tale() -> Tale {
        let mut tale = Tale::new();
        sized(&mut tale, 2);
        pod(&mut tale, "a", "", "");
        pod(&mut tale, "b", "", "");
        sized(&mut tale, 1);
        tale.delete("core/pods/default/b");
        sized(&mut tale, 3);
        pod(&mut tale, "c", "", "");
        pod(&mut tale, "d", "", "");
        pod(&mut tale, "a", "", r#""phase":"Failed""#);
        pod(&mut tale, "e", "", "");
        let target = r#""conditions":[{"type":"DisruptionTarget","status":"True"}]"#;
        pod(&mut tale, "c", "", target);
        pod(&mut tale, "c", r#","deletionTimestamp":"2025-01-01T00:00:00Z""#, target);
        pod(&mut tale, "f", "", "");
        tale.delete("core/pods/default/c");
        tale.record.cluster.writes.push(UserWrite {
            invoked_ns: seconds(1),
            completed_ns: seconds(2),
            what: "delete".into(),
            object: "pods default/d".into(),
            outcome: Answer::Ok { resource_version: 0 },
        });
        tale.delete("core/pods/default/d");
        pod(&mut tale, "g", "", "");
        tale
    }

    #[test]
    fn a_create_that_is_sent_again_after_its_pod_was_deleted_passes() {
        let mut tale = Tale::new();
        sized(&mut tale, 1);
        pod(&mut tale, "a", "", "");
        // By the collector of garbage, for which there is nothing to be replaced.
        tale.delete("core/pods/default/a");
        pod(&mut tale, "a", "", "");
        tale.passes(check, Guarantee::C42, 1);
        tale.delete("core/pods/default/a");
        pod(&mut tale, "b", "", "");
        tale.flags(check, "its pod number 3, but only 1 were asked for and 0 lost");
    }

    #[test]
    fn as_many_as_asked_for_and_lost_pass() {
        tale().passes(check, Guarantee::C42, 1);
    }

    #[test]
    fn one_more_is_flagged() {
        let mut tale = tale();
        pod(&mut tale, "h", "", "");
        let text = "core/pods/default/h was created for set uid-r at revision 18 as its pod number 8, but only 4 were \
                    asked for and 3 lost";
        tale.flags(check, text);
    }

    #[test]
    fn one_that_creates_and_deletes_in_turns_is_flagged() {
        let mut tale = Tale::new();
        sized(&mut tale, 1);
        for name in ["a", "b"] {
            pod(&mut tale, name, "", "");
            tale.delete(&format!("core/pods/default/{name}"));
        }
        tale.flags(
            check,
            "core/pods/default/b was created for set uid-r at revision 5 as its pod number 2, but only 1",
        );
    }
}
