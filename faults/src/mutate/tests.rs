use super::*;
use crate::What;

const MINUTE: Ns = 60 * SECOND;
const STORE: Hosts = Hosts { members: 3, client_hosts: 2, nodes: 0, zones: 0 };
const CLUSTER: Hosts = Hosts { members: 3, client_hosts: 1, nodes: 10, zones: 3 };

fn bounds(hosts: Hosts, faults_ns: Ns) -> Bounds {
    let kinds = if hosts.nodes == 0 { Kind::STORE.to_vec() } else { Kind::all().collect() };
    Bounds { swarm: Swarm { kinds, ..Swarm::default() }, hosts, faults_ns, given: BTreeSet::new() }
}

fn drawn(bounds: &Bounds, seed: u64) -> Schedule {
    draw(&bounds.swarm, seed, bounds.hosts, bounds.faults_ns)
}

/// What a line of descent has in each generation: both parents go on changing.
fn descent(bounds: &Bounds, seed: u64, generations: u64) -> Vec<Schedule> {
    let (mut one, mut other) = (drawn(bounds, seed), drawn(bounds, seed + 1000));
    let mut all = Vec::new();
    for generation in 0..generations {
        let child = mutate(&one, &other, bounds, seed * 1000 + generation);
        (one, other) = if generation % 2 == 0 { (child.clone(), one) } else { (child.clone(), other) };
        all.push(child);
    }
    all
}

