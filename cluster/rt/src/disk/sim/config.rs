//! What a simulated disk is like, what is wrong with it, and the lies by which its checks are checked.

use crate::lies::lies;
use std::time::Duration;

/// What a healthy disk is like.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// The shortest time that a sync takes.
    pub sync_min: Duration,
    /// The longest time that a sync takes.
    pub sync_max: Duration,
    /// Bytes that fit on it. A file takes as much as its size.
    pub capacity_bytes: u64,
    /// Sentences of the disk's model to break on purpose.
    pub lies: Lies,
}

impl Default for DiskConfig {
    /// A fast SSD without bounds.
    fn default() -> Self {
        DiskConfig {
            sync_min: Duration::from_micros(500),
            sync_max: Duration::from_millis(2),
            capacity_bytes: u64::MAX,
            lies: Lies::NONE,
        }
    }
}

/// What is wrong with a disk at the moment. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Each write, and each change of a name, fails with EIO with this probability, in thousandths.
    pub write_error_permille: u32,
    /// Each sync fails with EIO with this probability, in thousandths.
    pub sync_error_permille: u32,
    /// Each read fails with EIO with this probability, in thousandths.
    pub read_error_permille: u32,
    /// No operation completes.
    pub stalled: bool,
    /// Every operation takes this many times as long; 0 and 1 are the healthy speed.
    pub slow: u32,
    /// Nothing that needs new space succeeds.
    pub full: bool,
}

/// What a disk did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Reads served.
    pub reads: u64,
    /// Writes done.
    pub writes: u64,
    /// Bytes written by them.
    pub bytes_written: u64,
    /// Syncs done, of files and directories.
    pub syncs: u64,
    /// Operations that failed because of a fault.
    pub failed: u64,
}

lies! {
    /// Switches, each of which breaks one sentence of the disk's model, to show that a check notices.
    pub struct Lies {
        /// A read returns other bytes than were written.
        reads_are_wrong,
        /// Power loss keeps what was not synced.
        unsynced_survives,
        /// A sync that succeeded made nothing durable.
        synced_is_lost,
        /// A sync makes content durable but not the size.
        size_is_not_synced,
        /// A write survives power loss as a whole or not at all.
        writes_never_tear,
        /// Those writes survive that came first.
        writes_keep_their_order,
        /// A sector may survive in part.
        sectors_tear,
        /// Killing the process loses what was not synced.
        kill_loses_page_cache,
        /// What a killed process began still has its effect.
        dead_processes_go_on,
        /// Names survive power loss without a sync of their directory.
        unsynced_names_survive,
        /// A sync of a directory that succeeded made nothing durable.
        synced_names_are_lost,
        /// A later change of a directory may survive where an earlier one is lost.
        names_change_their_order,
        /// A later sync makes up for a failed one.
        failed_sync_is_made_up_for,
        /// What a failed sync covered is gone from the cache at once.
        failed_sync_is_hidden,
        /// Faults that should make operations fail do not.
        errors_are_swallowed,
        /// A write that fails never changes anything.
        failed_writes_change_nothing,
        /// A full disk accepts whatever is written.
        full_accepts,
        /// A full disk refuses also what needs no space.
        full_refuses_overwriting,
        /// Operations complete while the disk is stalled.
        stall_completes,
        /// What waited for a stalled disk waits on when it is healed.
        stall_never_ends,
        /// A sync takes no time.
        sync_is_instant,
        /// A slow disk is as fast as any.
        slow_is_fast,
        /// Two may hold the same lock.
        locks_are_shared,
        /// A lock outlives the process that held it.
        locks_outlive_processes,
    }
}
