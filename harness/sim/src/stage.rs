//! Sets a trial's world up, lets it run, and collects what came of it.

use crate::archive::Archives;
use crate::crowd::{Callers, flood};
use crate::effects::{Action, DiskTrouble, Host, LinkTrouble, Topology};
use crate::listener::Listener;
use crate::nodes::{API_PORT, Nodes, api_server, node_address, run_client_host};
use crate::observer::Observer;
use crate::sampler::Sampler;
use crate::settings::Settings;
use crate::storm::{Due, Senses, Storm, Turn};
use crate::{Cost, Outcome, Swerve, Trial, empty_record};
use faults::{Component, Ns, Schedule, What};
use kubelet::hollow::Fault;
use record::{ClusterHistory, Config, Operation, Record, Request, Sight};
use rt::sim::{DiskFaults, Exit, ExitReason, HostId, LinkConfig, Panicked, Withheld, World};
use rt::time::Timestamp;
use seaworthy::{Server, ServerConfig};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use store::Format;
use store::server::{MemberAddress, MemberConfig, StopReason};
use tokio::sync::Notify;
use workloads::store::Setting;
use workloads::{Finished, Happening, Recorder};

/// How long a process that exited by itself stays down: systemd's restart delay is 100 ms, but a member that finds its
/// disk broken should not spend a trial restarting.
const RESTART_NS: Ns = 1_000_000_000;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

pub(crate) const SECOND: Ns = 1_000_000_000;

/// Runs a trial in `world`. What was archived comes apart from its record.
pub(crate) async fn run(world: World, trial: Trial) -> (Outcome, Archives) {
    let stage = Arc::new(Stage::new(world, &trial));
    let listener = Listener {
        world: stage.world.clone(),
        members: stage.members.clone(),
        nodes: stage.nodes.ids.clone(),
        observer: stage.observer.clone(),
        due: stage.due.clone(),
        strike: {
            let stage = Arc::clone(&stage);
            Box::new(move |now_ns, due| stage.strike_now(now_ns, due))
        },
    };
    let _listening = tracing::subscriber::set_default(listener);
    stage.start_members();
    stage.start_nodes();
    stage.start_clients(&trial);
    for host in stage.topology.hosts().filter(|host| host.client().is_none()) {
        stage.world.spawn("supervisor", Arc::clone(&stage).supervise(host));
    }
    stage.world.spawn("storm", Arc::clone(&stage).blow());
    stage.world.spawn("sampler", Arc::clone(&stage).sample(trial.swerve));
    stage.world.sleep_until_ns(workloads::store::timeline(&stage.config).ended_ns).await;
    stage.collect(&trial)
}

/// The world of one trial and everything that watches over it.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) config: Config,
    topology: Topology,
    pub(crate) members: Vec<HostId>,
    pub(crate) clients: Vec<HostId>,
    pub(crate) nodes: Nodes,
    /// The link between any two hosts in peace.
    link: LinkConfig,
    /// When the trial began, by a clock that is right.
    epoch_unix_ns: i64,
    pub(crate) recorder: Recorder,
    pub(crate) observer: Arc<Mutex<Observer>>,
    sampler: Mutex<Sampler>,
    storm: Mutex<Storm>,
    /// By host and fault: where something is withheld.
    withheld: Mutex<BTreeMap<(Host, u32), Withheld>>,
    /// Told when a fault is due because of a mark.
    due: Arc<Notify>,
    /// Told when a client asks for a compaction.
    compaction: Arc<Notify>,
    /// Of each member: what runs, once it has started.
    pub(crate) running: Vec<Mutex<Option<Arc<Server>>>>,
    /// Of each host that is supervised: told when its process was started.
    started: BTreeMap<Host, Notify>,
    /// Up to which of the store's formats each member's program reads.
    programs: Mutex<Vec<Format>>,
    /// With what each member's process starts.
    settings: Mutex<Vec<Settings>>,
    /// By host and fault: who floods its API server.
    floods: Mutex<BTreeMap<(Host, u32), Callers>>,
}

