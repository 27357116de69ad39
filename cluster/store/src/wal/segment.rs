//! Files of the log: their names, and how one is made ready for use.
//!
//! ```text
//! wal-next.tmp (new, zeros) ─┐
//!                            ├─ head, sync, rename, sync of the directory ─> wal-0000000000000007.log
//! wal-spare.old (recycled)  ─┘
//! ```

use super::WalError;
use super::record::{Head, Position};
use bytes::Bytes;
use rt::disk::{Dir, File};
use std::io::{self, ErrorKind};

/// A segment on its way to be; worth nothing after a crash.
pub const UNFINISHED: &str = "wal-next.tmp";
/// A segment whose records nobody needs. One is kept: there is at most one next segment to be made from it.
pub const SPARE: &str = "wal-spare.old";

/// Name of the segment with this sequence number: in order of name, segments are in order of sequence.
pub fn name(sequence: u64) -> String {
    format!("wal-{sequence:016x}.log")
}

/// The sequence number in the name of a segment.
pub fn sequence(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    (self::name(sequence) == name).then_some(sequence)
}

/// A segment that can be written to.
#[derive(Clone, Debug)]
pub struct Segment {
    pub(super) file: File,
    pub(super) head: Head,
    pub(super) position: Position,
}

/// Makes the segment that `head` describes, from the spare one if `recycle`, and makes it durable under its name.
///
/// # Errors
/// [`WalError::NoSpace`], having changed nothing; [`WalError::Io`] for anything else, which is final.
pub async fn prepare(dir: Dir, head: Head, recycle: bool) -> Result<Segment, WalError> {
    match make(&dir, head, recycle).await {
        Ok(file) => Ok(Segment { file, head, position: Position::first(head.salt()) }),
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            remove_if_there(&dir, UNFINISHED).await.map_err(WalError::Io)?;
            Err(WalError::NoSpace)
        }
        Err(error) => Err(WalError::Io(error)),
    }
}

async fn make(dir: &Dir, head: Head, recycle: bool) -> io::Result<File> {
    let (from, file) = if recycle {
        // Before its content changes, no name but this may lead to it after a crash.
        dir.sync().await?;
        (SPARE, dir.open_file(SPARE).await?)
    } else {
        remove_if_there(dir, UNFINISHED).await?;
        let file = dir.create(UNFINISHED).await?;
        file.allocate(u64::from(head.segment_bytes)).await?;
        (UNFINISHED, file)
    };
    file.write_at(0, Bytes::copy_from_slice(&head.encode())).await?;
    file.sync_data().await?;
    dir.rename(from, &name(head.sequence)).await?;
    dir.sync().await?;
    Ok(file)
}

/// Removes a file that may not be there.
///
/// # Errors
/// Those of the file system.
pub async fn remove_if_there(dir: &Dir, name: &str) -> io::Result<()> {
    match dir.remove(name).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
