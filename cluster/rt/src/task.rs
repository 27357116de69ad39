//! Tasks: spawning, joining and aborting them, and the program's outermost loop.
//!
//! A spawned task belongs to the process of the task that spawned it. In the simulator it dies with that process, and a
//! panic in it ends the process; on a real machine a panic ends the task and shows in its [`JoinHandle`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs `future` beside the caller, from now on. `name` is for logs and for a trial's CPU profile.
///
/// Panics on a real machine outside of [`block_on`], and outside of a tokio runtime.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[cfg(madsim)]
    if let Some(node) = crate::context::current() {
        return node.spawn(name, future);
    }
    let _ = name;
    JoinHandle(Join::Real(tokio::spawn(future)))
}

/// A task's end, to be awaited. Dropping it lets the task run on.
pub struct JoinHandle<T>(Join<T>);

enum Join<T> {
    Real(tokio::task::JoinHandle<T>),
    #[cfg(madsim)]
    Sim(madsim::task::JoinHandle<T>),
    /// Of a task that was to run in a process that is gone.
    #[cfg(madsim)]
    Gone,
}

impl<T> JoinHandle<T> {
    #[cfg(madsim)]
    pub(crate) fn sim(handle: madsim::task::JoinHandle<T>) -> Self {
        JoinHandle(Join::Sim(handle))
    }

    #[cfg(madsim)]
    pub(crate) fn tokio(handle: tokio::task::JoinHandle<T>) -> Self {
        JoinHandle(Join::Real(handle))
    }

    #[cfg(madsim)]
    pub(crate) fn gone() -> Self {
        JoinHandle(Join::Gone)
    }

    /// Drops the task where it waits, soon. One that has ended is not affected.
    pub fn abort(&self) {
        match &self.0 {
            Join::Real(handle) => handle.abort(),
            #[cfg(madsim)]
            Join::Sim(handle) => handle.abort(),
            #[cfg(madsim)]
            Join::Gone => {}
        }
    }

    /// Whether the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Join::Real(handle) => handle.is_finished(),
            #[cfg(madsim)]
            Join::Sim(handle) => handle.is_finished(),
            #[cfg(madsim)]
            Join::Gone => true,
        }
    }

    /// The same task, which is now aborted when the handle is dropped.
    pub fn abort_on_drop(self) -> AbortOnDrop<T> {
        AbortOnDrop(self)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Join::Real(handle) => Pin::new(handle).poll(cx).map_err(|error| JoinError { panicked: error.is_panic() }),
            #[cfg(madsim)]
            Join::Sim(handle) => Pin::new(handle).poll(cx).map_err(|_| JoinError { panicked: false }),
            #[cfg(madsim)]
            Join::Gone => Poll::Ready(Err(JoinError { panicked: false })),
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish()
    }
}

/// A [`JoinHandle`] whose task is aborted when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it aborts the task"]
pub struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    /// As [`JoinHandle::abort`].
    pub fn abort(&self) {
        self.0.abort();
    }

    /// As [`JoinHandle::is_finished`].
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A task did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinError {
    panicked: bool,
}

impl JoinError {
    /// It panicked. Never in the simulator, where that ends the whole process.
    pub fn is_panic(self) -> bool {
        self.panicked
    }

    /// It was aborted, or its process ended.
    pub fn is_cancelled(self) -> bool {
        !self.panicked
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.panicked { "the task panicked" } else { "the task was aborted" })
    }
}

impl std::error::Error for JoinError {}

/// Lets other tasks that are ready run first.
pub async fn yield_now() {
    tokio::task::yield_now().await;
}

/// Runs `work`, which takes CPU time or blocks, without holding up other tasks: on a thread for such work, or in the
/// simulator, where computing takes no time, right here after a [`yield_now`].
///
/// On a real machine `work` runs to its end even if the caller is dropped; a panic in it is passed on to the caller.
pub async fn unblock<T>(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> T
where
    T: Send + 'static,
{
    #[cfg(madsim)]
    if crate::context::current().is_some() {
        yield_now().await;
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => panic!("{name}: the runtime is shutting down under it"),
        },
    }
}

/// Runs `future` to its end on a real multi-threaded runtime: for mains and for tests of the real backend. Tasks that
/// still run then are dropped.
///
/// Panics in a simulation, and if the system refuses the threads.
pub fn block_on<F: Future>(future: F) -> F::Output {
    #[cfg(madsim)]
    assert!(crate::context::current().is_none(), "block_on is for real machines");
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a program that cannot have threads cannot begin")
        .block_on(future)
}

/// Completes when the system asks the process to end: SIGTERM, or SIGINT as a terminal's ctrl-c sends it. Never in the
/// simulator.
pub async fn shutdown_signal() {
    #[cfg(madsim)]
    if crate::context::current().is_some() {
        return std::future::pending().await;
    }
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the system ends the process itself.
        _ => std::future::pending().await,
    }
}
