//! Legal histories drawn from a seed: a sequential model, with concurrency around it.
//!
//! Each operation takes effect at one instant between its call and its answer (or, unanswered, perhaps never), on a model
//! that does one thing at a time. Whatever that gives is legal by construction, and a checker that flags it is wrong.

use faults::Ns;
use record::{
    Change, Compare, Config, Expect, KeyRange, KeyValue, Observation, Operation, Outcome, Record, Refusal, Reply,
    Request, SAMPLE_NS, Strike, Watch, WatchEnd, WatchEvent, WatchMessage,
};
use std::collections::{BTreeMap, BTreeSet};

const SECOND_NS: Ns = 1_000_000_000;
const MEMBERS: u32 = 3;
/// What a leader takes to end a lease that is due.
const LEASE_LATE_NS: Ns = 200_000_000;

/// How large a history is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Clients, each with one operation at a time.
    pub clients: u32,
    /// How long they are at work.
    pub seconds: u64,
    /// Operations of all together per second.
    pub rate: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Of a thousand operations, how many nobody gets an answer to.
    pub unknown_permille: u64,
}

/// A legal history of that shape.
pub fn history(seed: u64, shape: Shape) -> Record {
    let mut world = World::new(seed, shape);
    world.lead();
    let calls = world.calls();
    let mut next_sample = SAMPLE_NS;
    for call in calls {
        while next_sample <= call.effect_ns {
            world.sample(next_sample);
            next_sample += SAMPLE_NS;
        }
        world.expire(call.effect_ns);
        world.perform(call);
    }
    // Long enough for every lease to end.
    let ended_ns = shape.seconds * SECOND_NS + 30 * SECOND_NS;
    while next_sample <= ended_ns {
        world.expire(next_sample);
        world.sample(next_sample);
        next_sample += SAMPLE_NS;
    }
    world.watch();
    world.finish(ended_ns)
}

/// An empty record of a trial of three members.
pub fn empty() -> Record {
    Record {
        format: record::FORMAT,
        build: "test".into(),
        config: Config {
            scenario: "store".into(),
            members: MEMBERS,
            one_more_permille: 0,
            freeze_minority_permille: 0,
            client_hosts: 2,
            faults_ns: 0,
            calm_ns: 0,
            rate: 30,
            keys: 8,
            faults: true,
            cluster: None,
            backend: <_>::default(),
            rules: None,
        },
        seed: 0,
        executor_seed: 0,
        schedule: faults::Schedule::default(),
        strikes: vec![],
        operations: vec![],
        watches: vec![],
        observations: vec![],
        cluster: <_>::default(),
        marks: BTreeMap::new(),
        healed_ns: 0,
        ended_ns: 0,
        slack_ns: 0,
        log_hash: 0,
        checkpoints: vec![],
        panics: vec![],
        verdicts: vec![],
    }
}

/// The store, done right and one thing at a time.
#[derive(Default)]
pub struct Model {
    keys: BTreeMap<String, KeyValue>,
    /// Newest revision; the first one to change something is 2.
    pub revision: i64,
    /// The state of every revision before.
    past: BTreeMap<i64, BTreeMap<String, KeyValue>>,
}

impl Model {
    /// An empty store.
    pub fn new() -> Self {
        Self { revision: 1, ..Self::default() }
    }

    /// What is in `range`, now (0) or at a revision.
    pub fn read(&self, range: &KeyRange, revision: i64) -> Vec<KeyValue> {
        let state = self.past.get(&revision).unwrap_or(&self.keys);
        state.values().filter(|kv| range.contains(&kv.key)).cloned().collect()
    }

    /// Whether all of them hold now.
    pub fn hold(&self, compares: &[Compare]) -> bool {
        compares.iter().all(|compare| {
            let kv = self.keys.get(&compare.key);
            match &compare.expect {
                Expect::ModRevision(revision) => kv.map_or(0, |kv| kv.mod_revision) == *revision,
                Expect::CreateRevision(revision) => kv.map_or(0, |kv| kv.create_revision) == *revision,
                Expect::Value(value) => kv.is_some_and(|kv| kv.value == *value),
            }
        })
    }

