//! What the world must be like while faults are active: a pure function of the active faults and the time.
//!
//! ```text
//! fault --aim--> hosts --+--> Wanted (wanted.rs) --> actions(what it was, what it must be) --> the world
//!                        `--> Consequences: what availability may be expected meanwhile
//! ```
//!
//! Nothing is counted up and down. Faults of all kinds may overlap on one host or link, strike it while it is down, and
//! end in any order: what is wanted is computed afresh each time, and only the difference is done.
//!
//! **Invariant:** when no fault is active nothing is left of any (`all_is_well_when_every_fault_is_over`).

mod actions;
mod aim;
mod consequences;
#[cfg(test)]
mod tests;
mod wanted;

use faults::{Fault, Ns};

pub(crate) use actions::{Action, actions};
pub(crate) use aim::resolve;
pub(crate) use consequences::consequences;
pub(crate) use wanted::{ContainerTrouble, DiskTrouble, LinkTrouble, Wanted, next_step, wanted};

/// A host of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// Of the store's member with this number.
    Member(u32),
    /// With clients on it.
    Client(u32),
    /// That runs pods.
    Node(u32),
}

/// Which hosts there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    pub(crate) members: u32,
    pub(crate) client_hosts: u32,
    pub(crate) nodes: u32,
}

/// What decides whom a fault hits, when it strikes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Situation {
    /// The member that last said that it leads.
    pub(crate) leader: Option<u32>,
    /// The members that believe that they lead.
    pub(crate) leading: Vec<u32>,
    /// The member that said what this fault waited for.
    pub(crate) marked: Option<u32>,
}

/// A fault that has struck and is not over.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) fault: Fault,
    pub(crate) from_ns: Ns,
    /// Whom it hit.
    pub(crate) hosts: Vec<Host>,
    /// How often what it does had had an effect on these hosts before, if that is counted.
    pub(crate) felt: u64,
}

impl Topology {
    fn has(self, host: Host) -> bool {
        match host {
            Host::Member(member) => member < self.members,
            Host::Client(client) => client < self.client_hosts,
            Host::Node(node) => node < self.nodes,
        }
    }

    pub(crate) fn hosts(self) -> impl Iterator<Item = Host> {
        let nodes = (0..self.nodes).map(Host::Node);
        (0..self.members).map(Host::Member).chain((0..self.client_hosts).map(Host::Client)).chain(nodes)
    }
}

impl Host {
    /// Its number, if it is a member.
    pub(crate) fn member(self) -> Option<u32> {
        match self {
            Host::Member(member) => Some(member),
            Host::Client(_) | Host::Node(_) => None,
        }
    }

    /// Its number, if clients are on it.
    pub(crate) fn client(self) -> Option<u32> {
        match self {
            Host::Client(client) => Some(client),
            Host::Member(_) | Host::Node(_) => None,
        }
    }

    /// Its number, if it runs pods.
    pub(crate) fn node(self) -> Option<u32> {
        match self {
            Host::Node(node) => Some(node),
            Host::Member(_) | Host::Client(_) => None,
        }
    }
}
