//! C11b: with clock rates within 10 %, the intervals in which processes believe that they lead never overlap, and a
//! demoted process starts no effect.

use super::World;
use super::facts::{CONTROLLERS, SCHEDULER, SECOND_NS};
use crate::findings::Findings;
use faults::{Component, Kind, Ns, What};
use record::{Guarantee, Sight, Strike, Verdict};
use std::collections::BTreeMap;

/// By what name the scheduler's effects are known.
const OF_SCHEDULER: &str = "scheduler";

/// How far the rate of a clock may be off, in thousandths.
const RATES_PERMILLE: u32 = 100;

/// What runs when a belief ends may take a last step before it is stopped: it comes to nothing, since it is sent only by
/// who believes. On a busy machine it may be later by the record's slack.
const LAST_STEP_NS: Ns = 10_000_000;

/// A fault that ended this long before has no part in a belief any more: an election takes a quarter of it.
const AFTERMATH_NS: Ns = 60 * SECOND_NS;

/// Of one Lease, each belief begins after all others have ended; and no member begins a write of a controller while it
/// does not believe that it leads that one's group.
///
/// Not judged are overlaps of beliefs of members whose clock ran too fast or too slow, stood still or jumped, or whose
/// process was paused or its election hung, up to a minute before the overlap: they cannot know better. A paused process
/// does nothing with its belief either; what it wrote before is refused by then, which is C11. Where an election hangs, the
/// belief has run out all the same, and nothing is sent any more; only that is not said.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C11B);
    for (lease, beliefs) in beliefs(world) {
        // The belief so far that lasts longest.
        let mut longest: Option<&Belief> = None;
        for belief in &beliefs {
            if let Some(before) = longest {
                let overlap_ns = before.until_ns.saturating_sub(belief.from_ns);
                let excused = [before.member, belief.member]
                    .iter()
                    .any(|member| misled(world, *member, belief.from_ns.saturating_sub(AFTERMATH_NS), belief.from_ns));
                findings.tested(u64::from(!excused || overlap_ns == 0));
                if overlap_ns > 0 && !excused {
                    let text = format!(
                        "member {} came to lead {lease} in epoch {}, while member {} led it in epoch {} for another {} ms",
                        belief.member,
                        belief.epoch,
                        before.member,
                        before.epoch,
                        overlap_ns / 1_000_000
                    );
                    findings.violated(belief.from_ns, text);
                }
            }
            if longest.is_none_or(|longest| longest.until_ns <= belief.until_ns) {
                longest = Some(belief);
            }
        }
    }
    effects(world, &mut findings);
    findings.verdict()
}

/// Beliefs and effects are seen exactly and in order, so that clocks have no part in this.
fn effects(world: &World<'_>, findings: &mut Findings) {
    // Until when each member leads what.
    let mut leads: BTreeMap<(u32, &str), Ns> = BTreeMap::new();
    let last_step_ns = LAST_STEP_NS + world.record.slack_ns;
    for sight in &world.record.cluster.sights {
        match sight {
            Sight::Elected { at_ns, member, lease, leads: begins, .. } => {
                leads.insert((*member, lease), if *begins { Ns::MAX } else { at_ns + last_step_ns });
            }
            Sight::Effect { at_ns, member, controller, key } => {
                let lease = if controller == OF_SCHEDULER { SCHEDULER } else { CONTROLLERS };
                findings.tested(1);
                if leads.get(&(*member, lease)).is_none_or(|until_ns| until_ns < at_ns) {
                    let text =
                        format!("member {member} began to write for {controller} about {key} without leading {lease}");
                    findings.violated(*at_ns, text);
                }
            }
            Sight::Started(_)
            | Sight::Signalled { .. }
            | Sight::Exited { .. }
            | Sight::NodeDown { .. }
            | Sight::Agent { .. } => {}
        }
    }
}

/// A time in which a process believed that it led.
struct Belief {
    member: u32,
    epoch: i64,
    from_ns: Ns,
    until_ns: Ns,
}

/// All beliefs by Lease, in order of when they began.
fn beliefs<'a>(world: &World<'a>) -> BTreeMap<&'a str, Vec<Belief>> {
    let mut beliefs: BTreeMap<&str, Vec<Belief>> = BTreeMap::new();
    for sight in &world.record.cluster.sights {
        let Sight::Elected { at_ns, member, lease, epoch, leads } = sight else { continue };
        let of_lease = beliefs.entry(lease).or_default();
        if *leads {
            let (from_ns, until_ns) = (*at_ns, Ns::MAX);
            of_lease.push(Belief { member: *member, epoch: *epoch, from_ns, until_ns });
        } else {
            let same = |belief: &&mut Belief| (belief.member, belief.epoch) == (*member, *epoch);
            if let Some(belief) = of_lease.iter_mut().rev().find(same) {
                belief.until_ns = *at_ns;
            }
        }
    }
    for of_lease in beliefs.values_mut() {
        of_lease.iter_mut().for_each(|belief| belief.until_ns = belief.until_ns.min(world.record.ended_ns));
        of_lease.sort_by_key(|belief| (belief.from_ns, belief.epoch, belief.member));
    }
    beliefs
}

