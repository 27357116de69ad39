//! C3: two replicas at the same applied index have the same state.

use crate::History;
use crate::findings::Findings;
use faults::Ns;
use record::{Guarantee, Observation, Verdict};

pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C3);
    states_agree(h, &mut findings);
    for repeat in &h.log.repeats {
        findings.tested(1);
        if let Some(slot) = h.log.slot(repeat.revision)
            && h.log.entries[slot].events != repeat.events
        {
            findings.violated(
                repeat.at_ns,
                format!(
                    "members {} and {} disagree on what revision {} changed",
                    h.log.entries[slot].member, repeat.member, repeat.revision
                ),
            );
        }
    }
    findings.verdict()
}

/// A state: the applied index first, so that sorting brings together what must agree.
struct State {
    applied: u64,
    at_ns: Ns,
    member: u32,
    revision: i64,
    hash: u64,
}

/// Everything seen at the same applied index agrees, also of one member before and after a restart. Leases are part of
/// the state but not of the revision, so it is the index that says what must be equal.
fn states_agree(h: &History<'_>, findings: &mut Findings) {
    let mut states: Vec<State> = h
        .record
        .observations
        .iter()
        .filter_map(|observation| match observation {
            Observation::State { at_ns, member, revision, applied, hash } => {
                Some(State { applied: *applied, at_ns: *at_ns, member: *member, revision: *revision, hash: *hash })
            }
            _ => None,
        })
        .collect();
    states.sort_by_key(|s| (s.applied, s.at_ns, s.member));
    for alike in states.chunk_by(|a, b| a.applied == b.applied) {
        let first = &alike[0];
        let mut members = vec![first.member];
        for other in &alike[1..] {
            if !members.contains(&other.member) {
                members.push(other.member);
                findings.tested(1);
            }
            if (other.revision, other.hash) != (first.revision, first.hash) {
                findings.violated(
                    other.at_ns,
                    format!(
                        "at index {} member {} has revision {} and hash {:016x}, but member {} revision {} and hash {:016x}",
                        first.applied, first.member, first.revision, first.hash, other.member, other.revision, other.hash
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Story;

    /// Three members that follow each other, one of them restarted.
    fn good() -> Story {
        let mut story = Story::new();
        story.put("a", "a1");
        for (applied, revision, hash) in [(1, 1, 0xa), (2, 2, 0xb), (3, 2, 0xc)] {
            for member in 0..3 {
                story.state(member, applied, revision, hash);
            }
            story.wait(1);
        }
        story.state(0, 2, 2, 0xb);
        story.state(0, 3, 2, 0xc);
        story
    }

    #[test]
    fn members_that_agree_at_every_index_pass() {
        good().passes(Guarantee::C3, 6);
    }

    #[test]
    fn one_member_alone_is_nothing_tested() {
        let mut story = Story::new();
        story.state(0, 1, 1, 0xa);
        story.state(0, 1, 1, 0xa);
        story.state(0, 2, 1, 0xb);
        story.passes(Guarantee::C3, 0);
    }

    #[test]
    fn another_hash_at_the_same_index_is_flagged() {
        let mut story = good();
        story.state(1, 3, 2, 0xd);
        story.flags(Guarantee::C3, "at index 3 member 0 has revision 2 and hash 000000000000000c, but member 1");
    }

    #[test]
    fn another_revision_at_the_same_index_is_flagged() {
        let mut story = good();
        story.state(2, 3, 3, 0xc);
        story.flags(Guarantee::C3, "but member 2 revision 3 and hash 000000000000000c");
    }

    #[test]
    fn a_member_that_applies_its_log_to_another_state_after_a_restart_is_flagged() {
        let mut story = good();
        story.process(0, story.now(), true);
        story.state(0, 2, 2, 0xe);
        story.flags(Guarantee::C3, "at index 2 member 0 has revision 2 and hash 000000000000000b, but member 0");
    }

    #[test]
    fn members_that_disagree_on_what_a_revision_changed_are_flagged() {
        let mut story = good();
        let same = story.events(2).clone();
        story.applied(2, same);
        story.passes(Guarantee::C3, 7);
        story.applied(2, vec![]);
        story.flags(Guarantee::C3, "disagree on what revision 2 changed");
    }
}
