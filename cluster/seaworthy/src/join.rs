//! Joining a cluster: what a new server or agent must know, and what it is given.
//!
//! ```text
//! token "sw1.agent.HASH.SECRET"
//!   joiner ── TLS, the authority pinned by HASH ──▶ POST /seaworthy/join/agent, Bearer SECRET ──▶ any server
//!   joiner ◀── the authority's certificate, a certificate of its own, all servers ──────────────
//! ```
//!
//! There are two tokens: with the agents' one gets a certificate as a node, with the servers' everything that a server
//! has, the authority's key among it. Both are made at the first server's first start and are in its data directory.
//!
//! **Limit:** whoever has the agents' token can become any node; keys are made by the server and travel inside of TLS.

use crate::identity::Authority;
use api::Status;
use apiserver::{JOIN, User};
use client::{Client, ClientConfig, JSON, Method, Token};
use rt::net::TcpStream;
use rt::time::{Instant, Timestamp, sleep, timeout};
use rt::tls::{ClientTls, Pair, TlsError, public_key_hash};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;
use std::time::Duration;

/// The form of tokens that this is.
const FORM: &str = "sw1";

/// Between attempts to reach a server that is perhaps starting too.
const RETRY: Duration = Duration::from_millis(500);

/// How long one of them may take to show who it is.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// How long servers are waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// As what one joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of the control plane.
    Server,
    /// A node.
    Agent,
}

impl Role {
    const ALL: [Role; 2] = [Role::Server, Role::Agent];

    /// As tokens and paths have it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Agent => "agent",
        }
    }

    /// Who one is by the secret of such a token.
    pub(crate) fn user(self) -> String {
        format!("system:bootstrap:{}", self.name())
    }
}

/// By what a cluster is joined. A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// As what.
    pub role: Role,
    /// Hash of the authority's public key.
    pub hash: String,
    /// What the servers know it by.
    pub secret: String,
}

/// The secret stays out of logs.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("role", &self.role).field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// It is no token; a sentence for the operator, without the text itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not of the form sw1.ROLE.HASH.SECRET; copy all of it")]
pub struct TokenError;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}.{}.{}.{}", self.role.name(), self.hash, self.secret)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match parts[..] {
            [FORM, role, hash, secret] if hash.len() == 64 && is_hex(hash) && is_hex(secret) => {
                let role = Role::ALL.into_iter().find(|known| known.name() == role).ok_or(TokenError)?;
                Ok(Self { role, hash: hash.to_owned(), secret: secret.to_owned() })
            }
            _ => Err(TokenError),
        }
    }
}

/// What all servers of a cluster have in common, and nobody else.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The authority.
    pub authority: Authority,
    /// The administrator's token.
    pub admin: String,
    /// The secrets of the tokens by which servers and agents join.
    pub secrets: Secrets,
}

/// The secrets of the tokens by which one joins.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Servers.
    pub server: String,
    /// Agents.
    pub agent: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// The secret for a role.
    pub fn of(&self, role: Role) -> &str {
        match role {
            Role::Server => &self.server,
            Role::Agent => &self.agent,
        }
    }
}

impl Shared {
    /// By what one joins as `role`.
    ///
    /// # Errors
    /// The authority is none.
    pub fn token(&self, role: Role) -> Result<JoinToken, TlsError> {
        let hash = public_key_hash(self.authority.certificate())?;
        Ok(JoinToken { role, hash, secret: self.secrets.of(role).to_owned() })
    }
}

/// What one says who joins.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    /// The node's or the server's name.
    name: String,
}

/// What one is given who joins.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The authority's certificate.
    pub(crate) authority: String,
    /// `host:port` of every API server.
    pub(crate) servers: Vec<String>,
    /// For an agent: its certificate and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<Keys>,
    /// For a server: what servers have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ForServer>,
}

/// A certificate and its key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Keys {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What servers have in common.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ForServer {
    pub(crate) authority_key: String,
    pub(crate) admin: String,
    pub(crate) secrets: Secrets,
}

