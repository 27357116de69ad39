//! What watches told of last, decoded once for all informers of the process.
//!
//! Many informers are told the very same line: those of several roles in one process, and of many nodes in a trial or
//! under `seaworthy up`. Equal lines give equal events, so that whoever reads a line that somebody read a moment ago
//! takes the same object. What is kept is bounded by count and by size, whatever is watched.
//!
//! **Invariant:** an event is that of its own line, whatever was read before (`equal_lines_share_and_others_do_not`).

use crate::codec::Codec;
use crate::error::Error;
use crate::held::Erased;
use crate::watch::WatchEvent;
use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines kept at most: those of the second or so in which informers read what happened, in a cluster of some size.
const SLOTS: usize = 512;

/// The longest line kept: an EndpointSlice of a hundred endpoints, which every node reads, is half as long; what is larger
/// is rare, and a process should not hold many of them for nothing.
const LONGEST: usize = 64 << 10;

/// A line, and what it told.
struct Entry {
    codec: &'static Codec,
    line: Bytes,
    event: WatchEvent<Erased>,
}

/// Each line has one place, which it takes from whatever was there.
static RECENT: Mutex<Vec<Option<Entry>>> = Mutex::new(Vec::new());

/// What a line of a watch tells.
///
/// # Errors
/// As the codec's `event`.
pub(crate) fn event(codec: &'static Codec, line: &Bytes) -> Result<WatchEvent<Erased>, Error> {
    if line.len() > LONGEST {
        return (codec.event)(line);
    }
    let place = usize::try_from(crc32c::crc32c(line)).unwrap_or(0) % SLOTS;
    if let Some(Some(entry)) = recent().get(place)
        && std::ptr::eq(entry.codec, codec)
        && entry.line == line
    {
        return Ok(entry.event.clone());
    }
    let event = (codec.event)(line)?;
    // What cannot be read counts as deleted, which is to be said again each time.
    if matches!(event, WatchEvent::Added(_) | WatchEvent::Modified(_)) {
        let mut recent = recent();
        recent.resize_with(SLOTS, || None);
        // A copy: the line is a part of a buffer that may be much larger.
        let line = Bytes::copy_from_slice(line);
        let replaced = recent[place].replace(Entry { codec, line, event: event.clone() });
        drop(recent);
        drop(replaced);
    }
    Ok(event)
}

fn recent() -> MutexGuard<'static, Vec<Option<Entry>>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::held::typed;
    use api::core::v1::{ConfigMap, Secret};
    use std::sync::Arc;

    fn line(kind: &str, name: &str, version: u32) -> Bytes {
        format!(r#"{{"type":"{kind}","object":{{"metadata":{{"name":"{name}","resourceVersion":"{version}"}}}}}}"#)
            .into()
    }

    fn object(event: Result<WatchEvent<Erased>, Error>) -> Erased {
        match event.unwrap() {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => object,
            WatchEvent::Bookmark(_) => panic!("no object"),
        }
    }

    #[test]
    fn equal_lines_share_and_others_do_not() {
        let codec = codec::of::<ConfigMap>();
        let first = object(event(codec, &line("ADDED", "a", 1)));
        assert!(Arc::ptr_eq(&first, &object(event(codec, &line("ADDED", "a", 1)))));
        assert!(matches!(event(codec, &line("MODIFIED", "a", 1)).unwrap(), WatchEvent::Modified(_)));
        // Far more than there are places, so that some lines have the same one.
        for version in 1..4 * u32::try_from(SLOTS).unwrap() {
            for _ in 0..2 {
                let object = object(event(codec, &line("MODIFIED", "b", version)));
                assert_eq!(object.version(), version.to_string());
            }
        }
        let secret = object(event(codec::of::<Secret>(), &line("ADDED", "a", 1)));
        assert!(typed::<Secret>(&*secret).is_some(), "the same line of another kind is another object");
    }

    #[test]
    fn what_is_no_news_of_an_object_is_read_each_time() {
        let codec = codec::of::<ConfigMap>();
        let gone = || object(event(codec, &line("DELETED", "gone", 1)));
        assert!(!Arc::ptr_eq(&gone(), &gone()));
        assert!(event(codec, &Bytes::from_static(b"{")).is_err());
        assert!(event(codec, &Bytes::from_static(b"{")).is_err());
    }
}
