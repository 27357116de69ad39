//! Pods that wait to be scheduled.
//!
//! ```text
//!           put                     pop                  done (bound)
//!  ──────────────────▶ active ──────────────▶ in flight ──────────────▶
//!    │                  ▲   ▲                  │      │
//!    ▼ gates      time  │   │ event that       │park  │retry (error)
//!  gated             backoff│ may help         ▼      │
//!                       ▲   └──── unschedulable       │
//!                       └──────────────────┴──────────┘
//! ```
//!
//! An event that arrives while a pod is in flight decides about that pod when it is parked: what happens in between is
//! recorded, else a pod could be parked for good by a decision that the event overtook.
//!
//! **Invariant:** every pod that was put is in exactly one place until it is removed or done
//! (`no_pod_is_ever_lost`). It is so by construction: the place is a field of the pod's entry; the ordered sets are
//! indexes of it (`check_indexes`).

use crate::events::{self, ClusterEvent};
use crate::plugin::Plugins;
use crate::pod::{PodInfo, Uid};
use client::Caches;
use mark::sometimes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Wait after a first failure: upstream's `podInitialBackoffSeconds`.
pub const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// Wait after many: upstream's `podMaxBackoffSeconds`.
pub const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// After so long a parked pod is tried again even if nothing happened: upstream's bound against hints that miss.
pub const MAX_PARKED: Duration = Duration::from_mins(5);
/// Events that are kept while a pod is in flight. More only happen when writes hang; then every pod that was in flight
/// meanwhile is tried again, which is what most of so many events would have led to.
const MAX_RECORDED: usize = 4096;

/// Pods that wait, each in one place.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    entries: BTreeMap<Uid, Entry>,
    active: BTreeSet<Turn>,
    backoff: BTreeSet<(Duration, Uid)>,
    unschedulable: BTreeSet<(Duration, Uid)>,
    in_flight: BTreeSet<(u64, Uid)>,
    /// What happened since the oldest pod in flight was popped, numbered without gaps.
    recorded: VecDeque<ClusterEvent>,
    /// Number of the first of these.
    first: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    /// How often it was popped.
    attempts: u32,
    /// How often in a row it was parked or failed: what backoff grows with.
    failures: u32,
    /// When it last failed.
    failed_at: Duration,
    /// When it was first put.
    since: Duration,
    /// What kept it off nodes the last time.
    rejectors: Plugins,
}

/// Where a pod waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To be tried now; since when it is here.
    Active(Duration),
    /// Not before then.
    Backoff(Duration),
    /// Until something happens that may help; since when.
    Unschedulable(Duration),
    /// Until its gates are gone.
    Gated,
    /// Being tried, bound or written about; the number of the first event that it has not seen.
    InFlight(u64),
}

/// Order of the pods to be tried: highest priority, longest there, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    priority: Reverse<i32>,
    added: Duration,
    key: String,
    uid: Uid,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// To be tried now.
    pub active: usize,
    /// Waiting for time.
    pub backoff: usize,
    /// Waiting for events.
    pub unschedulable: usize,
    /// Waiting for gates.
    pub gated: usize,
    /// Being tried, bound or written about.
    pub in_flight: usize,
    /// Events that are kept for those.
    pub recorded_events: usize,
}

impl Queue {
    /// Notes a pod that is to be scheduled, as it is now.
    pub fn put(&mut self, pod: Arc<PodInfo>, caches: &Caches, now: Duration) {
        let Some(entry) = self.entries.get(&pod.uid) else {
            let place = if pod.is_gated() { Place::Gated } else { Place::Active(now) };
            return self.insert(Entry {
                pod,
                place,
                attempts: 0,
                failures: 0,
                failed_at: now,
                since: now,
                rejectors: Plugins::NONE,
            });
        };
        let (uid, place, changed) = (pod.uid.clone(), entry.place, entry.pod.schedules_differently(&pod));
        match place {
            Place::Gated if !pod.is_gated() => {
                sometimes!("gates were taken off a pod");
                self.update(&uid, |entry| (entry.pod, entry.place) = (pod, Place::Active(now)));
            }
            Place::Gated | Place::Active(_) | Place::Backoff(_) => {
                let place = if pod.is_gated() { Place::Gated } else { place };
                self.update(&uid, |entry| (entry.pod, entry.place) = (pod, place));
            }
            Place::InFlight(_) | Place::Unschedulable(_) => {
                self.update(&uid, |entry| entry.pod = pod);
                if changed {
                    self.observe(&ClusterEvent::Changed { uid }, caches, now);
                }
            }
        }
    }

