//! The records inside a batch, and finding one by its time.
//!
//! [`Records`] reads them one after another. Of an uncompressed batch it hands out slices and allocates nothing; a
//! compressed one passes through a buffer no larger than its largest record.
//!
//! ```text
//! length       varint   of what follows
//! attributes   i8       unused
//! timestamp    varlong  above the batch's base timestamp
//! offset       varint   above the batch's base offset
//! key          varint length, -1 for none, and bytes
//! value        varint length, -1 for none, and bytes
//! headers      varint count; each a key (length and bytes) and a value (length, -1 for none, and bytes)
//! ```

use std::ops::Range;

use super::compress::{Codec, Decompressor};
use super::error::{BatchError, RecordPart};
use super::head::{BatchHead, HEAD_BYTES, NO_TIMESTAMP};
use super::varint;
use crate::ids::Offset;
use crate::time::Timestamp;

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it stands in its partition; in a batch not yet assigned, in its batch.
    pub offset: Offset,
    /// When it was made, or appended where the batch says so; [`super::NO_TIMESTAMP`] for never told.
    pub timestamp: Timestamp,
    /// What it is about.
    pub key: Option<&'a [u8]>,
    /// What it says; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// What else travels with it.
    pub headers: Headers<'a>,
}

/// A record's headers: pairs of a key and a value, in the order written. A key may occur more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    count: i32,
    /// Checked when the record was read, so that what follows cannot fail.
    bytes: &'a [u8],
}

impl Headers<'_> {
    /// How many they are, and all of them as they are written one after another.
    pub(super) fn as_written(&self) -> (i32, &[u8]) {
        (self.count, self.bytes)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1).filter(|left| *left >= 0)?;
        let key = take_bytes(&mut self.bytes).flatten().expect("the record's headers were checked");
        let value = take_bytes(&mut self.bytes).expect("the record's headers were checked");
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count.max(0) as usize, Some(self.count.max(0) as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// Reads the records of one batch in order. After the last one it checks that nothing follows.
pub struct Records<'a> {
    head: BatchHead,
    read: i32,
    body: Body<'a>,
}

enum Body<'a> {
    Plain(&'a [u8]),
    Packed(Unpacking<'a>),
}

impl<'a> Records<'a> {
    /// Reads the records of `batch`, exactly one batch, of which at most `decompressed_bytes_max` come out where it is
    /// compressed. The checksum is not looked at.
    pub fn open(batch: &'a [u8], decompressed_bytes_max: usize) -> Result<Records<'a>, BatchError> {
        let head = BatchHead::parse(batch)?;
        Records::of(head, &batch[HEAD_BYTES..], decompressed_bytes_max)
    }

    /// Reads the records of a batch whose head was parsed and whose other bytes are `body`.
    pub(super) fn of(head: BatchHead, body: &'a [u8], limit: usize) -> Result<Records<'a>, BatchError> {
        let body = match head.attributes.codec()? {
            Codec::None => Body::Plain(body),
            codec => Body::Packed(Unpacking::new(Decompressor::new(codec, body, limit)?)),
        };
        Ok(Records { head, read: 0, body })
    }

    /// The head of the batch.
    pub fn head(&self) -> &BatchHead {
        &self.head
    }

    /// How many bytes may still come out; `None` where nothing is compressed.
    pub(super) fn bytes_left(&self) -> Option<usize> {
        match &self.body {
            Body::Plain(_) => None,
            Body::Packed(unpacking) => Some(unpacking.stream.bytes_left()),
        }
    }

    /// The next record; `None` behind the last.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, BatchError> {
        if self.read >= self.head.count {
            let is_at_end = match &mut self.body {
                Body::Plain(bytes) => bytes.is_empty(),
                Body::Packed(unpacking) => unpacking.is_at_end()?,
            };
            return if is_at_end { Ok(None) } else { Err(BatchError::BytesFollowRecords) };
        }
        let record = self.read;
        self.read += 1;
        let fields = match &mut self.body {
            Body::Plain(bytes) => {
                let length = take_length(bytes, record)?;
                let (fields, rest) = bytes.split_at_checked(length).ok_or(BatchError::RecordsEndEarly { record })?;
                *bytes = rest;
                fields
            }
            Body::Packed(unpacking) => unpacking.next_fields(record)?,
        };
        parse_record(&self.head, record, fields).map(Some)
    }
}

/// Takes the length in front of a record. `bytes` holds either the whole varint or all there is.
#[inline]
fn take_length(bytes: &mut &[u8], record: i32) -> Result<usize, BatchError> {
    if bytes.is_empty() {
        return Err(BatchError::RecordsEndEarly { record });
    }
    let length = varint::take_i32(bytes).and_then(|length| usize::try_from(length).ok());
    length.ok_or(BatchError::RecordUnreadable { record, part: RecordPart::Length })
}

#[inline]
fn parse_record<'a>(head: &BatchHead, record: i32, mut bytes: &'a [u8]) -> Result<Record<'a>, BatchError> {
    let unreadable = |part| move || BatchError::RecordUnreadable { record, part };
    let bytes = &mut bytes;
    *bytes = bytes.split_first().ok_or_else(unreadable(RecordPart::Attributes))?.1;
    let timestamp_delta = varint::take_i64(bytes).ok_or_else(unreadable(RecordPart::TimestampDelta))?;
    let offset_delta = varint::take_i32(bytes).ok_or_else(unreadable(RecordPart::OffsetDelta))?;
    let key = take_bytes(bytes).ok_or_else(unreadable(RecordPart::Key))?;
    let value = take_bytes(bytes).ok_or_else(unreadable(RecordPart::Value))?;
    let headers = take_headers(bytes).map_err(|part| BatchError::RecordUnreadable { record, part })?;
    if !bytes.is_empty() {
        return Err(BatchError::RecordUnreadable { record, part: RecordPart::End });
    }
    if offset_delta < 0 || offset_delta > head.last_offset_delta {
        return Err(BatchError::RecordOffsetOutOfOrder { record, offset_delta });
    }
    let timestamp = if head.attributes.is_log_append_time() {
        head.max_timestamp
    } else {
        let timestamp = head.base_timestamp.0.checked_add(timestamp_delta);
        Timestamp(timestamp.ok_or(BatchError::RecordTimestampOverflows { record })?)
    };
    // A base offset near the largest there is belongs to no batch that was ever verified.
    let offset = Offset(head.base_offset.0.saturating_add(i64::from(offset_delta)));
    Ok(Record { offset, timestamp, key, value, headers })
}

