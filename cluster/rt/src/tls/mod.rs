//! TLS 1.3 and the certificates that it needs.
//!
//! ```text
//! authority() ─▶ Pair of a CA ─issue()─▶ Pair of a server or client ─▶ ServerTls, ClientTls ─▶ net::TcpStream
//! ```
//!
//! A stream of [`net`](crate::net) is plain or secured, and whoever reads and writes it need not know which. A server
//! asks for a client's certificate and goes on without one; what a verified one says is the stream's
//! [`peer_subject`](crate::net::TcpStream::peer_subject).
//!
//! All of this exists only with the feature `tls`, which the production build of the `seaworthy` binary enables. Without
//! it, as in the simulator, every call is refused with [`TlsError::Unsupported`], nothing of rustls is compiled, and
//! streams are plain: identity in the simulator is that of the simulated process at the other end.
//!
//! **Limits:** certificates are X.509 of version 3 with P-256 keys; nothing is revoked before it expires.
//!
//! **Invariant:** a stream is handed over only after its handshake; what the peer claims in it was verified
//! (`a_client_with_a_certificate_of_another_authority_is_refused` in tests/tls.rs).

use crate::time::Timestamp;
use std::fmt;
use std::io;

#[cfg(feature = "tls")]
mod certificates;
#[cfg(feature = "tls")]
mod der;
#[cfg(feature = "tls")]
mod pinned;
#[cfg(feature = "tls")]
mod session;
#[cfg(not(feature = "tls"))]
mod without;

#[cfg(feature = "tls")]
use certificates as backend;
#[cfg(not(feature = "tls"))]
use without as backend;

#[cfg(feature = "tls")]
pub(crate) use session::Stream;

/// Why there is no certificate or no secured connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// This build has no TLS.
    #[error("this build has no TLS")]
    Unsupported,
    /// What was given is no certificate or key, or they do not fit.
    #[error("{0}")]
    Malformed(String),
    /// The cryptography refused.
    #[error("no certificate can be made: {0}")]
    Failed(String),
}

/// A certificate and its private key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate; what follows it in a chain may follow here.
    pub certificate: String,
    /// The private key, in PKCS#8. A secret.
    pub key: String,
}

/// The key stays out of logs.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Whom a certificate is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// CN: the user's name, to Kubernetes.
    pub common_name: String,
    /// Each O: the user's groups.
    pub organizations: Vec<String>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To prove a server's names.
    Server,
    /// To prove who a client is.
    Client,
    /// Both, of those who call each other.
    Peer,
}

/// A certificate that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// CN.
    pub common_name: String,
    /// O.
    pub organization: Option<String>,
    /// Host names and IP addresses.
    pub names: Vec<String>,
    /// What for.
    pub usage: Usage,
}

/// From when until when a certificate is valid, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub from: Timestamp,
    /// Last moment.
    pub until: Timestamp,
}

/// What a certificate says. Reading it proves nothing about who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// About whom.
    pub subject: Subject,
    /// Host names and IP addresses, in the order of the certificate.
    pub names: Vec<String>,
    /// When.
    pub validity: Validity,
}

/// Makes a certificate authority, which signs itself.
///
/// # Errors
/// [`TlsError`]; nothing was made.
pub fn authority(common_name: &str, validity: Validity) -> Result<Pair, TlsError> {
    backend::authority(common_name, validity)
}

/// Makes a certificate that `authority` signs.
///
/// # Errors
/// `Malformed` if the authority is none, or a name is neither a host's name nor an address.
pub fn issue(authority: &Pair, wanted: &Wanted, validity: Validity) -> Result<Pair, TlsError> {
    backend::issue(authority, wanted, validity)
}

/// Reads the first certificate in a PEM text.
///
/// # Errors
/// `Malformed` if there is none.
pub fn read(pem: &str) -> Result<Certificate, TlsError> {
    backend::read(pem)
}

/// SHA-256 of an authority's public key, in lower-case hexadecimal: what a join token pins, and what
/// `openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum` prints.
///
/// # Errors
/// `Malformed` if the text has no certificate.
pub fn public_key_hash(pem: &str) -> Result<String, TlsError> {
    backend::public_key_hash(pem)
}

/// How a server secures its connections: not at all by default.
#[derive(Clone, Default)]
pub struct ServerTls(#[cfg(feature = "tls")] pub(crate) Option<tokio_rustls::TlsAcceptor>);

/// How a client secures its connections: not at all by default.
#[derive(Clone, Default)]
pub struct ClientTls(#[cfg(feature = "tls")] pub(crate) Option<tokio_rustls::TlsConnector>);

impl ServerTls {
    /// A server that shows `pair`, and lets those in whom `clients`, an authority's certificate in PEM, vouches for, as
    /// well as those who show no certificate. HTTP/1.1 is what is spoken.
    ///
    /// # Errors
    /// `Malformed` if certificate and key are not what they should be.
    pub fn new(pair: &Pair, clients: &str) -> Result<Self, TlsError> {
        backend::server(pair, clients)
    }

    /// Whether connections are not secured.
    pub fn is_plain(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.0.is_none();
        #[cfg(not(feature = "tls"))]
        true
    }
}

impl ClientTls {
    /// A client that trusts servers whom `authority` (a certificate in PEM) vouches for, and shows `pair` if it has one.
    ///
    /// # Errors
    /// `Malformed` if certificate and key are not what they should be.
    pub fn new(authority: &str, pair: Option<&Pair>) -> Result<Self, TlsError> {
        backend::client(authority, pair)
    }

    /// A client that knows of its authority only the [`public_key_hash`], and shows nothing itself: for the first contact.
    /// Servers must show the authority's certificate behind their own.
    ///
    /// # Errors
    /// This build has no TLS.
    pub fn pinned(hash: &str) -> Result<Self, TlsError> {
        backend::pinned(hash)
    }

    /// Whether connections are not secured.
    pub fn is_plain(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.0.is_none();
        #[cfg(not(feature = "tls"))]
        true
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_plain() { "ServerTls(plain)" } else { "ServerTls" })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_plain() { "ClientTls(plain)" } else { "ClientTls" })
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match error {
            TlsError::Unsupported => io::ErrorKind::Unsupported,
            TlsError::Malformed(_) => io::ErrorKind::InvalidInput,
            TlsError::Failed(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
