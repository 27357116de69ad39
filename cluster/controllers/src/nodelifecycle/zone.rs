//! Zones: how much of each is down, and how fast its nodes may be tainted for eviction.
//!
//! | a zone's nodes | one node per |
//! |---|---|
//! | all down, in every zone | never: rather the control plane is cut off than everything dead |
//! | more than two and at least 55 % down, not all | never up to 50 nodes, else the secondary interval |
//! | otherwise | the primary interval |
//!
//! Nodes wait in line. All of it is forgotten at a restart; then a zone that has been tainted in already begins with
//! an empty bucket, so that changes of leader do not speed evictions up.

use crate::Config;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// From so many unready nodes on a zone can be partly down: with fewer, they are single failures.
const PARTIAL_MIN_UNREADY: usize = 3;

/// How much of a zone is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disruption {
    /// Little or nothing.
    Normal,
    /// A great part.
    Partial,
    /// Every node.
    Full,
}

/// The nodes of a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub ready: usize,
    pub unready: usize,
    /// Of these, how many have been tainted for eviction.
    pub tainted: usize,
}

impl Count {
    /// Upstream's `ComputeZoneState`.
    pub(super) fn disruption(self, config: &Config) -> Disruption {
        let total = self.ready + self.unready;
        if self.ready == 0 && self.unready > 0 {
            Disruption::Full
        } else if self.unready >= PARTIAL_MIN_UNREADY
            && self.unready * 100 >= config.unhealthy_zone_threshold_percent * total
        {
            Disruption::Partial
        } else {
            Disruption::Normal
        }
    }
}

/// At most one per interval, and none saved up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// `None`: never.
    interval: Option<Duration>,
    next_at: Duration,
}

impl Bucket {
    fn set(&mut self, interval: Option<Duration>, now: Duration) {
        if self.interval == interval {
            return;
        }
        // A bucket that is empty stays so: a change of the rate gives nothing away.
        let empty = self.interval.is_none() || now < self.next_at;
        if let (true, Some(interval)) = (empty, interval) {
            self.next_at = now + interval;
        }
        self.interval = interval;
    }
}

#[derive(Debug)]
struct Zone {
    disruption: Disruption,
    bucket: Bucket,
    line: VecDeque<String>,
}

/// What came of asking for a node to be tainted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is its turn.
    Now,
    /// Ask again after so long.
    After(Duration),
    /// Not while things are as they are.
    Never,
}

/// All zones.
#[derive(Debug, Default)]
pub(super) struct Zones {
    zones: BTreeMap<String, Zone>,
    all_down: bool,
}

impl Zones {
    /// Whether every zone is wholly down.
    pub(super) fn all_down(&self) -> bool {
        self.all_down
    }

    /// Takes in how the zones are now. Says whether a time in which everything was down ends with that.
    pub(super) fn update(&mut self, counts: &BTreeMap<String, Count>, config: &Config, now: Duration) -> bool {
        self.zones.retain(|name, _| counts.contains_key(name));
        let was_all_down = self.all_down;
        let mut counted = counts.values().filter(|count| count.ready + count.unready > 0).peekable();
        self.all_down = counted.peek().is_some() && counted.all(|count| count.disruption(config) == Disruption::Full);
        if self.all_down && !was_all_down {
            mark::sometimes!("every zone is wholly down");
        }
        for (name, count) in counts {
            let disruption = count.disruption(config);
            let interval = self.interval(*count, disruption, config);
            let zone = self.zones.entry(name.clone()).or_insert_with(|| Zone {
                disruption,
                bucket: Bucket {
                    interval,
                    next_at: if count.tainted > 0 { now + interval.unwrap_or_default() } else { now },
                },
                line: VecDeque::new(),
            });
            if zone.disruption != disruption && disruption == Disruption::Partial {
                mark::sometimes!("a zone is partly down");
            }
            zone.disruption = disruption;
            zone.bucket.set(interval, now);
            if self.all_down {
                zone.line.clear();
            }
        }
        was_all_down && !self.all_down
    }

    fn interval(&self, count: Count, disruption: Disruption, config: &Config) -> Option<Duration> {
        if self.all_down {
            return None;
        }
        match disruption {
            Disruption::Normal | Disruption::Full => Some(config.node_eviction_interval),
            Disruption::Partial => (count.ready + count.unready > config.large_cluster_size_threshold)
                .then_some(config.secondary_node_eviction_interval),
        }
    }

    /// A node asks to be tainted: it stands in line, and may go if it is first and one may go now. Who is first but does
    /// not come for `patience` after its time is overtaken.
    pub(super) fn ask(&mut self, zone: &str, node: &str, now: Duration, patience: Duration) -> Turn {
        let Some(zone) = self.zones.get_mut(zone).filter(|_| !self.all_down) else { return Turn::Never };
        let place = zone.line.iter().position(|name| name == node).unwrap_or_else(|| {
            zone.line.push_back(node.to_owned());
            zone.line.len() - 1
        });
        let Some(interval) = zone.bucket.interval else { return Turn::Never };
        let late = now >= zone.bucket.next_at + patience;
        if now >= zone.bucket.next_at && (place == 0 || late) {
            zone.line.remove(place);
            zone.bucket.next_at = now + interval;
            return Turn::Now;
        }
        let ahead = u32::try_from(place).unwrap_or(u32::MAX);
        let until = zone.bucket.next_at.saturating_sub(now) + interval.saturating_mul(ahead);
        // Never zero: the node ahead is asked for by its own key.
        Turn::After(until.max(Duration::from_millis(100)))
    }