    /// The keys bound to a lease.
    pub fn bound_to(&self, lease: i64) -> Vec<Change> {
        let bound = self.keys.values().filter(|kv| kv.lease == lease);
        bound.map(|kv| Change::Delete { key: kv.key.clone() }).collect()
    }

    /// Makes the next revision of them, if they change anything, and returns its events.
    pub fn apply(&mut self, changes: &[Change]) -> Vec<WatchEvent> {
        let mod_revision = self.revision + 1;
        let before = self.keys.clone();
        let mut events = Vec::new();
        for change in changes {
            match change {
                Change::Put { key, value, lease } => {
                    let old = self.keys.get(key);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone().into(),
                        create_revision: old.map_or(mod_revision, |kv| kv.create_revision),
                        mod_revision,
                        version: old.map_or(1, |kv| kv.version + 1),
                        lease: *lease,
                    };
                    self.keys.insert(key.clone(), kv.clone());
                    events.push(WatchEvent::Put(kv));
                }
                Change::Delete { key } => {
                    if self.keys.remove(key).is_some() {
                        events.push(WatchEvent::Delete { key: key.clone(), mod_revision });
                    }
                }
            }
        }
        if !events.is_empty() {
            self.past.insert(self.revision, before);
            self.revision = mod_revision;
        }
        events
    }
}

/// A small generator of random numbers (splitmix64).
pub struct Draw(pub u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from `from` up to but without `until`.
    pub fn range(&mut self, from: u64, until: u64) -> u64 {
        from + self.next() % (until - from).max(1)
    }

    /// True this often in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.range(0, 1000) < permille
    }
}

/// An operation to be: when it is asked, takes effect, and is answered.
struct Call {
    effect_ns: Ns,
    invoked_ns: Ns,
    completed_ns: Ns,
    client: u32,
}

struct LiveLease {
    due_ns: Ns,
    ttl_s: u64,
}

struct World {
    shape: Shape,
    draw: Draw,
    model: Model,
    record: Record,
    values: u64,
    /// First revision that is left.
    compacted: i64,
    leases: BTreeMap<i64, LiveLease>,
    leases_granted: i64,
    /// What the next sample will tell: everything since the last one.
    unseen: Vec<Observation>,
    index: u64,
    terms: Vec<(Ns, u64)>,
    /// A stand-in for the state's hash at each index.
    hash: u64,
    log: Vec<(Ns, Vec<WatchEvent>)>,
}

impl World {
    fn new(seed: u64, shape: Shape) -> Self {
        let mut record = empty();
        record.seed = seed;
        record.healed_ns = shape.seconds * SECOND_NS;
        Self {
            shape,
            draw: Draw(seed),
            model: Model::new(),
            record,
            values: 0,
            compacted: 1,
            leases: BTreeMap::new(),
            leases_granted: 0,
            unseen: Vec::new(),
            index: 0,
            terms: Vec::new(),
            hash: seed,
            log: Vec::new(),
        }
    }

    /// Processes that start, leaders that follow each other, and strikes that stop nobody.
    fn lead(&mut self) {
        for member in 0..MEMBERS {
            self.record.observations.push(Observation::Process { at_ns: 0, member, up: true });
        }
        let (mut at_ns, mut term) = (SECOND_NS / 2, 1);
        let mut leader = self.draw.range(0, u64::from(MEMBERS)) as u32;
        while at_ns < self.shape.seconds * SECOND_NS {
            self.record.observations.push(Observation::Leads { at_ns, member: leader, term });
            self.terms.push((at_ns, term));
            let until_ns = at_ns + self.draw.range(3, 30) * SECOND_NS;
            self.record.observations.push(Observation::StepsDown { at_ns: until_ns, member: leader, term });
            let strike = Strike {
                fault: term as u32,
                kind: faults::Kind::Kill,
                from_ns: until_ns,
                until_ns: until_ns + self.draw.range(1, 8) * SECOND_NS,
                members: vec![leader],
                clients: vec![],
                nodes: vec![],
                busy: true,
                disabled: if self.draw.chance(500) { vec![leader] } else { vec![] },
                severed: if self.draw.chance(500) { vec![(leader, (leader + 1) % MEMBERS)] } else { vec![] },
            };
            self.record.strikes.push(strike);
            leader = (leader + 1) % MEMBERS;
            term += self.draw.range(1, 3);
            at_ns = until_ns + SECOND_NS / 2;
        }
    }

