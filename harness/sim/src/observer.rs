//! What the harness sees of a trial, in one place: the event log and everything for the record that clients do not see.
//!
//! ```text
//! product --tracing (mark, lead, warnings)--> Listener --+
//! recorder --happenings------------------------------------+--> Observer { log, observations, marks, leaders, ... }
//! sampler, supervisors, storm -------------------------------+
//! ```
//!
//! All of it happens on the trial's one thread. Product code runs within some of these calls' callers, never within the
//! calls: an [`Observer`] that is locked calls nobody.

use crate::archive::Archives;
use crate::effects::Topology;
use crate::log::{Hasher, Line, Log};
use crate::storm::{Awaited, Due, Sign, Turn};
use faults::Ns;
use record::{Container, Observation, Operation, Outcome, Reply, Request, Sight, WatchEvent};
use std::collections::BTreeMap;
use workloads::Happening;

/// Collects what is seen.
#[derive(Debug)]
pub(crate) struct Observer {
    log: Log,
    /// Observations, and what happened to containers, nodes and leaders of controllers.
    archives: Archives,
    marks: BTreeMap<String, u64>,
    /// The term that each member believes it leads in.
    leading: Vec<Option<u64>>,
    last_leader: Option<u32>,
    awaited: Vec<Awaited>,
    due: Vec<Due>,
    /// When each member last applied something and each client host was last answered.
    members_worked_ns: Vec<Ns>,
    clients_worked_ns: Vec<Ns>,
    /// Of each node: its containers that run, by the runtime's id.
    containers: Vec<BTreeMap<String, Container>>,
    /// Of each member: the Leases that its process believes to hold, with their epochs.
    elected: Vec<BTreeMap<String, i64>>,
    /// The trial is over: what is said while its processes are dropped is not part of it.
    closed: bool,
}

/// What is left of an observer when the trial is over.
pub(crate) struct Seen {
    pub(crate) log_hash: u64,
    pub(crate) checkpoints: Vec<u64>,
    pub(crate) log: Option<String>,
    pub(crate) archives: Archives,
    pub(crate) marks: BTreeMap<String, u64>,
}

/// What a member says about leading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lead {
    Leads { term: u64 },
    StepsDown { term: u64 },
    Commits { term: u64, index: u64, entry_term: u64 },
}

/// A target is busy if it did something within this time before.
const BUSY_NS: Ns = 1_000_000_000;

impl Observer {
    pub(crate) fn new(topology: Topology, awaited: Vec<Awaited>, keep_log: bool) -> Self {
        let Topology { members, client_hosts, nodes } = topology;
        Self {
            log: Log::new(keep_log),
            archives: Archives::default(),
            marks: BTreeMap::new(),
            leading: vec![None; members as usize],
            last_leader: None,
            awaited,
            due: Vec::new(),
            members_worked_ns: vec![0; members as usize],
            clients_worked_ns: vec![0; client_hosts as usize],
            containers: vec![BTreeMap::new(); nodes as usize],
            elected: vec![BTreeMap::new(); members as usize],
            closed: false,
        }
    }

    /// A process said a mark: on member `member`, or on a client host. Says whether a fault waited for it.
    pub(crate) fn mark(&mut self, at_ns: Ns, member: Option<u32>, text: &str) -> bool {
        if self.closed {
            return false;
        }
        self.log.line(at_ns, |line| {
            source(line.word("mark"), member).word(text);
        });
        match self.marks.get_mut(text) {
            Some(count) => *count += 1,
            None => drop(self.marks.insert(text.to_owned(), 1)),
        }
        let Some(member) = member else { return false };
        let before = self.due.len();
        self.awaited.retain(|awaited| match &awaited.sign {
            Sign::Mark { text: awaited_text, delay_ns } if awaited_text == text && at_ns >= awaited.from_ns => {
                self.due.push(Due { fault: awaited.fault, at_ns: at_ns + delay_ns, member });
                false
            }
            Sign::Mark { .. } | Sign::Effects { .. } => true,
        });
        self.due.len() > before
    }

