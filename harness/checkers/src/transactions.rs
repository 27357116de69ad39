//! Which transaction of a client made which revision.
//!
//! An acknowledged transaction names its revision. One with an unknown outcome is found by its values, because each
//! value is written once in a trial; one that only deletes is found by what it deletes. A revision that no transaction
//! made is the end of a lease, or nobody's. Where several could have made one, whichever leaves the fewest unexplained did.

use crate::log::{Entry, Log};
use faults::Ns;
use record::{
    Change, Compare, KeyValue, Observation, Operation, Outcome, Record, Reply, Request, SAMPLE_NS, WatchEvent,
};
use std::collections::{BTreeMap, BTreeSet};

/// Every transaction of the record, and what made each revision.
pub(crate) struct Transactions<'a> {
    /// In order of invocation.
    pub(crate) all: Vec<Txn<'a>>,
    /// By slot of the log.
    pub(crate) makers: Vec<Maker>,
}

/// What made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// The transaction at this position.
    Txn(usize),
    /// The end of this lease.
    LeaseEnd(i64),
    /// Nothing that anybody asked for.
    Nobody,
}

/// One transaction.
pub(crate) struct Txn<'a> {
    pub(crate) op: &'a Operation,
    pub(crate) compares: &'a [Compare],
    success: &'a [Change],
    failure: &'a [Change],
    /// Where its changes are found in the log: once, if all is well.
    pub(crate) landed: Vec<Landing>,
}

/// A branch of a transaction, found in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Landing {
    pub(crate) revision: i64,
    pub(crate) branch: Branch,
    /// Whether the revision is exactly what the branch does to the state before it.
    pub(crate) whole: bool,
}

/// Half of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Branch {
    /// What runs if all compares hold.
    Success,
    /// What runs otherwise.
    Failure,
}

/// What became of an acknowledged transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It made the revision that it was acknowledged with.
    Made,
    /// It is in the revision that it was acknowledged with, but with more or less than all of its changes.
    Torn,
    /// It had nothing to change, and changed nothing.
    Nothing,
    /// It should have changed something, and is not in the log.
    Lost,
    /// It made another revision than it was told, or several, or with the other branch.
    Elsewhere,
}

impl<'a> Transactions<'a> {
    pub(crate) fn new(record: &'a Record, log: &Log<'a>) -> Self {
        let mut transactions = Self {
            all: record.operations.iter().filter_map(Txn::new).collect(),
            makers: vec![Maker::Nobody; log.entries.len()],
        };
        let claims = transactions.place_acknowledged(log);
        transactions.place_by_value(log);
        transactions.place_deletions(record, log, &claims);
        transactions
    }

    /// The revisions that acknowledged transactions claim and have the effect of. A transaction that only deletes may
    /// claim a revision that it found done, so those claims are returned: by slot, in order of invocation.
    fn place_acknowledged(&mut self, log: &Log<'a>) -> BTreeMap<usize, Vec<usize>> {
        let mut claims: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (position, txn) in self.all.iter_mut().enumerate() {
            let Some((revision, branch)) = txn.answer() else {
                continue;
            };
            let Some(slot) = log.slot(revision) else {
                continue;
            };
            let changes = txn.changes(branch);
            if self.makers[slot] != Maker::Nobody || !is_effect(log, &log.entries[slot], changes) {
                continue;
            }
            if values(changes).next().is_none() {
                claims.entry(slot).or_default().push(position);
            } else {
                self.makers[slot] = Maker::Txn(position);
                txn.landed.push(Landing { revision, branch, whole: true });
            }
        }
        claims
    }

