//! Objects from their creation to their end, through requests.

use crate::common::{Api, brief, pod};
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use std::net::SocketAddr;

fn word<'a>(words: &mut impl Iterator<Item = &'a str>) -> &'a str {
    words.next().expect("a line has a method and a path")
}

/// Lines of `METHOD path body`, and their answers.
async fn script(api: &Api, lines: &str) -> String {
    let mut out = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (method, path, body) = (word(&mut words), word(&mut words), words.next().unwrap_or_default());
        let answer = api.call(method, path, body).await;
        out.push_str(&format!(
            "{method} {}: {}\n",
            path.rsplit('/').next().unwrap_or_default(),
            without_uids(&brief(&answer))
        ));
    }
    out
}

/// UIDs are another each time.
fn without_uids(text: &str) -> String {
    let is_uid = |word: &&str| word.len() == 36 && word.matches('-').count() == 4;
    text.split(' ').map(|word| if is_uid(&word) { "UID" } else { word }).collect::<Vec<_>>().join(" ")
}

fn check(lines: &'static str, expected: Expect) {
    rt::task::block_on(async {
        let api = Api::new().await;
        expected.assert_eq(&script(&api, lines).await);
    });
}

#[test]
fn an_object_is_created_read_changed_and_deleted() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let path = "/api/v1/namespaces/a/configmaps";
        let created = api.call("POST", path, r#"{"metadata":{"name":"c"},"data":{"k":"1"}}"#).await;
        assert_eq!(created.code, 201, "{}", created.text);
        let meta = &created.body["metadata"];
        assert_eq!((&created.body["kind"], &created.body["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
        assert_eq!((&meta["namespace"], meta["uid"].as_str().unwrap().len()), (&json!("a"), 36));
        assert!(meta["creationTimestamp"].as_str().unwrap().ends_with('Z'));
        let one = format!("{path}/c");
        let read = api.call("GET", &one, "").await;
        assert_eq!((read.code, &read.body), (200, &created.body));
        let mut changed = read.body.clone();
        changed["data"]["k"] = "2".into();
        let updated = api.call("PUT", &one, &changed.to_string()).await;
        assert_eq!((updated.code, &updated.body["data"]["k"]), (200, &json!("2")));
        let again = api.call("PUT", &one, &changed.to_string()).await;
        assert_eq!(
            brief(&again),
            "409 Conflict: Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your \
             changes to the latest version and try again"
        );
        let same = api.call("PUT", &one, &updated.body.to_string()).await;
        assert_eq!(same.body, updated.body, "what changes nothing makes no version");
        let patched = api.call("PATCH", &one, r#"{"data":{"l":"3"}}"#).await;
        assert_eq!(patched.body["data"], json!({"k": "2", "l": "3"}));
        let list = api.call("GET", path, "").await;
        assert_eq!(list.body["kind"], "ConfigMapList");
        assert_eq!(list.body["items"][0]["metadata"], patched.body["metadata"]);
        let deleted = api.call("DELETE", &one, "").await;
        assert_eq!((deleted.code, &deleted.body["status"]), (200, &json!("Success")));
        assert_eq!(deleted.body["details"]["uid"], meta["uid"]);
        assert_eq!(brief(&api.call("GET", &one, "").await), "404 NotFound: configmaps \"c\" not found");
    });
}

#[test]
fn refusals_are_upstreams() {
    check(
        r#"
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"c"}}
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"c"}}
        POST /api/v1/namespaces/b/configmaps {"metadata":{"name":"c"}}
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"d","namespace":"b"}}
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"D"}}
        POST /api/v1/namespaces/a/configmaps {"metadata":{}}
        POST /api/v1/namespaces/a/configmaps {"kind":"Secret","metadata":{"name":"d"}}
        POST /api/v1/namespaces/a/configmaps {"apiVersion":"v2","metadata":{"name":"d"}}
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"d","resourceVersion":"1"}}
        POST /api/v1/namespaces/a/configmaps {"data":7}
        POST /api/v1/namespaces/a/configmaps {
        POST /api/v1/configmaps {"metadata":{"name":"d"}}
        PUT /api/v1/namespaces/a/configmaps/c {"metadata":{"name":"d"}}
        PUT /api/v1/namespaces/a/configmaps/d {"metadata":{"name":"d"}}
        PATCH /api/v1/namespaces/a/configmaps/d {}
        PATCH /api/v1/namespaces/a/configmaps/c {"metadata":{"uid":"x"}}
        PATCH /api/v1/namespaces/a/configmaps/c {"metadata":{"resourceVersion":"1"}}
        GET /api/v1/namespaces/a/configmaps?fieldSelector=spec.x%3D1
        GET /api/v1/namespaces/a/gadgets
        POST /api/v1/namespaces/a/configmaps?dryRun=x {"metadata":{"name":"d"}}
        DELETE /api/v1/namespaces/default
        "#,
        expect![[r#"
            POST configmaps: 201
            POST configmaps: 409 AlreadyExists: configmaps "c" already exists
            POST configmaps: 404 NotFound: namespaces "b" not found
            POST configmaps: 400 BadRequest: the namespace of the provided object does not match the namespace sent on the request
            POST configmaps: 422 Invalid: ConfigMap "D" is invalid: metadata.name: Invalid value: "D": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            POST configmaps: 422 Invalid: ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required
            POST configmaps: 400 BadRequest: Secret in version "v1" cannot be handled as a ConfigMap
            POST configmaps: 400 BadRequest: the API version in the data (v2) does not match the expected API version (v1)
            POST configmaps: 500 : resourceVersion should not be set on objects to be created
            POST configmaps: 400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type map[string]string
            POST configmaps: 400 BadRequest: couldn't get version/kind; json parse error: EOF while parsing an object at line 1 column 1
            POST configmaps: 405 MethodNotAllowed: the server does not allow this method on the requested resource
            PUT c: 400 BadRequest: the name of the object (d) does not match the name on the URL (c)
            PUT d: 404 NotFound: configmaps "d" not found
            PATCH d: 404 NotFound: configmaps "d" not found
            PATCH c: 409 Conflict: Operation cannot be fulfilled on configmaps "c": Precondition failed: UID in precondition: x, UID in object meta: UID
            PATCH c: 409 Conflict: Operation cannot be fulfilled on configmaps "c": the object has been modified; please apply your changes to the latest version and try again
            GET configmaps?fieldSelector=spec.x%3D1: 400 BadRequest: "spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"
            GET gadgets: 404 NotFound: the server could not find the requested resource
            POST configmaps?dryRun=x: 422 Invalid: CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "x": supported values: "All"
            DELETE default: 403 Forbidden: namespaces "default" is forbidden: this namespace may not be deleted
        "#]],
    );
}

#[test]
fn nothing_is_created_in_a_namespace_that_is_being_deleted() {
    check(
        r#"
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"c"}}
        DELETE /api/v1/namespaces/a
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"d"}}
        PATCH /api/v1/namespaces/a/configmaps/c {"data":{"k":"1"}}
        PUT /api/v1/namespaces/a/finalize {"metadata":{"name":"a"},"spec":{"finalizers":[]}}
        GET /api/v1/namespaces/a
        "#,
        expect![[r#"
            POST configmaps: 201
            DELETE a: 200
            POST configmaps: 403 Forbidden: configmaps "d" is forbidden: unable to create new content in namespace a because it is being terminated
            PATCH c: 200
            PUT finalize: 200
            GET a: 404 NotFound: namespaces "a" not found
        "#]],
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    check(
        r#"
        POST /api/v1/namespaces/a/configmaps?dryRun=All {"metadata":{"name":"c"}}
        GET /api/v1/namespaces/a/configmaps/c
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"c"}}
        PATCH /api/v1/namespaces/a/configmaps/c?dryRun=All {"data":{"k":"1"}}
        DELETE /api/v1/namespaces/a/configmaps/c?dryRun=All
        GET /api/v1/namespaces/a/configmaps/c
        "#,
        expect![[r#"
            POST configmaps?dryRun=All: 201
            GET c: 404 NotFound: configmaps "c" not found
            POST configmaps: 201
            PATCH c?dryRun=All: 200
            DELETE c?dryRun=All: 200
            GET c: 200
        "#]],
    );
}

#[test]
fn names_are_generated() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let body = r#"{"metadata":{"generateName":"c-"}}"#;
            let created = api.call("POST", "/api/v1/namespaces/a/configmaps", body).await;
            assert_eq!(created.code, 201);
            names.insert(created.body["metadata"]["name"].as_str().unwrap().to_owned());
        }
        assert!(names.len() == 20 && names.iter().all(|name| name.len() == 7 && name.starts_with("c-")), "{names:?}");
    });
}

