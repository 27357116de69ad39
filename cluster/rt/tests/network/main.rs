//! The simulated network: one check per sentence that it keeps of Linux TCP, and for each sentence the lies that break
//! it. A check passes on the honest network and fails under each of its lies.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

#[path = "../common/mod.rs"]
mod common;
mod fuses;
mod told;
mod withheld;

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{B, Scene, about, config, kind, lan, ms, s, with_two};
use rt::net::{TcpListener, TcpStream, lookup_host};
use rt::sim::{Config, Lies, LinkConfig, Panicked, World};
use rt::time::timeout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Each sentence's check, and the lies that it notices.
macro_rules! sentences {
    ($($check:ident: [$($lie:ident),*],)*) => {
        $(#[test]
        fn $check() {
            run(checks::$check, Lies::NONE).unwrap();
        })*

        /// Sentence, check, name of a lie, that lie.
        const TABLE: &[(&str, Check, &str, Lies)] = &[
            $($((
                stringify!($check),
                |scene| Box::pin(checks::$check(scene)),
                stringify!($lie),
                Lies { $lie: true, ..Lies::NONE },
            ),)*)*
        ];
    };
}

type Check = fn(Scene) -> Pin<Box<dyn Future<Output = ()>>>;

fn run<Fut>(check: fn(Scene) -> Fut, lies: Lies) -> Result<(), Panicked>
where
    Fut: Future<Output = ()> + 'static,
{
    with_two(Config { lies, ..config() }, check)
}

sentences! {
    connecting_to_a_dead_host_is_silence: [dead_host_refuses],
    connecting_over_a_cut_is_silence_and_works_after_it_heals: [dead_host_refuses],
    connecting_without_a_listener_is_refused_after_one_round_trip:
        [missing_listener_is_silent, refusal_is_instant, links_have_no_delay],
    connecting_takes_one_round_trip: [links_have_no_delay],
    an_address_without_a_host_is_unreachable_after_a_while: [],
    nothing_crosses_a_link_at_once: [links_have_no_delay],
    bytes_keep_their_order: [bytes_overtake],
    delay_belongs_to_the_directed_link: [links_have_no_delay, links_are_not_directed],
    jitter_varies_each_packets_way: [links_have_no_jitter],
    rate_is_shared_by_all_streams_of_a_link: [links_have_no_rate],
    the_window_is_bounded_and_reading_opens_it: [window_is_unbounded],
    loss_shows_as_delay: [loss_is_harmless],
    loss_far_ahead_of_the_last_packet_costs_one_round_trip: [loss_is_harmless],
    retransmission_backs_off: [retransmission_never_backs_off, healing_is_noticed_at_once],
    a_partition_is_silence_and_fills_the_window: [partition_resets, window_is_unbounded],
    after_a_partition_bytes_flow_at_a_retransmission: [partition_resets, healing_is_noticed_at_once],
    a_stream_fails_after_the_retry_limit: [retries_have_no_limit, retransmission_never_backs_off],
    connecting_fails_after_the_connect_limit: [retries_have_no_limit],
    the_end_of_a_stream_travels_as_data: [],
    a_close_does_not_cross_a_partition: [close_crosses_partition, healing_is_noticed_at_once],
    a_one_way_cut_loses_acknowledgements: [links_are_not_directed],
    writing_to_a_closed_end_is_reset: [],
    closing_with_unread_bytes_is_a_reset: [],
    a_killed_process_closes_its_sockets_and_the_news_travels:
        [killed_process_says_nothing, kill_news_is_instant],
    what_a_killed_process_wrote_still_arrives: [],
    a_kill_does_not_cross_a_partition: [kill_news_is_instant, killed_process_says_nothing],
    a_host_without_power_says_nothing: [power_loss_closes],
    what_had_left_before_power_loss_arrives: [],
    after_reboot_old_connections_are_answered_with_a_reset: [reboot_is_silent, power_loss_closes],
    a_paused_processs_kernel_goes_on: [paused_kernel_stops],
    what_enters_a_held_link_waits_and_comes_out_at_once: [hold_leaks],
    a_held_handshake_waits: [hold_leaks],
    looking_up_a_name_takes_time: [resolver_is_instant],
    names_resolve_to_their_hosts: [resolver_is_wrong],
    halves_work_and_end_apart: [],
    ports_are_taken_and_free_again: [],
    loopback_is_a_link_of_its_own: [],
    what_a_cut_catches_under_way_is_lost: [],
    an_added_address_is_a_namespace_of_its_own: [added_addresses_are_the_hosts_own],
    an_added_address_outlives_the_process_and_not_a_reboot: [what_a_kernel_was_told_outlives_a_reboot],
    a_redirected_connection_goes_to_one_of_its_backends: [redirects_are_ignored],
    a_reset_is_told_to_both_ends_and_new_connections_work: [],
    told_names_resolve_until_a_reboot: [what_a_kernel_was_told_outlives_a_reboot],
    a_fuse_resets_a_connection_in_the_middle_of_what_its_acceptor_says: [fuses_never_blow, what_blows_a_fuse_arrives],
    a_fuse_of_no_bytes_swallows_an_answer_and_not_the_question: [fuses_never_blow, what_blows_a_fuse_arrives],
    a_fuse_leaves_alone_what_it_is_not_put_into: [],
    what_is_withheld_waits_and_comes_out_at_once: [what_is_withheld_arrives],
    news_are_withheld_from_one_alone_and_answers_from_nobody: [what_is_withheld_arrives, all_is_withheld],
    each_withholding_has_a_connection_of_its_own: [what_is_withheld_arrives, all_is_withheld],
    the_end_of_a_stream_and_a_reset_are_withheld_too: [what_is_withheld_arrives],
    who_gives_up_meanwhile_is_not_told_later: [],
}

