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
mod session;

pub use config::{DiskConfig, DiskFaults, DiskStats, Lies};
pub(super) use session::{Dir, File, Lock};

use crate::random::Random;
use image::FileImage;
use names::Names;
use session::{Cost, Session};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
        assert!(config.sync_min <= config.sync_max, "a sync takes at least its shortest time");
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

    /// Another disk takes this one's place, an empty one. To be called while the power is off.
    pub fn replace(&self) {
        let mut state = self.state();
        state.dirs = BTreeMap::from([(String::new(), Names::default())]);
        state.used_bytes = 0;
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
        let session = Session::new(self.clone(), self.state().process);
        session.open_dir(path).await
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
        let State { dirs, random, config, .. } = self;
        let paths: Vec<String> = dirs.keys().cloned().collect();
        // Parents come before their children.
        for path in paths {
            let exists = match path.rsplit_once('/') {
                None => true,
                Some((parent, name)) => {
                    dirs.get(parent).is_some_and(|names| matches!(names.get(name), Some(Node::Dir)))
                }
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
        let slow = if lies.slow_is_fast { 1 } else { u64::from(self.faults.slow.max(1)) };
        match cost {
            Cost::Cached if slow == 1 => 0,
            Cost::Cached => CACHED_NS * slow,
            Cost::Sync if lies.sync_is_instant => 0,
            Cost::Sync => {
                let span = self.config.sync_max - self.config.sync_min;
                let healthy = self.config.sync_min + self.random.jitter(span);
                u64::try_from(healthy.as_nanos()).unwrap_or(u64::MAX).saturating_mul(slow)
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
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
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
        self.dirs.get_mut(path).ok_or_else(|| ErrorKind::NotFound.into())
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

/// A panic of one process must not reach the next through a poisoned lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
