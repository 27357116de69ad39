//! Embeds what the program must know of its own sources: their hash, and the marks in them.

#[path = "src/scan.rs"]
mod scan;
#[path = "src/sources.rs"]
mod sources;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    if env::var_os("CARGO_CFG_MADSIM").is_none() {
        // Said here as well as in the source, because the crates below may fail first, and less clearly.
        println!(
            "cargo::error=seatrial exists only in the simulator build: run it as `cargo trial ...` and unset RUSTFLAGS (an exported RUSTFLAGS replaces the flags of the alias, and with them its `--cfg madsim`)"
        );
    }
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let root = PathBuf::from(manifest).join("../..");
    let files = sources::list(&root)?;
    println!("cargo::rustc-env=SEATRIAL_BUILD_HASH={}", sources::hash(&root, &files)?);
    let folders: BTreeSet<&str> = files.iter().filter_map(|file| file.split_inclusive("/src/").next()).collect();
    for watched in files.iter().map(String::as_str).chain(folders) {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("marks.rs"), marks(&root, &files)?)
}

/// A table of (text, place) in Rust, in order of text.
fn marks(root: &Path, files: &[String]) -> io::Result<String> {
    let mut all = BTreeSet::new();
    for file in files.iter().filter(|file| file.starts_with("cluster/") && file.ends_with(".rs")) {
        let source = fs::read_to_string(root.join(file))?;
        all.extend(scan::marks(&source).into_iter().map(|it| (it.text, format!("{file}:{}", it.line))));
    }
    let mut table = String::from("&[\n");
    for (text, place) in all {
        writeln!(table, "    ({text:?}, {place:?}),").map_err(io::Error::other)?;
    }
    table.push(']');
    Ok(table)
}
