//! The control handle: everything that a harness can see of a simulated world and do to it.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::runtime::Handle;
use madsim::time::TimeHandle;

use crate::context::{InContext, NodeContext};
use crate::disk::{DiskConfig, DiskFaults, DiskStats};
use crate::net::sim::{LinkConfig, Network, NetworkStats};
use crate::task::JoinHandle;

use super::agenda::Ns;
use super::host::{ExitReason, Host};
use super::panics::Panicked;
use super::process::Executor;
use super::profile::{Profile, TaskCost};
use super::timers::{ClockState, Timer, Timers};
use super::turmoil::{self, Order, Turmoil};
use super::{Backend, Config, lock};

/// The host that the harness runs on: added first, never struck by a fault.
const HARNESS: HostId = HostId(0);
/// Its address, of the block for documentation, so that none is taken from those who use the world.
const HARNESS_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// madsim keeps a few hundred bytes for each task that was ever spawned until its metrics are read: every so many
/// tasks that is done.
const FORGET_TASKS_EVERY: u64 = 4096;

/// Names a host of one world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub(crate) u32);

/// Names a connection of one world on which something is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withheld {
    pub(crate) connection: u32,
    pub(crate) generation: u32,
}

/// A handle to the simulation, for whoever runs in it. Times are true time, whatever clocks show. Cheap to clone.
///
/// Methods that take a [`HostId`] panic on one of another world.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    config: Config,
    madsim: Handle,
    time: TimeHandle,
    timers: Arc<Mutex<Timers>>,
    network: Arc<Mutex<Network>>,
    turmoil: Option<Turmoil>,
    hosts: Mutex<Vec<Host>>,
    profile: Option<Mutex<Profile>>,
    panics: Mutex<Vec<Panicked>>,
    failure: Mutex<Failure>,
    spawned: Mutex<u64>,
}

/// A panic of the harness itself, and who waits for it.
#[derive(Default)]
struct Failure {
    panicked: Option<Panicked>,
    main: Option<Waker>,
}

/// What a simulation has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The network's part.
    pub network: NetworkStats,
    /// Tasks that were spawned, in processes and in the harness.
    pub tasks: u64,
}

impl World {
    /// A world with the harness's host alone. Must be called inside of madsim's runtime.
    pub(super) fn new(config: Config) -> World {
        let (madsim, time) = (Handle::current(), TimeHandle::current());
        let world = World(Arc::new(Inner {
            timers: Arc::new(Mutex::new(Timers::new(time.clone()))),
            network: Arc::new(Mutex::new(Network::new(time.clone(), &config))),
            turmoil: (config.backend == Backend::Turmoil).then(Turmoil::default),
            hosts: Mutex::default(),
            profile: config.profile.then(Mutex::default),
            panics: Mutex::default(),
            failure: Mutex::default(),
            spawned: Mutex::default(),
            config,
            madsim,
            time,
        }));
        world.add_host("harness", HARNESS_ADDRESS);
        let node = world.begin(HARNESS);
        let timers = world.0.timers.clone();
        node.spawn(
            "timers",
            poll_fn(move |cx| {
                lock(&timers).drive(cx.waker());
                Poll::<()>::Pending
            }),
        );
        let network = world.0.network.clone();
        node.spawn(
            "network",
            poll_fn(move |cx| {
                lock(&network).drive(cx.waker());
                Poll::<()>::Pending
            }),
        );
        world
    }

    /// A host with power, a true clock, an empty disk and no process. `name` resolves to `address`.
    ///
    /// Panics if name or address is taken.
    pub fn add_host(&self, name: &str, address: IpAddr) -> HostId {
        let host = self.new_host(name);
        let id = self.network(|network| network.add_host(name, address));
        self.timers(Timers::add_clock);
        lock(&self.0.hosts).push(host);
        let id = HostId(id);
        if id != HARNESS {
            self.order(Order::AddHost(id, address));
        }
        id
    }

