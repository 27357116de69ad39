//! Raft's invariants, judged from outside: by what members say, write and apply.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::{Body, Entry, Index, Message, NodeId, Ready, Role, Term};

use crate::world::{Disk, Node};

/// One who sees everything and forgets nothing.
#[derive(Default)]
pub struct Witness {
    /// What was applied by anyone, from index 1 on.
    pub committed: Vec<Entry>,
    /// Reads that were answered.
    pub answered: BTreeSet<u64>,
    /// Term of the leader that committed up to an index.
    commits: BTreeMap<Index, Term>,
    leaders: BTreeMap<Term, (NodeId, u64)>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Every entry that ever was in a log: its data and the term of the one before it.
    entries: BTreeMap<(Index, Term), (Bytes, Term)>,
    /// Per member, its log as handed out to be written.
    logs: BTreeMap<NodeId, Mirror>,
    /// Per read, what was committed anywhere when it was asked for.
    reads: BTreeMap<u64, Index>,
    highest_commit: Index,
}

/// A member's log in memory.
#[derive(Default)]
struct Mirror {
    base: Index,
    base_term: Term,
    entries: Vec<Entry>,
    commit: Index,
    /// The term it leads in, and the length of its log when last seen doing so.
    leading: Option<(Term, Index)>,
}

impl Mirror {
    fn last(&self) -> Index {
        self.base + self.entries.len() as u64
    }

    fn term(&self, index: Index) -> Option<Term> {
        if index == self.base {
            return Some(self.base_term);
        }
        let offset = index.checked_sub(self.base + 1)?;
        self.entries.get(offset as usize).map(|e| e.term)
    }
}

impl Witness {
    pub fn sees_restart(&mut self, node: &Node) {
        let (snapshot, raft) = (&node.disk.snapshot, node.raft.as_ref().expect("it restarts"));
        let entries = node.disk.entries.iter().filter(|e| e.index > snapshot.index).cloned().collect();
        let mirror =
            Mirror { base: snapshot.index, base_term: snapshot.term, entries, commit: raft.commit(), leading: None };
        self.logs.insert(node.id, mirror);
    }

    pub fn sees_ready(&mut self, id: NodeId, ready: &Ready, nodes: &[Node]) {
        let node = &nodes[id as usize - 1];
        if let Some(snapshot) = &ready.snapshot {
            let term = self.committed.get(snapshot.index as usize - 1).map(|e| e.term);
            assert_eq!(term, Some(snapshot.term), "a snapshot is of what is committed");
            let mirror = self.logs.entry(id).or_default();
            (mirror.base, mirror.base_term) = (snapshot.index, snapshot.term);
            mirror.entries.clear();
        }
        for entry in &ready.entries {
            self.sees_entry(id, entry);
        }
        if let Some((Role::Leader, term, _)) = ready.lead_change {
            self.sees_leader(node, term);
        }
        if let Some(advance) = ready.commit_advance {
            assert_eq!(advance.entry_term, advance.term, "a leader commits by counting an entry of its own term");
            let holders = nodes.iter().filter(|n| n.disk.has(advance.index, advance.entry_term)).count();
            assert!(holders * 2 > nodes.len(), "{advance:?} by {id}, but it is durable on {holders} only");
            self.commits.entry(advance.index).or_insert(advance.term);
        }
        let mut applied = ready.snapshot.as_ref().map_or(node.applied, |s| s.index);
        for entry in &ready.committed {
            applied += 1;
            assert_eq!(entry.index, applied, "each committed entry is delivered once and in order");
            assert!(node.disk.has(entry.index, entry.term), "what is delivered is durable here");
            self.sees_applied(entry);
        }
        for read in &ready.read_states {
            let needed = self.reads[&read.context];
            assert!(read.index >= needed, "{read:?} at member {id} misses what was committed up to {needed}");
            self.answered.insert(read.context);
        }
    }

    /// Log matching, by induction: an index and a term stand for one entry, and for one entry before it.
    fn sees_entry(&mut self, id: NodeId, entry: &Entry) {
        let mirror = self.logs.entry(id).or_default();
        if entry.index <= mirror.last() {
            assert!(mirror.leading.is_none(), "leader {id} replaced its own entry {}", entry.index);
            mirror.entries.truncate((entry.index - mirror.base - 1) as usize);
        }
        assert_eq!(entry.index, mirror.last() + 1, "a log is contiguous");
        let before = mirror.term(entry.index - 1).expect("it is contiguous");
        assert!(entry.term >= before, "terms never fall along a log");
        mirror.entries.push(entry.clone());
        let known = self.entries.entry((entry.index, entry.term)).or_insert_with(|| (entry.data.clone(), before));
        assert_eq!(*known, (entry.data.clone(), before), "logs that agree at {} agree before it", entry.index);
    }

