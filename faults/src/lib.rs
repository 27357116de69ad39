//! Faults as values: what, where, from when, for how long; and the schedules drawn from a seed.
//!
//! A [`Schedule`] is drawn before the trial and kept in its record, so that it can be edited, shrunk and replayed
//! without shifting any other random choice. The same values drive the simulator and real processes: this crate knows
//! neither.
//!
//! ```text
//! seed -> draw(swarm, seed) -> Schedule { faults } -> sim applies each at its time -> record: what really struck
//!                                  |      ^ search: mutate(schedule, another one, seed)
//!                                  '------'
//! ```
//!
//! Times are nanoseconds of true time since the trial began.

use serde::{Deserialize, Serialize};

mod draw;
mod kind;
mod members;
mod mutate;
mod nodes;
pub use draw::{Hosts, MOMENTS, Swarm, draw};
pub use members::freeze;
pub use mutate::{Bounds, mutate};

/// True time since the trial began, in nanoseconds.
pub type Ns = u64;

/// Everything that is to go wrong in a trial, in order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// In order of `at`; their ids are unique and survive editing.
    pub faults: Vec<Fault>,
}

/// One fault: it strikes when its trigger comes, lasts `for_ns`, and is then healed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Names this fault in logs, records and shrunk schedules.
    pub id: u32,
    /// How reports count it. Says no more than `what` does, given the size of the cluster.
    pub kind: Kind,
    /// When it strikes.
    pub when: When,
    /// How long until it is healed. For a kill or a power loss: until the process is started again.
    pub for_ns: Ns,
    /// What goes wrong, and where.
    pub what: What,
}

/// When a fault strikes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum When {
    /// At this time.
    At(Ns),
    /// `delay_ns` after the first time, from `from` on, that a member says the mark `mark`. The member that said it is
    /// what [`Target::Marked`] means.
    Marked {
        /// Not before this time.
        from: Ns,
        /// Text of the mark.
        mark: String,
        /// From the mark to the strike.
        delay_ns: Ns,
    },
    /// At the very instant at which a member says for the `nth` time, from `from` on, that it is about to perform such a
    /// write of a plan, or, not `before`, that it knows what came of it. Nothing that the process does after that instant
    /// is seen by anybody if the fault ends it. The member that said it is what [`Target::Marked`] means.
    Effect {
        /// Not before this time.
        from: Ns,
        /// Counted from 1, over all members.
        nth: u32,
        /// Only writes with this number in their plan, from 0, or a later one are counted: from 1 on, there is a write of
        /// the same plan before.
        index: u64,
        /// Before the write is sent, or after its answer is known.
        before: bool,
    },
}

/// Which hosts a fault is aimed at; resolved when it strikes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// The store's member with this number, counted from 0.
    Member(u32),
    /// Several members.
    Members(Vec<u32>),
    /// Whichever member last said that it leads; member 0 if none has.
    Leader,
    /// The member after the leader in order of number, so never the leader itself.
    Follower,
    /// Every member that believes that it leads: two while one of them does not know of the other. As [`Target::Leader`]
    /// if none does.
    Leaders,
    /// The member that said what [`When::Marked`] or [`When::Effect`] waited for; member 0 without that.
    Marked,
    /// The client host with this number, counted from 0.
    Client(u32),
    /// The node with this number, counted from 0.
    Node(u32),
    /// Several nodes.
    Nodes(Vec<u32>),
}

/// Shape of a partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Cut {
    /// The targets and all others hear nothing of each other, clients included.
    Symmetric,
    /// What the targets say is lost; they hear everything.
    Outbound,
    /// What is said to the targets is lost; they are heard.
    Inbound,
    /// The targets and the other members hear nothing of each other; clients hear both.
    Peers,
    /// The members fall into two halves that both hear the target but not each other.
    Bridge,
    /// Of the other members, the target and the next one after it still hear each other; that one hears everybody.
    Thread,
    /// The targets and the store's members hear nothing of each other; the targets and all others do.
    ControlPlane,
    /// Each member hears a majority, and each another one: the members stand in a ring, the targets first and as they are
    /// named, then the others by number, and hear their neighbours on both sides, as many as make a majority. In a ring of
    /// three the first one hears both others, as by [`Cut::Bridge`], because all would be neighbours. Clients hear all.
    Ring,
}

