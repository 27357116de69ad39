//! The leases that exist: replicated, and without any clock.

use crate::mvcc::mix;
use crate::types::{MAX_LEASE_TTL_S, MIN_LEASE_TTL_S, RefusedKind};
use bytes::Bytes;
use imbl::{OrdMap, OrdSet};

/// A lease, as every member knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Seconds that a keep-alive gives.
    pub ttl_s: i64,
    /// Raft index of its grant: tells it from an earlier lease of the same id.
    pub granted: u64,
    /// Milliseconds that a leader noted to be left; `None` if it was kept alive since, or never noted.
    pub remaining_ms: Option<u64>,
    /// The keys bound to it.
    pub keys: OrdSet<Bytes>,
}

/// All leases. Cloning is cheap and pins what it shows.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    leases: OrdMap<i64, Lease>,
    hash: u64,
}

impl LeaseTable {
    /// A lease, if it exists.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases, in order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// How many exist.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether none exists.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Hash of all leases, their keys apart: those name their lease, and [`crate::mvcc::Tree::hash`] covers that.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Grants a lease in the entry at index `granted`; gives the time to live in force.
    ///
    /// # Errors
    /// [`RefusedKind::LeaseExists`]; [`RefusedKind::InvalidArgument`] if the id is 0 or the time is out of bounds.
    pub(crate) fn grant(&mut self, id: i64, ttl_s: i64, granted: u64) -> Result<i64, RefusedKind> {
        check_grant(ttl_s)?;
        if id == 0 {
            return Err(RefusedKind::InvalidArgument("a lease id must not be 0".to_owned()));
        }
        if self.leases.contains_key(&id) {
            return Err(RefusedKind::LeaseExists);
        }
        let ttl_s = ttl_s.max(MIN_LEASE_TTL_S);
        self.load(id, Lease { ttl_s, granted, remaining_ms: None, keys: OrdSet::new() });
        Ok(ttl_s)
    }

    /// Adds a lease as it is.
    pub(crate) fn load(&mut self, id: i64, lease: Lease) {
        self.hash = self.hash.wrapping_add(hash(id, &lease));
        self.leases.insert(id, lease);
    }

    /// Takes a lease out; its keys are the caller's to remove.
    pub(crate) fn remove(&mut self, id: i64) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.hash = self.hash.wrapping_sub(hash(id, &lease));
        Some(lease)
    }

    /// Notes, or clears, how much time is left, if the very lease of that grant still exists. Says whether it does.
    pub(crate) fn checkpoint(&mut self, id: i64, granted: u64, remaining_ms: Option<u64>) -> bool {
        let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.granted == granted) else { return false };
        self.hash = self.hash.wrapping_sub(hash(id, lease));
        lease.remaining_ms = remaining_ms;
        self.hash = self.hash.wrapping_add(hash(id, lease));
        true
    }

    /// Binds `key` to the lease `now` instead of the lease `before`; 0 is none.
    pub(crate) fn rebind(&mut self, key: &Bytes, before: i64, now: i64) {
        if before == now {
            return;
        }
        if before != 0
            && let Some(lease) = self.leases.get_mut(&before)
        {
            lease.keys.remove(key);
        }
        if now != 0
            && let Some(lease) = self.leases.get_mut(&now)
        {
            lease.keys.insert(key.clone());
        }
    }
}

/// Checks what can be known of a grant before its turn.
///
/// # Errors
/// [`RefusedKind::InvalidArgument`]: the time is not positive, or longer than [`MAX_LEASE_TTL_S`].
pub(crate) fn check_grant(ttl_s: i64) -> Result<(), RefusedKind> {
    if (1..=MAX_LEASE_TTL_S).contains(&ttl_s) {
        return Ok(());
    }
    Err(RefusedKind::InvalidArgument(format!("a lease lives from 1 to {MAX_LEASE_TTL_S} seconds")))
}

fn hash(id: i64, lease: &Lease) -> u64 {
    let remaining = lease.remaining_ms.map_or(0, |ms| ms + 1);
    let hash = mix(mix(id.cast_unsigned(), lease.ttl_s.cast_unsigned()), lease.granted);
    mix(hash, remaining)
}
