//! Ways of looking, compared by what they find: the same mutants in each, with the same effort.

use super::board::{Found, Row, Score};
use super::{Rows, Way};
use serde::Serialize;

/// Everything, for people: a mutant's rows, one for each way, stand together.
pub fn table(rows: &Rows) -> String {
    let all = || rows.values().flatten();
    let width = all().map(|row| row.name.len()).max().unwrap_or(0).max("mutant".len());
    let names = rows.keys().map(|way| way.name().len()).max().unwrap_or(0).max("search".len());
    let mut lines = vec![format!(
        "{:<width$}  {:<11} {:<names$} {:>6} {:>8} {:>10}  result",
        "mutant", "scenario", "search", "trials", "CPU s", "situations"
    )];
    for (way, row) in together(rows) {
        lines.push(format!(
            "{:<width$}  {:<11} {:<names$} {:>6} {:>8.1} {:>10}  {}",
            row.name,
            row.scenario,
            way.name(),
            row.trials,
            row.cpu_s,
            row.situations,
            row.result()
        ));
    }
    lines.extend(rows.iter().map(|(way, rows)| sum(*way, rows)));
    lines.extend(rows.iter().skip(1).filter_map(|(way, others)| {
        let (first, firsts) = rows.first_key_value()?;
        Some(agreement(&first.name(), firsts, &way.name(), others))
    }));
    lines.join("\n")
}

/// Rows by mutant, in order of name, and of each in order of way.
fn together(rows: &Rows) -> Vec<(Way, &Row)> {
    let mut all: Vec<(Way, &Row)> = rows.iter().flat_map(|(way, rows)| rows.iter().map(|row| (*way, row))).collect();
    all.sort_by(|a, b| (&a.1.name, a.0).cmp(&(&b.1.name, b.0)));
    all
}

/// Of what the first way found, how much another one finds by the same guarantee, and what else.
fn agreement(first: &str, firsts: &[Row], name: &str, others: &[Row]) -> String {
    let of = |row: &Row| others.iter().find(|other| other.name == row.name);
    let by = |row: &Row, other: &Row| other.found_by.iter().any(|by| row.found_by.contains(by));
    let found: Vec<&Row> = firsts.iter().filter(|row| !row.is_control() && row.found != Found::No).collect();
    let differing: Vec<&str> =
        found.iter().filter(|row| !of(row).is_some_and(|other| by(row, other))).map(|row| row.name.as_str()).collect();
    let same = found.len() - differing.len();
    let mut line = format!("of {} found by {first}, {name} finds {same} by the same guarantee", found.len());
    if !differing.is_empty() {
        line += &format!("; not {}", differing.join(", "));
    }
    line
}

/// What a way found, and at what cost; what was in vain counts.
fn sum(way: Way, rows: &[Row]) -> String {
    let Score { mutants, found, .. } = Score::of(rows);
    let (trials, cpu_s) =
        (rows.iter().map(|row| row.trials).sum::<u64>(), rows.iter().map(|row| row.cpu_s).sum::<f64>());
    format!("{}: {found} of {mutants} mutants found in {trials} trials, {cpu_s:.1} CPU s", way.name())
}

/// Everything, for machines.
///
/// # Errors
/// What cannot be written as JSON; that is nothing.
pub fn json(rows: &Rows) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Compared<'a> {
        backend: &'static str,
        policy: &'static str,
        found: usize,
        rows: &'a [Row],
    }
    let found = |rows: &[Row]| rows.iter().filter(|row| row.found != Found::No).count();
    let compared: Vec<Compared<'_>> = rows
        .iter()
        .map(|(way, rows)| Compared {
            backend: way.backend.name(),
            policy: way.policy.name(),
            found: found(rows),
            rows,
        })
        .collect();
    serde_json::to_string_pretty(&compared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Policy;
    use crate::mutants::Effort;
    use crate::patch::Patch;
    use crate::run::Brief;
    use record::Backend;
    use std::collections::BTreeMap;

    fn row(name: &str, found_by: &[&str], trials: u64) -> Row {
        let patch = Patch {
            name: name.into(),
            guarantees: vec!["C1".into()],
            number: None,
            source: "a test".into(),
            scenario: "squall".into(),
            mechanism: "none".into(),
            files: vec![],
        };
        let failed = found_by.iter().map(|name| String::from(*name)).collect();
        let brief = Brief { trials, cpu_s: trials as f64 / 2.0, failed, trial: None, situations: trials + 100 };
        Row::tried(&patch, "p", Effort::default(), &brief)
    }

    fn rows() -> Rows {
        let way = |policy| Way { backend: Backend::Madsim, policy };
        BTreeMap::from([
            (way(Policy::Swarm), vec![row("a", &["C1"], 30), row("b", &[], 400)]),
            (way(Policy::Guided), vec![row("a", &["C1"], 20), row("b", &["C7"], 90)]),
        ])
    }

    #[test]
    fn a_mutants_rows_stand_together_and_policies_are_summed_up() {
        let expected = [
            "mutant  scenario    search trials    CPU s situations  result",
            "a       squall      swarm      30     15.0        130  found by C1",
            "a       squall      guided     20     10.0        120  found by C1",
            "b       squall      swarm     400    200.0        500  NOT FOUND",
            "b       squall      guided     90     45.0        190  found by C7, which is another",
            "swarm: 1 of 2 mutants found in 430 trials, 215.0 CPU s",
            "guided: 2 of 2 mutants found in 110 trials, 55.0 CPU s",
            "of 1 found by swarm, guided finds 1 by the same guarantee",
        ];
        assert_eq!(table(&rows()).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_another_way_finds_otherwise_is_named() {
        let first = [row("a", &["C1"], 1), row("b", &["C7", "C1"], 1), row("c", &["C1"], 1), row("d", &[], 9)];
        let other = [row("a", &["C2"], 1), row("b", &["C7"], 1), row("c", &[], 9), row("d", &["C1"], 1)];
        let expected = "of 3 found by A, B finds 1 by the same guarantee; not a, c";
        assert_eq!(agreement("A", &first, "B", &other), expected);
    }

    #[test]
    fn a_script_finds_the_same() {
        let all: serde_json::Value = serde_json::from_str(&json(&rows()).expect("rows")).expect("a document");
        assert_eq!((&all[0]["policy"], &all[0]["found"]), (&"swarm".into(), &1.into()));
        assert_eq!((&all[1]["policy"], &all[1]["found"]), (&"guided".into(), &2.into()));
        assert_eq!(all[1]["rows"][1]["trials"], 90);
    }
}