impl Stage {
    fn new(world: World, trial: &Trial) -> Self {
        let config = trial.config.clone();
        let add = |prefix: &str, number: u32, host| world.add_host(&format!("{prefix}{}", number + 1), ip(host));
        let members: Vec<HostId> = (0..config.members).map(|number| add("s", number, Host::Member(number))).collect();
        let clients: Vec<HostId> =
            (0..config.client_hosts).map(|number| add("c", number, Host::Client(number))).collect();
        let nodes = Nodes::new(&world, &config);
        let topology = Topology { members: config.members, client_hosts: config.client_hosts, nodes: nodes.count() };
        let storm = Storm::new(&trial.schedule, topology, config.faults_ns);
        let observer = Observer::new(topology, storm.awaited(), trial.keep_log);
        let observer = Arc::new(Mutex::new(observer));
        let compaction = Arc::new(Notify::new());
        let recorder = {
            let (clock, heard, observer, asked) = (world.clone(), world.clone(), observer.clone(), compaction.clone());
            let listen = move |happening: &Happening<'_>| {
                if let Happening::Invoked(Operation { request: Request::Compact { .. }, .. }) = happening {
                    asked.notify_one();
                }
                lock(&observer).happened(heard.now_ns(), happening);
            };
            Recorder::new(move || clock.now_ns(), listen)
        };
        Self {
            link: LinkConfig::default(),
            // The harness's clock is, and nothing has happened yet.
            epoch_unix_ns: Timestamp::now().unix_ns.saturating_sub_unsigned(world.now_ns()),
            recorder,
            observer,
            sampler: Mutex::new(Sampler::new(config.members)),
            storm: Mutex::new(storm),
            withheld: Mutex::default(),
            due: Arc::new(Notify::new()),
            compaction,
            running: members.iter().map(|_| Mutex::new(None)).collect(),
            started: topology.hosts().map(|host| (host, Notify::new())).collect(),
            programs: Mutex::new(vec![first_program(&trial.schedule); members.len()]),
            settings: Mutex::new(vec![Settings(0); members.len()]),
            floods: Mutex::default(),
            topology,
            members,
            clients,
            nodes,
            config,
            world,
        }
    }

    fn start_members(self: &Arc<Self>) {
        for member in 0..self.config.members {
            let stage = Arc::clone(self);
            let process = move || -> Process { Box::pin(Arc::clone(&stage).member(member)) };
            self.world.start(self.members[member as usize], process);
        }
    }

    /// A member's process: it ends when the member stops.
    async fn member(self: Arc<Self>, member: u32) {
        lock(&self.observer).process(self.world.now_ns(), member, true);
        let format = lock(&self.programs)[member as usize];
        let settings = lock(&self.settings)[member as usize];
        let store = MemberConfig { format, ..settings.store(&self.config, member_config(&self.config, member)) };
        let control = self.control_config(member).map(|control| settings.control(control));
        let config = ServerConfig { store, control };
        let why = match Server::start(config).await {
            Ok(running) => {
                let running = Arc::new(running);
                *lock(&self.running[member as usize]) = Some(running.clone());
                let why = running.stopped().await;
                match &why {
                    // It came back when it was too late for that, as a schedule by hand may say; whoever runs it does as it
                    // says.
                    StopReason::ForeignEntry { .. } if running.store().view().format > format => {
                        self.replace_program(member, true);
                    }
                    StopReason::ForeignEntry { .. } | StopReason::Bug(_) => panic!("the member stops: {why}"),
                    StopReason::Shutdown | StopReason::Disk(_) => {}
                }
                format!("stops: {why:?}")
            }
            Err(error) => format!("does not start: {error}"),
        };
        lock(&self.observer).warned(self.world.now_ns(), Some(member), &why);
    }

    /// From its next start on.
    fn replace_program(&self, member: u32, newer: bool) {
        lock(&self.programs)[member as usize] = if newer { Format::LATEST } else { Format::FIRST };
    }

    fn start_clients(&self, trial: &Trial) {
        let seed = trial.seed;
        let endpoints = (0..self.config.members).map(|member| address(member, CLIENT_PORT)).collect();
        let setting = Setting { recorder: self.recorder.clone(), endpoints, config: self.config.clone(), seed };
        let users = self.users_setting(seed, trial.script.clone());
        for (host, id) in (0..).zip(&self.clients) {
            let (setting, users) = (setting.clone(), users.clone());
            let api_servers = self.api_servers();
            // Clients that began anew would write their values a second time.
            let begun = AtomicBool::new(false);
            let process = move || -> Process {
                if begun.swap(true, Ordering::Relaxed) {
                    return Box::pin(std::future::pending());
                }
                let store = workloads::store::run_host(setting.clone(), host);
                match users.clone() {
                    None => Box::pin(store),
                    Some(users) => Box::pin(run_client_host(store, users, host, api_servers.clone())),
                }
            };
            self.world.start(*id, process);
        }
    }

    /// Notes each end of a host's process, and starts one that ended by itself again, as an init system would.
    async fn supervise(self: Arc<Self>, host: Host) {
        let id = self.id(host);
        let mut last = 0;
        loop {
            let exit = self.world.wait_exit(id).await;
            if exit.process == last {
                self.started[&host].notified().await;
                continue;
            }
            last = exit.process;
            self.note_exit(host, &exit);
            match exit.reason {
                // A fault's end starts it again.
                ExitReason::Killed | ExitReason::PoweredOff => continue,
                ExitReason::Ended => {}
                ExitReason::Panicked(panicked) => lock(&self.observer).panicked(&panic_record(&panicked)),
            }
            self.world.sleep_ns(RESTART_NS).await;
            let (down, paused) = {
                let storm = lock(&self.storm);
                (storm.is().keeps_down(host), storm.is().pauses(host))
            };
            if !down && !self.world.is_running(id) {
                self.world.restart(id);
                if paused {
                    self.world.pause(id);
                }
            }
        }
    }

    fn note_exit(&self, host: Host, exit: &Exit) {
        match host {
            Host::Member(member) => {
                // What it applied since the last look would be seen only when another member, or it again, has applied it.
                self.look_at(member, exit.at_ns);
                *lock(&self.running[member as usize]) = None;
                lock(&self.sampler).forget(member);
                lock(&self.observer).process(exit.at_ns, member, false);
            }
            Host::Node(node) => self.agent_exited(node, exit),
            Host::Client(_) => {}
        }
    }

    /// Lets the faults strike and end at their time.
    async fn blow(self: Arc<Self>) {
        loop {
            let now_ns = self.world.now_ns();
            let marked = lock(&self.observer).due().first().map(|due| due.at_ns);
            let next = lock(&self.storm).next_ns(now_ns).into_iter().chain(marked).min();
            match next {
                Some(next_ns) if next_ns <= now_ns => self.advance(now_ns),
                Some(next_ns) => {
                    tokio::select! {
                        biased;
                        () = self.due.notified() => {}
                        () = self.world.sleep_until_ns(next_ns) => {}
                    }
                }
                None => self.due.notified().await,
            }
        }
    }

    fn advance(&self, now_ns: Ns) {
        let due: Vec<Due> = {
            let mut observer = lock(&self.observer);
            let coming = observer.due();
            let ready = coming.partition_point(|due| due.at_ns <= now_ns);
            coming.drain(..ready).collect()
        };
        self.turn(now_ns, |storm, senses| storm.advance(now_ns, &due, senses));
    }

    /// Lets strike what has waited for this instant, within the step of the process that brought it about; all else that
    /// is due now has its turn afterwards.
    fn strike_now(&self, now_ns: Ns, due: &[Due]) {
        self.turn(now_ns, |storm, senses| storm.strike_now(now_ns, due, senses));
        self.due.notify_one();
    }

    /// Does to the world what the storm says.
    fn turn(&self, now_ns: Ns, take: impl FnOnce(&mut Storm, &Senses<'_>) -> (Vec<Action>, Vec<Turn>)) {
        let (leader, leading, (members, clients)) = {
            let observer = lock(&self.observer);
            (observer.last_leader(), observer.leading(), observer.busy(now_ns))
        };
        let busy = |host: Host| match host {
            Host::Member(member) => {
                let id = self.members[member as usize];
                members[member as usize] && self.world.is_running(id) && !self.world.is_paused(id)
            }
            Host::Client(client) => clients[client as usize],
            Host::Node(node) => lock(&self.observer).node_is_busy(node),
        };
        let felt = |what: &What, host: Host| match what {
            What::Fuse { .. } => Some(self.world.fuses_blown(self.id(host))),
            What::Withhold { .. } => Some(self.world.withheld(self.id(host))),
            What::Expire { .. } => Some(self.nodes.credentials.refused(ip(host))),
            _ => None,
        };
        let senses = Senses { leader, leading, busy: &busy, felt: &felt };
        let (actions, turns) = take(&mut lock(&self.storm), &senses);
        turns.iter().for_each(|turn| lock(&self.observer).turned(now_ns, turn));
        actions.iter().for_each(|action| self.act(*action));
    }

    fn act(&self, action: Action) {
        let (world, id) = (&self.world, |host| self.id(host));
        match action {
            Action::Cut(from, to) => world.cut(id(from), id(to)),
            Action::Heal(from, to) => world.heal(id(from), id(to)),
            Action::Hold(from, to) => world.hold(id(from), id(to)),
            Action::Release(from, to) => world.release(id(from), id(to)),
            Action::Link(from, to, trouble) => world.set_link(id(from), id(to), troubled(self.link, trouble)),
            Action::Disk(host, trouble) => world.set_disk(id(host), disk_faults(trouble)),
            Action::Rate(host, permille) => world.set_rate(id(host), permille),
            Action::WallOffset(host, offset_ns) => world.set_wall_offset(id(host), offset_ns),
            Action::Kill(host) => world.kill(id(host)),
            Action::ReplaceDisk(host) => {
                if !world.is_powered(id(host)) {
                    world.replace_disk(id(host));
                    if let Some(node) = host.node() {
                        let at_ns = world.now_ns();
                        lock(&self.observer).saw(Sight::NodeDown { at_ns, node, wiped: true });
                    }
                }
            }
            Action::Containers(host, trouble) => self.trouble_containers(host, trouble),
            Action::Crash(host) => self.end_containers(host, Fault::Crash(1)),
            Action::Starve(host) => self.end_containers(host, Fault::OutOfMemory),
            Action::Reset(host) => {
                self.members
                    .iter()
                    .filter(|member| **member != id(host))
                    .for_each(|member| world.reset(id(host), *member));
            }
            Action::Fuse(host, bytes) => world.fuse(id(host), API_PORT, bytes),
            Action::Defuse(host) => world.defuse(id(host)),
            Action::Expire(host, at_ns) => {
                let at = at_ns.map(|at_ns| Timestamp { unix_ns: self.epoch_unix_ns.saturating_add_unsigned(at_ns) });
                self.nodes.credentials.end(ip(host), at);
            }
            Action::Program(host, newer) => {
                host.member().into_iter().for_each(|member| self.replace_program(member, newer))
            }
            Action::Configure(host, setting) => {
                host.member().into_iter().for_each(|member| lock(&self.settings)[member as usize] = Settings(setting));
            }
            Action::Jump(host, ns) => world.jump(id(host), ns),
            Action::Hang(host, component) => world.hang(id(host), task_of(component)),
            Action::GoOn(host, component) => world.go_on(id(host), task_of(component)),
            Action::Flood(host, fault, callers) => {
                if let (Some(member), Some(crowd)) = (host.member(), self.nodes.crowd) {
                    let callers = flood(world, crowd, &api_server(member), callers);
                    lock(&self.floods).insert((host, fault), callers);
                }
            }
            Action::Ebb(host, fault) => drop(lock(&self.floods).remove(&(host, fault))),
            Action::Withhold(host, fault, nth) => {
                let withheld = world.withhold(id(host), API_PORT, nth);
                lock(&self.withheld).extend(withheld.map(|withheld| ((host, fault), withheld)));
            }
            Action::Deliver(host, fault) => {
                lock(&self.withheld).remove(&(host, fault)).into_iter().for_each(|withheld| world.deliver(withheld));
            }
            Action::PowerOff(host) => world.power_off(id(host)),
            Action::Start(host) => {
                world.restart(id(host));
                self.note_start(host);
            }
            Action::PowerOn(host) => {
                world.power_on(id(host));
                self.note_start(host);
            }
            Action::Pause(host) => world.pause(id(host)),
            Action::Resume(host) => world.resume(id(host)),
        }
    }

    fn note_start(&self, host: Host) {
        self.started[&host].notify_one();
    }

    fn id(&self, host: Host) -> HostId {
        match host {
            Host::Member(member) => self.members[member as usize],
            Host::Client(client) => self.clients[client as usize],
            Host::Node(node) => self.nodes.ids[node as usize],
        }
    }

    /// Looks at the members ten times per simulated second, and ends each second with a checkpoint of the log. Looks
    /// also before each compaction, so that no revision is forgotten before it was seen.
    async fn sample(self: Arc<Self>, mut swerve: Option<Swerve>) {
        let ended_ns = workloads::store::timeline(&self.config).ended_ns;
        // The last look is taken when everything else is over.
        for at_ns in (1..).map(|look| look * record::SAMPLE_NS).take_while(|at_ns| *at_ns < ended_ns) {
            while self.world.now_ns() < at_ns {
                tokio::select! {
                    biased;
                    () = self.compaction.notified() => self.look(),
                    () = self.world.sleep_until_ns(at_ns) => {}
                }
            }
            self.look();
            if let Some(swerve) = swerve.take_if(|swerve| at_ns >= swerve.at_ns) {
                self::swerve(swerve.way).await;
            }
            if at_ns.is_multiple_of(SECOND) {
                self.count_requests();
                self.checkpoint();
            }
        }
    }

    fn checkpoint(&self) {
        let net_digest = self.world.net_digest();
        lock(&self.observer).checkpoint(self.world.now_ns(), net_digest);
    }

    fn look(&self) {
        let at_ns = self.world.now_ns();
        for member in (0..self.config.members).filter(|member| self.world.is_running(self.members[*member as usize])) {
            self.look_at(member, at_ns);
        }
    }

    /// Looks at what a member's process has, or had at its end.
    fn look_at(&self, member: u32, at_ns: Ns) {
        let Some(running) = lock(&self.running[member as usize]).clone() else { return };
        let changes = |from, max| running.store().changes(from, max);
        let seen = lock(&self.sampler).look(at_ns, member, &running.view(), changes);
        if let Some(seen) = seen {
            lock(&self.observer).sampled(at_ns, member, seen);
        }
    }

    /// The trial is over: what came of it.
    fn collect(&self, trial: &Trial) -> (Outcome, Archives) {
        self.look();
        self.checkpoint();
        let end = self.end_state();
        let Finished { operations, watches, writes, calls } = self.recorder.finish();
        let seen = lock(&self.observer).close();
        let storm = std::mem::replace(&mut *lock(&self.storm), Storm::over());
        let record = Record {
            strikes: storm.into_strikes(self.world.now_ns()),
            operations,
            watches,
            cluster: ClusterHistory {
                sights: vec![],
                writes,
                calls,
                end,
                requests: lock(&self.nodes.requests).clone(),
                twin: None,
            },
            marks: seen.marks,
            ended_ns: self.world.now_ns(),
            log_hash: seen.log_hash,
            checkpoints: seen.checkpoints,
            panics: self.world.panics().iter().map(panic_record).collect(),
            ..empty_record(trial)
        };
        let network_events = self.world.stats().network.events;
        let cost = Cost { cpu_ns: thread_cpu_ns(), network_events, profile: self.world.profile() };
        (Outcome { record, log: seen.log, cost }, seen.archives)
    }
}

