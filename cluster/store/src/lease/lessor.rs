//! The leader's own judgement of when a lease expires. Pure: the time is an argument.
//!
//! **Invariant:** no lease is due before its last renewal plus its time to live, nor within that time of a promotion
//! unless a checkpoint says less (`renewed_lease_is_not_due_before_its_time`, C9).
//! **Invariant:** a lease that nobody keeps alive is due at the latest when its time is over, counted from the
//! promotion and prolonged by one election timeout (`unrenewed_lease_is_due_after_promotion`, C10).

use super::{LeaseChange, LeaseTable};
use crate::command::{Action, Checkpoint};
use rt::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often the time left of a lease is noted through the log, so that a change of leaders costs a lease without
/// holder at most this much more time (C10). etcd takes five minutes; seconds keep the bound near the time to live,
/// and a lease that is kept alive more often than this costs nothing.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// What a new leader adds to every lease: one election timeout, in which no keep-alive could be answered.
pub const PROMOTION_EXTENSION: Duration = Duration::from_secs(2);
/// When an expiry that could not be proposed is due again.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Leases that are due at once, of each sort: 1000 per second at ten ticks, as etcd, so that a mass expiry leaves
/// room in the log for others.
pub const MAX_DUE: usize = 100;

/// Decides, while its member leads, when leases expire and when their time left is to be noted.
#[derive(Debug, Default)]
pub struct Lessor {
    term: Option<u64>,
    held: BTreeMap<i64, Held>,
    /// Every held lease once, at its [`Held::next`].
    queue: BTreeSet<(Instant, i64)>,
}

#[derive(Debug)]
struct Held {
    granted: u64,
    ttl: Duration,
    expiry: Instant,
    checkpoint_at: Instant,
    /// Checkpoints proposed and not yet applied. Such a one may be older than a renewal that follows it.
    checkpoints_under_way: u32,
    /// Its expiry is proposed: nobody can keep it alive any more.
    expiring: bool,
}

/// A lease was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Seconds that it lives from now, if this member still leads.
    pub ttl_s: i64,
    /// Raft index of its grant.
    pub granted: u64,
    /// To be applied through the log before the keep-alive is answered.
    pub clear: Option<Checkpoint>,
}

/// Why a lease was not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewError {
    /// This member does not lead, or not yet with everything applied that its predecessors answered.
    NotLeader,
    /// No such lease.
    NotFound,
    /// Its expiry is under way. Whether it ends is known when that is applied; until then nobody can say.
    Expiring,
}

impl Lessor {
    /// Of a member that does not lead.
    pub fn new() -> Self {
        Self::default()
    }

    /// The term in which its member leads; its decisions carry it.
    pub fn term(&self) -> Option<u64> {
        self.term
    }

    /// The member leads in `term` and has applied its own first entry of that term: `table` has everything that
    /// earlier leaders answered for. (Sooner, a checkpoint that an answered keep-alive had cleared could still show.)
    /// Every lease gets the time that its checkpoint left, or its whole time, afresh, and an election timeout more.
    pub fn promote(&mut self, term: u64, table: &LeaseTable, now: Instant) {
        self.demote();
        self.term = Some(term);
        for (id, lease) in table.iter() {
            let ttl = seconds(lease.ttl_s);
            let left = lease.remaining_ms.map_or(ttl, Duration::from_millis);
            self.hold(id, lease.granted, ttl, now + left + PROMOTION_EXTENSION, now);
        }
    }

    /// The member no longer leads.
    pub fn demote(&mut self) {
        *self = Self::new();
    }

    /// An entry changed a lease: `table` is as after it. To be called for every change while the member leads.
    pub fn applied(&mut self, change: LeaseChange, table: &LeaseTable, now: Instant) {
        if self.term.is_none() {
            return;
        }
        match change {
            LeaseChange::Granted { id } => {
                if let Some(lease) = table.get(id) {
                    let ttl = seconds(lease.ttl_s);
                    self.hold(id, lease.granted, ttl, now + ttl, now);
                }
            }
            LeaseChange::Gone { id } => {
                if let Some(held) = self.held.remove(&id) {
                    self.queue.remove(&(held.next(), id));
                }
            }
            LeaseChange::Checkpointed { id } => {
                let set = table.get(id).is_some_and(|lease| lease.remaining_ms.is_some());
                if let Some(held) = self.held.get_mut(&id).filter(|_| set) {
                    held.checkpoints_under_way = held.checkpoints_under_way.saturating_sub(1);
                }
            }
        }
    }

