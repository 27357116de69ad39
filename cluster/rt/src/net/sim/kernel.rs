//! What a host's kernel and resolver were told: further addresses, where connections really go, further names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use crate::net::redirect::{Names, Redirects};
use crate::random::Random;
use crate::sim::Ns;

use super::Network;

/// One host's.
pub(super) struct Kernel {
    /// Those besides the host's own.
    addresses: BTreeSet<IpAddr>,
    redirects: Redirects,
    names: Names,
    /// Of each redirected address with affinity: what was chosen, and until when that holds.
    chosen: BTreeMap<SocketAddr, (SocketAddr, Ns)>,
    random: Random,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To this address.
    To(SocketAddr),
    /// Nowhere: it is refused.
    Refused,
}

impl Kernel {
    pub(super) fn new(random: Random) -> Self {
        Kernel {
            addresses: BTreeSet::new(),
            redirects: Redirects::default(),
            names: Names::default(),
            chosen: BTreeMap::new(),
            random,
        }
    }

    fn way(&mut self, to: SocketAddr, now: Ns) -> Way {
        let Some(backends) = self.redirects.0.get(&to) else { return Way::To(to) };
        if backends.to.is_empty() {
            return Way::Refused;
        }
        let Some(affinity) = backends.affinity else {
            return Way::To(backends.to[self.random.below(backends.to.len() as u64) as usize]);
        };
        let held = self.chosen.get(&to).filter(|(chosen, until)| now < *until && backends.to.contains(chosen));
        let chosen = match held {
            Some((chosen, _)) => *chosen,
            None => backends.to[self.random.below(backends.to.len() as u64) as usize],
        };
        self.chosen.insert(to, (chosen, now.saturating_add(affinity.as_nanos() as Ns)));
        Way::To(chosen)
    }
}

impl Network {
    pub(crate) fn add_address(&mut self, host: u32, address: IpAddr) -> io::Result<()> {
        match self.by_address.get(&address).copied() {
            Some(other) if other == host => return Ok(()),
            Some(other) => {
                let other = &mut self.hosts[other as usize];
                if other.powered || !other.kernel.addresses.remove(&address) {
                    return Err(ErrorKind::AddrInUse.into());
                }
            }
            None => {}
        }
        self.by_address.insert(address, host);
        self.hosts[host as usize].kernel.addresses.insert(address);
        Ok(())
    }

    pub(crate) fn remove_address(&mut self, host: u32, address: IpAddr) {
        if !self.hosts[host as usize].kernel.addresses.remove(&address) {
            return;
        }
        self.by_address.remove(&address);
        let now = self.now();
        let listeners = &mut self.hosts[host as usize].listeners;
        let ended: Vec<SocketAddr> = listeners.keys().filter(|at| at.ip() == address).copied().collect();
        let backlogs: Vec<_> = ended.iter().filter_map(|at| listeners.remove(at)).collect();
        for backlog in backlogs {
            self.close_backlog(backlog, now);
        }
    }

    pub(crate) fn set_redirects(&mut self, host: u32, redirects: Redirects) {
        let kernel = &mut self.hosts[host as usize].kernel;
        kernel.chosen.retain(|at, _| redirects.0.contains_key(at));
        kernel.redirects = redirects;
    }

    pub(crate) fn set_names(&mut self, host: u32, names: Names) {
        self.hosts[host as usize].kernel.names = names;
    }

    /// Where a connection from `host` to `to` goes.
    pub(super) fn way(&mut self, host: u32, to: SocketAddr) -> Way {
        if self.lies.redirects_are_ignored {
            return Way::To(to);
        }
        let now = self.now();
        self.hosts[host as usize].kernel.way(to, now)
    }

    /// What `host` was told that `name` stands for, beginning anywhere in the list, as name servers answer.
    pub(super) fn told_name(&mut self, host: u32, name: &str) -> Option<Vec<IpAddr>> {
        let kernel = &mut self.hosts[host as usize].kernel;
        let mut addresses = kernel.names.find(name)?.to_vec();
        if addresses.len() > 1 {
            let first = kernel.random.below(addresses.len() as u64);
            addresses.rotate_left(first as usize);
        }
        Some(addresses)
    }

    /// Whether a listener of `host` may have this address.
    pub(super) fn answers_for(&self, host: u32, address: IpAddr) -> bool {
        let host = &self.hosts[host as usize];
        address == host.address || host.kernel.addresses.contains(&address)
    }

    /// The host boots: its kernel was told nothing yet.
    pub(super) fn forget_told(&mut self, host: u32) {
        if self.lies.what_a_kernel_was_told_outlives_a_reboot {
            return;
        }
        let kernel = &mut self.hosts[host as usize].kernel;
        (kernel.redirects, kernel.names, kernel.chosen) = Default::default();
        for address in std::mem::take(&mut kernel.addresses) {
            self.by_address.remove(&address);
        }
    }
}
