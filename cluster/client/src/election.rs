//! What a candidate does about a Lease: the pure part of [`crate::leader`], after client-go's `leaderelection`.
//!
//! Wall clocks are written into the Lease for people and never compared. Another's lease counts as held until its
//! duration has passed *on this process's monotonic clock* since this process saw it change.

use crate::leader::{Fence, LeaseConfig};
use api::coordination::v1::{Lease, LeaseSpec};
use api::meta::v1::MicroTime;
use api::{ObjectExt, ObjectMeta, Timestamp};
use std::time::Duration;

/// A Lease as somebody sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    /// As it was read; `None` if there is none.
    pub(crate) lease: Option<Lease>,
    /// When this version of it was first seen, by the monotonic clock.
    pub(crate) since: Duration,
}

impl Observed {
    /// Takes in what was read at `now`.
    pub(crate) fn see(&mut self, lease: Option<Lease>, now: Duration) {
        let version = |lease: &Option<Lease>| {
            lease.as_ref().map(|lease| (lease.uid().to_owned(), lease.resource_version().to_owned()))
        };
        if version(&lease) != version(&self.lease) {
            self.since = now;
        }
        self.lease = lease;
    }
}

/// What a candidate does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Nobody ever led: create the Lease.
    Create(Lease),
    /// Nobody leads any more: take it, in a new epoch, if it still is what was seen.
    Take(Lease),
    /// Somebody leads, until then at least unless it changes before.
    Wait(Duration),
}

/// What to do about what was observed, at `now`. `floor` is an epoch that is known to be used up: a Lease that was
/// deleted counts from the beginning, while fences remember.
pub(crate) fn decide(observed: &Observed, now: Duration, wall: Timestamp, config: &LeaseConfig, floor: i32) -> Action {
    let Some(lease) = &observed.lease else {
        let metadata = ObjectMeta {
            name: Some(config.name.clone()),
            namespace: Some(config.namespace.clone()),
            ..ObjectMeta::default()
        };
        return Action::Create(Lease { metadata, spec: Some(held(config, wall, wall, floor)) });
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(config.duration, Duration::from_secs);
    let until = observed.since + duration;
    // What this process itself held before is no longer believed in, and nobody else can hold it.
    if !config.sole && !holder.is_empty() && holder != config.identity && until > now {
        return Action::Wait(until - now);
    }
    // Each belief has an epoch of its own, also a second one of the same process: its earlier writes may be under way.
    let transitions = spec.lease_transitions.unwrap_or_default().saturating_add(1).max(floor);
    let spec = LeaseSpec { strategy: spec.strategy, ..held(config, wall, wall, transitions) };
    Action::Take(Lease { metadata: lease.metadata.clone(), spec: Some(spec) })
}

/// The same lease, renewed.
pub(crate) fn renewed(lease: &Lease, config: &LeaseConfig, wall: Timestamp) -> Lease {
    let spec = lease.spec.clone().unwrap_or_default();
    let acquired = spec.acquire_time.as_ref().map_or(wall, |time| time.0);
    let transitions = spec.lease_transitions.unwrap_or_default();
    let renewed = LeaseSpec { strategy: spec.strategy, ..held(config, acquired, wall, transitions) };
    Lease { metadata: lease.metadata.clone(), spec: Some(renewed) }
}

/// The same lease, given up: whoever sees it may take it.
pub(crate) fn released(lease: &Lease, config: &LeaseConfig, wall: Timestamp) -> Lease {
    let mut lease = renewed(lease, config, wall);
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.acquire_time = Some(micros(wall));
    }
    lease
}

/// Whether this process holds `lease` in the epoch of `fence`.
pub(crate) fn is_held(lease: &Lease, config: &LeaseConfig, fence: &Fence) -> bool {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
    holder == Some(config.identity.as_str()) && transitions(lease) == fence.transitions
}

/// The epoch of a Lease.
pub(crate) fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default()
}

fn held(config: &LeaseConfig, acquired: Timestamp, renewed: Timestamp, transitions: i32) -> LeaseSpec {
    LeaseSpec {
        acquire_time: Some(micros(acquired)),
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(config.duration.as_secs()).unwrap_or(i32::MAX)),
        lease_transitions: Some(transitions),
        renew_time: Some(micros(renewed)),
        ..LeaseSpec::default()
    }
}

