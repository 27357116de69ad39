//! The life of one pod, as a pure function: what is wanted, what runs and what is remembered go in; what is to be done
//! next, the status and the memory come out.
//!
//! ```text
//! Pod (API) ─┐
//! Record  ───┤                    ┌─▶ stops, next step      done by the agent, one step at a time
//! Listing ───┼──▶ pod_actions ────┼─▶ Record                on disk before the step
//! Facts   ───┤                    ├─▶ PodStatus             written to the API
//! now     ───┘                    └─▶ wake, notes
//! ```
//!
//! - [`Record`] outlives the agent: how often a container was meant to start, how it ended, what was decided for good.
//! - [`Facts`] live as long as the agent: probe results, hooks, failures of the runtime.
//!
//! **Invariant:** under restartPolicy Never a regular container is started at most once, and a terminal phase never
//! changes (`random_lives_keep_the_promises` in tests).

mod actions;
mod life;
mod record;
mod spec;
mod status;
mod steps;
#[cfg(test)]
mod tests;

pub use actions::{Decision, Step, Stop, View, Wanted, pod_actions};
pub use record::{ContainerRecord, Facts, Failure, FailureKind, Hook, ProbeResults, Record, Verdict};
pub use spec::{Kind, Named, containers, grace, policy_is_never};
pub use status::same;
pub(crate) use status::{merged, shown};
