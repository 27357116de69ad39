//! The work queue of one controller: which keys are due, and which are being worked on. Time is an argument.
//!
//! **Invariant:** a key is never handed out twice at once, and none that was added is forgotten
//! (`every_key_added_is_handed_out_after_it_was_added`).

use crate::backoff::exponential;
use crate::controller::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The first wait after a failure, as upstream's item rate limiter.
const FAILURE_BASE: Duration = Duration::from_millis(5);
/// The longest wait after a failure: upstream has 1000 s; what must converge within minutes cannot wait so long.
const FAILURE_LIMIT: Duration = Duration::from_secs(300);
/// The longest wait after a conflict: somebody else changed the object, and the cache is about to have that.
const CONFLICT_LIMIT: Duration = Duration::from_secs(1);

/// What came of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left to do, or nothing before so long.
    Done(Option<Duration>),
    /// Look again now.
    Again,
    /// Somebody else changed what was to be changed.
    Conflict,
    /// It failed.
    Failed,
}

/// Keys in order of time, and for equal times by name.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    due: BTreeSet<(Duration, Key)>,
    keys: BTreeMap<Key, Item>,
    running: usize,
}

#[derive(Debug, Default)]
struct Item {
    /// When it is due, if it is queued.
    due: Option<Duration>,
    /// It is being worked on.
    running: bool,
    /// Since when it waits to be worked on, delays that it was given not counted.
    waiting: Option<Duration>,
    failures: u32,
}

impl Queue {
    /// `key` is due now.
    pub(crate) fn add(&mut self, key: Key, now: Duration) {
        self.add_at(key, now);
    }

