//! What was seen, of which all but the newest is kept compressed while a simulation runs: that of the trial itself, or of
//! its twin.
//!
//! ```text
//! push -> open -- a million bytes --> postcard, LZ4 -> packs          when the simulation is over: all -> Vec<T>
//! ```

use record::{Observation, Record, Sight, Value, WatchEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Things that were seen, in the order in which they were.
#[derive(Debug)]
pub(crate) struct Archive<T> {
    /// Each the encoding of a list, compressed, behind its length.
    packs: Vec<Box<[u8]>>,
    open: Vec<T>,
    /// Of what is in `open`, roughly.
    open_bytes: usize,
}

/// What is large in a record: all that an observer archives.
#[derive(Debug, Default)]
pub struct Archives {
    pub(crate) observations: Archive<Observation>,
    pub(crate) sights: Archive<Sight>,
}

impl Archives {
    /// Takes it out of a record at which nobody looks for a while.
    pub fn of(record: &mut Record) -> Self {
        let mut archives = Self::default();
        std::mem::take(&mut record.observations).into_iter().for_each(|item| archives.observations.push(item));
        std::mem::take(&mut record.cluster.sights).into_iter().for_each(|item| archives.sights.push(item));
        archives
    }

    /// Puts it back, all in order of time.
    pub fn back_to(self, record: &mut Record) {
        record.cluster.sights = self.sights.all();
        record.observations = self.observations.all();
        // Exact times are told a moment later: the ends of processes.
        record.observations.sort_by_key(Observation::at_ns);
    }
}

/// What can be archived.
pub(crate) trait Archived: Serialize + DeserializeOwned {
    /// Bytes of the longest texts in it.
    fn text_bytes(&self) -> usize {
        0
    }

    /// Makes those that were packed together small again.
    fn settle(_some: &mut [Self]) {}
}

impl Archived for Observation {
    fn text_bytes(&self) -> usize {
        let Observation::Applied { events, .. } = self else { return 0 };
        let of = |event: &WatchEvent| if let WatchEvent::Put(kv) = event { kv.value.bytes() } else { 0 };
        events.iter().map(of).sum()
    }

    fn settle(some: &mut [Self]) {
        record::pack(some.iter_mut().flat_map(objects));
    }
}

impl Archived for Sight {}

impl<T> Default for Archive<T> {
    fn default() -> Self {
        Self { packs: Vec::new(), open: Vec::new(), open_bytes: 0 }
    }
}

/// So many bytes are packed together: what is left of them is so large still that an allocator does not put it among small
/// things that come and go.
const PACK_BYTES: usize = 1 << 20;

impl<T: Archived> Archive<T> {
    /// Adds one.
    pub(crate) fn push(&mut self, item: T) {
        self.open_bytes += size_of::<T>() + item.text_bytes();
        self.open.push(item);
        if self.open_bytes >= PACK_BYTES {
            let data = postcard::to_stdvec(&self.open).expect("plain data always has an encoding");
            self.packs.push(lz4_flex::block::compress_prepend_size(&data).into());
            self.open.clear();
            self.open_bytes = 0;
        }
    }

    /// All of them.
    pub(crate) fn all(self) -> Vec<T> {
        let mut all = Vec::new();
        for pack in self.packs {
            let data = lz4_flex::block::decompress_size_prepended(&pack).expect("it was compressed here");
            let mut some: Vec<T> = postcard::from_bytes(&data).expect("it was encoded here");
            T::settle(&mut some);
            all.append(&mut some);
        }
        all.extend(self.open);
        all
    }
}

/// The values of objects. Those that clients wrote are few, and looked at again and again.
fn objects(observation: &mut Observation) -> impl Iterator<Item = &mut Value> {
    let events = if let Observation::Applied { events, .. } = observation { &mut events[..] } else { &mut [] };
    events.iter_mut().filter_map(|event| match event {
        WatchEvent::Put(kv) if kv.key.starts_with('/') => Some(&mut kv.value),
        WatchEvent::Put(_) | WatchEvent::Delete { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::KeyValue;

    fn some() -> Vec<Observation> {
        let applied = |revision: i64, key: &str| {
            let value = format!("{{\"revision\": {revision}, \"text\": \"{}\"}}", "æ".repeat(1_000)).into();
            let (key, mod_revision) = (key.to_owned(), revision);
            let kv = KeyValue { key, value, create_revision: 1, mod_revision, version: 1, lease: 0 };
            let delete = WatchEvent::Delete { key: "/b".to_owned(), mod_revision };
            Observation::Applied { at_ns: 5, member: 1, revision, events: vec![WatchEvent::Put(kv), delete] }
        };
        let mut before: Vec<Observation> =
            (3..3_000).map(|revision| applied(revision, if revision % 2 == 0 { "/a" } else { "k/a" })).collect();
        before.push(Observation::Process { at_ns: 5, member: 0, up: true });
        before
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        let before = some();
        let mut archive = Archive::default();
        before.iter().for_each(|observation| archive.push(observation.clone()));
        assert!(archive.packs.len() > 2 && !archive.open.is_empty(), "{} packs", archive.packs.len());
        assert!(archive.all() == before);
    }

    #[test]
    fn a_record_gets_back_what_was_taken_out_of_it_again_and_again() {
        let trial = crate::trial(crate::scenario("store").unwrap(), 1);
        let agent = Sight::Agent { at_ns: 3, node: 1, up: false };
        let cluster = record::ClusterHistory { sights: vec![agent; 7], ..Default::default() };
        let before = Record { observations: some(), cluster, ..crate::empty_record(&trial) };
        let mut record = before.clone();
        for _ in 0..2 {
            let archives = Archives::of(&mut record);
            assert!(record.observations.is_empty() && record.cluster.sights.is_empty());
            assert!(archives.observations.packs.len() > 2, "what is packed counts too");
            archives.back_to(&mut record);
            assert!(record.observations == before.observations && record.cluster == before.cluster);
        }
    }
}
