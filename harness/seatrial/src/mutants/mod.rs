//! The board of mutants: bugs planted in a copy of the product, which trials must find without knowing them.
//!
//! ```text
//! harness/mutants/*.patch -> read, checked -> per patch: plant in the copy, build, compare hashes, set the program aside
//!                                              restore, go on with the next  |
//!                          found or not, by which guarantee <- run trials <--'
//!                                    '-> target/mutants/board.json -> table, exit code
//! ```
//!
//! The next one is built while trials of the last one run: a compiler that works on one crate after the other leaves
//! cores idle, trials do not. There is one copy and one target directory all the same, because a program that is set aside
//! needs neither: a second pair would cost a whole build and gigabytes, and save nothing more.
//!
//! Each way of looking, which is a policy of the search in one of the simulators, has a board of its own; to compare ways,
//! every program is run in each before it goes.
//!
//! A harness is worth what it finds. Beside the bugs stand harmless controls: whoever flags one of those flags anything.
//!
//! **Invariant:** a program runs only if it says that it was built from exactly the files of the copy
//! (`build-hash` against [`sources::hash`]); a stale binary is refused.

mod board;
mod compare;

use crate::cargo::{self, Profile};
use crate::cli::{self, Mutants, Policy};
use crate::determinism::build_hash;
use crate::exit::Exit;
use crate::mirror::Mirror;
use crate::patch::{self, Patch};
use crate::run::Brief;
use crate::sources;
use crate::trial::CRASH;
use anyhow::{Context, bail};
use board::{Board, Found};
pub use board::{Effort, Row, Score};
use record::{Backend, Case};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

/// Where patches lie, from the root.
const FOLDER: &str = "harness/mutants";

/// Nothing below these may know a mutant: a harness that knows what it looks for finds it too easily.
const IGNORANT: [&str; 3] = ["faults", "workloads", "harness/checkers"];

/// Smaller trials that are tried at most to shrink one: what matters most is gone after a few dozen.
const SHRINK_TRIES: u32 = 120;

/// What is to be done with each mutant.
#[derive(Clone, Copy, Debug)]
struct Orders {
    effort: Effort,
    jobs: Option<u16>,
    shrink: bool,
    /// Take over what is on a board.
    resume: bool,
}

/// A mutant that is to be tried.
struct Left<'a> {
    patch: &'a Patch,
    hash: String,
    /// In these.
    ways: Vec<Way>,
}

/// How a mutant is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    backend: Backend,
    policy: Policy,
}

impl Way {
    /// In a word, or two.
    fn name(self) -> String {
        match self.backend {
            Backend::Madsim => self.policy.name().to_owned(),
            Backend::Turmoil => format!("{}-{}", self.backend.name(), self.policy.name()),
        }
    }

    /// A name for what is its alone, in the folder of all mutants.
    fn named(self, stem: &str) -> String {
        if self == Self::default() { stem.to_owned() } else { format!("{stem}-{}", self.name()) }
    }

    /// Whether its simulator can run a patch's trials.
    fn can(self, patch: &Patch) -> bool {
        self.backend == Backend::Madsim || sim::scenario(&patch.scenario).is_some_and(|config| config.cluster.is_none())
    }
}

/// What came of mutants, in order of name, in each way.
type Rows = BTreeMap<Way, Vec<Row>>;

/// Mutants that policies are compared by unless somebody names others.
const HARDEST: usize = 10;

