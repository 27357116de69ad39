//! The names in one simulated directory: what the cache shows, what the platter holds, what is on its way. Pure.
//!
//! Changes reach the platter in their order, as those of a journaling file system do: power loss leaves the state after
//! some change, the last synced one or a later.

use super::Lies;
use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};

/// How far a directory's changes had come when a sync began.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamesPoint(u64);

/// Names and what they lead to.
pub(super) struct Names<T> {
    cached: BTreeMap<String, T>,
    durable: BTreeMap<String, T>,
    /// Consecutive, the last of them number `next - 1`.
    pending: VecDeque<Change<T>>,
    next: u64,
}

enum Change<T> {
    Put { name: String, node: T },
    Rename { from: String, to: String },
    Remove { name: String },
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Names { cached: BTreeMap::new(), durable: BTreeMap::new(), pending: VecDeque::new(), next: 0 }
    }
}

impl<T: Clone> Names<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.cached.get(name)
    }

    /// In order of name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.cached.iter()
    }

    pub(super) fn put(&mut self, name: &str, node: T) {
        self.change(Change::Put { name: name.to_owned(), node });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned() });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(Change::Remove { name: name.to_owned() });
    }

    fn change(&mut self, change: Change<T>) {
        change.apply(&mut self.cached);
        self.pending.push_back(change);
        self.next += 1;
    }

    /// What a sync that begins now covers.
    pub(super) fn sync_point(&self) -> NamesPoint {
        NamesPoint(self.next)
    }

    /// A sync that covers `point` succeeded. (After a failed one the journal keeps its changes for the next.)
    pub(super) fn synced(&mut self, point: NamesPoint) {
        let uncovered = (self.next - point.0) as usize;
        for _ in uncovered..self.pending.len() {
            if let Some(change) = self.pending.pop_front() {
                change.apply(&mut self.durable);
            }
        }
    }

    /// The cache is gone; of the changes that were not synced, the first few had reached the platter.
    pub(super) fn power_loss(&mut self, random: &mut Random, lies: &Lies) {
        let survivors = match self.pending.len() {
            0 => 0,
            n if lies.unsynced_names_survive => n as u64,
            n => random.below(n as u64 + 1),
        };
        for (i, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let survives = if lies.names_change_their_order { random.chance(500) } else { (i as u64) < survivors };
            if survives {
                change.apply(&mut self.durable);
            }
        }
        self.cached = self.durable.clone();
    }
}

impl<T: Clone> Change<T> {
    fn apply(&self, names: &mut BTreeMap<String, T>) {
        match self {
            Change::Put { name, node } => {
                names.insert(name.clone(), node.clone());
            }
            Change::Rename { from, to } => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Change::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "+a" puts, "-a" removes, "a>b" renames, "s" syncs. What all draws of a power loss leave.
    fn after_power_loss(steps: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for seed in 0..100 {
            let mut names = Names::default();
            for step in steps {
                match (step.strip_prefix('+'), step.strip_prefix('-'), step.split_once('>')) {
                    (Some(name), ..) => names.put(name, ()),
                    (_, Some(name), _) => names.remove(name),
                    (.., Some((from, to))) => names.rename(from, to),
                    _ => names.synced(names.sync_point()),
                }
            }
            names.power_loss(&mut Random::from_seed(seed), &Lies::NONE);
            found.push(names.iter().map(|(name, ())| name.as_str()).collect::<Vec<_>>().join(" "));
        }
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn power_loss_leaves_the_state_after_some_change() {
        assert_eq!(after_power_loss(&["+a", "+b", "s"]), ["a b"]);
        assert_eq!(after_power_loss(&["+a", "+b"]), ["", "a", "a b"]);
        assert_eq!(after_power_loss(&["+a", "s", "a>b", "+c"]), ["a", "b", "b c"]);
        assert_eq!(after_power_loss(&["+a", "+b", "s", "a>b"]), ["a b", "b"]);
        assert_eq!(after_power_loss(&["+a", "s", "-a", "s"]), [""]);
    }

    #[test]
    fn what_comes_after_the_beginning_of_a_sync_is_not_covered_by_it() {
        let mut names = Names::default();
        names.put("a", ());
        let point = names.sync_point();
        names.put("b", ());
        names.synced(point);
        assert_eq!(names.durable.keys().collect::<Vec<_>>(), ["a"]);
        names.synced(point);
        assert_eq!(names.pending.len(), 1);
    }
}
