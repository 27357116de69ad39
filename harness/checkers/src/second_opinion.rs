//! A second opinion on C1: whether any order at all explains what clients were told.
//!
//! C1 takes the revisions for the order and only asks whether each answer is right in its place. This one does not trust
//! them: in windows of the history it looks for an order of the operations, as Wing, Gong and Lowe do ("Testing for
//! linearizability", 2017), that real time allows and that explains every answer. Revisions only say which operations a
//! window holds and what the store held before it. Whatever it finds wrong the revisions contradict too
//! (`what_no_order_explains_the_revisions_contradict`): if it ever speaks alone, C1's checker has a hole.
//!
//! The search can take forever, so that windows are few and small, and one that is too tangled stays undecided.

use crate::History;
use crate::findings::Findings;
use crate::log::Log;
use crate::transactions::{Branch, Maker, Txn};
use faults::Ns;
use record::{Change, Compare, Expect, KeyRange, KeyValue, Operation, Outcome, Reply, Request, WatchEvent};
use std::collections::{BTreeMap, BTreeSet};

/// Operations of a window. A bit each, and a few clients have hardly more under way at once.
const WINDOW: usize = 32;

/// Windows of a trial, spread evenly: as much as costs a hundredth of a trial.
const MAX_WINDOWS: usize = 48;

/// States that a search may reach before its window counts as too tangled.
const MAX_STATES: usize = 5_000;

/// By key of the window: what it holds, as the number of a value. 0 is nothing.
type State = Vec<u32>;

/// A value that the store never held there.
const NEVER: u32 = u32::MAX;

/// One operation, or the end of a lease, as the search sees it.
struct Call {
    invoked_ns: Ns,
    /// When its answer was known; never, for what need not have happened.
    completed_ns: Option<Ns>,
    does: Does,
}

enum Does {
    /// These keys held this.
    Read(Vec<(usize, u32)>),
    /// Each key that is compared held one of these; whether that was so, if the client was told; and what it sets then and
    /// otherwise.
    Txn {
        compares: Vec<(usize, Vec<u32>)>,
        told: Option<Branch>,
        success: Vec<(usize, u32)>,
        failure: Vec<(usize, u32)>,
    },
}

/// Adds what no order explains.
pub(crate) fn check(h: &History<'_>, findings: &mut Findings) {
    let points = points(h);
    let windows: Vec<&[Point<'_>]> = points.chunks(WINDOW).collect();
    let step = windows.len().div_ceil(MAX_WINDOWS).max(1);
    for window in windows.into_iter().step_by(step) {
        let (first, last) = (window[0].revision, window[window.len() - 1].revision);
        let (start, calls) = calls(&h.log, window);
        if explained(&calls, start, MAX_STATES) == Some(false) {
            let ids: Vec<u64> = window.iter().filter_map(|point| Some(point.op?.id)).collect();
            findings.violated(
                calls.iter().filter_map(|call| call.completed_ns).max().unwrap_or(0),
                format!("no order of the operations {ids:?}, of revisions {first} to {last}, explains their answers"),
            );
        }
    }
}

/// What has a place in the order of revisions.
struct Point<'a> {
    revision: i64,
    /// Whether it made the revision; else it only saw what was there.
    makes: bool,
    /// `None` for what no client asked for.
    op: Option<&'a Operation>,
    txn: Option<&'a Txn<'a>>,
    events: &'a [WatchEvent],
}

/// All of them, in order of revision, and of each revision what made it first.
fn points<'a>(h: &'a History<'a>) -> Vec<Point<'a>> {
    let mut points = Vec::new();
    let mut placed = BTreeSet::new();
    for (entry, maker) in h.log.entries.iter().zip(&h.transactions.makers) {
        let txn = match maker {
            Maker::Txn(position) => Some(&h.transactions.all[*position]),
            Maker::LeaseEnd(_) | Maker::Nobody if entry.is_the_orchestrators() => continue,
            Maker::LeaseEnd(_) | Maker::Nobody => None,
        };
        // Found twice in the log it was done once, at most.
        if txn.is_none_or(|txn| placed.insert(txn.op.id)) {
            let (op, events) = (txn.map(|txn| txn.op), entry.events);
            points.push(Point { revision: entry.revision, makes: true, op, txn, events });
        }
    }
    for txn in &h.transactions.all {
        if let (Some((revision, _)), false) = (txn.answer(), placed.contains(&txn.op.id)) {
            points.push(Point { revision, makes: false, op: Some(txn.op), txn: Some(txn), events: &[] });
        }
    }
    for op in &h.record.operations {
        if let (Request::Read { revision: 0, .. }, Some((revision, _))) = (&op.request, read(op)) {
            points.push(Point { revision, makes: false, op: Some(op), txn: None, events: &[] });
        }
    }
    points.sort_by_key(|point| (point.revision, !point.makes, point.op.map(|op| op.invoked_ns)));
    points
}

