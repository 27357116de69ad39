//! What a process has of its disk: directories, files and locks that are worthless once it is gone.

use super::image::{FileImage, SECTOR};
use super::{Node, SimDisk, State, locked};
use crate::random::Random;
use crate::sim::{Executor, turmoil};
use bytes::Bytes;
use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// What an operation costs on a healthy disk.
#[derive(Clone, Copy)]
pub(super) enum Cost {
    /// Served by the page cache: nothing.
    Cached,
    Sync,
}

/// A process' access to its disk.
#[derive(Clone)]
pub(super) struct Session {
    disk: SimDisk,
    process: u64,
}

impl Session {
    pub(super) fn new(disk: SimDisk, process: u64) -> Session {
        Session { disk, process }
    }

    pub(super) async fn open_dir(self, path: &str) -> io::Result<Dir> {
        self.take_time(Cost::Cached).await;
        let path = self.state().make_dirs(path)?.into();
        Ok(Dir { session: self, path })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.disk.state()
    }

    /// Waits as long as the operation takes. Never ends for a process that is gone.
    async fn take_time(&self, cost: Cost) {
        self.admitted().await;
        let ns = self.state().time_for(cost);
        if ns > 0 {
            sleep(Duration::from_nanos(ns)).await;
            self.admitted().await;
        }
    }

    /// Waits while the disk is stalled. Never ends for a process that is gone.
    async fn admitted(&self) {
        loop {
            let healed = {
                let state = self.state();
                let lies = &state.config.lies;
                let alive = state.powered && (state.process == self.process || lies.dead_processes_go_on);
                if alive && (!state.faults.stalled || lies.stall_completes) {
                    return;
                }
                // Made under the lock: a healing from here on wakes it.
                alive.then(|| self.disk.0.healed.notified())
            };
            match healed {
                Some(healed) => healed.await,
                None => std::future::pending().await,
            }
        }
    }
}

#[derive(Clone)]
pub(in crate::disk) struct Dir {
    session: Session,
    path: Arc<str>,
}

impl Dir {
    pub(in crate::disk) async fn sub(&self, name: &str) -> io::Result<Dir> {
        let path = self.operation().await.make_dir(&self.path, name)?;
        Ok(Dir { session: self.session.clone(), path: path.into() })
    }

    pub(in crate::disk) async fn lock(&self, name: &str) -> io::Result<Lock> {
        let mut state = self.operation().await;
        let path = format!("{}/{name}", self.path);
        if state.locks.contains_key(&path) && !state.config.lies.locks_are_shared {
            return Err(ErrorKind::WouldBlock.into());
        }
        if state.names(&self.path)?.get(name).is_none() {
            state.create(&self.path, name)?;
        }
        let id = state.next_lock;
        state.next_lock += 1;
        state.locks.insert(path.clone(), id);
        drop(state);
        Ok(Lock { session: self.session.clone(), path, id })
    }

    pub(in crate::disk) async fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.operation().await;
        Ok(state.names(&self.path)?.iter().map(|(name, _)| name.clone()).collect())
    }

    pub(in crate::disk) async fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.operation().await.names(&self.path)?.get(name).is_some())
    }

    pub(in crate::disk) async fn create(&self, name: &str) -> io::Result<File> {
        let image = self.operation().await.create(&self.path, name)?;
        Ok(File { session: self.session.clone(), image })
    }

    pub(in crate::disk) async fn open_file(&self, name: &str) -> io::Result<File> {
        let image = self.operation().await.file(&self.path, name)?;
        Ok(File { session: self.session.clone(), image })
    }

    pub(in crate::disk) async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.operation().await;
        state.file(&self.path, from)?;
        let replaced = match state.names(&self.path)?.get(to) {
            Some(Node::Dir) => return Err(ErrorKind::IsADirectory.into()),
            Some(Node::File(image)) if from != to => Some(image.clone()),
            Some(Node::File(_)) | None => None,
        };
        let permille = state.faults.write_error_permille;
        state.fail(permille)?;
        state.names(&self.path)?.rename(from, to);
        if let Some(replaced) = replaced {
            state.unlink(&replaced);
        }
        Ok(())
    }

    pub(in crate::disk) async fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.operation().await;
        let image = state.file(&self.path, name)?;
        let permille = state.faults.write_error_permille;
        state.fail(permille)?;
        state.names(&self.path)?.remove(name);
        state.unlink(&image);
        Ok(())
    }

    pub(in crate::disk) async fn sync(&self) -> io::Result<()> {
        let point = self.operation().await.names(&self.path)?.sync_point();
        self.session.take_time(Cost::Sync).await;
        let mut state = self.session.state();
        let permille = state.faults.sync_error_permille;
        state.fail(permille)?;
        if !state.config.lies.synced_names_are_lost {
            state.names(&self.path)?.synced(point);
        }
        state.stats.syncs += 1;
        Ok(())
    }

    pub(in crate::disk) fn path(&self) -> &str {
        &self.path
    }

    /// The disk, once it serves an operation on its names.
    async fn operation(&self) -> MutexGuard<'_, State> {
        self.session.take_time(Cost::Cached).await;
        self.session.state()
    }
}

