//! What failed, set against what failed in the run before.

use crate::run::Run;
use crate::summary::{CRASH, DIVERGENCE, Summary};
use record::Guarantee;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something that failed in a run: a guarantee, [`CRASH`] or [`DIVERGENCE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The guarantee's id, or one of the two.
    pub what: String,
    /// In how many trials.
    pub trials: u64,
    /// In which; the lowest ones.
    pub seeds: BTreeSet<u64>,
}

/// The run before, as far as this one is compared with it: read from its `report.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Previous {
    /// What was run.
    pub run: Run,
    /// What failed.
    pub findings: Vec<Finding>,
}

impl Previous {
    /// From the text of a `report.json`; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether the same was tried, the seeds apart.
    pub fn comparable(&self, run: &Run) -> bool {
        let tried = |run: &Run| (run.scenario.clone(), run.setting.clone(), run.mutated.is_some());
        tried(&self.run) == tried(run)
    }
}

/// What is new about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    /// It did not fail in the run before, or there is none to compare with.
    New,
    /// It failed in the run before too.
    Known,
    /// It failed in the run before and fails no more, in the same seeds. An edit makes another run of each seed, so this
    /// suggests more than it proves.
    Resolved,
    /// It failed in the run before, in seeds of which not all were tried again, and did not fail now.
    Untried,
}

/// A finding and its news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub news: News,
    /// As it is now; for what fails no more, as it was.
    pub finding: Finding,
}

impl Summary {
    /// What failed: guarantees in their order, then crashes, then divergences.
    pub fn findings(&self) -> Vec<Finding> {
        let trials = |what: &str| match what {
            CRASH => self.crashed,
            DIVERGENCE => self.diverged,
            _ => self.guarantees.iter().find(|(id, _)| id.to_string() == what).map_or(0, |(_, tally)| tally.failed),
        };
        let finding = |(what, seeds): (&String, &BTreeSet<u64>)| Finding {
            what: what.clone(),
            trials: trials(what),
            seeds: seeds.clone(),
        };
        let mut findings: Vec<Finding> = self.failing.iter().map(finding).collect();
        findings.sort_by_key(|finding| rank(&finding.what));
        findings
    }
}

/// Guarantees in their order come first.
fn rank(what: &str) -> (usize, String) {
    let place = record::GUARANTEES.iter().position(|g| g.id.to_string() == what);
    (place.unwrap_or(usize::MAX), what.to_owned())
}

/// What a finding is about, in a sentence.
pub(crate) fn sentence(what: &str) -> &'static str {
    match what {
        CRASH => "Product code panicked, or a worker died.",
        DIVERGENCE => "The same seed did two different things.",
        _ => guarantee(what).map_or("", |id| id.guaranteed().text),
    }
}

/// The seeds of a finding, for people.
pub(crate) fn seeds(finding: &Finding) -> String {
    let seeds: Vec<String> = finding.seeds.iter().map(u64::to_string).collect();
    let more = if finding.trials > seeds.len() as u64 { " and more" } else { "" };
    format!("{}{more}", seeds.join(", "))
}

fn guarantee(what: &str) -> Option<Guarantee> {
    record::GUARANTEES.iter().map(|g| g.id).find(|id| id.to_string() == what)
}

/// The findings of a run and those that it has no more, the newest first.
pub(crate) fn changes(summary: &Summary, run: &Run, previous: Option<&Previous>) -> Vec<Change> {
    let before = previous.filter(|it| it.comparable(run)).map_or(&[][..], |it| &it.findings);
    let now = summary.findings();
    let failed_before = |what: &str| before.iter().any(|it| it.what == what);
    let fails = |what: &str| now.iter().any(|it| it.what == what);
    let gone = before.iter().filter(|it| !fails(&it.what)).cloned().map(|finding| {
        let again = finding.seeds.iter().all(|seed| run.seeds.contains(*seed));
        Change { news: if again { News::Resolved } else { News::Untried }, finding }
    });
    let here = now.iter().cloned().map(|finding| {
        let news = if failed_before(&finding.what) { News::Known } else { News::New };
        Change { news, finding }
    });
    let mut changes: Vec<Change> = here.chain(gone).collect();
    // Stable, so that guarantees stay in their order.
    changes.sort_by_key(|change| change.news);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Seeds;
    use crate::summary::tests::{record, violated};
    use expect_test::expect;

    fn run(seeds: std::ops::RangeInclusive<u64>) -> Run {
        Run { scenario: "store".into(), seeds: Seeds::of(seeds), ..Run::default() }
    }

    fn failing(pairs: &[(u64, Guarantee)]) -> Summary {
        let mut summary = Summary::default();
        for (seed, guarantee) in pairs {
            let mut record = record(*seed);
            violated(&mut record, *guarantee, 5, "so");
            summary.add(&record, 7);
        }
        summary
    }

    fn check(summary: &Summary, run: &Run, previous: Option<&Previous>) -> String {
        let line =
            |it: &Change| format!("{:?} {} in {} {:?}", it.news, it.finding.what, it.finding.trials, it.finding.seeds);
        changes(summary, run, previous).iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn without_a_run_before_all_is_new_and_in_order() {
        let mut summary = failing(&[(3, Guarantee::C10), (4, Guarantee::C2), (9, Guarantee::C2)]);
        summary.merge(&Summary::crashed(7));
        summary.merge(&Summary::diverged(8));
        expect![[r#"
            New C2 in 2 {4, 9}
            New C10 in 1 {3}
            New crash in 1 {7}
            New divergence in 1 {8}"#]]
        .assert_eq(&check(&summary, &run(1..=9), None));
    }

    #[test]
    fn what_fails_no_more_is_resolved_only_if_its_seeds_were_tried_again() {
        let findings = failing(&[(3, Guarantee::C10), (4, Guarantee::C2), (12, Guarantee::C7)]).findings();
        let previous = Previous { run: run(1..=20), findings };
        let now = failing(&[(5, Guarantee::C2), (6, Guarantee::C1)]);
        expect![[r#"
            New C1 in 1 {6}
            Known C2 in 1 {5}
            Resolved C10 in 1 {3}
            Untried C7 in 1 {12}"#]]
        .assert_eq(&check(&now, &run(1..=9), Some(&previous)));
    }

    #[test]
    fn a_run_of_something_else_is_not_compared_with() {
        let findings = failing(&[(3, Guarantee::C10), (4, Guarantee::C2)]).findings();
        let previous = Previous { run: Run { scenario: "squall".into(), ..run(1..=20) }, findings };
        let now = failing(&[(5, Guarantee::C2)]);
        assert_eq!(check(&now, &run(1..=9), Some(&previous)), "New C2 in 1 {5}");
        let guided = Run { mutated: Some(Seeds::default()), ..run(1..=20) };
        let previous = Previous { run: guided, ..previous };
        assert_eq!(check(&now, &run(1..=9), Some(&previous)), "New C2 in 1 {5}");
    }
}
