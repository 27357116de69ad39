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
    },
    Guaranteed {
        id: Guarantee::C2,
        text: "Later reads have each acknowledged write, or a newer one.",
        side: Side::Safety,
        bound_ns: None,
    },
    Guaranteed {
        id: Guarantee::C3,
        text: "Members that applied the same log hold the same state.",
        side: Side::Safety,
        bound_ns: None,
    },
    Guaranteed {
        id: Guarantee::C4,
        text: "What changes something raises the revision by exactly one.",
        side: Side::Safety,
        bound_ns: None,
    },
    Guaranteed { id: Guarantee::C5, text: "A term has at most one leader.", side: Side::Safety, bound_ns: None },
    Guaranteed {
        id: Guarantee::C6,
        text: "While a majority is able and connected, writes commit.",
        side: Side::Liveness,
        bound_ns: Some(PROGRESS_NS),
    },
    Guaranteed {
        id: Guarantee::C7,
        text: "A watch brings every change once and in order.",
        side: Side::Safety,
        bound_ns: None,
    },
    Guaranteed {
        id: Guarantee::C9,
        text: "A lease outlives each acknowledged keep-alive by its TTL.",
        side: Side::Safety,
        bound_ns: None,
    },
    Guaranteed {
        id: Guarantee::C10,
        text: "A lease that nobody keeps alive ends in time.",
        side: Side::Liveness,
        bound_ns: Some(PROGRESS_NS),
    },
    Guaranteed {
        id: Guarantee::C12,
        text: "A transaction whose precondition fails never applies.",
        side: Side::Safety,
        bound_ns: None,
    },
];

/// Er: the longest election timeout of the store's members.
pub const ELECTION_NS: Ns = 2_000_000_000;

/// What a member may take to get over anything once it can: ten elections, of which several may be split votes.
pub const PROGRESS_NS: Ns = 10 * ELECTION_NS;

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
    /// Leases live long enough.
    C9,
    /// Leases do not live too long.
    C10,
    /// Failed preconditions prevent.
    C12,
}

impl Guarantee {
    /// Its row in [`GUARANTEES`].
    pub fn guaranteed(self) -> &'static Guaranteed {
        GUARANTEES.iter().find(|g| g.id == self).expect("the table holds every guarantee, as its test says")
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
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
    /// The largest time that [`crate::Verdict::largest_ns`] may reach; `None` for a promise without a bound in time.
    pub bound_ns: Option<Ns>,
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
        assert_eq!(ids, [C1, C2, C3, C4, C5, C6, C7, C9, C10, C12]);
        for g in GUARANTEES {
            // Adding a variant stops this match from compiling, and so leads here.
            match g.id {
                C1 | C2 | C3 | C4 | C5 | C6 | C7 | C9 | C10 | C12 => {
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
