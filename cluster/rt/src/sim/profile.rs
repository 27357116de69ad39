//! What each kind of task costs: polls and CPU time, when [`Config::profile`](super::Config::profile) asks for it.
//!
//! Inside a simulation every clock that the system offers shows simulated time, so that this reads the processor's own
//! counter, which was compared with the real clock before. Nothing of it reaches the simulation.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What the tasks of one name cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCost {
    /// How often one was polled.
    pub polls: u64,
    /// CPU time in those polls, in nanoseconds. 0 on processors without a counter that can be read.
    pub cpu_ns: u64,
}

/// Costs by name of task.
#[derive(Debug, Default)]
pub(super) struct Profile {
    names: Vec<&'static str>,
    /// Beside `names`: polls and ticks of the counter.
    costs: Vec<(u64, u64)>,
}

impl Profile {
    /// Where the tasks called `name` are counted.
    pub(super) fn entry(&mut self, name: &'static str) -> u32 {
        let entry = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.costs.push((0, 0));
            self.names.len() - 1
        });
        entry as u32
    }

    /// One poll, begun when the counter showed `since`.
    pub(super) fn add(&mut self, entry: u32, since: u64) {
        let cost = &mut self.costs[entry as usize];
        cost.0 += 1;
        cost.1 += ticks().saturating_sub(since);
    }

    pub(super) fn costs(&self) -> BTreeMap<&'static str, TaskCost> {
        let per_ms = u128::from(calibrate()).max(1);
        let cost =
            |&(polls, ticks): &(u64, u64)| TaskCost { polls, cpu_ns: (u128::from(ticks) * 1_000_000 / per_ms) as u64 };
        self.names.iter().copied().zip(self.costs.iter().map(cost)).collect()
    }
}

/// How many ticks of the counter a millisecond has; measured at the first call, which must be outside of a simulation.
pub(super) fn calibrate() -> u64 {
    /// Long enough that reading the clocks does not count.
    const SAMPLE: Duration = Duration::from_millis(5);
    static TICKS_PER_MS: OnceLock<u64> = OnceLock::new();
    *TICKS_PER_MS.get_or_init(|| {
        let (clock, counter) = (Instant::now(), ticks());
        while clock.elapsed() < SAMPLE {}
        let (passed, counted) = (clock.elapsed(), ticks().saturating_sub(counter));
        (u128::from(counted) * 1_000_000 / passed.as_nanos().max(1)) as u64
    })
}

/// The processor's counter.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the one clock that a simulation does not replace")]
pub(super) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has this instruction, and it changes nothing.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// No counter that can be read.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn ticks() -> u64 {
    0
}
