//! The kinds' names.

use crate::{ContainerFault, Cut, DiskFault, Kind, What};

impl Kind {
    /// Those that strike a store, its clients and their links, in order.
    pub const STORE: [Kind; 26] = [
        Kind::PartitionOne,
        Kind::PartitionMinority,
        Kind::PartitionMajority,
        Kind::PartitionOneWay,
        Kind::PartitionBridge,
        Kind::LinkLoss,
        Kind::LinkDelay,
        Kind::LinkHold,
        Kind::Kill,
        Kind::PowerLoss,
        Kind::Pause,
        Kind::ClockOffset,
        Kind::ClockDrift,
        Kind::ClockSteps,
        Kind::ClockFreeze,
        Kind::DiskError,
        Kind::DiskStall,
        Kind::DiskFull,
        Kind::PartitionRing,
        Kind::PartitionPrimaries,
        Kind::LinkUnclog,
        Kind::RollingUpgrade,
        Kind::LinkRate,
        Kind::ClockJump,
        Kind::ComponentHang,
        Kind::ConfigChange,
    ];

    /// Those that strike nodes, what runs on them and the control plane above them, in order.
    pub const CLUSTER: [Kind; 21] = [
        Kind::NodePartition,
        Kind::NodeLink,
        Kind::NodeKill,
        Kind::NodePowerLoss,
        Kind::NodePause,
        Kind::NodeClock,
        Kind::NodeDisk,
        Kind::NodeLost,
        Kind::ZoneLost,
        Kind::ContainerCrash,
        Kind::ContainerSick,
        Kind::ContainerSlow,
        Kind::Reset,
        Kind::ApiLag,
        Kind::ResponseDrop,
        Kind::WatchCut,
        Kind::CrashPoint,
        Kind::EventsWithheld,
        Kind::CredentialsExpired,
        Kind::ImagePull,
        Kind::ApiOverload,
    ];

    /// Those that only real processes know, in order.
    pub const REAL: [Kind; 2] = [Kind::Restart, Kind::NodeRestart];

    /// All that the simulator knows and that a schedule chooses from, in order. [`Kind::Frozen`] is drawn apart.
    pub fn all() -> impl Iterator<Item = Kind> {
        Kind::STORE.into_iter().chain(Kind::CLUSTER)
    }

    /// Whether nobody heals it when the time of faults is over.
    pub fn outlasts(self) -> bool {
        self == Kind::Frozen
    }

    /// Whether a fault that does this can be of this kind; whom it is aimed at, and when, apart.
    pub fn fits(self, what: &What) -> bool {
        match self {
            Kind::PartitionOne | Kind::PartitionMinority | Kind::PartitionMajority => {
                matches!(what, What::Partition { cut: Cut::Symmetric | Cut::Peers, .. })
            }
            Kind::PartitionOneWay => matches!(what, What::Partition { cut: Cut::Outbound | Cut::Inbound, .. }),
            Kind::PartitionBridge => matches!(what, What::Partition { cut: Cut::Bridge | Cut::Thread, .. }),
            Kind::PartitionRing => matches!(what, What::Partition { cut: Cut::Ring, .. }),
            Kind::PartitionPrimaries => matches!(what, What::Partition { cut: Cut::Symmetric | Cut::Peers, .. }),
            Kind::LinkUnclog => matches!(what, What::Clog { .. }),
            Kind::EventsWithheld => matches!(what, What::Withhold { .. }),
            Kind::CredentialsExpired => matches!(what, What::Expire { .. }),
            Kind::RollingUpgrade => matches!(what, What::Replace { .. }),
            Kind::ClockJump => matches!(what, What::ClockJump { .. }),
            Kind::ComponentHang => matches!(what, What::Hang { .. }),
            Kind::ConfigChange => matches!(what, What::Reconfigure { .. }),
            Kind::ApiOverload => matches!(what, What::Flood { .. }),
            Kind::Frozen => matches!(
                what,
                What::Partition { cut: Cut::Symmetric, .. }
                    | What::Pause { .. }
                    | What::PowerLoss { .. }
                    | What::Kill { .. }
            ),
            Kind::NodePartition => matches!(what, What::Partition { cut: Cut::Symmetric | Cut::ControlPlane, .. }),
            Kind::LinkLoss => matches!(what, What::Loss { .. }),
            Kind::LinkDelay => matches!(what, What::Delay { .. }),
            Kind::LinkHold => matches!(what, What::Hold { .. }),
            Kind::LinkRate => matches!(what, What::Rate { .. }),
            Kind::NodeLink => matches!(what, What::Loss { .. } | What::Delay { .. } | What::Rate { .. }),
            Kind::Kill | Kind::NodeKill | Kind::CrashPoint => matches!(what, What::Kill { .. }),
            Kind::PowerLoss | Kind::NodePowerLoss | Kind::ZoneLost => matches!(what, What::PowerLoss { .. }),
            Kind::Pause | Kind::NodePause => matches!(what, What::Pause { .. }),
            Kind::ClockOffset => matches!(what, What::ClockOffset { .. }),
            Kind::ClockDrift => matches!(what, What::ClockDrift { .. }),
            Kind::ClockSteps => matches!(what, What::ClockSteps { .. }),
            Kind::ClockFreeze => matches!(what, What::ClockFreeze { .. }),
            Kind::NodeClock => {
                matches!(
                    what,
                    What::ClockOffset { .. }
                        | What::ClockDrift { .. }
                        | What::ClockSteps { .. }
                        | What::ClockJump { .. }
                )
            }
            Kind::DiskError => matches!(
                what,
                What::Disk {
                    fault: DiskFault::WriteErrors(_) | DiskFault::SyncErrors(_) | DiskFault::ReadErrors(_),
                    ..
                }
            ),
            Kind::DiskStall => matches!(what, What::Disk { fault: DiskFault::Stall | DiskFault::Slow(_), .. }),
            Kind::DiskFull => matches!(what, What::Disk { fault: DiskFault::Full, .. }),
            Kind::NodeDisk => matches!(what, What::Disk { .. }),
            Kind::NodeLost => matches!(what, What::Lost { .. }),
            Kind::ContainerCrash => {
                matches!(what, What::Containers { fault: ContainerFault::Crash | ContainerFault::OutOfMemory, .. })
            }
            Kind::ImagePull => matches!(what, What::Containers { fault: ContainerFault::NoPulls, .. }),
            Kind::ContainerSick => matches!(
                what,
                What::Containers { fault: ContainerFault::Hang | ContainerFault::Unready | ContainerFault::Flap, .. }
            ),
            Kind::ContainerSlow => {
                matches!(what, What::Containers { fault: ContainerFault::IgnoreTerm | ContainerFault::Slow(_), .. })
            }
            Kind::Reset => matches!(what, What::Reset { .. }),
            Kind::ApiLag => matches!(what, What::Lag { .. }),
            Kind::ResponseDrop => matches!(what, What::Fuse { bytes: 0, .. }),
            Kind::WatchCut => matches!(what, What::Fuse { bytes: 1.., .. }),
            Kind::Restart | Kind::NodeRestart => matches!(what, What::Restart { .. }),
        }
    }