/// Takes a length and that many bytes. The outer `None` is an error; the inner one is null, whose length is -1.
#[inline]
fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint::take_i32(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(taken))
}

#[inline]
fn take_headers<'a>(bytes: &mut &'a [u8]) -> Result<Headers<'a>, RecordPart> {
    let count = varint::take_i32(bytes).filter(|count| *count >= 0).ok_or(RecordPart::HeaderCount)?;
    let headers = *bytes;
    for _ in 0..count {
        take_bytes(bytes).flatten().ok_or(RecordPart::HeaderKey)?;
        take_bytes(bytes).ok_or(RecordPart::HeaderValue)?;
    }
    Ok(Headers { count, bytes: headers })
}

/// The decompressed bytes around the record being read.
struct Unpacking<'a> {
    stream: Decompressor<'a>,
    buffer: Vec<u8>,
    /// What has been handed out.
    read: usize,
    /// What has been decompressed.
    filled: usize,
}

impl<'a> Unpacking<'a> {
    fn new(stream: Decompressor<'a>) -> Unpacking<'a> {
        Unpacking { stream, buffer: Vec::new(), read: 0, filled: 0 }
    }

    fn next_fields(&mut self, record: i32) -> Result<&[u8], BatchError> {
        const VARINT_BYTES_MAX: usize = 5;
        self.fill(VARINT_BYTES_MAX)?;
        let mut ahead = &self.buffer[self.read..self.filled];
        let length = take_length(&mut ahead, record)?;
        self.read = self.filled - ahead.len();
        if !self.fill(length)? {
            return Err(BatchError::RecordsEndEarly { record });
        }
        let fields = &self.buffer[self.read..self.read + length];
        self.read += length;
        Ok(fields)
    }

    fn is_at_end(&mut self) -> Result<bool, BatchError> {
        Ok(!self.fill(1)?)
    }

    /// Has `bytes` ready behind what was read, and tells whether there are so many.
    fn fill(&mut self, bytes: usize) -> Result<bool, BatchError> {
        const BUFFER_BYTES_MIN: usize = 8 << 10;
        while self.filled - self.read < bytes {
            if self.read > 0 {
                self.buffer.copy_within(self.read..self.filled, 0);
                self.filled -= self.read;
                self.read = 0;
            }
            if self.filled == self.buffer.len() {
                // Doubling follows what really came out; the length that a record claims allocates nothing.
                self.buffer.resize((2 * self.filled).max(BUFFER_BYTES_MIN), 0);
            }
            match self.stream.read(&mut self.buffer[self.filled..])? {
                0 => return Ok(false),
                read => self.filled += read,
            }
        }
        Ok(true)
    }
}

/// The first record of `batch` within some offsets whose timestamp is at least `target`, as ListOffsets asks for it.
/// The head answers alone where no record can be late enough.
pub fn find_timestamp(
    batch: &[u8],
    within: &Range<Offset>,
    target: Timestamp,
    decompressed_bytes_max: usize,
) -> Result<Option<(Offset, Timestamp)>, BatchError> {
    let mut records = Records::open(batch, decompressed_bytes_max)?;
    if records.head.max_timestamp < target || records.head.last_offset() < within.start {
        return Ok(None);
    }
    while let Some(record) = records.next_record()? {
        if record.timestamp >= target && within.contains(&record.offset) {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

/// The first record of `batch` with the largest timestamp of all within some offsets (KIP-734); `None` where none of
/// them has a timestamp. The head answers alone where all lie outside.
pub fn find_max_timestamp(
    batch: &[u8],
    within: &Range<Offset>,
    decompressed_bytes_max: usize,
) -> Result<Option<(Offset, Timestamp)>, BatchError> {
    let mut records = Records::open(batch, decompressed_bytes_max)?;
    let largest = records.head.max_timestamp;
    let mut found: Option<(Offset, Timestamp)> = None;
    if largest < Timestamp(0) || records.head.last_offset() < within.start || records.head.base_offset >= within.end {
        return Ok(None);
    }
    while let Some(record) = records.next_record()? {
        let least = found.map_or(NO_TIMESTAMP, |(_, timestamp)| timestamp);
        if record.timestamp > least && within.contains(&record.offset) {
            found = Some((record.offset, record.timestamp));
            // No other can be larger.
            if record.timestamp >= largest {
                break;
            }
        }
    }
    Ok(found)
}
