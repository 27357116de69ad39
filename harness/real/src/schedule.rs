//! When which process is killed, as data from a seed.

use faults::{Fault, Kind, Ns, Schedule, Target, What, When};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Time given to each kill: to strike, to be started again, and mostly to be led again before the next one.
pub const SLOT_NS: Ns = 2_000_000_000;

/// A killed process is started again after this at the earliest ...
const SHORTEST_NS: Ns = 100_000_000;
/// ... and this at the latest. An election takes one to two seconds, so that a killed leader is sometimes back before
/// another one is elected.
const LONGEST_NS: Ns = 1_500_000_000;

/// `kills` kills of random members, one in each part of `during_ns`, which are equally long.
pub fn schedule(seed: u64, kills: u32, members: u32, during_ns: Ns) -> Schedule {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |bound: Ns| random.next_u64() % bound.max(1);
    let slot_ns = during_ns / Ns::from(kills.max(1));
    let faults = (0..kills).map(|id| {
        let target = Target::Member(below(Ns::from(members)) as u32);
        let longest_ns = LONGEST_NS.min(slot_ns * 3 / 4);
        let for_ns = SHORTEST_NS.min(longest_ns) + below(longest_ns.saturating_sub(SHORTEST_NS));
        let at_ns = Ns::from(id) * slot_ns + below(slot_ns - for_ns.min(slot_ns));
        Fault { id, kind: Kind::Kill, when: When::At(at_ns), for_ns, what: What::Kill { target } }
    });
    Schedule { faults: faults.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(schedule: &Schedule) -> Vec<(Ns, Ns)> {
        let start = |fault: &Fault| match fault.when {
            When::At(at_ns) => at_ns,
            When::Marked { .. } | When::Effect { .. } => panic!("nothing is waited for"),
        };
        schedule.faults.iter().map(|fault| (start(fault), start(fault) + fault.for_ns)).collect()
    }

    #[test]
    fn kills_follow_each_other_within_their_time_and_hit_every_member() {
        for (seed, during_ns) in [(1, 50 * SLOT_NS), (2, SLOT_NS), (3, 1000)] {
            let schedule = schedule(seed, 50, 3, during_ns);
            let spans = spans(&schedule);
            assert_eq!(spans.len(), 50);
            assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
            assert!(spans.iter().all(|(_, until)| *until <= during_ns));
            for member in 0..3 {
                let what = What::Kill { target: Target::Member(member) };
                assert!(schedule.faults.iter().any(|fault| fault.what == what));
            }
        }
    }

    #[test]
    fn a_seed_gives_one_schedule() {
        assert_eq!(schedule(7, 9, 3, SLOT_NS), schedule(7, 9, 3, SLOT_NS));
        assert_ne!(schedule(7, 9, 3, SLOT_NS), schedule(8, 9, 3, SLOT_NS));
    }
}
