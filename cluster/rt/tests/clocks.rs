//! Each host's clocks: rate, freezing, continuity, wall clock apart from monotonic; and what sleeps by them.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

mod common;

use std::time::Duration;

use common::{Scene, about, config, ms, s, with_two};
use rt::random;
use rt::sim::HostId;
use rt::time::{Elapsed, Instant, Timestamp, sleep, sleep_until, timeout};

fn check<Fut: Future<Output = ()> + 'static>(scene: fn(Scene) -> Fut) {
    with_two(config(), scene).unwrap();
}

async fn now_on(scene: &Scene, host: HostId) -> Instant {
    scene.on(host, async { Instant::now() }).await
}

async fn wall_on(scene: &Scene, host: HostId) -> i64 {
    scene.on(host, async { Timestamp::now().unix_ns }).await
}

#[test]
fn sleeps_end_when_their_own_clock_says_so() {
    check(|scene| async move {
        for (rate, expected) in [(1000, s(10)), (500, s(20)), (2000, s(5)), (1100, ms(9_090))] {
            scene.world.set_rate(scene.b, rate);
            let sleeping = scene.on(scene.b, async {
                let start = Instant::now();
                sleep(s(10)).await;
                start.elapsed()
            });
            let (local, truly) = scene.time(sleeping).await;
            assert!(local >= s(10) && local < s(10) + Duration::from_micros(10), "{local:?}");
            assert!(truly.abs_diff(expected) < ms(1), "{rate}: {truly:?}");
            let (_, other) = scene.time(scene.on(scene.a, async move { sleep(s(10)).await })).await;
            assert!(about(other, s(10)), "another host's clock is its own: {other:?}");
        }
    });
}

#[test]
fn sleeps_are_as_short_as_asked() {
    check(|scene| async move {
        for ns in [1, 1_000, 123_456] {
            let duration = Duration::from_nanos(ns);
            let (_, took) = scene.time(scene.on(scene.a, async move { sleep(duration).await })).await;
            assert!(took >= duration && took < duration + Duration::from_micros(2), "{took:?}");
        }
        let (_, took) = scene.time(scene.on(scene.a, async move { sleep(Duration::ZERO).await })).await;
        assert!(took < Duration::from_micros(1), "{took:?}");
    });
}

#[test]
fn a_change_of_rate_reaches_sleeps_under_way() {
    check(|scene| async move {
        let sleeping = scene.world.spawn_on(scene.b, "sleep", async { sleep(s(10)).await });
        scene.sleep(s(4)).await;
        scene.world.set_rate(scene.b, 3000);
        let (_, rest) = scene.time(sleeping).await;
        assert!(about(rest, s(2)), "six seconds at threefold speed: {rest:?}");
    });
}

#[test]
fn a_frozen_clock_holds_its_sleeps_until_it_thaws() {
    check(|scene| async move {
        let sleeping = scene.world.spawn_on(scene.b, "sleep", async { sleep(s(10)).await });
        scene.sleep(s(4)).await;
        scene.world.set_rate(scene.b, 0);
        let (frozen, wall) = (now_on(&scene, scene.b).await, wall_on(&scene, scene.b).await);
        let asleep_in_ice = scene.world.spawn_on(scene.b, "sleep", async { sleep(s(1)).await });
        scene.sleep(s(1000)).await;
        assert!(!sleeping.is_finished() && !asleep_in_ice.is_finished());
        assert_eq!(now_on(&scene, scene.b).await, frozen);
        assert_eq!(wall_on(&scene, scene.b).await, wall);
        scene.world.set_rate(scene.b, 1000);
        let (_, rest) = scene.time(sleeping).await;
        assert!(about(rest, s(6)), "{rest:?}");
        assert!(asleep_in_ice.is_finished());
    });
}

#[test]
fn clocks_are_continuous_and_never_go_back() {
    check(|scene| async move {
        let mut random = random::stream("rates");
        let mut last = now_on(&scene, scene.b).await;
        let mut rate = 1000;
        for _ in 0..300 {
            let wait = random.below(1_000_000_000);
            scene.world.sleep_ns(wait).await;
            let now = now_on(&scene, scene.b).await;
            let passed = (now - last).as_nanos() as u64;
            let expected = wait * rate / 1000;
            assert!(passed >= expected && passed < expected + 20_000, "{passed} {expected}");
            rate = random.below(4) * 700;
            scene.world.set_rate(scene.b, rate as u32);
            last = now;
        }
    });
}

#[test]
fn the_wall_clock_steps_apart_from_the_monotonic_one() {
    check(|scene| async move {
        let right = wall_on(&scene, scene.a).await;
        let sleeping = scene.world.spawn_on(scene.b, "sleep", async {
            let start = Instant::now();
            sleep(s(10)).await;
            start.elapsed()
        });
        scene.sleep(s(1)).await;
        scene.world.set_wall_offset(scene.b, -3_600_000_000_000);
        let behind = wall_on(&scene, scene.b).await - right;
        assert!((behind + 3_599_000_000_000).abs() < 1_000_000, "{behind}");
        let (slept, rest) = scene.time(sleeping).await;
        assert!(about(slept.unwrap(), s(10)) && about(rest, s(9)), "timers do not notice");
        scene.world.set_wall_offset(scene.b, 0);
        let (a, b) = (wall_on(&scene, scene.a).await, wall_on(&scene, scene.b).await);
        assert!(a.abs_diff(b) < 1_000_000, "offsets replace each other");
    });
}

