//! Eviction: the deletion of a pod that its disruption budget must allow.
//!
//! ```text
//! pod ended, pending or going ─────────────────────────▶ delete
//! no budget ───────────────────────────────────────────▶ delete
//! not ready, and the budget does not count on it ──────▶ delete
//! budget allows one more ──▶ one less allowed, pod noted ┴▶ delete      in one transaction
//! budget allows none ──▶ 429
//! ```
//!
//! It is decided over the budgets that this server knows, and done only if none of the namespace is newer: neither the
//! budget that was created meanwhile nor the one that a lagging member has not heard of is passed over.
//!
//! Upstream writes the budget first and deletes the pod then, so that a crash in between costs the budget one disruption
//! until its controller notices; here both happen or neither.

use crate::change::Change;
use crate::core::{Core, Decision};
use crate::delete::{self, DeleteOptions, Deletion};
use crate::fence::Fence;
use crate::keys;
use crate::list::find;
use crate::route::Target;
use crate::stored::{Stored, encode, meta_text};
use api::core::v1::{Pod, PodCondition};
use api::meta::v1::{Condition, Time};
use api::policy::v1::PodDisruptionBudget;
use api::resource::{self, Resource};
use api::selector::Labels;
use api::{ObjectExt, Status, Timestamp};
use serde_json::Value;
use store::mvcc::{Span, Tree};

/// Pods that a budget may have noted as disrupted: upstream's bound.
const MAX_DISRUPTED: usize = 2_000;

const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What an eviction comes to.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// The pod may go, and no budget loses by it.
    Free,
    /// The pod may go at the expense of this budget, which becomes this.
    Counted(Box<PodDisruptionBudget>),
}

/// Decides. `budgets` are those of the pod's namespace.
///
/// # Errors
/// 429 if the budget does not allow it now, 500 if several budgets guard the pod.
pub fn decide(pod: &Pod, budgets: &[PodDisruptionBudget], now: Timestamp) -> Result<Verdict, Status> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if pod.is_terminating() || matches!(phase, "Succeeded" | "Failed" | "Pending") {
        return Ok(Verdict::Free);
    }
    let mut guarding = budgets.iter().filter(|budget| guards(budget, pod));
    let Some(budget) = guarding.next() else { return Ok(Verdict::Free) };
    if guarding.next().is_some() {
        mark::sometimes!("eviction of a pod with several budgets");
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::new(500, "InternalError", why));
    }
    if !is_ready(pod) && may_go_unready(budget) {
        mark::sometimes!("unready pod evicted without its budget");
        return Ok(Verdict::Free);
    }
    decrement(budget, pod.name(), now).map(|budget| Verdict::Counted(Box::new(budget)))
}

fn guards(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    // Without a selector a budget guards nothing; an empty one guards everything.
    selector.is_some_and(|selector| Labels::from_selector(selector).is_ok_and(|labels| labels.matches(pod.labels())))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a pod that is not ready may go without being counted.
fn may_go_unready(budget: &PodDisruptionBudget) -> bool {
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let healthy = budget
        .status
        .as_ref()
        .is_some_and(|status| status.current_healthy >= status.desired_healthy && status.desired_healthy > 0);
    policy == Some("AlwaysAllow") || healthy
}

/// The budget with one disruption less.
fn decrement(budget: &PodDisruptionBudget, pod: &str, now: Timestamp) -> Result<PodDisruptionBudget, Status> {
    let mut budget = budget.clone();
    let (name, generation) = (budget.name().to_owned(), budget.generation());
    let status = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or_default() < generation {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(Status::too_many_requests(VIOLATES, 10).cause("DisruptionBudget", &why, ""));
    }
    if status.disruptions_allowed < 0 {
        return Err(Status::forbidden(budgets(), &name, "pdb disruptions allowed is negative"));
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(budgets(), &name, why));
    }
    if status.disruptions_allowed == 0 {
        mark::sometimes!("eviction refused by a budget");
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let failed = conditions.iter().find(|condition| condition.type_ == "DisruptionAllowed");
        let why = match failed.filter(|condition| condition.reason == "SyncFailed") {
            Some(condition) => condition.message.clone(),
            None => format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status.desired_healthy, status.current_healthy
            ),
        };
        let mut refused = Status::too_many_requests(VIOLATES, 0).cause("DisruptionBudget", &why, "");
        refused.details.retry_after_seconds = None;
        return Err(refused);
    }
    status.disruptions_allowed -= 1;
    if status.disruptions_allowed == 0 {
        exhausted(status.conditions.get_or_insert_default(), status.observed_generation, now);
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), api::object::seconds(now));
    Ok(budget)
}

