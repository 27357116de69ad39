//! The same seed, byte for byte: each in a process of its own, of the dev and of the trial build.

use crate::cargo::{self, Profile};
use crate::cli::{Determinism, Setting};
use crate::difference::first_difference;
use crate::exit::Exit;
use crate::progress::Progress;
use crate::trial;
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Runs each seed in both builds and compares what they logged.
///
/// # Errors
/// A build that fails, a process that cannot be run or ends without its log.
pub fn determinism(arguments: &Determinism) -> anyhow::Result<Exit> {
    if let Err(why) = trial::config(&arguments.setting) {
        eprintln!("error: {why}");
        return Ok(Exit::USAGE);
    }
    let root = cargo::root()?;
    let target = root.join("target/seatrial");
    eprintln!("building seatrial twice: dev and trial");
    let builds =
        [cargo::build_seatrial(&root, Profile::Dev, &target)?, cargo::build_seatrial(&root, Profile::Trial, &target)?];
    let hashes = [build_hash(&builds[0])?, build_hash(&builds[1])?];
    if hashes[0] != hashes[1] {
        bail!("the sources changed between the two builds; run it again");
    }
    let folder = root.join("target/determinism");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut differing = 0;
    let mut bytes = 0;
    let mut progress = Progress::of(arguments.seeds, "seeds");
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let logs = [folder.join(format!("{seed}-dev.log")), folder.join(format!("{seed}-trial.log"))];
        let contents = run_both(&builds, seed, &arguments.setting, &logs)?;
        bytes += contents[0].len();
        match first_difference(&contents[0], &contents[1], 0) {
            None => logs.iter().try_for_each(fs::remove_file).context("a log cannot be removed")?,
            Some(difference) => {
                differing += 1;
                progress.suspend(|| {
                    println!(
                        "seed {seed}: the logs differ at line {}\n  dev:   {}\n  trial: {}",
                        difference.line,
                        difference.first_left(),
                        difference.first_right()
                    );
                    println!("  whole logs: {} {}", logs[0].display(), logs[1].display());
                });
            }
        }
        progress.step();
    }
    progress.end();
    let megabytes = bytes as f64 / 1e6;
    println!(
        "{} seeds, {megabytes:.1} MB of log: {} identical, {differing} differ",
        arguments.seeds,
        arguments.seeds - differing
    );
    Ok(if differing == 0 { Exit::HELD } else { Exit::DIVERGENCE })
}

/// What a program says of the sources that it was built from.
///
/// # Errors
/// It cannot be run.
pub fn build_hash(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg("build-hash")
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Both builds at once, each in a process of its own.
fn run_both(builds: &[PathBuf; 2], seed: u64, setting: &Setting, logs: &[PathBuf; 2]) -> anyhow::Result<[Vec<u8>; 2]> {
    let start = |at: usize| -> anyhow::Result<Child> {
        let mut command = Command::new(&builds[at]);
        command.args(["log", "--seed", &seed.to_string(), "--out"]).arg(&logs[at]).stdin(Stdio::null());
        command.args(setting.arguments());
        command.spawn().with_context(|| format!("{} cannot be run", builds[at].display()))
    };
    let (mut dev, mut trial) = (start(0)?, start(1)?);
    let statuses = [dev.wait()?, trial.wait()?];
    if let Some(status) = statuses.iter().find(|status| !status.success()) {
        bail!("seed {seed} ended without a log ({status}); `cargo trial replay --seed {seed}` shows why");
    }
    let read = |at: usize| fs::read(&logs[at]).with_context(|| format!("{} cannot be read", logs[at].display()));
    Ok([read(0)?, read(1)?])
}
