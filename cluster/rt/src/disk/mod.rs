//! Disk: directories and files with explicit durability, real and simulated.
//!
//! ```text
//! Dir::open ─> create/open_file ─> write_at ─> page cache ──sync_data──> durable content and size
//!          └─> create/rename/remove/sub ─> names in cache ──Dir::sync──> durable names
//! ```
//!
//! What a program may rely on is what both backends keep, and no more:
//!
//! - A read sees every write that completed before it, also after the process was killed and started again.
//! - Power loss keeps content and size as of the last successful [`File::sync_data`], and names as of the last
//!   successful [`Dir::sync`]. Of what came later anything may be kept: each 512-byte sector for itself.
//! - A sync that failed is final: what it should have made durable may be lost although reads still show it and although
//!   a later sync succeeds.
//! - Buffers are owned, so that an operation whose caller went away has nothing to point to.
//!
//! **Invariant:** the simulated disk keeps each of these sentences and promises nothing beyond them (`tests/disk.rs`,
//! one check per sentence, each of which fails when the disk breaks that sentence on purpose).
//!
//! Which backend serves a task follows from its context: a task of a simulated host sees that host's disk, anything else
//! the real file system.

mod real;
#[cfg(madsim)]
mod sim;

use bytes::Bytes;
use std::{fmt, io};

#[cfg(madsim)]
pub use sim::{DiskConfig, DiskFaults, DiskStats, Lies, SimDisk};

/// A directory of this process. Cheap to clone.
#[derive(Clone)]
pub struct Dir(DirBackend);

#[derive(Clone)]
enum DirBackend {
    Real(real::Dir),
    #[cfg(madsim)]
    Sim(sim::Dir),
}

/// An open file. Cheap to clone; all clones are the same open file.
#[derive(Clone)]
pub struct File(FileBackend);

#[derive(Clone)]
enum FileBackend {
    Real(real::File),
    #[cfg(madsim)]
    Sim(sim::File),
}

