//! A trial of an orchestrator of real processes: servers and agents on loopback, with TLS as in production.
//!
//! ```text
//! Order ──▶ run ─┬─ Field: processes, faults      ──▶ happenings ── story ──▶ sights, leaders, marks ─┐
//!                ├─ Looks: servers' histories     ──▶ observations                                   ├─▶ Record
//!                └─ workloads::deployments: users ──▶ writes                                         ─┘
//! ```
//!
//! What is told is what really was: objects as the store has them, revision by revision; containers, leaders and effects as
//! the processes said them in their logs when they happened. Whoever judges it decides what it is worth: [`NOT_JUDGED`].

use crate::field::{Field, Heard};
use crate::look::{Looks, Seen, Server};
use crate::place::Place;
use crate::process::{Error, Program};
use crate::storm::{Storm, Topology};
use crate::story::{self, Host, Told};
use api::core::v1::Node;
use client::{Client, ClientConfig, ListOptions};
use faults::{Hosts, Kind, Ns, Schedule, Swarm};
use record::{Cluster, ClusterHistory, Config, EndState, FORMAT, Guarantee, Panic, Record, Strike};
use rt::task::AbortOnDrop;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use workloads::{Finished, Recorder, deployments};

/// What is to be run: all that the program which runs it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The `seaworthy` binary.
    pub program: PathBuf,
    /// See [`Program::before`].
    pub before: Vec<String>,
    /// Where data, logs and the record go; made, and must not have been used before.
    pub folder: PathBuf,
    /// Of workload and schedule.
    pub seed: u64,
    /// What the trial is made of.
    pub config: Config,
    /// What goes wrong.
    pub schedule: Schedule,
}

/// The record's name in the order's folder.
pub const RECORD_FILE: &str = "record.json";

/// Servers, nodes, and what users may ask of them: as much as two cores can run in builds that are not optimised.
const CLUSTER: Cluster = Cluster { nodes: 5, zones: 1, apps: 6, pods: 24, writes_per_ks: 1_000, calls_per_s: 0 };

const SERVERS: u32 = 3;

const SECOND: Ns = 1_000_000_000;

/// How long is left in peace after the faults: longer than convergence may take, with time to see it.
const CALM_NS: Ns = 110 * SECOND;

/// The kinds of fault that strike real processes.
pub const KINDS: [Kind; 6] =
    [Kind::Kill, Kind::Restart, Kind::Pause, Kind::NodeKill, Kind::NodeRestart, Kind::NodePause];

/// How much later than it happened anything is seen, or than it was meant it is done: a machine that compiles beside it
/// leaves a process waiting for tenths of a second.
pub const SLACK_NS: Ns = SECOND;

/// What cannot be judged here, and why.
pub const NOT_JUDGED: [(&[Guarantee], &str); 2] = [
    (
        &[Guarantee::C1, Guarantee::C2, Guarantee::C6, Guarantee::C7, Guarantee::C9, Guarantee::C10, Guarantee::C12],
        "the stores of servers have no clients of their own; `cargo trial real --kills` judges them",
    ),
    (&[Guarantee::C40], "there is no twin without faults to compare with"),
];

/// A trial in which faults strike for so many minutes.
pub fn config(minutes: u32) -> Config {
    Config {
        scenario: "real orchestrator".to_owned(),
        members: SERVERS,
        one_more_permille: 0,
        freeze_minority_permille: 0,
        client_hosts: 1,
        faults_ns: Ns::from(minutes) * 60 * SECOND,
        calm_ns: CALM_NS,
        rate: 0,
        keys: 0,
        faults: true,
        cluster: Some(CLUSTER),
        backend: <_>::default(),
        rules: None,
    }
}

/// What goes wrong in it: of each kind, up to one attack per minute.
pub fn faults(config: &Config, seed: u64) -> Schedule {
    let minutes = u32::try_from(config.faults_ns / (60 * SECOND)).unwrap_or(u32::MAX);
    let swarm = Swarm {
        kinds: KINDS.to_vec(),
        quiet_permille: 0,
        on_permille: 1000,
        most: minutes.max(FEWEST_ATTACKS),
        ..Swarm::default()
    };
    let hosts = Hosts { members: config.members, client_hosts: 0, nodes: CLUSTER.nodes, zones: CLUSTER.zones };
    faults::draw(&swarm, seed, hosts, config.faults_ns)
}

