//! The project's own check, `cargo ci`; and its archive, `dist`.
//!
//! ```text
//! steps() -> each is a cargo command, run in order, timed -> table -> "N passed, N failed"
//! ```
//!
//! Three sets of artifacts come out of it and each is built once: the production build in `target`, the simulator's
//! trial and dev builds in `target/seatrial`. Clippy shares nothing with them but the build scripts. The simulator's
//! tests use the dev build, which the check of determinism needs anyway: compiling them at speed takes longer than
//! running them without.
//!
//! A first check, with nothing built yet, compiles without what makes a second compilation quicker: that would take a
//! quarter of the time.

mod dist;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(name = "xtask", about = "The project's own check, and its archive")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format, clippy, tests of both builds, trials, determinism, real processes, mutants
    #[command(after_help = "Examples:\n  cargo ci\n  cargo ci --only format,clippy\n  cargo ci --list")]
    Ci {
        /// Run only the steps whose names contain one of these
        #[arg(long, value_delimiter = ',', value_name = "NAME")]
        only: Vec<String>,
        /// List the steps and run none
        #[arg(long)]
        list: bool,
    },
    /// A release as one archive: a static program, units of systemd, manual pages, completions
    #[command(after_help = "Example:\n  cargo run -p xtask -- dist    # target/dist/seaworthy-VERSION-ARCH.tar.gz")]
    Dist,
}

/// Variables by which a caller's flags would replace those of a build, cfg included.
const FLAGS: [&str; 3] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];

/// What makes a cargo command one of the simulator's; the same as in the alias of `.cargo/config.toml`.
const SIMULATOR: [&str; 4] = ["--target-dir", "target/seatrial", "--config", "build.rustflags=['--cfg','madsim']"];

/// Crates that are different under the simulator's cfg, or exist only there. The others were tested already.
const SIMULATED: [&str; 7] = ["rt", "store", "kubelet", "seaworthy", "workloads", "sim", "seatrial"];

/// Times `kill -9` strikes in the trial with real processes: enough to hit leader and followers, in seconds.
const REAL_KILLS: &str = "5";

/// One thing to check.
struct Step {
    name: &'static str,
    /// Arguments to cargo.
    cargo: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Ci { only, list } => ci(&only, list),
        Task::Dist => root().and_then(|root| dist::make(&root)).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all steps passed.
fn ci(only: &[String], list: bool) -> anyhow::Result<bool> {
    let mut steps = steps();
    if !only.is_empty() {
        steps.retain(|step| only.iter().any(|name| step.name.contains(name.as_str())));
    }
    if steps.is_empty() {
        bail!("no step is called so; `cargo ci --list` lists them");
    }
    if list {
        steps.iter().for_each(|step| println!("{:<28} cargo {}", step.name, step.cargo.join(" ")));
        return Ok(true);
    }
    for name in FLAGS.into_iter().filter(|name| std::env::var_os(name).is_some()) {
        println!("{name} is set: ignored here, because it would replace the flags of the simulator build.");
    }
    let root = root()?;
    ensure_component(&root, "rustfmt", "fmt")?;
    ensure_component(&root, "clippy", "clippy")?;
    let first = is_first(&root);
    let results: Vec<_> = steps.iter().map(|step| (step.name, run(&root, step, first))).collect();
    println!("\n{}", table(&results));
    Ok(results.iter().all(|(_, result)| result.passed))
}

fn steps() -> Vec<Step> {
    let of_workspace = |name, cargo: &[&str]| Step { name, cargo: owned(cargo) };
    let of_simulator = |name, command: &str, rest: &[&str]| Step { name, cargo: simulator(command, rest) };
    vec![
        of_workspace("format", &["fmt", "--all", "--check"]),
        of_workspace("clippy, production", &["clippy", "--all-targets", "--", "-D", "warnings"]),
        of_simulator("clippy, simulator", "clippy", &["--all-targets", "--", "-D", "warnings"]),
        of_workspace("tests, production", &["test", "--no-fail-fast"]),
        of_simulator("tests, simulator", "test", &["--no-fail-fast"]),
        of_workspace("trials of the store", &["trial", "run", "--scenario", "store", "--seeds", "30"]),
        of_workspace("trials, orchestrator", &["trial", "run", "--scenario", "squall", "--seeds", "20"]),
        of_workspace("determinism", &["trial", "determinism", "--scenario", "store", "--seeds", "2"]),
        of_workspace("determinism, orch.", &["trial", "determinism", "--scenario", "squall", "--seeds", "1"]),
        of_workspace("real processes", &["trial", "real", "--kills", REAL_KILLS]),
        of_workspace("mutants apply", &["trial", "mutants", "--check"]),
    ]
}

fn owned(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| String::from(*part)).collect()
}

