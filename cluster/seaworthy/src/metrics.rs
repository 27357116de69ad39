//! What a server tells Prometheus, under the names that Kubernetes and etcd give it.

use apiserver::LevelView;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Requests answered, by verb, resource and code.
    pub(crate) requests: BTreeMap<(String, String, u16), u64>,
    /// Watches that are open.
    pub(crate) watches: u64,
    /// Events sent to watches.
    pub(crate) watch_events: u64,
    /// Connections that are open.
    pub(crate) connections: u64,
    /// Of each priority level: what is answered, and what waits for that.
    pub(crate) levels: BTreeMap<&'static str, LevelView>,
    /// Whether the store's member knows a leader, and whether it is one.
    pub(crate) leader: (bool, bool),
    /// Entries that it knows to be committed, and those applied.
    pub(crate) proposals: (u64, u64),
    /// Keys, and bytes of keys and values.
    pub(crate) keys: (u64, u64),
    /// Its revision, and the last one forgotten.
    pub(crate) revisions: (i64, i64),
    /// Keys that wait, by queue.
    pub(crate) queues: BTreeMap<String, u64>,
}

/// The media type of what [`text`] gives.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// In Prometheus' text format.
pub(crate) fn text(facts: &Facts) -> String {
    let mut out = Out(String::new());
    out.head("apiserver_request_total", "counter", "Requests answered, by verb, resource and code.");
    for ((verb, resource, code), count) in &facts.requests {
        let code = code.to_string();
        out.line("apiserver_request_total", &[("verb", verb), ("resource", resource), ("code", &code)], *count);
    }
    let single: [(&str, &str, &str, u64); 11] = [
        ("apiserver_longrunning_requests", "gauge", "Watches that are open.", facts.watches),
        ("apiserver_watch_events_total", "counter", "Events sent to watches.", facts.watch_events),
        ("apiserver_open_connections", "gauge", "Connections of clients.", facts.connections),
        ("etcd_server_has_leader", "gauge", "Whether a leader is known.", facts.leader.0.into()),
        ("etcd_server_is_leader", "gauge", "Whether this member is the leader.", facts.leader.1.into()),
        ("etcd_server_proposals_committed_total", "gauge", "Entries known to be committed.", facts.proposals.0),
        ("etcd_server_proposals_applied_total", "gauge", "Entries applied.", facts.proposals.1),
        ("etcd_debugging_mvcc_keys_total", "gauge", "Keys in the store.", facts.keys.0),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "Bytes of keys and values, with history.", facts.keys.1),
        ("etcd_debugging_mvcc_current_revision", "gauge", "The store's revision.", unsigned(facts.revisions.0)),
        ("etcd_debugging_mvcc_compact_revision", "gauge", "The last one forgotten.", unsigned(facts.revisions.1)),
    ];
    for (name, kind, help, value) in single {
        out.head(name, kind, help);
        out.line(name, &[], value);
    }
    let mut of_levels = |name: &str, kind, help, value: fn(&LevelView) -> u64| {
        let name = format!("apiserver_flowcontrol_{name}");
        out.head(&name, kind, help);
        facts.levels.iter().for_each(|(level, view)| out.line(&name, &[("priority_level", level)], value(view)));
    };
    of_levels("nominal_limit_seats", "gauge", "Requests that may be answered at once.", |level| level.seats as u64);
    of_levels("current_executing_requests", "gauge", "Requests that are answered.", |level| level.executing as u64);
    of_levels("current_inqueue_requests", "gauge", "Requests that wait.", |level| level.waiting as u64);
    of_levels("rejected_requests_total", "counter", "Requests refused because too many waited.", |level| level.refused);
    out.head("workqueue_depth", "gauge", "Keys that wait, by controller; none where it does not lead.");
    for (name, depth) in &facts.queues {
        out.line("workqueue_depth", &[("name", name)], *depth);
    }
    out.0
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

struct Out(String);

impl Out {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let shown: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if shown.is_empty() { String::new() } else { format!("{{{}}}", shown.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn facts_have_the_names_that_dashboards_know() {
        let facts = Facts {
            requests: BTreeMap::from([(("get".to_owned(), "pods".to_owned(), 200), 7)]),
            leader: (true, false),
            levels: BTreeMap::from([("system", LevelView { seats: 5, executing: 4, waiting: 3, refused: 2 })]),
            queues: BTreeMap::from([("a\"b".to_owned(), 3)]),
            ..Facts::default()
        };
        let shown: Vec<String> = text(&facts)
            .lines()
            .filter(|line| !line.starts_with('#') && !line.ends_with(" 0"))
            .map(str::to_owned)
            .collect();
        expect![[r#"
            apiserver_request_total{verb="get",resource="pods",code="200"} 7
            etcd_server_has_leader 1
            apiserver_flowcontrol_nominal_limit_seats{priority_level="system"} 5
            apiserver_flowcontrol_current_executing_requests{priority_level="system"} 4
            apiserver_flowcontrol_current_inqueue_requests{priority_level="system"} 3
            apiserver_flowcontrol_rejected_requests_total{priority_level="system"} 2
            workqueue_depth{name="a\"b"} 3"#]]
        .assert_eq(&shown.join("\n"));
    }
}
