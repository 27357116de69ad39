//! The log under crashes: a process appends and syncs while its power, its life and its disk fail at random, and after
//! each start compares what it recovers with what it was told to be durable.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use bytes::Bytes;
use raft::{Entry, HardState, SnapshotMeta};
use rt::disk::{Dir, DiskConfig, DiskFaults, Lies};
use rt::random::Random;
use rt::sim::{self, Config, HostId, World};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::wal::{Identity, Recovered, Wal, WalConfig, WalError};

const CONFIG: WalConfig = WalConfig {
    identity: Identity { cluster: 1, member: 1 },
    // A few records each, so that segments come and go all the time.
    segment_bytes: 8192,
};
/// Worlds, each with its own faults: together some thousands of crashes.
const SEEDS: u64 = 100;
const CRASHES: u64 = 50;
/// Far more entries than stay before a snapshot.
const REMEMBERED: u64 = 1000;

/// What a log says.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    hard_state: HardState,
    /// All entries since the log began or was replaced by a snapshot, but for those long released.
    entries: Vec<Entry>,
    /// The newest snapshot, which is on another disk that never fails.
    snapshot: SnapshotMeta,
}

impl State {
    fn last_index(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.index, |entry| entry.index)
    }

    fn put(&mut self, entry: &Entry) {
        self.entries.retain(|old| old.index < entry.index);
        self.entries.push(entry.clone());
    }

    /// As the log does when it is told of a snapshot.
    fn note_snapshot(&mut self, snapshot: &SnapshotMeta) {
        if self.last_index() < snapshot.index {
            self.entries.clear();
        }
        self.entries.retain(|entry| entry.index + REMEMBERED > snapshot.index);
        self.snapshot = snapshot.clone();
    }

    /// Whether a log that says this can have been read as `recovered`.
    fn is_read_as(&self, recovered: &Recovered) -> bool {
        let first = recovered.entries.first().map_or(self.last_index() + 1, |entry| entry.index);
        self.hard_state == recovered.hard_state
            && self.entries.ends_with(&recovered.entries)
            && first <= self.snapshot.index + 1
    }
}

/// What the process and its successors know of the log.
#[derive(Default)]
struct Truth {
    /// What the log says after each record since the last sync; the first is what is durable.
    states: Vec<State>,
    acknowledged: u64,
    recoveries: u64,
    segments: u64,
    starved: u64,
}

type Shared = Arc<Mutex<Truth>>;

/// Opens the log, checks it, and appends to it until something fails.
async fn process(truth: Shared) -> Result<(), WalError> {
    let dir = Dir::open("/data/wal").await.map_err(WalError::Io)?;
    let snapshot = truth.lock().unwrap().states.last().unwrap().snapshot.clone();
    let (mut wal, recovered) = match Wal::open(dir.clone(), CONFIG, &snapshot).await {
        Err(error @ (WalError::Io(_) | WalError::NoSpace)) => return Err(error),
        opened => opened.expect("no crash damages a log"),
    };
    let newest = dir.list().await.map_err(WalError::Io)?.pop().unwrap_or_default();
    let newest = newest.trim_start_matches("wal-").trim_end_matches(".log").to_owned();
    check(&truth, &recovered, &snapshot, u64::from_str_radix(&newest, 16).unwrap_or(0));
    let mut random = rt::random::stream("process");
    loop {
        match random.below(20) {
            0 => snapshot_and_release(&mut wal, &truth, &mut random).await?,
            1 => install(&mut wal, &truth, &mut random).await?,
            _ => append(&mut wal, &truth, &mut random).await?,
        }
        // Now and then two writes share a sync.
        if random.chance(800) {
            sync(&mut wal, &truth).await?;
        }
        rt::time::sleep(random.jitter(Duration::from_millis(3))).await;
    }
}

/// What was recovered is what was durable, or also what the next few records said. It is durable from here on.
fn check(truth: &Shared, recovered: &Recovered, snapshot: &SnapshotMeta, segments: u64) {
    let mut truth = truth.lock().unwrap();
    let found = truth.states.iter().find_map(|state| {
        let mut state = state.clone();
        state.note_snapshot(snapshot);
        state.is_read_as(recovered).then_some(state)
    });
    let Some(found) = found else { panic!("recovered {recovered:?}, but it was {:#?}", truth.states) };
    truth.states = vec![found];
    truth.recoveries += 1;
    truth.segments = truth.segments.max(segments);
}

