//! Lists and watches.

use crate::common::{Api, brief, show};
use expect_test::expect;
use serde_json::{Value, json};

const PATH: &str = "/api/v1/namespaces/a/configmaps";

async fn put(api: &Api, name: &str, labels: &str, value: &str) -> Value {
    let body = format!(r#"{{"metadata":{{"name":"{name}","labels":{labels}}},"data":{{"k":"{value}"}}}}"#);
    let created = api.call("POST", PATH, &body).await;
    if created.code == 201 {
        return created.body;
    }
    let updated = api.call("PUT", &format!("{PATH}/{name}"), &body).await;
    assert_eq!(updated.code, 200, "{}", updated.text);
    updated.body
}

fn version(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("it has a version")
}

#[test]
fn a_watch_tells_all_that_happens_to_what_it_selects() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let first = put(&api, "c", r#"{"x":"1"}"#, "1").await;
        put(&api, "d", r#"{"x":"2"}"#, "1").await;
        let from = version(&first) - 1;
        let mut all = api.watch(&format!("{PATH}?watch=1&resourceVersion={from}")).await;
        let mut ones = api.watch(&format!("{PATH}?watch=1&resourceVersion={from}&labelSelector=x%3D1")).await;
        let mut named =
            api.watch(&format!("{PATH}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Dd")).await;
        put(&api, "c", r#"{"x":"1"}"#, "2").await;
        put(&api, "c", r#"{"x":"2"}"#, "2").await;
        let entered = put(&api, "d", r#"{"x":"1"}"#, "2").await;
        api.call("DELETE", &format!("{PATH}/d"), "").await;
        assert_eq!(all.events(6).await, ["ADDED c", "ADDED d", "MODIFIED c", "MODIFIED c", "MODIFIED d", "DELETED d"]);
        assert_eq!(ones.events(4).await, ["ADDED c", "MODIFIED c", "DELETED c", "ADDED d"]);
        assert_eq!(named.events(3).await, ["ADDED d", "MODIFIED d", "DELETED d"]);
        let gone = ones.next().await.unwrap();
        assert_eq!((show(&gone), version(&gone["object"])), ("DELETED d".to_owned(), version(&entered) + 1));
        assert_eq!(gone["object"]["data"]["k"], "2", "the last state is shown");
    });
}

#[test]
fn without_a_version_a_watch_begins_with_what_is_there() {
    rt::task::block_on(async {
        let api = Api::new().await;
        put(&api, "c", "{}", "1").await;
        put(&api, "d", "{}", "1").await;
        for query in ["watch=1", "watch=true&resourceVersion=0"] {
            let mut watch = api.watch(&format!("{PATH}?{query}")).await;
            assert_eq!(watch.events(2).await, ["ADDED c", "ADDED d"]);
        }
        let mut legacy = api.watch("/api/v1/watch/namespaces/a/configmaps/d").await;
        assert_eq!(legacy.events(1).await, ["ADDED d"]);
    });
}

#[test]
fn a_streamed_list_ends_in_a_bookmark_that_says_so() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let last = put(&api, "c", "{}", "1").await;
        let path =
            format!("{PATH}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
        let mut watch = api.watch(&path).await;
        assert_eq!(show(&watch.next().await.unwrap()), "ADDED c");
        let end = watch.next().await.unwrap();
        assert_eq!(show(&end), r#"BOOKMARK {"k8s.io/initial-events-end":"true"}"#);
        assert!(version(&end["object"]) >= version(&last));
        api.call("POST", "/api/v1/namespaces", r#"{"metadata":{"name":"b"}}"#).await;
        let bookmark = watch.next().await.unwrap();
        assert_eq!((show(&bookmark), &bookmark["object"]["kind"]), ("BOOKMARK null".to_owned(), &json!("ConfigMap")));
        assert!(version(&bookmark["object"]) > version(&last), "what happens elsewhere is past too");
    });
}

#[test]
fn a_watch_ends_when_it_wants_to_and_when_compaction_overtakes_it() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let mut short = api.watch(&format!("{PATH}?watch=1&timeoutSeconds=1")).await;
        assert!(short.next().await.is_none());
        for n in 0..5 {
            put(&api, "c", "{}", &n.to_string()).await;
        }
        let revision = api.store.latest().revision();
        api.store.compact(revision - 1).await.unwrap();
        let fresh = Api::over(api.store.clone());
        let mut old = fresh.watch(&format!("{PATH}?watch=1&resourceVersion=3")).await;
        let error = old.next().await.unwrap();
        assert_eq!(
            (&error["type"], &error["object"]["code"], &error["object"]["reason"]),
            (&json!("ERROR"), &json!(410), &json!("Expired"))
        );
        assert_eq!(show(&error), format!("ERROR too old resource version: 3 ({})", revision - 1));
        assert!(old.next().await.is_none());
        let far = fresh.call("GET", &format!("{PATH}?watch=1&resourceVersion=9999"), "").await;
        assert_eq!((far.code, &far.body["details"]["causes"][0]["reason"]), (504, &json!("ResourceVersionTooLarge")));
    });
}

