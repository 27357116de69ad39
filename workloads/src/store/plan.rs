//! What one client asks next: a pure state machine over a stream of randomness, what the client was told, and the time.
//!
//! ```text
//! Planner::next(now) -> Request -> (the store) -> Outcome -> Planner::learn -> Planner::next ...
//! ```
//!
//! The mixture aims at conflicts: half of all requests go to a few hot keys, most compares are on what the client read
//! just before, and leases are kept for a while and then left to expire with their keys.
//!
//! **Invariant:** no value is ever asked to be written twice (`no_value_is_written_twice`).
//! **Invariant:** a transaction changes no key twice in a branch, which the store refuses
//! (`requests_are_such_as_the_store_takes`).

use crate::recorder::Ns;
use record::{Change, Compare, Config, Expect, KeyRange, KeyValue, Outcome, Refusal, Reply, Request};
use rt::random::Random;

/// Decides what one client asks.
#[derive(Debug)]
pub struct Planner {
    client: u32,
    keys: u32,
    /// Operations per second, of all clients: about as many revisions as a second has at most.
    rate: u64,
    random: Random,
    /// Keys last seen, the latest at the end, each once.
    seen: Vec<Seen>,
    /// Newest revision that the client was told of.
    revision: i64,
    lease: Option<Held>,
    leases_asked: i64,
    values_asked: u64,
}

/// A key as a client last saw it. All zero and empty if it did not exist.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    key: String,
    create_revision: i64,
    mod_revision: i64,
    value: String,
}

/// A lease of this client.
#[derive(Clone, Debug)]
struct Held {
    lease: i64,
    ttl_s: i64,
    renewed_ns: Ns,
    /// How many more times it is kept alive before it is left to expire.
    renewals_left: u64,
}

/// All keys of the workload are in this range, the prober's included.
pub const ALL_FROM: &str = "k/";
/// First key after all of them.
pub const ALL_UNTIL: &str = "k0";
/// The key that the prober writes.
pub const PROBE: &str = "k/probe";

/// So many keys are remembered for compares: more would mostly be stale.
const REMEMBERED: usize = 8;
/// One of so many keys is hot.
const COLD_PER_HOT: u64 = 8;
/// Historical reads reach back so many seconds, so that some meet the compaction.
const HISTORY_S: u64 = 14;
/// Most compactions leave so many seconds of history, or half of them, so that watchers can resume ...
const COMPACTION_LAG_S: u64 = 10;
/// ... and so many in a thousand leave next to none, so that some cannot.
const RUDE_COMPACTION_PERMILLE: u32 = 200;
/// Leases are from 2 to 7 seconds long: around an election, and several lives in a trial.
const TTL_S: std::ops::Range<u64> = 2..8;
/// A kept lease is renewed up to so many times, then left to expire: half a minute for the longest.
const MOST_RENEWALS: u64 = 10;
/// One in so many values is long enough that its record spans sectors of the disk.
const LONG_VALUE_ONE_IN: u64 = 24;
/// Length of such a value, in bytes.
const LONG_VALUE: usize = 1400;
/// Lease ids of one client begin at `(client + 1) * LEASES_PER_CLIENT`.
const LEASES_PER_CLIENT: i64 = 1_000_000;

const SECOND: Ns = 1_000_000_000;

impl Planner {
    /// Client number `client` of a trial of this configuration, which draws from `random`.
    pub fn new(client: u32, config: &Config, random: Random) -> Self {
        let (keys, rate) = (config.keys.max(1), u64::from(config.rate.max(1)));
        let seen = Vec::with_capacity(REMEMBERED + 1);
        Self { client, keys, rate, random, seen, revision: 1, lease: None, leases_asked: 0, values_asked: 0 }
    }

    /// What the client asks next.
    pub fn next(&mut self, now_ns: Ns) -> Request {
        if let Some(lease) = self.lease_to_renew(now_ns)
            && self.random.chance(700)
        {
            return Request::LeaseKeepAlive { lease };
        }
        match self.random.below(1000) {
            0..220 => self.put(),
            220..280 => write(vec![Change::Delete { key: self.key() }]),
            280..490 => self.compare_and_swap(),
            490..600 => self.multi_key_transaction(),
            600..780 => Request::Read { range: KeyRange::key(self.key()), revision: 0 },
            780..860 => Request::Read { range: self.span(), revision: 0 },
            860..930 => self.historical_read(),
            930..965 => self.lease_grant(),
            965..985 => self.lease_revoke_or_late_renewal(),
            _ => self.compact(),
        }
    }

