//! The life of a hollow container: its task, and how it is told to end.

use super::Shared;
use super::faults::{Running, Shot, Target};
use super::programs::{End, Program};
use super::server::{Face, Server};
use super::state::Phase;
use crate::runtime::{ContainerConfig, Exit};
use crate::wall;
use api::{SignedDuration, Timestamp};
use mark::sometimes;
use rt::net::TcpListener;
use rt::task::AbortOnDrop;
use rt::time::{Instant, sleep_until};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A container that runs in this process.
pub(super) struct Live {
    pub(super) control: Arc<Control>,
    pub(super) face: Arc<Face>,
    _task: AbortOnDrop<()>,
}

/// How a container is told to end, and how others learn that it did.
#[derive(Default)]
pub(super) struct Control {
    orders: Mutex<Orders>,
    changed: Notify,
    /// Told once it has ended.
    over: Notify,
}

#[derive(Clone, Copy, Default)]
struct Orders {
    /// Since when it is to end.
    terminate: Option<Instant>,
    kill: bool,
    over: bool,
}

impl Control {
    /// SIGTERM. The first one counts; says whether this is it.
    pub(super) fn terminate(&self) -> bool {
        let first = {
            let mut orders = self.lock();
            let first = orders.terminate.is_none();
            orders.terminate.get_or_insert_with(Instant::now);
            first
        };
        self.changed.notify_waiters();
        first
    }

    /// SIGKILL. Says whether this is the first one.
    pub(super) fn kill(&self) -> bool {
        let first = !std::mem::replace(&mut self.lock().kill, true);
        self.changed.notify_waiters();
        first
    }

    /// Returns when it has ended.
    pub(super) async fn ended(&self) {
        loop {
            let over = self.over.notified();
            if self.lock().over {
                return;
            }
            over.await;
        }
    }

    fn is_over(&self) {
        self.lock().over = true;
        self.over.notify_waiters();
    }