    /// Its name in records, reports and streams of randomness.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PartitionOne => "partition-one",
            Kind::PartitionMinority => "partition-minority",
            Kind::PartitionMajority => "partition-majority",
            Kind::PartitionOneWay => "partition-one-way",
            Kind::PartitionBridge => "partition-bridge",
            Kind::LinkLoss => "link-loss",
            Kind::LinkDelay => "link-delay",
            Kind::LinkHold => "link-hold",
            Kind::Kill => "kill",
            Kind::PowerLoss => "power-loss",
            Kind::Pause => "pause",
            Kind::ClockOffset => "clock-offset",
            Kind::ClockDrift => "clock-drift",
            Kind::ClockSteps => "clock-steps",
            Kind::ClockFreeze => "clock-freeze",
            Kind::DiskError => "disk-error",
            Kind::DiskStall => "disk-stall",
            Kind::DiskFull => "disk-full",
            Kind::NodePartition => "node-partition",
            Kind::NodeLink => "node-link",
            Kind::NodeKill => "node-kill",
            Kind::NodePowerLoss => "node-power-loss",
            Kind::NodePause => "node-pause",
            Kind::NodeClock => "node-clock",
            Kind::NodeDisk => "node-disk",
            Kind::NodeLost => "node-lost",
            Kind::ZoneLost => "zone-lost",
            Kind::ContainerCrash => "container-crash",
            Kind::ContainerSick => "container-sick",
            Kind::ContainerSlow => "container-slow",
            Kind::Reset => "reset",
            Kind::ApiLag => "api-lag",
            Kind::ResponseDrop => "response-drop",
            Kind::WatchCut => "watch-cut",
            Kind::CrashPoint => "crash-point",
            Kind::Restart => "restart",
            Kind::NodeRestart => "node-restart",
            Kind::PartitionRing => "partition-ring",
            Kind::PartitionPrimaries => "partition-primaries",
            Kind::LinkUnclog => "link-unclog",
            Kind::EventsWithheld => "events-withheld",
            Kind::CredentialsExpired => "credentials-expired",
            Kind::RollingUpgrade => "rolling-upgrade",
            Kind::LinkRate => "link-rate",
            Kind::ImagePull => "image-pull",
            Kind::ClockJump => "clock-jump",
            Kind::ComponentHang => "component-hang",
            Kind::ConfigChange => "config-change",
            Kind::ApiOverload => "api-overload",
            Kind::Frozen => "frozen",
        }
    }
}
