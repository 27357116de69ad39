//! What several faults come to that begin and end one after the other.

use std::collections::BTreeMap;

use super::consequences::Consequences;
use super::*;
use faults::{Component, Cut, Kind, Target, What, When};

const TOPOLOGY: Topology = Topology { members: 3, client_hosts: 1, nodes: 0 };
const HOSTS: faults::Hosts = faults::Hosts { members: 3, client_hosts: 1, nodes: 0, zones: 0 };
const M0: Host = Host::Member(0);
const M1: Host = Host::Member(1);
const M2: Host = Host::Member(2);

/// Faults that begin and end in the order of `steps` (negative: the fault of that number, from 1, ends); what is
/// done at each step.
fn play(faults: &[What], steps: &[i32]) -> Vec<Vec<Action>> {
    let mut active = BTreeMap::new();
    let mut is = Wanted::default();
    let mut done = Vec::new();
    for step in steps {
        let number = step.unsigned_abs();
        if *step < 0 {
            active.remove(&number);
        } else {
            let what = faults[number as usize - 1].clone();
            let hosts = resolve(what.target(), &Situation::default(), TOPOLOGY);
            let fault = Fault { id: number, kind: Kind::Kill, when: When::At(0), for_ns: 0, what };
            active.insert(number, Active { fault, from_ns: 0, hosts, felt: 0 });
        }
        let next = wanted(&active, TOPOLOGY, 0, &is);
        done.push(actions(&is, &next));
        is = next;
    }
    done
}

fn kill() -> What {
    What::Kill { target: Target::Leader }
}
fn power_loss() -> What {
    What::PowerLoss { target: Target::Member(0) }
}
fn pause() -> What {
    What::Pause { target: Target::Member(0) }
}
fn partition(side: Target, cut: Cut) -> What {
    What::Partition { side, cut }
}

#[test]
fn a_host_that_is_killed_twice_starts_when_both_are_over() {
    let done = play(&[kill(), kill()], &[1, 2, -1, -2]);
    assert_eq!(done, [vec![Action::Kill(M0)], vec![], vec![], vec![Action::Start(M0)]]);
}

#[test]
fn power_lost_while_down_takes_unsynced_writes_and_returns_with_the_process() {
    let done = play(&[kill(), power_loss()], &[1, 2, -2, -1]);
    assert_eq!(done, [vec![Action::Kill(M0)], vec![Action::PowerOff(M0)], vec![], vec![Action::PowerOn(M0)]]);
}

#[test]
fn a_kill_without_power_changes_nothing_until_power_is_back() {
    let done = play(&[power_loss(), kill()], &[1, 2, -2, -1]);
    assert_eq!(done, [vec![Action::PowerOff(M0)], vec![], vec![], vec![Action::PowerOn(M0)]]);
}

#[test]
fn a_pause_outlives_a_restart() {
    let done = play(&[pause(), power_loss()], &[1, 2, -2, -1]);
    let expected = [
        vec![Action::Pause(M0)],
        vec![Action::Resume(M0), Action::PowerOff(M0)],
        vec![Action::PowerOn(M0), Action::Pause(M0)],
        vec![Action::Resume(M0)],
    ];
    assert_eq!(done, expected);
}

#[test]
fn a_pause_that_ends_while_the_process_is_down_is_over() {
    let done = play(&[pause(), kill()], &[2, 1, -1, -2]);
    assert_eq!(done, [vec![Action::Kill(M0)], vec![], vec![], vec![Action::Start(M0)]]);
}

#[test]
fn a_link_that_two_partitions_cut_heals_with_the_second() {
    let faults = [partition(Target::Member(0), Cut::Outbound), partition(Target::Member(0), Cut::Symmetric)];
    let done = play(&faults, &[1, 2, -1, -2]);
    assert_eq!(done[0], [(M0, M1), (M0, M2), (M0, Host::Client(0))].map(|(a, b)| Action::Cut(a, b)));
    assert_eq!(done[1], [(M1, M0), (M2, M0), (Host::Client(0), M0)].map(|(a, b)| Action::Cut(a, b)));
    assert_eq!(done[2], []);
    assert_eq!(done[3].len(), 6);
}

#[test]
fn a_bridge_parts_all_but_the_bridge() {
    let done = play(&[partition(Target::Member(1), Cut::Bridge)], &[1]);
    assert_eq!(done[0], [Action::Cut(M0, M2), Action::Cut(M2, M0)]);
}