#[test]
fn each_lie_is_noticed() {
    let mut trusted: Vec<&str> = Lies::EACH.iter().map(|(name, _)| *name).collect();
    for (sentence, check, name, lie) in TABLE {
        let result = run(*check, *lie);
        let Err(noticed) = result else { panic!("{sentence} does not notice that {name}") };
        println!("{name}: {sentence}: {noticed}");
        trusted.retain(|lie| lie != name);
    }
    assert!(trusted.is_empty(), "no sentence notices {trusted:?}");
}

mod checks {
    use super::*;

    pub use crate::fuses::{
        a_fuse_leaves_alone_what_it_is_not_put_into, a_fuse_of_no_bytes_swallows_an_answer_and_not_the_question,
        a_fuse_resets_a_connection_in_the_middle_of_what_its_acceptor_says,
    };
    pub use crate::told::{
        a_redirected_connection_goes_to_one_of_its_backends, a_reset_is_told_to_both_ends_and_new_connections_work,
        an_added_address_is_a_namespace_of_its_own, an_added_address_outlives_the_process_and_not_a_reboot,
        told_names_resolve_until_a_reboot,
    };
    pub use crate::withheld::{
        each_withholding_has_a_connection_of_its_own, news_are_withheld_from_one_alone_and_answers_from_nobody,
        the_end_of_a_stream_and_a_reset_are_withheld_too, what_is_withheld_waits_and_comes_out_at_once,
        who_gives_up_meanwhile_is_not_told_later,
    };

    pub async fn connecting_to_a_dead_host_is_silence(scene: Scene) {
        scene.world.power_off(scene.b);
        let patient = scene.on(scene.a, timeout(s(3), TcpStream::connect(B))).await;
        assert!(patient.is_err(), "{:?}", patient.map(drop_stream));
    }

