//! The bytes of a log, torn and damaged in every way, without a disk.

use super::record::{FORMAT, HEAD_BYTES, Head, Kind, Position, RECORD_HEAD_BYTES, encode, scan};
use super::replay::{Log, Replay};
use super::{Identity, WalError};
use bytes::{Bytes, BytesMut};
use expect_test::expect;
use proptest::collection::vec;
use proptest::prelude::*;
use raft::{Entry, HardState, SnapshotMeta};
use rt::random::Random;

const OURS: Identity = Identity { cluster: 7, member: 2 };
const SEGMENT_BYTES: u32 = 16 << 10;
const SECTOR: usize = 512;

fn head(sequence: u64) -> Head {
    Head { sequence, segment_bytes: SEGMENT_BYTES, identity: OURS }
}

fn entry(index: u64, term: u64, size: usize) -> Entry {
    // No zeros, so that what is lost shows.
    Entry { term, index, data: Bytes::from(vec![index as u8 | 1; size]) }
}

/// What a program does to a segment.
#[derive(Clone, Debug)]
enum Step {
    /// Appends entries of these sizes, with one write.
    Append(Vec<usize>),
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = vec(0_usize..900, 1..4).prop_map(Step::Append);
    vec(prop_oneof![3 => append, 1 => Just(Step::Sync)], 0..8)
}

/// A segment as a program wrote it.
struct Written {
    bytes: Vec<u8>,
    salt: u32,
    /// Where each record begins and ends, with what its writer knew to be synced.
    records: Vec<(usize, usize, usize)>,
    synced: usize,
    end: usize,
}

/// Does `steps` in a segment that held `before`.
fn write(sequence: u64, before: &[u8], steps: &[Step]) -> Written {
    let head = head(sequence);
    let mut position = Position::first(head.salt());
    let mut bytes = before.to_vec();
    bytes[..HEAD_BYTES].copy_from_slice(&head.encode());
    let mut records = Vec::new();
    for step in steps {
        match step {
            Step::Sync => position.synced = position.offset,
            Step::Append(sizes) => {
                let mut buffer = BytesMut::new();
                let start = position.offset as usize;
                for &size in sizes {
                    let offset = position.offset as usize;
                    let entry = entry(records.len() as u64 + 1, 1, size);
                    encode(&mut buffer, &mut position, Kind::Entry, &entry);
                    records.push((offset, position.offset as usize, position.synced as usize));
                }
                bytes[start..start + buffer.len()].copy_from_slice(&buffer);
            }
        }
    }
    let (synced, end) = (position.synced as usize, position.offset as usize);
    Written { bytes, salt: head.salt(), records, synced, end }
}

fn zeros() -> Vec<u8> {
    vec![0; SEGMENT_BYTES as usize]
}

/// A segment in the middle of its second use: full of records that were valid in the first.
fn recycled(steps: &[Step]) -> Vec<u8> {
    write(1, &zeros(), steps).bytes
}

