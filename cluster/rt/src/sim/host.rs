//! Hosts, and the processes that live and die on them.
//!
//! ```text
//! powered off <--power_off/power_on--> idle <--start/exit, kill, panic--> running <--pause/resume--> paused
//! ```
//!
//! Each start of a process gets a node of its own in the executor. A killed process's tasks are dropped by the executor
//! a moment later, when a successor may already run; all they still could reach (sockets, files, locks, timers) tells
//! them from the successor's.
//!
//! Our own network is told everything under turmoil too, where it knows the hosts and carries nothing; what is an order for
//! turmoil goes nowhere without it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::context::NodeContext;
use crate::disk::SimDisk;
use crate::random::{Random, seed_of};

use super::agenda::Ns;
use super::lock;
use super::panics::Panicked;
use super::process::Executor;
use super::turmoil::Order;
use super::world::{HostId, World};

/// What runs as a host's process: called at each start, in the new process.
pub(super) type Program = Arc<Mutex<Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>>>;

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// True time since the simulation began.
    pub at_ns: Ns,
    /// Where it ran.
    pub host: HostId,
    /// How often a process was started on this host, the one that ended included.
    pub process: u64,
    /// What ended it.
    pub reason: ExitReason,
}

/// Why a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Its program came to its end.
    Ended,
    /// [`World::kill`] or [`World::restart`].
    Killed,
    /// [`World::power_off`].
    PoweredOff,
    /// One of its tasks panicked.
    Panicked(Panicked),
}

/// One host.
pub(super) struct Host {
    name: Arc<str>,
    pub(super) disk: Arc<SimDisk>,
    program: Option<Program>,
    /// How often a process was started.
    starts: u64,
    /// How often it was given its power back.
    boots: u64,
    powered: bool,
    paused: bool,
    pub(super) running: Option<Arc<NodeContext>>,
    last_exit: Option<Exit>,
    waiting: Vec<Waker>,
}

impl Host {
    pub(super) fn is_powered(&self) -> bool {
        self.powered
    }

    /// Lets go of the process, if one runs, and of the program.
    pub(super) fn close(&mut self) -> (Option<Arc<NodeContext>>, Option<Program>) {
        self.waiting = Vec::new();
        (self.running.take(), self.program.take())
    }
}

impl World {
    pub(super) fn new_host(&self, name: &str) -> Host {
        let seed = seed_of(self.seed(), &[b"disk", name.as_bytes()]);
        Host {
            name: name.into(),
            disk: Arc::new(SimDisk::new(self.disk_config(), Random::from_seed(seed))),
            program: None,
            starts: 0,
            boots: 0,
            powered: true,
            paused: false,
            running: None,
            last_exit: None,
            waiting: Vec::new(),
        }
    }

    /// Makes `process` what runs on `host`, and starts it now; one that ran there before is killed first. It is started
    /// again by [`World::restart`] and [`World::power_on`]. On a host without power it waits for that.
    ///
    /// The process ends when its program does, when one of its tasks panics, and when it is killed.
    pub fn start(&self, host: HostId, process: impl Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static) {
        self.host(host).program = Some(Arc::new(Mutex::new(Box::new(process))));
        self.restart(host);
    }

    /// Starts the host's program again, now; if it still runs it is killed first. Without power, or a program, nothing
    /// is started.
    pub fn restart(&self, host: HostId) {
        self.kill(host);
        if let Some(program) = self.runnable(host) {
            let node = self.begin(host);
            let process = node.process;
            let world = self.clone();
            let main = async move {
                let future = (lock(&program))();
                future.await;
                world.end(host, Some(process), ExitReason::Ended);
            };
            match &node.executor {
                Executor::Madsim(_) => drop(node.spawn("process", main)),
                Executor::Turmoil(_) => self.order(Order::begin(host, node, main)),
            }
        }
    }

    fn runnable(&self, host: HostId) -> Option<Program> {
        let host = self.host(host);
        host.program.clone().filter(|_| host.powered)
    }

    /// A new process on `host`, without a task so far.
    pub(super) fn begin(&self, host: HostId) -> Arc<NodeContext> {
        let mut entry = self.host(host);
        entry.starts += 1;
        let (name, process, disk) = (entry.name.clone(), entry.starts, entry.disk.clone());
        let executor = self.new_executor(host, &name);
        let context = NodeContext::new(self.clone(), host, name, process, disk, executor);
        entry.running = Some(context.clone());
        context
    }

    /// Kills the host's process, as SIGKILL does: its kernel closes its sockets, the disk keeps what was written, its
    /// locks are released. Nothing happens if none runs.
    pub fn kill(&self, host: HostId) {
        self.end(host, None, ExitReason::Killed);
    }

