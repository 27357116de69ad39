//! The driver over real sockets: elections, the barrier, what is written when answers get lost.

mod common;

use api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use api::coordination::v1::Lease;
use api::core::v1::{Event, Pod};
use api::{ObjectExt, ObjectMeta, Status};
use client::{
    Caches, Controller, DriverConfig, DriverHandle, Key, LeaseConfig, ListOptions, Now, Plan, Row, Watch, Write,
    run_controllers,
};
use common::{Api, Fault, until};
use rt::task::{AbortOnDrop, block_on};
use rt::time::Instant;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/controllers";

fn watches() -> Vec<Watch> {
    vec![Watch::own::<ReplicaSet>(), Watch::controlled_by::<Pod, ReplicaSet>()]
}

/// As many pods as the set wants, by number.
fn reconcile(caches: &Caches, key: &Key, _now: Now) -> Plan {
    let mut plan = Plan::nothing();
    let Some(set) = caches.get::<ReplicaSet>(&key.namespace, &key.name) else { return plan };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let there: Vec<&Arc<Pod>> = caches.controlled::<Pod>(set.uid()).collect();
    for n in 0..wanted {
        let metadata = ObjectMeta {
            name: Some(format!("{}-{n}", set.name())),
            namespace: Some(set.namespace().to_owned()),
            owner_references: Some(vec![set.controller_ref()]),
            ..ObjectMeta::default()
        };
        if !there.iter().any(|pod| Some(pod.name()) == metadata.name.as_deref()) {
            plan.writes.push(Write::create(&Pod { metadata, ..Pod::default() }));
        }
    }
    for pod in there.iter().skip(usize::try_from(wanted).unwrap_or_default()) {
        plan.writes.push(Write::delete(&***pod));
    }
    if !plan.is_empty() {
        plan.note(&**set, "SuccessfulScale", "it has what it wants");
    }
    plan
}

fn row() -> Box<dyn Controller> {
    Box::new(Row { name: "set-controller", watches, reconcile })
}

fn set(replicas: i32) -> serde_json::Value {
    let metadata = ObjectMeta { name: Some("web".into()), namespace: Some("default".into()), ..ObjectMeta::default() };
    let spec = ReplicaSetSpec { replicas: Some(replicas), ..ReplicaSetSpec::default() };
    serde_json::to_value(ReplicaSet { metadata, spec: Some(spec), ..ReplicaSet::default() })
        .expect("it has a form in JSON")
}

fn scale(api: &Api, replicas: i32) {
    api.write("PATCH", &format!("{SETS}/web"), &json!({"spec": {"replicas": replicas}}));
}

fn start(api: &Api, host: &str, controllers: Vec<Box<dyn Controller>>) -> (Arc<DriverHandle>, AbortOnDrop<()>) {
    let lease = LeaseConfig {
        duration: Duration::from_secs(2),
        renew_deadline: Duration::from_millis(1300),
        retry_period: Duration::from_millis(100),
        ..LeaseConfig::new("kube-system", "controllers", host)
    };
    let config = DriverConfig::new(lease, host);
    let handle = config.view.clone();
    let run = run_controllers(config, api.client(), controllers);
    (handle, rt::task::spawn("test-driver", run).abort_on_drop())
}

fn pods(api: &Api) -> usize {
    api.state().objects.keys().filter(|key| key.0 == "pods").count()
}

fn is_idle(handle: &DriverHandle) -> bool {
    let view = handle.view();
    view.leading.is_some() && view.controllers.iter().all(|queue| queue.running + queue.ready + queue.delayed == 0)
}

#[test]
fn converges_and_records_events() {
    block_on(async {
        let api = Api::start().await;
        api.write("POST", SETS, &set(3));
        let (handle, _driver) = start(&api, "host-1", vec![row()]);
        until("three pods", || pods(&api) == 3).await;
        scale(&api, 1);
        until("one pod", || pods(&api) == 1).await;
        until("nothing to do", || is_idle(&handle)).await;
        until("an event counted twice", || {
            let events = |key: &&(String, String, String)| key.0 == "events";
            api.state().objects.iter().any(|(key, event)| events(&key) && event["count"] == 2)
        })
        .await;
        let events = api.client().list::<Event>("default", &ListOptions::default()).await.unwrap();
        assert_eq!(events.items.len(), 1);
        assert_eq!(events.items[0].reason.as_deref(), Some("SuccessfulScale"));
    });
}