#[test]
fn peers_that_are_parted_still_hear_clients() {
    let done = play(&[partition(Target::Member(0), Cut::Peers)], &[1]);
    assert_eq!(done[0], [(M0, M1), (M0, M2), (M1, M0), (M2, M0)].map(|(a, b)| Action::Cut(a, b)));
}

#[test]
fn a_thread_leaves_the_target_one_peer() {
    let done = play(&[partition(Target::Member(2), Cut::Thread)], &[1]);
    assert_eq!(done[0], [Action::Cut(M1, M2), Action::Cut(M2, M1)]);
}

#[test]
fn a_member_that_lags_hears_nothing_of_members_and_all_else() {
    let lag = What::Lag { target: Target::Member(0) };
    let done = play(&[lag, What::Hold { target: Target::Member(1) }], &[1, 2, -1, -2]);
    assert_eq!(done[0], [(M1, M0), (M2, M0)].map(|(a, b)| Action::Hold(a, b)));
    assert_eq!(done[1], [(M1, M2), (M1, Host::Client(0))].map(|(a, b)| Action::Hold(a, b)));
    assert_eq!(done[2], [Action::Release(M2, M0)], "the other fault holds the other link");
    assert_eq!(done[3].len(), 3);
}

#[test]
fn fuses_go_in_when_each_fault_strikes_and_come_out_with_the_last() {
    let fuse = |bytes| What::Fuse { target: Target::Member(0), bytes };
    let done = play(&[fuse(0), fuse(9)], &[1, 2, -1, -2]);
    assert_eq!(done, [vec![Action::Fuse(M0, 0)], vec![Action::Fuse(M0, 9)], vec![], vec![Action::Defuse(M0)]]);
}

#[test]
fn in_a_ring_each_member_hears_another_majority() {
    let hears = |members: u32, side: Target| -> Vec<Vec<u32>> {
        let topology = Topology { members, ..TOPOLOGY };
        let cut = aim::cut_links(&resolve(&side, &Situation::default(), topology), &Cut::Ring, topology);
        let heard = |to: u32| (0..members).filter(move |from| from != &to);
        let passes = |from: u32, to: u32| !cut.contains(&(Host::Member(from), Host::Member(to)));
        (0..members).map(|to| heard(to).filter(|from| passes(*from, to)).collect()).collect()
    };
    let named = |members: &[u32]| Target::Members(members.to_vec());
    assert_eq!(hears(5, named(&[])), [[1, 4], [0, 2], [1, 3], [2, 4], [0, 3]]);
    assert_eq!(hears(5, named(&[0, 2, 4, 1, 3])), [[2, 3], [3, 4], [0, 4], [0, 1], [1, 2]]);
    assert_eq!(hears(5, named(&[3])), hears(5, named(&[3, 0, 1, 2, 4])));
    assert_eq!(hears(4, named(&[])), [[1, 3], [0, 2], [1, 3], [0, 2]]);
    assert_eq!(hears(3, named(&[1, 0, 2])), [vec![1], vec![0, 2], vec![1]]);
    for members in 3..10 {
        let mut majorities = std::collections::BTreeSet::new();
        for (member, mut heard) in (0..).zip(hears(members, named(&[]))) {
            heard.push(member);
            heard.sort_unstable();
            assert!(heard.len() as u32 > members / 2, "{members} members: {heard:?}");
            majorities.insert(heard);
        }
        assert_eq!(majorities.len() as u32, members, "{majorities:?}");
    }
}

#[test]
fn whoever_believes_to_lead_is_a_primary() {
    let hosts = |situation: &Situation| resolve(&Target::Leaders, situation, TOPOLOGY);
    assert_eq!(hosts(&Situation { leader: Some(2), leading: vec![0, 2], marked: None }), [M0, M2]);
    assert_eq!(hosts(&Situation { leader: Some(2), ..Situation::default() }), [M2]);
}

#[test]
fn links_clog_one_after_the_other_and_go_in_another_order() {
    let clog = |from, to| What::Clog { target: Target::Member(from), to };
    let done = play(&[clog(0, 1), clog(1, 2), clog(1, 1)], &[1, 2, 3, -1, -2, -3]);
    assert_eq!(done[..2], [vec![Action::Hold(M0, M1)], vec![Action::Hold(M1, M2)]]);
    assert_eq!(done[2..], [vec![], vec![Action::Release(M0, M1)], vec![Action::Release(M1, M2)], vec![]]);
}

