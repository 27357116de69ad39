//! The scheduler's shell over real sockets: it leads, binds, says why not, and is certain about bindings.

// The same tiny API server that the client's own tests run against.
#[path = "../../client/tests/common/mod.rs"]
mod common;

use common::{Api, Fault, until};
use rt::task::{AbortOnDrop, block_on};
use scheduler::{SchedulerConfig, SchedulerHandle};
use serde_json::{Value, json};
use std::time::Duration;

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn start(api: &Api) -> (SchedulerHandle, AbortOnDrop<()>) {
    let mut config = SchedulerConfig::new("host-1", "host-1");
    config.lease.duration = Duration::from_secs(2);
    config.lease.renew_deadline = Duration::from_millis(1300);
    config.lease.retry_period = Duration::from_millis(100);
    let handle = config.handle.clone();
    (handle, rt::task::spawn("test-scheduler", scheduler::run(config, api.client())).abort_on_drop())
}

fn node(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"}}})
}

fn pod(name: &str, cpu: &str) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container]}})
}

/// What the API server does when it takes a binding.
fn take_binding(api: &Api, pod: &str, node: &str) {
    api.write("PATCH", &format!("{PODS}/{pod}"), &json!({"spec": {"nodeName": node}}));
}

fn condition(api: &Api, pod: &str) -> Value {
    let key = ("pods".to_owned(), "default".to_owned(), pod.to_owned());
    api.state().objects.get(&key).map_or(Value::Null, |pod| pod["status"]["conditions"][0].clone())
}

fn event(api: &Api, reason: &str) -> Option<String> {
    let state = api.state();
    let event = state.objects.iter().find(|(key, event)| key.0 == "events" && event["reason"] == reason);
    event.and_then(|(_, event)| event["message"].as_str().map(str::to_owned))
}

#[test]
fn binds_what_fits_and_says_why_the_rest_does_not() {
    block_on(async {
        let api = Api::start().await;
        api.write("POST", NODES, &node("n1", "2"));
        api.write("POST", PODS, &pod("a", "1"));
        let (handle, task) = start(&api);
        until("a binding", || api.count("pods/a/binding") == 1).await;
        until("the binding is done", || handle.view().summary.queue.in_flight == 0).await;
        assert_eq!(handle.view().summary.assumed.len(), 1);
        take_binding(&api, "a", "n1");
        until("it is seen", || handle.view().summary.assumed.is_empty()).await;
        until("an event", || event(&api, "Scheduled").is_some()).await;
        assert_eq!(event(&api, "Scheduled").as_deref(), Some("Successfully assigned default/a to n1"));

        api.write("POST", PODS, &pod("b", "2"));
        until("a condition", || condition(&api, "b") != Value::Null).await;
        let why = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                   1 No preemption victims found for incoming pod.";
        let said = condition(&api, "b");
        assert_eq!(
            (&said["type"], &said["status"], &said["reason"], &said["message"]),
            (&json!("PodScheduled"), &json!("False"), &json!("Unschedulable"), &json!(why))
        );
        until("a warning", || event(&api, "FailedScheduling").as_deref() == Some(why)).await;
        until("it is parked", || handle.view().summary.queue.unschedulable == 1).await;
        api.write("DELETE", &format!("{PODS}/a"), &Value::Null);
        until("room is used", || api.count("pods/b/binding") == 1).await;

        handle.stop();
        until("it stops", || task.is_finished()).await;
        let key = ("leases".to_owned(), "kube-system".to_owned(), "kube-scheduler".to_owned());
        assert_eq!(api.state().objects[&key]["spec"]["holderIdentity"], json!(""), "it gives the Lease up");
    });
}

#[test]
fn a_binding_whose_answer_is_lost_is_sent_again_to_the_same_node() {
    block_on(async {
        let api = Api::start().await;
        api.write("POST", NODES, &node("n1", "2"));
        api.fault("pods/a/binding", Fault::CutAfter);
        let (handle, _task) = start(&api);
        api.write("POST", PODS, &pod("a", "1"));
        until("a second binding", || api.count("pods/a/binding") >= 2).await;
        assert_eq!(handle.view().summary.queue.backoff, 0, "it was not given up in between");
        until("it is certain", || handle.view().summary.queue.in_flight == 0).await;
        assert_eq!(handle.view().summary.assumed.len(), 1);
    });
}

#[test]
fn a_binding_that_was_done_without_an_answer_is_taken_for_done() {
    block_on(async {
        let api = Api::start().await;
        api.write("POST", NODES, &node("n1", "2"));
        api.fault("pods/a/binding", Fault::Answer(409, -1));
        api.state().held_back = Some("pods".to_owned());
        api.write("POST", PODS, &pod("a", "1"));
        let (handle, _task) = start(&api);
        until("it was refused", || api.count("pods/a/binding") == 1).await;
        // Others bound it, and the watch does not say so yet.
        until("it is tried or found out", || {
            take_binding(&api, "a", "n1");
            let queue = handle.view().summary.queue;
            queue.in_flight == 0 && queue.backoff == 0 && handle.view().leading.is_some()
        })
        .await;
        api.release();
        until("it is seen", || handle.view().summary.assumed.is_empty() && handle.view().summary.placed == 1).await;
    });
}