    pub async fn connecting_over_a_cut_is_silence_and_works_after_it_heals(scene: Scene) {
        let _listener = scene.listen().await;
        for (from, to) in [(scene.a, scene.b), (scene.b, scene.a)] {
            scene.world.cut(from, to);
            assert!(scene.on(scene.a, timeout(s(2), TcpStream::connect(B))).await.is_err());
            scene.world.heal(from, to);
        }
        scene.world.cut(scene.a, scene.b);
        let connecting = scene.world.spawn_on(scene.a, "connect", TcpStream::connect(B));
        scene.sleep(s(2)).await;
        scene.world.heal(scene.a, scene.b);
        let (connected, took) = scene.time(connecting).await;
        connected.unwrap().unwrap();
        assert!(about(took, ms(1020)), "asked again 1 s and 3 s after the first time: {took:?}");
    }

    pub async fn connecting_without_a_listener_is_refused_after_one_round_trip(scene: Scene) {
        let (refused, took) = scene.time(timeout(s(5), scene.connect())).await;
        assert_eq!(kind(refused.unwrap()), Some(ErrorKind::ConnectionRefused));
        assert!(about(took, ms(20)), "{took:?}");
    }

    pub async fn connecting_takes_one_round_trip(scene: Scene) {
        let _listener = scene.listen().await;
        let (connected, took) = scene.time(scene.connect()).await;
        let client = connected.unwrap();
        assert!(about(took, ms(20)), "{took:?}");
        assert_eq!(client.peer_addr().unwrap().to_string(), B);
        assert_eq!(client.local_addr().unwrap().ip().to_string(), "10.0.0.1");
    }

    pub async fn an_address_without_a_host_is_unreachable_after_a_while(scene: Scene) {
        let connecting = scene.on(scene.a, TcpStream::connect("10.9.9.9:1"));
        let (failed, took) = scene.time(connecting).await;
        assert_eq!(kind(failed), Some(ErrorKind::HostUnreachable));
        assert!(about(took, s(3)), "{took:?}");
    }

    pub async fn nothing_crosses_a_link_at_once(scene: Scene) {
        let instant = LinkConfig { delay: Duration::ZERO, ..lan() };
        scene.world.set_link(scene.a, scene.b, instant);
        let (mut client, mut server) = scene.pair().await;
        let reading = scene.world.spawn_on(scene.b, "read", async move {
            server.read_u8().await.unwrap();
            server
        });
        scene.sleep(ms(1)).await;
        let start = scene.world.now_ns();
        client.write_u8(1).await.unwrap();
        reading.await.unwrap();
        let took = scene.world.now_ns() - start;
        assert!((1_000..100_000).contains(&took), "{took} ns");
    }