    /// Notes that a pod is gone or bound, wherever it waits.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let entry = self.entries.remove(uid)?;
        self.unindex(&entry);
        self.trim();
        Some(entry.pod)
    }

    /// The pod whose turn it is; it is in flight from then on.
    pub fn pop(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        self.advance(now);
        let uid = self.active.first()?.uid.clone();
        let seen = self.first + self.recorded.len() as u64;
        self.update(&uid, |entry| {
            entry.place = Place::InFlight(seen);
            entry.attempts = entry.attempts.saturating_add(1);
        });
        self.entries.get(&uid).map(|entry| entry.pod.clone())
    }

    /// A pod in flight fits nowhere because of `rejectors`. Waits for an event that helps, unless one came meanwhile.
    pub fn park(&mut self, uid: &str, rejectors: Plugins, caches: &Caches, now: Duration) {
        let Some(Entry { pod, place: Place::InFlight(seen), .. }) = self.entries.get(uid) else { return };
        let missed = usize::try_from(seen.saturating_sub(self.first)).unwrap_or(usize::MAX);
        // A number before the first one kept means that the record was cut while this pod was in flight.
        let woken = *seen < self.first
            || self.recorded.iter().skip(missed).any(|event| events::helps(event, pod, rejectors, caches));
        self.update(uid, |entry| {
            entry.failures = entry.failures.saturating_add(1);
            (entry.failed_at, entry.rejectors) = (now, rejectors);
            entry.rest_in(Place::Unschedulable(now));
        });
        if woken {
            sometimes!("event arrived while pod was in flight");
            self.wake(uid, now);
        }
    }

    /// A pod in flight failed for no fault of its own: it is tried again after its backoff.
    pub fn retry(&mut self, uid: &str, now: Duration) {
        if !matches!(self.place(uid), Some(Place::InFlight(_))) {
            return;
        }
        self.update(uid, |entry| {
            entry.failures = entry.failures.saturating_add(1);
            entry.failed_at = now;
            entry.rest_in(Place::Backoff(entry.ready_at()));
        });
    }

    /// Notes an event: pods that it may help are to be tried again, after their backoff.
    pub fn observe(&mut self, event: &ClusterEvent, caches: &Caches, now: Duration) {
        if !self.in_flight.is_empty() {
            self.record(event.clone());
        }
        let helped = |uid: &Uid| {
            self.entries.get(uid).is_some_and(|entry| events::helps(event, &entry.pod, entry.rejectors, caches))
        };
        let woken: Vec<Uid> =
            self.unschedulable.iter().map(|(_, uid)| uid).filter(|uid| helped(uid)).cloned().collect();
        woken.iter().for_each(|uid| self.wake(uid, now));
    }

    /// Moves what waited for time and has waited long enough.
    pub fn advance(&mut self, now: Duration) {
        while let Some((until, uid)) = self.backoff.first().filter(|(until, _)| *until <= now).cloned() {
            self.update(&uid, |entry| entry.place = Place::Active(until));
        }
        while let Some((_, uid)) = self.unschedulable.first().filter(|(since, _)| *since + MAX_PARKED <= now).cloned() {
            sometimes!("parked pod was flushed without an event");
            self.wake(&uid, now);
        }
    }

    /// When to call [`Queue::advance`] next. `None` if nothing waits for time.
    pub fn next_deadline(&self) -> Option<Duration> {
        let backoff = self.backoff.first().map(|(until, _)| *until);
        let parked = self.unschedulable.first().map(|(since, _)| *since + MAX_PARKED);
        backoff.into_iter().chain(parked).min()
    }

    /// Whether a pod can be popped now.
    pub fn is_ready(&self) -> bool {
        !self.active.is_empty()
    }

    /// Where a pod is; `None` if it does not wait.
    pub fn place(&self, uid: &str) -> Option<Place> {
        self.entries.get(uid).map(|entry| entry.place)
    }

    /// A pod that waits, as it was last put.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// All pods that wait, in order of UID.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.entries.values().map(|entry| &entry.pod)
    }

    /// How many pods are where.
    pub fn sizes(&self) -> Sizes {
        let (active, backoff, unschedulable) = (self.active.len(), self.backoff.len(), self.unschedulable.len());
        let in_flight = self.in_flight.len();
        let gated = self.entries.len() - active - backoff - unschedulable - in_flight;
        Sizes { active, backoff, unschedulable, gated, in_flight, recorded_events: self.recorded.len() }
    }

    /// How long the pod that waits longest has been waiting; gated ones do not count.
    pub fn oldest(&self, now: Duration) -> Option<Duration> {
        let waiting = self.entries.values().filter(|entry| entry.place != Place::Gated);
        waiting.map(|entry| now.saturating_sub(entry.since)).max()
    }

    /// To active, or to backoff if its last failure is too fresh.
    fn wake(&mut self, uid: &str, now: Duration) {
        self.update(uid, |entry| {
            let ready_at = entry.ready_at();
            entry.rest_in(if ready_at <= now { Place::Active(now) } else { Place::Backoff(ready_at) });
        });
    }

    fn record(&mut self, event: ClusterEvent) {
        if self.recorded.len() >= MAX_RECORDED {
            sometimes!("more events than are kept arrived while pods were in flight");
            self.first += self.recorded.len() as u64 + 1;
            self.recorded.clear();
        }
        self.recorded.push_back(event);
    }

    /// Drops recorded events that every pod in flight has seen.
    fn trim(&mut self) {
        let Some((oldest, _)) = self.in_flight.first() else {
            self.first += self.recorded.len() as u64;
            self.recorded.clear();
            return;
        };
        while self.first < *oldest && self.recorded.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.index(&entry);
        self.entries.insert(entry.pod.uid.clone(), entry);
    }

    /// Changes an entry and the index of the place that it is in.
    fn update(&mut self, uid: &str, change: impl FnOnce(&mut Entry)) {
        let Some(mut entry) = self.entries.remove(uid) else { return };
        self.unindex(&entry);
        change(&mut entry);
        self.insert(entry);
        self.trim();
    }

    fn index(&mut self, entry: &Entry) {
        let uid = entry.pod.uid.clone();
        match entry.place {
            Place::Active(_) => drop(self.active.insert(entry.turn())),
            Place::Backoff(until) => drop(self.backoff.insert((until, uid))),
            Place::Unschedulable(since) => drop(self.unschedulable.insert((since, uid))),
            Place::Gated => {}
            Place::InFlight(seen) => drop(self.in_flight.insert((seen, uid))),
        }
    }

    fn unindex(&mut self, entry: &Entry) {
        let uid = entry.pod.uid.clone();
        match entry.place {
            Place::Active(_) => drop(self.active.remove(&entry.turn())),
            Place::Backoff(until) => drop(self.backoff.remove(&(until, uid))),
            Place::Unschedulable(since) => drop(self.unschedulable.remove(&(since, uid))),
            Place::Gated => {}
            Place::InFlight(seen) => drop(self.in_flight.remove(&(seen, uid))),
        }
    }
}

