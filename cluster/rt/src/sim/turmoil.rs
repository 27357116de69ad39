//! Simulator B: hosts on real tokio, paused, under turmoil, which has their time and their network.
//!
//! ```text
//! harness (madsim: main, its tasks) --Order--> Machine --every simulated millisecond--> turmoil::Sim::step
//!    ^                                                                |- s1: kernel, and the tasks of its process
//!    `-- sees what was done up to now                                 `- c1: ...
//! ```
//!
//! A second opinion must not come from the same mouth: executor, timers, streams and the order of events are others than in
//! simulator A. Disks, the hosts' clocks and the streams of randomness are the same code. The harness stays where it is, on
//! madsim, which also answers libc's questions for clocks and randomness with what follows from the seed.
//!
//! - A step is a millisecond, and taken at its end by the harness's clock: all that it sees has happened before. A message
//!   is under way for a step at least, so that what is heard in one was said in an earlier one, whoever runs first.
//! - What is ordered is done before the next step. A process that was killed does nothing meanwhile.
//! - Cutting and holding a link are the same: what is sent waits, and arrives after the end of it. turmoil's own partition
//!   loses it, and its TCP sends nothing again, so that streams would be dead for good and never say so.
//! - Delay and jitter are of both directions, in whole milliseconds, and there is some jitter always.
//! - A killed process leaves its host's kernel behind, which closes its connections and refuses new ones. A host without
//!   power is one that crashed in a partition; what is sent to it waits for its kernel to boot.
//!
//! **Invariant:** the same seeds give the same run in any process (`the_same_seeds_give_the_same_run_under_turmoil` and
//! `another_process_gives_the_same_run_under_turmoil` in tests/turmoil.rs).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::turmoil::{Builder, Sim};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::context::NodeContext;
use crate::net::sim::LinkConfig;
use crate::task::JoinHandle;

use super::agenda::Ns;
use super::lock;
use super::process::Executor;
use super::world::{HostId, World};

/// How far time goes at once: as fine as tokio's timers are.
const STEP: Duration = Duration::from_millis(1);
const STEP_NS: Ns = 1_000_000;
/// Added to the jitter of each link: with one of less than a step, all messages would be under way equally long.
const EXTRA_JITTER: Duration = Duration::from_millis(4);
/// Segments that may be under way on a stream, and connections that may wait to be accepted; more of these is a panic of
/// turmoil's, and all that were tried while a link was held arrive at once.
const CAPACITY: usize = 4_096;
/// turmoil ends a simulation that takes longer; when a trial ends is for the harness to say.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// Something that is to be done to turmoil's world before its next step.
pub(super) enum Order {
    AddHost(HostId, IpAddr),
    /// Starts the host's kernel anew, which closes all connections of the process that was there, with the process that
    /// this begins.
    Begin(HostId, Begin),
    /// The same without a process.
    Boot(HostId),
    PowerOff(HostId),
    Cut(HostId, HostId, bool),
    Hold(HostId, HostId, bool),
    Link(HostId, HostId, LinkConfig),
}

/// Begins a process; called in its host's runtime.
type Begin = Box<dyn FnOnce() + Send>;

impl Order {
    /// To begin the process `node` on `host` with `main`.
    pub(super) fn begin(
        host: HostId,
        node: Arc<NodeContext>,
        main: impl Future<Output = ()> + Send + 'static,
    ) -> Order {
        Order::Begin(
            host,
            Box::new(move || {
                if let Executor::Turmoil(process) = &node.executor {
                    process.runtime.get_or_init(Handle::current);
                }
                node.spawn("process", main);
            }),
        )
    }
}

/// What a world has of turmoil: everything but turmoil's own state, which is the [`Machine`]'s.
#[derive(Default)]
pub(super) struct Turmoil {
    orders: Mutex<Vec<Order>>,
    steps: AtomicU64,
    /// Whether a step is being taken: hosts run.
    stepping: AtomicBool,
    /// Told when the rate of a host's clock has changed.
    rate: Notify,
}

