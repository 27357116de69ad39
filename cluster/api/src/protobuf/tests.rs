use super::*;
use crate::schema::find;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

fn ty(name: &str) -> &'static Type {
    find(&format!("io.k8s.{name}")).expect(name)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

fn check(name: &str, bytes: &[u8], expect: Expect) {
    let shown = match open(bytes).and_then(|envelope| decode_object(ty(name), &envelope)) {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    };
    expect.assert_eq(&shown);
}

/// A value of a kind with every field set, down to a depth, and something different in each.
fn full(kind: &Kind, depth: usize, next: &mut i32) -> Value {
    *next += 1;
    match kind {
        Kind::String => json!(format!("s{next}")),
        Kind::Bytes => json!(STANDARD.encode(format!("b{next}"))),
        Kind::Int32 | Kind::Int64 => json!(-*next),
        Kind::Bool => json!(true),
        Kind::Double => json!(1.5),
        Kind::Quantity => json!(format!("{next}Mi")),
        Kind::Time => json!(format!("2024-01-01T00:00:{:02}Z", *next % 60)),
        Kind::MicroTime => json!(format!("2024-01-01T00:00:{:02}.000{:03}Z", *next % 60, *next % 1000)),
        Kind::Duration => json!(format!("{next}ns")),
        Kind::IntOrString if *next % 2 == 0 => json!(*next),
        Kind::IntOrString => json!(format!("{next}%")),
        Kind::Raw | Kind::FieldsV1 => json!({"f:x": {"n": *next}}),
        Kind::List(element) => json!([full(element, depth, next), full(element, depth, next)]),
        Kind::Map(element) => json!({"k1": full(element, depth, next), "k2": full(element, depth, next)}),
        Kind::Object(_) if depth == 0 => json!({}),
        Kind::Object(id) => {
            let fields = id.get().fields.iter().filter(|field| !field.number.is_empty());
            fields.map(|field| (field.name.to_owned(), full(&field.kind, depth - 1, next))).collect()
        }
    }
}

#[test]
fn reads_bytes_made_by_hand() {
    // k8s\0, typeMeta {v1, DeleteOptions}, raw {gracePeriodSeconds 30, preconditions {uid "u"}, propagationPolicy "Orphan"}.
    let bytes = hex(
        "6b387300 0a13 0a02 7631 120d 44656c6574654f7074696f6e73 120f 08 1e 12 03 0a01 75 22 06 4f727068616e 1a00 2200",
    );
    check(
        "apimachinery.pkg.apis.meta.v1.DeleteOptions",
        &bytes,
        expect![[
            r#"{"apiVersion":"v1","gracePeriodSeconds":30,"kind":"DeleteOptions","preconditions":{"uid":"u"},"propagationPolicy":"Orphan"}"#
        ]],
    );
    // metadata {name "a"}, data {k: v}, immutable true, an unknown field 99.
    let bytes = hex(
        "6b387300 0a0f 0a02 7631 1209 436f6e6669674d6170 1216 0a03 0a01 61 1206 0a016b 120176 2001 9a0604 64656164",
    );
    check(
        "api.core.v1.ConfigMap",
        &bytes,
        expect![[
            r#"{"apiVersion":"v1","data":{"k":"v"},"immutable":true,"kind":"ConfigMap","metadata":{"name":"a"}}"#
        ]],
    );
}

#[test]
fn inlined_members_quantities_and_times_are_where_upstream_has_them() {
    let probe = json!({"httpGet": {"port": "http"}, "periodSeconds": 5});
    let bytes = encode(ty("api.core.v1.Probe"), &probe);
    // handler {httpGet {path "", port {1, 0, "http"}, host "", scheme ""}}, then five numbers, the third of which is 5.
    let expected = hex("0a14 1212 0a00 120a 0801 1000 1a04 68747470 1a00 2200 1000 1800 2005 2800 3000");
    assert_eq!(bytes, expected);
    assert_eq!(decode(ty("api.core.v1.Probe"), &bytes), Ok(probe));
    let resources = json!({"limits": {"cpu": "500m"}});
    assert_eq!(encode(ty("api.core.v1.ResourceRequirements"), &resources), hex("0a0d 0a03 637075 1206 0a04 3530306d"));
    let bytes =
        encode(ty("api.core.v1.EventSeries"), &json!({"count": 1, "lastObservedTime": "1970-01-01T00:00:01.000002Z"}));
    assert_eq!(bytes, hex("0801 1205 0801 10d00f"));
}

