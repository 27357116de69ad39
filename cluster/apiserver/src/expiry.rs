//! Events go by themselves: they are bound to leases of the store, each shared by the Events of about a minute.

use crate::core::Core;
use crate::store::status;
use api::{Resource, Status};
use rt::time::Instant;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Events are bound to a lease for so long, then the next one is granted: upstream's number.
const REUSE: Duration = Duration::from_secs(60);

/// Events of one lease, which all go at once: upstream's number.
const MAX_BOUND: usize = 1_000;

/// The lease in use.
#[derive(Debug, Default)]
pub struct EventLease(Mutex<Option<InUse>>);

#[derive(Clone, Copy, Debug)]
struct InUse {
    id: i64,
    since: Instant,
    bound: usize,
}

impl EventLease {
    fn take(&self) -> Option<i64> {
        let mut lease = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = lease.as_mut().filter(|lease| lease.since.elapsed() < REUSE && lease.bound < MAX_BOUND)?;
        usable.bound += 1;
        Some(usable.id)
    }

    /// The lease in use may be gone.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Core {
    /// The lease that an object is bound to; 0 for what stays.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn lease_of(&self, resource: &Resource) -> Result<i64, Status> {
        if !expires(resource) {
            return Ok(0);
        }
        if let Some(id) = self.event_lease.take() {
            return Ok(id);
        }
        let ttl = self.config.event_ttl + REUSE;
        let id = self.store.lease(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)).await.map_err(status)?;
        let lease = InUse { id, since: Instant::now(), bound: 1 };
        *self.event_lease.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        Ok(id)
    }
}

/// Whether objects of this kind go by themselves.
pub fn expires(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.kind == "Event"
}