impl Turmoil {
    pub(super) fn order(&self, order: Order) {
        lock(&self.orders).push(order);
    }

    /// True time of the host that is running, if one is.
    pub(super) fn step_now_ns(&self) -> Option<Ns> {
        self.stepping.load(Ordering::Relaxed).then(|| self.hosts_now_ns())
    }

    /// The same, or true time up to which all hosts have run.
    pub(super) fn hosts_now_ns(&self) -> Ns {
        let stepping = self.stepping.load(Ordering::Relaxed);
        let running = if stepping { ::turmoil::sim_elapsed() } else { None };
        running.map_or_else(|| self.steps.load(Ordering::Relaxed) * STEP_NS, |elapsed| elapsed.as_nanos() as Ns)
    }

    /// What was not done yet, to be dropped.
    pub(super) fn close(&self) -> Vec<Order> {
        std::mem::take(&mut lock(&self.orders))
    }

    pub(super) fn rate_changed(&self) {
        self.rate.notify_waiters();
    }
}

/// A process under turmoil, as its tasks know it.
#[derive(Default)]
pub(crate) struct Process {
    /// Its host's, once it has begun.
    runtime: OnceLock<Handle>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By number in order of spawning.
    tasks: BTreeMap<u64, Arc<dyn Content>>,
    spawned: u64,
    dead: bool,
    paused: bool,
    /// Tasks that were to run while it was paused.
    parked: Vec<Waker>,
}

impl Process {
    /// Runs `task` in it; never, if it has not begun yet.
    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let spawn = |runtime: &Handle| JoinHandle::tokio(runtime.spawn(Owned::new(&self.state, task)));
        self.runtime.get().map_or_else(JoinHandle::gone, spawn)
    }

    /// Whether a task may run now. One that may not is woken when it may.
    pub(super) fn runs(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        if state.paused {
            state.parked.push(cx.waker().clone());
        }
        !state.paused && !state.dead
    }

    pub(super) fn pause(&self) {
        lock(&self.state).paused = true;
    }

    pub(super) fn resume(&self) {
        let parked = {
            let mut state = lock(&self.state);
            state.paused = false;
            std::mem::take(&mut state.parked)
        };
        parked.into_iter().for_each(Waker::wake);
    }

    /// No task of it runs any more. They are dropped before the next step.
    pub(super) fn kill(&self) {
        lock(&self.state).dead = true;
    }
}

/// A task as tokio has it. tokio drops a runtime's tasks in an order that comes from their ids, which count through all
/// simulations of a program: so that the first to go takes its process's others with it, in the order in which they came.
struct Owned<F> {
    process: Arc<Mutex<State>>,
    number: u64,
    content: Arc<Mutex<Option<Pin<Box<F>>>>>,
}

/// What a task holds.
trait Content: Send + Sync {
    fn let_go(&self);
}

impl<F: Send> Content for Mutex<Option<Pin<Box<F>>>> {
    fn let_go(&self) {
        let content = lock(self).take();
        drop(content);
    }
}

impl<F: Send + 'static> Owned<F> {
    fn new(process: &Arc<Mutex<State>>, task: F) -> Self {
        let content = Arc::new(Mutex::new(Some(Box::pin(task))));
        let mut state = lock(process);
        state.spawned += 1;
        let number = state.spawned;
        state.tasks.insert(number, content.clone());
        Owned { process: process.clone(), number, content }
    }
}

impl<F: Future> Future for Owned<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        lock(&self.content).as_mut().map_or(Poll::Pending, |task| task.as_mut().poll(cx))
    }
}

impl<F> Drop for Owned<F> {
    fn drop(&mut self) {
        let going = {
            let mut state = lock(&self.process);
            if state.dead {
                std::mem::take(&mut state.tasks)
            } else {
                state.tasks.remove(&self.number).map(|content| (self.number, content)).into_iter().collect()
            }
        };
        going.values().for_each(|content| content.let_go());
    }
}