    /// What came of a request.
    pub fn learn(&mut self, now_ns: Ns, request: &Request, outcome: &Outcome) {
        match outcome {
            Outcome::Ok { revision, reply, .. } => {
                self.revision = self.revision.max(*revision);
                self.learn_reply(now_ns, request, *revision, reply);
            }
            Outcome::Refused { why } => self.learn_refusal(request, why),
            Outcome::Unknown { .. } => {}
        }
    }

    fn learn_reply(&mut self, now_ns: Ns, request: &Request, revision: i64, reply: &Reply) {
        match (request, reply) {
            (Request::Read { range, revision: 0 }, Reply::Read(found)) => self.learn_read(range, found),
            (Request::Txn { success, failure, .. }, Reply::Txn { succeeded }) => {
                let changes = if *succeeded { success } else { failure };
                changes.iter().for_each(|change| self.learn_change(revision, change));
            }
            (Request::LeaseGrant { lease, .. }, Reply::Lease { ttl_s }) => {
                let renewals_left = self.random.below(MOST_RENEWALS + 1);
                self.lease = Some(Held { lease: *lease, ttl_s: *ttl_s, renewed_ns: now_ns, renewals_left });
            }
            (Request::LeaseKeepAlive { lease }, Reply::Lease { .. }) => {
                if let Some(held) = self.lease.as_mut().filter(|held| held.lease == *lease) {
                    held.renewed_ns = now_ns;
                    held.renewals_left = held.renewals_left.saturating_sub(1);
                }
            }
            (Request::LeaseRevoke { .. }, Reply::Done) => self.lease = None,
            // Historical reads and compactions teach nothing about the present; other pairs do not occur.
            (
                Request::Read { .. }
                | Request::Txn { .. }
                | Request::LeaseGrant { .. }
                | Request::LeaseKeepAlive { .. }
                | Request::LeaseRevoke { .. }
                | Request::Compact { .. },
                _,
            ) => {}
        }
    }

    fn learn_read(&mut self, range: &KeyRange, found: &[KeyValue]) {
        for kv in found {
            let (create_revision, mod_revision) = (kv.create_revision, kv.mod_revision);
            self.remember(Seen { key: kv.key.clone(), create_revision, mod_revision, value: kv.value.to_string() });
        }
        if range.until.is_none() && found.is_empty() {
            self.remember(Seen { key: range.from.clone(), ..Seen::default() });
        }
    }

    fn learn_change(&mut self, revision: i64, change: &Change) {
        match change {
            Change::Put { key, value, .. } => {
                let before = self.seen.iter().find(|seen| seen.key == *key && seen.create_revision > 0);
                let create_revision = before.map_or(revision, |seen| seen.create_revision);
                let value = value.clone();
                self.remember(Seen { key: key.clone(), create_revision, mod_revision: revision, value });
            }
            Change::Delete { key } => self.remember(Seen { key: key.clone(), ..Seen::default() }),
        }
    }

    fn learn_refusal(&mut self, request: &Request, why: &Refusal) {
        match why {
            Refusal::LeaseNotFound => self.lease = None,
            Refusal::Compacted(_) | Refusal::LeaseExists | Refusal::FutureRevision | Refusal::Unavailable(_) => {}
        }
        if let Request::LeaseRevoke { .. } = request {
            self.lease = None;
        }
    }

    fn remember(&mut self, seen: Seen) {
        self.seen.retain(|other| other.key != seen.key);
        if self.seen.len() == REMEMBERED {
            self.seen.remove(0);
        }
        self.seen.push(seen);
    }

    // The requests.

    fn put(&mut self) -> Request {
        let key = self.key();
        let change = self.put_change(key);
        write(vec![change])
    }

    /// On what the client read last, most of the time, so that it succeeds unless another client came between.
    fn compare_and_swap(&mut self) -> Request {
        let Some(seen) = self.recent() else {
            return Request::Read { range: KeyRange::key(self.key()), revision: 0 };
        };
        let compare = self.compare(&seen);
        let change = if self.random.chance(100) && seen.mod_revision > 0 {
            Change::Delete { key: seen.key }
        } else {
            self.put_change(seen.key)
        };
        Request::Txn { compares: vec![compare], success: vec![change], failure: vec![] }
    }

    fn multi_key_transaction(&mut self) -> Request {
        let mut compares = Vec::new();
        for _ in 0..self.random.below(3) {
            if let Some(seen) = self.recent() {
                compares.push(self.compare(&seen));
            }
        }
        let success = self.changes(3);
        let failure = if self.random.chance(500) { self.changes(2) } else { vec![] };
        Request::Txn { compares, success, failure }
    }

    fn historical_read(&mut self) -> Request {
        let back = self.random.below(HISTORY_S * self.rate) as i64;
        // A revision of the future must be refused, not answered with what there is.
        let revision = if self.random.chance(40) { self.revision + 1000 } else { (self.revision - back).max(1) };
        let range = if self.random.chance(300) { self.span() } else { KeyRange::key(self.key()) };
        Request::Read { range, revision }
    }

