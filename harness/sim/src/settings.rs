//! With what a member's process is configured: what it begins with, and what a change of configuration makes of it.

use std::time::Duration;

use record::Config;
use seaworthy::ControlConfig;
use store::server::MemberConfig;

/// How a store is set up for a trial.
struct StoreSetting {
    /// Snapshots come this often.
    snapshot_entries: u64,
    /// And so many entries before one remain for members which were away for less.
    catch_up_entries: u64,
    /// Of the log's files: such that several are begun and recycled in a trial, and that a full disk is noticed.
    segment_bytes: u32,
}

/// A member which was away for ten seconds needs a snapshot.
const STORE: StoreSetting = StoreSetting { snapshot_entries: 150, catch_up_entries: 50, segment_bytes: 64 * 1024 };

/// The same with an orchestrator's objects and as many writes as it makes: a snapshot holds megabytes.
const CLUSTER_STORE: StoreSetting =
    StoreSetting { snapshot_entries: 1_500, catch_up_entries: 500, segment_bytes: 2 * 1024 * 1024 };

/// What is so old is compacted, and Events go after so long: a minute each, instead of five and sixty, so that both
/// happen several times in a trial, and members, snapshots and memory are not mostly Events.
const HISTORY: Duration = Duration::from_secs(60);
const EVENT_TTL: Duration = Duration::from_secs(60);

/// So few requests at once that a flood and a store without a leader use up what there is for some: a tenth of the default.
const MAX_REQUESTS_IN_FLIGHT: usize = 60;

/// One configuration of members. Each of its numbers is half, once or twice the usual one; with 0 all are the usual ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings(pub(crate) u32);

impl Settings {
    pub(crate) fn store(self, config: &Config, member: MemberConfig) -> MemberConfig {
        let usual = if config.cluster.is_some() { CLUSTER_STORE } else { STORE };
        MemberConfig {
            snapshot_entries: self.of(0, usual.snapshot_entries),
            catch_up_entries: self.of(1, usual.catch_up_entries),
            segment_bytes: self.of(2, usual.segment_bytes.into()).try_into().unwrap_or(usual.segment_bytes),
            progress_interval: self.time(3, member.progress_interval),
            ..member
        }
    }

    pub(crate) fn control(self, mut config: ControlConfig) -> ControlConfig {
        config.api.event_ttl = EVENT_TTL;
        config.api.history = Some(self.time(4, HISTORY));
        config.api.bookmark_interval = self.time(5, config.api.bookmark_interval);
        let usual = MAX_REQUESTS_IN_FLIGHT as u64;
        config.api.max_requests_in_flight = self.of(6, usual).try_into().unwrap_or(MAX_REQUESTS_IN_FLIGHT);
        config
    }

    /// The number at a place: half, once or twice what is usual.
    fn of(self, place: u32, usual: u64) -> u64 {
        match self.0 / 3_u32.pow(place) % 3 {
            0 => usual,
            1 => usual / 2,
            _ => usual * 2,
        }
    }

    fn time(self, place: u32, usual: Duration) -> Duration {
        let ms = u64::try_from(usual.as_millis()).unwrap_or(u64::MAX / 2);
        Duration::from_millis(self.of(place, ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_a_setting_is_a_number_of_its_own() {
        let all = |setting: u32| (0..7).map(|place| Settings(setting).of(place, 10)).collect::<Vec<_>>();
        assert_eq!(all(0), [10; 7]);
        assert_eq!(all(1 + 2 * 3 + 9), [5, 20, 5, 10, 10, 10, 10]);
        assert!((0..3_u32.pow(7)).any(|setting| all(setting) == [20; 7]));
    }
}
