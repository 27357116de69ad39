//! The shell: events in, one scheduling cycle at a time, jobs performed beside it.
//!
//! ```text
//! elected ──▶ informers list what is not older than the election ──▶ loop:
//!   changes of pods, nodes, ... ──▶ Scheduler ──next()──▶ Job ──▶ task (at most 64) ──▶ Outcome ──▶ Scheduler
//! lost ──▶ all of it is dropped at once
//! ```

use crate::perform::{Deposed, Performer};
use crate::pod::DEFAULT_SCHEDULER;
use crate::scheduler::{Job, Outcome, Scheduler, Summary};
use api::ObjectExt;
use api::apps::v1::ReplicaSet;
use api::core::v1::{Namespace, Node, Pod, ReplicationController, Service};
use api::policy::v1::PodDisruptionBudget;
use api::scheduling::v1::PriorityClass;
use client::{Change, Client, Clock, Elector, Fence, Following, Informers, LeaseConfig, Recorder, Term};
use mark::sometimes;
use rt::random::Random;
use rt::task::AbortOnDrop;
use rt::time::{sleep, sleep_until};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Jobs that are performed at once. Upstream binds without a bound; so many keep an API server busy across a round trip,
/// and leave room for others.
const MAX_JOBS: usize = 64;
/// Cycles before other tasks have their turn.
const BURST: usize = 16;
/// How long a scheduler that was stopped may take to give its Lease up.
const STOP: Duration = Duration::from_secs(3);

/// How pods are scheduled.
#[derive(Clone)]
pub struct SchedulerConfig {
    /// Pods that name this scheduler are its own.
    pub scheduler: String,
    /// Which Lease makes a process the one that schedules.
    pub lease: LeaseConfig,
    /// This host, as the source of Events.
    pub host: String,
    /// By which the scheduler is observed and stopped.
    pub handle: SchedulerHandle,
}

impl SchedulerConfig {
    /// The default scheduler, with the Lease `kube-system/kube-scheduler` and a new handle. `identity` and `host` name
    /// this process in the Lease and in Events.
    pub fn new(identity: &str, host: &str) -> Self {
        Self {
            scheduler: DEFAULT_SCHEDULER.to_owned(),
            lease: LeaseConfig::new("kube-system", "kube-scheduler", identity),
            host: host.to_owned(),
            handle: SchedulerHandle::default(),
        }
    }
}

/// Observes a scheduler, and stops it.
#[derive(Clone, Default)]
pub struct SchedulerHandle(Arc<Inner>);

#[derive(Default)]
struct Inner {
    session: Mutex<Option<Session>>,
    stopped: AtomicBool,
    stop: Notify,
}

/// What there is while this process leads.
struct Session {
    fence: Fence,
    following: Following,
    core: Arc<Mutex<Scheduler>>,
    clock: Clock,
}

/// A scheduler at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerView {
    /// In which epoch this process leads, if it does; else the rest is empty.
    pub leading: Option<Fence>,
    /// What its informers know.
    pub informers: client::FollowingView,
    /// Its queues and what it assumes.
    pub summary: Summary,
}

impl SchedulerHandle {
    /// A plain snapshot.
    pub fn view(&self) -> SchedulerView {
        let session = lock(&self.0.session);
        let Some(session) = &*session else { return SchedulerView::default() };
        SchedulerView {
            leading: Some(session.fence.clone()),
            informers: session.following.view(),
            summary: lock(&session.core).summary(session.clock.now().monotonic),
        }
    }

    /// What the scheduler's informers know, while it leads.
    pub fn following(&self) -> Option<Following> {
        lock(&self.0.session).as_ref().map(|session| session.following.clone())
    }

    /// Has the scheduler stop, give up its Lease and return.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.stop.notify_waiters();
    }

    async fn stopped(&self) {
        let mut stop = std::pin::pin!(self.0.stop.notified());
        stop.as_mut().enable();
        if !self.0.stopped.load(Ordering::SeqCst) {
            stop.await;
        }
    }
}

/// Schedules pods whenever this process is the leader. Returns only after [`SchedulerHandle::stop`].
///
/// When the leadership is lost, everything is dropped at once, and this process becomes a candidate again.
pub async fn run(config: SchedulerConfig, client: Client) {
    let elector = Elector::new(client, config.lease.clone());
    let stopped = async {
        config.handle.stopped().await;
        // The term that ends by it gives the Lease up meanwhile.
        sleep(STOP).await;
    };
    tokio::select! {
        biased;
        () = stopped => {}
        () = elector.run(|term| lead(term, &config)) => {}
    }
}

/// One term, until it is stopped or a newer epoch is found to write.
async fn lead(term: Term, config: &SchedulerConfig) {
    let mut informers = Informers::new(term.client.clone());
    // Nothing is decided by what an earlier leader has overtaken: its writes are refused from this revision on.
    informers.not_before(term.revision);
    informers.follow::<Pod>();
    informers.follow::<Node>();
    informers.follow::<PriorityClass>();
    informers.follow::<PodDisruptionBudget>();
    informers.follow::<Service>();
    informers.follow::<ReplicaSet>();
    informers.follow::<ReplicationController>();
    informers.follow::<Namespace>();
    let following = informers.start();
    let core = Arc::new(Mutex::new(Scheduler::new(&config.scheduler)));
    let clock = Clock::new();
    let session = Session { fence: term.fence.clone(), following: following.clone(), core: core.clone(), clock };
    let _open = Open::new(&config.handle, session);
    let recorder = Recorder::new(term.client.clone(), &config.scheduler, &config.host);
    let performer = Performer { client: term.client, recorder, scheduler: config.scheduler.clone() };
    let work = async {
        following.synced().await;
        Loop::new(core, clock, performer).run(&following).await;
    };
    tokio::select! {
        biased;
        () = config.handle.stopped() => {}
        () = work => {}
    }
}

