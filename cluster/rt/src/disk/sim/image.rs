//! One simulated file: what the page cache shows, what the platter holds, and what is on its way between them. Pure.
//!
//! ```text
//! write, set_len ─> cached, and pending ──synced(point)───────> durable
//!                                       └─sync_failed(point)──> forgotten: cached alone shows it
//! power_loss: a random part of pending reaches durable, then cached = durable
//! ```
//!
//! Content is kept in pages, of which an absent one is zeros, so that a large file of zeros costs next to nothing and a
//! sync moves only what was written. What cache and platter have in common is in memory once.

use super::Lies;
use crate::random::Random;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// What a disk writes as a whole: power loss never tears within one.
pub(super) const SECTOR: u64 = 512;
/// Unit of storage in memory: small enough that a short record does not cost much, large enough that a file has few. With
/// what an [`Arc`] puts before it, it is as large as what allocators like to hand out.
const PAGE: u64 = 4096 - 16;
/// A write from this size on is a snapshot's: hardly ever read, never changed, and several times as small once compressed.
const LARGE_WRITE: usize = 64 << 10;
/// So many bytes are compressed, and unpacked, together.
const PACK: u64 = PACK_PAGES as u64 * PAGE;
const PACK_PAGES: usize = 16;

/// Up to which change a sync that began at some time covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyncPoint(u64);

/// A file's content in the cache and on the platter.
#[derive(Default)]
pub(super) struct FileImage {
    cached: Pages,
    durable: Pages,
    /// In order of their numbers.
    pending: VecDeque<Pending>,
    /// Number of the next change.
    next: u64,
    /// Whether a cached name leads here, so that the size counts as used space.
    pub(super) linked: bool,
}

struct Pending {
    number: u64,
    change: Change,
    /// The file's size after the change, when it is another than before.
    new_size: Option<u64>,
}

enum Change {
    Write { offset: u64, data: Data },
    SetLen,
}

/// What was written.
enum Data {
    Plain(Bytes),
    /// Cut where files have multiples of [`PACK`], so that each page is in one of them.
    Packed {
        packs: Vec<Arc<Pack>>,
        len: usize,
    },
}

struct Pack {
    compressed: Box<[u8]>,
    len: usize,
}

impl Pack {
    fn of(bytes: &[u8]) -> Pack {
        Pack { compressed: lz4_flex::block::compress(bytes).into(), len: bytes.len() }
    }

    fn unpack(&self) -> Vec<u8> {
        lz4_flex::block::decompress(&self.compressed, self.len).expect("it was compressed here")
    }
}

impl Data {
    /// To be written at `offset`.
    fn of(offset: u64, data: Bytes) -> Data {
        if data.len() < LARGE_WRITE {
            return Data::Plain(data);
        }
        let packs = pieces(PACK, offset, data.len());
        let packs = packs.map(|(_, within, at)| Arc::new(Pack::of(&data[at..at + within.len()])));
        Data::Packed { packs: packs.collect(), len: data.len() }
    }

    fn len(&self) -> usize {
        match self {
            Data::Plain(data) => data.len(),
            Data::Packed { len, .. } => *len,
        }
    }

    fn unpacked(&self) -> Bytes {
        match self {
            Data::Plain(data) => data.clone(),
            Data::Packed { packs, .. } => packs.iter().flat_map(|pack| pack.unpack()).collect(),
        }
    }
}

impl FileImage {
    /// An empty file that a name leads to.
    pub(super) fn linked() -> FileImage {
        FileImage { linked: true, ..FileImage::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.cached.len
    }

    /// Up to `len` bytes from `offset` on; fewer where the file ends.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        self.cached.read(offset, len)
    }

    pub(super) fn write(&mut self, offset: u64, data: Bytes) {
        let before = self.cached.len;
        let data = Data::of(offset, data);
        self.cached.write_data(offset, &data);
        self.note(Change::Write { offset, data }, before);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let before = self.cached.len;
        self.cached.set_len(len);
        if len != before {
            self.note(Change::SetLen, before);
        }
    }

    fn note(&mut self, change: Change, size_before: u64) {
        let size = self.cached.len;
        self.pending.push_back(Pending { number: self.next, change, new_size: (size != size_before).then_some(size) });
        self.next += 1;
    }

