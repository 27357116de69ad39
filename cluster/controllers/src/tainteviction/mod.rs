//! NoExecute: pods go from nodes whose taints they do not tolerate, or no longer.
//!
//! ```text
//! Pod, its Node's taints ─▶ deadline: per taint, since it is there + as long as it is tolerated; the first counts
//!        not reached ─▶ come again then        reached ─▶ condition DisruptionTarget, delete that very pod
//! ```
//!
//! A taint is there since `timeAdded`, so that a restart prolongs nothing; upstream counts from when its own process
//! saw it. For a pod that came to the node later it counts since then: otherwise a controller that makes tolerating
//! pods would see each of them evicted as soon as it is bound.
//!
//! **Invariant:** a pod is deleted only while the taint holds in the view decided on, and only under its UID
//! (`the_delete_names_the_pod_that_was_seen`).

use crate::taints::{self, NO_EXECUTE, tolerates};
use crate::{doomed, pod};
use api::core::v1::{Node, Pod, Taint};
use api::{ObjectExt, SignedDuration, Timestamp};
use client::{Caches, Controller, Key, Now, Plan, Watch};
use std::collections::BTreeMap;
use std::time::Duration;

/// The wall clock may jump while a pod waits for its deadline, so it is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The controller. It remembers which pods wait, to say when one need not go after all, and since when, for taints
/// that do not say; both may be lost.
#[derive(Default)]
pub struct TaintEviction {
    waiting: BTreeMap<Key, Waiting>,
}

struct Waiting {
    uid: String,
    since: Timestamp,
}

/// When a pod has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// It may stay.
    Never,
    /// Then.
    At(Timestamp),
    /// It tolerates some taint not at all.
    Now,
}

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        let on_tainted = |caches: &Caches, pod: &Pod| {
            let node = caches.get::<Node>("", pod::node(pod));
            node.filter(|node| evicts(node)).map(|_| Key::of(pod)).into_iter().collect()
        };
        vec![Watch::map::<Pod>(on_tainted), Watch::map::<Node>(pods_of_tainted)]
    }

    fn restart(&mut self) {
        self.waiting.clear();
    }

    fn reconcile(&mut self, caches: &Caches, key: &Key, now: Now) -> Plan {
        let pod = caches.get::<Pod>(&key.namespace, &key.name);
        let node = pod.and_then(|pod| caches.get::<Node>("", pod::node(pod)));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.waiting.remove(key);
            return Plan::nothing();
        };
        let known = self.waiting.get(key).filter(|waiting| waiting.uid == pod.uid());
        let since = known.map_or(now.wall, |waiting| waiting.since);
        let deadline = if pod::is_active(pod) { deadline(pod, taints::of(node), since) } else { Deadline::Never };
        let mut plan = plan(pod, deadline, now.wall);
        match deadline {
            Deadline::Never => {
                if self.waiting.remove(key).is_some_and(|waiting| waiting.uid == pod.uid()) && pod::is_active(pod) {
                    mark::sometimes!("an eviction was called off");
                    let message = format!("Cancelling deletion of Pod {}/{}", pod.namespace(), pod.name());
                    plan.note(&**pod, "TaintManagerEviction", message);
                }
            }
            Deadline::At(_) | Deadline::Now => {
                self.waiting.insert(key.clone(), Waiting { uid: pod.uid().to_owned(), since });
            }
        }
        plan
    }
}

/// Whether the node has a taint that evicts.
fn evicts(node: &Node) -> bool {
    taints::of(node).iter().any(|taint| taint.effect == NO_EXECUTE)
}

/// The pods that a change of a node concerns: none if it has no taint that evicts, before or after.
fn pods_of_tainted(caches: &Caches, node: &Node) -> Vec<Key> {
    if !evicts(node) {
        return Vec::new();
    }
    let here = caches.all::<Pod>().filter(|pod| pod::node(pod) == node.name() && pod::is_active(pod));
    here.map(|pod| Key::of(&**pod)).collect()
}

