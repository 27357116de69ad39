//! Clients' requests: which way each goes, and how reads and keep-alives are answered once they may be.
//!
//! A keep-alive takes the four steps of [`crate::lease`]:
//! ```text
//! renew ─▶ (checkpoint noted? clear it through the log) ─▶ read-index round ─▶ same lease still there? ─▶ answer
//! ```
//! Once a lease was renewed, a keep-alive that fails is told to be unknown, never refused: the lease lives longer.

use super::flow::{self, Route, Standing};
use super::input::{ReplyTo, body};
use super::member_loop::MemberLoop;
use super::peer::Frame;
use crate::command::{Action, Command};
use crate::lease::{RenewError, Renewal};
use crate::protocol::ToClient;
use crate::state::{Outcome, Pinned};
use crate::txn;
use crate::types::{
    ClientError, LeaseGrantRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    RefusedKind, Request, Response, StatusResponse,
};
use raft::{NodeId, Role, Term};
use rt::time::Instant;

/// A read of more than one key is answered by the loop itself in a store of up to this many keys; in a larger one a task
/// of its own answers it from a pinned state. At some 50 ns a key that is well below a millisecond.
const INLINE_KEYS: u64 = 4_096;

/// Number of what a member asks for itself, and nobody waits for: no client's request has it.
pub(super) const UNANSWERED: u64 = 0;

/// What waits for its own entry.
pub enum Proposal {
    /// A client's change.
    Request(ReplyTo),
    /// The clearing of a checkpoint, before a keep-alive may be answered.
    Cleared(KeepAlive),
}

/// What waits for leadership to be confirmed.
pub enum Read {
    /// A client's read.
    Request(Request, ReplyTo),
    /// The answer to a keep-alive.
    KeepAlive(KeepAlive),
    /// The answer that a lease does not exist.
    NoLease(i64, ReplyTo),
    /// How long a lease lives.
    TimeToLive(LeaseTimeToLiveRequest, Term, ReplyTo),
}

/// A keep-alive whose lease was renewed.
pub struct KeepAlive {
    /// Which lease.
    pub id: i64,
    /// How it was renewed.
    pub renewal: Renewal,
    /// In which term.
    pub term: Term,
    /// Whom to answer.
    pub to: ReplyTo,
}

impl MemberLoop {
    /// Takes a request from a client of this member.
    pub(super) fn request(&mut self, request: Request, to: ReplyTo, now: Instant) {
        let way = txn::check(&request).map_err(ClientError::Refused);
        let way = way.and_then(|()| flow::route(&request, self.standing()));
        match way {
            Ok(Route::Local) => self.answer_read(request, to),
            Ok(Route::Read) => self.reads.push(Self::deadline(now), Read::Request(request, to)),
            Ok(Route::Propose) => match self.action(request) {
                Ok(action) => self.propose(action, Proposal::Request(to), now),
                Err(error) => self.answer(to, Err(error)),
            },
            Ok(Route::Lessor) => self.ask_lessor(request, to, now),
            Ok(Route::AskLeader(leader)) => {
                let id = self.asked.admit(Self::deadline(now), to);
                if !self.links.send(leader, Frame::Ask { id, request })
                    && let Some(to) = self.asked.take(id)
                {
                    self.answer(to, Err(flow::unavailable("there is no connection to the leader")));
                }
            }
            Err(error) => self.answer(to, Err(error)),
        }
    }

    /// Takes a request that another member forwarded, because this one leads or is believed to.
    pub(super) fn asked_by(&mut self, member: NodeId, id: u64, request: Request, now: Instant) {
        let to = ReplyTo::Member { member, id };
        match flow::route(&request, self.standing()) {
            Ok(Route::Lessor) => self.ask_lessor(request, to, now),
            // Passing it on once more could go round in circles while members disagree on who leads.
            Ok(Route::Local | Route::Read | Route::Propose | Route::AskLeader(_)) => {
                self.answer(to, Err(flow::unavailable("the member asked does not lead")))
            }
            Err(error) => self.answer(to, Err(error)),
        }
    }

    fn standing(&self) -> Standing {
        let over_quota = || self.shared.state().tree().bytes() >= self.config.quota_bytes;
        Standing {
            id: self.config.id,
            leader: self.raft.leader(),
            out_of_space: !self.log.has_space() || over_quota(),
            closing: self.is_closing(),
            proposals_have_room: self.pending.has_room(),
            reads_have_room: self.reads.has_room() && self.asked.has_room(),
        }
    }

