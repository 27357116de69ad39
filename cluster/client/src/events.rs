//! Events (core/v1) for people: repeats are counted, and a noisy object is cut short. All at best effort.
//!
//! ```text
//! record() ──bounded, dropped when full──▶ Aggregator: create, count up, or nothing ──▶ API server, two attempts more
//! ```

use crate::client::Client;
use crate::clock::{Clock, wall};
use crate::error::Error;
use crate::plan::Note;
use api::core::v1::{Event, EventSource};
use api::meta::v1::Time;
use api::object::seconds;
use api::{ObjectMeta, Timestamp};
use mark::sometimes;
use rt::random::Random;
use rt::task::AbortOnDrop;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Notes that wait to be sent: a burst of a few hundred pods.
const QUEUED: usize = 256;
/// Distinct events, and objects, that are remembered; upstream's caches have as many entries.
const REMEMBERED: usize = 4096;
/// Events of one object at once, as upstream.
const BURST: u32 = 25;
/// Then one in so long, as upstream.
const REFILL: Duration = Duration::from_secs(300);
/// The longest message, as the API allows.
const MESSAGE_LIMIT: usize = 1024;
/// The longest name of an object that is kept in its events' names: 253 less a dot and 16 digits.
const NAME_LIMIT: usize = 236;
/// Attempts after the first.
const RETRIES: u32 = 2;
/// How long one attempt may take: whatever is late is of little use.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait between attempts; half of it is chance.
const RETRY_WAIT: Duration = Duration::from_secs(2);

/// Records events. Clones share a queue.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<(Note, Arc<str>)>,
    component: Arc<str>,
    /// Ends with the last clone.
    _task: Arc<AbortOnDrop<()>>,
}

impl Recorder {
    /// Records as `component` on `host`.
    pub fn new(client: Client, component: &str, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUED);
        let random = rt::random::stream("recorder");
        let client = client.with_limits(ATTEMPT_TIMEOUT, 1);
        let sending = Sending { client, aggregator: Aggregator::new(host), clock: Clock::new(), random };
        let task = rt::task::spawn("recorder", sending.run(receiver)).abort_on_drop();
        Self { sender, component: component.into(), _task: Arc::new(task) }
    }

    /// The same recorder for another component.
    pub fn named(&self, component: &str) -> Self {
        Self { component: component.into(), ..self.clone() }
    }

    /// Has an event recorded some time, or never: when too many wait, it is dropped.
    pub fn record(&self, note: &Note) {
        if self.sender.try_send((note.clone(), self.component.clone())).is_err() {
            sometimes!("event dropped");
        }
    }
}

struct Sending {
    client: Client,
    aggregator: Aggregator,
    clock: Clock,
    random: Random,
}

impl Sending {
    async fn run(mut self, mut notes: mpsc::Receiver<(Note, Arc<str>)>) {
        while let Some((note, component)) = notes.recv().await {
            let now = self.clock.now();
            let Some(mut event) = self.aggregator.take(&note, &component, now.monotonic, now.wall) else { continue };
            for _ in 0..=RETRIES {
                match self.send(&mut event).await {
                    Ok(()) => break,
                    Err(error) if error.status().is_some_and(|status| (400..500).contains(&status.code)) => {
                        tracing::debug!(%error, event = event.metadata.name, "an event was refused");
                        break;
                    }
                    Err(_) => rt::time::sleep(RETRY_WAIT / 2 + self.random.jitter(RETRY_WAIT / 2)).await,
                }
            }
        }
    }

    /// Creates the event, or counts it up where it exists: also when an earlier process made it.
    async fn send(&mut self, event: &mut Event) -> Result<(), Error> {
        let name = event.metadata.name.clone().unwrap_or_default();
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        if event.count.unwrap_or_default() > 1 {
            let repeat = Repeat { count: event.count, last_timestamp: event.last_timestamp.clone() };
            match self.client.patch_merge::<Event, _>(&namespace, &name, &repeat).await {
                Err(error) if error.is_not_found() => {}
                other => return other.map(|_| ()),
            }
        }
        match self.client.create(event).await {
            Err(error) if error.is_already_exists() => {}
            other => return other.map(|_| ()),
        }
        let there = self.client.get::<Event>(&namespace, &name).await?;
        let count = there.count.unwrap_or(1).saturating_add(1);
        event.count = Some(count);
        self.aggregator.counted(&name, count);
        let repeat = Repeat { count: Some(count), last_timestamp: Some(seconds(wall())) };
        self.client.patch_merge::<Event, _>(&namespace, &name, &repeat).await.map(|_| ())
    }
}

