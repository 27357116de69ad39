//! A Deployment's status: counts, conditions, and whether its rollout makes progress. Upstream's `progress.go`.

use super::Rollout;
use super::sets::Set;
use crate::replicaset::Replicated;
use api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetCondition};
use api::object::seconds;
use api::{ObjectExt, SignedDuration, Timestamp};
use client::Write;
use std::time::Duration;

/// Types of conditions.
const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reasons of the condition Progressing.
const NEW_SET: &str = "NewReplicaSetCreated";
const FOUND_SET: &str = "FoundNewReplicaSet";
const SET_UPDATED: &str = "ReplicaSetUpdated";
const SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const SET_CREATE_ERROR: &str = "ReplicaSetCreateError";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// Looks a little later than the deadline, since conditions know only whole seconds.
const SLACK: Duration = Duration::from_secs(1);

impl Rollout<'_> {
    /// Says that the Deployment was paused or resumed, so that the time in between does not count as standing still.
    pub(super) fn note_pause(&mut self) {
        let reason = find(&self.status, PROGRESSING).and_then(|progressing| progressing.reason.as_deref());
        if self.wanted.deadline_s.is_none() || reason == Some(TIMED_OUT) {
            return;
        }
        if self.wanted.paused && reason != Some(PAUSED) {
            self.progress("Unknown", PAUSED, "Deployment is paused".to_owned());
        } else if !self.wanted.paused && reason == Some(PAUSED) {
            self.progress("Unknown", RESUMED, "Deployment is resumed".to_owned());
        }
    }

    /// Says that the new set is being created.
    pub(super) fn note_created(&mut self, name: &str) {
        if self.wanted.deadline_s.is_some() {
            self.progress("True", NEW_SET, format!("Created new replica set {name:?}"));
        }
    }

    /// Says that the new set was there, if nothing has been said of progress yet.
    pub(super) fn note_found(&mut self) {
        let Some(name) = self.new.as_ref().map(|new| new.set.name().to_owned()) else { return };
        if self.wanted.deadline_s.is_some() && find(&self.status, PROGRESSING).is_none() {
            self.progress("True", FOUND_SET, format!("Found new replica set {name:?}"));
        }
    }

    /// Says that the new set was refused.
    pub(super) fn note_refused(&mut self, message: &str) {
        self.plan.warn(self.deployment, SET_CREATE_ERROR, message);
        if self.wanted.deadline_s.is_some() {
            self.progress("False", SET_CREATE_ERROR, message.to_owned());
        }
    }

    fn progress(&mut self, status: &str, reason: &str, message: String) {
        let condition = condition(PROGRESSING, status, reason, message, self.now);
        set(&mut self.status, condition);
    }

    /// Whether a status tells of a rollout that is over.
    pub(super) fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let all = Some(self.wanted.replicas);
        let number = |count: Option<i32>| Some(count.unwrap_or(0));
        number(status.updated_replicas) == all
            && number(status.replicas) == all
            && number(status.available_replicas) == all
            && status.observed_generation.unwrap_or(0) >= self.deployment.generation()
    }

    /// Sets the counts without judging the rollout.
    pub(super) fn report(&mut self) {
        self.status = self.counted();
    }

    /// Sets the counts and judges the rollout: complete, progressing, or standing still for too long.
    pub(super) fn report_progress(&mut self) {
        let mut status = self.counted();
        let before = find(&self.status, PROGRESSING).cloned();
        match self.wanted.deadline_s {
            None => remove(&mut status, PROGRESSING),
            Some(deadline_s) => self.judge(&mut status, before.as_ref(), deadline_s),
        }
        match self.failure() {
            Some(failure) => set(&mut status, failure),
            None => remove(&mut status, REPLICA_FAILURE),
        }
        self.await_deadline(&status);
        self.status = status;
    }

    fn judge(&self, status: &mut DeploymentStatus, before: Option<&DeploymentCondition>, deadline_s: i32) {
        let reason = before.and_then(|before| before.reason.as_deref());
        // A rollout that was complete, and of which nothing is old: pods that come and go later are no progress of it.
        if reason == Some(SET_AVAILABLE) && status.replicas == status.updated_replicas {
            return;
        }
        let about = match &self.new {
            Some(new) => format!("ReplicaSet {:?}", new.set.name()),
            None => format!("Deployment {:?}", self.deployment.name()),
        };
        let make = |status: &str, reason: &str, text: &str| {
            condition(PROGRESSING, status, reason, format!("{about} {text}"), self.now)
        };
        if self.is_complete(status) {
            set(status, make("True", SET_AVAILABLE, "has successfully progressed."));
        } else if self.has_progressed(status) {
            let mut progressing = make("True", SET_UPDATED, "is progressing.");
            // Of several steps each renews the time of the last update, and none but the first that of the transition.
            if let Some(before) = before.filter(|before| before.status == "True") {
                progressing.last_transition_time = before.last_transition_time.clone();
            }
            remove(status, PROGRESSING);
            set(status, progressing);
        } else if has_timed_out(find(status, PROGRESSING), deadline_s, self.now) {
            mark::sometimes!("a deployment exceeded its progress deadline");
            set(status, make("False", TIMED_OUT, "has timed out progressing."));
        }
    }

    /// Whether `status` is nearer to the goal than the one that is stored.
    fn has_progressed(&self, status: &DeploymentStatus) -> bool {
        let number = |count: Option<i32>| count.unwrap_or(0);
        let old = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
        number(status.updated_replicas) > number(self.stored.updated_replicas)
            || old(status) < old(&self.stored)
            || number(status.ready_replicas) > number(self.stored.ready_replicas)
            || number(status.available_replicas) > number(self.stored.available_replicas)
    }

    /// Has the Deployment looked at again when it may have been standing still for too long.
    fn await_deadline(&mut self, status: &DeploymentStatus) {
        let Some(progressing) = find(status, PROGRESSING) else { return };
        let over = matches!(progressing.reason.as_deref(), Some(TIMED_OUT | SET_AVAILABLE));
        let Some(deadline_s) = self.wanted.deadline_s.filter(|_| !over && !self.is_complete(status)) else { return };
        let Some(left) = time_left(progressing, deadline_s, self.now) else { return };
        // However wrong the clocks are, not later than the deadline from now.
        let left = Duration::try_from(left)
            .unwrap_or(Duration::ZERO)
            .min(Duration::from_secs(deadline_s.unsigned_abs().into()));
        self.plan.requeue(left + SLACK);
    }

    fn counted(&self) -> DeploymentStatus {
        let sum = |count: &dyn Fn(&Set) -> i32| self.all().map(count).sum::<i32>();
        let available = sum(&|set| set.set.counts().available);
        let total = sum(&|set| set.set.replicas());
        // Unknown as long as one of the sets does not tell.
        let terminating = self.all().map(|set| set.set.counts().terminating).sum::<Option<i32>>();
        let mut status = DeploymentStatus {
            observed_generation: Some(self.deployment.generation()),
            replicas: some(sum(&|set| set.set.counts().replicas)),
            updated_replicas: some(self.new.as_ref().map_or(0, |new| new.set.counts().replicas)),
            ready_replicas: some(sum(&|set| set.set.counts().ready)),
            available_replicas: some(available),
            // More can be available than wanted while sets shrink.
            unavailable_replicas: some((total - available).max(0)),
            terminating_replicas: terminating,
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.clone(),
        };
        let (truth, reason, message) = if available >= self.wanted.min_available() {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        set(&mut status, condition(AVAILABLE, truth, reason, message.to_owned(), self.now));
        status
    }

    /// Why a set cannot create pods, of the new one rather than of an old one.
    fn failure(&self) -> Option<DeploymentCondition> {
        let failure =
            |set: &Set| set.set.counts().conditions.into_iter().find(|condition| condition.type_ == REPLICA_FAILURE);
        self.new.iter().chain(&self.old).find_map(failure).map(of_set)
    }

    /// How many pods the old sets have by their own account.
    pub(super) fn old_pods_counted(&self) -> i32 {
        self.old.iter().map(|old| old.set.counts().replicas).sum()
    }

    /// The update of the status, if there is something to update.
    pub(super) fn status_write(&self) -> Option<Write> {
        let status = normal(self.status.clone());
        let update = || Deployment { status: Some(status.clone()), ..self.deployment.clone() };
        (status != normal(self.stored.clone())).then(|| Write::update_status(&update()))
    }
}

