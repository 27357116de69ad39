//! The real disk: positional I/O on the runtime's blocking threads.
//!
//! One system call per operation, each on a blocking thread, because a sync takes milliseconds and a page fault can. A
//! caller that goes away leaves its operation running on buffers of its own; the next one on the same file may overtake it.
//!
//! What a process keeps is its user's alone: directories are made with mode 0700 and files with 0600, since among them are
//! keys, and a store full of Secrets.

use bytes::Bytes;
use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Zeros written at once by [`File::allocate`]: large enough that system calls do not count, small enough to keep around.
const ZEROS_BYTES: u64 = 256 << 10;
/// Of files and directories that are made.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

static ZEROS: [u8; ZEROS_BYTES as usize] = [0; ZEROS_BYTES as usize];

#[derive(Clone)]
pub(super) struct Dir {
    path: Arc<str>,
}

#[derive(Clone)]
pub(super) struct File {
    file: Arc<fs::File>,
}

/// The kernel drops the lock with the descriptor, however the process ends.
pub(super) struct Lock {
    _file: fs::File,
}

impl Dir {
    pub(super) async fn open(path: &str) -> io::Result<Self> {
        let path: Arc<str> = path.into();
        let target = PathBuf::from(&*path);
        blocking(move || create_durably(&target)).await?;
        Ok(Dir { path })
    }

    pub(super) async fn sub(&self, name: &str) -> io::Result<Self> {
        let target = self.join(name);
        let path: Arc<str> = format!("{}/{name}", self.path).into();
        blocking(move || match create_dir(&target) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && target.is_dir() => Ok(()),
            other => other,
        })
        .await?;
        Ok(Dir { path })
    }

    pub(super) async fn lock(&self, name: &str) -> io::Result<Lock> {
        let path = self.join(name);
        blocking(move || {
            let mut options = fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
            let file = options.open(path)?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
            Ok(Lock { _file: file })
        })
        .await
    }

    pub(super) async fn list(&self) -> io::Result<Vec<String>> {
        let path = PathBuf::from(&*self.path);
        blocking(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                // A name that is no text cannot be ours; its lossy form tells the reader of a message which it is.
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    pub(super) async fn exists(&self, name: &str) -> io::Result<bool> {
        let path = self.join(name);
        blocking(move || path.try_exists()).await
    }

    pub(super) async fn create(&self, name: &str) -> io::Result<File> {
        self.open_with(name, true).await
    }

    pub(super) async fn open_file(&self, name: &str) -> io::Result<File> {
        self.open_with(name, false).await
    }

    async fn open_with(&self, name: &str, create: bool) -> io::Result<File> {
        let path = self.join(name);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(create).mode(FILE_MODE);
        let file = blocking(move || options.open(path)).await?;
        Ok(File { file: Arc::new(file) })
    }

    pub(super) async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.join(from), self.join(to));
        blocking(move || fs::rename(from, to)).await
    }

    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.join(name);
        blocking(move || fs::remove_file(path)).await
    }

    pub(super) async fn sync(&self) -> io::Result<()> {
        let path = PathBuf::from(&*self.path);
        blocking(move || fs::File::open(path)?.sync_all()).await
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn join(&self, name: &str) -> PathBuf {
        Path::new(&*self.path).join(name)
    }
}

impl File {
    pub(super) async fn len(&self) -> io::Result<u64> {
        let file = self.file.clone();
        blocking(move || Ok(file.metadata()?.len())).await
    }

    pub(super) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = self.file.clone();
        blocking(move || {
            let mut data = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_at(&mut data[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            data.truncate(filled);
            Ok(data)
        })
        .await
    }

    pub(super) async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.write_all_at(&data, offset)).await
    }

    pub(super) async fn allocate(&self, len: u64) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || {
            let mut at = file.metadata()?.len();
            while at < len {
                let n = (len - at).min(ZEROS_BYTES);
                // Written rather than reserved: a reserved extent costs a journal commit when it is first written.
                file.write_all_at(&ZEROS[..n as usize], at)?;
                at += n;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.set_len(len)).await
    }

    pub(super) async fn sync_data(&self) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.sync_data()).await
    }
}

/// Creates `path` and its missing parents, and makes each new name durable in its parent.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.parent().is_some() {
        create_durably(parent)?;
    }
    match create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    fs::File::open(parent)?.sync_all()
}

fn create_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(DIR_MODE).create(path)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(io::Error::other("the runtime is shutting down")),
    }
}