    /// A member is about to perform a write, number `index` of its plan, or knows what came of it. The faults that waited
    /// for just this: they are to strike before the member's process goes on.
    pub(crate) fn effect(&mut self, at_ns: Ns, member: u32, index: u64, before: bool) -> Vec<Due> {
        if self.closed {
            return Vec::new();
        }
        self.members_worked_ns[member as usize] = at_ns;
        let mut due = Vec::new();
        self.awaited.retain_mut(|awaited| match &mut awaited.sign {
            Sign::Effects { left, index: from, before: phase }
                if at_ns >= awaited.from_ns && index >= *from && before == *phase =>
            {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    due.push(Due { fault: awaited.fault, at_ns, member });
                }
                *left > 0
            }
            Sign::Mark { .. } | Sign::Effects { .. } => true,
        });
        due
    }

    /// A member said something about leading.
    pub(crate) fn lead(&mut self, at_ns: Ns, member: u32, lead: Lead) {
        let Some(leading) = self.leading.get_mut(member as usize).filter(|_| !self.closed) else { return };
        let (word, observation) = match lead {
            Lead::Leads { term } => {
                *leading = Some(term);
                self.last_leader = Some(member);
                ("leads", Observation::Leads { at_ns, member, term })
            }
            Lead::StepsDown { term } => {
                *leading = None;
                ("steps-down", Observation::StepsDown { at_ns, member, term })
            }
            Lead::Commits { term, index, entry_term } => {
                ("commits", Observation::Commits { at_ns, member, term, index, entry_term })
            }
        };
        self.log.line(at_ns, |line| {
            line.word(word).number(member.into());
            match lead {
                Lead::Leads { term } | Lead::StepsDown { term } => line.number(term),
                Lead::Commits { term, index, entry_term } => line.number(term).number(index).number(entry_term),
            };
        });
        self.archives.observations.push(observation);
    }

    /// A member's process began or ended. One that ends believing that it leads ceases to.
    pub(crate) fn process(&mut self, at_ns: Ns, member: u32, up: bool) {
        if self.closed {
            return;
        }
        if let Some(term) = self.leading[member as usize].filter(|_| !up) {
            self.lead(at_ns, member, Lead::StepsDown { term });
        }
        if !up {
            let held = std::mem::take(&mut self.elected[member as usize]);
            held.into_iter().for_each(|(lease, epoch)| {
                self.saw(Sight::Elected { at_ns, member, lease, epoch, leads: false });
            });
        }
        self.log.line(at_ns, |line| {
            line.word("process").number(member.into()).word(if up { "up" } else { "down" });
        });
        self.archives.observations.push(Observation::Process { at_ns, member, up });
    }

    /// A member was seen to have applied something, and this besides.
    pub(crate) fn sampled(&mut self, at_ns: Ns, member: u32, seen: Vec<Observation>) {
        self.members_worked_ns[member as usize] = at_ns;
        for observation in seen {
            self.log.line(at_ns, |line| sample(line, &observation));
            self.archives.observations.push(observation);
        }
    }

    /// A recorder was told something.
    pub(crate) fn happened(&mut self, at_ns: Ns, happening: &Happening<'_>) {
        if self.closed {
            return;
        }
        self.log.line(at_ns, |line| describe(line, happening));
        if let Happening::Completed(operation) = happening
            && matches!(operation.outcome, Outcome::Ok { .. })
            && !self.clients_worked_ns.is_empty()
        {
            let host = operation.client as usize % self.clients_worked_ns.len();
            self.clients_worked_ns[host] = at_ns;
        }
    }

    /// Something happened to a container, a node or a leader of controllers.
    pub(crate) fn saw(&mut self, sight: Sight) {
        if self.closed {
            return;
        }
        match &sight {
            Sight::Started(container) => {
                self.containers[container.node as usize].insert(container.id.clone(), container.clone());
            }
            Sight::Exited { container, .. } => {
                self.containers[container.node as usize].remove(&container.id);
            }
            Sight::NodeDown { node, .. } => self.containers[*node as usize].clear(),
            Sight::Elected { member, lease, epoch, leads, .. } => {
                let held = &mut self.elected[*member as usize];
                if *leads {
                    held.insert(lease.clone(), *epoch);
                } else {
                    held.remove(lease);
                }
            }
            Sight::Signalled { .. } | Sight::Agent { .. } | Sight::Effect { .. } => {}
        }
        self.log.line(sight.at_ns(), |line| {
            line.debug(&sight);
        });
        self.archives.sights.push(sight);
    }

    /// A fault struck or was healed.
    pub(crate) fn turned(&mut self, at_ns: Ns, turn: &Turn) {
        self.log.line(at_ns, |line| match turn {
            Turn::Struck(strike) => {
                line.word("strikes").word(strike.kind.name()).number(strike.fault.into());
                line.word("members").debug(&strike.members).word("clients").debug(&strike.clients);
                if !strike.nodes.is_empty() {
                    line.word("nodes").debug(&strike.nodes);
                }
            }
            Turn::Healed(fault) => {
                line.word("healed").number((*fault).into());
            }
        });
    }

    /// A process warned of something.
    pub(crate) fn warned(&mut self, at_ns: Ns, member: Option<u32>, text: &str) {
        if !self.closed {
            self.log.line(at_ns, |line| {
                source(line.word("warns"), member).word(text);
            });
        }
    }

    /// A process panicked.
    pub(crate) fn panicked(&mut self, panic: &record::Panic) {
        self.log.line(panic.at_ns, |line| {
            line.word("panic").word(&panic.host).word(&panic.message);
        });
    }

    /// A simulated second is over.
    pub(crate) fn checkpoint(&mut self, at_ns: Ns, net_digest: u64) {
        self.log.checkpoint(at_ns, net_digest);
    }

    /// The member that last said that it leads.
    pub(crate) fn last_leader(&self) -> Option<u32> {
        self.last_leader
    }

    /// The members that believe that they lead.
    pub(crate) fn leading(&self) -> Vec<u32> {
        (0..).zip(&self.leading).filter_map(|(member, term)| term.map(|_| member)).collect()
    }

    /// The faults whose marks were said, from the first to strike.
    pub(crate) fn due(&mut self) -> &mut Vec<Due> {
        self.due.sort_by_key(|due| (due.at_ns, due.fault));
        &mut self.due
    }

    /// When the members and the client hosts last did something before `at_ns`, as far as that is recent.
    pub(crate) fn busy(&self, at_ns: Ns) -> (Vec<bool>, Vec<bool>) {
        let recent = |worked: &[Ns]| worked.iter().map(|then| then + BUSY_NS >= at_ns && *then > 0).collect();
        (recent(&self.members_worked_ns), recent(&self.clients_worked_ns))
    }

    /// Whether this container runs on a node, as far as is known.
    pub(crate) fn runs(&self, node: u32, id: &str) -> bool {
        self.containers.get(node as usize).is_some_and(|containers| containers.contains_key(id))
    }

    /// Whether containers run on a node.
    pub(crate) fn node_is_busy(&self, node: u32) -> bool {
        self.containers.get(node as usize).is_some_and(|containers| !containers.is_empty())
    }

    /// Ends the trial: whatever is seen from now on is not part of it.
    pub(crate) fn close(&mut self) -> Seen {
        self.closed = true;
        let (log_hash, checkpoints, log) = std::mem::take(&mut self.log).finish();
        let archives = std::mem::take(&mut self.archives);
        Seen { log_hash, checkpoints, log, archives, marks: std::mem::take(&mut self.marks) }
    }
}

