//! The simulated world: hosts, processes, clocks, links and power, under one control handle.
//!
//! ```text
//! run(config, main) -> a fresh thread -> madsim's executor (order of ready tasks: executor seed)
//!                                          |- main, and the harness's tasks     host 0, whose clock is true
//!                                          |- processes, one per host           NodeContext
//!                                          |- timers' driver, network's driver  agenda.rs
//! ```
//!
//! Everything that a process sees of the outside, it sees through its `NodeContext`. What happens later is an event in
//! one of two agendas, timers and network; nothing polls, and a world in which nothing happens costs nothing.
//!
//! All randomness comes from named streams of [`Config::seed`], except the order in which ready tasks run and the 50
//! to 100 nanoseconds that madsim lets pass for each poll: those come from [`Config::executor_seed`].
//!
//! **Invariant:** the same seeds give the same run, event for event, in any process (`the_same_seeds_give_the_same_run`
//! and `another_process_gives_the_same_run` in tests/determinism.rs).
//! **Invariant:** a simulation leaves no memory behind (`a_thousand_simulations_leave_nothing_behind` in tests/memory.rs).

mod agenda;
mod host;
mod hung;
mod lies;
mod panics;
mod process;
mod profile;
pub(crate) mod timers;
pub(crate) mod turmoil;
mod world;

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use madsim::runtime::Runtime;
use turmoil::Machine;

pub(crate) use agenda::{Agenda, Ns};
pub use host::{Exit, ExitReason};
pub(crate) use hung::Hung;
pub use lies::Lies;
pub use panics::Panicked;
pub(crate) use process::Executor;
pub use profile::TaskCost;
pub use timers::ClockState;
pub use world::{HostId, Stats, Withheld, World};

pub use crate::disk::{DiskConfig, DiskFaults, DiskStats, Lies as DiskLies};
pub use crate::net::sim::{LinkConfig, NetworkStats, ResolverConfig, TcpConfig};

/// Deep recursion in a simulated program must not end the whole trial. Only what is touched becomes memory.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// What runs the hosts of a simulation, and their network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Simulator A: madsim, and a network of our own.
    #[default]
    Madsim,
    /// Simulator B, for a second opinion on small worlds: real tokio under turmoil. [`World::reset`], [`World::fuse`] and loss
    /// are not to be had, and what a host's kernel is told ([`crate::net::set_redirects`] and the like) has no effect.
    Turmoil,
}

/// What a simulation is made from.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Of all named streams of randomness.
    pub seed: u64,
    /// Of the order in which ready tasks run.
    pub executor_seed: u64,
    /// What runs the hosts.
    pub backend: Backend,
    /// Every link, until [`World::set_link`] says otherwise.
    pub link: LinkConfig,
    /// How the kernels' TCP gives up.
    pub tcp: TcpConfig,
    /// How long looking up a name takes.
    pub resolver: ResolverConfig,
    /// Every host's disk.
    pub disk: DiskConfig,
    /// Whether to measure what each kind of task costs. Never changes what happens.
    pub profile: bool,
    /// Which sentences of the model to break, for testing those who rely on them.
    pub lies: Lies,
}

/// Runs one simulation on a thread of its own until `main` ends, then kills every task and frees all memory.
///
/// `main` and what it spawns run on a host of their own, whose clock is always right.
///
/// # Errors
/// [`Panicked`] if `main` or a task of the harness panics, or if nothing is left that could ever happen. Panics of
/// simulated processes end those processes instead; see [`World::panics`].
pub fn run<T, Fut>(config: Config, main: impl FnOnce(World) -> Fut + Send + 'static) -> Result<T, Panicked>
where
    T: Send + 'static,
    Fut: Future<Output = T>,
{
    assert!(crate::context::current().is_none(), "a simulation cannot run inside of a simulation");
    panics::install_hook();
    if config.profile {
        profile::calibrate();
    }
    let thread = std::thread::Builder::new().name("simulation".into()).stack_size(STACK_BYTES);
    let thread =
        thread.spawn(move || simulate(config, main)).expect("a machine that has no thread left cannot simulate");
    match thread.join() {
        Ok(result) => result,
        Err(payload) => Err(Panicked::outside(&*payload)),
    }
}

/// The whole of a simulation, on its thread.
fn simulate<T, Fut>(config: Config, main: impl FnOnce(World) -> Fut + Send + 'static) -> Result<T, Panicked>
where
    Fut: Future<Output = T>,
{
    let _watch = panics::watch_thread();
    let runtime = Runtime::with_seed_and_config(config.executor_seed, madsim::Config::default());
    let world = runtime.block_on(async { World::new(config) });
    let result = {
        let world = world.clone();
        catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                match Machine::of(&world) {
                    None => drive_main(world, main).await,
                    Some(machine) => machine.drive_beside(drive_main(world, main)).await,
                }
            })
        }))
    };
    let result = result.unwrap_or_else(|payload| Err(panicked(&world, &*payload)));
    // Tasks are dropped by the executor, after those that hold them have let go.
    let cleared = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            world.close();
            madsim::time::sleep(Duration::from_millis(1)).await;
        });
    }));
    match cleared {
        Ok(()) => result,
        Err(payload) => result.and_then(|_| Err(panicked(&world, &*payload))),
    }
}

/// Runs `main` on the harness's host until it ends or one of the harness's tasks panics.
async fn drive_main<T, Fut>(world: World, main: impl FnOnce(World) -> Fut + Send + 'static) -> Result<T, Panicked>
where
    Fut: Future<Output = T>,
{
    let for_main = world.clone();
    let mut main = pin!(world.in_harness(async move { main(for_main).await }));
    poll_fn(|cx| {
        if let Some(panicked) = world.poll_failure(cx) {
            return Poll::Ready(Err(panicked));
        }
        match catch_unwind(AssertUnwindSafe(|| main.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(panicked(&world, &*payload))),
        }
    })
    .await
}

fn panicked(world: &World, payload: &(dyn Any + Send)) -> Panicked {
    Panicked::caught(payload, world.last_ns(), "harness", "main")
}

/// Locks, whether or not somebody panicked while holding it: the simulation goes on without that process.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