#[test]
fn whatever_is_made_of_schedules_stays_within_bounds_through_generations() {
    let all = [
        bounds(STORE, MINUTE),
        bounds(Hosts { members: 4, ..STORE }, MINUTE),
        bounds(Hosts { members: 1, client_hosts: 0, ..STORE }, MINUTE),
        bounds(STORE, SECOND),
        bounds(CLUSTER, 8 * MINUTE),
        bounds(Hosts { nodes: 1, zones: 1, ..CLUSTER }, 70 * SECOND),
    ];
    for bounds in &all {
        for seed in 0..20 {
            for Schedule { faults } in descent(bounds, seed, 60) {
                assert!(faults.is_sorted_by_key(|fault| (fault.when.earliest(), fault.id)), "seed {seed}");
                let ids: BTreeSet<u32> = faults.iter().map(|fault| fault.id).collect();
                assert_eq!(ids.len(), faults.len(), "seed {seed}: ids are unique");
                assert!(faults.len() <= MAX_FAULTS, "seed {seed}");
                for fault in faults {
                    assert!(bounds.contain(&fault), "seed {seed}: {fault:?}");
                    assert!(fault.kind.fits(&fault.what), "seed {seed}: {fault:?}");
                    assert!(fault.when.earliest() + fault.for_ns <= bounds.faults_ns, "seed {seed}: {fault:?}");
                }
            }
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_of_it() {
    let bounds = bounds(CLUSTER, 8 * MINUTE);
    let (parent, other) = (drawn(&bounds, 1), drawn(&bounds, 2));
    let made: Vec<Schedule> = (0..50).map(|seed| mutate(&parent, &other, &bounds, seed)).collect();
    let again: Vec<Schedule> = (0..50).map(|seed| mutate(&parent, &other, &bounds, seed)).collect();
    assert_eq!(made, again);
    let new = |(at, it): (usize, &Schedule)| *it != parent && !made[..at].contains(it);
    let different = made.iter().enumerate().filter(|it| new(*it)).count();
    assert!(different >= 40, "now and then there is nothing to change, or twice the same: {different}");
}

#[test]
fn most_of_a_schedule_is_left_as_it_was() {
    let bounds = bounds(STORE, MINUTE);
    let mut kept = 0;
    let mut all = 0;
    for seed in 0..200 {
        let parent = drawn(&bounds, seed);
        let child = mutate(&parent, &drawn(&bounds, seed + 1), &bounds, seed);
        kept += parent.faults.iter().filter(|fault| child.faults.contains(fault)).count();
        all += parent.faults.len();
    }
    assert!(kept * 100 > all * 75, "{kept} of {all}");
    assert!(kept < all);
}

/// What is different about a fault that both schedules have.
fn changed(is: &Fault, was: &Fault) -> Option<&'static str> {
    let When::At(_) = was.when else { return None };
    let same = (is.when == was.when, is.for_ns == was.for_ns, is.what == was.what);
    match same {
        (false, true, true) => Some(if is.when.earliest() < was.when.earliest() { "sooner" } else { "later" }),
        (true, false, true) => Some(if is.for_ns < was.for_ns { "shorter" } else { "longer" }),
        (true, true, false) => Some("elsewhere"),
        _ => None,
    }
}

#[test]
fn faults_come_and_go_move_and_strike_others_and_ends_are_those_of_another_schedule() {
    let bounds = bounds(STORE, MINUTE);
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..300 {
        let (parent, mut other) = (drawn(&bounds, seed), drawn(&bounds, seed + 1000));
        other.faults.iter_mut().for_each(|fault| fault.id += 500_000);
        let child = mutate(&parent, &other, &bounds, seed);
        for is in &child.faults {
            let sort = match parent.faults.iter().find(|was| was.id == is.id) {
                None if is.id >= 500_000 => Some("from another"),
                None => Some("added"),
                Some(was) => changed(is, was),
            };
            sort.into_iter().for_each(|sort| *seen.entry(sort).or_default() += 1);
        }
        let gone = parent.faults.iter().any(|was| child.faults.iter().all(|is| is.id != was.id));
        *seen.entry("gone").or_default() += u32::from(gone);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
    assert!(seen.values().all(|times| *times >= 15), "{seen:?}");
}

#[test]
fn what_waits_for_something_is_changed_in_what_it_waits_for() {
    let marked = When::Marked { from: 5 * SECOND, mark: "vote granted".into(), delay_ns: MS };
    let effect = When::Effect { from: 9 * SECOND, nth: 3, index: 1, before: true };
    let fault =
        |id, when| Fault { id, kind: Kind::Kill, when, for_ns: MS, what: What::Kill { target: Target::Marked } };
    let parent = Schedule { faults: vec![fault(1, marked.clone()), fault(2, effect.clone())] };
    let swarm = Swarm { kinds: vec![], ..Swarm::default() };
    let bounds = Bounds { swarm, ..bounds(CLUSTER, MINUTE) };
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for fault in (0..300).flat_map(|seed| mutate(&parent, &parent, &bounds, seed).faults) {
        assert_eq!(fault.what, What::Kill { target: Target::Marked });
        seen.extend(
            match (&fault.when, fault.id) {
                (When::Marked { from, delay_ns, mark }, 1) => {
                    assert_eq!(mark, "vote granted");
                    [(*from != 5 * SECOND).then_some("another vote"), (*delay_ns != MS).then_some("another delay")]
                }
                (When::Effect { from, nth, index: 1, before: true }, 2) => {
                    [(*from != 9 * SECOND).then_some("another time"), (*nth != 3).then_some("another write")]
                }
                other => panic!("{other:?}"),
            }
            .into_iter()
            .flatten(),
        );
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn what_a_scenario_gives_is_never_touched() {
    let free = bounds(STORE, MINUTE);
    let what = What::PowerLoss { target: Target::Members(vec![0, 1, 2]) };
    // Later than anything that is drawn, and it outlasts the time of faults: that is the scenario's business.
    let given = Fault { id: 1_000_000, kind: Kind::PowerLoss, when: When::At(MINUTE - 1), for_ns: SECOND, what };
    let bounds = Bounds { given: BTreeSet::from([given.id]), ..free };
    let with_it = |seed| {
        let mut schedule = drawn(&bounds, seed);
        schedule.faults.push(given.clone());
        schedule
    };
    for seed in 0..300 {
        let child = mutate(&with_it(seed), &with_it(seed + 1), &bounds, seed);
        let kept: Vec<&Fault> = child.faults.iter().filter(|fault| fault.id == given.id).collect();
        assert_eq!(kept, [&given], "seed {seed}");
    }
}

#[test]
fn what_is_never_healed_stays_and_is_not_taken_over() {
    let bounds = bounds(STORE, MINUTE);
    let with_frozen = |seed| {
        let mut schedule = drawn(&bounds, seed);
        schedule.faults.extend(crate::freeze(1000, seed, STORE, MINUTE, MINUTE));
        schedule
    };
    for seed in 0..300 {
        let (parent, other) = (with_frozen(seed), with_frozen(seed + 1));
        let frozen = |schedule: &Schedule| -> Vec<Fault> {
            schedule.faults.iter().filter(|fault| fault.kind == Kind::Frozen).cloned().collect()
        };
        assert_eq!(frozen(&mutate(&parent, &other, &bounds, seed)), frozen(&parent), "seed {seed}");
        assert_eq!(frozen(&mutate(&drawn(&bounds, seed), &other, &bounds, seed)), [], "seed {seed}");
    }
}

#[test]
fn where_nothing_may_strike_nothing_is_made_up() {
    let swarm = Swarm { kinds: vec![], ..Swarm::default() };
    let bounds = Bounds { swarm, ..bounds(STORE, MINUTE) };
    let nothing = Schedule::default();
    for seed in 0..50 {
        assert_eq!(mutate(&nothing, &nothing, &bounds, seed), nothing);
    }
}
