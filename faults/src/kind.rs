//! The kinds' names.

use crate::Kind;

impl Kind {
    /// All of them, in order.
    pub const ALL: [Kind; 18] = [
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
        }
    }
}
