//! Seaworthy: the roles of the orchestrator wired into a process.
//!
//! ```text
//! main: arguments, logs, signals ──▶ Server ──▶ roles: the store's member
//! ```
//!
//! The same [`Server`] runs on a real machine and on a simulated host; only `main` knows which arguments, environment
//! and signals there are.

use std::fmt;
use store::server::{Member, MemberConfig, StartError, StopReason, View};

/// Which roles a process has.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// A member of the store.
    pub store: MemberConfig,
}

/// A process with its roles running. Dropping it ends them at once, as a kill would.
pub struct Server {
    store: Member,
}

impl Server {
    /// Starts every role. When this returns, the data directory is open and the ports are listened on; a leader may yet
    /// have to be elected.
    ///
    /// # Errors
    /// What is wrong with the configuration, the data directory or the ports, in a sentence for the operator.
    pub async fn start(config: ServerConfig) -> Result<Self, StartError> {
        Ok(Self { store: Member::start(config.store).await? })
    }

    /// The server as it is now.
    pub fn view(&self) -> View {
        self.store.view()
    }

    /// The store's member.
    pub fn store(&self) -> &Member {
        &self.store
    }

    /// Completes when a role has stopped, and says why. Anything but [`StopReason::Shutdown`] is a failure of the
    /// process. May be dropped and called again.
    pub async fn stopped(&self) -> StopReason {
        self.store.stopped().await
    }

    /// Stops every role gracefully: leadership is handed over, requests under way are answered for a moment, everything
    /// is durable and the data directory unlocked when this returns.
    pub async fn shutdown(&self) -> StopReason {
        self.store.shutdown().await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}
