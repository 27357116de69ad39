//! Seaworthy: the roles of the orchestrator wired into a process.
//!
//! ```text
//! main: arguments, logs, signals ──▶ Server ──▶ a member of the store ── API server ◀── controllers, scheduler
//!                                 ──▶ Agent  ──▶ node agent over a container runtime, service proxy
//! ```
//!
//! The same [`Server`] and [`Agent`] run on a real machine and on a simulated host; only `main` knows which arguments,
//! environment and signals there are.

mod agent;
mod control;
mod server;

pub use agent::{Agent, AgentConfig, AgentError};
pub use control::{ComponentView, ControlConfig};
pub use server::{Server, ServerConfig, ServerError};
