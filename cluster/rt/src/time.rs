//! Time: the monotonic clock, the wall clock, sleeping and timeouts, all of this node.
//!
//! [`Instant`] and [`Timestamp`] are our own types, so that nothing mixes them with the machine's clocks by accident.
//! In the simulator each host has a monotonic clock with a rate of its own (0 = frozen) and a wall clock that is off by
//! an amount of its own. Sleeps follow the node's clock: when its rate changes, those under way end earlier or later.

use std::future::{Future, poll_fn};
use std::ops::{Add, Sub};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(madsim)]
use crate::sim::{Executor, timers, turmoil};

/// A point on this node's monotonic clock. Never goes back while the process lives; means nothing to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Since a point of the node's own choosing.
    ns: u64,
}

impl Instant {
    /// Now, by this node's monotonic clock.
    pub fn now() -> Instant {
        #[cfg(madsim)]
        if let Some(ns) = crate::context::with(|node| node.world.monotonic_ns(node.host)) {
            return Instant { ns };
        }
        Instant { ns: nanoseconds(origin().elapsed()) }
    }

    /// How long ago this was; zero if it is yet to come.
    pub fn elapsed(self) -> Duration {
        Instant::now() - self
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the end of time.
    fn add(self, duration: Duration) -> Instant {
        Instant { ns: self.ns.saturating_add(nanoseconds(duration)) }
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Zero if `earlier` is later.
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }
}

/// A point on this node's wall clock, which may be wrong, jump and go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Nanoseconds since 1970 in UTC.
    pub unix_ns: i64,
}

impl Timestamp {
    /// Now, as this node believes.
    pub fn now() -> Timestamp {
        #[cfg(madsim)]
        if let Some(unix_ns) = crate::context::with(|node| node.world.wall_ns(node.host)) {
            return Timestamp { unix_ns };
        }
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let unix_ns = match since {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        };
        Timestamp { unix_ns }
    }
}

/// Completes when `duration` has passed on this node's monotonic clock, counted from this call: the clock is that of
/// whoever calls, whatever task awaits it.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Completes when this node's monotonic clock has reached `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    #[cfg(madsim)]
    if let Some(timer) = crate::context::with(|node| node.sleep(deadline.ns)) {
        return Sleep { deadline, timer };
    }
    Sleep { deadline, timer: Timer::Real(None) }
}

/// What [`sleep`] and [`sleep_until`] return. Dropping it costs nothing later.
#[derive(Debug)]
#[must_use = "it sleeps only while it is awaited"]
pub struct Sleep {
    deadline: Instant,
    timer: Timer,
}

#[derive(Debug)]
enum Timer {
    /// Made at the first poll, inside of tokio's runtime.
    Real(Option<Pin<Box<tokio::time::Sleep>>>),
    #[cfg(madsim)]
    Sim(timers::Timer),
    #[cfg(madsim)]
    Turmoil(turmoil::Sleep),
}

#[cfg(madsim)]
impl crate::context::NodeContext {
    /// Until this node's monotonic clock shows `deadline`.
    fn sleep(&self, deadline: u64) -> Timer {
        match &self.executor {
            Executor::Madsim(_) => Timer::Sim(self.world.timer(self.host, deadline)),
            Executor::Turmoil(_) => Timer::Turmoil(turmoil::Sleep::until(&self.world, self.host, deadline)),
        }
    }
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        match &mut self.timer {
            Timer::Real(sleep) => {
                sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline - Instant::now()))).as_mut().poll(cx)
            }
            #[cfg(madsim)]
            Timer::Sim(timer) => timer.poll(cx),
            #[cfg(madsim)]
            Timer::Turmoil(timer) => Pin::new(timer).poll(cx),
        }
    }
}

/// The time of a [`timeout`] was up before its future completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not within the time allowed")]
pub struct Elapsed;

/// Drives `future` for at most `duration` on this node's monotonic clock. A future that completes at the last moment
/// wins.
///
/// # Errors
/// [`Elapsed`] when the time is up; the future is dropped, with whatever it had begun.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = sleep(duration);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// Where the real monotonic clock counts from: its first reading in this process.
fn origin() -> std::time::Instant {
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    *ORIGIN.get_or_init(std::time::Instant::now)
}

/// `duration` in nanoseconds, of which 64 bits hold 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
