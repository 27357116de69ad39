//! Workload `store`: concurrent clients, watchers and a prober on a replicated store.
//!
//! ```text
//! run_host --+-- clients: Planner -> perform -> Recorder      until Timeline::clients_until_ns
//!            +-- prober: a put every half second              until the same
//!            +-- watchers: resumed for ever, broken on purpose until Timeline::watchers_until_ns
//!            +-- visitors: short watches of the past and the future
//!            +-- readers: everything, through each member alone, from Timeline::reads_from_ns
//! ```
//!
//! Numbers of clients tell what they are: see [`client_count`], [`PROBER`], [`WATCHERS`], [`VISITORS`], [`READERS`].

use crate::random::stream;
use crate::recorder::{Ns, Recorder};
use record::{Change, Config, Outcome, Request};
use rt::task::JoinHandle;
use std::time::Duration;
use store::client::{Client, ClientConfig};

mod perform;
pub mod plan;
mod watch;

pub use perform::{key_value, member_number, watch_event};

/// The prober's client number.
pub const PROBER: u32 = 1000;
/// Watchers that resume for ever have client numbers from here on.
pub const WATCHERS: u32 = 2000;
/// Each short watch is a client of its own, numbered from here on.
pub const VISITORS: u32 = 10_000;
/// The readers of the end state, one per member, have client numbers from here on.
pub const READERS: u32 = 3000;

/// Operations per second that one client attempts: slow enough that it is seldom late after a timeout.
const RATE_PER_CLIENT: u32 = 2;
/// Fewer clients would hardly meet each other ...
const FEWEST_CLIENTS: u32 = 6;
/// ... and more would cost more than they add.
const MOST_CLIENTS: u32 = 60;

/// Operations that a client which was held up makes up for at once: two timeouts' worth.
const MOST_MISSED: Ns = 10;

/// From probe to probe: each tells whether a write commits, to the half second.
const PROBE_NS: Ns = 500_000_000;

/// How long a client waits for an answer. Longer than an election, so that most requests outlive one.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(2500);

/// A watch without even a bookmark for this long is given up: three bookmarks were missed.
const WATCH_IDLE: Duration = Duration::from_millis(3500);

const SECOND: Ns = 1_000_000_000;

/// How many clients issue operations, prober and watchers apart.
pub fn client_count(config: &Config) -> u32 {
    (config.rate / RATE_PER_CLIENT).clamp(FEWEST_CLIENTS, MOST_CLIENTS)
}

/// The client host on which client number `client` runs.
pub fn host_of(config: &Config, client: u32) -> u32 {
    client % config.client_hosts.max(1)
}

/// When the parts of the workload end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Clients begin no operation after this.
    pub clients_until_ns: Ns,
    /// The end state is read from now on: most of what the clients had begun is over.
    pub reads_from_ns: Ns,
    /// Watches are open until then: long enough after the last operation that every bookmark has come.
    pub watchers_until_ns: Ns,
    /// The trial is over.
    pub ended_ns: Ns,
}

/// When the parts of the workload end in a trial of this configuration: in the last sixth of the calm, and at most six
/// seconds of it, the clients are still, and the end state is read.
pub fn timeline(config: &Config) -> Timeline {
    let ended_ns = config.faults_ns + config.calm_ns;
    let still_ns = (config.calm_ns / 6).min(6 * SECOND);
    Timeline {
        clients_until_ns: ended_ns - still_ns,
        reads_from_ns: ended_ns - still_ns / 2,
        watchers_until_ns: ended_ns - still_ns / 10,
        ended_ns,
    }
}

/// Where a workload finds the store, and what it is told to do.
#[derive(Clone)]
pub struct Setting {
    /// Collects the history.
    pub recorder: Recorder,
    /// Client addresses of the members, in order of their numbers.
    pub endpoints: Vec<String>,
    /// Of the trial.
    pub config: Config,
    /// Of the trial.
    pub seed: u64,
}

/// Runs client host number `host`'s share of the workload to its end.
///
/// Everything it starts ends when it is dropped.
pub async fn run_host(setting: Setting, host: u32) {
    let until = timeline(&setting.config);
    let mine = |number: &u32| host_of(&setting.config, *number) == host;
    let mut tasks: Vec<JoinHandle<()>> = Vec::new();
    for number in (0..client_count(&setting.config)).filter(mine) {
        tasks.push(rt::task::spawn("client", client(setting.clone(), number, until.clients_until_ns)));
    }
    if mine(&PROBER) {
        tasks.push(rt::task::spawn("prober", prober(setting.clone(), until.clients_until_ns)));
    }
    for number in (0..watch::WATCHER_COUNT).filter(mine) {
        tasks.push(rt::task::spawn("watcher", watch::watcher(setting.clone(), number, until.watchers_until_ns)));
    }
    if host == 0 {
        tasks.push(rt::task::spawn("reader", final_reads(setting.clone())));
    }
    tasks.push(rt::task::spawn("visitor", watch::visitor(setting.clone(), host, until.watchers_until_ns)));
    let tasks: Vec<_> = tasks.into_iter().map(JoinHandle::abort_on_drop).collect();
    for task in tasks {
        // A client that panics is recorded by whoever runs the trial.
        let _ = task.await;
    }
}

