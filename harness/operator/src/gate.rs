//! What stands between an operator and the API server: it counts what passes, and strikes.
//!
//! The operator's tasks are tokio's own and know no host. So its client only puts its requests into a channel, and a task of
//! the host's process takes them from there to the network.

use crate::strikes::Strike;
use crate::wire;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use rt::sim::{HostId, World};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Requests under way at once: a client has a handful.
const REQUESTS: usize = 64;
/// Lines of a watch that the operator has not taken yet.
const LINES: usize = 64;

/// When a write is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Nothing of it was sent.
    Before,
    /// It is done, and the operator has not heard of it.
    After,
}

/// What a watch does from a change on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Tells nothing for so long, and then everything.
    Late(Duration),
    /// Tells nothing for so long, and then that what comes next is gone.
    Never(Duration),
}

/// What passed the gate since the trial began, over all processes of the operator.
#[derive(Debug, Default)]
pub struct Passed {
    strikes: Vec<Strike>,
    /// Writes so far.
    pub writes: u64,
    /// Changes told by watches so far.
    pub changes: u64,
    /// Which strikes hit, in order.
    pub hit: Vec<Strike>,
    /// When the last write was sent, in nanoseconds.
    pub last_write_ns: u64,
}

impl Passed {
    /// Nothing yet, and what is to strike.
    pub fn new(strikes: &[Strike]) -> Self {
        Self { strikes: strikes.to_vec(), ..Self::default() }
    }

    /// One more write; when it is struck, if it is.
    fn write(&mut self, now_ns: u64) -> Option<Moment> {
        self.writes += 1;
        self.last_write_ns = now_ns;
        let this = self.writes;
        let strike = *self.strikes.iter().find(|it| matches!(it, Strike::Crash { write, .. } if *write == this))?;
        self.hit.push(strike);
        match strike {
            Strike::Crash { moment, .. } => Some(moment),
            Strike::Stale { .. } | Strike::Missed { .. } => None,
        }
    }

    /// One more change; what its watch does from now on, if it is struck. One that withholds already cannot be.
    fn change(&mut self, withholds: bool) -> Option<Withheld> {
        self.changes += 1;
        let this = self.changes;
        let aimed = |strike: &&Strike| matches!(strike, Strike::Stale { change, .. } | Strike::Missed { change, .. } if *change == this);
        let strike = *self.strikes.iter().find(aimed).filter(|_| !withholds)?;
        self.hit.push(strike);
        match strike {
            Strike::Stale { seconds, .. } => Some(Withheld::Late(Duration::from_secs(seconds))),
            Strike::Missed { seconds, .. } => Some(Withheld::Never(Duration::from_secs(seconds))),
            Strike::Crash { .. } => None,
        }
    }
}

/// What all gates of a trial share.
#[derive(Clone)]
pub struct Gate {
    world: World,
    operator: HostId,
    passed: Arc<Mutex<Passed>>,
    /// A line for each thing that happened, beginning with its time in milliseconds.
    log: Arc<Mutex<Vec<String>>>,
}

/// A request on its way, and where its answer goes.
struct Asked {
    request: Request<Bytes>,
    answer: oneshot::Sender<Result<Response<Body>, String>>,
}

impl Gate {
    /// With nothing passed.
    pub fn new(world: World, operator: HostId, strikes: &[Strike]) -> Self {
        let passed = Arc::new(Mutex::new(Passed::new(strikes)));
        Self { world, operator, passed, log: Arc::default() }
    }

