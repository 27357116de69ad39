//! The simulated disk: one per host, in memory, with a page cache that power loss empties.
//!
//! ```text
//! process ─ops─> Session ─admitted?─> names, images (cache) ──sync──> durable
//!                            ^
//! harness ─ kill · power_off · power_on · set_faults ─┘
//! ```
//!
//! - Writes and reads are done at once, in the page cache; a sync takes the time that [`DiskConfig`] says.
//! - A killed process leaves the page cache behind. Nothing that it began completes, and its locks are free.
//! - Power loss keeps what was synced. Of the rest each 512-byte sector, each file's size and the first few changes of a
//!   directory's names are kept or lost at random, also while a sync is under way.
//! - A failed sync of a file is final: what it covers never becomes durable. A failed sync of a directory leaves its
//!   changes to the next one, as a journal does.
//! - A write that fails may have changed the first few sectors that it covers.
//! - A full disk refuses what needs new space and serves everything else. A stalled one completes nothing until healed.
//!
//! All chance comes from the disk's own stream. Nothing polls.

mod config;
mod image;
mod names;

pub use config::{DiskConfig, DiskFaults, DiskStats, Lies};

use crate::random::Random;
use bytes::Bytes;
use image::{FileImage, SECTOR};
use names::Names;
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// What a slow disk multiplies for an operation that a healthy one serves at once from its page cache.
const CACHED_NS: u64 = 10_000;
/// Linux' numbers, so that the errors look as those of a real disk do.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A host's disk. Clones are the same disk. Outlives the host's processes and its power.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes those who wait for a stalled disk.
    healed: Notify,
}

struct State {
    config: DiskConfig,
    faults: DiskFaults,
    random: Random,
    stats: DiskStats,
    /// Counts the processes that used this disk: operations of earlier ones have no effect.
    process: u64,
    powered: bool,
    /// Directories by absolute path; the root's is empty.
    dirs: BTreeMap<String, Names<Node>>,
    /// Who holds the lock at each path.
    locks: BTreeMap<String, u64>,
    next_lock: u64,
    /// Sizes of all linked files together.
    used_bytes: u64,
}

#[derive(Clone)]
enum Node {
    File(Arc<Mutex<FileImage>>),
    Dir,
}

impl SimDisk {
    /// An empty disk. `random` serves this disk alone.
    pub fn new(config: DiskConfig, random: Random) -> SimDisk {
        assert!(
            config.sync_min <= config.sync_max,
            "a sync takes at least its shortest time"
        );
        SimDisk(Arc::new(Shared {
            state: Mutex::new(State {
                config,
                faults: DiskFaults::default(),
                random,
                stats: DiskStats::default(),
                process: 0,
                powered: true,
                dirs: BTreeMap::from([(String::new(), Names::default())]),
                locks: BTreeMap::new(),
                next_lock: 0,
                used_bytes: 0,
            }),
            healed: Notify::new(),
        }))
    }

    /// The disk of the host that the current task runs on, if it is a simulated one.
    pub(super) fn of_this_task() -> Option<SimDisk> {
        crate::context::with(|node| SimDisk::clone(&node.disk))
    }

    /// The process that uses this disk died. What it wrote stays in the page cache, its locks are free.
    pub fn kill(&self) {
        let mut state = self.state();
        state.end_process();
        if state.config.lies.kill_loses_page_cache {
            state.lose_cache();
        }
    }

    /// The host lost power: its process died, and what was not synced is lost, torn or out of order.
    pub fn power_off(&self) {
        let mut state = self.state();
        state.end_process();
        state.lose_cache();
        state.powered = false;
    }

    /// Power is back.
    pub fn power_on(&self) {
        self.state().powered = true;
    }

    /// Sets what is wrong from now on. What waited for a stalled disk goes on when it is healed.
    pub fn set_faults(&self, faults: DiskFaults) {
        let mut state = self.state();
        state.faults = faults;
        if !faults.stalled && !state.config.lies.stall_never_ends {
            self.0.healed.notify_waiters();
        }
    }

    /// What is wrong at the moment.
    pub fn faults(&self) -> DiskFaults {
        self.state().faults
    }

