//! The simulated disk: one check per sentence that it keeps, and for each sentence the lies that break it. A check
//! passes on the honest disk and fails under each of its lies.
#![cfg(madsim)]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

mod common;

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::time::Duration;

use common::{Scene, about, config, kind, ms, s, with_two};
use rt::disk::{Dir, DiskConfig, DiskFaults, File, Lies};
use rt::sim::{Config, Panicked};
use rt::time::timeout;

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

/// Holds a few files and no more.
const CAPACITY_BYTES: u64 = 1 << 20;

fn run<Fut>(check: fn(Scene) -> Fut, lies: Lies) -> Result<(), Panicked>
where
    Fut: Future<Output = ()> + 'static,
{
    let disk = DiskConfig { lies, capacity_bytes: CAPACITY_BYTES, ..DiskConfig::default() };
    with_two(Config { disk, ..config() }, check)
}

sentences! {
    reads_return_what_was_written: [reads_are_wrong],
    what_was_synced_survives_power_loss: [synced_is_lost, synced_names_are_lost, size_is_not_synced],
    what_was_not_synced_may_be_lost: [unsynced_survives],
    an_unsynced_write_tears_between_sectors:
        [writes_never_tear, writes_keep_their_order, unsynced_survives],
    unsynced_writes_survive_out_of_order: [writes_keep_their_order, unsynced_survives],
    a_sector_survives_as_a_whole: [sectors_tear],
    power_loss_during_a_sync_keeps_a_part: [writes_never_tear, unsynced_survives],
    a_replaced_disk_is_empty: [],
    killing_a_process_keeps_what_it_wrote: [kill_loses_page_cache],
    names_may_be_lost_until_their_directory_is_synced: [unsynced_names_survive],
    names_survive_in_the_order_of_their_changes: [names_change_their_order],
    a_rename_is_found_done_or_not_done: [unsynced_names_survive, synced_names_are_lost],
    a_failed_sync_of_a_directory_leaves_its_changes_to_the_next: [synced_names_are_lost],
    what_a_failed_sync_covered_is_lost_whatever_succeeds_later:
        [failed_sync_is_made_up_for, errors_are_swallowed],
    what_a_failed_sync_covered_is_read_until_power_loss: [failed_sync_is_hidden],
    faulty_operations_fail: [errors_are_swallowed],
    a_failed_write_may_have_written_its_first_sectors: [failed_writes_change_nothing],
    a_full_disk_refuses_what_needs_space: [full_accepts],
    a_full_disk_serves_what_needs_no_space: [full_refuses_overwriting],
    capacity_is_a_bound_and_removing_frees_it: [full_accepts],
    a_stalled_disk_completes_nothing_until_it_is_healed: [stall_completes, stall_never_ends],
    a_sync_takes_its_time: [sync_is_instant],
    a_slow_disk_takes_as_many_times_as_long: [slow_is_fast],
    a_lock_has_one_holder: [locks_are_shared],
    locks_end_with_the_process_that_holds_them: [locks_outlive_processes],
    what_a_killed_process_began_never_completes: [dead_processes_go_on],
    a_removed_file_stays_for_those_who_have_it_open: [],
    each_host_has_a_disk_of_its_own: [],
    names_are_plain_and_there_once: [],
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

const SECTOR: usize = 512;
/// Files that lose power together: enough that whatever may happen to one does happen to some.
const FILES: u64 = 48;

/// Sectors of `old` and `new`, as letters.
fn sectors(content: &[u8]) -> String {
    let letter = |sector: &[u8]| match sector {
        [first, rest @ ..] if rest.iter().all(|byte| byte == first) => *first as char,
        _ => '?',
    };
    content.chunks(SECTOR).map(letter).collect()
}

/// `n` sectors of `letter`.
fn filled(letter: u8, n: usize) -> Vec<u8> {
    vec![letter; n * SECTOR]
}

impl Scene {
    /// Does `work` with the directory in the process of `a`.
    async fn with<T, Fut>(&self, work: impl FnOnce(Dir) -> Fut + Send + 'static) -> T
    where
        T: Send + 'static,
        Fut: Future<Output = io::Result<T>> + Send,
    {
        self.on(self.a, async { work(Dir::open("/data").await?).await }).await.unwrap()
    }

    /// Makes files of sectors full of 'o', durable in content and name.
    async fn files(&self, sectors: usize) {
        self.with(move |dir| async move {
            for i in 0..FILES {
                let file = dir.create(&i.to_string()).await?;
                file.write_at(0, filled(b'o', sectors)).await?;
                file.sync_data().await?;
            }
            dir.sync().await
        })
        .await;
    }

    /// The sectors of all files as they are now.
    async fn found(&self) -> Vec<String> {
        self.with(|dir| async move {
            let mut found = Vec::new();
            for i in 0..FILES {
                let file = dir.open_file(&i.to_string()).await?;
                found.push(sectors(&file.read_at(0, 1 << 20).await?));
            }
            Ok(found)
        })
        .await
    }

    /// What is in the file `name`.
    async fn content(&self, name: &'static str) -> Vec<u8> {
        self.with(move |dir| async move { dir.open_file(name).await?.read_at(0, 1 << 20).await }).await
    }

    async fn names(&self) -> Vec<String> {
        self.with(|dir| async move { dir.list().await }).await
    }

    async fn power_cycle(&self) {
        self.world.power_off(self.a);
        self.sleep(ms(10)).await;
        self.world.power_on(self.a);
    }

    fn kill(&self) {
        self.world.kill(self.a);
        self.world.restart(self.a);
    }

    fn faults(&self, faults: DiskFaults) {
        self.world.set_disk(self.a, faults);
    }

    fn heal(&self) {
        self.faults(DiskFaults::default());
    }
}

mod checks {
    use super::*;

    pub async fn reads_return_what_was_written(scene: Scene) {
        let read = scene
            .with(|dir| async move {
                let file = dir.create("f").await?;
                file.write_at(3, "abc").await?;
                file.write_at(4, "X").await?;
                file.set_len(7).await?;
                assert_eq!(file.len().await?, 7);
                file.allocate(5).await?;
                assert_eq!(file.len().await?, 7);
                Ok((file.read_at(0, 100).await?, file.read_at(5, 1).await?, file.read_at(7, 1).await?))
            })
            .await;
        assert_eq!(read, (b"\0\0\0aXc\0".to_vec(), b"c".to_vec(), vec![]));
    }

    pub async fn what_was_synced_survives_power_loss(scene: Scene) {
        scene
            .with(|dir| async move {
                let file = dir.create("f").await?;
                file.write_at(0, filled(b'a', 3)).await?;
                file.sync_data().await?;
                dir.sub("below").await?.create("g").await?;
                dir.sub("below").await?.sync().await?;
                dir.sync().await
            })
            .await;
        scene.power_cycle().await;
        assert_eq!(scene.names().await, ["below", "f"]);
        assert_eq!(sectors(&scene.content("f").await), "aaa");
        let below = scene.with(|dir| async move { dir.sub("below").await?.list().await }).await;
        assert_eq!(below, ["g"]);
    }

    pub async fn what_was_not_synced_may_be_lost(scene: Scene) {
        scene.files(1).await;
        scene.overwrite(1).await;
        scene.power_cycle().await;
        let found = scene.found().await;
        assert!(found.iter().any(|file| file == "o") && found.iter().any(|file| file == "n"), "{found:?}");
    }

    pub async fn an_unsynced_write_tears_between_sectors(scene: Scene) {
        scene.files(4).await;
        scene.overwrite(4).await;
        scene.power_cycle().await;
        let found = scene.found().await;
        assert!(found.iter().any(|file| file.contains("no") && file.contains("on")), "{found:?}");
    }

    pub async fn a_replaced_disk_is_empty(scene: Scene) {
        scene.files(4).await;
        scene.world.power_off(scene.a);
        scene.world.replace_disk(scene.a);
        scene.world.power_on(scene.a);
        let names = async { Dir::open("/data").await?.list().await };
        assert_eq!(scene.on(scene.a, names).await.unwrap(), Vec::<String>::new());
    }

    pub async fn unsynced_writes_survive_out_of_order(scene: Scene) {
        scene.files(4).await;
        scene
            .each(|file| async move {
                for sector in 0..4 {
                    file.write_at(sector * SECTOR as u64, filled(b'n', 1)).await?;
                }
                Ok(())
            })
            .await;
        scene.power_cycle().await;
        let found = scene.found().await;
        assert!(found.iter().any(|file| file.contains("on")), "{found:?}");
    }

    pub async fn a_sector_survives_as_a_whole(scene: Scene) {
        scene.files(2).await;
        scene.overwrite(2).await;
        scene.power_cycle().await;
        let found = scene.found().await;
        assert!(found.iter().all(|file| !file.contains('?')), "{found:?}");
    }

    pub async fn power_loss_during_a_sync_keeps_a_part(scene: Scene) {
        scene.files(4).await;
        let syncing = scene.world.spawn_on(scene.a, "sync", async {
            let dir = Dir::open("/data").await?;
            let mut syncs = Vec::new();
            for i in 0..FILES {
                let file = dir.open_file(&i.to_string()).await?;
                file.write_at(0, filled(b'n', 4)).await?;
                syncs.push(rt::task::spawn("sync", async move { file.sync_data().await }));
            }
            for sync in syncs {
                sync.await.expect("nothing aborts it")?;
            }
            io::Result::Ok(())
        });
        // Shorter than the shortest sync.
        scene.sleep(Duration::from_micros(300)).await;
        assert!(!syncing.is_finished());
        scene.power_cycle().await;
        let found = scene.found().await;
        assert!(found.iter().any(|file| file.contains("no") && file.contains("on")), "{found:?}");
    }

    pub async fn killing_a_process_keeps_what_it_wrote(scene: Scene) {
        scene.with(|dir| async move { dir.create("f").await?.write_at(0, "abc").await }).await;
        scene.kill();
        assert_eq!(scene.content("f").await, b"abc");
    }

    pub async fn names_may_be_lost_until_their_directory_is_synced(scene: Scene) {
        let mut found = Vec::new();
        for _ in 0..20 {
            scene
                .with(|dir| async move {
                    let file = dir.create("f").await?;
                    file.sync_data().await
                })
                .await;
            scene.power_cycle().await;
            found.push(scene.names().await.len());
            scene.clear().await;
        }
        assert!(found.contains(&0) && found.contains(&1), "{found:?}");
    }

    pub async fn names_survive_in_the_order_of_their_changes(scene: Scene) {
        let all = ["a", "b", "c", "d", "e", "f"];
        let mut lengths = Vec::new();
        for round in 0..20 {
            let name = format!("round{round}");
            let there = name.clone();
            scene
                .with(move |dir| async move {
                    let below = dir.sub(&there).await?;
                    dir.sync().await?;
                    for name in all {
                        below.create(name).await?;
                    }
                    Ok(())
                })
                .await;
            scene.power_cycle().await;
            let found = scene.with(move |dir| async move { dir.sub(&name).await?.list().await }).await;
            assert_eq!(found, all[..found.len()]);
            lengths.push(found.len());
        }
        assert!(lengths.iter().any(|&length| 0 < length && length < all.len()), "{lengths:?}");
    }

    pub async fn a_rename_is_found_done_or_not_done(scene: Scene) {
        let mut found = Vec::new();
        for _ in 0..20 {
            scene
                .with(|dir| async move {
                    for (name, content) in [("old", "new content"), ("name", "old content")] {
                        let file = dir.create(name).await?;
                        file.write_at(0, content).await?;
                        file.sync_data().await?;
                    }
                    dir.sync().await?;
                    dir.rename("old", "name").await
                })
                .await;
            scene.power_cycle().await;
            let names = scene.names().await;
            let content = scene.content("name").await;
            match names.len() {
                2 => assert_eq!(content, b"old content"),
                _ => assert_eq!((&names[..], &content[..]), (&["name".to_owned()][..], &b"new content"[..])),
            }
            found.push(names.len());
            scene.clear().await;
        }
        assert!(found.contains(&1) && found.contains(&2), "{found:?}");
    }

    pub async fn a_failed_sync_of_a_directory_leaves_its_changes_to_the_next(scene: Scene) {
        scene.faults(DiskFaults { sync_error_permille: 1000, ..DiskFaults::default() });
        let failed = scene
            .with(|dir| async move {
                dir.create("f").await?;
                Ok(dir.sync().await)
            })
            .await;
        assert!(failed.is_err());
        scene.heal();
        scene.with(|dir| async move { dir.sync().await }).await;
        scene.power_cycle().await;
        assert_eq!(scene.names().await, ["f"]);
    }

    pub async fn what_a_failed_sync_covered_is_lost_whatever_succeeds_later(scene: Scene) {
        scene.fail_a_sync().await;
        scene
            .with(|dir| async move {
                let file = dir.open_file("f").await?;
                file.write_at(2 * SECTOR as u64, filled(b'n', 1)).await?;
                file.sync_data().await
            })
            .await;
        scene.power_cycle().await;
        assert_eq!(sectors(&scene.content("f").await), "oon");
    }

    pub async fn what_a_failed_sync_covered_is_read_until_power_loss(scene: Scene) {
        scene.fail_a_sync().await;
        assert_eq!(sectors(&scene.content("f").await), "noo");
        scene.kill();
        assert_eq!(sectors(&scene.content("f").await), "noo");
        scene.power_cycle().await;
        assert_eq!(sectors(&scene.content("f").await), "ooo");
    }

    pub async fn faulty_operations_fail(scene: Scene) {
        scene.with(|dir| async move { dir.create("f").await.map(drop) }).await;
        let all = 1000;
        for faults in [
            DiskFaults { write_error_permille: all, ..DiskFaults::default() },
            DiskFaults { sync_error_permille: all, ..DiskFaults::default() },
            DiskFaults { read_error_permille: all, ..DiskFaults::default() },
        ] {
            scene.faults(faults);
            let failed = scene
                .with(|dir| async move {
                    let file = dir.open_file("f").await?;
                    Ok([
                        file.write_at(0, "x").await.is_err() && dir.create("g").await.is_err(),
                        file.sync_data().await.is_err() && dir.sync().await.is_err(),
                        file.read_at(0, 1).await.is_err(),
                    ])
                })
                .await;
            let expected =
                [faults.write_error_permille, faults.sync_error_permille, faults.read_error_permille].map(|n| n == all);
            assert_eq!(failed, expected);
            scene.heal();
            scene.with(|dir| async move { if dir.exists("g").await? { dir.remove("g").await } else { Ok(()) } }).await;
        }
        scene.faults(DiskFaults { write_error_permille: 300, ..DiskFaults::default() });
        let failures = scene
            .with(|dir| async move {
                let file = dir.open_file("f").await?;
                let mut failures = 0;
                for _ in 0..1000 {
                    failures += i32::from(file.write_at(0, "x").await.is_err());
                }
                Ok(failures)
            })
            .await;
        assert!((250..350).contains(&failures), "{failures}");
    }

    pub async fn a_failed_write_may_have_written_its_first_sectors(scene: Scene) {
        scene.files(4).await;
        scene.faults(DiskFaults { write_error_permille: 1000, ..DiskFaults::default() });
        scene
            .each(|file| async move {
                assert!(file.write_at(0, filled(b'n', 4)).await.is_err());
                Ok(())
            })
            .await;
        scene.heal();
        let found = scene.found().await;
        for expected in ["oooo", "nooo", "nnnn"] {
            assert!(found.iter().any(|file| file == expected), "{found:?}");
        }
        assert!(found.iter().all(|file| !file.contains("on") && !file.contains('?')), "{found:?}");
    }

    pub async fn a_full_disk_refuses_what_needs_space(scene: Scene) {
        scene.with(|dir| async move { dir.create("f").await?.write_at(0, "abc").await }).await;
        scene.faults(DiskFaults { full: true, ..DiskFaults::default() });
        let kinds = scene
            .with(|dir| async move {
                let file = dir.open_file("f").await?;
                Ok([
                    kind(file.write_at(2, "xx").await),
                    kind(file.allocate(4).await),
                    kind(file.set_len(4).await),
                    kind(dir.create("g").await),
                    kind(dir.sub("h").await),
                ])
            })
            .await;
        assert_eq!(kinds, [Some(ErrorKind::StorageFull); 5]);
        scene.heal();
        scene.with(|dir| async move { dir.open_file("f").await?.write_at(2, "xx").await }).await;
    }

    pub async fn a_full_disk_serves_what_needs_no_space(scene: Scene) {
        scene.with(|dir| async move { dir.create("f").await?.write_at(0, "abc").await }).await;
        scene.faults(DiskFaults { full: true, ..DiskFaults::default() });
        scene
            .with(|dir| async move {
                let file = dir.open_file("f").await?;
                file.write_at(1, "xx").await?;
                file.allocate(3).await?;
                file.sync_data().await?;
                assert_eq!(file.read_at(0, 9).await?, b"axx");
                file.set_len(1).await?;
                dir.rename("f", "g").await?;
                let _lock = dir.lock("g").await?;
                dir.remove("g").await?;
                dir.sync().await
            })
            .await;
    }

    pub async fn capacity_is_a_bound_and_removing_frees_it(scene: Scene) {
        let half = CAPACITY_BYTES / 2;
        scene
            .with(move |dir| async move {
                for name in ["a", "b"] {
                    dir.create(name).await?.allocate(half).await?;
                }
                let file = dir.open_file("b").await?;
                assert_eq!(kind(file.write_at(half, "x").await), Some(ErrorKind::StorageFull));
                dir.remove("a").await?;
                file.write_at(half, "x").await?;
                file.sync_data().await?;
                dir.sync().await
            })
            .await;
        // The count is kept through power loss.
        scene.power_cycle().await;
        scene
            .with(move |dir| async move {
                let file = dir.create("c").await?;
                assert_eq!(kind(file.allocate(half).await), Some(ErrorKind::StorageFull));
                file.allocate(half - 1).await
            })
            .await;
    }

    pub async fn a_stalled_disk_completes_nothing_until_it_is_healed(scene: Scene) {
        let (dir, file) = scene
            .with(|dir| async move {
                let file = dir.create("f").await?;
                Ok((dir, file))
            })
            .await;
        let operations = move || {
            let operation = |work: Pin<Box<dyn Future<Output = bool> + Send>>| work;
            let (dir, file) = (dir.clone(), file.clone());
            let ((d1, d2, d3), (f1, f2, f3)) = ((dir.clone(), dir.clone(), dir), (file.clone(), file.clone(), file));
            [
                operation(Box::pin(async move { f1.write_at(0, "x").await.is_ok() })),
                operation(Box::pin(async move { f2.sync_data().await.is_ok() })),
                operation(Box::pin(async move { f3.read_at(0, 1).await.is_ok() })),
                operation(Box::pin(async move { d1.list().await.is_ok() })),
                operation(Box::pin(async move { d2.sync().await.is_ok() })),
                operation(Box::pin(async move { d3.exists("f").await.is_ok() })),
            ]
        };
        // One that began before the stall is caught by it too.
        let before = operations().into_iter().nth(1).expect("the sync");
        let caught = scene.world.spawn_on(scene.a, "sync", before);
        scene.sleep(Duration::from_micros(100)).await;
        scene.faults(DiskFaults { stalled: true, ..DiskFaults::default() });
        let waiting = operations().map(|operation| scene.world.spawn_on(scene.a, "operation", operation));
        scene.sleep(s(100)).await;
        assert!(!caught.is_finished() && waiting.iter().all(|operation| !operation.is_finished()));
        scene.heal();
        for operation in waiting.into_iter().chain([caught]) {
            let done = timeout(ms(5), operation).await;
            assert!(done.expect("it goes on at once").expect("nothing aborts it"));
        }
    }

    pub async fn a_sync_takes_its_time(scene: Scene) {
        let file = scene.with(|dir| async move { dir.create("f").await }).await;
        let healthy = DiskConfig::default();
        let mut times = Vec::new();
        for _ in 0..20 {
            let (synced, took) = scene.time(file.sync_data()).await;
            synced.unwrap();
            let bounds = healthy.sync_min..healthy.sync_max + Duration::from_micros(100);
            assert!(bounds.contains(&took), "{took:?}");
            times.push(took);
        }
        times.sort();
        assert!(times[0] + ms(1) < times[19], "{times:?}");
    }

    pub async fn a_slow_disk_takes_as_many_times_as_long(scene: Scene) {
        let file = scene.with(|dir| async move { dir.create("f").await }).await;
        let (_, healthy) = scene.time(file.write_at(0, "x")).await;
        assert!(about(healthy, Duration::ZERO), "{healthy:?}");
        scene.faults(DiskFaults { slow: 1000, ..DiskFaults::default() });
        let (_, write) = scene.time(file.write_at(0, "x")).await;
        assert!(about(write, ms(10)), "{write:?}");
        let (_, sync) = scene.time(file.sync_data()).await;
        assert!((ms(500)..ms(2001)).contains(&sync), "{sync:?}");
    }

    pub async fn a_lock_has_one_holder(scene: Scene) {
        scene
            .with(|dir| async move {
                let first = dir.lock("LOCK").await?;
                assert_eq!(kind(dir.lock("LOCK").await), Some(ErrorKind::WouldBlock));
                let other = dir.lock("OTHER").await?;
                drop(first);
                let _again = dir.lock("LOCK").await?;
                drop(other);
                assert_eq!(kind(dir.lock("LOCK").await), Some(ErrorKind::WouldBlock));
                assert_eq!(dir.list().await?, ["LOCK", "OTHER"]);
                Ok(())
            })
            .await;
    }

    pub async fn locks_end_with_the_process_that_holds_them(scene: Scene) {
        let lock = scene.with(|dir| async move { dir.lock("LOCK").await }).await;
        scene.kill();
        let next = scene.with(|dir| async move { dir.lock("LOCK").await }).await;
        // The end of a lock of a dead process is no news.
        drop(lock);
        let taken = scene.with(|dir| async move { Ok(kind(dir.lock("LOCK").await)) }).await;
        assert_eq!(taken, Some(ErrorKind::WouldBlock));
        scene.power_cycle().await;
        scene.with(|dir| async move { dir.lock("LOCK").await.map(drop) }).await;
        drop(next);
    }

    pub async fn what_a_killed_process_began_never_completes(scene: Scene) {
        let file = scene.with(|dir| async move { dir.create("f").await }).await;
        scene.with(|dir| async move { dir.sync().await }).await;
        scene.kill();
        assert!(timeout(s(1), file.write_at(0, "x")).await.is_err());
        assert_eq!(scene.content("f").await, b"");
        scene.power_cycle().await;
        assert!(timeout(s(1), file.write_at(0, "x")).await.is_err());
        assert_eq!(scene.content("f").await, b"");
    }

    pub async fn a_removed_file_stays_for_those_who_have_it_open(scene: Scene) {
        scene
            .with(|dir| async move {
                let file = dir.create("f").await?;
                file.write_at(0, "abc").await?;
                dir.remove("f").await?;
                assert_eq!(kind(dir.open_file("f").await), Some(ErrorKind::NotFound));
                file.write_at(3, "d").await?;
                assert_eq!(file.read_at(0, 9).await?, b"abcd");
                dir.create("f").await?;
                assert_eq!(dir.open_file("f").await?.len().await?, 0);
                Ok(())
            })
            .await;
    }

    pub async fn each_host_has_a_disk_of_its_own(scene: Scene) {
        scene.with(|dir| async move { dir.create("f").await.map(drop) }).await;
        let other = scene.on(scene.b, async { Dir::open("/data").await?.list().await }).await.unwrap();
        assert!(other.is_empty(), "{other:?}");
    }

    pub async fn names_are_plain_and_there_once(scene: Scene) {
        scene
            .with(|dir| async move {
                dir.create("f").await?;
                dir.sub("d").await?;
                assert!(dir.exists("f").await? && dir.exists("d").await? && !dir.exists("g").await?);
                let kinds = [
                    kind(dir.create("f").await),
                    kind(dir.open_file("g").await),
                    kind(dir.remove("g").await),
                    kind(dir.rename("g", "h").await),
                    kind(dir.open_file("d").await),
                    kind(dir.sub("f").await),
                    kind(dir.create("../f").await),
                ];
                let expected = [
                    ErrorKind::AlreadyExists,
                    ErrorKind::NotFound,
                    ErrorKind::NotFound,
                    ErrorKind::NotFound,
                    ErrorKind::IsADirectory,
                    ErrorKind::AlreadyExists,
                    ErrorKind::InvalidInput,
                ];
                assert_eq!(kinds, expected.map(Some));
                Ok(())
            })
            .await;
    }
}

impl Scene {
    /// Removes all files, durably.
    async fn clear(&self) {
        self.with(|dir| async move {
            for name in dir.list().await? {
                dir.remove(&name).await?;
            }
            dir.sync().await
        })
        .await;
    }

    /// Does `work` with each file in turn.
    async fn each<Fut>(&self, work: impl Fn(File) -> Fut + Send + Sync + 'static)
    where
        Fut: Future<Output = io::Result<()>> + Send,
    {
        self.with(|dir| async move {
            for i in 0..FILES {
                work(dir.open_file(&i.to_string()).await?).await?;
            }
            Ok(())
        })
        .await;
    }

    /// Writes sectors full of 'n' over each file, with one write and without a sync.
    async fn overwrite(&self, sectors: usize) {
        self.each(move |file| async move { file.write_at(0, filled(b'n', sectors)).await }).await;
    }

    /// A file of three sectors, of which the first was overwritten when a sync failed.
    async fn fail_a_sync(&self) {
        self.with(|dir| async move {
            let file = dir.create("f").await?;
            file.write_at(0, filled(b'o', 3)).await?;
            file.sync_data().await?;
            dir.sync().await
        })
        .await;
        self.faults(DiskFaults { sync_error_permille: 1000, ..DiskFaults::default() });
        self.with(|dir| async move {
            let file = dir.open_file("f").await?;
            file.write_at(0, filled(b'n', 1)).await?;
            assert!(file.sync_data().await.is_err());
            Ok(())
        })
        .await;
        self.heal();
    }
}
