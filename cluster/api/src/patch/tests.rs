use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

/// What of the stated type comes out; objects in JSON.
fn check(short: &str, object: &str, patch: &str, expect: Expect) {
    expect.assert_eq(&patched(PatchKind::Strategic, short, object, patch));
}

fn patched(kind: PatchKind, short: &str, object: &str, patch: &str) -> String {
    let ty = crate::schema::find(&format!("io.k8s.api.{short}")).expect(short);
    let json = |text: &str| serde_json::from_str(text).expect(text);
    match apply(kind, ty, json(object), json(patch), 10_000) {
        Ok(value) => value.to_string(),
        Err(status) => {
            let cause = status.details.causes.iter().flatten().filter_map(|cause| cause.message.as_deref()).next();
            format!("{} {}", status.code, cause.unwrap_or(&status.message))
        }
    }
}

/// Names of containers, as an object and as a patch: `a=1` has image 1, `-a` is deleted, `*` replaces the list.
fn containers(text: &str) -> Vec<Value> {
    let one = |part: &str| match (part, part.strip_prefix('-'), part.split_once('=')) {
        ("*", ..) => json!({"$patch": "replace"}),
        (_, Some(name), _) => json!({"$patch": "delete", "name": name}),
        (_, _, Some((name, image))) => json!({"name": name, "image": image}),
        (name, ..) => json!({"name": name}),
    };
    text.split_whitespace().map(one).collect()
}

/// Merges two lists of containers, the second with an order if one is given.
fn list(before: &str, patch: &str, order: Option<&str>, expect: Expect) {
    let object = json!({ "containers": containers(before) });
    let mut patch = json!({ "containers": containers(patch) });
    if let Some(order) = order {
        patch["$setElementOrder/containers"] = containers(order).into();
    }
    let ty = crate::schema::find("io.k8s.api.core.v1.PodSpec").expect("known");
    let shown = match apply(PatchKind::Strategic, ty, object, patch, 0) {
        Ok(value) => {
            let show = |item: &Value| {
                let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
                let image = text("image");
                if image.is_empty() { text("name") } else { format!("{}={image}", text("name")) }
            };
            value["containers"].as_array().expect("a list").iter().map(show).collect::<Vec<_>>().join(" ")
        }
        Err(status) => status.message,
    };
    expect.assert_eq(&shown);
}

#[test]
fn lists_of_objects_are_merged_by_their_key() {
    list("a=1 b=1", "b=2", None, expect!["a=1 b=2"]);
    list("a=1 b=1 c=1", "c=2 a=2", None, expect!["b=1 c=2 a=2"]);
    list("", "a", None, expect!["a"]);
    list("a", "", None, expect!["a"]);
}

#[test]
fn what_is_new_stands_first_unless_the_patch_gives_an_order() {
    list("a b", "c", None, expect!["c a b"]);
    list("a b", "c", Some("a b c"), expect!["a b c"]);
    list("a b", "c", Some("b c a"), expect!["b c a"]);
    list("a x b y", "c=1", Some("b a c"), expect!["x b a c=1 y"]);
    list("a b c", "", Some("c a"), expect!["b c a"]);
}

#[test]
fn elements_are_deleted_and_lists_replaced_by_directives() {
    list("a b c", "-b", None, expect!["a c"]);
    list("a b c", "-b d", None, expect!["d a c"]);
    list("a b c", "-b -z", Some("a c"), expect!["a c"]);
    list("a b c", "* d a", None, expect!["d a"]);
    list("a b c", "*", None, expect![""]);
    list("a=1", "-a a=2", None, expect!["a=2"]);
}

