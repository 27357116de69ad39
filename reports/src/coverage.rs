//! Whom faults hit, and what was going on then: what a matrix of coverage is made of.

use crate::reigns::{self, Reign};
use record::{Answer, ELECTION_NS, Kind, Ns, Record, Strike};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// By kind of fault, as its name: how often it hit which component in which phase. A strike that hits two nodes counts
/// once for them; one that hits a node and a client counts for both.
pub type Coverage = BTreeMap<String, BTreeMap<Component, BTreeMap<Phase, u64>>>;

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The member that led, or its links, disk or clocks; with an orchestrator, the control plane on it too.
    Leader,
    /// Another member.
    Member,
    /// A host of clients.
    Client,
    /// A node.
    Node,
    /// Containers on a node.
    Container,
}

/// What was going on when a fault struck. A strike is in the first of these that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No member led, or one that had been leading for less than an election takes.
    Election,
    /// A Deployment was being rolled out.
    Rollout,
    /// Another fault was active.
    Beside,
    /// Nothing of all that.
    Calm,
}

impl Component {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Leader, Self::Member, Self::Client, Self::Node, Self::Container];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Member => "other member",
            Self::Client => "client",
            Self::Node => "node",
            Self::Container => "containers",
        }
    }
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Election, Self::Rollout, Self::Beside, Self::Calm];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Election => "election",
            Self::Rollout => "rollout",
            Self::Beside => "other fault",
            Self::Calm => "calm",
        }
    }
}

/// Adds the strikes of one trial.
pub(crate) fn add(coverage: &mut Coverage, record: &Record) {
    let reigns = reigns::of(record);
    let rollouts = rollouts(record);
    for strike in &record.strikes {
        let phase = phase(strike, record, &reigns, &rollouts);
        let places = coverage.entry(strike.kind.name().to_owned()).or_default();
        for component in components(strike, &reigns) {
            *places.entry(component).or_default().entry(phase).or_default() += 1;
        }
    }
}

/// Adds other trials.
pub(crate) fn merge(coverage: &mut Coverage, other: &Coverage) {
    for (kind, places) in other {
        for (component, phases) in places {
            let known = coverage.entry(kind.clone()).or_default().entry(*component).or_default();
            for (phase, times) in phases {
                *known.entry(*phase).or_default() += times;
            }
        }
    }
}

/// A rollout is taken to be under way for this long after a user asked for it: most take longer.
const ROLLOUT_NS: Ns = 10_000_000_000;

/// When Deployments were being rolled out.
pub(crate) fn rollouts(record: &Record) -> Vec<Range<Ns>> {
    let rolls = record.cluster.writes.iter().filter(|write| write.what == "roll");
    let done = rolls.filter(|write| matches!(write.outcome, Answer::Ok { .. }));
    done.map(|write| write.invoked_ns..write.invoked_ns + ROLLOUT_NS).collect()
}

fn components(strike: &Strike, reigns: &[Reign]) -> BTreeSet<Component> {
    if matches!(strike.kind, Kind::ContainerCrash | Kind::ContainerSick | Kind::ContainerSlow | Kind::ImagePull) {
        return BTreeSet::from([Component::Container]);
    }
    // A leader that is killed leads until that very instant.
    let leads = |member: &u32| {
        let led = reigns.iter().rfind(|reign| reign.from_ns < strike.from_ns && strike.from_ns <= reign.until_ns);
        led.is_some_and(|reign| reign.member == *member)
    };
    let members = strike.members.iter().map(|it| if leads(it) { Component::Leader } else { Component::Member });
    let clients = strike.clients.iter().map(|_| Component::Client);
    let nodes = strike.nodes.iter().map(|_| Component::Node);
    members.chain(clients).chain(nodes).collect()
}

