//! The guarantees, checked over records.
//!
//! ```text
//! Record -> History { log: what each revision changed, transactions: who made it, timeline: who was able to do what }
//!        -> c1 .. c12 -> Verdict { times tested, violations, largest time }
//! ```
//!
//! Each checker is a pure function of the record, in `O(n log n)`. It believes what the harness observed itself and
//! nothing that a client was told, and it counts how often the guarantee could have failed: a verdict without
//! violations that was never put to the test is vacuous.
//!
//! **Invariant:** a legal history passes every checker (`every_legal_history_passes`), and one wrong thing in it is
//! flagged by the guarantee that it breaks (`one_wrong_thing_is_flagged`).

use faults::Ns;
use record::{Outcome, Record, Request, Verdict};

mod c1;
mod c10;
mod c12;
mod c2;
mod c3;
mod c4;
mod c5;
mod c6;
mod c7;
mod c9;
mod cluster;
mod findings;
mod leases;
#[cfg(test)]
mod legal;
mod log;
mod order;
mod second_opinion;
#[cfg(test)]
mod story;
mod timeline;
mod transactions;
#[cfg(test)]
mod wrong;

pub use cluster::{effective_writes_of, twin_of};

/// Judges the record by every guarantee, in order of [`record::Guarantee`].
pub fn judge(record: &Record) -> Vec<Verdict> {
    let h = History::new(record);
    let checks = [
        c1::check,
        c2::check,
        c3::check,
        c4::check,
        c5::check,
        c6::check,
        c7::check,
        c9::check,
        c10::check,
        c12::check,
    ];
    let mut verdicts: Vec<Verdict> = checks.iter().map(|check| check(&h)).collect();
    verdicts.extend(cluster::judge(record, &h.log));
    verdicts.sort_by_key(|verdict| verdict.guarantee);
    verdicts
}

/// Judges the record by C1 alone: writes and consistent reads are strictly serializable.
pub fn c1(record: &Record) -> Verdict {
    c1::check(&History::new(record))
}

/// Judges the record by C2 alone: an acknowledged write stays.
pub fn c2(record: &Record) -> Verdict {
    c2::check(&History::new(record))
}

/// Judges the record by C3 alone: replicas agree.
pub fn c3(record: &Record) -> Verdict {
    c3::check(&History::new(record))
}

/// Judges the record by C4 alone: the revision counts the transactions that change something.
pub fn c4(record: &Record) -> Verdict {
    c4::check(&History::new(record))
}

/// Judges the record by C5 alone: a term has at most one leader.
pub fn c5(record: &Record) -> Verdict {
    c5::check(&History::new(record))
}

/// Judges the record by C6 alone: an able majority makes progress.
pub fn c6(record: &Record) -> Verdict {
    c6::check(&History::new(record))
}

/// Judges the record by C7 alone: watches bring everything once and in order.
pub fn c7(record: &Record) -> Verdict {
    c7::check(&History::new(record))
}

/// Judges the record by C9 alone: leases live as long as promised.
pub fn c9(record: &Record) -> Verdict {
    c9::check(&History::new(record))
}

/// Judges the record by C10 alone: leases end when nobody keeps them alive.
pub fn c10(record: &Record) -> Verdict {
    c10::check(&History::new(record))
}

/// Judges the record by C12 alone: a failed precondition prevents.
pub fn c12(record: &Record) -> Verdict {
    c12::check(&History::new(record))
}

/// What several checkers need to know of a record, worked out once.
struct History<'a> {
    record: &'a Record,
    log: log::Log<'a>,
    transactions: transactions::Transactions<'a>,
    timeline: timeline::Timeline,
    leases: std::collections::BTreeMap<i64, leases::Lease<'a>>,
    /// Compactions that may have happened: to which revision, asked when.
    compactions: Vec<(i64, Ns)>,
}