/// The revision that a read was told, and what it read.
fn read(op: &Operation) -> Option<(i64, &[KeyValue])> {
    match &op.outcome {
        Outcome::Ok { revision, reply: Reply::Read(kvs), .. } => Some((*revision, kvs)),
        Outcome::Ok { .. } | Outcome::Refused { .. } | Outcome::Unknown { .. } => None,
    }
}

/// What a window's keys held before it, and what happens in it.
fn calls(log: &Log<'_>, window: &[Point<'_>]) -> (State, Vec<Call>) {
    let before = window[0].revision - i64::from(window[0].makes);
    let names = Names::of(log, window, before);
    let start = names.keys.keys().map(|key| names.held(log.at(key, before))).collect();
    let calls = window.iter().map(|point| {
        let does = match (point.txn, point.op) {
            (Some(txn), _) => Does::Txn {
                compares: txn.compares.iter().map(|compare| names.compare(log, compare)).collect(),
                told: txn.answer().map(|(_, branch)| branch),
                success: names.changes(txn.changes(Branch::Success)),
                failure: names.changes(txn.changes(Branch::Failure)),
            },
            (None, Some(op)) => Does::Read(names.read(op)),
            (None, None) => {
                let sets = point.events.iter().map(|event| names.event(event)).collect();
                Does::Txn { compares: Vec::new(), told: None, success: sets, failure: Vec::new() }
            }
        };
        let answered = point.op.filter(|op| matches!(op.outcome, Outcome::Ok { .. }));
        Call {
            invoked_ns: point.op.map_or(0, |op| op.invoked_ns),
            completed_ns: answered.map(|op| op.completed_ns),
            does,
        }
    });
    (start, calls.collect())
}

/// Numbers for the keys and values of a window.
struct Names<'a> {
    keys: BTreeMap<&'a str, usize>,
    values: BTreeMap<&'a str, u32>,
}