#[test]
fn both_clocks_drift_together() {
    check(|scene| async move {
        scene.world.set_rate(scene.b, 1050);
        let before = scene.world.clock(scene.b);
        scene.sleep(s(1000)).await;
        let after = scene.world.clock(scene.b);
        let (mono, wall) = (after.monotonic_ns - before.monotonic_ns, (after.wall_ns - before.wall_ns) as u64);
        assert_eq!(mono, wall);
        assert!(mono.abs_diff(1_050_000_000_000) < 1_000_000, "{mono}");
        assert_eq!((after.rate_permille, after.wall_offset_ns), (1050, 0));
    });
}

#[test]
fn a_reboot_begins_the_monotonic_clock_again_but_not_the_wall_clock() {
    check(|scene| async move {
        scene.world.set_rate(scene.b, 900);
        scene.sleep(s(100)).await;
        let before = scene.world.clock(scene.b);
        scene.world.power_off(scene.b);
        scene.sleep(s(10)).await;
        scene.world.power_on(scene.b);
        let after = scene.world.clock(scene.b);
        assert_eq!((after.monotonic_ns, after.rate_permille), (0, 900));
        assert!(((after.wall_ns - before.wall_ns) as u64).abs_diff(9_000_000_000) < 1_000_000);
        let slept = scene.on(scene.b, async {
            let start = Instant::now();
            sleep_until(start + s(1)).await;
            start.elapsed()
        });
        assert!(about(slept.await, s(1)));
    });
}

#[test]
fn a_restart_of_the_process_alone_leaves_the_clock_going() {
    check(|scene| async move {
        scene.sleep(s(5)).await;
        scene.world.restart(scene.b);
        assert!(scene.world.clock(scene.b).monotonic_ns >= 5_000_000_000);
    });
}

#[test]
fn timeouts_follow_the_clock_and_the_future_wins_a_tie() {
    check(|scene| async move {
        scene.world.set_rate(scene.b, 500);
        let waiting = scene.on(scene.b, timeout(s(1), std::future::pending::<()>()));
        let (result, took) = scene.time(waiting).await;
        assert!(result == Err(Elapsed) && about(took, s(2)), "{took:?}");
        assert_eq!(scene.on(scene.b, timeout(Duration::ZERO, async { 1 })).await, Ok(1));
    });
}

#[test]
fn true_time_is_the_harnesss() {
    check(|scene| async move {
        scene.world.set_rate(scene.a, 0);
        let world = scene.world.clone();
        let start = world.now_ns();
        scene.on(scene.a, async move { world.sleep_ns(1_500_000).await }).await;
        assert!((1_500_000..1_510_000).contains(&(scene.world.now_ns() - start)));
        let (_, took) = scene.time(sleep(s(1))).await;
        assert!(about(took, s(1)), "the harness sleeps by a true clock");
    });
}

#[test]
fn dropped_sleeps_wake_nobody_and_are_swept_out() {
    check(|scene| async move {
        let polls = scene.on(scene.a, async {
            // Far more than may lie around, each of them far in the future.
            for n in 0..20_000 {
                let _ = timeout(s(3600 + n), rt::task::yield_now()).await;
            }
            Instant::now()
        });
        let (_, took) = scene.time(polls).await;
        assert!(took < ms(50), "{took:?}");
        // Nothing is left that could wake anybody but this sleep.
        let (_, took) = scene.time(sleep(s(40_000))).await;
        assert!(about(took, s(40_000)));
    });
}

#[test]
fn a_sleep_that_is_polled_by_another_task_wakes_that_one() {
    check(|scene| async move {
        let done = scene.on(scene.a, async {
            let mut sleep = Box::pin(sleep(s(1)));
            let first = std::future::poll_fn(|cx| std::task::Poll::Ready(sleep.as_mut().poll(cx)));
            assert!(first.await.is_pending());
            rt::task::spawn("other", timeout(s(5), sleep)).await.unwrap()
        });
        assert_eq!(done.await, Ok(()));
    });
}

#[test]
fn who_looks_as_a_process_sees_its_clocks() {
    with_two(config(), |scene| async move {
        scene.world.set_rate(scene.a, 500);
        scene.sleep(s(10)).await;
        let looked = scene.world.look_as(scene.a, Instant::now).unwrap();
        assert!(now_on(&scene, scene.a).await - looked < ms(1));
        assert!(Instant::now() - looked > s(4), "the harness's own clock runs true");
        scene.world.kill(scene.a);
        assert_eq!(scene.world.look_as(scene.a, || ()), None);
    })
    .unwrap();
}

#[test]
fn a_clock_that_jumps_wakes_who_sleeps_for_less_and_goes_on() {
    check(|scene| async move {
        let short = scene.world.spawn_on(scene.b, "sleep", async { sleep(s(10)).await });
        let long = scene.world.spawn_on(scene.b, "sleep", async { sleep(s(100)).await });
        scene.sleep(s(4)).await;
        let (now, wall) = (now_on(&scene, scene.b).await, wall_on(&scene, scene.b).await);
        scene.world.jump(scene.b, 30_000_000_000);
        scene.sleep(ms(1)).await;
        assert!(short.is_finished() && !long.is_finished());
        let (later, wall_later) = (now_on(&scene, scene.b).await, wall_on(&scene, scene.b).await);
        assert!(about(later - now, s(30) + ms(1)), "{:?}", later - now);
        assert!(about(Duration::from_nanos((wall_later - wall) as u64), s(30) + ms(1)));
        let (_, rest) = scene.time(long).await;
        assert!(about(rest, s(66) - ms(1)), "{rest:?}");
    });
}