    /// The revisions left whose values some transaction wrote, whatever became of it.
    fn place_by_value(&mut self, log: &Log<'a>) {
        let mut left: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (slot, entry) in log.entries.iter().enumerate() {
            if self.makers[slot] == Maker::Nobody && !entry.is_the_orchestrators() {
                for kv in puts(entry) {
                    left.entry(kv.value.as_str()).or_default().push(slot);
                }
            }
        }
        if left.is_empty() {
            return;
        }
        let mut found: BTreeMap<usize, u64> = BTreeMap::new();
        for (position, txn) in self.all.iter_mut().enumerate() {
            for branch in [Branch::Success, Branch::Failure] {
                for value in values(txn.changes(branch)) {
                    for &slot in left.get(value).into_iter().flatten() {
                        *found.entry(slot).or_default() += 1;
                        self.makers[slot] = Maker::Txn(position);
                        let entry = &log.entries[slot];
                        let whole = is_effect(log, entry, txn.changes(branch));
                        txn.landed.push(Landing { revision: entry.revision, branch, whole });
                    }
                }
            }
            txn.landed.sort_unstable();
            txn.landed.dedup();
        }
        // A revision with a value that nobody wrote is nobody's, whatever else is in it.
        for (slot, known) in found {
            if known < puts(&log.entries[slot]).count() as u64 {
                self.makers[slot] = Maker::Nobody;
            }
        }
    }

    /// The revisions left that only delete: a transaction that claims it, the end of a lease, or a transaction whose
    /// outcome its client never knew.
    fn place_deletions(&mut self, record: &Record, log: &Log<'a>, claims: &BTreeMap<usize, Vec<usize>>) {
        let deletes = |entry: &Entry<'_>| puts(entry).next().is_none() && !entry.events.is_empty();
        let left = self.makers.iter().zip(&log.entries).enumerate();
        let left: Vec<usize> = left
            .filter(|(_, (maker, entry))| **maker == Maker::Nobody && deletes(entry))
            .map(|(slot, _)| slot)
            .collect();
        if left.is_empty() {
            return;
        }
        let ends = ends_of_leases(record);
        let news = News::new(record);
        let mut unknown: Vec<(usize, Vec<usize>)> = Vec::new();
        for slot in left {
            let entry = &log.entries[slot];
            let claims = claims.get(&slot).map_or(&[][..], Vec::as_slice);
            if let Some(position) = self.claimant(log, entry, claims, &news) {
                self.place_deletion(log, slot, position);
            } else if let Some(lease) = ended_lease(log, entry)
                && (ends.contains(&lease) || entry.at_ns + 2 * SAMPLE_NS > record.ended_ns)
            {
                self.makers[slot] = Maker::LeaseEnd(lease);
            } else {
                unknown.push((slot, self.may_have_deleted(log, entry, &news)));
            }
        }
        let candidates: Vec<&[usize]> = unknown.iter().map(|(_, candidates)| candidates.as_slice()).collect();
        for ((slot, _), position) in unknown.iter().zip(matching(&candidates)) {
            let claims = claims.get(slot).and_then(|claims| claims.first().copied());
            if let Some(position) = position.or(claims) {
                self.place_deletion(log, *slot, position);
            }
        }
    }

    fn place_deletion(&mut self, log: &Log<'a>, slot: usize, position: usize) {
        let revision = log.entries[slot].revision;
        let txn = &mut self.all[position];
        let branch = txn.answer().map_or_else(|| txn.branch_at(log, revision - 1), |(_, branch)| branch);
        txn.landed.push(Landing { revision, branch, whole: true });
        self.makers[slot] = Maker::Txn(position);
    }

    /// Of those that were told this revision and that delete what it deletes: the one that cannot have found it done,
    /// or else the first that was asked in time.
    fn claimant(&self, log: &Log<'a>, entry: &Entry<'a>, claims: &[usize], news: &News) -> Option<usize> {
        let takes_its_branch_at = |position: &usize, revision: i64| {
            let txn = &self.all[*position];
            txn.answer().is_some_and(|(_, branch)| txn.branch_at(log, revision) == branch)
        };
        let able = |position: &&usize| takes_its_branch_at(position, entry.revision - 1);
        let made_it = |position: &&usize| able(position) && !takes_its_branch_at(position, entry.revision);
        let in_time = |position: &&usize| able(position) && self.all[**position].op.invoked_ns <= news.of(entry);
        claims.iter().find(made_it).or_else(|| claims.iter().find(in_time)).copied()
    }

