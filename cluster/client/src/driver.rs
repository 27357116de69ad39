//! The driver: one loop that runs every controller.
//!
//! ```text
//! elected ──▶ informers list what is not older than the election ──▶ per controller, one task:
//!
//!   changes ──keys──▶ queue ──due──▶ reconcile ──▶ Plan ──▶ writes, one by one, until the first that fails
//!                       ▲                                      │ definite, and seen by the caches (barrier)
//!                       └── again: after a while, or backoff ◀─┘
//!
//! lost ──▶ all of it is dropped at once
//! ```
//!
//! **Invariant:** a process performs a controller's writes only while it believes that it leads (the term's client keeps
//! it), and marks each of them before and after (`mark::effect`).

use crate::barrier::{Barrier, Failure, Seen};
use crate::changes::Change;
use crate::client::{Boxed, Client};
use crate::clock::Clock;
use crate::controller::{Controller, Key, Watch};
use crate::events::Recorder;
use crate::informer::{Following, FollowingView, Informers};
use crate::leader::{Elector, Fence, LeaseConfig, Term};
use crate::plan::{Plan, Waiting};
use crate::queue::{Outcome, Queue};
use crate::write::Write;
use api::{Resource, Status};
use mark::sometimes;
use rt::task::AbortOnDrop;
use rt::time::{Instant, sleep_until};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Keys of one controller that are worked on at once: upstream's controllers have 5 or more workers each.
const IN_FLIGHT: usize = 8;
/// Keys that are looked at before other tasks have their turn.
const BURST: usize = 64;
/// The shortest delay that a plan can ask for, so that one which asks for none does not stop the clock.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// How controllers are run.
#[derive(Clone)]
pub struct DriverConfig {
    /// Which Lease makes a process the one that runs them.
    pub lease: LeaseConfig,
    /// This host, as the source of Events.
    pub host: String,
    /// By which the driver is observed and stopped.
    pub view: Arc<DriverHandle>,
}

impl DriverConfig {
    /// With a new handle.
    pub fn new(lease: LeaseConfig, host: &str) -> Self {
        Self { lease, host: host.to_owned(), view: Arc::default() }
    }
}

/// Observes a driver, and stops it.
#[derive(Default)]
pub struct DriverHandle {
    session: Mutex<Option<Session>>,
    stopped: AtomicBool,
    stop: Notify,
}

/// What there is while this process leads.
struct Session {
    fence: Fence,
    following: Following,
    clock: Clock,
    works: Vec<(&'static str, Arc<Mutex<Work>>)>,
}

/// A driver at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverView {
    /// In which epoch this process leads, if it does.
    pub leading: Option<Fence>,
    /// What its informers know; nothing while it does not lead.
    pub informers: FollowingView,
    /// The controllers, in the order in which they were given; none while it does not lead.
    pub controllers: Vec<QueueView>,
}

/// The queue of one controller at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Which controller.
    pub controller: &'static str,
    /// Keys that are due.
    pub ready: usize,
    /// Keys that are to be looked at later.
    pub delayed: usize,
    /// Keys whose writes are under way, or not seen yet.
    pub running: usize,
    /// For how long the key that waits longest has been due.
    pub oldest: Duration,
    /// Why nothing more happens now, by key, as its last plan said.
    pub waiting: BTreeMap<Key, Vec<Waiting>>,
}

impl DriverHandle {
    /// A plain snapshot.
    pub fn view(&self) -> DriverView {
        let session = lock(&self.session);
        let Some(session) = &*session else { return DriverView::default() };
        let now = session.clock.now().monotonic;
        let view = |(controller, work): &(&'static str, Arc<Mutex<Work>>)| {
            let work = lock(work);
            QueueView {
                controller,
                ready: work.queue.ready(now),
                delayed: work.queue.delayed(now),
                running: work.queue.running(),
                oldest: work.queue.oldest(now),
                waiting: work.waiting.clone(),
            }
        };
        let controllers = session.works.iter().map(view).collect();
        DriverView { leading: Some(session.fence.clone()), informers: session.following.view(), controllers }
    }

    /// What the driver's informers know, while it leads.
    pub fn following(&self) -> Option<Following> {
        lock(&self.session).as_ref().map(|session| session.following.clone())
    }

    /// Has the driver stop, give up its Lease and return.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.stop.notify_waiters();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    async fn wait_stopped(&self) {
        let mut stop = std::pin::pin!(self.stop.notified());
        stop.as_mut().enable();
        if !self.is_stopped() {
            stop.await;
        }
    }
}

/// A controller, from one term to the next.
type Shared = Arc<Mutex<Box<dyn Controller>>>;

