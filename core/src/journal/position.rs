//! Places in the chain of commits.

use super::format::{u32_at, u64_at};
use super::slots::Place;
use crate::ids::Lsn;

/// The gap between two commits: all that is needed to recognise the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file that the earlier commit lies in.
    pub slot: u32,
    /// Where in it the earlier commit ends, in bytes.
    pub position: u64,
    /// Which use of a file that is.
    pub file_sequence: u64,
    /// The later commit's number.
    pub commit_number: u64,
    /// The checksum of the earlier commit's header.
    pub previous_header_crc: u32,
    /// The LSN of the later commit's first record.
    pub lsn: Lsn,
    /// The incarnation that wrote the earlier commit.
    pub incarnation: u64,
}

impl Position {
    /// The start of a fresh journal: its first file, before its first commit.
    pub const START: Position = Position {
        slot: 0,
        position: 0,
        file_sequence: 1,
        commit_number: 1,
        previous_header_crc: 0,
        lsn: Lsn(0),
        incarnation: 0,
    };
    /// The length of its encoding, in bytes.
    pub const BYTES: usize = 48;

    /// Its bytes, for a checkpoint.
    pub fn encode(&self) -> [u8; Position::BYTES] {
        let mut out = [0; Position::BYTES];
        out[0..4].copy_from_slice(&self.slot.to_le_bytes());
        out[4..8].copy_from_slice(&self.previous_header_crc.to_le_bytes());
        out[8..16].copy_from_slice(&self.position.to_le_bytes());
        out[16..24].copy_from_slice(&self.file_sequence.to_le_bytes());
        out[24..32].copy_from_slice(&self.commit_number.to_le_bytes());
        out[32..40].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.incarnation.to_le_bytes());
        out
    }

    /// The position that `bytes` encode. Any bytes are one; whether it leads anywhere recovery finds out.
    pub fn decode(bytes: &[u8; Position::BYTES]) -> Position {
        Position {
            slot: u32_at(bytes, 0),
            previous_header_crc: u32_at(bytes, 4),
            position: u64_at(bytes, 8),
            file_sequence: u64_at(bytes, 16),
            commit_number: u64_at(bytes, 24),
            lsn: Lsn(u64_at(bytes, 32)),
            incarnation: u64_at(bytes, 40),
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place { slot: self.slot, position: self.position }
    }
}
