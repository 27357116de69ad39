//! The loop: takes in what happens, asks [`pod_actions`] about each pod that it concerns, and has done what that says.

use super::effects::{self, Outcome, Tools};
use super::view::{Inner, Shared};
use super::writer::{Writer, revision};
use super::{AgentConfig, Message};
use crate::addresses::PodCidr;
use crate::admission::{self, NodeFacts};
use crate::pod::{
    Decision, Facts, Failure, FailureKind, Hook, Record, Step, Verdict, View, Wanted, pod_actions, same, shown,
};
use crate::probe::{self, Kind, Report, Subject};
use crate::runtime::{ContainerState, Listing};
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

/// What the agent holds of a pod.
pub(super) struct Entry {
    /// As the API has it, or had it last.
    pub(super) pod: Arc<Pod>,
    /// It is gone from the API.
    pub(super) gone: bool,
    pub(super) listing: Listing,
    pub(super) facts: Facts,
    /// What was decided last.
    pub(super) status: PodStatus,
    /// Nothing is left of it.
    pub(super) ended: bool,
    /// The step under way, and how to hurry it.
    step: Option<(Step, Arc<Notify>, AbortOnDrop<()>)>,
    /// By container and kind; of the container with this id.
    probes: BTreeMap<(String, Kind), (String, AbortOnDrop<()>)>,
    /// The deletion was handed to the writer.
    confirmed: bool,
    wake: Option<Duration>,
    /// The status as it is was handed to the writer since the API showed another.
    told: bool,
    /// Containers that ran before this agent, by id.
    restored: BTreeSet<String>,
}

impl Entry {
    /// Whether it counts against what the node has.
    pub(super) fn holds_resources(&self, verdict: Option<&Verdict>) -> bool {
        let rejected = matches!(verdict, Some(Verdict::Rejected { .. }));
        !rejected && !self.ended && !matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }
}

/// The loop's state.
pub(super) struct Core {
    config: AgentConfig,
    tools: Arc<Tools>,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    sender: mpsc::Sender<Message>,
    clock: Clock,
    node: NodeFacts,
    cidr: Option<PodCidr>,
    last_ip: Option<IpAddr>,
    runtime_name: String,
    dirty: BTreeSet<String>,
    timers: BTreeSet<(Duration, String)>,
    statuses: u64,
    saving: bool,
    /// Something changed since the save under way began.
    save_wanted: bool,
    save_again_at: Option<Duration>,
    /// What the runtime complained of last.
    trouble: Option<String>,
    /// Stops, hooks and saves under way.
    tasks: Vec<AbortOnDrop<()>>,
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

    fn now(&self) -> Now {
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
            if let Some(before) = before.filter(|before| after.as_ref().is_none_or(|after| after.uid() != before.uid())) {
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

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(rt::task::spawn(name, task).abort_on_drop());
    }

    fn attend_all(&mut self) {
        let shared = self.shared.clone();
        for uid in std::mem::take(&mut self.dirty) {
            self.attend(&mut shared.lock(), &uid);
        }
    }

    /// Decides about one pod and has it done.
    fn attend(&mut self, inner: &mut Inner, uid: &str) {
        let Some(record) = self.tools.records.get(uid) else { return };
        let record = self.with_address(inner, record);
        let Some(entry) = inner.pods.get_mut(uid) else { return };
        let now = self.now();
        entry.facts.notice(&entry.listing, now);
        let deleted = entry.gone || entry.pod.is_terminating();
        let decision = pod_actions(&View {
            pod: &entry.pod,
            wanted: if deleted { Wanted::End } else { Wanted::Run },
            record: &record,
            listing: &entry.listing,
            facts: &entry.facts,
            node_ip: self.config.ip,
            runtime: &self.runtime_name,
            previous: &entry.status,
            now,
        });
        for note in &decision.notes {
            self.tools.recorder.record(note);
        }
        let changed = record != decision.record;
        self.tools.records.put(decision.record.clone());
        entry.facts.ending = decision.ending;
        entry.ended = decision.ended;
        self.stop(entry, &decision, now);
        self.wake(uid, entry, decision.wake);
        self.tell(uid, entry, &decision);
        self.probe(entry, &decision, &record);
        if let Some(step) = decision.step
            && entry.step.is_none()
        {
            self.begin_step(entry, step, decision.record);
        } else if changed {
            self.save();
        }
        if entry.gone && entry.ended {
            inner.pods.remove(uid);
            self.timers.retain(|(_, other)| other != uid);
            self.tools.records.remove(uid);
            self.save();
        }
    }

    /// The pod's record with an address, if it needs one and there is one.
    fn with_address(&mut self, inner: &Inner, mut record: Record) -> Record {
        let Some(entry) = inner.pods.get(&record.uid) else { return record };
        let over = record.verdict.is_some() || entry.gone || entry.pod.is_terminating();
        if record.ip.is_some() || over {
            return record;
        }
        let host_network = entry.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        record.ip = if host_network { Some(self.config.ip) } else { self.free_address(inner) };
        self.tools.records.put(record.clone());
        record
    }

    /// An address that no pod has of which anything is left here.
    fn free_address(&mut self, inner: &Inner) -> Option<IpAddr> {
        let mut taken = self.tools.records.addresses();
        taken.retain(|uid, _| inner.pods.get(uid).is_none_or(|entry| !entry.ended));
        let taken = taken.into_values().collect();
        let address = self.cidr?.allocate(&taken, self.last_ip)?;
        self.last_ip = Some(address);
        Some(address)
    }

    fn stop(&mut self, entry: &mut Entry, decision: &Decision, now: Now) {
        if decision.ending.is_some()
            && let Some((_, cancel, _)) = &entry.step
        {
            cancel.notify_one();
        }
        let ip = decision.record.ip.unwrap_or(self.config.ip);
        for stop in &decision.stops {
            entry.facts.stopping.insert(stop.id.clone(), now.monotonic + stop.grace);
            let (tools, pod, stop, sender) =
                (self.tools.clone(), entry.pod.clone(), stop.clone(), self.sender.clone());
            self.spawn("kubelet-stop", async move {
                drop(sender.send(effects::stop(&tools, &pod, &stop, ip).await).await);
            });
        }
    }

    fn begin_step(&self, entry: &mut Entry, step: Step, record: Record) {
        entry.facts.busy = Some(match &step {
            Step::Start { container, .. } => container.clone(),
            Step::CreateSandbox { .. } | Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } => String::new(),
        });
        let cancel = Arc::new(Notify::new());
        let (tools, pod, sender) = (self.tools.clone(), entry.pod.clone(), self.sender.clone());
        let (doing, hurry) = (step.clone(), cancel.clone());
        let task = rt::task::spawn("kubelet-step", async move {
            let outcome = effects::step(&tools, &pod, &record, &doing, &hurry).await;
            drop(sender.send(Message::Stepped { uid: record.uid, outcome }).await);
        });
        entry.step = Some((step, cancel, task.abort_on_drop()));
    }

