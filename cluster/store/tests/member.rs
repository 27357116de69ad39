//! Three members on simulated hosts, through the product's own client.
#![cfg(madsim)]

mod common;

use common::{Cluster, get, ms, put, put_with, s, text, with_cluster};
use rt::sim::DiskFaults;
use rt::time::{Instant, sleep, timeout};
use std::future::Future;
use store::server::StopReason;
use store::{
    ClientError, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, Format, LeaseGrantRequest,
    LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RefusedKind,
    RequestOp, TxnRequest, WatchRequest, WatchResponse,
};

fn check<Fut: Future<Output = ()> + Send + 'static>(scene: fn(Cluster) -> Fut) {
    for seed in 1..=3 {
        with_cluster(seed, |_| {}, scene);
    }
}

#[test]
fn three_members_elect_a_leader_and_agree() {
    check(|cluster| async move {
        cluster.leader().await;
        let client = cluster.client();
        assert_eq!(put(&client, "a", "1").await, 2);
        assert_eq!(put(&client, "b", "2").await, 3);
        assert_eq!(get(&client, "a").await.as_deref(), Some("1"));
        let view = cluster.agree().await;
        assert_eq!((view.revision, view.keys), (3, 2));
    });
}

#[test]
fn every_member_answers_every_request() {
    check(|cluster| async move {
        cluster.leader().await;
        for id in 1..=3 {
            let client = cluster.client_of(&[id]);
            let key = format!("k{id}");
            put(&client, &key, "old").await;
            let compare = Compare {
                key: text(&key),
                range_end: text(""),
                target: CompareTarget::Value(text("old")),
                result: CompareResult::Equal,
            };
            let success =
                vec![RequestOp::Put(PutRequest { key: text(&key), value: text("new"), ..PutRequest::default() })];
            let txn = TxnRequest { compare: vec![compare], success, failure: Vec::new() };
            assert!(client.txn(txn.clone()).await.unwrap().succeeded);
            assert!(!client.txn(txn).await.unwrap().succeeded);
            assert_eq!(get(&client, &key).await.as_deref(), Some("new"));
            let lease = client.lease_grant(LeaseGrantRequest { id: 0, ttl_s: 60 }).await.unwrap();
            let kept = client.lease_keep_alive(LeaseKeepAliveRequest { id: lease.id }).await.unwrap();
            assert_eq!((kept.ttl_s, kept.id), (60, lease.id));
            put_with(&client, &format!("leased{id}"), "x", lease.id).await;
            let asked = client.lease_time_to_live(LeaseTimeToLiveRequest { id: lease.id, keys: true }).await.unwrap();
            assert_eq!((asked.granted_ttl_s, asked.keys.len()), (60, 1));
            client.lease_revoke(LeaseRevokeRequest { id: lease.id }).await.unwrap();
            assert_eq!(get(&client, &format!("leased{id}")).await, None);
            let gone = client.lease_keep_alive(LeaseKeepAliveRequest { id: lease.id }).await;
            assert_eq!(gone, Err(ClientError::Refused(RefusedKind::LeaseNotFound)));
            let deleted = client.delete_range(DeleteRangeRequest { key: text(&key), ..DeleteRangeRequest::default() });
            assert_eq!(deleted.await.unwrap().deleted, 1);
            let revision = cluster.member(id).view().revision;
            client.compact(CompactRequest { revision }).await.unwrap();
            let old = RangeRequest { key: text(&key), revision: revision - 1, ..RangeRequest::default() };
            assert_eq!(client.range(old).await, Err(ClientError::Refused(RefusedKind::Compacted(revision))));
            let status = client.status(&format!("s{id}:2379")).await.unwrap();
            assert_eq!(status.header.member, id);
        }
    });
}

