//! What can be asked of the API beyond an object's name, as plain data, and how it stands in a query.

use crate::write::Propagation;
use std::time::Duration;

/// What of a collection is to be listed. Empty text stands for what is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `app=web,tier!=db`.
    pub label_selector: String,
    /// `spec.nodeName=node-1`.
    pub field_selector: String,
    /// At most so many objects in one answer; 0 for all of them.
    pub limit: u32,
    /// Goes on where an earlier answer ended.
    pub continue_token: String,
    /// Not older than this, or exactly this, by `resource_version_match`; empty for a consistent list.
    pub resource_version: String,
    /// `NotOlderThan` or `Exact`.
    pub resource_version_match: String,
}

/// What of a collection is to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// As in [`ListOptions`].
    pub label_selector: String,
    /// As in [`ListOptions`].
    pub field_selector: String,
    /// Everything after this version. Empty: everything that is there now, first.
    pub resource_version: String,
    /// After how many seconds the server is to end the watch.
    pub timeout_s: u32,
    /// For how long nothing, not even a bookmark, may come before the connection counts as dead.
    pub idle_timeout: Duration,
}

/// How long a watch lasts if nobody says otherwise: as long as upstream's shortest.
const WATCH_S: u32 = 300;
/// Bookmarks come more often than this, so that silence for so long is a dead connection.
pub const WATCH_IDLE: Duration = Duration::from_secs(30);

impl Default for WatchOptions {
    fn default() -> Self {
        let none = String::new;
        Self {
            label_selector: none(),
            field_selector: none(),
            resource_version: none(),
            timeout_s: WATCH_S,
            idle_timeout: WATCH_IDLE,
        }
    }
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Only if it has this UID.
    pub uid: Option<String>,
    /// Only if it is of this version.
    pub resource_version: Option<String>,
    /// Grace period in seconds instead of the object's own.
    pub grace_s: Option<i64>,
    /// What becomes of its dependents; `None` for the kind's default.
    pub propagation: Option<Propagation>,
}

impl ListOptions {
    /// The query with its question mark, or nothing.
    pub(crate) fn query(&self) -> String {
        let limit = if self.limit == 0 { String::new() } else { self.limit.to_string() };
        query(&[
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("limit", &limit),
            ("continue", &self.continue_token),
            ("resourceVersion", &self.resource_version),
            ("resourceVersionMatch", &self.resource_version_match),
        ])
    }
}

impl WatchOptions {
    /// The query with its question mark.
    pub(crate) fn query(&self) -> String {
        query(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("resourceVersion", &self.resource_version),
            ("timeoutSeconds", &self.timeout_s.to_string()),
        ])
    }
}

/// A query of those parameters that are not empty.
fn query(parameters: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        escape(value, &mut text);
    }
    text
}

/// Appends `value` as RFC 3986 has it in a query.
fn escape(value: &str, text: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_query_escapes_values_and_leaves_out_what_is_empty() {
        let options = ListOptions { field_selector: "spec.nodeName=a b".into(), limit: 500, ..ListOptions::default() };
        expect!["?fieldSelector=spec.nodeName%3Da%20b&limit=500"].assert_eq(&options.query());
        expect![""].assert_eq(&ListOptions::default().query());
        let options = WatchOptions { resource_version: "7".into(), ..WatchOptions::default() };
        expect!["?watch=true&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=300"]
            .assert_eq(&options.query());
    }
}