/// Runs `controllers` whenever this process is the leader. Returns only after [`DriverHandle::stop`].
///
/// When the leadership is lost, everything is dropped at once, and this process becomes a candidate again. Likewise if a
/// controller panics, where that does not end the process.
pub async fn run_controllers(config: DriverConfig, client: Client, controllers: Vec<Box<dyn Controller>>) {
    boxed(config, client, controllers).await;
}

/// See [`Boxed`]: callers do not compile the whole driver.
fn boxed(config: DriverConfig, client: Client, controllers: Vec<Box<dyn Controller>>) -> Boxed<'static, ()> {
    Box::pin(run(config, client, controllers))
}

async fn run(config: DriverConfig, client: Client, controllers: Vec<Box<dyn Controller>>) {
    let controllers: Vec<Shared> = controllers.into_iter().map(|controller| Arc::new(Mutex::new(controller))).collect();
    let clock = Clock::new();
    let mut elector = Elector::new(client, config.lease.clone());
    while !config.view.is_stopped() {
        let held = tokio::select! {
            biased;
            () = config.view.wait_stopped() => return,
            held = elector.acquire() => held,
        };
        elector.hold(held, |term| lead(term, &config, &controllers, clock)).await;
        tokio::select! {
            biased;
            () = config.view.wait_stopped() => return,
            () = elector.pause() => {}
        }
    }
}

/// One term, until it is stopped, a newer epoch is found to write, or a controller panicked.
async fn lead(term: Term, config: &DriverConfig, controllers: &[Shared], clock: Clock) {
    let mut informers = Informers::new(term.client.clone());
    informers.not_before(term.revision);
    let mut parts = Vec::new();
    for controller in controllers {
        let mut this = lock(controller);
        this.restart();
        let watches = this.watches();
        watches.iter().for_each(|watch| watch.follow(&mut informers));
        parts.push((this.name(), watches, controller.clone(), Arc::new(Mutex::new(Work::default()))));
    }
    let following = informers.start();
    let works = parts.iter().map(|(name, _, _, work)| (*name, work.clone())).collect();
    let session = Session { fence: term.fence.clone(), following: following.clone(), clock, works };
    let _open = Open::new(&config.view, session);
    tokio::select! {
        biased;
        () = config.view.wait_stopped() => return,
        () = following.synced() => {}
    }
    let recorder = Recorder::new(term.client.clone(), "", &config.host);
    let start = |(name, watches, controller, work)| {
        let recorder = recorder.named(name);
        let (client, following) = (term.client.clone(), following.clone());
        let worker = Worker { name, watches, controller, work, client, following, recorder, clock };
        rt::task::spawn("controller", worker.run()).abort_on_drop()
    };
    let mut tasks: Vec<AbortOnDrop<()>> = parts.into_iter().map(start).collect();
    tokio::select! {
        biased;
        () = config.view.wait_stopped() => {}
        () = any_ended(&mut tasks) => {}
    }
}