    /// Election safety and leader completeness.
    fn sees_leader(&mut self, node: &Node, term: Term) {
        let this = (node.id, node.incarnation);
        let leader = *self.leaders.entry(term).or_insert(this);
        assert_eq!(leader, this, "two leaders in term {term}");
        let mirror = &mut self.logs.entry(node.id).or_default();
        mirror.leading = Some((term, mirror.last()));
        let earlier = self.commits.iter().filter(|(_, by)| **by < term).map(|(index, _)| *index).max();
        for index in mirror.base + 1..=earlier.unwrap_or(0) {
            let known = self.committed.get(index as usize - 1).map(|e| e.term);
            let own = mirror.term(index);
            assert!(own.is_some(), "leader {} of term {term} lacks entry {index}", node.id);
            assert!(known.is_none() || known == own, "leader {} of term {term} contradicts entry {index}", node.id);
        }
    }

    /// State machine safety: everybody applies the same.
    fn sees_applied(&mut self, entry: &Entry) {
        let at = entry.index as usize - 1;
        assert!(
            at <= self.committed.len(),
            "somebody applied {} before anybody applied what is before it",
            entry.index
        );
        match self.committed.get(at) {
            Some(known) => assert_eq!(known, entry, "members apply different entries"),
            None => self.committed.push(entry.clone()),
        }
    }

    /// What leaves a member: a vote once and durable, an append within bounds.
    pub fn sees_message(&mut self, message: &Message, disk: &Disk, max_append_bytes: usize) {
        match &message.body {
            Body::VoteReply { granted: true } => {
                let given = *self.votes.entry((message.from, message.term)).or_insert(message.to);
                assert_eq!(given, message.to, "member {} voted twice in term {}", message.from, message.term);
                let durable = (disk.hard_state.term, disk.hard_state.vote);
                let kept = durable == (message.term, message.to) || durable.0 > message.term;
                assert!(kept, "a vote left before it was durable: {message:?}, {durable:?}");
            }
            Body::AppendAccepted { index } if disk.hard_state.term == message.term => {
                let last = disk.entries.last().map_or(0, |e| e.index).max(disk.snapshot.index);
                assert!(last >= *index, "accepted up to {index}, durable up to {last}");
            }
            Body::Append { entries, .. } => {
                let bytes: usize = entries.iter().map(|e| e.data.len()).sum();
                assert!(entries.len() <= 1 || bytes <= max_append_bytes, "an append of {bytes} bytes");
            }
            _ => {}
        }
    }

    pub fn sees_read_asked(&mut self, context: u64, nodes: &[Node]) {
        let commits = nodes.iter().filter_map(|n| n.raft.as_ref()).map(|r| r.commit());
        self.highest_commit = commits.max().unwrap_or(0).max(self.highest_commit).max(self.committed.len() as u64);
        self.reads.insert(context, self.highest_commit);
    }

    /// After whatever happened to a member.
    pub fn looks_at(&mut self, node: &Node) {
        let Some(raft) = &node.raft else { return };
        let mirror = self.logs.entry(node.id).or_default();
        assert!(raft.commit() >= mirror.commit, "commit fell from {} to {}", mirror.commit, raft.commit());
        assert!(raft.commit() <= raft.last_index(), "committed beyond the log");
        assert_eq!(raft.last_index(), mirror.last(), "every entry was handed out to be written");
        assert_eq!(raft.entry_term(raft.last_index()), mirror.term(mirror.last()), "as it is in the log");
        mirror.commit = raft.commit();
        self.highest_commit = self.highest_commit.max(raft.commit());
        match mirror.leading {
            Some((term, _)) if raft.role() != Role::Leader || raft.term() != term => mirror.leading = None,
            Some((term, last)) => {
                assert!(mirror.last() >= last, "leader {} of term {term} shortened its log", node.id);
                mirror.leading = Some((term, mirror.last()));
            }
            None => {}
        }
    }
}
