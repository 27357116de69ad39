//! Users and operators: they ask, note what was answered, and ask again.

use super::Setting;
use super::ask::{Ask, Once};
use super::plan::{Action, Planner, is_called_left_alone, namespaces};
use crate::random::stream;
use api::core::v1::{Node, Pod};
use api::{ObjectExt, is_node_ready};
use client::{Client, Error, ListOptions};
use http::Method;
use record::{Answer, UserWrite};
use rt::random::Random;
use std::time::Duration;

/// From one thing that an operator does to the next.
const OPERATOR_MS: std::ops::Range<u64> = 3_000..12_000;

/// A drain tries every pod this often before it gives up; kubectl would go on for ever.
const DRAIN_ROUNDS: u32 = 6;

/// From round to round of a drain; kubectl waits as long after a 429.
const DRAIN_PAUSE: Duration = Duration::from_secs(5);

/// A cordoned node takes pods again after this long.
const CORDON_MS: std::ops::Range<u64> = 5_000..40_000;

/// Pods deleted in the end at most: of several apps, and not all of one.
const LAST_DELETED: usize = 6;

/// Before another attempt at something that must be done before the trial goes on.
pub(super) const RETRY: Duration = Duration::from_secs(1);

const SECOND_NS: u64 = 1_000_000_000;

/// One user, until the faults end; then they leave their apps in order.
pub(super) async fn user(setting: Setting, number: u32, api: Client) {
    let users = setting.users();
    let mine = (0..setting.cluster.apps).filter(|app| app % users == number);
    let most = (setting.cluster.pods / setting.cluster.apps.max(1)).max(1);
    let mut planner = Planner::new(mine, most, stream(setting.seed, "user", number));
    let mut pace = stream(setting.seed, "user pace", number);
    if number == 0 {
        for name in namespaces() {
            insist(&setting, &api, &Ask::namespace(name)).await;
        }
    }
    // Everything is there soon, and only then the changes come one by one.
    let interval_ms = (1_000_000 * u64::from(users) / u64::from(setting.cluster.writes_per_ks.max(1))).max(2);
    loop {
        let Some(action) = planner.next() else { return };
        let pause_ms = match action {
            Action::Create { .. } => pace.range(50..500),
            _ => interval_ms / 2 + pace.below(interval_ms),
        };
        if !pauses(&setting, pause_ms).await {
            break;
        }
        let answer = act(&setting, &api, &action).await;
        planner.learn(&action, &answer);
    }
    for action in planner.tidy() {
        for ask in action.asks() {
            insist(&setting, &api, &ask).await;
        }
    }
}

/// The first answer that is not `Ok`, else the last one.
async fn act(setting: &Setting, api: &Client, action: &Action) -> Answer {
    let mut answer = Answer::Ok { resource_version: 0 };
    let mut worst = None;
    for ask in action.asks() {
        answer = perform(setting, api, &ask).await;
        if !matches!(answer, Answer::Ok { .. }) && worst.is_none() {
            worst = Some(answer.clone());
        }
    }
    worst.unwrap_or(answer)
}

/// Asks until it is done, or refused for good.
async fn insist(setting: &Setting, api: &Client, ask: &Ask) {
    loop {
        match perform(setting, api, ask).await {
            Answer::Ok { .. } => return,
            Answer::Refused { code, .. } if code < 429 => return,
            Answer::Refused { .. } | Answer::Unknown { .. } => rt::time::sleep(RETRY).await,
        }
    }
}

/// One request, recorded.
async fn perform(setting: &Setting, api: &Client, ask: &Ask) -> Answer {
    let invoked_ns = setting.recorder.now_ns();
    let outcome = send(api, ask.method.clone(), &ask.path, ask.content_type, &ask.body).await;
    setting.recorder.wrote(UserWrite {
        invoked_ns,
        completed_ns: setting.recorder.now_ns(),
        what: ask.what.to_owned(),
        object: ask.object.clone(),
        outcome: outcome.clone(),
    });
    outcome
}

/// One request, and what its answer is to a user.
pub(super) async fn send(api: &Client, method: Method, path: &str, content_type: &'static str, body: &str) -> Answer {
    match api.request(method, path, content_type, body.to_owned().into_bytes().into()).await {
        Ok(answer) => answer_of(answer.code, &answer.body),
        Err(error) => answer_of_error(error),
    }
}

