//! The member's loop: the one task that owns Raft, the leases' clock and the right to change the state.
//!
//! ```text
//!          inbox, ticks
//!               ▼
//!  step, propose, read_index ─▶ Raft ─▶ Ready ─┬─ messages ────────────────▶ links
//!                                              ├─ entries, hard state ─────▶ log task ─▶ messages after persist, Persisted
//!                                              ├─ committed ─▶ state ──────▶ answers, watches, lessor, snapshots
//!                                              └─ read states ─▶ reads ────▶ answers
//! ```
//!
//! It never waits for anything but its inbox and its clock: whatever takes time is another task's, and answers go to
//! places that were reserved before.
//!
//! **Invariant:** what was handed to Raft is answered only by its entry, or as unknown at its deadline ([`super::pending`]).
//! **Invariant:** a vote or an acknowledgement of entries leaves only after it is durable (`tests/member.rs`:
//! `what_was_acknowledged_survives_power_loss_of_all`).

use super::input::{Input, ReplyTo, body};
use super::log_task::{Job, LogQueue};
use super::peer::{Frame, Links};
use super::pending::Pending;
use super::read_queue::ReadQueue;
use super::requests::{Proposal, Read, UNANSWERED};
use super::shared::{Shared, Standing};
use super::snapshots::Snapshots;
use super::{MemberConfig, StopReason, flow};
use crate::command::{Action, Command};
use crate::format::Format;
use crate::lease::Lessor;
use crate::protocol::ToClient;
use crate::state::{Applied, Outcome, StateMachine};
use crate::types::{ClientError, Response};
use bytes::Bytes;
use raft::{Body, Entry, Message, NONE, NodeId, Raft, Ready, Role, Term};
use rt::random::Random;
use rt::time::{Instant, sleep_until};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Raft's unit of time: short enough for heartbeats several times within an election timeout, long enough that an idle
/// member hardly wakes.
pub const TICK: Duration = Duration::from_millis(100);

/// A request is given up after this long: as long as a client waits by default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What was under way when another leader was elected is given up after this long: what reached the new leader's log is
/// committed by then, and the rest is lost with the old one, or with the connection to it.
const AFTER_ELECTION: Duration = Duration::from_secs(1);

/// Inputs taken before what they led to is carried out: enough to share one log write and one round of messages, and few
/// enough that none waits long.
const BATCH: usize = 128;

/// How long a graceful stop waits for requests under way and for another leader.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(3);

/// A leader whose log has not become durable for this long hands over: it can commit by its followers, but neither apply
/// nor answer. One election timeout.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// Everything that a member decides with.
pub struct MemberLoop {
    pub(super) config: Arc<MemberConfig>,
    pub(super) raft: Raft,
    pub(super) shared: Arc<Shared>,
    pub(super) lessor: Lessor,
    pub(super) links: Links,
    pub(super) log: LogQueue,
    pub(super) snapshots: Snapshots,
    /// Proposals under way.
    pub(super) pending: Pending<Proposal>,
    /// Reads under way, and what else waits for a confirmed leadership.
    pub(super) reads: ReadQueue<Read>,
    /// Requests forwarded to the leader.
    pub(super) asked: Pending<ReplyTo>,
    pub(super) random: Random,
    /// When this member next announces up to which format it reads, if it has to.
    announces_at: Instant,
    /// The term in which this member was last found to lead; `None` while it does not.
    leading: Option<Term>,
    /// Since when it is stopping gracefully.
    closing: Option<Instant>,
    stopped: Option<StopReason>,
}

/// What a loop is made of.
pub struct Parts {
    /// The member's configuration.
    pub config: Arc<MemberConfig>,
    /// Restored.
    pub raft: Raft,
    /// With the state restored.
    pub shared: Arc<Shared>,
    /// To the other members.
    pub links: Links,
    /// To the log task.
    pub log: LogQueue,
    /// On disk.
    pub snapshots: Snapshots,
}

