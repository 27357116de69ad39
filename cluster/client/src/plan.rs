//! What a decision wants done, and why nothing more is done now.

use crate::write::Write;
use api::core::v1::ObjectReference;
use api::{Object, ObjectMeta};
use std::time::Duration;

/// What a controller would do now about one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order. The driver performs them one by one and stops at the first that fails, so that a burst of creates that
    /// are all refused costs one refusal (upstream's slow start).
    pub writes: Vec<Write>,
    /// Look at this key again after so long even if nothing changes.
    pub requeue_after: Option<Duration>,
    /// Why nothing more happens now. For reports and debugging.
    pub waiting: Vec<Waiting>,
    /// Events about what this plan does. They are sent after its writes, at best effort, and not if one of them fails:
    /// the next plan says it again.
    pub notes: Vec<Note>,
    /// Events about what the decision saw and will not see anew. They are sent whatever becomes of the writes.
    pub seen: Vec<Note>,
}

/// Why a plan does not go further, in a few words: `2 pods are not ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting(pub String);

/// An Event for people, to be recorded on an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// On which object.
    pub regarding: ObjectReference,
    /// `Warning` instead of `Normal`.
    pub warning: bool,
    /// CamelCase word: `SuccessfulCreate`.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Plan {
    /// Nothing is to be done.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// One write.
    pub fn write(write: Write) -> Self {
        Self { writes: vec![write], ..Self::default() }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Looks again after `duration` at the latest.
    pub fn requeue(&mut self, duration: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(duration, |already| already.min(duration)));
    }

    /// Says why nothing more happens.
    pub fn wait(&mut self, why: impl Into<String>) {
        self.waiting.push(Waiting(why.into()));
    }

    /// Records a normal event on `object` about something that was seen once: see [`Plan::seen`].
    pub fn saw<T: Object>(&mut self, object: &T, reason: &'static str, message: impl Into<String>) {
        self.seen.push(Note::on(object, false, reason, message));
    }

    /// Records a normal event on `object`.
    pub fn note<T: Object>(&mut self, object: &T, reason: &'static str, message: impl Into<String>) {
        self.notes.push(Note::on(object, false, reason, message));
    }

    /// Records a warning on `object`.
    pub fn warn<T: Object>(&mut self, object: &T, reason: &'static str, message: impl Into<String>) {
        self.notes.push(Note::on(object, true, reason, message));
    }
}

impl Note {
    fn on<T: Object>(object: &T, warning: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { regarding: reference(object), warning, reason, message: message.into() }
    }
}

/// A reference to an object, as Events have it.
pub fn reference<T: Object>(object: &T) -> ObjectReference {
    reference_to(object.metadata(), T::KIND, T::API_VERSION)
}

fn reference_to(metadata: &ObjectMeta, kind: &str, api_version: &str) -> ObjectReference {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: some(&metadata.name),
        namespace: some(&metadata.namespace),
        resource_version: some(&metadata.resource_version),
        uid: some(&metadata.uid),
        field_path: None,
    }
}
