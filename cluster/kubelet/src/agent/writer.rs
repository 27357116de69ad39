//! Writes statuses of pods to the API, and confirms deletions.
//!
//! ```text
//! newest status per pod ──▶ records durable ──▶ update /status at the version known ──▶ delete, if the pod is over
//!                                                  │ conflict: read, merge, again
//! ```
//!
//! One status per pod waits at most, always the newest; one task writes them one by one, so an older one never comes after
//! a newer. What others write beside it is kept, and a terminal phase that others wrote too.

use super::Message;
use super::records::Records;
use crate::pod::{merged, same};
use api::core::v1::{Pod, PodStatus};
use api::{Object, ObjectExt};
use client::{Client, Clock, DeleteOptions, Error};
use mark::sometimes;
use rt::random::Random;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Upstream reads and merges anew so often before it leaves it to the next round.
const CONFLICTS: u32 = 5;
/// The first wait after a failure.
const RETRY_BASE: Duration = Duration::from_millis(500);
/// The longest wait: upstream's manager goes round every 10 seconds.
const RETRY_LIMIT: Duration = Duration::from_secs(10);

/// What waits to be written.
pub(super) struct Writer {
    jobs: Mutex<BTreeMap<String, Job>>,
    changed: Notify,
}

#[derive(Clone)]
struct Job {
    /// Rises with each status that is put in: the order in which they are written, and whether one is still the newest.
    number: u64,
    pod: Arc<Pod>,
    status: PodStatus,
    delete: bool,
    not_before: Duration,
    failures: u32,
}

/// What came of a write.
enum Outcome {
    Done(Arc<Pod>),
    Gone,
    Failed,
}

impl Writer {
    pub(super) fn new() -> Arc<Writer> {
        Arc::new(Writer { jobs: Mutex::default(), changed: Notify::new() })
    }

    /// Has a pod's status written, in place of any that waits; `delete` confirms its deletion afterwards.
    pub(super) fn put(&self, number: u64, pod: &Arc<Pod>, status: PodStatus, delete: bool) {
        {
            let mut jobs = self.lock();
            let before = jobs.remove(pod.uid());
            let delete = delete || before.as_ref().is_some_and(|job| job.delete);
            let (not_before, failures) = before.map_or((Duration::ZERO, 0), |job| (job.not_before, job.failures));
            let job = Job { number, pod: pod.clone(), status, delete, not_before, failures };
            jobs.insert(pod.uid().to_owned(), job);
        }
        self.changed.notify_one();
    }

    /// How many pods wait.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job that is due, or when one will be.
    fn next(&self, now: Duration) -> Result<(String, Job), Option<Duration>> {
        let jobs = self.lock();
        let due = jobs.iter().filter(|(_, job)| job.not_before <= now).min_by_key(|(_, job)| job.number);
        match due {
            Some((uid, job)) => Ok((uid.clone(), job.clone())),
            None => Err(jobs.values().map(|job| job.not_before).min()),
        }
    }

    /// Writes for ever.
    pub(super) async fn run(
        self: Arc<Self>,
        client: Client,
        records: Arc<Records>,
        told: mpsc::Sender<Message>,
        clock: Clock,
    ) {
        let mut random = rt::random::stream("kubelet-status");
        // The newest version of each pod that waits, as the API answered it: informers lag behind it.
        let mut answered: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
        loop {
            let (uid, job) = match self.next(clock.now().monotonic) {
                Ok(due) => due,
                Err(at) => {
                    answered.clear();
                    self.wait(at, clock).await;
                    continue;
                }
            };
            let base = newest(job.pod.clone(), answered.get(&uid).cloned());
            let outcome = match records.save().await {
                Ok(()) => write(&client, base, &job).await,
                Err(_) => Outcome::Failed,
            };
            match outcome {
                Outcome::Done(pod) => {
                    answered.insert(uid.clone(), pod);
                    self.finish(&uid, job.number);
                    // The agent is gone when nobody listens.
                    drop(told.send(Message::Written(uid)).await);
                }
                Outcome::Gone => {
                    answered.remove(&uid);
                    self.finish(&uid, job.number);
                }
                Outcome::Failed => self.postpone(&uid, clock, &mut random),
            }
        }
    }

