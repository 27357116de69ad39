//! Linearizable reads on their way to being answerable.
//!
//! ```text
//! push -> waiting -> begin_round -> asked (Raft confirms leadership once for all of them)
//!                                     -> confirmed(index) -> until applied(index) -> serve
//!                                     -> no answer: retry -> waiting again
//!                                     -> leader lost: give_up
//! ```
//!
//! One round is under way at a time, and everything that arrives meanwhile shares the next: the cost of a round does not
//! grow with the number of reads.
//!
//! **Invariant:** a read is served only after a round that began when the read was already here, and only from a state
//! that contains the round's index (test `a_read_never_joins_a_round_that_began_before_it`).

use raft::Index;
use rt::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads that may be under way at once; beyond it a read is refused. A round takes a few milliseconds, so that many only
/// gather when the member cannot serve anyway.
pub const MAX_READS: usize = 8_192;

/// A round without answer is begun anew after this long: a lost message costs no more, and a healthy round is over long
/// before.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The queue. `T` is a read and whom to answer.
pub struct ReadQueue<T> {
    waiting: Vec<(Instant, T)>,
    round: Option<Round<T>>,
    /// Confirmed, by the index that must be applied first.
    confirmed: BTreeMap<Index, Vec<(Instant, T)>>,
    next_context: u64,
    count: usize,
}

struct Round<T> {
    context: u64,
    began: Instant,
    reads: Vec<(Instant, T)>,
}

impl<T> ReadQueue<T> {
    /// An empty queue whose rounds are numbered from `first_context`; as with proposals, two processes of a member must
    /// not use the same numbers.
    pub fn new(first_context: u64) -> Self {
        Self {
            waiting: Vec::new(),
            round: None,
            confirmed: BTreeMap::new(),
            next_context: first_context >> 1,
            count: 0,
        }
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        self.count < MAX_READS
    }

    /// Takes a read in, to be given up at `deadline`.
    pub fn push(&mut self, deadline: Instant, read: T) {
        self.count += 1;
        self.waiting.push((deadline, read));
    }

    /// Begins a round for all that wait, if any wait and none is under way. Returns the context to ask Raft with.
    pub fn begin_round(&mut self, now: Instant) -> Option<u64> {
        if self.round.is_some() || self.waiting.is_empty() {
            return None;
        }
        let context = self.next_context;
        self.next_context += 1;
        self.round = Some(Round { context, began: now, reads: std::mem::take(&mut self.waiting) });
        Some(context)
    }

    /// Raft confirmed the round of `context` with `index`. A round that was given up meanwhile changes nothing.
    pub fn confirm(&mut self, context: u64, index: Index) {
        if let Some(round) = self.round.take_if(|round| round.context == context) {
            self.confirmed.entry(index).or_default().extend(round.reads);
        }
    }

    /// The reads that a state with `applied` may serve, in order of arrival per index.
    pub fn served_by(&mut self, applied: Index) -> Vec<T> {
        let mut reads = Vec::new();
        while let Some(first) = self.confirmed.first_entry()
            && *first.key() <= applied
        {
            reads.extend(first.remove().into_iter().map(|(_, read)| read));
        }
        self.count -= reads.len();
        reads
    }

    /// Ends a round that has gone unanswered for too long, or any with `at_once`, so that a new one can begin.
    pub fn retry(&mut self, now: Instant, at_once: bool) {
        if let Some(round) = self.round.take_if(|round| at_once || now - round.began >= RETRY_AFTER) {
            let later = std::mem::replace(&mut self.waiting, round.reads);
            self.waiting.extend(later);
        }
    }

    /// Reads that no round has confirmed: without a leader none will.
    pub fn give_up(&mut self) -> Vec<T> {
        let asked = self.round.take().map(|round| round.reads).unwrap_or_default();
        let all: Vec<T> = asked.into_iter().chain(self.waiting.drain(..)).map(|(_, read)| read).collect();
        self.count -= all.len();
        all
    }

    /// Reads whose deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        if self.count == 0 {
            return Vec::new();
        }
        let asked = self.round.iter_mut().map(|round| &mut round.reads);
        let lists = asked.chain([&mut self.waiting]).chain(self.confirmed.values_mut());
        let expired: Vec<T> = lists
            .flat_map(|list| list.extract_if(.., |(deadline, _)| *deadline <= now))
            .map(|(_, read)| read)
            .collect();
        self.count -= expired.len();
        expired
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (Instant, ReadQueue<char>) {
        (Instant::now(), ReadQueue::new(0))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_read_never_joins_a_round_that_began_before_it() {
        let (now, mut queue) = queue();
        queue.push(now + LONG, 'a');
        let first = queue.begin_round(now).unwrap();
        queue.push(now + LONG, 'b');
        assert_eq!(queue.begin_round(now), None, "one round at a time");
        queue.confirm(first, 7);
        assert_eq!(queue.served_by(6), []);
        assert_eq!(queue.served_by(7), ['a']);
        let second = queue.begin_round(now).unwrap();
        assert_ne!(first, second);
        queue.confirm(first, 8);
        assert_eq!(queue.served_by(8), [], "the first round's answer does not serve the second's reads");
        queue.confirm(second, 8);
        assert_eq!(queue.served_by(8), ['b']);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_unanswered_round_is_begun_anew_with_a_new_context() {
        let (now, mut queue) = queue();
        queue.push(now + LONG, 'a');
        let first = queue.begin_round(now).unwrap();
        queue.push(now + LONG, 'b');
        queue.retry(now + RETRY_AFTER / 2, false);
        assert_eq!(queue.begin_round(now), None);
        queue.retry(now + RETRY_AFTER, false);
        let second = queue.begin_round(now + RETRY_AFTER).unwrap();
        queue.confirm(first, 3);
        assert_eq!(queue.served_by(3), [], "a late answer to the old round is ignored");
        queue.confirm(second, 4);
        assert_eq!(queue.served_by(4), ['a', 'b']);
    }

    #[test]
    fn without_a_leader_only_confirmed_reads_stay() {
        let (now, mut queue) = queue();
        queue.push(now + LONG, 'a');
        let context = queue.begin_round(now).unwrap();
        queue.confirm(context, 9);
        queue.push(now + LONG, 'b');
        queue.begin_round(now).unwrap();
        queue.push(now + LONG, 'c');
        assert_eq!(queue.give_up(), ['b', 'c']);
        assert_eq!(queue.served_by(9), ['a']);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_read_is_given_up_at_its_deadline_wherever_it_waits() {
        let (now, mut queue) = queue();
        queue.push(now + Duration::from_secs(1), 'a');
        let context = queue.begin_round(now).unwrap();
        queue.confirm(context, 9);
        queue.push(now + Duration::from_secs(2), 'b');
        queue.begin_round(now).unwrap();
        queue.push(now + Duration::from_secs(3), 'c');
        assert_eq!(queue.expire(now), []);
        assert_eq!(queue.expire(now + Duration::from_secs(2)), ['b', 'a']);
        assert_eq!(queue.expire(now + Duration::from_secs(3)), ['c']);
        assert!(queue.is_empty());
    }
}