    /// Lets a lease live for its whole time from `now` on. The first of four steps: see [`crate::lease`].
    ///
    /// # Errors
    /// See [`RenewError`]; nothing was renewed.
    pub fn renew(&mut self, id: i64, table: &LeaseTable, now: Instant) -> Result<Renewal, RenewError> {
        if self.term.is_none() {
            return Err(RenewError::NotLeader);
        }
        let held = self.held.get(&id).ok_or(RenewError::NotFound)?;
        if held.expiring {
            return Err(RenewError::Expiring);
        }
        let granted = held.granted;
        let noted = table.get(id).is_some_and(|lease| lease.remaining_ms.is_some());
        let clear = (noted || held.checkpoints_under_way > 0).then_some(Checkpoint { id, granted, remaining_ms: None });
        let ttl_s = held.ttl.as_secs().cast_signed();
        self.reschedule(id, |held| {
            held.expiry = held.expiry.max(now + held.ttl);
            held.checkpoint_at = now + CHECKPOINT_INTERVAL;
        });
        Ok(Renewal { ttl_s, granted, clear })
    }

    /// How long a lease still lives if nobody keeps it alive; `None` if it does not exist or its expiry is under way.
    pub fn remaining(&self, id: i64, now: Instant) -> Option<Duration> {
        self.held.get(&id).filter(|held| !held.expiring).map(|held| held.expiry - now)
    }

    /// When [`Self::due`] has something next.
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// What is due by `now`, to be proposed with [`Self::term`]: expiries, one command each, and at most one command of
    /// checkpoints. Each is given once; what could then not be proposed goes to [`Self::not_proposed`].
    pub fn due(&mut self, now: Instant) -> Vec<Action> {
        let mut due = Vec::new();
        let mut checkpoints = Vec::new();
        while let Some(&(at, id)) = self.queue.first().filter(|(at, _)| *at <= now) {
            if due.len() == MAX_DUE || checkpoints.len() == MAX_DUE {
                break;
            }
            let Some(held) = self.held.get(&id) else {
                self.queue.remove(&(at, id));
                continue;
            };
            let granted = held.granted;
            if held.expiry <= now {
                due.push(Action::LeaseExpire { id, granted });
                self.reschedule(id, |held| held.expiring = true);
            } else {
                let remaining_ms = Some(u64::try_from((held.expiry - now).as_millis()).unwrap_or(u64::MAX));
                checkpoints.push(Checkpoint { id, granted, remaining_ms });
                self.reschedule(id, |held| {
                    held.checkpoints_under_way += 1;
                    held.checkpoint_at = now + CHECKPOINT_INTERVAL;
                });
            }
        }
        if !checkpoints.is_empty() {
            due.push(Action::LeaseCheckpoint(checkpoints));
        }
        due
    }

    /// What was due could certainly not be proposed: it is due again later.
    pub fn not_proposed(&mut self, action: &Action, now: Instant) {
        match action {
            Action::LeaseExpire { id, .. } => self.reschedule(*id, |held| {
                held.expiring = false;
                held.expiry = now + RETRY_AFTER;
            }),
            Action::LeaseCheckpoint(leases) => {
                for checkpoint in leases {
                    if let Some(held) = self.held.get_mut(&checkpoint.id) {
                        held.checkpoints_under_way = held.checkpoints_under_way.saturating_sub(1);
                    }
                }
            }
            Action::Put(_)
            | Action::DeleteRange(_)
            | Action::Txn(_)
            | Action::Compact(_)
            | Action::LeaseGrant(_)
            | Action::LeaseRevoke(_)
            | Action::Announce { .. } => {}
        }
    }

    fn hold(&mut self, id: i64, granted: u64, ttl: Duration, expiry: Instant, now: Instant) {
        let checkpoint_at = now + CHECKPOINT_INTERVAL;
        let held = Held { granted, ttl, expiry, checkpoint_at, checkpoints_under_way: 0, expiring: false };
        self.queue.insert((held.next(), id));
        if let Some(earlier) = self.held.insert(id, held) {
            self.queue.remove(&(earlier.next(), id));
        }
    }

    /// Changes a held lease and its place in the queue; one whose expiry is proposed has none.
    fn reschedule(&mut self, id: i64, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.held.get_mut(&id) else { return };
        self.queue.remove(&(held.next(), id));
        change(held);
        if !held.expiring {
            self.queue.insert((held.next(), id));
        }
    }
}

impl Held {
    /// When something is to be done about it. A checkpoint that would come with the expiry or after it is left out.
    fn next(&self) -> Instant {
        self.expiry.min(self.checkpoint_at)
    }
}

