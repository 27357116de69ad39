//! The scheduler without its effects: what is observed goes in, what is to be done comes out.
//!
//! ```text
//! put_*, remove_* ──▶ Cache, Queue, Nominated ──next()──▶ Job ──performed by the shell──▶ finish()
//! ```
//!
//! **Invariant:** pods on a node, bound and assumed, never ask for more than it had when each was placed there
//! (`capacity_is_never_exceeded_and_no_pod_is_lost`).
//! **Invariant:** a pod that is to be scheduled is in the queue or assumed, until it is seen bound or gone (same test).

use crate::cache::Cache;
use crate::events::{self, ClusterEvent};
use crate::nominated::Nominated;
use crate::pod::{PodInfo, Uid};
use crate::queue::{Queue, Sizes};
use crate::schedule::{Chance, Decision, Failure, Nomination, View, schedule_one};
use api::ObjectExt;
use api::core::v1::{Node, Pod};
use client::Caches;
use mark::sometimes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything that the scheduler knows and has yet to do.
#[derive(Clone, Default)]
pub struct Scheduler {
    scheduler: String,
    cache: Cache,
    queue: Queue,
    nominated: Nominated,
    caches: Caches,
    /// At which place of the order of nodes the next cycle begins.
    start: usize,
    /// Gated pods of which nobody has said yet that they are.
    unsaid: BTreeMap<Uid, Arc<PodInfo>>,
}

/// Something to be done to the cluster about a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Which pod, as it was when this was decided.
    pub pod: Arc<PodInfo>,
    /// What.
    pub task: Task,
}

/// What is to be done about a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Bind it to this node, where it is assumed to be from now on.
    Bind(Arc<str>),
    /// Say why it fits nowhere, and push others out if that was decided.
    Fail(Failure),
    /// Say that its gates keep it back.
    SayGated,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It certainly was not done and will not be, at least not wholly: the pod is to be tried again.
    Failed,
    /// The pod is gone, or on a node that others chose.
    Gone,
}

/// Numbers for whoever watches the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many pods wait where.
    pub queue: Sizes,
    /// How long the pod that waits longest has been waiting.
    pub oldest: Option<Duration>,
    /// UIDs of the pods that are assumed on a node and were not seen there yet, and the nodes.
    pub assumed: Vec<(String, String)>,
    /// Nodes that are known.
    pub nodes: usize,
    /// Pods that are counted on nodes.
    pub placed: usize,
    /// Pods for which a node is held.
    pub nominated: usize,
}

impl Scheduler {
    /// Knows nothing; schedules pods that name `scheduler`.
    pub fn new(scheduler: &str) -> Self {
        Self { scheduler: scheduler.to_owned(), ..Self::default() }
    }

    /// Takes over what is known of kinds other than pods and nodes.
    pub fn set_caches(&mut self, caches: Caches) {
        self.caches = caches;
    }

    /// Notes a pod as it is now.
    pub fn put_pod(&mut self, pod: Arc<Pod>, now: Duration) {
        let pod = Arc::new(PodInfo::new(pod, &self.caches));
        if pod.is_terminal() {
            self.remove_pod(&pod.uid, now);
        } else if !pod.node_name().is_empty() {
            self.put_placed(pod, now);
        } else if !pod.is_for(&self.scheduler) || pod.pod.is_terminating() {
            self.leave(&pod.uid, now);
        } else {
            self.put_waiting(pod, now);
        }
    }

    /// Notes that a pod is gone.
    pub fn remove_pod(&mut self, uid: &str, now: Duration) {
        self.leave(uid, now);
        if let Some(old) = self.cache.remove_pod(uid) {
            self.observe(ClusterEvent::PodRemoved(old), now);
        }
    }

    /// Notes a node as it is now.
    pub fn put_node(&mut self, node: Arc<Node>, now: Duration) {
        match self.cache.put_node(node) {
            (None, new) => self.observe(ClusterEvent::NodeAdded(new), now),
            (Some(old), new) if events::concerns_rules(&old, &new) => {
                self.observe(ClusterEvent::NodeUpdated { old, new }, now);
            }
            (Some(_), _) => {}
        }
    }