async fn append(wal: &mut Wal, truth: &Shared, random: &mut Random) -> Result<(), WalError> {
    let (mut state, durable) = {
        let truth = truth.lock().unwrap();
        (truth.states.last().unwrap().clone(), truth.states[0].clone())
    };
    let mut states = Vec::new();
    let mut term = state.hard_state.term.max(1);
    let mut first = state.last_index() + 1;
    let keep = state.hard_state.commit.max(state.snapshot.index);
    if random.chance(100) && keep + 1 < first {
        // A new leader has other entries.
        term += 1;
        first = keep + 1 + random.below(first - keep - 1);
    }
    let mut entries = Vec::new();
    for index in first..first + random.below(5) {
        let data = Bytes::from(vec![random.next_u64() as u8; random.below(700) as usize]);
        let entry = Entry { term, index, data };
        state.put(&entry);
        states.push(state.clone());
        entries.push(entry);
    }
    let commit = state.hard_state.commit.max(durable.last_index().min(first.saturating_sub(1)));
    let hard_state = HardState { term, vote: random.below(4), commit };
    let hard_state = random.chance(500).then_some(hard_state);
    if let Some(hard_state) = hard_state {
        state.hard_state = hard_state;
        states.push(state);
    }
    // Before the attempt: it may succeed without anybody hearing of it.
    truth.lock().unwrap().states.extend(states);
    loop {
        match wal.append(hard_state.as_ref(), &entries).await {
            Err(WalError::NoSpace) => wait_for_space(wal, truth).await,
            other => return other,
        }
    }
}

async fn wait_for_space(wal: &mut Wal, truth: &Shared) {
    truth.lock().unwrap().starved += 1;
    assert!(wal.is_starved());
    rt::time::sleep(Duration::from_millis(5)).await;
    wal.prepare_next();
}

async fn sync(wal: &mut Wal, truth: &Shared) -> Result<(), WalError> {
    wal.sync().await?;
    let mut truth = truth.lock().unwrap();
    truth.acknowledged += 1;
    let last = truth.states.pop().unwrap();
    truth.states = vec![last];
    Ok(())
}

/// The member snapshots its own state.
async fn snapshot_and_release(wal: &mut Wal, truth: &Shared, random: &mut Random) -> Result<(), WalError> {
    sync(wal, truth).await?;
    let state = truth.lock().unwrap().states[0].clone();
    let Some(entry) = state.entries.iter().rfind(|entry| entry.index <= state.hard_state.commit) else {
        return Ok(());
    };
    if entry.index > state.snapshot.index {
        note(wal, truth, SnapshotMeta { index: entry.index, term: entry.term, voters: vec![1, 2, 3] }).await?;
        wal.release(entry.index.saturating_sub(random.below(20))).await?;
    }
    Ok(())
}

/// A snapshot came from the leader, far ahead of the log.
async fn install(wal: &mut Wal, truth: &Shared, random: &mut Random) -> Result<(), WalError> {
    let state = truth.lock().unwrap().states.last().unwrap().clone();
    let index = state.last_index() + 1 + random.below(5);
    let meta = SnapshotMeta { index, term: state.hard_state.term.max(1), voters: vec![1, 2, 3] };
    note(wal, truth, meta).await?;
    wal.release(index + 1).await
}

async fn note(wal: &mut Wal, truth: &Shared, meta: SnapshotMeta) -> Result<(), WalError> {
    // It is durable before the log hears of it.
    for state in &mut truth.lock().unwrap().states {
        state.note_snapshot(&meta);
    }
    loop {
        match wal.snapshot(&meta).await {
            Err(WalError::NoSpace) => wait_for_space(wal, truth).await,
            other => return other,
        }
    }
}

