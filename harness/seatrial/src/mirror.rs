//! One fixed copy of the sources, in which bugs may be planted.
//!
//! Cargo judges by the time of a file and by its path from the workspace, so that the copy has one place and one target
//! directory for good, and a file whose content did not change keeps its time.
//!
//! **Invariant:** after a sync the copy holds what the sources hold and nothing else, and only what differed was written
//! (`a_sync_writes_what_differs_and_removes_what_is_gone`).

use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// What of a checkout makes its programs. Everything else stays behind.
const PARTS: [&str; 9] =
    [".cargo", "Cargo.lock", "Cargo.toml", "clippy.toml", "cluster", "faults", "harness", "reports", "workloads"];

/// The copy, held by this process alone.
#[derive(Debug)]
pub struct Mirror {
    source: PathBuf,
    copy: PathBuf,
    /// Unlocked when dropped.
    _lock: File,
}

impl Mirror {
    /// The copy of `source` at `copy`.
    ///
    /// # Errors
    /// Another process works in it, or it cannot be made.
    pub fn open(source: &Path, copy: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(copy).with_context(|| format!("{} cannot be made", copy.display()))?;
        let lock_path = copy.with_extension("lock");
        let lock = File::create(&lock_path).with_context(|| format!("{} cannot be made", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { source: source.to_owned(), copy: copy.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!("another board of mutants works in {}; wait for it", copy.display()),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} cannot be locked", lock_path.display()))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.copy
    }

    /// Makes it equal to the sources.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn sync(&self) -> anyhow::Result<()> {
        let mut wanted = BTreeSet::new();
        for part in PARTS {
            walk(&self.source, Path::new(part), &mut wanted)?;
        }
        let mut present = BTreeSet::new();
        for part in PARTS {
            walk(&self.copy, Path::new(part), &mut present)?;
        }
        for stale in present.difference(&wanted) {
            let path = self.copy.join(stale);
            fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
        wanted.iter().try_for_each(|file| self.write(file, &read(&self.source.join(file))?))
    }

    /// The content of a file in the sources.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub fn original(&self, file: &str) -> anyhow::Result<String> {
        let path = self.source.join(file);
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// Writes `content` to `file` of the copy, unless it is there already.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, file: &Path, content: &[u8]) -> anyhow::Result<()> {
        let path = self.copy.join(file);
        if fs::read(&path).is_ok_and(|present| present == content) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.copy);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, content))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Every file at or below `part` of `root`, as a path from `root`; none if there is no such part.
fn walk(root: &Path, part: &Path, files: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    let path = root.join(part);
    if path.is_file() {
        files.insert(part.to_owned());
        return Ok(());
    }
    if !path.is_dir() || part.ends_with("target") {
        return Ok(());
    }
    let entries = fs::read_dir(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    for entry in entries {
        let name = entry.with_context(|| format!("{} cannot be read", path.display()))?.file_name();
        walk(root, &part.join(name), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("seatrial-mirror-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("source/cluster/raft/src")).expect("a folder");
            fs::write(path.join("source/Cargo.toml"), "one").expect("a file");
            fs::write(path.join("source/cluster/raft/src/lib.rs"), "raft").expect("a file");
            fs::write(path.join("source/README.md"), "read").expect("a file");
            Self(path)
        }

        fn open(&self) -> anyhow::Result<Mirror> {
            Mirror::open(&self.0.join("source"), &self.0.join("copy"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn modified(path: &Path) -> SystemTime {
        fs::metadata(path).expect("it is there").modified().expect("it has a time")
    }

    #[test]
    fn a_sync_writes_what_differs_and_removes_what_is_gone() {
        let folder = Folder::new("sync");
        let mirror = folder.open().expect("a copy");
        mirror.sync().expect("in sync");
        let manifest = mirror.path().join("Cargo.toml");
        let before = modified(&manifest);
        fs::write(mirror.path().join("cluster/raft/src/lib.rs"), "planted").expect("a file");
        fs::write(mirror.path().join("cluster/raft/src/gone.rs"), "gone").expect("a file");
        mirror.sync().expect("in sync");
        assert_eq!(fs::read_to_string(mirror.path().join("cluster/raft/src/lib.rs")).expect("a file"), "raft");
        assert!(!mirror.path().join("cluster/raft/src/gone.rs").exists());
        assert!(!mirror.path().join("README.md").exists(), "only what makes programs is copied");
        assert_eq!(modified(&manifest), before, "an equal file keeps its time");
    }

    #[test]
    fn a_copy_is_held_by_one() {
        let folder = Folder::new("lock");
        let held = folder.open().expect("a copy");
        assert!(folder.open().is_err_and(|error| error.to_string().contains("another board")));
        drop(held);
        assert!(folder.open().is_ok());
    }
}
