//! The guarantees of an orchestrator, judged over the history of its objects and of what really ran.
//!
//! ```text
//! Record -> World { commits: what each revision changed, as typed objects; sights, calls, writes, faults, Q }
//!        -> c8 .. c42 -> Verdict
//! ```
//!
//! Objects are what the store held, revision by revision; containers are what really ran. What a client was told counts
//! for nothing but what clients are promised.

mod c11;
mod c11b;
mod c14;
mod c15;
mod c16;
mod c17;
mod c18;
mod c19;
mod c20;
mod c21;
mod c25;
mod c28;
mod c29;
mod c30;
mod c31;
mod c32;
mod c33;
mod c34;
mod c35;
mod c36;
mod c38;
mod c39;
mod c40;
mod c41;
mod c42;
mod c8;
mod facts;
mod objects;
mod places;
#[cfg(test)]
mod tale;
mod twin;
mod workloads;

pub(crate) use objects::{Budget, Commit, Deployment, Lease, Node, Object, Pod, ReplicaSet, Service};
pub use twin::{effective_writes_of, twin_of};

use crate::log::Log;
use faults::Ns;
use record::{Cluster, Record, SAMPLE_NS, Verdict};
use std::collections::BTreeSet;

/// A trial of an orchestrator, as its checkers see it.
pub(crate) struct World<'a> {
    pub(crate) record: &'a Record,
    pub(crate) cluster: &'a Cluster,
    /// What each revision changed below `/registry/`, in order of revision. A revision that changed several keys is
    /// several commits.
    pub(crate) commits: Vec<Commit>,
    /// Every change of a fence, in order of revision.
    pub(crate) fences: Vec<facts::FenceCommit<'a>>,
    /// Q: no fault is active after it but what is frozen, and no user changes a spec.
    pub(crate) quiet_ns: Ns,
    /// Members of which nothing is expected in the end.
    frozen: BTreeSet<u32>,
}

impl<'a> World<'a> {
    /// `None` for a trial without an orchestrator.
    pub(crate) fn new(record: &'a Record, log: &Log<'a>) -> Option<Self> {
        let cluster = record.config.cluster.as_ref()?;
        let heals = record.strikes.iter().filter(|strike| !strike.is_frozen(record.ended_ns));
        let healed_ns = heals.map(|strike| strike.until_ns).max().unwrap_or(0);
        let written_ns = record.cluster.writes.iter().map(|write| write.completed_ns).max().unwrap_or(0);
        let quiet_ns = healed_ns.max(written_ns).max(record.healed_ns);
        let commits = objects::commits(log, SAMPLE_NS + record.slack_ns);
        let frozen = record.frozen_members();
        Some(Self { record, cluster, commits, fences: facts::fences(log), quiet_ns, frozen })
    }
}

impl World<'_> {
    /// How much later than it happened a change may be seen in the store.
    pub(crate) fn sample_ns(&self) -> Ns {
        SAMPLE_NS + self.record.slack_ns
    }

    /// Whether a process, called as in [`record::EndState`], is on a member that nobody heals: how it stands in the end says
    /// nothing.
    pub(crate) fn is_frozen(&self, process: &str) -> bool {
        let host = process.split('/').next().unwrap_or_default();
        self.frozen.iter().any(|member| *host == format!("s{}", member + 1))
    }
}

/// Judges a trial of an orchestrator by everything that is promised of one; nothing for any other trial.
pub(crate) fn judge(record: &Record, log: &Log<'_>) -> Vec<Verdict> {
    let Some(world) = World::new(record, log) else { return vec![] };
    let checks = [
        c8::check,
        c11::check,
        c11b::check,
        c14::check,
        c15::check,
        c16::check,
        c17::check,
        c18::check,
        c19::check,
        c20::check,
        c21::check,
        c25::check,
        c28::check,
        c29::check,
        c30::check,
        c31::check,
        c32::check,
        c33::check,
        c34::check,
        c35::check,
        c36::check,
        c38::check,
        c39::check,
        c40::check,
        c41::check,
        c42::check,
    ];
    checks.iter().map(|check| check(&world)).collect()
}
