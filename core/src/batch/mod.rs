//! Record batches (magic 2): heads, checksums, records, compression.
//!
//! Pure functions over bytes. Connections call them in parallel before anything reaches the node, disk work calls them
//! over what is stored; the node itself keeps a [`VerifiedBatch`] and never looks at a byte of it again: giving it
//! offsets or the time of its append changes the head alone, in constant time.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `head` | the 61 bytes in front of the records, and the checksum over what follows |
//! | `verify` | the one door for a producer's bytes: what a client may send |
//! | `placed` | the one door for a leader's bytes: batches that have their places already |
//! | `records` | the records inside, one after another, also of a compressed batch; search by timestamp |
//! | `compress` | the codecs, always through a limit on what comes out |
//! | `scan` | many batches in a row, as a segment file stores them |
//! | `build` | new batches |
//! | `rewrite` | stored batches without some of their records |
//!
//! What is deliberately absent: the formats of magic 0 and 1 (KIP-724 ended them), and every rule that needs a topic's
//! configuration or a producer's history; those belong to the partition.
//!
//! The cost aimed at: a batch of one 256-byte record is verified in about 100 ns, of which the checksum takes a third;
//! in a large batch the checksum runs at the speed of memory and each record costs 20 to 30 ns of varints and bounds.

mod build;
mod compress;
mod crc;
mod error;
mod head;
mod placed;
mod records;
mod rewrite;
mod scan;
mod varint;
mod verify;

pub use build::{BatchBuilder, NewHeader};
pub use compress::{Codec, Decompressor, compress};
pub use error::{BatchError, RecordPart};
pub use head::{Attributes, BatchHead, HEAD_BYTES, NO_SEQUENCE, NO_TIMESTAMP, PATCH_BYTES, check, patched_prefix};
pub use placed::{PlacedBatch, verify_placed};
pub use records::{Headers, Record, Records, find_max_timestamp, find_timestamp};
pub use rewrite::{emptied, keep_records};
pub use scan::{Found, Scan, ScanError, slice};
pub use verify::{BatchLimits, VerifiedBatch, verify, verify_next};
