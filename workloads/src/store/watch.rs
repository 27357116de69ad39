//! Watchers: some follow the store for ever, resuming after every break; others visit the past and the future.
//!
//! A watcher talks to one member at a time, drawn afresh for each watch, so that most resumptions are on another
//! member. It leaves on purpose from time to time and stays away for a while, and now and then reads slowly, so that
//! what it has not read meets compaction and full buffers. One of them has the product's own resuming watch instead.

use super::perform::{bounds, watch_event};
use super::{SECOND, Setting, VISITORS, WATCHERS, connect, plan, stream};
use crate::recorder::Ns;
use record::{KeyRange, WatchEnd, WatchMessage};
use rt::random::Random;
use std::time::Duration;
use store::client::{Client, ResumingWatch, Watcher};
use store::types::{ClientError, WatchRequest, WatchResponse};

/// Watchers that follow for ever: two of everything, one of a span, one of a hot key.
pub(super) const WATCHER_COUNT: u32 = 4;
/// The one of them that reads slowly.
const SLOW_WATCHER: u32 = 1;
/// The one that leaves resuming to the product's client: a watch that goes on at another member is one watch for it.
const RESUMING_WATCHER: u32 = 2;

/// A watcher stays with a member between these times, unless the watch breaks before.
const STAY_NS: std::ops::Range<Ns> = 2 * SECOND..25 * SECOND;
/// One in so many times it stays away for long, so that compaction may overtake it.
const LONG_AWAY_ONE_IN: u64 = 3;
const LONG_AWAY_NS: std::ops::Range<Ns> = SECOND..6 * SECOND;
const SHORT_AWAY_NS: std::ops::Range<Ns> = SECOND / 50..SECOND / 2;
/// The slow watcher rests so long after one in [`REST_ONE_IN`] messages.
const REST_NS: std::ops::Range<Ns> = SECOND / 10..3 * SECOND;
const REST_ONE_IN: u64 = 10;

/// A visit's length, the pause before the next, and how far from the present it begins.
const VISIT_NS: std::ops::Range<Ns> = SECOND..4 * SECOND;
const BETWEEN_VISITS_NS: std::ops::Range<Ns> = SECOND..8 * SECOND;
const VISITED_PAST: u64 = 60;
const VISITED_FUTURE: u64 = 20;

/// Follows one range from the first revision to the end of the trial.
pub(super) async fn watcher(setting: Setting, number: u32, until_ns: Ns) {
    let mut random = stream(setting.seed, "watcher", number);
    let mut rests = stream(setting.seed, "rests", number);
    let range = range_of(number, setting.config.keys);
    let resuming = number == RESUMING_WATCHER;
    let members = if resuming { vec![connect(setting.endpoints.clone())] } else { members(&setting) };
    let mut next_revision = 1;
    while setting.recorder.now_ns() < until_ns {
        let stay_ns = random.range(STAY_NS);
        let watch = Watched {
            client: WATCHERS + number,
            range: range.clone(),
            start_revision: next_revision,
            until_ns: (setting.recorder.now_ns() + stay_ns).min(until_ns),
            resuming,
        };
        let rests = (number == SLOW_WATCHER).then_some(&mut rests);
        next_revision = follow(&setting, any(&members, &mut random), watch, rests).await;
        let away = if random.below(LONG_AWAY_ONE_IN) == 0 { LONG_AWAY_NS } else { SHORT_AWAY_NS };
        rt::time::sleep(Duration::from_nanos(random.range(away))).await;
    }
}

/// Opens short watches that begin in the past or in the future, each as a client of its own.
pub(super) async fn visitor(setting: Setting, host: u32, until_ns: Ns) {
    let mut random = stream(setting.seed, "visitor", host);
    let members = members(&setting);
    let hosts = setting.config.client_hosts.max(1);
    for visit in 0.. {
        rt::time::sleep(Duration::from_nanos(random.range(BETWEEN_VISITS_NS))).await;
        let now_ns = setting.recorder.now_ns();
        if now_ns >= until_ns {
            return;
        }
        let newest = setting.recorder.newest_revision();
        let in_the_future = random.chance(400);
        let start_revision = if in_the_future {
            newest + 1 + random.below(VISITED_FUTURE) as i64
        } else {
            (newest - random.below(VISITED_PAST) as i64).max(1)
        };
        let watch = Watched {
            client: VISITORS + visit * hosts + host,
            range: plan::everything(),
            start_revision,
            until_ns: (now_ns + random.range(VISIT_NS)).min(until_ns),
            resuming: false,
        };
        follow(&setting, any(&members, &mut random), watch, None).await;
    }
}

