//! What came of each mutant: rows that are kept from one board to the next, the table, and the score.
//!
//! **Invariant:** a row answers only for the sources and the patch that it came from, and what was not found only for a
//! search of no more effort (`a_row_answers_for_what_it_came_from_and_no_more`).
//! **Invariant:** whenever a board is stopped, what it had finished is on disk, whole
//! (`what_is_added_is_there_when_the_board_is_opened_again`).

use crate::cli::{MUTANT_BUDGET_S, MUTANT_SEEDS};
use crate::patch::Patch;
use crate::run::Brief;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Found within so few trials, a bug is an easy one: it says little of a testbed that finds it.
const EASY_TRIALS: u64 = 10;

/// Of the bugs, how many must be found, in percent.
const FOUND_PERCENT: usize = 90;

/// How hard a mutant is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// Trials at most.
    pub seeds: u64,
    /// CPU seconds of the trials at most.
    pub budget_s: u64,
}

impl Default for Effort {
    /// What a board asks for unless somebody says otherwise.
    fn default() -> Self {
        Self { seeds: MUTANT_SEEDS, budget_s: MUTANT_BUDGET_S }
    }
}

/// By what something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// By a guarantee that the patch names.
    Expected,
    /// Only by others.
    Otherwise,
    /// Nothing failed.
    No,
}

/// A row of the board.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The patch's name.
    pub name: String,
    /// Hash of the patch.
    pub patch: String,
    /// What was tried.
    pub scenario: String,
    /// The guarantees by which it may be found; none for a control.
    pub named: Vec<String>,
    /// Whether its first failing trial failed by what it should.
    pub found: Found,
    /// What failed in that trial.
    pub found_by: Vec<String>,
    /// How hard it was to be looked for.
    pub effort: Effort,
    /// Trials run.
    pub trials: u64,
    /// CPU seconds that they took, user and system.
    pub cpu_s: f64,
    /// Situations that they reached.
    #[serde(default)]
    pub situations: u64,
    /// Whether it is a bug that was found at once.
    pub easy: bool,
    /// Faults that are left of the failing trial, if it was shrunk.
    pub shrunk_to: Option<usize>,
    /// Why there is nothing to say of it: it does not build, or the wrong program would have run.
    pub broken: Option<String>,
}

impl Row {
    /// Of a mutant whose trials were run.
    pub fn tried(patch: &Patch, hash: &str, effort: Effort, brief: &Brief) -> Self {
        let found = if brief.failed.iter().any(|what| patch.guarantees.contains(what)) {
            Found::Expected
        } else if brief.failed.is_empty() {
            Found::No
        } else {
            Found::Otherwise
        };
        Self {
            name: patch.name.clone(),
            patch: hash.to_owned(),
            scenario: patch.scenario.clone(),
            named: patch.guarantees.clone(),
            found,
            found_by: brief.failed.clone(),
            effort,
            trials: brief.trials,
            cpu_s: brief.cpu_s,
            situations: brief.situations,
            easy: !patch.is_control() && found != Found::No && brief.trials <= EASY_TRIALS,
            shrunk_to: None,
            broken: None,
        }
    }

    /// Of a mutant that could not be tried.
    pub fn broken(patch: &Patch, hash: &str, effort: Effort, why: String) -> Self {
        Self { broken: Some(why), ..Self::tried(patch, hash, effort, &Brief::default()) }
    }

    /// Whether it says what a search of this effort would say. What does not build may do so tomorrow.
    pub fn answers(&self, effort: Effort, shrink: bool) -> bool {
        let looked_as_hard = self.effort.seeds >= effort.seeds && self.effort.budget_s >= effort.budget_s;
        let found = self.found != Found::No;
        self.broken.is_none() && (found || looked_as_hard) && (!shrink || !found || self.shrunk_to.is_some())
    }

    /// What its failing trial is to go on failing by when it is shrunk.
    pub fn telling(&self) -> Option<String> {
        self.found_by.iter().find(|by| self.named.contains(by)).or(self.found_by.first()).cloned()
    }

    /// Whether it is a bug that nothing found.
    pub fn is_missed(&self) -> bool {
        self.broken.is_none() && !self.is_control() && self.found == Found::No
    }

