//! The testbed as its users meet it: what it prints, and which code it ends with.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use record::{CASE_FORMAT, Case, Record};
use rustix::process::{Pid, Signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder of one test, in which the testbed runs.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("seatrial-commands-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn run(&self, words: &[&str]) -> Ended {
        let program = env!("CARGO_BIN_EXE_seatrial");
        let output = Command::new(program).args(words).current_dir(&self.0).output().unwrap();
        Ended::from(&output)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).unwrap().next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<&Output> for Ended {
    fn from(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// The record of a quiet trial, as this build would have written it.
fn written(folder: &Folder, change: impl FnOnce(&mut Record)) -> PathBuf {
    let build = folder.run(&["build-hash"]).out.trim().to_owned();
    let mut record = sim::run(sim::trial(sim::scenario("calm").unwrap(), 5)).record;
    record.build = build;
    change(&mut record);
    let path = folder.0.join("5.json");
    record::write(&path, &record).unwrap();
    path
}

fn replayed(folder: &Folder, path: &Path) -> Ended {
    folder.run(&["replay", path.to_str().unwrap(), "--log", "5.log"])
}

#[test]
fn wrong_usage_is_one_sentence_and_code_2_and_changes_nothing() {
    let folder = Folder::new("usage");
    let wrong: [(&[&str], &str); 20] = [
        (&["run", "--scenario", "storm"], "there is no scenario \"storm\"; there are store, "),
        (&["replay", "--seed", "1", "--scenario", "storm"], "there is no scenario"),
        (&["replay", "missing.json"], "cannot read missing.json"),
        (&["replay", "missing.toml"], "cannot read missing.toml"),
        (&["shrink", "missing.json"], "cannot read missing.json"),
        (&["determinism", "--scenario", "storm"], "there is no scenario"),
        (&["run", "--scenario", "missing.toml"], "cannot read missing.toml"),
        (&["bench", "--scenario", "missing.toml"], "cannot read missing.toml"),
        (&["replay", "--seed", "1", "--scenario", "missing.toml"], "cannot read missing.toml"),
        (&["determinism", "--scenario", "missing.toml"], "cannot read missing.toml"),
        (&["nightly", "--scenario", "store,storm"], "there is no scenario \"storm\""),
        (&["diff", "missing.log", "1"], "cannot read missing.log"),
        (&["diff", "1", "missing.json"], "cannot read missing.json"),
        (&["diff", "missing.toml", "1"], "cannot read missing.toml"),
        (&["diff", "1", "2", "--scenario", "storm"], "there is no scenario"),
        (&["real", "--program", "missing"], "there is no program missing"),
        (
            &["run", "--backend", "turmoil", "--scenario", "squall"],
            "runs stores alone, not \"squall\": the scenarios store, ",
        ),
        (&["run", "--backend", "both", "--scenario", "deployments"], "--backend turmoil runs stores alone"),
        (&["replay", "--seed", "1", "--backend", "turmoil"], "--backend turmoil runs stores alone"),
        (&["replay", "--seed", "1", "--backend", "both", "--scenario", "store"], "is for `cargo trial run`"),
    ];
    for (words, says) in wrong {
        let ended = folder.run(words);
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        assert!(ended.err.starts_with("error: ") && ended.err.contains(says), "{words:?}: {ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{words:?}: {ended:?}");
    }
    assert!(folder.is_empty());
}

#[test]
fn a_record_of_another_build_is_refused() {
    let folder = Folder::new("foreign");
    let path = written(&folder, |record| record.build = "another".into());
    let ended = replayed(&folder, &path);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("was written by build another"), "{ended:?}");
    assert!(!folder.0.join("5.log").exists());
}

#[test]
fn a_replay_that_goes_as_its_record_says_is_judged_and_logged() {
    let folder = Folder::new("same");
    let ended = replayed(&folder, &written(&folder, |_| ()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("C1   held, tested"), "{ended:?}");
    assert!(fs::read_to_string(folder.0.join("5.log")).unwrap().lines().count() > 1000);
}

#[test]
fn a_replay_that_goes_another_way_names_the_first_second_that_differs() {
    let folder = Folder::new("differs");
    let path = written(&folder, |record| {
        record.log_hash ^= 1;
        record.checkpoints[11..].iter_mut().for_each(|it| *it ^= 1);
    });
    let ended = replayed(&folder, &path);
    assert_eq!(ended.code, Some(13), "{ended:?}");
    assert!(ended.out.contains("first in simulated second 12:"), "{ended:?}");
}

#[test]
fn a_run_is_the_same_whatever_the_number_of_workers() {
    let folder = Folder::new("jobs");
    let facts = |jobs| {
        let ended = folder.run(&["run", "--scenario", "calm", "--seeds", "4", "--jobs", jobs, "--json"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut facts: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(facts["trials"], 4);
        // How fast it went is no part of what came of it.
        for key in ["cpu_ns", "simulated_s_per_cpu_s"] {
            facts[key].take();
        }
        facts
    };
    assert_eq!(facts("1"), facts("3"));
}

#[test]
fn a_run_leaves_a_report_and_compares_itself_with_the_one_before() {
    let folder = Folder::new("report");
    let run = |seeds| folder.run(&["run", "--scenario", "calm", "--seeds", seeds, "--jobs", "1", "--out", "out"]);
    let first = run("2");
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.out.ends_with("report: out/index.html\n"), "{first:?}");
    let text = |name: &str| fs::read_to_string(folder.0.join("out").join(name)).unwrap();
    assert!(text("summary.md").starts_with("## All of 2 trials held\n"));
    assert!(text("junit.xml").contains(" failures=\"0\" errors=\"0\" "));
    assert!(text("index.html").contains("There is no earlier run in this folder"));
    let facts: serde_json::Value = serde_json::from_str(&text("report.json")).unwrap();
    assert_eq!(facts["run"]["seeds"], serde_json::json!([[1, 2]]));
    assert_eq!(facts["run"]["interrupted"], false);
    assert_eq!(run("1").code, Some(0));
    assert!(text("index.html").contains("seeds 1 to 2, same sources."), "the second one has read the first one's");
    let mut names: Vec<_> = fs::read_dir(folder.0.join("out")).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["index.html", "junit.xml", "report.json", "summary.md"], "and nothing half written");
}

/// Waits until `is_so`, as long as a loaded machine takes.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(300), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_that_is_interrupted_ends_its_workers_and_reports_what_was_done() {
    let folder = Folder::new("interrupt");
    let mut command = Command::new(env!("CARGO_BIN_EXE_seatrial"));
    command.args(["run", "--scenario", "calm", "--seeds", "1000000", "--jobs", "2", "--out", "out"]);
    let child = command.current_dir(&folder.0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    // SIGINT is signal 2, and bit 1 of the mask of those that are caught.
    let caught = || {
        let status = fs::read_to_string(process.join("status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & 2 != 0
    };
    // Each thread has its own.
    let workers = || -> Vec<String> {
        let threads = fs::read_dir(process.join("task")).unwrap().filter_map(Result::ok);
        let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        children.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    wait_until("it has workers and listens", || caught() && workers().len() == 2);
    let at_work = workers();
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = Ended::from(&child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.err.contains("interrupted: what was done so far follows"), "{ended:?}");
    assert!(ended.out.contains("C1 ") && ended.out.contains("trials  "), "{ended:?}");
    for worker in at_work {
        assert!(!Path::new("/proc").join(&worker).exists(), "worker {worker} lives on");
    }
    let facts: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.0.join("out/report.json")).unwrap()).unwrap();
    assert_eq!(facts["run"]["interrupted"], true);
    assert_eq!(facts["failed"], 0, "what was under way is not counted: {ended:?}");
}

#[test]
fn a_replay_draws_its_timeline_if_asked_to() {
    let folder = Folder::new("html");
    let path = written(&folder, |_| ());
    let ended = folder.run(&["replay", path.to_str().unwrap(), "--log", "5.log", "--html", "5.html"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let html = fs::read_to_string(folder.0.join("5.html")).unwrap();
    assert!(html.contains("<h1>Seed 5 held</h1>") && html.contains("leads in term"), "{html}");
}

/// A quiet trial as a file.
fn case(folder: &Folder, fails: &str) -> PathBuf {
    let trial = sim::trial(sim::scenario("calm").unwrap(), 5);
    let case = Case {
        format: CASE_FORMAT,
        fails: fails.to_owned(),
        seed: trial.seed,
        executor_seed: trial.executor_seed,
        twin: trial.twin,
        config: trial.config,
        faults: trial.schedule.faults,
    };
    let path = folder.0.join("5.toml");
    case.write(&path).unwrap();
    path
}

#[test]
fn a_trial_that_is_given_as_a_file_is_the_one_that_it_describes() {
    let folder = Folder::new("case");
    let path = case(&folder, "");
    let ended = replayed(&folder, &path);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let drawn = folder.run(&["log", "--seed", "5", "--scenario", "calm", "--out", "drawn.log"]);
    assert_eq!(drawn.code, Some(0), "{drawn:?}");
    assert!(fs::read(folder.0.join("5.log")).unwrap() == fs::read(folder.0.join("drawn.log")).unwrap());
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    let folder = Folder::new("shrink");
    let record = written(&folder, |record| record.panics.clear());
    let ended = folder.run(&["shrink", record.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("nothing failed in"), "{ended:?}");
    let ended = folder.run(&["why", record.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let path = case(&folder, "");
    let ended = folder.run(&["why", path.to_str().unwrap(), "--guarantee", "C1"]);
    assert_eq!(ended.code, Some(13), "{ended:?}");
    assert!(ended.out.contains("C1 does not fail when this trial is run again"), "{ended:?}");
    let ended = folder.run(&["shrink", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("say so with --guarantee"), "{ended:?}");
    let before = fs::read(&path).unwrap();
    let ended = folder.run(&["shrink", path.to_str().unwrap(), "--guarantee", "C1", "--orders", "2"]);
    assert_eq!(ended.code, Some(13), "{ended:?}");
    assert!(ended.out.contains("C1 does not fail when this trial is run again"), "{ended:?}");
    assert!(fs::read(&path).unwrap() == before, "what cannot be shrunk is left as it was");
}

/// A short trial of a store, as a user would write it.
const SCENARIO: &str = r#"
base = "store"
[topology]
members = 3
[workload]
rate = 20
[time]
faults_seconds = 12
calm_seconds = 6
[faults]
kinds = ["pause"]
[[strikes]]
kind = "kill"
at_seconds = 4
for_seconds = 0.5
what = { Kill = { target = { Member = 1 } } }
"#;

#[test]
fn a_scenario_of_a_users_own_is_tried_and_its_record_needs_no_file() {
    let folder = Folder::new("scenario");
    fs::write(folder.0.join("own.toml"), SCENARIO).unwrap();
    let ended = folder.run(&["run", "--scenario", "own.toml", "--seeds", "2", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let facts: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(facts["trials"], 2);
    assert!(facts["faults"]["kill"]["struck"].as_u64() >= Some(2), "{facts}");

    let drawn = folder.run(&["log", "--seed", "5", "--scenario", "own.toml", "--out", "drawn.log"]);
    assert_eq!(drawn.code, Some(0), "{drawn:?}");
    let bases = [(sim::scenario("store").unwrap(), sim::swarm(&sim::scenario("store").unwrap()))];
    let config = record::read_scenario(&folder.0.join("own.toml"), &bases).unwrap();
    let path = written(&folder, |record| *record = Record { build: record.build.clone(), ..recorded(config) });
    fs::remove_file(folder.0.join("own.toml")).unwrap();
    let ended = replayed(&folder, &path);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(fs::read(folder.0.join("5.log")).unwrap() == fs::read(folder.0.join("drawn.log")).unwrap());
}

#[test]
fn both_simulators_try_the_same_seeds_and_what_turmoil_lacks_is_said() {
    let folder = Folder::new("both");
    fs::write(folder.0.join("own.toml"), SCENARIO).unwrap();
    let ended = folder.run(&["run", "--scenario", "own.toml", "--seeds", "2", "--backend", "both", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said: Vec<serde_json::Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [madsim, turmoil, compared] = &said[..] else { panic!("{ended:?}") };
    assert_eq!((&madsim["trials"], &madsim["lacking"]), (&2.into(), &serde_json::json!([])));
    assert_eq!((&turmoil["trials"], &turmoil["lacking"]), (&2.into(), &serde_json::json!(["link-loss", "link-rate"])));
    assert!(turmoil["faults"]["kill"]["struck"].as_u64() >= Some(2), "{turmoil}");
    assert_eq!(*compared, serde_json::json!({ "disagreements": [] }));

    let words = ["--scenario", "own.toml", "--backend", "turmoil", "--seed", "5"];
    for log in ["one.log", "same.log"] {
        let ended = folder.run(&[&["log", "--out", log], &words[..]].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert!(fs::read(folder.0.join("one.log")).unwrap() == fs::read(folder.0.join("same.log")).unwrap());
}

fn recorded(config: record::Config) -> Record {
    sim::run(sim::trial(config, 5)).record
}

#[test]
fn a_scenario_that_makes_no_sense_is_refused_with_its_line_wherever_it_is_given() {
    let folder = Folder::new("nonsense");
    fs::write(folder.0.join("own.toml"), SCENARIO.replace("rate = 20", "rate = 0")).unwrap();
    let commands: [&[&str]; 4] = [&["run"], &["bench"], &["determinism"], &["replay", "--seed", "1"]];
    for words in commands {
        let ended = folder.run(&[words, &["--scenario", "own.toml"]].concat());
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        assert_eq!(ended.err, "error: own.toml, line 6: `rate` is 0; allowed are 1 to 100000\n", "{words:?}");
    }
}

#[test]
fn what_is_no_record_of_this_build_is_refused_in_one_sentence_by_whoever_reads_records() {
    let folder = Folder::new("records");
    let whole = fs::read(written(&folder, |_| ())).unwrap();
    let given = |name: &str, content: &[u8]| fs::write(folder.0.join(name), content).unwrap();
    given("empty.json", b"");
    given("half.json", &whole[..whole.len() / 2]);
    given("other.json", b"{\"name\": \"x\"}");
    given("no.json", b"hello");
    given("future.json", b"{\"format\": 99, \"build\": \"b\"}");
    given("future.toml", b"format = 99\nseed = 1\nexecutor_seed = 1\n");
    given("empty.toml", b"");
    given("other.toml", b"[package]\nname = \"x\"\n");
    let wrong = [
        ("empty.json", "empty.json is not a trial's record;"),
        ("half.json", "half.json is damaged ("),
        ("other.json", "other.json is not a trial's record;"),
        ("no.json", "no.json is not a trial's record;"),
        ("future.json", "future.json has format 99 but this build reads format"),
        ("future.toml", "future.toml has format 99 but this build reads format"),
        ("empty.toml", "empty.toml is no trial that can be run: line 1: missing field"),
        ("other.toml", "other.toml is no trial that can be run: line 1: unknown field `package`"),
    ];
    for (name, says) in wrong {
        let commands: [&[&str]; 5] =
            [&["replay", name], &["shrink", name], &["why", name], &["diff", name, "1"], &["diff", "1", name]];
        for words in commands {
            let ended = folder.run(words);
            assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
            assert!(ended.err.starts_with(&format!("error: {says}")), "{words:?}: {ended:?}");
            assert_eq!(ended.err.lines().count(), 1, "{words:?}: {ended:?}");
        }
    }
}

#[test]
fn two_runs_are_compared_event_by_event_whatever_they_are_given_as() {
    let folder = Folder::new("diff");
    let record = written(&folder, |_| ());
    assert_eq!(folder.run(&["log", "--seed", "5", "--scenario", "calm", "--out", "a.log"]).code, Some(0));
    for other in [record.to_str().unwrap(), "5", "a.log"] {
        let ended = folder.run(&["diff", "a.log", other, "--scenario", "calm"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.starts_with(&format!("a.log and {other} are the same: ")), "{ended:?}");
    }
    let log = fs::read_to_string(folder.0.join("a.log")).unwrap();
    let number = log.lines().position(|line| line.contains(" leads ")).unwrap();
    let line = log.lines().nth(number).unwrap();
    let seconds = line.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9;
    let host = line.split(' ').nth(2).unwrap().parse::<u32>().unwrap() + 1;
    fs::write(folder.0.join("b.log"), log.replace(line, &format!("{line} not"))).unwrap();
    let ended = folder.run(&["diff", "a.log", "b.log", "--context", "2"]);
    assert_eq!(ended.code, Some(13), "{ended:?}");
    let head = format!("they differ from line {}, at {seconds:.9} s, on s{host}", number + 1);
    assert_eq!(ended.out.lines().next(), Some(head.as_str()), "{ended:?}");
    assert_eq!(ended.out.lines().count(), 1 + 2 + 2 * (1 + 3), "{ended:?}");
    fs::write(folder.0.join("c.log"), "not a log").unwrap();
    let ended = folder.run(&["diff", "a.log", "c.log"]);
    assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 1), "{ended:?}");
    assert!(ended.err.contains("c.log is no log of a trial"), "{ended:?}");
}