impl MemberLoop {
    /// A loop that is about to begin.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, raft, shared, links, log, snapshots } = parts;
        let mut random = rt::random::stream("member");
        Self {
            config,
            raft,
            shared,
            lessor: Lessor::new(),
            links,
            log,
            snapshots,
            pending: Pending::new(random.next_u64()),
            reads: ReadQueue::new(random.next_u64()),
            asked: Pending::new(random.next_u64()),
            random,
            announces_at: Instant::now(),
            leading: None,
            closing: None,
            stopped: None,
        }
    }

    /// Runs until the member stops.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Input>) -> StopReason {
        let mut alarm = sleep_until(Instant::now() + TICK);
        if self.config.members.len() == 1 {
            // There is no leader whose word is worth waiting for.
            while self.raft.role() == Role::Follower {
                self.raft.tick(0);
            }
            self.settle(Instant::now());
        }
        loop {
            tokio::select! {
                biased;
                () = &mut alarm => {
                    let now = Instant::now();
                    self.tick(now);
                    // What was missed while the process stood still is not made up for: it heard nobody meanwhile.
                    alarm = sleep_until((alarm.deadline() + TICK).max(now));
                }
                input = inbox.recv() => {
                    let Some(input) = input else { return StopReason::Shutdown };
                    let now = Instant::now();
                    self.take(input, now);
                    for _ in 1..BATCH {
                        let Ok(input) = inbox.try_recv() else { break };
                        self.take(input, now);
                    }
                }
            }
            self.settle(Instant::now());
            if let Some(reason) = self.stopped.take() {
                self.withdraw();
                return reason;
            }
        }
    }

    /// Deals with one input.
    fn take(&mut self, input: Input, now: Instant) {
        match input {
            Input::Message(message) => self.raft.step(message),
            Input::Request { request, to } => self.request(request, to, now),
            Input::Asked { from, id, request } => self.asked_by(from, id, request, now),
            Input::Answered { id, outcome } => {
                if let Some(to) = self.asked.take(id) {
                    self.answer(to, outcome);
                }
            }
            Input::Persisted(number) => {
                self.log.persisted(number);
                self.raft.persisted(number);
            }
            Input::LogSpace(enough) => self.log.set_space(enough),
            Input::Unreachable(member) => self.raft.report_unreachable(member),
            Input::Saved(meta) => {
                if let Some(meta) = self.snapshots.saved(meta) {
                    self.log.mark(meta.clone());
                    self.raft.compact(meta, self.config.catch_up_entries);
                }
            }
            Input::NotSaved => self.snapshots.not_saved(),
            Input::Received(received) => {
                self.snapshots.received(received.meta, received.state);
                self.raft.step(received.message);
            }
            Input::Shipped { to, delivered } => self.raft.report_snapshot(to, delivered),
            Input::Failed(reason) => self.stop(reason),
            Input::Shutdown => self.begin_closing(now),
        }
    }

    /// 100 ms passed, or more.
    fn tick(&mut self, now: Instant) {
        self.raft.tick(self.random.next_u64());
        for proposal in self.pending.expire(now) {
            self.give_up_proposal(proposal, "it was not committed in time");
        }
        for to in self.asked.expire(now) {
            self.answer(to, Err(ClientError::Unknown("the leader did not answer in time".to_owned())));
        }
        for read in self.reads.expire(now) {
            self.give_up_read(read, "leadership was not confirmed in time");
        }
        self.reads.retry(now, false);
        self.propose_due(now);
        self.announce(now);
        if self.raft.role() == Role::Leader && self.log.waiting_since().is_some_and(|since| now - since > STALLED_AFTER)
        {
            mark::sometimes!("leader with a stalled disk hands over");
            self.raft.transfer_leadership(NONE);
        }
        if let Some(since) = self.closing {
            self.close(since, now);
        }
    }

    /// Carries out everything that Raft wants done.
    fn settle(&mut self, now: Instant) {
        loop {
            self.begin_read_round(now);
            // What cannot be queued for the log stays in Raft, which then takes no more in either.
            if self.stopped.is_some() || !self.log.has_room() {
                break;
            }
            let Some(ready) = self.raft.ready() else { break };
            self.carry_out(ready, now);
        }
        if self.reads.is_empty() {
            return;
        }
        let applied = self.shared.applied();
        for read in self.reads.served_by(applied) {
            self.serve(read, now);
        }
    }

    fn carry_out(&mut self, ready: Ready, now: Instant) {
        if let Some((role, term, leader)) = ready.lead_change {
            self.lead_changed(role, term, leader, now);
        }
        if let Some(advance) = ready.commit_advance {
            mark::commits(self.config.id, advance.term, advance.index, advance.entry_term);
        }
        for message in ready.messages {
            self.send(message);
        }
        if let Some(meta) = &ready.snapshot
            && let Err(reason) = self.snapshots.install(meta, &self.shared)
        {
            return self.stop(reason);
        }
        self.log.push(
            Job {
                number: ready.number,
                hard_state: ready.hard_state,
                snapshot: ready.snapshot,
                entries: ready.entries,
                messages: ready.messages_after_persist,
            },
            ready.must_persist,
            now,
        );
        for state in ready.read_states {
            self.reads.confirm(state.context, state.index);
        }
        if !ready.committed.is_empty() {
            self.apply(ready.committed, now);
        }
        self.shared.stand(Standing {
            term: self.raft.term(),
            role: self.raft.role(),
            leader: self.raft.leader(),
            commit: self.raft.commit(),
        });
    }

    /// Another role, term or leader.
    fn lead_changed(&mut self, role: Role, term: Term, leader: NodeId, now: Instant) {
        let leads = (role == Role::Leader).then_some(term);
        if leads != self.leading {
            if let Some(before) = self.leading {
                mark::steps_down(self.config.id, before);
                tracing::info!(member = self.config.id, term = before, "no longer leader");
                self.lessor.demote();
            }
            if let Some(term) = leads {
                mark::leads(self.config.id, term);
                tracing::info!(member = self.config.id, term, "leader");
            }
            self.leading = leads;
        } else if leader != NONE {
            tracing::info!(member = self.config.id, term, leader, "follower");
        } else if self.shared.has_leader() {
            tracing::warn!(member = self.config.id, term, "no leader");
        }
        if leader == NONE {
            // A round asked of the old leader may never be answered, and there is nobody to ask.
            for read in self.reads.give_up() {
                self.give_up_read(read, "the leader was lost");
            }
        } else {
            self.reads.retry(now, true);
            self.pending.hasten(now + AFTER_ELECTION);
            self.asked.hasten(now + AFTER_ELECTION);
        }
    }

    /// Applies committed entries and tells all who wait for that.
    fn apply(&mut self, committed: Vec<Entry>, now: Instant) {
        let shared = Arc::clone(&self.shared);
        let mut done: Vec<Applied> = Vec::with_capacity(committed.len());
        let mut state = shared.state_mut();
        for entry in committed {
            match apply_one(&mut state, &entry, self.config.format) {
                Ok(Some(applied)) => {
                    for change in &applied.leases {
                        self.lessor.applied(*change, state.leases(), now);
                    }
                    if applied.origin == self.config.id {
                        done.push(applied);
                    }
                }
                Ok(None) => {
                    // Its own entry comes after everything that earlier leaders answered for.
                    if self.leading == Some(entry.term) {
                        self.lessor.promote(entry.term, state.leases(), now);
                    }
                }
                Err(reason) => {
                    drop(state);
                    return self.stop(reason);
                }
            }
        }
        let (index, revision) = (state.index(), state.revision());
        self.snapshots.consider(&state, self.raft.voters());
        drop(state);
        self.raft.applied(index);
        shared.announce(revision);
        for applied in done {
            self.applied(applied, now);
        }
    }

    /// Answers whoever waits for an entry of this member, if this process proposed it.
    fn applied(&mut self, applied: Applied, now: Instant) {
        let Some(proposal) = self.pending.take(applied.request) else { return };
        match proposal {
            Proposal::Request(to) => match applied.outcome {
                Outcome::Response(response) => self.answer(to, Ok(response)),
                Outcome::Refused(kind) => self.answer(to, Err(ClientError::Refused(kind))),
                Outcome::Noted | Outcome::Stale => {
                    self.answer(to, Err(ClientError::Unknown("it was answered as another request".to_owned())));
                }
            },
            Proposal::Cleared(keep_alive) => self.checkpoint_cleared(keep_alive, &applied.outcome, now),
        }
    }

    /// Proposes `action`; `proposal` is answered when its entry is applied, or given up.
    pub(super) fn propose(&mut self, action: Action, proposal: Proposal, now: Instant) {
        let id = self.pending.admit(now + REQUEST_TIMEOUT, proposal);
        let command = Command { origin: self.config.id, request: id, term: self.raft.term(), action };
        if let Err(error) = self.raft.propose(self.encoded(&command)) {
            self.not_proposed(id, &error.to_string());
        }
    }

    /// A command as the members have agreed to write it.
    pub(super) fn encoded(&self, command: &Command) -> Bytes {
        command.encode(self.shared.state().formats().agreed())
    }

    /// Announces up to which format this member reads, unless that is known. Nobody waits for it: it is said again until it
    /// is in the log.
    fn announce(&mut self, now: Instant) {
        let (id, format) = (self.config.id, self.config.format);
        // Before it has caught up it does not know what it has announced earlier.
        let caught_up = self.raft.leader() != NONE && self.shared.applied() == self.raft.commit();
        if now < self.announces_at || !caught_up || self.shared.state().formats().read_by(id) == Some(format) {
            return;
        }
        self.announces_at = now + REQUEST_TIMEOUT;
        let action = Action::Announce { format, members: self.config.members.keys().copied().collect() };
        let command = Command { origin: id, request: UNANSWERED, term: self.raft.term(), action };
        if let Err(error) = self.raft.propose(self.encoded(&command)) {
            tracing::debug!(member = id, %error, "its format is not announced yet");
        }
    }

    /// A proposal certainly never came to a log.
    fn not_proposed(&mut self, id: u64, why: &str) {
        match self.pending.take(id) {
            Some(Proposal::Request(to)) => self.answer(to, Err(flow::unavailable(why))),
            // The lease has been renewed already; only the answer is missing.
            Some(proposal @ Proposal::Cleared(_)) => self.give_up_proposal(proposal, why),
            None => {}
        }
    }

    fn give_up_proposal(&mut self, proposal: Proposal, why: &str) {
        let to = match proposal {
            Proposal::Request(to) => to,
            Proposal::Cleared(keep_alive) => keep_alive.to,
        };
        self.answer(to, Err(ClientError::Unknown(why.to_owned())));
    }

    /// When a request that begins now is given up.
    pub(super) fn deadline(now: Instant) -> Instant {
        now + REQUEST_TIMEOUT
    }

    /// Answers a client or the member that forwarded its request.
    pub(super) fn answer(&mut self, to: ReplyTo, mut outcome: Result<Response, ClientError>) {
        match to {
            ReplyTo::Client { id, place } => {
                if let Ok(response) = &mut outcome {
                    response.stamp(self.config.id, self.raft.term());
                }
                place.send(ToClient { id, body: body(outcome) });
            }
            ReplyTo::Local(waiter) => {
                if let Ok(response) = &mut outcome {
                    response.stamp(self.config.id, self.raft.term());
                }
                // Who asked may have given up.
                drop(waiter.send(outcome));
            }
            // Lost with the connection: then the other member gives up at its deadline.
            ReplyTo::Member { member, id } => drop(self.links.send(member, Frame::Answer { id, outcome })),
        }
    }

    /// Sends a message of Raft's.
    fn send(&mut self, message: Message) {
        let to = message.to;
        match message.body {
            Body::Snapshot { .. } => self.snapshots.ship(message),
            Body::Propose { ref data } => {
                let forwarded = Command::decode(data).map(|command| command.request);
                if !self.links.send(to, Frame::Raft(message))
                    && let Ok(id) = forwarded
                {
                    self.not_proposed(id, "there is no connection to the leader");
                }
            }
            Body::ReadIndex { .. } => {
                if !self.links.send(to, Frame::Raft(message)) {
                    for read in self.reads.give_up() {
                        self.give_up_read(read, "there is no connection to the leader");
                    }
                }
            }
            // The loss of any other is Raft's daily bread.
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::Append { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::Commit { .. }
            | Body::ReadIndexReply { .. }
            | Body::TimeoutNow => drop(self.links.send(to, Frame::Raft(message))),
        }
    }

    /// Stops as soon as what is under way is carried out.
    fn stop(&mut self, reason: StopReason) {
        self.stopped.get_or_insert(reason);
    }

    fn begin_closing(&mut self, now: Instant) {
        if self.closing.is_none() {
            self.closing = Some(now);
            self.close(now, now);
        }
    }

    /// Whether a graceful stop is under way.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Hands leadership over, and stops once nothing is under way any more.
    fn close(&mut self, since: Instant, now: Instant) {
        let alone = self.config.members.len() == 1;
        if self.raft.role() == Role::Leader && !alone {
            self.raft.transfer_leadership(NONE);
        }
        let leads = self.raft.role() == Role::Leader && !alone;
        let quiet = self.pending.is_empty() && self.reads.is_empty() && self.asked.is_empty();
        if (quiet && !leads) || now - since >= CLOSING_TIMEOUT {
            self.stop(StopReason::Shutdown);
        }
    }

    /// Says that it no longer leads, as nobody will hear of it otherwise.
    fn withdraw(&mut self) {
        if let Some(term) = self.leading.take() {
            mark::steps_down(self.config.id, term);
        }
    }
}

/// Applies an entry, for a member that reads up to format `reads`.
///
/// # Errors
/// The member does not read it, or will not read the next one.
fn apply_one(state: &mut StateMachine, entry: &Entry, reads: Format) -> Result<Option<Applied>, StopReason> {
    let foreign = |index, why: &dyn Display| StopReason::ForeignEntry { index, why: why.to_string() };
    if let Some(format) = Command::format_of(&entry.data) {
        format.within(reads).map_err(|error| foreign(entry.index, &error))?;
    }
    let applied = state.apply(entry.index, entry.term, &entry.data).map_err(|error| foreign(entry.index, &error))?;
    state.formats().agreed().within(reads).map_err(|error| foreign(entry.index + 1, &error))?;
    Ok(applied)
}
