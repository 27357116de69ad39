//! Whom a fault hits, and which links that means.

use faults::{Cut, Target};

use super::{Host, Situation, Topology};

/// Whom a fault hits. Members and clients that there are not (in an edited schedule) are nobody.
pub(crate) fn resolve(target: &Target, situation: &Situation, topology: Topology) -> Vec<Host> {
    let leader = situation.leader.unwrap_or(0);
    let hosts = match target {
        Target::Member(member) => vec![Host::Member(*member)],
        Target::Members(members) => members.iter().copied().map(Host::Member).collect(),
        Target::Leader => vec![Host::Member(leader)],
        Target::Leaders if !situation.leading.is_empty() => {
            situation.leading.iter().copied().map(Host::Member).collect()
        }
        Target::Leaders => vec![Host::Member(leader)],
        Target::Follower => vec![Host::Member((leader + 1) % topology.members.max(1))],
        Target::Marked => vec![Host::Member(situation.marked.unwrap_or(0))],
        Target::Client(client) => vec![Host::Client(*client)],
        Target::Node(node) => vec![Host::Node(*node)],
        Target::Nodes(nodes) => nodes.iter().copied().map(Host::Node).collect(),
    };
    hosts.into_iter().filter(|host| topology.has(*host)).collect()
}

/// Directed links between these hosts and all others, both ways.
pub(super) fn links_of(hosts: &[Host], topology: Topology) -> impl Iterator<Item = (Host, Host)> {
    links_from(hosts, topology).flat_map(|(from, to)| [(from, to), (to, from)])
}

/// Directed links from these hosts to all others.
pub(super) fn links_from(hosts: &[Host], topology: Topology) -> impl Iterator<Item = (Host, Host)> {
    let others: Vec<Host> = topology.hosts().filter(|host| !hosts.contains(host)).collect();
    hosts.iter().flat_map(move |from| others.clone().into_iter().map(move |to| (*from, to)))
}

/// Directed links from other members to these.
pub(super) fn lagging_links(hosts: &[Host], topology: Topology) -> impl Iterator<Item = (Host, Host)> {
    links_from(hosts, topology).filter(is_between_members).map(|(from, to)| (to, from))
}

/// Directed links from these hosts to one member.
pub(super) fn clogged_links(hosts: &[Host], to: u32, topology: Topology) -> impl Iterator<Item = (Host, Host)> {
    links_from(hosts, topology).filter(move |(_, other)| *other == Host::Member(to))
}

fn is_between_members((from, to): &(Host, Host)) -> bool {
    from.member().is_some() && to.member().is_some()
}

/// Directed links on which nothing passes.
pub(super) fn cut_links(side: &[Host], cut: &Cut, topology: Topology) -> Vec<(Host, Host)> {
    match cut {
        Cut::Symmetric => links_of(side, topology).collect(),
        Cut::Outbound => links_from(side, topology).collect(),
        Cut::Inbound => links_from(side, topology).map(|(from, to)| (to, from)).collect(),
        Cut::Peers => links_of(side, topology).filter(is_between_members).collect(),
        Cut::ControlPlane => {
            links_of(side, topology).filter(|(from, to)| from.member().is_some() || to.member().is_some()).collect()
        }
        Cut::Thread => {
            let spared = side.last().and_then(|host| host.member()).map(|last| (last + 1) % topology.members.max(1));
            let between_members =
                links_of(side, topology).filter_map(|(from, to)| Some((from, to, from.member()?, to.member()?)));
            between_members
                .filter(|(_, _, from, to)| Some(*from) != spared && Some(*to) != spared)
                .map(|(from, to, _, _)| (from, to))
                .collect()
        }
        Cut::Bridge => {
            let others = other_members(side, topology);
            let (left, right) = others.split_at(others.len() / 2);
            left.iter().flat_map(|a| right.iter().flat_map(|b| [(*a, *b), (*b, *a)])).collect()
        }
        Cut::Ring => {
            let mut ring: Vec<Host> = side.iter().copied().filter(|host| host.member().is_some()).collect();
            ring.extend(other_members(side, topology));
            if let [first, _, _] = ring[..] {
                return cut_links(&[first], &Cut::Bridge, topology);
            }
            let near = (ring.len() / 2).div_ceil(2);
            let apart = |a: usize, b: usize| a.abs_diff(b).min(ring.len() - a.abs_diff(b));
            let places = || 0..ring.len();
            let pairs = places().flat_map(|a| places().map(move |b| (a, b)));
            pairs.filter(|(a, b)| apart(*a, *b) > near).map(|(a, b)| (ring[a], ring[b])).collect()
        }
    }
}

fn other_members(side: &[Host], topology: Topology) -> Vec<Host> {
    (0..topology.members).map(Host::Member).filter(|host| !side.contains(host)).collect()
}
