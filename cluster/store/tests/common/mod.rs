//! A simulated cluster for tests: members `s1`, `s2`, ... on a host each, and a client's host on which the test runs.

use bytes::Bytes;
use rt::sim::{self, Config, HostId, World};
use rt::time::{Instant, sleep};
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::server::{Member, MemberAddress, MemberConfig, StopReason, View};
use store::{Client, ClientConfig, Format, PutRequest, RangeRequest};

/// A round number of milliseconds.
pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A round number of seconds.
pub fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A cluster, seen from the client's host. Clones are the same cluster.
#[derive(Clone)]
pub struct Cluster {
    pub world: World,
    /// By Raft id.
    pub hosts: BTreeMap<u64, HostId>,
    /// Where the test runs.
    pub client_host: HostId,
    running: Arc<Mutex<BTreeMap<u64, Arc<Member>>>>,
    /// Why members stopped, in order.
    stops: Arc<Mutex<Vec<(u64, StopReason)>>>,
    /// Up to which format members read, where that is not as in their configuration.
    formats: Arc<Mutex<BTreeMap<u64, Format>>>,
}

/// Runs `scene` on the client's host beside a cluster of three, whose members' configuration `change` may change.
pub fn with_cluster<Fut>(
    seed: u64,
    change: impl Fn(&mut MemberConfig) + Send + 'static,
    scene: impl FnOnce(Cluster) -> Fut + Send + 'static,
) where
    Fut: Future<Output = ()> + Send + 'static,
{
    let config = Config { seed, executor_seed: seed, ..Config::default() };
    let panics = sim::run(config, move |world| async move {
        let cluster = Cluster::start(world.clone(), change);
        let host = cluster.client_host;
        let done = world.spawn_on(host, "test", scene(cluster)).await;
        (done.is_ok(), world.panics())
    });
    match panics {
        Ok((done, panics)) => assert!(done && panics.is_empty(), "{panics:?}"),
        Err(panicked) => panic!("{panicked}"),
    }
}

impl Cluster {
    fn start(world: World, change: impl Fn(&mut MemberConfig)) -> Self {
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let client_host = world.add_host("client", address(100));
        world.start(client_host, || Box::pin(pending()));
        let running: Arc<Mutex<BTreeMap<u64, Arc<Member>>>> = Arc::default();
        let stops: Arc<Mutex<Vec<(u64, StopReason)>>> = Arc::default();
        let formats: Arc<Mutex<BTreeMap<u64, Format>>> = Arc::default();
        let members: BTreeMap<u64, MemberAddress> =
            (1..=3).map(|n| (n, MemberAddress { peer: format!("s{n}:2380"), client: format!("s{n}:2379") })).collect();
        let mut hosts = BTreeMap::new();
        for id in 1..=3 {
            let host = world.add_host(&format!("s{id}"), address(id as u8));
            hosts.insert(id, host);
            let mut config = MemberConfig::new(&format!("s{id}"), id, members.clone(), "data");
            config.listen_peer = Some("0.0.0.0:2380".to_owned());
            config.listen_client = Some("0.0.0.0:2379".to_owned());
            change(&mut config);
            let (running, stops, formats) = (running.clone(), stops.clone(), formats.clone());
            world.start(host, move || {
                let format = lock(&formats).get(&id).copied().unwrap_or(config.format);
                let (config, running, stops) =
                    (MemberConfig { format, ..config.clone() }, running.clone(), stops.clone());
                Box::pin(async move {
                    let member = Arc::new(Member::start(config).await.expect("a member starts"));
                    lock(&running).insert(id, member.clone());
                    let reason = member.stopped().await;
                    lock(&running).remove(&id);
                    lock(&stops).push((id, reason));
                })
            });
        }
        Self { world, hosts, client_host, running, stops, formats }
    }

    /// A client over all members.
    pub fn client(&self) -> Client {
        self.client_of(&[1, 2, 3])
    }

    /// A client over some members.
    pub fn client_of(&self, members: &[u64]) -> Client {
        let endpoints = members.iter().map(|id| format!("s{id}:2379")).collect();
        Client::new(endpoints, ClientConfig::default())
    }