/// Lets a process live through many crashes; returns what it was told, or how it failed.
fn live(seed: u64, lies: Lies) -> Result<Truth, String> {
    let truth: Shared = Arc::new(Mutex::new(Truth { states: vec![State::default()], ..Truth::default() }));
    let disk = DiskConfig { lies, ..DiskConfig::default() };
    let ours = truth.clone();
    let config = Config { seed, executor_seed: seed, disk, ..Config::default() };
    let result = sim::run(config, move |world| async move {
        let host = world.add_host("s1", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        world.start(host, move || {
            let truth = truth.clone();
            Box::pin(async move { drop(process(truth).await) })
        });
        let mut random = Random::from_seed(seed);
        for _ in 0..CRASHES {
            world.sleep(random.jitter(Duration::from_millis(60))).await;
            strike(&world, host, &mut random).await;
            if let Some(panic) = world.panics().first() {
                return Err(panic.to_string());
            }
        }
        Ok(())
    });
    result.map_err(|panic| panic.to_string())??;
    Ok(std::mem::take(&mut *ours.lock().unwrap()))
}

/// One fault, from beginning to end.
async fn strike(world: &World, host: HostId, random: &mut Random) {
    let faults = DiskFaults::default();
    let fault = match random.below(12) {
        0 => Some(DiskFaults { sync_error_permille: 200, ..faults }),
        1 => Some(DiskFaults { write_error_permille: 200, ..faults }),
        2 => Some(DiskFaults { read_error_permille: 200, ..faults }),
        3 => Some(DiskFaults { stalled: true, ..faults }),
        4 => Some(DiskFaults { full: true, ..faults }),
        5 => Some(DiskFaults { slow: 20, ..faults }),
        _ => None,
    };
    if let Some(fault) = fault {
        world.set_disk(host, fault);
        world.sleep(random.jitter(Duration::from_millis(50))).await;
        if random.chance(500) {
            world.set_disk(host, faults);
        }
    }
    match random.below(3) {
        0 => world.kill(host),
        1 => world.power_off(host),
        _ => {}
    }
    world.sleep(Duration::from_millis(1)).await;
    world.set_disk(host, faults);
    world.power_on(host);
    if !world.is_running(host) {
        world.restart(host);
    }
}

#[test]
fn everything_that_was_synced_is_recovered() {
    let mut total = Truth::default();
    for seed in 0..SEEDS {
        let truth = live(seed, Lies::NONE).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        total.acknowledged += truth.acknowledged;
        total.recoveries += truth.recoveries;
        total.starved += truth.starved;
        total.segments += truth.segments;
    }
    let Truth { acknowledged, recoveries, segments, starved, .. } = total;
    println!("{acknowledged} syncs, {recoveries} recoveries, {segments} segments, starved {starved} times");
    // The worlds do put the log to the test.
    assert!(acknowledged > 100 * SEEDS && recoveries > 10 * SEEDS && segments > 10 * SEEDS && starved > 0);
}

#[test]
fn a_disk_that_lies_about_syncs_is_noticed() {
    for name in ["synced_is_lost", "synced_names_are_lost"] {
        let (_, lies) = Lies::EACH.iter().find(|(lie, _)| *lie == name).unwrap();
        assert!((0..10).any(|seed| live(seed, *lies).is_err()), "{name}");
    }
}

/// Does `test` in the one process of a world.
fn in_process<Fut>(test: impl Fn(World, HostId) -> Fut + Clone + Send + Sync + 'static)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let result = sim::run(Config::default(), |world| async move {
        let host = world.add_host("s1", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        world.start(host, || Box::pin(std::future::pending()));
        let done = world.spawn_on(host, "test", test(world.clone(), host)).await;
        let panics = world.panics();
        assert!(done.is_ok() && panics.is_empty(), "{panics:?}");
    });
    result.unwrap();
}

fn entry(index: u64) -> [Entry; 1] {
    [Entry { term: 1, index, data: Bytes::from_static(&[7; 500]) }]
}

#[test]
fn after_an_error_the_log_is_closed_for_good() {
    in_process(|world, host| async move {
        let dir = Dir::open("/wal").await.unwrap();
        let faults = DiskFaults::default();
        let all = 1000;
        for (fault, index) in [
            (DiskFaults { sync_error_permille: all, ..faults }, 1),
            (DiskFaults { write_error_permille: all, ..faults }, 2),
        ] {
            let (mut wal, _) = Wal::open(dir.clone(), CONFIG, &SnapshotMeta::default()).await.unwrap();
            while !wal.is_prepared() {
                rt::time::sleep(Duration::from_millis(1)).await;
            }
            world.set_disk(host, fault);
            let appended = wal.append(None, &entry(index)).await;
            assert_eq!(appended.is_ok(), fault.sync_error_permille == all);
            assert!(wal.sync().await.is_err());
            world.set_disk(host, faults);
            for result in [wal.sync().await, wal.append(None, &entry(index + 1)).await, wal.release(0).await] {
                assert!(matches!(result, Err(WalError::Io(_))), "{result:?}");
            }
        }
    });
}

#[test]
fn a_full_disk_leaves_the_current_segment_and_the_next_and_is_tried_again() {
    in_process(|world, host| async move {
        let dir = Dir::open("/wal").await.unwrap();
        let (mut wal, _) = Wal::open(dir, CONFIG, &SnapshotMeta::default()).await.unwrap();
        while !wal.is_prepared() {
            rt::time::sleep(Duration::from_millis(1)).await;
        }
        world.set_disk(host, DiskFaults { full: true, ..DiskFaults::default() });
        let mut index = 1;
        let refused = loop {
            match wal.append(None, &entry(index)).await {
                Ok(()) => index += 1,
                Err(error) => break error,
            }
            wal.sync().await.unwrap();
        };
        assert!(matches!(refused, WalError::NoSpace) && wal.is_starved(), "{refused}");
        // Two segments of 8 KiB take fifteen each.
        assert_eq!(index, 31);
        wal.prepare_next();
        rt::time::sleep(Duration::from_millis(10)).await;
        assert!(wal.is_starved());
        world.set_disk(host, DiskFaults::default());
        wal.prepare_next();
        wal.append(None, &entry(index)).await.unwrap();
        wal.sync().await.unwrap();
        assert!(!wal.is_starved());
    });
}