fn seconds(ttl_s: i64) -> Duration {
    Duration::from_secs(ttl_s.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    /// A lessor, its table, a clock, and what it wanted proposed that is not applied yet.
    struct World {
        script: Script,
        lessor: Lessor,
        start: Instant,
        now: Instant,
        under_way: Vec<Action>,
    }

    impl World {
        fn new() -> Self {
            let start = Instant::now();
            Self { script: Script::new(), lessor: Lessor::new(), start, now: start, under_way: Vec::new() }
        }

        /// `promote 2`, `demote`, `grant 7 10`, `revoke 7`, `renew 7`, `clear 7`; `+1500`: milliseconds pass, and what
        /// is due is proposed; `apply`: that is applied; `fail`: that could not be proposed.
        fn line(&mut self, line: &str) -> String {
            let id = || line.split(' ').nth(1).unwrap().parse::<i64>().unwrap();
            if let Some(ms) = line.strip_prefix('+') {
                self.now = self.now + Duration::from_millis(ms.parse().unwrap());
                let due = self.lessor.due(self.now);
                let shown: Vec<String> = due.iter().map(show).collect();
                self.under_way.extend(due);
                return shown.join(", ");
            }
            match line.split(' ').next().unwrap() {
                "promote" => {
                    self.script.term = id().unsigned_abs();
                    self.lessor.promote(self.script.term, self.script.state.leases(), self.now);
                    self.under_way.clear();
                }
                "demote" => self.lessor.demote(),
                "renew" => {
                    return match self.lessor.renew(id(), self.script.state.leases(), self.now) {
                        Ok(Renewal { ttl_s, clear, .. }) => {
                            format!("for {ttl_s} s{}", if clear.is_some() { ", to be cleared" } else { "" })
                        }
                        Err(error) => format!("{error:?}"),
                    };
                }
                "apply" => {
                    for action in std::mem::take(&mut self.under_way) {
                        self.apply(action);
                    }
                }
                "fail" => {
                    for action in std::mem::take(&mut self.under_way) {
                        self.lessor.not_proposed(&action, self.now);
                    }
                }
                "grant" => {
                    let ttl_s = line.split(' ').nth(2).unwrap().parse().unwrap();
                    self.apply(Action::LeaseGrant(crate::types::LeaseGrantRequest { id: id(), ttl_s }));
                }
                "revoke" => self.apply(Action::LeaseRevoke(crate::types::LeaseRevokeRequest { id: id() })),
                "clear" => {
                    let granted = self.script.state.leases().get(id()).map_or(0, |lease| lease.granted);
                    self.apply(Action::LeaseCheckpoint(vec![Checkpoint { id: id(), granted, remaining_ms: None }]));
                }
                other => panic!("what is {other}?"),
            }
            String::new()
        }

        fn apply(&mut self, action: Action) {
            let applied = self.script.apply(self.script.term, action);
            for change in applied.leases {
                self.lessor.applied(change, self.script.state.leases(), self.now);
            }
        }
    }

    fn show(action: &Action) -> String {
        match action {
            Action::LeaseExpire { id, .. } => format!("expire {id}"),
            Action::LeaseCheckpoint(leases) => {
                let leases = leases.iter().map(|note| format!("{}:{}", note.id, note.remaining_ms.unwrap()));
                format!("note {}", leases.collect::<Vec<_>>().join(" "))
            }
            other => panic!("{other:?} is not the lessor's business"),
        }
    }

    fn check(lines: &str, expected: Expect) {
        let mut world = World::new();
        let mut out = String::new();
        for line in lines.split(';').map(str::trim) {
            let result = world.line(line);
            let at = (world.now - world.start).as_millis();
            out.push_str(format!("{at} {line}: {result}").trim_end());
            out.push('\n');
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn a_lease_expires_once_when_its_time_is_over() {
        check(
            "promote 1; grant 7 3; grant 8 4; +2999; +1; renew 7; +999; +1; +9000; apply; renew 7; +9000",
            expect![[r#"
                0 promote 1:
                0 grant 7 3:
                0 grant 8 4:
                2999 +2999:
                3000 +1: expire 7
                3000 renew 7: Expiring
                3999 +999:
                4000 +1: expire 8
                13000 +9000:
                13000 apply:
                13000 renew 7: NotFound
                22000 +9000:
            "#]],
        );
    }

    #[test]
    fn a_renewal_gives_the_whole_time_afresh() {
        check(
            "promote 1; grant 7 3; +2000; renew 7; +2999; +1",
            expect![[r#"
                0 promote 1:
                0 grant 7 3:
                2000 +2000:
                2000 renew 7: for 3 s
                4999 +2999:
                5000 +1: expire 7
            "#]],
        );
    }

    #[test]
    fn what_is_left_is_noted_and_a_renewal_clears_it() {
        check(
            "promote 1; grant 7 12; +5000; renew 7; +1000; apply; renew 7; clear 7; renew 7; +5000; apply; +5000; apply; +2000",
            expect![[r#"
                0 promote 1:
                0 grant 7 12:
                5000 +5000: note 7:7000
                5000 renew 7: for 12 s, to be cleared
                6000 +1000:
                6000 apply:
                6000 renew 7: for 12 s, to be cleared
                6000 clear 7:
                6000 renew 7: for 12 s
                11000 +5000: note 7:7000
                11000 apply:
                16000 +5000: note 7:2000
                16000 apply:
                18000 +2000: expire 7
            "#]],
        );
    }

    #[test]
    fn a_new_leader_takes_up_what_was_noted_and_adds_an_election_timeout() {
        check(
            "promote 1; grant 7 12; grant 8 12; +5000; apply; renew 8; clear 8; +4000; demote; +1000; promote 2; +8999; +1; +4999; +1",
            expect![[r#"
                0 promote 1:
                0 grant 7 12:
                0 grant 8 12:
                5000 +5000: note 7:7000 8:7000
                5000 apply:
                5000 renew 8: for 12 s, to be cleared
                5000 clear 8:
                9000 +4000:
                9000 demote:
                10000 +1000:
                10000 promote 2:
                18999 +8999: note 7:1 8:5001
                19000 +1: expire 7
                23999 +4999: note 8:1
                24000 +1: expire 8
            "#]],
        );
    }

    #[test]
    fn who_does_not_lead_decides_nothing() {
        check(
            "grant 7 3; +9000; renew 7; promote 1; demote; +9000; renew 7",
            expect![[r#"
                0 grant 7 3:
                9000 +9000:
                9000 renew 7: NotLeader
                9000 promote 1:
                9000 demote:
                18000 +9000:
                18000 renew 7: NotLeader
            "#]],
        );
    }

    #[test]
    fn what_could_not_be_proposed_is_due_again() {
        check(
            "promote 1; grant 7 3; +3000; fail; +499; renew 7; +2999; +1; fail; +500; apply; +9000",
            expect![[r#"
                0 promote 1:
                0 grant 7 3:
                3000 +3000: expire 7
                3000 fail:
                3499 +499:
                3499 renew 7: for 3 s
                6498 +2999:
                6499 +1: expire 7
                6499 fail:
                6999 +500: expire 7
                6999 apply:
                15999 +9000:
            "#]],
        );
    }

    #[test]
    fn a_mass_expiry_is_spread() {
        let mut world = World::new();
        world.line("promote 1");
        for id in 1..=250 {
            world.line(&format!("grant {id} 3"));
        }
        assert_eq!(world.line("+2999"), "");
        world.now = world.now + Duration::from_millis(1);
        let batches: Vec<usize> = (0..4).map(|_| world.lessor.due(world.now).len()).collect();
        assert_eq!(batches, [100, 100, 50, 0]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Line(&'static str),
        Wait(u64),
        Renew,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let lines = ["promote 2", "promote 3", "demote", "apply", "apply", "fail"];
        let step = prop_oneof![
            2 => (0..6_usize).prop_map(move |line| Step::Line(lines[line])),
            4 => (0..4000_u64).prop_map(Step::Wait),
            3 => Just(Step::Renew),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// The lease's holder counts from every renewal whose keep-alive could have been answered.
        #[test]
        fn renewed_lease_is_not_due_before_its_time(steps in steps()) {
            let mut world = World::new();
            world.line("promote 1");
            world.line("grant 7 9");
            let mut promised = world.now + Duration::from_secs(9);
            for step in steps {
                match step {
                    Step::Line(line) => drop(world.line(line)),
                    Step::Wait(ms) => {
                        if world.line(&format!("+{ms}")).contains("expire") {
                            prop_assert!(world.now >= promised, "due too soon by {:?}", promised - world.now);
                        }
                    }
                    Step::Renew => {
                        let renewed = world.line("renew 7");
                        if !renewed.starts_with("for") {
                            continue;
                        }
                        if renewed.contains("cleared") {
                            // What is under way comes before it in the log.
                            world.line("apply");
                            world.line("clear 7");
                        }
                        if world.script.state.leases().get(7).is_some() {
                            promised = world.now + Duration::from_secs(9);
                        }
                    }
                }
            }
        }

        #[test]
        fn unrenewed_lease_is_due_after_promotion(steps in steps(), ttl in 2..30_u64) {
            let mut world = World::new();
            world.line("promote 1");
            world.line(&format!("grant 7 {ttl}"));
            for step in steps {
                match step {
                    Step::Line(line) => drop(world.line(line)),
                    Step::Wait(ms) => drop(world.line(&format!("+{ms}"))),
                    Step::Renew => drop(world.line("renew 7")),
                }
            }
            world.line("promote 9");
            let latest = world.now + Duration::from_secs(ttl) + PROMOTION_EXTENSION;
            while world.script.state.leases().get(7).is_some() {
                prop_assert!(world.now <= latest);
                world.line("+100");
                world.line("apply");
                prop_assert_eq!(world.lessor.next_due().is_some(), world.script.state.leases().get(7).is_some());
            }
            prop_assert_eq!(world.lessor.held.len() + world.lessor.queue.len(), 0);
        }
    }
}
