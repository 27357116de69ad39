//! Why a process of the orchestrator does not start.

use crate::agent::AgentError;
use crate::data_dir::DataDirError;
use crate::identity::IdentityError;
use crate::join::JoinError;
use crate::kubeconfig;
use crate::secured::ListenError;
use crate::server::ServerError;
use rt::tls::TlsError;
use std::io;

/// Why a process does not start, be it a whole cluster or one of its roles; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// What was asked for cannot be.
    #[error("{0}")]
    Config(String),
    /// It cannot listen there.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory is not to be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// No identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cluster cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server cannot start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The agent of this machine cannot.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// One of several nodes cannot.
    #[error("node {node}: {error}")]
    Node {
        /// Which.
        node: String,
        /// Why.
        error: AgentError,
    },
    /// The kubeconfig cannot be written.
    #[error(transparent)]
    Kubeconfig(#[from] kubeconfig::WriteError),
    /// A file of the data directory.
    #[error("{file}: {error}")]
    Io {
        /// Which.
        file: String,
        /// Why.
        error: io::Error,
    },
}
