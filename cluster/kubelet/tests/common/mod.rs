//! A world for tests of the node agent: an API server that is a map, a node, and a host on which the test runs.
//!
//! The API server knows create, get, list, watch, update, update of status and graceful deletion of whatever it is given,
//! and keeps resource versions; nothing else.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use api::core::v1::{Container, ContainerPort, EnvVar, HTTPGetAction, Node, NodeSpec, Pod, PodSpec, Probe};
use api::{IntOrString, ObjectMeta};
use kubelet::hollow::{HollowFaults, Target};
use kubelet::{Agent, AgentConfig, Hollow, HollowConfig, StandardPrograms, View};
use rt::net::{TcpListener, TcpStream};
use rt::sim::{self, Config, HostId, World};
use rt::time::{Instant, sleep, timeout};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

pub fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Plural, namespace, name.
type Key = (String, String, String);

#[derive(Default)]
struct Objects {
    all: BTreeMap<Key, Value>,
    revision: i64,
    log: Vec<(i64, Key, &'static str, Value)>,
    /// The messages of all Events.
    said: Vec<String>,
}

/// The API server's store, which the test looks into and changes at will.
#[derive(Clone, Default)]
pub struct Api(Arc<(Mutex<Objects>, Notify)>);

impl Api {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get<T: DeserializeOwned>(&self, plural: &str, name: &str) -> Option<T> {
        let namespace = if plural == "nodes" { "" } else { "default" };
        let namespace = if plural == "leases" { "kube-node-lease" } else { namespace };
        let found = self.lock().all.get(&(plural.to_owned(), namespace.to_owned(), name.to_owned())).cloned()?;
        Some(serde_json::from_value(found).unwrap())
    }

    pub fn pod(&self, name: &str) -> Option<Pod> {
        self.get("pods", name)
    }

    /// Every version of a pod that there was.
    pub fn history(&self, name: &str) -> Vec<Pod> {
        let objects = self.lock();
        let of = objects.log.iter().filter(|(_, key, ..)| key.0 == "pods" && key.2 == name);
        of.map(|(.., value)| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    pub fn put(&self, plural: &str, namespace: &str, mut object: Value) {
        let mut objects = self.lock();
        let name = object["metadata"]["name"].as_str().unwrap_or("generated").to_owned();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}-{}", name, objects.revision));
        }
        if object["metadata"]["generation"].is_null() {
            object["metadata"]["generation"] = json!(1);
        }
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        objects.put((plural.to_owned(), namespace.to_owned(), name), object);
        drop(objects);
        self.0.1.notify_waiters();
    }

    pub fn create_pod(&self, pod: &Pod) {
        self.put("pods", "default", serde_json::to_value(pod).unwrap());
    }

    /// Asks for a pod's deletion.
    pub fn delete_pod(&self, name: &str, grace_s: i64) {
        let mut objects = self.lock();
        let key = ("pods".to_owned(), "default".to_owned(), name.to_owned());
        let mut pod = objects.all[&key].clone();
        pod["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:01:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace_s);
        objects.put(key, pod);
        drop(objects);
        self.0.1.notify_waiters();
    }

    /// Removes a pod without asking anybody.
    pub fn remove_pod(&self, name: &str) {
        self.lock().remove(&("pods".to_owned(), "default".to_owned(), name.to_owned()));
        self.0.1.notify_waiters();
    }

    /// Serves for ever.
    async fn serve(self) {
        let listener = TcpListener::bind("0.0.0.0:6443").await.unwrap();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let api = self.clone();
            drop(rt::task::spawn("api", async move { drop(api.converse(stream).await) }));
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
            while buffer.len() < end + length {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let body = buffer[end..end + length].to_vec();
            buffer.drain(..end + length);
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            if path.contains("watch=true") {
                return self.watch(stream, &path).await;
            }
            let (code, body) = self.answer(&method, &path, &body);
            let text = body.to_string();
            let head = format!(
                "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            stream.write_all((head + &text).as_bytes()).await?;
        }
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let (key, subresource) = key_of(path);
        let failure = |code: u16, reason: &str| {
            (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}))
        };
        let sent = || serde_json::from_slice::<Value>(body).unwrap();
        let mut objects = self.lock();
        if key.0 == "events" {
            let event = sent();
            objects.said.extend(event["message"].as_str().map(str::to_owned));
            return (201, event);
        }
        let answer = match (method, objects.all.get(&key).cloned()) {
            ("GET", _) if key.2.is_empty() => {
                let items: Vec<Value> =
                    objects.all.iter().filter(|(it, _)| it.0 == key.0).map(|(_, it)| it.clone()).collect();
                let items: Vec<Value> = items.into_iter().filter(|it| selected(path, it)).collect();
                (200, json!({"metadata": {"resourceVersion": objects.revision.to_string()}, "items": items}))
            }
            ("GET", Some(found)) => (200, found),
            ("POST", _) => {
                let mut new = sent();
                let name = new["metadata"]["name"].as_str().unwrap().to_owned();
                let key = (key.0, key.1, name);
                if objects.all.contains_key(&key) {
                    return failure(409, "AlreadyExists");
                }
                new["metadata"]["uid"] = json!(format!("uid-{}-{}", key.2, objects.revision));
                (201, objects.put(key, new))
            }
            ("PUT", Some(found)) => {
                let new = sent();
                if new["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                let mut merged = if subresource == "status" { found } else { new.clone() };
                merged["status"] = new["status"].clone();
                (200, objects.put(key, merged))
            }
            ("DELETE", Some(found)) => {
                let uid = sent()["preconditions"]["uid"].clone();
                if !uid.is_null() && uid != found["metadata"]["uid"] {
                    return failure(409, "Conflict");
                }
                objects.remove(&key);
                (200, found)
            }
            _ => return failure(404, "NotFound"),
        };
        drop(objects);
        self.0.1.notify_waiters();
        answer
    }

    async fn watch(&self, mut stream: TcpStream, path: &str) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        let (key, _) = key_of(path);
        let from = path.split("resourceVersion=").nth(1).and_then(|rest| rest.split('&').next());
        let mut from: i64 = from.map_or(0, |text| text.parse().unwrap());
        loop {
            let changed = self.0.1.notified();
            let mut lines = String::new();
            {
                let objects = self.lock();
                for (revision, of, kind, value) in &objects.log {
                    if *revision > from && of.0 == key.0 && selected(path, value) {
                        lines += &format!("{}\n", json!({"type": kind, "object": value}));
                    }
                }
                from = objects.revision;
            }
            let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": from.to_string()}}});
            lines += &format!("{bookmark}\n");
            stream.write_all(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes()).await?;
            let _woken_or_due = timeout(s(10), changed).await;
        }
    }
}

impl Objects {
    fn put(&mut self, key: Key, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let kind = if self.all.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        self.log.push((self.revision, key.clone(), kind, object.clone()));
        self.all.insert(key, object.clone());
        object
    }