    /// What a request that goes through the log is there.
    fn action(&mut self, request: Request) -> Result<Action, ClientError> {
        match request {
            Request::Put(put) => Ok(Action::Put(put)),
            Request::DeleteRange(delete) => Ok(Action::DeleteRange(delete)),
            Request::Txn(txn) => Ok(Action::Txn(txn)),
            Request::Compact(compact) => Ok(Action::Compact(compact)),
            Request::LeaseGrant(grant) => {
                // A positive number that nobody has by chance; should somebody, the grant is refused and asked for again.
                let id = if grant.id == 0 { 1 + (self.random.next_u64() >> 2).cast_signed() } else { grant.id };
                Ok(Action::LeaseGrant(LeaseGrantRequest { id, ..grant }))
            }
            Request::LeaseRevoke(revoke) => Ok(Action::LeaseRevoke(revoke)),
            Request::Range(_) | Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_) | Request::Status(_) => {
                Err(flow::unavailable("what changes nothing does not go through the log"))
            }
        }
    }

    /// Begins a round for the reads that wait for one.
    pub(super) fn begin_read_round(&mut self, now: Instant) {
        if let Some(context) = self.reads.begin_round(now)
            && let Err(error) = self.raft.read_index(context)
        {
            for read in self.reads.give_up() {
                self.give_up_read(read, &error.to_string());
            }
        }
    }

    /// Answers what was confirmed, from a state that has what it must have.
    pub(super) fn serve(&mut self, read: Read, now: Instant) {
        match read {
            Read::Request(request, to) => self.answer_read(request, to),
            Read::KeepAlive(keep_alive) => self.answer_keep_alive(keep_alive),
            Read::NoLease(id, to) => {
                let exists = self.shared.state().leases().get(id).is_some();
                let error = if exists { flow::unavailable("the lease is being taken up") } else { gone() };
                self.answer(to, Err(error));
            }
            Read::TimeToLive(request, term, to) => {
                let outcome = self.time_to_live(request, term, now);
                self.answer(to, outcome);
            }
        }
    }

    /// A read that will not be confirmed.
    pub(super) fn give_up_read(&mut self, read: Read, why: &str) {
        match read {
            Read::Request(_, to) | Read::NoLease(_, to) | Read::TimeToLive(_, _, to) => {
                self.answer(to, Err(flow::unavailable(why)));
            }
            Read::KeepAlive(keep_alive) => self.answer(keep_alive.to, Err(ClientError::Unknown(why.to_owned()))),
        }
    }

    /// Answers a read from the state as it is now.
    fn answer_read(&mut self, request: Request, to: ReplyTo) {
        let state = self.shared.state();
        if state.tree().len() > INLINE_KEYS && reads_many(&request) {
            let pinned = state.pin();
            drop(state);
            return self.answer_aside(request, to, pinned);
        }
        let outcome = read(&request, &state, self.raft.leader());
        drop(state);
        self.answer(to, outcome);
    }

    /// Answers a large read without holding up the loop.
    fn answer_aside(&mut self, request: Request, to: ReplyTo, pinned: Pinned) {
        let (member, term, leader) = (self.config.id, self.raft.term(), self.raft.leader());
        let answer = async move {
            let mut outcome = rt::task::unblock("large read", move || read(&request, &pinned, leader)).await;
            if let Ok(response) = &mut outcome {
                response.stamp(member, term);
            }
            outcome
        };
        match to {
            ReplyTo::Client { id, place } => drop(rt::task::spawn("large-read", async move {
                let body = body(answer.await);
                place.send(ToClient { id, body });
            })),
            ReplyTo::Local(waiter) => drop(rt::task::spawn("large-read", async move {
                // Who asked may have given up.
                drop(waiter.send(answer.await));
            })),
            // Members forward to each other only what the leader's clock decides.
            ReplyTo::Member { .. } => {}
        }
    }

    /// A request that the leader answers because it keeps the leases' time.
    fn ask_lessor(&mut self, request: Request, to: ReplyTo, now: Instant) {
        match request {
            Request::LeaseKeepAlive(keep) => self.keep_alive(keep.id, to, now),
            Request::LeaseTimeToLive(ask) => {
                self.reads.push(Self::deadline(now), Read::TimeToLive(ask, self.raft.term(), to));
            }
            Request::Range(_)
            | Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::Status(_) => self.answer(to, Err(flow::unavailable("only leases are asked of the leader"))),
        }
    }

    /// Steps 1 and 2 of a keep-alive.
    fn keep_alive(&mut self, id: i64, to: ReplyTo, now: Instant) {
        let renewed = self.lessor.renew(id, self.shared.state().leases(), now);
        match renewed {
            Ok(renewal) => {
                let keep_alive = KeepAlive { id, renewal, term: self.raft.term(), to };
                match renewal.clear {
                    Some(checkpoint) => {
                        mark::sometimes!("lease checkpoint cleared by a keep-alive");
                        let action = Action::LeaseCheckpoint(vec![checkpoint]);
                        self.propose(action, Proposal::Cleared(keep_alive), now);
                    }
                    None => self.reads.push(Self::deadline(now), Read::KeepAlive(keep_alive)),
                }
            }
            Err(RenewError::NotFound) => self.reads.push(Self::deadline(now), Read::NoLease(id, to)),
            Err(RenewError::NotLeader) => self.answer(to, Err(flow::unavailable("the leader is not ready yet"))),
            Err(RenewError::Expiring) => {
                mark::sometimes!("keep-alive came too late");
                self.answer(to, Err(flow::unavailable("the lease's expiry is under way")));
            }
        }
    }

    /// Step 2 of a keep-alive is done; on to step 3.
    pub(super) fn checkpoint_cleared(&mut self, keep_alive: KeepAlive, outcome: &Outcome, now: Instant) {
        match outcome {
            Outcome::Noted => self.reads.push(Self::deadline(now), Read::KeepAlive(keep_alive)),
            Outcome::Stale | Outcome::Refused(_) | Outcome::Response(_) => {
                self.answer(keep_alive.to, Err(ClientError::Unknown("leadership changed".to_owned())));
            }
        }
    }

    /// Step 4 of a keep-alive.
    fn answer_keep_alive(&mut self, keep_alive: KeepAlive) {
        let KeepAlive { id, renewal, term, to } = keep_alive;
        let granted = self.shared.state().leases().get(id).map(|lease| lease.granted);
        let outcome = if granted != Some(renewal.granted) {
            Err(gone())
        } else if self.lessor.term() != Some(term) {
            // The lease was renewed by a leadership that is over; the next one may count from an earlier time.
            Err(ClientError::Unknown("leadership changed".to_owned()))
        } else {
            let header = self.shared.header();
            Ok(Response::LeaseKeepAlive(LeaseKeepAliveResponse { header, id, ttl_s: renewal.ttl_s }))
        };
        self.answer(to, outcome);
    }

    fn time_to_live(&self, request: LeaseTimeToLiveRequest, term: Term, now: Instant) -> Result<Response, ClientError> {
        let state = self.shared.state();
        let lease = state.leases().get(request.id).ok_or_else(gone)?;
        if self.lessor.term() != Some(term) {
            return Err(flow::unavailable("leadership changed"));
        }
        // Without time left its expiry is under way.
        let left = self.lessor.remaining(request.id, now).unwrap_or_default();
        Ok(Response::LeaseTimeToLive(LeaseTimeToLiveResponse {
            header: self.shared.header(),
            id: request.id,
            ttl_s: left.as_secs().cast_signed(),
            granted_ttl_s: lease.ttl_s,
            keys: if request.keys { lease.keys.iter().cloned().collect() } else { Vec::new() },
        }))
    }

    /// Proposes what is due of leases, while this member leads and keeps their time.
    pub(super) fn propose_due(&mut self, now: Instant) {
        let Some(term) = self.lessor.term() else { return };
        if self.raft.role() != Role::Leader
            || self.raft.term() != term
            || self.lessor.next_due().is_none_or(|at| at > now)
        {
            return;
        }
        for action in self.lessor.due(now) {
            let command = Command { origin: self.config.id, request: UNANSWERED, term, action };
            if self.raft.propose(self.encoded(&command)).is_err() {
                self.lessor.not_proposed(&command.action, now);
            }
        }
    }
}

