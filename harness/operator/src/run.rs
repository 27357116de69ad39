//! One run: a cluster of one server, users who do what their script says, and the operator behind its gate.

use crate::Subject;
use crate::compare::State;
use crate::gate::{Gate, Passed};
use crate::strikes::{Aims, Strike};
use crate::users::Step;
use crate::wire;
use api::resource::RESOURCES;
use rt::sim::{Backend, Config, HostId, World};
use seaworthy::{ControlConfig, Server, ServerConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::server::{MemberAddress, MemberConfig};
use tokio::sync::Notify;

/// Until the last strike is over at the latest, counted from the users' last step.
const STRUCK: Duration = Duration::from_secs(30);
/// And as long again as an operator may take to come to rest.
const SETTLING: Duration = Duration::from_secs(60);
/// An operator at rest has written nothing for so long.
const REST: Duration = Duration::from_secs(20);
/// How long a process that was killed stays down: a container that is started again.
const RESTART: Duration = Duration::from_secs(1);
/// History is compacted when it is this old, so that watches that were away long are told so.
const HISTORY: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// What the cluster came to.
    pub state: State,
    /// What passed the gate.
    pub passed: Aims,
    /// The strikes that hit, in order.
    pub hit: Vec<Strike>,
    /// Whether the operator writes nothing any more.
    pub rests: bool,
    /// What panicked in it.
    pub panics: Vec<String>,
    /// What happened, a line each, beginning with milliseconds.
    pub log: Vec<String>,
}

/// Runs it to its end, on a thread of its own.
///
/// # Errors
/// The simulation itself panicked.
pub fn run(subject: Subject, steps: Arc<[Step]>, strikes: &[Strike], seed: u64) -> Result<Ran, String> {
    let config = Config { seed, executor_seed: seed, backend: Backend::Turmoil, ..Config::default() };
    let strikes = strikes.to_vec();
    rt::sim::run(config, move |world| play(world, subject, steps, strikes)).map_err(|panicked| panicked.message)
}

/// Hosts of a run.
struct Hosts {
    server: HostId,
    operator: HostId,
    users: HostId,
}

async fn play(world: World, subject: Subject, steps: Arc<[Step]>, strikes: Vec<Strike>) -> Ran {
    let host = |name: &str, last: u8| world.add_host(name, IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
    let hosts = Hosts { server: host("s1", 1), operator: host("operator", 2), users: host("users", 3) };
    let gate = Gate::new(world.clone(), hosts.operator, &strikes);
    world.start(hosts.server, || Box::pin(serve()));
    let serves = Arc::new(Notify::new());
    world.spawn("supervisor", supervise(world.clone(), hosts.operator, subject, gate.clone(), serves.clone()));
    let found: Arc<Mutex<State>> = Arc::default();
    let users = {
        let (gate, found) = (gate.clone(), found.clone());
        move || -> crate::Work { Box::pin(use_it(gate.clone(), steps.clone(), serves.clone(), found.clone())) }
    };
    world.start(hosts.users, users);
    world.wait_exit(hosts.users).await;
    let ended_ns = world.now_ns();
    let passed = std::mem::take(&mut *gate.passed());
    let Passed { writes, changes, hit, last_write_ns, .. } = passed;
    let rest_ns = u64::try_from(REST.as_nanos()).unwrap_or(u64::MAX);
    let panicked = |panicked: &rt::sim::Panicked| format!("{} ({})", panicked.message, panicked.location);
    let state = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    Ran {
        state,
        passed: Aims { writes, changes },
        hit,
        rests: last_write_ns + rest_ns <= ended_ns,
        panics: world.panics().iter().map(panicked).collect(),
        log: gate.log(),
    }
}

/// The server's process.
async fn serve() {
    let address = MemberAddress { peer: "s1:2380".to_owned(), client: "s1:2379".to_owned() };
    let store = MemberConfig::new("s1", 1, BTreeMap::from([(1, address)]), "/data");
    let mut control = ControlConfig::new("s1", "0.0.0.0:6443", vec![wire::SERVER.to_owned()]);
    control.api.history = Some(HISTORY);
    control.sole = true;
    let server = Server::start(ServerConfig { store, control: Some(control) }).await;
    let server = server.expect("a server starts on a disk that is new");
    server.stopped().await;
}

/// Starts the operator when the cluster serves, and again whenever it has ended.
async fn supervise(world: World, host: HostId, subject: Subject, gate: Gate, serves: Arc<Notify>) {
    serves.notified().await;
    let process = {
        let gate = gate.clone();
        move || -> crate::Work {
            let gate = gate.clone();
            Box::pin(async move {
                gate.note("the operator starts");
                (subject.run)(gate.client()).await;
                gate.note("the operator ends by itself");
            })
        }
    };
    world.start(host, process);
    loop {
        world.wait_exit(host).await;
        world.sleep(RESTART).await;
        world.restart(host);
    }
}

/// The users' process: everything in its time, and in the end a look at what there is.
async fn use_it(gate: Gate, steps: Arc<[Step]>, serves: Arc<Notify>, found: Arc<Mutex<State>>) {
    while wire::ask("GET", "/readyz", "application/json", None).await.0 != 200 {
        rt::time::sleep(Duration::from_millis(100)).await;
    }
    gate.note("the cluster serves");
    serves.notify_one();
    let begun = rt::time::Instant::now();
    for step in &*steps {
        rt::time::sleep_until(begun + step.at).await;
        let answered = step.perform().await;
        gate.note(&format!("users: {}: {answered}", step.what));
    }
    let last = steps.last().map_or(Duration::ZERO, |step| step.at);
    rt::time::sleep_until(begun + last + STRUCK + SETTLING).await;
    let mut objects = Vec::new();
    for resource in RESOURCES.iter().filter(|resource| resource.namespaced) {
        let (_, mut list) = wire::ask("GET", &resource.path("", ""), "application/json", None).await;
        let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        objects.extend(items.into_iter().map(|item| (resource.kind, item)));
    }
    *found.lock().unwrap_or_else(PoisonError::into_inner) = State::of(objects);
}
