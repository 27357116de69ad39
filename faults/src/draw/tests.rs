use super::*;
use crate::Component;
use std::collections::BTreeSet;

const MINUTE: Ns = 60 * SECOND;
const STORE: Hosts = Hosts { members: 3, client_hosts: 2, nodes: 0, zones: 0 };

fn schedule(seed: u64) -> Schedule {
    draw(&Swarm::default(), seed, STORE, MINUTE)
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    for seed in 0..50 {
        assert_eq!(schedule(seed), schedule(seed));
    }
    assert_ne!(schedule(1), schedule(2));
}

#[test]
fn schedules_are_sorted_with_unique_ids_and_end_in_time() {
    for (members, client_hosts) in [(1, 0), (3, 2), (5, 1)] {
        for (seed, faults_ns) in (0..200).zip([MINUTE, 10 * SECOND, SECOND].into_iter().cycle()) {
            let faults = draw(&Swarm::default(), seed, Hosts { members, client_hosts, ..STORE }, faults_ns).faults;
            assert!(faults.is_sorted_by_key(|fault| fault.when.earliest()));
            let ids: BTreeSet<u32> = faults.iter().map(|fault| fault.id).collect();
            assert_eq!(ids.len(), faults.len(), "seed {seed}");
            for fault in faults {
                assert!(fault.when.earliest() + fault.for_ns <= faults_ns, "seed {seed}: {fault:?}");
            }
        }
    }
}

#[test]
fn every_kind_of_a_cluster_is_drawn_and_ends_in_time() {
    let hosts = Hosts { nodes: 10, zones: 3, ..STORE };
    let swarm = Swarm { kinds: Kind::all().collect(), ..Swarm::default() };
    let mut drawn: BTreeMap<Kind, u32> = BTreeMap::new();
    for (seed, faults_ns) in (0..100).map(|seed| (seed, if seed < 50 { 7 * MINUTE } else { 70 * SECOND })) {
        for fault in draw(&swarm, seed, hosts, faults_ns).faults {
            assert!(fault.when.earliest() >= FIRST_STRIKE_NS, "seed {seed}: {fault:?}");
            assert!(fault.kind.fits(&fault.what), "seed {seed}: {fault:?}");
            assert!(fault.when.earliest() + fault.for_ns <= faults_ns, "seed {seed}: {fault:?}");
            *drawn.entry(fault.kind).or_default() += 1;
        }
    }
    for kind in Kind::all() {
        assert!(drawn.get(&kind).is_some_and(|times| *times >= 30), "{}: {drawn:?}", kind.name());
    }
    let nowhere = draw(&Swarm { kinds: Kind::CLUSTER.to_vec(), ..swarm }, 7, STORE, MINUTE).faults;
    assert_eq!(nowhere, [], "there are no nodes to strike");
}

#[test]
fn control_planes_lag_lose_answers_and_crash_between_writes_in_every_way() {
    let hosts = Hosts { nodes: 10, zones: 3, ..STORE };
    let kinds = vec![
        Kind::ApiLag,
        Kind::ResponseDrop,
        Kind::WatchCut,
        Kind::CrashPoint,
        Kind::EventsWithheld,
        Kind::CredentialsExpired,
    ];
    let swarm = Swarm { kinds, ..Swarm::default() };
    let drawn: Vec<Fault> = (0..200).flat_map(|seed| draw(&swarm, seed, hosts, 2 * MINUTE).faults).collect();
    let mut ways: BTreeMap<&str, u32> = BTreeMap::new();
    for fault in &drawn {
        let way = match (fault.kind, &fault.what, &fault.when) {
            (Kind::ApiLag, What::Lag { target: Target::Marked }, When::Effect { .. }) => "lags as it crashes",
            (Kind::ApiLag, What::Lag { .. }, When::At(_)) if fault.for_ns < SECOND => "lags for a moment",
            (Kind::ApiLag, What::Lag { .. }, When::At(_)) => "lags for long",
            (Kind::ResponseDrop, What::Fuse { bytes: 0, .. }, When::At(_)) => "loses answers",
            (Kind::WatchCut, What::Fuse { bytes: 1..=4000, .. }, When::At(_)) => "loses ends of answers",
            (Kind::CrashPoint, What::Kill { target: Target::Marked }, When::Effect { before, index, .. }) => {
                match (before, index) {
                    (true, 0) => "crashes before a write",
                    (true, _) => "crashes between writes",
                    (false, _) => "crashes after a write",
                }
            }
            (Kind::EventsWithheld, What::Withhold { target, nth: 0..200 }, when) => match (target, when) {
                (Target::Marked, When::Effect { .. }) => "hears nothing of what it does",
                (_, When::At(_)) if fault.for_ns < 30 * SECOND => "hears late",
                (_, When::At(_)) => "hears too late",
                other => panic!("{other:?}"),
            },
            (Kind::CredentialsExpired, What::Expire { target: Target::Member(_) }, When::At(_)) => "is not known",
            (Kind::CredentialsExpired, What::Expire { .. }, When::At(_)) => "knows nodes no longer",
            other => panic!("{other:?}"),
        };
        *ways.entry(way).or_default() += 1;
    }
    assert_eq!(ways.len(), 13, "{ways:?}");
    assert!(ways.values().all(|times| *times >= 20), "{ways:?}");
}

