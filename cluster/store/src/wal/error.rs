//! What can go wrong with the log, by what the caller can do about it.

use super::Identity;
use std::io;

/// Why the log cannot be opened, or not be written to.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Records that somebody was told to be durable are not readable, or make no sense. Nothing was changed. The member
    /// must not go on as if they had never been: it may have voted or acknowledged by them.
    #[error(
        "{segment}, byte {offset}: {what}. The log is damaged; restore its directory from a copy, or replace this member \
         by a new one with an empty directory"
    )]
    Corrupt {
        /// Path of the file.
        segment: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The log was written in another format. Nothing was changed.
    #[error("{segment}: its format is {found}, but this program knows only {known}. Run the version that wrote it")]
    Version {
        /// Path of the file.
        segment: String,
        /// The version found.
        found: u32,
        /// The version that this build writes.
        known: u32,
    },
    /// The log belongs to somebody else. Nothing was changed.
    #[error("{segment}: belongs to {found}, not to {expected}. Give this member a directory of its own")]
    Foreign {
        /// Path of the file.
        segment: String,
        /// Whose it is.
        found: Identity,
        /// Who asked.
        expected: Identity,
    },
    /// The log begins after the newest snapshot that is there. Nothing was changed.
    #[error(
        "{dir}: the log continues a snapshot of index {wanted}, but the newest one that can be read is of index {found}. \
         Restore the directory from a copy, or replace this member by a new one with an empty directory"
    )]
    SnapshotMissing {
        /// Path of the log.
        dir: String,
        /// Index that a snapshot must have at least.
        wanted: u64,
        /// Index of the newest one.
        found: u64,
    },
    /// The disk has no space for the next segment. The log is as good as before: refuse what can be refused, and try again.
    #[error("the disk has no space for another segment of the log")]
    NoSpace,
    /// One entry does not fit into a segment. Nothing was written.
    #[error("an entry of {bytes} bytes does not fit into a segment of the log, which takes {limit}")]
    TooLarge {
        /// Size of its data.
        bytes: usize,
        /// Largest size that fits.
        limit: usize,
    },
    /// Writing or syncing failed, now or earlier. What is on the disk is unknown, so the log is closed for good: stop the
    /// process. A later success would prove nothing.
    #[error("the log cannot be written any more: {0}")]
    Io(#[source] io::Error),
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> io::Error {
        let kind = match &error {
            WalError::Corrupt { .. } | WalError::Version { .. } | WalError::Foreign { .. } => {
                io::ErrorKind::InvalidData
            }
            WalError::SnapshotMissing { .. } => io::ErrorKind::NotFound,
            WalError::NoSpace => io::ErrorKind::StorageFull,
            WalError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            WalError::Io(source) => source.kind(),
        };
        io::Error::new(kind, error)
    }
}
