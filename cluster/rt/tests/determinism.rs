//! The same seeds give the same run; another executor seed gives another interleaving; and whatever happens to a
//! connection, bytes are conserved and nothing leaks.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

mod common;

use std::fmt::Write as _;
use std::future::pending;
use std::sync::{Arc, Mutex};

use common::{B, config, ms, s, with_two};
use rt::net::{TcpListener, TcpStream};
use rt::sim::{Config, LinkConfig};
use rt::task::{spawn, yield_now};
use rt::time::{sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CLIENTS: u8 = 4;

/// What both ends of each stream expect, byte by byte.
fn byte(client: u8, offset: usize) -> u8 {
    (offset % 241) as u8 ^ client
}

async fn echo() {
    let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        spawn("echo", async move {
            let (mut read, mut write) = stream.into_split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

/// Streams bytes through the echo and checks that what comes back is a prefix of them; again and again.
async fn client(number: u8, log: Log) {
    loop {
        if let Ok(Ok(stream)) = timeout(s(3), TcpStream::connect("b:80")).await {
            let (mut read, mut write) = stream.into_split();
            let writing = spawn("write", async move {
                for piece in 0..60 {
                    let bytes: Vec<u8> = (0..500).map(|i| byte(number, piece * 500 + i)).collect();
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            });
            let writing = writing.abort_on_drop();
            let mut offset = 0;
            let mut buffer = [0; 700];
            let end = loop {
                match timeout(s(10), read.read(&mut buffer)).await {
                    Ok(Ok(0)) => break "end".to_owned(),
                    Ok(Ok(n)) => {
                        for got in &buffer[..n] {
                            assert_eq!(*got, byte(number, offset), "at {offset}");
                            offset += 1;
                        }
                    }
                    Ok(Err(error)) => break format!("{:?}", error.kind()),
                    Err(_) => break "silence".to_owned(),
                }
            };
            drop(writing);
            let line = format!("{:?} {number} {offset} {end}", rt::time::Instant::now());
            log.lock().unwrap().push_str(&(line + "\n"));
        }
        sleep(s(1)).await;
    }
}

type Log = Arc<Mutex<String>>;

/// Random faults under an echo; returns what the clients saw, and the digest of the network's events.
fn chaos(seed: u64, executor_seed: u64) -> (String, u64) {
    let link = LinkConfig { delay: ms(1), jitter: ms(9), loss_permille: 20, bytes_per_second: 2_000_000, window: 2000 };
    let config = Config { seed, executor_seed, link, ..config() };
    with_two(config, |scene| async move {
        let log = Log::default();
        let clients = log.clone();
        scene.world.start(scene.b, || Box::pin(echo()));
        scene.world.start(scene.a, move || {
            for number in 0..CLIENTS {
                spawn("client", client(number, clients.clone()));
            }
            Box::pin(pending())
        });
        scene.torment(|host| host).await;
        scene.sleep(s(20)).await;
        scene.world.power_off(scene.a);
        scene.sleep(ms(10)).await;
        scene.world.power_on(scene.a);
        scene.sleep(s(30)).await;
        scene.world.kill(scene.a);
        scene.world.kill(scene.b);
        scene.sleep(s(2000)).await;
        assert_eq!(scene.world.stats().network.live_connections, 0, "connections leak");
        assert_eq!(scene.world.panics(), [], "bytes are not conserved");
        let mut log = log.lock().unwrap().clone();
        let _ = writeln!(log, "{:?} {}", scene.world.stats(), scene.world.now_ns());
        (log, scene.world.net_digest())
    })
    .unwrap()
}

#[test]
fn chaos_conserves_bytes_and_leaks_nothing() {
    for seed in 0..12 {
        let (log, _) = chaos(seed, seed);
        assert!(log.lines().count() > 10, "{log}");
    }
}

#[test]
fn the_same_seeds_give_the_same_run() {
    for seed in 0..2 {
        let first = chaos(seed, 7);
        assert_eq!(first, chaos(seed, 7));
        assert_ne!(first.1, chaos(seed + 100, 7).1, "another seed");
        assert_ne!(first.1, chaos(seed, 8).1, "another executor seed");
    }
}

#[test]
fn another_process_gives_the_same_run() {
    common::same_in_other_processes("another_process_gives_the_same_run", || format!("{:?}", chaos(7, 7)));
}

/// In which order five tasks that are ready at once run.
fn order(executor_seed: u64) -> String {
    let config = Config { executor_seed, ..config() };
    with_two(config, |scene| async move {
        scene
            .on(scene.a, async {
                let order = Log::default();
                let tasks: Vec<_> = (0..5)
                    .map(|n| {
                        let order = order.clone();
                        spawn("task", async move {
                            yield_now().await;
                            let _ = write!(order.lock().unwrap(), "{n}");
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
                let order = order.lock().unwrap();
                order.clone()
            })
            .await
    })
    .unwrap()
}

#[test]
fn executor_seeds_explore_interleavings() {
    let mut orders: Vec<_> = (0..40).map(order).collect();
    assert_eq!(order(3), orders[3]);
    orders.sort();
    orders.dedup();
    assert!(orders.len() >= 20, "{orders:?}");
}

#[test]
fn each_link_draws_from_a_stream_of_its_own() {
    /// When single bytes from `a` to `b` arrive, with or without traffic on other links.
    fn arrivals(noise: bool) -> Vec<u64> {
        let link = LinkConfig { jitter: ms(9), ..common::lan() };
        with_two(Config { link, ..config() }, move |scene| async move {
            let (mut client, mut server) = scene.pair().await;
            if noise {
                let c = common::idle_host(&scene.world, "c", 3);
                let listener = scene.listen().await;
                scene.world.spawn_on(c, "noise", async move {
                    let mut stream = TcpStream::connect(B).await.unwrap();
                    loop {
                        stream.write_all(&[0; 100]).await.unwrap();
                        sleep(ms(7)).await;
                    }
                });
                scene.world.spawn_on(scene.b, "sink", async move {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                });
            }
            let start = scene.world.now_ns();
            let mut times = Vec::new();
            for _ in 0..20 {
                client.write_u8(1).await.unwrap();
                server.read_u8().await.unwrap();
                times.push((scene.world.now_ns() - start) / 10_000);
                scene.sleep(ms(50)).await;
            }
            times
        })
        .unwrap()
    }
    let (alone, beside_noise) = (arrivals(false), arrivals(true));
    let same = alone.iter().zip(&beside_noise).filter(|(a, b)| a.abs_diff(**b) <= 1).count();
    assert_eq!(same, 20, "{alone:?} {beside_noise:?}");
}
