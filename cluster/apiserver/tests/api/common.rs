//! An API server without sockets over a store in memory, and a notation for what it answers.

use ::http::{HeaderMap, Request};
use apiserver::{AllowAll, Body, Config, Core, MemoryStore, Store, handle};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A server, perhaps one of several over the same store.
#[derive(Clone)]
pub struct Api {
    pub core: Arc<Core>,
    pub store: Arc<dyn Store>,
    _tasks: Arc<Vec<rt::task::AbortOnDrop<()>>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Api {
    /// Over a new store that has the namespaces `default` and `a`.
    pub async fn new() -> Self {
        let api = Self::over(Arc::new(MemoryStore::new()));
        for name in ["default", "a"] {
            let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
            assert_eq!(api.call("POST", "/api/v1/namespaces", &body).await.code, 201);
        }
        api
    }

    pub fn over(store: Arc<dyn Store>) -> Self {
        let config = Config { bookmark_interval: Duration::from_millis(50), bootstrap: false, ..Config::new("") };
        let core = Arc::new(Core::new(config, Arc::clone(&store), Arc::new(AllowAll), Arc::new(AllowAll)));
        let tasks = Arc::new(apiserver::background(&core));
        Self { core, store, _tasks: tasks }
    }

    pub async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let patch = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        self.send(method, path, &[("content-type", patch)], body.as_bytes()).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("bodies do not fail").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { code: parts.status.as_u16(), headers: parts.headers, body, text }
    }

    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> ::http::Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::copy_from_slice(body)).expect("a request");
        handle(&self.core, &SocketAddr::from(([10, 0, 0, 1], 1_000)).into(), request).await
    }

    /// Creates a pod in namespace `a` that is bound, runs and is ready.
    pub async fn run_pod(&self, name: &str) {
        let pods = "/api/v1/namespaces/a/pods";
        assert_eq!(self.call("POST", pods, &pod(name)).await.code, 201);
        let bind = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
        assert_eq!(self.call("POST", &format!("{pods}/{name}/binding"), &bind.to_string()).await.code, 201);
        let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(self.call("PATCH", &format!("{pods}/{name}/status"), &ready.to_string()).await.code, 200);
    }

    /// Evicts a pod of namespace `a`.
    pub async fn evict(&self, name: &str, options: Value) -> Answer {
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": "a"},
            "deleteOptions": options,
        });
        self.call("POST", &format!("/api/v1/namespaces/a/pods/{name}/eviction"), &body.to_string()).await
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Watch {
        let response = self.open("GET", path, &[], b"").await;
        assert_eq!(response.status().as_u16(), 200, "{path}");
        Watch { body: response.into_body(), buffer: Vec::new() }
    }
}

/// An open watch.
pub struct Watch {
    body: Body,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` at its end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a line is JSON"));
            }
            let frame = rt::time::timeout(Duration::from_secs(5), self.body.frame()).await.expect("a watch goes on")?;
            if let Ok(data) = frame.expect("bodies do not fail").into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next `count` events but for bookmarks: `ADDED x@5`.
    pub async fn events(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.next().await {
                Some(event) if event["type"] == "BOOKMARK" => {}
                Some(event) => events.push(show(&event)),
                None => break,
            }
        }
        events
    }
}

/// An event in short.
pub fn show(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap_or_default();
    let meta = &event["object"]["metadata"];
    match kind {
        "ERROR" => format!("ERROR {}", event["object"]["message"].as_str().unwrap_or_default()),
        "BOOKMARK" => format!("BOOKMARK {}", meta["annotations"]),
        _ => format!("{kind} {}", meta["name"].as_str().unwrap_or_default()),
    }
}

/// A code and, of failures, reason and message.
pub fn brief(answer: &Answer) -> String {
    match answer.body["reason"].as_str() {
        Some(reason) => format!("{} {reason}: {}", answer.code, answer.body["message"].as_str().unwrap_or_default()),
        None => answer.code.to_string(),
    }
}

/// A pod that is valid.
pub fn pod(name: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","labels":{{"app":"web"}}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}"#
    )
}