#[derive(Clone)]
pub(in crate::disk) struct File {
    session: Session,
    image: Arc<Mutex<FileImage>>,
}

impl File {
    pub(in crate::disk) async fn len(&self) -> io::Result<u64> {
        self.session.take_time(Cost::Cached).await;
        Ok(self.image().len())
    }

    pub(in crate::disk) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.session.take_time(Cost::Cached).await;
        let mut state = self.session.state();
        let permille = state.faults.read_error_permille;
        state.fail(permille)?;
        state.stats.reads += 1;
        let mut data = self.image().read(offset, len);
        if state.config.lies.reads_are_wrong
            && let Some(first) = data.first_mut()
        {
            *first ^= 1;
        }
        Ok(data)
    }

    pub(in crate::disk) async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        self.session.take_time(Cost::Cached).await;
        let mut state = self.session.state();
        let mut image = self.image();
        let before = image.len();
        let end = offset + data.len() as u64;
        if end > before || state.config.lies.full_refuses_overwriting {
            state.make_room(end.saturating_sub(before))?;
        }
        let permille = state.faults.write_error_permille;
        let failed = state.fail(permille);
        let data = match failed {
            Ok(()) => data,
            Err(_) if state.config.lies.failed_writes_change_nothing => Bytes::new(),
            Err(_) => some_sectors(offset, data, &mut state.random),
        };
        if !data.is_empty() {
            state.stats.writes += 1;
            state.stats.bytes_written += data.len() as u64;
            image.write(offset, data);
            state.resized(&image, before);
        }
        failed
    }

    pub(in crate::disk) async fn allocate(&self, len: u64) -> io::Result<()> {
        self.session.take_time(Cost::Cached).await;
        if self.image().len() >= len { Ok(()) } else { self.resize(len) }
    }

    pub(in crate::disk) async fn set_len(&self, len: u64) -> io::Result<()> {
        self.session.take_time(Cost::Cached).await;
        self.resize(len)
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        let mut state = self.session.state();
        let mut image = self.image();
        let before = image.len();
        if len > before {
            state.make_room(len - before)?;
        }
        let permille = state.faults.write_error_permille;
        state.fail(permille)?;
        image.set_len(len);
        state.resized(&image, before);
        Ok(())
    }

    pub(in crate::disk) async fn sync_data(&self) -> io::Result<()> {
        let point = self.image().sync_point();
        self.session.take_time(Cost::Sync).await;
        let mut state = self.session.state();
        let permille = state.faults.sync_error_permille;
        let failed = state.fail(permille);
        match &failed {
            Ok(()) => self.image().synced(point, &state.config.lies),
            Err(_) => self.image().sync_failed(point, &state.config.lies),
        }
        state.stats.syncs += u64::from(failed.is_ok());
        failed
    }

    fn image(&self) -> MutexGuard<'_, FileImage> {
        locked(&self.image)
    }
}

pub(in crate::disk) struct Lock {
    session: Session,
    path: String,
    id: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.session.state();
        if state.locks.get(&self.path) == Some(&self.id) {
            state.locks.remove(&self.path);
        }
    }
}

/// The first few sectors of a write, as many as chance has it.
fn some_sectors(offset: u64, mut data: Bytes, random: &mut Random) -> Bytes {
    let end = offset + data.len() as u64;
    let first = offset / SECTOR;
    let kept = random.below(end.div_ceil(SECTOR) - first + 1);
    let kept_end = ((first + kept) * SECTOR).clamp(offset, end);
    data.truncate((kept_end - offset) as usize);
    data
}

/// A wait in true time. madsim rounds sleeps up to a millisecond, but not those that are set anew.
async fn sleep(duration: Duration) {
    if crate::context::with(|node| matches!(node.executor, Executor::Turmoil(_))) == Some(true) {
        return turmoil::sleep(duration).await;
    }
    let deadline = madsim::time::TimeHandle::current().now_instant() + duration;
    let mut sleep = madsim::time::sleep(duration);
    Pin::new(&mut sleep).reset(deadline);
    sleep.await;
}
