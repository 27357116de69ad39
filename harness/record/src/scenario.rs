//! Scenarios that users write: a TOML file that says how a trial differs from a scenario that there is.
//!
//! ```text
//! FILE.toml + the scenarios that there are -> Config, with everything in it that the file says
//! ```
//!
//! A trial's record holds that [`Config`], so that it repeats without the file. The README lists every field.
//!
//! **Invariant:** a file that says anything which is not understood, or which could have no effect, is refused in one
//! sentence with its line (`what_is_wrong_is_said_with_line_field_and_what_is_allowed`).

use crate::{Cluster, Config, FaultRules};
use faults::{Component, Cut, DiskFault, Fault, Kind, Ns, Swarm, Target, What, When};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// A scenario that there is without a file, and what strikes in it.
pub type Base = (Config, Swarm);

/// Why a scenario's file cannot be used. One sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// No such file, or it may not be read.
    #[error("cannot read {path}: {error}; give the path of a scenario's file, or a scenario's name")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: String,
    },
    /// It is not understood, or asks for what there is not.
    #[error("{path}, line {line}: {text}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what is allowed.
        text: String,
    },
}

/// Reads the scenario at `path`. It is called as its path is.
///
/// # Errors
/// One sentence that says what to do.
pub fn read_scenario(path: &Path, bases: &[Base]) -> Result<Config, ScenarioError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ScenarioError::Unreadable { path: path.to_owned(), error: error.to_string() })?;
    parse(path, &text, bases)
}

fn parse(path: &Path, text: &str, bases: &[Base]) -> Result<Config, ScenarioError> {
    let wrong = |at: usize, text_: String| ScenarioError::Wrong {
        path: path.to_owned(),
        line: text[..at.min(text.len())].matches('\n').count() + 1,
        text: text_,
    };
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(at, misread(error.message(), text, at))
    })?;
    file.config(path, bases).map_err(|Wrong { at, text }| wrong(at, text))
}

/// What the parser said, on one line, with the field that it does not name itself.
fn misread(message: &str, text: &str, at: usize) -> String {
    let message = message.replace('\n', " ").replace("expected i64", "a whole number is allowed");
    let names_it = ["unknown field", "missing field", "unexpected keys"].iter().any(|it| message.starts_with(it));
    let before = text.get(..at).unwrap_or_default().rsplit_once('=').map(|(before, _)| before.trim_end());
    let part = |c: char| !(c.is_alphanumeric() || "_-.\"".contains(c));
    match before.and_then(|before| before.rsplit(part).next()).filter(|field| !field.is_empty() && !names_it) {
        Some(field) => format!("`{field}`: {message}"),
        None => message,
    }
}

/// Something that is wrong in a file that was understood.
struct Wrong {
    /// Where, in bytes from its start.
    at: usize,
    text: String,
}

fn wrong<T>(at: &Spanned<T>, text: String) -> Wrong {
    Wrong { at: at.span().start, text }
}

