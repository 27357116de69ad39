//! What members say to each other, word by word, in the situations that everything rests on.
//!
//! A script is a list of words:
//!
//! | word | means |
//! |---|---|
//! | `2!`, `2:5` | member 2 ticks until it campaigns, ticks five times |
//! | `2w` | its disk finishes all writes |
//! | `2+x`, `2?7` | it proposes x, is asked for a read index with context 7 |
//! | `2>3`, `2x3` | what is under way from 2 to 3 arrives, is lost |
//! | `2%3` | 2 learns that messages to 3 were lost |
//! | `2|` | it is cut off, or no longer |
//! | `2#`, `2-` | it crashes and restarts, compacts its log |
//! | `2=3` | it, leading, hands over to 3 |
//! | `*` | everything arrives and all disks finish until nothing is left |
//! | `@` | what was said so far is not shown |

use bytes::Bytes;
use expect_test::{Expect, expect};
use raft::{Body, Config, Entry, HardState, Message, NodeId, Raft, Ready, Restored, Role, SnapshotMeta};

struct Net {
    members: Vec<Member>,
    under_way: Vec<Message>,
    /// Bits of those who reach nobody.
    cut: u64,
    log: String,
}

struct Member {
    raft: Raft,
    hard_state: HardState,
    snapshot: SnapshotMeta,
    entries: Vec<Entry>,
    writes: Vec<Ready>,
    applied: u64,
}

fn check(members: u64, script: &str, expected: Expect) {
    let ids: Vec<NodeId> = (1..=members).collect();
    let member = |id: &NodeId| Member {
        raft: Raft::new(Config::new(*id, ids.clone()), Restored::default()),
        hard_state: HardState::default(),
        snapshot: SnapshotMeta::default(),
        entries: Vec::new(),
        writes: Vec::new(),
        applied: 0,
    };
    let mut net = Net { members: ids.iter().map(member).collect(), under_way: Vec::new(), cut: 0, log: String::new() };
    for word in script.split_whitespace() {
        net.log.push_str(&format!("{word}\n"));
        net.perform(word);
    }
    expected.assert_eq(&net.log);
}

impl Net {
    fn perform(&mut self, word: &str) {
        match word {
            "*" => return self.settle(),
            "@" => return self.log.clear(),
            _ => {}
        }
        let id = u64::from(word.as_bytes()[0] - b'0');
        let rest = &word[2..];
        let number = || rest.parse().expect("a number follows");
        match word.as_bytes()[1] {
            b'!' => {
                while !matches!(self.raft(id).role(), Role::PreCandidate | Role::Candidate | Role::Leader) {
                    self.raft(id).tick(0);
                }
            }
            b':' => (0..number()).for_each(|_| {
                self.raft(id).tick(0);
                self.drain(id);
            }),
            b'|' => self.cut ^= 1 << id,
            b'w' => self.write(id),
            b'+' => {
                if let Err(error) = self.raft(id).propose(Bytes::copy_from_slice(rest.as_bytes())) {
                    self.say(id, &error.to_string());
                }
            }
            b'?' => {
                if let Err(error) = self.raft(id).read_index(number()) {
                    self.say(id, &error.to_string());
                }
            }
            b'>' => self.deliver(id, number()),
            b'x' => self.under_way.retain(|m| (m.from, m.to) != (id, number())),
            b'=' => self.raft(id).transfer_leadership(number()),
            b'%' => self.raft(id).report_unreachable(number()),
            b'#' => self.restart(id),
            b'-' => self.compact(id),
            _ => panic!("no such word: {word}"),
        }
        self.drain(id);
    }

    fn raft(&mut self, id: NodeId) -> &mut Raft {
        &mut self.members[id as usize - 1].raft
    }

    fn say(&mut self, id: NodeId, what: &str) {
        self.log.push_str(&format!("  {id}: {what}\n"));
    }

