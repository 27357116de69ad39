//! The policies of a search, compared by what they find: the same mutants under each, with the same effort.

use super::Rows;
use super::board::{Found, Row, Score};
use crate::cli::Policy;
use serde::Serialize;

/// Everything, for people: a mutant's rows, one for each policy, stand together.
pub fn table(rows: &Rows) -> String {
    let all = || rows.values().flatten();
    let width = all().map(|row| row.name.len()).max().unwrap_or(0).max("mutant".len());
    let mut lines = vec![format!(
        "{:<width$}  {:<11} {:<8} {:>6} {:>8} {:>10}  result",
        "mutant", "scenario", "policy", "trials", "CPU s", "situations"
    )];
    for (policy, row) in together(rows) {
        lines.push(format!(
            "{:<width$}  {:<11} {:<8} {:>6} {:>8.1} {:>10}  {}",
            row.name,
            row.scenario,
            policy.name(),
            row.trials,
            row.cpu_s,
            row.situations,
            row.result()
        ));
    }
    lines.extend(rows.iter().map(|(policy, rows)| sum(*policy, rows)));
    lines.join("\n")
}

/// Rows by mutant, in order of name, and of each in order of policy.
fn together(rows: &Rows) -> Vec<(Policy, &Row)> {
    let mut all: Vec<(Policy, &Row)> =
        rows.iter().flat_map(|(policy, rows)| rows.iter().map(|row| (*policy, row))).collect();
    all.sort_by(|a, b| (&a.1.name, a.0).cmp(&(&b.1.name, b.0)));
    all
}

/// What a policy found, and at what cost; what was in vain counts.
fn sum(policy: Policy, rows: &[Row]) -> String {
    let Score { mutants, found, .. } = Score::of(rows);
    let (trials, cpu_s) =
        (rows.iter().map(|row| row.trials).sum::<u64>(), rows.iter().map(|row| row.cpu_s).sum::<f64>());
    format!("{}: {found} of {mutants} mutants found in {trials} trials, {cpu_s:.1} CPU s", policy.name())
}

/// Everything, for machines.
///
/// # Errors
/// What cannot be written as JSON; that is nothing.
pub fn json(rows: &Rows) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Compared<'a> {
        policy: &'static str,
        found: usize,
        rows: &'a [Row],
    }
    let found = |rows: &[Row]| rows.iter().filter(|row| row.found != Found::No).count();
    let compared: Vec<Compared<'_>> =
        rows.iter().map(|(policy, rows)| Compared { policy: policy.name(), found: found(rows), rows }).collect();
    serde_json::to_string_pretty(&compared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::Effort;
    use crate::patch::Patch;
    use crate::run::Brief;
    use std::collections::BTreeMap;

    fn row(name: &str, found_by: &[&str], trials: u64) -> Row {
        let patch = Patch {
            name: name.into(),
            guarantees: vec!["C1".into()],
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
        BTreeMap::from([
            (Policy::Swarm, vec![row("a", &["C1"], 30), row("b", &[], 400)]),
            (Policy::Guided, vec![row("a", &["C1"], 20), row("b", &["C7"], 90)]),
        ])
    }

    #[test]
    fn a_mutants_rows_stand_together_and_policies_are_summed_up() {
        let expected = [
            "mutant  scenario    policy   trials    CPU s situations  result",
            "a       squall      swarm        30     15.0        130  found by C1",
            "a       squall      guided       20     10.0        120  found by C1",
            "b       squall      swarm       400    200.0        500  NOT FOUND",
            "b       squall      guided       90     45.0        190  found by C7, which is another",
            "swarm: 1 of 2 mutants found in 430 trials, 215.0 CPU s",
            "guided: 2 of 2 mutants found in 110 trials, 55.0 CPU s",
        ];
        assert_eq!(table(&rows()).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_script_finds_the_same() {
        let all: serde_json::Value = serde_json::from_str(&json(&rows()).expect("rows")).expect("a document");
        assert_eq!((&all[0]["policy"], &all[0]["found"]), (&"swarm".into(), &1.into()));
        assert_eq!((&all[1]["policy"], &all[1]["found"]), (&"guided".into(), &2.into()));
        assert_eq!(all[1]["rows"][1]["trials"], 90);
    }
}
