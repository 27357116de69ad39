//! One pod at a time: asks [`pod_actions`] and has done what it says.

use super::Message;
use super::core::Core;
use super::effects;
use super::entry::Entry;
use super::view::Inner;
use crate::pod::{Decision, Record, Step, View, Wanted, pod_actions, same};
use crate::probe::{self, Kind, Subject};
use crate::runtime::ContainerState;
use api::ObjectExt;
use client::Now;
use mark::sometimes;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

impl Core {
    /// Decides about one pod and has it done.
    pub(super) fn attend(&mut self, inner: &mut Inner, uid: &str) {
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
    pub(super) fn with_address(&mut self, inner: &Inner, mut record: Record) -> Record {
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
    pub(super) fn free_address(&mut self, inner: &Inner) -> Option<IpAddr> {
        let mut taken = self.tools.records.addresses();
        taken.retain(|uid, _| inner.pods.get(uid).is_none_or(|entry| !entry.ended));
        let taken = taken.into_values().collect();
        let address = self.cidr?.allocate(&taken, self.last_ip)?;
        self.last_ip = Some(address);
        Some(address)
    }

    pub(super) fn stop(&mut self, entry: &mut Entry, decision: &Decision, now: Now) {
        if decision.ending.is_some()
            && let Some((_, cancel, _)) = &entry.step
        {
            cancel.notify_one();
        }
        let ip = decision.record.ip.unwrap_or(self.config.ip);
        for stop in &decision.stops {
            entry.facts.stopping.insert(stop.id.clone(), now.monotonic + stop.grace);
            let (tools, pod, stop, sender) = (self.tools.clone(), entry.pod.clone(), stop.clone(), self.sender.clone());
            self.spawn("kubelet-stop", async move {
                drop(sender.send(effects::stop(&tools, &pod, &stop, ip).await).await);
            });
        }
    }

    pub(super) fn begin_step(&self, entry: &mut Entry, step: Step, record: Record) {
        entry.facts.busy = Some(match &step {
            Step::Start { container, .. } => container.clone(),
            Step::CreateSandbox { .. } | Step::RemoveContainer { .. } | Step::RemoveSandbox { .. } => String::new(),
        });
        let cancel = Arc::new(Notify::new());
        let (tools, pod, sender) = (self.tools.clone(), entry.pod.clone(), self.sender.clone());
        let (doing, hurry) = (step.clone(), cancel.clone());
        let task = rt::task::spawn("kubelet-step", async move {
            let outcome = effects::step(&tools, &pod, &record, &doing, &hurry).await;
            if outcome.failed() {
                sometimes!("step of a pod failed");
                rt::time::sleep(effects::FAILURE_PAUSE).await;
            }
            drop(sender.send(Message::Stepped { uid: record.uid, outcome }).await);
        });
        entry.step = Some((step, cancel, task.abort_on_drop()));
    }

    pub(super) fn wake(&mut self, uid: &str, entry: &mut Entry, at: Option<Duration>) {
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
    pub(super) fn tell(&mut self, uid: &str, entry: &mut Entry, decision: &Decision) {
        let changed = entry.status != decision.status;
        entry.status.clone_from(&decision.status);
        // What is dead and was said to be so has no status that anybody could still see.
        if entry.gone || entry.confirmed {
            return;
        }
        let known = entry.pod.status.as_ref().is_some_and(|theirs| same(&decision.status, theirs));
        let delete = decision.ended && entry.pod.is_terminating();
        // The writer compares with the API: what waits there is always to be replaced by what is newer.
        if changed || delete || (!known && !entry.told) {
            entry.told = true;
            entry.confirmed = delete;
            self.statuses += 1;
            self.writer.put(self.statuses, &entry.pod, decision.status.clone(), delete);
            tracing::debug!(uid, phase = decision.status.phase.as_deref(), "status of a pod");
        }
    }

    /// Has the probes run that are due, and no others.
    pub(super) fn probe(&self, entry: &mut Entry, decision: &Decision, record: &Record) {
        let mut wanted: BTreeMap<(String, Kind), (String, Duration)> = BTreeMap::new();
        for named in crate::pod::containers(&entry.pod) {
            let Some(current) = entry
                .listing
                .containers
                .iter()
                .rev()
                .find(|it| it.name == named.name() && it.attempt + 1 == record.container(named.name()).starts)
            else {
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
    pub(super) fn save(&mut self) {
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