/// Whether a read may look at many keys.
fn reads_many(request: &Request) -> bool {
    match request {
        Request::Range(range) => !range.range_end.is_empty(),
        Request::Txn(_) => true,
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::LeaseTimeToLive(_)
        | Request::Status(_) => false,
    }
}

/// What a request that changes nothing reads of `state`.
fn read(request: &Request, state: &Pinned, leader: NodeId) -> Result<Response, ClientError> {
    match request {
        Request::Range(range) => Ok(Response::Range(state.tree().range(range)?)),
        Request::Txn(txn) => {
            // It changes nothing, and if it did, it would change a copy.
            let (mut tree, mut leases) = (state.tree().clone(), state.leases().clone());
            Ok(Response::Txn(txn::txn(&mut tree, &mut leases, txn.clone())?))
        }
        Request::Status(_) => {
            let mut status = StatusResponse {
                leader,
                applied: state.index(),
                compacted_revision: state.tree().compacted(),
                bytes: state.tree().bytes(),
                ..StatusResponse::default()
            };
            status.header.revision = state.revision();
            Ok(Response::Status(status))
        }
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::LeaseTimeToLive(_) => Err(flow::unavailable("what changes something is no read")),
    }
}

fn gone() -> ClientError {
    RefusedKind::LeaseNotFound.into()
}