#[test]
fn writes_go_on_after_the_leader_is_killed_or_cut_off_and_nothing_is_lost() {
    check(|cluster| async move {
        let client = cluster.client();
        for round in 0..6 {
            let leader = cluster.leader().await;
            put(&client, &format!("before{round}"), "x").await;
            let began = Instant::now();
            if round % 2 == 0 {
                cluster.world.kill(cluster.hosts[&leader]);
            } else {
                cluster.cut_off(leader);
            }
            put(&client, &format!("after{round}"), "x").await;
            assert!(began.elapsed() < s(12), "a write took {:?}", began.elapsed());
            if round % 2 == 0 {
                cluster.world.restart(cluster.hosts[&leader]);
            } else {
                cluster.rejoin(leader);
            }
        }
        cluster.agree().await;
        for round in 0..6 {
            assert!(get(&client, &format!("before{round}")).await.is_some());
            assert!(get(&client, &format!("after{round}")).await.is_some());
        }
    });
}

#[test]
fn what_was_acknowledged_survives_power_loss_of_all() {
    check(|cluster| async move {
        cluster.leader().await;
        let client = cluster.client();
        let mut acknowledged = 0;
        for round in 0..5 {
            for n in 0..20 {
                put(&client, &format!("{round}-{n}"), "x").await;
                acknowledged += 1;
            }
            for host in cluster.hosts.values() {
                cluster.world.power_off(*host);
            }
            sleep(ms(500)).await;
            for host in cluster.hosts.values() {
                cluster.world.power_on(*host);
            }
        }
        let view = cluster.agree().await;
        assert!(view.keys == acknowledged, "{view:?}");
        // A put whose outcome was unknown may have happened twice, one that was acknowledged never zero times.
        assert!(view.revision > acknowledged as i64);
    });
}

#[test]
fn a_lagging_follower_gets_a_snapshot_and_its_watches_miss_nothing() {
    fn small(config: &mut store::server::MemberConfig) {
        config.snapshot_entries = 50;
        config.catch_up_entries = 10;
    }
    for seed in 1..=3 {
        with_cluster(seed, small, |cluster| async move {
            let leader = cluster.leader().await;
            let lagging = leader % 3 + 1;
            let client = cluster.client_of(&(1..=3).filter(|id| *id != lagging).collect::<Vec<_>>());
            let mut watch = cluster.client_of(&[lagging]).watch(WatchRequest {
                key: text("a"),
                range_end: text("b"),
                start_revision: 1,
                ..WatchRequest::default()
            });
            put(&client, "a0", "x").await;
            let first = timeout(s(5), watch.next()).await.unwrap().unwrap();
            assert!(matches!(first, WatchResponse::Events { ref events, .. } if events.len() == 1));
            cluster.cut_off_from_members(lagging);
            for n in 1..=200 {
                put(&client, &format!("a{n}"), "x").await;
            }
            let before = cluster.member(lagging).view().applied;
            cluster.rejoin(lagging);
            let view = cluster.agree().await;
            assert_eq!(view.keys, 201);
            assert!(view.applied > before + 150);
            let mut seen = 0;
            let mut last = 2;
            while seen < 200 {
                // While it was cut off it had no leader, hence no bookmarks, but the wait is shorter than what breaks it.
                let Ok(WatchResponse::Events { events, .. }) = timeout(s(10), watch.next()).await.unwrap() else {
                    panic!("the watch broke after {seen}")
                };
                for event in events {
                    assert_eq!(event.kv.mod_revision, last + 1, "each event comes once, in order");
                    last += 1;
                    seen += 1;
                }
            }
            // And it restarts from what it was sent.
            cluster.world.kill(cluster.hosts[&lagging]);
            cluster.world.restart(cluster.hosts[&lagging]);
            put(&client, "after", "x").await;
            assert_eq!(cluster.agree().await.keys, 202);
        });
    }
}

#[test]
fn a_watch_overtaken_by_compaction_is_cancelled() {
    check(|cluster| async move {
        cluster.leader().await;
        let client = cluster.client();
        for n in 0..5 {
            put(&client, "a", &n.to_string()).await;
        }
        client.compact(CompactRequest { revision: 5 }).await.unwrap();
        cluster.agree().await;
        let request = WatchRequest { key: text("a"), start_revision: 2, ..WatchRequest::default() };
        let cancelled = client.watch(request.clone()).next().await.unwrap();
        assert!(matches!(cancelled, WatchResponse::Canceled { compact_revision: 5, .. }), "{cancelled:?}");
        let mut watch = client.watch(WatchRequest { start_revision: 5, ..request });
        let WatchResponse::Events { revision: 6, events, .. } = watch.next().await.unwrap() else {
            panic!("no events")
        };
        assert_eq!(events.len(), 2);
    });
}