/// Of each kind, so many attacks may be drawn in however short a trial.
const FEWEST_ATTACKS: u32 = 2;

/// A start takes a second or two, an election two more; two builds may be running beside it.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// From look to look at processes and their logs: a fault that waits for a mark is late by this much.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// From look to look whether something has begun.
const WAIT_EVERY: Duration = Duration::from_millis(100);

/// A member is busy if it applied something within this time before it was struck.
const BUSY_NS: Ns = SECOND;

/// Runs it. The record has no verdicts and names no build.
///
/// # Errors
/// The machine, or a cluster that does not come to be ready: nothing runs any more.
pub async fn run(order: &Order) -> Result<Record, Error> {
    let program =
        Program { path: order.program.clone(), before: order.before.iter().map(std::ffi::OsString::from).collect() };
    let cluster = order.config.cluster.clone().unwrap_or(CLUSTER);
    let place = Place::new(&order.folder, order.config.members)?;
    let servers = (0..order.config.members).map(|member| (Host::Member(member), place.server(&program, member)));
    let agents = (0..cluster.nodes).map(|node| (Host::Node(node), place.agent(&program, node)));
    let begun = rt::time::Instant::now();
    let mut field = Field::new(servers.chain(agents));
    let admin = begin(&mut field, &place, &order.config, cluster.nodes).await?;
    eprintln!(
        "{} servers and {} agents are ready after {} s; faults strike for {} s, and {} s are left in peace",
        order.config.members,
        cluster.nodes,
        begun.elapsed().as_secs(),
        order.config.faults_ns / SECOND,
        order.config.calm_ns / SECOND
    );
    // Whatever happened so far happened at 0.
    let clock = field.begin();

    let looks = Looks::new(clock);
    let watched: Vec<Server> = (0..order.config.members).map(|member| Server::new(&admin, member)).collect();
    let looking = follow(&looks, &watched);
    let recorder = Recorder::new(move || clock.now_ns(), |_| {});
    let users = users(order, &cluster, &recorder, admin);

    let topology = Topology { members: order.config.members, nodes: cluster.nodes };
    let mut storm = Storm::new(&order.schedule, topology, order.config.faults_ns);
    while clock.now_ns() < order.config.faults_ns + order.config.calm_ns {
        field.advance(&mut storm, |member| looks.at_work(member, BUSY_NS))?;
        rt::time::sleep(LOOK_EVERY).await;
    }
    drop(users);
    drop(looking);
    let (end, silent) = last_look(&looks, &watched).await;
    let ended_ns = clock.now_ns();
    let mut heard = field.stop()?;
    if let Some((took_ns, name)) = &heard.slowest_stop {
        eprintln!("the slowest to end when asked to was {name}: {:.1} s", *took_ns as f64 / SECOND as f64);
    }
    let mute =
        |host| Panic { at_ns: ended_ns, host, message: "it answers nothing, though it was left in peace".into() };
    heard.panics.extend(silent.into_iter().map(mute));
    let struck = Struck { strikes: storm.into_strikes(), ended_ns, end };
    Ok(record(order, struck, heard, looks.take(), recorder.finish()))
}

/// How the servers stand in the end, and the names of those that do not answer.
async fn last_look(looks: &Looks, servers: &[Server]) -> (EndState, Vec<String>) {
    let (mut end, mut silent) = (EndState::default(), Vec::new());
    for server in servers {
        looks.look_at_queues(server).await;
        end.caches.extend(server.caches().await.unwrap_or_default());
    }
    // After the caches, so that the history has whatever they know.
    for server in servers {
        if !looks.look(server).await {
            silent.push(crate::process::name("s", server.member));
        }
    }
    (end, silent)
}

/// What went wrong, until when, and how it ended.
struct Struck {
    strikes: Vec<Strike>,
    ended_ns: Ns,
    end: EndState,
}

