//! Programs built by cargo, from this workspace or a copy of it.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Variables by which a caller's flags would replace those of a build, cfg included.
const FLAGS: [&str; 3] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];

/// What makes a build the simulator's.
const SIMULATOR: &str = "build.rustflags=['--cfg','madsim']";

/// Which of this package's builds.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// At speed, assertions on.
    Trial,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Dev => "dev",
            Profile::Trial => "trial",
        }
    }
}

/// The root of the workspace that this is run in.
///
/// # Errors
/// No such workspace around the current directory.
pub fn root() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("the current directory cannot be read")?;
    let root = here.ancestors().find(|it| it.join("harness/seatrial/Cargo.toml").is_file());
    root.map(Path::to_owned).context("run this inside Seaworthy's checkout: it needs the sources")
}

/// Builds `seatrial` of the workspace at `root` into `target_dir`, with the flags of `cargo trial`.
///
/// # Errors
/// What cargo and the compiler said.
pub fn build_seatrial(root: &Path, profile: Profile, target_dir: &Path) -> anyhow::Result<PathBuf> {
    seatrial(command(root), profile, target_dir)
}

/// The same, to be built again and again with a few lines changed.
///
/// # Errors
/// What cargo and the compiler said.
pub fn rebuild_seatrial(root: &Path, profile: Profile, target_dir: &Path) -> anyhow::Result<PathBuf> {
    let mut command = command(root);
    command.env("CARGO_INCREMENTAL", "1");
    seatrial(command, profile, target_dir)
}

fn seatrial(mut command: Command, profile: Profile, target_dir: &Path) -> anyhow::Result<PathBuf> {
    command.args(["build", "--profile", profile.name(), "--package", "seatrial", "--target-dir"]).arg(target_dir);
    command.args(["--config", SIMULATOR]);
    executable(command, "seatrial")
}

/// To build and run a program of an operator's crate, of whatever workspace, at the speed of a trial and into the target
/// directory of the workspace at `root`; its arguments are to be added.
pub fn run_operator(root: &Path, manifest: &Path, bin: Option<&str>) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--profile", "trial", "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(root.join("target/seatrial"));
    // Other workspaces have no such profile.
    for config in [SIMULATOR, "profile.trial.inherits='release'", "profile.trial.debug-assertions=true"] {
        command.args(["--config", config]);
    }
    command.args(bin.map(|bin| ["--bin", bin]).into_iter().flatten());
    command
}

/// Builds `seaworthy` of the workspace at `root`, the production build.
///
/// # Errors
/// What cargo and the compiler said.
pub fn build_seaworthy(root: &Path) -> anyhow::Result<PathBuf> {
    production(root, "seaworthy", "seaworthy")
}

/// Builds the program that runs an orchestrator of real processes, of the workspace at `root`, the production build.
///
/// # Errors
/// What cargo and the compiler said.
pub fn build_real_trial(root: &Path) -> anyhow::Result<PathBuf> {
    production(root, "real", "real-trial")
}

fn production(root: &Path, package: &str, program: &str) -> anyhow::Result<PathBuf> {
    let mut command = command(root);
    command.args(["build", "--package", package, "--bin", program]);
    executable(command, program)
}

fn command(root: &Path) -> Command {
    let mut command = cargo();
    command.current_dir(root);
    command
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for name in FLAGS {
        command.env_remove(name);
    }
    command
}

/// Runs a cargo build and says where the program called `name` is.
fn executable(mut command: Command, name: &str) -> anyhow::Result<PathBuf> {
    command.args(["--quiet", "--message-format", "json-render-diagnostics"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("{name} does not build:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let found = messages.lines().filter_map(|line| program(line, name)).next_back();
    found.with_context(|| format!("cargo built no program called {name}"))
}

/// The program that this message of cargo's is about, if it is called `name`.
fn program(message: &str, name: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        executable: PathBuf,
        target: Target,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    // Most messages have no executable: those are about something else.
    let artifact: Artifact = serde_json::from_str(message).ok()?;
    (artifact.target.name == name).then_some(artifact.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let message =
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"seatrial"},"executable":"/t/seatrial"}"#;
        assert_eq!(program(message, "seatrial"), Some(PathBuf::from("/t/seatrial")));
        assert_eq!(program(message, "seaworthy"), None);
        assert_eq!(program(r#"{"target":{"name":"seatrial"},"executable":null}"#, "seatrial"), None);
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#, "seatrial"), None);
    }
}
