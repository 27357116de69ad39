//! `bench`: simulated seconds per CPU second, and where the time goes.
//!
//! Per rate, each seed is run three times, one after the other, by a worker process as `run` has them: with the checkers and
//! nothing else on, which gives the figure; almost without load and without faults, the named baseline, which is called
//! quiet; and with the profile on, which says where time goes but takes time of its own. Of several sizes of an orchestrator,
//! a table shows in the end how it scales. Absolute figures belong to a machine; the ratios carry over.

use crate::cli::{Bench, Setting};
use crate::exit::Exit;
use crate::pool::{self, Crew, Done};
use crate::progress::Progress;
use crate::trial::{self, seconds};
use crate::{machine, run};
use anyhow::{Context, bail};
use record::Config;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};

/// Operations per simulated second of the quiet trial, against which others are held.
const QUIET_RATE: u32 = 1;

/// What a store is measured at, in operations per simulated second.
const STORE_RATES: [u32; 2] = [30, 300];

/// Shares smaller than this are shown together: there are two dozen kinds of task.
const SHOWN_SHARE: f64 = 0.005;

/// What was measured at one rate and size.
#[derive(Debug, Serialize)]
struct Measured {
    rate: u32,
    members: u32,
    /// 0 without an orchestrator, as `pods`.
    nodes: u32,
    pods: u32,
    seeds: u64,
    simulated_s: f64,
    /// Medians over the seeds.
    simulated_per_cpu_s: f64,
    slowest: f64,
    fastest: f64,
    operations_per_simulated_s: f64,
    /// Requests that API servers answered, per CPU second and per simulated second; 0 without an orchestrator.
    requests_per_cpu_s: f64,
    requests_per_simulated_s: f64,
    /// What the simulated network did.
    network_events_per_cpu_s: f64,
    /// The most resident memory that one of the trials took, quiet and profiled ones apart.
    peak_bytes: u64,
    /// CPU time per operation beyond what the quiet trial takes, in microseconds.
    us_per_operation: f64,
    /// The same trial with probes and watches but hardly any operation, and no faults.
    quiet_simulated_per_cpu_s: f64,
    /// CPU time of this trial over that of the quiet one.
    times_quiet: f64,
    /// What was asked of the API most, and its part of all that the servers which ran at the end had answered.
    asked_most: Vec<(String, f64)>,
    /// Shares of CPU time by what it was spent on, the largest first; they add up to 1.
    shares: Vec<(String, f64)>,
}

/// A trial asked of a worker.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    config: Config,
    seed: u64,
    profile: bool,
}

/// What one trial took.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Once {
    cpu_ns: u64,
    simulated_ns: u64,
    operations: u64,
    requests: u64,
    network_events: u64,
    asked: BTreeMap<String, u64>,
    peak_bytes: u64,
    checkers_ns: u64,
    /// By name of task; empty without the profile.
    tasks_ns: BTreeMap<String, u64>,
}

impl Once {
    fn ratio(&self) -> f64 {
        self.simulated_ns as f64 / self.cpu_ns.max(1) as f64
    }
}

/// Measures and prints.
///
/// # Errors
/// A worker that cannot be started, or dies.
pub fn bench(arguments: &Bench) -> anyhow::Result<Exit> {
    let configs: Result<Vec<Config>, String> = settings(arguments).into_iter().map(config).collect();
    let configs = match configs {
        Ok(configs) => configs,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(Exit::USAGE);
        }
    };
    let mut all = Vec::new();
    let mut progress = Progress::of(configs.len() as u64 * 3 * arguments.seeds, "trials");
    for config in configs {
        let config = without_a_quiet_tail(of_length(config, arguments.seconds));
        let measured = measure(&config, arguments.seeds, &mut progress)?;
        if !arguments.json {
            progress.suspend(|| println!("{}", shown(&measured)));
        }
        all.push(measured);
    }
    progress.end();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else if all.len() > 1 {
        println!("\n{}", scaling(&all));
    }
    Ok(Exit::HELD)
}

/// What is measured: each size at each rate. Besides the setting, the members if they are not the scenario's own.
fn settings(arguments: &Bench) -> Vec<(Setting, Option<u32>)> {
    let rates = rates(arguments);
    let of_size = |members, nodes, pods| {
        let scenario = &arguments.scenario;
        let setting =
            move |rate: &_| Setting { scenario: scenario.clone(), rate: *rate, nodes, pods, ..Setting::default() };
        rates.iter().map(move |rate| (setting(rate), members)).collect::<Vec<_>>()
    };
    if arguments.hosts.is_empty() {
        return of_size(None, None, None);
    }
    let pods = |nodes: u32| (nodes > ROOMY_NODES).then_some(nodes * PODS_PER_NODE);
    arguments.hosts.iter().flat_map(|(members, nodes)| of_size(Some(*members), Some(*nodes), pods(*nodes))).collect()
}

