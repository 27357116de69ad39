//! Snapshot files on a real disk: what is loaded is what was saved, or an error.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use bytes::Bytes;
use raft::SnapshotMeta;
use rt::disk::Dir;
use store::snapshot_file::{SnapshotDir, SnapshotError};

/// Does `test` in an empty directory.
fn with_dir<Fut: Future<Output = ()>>(test: impl FnOnce(Dir) -> Fut) {
    let path = format!("{}/snap-{:016x}", env!("CARGO_TARGET_TMPDIR"), rt::random::stream("test").next_u64());
    rt::task::block_on(async { test(Dir::open(&path).await.unwrap()).await });
    std::fs::remove_dir_all(path).unwrap();
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta { index, term: 7, voters: vec![1, 2, 3] }
}

fn data(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// The same in pieces of all sizes.
fn pieces(len: usize) -> Vec<Bytes> {
    let mut rest = data(len);
    (0..).map_while(|i| (!rest.is_empty()).then(|| rest.split_to((i * 10_007 % 70_000).min(rest.len())))).collect()
}

#[test]
fn what_was_saved_is_loaded_whatever_its_size() {
    with_dir(|dir| async move {
        let snapshots = SnapshotDir::open(dir).await.unwrap();
        assert_eq!(snapshots.load_newest().await.unwrap(), None);
        let block = 64 << 10;
        for (i, len) in [0, 1, block - 1, block, block + 1, 16 * block, 40 * block + 5].into_iter().enumerate() {
            let meta = meta(i as u64 + 1);
            snapshots.save(&meta, len, pieces(len)).await.unwrap();
            let (loaded, pieces) = snapshots.load_newest().await.unwrap().unwrap();
            assert_eq!((loaded, pieces.concat()), (meta, data(len).to_vec()));
        }
    });
}

#[test]
fn the_newest_is_kept_alone() {
    with_dir(|dir| async move {
        let snapshots = SnapshotDir::open(dir.clone()).await.unwrap();
        for index in [3, 5, 4] {
            snapshots.save(&meta(index), 10, pieces(10)).await.unwrap();
        }
        assert_eq!(dir.list().await.unwrap(), ["snap-0000000000000005.db"]);
        dir.create("snap-next-1.tmp").await.unwrap();
        let snapshots = SnapshotDir::open(dir.clone()).await.unwrap();
        assert_eq!(dir.list().await.unwrap(), ["snap-0000000000000005.db"]);
        assert_eq!(snapshots.load_newest().await.unwrap().unwrap().0.index, 5);
    });
}

#[test]
fn each_flipped_bit_and_each_cut_is_noticed() {
    with_dir(|dir| async move {
        let snapshots = SnapshotDir::open(dir.clone()).await.unwrap();
        snapshots.save(&meta(1), 20, pieces(20)).await.unwrap();
        let file = dir.open_file("snap-0000000000000001.db").await.unwrap();
        let good = file.read_at(0, 1 << 20).await.unwrap();
        for (at, byte) in good.iter().enumerate() {
            for bit in [0, 7] {
                file.write_at(at as u64, vec![byte ^ 1 << bit]).await.unwrap();
                let error = snapshots.load_newest().await.unwrap_err();
                let is_version = (8..12).contains(&at);
                assert_eq!(matches!(error, SnapshotError::Version { .. }), is_version, "{at}: {error}");
                assert_eq!(matches!(error, SnapshotError::Corrupt { .. }), !is_version, "{at}: {error}");
            }
            file.write_at(at as u64, vec![*byte]).await.unwrap();
        }
        for len in (0..good.len() as u64).rev() {
            file.set_len(len).await.unwrap();
            assert!(snapshots.load_newest().await.is_err(), "cut to {len}");
        }
        file.write_at(0, good).await.unwrap();
        dir.rename("snap-0000000000000001.db", "snap-0000000000000002.db").await.unwrap();
        let error = snapshots.load_newest().await.unwrap_err().to_string();
        assert!(error.contains("snap-0000000000000002.db: its name is not that of the snapshot in it"), "{error}");
    });
}
