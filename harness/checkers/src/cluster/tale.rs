//! Histories of an orchestrator told by hand: objects change, containers run, users ask.

use super::World;
use crate::legal::empty;
use crate::log::Log;
use crate::story::seconds;
use record::{Cluster, Container, Guarantee, KeyValue, Kind, Observation, Record, Sight, Strike, Verdict, WatchEvent};
use std::collections::BTreeMap;

/// A tale so far. It goes on at the time that was said last.
pub(crate) struct Tale {
    pub(crate) record: Record,
    pub(crate) now_s: u64,
    revision: i64,
    /// Revisions of creation and numbers of changes of what exists.
    keys: BTreeMap<String, (i64, i64)>,
}

impl Tale {
    /// Of a cluster of three nodes, whose faults end after 100 seconds.
    pub(crate) fn new() -> Self {
        let mut record = empty();
        record.config.cluster =
            Some(Cluster { nodes: 3, zones: 1, apps: 1, pods: 10, writes_per_ks: 0, calls_per_s: 0 });
        record.healed_ns = seconds(100);
        record.ended_ns = seconds(600);
        Self { record, now_s: 1, revision: 1, keys: BTreeMap::new() }
    }

    /// What follows happens `s` seconds after the beginning.
    pub(crate) fn at(&mut self, s: u64) -> &mut Self {
        assert!(s >= self.now_s, "a tale goes on");
        self.now_s = s;
        self
    }

    /// An object is stored, given as JSON, below `/registry/`: `put("core/pods/default/a", r#"{...}"#)`.
    pub(crate) fn put(&mut self, key: &str, json: &str) -> &mut Self {
        self.put_together(&[(key, json)])
    }

    /// Objects are stored in one revision.
    pub(crate) fn put_together(&mut self, objects: &[(&str, &str)]) -> &mut Self {
        let puts: Vec<_> =
            objects.iter().map(|(key, json)| (format!("/registry/{key}"), format!("\u{1}{json}"))).collect();
        self.put_raw(puts)
    }

    /// Keys are set in one revision, wherever they are.
    pub(crate) fn put_raw(&mut self, puts: Vec<(String, String)>) -> &mut Self {
        self.revision += 1;
        let mut events = Vec::new();
        for (key, value) in puts {
            let (create_revision, version) = self.keys.get(&key).map_or((self.revision, 1), |(at, n)| (*at, n + 1));
            self.keys.insert(key.clone(), (create_revision, version));
            let mod_revision = self.revision;
            events.push(WatchEvent::Put(KeyValue {
                key,
                value: value.into(),
                create_revision,
                mod_revision,
                version,
                lease: 0,
            }));
        }
        self.applied(events)
    }

    /// An object is removed.
    pub(crate) fn delete(&mut self, key: &str) -> &mut Self {
        let key = format!("/registry/{key}");
        self.revision += 1;
        assert!(self.keys.remove(&key).is_some(), "{key} exists");
        self.applied(vec![WatchEvent::Delete { key, mod_revision: self.revision }])
    }

    fn applied(&mut self, events: Vec<WatchEvent>) -> &mut Self {
        let (at_ns, revision) = (seconds(self.now_s), self.revision);
        self.record.observations.push(Observation::Applied { at_ns, member: 0, revision, events });
        self
    }

    /// A fault strikes, from and until these seconds; whom is to be added.
    pub(crate) fn strike(&mut self, kind: Kind, from_s: u64, until_s: u64) -> &mut Strike {
        let fault = self.record.strikes.len() as u32;
        let (from_ns, until_ns) = (seconds(from_s), seconds(until_s));
        self.record.strikes.push(Strike {
            fault,
            kind,
            from_ns,
            until_ns,
            members: vec![],
            clients: vec![],
            nodes: vec![],
            busy: true,
            disabled: vec![],
            severed: vec![],
        });
        self.record.strikes.last_mut().expect("it was just struck")
    }

    /// A member begins or ceases, now, to believe that it leads.
    pub(crate) fn elected(&mut self, member: u32, lease: &str, epoch: i64, leads: bool) -> &mut Self {
        let at_ns = seconds(self.now_s);
        self.saw(Sight::Elected { at_ns, member, lease: lease.to_owned(), epoch, leads })
    }

    /// An agent's process begins or ends, now.
    pub(crate) fn agent(&mut self, node: u32, up: bool) -> &mut Self {
        self.saw(Sight::Agent { at_ns: seconds(self.now_s), node, up })
    }

    /// A container is asked to end, or made to, now.
    pub(crate) fn signals(&mut self, node: u32, pod_uid: &str, name: &str, id: &str, kill: bool) -> &mut Self {
        let container = self.container(node, pod_uid, name, id);
        self.saw(Sight::Signalled { container, kill })
    }

    /// Something was seen.
    pub(crate) fn saw(&mut self, sight: Sight) -> &mut Self {
        self.record.cluster.sights.push(sight);
        self
    }

    /// A container, now: `container(0, "uid-a", "web", "c1")`.
    pub(crate) fn container(&self, node: u32, pod_uid: &str, name: &str, id: &str) -> Container {
        Container {
            at_ns: seconds(self.now_s),
            node,
            pod_uid: pod_uid.to_owned(),
            name: name.to_owned(),
            id: id.to_owned(),
        }
    }

    /// A container starts.
    pub(crate) fn starts(&mut self, node: u32, pod_uid: &str, name: &str, id: &str) -> &mut Self {
        let container = self.container(node, pod_uid, name, id);
        self.saw(Sight::Started(container))
    }

    /// A container ends.
    pub(crate) fn exits(&mut self, node: u32, pod_uid: &str, name: &str, id: &str, code: i32) -> &mut Self {
        let container = self.container(node, pod_uid, name, id);
        self.saw(Sight::Exited { container, code })
    }

    #[track_caller]
    pub(crate) fn verdict(&self, check: fn(&World<'_>) -> Verdict) -> Verdict {
        let log = Log::new(&self.record);
        check(&World::new(&self.record, &log).expect("a tale is of a cluster"))
    }

    /// The checker finds nothing wrong, and was put to the test this often.
    #[track_caller]
    pub(crate) fn passes(&self, check: fn(&World<'_>) -> Verdict, guarantee: Guarantee, tested: u64) {
        let verdict = self.verdict(check);
        assert_eq!((verdict.guarantee, verdict.violations, verdict.tested), (guarantee, vec![], tested));
    }

    /// The checker flags it, in words that contain these.
    #[track_caller]
    pub(crate) fn flags(&self, check: fn(&World<'_>) -> Verdict, words: &str) {
        let violations = self.verdict(check).violations;
        assert!(violations.iter().any(|v| v.text.contains(words)), "{words:?} is not said: {violations:#?}");
    }
}

/// A pod in short: `pod("a", "uid-a", r#""nodeName":"n1""#, r#""phase":"Running""#)` with fields of spec and status.
pub(crate) fn pod(name: &str, uid: &str, spec: &str, status: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","namespace":"default","uid":"{uid}"}},"spec":{{"containers":[]{}{spec}}},"status":{{{status}}}}}"#,
        if spec.is_empty() { "" } else { "," }
    )
}