fn answer_of(code: u16, body: &[u8]) -> Answer {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if code == 504 {
        return Answer::Unknown { why: value["message"].as_str().unwrap_or_default().to_owned() };
    }
    if (200..300).contains(&code) {
        let version = value["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        return Answer::Ok { resource_version: version.unwrap_or(0) };
    }
    Answer::Refused { code, reason: value["reason"].as_str().unwrap_or_default().to_owned() }
}

fn answer_of_error(error: Error) -> Answer {
    match error {
        Error::Status(status) => Answer::Refused { code: status.code, reason: status.reason.to_owned() },
        Error::Unreachable(why) => Answer::Refused { code: 503, reason: why },
        Error::Unknown(why) | Error::Malformed(why) => Answer::Unknown { why },
    }
}

/// Who runs the nodes: empties one after the other until the faults end; then all nodes take pods again.
pub(super) async fn node_operator(setting: Setting, api: Client) {
    let mut random = stream(setting.seed, "operator", 0);
    while pauses(&setting, random.range(OPERATOR_MS)).await {
        drain(&setting, &api, &mut random).await;
    }
    for node in &setting.nodes {
        insist(&setting, &api, &Ask::cordon(node, false)).await;
    }
}

/// Who looks after pods: evicts and deletes some, and runs some that are never restarted, until the faults end; then
/// deletes those of a node, which must be replaced as if nothing had ever been wrong.
pub(super) async fn pod_operator(setting: Setting, api: Client) {
    let mut random = stream(setting.seed, "operator", 1);
    let mut runs = 0;
    while pauses(&setting, random.range(OPERATOR_MS)).await {
        match random.below(10) {
            0..=4 => delete_or_evict(&setting, &api, &mut random, true).await,
            5..=6 => delete_or_evict(&setting, &api, &mut random, false).await,
            _ => {
                for _ in 0..=random.below(3) {
                    perform(&setting, &api, &run_once(&setting, runs, &mut random)).await;
                    runs += 1;
                }
            }
        }
    }
    delete_of_a_node(&setting, &api, &mut random).await;
}

/// Deletes the pods of one node, those apart that are to be left alone: several Services change at the same time.
async fn delete_of_a_node(setting: &Setting, api: &Client, random: &mut Random) {
    let Ok(mut pods) = api.list::<Pod>("", &ListOptions::default()).await else { return };
    pods.items.retain(|pod| !app_of(pod).is_some_and(|app| is_called_left_alone(app)) && node_of(pod).is_some());
    if pods.items.is_empty() {
        return;
    }
    let chosen = random.below(pods.items.len() as u64) as usize;
    let node = node_of(&pods.items[chosen]);
    for pod in pods.items.iter().filter(|pod| node_of(pod) == node).take(LAST_DELETED) {
        perform(setting, api, &Ask::delete_pod(pod.namespace(), pod.name())).await;
    }
}

/// Waits, but for no longer than the faults last: then all is left in order at once, and what comes after is judged. False
/// once they are over.
async fn pauses(setting: &Setting, ms: u64) -> bool {
    let left_ns = setting.config.faults_ns.saturating_sub(setting.recorder.now_ns());
    rt::time::sleep(Duration::from_millis(ms).min(Duration::from_nanos(left_ns))).await;
    setting.recorder.now_ns() < setting.config.faults_ns
}

/// A pod that runs once: a small one, or one of which few fit on a node; anywhere, or on one node, open to pods or not.
fn run_once(setting: &Setting, number: u32, random: &mut Random) -> Ask {
    let cpu = if random.chance(500) { "50m" } else { "1500m" };
    let node = random.below(2 * setting.nodes.len().max(1) as u64) as usize;
    let once = Once {
        seconds: random.range(1..40),
        code: u8::from(random.chance(300)),
        cpu,
        node: setting.nodes.get(node).map(String::as_str),
    };
    Ask::run_once(&format!("once-{number}"), &once)
}

/// Strikes a few random pods of one app, but of none that is to be left alone.
async fn delete_or_evict(setting: &Setting, api: &Client, random: &mut Random, evict: bool) {
    let Ok(mut pods) = api.list::<Pod>("", &ListOptions::default()).await else { return };
    pods.items.retain(|pod| !app_of(pod).is_some_and(|app| is_called_left_alone(app)));
    if pods.items.is_empty() {
        return;
    }
    let first = random.below(pods.items.len() as u64) as usize;
    let count = 1 + random.below(3) as usize;
    let app = app_of(&pods.items[first]);
    for pod in pods.items.iter().skip(first).filter(|pod| app_of(pod) == app).take(count) {
        let ask =
            if evict { Ask::evict(pod.namespace(), pod.name()) } else { Ask::delete_pod(pod.namespace(), pod.name()) };
        perform(setting, api, &ask).await;
    }
}

fn node_of(pod: &Pod) -> Option<&String> {
    pod.spec.as_ref()?.node_name.as_ref()
}

fn app_of(pod: &Pod) -> Option<&String> {
    pod.labels().get("app")
}

/// Empties a node for a while, as `kubectl drain` does. One that does not work is left to the control plane.
async fn drain(setting: &Setting, api: &Client, random: &mut Random) {
    let Some(node) = setting.nodes.get(random.below(setting.nodes.len().max(1) as u64) as usize) else { return };
    if !api.get::<Node>("", node).await.is_ok_and(|node| is_node_ready(&node)) {
        return;
    }
    perform(setting, api, &Ask::cordon(node, true)).await;
    let options = ListOptions { field_selector: format!("spec.nodeName={node}"), ..ListOptions::default() };
    for _ in 0..DRAIN_ROUNDS {
        let Ok(pods) = api.list::<Pod>("", &options).await else { break };
        let left: Vec<&Pod> = pods.items.iter().filter(|pod| !pod.is_terminating()).collect();
        if left.is_empty() || setting.recorder.now_ns() + 10 * SECOND_NS >= setting.config.faults_ns {
            break;
        }
        for pod in left {
            perform(setting, api, &Ask::evict(pod.namespace(), pod.name())).await;
        }
        rt::time::sleep(DRAIN_PAUSE).await;
    }
    pauses(setting, random.range(CORDON_MS)).await;
    insist(setting, api, &Ask::cordon(node, false)).await;
}