#[test]
fn unknown_and_duplicate_fields_are_warned_of_or_refused() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let body = r#"{"metadata":{"name":"c"},"dada":{"k":"1"},"data":{},"data":{"k":"1"}}"#;
        let path = "/api/v1/namespaces/a/configmaps";
        let strict = api.call("POST", &format!("{path}?fieldValidation=Strict"), body).await;
        expect![[r#"400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data", unknown field "dada""#]].assert_eq(&brief(&strict));
        let warned = api.call("POST", path, body).await;
        let warnings: Vec<&str> = warned.headers.get_all("warning").iter().map(|w| w.to_str().unwrap()).collect();
        expect![[r#"
            299 - "duplicate field \"data\""
            299 - "unknown field \"dada\"""#]]
        .assert_eq(&warnings.join("\n"));
        let patch = api.call("PATCH", &format!("{path}/c?fieldValidation=Strict"), r#"{"dada":1}"#).await;
        expect![[r#"422 Invalid:  "" is invalid: patch: Invalid value: "{\"dada\":1}": strict decoding error: unknown field "dada""#]].assert_eq(&brief(&patch));
        let ignored = api.call("PATCH", &format!("{path}/c?fieldValidation=Ignore"), r#"{"dada":1}"#).await;
        assert!(ignored.code == 200 && !ignored.headers.contains_key("warning"));
    });
}

#[test]
fn pods_are_admitted_bound_and_deleted_with_grace() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let pods = "/api/v1/namespaces/a/pods";
        let created = api.call("POST", pods, &pod("p")).await;
        assert_eq!(created.code, 201, "{}", created.text);
        let spec = &created.body["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["priority"], 0);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
        let bind =
            |node: &str| json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}}).to_string();
        let bound = api.call("POST", &format!("{pods}/p/binding"), &bind("n1")).await;
        assert_eq!((bound.code, &bound.body["status"]), (201, &json!("Success")), "{}", bound.text);
        let again = api.call("POST", &format!("{pods}/p/binding"), &bind("n2")).await;
        expect![[
            r#"409 Conflict: Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1""#
        ]]
        .assert_eq(&brief(&again));
        let on_node = api.call("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", "").await;
        assert_eq!(on_node.body["items"].as_array().unwrap().len(), 1);
        let elsewhere = api.call("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", "").await;
        assert_eq!(elsewhere.body["items"], json!([]));
        let status = r#"{"status":{"phase":"Running"}}"#;
        let running = api.call("PATCH", &format!("{pods}/p/status"), status).await;
        assert_eq!(running.body["status"]["phase"], "Running", "{}", running.text);
        let deleted = api.call("DELETE", &format!("{pods}/p"), "").await;
        let meta = &deleted.body["metadata"];
        assert_eq!((deleted.code, &meta["deletionGracePeriodSeconds"]), (200, &json!(30)));
        let gone = api.call("DELETE", &format!("{pods}/p?gracePeriodSeconds=0"), "").await;
        assert_eq!((gone.code, &gone.body["kind"]), (200, &json!("Pod")));
        assert_eq!(api.call("GET", &format!("{pods}/p"), "").await.code, 404);
    });
}

