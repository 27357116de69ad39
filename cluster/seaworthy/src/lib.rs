//! Seaworthy: the roles of the orchestrator wired into a process.
//!
//! ```text
//! main: arguments, logs, signals ──▶ Server ──▶ a member of the store ── API server ◀── controllers, scheduler
//!                                 ──▶ Agent  ──▶ node agent over a container runtime, service proxy
//!                                 ──▶ Up     ──▶ a Server and hollow Agents in one process, with TLS among them
//!                                 ──▶ ServerProcess, AgentProcess ──▶ one of them, which joins the others
//! ```
//!
//! The same [`Server`] and [`Agent`] run on a real machine and on a simulated host; only `main` knows which arguments,
//! environment and signals there are.

mod addresses;
mod agent;
mod apart;
mod control;
mod data_dir;
mod files;
mod identity;
pub mod join;
pub mod kubeconfig;
mod metrics;
mod outside;
mod process_error;
mod secured;
mod server;
mod up;

pub use apiserver::Build;

pub use addresses::{PodRange, RangeError};
pub use agent::{Agent, AgentConfig, AgentError};
pub use apart::{AgentProcess, AgentProcessConfig, Named, ServerProcess, ServerProcessConfig};
pub use control::{Access, ComponentView, ControlConfig};
pub use data_dir::DataDirError;
pub use identity::{Authority, IdentityError};
pub use join::{JoinError, JoinToken};
pub use process_error::ProcessError;
pub use secured::ListenError;
pub use server::{Server, ServerConfig, ServerError};
pub use up::{Up, UpConfig};
