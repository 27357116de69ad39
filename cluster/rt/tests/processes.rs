//! Processes: started, ended, killed, paused, panicking, without power; tasks and the context that follows them.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

mod common;

use std::future::pending;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{B, Scene, about, config, idle_host, kind, ms, s, with_two};
use rt::net::{TcpListener, TcpStream};
use rt::random;
use rt::sim::{self, Config, ExitReason, World};
use rt::task::{self, spawn, unblock, yield_now};
use rt::time::{Instant, Timestamp, sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn check<Fut: Future<Output = ()> + 'static>(scene: fn(Scene) -> Fut) {
    with_two(config(), scene).unwrap();
}

/// A program that counts up every second.
fn counter(count: &Arc<AtomicU64>) -> impl Fn() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + use<> {
    let count = count.clone();
    move || {
        let count = count.clone();
        Box::pin(async move {
            loop {
                sleep(s(1)).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    }
}

#[test]
fn a_program_runs_until_it_is_killed_and_again_after_a_restart() {
    check(|scene| async move {
        let count = Arc::new(AtomicU64::new(0));
        scene.world.start(scene.b, counter(&count));
        scene.sleep(ms(3500)).await;
        assert_eq!(count.load(Ordering::Relaxed), 3);
        scene.world.kill(scene.b);
        assert!(!scene.world.is_running(scene.b));
        let exit = scene.world.wait_exit(scene.b).await;
        assert_eq!((exit.host, exit.process, exit.reason), (scene.b, 2, ExitReason::Killed));
        scene.sleep(s(10)).await;
        assert_eq!(count.load(Ordering::Relaxed), 3);
        scene.world.restart(scene.b);
        scene.sleep(ms(2500)).await;
        assert_eq!(count.load(Ordering::Relaxed), 5);
    });
}

#[test]
fn a_restart_at_the_instant_of_a_kill_runs_one_process_alone() {
    check(|scene| async move {
        let count = Arc::new(AtomicU64::new(0));
        scene.world.start(scene.b, counter(&count));
        for _ in 0..20 {
            scene.world.kill(scene.b);
            scene.world.restart(scene.b);
            scene.world.restart(scene.b);
        }
        scene.sleep(ms(3500)).await;
        assert_eq!(count.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_killed_host_returns_at_its_old_address() {
    check(|scene| async move {
        scene.world.start(scene.b, || {
            Box::pin(async {
                let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    spawn("answer", async move {
                        stream.write_all(b"here").await.unwrap();
                        pending::<()>().await;
                    });
                }
            })
        });
        for round in 0..5 {
            scene.sleep(ms(1)).await;
            let mut stream = scene.connect().await.unwrap();
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await.unwrap();
            if round % 2 == 0 {
                scene.world.kill(scene.b);
                scene.world.restart(scene.b);
                assert_eq!(kind(stream.read_u8().await), Some(ErrorKind::UnexpectedEof));
            } else {
                scene.world.power_off(scene.b);
                scene.world.power_on(scene.b);
                stream.write_u8(1).await.unwrap();
                assert_eq!(kind(stream.read_u8().await), Some(ErrorKind::ConnectionReset));
            }
        }
    });
}

#[test]
fn a_programs_end_is_its_processs_end() {
    check(|scene| async move {
        let side = Arc::new(AtomicU64::new(0));
        let count = side.clone();
        scene.world.start(scene.b, move || {
            let count = counter(&count);
            Box::pin(async move {
                spawn("side", count());
                let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
                let stream = listener.accept().await.unwrap();
                spawn("hold", async move {
                    pending::<()>().await;
                    drop(stream);
                });
                sleep(ms(2500)).await;
            })
        });
        scene.sleep(ms(1)).await;
        let mut stream = scene.connect().await.unwrap();
        let read = stream.read_u8();
        let (read, took) = scene.time(timeout(s(10), read)).await;
        assert_eq!(kind(read.unwrap()), Some(ErrorKind::UnexpectedEof), "its sockets are closed");
        assert!(took > ms(2500) && took < ms(2600), "{took:?}");
        assert_eq!(scene.world.wait_exit(scene.b).await.reason, ExitReason::Ended);
        scene.sleep(s(5)).await;
        assert_eq!(side.load(Ordering::Relaxed), 2, "its other tasks too");
    });
}

#[test]
fn a_panic_in_any_task_ends_its_process_alone() {
    check(|scene| async move {
        let count = Arc::new(AtomicU64::new(0));
        scene.world.start(scene.a, counter(&count));
        scene.sleep(s(2)).await;
        scene.world.start(scene.b, || {
            Box::pin(async {
                spawn("doomed", async {
                    sleep(s(1)).await;
                    panic!("there is nothing");
                });
                pending::<()>().await;
            })
        });
        let exit = scene.world.wait_exit(scene.b).await;
        let ExitReason::Panicked(panicked) = exit.reason else { panic!("{exit:?}") };
        assert_eq!((panicked.host.as_str(), panicked.task.as_str()), ("b", "doomed"));
        assert_eq!(panicked.message, "there is nothing");
        assert!(panicked.location.starts_with("cluster/rt/tests/processes.rs:"), "{panicked}");
        assert!(panicked.at_ns.abs_diff(3_000_000_000) < 1_000_000);
        assert_eq!(scene.world.panics(), [panicked]);
        scene.sleep(s(2)).await;
        assert!(scene.world.is_running(scene.a) && count.load(Ordering::Relaxed) >= 4);
        scene.world.restart(scene.b);
        scene.sleep(s(2)).await;
        assert_eq!(scene.world.panics().len(), 2, "and again");
    });
}

#[test]
fn a_panic_of_the_harness_ends_the_simulation() {
    let main = with_two(config(), |_| async { panic!("in main {}", 1) });
    let panicked = main.map(|(): ()| ()).unwrap_err();
    assert_eq!((panicked.host.as_str(), panicked.message.as_str()), ("harness", "in main 1"));
    let task = with_two(config(), |scene| async move {
        scene.world.spawn("helper", async {
            sleep(s(1)).await;
            panic!("in a helper");
        });
        scene.sleep(s(5)).await;
    });
    let panicked = task.unwrap_err();
    assert_eq!((panicked.task.as_str(), panicked.message.as_str()), ("helper", "in a helper"));
    assert!(panicked.at_ns.abs_diff(1_000_000_000) < 1_000_000);
}

#[test]
fn a_world_in_which_nothing_can_happen_any_more_is_an_error() {
    let stuck = with_two(config(), |_| pending::<()>()).unwrap_err();
    assert!(stuck.message.contains("all tasks will block forever"), "{stuck}");
}

#[test]
fn a_supervisor_can_restart_what_ended() {
    check(|scene| async move {
        scene.world.start(scene.b, || Box::pin(sleep(s(1))));
        let (world, b) = (scene.world.clone(), scene.b);
        scene.world.spawn("supervise", async move {
            loop {
                world.wait_exit(b).await;
                world.sleep(s(1)).await;
                world.restart(b);
            }
        });
        scene.sleep(ms(9500)).await;
        assert_eq!(scene.world.last_exit(scene.b).unwrap().process, 6);
        assert!(!scene.world.is_running(scene.b));
    });
}

#[test]
fn a_paused_process_stands_still_and_its_clock_goes_on() {
    check(|scene| async move {
        let count = Arc::new(AtomicU64::new(0));
        scene.world.start(scene.b, counter(&count));
        scene.sleep(ms(2500)).await;
        scene.world.pause(scene.b);
        assert!(scene.world.is_paused(scene.b) && scene.world.is_running(scene.b));
        scene.sleep(s(100)).await;
        assert_eq!(count.load(Ordering::Relaxed), 2);
        scene.world.resume(scene.b);
        scene.sleep(ms(1)).await;
        assert_eq!(count.load(Ordering::Relaxed), 3, "the timer expired meanwhile");
        scene.sleep(s(2)).await;
        assert_eq!(count.load(Ordering::Relaxed), 5);
    });
}

#[test]
fn a_paused_process_can_be_killed_and_its_successor_is_not_paused() {
    check(|scene| async move {
        struct Told(Arc<AtomicU64>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
                // A destructor may spawn; what it spawns in a dead process never runs.
                spawn("late", async { panic!("ran in a dead process") });
            }
        }
        let (count, dropped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        scene.world.start(scene.b, counter(&count));
        let told = Told(dropped.clone());
        scene.world.spawn_on(scene.b, "told", async move {
            sleep(s(1)).await;
            pending::<()>().await;
            drop(told);
        });
        scene.world.pause(scene.b);
        scene.sleep(s(5)).await;
        scene.world.kill(scene.b);
        scene.sleep(s(1)).await;
        assert_eq!((count.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed)), (0, 1));
        scene.world.restart(scene.b);
        assert!(!scene.world.is_paused(scene.b));
        scene.sleep(ms(2500)).await;
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert!(scene.world.panics().is_empty());
    });
}

#[test]
fn without_power_nothing_starts() {
    check(|scene| async move {
        let count = Arc::new(AtomicU64::new(0));
        scene.world.power_off(scene.b);
        assert!(!scene.world.is_powered(scene.b));
        scene.world.start(scene.b, counter(&count));
        scene.world.restart(scene.b);
        scene.sleep(s(5)).await;
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert_eq!(scene.world.wait_exit(scene.b).await.reason, ExitReason::PoweredOff);
        let refused = scene.world.spawn_on(scene.b, "never", async {});
        assert!(refused.is_finished() && refused.await.unwrap_err().is_cancelled());
        scene.world.power_on(scene.b);
        scene.sleep(ms(2500)).await;
        assert_eq!(count.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_drop_sees_its_own_node() {
    type Seen = Arc<Mutex<Vec<(i64, u64)>>>;
    /// What a task of this node sees.
    fn look() -> (i64, u64) {
        (Timestamp::now().unix_ns, random::stream("look").next_u64())
    }
    struct Witness(Seen);
    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(look());
        }
    }
    check(|scene| async move {
        const HOUR_NS: i64 = 3_600_000_000_000;
        let seen = Seen::default();
        for (host, offset) in [(scene.a, HOUR_NS), (scene.b, -HOUR_NS)] {
            scene.world.set_wall_offset(host, offset);
            let witness = Witness(seen.clone());
            scene.world.spawn_on(host, "witness", async move {
                pending::<()>().await;
                drop(witness);
            });
        }
        scene.sleep(s(1)).await;
        let right = Timestamp::now().unix_ns;
        scene.world.kill(scene.a);
        scene.sleep(ms(1)).await;
        scene.world.kill(scene.b);
        scene.sleep(ms(1)).await;
        let seen = seen.lock().unwrap().clone();
        let [(a, random_a), (b, random_b)] = seen[..] else { panic!("{seen:?}") };
        assert!(a.abs_diff(right + HOUR_NS) < 10_000_000 && b.abs_diff(right - HOUR_NS) < 10_000_000);
        assert!(random_a != random_b && ![random_a, random_b].contains(&look().1));
    });
}

#[test]
fn a_simulation_inside_of_a_simulation_is_refused() {
    let inner = with_two(config(), |_| async { sim::run(config(), |_| async {}) });
    let panicked = inner.map(|_| ()).unwrap_err();
    assert!(panicked.message.contains("inside of a simulation"), "{panicked}");
}

#[test]
fn streams_belong_to_process_and_name() {
    let draw = |seed, executor_seed| {
        let config = Config { seed, executor_seed, ..config() };
        with_two(config, |scene| async move {
            let mut drawn = Vec::new();
            for host in [scene.a, scene.b] {
                for name in ["x", "y", "x"] {
                    drawn.push(scene.on(host, async move { random::stream(name).next_u64() }).await);
                }
            }
            scene.world.restart(scene.b);
            drawn.push(scene.on(scene.b, async { random::stream("x").next_u64() }).await);
            drawn
        })
        .unwrap()
    };
    let drawn = draw(5, 1);
    let mut distinct = drawn.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 7);
    assert_eq!(draw(5, 2), drawn, "the executor's seed does not matter");
    assert_ne!(draw(6, 1), drawn);
}

#[test]
fn tasks_can_be_joined_aborted_and_let_go() {
    check(|scene| async move {
        scene
            .on(scene.a, async {
                assert_eq!(spawn("one", async { 1 }).await, Ok(1));
                let sleeping = spawn("sleeping", sleep(s(100)));
                yield_now().await;
                assert!(!sleeping.is_finished());
                sleeping.abort();
                assert!(sleeping.await.unwrap_err().is_cancelled());

                let token = Arc::new(());
                let held = token.clone();
                let hold = async move {
                    pending::<()>().await;
                    drop(held);
                };
                drop(spawn("held", hold).abort_on_drop());
                sleep(ms(1)).await;
                assert_eq!(Arc::strong_count(&token), 1);

                let kept = token.clone();
                drop(spawn("kept", async move {
                    sleep(s(1)).await;
                    drop(kept);
                }));
                sleep(ms(1)).await;
                assert_eq!(Arc::strong_count(&token), 2, "dropping a handle lets the task run");
                assert_eq!(unblock("work", || 6 * 7).await, 42);
                assert!(timeout(s(1000), task::shutdown_signal()).await.is_err());
            })
            .await;
    });
}

#[test]
fn nothing_of_a_dead_process_reaches_its_successor() {
    check(|scene| async move {
        // The first process leaves a listener, a connection and a sleeping task; their drops come after its successor
        // has bound the same port.
        scene.world.start(scene.b, || {
            Box::pin(async {
                let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
                let accepted = listener.accept().await;
                pending::<()>().await;
                drop(accepted);
            })
        });
        scene.sleep(ms(1)).await;
        let old = scene.connect().await.unwrap();
        scene.sleep(s(1)).await;
        scene.world.restart(scene.b);
        scene.sleep(ms(1)).await;
        let (new, took) = scene.time(timeout(s(5), TcpStream::connect(B))).await;
        assert!(about(took, ms(20)), "{took:?}");
        drop((old, new.unwrap().unwrap()));
    });
}

#[test]
fn profiles_count_polls_and_time_by_name() {
    let config = Config { profile: true, ..config() };
    let profile = with_two(config, |scene| async move {
        scene
            .on(scene.a, async {
                spawn("busy", async {
                    for _ in 0..100 {
                        std::hint::black_box((0..20_000_u64).fold(0, |a, b| a ^ std::hint::black_box(b)));
                        yield_now().await;
                    }
                })
                .await
            })
            .await
            .unwrap();
        scene.world.profile()
    });
    let profile = profile.unwrap();
    assert_eq!(profile["busy"].polls, 101);
    if cfg!(target_arch = "x86_64") {
        assert!(profile["busy"].cpu_ns > profile["test"].cpu_ns, "{profile:?}");
    }
    assert!(profile.contains_key("timers") && profile.contains_key("network"));
}

#[test]
fn the_world_says_what_it_did() {
    check(|scene| async move {
        assert_eq!((scene.world.name(scene.b), scene.world.seed()), ("b".to_owned(), 1));
        let (mut client, mut server) = scene.pair().await;
        client.write_all(&[0; 100]).await.unwrap();
        server.read_exact(&mut [0; 100]).await.unwrap();
        let stats = scene.world.stats();
        assert_eq!((stats.network.connections, stats.network.bytes), (1, 100));
        assert_eq!((stats.network.live_connections, stats.network.lost), (1, 0));
        assert!(stats.network.events >= 4 && stats.tasks > 4);
    });
}

#[test]
fn a_host_may_be_added_at_any_time() {
    check(|scene| async move {
        scene.sleep(s(1)).await;
        let world: &World = &scene.world;
        let c = idle_host(world, "c", 3);
        let found = scene.on(c, rt::net::lookup_host("c:1")).await.unwrap();
        assert_eq!(found[0].to_string(), "10.0.0.3:1");
        assert!(scene.on(c, async { Instant::now().elapsed() }).await < ms(1));
    });
}

#[test]
fn a_task_that_hangs_stands_still_while_others_go_on() {
    check(|scene| async move {
        let (stuck, free) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stuck_too, free_too) = (stuck.clone(), free.clone());
        scene.world.start(scene.b, move || {
            spawn("stuck", counter(&stuck_too)());
            counter(&free_too)()
        });
        let counts = || (stuck.load(Ordering::Relaxed), free.load(Ordering::Relaxed));
        scene.sleep(ms(2500)).await;
        scene.world.hang(scene.b, "stuck");
        scene.sleep(s(3)).await;
        assert_eq!(counts(), (2, 5));
        scene.world.go_on(scene.b, "stuck");
        scene.sleep(s(2)).await;
        assert_eq!(counts(), (4, 7), "where it stood, and then on");
        scene.world.hang(scene.b, "stuck");
        scene.world.hang(scene.b, "nobody");
        scene.sleep(s(1)).await;
        scene.world.restart(scene.b);
        scene.sleep(ms(1500)).await;
        assert_eq!(counts(), (5, 9), "a new process does not hang");
    });
}