    pub async fn bytes_keep_their_order(scene: Scene) {
        let rough = LinkConfig { delay: ms(1), jitter: ms(20), loss_permille: 100, window: 3000, ..lan() };
        scene.world.set_link(scene.a, scene.b, rough);
        let (mut client, mut server) = scene.pair().await;
        let data: Vec<u8> = (0..100_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        let sent = data.clone();
        let writing = scene.world.spawn_on(scene.a, "write", async move {
            for piece in sent.chunks(777) {
                client.write_all(piece).await.unwrap();
            }
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert!(got == data);
        writing.await.unwrap();
    }

    pub async fn delay_belongs_to_the_directed_link(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.world.set_link(scene.a, scene.b, LinkConfig { delay: ms(70), ..lan() });
        assert_eq!(scene.world.link(scene.a, scene.b).delay, ms(70));
        scene.sleep(s(1)).await;
        client.write_u8(1).await.unwrap();
        let (_, there) = scene.time(server.read_u8()).await;
        server.write_u8(1).await.unwrap();
        let (_, back) = scene.time(client.read_u8()).await;
        assert!(about(there, ms(70)) && about(back, ms(10)), "{there:?} {back:?}");
    }

    pub async fn jitter_varies_each_packets_way(scene: Scene) {
        scene.world.set_link(scene.a, scene.b, LinkConfig { jitter: ms(40), ..lan() });
        let (mut client, mut server) = scene.pair().await;
        let mut times = Vec::new();
        for _ in 0..50 {
            scene.sleep(s(1)).await;
            client.write_u8(1).await.unwrap();
            times.push(scene.time(server.read_u8()).await.1);
        }
        assert!(times.iter().all(|t| (ms(10)..=ms(51)).contains(t)), "{times:?}");
        times.sort();
        assert!(times[0] < ms(20) && times[49] > ms(40), "{times:?}");
    }

    pub async fn rate_is_shared_by_all_streams_of_a_link(scene: Scene) {
        let slow = LinkConfig { bytes_per_second: 1_000_000, ..lan() };
        scene.world.set_link(scene.a, scene.b, slow);
        let pairs = [scene.pair().await, scene.pair().await];
        let start = scene.world.now_ns();
        let mut reading = Vec::new();
        for (mut client, mut server) in pairs {
            reading.push(scene.world.spawn_on(scene.a, "stream", async move {
                client.write_all(&[1; 50_000]).await.unwrap();
                server.read_exact(&mut [0; 50_000]).await.unwrap();
                (client, server)
            }));
        }
        for stream in reading {
            stream.await.unwrap();
        }
        let took = Duration::from_nanos(scene.world.now_ns() - start);
        assert!(took.abs_diff(ms(110)) < ms(3), "{took:?}");
    }

    pub async fn the_window_is_bounded_and_reading_opens_it(scene: Scene) {
        scene.world.set_link(scene.a, scene.b, LinkConfig { window: 1000, ..lan() });
        let (mut client, mut server) = scene.pair().await;
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        scene.world.spawn_on(scene.a, "write", async move {
            // A bound for the lie of a window without one.
            while count.load(Ordering::Relaxed) < 10_000 {
                count.fetch_add(client.write(&[0; 300]).await.unwrap(), Ordering::Relaxed);
            }
        });
        scene.sleep(s(2000)).await;
        assert_eq!(written.load(Ordering::Relaxed), 1000, "a reader that does not read is no failure");
        server.read_exact(&mut [0; 400]).await.unwrap();
        scene.sleep(ms(9)).await;
        assert_eq!(written.load(Ordering::Relaxed), 1000, "the news travels");
        scene.sleep(ms(2)).await;
        assert_eq!(written.load(Ordering::Relaxed), 1400);
    }

    pub async fn loss_shows_as_delay(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.world.set_link(scene.a, scene.b, LinkConfig { loss_permille: 300, ..lan() });
        let mut times = Vec::new();
        for _ in 0..100 {
            client.write_u8(1).await.unwrap();
            times.push(scene.time(server.read_u8()).await.1);
            scene.sleep(s(300)).await;
        }
        let count = |expected| times.iter().filter(|took| about(**took, expected)).count();
        assert!((55..85).contains(&count(ms(10))), "{times:?}");
        assert!((10..33).contains(&count(ms(210))), "{times:?}");
        assert!((1..15).contains(&count(ms(610))), "{times:?}");
    }

    pub async fn loss_far_ahead_of_the_last_packet_costs_one_round_trip(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.world.set_link(scene.a, scene.b, LinkConfig { loss_permille: 20, ..lan() });
        const BYTES: usize = 1_000_000;
        let writing = scene.world.spawn_on(scene.a, "write", async move {
            client.write_all(&vec![7; BYTES]).await.unwrap();
            client
        });
        let (read, took) = scene
            .time(timeout(s(20), async {
                let mut bytes = vec![0; BYTES];
                server.read_exact(&mut bytes).await.unwrap();
            }))
            .await;
        read.unwrap();
        // About 14 packets of 690 are lost; with a timeout of 200 ms for each it would be nearly three seconds.
        assert!((ms(150)..ms(1500)).contains(&took), "{took:?}");
        writing.await.unwrap();
    }

    pub async fn retransmission_backs_off(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.world.cut(scene.a, scene.b);
        client.write_u8(1).await.unwrap();
        let start = scene.world.now_ns();
        scene.sleep(ms(1000)).await;
        scene.world.heal(scene.a, scene.b);
        server.read_u8().await.unwrap();
        let took = Duration::from_nanos(scene.world.now_ns() - start);
        assert!(about(took, ms(200 + 400 + 800 + 10)), "{took:?}");
    }

    pub async fn a_partition_is_silence_and_fills_the_window(scene: Scene) {
        scene.world.set_link(scene.a, scene.b, LinkConfig { window: 1000, ..lan() });
        let (mut client, mut server) = scene.pair().await;
        scene.part();
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        scene.world.spawn_on(scene.a, "write", async move {
            while count.load(Ordering::Relaxed) < 10_000 {
                count.fetch_add(client.write(&[0; 300]).await.unwrap(), Ordering::Relaxed);
            }
        });
        assert!(timeout(s(60), server.read_u8()).await.is_err());
        assert_eq!(written.load(Ordering::Relaxed), 1000);
        assert!(scene.world.is_running(scene.a), "a write failed");
    }

    pub async fn after_a_partition_bytes_flow_at_a_retransmission(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.part();
        client.write_all(&[7; 1000]).await.unwrap();
        let start = scene.world.now_ns();
        // Sent again after 0.2, 0.6, 1.4, 3, 6.2, 12.6 and 25.4 seconds.
        scene.sleep(s(20)).await;
        client.write_all(&[8; 500]).await.unwrap();
        scene.join();
        let mut bytes = [0; 1500];
        timeout(s(60), server.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert!(bytes[999] == 7 && bytes[1000] == 8);
        let took = Duration::from_nanos(scene.world.now_ns() - start);
        assert!(about(took, ms(25_410)), "{took:?}");
    }

    pub async fn a_stream_fails_after_the_retry_limit(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.part();
        let lost = scene.world.stats().network.lost;
        client.write_u8(1).await.unwrap();
        let (read, took) = scene.time(timeout(s(2000), client.read_u8())).await;
        assert_eq!(kind(read.unwrap()), Some(ErrorKind::TimedOut));
        assert!(took.abs_diff(s(924)) < s(1), "{took:?}");
        let tries = scene.world.stats().network.lost - lost;
        assert!((14..=18).contains(&tries), "Linux gives up after 15 retries: {tries}");
        assert_eq!(kind(client.write(b"x").await), Some(ErrorKind::BrokenPipe));
        assert!(timeout(s(5000), server.read_u8()).await.is_err(), "the idle side never learns");
        scene.join();
        server.write_u8(1).await.unwrap();
        assert_eq!(kind(server.read_u8().await), Some(ErrorKind::ConnectionReset));
    }

    pub async fn connecting_fails_after_the_connect_limit(scene: Scene) {
        scene.world.power_off(scene.b);
        let connecting = scene.on(scene.a, timeout(s(500), TcpStream::connect(B)));
        let (failed, took) = scene.time(connecting).await;
        assert_eq!(kind(failed.unwrap()), Some(ErrorKind::TimedOut));
        assert!(took.abs_diff(s(127)) < ms(20), "{took:?}");
        assert_eq!(scene.world.stats().network.live_connections, 0);
    }

    pub async fn the_end_of_a_stream_travels_as_data(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        client.write_all(b"hi").await.unwrap();
        client.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        let (_, took) = scene.time(server.read_to_end(&mut bytes)).await;
        assert!(bytes == b"hi" && about(took, ms(10)), "{bytes:?} {took:?}");
        server.write_all(b"the other way still works").await.unwrap();
        drop(server);
        bytes.clear();
        client.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"the other way still works");
        assert_eq!(kind(client.write(b"x").await), Some(ErrorKind::BrokenPipe));
        drop(client);
        scene.sleep(s(1)).await;
        assert_eq!(scene.world.stats().network.live_connections, 0);
    }

    pub async fn a_close_does_not_cross_a_partition(scene: Scene) {
        let (client, mut server) = scene.pair().await;
        scene.part();
        drop(client);
        assert!(timeout(s(20), server.read_u8()).await.is_err());
        scene.join();
        let (read, took) = scene.time(server.read_u8()).await;
        assert_eq!(kind(read), Some(ErrorKind::UnexpectedEof));
        assert!(about(took, ms(5_410)), "at the next retransmission: {took:?}");
    }

    pub async fn a_one_way_cut_loses_acknowledgements(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.world.cut(scene.b, scene.a);
        client.write_u8(b'x').await.unwrap();
        assert_eq!(timeout(s(1), server.read_u8()).await.unwrap().unwrap(), b'x');
        client.write_u8(b'y').await.unwrap();
        let (read, took) = scene.time(timeout(s(1), server.read_u8())).await;
        assert_eq!(read.unwrap().unwrap(), b'y');
        assert!(about(took, ms(10)), "no acknowledgement is needed to go on: {took:?}");
        let (read, took) = scene.time(client.read_u8()).await;
        assert_eq!(kind(read), Some(ErrorKind::TimedOut), "what arrived was never acknowledged");
        assert!(took.abs_diff(s(924)) < s(1), "{took:?}");
    }

    pub async fn writing_to_a_closed_end_is_reset(scene: Scene) {
        let (mut client, server) = scene.pair().await;
        drop(server);
        scene.sleep(ms(50)).await;
        client.write_all(b"x").await.unwrap();
        scene.sleep(ms(50)).await;
        assert_eq!(kind(client.write(b"x").await), Some(ErrorKind::ConnectionReset));
        assert_eq!(kind(client.write(b"x").await), Some(ErrorKind::BrokenPipe));
        drop(client);
        assert_eq!(scene.world.stats().network.live_connections, 0);
    }

    pub async fn closing_with_unread_bytes_is_a_reset(scene: Scene) {
        let (mut client, server) = scene.pair().await;
        client.write_all(b"x").await.unwrap();
        scene.sleep(ms(50)).await;
        drop(server);
        assert_eq!(kind(client.read_u8().await), Some(ErrorKind::ConnectionReset));
    }

    /// A connection whose server end a task of `b` holds, silent for ever.
    async fn served(scene: &Scene) -> TcpStream {
        let listener = scene.listen().await;
        scene.world.spawn_on(scene.b, "serve", async move {
            let connection = listener.accept().await.unwrap();
            std::future::pending::<()>().await;
            drop((connection, listener));
        });
        let client = scene.connect().await.unwrap();
        scene.sleep(s(1)).await;
        client
    }

    pub async fn a_killed_process_closes_its_sockets_and_the_news_travels(scene: Scene) {
        let mut client = served(&scene).await;
        scene.world.kill(scene.b);
        let (read, took) = scene.time(timeout(s(5), client.read_u8())).await;
        assert_eq!(kind(read.unwrap()), Some(ErrorKind::UnexpectedEof));
        assert!(about(took, ms(10)), "{took:?}");
        assert_eq!(kind(scene.connect().await), Some(ErrorKind::ConnectionRefused));
    }

    pub async fn what_a_killed_process_wrote_still_arrives(scene: Scene) {
        let (mut client, server) = scene.pair().await;
        let writing = scene.world.spawn_on(scene.b, "write", async move {
            let mut server = server;
            server.write_all(&[7; 1000]).await.unwrap();
            std::future::pending::<()>().await;
        });
        scene.sleep(ms(1)).await;
        scene.world.cut(scene.b, scene.a);
        scene.sleep(ms(10)).await;
        scene.world.kill(scene.b);
        assert!(writing.await.unwrap_err().is_cancelled());
        scene.world.heal(scene.b, scene.a);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, [7; 1000], "its kernel sends again what was lost");
        drop(client);
        scene.sleep(s(1)).await;
        assert_eq!(scene.world.stats().network.live_connections, 0);
    }

    pub async fn a_kill_does_not_cross_a_partition(scene: Scene) {
        let mut client = served(&scene).await;
        scene.part();
        scene.world.kill(scene.b);
        assert!(timeout(s(20), client.read_u8()).await.is_err());
        scene.join();
        let read = timeout(s(10), client.read_u8()).await.unwrap();
        assert_eq!(kind(read), Some(ErrorKind::UnexpectedEof));
    }

    pub async fn a_host_without_power_says_nothing(scene: Scene) {
        let mut client = served(&scene).await;
        scene.world.power_off(scene.b);
        assert!(timeout(s(300), client.read_u8()).await.is_err(), "half open");
        client.write_u8(1).await.unwrap();
        let read = timeout(s(2000), client.read_u8()).await.unwrap();
        assert_eq!(kind(read), Some(ErrorKind::TimedOut), "until somebody writes");
    }

    pub async fn what_had_left_before_power_loss_arrives(scene: Scene) {
        let (mut client, server) = scene.pair().await;
        scene
            .on(scene.b, async move {
                let mut server = server;
                server.write_all(b"last").await.unwrap();
                // Held by the task that dies with its host.
                rt::task::spawn("hold", async move {
                    std::future::pending::<()>().await;
                    drop(server);
                });
            })
            .await;
        scene.world.power_off(scene.b);
        let mut bytes = [0; 4];
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"last");
        assert!(timeout(s(5), client.read_u8()).await.is_err());
    }

    pub async fn after_reboot_old_connections_are_answered_with_a_reset(scene: Scene) {
        let mut client = served(&scene).await;
        scene.world.power_off(scene.b);
        client.write_u8(1).await.unwrap();
        assert!(timeout(s(1), client.read_u8()).await.is_err());
        scene.world.power_on(scene.b);
        let (read, took) = scene.time(timeout(s(5), client.read_u8())).await;
        assert_eq!(kind(read.unwrap()), Some(ErrorKind::ConnectionReset));
        assert!(took < s(2), "at the next retransmission: {took:?}");
        drop(client);
        assert_eq!(scene.world.stats().network.live_connections, 0);
    }

    pub async fn a_paused_processs_kernel_goes_on(scene: Scene) {
        let window = LinkConfig { window: 1000, ..lan() };
        scene.world.set_link(scene.a, scene.b, window);
        let (mut client, server) = scene.pair().await;
        let received = scene.world.spawn_on(scene.b, "read", async move {
            let mut server = server;
            let mut bytes = Vec::new();
            server.read_to_end(&mut bytes).await.unwrap();
            bytes.len()
        });
        let listener = scene.listen().await;
        scene.world.pause(scene.b);
        client.write_all(&[1; 1000]).await.unwrap();
        scene.connect().await.unwrap();
        scene.sleep(s(5)).await;
        assert_eq!(scene.world.stats().network.lost, 0, "acknowledged at once");
        assert!(!received.is_finished());
        scene.world.resume(scene.b);
        scene.sleep(ms(5)).await;
        drop(client);
        let (bytes, took) = scene.time(received).await;
        assert!(bytes.unwrap() == 1000 && about(took, ms(10)), "{took:?}");
        drop(listener);
    }

    pub async fn what_enters_a_held_link_waits_and_comes_out_at_once(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.sleep(s(1)).await;
        client.write_u8(b'0').await.unwrap();
        scene.world.hold(scene.a, scene.b);
        client.write_u8(b'1').await.unwrap();
        scene.sleep(s(50)).await;
        client.write_u8(b'2').await.unwrap();
        assert!(timeout(s(1), server.read_u8()).await.is_err());
        scene.world.release(scene.a, scene.b);
        let mut bytes = [0; 3];
        let (_, took) = scene.time(server.read_exact(&mut bytes)).await;
        assert!(&bytes == b"012" && about(took, ms(10)), "{bytes:?} {took:?}");
        server.write_u8(b'3').await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'3');
    }