/// Completes when one of `tasks` ends, in whatever way.
async fn any_ended(tasks: &mut [AbortOnDrop<()>]) {
    std::future::poll_fn(|cx| {
        let ended = tasks.iter_mut().any(|task| Pin::new(task).poll(cx).is_ready());
        if ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// A session that is observable until this is dropped.
struct Open<'a>(&'a DriverHandle);

impl<'a> Open<'a> {
    fn new(handle: &'a DriverHandle, session: Session) -> Self {
        *lock(&handle.session) = Some(session);
        Self(handle)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Taken out first, so that informers do not end under the lock.
        let session = lock(&self.0.session).take();
        drop(session);
    }
}

/// What one controller has to do.
#[derive(Default)]
struct Work {
    queue: Queue,
    waiting: BTreeMap<Key, Vec<Waiting>>,
}

/// Runs one controller for one term.
struct Worker {
    name: &'static str,
    watches: Vec<Watch>,
    controller: Shared,
    work: Arc<Mutex<Work>>,
    client: Client,
    following: Following,
    recorder: Recorder,
    clock: Clock,
}

/// What came of a plan's writes.
struct Settled {
    key: Key,
    outcome: Outcome,
    refused: Option<(Write, Box<Status>)>,
    stale: bool,
}

impl Worker {
    /// Returns only if a newer epoch is found to write.
    async fn run(self) {
        let mut resources: Vec<&'static Resource> =
            self.watches.iter().filter(|watch| !watch.is_lookup()).map(Watch::resource).collect();
        resources.dedup();
        let mut subscription = self.following.subscribe_to(&resources);
        let (sender, mut settled) = mpsc::channel::<Settled>(IN_FLIGHT);
        let mut performing: BTreeMap<Key, AbortOnDrop<()>> = BTreeMap::new();
        loop {
            let due = self.start_due(&mut performing, &sender);
            tokio::select! {
                biased;
                Some(settled) = settled.recv() => {
                    performing.remove(&settled.key);
                    if settled.stale {
                        sometimes!("driver finds a newer epoch");
                        return;
                    }
                    self.settle(settled);
                }
                changes = subscription.next() => self.enqueue(&changes),
                () = until(due) => {}
            }
            // A burst of changes or of keys must not hold up others.
            rt::task::yield_now().await;
        }
    }

    /// Queues the keys that changes concern.
    fn enqueue(&self, changes: &[Change]) {
        let caches = self.following.caches();
        let now = self.clock.now().monotonic;
        let mut work = lock(&self.work);
        for change in changes {
            for watch in self.watches.iter().filter(|watch| watch.resource() == change.resource) {
                for object in change.old_any().into_iter().chain(change.new_any()) {
                    watch.keys(&caches, object).into_iter().for_each(|key| work.queue.add(key, now));
                }
            }
        }
    }

    /// Plans for keys that are due, as many as may be under way. Returns when to do so again if nothing else happens.
    fn start_due(
        &self,
        performing: &mut BTreeMap<Key, AbortOnDrop<()>>,
        sender: &mpsc::Sender<Settled>,
    ) -> Option<Instant> {
        for _ in 0..BURST {
            let now = self.clock.now();
            let mut work = lock(&self.work);
            if work.queue.running() >= IN_FLIGHT {
                return None;
            }
            let Some(key) = work.queue.pop(now.monotonic) else { break };
            drop(work);
            let caches = self.following.caches();
            let plan = lock(&self.controller).reconcile(&caches, &key, now);
            plan.seen.iter().for_each(|note| self.recorder.record(note));
            let mut work = lock(&self.work);
            if plan.waiting.is_empty() {
                work.waiting.remove(&key);
            } else {
                work.waiting.insert(key.clone(), plan.waiting.clone());
            }
            if plan.is_empty() {
                plan.notes.iter().for_each(|note| self.recorder.record(note));
                work.queue.done(&key, after(&plan), now.monotonic);
                continue;
            }
            drop(work);
            let random = rt::random::stream("barrier");
            let barrier = Barrier::new(self.client.clone(), self.following.clone(), random);
            let perform = perform(self.name, key.clone(), plan, barrier, self.recorder.clone(), sender.clone());
            performing.insert(key, rt::task::spawn("perform", perform).abort_on_drop());
        }
        lock(&self.work).queue.next_due().map(|due| self.clock.instant(due))
    }

    fn settle(&self, settled: Settled) {
        if let Some((write, status)) = &settled.refused {
            tracing::debug!(controller = self.name, key = %settled.key, ?write, %status, "a write was refused");
            lock(&self.controller).refused(&settled.key, write, status);
        }
        let now = self.clock.now().monotonic;
        lock(&self.work).queue.done(&settled.key, settled.outcome, now);
    }
}

/// Performs a plan's writes up to the first that fails, and waits until all that was written is in the caches.
async fn perform(
    controller: &'static str,
    key: Key,
    plan: Plan,
    mut barrier: Barrier,
    recorder: Recorder,
    sender: mpsc::Sender<Settled>,
) {
    let name = key.to_string();
    let mut settled = Settled { key, outcome: after(&plan), refused: None, stale: false };
    let mut seen: Vec<Seen> = Vec::new();
    for (index, write) in (0..).zip(&plan.writes) {
        mark::effect(controller, &name, index, true);
        let result = barrier.perform(write).await;
        mark::effect(controller, &name, index, false);
        match result {
            Ok(done) => {
                seen.extend(done.seen);
                if done.again {
                    settled.outcome = Outcome::Again;
                }
                continue;
            }
            Err(Failure::Conflict(first)) => {
                sometimes!("plan meets a conflict");
                seen.extend(first);
                settled.outcome = Outcome::Conflict;
            }
            Err(Failure::Refused(status)) => {
                settled.outcome = Outcome::Failed;
                settled.refused = Some((write.clone(), status));
            }
            Err(Failure::Unreachable(why)) => {
                tracing::debug!(controller, key = name, ?write, why, "a write failed");
                settled.outcome = Outcome::Failed;
            }
            Err(Failure::Stale) => settled.stale = true,
        }
        // A second failure in the same plan would cost as much and say the same.
        break;
    }
    let whole = matches!(settled.outcome, Outcome::Done(_) | Outcome::Again) && !settled.stale;
    if whole {
        plan.notes.iter().for_each(|note| recorder.record(note));
    }
    if !settled.stale {
        barrier.wait(&seen).await;
    }
    // A worker that is gone needs no answer.
    let _ = sender.send(settled).await;
}

/// What a plan asks for when all of it was done.
fn after(plan: &Plan) -> Outcome {
    Outcome::Done(plan.requeue_after.map(|after| after.max(SHORTEST_DELAY)))
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
