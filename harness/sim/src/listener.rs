//! The trial's subscriber: product code reports through `tracing`, and this takes what a trial wants to see.
//!
//! It listens to the targets of crate `mark` and to warnings of product code. Everything else is disabled at its
//! call site and costs one load.

use crate::observer::{Lead, Observer};
use crate::storm::Due;
use faults::Ns;
use record::{Container, Sight};
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
    /// The nodes' hosts, in order.
    pub(crate) nodes: Vec<HostId>,
    pub(crate) observer: Arc<Mutex<Observer>>,
    /// Told when a fault is due because of a mark.
    pub(crate) due: Arc<Notify>,
    /// Lets faults strike at this very instant, within the process that said what they waited for.
    pub(crate) strike: Box<StrikeNow>,
}

/// Lets these strike now.
pub(crate) type StrikeNow = dyn Fn(Ns, &[Due]) + Send + Sync;

impl Listener {
    fn heard(&self, event: &Event<'_>) {
        let at_ns = self.world.now_ns();
        let host = World::current_host();
        let number = |hosts: &[HostId]| {
            let at = hosts.iter().position(|other| Some(*other) == host)?;
            u32::try_from(at).ok()
        };
        let member = number(&self.members);
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
                if let (Some(leads), Some(member)) = (said.elected, member) {
                    observer.saw(Sight::Elected { at_ns, member, lease: said.lease, epoch: said.epoch, leads });
                }
            }
            mark::EFFECT => {
                // A process that a fault ended in the middle of a step is not heard any more.
                let Some(member) = member.filter(|member| self.world.is_running(self.members[*member as usize])) else {
                    return;
                };
                let mut said = Seen::default();
                event.record(&mut said);
                let before = said.phase == "before";
                let due = observer.effect(at_ns, member, said.index, before);
                if before {
                    observer.saw(Sight::Effect { at_ns, member, controller: said.controller, key: said.key });
                }
                drop(observer);
                if !due.is_empty() {
                    (self.strike)(at_ns, &due);
                }
            }
            mark::CONTAINER => {
                let mut said = Seen::default();
                event.record(&mut said);
                if let Some(node) = number(&self.nodes)
                    && let Some(sight) = said.sight(at_ns, node, |id| observer.runs(node, id))
                {
                    observer.saw(sight);
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
        mark::MARK | mark::LEAD | mark::EFFECT | mark::CONTAINER => true,
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
    /// Whether it came to hold a Lease, or ceased to.
    elected: Option<bool>,
    lease: String,
    epoch: i64,
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

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "transitions" {
            self.epoch = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "lease" {
            value.clone_into(&mut self.lease);
        }
        if field.name() == "lead" {
            self.elected = match value {
                "elected" => Some(true),
                "unelected" => Some(false),
                _ => None,
            };
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

/// What was said of an effect or a container.
#[derive(Default)]
struct Seen {
    event: String,
    phase: String,
    controller: String,
    key: String,
    pod_uid: String,
    container: String,
    id: String,
    code: i32,
    signal: String,
    /// Of a write in its plan.
    index: u64,
}

impl Seen {
    fn sight(self, at_ns: Ns, node: u32, runs: impl Fn(&str) -> bool) -> Option<Sight> {
        let container = Container { at_ns, node, pod_uid: self.pod_uid, name: self.container, id: self.id };
        match self.event.as_str() {
            "started" => Some(Sight::Started(container)),
            "exited" if runs(&container.id) => Some(Sight::Exited { container, code: self.code }),
            "signalled" => Some(Sight::Signalled { container, kill: self.signal == "SIGKILL" }),
            "adopted" if !runs(&container.id) => Some(Sight::Started(container)),
            // A container that was adopted runs as it did, and so does one that was probed; an end may be told twice.
            _ => None,
        }
    }
}

impl Visit for Seen {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "index" {
            self.index = value;
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "code" {
            self.code = i32::try_from(value).unwrap_or(i32::MAX);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = match field.name() {
            "container" => &mut self.event,
            "phase" => &mut self.phase,
            "controller" => &mut self.controller,
            "key" => &mut self.key,
            "pod_uid" => &mut self.pod_uid,
            "name" => &mut self.container,
            "id" => &mut self.id,
            "signal" => &mut self.signal,
            _ => return,
        };
        value.clone_into(text);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Topology;
    use crate::storm::{Awaited, Sign};
    use std::net::Ipv4Addr;

    #[test]
    fn a_process_that_dies_at_an_effect_says_nothing_after_it() {
        let seen = rt::sim::run(rt::sim::Config::default(), |world: World| async move {
            let host = world.add_host("s1", Ipv4Addr::new(10, 0, 0, 1).into());
            let sign = Sign::Effects { left: 2, index: 0, before: false };
            let topology = Topology { members: 1, client_hosts: 0, nodes: 0 };
            let observer = Observer::new(topology, vec![Awaited { fault: 7, from_ns: 0, sign }], false);
            let observer = Arc::new(Mutex::new(observer));
            let killer = world.clone();
            let listener = Listener {
                world: world.clone(),
                members: vec![host],
                nodes: vec![],
                observer: observer.clone(),
                due: Arc::default(),
                strike: Box::new(move |_, _| killer.kill(host)),
            };
            let _listening = tracing::subscriber::set_default(listener);
            let process = || async {
                for index in 0..4 {
                    mark::effect("controller", "key", index, true);
                    mark::effect("controller", "key", index, false);
                }
                std::future::pending().await
            };
            world.start(host, move || Box::pin(process()));
            world.sleep_ns(1_000).await;
            assert!(!world.is_running(host));
            observer.lock().unwrap_or_else(PoisonError::into_inner).close().archives.sights.all().len()
        });
        assert_eq!(seen, Ok(2), "the two effects before");
    }
}
