//! The swappable layer: network, time, tasks, randomness and disk, real and simulated.
//!
//! All of the product that touches the world outside its own memory does it through this crate, which is shaped like
//! tokio. There are two builds. The production build holds the real backend alone: tokio, real sockets, clocks and
//! disks. The simulator build (`--cfg madsim`) holds all, and what a call does depends on the task that makes it:
//!
//! ```text
//! task of a simulated process -- NodeContext on the thread --> A: madsim's executor and timers, our network, clocks, disk
//!                                                          `-> B: tokio under turmoil, its network, our clocks and disk
//! any other thread             -- no NodeContext           --> real: tokio and the operating system
//! ```
//!
//! [`sim`] is the simulators' control handle: hosts, processes, links, clocks, power. One [`sim::Config`] says which.
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
pub mod tls;

/// Lets this process have as many files and connections open as the system allows it at all: what a shell gives to its
/// programs is meant for those that wait for a few of them. For mains.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, fewer connections are served.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

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

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    #[test]
    fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: limit.maximum }).unwrap();
        super::raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