    fn settle(&mut self) {
        while !self.under_way.is_empty() || self.members.iter().any(|m| !m.writes.is_empty()) {
            for id in 1..=self.members.len() as u64 {
                self.write(id);
                self.drain(id);
            }
            for message in std::mem::take(&mut self.under_way) {
                let to = message.to;
                self.raft(to).step(message);
                self.drain(to);
            }
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId) {
        let is_it = |m: &Message| (m.from, m.to) == (from, to);
        let (now, later) = std::mem::take(&mut self.under_way).into_iter().partition(is_it);
        self.under_way = later;
        for message in now {
            self.raft(to).step(message);
        }
        self.drain(to);
    }

    fn write(&mut self, id: NodeId) {
        let member = &mut self.members[id as usize - 1];
        let mut messages = Vec::new();
        for ready in std::mem::take(&mut member.writes) {
            member.hard_state = ready.hard_state.unwrap_or(member.hard_state);
            if let Some(snapshot) = ready.snapshot {
                member.snapshot = snapshot;
                member.entries.clear();
            }
            if let Some(first) = ready.entries.first() {
                member.entries.retain(|e| e.index < first.index);
            }
            member.entries.extend(ready.entries);
            member.raft.persisted(ready.number);
            messages.extend(ready.messages_after_persist);
        }
        for message in messages {
            self.log.push_str(&format!("  {}\n", told(&message)));
            self.post(message);
        }
    }

    fn post(&mut self, message: Message) {
        if (self.cut >> message.from | self.cut >> message.to) & 1 == 0 {
            self.under_way.push(message);
        }
    }

    fn restart(&mut self, id: NodeId) {
        let voters = (1..=self.members.len() as u64).collect();
        let member = &mut self.members[id as usize - 1];
        member.writes.clear();
        member.applied = member.snapshot.index;
        let restored = Restored {
            hard_state: member.hard_state,
            snapshot: member.snapshot.clone(),
            entries: member.entries.clone(),
            applied: member.applied,
        };
        member.raft = Raft::new(Config::new(id, voters), restored);
    }

    fn compact(&mut self, id: NodeId) {
        let member = &mut self.members[id as usize - 1];
        let index = member.applied;
        let term = member.raft.entry_term(index).expect("it is in the log");
        member.snapshot = SnapshotMeta { index, term, voters: member.raft.voters().to_vec() };
        member.entries.retain(|e| e.index > index);
        member.raft.compact(member.snapshot.clone(), 0);
    }

    fn drain(&mut self, id: NodeId) {
        while let Some(ready) = self.raft(id).ready() {
            if let Some((role, term, leader)) = ready.lead_change {
                self.say(id, &format!("{role:?} in term {term}, leader {leader}"));
            }
            if let Some(snapshot) = &ready.snapshot {
                self.members[id as usize - 1].applied = snapshot.index;
                self.say(id, &format!("installs {}@{}", snapshot.index, snapshot.term));
            }
            if let Some(first) = ready.entries.first() {
                let terms: Vec<_> = ready.entries.iter().map(|e| format!("{}{}", e.term, text(&e.data))).collect();
                self.say(id, &format!("writes from {} {}", first.index, terms.join(" ")));
            }
            for entry in &ready.committed {
                self.say(id, &format!("applies {}@{}{}", entry.index, entry.term, text(&entry.data)));
                self.members[id as usize - 1].applied = entry.index;
            }
            for read in &ready.read_states {
                self.say(id, &format!("read {} at {}", read.context, read.index));
            }
            for message in &ready.messages {
                self.log.push_str(&format!("  {}\n", told(message)));
            }
            ready.messages.iter().for_each(|message| self.post(message.clone()));
            let member = &mut self.members[id as usize - 1];
            let applied = member.applied;
            member.raft.applied(applied);
            if ready.must_persist || !ready.messages_after_persist.is_empty() {
                member.writes.push(ready);
            }
        }
    }
}

fn text(data: &Bytes) -> String {
    if data.is_empty() { String::new() } else { format!(":{}", String::from_utf8_lossy(data)) }
}

fn told(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let said = match body {
        Body::PreVote { last_index, last_term } => format!("pre-vote? log {last_index}@{last_term}"),
        Body::PreVoteReply { granted } => format!("pre-vote {granted}"),
        Body::Vote { last_index, last_term, transfer } => {
            format!("vote? log {last_index}@{last_term}{}", if *transfer { " by wish" } else { "" })
        }
        Body::VoteReply { granted } => format!("vote {granted}"),
        Body::Append { prev_index, prev_term, commit, entries } => {
            let entries: Vec<_> = entries.iter().map(|e| format!("{}{}", e.term, text(&e.data))).collect();
            format!("append after {prev_index}@{prev_term} [{}] commit {commit}", entries.join(" "))
        }
        Body::AppendAccepted { index } => format!("accepted {index}"),
        Body::AppendRejected { rejected, hint_index, hint_term } => {
            format!("rejected {rejected}, try {hint_index}@{hint_term}")
        }
        Body::Heartbeat { commit, round } => format!("heartbeat commit {commit} round {round}"),
        Body::HeartbeatReply { round } => format!("heartbeat reply round {round}"),
        Body::Commit { commit } => format!("commit {commit}"),
        Body::Snapshot { meta } => format!("snapshot {}@{}", meta.index, meta.term),
        Body::Propose { data } => format!("propose{}", text(data)),
        Body::ReadIndex { context } => format!("read {context}?"),
        Body::ReadIndexReply { context, index } => format!("read {context} at {index}"),
        Body::TimeoutNow => "campaign now".to_owned(),
    };
    format!("{from}>{to} t{term} {said}")
}

#[test]
fn an_election_asks_first_and_votes_only_with_a_durable_log() {
    check(
        3,
        "1! 1>2 2>1 1w 1>2 2w 2>1 1w *",
        expect![[r#"
        1!
          1: PreCandidate in term 0, leader 0
          1>2 t1 pre-vote? log 0@0
          1>3 t1 pre-vote? log 0@0
        1>2
          2>1 t1 pre-vote true
        2>1
          1: Candidate in term 1, leader 0
        1w
          1>2 t1 vote? log 0@0
          1>3 t1 vote? log 0@0
        1>2
          2: Follower in term 1, leader 0
        2w
          2>1 t1 vote true
        2>1
          1: Leader in term 1, leader 1
          1: writes from 1 1
          1>2 t1 append after 0@0 [] commit 0
          1>3 t1 append after 0@0 [] commit 0
        1w
        *
          3>1 t1 pre-vote true
          3: Follower in term 1, leader 0
          2: Follower in term 1, leader 1
          2>1 t1 accepted 0
          3: Follower in term 1, leader 1
          3>1 t1 vote true
          3>1 t1 accepted 0
          1>2 t1 append after 0@0 [1] commit 0
          1>3 t1 append after 0@0 [1] commit 0
          2: writes from 1 1
          3: writes from 1 1
          2>1 t1 accepted 1
          3>1 t1 accepted 1
          1: applies 1@1
          1>2 t1 commit 1
          1>3 t1 commit 1
          2: applies 1@1
          3: applies 1@1
    "#]],
    );
}

#[test]
fn one_member_alone_leads_once_its_vote_is_durable() {
    check(
        1,
        "1! 1w 1w 1+a 1?7 1w",
        expect![[r#"
        1!
          1: Candidate in term 1, leader 0
        1w
          1: Leader in term 1, leader 1
          1: writes from 1 1
        1w
          1: applies 1@1
        1+a
          1: writes from 2 1:a
        1?7
          1: read 7 at 1
        1w
          1: applies 2@1:a
    "#]],
    );
}

#[test]
fn a_member_cut_off_does_not_depose_a_leader_that_is_heard() {
    check(
        3,
        "1! * @ 3! 3>2 2>3",
        expect![[r#"
        3!
          3: PreCandidate in term 1, leader 0
          3>1 t2 pre-vote? log 1@1
          3>2 t2 pre-vote? log 1@1
        3>2
        2>3
    "#]],
    );
}

#[test]
fn a_leader_that_hears_no_majority_steps_down() {
    check(
        3,
        "1! * 1:10 @ 1| 1:10 1+a 1?5",
        expect![[r#"
            1|
            1:10
              1>2 t1 heartbeat commit 1 round 0
              1>3 t1 heartbeat commit 1 round 0
              1>2 t1 heartbeat commit 1 round 0
              1>3 t1 heartbeat commit 1 round 0
              1>2 t1 heartbeat commit 1 round 0
              1>3 t1 heartbeat commit 1 round 0
              1>2 t1 heartbeat commit 1 round 0
              1>3 t1 heartbeat commit 1 round 0
              1: Follower in term 1, leader 0
            1+a
              1: no leader is known
            1?5
              1: no leader is known
        "#]],
    );
}

#[test]
fn a_vote_survives_a_restart() {
    check(
        3,
        "1! 2! 1>3 3>1 2>3 3>2 1w 2w @ 1>3 3w 3# 2>3 3w",
        expect![[r#"
            1>3
              3: Follower in term 1, leader 0
            3w
              3>1 t1 vote true
            3#
            2>3
              3>2 t1 vote false
            3w
        "#]],
    );
}

#[test]
fn an_entry_is_committed_by_two_followers_before_the_leader_has_written_it() {
    check(
        3,
        "1! * @ 1+a 1+b 1>2 2w 2>1 1>3 3w 3>1 1w *",
        expect![[r#"
            1+a
              1: writes from 2 1:a
              1>2 t1 append after 1@1 [1:a] commit 1
              1>3 t1 append after 1@1 [1:a] commit 1
            1+b
              1: writes from 3 1:b
              1>2 t1 append after 2@1 [1:b] commit 1
              1>3 t1 append after 2@1 [1:b] commit 1
            1>2
              2: writes from 2 1:a 1:b
            2w
              2>1 t1 accepted 2
              2>1 t1 accepted 3
            2>1
            1>3
              3: writes from 2 1:a 1:b
            3w
              3>1 t1 accepted 2
              3>1 t1 accepted 3
            3>1
              1>2 t1 commit 3
              1>3 t1 commit 3
            1w
              1: applies 2@1:a
              1: applies 3@1:b
            *
              2: applies 2@1:a
              2: applies 3@1:b
              3: applies 2@1:a
              3: applies 3@1:b
        "#]],
    );
}

#[test]
fn a_follower_forwards_proposals_and_reads() {
    check(
        3,
        "1! * @ 2+a * 2?7 *",
        expect![[r#"
        2+a
          2>1 t0 propose:a
        *
          1: writes from 2 1:a
          1>2 t1 append after 1@1 [1:a] commit 1
          1>3 t1 append after 1@1 [1:a] commit 1
          2: writes from 2 1:a
          3: writes from 2 1:a
          2>1 t1 accepted 2
          3>1 t1 accepted 2
          1: applies 2@1:a
          1>2 t1 commit 2
          1>3 t1 commit 2
          2: applies 2@1:a
          3: applies 2@1:a
        2?7
          2>1 t0 read 7?
        *
          1>2 t1 heartbeat commit 2 round 1
          1>3 t1 heartbeat commit 2 round 1
          2>1 t1 heartbeat reply round 1
          3>1 t1 heartbeat reply round 1
          1>2 t1 read 7 at 2
          2: read 7 at 2
    "#]],
    );
}

#[test]
fn a_later_round_answers_the_reads_of_a_lost_one_too() {
    check(
        3,
        "1! * @ 1?7 1x2 1x3 1?8 1>2 2>1",
        expect![[r#"
        1?7
          1>2 t1 heartbeat commit 1 round 1
          1>3 t1 heartbeat commit 1 round 1
        1x2
        1x3
        1?8
          1>2 t1 heartbeat commit 1 round 2
          1>3 t1 heartbeat commit 1 round 2
        1>2
          2>1 t1 heartbeat reply round 2
        2>1
          1: read 7 at 1
          1: read 8 at 1
    "#]],
    );
}

#[test]
fn a_read_waits_until_the_leader_committed_in_its_own_term() {
    check(
        3,
        "1! 1>2 2>1 1w 1>2 2w 2>1 @ 1?7 1w 1>2 2>1 1>2 2w 2>1 1>2 2>1",
        expect![[r#"
            1?7
            1w
            1>2
              2: Follower in term 1, leader 1
              2>1 t1 accepted 0
            2>1
              1>2 t1 append after 0@0 [1] commit 0
            1>2
              2: writes from 1 1
            2w
              2>1 t1 accepted 1
            2>1
              1: applies 1@1
              1>2 t1 heartbeat commit 1 round 1
              1>3 t1 heartbeat commit 0 round 1
            1>2
              2: applies 1@1
              2>1 t1 heartbeat reply round 1
            2>1
              1: read 7 at 1
        "#]],
    );
}

#[test]
fn reads_die_with_the_leadership() {
    check(
        3,
        "1! * 1| 1?7 @ 3! 3x2 2! * 1| 2:2 *",
        expect![[r#"
            3!
              3: PreCandidate in term 1, leader 0
              3>1 t2 pre-vote? log 1@1
              3>2 t2 pre-vote? log 1@1
            3x2
            2!
              2: PreCandidate in term 1, leader 0
              2>1 t2 pre-vote? log 1@1
              2>3 t2 pre-vote? log 1@1
            *
              3>2 t2 pre-vote true
              2: Candidate in term 2, leader 0
              2>1 t2 vote? log 1@1
              2>3 t2 vote? log 1@1
              3: Follower in term 2, leader 0
              3>2 t2 vote true
              2: Leader in term 2, leader 2
              2: writes from 2 2
              2>1 t2 append after 1@1 [] commit 1
              2>3 t2 append after 1@1 [] commit 1
              3: Follower in term 2, leader 2
              3>2 t2 accepted 1
              2>3 t2 append after 1@1 [2] commit 1
              3: writes from 2 2
              3>2 t2 accepted 2
              2: applies 2@2
              2>3 t2 commit 2
              3: applies 2@2
            1|
            2:2
              2>1 t2 heartbeat commit 0 round 0
              2>3 t2 heartbeat commit 2 round 0
            *
              1: Follower in term 2, leader 2
              1>2 t2 heartbeat reply round 0
              3>2 t2 heartbeat reply round 0
              2>1 t2 append after 1@1 [] commit 2
              1>2 t2 accepted 1
              2>1 t2 append after 1@1 [2] commit 2
              1: writes from 2 2
              1>2 t2 accepted 2
              1: applies 2@2
        "#]],
    );
}

#[test]
fn a_log_that_differs_is_found_out_in_one_question_per_term_and_replaced() {
    check(
        3,
        "1! * 1| 1+a 1+b 1+c 1w 1# 3! 3x2 2! * 2+d 2+e * 2=3 * @ 1| 3:2 *",
        expect![[r#"
            1|
            3:2
              3>1 t3 heartbeat commit 0 round 0
              3>2 t3 heartbeat commit 5 round 0
            *
              1: Follower in term 3, leader 3
              1>3 t3 heartbeat reply round 0
              2>3 t3 heartbeat reply round 0
              3>1 t3 append after 4@2 [] commit 5
              1>3 t3 rejected 4, try 4@1
              3>1 t3 append after 1@1 [] commit 5
              1: applies 1@1
              1>3 t3 accepted 1
              3>1 t3 append after 1@1 [2 2:d 2:e 3] commit 5
              1: writes from 2 2 2:d 2:e 3
              1>3 t3 accepted 5
              1: applies 2@2
              1: applies 3@2:d
              1: applies 4@2:e
              1: applies 5@3
        "#]],
    );
}

#[test]
fn a_follower_that_lags_behind_the_log_gets_a_snapshot_and_goes_on() {
    check(
        3,
        "1! * 3| 1+a 1+b * 1- 1+c * @ 3| 1:2 1>3 3>1 1>3 3>1 1>3 3w 3>1 *",
        expect![[r#"
            3|
            1:2
              1>2 t1 heartbeat commit 4 round 0
              1>3 t1 heartbeat commit 1 round 0
            1>3
              3>1 t1 heartbeat reply round 0
            3>1
              1>3 t1 append after 4@1 [] commit 4
            1>3
              3>1 t1 rejected 4, try 1@1
            3>1
              1>3 t1 snapshot 3@1
            1>3
              3: installs 3@1
            3w
              3>1 t1 accepted 3
            3>1
              1>3 t1 append after 3@1 [1:c] commit 4
            *
              2>1 t1 heartbeat reply round 0
              3: writes from 4 1:c
              3>1 t1 accepted 4
              3: applies 4@1:c
        "#]],
    );
}

#[test]
fn a_snapshot_of_what_the_log_has_already_only_tells_that_it_is_committed() {
    check(
        3,
        "1! * 1+a 1>3 3w 3x1 1>2 2w 2>1 1w 1- 1x3 @ 1%3 1>3 3w 3>1 *",
        expect![[r#"
            1%3
              1>3 t1 snapshot 2@1
            1>3
              3: applies 2@1:a
              3>1 t1 accepted 2
            3w
            3>1
              1>3 t1 commit 2
            *
              2: applies 2@1:a
        "#]],
    );
}

#[test]
fn a_lost_append_is_asked_for_after_a_heartbeat() {
    check(
        3,
        "1! * @ 1+a 1x3 * 1:2 *",
        expect![[r#"
        1+a
          1: writes from 2 1:a
          1>2 t1 append after 1@1 [1:a] commit 1
          1>3 t1 append after 1@1 [1:a] commit 1
        1x3
        *
          2: writes from 2 1:a
          2>1 t1 accepted 2
          1: applies 2@1:a
          1>2 t1 commit 2
          2: applies 2@1:a
        1:2
          1>2 t1 heartbeat commit 2 round 0
          1>3 t1 heartbeat commit 1 round 0
        *
          2>1 t1 heartbeat reply round 0
          3>1 t1 heartbeat reply round 0
          1>3 t1 append after 2@1 [] commit 2
          3>1 t1 rejected 2, try 1@1
          1>3 t1 append after 1@1 [] commit 2
          3>1 t1 accepted 1
          1>3 t1 append after 1@1 [1:a] commit 2
          3: writes from 2 1:a
          3>1 t1 accepted 2
          3: applies 2@1:a
    "#]],
    );
}

#[test]
fn a_leader_hands_over_once_the_other_has_everything() {
    check(
        3,
        "1! * @ 1+a 1=2 1+b *",
        expect![[r#"
        1+a
          1: writes from 2 1:a
          1>2 t1 append after 1@1 [1:a] commit 1
          1>3 t1 append after 1@1 [1:a] commit 1
        1=2
        1+b
          1: the leader is handing over to another member
        *
          2: writes from 2 1:a
          3: writes from 2 1:a
          2>1 t1 accepted 2
          3>1 t1 accepted 2
          1: applies 2@1:a
          1>2 t1 campaign now
          1>2 t1 commit 2
          1>3 t1 commit 2
          2: Candidate in term 2, leader 0
          3: applies 2@1:a
          2>1 t2 vote? log 2@1 by wish
          2>3 t2 vote? log 2@1 by wish
          1: Follower in term 2, leader 0
          3: Follower in term 2, leader 0
          1>2 t2 vote true
          3>2 t2 vote true
          2: Leader in term 2, leader 2
          2: writes from 3 2
          2>1 t2 append after 2@1 [] commit 1
          2>3 t2 append after 2@1 [] commit 1
          1: Follower in term 2, leader 2
          1>2 t2 accepted 2
          3: Follower in term 2, leader 2
          3>2 t2 accepted 2
          2>1 t2 append after 2@1 [2] commit 1
          2>3 t2 append after 2@1 [2] commit 1
          1: writes from 3 2
          3: writes from 3 2
          1>2 t2 accepted 3
          3>2 t2 accepted 3
          2: applies 2@1:a
          2: applies 3@2
          2>1 t2 commit 3
          2>3 t2 commit 2
          2>3 t2 commit 3
          1: applies 3@2
          3: applies 3@2
    "#]],
    );
}
