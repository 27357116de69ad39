//! The time of a trial with real processes: the machine's wall clock, which their logs go by too.

use faults::Ns;
use std::time::{SystemTime, UNIX_EPOCH};

/// Counts from when the trial began. A clock that is set meanwhile spoils the trial.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    begun_ns: u64,
}

impl Clock {
    /// The trial begins now.
    pub(crate) fn begin() -> Self {
        Self { begun_ns: wall_ns() }
    }

    /// Since the trial began.
    pub(crate) fn now_ns(self) -> Ns {
        self.of_wall(wall_ns())
    }

    /// What the wall clock calls by this many nanoseconds since 1970; 0 for what was before the trial.
    pub(crate) fn of_wall(self, wall_ns: u64) -> Ns {
        wall_ns.saturating_sub(self.begun_ns)
    }
}

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Until the year 2554 it fits.
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
