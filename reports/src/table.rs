//! The tables that a run ends in, for a terminal.

use crate::summary::{Clusters, Operations, Summary};
use std::collections::BTreeMap;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

/// Failing seeds named in the table; JSON has more.
const MAX_SEEDS: usize = 5;

impl Summary {
    /// The tables, without colour.
    pub fn table(&self) -> String {
        self.tables(false)
    }

    /// The tables; in colour, what failed is red and what was never put to the test yellow. Only for a terminal.
    pub fn tables(&self, colour: bool) -> String {
        let parts = [guarantees(self, colour), faults(self, colour), figures(self, colour)];
        parts.join("\n\n")
    }
}

fn guarantees(summary: &Summary, colour: bool) -> String {
    let mut builder = Builder::default();
    builder.push_record(["", "guarantee", "held", "failed", "vacuous", "tested", "largest", "bound"]);
    let mut colours = Vec::new();
    for guaranteed in summary.promised() {
        let tally = summary.guarantees.get(&guaranteed.id).copied().unwrap_or_default();
        builder.push_record([
            guaranteed.id.to_string(),
            guaranteed.text.to_owned(),
            tally.held.to_string(),
            tally.failed.to_string(),
            tally.vacuous.to_string(),
            tally.tested.to_string(),
            tally.largest_ns.map_or(String::new(), |ns| format!("{:.2} s", whole(ns))),
            guaranteed.bound_ns.map_or(String::new(), |ns| format!("{:.0} s", whole(ns))),
        ]);
        colours.push(match tally {
            _ if tally.failed > 0 => Some(RED),
            _ if tally.tested == 0 => Some(YELLOW),
            _ => None,
        });
    }
    let table = coloured(rendered(builder, 2), &colours, colour);
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (guarantee, why) in &summary.not_judged {
        reasons.entry(why).or_default().push(guarantee.to_string());
    }
    reasons.into_iter().fold(table, |table, (why, ids)| format!("{table}\nnot judged: {}: {why}", ids.join(", ")))
}

fn faults(summary: &Summary, colour: bool) -> String {
    let mut builder = Builder::default();
    builder.push_record(["fault", "struck", "while busy"]);
    let mut colours = Vec::new();
    for (kind, struck) in &summary.faults {
        builder.push_record([kind.clone(), struck.struck.to_string(), struck.busy.to_string()]);
        colours.push((struck.busy == 0).then_some(YELLOW));
    }
    let mut lines = vec![coloured(rendered(builder, 1), &colours, colour)];
    let mut names = |what: &str, kinds: Vec<&str>| {
        if !kinds.is_empty() {
            lines.push(format!("{what}: {}", kinds.join(", ")));
        }
    };
    names("never struck", summary.never_struck());
    names("lacking in this backend", summary.lacking.iter().map(String::as_str).collect());
    lines.join("\n")
}

/// Marks that were never said are named up to so many: a few trials miss more than anybody reads on a terminal.
const NAMED_MARKS: usize = 20;

