//! The journal and its checkpoints: what was durable comes back exactly, or is named as lost.

use std::collections::BTreeSet;

use bytes::Bytes;
use chronik_core::ids::Lsn;
use chronik_core::journal::checkpoint::{CHUNK_BYTES, Encoder, Entries, Header, survey};
use chronik_core::journal::{Class, MemorySlots, Position, RecordKind, inspect, recover_bytes};
use chronik_core::node::{Told, told};

use crate::files::turn_bit;
use crate::wire_bodies::entropy::Entropy;
use crate::world::{JOURNAL, World, partition, replay};

/// The first byte chooses what the rest is: a life of a journal, checkpoints and damage to them, or files.
pub fn body(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 3 {
        0 => life(&mut Entropy::new(rest)),
        1 => checkpoints(&mut Entropy::new(rest)),
        _ => {
            recover_bytes(rest);
            told_bytes(rest);
        }
    }
}

/// What a record of any kind says, whatever bytes are its payload, is told to people or called damaged.
fn told_bytes(bytes: &[u8]) {
    let Some((number, payload)) = bytes.split_first() else { return };
    let Ok(kind) = RecordKind::from_number(number % 17) else { return };
    match told(kind, Bytes::copy_from_slice(payload)) {
        Ok(Told::Log(told)) => assert!(!told.to_string().is_empty()),
        Ok(Told::Node(lines)) => assert!(lines.iter().flatten().all(|line| !line.is_empty())),
        Err(why) => assert!(!why.is_empty()),
    }
}

/// Steps as the node, the disk and the power may take them. [`World`] checks after each restart that exactly the
/// durable records came back. At the end bits of its files are turned over.
fn life(entropy: &mut Entropy<'_>) {
    let mut world = World::new(1 + entropy.below(3) as u32);
    for _ in 0..entropy.below(120) {
        step(&mut world, entropy);
    }
    world.lose_power(512, u64::from(entropy.byte()));
    world.commit();
    world.add_slot_if_wanted();
    world.writer.seal();
    world.commit();
    damaged(&world, entropy);
}

fn step(world: &mut World, entropy: &mut Entropy<'_>) {
    let sector = [512, 4096][entropy.below(2)];
    match entropy.below(32) {
        0..=11 => {
            let length = [0, 7, 100, 600, 3000, 4096 - 96 - 56, 9000, 30_000, 65_000][entropy.below(9)];
            let number = entropy.below(8) as u64;
            let (kind, class) = match number {
                0 => (RecordKind::NodeState, Class::Critical),
                _ => (RecordKind::Append, Class::Ordinary),
            };
            if world.writer.has_room(length, class) {
                world.append(kind, partition(number), vec![entropy.byte(); length as usize]);
            }
        }
        12 => {
            // A payload that is a part of the journal's own bytes, and whose blocks lie where blocks do.
            let payload = [&[0; 4096 - 96 - 56][..], &world.disk.cache.0[0][..3 * 4096]].concat();
            if world.writer.has_room(payload.len() as u64, Class::Ordinary) {
                world.append(RecordKind::Append, partition(1), payload);
            }
        }
        13..=19 => {
            world.take();
        }
        20..=26 => world.sync(),
        27 => world.checkpoint(),
        28 => world.add_slot_if_wanted(),
        29 => world.writer.seal(),
        30 => world.kill(sector, u64::from(entropy.byte())),
        _ => world.lose_power(sector, u64::from(entropy.byte())),
    }
}

