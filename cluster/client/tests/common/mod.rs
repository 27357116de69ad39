//! A tiny API server for tests, over real sockets: objects in memory, lists, watches, preconditions, fences; and faults
//! that each strike one request.
#![expect(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use bytes::Bytes;
use client::{Client, ClientConfig};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use rt::net::{TcpListener, TcpStream};
use rt::task::AbortOnDrop;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// What happens to one request instead of, or after, what should.
#[derive(Clone, Debug)]
pub enum Fault {
    /// No answer, ever; without effect.
    Hang,
    /// The connection is cut; without effect.
    CutBefore,
    /// The connection is cut; with effect.
    CutAfter,
    /// This answer, with `Retry-After` if it is not negative; without effect.
    Answer(u16, i64),
}

pub struct Api {
    pub address: String,
    state: Arc<Mutex<State>>,
    _task: AbortOnDrop<()>,
}

#[derive(Default)]
pub struct State {
    pub revision: i64,
    /// By resource, namespace and name.
    pub objects: BTreeMap<(String, String, String), Value>,
    /// Revision, resource, type of event, object.
    log: Vec<(i64, String, &'static str, Value)>,
    watchers: Vec<(String, mpsc::Sender<Bytes>)>,
    pub requests: Vec<String>,
    pub faults: Vec<(String, Fault)>,
    fences: BTreeMap<String, i64>,
    pub connections: usize,
    /// Watches from before this are answered by 410.
    pub compacted: i64,
    /// Events of this resource are kept back.
    pub held_back: Option<String>,
}

impl Api {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { revision: 10, ..State::default() }));
        let accept = accept(listener, state.clone());
        Self { address, state, _task: rt::task::spawn("test-api", accept).abort_on_drop() }
    }

    pub fn client(&self) -> Client {
        let config = ClientConfig::new(vec![self.address.clone()], "test");
        Client::new(ClientConfig { request_timeout: Duration::from_millis(500), ..config })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next request whose method and path contain `pattern` meets `fault`.
    pub fn fault(&self, pattern: &str, fault: Fault) {
        self.state().faults.push((pattern.to_owned(), fault));
    }

    /// How many requests had this in their method and path.
    pub fn count(&self, pattern: &str) -> usize {
        self.state().requests.iter().filter(|request| request.contains(pattern)).count()
    }

    /// Any write, past all faults.
    pub fn write(&self, method: &str, path: &str, body: &Value) -> Value {
        let (code, answer) = self.state().write(method, path, body, None);
        assert!(code < 300, "{method} {path}: {code} {answer}");
        answer
    }

    /// Ends all watches, and forgets what they could go on from.
    pub fn cut_watches(&self, compact: bool) {
        let mut state = self.state();
        state.watchers.clear();
        if compact {
            state.compacted = state.revision;
        }
    }

    /// Lets events that were kept back through.
    pub fn release(&self) {
        let mut state = self.state();
        state.held_back = None;
        // A watch that is opened anew tells all that came since its version.
        state.watchers.clear();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        state.lock().unwrap().connections += 1;
        connections.push(rt::task::spawn("test-connection", serve(stream, state.clone())).abort_on_drop());
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request| answer(request, state.clone()));
    let _ = http1::Builder::new().serve_connection(rt::http::Io::new(stream), service).await;
}

/// An answer's body: all at once, or as it comes.
pub enum Answer {
    Whole(Full<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Answer::Whole(body) => Pin::new(body).poll_frame(cx),
            Answer::Stream(lines) => lines.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }
}

/// The connection is to be cut.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Answer>, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let fence = head.headers.get(client::FENCE_HEADER).map(|fence| fence.to_str().unwrap().to_owned());
    let line = format!("{} {}", head.method, head.uri);
    let fault = {
        let mut state = state.lock().unwrap();
        state.requests.push(line.clone());
        let struck = state.faults.iter().position(|(pattern, _)| line.contains(pattern));
        struck.map(|index| state.faults.remove(index).1)
    };
    let cut = match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::CutBefore) => return Err(Cut),
        Some(Fault::Answer(code, retry_after)) => {
            let status = json!({"kind": "Status", "code": code, "message": "a fault"});
            let mut response = whole(code, &status);
            if retry_after >= 0 {
                response.headers_mut().insert(http::header::RETRY_AFTER, retry_after.into());
            }
            return Ok(response);
        }
        Some(Fault::CutAfter) => true,
        None => false,
    };
    let query = head.uri.query().unwrap_or_default();
    let response = if head.method == http::Method::GET {
        state.lock().unwrap().read(head.uri.path(), query)
    } else {
        let (code, answer) = state.lock().unwrap().write(head.method.as_str(), head.uri.path(), &body, fence);
        whole(code, &answer)
    };
    if cut { Err(Cut) } else { Ok(response) }
}

fn whole(code: u16, body: &Value) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Full::new(serde_json::to_vec(body).unwrap().into())));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