    fn lease_grant(&mut self) -> Request {
        self.leases_asked += 1;
        let lease = (i64::from(self.client) + 1) * LEASES_PER_CLIENT + self.leases_asked;
        Request::LeaseGrant { lease, ttl_s: self.random.range(TTL_S) as i64 }
    }

    fn lease_revoke_or_late_renewal(&mut self) -> Request {
        match self.lease.as_ref().map(|held| held.lease) {
            Some(lease) if self.random.chance(500) => Request::LeaseRevoke { lease },
            // Perhaps long expired: then it must be refused.
            Some(lease) => Request::LeaseKeepAlive { lease },
            None => self.lease_grant(),
        }
    }

    fn compact(&mut self) -> Request {
        let rude = self.random.chance(RUDE_COMPACTION_PERMILLE);
        let lag = if rude { self.rate } else { COMPACTION_LAG_S * self.rate };
        let revision = self.revision - (lag / 2 + self.random.below(lag)) as i64;
        if revision <= 1 {
            return Request::Read { range: self.span(), revision: 0 };
        }
        Request::Compact { revision }
    }

    // What requests are made of.

    /// The lease that wants to be kept alive: a third of its life is over.
    fn lease_to_renew(&self, now_ns: Ns) -> Option<i64> {
        let held = self.lease.as_ref().filter(|held| held.renewals_left > 0)?;
        let third = held.ttl_s as u64 * SECOND / 3;
        (now_ns >= held.renewed_ns + third).then_some(held.lease)
    }

    fn changes(&mut self, most: u64) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        for _ in 0..1 + self.random.below(most) {
            let key = self.key();
            if changes.iter().any(|change| key_of(change) == key) {
                continue;
            }
            let change = if self.random.chance(150) { Change::Delete { key } } else { self.put_change(key) };
            changes.push(change);
        }
        changes
    }

    fn compare(&mut self, seen: &Seen) -> Compare {
        let expect = match self.random.below(10) {
            0..7 => Expect::ModRevision(seen.mod_revision),
            7..8 => Expect::CreateRevision(seen.create_revision),
            // An absent key has no value to compare.
            _ if seen.mod_revision == 0 => Expect::ModRevision(0),
            _ => Expect::Value(seen.value.clone()),
        };
        Compare { key: seen.key.clone(), expect }
    }

    fn put_change(&mut self, key: String) -> Change {
        let bound = self.lease.as_ref().map(|held| held.lease);
        let lease = bound.filter(|_| self.random.chance(300)).unwrap_or_default();
        self.values_asked += 1;
        let mut value = format!("{}.{}", self.client, self.values_asked);
        if self.random.below(LONG_VALUE_ONE_IN) == 0 {
            value.push('.');
            value.extend(std::iter::repeat_n('x', LONG_VALUE));
        }
        Change::Put { key, value, lease }
    }

    fn recent(&mut self) -> Option<Seen> {
        let back = if self.random.chance(600) { 0 } else { self.random.below(REMEMBERED as u64) as usize };
        let at = self.seen.len().checked_sub(1 + back.min(self.seen.len().saturating_sub(1)))?;
        self.seen.get(at).cloned()
    }

    fn key(&mut self) -> String {
        let all = u64::from(self.keys);
        let hot = all.div_ceil(COLD_PER_HOT);
        let number = if self.random.chance(500) { self.random.below(hot) } else { self.random.below(all) };
        key_name(number)
    }

    /// A range of keys; now and then all of them.
    fn span(&mut self) -> KeyRange {
        if self.random.chance(150) {
            return everything();
        }
        let all = u64::from(self.keys);
        let from = self.random.below(all);
        let until = from + 1 + self.random.below(all.div_ceil(4));
        KeyRange { from: key_name(from), until: Some(key_name(until)) }
    }
}

/// The range of all keys of the workload.
pub fn everything() -> KeyRange {
    KeyRange { from: ALL_FROM.to_owned(), until: Some(ALL_UNTIL.to_owned()) }
}

/// Name of the key with this number. Numbers up to 9999 are in the names' order.
pub fn key_name(number: u64) -> String {
    format!("{ALL_FROM}{number:04}")
}

fn write(success: Vec<Change>) -> Request {
    Request::Txn { compares: vec![], success, failure: vec![] }
}

