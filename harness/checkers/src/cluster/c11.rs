//! C11: a write with an epoch older than the newest granted is refused: one effective leader per controller group.

use super::{Lease, Object, World};
use crate::findings::Findings;
use record::{Guarantee, Sight, Verdict};
use std::collections::BTreeMap;

/// Where the Leases of control planes are kept.
const LEASES: &str = "/registry/coordination.k8s.io/leases/kube-system/";

/// Epochs order all that leaders of one Lease write:
/// - the Lease's `leaseTransitions` never falls, and no two holders have it in one epoch;
/// - no two members were elected in one epoch;
/// - the fence, the highest epoch that ever wrote, is a number that only rises.
///
/// A write carries its epoch to the API server, which compares it with the fence in the write's own transaction; the
/// store keeps no trace of an epoch that equals the fence. So what can be judged from the store is that fences only
/// rise: a deposed leader's write that was let in shows here if it moved the fence back, and otherwise in what it did.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C11);
    leases(world, &mut findings);
    elections(world, &mut findings);
    fences(world, &mut findings);
    findings.verdict()
}

fn leases(world: &World<'_>, findings: &mut Findings) {
    // Of each Lease's UID and epoch: who held it. Nobody holds a Lease that was given up.
    let mut holders: BTreeMap<(&str, i32), &str> = BTreeMap::new();
    for commit in world.commits.iter().filter(|commit| commit.key.starts_with(LEASES)) {
        let Some(Object::Lease(new)) = commit.new.as_deref() else { continue };
        let (uid, now) = (new.metadata.uid.as_deref().unwrap_or_default(), holding(new));
        if let Some(Object::Lease(old)) = commit.old.as_deref().filter(|old| old.uid() == uid) {
            let before = holding(old);
            findings.tested(u64::from(before != now));
            if now.1 < before.1 {
                let text = format!(
                    "{} went back from epoch {} to {} at revision {}",
                    commit.key, before.1, now.1, commit.revision
                );
                findings.violated(commit.at_ns, text);
            }
        }
        let (holder, epoch) = now;
        if holder.is_empty() {
            continue;
        }
        let first = *holders.entry((uid, epoch)).or_insert(holder);
        if first != holder {
            let text = format!(
                "{} went to {holder:?} at revision {} in epoch {epoch}, which was {first:?}'s",
                commit.key, commit.revision
            );
            findings.violated(commit.at_ns, text);
        }
    }
}

/// Who holds a Lease in which epoch.
fn holding(lease: &Lease) -> (&str, i32) {
    let Some(spec) = &lease.spec else { return ("", 0) };
    (spec.holder_identity.as_deref().unwrap_or_default(), spec.lease_transitions.unwrap_or_default())
}

fn elections(world: &World<'_>, findings: &mut Findings) {
    let mut elected: BTreeMap<(&str, i64), u32> = BTreeMap::new();
    for sight in &world.record.cluster.sights {
        let Sight::Elected { at_ns, member, lease, epoch, leads: true } = sight else { continue };
        findings.tested(1);
        let first = *elected.entry((lease, *epoch)).or_insert(*member);
        if first != *member {
            let text = format!("member {member} was elected for {lease} in epoch {epoch}, which was member {first}'s");
            findings.violated(*at_ns, text);
        }
    }
}

fn fences(world: &World<'_>, findings: &mut Findings) {
    let mut highest: BTreeMap<&str, u64> = BTreeMap::new();
    for fence in &world.fences {
        findings.tested(1);
        let with =
            if fence.with.is_empty() { String::new() } else { format!(" together with {}", fence.with.join(", ")) };
        let said =
            format!("the fence of {} was set to {:?} at revision {}{with}", fence.lease, fence.value, fence.revision);
        let Some(epoch) = fence.value.and_then(|value| value.parse::<u64>().ok()) else {
            findings.violated(fence.at_ns, format!("{said}, which is no epoch"));
            continue;
        };
        let before = highest.get(fence.lease).copied();
        if before.is_some_and(|before| epoch <= before) {
            let text = format!("{said}, after {}", before.unwrap_or_default());
            findings.violated(fence.at_ns, text);
        }
        highest.insert(fence.lease, before.unwrap_or(0).max(epoch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    const LEASE: &str = "kube-system/kube-scheduler";

    fn lease(tale: &mut Tale, holder: &str, transitions: i32) {
        let json = format!(
            r#"{{"metadata":{{"uid":"u"}},"spec":{{"holderIdentity":"{holder}","leaseTransitions":{transitions}}}}}"#
        );
        tale.put("coordination.k8s.io/leases/kube-system/kube-scheduler", &json);
    }

    fn fence(tale: &mut Tale, epoch: &str) {
        let pod = ("/registry/core/pods/default/a".to_owned(), "\u{1}{}".to_owned());
        tale.put_raw(vec![(format!("/fence/{LEASE}"), epoch.to_owned()), pod]);
    }

    fn tale() -> Tale {
        let mut tale = Tale::new();
        lease(&mut tale, "s1", 0);
        tale.elected(0, LEASE, 0, true);
        fence(&mut tale, "0");
        lease(&mut tale, "s1", 0);
        lease(&mut tale, "", 0);
        tale.elected(0, LEASE, 0, false);
        lease(&mut tale, "s2", 1);
        tale.elected(1, LEASE, 1, true);
        fence(&mut tale, "1");
        tale
    }

    #[test]
    fn epochs_that_rise_pass() {
        // Two changes of hands, two elections, two raises of the fence.
        tale().passes(check, Guarantee::C11, 6);
    }

    #[test]
    fn the_leases_of_nodes_are_nobodys_epochs() {
        let mut tale = Tale::new();
        for holder in ["n1", "n2"] {
            let json = format!(r#"{{"metadata":{{"uid":"u"}},"spec":{{"holderIdentity":"{holder}"}}}}"#);
            tale.put("coordination.k8s.io/leases/kube-node-lease/n1", &json);
        }
        tale.passes(check, Guarantee::C11, 0);
    }

    #[test]
    fn a_lease_that_changes_hands_within_an_epoch_is_flagged() {
        let mut tale = tale();
        lease(&mut tale, "s3", 1);
        tale.flags(check, "went to \"s3\" at revision 8 in epoch 1, which was \"s2\"'s");
    }

    #[test]
    fn a_lease_whose_epoch_falls_is_flagged() {
        let mut tale = tale();
        lease(&mut tale, "s3", 0);
        tale.flags(check, "went back from epoch 1 to 0 at revision 8");
    }

    #[test]
    fn two_members_of_one_epoch_are_flagged() {
        let mut tale = tale();
        tale.elected(2, LEASE, 1, true);
        tale.flags(check, "member 2 was elected for kube-system/kube-scheduler in epoch 1, which was member 1's");
    }

    #[test]
    fn a_fence_that_falls_or_is_none_is_flagged() {
        let mut fallen = tale();
        fence(&mut fallen, "0");
        fallen.flags(check, "set to Some(\"0\") at revision 8 together with /registry/core/pods/default/a, after 1");
        let mut broken = tale();
        fence(&mut broken, "x");
        broken.flags(check, "which is no epoch");
    }
}
