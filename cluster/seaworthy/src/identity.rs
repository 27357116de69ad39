//! Who is who in a cluster: its own certificate authority, the certificates of its components, and the secrets by which
//! people, servers and agents are known.
//!
//! ```text
//! authority.pem ─ made at the first start, and anew before it expires
//!      ├─ the API server's certificate, for its names
//!      └─ client certificates of the components: system:kube-scheduler, system:node:NAME of system:nodes, ...
//! token, join.json ─ the administrator's token, and those by which one joins; made at the first start
//! ```
//!
//! Only these are on disk, the same on every server. What the authority issues is made anew at each start and stays in
//! memory, so that no certificate gets old unless its process does, and no key lies about.
//!
//! **Limit:** where there are several servers, the authority is not renewed by itself, because all would have to agree on
//! the new one: in its last year each start warns.

use crate::files;
use crate::join::{ForServer, Secrets, Shared};
use rt::disk::Dir;
use rt::time::Timestamp;
use rt::tls::{self, ClientTls, Pair, ServerTls, TlsError, Usage, Validity, Wanted};
use std::io;
use std::time::Duration;
use store::server::PeerTls;

/// The authority's name.
const AUTHORITY: &str = "seaworthy-ca";
const AUTHORITY_FILE: &str = "authority.pem";
const TOKEN_FILE: &str = "token";
const SECRETS_FILE: &str = "join.json";
/// Organization of the members of the store, in their certificates.
const MEMBERS: &str = "seaworthy:members";
/// Upstream's lifetimes.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// A certificate is valid from before it was made on, for those whose clocks are behind.
const BEFORE: Duration = Duration::from_secs(3600);
/// Where the key begins in the authority's file.
const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";

/// What to do about an authority that expires before what it would issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiring {
    /// Make a new one: there is one server, which hands out what follows from it.
    Renew,
    /// Say so: others have the same one.
    Warn,
}