#[test]
fn leaving_a_kind_out_changes_no_other() {
    for seed in 0..50 {
        let all = schedule(seed).faults;
        for left_out in Kind::STORE {
            let kinds = Kind::STORE.into_iter().filter(|kind| *kind != left_out).collect();
            let fewer = draw(&Swarm { kinds, ..Swarm::default() }, seed, STORE, MINUTE).faults;
            let stays = |fault: &&Fault| fault.id / IDS_PER_KIND != left_out as u32;
            let expected: Vec<Fault> = all.iter().filter(stays).cloned().collect();
            assert_eq!(fewer, expected);
        }
    }
}

#[test]
fn each_kind_is_drawn_often_enough_over_200_seeds() {
    let mut drawn: BTreeMap<Kind, u32> = BTreeMap::new();
    let mut at_fixed_times: BTreeMap<Kind, u32> = BTreeMap::new();
    for fault in (0..200).flat_map(|seed| schedule(seed).faults) {
        *drawn.entry(fault.kind).or_default() += 1;
        *at_fixed_times.entry(fault.kind).or_default() += u32::from(matches!(fault.when, When::At(_)));
    }
    for kind in Kind::STORE {
        let often = at_fixed_times.get(&kind).copied().unwrap_or_default();
        assert!(often >= 60, "{}: {often} of {drawn:?}", kind.name());
    }
}

#[test]
fn faults_are_of_the_kind_that_they_are_counted_as() {
    for fault in (0..200).flat_map(|seed| draw(&Swarm::default(), seed, Hosts { members: 5, ..STORE }, MINUTE).faults) {
        let fits = match &fault.what {
            What::Partition { side, cut } => match (cut, side) {
                (Cut::Bridge | Cut::Thread, _) => fault.kind == Kind::PartitionBridge,
                (Cut::Ring, Target::Members(ring)) => fault.kind == Kind::PartitionRing && ring.len() == 5,
                (_, Target::Leaders) => fault.kind == Kind::PartitionPrimaries,
                (Cut::Peers, Target::Leader) => {
                    matches!(fault.kind, Kind::PartitionPrimaries | Kind::PartitionOne)
                }
                (Cut::Ring, _) => false,
                (Cut::ControlPlane, _) => fault.kind == Kind::NodePartition,
                (Cut::Peers, _) => fault.kind == Kind::PartitionOne,
                (Cut::Outbound | Cut::Inbound, _) => fault.kind == Kind::PartitionOneWay,
                (Cut::Symmetric, Target::Members(members)) if members.len() >= 3 => {
                    fault.kind == Kind::PartitionMajority
                }
                (Cut::Symmetric, Target::Members(_) | Target::Client(_)) => fault.kind == Kind::PartitionMinority,
                (Cut::Symmetric, _) => fault.kind == Kind::PartitionOne,
            },
            What::Loss { .. } => fault.kind == Kind::LinkLoss,
            What::Delay { .. } => fault.kind == Kind::LinkDelay,
            What::Rate { .. } => fault.kind == Kind::LinkRate,
            What::Hold { .. } => fault.kind == Kind::LinkHold,
            What::Clog { .. } => fault.kind == Kind::LinkUnclog,
            What::Kill { .. } => fault.kind == Kind::Kill,
            What::Restart { .. } => fault.kind == Kind::Restart,
            What::Replace { .. } => fault.kind == Kind::RollingUpgrade,
            What::PowerLoss { .. } => fault.kind == Kind::PowerLoss,
            What::Pause { .. } => fault.kind == Kind::Pause,
            What::ClockOffset { .. } => fault.kind == Kind::ClockOffset,
            What::ClockDrift { .. } => fault.kind == Kind::ClockDrift,
            What::ClockSteps { .. } => fault.kind == Kind::ClockSteps,
            What::ClockFreeze { .. } => fault.kind == Kind::ClockFreeze,
            What::ClockJump { .. } => fault.kind == Kind::ClockJump,
            What::Hang { component, .. } => fault.kind == Kind::ComponentHang && *component == Component::Store,
            What::Reconfigure { .. } => fault.kind == Kind::ConfigChange,
            What::Containers { .. }
            | What::Lost { .. }
            | What::Reset { .. }
            | What::Lag { .. }
            | What::Withhold { .. }
            | What::Expire { .. }
            | What::Flood { .. }
            | What::Fuse { .. } => false,
            What::Disk { fault: disk, .. } => match disk {
                DiskFault::WriteErrors(_) | DiskFault::SyncErrors(_) | DiskFault::ReadErrors(_) => {
                    fault.kind == Kind::DiskError
                }
                DiskFault::Stall | DiskFault::Slow(_) => fault.kind == Kind::DiskStall,
                DiskFault::Full => fault.kind == Kind::DiskFull,
            },
        };
        assert!(fits, "{fault:?}");
    }
}