#[test]
fn each_fault_withholds_what_it_chose_and_lets_out_nothing_else() {
    let withhold = |nth| What::Withhold { target: Target::Member(0), nth };
    let done = play(&[withhold(7), withhold(7)], &[1, 2, -1, -2]);
    let actions =
        [Action::Withhold(M0, 1, 7), Action::Withhold(M0, 2, 7), Action::Deliver(M0, 1), Action::Deliver(M0, 2)];
    assert_eq!(done, actions.map(|action| vec![action]));
}

#[test]
fn credentials_are_new_when_the_last_fault_is_over() {
    let expire = || What::Expire { target: Target::Member(0) };
    let done = play(&[expire(), expire()], &[1, 2, -1, -2]);
    assert_eq!(done, [vec![Action::Expire(M0, Some(0))], vec![], vec![], vec![Action::Expire(M0, None)]]);
}

#[test]
fn a_process_is_another_program_before_it_starts_again_and_stays_it() {
    let replace = |newer| What::Replace { target: Target::Member(0), newer };
    let done = play(&[replace(true), replace(false)], &[1, -1, 2, -2]);
    let replaced = |newer| vec![Action::Program(M0, newer), Action::Kill(M0)];
    let started = vec![Action::Start(M0)];
    assert_eq!(done, [replaced(true), started.clone(), replaced(false), started]);
}

#[test]
fn a_process_starts_again_with_another_configuration_and_keeps_it() {
    let change = |setting| What::Reconfigure { target: Target::Member(0), setting };
    let done = play(&[change(7), change(0)], &[1, -1, 2, -2]);
    let changed = |setting| vec![Action::Configure(M0, setting), Action::Kill(M0)];
    let started = vec![Action::Start(M0)];
    assert_eq!(done, [changed(7), started.clone(), changed(0), started]);
}

#[test]
fn a_clock_jumps_once_for_each_fault() {
    let jump = |ahead_ns| What::ClockJump { target: Target::Member(0), ahead_ns };
    let done = play(&[jump(5), jump(7)], &[1, 2, -1, -2]);
    assert_eq!(done, [vec![Action::Jump(M0, 5)], vec![Action::Jump(M0, 7)], vec![], vec![]]);
}

#[test]
fn a_component_goes_on_when_the_last_fault_is_over() {
    let hang = |component| What::Hang { target: Target::Member(0), component };
    let (news, store) = (Component::ApiNews, Component::Store);
    let done = play(&[hang(news), hang(news), hang(store)], &[1, 2, 3, -1, -2, -3]);
    let expected = [
        vec![Action::Hang(M0, news)],
        vec![],
        vec![Action::Hang(M0, store)],
        vec![],
        vec![Action::GoOn(M0, news)],
        vec![Action::GoOn(M0, store)],
    ];
    assert_eq!(done, expected);
}

#[test]
fn each_flood_has_callers_of_its_own() {
    let flood = |callers| What::Flood { target: Target::Member(0), callers };
    let done = play(&[flood(30), flood(40)], &[1, 2, -1, -2]);
    let actions = [Action::Flood(M0, 1, 30), Action::Flood(M0, 2, 40), Action::Ebb(M0, 1), Action::Ebb(M0, 2)];
    assert_eq!(done, actions.map(|action| vec![action]));
}

#[test]
fn troubles_of_a_link_add_up() {
    let delay = What::Delay { target: Target::Member(0), delay_ns: 10, jitter_ns: 1 };
    let loss = What::Loss { target: Target::Member(1), permille: 500 };
    let rate = |bytes_per_second| What::Rate { target: Target::Member(0), bytes_per_second };
    let done = play(&[delay, loss.clone(), loss, rate(5), rate(7)], &[1, 2, 3, 4, 5, -4]);
    let both = LinkTrouble { loss_permille: 750, delay_ns: 10, jitter_ns: 1, bytes_per_second: 0 };
    assert!(done[2].contains(&Action::Link(M0, M1, both)), "{done:?}");
    assert!(done[3].contains(&Action::Link(M0, M1, LinkTrouble { bytes_per_second: 5, ..both })), "{done:?}");
    assert_eq!(done[4], [], "the lower rate is the one that counts");
    assert!(done[5].contains(&Action::Link(M0, M1, LinkTrouble { bytes_per_second: 7, ..both })), "{done:?}");
}