#[test]
fn priority_comes_from_the_class() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
        let class = r#"{"metadata":{"name":"high"},"value":1000,"globalDefault":true,"preemptionPolicy":"Never"}"#;
        assert_eq!(api.call("POST", classes, class).await.code, 201);
        let second = r#"{"metadata":{"name":"low"},"value":1,"globalDefault":true}"#;
        expect![[r#"403 Forbidden: priorityclasses.scheduling.k8s.io "low" is forbidden: PriorityClass high is already marked as default. Only one default can exist"#]].assert_eq(&brief(&api.call("POST", classes, second).await));
        let created = api.call("POST", "/api/v1/namespaces/a/pods", &pod("p")).await;
        let spec = &created.body["spec"];
        assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(1000), &json!("Never")));
        assert_eq!(spec["priorityClassName"], "high");
        let mut other: Value = serde_json::from_str(&pod("q")).unwrap();
        other["spec"]["priorityClassName"] = "none".into();
        let refused = api.call("POST", "/api/v1/namespaces/a/pods", &other.to_string()).await;
        expect![[r#"403 Forbidden: pods "q" is forbidden: no PriorityClass with name none was found"#]]
            .assert_eq(&brief(&refused));
    });
}

#[test]
fn finalizers_hold_an_object_until_an_update_takes_the_last_one() {
    check(
        r#"
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"c","finalizers":["x/y"]}}
        DELETE /api/v1/namespaces/a/configmaps/c
        PATCH /api/v1/namespaces/a/configmaps/c {"metadata":{"finalizers":["x/y","x/z"]}}
        GET /api/v1/namespaces/a/configmaps/c
        PATCH /api/v1/namespaces/a/configmaps/c {"metadata":{"finalizers":null}}
        GET /api/v1/namespaces/a/configmaps/c
        "#,
        expect![[r#"
            POST configmaps: 201
            DELETE c: 200
            PATCH c: 422 Invalid: ConfigMap "c" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/z"}
            GET c: 200
            PATCH c: 200
            GET c: 404 NotFound: configmaps "c" not found
        "#]],
    );
}

