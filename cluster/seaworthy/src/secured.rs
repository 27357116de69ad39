//! A control plane on a real machine: who reaches it by which names, and by what everybody is known.

use crate::addresses::{NODE_BITS, PodRange};
use crate::control::{Access, CONTROLLERS, ControlConfig, SCHEDULER};
use crate::join::{Role, Shared};
use apiserver::{Build, Credentials};
use rt::net::TcpListener;
use rt::time::Timestamp;
use rt::tls::{ClientTls, TlsError};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Group of administrators.
pub(crate) const MASTERS: &str = "system:masters";

/// Group of those who only join.
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// By what names every API server is reached: upstream's.
const NAMES: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// It cannot listen there; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {error}; choose another address, or stop the program that has it")]
pub struct ListenError {
    /// Where.
    pub address: String,
    /// Why.
    pub error: io::Error,
}

/// `listen` with a port that is free at this moment.
pub(crate) async fn free_address(listen: &str) -> Result<SocketAddr, ListenError> {
    let failed = |error| ListenError { address: listen.to_owned(), error };
    TcpListener::bind(listen).await.map_err(failed)?.local_addr().map_err(failed)
}

/// Where a server that listens there is reached on its own machine.
pub(crate) fn reached_at(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        ip if !ip.is_unspecified() => listen,
        _ => SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port())),
    }
}

/// A control plane that is to be.
pub(crate) struct Secured<'a> {
    /// This server's name.
    pub(crate) name: &'a str,
    /// Where its API server listens.
    pub(crate) listen: SocketAddr,
    /// Further names and addresses by which it is reached.
    pub(crate) names: &'a [String],
    /// `host:port` of all API servers, its own first.
    pub(crate) api_servers: Vec<String>,
    /// From where nodes get addresses for pods.
    pub(crate) pods: PodRange,
    /// There is no other server for certain; see [`ControlConfig::sole`].
    pub(crate) sole: bool,
    /// Where clients reach it from anywhere, if that is an address.
    pub(crate) advertise: Option<IpAddr>,
    /// What the program was built from.
    pub(crate) build: Build,
}

impl Secured<'_> {
    /// Its configuration, with certificates that are issued now.
    pub(crate) fn config(self, shared: &Shared, now: Timestamp) -> Result<ControlConfig, TlsError> {
        let mut control = ControlConfig::new(self.name, &self.listen.to_string(), self.api_servers);
        let names = names(&control, self.listen.ip(), self.names);
        control.api.tls = shared.authority.server(&names, now)?;
        control.controllers.cluster_cidr = self.pods.to_string();
        control.controllers.node_cidr_mask_size = NODE_BITS;
        control.sole = self.sole;
        control.api.advertise = self.advertise.and_then(advertised);
        control.api.build = self.build;
        control.access = access(shared, now)?;
        Ok(control)
    }
}

/// Endpoints lead to what other machines reach: never to loopback.
fn advertised(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip).filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_link_local()),
        IpAddr::V6(_) => None,
    }
}

fn names(control: &ControlConfig, listen: IpAddr, further: &[String]) -> Vec<String> {
    let service = IpAddr::V4(control.api.service_cidr.at(1));
    let own = [listen, IpAddr::V4(Ipv4Addr::LOCALHOST), service].map(|ip| ip.to_string());
    let mut names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).chain(own).collect();
    names.extend(further.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn access(shared: &Shared, now: Timestamp) -> Result<Access, TlsError> {
    let mut credentials = Credentials::new().with_token(&shared.admin, "admin", &[MASTERS]);
    for role in [Role::Server, Role::Agent] {
        credentials = credentials.with_token(shared.secrets.of(role), &role.user(), &[BOOTSTRAPPERS]);
    }
    let mut components: BTreeMap<&'static str, ClientTls> = BTreeMap::new();
    for name in [CONTROLLERS, SCHEDULER] {
        components.insert(name, shared.authority.client(&format!("system:{name}"), None, now)?);
    }
    Ok(Access::Shown { authenticator: Arc::new(credentials), components })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_reaches_is_not_advertised() {
        let one = |text: &str| advertised(text.parse().unwrap()).is_some();
        assert_eq!(
            ["10.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.0.1", "::1"].map(one),
            [true, false, false, false, false]
        );
    }
}
