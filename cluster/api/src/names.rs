//! The forms of names: what a label key, a DNS label, a port name or an IP address may look like, and what is said
//! about one that does not.
//!
//! Every check answers the list of what is wrong, in upstream's words, empty for a good value. None needs a regular
//! expression: the alphabets are small, and names are checked on every write.

use std::net::IpAddr;

/// Longest DNS label, RFC 1123.
pub const LABEL_MAX: usize = 63;
/// Longest DNS name, RFC 1123.
pub const SUBDOMAIN_MAX: usize = 253;
/// Largest sum of the keys and values of an object's annotations, in bytes; upstream's limit.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;
/// Longest service name, RFC 6335.
const PORT_NAME_MAX: usize = 15;

const LABEL_FORM: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_1035_FORM: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_FORM: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// What is wrong with a name as the part of a DNS name, by RFC 1123.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, LABEL_MAX);
    if !is_label(value) {
        // A subdomain that is no label has dots; saying so helps more than the whole form.
        wrong.push(if is_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            form(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                LABEL_FORM,
                &["my-name", "123-abc"],
            )
        });
    }
    wrong
}

/// What is wrong with a name as a DNS name, by RFC 1123.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, SUBDOMAIN_MAX);
    if !is_subdomain(value) {
        wrong.push(form(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            &format!("{LABEL_FORM}(\\.{LABEL_FORM})*"),
            &["example.com"],
        ));
    }
    wrong
}