/// Whether a member could not know better in this time.
fn misled(world: &World<'_>, member: u32, from_ns: Ns, until_ns: Ns) -> bool {
    let misleads = |strike: &Strike| match strike.kind {
        Kind::Pause | Kind::ClockFreeze | Kind::ClockJump => true,
        Kind::ClockDrift | Kind::ComponentHang | Kind::Frozen => {
            let fault = world.record.schedule.faults.iter().find(|fault| fault.id == strike.fault);
            match fault.map(|fault| &fault.what) {
                Some(What::ClockDrift { permille, .. }) => permille.abs_diff(1000) > RATES_PERMILLE,
                Some(What::Hang { component, .. }) => matches!(component, Component::Election | Component::Scheduler),
                // It runs, though nobody hears it, or does not run.
                Some(What::Partition { .. } | What::Kill { .. } | What::PowerLoss { .. }) => false,
                // It is stopped, or nobody knows how far it was off.
                _ => true,
            }
        }
        _ => false,
    };
    world.strikes_between(from_ns, until_ns).any(|strike| strike.members.contains(&member) && misleads(strike))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;
    use faults::{Fault, Target, When};

    const LEASE: &str = "kube-system/kube-scheduler";

    fn tale() -> Tale {
        let mut tale = Tale::new();
        tale.at(10).elected(0, LEASE, 0, true).elected(1, "kube-system/kube-controller-manager", 0, true);
        tale.at(20).elected(0, LEASE, 0, false).elected(1, LEASE, 1, true);
        tale.at(30).elected(1, LEASE, 1, false).at(40).elected(0, LEASE, 2, true);
        tale
    }

    /// Member 2 believes that it leads while member 0 does.
    fn overlap() -> Tale {
        let mut tale = tale();
        tale.at(50).elected(2, LEASE, 3, true).at(52).elected(0, LEASE, 2, false);
        tale
    }

    #[test]
    fn one_after_the_other_passes() {
        tale().passes(check, Guarantee::C11B, 2);
    }

    #[test]
    fn two_at_once_are_flagged() {
        overlap().flags(
            check,
            "member 2 came to lead kube-system/kube-scheduler in epoch 3, while member 0 led it in epoch 2 for another 2000 ms",
        );
    }

    #[test]
    fn a_belief_that_spans_several_others_is_flagged() {
        let mut tale = tale();
        tale.at(50).elected(2, LEASE, 3, true).at(51).elected(2, LEASE, 3, false).at(55).elected(1, LEASE, 4, true);
        tale.flags(check, "member 1 came to lead kube-system/kube-scheduler in epoch 4, while member 0");
    }

    fn effect(tale: &mut Tale, member: u32, controller: &str) {
        let at_ns = crate::story::seconds(tale.now_s);
        tale.saw(Sight::Effect { at_ns, member, controller: controller.to_owned(), key: "default/a".to_owned() });
    }

    #[test]
    fn each_writes_for_the_group_that_it_leads() {
        let mut tale = tale();
        effect(&mut tale, 0, "scheduler");
        effect(&mut tale, 1, "replicaset-controller");
        tale.passes(check, Guarantee::C11B, 4);
        // The last step of a term.
        tale.elected(0, LEASE, 2, false);
        effect(&mut tale, 0, "scheduler");
        tale.passes(check, Guarantee::C11B, 5);
    }

    #[test]
    fn whoever_leads_another_group_or_none_writes_nothing() {
        for (member, controller, lease) in [
            // Ten seconds after its term.
            (1, "scheduler", "kube-system/kube-scheduler"),
            (0, "replicaset-controller", "kube-system/kube-controller-manager"),
            (2, "replicaset-controller", "kube-system/kube-controller-manager"),
        ] {
            let mut tale = tale();
            effect(&mut tale, member, controller);
            let text =
                format!("member {member} began to write for {controller} about default/a without leading {lease}");
            tale.flags(check, &text);
        }
    }

    #[test]
    fn on_a_busy_machine_the_last_step_may_be_later() {
        let mut tale = tale();
        tale.elected(0, LEASE, 2, false).at(41);
        effect(&mut tale, 0, "scheduler");
        tale.record.slack_ns = SECOND_NS;
        tale.passes(check, Guarantee::C11B, 3);
        tale.record.slack_ns = SECOND_NS / 2;
        tale.flags(check, "member 0 began to write for scheduler");
    }

    #[test]
    fn who_was_paused_or_frozen_is_not_judged() {
        for kind in [Kind::Pause, Kind::ClockFreeze, Kind::ClockJump] {
            let mut tale = overlap();
            tale.strike(kind, 45, 52).members = vec![0];
            tale.passes(check, Guarantee::C11B, 2);
        }
        let mut other = overlap();
        other.strike(Kind::Pause, 45, 52).members = vec![1];
        other.flags(check, "member 2");
    }

    /// The overlap, judged while this was done to a member from 45 s until `until_s`.
    fn judge(kind: Kind, member: u32, until_s: u64, what: What, excused: bool) {
        let mut tale = overlap();
        tale.strike(kind, 45, until_s).members = vec![member];
        tale.record.schedule.faults = vec![Fault { id: 0, kind, when: When::At(0), for_ns: 0, what }];
        if excused {
            tale.passes(check, Guarantee::C11B, 2);
        } else {
            tale.flags(check, "member 2");
        }
    }

    #[test]
    fn an_election_that_hangs_cannot_say_that_it_is_over() {
        for (component, excused) in [(Component::Election, true), (Component::Informers, false)] {
            let what = What::Hang { target: Target::Member(0), component };
            judge(Kind::ComponentHang, 0, 52, what, excused);
        }
    }

    #[test]
    fn a_clock_that_drifts_within_bounds_excuses_nobody() {
        for (permille, excused) in [(1_100, false), (1_101, true), (700, true)] {
            let what = What::ClockDrift { target: Target::Member(2), permille };
            judge(Kind::ClockDrift, 2, 48, what, excused);
        }
    }
}