    fn orders(&self) -> Orders {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a program ended.
struct Ending {
    code: i32,
    reason: &'static str,
    message: String,
}

impl Ending {
    fn of(code: i32) -> Self {
        Ending { code, reason: if code == 0 { "Completed" } else { "Error" }, message: String::new() }
    }
    fn out_of_memory() -> Self {
        Ending { code: 137, reason: "OOMKilled", message: String::new() }
    }
}

impl Shared {
    /// Lets a container run from now on. `adopted`: it ran before this process, as far as anybody knows.
    pub(super) fn launch(self: &Arc<Self>, id: &str, started_at: Timestamp, adopted: bool) {
        let Some(config) = self.lock().state.containers.get(id).map(|container| container.config.clone()) else {
            return;
        };
        let program = self.programs.program(&config);
        let target = Target { pod_uid: config.pod_uid.clone(), container: config.name.clone() };
        // What ran before needs no second start; what is to end after a while has that much less left.
        let ran = if adopted { wall().duration_since(started_at) } else { SignedDuration::ZERO };
        let face = Arc::new(Face {
            target: target.clone(),
            body: body(&self.config.node, id, &config, &program),
            program,
            faults: self.faults.clone(),
            since: Instant::now(),
            ran: Duration::try_from(ran).unwrap_or_default(),
        });
        let node = &self.config.node;
        if adopted {
            mark::container_adopted(node, &config.pod_uid, &config.name, id);
        } else {
            mark::container_started(node, &config.pod_uid, &config.name, id);
        }
        let (namespace, pod, image) = (config.namespace.clone(), config.pod_name.clone(), config.image.clone());
        self.faults.begins(&target, Running { namespace, pod, id: id.to_owned(), image });
        let control = Arc::new(Control::default());
        let task = {
            let (shared, id, control, face) = (self.clone(), id.to_owned(), control.clone(), face.clone());
            rt::task::spawn("hollow-container", async move {
                let ending = run(&config, &control, &face).await;
                shared.faults.ends(&face.target, &id);
                let exit = Exit {
                    code: ending.code,
                    reason: ending.reason.to_owned(),
                    message: ending.message,
                    started_at,
                    finished_at: wall().max(started_at),
                };
                let pod_uid = shared.ended(&id, exit).await;
                mark::container_exited(&shared.config.node, &config.pod_uid, &config.name, &id, ending.code);
                let live = shared.lock().live.remove(&id);
                control.is_over();
                if let Some(pod_uid) = pod_uid {
                    shared.tell(&pod_uid);
                }
                // Last, for it drops this task's own handle.
                drop(live);
            })
        };
        let live = Live { control, face, _task: task.abort_on_drop() };
        let mut inner = self.lock();
        if let Some(container) = inner.state.containers.get_mut(id)
            && matches!(container.phase, Phase::Starting { .. })
        {
            container.phase = Phase::Running { started_at };
        }
        inner.live.insert(id.to_owned(), live);
    }
}

/// What answers say.
fn body(node: &str, id: &str, config: &ContainerConfig, program: &Program) -> String {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        pod: &'a str,
        namespace: &'a str,
        node: &'a str,
        uid: &'a str,
        container: &'a str,
        id: &'a str,
        version: &'a str,
        image: &'a str,
        ip: String,
    }
    let body = Body {
        pod: &config.pod_name,
        namespace: &config.namespace,
        node,
        uid: &config.pod_uid,
        container: &config.name,
        id,
        version: &program.version,
        image: &config.image,
        ip: config.ip.to_string(),
    };
    serde_json::to_string(&body).expect("plain text has a form in JSON")
}

/// Runs a program to its end.
async fn run(config: &ContainerConfig, control: &Control, face: &Arc<Face>) -> Ending {
    let program = &face.program;
    let listens_at = face.since + program.starts_after.saturating_sub(face.ran);
    let ends_at = program.ends.map(|end: End| (face.since + end.after.saturating_sub(face.ran), end));
    let mut servers: Vec<Server> = Vec::new();
    let mut waits_to_listen = program.serves;
    loop {
        // Registered before the looks, so that nothing is missed in between.
        let (ordered, hurt) = (control.changed.notified(), face.faults.changed());
        let orders = control.orders();
        if orders.kill {
            return Ending { reason: "Error", ..Ending::of(137) };
        }
        match face.faults.take_shot(&face.target) {
            Some(Shot::Crash(code)) => return Ending::of(code),
            Some(Shot::OutOfMemory) => return Ending::out_of_memory(),
            None => {}
        }
        let now = Instant::now();
        let mut wake = None;
        let mut due = |at: Instant| {
            wake = Some(wake.map_or(at, |already: Instant| already.min(at)));
            at <= now
        };
        if let Some((at, end)) = ends_at
            && due(at)
        {
            return if end.out_of_memory { Ending::out_of_memory() } else { Ending::of(end.code) };
        }
        let ignores = program.ignores_term || face.faults.lasting(&face.target).ignore_term;
        if let Some(since) = orders.terminate.filter(|_| !ignores) {
            servers.iter_mut().for_each(Server::drain);
            if due(since + program.drain) {
                return Ending::of(program.term_code);
            }
        } else if waits_to_listen && due(listens_at) {
            waits_to_listen = false;
            match listen(config, face).await {
                Ok(listening) => servers = listening,
                Err(ending) => return ending,
            }
            continue;
        }
        match wake {
            Some(at) => {
                tokio::select! {
                    biased;
                    () = ordered => {}
                    () = hurt => {}
                    () = sleep_until(at) => {}
                }
            }
            None => {
                tokio::select! {
                    biased;
                    () = ordered => {}
                    () = hurt => {}
                }
            }
        }
    }
}

/// Listens on all declared ports.
async fn listen(config: &ContainerConfig, face: &Arc<Face>) -> Result<Vec<Server>, Ending> {
    let mut servers = Vec::new();
    for port in &config.ports {
        match TcpListener::bind_or_stand_in(SocketAddr::new(config.ip, *port)).await {
            Ok(listener) => servers.push(Server::start(listener, face.clone())),
            Err(error) => {
                sometimes!("port of a hollow container is not to be had");
                return Err(Ending { message: format!("listen on {}:{port}: {error}", config.ip), ..Ending::of(1) });
            }
        }
    }
    Ok(servers)
}
