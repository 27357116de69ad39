//! `real`: the same workload and checkers on real processes of a store, killed and started again under load. An
//! orchestrator is the business of [`crate::orchestra`].
//!
//! ```text
//! seaworthy x 3 <- kill -9, start again, as the schedule says
//!      ^-- workloads::store, observe -> Record -> checkers -> reports
//! ```
//!
//! What is judged is what simulated trials are judged by. A machine does not repeat, so a failure keeps everything: the
//! record, the data directories and the members' logs.

use crate::cli::Real;
use crate::exit::Exit;
use crate::observe::Observer;
use crate::trial::{self, BUILD, Clock, seconds};
use crate::{cargo, machine, orchestra, run};
use anyhow::{Context, bail};
use faults::{Fault, Kind, Ns, Schedule, Target, What, When};
use real::{Cluster, Program, SLOT_NS};
use record::{Config, FORMAT, Record, Strike};
use reports::Summary;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use store::client::{Client, ClientConfig};
use store::types::RangeRequest;
use workloads::Recorder;
use workloads::store::Setting;

/// A cluster of processes takes this long to take connections and elect a leader, at the very most: two builds may be
/// running beside it.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long is left in peace after the last kill: longer than a write may take to commit, so that this is tested.
const CALM_NS: Ns = 30_000_000_000;

/// From look to look whether a member has ended by itself.
const LOOK_EVERY_NS: Ns = 50_000_000;

/// A member asked to stop hands over leadership and syncs; more than this means that it hangs.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long observers may be behind when the trial is over.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(20);

/// A member is busy if it showed anything within this time before it was struck.
const BUSY_NS: Ns = 1_000_000_000;

/// Runs a trial with real processes, judges it and prints what came of it.
///
/// # Errors
/// A build or machine that does not work, a member that ends by itself before there is anything to judge, an interrupt.
pub fn real(arguments: &Real) -> anyhow::Result<Exit> {
    let path = match &arguments.program {
        Some(path) => path.clone(),
        None => cargo::build_seaworthy(&cargo::root()?)?,
    };
    if !path.is_file() {
        eprintln!("error: there is no program {}; give the path of a seaworthy binary, or none", path.display());
        return Ok(Exit::USAGE);
    }
    if let Some(minutes) = arguments.minutes {
        return orchestra::real(arguments, minutes, path);
    }
    let own = machine::this_program()?;
    let program = Program { path, before: vec![own.into(), "tether".into(), "--".into()] };
    let folder = arguments.out.join(format!("real-{}", std::process::id()));
    let begun_ns = machine::cpu_ns();
    let done = rt::task::block_on(async {
        tokio::select! {
            biased;
            () = rt::task::shutdown_signal() => Ok(None),
            done = trial(arguments, program, &folder) => done.map(Some),
        }
    })?;
    let Some((record, stopped)) = done else {
        std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        bail!("interrupted");
    };
    let repeat =
        format!("cargo trial real --kills {} --rate {} --seed {}", arguments.kills, arguments.rate, arguments.seed);
    if let Some(line) = reports::failure_line(&record, &repeat) {
        // With --json stdout is for machines alone.
        if arguments.json { eprintln!("{line}") } else { println!("{line}") }
    }
    let mut summary = Summary::of(&record, machine::cpu_ns() - begun_ns);
    summary.of_real_processes(&[Kind::Kill]);
    run::print(&summary, arguments.json);
    let exit = Exit::of(&summary);
    let exit = if exit == Exit::HELD && !stopped { Exit::CRASH } else { exit };
    if exit == Exit::HELD {
        std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    } else {
        run::write(&folder, &record.seed.to_string(), &record, None)?;
        eprintln!("the record, the members' data and their logs are in {}", folder.display());
    }
    Ok(exit)
}

/// Runs it. Whether every member also stopped as it should when asked to, beside the judged record.
async fn trial(arguments: &Real, program: Program, folder: &Path) -> anyhow::Result<(Record, bool)> {
    let config = config(arguments)?;
    let schedule = real::schedule(arguments.seed, arguments.kills, config.members, config.faults_ns);
    let mut cluster = Cluster::new(&program, folder, config.members)?;
    (0..config.members).try_for_each(|member| cluster.start(member))?;
    cluster.wait_ready(READY_WITHIN)?;
    wait_led(&cluster).await?;
    eprintln!(
        "{} kills of {} members in {:.0} s, {} operations/s",
        arguments.kills,
        config.members,
        seconds(config.faults_ns),
        config.rate
    );

    let clock = Clock::begin();
    let observer = Observer::new(&cluster.endpoints(), clock);
    (0..config.members).for_each(|member| observer.process(member, true));
    let recorder = Recorder::new(move || clock.now_ns(), observer.listener());
    let setting = Setting {
        recorder: recorder.clone(),
        endpoints: cluster.endpoints(),
        config: config.clone(),
        seed: arguments.seed,
    };
    let hosts: Vec<_> = (0..config.client_hosts)
        .map(|host| rt::task::spawn("client host", workloads::store::run_host(setting.clone(), host)).abort_on_drop())
        .collect();
    let strikes = strike(&mut cluster, &observer, clock, &schedule).await?;
    until(&mut cluster, clock, workloads::store::timeline(&config).ended_ns).await?;
    for host in hosts {
        host.await.context("a client host panicked")?;
    }
    catch_up(&observer, recorder.newest_revision()).await?;
    let observations = observer.finish().await;
    let ended_ns = clock.now_ns();
    let stopped = stop(&mut cluster, config.members);
    let workloads::Finished { operations, watches, .. } = recorder.finish();
    let mut record = Record {
        format: FORMAT,
        build: BUILD.to_owned(),
        seed: arguments.seed,
        executor_seed: 0,
        schedule,
        strikes,
        operations,
        watches,
        observations,
        cluster: <_>::default(),
        marks: BTreeMap::new(),
        healed_ns: config.faults_ns,
        ended_ns,
        slack_ns: 0,
        log_hash: 0,
        checkpoints: Vec::new(),
        panics: Vec::new(),
        verdicts: Vec::new(),
        config,
    };
    record.verdicts = checkers::judge(&record);
    Ok((record, stopped))
}

