//! What is done to the world, such that it becomes what it must be.

use std::collections::BTreeSet;

use faults::{Component, Ns};

use super::Host;
use super::wanted::{ContainerTrouble, DiskTrouble, HostTrouble, LinkTrouble, Power, Wanted};

/// Something to be done to the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    Cut(Host, Host),
    Heal(Host, Host),
    Hold(Host, Host),
    Release(Host, Host),
    Link(Host, Host, LinkTrouble),
    Disk(Host, DiskTrouble),
    Rate(Host, u32),
    WallOffset(Host, i64),
    /// Let both clocks show so much more.
    Jump(Host, Ns),
    Kill(Host),
    PowerOff(Host),
    /// Put an empty disk into a host without power.
    ReplaceDisk(Host),
    /// What ails a node's containers from now on.
    Containers(Host, ContainerTrouble),
    /// Let a node's containers crash.
    Crash(Host),
    /// Let a node's containers be killed for want of memory.
    Starve(Host),
    /// Reset a host's connections to the store's members.
    Reset(Host),
    /// Put a fuse that lets so many bytes pass into the connections to a host's API server.
    Fuse(Host, u64),
    /// Take out all of a host's fuses.
    Defuse(Host),
    /// Withhold what a host's API server says on a connection, for this fault: on the so-manieth.
    Withhold(Host, u32, u32),
    /// Let out what is withheld for this fault.
    Deliver(Host, u32),
    /// Let what a host shows API servers end at this time, or give it something that lasts.
    Expire(Host, Option<Ns>),
    /// Let a host's process be the newer program or the older one, from its next start on.
    Program(Host, bool),
    /// Let a host's process have this configuration, from its next start on.
    Configure(Host, u32),
    /// Let a component of a host's process stand still.
    Hang(Host, Component),
    /// Let it go on.
    GoOn(Host, Component),
    /// Let so many callers ask a host's API server, for this fault.
    Flood(Host, u32, u32),
    /// Call back those who ask for this fault.
    Ebb(Host, u32),
    /// Start a process that was killed; power is on.
    Start(Host),
    /// Give a host its power back, and with it its process.
    PowerOn(Host),
    Pause(Host),
    Resume(Host),
}

/// What leads from one state of the world to the other. Processes come last, so that they start into the world as it
/// must be.
pub(crate) fn actions(before: &Wanted, after: &Wanted) -> Vec<Action> {
    let mut actions = Vec::new();
    actions.extend(before.cut.difference(&after.cut).map(|(from, to)| Action::Heal(*from, *to)));
    actions.extend(after.cut.difference(&before.cut).map(|(from, to)| Action::Cut(*from, *to)));
    actions.extend(before.held.difference(&after.held).map(|(from, to)| Action::Release(*from, *to)));
    actions.extend(after.held.difference(&before.held).map(|(from, to)| Action::Hold(*from, *to)));
    let links: BTreeSet<(Host, Host)> = before.links.keys().chain(after.links.keys()).copied().collect();
    for link in links {
        let trouble = |wanted: &Wanted| wanted.links.get(&link).copied().unwrap_or_default();
        if trouble(before) != trouble(after) {
            actions.push(Action::Link(link.0, link.1, trouble(after)));
        }
    }
    fuse_actions(before, after, &mut actions);
    withheld_actions(before, after, &mut actions);
    flood_actions(before, after, &mut actions);
    let hung = |from: &Wanted, to: &Wanted| from.hung.difference(&to.hung).copied().collect::<Vec<_>>();
    actions.extend(hung(before, after).into_iter().map(|(host, component)| Action::GoOn(host, component)));
    let hosts: BTreeSet<Host> = before.hosts.keys().chain(after.hosts.keys()).copied().collect();
    for host in hosts {
        let trouble = |wanted: &Wanted| wanted.hosts.get(&host).copied().unwrap_or_default();
        host_actions(host, trouble(before), trouble(after), &mut actions);
    }
    // The process that it hangs in must be there.
    actions.extend(hung(after, before).into_iter().map(|(host, component)| Action::Hang(host, component)));
    actions
}

