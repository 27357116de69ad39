//! The log on a real disk, without crashes: segments come, go and are used again, and what was written is read.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use bytes::Bytes;
use raft::{Entry, HardState, SnapshotMeta};
use rt::disk::Dir;
use std::ops::RangeInclusive;
use store::wal::{Identity, Recovered, Wal, WalConfig, WalError};

const CONFIG: WalConfig = WalConfig { identity: Identity { cluster: 1, member: 1 }, segment_bytes: 8192 };

/// Does `test` in an empty directory.
fn with_dir<Fut: Future<Output = ()>>(test: impl FnOnce(Dir) -> Fut) {
    let path = format!("{}/wal-{:016x}", env!("CARGO_TARGET_TMPDIR"), rt::random::stream("test").next_u64());
    rt::task::block_on(async { test(Dir::open(&path).await.unwrap()).await });
    std::fs::remove_dir_all(path).unwrap();
}

fn entries(indexes: RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    indexes.map(|index| Entry { term, index, data: Bytes::from(vec![index as u8; 100]) }).collect()
}

fn meta(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta { index, term, voters: if index == 0 { vec![] } else { vec![1, 2, 3] } }
}

async fn open(dir: &Dir, snapshot: u64) -> (Wal, Recovered) {
    Wal::open(dir.clone(), CONFIG, &meta(snapshot, 1)).await.unwrap()
}

/// Waits until the next segment is ready, so that the names that are there are settled.
async fn segments(wal: &mut Wal, dir: &Dir) -> Vec<String> {
    loop {
        assert!(!wal.is_starved());
        let names = dir.list().await.unwrap();
        if wal.is_prepared() {
            return names;
        }
        rt::task::yield_now().await;
    }
}

#[test]
fn a_new_log_is_empty_and_what_is_appended_is_read() {
    with_dir(|dir| async move {
        let (mut wal, recovered) = open(&dir, 0).await;
        assert_eq!(recovered, Recovered::default());
        let hard_state = HardState { term: 2, vote: 3, commit: 1 };
        wal.append(Some(&hard_state), &entries(1..=3, 1)).await.unwrap();
        wal.append(None, &entries(3..=4, 2)).await.unwrap();
        wal.sync().await.unwrap();
        drop(wal);
        let (_, recovered) = open(&dir, 0).await;
        let expected = [entries(1..=2, 1), entries(3..=4, 2)].concat();
        assert_eq!(recovered, Recovered { hard_state, entries: expected });
    });
}

#[test]
fn a_batch_larger_than_a_segment_goes_over_several() {
    with_dir(|dir| async move {
        let (mut wal, _) = open(&dir, 0).await;
        wal.append(None, &entries(1..=300, 1)).await.unwrap();
        wal.sync().await.unwrap();
        assert_eq!(segments(&mut wal, &dir).await.len(), 6);
        drop(wal);
        assert_eq!(open(&dir, 0).await.1.entries, entries(1..=300, 1));
    });
}

#[test]
fn released_segments_are_used_again() {
    with_dir(|dir| async move {
        let (mut wal, _) = open(&dir, 0).await;
        let mut next = 1;
        for _ in 0..10 {
            wal.append(Some(&HardState { term: 1, vote: 1, commit: next - 1 }), &entries(next..=next + 99, 1))
                .await
                .unwrap();
            next += 100;
            wal.snapshot(&meta(next - 11, 1)).await.unwrap();
            wal.release(next - 20).await.unwrap();
            let names = segments(&mut wal, &dir).await;
            assert!(names.len() <= 4, "{names:?}");
        }
        drop(wal);
        let (_, recovered) = open(&dir, next - 11).await;
        let first = recovered.entries[0].index;
        assert!(next - 100 < first && first <= next - 20, "{first}");
        assert_eq!(recovered.entries, entries(first..=next - 1, 1));
        assert_eq!(recovered.hard_state.commit, next - 101);
    });
}

