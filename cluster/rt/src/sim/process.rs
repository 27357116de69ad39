//! What runs a simulated process, and its tasks: polled and dropped under its context, panics caught, cost measured.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use madsim::runtime::NodeHandle;

use crate::context::{InContext, NodeContext};
use crate::task::JoinHandle;

use super::{profile, turmoil};

/// What runs a process's tasks. Each process has its own, which is never reused, so that a killed predecessor's tasks are
/// gone for good.
pub(crate) enum Executor {
    Madsim(NodeHandle),
    Turmoil(turmoil::Process),
}

impl NodeContext {
    /// Runs `future` as a task of this process.
    pub(crate) fn spawn<F>(self: &Arc<Self>, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let meter = self.world.meter(name);
        let task = InContext::new(self.clone(), future);
        let task = Task { task, node: self.clone(), name, meter };
        match &self.executor {
            Executor::Madsim(node) => JoinHandle::sim(node.spawn(task)),
            Executor::Turmoil(process) => process.spawn(task),
        }
    }
}

struct Task<F> {
    task: InContext<F>,
    node: Arc<NodeContext>,
    name: &'static str,
    /// Where its cost is counted, if it is.
    meter: Option<u32>,
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if let Executor::Turmoil(process) = &this.node.executor
            && !process.runs(cx)
        {
            return Poll::Pending;
        }
        if this.node.hung.hangs(this.name, cx) {
            return Poll::Pending;
        }
        let since = this.meter.map(|_| profile::ticks());
        let task = &mut this.task;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(task).poll(cx)));
        if let (Some(meter), Some(since)) = (this.meter, since) {
            this.node.world.measured(meter, since);
        }
        polled.unwrap_or_else(|payload| {
            // The process ends here; this task is dropped with its others and never polled again.
            this.node.world.panicked(&this.node, this.name, &*payload);
            Poll::Pending
        })
    }
}
