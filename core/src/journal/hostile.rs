//! Recovery from any bytes at all: the body of a fuzz target.

use std::collections::BTreeSet;

use super::findings::{Damage, Record, Recovered, RecoveryError, Start, Visitor};
use super::format::{BLOCK_BYTES, COMMIT_HEADER, CommitHeader, RECORD_HEADER, RecordHeader, Sum};
use super::inspect::inspect;
use super::position::Position;
use super::recovery::recover;
use super::slots::{MemorySlots, Slots};
use super::writer::{Geometry, Writer};
use super::{RecordKind, checkpoint};
use crate::ids::{Lsn, TopicPartition, Uuid};

const FILE_BYTES: u64 = 4 * BLOCK_BYTES;
const FILES_MAX: usize = 16;
const JOURNAL: Uuid = Uuid(*b"hostile journal ");
const GEOMETRY: Geometry = Geometry { file_bytes: FILE_BYTES, max_files: 1, reserve_bytes: 0 };
/// Far from the small numbers that corpora and tests count from: a damaged header may bear one of those unseen.
const DRAWN: u64 = u64::from_be_bytes(*b"drawn at");

/// Counts, and remembers where the records lay.
#[derive(Default)]
struct Tally {
    records: Vec<Lsn>,
    damages: u64,
}

impl Visitor for Tally {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        self.records.push(record.lsn);
        Ok(())
    }

    fn damaged(&mut self, _damage: &Damage) -> Result<(), String> {
        self.damages += 1;
        Ok(())
    }
}

/// Takes `bytes` for the files of a journal, and for checkpoints, as they are and again with their checksums mended so
/// that what lies behind these is reached too.
///
/// # Panics
/// If recovery breaks a promise: what it accepts it must accept again after the next incarnation has opened.
pub fn recover_bytes(bytes: &[u8]) {
    let mut slots = MemorySlots(bytes.chunks(FILE_BYTES as usize).take(FILES_MAX).map(<[u8]>::to_vec).collect());
    recover_slots(&slots);
    for file in &mut slots.0 {
        file.resize(FILE_BYTES as usize, 0);
        mend(file);
    }
    recover_slots(&slots);
}

fn recover_slots(slots: &MemorySlots) {
    for slot in 0..slots.slots() {
        assert!(inspect(slots, slot).map(|seen| seen.to_string().len()).all(|length| length > 0));
    }
    if let Ok(survey) = checkpoint::survey(slots, JOURNAL)
        && let Some(newest) = survey.newest
    {
        let mut entries = checkpoint::Entries::of(slots, &newest);
        while entries.read().expect("it was complete a moment ago").is_some() {}
        let start = Start { journal: JOURNAL, replay: newest.header.replay, keep: newest.header.replay.lsn };
        let _ = recover(slots, &start, &mut Tally::default());
    }
    if let Some(encoded) = slots.0.first().and_then(|file| file.last_chunk::<{ Position::BYTES }>()) {
        let replay = Position::decode(encoded);
        let _ = recover(slots, &Start { journal: JOURNAL, replay, keep: Lsn(0) }, &mut Tally::default());
    }
    let mut first = Tally::default();
    let Ok(recovered) = recover(slots, &Start::fresh(JOURNAL), &mut first) else { return };
    if slots.0.iter().all(|file| file.len() as u64 == FILE_BYTES) {
        let (second, position) = match reopened(slots.clone(), recovered, unborne(slots)) {
            Ok(found) => found,
            // A hostile file can hold commits of a future that the journal only now reaches.
            Err(RecoveryError::CommitLost { .. } | RecoveryError::Newer { .. }) => return,
            Err(error) => panic!("what was accepted stays so: {error}"),
        };
        assert_eq!((first.records, first.damages), (second.records, second.damages));
        assert!(position.incarnation != 0, "the incarnation's first commit is found again");
    }
}

/// An incarnation that no header in `slots` bears, as is one drawn at random.
///
/// The promise holds for no other. Hostile bytes can tear the commit that opened an incarnation and leave others behind
/// it: the same incarnation would put back the header that was cut, to which these are linked. A node leaves none
/// behind, since it issues nothing before the opening is durable; and a torn commit that opened nothing bears the
/// incarnation of the one before it, which [`Writer::resume`] refuses.
fn unborne(slots: &MemorySlots) -> u64 {
    let blocks = slots.0.iter().flat_map(|file| file.chunks(BLOCK_BYTES as usize));
    let borne: BTreeSet<u64> =
        blocks.filter_map(|block| CommitHeader::decode(block).ok()).map(|(header, _)| header.incarnation).collect();
    (DRAWN..).find(|incarnation| !borne.contains(incarnation)).expect("there are more numbers than blocks")
}

/// What recovery finds after `incarnation` has opened.
fn reopened(
    mut slots: MemorySlots,
    recovered: Recovered,
    incarnation: u64,
) -> Result<(Tally, Position), RecoveryError> {
    let mut writer = Writer::resume(recovered, incarnation, GEOMETRY);
    while !writer.is_settled() {
        if writer.wants_slot() {
            writer.add_slot();
            slots.0.push(vec![0; FILE_BYTES as usize]);
        }
        let commit = writer.take_commit().expect("an incarnation can always open");
        slots.write_at(commit.slot, commit.position, &commit.data);
        writer.committed(commit.number);
    }
    let mut tally = Tally::default();
    let again = recover(&slots, &Start::fresh(JOURNAL), &mut tally)?;
    Ok((tally, again.position))
}

