//! What a host does to connections that its programs ask for: the tables of a service proxy and of cluster DNS, as data.
//!
//! ```text
//! connect("web.default.svc.cluster.local:80") -> names -> 10.96.0.7:80 -> redirects -> 10.1.2.3:8080
//! ```
//!
//! The tables belong to the host's kernel and resolver: they outlive the process that set them, and a reboot empties
//! them. On a real machine nothing applies them yet: setting them is `Unsupported` there.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Where connections to some addresses really go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirects(pub BTreeMap<SocketAddr, Backends>);

/// Where connections to one address really go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    /// One of these, each as likely as the others; a connection to none is refused.
    pub to: Vec<SocketAddr>,
    /// All connections of this host to the one that was chosen last, as long as less than this passes between them.
    pub affinity: Option<Duration>,
}

/// Names that this host's resolver knows besides those of hosts, in lower case, each with its addresses.
pub type Names = BTreeMap<String, Vec<IpAddr>>;

/// Makes this host answer for `address` too, as the host of a pod does for the pod's. The address is as that of a network
/// namespace of its own: who listens on it is heard there alone, and who listens on all of the host's is not heard there.
///
/// It stays until it is removed or the host reboots, also when the process dies: connections to it are refused then.
///
/// # Errors
/// `AddrInUse` when another host that is up answers for it; `Unsupported` on a real machine.
pub fn add_address(address: IpAddr) -> io::Result<()> {
    #[cfg(madsim)]
    if let Some(node) = crate::context::current() {
        return node.world.network(|network| network.add_address(node.host.0, address));
    }
    let _ = address;
    Err(io::ErrorKind::Unsupported.into())
}

/// Ends what [`add_address`] began: whoever listens there is not heard any more, and connections are silent.
pub fn remove_address(address: IpAddr) {
    #[cfg(madsim)]
    if let Some(node) = crate::context::current() {
        node.world.network(|network| network.remove_address(node.host.0, address));
    }
    let _ = address;
}

/// Sets where connections that this host's programs ask for go from now on; those that exist stay.
///
/// # Errors
/// `Unsupported` on a real machine.
pub fn set_redirects(redirects: Redirects) -> io::Result<()> {
    #[cfg(madsim)]
    if let Some(node) = crate::context::current() {
        node.world.network(|network| network.set_redirects(node.host.0, redirects));
        return Ok(());
    }
    let _ = redirects;
    Err(io::ErrorKind::Unsupported.into())
}

/// Sets what this host's resolver knows besides hosts' names.
///
/// # Errors
/// `Unsupported` on a real machine.
pub fn set_names(names: Names) -> io::Result<()> {
    #[cfg(madsim)]
    if let Some(node) = crate::context::current() {
        node.world.network(|network| network.set_names(node.host.0, names));
        return Ok(());
    }
    let _ = names;
    Err(io::ErrorKind::Unsupported.into())
}