impl<'a> Names<'a> {
    fn of(log: &Log<'a>, window: &[Point<'a>], before: i64) -> Self {
        let mut keys: BTreeSet<&'a str> = BTreeSet::new();
        for point in window {
            keys.extend(point.events.iter().map(crate::log::key_of));
            if let Some(txn) = point.txn {
                keys.extend(txn.compares.iter().map(|compare| compare.key.as_str()));
                let changes = txn.changes(Branch::Success).iter().chain(txn.changes(Branch::Failure));
                keys.extend(changes.map(key_of));
            } else if let Some(op) = point.op {
                keys.extend(read(op).into_iter().flat_map(|(_, kvs)| kvs).map(|kv| kv.key.as_str()));
                keys.extend(
                    range(op).into_iter().flat_map(|range| log.range_at(range, before)).map(|kv| kv.key.as_str()),
                );
            }
        }
        let keys: BTreeMap<&str, usize> = keys.into_iter().zip(0..).collect();
        let mut values = BTreeSet::new();
        for point in window {
            if let Some(txn) = point.txn {
                let changes = txn.changes(Branch::Success).iter().chain(txn.changes(Branch::Failure));
                values.extend(changes.filter_map(value_of));
                values.extend(txn.compares.iter().filter_map(|compare| match &compare.expect {
                    Expect::Value(value) => Some(value.as_str()),
                    Expect::ModRevision(_) | Expect::CreateRevision(_) => None,
                }));
            } else if let Some(op) = point.op {
                values.extend(read(op).into_iter().flat_map(|(_, kvs)| kvs).map(|kv| kv.value.as_str()));
            }
            values.extend(point.events.iter().filter_map(|event| match event {
                WatchEvent::Put(kv) => Some(kv.value.as_str()),
                WatchEvent::Delete { .. } => None,
            }));
        }
        values.extend(keys.keys().filter_map(|key| Some(log.at(key, before)?.value.as_str())));
        Self { keys, values: values.into_iter().zip(1..).collect() }
    }

    fn held(&self, kv: Option<&KeyValue>) -> u32 {
        kv.map_or(0, |kv| self.value(kv.value.as_str()))
    }

    fn value(&self, value: &str) -> u32 {
        self.values.get(value).copied().unwrap_or(NEVER)
    }

    /// What was read of each key of the window in the range.
    fn read(&self, op: &Operation) -> Vec<(usize, u32)> {
        let kvs = read(op).map_or(&[][..], |(_, kvs)| kvs);
        let in_range = self.keys.iter().filter(|(key, _)| range(op).is_some_and(|range| range.contains(key)));
        in_range.map(|(key, at)| (*at, self.held(kvs.iter().find(|kv| kv.key == *key)))).collect()
    }

    /// A value names its write, so that a revision that is compared with stands for the values that have it.
    fn compare(&self, log: &Log<'_>, compare: &Compare) -> (usize, Vec<u32>) {
        let history = || log.history(&compare.key).iter().filter_map(|version| version.kv);
        let values = match &compare.expect {
            Expect::ModRevision(0) | Expect::CreateRevision(0) => vec![0],
            Expect::ModRevision(revision) => {
                history().filter(|kv| kv.mod_revision == *revision).map(|kv| self.value(kv.value.as_str())).collect()
            }
            Expect::CreateRevision(revision) => {
                history().filter(|kv| kv.create_revision == *revision).map(|kv| self.value(kv.value.as_str())).collect()
            }
            Expect::Value(value) => vec![self.value(value)],
        };
        (self.keys[compare.key.as_str()], values)
    }

    fn changes(&self, changes: &[Change]) -> Vec<(usize, u32)> {
        let set = |change| (self.keys[key_of(change)], value_of(change).map_or(0, |value| self.value(value)));
        changes.iter().map(set).collect()
    }

    fn event(&self, event: &WatchEvent) -> (usize, u32) {
        let value = match event {
            WatchEvent::Put(kv) => self.value(kv.value.as_str()),
            WatchEvent::Delete { .. } => 0,
        };
        (self.keys[crate::log::key_of(event)], value)
    }
}

fn key_of(change: &Change) -> &str {
    match change {
        Change::Put { key, .. } | Change::Delete { key } => key,
    }
}

fn value_of(change: &Change) -> Option<&str> {
    match change {
        Change::Put { value, .. } => Some(value),
        Change::Delete { .. } => None,
    }
}

fn range(op: &Operation) -> Option<&KeyRange> {
    match &op.request {
        Request::Read { range, .. } => Some(range),
        _ => None,
    }
}

/// Whether some order explains all answers; `None` if that is not known after so many states.
fn explained(calls: &[Call], start: State, max_states: usize) -> Option<bool> {
    let mut seen = BTreeSet::new();
    let mut left = vec![(0_u64, start)];
    while let Some((done, state)) = left.pop() {
        let waiting = |at: &usize| done & (1 << at) == 0;
        let open = (0..calls.len()).filter(waiting);
        // What is answered before another is asked comes before it.
        let Some(horizon_ns) = open.clone().filter_map(|at| calls[at].completed_ns).min() else { return Some(true) };
        // The last that is pushed is tried first: the first one, as in the order of revisions.
        for at in open.rev().filter(|at| calls[*at].invoked_ns <= horizon_ns) {
            if let Some(next) = calls[at].does.to(&state) {
                let reached = (done | 1 << at, next);
                if seen.len() >= max_states {
                    return None;
                }
                if seen.insert(reached.clone()) {
                    left.push(reached);
                }
            }
        }
    }
    Some(false)
}

