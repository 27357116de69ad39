//! The clocks of a decision, read once per decision.

use crate::controller::Now;
use api::Timestamp;
use rt::time::Instant;

/// Reads [`Now`], counting monotonic time from the point at which this was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Counts from now on.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time of a decision that is made now.
    pub fn now(&self) -> Now {
        Now { wall: wall(), monotonic: Instant::now() - self.origin }
    }

    /// When [`Now::monotonic`] is `at`.
    pub fn instant(&self, at: std::time::Duration) -> Instant {
        self.origin + at
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// The wall clock, as this host believes.
pub fn wall() -> Timestamp {
    let unix_ns = rt::time::Timestamp::now().unix_ns;
    Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}