    async fn wait(&self, at: Option<Duration>, clock: Clock) {
        match at {
            Some(at) => {
                tokio::select! {
                    biased;
                    () = self.changed.notified() => {}
                    () = rt::time::sleep_until(clock.instant(at)) => {}
                }
            }
            None => self.changed.notified().await,
        }
    }

    fn finish(&self, uid: &str, number: u64) {
        let mut jobs = self.lock();
        match jobs.get_mut(uid) {
            Some(job) if job.number == number => drop(jobs.remove(uid)),
            Some(job) => job.failures = 0,
            None => {}
        }
    }

    fn postpone(&self, uid: &str, clock: Clock, random: &mut Random) {
        let mut jobs = self.lock();
        if let Some(job) = jobs.get_mut(uid) {
            let wait = client::backoff::exponential(RETRY_BASE, RETRY_LIMIT, job.failures);
            job.failures += 1;
            job.not_before = clock.now().monotonic + wait / 2 + random.jitter(wait / 2);
        }
    }
}

fn newest(one: Arc<Pod>, other: Option<Arc<Pod>>) -> Arc<Pod> {
    match other {
        Some(other) if revision(&*other) > revision(&*one) => other,
        Some(_) | None => one,
    }
}

/// Versions are revisions of one store, and so comparable.
pub(super) fn revision<T: Object>(object: &T) -> i64 {
    object.resource_version().parse().unwrap_or(0)
}

async fn write(client: &Client, mut base: Arc<Pod>, job: &Job) -> Outcome {
    for _ in 0..CONFLICTS {
        let theirs = base.status.clone().unwrap_or_default();
        let status = guarded(merged(&job.status, &theirs), &theirs);
        if !same(&status, &theirs) {
            let changed = Pod { status: Some(status), ..(*base).clone() };
            match client.update_status(&changed).await {
                Ok(written) => base = Arc::new(written),
                Err(error) if error.is_not_found() => return Outcome::Gone,
                Err(error) if error.is_conflict() => {
                    sometimes!("status of a pod written over by somebody else");
                    match fresh(client, &job.pod).await {
                        Ok(Some(pod)) => base = Arc::new(pod),
                        Ok(None) => return Outcome::Gone,
                        Err(_) => return Outcome::Failed,
                    }
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, pod = job.pod.name(), "status of a pod not written");
                    return Outcome::Failed;
                }
            }
        }
        return if job.delete { confirm(client, base).await } else { Outcome::Done(base) };
    }
    Outcome::Failed
}

/// The pod as it is now; `None` if it is gone, be it for another of its name.
async fn fresh(client: &Client, pod: &Pod) -> Result<Option<Pod>, Error> {
    match client.get::<Pod>(pod.namespace(), pod.name()).await {
        Ok(found) => Ok((found.uid() == pod.uid()).then_some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A terminal phase stays, whoever wrote it.
fn guarded(mut ours: PodStatus, theirs: &PodStatus) -> PodStatus {
    let terminal = matches!(theirs.phase.as_deref(), Some("Succeeded" | "Failed"));
    if terminal && ours.phase != theirs.phase {
        sometimes!("terminal phase of a pod kept against a later status");
        ours.phase.clone_from(&theirs.phase);
        ours.reason.clone_from(&theirs.reason);
        ours.message.clone_from(&theirs.message);
    }
    ours
}

/// Says that a pod that was to be deleted is dead.
async fn confirm(client: &Client, pod: Arc<Pod>) -> Outcome {
    let options = DeleteOptions { uid: Some(pod.uid().to_owned()), grace_s: Some(0), ..DeleteOptions::default() };
    match client.delete::<Pod>(pod.namespace(), pod.name(), &options).await {
        Ok(()) => Outcome::Gone,
        // Gone already, or another pod has its name.
        Err(error) if error.is_not_found() || error.is_conflict() => Outcome::Gone,
        Err(_) => Outcome::Failed,
    }
}
