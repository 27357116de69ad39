//! Leases.

use super::Kind;
use super::errors::{Errors, SPEC, text};
use crate::coordination::v1::Lease;
use crate::table::Column;
use crate::{ObjectExt, Timestamp};
use serde_json::Value;

impl Kind for Lease {
    const COLUMNS: &'static [Column] = &[Column::names(), Column::new("Holder", "string", "Who holds it."), super::AGE];

    fn validate(&self, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid(&SPEC.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        errors.non_negative(&SPEC.child("leaseTransitions"), spec.lease_transitions.unwrap_or_default());
        if spec.preferred_holder.as_ref().is_some_and(|holder| !holder.is_empty()) && spec.strategy.is_none() {
            errors.forbidden(&SPEC.child("preferredHolder"), "may only be specified when `strategy` is defined");
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let holder = self.spec.as_ref().map(|spec| text(&spec.holder_identity)).unwrap_or_default();
        vec![self.name().into(), holder.into(), self.age(now)]
    }
}
