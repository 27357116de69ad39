//! Three members in one process on real sockets, real disks and real time.

use rt::time::{Instant, sleep, timeout};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use store::server::{Member, MemberAddress, MemberConfig, StartError, StopReason};
use store::{
    Client, ClientConfig, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, WatchRequest,
    WatchResponse,
};

/// A directory of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("seaworthy-loopback-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory of its own");
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("it is there");
    }
}

/// Addresses that were free a moment ago, each test's from a block of its own. They are below the ports that the system
/// gives to outgoing connections, one of which could take a port before its member listens there.
fn addresses() -> BTreeMap<u64, MemberAddress> {
    const FIRST: u16 = 20_000;
    const BLOCKS: u32 = 500;
    const BLOCK: u16 = 24;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Another process that runs these tests at the same time begins elsewhere.
    let block = std::process::id().wrapping_mul(7).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
    let first = FIRST + BLOCK * u16::try_from(block).expect("there are few blocks");
    let held: Vec<TcpListener> =
        (first..first + BLOCK).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(6).collect();
    let address = |n: usize| held[n].local_addr().expect("it listens").to_string();
    (1..=3).map(|id| (id, MemberAddress { peer: address(id as usize - 1), client: address(id as usize + 2) })).collect()
}

fn config(members: &BTreeMap<u64, MemberAddress>, id: u64, place: &Path) -> MemberConfig {
    let dir = place.join(format!("s{id}"));
    MemberConfig::new(&format!("s{id}"), id, members.clone(), dir.to_str().expect("its name is text"))
}

async fn start_all(members: &BTreeMap<u64, MemberAddress>, place: &Path) -> Vec<Member> {
    let mut running = Vec::new();
    for id in 1..=3 {
        running.push(Member::start(config(members, id, place)).await.expect("a member starts"));
    }
    running
}

/// Asks until the cluster answers.
async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let began = Instant::now();
    loop {
        let request =
            PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
        match client.put(request).await {
            Ok(response) => return response.header.revision,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error}"),
        }
    }
}

#[test]
fn three_members_serve_and_keep_everything_over_restarts() {
    rt::task::block_on(async {
        let place = Place::new();
        let members = addresses();
        let endpoints: Vec<String> = members.values().map(|member| member.client.clone()).collect();
        let client = Client::new(endpoints.clone(), ClientConfig::default());
        let mut keys = 0;
        for round in 0..3 {
            let running = start_all(&members, &place.0).await;
            let first = put(&client, &format!("first of {round}"), "x").await;
            keys += 1;
            let request = WatchRequest {
                key: "k".into(),
                range_end: "l".into(),
                start_revision: first,
                ..WatchRequest::default()
            };
            let mut watch = client.watch(request);
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let client = client.clone();
                    rt::task::spawn("writer", async move {
                        for n in 0..50 {
                            put(&client, &format!("k{round}-{writer}-{n}"), "value").await;
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
            keys += 200;
            let mut seen = 0;
            while seen < 200 {
                let message = timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
                if let WatchResponse::Events { events, .. } = message {
                    seen += events.len();
                }
            }
            let lease = client.lease_grant(LeaseGrantRequest { id: 0, ttl_s: 30 }).await.unwrap();
            let kept = client.lease_keep_alive(LeaseKeepAliveRequest { id: lease.id }).await.unwrap();
            assert_eq!(kept.ttl_s, 30);
            let all = RangeRequest { key: [0][..].into(), range_end: [0][..].into(), ..RangeRequest::default() };
            assert_eq!(client.range(all).await.unwrap().count, keys);
            for member in running {
                assert_eq!(member.shutdown().await, StopReason::Shutdown);
            }
        }
    });
}

#[test]
fn what_is_in_use_is_refused_in_one_sentence() {
    rt::task::block_on(async {
        let place = Place::new();
        let members = addresses();
        let running = Member::start(config(&members, 1, &place.0)).await.unwrap();

        let port = Member::start(config(&members, 1, &place.0)).await.unwrap_err();
        assert!(matches!(&port, StartError::Listen { address, .. } if *address == members[&1].peer), "{port}");

        let mut elsewhere = config(&members, 1, &place.0);
        (elsewhere.listen_peer, elsewhere.listen_client) =
            (Some("127.0.0.1:0".to_owned()), Some("localhost:0".to_owned()));
        let dir = Member::start(elsewhere.clone()).await.unwrap_err();
        assert!(dir.to_string().contains("is in use by another process"), "{dir}");

        running.shutdown().await;
        let mut foreign = elsewhere;
        foreign.id = 2;
        let foreign = Member::start(foreign).await.unwrap_err();
        assert!(foreign.to_string().contains("belongs to member 1 of cluster"), "{foreign}");
    });
}

#[test]
fn the_ports_are_free_once_a_shutdown_has_returned() {
    rt::task::block_on(async {
        let place = Place::new();
        let members: BTreeMap<_, _> = addresses().into_iter().take(1).collect();
        for round in 0..100 {
            let member = Member::start(config(&members, 1, &place.0)).await.unwrap();
            assert_eq!(member.shutdown().await, StopReason::Shutdown);
            let MemberAddress { peer, client } = &members[&1];
            for address in [peer, client] {
                TcpListener::bind(address).unwrap_or_else(|error| panic!("{address} in round {round}: {error}"));
            }
        }
    });
}

#[test]
fn one_member_alone_is_a_cluster() {
    rt::task::block_on(async {
        let place = Place::new();
        let members: BTreeMap<_, _> = addresses().into_iter().take(1).collect();
        let client = Client::new(vec![members[&1].client.clone()], ClientConfig::default());
        let member = Member::start(config(&members, 1, &place.0)).await.unwrap();
        assert_eq!(put(&client, "a", "1").await, 2);
        assert_eq!(member.shutdown().await, StopReason::Shutdown);
        let member = Member::start(config(&members, 1, &place.0)).await.unwrap();
        let request = RangeRequest { key: "a".into(), ..RangeRequest::default() };
        let found = loop {
            match client.range(request.clone()).await {
                Ok(found) => break found,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        assert_eq!(found.kvs[0].value, "1");
        assert_eq!(member.shutdown().await, StopReason::Shutdown);
    });
}
