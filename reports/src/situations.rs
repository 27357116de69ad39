//! What a trial reached, as a set of names: what tells a search whether a trial went where none went before.
//!
//! ```text
//! judged Record -> situations -> { "mark vote granted x4", "kill of the leader in an election", ... }
//! ```
//!
//! A name says a sort of thing and never which one: no time, no object, no number but in steps of two, so that there are
//! some thousands at most and a search ends in something. What is in it is what the product did (marks, leaders, answers,
//! how close to a bound it came) and whom faults hit in which phase; not which faults there were, or every draw would
//! be new.

use crate::coverage::{self, Coverage};
use crate::reigns::{self, Reign};
use record::{Answer, Guarantee, Ns, Operation, Outcome, Record, Refusal, Request, Sight, WatchEnd};
use std::collections::{BTreeMap, BTreeSet};

/// The situations of a trial; those of its verdicts only if it was judged.
pub fn situations(record: &Record) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    all.extend(record.marks.iter().filter_map(|(mark, times)| often(&format!("mark {mark}"), *times)));
    all.extend(places(record));
    all.extend(leadership(record));
    all.extend(record.operations.iter().filter_map(trouble));
    all.extend(record.watches.iter().filter_map(|watch| ended(&watch.end)).map(String::from));
    all.extend(record.cluster.writes.iter().map(|write| format!("user's {} {}", write.what, answer(&write.outcome))));
    all.extend(record.verdicts.iter().filter_map(|it| close(it.guarantee, it.largest_ns?)));
    all
}

/// Counts are told apart in steps of two up to this power of it: many are many.
const MOST_OFTEN: u32 = 7;

/// How often something happened, roughly; `None` if never.
fn often(what: &str, times: u64) -> Option<String> {
    let step = times.checked_ilog2()?.min(MOST_OFTEN);
    Some(format!("{what} x{}", 1 << step))
}

/// Whom faults hit, and what was going on then.
fn places(record: &Record) -> Vec<String> {
    let mut coverage = Coverage::new();
    coverage::add(&mut coverage, record);
    let mut all = Vec::new();
    for (kind, places) in coverage {
        for (component, phases) in places {
            all.extend(phases.keys().map(|phase| format!("{kind} of {} in {}", component.name(), phase.name())));
        }
    }
    all
}

/// How often the lead changed, in peace and in a rollout, whether two led at once, and how many elections had no winner;
/// of an orchestrator, how often each group of controllers had another leader.
fn leadership(record: &Record) -> Vec<String> {
    let reigns = reigns::of(record);
    let rollouts = coverage::rollouts(record);
    let in_rollout = |reign: &&Reign| rollouts.iter().any(|rollout| rollout.contains(&reign.from_ns));
    let others: Vec<&Reign> = reigns.windows(2).filter(|it| it[0].member != it[1].member).map(|it| &it[1]).collect();
    let at_once = reigns.windows(2).filter(|it| it[1].from_ns < it[0].until_ns).count() as u64;
    let terms: BTreeSet<u64> = reigns.iter().map(|reign| reign.term).collect();
    let skipped = terms.iter().zip(terms.iter().skip(1)).map(|(one, next)| next - one - 1).sum();
    let counts = [
        ("change of leader", others.len() as u64),
        ("change of leader in a rollout", others.iter().copied().filter(in_rollout).count() as u64),
        ("two leaders at once", at_once),
        ("election without a winner", skipped),
    ];
    let mut elected: BTreeMap<String, u64> = BTreeMap::new();
    for sight in &record.cluster.sights {
        if let Sight::Elected { lease, leads: true, .. } = sight {
            *elected.entry(format!("leader of {lease}")).or_default() += 1;
        }
    }
    let controllers = elected.iter().filter_map(|(what, times)| often(what, *times));
    counts.iter().filter_map(|(what, times)| often(what, *times)).chain(controllers).collect()
}

/// What a client was refused, or never told; `None` where all went well.
fn trouble(operation: &Operation) -> Option<String> {
    let asked = match operation.request {
        Request::Read { .. } => "read",
        Request::Txn { .. } => "transaction",
        Request::LeaseGrant { .. } => "grant",
        Request::LeaseKeepAlive { .. } => "keep-alive",
        Request::LeaseRevoke { .. } => "revocation",
        Request::Compact { .. } => "compaction",
    };
    let told = match &operation.outcome {
        Outcome::Ok { .. } => return None,
        Outcome::Unknown { .. } => "unanswered",
        Outcome::Refused { why } => match why {
            Refusal::Compacted(_) => "refused as compacted",
            Refusal::LeaseNotFound => "refused without a lease",
            Refusal::LeaseExists => "refused as the lease exists",
            Refusal::FutureRevision => "refused as of the future",
            Refusal::Unavailable(_) => "refused as unavailable",
        },
    };
    Some(format!("{asked} {told}"))
}

