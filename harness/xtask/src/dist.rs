//! The archive of a release: `cargo run -p xtask -- dist`.
//!
//! ```text
//! cargo build ─▶ a program that needs no library of its machine ─▶ its own manual pages and completions ─▶ tar
//! ```
//!
//! The same commit gives the same bytes with the same tools, wherever it is built: paths are told relatively, and every file
//! has the commit's date.

use crate::cargo;
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where what is packed beside the program lives.
const PACKAGING: &str = "cluster/seaworthy/packaging";

/// Shells, each with the place where it looks for what completes a command.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/seaworthy"),
    ("zsh", "share/zsh/site-functions/_seaworthy"),
    ("fish", "share/fish/vendor_completions.d/seaworthy.fish"),
];

/// Builds the program and packs it.
///
/// # Errors
/// What could not be done.
pub fn make(root: &Path) -> anyhow::Result<()> {
    let arch = std::env::consts::ARCH;
    let target = target(arch);
    println!("building for {target}");
    let program = build(root, &target)?;
    if needs_libraries(&fs::read(&program)?)? {
        bail!("{} needs libraries of its machine", program.display());
    }
    let name = format!("seaworthy-{}-{arch}", env!("CARGO_PKG_VERSION"));
    let dist = root.join("target/dist");
    let tree = dist.join(&name);
    match fs::remove_dir_all(&tree) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => fill(root, &tree, &program)?,
    }
    let archive = dist.join(format!("{name}.tar.gz"));
    pack(root, &tree, &archive)?;
    println!("{}: {:.1} MB", archive.display(), megabytes(&archive)?);
    println!("{}: {:.1} MB", tree.join("bin/seaworthy").display(), megabytes(&program)?);
    Ok(())
}

/// musl's target where the toolchain and a C compiler have it, otherwise glibc's, linked statically.
fn target(arch: &str) -> String {
    let musl = format!("{arch}-unknown-linux-musl");
    let output = |program: &str, argument: &[&str]| Command::new(program).args(argument).output();
    let installed = output("rustup", &["target", "list", "--installed"])
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == musl));
    let compiles = output("musl-gcc", &["--version"]).is_ok_and(|output| output.status.success());
    if installed && compiles { musl } else { format!("{arch}-unknown-linux-gnu") }
}

fn build(root: &Path, target: &str) -> anyhow::Result<PathBuf> {
    let mut flags = vec!["-C".to_owned(), "target-feature=+crt-static".to_owned()];
    flags.push(format!("--remap-path-prefix={}=.", root.display()));
    if let Some(home) =
        std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")))
    {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    let mut command = cargo(root);
    command.args(["build", "--release", "--locked", "--package", "seaworthy", "--target", target]);
    // Given for the target alone, so that build scripts and procedural macros are built as ever. Names of functions stay, for
    // backtraces; their lines would be three quarters of the archive.
    command.args(["--config", &format!("target.{target}.rustflags={flags:?}")]);
    command.args(["--config", "profile.release.strip=\"debuginfo\""]);
    run(&mut command)?;
    Ok(root.join("target").join(target).join("release/seaworthy"))
}

/// Lays the files out as they are to be installed below a prefix.
fn fill(root: &Path, tree: &Path, program: &Path) -> anyhow::Result<()> {
    let man = tree.join("share/man/man1");
    fs::create_dir_all(&man)?;
    copy(program, &tree.join("bin/seaworthy"))?;
    run(Command::new(program).arg("man").arg(&man))?;
    for (shell, place) in COMPLETIONS {
        let output = Command::new(program).args(["completion", shell]).output()?;
        write(&tree.join(place), &output.stdout)?;
    }
    for entry in fs::read_dir(root.join(PACKAGING)).with_context(|| format!("{PACKAGING} cannot be read"))? {
        let path = entry?.path();
        let is_unit = path.extension().is_some_and(|extension| extension == "service");
        let folder = if is_unit { "lib/systemd/system" } else { "share/doc/seaworthy/examples" };
        copy(&path, &tree.join(folder).join(path.file_name().unwrap_or_default()))?;
    }
    for name in ["LICENSE", "README.md"] {
        copy(&root.join(name), &tree.join("share/doc/seaworthy").join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(to: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::write(to, bytes).with_context(|| format!("{} cannot be written", to.display()))
}

fn pack(root: &Path, tree: &Path, archive: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("tar");
    command.arg("--directory").arg(tree.parent().unwrap_or(tree));
    command.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=go+rX,go-w"]);
    command.arg(format!("--mtime=@{}", date(root)));
    // Otherwise the time of packing is in the archive.
    command.args(["--use-compress-program", "gzip -n9", "--create", "--file"]).arg(archive);
    command.arg(tree.file_name().unwrap_or_default());
    run(&mut command)
}

/// Seconds since 1970: what the environment says, or else the commit's date.
fn date(root: &Path) -> u64 {
    let of_commit = || {
        let shown = Command::new("git").args(["show", "--no-patch", "--format=%ct", "HEAD"]).current_dir(root).output();
        Some(String::from_utf8_lossy(&shown.ok()?.stdout).trim().to_owned())
    };
    let text = std::env::var("SOURCE_DATE_EPOCH").ok().or_else(of_commit);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?} cannot be run"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn megabytes(file: &Path) -> anyhow::Result<f64> {
    let bytes = u32::try_from(fs::metadata(file)?.len() / 1_024)?;
    Ok(f64::from(bytes) / 1_024.0)
}

/// Whether a program of ELF's 64-bit form asks for an interpreter, which loads libraries.
fn needs_libraries(program: &[u8]) -> anyhow::Result<bool> {
    /// The type of a program header that names an interpreter.
    const INTERPRETER: u32 = 3;
    let number = |at: usize, bytes: usize| -> anyhow::Result<u64> {
        let part = program.get(at..at + bytes).context("the program is cut off")?;
        Ok(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if !program.starts_with(b"\x7fELF\x02\x01") {
        bail!("it is no program of ELF's little-endian 64-bit form");
    }
    let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for place in 0..count {
        let at = usize::try_from(first + place * size)?;
        if number(at, 4)? == u64::from(INTERPRETER) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_libraries_is_told_from_one_that_does_not() {
        let mut program = vec![0_u8; 64 + 2 * 56];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (program[32], program[54], program[56]) = (64, 56, 2);
        assert!(!needs_libraries(&program).expect("it is a program"));
        program[64 + 56] = 3;
        assert!(needs_libraries(&program).expect("it is a program"));
        assert!(needs_libraries(&program[..100]).is_err());
        assert!(needs_libraries(b"#!/bin/sh").is_err());
    }
}