    /// Every transaction without an answer that has this effect and was asked in time, in order of invocation.
    fn may_have_deleted(&self, log: &Log<'a>, entry: &Entry<'a>, news: &News) -> Vec<usize> {
        let unplaced = |txn: &Txn<'_>| matches!(txn.op.outcome, Outcome::Unknown { .. }) && txn.landed.is_empty();
        let candidates = self.all.iter().enumerate().filter(|(_, txn)| {
            unplaced(txn)
                && txn.op.invoked_ns <= news.of(entry)
                && is_effect(log, entry, txn.changes(txn.branch_at(log, entry.revision - 1)))
        });
        candidates.map(|(position, _)| position).collect()
    }
}

/// When revisions became known: whoever was asked later did not make them.
struct News {
    /// Revisions told, ascending, each with the first answer that told it or a newer one.
    told: Vec<(i64, Ns)>,
}

impl News {
    fn new(record: &Record) -> Self {
        let answers = record.operations.iter().filter_map(|op| match (&op.request, &op.outcome) {
            (Request::Read { revision: 0, .. } | Request::Txn { .. }, Outcome::Ok { revision, .. }) => {
                Some((*revision, op.completed_ns))
            }
            _ => None,
        });
        let mut told: Vec<(i64, Ns)> = answers.collect();
        told.sort_unstable();
        let mut first = Ns::MAX;
        for (_, at_ns) in told.iter_mut().rev() {
            first = first.min(*at_ns);
            *at_ns = first;
        }
        Self { told }
    }

    /// When `entry` or a newer revision was first told or seen.
    fn of(&self, entry: &Entry<'_>) -> Ns {
        let first = self.told.partition_point(|(revision, _)| *revision < entry.revision);
        self.told.get(first).map_or(entry.at_ns, |(_, at_ns)| entry.at_ns.min(*at_ns))
    }
}

/// Gives as many as possible one of their candidates each, no candidate to two (augmenting paths, as Kuhn does it).
fn matching(candidates: &[&[usize]]) -> Vec<Option<usize>> {
    let mut holders: BTreeMap<usize, usize> = BTreeMap::new();
    for asker in 0..candidates.len() {
        give(asker, candidates, &mut holders, &mut BTreeSet::new());
    }
    let mut given = vec![None; candidates.len()];
    for (candidate, holder) in holders {
        given[holder] = Some(candidate);
    }
    given
}

/// Whether `asker` could be given a candidate, if need be by giving its holder another.
fn give(
    asker: usize,
    candidates: &[&[usize]],
    holders: &mut BTreeMap<usize, usize>,
    tried: &mut BTreeSet<usize>,
) -> bool {
    for &candidate in candidates[asker] {
        if tried.insert(candidate) {
            let holder = holders.get(&candidate).copied();
            if holder.is_none_or(|holder| give(holder, candidates, holders, tried)) {
                holders.insert(candidate, asker);
                return true;
            }
        }
    }
    false
}

impl<'a> Txn<'a> {
    fn new(op: &'a Operation) -> Option<Self> {
        match &op.request {
            Request::Txn { compares, success, failure } => {
                Some(Self { op, compares, success, failure, landed: Vec::new() })
            }
            Request::Read { .. }
            | Request::LeaseGrant { .. }
            | Request::LeaseKeepAlive { .. }
            | Request::LeaseRevoke { .. }
            | Request::Compact { .. } => None,
        }
    }

