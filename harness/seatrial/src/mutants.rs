//! The board of mutants: bugs planted in a copy of the product, which trials must find without knowing them.
//!
//! ```text
//! harness/mutants/*.patch -> read, checked -> per patch: plant in the copy, build, compare hashes, run trials, restore
//!                         -> found or not, by which guarantee -> table, exit code
//! ```
//!
//! A harness is worth what it finds. Beside the bugs stand harmless controls: whoever flags one of those flags anything.
//!
//! **Invariant:** a program runs only if it says that it was built from exactly the files of the copy
//! (`build-hash` against [`sources::hash`]); a stale binary is refused.

use crate::cargo::{self, Profile};
use crate::cli::{self, Mutants};
use crate::determinism::build_hash;
use crate::exit::Exit;
use crate::mirror::Mirror;
use crate::patch::{self, Patch};
use crate::run::Brief;
use crate::sources;
use crate::trial::CRASH;
use anyhow::{Context, bail};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where patches lie, from the root.
const FOLDER: &str = "harness/mutants";

/// Nothing below these may know a mutant: a harness that knows what it looks for finds it too easily.
const IGNORANT: [&str; 3] = ["faults", "workloads", "harness/checkers"];

/// A row of the board.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The patch's name.
    pub name: String,
    /// What was tried.
    pub scenario: String,
    /// The guarantees by which it may be found; none for a control.
    pub named: Vec<String>,
    /// The guarantees by which its first failing trial failed.
    pub found_by: Vec<String>,
    /// Trials run.
    pub trials: u64,
    /// CPU seconds that they took.
    pub cpu_s: f64,
    /// Why there is nothing to say of it: it does not build, or the wrong program ran.
    pub broken: Option<String>,
}

impl Row {
    /// Whether it is as it should be: a bug found by a guarantee that it names, a control not flagged.
    fn good(&self) -> bool {
        let named = self.found_by.iter().any(|by| self.named.contains(by));
        self.broken.is_none() && if self.named.is_empty() { self.found_by.is_empty() } else { named }
    }

    fn result(&self) -> String {
        match (&self.broken, self.named.is_empty(), self.found_by.is_empty()) {
            (Some(_), _, _) => "broken".into(),
            (None, true, true) => "not flagged, as it should be".into(),
            (None, true, false) => format!("FLAGGED by {}", self.found_by.join(", ")),
            (None, false, true) => "NOT FOUND".into(),
            (None, false, false) if self.good() => format!("found by {}", self.found_by.join(", ")),
            (None, false, false) => format!("found, but only by {}", self.found_by.join(", ")),
        }
    }
}

/// Runs the board.
///
/// # Errors
/// A name that no patch has, a copy that cannot be made.
pub fn mutants(board: &Mutants) -> anyhow::Result<Exit> {
    let root = cargo::root()?;
    let patches = match chosen(read_all(&root)?, &board.names) {
        Ok(patches) => patches,
        Err(unknown) => {
            eprintln!("error: no mutant is called {unknown}; the files of {FOLDER} are their names");
            return Ok(Exit::USAGE);
        }
    };
    let problems = problems(&root, &patches)?;
    if !problems.is_empty() {
        problems.iter().for_each(|problem| println!("{problem}"));
        return Ok(Exit::FAILED);
    }
    let patches: Vec<Patch> = patches.into_iter().filter_map(|(_, parsed)| parsed.ok()).collect();
    if board.check {
        println!("{} mutants and {} controls are in order and apply", bugs(&patches), patches.len() - bugs(&patches));
        return Ok(Exit::HELD);
    }
    let mirror = Mirror::open(&root, &root.join("target/mutants/copy"))?;
    mirror.sync()?;
    let mut rows = Vec::new();
    for patch in &patches {
        eprintln!("{}: {}", patch.name, patch.mechanism);
        let row = try_out(board, &root, &mirror, patch)?;
        eprintln!("{}: {} ({} trials, {:.1} CPU s)", row.name, row.result(), row.trials, row.cpu_s);
        if let Some(why) = &row.broken {
            eprintln!("{why}");
        }
        rows.push(row);
    }
    if board.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
    }
    Ok(if rows.iter().all(Row::good) { Exit::HELD } else { Exit::SAFETY })
}

fn bugs(patches: &[Patch]) -> usize {
    patches.iter().filter(|patch| !patch.is_control()).count()
}

type Read = (String, Result<Patch, String>);

/// All patches in order of name, each as it could be read.
fn read_all(root: &Path) -> anyhow::Result<Vec<Read>> {
    let folder = root.join(FOLDER);
    let mut read = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "patch") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            read.push((name.clone(), patch::parse(&name, &text)));
        }
    }
    read.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(read)
}