#[test]
fn a_create_whose_answer_is_lost_makes_one_object() {
    block_on(async {
        let api = Api::start().await;
        for fault in [Fault::CutAfter, Fault::CutBefore, Fault::Hang, Fault::Answer(504, -1)] {
            api.fault(&format!("POST {PODS}"), fault);
        }
        api.write("POST", SETS, &set(3));
        let refusals = Arc::default();
        let (handle, _driver) = start(&api, "host-1", vec![Box::new(Remembering(Arc::clone(&refusals)))]);
        until("three pods", || pods(&api) == 3).await;
        until("nothing to do", || is_idle(&handle)).await;
        assert!(refusals.lock().unwrap().is_empty(), "an own object is no refusal");
        // The answer to the first create was lost; its repetitions found the others' faults, and then its object.
        assert_eq!(api.count(&format!("POST {PODS}")), 7);
    });
}

#[test]
fn a_delete_whose_answer_is_lost_is_done_once() {
    block_on(async {
        let api = Api::start().await;
        api.write("POST", SETS, &set(3));
        let (handle, _driver) = start(&api, "host-1", vec![row()]);
        until("three pods", || pods(&api) == 3).await;
        api.fault("DELETE", Fault::CutAfter);
        scale(&api, 1);
        until("one pod", || pods(&api) == 1).await;
        until("nothing to do", || is_idle(&handle)).await;
        assert!(api.state().objects.contains_key(&("pods".into(), "default".into(), "web-0".into())));
    });
}

static RECONCILED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_key_waits_until_its_writes_are_in_the_cache() {
    fn counted(caches: &Caches, key: &Key, now: Now) -> Plan {
        RECONCILED.fetch_add(1, Ordering::SeqCst);
        reconcile(caches, key, now)
    }
    block_on(async {
        let api = Api::start().await;
        let (handle, _driver) =
            start(&api, "host-1", vec![Box::new(Row { name: "set-controller", watches, reconcile: counted })]);
        until("informers", || handle.following().is_some()).await;
        let following = handle.following().unwrap();
        following.synced().await;
        api.state().held_back = Some("pods".to_owned());
        api.write("POST", SETS, &set(2));
        until("two pods", || pods(&api) == 2).await;
        // The set changes, which the controller's cache gets; but not the pods.
        scale(&api, 3);
        let revision = api.state().revision;
        following.seen(api::resource::of::<ReplicaSet>(), revision).await;
        // What the driver shows of itself may be a moment old.
        until("the key waits", || handle.view().controllers[0].running == 1).await;
        assert_eq!((RECONCILED.load(Ordering::SeqCst), pods(&api)), (1, 2));
        api.release();
        until("three pods", || pods(&api) == 3).await;
        until("nothing to do", || is_idle(&handle)).await;
        assert_eq!(api.count(&format!("POST {PODS}")), 3, "no create was tried twice");
    });
}

/// Keeps the message of the last refusal as long as it has not planned for the key again.
struct Remembering(Arc<Mutex<Vec<String>>>);

impl Controller for Remembering {
    fn name(&self) -> &'static str {
        "set-controller"
    }
    fn watches(&self) -> Vec<Watch> {
        watches()
    }
    fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan {
        reconcile(caches, key, now)
    }
    fn refused(&mut self, key: &Key, write: &Write, status: &Status) {
        self.0.lock().expect("nobody panics with it").push(format!("{key}: {write}: {status}"));
    }
}

#[test]
fn a_refused_create_is_told_to_its_controller_and_tried_again() {
    block_on(async {
        let api = Api::start().await;
        api.fault(&format!("POST {PODS}"), Fault::Answer(422, -1));
        api.write("POST", SETS, &set(2));
        let refusals = Arc::default();
        let (_handle, _driver) = start(&api, "host-1", vec![Box::new(Remembering(Arc::clone(&refusals)))]);
        until("two pods", || pods(&api) == 2).await;
        assert_eq!(*refusals.lock().unwrap(), ["default/web: create pods default/web-0: a fault"]);
        // The plan stopped at the first write.
        assert_eq!(api.count(&format!("POST {PODS}")), 3);
    });
}