    /// Whether it is a harmless change.
    pub fn is_control(&self) -> bool {
        self.named.is_empty()
    }

    /// In words.
    pub fn result(&self) -> String {
        let by = self.found_by.join(", ");
        match (&self.broken, self.is_control(), self.found) {
            (Some(_), _, _) => "broken".into(),
            (None, true, Found::No) => "not flagged, as it should be".into(),
            (None, true, Found::Expected | Found::Otherwise) => format!("FLAGGED by {by}"),
            (None, false, Found::No) => "NOT FOUND".into(),
            (None, false, Found::Expected) => format!("found by {by}"),
            (None, false, Found::Otherwise) => format!("found by {by}, which is another"),
        }
    }
}

/// The rows of one state of the sources, on disk.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    kept: Kept,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Hash of the sources without any bug planted.
    sources: String,
    rows: Vec<Row>,
}

impl Board {
    /// The board at `path`, if it is of these sources; else an empty one.
    ///
    /// # Errors
    /// There is a file, but it cannot be read.
    pub fn open(path: &Path, sources: &str) -> anyhow::Result<Self> {
        let empty = Kept { sources: sources.to_owned(), rows: Vec::new() };
        let kept = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is no board of mutants; remove it", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => empty,
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        // Rows of other sources never answer again but by chance: keeping them all would have no end.
        let kept = if kept.sources == sources { kept } else { Kept { sources: sources.to_owned(), rows: Vec::new() } };
        Ok(Self { path: path.to_owned(), kept })
    }

    /// What came of this patch of this content.
    pub fn row(&self, name: &str, patch: &str) -> Option<&Row> {
        self.kept.rows.iter().find(|row| row.name == name && row.patch == patch)
    }

    /// Puts a row in the place of an earlier one of the same name, on disk too.
    ///
    /// # Errors
    /// What the file system says; what was on disk is there still.
    pub fn add(&mut self, row: Row) -> anyhow::Result<()> {
        self.kept.rows.retain(|it| it.name != row.name);
        self.kept.rows.push(row);
        self.kept.rows.sort_by(|a, b| a.name.cmp(&b.name));
        record::write_whole(&self.path, &serde_json::to_vec_pretty(&self.kept)?)
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

/// Names of the hardest bugs on the board at `path`, at most so many: first those that nothing found, then those that took
/// most trials. Of whatever sources it is: what is hard stays so.
///
/// # Errors
/// There is no board, or it cannot be read.
pub fn hardest(path: &Path, count: usize) -> anyhow::Result<Vec<String>> {
    let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let Kept { mut rows, .. } = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no board of mutants; remove it", path.display()))?;
    rows.retain(|row| row.broken.is_none() && !row.is_control());
    let ease = |row: &Row| (std::cmp::Reverse((row.is_missed(), row.trials)), row.name.clone());
    rows.sort_by_key(ease);
    Ok(rows.into_iter().take(count).map(|row| row.name).collect())
}

/// What a board comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Bugs.
    pub mutants: usize,
    /// Bugs found, by whatever guarantee.
    pub found: usize,
    /// Of these, bugs found only by a guarantee that the patch does not name.
    pub found_otherwise: usize,
    /// Of these, bugs found at once.
    pub easy: usize,
    /// Harmless changes.
    pub controls: usize,
    /// Harmless changes that something flagged.
    pub flagged: usize,
    /// Of both, those that could not be tried.
    pub broken: usize,
}

impl Score {
    /// That of these rows.
    pub fn of(rows: &[Row]) -> Self {
        let mut score = Self::default();
        for row in rows {
            let found = usize::from(row.broken.is_none() && row.found != Found::No);
            score.broken += usize::from(row.broken.is_some());
            if row.is_control() {
                score.controls += 1;
                score.flagged += found;
            } else {
                score.mutants += 1;
                score.found += found;
                score.found_otherwise += usize::from(row.found == Found::Otherwise);
                score.easy += usize::from(row.easy);
            }
        }
        score
    }