fn key_of(change: &Change) -> &str {
    match change {
        Change::Put { key, .. } | Change::Delete { key } => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn config(keys: u32) -> Config {
        Config {
            scenario: "store".into(),
            members: 3,
            one_more_permille: 0,
            freeze_minority_permille: 0,
            client_hosts: 2,
            faults_ns: SECOND,
            calm_ns: SECOND,
            rate: 30,
            keys,
            faults: true,
            cluster: None,
            rules: None,
            backend: <_>::default(),
        }
    }

    /// A client whose every request is answered by a store that has nothing but a growing revision.
    fn requests(seed: u64, count: usize) -> Vec<Request> {
        let mut planner = Planner::new(3, &config(40), Random::from_seed(seed));
        (1..=count)
            .map(|number| {
                let now_ns = number as u64 * SECOND / 3;
                let request = planner.next(now_ns);
                let reply = match &request {
                    Request::Read { .. } => Reply::Read(vec![]),
                    Request::Txn { .. } => Reply::Txn { succeeded: number % 3 > 0 },
                    Request::LeaseGrant { ttl_s, .. } => Reply::Lease { ttl_s: *ttl_s },
                    Request::LeaseKeepAlive { .. } => Reply::Lease { ttl_s: 5 },
                    Request::LeaseRevoke { .. } | Request::Compact { .. } => Reply::Done,
                };
                planner.learn(now_ns, &request, &Outcome::Ok { revision: number as i64, member: 0, reply });
                request
            })
            .collect()
    }

    fn branches(request: &Request) -> Vec<&[Change]> {
        match request {
            Request::Txn { success, failure, .. } => vec![success, failure],
            Request::Read { .. }
            | Request::LeaseGrant { .. }
            | Request::LeaseKeepAlive { .. }
            | Request::LeaseRevoke { .. }
            | Request::Compact { .. } => vec![],
        }
    }

    #[test]
    fn the_same_seed_and_answers_give_the_same_requests() {
        assert_eq!(requests(1, 500), requests(1, 500));
        assert_ne!(requests(1, 500), requests(2, 500));
    }

    #[test]
    fn no_value_is_written_twice() {
        let requests = requests(5, 5000);
        let values: Vec<&String> = requests
            .iter()
            .flat_map(branches)
            .flatten()
            .filter_map(|change| match change {
                Change::Put { value, .. } => Some(value),
                Change::Delete { .. } => None,
            })
            .collect();
        assert!(values.len() > 1000);
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len());
    }

    #[test]
    fn requests_are_such_as_the_store_takes() {
        for request in requests(9, 5000) {
            for branch in branches(&request) {
                let keys: BTreeSet<&str> = branch.iter().map(key_of).collect();
                assert_eq!(keys.len(), branch.len(), "{request:?}");
            }
            match &request {
                Request::Read { range, revision } => {
                    assert!(*revision >= 0 && range.until.as_ref().is_none_or(|until| range.from < *until));
                }
                Request::Txn { success, failure, .. } => assert!(!success.is_empty() || !failure.is_empty()),
                Request::LeaseGrant { lease, ttl_s } => assert!(*lease > 0 && *ttl_s >= 2),
                Request::LeaseKeepAlive { lease } | Request::LeaseRevoke { lease } => assert!(*lease > 0),
                Request::Compact { revision } => assert!(*revision > 1),
            }
        }
    }

    #[test]
    fn every_kind_of_request_comes_up() {
        let mut counts = [0_u32; 8];
        for request in requests(11, 3000) {
            let kind = match request {
                Request::Read { revision: 0, range: KeyRange { until: None, .. } } => 0,
                Request::Read { revision: 0, .. } => 1,
                Request::Read { .. } => 2,
                Request::Txn { .. } => 3,
                Request::LeaseGrant { .. } => 4,
                Request::LeaseKeepAlive { .. } => 5,
                Request::LeaseRevoke { .. } => 6,
                Request::Compact { .. } => 7,
            };
            counts[kind] += 1;
        }
        assert!(counts.iter().all(|&count| count >= 10), "{counts:?}");
    }

    #[test]
    fn compares_are_on_what_was_just_read() {
        let mut planner = Planner::new(0, &config(1), Random::from_seed(1));
        let range = KeyRange::key(key_name(0));
        let (create_revision, mod_revision) = (4, 7);
        let kv = KeyValue { key: key_name(0), value: "v".into(), create_revision, mod_revision, version: 2, lease: 0 };
        let outcome = Outcome::Ok { revision: 9, member: 0, reply: Reply::Read(vec![kv]) };
        planner.learn(0, &Request::Read { range, revision: 0 }, &outcome);
        for _ in 0..50 {
            let Request::Txn { compares, .. } = planner.compare_and_swap() else { panic!("it has seen a key") };
            let expected = [Expect::ModRevision(7), Expect::CreateRevision(4), Expect::Value("v".into())];
            assert!(expected.contains(&compares[0].expect), "{compares:?}");
        }
    }
}
