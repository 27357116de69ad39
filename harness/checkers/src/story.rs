//! Histories told by hand: what happens in a story is right, until a test makes one thing of it wrong.

use crate::legal::{Model, empty};
use faults::{Kind, Ns};
use record::{
    Change, Compare, Expect, Guarantee, KeyRange, Observation, Operation, Outcome, Record, Reply, Request, Strike,
    Verdict, Watch, WatchEnd, WatchEvent, WatchMessage,
};

/// What every operation takes. The next one begins as long after.
const TAKES_NS: Ns = 5_000_000;
/// The client that asks, where it does not matter who.
const CLIENT: u32 = 1;

/// A story so far. Operations follow each other, one at a time, and are named by their ids.
pub(crate) struct Story {
    pub(crate) record: Record,
    model: Model,
    now_ns: Ns,
}

/// Seconds since the trial began.
pub(crate) const fn seconds(seconds: u64) -> Ns {
    seconds * 1_000_000_000
}

/// Sets a key.
pub(crate) fn put(key: &str, value: &str) -> Change {
    Change::Put { key: key.into(), value: value.into(), lease: 0 }
}

/// Removes a key.
pub(crate) fn delete(key: &str) -> Change {
    Change::Delete { key: key.into() }
}

/// The key was last changed at this revision.
pub(crate) fn changed_at(key: &str, revision: i64) -> Compare {
    Compare { key: key.into(), expect: Expect::ModRevision(revision) }
}

impl Story {
    pub(crate) fn new() -> Self {
        Self { record: empty(), model: Model::new(), now_ns: seconds(1) }
    }

    /// Somebody asks, is answered, and the world has moved on. Returns the operation's id.
    pub(crate) fn asks(&mut self, request: Request, outcome: Outcome) -> usize {
        let id = self.record.operations.len();
        let (invoked_ns, completed_ns) = (self.now_ns, self.now_ns + TAKES_NS);
        self.record.operations.push(Operation {
            id: id as u64,
            client: CLIENT,
            invoked_ns,
            completed_ns,
            request,
            outcome,
        });
        self.wait(2 * TAKES_NS);
        id
    }

    /// A transaction, done and acknowledged.
    pub(crate) fn txn(&mut self, compares: &[Compare], success: &[Change], failure: &[Change]) -> usize {
        let succeeded = self.model.hold(compares);
        let events = self.model.apply(if succeeded { success } else { failure });
        if !events.is_empty() {
            self.applied(self.model.revision, events);
        }
        let request =
            Request::Txn { compares: compares.to_vec(), success: success.to_vec(), failure: failure.to_vec() };
        let answer = self.ok(Reply::Txn { succeeded });
        self.asks(request, answer)
    }

