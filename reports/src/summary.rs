//! What many trials came to, added up one by one.
//!
//! **Invariant:** merging summaries gives the same whatever the order (`merging_is_the_same_in_any_order`), so that the
//! result of a run does not depend on which worker was faster.

use crate::coverage::{self, Coverage};
use crate::failure::Failure;
use record::{
    Answer, GUARANTEES, Guarantee, Guaranteed, Kind, Ns, Observation, Operation, Outcome, Record, Scope, Side, Strike,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Trials from which on a guarantee that was never put to the test fails the run: fewer may miss it by chance.
pub const VACUOUS_FROM: u64 = 100;

/// Failures and seeds kept of each sort, those with the lowest seeds: a run in which everything fails is still one page.
const MAX_KEPT: usize = 20;

/// What some trials came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Trials, those included that ended in a crash.
    pub trials: u64,
    /// Trials in which every guarantee held and nothing panicked.
    pub held: u64,
    /// Trials in which product code panicked, or whose process died.
    pub crashed: u64,
    /// Seeds that did two different things.
    pub diverged: u64,
    /// By guarantee; those that no trial judged are missing.
    pub guarantees: BTreeMap<Guarantee, Tally>,
    /// By kind of fault, as its name; kinds that never struck are missing.
    pub faults: BTreeMap<String, Struck>,
    /// By kind of fault, as its name: whom it hit, and in which phase.
    pub coverage: Coverage,
    /// How often each mark was said; 0 for those that were only expected.
    pub marks: BTreeMap<String, u64>,
    /// What clients asked.
    pub operations: Operations,
    /// Trials in which a member came to lead after another one had.
    pub leader_changed: u64,
    /// Of the trials of an orchestrator; `None` if none was one.
    pub clusters: Option<Clusters>,
    /// Simulated time.
    pub simulated_ns: u64,
    /// CPU time, judging included.
    pub cpu_ns: u64,
    /// The first failure of each failed trial, by seed; the first [`MAX_KEPT`].
    pub failures: Vec<Failure>,
    /// Seeds whose process died or that diverged; the lowest [`MAX_KEPT`].
    pub lost_seeds: BTreeSet<u64>,
    /// By what failed, a guarantee's id, [`CRASH`] or [`DIVERGENCE`]: in which seeds; of each the lowest [`MAX_KEPT`].
    pub failing: BTreeMap<String, BTreeSet<u64>>,
    /// What was not judged at all, and why.
    pub not_judged: BTreeMap<Guarantee, String>,
    /// Of trials with real processes: names of the kinds of fault that can strike those.
    pub real: Option<BTreeSet<String>>,
    /// What a guided search came to; `None` if the trials were none.
    #[serde(default)]
    pub guided: Option<Guided>,
    /// Names of the kinds of fault that the trials' backend has no means for.
    pub lacking: BTreeSet<String>,
}

/// What fails in a trial in which product code panicked, or whose process died.
pub const CRASH: &str = "crash";

/// What fails in a seed that did two different things.
pub const DIVERGENCE: &str = "divergence";

/// What a guided search came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guided {
    /// Rounds, the last one perhaps not to its end.
    pub rounds: u64,
    /// Trials that are kept to make others of.
    pub corpus: u64,
    /// Trials that were made of others.
    pub mutated: u64,
    /// Situations that trials reached.
    pub situations: u64,
    /// Situations that a trial made of others reached first.
    pub by_mutated: u64,
}

impl Guided {
    /// For people.
    pub(crate) fn sentence(&self) -> String {
        let Self { rounds, corpus, mutated, situations, by_mutated } = self;
        format!(
            "{rounds} rounds, {corpus} schedules kept; {situations} situations reached, {by_mutated} of them first by the \
             {mutated} mutated schedules"
        )
    }
}

/// What trials of an orchestrator come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clusters {
    /// Trials.
    pub trials: u64,
    /// Trials in which a member came to lead while a Deployment was being rolled out.
    pub leader_changed_in_rollout: u64,
    /// Requests of users.
    pub writes: Operations,
    /// Calls of Services; refused is what was answered by an error or not at all.
    pub calls: Operations,
}