/// What an affected disk does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DiskFault {
    /// Each write fails with EIO with this probability, in thousandths.
    WriteErrors(u32),
    /// Each sync fails with EIO with this probability, in thousandths; what it should have made durable never is.
    SyncErrors(u32),
    /// Each read fails with EIO with this probability, in thousandths.
    ReadErrors(u32),
    /// No operation completes until the fault is healed.
    Stall,
    /// Every operation takes this many times as long.
    Slow(u32),
    /// Nothing that needs new space succeeds.
    Full,
}

/// What affected containers do: those that run when the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerFault {
    /// All that run exit with code 1, at once and once.
    Crash,
    /// All that run are killed for want of memory, at once and once.
    OutOfMemory,
    /// They take connections and answer none, until the fault is healed.
    Hang,
    /// They answer probes with an error, until the fault is healed.
    Unready,
    /// They answer probes with an error every other time, until the fault is healed.
    Flap,
    /// They ignore SIGTERM, until the fault is healed.
    IgnoreTerm,
    /// They answer only after this long, in milliseconds, until the fault is healed.
    Slow(u64),
    /// Whatever runs goes on, but images that the node does not have cannot be pulled, until the fault is healed.
    NoPulls,
}

/// A part of a process that can stand still while the rest of it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Component {
    /// A member's store: it takes connections and answers nobody.
    Store,
    /// What an API server tells its watches.
    ApiNews,
    /// What answers an API server's clients.
    ApiServer,
    /// What decides in controllers; their caches and what they have begun go on, and so does their Lease.
    Controllers,
    /// What renews the controllers' Lease; they themselves go on until they see that it has run out.
    Election,
    /// What decides in the scheduler, its Lease included.
    Scheduler,
    /// All caches of a process.
    Informers,
    /// What begins a node agent's work on pods.
    Pods,
    /// What tells a node's pods' statuses.
    Statuses,
    /// What renews a node's Lease.
    NodeLease,
    /// A node's probes.
    Probes,
    /// A node's tables of Services.
    Proxy,
}

impl Component {
    /// Of members with an orchestrator.
    pub const OF_MEMBERS: [Component; 7] = [
        Component::Store,
        Component::ApiNews,
        Component::ApiServer,
        Component::Controllers,
        Component::Election,
        Component::Scheduler,
        Component::Informers,
    ];