    /// Runs `future` as a task of the harness, on its own host whose clock is true.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_on(HARNESS, name, future)
    }

    /// Runs `future` as one more task of the process on `host`, with which it dies. Without such a process it never
    /// runs, and its handle says so.
    pub fn spawn_on<F>(&self, host: HostId, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let node = self.host(host).running.clone();
        node.map_or_else(JoinHandle::gone, |node| node.spawn(name, future))
    }

    /// Nothing passes from `from` to `to` any more, nor does what is under way arrive.
    pub fn cut(&self, from: HostId, to: HostId) {
        self.network(|network| network.set_cut(from.0, to.0, true));
        self.order(Order::Cut(from, to, true));
    }

    /// Undoes [`World::cut`]. Streams notice when they next send something again.
    pub fn heal(&self, from: HostId, to: HostId) {
        self.network(|network| network.set_cut(from.0, to.0, false));
        self.order(Order::Cut(from, to, false));
    }

    /// What enters the link, and what is under way on it, waits there until [`World::release`].
    pub fn hold(&self, from: HostId, to: HostId) {
        self.network(|network| network.hold(from.0, to.0));
        self.order(Order::Hold(from, to, true));
    }

    /// Sends all that waits in the link on its way at once.
    pub fn release(&self, from: HostId, to: HostId) {
        self.network(|network| network.release(from.0, to.0));
        self.order(Order::Hold(from, to, false));
    }

    /// How the link treats what enters it from now on.
    pub fn set_link(&self, from: HostId, to: HostId, config: LinkConfig) {
        assert!(self.0.turmoil.is_none() || config.loss_permille == 0, "turmoil's streams do not survive loss");
        self.network(|network| network.set_link(from.0, to.0, config));
        self.order(Order::Link(from, to, config));
    }

    /// How the link treats what enters it.
    pub fn link(&self, from: HostId, to: HostId) -> LinkConfig {
        self.network(|network| network.link_config(from.0, to.0))
    }

    /// The speed of both clocks of `host` from now on, in thousandths of true time; 0 freezes them and every timer.
    /// They go on from what they show.
    pub fn set_rate(&self, host: HostId, permille: u32) {
        self.change_clock(host, |timers, now| timers.set_rate(host.0, permille, now));
    }

    /// Both clocks of `host` show so much more from now on, as after a machine was suspended whose clocks count that time.
    /// Whoever sleeps by them for less wakes up.
    pub fn jump(&self, host: HostId, ns: Ns) {
        self.change_clock(host, |timers, now| timers.jump(host.0, ns, now));
    }

    /// Changes a clock at the present of the hosts, and lets sleeps know.
    fn change_clock(&self, host: HostId, change: impl FnOnce(&mut Timers, Ns)) {
        assert_ne!(host, HARNESS, "the harness's clock is true");
        let now = self.hosts_now_ns();
        self.timers(|timers| change(timers, now));
        if let Some(turmoil) = &self.0.turmoil {
            turmoil.rate_changed();
        }
    }

    /// How far the wall clock of `host` is ahead of where it would be (or behind, if negative), in place of what was set
    /// before. Neither monotonic clock nor timers notice.
    pub fn set_wall_offset(&self, host: HostId, ns: i64) {
        assert_ne!(host, HARNESS, "the harness's clock is true");
        self.timers(|timers| timers.set_wall_offset(host.0, ns));
    }

    /// How the clocks of `host` stand.
    pub fn clock(&self, host: HostId) -> ClockState {
        let now = self.hosts_now_ns();
        self.timers(|timers| timers.state(host.0, now))
    }

    /// How the disk of `host` misbehaves from now on.
    pub fn set_disk(&self, host: HostId, faults: DiskFaults) {
        let disk = self.host(host).disk.clone();
        disk.set_faults(faults);
    }

    /// Puts an empty disk into `host`, whose power must be off.
    ///
    /// Panics if `host` has power.
    pub fn replace_disk(&self, host: HostId) {
        let host = self.host(host);
        assert!(!host.is_powered(), "a disk is replaced while the power is off");
        host.disk.replace();
    }

    /// Resets every connection between the two hosts, as a firewall that lost its state does: both ends are told, at
    /// once.
    pub fn reset(&self, one: HostId, other: HostId) {
        assert!(self.0.turmoil.is_none(), "turmoil resets no connections");
        self.network(|network| network.reset_between(one.0, other.0));
    }

    /// Puts a fuse into each connection that is open now and was accepted on `host` at `port`: it is reset, as by a broken
    /// middlebox, once its acceptor has sent `bytes` more on it. These arrive if their link neither loses nor holds them,
    /// what follows does not. Where there is a fuse already, the one that blows first stays.
    pub fn fuse(&self, host: HostId, port: u16, bytes: u64) {
        assert!(self.0.turmoil.is_none(), "turmoil resets no connections");
        self.network(|network| network.fuse(host.0, port, bytes));
    }

    /// Takes out the fuses of all connections that were accepted on `host`.
    pub fn defuse(&self, host: HostId) {
        self.network(|network| network.defuse(host.0));
    }

    /// How many connections that were accepted on `host` a fuse has reset so far.
    pub fn fuses_blown(&self, host: HostId) -> u64 {
        self.network(|network| network.fuses_blown(host.0))
    }

    /// Withholds what the acceptor says on one connection, as a stuck proxy on the way would: one of those that are open now,
    /// were accepted on `host` at `port` and on which the acceptor last wrote a second or more after it was last written to,
    /// so that it has news and does not just answer. Of these it is the `nth`, counted round, from the one that had news
    /// last; those on which something is withheld already do not count. What had left the acceptor before arrives.
    ///
    /// `None` if there is no such connection.
    pub fn withhold(&self, host: HostId, port: u16, nth: u32) -> Option<Withheld> {
        self.network(|network| network.withhold(host.0, port, nth))
    }

    /// Sends all that waits in the connection on its way at once, a reset last, and withholds no more. Nothing if the
    /// connection is gone; what waits is gone too if the acceptor's end was reset or lost its power meanwhile.
    pub fn deliver(&self, withheld: Withheld) {
        self.network(|network| network.deliver(withheld));
    }

    /// How often something that was said on a connection that was accepted on `host` had to wait, so far.
    pub fn withheld(&self, host: HostId) -> u64 {
        self.network(|network| network.withheld(host.0))
    }

    /// What the disk of `host` has done so far.
    pub fn disk_stats(&self, host: HostId) -> DiskStats {
        let disk = self.host(host).disk.clone();
        disk.stats()
    }

    /// True time since the simulation began, in nanoseconds. Under turmoil a process lives in a step that ends when the
    /// harness's present begins.
    pub fn now_ns(&self) -> Ns {
        let in_step = self.0.turmoil.as_ref().and_then(Turmoil::step_now_ns);
        in_step.unwrap_or_else(|| self.0.time.elapsed().as_nanos() as Ns)
    }

    /// True time up to which all hosts have run.
    pub(super) fn hosts_now_ns(&self) -> Ns {
        self.0.turmoil.as_ref().map_or_else(|| self.now_ns(), Turmoil::hosts_now_ns)
    }

    /// Completes when `ns` of true time have passed since its first poll, whatever clocks show.
    pub async fn sleep_ns(&self, ns: Ns) {
        self.sleep_until_ns(self.now_ns().saturating_add(ns)).await;
    }

    /// Completes at this true time.
    pub async fn sleep_until_ns(&self, at: Ns) {
        if self.0.turmoil.as_ref().and_then(Turmoil::step_now_ns).is_some() {
            return turmoil::sleep(Duration::from_nanos(at.saturating_sub(self.now_ns()))).await;
        }
        let mut timer = self.timer(HARNESS, at);
        poll_fn(|cx| timer.poll(cx)).await;
    }

    /// As [`World::sleep_ns`].
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_ns(duration.as_nanos() as Ns).await;
    }

    /// A number that stands for every event of the network so far, and for their order.
    pub fn net_digest(&self) -> u64 {
        self.network(|network| network.digest())
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        Stats { network: self.network(|network| network.stats()), tasks: *lock(&self.0.spawned) }
    }

    /// What tasks have cost so far, by name; empty without [`Config::profile`].
    pub fn profile(&self) -> BTreeMap<&'static str, TaskCost> {
        self.0.profile.as_ref().map_or_else(BTreeMap::new, |profile| lock(profile).costs())
    }

    /// All panics of simulated processes so far.
    pub fn panics(&self) -> Vec<Panicked> {
        lock(&self.0.panics).clone()
    }

    /// The seed of all named streams.
    pub fn seed(&self) -> u64 {
        self.0.config.seed
    }

    /// The host of the process whose task is running on this thread, the harness's own included; `None` outside of
    /// simulations. For whoever listens to what tasks report and has to know which one it was.
    pub fn current_host() -> Option<HostId> {
        crate::context::with(|node| node.host)
    }

    /// What `look` finds when it looks as the process on `host` does, with its clocks; `None` if none runs there. For
    /// looking at what a process holds.
    pub fn look_as<R>(&self, host: HostId, look: impl FnOnce() -> R) -> Option<R> {
        let node = self.host(host).running.clone()?;
        Some(crate::context::under(node, look))
    }

    // What the rest of the crate needs of a world.

    pub(super) fn turmoil(&self) -> Option<&Turmoil> {
        self.0.turmoil.as_ref()
    }

    /// Has turmoil do this before its next step.
    pub(super) fn order(&self, order: Order) {
        if let Some(turmoil) = &self.0.turmoil {
            turmoil.order(order);
        }
    }

    /// What the next process on `host` runs on.
    pub(super) fn new_executor(&self, host: HostId, name: &str) -> Executor {
        if self.0.turmoil.is_some() && host != HARNESS {
            Executor::Turmoil(turmoil::Process::default())
        } else {
            Executor::Madsim(self.0.madsim.create_node().name(name).build())
        }
    }

    /// How links are in peace.
    pub(super) fn default_link(&self) -> LinkConfig {
        self.0.config.link
    }

    /// What turmoil's own choices come from: those of order and delay.
    pub(super) fn executor_seed(&self) -> u64 {
        self.0.config.executor_seed
    }

    pub(super) fn madsim(&self) -> &Handle {
        &self.0.madsim
    }

    pub(super) fn disk_config(&self) -> DiskConfig {
        self.0.config.disk.clone()
    }

    pub(super) fn host(&self, host: HostId) -> HostEntry<'_> {
        HostEntry { hosts: lock(&self.0.hosts), index: host.0 as usize }
    }

    pub(super) fn timers<R>(&self, act: impl FnOnce(&mut Timers) -> R) -> R {
        act(&mut lock(&self.0.timers))
    }

    pub(crate) fn network<R>(&self, act: impl FnOnce(&mut Network) -> R) -> R {
        act(&mut lock(&self.0.network))
    }

    /// The network itself, for those who keep it.
    pub(crate) fn shared_network(&self) -> Arc<Mutex<Network>> {
        self.0.network.clone()
    }

    /// The address that `host` was added with.
    pub(crate) fn address(&self, host: HostId) -> IpAddr {
        self.network(|network| network.address(host.0))
    }

    /// True time by which `host` reads its clocks.
    fn clock_now_ns(&self, host: HostId) -> Ns {
        if host == HARNESS { self.now_ns() } else { self.hosts_now_ns() }
    }

    pub(crate) fn monotonic_ns(&self, host: HostId) -> Ns {
        let now = self.clock_now_ns(host);
        self.timers(|timers| timers.monotonic(host.0, now))
    }

    pub(crate) fn wall_ns(&self, host: HostId) -> i64 {
        let now = self.clock_now_ns(host);
        self.timers(|timers| timers.wall(host.0, now))
    }

    pub(crate) fn timer(&self, host: HostId, deadline: Ns) -> Timer {
        Timer::new(&self.0.timers, host.0, deadline)
    }

    /// One more task called `name`; where its cost is counted.
    pub(super) fn meter(&self, name: &'static str) -> Option<u32> {
        let mut spawned = lock(&self.0.spawned);
        *spawned += 1;
        if spawned.is_multiple_of(FORGET_TASKS_EVERY) {
            self.0.madsim.metrics().num_tasks();
        }
        self.0.profile.as_ref().map(|profile| lock(profile).entry(name))
    }

    pub(super) fn measured(&self, meter: u32, since: u64) {
        if let Some(profile) = &self.0.profile {
            lock(profile).add(meter, since);
        }
    }

    /// A task of `node` panicked: its process ends, or, if it is the harness's, the simulation.
    pub(super) fn panicked(&self, node: &NodeContext, task: &str, payload: &(dyn Any + Send)) {
        let panicked = Panicked::caught(payload, self.now_ns(), &node.name, task);
        if node.host == HARNESS {
            let mut failure = lock(&self.0.failure);
            failure.panicked.get_or_insert(panicked);
            if let Some(main) = failure.main.take() {
                main.wake();
            }
            return;
        }
        lock(&self.0.panics).push(panicked.clone());
        self.end(node.host, Some(node.process), ExitReason::Panicked(panicked));
    }

    /// The first panic of the harness's own tasks.
    pub(super) fn poll_failure(&self, cx: &Context<'_>) -> Option<Panicked> {
        let mut failure = lock(&self.0.failure);
        failure.main = Some(cx.waker().clone());
        failure.panicked.take()
    }

    /// `future` as a task of the harness, to be polled by the caller.
    pub(super) fn in_harness<F: Future>(&self, future: F) -> InContext<F> {
        let node = self.host(HARNESS).running.clone();
        InContext::new(node.expect("the harness's process never ends before the world"), future)
    }

    /// True time at the end.
    pub(super) fn last_ns(&self) -> Ns {
        self.now_ns()
    }

    /// Kills everything and lets go of everything, so that memory is freed once the executor has dropped the tasks.
    pub(super) fn close(&self) {
        let ended: Vec<_> = lock(&self.0.hosts).iter_mut().map(Host::close).collect();
        for node in ended.iter().filter_map(|(node, _)| node.as_ref()) {
            if let Executor::Madsim(node) = &node.executor {
                self.0.madsim.resume(node.id());
                self.0.madsim.kill(node.id());
            }
        }
        let mut wakers = self.network(|network| network.clear());
        wakers.extend(self.timers(|timers| timers.clear()));
        wakers.extend(lock(&self.0.failure).main.take());
        let orders = self.0.turmoil.as_ref().map(Turmoil::close);
        drop((ended, wakers, orders));
    }
}

/// One host, with the table of hosts locked.
pub(super) struct HostEntry<'a> {
    hosts: MutexGuard<'a, Vec<Host>>,
    index: usize,
}

impl std::ops::Deref for HostEntry<'_> {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.hosts[self.index]
    }
}

impl std::ops::DerefMut for HostEntry<'_> {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.hosts[self.index]
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now_ns", &self.now_ns()).finish_non_exhaustive()
    }
}
