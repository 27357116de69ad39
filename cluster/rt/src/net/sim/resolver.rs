//! The simulated resolver: hosts' names, after a while. What is an address already needs none.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::context::NodeContext;
use crate::sim::Ns;

use super::Network;

/// How long looking up a name takes. The resolver is outside of the simulated network: no fault strikes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// At least.
    pub delay: Duration,
    /// Added at random on top, up to this.
    pub jitter: Duration,
}

impl Default for ResolverConfig {
    /// A name server nearby that has the answer.
    fn default() -> Self {
        ResolverConfig { delay: Duration::from_micros(300), jitter: Duration::from_micros(700) }
    }
}

/// What `address` stands for: `ip:port` at once, `name:port` when the resolver answers.
pub(crate) async fn lookup(node: &Arc<NodeContext>, address: &str) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = split(address)?;
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if host == "localhost" {
        return Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)]);
    }
    let wait = node.world.network(Network::resolver_wait);
    node.world.sleep_ns(wait).await;
    if let Some(told) = node.world.network(|network| network.told_name(node.host.0, host)) {
        return Ok(told.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
    }
    let ip = node.world.network(|network| network.resolve(host));
    let ip = ip.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("no host is called {host}")))?;
    Ok(vec![SocketAddr::new(ip, port)])
}

fn split(address: &str) -> io::Result<(&str, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, format!("{address:?} is not of the form host:port")))?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Ok((bracketed.unwrap_or(host), port))
}

impl Network {
    /// How long the next answer takes.
    fn resolver_wait(&mut self) -> Ns {
        if self.lies.resolver_is_instant {
            return 0;
        }
        let jitter = self.resolver_random.jitter(self.resolver.jitter);
        (self.resolver.delay + jitter).as_nanos() as Ns
    }

    fn resolve(&self, name: &str) -> Option<IpAddr> {
        let mut host = *self.by_name.get(name)? as usize;
        if self.lies.resolver_is_wrong {
            host = (host + 1) % self.hosts.len();
        }
        Some(self.hosts[host].address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_the_last_colon() {
        assert_eq!(split("a:80").unwrap(), ("a", 80));
        assert_eq!(split("[::1]:80").unwrap(), ("::1", 80));
        assert_eq!(split("10.0.0.1:0").unwrap(), ("10.0.0.1", 0));
        for bad in ["a", "a:", "a:x", "a:65536", ""] {
            assert_eq!(split(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