    /// Notes that a node is gone.
    pub fn remove_node(&mut self, name: &str, now: Duration) {
        if let Some(old) = self.cache.remove_node(name) {
            self.observe(ClusterEvent::NodeRemoved(old), now);
        }
    }

    /// Notes that labels of a namespace changed.
    pub fn namespace_changed(&mut self, now: Duration) {
        self.observe(ClusterEvent::NamespaceChanged, now);
    }

    /// Notes that priority classes changed: pods whose priority nobody filled in are looked at again.
    pub fn priority_classes_changed(&mut self, now: Duration) {
        let looked_up = self.queue.pods().chain(self.cache.pods()).filter(|pod| pod.priority_is_looked_up());
        let pods: Vec<Arc<Pod>> = looked_up.map(|pod| pod.pod.clone()).collect();
        pods.into_iter().for_each(|pod| self.put_pod(pod, now));
    }

    /// Decides about the pod whose turn it is. `None` if none waits. `draw` is a random number.
    pub fn next(&mut self, now: Duration, draw: u64) -> Option<Job> {
        if let Some((_, pod)) = self.unsaid.pop_first() {
            return Some(Job { pod, task: Task::SayGated });
        }
        let pod = self.queue.pop(now)?;
        self.cache.settle();
        let view = View { cache: &self.cache, caches: &self.caches, nominated: &self.nominated };
        let (decision, examined) = schedule_one(view, &pod, Chance { start: self.start, draw });
        self.start = (self.start + examined) % self.cache.order().len().max(1);
        let task = match decision {
            Decision::Bind(node) => {
                self.assume(&pod, &node, now);
                Task::Bind(node)
            }
            Decision::Fail(failure) => {
                self.nominate(&pod, &failure.nomination, now);
                Task::Fail(failure)
            }
        };
        Some(Job { pod, task })
    }

    /// Notes what came of a job.
    pub fn finish(&mut self, job: &Job, outcome: &Outcome, now: Duration) {
        let uid = &job.pod.uid;
        match (&job.task, outcome) {
            (Task::SayGated, Outcome::Done | Outcome::Failed | Outcome::Gone) => {}
            // It stays assumed until somebody sees it there; until then, nobody else may have its place.
            (Task::Bind(_), Outcome::Done) => drop(self.queue.remove(uid)),
            (Task::Bind(_), Outcome::Failed) => {
                sometimes!("bind failed and the assumed pod was forgotten");
                self.forget(uid, now);
                self.queue.retry(uid, now);
            }
            (Task::Bind(_), Outcome::Gone) => {
                self.forget(uid, now);
                self.queue.remove(uid);
            }
            (Task::Fail(failure), Outcome::Done) => self.queue.park(uid, failure.rejectors, &self.caches, now),
            (Task::Fail(_), Outcome::Failed) => self.queue.retry(uid, now),
            (Task::Fail(_), Outcome::Gone) => self.leave(uid, now),
        }
    }

    /// Moves what waited for time.
    pub fn advance(&mut self, now: Duration) {
        self.queue.advance(now);
    }

    /// Whether [`Scheduler::next`] has something to decide about.
    pub fn is_ready(&self) -> bool {
        !self.unsaid.is_empty() || self.queue.is_ready()
    }

