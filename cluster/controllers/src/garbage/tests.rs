//! Golden tests: a line per object, `kind/name < owner owner! ...` with `!` for a reference that blocks.

use super::*;
use crate::fake::Fake;
use api::Timestamp;
use api::apps::v1::{Deployment, ReplicaSet};
use api::core::v1::{ConfigMap, Node, Pod};
use expect_test::{Expect, expect};

const DEPLOYMENT: &str = "d";
const REPLICA_SET: &str = "r";

/// The kind of an object is the first letter of its name: `d`eployment, `r`eplicaset, `p`od, `c`onfigmap, `n`ode.
fn kind_of(name: &str) -> (&'static str, &'static str) {
    match &name[..1] {
        DEPLOYMENT => ("apps/v1", "Deployment"),
        REPLICA_SET => ("apps/v1", "ReplicaSet"),
        "p" => ("v1", "Pod"),
        "n" => ("v1", "Node"),
        "x" => ("example.org/v1", "Thing"),
        _ => ("v1", "ConfigMap"),
    }
}

/// An owner `r1!` or `other/r1`: the UID is the name with `-uid`, or that of a former object for `r1?`.
fn owner(text: &str) -> OwnerReference {
    let blocks = text.ends_with('!');
    let former = text.ends_with('?');
    let name = text.trim_end_matches(['!', '?']);
    let (api_version, kind) = kind_of(name);
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: if former { format!("{name}-former") } else { format!("{name}-uid") },
        block_owner_deletion: blocks.then_some(true),
        controller: None,
    }
}

/// `namespace/name < owners`, with flags after the name: `[foregroundDeletion]`, `[orphan]` is being deleted so.
fn put(fake: &mut Fake, line: &str) {
    let (head, owners) = line.split_once('<').unwrap_or((line, ""));
    let mut head = head.split_whitespace();
    let path = head.next().unwrap();
    let (namespace, name) = path.split_once('/').unwrap_or(("default", path));
    let flag = head.next().map(|flag| flag.trim_matches(['[', ']']).to_owned());
    let owners: Vec<OwnerReference> = owners.split_whitespace().map(owner).collect();
    let is_node = name.starts_with('n');
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: (!is_node).then(|| namespace.to_owned()),
        uid: Some(format!("{name}-uid")),
        owner_references: (!owners.is_empty()).then_some(owners),
        deletion_timestamp: flag.as_ref().map(|_| api::Time(Timestamp::UNIX_EPOCH)),
        finalizers: flag.map(|flag| vec![flag]),
        ..ObjectMeta::default()
    };
    match &name[..1] {
        DEPLOYMENT => drop(fake.put(Deployment { metadata, ..Deployment::default() })),
        REPLICA_SET => drop(fake.put(ReplicaSet { metadata, ..ReplicaSet::default() })),
        "p" => drop(fake.put(Pod { metadata, ..Pod::default() })),
        "n" => drop(fake.put(Node { metadata, ..Node::default() })),
        _ => drop(fake.put(ConfigMap { metadata, ..ConfigMap::default() })),
    }
}

fn world(lines: &str) -> Fake {
    let mut fake = Fake::new();
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| put(&mut fake, line));
    fake
}

/// Every plan for the state as it is, in order of kinds and names.
fn everything(caches: &Caches) -> Plan {
    let mut all = Plan::nothing();
    for resource in caches.resources() {
        for metadata in caches.metadata(resource) {
            let item = Item { resource, metadata };
            let next = reconcile(caches, &key_of(item), now());
            // One plan at a time, so that each is made of what the one before left.
            if all.is_empty() {
                all.writes = next.writes;
            }
            all.notes.extend(next.notes);
        }
    }
    all
}

fn now() -> Now {
    Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO }
}

/// Pods that are being deleted end at once.
fn end_pods(fake: &mut Fake) {
    let ended = fake.caches.all::<Pod>().filter(|pod| pod.is_terminating());
    let ended: Vec<(String, String)> = ended
        .filter(|pod| pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty))
        .map(|pod| (pod.namespace().to_owned(), pod.name().to_owned()))
        .collect();
    ended.iter().for_each(|(namespace, name)| fake.remove::<Pod>(namespace, name));
}

