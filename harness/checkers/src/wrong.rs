//! Wrong things that a store might do, each done to a legal history in one place.

use crate::leases;
use crate::legal::Draw;
use faults::Ns;
use record::{
    Change, Expect, Guarantee, Observation, Operation, Outcome, PROGRESS_NS, Record, Reply, Request, SAMPLE_NS, Watch,
    WatchEvent, WatchMessage,
};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrong {
    pub(crate) name: &'static str,
    /// What it breaks, perhaps among others.
    pub(crate) breaks: Guarantee,
    /// Does it; `None` if the history has nothing to do it to.
    pub(crate) spoil: fn(&mut Record, &mut Draw) -> Option<()>,
}

const fn wrong(name: &'static str, breaks: Guarantee, spoil: fn(&mut Record, &mut Draw) -> Option<()>) -> Wrong {
    Wrong { name, breaks, spoil }
}

pub(crate) const WRONGS: [Wrong; 24] = [
    wrong("a read has another value", Guarantee::C1, stale_read),
    wrong("a read has one key less", Guarantee::C1, read_without_a_key),
    wrong("a read is asked later than what it tells", Guarantee::C1, late_read),
    wrong("a revision has another value than was asked for", Guarantee::C1, other_value),
    wrong("a write is applied twice", Guarantee::C1, applied_twice),
    wrong("an acknowledged write is replaced", Guarantee::C2, other_value),
    wrong("a read has a key's past", Guarantee::C2, past_of_a_key),
    wrong("an older term's entry is committed", Guarantee::C2, older_term_committed),
    wrong("a member has another state", Guarantee::C3, other_hash),
    wrong("a revision is missing", Guarantee::C4, gap_in_revisions),
    wrong("a write is told another revision", Guarantee::C4, other_revision_told),
    wrong("a term has a second leader", Guarantee::C5, second_leader),
    wrong("nothing commits any more", Guarantee::C6, silence),
    wrong("a watch lacks an event", Guarantee::C7, watch_skips),
    wrong("a watch has an event twice", Guarantee::C7, watch_repeats),
    wrong("a watch has a revision's events in another order", Guarantee::C7, other_event_order),
    wrong("a bookmark comes too early", Guarantee::C7, bookmark_too_early),
    wrong("a watch is resumed too late", Guarantee::C7, resumed_too_late),
    wrong("a lease is gone early", Guarantee::C9, lease_gone_early),
    wrong("a lease is kept alive after its end", Guarantee::C9, kept_alive_after_its_end),
    wrong("a lease is gone late", Guarantee::C10, lease_gone_late),
    wrong("a lease is never gone", Guarantee::C10, lease_never_gone),
    wrong("a failed transaction is applied", Guarantee::C12, failed_but_applied),
    wrong("a compare is ignored", Guarantee::C12, compare_ignored),
];

fn some<T>(draw: &mut Draw, of: impl Iterator<Item = T>) -> Option<T> {
    let mut of: Vec<T> = of.collect();
    if of.is_empty() { None } else { Some(of.swap_remove(draw.range(0, of.len() as u64) as usize)) }
}

// Reads.

/// What linearizable and other reads found, where they found anything.
fn found(record: &mut Record) -> impl Iterator<Item = &mut Vec<record::KeyValue>> {
    record.operations.iter_mut().filter_map(|op| match &mut op.outcome {
        Outcome::Ok { reply: Reply::Read(kvs), .. } if !kvs.is_empty() => Some(kvs),
        _ => None,
    })
}

fn stale_read(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let kvs = some(draw, found(record))?;
    let kv = some(draw, kvs.iter_mut())?;
    kv.value = format!("{}x", kv.value).into();
    Some(())
}

fn read_without_a_key(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let kvs = some(draw, found(record))?;
    let at = draw.range(0, kvs.len() as u64) as usize;
    kvs.remove(at);
    Some(())
}

fn late_read(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let last = record.operations.last()?.invoked_ns + SAMPLE_NS * 100;
    let (_, newest) = applied(record).last()?;
    let reads = record.operations.iter_mut().filter(|op| {
        matches!(op.request, Request::Read { revision: 0, .. })
            && matches!(op.outcome, Outcome::Ok { revision, .. } if revision < newest)
    });
    let read = some(draw, reads)?;
    (read.invoked_ns, read.completed_ns) = (last, last + 1);
    Some(())
}