/// So many nodes have the scenario's own pods.
const ROOMY_NODES: u32 = 10;
/// More of them have so many each.
const PODS_PER_NODE: u32 = 5;

/// The error is one sentence.
fn config((setting, members): (Setting, Option<u32>)) -> Result<Config, String> {
    let config = trial::config(&setting)?;
    Ok(Config { members: members.unwrap_or(config.members), ..config })
}

/// Those asked for; else two for a store, and the own one of an orchestrator and of a file.
fn rates(arguments: &Bench) -> Vec<Option<u32>> {
    if !arguments.rate.is_empty() {
        return arguments.rate.iter().copied().map(Some).collect();
    }
    let orchestrates = sim::scenario(&arguments.scenario).is_some_and(|config| config.cluster.is_some());
    if orchestrates || trial::is_file(&arguments.scenario) { vec![None] } else { STORE_RATES.map(Some).to_vec() }
}

/// The same trial over `seconds` simulated seconds, faults and calm in the same proportion.
fn of_length(mut config: Config, seconds: Option<u64>) -> Config {
    if let Some(seconds) = seconds {
        let (total_ns, wanted_ns) = (config.faults_ns + config.calm_ns, seconds * 1_000_000_000);
        let faults_ns = u128::from(config.faults_ns) * u128::from(wanted_ns) / u128::from(total_ns.max(1));
        // A part of `wanted_ns`, which fits.
        config.faults_ns = u64::try_from(faults_ns).unwrap_or(wanted_ns);
        config.calm_ns = wanted_ns - config.faults_ns;
    }
    config
}

/// A trial of an orchestrator ends in minutes of peace, in which users do nothing: here they go on to the end, and write
/// twice as much.
fn without_a_quiet_tail(mut config: Config) -> Config {
    if let Some(cluster) = &mut config.cluster {
        cluster.writes_per_ks = BUSY_WRITES_PER_KS;
        let calm_ns = config.calm_ns.min(TAIL_NS);
        (config.faults_ns, config.calm_ns) = (config.faults_ns + config.calm_ns - calm_ns, calm_ns);
    }
    config
}

/// Users' writes in a benchmark, per thousand simulated seconds: twice the standard trial's.
const BUSY_WRITES_PER_KS: u32 = 2_000;

/// What the users need to leave everything in order, and the readers to read the end state.
const TAIL_NS: u64 = 10_000_000_000;

fn measure(config: &Config, seeds: u64, progress: &mut Progress) -> anyhow::Result<Measured> {
    let quiet = Config { rate: QUIET_RATE, faults: false, ..config.clone() };
    let kinds = [(config, false), (&quiet, false), (config, true)];
    let [trials, quiets, profiled] = kinds.map(|(config, profile)| {
        let jobs = (1..=seeds).map(|seed| Job { config: config.clone(), seed, profile });
        all(config, jobs.collect(), progress)
    });
    let (mut trials, mut quiets, profiled) = (trials?, quiets?, profiled?);
    let peak_bytes = trials.iter().map(|once| once.peak_bytes).max().unwrap_or(0);
    let shares = shares(&profiled);
    let by_ratio = |a: &Once, b: &Once| a.ratio().total_cmp(&b.ratio());
    trials.sort_by(by_ratio);
    quiets.sort_by(by_ratio);
    let (median, quiet) = (&trials[trials.len() / 2], &quiets[quiets.len() / 2]);
    let per_simulated_second = |it: &Once| it.cpu_ns as f64 / seconds(it.simulated_ns);
    let operations_per_simulated_s = median.operations as f64 / seconds(median.simulated_ns);
    let beyond_quiet_ns = per_simulated_second(median) - per_simulated_second(quiet);
    let per_cpu_s = |count: u64| count as f64 * 1e9 / median.cpu_ns.max(1) as f64;
    Ok(Measured {
        rate: config.rate,
        members: config.members,
        nodes: config.cluster.as_ref().map_or(0, |cluster| cluster.nodes),
        pods: config.cluster.as_ref().map_or(0, |cluster| cluster.pods),
        seeds,
        simulated_s: seconds(median.simulated_ns),
        simulated_per_cpu_s: median.ratio(),
        slowest: trials[0].ratio(),
        fastest: trials[trials.len() - 1].ratio(),
        operations_per_simulated_s,
        requests_per_cpu_s: per_cpu_s(median.requests),
        requests_per_simulated_s: median.requests as f64 / seconds(median.simulated_ns),
        network_events_per_cpu_s: per_cpu_s(median.network_events),
        peak_bytes,
        asked_most: asked_most(median),
        us_per_operation: beyond_quiet_ns / operations_per_simulated_s.max(f64::MIN_POSITIVE) / 1e3,
        quiet_simulated_per_cpu_s: quiet.ratio(),
        times_quiet: quiet.ratio() / median.ratio(),
        shares,
    })
}