/// Resource, namespace, name, subresource.
fn parse(path: &str) -> (String, String, String, String) {
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    parts.drain(..if parts[0] == "api" { 2 } else { 3 });
    let namespace = if parts[0] == "namespaces" && parts.len() > 2 { parts.drain(..2).nth(1).unwrap() } else { "" };
    let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
    (part(0), namespace.to_owned(), part(1), part(2))
}

fn parameter(query: &str, name: &str) -> String {
    let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_default().to_owned()
}

impl State {
    fn read(&mut self, path: &str, query: &str) -> Response<Answer> {
        let (resource, namespace, name, _) = parse(path);
        if !name.is_empty() {
            return match self.objects.get(&(resource, namespace, name)) {
                Some(object) => whole(200, object),
                None => whole(404, &status(404, "NotFound")),
            };
        }
        if query.contains("watch=true") {
            return self.watch(&resource, parameter(query, "resourceVersion").parse().unwrap_or_default());
        }
        let limit: usize = parameter(query, "limit").parse().unwrap_or(usize::MAX);
        let skip: usize = parameter(query, "continue").parse().unwrap_or_default();
        let wanted =
            |key: &&(String, String, String)| key.0 == resource && (namespace.is_empty() || key.1 == namespace);
        let keys: Vec<_> = self.objects.keys().filter(wanted).skip(skip).cloned().collect();
        let more = keys.len() > limit;
        let items: Vec<&Value> = keys.iter().take(limit).map(|key| &self.objects[key]).collect();
        let token = if more { (skip + limit).to_string() } else { String::new() };
        whole(
            200,
            &json!({"metadata": {"resourceVersion": self.revision.to_string(), "continue": token}, "items": items}),
        )
    }

    fn watch(&mut self, resource: &str, from: i64) -> Response<Answer> {
        if from < self.compacted {
            return whole(410, &status(410, "Expired"));
        }
        let (sender, receiver) = mpsc::channel(1000);
        for (revision, of, kind, object) in &self.log {
            if *revision > from && of == resource {
                sender.try_send(line(kind, object)).unwrap();
            }
        }
        sender
            .try_send(line("BOOKMARK", &json!({"metadata": {"resourceVersion": self.revision.to_string()}})))
            .unwrap();
        self.watchers.push((resource.to_owned(), sender));
        Response::new(Answer::Stream(receiver))
    }

    fn write(&mut self, method: &str, path: &str, body: &Value, fence: Option<String>) -> (u16, Value) {
        let (resource, namespace, mut name, subresource) = parse(path);
        if let Some((lease, epoch)) = fence.as_deref().and_then(|fence| fence.split_once('=')) {
            let epoch: i64 = epoch.parse().unwrap();
            let newest = self.fences.entry(lease.to_owned()).or_insert(epoch);
            if *newest > epoch {
                let mut stale = status(409, "Conflict");
                stale["details"] = json!({"causes": [{"reason": "StaleFence"}]});
                return (409, stale);
            }
            *newest = epoch;
        }
        if method == "POST" && subresource.is_empty() {
            name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        }
        let key = (resource.clone(), namespace.clone(), name);
        let there = self.objects.get(&key).cloned();
        let (kind, mut object) = match (method, there) {
            ("POST", Some(_)) if subresource.is_empty() => return (409, status(409, "AlreadyExists")),
            ("POST", None) if subresource.is_empty() => {
                let mut object = body.clone();
                object["metadata"]["uid"] = json!(format!("uid-{}", self.revision + 1));
                ("ADDED", object)
            }
            (_, None) => return (404, status(404, "NotFound")),
            ("POST", Some(_)) => return (201, json!({"kind": "Status", "status": "Success"})),
            ("DELETE", Some(object)) => {
                let uid = &body["preconditions"]["uid"];
                if !uid.is_null() && *uid != object["metadata"]["uid"] {
                    return (409, status(409, "Conflict"));
                }
                ("DELETED", object)
            }
            ("PUT", Some(object)) => {
                if body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                    return (409, status(409, "Conflict"));
                }
                ("MODIFIED", body.clone())
            }
            ("PATCH", Some(mut object)) => {
                merge(&mut object, body);
                ("MODIFIED", object)
            }
            (method, Some(_)) => panic!("{method}"),
        };
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        if kind == "DELETED" {
            self.objects.remove(&key)
        } else {
            self.objects.insert(key, object.clone())
        };
        self.log.push((self.revision, resource.clone(), kind, object.clone()));
        if self.held_back.as_ref() != Some(&resource) {
            self.watchers.retain(|(of, sender)| *of != resource || sender.try_send(line(kind, &object)).is_ok());
        }
        (if method == "POST" { 201 } else { 200 }, object)
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    for (name, value) in fields {
        merge(&mut object[name], value);
    }
}

/// Waits until `true`, but not for ever.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        rt::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 10 s: {what}");
}
