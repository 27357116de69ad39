//! Snapshot files: the whole state as of an index, checked block by block.
//!
//! ```text
//! snap-<index>.db:  head (64) | meta | block | block | ... | foot (24)
//! block:            crc32c u32 | up to 64 KiB of data
//! ```
//!
//! All numbers are little-endian. Each checksum covers where it stands as well: it starts from that of the head and the
//! number of the block, so that a block in the wrong place or file is as damaged as one with the wrong content. The foot
//! says how much there should be.
//!
//! A file gets its name when all of it is durable; anything under another name is worth nothing.
//!
//! **Invariant:** what is loaded is what was saved, or an error (`each_flipped_bit_and_each_cut_is_noticed`).

use crate::wal::remove_if_there;
use bytes::{BufMut, Bytes, BytesMut};
use raft::SnapshotMeta;
use rt::disk::{Dir, File};
use std::io;
use tokio::sync::Mutex;

/// Version of what this module writes.
const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"SEASNAP\n";
const FOOT_MAGIC: [u8; 8] = *b"SEAEND\r\n";
const HEAD_BYTES: usize = 64;
const FOOT_BYTES: usize = 24;
/// Small enough that damage is narrowed down, large enough that checksums take next to no space.
const BLOCK_BYTES: usize = 64 << 10;
/// Blocks written or read at once: a megabyte keeps a disk busy, and is little memory.
const BLOCKS_AT_ONCE: usize = 16;
/// A meta is a few numbers; a larger one is damage.
const MAX_META_BYTES: usize = 64 << 10;
/// What the names of unfinished files begin with. Each has another, so that a save whose caller went away, and which may
/// still be under way, meets none but its own.
const UNFINISHED: &str = "snap-next-";

/// The snapshots in a member's directory.
#[derive(Debug)]
pub struct SnapshotDir {
    dir: Dir,
    /// One is saved at a time: those of the member itself and those received from a leader must not remove each other.
    /// Counts the saves.
    saving: Mutex<u64>,
}

