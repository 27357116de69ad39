//! The facts of the tables as one JSON document, for scripts. Times are nanoseconds, shares are from 0 to 1.

use crate::Report;
use crate::coverage::Coverage;
use crate::failure::Failure;
use crate::findings::Finding;
use crate::run::Run;
use crate::summary::{Clusters, Guided, Operations, Struck, Summary, Tally};
use record::{Guarantee, Ns, Side};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Serialize)]
struct Facts<'a> {
    trials: u64,
    held: u64,
    failed: u64,
    crashed: u64,
    diverged: u64,
    exit_code: u8,
    guarantees: Vec<Row>,
    not_judged: &'a BTreeMap<Guarantee, String>,
    faults: &'a BTreeMap<String, Struck>,
    coverage: &'a Coverage,
    never_struck: Vec<&'a str>,
    /// That the backend has no means for.
    lacking: &'a BTreeSet<String>,
    marks: &'a BTreeMap<String, u64>,
    marks_never_reached: Vec<&'a str>,
    operations: &'a Operations,
    succeeded_share: Option<f64>,
    overlapping_share: Option<f64>,
    leader_changed_share: Option<f64>,
    /// Of an orchestrator; null without one.
    clusters: Option<Orchestrated<'a>>,
    /// Of a guided search; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    guided: Option<Guided>,
    simulated_ns: u64,
    cpu_ns: u64,
    simulated_s_per_cpu_s: Option<f64>,
    failures: &'a [Failure],
    lost_seeds: &'a BTreeSet<u64>,
    findings: Vec<Finding>,
}

/// What trials of an orchestrator came to, and shares of it.
#[derive(Serialize)]
struct Orchestrated<'a> {
    #[serde(flatten)]
    counts: &'a Clusters,
    leader_changed_in_rollout_share: Option<f64>,
    writes_overlapping_share: Option<f64>,
    calls_overlapping_share: Option<f64>,
}

/// The facts, and what was run.
#[derive(Serialize)]
struct Reported<'a> {
    #[serde(flatten)]
    facts: Facts<'a>,
    run: &'a Run,
}

#[derive(Serialize)]
struct Row {
    id: Guarantee,
    text: &'static str,
    side: Side,
    bound_ns: Option<Ns>,
    #[serde(flatten)]
    tally: Tally,
}

impl Summary {
    /// One JSON document in one line: the same facts as the tables, and the failures.
    pub fn json(&self) -> String {
        written(&self.facts())
    }

    fn facts(&self) -> Facts<'_> {
        let row = |g: &record::Guaranteed| Row {
            id: g.id,
            text: g.text,
            side: g.side,
            bound_ns: g.bound_ns,
            tally: self.guarantees.get(&g.id).copied().unwrap_or_default(),
        };
        Facts {
            trials: self.trials,
            held: self.held,
            failed: self.trials - self.held,
            crashed: self.crashed,
            diverged: self.diverged,
            exit_code: crate::exit_code(self),
            guarantees: self.promised().map(row).collect(),
            not_judged: &self.not_judged,
            faults: &self.faults,
            coverage: &self.coverage,
            never_struck: self.never_struck(),
            lacking: &self.lacking,
            marks: &self.marks,
            marks_never_reached: self.never_reached(),
            operations: &self.operations,
            succeeded_share: share(self.operations.succeeded, self.operations.total),
            overlapping_share: share(self.operations.overlapping, self.operations.total),
            leader_changed_share: share(self.leader_changed, self.trials),
            clusters: self.clusters.as_ref().map(Orchestrated::of),
            guided: self.guided,
            simulated_ns: self.simulated_ns,
            cpu_ns: self.cpu_ns,
            simulated_s_per_cpu_s: self.speed(),
            failures: &self.failures,
            lost_seeds: &self.lost_seeds,
            findings: self.findings(),
        }
    }
}

impl<'a> Orchestrated<'a> {
    fn of(counts: &'a Clusters) -> Self {
        let Clusters { trials, leader_changed_in_rollout, writes, calls } = counts;
        Self {
            counts,
            leader_changed_in_rollout_share: share(*leader_changed_in_rollout, *trials),
            writes_overlapping_share: share(writes.overlapping, writes.total),
            calls_overlapping_share: share(calls.overlapping, calls.total),
        }
    }
}

