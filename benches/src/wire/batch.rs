//! Record batches of format 2: one prebuilt for the whole run, and those that a broker sends back.

use super::Malformed;
use super::bytes::{Reader, push_varint};

/// Bytes from the batch's base offset to its record count, that is before the first record.
const HEADER_LENGTH: usize = 61;
/// Where the checksum lies, and from where on it counts: the base offset, the leader epoch and the checksum itself
/// are not covered, so a broker assigns offsets without touching it.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
/// Bytes of a send time at the front of the first record's value.
pub(super) const STAMP_LENGTH: usize = 8;

/// A batch whose records have random values: what the load sends, over and over.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u32,
    /// Where the value of the first record begins.
    pub(super) first_value_at: usize,
    value_length: usize,
}

impl Batch {
    /// `records` records (1 or more) of `value_length` bytes each, all created at `timestamp_ms` since 1970.
    /// The values come from a fixed seed: incompressible, and the same in every run.
    pub(crate) fn new(records: u32, value_length: usize, timestamp_ms: i64) -> Batch {
        assert!(records > 0, "a batch holds at least one record");
        let mut bytes = vec![0; HEADER_LENGTH];
        bytes[12..16].copy_from_slice(&(-1i32).to_be_bytes()); // leader epoch: not known to a client
        bytes[16] = 2; // magic
        let last = i32::try_from(records - 1).expect("batches are bounded by the request size");
        bytes[23..27].copy_from_slice(&last.to_be_bytes());
        bytes[27..35].copy_from_slice(&timestamp_ms.to_be_bytes());
        bytes[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
        bytes[43..51].copy_from_slice(&(-1i64).to_be_bytes()); // producer id: not idempotent
        bytes[51..53].copy_from_slice(&(-1i16).to_be_bytes());
        bytes[53..57].copy_from_slice(&(-1i32).to_be_bytes());
        bytes[57..61].copy_from_slice(&(last + 1).to_be_bytes());

        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let mut record = Vec::with_capacity(value_length + 32);
        let mut first_value_at = 0;
        for delta in 0..i64::from(records) {
            record.clear();
            record.push(0); // attributes
            push_varint(&mut record, 0); // timestamp delta
            push_varint(&mut record, delta);
            push_varint(&mut record, -1); // no key
            push_varint(&mut record, value_length as i64);
            let value_at = record.len();
            record.extend((0..value_length).map(|_| noise.byte()));
            push_varint(&mut record, 0); // no headers
            push_varint(&mut bytes, record.len() as i64);
            if delta == 0 {
                first_value_at = bytes.len() + value_at;
            }
            bytes.extend_from_slice(&record);
        }

        let length = i32::try_from(bytes.len() - 12).expect("batches are bounded by the request size");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        Batch { bytes, records, first_value_at, value_length }
    }

    /// Whether the first record has room for a send time.
    pub(crate) fn is_stampable(&self) -> bool {
        self.value_length >= STAMP_LENGTH
    }
}

/// Where in a batch its checksum is, and where what it covers begins.
pub(super) const CRC: (usize, usize) = (CRC_AT, CRC_FROM);

/// SplitMix64: enough to defeat compression, and the same bytes everywhere.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) as u8
    }
}

/// A batch in a fetch response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchView<'a> {
    bytes: &'a [u8],
    pub(crate) base_offset: i64,
    /// The offset after the batch's last.
    pub(crate) next_offset: i64,
    pub(crate) records: u32,
}

impl BatchView<'_> {
    /// Bytes on the wire.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the bytes match their checksum (CRC-32C).
    pub(crate) fn is_intact(&self) -> bool {
        let stored: [u8; 4] = self.bytes[CRC_AT..CRC_FROM].try_into().expect("four bytes");
        crc32c::crc32c(&self.bytes[CRC_FROM..]) == u32::from_be_bytes(stored)
    }

    /// The send time that a stamped batch carries, in nanoseconds of the sender's clock. The batch must not be
    /// compressed, and whether it was stamped at all is for the caller to know.
    pub(crate) fn stamp(&self) -> Result<u64, Malformed> {
        let mut record = Reader::plain(&self.bytes[HEADER_LENGTH..]);
        record.varint()?; // length
        record.u8()?; // attributes
        record.varint()?; // timestamp delta
        record.varint()?; // offset delta
        let key = record.varint()?;
        record.take(usize::try_from(key).unwrap_or(0))?;
        record.varint()?; // value length
        Ok(record.i64()? as u64)
    }
}

