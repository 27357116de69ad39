//! The real backend: what a program gets on a real machine, in either build.

use std::io::ErrorKind;
use std::time::Duration;

use rt::net::{TcpListener, TcpStream, lookup_host};
use rt::task::{block_on, spawn, unblock, yield_now};
use rt::time::{Elapsed, Instant, Timestamp, sleep, sleep_until, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn streams_carry_bytes_both_ways() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = spawn("echo", async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.into_split();
            tokio::io::copy(&mut read, &mut write).await.unwrap()
        });
        let mut stream = TcpStream::connect(&format!("localhost:{}", address.port())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        stream.write_all(b"there and back").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!((bytes.as_slice(), echo.await), (&b"there and back"[..], Ok(14)));
    });
}

#[test]
fn refusals_and_unknown_names_are_errors() {
    block_on(async {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let refused = TcpStream::connect(&format!("127.0.0.1:{port}")).await;
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(lookup_host("127.0.0.1:1").await.unwrap(), ["127.0.0.1:1".parse().unwrap()]);
        assert!(TcpStream::connect("not an address").await.is_err());
    });
}

#[test]
fn a_port_that_is_in_use_is_refused_and_free_once_its_listener_is_gone() {
    block_on(async {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let second = TcpListener::bind(&address).await;
        assert_eq!(second.err().unwrap().kind(), ErrorKind::AddrInUse);
        drop(first);
        TcpListener::bind(&address).await.unwrap();
    });
}

#[test]
fn sleeps_and_timeouts_last_as_long_as_asked() {
    block_on(async {
        let start = Instant::now();
        sleep(Duration::from_millis(20)).await;
        sleep_until(start + Duration::from_millis(30)).await;
        assert!(start.elapsed() >= Duration::from_millis(30));
        let never = timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
        assert_eq!(never, Err(Elapsed));
        assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
    });
}

#[test]
fn the_wall_clock_is_the_systems() {
    let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ours = Timestamp::now().unix_ns;
    assert!(ours.abs_diff(system.as_nanos() as i64) < 1_000_000_000);
    assert_eq!(Instant::now() - (Instant::now() + Duration::from_secs(9)), Duration::ZERO);
}

#[test]
fn tasks_can_be_joined_and_aborted_and_their_panics_show() {
    block_on(async {
        assert_eq!(spawn("one", async { 1 }).await, Ok(1));
        let sleeping = spawn("sleeping", sleep(Duration::from_secs(1000)));
        yield_now().await;
        assert!(!sleeping.is_finished());
        sleeping.abort();
        assert!(sleeping.await.unwrap_err().is_cancelled());
        let panicking = spawn("panicking", async { panic!("as expected") });
        assert!(panicking.await.unwrap_err().is_panic());
        let (told, dropped) = tokio::sync::oneshot::channel::<()>();
        let held = spawn("held", async move {
            std::future::pending::<()>().await;
            drop(told);
        });
        drop(held.abort_on_drop());
        assert!(dropped.await.is_err(), "aborted when the handle was dropped");
        assert_eq!(unblock("work", || 6 * 7).await, 42);
    });
}