/// Proof that no other process holds the same lock. Released when dropped, when the process dies and at power loss.
pub struct DirLock(#[expect(dead_code, reason = "held for what its drop does")] LockBackend);

enum LockBackend {
    #[expect(dead_code, reason = "held for what its drop does")]
    Real(real::Lock),
    #[cfg(madsim)]
    #[expect(dead_code, reason = "held for what its drop does")]
    Sim(sim::Lock),
}

/// Calls the same method of whichever backend is there.
macro_rules! dispatch {
    ($backend:expr, $kind:ident, $inner:ident => $call:expr) => {
        match $backend {
            $kind::Real($inner) => $call,
            #[cfg(madsim)]
            $kind::Sim($inner) => $call,
        }
    };
}

impl Dir {
    /// Opens the directory at `path`, creating it and its parents where they are missing. What it creates is durable.
    ///
    /// # Errors
    /// Those of the file system: no permission, a file is in the way, no space.
    pub async fn open(path: &str) -> io::Result<Dir> {
        #[cfg(madsim)]
        if let Some(disk) = sim::SimDisk::of_this_task() {
            return Ok(Dir(DirBackend::Sim(disk.open_dir(path).await?)));
        }
        Ok(Dir(DirBackend::Real(real::Dir::open(path).await?)))
    }

    /// The directory `name` within this one, created when it is missing. A new one is durable after [`Dir::sync`] on `self`.
    ///
    /// # Errors
    /// `InvalidInput` when `name` is not a plain name; otherwise those of the file system.
    pub async fn sub(&self, name: &str) -> io::Result<Dir> {
        plain(name)?;
        Ok(Dir(match &self.0 {
            DirBackend::Real(dir) => DirBackend::Real(dir.sub(name).await?),
            #[cfg(madsim)]
            DirBackend::Sim(dir) => DirBackend::Sim(dir.sub(name).await?),
        }))
    }

    /// Takes the lock `name` (a file, created when missing and left in place afterwards).
    ///
    /// # Errors
    /// `WouldBlock` when somebody holds it; otherwise those of the file system.
    pub async fn lock(&self, name: &str) -> io::Result<DirLock> {
        plain(name)?;
        Ok(DirLock(match &self.0 {
            DirBackend::Real(dir) => LockBackend::Real(dir.lock(name).await?),
            #[cfg(madsim)]
            DirBackend::Sim(dir) => LockBackend::Sim(dir.lock(name).await?),
        }))
    }

    /// The names in this directory, of files and directories, sorted.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn list(&self) -> io::Result<Vec<String>> {
        dispatch!(&self.0, DirBackend, dir => dir.list().await)
    }

    /// Whether `name` exists here, as a file or a directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn exists(&self, name: &str) -> io::Result<bool> {
        plain(name)?;
        dispatch!(&self.0, DirBackend, dir => dir.exists(name).await)
    }

    /// Creates the empty file `name`.
    ///
    /// # Errors
    /// `AlreadyExists`; `StorageFull`; otherwise those of the file system.
    pub async fn create(&self, name: &str) -> io::Result<File> {
        plain(name)?;
        Ok(File(match &self.0 {
            DirBackend::Real(dir) => FileBackend::Real(dir.create(name).await?),
            #[cfg(madsim)]
            DirBackend::Sim(dir) => FileBackend::Sim(dir.create(name).await?),
        }))
    }

    /// Opens the file `name` for reading and writing.
    ///
    /// # Errors
    /// `NotFound`; otherwise those of the file system.
    pub async fn open_file(&self, name: &str) -> io::Result<File> {
        plain(name)?;
        Ok(File(match &self.0 {
            DirBackend::Real(dir) => FileBackend::Real(dir.open_file(name).await?),
            #[cfg(madsim)]
            DirBackend::Sim(dir) => FileBackend::Sim(dir.open_file(name).await?),
        }))
    }

    /// Gives the file `from` the name `to`, in place of a file that had it. After power loss one of the two states is
    /// found, never a mixture; the new one for certain only after [`Dir::sync`].
    ///
    /// # Errors
    /// `NotFound`; otherwise those of the file system.
    pub async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        plain(from)?;
        plain(to)?;
        dispatch!(&self.0, DirBackend, dir => dir.rename(from, to).await)
    }

    /// Removes the file `name`. Those who have it open keep it until they close it.
    ///
    /// # Errors
    /// `NotFound`; otherwise those of the file system.
    pub async fn remove(&self, name: &str) -> io::Result<()> {
        plain(name)?;
        dispatch!(&self.0, DirBackend, dir => dir.remove(name).await)
    }

    /// Makes all names of this directory durable as they are now.
    ///
    /// # Errors
    /// Those of the file system. Names may or may not have become durable then.
    pub async fn sync(&self) -> io::Result<()> {
        dispatch!(&self.0, DirBackend, dir => dir.sync().await)
    }

    /// Where this directory is, for messages.
    pub fn path(&self) -> &str {
        dispatch!(&self.0, DirBackend, dir => dir.path())
    }
}

impl File {
    /// Size in bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn len(&self) -> io::Result<u64> {
        dispatch!(&self.0, FileBackend, file => file.len().await)
    }

    /// Whether the size is zero.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Up to `len` bytes from `offset` on; fewer only where the file ends.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        dispatch!(&self.0, FileBackend, file => file.read_at(offset, len).await)
    }

    /// Writes all of `data` at `offset`, extending the file where needed. Durable only after [`File::sync_data`].
    ///
    /// # Errors
    /// `StorageFull` when the file would have to grow and cannot. After any error a part may have been written.
    pub async fn write_at(&self, offset: u64, data: impl Into<Bytes>) -> io::Result<()> {
        let data = data.into();
        dispatch!(&self.0, FileBackend, file => file.write_at(offset, data).await)
    }

    /// Grows the file to `len` bytes of zeros that have their space and need no further bookkeeping when written over.
    /// Does nothing when it is as large already. Durable only after [`File::sync_data`].
    ///
    /// # Errors
    /// `StorageFull`; otherwise those of the file system. The file may have grown by a part then.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        dispatch!(&self.0, FileBackend, file => file.allocate(len).await)
    }

    /// Cuts the file to `len` bytes, or extends it with zeros. Durable only after [`File::sync_data`].
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        dispatch!(&self.0, FileBackend, file => file.set_len(len).await)
    }

    /// Makes content and size durable as of every operation that completed before this call.
    ///
    /// # Errors
    /// Those of the file system. Content may be lost then for good: a later success says nothing about it.
    pub async fn sync_data(&self) -> io::Result<()> {
        dispatch!(&self.0, FileBackend, file => file.sync_data().await)
    }
}

/// Names are single components, so that no operation leaves its directory.
fn plain(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a plain file name")));
    }
    Ok(())
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dir({:?})", self.path())
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File")
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirLock")
    }
}
