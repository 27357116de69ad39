//! The swappable layer: network, time, tasks, randomness and disk, real and simulated.
//!
//! All of the product that touches the world outside its own memory does it through this crate, which is shaped like
//! tokio. There are two builds. The production build holds the real backend alone: tokio, real sockets, clocks and
//! disks. The simulator build (`--cfg madsim`) holds both, and what a call does depends on the task that makes it:
//!
//! ```text
//! task of a simulated process -- NodeContext on the thread --> sim:  madsim's executor and timers, our network, clocks, disk
//! any other thread             -- no NodeContext           --> real: tokio and the operating system
//! ```
//!
//! [`sim`] is the simulator's control handle: hosts, processes, links, clocks, power.
//!
//! **Invariant:** under cluster/ no other crate names tokio's runtime, net, time or fs, `std::time` (but for
//! `Duration`), `std::thread`, `std::fs`, a random number generator, or `cfg(madsim)` (harness/xtask's layering test).

#[cfg(madsim)]
mod context;
pub mod disk;
pub mod http;
#[cfg(madsim)]
mod lies;
pub mod net;
pub mod random;
#[cfg(madsim)]
pub mod sim;
pub mod task;
pub mod time;

/// Names the time since this host was last started: the same for every process until the host reboots or loses its
/// power. Where the system cannot tell, each call names another one, as after a reboot.
pub fn boot_id() -> String {
    #[cfg(madsim)]
    if let Some(id) = context::with(|node| node.world.boot_id(node.host)) {
        return id;
    }
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) => id.trim().to_owned(),
        Err(_) => format!("unknown-{:016x}", random::stream("boot").next_u64()),
    }
}