impl Does {
    /// The state after it; `None` if it cannot have been told what it was told on this one.
    fn to(&self, state: &State) -> Option<State> {
        match self {
            Does::Read(held) => held.iter().all(|(key, value)| state[*key] == *value).then(|| state.clone()),
            Does::Txn { compares, told, success, failure } => {
                let holds = compares.iter().all(|(key, values)| values.contains(&state[*key]));
                let branch = if holds { Branch::Success } else { Branch::Failure };
                if told.is_some_and(|told| told != branch) {
                    return None;
                }
                let mut next = state.clone();
                for (key, value) in if holds { success } else { failure } {
                    next[*key] = *value;
                }
                Some(next)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legal::{Draw, Shape, history};
    use crate::story::{Story, changed_at, delete, put};
    use crate::wrong::WRONGS;
    use record::{Guarantee, Record};

    fn says(record: &Record) -> Vec<String> {
        let mut findings = Findings::of(Guarantee::C1);
        check(&History::new(record), &mut findings);
        findings.verdict().violations.into_iter().map(|violation| violation.text).collect()
    }

    fn call(invoked_ns: Ns, completed_ns: Option<Ns>, does: Does) -> Call {
        Call { invoked_ns, completed_ns, does }
    }

    fn set(value: u32) -> Does {
        Does::Txn { compares: vec![], told: Some(Branch::Success), success: vec![(0, value)], failure: vec![] }
    }

    fn saw(value: u32) -> Does {
        Does::Read(vec![(0, value)])
    }

    #[test]
    fn what_one_store_would_have_done_is_explained() {
        let mut story = Story::new();
        story.read("a");
        story.put("a", "a1");
        story.put("b", "b1");
        story.txn(&[changed_at("a", 2)], &[put("a", "a2"), delete("b")], &[]);
        story.txn(&[changed_at("a", 2)], &[put("a", "never")], &[put("c", "else")]);
        story.read_range(KeyRange { from: "a".into(), until: Some("z".into()) }, 0);
        assert_eq!(says(&story.record), Vec::<String>::new());
    }

    #[test]
    fn whoever_asks_after_an_answer_must_see_it() {
        let stale = [call(0, Some(1), set(1)), call(2, Some(3), set(2)), call(4, Some(5), saw(1))];
        assert_eq!(explained(&stale, vec![0], 100), Some(false));
        let at_once = [call(0, Some(1), set(1)), call(2, Some(4), set(2)), call(4, Some(5), saw(1))];
        assert_eq!(explained(&at_once, vec![0], 100), Some(true));
    }

    #[test]
    fn what_was_not_answered_has_happened_or_not_but_only_once() {
        let lost = |seen: [u32; 3]| {
            let mut calls = vec![call(0, None, set(1)), call(1, Some(2), set(2))];
            calls.extend((0..).zip(seen).map(|(at, value)| call(3 + 2 * at, Some(4 + 2 * at), saw(value))));
            explained(&calls, vec![0], 100)
        };
        assert_eq!(lost([2, 2, 2]), Some(true));
        assert_eq!(lost([2, 1, 1]), Some(true));
        assert_eq!(lost([1, 1, 2]), Some(false));
        assert_eq!(lost([2, 1, 2]), Some(false));
    }

    #[test]
    fn a_transaction_takes_the_branch_that_it_was_told() {
        let swap = |told| Does::Txn {
            compares: vec![(0, vec![1])],
            told: Some(told),
            success: vec![(0, 2)],
            failure: vec![(0, 3)],
        };
        for (told, start, seen, right) in [
            (Branch::Success, 1, 2, true),
            (Branch::Success, 0, 2, false),
            (Branch::Failure, 0, 3, true),
            (Branch::Failure, 1, 3, false),
        ] {
            let calls = [call(0, Some(1), swap(told)), call(2, Some(3), saw(seen))];
            assert_eq!(explained(&calls, vec![start], 100), Some(right), "{told:?} from {start}");
        }
    }

    #[test]
    fn what_is_too_tangled_stays_undecided() {
        let calls: Vec<Call> =
            (1..=12).map(|value| call(0, Some(9), set(value))).chain([call(10, Some(11), saw(77))]).collect();
        assert_eq!(explained(&calls, vec![0], 1_000), None);
    }

    #[test]
    fn what_no_order_explains_the_revisions_contradict() {
        let shape = Shape { clients: 6, seconds: 60, rate: 30, keys: 8, unknown_permille: 30 };
        let mut spoken: BTreeMap<&str, u32> = BTreeMap::new();
        for seed in 0..4 {
            assert_eq!(says(&history(seed, shape)), Vec::<String>::new());
            for wrong in WRONGS {
                let mut record = history(seed, shape);
                if (wrong.spoil)(&mut record, &mut Draw(seed)).is_some() && !says(&record).is_empty() {
                    *spoken.entry(wrong.name).or_default() += 1;
                    let mut findings = Findings::of(Guarantee::C1);
                    crate::c1::by_revisions(&History::new(&record), &mut findings);
                    assert_ne!(findings.verdict().violations, [], "{} of seed {seed}", wrong.name);
                }
            }
        }
        assert!(spoken.len() >= 3, "it has something to say of {spoken:?} only");
    }
}