    /// A put alone, done and acknowledged.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> usize {
        self.txn(&[], &[put(key, value)], &[])
    }

    /// A put bound to a lease, done and acknowledged.
    pub(crate) fn put_bound(&mut self, key: &str, value: &str, lease: i64) -> usize {
        self.txn(&[], &[Change::Put { key: key.into(), value: value.into(), lease }], &[])
    }

    /// A delete alone, done and acknowledged.
    pub(crate) fn delete(&mut self, key: &str) -> usize {
        self.txn(&[], &[delete(key)], &[])
    }

    /// A read of a key, now.
    pub(crate) fn read(&mut self, key: &str) -> usize {
        self.read_range(KeyRange::key(key), 0)
    }

    /// A read of a range, now (0) or at a revision.
    pub(crate) fn read_range(&mut self, range: KeyRange, revision: i64) -> usize {
        let answer = self.ok(Reply::Read(self.model.read(&range, revision)));
        self.asks(Request::Read { range, revision }, answer)
    }

    pub(crate) fn compact(&mut self, revision: i64) -> usize {
        let answer = self.ok(Reply::Done);
        self.asks(Request::Compact { revision }, answer)
    }

    /// A lease is granted and seen.
    pub(crate) fn grant(&mut self, lease: i64, ttl_s: i64) -> usize {
        let at_ns = self.now_ns + TAKES_NS;
        self.observe(Observation::LeaseGranted { at_ns, member: 0, lease, ttl_s });
        let answer = self.ok(Reply::Lease { ttl_s });
        self.asks(Request::LeaseGrant { lease, ttl_s }, answer)
    }

    pub(crate) fn keep_alive(&mut self, lease: i64, ttl_s: i64) -> usize {
        let answer = self.ok(Reply::Lease { ttl_s });
        self.asks(Request::LeaseKeepAlive { lease }, answer)
    }

    /// A lease is revoked, and its keys with it.
    pub(crate) fn revoke(&mut self, lease: i64) -> usize {
        self.gone(lease);
        let answer = self.ok(Reply::Done);
        self.asks(Request::LeaseRevoke { lease }, answer)
    }

    /// A lease ends now, and its keys with it.
    pub(crate) fn gone(&mut self, lease: i64) {
        let bound = self.model.bound_to(lease);
        let events = self.model.apply(&bound);
        if !events.is_empty() {
            self.applied(self.model.revision, events);
        }
        self.observe(Observation::LeaseGone { at_ns: self.now_ns, member: 0, lease });
    }

    /// The client never had an answer.
    pub(crate) fn unanswered(&mut self, id: usize) {
        self.op(id).outcome = Outcome::Unknown { why: "timeout".into() };
    }

    pub(crate) fn op(&mut self, id: usize) -> &mut Operation {
        &mut self.record.operations[id]
    }

    pub(crate) fn now(&self) -> Ns {
        self.now_ns
    }

    pub(crate) fn wait(&mut self, ns: Ns) {
        self.now_ns += ns;
        self.record.ended_ns = self.now_ns;
    }

    /// Nothing more happens until this time.
    pub(crate) fn end(&mut self, at_ns: Ns) {
        self.now_ns = at_ns;
        self.record.ended_ns = at_ns;
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.record.observations.push(observation);
    }

    pub(crate) fn applied(&mut self, revision: i64, events: Vec<WatchEvent>) {
        self.observe(Observation::Applied { at_ns: self.now_ns + TAKES_NS, member: 0, revision, events });
    }

    /// The events of a revision, to be tampered with.
    pub(crate) fn events(&mut self, of: i64) -> &mut Vec<WatchEvent> {
        let mut observations = self.record.observations.iter_mut();
        let found = observations.find_map(|observation| match observation {
            Observation::Applied { revision, events, .. } if *revision == of => Some(events),
            _ => None,
        });
        found.expect("the story has this revision")
    }

    /// A revision that was never seen.
    pub(crate) fn unsee(&mut self, of: i64) {
        self.record.observations.retain(|o| !matches!(o, Observation::Applied { revision, .. } if *revision == of));
    }

    pub(crate) fn leads(&mut self, member: u32, at_ns: Ns, term: u64) {
        self.observe(Observation::Leads { at_ns, member, term });
    }

    pub(crate) fn steps_down(&mut self, member: u32, at_ns: Ns, term: u64) {
        self.observe(Observation::StepsDown { at_ns, member, term });
    }

    pub(crate) fn commits(&mut self, member: u32, at_ns: Ns, term: u64, index: u64, entry_term: u64) {
        self.observe(Observation::Commits { at_ns, member, term, index, entry_term });
    }

    pub(crate) fn process(&mut self, member: u32, at_ns: Ns, up: bool) {
        self.observe(Observation::Process { at_ns, member, up });
    }

    pub(crate) fn state(&mut self, member: u32, applied: u64, revision: i64, hash: u64) {
        self.observe(Observation::State { at_ns: self.now_ns, member, revision, applied, hash });
    }

    pub(crate) fn disabled(&mut self, member: u32, from_ns: Ns, until_ns: Ns) {
        self.strike(Kind::Pause, from_ns, until_ns).disabled = vec![member];
    }

    pub(crate) fn severed(&mut self, from: u32, to: u32, from_ns: Ns, until_ns: Ns) {
        self.strike(Kind::PartitionOneWay, from_ns, until_ns).severed = vec![(from, to)];
    }

    pub(crate) fn strike(&mut self, kind: Kind, from_ns: Ns, until_ns: Ns) -> &mut Strike {
        let fault = self.record.strikes.len() as u32;
        let strike = Strike {
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
        };
        self.record.strikes.push(strike);
        self.record.strikes.last_mut().expect("it was just struck")
    }

    /// A watch over all keys that is told each revision in a message of its own, and then one bookmark.
    pub(crate) fn watch(&mut self, start_revision: i64, until: i64) -> usize {
        let at_ns = self.now_ns;
        let mut messages: Vec<WatchMessage> = (start_revision..=until)
            .map(|revision| WatchMessage { at_ns, revision, events: self.events(revision).clone() })
            .collect();
        messages.push(WatchMessage { at_ns, revision: until, events: vec![] });
        self.record.watches.push(Watch {
            client: CLIENT,
            range: KeyRange { from: "a".into(), until: Some("z".into()) },
            start_revision,
            opened_ns: self.now_ns,
            messages,
            end: WatchEnd::Closed,
            ended_ns: self.now_ns + 1,
        });
        self.wait(TAKES_NS);
        self.record.watches.len() - 1
    }

    fn ok(&self, reply: Reply) -> Outcome {
        Outcome::Ok { revision: self.model.revision, member: 0, reply }
    }

    pub(crate) fn verdict(&self, guarantee: Guarantee) -> Verdict {
        let mut verdicts = crate::judge(&self.record).into_iter();
        verdicts.find(|v| v.guarantee == guarantee).expect("every guarantee is judged")
    }

    /// The guarantee holds, and was put to the test this often.
    #[track_caller]
    pub(crate) fn passes(&self, guarantee: Guarantee, tested: u64) {
        let verdict = self.verdict(guarantee);
        assert_eq!(verdict.violations, [], "{guarantee}");
        assert_eq!(verdict.tested, tested, "{guarantee} tested");
    }

    /// The guarantee is flagged, in words that contain these.
    #[track_caller]
    pub(crate) fn flags(&self, guarantee: Guarantee, words: &str) {
        let violations = self.verdict(guarantee).violations;
        assert!(
            violations.iter().any(|v| v.text.contains(words)),
            "{guarantee} should say {words:?}, but says {violations:#?}"
        );
    }
}
