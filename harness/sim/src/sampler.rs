//! Looks at running members and turns what changed since the last look into observations.
//!
//! **Invariant:** each revision's changes and each lease's beginning and end are told once, by the first member that is
//! seen to have applied them (`the_first_member_to_apply_a_revision_tells_it`).

use faults::Ns;
use record::Observation;
use store::server::View;
use store::types::Event;
use workloads::store::watch_event;

/// What was seen of the members so far.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Up to which Raft index each member was seen to have applied, in its present process.
    applied: Vec<u64>,
    /// The newest revision that any member was seen with.
    revision: i64,
    /// Leases as of the newest Raft index that any member was seen with, in order of id, with their seconds.
    leases: Vec<(i64, i64)>,
    leases_applied: u64,
}

/// Revisions asked of a member at once. A member that is seen ten times a second is seldom this far ahead.
const REVISIONS_AT_ONCE: usize = 1000;

impl Sampler {
    pub(crate) fn new(members: u32) -> Self {
        Self { applied: vec![0; members as usize], revision: 1, leases: Vec::new(), leases_applied: 0 }
    }

    /// A member's process ended: its successor begins anew.
    pub(crate) fn forget(&mut self, member: u32) {
        self.applied[member as usize] = 0;
    }

    /// Looks at a member. `changes` tells what revisions from the first on changed, at most as many as the second.
    /// `None` if it has not applied anything since the last look.
    pub(crate) fn look(
        &mut self,
        at_ns: Ns,
        member: u32,
        view: &View,
        changes: impl Fn(i64, usize) -> Vec<(i64, Vec<Event>)>,
    ) -> Option<Vec<Observation>> {
        let last_applied = &mut self.applied[member as usize];
        if view.applied == *last_applied {
            return None;
        }
        *last_applied = view.applied;
        let mut seen = Vec::new();
        while self.revision < view.revision {
            let told = changes(self.revision + 1, REVISIONS_AT_ONCE);
            let Some((last, _)) = told.last() else { break };
            self.revision = *last;
            seen.extend(told.into_iter().map(|(revision, events)| {
                let events = events.iter().map(watch_event).collect();
                Observation::Applied { at_ns, member, revision, events }
            }));
        }
        if view.applied > self.leases_applied {
            self.leases_applied = view.applied;
            if view.leases != self.leases {
                self.compare_leases(at_ns, member, &view.leases, &mut seen);
            }
        }
        let (revision, applied, hash) = (view.revision, view.applied, view.state_hash);
        seen.push(Observation::State { at_ns, member, revision, applied, hash });
        Some(seen)
    }

    fn compare_leases(&mut self, at_ns: Ns, member: u32, now: &[(i64, i64)], seen: &mut Vec<Observation>) {
        let exists = |leases: &[(i64, i64)], id: i64| leases.iter().any(|(other, _)| *other == id);
        for (lease, _) in self.leases.iter().filter(|(id, _)| !exists(now, *id)) {
            seen.push(Observation::LeaseGone { at_ns, member, lease: *lease });
        }
        for (lease, ttl_s) in now.iter().filter(|(id, _)| !exists(&self.leases, *id)) {
            seen.push(Observation::LeaseGranted { at_ns, member, lease: *lease, ttl_s: *ttl_s });
        }
        now.clone_into(&mut self.leases);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::WatchEvent;
    use store::types::{EventKind, KeyValue};

    fn view(applied: u64, revision: i64, leases: &[(i64, i64)]) -> View {
        View {
            member: 1,
            term: 1,
            role: raft::Role::Follower,
            leader: 0,
            commit: applied,
            applied,
            format: store::Format::FIRST,
            revision,
            compacted_revision: 0,
            state_hash: applied * 10,
            keys: 0,
            bytes: 0,
            leases: leases.to_vec(),
        }
    }

    /// A tree in which each revision from 2 on deletes the key "k", and revisions before 4 are compacted.
    fn changes(from: i64, max: usize) -> Vec<(i64, Vec<Event>)> {
        let kv = |mod_revision| KeyValue { key: "k".into(), mod_revision, ..KeyValue::default() };
        let event = |revision| Event { kind: EventKind::Delete, kv: kv(revision), prev_kv: None };
        (from.max(4)..=9).take(max).map(|revision| (revision, vec![event(revision)])).collect()
    }

    fn applied(at_ns: Ns, member: u32, revision: i64) -> Observation {
        let events = vec![WatchEvent::Delete { key: "k".into(), mod_revision: revision }];
        Observation::Applied { at_ns, member, revision, events }
    }

    fn state(at_ns: Ns, member: u32, revision: i64, applied: u64) -> Observation {
        Observation::State { at_ns, member, revision, applied, hash: applied * 10 }
    }

    #[test]
    fn the_first_member_to_apply_a_revision_tells_it() {
        let mut sampler = Sampler::new(2);
        let first = sampler.look(100, 0, &view(8, 9, &[]), changes);
        let told: Vec<Observation> = (4..=9).map(|revision| applied(100, 0, revision)).collect();
        assert_eq!(first, Some([told, vec![state(100, 0, 9, 8)]].concat()), "what is compacted cannot be told");
        assert_eq!(sampler.look(100, 1, &view(7, 8, &[]), changes), Some(vec![state(100, 1, 8, 7)]));
        assert_eq!(sampler.look(200, 0, &view(8, 9, &[]), changes), None);
    }

    #[test]
    fn leases_are_told_by_the_member_that_is_ahead() {
        let mut sampler = Sampler::new(2);
        let granted = sampler.look(100, 0, &view(3, 1, &[(5, 60)]), changes);
        let begins = Observation::LeaseGranted { at_ns: 100, member: 0, lease: 5, ttl_s: 60 };
        assert_eq!(granted, Some(vec![begins, state(100, 0, 1, 3)]));
        let lags = sampler.look(200, 1, &view(2, 1, &[]), changes);
        assert_eq!(lags, Some(vec![state(200, 1, 1, 2)]));
        let gone = sampler.look(300, 1, &view(4, 1, &[]), changes);
        let ends = Observation::LeaseGone { at_ns: 300, member: 1, lease: 5 };
        assert_eq!(gone, Some(vec![ends, state(300, 1, 1, 4)]));
    }

    #[test]
    fn a_member_that_starts_again_is_seen_again() {
        let mut sampler = Sampler::new(1);
        assert!(sampler.look(100, 0, &view(3, 1, &[]), changes).is_some());
        sampler.forget(0);
        assert_eq!(sampler.look(200, 0, &view(3, 1, &[]), changes), Some(vec![state(200, 0, 1, 3)]));
    }
}