    /// Of nodes.
    pub const OF_NODES: [Component; 6] = [
        Component::Pods,
        Component::Statuses,
        Component::NodeLease,
        Component::Probes,
        Component::Proxy,
        Component::Informers,
    ];
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum What {
    /// The network falls apart.
    Partition {
        /// One side of it.
        side: Target,
        /// How.
        cut: Cut,
    },
    /// Packets on all links from and to the target are lost with this probability, in thousandths.
    Loss {
        /// Whose links.
        target: Target,
        /// Probability per packet, in thousandths.
        permille: u32,
    },
    /// All links from and to the target take longer.
    Delay {
        /// Whose links.
        target: Target,
        /// Added to each packet's way.
        delay_ns: Ns,
        /// Added at random on top, up to this.
        jitter_ns: Ns,
    },
    /// All links from and to the target carry no more than this.
    Rate {
        /// Whose links.
        target: Target,
        /// Of each link in each direction, all streams together.
        bytes_per_second: u64,
    },
    /// What enters the links from the target waits there and comes out all at once.
    Hold {
        /// Whose links.
        target: Target,
    },
    /// The process is killed; its host and what it wrote live on. It is started again at the fault's end.
    Kill {
        /// Whose process.
        target: Target,
    },
    /// The process is asked to end, as by SIGTERM, and started again at the fault's end. In a simulator, which has no
    /// signals, it is killed.
    Restart {
        /// Whose process.
        target: Target,
    },
    /// The host loses power: unsynced writes are lost, torn or reordered. Power is back at the fault's end.
    PowerLoss {
        /// Which hosts.
        target: Target,
    },
    /// The process is stopped and continued at the fault's end; its host's kernel goes on answering.
    Pause {
        /// Whose process.
        target: Target,
    },
    /// The wall clock is wrong by this much until the fault's end.
    ClockOffset {
        /// Whose clock.
        target: Target,
        /// Nanoseconds ahead (or behind, if negative).
        offset_ns: i64,
    },
    /// Both clocks run at this rate until the fault's end, in thousandths of true time.
    ClockDrift {
        /// Whose clocks.
        target: Target,
        /// 1000 is true time.
        permille: u32,
    },
    /// The wall clock steps forth and back every `every_ns` until the fault's end.
    ClockSteps {
        /// Whose clock.
        target: Target,
        /// Size of a step.
        step_ns: i64,
        /// From step to step.
        every_ns: Ns,
    },
    /// Both clocks stand still until the fault's end, and with them every timer.
    ClockFreeze {
        /// Whose clocks.
        target: Target,
    },
    /// Containers on the target misbehave.
    Containers {
        /// On which nodes.
        target: Target,
        /// How.
        fault: ContainerFault,
    },
    /// The host loses power and its disk for good. Power is back at the fault's end, with an empty disk.
    Lost {
        /// Which hosts.
        target: Target,
    },
    /// Every connection between the target and the store's members is reset, at once and once.
    Reset {
        /// Whose connections.
        target: Target,
    },
    /// The disk misbehaves.
    Disk {
        /// Whose disk.
        target: Target,
        /// How.
        fault: DiskFault,
    },
    /// What the other members say to the target waits, and comes out all at once at the fault's end. What the target
    /// says passes, and so does whatever clients and nodes say and hear.
    Lag {
        /// Which members.
        target: Target,
    },
    /// What the target says to one member waits, and comes out all at once at the fault's end. Several of these, which begin
    /// and end one after the other, let links go in another order than they were stopped in.
    Clog {
        /// Who is not heard.
        target: Target,
        /// The member that does not hear.
        to: u32,
    },
    /// What the target's API server says on one connection waits, and comes out all at once at the fault's end: of those
    /// that are open when this strikes and on which it has news, such as watches, the `nth`, counted round, from the one
    /// that had news last. So one informer alone lags. To a stream it is the same whether events are withheld or
    /// coalesced: it is a delay to who is more patient than the fault is long, and a broken watch to others.
    Withhold {
        /// Which member.
        target: Target,
        /// Which connection.
        nth: u32,
    },
    /// Each connection to the target's API server that is open when this strikes is reset once the server has sent so
    /// many more bytes on it, if it does so until the fault's end. Those bytes arrive, and what follows does not.
    Fuse {
        /// Which members.
        target: Target,
        /// Bytes that still pass.
        bytes: u64,
    },
    /// What the target shows API servers, to say who it is, ends at the instant at which this strikes, and something new is
    /// given out at the fault's end. Whether it has ended yet each server tells by its own wall clock. Requests are refused
    /// with 401 meanwhile; watches that are open go on.
    Expire {
        /// Whose credentials: those of a node's agent, or of a member's controllers and scheduler.
        target: Target,
    },
    /// The process is killed, and started again at the fault's end as another program: one that knows the newest of the
    /// store's formats, or one that knows the first alone. Where any member's program is replaced, all begin with the older
    /// one.
    Replace {
        /// Which members.
        target: Target,
        /// Whether by the newer program.
        newer: bool,
    },
    /// Both clocks jump ahead, at once and once, and go on from there: as those of a machine that was suspended. The fault's
    /// end changes nothing.
    ClockJump {
        /// Whose clocks.
        target: Target,
        /// How far.
        ahead_ns: Ns,
    },
    /// One component of the process stands still, as in a deadlock, until the fault's end or the process's.
    Hang {
        /// Whose process.
        target: Target,
        /// Which part of it.
        component: Component,
    },
    /// The process is killed, and started again at the fault's end with another configuration, which it keeps: other bounds,
    /// intervals and sizes, none of which what is promised depends on.
    Reconfigure {
        /// Which members.
        target: Target,
        /// Stands for one configuration; 0 is what all begin with.
        setting: u32,
    },
    /// So many callers, who are nobody in particular and do not wait when they are told to, ask the target's API server as
    /// fast as it answers.
    Flood {
        /// Which members.
        target: Target,
        /// How many at once.
        callers: u32,
    },
}

/// The target of a fault, borrowed as the fault is.
macro_rules! target_of {
    ($what:expr) => {
        match $what {
            What::Partition { side: target, .. }
            | What::Loss { target, .. }
            | What::Delay { target, .. }
            | What::Rate { target, .. }
            | What::Hold { target }
            | What::Kill { target }
            | What::Restart { target }
            | What::PowerLoss { target }
            | What::Pause { target }
            | What::ClockOffset { target, .. }
            | What::ClockDrift { target, .. }
            | What::ClockSteps { target, .. }
            | What::ClockFreeze { target }
            | What::Containers { target, .. }
            | What::Lost { target }
            | What::Reset { target }
            | What::Disk { target, .. }
            | What::Lag { target }
            | What::Clog { target, .. }
            | What::Withhold { target, .. }
            | What::Fuse { target, .. }
            | What::Expire { target }
            | What::Replace { target, .. }
            | What::ClockJump { target, .. }
            | What::Hang { target, .. }
            | What::Reconfigure { target, .. }
            | What::Flood { target, .. } => target,
        }
    };
}

impl What {
    /// Whom it is aimed at.
    pub fn target(&self) -> &Target {
        target_of!(self)
    }

