//! Requests of users, as kubectl would send them: method, path and body.

use super::plan::{app_name, is_left_alone, namespace_of};
use http::Method;
use serde_json::{Value, json};

/// `kubectl patch --type merge`.
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// An image that whoever runs the nodes must not let be pulled.
pub const MISSING_IMAGE: &str = "hollow/missing";

/// A rollout of what cannot run is given up after this long, so that a trial sees it.
const PROGRESS_DEADLINE_S: u32 = 60;

/// A request of a user.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ask {
    /// What the user would call it.
    pub what: &'static str,
    /// The object, as `resource namespace/name`.
    pub object: String,
    /// HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Of the body.
    pub content_type: &'static str,
    /// Empty for none.
    pub body: String,
}

/// What a pod that runs once is like.
pub(super) struct Once<'a> {
    /// For how long it runs.
    pub seconds: u64,
    /// Its exit code.
    pub code: u8,
    /// How much of a processor it asks for.
    pub cpu: &'a str,
    /// The one node that it is for, if it is.
    pub node: Option<&'a str>,
}

fn ask(what: &'static str, object: String, method: Method, path: String, body: Option<Value>) -> Ask {
    let content_type = if method == Method::PATCH { MERGE } else { JSON };
    Ask { what, object, method, path, content_type, body: body.map(|body| body.to_string()).unwrap_or_default() }
}

/// Path of a collection of the three kinds that an app is made of.
fn collection(resource: &str, namespace: &str) -> String {
    let group = match resource {
        "deployments" => "/apis/apps/v1",
        "poddisruptionbudgets" => "/apis/policy/v1",
        _ => "/api/v1",
    };
    format!("{group}/namespaces/{namespace}/{resource}")
}