impl Entry {
    fn turn(&self) -> Turn {
        let added = match self.place {
            Place::Active(added) => added,
            Place::Backoff(_) | Place::Unschedulable(_) | Place::Gated | Place::InFlight(_) => Duration::ZERO,
        };
        Turn { priority: Reverse(self.pod.priority), added, key: self.pod.key(), uid: self.pod.uid.clone() }
    }

    /// There, unless gates keep it from everything.
    fn rest_in(&mut self, place: Place) {
        self.place = if self.pod.is_gated() { Place::Gated } else { place };
    }

    /// When its backoff is over.
    fn ready_at(&self) -> Duration {
        // 2^4 seconds exceed the largest wait already.
        let doubled = INITIAL_BACKOFF * 2_u32.pow(self.failures.saturating_sub(1).min(4));
        self.failed_at + if self.failures == 0 { Duration::ZERO } else { doubled.min(MAX_BACKOFF) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeFacts;
    use crate::plugin::Plugin;
    use crate::testing::{node, pod};
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    const FIT: Plugin = Plugin::NodeResourcesFit;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    impl Queue {
        /// Each index holds exactly the entries of its place.
        fn check_indexes(&self) {
            let mut copy = Queue { first: self.first, recorded: self.recorded.clone(), ..Queue::default() };
            self.entries.values().for_each(|entry| copy.insert(entry.clone()));
            assert_eq!(copy.active, self.active);
            assert_eq!(copy.backoff, self.backoff);
            assert_eq!(copy.unschedulable, self.unschedulable);
            assert_eq!(copy.in_flight, self.in_flight);
        }
    }

    fn show(queue: &Queue) -> String {
        let place = |entry: &Entry| match entry.place {
            Place::Active(_) => "active".to_owned(),
            Place::Backoff(until) => format!("backoff until {until:?}"),
            Place::Unschedulable(_) => "unschedulable".to_owned(),
            Place::Gated => "gated".to_owned(),
            Place::InFlight(_) => "in flight".to_owned(),
        };
        queue.entries.iter().map(|(uid, entry)| format!("{uid} {}\n", place(entry))).collect()
    }

    /// Steps: `put POD`, `pop`, `park UID`, `retry UID`, `free` (a pod leaves a node), `node` (a tiny one comes), `remove UID`,
    /// `N` (seconds later).
    fn check(steps: &[&str], expected: Expect) -> Queue {
        let (mut queue, mut now, caches) = (Queue::default(), Duration::ZERO, Caches::new());
        for step in steps {
            match step.split_once(' ').unwrap_or((step, "")) {
                ("put", text) => queue.put(pod(text), &caches, now),
                ("pop", expected) => {
                    let popped = queue.pop(now).map(|pod| pod.name().to_owned());
                    assert_eq!(popped.as_deref().unwrap_or("none"), expected, "{steps:?}");
                }
                ("park", uid) => queue.park(uid, Plugins::only(FIT), &caches, now),
                ("retry", uid) => queue.retry(uid, now),
                ("remove", uid) => drop(queue.remove(uid)),
                ("free", _) => queue.observe(&ClusterEvent::PodRemoved(pod("x on=n")), &caches, now),
                ("node", _) => {
                    let facts = Arc::new(NodeFacts::new(node("n cpu=1m")));
                    queue.observe(&ClusterEvent::NodeAdded(facts), &caches, now);
                }
                (time, _) => now += seconds(time.parse().expect("seconds")),
            }
            queue.advance(now);
            queue.check_indexes();
        }
        expected.assert_eq(&show(&queue));
        queue
    }

    #[test]
    fn priority_goes_first_then_age_then_name() {
        check(
            &["put b", "put a", "1", "put high prio=9", "put c", "pop high", "pop a", "pop b", "pop c", "pop none"],
            expect![[r#"
                a in flight
                b in flight
                c in flight
                high in flight
            "#]],
        );
    }

    #[test]
    fn a_parked_pod_waits_for_an_event_that_helps() {
        let parked = ["put a cpu=1", "pop a", "park a", "node"];
        check(&parked, expect![["a unschedulable\n"]]);
        check(&[&parked[..], &["free"]].concat(), expect![["a backoff until 1s\n"]]);
        check(&[&parked[..], &["2", "free"]].concat(), expect![["a active\n"]]);
    }

    #[test]
    fn an_event_that_arrives_in_flight_is_not_lost() {
        check(&["put a cpu=1", "pop a", "free", "park a"], expect![["a backoff until 1s\n"]]);
        check(&["put a cpu=1", "pop a", "node", "park a"], expect![["a unschedulable\n"]]);
        check(&["put a cpu=1", "free", "pop a", "park a"], expect![["a unschedulable\n"]]);
        // b sees only what came after it was popped, and a's end does not drop what b has yet to see.
        let queue = check(
            &["put a cpu=1", "put b cpu=1", "pop a", "free", "pop b", "park a", "park b"],
            expect![[r#"
                a backoff until 1s
                b unschedulable
            "#]],
        );
        assert_eq!(queue.sizes().recorded_events, 0);
    }

    #[test]
    fn a_pod_that_changes_in_flight_is_tried_again_as_it_is_now() {
        check(&["put a cpu=9", "pop a", "put a cpu=1", "park a"], expect![["a backoff until 1s\n"]]);
        check(&["put a cpu=9", "pop a", "put a cpu=9 nominated=n", "park a"], expect![["a unschedulable\n"]]);
    }

    #[test]
    fn when_too_much_happens_in_flight_the_pod_is_tried_again() {
        let mut steps = vec!["put a cpu=1", "pop a"];
        steps.extend(std::iter::repeat_n("node", MAX_RECORDED + 1));
        steps.push("park a");
        check(&steps, expect![["a backoff until 1s\n"]]);
    }

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let mut queue = Queue::default();
        queue.put(pod("a"), &Caches::new(), seconds(0));
        let (mut now, mut waits) = (seconds(0), Vec::new());
        for _ in 0..6 {
            queue.pop(now).expect("its backoff is over");
            queue.retry("a", now);
            assert!(queue.pop(now).is_none());
            let until = queue.next_deadline().expect("it backs off");
            waits.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_pod_that_nothing_helps_is_flushed_after_five_minutes() {
        check(&["put a", "pop a", "park a", "299"], expect![["a unschedulable\n"]]);
        check(&["put a", "pop a", "park a", "300"], expect![["a active\n"]]);
    }

    #[test]
    fn gated_pods_wait_for_their_gates() {
        check(&["put a gate", "pop none"], expect![["a gated\n"]]);
        check(&["put a gate", "put a", "pop a"], expect![["a in flight\n"]]);
    }

    #[test]
    fn a_removed_pod_does_not_come_back_by_a_late_verdict() {
        check(&["put a", "pop a", "remove a", "park a", "retry a"], expect![[""]]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8),
        Pop,
        Park(u8, u8),
        Retry(u8),
        Done(u8),
        Event(u8),
        Wait(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..8_u8, 0..4_u8).prop_map(|(uid, kind)| Step::Put(uid, kind)),
            4 => Just(Step::Pop),
            3 => (0..8_u8, 0..8_u8).prop_map(|(uid, plugin)| Step::Park(uid, plugin)),
            1 => (0..8_u8).prop_map(Step::Retry),
            1 => (0..8_u8).prop_map(Step::Done),
            3 => (0..5_u8).prop_map(Step::Event),
            2 => (0..400_u16).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn no_pod_is_ever_lost(steps in proptest::collection::vec(step(), 1..120)) {
            let (mut queue, caches, mut now) = (Queue::default(), Caches::new(), Duration::ZERO);
            let mut waiting = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Put(uid, kind) => {
                        let text = ["cpu=1", "cpu=2 prio=5", "gate", "label:a=b"][usize::from(kind)];
                        queue.put(pod(&format!("p{uid} {text}")), &caches, now);
                        waiting.insert(format!("p{uid}"));
                    }
                    Step::Pop => {
                        if let Some(popped) = queue.pop(now) {
                            prop_assert!(!popped.is_gated());
                            let in_flight = matches!(queue.place(&popped.uid), Some(Place::InFlight(_)));
                            prop_assert!(in_flight);
                        }
                    }
                    Step::Park(uid, plugin) => {
                        let rejector = crate::plugin::ALL[usize::from(plugin)];
                        queue.park(&format!("p{uid}"), Plugins::only(rejector), &caches, now);
                    }
                    Step::Retry(uid) => queue.retry(&format!("p{uid}"), now),
                    Step::Done(uid) => {
                        queue.remove(&format!("p{uid}"));
                        waiting.remove(&format!("p{uid}"));
                    }
                    Step::Event(kind) => {
                        let event = match kind {
                            0 => ClusterEvent::PodRemoved(pod("x on=n")),
                            1 => ClusterEvent::PodAdded(pod("x on=n label:a=b")),
                            2 => ClusterEvent::NodeAdded(Arc::new(NodeFacts::new(node("n")))),
                            3 => ClusterEvent::Anything,
                            _ => ClusterEvent::NamespaceChanged,
                        };
                        queue.observe(&event, &caches, now);
                    }
                    Step::Wait(ds) => now += Duration::from_millis(u64::from(ds) * 100),
                }
                queue.check_indexes();
                let known: BTreeSet<String> = queue.entries.keys().map(|uid| uid.to_string()).collect();
                prop_assert_eq!(&known, &waiting);
                let sizes = queue.sizes();
                if sizes.in_flight == 0 {
                    prop_assert_eq!(sizes.recorded_events, 0);
                }
            }
            // Nothing in flight any more, and time passes: every pod without gates gets its turn.
            for uid in waiting.clone() {
                queue.park(&uid, Plugins::only(FIT), &caches, now);
            }
            now += MAX_PARKED + MAX_BACKOFF;
            let mut turns = BTreeSet::new();
            while let Some(popped) = queue.pop(now) {
                turns.insert(popped.uid.to_string());
            }
            let gated = queue.entries.values().filter(|entry| entry.place == Place::Gated);
            turns.extend(gated.map(|entry| entry.pod.uid.to_string()));
            prop_assert_eq!(turns, waiting);
        }
    }
}