/// What changes when an event happens again.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Repeat {
    count: Option<i32>,
    last_timestamp: Option<Time>,
}

/// Turns notes into events: which is new, which a repeat, which one too many.
struct Aggregator {
    host: String,
    /// By the event's name.
    counts: BTreeMap<String, Count>,
    /// By component, and by the object's UID or names.
    buckets: BTreeMap<(Arc<str>, String), Bucket>,
    uses: u64,
}

struct Count {
    count: i32,
    first: Timestamp,
    used: u64,
}

struct Bucket {
    tokens: u32,
    refilled: Duration,
    used: u64,
}

impl Aggregator {
    fn new(host: &str) -> Self {
        Self { host: host.to_owned(), counts: BTreeMap::new(), buckets: BTreeMap::new(), uses: 0 }
    }

    /// The event to be sent, of count 1 if it is new; `None` if its object has had too many.
    fn take(&mut self, note: &Note, component: &Arc<str>, now: Duration, wall: Timestamp) -> Option<Event> {
        self.uses += 1;
        if !self.allows(note, component, now) {
            sometimes!("event of a noisy object held back");
            return None;
        }
        let name = event_name(note, component);
        let used = self.uses;
        if self.counts.len() >= REMEMBERED && !self.counts.contains_key(&name) {
            forget(&mut self.counts, |count| count.used);
        }
        let count = self.counts.entry(name.clone()).or_insert(Count { count: 0, first: wall, used });
        count.count = count.count.saturating_add(1);
        count.used = used;
        let namespace = note.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        Some(Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: note.regarding.clone(),
            reason: Some(note.reason.to_owned()),
            message: Some(cut(&note.message, MESSAGE_LIMIT).to_owned()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            source: Some(EventSource { component: Some(component.to_string()), host: Some(self.host.clone()) }),
            first_timestamp: Some(seconds(count.first)),
            last_timestamp: Some(seconds(wall)),
            count: Some(count.count),
            reporting_component: Some(component.to_string()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        })
    }

    /// An event turned out to have been counted up to `count`.
    fn counted(&mut self, name: &str, count: i32) {
        if let Some(known) = self.counts.get_mut(name) {
            known.count = count;
        }
    }

    /// Takes a token of the object's, if there is one.
    fn allows(&mut self, note: &Note, component: &Arc<str>, now: Duration) -> bool {
        let key = (component.clone(), object_of(note));
        let used = self.uses;
        if self.buckets.len() >= REMEMBERED && !self.buckets.contains_key(&key) {
            forget(&mut self.buckets, |bucket| bucket.used);
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: BURST, refilled: now, used });
        bucket.used = used;
        let periods = now.saturating_sub(bucket.refilled).as_secs() / REFILL.as_secs();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        bucket.tokens = bucket.tokens.saturating_add(periods).min(BURST);
        bucket.refilled += REFILL.saturating_mul(periods);
        if bucket.tokens == 0 {
            return false;
        }
        bucket.tokens -= 1;
        true
    }
}

/// Drops the half that was used longest ago, so that this is rarely done.
fn forget<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, used: impl Fn(&V) -> u64) {
    let mut uses: Vec<u64> = map.values().map(&used).collect();
    uses.sort_unstable();
    let middle = uses.get(uses.len() / 2).copied().unwrap_or_default();
    map.retain(|_, value| used(value) >= middle);
}

fn object_of(note: &Note) -> String {
    let of = &note.regarding;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    [part(&of.api_version), part(&of.kind), part(&of.namespace), part(&of.name), part(&of.uid)].join("\n")
}

