//! A server whose member lags behind the others.

use crate::common::Api;
use apiserver::{BoxFuture, MemoryStore, Store};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::mvcc::Tree;
use store::{ClientError, TxnRequest, TxnResponse};

/// A store whose local tree is as old as it is told to be.
struct Lagging {
    store: Arc<dyn Store>,
    local: Mutex<Tree>,
    /// What writes are answered without being done.
    answer: Mutex<Option<Result<TxnResponse, ClientError>>>,
}

impl Lagging {
    fn over(current: &Api) -> Self {
        let local = Mutex::new(current.store.latest());
        Self { store: Arc::clone(&current.store), local, answer: Mutex::default() }
    }

    /// From now on its tree stands still.
    fn freeze(&self) {
        *lock(&self.local) = self.store.latest();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for Lagging {
    fn txn(&self, txn: TxnRequest) -> BoxFuture<'_, Result<TxnResponse, ClientError>> {
        match lock(&self.answer).clone() {
            Some(answer) => Box::pin(async move { answer }),
            None => self.store.txn(txn),
        }
    }
    fn tree(&self) -> BoxFuture<'_, Result<Tree, ClientError>> {
        self.store.tree()
    }
    fn latest(&self) -> Tree {
        lock(&self.local).clone()
    }
    fn newer(&self, _: i64) -> BoxFuture<'_, Result<(), ClientError>> {
        Box::pin(std::future::pending())
    }
    fn is_connected(&self) -> bool {
        true
    }
    fn lease(&self, ttl_seconds: i64) -> BoxFuture<'_, Result<i64, ClientError>> {
        self.store.lease(ttl_seconds)
    }
    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), ClientError>> {
        self.store.compact(revision)
    }
}

