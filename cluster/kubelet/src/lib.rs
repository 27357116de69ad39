//! The node agent: pod lifecycle as a pure function over a container runtime, and the hollow runtime.
//!
//! ```text
//! pod        what is to be done about a pod: pure                  (pod_actions)
//! agent      the loop that asks it and does it; Node, Lease, statuses
//! runtime    what a container runtime is to the agent              (trait ContainerRuntime)
//! hollow     one in memory, whose programs really listen           (Hollow, HollowFaults)
//! probe      startup, liveness and readiness probes over the network
//! grpc_health  gRPC's health protocol, for probes and for what hollow containers answer
//! ```

mod addresses;
mod admission;
pub mod agent;
mod grpc_health;
pub mod hollow;
pub mod pod;
mod probe;
mod resources;
pub mod runtime;
mod state_file;

pub use agent::{Agent, AgentConfig, Capacity, ContainerView, PodView, StartError, View};
pub use hollow::{Hollow, HollowConfig, HollowFaults, Programs, StandardPrograms};
pub use runtime::ContainerRuntime;

/// Now, by the wall clock.
pub(crate) fn wall() -> api::Timestamp {
    let unix_ns = rt::time::Timestamp::now().unix_ns;
    api::Timestamp::from_nanosecond(i128::from(unix_ns)).unwrap_or(api::Timestamp::UNIX_EPOCH)
}
