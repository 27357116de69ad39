//! What happened to processes, and what they said, as a record has it.
//!
//! ```text
//! Happening { at, process, what } of all processes, in order of time -> tell -> observations, sights, marks
//! ```
//!
//! **Invariant:** a process that ends believes nothing any more (`who_dies_leads_nothing`), and a container that a new
//! process takes up runs on (`a_container_that_is_taken_up_has_not_started_again`).

use crate::logs::{Event, What};
use faults::Ns;
use record::{Container, Observation, Sight};
use std::collections::{BTreeMap, BTreeSet};

/// Whose process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// A server, by its number as a member of the store.
    Member(u32),
    /// A node's agent.
    Node(u32),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Happening {
    pub(crate) at_ns: Ns,
    pub(crate) host: Host,
    pub(crate) what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Happened {
    /// The process was started.
    Began,
    /// The process is gone.
    Ended,
    /// It said this.
    Said(What),
}

/// What is recorded of it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) observations: Vec<Observation>,
    pub(crate) sights: Vec<Sight>,
    pub(crate) marks: BTreeMap<String, u64>,
}

/// Tells it in order of time; what is said to happen at one time in the order that it is given in.
pub(crate) fn tell(mut happenings: Vec<Happening>) -> Told {
    happenings.sort_by_key(|happening| happening.at_ns);
    let mut teller = Teller::default();
    happenings.into_iter().for_each(|happening| teller.hear(happening));
    teller.told
}

#[derive(Default)]
struct Teller {
    told: Told,
    /// The term that each member believes it leads in.
    leading: BTreeMap<u32, u64>,
    /// The Leases that each member's process believes it holds, with their epochs.
    elected: BTreeMap<(u32, String), i64>,
    /// Containers that run, by node and the runtime's id.
    running: BTreeSet<(u32, String)>,
}

impl Teller {
    fn hear(&mut self, Happening { at_ns, host, what }: Happening) {
        match (host, what) {
            (Host::Member(member), Happened::Began) => {
                self.told.observations.push(Observation::Process { at_ns, member, up: true });
            }
            (Host::Member(member), Happened::Ended) => self.member_ends(at_ns, member),
            (Host::Node(node), Happened::Began) => self.told.sights.push(Sight::Agent { at_ns, node, up: true }),
            (Host::Node(node), Happened::Ended) => self.told.sights.push(Sight::Agent { at_ns, node, up: false }),
            (_, Happened::Said(What::Mark(text))) => *self.told.marks.entry(text).or_default() += 1,
            (Host::Member(member), Happened::Said(what)) => self.member_said(at_ns, member, what),
            (Host::Node(node), Happened::Said(What::Container { event, pod_uid, name, id })) => {
                self.container(event, Container { at_ns, node, pod_uid, name, id });
            }
            // No agent leads anything.
            (Host::Node(_), Happened::Said(_)) => {}
        }
    }

    fn member_ends(&mut self, at_ns: Ns, member: u32) {
        if let Some(term) = self.leading.remove(&member) {
            self.told.observations.push(Observation::StepsDown { at_ns, member, term });
        }
        let held: Vec<_> = self.elected.keys().filter(|(holder, _)| *holder == member).cloned().collect();
        for key in held {
            if let Some(epoch) = self.elected.remove(&key) {
                self.told.sights.push(Sight::Elected { at_ns, member, lease: key.1, epoch, leads: false });
            }
        }
        self.told.observations.push(Observation::Process { at_ns, member, up: false });
    }

    fn member_said(&mut self, at_ns: Ns, member: u32, what: What) {
        match what {
            What::Leads { term, leads: true } => {
                self.leading.insert(member, term);
                self.told.observations.push(Observation::Leads { at_ns, member, term });
            }
            What::Leads { term, leads: false } => {
                self.leading.remove(&member);
                self.told.observations.push(Observation::StepsDown { at_ns, member, term });
            }
            What::Commits { term, index, entry_term } => {
                self.told.observations.push(Observation::Commits { at_ns, member, term, index, entry_term });
            }
            What::Elected { lease, epoch, leads } => {
                let key = (member, lease.clone());
                if leads {
                    self.elected.insert(key, epoch);
                } else {
                    self.elected.remove(&key);
                }
                self.told.sights.push(Sight::Elected { at_ns, member, lease, epoch, leads });
            }
            What::Effect { controller, key } => {
                self.told.sights.push(Sight::Effect { at_ns, member, controller, key });
            }
            // Marks are heard already, and no server runs containers.
            What::Mark(_) | What::Container { .. } => {}
        }
    }

    fn container(&mut self, event: Event, container: Container) {
        let key = (container.node, container.id.clone());
        match event {
            Event::Started => {
                self.running.insert(key);
                self.told.sights.push(Sight::Started(container));
            }
            Event::Adopted => {
                // It may have died with its process on the way to saying that it started.
                if self.running.insert(key) {
                    self.told.sights.push(Sight::Started(container));
                }
            }
            Event::Exited(code) => {
                // A new process says again what had ended before it.
                if self.running.remove(&key) {
                    self.told.sights.push(Sight::Exited { container, code });
                }
            }
            Event::Signalled { kill } => self.told.sights.push(Sight::Signalled { container, kill }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ns: Ns, host: Host, what: Happened) -> Happening {
        Happening { at_ns, host, what }
    }

    #[test]
    fn who_dies_leads_nothing() {
        let member = Host::Member(1);
        let lease = || "kube-system/kube-scheduler".to_owned();
        let told = tell(vec![
            at(9, member, Happened::Ended),
            at(5, member, Happened::Said(What::Leads { term: 4, leads: true })),
            at(6, member, Happened::Said(What::Elected { lease: lease(), epoch: 2, leads: true })),
            at(0, member, Happened::Began),
            at(7, member, Happened::Said(What::Mark("vote granted".into()))),
        ]);
        assert_eq!(
            told.observations,
            [
                Observation::Process { at_ns: 0, member: 1, up: true },
                Observation::Leads { at_ns: 5, member: 1, term: 4 },
                Observation::StepsDown { at_ns: 9, member: 1, term: 4 },
                Observation::Process { at_ns: 9, member: 1, up: false },
            ]
        );
        let elected = |at_ns, leads| Sight::Elected { at_ns, member: 1, lease: lease(), epoch: 2, leads };
        assert_eq!(told.sights, [elected(6, true), elected(9, false)]);
        assert_eq!(told.marks, BTreeMap::from([("vote granted".to_owned(), 1)]));
    }

    #[test]
    fn a_container_that_is_taken_up_has_not_started_again() {
        let container = |at_ns, id: &str, event| {
            let (pod_uid, name, id) = ("u".to_owned(), "web".to_owned(), id.to_owned());
            at(at_ns, Host::Node(0), Happened::Said(What::Container { event, pod_uid, name, id }))
        };
        let told = tell(vec![
            container(1, "a", Event::Started),
            at(2, Host::Node(0), Happened::Ended),
            at(3, Host::Node(0), Happened::Began),
            container(4, "a", Event::Adopted),
            container(5, "b", Event::Adopted),
            container(6, "a", Event::Exited(1)),
        ]);
        let shapes: Vec<String> = told
            .sights
            .iter()
            .map(|sight| match sight {
                Sight::Started(it) => format!("{} starts {}", it.at_ns, it.id),
                Sight::Exited { container: it, code } => format!("{} exits {} {code}", it.at_ns, it.id),
                Sight::Agent { at_ns, up, .. } => format!("{at_ns} {up}"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shapes, ["1 starts a", "2 false", "3 true", "5 starts b", "6 exits a 1"]);
    }
}