/// All that was seen of a trial until its end.
fn record(order: &Order, struck: Struck, heard: Heard, seen: Seen, asked: Finished) -> Record {
    let Struck { strikes, ended_ns, mut end } = struck;
    let Told { mut observations, mut sights, marks } = story::tell(heard.happenings);
    observations.extend(seen.observations);
    observations.retain(|observation| observation.at_ns() <= ended_ns);
    observations.sort_by_key(record::Observation::at_ns);
    sights.retain(|sight| sight.at_ns() <= ended_ns);
    end.queues = seen.queues;
    Record {
        format: FORMAT,
        build: String::new(),
        config: order.config.clone(),
        seed: order.seed,
        executor_seed: 0,
        schedule: order.schedule.clone(),
        strikes,
        operations: asked.operations,
        watches: asked.watches,
        observations,
        cluster: ClusterHistory {
            sights,
            writes: asked.writes,
            calls: asked.calls,
            end,
            requests: Vec::new(),
            twin: None,
        },
        marks,
        healed_ns: order.config.faults_ns,
        ended_ns,
        slack_ns: SLACK_NS,
        log_hash: 0,
        checkpoints: Vec::new(),
        panics: heard.panics,
        verdicts: Vec::new(),
    }
}

/// Starts all processes, and waits until every node is ready. How the API servers are reached.
async fn begin(field: &mut Field, place: &Place, config: &Config, nodes: u32) -> Result<ClientConfig, Error> {
    // The first server makes what all others need to join it.
    field.start(Host::Member(0))?;
    let token = place.agent_token();
    until(field, "the first server's tokens", async || token.exists()).await?;
    for member in 1..config.members {
        field.start(Host::Member(member))?;
    }
    for node in 0..nodes {
        field.start(Host::Node(node))?;
    }
    let admin = place.admin()?;
    let api = Client::new(admin.clone());
    until(field, "ready nodes", async || {
        let ready = api.list::<Node>("", &ListOptions::default()).await;
        ready.is_ok_and(|list| list.items.iter().filter(|node| is_ready(node)).count() == nodes as usize)
    })
    .await?;
    Ok(admin)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Waits until it is so, and sees meanwhile that no process ends.
async fn until(field: &mut Field, what: &str, is: impl AsyncFn() -> bool) -> Result<(), Error> {
    let begun = rt::time::Instant::now();
    while !is().await {
        field.check()?;
        if begun.elapsed() > READY_WITHIN {
            return Err(Error::Nothing { what: what.to_owned(), after: READY_WITHIN });
        }
        rt::time::sleep(WAIT_EVERY).await;
    }
    Ok(())
}

/// Looks at all servers until dropped.
fn follow(looks: &Looks, servers: &[Server]) -> Vec<AbortOnDrop<()>> {
    let of = |server: &Server| {
        let (looks, queues) = (looks.clone(), looks.clone());
        [
            rt::task::spawn("history", looks.follow(server.clone())).abort_on_drop(),
            rt::task::spawn("queues", queues.follow_queues(server.clone())).abort_on_drop(),
        ]
    };
    servers.iter().flat_map(of).collect()
}

/// The users of all client hosts, until they have left everything in order, or are dropped.
fn users(order: &Order, cluster: &Cluster, recorder: &Recorder, api: ClientConfig) -> Vec<AbortOnDrop<()>> {
    let setting = deployments::Setting {
        recorder: recorder.clone(),
        api,
        config: order.config.clone(),
        cluster: cluster.clone(),
        nodes: (0..cluster.nodes).map(|node| crate::process::name("n", node)).collect(),
        domain: "cluster.local".to_owned(),
        seed: order.seed,
        script: None,
    };
    let hosts = 0..order.config.client_hosts;
    hosts
        .map(|host| rt::task::spawn("client host", deployments::run_host(setting.clone(), host)).abort_on_drop())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_that_strikes_real_processes_does_in_a_few_minutes() {
        let config = config(10);
        let schedule = faults(&config, 1);
        let kinds: BTreeSet<Kind> = schedule.faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds, KINDS.into());
        assert_eq!(faults(&config, 1), schedule);
        assert_ne!(faults(&config, 2), schedule);
    }

    #[test]
    fn what_cannot_be_judged_is_named_once() {
        let named: Vec<Guarantee> = NOT_JUDGED.iter().flat_map(|(guarantees, _)| *guarantees).copied().collect();
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len());
    }
}