fn config(arguments: &Real) -> anyhow::Result<Config> {
    let store = sim::scenario(trial::STORE).context("the scenario of a store is gone")?;
    let faults_ns = arguments.seconds.map_or(Ns::from(arguments.kills) * SLOT_NS, |seconds| seconds * 1_000_000_000);
    Ok(Config {
        scenario: "real".to_owned(),
        one_more_permille: 0,
        freeze_minority_permille: 0,
        faults_ns,
        calm_ns: CALM_NS,
        rate: arguments.rate,
        faults: true,
        ..store
    })
}

/// Waits until a consistent read is answered: there is a leader, and it has committed in its term.
async fn wait_led(cluster: &Cluster) -> anyhow::Result<()> {
    let client =
        Client::new(cluster.endpoints(), ClientConfig { request_timeout: READY_WITHIN, ..ClientConfig::default() });
    let anything = RangeRequest { key: b"k"[..].into(), ..RangeRequest::default() };
    client.range(anything).await.map_err(|error| anyhow::anyhow!("the cluster elects no leader: {error}"))?;
    Ok(())
}

/// Kills and restarts as the schedule says.
async fn strike(
    cluster: &mut Cluster,
    observer: &Observer,
    clock: Clock,
    schedule: &Schedule,
) -> anyhow::Result<Vec<Strike>> {
    let mut strikes = Vec::new();
    for fault in &schedule.faults {
        let (member, at_ns) = kill_of(fault)?;
        until(cluster, clock, at_ns).await?;
        let busy = observer.at_work(member, BUSY_NS);
        cluster.kill(member);
        observer.process(member, false);
        let from_ns = clock.now_ns();
        until(cluster, clock, at_ns + fault.for_ns).await?;
        cluster.start(member)?;
        observer.process(member, true);
        strikes.push(Strike {
            fault: fault.id,
            kind: Kind::Kill,
            from_ns,
            until_ns: clock.now_ns(),
            members: vec![member],
            clients: Vec::new(),
            nodes: Vec::new(),
            busy,
            disabled: vec![member],
            severed: Vec::new(),
        });
    }
    Ok(strikes)
}

/// The member to kill, and when.
fn kill_of(fault: &Fault) -> anyhow::Result<(u32, Ns)> {
    match (&fault.what, &fault.when) {
        (What::Kill { target: Target::Member(member) }, When::At(at_ns)) => Ok((*member, *at_ns)),
        _ => bail!("fault {} is not the kill of a member at a time", fault.id),
    }
}

/// Waits, and sees meanwhile that no member ends by itself.
async fn until(cluster: &mut Cluster, clock: Clock, at_ns: Ns) -> anyhow::Result<()> {
    loop {
        cluster.check()?;
        let left_ns = at_ns.saturating_sub(clock.now_ns());
        if left_ns == 0 {
            return Ok(());
        }
        rt::time::sleep(Duration::from_nanos(left_ns.min(LOOK_EVERY_NS))).await;
    }
}

/// Waits until every member has shown all that clients were told of, so that the record has the whole history.
async fn catch_up(observer: &Observer, revision: i64) -> anyhow::Result<()> {
    let caught_up = async {
        while observer.everywhere() < revision {
            rt::time::sleep(Duration::from_nanos(LOOK_EVERY_NS)).await;
        }
    };
    let waited = rt::time::timeout(CATCH_UP_WITHIN, caught_up).await;
    let shown = observer.everywhere();
    waited
        .ok()
        .with_context(|| format!("a client was told of revision {revision}, but a member shows only up to {shown}"))
}

/// Asks every member to stop. Whether each did, with success.
fn stop(cluster: &mut Cluster, members: u32) -> bool {
    let mut all = true;
    for member in 0..members {
        match cluster.stop(member, STOP_WITHIN) {
            Some(status) if status.success() => {}
            Some(status) => {
                println!(
                    "member {member} was asked to stop and ended with {status}; its log is {}",
                    cluster.log(member).display()
                );
                all = false;
            }
            None => {
                println!("member {member} was asked to stop and did not; its log is {}", cluster.log(member).display());
                all = false;
            }
        }
    }
    all
}