    /// Cuts the host's power. Nothing is said to anybody: connections stay half open at their other ends. The disk
    /// keeps what was synced, and of the rest what it happens to keep.
    pub fn power_off(&self, host: HostId) {
        let disk = {
            let mut entry = self.host(host);
            if !entry.powered {
                return;
            }
            entry.powered = false;
            entry.disk.clone()
        };
        // The network first, so that nothing said while the process dies is heard.
        self.network(|network| network.power_off(host.0));
        self.order(Order::PowerOff(host));
        disk.power_off();
        self.end(host, None, ExitReason::PoweredOff);
    }

    /// Gives the host its power back and starts its program. It has its old address and no memory: packets of old
    /// connections are answered with a reset. Its monotonic clock begins anew; rate and wall clock stay.
    pub fn power_on(&self, host: HostId) {
        let disk = {
            let mut entry = self.host(host);
            if entry.powered {
                return;
            }
            entry.powered = true;
            entry.boots += 1;
            entry.disk.clone()
        };
        disk.power_on();
        self.network(|network| network.power_on(host.0));
        self.order(Order::Boot(host));
        let now = self.hosts_now_ns();
        self.timers(|timers| timers.boot(host.0, now));
        self.restart(host);
    }

    /// Stops the host's process where it is, as SIGSTOP does. Its kernel goes on: it acknowledges what arrives and keeps
    /// it, clocks run, timers expire. A new process is not paused.
    pub fn pause(&self, host: HostId) {
        let mut entry = self.host(host);
        if let Some(node) = entry.running.clone()
            && !entry.paused
        {
            entry.paused = true;
            match &node.executor {
                Executor::Madsim(node) => self.madsim().pause(node.id()),
                Executor::Turmoil(process) => process.pause(),
            }
            self.network(|network| network.set_paused(host.0, true));
        }
    }

    /// Lets a paused process go on.
    pub fn resume(&self, host: HostId) {
        let mut entry = self.host(host);
        self.resume_entry(&mut entry, host);
    }

    fn resume_entry(&self, entry: &mut Host, host: HostId) {
        if let Some(node) = &entry.running
            && entry.paused
        {
            entry.paused = false;
            match &node.executor {
                Executor::Madsim(node) => self.madsim().resume(node.id()),
                Executor::Turmoil(process) => process.resume(),
            }
            self.network(|network| network.set_paused(host.0, false));
        }
    }

    /// Ends the process on `host`, if one runs, and only the one with number `process` if that is given.
    pub(super) fn end(&self, host: HostId, process: Option<u64>, reason: ExitReason) {
        let at_ns = self.now_ns();
        let (node, disk, waiting) = {
            let mut entry = self.host(host);
            let ends = entry.running.as_ref().is_some_and(|node| process.is_none_or(|process| process == node.process));
            if !ends {
                return;
            }
            // What waits in a paused node would be dropped by `kill` with the executor's lock held.
            self.resume_entry(&mut entry, host);
            let Some(node) = entry.running.take() else {
                return;
            };
            let exit = Exit { at_ns, host, process: node.process, reason: reason.clone() };
            entry.last_exit = Some(exit);
            (node, entry.disk.clone(), std::mem::take(&mut entry.waiting))
        };
        if reason != ExitReason::PoweredOff {
            self.network(|network| network.kill_process(host.0));
            self.order(Order::Boot(host));
            disk.kill();
        }
        match &node.executor {
            Executor::Madsim(node) => self.madsim().kill(node.id()),
            Executor::Turmoil(process) => process.kill(),
        }
        node.hung.clear();
        for waker in waiting {
            waker.wake();
        }
    }

    /// Whether a process runs on `host`, paused or not.
    pub fn is_running(&self, host: HostId) -> bool {
        self.host(host).running.is_some()
    }

    /// Whether the process on `host` is paused.
    pub fn is_paused(&self, host: HostId) -> bool {
        self.host(host).paused
    }

    /// Whether `host` has power.
    pub fn is_powered(&self, host: HostId) -> bool {
        self.host(host).powered
    }

    /// The name of `host`.
    pub fn name(&self, host: HostId) -> String {
        self.host(host).name.to_string()
    }

    /// How the last process on `host` ended, if any has.
    pub fn last_exit(&self, host: HostId) -> Option<Exit> {
        self.host(host).last_exit.clone()
    }

    /// Names the time since `host` last got its power.
    pub(crate) fn boot_id(&self, host: HostId) -> String {
        format!("{}-{}", self.name(host), self.host(host).boots)
    }

    /// Waits until no process runs on `host` and says how the last one ended; at once if none runs and one did. A
    /// supervisor restarts it then.
    pub async fn wait_exit(&self, host: HostId) -> Exit {
        std::future::poll_fn(|cx| {
            let mut entry = self.host(host);
            if entry.running.is_none()
                && let Some(exit) = &entry.last_exit
            {
                return Poll::Ready(exit.clone());
            }
            if !entry.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                entry.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
