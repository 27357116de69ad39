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
