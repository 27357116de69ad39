//! The files that this program is built from, and one hash over all of them.
//!
//! The build script embeds the hash; the board of mutants computes it again from the copy that it built and refuses a
//! program that was built from anything else. Cargo decides by time whether to build, so that only the content can tell.
//!
//! **Invariant:** the hash depends on the names and bytes of the files alone, not on their place or order on disk
//! (`hash_sees_names_and_contents_and_nothing_else`).

use std::io;
use std::path::Path;

/// The folders that hold crates.
const FOLDERS: [&str; 5] = ["cluster", "faults", "harness", "reports", "workloads"];

/// Files of the workspace itself that decide how it is built.
const ROOT_FILES: [&str; 3] = [".cargo/config.toml", "Cargo.lock", "Cargo.toml"];

/// Below [`FOLDERS`], what no trial is built from: tests beside the sources, the project's own check, planted bugs, scenarios
/// that are read when they are tried.
const NO_SOURCES: [&str; 8] =
    ["target", "tests", "benches", "examples", "xtask", "mutants", "scenarios", "proptest-regressions"];

/// Every source file below `root`, as a path from it with `/` between its parts, in order.
///
/// # Errors
/// A folder that cannot be read.
pub fn list(root: &Path) -> io::Result<Vec<String>> {
    let mut files: Vec<String> =
        ROOT_FILES.iter().filter(|name| root.join(name).is_file()).map(|name| String::from(*name)).collect();
    for folder in FOLDERS.iter().filter(|folder| root.join(folder).is_dir()) {
        walk(root, folder, &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn walk(root: &Path, folder: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Editors leave such files beside the one that is open.
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let path = format!("{folder}/{name}");
        if !entry.file_type()?.is_dir() {
            files.push(path);
        } else if !NO_SOURCES.contains(&name.as_str()) {
            walk(root, &path, files)?;
        }
    }
    Ok(())
}

/// Hash of these files below `root`, in hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn hash(root: &Path, files: &[String]) -> io::Result<String> {
    let mut hash = Fnv::new();
    for name in files {
        let content = std::fs::read(root.join(name))?;
        hash.part(name.as_bytes());
        hash.part(&content);
    }
    Ok(format!("{:032x}", hash.0))
}

/// FNV-1a with 128 bits: it needs nothing from a build script's dependencies, and guards against mistakes, not attacks.
struct Fnv(u128);

impl Fnv {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    /// The length goes first, so that no two lists of parts read alike.
    fn part(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in length.iter().chain(bytes) {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }
}
