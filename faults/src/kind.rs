//! The kinds' names.

use crate::Kind;

impl Kind {
    /// Those that strike a store, its clients and their links, in order.
    pub const STORE: [Kind; 18] = [
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
    ];

    /// Those that strike nodes, what runs on them and the control plane above them, in order.
    pub const CLUSTER: [Kind; 17] = [
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
    ];

    /// Those that only real processes know, in order.
    pub const REAL: [Kind; 2] = [Kind::Restart, Kind::NodeRestart];

    /// All that the simulator knows, in order.
    pub fn all() -> impl Iterator<Item = Kind> {
        Kind::STORE.into_iter().chain(Kind::CLUSTER)
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
        }
    }
}
