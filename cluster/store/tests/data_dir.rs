//! A member's directory on a real disk: whose it is, and that it is used once.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use rt::disk::Dir;
use std::io;
use store::data_dir::{DataDir, DataDirError};
use store::wal::Identity;

const OURS: Identity = Identity { cluster: 0xabc, member: 2 };
const OURS_TEXT: &str = "format 1\ncluster 0000000000000abc\nmember 2\nname s2x\n";

/// A path where nothing is, removed after `test`.
fn with_path<T>(test: impl FnOnce(&str) -> T) -> T {
    let path = format!("{}/data-{:016x}", env!("CARGO_TARGET_TMPDIR"), rt::random::stream("test").next_u64());
    let result = test(&path);
    std::fs::remove_dir_all(path).unwrap();
    result
}

async fn fill(path: &str, files: &[(&str, &str)]) -> io::Result<()> {
    let dir = Dir::open(path).await?;
    for (name, content) in files {
        dir.create(name).await?.write_at(0, content.as_bytes().to_vec()).await?;
    }
    Ok(())
}

async fn content(path: &str) -> io::Result<Vec<(String, String)>> {
    let dir = Dir::open(path).await?;
    let mut files = Vec::new();
    for name in dir.list().await? {
        let bytes = dir.open_file(&name).await?.read_at(0, 1 << 20).await?;
        files.push((name, String::from_utf8(bytes).unwrap()));
    }
    Ok(files)
}

/// What opening a directory with these files says, and what is in it afterwards.
fn open(files: &[(&str, &str)]) -> (Result<(), String>, Vec<(String, String)>) {
    with_path(|path| {
        rt::task::block_on(async {
            fill(path, files).await.unwrap();
            let opened = DataDir::open(path, OURS, "s2\nx").await;
            let result = opened.map(drop).map_err(|error| error.to_string().replace(path, "D"));
            (result, content(path).await.unwrap())
        })
    })
}

fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, content)| (name.to_string(), content.to_string())).collect()
}

#[test]
fn an_empty_directory_becomes_a_members() {
    for left in [&[][..], &[("LOCK", ""), ("VERSION.tmp", "form")]] {
        let (result, files) = open(left);
        assert_eq!(result, Ok(()));
        assert_eq!(files, owned(&[("LOCK", ""), ("VERSION", OURS_TEXT)]));
    }
    assert_eq!(open(&[("VERSION", OURS_TEXT), ("other", "")]).0, Ok(()));
}

#[test]
fn what_is_refused_is_left_as_it_was() {
    let cases: [(&[(&str, &str)], &str); 5] = [
        (
            &[("VERSION", "format 2\nwhatever\n")],
            "D has format 2, but this program knows only 1. Run the version that wrote it",
        ),
        (
            &[("VERSION", "format 1\ncluster 0000000000000abc\nmember 3\nname x\n")],
            "D belongs to member 3 of cluster 0000000000000abc, not to member 2 of cluster 0000000000000abc. Give this \
             member a directory of its own",
        ),
        (
            &[("diary.txt", "dear")],
            "D holds \"diary.txt\" and is no member's directory. Name an empty one, or one that does not exist yet",
        ),
        (
            &[("VERSION", "")],
            "D/VERSION is damaged: it has no line that begins with \"format\". Restore the directory from a copy, or \
             replace this member by a new one with an empty directory",
        ),
        (
            &[("VERSION", "format 1\ncluster x\nmember 3\n")],
            "D/VERSION is damaged: what follows \"cluster\" is no number. Restore the directory from a copy, or replace \
             this member by a new one with an empty directory",
        ),
    ];
    for (files, says) in cases {
        let (result, left) = open(files);
        assert_eq!(result, Err(says.to_owned()));
        assert_eq!(left, owned(files));
    }
}

#[test]
fn a_directory_in_use_is_refused_until_it_is_closed() {
    with_path(|path| {
        rt::task::block_on(async {
            let first = DataDir::open(path, OURS, "s2").await.unwrap();
            let second = DataDir::open(path, OURS, "s2").await;
            assert!(matches!(second, Err(DataDirError::InUse { .. })), "{second:?}");
            drop(first);
            DataDir::open(path, OURS, "s2").await.unwrap();
        });
    });
}