#[test]
fn bookmarks_come_in_silence_and_stop_without_a_leader() {
    check(|cluster| async move {
        let leader = cluster.leader().await;
        let client = cluster.client_of(&[leader]);
        put(&client, "other", "x").await;
        let request = WatchRequest { key: text("a"), progress_notify: true, ..WatchRequest::default() };
        let mut watch = client.watch(request);
        let bookmark = timeout(s(3), watch.next()).await.unwrap();
        assert_eq!(bookmark, Ok(WatchResponse::Progress { revision: 2 }));
        cluster.cut_off_from_members(leader);
        sleep(s(4)).await;
        // What came while it still believed that it leads; then nothing.
        while timeout(ms(10), watch.next()).await.is_ok() {}
        assert!(timeout(s(3), watch.next()).await.is_err(), "a member without a leader must be silent");
    });
}

#[test]
fn a_lease_lives_while_it_is_kept_alive_and_expires_with_its_keys() {
    check(|cluster| async move {
        cluster.leader().await;
        let client = cluster.client();
        let kept = client.lease_grant(LeaseGrantRequest { id: 7, ttl_s: 6 }).await.unwrap();
        let left = client.lease_grant(LeaseGrantRequest { id: 8, ttl_s: 6 }).await.unwrap();
        let again = client.lease_grant(LeaseGrantRequest { id: 7, ttl_s: 6 }).await;
        assert_eq!(again, Err(ClientError::Refused(RefusedKind::LeaseExists)));
        put_with(&client, "kept", "x", kept.id).await;
        put_with(&client, "left", "x", left.id).await;
        for round in 0..8 {
            sleep(s(2)).await;
            client.lease_keep_alive(LeaseKeepAliveRequest { id: kept.id }).await.unwrap();
            if round % 3 == 1 {
                let leader = cluster.leader().await;
                cluster.world.kill(cluster.hosts[&leader]);
                cluster.world.restart(cluster.hosts[&leader]);
            }
        }
        assert_eq!(get(&client, "kept").await.as_deref(), Some("x"));
        sleep(s(20)).await;
        assert_eq!(get(&client, "kept").await, None);
        assert_eq!(get(&client, "left").await, None);
        assert!(cluster.agree().await.leases.is_empty());
    });
}