/// When a pod has to go from a node of these taints. `since` stands for when a taint was added that does not say.
pub fn deadline(pod: &Pod, taints: &[Taint], since: Timestamp) -> Deadline {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let bound = pod::condition(pod, "PodScheduled").filter(|condition| condition.status == "True");
    let bound = bound.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
    let mut first: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Deadline::Now;
        };
        let Some(seconds) = toleration.toleration_seconds else { continue };
        let added = taint.time_added.as_ref().map_or(since, |time| time.0);
        let from = bound.map_or(added, |bound| added.max(bound));
        let end = from.saturating_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX);
        first = Some(first.map_or(end, |first| first.min(end)));
    }
    first.map_or(Deadline::Never, Deadline::At)
}

/// What is done about a pod with that deadline.
pub fn plan(pod: &Pod, deadline: Deadline, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    match deadline {
        Deadline::Never => return plan,
        Deadline::At(end) if now < end => {
            let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            plan.requeue(left.min(LOOK_AGAIN));
            plan.wait(format!("a taint is tolerated until {end}"));
            return plan;
        }
        Deadline::At(_) => mark::sometimes!("a toleration ran out"),
        Deadline::Now => mark::sometimes!("a taint is not tolerated"),
    }
    const WHY: &str = "Taint manager: deleting due to NoExecute taint";
    plan.writes = doomed::evict(pod, "DeletionByTaintManager", WHY, now);
    let message = format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name());
    plan.note(pod, "TaintManagerEviction", message);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use api::core::v1::{NodeSpec, PodCondition, PodSpec, PodStatus, Toleration};
    use api::{ObjectMeta, Time};
    use client::Verb;
    use expect_test::{Expect, expect};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn now(second: i64) -> Now {
        Now { wall: at(second), monotonic: Duration::from_secs(second as u64) }
    }

    /// `key@second`, or `key` without a time.
    fn a_taint(text: &str) -> Taint {
        let (key, second) = text.split_once('@').map_or((text, None), |(key, second)| (key, Some(second)));
        let time_added = second.map(|second| Time(at(second.parse().unwrap())));
        Taint { key: key.to_owned(), effect: NO_EXECUTE.to_owned(), time_added, value: None }
    }

    /// `key:seconds`, or `key` for ever; `*` is every key.
    fn a_toleration(text: &str) -> Toleration {
        let (key, seconds) = text.split_once(':').map_or((text, None), |(key, seconds)| (key, Some(seconds)));
        Toleration {
            key: (key != "*").then(|| key.to_owned()),
            operator: Some("Exists".to_owned()),
            toleration_seconds: seconds.map(|seconds| seconds.parse().unwrap()),
            ..Toleration::default()
        }
    }

    fn a_pod(tolerations: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some("p".to_owned()),
                namespace: Some("default".to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some("n".to_owned()),
                tolerations: Some(tolerations.split_whitespace().map(a_toleration).collect()),
                ..PodSpec::default()
            }),
            status: None,
        }
    }

    fn a_node(taints: &str) -> Node {
        Node {
            metadata: ObjectMeta { name: Some("n".to_owned()), ..ObjectMeta::default() },
            spec: Some(NodeSpec {
                taints: Some(taints.split_whitespace().map(a_taint).collect()),
                ..NodeSpec::default()
            }),
            status: None,
        }
    }

    fn check(taints: &str, tolerations: &str, expect: Expect) {
        let taints: Vec<Taint> = taints.split_whitespace().map(a_taint).collect();
        let text = match deadline(&a_pod(tolerations), &taints, at(7)) {
            Deadline::Never => "never".to_owned(),
            Deadline::At(end) => end.as_second().to_string(),
            Deadline::Now => "now".to_owned(),
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn the_first_toleration_to_end_decides_counted_from_when_its_taint_was_added() {
        check("a@100", "a:300", expect!["400"]);
        check("a@100 b@200", "a:300 b:10", expect!["210"]);
        check("a@100 b@200", "a b:10", expect!["210"]);
        check("a@100", "a", expect!["never"]);
        check("a@100", "*", expect!["never"]);
        check("a@100", "b:10", expect!["now"]);
        check("a@100 b@100", "a:300", expect!["now"]);
        check("a@100", "a:-5", expect!["100"]);
        check("a", "a:10", expect!["17"]);
        check("", "", expect!["never"]);
    }

    #[test]
    fn of_a_pod_that_came_later_the_time_counts_from_then() {
        let mut pod = a_pod("a:10");
        let bound = PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(at(500))),
            ..PodCondition::default()
        };
        pod.status = Some(PodStatus { conditions: Some(vec![bound]), ..PodStatus::default() });
        assert_eq!(deadline(&pod, &[a_taint("a@100")], at(0)), Deadline::At(at(510)));
    }

    fn log(plan: &Plan) -> String {
        let mut lines: Vec<String> = plan.writes.iter().map(ToString::to_string).collect();
        lines.extend(plan.notes.iter().map(|note| format!("{}: {}", note.reason, note.message)));
        lines.extend(plan.requeue_after.map(|wait| format!("again in {wait:?}")));
        lines.join("\n")
    }

    #[test]
    fn a_pod_waits_for_its_time_is_marked_and_deleted_once() {
        let mut fake = Fake::new();
        fake.put(a_node("a@100"));
        fake.put(a_pod("a:300"));
        let mut controller = TaintEviction::default();
        let key = Key::new("default", "p");
        let caches = fake.caches.clone();
        expect!["again in 60s"].assert_eq(&log(&controller.reconcile(&caches, &key, now(110))));
        expect!["again in 1s"].assert_eq(&log(&controller.reconcile(&caches, &key, now(399))));
        let plan = controller.reconcile(&caches, &key, now(400));
        expect![[r#"
            update pods/status default/p
            delete pods default/p
            TaintManagerEviction: Marking for deletion Pod default/p"#]]
        .assert_eq(&log(&plan));
        fake.perform(&plan).unwrap();
        expect![""].assert_eq(&log(&controller.reconcile(&fake.caches, &key, now(401))));
        let pod = fake.caches.get::<Pod>("default", "p").unwrap();
        assert_eq!(pod::condition(pod, "DisruptionTarget").unwrap().reason.as_deref(), Some("DeletionByTaintManager"));
    }

    #[test]
    fn an_eviction_is_called_off_when_the_taint_goes() {
        let mut fake = Fake::new();
        fake.put(a_node("a@100"));
        fake.put(a_pod("a:300"));
        let mut controller = TaintEviction::default();
        let key = Key::new("default", "p");
        controller.reconcile(&fake.caches, &key, now(110));
        fake.put(a_node(""));
        let plan = controller.reconcile(&fake.caches, &key, now(500));
        expect!["TaintManagerEviction: Cancelling deletion of Pod default/p"].assert_eq(&log(&plan));
        assert_eq!(controller.reconcile(&fake.caches, &key, now(501)), Plan::nothing());
    }

    #[test]
    fn the_delete_names_the_pod_that_was_seen() {
        let mut fake = Fake::new();
        fake.put(a_node("a@100"));
        let seen = fake.put(a_pod(""));
        let plan = TaintEviction::default().reconcile(&fake.caches, &Key::new("default", "p"), now(110));
        assert!(plan.writes.iter().all(|write| match &write.verb {
            Verb::Delete { uid, .. } => uid.as_deref() == Some(seen.uid()),
            Verb::Update { body, .. } => body.contains(seen.resource_version()),
            Verb::Create { .. } | Verb::Patch { .. } | Verb::CreateSubresource { .. } => false,
        }));
        fake.remove::<Pod>("default", "p");
        fake.put(a_pod(""));
        assert!(fake.perform(&plan).is_err());
        assert!(!fake.caches.get::<Pod>("default", "p").unwrap().is_terminating());
    }
}
