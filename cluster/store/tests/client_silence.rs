//! The client against members that fall silent: what it gives up, when, and where it goes on. In the simulator, whose
//! time this takes.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a member played by the test fails by panicking")]

use rt::net::TcpListener;
use rt::sim::{Config, HostId, World, run};
use rt::time::Instant;
use std::future::{Future, pending};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use store::protocol::{
    FrameReader, MAX_REQUEST_FRAME, MAX_RESPONSE_FRAME, PREAMBLE, ToClient, ToClientBody, ToMember, ToMemberBody,
    decode, put_frame,
};
use store::*;
use tokio::io::AsyncWriteExt;

/// Two members that answer reads at once, puts and watches never; and a client's host, on which `scene` runs.
fn with_members<Fut>(seed: u64, scene: impl FnOnce(World, [HostId; 3], Client) -> Fut + Send + 'static)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let config = Config { seed, executor_seed: seed, ..Config::default() };
    let done = run(config, move |world| async move {
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let members = ["s1", "s2"].into_iter().zip(1..).map(|(name, last)| {
            let host = world.add_host(name, address(last));
            world.start(host, || Box::pin(member()));
            host
        });
        let members: Vec<HostId> = members.collect();
        let host = world.add_host("client", address(9));
        world.start(host, || Box::pin(pending()));
        let inner = world.clone();
        let task = async move {
            let client = Client::new(vec!["s1:2379".to_owned(), "s2:2379".to_owned()], ClientConfig::default());
            scene(inner, [members[0], members[1], host], client).await;
        };
        let done = world.spawn_on(host, "scene", task).await.is_ok();
        assert!(done && world.panics().is_empty(), "{:?}", world.panics());
    });
    if let Err(panicked) = done {
        panic!("seed {seed}: {panicked}");
    }
}

async fn member() {
    let listener = TcpListener::bind("0.0.0.0:2379").await.unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        rt::task::spawn("session", async move {
            let (reader, mut writer) = stream.into_split();
            let mut reader = FrameReader::new(reader, MAX_REQUEST_FRAME);
            if writer.write_all(&PREAMBLE).await.is_err() || reader.preamble(&PREAMBLE).await.is_err() {
                return;
            }
            while let Ok(Some(frame)) = reader.next().await {
                let ToMember { id, body } = decode(&frame).unwrap();
                if let ToMemberBody::Request(Request::Range(_)) = body {
                    let body = ToClientBody::Response(Response::Range(RangeResponse::default()));
                    let mut out = Vec::new();
                    put_frame(&mut out, &ToClient { id, body }, MAX_RESPONSE_FRAME).unwrap();
                    if writer.write_all(&out).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

fn read() -> RangeRequest {
    RangeRequest { key: "a".into(), ..RangeRequest::default() }
}

fn seconds(from: u64, to: u64) -> std::ops::Range<Duration> {
    Duration::from_secs(from)..Duration::from_secs(to)
}

#[test]
fn a_silent_watch_is_broken_after_its_idle_time() {
    with_members(1, |_, _, client| async move {
        let began = Instant::now();
        let mut watch = client.watch(WatchRequest { key: "a".into(), ..WatchRequest::default() });
        let error = watch.next().await.unwrap_err();
        assert_eq!(error, ClientError::Unavailable("the watch fell silent".to_owned()));
        assert!(seconds(5, 6).contains(&began.elapsed()), "{:?}", began.elapsed());
    });
}

#[test]
fn a_write_without_answer_is_unknown_in_time() {
    with_members(2, |_, _, client| async move {
        let began = Instant::now();
        let put = PutRequest { key: "a".into(), ..PutRequest::default() };
        assert!(matches!(client.put(put).await, Err(ClientError::Unknown(_))));
        assert!(seconds(5, 6).contains(&began.elapsed()), "{:?}", began.elapsed());
    });
}

#[test]
fn nobody_to_be_reached_is_unavailable_in_time() {
    with_members(3, |world, [s1, s2, client_host], client| async move {
        for member in [s1, s2] {
            world.cut(client_host, member);
        }
        let began = Instant::now();
        let put = PutRequest { key: "a".into(), ..PutRequest::default() };
        assert!(matches!(client.put(put).await, Err(ClientError::Unavailable(_))));
        assert!(seconds(4, 6).contains(&began.elapsed()), "{:?}", began.elapsed());
    });
}

#[test]
fn a_read_goes_on_at_another_member_when_one_falls_silent() {
    for seed in 4..8 {
        with_members(seed, |world, [s1, s2, client_host], client| async move {
            client.range(read()).await.unwrap();
            // Whichever it talked to: first one is cut off, then the other.
            for member in [s1, s2] {
                world.cut(client_host, member);
                for _ in 0..3 {
                    let began = Instant::now();
                    client.range(read()).await.unwrap();
                    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
                }
                world.heal(client_host, member);
            }
        });
    }
}

#[test]
fn a_connection_that_outlived_its_member_is_given_up() {
    with_members(8, |world, [s1, s2, _], client| async move {
        client.range(read()).await.unwrap();
        for member in [s1, s2] {
            // Without power it says nothing, and the connection to it stays half open.
            world.power_off(member);
        }
        let error = client.range(read()).await.unwrap_err();
        assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
        for member in [s1, s2] {
            world.power_on(member);
        }
        let began = Instant::now();
        client.range(read()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
}