    /// When every client asks and is answered, in order of effect.
    fn calls(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        let pause_ns = SECOND_NS * u64::from(self.shape.clients) / self.shape.rate.max(1);
        for client in 0..self.shape.clients {
            let mut at_ns = SECOND_NS;
            while at_ns < self.shape.seconds * SECOND_NS {
                let invoked_ns = at_ns + self.draw.range(1, pause_ns * 2);
                let slow = if self.draw.chance(50) { 40 } else { 1 };
                let completed_ns = invoked_ns + slow * self.draw.range(1_000_000, 30_000_000);
                calls.push(Call {
                    effect_ns: self.draw.range(invoked_ns, completed_ns),
                    invoked_ns,
                    completed_ns,
                    client,
                });
                at_ns = completed_ns;
            }
        }
        calls.sort_by_key(|call| (call.effect_ns, call.client));
        calls
    }

    fn perform(&mut self, call: Call) {
        let request = self.request();
        let unknown = self.draw.chance(self.shape.unknown_permille);
        let outcome = if unknown && self.draw.chance(300) {
            None
        } else {
            let outcome = self.effect(&request, call.effect_ns);
            (!unknown).then_some(outcome)
        };
        let Call { invoked_ns, completed_ns, client, .. } = call;
        let outcome = outcome.unwrap_or(Outcome::Unknown { why: "timeout".into() });
        self.record.operations.push(Operation { id: 0, client, invoked_ns, completed_ns, request, outcome });
    }

    fn request(&mut self) -> Request {
        let lease = self.draw.range(0, self.leases_granted as u64 + 1) as i64;
        match self.draw.range(0, 100) {
            0..25 => Request::Read { range: KeyRange::key(self.key()), revision: 0 },
            25..35 => Request::Read { range: KeyRange { from: self.key(), until: Some("l".into()) }, revision: 0 },
            35..40 => {
                let revision = self.draw.range(1, self.model.revision as u64 + 1) as i64;
                Request::Read { range: KeyRange { from: "k".into(), until: Some("l".into()) }, revision }
            }
            40..60 => Request::Txn { compares: vec![], success: vec![self.put()], failure: vec![] },
            60..82 => Request::Txn { compares: vec![self.compare()], success: self.changes(), failure: self.failure() },
            82..87 => {
                Request::Txn { compares: vec![], success: vec![Change::Delete { key: self.key() }], failure: vec![] }
            }
            87..90 => {
                self.leases_granted += 1;
                Request::LeaseGrant { lease: self.leases_granted, ttl_s: self.draw.range(1, 8) as i64 }
            }
            90..97 => Request::LeaseKeepAlive { lease },
            97..99 => Request::LeaseRevoke { lease },
            _ => Request::Compact { revision: (self.model.revision - 60).max(self.compacted + 1) },
        }
    }

