//! Where an orchestrator of processes is on this machine: its ports, directories and command lines; and by what an
//! administrator reaches it.

use crate::logs;
use crate::ports;
use crate::process::{Error, Process, Program, name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{ClientConfig, Token};
use rt::tls::ClientTls;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder and the ports of one cluster.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    peers: Vec<u16>,
    apis: Vec<u16>,
    /// Pods' addresses, in a block of 127.0.0.0/8 of its own: pods of two clusters would listen at the same ones.
    pods: String,
}

impl Place {
    /// For `servers` servers, in `folder`, which is made and must not have been used before.
    ///
    /// # Errors
    /// The folder or the ports.
    pub(crate) fn new(folder: &Path, servers: u32) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::machine(format!("{} cannot be made", folder.display())))?;
        let count = servers as usize;
        let ports = ports::for_a_cluster(2 * count).map_err(Error::machine("no ports on 127.0.0.1"))?;
        let (peers, apis) = ports.split_at(count);
        let pods = format!("127.{}.0.0/16", 1 + std::process::id() % 250);
        Ok(Self { folder: folder.to_owned(), peers: peers.to_vec(), apis: apis.to_vec(), pods })
    }

    /// `host:port` of each API server.
    pub(crate) fn apis(&self) -> Vec<String> {
        self.apis.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// A file in the directory of a server.
    fn of_server(&self, server: u32, file: &str) -> PathBuf {
        self.folder.join(name("s", server)).join(file)
    }

    /// Where the first server leaves the token by which agents join: it is there once that one runs.
    pub(crate) fn agent_token(&self) -> PathBuf {
        self.of_server(0, "agent-token")
    }

    /// A server's process.
    pub(crate) fn server(&self, program: &Program, server: u32) -> Process {
        let own = name("s", server);
        let mut words = self.words("server", &own, "--name");
        words.extend(["--pod-cidr".into(), self.pods.clone().into()]);
        for (number, (peer, api)) in (0..).zip(self.peers.iter().zip(&self.apis)) {
            words.push("--server".into());
            words.push(format!("{}=127.0.0.1:{peer},127.0.0.1:{api}", name("s", number)).into());
        }
        if server > 0 {
            words.extend(["--token-file".into(), self.of_server(0, "server-token").into()]);
        }
        Process::new(program, &own, &words, &self.folder)
    }

    /// An agent's process. Agents prefer different servers, as far as there are.
    pub(crate) fn agent(&self, program: &Program, node: u32) -> Process {
        let own = name("n", node);
        let mut words = self.words("agent", &own, "--node");
        let mut apis = self.apis();
        let first = node as usize % apis.len().max(1);
        apis.rotate_left(first);
        for api in apis {
            words.extend(["--server".into(), api.into()]);
        }
        words.extend(["--token-file".into(), self.agent_token().into()]);
        Process::new(program, &own, &words, &self.folder)
    }

    fn words(&self, role: &str, own: &str, named_by: &str) -> Vec<OsString> {
        let mut words: Vec<OsString> = logs::ARGUMENTS.map(OsString::from).to_vec();
        words.extend([role, named_by, own, "--data-dir"].map(OsString::from));
        words.push(self.folder.join(own).into());
        words
    }

    /// By what an administrator reaches all API servers: what the first server's kubeconfig says.
    ///
    /// # Errors
    /// The kubeconfig is not there, or is none.
    pub(crate) fn admin(&self) -> Result<ClientConfig, Error> {
        let path = self.of_server(0, "kubeconfig");
        let failed = || format!("{} is not to be used", path.display());
        let text = fs::read_to_string(&path).map_err(Error::machine(failed()))?;
        let credentials = credentials(&text).and_then(|(authority, token)| {
            let tls = ClientTls::new(&authority, None).map_err(|error| error.to_string())?;
            Ok((tls, Token(token)))
        });
        let (tls, token) = credentials.map_err(|why| Error::machine(failed())(std::io::Error::other(why)))?;
        Ok(ClientConfig { tls, token: Some(token), ..ClientConfig::new(self.apis(), "kubectl") })
    }
}

/// The authority, in PEM, and the token of a kubeconfig as servers write it.
fn credentials(kubeconfig: &str) -> Result<(String, String), String> {
    let of = |key: &str| {
        let found = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
        found.ok_or_else(|| format!("it has no {key}"))
    };
    let decoded = STANDARD.decode(of("certificate-authority-data")?).map_err(|error| error.to_string())?;
    let authority = String::from_utf8(decoded).map_err(|error| error.to_string())?;
    Ok((authority, of("token")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_has_an_authority_and_a_token() {
        let text = "clusters:\n- cluster:\n    certificate-authority-data: Q0E=\nusers:\n- user:\n    token: t0k3n\n";
        assert_eq!(credentials(text), Ok(("CA".to_owned(), "t0k3n".to_owned())));
        assert_eq!(credentials("kind: Config"), Err("it has no certificate-authority-data".to_owned()));
    }
}