#[test]
fn scale_is_read_and_written() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let path = "/apis/apps/v1/namespaces/a/deployments";
        let deployment = json!({
            "metadata": {"name": "d"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        });
        let created = api.call("POST", path, &deployment.to_string()).await;
        assert_eq!(created.code, 201, "{}", created.text);
        let scale = api.call("GET", &format!("{path}/d/scale"), "").await;
        assert_eq!((&scale.body["kind"], &scale.body["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
        assert_eq!(scale.body["status"]["selector"], "app=web");
        let patched = api.call("PATCH", &format!("{path}/d/scale"), r#"{"spec":{"replicas":3}}"#).await;
        assert_eq!((patched.code, &patched.body["spec"]["replicas"]), (200, &json!(3)), "{}", patched.text);
        let deployment = api.call("GET", &format!("{path}/d"), "").await;
        assert_eq!(
            (&deployment.body["spec"]["replicas"], &deployment.body["metadata"]["generation"]),
            (&json!(3), &json!(2))
        );
        let stale = api.call("PUT", &format!("{path}/d/scale"), &scale.body.to_string()).await;
        assert_eq!(stale.code, 409);
    });
}

#[test]
fn deposed_leaders_write_nothing() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let path = "/api/v1/namespaces/a/configmaps";
        let create = async |name: &str, number: u64| {
            let fence = format!("kube-system/scheduler={number}");
            let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
            api.send("POST", path, &[("seaworthy-fence", &fence)], body.as_bytes()).await
        };
        assert_eq!(create("c1", 3).await.code, 201);
        assert_eq!(create("c2", 3).await.code, 201);
        assert_eq!(create("c3", 5).await.code, 201);
        let stale = create("c4", 4).await;
        expect![[r#"409 Conflict: Operation cannot be fulfilled on configmaps "c4": leader 4 of kube-system/scheduler was deposed, 5 leads"#]].assert_eq(&brief(&stale));
        assert_eq!(stale.body["details"]["causes"][0]["reason"], "StaleFence");
        assert_eq!(api.call("GET", &format!("{path}/c4"), "").await.code, 404);
        let fences = api.send("POST", path, &[("seaworthy-fence", "x")], b"{}").await;
        assert_eq!(fences.code, 400);
    });
}

#[test]
fn budgets_guard_evictions() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let pods = "/api/v1/namespaces/a/pods";
        for name in ["p", "q"] {
            api.run_pod(name).await;
        }
        let path = "/apis/policy/v1/namespaces/a/poddisruptionbudgets";
        let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
        let created = api.call("POST", path, &budget.to_string()).await;
        assert_eq!(created.code, 201, "{}", created.text);
        let evict = async |name: &str| api.evict(name, json!({})).await;
        expect!["429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget."]
            .assert_eq(&brief(&evict("p").await));
        let status = json!({"status": {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "observedGeneration": 1}});
        let patched = api.call("PATCH", &format!("{path}/b/status"), &status.to_string()).await;
        assert_eq!(patched.code, 200, "{}", patched.text);
        let evicted = evict("p").await;
        assert_eq!((evicted.code, &evicted.body["status"]), (201, &json!("Success")), "{}", evicted.text);
        let going = api.call("GET", &format!("{pods}/p"), "").await;
        let conditions = going.body["status"]["conditions"].as_array().unwrap();
        assert!(conditions.iter().any(|condition| condition["reason"] == "EvictionByEvictionAPI"));
        assert_eq!(going.body["metadata"]["deletionGracePeriodSeconds"], 30);
        let noted = api.call("GET", &format!("{path}/b"), "").await;
        assert_eq!(noted.body["status"]["disruptionsAllowed"], 0);
        assert!(noted.body["status"]["disruptedPods"]["p"].is_string());
        let refused = evict("q").await;
        expect!["429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget."]
            .assert_eq(&brief(&refused));
        assert_eq!(refused.body["details"]["causes"][0]["reason"], "DisruptionBudget");
    });
}

