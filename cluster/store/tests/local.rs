//! The handle for a member's own process, on a real disk; `tests/member.rs` has it among three members.

use rt::time::timeout;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::server::{Local, Member, MemberAddress, MemberConfig, StopReason};
use store::{ClientError, CompactRequest, PutRequest, RangeRequest, RefusedKind, Request, Response};

/// A member that is its whole cluster, in a directory that is removed at the end.
struct Alone {
    member: Member,
    dir: PathBuf,
}

impl Alone {
    async fn start() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("seaworthy-local-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        let address = MemberAddress { peer: "nowhere:1".to_owned(), client: "nowhere:2".to_owned() };
        let mut config =
            MemberConfig::new("s1", 1, BTreeMap::from([(1, address)]), dir.to_str().expect("its name is text"));
        (config.listen_peer, config.listen_client) = (None, None);
        let member = Member::start(config).await.expect("a member starts");
        assert_eq!(member.client_address(), None);
        let alone = Self { member, dir };
        while alone.member.view().leader == 0 {
            rt::time::sleep(Duration::from_millis(10)).await;
        }
        alone
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).expect("it is there");
    }
}

async fn put(local: &Local, key: &'static str, value: &'static str) -> i64 {
    let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    match local.request(Request::Put(request)).await {
        Ok(Response::Put(response)) => response.header.revision,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_are_answered_as_a_clients_are() {
    rt::task::block_on(async {
        let alone = Alone::start().await;
        let local = alone.member.local();
        let pinned = local.latest();
        assert_eq!(put(&local, "a", "1").await, 2);
        assert_eq!(put(&local, "a", "2").await, 3);
        let tree = local.tree().await.unwrap();
        assert_eq!(tree.get(b"a").map(|kv| (&kv.value[..], kv.mod_revision)), Some((&b"2"[..], 3)));
        assert_eq!((pinned.revision(), tree.revision(), local.revision()), (1, 3, 3));
        assert!(local.has_leader());
        let range = RangeRequest { key: "a".into(), range_end: "b".into(), ..RangeRequest::default() };
        let Ok(Response::Range(read)) = local.request(Request::Range(range)).await else { panic!("it is a read") };
        assert_eq!((read.count, read.header.member), (1, 1));
        let future = local.request(Request::Compact(CompactRequest { revision: 9 })).await;
        assert_eq!(future, Err(ClientError::Refused(RefusedKind::FutureRevision)));
    });
}

#[test]
fn a_member_that_stops_answers_nobody_and_says_so() {
    rt::task::block_on(async {
        let alone = Alone::start().await;
        let local = alone.member.local();
        let mut following = local.follow();
        put(&local, "a", "1").await;
        assert_eq!(following.changed().await, Ok(2));
        let waiter = rt::task::spawn("waiter", async move { following.changed().await });
        assert_eq!(alone.member.shutdown().await, StopReason::Shutdown);
        let told = timeout(Duration::from_secs(5), waiter).await.expect("who follows is told").unwrap();
        assert!(matches!(told, Err(ClientError::Unavailable(_))), "{told:?}");
        let put = PutRequest { key: "a".into(), ..PutRequest::default() };
        assert!(matches!(local.request(Request::Put(put)).await, Err(ClientError::Unavailable(_))));
        assert!(matches!(local.tree().await, Err(ClientError::Unavailable(_))));
        assert!(!local.has_leader());
        assert_eq!(local.latest().revision(), 2, "what was applied can still be looked at");
    });
}

#[test]
fn following_tells_of_every_new_revision_but_not_of_each_on_its_own() {
    rt::task::block_on(async {
        let alone = Alone::start().await;
        let local = alone.member.local();
        let mut following = local.follow();
        assert!(timeout(Duration::from_millis(20), following.changed()).await.is_err(), "nothing is new");
        put(&local, "a", "1").await;
        put(&local, "b", "1").await;
        assert_eq!(following.changed().await, Ok(3), "both at once");
        let next = rt::task::spawn("waiter", async move { following.changed().await });
        put(&local, "c", "1").await;
        assert_eq!(next.await.unwrap(), Ok(4));
    });
}
