//! Addresses of hollow nodes and their pods on one real machine.
//!
//! Linux answers for all of 127.0.0.0/8 without any set-up, so each hollow pod has an address of its own there, on which
//! it really listens. Nodes get theirs from the end of the same range, pods from its beginning.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Bits of an address that are the node's; each has 253 pod addresses.
pub const NODE_BITS: u8 = 24;

/// A range from which nodes get blocks for their pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRange {
    base: Ipv4Addr,
    bits: u8,
}

/// No range for pods; a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is no range of pod addresses such as 127.64.0.0/10: it must lie in 127.0.0.0/8 without 127.0.0.0/16, and have 9 to 23 bits"
)]
pub struct RangeError(String);

impl Default for PodRange {
    /// Half of what there is, far from what programs take by hand: 16,384 nodes.
    fn default() -> Self {
        Self { base: Ipv4Addr::new(127, 64, 0, 0), bits: 10 }
    }
}

impl FromStr for PodRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let parts =
            text.split_once('/').and_then(|(base, bits)| Some((base.parse::<Ipv4Addr>().ok()?, bits.parse().ok()?)));
        match parts {
            Some((base, bits @ 9..NODE_BITS)) => {
                let base = Ipv4Addr::from(u32::from(base) & (u32::MAX << (32 - u32::from(bits))));
                // What begins with 127.0 is the machine's programs'.
                let ours = base.is_loopback() && base.octets()[1] != 0;
                ours.then_some(Self { base, bits }).ok_or_else(|| RangeError(text.to_owned()))
            }
            Some(_) | None => Err(RangeError(text.to_owned())),
        }
    }
}

impl fmt::Display for PodRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl PodRange {
    /// How many nodes there can be: each needs a block, and all together some for their own addresses.
    pub fn nodes(self) -> u32 {
        let blocks = 1 << (NODE_BITS - self.bits);
        blocks - (blocks >> (32 - NODE_BITS)) - 1
    }

    /// The address of the node at a place, from 0 on, below [`PodRange::nodes`].
    pub fn node(self, place: u32) -> IpAddr {
        let last = u32::from(self.base) | (u32::MAX >> u32::from(self.bits));
        IpAddr::V4(Ipv4Addr::from(last - 1 - place))
    }

    /// An address for a node that is known by its name alone. Two names may have the same one, if rarely.
    pub fn node_named(self, name: &str) -> IpAddr {
        // FNV-1a, because it must stay the same for ever.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        self.node(hash % self.nodes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_at_the_end_and_leave_blocks_for_their_pods() {
        let range = PodRange::default();
        assert_eq!((range.to_string(), range.nodes()), ("127.64.0.0/10".to_owned(), 16_319));
        assert_eq!(range.node(0).to_string(), "127.127.255.254");
        assert_eq!(range.node(range.nodes() - 1).to_string(), "127.127.192.64");
        let small: PodRange = "127.9.8.7/22".parse().unwrap();
        assert_eq!((small.to_string(), small.nodes()), ("127.9.8.0/22".to_owned(), 3));
    }

    #[test]
    fn what_is_no_loopback_range_is_refused() {
        for wrong in ["10.0.0.0/16", "127.0.0.0/8", "127.64.0.0/24", "127.64.0.0", "x/9", "127.0.0.0/16", "127.1.0.0/9"]
        {
            assert_eq!(wrong.parse::<PodRange>(), Err(RangeError(wrong.to_owned())), "{wrong}");
        }
    }
}