    pub async fn a_held_handshake_waits(scene: Scene) {
        scene.world.hold(scene.b, scene.a);
        let connecting = scene.world.spawn_on(scene.a, "connect", TcpStream::connect(B));
        scene.sleep(s(5)).await;
        assert!(!connecting.is_finished());
        scene.world.release(scene.b, scene.a);
        assert_eq!(kind(connecting.await.unwrap()), Some(ErrorKind::ConnectionRefused));
    }

    pub async fn looking_up_a_name_takes_time(scene: Scene) {
        for name in ["b:80", "nobody:80"] {
            let (_, took) = scene.time(scene.on(scene.a, lookup_host(name))).await;
            assert!((Duration::from_micros(300)..ms(2)).contains(&took), "{took:?}");
        }
        let (_, took) = scene.time(scene.on(scene.a, lookup_host(B))).await;
        assert!(took < Duration::from_micros(10), "an address needs no resolver: {took:?}");
    }

    pub async fn names_resolve_to_their_hosts(scene: Scene) {
        let found = scene.on(scene.a, lookup_host("b:80")).await.unwrap();
        assert_eq!(found, [B.parse().unwrap()]);
        let missing = scene.on(scene.a, lookup_host("nobody:80")).await;
        assert_eq!(kind(missing), Some(ErrorKind::NotFound));
        let _listener = scene.listen().await;
        let client = scene.on(scene.a, TcpStream::connect("b:80")).await.unwrap();
        assert_eq!(client.peer_addr().unwrap().to_string(), B);
    }

