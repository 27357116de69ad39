use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

/// Canonical form, or what is wrong.
fn check(text: &str, expect: Expect) {
    expect.assert_eq(&Labels::parse(text).map_or_else(|error| error.to_string(), |labels| labels.to_string()));
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let pair = |part: &str| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.split(',').filter_map(pair).collect()
}

#[test]
fn reads_every_form_and_writes_it_in_order_of_keys() {
    check("", expect![""]);
    check("x=a,y==b,z!=c", expect!["x=a,y==b,z!=c"]);
    check(" y , !x ", expect!["!x,y"]);
    check("x in (foo,,baz),y,z notin ()", expect!["x in (,baz,foo),y,z notin ()"]);
    check("x in (b,a,b)", expect!["x in (a,b)"]);
    check("x in (,)", expect!["x in ()"]);
    check("x=", expect!["x="]);
    check("x=,y", expect!["x=,y"]);
    check("in in (in,notin)", expect!["in in (in,notin)"]);
    check(
        "x>1,y<-2",
        expect![[
            r#"unable to parse requirement: values[0][y]: Invalid value: "-2": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#
        ]],
    );
    check("example.com/a.b_c=d", expect!["example.com/a.b_c=d"]);
}

#[test]
fn says_what_is_wrong_as_upstream() {
    check(
        "x=a||y=b",
        expect![[
            r#"unable to parse requirement: values[0][x]: Invalid value: "a||y": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#
        ]],
    );
    check("x==a==b", expect!["found '==', expected: ',' or 'end of string'"]);
    check("!x=a", expect!["found '=', expected: ',' or 'end of string'"]);
    check(
        "x<",
        expect![
            "unable to parse requirement: values[0]: Invalid value: \"\": for 'Gt', 'Lt' operators, the value must be an integer"
        ],
    );
    check("x in a", expect!["unable to parse requirement: found 'a' expected: '('"]);
    check("x in (a", expect!["unable to parse requirement: found '', expected: ',' or ')'"]);
    check("x in (=)", expect!["unable to parse requirement: found '=', expected: ',', ')' or identifier"]);
    check("x y", expect!["unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"]);
    check(",x", expect!["found ',', expected: !, identifier, or 'end of string'"]);
    check("x,", expect!["found '', expected: identifier after ','"]);
    check("!", expect!["unable to parse requirement: found '', expected: identifier"]);
    check(
        "-x",
        expect![[
            r#"unable to parse requirement: <nil>: Invalid value: "-x": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#
        ]],
    );
    check(
        "a/b/c",
        expect![[
            r#"unable to parse requirement: <nil>: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"#
        ]],
    );
}

#[test]
fn matches_as_upstream() {
    let cases = [
        ("", "", true),
        ("x=a", "x=a", true),
        ("x=a", "x=b", false),
        ("x!=a", "", true),
        ("x!=a", "x=a", false),
        ("x notin (a,b)", "x=c", true),
        ("x notin (a,b)", "", true),
        ("x in (a,b)", "x=b", true),
        ("x in (a,b)", "", false),
        ("x", "x=", true),
        ("!x", "x=", false),
        ("x>1", "x=2", true),
        ("x>1", "x=1", false),
        ("x<1", "x=z", false),
        ("x<1", "", false),
        ("x,y=b", "x=a,y=b", true),
        ("x,y=b", "x=a", false),
    ];
    for (selector, object, matched) in cases {
        let selector = Labels::parse(selector).expect(selector);
        assert_eq!(selector.matches(&labels(object)), matched, "{selector} on {object}");
    }
}

fn selector(equal: &str, expressions: &[(&str, &str, &[&str])]) -> LabelSelector {
    let expression = |(key, operator, values): &(&str, &str, &[&str])| LabelSelectorRequirement {
        key: (*key).to_owned(),
        operator: (*operator).to_owned(),
        values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    LabelSelector {
        match_labels: Some(labels(equal)),
        match_expressions: Some(expressions.iter().map(expression).collect()),
    }
}

#[test]
fn an_object_s_selector_matches_and_a_wrong_one_never_does() {
    let object = labels("x=a,y=b");
    assert!(matches(&LabelSelector::default(), &object));
    assert!(is_empty(&selector("", &[])));
    assert!(matches(&selector("x=a", &[("y", "In", &["b", "c"]), ("z", "DoesNotExist", &[])]), &object));
    assert!(!matches(&selector("x=a", &[("y", "NotIn", &["b"])]), &object));
    for wrong in [("x", "in", &["a"] as &[&str]), ("x", "In", &[]), ("x", "Exists", &["a"]), ("x", "", &[])] {
        assert!(!matches(&selector("", &[wrong]), &object), "{wrong:?}");
        assert_eq!(format(Some(&selector("", &[wrong]))), "<error>");
    }
    assert_eq!(format(Some(&selector("b=1", &[("a", "Exists", &[]), ("c", "In", &["z", "y"])]))), "a,b=1,c in (y,z)");
    assert_eq!((format(None), format(Some(&LabelSelector::default()))), ("<none>".to_owned(), "<none>".to_owned()));
    let error = Labels::from_selector(&selector("", &[("x", "in", &["a"])])).expect_err("wrong operator");
    assert_eq!(error.to_string(), "\"in\" is not a valid label selector operator");
}

#[test]
fn fields_are_compared() {
    let fields = Fields::parse("spec.nodeName!=n1,metadata.name=x").expect("right");
    assert_eq!(fields.to_string(), "metadata.name=x,spec.nodeName!=n1");
    assert_eq!((fields.exact("metadata.name"), fields.exact("spec.nodeName")), (Some("x"), None));
    assert!(fields.matches(&labels("metadata.name=x")));
    assert!(fields.matches(&labels("metadata.name=x,spec.nodeName=n2")));
    assert!(!fields.matches(&labels("metadata.name=x,spec.nodeName=n1")));
    assert!(!fields.matches(&labels("")));
    assert!(Fields::parse("spec.nodeName=").expect("right").matches(&labels("")));
    assert!(Fields::parse(",,").expect("right").is_empty());
    assert_eq!(Fields::parse("a==b").expect("right"), Fields::equal("a", "b"));
}

#[test]
fn values_of_fields_are_escaped() {
    let fields = Fields::parse(r"a=b\,c\=d\\,e=f").expect("right");
    assert_eq!(fields.exact("a"), Some(r"b,c=d\"));
    assert_eq!(fields.to_string(), r"a=b\,c\=d\\,e=f");
    let error = |text| Fields::parse(text).expect_err(text).to_string();
    assert_eq!(error("a"), "invalid selector: 'a'; can't understand 'a'");
    assert_eq!(error(r"a=\b"), r"invalid field selector: invalid escape sequence: \b");
    assert_eq!(error("a=b=c"), "invalid field selector: unescaped character in value: =");
}

proptest! {
    #[test]
    fn never_panics_and_reads_what_it_writes(text in "[a-c=!(),<> \\\\in/.-]{0,30}|\\PC{0,30}") {
        if let Ok(labels) = Labels::parse(&text) {
            prop_assert_eq!(Labels::parse(&labels.to_string()), Ok(labels));
        }
        if let Ok(fields) = Fields::parse(&text) {
            let again = Fields::parse(&fields.to_string()).map(|fields| fields.to_string());
            prop_assert_eq!(again, Ok(fields.to_string()));
        }
    }
}
