//! Fences: a leader that was deposed writes nothing more.
//!
//! A leader sends `Seaworthy-Fence: namespace/lease=N` with every write, N being how often its Lease changed hands. The
//! store has the highest number that wrote, under a key of its own, and that key is compared in the write's own
//! transaction: so the last write of a deposed leader comes before the first of its successor, or not at all.

use crate::change::Change;
use crate::keys;
use api::{Resource, Status};
use bytes::Bytes;
use http::HeaderMap;
use store::mvcc::Tree;

/// The header.
const HEADER: &str = "seaworthy-fence";

/// The number under which a leader writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Namespace of its Lease.
    pub namespace: String,
    /// Name of its Lease.
    pub lease: String,
    /// How often that changed hands.
    pub number: u64,
}

impl Fence {
    /// Reads the header, if there is one.
    ///
    /// # Errors
    /// 400: it is no fence.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let parsed = value.to_str().ok().and_then(Self::parse);
        parsed.map(Some).ok_or_else(|| Status::bad_request("Seaworthy-Fence is not of the form namespace/lease=number"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (lease, number) = text.split_once('=')?;
        let (namespace, lease) = lease.split_once('/')?;
        let number = number.parse().ok()?;
        let named = !namespace.is_empty() && !lease.is_empty() && !lease.contains('/');
        named.then(|| Self { namespace: namespace.to_owned(), lease: lease.to_owned(), number })
    }

    /// Makes `change` apply only if no higher number has written, and leaves this one behind.
    ///
    /// # Errors
    /// 409 with cause `StaleFence`: a higher one has. It never changes back.
    pub fn guard(&self, tree: &Tree, change: &mut Change, about: (&Resource, &str)) -> Result<(), Status> {
        let key = keys::fence(&self.namespace, &self.lease);
        let stored = tree.get(&key);
        let highest = stored.and_then(|kv| std::str::from_utf8(&kv.value).ok()?.parse::<u64>().ok());
        if highest.is_some_and(|highest| highest > self.number) {
            mark::sometimes!("write of a deposed leader refused");
            return Err(self.stale(highest.unwrap_or_default(), about));
        }
        change.expect(key.clone(), stored.map_or(0, |kv| kv.mod_revision));
        if highest != Some(self.number) {
            change.put(key, Bytes::from(self.number.to_string()));
        }
        Ok(())
    }

    fn stale(&self, highest: u64, (resource, name): (&Resource, &str)) -> Status {
        let Self { namespace, lease, number } = self;
        let why = format!("leader {number} of {namespace}/{lease} was deposed, {highest} leads");
        Status::conflict(resource, name, &why).cause("StaleFence", &why, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read() {
        let fence = Fence { namespace: "kube-system".into(), lease: "scheduler".into(), number: 3 };
        assert_eq!(Fence::parse("kube-system/scheduler=3"), Some(fence));
        for wrong in ["", "a=1", "a/b", "a/b=x", "/b=1", "a/=1", "a/b/c=1", "a/b=-1"] {
            assert_eq!(Fence::parse(wrong), None, "{wrong}");
        }
    }
}