    fn wake(&mut self, uid: &str, entry: &mut Entry, at: Option<Duration>) {
        if entry.wake == at {
            return;
        }
        if let Some(before) = entry.wake.take() {
            self.timers.remove(&(before, uid.to_owned()));
        }
        if let Some(at) = at {
            self.timers.insert((at, uid.to_owned()));
        }
        entry.wake = at;
    }

    /// Has the status written, if anybody needs it.
    fn tell(&mut self, uid: &str, entry: &mut Entry, decision: &Decision) {
        let changed = entry.status != decision.status;
        entry.status.clone_from(&decision.status);
        if entry.gone {
            return;
        }
        let known = entry.pod.status.as_ref().is_some_and(|theirs| same(&decision.status, theirs));
        let delete = decision.ended && entry.pod.is_terminating();
        // The writer compares with the API: what waits there is always to be replaced by what is newer.
        if changed || (delete && !entry.confirmed) || (!known && !entry.told) {
            entry.told = true;
            entry.confirmed |= delete;
            self.statuses += 1;
            self.writer.put(self.statuses, &entry.pod, decision.status.clone(), delete);
            tracing::debug!(uid, phase = decision.status.phase.as_deref(), "status of a pod");
        }
    }

    /// Has the probes run that are due, and no others.
    fn probe(&self, entry: &mut Entry, decision: &Decision, record: &Record) {
        let mut wanted: BTreeMap<(String, Kind), (String, Duration)> = BTreeMap::new();
        for named in crate::pod::containers(&entry.pod) {
            let Some(current) = entry.listing.containers.iter().rev().find(|it| {
                it.name == named.name() && it.attempt + 1 == record.container(named.name()).starts
            }) else {
                continue;
            };
            let ContainerState::Running { started_at } = current.state else { continue };
            let age = Duration::try_from(self.now().wall.duration_since(started_at)).unwrap_or_default();
            let found = entry.facts.probes_of(named.name(), &current.id);
            let started = named.container.startup_probe.is_none() || found.startup == Some(true);
            for kind in Kind::ALL {
                let due = match kind {
                    Kind::Startup => !started && found.startup.is_none() && decision.ending.is_none(),
                    Kind::Liveness => started && found.liveness != Some(false) && decision.ending.is_none(),
                    Kind::Readiness => started,
                };
                if due && kind.of(named.container).is_some() && !entry.facts.hooks.contains_key(&current.id) {
                    wanted.insert((named.name().to_owned(), kind), (current.id.clone(), age));
                }
            }
        }
        entry.probes.retain(|key, (id, _)| wanted.get(key).is_some_and(|(wanted, _)| wanted == id));
        for ((container, kind), (id, age)) in wanted {
            if entry.probes.contains_key(&(container.clone(), kind)) {
                continue;
            }
            let found = entry.facts.probes_of(&container, &id);
            let subject = Subject {
                pod: entry.pod.clone(),
                container: container.clone(),
                ip: record.ip.unwrap_or(self.config.ip),
                age,
                verdict: match kind {
                    Kind::Startup => found.startup,
                    Kind::Liveness => found.liveness,
                    Kind::Readiness => found.readiness,
                },
                before: entry.restored.contains(&id),
                id: id.clone(),
            };
            let random = rt::random::stream("kubelet-probe");
            let task = probe::watch(subject, kind, self.tools.runtime.clone(), self.sender.clone(), random);
            if let Some(task) = task {
                entry.probes.insert((container, kind), (id, task));
            }
        }
    }

