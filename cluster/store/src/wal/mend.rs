//! What opening a log reads and mends on its disk.

use super::record::{HEAD_BYTES, Head, Position};
use super::replay::{Linked, Replay, Replayed};
use super::segment::{self, Segment, prepare, remove_if_there};
use super::{Identity, WalConfig, WalError};
use rt::disk::Dir;
use std::io;

/// The files of a log that was read.
pub struct Mended {
    /// Where the log goes on. All that is in it is durable.
    pub current: Segment,
    /// The segment after it, if it is ready.
    pub next: Option<Segment>,
    /// Whether there is a spare one.
    pub has_spare: bool,
}

/// Reads all segments.
pub async fn read_all(dir: &Dir, identity: Identity) -> Result<Replayed, WalError> {
    let mut replay = Replay::new(dir.path(), identity);
    for name in dir.list().await.map_err(WalError::Io)? {
        if let Some(sequence) = segment::sequence(&name) {
            replay.segment(sequence, &read(dir, &name).await.map_err(WalError::Io)?)?;
        }
    }
    replay.finish()
}

async fn read(dir: &Dir, name: &str) -> io::Result<Vec<u8>> {
    let file = dir.open_file(name).await?;
    let len = file.len().await?;
    file.read_at(0, usize::try_from(len).map_err(io::Error::other)?).await
}

/// Makes the files fit to be written to: from here on the log goes on in `tail`, whose predecessor is `before`, or in a
/// new segment.
///
/// # Errors
/// [`WalError::NoSpace`] for a new one; [`WalError::Io`].
pub async fn take_over(
    dir: &Dir,
    config: &WalConfig,
    before: Option<&Linked>,
    tail: Option<Linked>,
    prepared: Option<Head>,
) -> Result<Mended, WalError> {
    remove_if_there(dir, segment::UNFINISHED).await.map_err(WalError::Io)?;
    let has_spare = keep_spare(dir, config.segment_bytes).await.map_err(WalError::Io)?;
    let next = match prepared {
        // What fits into a segment of today's size may not fit into it.
        Some(head) if head.segment_bytes != config.segment_bytes => {
            dir.remove(&segment::name(head.sequence)).await.map_err(WalError::Io)?;
            None
        }
        Some(head) => Some(reopen(dir, head).await.map_err(WalError::Io)?),
        None => None,
    };
    match tail {
        Some(tail) => {
            let current = mend(dir, before, tail).await.map_err(WalError::Io)?;
            Ok(Mended { current, next, has_spare })
        }
        None => {
            let current = prepare(dir.clone(), config.head(1), has_spare).await?;
            Ok(Mended { current, next, has_spare: false })
        }
    }
}

/// Makes durable what the log's end shows, removes what is beyond it, and opens it.
async fn mend(dir: &Dir, before: Option<&Linked>, tail: Linked) -> io::Result<Segment> {
    let is_empty = tail.position.offset as usize == HEAD_BYTES;
    if let Some(before) = before
        && is_empty
    {
        // No record of the tail says that the link to it was synced.
        mend_segment(dir, before).await?;
    }
    let mut segment = mend_segment(dir, &tail).await?;
    // And the names, for the same reason.
    dir.sync().await?;
    segment.position.synced = segment.position.offset;
    Ok(segment)
}

async fn mend_segment(dir: &Dir, linked: &Linked) -> io::Result<Segment> {
    let file = dir.open_file(&segment::name(linked.head.sequence)).await?;
    let (synced, end) = (linked.position.synced as usize, linked.position.offset as usize);
    let stray_end = linked.stray_end.unwrap_or(end);
    if stray_end > end {
        mark::sometimes!("torn tail cut");
    }
    if stray_end > synced {
        // Written anew, not only synced: after a sync that failed, the cache may hold it to be on the disk.
        let mut again = file.read_at(synced as u64, end - synced).await?;
        again.resize(stray_end - synced, 0);
        file.write_at(synced as u64, again).await?;
        file.sync_data().await?;
    }
    Ok(Segment { file, head: linked.head, position: linked.position })
}

async fn reopen(dir: &Dir, head: Head) -> io::Result<Segment> {
    let file = dir.open_file(&segment::name(head.sequence)).await?;
    Ok(Segment { file, head, position: Position::first(head.salt()) })
}

/// Whether there is a spare segment of the right size; one of another is removed.
async fn keep_spare(dir: &Dir, segment_bytes: u32) -> io::Result<bool> {
    if !dir.exists(segment::SPARE).await? {
        return Ok(false);
    }
    let fits = dir.open_file(segment::SPARE).await?.len().await? == u64::from(segment_bytes);
    if !fits {
        dir.remove(segment::SPARE).await?;
    }
    Ok(fits)
}