#[test]
fn a_log_goes_on_in_segments_of_another_size() {
    for segment_bytes in [4096, 16384] {
        with_dir(|dir| async move {
            let (mut wal, _) = open(&dir, 0).await;
            wal.append(None, &entries(1..=300, 1)).await.unwrap();
            wal.sync().await.unwrap();
            segments(&mut wal, &dir).await;
            drop(wal);
            let config = WalConfig { segment_bytes, ..CONFIG };
            let (mut wal, _) = Wal::open(dir.clone(), config, &meta(0, 1)).await.unwrap();
            let largest = [Entry { term: 1, index: 301, data: Bytes::from(vec![1; wal.max_entry_bytes()]) }];
            wal.append(None, &largest).await.unwrap();
            let mut next = 302;
            for _ in 0..4 {
                wal.append(None, &entries(next..=next + 99, 1)).await.unwrap();
                next += 100;
                wal.snapshot(&meta(next - 11, 1)).await.unwrap();
                wal.release(next - 20).await.unwrap();
                segments(&mut wal, &dir).await;
            }
            drop(wal);
            let (_, recovered) = open(&dir, next - 11).await;
            let first = recovered.entries[0].index;
            assert!(first <= next - 20, "{first}");
            assert_eq!(recovered.entries, entries(first..=next - 1, 1));
        });
    }
}

#[test]
fn nothing_is_released_that_no_snapshot_covers() {
    with_dir(|dir| async move {
        let (mut wal, _) = open(&dir, 0).await;
        wal.append(None, &entries(1..=300, 1)).await.unwrap();
        wal.release(300).await.unwrap();
        drop(wal);
        assert_eq!(open(&dir, 0).await.1.entries.len(), 300);
    });
}

#[test]
fn a_snapshot_far_ahead_replaces_the_log_also_when_it_learns_of_it_only_when_opened() {
    with_dir(|dir| async move {
        let (mut wal, _) = open(&dir, 0).await;
        wal.append(None, &entries(1..=5, 1)).await.unwrap();
        wal.sync().await.unwrap();
        drop(wal);
        let (mut wal, recovered) = open(&dir, 9).await;
        assert_eq!(recovered.entries, []);
        wal.append(None, &entries(10..=11, 1)).await.unwrap();
        wal.sync().await.unwrap();
        drop(wal);
        assert_eq!(open(&dir, 9).await.1.entries, entries(10..=11, 1));
        let missing = Wal::open(dir, CONFIG, &meta(3, 1)).await.unwrap_err();
        assert!(matches!(missing, WalError::SnapshotMissing { wanted: 9, found: 3, .. }), "{missing}");
    });
}

#[test]
fn an_entry_larger_than_a_segment_is_refused_and_the_largest_is_not() {
    with_dir(|dir| async move {
        let (mut wal, _) = open(&dir, 0).await;
        let sized = |index, size| [Entry { term: u64::MAX, index, data: Bytes::from(vec![1; size]) }];
        let limit = wal.max_entry_bytes();
        let refused = wal.append(None, &sized(1, limit + 1)).await.unwrap_err();
        assert!(matches!(refused, WalError::TooLarge { .. }), "{refused}");
        for index in 1..=3 {
            let hard_state = HardState { term: u64::MAX, vote: u64::MAX, commit: 0 };
            wal.append(Some(&hard_state), &sized(index, limit)).await.unwrap();
        }
        wal.sync().await.unwrap();
        drop(wal);
        assert_eq!(open(&dir, 0).await.1.entries.len(), 3);
    });
}

#[test]
fn a_damaged_log_is_refused_and_left_as_it_was() {
    with_dir(|dir| async move {
        let (mut wal, _) = open(&dir, 0).await;
        for index in 1..=3 {
            wal.append(None, &entries(index..=index, 1)).await.unwrap();
            wal.sync().await.unwrap();
        }
        segments(&mut wal, &dir).await;
        drop(wal);
        let file = dir.open_file("wal-0000000000000001.log").await.unwrap();
        file.write_at(120, vec![0xee]).await.unwrap();
        let before = (dir.list().await.unwrap(), file.read_at(0, 8192).await.unwrap());
        let error = Wal::open(dir.clone(), CONFIG, &meta(0, 1)).await.unwrap_err().to_string();
        assert!(error.contains("wal-0000000000000001.log, byte 64: a record that was synced is damaged"), "{error}");
        assert_eq!((dir.list().await.unwrap(), file.read_at(0, 8192).await.unwrap()), before);
    });
}

#[test]
#[should_panic(expected = "entry 3 would leave a gap after entry 1")]
fn a_gap_is_refused() {
    with_dir(|dir| async move {
        let (mut wal, _) = open(&dir, 0).await;
        wal.append(None, &entries(1..=1, 1)).await.unwrap();
        drop(wal.append(None, &entries(3..=3, 1)).await);
    });
}
