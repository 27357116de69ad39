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
mod findings;
mod leases;
#[cfg(test)]
mod legal;
mod log;
mod order;
#[cfg(test)]
mod story;
mod timeline;
mod transactions;

/// Judges the record by every guarantee, in order of [`record::Guarantee`].
pub fn judge(record: &Record) -> Vec<Verdict> {
    let h = History::new(record);
    let checks = [
        c1::check, c2::check, c3::check, c4::check, c5::check, c6::check, c7::check, c9::check, c10::check, c12::check,
    ];
    checks.iter().map(|check| check(&h)).collect()
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
    use proptest::prelude::*;
    use record::{Expect, GUARANTEES, Guarantee, Observation, Operation, PROGRESS_NS, Reply, SAMPLE_NS, WatchEvent};

    /// One wrong thing that a store might do.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Wrong {
        StaleRead,
        LateRead,
        ReadWithoutAKey,
        OtherValue,
        OtherEventOrder,
        LostWrite,
        OtherRevisionTold,
        AppliedTwice,
        GapInRevisions,
        OlderTermCommitted,
        OtherHash,
        SecondLeader,
        Silence,
        WatchSkips,
        WatchRepeats,
        BookmarkTooEarly,
        ResumedTooLate,
        LeaseGoneEarly,
        KeptAliveAfterItsEnd,
        LeaseGoneLate,
        FailedButApplied,
        ComparesIgnored,
    }

    const WRONGS: [(Wrong, Guarantee); 22] = [
        (Wrong::StaleRead, Guarantee::C1),
        (Wrong::LateRead, Guarantee::C1),
        (Wrong::ReadWithoutAKey, Guarantee::C1),
        (Wrong::OtherValue, Guarantee::C1),
        (Wrong::OtherEventOrder, Guarantee::C7),
        (Wrong::LostWrite, Guarantee::C2),
        (Wrong::OtherRevisionTold, Guarantee::C4),
        (Wrong::AppliedTwice, Guarantee::C1),
        (Wrong::GapInRevisions, Guarantee::C4),
        (Wrong::OlderTermCommitted, Guarantee::C2),
        (Wrong::OtherHash, Guarantee::C3),
        (Wrong::SecondLeader, Guarantee::C5),
        (Wrong::Silence, Guarantee::C6),
        (Wrong::WatchSkips, Guarantee::C7),
        (Wrong::WatchRepeats, Guarantee::C7),
        (Wrong::BookmarkTooEarly, Guarantee::C7),
        (Wrong::ResumedTooLate, Guarantee::C7),
        (Wrong::LeaseGoneEarly, Guarantee::C9),
        (Wrong::KeptAliveAfterItsEnd, Guarantee::C9),
        (Wrong::LeaseGoneLate, Guarantee::C10),
        (Wrong::FailedButApplied, Guarantee::C12),
        (Wrong::ComparesIgnored, Guarantee::C12),
    ];

    fn some<T>(draw: &mut Draw, mut of: Vec<T>) -> Option<T> {
        if of.is_empty() { None } else { Some(of.swap_remove(draw.range(0, of.len() as u64) as usize)) }
    }

    fn answers(record: &mut Record) -> impl Iterator<Item = (&Request, &mut i64, &mut Reply)> {
        record.operations.iter_mut().filter_map(|op| match &mut op.outcome {
            Outcome::Ok { revision, reply, .. } => Some((&op.request, revision, reply)),
            Outcome::Refused { .. } | Outcome::Unknown { .. } => None,
        })
    }

    /// Acknowledged transactions that put something, with what they were told.
    fn acknowledged(record: &mut Record, with_compares: bool) -> Vec<(&mut i64, &mut bool)> {
        answers(record)
            .filter_map(|(request, revision, reply)| match (request, reply) {
                (Request::Txn { compares, success, .. }, Reply::Txn { succeeded })
                    if *succeeded
                        && compares.is_empty() != with_compares
                        && success.iter().any(|change| matches!(change, record::Change::Put { .. })) =>
                {
                    Some((revision, succeeded))
                }
                _ => None,
            })
            .collect()
    }

    fn applied(record: &mut Record) -> Vec<(usize, i64)> {
        let observations = record.observations.iter().enumerate();
        observations
            .filter_map(|(at, o)| match o {
                Observation::Applied { revision, .. } => Some((at, *revision)),
                _ => None,
            })
            .collect()
    }

    fn events(record: &mut Record, at: usize) -> &mut Vec<WatchEvent> {
        match &mut record.observations[at] {
            Observation::Applied { events, .. } => events,
            _ => panic!("a revision is there"),
        }
    }

    /// Leases that ended by themselves after a promise: id, its newest acknowledged promise, and the time to live.
    fn ended_leases(record: &Record) -> Vec<(i64, Operation, i64)> {
        let leases = leases::leases(record);
        let ended = leases.iter().filter(|(_, lease)| lease.gone_ns.is_some() && lease.revoked_ns.is_none());
        ended.filter_map(|(id, lease)| lease.promises.last().map(|(op, ttl_s)| (*id, (*op).clone(), *ttl_s))).collect()
    }

    fn goes(record: &mut Record, id: i64, when: Ns) {
        for observation in &mut record.observations {
            if let Observation::LeaseGone { at_ns, lease, .. } = observation
                && *lease == id
            {
                *at_ns = when;
            }
        }
    }

    /// Makes one thing wrong; `None` if the history has nothing to make it of.
    fn spoil(record: &mut Record, wrong: Wrong, draw: &mut Draw) -> Option<()> {
        match wrong {
            Wrong::StaleRead | Wrong::ReadWithoutAKey => {
                let reads = answers(record).filter_map(|(_, _, reply)| match reply {
                    Reply::Read(kvs) if !kvs.is_empty() => Some(kvs),
                    _ => None,
                });
                let kvs = some(draw, reads.collect())?;
                let at = draw.range(0, kvs.len() as u64) as usize;
                if wrong == Wrong::StaleRead { kvs[at].value.push('x') } else { drop(kvs.remove(at)) }
            }
            Wrong::LateRead => {
                let last = record.operations.last()?.invoked_ns + SAMPLE_NS * 100;
                let newest = applied(record).last()?.1;
                let reads = record.operations.iter_mut().filter(|op| {
                    matches!(op.request, Request::Read { revision: 0, .. })
                        && matches!(op.outcome, Outcome::Ok { revision, .. } if revision < newest)
                });
                let read = some(draw, reads.collect())?;
                (read.invoked_ns, read.completed_ns) = (last, last + 1);
            }
            Wrong::OtherValue | Wrong::LostWrite => {
                // Only what was acknowledged is lost; what was not may never have been.
                let told: Vec<i64> = acknowledged(record, false).into_iter().map(|(told, _)| *told).collect();
                let of = some(draw, told)?;
                let (at, _) = applied(record).into_iter().find(|(_, revision)| *revision == of)?;
                match &mut events(record, at)[0] {
                    WatchEvent::Put(kv) => kv.value.push('x'),
                    WatchEvent::Delete { .. } => panic!("it put something"),
                }
            }
            Wrong::OtherEventOrder => {
                let at = applied(record).into_iter().map(|(at, _)| at).filter(|at| events(record, *at).len() > 1).collect();
                let at = some(draw, at)?;
                events(record, at).reverse();
            }
            Wrong::OtherRevisionTold => *some(draw, acknowledged(record, false))?.0 += 1,
            Wrong::AppliedTwice => {
                let applied = applied(record);
                let (at, _) = some(draw, applied.clone())?;
                let (_, newest) = *applied.last()?;
                let mut again = record.observations[at].clone();
                if let Observation::Applied { revision, at_ns, .. } = &mut again {
                    (*revision, *at_ns) = (newest + 1, record.ended_ns);
                }
                record.observations.push(again);
                record.ended_ns += 10 * SAMPLE_NS;
            }
            Wrong::GapInRevisions => {
                let mut applied = applied(record);
                applied.pop();
                record.observations.remove(some(draw, applied)?.0);
            }
            Wrong::OlderTermCommitted => {
                let commits = record.observations.iter_mut().filter_map(|o| match o {
                    Observation::Commits { entry_term, .. } => Some(entry_term),
                    _ => None,
                });
                *some(draw, commits.collect())? -= 1;
            }
            Wrong::OtherHash => {
                let states = record.observations.iter_mut().filter_map(|o| match o {
                    Observation::State { hash, .. } => Some(hash),
                    _ => None,
                });
                *some(draw, states.collect())? ^= 1;
            }
            Wrong::SecondLeader => {
                let leads = record.observations.iter_mut().filter_map(|o| match o {
                    Observation::Leads { .. } => Some(o.clone()),
                    _ => None,
                });
                let mut second = some(draw, leads.collect())?;
                if let Observation::Leads { at_ns, member, .. } = &mut second {
                    (*at_ns, *member) = (record.ended_ns, (*member + 1) % record.config.members);
                }
                record.observations.push(second);
            }
            Wrong::Silence => {
                record.strikes.clear();
                let (first_ns, until_ns) = (record.operations.first()?.invoked_ns, record.operations.last()?.invoked_ns);
                let last_ns = until_ns.checked_sub(PROGRESS_NS + 1).filter(|last_ns| *last_ns > first_ns)?;
                let silent = draw.range(first_ns, last_ns)..until_ns;
                record.observations.retain(|o| match o {
                    Observation::Applied { at_ns, .. } | Observation::Commits { at_ns, .. } => !silent.contains(at_ns),
                    _ => true,
                });
            }
            Wrong::WatchSkips | Wrong::WatchRepeats => {
                let messages = record.watches.iter_mut().flat_map(|w| &mut w.messages).filter(|m| !m.events.is_empty());
                let message = some(draw, messages.collect())?;
                let at = draw.range(0, message.events.len() as u64) as usize;
                let event = message.events.remove(at);
                if wrong == Wrong::WatchRepeats {
                    message.events.splice(at..at, [event.clone(), event]);
                }
            }
            Wrong::BookmarkTooEarly => {
                let late = record.watches.iter_mut().flat_map(|w| {
                    let pairs: Vec<usize> = (1..w.messages.len()).filter(|at| !w.messages[*at].events.is_empty()).collect();
                    pairs.into_iter().map(|at| (w.client, w.opened_ns, at))
                });
                let (client, opened_ns, at) = some(draw, late.collect())?;
                let watch = record.watches.iter_mut().find(|w| (w.client, w.opened_ns) == (client, opened_ns))?;
                watch.messages[at - 1].revision = watch.messages[at].revision;
            }
            Wrong::ResumedTooLate => {
                let resumed = record.watches.iter_mut().filter(|w| w.start_revision > 2);
                some(draw, resumed.collect())?.start_revision += 1;
            }
            Wrong::LeaseGoneEarly => {
                let (lease, promise, ttl_s) = some(draw, ended_leases(record))?;
                let early_ns = draw.range(1, leases::seconds_ns(ttl_s) * 10 / 11);
                goes(record, lease, promise.invoked_ns + early_ns - 1);
            }
            Wrong::KeptAliveAfterItsEnd => {
                let (_, promise, _) = some(draw, ended_leases(record))?;
                let (invoked_ns, completed_ns) = (record.ended_ns, record.ended_ns + 1);
                let request = match promise.request {
                    Request::LeaseGrant { lease, .. } => Request::LeaseKeepAlive { lease },
                    other => other,
                };
                record.operations.push(Operation { invoked_ns, completed_ns, request, ..promise });
            }
            Wrong::LeaseGoneLate => {
                record.strikes.clear();
                let (lease, ..) = some(draw, ended_leases(record))?;
                // No leader comes or goes any more, so that nothing excuses the lease.
                record.observations.retain(|o| !matches!(o, Observation::StepsDown { .. }));
                let end_ns = record.ended_ns * 4;
                goes(record, lease, end_ns);
                record.ended_ns = end_ns;
            }
            Wrong::FailedButApplied => *some(draw, acknowledged(record, true))?.1 = false,
            Wrong::ComparesIgnored => {
                let applied: Vec<i64> = acknowledged(record, true).into_iter().map(|(told, _)| *told).collect();
                let of = some(draw, applied)?;
                let op = record.operations.iter_mut().find(|op| {
                    matches!(&op.request, Request::Txn { compares, .. } if !compares.is_empty())
                        && matches!(op.outcome, Outcome::Ok { revision, reply: Reply::Txn { succeeded: true }, .. } if revision == of)
                })?;
                if let Request::Txn { compares, .. } = &mut op.request {
                    compares[0].expect = Expect::ModRevision(of);
                }
            }
        }
        Some(())
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        (1..8u32, 10..60u64, 5..60u64, 1..20u64, 0..200u64).prop_map(|(clients, seconds, rate, keys, unknown_permille)| Shape {
            clients,
            seconds,
            rate,
            keys,
            unknown_permille,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 20000, ..ProptestConfig::default() })]

        #[test]
        fn every_legal_history_passes(seed: u64, shape in shapes()) {
            let record = history(seed, shape);
            for verdict in judge(&record) {
                prop_assert!(verdict.violations.is_empty(), "{verdict:#?}");
            }
        }

        #[test]
        fn one_wrong_thing_is_flagged(seed: u64, shape in shapes(), wrong in prop::sample::select(&WRONGS[..])) {
            let (wrong, guarantee) = wrong;
            let mut record = history(seed, shape);
            if spoil(&mut record, wrong, &mut Draw(seed)).is_some() {
                let verdicts = judge(&record);
                let flagged = verdicts.iter().any(|v| v.guarantee == guarantee && !v.violations.is_empty());
                prop_assert!(flagged, "{wrong:?} is not flagged by {guarantee}: {verdicts:#?}");
            }
        }
    }

    #[test]
    fn a_busy_history_has_something_to_make_every_wrong_thing_of() {
        let shape = Shape { clients: 6, seconds: 60, rate: 30, keys: 8, unknown_permille: 30 };
        for (wrong, guarantee) in WRONGS {
            let mut record = history(7, shape);
            assert!(spoil(&mut record, wrong, &mut Draw(7)).is_some(), "{wrong:?}");
            let verdicts = judge(&record);
            assert!(verdicts.iter().any(|v| v.guarantee == guarantee && !v.violations.is_empty()), "{wrong:?}: {verdicts:#?}");
        }
    }

    #[test]
    fn every_guarantee_is_judged_in_order_and_tested_by_a_busy_history() {
        let record = history(1, Shape { clients: 6, seconds: 60, rate: 30, keys: 8, unknown_permille: 30 });
        let verdicts = judge(&record);
        let judged: Vec<_> = verdicts.iter().map(|v| v.guarantee).collect();
        assert_eq!(judged, GUARANTEES.iter().map(|g| g.id).collect::<Vec<_>>());
        for verdict in &verdicts {
            assert!(verdict.tested > 0, "{}", verdict.guarantee);
            assert_eq!(verdict.largest_ns.is_some(), verdict.guarantee.guaranteed().bound_ns.is_some());
        }
        let alone = [c1, c2, c3, c4, c5, c6, c7, c9, c10, c12].map(|check| check(&record));
        assert_eq!(verdicts, alone);
    }

    #[test]
    fn violations_are_kept_in_order_of_time_and_not_without_end() {
        let mut record = history(1, Shape { clients: 6, seconds: 60, rate: 30, keys: 8, unknown_permille: 0 });
        for (_, _, reply) in answers(&mut record) {
            if let Reply::Read(kvs) = reply {
                kvs.clear();
            }
        }
        let verdict = c1(&record);
        assert_eq!(verdict.violations.len(), record::MAX_VIOLATIONS);
        assert!(verdict.violations.is_sorted_by_key(|v| v.at_ns));
    }
}
