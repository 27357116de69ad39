//! What a namespace that goes says of what is still in it: upstream's conditions, reasons and messages.

use api::core::v1::{Namespace, NamespaceCondition};
use api::resource::Resource;
use api::{ObjectMeta, Timestamp};
use std::collections::BTreeMap;

/// What remains although its deletion was asked for.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    /// How many objects, by `plural.group`.
    resources: BTreeMap<String, usize>,
    /// How many objects each finalizer holds.
    finalizers: BTreeMap<String, usize>,
}

impl Remaining {
    pub(super) fn note(&mut self, resource: &Resource, metadata: &ObjectMeta) {
        *self.resources.entry(format!("{}.{}", resource.plural, resource.group)).or_default() += 1;
        for finalizer in metadata.finalizers.iter().flatten() {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    pub(super) fn text(&self) -> String {
        list(&self.resources, "has")
    }
}

fn list(counts: &BTreeMap<String, usize>, verb: &str) -> String {
    let texts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{name} {verb} {count} resource instances")).collect();
    texts.join(", ")
}

/// Type, then reason and message where all is well.
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// The namespace with its conditions as they should be; `None` if they say so already. That only a count changed is no
/// reason to write: it does with every object that goes.
pub(super) fn update(namespace: &Namespace, remaining: &Remaining, now: Timestamp) -> Option<Namespace> {
    let mut updated = namespace.clone();
    let conditions = updated.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut changed = false;
    for (type_, good_reason, good_message) in CONDITIONS {
        let bad = match type_ {
            "NamespaceContentRemaining" if !remaining.resources.is_empty() => {
                let message = format!("Some resources are remaining: {}", remaining.text());
                Some(("SomeResourcesRemain", message))
            }
            "NamespaceFinalizersRemaining" if !remaining.finalizers.is_empty() => {
                let list = list(&remaining.finalizers, "in");
                let message = format!("Some content in the namespace has finalizers remaining: {list}");
                Some(("SomeFinalizersRemain", message))
            }
            _ => None,
        };
        let status = if bad.is_some() { "True" } else { "False" };
        let (reason, message) = bad.unwrap_or((good_reason, good_message.to_owned()));
        changed |= set(conditions, type_, status, reason, message, now);
    }
    changed.then_some(updated)
}

fn set(
    conditions: &mut Vec<NamespaceCondition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> bool {
    let old = conditions.iter_mut().find(|condition| condition.type_ == type_);
    let fresh = NamespaceCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(api::object::seconds(now)),
    };
    let Some(old) = old else {
        conditions.push(fresh);
        return true;
    };
    let same = old.status == fresh.status
        && old.reason == fresh.reason
        && without_digits(&old.message) == without_digits(&fresh.message);
    if same {
        return false;
    }
    let since = if old.status == fresh.status { old.last_transition_time.clone() } else { None };
    *old = NamespaceCondition { last_transition_time: since.or(fresh.last_transition_time.clone()), ..fresh };
    true
}

fn without_digits(message: &Option<String>) -> String {
    message.iter().flat_map(|message| message.chars()).filter(|letter| !letter.is_ascii_digit()).collect()
}
