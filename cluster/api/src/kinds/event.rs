//! Events.

use super::Kind;
use super::errors::{Errors, Path, text};
use super::fields::{Field, at};
use super::meta::NameCheck;
use crate::core::v1::Event;
use crate::table::{Column, age};
use crate::{ObjectExt, Timestamp, names};
use serde_json::Value;

/// Longest word on what was done, why, or by which instance; upstream's limit.
const MAX_WORD: usize = 128;
/// Longest message; upstream's limit.
const MAX_MESSAGE: usize = 1024;

impl Kind for Event {
    const NAME: NameCheck = names::path_segment;
    const COLUMNS: &'static [Column] = &[
        Column::new("Last Seen", "string", "When it happened last."),
        Column::new("Type", "string", "Whether it is a warning."),
        Column::new("Reason", "string", "Why, in one word."),
        Column::new("Object", "string", "What it is about."),
        Column::wide("Subobject", "string", "Which part of it."),
        Column::wide("Source", "string", "Who says so."),
        Column::new("Message", "string", "What happened."),
        Column::wide("First Seen", "string", "When it happened first."),
        Column::wide("Count", "string", "How often it happened."),
        Column { priority: 1, ..Column::names() },
    ];
    const FIELDS: &'static [Field] = &[
        Field::text("involvedObject.kind"),
        Field::text("involvedObject.namespace"),
        Field::text("involvedObject.name"),
        Field::text("involvedObject.uid"),
        Field::text("involvedObject.apiVersion"),
        Field::text("involvedObject.resourceVersion"),
        Field::text("involvedObject.fieldPath"),
        Field::text("reason"),
        Field::with("reportingComponent", |event| at(event, "reportingComponent", ""), &["reportingComponent"]),
        // The older and the newer name of who says so stand in for each other.
        Field::with(
            "source",
            |event| at(event, "source.component", &at(event, "reportingComponent", "")),
            &["source.component", "reportingComponent"],
        ),
        Field::text("type"),
    ];

    fn validate(&self, errors: &mut Errors) {
        let (own, theirs) = (self.namespace(), text(&self.involved_object.namespace));
        let path = Path::Root("involvedObject.namespace");
        let agrees = match (&self.event_time, theirs) {
            (None, "") => matches!(own, "" | "default"),
            (Some(_), "") => matches!(own, "default" | "kube-system"),
            (None, theirs) => own == theirs,
            (Some(_), _) => true,
        };
        if !agrees {
            errors.text(&path, theirs, "does not match event.namespace");
        }
        if self.event_time.is_none() {
            return;
        }
        let component = text(&self.reporting_component);
        let path = Path::Root("reportingComponent");
        if component.is_empty() {
            errors.required(&path, "");
        }
        errors.texts(&path, component, names::qualified_name(component));
        for (name, value) in
            [("reportingInstance", &self.reporting_instance), ("action", &self.action), ("reason", &self.reason)]
        {
            let value = text(value);
            if value.is_empty() {
                errors.required(&Path::Root(name), "");
            } else if value.len() > MAX_WORD {
                errors.text(&Path::Root(name), "", &format!("can have at most {MAX_WORD} characters"));
            }
        }
        if text(&self.message).len() > MAX_MESSAGE {
            errors.text(&Path::Root("message"), "", &format!("can have at most {MAX_MESSAGE} characters"));
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let event_time = self.event_time.as_ref().map(|time| time.0);
        let first = self.first_timestamp.as_ref().map(|time| time.0).or(event_time);
        let mut last = self.last_timestamp.as_ref().map(|time| time.0).or(first);
        let mut count = self.count.filter(|count| *count != 0).unwrap_or(1);
        if let Some(series) = &self.series {
            last = series.last_observed_time.as_ref().map(|time| time.0);
            count = series.count.unwrap_or_default();
        }
        let kind = text(&self.involved_object.kind).to_lowercase();
        let name = text(&self.involved_object.name);
        let object = if name.is_empty() { kind } else { format!("{kind}/{name}") };
        let source = self.source.clone().unwrap_or_default();
        let or = |value: &Option<String>, other: &Option<String>| -> String {
            if text(value).is_empty() { text(other).to_owned() } else { text(value).to_owned() }
        };
        let mut who = or(&source.component, &self.reporting_component);
        let host = or(&source.host, &self.reporting_instance);
        if !host.is_empty() {
            who = format!("{who}, {host}");
        }
        vec![
            age(last, now).into(),
            text(&self.type_).into(),
            text(&self.reason).into(),
            object.into(),
            text(&self.involved_object.field_path).into(),
            who.into(),
            text(&self.message).trim().into(),
            age(first, now).into(),
            count.into(),
            self.name().into(),
        ]
    }
}
