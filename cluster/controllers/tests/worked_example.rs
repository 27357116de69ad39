//! The controller of CONTRIBUTING.md's worked example, as it stands there.

use api::ObjectExt;
use api::coordination::v1::{Lease, LeaseSpec};
use client::{Caches, Controller, Key, Now, Plan, Row, Watch, Write};
use std::time::Duration;

/// The controller.
const ROW: Row = Row { name: "lease-labels", watches: || vec![Watch::own::<Lease>()], reconcile };

fn reconcile(caches: &Caches, key: &Key, _: Now) -> Plan {
    let Some(lease) = caches.get::<Lease>(&key.namespace, &key.name) else { return Plan::nothing() };
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    if lease.labels().get("holder") == Some(&holder) {
        return Plan::nothing();
    }
    let mut wanted = Lease::clone(lease);
    wanted.metadata.labels.get_or_insert_default().insert("holder".to_owned(), holder);
    Plan::write(Write::update(&wanted))
}

#[test]
fn a_lease_is_labelled_once() {
    let mut lease = Lease::default();
    (lease.metadata.name, lease.metadata.namespace) = (Some("l".to_owned()), Some("default".to_owned()));
    lease.spec = Some(LeaseSpec { holder_identity: Some("a".to_owned()), ..LeaseSpec::default() });
    let now = Now { wall: api::Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO };
    let mut row = ROW;
    let plan = row.reconcile(&Caches::new().with(lease.clone()), &Key::of(&lease), now);
    assert_eq!(plan.writes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["update leases default/l"]);
    lease.metadata.labels.get_or_insert_default().insert("holder".to_owned(), "a".to_owned());
    assert!(row.reconcile(&Caches::new().with(lease.clone()), &Key::of(&lease), now).is_empty());
}