/// Notes in the conditions that no more disruptions are allowed.
fn exhausted(conditions: &mut Vec<Condition>, observed_generation: Option<i64>, now: Timestamp) {
    let place = conditions.iter().position(|condition| condition.type_ == "DisruptionAllowed");
    let before = place.map(|place| conditions.remove(place));
    let unchanged =
        before.filter(|condition| condition.status == "False").map(|condition| condition.last_transition_time);
    let condition = Condition {
        last_transition_time: unchanged.unwrap_or_else(|| api::object::seconds(now)),
        message: String::new(),
        observed_generation,
        reason: "InsufficientPods".to_owned(),
        status: "False".to_owned(),
        type_: "DisruptionAllowed".to_owned(),
    };
    conditions.insert(place.unwrap_or(conditions.len()), condition);
}

/// Notes on a pod why it goes.
fn disrupted(pod: &mut Pod, now: Timestamp) {
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let place = conditions.iter().position(|condition| condition.type_ == "DisruptionTarget");
    let before = place.map(|place| conditions.remove(place));
    let since: Option<Time> =
        before.filter(|condition| condition.status == "True").and_then(|condition| condition.last_transition_time);
    let condition = PodCondition {
        last_transition_time: Some(since.unwrap_or_else(|| api::object::seconds(now))),
        message: Some("Eviction API: evicting".to_owned()),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        status: "True".to_owned(),
        type_: "DisruptionTarget".to_owned(),
        ..PodCondition::default()
    };
    conditions.insert(place.unwrap_or(conditions.len()), condition);
}

impl Core {
    /// Evicts a pod.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn evict(
        &self,
        target: &Target,
        eviction: &Value,
        dry_run: bool,
        fence: Option<&Fence>,
    ) -> Result<(), Status> {
        if meta_text(eviction, "name") != target.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let empty = Value::Object(serde_json::Map::new());
        let mut options = DeleteOptions::read(
            Some(eviction.get("deleteOptions").filter(|options| options.is_object()).unwrap_or(&empty)),
            &crate::query::Query::default(),
        )?;
        options.dry_run |= dry_run;
        let decide = |tree: &Tree| self.decide_eviction(tree, target, &options);
        let evicted = self.try_transact(fence, (target.resource, &target.name), decide).await?;
        // Not a conflict, as upstream: `kubectl drain` comes again after 429, and ends at 409.
        let why = "Cannot evict pod now: its disruption budgets keep changing.";
        evicted.map(|_| ()).ok_or_else(|| Status::too_many_requests(why, 10))
    }

    fn decide_eviction(&self, tree: &Tree, target: &Target, options: &DeleteOptions) -> Result<Decision<()>, Status> {
        let pods = target.resource;
        let now = self.now();
        let stored = find(tree, target).ok_or_else(|| Status::not_found(pods, &target.name))?;
        let object = stored.decode()?;
        let mut pod: Pod = read(&object)?;
        let mut change = Change::new();
        change.expect_nothing_newer(keys::collection(budgets(), &target.namespace), tree.revision());
        match decide(&pod, &budgets_of(tree, &target.namespace)?, now)? {
            Verdict::Free => {}
            Verdict::Counted(budget) => {
                let revision = budget.resource_version().parse().map_err(Status::internal)?;
                let key = keys::object(budgets(), budget.namespace(), budget.name());
                change.expect(key.clone(), revision);
                change.put(key, encode(budgets(), &value(&*budget)?));
            }
        }
        let key = keys::object(pods, &target.namespace, &target.name);
        change.expect(key.clone(), stored.revision);
        disrupted(&mut pod, now);
        match delete::decide(pods, &value(&pod)?, options, now)? {
            // A budget that was counted down for a pod that goes already would be counted twice.
            Deletion::Pending => return Ok(Decision::Keep(())),
            Deletion::Mark(object) => change.put(key, encode(pods, &object)),
            Deletion::Remove => self.remove(tree, pods, &object, key, &mut change),
        }
        Ok(if options.dry_run { Decision::Keep(()) } else { Decision::Write(change, ()) })
    }
}