fn check(lines: &str, expect: Expect) -> Fake {
    let mut fake = world(lines);
    let mut log = Vec::new();
    for _ in 0..50 {
        let plan = everything(&fake.caches);
        if plan.is_empty() {
            break;
        }
        log.extend(plan.writes.iter().map(ToString::to_string));
        fake.perform(&plan).unwrap();
        end_pods(&mut fake);
    }
    assert!(everything(&fake.caches).is_empty(), "plans do not come to an end");
    expect.assert_eq(&log.join("\n"));
    fake
}

#[test]
fn what_lost_all_its_owners_goes_from_the_top() {
    check(
        "
        r1 < d1!
        p1 < r1!
        p2 < r1!
        p3
        ",
        expect![[r#"
            delete replicasets default/r1
            delete pods default/p1
            delete pods default/p2"#]],
    );
}

#[test]
fn what_has_a_living_owner_stays() {
    check("d1\nr1 < d1!\np1 < r1!\nn1\nc1 < n1", expect![""]);
}

#[test]
fn an_owner_of_the_same_name_but_another_uid_is_no_owner() {
    check("r1\np1 < r1?", expect!["delete pods default/p1"]);
}

#[test]
fn dead_owners_are_taken_out_while_others_live() {
    let fake = check("d1\nc1 < d1 d2", expect!["patch configmaps default/c1"]);
    let config = fake.caches.get::<ConfigMap>("default", "c1").unwrap();
    assert_eq!(config.owners().iter().map(|owner| owner.name.as_str()).collect::<Vec<_>>(), ["d1"]);
}

#[test]
fn in_the_foreground_dependents_that_block_go_first() {
    check(
        "
        d1 [foregroundDeletion]
        r1 < d1!
        p1 < r1!
        c1 < d1
        ",
        expect![[r#"
            delete configmaps default/c1
            delete replicasets default/r1
            delete pods default/p1
            patch replicasets default/r1
            patch deployments default/d1"#]],
    );
}

#[test]
fn a_dependent_with_another_living_owner_does_not_hold_the_foreground_up() {
    check(
        "d1 [foregroundDeletion]\nd2\nr1 < d1! d2",
        expect![[r#"
            patch replicasets default/r1
            patch deployments default/d1"#]],
    );
}

#[test]
fn a_circle_in_the_foreground_ends() {
    check(
        "
        c1 [foregroundDeletion] < c2!
        c2 < c1!
        ",
        expect![[r#"
            patch configmaps default/c2
            patch configmaps default/c1
            delete configmaps default/c2"#]],
    );
}

#[test]
fn orphans_lose_the_owner_and_stay() {
    let fake = check(
        "d1 [orphan]\nr1 < d1!\nr2 < d1!\np1 < r1",
        expect![[r#"
            patch replicasets default/r1
            patch replicasets default/r2
            patch deployments default/d1"#]],
    );
    assert!(fake.caches.get::<Deployment>("default", "d1").is_none());
    assert!(fake.caches.all::<ReplicaSet>().all(|set| set.owners().is_empty()));
}

#[test]
fn owners_in_the_wrong_namespace_delete_nothing_and_are_said() {
    let fake = check("other/r1\np1 < r1\nn1 < r1", expect![""]);
    let notes = everything(&fake.caches).notes;
    let said: Vec<String> = notes.iter().map(|note| format!("{}: {}", note.reason, note.message)).collect();
    expect![[r#"
        OwnerRefInvalidNamespace: ownerRef [apps/v1/ReplicaSet, name: r1, uid: r1-uid] does not exist in namespace ""
        OwnerRefInvalidNamespace: ownerRef [apps/v1/ReplicaSet, name: r1, uid: r1-uid] does not exist in namespace "default""#]]
    .assert_eq(&said.join("\n"));
}

#[test]
fn owners_of_kinds_that_are_not_served_are_believed() {
    check("p1 < x1\np2 < x1 r1", expect!["patch pods default/p2"]);
}

#[test]
fn nothing_is_deleted_on_old_knowledge() {
    // The pod is seen, its ReplicaSet is not yet: the cache of that kind ends before the pod.
    let fake = world("p1 < r1");
    let mut stale = Caches::new();
    let pod = fake.caches.get::<Pod>("default", "p1").unwrap().clone();
    let version = pod.resource_version().parse::<i64>().unwrap();
    stale.store_mut::<Pod>().put(pod.clone());
    stale.store_mut::<Pod>().seen(version);
    stale.store_mut::<ReplicaSet>().seen(version - 1);
    let key = Key::new("default", "/Pod/p1");
    let plan = reconcile(&stale, &key, now());
    assert!(plan.is_empty() && plan.requeue_after.is_some());
    stale.store_mut::<ReplicaSet>().seen(version);
    let plan = reconcile(&stale, &key, now());
    expect!["[delete pods default/p1 Delete { uid: Some(\"p1-uid\"), resource_version: Some(\"2\"), grace_s: None, propagation: Some(Background) }]"]
        .assert_eq(&format!("{:?}", plan.writes));
    // It was adopted in the meantime: the delete is of the version before that.
    let mut fake = world("p1 < r1");
    put(&mut fake, "r2");
    put(&mut fake, "p1 < r1 r2");
    assert!(fake.perform(&plan).is_err());
    assert!(!fake.caches.get::<Pod>("default", "p1").unwrap().is_terminating());
}

#[test]
fn finalizers_wait_until_all_dependents_are_known() {
    for flag in ["orphan", "foregroundDeletion"] {
        let fake = world(&format!("d1 [{flag}]"));
        let mut stale = fake.caches.clone();
        let key = Key::new("default", "apps/Deployment/d1");
        assert!(!reconcile(&stale, &key, now()).is_empty());
        *stale.store_mut::<ReplicaSet>() = client::cache::Store::default();
        let plan = reconcile(&stale, &key, now());
        assert!(plan.is_empty() && plan.requeue_after.is_some());
    }
}

#[test]
fn a_change_concerns_those_that_may_have_to_go_or_wait() {
    let fake = world("d1\nr1 < d1!\np1 < r1!\nd2 [orphan]\nr2 < d2");
    let keys = |caches: &Caches, name: &str| {
        let (_, kind) = kind_of(name);
        let resource = caches.resources().find(|resource| resource.kind == kind).unwrap();
        let metadata = fake.caches.metadata_of(resource, "default", name).unwrap();
        let keys = concerned(caches, Item { resource, metadata });
        keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>().join(" ")
    };
    // All is well.
    assert_eq!(keys(&fake.caches, "d1"), "");
    assert_eq!(keys(&fake.caches, "p1"), "");
    // It let go of its dependents; the dependent's change is news to it.
    assert_eq!(keys(&fake.caches, "d2"), "apps/Deployment/d2 apps/ReplicaSet/r2");
    assert_eq!(keys(&fake.caches, "r2"), "apps/Deployment/d2");
    // It is gone.
    let mut after = fake.caches.clone();
    after.store_mut::<Deployment>().remove("default", "d1");
    assert_eq!(keys(&after, "d1"), "apps/ReplicaSet/r1");
}

/// Draws below `limit`, from a sequence that is the same everywhere.
fn draw(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % limit
}

#[test]
fn exactly_what_has_owners_and_none_alive_goes_whatever_the_graph() {
    for seed in 0..60 {
        let mut state = seed;
        let mut lines = String::new();
        let mut lives: Vec<bool> = Vec::new();
        for index in 0..12u64 {
            lines.push_str(&format!("c{index} <"));
            let count = draw(&mut state, 4);
            let mut alive = count == 0;
            for _ in 0..count {
                // An earlier object, or one that never was.
                let owner = draw(&mut state, index + 2) as usize;
                alive |= lives.get(owner).copied().unwrap_or(false);
                let name = if owner < lives.len() { format!("c{owner}") } else { format!("c{}", 50 + owner) };
                lines.push_str(&format!(" {name}{}", if draw(&mut state, 2) == 0 { "!" } else { "" }));
            }
            lines.push('\n');
            lives.push(alive);
        }
        let mut fake = world(&lines);
        for _ in 0..100 {
            let plan = everything(&fake.caches);
            fake.perform(&plan).unwrap();
        }
        assert!(everything(&fake.caches).is_empty(), "{lines}");
        for (index, alive) in lives.iter().enumerate() {
            let exists = fake.caches.get::<ConfigMap>("default", &format!("c{index}")).is_some();
            assert_eq!(exists, *alive, "seed {seed}: c{index} of\n{lines}");
        }
    }
}