/// From 0 to 1; `None` of nothing.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Report<'_> {
    /// `report.json`: what [`Summary::json`] says, and under `run` what was run; [`crate::Previous`] reads it.
    pub fn json(&self) -> String {
        written(&Reported { facts: self.summary.facts(), run: self.run })
    }
}

fn written(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("strings, numbers and maps with string keys always have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{record, violated};
    use serde_json::{Value, json};

    #[test]
    fn a_script_finds_the_facts_of_the_tables() {
        let mut summary = Summary::of(&record(1), 100_000_000);
        let mut failed = record(17);
        violated(&mut failed, Guarantee::C2, 5, "lost");
        summary.add(&failed, 100_000_000);
        summary.expect_marks(["torn tail cut"]);
        let facts: Value = serde_json::from_str(&summary.json()).unwrap();
        assert!(!summary.json().contains('\n'));
        assert_eq!(facts["exit_code"], 10);
        assert_eq!(facts["failed"], 1);
        assert_eq!(
            facts["guarantees"][1],
            json!({
                "id": "C2",
                "text": "Later reads have each acknowledged write, or a newer one.",
                "side": "safety",
                "bound_ns": null,
                "held": 1,
                "failed": 1,
                "vacuous": 0,
                "tested": 20,
                "largest_ns": null,
            })
        );
        assert_eq!(facts["guarantees"][5]["largest_ns"], 1_500_000_017);
        assert_eq!(facts["guarantees"][5]["bound_ns"], 20_000_000_000_u64);
        assert_eq!(facts["faults"]["kill"], json!({"struck": 2, "busy": 2}));
        assert_eq!(facts["marks_never_reached"], json!(["torn tail cut"]));
        assert_eq!(facts["operations"]["total"], 8);
        assert_eq!(facts["succeeded_share"], 0.5);
        assert_eq!(facts["overlapping_share"], 0.5);
        assert_eq!(facts["simulated_s_per_cpu_s"], 1000.0);
        assert_eq!(facts.get("guided"), None, "it was no search");
        assert_eq!(facts["failures"][0], json!({"seed": 17, "what": "C2", "at_ns": 5, "text": "lost"}));
    }

    #[test]
    fn the_next_run_reads_what_this_one_wrote() {
        let mut failed = record(17);
        violated(&mut failed, Guarantee::C2, 5, "lost");
        let summary = Summary::of(&failed, 7);
        let seeds = crate::Seeds::of([17]);
        let run = Run { scenario: "store".into(), asked: 1, seeds, took_s: 0.25, ..Run::default() };
        let written = Report { run: &run, summary: &summary, previous: None }.json();
        let read = crate::Previous::parse(&written).unwrap();
        assert_eq!((read.run, read.findings), (run, summary.findings()));
        let (facts, own): (Value, Value) =
            (serde_json::from_str(&written).unwrap(), serde_json::from_str(&summary.json()).unwrap());
        for (name, value) in own.as_object().unwrap() {
            assert_eq!(&facts[name], value, "{name}");
        }
        assert_eq!(facts["coverage"]["kill"]["leader"], json!({"election": 1}));
        assert_eq!(crate::Previous::parse("{}"), None);
    }

    #[test]
    fn a_script_finds_what_a_guided_search_came_to() {
        let guided = Some(Guided { rounds: 3, corpus: 12, mutated: 24, situations: 170, by_mutated: 21 });
        let facts: Value = serde_json::from_str(&Summary { guided, ..Summary::of(&record(1), 7) }.json()).unwrap();
        let expected = json!({"rounds": 3, "corpus": 12, "mutated": 24, "situations": 170, "by_mutated": 21});
        assert_eq!(facts["guided"], expected);
    }

    #[test]
    fn nothing_tried_has_no_shares() {
        let facts: Value = serde_json::from_str(&Summary::default().json()).unwrap();
        assert_eq!(facts["succeeded_share"], Value::Null);
        assert_eq!(facts["simulated_s_per_cpu_s"], Value::Null);
    }
}