/// Has the trials run one after the other. What each took, in order.
fn all(config: &Config, jobs: Vec<Job>, progress: &mut Progress) -> anyhow::Result<Vec<Once>> {
    let program = machine::this_program()?;
    let stop = AtomicBool::new(false);
    let crew = Crew { slots: 1, hung_after: run::hung_after(config), stop: &stop };
    let (mut all, mut died) = (Vec::new(), None);
    let jobs = jobs.into_iter().map(|job| (job.seed, job));
    let worker = || machine::command(&program, "measure");
    pool::run(worker, crew, jobs, |seed, done: Done<Once>| {
        progress.step();
        match done {
            Done::Answered(once) => all.push(once),
            Done::Died(why) => died = Some((seed, why)),
        }
        if died.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .context("a worker cannot be started")?;
    match died {
        Some((seed, why)) => bail!("seed {seed} cannot be measured: {why}"),
        None => Ok(all),
    }
}

/// Runs the trials that come in as lines, for [`bench`].
///
/// # Errors
/// Lines that are no trials.
pub fn worker() -> anyhow::Result<()> {
    pool::work(|job: &Job| Ok(once(job)))
}

fn once(job: &Job) -> Once {
    machine::forget_peak();
    let begun_ns = machine::cpu_ns();
    let trial = sim::trial(job.config.clone(), job.seed);
    let judged = trial::judged(sim::Trial { profile: job.profile, twin: false, ..trial });
    let cpu_ns = machine::cpu_ns() - begun_ns;
    let record = &judged.record;
    let profile = judged.cost.profile.iter();
    Once {
        cpu_ns,
        simulated_ns: record.ended_ns,
        operations: record.operations.len() as u64,
        requests: record.cluster.requests.iter().sum(),
        network_events: judged.cost.network_events,
        asked: record.cluster.end.requests.clone(),
        peak_bytes: machine::peak_bytes(),
        checkers_ns: judged.checkers_ns,
        tasks_ns: profile.map(|(name, cost)| ((*name).to_owned(), cost.cpu_ns)).collect(),
    }
}

/// What API servers were asked most, the most frequent first, each with its part of the whole.
fn asked_most(once: &Once) -> Vec<(String, f64)> {
    let mut asked = parts_of(once.asked.clone(), once.asked.values().sum());
    asked.truncate(SHOWN_REQUESTS);
    asked
}

/// So many kinds of request explain most of what API servers do.
const SHOWN_REQUESTS: usize = 20;

/// Where time goes, over all seeds: by name of task, the checkers, and what is neither.
fn shares(profiled: &[Once]) -> Vec<(String, f64)> {
    let mut spent: BTreeMap<String, u64> = BTreeMap::new();
    for once in profiled {
        *spent.entry("checkers".to_owned()).or_default() += once.checkers_ns;
        for (name, cpu_ns) in &once.tasks_ns {
            *spent.entry(format!("task {name}")).or_default() += cpu_ns;
        }
    }
    shares_of(spent, profiled.iter().map(|once| once.cpu_ns).sum())
}

fn shares_of(mut spent: BTreeMap<String, u64>, total_ns: u64) -> Vec<(String, f64)> {
    let known_ns: u64 = spent.values().sum();
    spent.insert("executor, network, start and end".to_owned(), total_ns.saturating_sub(known_ns));
    parts_of(spent, total_ns.max(known_ns))
}

/// The largest first; of equals, in order of name.
fn parts_of(counts: BTreeMap<String, u64>, whole: u64) -> Vec<(String, f64)> {
    let whole = whole.max(1) as f64;
    let mut parts: Vec<(String, f64)> = counts.into_iter().map(|(name, count)| (name, count as f64 / whole)).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    parts
}

fn shown(it: &Measured) -> String {
    let percent = |name: &str, share: f64| format!("  {:5.1} %  {name}", share * 100.0);
    let mut lines = vec![
        format!(
            "{} operations per simulated second, {} seeds of {:.0} simulated seconds, all checkers on",
            it.rate, it.seeds, it.simulated_s
        ),
        format!(
            "  {:.0} simulated seconds per CPU second ({:.0} to {:.0}); {:.1} operations per simulated second began",
            it.simulated_per_cpu_s, it.slowest, it.fastest, it.operations_per_simulated_s
        ),
        format!(
            "  {:.2} times the quiet trial ({:.0} simulated seconds per CPU second); {:.1} us per operation beyond it",
            it.times_quiet, it.quiet_simulated_per_cpu_s, it.us_per_operation
        ),
    ];
    lines.push(format!(
        "  {:.0} events of the network per CPU second; {:.0} MB of memory at most",
        it.network_events_per_cpu_s,
        it.peak_bytes as f64 / 1e6
    ));
    if it.requests_per_cpu_s > 0.0 {
        lines.push(format!(
            "  {:.0} API requests per CPU second, {:.1} per simulated second",
            it.requests_per_cpu_s, it.requests_per_simulated_s
        ));
        lines.push("  of these, as counted by the servers that ran at the end:".to_owned());
        lines.extend(it.asked_most.iter().map(|(what, share)| percent(what, *share)));
    }
    lines.push("  of the CPU time:".to_owned());
    let (shown, small): (Vec<_>, Vec<_>) = it.shares.iter().partition(|(_, share)| *share >= SHOWN_SHARE);
    lines.extend(shown.iter().map(|(name, share)| percent(name, *share)));
    lines.push(percent(&format!("{} more", small.len()), small.iter().map(|(_, share)| share).sum()));
    lines.join("\n")
}

/// All that was measured side by side.
fn scaling(all: &[Measured]) -> String {
    let mut table = Builder::default();
    table.push_record([
        "hosts",
        "pods",
        "op/s",
        "simulated s per CPU s",
        "network events per CPU s",
        "API requests per CPU s",
        "MB",
    ]);
    for it in all {
        table.push_record([
            format!("{}+{}", it.members, it.nodes),
            it.pods.to_string(),
            it.rate.to_string(),
            format!("{:.1}", it.simulated_per_cpu_s),
            format!("{:.0}", it.network_events_per_cpu_s),
            format!("{:.0}", it.requests_per_cpu_s),
            format!("{:.0}", it.peak_bytes as f64 / 1e6),
        ]);
    }
    let mut table = table.build();
    table.with(Style::psql()).modify(Columns::new(..), Alignment::right());
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_whole() {
        let spent = BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 60)]);
        let shares = shares_of(spent, 100);
        let names: Vec<&str> = shares.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "executor, network, start and end", "a"]);
        assert!((shares.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn each_size_is_measured_at_each_rate() {
        let scenario = trial::DEFAULT_SCENARIO.to_owned();
        let rate = vec![4, 8];
        let sizes = |hosts| Bench {
            seconds: None,
            rate: rate.clone(),
            hosts,
            seeds: 1,
            scenario: scenario.clone(),
            json: false,
        };
        let all = settings(&sizes(vec![(3, 10), (5, 50)])).into_iter().map(|setting| config(setting).unwrap());
        let cluster = |it: &Config| it.cluster.as_ref().map(|cluster| (cluster.nodes, cluster.pods)).unwrap();
        let all: Vec<_> = all.map(|it| (it.members, cluster(&it), it.rate)).collect();
        assert_eq!(all, [(3, (10, 100), 4), (3, (10, 100), 8), (5, (50, 250), 4), (5, (50, 250), 8)]);
        assert_eq!(settings(&sizes(vec![])).len(), 2);
    }

    #[test]
    fn a_shorter_trial_keeps_its_proportions() {
        let config = sim::scenario(trial::STORE).expect("a scenario of its own");
        let (faults_ns, calm_ns) = (config.faults_ns, config.calm_ns);
        let shorter = of_length(config, Some(30));
        assert_eq!(shorter.faults_ns + shorter.calm_ns, 30_000_000_000);
        let before = faults_ns as f64 / (faults_ns + calm_ns) as f64;
        assert!((shorter.faults_ns as f64 / 30e9 - before).abs() < 1e-6);
    }
}