/// Why there is no identity; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{file}: {error}")]
    Io {
        /// Its name.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// There is no authority.
    #[error("there is no authority in {0}; name the data directory of `up` or of a server")]
    Absent(String),
    /// The authority's file is not what was written.
    #[error("{file} is damaged: {error}; restore it, or remove it and a new authority is made")]
    Damaged {
        /// Its name.
        file: String,
        /// What is wrong.
        error: String,
    },
    /// The cryptography refuses.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The cluster's authority.
#[derive(Clone, Debug)]
pub struct Authority {
    pair: Pair,
}

impl Authority {
    /// The authority whose file is in `dir`; a new one if there is none.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) async fn open(dir: &Dir, expiring: Expiring, now: Timestamp) -> Result<Self, IdentityError> {
        let file = format!("{}/{AUTHORITY_FILE}", dir.path());
        let io = |error| IdentityError::Io { file: file.clone(), error };
        if let Some(text) = files::read(dir, AUTHORITY_FILE).await.map_err(io)? {
            let damaged = |error: String| IdentityError::Damaged { file: file.clone(), error };
            let pair = parse(&text).ok_or_else(|| damaged("it has no certificate and key".to_owned()))?;
            let says = tls::read(&pair.certificate).map_err(|error| damaged(error.to_string()))?;
            if says.validity.until >= validity(now, CERTIFICATE_LIFE).until {
                return Ok(Self { pair });
            }
            match expiring {
                Expiring::Renew => {
                    tracing::warn!(%file, "the authority expires within a year: a new one is made; hand out kubeconfigs again");
                }
                Expiring::Warn => {
                    tracing::warn!(%file, "the authority expires within a year: stop all servers, remove this file of the \
                                           first, start it, and let all others join anew");
                    return Ok(Self { pair });
                }
            }
        }
        let pair = tls::authority(AUTHORITY, validity(now, AUTHORITY_LIFE))?;
        files::replace(dir, AUTHORITY_FILE, &format!("{}{}", pair.certificate, pair.key)).await.map_err(io)?;
        Ok(Self { pair })
    }

    /// The authority whose file is in the data directory at `path`, which may be in use. Nothing is made.
    ///
    /// # Errors
    /// There is none.
    pub async fn existing(path: &str) -> Result<Self, IdentityError> {
        let file = format!("{path}/{AUTHORITY_FILE}");
        let io = |error| IdentityError::Io { file: file.clone(), error };
        let absent = || IdentityError::Absent(path.to_owned());
        let (parent, name) = files::split(path);
        // Opening a directory would make it.
        if !Dir::open(parent).await.map_err(io)?.exists(name).await.map_err(io)? {
            return Err(absent());
        }
        let dir = Dir::open(path).await.map_err(io)?;
        let text = files::read(&dir, AUTHORITY_FILE).await.map_err(io)?.ok_or_else(absent)?;
        let error = || IdentityError::Damaged { file: file.clone(), error: "it has no certificate and key".to_owned() };
        Ok(Self { pair: parse(&text).ok_or_else(error)? })
    }

    /// Its certificate in PEM, which is no secret.
    pub fn certificate(&self) -> &str {
        &self.pair.certificate
    }

    /// Its key in PEM. The cluster's greatest secret.
    pub(crate) fn key(&self) -> &str {
        &self.pair.key
    }

    /// What a server shows that is reached by `names`, hosts' names and addresses; it lets clients of this authority in.
    ///
    /// # Errors
    /// A name is none.
    pub fn server(&self, names: &[String], now: Timestamp) -> Result<ServerTls, TlsError> {
        let wanted = Wanted {
            common_name: "kube-apiserver".to_owned(),
            organization: None,
            names: names.to_vec(),
            usage: Usage::Server,
        };
        self.shown(tls::issue(&self.pair, &wanted, validity(now, CERTIFICATE_LIFE))?)
    }

    /// How members of the store are secured from each other; this one is reached by `names`.
    ///
    /// # Errors
    /// A name is none.
    pub(crate) fn peer(&self, name: &str, names: &[String], now: Timestamp) -> Result<PeerTls, TlsError> {
        let wanted = Wanted {
            common_name: name.to_owned(),
            organization: Some(MEMBERS.to_owned()),
            names: names.to_vec(),
            usage: Usage::Peer,
        };
        let pair = tls::issue(&self.pair, &wanted, validity(now, CERTIFICATE_LIFE))?;
        let client = ClientTls::new(&self.pair.certificate, Some(&pair))?;
        Ok(PeerTls { server: self.shown(pair)?, client, organization: MEMBERS.to_owned() })
    }

    /// The authority's certificate follows the server's, for those who know only the authority's hash.
    fn shown(&self, pair: Pair) -> Result<ServerTls, TlsError> {
        let certificate = format!("{}{}", pair.certificate, self.pair.certificate);
        ServerTls::new(&Pair { certificate, ..pair }, &self.pair.certificate)
    }

    /// By what a node's agent is known.
    pub(crate) fn node_pair(&self, node: &str, now: Timestamp) -> Result<Pair, TlsError> {
        self.client_pair(&format!("system:node:{node}"), Some("system:nodes"), now)
    }

    /// A certificate by which a client is `user`, of `group`.
    ///
    /// # Errors
    /// The cryptography refuses.
    pub fn client_pair(&self, user: &str, group: Option<&str>, now: Timestamp) -> Result<Pair, TlsError> {
        let wanted = Wanted {
            common_name: user.to_owned(),
            organization: group.map(str::to_owned),
            names: Vec::new(),
            usage: Usage::Client,
        };
        tls::issue(&self.pair, &wanted, validity(now, CERTIFICATE_LIFE))
    }

    /// How a client that is `user`, of `group`, reaches servers of this authority.
    ///
    /// # Errors
    /// The cryptography refuses.
    pub fn client(&self, user: &str, group: Option<&str>, now: Timestamp) -> Result<ClientTls, TlsError> {
        ClientTls::new(&self.pair.certificate, Some(&self.client_pair(user, group, now)?))
    }
}