#[test]
fn a_lagging_server_refuses_nothing_wrongly() {
    rt::task::block_on(async {
        let current = Api::over(Arc::new(MemoryStore::new()));
        let lagging = Arc::new(Lagging::over(&current));
        let behind = Api::over(lagging.clone());
        current.call("POST", "/api/v1/namespaces", r#"{"metadata":{"name":"a"}}"#).await;
        let path = "/api/v1/namespaces/a/configmaps";
        // It has not heard of the namespace.
        let created = behind.call("POST", path, r#"{"metadata":{"name":"c"}}"#).await;
        assert_eq!(created.code, 201, "{}", created.text);
        // It has not heard of the object either, its own write included.
        assert_eq!(behind.call("GET", &format!("{path}/c"), "").await.code, 200);
        assert_eq!(behind.call("GET", &format!("{path}/c?resourceVersion=0"), "").await.code, 404);
        let version = created.body["metadata"]["resourceVersion"].as_str().unwrap();
        assert_eq!(behind.call("GET", &format!("{path}/c?resourceVersion={version}"), "").await.code, 200);
        assert_eq!(behind.call("PATCH", &format!("{path}/c"), r#"{"data":{"k":"1"}}"#).await.code, 200);
        assert_eq!(behind.call("POST", path, r#"{"metadata":{"name":"c"}}"#).await.code, 409);
        assert_eq!(behind.call("GET", path, "").await.body["items"].as_array().unwrap().len(), 1);
        // It decides over what it has, and what it has is old.
        lagging.freeze();
        let newer = current.call("PATCH", &format!("{path}/c"), r#"{"data":{"k":"2"}}"#).await;
        assert_eq!(behind.call("PUT", &format!("{path}/c"), &newer.body.to_string()).await.code, 200);
        let merged = behind.call("PATCH", &format!("{path}/c"), r#"{"data":{"l":"3"}}"#).await;
        assert_eq!(merged.body["data"], json!({"k": "2", "l": "3"}), "a patch is of the current object");
        let stale = r#"{"metadata":{"resourceVersion":"3"},"data":{"k":"4"}}"#;
        assert_eq!(behind.call("PATCH", &format!("{path}/c"), stale).await.code, 409);
        // A namespace that is being deleted takes nothing, whoever has not heard of it.
        lagging.freeze();
        current.call("DELETE", "/api/v1/namespaces/a", "").await;
        assert_eq!(behind.call("POST", path, r#"{"metadata":{"name":"d"}}"#).await.code, 403);
        // Nor is a leader's fence forgotten.
        current.call("POST", "/api/v1/namespaces", r#"{"metadata":{"name":"b"}}"#).await;
        lagging.freeze();
        let fenced = async |api: &Api, name: &str, number: u64| {
            let fence = format!("kube-system/x={number}");
            let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
            let path = "/api/v1/namespaces/b/configmaps";
            api.send("POST", path, &[("seaworthy-fence", &fence)], body.as_bytes()).await.code
        };
        assert_eq!(fenced(&current, "e", 2).await, 201);
        assert_eq!(fenced(&behind, "f", 1).await, 409);
        assert_eq!(fenced(&behind, "f", 2).await, 201);
        // What another server has given away is not free.
        lagging.freeze();
        let services = "/api/v1/namespaces/b/services";
        let service = r#"{"metadata":{"name":"NAME"},"spec":{"clusterIP":"10.96.0.7","ports":[{"port":80}]}}"#;
        assert_eq!(current.call("POST", services, &service.replace("NAME", "s")).await.code, 201);
        assert_eq!(behind.call("POST", services, &service.replace("NAME", "t")).await.code, 422);
        // What was deleted elsewhere is not deleted twice.
        lagging.freeze();
        assert_eq!(current.call("DELETE", "/api/v1/namespaces/b/configmaps/e", "").await.code, 200);
        assert_eq!(behind.call("DELETE", "/api/v1/namespaces/b/configmaps/e", "").await.code, 404);
    });
}

/// Found by seed 701 of the standard trial: an eviction that saw no budget compared only the pod.
#[test]
fn a_lagging_server_evicts_past_no_budget() {
    rt::task::block_on(async {
        let current = Api::new().await;
        let lagging = Arc::new(Lagging::over(&current));
        let behind = Api::over(lagging.clone());
        current.run_pod("p").await;
        let budgets = "/apis/policy/v1/namespaces/a/poddisruptionbudgets";
        let selecting = |app: &str| {
            let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": app}}});
            json!({"metadata": {"name": "b"}, "spec": spec}).to_string()
        };
        let evict = async || behind.evict("p", json!({})).await;
        // It has not heard of the budget.
        lagging.freeze();
        assert_eq!(current.call("POST", budgets, &selecting("web")).await.code, 201);
        assert_eq!(evict().await.code, 429);
        // The budget that it knows was of other pods.
        assert_eq!(current.call("PATCH", &format!("{budgets}/b"), &selecting("other")).await.code, 200);
        lagging.freeze();
        assert_eq!(current.call("PATCH", &format!("{budgets}/b"), &selecting("web")).await.code, 200);
        assert_eq!(evict().await.code, 429);
        // Nor does it guard with a budget that is gone.
        lagging.freeze();
        assert_eq!(current.call("DELETE", &format!("{budgets}/b"), "").await.code, 200);
        assert_eq!(evict().await.code, 201);
    });
}

#[test]
fn an_unknown_outcome_is_told_from_none() {
    rt::task::block_on(async {
        let current = Api::new().await;
        let failing = Arc::new(Lagging::over(&current));
        let api = Api::over(failing.clone());
        let create = || api.call("POST", "/api/v1/namespaces/a/configmaps", r#"{"metadata":{"name":"c"}}"#);
        *lock(&failing.answer) = Some(Err(ClientError::Unavailable("no leader".into())));
        let none = create().await;
        assert_eq!((none.code, &none.body["reason"]), (503, &json!("ServiceUnavailable")));
        *lock(&failing.answer) = Some(Err(ClientError::Unknown("it was not committed in time".into())));
        let unknown = create().await;
        assert_eq!((unknown.code, &unknown.body["reason"]), (504, &json!("Timeout")));
    });
}

#[test]
fn who_always_loses_against_others_is_told_to_come_again() {
    rt::task::block_on(async {
        let current = Api::new().await;
        current.run_pod("p").await;
        let losing = Arc::new(Lagging::over(&current));
        let api = Api::over(losing.clone());
        *lock(&losing.answer) = Some(Ok(TxnResponse::default()));
        let evicted = api.evict("p", json!({})).await;
        assert_eq!(
            (evicted.code, &evicted.body["details"]["retryAfterSeconds"]),
            (429, &json!(10)),
            "{}",
            evicted.text
        );
        let patched = api.call("PATCH", "/api/v1/namespaces/a/pods/p", r#"{"metadata":{"labels":{"x":"1"}}}"#).await;
        assert_eq!((patched.code, &patched.body["reason"]), (409, &json!("Conflict")), "{}", patched.text);
        // A precondition that fails never comes to hold.
        let other = api.evict("p", json!({"preconditions": {"uid": "another"}})).await;
        assert_eq!((other.code, &other.body["reason"]), (409, &json!("Conflict")), "{}", other.text);
    });
}