/// What is wrong with a name as the part of a DNS name, by RFC 1035: as RFC 1123, and it begins with a letter.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, LABEL_MAX);
    if !(is_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase())) {
        wrong.push(form(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            DNS_1035_FORM,
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

/// The check of an object's name that is one for a generated name's prefix too: its last character may be a dash.
pub fn as_prefix(check: fn(&str) -> Vec<String>, value: &str, prefix: bool) -> Vec<String> {
    match value.strip_suffix('-') {
        Some(stem) if prefix && !stem.is_empty() => check(&format!("{stem}a")),
        Some(_) | None => check(value),
    }
}

/// What is wrong with a name as one part of a path.
pub fn path_segment(value: &str) -> Vec<String> {
    if matches!(value, "." | "..") {
        return vec![format!("may not be '{value}'")];
    }
    let forbidden = ["/", "%"].into_iter().filter(|part| value.contains(part));
    forbidden.map(|part| format!("may not contain '{part}'")).collect()
}

/// What is wrong with a name that may carry a DNS prefix, such as the key of a label.
pub fn qualified_name(value: &str) -> Vec<String> {
    const SAYS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const LIKE: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut wrong = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, name)) if name.contains('/') => {
            let form = form(SAYS, QUALIFIED_FORM, LIKE);
            wrong.push(format!(
                "a qualified name {form} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return wrong;
        }
        Some(("", name)) => {
            wrong.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            wrong.extend(dns1123_subdomain(prefix).into_iter().map(|text| format!("prefix part {text}")));
            name
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part {}", longer_than(LABEL_MAX)));
    }
    if !is_qualified(name) {
        wrong.push(format!("name part {}", form(SAYS, QUALIFIED_FORM, LIKE)));
    }
    wrong
}

/// What is wrong with the value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, LABEL_MAX);
    if !value.is_empty() && !is_qualified(value) {
        wrong.push(form(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            &format!("({QUALIFIED_FORM})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// What is wrong with the number of a port.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65_535).contains(&port) { Vec::new() } else { vec![between(1, 65_535)] }
}

/// What is wrong with the name of a port: an IANA service name, RFC 6335.
pub fn port_name(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, PORT_NAME_MAX);
    let in_alphabet = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if value.is_empty() || !value.chars().all(in_alphabet) {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.contains(|c: char| c.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// What is wrong with an IP address.
pub fn ip(value: &str) -> Vec<String> {
    if value.parse::<IpAddr>().is_ok() {
        Vec::new()
    } else {
        vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
    }
}

/// An IP network, such as `10.2.3.0/24`: its address and how many leading bits count.
pub fn cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = value.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    // Rust takes `+8`; the notation does not.
    let bits: u8 = bits.bytes().all(|b| b.is_ascii_digit()).then(|| bits.parse().ok())??;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

/// What is wrong with the name of an environment variable: since 1.34 all of printable ASCII but `=` is allowed.
pub fn env_name(value: &str) -> Vec<String> {
    let good = !value.is_empty() && value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    if good {
        Vec::new()
    } else {
        vec![form(
            "a valid environment variable name must consist only of printable ASCII characters other than '='",
            "[ -<>-~]+",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        )]
    }
}

/// What is wrong with a key of the data of a ConfigMap or a Secret.
pub fn config_key(value: &str) -> Vec<String> {
    let mut wrong = too_long(value, SUBDOMAIN_MAX);
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if value.is_empty() || !value.bytes().all(in_alphabet) {
        wrong.push(form(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// What is wrong with the name of an HTTP header.
pub fn http_header(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        Vec::new()
    } else {
        vec![form(
            "a valid HTTP header must consist of alphanumeric characters or '-'",
            "[-A-Za-z0-9]+",
            &["X-Header-Name"],
        )]
    }
}

/// A percentage such as `25%`, as a number.
pub fn percent(value: &str) -> Option<i64> {
    let digits = value.strip_suffix('%')?;
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// What is said about a text that is no percentage.
pub fn percent_form() -> String {
    form("a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", &["1%", "93%"])
}

/// What is said about a number out of its range.
pub fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// What is said about a text of more than `limit` bytes.
pub fn longer_than(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

fn too_long(value: &str, limit: usize) -> Vec<String> {
    if value.len() > limit { vec![longer_than(limit)] } else { Vec::new() }
}

fn is_label(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = value.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    inner(first) && inner(last) && bytes.iter().all(|&b| inner(b) || b == b'-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_qualified(value: &str) -> bool {
    let bytes = value.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `says (e.g. 'a',  or 'b', regex used for validation is 'form')`: the odd comma is upstream's.
fn form(says: &str, form: &str, like: &[&str]) -> String {
    let examples: Vec<String> = like.iter().map(|example| format!("'{example}', ")).collect();
    format!("{says} (e.g. {}regex used for validation is '{form}')", examples.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[expect(clippy::needless_pass_by_value, reason = "expect![] makes a value")]
    fn check(wrong: Vec<String>, expected: Expect) {
        expected.assert_eq(&wrong.join("\n"));
    }

    #[test]
    fn labels_of_dns_are_told_apart_from_subdomains() {
        check(dns1123_label("web-1"), expect![""]);
        check(dns1123_label("a.b"), expect!["must not contain dots"]);
        check(
            dns1123_label("Web"),
            expect![
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ],
        );
        check(dns1123_label(&"a".repeat(64)), expect!["must be no more than 63 characters"]);
        check(
            dns1123_subdomain("a..b"),
            expect![[
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]],
        );
        assert!(!dns1035_label("1a").is_empty());
        assert!(dns1035_label("a1").is_empty());
        assert!(!dns1123_subdomain("").is_empty());
    }

    #[test]
    fn a_prefix_of_a_generated_name_may_end_with_a_dash() {
        assert!(as_prefix(dns1123_label, "web-", true).is_empty());
        assert!(!as_prefix(dns1123_label, "web-", false).is_empty());
        assert!(!as_prefix(dns1123_label, "-", true).is_empty());
    }

    #[test]
    fn keys_of_labels_have_a_name_and_perhaps_a_prefix() {
        check(qualified_name("example.com/My_name.1"), expect![""]);
        check(qualified_name("/a"), expect!["prefix part must be non-empty"]);
        check(
            qualified_name("a/"),
            expect![[r"
                name part must be non-empty
                name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"]],
        );
        assert_eq!(qualified_name("a/b/c").len(), 1);
        assert!(label_value("").is_empty());
        assert_eq!(label_value("-a").len(), 1);
    }

    #[test]
    fn ports_have_iana_names() {
        check(port_name("http-2"), expect![""]);
        check(
            port_name("8--0-"),
            expect![[r"
                must contain at least one letter (a-z)
                must not contain consecutive hyphens
                must not begin or end with a hyphen"]],
        );
        check(port_number(0), expect!["must be between 1 and 65535, inclusive"]);
    }

    #[test]
    fn addresses_and_networks_are_strict() {
        assert!(ip("10.0.0.1").is_empty() && ip("fd00::1").is_empty());
        assert!(!ip("10.0.0.01").is_empty() && !ip("10.0.0").is_empty());
        assert!(cidr("10.0.0.0/33").is_none() && cidr("10.0.0.0/+8").is_none() && cidr("10.0.0.0/24").is_some());
    }

    #[test]
    fn keys_of_data_are_no_paths() {
        check(config_key("a..b"), expect![""]);
        check(config_key(".."), expect!["must not be '..'"]);
        check(config_key("..a"), expect!["must not start with '..'"]);
        assert_eq!(config_key("a/b").len(), 1);
        assert!(env_name("a b").is_empty() && !env_name("a=b").is_empty());
        assert_eq!(percent("25%"), Some(25));
        assert_eq!(percent("%"), None);
    }
}