fn phase(strike: &Strike, record: &Record, reigns: &[Reign], rollouts: &[Range<Ns>]) -> Phase {
    let at_ns = strike.from_ns;
    let settled = |reign: &Reign| reign.from_ns + ELECTION_NS <= at_ns && at_ns <= reign.until_ns;
    let active = |other: &Strike| other.fault != strike.fault && (other.from_ns..other.until_ns).contains(&at_ns);
    if !reigns.iter().any(settled) {
        Phase::Election
    } else if rollouts.iter().any(|rollout| rollout.contains(&at_ns)) {
        Phase::Rollout
    } else if record.strikes.iter().any(active) {
        Phase::Beside
    } else {
        Phase::Calm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::record;
    use record::{Observation, UserWrite};

    const S: Ns = 1_000_000_000;

    fn places(kind: Kind, from_ns: Ns, members: &[u32], nodes: &[u32], change: impl FnOnce(&mut Record)) -> String {
        let mut trial = record(1);
        let strike = trial.strikes[0].clone();
        let (members, nodes) = (members.to_vec(), nodes.to_vec());
        trial.strikes = vec![Strike { kind, fault: 1, from_ns, until_ns: from_ns + S, members, nodes, ..strike }];
        trial.observations = vec![
            Observation::Leads { at_ns: S, member: 0, term: 1 },
            Observation::StepsDown { at_ns: 10 * S, member: 0, term: 1 },
            Observation::Leads { at_ns: 11 * S, member: 2, term: 2 },
        ];
        change(&mut trial);
        let mut coverage = Coverage::new();
        add(&mut coverage, &trial);
        serde_json::to_string(&coverage[kind.name()]).unwrap()
    }

    #[test]
    fn a_leader_that_is_killed_was_the_leader() {
        assert_eq!(places(Kind::Kill, 10 * S, &[0], &[], |_| ()), r#"{"leader":{"calm":1}}"#);
        assert_eq!(places(Kind::Kill, 10 * S, &[1, 2], &[], |_| ()), r#"{"member":{"calm":1}}"#);
        assert_eq!(places(Kind::Kill, 20 * S, &[2], &[], |_| ()), r#"{"leader":{"calm":1}}"#);
    }

    #[test]
    fn nobody_settled_is_an_election() {
        for from_ns in [2 * S, 10 * S + 1, 12 * S] {
            assert_eq!(places(Kind::Kill, from_ns, &[1], &[], |_| ()), r#"{"member":{"election":1}}"#);
        }
        assert_eq!(places(Kind::Kill, 13 * S, &[1], &[], |_| ()), r#"{"member":{"calm":1}}"#);
    }

    #[test]
    fn each_component_that_is_hit_counts_once() {
        let both = r#"{"member":{"calm":1},"node":{"calm":1}}"#;
        assert_eq!(places(Kind::NodePartition, 20 * S, &[0, 1], &[3, 4], |_| ()), both);
        assert_eq!(places(Kind::ContainerSick, 20 * S, &[], &[3, 4], |_| ()), r#"{"container":{"calm":1}}"#);
    }

    #[test]
    fn a_rollout_comes_before_another_fault() {
        let beside = |trial: &mut Record| {
            let other = Strike { fault: 2, from_ns: 19 * S, until_ns: 21 * S, ..trial.strikes[0].clone() };
            trial.strikes.push(Strike { kind: Kind::Pause, ..other });
        };
        assert_eq!(places(Kind::NodeKill, 20 * S, &[], &[1], beside), r#"{"node":{"beside":1}}"#);
        let rolling = |trial: &mut Record| {
            beside(trial);
            trial.cluster.writes.push(UserWrite {
                invoked_ns: 15 * S,
                completed_ns: 16 * S,
                what: "roll".into(),
                object: "deployments default/app-1".into(),
                outcome: Answer::Ok { resource_version: 7 },
            });
        };
        assert_eq!(places(Kind::NodeKill, 20 * S, &[], &[1], rolling), r#"{"node":{"rollout":1}}"#);
    }
}
