//! How a new template replaces the old ones. Upstream's `rolling.go` and `recreate.go`.
//!
//! **Invariant:** a rolling update never takes away what has to be available, and never makes more than the surge
//! allows (`rollouts_keep_their_promises`).

use super::Rollout;
use super::sets::{self, Set};
use super::spec::Strategy;
use api::ObjectExt;

impl Rollout<'_> {
    /// One step of a rolling update: the new set grows if it can, else the old ones shrink if they can.
    pub(super) fn roll(&mut self) {
        if !self.ensure_new() {
            return;
        }
        if !self.grow_new() && !self.shrink_old() && self.is_complete(&self.stored) {
            self.clean_up();
        }
        self.report_progress();
    }

    /// One step of a replacement as a whole: the new set comes when the last old pod is gone.
    pub(super) fn recreate(&mut self) {
        if self.old.iter().any(Set::is_active) {
            self.old.iter_mut().filter(|old| old.is_active()).for_each(|old| old.scale(0));
        } else if self.do_old_pods_run() {
            self.plan.wait("old pods still run");
        } else if self.ensure_new() {
            let replicas = self.wanted.replicas;
            self.new.iter_mut().filter(|new| new.replicas != replicas).for_each(|new| new.scale(replicas));
            if self.is_complete(&self.stored) {
                self.clean_up();
            }
        } else {
            return;
        }
        self.report_progress();
    }

    fn do_old_pods_run(&self) -> bool {
        self.old_pods_counted() > 0 || (self.view.old_pods_run)(self.new.as_ref().map(|new| new.set.uid()))
    }

    /// How many pods the new set may have now.
    pub(super) fn new_size(&self, current: i32, total: i32) -> i32 {
        let replicas = self.wanted.replicas;
        match self.wanted.strategy {
            Strategy::Recreate => replicas,
            Strategy::RollingUpdate { surge, .. } => {
                let room = (replicas + surge - total).max(0);
                current + room.min(replicas - current).max(0)
            }
        }
    }

    fn grow_new(&mut self) -> bool {
        let total = self.all().map(|set| set.replicas).sum();
        let replicas = self.wanted.replicas;
        let Some(current) = self.new.as_ref().map(|new| new.replicas) else { return false };
        let size = if current > replicas { replicas } else { self.new_size(current, total) };
        if size == current {
            return false;
        }
        self.new.iter_mut().for_each(|new| new.scale(size));
        true
    }

    fn shrink_old(&mut self) -> bool {
        let old: i32 = self.old.iter().map(|old| old.replicas).sum();
        if old == 0 {
            return false;
        }
        let new_unavailable: i32 = self.new.iter().map(|new| new.replicas - new.available()).sum();
        let total: i32 = self.all().map(|set| set.replicas).sum();
        let most = total - self.wanted.min_available() - new_unavailable;
        if most <= 0 {
            self.plan.wait("as many pods are unavailable as may be");
            return false;
        }
        let unhealthy = self.drop_unhealthy(most);
        let healthy = self.drop_healthy();
        unhealthy + healthy > 0
    }

    /// Pods that are not available give no capacity, so they go first: else they would hold up the rollout for ever.
    fn drop_unhealthy(&mut self, most: i32) -> i32 {
        let mut dropped = 0;
        for old in self.old.iter_mut().filter(|old| old.is_active()) {
            let count = (old.replicas - old.available()).min(most - dropped);
            if count > 0 {
                old.scale(old.replicas - count);
                dropped += count;
            }
        }
        dropped
    }

    fn drop_healthy(&mut self) -> i32 {
        let available: i32 = self.all().map(Set::available).sum();
        let most = available - self.wanted.min_available();
        let mut dropped = 0;
        for old in self.old.iter_mut().filter(|old| old.is_active()) {
            let count = old.replicas.min(most - dropped);
            if count > 0 {
                old.scale(old.replicas - count);
                dropped += count;
            }
        }
        dropped
    }

    /// Deletes old sets that the history has no room for. Only if they are still as they were read: without pods.
    pub(super) fn clean_up(&mut self) {
        for old in sets::surplus(&self.old, self.wanted.history_limit) {
            let delete = client::Write::delete(&*old.set).with_version(old.set.resource_version());
            self.cleanup.push(delete);
        }
    }
}