/// Why a snapshot cannot be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The content is not what was saved. Nothing was changed.
    #[error(
        "{file}: {what}. The snapshot is damaged; restore the directory from a copy, or replace this member by a new one \
         with an empty directory"
    )]
    Corrupt {
        /// Path of the file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// It was written in another format. Nothing was changed.
    #[error("{file}: its format is {found}, but this program knows only {FORMAT}. Run the version that wrote it")]
    Version {
        /// Path of the file.
        file: String,
        /// The version found.
        found: u32,
    },
    /// The disk refuses. After `StorageFull` it may be tried again; after anything else only if the whole snapshot is.
    #[error("{file}: {source}")]
    Io {
        /// Path of the file.
        file: String,
        /// Why.
        source: io::Error,
    },
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> io::Error {
        let kind = match &error {
            SnapshotError::Corrupt { .. } | SnapshotError::Version { .. } => io::ErrorKind::InvalidData,
            SnapshotError::Io { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

impl SnapshotDir {
    /// The snapshots in `dir`. Removes what a crash left unfinished, and makes sure of the names that are there.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub async fn open(dir: Dir) -> Result<SnapshotDir, SnapshotError> {
        let cleaned = async {
            for name in dir.list().await?.iter().filter(|name| name.starts_with(UNFINISHED)) {
                remove_if_there(&dir, name).await?;
            }
            dir.sync().await
        };
        cleaned.await.map_err(io_error(&dir, "snap-*"))?;
        Ok(SnapshotDir { dir, saving: Mutex::new(0) })
    }

    /// Saves `data`, `data_bytes` in pieces of any size, as the snapshot that `meta` describes and then removes older ones.
    /// A piece is asked for when it is to be written, and then let go. It is durable when this returns. Does nothing when
    /// there is a newer one.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; what was there before still is.
    pub async fn save(
        &self,
        meta: &SnapshotMeta,
        data_bytes: usize,
        data: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), SnapshotError> {
        let mut count = self.saving.lock().await;
        *count += 1;
        let name = name(meta.index);
        let unfinished = format!("{UNFINISHED}{count}.tmp");
        let there = self.indexes().await.map_err(io_error(&self.dir, &name))?;
        if there.last().is_some_and(|&newest| newest > meta.index) {
            return Ok(());
        }
        let pieces = Pieces { first: Bytes::new(), rest: data.into_iter() };
        if let Err(error) = self.write(&unfinished, &name, meta, data_bytes, pieces).await {
            // Its space may be what is missing. If it stays, the next start removes it.
            drop(self.dir.remove(&unfinished).await);
            return Err(io_error(&self.dir, &name)(error));
        }
        for older in there.into_iter().filter(|&index| index < meta.index) {
            if let Err(error) = self.dir.remove(&self::name(older)).await {
                tracing::warn!(index = older, %error, "an old snapshot was not removed");
            }
        }
        Ok(())
    }

    /// The newest snapshot, verified, its data in pieces of 64 KiB and a last one.
    ///
    /// # Errors
    /// [`SnapshotError`]; a damaged one is not passed over for an older one, which the log may not continue.
    pub async fn load_newest(&self) -> Result<Option<(SnapshotMeta, Vec<Bytes>)>, SnapshotError> {
        // A newer one must not take the place of the one that is being read.
        let _one_at_a_time = self.saving.lock().await;
        let newest = self.indexes().await.map_err(io_error(&self.dir, "snap-*"))?.pop();
        let Some(index) = newest else { return Ok(None) };
        let name = name(index);
        let file = self.dir.open_file(&name).await.map_err(io_error(&self.dir, &name))?;
        let loaded = load(&file).await.map_err(|damage| damage.of_file(&self.dir, &name))?;
        if loaded.0.index != index {
            return Err(Damage::Corrupt("its name is not that of the snapshot in it").of_file(&self.dir, &name));
        }
        Ok(Some(loaded))
    }

    /// In order.
    async fn indexes(&self) -> io::Result<Vec<u64>> {
        Ok(self.dir.list().await?.iter().filter_map(|name| index(name)).collect())
    }

    async fn write(
        &self,
        unfinished: &str,
        name: &str,
        meta: &SnapshotMeta,
        data_bytes: usize,
        mut pieces: Pieces<impl Iterator<Item = Bytes>>,
    ) -> io::Result<()> {
        let file = self.dir.create(unfinished).await?;
        let (head, salt) = encode_head(meta, data_bytes);
        let mut offset = head.len() as u64;
        file.write_at(0, head).await?;
        let (mut number, mut left) = (0, data_bytes);
        while left > 0 {
            let whole = left.min(BLOCKS_AT_ONCE * BLOCK_BYTES);
            left -= whole;
            let blocks = whole.div_ceil(BLOCK_BYTES);
            let mut out = BytesMut::with_capacity(whole + blocks * 4);
            for block in 0..blocks {
                let at = out.len();
                out.put_u32_le(0);
                pieces.put(&mut out, BLOCK_BYTES.min(whole - block * BLOCK_BYTES));
                let crc = block_crc(salt, number, &out[at + 4..]);
                out[at..at + 4].copy_from_slice(&crc.to_le_bytes());
                number += 1;
            }
            let written = out.len() as u64;
            file.write_at(offset, out.freeze()).await?;
            offset += written;
        }
        debug_assert!(pieces.is_at_end(), "there is no more than was said");
        file.write_at(offset, encode_foot(salt, data_bytes)).await?;
        file.sync_data().await?;
        self.dir.rename(unfinished, name).await?;
        self.dir.sync().await
    }
}

/// Bytes in pieces, of which each is let go once it is taken.
struct Pieces<I> {
    first: Bytes,
    rest: I,
}

impl<I: Iterator<Item = Bytes>> Pieces<I> {
    fn is_at_end(&mut self) -> bool {
        self.first.is_empty() && self.rest.all(|piece| piece.is_empty())
    }

    /// Appends the next `len` bytes.
    fn put(&mut self, out: &mut BytesMut, mut len: usize) {
        while len > 0 {
            if self.first.is_empty() {
                self.first = self.rest.next().expect("there is as much as was said");
            }
            let piece = self.first.split_to(len.min(self.first.len()));
            out.put_slice(&piece);
            len -= piece.len();
        }
    }
}

/// In order of name, snapshots are in order of index.
fn name(index: u64) -> String {
    format!("snap-{index:016x}.db")
}

fn index(name: &str) -> Option<u64> {
    let index = u64::from_str_radix(name.strip_prefix("snap-")?.strip_suffix(".db")?, 16).ok()?;
    (self::name(index) == name).then_some(index)
}

fn io_error(dir: &Dir, name: &str) -> impl FnOnce(io::Error) -> SnapshotError {
    let file = format!("{}/{name}", dir.path());
    |source| SnapshotError::Io { file, source }
}

/// What is wrong with a file.
enum Damage {
    Corrupt(&'static str),
    Version(u32),
    Io(io::Error),
}

impl Damage {
    fn of_file(self, dir: &Dir, name: &str) -> SnapshotError {
        let file = format!("{}/{name}", dir.path());
        match self {
            Damage::Corrupt(what) => SnapshotError::Corrupt { file, what: what.to_owned() },
            Damage::Version(found) => SnapshotError::Version { file, found },
            Damage::Io(source) => SnapshotError::Io { file, source },
        }
    }
}

/// What a head says.
struct Head {
    meta_bytes: usize,
    data_bytes: u64,
    meta_crc: u32,
    salt: u32,
}

/// Head and meta, and the checksum from which all others start.
fn encode_head(meta: &SnapshotMeta, data_bytes: usize) -> (Bytes, u32) {
    let meta = postcard::to_stdvec(meta).expect("plain data always has an encoding");
    let mut out = BytesMut::with_capacity(HEAD_BYTES + meta.len());
    out.put_slice(&MAGIC);
    out.put_u32_le(FORMAT);
    out.put_u32_le(meta.len() as u32);
    out.put_u64_le(data_bytes as u64);
    out.put_u32_le(crc32c::crc32c(&meta));
    out.put_bytes(0, HEAD_BYTES - 4 - out.len());
    let salt = crc32c::crc32c(&out);
    out.put_u32_le(salt);
    out.put_slice(&meta);
    (out.freeze(), salt)
}

fn decode_head(bytes: &[u8]) -> Result<Head, Damage> {
    let Some(head) = bytes.get(..HEAD_BYTES) else {
        return Err(Damage::Corrupt("it is shorter than its head"));
    };
    if head[..8] != MAGIC {
        return Err(Damage::Corrupt("it does not begin as a snapshot does"));
    }
    let salt = crc32c::crc32c(&head[..HEAD_BYTES - 4]);
    match (u32_at(head, 8), u32_at(head, HEAD_BYTES - 4) == salt) {
        (FORMAT, true) => {}
        (FORMAT, false) => return Err(Damage::Corrupt("the checksum of its head is wrong")),
        (other, _) => return Err(Damage::Version(other)),
    }
    let (low, high) = (u64::from(u32_at(head, 16)), u64::from(u32_at(head, 20)));
    let meta_bytes = u32_at(head, 12) as usize;
    if meta_bytes > MAX_META_BYTES {
        return Err(Damage::Corrupt("its head makes no sense"));
    }
    Ok(Head { meta_bytes, data_bytes: high << 32 | low, meta_crc: u32_at(head, 24), salt })
}

fn block_crc(salt: u32, number: usize, block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &(number as u64).to_le_bytes()), block)
}

fn encode_foot(salt: u32, data_bytes: usize) -> Bytes {
    let mut foot = BytesMut::with_capacity(FOOT_BYTES);
    foot.put_slice(&FOOT_MAGIC);
    foot.put_u64_le(data_bytes as u64);
    foot.put_u32_le(0);
    foot.put_u32_le(crc32c::crc32c_append(salt, &foot));
    foot.freeze()
}

/// Reads and verifies all of a file.
async fn load(file: &File) -> Result<(SnapshotMeta, Vec<Bytes>), Damage> {
    let head = decode_head(&read(file, 0, HEAD_BYTES).await?)?;
    let meta = read(file, HEAD_BYTES as u64, head.meta_bytes).await?;
    if crc32c::crc32c(&meta) != head.meta_crc {
        return Err(Damage::Corrupt("the checksum of its meta is wrong"));
    }
    let meta = postcard::from_bytes(&meta).map_err(|_| Damage::Corrupt("its meta makes no sense"))?;
    let mut offset = (HEAD_BYTES + head.meta_bytes) as u64;
    let file_bytes = file.len().await.map_err(Damage::Io)?;
    let block_heads = head.data_bytes.div_ceil(BLOCK_BYTES as u64) * 4;
    let expected = offset + FOOT_BYTES as u64;
    if file_bytes.checked_sub(expected).is_none_or(|rest| rest != head.data_bytes + block_heads) {
        return Err(Damage::Corrupt("its size is not what its head says"));
    }
    let mut data = Vec::new();
    let mut left = head.data_bytes as usize;
    while left > 0 {
        let whole = left.min(BLOCKS_AT_ONCE * BLOCK_BYTES);
        let mut blocks = Bytes::from(read(file, offset, whole + whole.div_ceil(BLOCK_BYTES) * 4).await?);
        offset += blocks.len() as u64;
        while !blocks.is_empty() {
            let block = blocks.split_to(blocks.len().min(BLOCK_BYTES + 4));
            if u32_at(&block, 0) != block_crc(head.salt, data.len(), &block[4..]) {
                return Err(Damage::Corrupt("the checksum of a block is wrong"));
            }
            data.push(block.slice(4..));
        }
        left -= whole;
    }
    if read(file, offset, FOOT_BYTES).await? != encode_foot(head.salt, head.data_bytes as usize) {
        return Err(Damage::Corrupt("its foot is not what its head says"));
    }
    Ok((meta, data))
}

async fn read(file: &File, offset: u64, len: usize) -> Result<Vec<u8>, Damage> {
    let bytes = file.read_at(offset, len).await.map_err(Damage::Io)?;
    if bytes.len() == len { Ok(bytes) } else { Err(Damage::Corrupt("it ends too early")) }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}