// How things read in the log.

fn source<'a, 'b>(line: &'a mut Line<'b>, member: Option<u32>) -> &'a mut Line<'b> {
    match member {
        Some(member) => line.number(member.into()),
        None => line.word("client"),
    }
}

fn sample(line: &mut Line<'_>, observation: &Observation) {
    match observation {
        Observation::Applied { member, revision, events, .. } => {
            line.word("applied").number((*member).into()).signed(*revision).hash(hash_events(events));
        }
        Observation::State { member, revision, applied, hash, .. } => {
            line.word("state").number((*member).into()).signed(*revision).number(*applied).hash(*hash);
        }
        Observation::LeaseGranted { member, lease, ttl_s, .. } => {
            line.word("lease-granted").number((*member).into()).signed(*lease).signed(*ttl_s);
        }
        Observation::LeaseGone { member, lease, .. } => {
            line.word("lease-gone").number((*member).into()).signed(*lease);
        }
        Observation::Leads { .. }
        | Observation::StepsDown { .. }
        | Observation::Commits { .. }
        | Observation::Process { .. } => {
            line.debug(observation);
        }
    }
}

fn describe(line: &mut Line<'_>, happening: &Happening<'_>) {
    match happening {
        Happening::Invoked(operation) => {
            line.word("asks").number(operation.id).number(operation.client.into());
            request(line, operation);
        }
        Happening::Completed(operation) => {
            line.word("told").number(operation.id);
            outcome(line, &operation.outcome);
        }
        Happening::WatchOpened { watch, state } => {
            line.word("watches").number(*watch as u64).number(state.client.into());
            line.word(&state.range.from).word(state.range.until.as_deref().unwrap_or("-"));
            line.signed(state.start_revision);
        }
        Happening::WatchSent { watch, message } => {
            line.word("sent").number(*watch as u64).signed(message.revision);
            line.number(message.events.len() as u64).hash(hash_events(&message.events));
        }
        Happening::WatchEnded { watch, state } => {
            line.word("watched").number(*watch as u64).debug(&state.end);
        }
        Happening::Wrote(write) => {
            line.word("wrote").word(&write.what).word(&write.object).debug(&write.outcome);
        }
        Happening::Called(call) => {
            line.word("called").word(&call.service).debug(&call.answer);
        }
    }
}

