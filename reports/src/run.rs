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
    /// Of a guided search, the places in it, among `seeds`, of trials that were made of earlier ones and follow from no seed;
    /// `None` if each trial is that of its seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutated: Option<Seeds>,
}

impl Run {
    /// What was tried, for people.
    pub(crate) fn tried(&self) -> String {
        let scenario = format!(" --scenario {}", self.scenario);
        let guided = if self.mutated.is_some() { " --policy guided" } else { "" };
        format!("{}{}{guided}", self.scenario, self.setting.replacen(&scenario, "", 1))
    }

    /// Whether a trial was made of earlier ones instead of its seed.
    pub fn is_mutated(&self, seed: u64) -> bool {
        self.mutated.as_ref().is_some_and(|mutated| mutated.contains(seed))
    }

    /// What a trial is called, for people.
    pub fn name(&self, seed: u64) -> String {
        trial_name(seed, self.is_mutated(seed))
    }

    /// The command that repeats a trial.
    pub fn replay(&self, seed: u64) -> String {
        match self.is_mutated(seed) {
            true => replay_mutated(&self.folder, seed),
            false => format!("cargo trial replay --seed {seed}{}", self.setting),
        }
    }

    /// The command that makes a failing trial smaller.
    pub fn shrink(&self, seed: u64) -> String {
        format!("cargo trial shrink {}", self.file(seed, "json"))
    }

    /// The command that repeats what is left of a shrunk one.
    pub fn replay_shrunk(&self, seed: u64) -> String {
        format!("cargo trial replay {}", self.file(seed, "toml"))
    }

    fn file(&self, seed: u64, extension: &str) -> String {
        quoted(&format!("{}/{}.{extension}", self.folder, trial_stem(seed, self.is_mutated(seed))))
    }

    /// When it began, as ISO 8601 in UTC without a zone, which JUnit's schema wants so.
    pub fn begun(&self) -> String {
        timestamp(self.begun_unix_s)
    }
}

/// What a trial is called, for people: by its seed, or by its place in a guided search.
pub fn trial_name(seed: u64, mutated: bool) -> String {
    if mutated { format!("guided trial {seed}") } else { format!("seed {seed}") }
}

/// What the files of a trial are called, their extension apart.
pub fn trial_stem(seed: u64, mutated: bool) -> String {
    if mutated { format!("guided-{seed}") } else { seed.to_string() }
}

/// The command that repeats a trial that was made of earlier ones: no seed does, so it is in a file.
pub fn replay_mutated(folder: &str, seed: u64) -> String {
    format!("cargo trial replay {}", quoted(&format!("{folder}/{}.toml", trial_stem(seed, true))))
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

    #[test]
    fn a_trial_that_no_seed_repeats_is_repeated_by_its_file() {
        let mutated = Some(Seeds::of([8]));
        let run = Run { folder: "t".into(), setting: " --scenario squall".into(), mutated, ..Run::default() };
        assert_eq!(run.replay(7), "cargo trial replay --seed 7 --scenario squall");
        assert_eq!((run.name(7), run.shrink(7)), ("seed 7".into(), "cargo trial shrink t/7.json".into()));
        assert_eq!(run.replay(8), "cargo trial replay t/guided-8.toml");
        assert_eq!(
            (run.name(8), run.shrink(8)),
            ("guided trial 8".into(), "cargo trial shrink t/guided-8.json".into())
        );
        assert_eq!(Run { scenario: "squall".into(), ..run }.tried(), "squall --policy guided");
    }
}
