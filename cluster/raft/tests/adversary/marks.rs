//! Which marks come up.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Once;

use mark::tracing::field::{Field, Visit};
use mark::tracing::span::{Attributes, Id, Record};
use mark::tracing::{Event, Metadata, Subscriber, subscriber};

thread_local! {
    static SEEN: RefCell<BTreeSet<String>> = RefCell::default();
}

/// The marks that came up while `work` ran on this thread.
pub fn seen(work: impl FnOnce()) -> BTreeSet<String> {
    // For the whole process: tracing may settle for good that a place interests nobody when a thread that has no subscriber
    // is the first to pass it.
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| subscriber::set_global_default(Observer).expect("nothing else installs one"));
    SEEN.take();
    work();
    SEEN.take()
}

/// The marks that this crate's source names.
pub fn in_source() -> BTreeSet<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = std::fs::read_dir(folder).expect("the crate has sources");
    let mut marks = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file.expect("it is listed").path()).expect("sources are text");
        let after = text.split("mark::sometimes!(\"").skip(1);
        marks.extend(after.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    marks
}

struct Observer;

impl Visit for Observer {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "mark" {
            SEEN.with_borrow_mut(|seen| seen.insert(value.to_owned()));
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Observer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == mark::MARK
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Observer);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