fn request(line: &mut Line<'_>, operation: &Operation) {
    match &operation.request {
        Request::Read { range, revision } => {
            line.word("read").word(&range.from).word(range.until.as_deref().unwrap_or("-")).signed(*revision);
        }
        Request::Txn { compares, success, failure } => {
            line.word("txn").number(compares.len() as u64);
            for changes in [success, failure] {
                line.word("-");
                changes.iter().for_each(|change| self::change(line, change));
            }
        }
        Request::LeaseGrant { lease, ttl_s } => {
            line.word("grant").signed(*lease).signed(*ttl_s);
        }
        Request::LeaseKeepAlive { lease } => {
            line.word("keep-alive").signed(*lease);
        }
        Request::LeaseRevoke { lease } => {
            line.word("revoke").signed(*lease);
        }
        Request::Compact { revision } => {
            line.word("compact").signed(*revision);
        }
    }
}

fn change(line: &mut Line<'_>, change: &record::Change) {
    /// Values begin with what names them; the rest of a long one is padding.
    const SHOWN: usize = 16;
    match change {
        record::Change::Put { key, value, lease } => {
            line.word("put").word(key).word(value.get(..SHOWN).unwrap_or(value)).signed(*lease);
        }
        record::Change::Delete { key } => {
            line.word("delete").word(key);
        }
    }
}

fn outcome(line: &mut Line<'_>, outcome: &Outcome) {
    match outcome {
        Outcome::Ok { revision, member, reply } => {
            line.word("ok").signed(*revision).number((*member).into());
            match reply {
                Reply::Read(found) => {
                    let mut hasher = Hasher::default();
                    found.iter().for_each(|kv| hash_key_value(&mut hasher, kv));
                    line.number(found.len() as u64).hash(hasher.value());
                }
                Reply::Txn { succeeded } => {
                    line.word(if *succeeded { "succeeded" } else { "failed" });
                }
                Reply::Lease { ttl_s } => {
                    line.signed(*ttl_s);
                }
                Reply::Done => {}
            }
        }
        Outcome::Refused { why } => {
            line.word("refused").debug(why);
        }
        Outcome::Unknown { why } => {
            line.word("unknown").word(why);
        }
    }
}