    fn remove(&mut self, key: &Key) {
        if let Some(mut object) = self.all.remove(key) {
            self.revision += 1;
            object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            self.log.push((self.revision, key.clone(), "DELETED", object));
        }
    }
}

fn key_of(path: &str) -> (Key, String) {
    let path = path.split('?').next().unwrap_or_default();
    let words: Vec<&str> = path.split('/').skip(if path.starts_with("/api/") { 3 } else { 4 }).collect();
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let word = |at: usize| words.get(at).cloned().unwrap_or_default();
    if words[0] == "namespaces" && words.len() > 2 {
        return ((word(2), word(1), word(3)), word(4));
    }
    ((word(0), String::new(), word(1)), word(2))
}

/// Whether a field selector in a path selects an object: by name, or by node.
fn selected(path: &str, object: &Value) -> bool {
    let decoded = path.replace("%3D", "=");
    let Some(selector) = decoded.split("fieldSelector=").nth(1).and_then(|rest| rest.split('&').next()) else {
        return true;
    };
    let (field, value) = selector.split_once('=').unwrap();
    let found = if field == "spec.nodeName" { &object["spec"]["nodeName"] } else { &object["metadata"]["name"] };
    found == value
}

/// A node and what is around it. Clones are the same world.
#[derive(Clone)]
pub struct Scene {
    pub world: World,
    pub api: Api,
    pub node: HostId,
    pub faults: HollowFaults,
    agent: Arc<Mutex<Option<Arc<Agent>>>>,
}

/// Runs `scene` beside a node `n1` with the pod range 10.1.0.0/24.
pub fn with_node<Fut>(seed: u64, scene: impl FnOnce(Scene) -> Fut + Send + 'static)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let config = Config { seed, executor_seed: seed, ..Config::default() };
    let panics = sim::run(config, move |world| async move {
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let client = world.add_host("client", address(100));
        world.start(client, || Box::pin(pending()));
        let (api, faults) = (Api::default(), HollowFaults::new());
        let server = world.add_host("api", address(1));
        let serving = api.clone();
        world.start(server, move || Box::pin(serving.clone().serve()));
        let node = world.add_host("n1", address(2));
        let agent: Arc<Mutex<Option<Arc<Agent>>>> = Arc::default();
        let new = Node {
            metadata: ObjectMeta { name: Some("n1".to_owned()), ..ObjectMeta::default() },
            spec: Some(NodeSpec { pod_cidr: Some("10.1.0.0/24".to_owned()), ..NodeSpec::default() }),
            status: None,
        };
        api.put("nodes", "", serde_json::to_value(&new).unwrap());
        let (hurt, running) = (faults.clone(), agent.clone());
        world.start(node, move || {
            let (hurt, running) = (hurt.clone(), running.clone());
            Box::pin(async move {
                let programs = Arc::new(StandardPrograms);
                let hollow = Hollow::open(HollowConfig::new("n1", "data"), programs, hurt).await;
                let client = client::Client::new(client::ClientConfig::new(vec!["api:6443".to_owned()], "kubelet"));
                let config = AgentConfig::new("n1", address(2), "data");
                let hollow = Arc::new(hollow.expect("the runtime starts"));
                let agent = Agent::start(config, client, hollow).await.expect("the agent starts");
                *running.lock().unwrap() = Some(Arc::new(agent));
                pending().await
            })
        });
        let scene_of = Scene { world: world.clone(), api, node, faults, agent };
        let done = world.spawn_on(client, "test", scene(scene_of)).await;
        (done.is_ok(), world.panics())
    });
    match panics {
        Ok((done, panics)) => assert!(done && panics.is_empty(), "seed {seed}: {panics:?}"),
        Err(panicked) => panic!("seed {seed}: {panicked}"),
    }
}

impl Scene {
    pub fn view(&self) -> Option<View> {
        self.agent.lock().unwrap().as_ref().map(|agent| agent.view())
    }

