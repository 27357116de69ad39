//! A cluster whose network, disks and clocks do what the adversary says, with every invariant looked at on the way.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{Body, Config, Entry, HardState, Message, NodeId, Raft, Ready, Restored, Role, SnapshotMeta};

use crate::invariants::Witness;

pub const ELECTION_TICKS: u32 = 5;
/// One entry or two, so that replication takes many appends.
const MAX_APPEND_BYTES: usize = 70;

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub snapshot: SnapshotMeta,
    /// May begin at or before the snapshot's index.
    pub entries: Vec<Entry>,
}

impl Disk {
    /// Whether it holds the entry (`index`, `term`), by itself or in the snapshot.
    pub fn has(&self, index: u64, term: u64) -> bool {
        index <= self.snapshot.index || self.entries.iter().any(|e| (e.index, e.term) == (index, term))
    }

    fn write(&mut self, write: Write) {
        if let Some(snapshot) = write.snapshot {
            self.snapshot = snapshot;
            self.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|e| e.index < first.index);
            let last = self.entries.last().map_or(self.snapshot.index, |e| e.index);
            assert_eq!(first.index, last + 1, "what is written is contiguous with what is on disk");
        }
        self.entries.extend(write.entries);
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
    }
}

/// A Ready on its way to the disk.
pub struct Write {
    number: u64,
    hard_state: Option<HardState>,
    snapshot: Option<SnapshotMeta>,
    entries: Vec<Entry>,
    messages: Vec<Message>,
}

/// How one member may stay faulty while the others have to go on.
#[derive(Clone, Copy, Debug)]
pub enum Aside {
    Down,
    /// It hears nothing, but is heard.
    Deaf,
    /// It hears, but is not heard.
    Mute,
}

pub struct Node {
    pub id: NodeId,
    pub raft: Option<Raft>,
    pub disk: Disk,
    pub writes: VecDeque<Write>,
    /// A hard state that need not be durable yet goes with the next write.
    lazy: Option<HardState>,
    /// Last index applied; what was applied is the witness's committed prefix.
    pub applied: u64,
    pub incarnation: u64,
}

pub struct World {
    pub nodes: Vec<Node>,
    pub net: Vec<Message>,
    /// Directed links that lose everything.
    cut: Vec<(NodeId, NodeId)>,
    /// Members whose clock stands still, as bits.
    frozen: u64,
    pub witness: Witness,
    random: u64,
    proposals: u64,
    contexts: u64,
}

impl World {
    pub fn new(size: u64, seed: u64) -> World {
        let node = |id| Node {
            id,
            raft: None,
            disk: Disk::default(),
            writes: VecDeque::new(),
            lazy: None,
            applied: 0,
            incarnation: 0,
        };
        let mut world = World {
            nodes: (1..=size).map(node).collect(),
            net: Vec::new(),
            cut: Vec::new(),
            frozen: 0,
            witness: Witness::default(),
            random: seed | 1,
            proposals: 0,
            contexts: 0,
        };
        for id in 1..=size {
            world.restart(id);
        }
        world
    }