fn hash_events(events: &[WatchEvent]) -> u64 {
    let mut hasher = Hasher::default();
    for event in events {
        match event {
            WatchEvent::Put(kv) => hash_key_value(&mut hasher, kv),
            WatchEvent::Delete { key, mod_revision } => {
                hasher.bytes(key.as_bytes());
                hasher.number(mod_revision.cast_unsigned());
            }
        }
    }
    hasher.value()
}

fn hash_key_value(hasher: &mut Hasher, kv: &record::KeyValue) {
    hasher.bytes(kv.key.as_bytes());
    hasher.bytes(kv.value.as_str().as_bytes());
    for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
        hasher.number(number.cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observer(awaited: Vec<Awaited>) -> Observer {
        Observer::new(Topology { members: 3, client_hosts: 1, nodes: 0 }, awaited, true)
    }

    #[test]
    fn a_leader_that_dies_steps_down_at_that_moment() {
        let mut observer = observer(vec![]);
        observer.lead(5, 1, Lead::Leads { term: 4 });
        observer.process(9, 1, false);
        observer.process(12, 1, true);
        let expected = [
            Observation::Leads { at_ns: 5, member: 1, term: 4 },
            Observation::StepsDown { at_ns: 9, member: 1, term: 4 },
            Observation::Process { at_ns: 9, member: 1, up: false },
            Observation::Process { at_ns: 12, member: 1, up: true },
        ];
        assert_eq!(observer.last_leader(), Some(1));
        assert_eq!(observer.close().archives.observations.all(), expected);
    }

    #[test]
    fn a_fault_waits_for_its_mark_by_a_member_and_is_due_after_its_delay() {
        let sign = Sign::Mark { text: "vote granted".into(), delay_ns: 3 };
        let awaited = Awaited { fault: 7, from_ns: 10, sign };
        let mut observer = observer(vec![awaited]);
        assert!(!observer.mark(9, Some(0), "vote granted"), "too early");
        assert!(!observer.mark(11, Some(0), "torn tail cut"), "another mark");
        assert!(!observer.mark(12, None, "vote granted"), "no member");
        assert!(observer.mark(13, Some(2), "vote granted"));
        assert!(!observer.mark(14, Some(1), "vote granted"), "only once");
        assert_eq!(*observer.due(), [Due { fault: 7, at_ns: 16, member: 2 }]);
        assert_eq!(observer.close().marks["vote granted"], 4);
    }

    #[test]
    fn a_fault_waits_for_its_effect_and_is_due_at_that_instant() {
        let sign = Sign::Effects { left: 2, index: 1, before: true };
        let mut observer = observer(vec![Awaited { fault: 7, from_ns: 10, sign }]);
        let mut said = |at_ns, member, index, before| observer.effect(at_ns, member, index, before);
        assert_eq!(said(9, 0, 1, true), [], "too early");
        assert_eq!(said(10, 0, 0, true), [], "the first of its plan");
        assert_eq!(said(11, 0, 1, false), [], "already performed");
        assert_eq!(said(12, 0, 2, true), [], "the first that counts");
        assert_eq!(said(13, 2, 1, true), [Due { fault: 7, at_ns: 13, member: 2 }]);
        assert_eq!(said(14, 2, 1, true), [], "only once");
        assert_eq!(observer.busy(14), (vec![true, false, true], vec![false]));
    }

    #[test]
    fn what_is_seen_after_the_end_is_not_part_of_the_trial() {
        let mut observer = observer(vec![]);
        observer.lead(1, 0, Lead::Leads { term: 1 });
        let seen = observer.close();
        observer.process(2, 0, false);
        assert!(!observer.mark(3, Some(0), "vote granted"));
        assert_eq!(seen.log.as_deref(), Some("1 leads 0 1\n"));
        assert!(observer.close().archives.observations.all().is_empty());
    }

    #[test]
    fn busy_is_who_worked_within_the_last_second() {
        let mut observer = observer(vec![]);
        observer.sampled(500, 1, vec![]);
        assert_eq!(observer.busy(500 + BUSY_NS), (vec![false, true, false], vec![false]));
        assert_eq!(observer.busy(501 + BUSY_NS), (vec![false, false, false], vec![false]));
    }
}