fn of_set(failure: ReplicaSetCondition) -> DeploymentCondition {
    DeploymentCondition {
        last_transition_time: failure.last_transition_time.clone(),
        last_update_time: failure.last_transition_time,
        message: failure.message,
        reason: failure.reason,
        status: failure.status,
        type_: failure.type_,
    }
}

/// Whether the last progress is longer ago than the deadline. Who has arrived, or has timed out already, stays as it is.
fn has_timed_out(progressing: Option<&DeploymentCondition>, deadline_s: i32, now: Timestamp) -> bool {
    let Some(progressing) = progressing else { return false };
    match progressing.reason.as_deref() {
        Some(SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => time_left(progressing, deadline_s, now).is_some_and(|left| left.is_negative()),
    }
}

fn time_left(progressing: &DeploymentCondition, deadline_s: i32, now: Timestamp) -> Option<SignedDuration> {
    let from = progressing.last_update_time.as_ref()?.0;
    Some(SignedDuration::from_secs(deadline_s.into()) - now.duration_since(from))
}

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

/// Puts a condition in the place of the one of its type. One of the same status and reason stays as it was.
fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(old) = find(status, &condition.type_) {
        if old.status == condition.status && old.reason == condition.reason {
            return;
        }
        if old.status == condition.status {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn condition(type_: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    }
}

/// Zero is left out, as upstream does.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The status with one way to say nothing.
pub(super) fn normal(mut status: DeploymentStatus) -> DeploymentStatus {
    for count in [
        &mut status.replicas,
        &mut status.updated_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
        &mut status.unavailable_replicas,
    ] {
        count.take_if(|count| *count == 0);
    }
    status.conditions.take_if(|conditions| conditions.is_empty());
    status
}
