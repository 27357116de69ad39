//! What a night came to: on the terminal, as JSON for machines, as Markdown for a page of CI.

use crate::exit::Exit;
use crate::mutants::{Row, Score};
use crate::trial;
use anyhow::Context;
use reports::Summary;
use serde::Serialize;
use std::path::Path;

/// A night.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What its seeds follow from.
    pub seed: u64,
    /// What the trial that must fail told, or in what way it was silent.
    #[serde(serialize_with = "either")]
    pub canary: Result<String, String>,
    /// The scenarios tried.
    pub scenarios: Vec<Scenario>,
    /// Of the mutants, those that were tried.
    pub mutants: Option<(Score, Vec<Row>)>,
    /// The code that it ended with.
    #[serde(serialize_with = "code")]
    pub exit: Exit,
}

/// The trials of a scenario, in short; the whole is in a folder of its own.
#[derive(Debug, Serialize)]
pub struct Scenario {
    name: String,
    trials: u64,
    held: u64,
    crashed: u64,
    cpu_s: f64,
    simulated_s: f64,
    /// The first failure of each failed trial, those with the lowest seeds.
    failures: Vec<String>,
    /// Seeds whose process died or was given up, or that went two ways.
    lost_seeds: Vec<u64>,
}

impl Scenario {
    /// Of these trials, which had so much CPU time.
    pub fn of(name: &str, summary: &Summary, spent_ns: u64) -> Self {
        let failures = summary.failures.iter();
        Self {
            name: name.to_owned(),
            trials: summary.trials,
            held: summary.held,
            crashed: summary.crashed,
            cpu_s: trial::seconds(spent_ns),
            simulated_s: trial::seconds(summary.simulated_ns),
            failures: failures.map(|it| format!("seed {}: {}: {}", it.seed, it.what, it.text)).collect(),
            lost_seeds: summary.lost_seeds.iter().copied().collect(),
        }
    }
}

impl Report {
    /// Of a night that has not begun: whoever sees it before its end sees a failure.
    pub fn new(seed: u64) -> Self {
        let canary = Err("it has not been heard".to_owned());
        Self { seed, canary, scenarios: Vec::new(), mutants: None, exit: Exit::FAILED }
    }

    /// Writes `nightly.json` and `summary.md`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, out: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        for (name, content) in [("nightly.json", json), ("summary.md", self.markdown().into_bytes())] {
            let path = out.join(name);
            record::write_whole(&path, &content).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }

    /// For people at a terminal.
    pub fn text(&self) -> String {
        let mut lines = vec![String::new(), format!("night {}", self.seed)];
        lines.extend(self.scenarios.iter().map(|it| {
            format!("{:<34} {:>6} trials, {:>6} held, {:>8.1} CPU s", it.name, it.trials, it.held, it.cpu_s)
        }));
        if let Some((score, _)) = &self.mutants {
            lines.push(format!("mutants: {} of {} found", score.found, score.mutants));
        }
        lines.push(format!("canary: {}", if self.canary.is_ok() { "heard" } else { "SILENT" }));
        lines.push(format!("exit code: {}", self.exit.code()));
        lines.join("\n")
    }

    /// For a page.
    fn markdown(&self) -> String {
        let verdict = if self.exit == Exit::HELD { "everything held" } else { "something is wrong" };
        let mut lines = vec![
            format!("## Night {}: {verdict} (exit code {})", self.seed, self.exit.code()),
            String::new(),
            match &self.canary {
                Ok(_) => "The canary was heard: a store on disks that lie fails, as it must.".to_owned(),
                Err(why) => format!("**The alarm is silent**: {why}. Nothing else was run or can be believed."),
            },
            String::new(),
            "| scenario | trials | held | died | CPU s | simulated s |".to_owned(),
            "|---|---:|---:|---:|---:|---:|".to_owned(),
        ];
        lines.extend(self.scenarios.iter().map(|it| {
            let Scenario { name, trials, held, crashed, cpu_s, simulated_s, .. } = it;
            format!("| {name} | {trials} | {held} | {crashed} | {cpu_s:.1} | {simulated_s:.0} |")
        }));
        lines.push(String::new());
        for it in &self.scenarios {
            lines.extend(it.failures.iter().map(|failure| format!("- {}, {}", it.name, failure.replace('\n', " "))));
            lines.extend(it.lost_seeds.iter().map(|seed| format!("- {}, seed {seed}: no result, or two", it.name)));
        }
        if let Some((score, rows)) = &self.mutants {
            lines.push(format!(
                "\n{} of {} mutants found, {} of {} controls flagged, {} broken",
                score.found, score.mutants, score.flagged, score.controls, score.broken
            ));
            lines.extend(rows.iter().map(|row| format!("- {}: {}", row.name, row.result())));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn either<S: serde::Serializer>(canary: &Result<String, String>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Canary<'a> {
        heard: bool,
        text: &'a str,
    }
    let (Ok(text) | Err(text)) = canary;
    Canary { heard: canary.is_ok(), text }.serialize(to)
}

fn code<S: serde::Serializer>(exit: &Exit, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u8(exit.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_that_was_cut_short_is_no_good_one() {
        let report = Report::new(7);
        let json: serde_json::Value =
            serde_json::from_slice(&serde_json::to_vec(&report).expect("JSON")).expect("JSON");
        assert_eq!((&json["exit"], &json["canary"]["heard"]), (&1.into(), &false.into()));
        assert!(report.markdown().contains("**The alarm is silent**"));
        assert!(report.text().contains("canary: SILENT"));
    }

    #[test]
    fn what_failed_and_what_never_answered_is_on_the_page() {
        let mut summary = Summary::crashed(9);
        let (what, text) = ("C2".to_owned(), "lost\n17".to_owned());
        summary.failures.push(reports::Failure { seed: 3, what, at_ns: 5, text });
        let scenarios = vec![Scenario::of("store", &summary, 1_500_000_000)];
        let report = Report { canary: Ok("C1 failed".into()), scenarios, exit: Exit::SAFETY, ..Report::new(7) };
        let page = report.markdown();
        for line in
            ["| store | 1 | 0 | 1 | 1.5 | 0 |", "- store, seed 3: C2: lost 17", "- store, seed 9: no result, or two"]
        {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
        assert!(page.starts_with("## Night 7: something is wrong (exit code 10)"), "{page}");
    }
}
