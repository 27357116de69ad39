//! What hosts show API servers to say who they are, and when it ends.
//!
//! There is no TLS among simulated hosts, and an address is what one shows. It can end all the same: whether it has, a server
//! tells by its own wall clock, as it does of a certificate, and a clock that is wrong makes it wrong too.

use apiserver::{Authenticator, ConnectionInfo, PeerAuthenticator, User};
use rt::time::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The credentials of all hosts. A copy is the same.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    users: Arc<PeerAuthenticator>,
    /// Of those that end, by address: when, and how often they were refused for it.
    ending: Arc<Mutex<BTreeMap<IpAddr, Ending>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ending {
    at: Option<Timestamp>,
    refused: u64,
}

impl Credentials {
    /// By address, who is there; whoever else asks is nobody in particular.
    pub(crate) fn of(users: impl Iterator<Item = (IpAddr, User)>) -> Self {
        let users = PeerAuthenticator::new(users.collect(), Some(known("nobody", &[])));
        Self { users: Arc::new(users), ending: Arc::default() }
    }

    /// Lets those of a host end at a time, or last.
    pub(crate) fn end(&self, host: IpAddr, at: Option<Timestamp>) {
        self.with(|ending| ending.entry(host).or_default().at = at);
    }

    /// How often a host was refused because its own had ended.
    pub(crate) fn refused(&self, host: IpAddr) -> u64 {
        self.with(|ending| ending.get(&host).map_or(0, |ending| ending.refused))
    }

    fn with<T>(&self, what: impl FnOnce(&mut BTreeMap<IpAddr, Ending>) -> T) -> T {
        what(&mut self.ending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The agent of a node.
pub(crate) fn node_agent(node: &str) -> User {
    known(&format!("system:node:{node}"), &["system:nodes"])
}

/// What runs on a member beside its API server: controllers and scheduler, which an address cannot tell apart.
pub(crate) fn control_plane() -> User {
    known("system:kube-controller-manager", &[])
}

/// Whoever uses the cluster.
pub(crate) fn tenant() -> User {
    known("tenant", &[])
}

fn known(name: &str, groups: &[&str]) -> User {
    User::new(name, &[groups, &["system:authenticated"]].concat())
}

impl Authenticator for Credentials {
    fn authenticate(&self, connection: &ConnectionInfo<'_>) -> Result<User, api::Status> {
        let now = Timestamp::now();
        let ended = self.with(|ending| {
            let Some(ending) = ending.get_mut(&connection.peer.ip()) else { return false };
            let ended = ending.at.is_some_and(|at| at <= now);
            ending.refused += u64::from(ended);
            ended
        });
        if ended { Err(api::Status::unauthorized()) } else { self.users.authenticate(connection) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn what_has_ended_by_the_servers_clock_is_refused_until_there_is_something_new() {
        let [node, other] = [1, 2].map(|last| IpAddr::from([10, 2, 0, last]));
        let credentials = Credentials::of([(node, node_agent("n1"))].into_iter());
        let headers = http::HeaderMap::new();
        let ask = |ip| {
            let connection =
                ConnectionInfo { peer: SocketAddr::new(ip, 1_234), headers: &headers, path: "/api", subject: None };
            credentials.authenticate(&connection).map(|user| user.name).map_err(|status| status.code)
        };
        let now = Timestamp::now().unix_ns;
        assert_eq!((ask(node), ask(other)), (Ok("system:node:n1".to_owned()), Ok("nobody".to_owned())));
        credentials.end(node, Some(Timestamp { unix_ns: now - 1 }));
        assert_eq!((ask(node), ask(other).is_ok()), (Err(401), true));
        // A server whose clock is behind does not know of it yet.
        credentials.end(node, Some(Timestamp { unix_ns: now + 3_600_000_000_000 }));
        assert_eq!(ask(node), Ok("system:node:n1".to_owned()));
        credentials.end(node, None);
        assert_eq!((ask(node).is_ok(), credentials.refused(node), credentials.refused(other)), (true, 1, 0));
    }
}