/// A cargo command on the crates of the simulator, in its dev build.
fn simulator(command: &str, rest: &[&str]) -> Vec<String> {
    let mut parts = vec![command];
    parts.extend(SIMULATOR);
    for name in SIMULATED {
        parts.extend(["-p", name]);
    }
    parts.extend(rest);
    owned(&parts)
}

fn root() -> anyhow::Result<PathBuf> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.join("../..").canonicalize().context("the workspace that this was built from is gone")
}

/// Adds a component of the toolchain if cargo cannot find it.
fn ensure_component(root: &Path, component: &str, subcommand: &str) -> anyhow::Result<()> {
    let there = cargo(root).args([subcommand, "--version"]).output().is_ok_and(|output| output.status.success());
    if there {
        return Ok(());
    }
    println!("adding the toolchain's component {component}");
    let added = Command::new("rustup").args(["component", "add", component]).current_dir(root).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            bail!("`rustup component add {component}` ended with {status}; install {component} and run again")
        }
        Err(error) => {
            bail!("{component} is missing and rustup cannot be run ({error}); install {component} and run again")
        }
    }
}

/// Whether no crate of the workspace was built for tests yet, apart from this one.
fn is_first(root: &Path) -> bool {
    let Ok(built) = std::fs::read_dir(root.join("target/debug/deps")) else { return true };
    !built.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libseaworthy-"))
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    for name in FLAGS {
        command.env_remove(name);
    }
    command
}

/// What came of a step.
struct StepResult {
    passed: bool,
    took: Duration,
}

fn run(root: &Path, step: &Step, first: bool) -> StepResult {
    println!("\n== {} (cargo {})", step.name, step.cargo.join(" "));
    let begun = Instant::now();
    let mut command = cargo(root);
    if first {
        command.env("CARGO_INCREMENTAL", "0");
    }
    let passed = match command.args(&step.cargo).status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("cargo cannot be run: {error}");
            false
        }
    };
    let took = begun.elapsed();
    println!("== {}: {} after {}", step.name, if passed { "passed" } else { "FAILED" }, minutes(took));
    StepResult { passed, took }
}

fn table(results: &[(&str, StepResult)]) -> String {
    let mut lines: Vec<String> = results
        .iter()
        .map(|(name, result)| {
            format!("{name:<24}{:>12}  {}", minutes(result.took), if result.passed { "passed" } else { "FAILED" })
        })
        .collect();
    let total: Duration = results.iter().map(|(_, result)| result.took).sum();
    lines.push(format!("{:<24}{:>12}", "all", minutes(total)));
    let passed = results.iter().filter(|(_, result)| result.passed).count();
    lines.push(format!("{passed} passed, {} failed", results.len() - passed));
    lines.join("\n")
}

fn minutes(took: Duration) -> String {
    format!("{:.1} min", took.as_secs_f64() / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_ends_in_the_plain_count() {
        let took = Duration::from_secs(90);
        let results = [("a", StepResult { passed: true, took }), ("b", StepResult { passed: false, took })];
        let text = table(&results);
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed"));
        assert!(text.contains("3.0 min"), "{text}");
    }

    #[test]
    fn simulator_steps_use_the_flags_of_the_trial_alias() {
        let config =
            std::fs::read_to_string(root().expect("a workspace").join(".cargo/config.toml")).expect("a config");
        for flag in SIMULATOR {
            assert!(config.contains(&format!("\"{flag}\"")), "{flag} is not in the alias");
        }
    }
}
