//! A server: a member of the store, and the control plane on it.

use crate::control::{ComponentView, Control, ControlConfig};
use std::collections::BTreeMap;
use std::fmt;
use store::server::{Member, MemberConfig, StartError, StopReason, View};

/// Which roles a process has.
#[derive(Clone)]
pub struct ServerConfig {
    /// A member of the store.
    pub store: MemberConfig,
    /// The control plane on it, if it has one.
    pub control: Option<ControlConfig>,
}

/// Why a server cannot start; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store's member cannot.
    #[error(transparent)]
    Store(#[from] StartError),
    /// The API server cannot.
    #[error(transparent)]
    Api(#[from] apiserver::StartError),
}

/// A process with its roles running. Dropping it ends them at once, as a kill would.
pub struct Server {
    // Dropped first: what runs on the store ends before it.
    control: Option<Control>,
    store: Member,
}

impl Server {
    /// Starts every role. When this returns, the data directory is open and the ports are listened on; a leader may yet
    /// have to be elected.
    ///
    /// # Errors
    /// What is wrong with the configuration, the data directory or the ports, in a sentence for the operator.
    pub async fn start(config: ServerConfig) -> Result<Self, ServerError> {
        let store = Member::start(config.store).await?;
        let control = match config.control {
            Some(config) => Some(Control::start(config, &store).await?),
            None => None,
        };
        Ok(Self { control, store })
    }

    /// The server as it is now.
    pub fn view(&self) -> View {
        self.store.view()
    }

    /// The store's member.
    pub fn store(&self) -> &Member {
        &self.store
    }

    /// What each component of the control plane knows and has to do, by its name; nothing of those that do not lead.
    pub fn components(&self) -> BTreeMap<&'static str, ComponentView> {
        self.control.as_ref().map(Control::components).unwrap_or_default()
    }

    /// Requests that the API server has answered, by verb, resource and code.
    pub fn requests(&self) -> BTreeMap<(String, String, u16), u64> {
        self.control.as_ref().map(Control::requests).unwrap_or_default()
    }

    /// Completes when a role has stopped, and says why. Anything but [`StopReason::Shutdown`] is a failure of the
    /// process. May be dropped and called again.
    pub async fn stopped(&self) -> StopReason {
        self.store.stopped().await
    }

    /// Stops every role gracefully: leadership is handed over, requests under way are answered for a moment, everything
    /// is durable and the data directory unlocked when this returns.
    pub async fn shutdown(&self) -> StopReason {
        if let Some(control) = &self.control {
            control.shutdown().await;
        }
        self.store.shutdown().await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}
