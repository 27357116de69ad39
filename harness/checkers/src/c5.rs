//! C5: at most one leader per term.

use crate::History;
use crate::findings::Findings;
use record::{Guarantee, Observation, Verdict};
use std::collections::BTreeMap;

/// Whoever says that it leads in a term, or commits as its leader, is the only one ever to do so.
pub(crate) fn check(h: &History<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C5);
    let mut leaders: BTreeMap<u64, u32> = BTreeMap::new();
    for observation in &h.record.observations {
        let (at_ns, member, term, does) = match observation {
            Observation::Leads { at_ns, member, term } => (*at_ns, *member, *term, "leads"),
            Observation::Commits { at_ns, member, term, .. } => (*at_ns, *member, *term, "commits"),
            Observation::Applied { .. }
            | Observation::State { .. }
            | Observation::LeaseGranted { .. }
            | Observation::LeaseGone { .. }
            | Observation::StepsDown { .. }
            | Observation::Process { .. } => continue,
        };
        let leader = *leaders.entry(term).or_insert_with(|| {
            findings.tested(1);
            member
        });
        if leader != member {
            findings.violated(
                at_ns,
                format!("member {member} {does} in term {term}, of which member {leader} is the leader"),
            );
        }
    }
    findings.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Story;

    fn good() -> Story {
        let mut story = Story::new();
        story.leads(0, 1, 1);
        story.commits(0, 2, 1, 1, 1);
        story.steps_down(0, 3, 1);
        story.leads(2, 4, 3);
        story.commits(2, 5, 3, 2, 3);
        story
    }

    #[test]
    fn leaders_of_different_terms_pass() {
        good().passes(Guarantee::C5, 2);
        Story::new().passes(Guarantee::C5, 0);
    }

    #[test]
    fn a_second_leader_of_a_term_is_flagged_however_late() {
        let mut story = good();
        story.leads(1, 99, 1);
        story.flags(Guarantee::C5, "member 1 leads in term 1, of which member 0 is the leader");
    }

    #[test]
    fn a_commit_in_anothers_term_is_flagged() {
        let mut story = good();
        story.commits(1, 99, 3, 3, 3);
        story.flags(Guarantee::C5, "member 1 commits in term 3, of which member 2 is the leader");
    }
}