#[test]
fn every_served_kind_survives_the_way_there_and_back() {
    let mut names: Vec<&str> = crate::resource::RESOURCES.iter().map(|resource| resource.type_name).collect();
    names.extend([
        "io.k8s.api.core.v1.PodList",
        "io.k8s.api.core.v1.Binding",
        "io.k8s.api.policy.v1.Eviction",
        "io.k8s.api.autoscaling.v1.Scale",
        "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
        "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
    ]);
    for name in names {
        let ty = find(name).expect(name);
        for depth in 1..6 {
            let value = crate::schema::decode(ty, full(&ty.kind, depth, &mut 0)).expect(name).value;
            assert_eq!(decode(ty, &encode(ty, &value)), Ok(value), "{name}");
        }
        let mut object = crate::schema::decode(ty, json!({})).expect(name).value;
        object["kind"] = json!("K");
        object["apiVersion"] = json!("g/v1");
        let bytes = encode_object(ty, &object);
        let envelope = open(&bytes).expect(name);
        assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("g/v1", "K"));
        let again = decode_object(ty, &envelope).expect(name);
        if ty.field("kind").is_some_and(|field| field.envelope) {
            assert_eq!(again, object, "{name}");
        }
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let pod = "api.core.v1.Pod";
    let body = |raw: &[u8]| {
        let mut bytes = MAGIC.to_vec();
        wire::put_bytes(&mut bytes, 2, raw);
        bytes
    };
    check(
        pod,
        b"{}",
        expect!["provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"],
    );
    check(pod, &hex("6b387300 12"), expect!["unexpected EOF"]);
    check(pod, &hex("6b387300 12 ffffffffffffffffff01"), expect!["unexpected EOF"]);
    check(pod, &hex("6b387300 12 ffffffffffffffffffffff"), expect!["proto: integer overflow"]);
    check(pod, &body(&hex("08 01")), expect!["proto: wrong wireType = 0 for field metadata"]);
    check(pod, &body(&hex("0b")), expect!["proto: illegal tag 11"]);
    check(pod, &body(&hex("02 00")), expect!["proto: illegal tag 2"]);
    check(pod, &body(&hex("0a 03 0a 01 ff")), expect!["proto: field name contains invalid UTF-8"]);
    check(pod, &hex("6b387300 2201 78"), expect![[r#"unable to decode content of type "x""#]]);
    check(
        "api.core.v1.ResourceRequirements",
        &body(&hex("0a08 0a0163 1203 0a01 78")),
        expect!["quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"],
    );
    let containers = [0x12, 0].repeat(MAX_VALUES + 1);
    let mut spec = Vec::new();
    wire::put_bytes(&mut spec, 2, &containers);
    check(pod, &body(&spec), expect!["limit is 200000 values"]);
    assert_eq!(Status::from(ProtobufError::Truncated).code, 400);
    assert_eq!(Status::from(ProtobufError::TooMany).code, 413);
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..500_usize, with in any::<u8>()) {
        let pod = ty("api.core.v1.Pod");
        let _ = decode(pod, &bytes);
        let mut whole = MAGIC.to_vec();
        whole.extend_from_slice(&bytes);
        let _ = open(&whole).and_then(|envelope| decode_object(pod, &envelope));
        // A good message with one byte changed.
        let mut good = encode(pod, &full(&pod.kind, 3, &mut 0));
        let place = at % good.len();
        good[place] = with;
        let _ = decode(pod, &good);
    }
}