/// A key's first value, told long after an acknowledged overwrite.
fn past_of_a_key(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let told = acknowledged(record, false).map(|(told, _)| *told).collect::<Vec<i64>>();
    let written = |record: &Record, of: i64| {
        let (at, _) = applied(record).find(|(_, revision)| *revision == of)?;
        match &events(record, at)[0] {
            WatchEvent::Put(kv) => Some(kv.clone()),
            WatchEvent::Delete { .. } => None,
        }
    };
    let overwritten = told.iter().filter_map(|of| written(record, *of)).filter(|kv| kv.version > 1);
    let newer = some(draw, overwritten)?;
    let completed_ns = record.operations.iter().find_map(|op| match op.outcome {
        Outcome::Ok { revision, .. } if revision == newer.mod_revision && matches!(op.request, Request::Txn { .. }) => {
            Some(op.completed_ns)
        }
        _ => None,
    })?;
    let reads = record.operations.iter_mut().filter(|op| op.invoked_ns > completed_ns);
    let kvs = reads.filter_map(|op| match (&op.request, &mut op.outcome) {
        (Request::Read { revision: 0, .. }, Outcome::Ok { reply: Reply::Read(kvs), .. }) => {
            kvs.iter_mut().find(|kv| kv.key == newer.key)
        }
        _ => None,
    });
    some(draw, kvs)?.mod_revision = newer.mod_revision - 1;
    Some(())
}

// The log.

/// Acknowledged transactions that put something first, with and without compares: what they were told.
fn acknowledged(record: &mut Record, with_compares: bool) -> impl Iterator<Item = (&mut i64, &mut bool)> {
    record.operations.iter_mut().filter_map(move |op| match (&op.request, &mut op.outcome) {
        (Request::Txn { compares, success, .. }, Outcome::Ok { revision, reply: Reply::Txn { succeeded }, .. })
            if *succeeded
                && compares.is_empty() != with_compares
                && matches!(success.first(), Some(Change::Put { .. })) =>
        {
            Some((revision, succeeded))
        }
        _ => None,
    })
}

/// Where the revisions are among the observations.
fn applied(record: &Record) -> impl DoubleEndedIterator<Item = (usize, i64)> {
    record.observations.iter().enumerate().filter_map(|(at, o)| match o {
        Observation::Applied { revision, .. } => Some((at, *revision)),
        _ => None,
    })
}

fn events(record: &Record, at: usize) -> &Vec<WatchEvent> {
    match &record.observations[at] {
        Observation::Applied { events, .. } => events,
        _ => panic!("a revision is there"),
    }
}

fn events_mut(record: &mut Record, at: usize) -> &mut Vec<WatchEvent> {
    match &mut record.observations[at] {
        Observation::Applied { events, .. } => events,
        _ => panic!("a revision is there"),
    }
}

fn other_value(record: &mut Record, draw: &mut Draw) -> Option<()> {
    // Only what was acknowledged is missed; what was not may never have been.
    let of = *some(draw, acknowledged(record, false))?.0;
    let (at, _) = applied(record).find(|(_, revision)| *revision == of)?;
    match &mut events_mut(record, at)[0] {
        WatchEvent::Put(kv) => kv.value = format!("{}x", kv.value).into(),
        WatchEvent::Delete { .. } => panic!("it put something"),
    }
    Some(())
}

fn applied_twice(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let (_, newest) = applied(record).last()?;
    let (at, _) = some(draw, applied(record))?;
    let mut again = record.observations[at].clone();
    if let Observation::Applied { revision, at_ns, .. } = &mut again {
        (*revision, *at_ns) = (newest + 1, record.ended_ns);
    }
    record.observations.push(again);
    record.ended_ns += 10 * SAMPLE_NS;
    Some(())
}

fn gap_in_revisions(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let (_, newest) = applied(record).last()?;
    let (at, _) = some(draw, applied(record).filter(|(_, revision)| *revision < newest))?;
    record.observations.remove(at);
    Some(())
}

fn other_revision_told(record: &mut Record, draw: &mut Draw) -> Option<()> {
    *some(draw, acknowledged(record, false))?.0 += 1;
    Some(())
}

fn failed_but_applied(record: &mut Record, draw: &mut Draw) -> Option<()> {
    *some(draw, acknowledged(record, true))?.1 = false;
    Some(())
}

fn compare_ignored(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let of = *some(draw, acknowledged(record, true))?.0;
    record.operations.iter_mut().find_map(|op| match (&mut op.request, &op.outcome) {
        (Request::Txn { compares, .. }, Outcome::Ok { revision, reply: Reply::Txn { succeeded: true }, .. })
            if *revision == of =>
        {
            compares.first_mut()?.expect = Expect::ModRevision(of);
            Some(())
        }
        _ => None,
    })
}

// Members.

fn older_term_committed(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let commits = record.observations.iter_mut().filter_map(|o| match o {
        Observation::Commits { entry_term, .. } => Some(entry_term),
        _ => None,
    });
    *some(draw, commits)? -= 1;
    Some(())
}

fn other_hash(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let states = record.observations.iter_mut().filter_map(|o| match o {
        Observation::State { hash, .. } => Some(hash),
        _ => None,
    });
    *some(draw, states)? ^= 1;
    Some(())
}

