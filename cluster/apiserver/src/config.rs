//! How an API server is set up.

use rt::tls::ServerTls;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How an API server is set up. All servers of a cluster need the same, but for where they listen.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens: `ip:port`; port 0 takes any that is free.
    pub listen: String,
    /// How it secures connections: not at all by default.
    pub tls: ServerTls,
    /// Cluster IPs of Services are taken from here.
    pub service_cidr: ServiceCidr,
    /// First and last node port of Services: upstream's default.
    pub node_ports: (u16, u16),
    /// A watch that asked for bookmarks gets one about this often.
    pub bookmark_interval: Duration,
    /// History of the store is forgotten when it is this old; `None`: somebody else sees to that.
    pub history: Option<Duration>,
    /// Events are kept so long after their last change: upstream's default is an hour.
    pub event_ttl: Duration,
    /// Whether this server makes the objects that every cluster has: namespaces, the Service `kubernetes`, the two classes
    /// of critical pods.
    pub bootstrap: bool,
    /// The address by which it is among the endpoints of the Service `kubernetes`; `None`: it is not.
    pub advertise: Option<Ipv4Addr>,
    /// About how many requests are answered at once, of all priority levels together; long ones such as watches do not count.
    /// Upstream's default, of reads and writes together.
    pub max_requests_in_flight: usize,
    /// What `/version` says of the program.
    pub build: Build,
}

/// What a program was built from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// Commit, in hexadecimal; empty if it is not known.
    pub commit: String,
    /// The commit's date, as in RFC 3339; empty if it is not known.
    pub date: String,
}

impl Config {
    /// Upstream's defaults.
    pub fn new(listen: &str) -> Self {
        Self {
            listen: listen.to_owned(),
            tls: ServerTls::default(),
            service_cidr: ServiceCidr { base: Ipv4Addr::new(10, 96, 0, 0), bits: 16 },
            node_ports: (30_000, 32_767),
            bookmark_interval: Duration::from_secs(10),
            history: Some(Duration::from_secs(300)),
            event_ttl: Duration::from_secs(3_600),
            bootstrap: true,
            advertise: None,
            max_requests_in_flight: 600,
            build: Build::default(),
        }
    }
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// Its first address.
    pub base: Ipv4Addr,
    /// How many bits are fixed: from 8 to 30.
    pub bits: u8,
}

impl ServiceCidr {
    /// Addresses in it, that of the network and of broadcast included.
    pub fn size(self) -> u32 {
        1 << (32 - u32::from(self.bits.clamp(8, 30)))
    }

    /// The address at a place.
    pub fn at(self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first() + place)
    }

    /// Whether an address can be a Service's: neither the first nor the last.
    pub fn has(self, ip: Ipv4Addr) -> bool {
        let place = u32::from(ip).wrapping_sub(self.first());
        place > 0 && place < self.size() - 1
    }

    /// The addresses below this place are left to those who choose theirs themselves: upstream's bounds.
    pub fn band(self) -> u32 {
        if self.size() < 32 { 1 } else { (self.size() / 16).clamp(16, 256) }
    }

    fn first(self) -> u32 {
        u32::from(self.base) & !(self.size() - 1)
    }
}

impl std::fmt::Display for ServiceCidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.at(0), self.bits.clamp(8, 30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_leaves_out_its_ends() {
        let block = ServiceCidr { base: Ipv4Addr::new(10, 0, 0, 77), bits: 24 };
        assert_eq!((block.to_string(), block.size(), block.band()), ("10.0.0.0/24".to_owned(), 256, 16));
        let has = |last| block.has(Ipv4Addr::new(10, 0, 0, last));
        assert_eq!([0, 1, 254, 255].map(has), [false, true, true, false]);
        assert!(!block.has(Ipv4Addr::new(10, 0, 1, 1)) && !block.has(Ipv4Addr::new(9, 255, 255, 255)));
    }
}