/// A session that is observable until this is dropped.
struct Open<'a>(&'a SchedulerHandle);

impl<'a> Open<'a> {
    fn new(handle: &'a SchedulerHandle, session: Session) -> Self {
        *lock(&handle.0.session) = Some(session);
        Self(handle)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Taken out first, so that informers do not end under the lock.
        let session = lock(&self.0.0.session).take();
        drop(session);
    }
}

/// What came of a job, and which it was.
struct Finished {
    number: u64,
    outcome: Result<Outcome, Deposed>,
}

struct Loop {
    core: Arc<Mutex<Scheduler>>,
    clock: Clock,
    performer: Performer,
    random: Random,
    jobs: BTreeMap<u64, (Job, AbortOnDrop<()>)>,
    next_number: u64,
    sender: mpsc::Sender<Finished>,
    finished: mpsc::Receiver<Finished>,
}

impl Loop {
    fn new(core: Arc<Mutex<Scheduler>>, clock: Clock, performer: Performer) -> Self {
        let (sender, finished) = mpsc::channel(MAX_JOBS);
        let random = rt::random::stream("scheduler");
        Self { core, clock, performer, random, jobs: BTreeMap::new(), next_number: 0, sender, finished }
    }

    /// Returns only if a newer epoch is found to write.
    async fn run(mut self, following: &Following) {
        let mut subscription = following.subscribe();
        loop {
            self.start_jobs();
            let (ready, deadline) = {
                let core = lock(&self.core);
                (core.is_ready() && self.jobs.len() < MAX_JOBS, core.next_deadline())
            };
            tokio::select! {
                biased;
                Some(finished) = self.finished.recv() => {
                    if self.finish(&finished).is_err() {
                        sometimes!("scheduler finds a newer epoch");
                        return;
                    }
                }
                changes = subscription.next() => {
                    let now = self.clock.now().monotonic;
                    apply(&mut lock(&self.core), &changes, following, now);
                }
                () = std::future::ready(()), if ready => {}
                () = wait_until(self.clock, deadline), if !ready => {
                    lock(&self.core).advance(self.clock.now().monotonic);
                }
            }
            // A burst of pods must not hold up those who bind them.
            rt::task::yield_now().await;
        }
    }

    /// Some cycles, and their jobs.
    fn start_jobs(&mut self) {
        for _ in 0..BURST {
            if self.jobs.len() >= MAX_JOBS {
                sometimes!("scheduler waits because many pods are being bound");
                return;
            }
            let now = self.clock.now().monotonic;
            let Some(job) = lock(&self.core).next(now, self.random.next_u64()) else { return };
            let number = self.next_number;
            self.next_number += 1;
            let (performer, sender, random) = (self.performer.clone(), self.sender.clone(), self.fork());
            let done = job.clone();
            let task = async move {
                let outcome = performer.perform(&done, random).await;
                // A scheduler that is gone needs no answer.
                let _ = sender.send(Finished { number, outcome }).await;
            };
            self.jobs.insert(number, (job, rt::task::spawn("scheduler-job", task).abort_on_drop()));
        }
    }

    fn finish(&mut self, finished: &Finished) -> Result<(), Deposed> {
        let Some((job, _)) = self.jobs.remove(&finished.number) else { return Ok(()) };
        let outcome = finished.outcome.as_ref().map_err(|deposed| *deposed)?;
        lock(&self.core).finish(&job, outcome, self.clock.now().monotonic);
        Ok(())
    }

    /// Random numbers for one job.
    fn fork(&mut self) -> Random {
        Random::from_seed(self.random.next_u64())
    }
}

async fn wait_until(clock: Clock, deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => sleep_until(clock.instant(deadline)).await,
        None => std::future::pending().await,
    }
}

/// Notes what changed. Nodes go first: pods that were scheduled to them are then not on ghosts.
fn apply(core: &mut Scheduler, changes: &[Change], following: &Following, now: Duration) {
    core.set_caches(following.caches());
    if changes.iter().any(|change| *change.resource == *PriorityClass::resource()) {
        core.priority_classes_changed(now);
    }
    if changes.iter().any(labels_of_namespace_changed) {
        core.namespace_changed(now);
    }
    for change in changes.iter().filter(|change| *change.resource == *Node::resource()) {
        match change.new::<Node>() {
            Some(node) => core.put_node(node, now),
            None => core.remove_node(&change.name, now),
        }
    }
    for change in changes.iter().filter(|change| *change.resource == *Pod::resource()) {
        match (change.old::<Pod>(), change.new::<Pod>()) {
            (_, Some(pod)) => core.put_pod(pod, now),
            (Some(pod), None) => core.remove_pod(pod.uid(), now),
            (None, None) => {}
        }
    }
}

fn labels_of_namespace_changed(change: &Change) -> bool {
    let (old, new) = (change.old::<Namespace>(), change.new::<Namespace>());
    new.is_some_and(|new| old.is_none_or(|old| old.labels() != new.labels()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