/// The whole batches at the front of `records`. A last batch that is cut short by the response's limit ends the walk,
/// as Kafka's protocol allows.
pub(crate) fn batches(mut records: &[u8]) -> impl Iterator<Item = Result<BatchView<'_>, Malformed>> {
    std::iter::from_fn(move || {
        let mut header = Reader::plain(records.get(..HEADER_LENGTH)?);
        let view = (|| {
            let base_offset = header.i64()?;
            let length = usize::try_from(header.i32()?).map_err(|_| Malformed::BatchLengthBelowHeader)? + 12;
            if length < HEADER_LENGTH {
                return Err(Malformed::BatchLengthBelowHeader);
            }
            header.i32()?; // leader epoch
            let magic = header.u8()?;
            if magic != 2 {
                return Err(Malformed::BatchMagic(magic));
            }
            header.take(4 + 2)?; // checksum, attributes
            let last_delta = i64::from(header.i32()?);
            header.take(8 + 8 + 8 + 2 + 4)?; // timestamps, producer
            let count = header.i32()?;
            Ok((length, base_offset, base_offset + last_delta + 1, count.max(0) as u32))
        })();
        match view {
            Err(why) => {
                records = &[];
                Some(Err(why))
            }
            Ok((length, base_offset, next_offset, count)) => {
                let (bytes, rest) = records.split_at_checked(length)?;
                records = rest;
                Some(Ok(BatchView { bytes, base_offset, next_offset, records: count }))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kafka_protocol::records::{RecordBatchDecoder, TimestampType};

    fn check(records: u32, value_length: usize) {
        let batch = Batch::new(records, value_length, 1_700_000_000_000);
        let mut bytes = Bytes::from(batch.bytes.clone());
        let set = RecordBatchDecoder::decode(&mut bytes).expect("the oracle checks the CRC and reads every record");
        assert_eq!(set.records.len(), records as usize);
        for (index, record) in set.records.iter().enumerate() {
            assert_eq!(record.value.as_ref().map(Bytes::len), Some(value_length));
            assert_eq!(record.offset, index as i64);
            assert_eq!(record.timestamp, 1_700_000_000_000);
            assert_eq!(record.timestamp_type, TimestampType::Creation);
            assert_eq!((record.producer_id, record.sequence - index as i32), (-1, -1));
        }
        if value_length > 0 {
            let value = set.records[0].value.as_ref().expect("a value");
            assert_eq!(value[0], batch.bytes[batch.first_value_at]);
        }
    }

    #[test]
    fn batches_are_what_an_independent_decoder_expects() {
        check(1, 256);
        check(64, 256);
        check(1000, 1024);
        check(1, 0);
        check(3, 7);
    }

    #[test]
    fn a_batch_is_walked_and_its_checksum_checked() {
        let mut records = Batch::new(64, 100, 0).bytes;
        records.extend(Batch::new(1, 10, 0).bytes);
        let whole = records.len();
        records.extend(&Batch::new(5, 10, 0).bytes[..70]);
        let walked: Vec<_> = batches(&records).collect::<Result<_, _>>().expect("two whole batches");
        assert_eq!(walked.iter().map(|batch| batch.records).collect::<Vec<_>>(), [64, 1]);
        assert_eq!(walked[0].next_offset, 64);
        assert!(walked.iter().all(BatchView::is_intact));

        records[whole - 2] ^= 1;
        let walked: Vec<_> = batches(&records).collect::<Result<_, _>>().expect("two whole batches");
        assert_eq!(walked.iter().map(BatchView::is_intact).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn what_is_no_batch_is_named() {
        let mut records = Batch::new(1, 10, 0).bytes;
        records[16] = 1;
        assert_eq!(batches(&records).next().map(|batch| batch.err()), Some(Some(Malformed::BatchMagic(1))));
        records[8..12].copy_from_slice(&3i32.to_be_bytes());
        assert_eq!(batches(&records).next().map(|batch| batch.err()), Some(Some(Malformed::BatchLengthBelowHeader)));
    }
}
