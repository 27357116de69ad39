//! Small files that outlive the process: a token, an authority, a kubeconfig. Each is replaced as a whole.
//!
//! Like everything that `rt` writes, they are for their owner alone (mode 0600).

use bytes::Bytes;
use rt::disk::Dir;
use std::io::{self, ErrorKind};

/// The largest of them is a kubeconfig, a few kilobytes; what is larger is something else.
const MAX_BYTES: usize = 1 << 20;

/// The text of a file; `None` if there is none.
///
/// # Errors
/// Those of the disk, and `InvalidData` for what is no text.
pub(crate) async fn read(dir: &Dir, name: &str) -> io::Result<Option<String>> {
    let file = match dir.open_file(name).await {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.read_at(0, MAX_BYTES).await?;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no text"))?;
    Ok(Some(text))
}

/// Replaces a file, or makes it. Durable when this returns; before, there is the old one.
///
/// # Errors
/// Those of the disk.
pub(crate) async fn replace(dir: &Dir, name: &str, text: &str) -> io::Result<()> {
    let unfinished = format!(".{name}.tmp");
    match dir.remove(&unfinished).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = dir.create(&unfinished).await?;
    file.write_at(0, Bytes::copy_from_slice(text.as_bytes())).await?;
    file.sync_data().await?;
    dir.rename(&unfinished, name).await?;
    dir.sync().await
}

/// A path's directory and its last part.
pub(crate) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((dir, name)) => (dir, name),
        None => (".", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_directory_and_a_name() {
        assert_eq!(split("/a/b/c"), ("/a/b", "c"));
        assert_eq!(split("/c"), ("/", "c"));
        assert_eq!(split("c"), (".", "c"));
    }
}