/// `wall` cut to microseconds, as `metav1.MicroTime` is stored.
fn micros(wall: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use rt::random::Random;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn config(identity: &str) -> LeaseConfig {
        LeaseConfig::new("kube-system", "controllers", identity)
    }

    /// A lease of `holder` as of `version`, renewed at a wall time that means nothing.
    fn lease(holder: &str, version: &str, transitions: i32) -> Lease {
        let metadata = ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() };
        let wall = Timestamp::from_second(4_000_000_000).expect("it is a time");
        Lease { metadata, spec: Some(held(&config(holder), wall, wall, transitions)) }
    }

    /// `holder@version` seen at each of the seconds, then decided by `me` at `now`.
    fn check(seen: &[(u64, Option<(&str, &str)>)], now: u64, expected: Expect) {
        let mut observed = Observed::default();
        for (at, what) in seen {
            observed.see(what.map(|(holder, version)| lease(holder, version, 4)), s(*at));
        }
        let action = match decide(&observed, s(now), Timestamp::UNIX_EPOCH, &config("me"), 0) {
            Action::Create(lease) => format!("create {}", transitions(&lease)),
            Action::Take(lease) => format!("take {} from {}", transitions(&lease), lease.resource_version()),
            Action::Wait(wait) => format!("wait {} s", wait.as_secs()),
        };
        expected.assert_eq(&action);
    }

    #[test]
    fn creates_what_is_not_there() {
        check(&[(0, None)], 5, expect!["create 0"]);
    }

    #[test]
    fn waits_for_its_duration_since_it_was_seen_to_change() {
        check(&[(100, Some(("you", "7")))], 100, expect!["wait 15 s"]);
        check(&[(100, Some(("you", "7"))), (114, Some(("you", "7")))], 114, expect!["wait 1 s"]);
        check(&[(100, Some(("you", "7"))), (115, Some(("you", "7")))], 115, expect!["take 5 from 7"]);
        check(&[(100, Some(("you", "7"))), (114, Some(("you", "8")))], 115, expect!["wait 14 s"]);
    }

    #[test]
    fn takes_at_once_what_was_released_or_its_own() {
        check(&[(100, Some(("", "7")))], 100, expect!["take 5 from 7"]);
        check(&[(100, Some(("me", "7")))], 100, expect!["take 5 from 7"]);
    }

    #[test]
    fn the_only_candidate_there_can_be_waits_for_nobody() {
        let observed = Observed { lease: Some(lease("you", "7", 4)), since: s(0) };
        let config = LeaseConfig { sole: true, ..config("me") };
        match decide(&observed, s(0), Timestamp::UNIX_EPOCH, &config, 0) {
            Action::Take(lease) => assert_eq!(transitions(&lease), 5),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_epoch_that_is_used_up_is_passed_over() {
        let observed = Observed { lease: Some(lease("", "7", 4)), since: s(0) };
        match decide(&observed, s(0), Timestamp::UNIX_EPOCH, &config("me"), 64) {
            Action::Take(lease) => assert_eq!(transitions(&lease), 64),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_renewal_keeps_the_epoch_and_a_release_names_nobody() {
        let now = Timestamp::from_nanosecond(1_234_567_891).expect("it is a time");
        let renewed = renewed(&lease("me", "7", 4), &config("me"), now);
        let fence = Fence { namespace: "kube-system".into(), name: "controllers".into(), transitions: 4 };
        assert!(is_held(&renewed, &config("me"), &fence));
        assert!(!is_held(&renewed, &config("you"), &fence));
        expect![[r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"resourceVersion":"7"},"spec":{"acquireTime":"2096-10-02T07:06:40.000000Z","holderIdentity":"me","leaseDurationSeconds":15,"leaseTransitions":4,"renewTime":"1970-01-01T00:00:01.234567Z"}}"#]]
            .assert_eq(&serde_json::to_string(&renewed).expect("it has a form in JSON"));
        let released = released(&renewed, &config("me"), now);
        assert!(!is_held(&released, &config("me"), &fence));
        assert_eq!(transitions(&released), 4);
    }

    /// A leader renews for a while and then no more. Another reads the Lease now and then. Both clocks are off by up to
    /// 10 %, requests take their time, and the leader may never hear that a renewal was stored.
    #[test]
    fn a_belief_ends_before_another_begins() {
        let mut random = Random::from_seed(5);
        let mut shortest = u64::MAX;
        for _ in 0..2000 {
            let config = config("other");
            let (leader_permille, other_permille) = (random.range(900..1101), random.range(900..1101));
            let clock = |true_ms: u64, permille: u64| Duration::from_micros(true_ms * permille);
            // In true milliseconds: when each renewal was sent and stored, and until when the leader believes.
            let (mut sent, mut stored, mut believed_until) = (0, Vec::new(), 0);
            for _ in 0..random.range(1..6) {
                stored.push(sent + random.below(3000));
                if random.chance(700) {
                    believed_until =
                        sent + u64::try_from(config.renew_deadline.as_millis()).unwrap() * 1000 / leader_permille;
                }
                sent += 3000 + random.below(1000);
            }
            let mut observed = Observed::default();
            let mut at = random.below(5000);
            loop {
                let version = stored.iter().filter(|stored| **stored <= at).count();
                at += random.below(1000);
                let there = (version > 0).then(|| lease("leader", &version.to_string(), 0));
                observed.see(there, clock(at, other_permille));
                match decide(&observed, clock(at, other_permille), Timestamp::UNIX_EPOCH, &config, 0) {
                    Action::Take(_) => break,
                    Action::Create(_) | Action::Wait(_) => at += 2000 + random.below(2400),
                }
            }
            if stored.iter().all(|stored| *stored <= at) {
                assert!(at >= believed_until, "taken at {at} ms, believed until {believed_until} ms");
                shortest = shortest.min(at - believed_until);
            }
        }
        assert!(shortest < 5000, "the leader could be much more patient: {shortest} ms");
    }
}
