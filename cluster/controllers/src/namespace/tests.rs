//! Golden tests: what is in the namespace, and what is done about it in which order.

use super::*;
use crate::fake::Fake;
use api::Time;
use api::core::v1::{ConfigMap, NamespaceSpec, NamespaceStatus, Secret, Service};
use expect_test::expect;

fn metadata(namespace: &str, name: &str, finalizers: &[&str]) -> ObjectMeta {
    let held: Vec<String> = finalizers.iter().map(|held| (*held).to_owned()).collect();
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        finalizers: (!held.is_empty()).then_some(held),
        ..ObjectMeta::default()
    }
}

fn world() -> Fake {
    let mut fake = Fake::new();
    fake.put(ConfigMap { metadata: metadata("shop", "c", &[]), ..ConfigMap::default() });
    fake.put(ConfigMap { metadata: metadata("other", "c", &[]), ..ConfigMap::default() });
    fake.put(Secret { metadata: metadata("shop", "s", &[]), ..Secret::default() });
    fake.put(Service { metadata: metadata("shop", "w", &[]), ..Service::default() });
    fake.put(Pod { metadata: metadata("shop", "p", &[]), ..Pod::default() });
    let mut goes = metadata("", "shop", &[]);
    goes.deletion_timestamp = Some(Time(fake.now));
    fake.put(Namespace {
        metadata: goes,
        spec: Some(NamespaceSpec { finalizers: Some(vec!["kubernetes".to_owned(), "example.org/mine".to_owned()]) }),
        status: Some(NamespaceStatus { phase: Some("Active".to_owned()), conditions: None }),
    });
    fake
}

fn settle(fake: &mut Fake) -> String {
    fake.settle(|caches, wall| reconcile(caches, &Key::new("", "shop"), Now { wall, monotonic: Duration::ZERO }))
}

fn conditions(fake: &Fake) -> String {
    let namespace = fake.caches.get::<Namespace>("", "shop").unwrap();
    let conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let bad = conditions.filter(|condition| condition.status == "True");
    bad.map(|condition| format!("{}: {}", condition.type_, condition.message.as_deref().unwrap()))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn pods_go_first_then_the_rest_then_the_finalizer() {
    let mut fake = world();
    expect![[r#"
        update namespaces/status shop
        --
        delete pods shop/p
        --
        update namespaces/status shop"#]]
    .assert_eq(&settle(&mut fake));
    expect!["NamespaceContentRemaining: Some resources are remaining: pods. has 1 resource instances"]
        .assert_eq(&conditions(&fake));
    fake.remove::<Pod>("shop", "p");
    expect![[r#"
        delete configmaps shop/c
        delete secrets shop/s
        delete services shop/w
        --
        update namespaces/finalize shop"#]]
    .assert_eq(&settle(&mut fake));
    let namespace = fake.caches.get::<Namespace>("", "shop").unwrap();
    assert_eq!(namespace.spec.as_ref().unwrap().finalizers.as_deref().unwrap(), ["example.org/mine"]);
    assert!(fake.caches.get::<ConfigMap>("other", "c").is_some());
}

#[test]
fn a_finalizer_of_others_holds_the_namespace_and_is_said() {
    let mut fake = world();
    fake.remove::<Pod>("shop", "p");
    fake.put(ConfigMap { metadata: metadata("shop", "held", &["example.org/keep"]), ..ConfigMap::default() });
    settle(&mut fake);
    expect![[r#"
        NamespaceContentRemaining: Some resources are remaining: configmaps. has 1 resource instances
        NamespaceFinalizersRemaining: Some content in the namespace has finalizers remaining: example.org/keep in 1 resource instances"#]]
    .assert_eq(&conditions(&fake));
    fake.change::<Namespace>("", "shop", |_| ());
    assert_eq!(settle(&mut fake), "");
    fake.remove::<ConfigMap>("shop", "held");
    expect!["update namespaces/finalize shop"].assert_eq(&settle(&mut fake));
}

#[test]
fn it_is_finalized_only_on_new_knowledge() {
    let mut fake = world();
    for name in ["c", "s", "w", "p"] {
        fake.remove::<ConfigMap>("shop", name);
        fake.remove::<Secret>("shop", name);
        fake.remove::<Service>("shop", name);
        fake.remove::<Pod>("shop", name);
    }
    fake.change::<Namespace>("", "shop", |namespace| {
        namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
    });
    let namespace = fake.caches.get::<Namespace>("", "shop").unwrap().clone();
    let mut stale = fake.caches.clone();
    *stale.store_mut::<Secret>() = client::cache::Store::default();
    stale.store_mut::<Secret>().seen(fake.revision - 1);
    let waits = plan(&stale, &namespace, fake.now);
    assert!(waits.is_empty() && waits.requeue_after.is_some());
    stale.store_mut::<Secret>().seen(fake.revision);
    assert!(!plan(&stale, &namespace, fake.now).is_empty());
}

#[test]
fn a_namespace_that_lives_is_left_alone() {
    let mut fake = world();
    fake.change::<Namespace>("", "shop", |namespace| namespace.metadata.deletion_timestamp = None);
    assert_eq!(settle(&mut fake), "");
}

#[test]
fn many_objects_go_in_several_plans() {
    let mut fake = world();
    fake.remove::<Pod>("shop", "p");
    for index in 0..250 {
        fake.put(ConfigMap { metadata: metadata("shop", &format!("m{index}"), &[]), ..ConfigMap::default() });
    }
    let log = settle(&mut fake);
    assert_eq!(log.split("--").map(|round| round.trim().lines().count()).collect::<Vec<_>>(), [1, 100, 100, 53, 1]);
}