proptest! {
    #[test]
    fn power_loss_costs_nothing_that_was_synced(
        steps in steps(),
        old in steps(),
        reused in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let before = if reused { recycled(&old) } else { zeros() };
        let written = write(2, &before, &steps);
        // Each sector with something unsynced in it holds what it did at the last sync, or all that was written.
        let synced = write(2, &before, &steps[..steps.iter().rposition(|s| matches!(s, Step::Sync)).map_or(0, |i| i + 1)]);
        let mut torn = written.bytes.clone();
        let mut random = Random::from_seed(seed);
        for sector in written.synced / SECTOR..written.end.div_ceil(SECTOR) {
            if random.chance(500) {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                torn[range.clone()].copy_from_slice(&synced.bytes[range]);
            }
        }
        let scan = scan(&torn, written.salt).expect("nothing that was synced is missing");
        let whole = scan.records.len();
        prop_assert!(scan.position.offset as usize >= written.synced);
        prop_assert!(scan.position.synced as usize <= written.synced);
        for (record, &(offset, ..)) in scan.records.iter().zip(&written.records) {
            prop_assert_eq!(record.offset, offset);
            prop_assert_eq!(&torn[record.payload.clone()], &written.bytes[record.payload.clone()]);
        }
        prop_assert!(whole <= written.records.len());

        // What is beyond is gone once it is zeroed, and what comes then is read back.
        let end = scan.position.offset as usize;
        if let Some(stray_end) = scan.stray_end {
            torn[end..stray_end].fill(0);
        }
        let mended = super::record::scan(&torn, written.salt).expect("nothing that was synced is missing");
        prop_assert_eq!(mended.records.len(), whole);
        prop_assert_eq!(mended.stray_end, None);
    }

    #[test]
    fn a_log_cut_anywhere_is_a_prefix(steps in steps(), cut in any::<prop::sample::Index>()) {
        let written = write(2, &zeros(), &steps);
        let mut bytes = written.bytes.clone();
        let cut = HEAD_BYTES + cut.index(SEGMENT_BYTES as usize - HEAD_BYTES);
        bytes[cut..].fill(0);
        let scan = scan(&bytes, written.salt).expect("nothing follows the cut");
        let whole = written.records.iter().filter(|&&(_, end, _)| bytes[..end] == written.bytes[..end]).count();
        prop_assert_eq!(scan.records.len(), whole);
    }

    #[test]
    fn a_damaged_record_that_a_later_one_knows_to_be_synced_is_never_passed_over(
        steps in steps(),
        which in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let written = write(2, &zeros(), &steps);
        prop_assume!(!written.records.is_empty());
        let i = which.index(written.records.len());
        let (offset, end, _) = written.records[i];
        // Bits of the padding at a record's end mean nothing.
        let len = u32::from_le_bytes(written.bytes[offset..offset + 4].try_into().unwrap()) as usize;
        let bit = bit.index((RECORD_HEAD_BYTES + len) * 8);
        let mut bytes = written.bytes.clone();
        bytes[offset + bit / 8] ^= 1 << (bit % 8);
        let known = written.records[i + 1..].iter().any(|&(_, _, synced)| synced >= end);
        match scan(&bytes, written.salt) {
            Err(at) => {
                prop_assert!(known);
                prop_assert_eq!(at, offset);
            }
            Ok(scan) => {
                prop_assert!(!known);
                prop_assert_eq!(scan.records.len(), i);
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_read_without_panic(bytes in vec(any::<u8>(), 0..300), salt in any::<u32>()) {
        drop(scan(&bytes, salt));
        drop(Head::decode("x", &bytes));
    }

    #[test]
    fn a_log_says_what_a_list_of_its_entries_would(
        changes in vec((0_u64..4, 1_u64..4, any::<bool>()), 0..60),
    ) {
        let mut log = Log::default();
        let mut model: Vec<(u64, u64)> = Vec::new();
        let mut replay = Replay::new("D", OURS);
        let mut buffer = BytesMut::new();
        let mut position = Position::first(head(1).salt());
        let mut term = 0;
        for (back, terms, note) in changes {
            // An entry some places back, of a later term: what was there is void. What a snapshot covers is never.
            let covered = log.snapshot.as_ref().map_or(0, |meta| meta.index);
            let index = (model.len() as u64).saturating_sub(back).max(covered) + 1;
            term += terms;
            model.truncate(index as usize - 1);
            model.push((index, term));
            encode(&mut buffer, &mut position, Kind::Entry, &entry(index, term, 1));
            if note {
                let meta = SnapshotMeta { index, term, voters: vec![1, 2, 3] };
                encode(&mut buffer, &mut position, Kind::Snapshot, &meta);
                log.snapshot = Some(meta);
            }
        }
        log.hard_state = HardState { term, vote: 3, commit: 0 };
        encode(&mut buffer, &mut position, Kind::HardState, &log.hard_state);
        log.entries = model.into_iter().map(|(index, term)| entry(index, term, 1)).collect();
        let mut bytes = zeros();
        bytes[..HEAD_BYTES].copy_from_slice(&head(1).encode());
        bytes[HEAD_BYTES..HEAD_BYTES + buffer.len()].copy_from_slice(&buffer);
        replay.segment(1, &bytes).expect("a good log");
        let replayed = replay.finish().expect("a good log");
        prop_assert_eq!(replayed.log, log);
        prop_assert!(replayed.older.is_empty());
    }
}

#[test]
fn the_format_is_frozen() {
    // A change here is a new version of the format, which this build must still read.
    assert_eq!(FORMAT, 1);
    let mut buffer = BytesMut::new();
    let mut position = Position::first(head(3).salt());
    encode(&mut buffer, &mut position, Kind::HardState, &HardState { term: 5, vote: 2, commit: 4 });
    position.synced = position.offset;
    encode(&mut buffer, &mut position, Kind::Entry, &Entry { term: 5, index: 9, data: Bytes::from_static(b"hi") });
    encode(&mut buffer, &mut position, Kind::Snapshot, &SnapshotMeta { index: 4, term: 3, voters: vec![1, 2] });
    encode(&mut buffer, &mut position, Kind::Link, &4_u64);
    let hex = |bytes: &[u8]| {
        let rows: Vec<String> =
            bytes.chunks(16).map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
        rows.join("\n")
    };
    expect![[r#"
        53454157414c0d0a0100000000400000
        03000000000000000700000000000000
        02000000000000000000000000000000
        000000000000000000000000942dc351"#]]
    .assert_eq(&hex(&head(3).encode()));
    expect![[r#"
        030000000100000000000000942dc351
        ef3224bb50dad46a0502040000000000
        05000000020000000000000050dad46a
        6a92b4fd771867940509026869000000
        05000000030000002000000077186794
        31fbe37abcbc9d880403020102000000
        010000000400000040000000bcbc9d88
        4ec4e7954a46021e0400000000000000"#]]
    .assert_eq(&hex(&buffer));
}

/// Segments given as steps: "e5" entry 5, "c3" hard state with commit 3, "s4" snapshot of 4, "|" link and next segment,
/// "|!" the same with a damaged link, "/" next segment without a link, "!" damages the record before. Every record was synced when the next was written.
fn replay(script: &str) -> Result<String, String> {
    let mut replay = Replay::new("D", OURS);
    let mut bytes = zeros();
    let mut sequence = 1;
    let mut position = Position::first(head(1).salt());
    let mut last = HEAD_BYTES;
    for step in script.split_whitespace().chain(["."]) {
        position.synced = position.offset;
        let (kind, number) = step.split_at(1);
        let number: u64 = number.parse().unwrap_or(0);
        let mut buffer = BytesMut::new();
        let at = position.offset as usize;
        match kind {
            "e" => encode(&mut buffer, &mut position, Kind::Entry, &entry(number, 1, 1)),
            "c" => encode(
                &mut buffer,
                &mut position,
                Kind::HardState,
                &HardState { commit: number, ..HardState::default() },
            ),
            "s" => encode(&mut buffer, &mut position, Kind::Snapshot, &meta(number)),
            "|" => encode(&mut buffer, &mut position, Kind::Link, &(sequence + 1)),
            "!" => bytes[last] ^= 1,
            _ => {}
        }
        bytes[at..at + buffer.len()].copy_from_slice(&buffer);
        last = if step == "!" { last } else { at };
        if step == "|!" {
            bytes[at] ^= 1;
        }
        if matches!(step, "|" | "|!" | "/" | ".") {
            bytes[..HEAD_BYTES].copy_from_slice(&head(sequence).encode());
            replay.segment(sequence, &bytes).map_err(|error| error.to_string())?;
            sequence += 1;
            position = Position::first(head(sequence).salt());
            bytes = zeros();
        }
    }
    let replayed = replay.finish().map_err(|error| error.to_string())?;
    let entries: Vec<_> = replayed.log.entries.iter().map(|entry| entry.index).collect();
    let tail = replayed.tail.map_or(0, |tail| tail.head.sequence);
    let prepared = replayed.prepared.map_or(0, |head| head.sequence);
    Ok(format!("{entries:?} tail {tail} prepared {prepared} older {}", replayed.older.len()))
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta { index, term: 1, voters: vec![] }
}

#[test]
fn segments_are_read_along_their_links() {
    assert_eq!(replay("e1 e2").unwrap(), "[1, 2] tail 1 prepared 0 older 0");
    assert_eq!(replay("e1 e2 | e3").unwrap(), "[1, 2, 3] tail 2 prepared 0 older 1");
    assert_eq!(replay("e1 e2 | e2 /").unwrap(), "[1, 2] tail 2 prepared 3 older 1");
    assert_eq!(replay("e1 /").unwrap(), "[1] tail 1 prepared 2 older 0");
    assert_eq!(replay("e1 |").unwrap(), "[1] tail 2 prepared 0 older 1");
}

#[test]
fn a_snapshot_that_the_entries_do_not_lead_up_to_replaces_them() {
    assert_eq!(replay("e1 e2 s2 e3").unwrap(), "[1, 2, 3] tail 1 prepared 0 older 0");
    assert_eq!(replay("e1 e2 s7 e8").unwrap(), "[8] tail 1 prepared 0 older 0");
    // One that is older than the one noted is no news.
    assert_eq!(replay("e1 s7 s3 e8").unwrap(), "[8] tail 1 prepared 0 older 0");
}

#[test]
fn what_is_missing_from_the_middle_is_an_error_that_names_the_place() {
    let says = |script, what: &str| {
        let error = replay(script).unwrap_err();
        assert!(error.starts_with(what), "{script}: {error}");
    };
    says("e1 ! e2", "D/wal-0000000000000001.log, byte 64: a record that was synced is damaged or missing. The log is");
    says("e1 / e2", "D/wal-0000000000000001.log, byte 96: the record that leads to the next segment is damaged or");
    says("e1 e3", "D/wal-0000000000000001.log, byte 96: entry 3 follows entry 1");
    says("e1 |! e2", "D/wal-0000000000000001.log, byte 96: the record that leads to the next segment");
    let mut replay = Replay::new("D", OURS);
    let segment = |sequence| {
        let mut bytes = zeros();
        bytes[..HEAD_BYTES].copy_from_slice(&head(sequence).encode());
        bytes
    };
    replay.segment(1, &segment(1)).unwrap();
    let error = replay.segment(3, &segment(3)).unwrap_err().to_string();
    assert!(error.starts_with("D/wal-0000000000000003.log, byte 0: the segment before it is missing"), "{error}");
}

#[test]
fn a_link_that_leads_nowhere_is_an_error() {
    let mut bytes = write(1, &zeros(), &[Step::Append(vec![1])]);
    let mut position = scan(&bytes.bytes, bytes.salt).unwrap().position;
    let mut buffer = BytesMut::new();
    encode(&mut buffer, &mut position, Kind::Link, &2_u64);
    bytes.bytes[bytes.end..bytes.end + buffer.len()].copy_from_slice(&buffer);
    let mut replay = Replay::new("D", OURS);
    replay.segment(1, &bytes.bytes).unwrap();
    let error = replay.finish().unwrap_err().to_string();
    assert!(error.contains("it leads to wal-0000000000000002.log, which is not there"), "{error}");
}

#[test]
fn another_format_or_owner_is_refused() {
    let mut bytes = write(1, &zeros(), &[]).bytes;
    bytes[8] = 2;
    let error = Replay::new("D", OURS).segment(1, &bytes).unwrap_err();
    assert!(matches!(error, WalError::Version { found: 2, known: 1, .. }), "{error}");
    let other = Identity { cluster: 7, member: 3 };
    let bytes = write(1, &zeros(), &[]).bytes;
    let error = Replay::new("D", other).segment(1, &bytes).unwrap_err();
    assert!(matches!(error, WalError::Foreign { found: OURS, .. }), "{error}");
    let error = Replay::new("D", OURS).segment(2, &bytes).unwrap_err();
    assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
}

#[test]
fn a_log_must_continue_the_newest_snapshot_and_hold_what_was_committed() {
    let log = |entries: std::ops::Range<u64>, noted: Option<u64>, commit| Log {
        hard_state: HardState { commit, ..HardState::default() },
        snapshot: noted.map(meta),
        entries: entries.map(|index| entry(index, 1, 1)).collect(),
    };
    let check = |mut log: Log, newest| match log.continue_from(&meta(newest), "D") {
        Ok(news) => Ok((news, log.entries.len(), log.last_index())),
        Err(WalError::SnapshotMissing { wanted, found, .. }) => Err((wanted, found)),
        Err(WalError::Corrupt { .. }) => Err((0, 0)),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(check(log(1..1, None, 0), 0), Ok((false, 0, 0)));
    assert_eq!(check(log(1..6, None, 5), 0), Ok((false, 5, 5)));
    assert_eq!(check(log(1..6, None, 5), 3), Ok((true, 5, 5)));
    assert_eq!(check(log(1..6, Some(3), 5), 3), Ok((false, 5, 5)));
    // A snapshot from the leader, which the log does not know yet.
    assert_eq!(check(log(1..6, Some(3), 5), 9), Ok((true, 0, 9)));
    assert_eq!(check(log(1..1, Some(9), 9), 9), Ok((false, 0, 9)));
    assert_eq!(check(log(1..1, Some(9), 9), 3), Err((9, 3)));
    assert_eq!(check(log(5..9, Some(6), 6), 3), Err((4, 3)));
    assert_eq!(check(log(5..9, Some(6), 6), 4), Ok((false, 4, 8)));
    assert_eq!(check(log(1..6, None, 6), 0), Err((0, 0)));
}
