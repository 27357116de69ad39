//! Tells the program which commit it is built from, where there is one to tell.
//!
//! What it tells is `SEAWORTHY_BUILD` for `option_env!`, `COMMIT DATE`; the date is the commit's, so that building the same
//! commit again gives the same program. Who builds from an archive sets that variable instead. Without git, without a
//! repository, and in the simulator build, whose trials must not depend on it, nothing is told.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SEAWORTHY_BUILD");
    let simulated = env::var_os("CARGO_CFG_MADSIM").is_some();
    if !simulated
        && env::var_os("SEAWORTHY_BUILD").is_none()
        && let Some(build) = of_repository()
    {
        println!("cargo::rustc-env=SEAWORTHY_BUILD={build}");
    }
}

/// What git says, if this file is one of a repository's: an archive that was unpacked within another one is not.
fn of_repository() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    // What changes when another commit is checked out or made: HEAD; its history, if that is kept, or else the branch.
    let head = git(&["rev-parse", "--git-path", "HEAD"])?;
    let history = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"])
        .and_then(|branch| git(&["rev-parse", "--git-path", &branch]))
        .unwrap_or_default();
    let changes = [history, branch].into_iter().find(|path| Path::new(path).exists());
    for path in changes.into_iter().chain([head]) {
        println!("cargo::rerun-if-changed={path}");
    }
    git(&["show", "--no-patch", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%H %cd", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).env("TZ", "UTC").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