impl Shared {
    /// What the servers have in common, from `dir`; made where it is missing.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) async fn open(dir: &Dir, expiring: Expiring, now: Timestamp) -> Result<Self, IdentityError> {
        let authority = Authority::open(dir, expiring, now).await?;
        let admin = token(dir).await?;
        let io = |error| IdentityError::Io { file: format!("{}/{SECRETS_FILE}", dir.path()), error };
        let secrets = match files::read(dir, SECRETS_FILE).await.map_err(io)? {
            Some(text) => serde_json::from_str(&text).map_err(|error| IdentityError::Damaged {
                file: format!("{}/{SECRETS_FILE}", dir.path()),
                error: error.to_string(),
            })?,
            None => {
                let secrets = Secrets { server: secret(), agent: secret() };
                let text = serde_json::to_string(&secrets).expect("texts have a form in JSON");
                files::replace(dir, SECRETS_FILE, &text).await.map_err(io)?;
                secrets
            }
        };
        Ok(Self { authority, admin, secrets })
    }

    /// Whether `dir` has what servers have in common.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) async fn is_in(dir: &Dir) -> Result<bool, IdentityError> {
        let io = |error| IdentityError::Io { file: dir.path().to_owned(), error };
        // The authority is written last.
        dir.exists(AUTHORITY_FILE).await.map_err(io)
    }

    /// Keeps in `dir` what was given by another server.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) async fn keep(dir: &Dir, authority: &str, given: &ForServer) -> Result<(), IdentityError> {
        let io = |error| IdentityError::Io { file: dir.path().to_owned(), error };
        let secrets = serde_json::to_string(&given.secrets).expect("texts have a form in JSON");
        files::replace(dir, TOKEN_FILE, &given.admin).await.map_err(io)?;
        files::replace(dir, SECRETS_FILE, &secrets).await.map_err(io)?;
        files::replace(dir, AUTHORITY_FILE, &format!("{authority}{}", given.authority_key)).await.map_err(io)
    }
}

/// 256 bits of the system's randomness, in hexadecimal.
fn secret() -> String {
    rt::random::secret::<32>("secret").iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether what a certificate is for should be asked for anew: a third of its life is left.
///
/// # Errors
/// It is none.
pub(crate) fn is_old(certificate: &str, now: Timestamp) -> Result<bool, TlsError> {
    let Validity { from, until } = tls::read(certificate)?.validity;
    let life = until.unix_ns.saturating_sub(from.unix_ns);
    Ok(until.unix_ns.saturating_sub(now.unix_ns) < life / 3)
}

/// The administrator's token, made at the first start.
///
/// # Errors
/// The file cannot be used.
async fn token(dir: &Dir) -> Result<String, IdentityError> {
    let io = |error| IdentityError::Io { file: format!("{}/{TOKEN_FILE}", dir.path()), error };
    if let Some(token) = files::read(dir, TOKEN_FILE).await.map_err(io)?
        && !token.trim().is_empty()
    {
        return Ok(token.trim().to_owned());
    }
    let token = secret();
    files::replace(dir, TOKEN_FILE, &format!("{token}\n")).await.map_err(io)?;
    Ok(token)
}

fn parse(text: &str) -> Option<Pair> {
    let key_at = text.find(KEY_BEGINS)?;
    let (certificate, key) = text.split_at(key_at);
    Some(Pair { certificate: certificate.to_owned(), key: key.to_owned() })
}

/// From a little before `now` on, for `life`, in whole seconds.
fn validity(now: Timestamp, life: Duration) -> Validity {
    const SECOND_NS: i64 = 1_000_000_000;
    let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let now = now.unix_ns / SECOND_NS * SECOND_NS;
    let at = |unix_ns: i64| Timestamp { unix_ns };
    Validity { from: at(now.saturating_sub(nanoseconds(BEFORE))), until: at(now.saturating_add(nanoseconds(life))) }
}