/// Up to three bits are turned over: recovery stops, or tells of nothing that was not written; and where the journal
/// was sealed and one bit is wrong, it names all that it does not tell.
fn damaged(world: &World, entropy: &mut Entropy<'_>) {
    let mut files = world.disk.cache.clone();
    let bits = 1 + entropy.below(3);
    for _ in 0..bits {
        let slot = entropy.below(files.0.len());
        turn_bit(&mut files.0[slot], entropy);
    }
    for slot in 0..files.0.len() as u32 {
        assert!(inspect(&files, slot).all(|seen| !seen.to_string().is_empty()));
    }
    let start = world.start();
    let Ok((_, listener)) = replay(&files, &start) else { return };
    let written: Vec<_> = world.durable().iter().filter(|told| told.lsn >= start.replay.lsn).collect();
    let told: BTreeSet<Lsn> = listener.told.iter().map(|told| told.lsn).collect();
    let lost: BTreeSet<Lsn> = listener.damages.iter().filter_map(|damage| damage.record).map(|(.., lsn)| lsn).collect();
    assert!(told.is_disjoint(&lost));
    assert!(listener.told.iter().eq(written.iter().copied().filter(|record| told.contains(&record.lsn))));
    if bits == 1 && world.writer.is_sealed() {
        let all: BTreeSet<Lsn> = written.iter().map(|record| record.lsn).collect();
        assert_eq!(told.union(&lost).copied().collect::<BTreeSet<_>>(), all, "no record is lost in silence");
    }
}

/// An entry of a checkpoint, copied.
type Entry = (u8, i32, Vec<u8>);

/// Checkpoints are written one after another, the last one perhaps not to its end, and up to three bits turned over:
/// what the survey takes for complete is what was written under that number.
fn checkpoints(entropy: &mut Entropy<'_>) {
    let mut files = MemorySlots::zeroed(2, 0);
    let mut written: Vec<Vec<Entry>> = Vec::new();
    for sequence in 1..=entropy.below(5) as u64 {
        let header = Header { journal: JOURNAL, sequence, replay: Position::START };
        let mut entries = Vec::new();
        for _ in 0..entropy.below(6) {
            let length = [0, 1, 8, 100, 5000, 300_000][entropy.below(6)];
            entries.push((1 + entropy.below(255) as u8, entropy.below(4) as i32, vec![entropy.byte(); length]));
        }
        let encoded = encoded(header, &entries);
        let file = &mut files.0[header.slot() as usize];
        let is_cut = entropy.one_in(4);
        let end = if is_cut { entropy.below((encoded.len() >> 9) + 1) << 9 } else { encoded.len() };
        // A checkpoint is written over the one before the last; the file is cut only when it is whole.
        file.resize(file.len().max(end), 0);
        file[..end].copy_from_slice(&encoded[..end]);
        written.push(entries);
        if is_cut {
            break;
        }
        file.truncate(end);
    }
    surveyed(&files, &written);
    for _ in 0..1 + entropy.below(3) {
        let slot = entropy.below(2);
        if !files.0[slot].is_empty() {
            turn_bit(&mut files.0[slot], entropy);
        }
    }
    surveyed(&files, &written);
}

fn encoded(header: Header, entries: &[Entry]) -> Vec<u8> {
    let mut encoder = Encoder::new(header);
    let mut bytes = Vec::new();
    for (kind, index, payload) in entries {
        let (front, back) = payload.split_at(payload.len() / 2);
        encoder.entry(*kind, partition(*index as u64), &[front, back]);
        while let Some(chunk) = encoder.take_chunk() {
            assert_eq!(chunk.len(), CHUNK_BYTES);
            bytes.extend_from_slice(&chunk);
        }
    }
    bytes.extend_from_slice(&encoder.finish());
    bytes
}

fn surveyed(files: &MemorySlots, written: &[Vec<Entry>]) {
    let Some(newest) = survey(files, JOURNAL).ok().and_then(|survey| survey.newest) else { return };
    let expected = &written[usize::try_from(newest.header.sequence).expect("small") - 1];
    let mut entries = Entries::of(files, &newest);
    let mut found = Vec::new();
    while let Some(entry) = entries.read().expect("it was complete a moment ago") {
        found.push((entry.kind, entry.partition.partition, entry.payload.to_vec()));
    }
    assert!(found == *expected, "checkpoint {} is not what was written", newest.header.sequence);
    assert_eq!(newest.entries, expected.len() as u64);
}
