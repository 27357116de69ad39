//! A cluster of real processes on this machine, which a trial may kill.
//!
//! ```text
//! schedule(seed) -> Schedule -> the trial kills and restarts -> Cluster { member: process, data, log } -> Strikes
//! ```
//!
//! Every member is a process of the production build on loopback, with a data directory and a log file of its own below
//! one folder. What happens in which order is up to the trial; here is only how.
//!
//! **Invariant:** no process outlives its [`Cluster`] (`dropping_a_cluster_ends_its_processes`), nor the process that
//! made it if [`Program::before`] sees to it.

mod cluster;
mod ports;
mod schedule;

pub use cluster::{Cluster, Error, Program};
pub use schedule::{SLOT_NS, schedule};