/// Runs the board.
///
/// # Errors
/// A name that no patch has, a copy that cannot be made.
pub fn mutants(arguments: &Mutants) -> anyhow::Result<Exit> {
    let root = cargo::root()?;
    let names = names_of(&root, arguments)?;
    let patches = match chosen(read_all(&root)?, &names) {
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
    let mut patches: Vec<Patch> = patches.into_iter().filter_map(|(_, parsed)| parsed.ok()).collect();
    if arguments.check {
        println!("{}", catalogue(&patches));
        println!("{} mutants and {} controls are in order and apply", bugs(&patches), patches.len() - bugs(&patches));
        return Ok(Exit::HELD);
    }
    let effort = Effort { seeds: arguments.seeds, budget_s: arguments.budget };
    let orders = Orders { effort, jobs: arguments.jobs, shrink: arguments.shrink, resume: arguments.resume };
    let ways = ways(arguments);
    let cannot = retain(&mut patches, |patch| ways.iter().all(|way| way.can(patch)));
    if !cannot.is_empty() {
        eprintln!("left out, because turmoil runs stores alone: {}", cannot.join(", "));
    }
    let mut rows = try_all(&root, &patches, &ways, orders)?;
    if let [way] = ways[..] {
        let rows = rows.remove(&way).unwrap_or_default();
        let score = Score::of(&rows);
        println!("{}", if arguments.json { board::json(&rows, &score)? } else { board::table(&rows) });
        return Ok(if score.good() { Exit::HELD } else { Exit::SAFETY });
    }
    println!("{}", if arguments.json { compare::json(&rows)? } else { compare::table(&rows) });
    let broken = rows.values().flatten().any(|row| row.broken.is_some());
    Ok(if broken { Exit::FAILED } else { Exit::HELD })
}

/// Which bugs there are, for people: a line each, then the controls' names.
fn catalogue(patches: &[Patch]) -> String {
    let (controls, bugs): (Vec<&Patch>, Vec<&Patch>) = patches.iter().partition(|patch| patch.is_control());
    let mut table = Builder::default();
    table.push_record(["number", "mutant", "guarantee", "source"]);
    for bug in bugs {
        let number = bug.number.map_or_else(String::new, |number| number.to_string());
        table.push_record([&number, &bug.name, &bug.guarantees.join(", "), &bug.source]);
    }
    let mut table = table.build();
    table.with(Style::psql()).modify(Columns::first(), Alignment::right());
    let controls: Vec<&str> = controls.iter().map(|control| &*control.name).collect();
    format!("{table}\ncontrols: {}", controls.join(", "))
}

/// In which ways mutants are looked for.
fn ways(arguments: &Mutants) -> Vec<Way> {
    let policies = if arguments.compare { &Policy::ALL[..] } else { &[arguments.policy] };
    let backends = match arguments.backend {
        cli::Backend::Madsim => &[Backend::Madsim][..],
        cli::Backend::Turmoil => &[Backend::Turmoil],
        cli::Backend::Both => &[Backend::Madsim, Backend::Turmoil],
    };
    backends
        .iter()
        .flat_map(|backend| policies.iter().map(|policy| Way { backend: *backend, policy: *policy }))
        .collect()
}

/// Keeps those that `keeps` keeps, and returns the names of the others.
fn retain(patches: &mut Vec<Patch>, keeps: impl Fn(&Patch) -> bool) -> Vec<String> {
    let names = patches.iter().filter(|patch| !keeps(patch)).map(|patch| patch.name.clone()).collect();
    patches.retain(keeps);
    names
}

/// The names given; to compare policies, those of the hardest that there still are, if none is.
fn names_of(root: &Path, arguments: &Mutants) -> anyhow::Result<Vec<String>> {
    if !arguments.compare || !arguments.names.is_empty() {
        return Ok(arguments.names.clone());
    }
    let path = board_of(root, Way::default());
    let mut names = board::hardest(&path, HARDEST).context("name mutants, or fill a board: cargo trial mutants")?;
    names.retain(|name| root.join(FOLDER).join(format!("{name}.patch")).is_file());
    if names.is_empty() {
        bail!("no bug is left of those on {}; name mutants", path.display());
    }
    Ok(names)
}

/// Where the board of a way is.
fn board_of(root: &Path, way: Way) -> PathBuf {
    root.join("target/mutants").join(way.named("board")).with_extension("json")
}

/// Where the failing trials of mutants go.
fn trials_of(root: &Path, way: Way) -> PathBuf {
    root.join("target/mutants").join(way.named("trials"))
}

/// Tries all of them in each way, in order; to resume, only those that its board does not answer for.
fn try_all(root: &Path, patches: &[Patch], ways: &[Way], orders: Orders) -> anyhow::Result<Rows> {
    // Whoever holds the copy holds the boards.
    let mirror = Mirror::open(root, &root.join("target/mutants/copy"))?;
    mirror.sync()?;
    let sources = source_hash(root)?;
    let mut boards: BTreeMap<Way, Board> = BTreeMap::new();
    for way in ways {
        boards.insert(*way, Board::open(&board_of(root, *way), &sources)?);
    }
    let mut rows: Rows = ways.iter().map(|way| (*way, Vec::new())).collect();
    let mut left: Vec<Left<'_>> = Vec::new();
    let called = |row: &Row, way: Way| match ways {
        [_] => row.name.clone(),
        _ => format!("{}, {}", row.name, way.name()),
    };
    for patch in patches {
        let mut open = Left { patch, hash: patch_hash(root, patch)?, ways: Vec::new() };
        for (way, board) in &boards {
            let row = board.row(&patch.name, &open.hash);
            match row.filter(|row| orders.resume && row.answers(orders.effort, orders.shrink)) {
                Some(row) => {
                    eprintln!("{}: {} (on the board already)", called(row, *way), row.result());
                    rows.entry(*way).or_default().push(row.clone());
                }
                None => open.ways.push(*way),
            }
        }
        left.extend((!open.ways.is_empty()).then_some(open));
    }
    thread::scope(|scope| {
        // A program is handed over only when its trials can begin, so that at most one is built ahead.
        let (hand_over, ready) = mpsc::sync_channel(0);
        let (mirror, left) = (&mirror, &left);
        scope.spawn(move || {
            for Left { patch, .. } in left {
                let prepared = prepare(root, mirror, patch);
                let failed = prepared.is_err();
                // Nobody listens any more if something went wrong with the trials.
                if hand_over.send(prepared).is_err() || failed {
                    return;
                }
            }
        });
        for (left, prepared) in left.iter().zip(ready) {
            eprintln!("{}: {}", left.patch.name, left.patch.mechanism);
            let prepared = prepared?;
            for way in &left.ways {
                let row = try_out(root, left, *way, &prepared, orders)?;
                let name = called(&row, *way);
                eprintln!("{name}: {} ({} trials, {:.1} CPU s)", row.result(), row.trials, row.cpu_s);
                if let Some(why) = &row.broken {
                    eprintln!("{why}");
                }
                if let Some(board) = boards.get_mut(way) {
                    board.add(row.clone())?;
                }
                rows.entry(*way).or_default().push(row);
            }
            if let Ok(program) = &prepared {
                fs::remove_file(program).with_context(|| format!("{} cannot be removed", program.display()))?;
            }
        }
        anyhow::Ok(())
    })?;
    rows.values_mut().for_each(|rows| rows.sort_by(|a, b| a.name.cmp(&b.name)));
    Ok(rows)
}

/// Names of all mutants and controls, in an order that follows from a number.
///
/// # Errors
/// No checkout around the current directory, or patches that are not in order.
pub fn shuffled(number: u64) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = all(&cargo::root()?)?.into_iter().map(|patch| patch.name).collect();
    let mut random = rt::random::Random::from_seed(number);
    for at in (1..names.len()).rev() {
        let other = random.below(at as u64 + 1);
        names.swap(at, usize::try_from(other).unwrap_or(at));
    }
    Ok(names)
}