/// How a guarantee fared, in trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Put to the test, and without violation.
    pub held: u64,
    /// Violated.
    pub failed: u64,
    /// Never put to the test.
    pub vacuous: u64,
    /// How often it was put to the test, in all trials together.
    pub tested: u64,
    /// The largest time seen of what it bounds.
    pub largest_ns: Option<Ns>,
}

/// How often a kind of fault struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// At all.
    pub struck: u64,
    /// While its target was at work.
    pub busy: u64,
}

/// What became of what clients asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operations {
    /// Asked.
    pub total: u64,
    /// Answered; a transaction whose compares failed is one of them.
    pub succeeded: u64,
    /// Refused, certainly without effect.
    pub refused: u64,
    /// Never answered.
    pub unknown: u64,
    /// Under way while some fault was active.
    pub overlapping: u64,
}

impl Summary {
    /// Of one judged trial that took this much CPU time.
    pub fn of(record: &Record, cpu_ns: u64) -> Self {
        let mut summary = Self::default();
        summary.add(record, cpu_ns);
        summary
    }

    /// Of one trial whose process died and left no record.
    pub fn crashed(seed: u64) -> Self {
        Self { trials: 1, crashed: 1, ..Self::lost(seed, CRASH) }
    }

    /// Of one seed that did two different things; its trials are counted elsewhere.
    pub fn diverged(seed: u64) -> Self {
        Self { diverged: 1, ..Self::lost(seed, DIVERGENCE) }
    }

    fn lost(seed: u64, what: &str) -> Self {
        let seeds = BTreeSet::from([seed]);
        Self { lost_seeds: seeds.clone(), failing: BTreeMap::from([(what.to_owned(), seeds)]), ..Self::default() }
    }

    /// Adds one judged trial that took this much CPU time.
    pub fn add(&mut self, record: &Record, cpu_ns: u64) {
        self.trials += 1;
        let failure = Failure::first_of(record);
        self.held += u64::from(failure.is_none());
        self.crashed += u64::from(!record.panics.is_empty());
        for verdict in &record.verdicts {
            let tally = self.guarantees.entry(verdict.guarantee).or_default();
            let failed = !verdict.violations.is_empty();
            tally.failed += u64::from(failed);
            tally.vacuous += u64::from(!failed && verdict.tested == 0);
            tally.held += u64::from(!failed && verdict.tested > 0);
            tally.tested += verdict.tested;
            tally.largest_ns = tally.largest_ns.max(verdict.largest_ns);
            if failed {
                self.failing.entry(verdict.guarantee.to_string()).or_default().insert(record.seed);
            }
        }
        if !record.panics.is_empty() {
            self.failing.entry(CRASH.to_owned()).or_default().insert(record.seed);
        }
        coverage::add(&mut self.coverage, record);
        for strike in &record.strikes {
            let struck = self.faults.entry(strike.kind.name().to_owned()).or_default();
            struck.struck += 1;
            struck.busy += u64::from(strike.busy);
        }
        for (mark, times) in &record.marks {
            *self.marks.entry(mark.clone()).or_default() += times;
        }
        self.operations.add(&record.operations, &record.strikes);
        self.leader_changed += u64::from(leader_changed(&record.observations));
        if record.config.cluster.is_some() {
            self.clusters.get_or_insert_default().add(record);
        }
        self.lacking.extend(record.config.backend.lacks().iter().map(|kind| kind.name().to_owned()));
        self.simulated_ns += record.ended_ns;
        self.cpu_ns += cpu_ns;
        self.failures.extend(failure);
        self.keep_the_lowest();
    }

    /// Adds other trials.
    pub fn merge(&mut self, other: &Self) {
        self.trials += other.trials;
        self.held += other.held;
        self.crashed += other.crashed;
        self.diverged += other.diverged;
        for (guarantee, more) in &other.guarantees {
            let tally = self.guarantees.entry(*guarantee).or_default();
            tally.held += more.held;
            tally.failed += more.failed;
            tally.vacuous += more.vacuous;
            tally.tested += more.tested;
            tally.largest_ns = tally.largest_ns.max(more.largest_ns);
        }
        for (kind, more) in &other.faults {
            let struck = self.faults.entry(kind.clone()).or_default();
            struck.struck += more.struck;
            struck.busy += more.busy;
        }
        coverage::merge(&mut self.coverage, &other.coverage);
        for (mark, times) in &other.marks {
            *self.marks.entry(mark.clone()).or_default() += times;
        }
        self.operations.merge(&other.operations);
        self.leader_changed += other.leader_changed;
        if let Some(more) = &other.clusters {
            self.clusters.get_or_insert_default().merge(more);
        }
        self.simulated_ns += other.simulated_ns;
        self.cpu_ns += other.cpu_ns;
        self.failures.extend(other.failures.iter().cloned());
        self.lost_seeds.extend(&other.lost_seeds);
        for (what, seeds) in &other.failing {
            self.failing.entry(what.clone()).or_default().extend(seeds);
        }
        self.not_judged.extend(other.not_judged.clone());
        self.real = self.real.take().or_else(|| other.real.clone());
        self.guided = self.guided.or(other.guided);
        self.lacking.extend(other.lacking.iter().cloned());
        self.keep_the_lowest();
    }

