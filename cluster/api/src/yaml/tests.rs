use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

const LIMIT: usize = 1 << 20;

/// A document as JSON, and what is said of duplicates; or why it is none.
fn check(document: &str, expected: Expect) {
    let shown = match parse(document.as_bytes(), LIMIT) {
        Ok((value, None)) => value.to_string(),
        Ok((value, Some(told))) => format!("{value}\n{told}"),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
}

#[test]
fn scalars_mean_what_upstreams_library_makes_of_them() {
    check(
        "[yes, NO, on, y, ~, , 'yes', !!str 1, 0777, 0x1f, 0b11, -3, +4, 1_000, 1.5, 2.0, 1e3, .5, 08, 18446744073709551615]",
        expect![
            "error converting YAML to JSON: yaml: line 1: while parsing a node, did not find expected node content"
        ],
    );
    check(
        "[2024-01-02T03:04:05Z, 10.0.0.1, 1Gi, 100m, 1:30, -x, .x, 0x, +-1, !!int '7', !!float 1.5]",
        expect!["[\"2024-01-02T03:04:05Z\",\"10.0.0.1\",\"1Gi\",\"100m\",\"1:30\",\"-x\",\".x\",\"0x\",\"+-1\",7,1.5]"],
    );
    check("a: .inf", expect!["error converting YAML to JSON: yaml: line 1: unsupported value: .inf"]);
}

#[test]
fn a_manifest_with_comments_blocks_and_anchors_is_read() {
    check(
        "# A comment.\n---\nkind: ConfigMap\nmetadata: &meta\n  name: a\n  labels: {app: \"web\"}\ndata:\n  1: x\n  text: |\n    \
         one\n    two\n  folded: >-\n    a\n    b\nother:\n  <<: *meta\n  name: b\n---\nkind: Second\n",
        expect![[
            r#"{"data":{"1":"x","folded":"a b","text":"one\ntwo\n"},"kind":"ConfigMap","metadata":{"labels":{"app":"web"},"name":"a"},"other":{"labels":{"app":"web"},"name":"b"}}"#
        ]],
    );
    check("", expect!["null"]);
    check("{\"a\": [1, \"\\u00e9\"]}", expect!["{\"a\":[1,\"é\"]}"]);
}

#[test]
fn keys_that_stand_twice_are_told_with_their_lines() {
    check(
        "a: 1\nb:\n  c: 1\n  c: 2\na: 3\n",
        expect![[r#"
            {"a":3,"b":{"c":2}}
            yaml: unmarshal errors:
              line 4: key "c" already set in map
              line 5: key "a" already set in map"#]],
    );
}

#[test]
fn what_is_no_yaml_is_refused_with_its_line() {
    check(
        "a: b: c",
        expect!["error converting YAML to JSON: yaml: line 1: mapping values are not allowed in this context"],
    );
    check(
        "a:\n\tb: 1",
        expect!["error converting YAML to JSON: yaml: line 2: tabs disallowed within this context (block indentation)"],
    );
    check(
        "[1, 2",
        expect!["error converting YAML to JSON: yaml: line 2: while parsing a flow sequence, expected ',' or ']'"],
    );
    check("a: *b", expect!["error converting YAML to JSON: yaml: line 1: while parsing node, found unknown anchor"]);
    check("&a [*a]", expect!["error converting YAML to JSON: yaml: line 1: an anchor's value contains itself"]);
    check("{[1]: 2}", expect!["error converting YAML to JSON: yaml: line 1: invalid map key: [1]"]);
    assert!(parse(&[0xff, 0xfe, 0xff], LIMIT).is_err());
}

#[test]
fn aliases_multiply_nothing_without_end() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    check(&laughs, expect!["Request entity too large: limit is 200000 values"]);
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(10_000), vec!["*a"; 1_000].join(", "));
    check(&long, expect!["Request entity too large: limit is 1048576 bytes"]);
    check(&"- ".repeat(200), expect!["error converting YAML to JSON: yaml: exceeded max depth"]);
    check(&"[".repeat(300), expect!["error converting YAML to JSON: yaml: line 1: recursion limit exceeded"]);
    check(&"x".repeat(LIMIT + 1), expect!["Request entity too large: limit is 1048576 bytes"]);
}

#[test]
fn documents_look_as_kubectls_users_know_them() {
    let object = json!({
        "apiVersion": "v1",
        "metadata": {"name": "a", "creationTimestamp": "2024-01-02T03:04:05Z", "labels": {}, "annotations": {"a/b": "true"}},
        "spec": {
            "containers": [{"args": ["-c", "echo: hi", "it's #1"], "name": "c", "ports": [{"containerPort": 80}]}],
            "list": [[1, 2], []],
            "none": null,
        },
        "data": {"script": "#!/bin/sh\nexit 0\n", "empty": "", "number": "12", "odd": " x", "control": "a\u{1}b"},
    });
    let expected = expect![[r#"
        apiVersion: v1
        data:
          control: "a\x01b"
          empty: ""
          number: "12"
          odd: ' x'
          script: |
            #!/bin/sh
            exit 0
        metadata:
          annotations:
            a/b: "true"
          creationTimestamp: "2024-01-02T03:04:05Z"
          labels: {}
          name: a
        spec:
          containers:
          - args:
            - -c
            - 'echo: hi'
            - 'it''s #1'
            name: c
            ports:
            - containerPort: 80
          list:
          - - 1
            - 2
          - []
          none: null
    "#]];
    expected.assert_eq(&write(&object));
}

fn values() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just(String::new()),
        "[a-z0-9:# -]{0,6}",
        "[ \\n\\ta-c'\"|>~.]{0,8}",
        "\\PC{0,5}",
        any::<String>(),
        Just("true".to_owned()),
        Just("0x1".to_owned()),
        Just("<<".to_owned()),
        Just("1:30".to_owned()),
    ];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(words.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(value in values()) {
        let text = write(&value);
        prop_assert_eq!(parse(text.as_bytes(), LIMIT), Ok((value, None)), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[-a-c:\\[\\]{},&*!|>'\"% \\n\\t?#<]{0,40}") {
        let _ = parse(text.as_bytes(), LIMIT);
    }
}