#[test]
fn what_was_seen_once_is_told_even_if_the_writes_that_it_led_to_meet_a_conflict() {
    /// Says that it saw a set the first time only, as a controller does that keeps what it knows.
    struct Greeting(bool);
    impl Controller for Greeting {
        fn name(&self) -> &'static str {
            "set-controller"
        }
        fn watches(&self) -> Vec<Watch> {
            watches()
        }
        fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan {
            let mut plan = reconcile(caches, key, now);
            if let Some(set) = caches.get::<ReplicaSet>(&key.namespace, &key.name)
                && !std::mem::replace(&mut self.0, true)
            {
                plan.saw(&**set, "SetSeen", "a set is here");
            }
            plan
        }
    }
    block_on(async {
        let api = Api::start().await;
        api.fault(&format!("POST {PODS}"), Fault::Answer(409, -1));
        api.write("POST", SETS, &set(1));
        let (_handle, _driver) = start(&api, "host-1", vec![Box::new(Greeting(false))]);
        until("one pod", || pods(&api) == 1).await;
        assert_eq!(api.count(&format!("POST {PODS}")), 2, "the first write met the conflict");
        let told = |reason: &str| {
            let state = api.state();
            state.objects.iter().filter(|(key, event)| key.0 == "events" && event["reason"] == reason).count()
        };
        until("both events", || told("SetSeen") == 1 && told("SuccessfulScale") == 1).await;
    });
}

#[test]
fn the_next_leader_takes_over_at_once_when_the_last_one_stops() {
    block_on(async {
        let api = Api::start().await;
        api.write("POST", SETS, &set(1));
        let (first, driver) = start(&api, "host-1", vec![row()]);
        until("the first leads", || first.view().leading.is_some()).await;
        let (second, _second) = start(&api, "host-2", vec![row()]);
        until("one pod", || pods(&api) == 1).await;
        assert_eq!(second.view().leading, None);
        first.stop();
        driver.await.unwrap();
        assert_eq!(first.view().leading, None);
        until("the second leads", || second.view().leading.is_some()).await;
        let fence = second.view().leading.unwrap();
        let lease = api.client().get::<Lease>("kube-system", "controllers").await.unwrap();
        let spec = lease.spec.unwrap();
        assert_eq!(spec.lease_transitions, Some(fence.transitions));
        assert!(fence.transitions > 0 && spec.holder_identity.unwrap().starts_with("host-2_"));
        scale(&api, 2);
        until("two pods", || pods(&api) == 2).await;
    });
}

#[test]
fn a_leader_that_finds_its_lease_taken_drops_everything_and_comes_back() {
    block_on(async {
        let api = Api::start().await;
        let (handle, _driver) = start(&api, "host-1", vec![row()]);
        until("it leads", || handle.view().leading.is_some()).await;
        let first = handle.view().leading.unwrap();
        api.write("PATCH", LEASE, &json!({"spec": {"holderIdentity": "somebody", "leaseTransitions": 7}}));
        until("it leads no more", || handle.view().leading.is_none()).await;
        // Nobody renews for somebody.
        until("it leads again", || handle.view().leading.is_some()).await;
        let second = handle.view().leading.unwrap();
        assert_eq!((first.transitions, second.transitions), (0, 8));
        api.write("POST", SETS, &set(1));
        until("one pod", || pods(&api) == 1).await;
    });
}

#[test]
fn a_leader_that_cannot_renew_writes_no_more() {
    block_on(async {
        let api = Api::start().await;
        let (handle, _driver) = start(&api, "host-1", vec![row()]);
        until("it leads", || handle.view().leading.is_some()).await;
        for _ in 0..100 {
            api.fault("/leases/", Fault::Hang);
        }
        let cut = Instant::now();
        until("it leads no more", || handle.view().leading.is_none()).await;
        // Before anybody else can take the lease.
        assert!(cut.elapsed() < Duration::from_secs(2), "{:?}", cut.elapsed());
        api.write("POST", SETS, &set(1));
        assert_eq!(pods(&api), 0);
        api.state().faults.clear();
        until("it leads again and goes on", || pods(&api) == 1).await;
        assert_eq!(handle.view().leading.map(|fence| fence.transitions), Some(1));
    });
}

#[test]
fn a_lease_that_was_deleted_gets_an_epoch_above_the_last() {
    block_on(async {
        let api = Api::start().await;
        let (first, driver) = start(&api, "host-1", vec![row()]);
        until("it leads", || first.view().leading.is_some()).await;
        first.stop();
        driver.await.unwrap();
        let fenced = api.client().with_fence(client::Fence {
            namespace: "kube-system".into(),
            name: "controllers".into(),
            transitions: 5,
        });
        fenced.patch_merge::<Lease, _>("kube-system", "controllers", &json!({})).await.unwrap();
        api.write("DELETE", LEASE, &json!({}));
        let (second, _second) = start(&api, "host-2", vec![row()]);
        until("the second leads", || second.view().leading.is_some()).await;
        assert!(second.view().leading.unwrap().transitions > 5);
    });
}
