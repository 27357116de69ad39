//! Thousands of trials run in one process: a simulation must leave no memory behind.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

mod common;

use std::future::pending;

use common::{B, config, ms, s, with_two};
use rt::net::{TcpListener, TcpStream};
use rt::task::spawn;
use rt::time::sleep;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A simulation that ends in the middle of everything: connections, sleeps, tasks that hold each other.
fn simulate(seed: u64) {
    let config = rt::sim::Config { seed, ..config() };
    with_two(config, |scene| async move {
        scene.world.start(scene.b, || {
            Box::pin(async {
                let listener = TcpListener::bind("0.0.0.0:80").await.unwrap();
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let waiting = spawn("wait", pending::<()>());
                    spawn("serve", async move {
                        let mut buffer = vec![0; 64 * 1024];
                        while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
                        let _ = waiting.await;
                    });
                }
            })
        });
        scene.world.start(scene.a, || {
            Box::pin(async {
                let mut streams = Vec::new();
                for n in 0..10 {
                    let mut stream = TcpStream::connect(B).await.unwrap();
                    stream.write_all(&[n; 10_000]).await.unwrap();
                    streams.push(stream);
                    spawn("sleep", sleep(s(1000)));
                }
                pending::<()>().await;
            })
        });
        scene.sleep(s(1)).await;
        scene.world.power_off(scene.b);
        scene.sleep(ms(500)).await;
        scene.world.pause(scene.a);
        scene.sleep(ms(500)).await;
    })
    .unwrap();
}

/// One that ends because nothing can happen any more.
fn get_stuck() {
    let stuck = with_two(config(), |scene| async move {
        let (client, server) = scene.pair().await;
        pending::<()>().await;
        drop((client, server));
    });
    assert!(stuck.is_err());
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a_thousand_simulations_leave_nothing_behind() {
    // The runner would keep what each panic of a stuck simulation prints, backtrace and all.
    std::panic::set_hook(Box::new(|_| {}));
    for seed in 0..200 {
        simulate(seed);
        get_stuck();
    }
    let before = resident_bytes();
    for seed in 0..1000 {
        simulate(seed);
        get_stuck();
    }
    let grown = resident_bytes().saturating_sub(before);
    drop(std::panic::take_hook());
    // Without letting go of everything at the end, these leave 160 MB.
    assert!(grown < 4_000_000, "{grown} bytes");
    println!("{grown} bytes in 1000 simulations");
}
