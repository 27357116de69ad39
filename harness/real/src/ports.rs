//! Free ports on loopback.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where to look: above what services of a machine like to take, and below what Linux gives to outgoing connections
/// (32768 and up). A port of the latter kind could be taken by a client's connection while its member is down; a client
/// that dials it from itself would even reach itself.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// `count` free ports. Clusters that begin at the same time look in different places, of one process and of several.
///
/// # Errors
/// See [`free`].
pub fn for_a_cluster(count: usize) -> io::Result<Vec<u16>> {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    free(count, std::process::id().wrapping_mul(101).wrapping_add(cluster.wrapping_mul(1_009)))
}

/// `count` distinct ports that nobody listens on. Two processes that look at the same time begin at different places,
/// because they begin at `start`, whatever number that is.
///
/// # Errors
/// All ports of the range are taken.
fn free(count: usize, start: u32) -> io::Result<Vec<u16>> {
    let length = u32::from(RANGE.end - RANGE.start);
    let candidates = (0..length).filter_map(|step| u16::try_from((start.wrapping_add(step)) % length).ok());
    // Held until all are found, so that they are distinct.
    let held: Vec<TcpListener> = candidates
        .filter_map(|offset| TcpListener::bind((Ipv4Addr::LOCALHOST, RANGE.start + offset)).ok())
        .take(count)
        .collect();
    if held.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "no free ports between 20000 and 32000"));
    }
    held.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_none_is_taken() {
        // Somebody else may take it in between.
        let listener = (0..100).find_map(|_| {
            let taken = free(1, 77).expect("a port")[0];
            TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).ok()
        });
        let taken = listener.as_ref().expect("a port that is free").local_addr().expect("it is bound").port();
        let found = free(4, 77).expect("ports");
        assert_eq!(found.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert!(!found.contains(&taken) && found.iter().all(|port| RANGE.contains(port)));
    }
}