    /// Says that these guarantees were not judged: they are in no table but named below it.
    pub fn leave_out(&mut self, guarantees: &[Guarantee], why: &str) {
        self.not_judged.extend(guarantees.iter().map(|guarantee| (*guarantee, why.to_owned())));
    }

    /// Says that these are trials with real processes, which only these kinds of fault can strike.
    pub fn of_real_processes(&mut self, kinds: &[Kind]) {
        self.real = Some(kinds.iter().map(|kind| kind.name().to_owned()).collect());
    }

    /// Names the marks that the source has, so that those never said show.
    pub fn expect_marks<'a>(&mut self, marks: impl IntoIterator<Item = &'a str>) {
        for mark in marks {
            self.marks.entry(mark.to_owned()).or_default();
        }
    }

    /// The guarantees that these trials are to put to the test, in order.
    pub fn promised(&self) -> impl Iterator<Item = &'static Guaranteed> {
        let judged = GUARANTEES.iter().filter(|g| !self.not_judged.contains_key(&g.id));
        judged.filter(|g| g.scope == Scope::Store || self.clusters.is_some())
    }

    /// Guarantees that no trial put to the test, in order.
    pub fn vacuous(&self) -> Vec<Guarantee> {
        let untested = |id: &Guarantee| self.guarantees.get(id).is_none_or(|tally| tally.tested == 0);
        self.promised().map(|g| g.id).filter(untested).collect()
    }

    /// Expected marks that were never said.
    pub fn never_reached(&self) -> Vec<&str> {
        self.marks.iter().filter(|(_, times)| **times == 0).map(|(mark, _)| mark.as_str()).collect()
    }

    /// Kinds of faults that never struck, and could have.
    pub fn never_struck(&self) -> Vec<&'static str> {
        let could = |kind: &Kind| match &self.real {
            Some(kinds) => kinds.contains(kind.name()),
            None => !Kind::REAL.contains(kind) && (Kind::STORE.contains(kind) || self.clusters.is_some()),
        };
        let kinds = Kind::all().chain(Kind::REAL).filter(could);
        let never = |name: &&str| !self.faults.contains_key(*name) && !self.lacking.contains(*name);
        kinds.map(Kind::name).filter(never).collect()
    }

    /// Simulated seconds per CPU second; `None` without CPU time.
    pub fn speed(&self) -> Option<f64> {
        (self.cpu_ns > 0).then(|| self.simulated_ns as f64 / self.cpu_ns as f64)
    }

    /// Trials in which some guarantee of this side failed count here as often as guarantees failed in them.
    pub(crate) fn failed_on(&self, side: Side) -> u64 {
        self.guarantees.iter().filter(|(id, _)| id.guaranteed().side == side).map(|(_, tally)| tally.failed).sum()
    }

    fn keep_the_lowest(&mut self) {
        self.failures.sort();
        self.failures.truncate(MAX_KEPT);
        for seeds in self.failing.values_mut().chain([&mut self.lost_seeds]) {
            while seeds.len() > MAX_KEPT {
                seeds.pop_last();
            }
        }
    }
}

/// The exit code of a run: 0 if all held; else, the first that applies: 10 for safety, 11 for liveness, 12 for a crash,
/// 13 for a divergence, 14 if, from [`VACUOUS_FROM`] trials on, some guarantee was never put to the test.
pub fn exit_code(summary: &Summary) -> u8 {
    let codes = [
        (10, summary.failed_on(Side::Safety) > 0),
        (11, summary.failed_on(Side::Liveness) > 0),
        (12, summary.crashed > 0),
        (13, summary.diverged > 0),
        (14, summary.trials >= VACUOUS_FROM && !summary.vacuous().is_empty()),
    ];
    codes.iter().find(|(_, applies)| *applies).map_or(0, |(code, _)| *code)
}