    /// What a sync that begins now covers.
    pub(super) fn sync_point(&self) -> SyncPoint {
        SyncPoint(self.next)
    }

    /// A sync that covers `point` succeeded.
    pub(super) fn synced(&mut self, point: SyncPoint, lies: &Lies) {
        let size_before = self.durable.len;
        let covered = self.covered(point);
        for pending in self.pending.drain(..covered) {
            match &pending.change {
                _ if lies.synced_is_lost => {}
                Change::Write { offset, data } => {
                    self.durable.write_data(*offset, data);
                    self.durable.pack_completed(*offset, data.len(), &mut self.cached);
                }
                Change::SetLen => self.durable.set_len(pending.new_size.unwrap_or(size_before)),
            }
        }
        if lies.size_is_not_synced {
            self.durable.set_len(size_before);
        }
    }

    /// A sync that covers `point` failed: what it covers is never written, since the cache holds it to be clean now.
    pub(super) fn sync_failed(&mut self, point: SyncPoint, lies: &Lies) {
        if !lies.failed_sync_is_made_up_for {
            let covered = self.covered(point);
            self.pending.drain(..covered);
        }
        if lies.failed_sync_is_hidden {
            self.cached = self.durable.clone();
        }
    }

    /// How many of the pending changes a sync that began at `point` covers.
    fn covered(&self, point: SyncPoint) -> usize {
        self.pending.partition_point(|p| p.number < point.0)
    }

    /// The cache is gone; of what was not synced, a part drawn from `random` had reached the platter.
    pub(super) fn power_loss(&mut self, random: &mut Random, lies: &Lies) {
        if lies.unsynced_survives {
            self.durable = self.cached.clone();
        }
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() && !lies.unsynced_survives {
            let size_before = self.durable.len;
            let survival = Survival::draw(&pending, random, lies);
            for (i, change) in pending.iter().enumerate() {
                survival.apply(i, change, &mut self.durable);
            }
            self.durable.set_len(survival.size.map_or(size_before, |(_, size)| size));
        }
        self.cached = self.durable.clone();
    }
}

/// Which of the pending changes had reached the platter when the power went.
///
/// A sector is written as a whole, with all that the cache holds of it, so what is found in it is its content after one
/// of the writes that touched it, or none. Sectors are independent of each other: writes tear and change their order.
struct Survival {
    /// The last write that reached each sector, by its place among the pending changes.
    sectors: BTreeMap<u64, usize>,
    /// The last change of size that survived: its place and the size.
    size: Option<(usize, u64)>,
    tear_sectors: bool,
}

impl Survival {
    fn draw(pending: &VecDeque<Pending>, random: &mut Random, lies: &Lies) -> Survival {
        let keeps_order = lies.writes_keep_their_order.then(|| random.below(pending.len() as u64 + 1) as usize);
        let mut survival = Survival { sectors: BTreeMap::new(), size: None, tear_sectors: lies.sectors_tear };
        // From the last to the first: the first survivor met is what is found.
        for (i, p) in pending.iter().enumerate().rev() {
            let whole = match keeps_order {
                Some(end) => Some(i < end),
                None => lies.writes_never_tear.then(|| random.chance(500)),
            };
            let mut survives = || whole.unwrap_or_else(|| random.chance(500));
            if let Some(size) = p.new_size
                && survival.size.is_none()
                && survives()
            {
                survival.size = Some((i, size));
            }
            for sector in p.sectors() {
                if !survival.sectors.contains_key(&sector) && survives() {
                    survival.sectors.insert(sector, i);
                }
            }
        }
        survival
    }

    fn apply(&self, i: usize, pending: &Pending, durable: &mut Pages) {
        match &pending.change {
            Change::SetLen => {
                if let (Some((last, _)), Some(size)) = (self.size, pending.new_size)
                    && i <= last
                {
                    durable.set_len(size);
                }
            }
            Change::Write { offset, data } => {
                let data = data.unpacked();
                for sector in pending.sectors() {
                    if self.sectors.get(&sector).is_some_and(|&last| i <= last) {
                        let from = offset.max(&(sector * SECTOR)) - offset;
                        let mut to = (data.len() as u64).min((sector + 1) * SECTOR - offset);
                        if self.tear_sectors {
                            to = from + (to - from) / 2;
                        }
                        durable.write(offset + from, &data[from as usize..to as usize]);
                    }
                }
            }
        }
    }
}

