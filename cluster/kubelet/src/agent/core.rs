//! The loop: takes in what happens, and marks the pods that it concerns for a decision (`attend`).

use super::effects::{self, Tools};
use super::entry::Entry;
use super::view::Shared;
use super::writer::{Writer, revision};
use super::{AgentConfig, Message};
use crate::addresses::PodCidr;
use crate::admission::{self, NodeFacts};
use crate::pod::{Hook, Record, Verdict};
use crate::runtime::Listing;
use api::core::v1::{Node, Pod, PodSpec, PodStatus};
use api::{ObjectExt, ObjectMeta};
use client::plan::reference;
use client::{Caches, Change, Clock, Following, Note, Now};
use mark::sometimes;
use rt::task::AbortOnDrop;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// After the records could not be written, so long until the next try.
const DISK_RETRY: Duration = Duration::from_secs(5);

/// The loop's state.
pub(super) struct Core {
    pub(super) config: AgentConfig,
    pub(super) tools: Arc<Tools>,
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Arc<Writer>,
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) clock: Clock,
    pub(super) node: NodeFacts,
    pub(super) cidr: Option<PodCidr>,
    pub(super) last_ip: Option<IpAddr>,
    pub(super) runtime_name: String,
    pub(super) dirty: BTreeSet<String>,
    pub(super) timers: BTreeSet<(Duration, String)>,
    pub(super) statuses: u64,
    pub(super) saving: bool,
    /// Something changed since the save under way began.
    pub(super) save_wanted: bool,
    pub(super) save_again_at: Option<Duration>,
    /// What the runtime complained of last.
    pub(super) trouble: Option<String>,
    /// Stops, hooks and saves under way.
    pub(super) tasks: Vec<AbortOnDrop<()>>,
}