    /// Does it now, and answers.
    fn effect(&mut self, request: &Request, at_ns: Ns) -> Outcome {
        let refused = |why| Outcome::Refused { why };
        let reply = match request {
            Request::Read { revision, .. } if *revision != 0 && *revision < self.compacted => {
                return refused(Refusal::Compacted(self.compacted));
            }
            Request::Read { range, revision } => Reply::Read(self.model.read(range, *revision)),
            Request::Txn { compares, success, failure } => {
                let succeeded = self.model.hold(compares);
                self.change(if succeeded { success } else { failure }, at_ns);
                Reply::Txn { succeeded }
            }
            Request::LeaseGrant { lease, ttl_s } => {
                let ttl_s = *ttl_s as u64;
                self.leases.insert(*lease, LiveLease { due_ns: at_ns + ttl_s * SECOND_NS, ttl_s });
                self.unseen.push(Observation::LeaseGranted { at_ns: 0, member: 0, lease: *lease, ttl_s: ttl_s as i64 });
                self.commit(at_ns);
                Reply::Lease { ttl_s: ttl_s as i64 }
            }
            Request::LeaseKeepAlive { lease } => match self.leases.get_mut(lease) {
                None => return refused(Refusal::LeaseNotFound),
                Some(live) => {
                    live.due_ns = at_ns + live.ttl_s * SECOND_NS;
                    Reply::Lease { ttl_s: live.ttl_s as i64 }
                }
            },
            Request::LeaseRevoke { lease } => {
                if !self.leases.contains_key(lease) {
                    return refused(Refusal::LeaseNotFound);
                }
                self.end_lease(*lease, at_ns);
                Reply::Done
            }
            Request::Compact { revision } if *revision > self.model.revision => {
                return refused(Refusal::FutureRevision);
            }
            Request::Compact { revision } => {
                self.compacted = self.compacted.max(*revision);
                self.commit(at_ns);
                Reply::Done
            }
        };
        Outcome::Ok { revision: self.model.revision, member: self.draw.range(0, u64::from(MEMBERS)) as u32, reply }
    }

    fn change(&mut self, changes: &[Change], at_ns: Ns) {
        let events = self.model.apply(changes);
        self.commit(at_ns);
        if !events.is_empty() {
            self.log.push((at_ns, events.clone()));
            self.unseen.push(Observation::Applied { at_ns: 0, member: 0, revision: self.model.revision, events });
        }
    }

    /// One more entry of the log, committed by whoever leads then.
    fn commit(&mut self, at_ns: Ns) {
        self.index += 1;
        self.hash = Draw(self.hash ^ self.index).next();
        let leads = self.terms.iter().enumerate().rev().find(|(_, (from_ns, _))| *from_ns <= at_ns);
        let (reign, (_, term)) = leads.expect("the first leader leads before the first operation");
        let leader = self.record.observations.iter().filter_map(|observation| match observation {
            Observation::Leads { member, .. } => Some(*member),
            _ => None,
        });
        let member = leader.take(reign + 1).last().expect("every reign was observed");
        self.unseen.push(Observation::Commits { at_ns, member, term: *term, index: self.index, entry_term: *term });
    }

    fn end_lease(&mut self, lease: i64, at_ns: Ns) {
        self.leases.remove(&lease);
        let bound = self.model.bound_to(lease);
        self.change(&bound, at_ns);
        self.unseen.push(Observation::LeaseGone { at_ns: 0, member: 0, lease });
    }

    fn expire(&mut self, at_ns: Ns) {
        let mut due: Vec<(Ns, i64)> = self
            .leases
            .iter()
            .map(|(id, live)| (live.due_ns + LEASE_LATE_NS, *id))
            .filter(|(due, _)| *due < at_ns)
            .collect();
        due.sort_unstable();
        for (_, lease) in due {
            // As late as it is noticed here, so that effects stay in order of time.
            self.end_lease(lease, at_ns);
        }
    }

    /// The harness looks at the members.
    fn sample(&mut self, at: Ns) {
        let seen_by = self.draw.range(0, u64::from(MEMBERS)) as u32;
        for mut observation in std::mem::take(&mut self.unseen) {
            match &mut observation {
                Observation::Applied { at_ns, member, .. }
                | Observation::LeaseGranted { at_ns, member, .. }
                | Observation::LeaseGone { at_ns, member, .. } => (*at_ns, *member) = (at, seen_by),
                _ => {}
            }
            self.record.observations.push(observation);
        }
        for member in 0..MEMBERS {
            self.record.observations.push(Observation::State {
                at_ns: at,
                member,
                revision: self.model.revision,
                applied: self.index,
                hash: self.hash,
            });
        }
    }