    pub fn random(&mut self) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn chance(&mut self, permille: u64) -> bool {
        self.random() >> 32 & 1023 < permille * 1024 / 1000
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    pub fn ids(&self) -> std::ops::RangeInclusive<NodeId> {
        1..=self.nodes.len() as u64
    }

    /// Lets `act` do something to a member that runs, then carries out what it wants done.
    fn with<T>(&mut self, id: NodeId, act: impl FnOnce(&mut Raft) -> T) -> Option<T> {
        let raft = self.node(id).raft.as_mut()?;
        let result = act(raft);
        self.drain(id);
        Some(result)
    }

    fn drain(&mut self, id: NodeId) {
        while let Some(ready) = self.node(id).raft.as_mut().and_then(Raft::ready) {
            self.carry_out(id, ready);
        }
        let World { nodes, witness, .. } = self;
        witness.looks_at(&nodes[id as usize - 1]);
    }

    fn carry_out(&mut self, id: NodeId, ready: Ready) {
        let World { nodes, witness, .. } = self;
        witness.sees_ready(id, &ready, nodes);
        let node = &mut nodes[id as usize - 1];
        if let Some(snapshot) = &ready.snapshot {
            node.applied = snapshot.index;
        }
        if let Some(last) = ready.committed.last() {
            node.applied = last.index;
        }
        let applied = node.applied;
        if let Some(raft) = &mut node.raft {
            raft.applied(applied);
        }
        let Ready { number, hard_state, snapshot, entries, messages, messages_after_persist, must_persist, .. } = ready;
        if must_persist || !messages_after_persist.is_empty() {
            let hard_state = hard_state.or(node.lazy.take());
            node.lazy = None;
            node.writes.push_back(Write { number, hard_state, snapshot, entries, messages: messages_after_persist });
        } else {
            node.lazy = hard_state.or(node.lazy);
        }
        for message in messages {
            self.post(message);
        }
    }

    fn post(&mut self, message: Message) {
        let World { nodes, witness, .. } = self;
        witness.sees_message(&message, &nodes[message.from as usize - 1].disk, MAX_APPEND_BYTES);
        if self.cut.contains(&(message.from, message.to)) {
            self.lose(message);
        } else {
            self.net.push(message);
        }
    }

    /// A transport tells the sender of a snapshot what became of it.
    fn lose(&mut self, message: Message) {
        if let Body::Snapshot { .. } = message.body {
            self.with(message.from, |raft| raft.report_snapshot(message.to, false));
        }
    }

    pub fn lose_at(&mut self, pick: usize) {
        if !self.net.is_empty() {
            let message = self.net.swap_remove(pick % self.net.len());
            self.lose(message);
        }
    }

    pub fn repeat_at(&mut self, pick: usize) {
        if !self.net.is_empty() {
            let message = self.net[pick % self.net.len()].clone();
            self.net.push(message);
        }
    }

    /// Delivers the message that has waited as `pick` says, 0 for longest.
    pub fn deliver_at(&mut self, pick: usize) {
        if self.net.is_empty() {
            return;
        }
        let message = self.net.remove(pick % self.net.len());
        if self.cut.contains(&(message.from, message.to)) || self.node(message.to).raft.is_none() {
            return self.lose(message);
        }
        let (from, to) = (message.from, message.to);
        let is_snapshot = matches!(message.body, Body::Snapshot { .. });
        self.with(to, |raft| raft.step(message));
        if is_snapshot {
            self.with(from, |raft| raft.report_snapshot(to, true));
        }
    }

    /// `id` and those with a bit in `reach` hear no leader for long, while for the others time stands still; then `id`
    /// campaigns, and what concerns that alone arrives among them.
    pub fn elect(&mut self, id: NodeId, reach: u8) {
        let in_it = |other: &NodeId| *other == id || reach >> other & 1 == 1;
        for other in self.ids().filter(in_it) {
            self.persist(other, usize::MAX);
            (0..ELECTION_TICKS).for_each(|_| self.tick(other));
        }
        for _ in 0..ELECTION_TICKS {
            let raft = &self.node(id).raft;
            if raft.as_ref().is_some_and(|r| r.role() == Role::Follower) {
                self.tick(id);
            }
        }
        let concerns = |m: &Message| {
            let from_or_to = (m.from == id && in_it(&m.to)) || (m.to == id && in_it(&m.from));
            from_or_to && is_about_election(&m.body)
        };
        // Asked whether, answered, asked for votes, answered.
        for _ in 0..4 {
            while let Some(at) = self.net.iter().position(concerns) {
                self.deliver_at(at);
            }
            for other in self.ids().filter(in_it) {
                self.persist(other, usize::MAX);
            }
        }
    }

    /// Delivers the `count` messages to `id` that have waited longest.
    pub fn deliver_to(&mut self, id: NodeId, count: usize) {
        for _ in 0..count {
            if let Some(at) = self.net.iter().position(|m| m.to == id) {
                self.deliver_at(at);
            }
        }
    }

    pub fn tick(&mut self, id: NodeId) {
        if self.frozen >> id & 1 == 1 {
            return;
        }
        let random = self.random();
        self.with(id, |raft| raft.tick(random));
    }

    /// The oldest `count` writes of a disk are done, all at once.
    pub fn persist(&mut self, id: NodeId, count: usize) {
        let mut last = None;
        let mut messages = Vec::new();
        for _ in 0..count {
            let node = self.node(id);
            let Some(mut write) = node.writes.pop_front() else {
                break;
            };
            last = Some(write.number);
            messages.append(&mut write.messages);
            node.disk.write(write);
        }
        for message in messages {
            self.post(message);
        }
        if let Some(number) = last {
            self.with(id, |raft| raft.persisted(number));
        }
    }

    pub fn propose(&mut self, id: NodeId) -> bool {
        self.proposals += 1;
        let data = Bytes::from(format!("p{}", self.proposals));
        self.with(id, |raft| raft.propose(data).is_ok()).unwrap_or(false)
    }

    /// Returns the context of the read, if it was asked.
    pub fn read(&mut self, id: NodeId) -> Option<u64> {
        self.contexts += 1;
        let context = self.contexts;
        let World { nodes, witness, .. } = self;
        witness.sees_read_asked(context, nodes);
        let asked = self.with(id, |raft| raft.read_index(context).is_ok());
        asked.unwrap_or(false).then_some(context)
    }

    pub fn transfer(&mut self, to: NodeId) {
        if let Some(leader) = self.leader() {
            self.with(leader, |raft| raft.transfer_leadership(to));
        }
    }

    pub fn unreachable(&mut self, id: NodeId, to: NodeId) {
        self.with(id, |raft| raft.report_unreachable(to));
    }

    /// Takes a snapshot of the applied state, keeping `tail` entries before it.
    pub fn compact(&mut self, id: NodeId, tail: u64) {
        let voters = self.ids().collect();
        let node = self.node(id);
        // The state of an installed snapshot is not durable before the snapshot is.
        if node.raft.is_none() || node.writes.iter().any(|w| w.snapshot.is_some()) {
            return;
        }
        let index = node.applied;
        let Some(term) = node.raft.as_ref().and_then(|raft| raft.entry_term(index)) else {
            return;
        };
        if index <= node.disk.snapshot.index {
            return;
        }
        let meta = SnapshotMeta { index, term, voters };
        node.disk.snapshot = meta.clone();
        node.disk.entries.retain(|e| e.index + tail > index);
        self.with(id, |raft| raft.compact(meta, tail));
    }

    /// Everything that was not durable is gone. With `torn`, the snapshot being installed is durable, the log's record of it not.
    pub fn crash(&mut self, id: NodeId, torn: bool) {
        let node = self.node(id);
        if node.raft.take().is_none() {
            return;
        }
        let installing = node.writes.pop_front().and_then(|w| w.snapshot).filter(|_| torn);
        if let Some(snapshot) = installing {
            node.disk.snapshot = snapshot;
        }
        node.writes.clear();
        node.lazy = None;
    }

    pub fn restart(&mut self, id: NodeId) {
        let voters: Vec<NodeId> = self.ids().collect();
        let node = self.node(id);
        if node.raft.is_some() {
            return;
        }
        let config = Config {
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: 1,
            max_append_bytes: MAX_APPEND_BYTES,
            max_inflight_appends: 3,
            max_uncommitted_bytes: 600,
            max_committed_bytes: 200,
            ..Config::new(id, voters)
        };
        let Disk { hard_state, snapshot, entries } = node.disk.clone();
        node.applied = snapshot.index;
        node.incarnation += 1;
        let mut restored = Restored { hard_state, applied: snapshot.index, snapshot, entries };
        if restored.drop_superseded_log() {
            node.disk.entries.clear();
        }
        let raft = Raft::new(config, restored);
        assert!(raft.commit() >= hard_state.commit, "a durable commit index is kept over a restart");
        node.raft = Some(raft);
        let World { nodes, witness, .. } = self;
        witness.sees_restart(&nodes[id as usize - 1]);
        self.drain(id);
    }

    /// Members whose bit differs no longer reach each other.
    pub fn partition(&mut self, side: u8) {
        let in_it = |id: NodeId| side >> id & 1;
        for from in self.ids() {
            for to in self.ids().filter(|to| in_it(from) != in_it(*to)) {
                self.cut_link(from, to);
            }
        }
    }

    pub fn cut_link(&mut self, from: NodeId, to: NodeId) {
        if !self.cut.contains(&(from, to)) {
            self.cut.push((from, to));
        }
    }

    /// Nothing reaches `id` or leaves it, and for it no time passes: a leader goes on believing that it leads.
    pub fn freeze(&mut self, id: NodeId) {
        self.frozen |= 1 << id;
        for other in self.ids().filter(|other| *other != id) {
            self.cut_link(id, other);
            self.cut_link(other, id);
        }
    }

    pub fn heal(&mut self) {
        self.frozen = 0;
        self.cut.clear();
    }

    /// The leader of the newest term among those who believe that they lead.
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |node: &&Node| node.raft.as_ref().is_some_and(|r| r.role() == Role::Leader);
        let term = |node: &&Node| node.raft.as_ref().map(|r| r.term());
        self.nodes.iter().filter(leads).max_by_key(term).map(|n| n.id)
    }