    /// The same, to aim it at somebody else.
    pub fn target_mut(&mut self) -> &mut Target {
        target_of!(self)
    }
}

/// The kinds that schedules switch on and off and that reports count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`Cut::Symmetric`] or [`Cut::Peers`] around one member.
    PartitionOne,
    /// [`Cut::Symmetric`] around a minority that is not one member alone, or around clients with members.
    PartitionMinority,
    /// [`Cut::Symmetric`] such that the side without clients is a majority, or no majority is left.
    PartitionMajority,
    /// [`Cut::Outbound`] or [`Cut::Inbound`].
    PartitionOneWay,
    /// [`Cut::Bridge`] or [`Cut::Thread`].
    PartitionBridge,
    /// [`What::Loss`].
    LinkLoss,
    /// [`What::Delay`].
    LinkDelay,
    /// [`What::Hold`].
    LinkHold,
    /// [`What::Kill`].
    Kill,
    /// [`What::PowerLoss`].
    PowerLoss,
    /// [`What::Pause`].
    Pause,
    /// [`What::ClockOffset`].
    ClockOffset,
    /// [`What::ClockDrift`].
    ClockDrift,
    /// [`What::ClockSteps`].
    ClockSteps,
    /// [`What::ClockFreeze`].
    ClockFreeze,
    /// [`DiskFault::WriteErrors`], [`DiskFault::SyncErrors`], [`DiskFault::ReadErrors`].
    DiskError,
    /// [`DiskFault::Stall`], [`DiskFault::Slow`].
    DiskStall,
    /// [`DiskFault::Full`].
    DiskFull,
    /// [`Cut::Symmetric`] or [`Cut::ControlPlane`] around nodes.
    NodePartition,
    /// [`What::Loss`], [`What::Delay`] or [`What::Rate`] of nodes' links.
    NodeLink,
    /// [`What::Kill`] of node agents.
    NodeKill,
    /// [`What::PowerLoss`] of nodes.
    NodePowerLoss,
    /// [`What::Pause`] of node agents.
    NodePause,
    /// [`What::ClockOffset`], [`What::ClockDrift`], [`What::ClockSteps`] or [`What::ClockJump`] of nodes.
    NodeClock,
    /// [`What::Disk`] of nodes.
    NodeDisk,
    /// [`What::Lost`] of a node.
    NodeLost,
    /// [`What::PowerLoss`] of all nodes of a zone.
    ZoneLost,
    /// [`What::Containers`] with [`ContainerFault::Crash`] or `OutOfMemory`.
    ContainerCrash,
    /// [`What::Containers`] with [`ContainerFault::Hang`], `Unready` or `Flap`.
    ContainerSick,
    /// [`What::Containers`] with [`ContainerFault::IgnoreTerm`] or `Slow`.
    ContainerSlow,
    /// [`What::Reset`].
    Reset,
    /// [`What::Lag`].
    ApiLag,
    /// [`What::Fuse`] that lets nothing pass: a response is lost after its write was applied.
    ResponseDrop,
    /// [`What::Fuse`] that lets something pass: a watch ends in the middle of a revision or of an event.
    WatchCut,
    /// [`What::Kill`] at a [`When::Effect`].
    CrashPoint,
    /// [`What::Restart`]; of real processes alone.
    Restart,
    /// [`What::Restart`] of node agents; of real processes alone.
    NodeRestart,
    /// [`Cut::Ring`].
    PartitionRing,
    /// [`Cut::Symmetric`] or [`Cut::Peers`] around all that believe to lead, and what makes them two.
    PartitionPrimaries,
    /// [`What::Clog`].
    LinkUnclog,
    /// [`What::Withhold`].
    EventsWithheld,
    /// [`What::Expire`].
    CredentialsExpired,
    /// [`What::Replace`].
    RollingUpgrade,
    /// [`What::Rate`].
    LinkRate,
    /// [`What::Containers`] with [`ContainerFault::NoPulls`].
    ImagePull,
    /// [`What::ClockJump`].
    ClockJump,
    /// [`What::Hang`].
    ComponentHang,
    /// [`What::Reconfigure`].
    ConfigChange,
    /// [`What::Flood`].
    ApiOverload,
    /// A minority of the members that is cut off, dead or stopped until the trial's end, instead of healed.
    Frozen,
}