#[test]
fn no_two_kinds_share_a_stream_and_none_depends_on_build_or_machine() {
    let kinds = || Kind::all().chain(Kind::REAL).chain([Kind::Frozen]);
    let seeds: BTreeSet<u64> = kinds().map(|kind| stream_seed(7, kind.name())).collect();
    assert_eq!(seeds.len(), kinds().count());
    assert_eq!(stream_seed(7, "kill"), 11_737_647_223_879_278_953);
    let first = schedule(7).faults.first().map(|fault| (fault.id, fault.when.earliest()));
    assert_eq!(first, Some((6002, 2_994_075_808)));
}

#[test]
fn links_stop_one_after_the_other_and_go_in_other_orders() {
    let swarm = Swarm { kinds: vec![Kind::LinkUnclog], on_permille: 1000, most: 1, ..Swarm::default() };
    let mut orders: BTreeSet<Vec<u32>> = BTreeSet::new();
    for seed in 0..200 {
        let faults = draw(&Swarm { quiet_permille: 0, ..swarm.clone() }, seed, STORE, MINUTE).faults;
        let whats: Vec<&What> = faults.iter().map(|fault| &fault.what).collect();
        assert!(
            (2..=5).contains(&faults.len()) && whats.iter().all(|it| whats.iter().filter(|is| is == &it).count() == 1)
        );
        let begins: Vec<Ns> = faults.iter().map(|fault| fault.when.earliest()).collect();
        let ends: Vec<Ns> = faults.iter().map(|fault| fault.when.earliest() + fault.for_ns).collect();
        assert!(
            begins.is_sorted() && begins.iter().max() < ends.iter().min(),
            "all of them are stopped at once: {faults:?}"
        );
        let mut order: Vec<u32> = (0..faults.len() as u32).collect();
        order.sort_by_key(|place| ends[*place as usize]);
        orders.insert(order);
    }
    assert!(orders.contains(&vec![1, 0]) && orders.contains(&vec![2, 1, 0]) && orders.len() > 30, "{orders:?}");
}

#[test]
fn members_are_replaced_one_after_the_other_and_none_goes_back_once_all_have_come() {
    let kinds = vec![Kind::RollingUpgrade];
    let swarm = Swarm { kinds, on_permille: 1000, quiet_permille: 0, ..Swarm::default() };
    let mut back = 0;
    for seed in 0..100 {
        let faults = draw(&swarm, seed, STORE, MINUTE).faults;
        let ends = |fault: &Fault| fault.when.earliest() + fault.for_ns;
        assert!(faults.windows(2).all(|pair| ends(&pair[0]) < pair[1].when.earliest()), "{faults:?}");
        let mut newer = BTreeSet::new();
        for fault in &faults {
            assert!(newer.len() < 3, "nothing follows the last one: {faults:?}");
            match fault.what {
                What::Replace { target: Target::Member(member), newer: true } => assert!(newer.insert(member)),
                What::Replace { target: Target::Member(member), newer: false } => assert!(newer.remove(&member)),
                ref other => panic!("{other:?}"),
            }
        }
        assert_eq!(newer.len(), 3, "all come in the end: {faults:?}");
        back += u32::from(faults.len() > 3);
    }
    assert!((20..60).contains(&back), "{back}");
}

