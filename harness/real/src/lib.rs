//! Clusters of real processes on this machine, which a trial may kill.
//!
//! ```text
//! the store:         schedule(seed) -> the trial kills and restarts -> Cluster { member: process, data, log } -> Strikes
//! the orchestrator:  Order -> real-trial: run { servers, agents, users, faults } -> Record
//! ```
//!
//! Every process is of the production build, on loopback, with a data directory and a log file of its own below one
//! folder. An orchestrator is reached by TLS, which the simulator build has not: so [`run`] is for a program of its own,
//! `real-trial`, of the production build, and `seatrial` judges the record that it leaves.
//!
//! **Invariant:** no process outlives its [`Process`] (`dropping_a_process_ends_it`), nor the process that made it if
//! [`Program::before`] sees to it.

mod clock;
mod cluster;
mod field;
mod logs;
mod look;
mod place;
mod ports;
mod process;
mod schedule;
mod storm;
mod story;
mod trial;

pub use cluster::Cluster;
pub use process::{Error, Process, Program};
pub use schedule::{SLOT_NS, schedule};
pub use trial::{KINDS, NOT_JUDGED, Order, RECORD_FILE, SLACK_NS, config, faults, run};