#[test]
fn a_collection_is_deleted_as_far_as_it_is_meant() {
    check(
        r#"
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"c","labels":{"x":"1"}}}
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"d","labels":{"x":"2"}}}
        DELETE /api/v1/namespaces/a/configmaps?labelSelector=x%3D1
        GET /api/v1/namespaces/a/configmaps/c
        GET /api/v1/namespaces/a/configmaps/d
        DELETE /api/v1/namespaces
        "#,
        expect![[r#"
            POST configmaps: 201
            POST configmaps: 201
            DELETE configmaps?labelSelector=x%3D1: 200
            GET c: 404 NotFound: configmaps "c" not found
            GET d: 200
            DELETE namespaces: 405 MethodNotAllowed: the server does not allow this method on the requested resource
        "#]],
    );
}

#[test]
fn tables_and_metadata_are_made_on_the_server() {
    rt::task::block_on(async {
        let api = Api::new().await;
        api.call("POST", "/api/v1/namespaces/a/pods", &pod("p")).await;
        let table = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
        let answer = api.send("GET", "/api/v1/namespaces/a/pods", &[table], b"").await;
        assert_eq!((&answer.body["kind"], &answer.body["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
        assert_eq!(answer.body["columnDefinitions"][0]["name"], "Name");
        let row = &answer.body["rows"][0];
        assert_eq!((&row["cells"][0], &row["object"]["kind"]), (&json!("p"), &json!("PartialObjectMetadata")));
        let one = api.send("GET", "/api/v1/namespaces/a/pods/p", &[table], b"").await;
        assert_eq!(one.body["rows"][0]["cells"][0], "p");
        let metadata = ("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
        let list = api.send("GET", "/api/v1/pods", &[metadata], b"").await;
        assert_eq!(list.body["kind"], "PartialObjectMetadataList");
        assert_eq!(
            (&list.body["items"][0]["metadata"]["name"], &list.body["items"][0]["spec"]),
            (&json!("p"), &Value::Null)
        );
        let html = api.send("GET", "/api/v1/pods", &[("accept", "text/html")], b"").await;
        assert_eq!(html.code, 406);
        let body = api.send("POST", "/api/v1/namespaces/a/pods", &[("content-type", "text/plain")], b"x").await;
        assert_eq!(body.code, 415);
    });
}

#[test]
fn who_asks_is_known_and_may_not_do_everything() {
    struct ReadOnly;
    impl apiserver::Authorizer for ReadOnly {
        fn authorize(&self, user: &apiserver::User, attributes: &apiserver::Attributes<'_>) -> Result<(), String> {
            let reads = matches!(attributes.verb, "get" | "list" | "watch");
            if reads || user.name == "admin" { Ok(()) } else { Err(format!("{} only reads", user.name)) }
        }

        fn rules(&self, _: &apiserver::User) -> apiserver::Rules {
            apiserver::Rules::default()
        }
    }
    rt::task::block_on(async {
        let user = |last: u8, name: &str| ([10, 0, 0, last].into(), apiserver::User::new(name, &[]));
        let known = std::collections::BTreeMap::from([user(1, "reader"), user(2, "admin")]);
        let peers = std::sync::Arc::new(apiserver::PeerAuthenticator::new(known, None));
        let config = apiserver::Config { bootstrap: false, ..apiserver::Config::new("") };
        let store = std::sync::Arc::new(apiserver::MemoryStore::new());
        let core = std::sync::Arc::new(apiserver::Core::new(config, store, peers, std::sync::Arc::new(ReadOnly)));
        let ask = async |last: u8, method: &str| {
            let request = http::Request::builder().method(method).uri("/api/v1/namespaces");
            let request = request.body(bytes::Bytes::from_static(br#"{"metadata":{"name":"a"}}"#)).unwrap();
            let response = apiserver::handle(&core, &SocketAddr::from(([10, 0, 0, last], 7)).into(), request).await;
            let code = response.status().as_u16();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            format!("{code} {}", body["message"].as_str().unwrap_or_default())
        };
        assert_eq!(ask(3, "GET").await, "401 Unauthorized");
        assert_eq!(ask(1, "GET").await, "200 ");
        expect![[r#"403 namespaces is forbidden: User "reader" cannot create resource "namespaces" in API group "" at the cluster scope: reader only reads"#]].assert_eq(&ask(1, "POST").await);
        assert_eq!(ask(2, "POST").await, "201 ");
    });
}

#[test]
fn whoever_asks_too_much_is_told_to_come_back_and_nodes_are_not_kept_waiting() {
    rt::task::block_on(async {
        let user = |last: u8, name: &str, group: &str| ([10, 0, 0, last].into(), apiserver::User::new(name, &[group]));
        let known = [
            user(1, "system:node:n1", "system:nodes"),
            user(2, "ann", "system:authenticated"),
            user(3, "system:kube-scheduler", "system:authenticated"),
        ];
        let peers = std::sync::Arc::new(apiserver::PeerAuthenticator::new(known.into(), None));
        let config = apiserver::Config { bootstrap: false, max_requests_in_flight: 7, ..apiserver::Config::new("") };
        let store = std::sync::Arc::new(apiserver::MemoryStore::new());
        let access = std::sync::Arc::new(apiserver::AllowAll);
        let core = std::sync::Arc::new(apiserver::Core::new(config, store, peers, access));
        let ask = async |last: u8, path: &str| {
            let request = http::Request::builder().uri(path).body(bytes::Bytes::new()).unwrap();
            let response = apiserver::handle(&core, &SocketAddr::from(([10, 0, 0, last], 7)).into(), request).await;
            let later = response.headers().get("retry-after").map_or("-", |value| value.to_str().unwrap()).to_owned();
            (response.status().as_u16(), later)
        };
        assert_eq!(ask(2, "/api/v1/pods").await, (200, "-".to_owned()));
        let ann = || apiserver::Flow::new("global-default", "ann");
        let one = core.fairness.enter(apiserver::Level::GlobalDefault, ann()).await.unwrap();
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let core = std::sync::Arc::clone(&core);
                rt::task::spawn("waits", async move {
                    core.fairness.enter(apiserver::Level::GlobalDefault, ann()).await.map(drop)
                })
            })
            .collect();
        while core.view().levels["global-default"].waiting < 50 {
            rt::task::yield_now().await;
        }
        assert_eq!(ask(2, "/api/v1/pods").await, (429, "1".to_owned()));
        assert_eq!(ask(2, "/readyz").await.0, 200, "whoever probes is exempt");
        assert_eq!(ask(1, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1").await.0, 404);
        assert_eq!(ask(3, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler").await.0, 404);
        drop(one);
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        assert_eq!(ask(2, "/api/v1/pods").await.0, 200);
        let request = http::Request::builder().uri("/api/v1/pods?watch=true").body(bytes::Bytes::new()).unwrap();
        let watch = apiserver::handle(&core, &SocketAddr::from(([10, 0, 0, 2], 7)).into(), request).await;
        assert_eq!(watch.status().as_u16(), 200);
        assert_eq!(core.view().levels["global-default"].executing, 0, "a watch has a seat until it begins");
        drop(watch);
    });
}

#[test]
fn patches_of_many_at_once_all_apply() {
    rt::task::block_on(async {
        let api = Api::new().await;
        let path = "/api/v1/namespaces/a/configmaps";
        api.call("POST", path, r#"{"metadata":{"name":"c"}}"#).await;
        let mut tasks = Vec::new();
        for n in 0..8 {
            let api = api.clone();
            tasks.push(rt::task::spawn("patch", async move {
                let mut refused = 0;
                for m in 0..10 {
                    let patch = format!(r#"{{"data":{{"k{n}-{m}":"x"}}}}"#);
                    while api.call("PATCH", &format!("{path}/c"), &patch).await.code == 409 {
                        refused += 1;
                    }
                }
                refused
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let all = api.call("GET", &format!("{path}/c"), "").await;
        assert_eq!(all.body["data"].as_object().unwrap().len(), 80);
    });
}
