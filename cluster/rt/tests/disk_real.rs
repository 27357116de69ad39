//! The real disk: what the simulated one shows of it, as far as a test can see without cutting power.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use rt::disk::{Dir, File};
use std::io::{self, ErrorKind};

/// Does `work` with a fresh directory.
fn with<T, Fut>(work: impl FnOnce(Dir) -> Fut) -> T
where
    Fut: Future<Output = io::Result<T>>,
{
    let name = format!("{}/disk-{:016x}", env!("CARGO_TARGET_TMPDIR"), rt::random::stream("test").next_u64());
    let result = rt::task::block_on(async { work(Dir::open(&format!("{name}/a/b")).await?).await });
    std::fs::remove_dir_all(name).unwrap();
    result.unwrap()
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn reads_return_what_was_written() {
    with(|dir| async move {
        let file = dir.create("f").await?;
        file.write_at(3, "abc").await?;
        file.write_at(4, "X").await?;
        file.set_len(7).await?;
        assert_eq!(file.read_at(0, 100).await?, b"\0\0\0aXc\0");
        assert_eq!(file.read_at(5, 1).await?, b"c");
        assert_eq!(file.read_at(7, 1).await?, b"");
        file.sync_data().await?;
        dir.sync().await?;
        assert_eq!(dir.open_file("f").await?.len().await?, 7);
        Ok(())
    });
}

#[test]
fn allocated_space_is_zeros_and_what_was_there_stays() {
    with(|dir| async move {
        let file = dir.create("f").await?;
        file.write_at(0, "abc").await?;
        let len = (600 << 10) + 5;
        file.allocate(len).await?;
        let content = file.read_at(0, 1 << 20).await?;
        assert_eq!((content.len() as u64, &content[..3]), (len, &b"abc"[..]));
        assert!(content[3..].iter().all(|&byte| byte == 0));
        file.allocate(1).await?;
        assert_eq!(file.len().await?, len);
        Ok(())
    });
}

#[test]
fn names_are_plain_and_there_once() {
    with(|dir| async move {
        dir.create("f").await?;
        dir.sub("d").await?;
        dir.sub("d").await?;
        assert!(dir.exists("f").await? && dir.exists("d").await? && !dir.exists("g").await?);
        assert_eq!(kind(dir.create("f").await), Some(ErrorKind::AlreadyExists));
        assert_eq!(kind(dir.open_file("g").await), Some(ErrorKind::NotFound));
        assert_eq!(kind(dir.remove("g").await), Some(ErrorKind::NotFound));
        assert_eq!(kind(dir.sub("f").await), Some(ErrorKind::AlreadyExists));
        assert_eq!(kind(dir.create("../f").await), Some(ErrorKind::InvalidInput));
        assert_eq!(dir.list().await?, ["d", "f"]);
        dir.rename("f", "g").await?;
        dir.remove("g").await?;
        assert_eq!(dir.list().await?, ["d"]);
        Ok(())
    });
}

#[test]
fn a_removed_file_stays_for_those_who_have_it_open() {
    with(|dir| async move {
        let file: File = dir.create("f").await?;
        file.write_at(0, "abc").await?;
        dir.remove("f").await?;
        assert_eq!(file.clone().read_at(0, 9).await?, b"abc");
        Ok(())
    });
}

#[test]
fn a_lock_has_one_holder() {
    with(|dir| async move {
        let first = dir.lock("LOCK").await?;
        assert_eq!(kind(dir.lock("LOCK").await), Some(ErrorKind::WouldBlock));
        drop(first);
        drop(dir.lock("LOCK").await?);
        assert_eq!(dir.list().await?, ["LOCK"]);
        Ok(())
    });
}