    /// What it did so far.
    pub fn stats(&self) -> DiskStats {
        self.state().stats
    }

    pub(super) async fn open_dir(&self, path: &str) -> io::Result<Dir> {
        let session = Session {
            disk: self.clone(),
            process: self.state().process,
        };
        session.take_time(Cost::Cached).await;
        let path = session.state().make_dirs(path)?;
        Ok(Dir {
            session,
            path: path.into(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }
}

impl State {
    fn end_process(&mut self) {
        self.process += 1;
        if !self.config.lies.locks_outlive_processes {
            self.locks.clear();
        }
    }

    fn lose_cache(&mut self) {
        let State {
            dirs,
            random,
            config,
            ..
        } = self;
        let paths: Vec<String> = dirs.keys().cloned().collect();
        // Parents come before their children.
        for path in paths {
            let exists = match path.rsplit_once('/') {
                None => true,
                Some((parent, name)) => dirs
                    .get(parent)
                    .is_some_and(|names| matches!(names.get(name), Some(Node::Dir))),
            };
            if !exists {
                dirs.remove(&path);
            } else if let Some(names) = dirs.get_mut(&path) {
                names.power_loss(random, &config.lies);
            }
        }
        self.used_bytes = 0;
        for names in self.dirs.values() {
            for (_, node) in names.iter() {
                if let Node::File(image) = node {
                    let mut image = locked(image);
                    image.power_loss(&mut self.random, &self.config.lies);
                    image.linked = true;
                    self.used_bytes += image.len();
                }
            }
        }
    }

    /// How long an operation takes now, in nanoseconds.
    fn time_for(&mut self, cost: Cost) -> u64 {
        let lies = &self.config.lies;
        let slow = if lies.slow_is_fast {
            1
        } else {
            u64::from(self.faults.slow.max(1))
        };
        match cost {
            Cost::Cached if slow == 1 => 0,
            Cost::Cached => CACHED_NS * slow,
            Cost::Sync if lies.sync_is_instant => 0,
            Cost::Sync => {
                let span = self.config.sync_max - self.config.sync_min;
                let healthy = self.config.sync_min + self.random.jitter(span);
                u64::try_from(healthy.as_nanos())
                    .unwrap_or(u64::MAX)
                    .saturating_mul(slow)
            }
        }
    }

    /// Whether an operation fails that does so with probability `permille`.
    fn fail(&mut self, permille: u32) -> io::Result<()> {
        if permille > 0 && self.random.chance(permille) && !self.config.lies.errors_are_swallowed {
            self.stats.failed += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    /// Whether `bytes` more fit.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let fits = self.used_bytes.saturating_add(bytes) <= self.config.capacity_bytes;
        if (fits && !self.faults.full) || self.config.lies.full_accepts {
            return Ok(());
        }
        self.stats.failed += 1;
        Err(io::Error::from_raw_os_error(ENOSPC))
    }

    /// Opens the directory at `path`, creating what is missing, durably. Returns its path in our form.
    fn make_dirs(&mut self, path: &str) -> io::Result<String> {
        let mut at = String::new();
        for name in path
            .split('/')
            .filter(|name| !name.is_empty() && *name != ".")
        {
            let below = self.make_dir(&at, name)?;
            let names = self.names(&at)?;
            names.synced(names.sync_point());
            at = below;
        }
        Ok(at)
    }

    /// The directory `name` in the one at `path`, created when it is missing.
    fn make_dir(&mut self, path: &str, name: &str) -> io::Result<String> {
        let below = format!("{path}/{name}");
        match self.names(path)?.get(name) {
            Some(Node::Dir) => {}
            Some(Node::File(_)) => return Err(ErrorKind::AlreadyExists.into()),
            None => {
                self.fail(self.faults.write_error_permille)?;
                self.make_room(1)?;
                self.names(path)?.put(name, Node::Dir);
                self.dirs.insert(below.clone(), Names::default());
            }
        }
        Ok(below)
    }

    fn names(&mut self, path: &str) -> io::Result<&mut Names<Node>> {
        self.dirs
            .get_mut(path)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn file(&mut self, path: &str, name: &str) -> io::Result<Arc<Mutex<FileImage>>> {
        match self.names(path)?.get(name) {
            Some(Node::File(image)) => Ok(image.clone()),
            Some(Node::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &str, name: &str) -> io::Result<Arc<Mutex<FileImage>>> {
        if self.names(path)?.get(name).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.fail(self.faults.write_error_permille)?;
        // A name alone takes next to nothing, but a full disk has not even that.
        self.make_room(1)?;
        let image = Arc::new(Mutex::new(FileImage::linked()));
        self.names(path)?.put(name, Node::File(image.clone()));
        Ok(image)
    }

    /// The file loses its name; its space is free.
    fn unlink(&mut self, image: &Mutex<FileImage>) {
        let mut image = locked(image);
        image.linked = false;
        self.used_bytes -= image.len();
    }

    /// Notes that a file changed its size.
    fn resized(&mut self, image: &FileImage, before: u64) {
        if image.linked {
            self.used_bytes = self.used_bytes + image.len() - before;
        }
    }
}

/// What an operation costs on a healthy disk.
#[derive(Clone, Copy)]
enum Cost {
    /// Served by the page cache: nothing.
    Cached,
    Sync,
}

/// A process' access to its disk.
#[derive(Clone)]
struct Session {
    disk: SimDisk,
    process: u64,
}

impl Session {
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
                let alive =
                    state.powered && (state.process == self.process || lies.dead_processes_go_on);
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
pub(super) struct Dir {
    session: Session,
    path: Arc<str>,
}

impl Dir {
    pub(super) async fn sub(&self, name: &str) -> io::Result<Dir> {
        let path = self.operation().await.make_dir(&self.path, name)?;
        Ok(Dir {
            session: self.session.clone(),
            path: path.into(),
        })
    }

    pub(super) async fn lock(&self, name: &str) -> io::Result<Lock> {
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
        Ok(Lock {
            session: self.session.clone(),
            path,
            id,
        })
    }

    pub(super) async fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.operation().await;
        Ok(state
            .names(&self.path)?
            .iter()
            .map(|(name, _)| name.clone())
            .collect())
    }

    pub(super) async fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self
            .operation()
            .await
            .names(&self.path)?
            .get(name)
            .is_some())
    }

    pub(super) async fn create(&self, name: &str) -> io::Result<File> {
        let image = self.operation().await.create(&self.path, name)?;
        Ok(File {
            session: self.session.clone(),
            image,
        })
    }

    pub(super) async fn open_file(&self, name: &str) -> io::Result<File> {
        let image = self.operation().await.file(&self.path, name)?;
        Ok(File {
            session: self.session.clone(),
            image,
        })
    }

    pub(super) async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
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

    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.operation().await;
        let image = state.file(&self.path, name)?;
        let permille = state.faults.write_error_permille;
        state.fail(permille)?;
        state.names(&self.path)?.remove(name);
        state.unlink(&image);
        Ok(())
    }

    pub(super) async fn sync(&self) -> io::Result<()> {
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

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The disk, once it serves an operation on its names.
    async fn operation(&self) -> MutexGuard<'_, State> {
        self.session.take_time(Cost::Cached).await;
        self.session.state()
    }
}

#[derive(Clone)]
pub(super) struct File {
    session: Session,
    image: Arc<Mutex<FileImage>>,
}

impl File {
    pub(super) async fn len(&self) -> io::Result<u64> {
        self.session.take_time(Cost::Cached).await;
        Ok(self.image().len())
    }

    pub(super) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
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

    pub(super) async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
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

    pub(super) async fn allocate(&self, len: u64) -> io::Result<()> {
        self.session.take_time(Cost::Cached).await;
        if self.image().len() >= len {
            Ok(())
        } else {
            self.resize(len)
        }
    }

    pub(super) async fn set_len(&self, len: u64) -> io::Result<()> {
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

    pub(super) async fn sync_data(&self) -> io::Result<()> {
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

pub(super) struct Lock {
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
    let deadline = madsim::time::TimeHandle::current().now_instant() + duration;
    let mut sleep = madsim::time::sleep(duration);
    Pin::new(&mut sleep).reset(deadline);
    sleep.await;
}

/// A panic of one process must not reach the next through a poisoned lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
