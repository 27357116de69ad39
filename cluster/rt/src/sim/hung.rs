//! Tasks that hang: by name, while all others of their process go on.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use super::lock;
use super::world::{HostId, World};

/// What hangs of one process.
#[derive(Default)]
pub(crate) struct Hung {
    /// Whether anything does: looked at whenever a task is polled.
    any: AtomicBool,
    /// By name of task, whom to wake when it goes on.
    tasks: Mutex<BTreeMap<String, Vec<Waker>>>,
}

impl Hung {
    /// Whether a task of this name hangs, now that it is polled: then it is polled again when it goes on.
    pub(super) fn hangs(&self, name: &str, cx: &Context<'_>) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut tasks = lock(&self.tasks);
        let Some(waiting) = tasks.get_mut(name) else { return false };
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        true
    }

    fn hang(&self, name: &str) {
        lock(&self.tasks).entry(name.to_owned()).or_default();
        self.any.store(true, Ordering::Relaxed);
    }

    fn go_on(&self, name: &str) {
        let waiting = {
            let mut tasks = lock(&self.tasks);
            let waiting = tasks.remove(name).unwrap_or_default();
            self.any.store(!tasks.is_empty(), Ordering::Relaxed);
            waiting
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Lets go of all wakers, which hold the tasks that hold this.
    pub(super) fn clear(&self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        drop(tasks);
    }
}

impl World {
    /// Lets every task that was or will be spawned as `task` in the process that runs on `host` stand still where it waits
    /// next, as a deadlock or an endless call does, until [`World::go_on`] or the process's end. Whatever it holds it keeps.
    /// Nothing happens if no process runs there.
    pub fn hang(&self, host: HostId, task: &str) {
        let node = self.host(host).running.clone();
        node.inspect(|node| node.hung.hang(task));
    }

    /// Lets tasks go on that [`World::hang`] stopped.
    pub fn go_on(&self, host: HostId, task: &str) {
        let node = self.host(host).running.clone();
        node.inspect(|node| node.hung.go_on(task));
    }
}
