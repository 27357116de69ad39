//! What a host does to connections that its programs ask for: the tables of a service proxy and of cluster DNS, as data.
//!
//! ```text
//! connect("web.default.svc.cluster.local:80") -> names -> 10.96.0.7:80 -> redirects -> 10.1.2.3:8080
//! ```
//!
//! The tables belong to the host's kernel and resolver: they outlive the process that set them, and a reboot empties
//! them. On a real machine nothing applies them yet: setting them is `Unsupported` there.

use imbl::OrdMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Where connections to some addresses really go. A copy costs nothing, and shares what does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirects(pub OrdMap<SocketAddr, Arc<Backends>>);

/// Where connections to one address really go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    /// One of these, each as likely as the others; a connection to none is refused.
    pub to: Vec<SocketAddr>,
    /// All connections of this host to the one that was chosen last, as long as less than this passes between them.
    pub affinity: Option<Duration>,
}

/// Names that this host's resolver knows besides those of hosts. A copy costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In lower case, each with its addresses.
    pub table: OrdMap<String, Arc<[IpAddr]>>,
    /// Below it every address has a name in every domain of one label, whether or not anybody has the address:
    /// `10-1-2-3.default.pod.cluster.local` with `pod.cluster.local` (CoreDNS' `pods insecure`).
    pub dashed_under: Option<Arc<str>>,
}

impl Names {
    /// What a name stands for; `None` if it is not known. Upper and lower case are the same.
    pub fn find(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let name = name.to_ascii_lowercase();
        self.table.get(&name).cloned().or_else(|| self.dashed(&name).map(|address| Arc::from([address])))
    }

    fn dashed(&self, name: &str) -> Option<IpAddr> {
        let below = name.strip_suffix(&**self.dashed_under.as_ref()?)?.strip_suffix('.')?;
        let (dashed, domain) = below.split_once('.')?;
        let is_label = !domain.is_empty() && !domain.contains('.');
        let address = |sign| dashed.replace('-', sign).parse().ok();
        address(".").or_else(|| address(":")).filter(|_| is_label)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_dashes_is_a_name_of_its_own() {
        let table = [("web.default".to_owned(), Arc::from([IpAddr::from([10, 96, 0, 1])]))].into_iter().collect();
        let names = Names { table, dashed_under: Some("pod.cluster.local".into()) };
        let found = |name: &str| names.find(name).map(|addresses| addresses[0].to_string());
        assert_eq!(found("Web.default").as_deref(), Some("10.96.0.1"));
        assert_eq!(found("10-1-2-3.default.pod.cluster.local").as_deref(), Some("10.1.2.3"));
        assert_eq!(found("fd00--7.default.pod.cluster.local").as_deref(), Some("fd00::7"));
        for unknown in [
            "10-1-2-3.pod.cluster.local",
            "10-1-2-3.a.b.pod.cluster.local",
            "10-1-2-3.default.xpod.cluster.local",
            "10-1-2.default.pod.cluster.local",
            "10-1-2-3.default.svc.cluster.local",
        ] {
            assert_eq!(found(unknown), None, "{unknown}");
        }
        assert_eq!(Names::default().find("10-1-2-3.default.pod.cluster.local"), None);
    }
}
