//! The scheduler: finds a node for every pod that has none, or says why there is none.
//!
//! ```text
//! informers ──▶ Scheduler: cache ◀──assume── schedule_one ◀──pop── queue ◀──events that may help
//!                       │                    │ Bind, Fail                     ▲
//!                       └───────view─────────┘──▶ perform ──▶ API servers ────┘
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`scheduler`] | everything that is known and to be done; no effects |
//! | [`queue`] | pods that wait: active, backoff, unschedulable, gated, in flight |
//! | [`events`] | which events wake which parked pods |
//! | [`cache`] | nodes, pods on them, assumed pods |
//! | [`filter`], [`score`] | where a pod may run, and where it does best |
//! | [`preemption`] | who has to go for it |
//! | [`schedule`] | one cycle, a pure function |
//! | [`writes`] | what is written about a pod |
//! | [`mod@run`] | election, informers, jobs |
//!
//! Behaviour is that of kube-scheduler 1.35 with its default plugins and weights. Deliberate differences: a pod is held
//! in flight until what was decided about it is written, so that nothing is decided twice; a binding of unknown outcome
//! is repeated until it is certain, instead of choosing another node; pods in backoff are not popped early when nothing
//! else waits; without any node, pods wait for one instead of for time.

pub mod amounts;
pub mod cache;
pub mod events;
pub mod filter;
pub mod matching;
pub mod message;
pub mod node;
pub mod nominated;
mod perform;
pub mod plugin;
pub mod pod;
pub mod preemption;
pub mod queue;
pub mod run;
pub mod schedule;
pub mod scheduler;
pub mod score;
#[cfg(test)]
mod testing;
pub mod writes;

pub use run::{SchedulerConfig, SchedulerHandle, SchedulerView, run};