/// The containers of an app's pods. A version that cannot run names an image that cannot be pulled.
/// Every fourth app says by gRPC when it is ready.
fn containers(app: u32, version: u32, broken: bool) -> Value {
    let image = if broken { format!("{MISSING_IMAGE}:{version}") } else { format!("hollow/web:{version}") };
    let probe = |handler: &str, how: Value| json!({handler: how, "periodSeconds": 10, "timeoutSeconds": 2});
    let http = || probe("httpGet", json!({"path": "/healthz", "port": 8080}));
    let ready = if app % 4 == 3 { probe("grpc", json!({"port": 8080})) } else { http() };
    json!([{
        "name": "web",
        "image": image,
        "env": [{"name": "VERSION", "value": version.to_string()}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "readinessProbe": ready,
        "livenessProbe": http(),
    }])
}

/// For how long an app's pods stay on a node that is lost: more than half of the users want them elsewhere soon, most of
/// those among them who leave their app alone.
fn tolerations(app: u32) -> Value {
    let soon = if is_left_alone(app) { app % 4 != 2 } else { app % 3 == 1 };
    if !soon {
        return json!([]);
    }
    let seconds = 10 + app % 4 * 10;
    let tolerates = |condition: &str| json!({"key": format!("node.kubernetes.io/{condition}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    json!([tolerates("not-ready"), tolerates("unreachable")])
}

impl Ask {
    /// The namespaces that the apps live in.
    pub fn namespace(name: &str) -> Self {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ask("create", format!("namespaces {name}"), Method::POST, "/api/v1/namespaces".into(), Some(body))
    }

    pub(super) fn create(app: u32, replicas: u32, version: u32) -> Vec<Self> {
        let (name, namespace) = (app_name(app), namespace_of(app));
        let labels = json!({"app": name});
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": replicas,
                "progressDeadlineSeconds": PROGRESS_DEADLINE_S,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "containers": containers(app, version, false),
                        "terminationGracePeriodSeconds": 5,
                        "tolerations": tolerations(app),
                    },
                },
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        });
        let mut objects = vec![("deployments", deployment), ("services", service)];
        if app.is_multiple_of(2) {
            let mut budget = json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata,
                "spec": {"selector": {"matchLabels": labels}},
            });
            // One that allows one at a time, and one that allows several at once.
            budget["spec"][if app.is_multiple_of(4) { "maxUnavailable" } else { "minAvailable" }] = json!(1);
            objects.push(("poddisruptionbudgets", budget));
        }
        let ask = |(resource, body): (&str, Value)| {
            let object = format!("{resource} {namespace}/{name}");
            ask("create", object, Method::POST, collection(resource, namespace), Some(body))
        };
        objects.into_iter().map(ask).collect()
    }

    fn patch(what: &'static str, app: u32, patch: Value) -> Self {
        let (name, namespace) = (app_name(app), namespace_of(app));
        let path = format!("{}/{name}", collection("deployments", namespace));
        ask(what, format!("deployments {namespace}/{name}"), Method::PATCH, path, Some(patch))
    }

    pub(super) fn scale(app: u32, replicas: u32) -> Self {
        Self::patch("scale", app, json!({"spec": {"replicas": replicas}}))
    }

    pub(super) fn roll(app: u32, version: u32, broken: bool) -> Self {
        let what = if broken { "break" } else { "roll" };
        Self::patch(
            what,
            app,
            json!({"spec": {"template": {"spec": {"containers": containers(app, version, broken)}}}}),
        )
    }

    pub(super) fn pause(app: u32, paused: bool) -> Self {
        Self::patch(if paused { "pause" } else { "resume" }, app, json!({"spec": {"paused": paused}}))
    }

    pub(super) fn strategy(app: u32, recreate: bool, surge: u32, unavailable: u32) -> Self {
        let strategy = if recreate {
            json!({"type": "Recreate", "rollingUpdate": null})
        } else {
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
        };
        Self::patch("strategy", app, json!({"spec": {"strategy": strategy}}))
    }

    pub(super) fn delete(app: u32, foreground: bool) -> Vec<Self> {
        let (name, namespace) = (app_name(app), namespace_of(app));
        let policy = if foreground { "Foreground" } else { "Background" };
        let mut resources = vec!["deployments", "services"];
        if app.is_multiple_of(2) {
            resources.push("poddisruptionbudgets");
        }
        let ask = |resource: &str| {
            let path = format!("{}/{name}", collection(resource, namespace));
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
            ask("delete", format!("{resource} {namespace}/{name}"), Method::DELETE, path, Some(options))
        };
        resources.into_iter().map(ask).collect()
    }

    /// Whether a node takes pods.
    pub(super) fn cordon(node: &str, cordoned: bool) -> Self {
        let body = json!({"spec": {"unschedulable": if cordoned { Value::Bool(true) } else { Value::Null }}});
        let what = if cordoned { "cordon" } else { "uncordon" };
        ask(what, format!("nodes {node}"), Method::PATCH, format!("/api/v1/nodes/{node}"), Some(body))
    }

    /// A pod that runs once and is never restarted.
    pub(super) fn run_once(name: &str, once: &Once<'_>) -> Self {
        let mut body = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": "once"}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "containers": [{
                    "name": "once",
                    "image": "hollow/job:1",
                    "env": [
                        {"name": "HOLLOW_RUN_MS", "value": (once.seconds * 1000).to_string()},
                        {"name": "HOLLOW_EXIT_CODE", "value": once.code.to_string()},
                    ],
                    "resources": {"requests": {"cpu": once.cpu, "memory": "32Mi"}},
                }],
            },
        });
        if let Some(node) = once.node {
            body["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        }
        let object = format!("pods default/{name}");
        ask("run", object, Method::POST, "/api/v1/namespaces/default/pods".to_owned(), Some(body))
    }

    /// Evicts a pod, as its budget allows.
    pub(super) fn evict(namespace: &str, pod: &str) -> Self {
        let body =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        ask("evict", format!("pods {namespace}/{pod}"), Method::POST, path, Some(body))
    }

    /// Deletes a pod, whatever its budget.
    pub(super) fn delete_pod(namespace: &str, pod: &str) -> Self {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
        ask("delete", format!("pods {namespace}/{pod}"), Method::DELETE, path, None)
    }
}