    pub async fn halves_work_and_end_apart(scene: Scene) {
        let (client, server) = scene.pair().await;
        let (mut from_server, mut to_server) = client.into_split();
        let (mut from_client, mut to_client) = server.into_split();
        let echo = scene
            .world
            .spawn_on(scene.b, "echo", async move { tokio::io::copy(&mut from_client, &mut to_client).await.unwrap() });
        to_server.write_all(&[5; 5000]).await.unwrap();
        drop(to_server);
        let mut bytes = Vec::new();
        from_server.read_to_end(&mut bytes).await.unwrap();
        assert_eq!((bytes.len(), echo.await.unwrap()), (5000, 5000));
        scene.sleep(s(1)).await;
        drop(from_server);
        assert_eq!(scene.world.stats().network.live_connections, 0);
    }

    pub async fn ports_are_taken_and_free_again(scene: Scene) {
        scene
            .on(scene.a, async {
                let first = TcpListener::bind("0.0.0.0:7").await.unwrap();
                assert_eq!(kind(TcpListener::bind("10.0.0.1:7").await), Some(ErrorKind::AddrInUse));
                assert_eq!(kind(TcpListener::bind(B).await), Some(ErrorKind::AddrNotAvailable));
                drop(first);
                TcpListener::bind("127.0.0.1:7").await.unwrap();
                let any = TcpListener::bind("0.0.0.0:0").await.unwrap();
                assert!(any.local_addr().unwrap().port() >= 32_768);
            })
            .await;
    }

