//! What was run: what reports say beside the sums, and by what a later run is compared with this one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A run of many trials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// Arguments that say what was tried, the seeds apart, as `cargo trial` takes them: ` --scenario squall --nodes 5`;
    /// empty, or with a space in front.
    pub setting: String,
    /// Hash of the sources.
    pub build: String,
    /// Where records of failed trials are, as a path for commands.
    pub folder: String,
    /// When it began, in seconds since 1970.
    pub begun_unix_s: u64,
    /// Wall time that it took, in seconds.
    pub took_s: f64,
    /// Trials asked for.
    pub asked: u64,
    /// Seeds of the trials that are over.
    pub seeds: Seeds,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

impl Run {
    /// What was tried, for people.
    pub(crate) fn tried(&self) -> String {
        let scenario = format!(" --scenario {}", self.scenario);
        format!("{}{}", self.scenario, self.setting.replacen(&scenario, "", 1))
    }

    /// The command that repeats a trial.
    pub fn replay(&self, seed: u64) -> String {
        format!("cargo trial replay --seed {seed}{}", self.setting)
    }

    /// The command that makes a failing trial smaller.
    pub fn shrink(&self, seed: u64) -> String {
        format!("cargo trial shrink {}", quoted(&format!("{}/{seed}.json", self.folder)))
    }

    /// The command that repeats what is left of a shrunk one.
    pub fn replay_shrunk(&self, seed: u64) -> String {
        format!("cargo trial replay {}", quoted(&format!("{}/{seed}.toml", self.folder)))
    }

    /// When it began, as ISO 8601 in UTC without a zone, which JUnit's schema wants so.
    pub fn begun(&self) -> String {
        timestamp(self.begun_unix_s)
    }
}

/// As a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// Many seeds in little space: as ranges, both ends included, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeds(Vec<(u64, u64)>);

impl Seeds {
    /// Those of an iterator in order.
    pub fn of(seeds: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for seed in seeds {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(seed) => *last = seed,
                Some(_) | None => ranges.push((seed, seed)),
            }
        }
        Self(ranges)
    }

    /// Whether this one is among them.
    pub fn contains(&self, seed: u64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&seed))
    }

    /// For people, at most the first `most` ranges: `1 to 20, 25`.
    pub fn named(&self, most: usize) -> String {
        let name =
            |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first} to {last}") };
        let named: Vec<String> = self.0.iter().take(most).map(name).collect();
        let more = if self.0.len() > most { " and more" } else { "" };
        format!("{}{more}", named.join(", "))
    }
}

/// Seconds since 1970 as `2026-11-26T21:23:13`, in UTC.
pub(crate) fn timestamp(unix_s: u64) -> String {
    let at = i64::try_from(unix_s).ok().and_then(|unix_s| Timestamp::from_second(unix_s).ok());
    at.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00");
        assert_eq!(timestamp(951_868_799), "2000-02-29T23:59:59");
        assert_eq!(timestamp(951_868_800), "2000-03-01T00:00:00");
        assert_eq!(timestamp(1_795_728_193), "2026-11-26T21:23:13");
    }

    #[test]
    fn seeds_are_ranges() {
        let seeds = Seeds::of([1, 2, 3, 7, 9, 10, u64::MAX]);
        assert_eq!(seeds, Seeds(vec![(1, 3), (7, 7), (9, 10), (u64::MAX, u64::MAX)]));
        assert_eq!(seeds.named(3), "1 to 3, 7, 9 to 10 and more");
        assert!(seeds.contains(2) && seeds.contains(7) && !seeds.contains(8));
    }

    #[test]
    fn commands_survive_a_folder_with_spaces() {
        let run = Run { folder: "my trials".into(), setting: " --scenario squall".into(), ..Run::default() };
        assert_eq!(run.replay(7), "cargo trial replay --seed 7 --scenario squall");
        assert_eq!(run.shrink(7), "cargo trial shrink 'my trials/7.json'");
    }
}
