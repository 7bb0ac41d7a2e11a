//! The disk against the simplest one that has the same promises, and each fault for itself.

mod faults;
mod model;
mod node;

use chronik_core::boundary::SegmentName;
use chronik_core::ids::Uuid;

use super::*;

const JOURNAL: FileName = FileName::Journal(0);

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: Uuid([7; 16]), partition: index }
}

fn segment(index: i32, base: i64) -> FileName {
    FileName::Segment(SegmentName::appended(partition(index), Offset(base)))
}

fn index(of: i32, base: i64) -> FileName {
    FileName::Index(SegmentName::appended(partition(of), Offset(base)))
}

fn filled(fill: u8, bytes: usize) -> Bytes {
    vec![fill; bytes].into()
}

fn write(disk: &SimDisk, file: FileName, position: u64, fill: u8, bytes: usize) {
    disk.write_at(file, position, &[filled(fill, bytes)]).expect("nothing is wrong with the disk");
}

/// A file that is durable.
fn settled(disk: &SimDisk, file: FileName, fill: u8, bytes: usize) {
    write(disk, file, 0, fill, bytes);
    disk.sync(file).expect("nothing is wrong with the disk");
}

fn content(disk: &SimDisk, file: FileName) -> Vec<u8> {
    disk.content(file).expect("the file exists").to_vec()
}

fn rng(seed: u64) -> Rng {
    Rng::from_number(seed)
}

/// The power fails and takes all that it may.
fn lose_all(disk: &SimDisk) -> PowerLoss {
    disk.lose_power(rng(0), 0, 4096)
}