/// What a fuse was put into stays such until the last fuse on its host is over.
fn fuse_actions(before: &Wanted, after: &Wanted, actions: &mut Vec<Action>) {
    let hosts = |wanted: &Wanted| -> BTreeSet<Host> { wanted.fuses.keys().map(|(host, _)| *host).collect() };
    actions.extend(hosts(before).difference(&hosts(after)).map(|host| Action::Defuse(*host)));
    let new = after.fuses.iter().filter(|(at, _)| !before.fuses.contains_key(at));
    actions.extend(new.map(|((host, _), bytes)| Action::Fuse(*host, *bytes)));
}

fn withheld_actions(before: &Wanted, after: &Wanted, actions: &mut Vec<Action>) {
    let over = before.withheld.keys().filter(|at| !after.withheld.contains_key(at));
    actions.extend(over.map(|(host, fault)| Action::Deliver(*host, *fault)));
    let new = after.withheld.iter().filter(|(at, _)| !before.withheld.contains_key(at));
    actions.extend(new.map(|((host, fault), nth)| Action::Withhold(*host, *fault, *nth)));
}

fn flood_actions(before: &Wanted, after: &Wanted, actions: &mut Vec<Action>) {
    let over = before.floods.keys().filter(|at| !after.floods.contains_key(at));
    actions.extend(over.map(|(host, fault)| Action::Ebb(*host, *fault)));
    let new = after.floods.iter().filter(|(at, _)| !before.floods.contains_key(at));
    actions.extend(new.map(|((host, fault), callers)| Action::Flood(*host, *fault, *callers)));
}

fn host_actions(host: Host, was: HostTrouble, is: HostTrouble, actions: &mut Vec<Action>) {
    if was.disk != is.disk {
        actions.push(Action::Disk(host, is.disk));
    }
    if was.rate_permille != is.rate_permille {
        actions.push(Action::Rate(host, is.rate_permille));
    }
    if was.wall_offset_ns != is.wall_offset_ns {
        actions.push(Action::WallOffset(host, is.wall_offset_ns));
    }
    if is.jumped_ns > was.jumped_ns {
        actions.push(Action::Jump(host, is.jumped_ns - was.jumped_ns));
    }
    if let Some(setting) = is.setting.filter(|_| is.setting != was.setting) {
        actions.push(Action::Configure(host, setting));
    }
    if let Some(newer) = is.newer.filter(|_| is.newer != was.newer) {
        actions.push(Action::Program(host, newer));
    }
    if was.expired_ns != is.expired_ns {
        actions.push(Action::Expire(host, is.expired_ns));
    }
    // A pause ends before whatever happens to the process and is taken up again by the next process: so neither the
    // old one nor the new one is left in it.
    let stopped = |trouble: HostTrouble| trouble.paused && trouble.power == Power::Running;
    if stopped(was) && !stopped(is) {
        actions.push(Action::Resume(host));
    }
    match (was.power, is.power) {
        (Power::Running, Power::Killed) => actions.push(Action::Kill(host)),
        (Power::Running | Power::Killed, Power::Off) => actions.push(Action::PowerOff(host)),
        (Power::Killed, Power::Running) => actions.push(Action::Start(host)),
        (Power::Off, Power::Running) => actions.push(Action::PowerOn(host)),
        // `wanted` keeps a host off that would be merely killed.
        (Power::Off, Power::Killed)
        | (Power::Running, Power::Running)
        | (Power::Killed, Power::Killed)
        | (Power::Off, Power::Off) => {}
    }
    if is.lost > was.lost {
        actions.push(Action::ReplaceDisk(host));
    }
    if stopped(is) && !stopped(was) {
        actions.push(Action::Pause(host));
    }
    if was.containers != is.containers {
        actions.push(Action::Containers(host, is.containers));
    }
    if is.crashes > was.crashes {
        actions.push(Action::Crash(host));
    }
    if is.starved > was.starved {
        actions.push(Action::Starve(host));
    }
    if is.resets > was.resets {
        actions.push(Action::Reset(host));
    }
}