    /// Waits until `found` finds something, at most `limit`.
    pub async fn until<T>(&self, what: &str, limit: Duration, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(began.elapsed() < limit, "no {what} after {limit:?}: {:?}", self.view());
            sleep(ms(50)).await;
        }
    }

    pub async fn ready(&self, name: &str) -> Pod {
        self.until(&format!("{name} ready"), s(60), |scene| scene.api.pod(name).filter(is_ready)).await
    }

    pub async fn phase(&self, name: &str, phase: &str, limit: Duration) -> Pod {
        self.until(&format!("{name} {phase}"), limit, |scene| scene.api.pod(name).filter(|pod| phase_of(pod) == phase))
            .await
    }

    pub async fn gone(&self, name: &str, limit: Duration) {
        self.until(&format!("end of {name}"), limit, |scene| scene.api.pod(name).is_none().then_some(())).await;
    }

    /// Whether an Event's message holds these words.
    pub fn heard(&self, words: &str) -> bool {
        self.api.lock().said.iter().any(|message| message.contains(words))
    }

    /// What a pod's first container is to whoever hurts it.
    pub fn target(&self, name: &str) -> Target {
        let pod = self.api.pod(name).unwrap();
        Target { pod_uid: pod.metadata.uid.unwrap(), container: pod.spec.unwrap().containers[0].name.clone() }
    }

    /// Asks a pod as any client does.
    pub async fn ask(&self, pod: &Pod) -> io::Result<String> {
        let ip = pod.status.as_ref().and_then(|it| it.pod_ip.clone()).unwrap();
        let mut stream = timeout(s(5), TcpStream::connect(&format!("{ip}:80"))).await.map_err(io::Error::other)??;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        timeout(s(5), stream.read_to_string(&mut answer)).await.map_err(io::Error::other)??;
        Ok(answer)
    }
}

pub fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.clone().unwrap_or_default();
    status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

pub fn phase_of(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
}

/// Container id, restarts, and start of a pod's first container.
pub fn first(pod: &Pod) -> (String, i32, String) {
    let statuses = pod.status.clone().unwrap_or_default().container_statuses.unwrap_or_default();
    let status = statuses.into_iter().next().unwrap_or_default();
    let running = status.state.and_then(|it| it.running).and_then(|it| it.started_at);
    let started = running.map(|it| it.0.to_string()).unwrap_or_default();
    (status.container_id.unwrap_or_default(), status.restart_count, started)
}

/// A pod bound to `n1` with a container `web` on port 80 that is probed for readiness.
pub fn web(name: &str, image: &str, policy: &str, env: &[(&str, &str)]) -> Pod {
    let get =
        HTTPGetAction { path: Some("/readyz".to_owned()), port: IntOrString::Int(80), ..HTTPGetAction::default() };
    web_probed(name, image, policy, env, Probe { http_get: Some(get), ..Probe::default() })
}

/// The same with another probe.
pub fn web_probed(name: &str, image: &str, policy: &str, env: &[(&str, &str)], probe: Probe) -> Pod {
    let probe = Probe { period_seconds: Some(5), ..probe };
    let variable = |(name, value): &(&str, &str)| EnvVar {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
        ..EnvVar::default()
    };
    let container = Container {
        name: "web".to_owned(),
        image: Some(image.to_owned()),
        ports: Some(vec![ContainerPort { container_port: 80, ..ContainerPort::default() }]),
        readiness_probe: Some(probe),
        env: Some(env.iter().map(variable).collect()),
        ..Container::default()
    };
    let spec = PodSpec {
        node_name: Some("n1".to_owned()),
        restart_policy: Some(policy.to_owned()),
        termination_grace_period_seconds: Some(10),
        containers: vec![container],
        ..PodSpec::default()
    };
    Pod {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(spec),
        status: None,
    }
}
