//! What is to happen later: events in order of time, and the one task that they wake.
//!
//! ```text
//! at(time, event) -> heap -> earliest: one madsim timer -> driver task -> next_due(), until none is left
//! ```
//!
//! madsim's timers can neither be cancelled nor carry a value, and each costs an allocation and a wake. An agenda keeps
//! its events itself and asks madsim only for its earliest time, so that events at one instant share a timer and those
//! that are overtaken by a nearer one cost nothing. There is no pump: an empty agenda has no timer.
//!
//! **Invariant:** events at one instant come in the order in which they were entered
//! (`events_come_in_order_of_time_then_of_entry`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use madsim::time::{Instant, TimeHandle};

/// True time since the simulation began, in nanoseconds.
pub(crate) type Ns = u64;

/// Events in order of time. The owner's driver task handles those that are due.
pub(crate) struct Agenda<E> {
    time: TimeHandle,
    /// madsim's instant at time zero.
    origin: Instant,
    heap: BinaryHeap<Entry<E>>,
    /// Number of the next entry.
    sequence: u64,
    /// Times for which a madsim timer is outstanding, the earliest on top.
    armed: BinaryHeap<Reverse<Ns>>,
    /// The driver task, once it runs.
    driver: Option<Waker>,
    /// True while the driver handles events: it arms once, at the end.
    driving: bool,
}

struct Entry<E> {
    at: Ns,
    sequence: u64,
    event: E,
}

impl<E> Agenda<E> {
    /// An empty one on madsim's clock.
    pub(crate) fn new(time: TimeHandle) -> Self {
        let origin = time.now_instant() - time.elapsed();
        Agenda {
            time,
            origin,
            heap: BinaryHeap::new(),
            sequence: 0,
            armed: BinaryHeap::new(),
            driver: None,
            driving: false,
        }
    }

    /// Now, in true time.
    pub(crate) fn now(&self) -> Ns {
        self.time.elapsed().as_nanos() as Ns
    }

    /// Enters `event` for time `at`; its number is never given twice.
    pub(crate) fn at(&mut self, at: Ns, event: E) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, event });
        if !self.driving {
            self.arm();
        }
    }

    /// Begins a round of the driver, which `waker` wakes.
    pub(crate) fn begin(&mut self, waker: &Waker) {
        if !self.driver.as_ref().is_some_and(|driver| driver.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
        self.driving = true;
        let now = self.now();
        while self.armed.peek().is_some_and(|at| at.0 <= now) {
            self.armed.pop();
        }
    }

    /// The next event that is due at `now`, with its time.
    pub(crate) fn next_due(&mut self, now: Ns) -> Option<(Ns, E)> {
        if self.heap.peek()?.at > now {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }

    /// Ends a round of the driver.
    pub(crate) fn end(&mut self) {
        self.driving = false;
        self.arm();
    }

    /// Forgets the earliest events as long as they are not `alive`, so that nobody is woken for them.
    pub(crate) fn skim(&mut self, alive: impl Fn(&E) -> bool) {
        while self.heap.peek().is_some_and(|entry| !alive(&entry.event)) {
            self.heap.pop();
        }
    }

    /// Forgets all events that are not `alive`.
    pub(crate) fn retain(&mut self, alive: impl Fn(&E) -> bool) {
        self.heap.retain(|entry| alive(&entry.event));
    }

    /// Number of events entered and not yet forgotten.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets everything and returns the driver's waker, to be dropped without a lock held.
    pub(crate) fn clear(&mut self) -> Option<Waker> {
        self.heap = BinaryHeap::new();
        self.driver.take()
    }

    /// Makes sure that a madsim timer wakes the driver for the earliest event.
    fn arm(&mut self) {
        let (Some(earliest), Some(driver)) = (self.heap.peek(), &self.driver) else {
            return;
        };
        let at = earliest.at;
        if self.armed.peek().is_some_and(|armed| armed.0 <= at) {
            return;
        }
        let deadline = self.origin + Duration::from_nanos(at);
        let mut sleep = self.time.sleep_until(deadline);
        // `sleep_until` alone is never shorter than a millisecond.
        Pin::new(&mut sleep).reset(deadline);
        if Pin::new(&mut sleep).poll(&mut Context::from_waker(driver)).is_ready() {
            driver.wake_by_ref();
        } else {
            self.armed.push(Reverse(at));
        }
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest: a heap has its greatest on top.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};
    use std::task::Poll;

    use madsim::runtime::Runtime;
    use madsim::task::spawn;

    use super::*;
    use crate::sim::lock;

    type Shared = Arc<Mutex<(Agenda<&'static str>, String)>>;

    /// Enters `events` at once and returns what the driver saw by `until`, and how often it was woken.
    fn drive(events: &'static [(Ns, &'static str)], until: Ns) -> (String, usize) {
        Runtime::new().block_on(async move {
            let time = TimeHandle::current();
            let shared: Shared = Arc::new(Mutex::new((Agenda::new(time.clone()), String::new())));
            let driven = shared.clone();
            let polls = Arc::new(Mutex::new(0));
            let counted = polls.clone();
            spawn(poll_fn(move |cx| {
                let (agenda, seen) = &mut *lock(&driven);
                *lock(&counted) += 1;
                agenda.begin(cx.waker());
                let now = agenda.now();
                while let Some((at, event)) = agenda.next_due(now) {
                    assert!(at <= now && now < at + 1_000, "{at} came at {now}");
                    seen.push_str(event);
                    if event == "again" {
                        agenda.at(now + 10_000, "later");
                    }
                }
                agenda.end();
                Poll::<()>::Pending
            }));
            madsim::time::sleep(Duration::from_millis(1)).await;
            for &(at, event) in events {
                lock(&shared).0.at(2_000_000 + at, event);
            }
            time.sleep_until(time.now_instant() + Duration::from_nanos(2_000_000 + until)).await;
            let seen = lock(&shared).1.clone();
            (seen, *lock(&polls))
        })
    }

    #[test]
    fn events_come_in_order_of_time_then_of_entry() {
        let events = &[(50_000, "c"), (10_000, "a"), (50_000, "d"), (10_000, "b"), (9_999, "0")];
        assert_eq!(drive(events, 100_000).0, "0abcd");
    }

    #[test]
    fn what_is_entered_by_the_driver_comes_too() {
        assert_eq!(drive(&[(10_000, "again")], 100_000).0, "againlater");
    }

    #[test]
    fn events_at_one_instant_share_a_wake() {
        let (seen, polls) = drive(&[(5_000, "a"), (5_000, "b"), (5_000, "c")], 100_000);
        assert_eq!((seen.as_str(), polls), ("abc", 2), "one at its start, one for them");
    }

    #[test]
    fn what_is_forgotten_does_not_come() {
        let mut agenda = Runtime::new().block_on(async { Agenda::new(TimeHandle::current()) });
        for (at, event) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
            agenda.at(at, event);
        }
        agenda.skim(|event| *event > 2);
        assert_eq!(agenda.len(), 2);
        agenda.retain(|event| *event == 4);
        assert_eq!(agenda.next_due(9), Some((4, 4)));
        assert_eq!(agenda.next_due(9), None);
    }
}