fn budgets_of(tree: &Tree, namespace: &str) -> Result<Vec<PodDisruptionBudget>, Status> {
    let (first, end) = keys::collection(budgets(), namespace);
    let span = Span::new(first, end);
    tree.latest(&span).map(|version| read(&Stored::of(budgets(), &version.kv).decode()?)).collect()
}

fn read<T: serde::de::DeserializeOwned>(object: &Value) -> Result<T, Status> {
    serde::Deserialize::deserialize(object).map_err(Status::internal)
}

fn value(object: &impl serde::Serialize) -> Result<Value, Status> {
    serde_json::to_value(object).map_err(Status::internal)
}

fn budgets() -> &'static Resource {
    resource::find("policy", "PodDisruptionBudget").expect("budgets are in the table of resources")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    /// `phase [ready] [going] | [allowed=N healthy=H desired=D seen=G policy=P]...`: a pod, and budgets of generation 1.
    fn check(line: &str, expected: Expect) {
        let (pod, budgets) = line.split_once('|').unwrap();
        let mut words = pod.split_whitespace();
        let mut pod =
            json!({"metadata": {"name": "p", "labels": {"app": "web"}}, "status": {"phase": words.next().unwrap()}});
        for word in words {
            match word {
                "ready" => pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]),
                "going" => pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
                other => panic!("{other}"),
            }
        }
        let budget = |(n, text): (usize, &str)| {
            let mut status = json!({"disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3, "observedGeneration": 1});
            let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}});
            for word in text.split_whitespace() {
                let (key, value) = word.split_once('=').unwrap();
                match key {
                    "allowed" => status["disruptionsAllowed"] = value.parse::<i64>().unwrap().into(),
                    "healthy" => status["currentHealthy"] = value.parse::<i64>().unwrap().into(),
                    "desired" => status["desiredHealthy"] = value.parse::<i64>().unwrap().into(),
                    "seen" => status["observedGeneration"] = value.parse::<i64>().unwrap().into(),
                    "policy" => spec["unhealthyPodEvictionPolicy"] = value.into(),
                    "app" => spec["selector"]["matchLabels"]["app"] = value.into(),
                    other => panic!("{other}"),
                }
            }
            read(&json!({"metadata": {"name": format!("b{n}"), "generation": 1}, "spec": spec, "status": status}))
                .unwrap()
        };
        let budgets: Vec<PodDisruptionBudget> =
            budgets.split('|').map(str::trim).filter(|text| !text.is_empty()).enumerate().map(budget).collect();
        let shown = match decide(&read(&pod).unwrap(), &budgets, Timestamp::from_second(100).unwrap()) {
            Ok(Verdict::Free) => "free".to_owned(),
            Ok(Verdict::Counted(budget)) => {
                let status = budget.status.unwrap();
                let conditions: Vec<_> = status.conditions.into_iter().flatten().map(|c| c.reason).collect();
                let pods: Vec<_> = status.disrupted_pods.into_iter().flatten().map(|(name, _)| name).collect();
                format!("allowed={} pods={} {}", status.disruptions_allowed, pods.join(","), conditions.join(","))
            }
            Err(status) => {
                let cause = status.details.causes.iter().flatten().next().and_then(|cause| cause.message.clone());
                format!("{} {}", status.code, cause.unwrap_or(status.message))
            }
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_budget_counts_down_to_nothing() {
        check("Running ready | app=other", expect!["free"]);
        check("Running ready | allowed=2", expect!["allowed=1 pods=p "]);
        check("Running ready | allowed=1", expect!["allowed=0 pods=p InsufficientPods"]);
        check(
            "Running ready | allowed=0",
            expect!["429 The disruption budget b0 needs 2 healthy pods and has 3 currently"],
        );
        check(
            "Running ready | seen=0",
            expect!["429 The disruption budget b0 is still being processed by the server."],
        );
        check(
            "Running ready | allowed=1 | allowed=1",
            expect![
                "500 This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            ],
        );
    }

    #[test]
    fn pods_that_serve_nobody_go_freely() {
        check("Succeeded | allowed=0", expect!["free"]);
        check("Pending | allowed=0", expect!["free"]);
        check("Running ready going | allowed=0", expect!["free"]);
        check("Running | allowed=0", expect!["free"]);
        check(
            "Running | allowed=0 healthy=1",
            expect!["429 The disruption budget b0 needs 2 healthy pods and has 1 currently"],
        );
        check("Running | allowed=0 healthy=1 policy=AlwaysAllow", expect!["free"]);
    }
}