#[test]
fn an_order_that_does_not_fit_is_refused() {
    list(
        "a",
        "b c",
        Some("c b"),
        expect![[r#"
        The order in patch list:
        [map[name:b] map[name:c]]
         doesn't match $setElementOrder list:
        [map[name:c] map[name:b]]
    "#]],
    );
    check(
        "core.v1.PodSpec",
        "{}",
        r#"{"$setElementOrder/containers":{}}"#,
        expect!["400 expected a list, but received a map"],
    );
    check(
        "core.v1.PodSpec",
        "{}",
        r#"{"$setElementOrder/a/b":[]}"#,
        expect!["400 invalid patch format of setElementOrder list"],
    );
}

#[test]
fn objects_are_merged_and_null_removes() {
    check(
        "core.v1.Pod",
        r#"{"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"nodeName":"n","priority":1}}"#,
        r#"{"metadata":{"labels":{"a":null,"c":"3","d":null},"annotations":{"x":"y","z":null}},"spec":{"nodeName":null,"priority":2}}"#,
        expect![[r#"{"metadata":{"annotations":{"x":"y"},"labels":{"b":"2","c":"3"}},"spec":{"priority":2}}"#]],
    );
    check(
        "core.v1.Pod",
        r#"{"metadata":{"labels":{"a":"1"}},"spec":{"nodeSelector":{"a":"1"}}}"#,
        r#"{"metadata":{"labels":{"$patch":"replace","b":"2"}},"spec":{"nodeSelector":{"$patch":"delete"}}}"#,
        expect![[r#"{"metadata":{"labels":{"b":"2"}},"spec":{"nodeSelector":{}}}"#]],
    );
    check(
        "core.v1.Pod",
        r#"{"spec":{"nodeName":"n"}}"#,
        r#"{"spec":null,"metadata":{"name":"x"}}"#,
        expect![[r#"{"metadata":{"name":"x"}}"#]],
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    check(
        "core.v1.PodSpec",
        r#"{"tolerations":[{"key":"a"},{"key":"b"}],"containers":[{"name":"a","args":["1","2"]}]}"#,
        r#"{"tolerations":[{"key":"c"}],"containers":[{"name":"a","args":["3"]}]}"#,
        expect![[r#"{"containers":[{"args":["3"],"name":"a"}],"tolerations":[{"key":"c"}]}"#]],
    );
}

#[test]
fn lists_of_texts_are_merged_and_deleted_from() {
    let object = r#"{"metadata":{"finalizers":["a","b","c"]}}"#;
    let finalizers = |patch: &str, expect| check("core.v1.Pod", object, &format!(r#"{{"metadata":{patch}}}"#), expect);
    finalizers(r#"{"finalizers":["b","d"]}"#, expect![[r#"{"metadata":{"finalizers":["a","b","d","c"]}}"#]]);
    finalizers(r#"{"finalizers":["d"]}"#, expect![[r#"{"metadata":{"finalizers":["d","a","b","c"]}}"#]]);
    finalizers(
        r#"{"$deleteFromPrimitiveList/finalizers":["b","x"]}"#,
        expect![[r#"{"metadata":{"finalizers":["a","c"]}}"#]],
    );
    finalizers(
        r#"{"$deleteFromPrimitiveList/finalizers":["b"],"finalizers":["d"],"$setElementOrder/finalizers":["c","d","a"]}"#,
        expect![[r#"{"metadata":{"finalizers":["c","d","a"]}}"#]],
    );
    finalizers(r#"{"finalizers":null}"#, expect![[r#"{"metadata":{}}"#]]);
    finalizers(r#"{"$deleteFromPrimitiveList/finalizers":"b"}"#, expect!["400 expected a list, but received a string"]);
    finalizers(r#"{"$deleteFromPrimitiveList/a/b":[]}"#, expect!["400 invalid patch format of primitive list"]);
    check(
        "core.v1.Pod",
        "{}",
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["b"]}}"#,
        expect![[r#"{"metadata":{}}"#]],
    );
}

#[test]
fn retain_keys_clears_what_is_not_named() {
    check(
        "apps.v1.DeploymentSpec",
        r#"{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}"#,
        r#"{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}"#,
        expect![[r#"{"strategy":{"type":"Recreate"}}"#]],
    );
    check(
        "core.v1.PodSpec",
        r#"{"volumes":[{"name":"a","emptyDir":{}},{"name":"b","emptyDir":{}}]}"#,
        r#"{"volumes":[{"$retainKeys":["name","hostPath"],"name":"a","hostPath":{"path":"/x"}}]}"#,
        expect![[r#"{"volumes":[{"hostPath":{"path":"/x"},"name":"a"},{"emptyDir":{},"name":"b"}]}"#]],
    );
    check(
        "apps.v1.DeploymentSpec",
        "{}",
        r#"{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}"#,
        expect![[r#"{"strategy":{"type":"Recreate"}}"#]],
    );
    check(
        "core.v1.PodSpec",
        "{}",
        r#"{"$retainKeys":["a"],"nodeName":"b"}"#,
        expect!["400 invalid patch format of retainKeys"],
    );
    check("core.v1.PodSpec", "{}", r#"{"$retainKeys":"a"}"#, expect!["400 invalid patch format of retainKeys"]);
}

#[test]
fn ports_are_merged_by_number_and_conditions_by_type() {
    check(
        "core.v1.ServiceSpec",
        r#"{"ports":[{"port":80,"nodePort":30000},{"port":81}]}"#,
        r#"{"ports":[{"port":80,"targetPort":"http"}]}"#,
        expect![[r#"{"ports":[{"nodePort":30000,"port":80,"targetPort":"http"},{"port":81}]}"#]],
    );
    check(
        "core.v1.NodeStatus",
        r#"{"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"False"}]}"#,
        r#"{"$setElementOrder/conditions":[{"type":"DiskPressure"},{"type":"Ready"}],"conditions":[{"type":"Ready","status":"Unknown"}]}"#,
        expect![[r#"{"conditions":[{"status":"False","type":"DiskPressure"},{"status":"Unknown","type":"Ready"}]}"#]],
    );
}

#[test]
fn directives_of_what_was_not_there_leave_no_trace() {
    check(
        "core.v1.Pod",
        "{}",
        r#"{"spec":{"containers":[{"name":"a","$setElementOrder/env":[{"name":"x"}],"env":[{"name":"x"},{"name":"y","$patch":"delete"}]}],"nodeSelector":{"$patch":"delete"}}}"#,
        expect![[r#"{"spec":{"containers":[{"env":[{"name":"x"}],"name":"a"}],"nodeSelector":{}}}"#]],
    );
}

#[test]
fn wrong_patches_are_told_as_upstream_tells_them() {
    let pod = r#"{"spec":{"containers":[{"name":"a"}],"nodeSelector":{"a":"b"}}}"#;
    let spec = |patch: &str, expect| check("core.v1.Pod", pod, &format!(r#"{{"spec":{patch}}}"#), expect);
    check("core.v1.Pod", pod, "[]", expect!["400 invalid JSON document"]);
    spec(
        r#"{"containers":[{"image":"i"}]}"#,
        expect!["400 map: map[image:i] does not contain declared merge key: name"],
    );
    spec(
        r#"{"containers":[{"$patch":"delete"}]}"#,
        expect!["400 map: map[$patch:delete] does not contain declared merge key: name"],
    );
    spec(
        r#"{"containers":[{"name":"a","$patch":"merge"}]}"#,
        expect!["400 merging lists cannot yet be specified in the patch"],
    );
    spec(
        r#"{"containers":[{"name":"a","$patch":"x"}]}"#,
        expect!["400 unknown patch type: x in map: map[$patch:x name:a]"],
    );
    spec(r#"{"nodeSelector":{"$patch":"x"}}"#, expect!["400 unknown patch type: x in map: map[$patch:x]"]);
    spec(r#"{"containers":["a"]}"#, expect!["400 list element types are not identical: [[map[name:a]] [a]]"]);
    spec(r#"{"containers":[["a"]]}"#, expect!["400 list element types are not identical: [[map[name:a]] [[a]]]"]);
    check(
        "core.v1.Pod",
        r#"{"foo":{}}"#,
        r#"{"foo":{}}"#,
        expect![[r#"400 unable to find api field in struct Pod for the json field "foo""#]],
    );
    check("core.v1.Pod", "{}", r#"{"foo":{"a":1}}"#, expect![[r#"{"foo":{"a":1}}"#]]);
}

#[test]
fn json_merge_patches_follow_the_rfc() {
    let merge = |object, patch| patched(PatchKind::Merge, "core.v1.Pod", object, patch);
    assert_eq!(merge(r#"{"a":"b"}"#, r#"{"a":"c"}"#), r#"{"a":"c"}"#);
    assert_eq!(merge(r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#), r#"{"b":"c"}"#);
    assert_eq!(merge(r#"{"a":["b"]}"#, r#"{"a":"c"}"#), r#"{"a":"c"}"#);
    assert_eq!(merge(r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#), r#"{"a":{"b":"d"}}"#);
    assert_eq!(merge(r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#), r#"{"a":[1]}"#);
    assert_eq!(merge("{}", r#"{"a":{"bb":{"ccc":null}}}"#), r#"{"a":{"bb":{}}}"#);
    assert_eq!(merge(r#"{"e":null}"#, r#"{"a":1}"#), r#"{"a":1,"e":null}"#);
    assert_eq!(merge("{}", "[]"), "400 Invalid JSON Patch");
}

#[test]
fn json_patches_change_what_they_point_at() {
    let json = |object, patch| patched(PatchKind::Json, "core.v1.Pod", object, patch);
    assert_eq!(
        json(r#"{"a":[1,2]}"#, r#"[{"op":"add","path":"/a/-","value":3},{"op":"remove","path":"/a/0"}]"#),
        r#"{"a":[2,3]}"#
    );
    assert_eq!(json(r#"{"a/b":1}"#, r#"[{"op":"replace","path":"/a~1b","value":2}]"#), r#"{"a/b":2}"#);
    assert_eq!(
        json(r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":1},{"op":"copy","from":"/a","path":"/b"}]"#),
        r#"{"a":1,"b":1}"#
    );
    assert_eq!(json(r#"{"a":1}"#, r#"[{"op":"move","from":"/a","path":"/b"}]"#), r#"{"b":1}"#);
    assert!(json(r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":2}]"#).starts_with("422 "));
    assert!(json("{}", r#"[{"op":"remove","path":"/a"}]"#).starts_with("422 "));
    assert!(json("{}", r#"[{"op":"dance"}]"#).starts_with("400 error decoding patch: "));
    assert!(json("{}", "{}").starts_with("400 error decoding patch: "));
}

#[test]
fn a_json_patch_finds_absent_what_is_tested_for_null() {
    let add = r#"{"op": "add", "path": "/metadata/finalizers", "value": ["a"]}"#;
    let patched = |object: Value, path: &str| {
        let patch = format!(r#"[{{"op": "test", "path": "{path}", "value": null}}, {add}]"#);
        super::json_patch::apply(object, serde_json::from_str(&patch).unwrap(), 1_000)
    };
    let expected = json!({"metadata": {"finalizers": ["a"]}});
    assert_eq!(patched(json!({"metadata": {}}), "/metadata/finalizers"), Ok(expected.clone()));
    assert_eq!(patched(json!({"metadata": {"finalizers": null}}), "/metadata/finalizers"), Ok(expected));
    let taken = patched(json!({"metadata": {"finalizers": ["b"]}}), "/metadata/finalizers");
    assert_eq!(taken.unwrap_err().code, 422);
    assert_eq!(patched(json!({"metadata": {}}), "/status/phase").unwrap_err().code, 422);
}

#[test]
fn a_json_patch_cannot_blow_an_object_up() {
    let ty = crate::schema::find("io.k8s.api.core.v1.Pod").expect("known");
    let run = |patch: Vec<Value>| apply(PatchKind::Json, ty, json!({"a": {"b": 1}, "x": {}}), patch.into(), 1 << 16);
    let nothing = json!({"op": "test", "path": "/a/b", "value": 1});
    assert!(run(vec![nothing.clone(); MAX_OPERATIONS]).is_ok());
    let status = run(vec![nothing; MAX_OPERATIONS + 1]).expect_err("too many");
    assert_eq!(status.code, 413);
    assert!(status.message.ends_with("The allowed maximum operations in a JSON patch is 10000, got 10001"));
    // Doubles with every operation.
    let doubling = (0..40).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/a/c{n}")})).collect();
    assert_eq!(run(doubling).expect_err("too large").code, 422);
    // Wraps in one more object with every three operations.
    let nesting = (0..2_000).flat_map(|_| {
        [
            json!({"op": "add", "path": "/b", "value": {}}),
            json!({"op": "move", "from": "/a", "path": "/b/a"}),
            json!({"op": "move", "from": "/b", "path": "/a"}),
        ]
    });
    assert_eq!(run(nesting.collect()).expect_err("too deep").code, 422);
}

#[test]
fn kinds_of_patches_are_known_by_their_content_types() {
    for kind in PatchKind::ALL {
        assert_eq!(PatchKind::of(&format!("{}; charset=utf-8", kind.content_type())), Some(kind));
    }
    assert_eq!(PatchKind::of("application/apply-patch+yaml"), None);
    assert_eq!(PatchKind::of(""), None);
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (0..3_i32).prop_map(Value::from),
        "a|b|delete|replace|merge".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let name = "spec|metadata|labels|containers|ports|name|containerPort|finalizers|volumes|emptyDir|\\$patch|\\$retainKeys|\
                    \\$setElementOrder/containers|\\$setElementOrder/finalizers|\\$deleteFromPrimitiveList/finalizers";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k, plain(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn strategic_patches_never_panic(object in tree(), patch in tree()) {
        let ty = crate::schema::find("io.k8s.api.core.v1.Pod").expect("known");
        let once = apply(PatchKind::Strategic, ty, object.clone(), patch.clone(), 0);
        prop_assert_eq!(once, apply(PatchKind::Strategic, ty, object, patch, 0));
    }

    #[test]
    fn json_patches_never_panic(object in tree(), operations in prop::collection::vec(
        ("add|remove|replace|move|copy|test", "(/(a|b|0|1|-|spec|name|~0|~1)){0,3}", "(/(a|b|0|spec)){0,2}", tree()), 0..5)) {
        let ty = crate::schema::find("io.k8s.api.core.v1.Pod").expect("known");
        let one = |(op, path, from, value): (String, String, String, Value)| json!({"op": op, "path": path, "from": from, "value": value});
        let _ = apply(PatchKind::Json, ty, object, operations.into_iter().map(one).collect(), 1_000);
    }

    #[test]
    fn a_difference_applied_gives_the_new_object(old in tree(), new in tree()) {
        let (old, new) = (plain(json!({ "x": old })), plain(json!({ "x": new })));
        let mut merged = old.clone();
        merge(&mut merged, diff(&old, &new));
        prop_assert_eq!(merged, new.clone());
        prop_assert_eq!(diff(&new, &new), json!({}));
    }
}