fn second_leader(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let leads = record.observations.iter().filter(|o| matches!(o, Observation::Leads { .. }));
    let mut second = some(draw, leads)?.clone();
    if let Observation::Leads { at_ns, member, .. } = &mut second {
        (*at_ns, *member) = (record.ended_ns, (*member + 1) % record.config.members);
    }
    record.observations.push(second);
    Some(())
}

fn silence(record: &mut Record, draw: &mut Draw) -> Option<()> {
    record.strikes.clear();
    let (first_ns, until_ns) = (record.operations.first()?.invoked_ns, record.operations.last()?.invoked_ns);
    let last_ns = until_ns.checked_sub(PROGRESS_NS + 1).filter(|last_ns| *last_ns > first_ns)?;
    let silent = draw.range(first_ns, last_ns)..until_ns;
    record.observations.retain(|o| match o {
        Observation::Applied { at_ns, .. } | Observation::Commits { at_ns, .. } => !silent.contains(at_ns),
        _ => true,
    });
    Some(())
}

// Watches.

fn told(record: &mut Record) -> impl Iterator<Item = &mut WatchMessage> {
    record.watches.iter_mut().flat_map(|watch| &mut watch.messages).filter(|message| !message.events.is_empty())
}

fn watch_skips(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let message = some(draw, told(record))?;
    let at = draw.range(0, message.events.len() as u64) as usize;
    message.events.remove(at);
    Some(())
}

fn watch_repeats(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let message = some(draw, told(record))?;
    let at = draw.range(0, message.events.len() as u64) as usize;
    let event = message.events[at].clone();
    message.events.insert(at, event);
    Some(())
}

fn other_event_order(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let several = told(record).filter(|message| message.events.len() > 1);
    some(draw, several)?.events.reverse();
    Some(())
}

fn bookmark_too_early(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let pairs = |watch: &'_ Watch| {
        (1..watch.messages.len()).filter(|at| !watch.messages[*at].events.is_empty()).collect::<Vec<_>>()
    };
    let watches = record.watches.iter().enumerate();
    let late = watches.flat_map(|(watch, state)| pairs(state).into_iter().map(move |at| (watch, at)));
    let (watch, at) = some(draw, late)?;
    let messages = &mut record.watches[watch].messages;
    messages[at - 1].revision = messages[at].revision;
    Some(())
}

fn resumed_too_late(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let resumed = record.watches.iter_mut().filter(|watch| watch.start_revision > 2);
    some(draw, resumed)?.start_revision += 1;
    Some(())
}

// Leases.

/// Leases that ended by themselves after a promise: id, its newest acknowledged promise, and the time to live.
fn ended_leases(record: &Record) -> Vec<(i64, Operation, i64)> {
    let leases = leases::leases(record);
    let ended = leases.iter().filter(|(_, lease)| lease.gone_ns.is_some() && lease.revoked_ns.is_none());
    ended.filter_map(|(id, lease)| lease.promises.last().map(|(op, ttl_s)| (*id, (*op).clone(), *ttl_s))).collect()
}

fn goes(record: &mut Record, id: i64, when: Ns) {
    for observation in &mut record.observations {
        if let Observation::LeaseGone { at_ns, lease, .. } = observation
            && *lease == id
        {
            *at_ns = when;
        }
    }
}

fn lease_gone_early(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let (lease, promise, ttl_s) = some(draw, ended_leases(record).into_iter())?;
    let early_ns = draw.range(0, leases::seconds_ns(ttl_s) * 10 / 11 - 1);
    goes(record, lease, promise.invoked_ns + early_ns);
    Some(())
}

fn kept_alive_after_its_end(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let (lease, promise, _) = some(draw, ended_leases(record).into_iter())?;
    let (invoked_ns, completed_ns) = (record.ended_ns, record.ended_ns + 1);
    let request = Request::LeaseKeepAlive { lease };
    record.operations.push(Operation { invoked_ns, completed_ns, request, ..promise });
    Some(())
}

/// A lease, with nothing to excuse it in four times the trial's time: no strike, and no leader that comes or goes.
fn forgotten_lease(record: &mut Record, draw: &mut Draw) -> Option<i64> {
    let (lease, ..) = some(draw, ended_leases(record).into_iter())?;
    record.strikes.clear();
    record.observations.retain(|o| !matches!(o, Observation::StepsDown { .. }));
    record.ended_ns *= 4;
    Some(lease)
}

fn lease_gone_late(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let lease = forgotten_lease(record, draw)?;
    let end_ns = record.ended_ns;
    goes(record, lease, end_ns);
    Some(())
}

fn lease_never_gone(record: &mut Record, draw: &mut Draw) -> Option<()> {
    let id = forgotten_lease(record, draw)?;
    record.observations.retain(|o| !matches!(o, Observation::LeaseGone { lease, .. } if *lease == id));
    Some(())
}