/// Those named, or all; or the name that none has.
fn chosen(patches: Vec<Read>, names: &[String]) -> Result<Vec<Read>, String> {
    if let Some(unknown) = names.iter().find(|name| !patches.iter().any(|(it, _)| it == *name)) {
        return Err(unknown.clone());
    }
    Ok(patches.into_iter().filter(|(name, _)| names.is_empty() || names.contains(name)).collect())
}

/// What is wrong with the patches, a line each.
fn problems(root: &Path, patches: &[Read]) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let ignorant = texts_below(root)?;
    for (name, parsed) in patches {
        match parsed {
            Err(why) => wrong.push(format!("{name}: {why}")),
            Ok(patch) => {
                wrong.extend(unknown_guarantees(patch));
                wrong.extend(unknown_scenario(patch));
                for file in &patch.files {
                    let original = fs::read_to_string(root.join(&file.path))
                        .map_err(|error| format!("{} cannot be read: {error}", file.path));
                    let applied = original.and_then(|text| patch::apply(file, &text));
                    wrong.extend(applied.err().map(|why| format!("{name}: {why}")));
                }
            }
        }
        let naming = ignorant.iter().filter(|(_, text)| names(text, name));
        wrong.extend(
            naming.map(|(path, _)| format!("{name}: {path} names it; the harness must not know what it looks for")),
        );
    }
    Ok(wrong)
}

fn unknown_guarantees(patch: &Patch) -> Option<String> {
    let known = |name: &String| name == CRASH || record::GUARANTEES.iter().any(|it| it.id.to_string() == *name);
    let unknown = patch.guarantees.iter().find(|name| !known(name))?;
    Some(format!("{}: there is no guarantee {unknown}", patch.name))
}

fn unknown_scenario(patch: &Patch) -> Option<String> {
    let unknown = sim::scenario(&patch.scenario).is_none();
    unknown.then(|| format!("{}: there is no scenario {}", patch.name, patch.scenario))
}

/// Whether a text names a mutant, spelled with `-`, `_` or blanks.
fn names(text: &str, name: &str) -> bool {
    ["-", "_", " "].iter().any(|joint| text.contains(&name.replace('-', joint)))
}

fn texts_below(root: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let files = sources::list(root).context("the sources cannot be read")?;
    let of_interest = |file: &String| IGNORANT.iter().any(|folder| file.starts_with(&format!("{folder}/")));
    files
        .into_iter()
        .filter(of_interest)
        .map(|file| {
            let text = fs::read(root.join(&file)).with_context(|| format!("{file} cannot be read"))?;
            Ok((file, String::from_utf8_lossy(&text).into_owned()))
        })
        .collect()
}

/// Plants the bug, builds, runs and restores.
fn try_out(board: &Mutants, root: &Path, mirror: &Mirror, patch: &Patch) -> anyhow::Result<Row> {
    let planted = plant(mirror, patch);
    let tried = planted.and_then(|()| match build(root, mirror) {
        Ok(program) => trials(board, root, &program, patch).map(Ok),
        Err(why) => Ok(Err(format!("{why:#}"))),
    });
    // Also after an error, so that the copy never keeps a bug that nobody asked for.
    restore(mirror, patch)?;
    let (brief, broken) = match tried? {
        Ok(brief) => (brief, None),
        Err(why) => (Brief::default(), Some(why)),
    };
    Ok(Row {
        name: patch.name.clone(),
        scenario: patch.scenario.clone(),
        named: patch.guarantees.clone(),
        found_by: brief.failed,
        trials: brief.trials,
        cpu_s: brief.cpu_s,
        broken,
    })
}

fn plant(mirror: &Mirror, patch: &Patch) -> anyhow::Result<()> {
    for file in &patch.files {
        let planted = patch::apply(file, &mirror.original(&file.path)?).map_err(anyhow::Error::msg)?;
        mirror.write(Path::new(&file.path), planted.as_bytes())?;
    }
    Ok(())
}

fn restore(mirror: &Mirror, patch: &Patch) -> anyhow::Result<()> {
    patch.files.iter().try_for_each(|file| mirror.write(Path::new(&file.path), mirror.original(&file.path)?.as_bytes()))
}

fn build(root: &Path, mirror: &Mirror) -> anyhow::Result<PathBuf> {
    let program = cargo::rebuild_seatrial(mirror.path(), Profile::Trial, &root.join("target/mutants/target"))?;
    let files = sources::list(mirror.path()).context("the copy cannot be read")?;
    let expected = sources::hash(mirror.path(), &files).context("the copy cannot be read")?;
    let embedded = build_hash(&program)?;
    if embedded != expected {
        bail!(
            "{} says that it was built from {embedded}, but the copy is {expected}; it is not run",
            program.display()
        );
    }
    Ok(program)
}

