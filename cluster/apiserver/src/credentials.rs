//! Who asks, by what they show: a certificate, or a token. For networks on which everybody can be anybody.
//!
//! As upstream's API server does it: a client's certificate comes first, CN is the user and each O a group; then the
//! bearer token. Whoever shows neither is anonymous, and may ask for health and version alone, as upstream's role
//! `system:public-info-viewer` has it.

use crate::auth::{Authenticator, ConnectionInfo, User};
use api::Status;
use http::header::AUTHORIZATION;

/// What anybody may ask for.
const PUBLIC: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// The group of all who have shown something.
const AUTHENTICATED: &str = "system:authenticated";

/// A scheme of HTTP's authorization, with the space after it.
const BEARER: &str = "bearer ";

/// Certificates that the connection has verified, and tokens that it is told of.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    tokens: Vec<(Token, User)>,
}

/// A bearer token, which stays out of logs.
#[derive(Clone)]
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Takes as long for every text of one length, so that nobody finds a token out letter by letter. Its length is no
    /// secret.
    fn is(&self, text: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), text.as_bytes());
        let different = ours.iter().zip(theirs).fold(0, |different, (one, other)| different | (one ^ other));
        ours.len() == theirs.len() && std::hint::black_box(different) == 0
    }
}

impl Credentials {
    /// Certificates alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also those who show `token` as the user of a name, in groups besides that of all who have shown something.
    #[must_use]
    pub fn with_token(mut self, token: &str, name: &str, groups: &[&str]) -> Self {
        self.tokens.push((Token(token.to_owned()), user(name, groups.iter().map(|group| (*group).to_owned()))));
        self
    }

    /// Every token is looked at, for the same reason.
    fn of_token(&self, text: &str) -> Option<User> {
        let mut found = None;
        for (token, user) in &self.tokens {
            if token.is(text) {
                found = Some(user);
            }
        }
        found.cloned()
    }
}

impl Authenticator for Credentials {
    fn authenticate(&self, connection: &ConnectionInfo<'_>) -> Result<User, Status> {
        if let Some(subject) = connection.subject.filter(|subject| !subject.common_name.is_empty()) {
            return Ok(user(&subject.common_name, subject.organizations.iter().cloned()));
        }
        match bearer(connection) {
            Some(token) => self.of_token(token).ok_or_else(Status::unauthorized),
            None if PUBLIC.contains(&connection.path) => Ok(User::anonymous()),
            None => Err(Status::unauthorized()),
        }
    }
}

fn user(name: &str, groups: impl Iterator<Item = String>) -> User {
    let mut user = User { name: name.to_owned(), groups: groups.collect(), ..User::default() };
    if !user.groups.iter().any(|group| group == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// The token of a request that claims to have one.
fn bearer<'a>(connection: &ConnectionInfo<'a>) -> Option<&'a str> {
    let text = connection.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use http::{HeaderMap, HeaderValue};
    use rt::tls::Subject;
    use std::net::SocketAddr;

    /// Who asks for a path with an `Authorization` and a certificate; empty for none.
    fn check(path: &str, authorization: &str, certificate: &str, expected: Expect) {
        let credentials = Credentials::new().with_token("secret-of-admin", "admin", &["system:masters"]).with_token(
            "secret-of-other",
            "other",
            &[],
        );
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        }
        let mut words = certificate.split(' ').map(str::to_owned);
        let subject = Subject { common_name: words.next().unwrap_or_default(), organizations: words.collect() };
        let subject = (!certificate.is_empty()).then_some(&subject);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1_234));
        let asked = credentials.authenticate(&ConnectionInfo { peer, headers: &headers, path, subject });
        let shown = match asked {
            Ok(user) => format!("{} of {}", user.name, user.groups.join(", ")),
            Err(status) => format!("{} {}", status.code, status.reason),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_token_says_who_asks() {
        check("/api", "Bearer secret-of-admin", "", expect!["admin of system:masters, system:authenticated"]);
        check("/api", "bearer  secret-of-other", "", expect!["other of system:authenticated"]);
    }

    #[test]
    fn a_wrong_token_is_nobodys_whatever_is_asked_for() {
        for wrong in ["secret-of-admi", "secret-of-admin2", "Secret-of-admin", "\u{0}", "x"] {
            if let Ok(header) = HeaderValue::from_str(&format!("Bearer {wrong}")) {
                check("/api", header.to_str().unwrap(), "", expect!["401 Unauthorized"]);
            }
        }
        check("/livez", "Bearer x", "", expect!["401 Unauthorized"]);
        check("/api", "Bearer ", "", expect!["401 Unauthorized"]);
        check("/api", "Basic c2VjcmV0", "", expect!["401 Unauthorized"]);
    }

    #[test]
    fn a_certificate_comes_before_a_token() {
        let node = "system:node:n1 system:nodes";
        check("/api", "", node, expect!["system:node:n1 of system:nodes, system:authenticated"]);
        check("/api", "Bearer x", node, expect!["system:node:n1 of system:nodes, system:authenticated"]);
        check("/api", "", " system:masters", expect!["401 Unauthorized"]);
    }

    #[test]
    fn whoever_shows_nothing_may_ask_how_the_server_is() {
        check("/livez", "", "", expect!["system:anonymous of system:unauthenticated"]);
        check("/version", "", "", expect!["system:anonymous of system:unauthenticated"]);
        check("/livez/ping", "", "", expect!["401 Unauthorized"]);
        check("/api/v1/pods", "", "", expect!["401 Unauthorized"]);
        check("/", "", "", expect!["401 Unauthorized"]);
    }
}
