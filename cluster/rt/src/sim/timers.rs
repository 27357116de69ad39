//! The clocks of all hosts, and everything that sleeps by them.
//!
//! A clock is `monotonic = base + (true time - base's true time) * rate`, and wall = epoch + monotonic + offset. A
//! change of rate moves the base to now, so that the clock is continuous, and enters every sleep under way anew, as does a
//! jump; nothing polls. A sleep on a frozen clock has no event at all.
//!
//! ```text
//! Timer::poll -> slot {deadline by its clock, waker} -> agenda (true time) -> driver -> waker
//! ```
//!
//! A sleep that is dropped frees its slot and leaves a stale entry behind, which is skipped when it comes to the top
//! and swept out when such entries outnumber the rest: most timeouts are never reached.
//!
//! **Invariant:** a sleep never ends before its clock has reached its deadline, nor more than a few microseconds of
//! true time after (`sleeps_end_when_their_own_clock_says_so` in tests/clocks.rs).

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use madsim::time::TimeHandle;

use super::agenda::{Agenda, Ns};
use super::lock;

/// A clock that keeps true time.
pub(crate) const TRUE_RATE: u32 = 1000;
/// What every wall clock shows at the beginning when it is right: a time of day like any other, in 2023.
const EPOCH_NS: i64 = 1_700_000_000_000_000_000;
/// Fewer stale entries than this are not worth sweeping.
const SWEEP_MIN: usize = 1024;

/// How a host's clocks stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Monotonic clock, in nanoseconds since the host's last boot.
    pub monotonic_ns: u64,
    /// Wall clock, in nanoseconds since 1970.
    pub wall_ns: i64,
    /// Speed of both, in thousandths of true time; 0 is frozen.
    pub rate_permille: u32,
    /// What [`World::set_wall_offset`](super::World::set_wall_offset) last set.
    pub wall_offset_ns: i64,
}

/// One host's clock.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// True time at which the rate last changed.
    base_true: Ns,
    /// What the clock showed then.
    base: Ns,
    /// Thousandths of true time.
    rate: u32,
    /// What the clock showed when the host last booted, where its monotonic clock began again.
    boot: Ns,
    wall_offset: i64,
}

impl Clock {
    const TRUE: Clock = Clock { base_true: 0, base: 0, rate: TRUE_RATE, boot: 0, wall_offset: 0 };

    fn at(&self, now: Ns) -> Ns {
        let passed = now - self.base_true;
        if self.rate == TRUE_RATE {
            return self.base + passed;
        }
        self.base + (u128::from(passed) * u128::from(self.rate) / u128::from(TRUE_RATE)) as Ns
    }

    /// True time at which the clock shows `local`, at its present rate; `None` if never.
    fn reaches(&self, local: Ns) -> Option<Ns> {
        let ahead = local.saturating_sub(self.base);
        match self.rate {
            0 => None,
            TRUE_RATE => self.base_true.checked_add(ahead),
            rate => {
                let wait = (u128::from(ahead) * u128::from(TRUE_RATE)).div_ceil(u128::from(rate));
                self.base_true.checked_add(u64::try_from(wait).ok()?)
            }
        }
    }
}

/// Entry of the agenda: the slot that it is for, and the ticket that the slot must still hold.
struct Ring {
    slot: u32,
    ticket: u64,
}

struct Slot {
    clock: u32,
    /// By the clock, counted from the simulation's beginning, not from boot.
    deadline: Ns,
    waker: Option<Waker>,
    /// Of its entry in the agenda; 0 without one.
    ticket: u64,
    rung: bool,
}

/// All clocks and sleeps of a simulation.
pub(crate) struct Timers {
    agenda: Agenda<Ring>,
    /// By host.
    clocks: Vec<Clock>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    tickets: u64,
}

impl Timers {
    pub(crate) fn new(time: TimeHandle) -> Self {
        Timers { agenda: Agenda::new(time), clocks: Vec::new(), slots: Vec::new(), free: Vec::new(), tickets: 0 }
    }

    /// A clock for the next host, keeping true time.
    pub(crate) fn add_clock(&mut self) {
        self.clocks.push(Clock::TRUE);
    }

    pub(crate) fn now(&self) -> Ns {
        self.agenda.now()
    }

    /// What the monotonic clock shows at the true time `now`.
    pub(crate) fn monotonic(&self, clock: u32, now: Ns) -> Ns {
        let clock = &self.clocks[clock as usize];
        clock.at(now) - clock.boot
    }

    /// What the wall clock shows at the true time `now`.
    pub(crate) fn wall(&self, clock: u32, now: Ns) -> i64 {
        let clock = &self.clocks[clock as usize];
        EPOCH_NS.saturating_add_unsigned(clock.at(now)).saturating_add(clock.wall_offset)
    }

    pub(crate) fn state(&self, clock: u32, now: Ns) -> ClockState {
        let c = &self.clocks[clock as usize];
        ClockState {
            monotonic_ns: self.monotonic(clock, now),
            wall_ns: self.wall(clock, now),
            rate_permille: c.rate,
            wall_offset_ns: c.wall_offset,
        }
    }