    /// Every member that runs, as it is now.
    pub fn views(&self) -> Vec<View> {
        lock(&self.running).values().map(|member| member.view()).collect()
    }

    pub fn member(&self, id: u64) -> Arc<Member> {
        lock(&self.running)[&id].clone()
    }

    pub fn stops(&self) -> Vec<(u64, StopReason)> {
        lock(&self.stops).clone()
    }

    /// Waits until `found` finds something, at most `limit`.
    pub async fn until<T>(&self, what: &str, limit: Duration, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(began.elapsed() < limit, "no {what} after {limit:?}: {:?}", self.views());
            sleep(ms(20)).await;
        }
    }

    /// The one member that leads in the highest term, once a majority of those that run follows it.
    pub async fn leader(&self) -> u64 {
        self.until("leader", s(20), |cluster| {
            let views = cluster.views();
            let top = views.iter().map(|view| view.term).max()?;
            let leader = views.iter().find(|view| view.term == top && view.leader == view.member)?.member;
            let following = views.iter().filter(|view| view.term == top && view.leader == leader).count();
            (following >= 2).then_some(leader)
        })
        .await
    }

    /// Waits until all three run and have applied the same, and checks that it is the same.
    pub async fn agree(&self) -> View {
        let views = self
            .until("agreement", s(30), |cluster| {
                let views = cluster.views();
                let same = |view: &View| (view.applied, view.leader, view.term);
                (views.len() == 3 && views.iter().all(|view| view.leader != 0 && same(view) == same(&views[0])))
                    .then_some(views)
            })
            .await;
        for view in &views {
            assert_eq!((view.revision, view.state_hash), (views[0].revision, views[0].state_hash), "{views:?}");
        }
        views[0].clone()
    }

    /// Asks a member to stop gracefully, and does not wait for it.
    pub fn ask_to_stop(&self, id: u64) {
        let member = self.member(id);
        drop(rt::task::spawn("ask to stop", async move { member.shutdown().await }));
    }

    /// Replaces a member's program by one that reads up to this format.
    pub fn replace(&self, id: u64, format: Format) {
        lock(&self.formats).insert(id, format);
        self.world.kill(self.hosts[&id]);
        lock(&self.running).remove(&id);
        self.world.restart(self.hosts[&id]);
    }

    /// Cuts a member off from all others and the client, both ways.
    pub fn cut_off(&self, id: u64) {
        self.each_link_of(id, |world, a, b| world.cut(a, b));
    }

    /// Undoes [`Self::cut_off`].
    pub fn rejoin(&self, id: u64) {
        self.each_link_of(id, |world, a, b| world.heal(a, b));
    }

    /// Cuts a member off from the other members, but not from the client.
    pub fn cut_off_from_members(&self, id: u64) {
        for (other, host) in &self.hosts {
            if *other != id {
                self.world.cut(self.hosts[&id], *host);
                self.world.cut(*host, self.hosts[&id]);
            }
        }
    }

    fn each_link_of(&self, id: u64, change: impl Fn(&World, HostId, HostId)) {
        let own = self.hosts[&id];
        for other in self.hosts.values().chain([&self.client_host]).filter(|other| **other != own) {
            change(&self.world, own, *other);
            change(&self.world, *other, own);
        }
    }
}

/// Puts, until it is done.
pub async fn put(client: &Client, key: &str, value: &str) -> i64 {
    put_with(client, key, value, 0).await
}

/// Puts with a lease, until it is done: what is unknown is asked again.
pub async fn put_with(client: &Client, key: &str, value: &str, lease: i64) -> i64 {
    for _ in 0..20 {
        let request = PutRequest { key: text(key), value: text(value), lease, prev_kv: false };
        if let Ok(response) = client.put(request).await {
            return response.header.revision;
        }
    }
    panic!("{key} could not be put");
}

/// The value of a key, read linearizably.
pub async fn get(client: &Client, key: &str) -> Option<String> {
    let request = RangeRequest { key: text(key), ..RangeRequest::default() };
    for _ in 0..20 {
        if let Ok(response) = client.range(request.clone()).await {
            return response.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
        }
    }
    panic!("{key} could not be read");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