impl<'a> History<'a> {
    fn new(record: &'a Record) -> Self {
        let log = log::Log::new(record);
        let transactions = transactions::Transactions::new(record, &log);
        let compactions = record.operations.iter().filter_map(|op| match (&op.request, &op.outcome) {
            (_, Outcome::Refused { .. }) => None,
            (Request::Compact { revision }, Outcome::Ok { .. } | Outcome::Unknown { .. }) => {
                Some((*revision, op.invoked_ns))
            }
            _ => None,
        });
        Self {
            record,
            log,
            transactions,
            timeline: timeline::Timeline::new(record),
            leases: leases::leases(record),
            compactions: compactions.collect(),
        }
    }

    /// Whether revisions before `first`, and no more, may have been forgotten by this time.
    fn compacted_by(&self, first: i64, at_ns: Ns) -> bool {
        self.compactions.iter().any(|(revision, asked_ns)| *revision == first && *asked_ns <= at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legal::{Draw, Shape, history};
    use crate::wrong::{WRONGS, Wrong};
    use proptest::prelude::*;
    use record::{GUARANTEES, Reply, Scope};

    /// A minute of enough of everything.
    const BUSY: Shape = Shape { clients: 6, seconds: 60, rate: 30, keys: 8, unknown_permille: 30 };

    fn flags(wrong: &Wrong, verdicts: &[Verdict]) -> bool {
        verdicts.iter().any(|v| v.guarantee == wrong.breaks && !v.violations.is_empty())
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let shapes = (1..8u32, 10..60u64, 5..60u64, 1..20u64, 0..200u64);
        shapes.prop_map(|(clients, seconds, rate, keys, unknown_permille)| Shape {
            clients,
            seconds,
            rate,
            keys,
            unknown_permille,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

        #[test]
        fn every_legal_history_passes(seed: u64, shape in shapes()) {
            let record = history(seed, shape);
            for verdict in judge(&record) {
                prop_assert!(verdict.violations.is_empty(), "{verdict:#?}");
            }
        }

        #[test]
        fn one_wrong_thing_is_flagged(seed: u64, shape in shapes(), wrong in prop::sample::select(&WRONGS[..])) {
            let mut record = history(seed, shape);
            if (wrong.spoil)(&mut record, &mut Draw(seed)).is_some() {
                let verdicts = judge(&record);
                prop_assert!(flags(&wrong, &verdicts), "{} is not flagged: {verdicts:#?}", wrong.name);
            }
        }
    }

    #[test]
    fn a_busy_history_has_something_to_do_every_wrong_thing_to() {
        for wrong in WRONGS {
            let mut record = history(7, BUSY);
            assert!((wrong.spoil)(&mut record, &mut Draw(7)).is_some(), "{}", wrong.name);
            let verdicts = judge(&record);
            assert!(flags(&wrong, &verdicts), "{}: {verdicts:#?}", wrong.name);
        }
    }

    #[test]
    fn every_guarantee_is_judged_in_order_and_tested_by_a_busy_history() {
        let record = history(1, BUSY);
        let verdicts = judge(&record);
        let judged: Vec<_> = verdicts.iter().map(|v| v.guarantee).collect();
        let promised = GUARANTEES.iter().filter(|g| g.scope == Scope::Store).map(|g| g.id);
        assert_eq!(judged, promised.collect::<Vec<_>>());
        for verdict in &verdicts {
            assert!(verdict.tested > 0, "{}", verdict.guarantee);
            assert_eq!(verdict.largest_ns.is_some(), verdict.guarantee.guaranteed().bound_ns.is_some());
        }
        let alone = [c1, c2, c3, c4, c5, c6, c7, c9, c10, c12].map(|check| check(&record));
        assert_eq!(verdicts, alone);
    }

    #[test]
    fn violations_are_kept_in_order_of_time_and_not_without_end() {
        let mut record = history(1, BUSY);
        for op in &mut record.operations {
            if let Outcome::Ok { reply: Reply::Read(kvs), .. } = &mut op.outcome {
                kvs.clear();
            }
        }
        let verdict = c1(&record);
        assert_eq!(verdict.violations.len(), record::MAX_VIOLATIONS);
        assert!(verdict.violations.is_sorted_by_key(|v| v.at_ns));
    }
}
