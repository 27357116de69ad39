//! Whose task is running: the [`NodeContext`] that follows every task of a simulated process.
//!
//! It is on the thread during every poll *and every drop* of such a task, so that a destructor too sees its own node's
//! clock, network and disk. A thread without one gets the real backend.
//!
//! **Invariant:** a task never runs, nor is dropped, under another process's context
//! (`a_drop_sees_its_own_node` in tests/processes.rs).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::disk::SimDisk;
use crate::random::{Random, seed_of};
use crate::sim::{Executor, HostId, Hung, World};

/// What a simulated process is and has: one per start of a process, shared by all its tasks.
pub(crate) struct NodeContext {
    /// The host's name.
    pub(crate) name: Arc<str>,
    /// The host that it runs on.
    pub(crate) host: HostId,
    /// How often a process was started on this host, this one included: tells it from its predecessors.
    pub(crate) process: u64,
    /// The simulation that it lives in.
    pub(crate) world: World,
    /// The host's disk.
    pub(crate) disk: Arc<SimDisk>,
    /// What runs its tasks.
    pub(crate) executor: Executor,
    /// Its tasks that hang.
    pub(crate) hung: Hung,
    /// How often each stream was asked for.
    streams: Mutex<BTreeMap<String, u64>>,
}

impl NodeContext {
    pub(crate) fn new(
        world: World,
        host: HostId,
        name: Arc<str>,
        process: u64,
        disk: Arc<SimDisk>,
        executor: Executor,
    ) -> Arc<NodeContext> {
        Arc::new(NodeContext {
            name,
            host,
            process,
            world,
            disk,
            executor,
            hung: Hung::default(),
            streams: Mutex::default(),
        })
    }

    /// The stream `name` of this process, each time another.
    pub(crate) fn random(&self, name: &str) -> Random {
        let mut streams = crate::sim::lock(&self.streams);
        let count = match streams.get_mut(name) {
            Some(count) => count,
            None => streams.entry(name.to_owned()).or_default(),
        };
        *count += 1;
        let parts: [&[u8]; 5] =
            [b"process", self.name.as_bytes(), &self.process.to_le_bytes(), name.as_bytes(), &count.to_le_bytes()];
        Random::from_seed(seed_of(self.world.seed(), &parts))
    }
}

thread_local!(static CURRENT: RefCell<Option<Arc<NodeContext>>> = const { RefCell::new(None) });

/// The context of the task that is running on this thread, if it is a simulated one.
pub(crate) fn current() -> Option<Arc<NodeContext>> {
    CURRENT.with_borrow(Clone::clone)
}

/// As [`current`], for a look at it.
pub(crate) fn with<R>(look: impl FnOnce(&NodeContext) -> R) -> Option<R> {
    CURRENT.with_borrow(|current| current.as_deref().map(look))
}

/// Puts a context on the thread, and what was there before back when dropped.
struct Entered<'a>(&'a mut Option<Arc<NodeContext>>);

impl<'a> Entered<'a> {
    /// Swaps instead of cloning: this happens at each poll of each task.
    fn new(node: &'a mut Option<Arc<NodeContext>>) -> Self {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, node));
        Entered(node)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, self.0));
    }
}

/// What `look` returns when it is called under a context: it sees that node's clocks.
pub(crate) fn under<R>(node: Arc<NodeContext>, look: impl FnOnce() -> R) -> R {
    let mut node = Some(node);
    let _entered = Entered::new(&mut node);
    look()
}

/// A future that is polled and dropped under a context.
pub(crate) struct InContext<F> {
    node: Option<Arc<NodeContext>>,
    /// Empty only while it is dropped.
    future: Option<Pin<Box<F>>>,
}

impl<F> InContext<F> {
    pub(crate) fn new(node: Arc<NodeContext>, future: F) -> Self {
        InContext { node: Some(node), future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = Entered::new(&mut this.node);
        this.future.as_mut().expect("only a drop takes it").as_mut().poll(cx)
    }
}

impl<F> Drop for InContext<F> {
    fn drop(&mut self) {
        let _entered = Entered::new(&mut self.node);
        self.future = None;
    }
}
