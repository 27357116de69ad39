//! The directory of a process: whose it is, in which format, and that nobody else uses it.
//!
//! ```text
//! LOCK             held while the process runs
//! VERSION          as what, in which format; written first and never changed
//! authority.pem    the cluster's own CA, with its key       token, join.json   secrets, see `identity`
//! kubeconfig       what kubectl needs                       store/             the store's member
//! agent.json       what an agent was given                  nodes/NAME/        a node's state
//! ```
//!
//! **Invariant:** a directory that is refused is left as it was, but for the lock's empty file
//! (`a_directory_of_something_else_is_refused_and_left_as_it_was` in tests/up.rs).

use crate::files;
use rt::disk::{Dir, DirLock};
use std::io::{self, ErrorKind};

/// What a directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `seaworthy up`.
    Up,
    /// `seaworthy server`.
    Server,
    /// `seaworthy agent`.
    Agent,
}

impl Purpose {
    /// What VERSION holds.
    fn format(self) -> &'static str {
        match self {
            Purpose::Up => "seaworthy up 1\n",
            Purpose::Server => "seaworthy server 1\n",
            Purpose::Agent => "seaworthy agent 1\n",
        }
    }
}

const LOCK: &str = "LOCK";
const VERSION: &str = "VERSION";
/// What a directory may hold and still be a new one.
const OF_A_NEW_DIRECTORY: [&str; 3] = [LOCK, ".VERSION.tmp", "lost+found"];

/// The directory, locked for this process. Unlocked when dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) dir: Dir,
    _lock: DirLock,
}

/// Why a directory is not to be used; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("{0} is in use by another process; stop that one, or name another directory with --data-dir")]
    InUse(String),
    /// It was written in another format.
    #[error("{path} is of {found:?}, and not of what was asked for; run what wrote it, or name another directory")]
    Format {
        /// The directory.
        path: String,
        /// What it says.
        found: String,
    },
    /// It holds something else.
    #[error("{path} holds {found:?} and is no data directory; name an empty one, or one that does not exist yet")]
    NotOurs {
        /// The directory.
        path: String,
        /// Something in it.
        found: String,
    },
    /// The disk or the file system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The directory.
        path: String,
        /// Why.
        error: io::Error,
    },
}

impl DataDir {
    /// Locks the directory at `path`, which is made if there is none.
    ///
    /// # Errors
    /// It is not to be used.
    pub(crate) async fn open(path: &str, purpose: Purpose) -> Result<Self, DataDirError> {
        let io = |error| DataDirError::Io { path: path.to_owned(), error };
        let dir = Dir::open(path).await.map_err(io)?;
        let version = files::read(&dir, VERSION).await.map_err(io)?;
        if version.is_none() {
            let names = dir.list().await.map_err(io)?;
            if let Some(found) = names.into_iter().find(|name| !OF_A_NEW_DIRECTORY.contains(&name.as_str())) {
                return Err(DataDirError::NotOurs { path: path.to_owned(), found });
            }
        }
        let lock = dir.lock(LOCK).await.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => DataDirError::InUse(path.to_owned()),
            _ => io(error),
        })?;
        match version {
            Some(found) if found == purpose.format() => {}
            Some(found) => {
                return Err(DataDirError::Format { path: path.to_owned(), found: found.trim().to_owned() });
            }
            None => files::replace(&dir, VERSION, purpose.format()).await.map_err(io)?,
        }
        Ok(Self { dir, _lock: lock })
    }
}