    pub async fn loopback_is_a_link_of_its_own(scene: Scene) {
        scene.part();
        let took = scene.on(scene.a, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("localhost:{}", listener.local_addr().unwrap().port());
            let start = rt::time::Instant::now();
            TcpStream::connect(&address).await.unwrap();
            listener.accept().await.unwrap();
            start.elapsed()
        });
        let took = took.await;
        assert!(took < ms(1), "{took:?}");
    }

    pub async fn what_a_cut_catches_under_way_is_lost(scene: Scene) {
        let (mut client, mut server) = scene.pair().await;
        scene.sleep(s(1)).await;
        client.write_u8(1).await.unwrap();
        scene.sleep(ms(5)).await;
        scene.world.cut(scene.a, scene.b);
        scene.sleep(ms(6)).await;
        scene.world.heal(scene.a, scene.b);
        let (_, took) = scene.time(server.read_u8()).await;
        assert!(about(took, ms(210 - 1)), "sent again 200 ms after it was lost: {took:?}");
    }

    fn drop_stream(result: std::io::Result<TcpStream>) -> Option<ErrorKind> {
        kind(result)
    }
}

#[test]
fn a_world_of_many_hosts_names_them_all() {
    rt::sim::run(config(), |world: World| async move {
        for n in 1..=100 {
            common::idle_host(&world, &format!("host{n}"), n);
        }
        let found = world.spawn("lookup", lookup_host("host77:1")).await.unwrap().unwrap();
        assert_eq!(found[0].to_string(), "10.0.0.77:1");
    })
    .unwrap();
}