    /// Each watcher's watches, one resuming the other, told in lumps.
    fn watch(&mut self) {
        for client in 100..103 {
            let range =
                KeyRange { from: "k".into(), until: Some(if client == 100 { "l".into() } else { self.key() + "0" }) };
            let (mut position, mut at_ns) = (1, SECOND_NS);
            while (position as usize) <= self.log.len() {
                let start_revision = position + 1;
                let opened_ns = at_ns;
                let mut messages = Vec::new();
                for _ in 0..self.draw.range(0, 40) {
                    let until = (position + self.draw.range(0, 4) as i64).min(self.log.len() as i64 + 1);
                    let log = &self.log[position as usize - 1..until as usize - 1];
                    at_ns = log.last().map_or(at_ns, |(applied_ns, _)| at_ns.max(*applied_ns)) + 1;
                    let events = log.iter().flat_map(|(_, events)| events).filter(|event| match event {
                        WatchEvent::Put(kv) => range.contains(&kv.key),
                        WatchEvent::Delete { key, .. } => range.contains(key),
                    });
                    messages.push(WatchMessage { at_ns, revision: until, events: events.cloned().collect() });
                    position = until;
                }
                let last = position as usize > self.log.len();
                let end = if last { WatchEnd::Closed } else { WatchEnd::Broken };
                at_ns += 1;
                self.record.watches.push(Watch {
                    client,
                    range: range.clone(),
                    start_revision,
                    opened_ns,
                    messages,
                    end,
                    ended_ns: at_ns,
                });
            }
        }
    }

    fn finish(mut self, ended_ns: Ns) -> Record {
        self.record.ended_ns = ended_ns;
        self.record.operations.sort_by_key(|op| (op.invoked_ns, op.client));
        for (id, op) in self.record.operations.iter_mut().enumerate() {
            op.id = id as u64;
        }
        self.record.observations.sort_by_key(Observation::at_ns);
        self.record
    }

    fn key(&mut self) -> String {
        format!("k{:03}", self.draw.range(0, self.shape.keys))
    }

    fn put(&mut self) -> Change {
        self.values += 1;
        let live: Vec<i64> = self.leases.keys().copied().collect();
        let lease = if !live.is_empty() && self.draw.chance(300) {
            live[self.draw.range(0, live.len() as u64) as usize]
        } else {
            0
        };
        Change::Put { key: self.key(), value: format!("value-{:05}-{:016x}", self.values, self.draw.next()), lease }
    }

    /// Up to three, no key twice.
    fn changes(&mut self) -> Vec<Change> {
        let mut keys = BTreeSet::new();
        let mut changes = Vec::new();
        for _ in 0..self.draw.range(1, 4) {
            let change = if self.draw.chance(800) { self.put() } else { Change::Delete { key: self.key() } };
            let (Change::Put { key, .. } | Change::Delete { key }) = &change;
            if keys.insert(key.clone()) {
                changes.push(change);
            }
        }
        changes
    }

    fn failure(&mut self) -> Vec<Change> {
        if self.draw.chance(300) { vec![self.put()] } else { vec![] }
    }

    /// One that often holds.
    fn compare(&mut self) -> Compare {
        let key = self.key();
        let kv = self.model.keys.get(&key).filter(|_| self.draw.range(0, 10) < 7);
        let expect = match (self.draw.range(0, 3), kv) {
            (0, kv) => Expect::ModRevision(kv.map_or(0, |kv| kv.mod_revision)),
            (1, Some(kv)) => Expect::Value(kv.value.to_string()),
            (_, kv) => Expect::CreateRevision(kv.map_or(0, |kv| kv.create_revision)),
        };
        Compare { key, expect }
    }
}