fn trials(board: &Mutants, root: &Path, program: &Path, patch: &Patch) -> anyhow::Result<Brief> {
    let folder = root.join("target/mutants/trials").join(&patch.name);
    let brief = folder.join("brief.json");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut command = Command::new(program);
    command.args([
        "run",
        "--until-failure",
        "--scenario",
        &patch.scenario,
        "--seeds",
        &board.seeds.to_string(),
        "--jobs",
        &cli::jobs(board.jobs).to_string(),
    ]);
    command.arg("--out").arg(&folder).arg("--brief").arg(&brief).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("{} cannot be run", program.display()))?;
    let text = fs::read(&brief).with_context(|| format!("{} left no result ({status})", patch.name))?;
    // The next run must not find this one's result.
    fs::remove_file(&brief).with_context(|| format!("{} cannot be removed", brief.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", brief.display()))
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("mutant".len());
    let [mutant, scenario, named, trials, cpu_s] = ["mutant", "scenario", "named", "trials", "CPU s"];
    let mut lines = vec![format!("{mutant:<width$}  {scenario:<11} {named:<12} {trials:>6} {cpu_s:>8}  result")];
    for row in rows {
        let Row { name, scenario, trials, cpu_s, .. } = row;
        let named = if row.named.is_empty() { "none".to_owned() } else { row.named.join(", ") };
        let result = row.result();
        lines.push(format!("{name:<width$}  {scenario:<11} {named:<12} {trials:>6} {cpu_s:>8.1}  {result}"));
    }
    let (controls, bugs): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.named.is_empty());
    let good = |rows: &[&Row]| rows.iter().filter(|row| row.good()).count();
    let (found, flagged) = (good(&bugs), controls.len() - good(&controls));
    lines.push(format!("{found} of {} mutants found, {flagged} of {} controls flagged", bugs.len(), controls.len()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::DEFAULT_SCENARIO;

    fn row(named: &[&str], found_by: &[&str]) -> Row {
        let owned = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
        let scenario = DEFAULT_SCENARIO.to_owned();
        let (name, named, found_by) = ("m".to_owned(), owned(named), owned(found_by));
        Row { name, scenario, named, found_by, trials: 3, cpu_s: 1.0, broken: None }
    }

    #[test]
    fn a_bug_must_be_found_by_a_guarantee_that_it_names() {
        assert!(row(&["C1", "C2"], &["C2", "C7"]).good());
        assert!(!row(&["C1"], &["C7"]).good());
        assert!(!row(&["C1"], &[]).good());
    }

    #[test]
    fn a_control_must_not_be_flagged() {
        assert!(row(&[], &[]).good());
        assert!(!row(&[], &["C1"]).good());
    }

    #[test]
    fn what_does_not_build_is_neither_found_nor_a_good_control() {
        for named in [&["C1"][..], &[]] {
            assert!(!Row { broken: Some("it does not build".into()), ..row(named, named) }.good());
        }
    }

    #[test]
    fn a_scenario_that_there_is_not_is_a_problem() {
        let root = cargo::root().expect("a checkout");
        let path = "harness/mutants/control-heartbeat-interval.patch";
        let text = fs::read_to_string(root.join(path)).expect("a patch");
        let of = |scenario: &str| {
            let read = patch::parse("of-a-test", &format!("Scenario: {scenario}\n{text}"));
            problems(&root, &[("of-a-test".to_owned(), read)]).expect("readable sources")
        };
        assert_eq!(of("storm"), ["of-a-test: there is no scenario storm"]);
        assert_eq!(of(DEFAULT_SCENARIO), Vec::<String>::new());
    }

    #[test]
    fn a_table_says_what_was_tried() {
        let row = Row { scenario: "squall".into(), ..row(&["C1"], &["C1"]) };
        let expected = [
            "mutant  scenario    named        trials    CPU s  result",
            "m       squall      C1                3      1.0  found by C1",
            "1 of 1 mutants found, 0 of 0 controls flagged",
        ];
        assert_eq!(table(&[row]).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_name_is_seen_however_it_is_joined() {
        for text in ["see vote-not-persisted", "fn vote_not_persisted()", "a vote not persisted"] {
            assert!(names(text, "vote-not-persisted"), "{text}");
        }
        assert!(!names("vote persisted", "vote-not-persisted"));
    }

    #[test]
    fn every_patch_is_in_order_and_applies() {
        let root = cargo::root().expect("a checkout");
        let patches = read_all(&root).expect("the board's folder");
        assert_eq!(problems(&root, &patches).expect("readable sources"), Vec::<String>::new());
        assert!(patches.len() >= 10, "at least eight bugs and two controls, not {}", patches.len());
    }
}