    /// Whether the testbed finds bugs and nothing else.
    pub fn good(&self) -> bool {
        self.broken == 0 && self.flagged == 0 && self.found * 100 >= self.mutants * FOUND_PERCENT
    }
}

/// Everything, for machines.
///
/// # Errors
/// What cannot be written as JSON; that is nothing.
pub fn json(rows: &[Row], score: &Score) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct All<'a> {
        score: &'a Score,
        good: bool,
        rows: &'a [Row],
    }
    serde_json::to_string_pretty(&All { score, good: score.good(), rows })
}

/// Everything, for people.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("mutant".len());
    let shrunk = rows.iter().any(|row| row.shrunk_to.is_some());
    let faults = |text: String| if shrunk { format!(" {text:>6}") } else { String::new() };
    let mut lines = vec![format!(
        "{:<width$}  {:<11} {:<12} {:<8} {:>6} {:>8} {:<4}{}  result",
        "mutant",
        "scenario",
        "named",
        "by",
        "trials",
        "CPU s",
        "easy",
        faults("faults".into())
    )];
    for row in rows {
        let named = if row.is_control() { "none".to_owned() } else { row.named.join(", ") };
        let by = match (row.found, row.is_control()) {
            (Found::No, _) => "-",
            (Found::Expected, _) => "expected",
            (Found::Otherwise, _) => "another",
        };
        let easy = if row.easy { "easy" } else { "" };
        lines.push(format!(
            "{:<width$}  {:<11} {named:<12} {by:<8} {:>6} {:>8.1} {easy:<4}{}  {}",
            row.name,
            row.scenario,
            row.trials,
            row.cpu_s,
            faults(row.shrunk_to.map_or_else(|| "-".to_owned(), |count| count.to_string())),
            row.result()
        ));
    }
    let Score { mutants, found, found_otherwise, easy, controls, flagged, broken } = Score::of(rows);
    lines.push(format!(
        "{found} of {mutants} mutants found ({found_otherwise} only by another guarantee than named, {easy} easily), \
         {flagged} of {controls} controls flagged, {broken} broken"
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFORT: Effort = Effort { seeds: 400, budget_s: 1200 };

    fn patch(named: &[&str]) -> Patch {
        Patch {
            name: "m".into(),
            guarantees: named.iter().map(|name| String::from(*name)).collect(),
            number: None,
            source: "a test".into(),
            scenario: "squall".into(),
            mechanism: "none".into(),
            files: vec![],
        }
    }

    fn row(named: &[&str], found_by: &[&str], trials: u64) -> Row {
        let failed: Vec<String> = found_by.iter().map(|name| String::from(*name)).collect();
        Row::tried(&patch(named), "p", EFFORT, &Brief { trials, cpu_s: 1.0, failed, trial: None, situations: 7 })
    }

    fn good(rows: &[Row]) -> bool {
        Score::of(rows).good()
    }

    #[test]
    fn nine_of_ten_bugs_must_be_found_by_whatever_guarantee() {
        let (found, another, missed) = (row(&["C1"], &["C1"], 3), row(&["C1"], &["C7"], 3), row(&["C1"], &[], 400));
        assert!(good(std::slice::from_ref(&found)) && good(std::slice::from_ref(&another)));
        assert!(!good(std::slice::from_ref(&missed)));
        let board = |missing: usize| -> Vec<Row> {
            (0..20).map(|at| if at < missing { missed.clone() } else { found.clone() }).collect()
        };
        assert!(good(&board(2)));
        assert!(!good(&board(3)));
    }

    #[test]
    fn a_control_must_not_be_flagged() {
        assert!(good(&[row(&[], &[], 400)]));
        assert!(!good(&[row(&[], &["C1"], 3)]));
    }

    #[test]
    fn what_does_not_build_is_neither_found_nor_a_good_control() {
        for named in [&["C1"][..], &[]] {
            let broken = Row::broken(&patch(named), "p", EFFORT, "it does not build".into());
            let score = Score::of(std::slice::from_ref(&broken));
            assert_eq!((score.found, score.broken, score.good()), (0, 1, false));
            assert!(!broken.answers(EFFORT, false), "it may build the next time");
        }
    }

    #[test]
    fn bugs_found_within_ten_trials_are_easy_ones() {
        assert!(row(&["C1"], &["C1"], 10).easy);
        assert!(!row(&["C1"], &["C1"], 11).easy);
        assert!(!row(&["C1"], &[], 3).easy, "it was not found");
        assert!(!row(&[], &["C1"], 3).easy, "it is no bug");
    }

    #[test]
    fn a_row_answers_for_what_it_came_from_and_no_more() {
        let more = Effort { budget_s: EFFORT.budget_s + 1, ..EFFORT };
        let (found, missed) = (row(&["C1"], &["C1"], 30), row(&["C1"], &[], 400));
        assert!(found.answers(more, false), "more effort finds it too");
        assert!(missed.answers(EFFORT, false) && missed.answers(EFFORT, true));
        assert!(!missed.answers(more, false));
        assert!(!found.answers(EFFORT, true), "nobody has shrunk it");
        assert!(Row { shrunk_to: Some(2), ..found }.answers(EFFORT, true));
    }

    #[test]
    fn what_is_added_is_there_when_the_board_is_opened_again() {
        let path = std::env::temp_dir().join(format!("seatrial-board-{}.json", std::process::id()));
        let open = |sources: &str| Board::open(&path, sources).expect("a board");
        let mut board = open("s1");
        let (first, second) = (row(&["C1"], &[], 400), Row { patch: "q".into(), ..row(&["C1"], &["C1"], 3) });
        board.add(first.clone()).expect("a folder for temporary files");
        assert_eq!(open("s1").row("m", "p"), Some(&first));
        assert_eq!(open("s1").row("m", "q"), None, "the patch was another one");
        board.add(second.clone()).expect("a folder for temporary files");
        assert_eq!((open("s1").row("m", "p"), open("s1").row("m", "q")), (None, Some(&second)));
        assert_eq!(open("s2").row("m", "q"), None, "the sources were others");
        fs::write(&path, "{\"rows\": [").expect("a file");
        let error = Board::open(&path, "s1").expect_err("is damaged").to_string();
        fs::remove_file(&path).expect("it is there");
        assert!(error.contains("is no board of mutants; remove it"), "{error}");
    }

    #[test]
    fn the_hardest_are_those_not_found_and_then_those_that_took_most_trials() {
        let path = std::env::temp_dir().join(format!("seatrial-hardest-{}.json", std::process::id()));
        let mut board = Board::open(&path, "s1").expect("a board");
        let named = |name: &str, row: Row| Row { name: name.into(), ..row };
        let rows = [
            named("easy", row(&["C1"], &["C1"], 3)),
            named("hard", row(&["C1"], &["C2"], 300)),
            named("hard-too", row(&["C1"], &["C1"], 300)),
            // Its trials are so dear that few were made.
            named("missed", row(&["C1"], &[], 60)),
            named("harmless", row(&[], &[], 400)),
            Row { broken: Some("it does not build".into()), ..named("broken", row(&["C1"], &[], 400)) },
        ];
        rows.into_iter().for_each(|row| board.add(row).expect("a folder for temporary files"));
        let (three, all) = (hardest(&path, 3).expect("a board"), hardest(&path, 10).expect("a board"));
        fs::remove_file(&path).expect("it is there");
        assert_eq!(three, ["missed", "hard", "hard-too"]);
        assert_eq!(all, ["missed", "hard", "hard-too", "easy"]);
        assert!(hardest(&path, 3).is_err(), "there is no board");
    }

    #[test]
    fn a_table_says_what_was_tried_and_what_came_of_it() {
        let rows = [Row { shrunk_to: Some(2), ..row(&["C1"], &["C1"], 3) }, row(&[], &[], 400)];
        let expected = [
            "mutant  scenario    named        by       trials    CPU s easy faults  result",
            "m       squall      C1           expected      3      1.0 easy      2  found by C1",
            "m       squall      none         -           400      1.0           -  not flagged, as it should be",
            "1 of 1 mutants found (0 only by another guarantee than named, 1 easily), 0 of 1 controls flagged, 0 broken",
        ];
        assert_eq!(table(&rows).lines().collect::<Vec<_>>(), expected);
        assert!(!table(&rows[1..]).contains("faults"), "nothing was shrunk");
    }
}
