//! Who decides, and by how many. Every quorum decision of the core goes through [`Voters`], so that a change of how members
//! count (two majorities while membership changes) is a change here.

use crate::NodeId;

/// Largest number of voters. Beyond seven, each voter makes commits slower and hardly safer; 16 leaves room for two such sets.
pub(crate) const MAX_VOTERS: usize = 16;

/// The members whose votes and acknowledgements count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voters {
    ids: Vec<NodeId>,
}

/// State of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// A majority says yes.
    Won,
    /// A majority can no longer say yes.
    Lost,
    /// Neither yet.
    Open,
}

impl Voters {
    /// The majority of `ids`, in any order.
    pub(crate) fn new(ids: &[NodeId]) -> Voters {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        assert!(!ids.is_empty(), "a cluster has at least one voter");
        assert!(ids.len() <= MAX_VOTERS, "{} voters are more than {MAX_VOTERS}", ids.len());
        assert!(ids[0] != crate::NONE, "id 0 stands for nobody");
        Voters { ids }
    }

    /// All of them, ascending.
    pub(crate) fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// Whether `id` is one of them.
    pub(crate) fn contains(&self, id: NodeId) -> bool {
        self.ids.contains(&id)
    }

    /// The largest number that a majority has reached, `reached` being what each voter has.
    pub(crate) fn reached(&self, reached: impl Fn(NodeId) -> u64) -> u64 {
        let mut of_each = [0; MAX_VOTERS];
        let of_each = &mut of_each[..self.ids.len()];
        for (slot, id) in of_each.iter_mut().zip(&self.ids) {
            *slot = reached(*id);
        }
        of_each.sort_unstable();
        of_each[self.ids.len() - self.majority()]
    }

    /// Where an election stands.
    pub(crate) fn tally(&self, vote: impl Fn(NodeId) -> Option<bool>) -> Tally {
        let (mut yes, mut no) = (0, 0);
        for id in &self.ids {
            match vote(*id) {
                Some(true) => yes += 1,
                Some(false) => no += 1,
                None => {}
            }
        }
        if yes >= self.majority() {
            Tally::Won
        } else if self.ids.len() - no < self.majority() {
            Tally::Lost
        } else {
            Tally::Open
        }
    }

    fn majority(&self) -> usize {
        self.ids.len() / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_has_reached_the_median_or_the_lower_of_the_two_in_the_middle() {
        let reached = |of_each: &[u64]| {
            let ids: Vec<NodeId> = (1..=of_each.len() as u64).collect();
            Voters::new(&ids).reached(|id| of_each[id as usize - 1])
        };
        assert_eq!(reached(&[7]), 7);
        assert_eq!(reached(&[7, 3]), 3);
        assert_eq!(reached(&[7, 3, 5]), 5);
        assert_eq!(reached(&[7, 3, 5, 4]), 4);
        assert_eq!(reached(&[9, 1, 1, 8, 7]), 7);
    }

    #[test]
    fn an_election_is_open_until_a_majority_says_yes_or_can_no_longer() {
        let tally = |votes: &[Option<bool>]| {
            let ids: Vec<NodeId> = (1..=votes.len() as u64).collect();
            Voters::new(&ids).tally(|id| votes[id as usize - 1])
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(tally(&[yes]), Tally::Won);
        assert_eq!(tally(&[yes, None]), Tally::Open);
        assert_eq!(tally(&[yes, no]), Tally::Lost);
        assert_eq!(tally(&[yes, no, None]), Tally::Open);
        assert_eq!(tally(&[yes, no, yes]), Tally::Won);
        assert_eq!(tally(&[yes, no, no]), Tally::Lost);
        assert_eq!(tally(&[yes, yes, no, no]), Tally::Lost);
    }
}