#[test]
fn concurrent_compare_and_swap_loses_no_update() {
    check(|cluster| async move {
        cluster.leader().await;
        put(&cluster.client(), "counter", "0").await;
        let tasks = (0..6).map(|n| {
            let client = cluster.client_of(&[n % 3 + 1]);
            rt::task::spawn("counter", async move {
                let mut done = 0;
                while done < 10 {
                    let request = RangeRequest { key: text("counter"), ..RangeRequest::default() };
                    let Ok(found) = client.range(request).await else { continue };
                    let kv = &found.kvs[0];
                    let next = String::from_utf8(kv.value.to_vec()).unwrap().parse::<u32>().unwrap() + 1;
                    let compare = Compare {
                        key: text("counter"),
                        range_end: text(""),
                        target: CompareTarget::ModRevision(kv.mod_revision),
                        result: CompareResult::Equal,
                    };
                    let value = text(&next.to_string());
                    let put = RequestOp::Put(PutRequest { key: text("counter"), value, ..PutRequest::default() });
                    let txn = TxnRequest { compare: vec![compare], success: vec![put], failure: Vec::new() };
                    if client.txn(txn).await.unwrap().succeeded {
                        done += 1;
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(get(&cluster.client(), "counter").await.as_deref(), Some("60"));
    });
}

#[test]
fn a_member_cut_off_is_heard_again_soon_after_the_network_heals() {
    check(|cluster| async move {
        let leader = cluster.leader().await;
        let follower = leader % 3 + 1;
        let client = cluster.client_of(&[leader]);
        cluster.cut_off_from_members(follower);
        // Long enough for TCP's retransmission to have backed off by half a minute.
        for n in 0..60 {
            put(&client, "a", &n.to_string()).await;
            sleep(s(1)).await;
        }
        cluster.rejoin(follower);
        let began = Instant::now();
        cluster
            .until("recovery", s(4), |cluster| {
                let (a, b) = (cluster.member(leader).view(), cluster.member(follower).view());
                (a.applied == b.applied).then_some(())
            })
            .await;
        assert!(began.elapsed() < s(4));
    });
}

#[test]
fn a_member_whose_disk_fails_stops_and_says_so() {
    check(|cluster| async move {
        let leader = cluster.leader().await;
        let client = cluster.client();
        put(&client, "a", "1").await;
        cluster
            .world
            .set_disk(cluster.hosts[&leader], DiskFaults { sync_error_permille: 1000, ..DiskFaults::default() });
        put(&client, "a", "2").await;
        let (stopped, reason) = cluster.until("stop", s(10), |cluster| cluster.stops().first().cloned()).await;
        assert_eq!(stopped, leader);
        assert!(matches!(reason, StopReason::Disk(_)), "{reason:?}");
        cluster.world.set_disk(cluster.hosts[&leader], DiskFaults::default());
        cluster.world.restart(cluster.hosts[&leader]);
        cluster.agree().await;
        assert_eq!(get(&client, "a").await.as_deref(), Some("2"));
    });
}

#[test]
fn a_leader_whose_disk_stalls_gives_way() {
    check(|cluster| async move {
        let leader = cluster.leader().await;
        let client = cluster.client();
        put(&client, "a", "1").await;
        cluster.world.set_disk(cluster.hosts[&leader], DiskFaults { stalled: true, ..DiskFaults::default() });
        put(&client, "a", "2").await;
        cluster
            .until("new leader", s(5), |cluster| cluster.views().iter().any(|view| view.leader != leader).then_some(()))
            .await;
        assert_ne!(cluster.leader().await, leader);
        put(&cluster.client_of(&[leader % 3 + 1]), "a", "3").await;
        cluster.world.set_disk(cluster.hosts[&leader], DiskFaults::default());
        cluster.agree().await;
    });
}

#[test]
fn the_quota_refuses_growth_and_lets_space_be_freed() {
    with_cluster(
        1,
        |config| config.quota_bytes = 4_096,
        |cluster| async move {
            cluster.leader().await;
            let client = cluster.client();
            let big =
                |key: &str| PutRequest { key: text(key), value: vec![b'x'; 1_000].into(), ..PutRequest::default() };
            let mut puts = 0;
            let refused = loop {
                match client.put(big("a")).await {
                    Ok(_) => puts += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!((puts, refused), (4, ClientError::Refused(RefusedKind::NoSpace)));
            let revision = cluster.agree().await.revision;
            client.compact(CompactRequest { revision }).await.unwrap();
            cluster.agree().await;
            client.put(big("a")).await.unwrap();
        },
    );
}

#[test]
fn a_full_disk_refuses_growth_and_recovers_by_itself() {
    with_cluster(
        1,
        |_| {},
        |cluster| async move {
            cluster.leader().await;
            let client = cluster.client();
            let big =
                |n: u32| PutRequest { key: text("a"), value: vec![n as u8; 200_000].into(), ..PutRequest::default() };
            let set_full = |full| {
                for host in cluster.hosts.values() {
                    cluster.world.set_disk(*host, DiskFaults { full, ..DiskFaults::default() });
                }
            };
            set_full(true);
            let mut puts = 0;
            let refused = loop {
                match client.put(big(puts)).await {
                    Ok(_) => puts += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(refused, ClientError::Refused(RefusedKind::NoSpace));
            assert!((10..100).contains(&puts), "{puts}");
            client.delete_range(DeleteRangeRequest { key: text("a"), ..DeleteRangeRequest::default() }).await.unwrap();
            assert_eq!(get(&client, "a").await, None);
            set_full(false);
            sleep(s(2)).await;
            for n in 0..60 {
                client.put(big(n)).await.unwrap();
            }
            cluster.agree().await;
        },
    );
}

#[test]
fn a_graceful_stop_hands_leadership_over_at_once() {
    check(|cluster| async move {
        let client = cluster.client();
        let leader = cluster.leader().await;
        let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
        put(&client, "a", "1").await;
        let began = Instant::now();
        cluster.ask_to_stop(leader);
        cluster
            .until("new leader", ms(900), |cluster| {
                let views = cluster.views();
                views.iter().any(|view| others.contains(&view.leader) && view.leader == view.member).then_some(())
            })
            .await;
        let (stopped, reason) = cluster.until("stop", s(5), |cluster| cluster.stops().first().cloned()).await;
        assert_eq!((stopped, reason), (leader, StopReason::Shutdown));
        assert!(began.elapsed() < s(4));
        put(&client, "a", "2").await;
        cluster.world.restart(cluster.hosts[&leader]);
        cluster.agree().await;
    });
}

#[test]
fn a_tree_has_whatever_was_acknowledged_before() {
    check(|cluster| async move {
        let client = cluster.client();
        for n in 0..10 {
            let leader = cluster.leader().await;
            put(&client, "a", &format!("{n}")).await;
            for id in 1..=3 {
                let local = cluster.member(id).local();
                let tree = local.tree().await.expect("a leader confirms it");
                assert_eq!(tree.get(b"a").map(|kv| kv.value.clone()), Some(text(&format!("{n}"))));
            }
            if n % 3 == 0 {
                let cut_off = leader % 3 + 1;
                let local = cluster.member(cut_off).local();
                cluster.cut_off(cut_off);
                put(&client, "a", "unseen").await;
                let tree = local.tree().await;
                assert!(matches!(tree, Err(ClientError::Unavailable(_))), "{:?}", tree.map(|tree| tree.revision()));
                cluster.rejoin(cut_off);
                cluster.agree().await;
            }
        }
    });
}

/// The same beside a cluster of an older program, which reads the first format alone.
fn check_older<Fut: Future<Output = ()> + Send + 'static>(scene: fn(Cluster) -> Fut) {
    for seed in 1..=3 {
        with_cluster(seed, |config| config.format = Format::FIRST, scene);
    }
}

async fn agreed(cluster: &Cluster) -> Format {
    cluster.agree().await.format
}

async fn replace_all(cluster: &Cluster) {
    for id in 1..=3 {
        cluster.leader().await;
        cluster.replace(id, Format::CHECKED);
    }
    let newer = |cluster: &Cluster| {
        let views = cluster.views();
        (views.len() == 3 && views.iter().all(|view| view.format == Format::CHECKED)).then_some(())
    };
    cluster.until("newer format", s(30), newer).await;
}

#[test]
fn the_newer_format_is_agreed_when_the_last_member_has_come_and_no_earlier() {
    check_older(|cluster| async move {
        cluster.leader().await;
        let client = cluster.client();
        put(&client, "a", "1").await;
        // One goes back in between.
        for (id, format) in [(1, Format::CHECKED), (2, Format::CHECKED), (1, Format::FIRST)] {
            cluster.replace(id, format);
            cluster.leader().await;
            put(&client, "a", &id.to_string()).await;
            assert_eq!(agreed(&cluster).await, Format::FIRST);
        }
        replace_all(&cluster).await;
        put(&client, "b", "2").await;
        assert_eq!((get(&client, "a").await.as_deref(), get(&client, "b").await.as_deref()), (Some("1"), Some("2")));
        assert_eq!(agreed(&cluster).await, Format::CHECKED);
        assert_eq!(cluster.stops(), []);
    });
}

#[test]
fn a_member_that_goes_back_too_late_stops_and_says_what_to_run() {
    check_older(|cluster| async move {
        replace_all(&cluster).await;
        let client = cluster.client();
        put(&client, "a", "1").await;
        cluster.replace(1, Format::FIRST);
        let stop = cluster.until("stop", s(30), |cluster| cluster.stops().first().cloned()).await;
        assert!(matches!(stop, (1, StopReason::ForeignEntry { .. })), "{stop:?}");
        let why = stop.1.to_string();
        assert!(why.contains("it has format 2, and this member reads up to format 1; run the version"), "{why}");
        put(&client, "a", "2").await;
        cluster.replace(1, Format::CHECKED);
        assert_eq!(agreed(&cluster).await, Format::CHECKED);
        assert_eq!(get(&client, "a").await.as_deref(), Some("2"));
    });
}