    pub(crate) fn changes(&self, branch: Branch) -> &'a [Change] {
        match branch {
            Branch::Success => self.success,
            Branch::Failure => self.failure,
        }
    }

    /// The revision and branch that its client was told; `None` if it was told nothing, or that nothing happened.
    pub(crate) fn answer(&self) -> Option<(i64, Branch)> {
        match self.op.outcome {
            Outcome::Ok { revision, reply: Reply::Txn { succeeded }, .. } => {
                Some((revision, if succeeded { Branch::Success } else { Branch::Failure }))
            }
            Outcome::Ok { .. } | Outcome::Refused { .. } | Outcome::Unknown { .. } => None,
        }
    }

    /// The branch that must run on the state of `revision`.
    pub(crate) fn branch_at(&self, log: &Log<'a>, revision: i64) -> Branch {
        if self.compares.iter().all(|c| log.holds(c, revision)) { Branch::Success } else { Branch::Failure }
    }

    /// What became of it, if it was acknowledged.
    pub(crate) fn fate(&self, log: &Log<'a>) -> Option<Fate> {
        let (revision, branch) = self.answer()?;
        let remains = |change: &Change| match change {
            Change::Put { .. } => true,
            Change::Delete { key } => log.at(key, revision).is_some(),
        };
        Some(match self.landed.as_slice() {
            [landing] if (landing.revision, landing.branch) == (revision, branch) => {
                if landing.whole {
                    Fate::Made
                } else {
                    Fate::Torn
                }
            }
            [] if self.changes(branch).iter().any(remains) => Fate::Lost,
            [] => Fate::Nothing,
            [_, ..] => Fate::Elsewhere,
        })
    }
}

/// Whether `entry` is exactly what `changes` do to the state before it. The order within a revision is the store's.
pub(crate) fn is_effect(log: &Log<'_>, entry: &Entry<'_>, changes: &[Change]) -> bool {
    let mut expected = 0;
    for change in changes {
        let found = match change {
            Change::Put { key, value, lease } => entry.events.iter().any(
                |event| matches!(event, WatchEvent::Put(kv) if kv.key == *key && kv.value == *value && kv.lease == *lease),
            ),
            Change::Delete { key } => {
                if log.at(key, entry.revision - 1).is_none() {
                    continue;
                }
                entry.events.iter().any(|event| matches!(event, WatchEvent::Delete { key: deleted, .. } if deleted == key))
            }
        };
        if !found {
            return false;
        }
        expected += 1;
    }
    expected > 0 && expected == entry.events.len()
}

/// The lease whose end `entry` can be: it deletes every key that was bound to it, and no other.
fn ended_lease(log: &Log<'_>, entry: &Entry<'_>) -> Option<i64> {
    let before = entry.revision - 1;
    let mut deleted: Vec<&str> = entry.events.iter().map(crate::log::key_of).collect();
    deleted.sort_unstable();
    let lease = log.at(deleted.first()?, before)?.lease;
    (lease != 0 && log.bound_to(lease, before).eq(deleted)).then_some(lease)
}

/// Every lease that was seen to be gone or may have been revoked.
fn ends_of_leases(record: &Record) -> BTreeSet<i64> {
    let gone = record.observations.iter().filter_map(|observation| match observation {
        Observation::LeaseGone { lease, .. } => Some(*lease),
        _ => None,
    });
    let revoked = record.operations.iter().filter_map(|op| match (&op.request, &op.outcome) {
        (_, Outcome::Refused { .. }) => None,
        (Request::LeaseRevoke { lease }, _) => Some(*lease),
        _ => None,
    });
    gone.chain(revoked).collect()
}

fn puts<'a>(entry: &Entry<'a>) -> impl Iterator<Item = &'a KeyValue> {
    entry.events.iter().filter_map(|event| match event {
        WatchEvent::Put(kv) => Some(kv),
        WatchEvent::Delete { .. } => None,
    })
}

fn values(changes: &[Change]) -> impl Iterator<Item = &str> {
    changes.iter().filter_map(|change| match change {
        Change::Put { value, .. } => Some(value.as_str()),
        Change::Delete { .. } => None,
    })
}