#[test]
fn most_attacks_on_primaries_make_two_of_them_first() {
    let kinds = vec![Kind::PartitionPrimaries];
    let swarm = Swarm { kinds, on_permille: 1000, most: 1, quiet_permille: 0, ..Swarm::default() };
    let mut pairs = 0;
    for seed in 0..100 {
        let faults = draw(&swarm, seed, STORE, MINUTE).faults;
        let last = faults.last().expect("it is on");
        assert!(matches!(last.what, What::Partition { side: Target::Leaders, .. }), "{faults:?}");
        let ends: BTreeSet<Ns> = faults.iter().map(|fault| fault.when.earliest() + fault.for_ns).collect();
        assert_eq!(ends.len(), 1, "they end together: {faults:?}");
        pairs += u32::from(faults.len() == 2);
    }
    assert!((50..90).contains(&pairs), "{pairs}");
}

#[test]
fn a_minority_is_frozen_in_as_many_trials_as_are_to_have_one() {
    let freeze =
        |permille, members, seed| crate::freeze(permille, seed, Hosts { members, ..STORE }, MINUTE, 30 * SECOND);
    assert_eq!((0..1000).filter(|seed| freeze(0, 3, *seed).is_some()).count(), 0);
    assert_eq!((0..1000).filter(|seed| freeze(1000, 2, *seed).is_some()).count(), 0, "one of two is no minority");
    let often = (0..1000).filter(|seed| freeze(150, 3, *seed).is_some()).count();
    assert!((110..190).contains(&often), "{often}");
    let mut ways: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..200 {
        let fault = freeze(1000, 5, seed).expect("it is to be in each");
        let at = fault.when.earliest();
        assert!(fault.kind == Kind::Frozen && fault.kind.fits(&fault.what), "{fault:?}");
        assert!((40 * SECOND..MINUTE).contains(&at) && at + fault.for_ns > 90 * SECOND, "{fault:?}");
        if let Target::Members(members) = fault.what.target() {
            assert_eq!(members.len(), 2, "{fault:?}");
        }
        let way = match fault.what {
            What::Partition { .. } => "cut off",
            What::Pause { .. } => "stopped",
            What::PowerLoss { .. } => "without power",
            What::Kill { .. } => "dead",
            other => panic!("{other:?}"),
        };
        *ways.entry(way).or_default() += 1;
    }
    assert!(ways.len() == 4 && ways.values().all(|times| *times >= 20), "{ways:?}");
    assert_eq!(freeze(1000, 5, 7), freeze(1000, 5, 7));
}

#[test]
fn processes_and_nodes_come_back_at_once_and_again_and_again() {
    let hosts = Hosts { nodes: 10, zones: 3, ..STORE };
    for (kind, most_ns) in [(Kind::Kill, 600 * MS), (Kind::NodeKill, 600 * MS), (Kind::NodePowerLoss, 500 * MS)] {
        let swarm = Swarm { kinds: vec![kind], on_permille: 1000, quiet_permille: 0, ..Swarm::default() };
        let drawn = (0..100).map(|seed| draw(&swarm, seed, hosts, MINUTE).faults);
        let quick =
            drawn.map(|faults| faults.iter().filter(|fault| fault.for_ns <= most_ns).count()).collect::<Vec<_>>();
        assert!(quick.iter().filter(|count| **count > 0).count() > 30, "{}: {quick:?}", kind.name());
        assert!(kind == Kind::NodePowerLoss || quick.iter().any(|count| *count > 8), "{}: {quick:?}", kind.name());
    }
}

#[test]
fn now_and_then_the_control_plane_is_cut_off_for_longer_than_it_waits_for_nodes() {
    let hosts = Hosts { nodes: 10, zones: 3, ..STORE };
    let swarm = Swarm { kinds: vec![Kind::NodePartition], on_permille: 1000, quiet_permille: 0, ..Swarm::default() };
    let drawn: Vec<Fault> = (0..200).flat_map(|seed| draw(&swarm, seed, hosts, 8 * MINUTE).faults).collect();
    let struck = |fault: &&Fault| match fault.what.target() {
        Target::Node(_) => 1,
        Target::Nodes(nodes) => nodes.len(),
        other => panic!("{other:?}"),
    };
    let (all, some): (Vec<&Fault>, Vec<&Fault>) = drawn.iter().partition(|fault| struck(fault) == 10);
    assert!(all.len() * 10 > drawn.len() && all.len() * 5 < drawn.len(), "{} of {}", all.len(), drawn.len());
    for fault in all {
        assert!(matches!(fault.what, What::Partition { cut: Cut::ControlPlane, .. }), "{fault:?}");
        assert!(fault.for_ns >= 75 * SECOND, "{fault:?}");
    }
    assert!(some.iter().all(|fault| struck(fault) <= 3), "most nodes are well otherwise");
}
