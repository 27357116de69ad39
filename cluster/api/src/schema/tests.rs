use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

fn ty(short: &str) -> &'static Type {
    find(&format!("io.k8s.api.{short}")).expect(short)
}

/// One pass gives what two passes give, or leaves it to them; where there is nothing to tell, it does not.
fn check_one_pass(ty: &Type, text: &str) -> bool {
    let Some(value) = decode_plain(ty, text.as_bytes()) else { return false };
    let (parsed, told) = strict_parse(text.as_bytes(), 1 << 20).expect("JSON");
    assert_eq!(told, Vec::<String>::new(), "{text}");
    assert_eq!(decode(ty, parsed), Ok(Decoded { value, unknown: Vec::new() }), "{text}");
    true
}

fn check(short: &str, text: &str, expect: Expect) {
    check_one_pass(ty(short), text);
    let (value, mut told) = strict_parse(text.as_bytes(), 1 << 20).expect("JSON");
    let shown = match decode(ty(short), value) {
        Ok(decoded) => {
            told.extend(decoded.unknown);
            let mut lines = vec![decoded.value.to_string()];
            lines.append(&mut told);
            lines.join("\n")
        }
        Err(error) => error.to_string(),
    };
    expect.assert_eq(&shown);
}

#[test]
fn every_served_kind_and_its_list_have_facts() {
    for resource in crate::resource::RESOURCES {
        let ty = find(resource.type_name).expect(resource.type_name);
        assert_eq!(ty.short_name(), resource.kind);
        assert!(ty.field("metadata").is_some(), "{}", ty.name);
        let list = find(&format!("{}List", resource.type_name)).expect("list type");
        assert!(matches!(&list.field("items").expect("items").kind, Kind::List(item) if **item == ty.kind));
    }
    for name in ["policy.v1.Eviction", "core.v1.Binding", "autoscaling.v1.Scale"] {
        assert!(ty(name).field("metadata").is_some());
    }
}

#[test]
fn the_facts_of_a_field_are_read() {
    let containers = ty("core.v1.PodSpec").field("containers").expect("containers");
    assert!(containers.required && containers.merge && !containers.retain_keys);
    assert_eq!((containers.merge_key, containers.list_type), (Some("name"), ListType::Map));
    let ports = ty("core.v1.Container").field("ports").expect("ports");
    assert_eq!(ports.list_map_keys, ["containerPort", "protocol"]);
    assert!(ty("core.v1.PodSpec").field("volumes").expect("volumes").retain_keys);
    let exec = ty("core.v1.Probe").field("exec").expect("exec");
    assert_eq!(exec.number, [1, 1]);
    assert_eq!(ty("core.v1.ContainerPort").field("protocol").expect("protocol").default, Some(json!("TCP")));
    assert!(ty("core.v1.Pod").field("kind").expect("kind").envelope);
    assert_eq!(ty("core.v1.Pod").go_name(), "v1.Pod");
}

