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
#[cfg(madsim)]
mod lies;
pub mod net;
pub mod random;
#[cfg(madsim)]
pub mod sim;
pub mod task;
pub mod time;
