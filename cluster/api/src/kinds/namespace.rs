//! Namespaces.

use super::Kind;
use super::errors::{Errors, SPEC, STATUS, list, text};
use super::fields::Field;
use super::meta::{NameCheck, validate_finalizer};
use crate::core::v1::{Namespace, NamespaceStatus};
use crate::table::Column;
use crate::{ObjectExt, Timestamp, names};
use serde_json::Value;

/// The label that says a namespace's name, so that selectors can choose by it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer that stands for a namespace's content.
const FINALIZER: &str = "kubernetes";

impl Kind for Namespace {
    const NAME: NameCheck = names::dns1123_label;
    const COLUMNS: &'static [Column] =
        &[Column::names(), Column::new("Status", "string", "Whether it is being deleted."), super::AGE];
    const FIELDS: &'static [Field] = &[Field::text("status.phase"), Field::alias("name", "metadata.name")];

    fn fill(&mut self) {
        let name = self.name().to_owned();
        if !name.is_empty() {
            self.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
        self.spec.get_or_insert_default();
        let status = self.status.get_or_insert_default();
        if text(&status.phase).is_empty() {
            status.phase = Some("Active".to_owned());
        }
    }

    fn on_create(&mut self) {
        self.status = Some(NamespaceStatus { conditions: None, phase: Some("Active".to_owned()) });
        let finalizers = self.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|name| name == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn on_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        self.status.clone_from(&old.status);
    }

    fn on_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn on_finalize(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }

    fn validate(&self, errors: &mut Errors) {
        let finalizers = self.spec.as_ref().map(|spec| list(&spec.finalizers)).unwrap_or_default();
        let path = SPEC.child("finalizers");
        for (i, name) in finalizers.iter().enumerate() {
            errors.texts(&path.index(i), name, names::qualified_name(name));
            validate_finalizer(name, &path.index(i), errors);
        }
    }

    fn validate_status(&self, _old: &Self, errors: &mut Errors) {
        let phase = self.status.as_ref().map(|status| text(&status.phase)).unwrap_or_default();
        let path = STATUS.child("Phase");
        if self.is_terminating() && phase != "Terminating" {
            errors.text(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        } else if !self.is_terminating() && phase != "Active" {
            errors.text(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let phase = self.status.as_ref().map(|status| text(&status.phase)).unwrap_or_default();
        vec![self.name().into(), phase.into(), self.age(now)]
    }
}
