//! The loads, and what they cost.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rt::net::{TcpListener, TcpStream};
use rt::sim::{self, Config, LinkConfig, Stats, World};
use rt::task::spawn;
use rt::time::{sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Size of each message, lengths and all.
const MESSAGE: usize = 200;
/// Its first byte; the second is its sender.
const RENEW: u8 = 0;
const WATCH: u8 = 1;

pub fn main() {
    for (label, agents, every) in [
        ("13 hosts, a renewal each 10 s, watched", 10, Duration::from_secs(10)),
        ("105 hosts, a renewal each 10 s, watched", 102, Duration::from_secs(10)),
        ("13 hosts, 300 requests per second", 10, Duration::from_millis(33)),
    ] {
        let simulated = Duration::from_secs(if every < Duration::from_secs(1) { 500 } else { 50_000 });
        let start = cpu_seconds();
        let result = sim::run(config(), move |world| load(world, agents, every, simulated));
        let (stats, digest) = result.expect("no task of the load panics");
        let cpu = cpu_seconds() - start;
        println!(
            "{label}: {:.0} simulated seconds per CPU second; {} events, {:.0} ns each; {digest:016x}",
            simulated.as_secs_f64() / cpu,
            stats.network.events,
            cpu * 1e9 / stats.network.events as f64,
        );
    }
}

fn config() -> Config {
    let link =
        LinkConfig { delay: Duration::from_millis(1), jitter: Duration::from_millis(9), ..LinkConfig::default() };
    Config { seed: 1, executor_seed: 1, link, ..Config::default() }
}

async fn load(world: World, agents: u8, every: Duration, simulated: Duration) -> (Stats, u64) {
    for server in 0..3 {
        let host = world.add_host(&format!("s{server}"), address(1, server));
        world.start(host, || Box::pin(serve()));
    }
    for agent in 0..agents {
        let host = world.add_host(&format!("a{agent}"), address(2, agent));
        let server = format!("{}:1", address(1, agent % 3));
        world.start(host, move || Box::pin(act(server.clone(), agent, every)));
    }
    world.sleep(simulated).await;
    (world.stats(), world.net_digest())
}

fn address(net: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, net, host + 1))
}

/// Who watches whom.
type Watchers = Arc<Mutex<BTreeMap<u8, mpsc::UnboundedSender<()>>>>;

/// Answers each message, and tells whoever watches its sender.
async fn serve() {
    let listener = TcpListener::bind("0.0.0.0:1").await.expect("nobody else listens");
    let watchers = Watchers::default();
    while let Ok((stream, _)) = listener.accept().await {
        spawn("connection", answer(stream, watchers.clone()));
    }
}

async fn answer(stream: TcpStream, watchers: Watchers) {
    let (mut read, mut write) = stream.into_split();
    let mut message = [0; MESSAGE];
    while read.read_exact(&mut message).await.is_ok() {
        let [kind, sender, ..] = message;
        if kind == WATCH {
            let (watcher, mut events) = mpsc::unbounded_channel();
            watchers.lock().expect("nobody panics").insert(sender, watcher);
            while events.recv().await.is_some() && write.write_all(&message).await.is_ok() {}
            return;
        }
        if let Some(watcher) = watchers.lock().expect("nobody panics").get(&sender) {
            let _ = watcher.send(());
        }
        if write.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// Sends a message every so often and waits for its answer; watches on another connection.
async fn act(server: String, agent: u8, every: Duration) {
    let watched = server.clone();
    spawn("watch", async move {
        let mut stream = TcpStream::connect(&watched).await.expect("the server is up");
        let mut message = [agent; MESSAGE];
        message[0] = WATCH;
        stream.write_all(&message).await.expect("the server is up");
        while stream.read_exact(&mut message).await.is_ok() {}
    });
    let offset = rt::random::stream("offset").jitter(every);
    sleep(offset).await;
    let mut stream = TcpStream::connect(&server).await.expect("the server is up");
    let mut message = [agent; MESSAGE];
    message[0] = RENEW;
    loop {
        stream.write_all(&message).await.expect("the server is up");
        let answer = timeout(Duration::from_secs(5), stream.read_exact(&mut message)).await;
        if !answer.is_ok_and(|read| read.is_ok()) {
            return pending().await;
        }
        sleep(every).await;
    }
}

/// CPU time of all threads of this process, by the hundredth of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let after_name = stat.rsplit(')').next().expect("splitting gives at least one part");
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("times are numbers")).sum::<f64>() / 100.0
}