/// A wait in true time, of a task of a host.
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A wait by a host's monotonic clock.
pub(crate) struct Sleep(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Sleep {
    /// Until `host`'s clock shows `deadline`, counted from its last boot.
    pub(crate) fn until(world: &World, host: HostId, deadline: Ns) -> Sleep {
        let world = world.clone();
        let deadline = world.timers(|timers| timers.across_boots(host.0, deadline));
        Sleep(Box::pin(async move {
            let Some(turmoil) = world.turmoil() else { return };
            loop {
                let changed = turmoil.rate.notified();
                let now = turmoil.hosts_now_ns();
                match world.timers(|timers| timers.left(host.0, deadline, now)) {
                    Some(0) => return,
                    Some(left) => {
                        tokio::select! {
                            biased;
                            () = tokio::time::sleep(Duration::from_nanos(left)) => {}
                            () = changed => {}
                        }
                    }
                    // The clock stands still.
                    None => changed.await,
                }
            }
        }))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sleep")
    }
}

/// Turmoil's world, which is of one thread.
pub(super) struct Machine {
    world: World,
    sim: Sim<'static>,
    hosts: BTreeMap<HostId, Host>,
    by_address: BTreeMap<IpAddr, HostId>,
    cut: BTreeSet<(HostId, HostId)>,
    held: BTreeSet<(HostId, HostId)>,
    links: BTreeMap<(HostId, HostId), LinkConfig>,
}

struct Host {
    address: IpAddr,
    /// What its kernel is to begin when it starts.
    begin: Rc<RefCell<Option<Begin>>>,
}

impl Machine {
    /// That of `world`, if it is one under turmoil.
    pub(super) fn of(world: &World) -> Option<Machine> {
        world.turmoil()?;
        let (shortest, longest) = spans([world.default_link(); 2]);
        let sim = Builder::new()
            .tick_duration(STEP)
            .simulation_duration(FOREVER)
            .min_message_latency(shortest)
            .max_message_latency(longest)
            .tcp_capacity(CAPACITY)
            .enable_random_order()
            .rng_seed(world.executor_seed())
            .build();
        Some(Machine {
            world: world.clone(),
            sim,
            hosts: BTreeMap::new(),
            by_address: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: BTreeSet::new(),
            links: BTreeMap::new(),
        })
    }

    /// Runs the hosts until `main` ends.
    pub(super) async fn drive_beside<T>(self, main: impl Future<Output = T>) -> T {
        let (mut main, mut hosts) = (pin!(main), pin!(self.drive()));
        poll_fn(|cx| {
            let ended = main.as_mut().poll(cx);
            if ended.is_pending() {
                let _never = hosts.as_mut().poll(cx);
            }
            ended
        })
        .await
    }

    async fn drive(mut self) {
        let world = self.world.clone();
        let Some(turmoil) = world.turmoil() else { return };
        loop {
            let steps = turmoil.steps.load(Ordering::Relaxed) + 1;
            world.sleep_until_ns(steps * STEP_NS).await;
            for order in std::mem::take(&mut *lock(&turmoil.orders)) {
                self.obey(order);
            }
            self.let_pass();
            turmoil.stepping.store(true, Ordering::Relaxed);
            let taken = self.sim.step();
            turmoil.stepping.store(false, Ordering::Relaxed);
            turmoil.steps.store(steps, Ordering::Relaxed);
            taken.expect("no host's software ends");
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::AddHost(host, address) => self.add_host(host, address),
            Order::Begin(host, begin) => {
                *self.hosts[&host].begin.borrow_mut() = Some(begin);
                self.sim.bounce(self.hosts[&host].address);
            }
            Order::Boot(host) => self.sim.bounce(self.hosts[&host].address),
            Order::PowerOff(host) => self.power_off(host),
            Order::Cut(from, to, cut) => {
                note(&mut self.cut, (from, to), cut);
                self.set_link(from, to);
            }
            Order::Hold(from, to, held) => {
                note(&mut self.held, (from, to), held);
                self.set_link(from, to);
            }
            Order::Link(from, to, config) => {
                self.links.insert((from, to), config);
                self.set_spans(from, to);
            }
        }
    }

    fn add_host(&mut self, host: HostId, address: IpAddr) {
        let begin: Rc<RefCell<Option<Begin>>> = Rc::default();
        let next = begin.clone();
        self.sim.host(address, move || {
            let begin = next.borrow_mut().take();
            async move {
                if let Some(begin) = begin {
                    begin();
                }
                // A host lives on when its process ends.
                pending().await
            }
        });
        self.hosts.insert(host, Host { address, begin });
        self.by_address.insert(address, host);
    }

    /// Nothing that its kernel would say when it dies is heard.
    fn power_off(&mut self, host: HostId) {
        let address = self.hosts[&host].address;
        let others: Vec<HostId> = self.hosts.keys().copied().filter(|other| *other != host).collect();
        for other in &others {
            self.sim.partition(address, self.hosts[other].address);
        }
        self.sim.crash(address);
        others.iter().for_each(|other| self.set_link(host, *other));
    }

    fn is_dammed(&self, from: HostId, to: HostId) -> bool {
        self.cut.contains(&(from, to)) || self.held.contains(&(from, to))
    }

    /// Makes the link between two hosts what it must be now.
    fn set_link(&self, one: HostId, other: HostId) {
        let (a, b) = (self.hosts[&one].address, self.hosts[&other].address);
        if self.is_dammed(one, other) || self.is_dammed(other, one) {
            self.sim.hold(a, b);
        } else {
            self.sim.release(a, b);
        }
    }

    /// turmoil holds both directions of a link: what goes in one that is open is sent on its way before each step.
    fn let_pass(&self) {
        let dammed = || self.cut.iter().chain(&self.held);
        if dammed().all(|(from, to)| self.is_dammed(*to, *from)) {
            return;
        }
        self.sim.links(|links| {
            for sent in links.flatten() {
                let (from, to) = sent.pair();
                let (from, to) = (self.by_address[&from.ip()], self.by_address[&to.ip()]);
                if self.is_dammed(to, from) && !self.is_dammed(from, to) {
                    sent.deliver();
                }
            }
        });
    }

    fn set_spans(&self, one: HostId, other: HostId) {
        let config = |link| self.links.get(&link).copied().unwrap_or_else(|| self.world.default_link());
        let (shortest, longest) = spans([config((one, other)), config((other, one))]);
        let (a, b) = (self.hosts[&one].address, self.hosts[&other].address);
        self.sim.set_link_latency(a, b, shortest);
        self.sim.set_link_max_message_latency(a, b, longest);
    }
}

/// Makes `link` one of `links`, or no longer.
fn note(links: &mut BTreeSet<(HostId, HostId)>, link: (HostId, HostId), is: bool) {
    if is {
        links.insert(link);
    } else {
        links.remove(&link);
    }
}

/// How long messages between two hosts are under way at least and at most, given both directions of their link.
fn spans(directions: [LinkConfig; 2]) -> (Duration, Duration) {
    let [one, other] = directions;
    let whole = |duration: Duration| Duration::from_millis(duration.as_nanos().div_ceil(u128::from(STEP_NS)) as u64);
    let shortest = whole(one.delay.max(other.delay)).max(STEP);
    (shortest, shortest + whole(one.jitter.max(other.jitter)) + EXTRA_JITTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_under_way_for_a_step_at_least_and_as_long_as_in_the_slower_direction() {
        let ms = Duration::from_millis;
        let link = |delay, jitter| LinkConfig { delay, jitter, ..LinkConfig::default() };
        let nothing = link(Duration::ZERO, Duration::ZERO);
        assert_eq!(spans([nothing; 2]), (ms(1), ms(5)));
        assert_eq!(spans([link(Duration::from_micros(1_200), ms(3)), nothing]), (ms(2), ms(9)));
    }
}
