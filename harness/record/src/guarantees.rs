//! The table of guarantees: what each promises, and whether breaking it loses something or only keeps somebody waiting.
//!
//! Checkers judge by these ids, reports print these texts, and records name them. A guarantee enters the table when a
//! checker for it exists.
//!
//! **Invariant:** [`GUARANTEES`] holds every [`Guarantee`] once, in order (`the_table_holds_each_guarantee_once_in_order`).

use faults::Ns;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everything that is promised and checked, in order of [`Guarantee`].
pub const GUARANTEES: &[Guaranteed] = &[
    Guaranteed {
        id: Guarantee::C1,
        text: "Reads and writes happen one after the other, in real time.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C2,
        text: "Later reads have each acknowledged write, or a newer one.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C3,
        text: "Members that applied the same log hold the same state.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C4,
        text: "What changes something raises the revision by exactly one.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C5,
        text: "A term has at most one leader.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C6,
        text: "While a majority is able and connected, writes commit.",
        side: Side::Liveness,
        bound_ns: Some(PROGRESS_NS),
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C7,
        text: "A watch brings every change once and in order.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C8,
        text: "Every cache comes to equal the store.",
        side: Side::Liveness,
        bound_ns: Some(CONVERGE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C9,
        text: "A lease outlives each acknowledged keep-alive by its TTL.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C10,
        text: "A lease that nobody keeps alive ends in time.",
        side: Side::Liveness,
        bound_ns: Some(PROGRESS_NS),
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C11,
        text: "What a deposed leader writes is refused.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C11B,
        text: "No two processes believe that they lead at once.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C12,
        text: "A transaction whose precondition fails never applies.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Store,
    },
    Guaranteed {
        id: Guarantee::C14,
        text: "A container that is not restarted starts at most once.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C15,
        text: "Succeeded and Failed are final.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C16,
        text: "A pod's node is written once.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C17,
        text: "Bindings never exceed what a node can allocate.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C18,
        text: "A pod that fits a ready node is bound in time.",
        side: Side::Liveness,
        bound_ns: Some(CONVERGE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C19,
        text: "Replicas come to be ready, and are never too many.",
        side: Side::Liveness,
        bound_ns: Some(CONVERGE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C20,
        text: "A rolling update keeps enough pods, and not too many.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C21,
        text: "A rollout completes, or says that it cannot.",
        side: Side::Liveness,
        bound_ns: Some(CONVERGE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C25,
        text: "Evictions never exceed what their budget allows.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C28,
        text: "Addresses are unique among the living.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C29,
        text: "What has a living owner is not collected.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C30,
        text: "Dependents of a missing owner go away in time.",
        side: Side::Liveness,
        bound_ns: Some(CONVERGE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C31,
        text: "Finalizers hold, and a namespace that goes is empty.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C32,
        text: "Endpoints and proxies come to equal the ready pods.",
        side: Side::Liveness,
        bound_ns: Some(CONVERGE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C33,
        text: "Nodes are tainted no faster than their zone allows.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C34,
        text: "A taint evicts once it is tolerated no more, not before.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C35,
        text: "A restart of an agent alone changes no container.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C36,
        text: "A deleted pod is gone in time.",
        side: Side::Liveness,
        bound_ns: Some(CONVERGE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C38,
        text: "Pods of a lost node come to run elsewhere.",
        side: Side::Liveness,
        bound_ns: Some(FAILOVER_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C39,
        text: "A container is asked to end before it is made to.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C40,
        text: "After the faults requests settle: no retry storm.",
        side: Side::Liveness,
        bound_ns: Some(CONVERGE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C41,
        text: "Queues stay short, and no key waits without end.",
        side: Side::Liveness,
        bound_ns: Some(QUEUE_NS),
        scope: Scope::Cluster,
    },
    Guaranteed {
        id: Guarantee::C42,
        text: "Creations stay within what was asked for and lost.",
        side: Side::Safety,
        bound_ns: None,
        scope: Scope::Cluster,
    },
];

/// Er: the longest election timeout of the store's members.
pub const ELECTION_NS: Ns = 2_000_000_000;

/// What a member may take to get over anything once it can: ten elections, of which several may be split votes.
pub const PROGRESS_NS: Ns = 10 * ELECTION_NS;

/// T: what an orchestrator may take to get over anything once nothing is wrong any more.
pub const CONVERGE_NS: Ns = 60_000_000_000;

/// D + V + T: a node is found lost, its pods' tolerations end, and others take their place.
pub const FAILOVER_NS: Ns = 50_000_000_000 + 300_000_000_000 + CONVERGE_NS;

/// R + T: the longest backoff, and a turn.
pub const QUEUE_NS: Ns = 300_000_000_000 + CONVERGE_NS;

/// Names a guarantee, in code, records and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Guarantee {
    /// Strict serializability.
    C1,
    /// Acknowledged writes stay.
    C2,
    /// Replicas agree.
    C3,
    /// Revisions count transactions.
    C4,
    /// One leader per term.
    C5,
    /// Progress.
    C6,
    /// Watches.
    C7,
    /// Caches converge.
    C8,
    /// Leases live long enough.
    C9,
    /// Leases do not live too long.
    C10,
    /// Effective leaders.
    C11,
    /// Believed leaders.
    C11B,
    /// Failed preconditions prevent.
    C12,
    /// At most one start.
    C14,
    /// Final phases.
    C15,
    /// One binding.
    C16,
    /// Capacity.
    C17,
    /// Scheduling.
    C18,
    /// Replicas.
    C19,
    /// Rolling updates.
    C20,
    /// Rollouts end.
    C21,
    /// Budgets.
    C25,
    /// Addresses.
    C28,
    /// Owners.
    C29,
    /// Collection.
    C30,
    /// Finalizers.
    C31,
    /// Services.
    C32,
    /// Zones.
    C33,
    /// Tolerations.
    C34,
    /// Restarts.
    C35,
    /// Deletion.
    C36,
    /// Failover.
    C38,
    /// Graceful ends.
    C39,
    /// Quiet.
    C40,
    /// Queues.
    C41,
    /// Creations.
    C42,
}

impl Guarantee {
    /// Its row in [`GUARANTEES`].
    pub fn guaranteed(self) -> &'static Guaranteed {
        GUARANTEES.iter().find(|g| g.id == self).expect("the table holds every guarantee, as its test says")
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Its id has a small letter.
            Guarantee::C11B => f.pad("C11b"),
            other => f.pad(&format!("{other:?}")),
        }
    }
}

/// One guarantee.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guaranteed {
    /// Its name.
    pub id: Guarantee,
    /// What it promises, in one sentence.
    pub text: &'static str,
    /// What its failure means.
    pub side: Side,
    /// Of what it speaks.
    pub scope: Scope,
    /// The largest time that [`crate::Verdict::largest_ns`] may reach; `None` for a promise without a bound in time.
    pub bound_ns: Option<Ns>,
}

/// Of what a guarantee speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The store: judged in every trial.
    Store,
    /// The orchestrator: judged in trials that have one.
    Cluster,
}

/// What a guarantee's failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Something wrong happened.
    Safety,
    /// Something right did not happen in time.
    Liveness,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_each_guarantee_once_in_order() {
        use Guarantee::*;
        let ids: Vec<_> = GUARANTEES.iter().map(|g| g.id).collect();
        let all = [
            C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C11B, C12, C14, C15, C16, C17, C18, C19, C20, C21, C25, C28,
            C29, C30, C31, C32, C33, C34, C35, C36, C38, C39, C40, C41, C42,
        ];
        assert_eq!(ids, all);
        for g in GUARANTEES {
            // Adding a variant stops this match from compiling, and so leads here.
            match g.id {
                C1 | C2 | C3 | C4 | C5 | C6 | C7 | C8 | C9 | C10 | C11 | C11B | C12 | C14 | C15 | C16 | C17 | C18
                | C19 | C20 | C21 | C25 | C28 | C29 | C30 | C31 | C32 | C33 | C34 | C35 | C36 | C38 | C39 | C40
                | C41 | C42 => {
                    assert_eq!(g.id.guaranteed(), g)
                }
            }
            assert!(g.text.ends_with('.') && g.text.matches('.').count() == 1, "{} is one sentence", g.id);
            assert!(g.text.len() <= 58, "{}: the report's table fits a terminal of 120 columns", g.id);
            assert_eq!(g.bound_ns.is_some(), g.side == Side::Liveness, "{}: what is late needs a bound", g.id);
        }
    }

    #[test]
    fn a_guarantee_is_written_as_its_id() {
        assert_eq!(serde_json::to_string(&Guarantee::C10).unwrap(), "\"C10\"");
        assert_eq!(serde_json::from_str::<Guarantee>("\"C7\"").unwrap(), Guarantee::C7);
        assert_eq!(Guarantee::C12.to_string(), "C12");
    }
}