impl Pending {
    /// The sectors that a write touches.
    fn sectors(&self) -> Range<u64> {
        match &self.change {
            Change::Write { offset, data } => offset / SECTOR..(offset + data.len() as u64).div_ceil(SECTOR),
            Change::SetLen => 0..0,
        }
    }
}

/// Bytes in pages. Beyond `len` all is zeros.
#[derive(Clone, Default)]
struct Pages {
    pages: Vec<Page>,
    len: u64,
}

/// [`PAGE`] bytes.
#[derive(Clone, Default)]
enum Page {
    #[default]
    Zeros,
    /// Copied before it is changed, if others have it too.
    Plain(Arc<[u8]>),
    /// From this byte of it on.
    Packed(Arc<Pack>, usize),
}

impl Pages {
    /// The bytes of a page, to be changed. A log that is written over an older one goes on to the next pages of a pack, so
    /// that all of them are unpacked at once.
    fn bytes_mut(&mut self, page: usize) -> &mut [u8] {
        match &self.pages[page] {
            Page::Plain(_) => {}
            Page::Zeros => self.pages[page] = Page::Plain([0; PAGE as usize].into()),
            Page::Packed(pack, _) => {
                let (pack, bytes) = (Arc::clone(pack), pack.unpack());
                let (from, to) = (page.saturating_sub(PACK_PAGES), self.pages.len().min(page + PACK_PAGES));
                for page in &mut self.pages[from..to] {
                    if let Page::Packed(its, from) = page
                        && Arc::ptr_eq(its, &pack)
                    {
                        *page = Page::Plain(bytes[*from..*from + PAGE as usize].into());
                    }
                }
            }
        }
        let Page::Plain(bytes) = &mut self.pages[page] else { unreachable!("it was made plain") };
        Arc::make_mut(bytes)
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(len as u64));
        let mut data = vec![0; end.saturating_sub(offset) as usize];
        let mut last: Option<(&Arc<Pack>, Vec<u8>)> = None;
        for (page, within, at) in pieces(PAGE, offset, data.len()) {
            let target = &mut data[at..at + within.len()];
            match self.pages.get(page) {
                None | Some(Page::Zeros) => {}
                Some(Page::Plain(bytes)) => target.copy_from_slice(&bytes[within]),
                Some(Page::Packed(pack, from)) => {
                    let (_, bytes) = match last.take() {
                        Some(last) if Arc::ptr_eq(last.0, pack) => last,
                        _ => (pack, pack.unpack()),
                    };
                    target.copy_from_slice(&bytes[from + within.start..from + within.end]);
                    last = Some((pack, bytes));
                }
            }
        }
        data
    }

    fn write_data(&mut self, offset: u64, data: &Data) {
        let Data::Packed { packs, len } = data else { return self.write(offset, &data.unpacked()) };
        self.grow(offset + *len as u64);
        for ((_, _, at), pack) in pieces(PACK, offset, *len).zip(packs) {
            let offset = offset + at as u64;
            let mut unpacked = None;
            for (page, within, at) in pieces(PAGE, offset, pack.len) {
                if within.len() == PAGE as usize {
                    self.pages[page] = Page::Packed(Arc::clone(pack), at);
                } else {
                    let bytes = unpacked.get_or_insert_with(|| pack.unpack());
                    self.bytes_mut(page)[within.clone()].copy_from_slice(&bytes[at..at + within.len()]);
                }
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.grow(offset + data.len() as u64);
        for (page, within, at) in pieces(PAGE, offset, data.len()) {
            let source = &data[at..at + within.len()];
            // Zeros over zeros: an allocated file stays cheap.
            if !matches!(&self.pages[page], Page::Zeros) || source.iter().any(|&b| b != 0) {
                self.bytes_mut(page)[within].copy_from_slice(source);
            }
        }
    }

    fn grow(&mut self, len: u64) {
        if len > self.len {
            self.set_len(len);
        }
    }

    /// Of the stretches of [`PACK`] bytes to whose end a write of `len` bytes at `offset` went, those that are the same in
    /// `other` are from now on in memory once, compressed. The others will change soon.
    fn pack_completed(&mut self, offset: u64, len: usize, other: &mut Pages) {
        for (stretch, within, _) in pieces(PACK, offset, len) {
            if within.end < PACK as usize {
                continue;
            }
            let pages = stretch * PACK_PAGES..(stretch + 1) * PACK_PAGES;
            let (Some(here), Some(there)) = (self.pages.get_mut(pages.clone()), other.pages.get_mut(pages)) else {
                continue;
            };
            let mut bytes = Vec::new();
            for pair in here.iter().zip(&*there) {
                if let (Page::Plain(here), Page::Plain(there)) = pair
                    && here == there
                {
                    bytes.extend_from_slice(here);
                }
            }
            if bytes.len() == PACK as usize {
                let pack = Arc::new(Pack::of(&bytes));
                for (at, (here, there)) in here.iter_mut().zip(there).enumerate() {
                    *here = Page::Packed(Arc::clone(&pack), at * PAGE as usize);
                    *there = here.clone();
                }
            }
        }
    }

    fn set_len(&mut self, len: u64) {
        self.pages.resize_with(len.div_ceil(PAGE) as usize, Page::default);
        let within = (len % PAGE) as usize;
        if len < self.len
            && within > 0
            && let Some(Page::Plain(_) | Page::Packed(..)) = self.pages.last()
        {
            self.bytes_mut(self.pages.len() - 1)[within..].fill(0);
        }
        self.len = len;
    }
}

/// Cuts `offset..offset + len` at the borders of pages of this size: (page, range within it, place within the whole).
fn pieces(size: u64, offset: u64, len: usize) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        (at < len).then(|| {
            let position = offset + at as u64;
            let within = (position % size) as usize;
            let n = (len - at).min(size as usize - within);
            let piece = ((position / size) as usize, within..within + n, at);
            at += n;
            piece
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HONEST: Lies = Lies::NONE;

    fn image(steps: &[&str]) -> FileImage {
        let mut image = FileImage::default();
        for step in steps {
            apply(&mut image, step);
        }
        image
    }

    /// "aaa@2" writes, "=5" sets the size, "s" syncs, "f" fails to.
    fn apply(image: &mut FileImage, step: &str) {
        let point = image.sync_point();
        if step == "s" {
            image.synced(point, &HONEST);
        } else if step == "f" {
            image.sync_failed(point, &HONEST);
        } else if let Some(len) = step.strip_prefix('=') {
            image.set_len(len.parse().unwrap());
        } else {
            let (data, offset) = step.split_once('@').unwrap();
            image.write(offset.parse().unwrap(), Bytes::copy_from_slice(data.as_bytes()));
        }
    }

    fn text(image: &FileImage) -> String {
        String::from_utf8(image.read(0, 1 << 20)).unwrap().replace('\0', ".")
    }

    /// All that power loss can leave of `steps`, over many draws.
    fn after_power_loss(steps: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for seed in 0..100 {
            let mut image = image(steps);
            image.power_loss(&mut Random::from_seed(seed), &HONEST);
            found.push(text(&image));
        }
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn reads_see_every_write_and_zeros_between() {
        assert_eq!(text(&image(&["ab@3", "c@4"])), "...ac");
        assert_eq!(text(&image(&["abcdef@0", "=3", "=5"])), "abc..");
        assert_eq!(image(&["ab@5000"]).read(4998, 10), [0, 0, b'a', b'b']);
        assert_eq!(image(&["ab@0"]).read(7, 10), Vec::<u8>::new());
    }

    #[test]
    fn power_loss_leaves_what_was_synced_and_perhaps_more() {
        assert_eq!(after_power_loss(&["abc@0", "s"]), ["abc"]);
        assert_eq!(after_power_loss(&["abc@0", "s", "X@1"]), ["aXc", "abc"]);
        assert_eq!(after_power_loss(&["abc@0", "s", "=1"]), ["a", "abc"]);
        assert_eq!(after_power_loss(&["abc@0", "f", "X@1", "s"]), [".X"]);
    }

    #[test]
    fn a_sector_is_found_as_it_was_after_some_write() {
        assert_eq!(after_power_loss(&["ab@0", "s", "XX@0", "Y@1"]), ["XX", "XY", "ab"]);
    }

    #[test]
    fn size_and_content_survive_apart() {
        assert_eq!(after_power_loss(&["a@0", "s", "b@1"]), ["a", "a.", "ab"]);
        assert_eq!(after_power_loss(&["abc@0", "s", "=1", "=3"]), ["a", "a..", "abc"]);
    }

    #[test]
    fn what_cache_and_platter_have_in_common_is_in_memory_once_and_compressed() {
        let shared = |steps: &[&str]| {
            let image = image(steps);
            let both = image.cached.pages.iter().zip(&image.durable.pages);
            let once = both.filter(|(cached, durable)| match (cached, durable) {
                (Page::Packed(cached, _), Page::Packed(durable, _)) => Arc::ptr_eq(cached, durable),
                _ => false,
            });
            once.count()
        };
        let (half, whole) = (PACK as usize / 2, PACK_PAGES);
        let (first, second) = (format!("{}@0", "x".repeat(half)), format!("{}@{half}", "x".repeat(half + 1)));
        assert_eq!(shared(&[&first, "s"]), 0, "it is not complete");
        assert_eq!(shared(&[&first, "s", &second, "s"]), whole);
        assert_eq!(shared(&[&first, "f", &second, "s"]), 0, "the platter never got the first");
        assert_eq!(shared(&[&first, "s", &second, "s", "Z@1"]), 0, "its neighbours are likely to change next");
        let large = "y".repeat(LARGE_WRITE);
        assert_eq!(shared(&[&format!("{large}@0"), "s"]), whole);
        assert_eq!(shared(&[&format!("{large}@100"), "s"]), whole - 1, "the first page has only a part of it");
    }

    #[test]
    fn large_and_small_writes_read_as_from_a_plain_list_of_bytes() {
        let mut random = Random::from_seed(1);
        let (mut image, mut plain) = (FileImage::default(), Vec::<u8>::new());
        for _ in 0..300 {
            let (offset, len) = (random.below(300_000) as usize, random.below(200_000) as usize);
            match random.below(8) {
                0 => {
                    image.set_len(offset as u64);
                    plain.resize(offset, 0);
                }
                1 => apply(&mut image, "s"),
                2 => apply(&mut image, "f"),
                kind => {
                    let (offset, len) = match kind {
                        3 | 4 => (offset, len),
                        5 => (offset, len / 100),
                        // As a log grows.
                        _ => (plain.len(), len / 10),
                    };
                    let data: Vec<u8> = (0..len).map(|at| (at / 7 + offset) as u8).collect();
                    plain.resize(plain.len().max(offset + len), 0);
                    plain[offset..offset + len].copy_from_slice(&data);
                    image.write(offset as u64, data.into());
                }
            }
            let from = offset.min(plain.len());
            assert!(image.read(offset as u64, len) == plain[from..(from + len).min(plain.len())], "{len} at {offset}");
            assert_eq!(image.len(), plain.len() as u64);
        }
    }

    #[test]
    fn what_is_in_memory_once_changes_in_one_place_alone() {
        let (page, large) = ("x".repeat(PAGE as usize), "y".repeat(LARGE_WRITE));
        for begin in [page, large] {
            let written = format!("{begin}@0");
            for then in ["Z@1", "=9", "=0"] {
                let lost = after_power_loss(&[&written, "s", then]);
                assert!(lost.contains(&begin), "{then}: what was synced is gone");
                assert_eq!(
                    text(&image(&[&written, "s", then])).len(),
                    match then {
                        "=9" => 9,
                        "=0" => 0,
                        _ => begin.len(),
                    }
                );
            }
            assert!(text(&image(&[&written, "s", "Z@1"])).starts_with(&format!("{}Z{}", &begin[..1], &begin[..1])));
        }
    }

    #[test]
    fn what_comes_after_the_beginning_of_a_sync_is_not_covered_by_it() {
        let mut image = image(&["a@0"]);
        let point = image.sync_point();
        apply(&mut image, "b@0");
        image.synced(point, &HONEST);
        let pending: Vec<_> = image.pending.iter().map(|p| p.number).collect();
        assert_eq!(pending, [1]);
    }
}