#[test]
fn tables_are_watched_with_their_columns_once() {
    rt::task::block_on(async {
        let api = Api::new().await;
        put(&api, "c", "{}", "1").await;
        put(&api, "d", "{}", "1").await;
        let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        let response = api.open("GET", &format!("{PATH}?watch=1&timeoutSeconds=1"), &[accept], b"").await;
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let events: Vec<Value> = body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(events.len(), 2);
        assert!(
            events[0]["object"]["columnDefinitions"].is_array() && events[1]["object"]["columnDefinitions"].is_null()
        );
        assert_eq!(events[1]["object"]["rows"][0]["cells"][0], "d");
    });
}

#[test]
fn pages_are_of_one_version() {
    rt::task::block_on(async {
        let api = Api::new().await;
        for n in 0..7 {
            put(&api, &format!("c{n}"), if n % 2 == 0 { r#"{"x":"1"}"# } else { "{}" }, "1").await;
        }
        let first = api.call("GET", &format!("{PATH}?limit=3"), "").await;
        assert_eq!(first.body["metadata"]["remainingItemCount"], 4);
        put(&api, "c3", "{}", "2").await;
        put(&api, "c9", "{}", "1").await;
        let mut names = Vec::new();
        let mut page = first.body;
        let listed = page["metadata"]["resourceVersion"].clone();
        loop {
            assert_eq!(page["metadata"]["resourceVersion"], listed);
            for item in page["items"].as_array().unwrap() {
                names.push(format!(
                    "{}={}",
                    item["metadata"]["name"].as_str().unwrap(),
                    item["data"]["k"].as_str().unwrap()
                ));
            }
            let Some(token) = page["metadata"]["continue"].as_str() else { break };
            // Any server gives the next page.
            page = Api::over(api.store.clone()).call("GET", &format!("{PATH}?limit=3&continue={token}"), "").await.body;
        }
        assert_eq!(names, ["c0=1", "c1=1", "c2=1", "c3=1", "c4=1", "c5=1", "c6=1"]);
        let selected = api.call("GET", &format!("{PATH}?limit=2&labelSelector=x%3D1"), "").await;
        let meta = &selected.body["metadata"];
        assert_eq!(selected.body["items"].as_array().unwrap().len(), 2);
        assert!(meta["continue"].is_string() && meta["remainingItemCount"].is_null());
        let rest = api
            .call(
                "GET",
                &format!("{PATH}?limit=2&labelSelector=x%3D1&continue={}", meta["continue"].as_str().unwrap()),
                "",
            )
            .await;
        assert_eq!(rest.body["items"].as_array().unwrap().len(), 2);
        assert!(rest.body["metadata"]["continue"].is_null());
    });
}

#[test]
fn pages_that_were_compacted_say_how_to_go_on() {
    rt::task::block_on(async {
        let api = Api::new().await;
        for n in 0..4 {
            put(&api, &format!("c{n}"), "{}", "1").await;
        }
        let first = api.call("GET", &format!("{PATH}?limit=2"), "").await;
        let token = first.body["metadata"]["continue"].as_str().unwrap().to_owned();
        put(&api, "c3", "{}", "2").await;
        api.store.compact(api.store.latest().revision()).await.unwrap();
        let gone = api.call("GET", &format!("{PATH}?limit=2&continue={token}"), "").await;
        assert_eq!((gone.code, &gone.body["reason"]), (410, &json!("Expired")));
        let token = gone.body["metadata"]["continue"].as_str().unwrap().to_owned();
        let rest = api.call("GET", &format!("{PATH}?limit=2&continue={token}"), "").await;
        assert_eq!(rest.body["items"].as_array().unwrap().len(), 2);
        let old = api.call("GET", &format!("{PATH}?resourceVersion=3&resourceVersionMatch=Exact"), "").await;
        expect!["410 Expired: The resourceVersion for the provided list is too old."].assert_eq(&brief(&old));
    });
}

#[test]
fn versions_are_honoured() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let first = put(&api, "c", "{}", "1").await;
        put(&api, "c", "{}", "2").await;
        let at = version(&first);
        let exact = api.call("GET", &format!("{PATH}?resourceVersion={at}&resourceVersionMatch=Exact"), "").await;
        assert_eq!(
            (&exact.body["items"][0]["data"]["k"], &exact.body["metadata"]["resourceVersion"]),
            (&json!("1"), &json!(at.to_string()))
        );
        let newer = api.call("GET", &format!("{PATH}?resourceVersion={at}"), "").await;
        assert_eq!(newer.body["items"][0]["data"]["k"], "2");
        let far = api.call("GET", &format!("{PATH}?resourceVersion=9999"), "").await;
        expect!["504 Timeout: Timeout: Too large resource version: 9999, current: 5"].assert_eq(&brief(&far));
        let any = api.call("GET", &format!("{PATH}/c?resourceVersion=0"), "").await;
        assert_eq!(any.body["data"]["k"], "2");
    });
}
