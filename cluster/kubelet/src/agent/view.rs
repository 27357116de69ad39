//! What an agent knows and does, as plain data, for reports and for judging trials.

use super::entry::Entry;
use super::records::Records;
use super::writer::Writer;
use crate::pod::Verdict;
use crate::runtime::{ContainerRuntime, ContainerState};
use api::ObjectExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What an agent knows and does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The node's name.
    pub node: String,
    /// The Node exists in the API.
    pub registered: bool,
    /// The pods bound here were listed.
    pub synced: bool,
    /// Why the node is not ready, if it is not.
    pub trouble: Option<String>,
    /// How many statuses wait to be written.
    pub statuses_waiting: usize,
    /// In order of UID.
    pub pods: Vec<PodView>,
}

/// What an agent knows of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The phase that was decided last.
    pub phase: String,
    /// Its address, if it has one.
    pub ip: Option<String>,
    /// It was refused by this node.
    pub rejected: bool,
    /// It was admitted and counts against the node's resources.
    pub holds_resources: bool,
    /// It is ready, as decided last.
    pub ready: bool,
    /// It is to end.
    pub ending: bool,
    /// Nothing of it is left here.
    pub ended: bool,
    /// It is gone from the API.
    pub gone: bool,
    /// What is being done about it now.
    pub step: Option<String>,
    /// Why something of it could not be started.
    pub failures: Vec<String>,
    /// What the runtime has of it, in order of name and attempt.
    pub containers: Vec<ContainerView>,
}

/// What an agent knows of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// The how manieth start it is, from 0.
    pub attempt: u32,
    /// Its id.
    pub id: String,
    /// It runs.
    pub running: bool,
    /// How it ended, if it did.
    pub exit_code: Option<i32>,
    /// What its readiness probe said last; `None` without one.
    pub probed_ready: Option<bool>,
}

/// What the agent's tasks share.
pub(super) struct Shared {
    node: String,
    records: Arc<Records>,
    writer: Arc<Writer>,
    runtime: Arc<dyn ContainerRuntime>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) registered: bool,
    pub(super) synced: bool,
    /// Pods have a range of addresses.
    pub(super) addresses: bool,
    pub(super) pods: BTreeMap<String, Entry>,
}

impl Shared {
    pub(super) fn new(
        node: &str,
        records: Arc<Records>,
        writer: Arc<Writer>,
        runtime: Arc<dyn ContainerRuntime>,
    ) -> Arc<Shared> {
        Arc::new(Shared { node: node.to_owned(), records, writer, runtime, inner: Mutex::default() })
    }

    /// Told when something changes that the Node's status tells of.
    pub(super) fn node_changed(&self) -> &Notify {
        &self.records.node_changed
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the node cannot take pods now.
    pub(super) fn trouble(&self) -> Option<String> {
        let disk = self.records.trouble().or_else(|| self.runtime.trouble());
        disk.or_else(|| {
            let network = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                           message:Network plugin returns error: the node has no pod CIDR yet";
            (!self.lock().addresses).then(|| network.to_owned())
        })
    }

    pub(super) fn runtime_version(&self) -> String {
        self.runtime.version()
    }

    pub(super) fn view(&self) -> View {
        let trouble = self.trouble();
        let inner = self.lock();
        View {
            node: self.node.clone(),
            registered: inner.registered,
            synced: inner.synced,
            trouble,
            statuses_waiting: self.writer.len(),
            pods: inner.pods.iter().map(|(uid, entry)| self.pod(uid, entry)).collect(),
        }
    }

    fn pod(&self, uid: &str, entry: &Entry) -> PodView {
        let record = self.records.get(uid);
        let status = &entry.status;
        let ready = status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
        let container = |it: &crate::runtime::Container| {
            let probes = entry.facts.probes.get(&it.name).filter(|results| super::same_container(results, &it.id));
            ContainerView {
                name: it.name.clone(),
                attempt: it.attempt,
                id: it.id.clone(),
                running: matches!(it.state, ContainerState::Running { .. }),
                exit_code: match &it.state {
                    ContainerState::Exited(exit) => Some(exit.code),
                    ContainerState::Created | ContainerState::Running { .. } => None,
                },
                probed_ready: probes.and_then(|results| results.readiness),
            }
        };
        let mut containers: Vec<ContainerView> = entry.listing.containers.iter().map(container).collect();
        containers.sort();
        let verdict = record.as_ref().and_then(|record| record.verdict.as_ref());
        PodView {
            uid: uid.to_owned(),
            namespace: entry.pod.namespace().to_owned(),
            name: entry.pod.name().to_owned(),
            phase: status.phase.clone().unwrap_or_default(),
            ip: record.as_ref().and_then(|record| record.ip).map(|ip| ip.to_string()),
            rejected: matches!(verdict, Some(Verdict::Rejected { .. })),
            holds_resources: entry.holds_resources(verdict),
            ready,
            ending: entry.facts.ending.is_some(),
            ended: entry.ended,
            gone: entry.gone,
            step: entry.step_name(),
            failures: entry.facts.failures.iter().map(|(name, it)| format!("{name}: {}", it.message)).collect(),
            containers,
        }
    }
}
