//! A member's directory: whose it is, in which format, and that nobody else uses it.
//!
//! ```text
//! LOCK                 held while the member runs
//! VERSION              format, cluster, member, name; written first and never changed
//! wal-*.log, snap-*    see the modules `wal` and `snapshot_file`
//! ```
//!
//! **Invariant:** a directory that is refused is left as it was (`what_is_refused_is_left_as_it_was` in
//! tests/data_dir.rs).

use crate::wal::Identity;
use rt::disk::{Dir, DirLock};
use std::io::{self, ErrorKind};

/// Version of the directory as a whole: which files there are and what they mean.
const FORMAT: u32 = 1;
const LOCK: &str = "LOCK";
const VERSION: &str = "VERSION";
const VERSION_UNFINISHED: &str = "VERSION.tmp";
/// What a directory may hold and still be a new one: what an earlier start left, and what file systems put at their root.
const OF_A_NEW_DIRECTORY: [&str; 3] = [LOCK, VERSION_UNFINISHED, "lost+found"];
/// A VERSION file is a few lines; a larger one is something else.
const MAX_VERSION_BYTES: usize = 4096;

/// A member's directory, locked for this process. Unlocked when dropped.
#[derive(Debug)]
pub struct DataDir {
    dir: Dir,
    _lock: DirLock,
}

/// Why a directory is not to be used. Nothing was changed, but for [`DataDirError::Io`].
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error("{path} is in use by another process. Stop that one, or give this member a directory of its own")]
    InUse {
        /// The directory.
        path: String,
    },
    /// It was written in another format.
    #[error("{path} has format {found}, but this program knows only {FORMAT}. Run the version that wrote it")]
    Format {
        /// The directory.
        path: String,
        /// What it says of its format.
        found: String,
    },
    /// It belongs to another member.
    #[error("{path} belongs to {found}, not to {expected}. Give this member a directory of its own")]
    Foreign {
        /// The directory.
        path: String,
        /// Whose it is.
        found: Identity,
        /// Who asked.
        expected: Identity,
    },
    /// It is not empty and not a member's.
    #[error("{path} holds {found:?} and is no member's directory. Name an empty one, or one that does not exist yet")]
    NotOurs {
        /// The directory.
        path: String,
        /// Something in it.
        found: String,
    },
    /// Its VERSION cannot be understood.
    #[error(
        "{path}/VERSION is damaged: {what}. Restore the directory from a copy, or replace this member by a new one with an \
         empty directory"
    )]
    Damaged {
        /// The directory.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The disk or the file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl DataDir {
    /// Opens the directory at `path` for the member `identity`, and makes a new one where there is none or an empty one.
    /// `name` is noted for those who look into it.
    ///
    /// # Errors
    /// [`DataDirError`], whose text says what to do.
    pub async fn open(path: &str, identity: Identity, name: &str) -> Result<DataDir, DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_owned(), source };
        let dir = Dir::open(path).await.map_err(io)?;
        // Before the lock, which may create a file; and once more under it.
        check(&dir, identity).await?;
        let lock = dir.lock(LOCK).await.map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => DataDirError::InUse { path: path.to_owned() },
            _ => io(source),
        })?;
        if check(&dir, identity).await? == Found::New {
            write_version(&dir, &version_text(identity, name)).await.map_err(io)?;
        }
        // Whatever name an earlier process saw may have been in the cache alone.
        dir.sync().await.map_err(io)?;
        Ok(DataDir { dir, _lock: lock })
    }

    /// The directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    New,
    Ours,
}

async fn check(dir: &Dir, identity: Identity) -> Result<Found, DataDirError> {
    let path = || dir.path().to_owned();
    let io = |source| DataDirError::Io { path: path(), source };
    let names = dir.list().await.map_err(io)?;
    if names.iter().any(|name| name == VERSION) {
        let file = dir.open_file(VERSION).await.map_err(io)?;
        let bytes = file.read_at(0, MAX_VERSION_BYTES).await.map_err(io)?;
        let found = parse_version(&path(), &bytes)?;
        if found != identity {
            return Err(DataDirError::Foreign { path: path(), found, expected: identity });
        }
        return Ok(Found::Ours);
    }
    match names.into_iter().find(|name| !OF_A_NEW_DIRECTORY.contains(&name.as_str())) {
        Some(found) => Err(DataDirError::NotOurs { path: path(), found }),
        None => Ok(Found::New),
    }
}

fn version_text(identity: Identity, name: &str) -> String {
    // The name is for people, on a line of its own.
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    format!("format {FORMAT}\ncluster {:016x}\nmember {}\nname {name}\n", identity.cluster, identity.member)
}

fn parse_version(path: &str, bytes: &[u8]) -> Result<Identity, DataDirError> {
    let damaged = |what: &str| DataDirError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is no text"))?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
            .ok_or_else(|| damaged(&format!("it has no line that begins with {key:?}")))
    };
    let format = value("format")?;
    if format != FORMAT.to_string() {
        return Err(DataDirError::Format { path: path.to_owned(), found: format.to_owned() });
    }
    let number = |key: &str, radix| {
        u64::from_str_radix(value(key)?, radix).map_err(|_| damaged(&format!("what follows {key:?} is no number")))
    };
    Ok(Identity { cluster: number("cluster", 16)?, member: number("member", 10)? })
}

async fn write_version(dir: &Dir, text: &str) -> io::Result<()> {
    crate::wal::remove_if_there(dir, VERSION_UNFINISHED).await?;
    let file = dir.create(VERSION_UNFINISHED).await?;
    file.write_at(0, text.as_bytes().to_vec()).await?;
    file.sync_data().await?;
    dir.rename(VERSION_UNFINISHED, VERSION).await?;
    dir.sync().await
}