    /// `deadline`, counted from the host's last boot, such that the next boot does not move it.
    pub(crate) fn across_boots(&self, clock: u32, deadline: Ns) -> Ns {
        deadline.saturating_add(self.clocks[clock as usize].boot)
    }

    /// True time from `now` until the clock shows `deadline`, counted across boots, at its present rate; `None` if it
    /// never will.
    pub(crate) fn left(&self, clock: u32, deadline: Ns, now: Ns) -> Option<Ns> {
        Some(self.clocks[clock as usize].reaches(deadline)?.saturating_sub(now))
    }

    /// The monotonic clock begins again from zero at the true time `now`; the wall clock goes on.
    pub(crate) fn boot(&mut self, clock: u32, now: Ns) {
        let clock = &mut self.clocks[clock as usize];
        clock.boot = clock.at(now);
    }

    pub(crate) fn set_wall_offset(&mut self, clock: u32, ns: i64) {
        self.clocks[clock as usize].wall_offset = ns;
    }

    /// The clock runs at this rate from the true time `now` on.
    pub(crate) fn set_rate(&mut self, clock: u32, permille: u32, now: Ns) {
        let c = &mut self.clocks[clock as usize];
        *c = Clock { base_true: now, base: c.at(now), rate: permille, ..*c };
        self.enter_all_of(clock);
    }

    /// The clock shows so much more from the true time `now` on, in no time.
    pub(crate) fn jump(&mut self, clock: u32, ahead: Ns, now: Ns) {
        let c = &mut self.clocks[clock as usize];
        *c = Clock { base_true: now, base: c.at(now).saturating_add(ahead), ..*c };
        self.enter_all_of(clock);
    }

    /// Enters every sleep under way of a clock anew: it is no longer what it was.
    fn enter_all_of(&mut self, clock: u32) {
        for slot in 0..self.slots.len() {
            let s = &self.slots[slot];
            if s.clock == clock && s.waker.is_some() && !s.rung {
                self.enter(slot as u32);
            }
        }
    }

    /// What the driver does when woken.
    pub(crate) fn drive(&mut self, waker: &Waker) {
        self.agenda.begin(waker);
        let now = self.now();
        while let Some((_, ring)) = self.agenda.next_due(now) {
            let slot = &mut self.slots[ring.slot as usize];
            if slot.ticket == ring.ticket {
                slot.ticket = 0;
                slot.rung = true;
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            }
        }
        self.sweep();
        self.agenda.end();
    }

    /// Forgets all sleepers; their wakers are to be dropped without a lock held.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        let mut wakers: Vec<Waker> = self.agenda.clear().into_iter().collect();
        wakers.extend(self.slots.iter_mut().filter_map(|slot| slot.waker.take()));
        wakers
    }

    /// Enters a slot's deadline into the agenda, in place of any earlier entry.
    fn enter(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        s.ticket = 0;
        if let Some(at) = self.clocks[s.clock as usize].reaches(s.deadline) {
            self.tickets += 1;
            s.ticket = self.tickets;
            self.agenda.at(at, Ring { slot, ticket: self.tickets });
        }
    }

    fn sleep(&mut self, clock: u32, deadline: Ns, waker: &Waker) -> u32 {
        let new = Slot { clock, deadline, waker: Some(waker.clone()), ticket: 0, rung: false };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new;
                slot
            }
            None => {
                self.slots.push(new);
                (self.slots.len() - 1) as u32
            }
        };
        self.enter(slot);
        slot
    }

    fn wake_up(&mut self, slot: u32) -> Option<Waker> {
        let s = &mut self.slots[slot as usize];
        s.ticket = 0;
        self.free.push(slot);
        s.waker.take()
    }

    fn sweep(&mut self) {
        let slots = &self.slots;
        let alive = |ring: &Ring| slots[ring.slot as usize].ticket == ring.ticket;
        self.agenda.skim(alive);
        if self.agenda.len() > SWEEP_MIN + 2 * (self.slots.len() - self.free.len()) {
            self.agenda.retain(alive);
        }
    }
}

/// One sleep. Takes a slot at its first poll that has to wait, and frees it when it ends or is dropped.
pub(crate) struct Timer {
    timers: Arc<Mutex<Timers>>,
    clock: u32,
    deadline: Ns,
    slot: Option<u32>,
}

impl Timer {
    /// Until `clock` shows `deadline`, counted from the host's last boot.
    pub(crate) fn new(timers: &Arc<Mutex<Timers>>, clock: u32, deadline: Ns) -> Self {
        let deadline = lock(timers).across_boots(clock, deadline);
        Timer { timers: timers.clone(), clock, deadline, slot: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut timers = lock(&self.timers);
        let Some(slot) = self.slot else {
            if timers.clocks[self.clock as usize].at(timers.now()) >= self.deadline {
                return Poll::Ready(());
            }
            self.slot = Some(timers.sleep(self.clock, self.deadline, cx.waker()));
            return Poll::Pending;
        };
        let s = &mut timers.slots[slot as usize];
        if s.rung {
            timers.wake_up(slot);
            self.slot = None;
            return Poll::Ready(());
        }
        if !s.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            s.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let waker = lock(&self.timers).wake_up(slot);
            drop(waker);
        }
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("clock", &self.clock).field("deadline", &self.deadline).finish()
    }
}