impl Core {
    pub(super) fn new(
        config: AgentConfig,
        tools: Tools,
        shared: Arc<Shared>,
        writer: Arc<Writer>,
        sender: mpsc::Sender<Message>,
        clock: Clock,
    ) -> Core {
        let allocatable = BTreeMap::from([
            ("cpu".to_owned(), config.capacity.cpu_milli),
            ("memory".to_owned(), config.capacity.memory_bytes),
            ("ephemeral-storage".to_owned(), config.capacity.storage_bytes),
            ("pods".to_owned(), config.capacity.pods),
        ]);
        let labels = super::node::labels(&config);
        let node = NodeFacts { name: config.node.clone(), labels, taints: config.taints.clone(), allocatable };
        let version = tools.runtime.version();
        let runtime_name = version.split("://").next().unwrap_or_default().to_owned();
        let cidr = config.pod_cidr.as_deref().and_then(PodCidr::parse);
        shared.lock().addresses = cidr.is_some();
        Core {
            config,
            tools: Arc::new(tools),
            shared,
            writer,
            sender,
            clock,
            node,
            cidr,
            last_ip: None,
            runtime_name,
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            statuses: 0,
            saving: false,
            save_wanted: false,
            save_again_at: None,
            trouble: None,
            tasks: Vec::new(),
        }
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self, following: Following, mut messages: mpsc::Receiver<Message>, stop: Arc<Notify>) {
        tokio::select! {
            biased;
            () = stop.notified() => return,
            () = following.synced() => {}
        }
        let mut changes = following.subscribe();
        self.begin(&following.caches()).await;
        let runtime = self.tools.runtime.clone();
        loop {
            self.attend_all();
            let due = self.timers.first().map(|(at, _)| *at).into_iter().chain(self.save_again_at).min();
            let timer = async {
                match due {
                    Some(at) => rt::time::sleep_until(self.clock.instant(at)).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.notified() => break,
                Some(message) = messages.recv() => {
                    self.take_in(message);
                    while let Ok(message) = messages.try_recv() {
                        self.take_in(message);
                    }
                }
                changed = runtime.changed() => {
                    for uid in changed {
                        self.look(&uid).await;
                    }
                }
                changes = changes.next() => self.follow(&changes).await,
                () = timer => self.ring(),
            }
        }
        // What was decided is better known to the next agent; it can do without.
        drop(self.tools.records.save().await);
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Takes up what there is: the Node, the pods bound here, what the runtime and the records have of others.
    async fn begin(&mut self, caches: &Caches) {
        if let Some(node) = caches.get::<Node>("", &self.config.node) {
            self.take_node(node);
        }
        // An address that an earlier process gave out last is not to be given out next.
        self.last_ip = self.tools.records.addresses().into_values().max();
        let mut pods: Vec<Arc<Pod>> = caches.all::<Pod>().cloned().collect();
        sort_for_admission(&mut pods);
        let (known, new): (Vec<_>, Vec<_>) =
            pods.into_iter().partition(|pod| self.tools.records.get(pod.uid()).is_some());
        let mut bound = BTreeSet::new();
        for pod in known.into_iter().chain(new) {
            bound.insert(pod.uid().to_owned());
            self.come(pod, true).await;
        }
        let listing = self.tools.runtime.list(None).await.unwrap_or_default();
        let sandboxes = listing.sandboxes.iter().map(|it| (&it.config.pod_uid, &it.config.namespace, &it.config.name));
        let mut orphans: BTreeMap<String, Record> =
            self.tools.records.all().into_iter().map(|record| (record.uid.clone(), record)).collect();
        for (uid, namespace, name) in sandboxes {
            let stub = Pod { metadata: names(uid, namespace, name), ..Pod::default() };
            let new = || Record::new(&stub, &Listing::default(), self.clock.now().wall);
            orphans.entry(uid.clone()).or_insert_with(new);
        }
        for (uid, record) in orphans {
            if !bound.contains(&uid) {
                sometimes!("pod that is gone from the API found by a new node agent");
                self.adopt_orphan(record).await;
            }
        }
        self.shared.lock().synced = true;
    }

    /// Ends what is left of a pod that the API no longer has.
    async fn adopt_orphan(&mut self, record: Record) {
        let mut pod = Pod { metadata: names(&record.uid, &record.namespace, &record.name), ..Pod::default() };
        let grace_s = i64::try_from(record.grace_s).ok();
        pod.spec = Some(PodSpec { termination_grace_period_seconds: grace_s, ..PodSpec::default() });
        let uid = record.uid.clone();
        self.tools.records.put(record);
        let listing = self.tools.runtime.list(Some(&uid)).await.unwrap_or_default();
        let mut entry = Entry::new(Arc::new(pod), listing, self.now());
        entry.gone = true;
        self.shared.lock().pods.insert(uid.clone(), entry);
        self.dirty.insert(uid);
    }

    async fn follow(&mut self, changes: &[Change]) {
        let mut new: Vec<Arc<Pod>> = Vec::new();
        for change in changes {
            if let Some(node) = change.new::<Node>() {
                self.take_node(&node);
            }
            let (before, after) = (change.old::<Pod>(), change.new::<Pod>());
            if let Some(before) = before.filter(|before| after.as_ref().is_none_or(|after| after.uid() != before.uid()))
            {
                self.go(before.uid());
            }
            new.extend(after);
        }
        sort_for_admission(&mut new);
        for pod in new {
            self.come(pod, false).await;
        }
    }

    fn take_node(&mut self, node: &Node) {
        self.node.labels.clone_from(node.labels());
        let spec = node.spec.clone().unwrap_or_default();
        self.node.taints = spec.taints.unwrap_or_default();
        if self.config.pod_cidr.is_none()
            && let Some(cidr) = spec.pod_cidr.as_deref().and_then(PodCidr::parse)
            && self.cidr.is_none()
        {
            self.cidr = Some(cidr);
            let mut inner = self.shared.lock();
            inner.addresses = true;
            self.dirty.extend(inner.pods.keys().cloned());
            drop(inner);
            self.shared.node_changed().notify_one();
        }
    }

    /// A pod is bound here, or changed.
    async fn come(&mut self, pod: Arc<Pod>, first: bool) {
        let uid = pod.uid().to_owned();
        let known = {
            let mut inner = self.shared.lock();
            match inner.pods.get_mut(&uid) {
                Some(entry) => {
                    entry.gone = false;
                    if revision(&*pod) >= revision(&*entry.pod) && entry.update(pod.clone()) {
                        self.dirty.insert(uid.clone());
                    }
                    true
                }
                None => false,
            }
        };
        if known {
            return;
        }
        let listing = self.tools.runtime.list(Some(&uid)).await.unwrap_or_default();
        let now = self.now();
        if self.tools.records.get(&uid).is_none() {
            let mut record = Record::new(&pod, &listing, now.wall);
            let is_new = record.containers.is_empty() && record.verdict.is_none();
            if is_new && !pod.is_terminating() && !is_terminal(pod.status.as_ref()) {
                self.admit(&pod, &mut record);
            }
            self.tools.records.put(record);
        }
        let mut entry = Entry::new(pod, listing, now);
        entry.restore(first);
        self.shared.lock().pods.insert(uid.clone(), entry);
        self.dirty.insert(uid);
    }

    fn admit(&self, pod: &Arc<Pod>, record: &mut Record) {
        let inner = self.shared.lock();
        let holds = |uid: &String, entry: &Entry| {
            let record = self.tools.records.get(uid);
            entry.holds_resources(record.as_ref().and_then(|record| record.verdict.as_ref()))
        };
        let others: Vec<&Pod> =
            inner.pods.iter().filter(|(uid, entry)| holds(uid, entry)).map(|(_, entry)| &*entry.pod).collect();
        if let Err(refusal) = admission::admit(pod, &others, &self.node) {
            sometimes!("pod refused by its node");
            let message = refusal.message.clone();
            let reason = event_reason(&refusal.reason);
            self.tools.recorder.record(&Note { regarding: reference(&**pod), warning: true, reason, message });
            let message = format!("Pod was rejected: {}", refusal.message);
            record.verdict = Some(Verdict::Rejected { reason: refusal.reason, message });
        }
    }

    /// A pod is gone from the API.
    fn go(&mut self, uid: &str) {
        if let Some(entry) = self.shared.lock().pods.get_mut(uid) {
            entry.gone = true;
            self.dirty.insert(uid.to_owned());
        }
    }

    /// Something of a pod changed in the runtime.
    async fn look(&mut self, uid: &str) {
        if let Ok(listing) = self.tools.runtime.list(Some(uid)).await
            && let Some(entry) = self.shared.lock().pods.get_mut(uid)
        {
            entry.listing = listing;
            self.dirty.insert(uid.to_owned());
        }
    }

    fn ring(&mut self) {
        let now = self.now().monotonic;
        while let Some((at, uid)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(entry) = self.shared.lock().pods.get_mut(&uid) {
                entry.wake = None;
            }
            self.dirty.insert(uid);
        }
        if self.save_again_at.is_some_and(|at| at <= now) {
            self.save_again_at = None;
            self.save();
        }
    }

    fn take_in(&mut self, message: Message) {
        let now = self.now();
        let uid = match &message {
            Message::Stepped { uid, .. } | Message::Stopped { uid, .. } | Message::Hooked { uid, .. } => uid.clone(),
            Message::Probed(report) => report.pod_uid.clone(),
            Message::Written(uid) => uid.clone(),
            Message::Saved => {
                self.saved(now);
                return;
            }
        };
        let mut inner = self.shared.lock();
        let Some(entry) = inner.pods.get_mut(&uid) else { return };
        let mut hook = None;
        match message {
            Message::Stepped { outcome, .. } => {
                if let Some(hooked) = self.tools.stepped(entry, &uid, outcome, now) {
                    hook = Some((entry.pod.clone(), hooked));
                }
            }
            Message::Stopped { failed, .. } => {
                if let Some(id) = failed {
                    entry.facts.stopping.remove(&id);
                }
            }
            Message::Hooked { id, failed, .. } => {
                if failed {
                    entry.facts.hooks.insert(id, Hook::Failed);
                } else {
                    entry.facts.hooks.remove(&id);
                }
            }
            Message::Probed(report) => self.tools.take_report(&self.config.node, entry, &report),
            Message::Written(_) => {
                if entry.facts.acknowledged {
                    return;
                }
                entry.facts.acknowledged = true;
            }
            Message::Saved => {}
        }
        drop(inner);
        let trouble = self.tools.runtime.trouble();
        if trouble != self.trouble {
            self.trouble = trouble;
            self.shared.node_changed().notify_one();
        }
        if let Some((pod, (container, id))) = hook {
            self.run_hook(pod, container, id);
        }
        self.dirty.insert(uid);
    }

    /// The records were written, or not.
    fn saved(&mut self, now: Now) {
        self.saving = false;
        let failed = self.tools.records.trouble().is_some();
        self.save_again_at = failed.then(|| now.monotonic + DISK_RETRY);
        if self.save_wanted && !failed {
            self.save();
        }
    }

    fn run_hook(&mut self, pod: Arc<Pod>, container: String, id: String) {
        let ip = self.tools.records.get(pod.uid()).and_then(|record| record.ip).unwrap_or(self.config.ip);
        let (tools, sender) = (self.tools.clone(), self.sender.clone());
        self.spawn("kubelet-hook", async move {
            // The agent is gone when nobody listens.
            drop(sender.send(effects::post_start(&tools, &pod, &container, &id, ip).await).await);
        });
    }

    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(rt::task::spawn(name, task).abort_on_drop());
    }

    fn attend_all(&mut self) {
        let shared = self.shared.clone();
        for uid in std::mem::take(&mut self.dirty) {
            self.attend(&mut shared.lock(), &uid);
        }
    }
}

fn is_terminal(status: Option<&PodStatus>) -> bool {
    matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Oldest first, as upstream: in which order pods compete for what the node has.
fn sort_for_admission(pods: &mut [Arc<Pod>]) {
    let key = |pod: &Pod| (pod.created(), pod.namespace().to_owned(), pod.name().to_owned(), pod.uid().to_owned());
    pods.sort_by_cached_key(|pod| key(pod));
}

fn names(uid: &str, namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        uid: Some(uid.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Reasons of events are fixed texts.
fn event_reason(reason: &str) -> &'static str {
    match reason {
        "OutOfcpu" => "OutOfcpu",
        "OutOfmemory" => "OutOfmemory",
        "OutOfpods" => "OutOfpods",
        "OutOfephemeral-storage" => "OutOfephemeral-storage",
        "NodeAffinity" => "NodeAffinity",
        "NodePorts" => "NodePorts",
        "TaintToleration" => "TaintToleration",
        _ => "UnexpectedAdmissionError",
    }
}
