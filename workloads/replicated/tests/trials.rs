//! Trials of the operator and of its bugs, by the programs that `cargo trial operator` runs.
#![cfg(madsim)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SOUND: &str = env!("CARGO_BIN_EXE_replicated");
const CRASH: &str = env!("CARGO_BIN_EXE_planted-crash");
const STALE: &str = env!("CARGO_BIN_EXE_planted-stale");
const ABORT: &str = env!("CARGO_BIN_EXE_planted-abort");
const MISSED: &str = env!("CARGO_BIN_EXE_planted-missed");

/// Runs a program's trials of these seeds, or the one of a file.
fn run(program: &str, strikes: &str, seeds: std::ops::Range<u64>, out: &Path, plan: Option<&Path>) -> Output {
    let orders = serde_json::json!({
        "seed": seeds.start, "seeds": seeds.end - seeds.start, "strikes": [strikes], "jobs": 2,
        "out": out, "plan": plan, "json": plan.is_none(), "called": "again",
    });
    Command::new(program).arg(orders.to_string()).output().expect("the program runs")
}

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("replicated-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Strikes that are left of the first failing trial, and what is wrong with them.
fn found(program: &str, strikes: &str, seeds: std::ops::Range<u64>) -> (usize, String) {
    let folder = Folder::new(strikes);
    let output = run(program, strikes, seeds, &folder.0, None);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(output.status.code(), Some(11), "{told}");
    let finding = &told["findings"][0];
    let plan = folder.0.join(format!("{}.toml", finding["judged"]["seed"]));
    let [once, again] = [(); 2].map(|()| run(program, strikes, 0..1, &folder.0, Some(&plan)));
    assert_eq!(once.status.code(), Some(11), "what is small fails as well");
    assert!(once.stdout == again.stdout, "a trial repeats, line for line, in another process");
    let left = finding["small"]["strikes"].as_array().map_or(0, Vec::len);
    (left, finding["wrong"].as_array().into_iter().flatten().map(ToString::to_string).collect())
}

#[test]
fn an_operator_as_it_should_be_holds() {
    let folder = Folder::new("sound");
    for strikes in ["crash", "stale", "missed"] {
        let output = run(SOUND, strikes, 1..5, &folder.0, None);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_trial_repeats_and_a_crash_between_two_writes_shows_what_is_half_made() {
    let (left, wrong) = found(CRASH, "crash", 1..16);
    assert!(left <= 2 && wrong.contains("Service default/"), "{left}: {wrong}");
}

#[test]
fn an_old_view_shows_who_makes_things_twice() {
    let (left, wrong) = found(STALE, "stale", 1..16);
    assert!((1..=3).contains(&left) && wrong.contains("Deployment default/"), "{left}: {wrong}");
}

#[test]
fn a_missed_change_shows_who_lives_by_hearsay() {
    let (left, wrong) = found(MISSED, "missed", 1..16);
    assert!(left <= 2 && wrong.contains("should not be there"), "{left}: {wrong}");
}

#[test]
fn a_process_that_dies_is_a_trial_that_fails() {
    let (left, wrong) = found(ABORT, "crash", 1..4);
    assert!(left == 1 && wrong.contains("its process died"), "{left}: {wrong}");
}
