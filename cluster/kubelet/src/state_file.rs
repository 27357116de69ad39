//! A small state that outlives the process: one file, replaced as a whole, durable when [`StateFile::write`] returns.
//!
//! ```text
//! write: NAME.tmp ──write, sync──▶ rename to NAME ──sync of the directory──▶ durable
//! first line: "seaworthy-state 1 <crc32c>", then the content
//! ```
//!
//! **Invariant:** after power loss the content is that of the last write that returned, or of the one under way
//! (`hollow` tests in tests/agent.rs).

use bytes::Bytes;
use mark::sometimes;
use rt::disk::Dir;
use std::io::{self, ErrorKind};

/// What the first line begins with: whose file it is and in which format.
const HEADER: &str = "seaworthy-state 1 ";
/// A node has 110 pods of a few kilobytes of records each; a larger file is something else.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A file that holds a state. One task at a time writes it.
pub struct StateFile {
    dir: Dir,
    name: String,
}

/// What was found when a state file was opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// There was no file: a new machine, or a new disk.
    Nothing,
    /// The content of the last write.
    Content(Vec<u8>),
    /// A file whose content is not what was written.
    Damaged,
}

impl StateFile {
    /// Opens the file `name` in the directory at `path`, and reads what it holds.
    ///
    /// # Errors
    /// Those of the disk. A damaged file is no error here: the caller knows what its loss means.
    pub async fn open(path: &str, name: &str) -> io::Result<(StateFile, Found)> {
        let dir = Dir::open(path).await?;
        let found = match dir.open_file(name).await {
            Ok(file) => {
                let bytes = file.read_at(0, MAX_BYTES).await?;
                match content(&bytes) {
                    Some(content) => Found::Content(content.to_vec()),
                    None => {
                        sometimes!("state file of the node agent damaged");
                        Found::Damaged
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
            Err(error) => return Err(error),
        };
        Ok((StateFile { dir, name: name.to_owned() }, found))
    }

    /// Replaces the content. Durable when it returns.
    ///
    /// # Errors
    /// Those of the disk; the file then holds the old content or the new one. Another write may be tried.
    pub async fn write(&self, content: &[u8]) -> io::Result<()> {
        let unfinished = format!("{}.tmp", self.name);
        // A new file each time: after a failed sync the old one could not be trusted.
        match self.dir.remove(&unfinished).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = self.dir.create(&unfinished).await?;
        let mut bytes = format!("{HEADER}{:08x}\n", crc32c::crc32c(content)).into_bytes();
        bytes.extend_from_slice(content);
        file.write_at(0, Bytes::from(bytes)).await?;
        file.sync_data().await?;
        self.dir.rename(&unfinished, &self.name).await?;
        self.dir.sync().await
    }
}

/// A state file that many tasks want written: whoever comes while a write is under way waits for the next one, which
/// serves all of them.
pub struct Saver {
    /// The file, and the version of the state in it.
    file: tokio::sync::Mutex<(StateFile, u64)>,
}

impl Saver {
    /// Of a file that holds version 0 of the state.
    pub fn new(file: StateFile) -> Saver {
        Saver { file: tokio::sync::Mutex::new((file, 0)) }
    }

    /// Returns when version `wanted` of the state or a later one is durable. `encode` gives the state as it is, and its
    /// version.
    ///
    /// # Errors
    /// Those of the disk: whether it is durable is not known then.
    pub async fn save(&self, wanted: u64, encode: impl FnOnce() -> (u64, Vec<u8>)) -> io::Result<()> {
        let mut file = self.file.lock().await;
        if file.1 >= wanted {
            return Ok(());
        }
        let (version, content) = encode();
        file.0.write(&content).await?;
        file.1 = version;
        Ok(())
    }
}

/// What follows the first line, if the first line fits it.
fn content(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let sum = u32::from_str_radix(line.strip_prefix(HEADER)?, 16).ok()?;
    let content = &bytes[end + 1..];
    (crc32c::crc32c(content) == sum).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_only_what_its_sum_fits() {
        let good = format!("{HEADER}{:08x}\nabc", crc32c::crc32c(b"abc"));
        assert_eq!(content(good.as_bytes()), Some(b"abc".as_slice()));
        assert_eq!(content(good.replace("abc", "abd").as_bytes()), None);
        assert_eq!(content(b""), None);
        assert_eq!(content(b"something else\n"), None);
    }
}
