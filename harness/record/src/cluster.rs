//! What is seen of an orchestrator in a trial: its containers, its nodes, what its users asked, what its Services
//! answered, and how its processes stood at the end.
//!
//! Objects are not here: every change of one is a change of a key below `/registry/` in
//! [`Observation::Applied`](crate::Observation::Applied), whose value is the object as stored.

use crate::Twin;
use faults::Ns;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an orchestrator's part of a trial is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Machines that run pods.
    pub nodes: u32,
    /// Zones that they are spread over, in turn.
    pub zones: u32,
    /// Deployments, each with a Service and some with a budget, that users keep changing.
    pub apps: u32,
    /// Pods that all Deployments together may ask for.
    pub pods: u32,
    /// Writes of users per thousand simulated seconds.
    pub writes_per_ks: u32,
    /// Calls of Services per simulated second.
    pub calls_per_s: u32,
}

/// What was seen of an orchestrator. Empty in the record of a trial without one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterHistory {
    /// What happened to containers, nodes and leaders, in order of time; exact.
    pub sights: Vec<Sight>,
    /// What users asked of the API, in order of invocation.
    pub writes: Vec<UserWrite>,
    /// Calls of Services, in order of invocation.
    pub calls: Vec<Call>,
    /// How the processes stood when the trial ended.
    pub end: EndState,
    /// Requests that all API servers answered, per simulated second since the trial began.
    pub requests: Vec<u64>,
    /// The same trial without faults, to compare with; `None` where none was run.
    pub twin: Option<Twin>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Sight {
    /// A container really started.
    Started(Container),
    /// A container was asked to end (SIGTERM) or made to (SIGKILL).
    Signalled {
        /// Which.
        container: Container,
        /// SIGKILL instead of SIGTERM.
        kill: bool,
    },
    /// A container really ended.
    Exited {
        /// Which.
        container: Container,
        /// Its exit code.
        code: i32,
    },
    /// The containers of a node are gone with its power or with the runtime that held them.
    NodeDown {
        /// When.
        at_ns: Ns,
        /// Which node.
        node: u32,
        /// Its disk is gone too.
        wiped: bool,
    },
    /// An agent's process began or ended.
    Agent {
        /// When.
        at_ns: Ns,
        /// On which node.
        node: u32,
        /// Whether it runs from now on.
        up: bool,
    },
    /// A process began or ceased to believe that it leads a group of controllers.
    Elected {
        /// When.
        at_ns: Ns,
        /// Host number of the control plane.
        member: u32,
        /// The group's Lease, `namespace/name`.
        lease: String,
        /// `spec.leaseTransitions` of its term.
        epoch: i64,
        /// Whether it believes so from now on.
        leads: bool,
    },
    /// A leader began one write of a plan.
    Effect {
        /// When.
        at_ns: Ns,
        /// Host number of the control plane.
        member: u32,
        /// Whose plan.
        controller: String,
        /// About what: `namespace/name`, or as the controller names its keys.
        key: String,
    },
}

impl Sight {
    /// When it happened.
    pub fn at_ns(&self) -> Ns {
        match self {
            Sight::Started(container) | Sight::Signalled { container, .. } | Sight::Exited { container, .. } => {
                container.at_ns
            }
            Sight::NodeDown { at_ns, .. }
            | Sight::Agent { at_ns, .. }
            | Sight::Elected { at_ns, .. }
            | Sight::Effect { at_ns, .. } => *at_ns,
        }
    }
}

/// A container, and when something happened to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// When.
    pub at_ns: Ns,
    /// On which node.
    pub node: u32,
    /// UID of its pod.
    pub pod_uid: String,
    /// Its name in the pod.
    pub name: String,
    /// The runtime's id of this very container.
    pub id: String,
}

/// A request of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserWrite {
    /// When it was asked.
    pub invoked_ns: Ns,
    /// When it was answered or given up.
    pub completed_ns: Ns,
    /// What: `scale`, `roll`, `create`, `delete`, `evict`, `cordon`, ...
    pub what: String,
    /// Of which object: `deployments default/app-1`.
    pub object: String,
    /// What came of it.
    pub outcome: Answer,
}

/// What the API answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Ok {
        /// The object's version after it; 0 if the answer names none.
        resource_version: i64,
    },
    /// Refused, without effect.
    Refused {
        /// HTTP code.
        code: u16,
        /// Upstream's reason.
        reason: String,
    },
    /// No answer: it may have happened, may yet happen, or never.
    Unknown {
        /// What the client saw.
        why: String,
    },
}

/// A call of a Service by a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// When.
    pub invoked_ns: Ns,
    /// When it was answered or given up.
    pub completed_ns: Ns,
    /// From which client host.
    pub client: u32,
    /// The Service, `namespace/name`.
    pub service: String,
    /// By its name, through cluster DNS, or by its cluster IP.
    pub by_name: bool,
    /// UID of the pod that answered; what went wrong otherwise.
    pub answer: Result<String, String>,
}

/// How the processes stood when the trial ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndState {
    /// Of each process that follows the API, by a name such as `s1/kube-controller-manager` or `n3/kubelet`.
    pub caches: BTreeMap<String, Cached>,
    /// Requests that the API servers which run had answered, by verb, resource and code.
    pub requests: BTreeMap<String, u64>,
    /// Of each node, by its number: address of a Service, `ip:port`, and the addresses behind it, in order.
    pub proxies: BTreeMap<u32, BTreeMap<String, Vec<String>>>,
    /// The most keys that were seen to wait in each queue, by process and queue, and the longest that one had been due, in
    /// nanoseconds. They are looked at every few seconds of the whole trial.
    pub queues: BTreeMap<String, (u64, Ns)>,
}

/// What a process knew of one or more kinds: versions by registry key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cached {
    /// The kinds that it follows wholly, as registry prefixes such as `/registry/core/pods/`.
    pub prefixes: Vec<String>,
    /// `resourceVersion` of each object that it knew, by registry key.
    pub objects: BTreeMap<String, i64>,
}