#[test]
fn duplicate_and_unknown_fields_are_told_with_their_paths() {
    check(
        "core.v1.ConfigMap",
        r#"{"metadata":{"name":"a","name":"b","labels":{"x":"1","x":"2","x":"3"}},"data":{"k":"v"},"foo":1}"#,
        expect![[r#"
            {"data":{"k":"v"},"metadata":{"labels":{"x":"3"},"name":"b"}}
            duplicate field "metadata.name"
            duplicate field "metadata.labels.x"
            unknown field "foo""#]],
    );
    check(
        "core.v1.Pod",
        r#"{"spec":{"containers":[{"name":"a","image":"i"},{"name":"b","foo":{"x":1},"ports":[{"containerPort":1,"Protocol":"TCP"}]}]}}"#,
        expect![[r#"
            {"metadata":{},"spec":{"containers":[{"image":"i","name":"a","resources":{}},{"name":"b","ports":[{"containerPort":1}],"resources":{}}]},"status":{}}
            unknown field "spec.containers[1].foo"
            unknown field "spec.containers[1].ports[0].Protocol""#]],
    );
}

#[test]
fn values_are_written_as_upstream_writes_them() {
    check(
        "core.v1.Container",
        r#"{"name":null,"resources":{"limits":{"cpu":0.5,"memory":"1024Mi","x":null}},"command":[],"args":["a",null],"stdin":false,"livenessProbe":{"httpGet":{"port":80},"exec":null,"periodSeconds":0}}"#,
        expect![[
            r#"{"args":["a",""],"livenessProbe":{"httpGet":{"port":80}},"name":"","resources":{"limits":{"cpu":"500m","memory":"1Gi","x":"0"}}}"#
        ]],
    );
    check(
        "coordination.v1.Lease",
        r#"{"metadata":{"creationTimestamp":"2024-02-03T04:05:06.789+01:00"},"spec":{"renewTime":"2024-02-03T04:05:06.5Z","leaseTransitions":0}}"#,
        expect![[
            r#"{"metadata":{"creationTimestamp":"2024-02-03T03:05:06Z"},"spec":{"leaseTransitions":0,"renewTime":"2024-02-03T04:05:06.500000Z"}}"#
        ]],
    );
    check(
        "core.v1.Secret",
        r#"{"data":{"a":"aGk=\n","b":"","c":null}}"#,
        expect![[r#"{"data":{"a":"aGk=","b":"","c":null},"metadata":{}}"#]],
    );
}

#[test]
fn wrong_types_are_told_as_go_tells_them() {
    check("core.v1.Pod", "[]", expect!["json: cannot unmarshal array into Go value of type v1.Pod"]);
    check(
        "apps.v1.Deployment",
        r#"{"spec":{"replicas":"3"}}"#,
        expect!["json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"],
    );
    check(
        "core.v1.Pod",
        r#"{"spec":{"containers":[{"name":1}]}}"#,
        expect!["json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string"],
    );
    check(
        "core.v1.Pod",
        r#"{"spec":{"containers":{}}}"#,
        expect!["json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"],
    );
    check(
        "core.v1.Pod",
        r#"{"metadata":{"labels":{"a":true}}}"#,
        expect!["json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string"],
    );
    check(
        "core.v1.Pod",
        r#"{"spec":{"priority":3000000000}}"#,
        expect!["json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32"],
    );
    check(
        "core.v1.Pod",
        r#"{"spec":{"priority":1.5}}"#,
        expect!["json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32"],
    );
    check(
        "core.v1.PodSpec",
        r#"{"overhead":{"cpu":"1x"}}"#,
        expect!["quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"],
    );
    check("core.v1.Secret", r#"{"data":{"a":"a?"}}"#, expect!["illegal base64 data at input byte 1"]);
    check(
        "core.v1.HTTPGetAction",
        r#"{"port":true}"#,
        expect!["json: cannot unmarshal bool into Go value of type int32"],
    );
    check(
        "core.v1.Pod",
        r#"{"metadata":{"creationTimestamp":"2024-2-3"}}"#,
        expect![[r#"parsing time "2024-2-3" as "2006-01-02T15:04:05Z07:00": cannot parse "2-3" as "01""#]],
    );
    check(
        "core.v1.Pod",
        r#"{"metadata":{"creationTimestamp":"2024-13-03T00:00:00Z"}}"#,
        expect![[r#"parsing time "2024-13-03T00:00:00Z": day out of range"#]],
    );
}

#[test]
fn decoding_again_changes_nothing_and_typed_objects_read_it() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]}});
    let once = decode(ty("core.v1.Pod"), pod).expect("right").value;
    let twice = decode(ty("core.v1.Pod"), once.clone()).expect("right").value;
    assert_eq!(once, twice);
    for resource in crate::resource::RESOURCES {
        let empty = decode(find(resource.type_name).expect("known"), json!({})).expect("right").value;
        assert_eq!(decode(find(resource.type_name).expect("known"), empty.clone()).expect("right").value, empty);
    }
    let typed: crate::core::v1::Pod = serde_json::from_value(once).expect("typed");
    let empty: crate::core::v1::Pod = serde_json::from_value(
        decode(ty("core.v1.Pod"), json!({"apiVersion": "v1", "kind": "Pod"})).expect("right").value,
    )
    .expect("null lists are empty ones");
    assert_eq!(typed.metadata.name.as_deref(), Some("a"));
    assert_eq!(empty.metadata.name, None);
}

#[test]
fn what_is_no_json_or_too_much_of_it_is_refused() {
    let error = |text: &str| strict_parse(text.as_bytes(), 10_000).expect_err(text);
    assert!(matches!(error("{"), ParseError::Syntax(_)));
    assert!(matches!(error("{} x"), ParseError::Syntax(_)));
    assert!(matches!(error("\"\\ud800\""), ParseError::Syntax(_)));
    assert_eq!(error(&"[".repeat(5_000)), ParseError::TooDeep);
    assert_eq!(error(&format!("{}1{}", "{\"a\":".repeat(121), "}".repeat(121))), ParseError::TooDeep);
    assert_eq!(error(&" ".repeat(10_001)), ParseError::TooLarge { limit: 10_000 });
    assert_eq!(Status::from(ParseError::TooLarge { limit: 9 }).message, "Request entity too large: limit is 9");
    assert_eq!(Status::from(ParseError::TooDeep).code, 400);
    let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
    assert_eq!(strict_parse(many.as_bytes(), 1 << 20), Err(ParseError::TooMany));
    let deep = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert_eq!(depth(&strict_parse(deep.as_bytes(), 10_000).expect("just deep enough").0), MAX_DEPTH);
    let status = strict_decoding_error(
        crate::resource::find("", "Pod").expect("served"),
        &["unknown field \"a\"".to_owned(), "duplicate field \"b\"".to_owned()],
    );
    expect![[r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "a", duplicate field "b""#]]
        .assert_eq(&status.message);
}

#[test]
fn times_are_read_in_one_pass_as_in_two() {
    for time in [
        "2024-02-28T23:59:59Z",
        "2024-02-30T00:00:00Z",
        "2024-02-03T04:05:60Z",
        "0001-01-01T00:00:00Z",
        "2024-02-03t04:05:06Z",
    ] {
        check_one_pass(ty("core.v1.Pod"), &json!({"metadata": {"creationTimestamp": time}}).to_string());
        let micro = time.replace('Z', ".123456Z");
        check_one_pass(
            ty("coordination.v1.Lease"),
            &json!({"spec": {"renewTime": time, "acquireTime": micro}}).to_string(),
        );
    }
    let pod = r#"{"metadata":{"creationTimestamp":"2024-02-28T23:59:59Z","labels":{"a":null}},"spec":{"containers":[{"env":null,"name":"a"}],"priority":1}}"#;
    assert!(check_one_pass(ty("core.v1.Pod"), pod));
}

/// JSON in the shape of pods, more or less.
fn podlike() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}|1Gi|2024-01-01T00:00:00Z|aGk=".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, |inner| {
        let name = "metadata|spec|status|containers|name|labels|ports|containerPort|resources|limits|cpu|env|x";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\",:a0-9.eE-]{0,60}") {
        let _ = strict_parse(&bytes, 1 << 20);
        if let Ok((value, _)) = strict_parse(text.as_bytes(), 1 << 20) {
            prop_assert_eq!(Some(value), serde_json::from_str(&text).ok());
        }
    }

    #[test]
    fn one_pass_gives_what_two_give(value in podlike()) {
        let told = check_one_pass(ty("core.v1.Pod"), &value.to_string());
        if let Ok(decoded) = decode(ty("core.v1.Pod"), value) {
            let again = decoded.value.to_string();
            prop_assert!(check_one_pass(ty("core.v1.Pod"), &again), "{}", again);
        } else {
            prop_assert!(!told);
        }
    }

    #[test]
    fn decoding_never_panics_and_is_idempotent(value in podlike()) {
        if let Ok(once) = decode(ty("core.v1.Pod"), value) {
            let twice = decode(ty("core.v1.Pod"), once.value.clone()).map(|decoded| decoded.value);
            prop_assert_eq!(twice, Ok(once.value));
        }
    }
}
