//! Scaling outside a rollout, and of a rollout under way: every active set gets its share. Upstream's `sync.go`.

use super::Rollout;
use super::sets::{self, Set};
use super::spec::{Strategy, Wanted};

impl Rollout<'_> {
    /// Whether the Deployment's size was changed since one of its active sets was scaled.
    pub(super) fn is_scaling(&self) -> bool {
        let mut active = self.all().filter(|set| set.is_active());
        active.any(|set| set.desired().is_some_and(|desired| desired != self.wanted.replicas))
    }

    /// Brings the sets to the Deployment's size without touching how far the rollout is.
    ///
    /// Every active set is decided on, even if its size is right already, so that its annotations are of this size from
    /// now on. Where upstream returns early instead, a stale one keeps a Deployment on this path, and its rollout
    /// standing, for ever (kubernetes#138036).
    pub(super) fn scale(&mut self) {
        let replicas = self.wanted.replicas;
        let active = self.all().filter(|set| set.is_active()).count();
        if active == 0 {
            let latest = match &mut self.new {
                Some(new) => Some(new),
                None => sets::newest(&mut self.old),
            };
            latest.into_iter().for_each(|set| set.scale(replicas));
        } else if active == 1 {
            self.active_mut().for_each(|set| set.scale(replicas));
        } else if self.is_saturated() {
            for set in self.active_mut() {
                let full = set.replicas;
                set.scale(full);
            }
            for old in self.old.iter_mut().filter(|old| old.is_active()) {
                old.scale(0);
            }
        } else {
            match self.wanted.strategy {
                Strategy::RollingUpdate { .. } => self.share(),
                Strategy::Recreate => self.active_mut().for_each(|set| set.scale(set.replicas)),
            }
        }
    }

    /// Whether the new set has all pods, and all of them are available.
    fn is_saturated(&self) -> bool {
        let replicas = self.wanted.replicas;
        self.new.as_ref().is_some_and(|new| {
            new.replicas == replicas && new.desired() == Some(replicas) && new.available() == replicas
        })
    }

    /// Gives each active set its share of what is to be added or taken away; what rounding leaves over goes to the
    /// largest.
    fn share(&mut self) {
        let allowed = if self.wanted.replicas > 0 { self.wanted.replicas + self.wanted.max_surge() } else { 0 };
        let total: i32 = self.all().map(|set| set.replicas).sum();
        let to_add = allowed - total;
        let before = self.status.replicas.unwrap_or(0);
        let wanted = self.wanted.clone();
        let mut active: Vec<&mut Set> = self.active_mut().collect();
        // Among sets of one size the newer grow first, and the older shrink first.
        sets::by_size(&mut active, to_add > 0);
        let mut added = 0;
        let mut sizes = Vec::with_capacity(active.len());
        for set in &active {
            let part = proportion(set, &wanted, before, to_add, added);
            sizes.push(set.replicas + part);
            added += part;
        }
        if let Some(largest) = sizes.first_mut() {
            *largest += to_add - added;
        }
        for (set, size) in active.into_iter().zip(sizes) {
            set.scale(size);
        }
    }
}

/// The part of `to_add` that falls to a set, of which others have got `added` already.
fn proportion(set: &Set, wanted: &Wanted, before: i32, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(set, wanted, before);
    if to_add > 0 { fraction.min(to_add - added) } else { fraction.max(to_add - added) }
}

/// By how much a set changes if all change alike. `before` stands in for the annotation where somebody removed it.
fn fraction(set: &Set, wanted: &Wanted, before: i32) -> i32 {
    if wanted.replicas == 0 {
        return -set.replicas;
    }
    let max_before = set.max_replicas().filter(|max| *max > 0).unwrap_or(before);
    if max_before <= 0 {
        return 0;
    }
    let max = i64::from(wanted.replicas) + i64::from(wanted.max_surge());
    let (size, max_before) = (i64::from(set.replicas), i64::from(max_before));
    // Rounded half up.
    let scaled = (2 * size * max + max_before) / (2 * max_before);
    i32::try_from(scaled - size).unwrap_or(i32::MAX)
}
