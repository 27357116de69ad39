//! A run as Markdown, for the page of a CI job.

use crate::Report;
use crate::escape::{md, shortened};
use crate::findings::{self, News};
use crate::summary::Operations;
use crate::table::percent;
use std::fmt::Write;

/// Characters of what was seen; the whole is in the record.
const MAX_TEXT: usize = 300;

/// Failing seeds with their commands; the page has more.
const MAX_FAILURES: usize = 10;

impl Report<'_> {
    /// `summary.md`.
    pub fn markdown(&self) -> String {
        let mut out = format!("## {}\n\n", md(&self.verdict()));
        self.figures(&mut out);
        self.findings(&mut out);
        self.failures(&mut out);
        self.guarantees(&mut out);
        out
    }

    fn figures(&self, out: &mut String) {
        let summary = self.summary;
        let Operations { total, succeeded, overlapping, .. } = summary.operations;
        let speed = summary.speed().map_or(String::new(), |speed| format!(", {speed:.0} simulated s per CPU s"));
        let mut rows = vec![
            ("scenario", self.run.tried()),
            ("seeds", self.run.seeds.named(5)),
            ("operations", format!("{total} ({} succeeded)", percent(succeeded, total))),
            ("beside a fault", format!("{} of operations", percent(overlapping, total))),
            ("faults struck", summary.faults.values().map(|it| it.struck).sum::<u64>().to_string()),
            ("change of leader", format!("{} of trials", percent(summary.leader_changed, summary.trials))),
            ("simulated", format!("{:.0} s{speed}", summary.simulated_ns as f64 / 1e9)),
            ("build", self.run.build.clone()),
        ];
        rows.extend(summary.guided.map(|guided| ("search", guided.sentence())));
        out.push_str("| | |\n|---|---|\n");
        for (name, value) in rows {
            let _ = writeln!(out, "| {name} | {} |", md(&value));
        }
        out.push('\n');
    }

    fn findings(&self, out: &mut String) {
        let changes = findings::changes(self.summary, self.run, self.previous);
        if changes.is_empty() {
            return;
        }
        let _ = writeln!(out, "### Findings\n\n{}\n\n| | | trials | seeds |\n|---|---|---:|---|", md(&self.compared()));
        for change in changes {
            let (what, seeds) = (&change.finding.what, findings::seeds(&change.finding));
            let news = match change.news {
                News::New => "**new**",
                News::Known => "known",
                News::Resolved => "resolved",
                News::Untried => "not tried again",
            };
            let text = md(findings::sentence(what));
            let _ = writeln!(out, "| {news} | {} {text} | {} | {seeds} |", md(what), change.finding.trials);
        }
        out.push('\n');
    }

    fn failures(&self, out: &mut String) {
        let failures = &self.summary.failures;
        if failures.is_empty() {
            return;
        }
        out.push_str("### Failures\n\n");
        for failure in failures.iter().take(MAX_FAILURES) {
            let (what, text, seed) = (md(&failure.what), md(&shortened(&failure.text, MAX_TEXT)), failure.seed);
            let name = self.run.name(seed);
            let _ = writeln!(out, "**{what}** at {:.3} s of {name}: {text}\n", failure.at_ns as f64 / 1e9);
            let _ = writeln!(out, "```sh\n{}\n{}\n```\n", self.run.replay(seed), self.run.shrink(seed));
        }
        if failures.len() > MAX_FAILURES {
            let _ = writeln!(out, "and {} more, which index.html has\n", failures.len() - MAX_FAILURES);
        }
    }

    fn guarantees(&self, out: &mut String) {
        out.push_str("### Guarantees\n\n| | | held | failed | vacuous | tested |\n|---|---|---:|---:|---:|---:|\n");
        for guaranteed in self.summary.promised() {
            let tally = self.summary.guarantees.get(&guaranteed.id).copied().unwrap_or_default();
            let failed = if tally.failed > 0 { format!("**{}**", tally.failed) } else { "0".to_owned() };
            let (id, text) = (guaranteed.id, md(guaranteed.text));
            let _ =
                writeln!(out, "| {id} | {text} | {} | {failed} | {} | {} |", tally.held, tally.vacuous, tally.tested);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Run, Seeds};
    use crate::summary::Summary;
    use crate::summary::tests::{record, violated};
    use expect_test::expect;
    use record::Guarantee;

    #[test]
    fn a_job_page_says_what_failed_and_how_to_repeat_it() {
        let mut summary = Summary::of(&record(1), 50_000_000);
        let mut failed = record(2);
        violated(&mut failed, Guarantee::C2, 41_318_000_000, "a | b\n# <b>\"lost\"</b> `x` @all");
        summary.add(&failed, 50_000_000);
        let run = Run {
            scenario: "store".into(),
            setting: " --rate 40".into(),
            build: "0123abc".into(),
            folder: "target/trials".into(),
            asked: 2,
            seeds: Seeds::of(1..=2),
            ..Run::default()
        };
        let text = Report { run: &run, summary: &summary, previous: None }.markdown();
        expect![[r#"
            ## 1 of 2 trials failed

            | | |
            |---|---|
            | scenario | store --rate 40 |
            | seeds | 1 to 2 |
            | operations | 8 \(50.0 % succeeded\) |
            | beside a fault | 50.0 % of operations |
            | faults struck | 4 |
            | change of leader | 0.0 % of trials |
            | simulated | 200 s, 2000 simulated s per CPU s |
            | build | 0123abc |

            ### Findings

            There is no earlier run in this folder to compare with&#58; whatever failed is new.

            | | | trials | seeds |
            |---|---|---:|---|
            | **new** | C2 Later reads have each acknowledged write, or a newer one. | 1 | 2 |

            ### Failures

            **C2** at 41.318 s of seed 2: a \| b \# &lt;b&gt;"lost"&lt;/b&gt; \`x\` &#64;all

            ```sh
            cargo trial replay --seed 2 --rate 40
            cargo trial shrink target/trials/2.json
            ```

            ### Guarantees

            | | | held | failed | vacuous | tested |
            |---|---|---:|---:|---:|---:|
            | C1 | Reads and writes happen one after the other, in real time. | 2 | 0 | 0 | 20 |
            | C2 | Later reads have each acknowledged write, or a newer one. | 1 | **1** | 0 | 20 |
            | C3 | Members that applied the same log hold the same state. | 2 | 0 | 0 | 20 |
            | C4 | What changes something raises the revision by exactly one. | 2 | 0 | 0 | 20 |
            | C5 | A term has at most one leader. | 2 | 0 | 0 | 20 |
            | C6 | While a majority is able and connected, writes commit. | 2 | 0 | 0 | 20 |
            | C7 | A watch brings every change once and in order. | 2 | 0 | 0 | 20 |
            | C9 | A lease outlives each acknowledged keep-alive by its TTL. | 2 | 0 | 0 | 20 |
            | C10 | A lease that nobody keeps alive ends in time. | 2 | 0 | 0 | 20 |
            | C12 | A transaction whose precondition fails never applies. | 2 | 0 | 0 | 20 |
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn a_run_that_held_is_short() {
        let summary = Summary::of(&record(1), 50_000_000);
        let text = Report { run: &Run::default(), summary: &summary, previous: None }.markdown();
        assert!(text.starts_with("## The trial held\n"), "{text}");
        assert!(!text.contains("Findings") && !text.contains("Failures"), "{text}");
    }
}
