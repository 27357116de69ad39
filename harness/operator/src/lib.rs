//! Trials of somebody's own operator, made with kube-rs, against a simulated cluster.
//!
//! An operator is a program that others wrote, and it calls tokio itself: so it runs in simulator B, where tokio is real and
//! its time is not. Its crate links this one and says what is to be tried:
//!
//! ```ignore
//! fn main() -> std::process::ExitCode {
//!     operator::main(operator::Subject {
//!         name: "replicated",
//!         run: |client| Box::pin(replicated::run(client)),
//!         users: include_str!("users.yaml"),
//!     })
//! }
//! ```
//!
//! ```text
//!  host users ── what users do ──▶ host s1: store, API server, controllers ◀── gate ◀── host operator: kube::Client
//!                                                                               ^ strikes
//! ```
//!
//! What finds operators' bugs is known (Sun et al., *Automatic Reliability Testing For Cluster Management Controllers*, OSDI
//! 2022): a crash between two writes, a view of the cluster that is old, changes that were never seen. Each trial draws a
//! few of these from its seed, aimed by counting what an undisturbed run writes and is told. It holds if the cluster comes
//! to the same state as undisturbed: whatever happens to the operator in between must not be seen in the end. What differs
//! from one undisturbed run to the next does not count.
//!
//! **Invariant:** the same seed and strikes give the same run, line for line (`a_trial_repeats_and_a_crash_between_two_writes_shows_what_is_half_made` in workloads/replicated).

#[cfg(not(madsim))]
compile_error!(
    "trials of operators exist only in the simulator build: run them by `cargo trial operator` and unset RUSTFLAGS (an \
     exported RUSTFLAGS replaces the flags of the alias, and with them its `--cfg madsim`)"
);

mod cli;
mod compare;
mod gate;
mod process;
mod report;
mod run;
mod strikes;
mod trials;
mod users;
mod wire;

pub use cli::main;

use std::future::Future;
use std::pin::Pin;

/// An operator at work. It may end, which counts as a crash.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is tried.
#[derive(Clone, Copy)]
pub struct Subject {
    /// For people.
    pub name: &'static str,
    /// A process of the operator, from its start. It has the client that it is given and its memory, and neither disk nor
    /// any other network; each crash begins a new one.
    pub run: fn(kube::Client) -> Work,
    /// What users do meanwhile: YAML, a list of steps. Each has `at`, such as `20s`, counted from when the cluster serves,
    /// and one of `create` (an object), `patch` (an object's names, and what is to be merged into it) and `delete` (an
    /// object's names).
    pub users: &'static str,
}