type Number = Option<Spanned<i64>>;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    base: Spanned<String>,
    #[serde(default)]
    topology: Topology,
    #[serde(default)]
    workload: Workload,
    #[serde(default)]
    time: Time,
    #[serde(default)]
    faults: Rules,
    #[serde(default)]
    strikes: Vec<Strike>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topology {
    members: Number,
    one_more_permille: Number,
    client_hosts: Number,
    nodes: Number,
    zones: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Workload {
    rate: Number,
    keys: Number,
    apps: Number,
    pods: Number,
    writes_per_ks: Number,
    calls_per_s: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Time {
    faults_seconds: Number,
    calm_seconds: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    kinds: Option<Vec<Spanned<Kind>>>,
    without: Option<Vec<Spanned<Kind>>>,
    quiet_permille: Number,
    on_permille: Number,
    quiet_on_permille: Number,
    most: Number,
    freeze_minority_permille: Number,
    own_permille: Option<BTreeMap<Kind, Spanned<i64>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strike {
    kind: Spanned<Kind>,
    at_seconds: Option<Spanned<f64>>,
    when: Option<Spanned<When>>,
    for_seconds: Spanned<f64>,
    what: Spanned<What>,
}

/// Raft's majorities, and the time that one message to each takes, end to make sense beyond.
const MEMBERS: RangeInclusive<u32> = 1..=15;
/// A host's address ends in one byte.
const CLIENT_HOSTS: RangeInclusive<u32> = 1..=200;
/// The largest cluster that Kubernetes' own limits allow.
const NODES: RangeInclusive<u32> = 1..=5_000;
const PODS: RangeInclusive<u32> = 1..=100_000;
const RATE: RangeInclusive<u32> = 1..=100_000;
/// Keys are written with four digits.
const KEYS: RangeInclusive<u32> = 1..=10_000;
const PERMILLE: RangeInclusive<u32> = 0..=1_000;
/// How many may flood an API server at once.
const CALLERS: RangeInclusive<u32> = 1..=1_000;
/// Faults of one kind have so many numbers, and an attack is a handful of them.
const MOST: RangeInclusive<u32> = 1..=100;
/// More than a day: nobody waits for the end of such a trial.
const SECONDS: RangeInclusive<u32> = 1..=100_000;

const SECOND_NS: Ns = 1_000_000_000;

/// Strikes that a file gives have numbers from here on, far above all that are drawn.
const GIVEN_IDS: u32 = 1_000_000;

impl File {
    fn config(&self, path: &Path, bases: &[Base]) -> Result<Config, Wrong> {
        let name = self.base.get_ref();
        let (base, swarm) = bases.iter().find(|(config, _)| config.scenario == *name).ok_or_else(|| {
            let names: Vec<&str> = bases.iter().map(|(config, _)| config.scenario.as_str()).collect();
            wrong(&self.base, format!("`base` is {name:?}; allowed are {}", names.join(", ")))
        })?;
        let mut config = Config { scenario: path.display().to_string(), ..base.clone() };
        self.topology.apply(&mut config)?;
        self.workload.apply(&mut config)?;
        let Time { faults_seconds, calm_seconds } = &self.time;
        set("faults_seconds", faults_seconds, SECONDS, |s| config.faults_ns = Ns::from(s) * SECOND_NS)?;
        set("calm_seconds", calm_seconds, SECONDS, |s| config.calm_ns = Ns::from(s) * SECOND_NS)?;
        self.cluster(&mut config, name)?;
        let freeze = &self.faults.freeze_minority_permille;
        if self.faults.kinds.is_some() || self.strikes.iter().any(|strike| strike.kind.get_ref().outlasts()) {
            // Whoever says what strikes says all of it.
            config.freeze_minority_permille = 0;
        }
        set("freeze_minority_permille", freeze, PERMILLE, |n| config.freeze_minority_permille = n)?;
        if let Some(swarm) = self.faults.swarm(&config, swarm, !self.strikes.is_empty())? {
            let strikes = (GIVEN_IDS..).zip(&self.strikes).map(|(id, strike)| strike.fault(id, &config));
            let strikes = strikes.collect::<Result<Vec<Fault>, Wrong>>()?;
            config.faults = !swarm.kinds.is_empty() || !strikes.is_empty() || config.freeze_minority_permille > 0;
            config.rules = Some(FaultRules { swarm, strikes });
        }
        Ok(config)
    }

    /// What is said of an orchestrator, if there is one.
    fn cluster(&self, config: &mut Config, base: &str) -> Result<(), Wrong> {
        let Topology { nodes, zones, .. } = &self.topology;
        let Workload { apps, pods, writes_per_ks, calls_per_s, .. } = &self.workload;
        let Some(cluster) = &mut config.cluster else {
            let said = [
                ("nodes", nodes),
                ("zones", zones),
                ("apps", apps),
                ("pods", pods),
                ("writes_per_ks", writes_per_ks),
                ("calls_per_s", calls_per_s),
            ];
            let first = said.iter().find_map(|(field, number)| Some((field, number.as_ref()?)));
            return first.map_or(Ok(()), |(field, number)| {
                let text = format!(
                    "`{field}` is about an orchestrator, and `base` {base:?} has none; allowed is a base that has one"
                );
                Err(wrong(number, text))
            });
        };
        set("nodes", nodes, NODES, |n| cluster.nodes = n)?;
        cluster.zones = cluster.zones.min(cluster.nodes);
        set("zones", zones, 1..=cluster.nodes, |n| cluster.zones = n)?;
        let Cluster { apps: apps_before, pods: pods_before, .. } = *cluster;
        set("pods", pods, PODS, |n| {
            // As many pods to a Deployment as in the base.
            let per_app = (pods_before / apps_before.max(1)).max(1);
            (cluster.pods, cluster.apps) = (n, n.div_ceil(per_app));
        })?;
        set("apps", apps, 1..=cluster.pods, |n| cluster.apps = n)?;
        set("writes_per_ks", writes_per_ks, RATE, |n| cluster.writes_per_ks = n)?;
        set("calls_per_s", calls_per_s, RATE, |n| cluster.calls_per_s = n)
    }
}

impl Topology {
    fn apply(&self, config: &mut Config) -> Result<(), Wrong> {
        set("members", &self.members, MEMBERS, |n| (config.members, config.one_more_permille) = (n, 0))?;
        set("one_more_permille", &self.one_more_permille, PERMILLE, |n| config.one_more_permille = n)?;
        set("client_hosts", &self.client_hosts, CLIENT_HOSTS, |n| config.client_hosts = n)
    }
}

impl Workload {
    fn apply(&self, config: &mut Config) -> Result<(), Wrong> {
        set("rate", &self.rate, RATE, |n| config.rate = n)?;
        set("keys", &self.keys, KEYS, |n| config.keys = n)
    }
}

/// Hands a number on, if the file says it and it is allowed.
fn set(field: &str, number: &Number, allowed: RangeInclusive<u32>, set: impl FnOnce(u32)) -> Result<(), Wrong> {
    if let Some(number) = number {
        set(within(field, number, allowed)?);
    }
    Ok(())
}

fn within(field: &str, number: &Spanned<i64>, allowed: RangeInclusive<u32>) -> Result<u32, Wrong> {
    let value = *number.get_ref();
    u32::try_from(value).ok().filter(|value| allowed.contains(value)).ok_or_else(|| {
        wrong(number, format!("`{field}` is {value}; allowed are {} to {}", allowed.start(), allowed.end()))
    })
}

impl Rules {
    /// What may strike; `None` if that is as in the base.
    fn swarm(&self, config: &Config, base: &Swarm, strikes: bool) -> Result<Option<Swarm>, Wrong> {
        let Self { kinds, without, quiet_permille, on_permille, quiet_on_permille, most, own_permille, .. } = self;
        let numbers = [quiet_permille, on_permille, quiet_on_permille, most, &self.freeze_minority_permille];
        let said = kinds.is_some() || without.is_some() || own_permille.is_some();
        if !said && !strikes && numbers.iter().all(|number| number.is_none()) {
            return Ok(None);
        }
        let mut swarm = base.clone();
        if !config.faults {
            swarm.kinds.clear();
        }
        for kind in kinds.iter().chain(without).flatten() {
            strikes_something(kind, config)?;
            if kind.get_ref().outlasts() {
                let text = format!(
                    "{} is not drawn among the kinds; allowed is `freeze_minority_permille`",
                    kind.get_ref().name()
                );
                return Err(wrong(kind, text));
            }
        }
        match (kinds, without) {
            (Some(_), Some(without)) => {
                let at = without.first().map_or(0, |kind| kind.span().start);
                let text = "`without` and `kinds` exclude each other; allowed is one of them".to_owned();
                return Err(Wrong { at, text });
            }
            (Some(kinds), None) => {
                // In the order in which they are drawn, each once.
                let named = |kind: &Kind| kinds.iter().any(|it| it.get_ref() == kind);
                swarm.kinds = Kind::all().filter(named).collect();
            }
            (None, Some(without)) => swarm.kinds.retain(|kind| without.iter().all(|it| it.get_ref() != kind)),
            (None, None) => {}
        }
        set("quiet_permille", quiet_permille, PERMILLE, |n| swarm.quiet_permille = n)?;
        set("on_permille", on_permille, PERMILLE, |n| swarm.on_permille = n)?;
        set("quiet_on_permille", quiet_on_permille, PERMILLE, |n| swarm.quiet_on_permille = n)?;
        set("most", most, MOST, |n| swarm.most = n)?;
        for (kind, permille) in own_permille.iter().flatten() {
            let value = within(&format!("own_permille.{}", kind.name()), permille, PERMILLE)?;
            if !swarm.kinds.contains(kind) {
                let names: Vec<&str> = swarm.kinds.iter().map(|kind| kind.name()).collect();
                let text = format!(
                    "`own_permille` has {}, which is not among the kinds of this scenario; allowed are {}",
                    kind.name(),
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                );
                return Err(wrong(permille, text));
            }
            swarm.own_permille.insert(*kind, value);
        }
        Ok(Some(swarm))
    }
}

/// Kinds of a cluster strike nothing where there is none.
fn strikes_something(kind: &Spanned<Kind>, config: &Config) -> Result<(), Wrong> {
    if config.cluster.is_some() || Kind::STORE.contains(kind.get_ref()) || kind.get_ref().outlasts() {
        return Ok(());
    }
    let names: Vec<&str> = Kind::STORE.iter().map(|kind| kind.name()).collect();
    let text = format!(
        "{} strikes an orchestrator, and `base` has none; allowed are {}",
        kind.get_ref().name(),
        names.join(", ")
    );
    Err(wrong(kind, text))
}

impl Strike {
    fn fault(&self, id: u32, config: &Config) -> Result<Fault, Wrong> {
        strikes_something(&self.kind, config)?;
        let (kind, what) = (*self.kind.get_ref(), self.what.get_ref().clone());
        if !kind.fits(&what) {
            let text =
                format!("`what` is nothing that {} does; faults/src/lib.rs says what each kind does", kind.name());
            return Err(wrong(&self.what, text));
        }
        check(&what, config).map_err(|text| wrong(&self.what, text))?;
        if kind.outlasts() && !is_minority(what.target(), config) {
            let text = format!("{} is for a minority of the members, so that the others can go on", kind.name());
            return Err(wrong(&self.what, text));
        }
        let when = match (&self.at_seconds, &self.when) {
            (Some(at), None) => When::At(nanoseconds("at_seconds", at, config.faults_ns)?),
            (None, Some(when)) => when.get_ref().clone(),
            (Some(_), Some(_)) | (None, None) => {
                let text = "a strike needs `at_seconds` or `when`, and not both".to_owned();
                return Err(wrong(&self.kind, text));
            }
        };
        let (earliest_ns, faults_ns) = (when.earliest(), config.faults_ns);
        if kind.outlasts() {
            let most_ns = config.faults_ns + config.calm_ns;
            let for_ns = nanoseconds("for_seconds", &self.for_seconds, most_ns)?;
            return Ok(Fault { id, kind, when, for_ns, what });
        }
        let for_ns = nanoseconds("for_seconds", &self.for_seconds, faults_ns)?;
        if earliest_ns.saturating_add(for_ns) > faults_ns {
            let text = format!(
                "this strike would end after {} s, when the time of faults is over; allowed is an end by then, or a \
                 larger `faults_seconds`",
                seconds(faults_ns)
            );
            return Err(wrong(&self.for_seconds, text));
        }
        Ok(Fault { id, kind, when, for_ns, what })
    }
}

/// A time of at most `most_ns`.
fn nanoseconds(field: &str, given: &Spanned<f64>, most_ns: Ns) -> Result<Ns, Wrong> {
    let (value, most) = (*given.get_ref(), seconds(most_ns));
    if !(0.0..=most).contains(&value) {
        return Err(wrong(given, format!("`{field}` is {value}; allowed are 0 to {most}")));
    }
    // Not negative, and at most 100000 seconds.
    Ok((value * SECOND_NS as f64).round() as Ns)
}

fn seconds(ns: Ns) -> f64 {
    ns as f64 / SECOND_NS as f64
}

/// Whether a majority is left when these members are not there.
fn is_minority(target: &Target, config: &Config) -> bool {
    let members = match target {
        Target::Member(_) | Target::Leader | Target::Follower | Target::Marked => 1,
        Target::Members(members) => members.len(),
        Target::Leaders | Target::Client(_) | Target::Node(_) | Target::Nodes(_) => return false,
    };
    members <= config.members.saturating_sub(1) as usize / 2
}

fn is_of_members(target: &Target) -> bool {
    match target {
        Target::Member(_)
        | Target::Members(_)
        | Target::Leader
        | Target::Leaders
        | Target::Follower
        | Target::Marked => true,
        Target::Client(_) | Target::Node(_) | Target::Nodes(_) => false,
    }
}

/// Whether there is such a component in the processes aimed at.
fn can_hang(component: Component, target: &Target, config: &Config) -> bool {
    match target {
        Target::Client(_) => false,
        Target::Node(_) | Target::Nodes(_) => Component::OF_NODES.contains(&component),
        _ if config.cluster.is_none() => component == Component::Store,
        _ => Component::OF_MEMBERS.contains(&component),
    }
}

/// Whether there is whom a strike is aimed at, and whether its numbers make sense.
fn check(what: &What, config: &Config) -> Result<(), String> {
    let nodes = config.cluster.as_ref().map_or(0, |cluster| cluster.nodes);
    let (of, numbers, count): (&str, &[u32], u32) = match what.target() {
        Target::Member(member) => ("Member", std::slice::from_ref(member), config.members),
        Target::Members(members) => ("Members", members, config.members),
        Target::Client(client) => ("Client", std::slice::from_ref(client), config.client_hosts),
        Target::Node(node) => ("Node", std::slice::from_ref(node), nodes),
        Target::Nodes(all) => ("Nodes", all, nodes),
        Target::Leader | Target::Leaders | Target::Follower | Target::Marked => ("", &[], 0),
    };
    if let Some(nobody) = numbers.iter().find(|number| **number >= count) {
        return Err(match count.checked_sub(1) {
            Some(last) => format!("`{of}` has {nobody}; allowed are 0 to {last}"),
            None => format!("`{of}` has {nobody}, but this scenario has no nodes"),
        });
    }
    let permille = match what {
        What::Loss { permille, .. } => Some(permille),
        What::Disk { fault, .. } => match fault {
            DiskFault::WriteErrors(permille) | DiskFault::SyncErrors(permille) | DiskFault::ReadErrors(permille) => {
                Some(permille)
            }
            DiskFault::Stall | DiskFault::Slow(_) | DiskFault::Full => None,
        },
        What::ClockSteps { every_ns: 0, .. } => return Err("`every_ns` is 0; allowed are 1 and more".to_owned()),
        What::ClockDrift { permille: 0, .. } => {
            return Err("`permille` of a drift is 0; allowed are 1 and more (clock-freeze stops clocks)".to_owned());
        }
        What::Partition { cut: Cut::Bridge | Cut::Thread | Cut::Ring, .. } if config.members < 3 => {
            return Err(
                "`cut` is for three members and more; allowed are Symmetric, Outbound, Inbound, Peers".to_owned()
            );
        }
        What::Flood { callers, .. } if !CALLERS.contains(callers) => {
            let (least, most) = (CALLERS.start(), CALLERS.end());
            return Err(format!("`callers` is {callers}; allowed are {least} to {most}"));
        }
        What::Flood { target, .. } | What::Reconfigure { target, .. } if !is_of_members(target) => {
            return Err("this is done to members alone; allowed are Member, Members, Leader, Follower".to_owned());
        }
        What::Hang { target, component } if !can_hang(*component, target, config) => {
            let of_members = if config.cluster.is_some() { &Component::OF_MEMBERS[..] } else { &[Component::Store] };
            let allowed = if is_of_members(target) { of_members } else { &Component::OF_NODES };
            return Err(format!("`component` is {component:?}, which is not there; allowed are {allowed:?}"));
        }
        What::Clog { to, .. } if *to >= config.members => {
            return Err(format!("`to` has {to}; allowed are 0 to {}", config.members.saturating_sub(1)));
        }
        What::Partition { .. }
        | What::Clog { .. }
        | What::Withhold { .. }
        | What::Delay { .. }
        | What::Rate { .. }
        | What::Hold { .. }
        | What::Kill { .. }
        | What::PowerLoss { .. }
        | What::Pause { .. }
        | What::ClockOffset { .. }
        | What::ClockDrift { .. }
        | What::ClockSteps { .. }
        | What::ClockFreeze { .. }
        | What::Containers { .. }
        | What::Lost { .. }
        | What::Reset { .. }
        | What::Lag { .. }
        | What::Restart { .. }
        | What::Expire { .. }
        | What::Replace { .. }
        | What::ClockJump { .. }
        | What::Hang { .. }
        | What::Reconfigure { .. }
        | What::Flood { .. }
        | What::Fuse { .. } => None,
    };
    match permille {
        Some(permille) if !PERMILLE.contains(permille) => {
            Err(format!("a probability is {permille}; allowed are 0 to 1000 thousandths"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases() -> Vec<Base> {
        let store = Config {
            scenario: "store".into(),
            members: 3,
            one_more_permille: 150,
            freeze_minority_permille: 100,
            client_hosts: 2,
            faults_ns: 60 * SECOND_NS,
            calm_ns: 30 * SECOND_NS,
            rate: 30,
            keys: 40,
            faults: true,
            cluster: None,
            backend: <_>::default(),
            rules: None,
        };
        let cluster = Cluster { nodes: 4, zones: 2, apps: 4, pods: 16, writes_per_ks: 1_000, calls_per_s: 6 };
        let squall = Config { scenario: "squall".into(), cluster: Some(cluster), ..store.clone() };
        let calm = Config { scenario: "calm".into(), faults: false, ..store.clone() };
        let all = Swarm { kinds: Kind::all().collect(), ..Swarm::default() };
        vec![(store, Swarm::default()), (squall, all), (calm, Swarm::default())]
    }

    fn read(text: &str) -> Result<Config, ScenarioError> {
        parse(Path::new("s.toml"), text, &bases())
    }

    fn good(text: &str) -> Config {
        read(text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Line and text of what is wrong.
    fn refused(text: &str) -> (usize, String) {
        match read(text).expect_err("is refused") {
            ScenarioError::Wrong { line, text, .. } => {
                assert!(!text.contains('\n'), "one line: {text}");
                (line, text)
            }
            other @ ScenarioError::Unreadable { .. } => panic!("{other}"),
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_its_base() {
        let (store, _) = &bases()[0];
        assert_eq!(good("base = \"store\""), Config { scenario: "s.toml".into(), ..store.clone() });
    }

    #[test]
    fn everything_that_is_said_is_in_the_configuration() {
        let config = good(
            r#"
            base = "squall"
            [topology]
            members = 5
            client_hosts = 3
            nodes = 9
            zones = 3
            [workload]
            rate = 7
            keys = 11
            pods = 24
            apps = 8
            writes_per_ks = 500
            calls_per_s = 2
            [time]
            faults_seconds = 90
            calm_seconds = 120
            [faults]
            kinds = ["kill", "node-lost", "partition-one"]
            quiet_permille = 0
            on_permille = 900
            quiet_on_permille = 1
            most = 2
            freeze_minority_permille = 250
            own_permille = { kill = 1000 }
            [[strikes]]
            kind = "kill"
            at_seconds = 12.5
            for_seconds = 3
            what = { Kill = { target = "Leader" } }
            [[strikes]]
            kind = "crash-point"
            when = { Effect = { from = 5000000000, nth = 2, index = 0, before = true } }
            for_seconds = 0.5
            what.Kill.target = "Marked"
            "#,
        );
        assert_eq!((config.members, config.one_more_permille, config.client_hosts), (5, 0, 3));
        let cluster = Cluster { nodes: 9, zones: 3, apps: 8, pods: 24, writes_per_ks: 500, calls_per_s: 2 };
        assert_eq!(config.cluster, Some(cluster));
        assert_eq!((config.rate, config.keys), (7, 11));
        assert_eq!(config.freeze_minority_permille, 250);
        assert_eq!((config.faults_ns, config.calm_ns), (90 * SECOND_NS, 120 * SECOND_NS));
        let FaultRules { swarm, strikes } = config.rules.clone().expect("it has its own");
        assert_eq!(swarm.kinds, [Kind::PartitionOne, Kind::Kill, Kind::NodeLost]);
        assert_eq!((swarm.quiet_permille, swarm.on_permille, swarm.quiet_on_permille, swarm.most), (0, 900, 1, 2));
        assert_eq!(swarm.own_permille[&Kind::Kill], 1000);
        let when: Vec<&When> = strikes.iter().map(|strike| &strike.when).collect();
        assert_eq!(
            when,
            [&When::At(12_500_000_000), &When::Effect { from: 5 * SECOND_NS, nth: 2, index: 0, before: true }]
        );
        assert_eq!(strikes[1].what, What::Kill { target: Target::Marked });
        // The record of such a trial is JSON.
        let again: Config = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn a_base_without_faults_has_those_that_are_given_and_no_others() {
        let strike = "[[strikes]]\nkind = \"pause\"\nat_seconds = 1\nfor_seconds = 1\nwhat.Pause.target = \"Leader\"";
        let config = good(&format!("base = \"calm\"\n{strike}"));
        let rules = config.rules.expect("it has its own");
        assert!(config.faults && rules.swarm.kinds.is_empty() && rules.strikes.len() == 1);
        let config = good(&format!("base = \"store\"\n[faults]\nwithout = [\"kill\"]\n{strike}"));
        assert_eq!(config.rules.expect("it has its own").swarm.kinds.len(), Kind::STORE.len() - 1);
        assert!(!good("base = \"store\"\n[faults]\nkinds = []").faults);
        assert_eq!(good("base = \"store\"\n[faults]\nmost = 2").freeze_minority_permille, 100);
        assert_eq!(good("base = \"store\"\n[faults]\nkinds = [\"kill\"]").freeze_minority_permille, 0);
        let frozen = strike.replace("pause", "frozen");
        assert_eq!(good(&format!("base = \"store\"\n{frozen}")).freeze_minority_permille, 0);
        let config = good("base = \"calm\"\n[faults]\nfreeze_minority_permille = 1000");
        assert!(config.faults && config.rules.is_some_and(|rules| rules.swarm.kinds.is_empty()), "and nothing else");
    }

    #[test]
    fn what_is_wrong_is_said_with_line_field_and_what_is_allowed() {
        let strike = |lines: &str| format!("base = \"store\"\n[[strikes]]\n{lines}");
        let kill = "kind = \"kill\"\nfor_seconds = 1\nwhat.Kill.target = \"Leader\"\n";
        let wrong: [(String, usize, &[&str]); 28] = [
            ("base = \"storm\"".into(), 1, &["`base` is \"storm\"", "store, squall, calm"]),
            ("[topology]\nmembers = 3".into(), 1, &["missing field `base`"]),
            ("base = \"store\"\n[weather]".into(), 2, &["unknown field `weather`", "`topology`", "`strikes`"]),
            ("base = \"store\"\n[topology]\nmember = 3".into(), 3, &["unknown field `member`", "`members`"]),
            ("base = \"store\"\n[topology]\nmembers = \"3\"".into(), 3, &["`members`", "string", "a whole number"]),
            ("base = \"store\"\n[topology]\nmembers = 2.5".into(), 3, &["`members`", "a whole number"]),
            ("base = \"store\"\n[topology]\nmembers = 16".into(), 3, &["`members` is 16; allowed are 1 to 15"]),
            ("base = \"store\"\n[workload]\n\nrate = -1".into(), 4, &["`rate` is -1; allowed are 1 to 100000"]),
            ("base = \"store\"\n[topology]\nnodes = 4".into(), 3, &["`nodes`", "\"store\" has none"]),
            ("base = \"squall\"\n[topology]\nzones = 5".into(), 3, &["`zones` is 5; allowed are 1 to 4"]),
            ("base = \"squall\"\n[workload]\napps = 17".into(), 3, &["`apps` is 17; allowed are 1 to 16"]),
            ("base = \"store\"\n[faults]\nkinds = [\n  \"kil\"]".into(), 4, &["`kinds`", "`kil`", "`partition-one`"]),
            ("base = \"store\"\n[faults]\nkinds = [\"node-lost\"]".into(), 3, &["node-lost", "allowed are partition-"]),
            ("base = \"store\"\n[faults]\nkinds = []\nwithout = [\"kill\"]".into(), 4, &["exclude each other"]),
            ("base = \"store\"\n[faults]\non_permille = 1001".into(), 3, &["allowed are 0 to 1000"]),
            ("base = \"store\"\n[faults]\nown_permille = { kil = 1 }".into(), 3, &["`kil`", "`kill`"]),
            (
                "base = \"store\"\n[faults]\nkinds = [\"pause\"]\nown_permille = { kill = 1 }".into(),
                4,
                &["`own_permille` has kill", "allowed are pause"],
            ),
            ("base = \"store\"\n[faults]\nkinds = [\"frozen\"]".into(), 3, &["`freeze_minority_permille`"]),
            (
                strike("kind = \"frozen\"\nat_seconds = 1\nfor_seconds = 90\nwhat.Pause.target.Members = [0, 1]"),
                6,
                &["for a minority"],
            ),
            (
                strike("kind = \"frozen\"\nat_seconds = 1\nfor_seconds = 91\nwhat.Pause.target = \"Leader\""),
                5,
                &["`for_seconds` is 91; allowed are 0 to 90"],
            ),
            (
                strike(
                    "kind = \"link-unclog\"\nat_seconds = 1\nfor_seconds = 1\nwhat.Clog = { target = \"Leader\", to = 3 }",
                ),
                6,
                &["`to` has 3; allowed are 0 to 2"],
            ),
            (
                strike(
                    "kind = \"component-hang\"\nat_seconds = 1\nfor_seconds = 1\n\
                     what.Hang = { target = \"Leader\", component = \"Proxy\" }",
                ),
                6,
                &["`component` is Proxy, which is not there; allowed are [Store]"],
            ),
            (
                strike(
                    "kind = \"config-change\"\nat_seconds = 1\nfor_seconds = 1\n\
                     what.Reconfigure = { target.Client = 0, setting = 1 }",
                ),
                6,
                &["to members alone"],
            ),
            (strike(kill), 3, &["needs `at_seconds` or `when`"]),
            (strike(&format!("at_seconds = 59.5\n{kill}")), 5, &["after 60 s", "larger `faults_seconds`"]),
            (
                strike("kind = \"pause\"\nat_seconds = 1\nfor_seconds = 1\nwhat.Kill.target = \"Leader\""),
                6,
                &["nothing that pause does"],
            ),
            (
                strike("kind = \"kill\"\nat_seconds = 1\nfor_seconds = 1\nwhat.Kill.target.Member = 3"),
                6,
                &["`Member` has 3; allowed are 0 to 2"],
            ),
            (
                strike(
                    "kind = \"kill\"\nat_seconds = 1\nfor_seconds = 1\nwhat.Kill = { target = \"Leader\", hard = 1 }",
                ),
                6,
                &["unexpected keys in table: hard, available keys: target"],
            ),
        ];
        for (text, line, says) in wrong {
            let (at, said) = refused(&text);
            assert_eq!(at, line, "{text}: {said}");
            assert!(says.iter().all(|part| said.contains(part)), "{text}: {said}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read_scenario(Path::new("/nonexistent/s.toml"), &bases()).expect_err("is not there").to_string();
        assert!(error.starts_with("cannot read /nonexistent/s.toml: "), "{error}");
    }
}
