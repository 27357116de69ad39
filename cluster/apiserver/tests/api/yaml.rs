//! Bodies and answers in YAML.

use crate::common::{Answer, Api, brief};
use rt::task::block_on;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

const SENT: (&str, &str) = ("content-type", "application/yaml");
const TAKEN: (&str, &str) = ("accept", "application/yaml");

async fn create(api: &Api, query: &str, body: &str) -> Answer {
    api.send("POST", &format!("{MAPS}{query}"), &[SENT], body.as_bytes()).await
}

#[test]
fn an_object_is_created_and_replaced_from_yaml() {
    block_on(async {
        let api = Api::new().await;
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: |\n    one\n    two\n";
        let made = create(&api, "", manifest).await;
        assert_eq!((made.code, &made.body["data"]["a"]), (201, &"one\ntwo\n".into()));
        let replaced = api
            .send("PUT", &format!("{MAPS}/m"), &[SENT, TAKEN], b"metadata: {name: m}\ndata: {a: \"1\", b: '2'}\n")
            .await;
        assert_eq!(replaced.code, 200);
        assert_eq!(replaced.headers["content-type"], "application/yaml");
        assert!(replaced.text.starts_with("apiVersion: v1\ndata:\n  a: \"1\"\n  b: \"2\"\nkind: ConfigMap\n"));
        let deleted = api.send("DELETE", &format!("{MAPS}/m"), &[SENT], b"propagationPolicy: Background\n").await;
        assert_eq!(deleted.code, 200);
    });
}

#[test]
fn keys_that_stand_twice_are_warned_of_or_refused() {
    block_on(async {
        let api = Api::new().await;
        let twice = "metadata:\n  name: m\ndata:\n  a: v\n  a: w\nextra: 1\n";
        let refused = create(&api, "?fieldValidation=Strict", twice).await;
        assert_eq!(
            brief(&refused),
            "400 BadRequest: ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: \
             unmarshal errors:\n  line 5: key \"a\" already set in map, unknown field \"extra\""
        );
        let warned = create(&api, "", twice).await;
        assert_eq!((warned.code, &warned.body["data"]["a"]), (201, &"w".into()));
        assert_eq!(
            warned.headers["warning"],
            "299 - \"yaml: unmarshal errors:   line 5: key \\\"a\\\" already set in map\""
        );
    });
}

#[test]
fn what_is_no_yaml_is_refused_and_patches_are_not_yaml() {
    block_on(async {
        let api = Api::new().await;
        let broken = create(&api, "", "metadata: {name: m\n").await;
        assert_eq!(broken.code, 400);
        assert!(brief(&broken).contains("error converting YAML to JSON: yaml: line 2: "), "{}", brief(&broken));
        assert_eq!(create(&api, "", "- a\n").await.code, 400);
        assert_eq!(create(&api, "", "").await.code, 400);
        let wrong = create(&api, "", "metadata: {name: m}\ndata: {a: 1}\n").await;
        assert!(
            brief(&wrong).starts_with("400 BadRequest: ConfigMap in version \"v1\" cannot be handled"),
            "{wrong:?}"
        );
        for kind in ["application/apply-patch+yaml", "application/yaml"] {
            let patch = api.send("PATCH", &format!("{MAPS}/m"), &[("content-type", kind)], b"data: {}").await;
            assert_eq!(patch.code, 415);
        }
    });
}

#[test]
fn lists_tables_and_failures_are_answered_in_yaml_and_watches_are_not() {
    block_on(async {
        let api = Api::new().await;
        create(&api, "", "metadata: {name: m}").await;
        let list = api.send("GET", MAPS, &[TAKEN], b"").await;
        assert!(
            list.text.starts_with("apiVersion: v1\nitems:\n- metadata:\n    creationTimestamp: \""),
            "{}",
            list.text
        );
        let table = "application/yaml;as=Table;v=v1;g=meta.k8s.io";
        let table = api.send("GET", MAPS, &[("accept", table)], b"").await;
        assert!(
            table.text.contains("\nkind: Table\n") && table.text.contains("- cells:\n  - m\n  - 0\n"),
            "{}",
            table.text
        );
        let missing = api.send("GET", &format!("{MAPS}/x"), &[TAKEN], b"").await;
        assert_eq!(missing.code, 404);
        assert!(missing.text.contains("\nmessage: configmaps \"x\" not found\n"), "{}", missing.text);
        let watch = api.send("GET", &format!("{MAPS}?watch=1"), &[TAKEN], b"").await;
        assert_eq!(watch.code, 406);
        // Whoever takes anything gets JSON.
        let any = api.send("GET", MAPS, &[("accept", "*/*, application/yaml")], b"").await;
        assert_eq!(any.headers["content-type"], "application/json");
    });
}
