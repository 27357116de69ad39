use super::*;
use crate::model::at;
use api::apps::v1::{DeploymentSpec, ReplicaSetSpec};
use api::core::v1::{PodCondition, PodStatus};
use api::meta::v1::LabelSelector;
use api::policy::v1::PodDisruptionBudgetSpec;
use api::{IntOrString, ObjectMeta};
use expect_test::{Expect, expect};

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("default".to_owned()),
        uid: Some(name.to_owned()),
        resource_version: Some("7".to_owned()),
        generation: Some(1),
        labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
        ..ObjectMeta::default()
    }
}

fn number(text: &str) -> Option<IntOrString> {
    Some(text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int))
}

/// `min 2` or `max 25%`.
fn budget(rule: &str) -> PodDisruptionBudget {
    let (kind, value) = rule.split_once(' ').unwrap();
    let value = number(value);
    let (min_available, max_unavailable) = if kind == "min" { (value, None) } else { (None, value) };
    let selector = LabelSelector {
        match_labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
        match_expressions: None,
    };
    PodDisruptionBudget {
        metadata: meta("budget"),
        spec: Some(PodDisruptionBudgetSpec {
            min_available,
            max_unavailable,
            selector: Some(selector),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

fn deployment(replicas: i32) -> Deployment {
    let spec = DeploymentSpec { replicas: Some(replicas), ..DeploymentSpec::default() };
    Deployment { metadata: meta("deployment"), spec: Some(spec), status: None }
}

fn set(replicas: i32, owned: bool) -> ReplicaSet {
    let mut metadata = meta("set");
    metadata.owner_references = owned.then(|| vec![deployment(0).controller_ref()]);
    let spec = ReplicaSetSpec { replicas: Some(replicas), ..ReplicaSetSpec::default() };
    ReplicaSet { metadata, spec: Some(spec), status: None }
}

/// `r1` is ready, `u2` is not, `t3` is ready and being deleted, `o4` is ready and has no controller.
fn pod(name: &str) -> Pod {
    let mut metadata = meta(name);
    metadata.deletion_timestamp = name.starts_with('t').then(|| Time(at(0)));
    metadata.owner_references = (!name.starts_with('o')).then(|| vec![set(0, false).controller_ref()]);
    let status = if name.starts_with('u') { "False" } else { "True" };
    let ready = PodCondition { type_: "Ready".to_owned(), status: status.to_owned(), ..PodCondition::default() };
    let status = PodStatus { conditions: Some(vec![ready]), ..PodStatus::default() };
    Pod { metadata, status: Some(status), ..Pod::default() }
}

fn now(second: i64) -> Now {
    Now { wall: at(second), monotonic: Duration::ZERO }
}

fn written(plan: &Plan) -> Option<PodDisruptionBudget> {
    let write = plan.writes.first()?;
    let client::write::Verb::Update { body, .. } = &write.verb else { panic!("{write} is no update") };
    Some(serde_json::from_str(body).unwrap())
}

fn show(budget: &PodDisruptionBudget) -> String {
    let status = budget.status.as_ref().unwrap();
    let condition = &status.conditions.as_ref().unwrap()[0];
    let disrupted: Vec<&str> = status.disrupted_pods.iter().flatten().map(|(name, _)| name.as_str()).collect();
    format!(
        "healthy {}/{} of {}, allowed {}, {} {:?}, disrupted {disrupted:?}",
        status.current_healthy,
        status.desired_healthy,
        status.expected_pods,
        status.disruptions_allowed,
        condition.reason,
        condition.message
    )
}

fn caches(budget: PodDisruptionBudget, pods: &str, replicas: i32) -> Caches {
    let caches = Caches::new().with(budget).with(set(replicas, false));
    let mut caches = pods.split_whitespace().map(pod).fold(caches, Caches::with);
    caches.store_mut::<Pod>().seen(100);
    caches
}

fn check(rule: &str, pods: &str, replicas: i32, expected: Expect) {
    let caches = caches(budget(rule), pods, replicas);
    let plan = reconcile(&caches, &Key::new("default", "budget"), now(0));
    let written = written(&plan).unwrap();
    expected.assert_eq(&show(&written));
    // A write of the status has no spec.
    let stored = PodDisruptionBudget { status: written.status, ..budget(rule) };
    let plan = reconcile(&caches.with(stored), &Key::new("default", "budget"), now(9));
    assert!(plan.is_empty(), "an empty plan stays empty");
}

#[test]
fn a_minimum_in_numbers_counts_the_pods() {
    check("min 2", "r1 r2 r3 u4", 4, expect![[r#"healthy 3/2 of 4, allowed 1, SufficientPods "", disrupted []"#]]);
    check("min 3", "r1 r2 t3 u4", 4, expect![[r#"healthy 2/3 of 4, allowed 0, InsufficientPods "", disrupted []"#]]);
    check("min 1", "o1 o2", 0, expect![[r#"healthy 2/1 of 2, allowed 1, SufficientPods "", disrupted []"#]]);
}

#[test]
fn percentages_are_of_the_controllers_size_and_rounded_up() {
    check("min 50%", "r1 r2 r3", 5, expect![[r#"healthy 3/3 of 5, allowed 0, InsufficientPods "", disrupted []"#]]);
    check("max 25%", "r1 r2 r3 r4 r5", 5, expect![[r#"healthy 5/3 of 5, allowed 2, SufficientPods "", disrupted []"#]]);
    check("max 9", "r1", 1, expect![[r#"healthy 1/0 of 1, allowed 1, SufficientPods "", disrupted []"#]]);
}

#[test]
fn without_pods_nothing_is_allowed() {
    check("min 0", "", 0, expect![[r#"healthy 0/0 of 0, allowed 0, InsufficientPods "", disrupted []"#]]);
}

#[test]
fn the_size_is_that_of_the_deployment_above_the_set() {
    let caches = caches(budget("max 1"), "r1 r2 r3", 1).with(set(1, true)).with(deployment(4));
    let plan = reconcile(&caches, &Key::new("default", "budget"), now(0));
    expect![[r#"healthy 3/3 of 4, allowed 0, InsufficientPods "", disrupted []"#]]
        .assert_eq(&show(&written(&plan).unwrap()));
}

#[test]
fn a_size_that_nobody_states_is_a_failure_and_allows_nothing() {
    let mut stranger = pod("r1");
    stranger.metadata.owner_references.as_mut().unwrap()[0].kind = "Job".to_owned();
    let caches = caches(budget("max 1"), "", 1).with(stranger);
    let plan = reconcile(&caches, &Key::new("default", "budget"), now(0));
    assert_eq!(plan.notes[0].reason, "CalculateExpectedPodCountFailed");
    let failed = written(&plan).unwrap();
    expect![[r#"healthy 0/0 of 0, allowed 0, SyncFailed "found no controllers for pod \"r1\"", disrupted []"#]]
        .assert_eq(&show(&failed));
    let stored = PodDisruptionBudget { status: failed.status, ..budget("max 1") };
    assert!(reconcile(&caches.with(stored), &Key::new("default", "budget"), now(9)).is_empty());
}

#[test]
fn a_budget_of_an_unreadable_number_is_a_failure() {
    let caches = caches(budget("min many"), "r1", 1);
    let plan = reconcile(&caches, &Key::new("default", "budget"), now(0));
    assert!(show(&written(&plan).unwrap()).contains("SyncFailed"));
}

/// A budget of which `r1` was evicted at second 0.
fn evicted() -> PodDisruptionBudget {
    let mut budget = budget("min 1");
    budget.status = Some(PodDisruptionBudgetStatus {
        disrupted_pods: Some(BTreeMap::from([("r1".to_owned(), Time(at(0)))])),
        ..PodDisruptionBudgetStatus::default()
    });
    budget
}

#[test]
fn an_evicted_pod_does_not_count_before_its_deletion_is_seen() {
    let key = Key::new("default", "budget");
    let plan = reconcile(&caches(evicted(), "r1 r2 r3", 3), &key, now(20));
    expect![[r#"healthy 2/1 of 3, allowed 1, SufficientPods "", disrupted ["r1"]"#]]
        .assert_eq(&show(&written(&plan).unwrap()));
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(100)));
    let plan = reconcile(&caches(evicted(), "r1 r2 r3", 3), &key, now(121));
    expect![[r#"healthy 3/1 of 3, allowed 2, SufficientPods "", disrupted []"#]]
        .assert_eq(&show(&written(&plan).unwrap()));
    assert_eq!(plan.notes[0].reason, "NotDeleted");
    let plan = reconcile(&caches(evicted(), "r2 r3", 3), &key, now(20));
    expect![[r#"healthy 2/1 of 2, allowed 1, SufficientPods "", disrupted []"#]]
        .assert_eq(&show(&written(&plan).unwrap()));
}

#[test]
fn an_evicted_pod_that_is_not_known_yet_stays_evicted() {
    let mut caches = Caches::new().with(evicted()).with(pod("r2"));
    caches.store_mut::<Pod>().seen(6);
    let plan = reconcile(&caches, &Key::new("default", "budget"), now(20));
    expect![[r#"healthy 1/1 of 1, allowed 0, InsufficientPods "", disrupted ["r1"]"#]]
        .assert_eq(&show(&written(&plan).unwrap()));
    assert_eq!(plan.requeue_after, Some(CATCH_UP));
}

#[test]
fn a_status_is_an_update_of_the_version_that_was_read() {
    let plan = reconcile(&caches(budget("min 1"), "r1", 1), &Key::new("default", "budget"), now(0));
    assert_eq!(written(&plan).unwrap().resource_version(), "7");
    assert_eq!(plan.writes[0].to_string(), "update poddisruptionbudgets/status default/budget");
}