    /// `ticks` of ordinary life: messages arrive in the order sent, except that `loss` in a thousand do not; disks write.
    pub fn run(&mut self, ticks: u32, loss: u64) {
        for _ in 0..ticks {
            for id in self.ids() {
                self.tick(id);
            }
            self.settle(loss);
        }
    }

    fn settle(&mut self, loss: u64) {
        // A round trip of an append, its answer, and the news of its commit, several times over.
        for _ in 0..12 {
            for id in self.ids() {
                self.persist(id, usize::MAX);
            }
            for _ in 0..self.net.len() {
                if loss > 0 && self.chance(loss) {
                    self.lose_at(0);
                } else {
                    self.deliver_at(0);
                }
            }
        }
    }

    /// Faults end, except that one member may stay `aside`. Within a bounded time a proposal made by any of the others is
    /// applied by all of them, and a read of theirs is answered.
    pub fn must_recover(&mut self, aside: Option<(NodeId, Aside)>) {
        self.heal();
        for id in self.ids() {
            self.restart(id);
        }
        if let Some((id, how)) = aside {
            self.set_aside(id, how);
        }
        let healthy: Vec<NodeId> = self.ids().filter(|id| aside.is_none_or(|(aside, _)| aside != *id)).collect();
        let goal = self.witness.committed.len() as u64 + 1;
        let mut reads = Vec::new();
        // Three campaigns that split, one that succeeds, and the time to catch up a member that is far behind.
        let bound = 2 * ELECTION_TICKS * 4 + 60;
        for _ in 0..bound {
            self.run(1, 0);
            for id in &healthy {
                self.propose(*id);
                reads.extend(self.read(*id));
            }
            let applied = healthy.iter().all(|id| self.node(*id).applied >= goal);
            if applied && reads.iter().any(|context| self.witness.answered.contains(context)) {
                return;
            }
        }
        let state: Vec<_> = self.nodes.iter().map(|n| n.raft.as_ref().map(Raft::status)).collect();
        panic!("no recovery to {goal} within {bound} ticks with {aside:?}: {state:#?}");
    }

    fn set_aside(&mut self, id: NodeId, how: Aside) {
        for other in self.ids().filter(|other| *other != id) {
            match how {
                Aside::Down => self.crash(id, false),
                Aside::Deaf => self.cut_link(other, id),
                Aside::Mute => self.cut_link(id, other),
            }
        }
    }
}

fn is_about_election(body: &Body) -> bool {
    matches!(body, Body::PreVote { .. } | Body::PreVoteReply { .. } | Body::Vote { .. } | Body::VoteReply { .. })
}