pub(crate) type Process = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Has this task polled so many times more: each time the executor draws which task is next and how long it takes, so that
/// everything it draws from then on is shifted, and nothing was before.
async fn swerve(times: u32) {
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The record's form of a panic.
pub(crate) fn panic_record(panicked: &Panicked) -> record::Panic {
    let message = format!("{} ({}, task {})", panicked.message, panicked.location, panicked.task);
    record::Panic { at_ns: panicked.at_ns, host: panicked.host.clone(), message }
}

/// What the members' programs read when a trial begins.
fn first_program(schedule: &Schedule) -> Format {
    let replaced = schedule.faults.iter().any(|fault| matches!(fault.what, What::Replace { .. }));
    if replaced { Format::FIRST } else { Format::LATEST }
}

/// What runs a component.
fn task_of(component: Component) -> &'static str {
    match component {
        Component::Store => "member-loop",
        Component::ApiNews => "api-hub",
        Component::ApiServer => "api-connection",
        Component::Controllers => "controller",
        Component::Election => "controllers",
        Component::Scheduler => "scheduler",
        Component::Informers => "informer",
        Component::Pods => "kubelet-step",
        Component::Statuses => "kubelet-status",
        Component::NodeLease => "kubelet-lease",
        Component::Probes => "kubelet-probe",
        Component::Proxy => "proxy",
    }
}

