//! Questions that clients ask about themselves.

use crate::common::{Answer, Api, brief};
use ::http::Request;
use apiserver::{Authenticator, Config, ConnectionInfo, Core, MemoryStore, Roles, User, handle};
use bytes::Bytes;
use http_body_util::BodyExt;
use rt::task::block_on;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Everybody is somebody of this group.
struct Of(&'static str);

impl Authenticator for Of {
    fn authenticate(&self, _: &ConnectionInfo<'_>) -> Result<User, api::Status> {
        let mut user = User::new("ann", &[self.0]);
        user.extra.insert("example.com/team".to_owned(), vec!["a".to_owned()]);
        Ok(user)
    }
}

async fn ask(group: &'static str, path: &str, body: &Value) -> Value {
    let config = Config { bootstrap: false, ..Config::new("") };
    let core = Arc::new(Core::new(config, Arc::new(MemoryStore::new()), Arc::new(Of(group)), Arc::new(Roles)));
    let body = Bytes::from(body.to_string());
    let request = Request::builder().method("POST").uri(path).body(body).expect("a request");
    let response = handle(&core, &SocketAddr::from(([10, 0, 0, 1], 1_000)).into(), request).await;
    let bytes = response.into_body().collect().await.expect("bodies do not fail").to_bytes();
    serde_json::from_slice(&bytes).expect("answers are JSON")
}

async fn may(group: &'static str, spec: Value) -> Value {
    ask(group, ACCESS, &json!({"spec": spec})).await["status"]["allowed"].clone()
}

#[test]
fn a_user_is_told_who_they_are() {
    block_on(async {
        let answer = ask("system:authenticated", WHO, &json!({})).await;
        let expected =
            json!({"username": "ann", "groups": ["system:authenticated"], "extra": {"example.com/team": ["a"]}});
        assert_eq!(answer["status"]["userInfo"], expected);
        assert!(answer["metadata"]["creationTimestamp"].is_string());
        assert_eq!(
            (&answer["kind"], &answer["apiVersion"]),
            (&"SelfSubjectReview".into(), &"authentication.k8s.io/v1".into())
        );
    });
}

#[test]
fn what_is_answered_is_what_the_authorizer_says() {
    block_on(async {
        let pods = json!({"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "a"}});
        let metrics = json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}});
        assert_eq!(may("system:authenticated", pods).await, true);
        assert_eq!(may("system:authenticated", metrics.clone()).await, false);
        assert_eq!(may("system:monitoring", metrics).await, true);
        let both = json!({"spec": {"resourceAttributes": {}, "nonResourceAttributes": {}}});
        assert_eq!(ask("system:masters", ACCESS, &both).await["code"], 422);
        assert_eq!(ask("system:masters", ACCESS, &json!({})).await["code"], 422);
    });
}

#[test]
fn rules_are_those_of_the_users_role() {
    block_on(async {
        let of = async |group| ask(group, RULES, &json!({"spec": {"namespace": "a"}})).await["status"].clone();
        let all = of("system:masters").await;
        assert_eq!(all["resourceRules"], json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]));
        assert_eq!(all["nonResourceRules"], json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]));
        let few = of("system:authenticated").await["nonResourceRules"].to_string();
        assert!(few.contains("\"/version\"") && !few.contains("/metrics"), "{few}");
        assert!(of("system:monitoring").await["nonResourceRules"].to_string().contains("/metrics"));
        assert_eq!(ask("system:masters", RULES, &json!({})).await["code"], 400);
    });
}

#[test]
fn questions_are_discovered_and_nothing_else_can_be_done_with_them() {
    block_on(async {
        let api = Api::new().await;
        let get = async |path: &str| -> Answer { api.call("GET", path, "").await };
        let list = get("/apis/authorization.k8s.io/v1").await.body;
        assert_eq!(list["resources"][0]["name"], "selfsubjectaccessreviews");
        assert_eq!(list["resources"][0]["verbs"], json!(["create"]));
        let document = get("/openapi/v3/apis/authorization.k8s.io/v1").await.body;
        assert!(document["paths"][ACCESS]["post"].is_object() && document["paths"][ACCESS].get("get").is_none());
        assert!(document["components"]["schemas"].get("io.k8s.api.authorization.v1.SelfSubjectAccessReview").is_some());
        assert_eq!(brief(&get(ACCESS).await).split(':').next(), Some("405 MethodNotAllowed"));
        assert_eq!(get(&format!("{ACCESS}/a")).await.code, 404);
    });
}