    /// A node leaves the line.
    pub(super) fn leave(&mut self, zone: &str, node: &str) {
        if let Some(zone) = self.zones.get_mut(zone) {
            zone.line.retain(|name| name != node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    /// Per step: second, then ready and unready nodes per zone. All unready nodes ask every second for a minute.
    fn check(steps: &[(u64, &[(usize, usize)])], config: &Config, expect: Expect) {
        let mut zones = Zones::default();
        let mut tainted: Vec<String> = Vec::new();
        let mut log = String::new();
        for window in 0..steps.len() {
            let (from, zone_counts) = steps[window];
            let until = steps.get(window + 1).map_or(from + 60, |(second, _)| *second);
            for second in from..until {
                let now = Duration::from_secs(second);
                let count = |(index, (ready, unready)): (usize, &(usize, usize))| {
                    (format!("z{index}"), Count { ready: *ready, unready: *unready, tainted: 0 })
                };
                let counts = zone_counts.iter().enumerate().map(count).collect();
                if zones.update(&counts, config, now) {
                    writeln!(log, "{second} back").unwrap();
                }
                for (index, (_, unready)) in zone_counts.iter().enumerate() {
                    for node in 0..*unready {
                        let name = format!("z{index}n{node}");
                        let patience = config.node_monitor_period;
                        if !tainted.contains(&name)
                            && zones.ask(&format!("z{index}"), &name, now, patience) == Turn::Now
                        {
                            writeln!(log, "{second} {name}").unwrap();
                            tainted.push(name);
                        }
                    }
                }
            }
        }
        expect.assert_eq(&log);
    }

    #[test]
    fn a_healthy_zone_loses_one_node_per_ten_seconds() {
        check(
            &[(0, &[(10, 3)])],
            &Config::default(),
            expect![[r#"
                0 z0n0
                10 z0n1
                20 z0n2
            "#]],
        );
    }

    #[test]
    fn a_wholly_lost_zone_is_evicted_while_another_lives_and_never_when_all_are_lost() {
        check(
            &[(0, &[(5, 0), (0, 2)])],
            &Config::default(),
            expect![[r#"
                0 z1n0
                10 z1n1
            "#]],
        );
        check(&[(0, &[(0, 5), (0, 2)])], &Config::default(), expect![""]);
    }

    #[test]
    fn a_small_zone_that_is_partly_down_is_left_alone_and_a_large_one_is_slow() {
        check(&[(0, &[(4, 6)])], &Config::default(), expect![""]);
        let config = Config { large_cluster_size_threshold: 9, ..Config::default() };
        check(
            &[(0, &[(4, 6)]), (150, &[(4, 6)])],
            &config,
            expect![[r#"
                0 z0n0
                100 z0n1
                200 z0n2
            "#]],
        );
    }

    #[test]
    fn the_way_out_of_a_loss_of_everything_begins_with_an_empty_bucket() {
        check(
            &[(0, &[(0, 3)]), (100, &[(2, 1)])],
            &Config::default(),
            expect![[r#"
                100 back
                110 z0n0
            "#]],
        );
    }

    #[test]
    fn two_unready_nodes_are_single_failures() {
        let config = Config::default();
        let of = |ready, unready| Count { ready, unready, tainted: 0 }.disruption(&config);
        assert_eq!(of(1, 2), Disruption::Normal);
        assert_eq!(of(2, 3), Disruption::Partial);
        assert_eq!(of(3, 3), Disruption::Normal);
        assert_eq!(of(9, 11), Disruption::Partial);
        assert_eq!(of(0, 1), Disruption::Full);
        assert_eq!(of(0, 0), Disruption::Normal);
    }

    #[test]
    fn a_first_in_line_that_does_not_come_is_overtaken() {
        let (config, patience) = (Config::default(), Duration::from_secs(5));
        let mut zones = Zones::default();
        let count = Count { ready: 9, unready: 2, tainted: 1 };
        zones.update(&BTreeMap::from([("z".to_owned(), count)]), &config, Duration::ZERO);
        let second = Duration::from_secs;
        assert_eq!(zones.ask("z", "a", second(1), patience), Turn::After(second(9)));
        assert_eq!(zones.ask("z", "b", second(1), patience), Turn::After(second(19)));
        assert_eq!(zones.ask("z", "b", second(12), patience), Turn::After(second(10)));
        assert_eq!(zones.ask("z", "b", second(15), patience), Turn::Now);
        assert_eq!(zones.ask("z", "a", second(25), patience), Turn::Now);
    }
}