    /// Has the records written, without waiting for it.
    fn save(&mut self) {
        self.save_wanted = std::mem::replace(&mut self.saving, true);
        if self.save_wanted {
            return;
        }
        let (tools, sender) = (self.tools.clone(), self.sender.clone());
        self.spawn("kubelet-save", async move {
            // Whether it worked shows in the records.
            drop(tools.records.save().await);
            drop(sender.send(Message::Saved).await);
        });
    }
}

impl Tools {
    /// A step is done. Returns the container whose postStart hook is to be run, by name and id.
    fn stepped(&self, entry: &mut Entry, uid: &str, outcome: Outcome, now: Now) -> Option<(String, String)> {
        let (step, ..) = entry.step.take()?;
        entry.facts.busy = None;
        if let Some(listing) = outcome.listing {
            entry.listing = listing;
        }
        let name = match step {
            Step::Start { container, .. } => container,
            Step::CreateSandbox { .. } | Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } => String::new(),
        };
        match outcome.failure {
            Some((kind, message)) => {
                self.records.change(uid, |record| {
                    if let Some(container) = record.containers.get_mut(&name) {
                        container.undo_start();
                    }
                });
                entry.facts.fail(&name, kind, message, now);
            }
            None => drop(entry.facts.failures.remove(&name)),
        }
        let (id, hook) = outcome.started?;
        hook.then(|| {
            entry.facts.hooks.insert(id.clone(), Hook::Running);
            (name, id)
        })
    }

    fn take_report(&self, node: &str, entry: &mut Entry, report: &Report) {
        if let Some(failure) = &report.failure {
            let message = format!("{} probe failed: {failure}", report.kind.title());
            self.recorder.record(&effects::note(&entry.pod, &report.container, true, "Unhealthy", message));
        }
        let Some(verdict) = report.verdict else { return };
        mark::probed(node, &report.pod_uid, &report.container, &report.id, report.kind.name(), verdict);
        let mut results = entry.facts.probes_of(&report.container, &report.id);
        let result = match report.kind {
            Kind::Startup => &mut results.startup,
            Kind::Liveness => &mut results.liveness,
            Kind::Readiness => &mut results.readiness,
        };
        *result = Some(verdict);
        entry.facts.probes.insert(report.container.clone(), results);
    }
}

impl Facts {
    fn fail(&mut self, name: &str, kind: FailureKind, message: String, now: Now) {
        let count = self.failures.get(name).filter(|before| before.kind == kind).map_or(0, |before| before.count);
        let failure = Failure { kind, message, count: count + 1, at: now.monotonic };
        self.failures.insert(name.to_owned(), failure);
    }
}

impl Entry {
    fn new(pod: Arc<Pod>, listing: Listing, now: Now) -> Entry {
        let mut facts = Facts::default();
        facts.notice(&listing, now);
        let status = pod.status.clone().unwrap_or_default();
        facts.acknowledged = status.start_time.is_some();
        Entry {
            pod,
            gone: false,
            listing,
            facts,
            status,
            ended: false,
            step: None,
            probes: BTreeMap::new(),
            confirmed: false,
            wake: None,
            told: false,
            restored: BTreeSet::new(),
        }
    }

    /// The step under way, for a view.
    pub(super) fn step_name(&self) -> Option<String> {
        self.step.as_ref().map(|(step, ..)| format!("{step:?}"))
    }

    /// Takes up what the API shows of containers that ran before this agent: who was ready stays so until a probe says
    /// otherwise.
    fn restore(&mut self, first: bool) {
        for container in &self.listing.containers {
            let running = matches!(container.state, ContainerState::Running { .. });
            if !running || !first {
                continue;
            }
            self.restored.insert(container.id.clone());
            let Some((ready, started)) = shown(&self.pod, &container.name, &container.id) else { continue };
            let mut results = self.facts.probes_of(&container.name, &container.id);
            results.readiness = Some(ready);
            results.startup = started.then_some(true);
            self.facts.probes.insert(container.name.clone(), results);
        }
    }

    /// Takes a newer version in. Says whether it matters for decisions.
    fn update(&mut self, pod: Arc<Pod>) -> bool {
        let before = &self.pod;
        let gates = pod.spec.as_ref().is_some_and(|spec| spec.readiness_gates.is_some());
        let theirs = pod.status.clone().unwrap_or_default();
        let matters = pod.generation() != before.generation()
            || pod.metadata.deletion_timestamp != before.metadata.deletion_timestamp
            || pod.metadata.deletion_grace_period_seconds != before.metadata.deletion_grace_period_seconds
            || gates
            || (theirs.start_time.is_some() && !self.facts.acknowledged)
            || !same(&self.status, &theirs);
        self.facts.acknowledged |= theirs.start_time.is_some();
        // A status that somebody else changed is to be written again.
        self.told &= same(&self.status, &theirs);
        self.pod = pod;
        matters
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
