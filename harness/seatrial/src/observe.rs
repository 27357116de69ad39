//! What can be seen of members that are processes of their own, over the same connections that clients have.
//!
//! ```text
//! per member: a watch of everything from revision 1, resumed after every break -> Applied, per member that showed it
//!             its status, every SAMPLE_NS                                      -> Leads, StepsDown
//! ```
//!
//! What happened is seen a little after it happened, and what a dead member did last is never seen. Leases, state hashes
//! and commits cannot be seen at all: guarantees that rest on them alone are vacuous here.

use crate::trial::Clock;
use faults::Ns;
use record::{Observation, SAMPLE_NS, WatchEvent};
use rt::task::AbortOnDrop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::client::{Client, ClientConfig};
use store::types::{Event, StatusResponse, WatchRequest, WatchResponse};

/// From a broken watch to the next.
const REDIAL: Duration = Duration::from_millis(50);

/// Every key: from the smallest on, to the end of all.
const EVERY_KEY: &[u8] = &[0];

/// Watches all members of a cluster until dropped.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    clock: Clock,
    /// Ended with this.
    _tasks: Vec<AbortOnDrop<()>>,
}

#[derive(Default)]
struct Seen {
    observations: Vec<Observation>,
    members: Vec<Member>,
}

/// What is known of a member.
#[derive(Clone, Debug, Default)]
struct Member {
    /// Every revision up to this one has been seen on it, as far as it was not compacted.
    seen_up_to: i64,
    /// When it last showed anything.
    last_ns: Option<Ns>,
    /// The term that it was last seen leading in.
    leads: Option<u64>,
}

impl Observer {
    /// Begins to watch the members at `endpoints`.
    pub fn new(endpoints: &[String], clock: Clock) -> Self {
        let members = endpoints.iter().map(|_| Member::default()).collect();
        let seen = Arc::new(Mutex::new(Seen { observations: Vec::new(), members }));
        let mut tasks = Vec::new();
        for (member, endpoint) in endpoints.iter().enumerate() {
            let view = View { seen: Arc::clone(&seen), member, endpoint: endpoint.clone(), clock };
            tasks.push(rt::task::spawn("observed watch", watch(view.clone())).abort_on_drop());
            tasks.push(rt::task::spawn("observed status", poll(view)).abort_on_drop());
        }
        Self { seen, clock, _tasks: tasks }
    }

    /// A member's process starts or ends now.
    pub fn process(&self, member: u32, up: bool) {
        let at_ns = self.clock.now_ns();
        let mut seen = lock(&self.seen);
        if !up && let Some(term) = seen.members[member as usize].leads.take() {
            seen.observations.push(Observation::StepsDown { at_ns, member, term });
        }
        seen.observations.push(Observation::Process { at_ns, member, up });
    }

    /// Whether the member showed anything within `ns` before now.
    pub fn at_work(&self, member: u32, ns: Ns) -> bool {
        let last_ns = lock(&self.seen).members[member as usize].last_ns;
        last_ns.is_some_and(|last_ns| last_ns + ns >= self.clock.now_ns())
    }

    /// The newest revision that every member has shown.
    pub fn everywhere(&self) -> i64 {
        lock(&self.seen).members.iter().map(|member| member.seen_up_to).min().unwrap_or(0)
    }

    /// Everything observed, in order of time.
    pub fn finish(self) -> Vec<Observation> {
        std::mem::take(&mut lock(&self.seen).observations)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One member as its two tasks see it.
#[derive(Clone)]
struct View {
    seen: Arc<Mutex<Seen>>,
    member: usize,
    endpoint: String,
    clock: Clock,
}

impl View {
    fn client(&self) -> Client {
        Client::new(vec![self.endpoint.clone()], ClientConfig::default())
    }

    /// The member's watch said this. Whether it goes on.
    fn said(&self, response: &WatchResponse) -> bool {
        let at_ns = self.clock.now_ns();
        let mut guard = lock(&self.seen);
        let seen = &mut *guard;
        let member = &mut seen.members[self.member];
        match response {
            WatchResponse::Events { revision, events, .. } => {
                seen.observations.extend(applied(at_ns, self.member as u32, events));
                member.seen_up_to = member.seen_up_to.max(*revision);
                member.last_ns = Some(at_ns);
                true
            }
            WatchResponse::Progress { revision } => {
                member.seen_up_to = member.seen_up_to.max(*revision);
                member.last_ns = Some(at_ns);
                true
            }
            WatchResponse::Canceled { compact_revision, .. } => {
                // What is compacted here was seen on another member, or the record shows that it is missing.
                member.seen_up_to = member.seen_up_to.max(compact_revision - 1);
                false
            }
        }
    }

    fn status(&self, status: &StatusResponse) {
        let at_ns = self.clock.now_ns();
        let mut guard = lock(&self.seen);
        let seen = &mut *guard;
        let number = self.member as u32;
        let leads = (status.leader != 0 && status.leader == status.header.member).then_some(status.header.term);
        let led = std::mem::replace(&mut seen.members[self.member].leads, leads);
        if led != leads {
            let down = led.map(|term| Observation::StepsDown { at_ns, member: number, term });
            let up = leads.map(|term| Observation::Leads { at_ns, member: number, term });
            seen.observations.extend(down.into_iter().chain(up));
        }
    }
}

/// Events of one message as one observation per revision.
fn applied(at_ns: Ns, member: u32, events: &[Event]) -> Vec<Observation> {
    let revisions = events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision);
    revisions
        .map(|events| Observation::Applied {
            at_ns,
            member,
            revision: events[0].kv.mod_revision,
            events: events.iter().map(workloads::store::watch_event).collect::<Vec<WatchEvent>>(),
        })
        .collect()
}

async fn watch(view: View) {
    let client = view.client();
    loop {
        let start_revision = lock(&view.seen).members[view.member].seen_up_to + 1;
        let mut watcher = client.watch(WatchRequest {
            key: EVERY_KEY.into(),
            range_end: EVERY_KEY.into(),
            start_revision,
            progress_notify: true,
            ..WatchRequest::default()
        });
        while let Ok(response) = watcher.next().await {
            if !view.said(&response) {
                break;
            }
        }
        rt::time::sleep(REDIAL).await;
    }
}

async fn poll(view: View) {
    let client = view.client();
    loop {
        if let Ok(status) = client.status(&view.endpoint).await {
            view.status(&status);
        }
        rt::time::sleep(Duration::from_nanos(SAMPLE_NS)).await;
    }
}
