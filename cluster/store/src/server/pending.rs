//! Proposals that wait for their own entry to be applied here.
//!
//! ```text
//! request -> admit -> id -> command with (origin, id) -> Raft -> applied -> take(id) -> answer
//!                                                     -> never -> expire -> "unknown"
//! ```
//!
//! **Invariant:** a proposal that was handed to Raft is answered by its own entry or by its deadline, never by a guess:
//! after a change of leader it may still commit (test `a_proposal_leaves_by_its_entry_or_its_deadline_alone`).

use rt::time::Instant;
use std::collections::BTreeMap;

/// Proposals of this member that may be under way at once. Beyond it a request is refused before it has any effect: with
/// a leader's disk at 1,000 batches a second, this many are answered well within a client's timeout, more are not.
pub const MAX_PENDING: usize = 8_192;

/// The table. `T` is whom to answer.
pub struct Pending<T> {
    /// By id, hence in order of admission and of deadline.
    waiting: BTreeMap<u64, (Instant, T)>,
    next_id: u64,
}

impl<T> Pending<T> {
    /// An empty table whose ids begin at `first_id`. An entry that a former process of this member proposed may commit
    /// only now, so `first_id` must be drawn from a space so large that ids of two processes never meet.
    pub fn new(first_id: u64) -> Self {
        // Half of the space is left, so that counting never wraps around.
        Self { waiting: BTreeMap::new(), next_id: first_id >> 1 }
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MAX_PENDING
    }

    /// Takes a proposal in until `deadline`, which must not be before that of an earlier one. Returns the id that its
    /// command is to carry.
    pub fn admit(&mut self, deadline: Instant, waiter: T) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.insert(id, (deadline, waiter));
        id
    }

    /// Whom to answer for the entry of `id`; `None` if it is not of this process or was given up.
    pub fn take(&mut self, id: u64) -> Option<T> {
        self.waiting.remove(&id).map(|(_, waiter)| waiter)
    }

    /// Those whose deadline has passed: their outcome is unknown.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && first.get().0 <= now
        {
            expired.push(first.remove().1);
        }
        expired
    }

    /// Gives those that are here now no longer than until `deadline`, which must not be after that of a later one.
    pub fn hasten(&mut self, deadline: Instant) {
        for (until, _) in self.waiting.values_mut() {
            *until = deadline.min(*until);
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_proposal_leaves_by_its_entry_or_its_deadline_alone() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pending = Pending::new(u64::MAX);
        let a = pending.admit(after(5), 'a');
        let b = pending.admit(after(6), 'b');
        let c = pending.admit(after(7), 'c');
        assert!(a < b && b < c);
        assert_eq!(pending.take(b), Some('b'));
        assert_eq!(pending.take(b), None, "an entry answers once");
        assert_eq!(pending.expire(after(4)), []);
        assert_eq!(pending.expire(after(5)), ['a']);
        assert_eq!(pending.take(a), None, "what was given up is not answered again");
        assert_eq!(pending.take(c), Some('c'));
        assert!(pending.is_empty());
    }

    #[test]
    fn hastening_shortens_and_never_lengthens() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pending = Pending::new(0);
        pending.admit(after(1), 'a');
        pending.admit(after(5), 'b');
        pending.hasten(after(2));
        pending.admit(after(6), 'c');
        assert_eq!(pending.expire(after(1)), ['a']);
        assert_eq!(pending.expire(after(2)), ['b']);
        assert_eq!(pending.expire(after(5)), []);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut pending = Pending::new(0);
        let now = Instant::now();
        for _ in 0..MAX_PENDING {
            assert!(pending.has_room());
            pending.admit(now, ());
        }
        assert!(!pending.has_room());
        pending.expire(now);
        assert!(pending.has_room());
    }
}