    /// `key` is due at `at`, or earlier if it was so already.
    fn add_at(&mut self, key: Key, at: Duration) {
        let item = self.keys.entry(key.clone()).or_default();
        if item.due.is_some_and(|due| due <= at) {
            return;
        }
        let before = item.due.replace(at);
        item.waiting = Some(at);
        // One that is being worked on is queued when that is done.
        if item.running {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, key.clone()));
        }
        self.due.insert((at, key));
    }

    /// The key that is due longest, to be worked on from now on.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Key> {
        if self.due.first().is_none_or(|(due, _)| *due > now) {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        let item = self.keys.entry(key.clone()).or_default();
        item.due = None;
        item.waiting = None;
        item.running = true;
        self.running += 1;
        Some(key)
    }

    /// `key` is no longer being worked on.
    pub(crate) fn done(&mut self, key: &Key, outcome: Outcome, now: Duration) {
        let Some(item) = self.keys.get_mut(key).filter(|item| item.running) else { return };
        item.running = false;
        self.running -= 1;
        let next = match outcome {
            Outcome::Done(after) => {
                item.failures = 0;
                after.map(|after| now.saturating_add(after))
            }
            Outcome::Again => {
                item.failures = 0;
                Some(now)
            }
            Outcome::Conflict => {
                let wait = exponential(FAILURE_BASE, CONFLICT_LIMIT, item.failures);
                item.failures = item.failures.saturating_add(1);
                Some(now + wait)
            }
            Outcome::Failed => {
                let wait = exponential(FAILURE_BASE, FAILURE_LIMIT, item.failures);
                item.failures = item.failures.saturating_add(1);
                Some(now + wait)
            }
        };
        // What was added meanwhile is put in its place.
        let added = item.due.take();
        if added.is_none() && next.is_none() && item.failures == 0 {
            self.keys.remove(key);
            return;
        }
        for at in added.into_iter().chain(next) {
            self.add_at(key.clone(), at);
        }
    }

    /// When the next key is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// How many keys are being worked on.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// How many keys are due and not being worked on.
    pub(crate) fn ready(&self, now: Duration) -> usize {
        self.due.iter().take_while(|(due, _)| *due <= now).count()
    }

    /// How many keys are to be looked at later.
    pub(crate) fn delayed(&self, now: Duration) -> usize {
        self.due.len() - self.ready(now)
    }

    /// For how long the key that waits longest has been due.
    pub(crate) fn oldest(&self, now: Duration) -> Duration {
        let since = self.keys.values().filter_map(|item| item.waiting).min();
        since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use rt::random::Random;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Steps at times in milliseconds: `+a` adds, `!` pops all that are due, `a.` is done, `a.50` done and again after
    /// 50 ms, `a>` again now, `ac` conflict, `af` failed.
    fn check(steps: &str, expected: Expect) {
        let mut queue = Queue::default();
        let mut told = String::new();
        for step in steps.split_whitespace() {
            let (at, step) = step.split_once(':').expect("a step has a time");
            let now = ms(at.parse().expect("a time is a number"));
            if let Some(name) = step.strip_prefix('+') {
                queue.add(Key::new("", name), now);
                continue;
            }
            if step == "!" {
                let popped: Vec<String> = std::iter::from_fn(|| queue.pop(now)).map(|key| key.name).collect();
                let next = queue.next_due().map_or("-".to_owned(), |due| due.as_millis().to_string());
                told.push_str(&format!("{at}: {} next {next}\n", popped.join(" ")));
                continue;
            }
            let (name, how) = step.split_at(1);
            let outcome = match how {
                "." => Outcome::Done(None),
                ">" => Outcome::Again,
                "c" => Outcome::Conflict,
                "f" => Outcome::Failed,
                after => Outcome::Done(Some(ms(after[1..].parse().expect("a delay is a number")))),
            };
            queue.done(&Key::new("", name), outcome, now);
        }
        expected.assert_eq(&told);
    }

    #[test]
    fn keys_come_once_and_in_order_of_time() {
        check(
            "0:+b 1:+a 1:+b 2:! 3:!",
            expect![[r#"
            2: b a next -
            3:  next -
        "#]],
        );
    }

    #[test]
    fn a_key_added_while_it_is_worked_on_comes_again_afterwards() {
        check(
            "0:+a 0:! 1:+a 2:! 3:a. 3:!",
            expect![[r#"
            0: a next -
            2:  next -
            3: a next -
        "#]],
        );
    }

    #[test]
    fn failures_wait_longer_each_time_until_one_success() {
        check(
            "0:+a 0:! 0:af 0:! 5:! 5:af 5:! 15:! 15:a. 20:+a 20:! 20:af 20:!",
            expect![[r#"
            0: a next -
            0:  next 5
            5: a next -
            5:  next 15
            15: a next -
            20: a next -
            20:  next 25
        "#]],
        );
    }

    #[test]
    fn a_change_ends_a_delay() {
        check(
            "0:+a 0:! 0:a.500 0:! 3:+a 3:! 3:a. 500:!",
            expect![[r#"
            0: a next -
            0:  next 500
            3: a next -
            500:  next -
        "#]],
        );
    }

    #[test]
    fn conflicts_come_back_soon() {
        let mut queue = Queue::default();
        let (key, mut now) = (Key::new("", "a"), Duration::ZERO);
        queue.add(key.clone(), now);
        for _ in 0..30 {
            assert_eq!(queue.pop(now), Some(key.clone()));
            queue.done(&key, Outcome::Conflict, now);
            let due = queue.next_due().expect("it comes back");
            assert!(due - now <= CONFLICT_LIMIT);
            now = due;
        }
    }

    #[test]
    fn every_key_added_is_handed_out_after_it_was_added() {
        let mut random = Random::from_seed(3);
        let mut queue = Queue::default();
        let mut owed: BTreeSet<Key> = BTreeSet::new();
        let mut running: Vec<Key> = Vec::new();
        let mut now = Duration::ZERO;
        for step in 0..20_000 {
            now += ms(random.below(3));
            let wind_down = step > 19_000;
            match random.below(3) {
                0 if !wind_down => {
                    let key = Key::new("", &random.below(7).to_string());
                    owed.insert(key.clone());
                    queue.add(key, now);
                }
                1 => {
                    if let Some(key) = queue.pop(now) {
                        assert!(!running.contains(&key), "handed out twice at once");
                        owed.remove(&key);
                        running.push(key);
                    }
                }
                _ if !running.is_empty() => {
                    let index = usize::try_from(random.below(running.len() as u64)).unwrap();
                    let key = running.swap_remove(index);
                    let outcome = if !wind_down && random.chance(300) { Outcome::Failed } else { Outcome::Done(None) };
                    queue.done(&key, outcome, now);
                }
                _ => {}
            }
            assert_eq!(queue.running(), running.len());
        }
        assert!(owed.is_empty(), "{owed:?}");
        assert_eq!(queue.oldest(now), Duration::ZERO);
    }
}
