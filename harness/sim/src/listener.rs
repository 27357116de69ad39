//! The trial's subscriber: product code reports through `tracing`, and this takes what a trial wants to see.
//!
//! It listens to the targets `mark` and `lead` and to warnings of product code. Everything else is disabled at its
//! call site and costs one load.

use crate::observer::{Lead, Observer};
use rt::sim::{HostId, World};
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Takes what the processes of one trial report.
pub(crate) struct Listener {
    pub(crate) world: World,
    /// The members' hosts, in order.
    pub(crate) members: Vec<HostId>,
    pub(crate) observer: Arc<Mutex<Observer>>,
    /// Told when a fault is due because of a mark.
    pub(crate) due: Arc<Notify>,
}

impl Listener {
    fn heard(&self, event: &Event<'_>) {
        let at_ns = self.world.now_ns();
        let member = World::current_host().and_then(|host| {
            let at = self.members.iter().position(|member| *member == host)?;
            u32::try_from(at).ok()
        });
        let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        match event.metadata().target() {
            mark::MARK => {
                let mut text = Text::default();
                event.record(&mut text);
                if observer.mark(at_ns, member, &text.mark) {
                    self.due.notify_one();
                }
            }
            mark::LEAD => {
                let mut said = Said::default();
                event.record(&mut said);
                if let (Some(lead), Some(member)) = (said.lead(), said.member()) {
                    observer.lead(at_ns, member, lead);
                }
            }
            target => {
                let mut warning = Warning(format!("{target}:"));
                event.record(&mut warning);
                observer.warned(at_ns, member, &warning.0);
            }
        }
    }
}

fn wanted(metadata: &Metadata<'_>) -> bool {
    match metadata.target() {
        mark::MARK | mark::LEAD => true,
        _ => metadata.is_event() && *metadata.level() <= Level::WARN,
    }
}

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if wanted(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        self.heard(event);
    }

    // Spans are for people, not for trials.

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The text of a mark.
#[derive(Default)]
struct Text {
    mark: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "mark" {
            value.clone_into(&mut self.mark);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// What was said about leading.
#[derive(Default)]
struct Said {
    what: Option<What>,
    member: u64,
    term: u64,
    index: u64,
    entry_term: u64,
}

enum What {
    Leads,
    StepsDown,
    Commits,
}

impl Said {
    fn lead(&self) -> Option<Lead> {
        let Said { term, index, entry_term, .. } = *self;
        Some(match self.what.as_ref()? {
            What::Leads => Lead::Leads { term },
            What::StepsDown => Lead::StepsDown { term },
            What::Commits => Lead::Commits { term, index, entry_term },
        })
    }

    /// Raft ids count from 1, members from 0.
    fn member(&self) -> Option<u32> {
        u32::try_from(self.member.checked_sub(1)?).ok()
    }
}

impl Visit for Said {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "member" => self.member = value,
            "term" => self.term = value,
            "index" => self.index = value,
            "entry_term" => self.entry_term = value,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "lead" {
            self.what = match value {
                "leads" => Some(What::Leads),
                "steps down" => Some(What::StepsDown),
                "commits" => Some(What::Commits),
                _ => None,
            };
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// A warning as one line: its message, then its fields.
struct Warning(String);

impl Visit for Warning {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        while let Some(at) = self.0.find('\n') {
            self.0.replace_range(at..=at, " ");
        }
    }
}