fn member_config(config: &Config, member: u32) -> MemberConfig {
    let id = |member: u32| u64::from(member) + 1;
    let members = (0..config.members).map(|member| {
        (id(member), MemberAddress { peer: address(member, PEER_PORT), client: address(member, CLIENT_PORT) })
    });
    MemberConfig::new(&format!("s{}", member + 1), id(member), members.collect(), "/data")
}

/// A host's address.
pub(crate) fn ip(host: Host) -> IpAddr {
    // A scenario has a handful of members and clients; the last byte of an address holds 254.
    let last = |number: u32| u8::try_from(number + 1).expect("a trial has fewer than 255 hosts of a kind");
    match host {
        Host::Member(number) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, last(number))),
        Host::Client(number) => IpAddr::V4(Ipv4Addr::new(10, 0, 1, last(number))),
        Host::Node(number) => node_address(number),
    }
}

fn address(member: u32, port: u16) -> String {
    format!("s{}:{port}", member + 1)
}

fn troubled(link: LinkConfig, trouble: LinkTrouble) -> LinkConfig {
    LinkConfig {
        delay: link.delay + Duration::from_nanos(trouble.delay_ns),
        jitter: link.jitter + Duration::from_nanos(trouble.jitter_ns),
        loss_permille: link.loss_permille.max(trouble.loss_permille),
        bytes_per_second: if trouble.bytes_per_second > 0 { trouble.bytes_per_second } else { link.bytes_per_second },
        ..link
    }
}

fn disk_faults(trouble: DiskTrouble) -> DiskFaults {
    DiskFaults {
        write_error_permille: trouble.write_error_permille,
        sync_error_permille: trouble.sync_error_permille,
        read_error_permille: trouble.read_error_permille,
        stalled: trouble.stalled,
        slow: trouble.slow,
        full: trouble.full,
    }
}

/// CPU time of this thread so far. Asked of the kernel by rustix, which goes past the functions of libc that the
/// simulation replaces.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// Whoever panicked while holding a lock ended its process, not the trial.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