/// `object.hash`, the same for the same event, so that it is counted up after a change of leader too.
fn event_name(note: &Note, component: &str) -> String {
    let object = object_of(note);
    let field = note.regarding.field_path.as_deref().unwrap_or_default();
    let kind = if note.warning { "Warning" } else { "Normal" };
    let hash = fnv(&[component, &object, field, kind, note.reason, &note.message]);
    let name = cut(note.regarding.name.as_deref().unwrap_or_default(), NAME_LIMIT).trim_end_matches(['.', '-']);
    format!("{name}.{hash:016x}")
}

/// FNV-1a over the parts and their ends.
fn fnv(parts: &[&str]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// At most `limit` bytes of `text`, whole characters.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::v1::ObjectReference;
    use expect_test::{Expect, expect};

    fn note(name: &str, message: &str) -> Note {
        let regarding = ObjectReference { name: Some(name.to_owned()), ..ObjectReference::default() };
        Note { regarding, warning: false, reason: "Pulled", message: message.to_owned() }
    }

    /// `seconds:object:message` each.
    fn check(notes: &[&str], expected: Expect) {
        let mut aggregator = Aggregator::new("host-1");
        let component: Arc<str> = "kubelet".into();
        let mut told = String::new();
        for text in notes {
            let parts: Vec<&str> = text.split(':').collect();
            let at = Duration::from_secs(parts[0].parse().expect("a time is a number"));
            let wall = Timestamp::from_second(at.as_secs().try_into().expect("it is small")).expect("it is a time");
            let event = aggregator.take(&note(parts[1], parts[2]), &component, at, wall);
            let event = event.map_or("held back".to_owned(), |event| {
                let time = |time: Option<Time>| time.map_or(-1, |time| time.0.as_second());
                let (first, last) = (time(event.first_timestamp), time(event.last_timestamp));
                let metadata = event.metadata;
                let (namespace, name) = (metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
                format!("{namespace}/{name} {first}..{last} count {}", event.count.unwrap_or_default())
            });
            told.push_str(&format!("{event}\n"));
        }
        expected.assert_eq(&told);
    }

    #[test]
    fn repeats_are_counted_under_one_name() {
        check(
            &["1:a:x", "2:a:y", "3:a:x", "4:b:x"],
            expect![[r#"
            default/a.6e207e0324165ab7 1..1 count 1
            default/a.6e227e032416dd8e 2..2 count 1
            default/a.6e207e0324165ab7 1..3 count 2
            default/b.6440d742690974b0 4..4 count 1
        "#]],
        );
    }

    #[test]
    fn a_noisy_object_has_a_burst_and_then_one_at_a_time() {
        let mut aggregator = Aggregator::new("host-1");
        let component: Arc<str> = "kubelet".into();
        let mut sent = |object: &str, at: u64, times: u32| {
            let at = Duration::from_secs(at);
            let take = |_: &u32| aggregator.take(&note(object, "x"), &component, at, Timestamp::UNIX_EPOCH).is_some();
            (0..times).filter(take).count()
        };
        assert_eq!(sent("a", 0, 40), 25);
        assert_eq!(sent("b", 0, 10), 10);
        assert_eq!(sent("a", 299, 40), 0);
        assert_eq!(sent("a", 301, 40), 1);
        assert_eq!(sent("a", 600 * 300, 40), 25);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut aggregator = Aggregator::new("host-1");
        let component: Arc<str> = "kubelet".into();
        for n in 0..3 * REMEMBERED {
            let taken = aggregator.take(&note(&n.to_string(), "x"), &component, Duration::ZERO, Timestamp::UNIX_EPOCH);
            assert!(taken.is_some());
            assert!(aggregator.counts.len() <= REMEMBERED && aggregator.buckets.len() <= REMEMBERED);
        }
    }

    #[test]
    fn long_names_and_messages_are_cut() {
        let mut aggregator = Aggregator::new("host-1");
        let event = aggregator
            .take(&note(&"n".repeat(253), &"ü".repeat(1000)), &"c".into(), Duration::ZERO, Timestamp::UNIX_EPOCH)
            .expect("it is the first");
        assert_eq!(event.metadata.name.map(|name| name.len()), Some(253));
        assert_eq!(event.message.map(|message| message.len()), Some(1024));
    }
}