/// Tries one mutant.
///
/// # Errors
/// There is none of this name, or a copy that cannot be made.
pub fn one(name: &str, effort: Effort, jobs: Option<u16>) -> anyhow::Result<Row> {
    let root = cargo::root()?;
    let patches: Vec<Patch> = all(&root)?.into_iter().filter(|patch| patch.name == name).collect();
    let orders = Orders { effort, jobs, shrink: false, resume: false };
    let rows = try_all(&root, &patches, &[Way::default()], orders)?;
    rows.into_values().flatten().next().with_context(|| format!("there is no mutant {name}"))
}

/// All patches, which must be in order.
fn all(root: &Path) -> anyhow::Result<Vec<Patch>> {
    let patches = read_all(root)?;
    match problems(root, &patches)?.first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(patches.into_iter().filter_map(|(_, parsed)| parsed.ok()).collect()),
    }
}

/// What the copy is made from, whatever is planted there.
fn source_hash(root: &Path) -> anyhow::Result<String> {
    let files = sources::list(root).context("the sources cannot be read")?;
    sources::hash(root, &files).context("the sources cannot be read")
}

fn patch_hash(root: &Path, patch: &Patch) -> anyhow::Result<String> {
    let file = format!("{FOLDER}/{}.patch", patch.name);
    sources::hash(root, std::slice::from_ref(&file)).with_context(|| format!("{file} cannot be read"))
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

/// Plants the bug, builds, sets the program aside and restores. `Err` in the result: why there is none.
fn prepare(root: &Path, mirror: &Mirror, patch: &Patch) -> anyhow::Result<Result<PathBuf, String>> {
    let built = plant(mirror, patch).map(|()| build(root, mirror).and_then(|program| set_aside(root, patch, &program)));
    // Also after an error, so that the copy never keeps a bug that nobody asked for.
    restore(mirror, patch)?;
    Ok(built?.map_err(|why| format!("{why:#}")))
}

/// A copy of the program, which the next build leaves alone.
fn set_aside(root: &Path, patch: &Patch, program: &Path) -> anyhow::Result<PathBuf> {
    let folder = root.join("target/mutants/programs");
    let aside = folder.join(&patch.name);
    fs::create_dir_all(&folder)
        .and_then(|()| fs::copy(program, &aside))
        .with_context(|| format!("{} cannot be written", aside.display()))?;
    Ok(aside)
}

/// Runs the trials of a planted program in a way.
fn try_out(
    root: &Path,
    left: &Left<'_>,
    way: Way,
    prepared: &Result<PathBuf, String>,
    orders: Orders,
) -> anyhow::Result<Row> {
    let Left { patch, hash, .. } = left;
    let program = match prepared {
        Ok(program) => program,
        Err(why) => return Ok(Row::broken(patch, hash, orders.effort, why.clone())),
    };
    let folder = trials_of(root, way).join(&patch.name);
    let brief = trials(program, patch, way, &folder, orders)?;
    let mut row = Row::tried(patch, hash, orders.effort, &brief);
    if orders.shrink
        && let (Some(trial), Some(what), Found::Expected | Found::Otherwise) = (&brief.trial, row.telling(), row.found)
    {
        row.shrunk_to = shrink(program, &folder, trial, &what, orders.jobs)?;
    }
    Ok(row)
}

/// The faults that are left of a failing trial; `None` if it left no record, or does not fail again.
fn shrink(program: &Path, folder: &Path, trial: &str, what: &str, jobs: Option<u16>) -> anyhow::Result<Option<usize>> {
    let record = folder.join(format!("{trial}.json"));
    if !record.is_file() {
        return Ok(None);
    }
    let small = folder.join(format!("{trial}.toml"));
    let mut command = Command::new(program);
    command.arg("shrink").arg(&record).arg("--out").arg(&small);
    command.args(["--guarantee", what, "--tries", &SHRINK_TRIES.to_string(), "--jobs", &cli::jobs(jobs).to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("{} cannot be run", program.display()))?;
    if !status.success() {
        return Ok(None);
    }
    let case = Case::read(&small).with_context(|| format!("{} left no trial", program.display()))?;
    Ok(Some(case.faults.len()))
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

fn trials(program: &Path, patch: &Patch, way: Way, folder: &Path, orders: Orders) -> anyhow::Result<Brief> {
    let brief = folder.join("brief.json");
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let Effort { seeds, budget_s } = orders.effort;
    let mut command = Command::new(program);
    command.args(["run", "--until-failure", "--scenario", &patch.scenario]);
    command.args(["--policy", way.policy.name(), "--backend", way.backend.name()]);
    command.args(["--seeds", &seeds.to_string(), "--budget", &budget_s.to_string()]);
    command.args(["--jobs", &cli::jobs(orders.jobs).to_string()]);
    command.arg("--out").arg(folder).arg("--brief").arg(&brief).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("{} cannot be run", program.display()))?;
    let text = fs::read(&brief).with_context(|| format!("{} left no result ({status})", patch.name))?;
    // The next run must not find this one's result.
    fs::remove_file(&brief).with_context(|| format!("{} cannot be removed", brief.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", brief.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::STORE;

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
        assert_eq!(of(STORE), Vec::<String>::new());
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
