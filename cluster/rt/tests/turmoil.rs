//! Simulator B: what processes see of network, clocks, disk and their own end under turmoil, and that runs repeat.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

mod common;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::pending;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Scene, kind, ms, s};
use rt::disk::{Dir, DiskFaults};
use rt::net::{OwnedWriteHalf, TcpListener, TcpStream};
use rt::sim::{Backend, Config, ExitReason, HostId, LinkConfig, World};
use rt::task::spawn;
use rt::time::{Instant, Timestamp, sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn config() -> Config {
    Config { backend: Backend::Turmoil, ..common::config() }
}

/// Two hosts whose processes have begun.
fn check<Fut: Future<Output = ()> + 'static>(scene: fn(Scene) -> Fut) {
    let run = move |scene_of: Scene| async move {
        scene_of.sleep(ms(2)).await;
        scene(scene_of).await;
    };
    common::with_two(config(), run).unwrap();
}

/// Serves at port 80 of its host: gives back what it is sent.
async fn echo() {
    let listener = TcpListener::bind("b:80").await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        spawn("echo", async move {
            let (mut read, mut write) = stream.into_split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

async fn serve(scene: &Scene) {
    scene.world.start(scene.b, || Box::pin(echo()));
    scene.sleep(ms(5)).await;
}

/// How long it takes to be given back a byte by `b`, on a new connection.
async fn exchange() -> std::io::Result<Duration> {
    let mut stream = TcpStream::connect("b:80").await?;
    let start = Instant::now();
    stream.write_all(&[7]).await?;
    assert_eq!(stream.read_u8().await?, 7);
    Ok(start.elapsed())
}

/// The same, for three seconds at most: whether an answer came, or none, or a failure.
async fn asked(scene: &Scene) -> Option<Result<(), ErrorKind>> {
    let answer = scene.on(scene.a, timeout(s(3), exchange())).await;
    answer.ok().map(|answer| answer.map(drop).map_err(|error| error.kind()))
}

#[test]
fn streams_carry_bytes_both_ways_and_take_their_time() {
    check(|scene| async move {
        serve(&scene).await;
        let (took, addresses) = scene
            .on(scene.a, async {
                let stream = TcpStream::connect("b:80").await.unwrap();
                let ends = (stream.local_addr().unwrap().ip().to_string(), stream.peer_addr().unwrap().to_string());
                (exchange().await.unwrap(), ends)
            })
            .await;
        assert!((ms(20)..ms(30)).contains(&took), "two ways of ten milliseconds and some jitter: {took:?}");
        assert_eq!(addresses, ("10.0.0.1".into(), "10.0.0.2:80".into()));
    });
}

#[test]
fn a_live_host_without_a_listener_refuses_and_a_dead_one_is_silent() {
    check(|scene| async move {
        assert_eq!(asked(&scene).await, Some(Err(ErrorKind::ConnectionRefused)));
        scene.world.kill(scene.b);
        assert_eq!(asked(&scene).await, Some(Err(ErrorKind::ConnectionRefused)), "its kernel lives");
        scene.world.power_off(scene.b);
        assert_eq!(asked(&scene).await, None);
    });
}

#[test]
fn addresses_of_others_and_ports_that_are_taken_are_refused() {
    check(|scene| async move {
        let (other, own, again) = scene
            .on(scene.b, async {
                let other = TcpListener::bind("a:80").await;
                let listener = TcpListener::bind("b:0").await.unwrap();
                let own = listener.local_addr().unwrap();
                (kind(other), own, kind(TcpListener::bind(&own.to_string()).await))
            })
            .await;
        assert!(own.ip().to_string() == "10.0.0.2" && own.port() > 0, "{own}");
        assert_eq!((other, again), (Some(ErrorKind::AddrNotAvailable), Some(ErrorKind::AddrInUse)));
    });
}

#[test]
fn a_cut_is_silence_and_what_was_said_arrives_when_it_heals() {
    check(|scene| async move {
        serve(&scene).await;
        let answered = scene.world.spawn_on(scene.a, "client", async {
            let mut stream = TcpStream::connect("b:80").await.unwrap();
            sleep(s(1)).await;
            stream.write_all(&[1]).await.unwrap();
            stream.read_u8().await
        });
        scene.sleep(ms(500)).await;
        scene.part();
        assert_eq!(asked(&scene).await, None, "nor can one connect");
        scene.sleep(s(2)).await;
        assert!(!answered.is_finished());
        scene.join();
        scene.sleep(ms(100)).await;
        assert_eq!(answered.await.unwrap().unwrap(), 1);
        assert_eq!(asked(&scene).await, Some(Ok(())));
    });
}

#[test]
fn one_direction_can_be_cut_or_held_while_the_other_is_heard() {
    async fn say(mut write: OwnedWriteHalf) {
        while write.write_all(&[1]).await.is_ok() {
            sleep(s(1)).await;
        }
    }
    /// What a client that says and is told something each second was told, when only one direction is open from then on.
    async fn told(scene: &Scene, from: HostId, to: HostId, hold: bool) -> (u64, u64) {
        let heard = Arc::new(Mutex::new((0, 0)));
        let (at_a, at_b) = (heard.clone(), heard.clone());
        scene.world.start(scene.b, move || {
            let heard = at_b.clone();
            Box::pin(async move {
                let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
                let (mut read, write) = listener.accept().await.unwrap().0.into_split();
                spawn("say", say(write));
                while read.read_u8().await.is_ok() {
                    heard.lock().unwrap().1 += 1;
                }
            })
        });
        scene.sleep(ms(5)).await;
        scene.world.start(scene.a, move || {
            let heard = at_a.clone();
            Box::pin(async move {
                let (mut read, write) = TcpStream::connect("b:80").await.unwrap().into_split();
                spawn("say", say(write));
                while read.read_u8().await.is_ok() {
                    heard.lock().unwrap().0 += 1;
                }
            })
        });
        scene.sleep(ms(500)).await;
        let world = &scene.world;
        let dam = if hold { World::hold } else { World::cut };
        dam(world, from, to);
        *heard.lock().unwrap() = (0, 0);
        scene.sleep(s(5)).await;
        let meanwhile = *heard.lock().unwrap();
        let open = if hold { World::release } else { World::heal };
        open(world, from, to);
        scene.sleep(ms(100)).await;
        assert_eq!(*heard.lock().unwrap(), (5, 5), "in the end all arrives");
        meanwhile
    }
    check(|scene| async move {
        for hold in [false, true] {
            assert_eq!(told(&scene, scene.a, scene.b, hold).await, (5, 0));
            assert_eq!(told(&scene, scene.b, scene.a, hold).await, (0, 5));
        }
    });
}

#[test]
fn a_slower_link_is_slower() {
    check(|scene| async move {
        serve(&scene).await;
        let slow = LinkConfig { delay: ms(200), ..common::lan() };
        scene.world.set_link(scene.a, scene.b, slow);
        scene.world.set_link(scene.b, scene.a, slow);
        let took = scene.on(scene.a, exchange()).await.unwrap();
        assert!((ms(400)..ms(410)).contains(&took), "{took:?}");
        scene.world.set_link(scene.a, scene.b, common::lan());
        scene.world.set_link(scene.b, scene.a, common::lan());
        let took = scene.on(scene.a, exchange()).await.unwrap();
        assert!(took < ms(30), "{took:?}");
    });
}

/// A client of `b` that waits for the end of its stream.
fn waits_for_the_end(scene: &Scene) -> rt::task::JoinHandle<Result<usize, ErrorKind>> {
    scene.world.spawn_on(scene.a, "client", async {
        let mut stream = TcpStream::connect("b:80").await.unwrap();
        stream.read(&mut [0]).await.map_err(|error| error.kind())
    })
}

#[test]
fn a_killed_process_closes_its_streams_and_its_successor_serves() {
    check(|scene| async move {
        serve(&scene).await;
        let end = waits_for_the_end(&scene);
        scene.sleep(ms(100)).await;
        scene.world.kill(scene.b);
        assert_eq!(scene.world.wait_exit(scene.b).await.reason, ExitReason::Killed);
        scene.sleep(ms(50)).await;
        assert_eq!(end.await.unwrap(), Ok(0));
        scene.world.restart(scene.b);
        scene.sleep(ms(5)).await;
        assert_eq!(asked(&scene).await, Some(Ok(())));
    });
}

#[test]
fn a_host_without_power_says_nothing_and_resets_old_streams_when_it_is_back() {
    check(|scene| async move {
        serve(&scene).await;
        let silence = waits_for_the_end(&scene);
        let told = scene.world.spawn_on(scene.a, "writer", async {
            let mut stream = TcpStream::connect("b:80").await.unwrap();
            loop {
                sleep(s(1)).await;
                if let Err(error) = stream.write_all(&[1]).await {
                    return error.kind();
                }
            }
        });
        scene.sleep(ms(500)).await;
        scene.world.power_off(scene.b);
        scene.sleep(s(10)).await;
        assert!(!silence.is_finished() && !told.is_finished());
        scene.world.power_on(scene.b);
        scene.sleep(s(2)).await;
        assert_eq!(told.await.unwrap(), ErrorKind::BrokenPipe);
        assert!(!silence.is_finished(), "who says nothing is told nothing");
        assert_eq!(asked(&scene).await, Some(Ok(())));
    });
}

#[test]
fn power_loss_keeps_what_was_synced_and_a_kill_keeps_what_was_written() {
    async fn write(synced: bool) {
        let dir = Dir::open("/data").await.unwrap();
        let file = dir.create("file").await.unwrap();
        dir.sync().await.unwrap();
        file.write_at(0, vec![1; 4096]).await.unwrap();
        let start = Instant::now();
        file.sync_data().await.unwrap();
        assert!(start.elapsed() >= ms(1), "a sync takes time");
        file.write_at(0, vec![2; 64 * 512]).await.unwrap();
        if synced {
            file.sync_data().await.unwrap();
        }
    }
    async fn read() -> Vec<u8> {
        let file = Dir::open("/data").await.unwrap().open_file("file").await.unwrap();
        file.read_at(0, 64 * 512).await.unwrap()
    }
    check(|scene| async move {
        let all = vec![2; 64 * 512];
        scene.on(scene.a, write(true)).await;
        scene.on(scene.b, write(false)).await;
        scene.world.kill(scene.b);
        scene.world.restart(scene.b);
        scene.sleep(ms(2)).await;
        assert_eq!(scene.on(scene.b, read()).await, all);
        for host in [scene.a, scene.b] {
            scene.world.power_off(host);
            scene.world.power_on(host);
        }
        scene.sleep(ms(2)).await;
        assert_eq!(scene.on(scene.a, read()).await, all);
        assert_ne!(scene.on(scene.b, read()).await, all);
        scene.world.set_disk(scene.a, DiskFaults { stalled: true, ..DiskFaults::default() });
        let stalled = scene.world.spawn_on(scene.a, "reader", read());
        scene.sleep(s(5)).await;
        assert!(!stalled.is_finished());
        scene.world.set_disk(scene.a, DiskFaults::default());
        assert_eq!(stalled.await.unwrap(), all);
    });
}

#[test]
fn each_host_has_clocks_of_its_own_and_sleeps_follow_them() {
    check(|scene| async move {
        let naps = [(scene.a, 1000, 10), (scene.b, 500, 20), (scene.b, 2000, 5)];
        for (host, rate, expected) in naps {
            scene.world.set_rate(host, rate);
            let (_, took) = scene.time(scene.on(host, async { sleep(s(10)).await })).await;
            assert!(took.abs_diff(s(expected)) < ms(3), "{rate}: {took:?}");
        }
        // A change reaches those who sleep: ten seconds, of which five pass at half the speed.
        scene.world.set_rate(scene.b, 500);
        let nap = scene.world.spawn_on(scene.b, "nap", async { sleep(s(10)).await });
        scene.sleep(s(10)).await;
        scene.world.set_rate(scene.b, 0);
        scene.sleep(s(100)).await;
        assert!(!nap.is_finished(), "a clock that stands still");
        scene.world.set_rate(scene.b, 1000);
        let (_, left) = scene.time(nap).await;
        assert!(left.abs_diff(s(5)) < ms(3), "{left:?}");
        let wall = |host| scene.on(host, async { Timestamp::now().unix_ns });
        let before = wall(scene.a).await;
        scene.world.set_wall_offset(scene.a, -3_600_000_000_000);
        let change = wall(scene.a).await - before;
        assert!((change + 3_600_000_000_000).abs() < 10_000_000, "{change}");
    });
}

/// A process that counts up every second.
fn count(world: &World, host: HostId) -> Arc<Mutex<u64>> {
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    world.start(host, move || {
        let count = counted.clone();
        Box::pin(async move {
            loop {
                sleep(s(1)).await;
                *count.lock().unwrap() += 1;
            }
        })
    });
    count
}

#[test]
fn a_paused_process_does_nothing_while_its_clock_and_its_kernel_go_on() {
    check(|scene| async move {
        let count = count(&scene.world, scene.b);
        scene.sleep(ms(2_500)).await;
        scene.world.pause(scene.b);
        scene.sleep(s(10)).await;
        assert_eq!(*count.lock().unwrap(), 2);
        scene.world.resume(scene.b);
        scene.sleep(ms(2)).await;
        assert_eq!(*count.lock().unwrap(), 3, "what was due meanwhile");
        scene.sleep(ms(1_500)).await;
        assert_eq!(*count.lock().unwrap(), 4);
    });
}

#[test]
fn a_panic_and_the_programs_end_end_the_process_and_all_its_tasks() {
    check(|scene| async move {
        let ends: [(&str, fn()); 2] = [("panicked", || panic!("on purpose")), ("ended", || ())];
        for (how, end) in ends {
            let side = Arc::new(Mutex::new(0));
            let counted = side.clone();
            scene.world.start(scene.b, move || {
                let side = counted.clone();
                Box::pin(async move {
                    spawn("side", async move {
                        loop {
                            sleep(ms(100)).await;
                            *side.lock().unwrap() += 1;
                        }
                    });
                    sleep(ms(550)).await;
                    end();
                })
            });
            scene.sleep(s(5)).await;
            assert_eq!(*side.lock().unwrap(), 5, "{how}");
            let reason = scene.world.wait_exit(scene.b).await.reason;
            assert_eq!(matches!(reason, ExitReason::Panicked(_)), how == "panicked", "{reason:?}");
            assert!(!scene.world.is_running(scene.b));
        }
        assert_eq!(scene.world.panics().len(), 1);
        assert_eq!(scene.world.panics()[0].message, "on purpose");
    });
}

#[test]
fn a_host_that_restarts_at_the_instant_of_a_kill_runs_one_process_alone() {
    check(|scene| async move {
        let count = count(&scene.world, scene.b);
        for _ in 0..20 {
            scene.world.kill(scene.b);
            scene.world.restart(scene.b);
        }
        scene.sleep(ms(3_500)).await;
        assert_eq!(*count.lock().unwrap(), 3);
    });
}

type Log = Arc<Mutex<String>>;

/// What both ends of each stream expect, byte by byte.
fn byte(client: u8, offset: usize) -> u8 {
    (offset % 241) as u8 ^ client
}

/// Streams bytes through the echo and checks that what comes back is a prefix of them; again and again. Tells also in
/// which order a map of the standard library's has its keys, and what libc draws.
async fn client(number: u8, log: Log) {
    loop {
        let order: Vec<u32> = (0..6).map(|key| (key, ())).collect::<HashMap<_, _>>().into_keys().collect();
        let mut libc = [0; 8];
        getrandom(&mut libc);
        let mut end = "not connected".to_owned();
        let mut offset = 0;
        if let Ok(Ok(stream)) = timeout(s(3), TcpStream::connect("b:80")).await {
            let (mut read, mut write) = stream.into_split();
            let writing = spawn("write", async move {
                for piece in 0..60 {
                    let bytes: Vec<u8> = (0..500).map(|i| byte(number, piece * 500 + i)).collect();
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                    sleep(ms(20)).await;
                }
            });
            let writing = writing.abort_on_drop();
            let mut buffer = [0; 700];
            end = loop {
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
        }
        let now = Instant::now();
        let _ = writeln!(log.lock().unwrap(), "{now:?} {number} {offset} {end} {order:?} {libc:?}");
        sleep(s(1)).await;
    }
}

/// Asks libc for random bytes, as crates of randomness do.
#[expect(unsafe_code, reason = "libc is spoken to in no other way")]
fn getrandom(bytes: &mut [u8]) {
    unsafe extern "C" {
        fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize;
    }
    // SAFETY: the buffer is as long as is said.
    let filled = unsafe { getrandom(bytes.as_mut_ptr(), bytes.len(), 0) };
    assert_eq!(filled, bytes.len().cast_signed());
}

/// Random faults under an echo; returns what the clients saw.
fn chaos(seed: u64, executor_seed: u64) -> String {
    let config = Config { seed, executor_seed, ..config() };
    common::with_two(config, |scene| async move {
        let log = Log::default();
        let clients = log.clone();
        scene.world.start(scene.b, || Box::pin(echo()));
        scene.world.start(scene.a, move || {
            for number in 0..4 {
                spawn("client", client(number, clients.clone()));
            }
            Box::pin(pending())
        });
        scene.torment(|_| scene.b).await;
        scene.sleep(s(20)).await;
        assert_eq!(scene.world.panics(), [], "bytes are not conserved");
        let log = log.lock().unwrap();
        format!("{log}{}", scene.world.now_ns())
    })
    .unwrap()
}

#[test]
fn the_same_seeds_give_the_same_run_under_turmoil() {
    for seed in 0..2 {
        let first = chaos(seed, 7);
        assert!(first.lines().count() > 20, "{first}");
        assert_eq!(first, chaos(seed, 7));
        assert_ne!(first, chaos(seed + 100, 7), "another seed");
        assert_ne!(first, chaos(seed, 8), "another executor seed");
    }
}

#[test]
fn another_process_gives_the_same_run_under_turmoil() {
    common::same_in_other_processes("another_process_gives_the_same_run_under_turmoil", || chaos(7, 7));
}