/// Answers one who joins: `path` says as what, `user` by which secret.
///
/// # Errors
/// What they are told: 403 for another role than the secret's, 404 for no role, 400 for a name that cannot be.
pub(crate) fn welcome(
    shared: &Shared,
    servers: &[String],
    user: &User,
    path: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<Welcome, Status> {
    let named = path.strip_prefix(JOIN).unwrap_or_default();
    let Some(role) = Role::ALL.into_iter().find(|role| role.name() == named) else {
        return Err(Status::new(404, "NotFound", "one joins as server or as agent"));
    };
    let is_admin = user.groups.iter().any(|group| group == "system:masters");
    if user.name != role.user() && !is_admin {
        return Err(Status::new(403, "Forbidden", format!("this token is not one for a {named}")));
    }
    let hello: Hello = serde_json::from_slice(body).map_err(|error| Status::bad_request(error.to_string()))?;
    if let Some(wrong) = api::names::dns1123_subdomain(&hello.name).into_iter().next() {
        return Err(Status::bad_request(format!("the name {:?} {wrong}", hello.name)));
    }
    let (mut agent, mut server) = (None, None);
    match role {
        Role::Agent => {
            let issued = shared.authority.node_pair(&hello.name, now);
            let Pair { certificate, key } = issued.map_err(|error| Status::internal(error.to_string()))?;
            agent = Some(Keys { certificate, key });
        }
        Role::Server => {
            let authority_key = shared.authority.key().to_owned();
            server = Some(ForServer { authority_key, admin: shared.admin.clone(), secrets: shared.secrets.clone() });
        }
    }
    tracing::info!(name = hello.name, role = named, "welcome");
    Ok(Welcome { authority: shared.authority.certificate().to_owned(), servers: servers.to_vec(), agent, server })
}

/// Why one cannot join; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is for something else.
    #[error("this is a token for a {}, and a {} needs one of its own", .has.name(), .needs.name())]
    Role {
        /// What it is for.
        has: Role,
        /// What was wanted.
        needs: Role,
    },
    /// No server could be asked.
    #[error("no server could be asked to join: {0}; check the addresses, and that the token is this cluster's")]
    Unreachable(String),
    /// A server is of another cluster, or pretends.
    #[error("the server at {0} does not prove that it has the authority that the token names; nothing was sent to it")]
    Foreign(String),
    /// A server refused.
    #[error("a server refused: {0}")]
    Refused(String),
    /// The answer makes no sense.
    #[error("a server's answer is not understood: {0}; do both run the same version?")]
    NotUnderstood(String),
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Joins as `role`, by whichever of `servers` answers.
///
/// # Errors
/// Nothing was given.
pub(crate) async fn ask(servers: &[String], token: &JoinToken, role: Role, name: &str) -> Result<Welcome, JoinError> {
    if token.role != role {
        return Err(JoinError::Role { has: token.role, needs: role });
    }
    let mut config = ClientConfig::new(servers.to_vec(), "seaworthy-join");
    let tls = ClientTls::pinned(&token.hash)?;
    config.tls = tls.clone();
    config.token = Some(Token(token.secret.clone()));
    let client = Client::new(config);
    let body = serde_json::to_vec(&Hello { name: name.to_owned() }).expect("a name has a form in JSON");
    let path = format!("{JOIN}{}", role.name());
    let began = Instant::now();
    loop {
        match client.request(Method::POST, &path, JSON, body.clone().into()).await {
            Ok(answer) if answer.code == 200 => return understood(&answer.body, token),
            Ok(answer) if answer.code == 401 => {
                return Err(JoinError::Refused("it does not know this token".to_owned()));
            }
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let message = serde_json::from_str(&text).ok().and_then(|status: Said| status.message);
                return Err(JoinError::Refused(message.unwrap_or(text)));
            }
            Err(error) => {
                if let Some(server) = foreign(servers, &tls).await {
                    return Err(JoinError::Foreign(server));
                }
                if began.elapsed() > PATIENCE {
                    return Err(JoinError::Unreachable(error.to_string()));
                }
                tracing::info!(%error, "no server can be asked yet");
            }
        }
        sleep(RETRY).await;
    }
}

/// The first of the servers that answers and cannot prove who it is.
async fn foreign(servers: &[String], tls: &ClientTls) -> Option<String> {
    for server in servers {
        if let Ok(Err(error)) = timeout(HANDSHAKE, TcpStream::connect_secured(server, tls)).await
            && error.kind() == ErrorKind::InvalidData
        {
            return Some(server.clone());
        }
    }
    None
}

/// The part of a Status that says why.
#[derive(Deserialize)]
struct Said {
    message: Option<String>,
}

fn understood(body: &[u8], token: &JoinToken) -> Result<Welcome, JoinError> {
    let welcome: Welcome = serde_json::from_slice(body).map_err(|error| JoinError::NotUnderstood(error.to_string()))?;
    // The connection was with this authority, and so must be what comes after.
    if public_key_hash(&welcome.authority)? != token.hash {
        return Err(JoinError::NotUnderstood("it names another authority than the token".to_owned()));
    }
    Ok(welcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_as_it_is_written_and_nothing_else_does() {
        let token = JoinToken { role: Role::Agent, hash: "0a".repeat(32), secret: "ff00".to_owned() };
        let text = token.to_string();
        assert_eq!(text, format!("sw1.agent.{}.ff00", "0a".repeat(32)));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        for wrong in [&text[1..], &text[..70], "", &text.replace("agent", "user"), &text.replace("ff00", "")] {
            assert_eq!(wrong.parse::<JoinToken>(), Err(TokenError), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("ff00"));
    }
}