async fn client(setting: Setting, number: u32, until_ns: Ns) {
    let recorder = &setting.recorder;
    let mut planner = plan::Planner::new(number, &setting.config, stream(setting.seed, "requests", number));
    let mut pace = stream(setting.seed, "pace", number);
    let interval_ns = SECOND * Ns::from(client_count(&setting.config)) / Ns::from(setting.config.rate.max(1));
    let store = connect(rotated(&setting.endpoints, number));
    let mut due_ns = recorder.now_ns() + pace.below(interval_ns);
    while sleep_until(recorder, due_ns, until_ns).await {
        let now_ns = recorder.now_ns();
        let request = planner.next(now_ns);
        let under_way = recorder.invoke(number, request.clone());
        let outcome = perform::perform(&store, &request).await;
        let now_ns = recorder.now_ns();
        planner.learn(now_ns, &request, &outcome);
        recorder.complete(under_way, outcome);
        // A client that was held up makes up for what it missed, unless that was so much that it would never end.
        let latest_ns = now_ns.saturating_sub(MOST_MISSED * interval_ns);
        due_ns = (due_ns + interval_ns / 2 + pace.below(interval_ns)).max(latest_ns);
    }
}

async fn prober(setting: Setting, until_ns: Ns) {
    let recorder = &setting.recorder;
    let store = connect(setting.endpoints.clone());
    let mut due_ns = recorder.now_ns();
    let mut probes: u64 = 0;
    while sleep_until(recorder, due_ns, until_ns).await {
        probes += 1;
        let change = Change::Put { key: plan::PROBE.to_owned(), value: format!("{PROBER}.{probes}"), lease: 0 };
        let request = Request::Txn { compares: vec![], success: vec![change], failure: vec![] };
        let under_way = recorder.invoke(PROBER, request.clone());
        recorder.complete(under_way, perform::perform(&store, &request).await);
        due_ns = (due_ns + PROBE_NS).max(recorder.now_ns());
    }
}

/// Reads everything through each member alone, until each has answered once or the trial is over.
async fn final_reads(setting: Setting) {
    let until = timeline(&setting.config);
    let still_ns = until.reads_from_ns.saturating_sub(setting.recorder.now_ns());
    rt::time::sleep(Duration::from_nanos(still_ns)).await;
    let tasks: Vec<_> = (0..setting.config.members)
        .map(|member| rt::task::spawn("reader", final_read(setting.clone(), member, until.ended_ns)).abort_on_drop())
        .collect();
    for task in tasks {
        // A reader that panics is recorded by whoever runs the trial.
        let _ = task.await;
    }
}

async fn final_read(setting: Setting, member: u32, until_ns: Ns) {
    let recorder = &setting.recorder;
    let store = connect(vec![setting.endpoints[member as usize].clone()]);
    let request = Request::Read { range: plan::everything(), revision: 0 };
    while recorder.now_ns() < until_ns {
        let under_way = recorder.invoke(READERS + member, request.clone());
        let outcome = perform::perform(&store, &request).await;
        let answered = matches!(outcome, Outcome::Ok { .. });
        recorder.complete(under_way, outcome);
        if answered {
            return;
        }
        rt::time::sleep(Duration::from_nanos(PROBE_NS)).await;
    }
}

/// Sleeps until `due_ns` and says whether there is still time then.
async fn sleep_until(recorder: &Recorder, due_ns: Ns, until_ns: Ns) -> bool {
    let now_ns = recorder.now_ns();
    if due_ns >= until_ns || now_ns >= until_ns {
        return false;
    }
    if due_ns > now_ns {
        rt::time::sleep(Duration::from_nanos(due_ns - now_ns)).await;
    }
    recorder.now_ns() < until_ns
}

fn connect(endpoints: Vec<String>) -> Client {
    Client::new(
        endpoints,
        ClientConfig { request_timeout: REQUEST_TIMEOUT, watch_idle: WATCH_IDLE, ..ClientConfig::default() },
    )
}

/// Each client begins with another member.
fn rotated(endpoints: &[String], by: u32) -> Vec<String> {
    let mut rotated = endpoints.to_vec();
    rotated.rotate_left(by as usize % endpoints.len().max(1));
    rotated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rate: u32, calm_ns: Ns) -> Config {
        Config {
            scenario: "store".into(),
            members: 3,
            one_more_permille: 0,
            freeze_minority_permille: 0,
            client_hosts: 2,
            faults_ns: 60 * SECOND,
            calm_ns,
            rate,
            keys: 40,
            faults: true,
            cluster: None,
            rules: None,
            backend: <_>::default(),
        }
    }

    #[test]
    fn there_are_enough_clients_for_the_rate_but_not_too_many() {
        let counts = [0, 30, 120, 3000].map(|rate| client_count(&config(rate, 0)));
        assert_eq!(counts, [6, 15, 60, 60]);
    }

    #[test]
    fn the_clients_fall_silent_before_the_watchers_and_these_before_the_end() {
        let ends = timeline(&config(30, 30 * SECOND));
        assert_eq!(ends.ended_ns - ends.clients_until_ns, 5 * SECOND);
        for calm_ns in [0, 1, SECOND, 600 * SECOND] {
            let ends = timeline(&config(30, calm_ns));
            assert!(ends.clients_until_ns <= ends.reads_from_ns && ends.reads_from_ns <= ends.watchers_until_ns);
            assert!(ends.watchers_until_ns <= ends.ended_ns);
        }
    }

    #[test]
    fn each_name_and_number_has_a_stream_of_its_own() {
        let first = |seed, name, number| stream(seed, name, number).next_u64();
        let drawn = [first(1, "a", 0), first(1, "a", 1), first(1, "b", 0), first(2, "a", 0)];
        for (at, number) in drawn.iter().enumerate() {
            assert!(!drawn[at + 1..].contains(number));
        }
        assert_eq!(first(1, "a", 0), drawn[0]);
    }
}