    /// When to call [`Scheduler::advance`] next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.queue.next_deadline()
    }

    /// Numbers for whoever watches.
    pub fn summary(&self, now: Duration) -> Summary {
        let assumed = self
            .cache
            .assumed()
            .filter_map(|uid| self.cache.node_of(uid).map(|node| (uid.to_string(), node.name.to_string())));
        Summary {
            queue: self.queue.sizes(),
            oldest: self.queue.oldest(now),
            assumed: assumed.collect(),
            nodes: self.cache.node_count(),
            placed: self.cache.pod_count(),
            nominated: self.nominated.len(),
        }
    }

    fn put_placed(&mut self, pod: Arc<PodInfo>, now: Duration) {
        self.queue.remove(&pod.uid);
        self.unsaid.remove(&pod.uid);
        self.release(&pod.uid, Some(pod.node_name()), now);
        match self.cache.put_pod(pod.clone()) {
            None => self.observe(ClusterEvent::PodAdded(pod), now),
            Some(old) => {
                let differs = old.labels() != pod.labels()
                    || old.pod.is_terminating() != pod.pod.is_terminating()
                    || events::asks_less(&old, &pod);
                if differs {
                    self.observe(ClusterEvent::PodUpdated { old, new: pod }, now);
                }
            }
        }
    }

    fn put_waiting(&mut self, pod: Arc<PodInfo>, now: Duration) {
        if self.cache.is_assumed(&pod.uid) {
            // It was bound, or is being bound, and this is from before. In flight it is kept as it is now, in case that
            // the binding fails.
            if self.queue.place(&pod.uid).is_some() {
                self.queue.put(pod, &self.caches, now);
            }
            return;
        }
        if self.cache.pod(&pod.uid).is_some() {
            // Bound pods do not become unbound: this is a version from before.
            return;
        }
        self.renominate(&pod, now);
        if pod.is_gated() && !crate::writes::says_gated(&pod.pod) {
            self.unsaid.insert(pod.uid.clone(), pod.clone());
        } else {
            self.unsaid.remove(&pod.uid);
        }
        self.queue.put(pod, &self.caches, now);
    }

    /// Takes over the nomination that the pod's status names. Where none is named and none was, the one that was decided
    /// here holds: it is being written.
    fn renominate(&mut self, pod: &Arc<PodInfo>, now: Duration) {
        let before = self.queue.get(&pod.uid).map(|old| old.nominated_node_name().to_owned()).unwrap_or_default();
        let (held, named) = (self.nominated.node_of(&pod.uid).map(str::to_owned), pod.nominated_node_name());
        if !named.is_empty() && named != before {
            self.nominated.set(pod.clone(), named);
        } else if let Some(held) = held {
            if named.is_empty() && !before.is_empty() {
                self.release(&pod.uid, None, now);
            } else {
                self.nominated.set(pod.clone(), &held);
            }
        }
    }

    /// A pod is not to be scheduled any more. One that is being bound stays assumed until that has an end.
    fn leave(&mut self, uid: &str, now: Duration) {
        self.queue.remove(uid);
        self.unsaid.remove(uid);
        self.release(uid, None, now);
    }

    /// No node is held for a pod any more. Unless it is on that node now, others may have the place.
    fn release(&mut self, uid: &str, now_on: Option<&str>, now: Duration) {
        if let Some((pod, node)) = self.nominated.remove(uid)
            && now_on != Some(node.as_str())
        {
            sometimes!("node that was held for a pod is free again");
            self.observe(ClusterEvent::PodRemoved(pod), now);
        }
    }

    fn assume(&mut self, pod: &Arc<PodInfo>, node: &str, now: Duration) {
        self.cache.assume(pod.clone(), node);
        self.release(&pod.uid, Some(node), now);
    }

    fn forget(&mut self, uid: &str, now: Duration) {
        if let Some(pod) = self.cache.forget(uid) {
            self.observe(ClusterEvent::PodRemoved(pod), now);
        }
    }

    fn nominate(&mut self, pod: &Arc<PodInfo>, nomination: &Nomination, now: Duration) {
        match nomination {
            Nomination::Keep => {}
            Nomination::Clear => self.release(&pod.uid, None, now),
            Nomination::Preempt(preemption) => {
                self.release(&pod.uid, Some(&preemption.node), now);
                self.nominated.set(pod.clone(), &preemption.node);
                for other in &preemption.no_longer_nominated {
                    sometimes!("nomination of a less important pod was cleared");
                    // It may have held more than this pod needs.
                    self.release(&other.uid, None, now);
                }
            }
        }
    }

    fn observe(&mut self, event: ClusterEvent, now: Duration) {
        self.queue.observe(&event, &self.caches, now);
    }
}

#[cfg(test)]
mod tests;