fn ended(end: &WatchEnd) -> Option<&'static str> {
    match end {
        WatchEnd::Closed => None,
        WatchEnd::Broken => Some("watch broken"),
        WatchEnd::Compacted(_) => Some("watch compacted"),
    }
}

fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Ok { .. } => "done".to_owned(),
        Answer::Refused { code, .. } => format!("refused with {code}"),
        Answer::Unknown { .. } => "unanswered".to_owned(),
    }
}

/// Parts of a bound that are told apart: a trial that comes nearer to it than any before is worth another try.
const PARTS: Ns = 8;

fn close(guarantee: Guarantee, largest_ns: Ns) -> Option<String> {
    let bound_ns = guarantee.guaranteed().bound_ns?;
    let part = largest_ns.saturating_mul(PARTS).checked_div(bound_ns)?.min(PARTS);
    Some(format!("{guarantee} at {part}/{PARTS} of its bound"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::record;
    use expect_test::expect;
    use record::{KeyRange, Observation, UserWrite, Watch};

    const S: Ns = 1_000_000_000;

    fn lines(record: &Record) -> String {
        situations(record).into_iter().collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_trial_reached_what_its_record_says() {
        let mut trial = record(1);
        trial.marks.insert("bind conflict".into(), 0);
        trial.marks.insert("proposal forwarded".into(), 1000);
        trial.observations = vec![
            Observation::Leads { at_ns: 10, member: 0, term: 1 },
            Observation::Leads { at_ns: 2 * S, member: 1, term: 4 },
            Observation::StepsDown { at_ns: 3 * S, member: 0, term: 1 },
            Observation::Leads { at_ns: 20 * S, member: 2, term: 5 },
        ];
        trial.watches.push(Watch {
            client: 0,
            range: KeyRange::key("a"),
            start_revision: 1,
            opened_ns: 0,
            messages: vec![],
            end: WatchEnd::Compacted(3),
            ended_ns: 5,
        });
        trial.cluster.writes.push(UserWrite {
            invoked_ns: 19 * S,
            completed_ns: 19 * S,
            what: "roll".into(),
            object: "deployments default/app-1".into(),
            outcome: Answer::Ok { resource_version: 7 },
        });
        let elected =
            |epoch, leads| Sight::Elected { at_ns: 1, member: 0, lease: "kube-system/scheduler".into(), epoch, leads };
        trial.cluster.sights = vec![elected(1, true), elected(1, false), elected(2, true)];
        expect![[r#"
            C10 at 0/8 of its bound
            C6 at 0/8 of its bound
            change of leader in a rollout x1
            change of leader x2
            disk-full of leader in election
            election without a winner x2
            kill of leader in election
            leader of kube-system/scheduler x2
            mark proposal forwarded x128
            mark vote granted x2
            read refused as unavailable
            read unanswered
            two leaders at once x2
            user's roll done
            watch compacted"#]]
        .assert_eq(&lines(&trial));
    }

    #[test]
    fn another_time_or_another_seed_is_no_other_situation() {
        let mut later = record(2);
        later.marks.insert("vote granted".into(), 2);
        later
            .strikes
            .iter_mut()
            .for_each(|strike| (strike.from_ns, strike.until_ns) = (strike.from_ns + 1, strike.until_ns + 1));
        assert_eq!(lines(&later), lines(&record(1)));
    }

    #[test]
    fn a_trial_that_comes_nearer_to_a_bound_is_in_another_situation() {
        let bound_ns = Guarantee::C6.guaranteed().bound_ns.expect("it has one");
        let parts = [0, bound_ns / 2, bound_ns - 1, bound_ns, bound_ns * 9].map(|ns| close(Guarantee::C6, ns).unwrap());
        assert_eq!(parts.map(|it| it[6..9].to_owned()), ["0/8", "4/8", "7/8", "8/8", "8/8"]);
        assert_eq!(close(Guarantee::C2, 5), None, "nothing is bounded there");
    }
}