impl Clusters {
    fn add(&mut self, record: &Record) {
        self.trials += 1;
        self.leader_changed_in_rollout += u64::from(leader_changed_in_rollout(record));
        let active = active(&record.strikes);
        for write in &record.cluster.writes {
            let (ok, refused) = match &write.outcome {
                Answer::Ok { .. } => (1, 0),
                Answer::Refused { .. } => (0, 1),
                Answer::Unknown { .. } => (0, 0),
            };
            let overlapping = u64::from(overlaps(&active, write.invoked_ns, write.completed_ns));
            self.writes.merge(&Operations { total: 1, succeeded: ok, refused, unknown: 1 - ok - refused, overlapping });
        }
        for call in &record.cluster.calls {
            let ok = u64::from(call.answer.is_ok());
            let overlapping = u64::from(overlaps(&active, call.invoked_ns, call.completed_ns));
            self.calls.merge(&Operations { total: 1, succeeded: ok, refused: 1 - ok, unknown: 0, overlapping });
        }
    }

    fn merge(&mut self, other: &Self) {
        self.trials += other.trials;
        self.leader_changed_in_rollout += other.leader_changed_in_rollout;
        self.writes.merge(&other.writes);
        self.calls.merge(&other.calls);
    }
}

/// Whether another member came to lead than the one before while a Deployment was being rolled out.
fn leader_changed_in_rollout(record: &Record) -> bool {
    let rollouts = coverage::rollouts(record);
    let mut last = None;
    record.observations.iter().any(|observation| {
        let Observation::Leads { at_ns, member, .. } = observation else { return false };
        let changed = last.replace(*member).is_some_and(|before| before != *member);
        changed && rollouts.iter().any(|rollout| rollout.contains(at_ns))
    })
}

/// Whether something that lasted from `from_ns` to `until_ns` met one of the intervals.
fn overlaps(active: &[(Ns, Ns)], from_ns: Ns, until_ns: Ns) -> bool {
    // The first interval that has not ended when it began.
    let next = active.partition_point(|(_, until_ns)| *until_ns < from_ns);
    active.get(next).is_some_and(|(begins_ns, _)| *begins_ns <= until_ns)
}

