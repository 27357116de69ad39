//! [`HollowFaults`]: what a trial does to the containers of one node while they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Handle by which a trial hurts the containers of one node. It outlives the node's processes: hold it outside of them.
/// Clones are the same handle.
#[derive(Clone, Default)]
pub struct HollowFaults(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    running: BTreeMap<Target, Running>,
    lasting: BTreeMap<Target, Lasting>,
    shots: BTreeMap<Target, Shot>,
    /// Images, by the beginning of their names, that cannot be pulled.
    pulls: BTreeSet<String>,
    /// There is nowhere to pull from.
    registry_is_gone: bool,
}

/// A container of a pod: it stays the same over restarts of the container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The pod's UID.
    pub pod_uid: String,
    /// The container's name.
    pub container: String,
}

/// A container that runs, for those who choose whom to hurt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's id.
    pub id: String,
    /// Its image.
    pub image: String,
}

/// What is done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends now with this exit code.
    Crash(i32),
    /// It ends now: 137, OOMKilled.
    OutOfMemory,
    /// It accepts connections and never answers, until cleared.
    Hang,
    /// It answers 503 on `/healthz` and `/readyz`, until cleared.
    Unready,
    /// It answers only after so long, until cleared.
    Slow(Duration),
    /// It is unready for so long, then ready for so long, and so on, until cleared.
    Flap(Duration),
    /// It does not end when asked to, until cleared.
    IgnoreTerm,
}

/// What lasts until it is cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lasting {
    pub(super) hang: bool,
    pub(super) unready: bool,
    pub(super) slow: Option<Duration>,
    pub(super) flap: Option<Duration>,
    pub(super) ignore_term: bool,
}

/// What ends a container now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shot {
    Crash(i32),
    OutOfMemory,
}

impl HollowFaults {
    /// A handle of a node on which all is well.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does something to a container. False if it does not run now: crashes are lost then, the others wait for it.
    pub fn inject(&self, target: &Target, fault: Fault) -> bool {
        let runs = {
            let mut inner = self.lock();
            let runs = inner.running.contains_key(target);
            let shot = |code| Shot::Crash(code);
            match fault {
                Fault::Crash(code) if runs => drop(inner.shots.insert(target.clone(), shot(code))),
                Fault::OutOfMemory if runs => drop(inner.shots.insert(target.clone(), Shot::OutOfMemory)),
                Fault::Crash(_) | Fault::OutOfMemory => {}
                Fault::Hang => inner.lasting.entry(target.clone()).or_default().hang = true,
                Fault::Unready => inner.lasting.entry(target.clone()).or_default().unready = true,
                Fault::Slow(by) => inner.lasting.entry(target.clone()).or_default().slow = Some(by),
                Fault::Flap(every) => inner.lasting.entry(target.clone()).or_default().flap = Some(every),
                Fault::IgnoreTerm => inner.lasting.entry(target.clone()).or_default().ignore_term = true,
            }
            runs
        };
        self.0.changed.notify_waiters();
        runs
    }

    /// Ends whatever lasts of what was done to a container.
    pub fn clear(&self, target: &Target) {
        self.lock().lasting.remove(target);
        self.0.changed.notify_waiters();
    }

    /// Ends whatever lasts of what was done to any container, and lets all images be pulled again.
    pub fn clear_all(&self) {
        {
            let mut inner = self.lock();
            inner.lasting.clear();
            inner.pulls.clear();
            inner.registry_is_gone = false;
        }
        self.0.changed.notify_waiters();
    }

    /// Images whose names begin with this cannot be pulled from now on, nor taken from what was pulled before.
    pub fn fail_pulls(&self, beginning: &str) {
        self.lock().pulls.insert(beginning.to_owned());
    }

    /// Ends [`HollowFaults::fail_pulls`].
    pub fn allow_pulls(&self, beginning: &str) {
        self.lock().pulls.remove(beginning);
    }

    /// Images that the node does not have cannot be pulled from now on, until all is cleared.
    pub fn take_registry(&self) {
        self.lock().registry_is_gone = true;
    }

    /// What runs on the node, in order. While its process is down, what ran then.
    pub fn running(&self) -> Vec<(Target, Running)> {
        self.lock().running.iter().map(|(target, running)| (target.clone(), running.clone())).collect()
    }

    /// A new process begins: nothing runs in it yet.
    pub(super) fn begin_anew(&self) {
        let mut inner = self.lock();
        inner.running.clear();
        inner.shots.clear();
    }

    pub(super) fn has_registry(&self) -> bool {
        !self.lock().registry_is_gone
    }

    pub(super) fn refuses_pull(&self, image: &str) -> bool {
        self.lock().pulls.iter().any(|beginning| image.starts_with(beginning))
    }

    pub(super) fn begins(&self, target: &Target, running: Running) {
        self.lock().running.insert(target.clone(), running);
    }

    pub(super) fn ends(&self, target: &Target, id: &str) {
        let mut inner = self.lock();
        if inner.running.get(target).is_some_and(|running| running.id == id) {
            inner.running.remove(target);
            inner.shots.remove(target);
        }
    }

    /// What lasts of a container that will never come back is forgotten with it.
    pub(super) fn forget(&self, pod_uid: &str) {
        let mut inner = self.lock();
        inner.lasting.retain(|target, _| target.pod_uid != pod_uid);
        inner.running.retain(|target, _| target.pod_uid != pod_uid);
    }

    pub(super) fn lasting(&self, target: &Target) -> Lasting {
        self.lock().lasting.get(target).copied().unwrap_or_default()
    }

    pub(super) fn take_shot(&self, target: &Target) -> Option<Shot> {
        self.lock().shots.remove(target)
    }

    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
