//! The life of each lease: when it was granted, kept alive, revoked, and gone.

use faults::Ns;
use record::{Observation, Operation, Outcome, Record, Reply, Request};
use std::collections::BTreeMap;

/// One lease. Its id is used once in a trial.
#[derive(Default)]
pub(crate) struct Lease<'a> {
    /// When it was first seen, and its time to live in seconds.
    pub(crate) seen: Option<(Ns, i64)>,
    /// When it was first seen to be gone.
    pub(crate) gone_ns: Option<Ns>,
    /// Grants and keep-alives that were acknowledged, in order of invocation, with the time to live promised, in seconds.
    pub(crate) promises: Vec<(&'a Operation, i64)>,
    /// Keep-alives that may have happened.
    pub(crate) perhaps: Vec<&'a Operation>,
    /// When somebody first asked for its end, if that may have happened.
    pub(crate) revoked_ns: Option<Ns>,
}

/// Every lease of the record.
pub(crate) fn leases(record: &Record) -> BTreeMap<i64, Lease<'_>> {
    let mut leases: BTreeMap<i64, Lease<'_>> = BTreeMap::new();
    for observation in &record.observations {
        match observation {
            Observation::LeaseGranted { at_ns, lease, ttl_s, .. } => {
                leases.entry(*lease).or_default().seen.get_or_insert((*at_ns, *ttl_s));
            }
            Observation::LeaseGone { at_ns, lease, .. } => {
                leases.entry(*lease).or_default().gone_ns.get_or_insert(*at_ns);
            }
            Observation::Applied { .. }
            | Observation::State { .. }
            | Observation::Leads { .. }
            | Observation::StepsDown { .. }
            | Observation::Commits { .. }
            | Observation::Process { .. } => {}
        }
    }
    for op in &record.operations {
        let (Request::LeaseGrant { lease, .. } | Request::LeaseKeepAlive { lease } | Request::LeaseRevoke { lease }) =
            op.request
        else {
            continue;
        };
        let revoke = matches!(op.request, Request::LeaseRevoke { .. });
        match &op.outcome {
            Outcome::Ok { reply: Reply::Lease { ttl_s }, .. } if !revoke => {
                leases.entry(lease).or_default().promises.push((op, *ttl_s));
            }
            Outcome::Ok { .. } | Outcome::Unknown { .. } if revoke => {
                let revoked_ns = &mut leases.entry(lease).or_default().revoked_ns;
                *revoked_ns = Some(revoked_ns.map_or(op.invoked_ns, |first: Ns| first.min(op.invoked_ns)));
            }
            Outcome::Unknown { .. } => leases.entry(lease).or_default().perhaps.push(op),
            Outcome::Ok { .. } | Outcome::Refused { .. } => {}
        }
    }
    leases
}

/// Seconds as nanoseconds; nothing is promised for less than none.
pub(crate) fn seconds_ns(seconds: i64) -> Ns {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000)
}