impl Operations {
    fn add(&mut self, operations: &[Operation], strikes: &[Strike]) {
        let active = active(strikes);
        for op in operations {
            self.total += 1;
            match op.outcome {
                Outcome::Ok { .. } => self.succeeded += 1,
                Outcome::Refused { .. } => self.refused += 1,
                Outcome::Unknown { .. } => self.unknown += 1,
            }
            self.overlapping += u64::from(overlaps(&active, op.invoked_ns, op.completed_ns));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.succeeded += other.succeeded;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.overlapping += other.overlapping;
    }
}

/// When some fault was active: intervals in order, none touching the next.
fn active(strikes: &[Strike]) -> Vec<(Ns, Ns)> {
    let mut strikes: Vec<(Ns, Ns)> = strikes.iter().map(|s| (s.from_ns, s.until_ns)).collect();
    strikes.sort_unstable();
    let mut active: Vec<(Ns, Ns)> = Vec::new();
    for (from_ns, until_ns) in strikes {
        match active.last_mut() {
            Some((_, last_ns)) if from_ns <= *last_ns => *last_ns = until_ns.max(*last_ns),
            Some(_) | None => active.push((from_ns, until_ns)),
        }
    }
    active
}

/// Whether another member came to lead than the one that led before.
fn leader_changed(observations: &[Observation]) -> bool {
    let mut leaders = observations.iter().filter_map(|observation| match observation {
        Observation::Leads { member, .. } => Some(*member),
        _ => None,
    });
    leaders.next().is_some_and(|first| leaders.any(|other| other != first))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use record::{Config, KeyRange, Panic, Refusal, Reply, Request, Verdict, Violation};

    fn strike(kind: Kind, from_ns: Ns, until_ns: Ns, busy: bool) -> Strike {
        let (members, clients, nodes, disabled, severed) = (vec![0], vec![], vec![], vec![], vec![]);
        Strike { fault: 0, kind, from_ns, until_ns, members, clients, nodes, busy, disabled, severed }
    }

    fn op(id: u64, invoked_ns: Ns, outcome: Outcome) -> Operation {
        let request = Request::Read { range: KeyRange::key("a"), revision: 0 };
        Operation { id, client: 0, invoked_ns, completed_ns: invoked_ns + 5, request, outcome }
    }

    /// A trial of 100 s in which all held, two faults struck, and three operations were asked.
    pub(crate) fn record(seed: u64) -> Record {
        let verdicts = GUARANTEES.iter().filter(|g| g.scope == Scope::Store).map(|g| Verdict {
            guarantee: g.id,
            tested: 10,
            violations: vec![],
            largest_ns: g.bound_ns.map(|_| 1_500_000_000 + seed),
        });
        Record {
            format: record::FORMAT,
            build: "test".into(),
            config: Config {
                scenario: "store".into(),
                members: 3,
                one_more_permille: 0,
                freeze_minority_permille: 0,
                client_hosts: 1,
                faults_ns: 0,
                calm_ns: 0,
                rate: 30,
                keys: 8,
                faults: true,
                cluster: None,
                backend: <_>::default(),
                rules: None,
            },
            seed,
            executor_seed: 0,
            schedule: Default::default(),
            strikes: vec![strike(Kind::Kill, 20, 30, true), strike(Kind::DiskFull, 25, 40, false)],
            operations: vec![
                op(0, 1, Outcome::Ok { revision: 1, member: 0, reply: Reply::Read(vec![]) }),
                op(1, 15, Outcome::Unknown { why: "timeout".into() }),
                op(2, 40, Outcome::Refused { why: Refusal::Unavailable("no leader".into()) }),
                op(3, 41, Outcome::Ok { revision: 1, member: 0, reply: Reply::Read(vec![]) }),
            ],
            watches: vec![],
            observations: vec![
                Observation::Leads { at_ns: 1, member: 0, term: 1 },
                Observation::Leads { at_ns: 2, member: 0, term: 2 },
            ],
            cluster: <_>::default(),
            marks: BTreeMap::from([("vote granted".to_owned(), 3)]),
            healed_ns: 0,
            ended_ns: 100_000_000_000,
            slack_ns: 0,
            log_hash: 0,
            checkpoints: vec![],
            panics: vec![],
            verdicts: verdicts.collect(),
        }
    }

    pub(crate) fn violated(record: &mut Record, guarantee: Guarantee, at_ns: Ns, text: &str) {
        let verdict = record.verdicts.iter_mut().find(|v| v.guarantee == guarantee).expect("all are judged");
        verdict.violations.push(Violation { at_ns, text: text.into() });
    }

    pub(crate) fn untested(record: &mut Record, guarantee: Guarantee) {
        let verdict = record.verdicts.iter_mut().find(|v| v.guarantee == guarantee).expect("all are judged");
        (verdict.tested, verdict.largest_ns) = (0, None);
    }

    #[test]
    fn operations_count_by_outcome_and_by_whether_a_fault_was_active() {
        let summary = Summary::of(&record(1), 7);
        assert_eq!(summary.operations, Operations { total: 4, succeeded: 2, refused: 1, unknown: 1, overlapping: 2 });
    }

    #[test]
    fn intervals_that_touch_are_one() {
        let mut record = record(1);
        let strike = record.strikes[0].clone();
        let between = |from_ns, until_ns| Strike { from_ns, until_ns, ..strike.clone() };
        record.strikes = vec![between(5, 6), between(1, 3), between(2, 2), between(3, 4)];
        assert_eq!(active(&record.strikes), [(1, 4), (5, 6)]);
    }

    #[test]
    fn a_leader_elected_again_is_no_change_of_leader() {
        assert_eq!(Summary::of(&record(1), 7).leader_changed, 0);
        let mut record = record(1);
        record.observations.push(Observation::Leads { at_ns: 3, member: 2, term: 3 });
        assert_eq!(Summary::of(&record, 7).leader_changed, 1);
    }

    #[test]
    fn a_violated_guarantee_has_failed_and_an_untested_one_is_vacuous() {
        let mut record = record(1);
        violated(&mut record, Guarantee::C2, 5, "lost");
        untested(&mut record, Guarantee::C3);
        // What failed without being counted was put to the test all the same.
        untested(&mut record, Guarantee::C4);
        violated(&mut record, Guarantee::C4, 5, "fell");
        let summary = Summary::of(&record, 7);
        let tally = |id| summary.guarantees[&id];
        assert_eq!(tally(Guarantee::C1), Tally { held: 1, tested: 10, ..Tally::default() });
        assert_eq!(tally(Guarantee::C2), Tally { failed: 1, tested: 10, ..Tally::default() });
        assert_eq!(tally(Guarantee::C3), Tally { vacuous: 1, ..Tally::default() });
        assert_eq!(tally(Guarantee::C4), Tally { failed: 1, ..Tally::default() });
        assert_eq!((summary.trials, summary.held), (1, 0));
    }

    #[test]
    fn merging_is_the_same_in_any_order() {
        let mut parts: Vec<Summary> = (0..30)
            .map(|seed| {
                let mut record = record(seed);
                violated(&mut record, Guarantee::C10, seed, "late");
                Summary::of(&record, seed)
            })
            .collect();
        parts.push(Summary::crashed(7));
        parts.push(Summary::diverged(8));
        let merged = |parts: &[Summary]| {
            let mut summary = Summary::default();
            parts.iter().for_each(|part| summary.merge(part));
            summary
        };
        let forth = merged(&parts);
        parts.reverse();
        assert_eq!(merged(&parts), forth);
        let (first, second) = parts.split_at(11);
        assert_eq!(merged(&[merged(second), merged(first)]), forth);
        assert_eq!(forth.failures.len(), MAX_KEPT);
        assert_eq!(forth.failures[0].seed, 0);
        assert_eq!((forth.trials, forth.crashed, forth.diverged), (31, 1, 1));
        assert_eq!(forth.guarantees[&Guarantee::C10].largest_ns, Some(1_500_000_029));
    }

    #[test]
    fn a_summary_crosses_processes_unchanged() {
        let mut summary = Summary::of(&record(1), 7);
        summary.merge(&Summary::crashed(2));
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
    }

    #[test]
    fn the_exit_code_is_that_of_the_gravest() {
        let mut summary = Summary::of(&record(1), 7);
        assert_eq!(exit_code(&summary), 0);
        summary.merge(&Summary::diverged(2));
        assert_eq!(exit_code(&summary), 13);
        let mut panicked = record(3);
        panicked.panics.push(Panic { at_ns: 1, host: "s1".into(), message: "no".into() });
        summary.add(&panicked, 7);
        assert_eq!(exit_code(&summary), 12);
        let mut late = record(4);
        violated(&mut late, Guarantee::C6, 1, "silence");
        summary.add(&late, 7);
        assert_eq!(exit_code(&summary), 11);
        let mut lost = record(5);
        violated(&mut lost, Guarantee::C2, 1, "lost");
        summary.add(&lost, 7);
        assert_eq!(exit_code(&summary), 10);
        assert_eq!(exit_code(&Summary::crashed(1)), 12);
    }

    #[test]
    fn what_is_never_tested_fails_the_run_from_a_hundred_trials_on() {
        let mut summary = Summary::default();
        for seed in 1..VACUOUS_FROM {
            let mut record = record(seed);
            untested(&mut record, Guarantee::C7);
            summary.add(&record, 7);
        }
        assert_eq!(summary.vacuous(), [Guarantee::C7]);
        assert_eq!(exit_code(&summary), 0);
        let mut last = record(VACUOUS_FROM);
        untested(&mut last, Guarantee::C7);
        let mut vacuous = summary.clone();
        vacuous.add(&last, 7);
        assert_eq!(exit_code(&vacuous), 14);
        summary.add(&record(VACUOUS_FROM), 7);
        assert_eq!((summary.vacuous(), exit_code(&summary)), (vec![], 0));
    }

    #[test]
    fn marks_and_faults_that_never_came_are_named() {
        let mut summary = Summary::of(&record(1), 7);
        summary.expect_marks(["vote granted", "torn tail cut"]);
        assert_eq!(summary.never_reached(), ["torn tail cut"]);
        assert_eq!(summary.marks["vote granted"], 3);
        assert_eq!(summary.never_struck().len(), Kind::STORE.len() - 2);
    }
}
