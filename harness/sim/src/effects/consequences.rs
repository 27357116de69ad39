//! What a fault means for judging availability.

use faults::{Component, DiskFault, Ns, What};

use super::aim::{clogged_links, cut_links, lagging_links, links_from, links_of};
use super::wanted::TRUE_RATE;
use super::{Host, Topology};

/// What a fault means for judging availability.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Consequences {
    /// Members that cannot serve in a majority meanwhile.
    pub(crate) disabled: Vec<u32>,
    /// Directed links between members that are of no use meanwhile.
    pub(crate) severed: Vec<(u32, u32)>,
}

/// A link that adds more than this to each way counts as severed: two such faults on one way, there and back, come to
/// a heartbeat's patience.
const SEVERING_DELAY_NS: Ns = 100_000_000;
/// A link that loses more than this counts as severed: TCP then spends seconds in retransmission.
const SEVERING_LOSS_PERMILLE: u32 = 100;
/// A link that carries less than this, in bytes per second, counts as severed: what is behind a burst then comes later
/// than heartbeats may.
const SEVERING_RATE: u64 = 1 << 20;
/// Clock rates within this of the truth are what the store promises to work with.
const TOLERATED_DRIFT_PERMILLE: u32 = 100;
/// A disk this many times slower counts as none: a sync then takes as long as an election.
const DISABLING_SLOWNESS: u32 = 50;

/// What a fault on these hosts means for judging availability.
pub(crate) fn consequences(what: &What, hosts: &[Host], topology: Topology) -> Consequences {
    let disabled =
        || Consequences { disabled: hosts.iter().filter_map(|host| host.member()).collect(), severed: vec![] };
    let severed = |links: Vec<(Host, Host)>| {
        let between_members = links.into_iter().filter_map(|(from, to)| Some((from.member()?, to.member()?)));
        Consequences { disabled: vec![], severed: between_members.collect() }
    };
    match what {
        What::Partition { cut, .. } => severed(cut_links(hosts, cut, topology)),
        What::Loss { permille, .. } if *permille > SEVERING_LOSS_PERMILLE => {
            severed(links_of(hosts, topology).collect())
        }
        What::Delay { delay_ns, jitter_ns, .. } if delay_ns + jitter_ns > SEVERING_DELAY_NS => {
            severed(links_of(hosts, topology).collect())
        }
        What::Rate { bytes_per_second, .. } if *bytes_per_second < SEVERING_RATE => {
            severed(links_of(hosts, topology).collect())
        }
        What::Hold { .. } => severed(links_from(hosts, topology).collect()),
        What::Lag { .. } => severed(lagging_links(hosts, topology).collect()),
        What::Clog { to, .. } => severed(clogged_links(hosts, *to, topology).collect()),
        What::Kill { .. }
        | What::Restart { .. }
        | What::Replace { .. }
        | What::PowerLoss { .. }
        | What::Lost { .. }
        | What::Pause { .. }
        | What::Reconfigure { .. }
        | What::Hang { component: Component::Store, .. }
        | What::ClockJump { .. }
        | What::ClockFreeze { .. } => disabled(),
        What::ClockDrift { permille, .. } if permille.abs_diff(TRUE_RATE) > TOLERATED_DRIFT_PERMILLE => disabled(),
        What::Disk { fault: DiskFault::Slow(times), .. } if *times < DISABLING_SLOWNESS => Consequences::default(),
        What::Disk { .. } => disabled(),
        What::Loss { .. }
        | What::Delay { .. }
        | What::Rate { .. }
        | What::ClockOffset { .. }
        | What::ClockSteps { .. }
        | What::Containers { .. }
        | What::Reset { .. }
        | What::Fuse { .. }
        | What::Withhold { .. }
        | What::Expire { .. }
        | What::Hang { .. }
        | What::Flood { .. }
        | What::ClockDrift { .. } => Consequences::default(),
    }
}
