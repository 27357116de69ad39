//! What can be seen of members that are processes of their own, over the same connections that clients have.
//!
//! ```text
//! per member: a watch of everything from revision 1, resumed after every break -> Applied, per member that showed it
//!             its status, every SAMPLE_NS                                      -> Leads, StepsDown
//! per lease that a client was granted: its time to live, every LEASE_NS        -> LeaseGranted, LeaseGone
//! ```
//!
//! What happened is seen a little after it happened, and what a dead member did last is never seen. State hashes and
//! commits cannot be seen at all: what rests on them alone is not tested here.

use crate::trial::Clock;
use faults::Ns;
use record::{Observation, Outcome, Request, SAMPLE_NS, WatchEvent};
use rt::task::AbortOnDrop;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::client::{Client, ClientConfig};
use store::types::{
    ClientError, Event, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, RefusedKind, StatusResponse, WatchRequest,
    WatchResponse,
};
use workloads::Happening;

/// From a broken watch to the next.
const REDIAL: Duration = Duration::from_millis(50);

/// From look to look at a lease: each is a request that the leader must confirm.
const LEASE_NS: Ns = 5 * SAMPLE_NS;

/// Every key: from the smallest on, to the end of all.
const EVERY_KEY: &[u8] = &[0];

/// Watches all members of a cluster until dropped.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    clock: Clock,
    /// Asked about leases.
    anyone: Client,
    watches: Vec<AbortOnDrop<()>>,
    polls: Vec<AbortOnDrop<()>>,
}

#[derive(Default)]
struct Seen {
    observations: Vec<Observation>,
    members: Vec<Member>,
    /// Leases that a client was granted and that have not been seen gone; whether they have been seen at all.
    leases: BTreeMap<i64, bool>,
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
        let seen = Arc::new(Mutex::new(Seen { members, ..Seen::default() }));
        let anyone = Client::new(endpoints.to_vec(), ClientConfig::default());
        let (mut watches, mut polls) = (Vec::new(), Vec::new());
        for (member, endpoint) in endpoints.iter().enumerate() {
            let view = View { seen: Arc::clone(&seen), member, endpoint: endpoint.clone(), clock };
            watches.push(rt::task::spawn("observed watch", watch(view.clone())).abort_on_drop());
            polls.push(rt::task::spawn("observed status", poll(view)).abort_on_drop());
        }
        polls.push(
            rt::task::spawn("observed leases", poll_leases(Arc::clone(&seen), anyone.clone(), clock)).abort_on_drop(),
        );
        Self { seen, clock, anyone, watches, polls }
    }

    /// What a recorder is to tell of: leases that were granted are watched.
    pub fn listener(&self) -> impl Fn(&Happening<'_>) + Send + Sync + 'static {
        let seen = Arc::clone(&self.seen);
        move |happening| {
            if let Happening::Completed(operation) = happening
                && let (Request::LeaseGrant { lease, .. }, Outcome::Ok { .. }) =
                    (&operation.request, &operation.outcome)
            {
                lock(&seen).leases.entry(*lease).or_default();
            }
        }
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

    /// Stops watching. Everything observed, in order of time.
    pub async fn finish(self) -> Vec<Observation> {
        drop((self.watches, self.polls));
        // Each lease whose end has been seen as a change is seen gone, too.
        look_at_leases(&self.seen, &self.anyone, self.clock).await;
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

async fn poll_leases(seen: Arc<Mutex<Seen>>, anyone: Client, clock: Clock) {
    loop {
        look_at_leases(&seen, &anyone, clock).await;
        rt::time::sleep(Duration::from_nanos(LEASE_NS)).await;
    }
}

/// Asks about each lease that has not been seen gone.
async fn look_at_leases(seen: &Mutex<Seen>, anyone: &Client, clock: Clock) {
    let leases: Vec<i64> = lock(seen).leases.keys().copied().collect();
    for id in leases {
        let answer = anyone.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: false }).await;
        lock(seen).lease(id, &answer, clock.now_ns());
    }
}

impl Seen {
    /// This came when a lease was asked about.
    fn lease(&mut self, lease: i64, answer: &Result<LeaseTimeToLiveResponse, ClientError>, at_ns: Ns) {
        match answer {
            Ok(LeaseTimeToLiveResponse { header, granted_ttl_s, .. }) => {
                if !self.leases.insert(lease, true).unwrap_or(true) {
                    let member = workloads::store::member_number(header.member);
                    self.observations.push(Observation::LeaseGranted { at_ns, member, lease, ttl_s: *granted_ttl_s });
                }
            }
            Err(ClientError::Refused(RefusedKind::LeaseNotFound)) => {
                self.leases.remove(&lease);
                // Whoever said so is not in the answer.
                self.observations.push(Observation::LeaseGone { at_ns, member: 0, lease });
            }
            // Nobody knows now; it is asked again.
            Err(ClientError::Refused(_) | ClientError::Unavailable(_) | ClientError::Unknown(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::types::{EventKind, Header, KeyValue};

    fn lease(ttl_s: i64) -> Result<LeaseTimeToLiveResponse, ClientError> {
        let header = Header { member: 2, ..Header::default() };
        Ok(LeaseTimeToLiveResponse { header, granted_ttl_s: ttl_s, ..LeaseTimeToLiveResponse::default() })
    }

    #[test]
    fn a_lease_is_seen_once_and_gone_once() {
        let mut seen = Seen { leases: BTreeMap::from([(7, false)]), ..Seen::default() };
        seen.lease(7, &Err(ClientError::Unavailable("no leader".into())), 5);
        seen.lease(7, &lease(9), 10);
        seen.lease(7, &lease(9), 20);
        seen.lease(7, &Err(ClientError::Refused(RefusedKind::LeaseNotFound)), 30);
        let granted = Observation::LeaseGranted { at_ns: 10, member: 1, lease: 7, ttl_s: 9 };
        assert_eq!(seen.observations, [granted, Observation::LeaseGone { at_ns: 30, member: 0, lease: 7 }]);
        assert!(seen.leases.is_empty());
    }

    #[test]
    fn a_message_of_several_revisions_is_seen_as_several() {
        let event = |key: &'static str, mod_revision| Event {
            kind: EventKind::Put,
            kv: KeyValue { key: key.into(), mod_revision, ..KeyValue::default() },
            prev_kv: None,
        };
        let seen = applied(3, 1, &[event("a", 5), event("b", 5), event("a", 6)]);
        let shapes: Vec<(i64, usize)> = seen
            .iter()
            .map(|it| match it {
                Observation::Applied { revision, events, .. } => (*revision, events.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shapes, [(5, 2), (6, 1)]);
    }
}