#[test]
fn a_frozen_clock_stands_still_whatever_its_drift() {
    let target = || Target::Member(0);
    let faults = [What::ClockFreeze { target: target() }, What::ClockDrift { target: target(), permille: 1100 }];
    let done = play(&faults, &[1, 2, -1, -2]);
    let rates = [vec![Action::Rate(M0, 0)], vec![], vec![Action::Rate(M0, 1100)], vec![Action::Rate(M0, 1000)]];
    assert_eq!(done, rates);
}

#[test]
fn a_stepping_clock_goes_forth_and_back() {
    let what = What::ClockSteps { target: Target::Member(0), step_ns: 7, every_ns: 10 };
    let fault = Fault { id: 1, kind: Kind::ClockSteps, when: When::At(100), for_ns: 40, what };
    let active = BTreeMap::from([(1, Active { fault, from_ns: 100, hosts: vec![M0], felt: 0 })]);
    let offset = |now_ns| {
        let is = wanted(&active, TOPOLOGY, now_ns, &Wanted::default());
        is.hosts.get(&M0).map_or(0, |trouble| trouble.wall_offset_ns)
    };
    assert_eq!([100, 109, 110, 119, 120].map(offset), [7, 7, 0, 0, 7]);
    assert_eq!([100, 109, 110].map(|now_ns| next_step(&active, now_ns)), [Some(110), Some(110), Some(120)]);
}

#[test]
fn all_is_well_when_every_fault_is_over() {
    let swarm = faults::Swarm { kinds: Kind::all().collect(), ..faults::Swarm::default() };
    let hosts = faults::Hosts { nodes: 4, zones: 2, ..HOSTS };
    let topology = Topology { nodes: 4, ..TOPOLOGY };
    for seed in 0..100 {
        let schedule = faults::draw(&swarm, seed, hosts, 60_000_000_000);
        let mut active = BTreeMap::new();
        let mut is = Wanted::default();
        for fault in &schedule.faults {
            let hosts = resolve(fault.what.target(), &Situation::default(), topology);
            active.insert(fault.id, Active { fault: fault.clone(), from_ns: 0, hosts, felt: 0 });
            is = wanted(&active, topology, seed, &is);
        }
        while let Some((id, _)) = active.pop_first() {
            let next = wanted(&active, topology, seed, &is);
            assert!(actions(&is, &next).len() < 200, "seed {seed}, fault {id}");
            is = next;
        }
        assert_eq!(is, Wanted::default(), "seed {seed}");
    }
}

#[test]
fn availability_is_judged_by_what_faults_take_away() {
    let on = |what: &What| consequences(what, &resolve(what.target(), &Situation::default(), TOPOLOGY), TOPOLOGY);
    assert_eq!(on(&kill()).disabled, [0]);
    let hang = |component| What::Hang { target: Target::Leader, component };
    assert_eq!([hang(Component::Store), hang(Component::Scheduler)].map(|what| on(&what).disabled.len()), [1, 0]);
    assert_eq!(on(&What::Replace { target: Target::Leader, newer: true }).disabled, [0]);
    assert_eq!(on(&partition(Target::Follower, Cut::Inbound)).severed, [(0, 1), (2, 1)]);
    assert_eq!(on(&partition(Target::Client(0), Cut::Symmetric)), Consequences::default());
    assert_eq!(on(&What::Loss { target: Target::Leader, permille: 50 }), Consequences::default());
    let rate = |bytes_per_second| What::Rate { target: Target::Leader, bytes_per_second };
    assert_eq!([rate(1 << 19), rate(1 << 20)].map(|what| on(&what).severed.len()), [4, 0]);
    assert_eq!(on(&What::Hold { target: Target::Leader }).severed, [(0, 1), (0, 2)]);
    assert_eq!(on(&What::Lag { target: Target::Leader }).severed, [(1, 0), (2, 0)]);
    assert_eq!(on(&What::Clog { target: Target::Leader, to: 2 }).severed, [(0, 2)]);
    assert_eq!(on(&What::Withhold { target: Target::Leader, nth: 2 }), Consequences::default());
    assert_eq!(on(&What::Expire { target: Target::Leader }), Consequences::default());
    assert_eq!(on(&What::Fuse { target: Target::Leader, bytes: 0 }), Consequences::default());
    let drift = |permille| What::ClockDrift { target: Target::Leader, permille };
    assert_eq!([drift(1100), drift(1101)].map(|what| on(&what).disabled.len()), [0, 1]);
}
