//! Who led from when to when, as the members believed.

use record::{Ns, Observation, Record};

/// A member believed that it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reign {
    /// Who.
    pub member: u32,
    /// In which term.
    pub term: u64,
    /// From then on.
    pub from_ns: Ns,
    /// Until it stepped down or died, or the trial ended.
    pub until_ns: Ns,
}

/// In order of their beginnings. Two may overlap: a leader that is cut off does not know of the next one.
pub(crate) fn of(record: &Record) -> Vec<Reign> {
    let mut reigns: Vec<Reign> = Vec::new();
    for observation in &record.observations {
        match observation {
            Observation::Leads { at_ns, member, term } => {
                end(&mut reigns, *member, *at_ns);
                let until_ns = record.ended_ns.max(*at_ns);
                reigns.push(Reign { member: *member, term: *term, from_ns: *at_ns, until_ns });
            }
            Observation::StepsDown { at_ns, member, .. } => end(&mut reigns, *member, *at_ns),
            Observation::Applied { .. }
            | Observation::State { .. }
            | Observation::LeaseGranted { .. }
            | Observation::LeaseGone { .. }
            | Observation::Commits { .. }
            | Observation::Process { .. } => {}
        }
    }
    reigns
}

/// A member believes no longer what it last believed.
fn end(reigns: &mut [Reign], member: u32, at_ns: Ns) {
    if let Some(last) = reigns.iter_mut().rfind(|reign| reign.member == member) {
        last.until_ns = last.until_ns.min(at_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::record;

    #[test]
    fn a_reign_ends_with_its_members_belief_and_two_may_overlap() {
        let mut trial = record(1);
        (trial.ended_ns, trial.observations) = (
            90,
            vec![
                Observation::Leads { at_ns: 10, member: 0, term: 1 },
                Observation::Leads { at_ns: 20, member: 1, term: 2 },
                Observation::StepsDown { at_ns: 25, member: 0, term: 1 },
                Observation::Leads { at_ns: 30, member: 1, term: 3 },
            ],
        );
        let reign = |member, term, from_ns, until_ns| Reign { member, term, from_ns, until_ns };
        assert_eq!(of(&trial), [reign(0, 1, 10, 25), reign(1, 2, 20, 30), reign(1, 3, 30, 90)]);
    }
}