/// One watch that is to be opened.
struct Watched {
    client: u32,
    range: KeyRange,
    start_revision: i64,
    /// It is closed then, if it did not break before.
    until_ns: Ns,
    /// Whether the product's client resumes it.
    resuming: bool,
}

/// A watch of the product's client.
enum Source {
    OneMember(Watcher),
    Resuming(ResumingWatch),
}

impl Source {
    async fn next(&mut self) -> Result<WatchResponse, ClientError> {
        match self {
            Source::OneMember(watch) => watch.next().await,
            Source::Resuming(watch) => watch.next().await,
        }
    }
}

/// Opens a watch on one member and records it to its end. Answers with the revision to resume from.
async fn follow(setting: &Setting, member: &Client, watched: Watched, mut rests: Option<&mut Random>) -> i64 {
    let recorder = &setting.recorder;
    let mut next_revision = watched.start_revision;
    let (key, range_end) = bounds(&watched.range);
    let start_revision = watched.start_revision;
    let request = WatchRequest { key, range_end, start_revision, progress_notify: true, ..WatchRequest::default() };
    let watch = recorder.open_watch(watched.client, watched.range, start_revision);
    let left = |until_ns: Ns| Duration::from_nanos(until_ns.saturating_sub(recorder.now_ns()));
    let mut source = if watched.resuming {
        Source::Resuming(member.resuming_watch(request))
    } else {
        Source::OneMember(member.watch(request))
    };
    let end = loop {
        match rt::time::timeout(left(watched.until_ns), source.next()).await {
            Err(_) => break WatchEnd::Closed,
            Ok(Err(_)) => break WatchEnd::Broken,
            Ok(Ok(WatchResponse::Canceled { compact_revision: 0, .. })) => break WatchEnd::Broken,
            Ok(Ok(WatchResponse::Canceled { compact_revision, .. })) => {
                next_revision = compact_revision;
                break WatchEnd::Compacted(compact_revision);
            }
            Ok(Ok(WatchResponse::Events { revision, events, .. })) => {
                let events = events.iter().map(watch_event).collect();
                recorder.watch_sent(&watch, WatchMessage { at_ns: recorder.now_ns(), revision, events });
                next_revision = next_revision.max(revision + 1);
            }
            Ok(Ok(WatchResponse::Progress { revision })) => {
                recorder.watch_sent(&watch, WatchMessage { at_ns: recorder.now_ns(), revision, events: vec![] });
                next_revision = next_revision.max(revision + 1);
            }
        }
        if let Some(random) = rests.as_deref_mut()
            && random.below(REST_ONE_IN) == 0
        {
            rt::time::sleep(Duration::from_nanos(random.range(REST_NS)).min(left(watched.until_ns))).await;
        }
    };
    recorder.watch_ended(watch, end);
    next_revision
}

fn range_of(number: u32, keys: u32) -> KeyRange {
    match number {
        0 | SLOW_WATCHER => plan::everything(),
        RESUMING_WATCHER => {
            KeyRange { from: plan::key_name(0), until: Some(plan::key_name(u64::from(keys / 2).max(1))) }
        }
        _ => KeyRange::key(plan::key_name(0)),
    }
}

/// One client per member, so that a watcher chooses whom it talks to.
fn members(setting: &Setting) -> Vec<Client> {
    setting.endpoints.iter().map(|endpoint| connect(vec![endpoint.clone()])).collect()
}

fn any<'a>(members: &'a [Client], random: &mut Random) -> &'a Client {
    &members[random.below(members.len() as u64) as usize]
}
