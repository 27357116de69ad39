//! Pod addresses from the node's range: the lowest that is free.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A node's range of pod addresses, such as `10.244.3.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodCidr {
    first: IpAddr,
    prefix: u8,
}

/// The first address is the network's, the second the gateway's.
const RESERVED: u128 = 2;

impl PodCidr {
    /// Reads `address/prefix`. `None` for what is no range.
    pub fn parse(text: &str) -> Option<PodCidr> {
        let (address, prefix) = text.split_once('/')?;
        let (first, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let bits = if first.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(PodCidr { first, prefix })
    }

    /// The lowest address that nobody has after `last`, from the beginning again when the end is reached, so that an
    /// address rests before it is used again. `None` when all are taken.
    pub fn allocate(&self, taken: &BTreeSet<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
        let bits = if self.first.is_ipv4() { 32 } else { 128 };
        let size = 1_u128.checked_shl(u32::from(bits - self.prefix)).unwrap_or(u128::MAX);
        let base = number(self.first) & !(size - 1);
        // The last one of IPv4 is for broadcast.
        let end = size.saturating_sub(u128::from(self.first.is_ipv4()));
        let from = last
            .map(number)
            .filter(|last| *last >= base && *last - base < end)
            .map_or(RESERVED, |last| last - base + 1);
        let free = |offset: &u128| !taken.contains(&self.address(base + offset));
        // Among so many offsets one is free if any is: each address taken covers one of them.
        let wrapped = (from.max(RESERVED)..end).chain(RESERVED..from.min(end));
        wrapped.take(taken.len() + 1).find(free).map(|offset| self.address(base + offset))
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.first {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cidr: &str, taken: &[&str], last: Option<&str>) -> Option<String> {
        let taken = taken.iter().map(|text| text.parse().unwrap()).collect();
        let last = last.map(|text| text.parse().unwrap());
        PodCidr::parse(cidr).unwrap().allocate(&taken, last).map(|ip| ip.to_string())
    }

    #[test]
    fn the_network_the_gateway_and_the_broadcast_are_never_given_out() {
        assert_eq!(check("10.1.2.0/24", &[], None).as_deref(), Some("10.1.2.2"));
        assert_eq!(check("10.1.2.0/30", &["10.1.2.2"], None), None);
        assert_eq!(check("10.1.2.0/30", &[], Some("10.1.2.2")).as_deref(), Some("10.1.2.2"));
    }

    #[test]
    fn an_address_rests_before_it_is_used_again() {
        assert_eq!(check("10.1.2.0/29", &["10.1.2.2"], Some("10.1.2.3")).as_deref(), Some("10.1.2.4"));
        assert_eq!(check("10.1.2.0/29", &["10.1.2.2"], Some("10.1.2.6")).as_deref(), Some("10.1.2.3"));
        assert_eq!(
            check("10.1.2.0/29", &["10.1.2.2", "10.1.2.4", "10.1.2.5", "10.1.2.6"], Some("10.1.2.3")).as_deref(),
            Some("10.1.2.3")
        );
    }

    #[test]
    fn a_range_of_ipv6_works_too() {
        assert_eq!(check("fd00:1::/64", &["fd00:1::2"], None).as_deref(), Some("fd00:1::3"));
        assert!(PodCidr::parse("10.1.2.0").is_none() && PodCidr::parse("10.1.2.0/33").is_none());
    }
}
