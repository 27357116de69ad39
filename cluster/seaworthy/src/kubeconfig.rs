//! Kubeconfigs: what kubectl and other clients need to know to be somebody here.

use crate::files;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rt::disk::Dir;
use rt::tls::Pair;
use std::io;

/// Name of the cluster, the user and the context in it.
const NAME: &str = "seaworthy";

/// The first line, by which a file is known to be this program's own.
const MARK: &str = "# Written by seaworthy, which replaces this file as a whole.";

/// By what a client shows who it is.
#[derive(Clone, Debug)]
pub enum Shows {
    /// A bearer token.
    Token(String),
    /// A certificate.
    Certificate(Pair),
}

/// A kubeconfig for the API server at `server`, `host:port`, that has its certificate from `authority` (in PEM).
pub fn text(server: &str, authority: &str, shows: &Shows) -> String {
    let data = |pem: &str| STANDARD.encode(pem);
    let user = match shows {
        Shows::Token(token) => format!("token: {token}"),
        Shows::Certificate(pair) => {
            format!("client-certificate-data: {}\n    client-key-data: {}", data(&pair.certificate), data(&pair.key))
        }
    };
    format!(
        "{MARK}
apiVersion: v1
kind: Config
clusters:
- name: {NAME}
  cluster:
    server: https://{server}
    certificate-authority-data: {}
users:
- name: {NAME}
  user:
    {user}
contexts:
- name: {NAME}
  context:
    cluster: {NAME}
    user: {NAME}
current-context: {NAME}
",
        data(authority)
    )
}

/// Why a kubeconfig was not written; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It has what somebody else wrote.
    #[error(
        "{0} is a kubeconfig that this program did not write, and is left alone; name another file with --kubeconfig"
    )]
    Foreign(String),
    /// The disk or the file system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// Writes a kubeconfig to `path`, for its owner alone, unless somebody else's is there.
///
/// # Errors
/// Nothing was written.
pub async fn write(path: &str, text: &str) -> Result<(), WriteError> {
    let io = |error| WriteError::Io { path: path.to_owned(), error };
    let (dir, name) = files::split(path);
    let dir = Dir::open(dir).await.map_err(io)?;
    match files::read(&dir, name).await.map_err(io)? {
        Some(there) if there == text => return Ok(()),
        Some(there) if !there.starts_with(MARK) => return Err(WriteError::Foreign(path.to_owned())),
        Some(_) | None => {}
    }
    files::replace(&dir, name, text).await.map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_kubeconfig_has_all_that_a_client_needs() {
        let token = text("127.0.0.1:6443", "CA", &Shows::Token("t0k3n".to_owned()));
        expect![[r#"
            # Written by seaworthy, which replaces this file as a whole.
            apiVersion: v1
            kind: Config
            clusters:
            - name: seaworthy
              cluster:
                server: https://127.0.0.1:6443
                certificate-authority-data: Q0E=
            users:
            - name: seaworthy
              user:
                token: t0k3n
            contexts:
            - name: seaworthy
              context:
                cluster: seaworthy
                user: seaworthy
            current-context: seaworthy
        "#]]
        .assert_eq(&token);
        let pair = Pair { certificate: "C".to_owned(), key: "K".to_owned() };
        let certificate = text("127.0.0.1:6443", "CA", &Shows::Certificate(pair));
        assert!(
            certificate.contains("  user:\n    client-certificate-data: Qw==\n    client-key-data: Sw==\ncontexts"),
            "{certificate}"
        );
    }
}