    /// What has passed.
    pub fn passed(&self) -> MutexGuard<'_, Passed> {
        lock(&self.passed)
    }

    /// Notes what happened.
    pub fn note(&self, what: &str) {
        let ms = self.world.now_ns() / 1_000_000;
        lock(&self.log).push(format!("{ms:>7} {what}"));
    }

    /// Everything noted.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.log))
    }

    /// A client for a process of the operator: to be called by it, on its host.
    pub fn client(&self) -> kube::Client {
        let (asks, mut asked) = mpsc::channel::<Asked>(REQUESTS);
        let gate = self.clone();
        rt::task::spawn("gate", async move {
            while let Some(Asked { request, answer }) = asked.recv().await {
                let gate = gate.clone();
                rt::task::spawn("request", async move {
                    let answered = gate.pass(request).await;
                    // Who asked has given up.
                    drop(answer.send(answered));
                });
            }
        });
        kube::Client::new(Service(asks), "default")
    }

    async fn pass(&self, request: Request<Bytes>) -> Result<Response<Body>, String> {
        let query = request.uri().query().unwrap_or_default();
        let watches = query.split('&').any(|part| part == "watch=true" || part == "watch=1");
        let writes = *request.method() != Method::GET;
        let what = format!("{} {}", request.method(), request.uri());
        let struck = if writes { self.passed().write(self.world.now_ns()) } else { None };
        if struck == Some(Moment::Before) {
            self.note(&format!("crash instead of {what}"));
            return self.crash().await;
        }
        let (response, connection) = wire::send(request).await?;
        self.note(&format!("{what} {}", response.status().as_u16()));
        if struck == Some(Moment::After) {
            self.note("crash before that is heard of");
            return self.crash().await;
        }
        let (head, incoming) = response.into_parts();
        let (lines, body) = mpsc::channel(LINES);
        let gate = self.clone();
        rt::task::spawn("answer", async move {
            let told = if watches { gate.tell(incoming, &lines).await } else { forward(incoming, &lines).await };
            if let Err(error) = told {
                // Who watched has gone.
                drop(lines.send(Err(error)).await);
            }
            drop(connection);
        });
        Ok(Response::from_parts(head, Body(body)))
    }

    /// Kills the process that asks, this task with it.
    async fn crash<T>(&self) -> T {
        self.world.kill(self.operator);
        pending().await
    }

    /// Passes on what a watch tells, line by line.
    async fn tell(&self, mut incoming: Incoming, lines: &Lines) -> Result<(), String> {
        let mut begun = Vec::new();
        let mut withheld: Vec<Bytes> = Vec::new();
        let mut until: Option<(u64, Withheld)> = None;
        loop {
            let frame = match until {
                None => incoming.frame().await,
                Some((at, how)) => tokio::select! {
                    biased;
                    () = self.world.sleep_until_ns(at) => {
                        until = None;
                        match how {
                            Withheld::Late(_) => {
                                self.note(&format!("told late: {} lines", withheld.len()));
                                for line in withheld.drain(..) {
                                    lines.send(Ok(line)).await.map_err(|_| "nobody watches".to_owned())?;
                                }
                                continue;
                            }
                            Withheld::Never(_) => {
                                self.note(&format!("never told: {} lines", withheld.len()));
                                let _ = lines.send(Ok(gone())).await;
                                return Ok(());
                            }
                        }
                    }
                    frame = incoming.frame() => frame,
                },
            };
            let Some(frame) = frame else { return Ok(()) };
            let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
            begun.extend_from_slice(&data);
            while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                let line: Bytes = begun.drain(..=end).collect::<Vec<u8>>().into();
                if let Some(change) = change(&line) {
                    let struck = self.passed().change(until.is_some());
                    self.note(&format!("told {change}"));
                    if let Some(how) = struck {
                        let (Withheld::Late(time) | Withheld::Never(time)) = how;
                        self.note(&format!("withheld for {} s", time.as_secs()));
                        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                        until = Some((self.world.now_ns().saturating_add(ns), how));
                    }
                }
                match until {
                    Some(_) => withheld.push(line),
                    None => lines.send(Ok(line)).await.map_err(|_| "nobody watches".to_owned())?,
                }
            }
        }
    }
}

type Lines = mpsc::Sender<Result<Bytes, String>>;

async fn forward(mut incoming: Incoming, lines: &Lines) -> Result<(), String> {
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
            lines.send(Ok(data)).await.map_err(|_| "nobody reads".to_owned())?;
        }
    }
    Ok(())
}

/// What a line of a watch says in short, if it is about a change of an object.
fn change(line: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, object) = (text(&event["type"]), &event["object"]);
    let changes = ["ADDED", "MODIFIED", "DELETED"].contains(&kind.as_str());
    changes.then(|| format!("{kind} {} {}", text(&object["kind"]), text(&object["metadata"]["name"])))
}

/// What a watch says when what comes next is compacted.
fn gone() -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    });
    format!("{}\n", json!({"type": "ERROR", "object": status})).into()
}

/// What a client sends its requests to.
struct Service(mpsc::Sender<Asked>);

impl tower_service::Service<Request<kube::client::Body>> for Service {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let asks = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
            let (answer, answered) = oneshot::channel();
            let gone = || std::io::Error::other("this process is ending");
            asks.send(Asked { request: Request::from_parts(head, body), answer }).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?.map_err(std::io::Error::other)
        })
    }
}

/// The body of an answer, as far as the gate lets it pass.
pub struct Body(mpsc::Receiver<Result<Bytes, String>>);

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data).map_err(std::io::Error::other)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strike_hits_what_it_is_aimed_at_and_once() {
        let crash = Strike::Crash { write: 2, moment: Moment::After };
        let missed = Strike::Missed { change: 3, seconds: 4 };
        let mut passed = Passed::new(&[missed, crash]);
        assert_eq!([passed.write(1), passed.write(2), passed.write(3)], [None, Some(Moment::After), None]);
        let never = Withheld::Never(Duration::from_secs(4));
        assert_eq!([(); 4].map(|()| passed.change(false)), [None, None, Some(never), None]);
        assert_eq!(Passed::new(&[Strike::Stale { change: 1, seconds: 1 }]).change(true), None);
        assert_eq!((passed.hit, passed.last_write_ns), (vec![crash, missed], 3));
    }

    #[test]
    fn only_changes_of_objects_count() {
        let line = br#"{"type":"MODIFIED","object":{"kind":"ConfigMap","metadata":{"name":"a"}}}"#;
        assert_eq!(change(line).as_deref(), Some("MODIFIED ConfigMap a"));
        assert_eq!(change(br#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{}}}"#), None);
        assert_eq!(change(&gone()), None);
    }
}
