use super::*;
use crate::model::{Draws, Model, at};
use api::apps::v1::{ReplicaSetSpec, ReplicaSetStatus};
use api::core::v1::{PodCondition, PodSpec, PodStatus, PodTemplateSpec};
use api::meta::v1::LabelSelector;
use api::{ObjectMeta, Time};
use expect_test::{Expect, expect};

fn labels(of: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), of.to_owned())])
}

fn set(replicas: i32) -> ReplicaSet {
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels("web")), ..ObjectMeta::default() }),
        spec: Some(PodSpec::default()),
    };
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some("set".to_owned()),
            resource_version: Some("1".to_owned()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: Some(labels("web")), match_expressions: None },
            template: Some(template),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    }
}

/// `p` waits for a node, `a` has one, `u` runs, `r` is ready, `t` is being deleted, `f` has failed; a number after it is
/// for how many seconds it has been ready, or on which node it is after an `@`.
fn pod(notation: &str) -> Pod {
    let (state, rest) = notation.split_at(1);
    let (seconds, node) = rest.split_once('@').unwrap_or((rest, "1"));
    let since = Time(at(1000 - seconds.parse::<i64>().unwrap_or(100)));
    let ready = PodCondition {
        type_: "Ready".to_owned(),
        status: if state == "r" { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(since.clone()),
        ..PodCondition::default()
    };
    let phase = match state {
        "p" | "a" => "Pending",
        "f" => "Failed",
        _ => "Running",
    };
    Pod {
        metadata: ObjectMeta {
            name: Some(notation.to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some(notation.to_owned()),
            resource_version: Some("2".to_owned()),
            labels: Some(labels("web")),
            creation_timestamp: Some(since),
            deletion_timestamp: (state == "t").then(|| Time(at(999))),
            owner_references: Some(vec![set(0).controller_ref()]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { node_name: (state != "p").then(|| node.to_owned()), ..PodSpec::default() }),
        status: Some(PodStatus {
            phase: Some(phase.to_owned()),
            conditions: Some(vec![ready]),
            ..PodStatus::default()
        }),
    }
}

fn caches(set: ReplicaSet, pods: impl IntoIterator<Item = Pod>) -> Caches {
    pods.into_iter().fold(Caches::new().with(set), Caches::with)
}

fn run(caches: &Caches) -> Plan {
    let now = Now { wall: at(1000), monotonic: std::time::Duration::ZERO };
    replicasets().reconcile(caches, &Key::new("default", "web"), now)
}

fn show(plan: &Plan) -> String {
    plan.writes.iter().map(|write| format!("{write}\n")).collect()
}

fn check(replicas: i32, pods: &str, expected: Expect) {
    let plan = run(&caches(set(replicas), pods.split_whitespace().map(pod)));
    let writes = plan.writes.iter().filter(|write| write.resource == Pod::resource());
    expected.assert_eq(&writes.map(|write| format!("{write}\n")).collect::<String>());
}

fn first(pods: &str, count: usize) -> String {
    let pods: Vec<Arc<Pod>> = pods.split_whitespace().map(pod).map(Arc::new).collect();
    let mut on_node = OnNode::new();
    for pod in &pods {
        *on_node.entry(pod::node(pod).to_owned()).or_default() += 1;
    }
    let chosen = rank::first(&pods, &on_node, at(1000), count);
    chosen.iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn creates_what_lacks_and_counts_neither_the_ended_nor_the_terminating() {
    check(
        3,
        "r t f",
        expect![[r#"
        create pods default/web-r5gh6
        create pods default/web-w24cv
    "#]],
    );
    check(1, "r", expect![""]);
}

#[test]
fn deletes_what_is_too_much() {
    check(
        1,
        "r u p",
        expect![[r#"
        delete pods default/p
        delete pods default/u
    "#]],
    );
    check(
        0,
        "r t f",
        expect![[r#"
        delete pods default/r
    "#]],
    );
}

#[test]
fn ranks_unassigned_then_pending_then_unready_then_doubled_up_then_young() {
    assert_eq!(first("r1000@1 r10@2 u@3 a@4 p", 4), "p a@4 u@3 r10@2");
    assert_eq!(first("r900@1 r800@2 r700@2 r5@3", 2), "r700@2 r800@2");
    assert_eq!(first("r900@1 r5@2 r300@3", 1), "r5@2");
    assert_eq!(first("r900@1 r5@2", 7), "r900@1 r5@2");
}

#[test]
fn a_cheap_deletion_comes_before_a_dear_one_of_the_same_readiness() {
    let dear = |name: &str, cost: &str| {
        let mut pod = pod(name);
        let cost = ("controller.kubernetes.io/pod-deletion-cost".to_owned(), cost.to_owned());
        pod.metadata.annotations = Some(BTreeMap::from([cost]));
        Arc::new(pod)
    };
    let pods = [dear("r1@1", "7"), dear("r1000@2", "-7"), dear("r1@3", "+9"), dear("r900@4", "007")];
    let chosen = rank::first(&pods, &OnNode::new(), at(1000), 3);
    assert_eq!(chosen.iter().map(|pod| pod.name()).collect::<Vec<_>>(), ["r1000@2", "r1@3", "r900@4"]);
}

#[test]
fn a_plan_is_bounded() {
    let creates = |plan: &Plan| plan.writes.iter().filter(|write| write.resource == Pod::resource()).count();
    assert_eq!(creates(&run(&caches(set(10_000), []))), 500);
}

#[test]
fn adopts_orphans_after_making_sure_of_itself_and_releases_strangers() {
    let mut orphan = pod("r1");
    orphan.metadata.owner_references = None;
    let mut stranger = pod("r2");
    stranger.metadata.labels = Some(labels("other"));
    let mut terminating_orphan = pod("t3");
    terminating_orphan.metadata.owner_references = None;
    let plan = run(&caches(set(1), [orphan, stranger, terminating_orphan]));
    expect![[r#"
        patch replicasets default/web Patch { body: "{\"metadata\":{\"uid\":\"set\",\"resourceVersion\":\"1\"}}", subresource: None }
        patch pods default/r2 Patch { body: "{\"metadata\":{\"uid\":\"r2\",\"resourceVersion\":\"2\",\"ownerReferences\":[]}}", subresource: None }
        patch pods default/r1 Patch { body: "{\"metadata\":{\"uid\":\"r1\",\"resourceVersion\":\"2\",\"ownerReferences\":[{\"apiVersion\":\"apps/v1\",\"blockOwnerDeletion\":true,\"controller\":true,\"kind\":\"ReplicaSet\",\"name\":\"web\",\"uid\":\"set\"}]}}", subresource: None }
    "#]]
    .assert_eq(&plan.writes[..3].iter().map(|write| format!("{write:?}\n")).collect::<String>());
    assert_eq!(
        plan.writes[3..].iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["update replicasets/status default/web"]
    );
}

#[test]
fn a_set_that_is_being_deleted_only_writes_its_status() {
    let mut ending = set(3);
    ending.metadata.deletion_timestamp = Some(Time(at(999)));
    let mut orphan = pod("r1");
    orphan.metadata.owner_references = None;
    expect!["update replicasets/status default/web\n"].assert_eq(&show(&run(&caches(ending, [orphan, pod("r2")]))));
}

#[test]
fn status_counts_by_label_readiness_and_time() {
    let mut min_ready = set(5);
    min_ready.spec.as_mut().unwrap().min_ready_seconds = Some(30);
    let plan = run(&caches(min_ready, ["r29", "r30", "u1", "t1", "f1"].map(pod)));
    let Verb::Update { body, .. } = &plan.writes[0].verb else { panic!("no update") };
    let written: ReplicaSet = serde_json::from_str(body).unwrap();
    let expected = ReplicaSetStatus {
        replicas: 3,
        fully_labeled_replicas: Some(3),
        ready_replicas: Some(2),
        available_replicas: Some(1),
        terminating_replicas: Some(1),
        observed_generation: Some(1),
        conditions: None,
    };
    assert_eq!(written.status, Some(expected));
    assert_eq!(plan.requeue_after, Some(std::time::Duration::from_secs(1)));
}

#[test]
fn a_refused_pod_becomes_a_condition_and_an_event_and_then_goes_away() {
    let mut controller = replicasets();
    let mut model = Model::new();
    model.put(set(1));
    let key = Key::new("default", "web");
    let plan = controller.reconcile(&model.caches, &key, model.now());
    let create = plan.writes.last().unwrap();
    controller.refused(&key, create, &Status::new(403, "Forbidden", "no"));
    let plan = controller.reconcile(&model.caches, &key, model.now());
    assert_eq!((plan.notes[0].reason, plan.notes[0].message.as_str()), ("FailedCreate", "Error creating: no"));
    model.apply(&plan).unwrap();
    let conditions =
        |model: &Model| model.caches.get::<ReplicaSet>("default", "web").unwrap().counts().conditions.len();
    assert_eq!(conditions(&model), 1);
    model.apply(&controller.reconcile(&model.caches, &key, model.now())).unwrap();
    assert_eq!(conditions(&model), 0);
}

#[test]
fn names_of_deleted_pods_do_not_come_back() {
    let mut model = Model::new();
    model.put(set(1));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let plan = replicasets().reconcile(&model.caches, &Key::new("default", "web"), model.now());
        let create = plan.writes.iter().find(|write| write.resource == Pod::resource()).unwrap();
        assert!(seen.insert(create.name.clone()), "{} came back", create.name);
        model.apply(&Plan::write(create.clone())).unwrap();
        // Gone before the set's status was ever written: only the revision tells the two plans apart.
        model.remove::<Pod>("default", &create.name);
    }
}

#[test]
fn converges_without_ever_overshooting() {
    for seed in 0..20 {
        let mut draws = Draws(seed * 1000);
        let mut model = Model::new();
        model.put(set(3));
        let mut most = 3;
        for step in 0..300 {
            model.now_s += 1;
            let names: Vec<String> = model.caches.all::<Pod>().map(|pod| pod.name().to_owned()).collect();
            match draws.below(10) {
                0 if step < 200 => {
                    let replicas = draws.below(6) as i32;
                    most = most.max(replicas);
                    model.edit::<ReplicaSet>("web", |set| set.spec.as_mut().unwrap().replicas = Some(replicas));
                }
                1 if step < 200 && !names.is_empty() => {
                    let mut pod =
                        Pod::clone(model.caches.get::<Pod>("default", &names[draws.below(names.len())]).unwrap());
                    pod.metadata.deletion_timestamp = Some(Time(at(model.now_s)));
                    model.put(pod);
                }
                2..=5 if !names.is_empty() => model.advance_pod(&names[draws.below(names.len())]),
                _ => {
                    let plan = replicasets().reconcile(&model.caches, &Key::new("default", "web"), model.now());
                    model.apply(&plan).unwrap();
                }
            }
            let active = model.caches.all::<Pod>().filter(|pod| pod::is_active(pod)).count();
            assert!(active <= most as usize, "seed {seed} step {step}: {active} pods of at most {most}");
        }
        let set = model.caches.get::<ReplicaSet>("default", "web").unwrap();
        let counts = set.counts();
        assert_eq!((counts.ready, counts.replicas), (set.replicas(), set.replicas()), "seed {seed}");
        assert!(run_at(&model).is_empty(), "seed {seed}: an empty plan stays empty");
    }
}

fn run_at(model: &Model) -> Plan {
    replicasets().reconcile(&model.caches, &Key::new("default", "web"), model.now())
}

#[test]
fn a_replication_controller_is_run_by_the_same_rules() {
    let spec = api::core::v1::ReplicationControllerSpec {
        replicas: Some(2),
        selector: Some(labels("web")),
        template: set(0).spec.unwrap().template,
        ..api::core::v1::ReplicationControllerSpec::default()
    };
    let mut model = Model::new();
    model.put(ReplicationController {
        metadata: ObjectMeta { uid: None, ..set(0).metadata },
        spec: Some(spec),
        status: None,
    });
    let key = Key::new("default", "web");
    for _ in 0..8 {
        let plan = replication_controllers().reconcile(&model.caches, &key, model.now());
        model.apply(&plan).unwrap();
        let pods: Vec<String> = model.caches.all::<Pod>().map(|pod| pod.name().to_owned()).collect();
        pods.iter().for_each(|pod| model.advance_pod(pod));
    }
    assert!(replication_controllers().reconcile(&model.caches, &key, model.now()).is_empty());
    let controller = model.caches.get::<ReplicationController>("default", "web").unwrap();
    let counts = controller.counts();
    assert_eq!((counts.replicas, counts.ready, counts.fully_labeled, counts.terminating), (2, 2, 2, None));
    assert!(model.caches.all::<Pod>().all(|pod| pod.controller().unwrap().kind == "ReplicationController"));
}