/// Gives every block that looks like a commit the checksums that make it one, and links it to the one before.
fn mend(file: &mut [u8]) {
    let mut previous_crc = 0;
    for start in (0..file.len()).step_by(BLOCK_BYTES as usize) {
        let Some((mut header, end)) = mended_header(&file[start..]) else { continue };
        header.block = (start as u64 / BLOCK_BYTES) as u32;
        header.previous_crc = previous_crc;
        let (encoded, crc) = header.encode();
        file[start..start + COMMIT_HEADER].copy_from_slice(&encoded);
        previous_crc = crc;
        mend_records(&mut file[start + COMMIT_HEADER..start + end], header.first);
    }
}

/// The commit header whose fields, checksum aside, start `bytes`, and where its records end.
fn mended_header(bytes: &[u8]) -> Option<(CommitHeader, usize)> {
    let mut block: [u8; COMMIT_HEADER] = *bytes.first_chunk()?;
    block[16..32].copy_from_slice(&JOURNAL.0);
    let crc = crc32fast::hash(&block[..92]);
    block[92..].copy_from_slice(&crc.to_le_bytes());
    let (header, _) = CommitHeader::decode(&block).ok()?;
    let end = COMMIT_HEADER.saturating_add(header.length as usize).min(bytes.len());
    Some((header, end))
}

fn mend_records(mut bytes: &mut [u8], mut lsn: Lsn) {
    while let Some(encoded) = bytes.first_chunk::<RECORD_HEADER>() {
        let room = (bytes.len() - RECORD_HEADER) as u32;
        let payload_bytes = u32::from_le_bytes([encoded[4], encoded[5], encoded[6], encoded[7]]).min(room);
        let payload_crc = crc32fast::hash(&bytes[RECORD_HEADER..RECORD_HEADER + payload_bytes as usize]);
        let header = RecordHeader {
            kind: RecordKind::from_number(bytes[0] % 12).map_or(bytes[0], |kind| kind as u8),
            payload_bytes,
            payload_crc,
            partition: TopicPartition { topic: Uuid([bytes[16]; 16]), partition: i32::from(bytes[12]) },
            lsn,
            previous: None,
        };
        bytes[..RECORD_HEADER].copy_from_slice(&header.encode(&mut Sum::default()));
        let size = (header.size() as usize).min(bytes.len());
        bytes[RECORD_HEADER + payload_bytes as usize..size].fill(0);
        lsn = Lsn(lsn.0.saturating_add(size as u64));
        bytes = &mut bytes[size..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Incarnation 1, whose opening commit is torn, and behind it a commit that denies that the opening was durable.
    fn torn_opening() -> MemorySlots {
        let mut slots = MemorySlots::zeroed(1, FILE_BYTES);
        let recovered = recover(&slots, &Start::fresh(JOURNAL), &mut Tally::default()).expect("nothing is there");
        let mut writer = Writer::resume(recovered, 1, GEOMETRY);
        for _ in 0..2 {
            let commit = writer.take_commit().expect("the opening, then a record");
            slots.write_at(commit.slot, commit.position, &commit.data);
            writer.committed(commit.number);
            let nodes_own = TopicPartition { topic: Uuid::ZERO, partition: 0 };
            writer.append(RecordKind::Metadata, nodes_own, None, &[b"a record"]);
        }
        let (opening, behind) = slots.0[0].split_at_mut(BLOCK_BYTES as usize);
        opening[BLOCK_BYTES as usize - 1] = 1;
        let (header, _) = CommitHeader::decode(behind).expect("it was just written");
        assert_eq!(header.durable_number, 1, "our writer says that the opening was durable");
        let (denying, _) = CommitHeader { durable_number: 0, ..header }.encode();
        behind[..COMMIT_HEADER].copy_from_slice(&denying);
        slots
    }

    #[test]
    fn what_lies_behind_a_torn_opening_comes_back_under_its_incarnation_alone() {
        let slots = torn_opening();
        let mut first = Tally::default();
        let recovered = recover(&slots, &Start::fresh(JOURNAL), &mut first).expect("a torn tail is no error");
        assert_eq!((first.records, recovered.cut.map(|cut| cut.number)), (vec![], Some(1)));
        for (incarnation, expect) in [(1, vec![Lsn(0)]), (2, vec![]), (unborne(&slots), vec![])] {
            let recovered = recover(&slots, &Start::fresh(JOURNAL), &mut Tally::default()).expect("as before");
            let (second, _) = reopened(slots.clone(), recovered, incarnation).expect("nothing was durable");
            assert_eq!(second.records, expect, "incarnation {incarnation}");
        }
        recover_slots(&slots);
    }

    #[test]
    fn a_torn_opening_that_was_durable_is_damage() {
        let mut slots = torn_opening();
        let behind = &mut slots.0[0][BLOCK_BYTES as usize..];
        let (header, _) = CommitHeader::decode(behind).expect("a header is there");
        let (telling, _) = CommitHeader { durable_number: 1, ..header }.encode();
        behind[..COMMIT_HEADER].copy_from_slice(&telling);
        let mut tally = Tally::default();
        recover(&slots, &Start::fresh(JOURNAL), &mut tally).expect("only padding is damaged");
        assert_eq!((tally.records, tally.damages), (vec![Lsn(0)], 1));
    }
}