fn figures(summary: &Summary, colour: bool) -> String {
    let Operations { total, succeeded, refused, unknown, overlapping } = summary.operations;
    let failed = summary.trials - summary.held;
    let trials =
        format!("{} ({} held, {failed} failed, {} of them crashed)", summary.trials, summary.held, summary.crashed);
    let operations = format!(
        "{total} ({} succeeded, {} refused, {} unanswered; {} overlap a fault)",
        percent(succeeded, total),
        percent(refused, total),
        percent(unknown, total),
        percent(overlapping, total)
    );
    let changes = format!("{} of trials", percent(summary.leader_changed, summary.trials));
    let speed = summary.speed().map_or(String::new(), |speed| format!(", {speed:.0} simulated s per CPU s"));
    let (passed, cpu) = (whole(summary.simulated_ns), whole(summary.cpu_ns));
    let time = match &summary.real {
        None => format!("{passed:.1} s simulated, {cpu:.2} s CPU{speed}"),
        Some(_) => format!("{passed:.1} s, {cpu:.2} s CPU of the testbed"),
    };
    let never = summary.never_reached();
    let reached = summary.marks.len() - never.len();
    let marks = match never.as_slice() {
        [] => format!("{reached} reached"),
        few if few.len() <= NAMED_MARKS => format!("{reached} reached; never: {}", few.join(", ")),
        many => format!("{reached} reached, {} never: the report has their names", many.len()),
    };

    let mut lines = vec![("trials", trials, failed > 0)];
    if let Some(seeds) = failing_seeds(summary) {
        lines.push(("failing seeds", seeds, true));
    }
    if summary.diverged > 0 {
        lines.push(("diverged", format!("{} seeds", summary.diverged), true));
    }
    lines.extend([("operations", operations, false), ("change of leader", changes, false)]);
    if let Some(clusters) = &summary.clusters {
        lines.extend(cluster_figures(clusters));
    }
    lines.extend([("time", time, false), ("marks", marks, false)]);
    lines.extend(summary.guided.map(|guided| ("search", guided.sentence(), false)));
    let line = |(name, text, bad): (&str, String, bool)| {
        let line = format!("{name:<16} {text}");
        if bad && colour { format!("{RED}{line}{PLAIN}") } else { line }
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What is particular to trials of an orchestrator.
fn cluster_figures(clusters: &Clusters) -> [(&'static str, String, bool); 3] {
    let asked = |operations: &Operations| {
        format!(
            "{} ({} succeeded; {} overlap a fault)",
            operations.total,
            percent(operations.succeeded, operations.total),
            percent(operations.overlapping, operations.total)
        )
    };
    let in_rollout = percent(clusters.leader_changed_in_rollout, clusters.trials);
    [
        ("in a rollout", format!("{in_rollout} of trials with a change of leader"), false),
        ("users' writes", asked(&clusters.writes), false),
        ("service calls", asked(&clusters.calls), false),
    ]
}

/// The lowest of them.
fn failing_seeds(summary: &Summary) -> Option<String> {
    let mut seeds: Vec<u64> =
        summary.failures.iter().map(|f| f.seed).chain(summary.lost_seeds.iter().copied()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let shown: Vec<String> = seeds.iter().take(MAX_SEEDS).map(u64::to_string).collect();
    let more = if seeds.len() > MAX_SEEDS { " and more" } else { "" };
    (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
}

/// A table of which the columns from `numbers` on stand to the right.
fn rendered(builder: Builder, numbers: usize) -> String {
    let mut table = builder.build();
    table.with(Style::psql()).modify(Columns::new(numbers..), Alignment::right());
    let table = table.to_string();
    table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The table with its rows in these colours. A row is one line, below the head and its rule.
fn coloured(table: String, colours: &[Option<&str>], colour: bool) -> String {
    if !colour {
        return table;
    }
    let colours = [None, None].into_iter().chain(colours.iter().copied()).chain(std::iter::repeat(None));
    let lines = table.lines().zip(colours).map(|(line, colour)| match colour {
        Some(colour) => format!("{colour}{line}{PLAIN}"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// As seconds.
fn whole(ns: u64) -> f64 {
    ns as f64 / 1e9
}

pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{record, untested, violated};
    use expect_test::expect;
    use record::Guarantee;

    fn two_trials() -> Summary {
        let mut summary = Summary::of(&record(1), 80_000_000);
        let mut failed = record(17);
        violated(&mut failed, Guarantee::C2, 5, "lost");
        untested(&mut failed, Guarantee::C7);
        summary.add(&failed, 90_000_000);
        summary.expect_marks(["torn tail cut", "vote granted", "watch overtaken by compaction"]);
        summary
    }

    #[test]
    fn a_run_ends_in_tables_that_fit_a_terminal() {
        let table = two_trials().table();
        expect![[r#"
                 | guarantee                                                  | held | failed | vacuous | tested | largest | bound
            -----+------------------------------------------------------------+------+--------+---------+--------+---------+-------
             C1  | Reads and writes happen one after the other, in real time. |    2 |      0 |       0 |     20 |         |
             C2  | Later reads have each acknowledged write, or a newer one.  |    1 |      1 |       0 |     20 |         |
             C3  | Members that applied the same log hold the same state.     |    2 |      0 |       0 |     20 |         |
             C4  | What changes something raises the revision by exactly one. |    2 |      0 |       0 |     20 |         |
             C5  | A term has at most one leader.                             |    2 |      0 |       0 |     20 |         |
             C6  | While a majority is able and connected, writes commit.     |    2 |      0 |       0 |     20 |  1.50 s |  20 s
             C7  | A watch brings every change once and in order.             |    1 |      0 |       1 |     10 |         |
             C9  | A lease outlives each acknowledged keep-alive by its TTL.  |    2 |      0 |       0 |     20 |         |
             C10 | A lease that nobody keeps alive ends in time.              |    2 |      0 |       0 |     20 |  1.50 s |  20 s
             C12 | A transaction whose precondition fails never applies.      |    2 |      0 |       0 |     20 |         |

             fault     | struck | while busy
            -----------+--------+------------
             disk-full |      2 |          0
             kill      |      2 |          2
            never struck: partition-one, partition-minority, partition-majority, partition-one-way, partition-bridge, link-loss, link-delay, link-hold, power-loss, pause, clock-offset, clock-drift, clock-steps, clock-freeze, disk-error, disk-stall, partition-ring, partition-primaries, link-unclog, rolling-upgrade, link-rate, clock-jump, component-hang, config-change

            trials           2 (1 held, 1 failed, 0 of them crashed)
            failing seeds    17
            operations       8 (50.0 % succeeded, 25.0 % refused, 25.0 % unanswered; 50.0 % overlap a fault)
            change of leader 0.0 % of trials
            time             200.0 s simulated, 0.17 s CPU, 1176 simulated s per CPU s
            marks            1 reached; never: torn tail cut, watch overtaken by compaction"#]].assert_eq(&table);
        let widest = table.lines().filter(|line| line.contains('|')).map(str::len).max();
        assert!(widest.unwrap() <= 120);
    }

    #[test]
    fn more_marks_than_anybody_reads_are_counted_and_not_named() {
        let mut summary = two_trials();
        let unreached: Vec<String> = (0..NAMED_MARKS).map(|number| format!("mark {number}")).collect();
        summary.expect_marks(unreached.iter().map(String::as_str));
        let many = unreached.len() + two_trials().never_reached().len();
        let last = format!("marks            1 reached, {many} never: the report has their names");
        assert_eq!(summary.table().lines().last(), Some(&*last));
    }

    #[test]
    fn nothing_tried_is_a_table_too() {
        expect![[r#"
                 | guarantee                                                  | held | failed | vacuous | tested | largest | bound
            -----+------------------------------------------------------------+------+--------+---------+--------+---------+-------
             C1  | Reads and writes happen one after the other, in real time. |    0 |      0 |       0 |      0 |         |
             C2  | Later reads have each acknowledged write, or a newer one.  |    0 |      0 |       0 |      0 |         |
             C3  | Members that applied the same log hold the same state.     |    0 |      0 |       0 |      0 |         |
             C4  | What changes something raises the revision by exactly one. |    0 |      0 |       0 |      0 |         |
             C5  | A term has at most one leader.                             |    0 |      0 |       0 |      0 |         |
             C6  | While a majority is able and connected, writes commit.     |    0 |      0 |       0 |      0 |         |  20 s
             C7  | A watch brings every change once and in order.             |    0 |      0 |       0 |      0 |         |
             C9  | A lease outlives each acknowledged keep-alive by its TTL.  |    0 |      0 |       0 |      0 |         |
             C10 | A lease that nobody keeps alive ends in time.              |    0 |      0 |       0 |      0 |         |  20 s
             C12 | A transaction whose precondition fails never applies.      |    0 |      0 |       0 |      0 |         |

             fault | struck | while busy
            -------+--------+------------
            never struck: partition-one, partition-minority, partition-majority, partition-one-way, partition-bridge, link-loss, link-delay, link-hold, kill, power-loss, pause, clock-offset, clock-drift, clock-steps, clock-freeze, disk-error, disk-stall, disk-full, partition-ring, partition-primaries, link-unclog, rolling-upgrade, link-rate, clock-jump, component-hang, config-change

            trials           0 (0 held, 0 failed, 0 of them crashed)
            operations       0 (- succeeded, - refused, - unanswered; - overlap a fault)
            change of leader - of trials
            time             0.0 s simulated, 0.00 s CPU
            marks            0 reached"#]].assert_eq(&Summary::default().table());
    }

    #[test]
    fn what_was_not_judged_is_named_with_its_reason_and_in_no_row() {
        let mut summary = two_trials();
        summary.leave_out(&[Guarantee::C1, Guarantee::C7], "nobody asked");
        summary.of_real_processes(&[record::Kind::Kill, record::Kind::NodeKill]);
        let table = summary.table();
        let lines = |beginning: &str| table.lines().filter(|line| line.starts_with(beginning)).collect::<Vec<_>>();
        assert_eq!(lines("not judged"), ["not judged: C1, C7: nobody asked"]);
        assert_eq!(lines("never struck"), ["never struck: node-kill"]);
        assert_eq!(lines("time"), ["time             200.0 s, 0.17 s CPU of the testbed"]);
        assert!(lines(" C1 ").is_empty() && !lines(" C2 ").is_empty());
        assert!(!summary.vacuous().contains(&Guarantee::C7));
    }

    #[test]
    fn a_guided_search_says_what_it_came_to() {
        let mut summary = two_trials();
        assert!(!summary.table().contains("search"));
        summary.guided = Some(crate::Guided { rounds: 3, corpus: 12, mutated: 24, situations: 170, by_mutated: 21 });
        let last = "search           3 rounds, 12 schedules kept; 170 situations reached, 21 of them first by the 24 \
                    mutated schedules";
        assert_eq!(summary.table().lines().last(), Some(last));
    }

    #[test]
    fn what_a_backend_has_no_means_for_is_named_apart_from_what_never_struck() {
        let mut under_turmoil = record(1);
        under_turmoil.config.backend = record::Backend::Turmoil;
        let summary = Summary::of(&under_turmoil, 1);
        let mut merged = two_trials();
        merged.merge(&summary);
        for table in [summary.table(), merged.table()] {
            let line = |beginning: &str| table.lines().find(|line| line.starts_with(beginning));
            assert_eq!(line("lacking"), Some("lacking in this backend: link-loss, link-rate"));
            assert!(line("never struck").is_some_and(|line| line.contains("pause") && !line.contains("link-loss")));
        }
        assert!(!two_trials().table().contains("lacking"));
    }

    #[test]
    fn colour_marks_what_failed_and_what_was_never_tested_and_changes_no_text() {
        let mut summary = two_trials();
        let untouched = summary.guarantees.get_mut(&Guarantee::C3).expect("it was judged");
        *untouched = crate::summary::Tally { vacuous: 2, ..Default::default() };
        let coloured = summary.tables(true);
        let begins: Vec<&str> =
            coloured.lines().filter(|line| line.starts_with('\u{1b}')).map(|line| &line[..10]).collect();
        expect![[r#"
            [
                "\u{1b}[31m C2  ",
                "\u{1b}[33m C3  ",
                "\u{1b}[33m disk",
                "\u{1b}[31mtrial",
                "\u{1b}[31mfaili",
            ]
        "#]]
        .assert_debug_eq(&begins);
        let plain = [RED, YELLOW, PLAIN].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, summary.table());
    }
}
