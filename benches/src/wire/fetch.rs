//! Fetch 4-12, always as a full fetch without a session: what is measured is the path of the records.

use super::{Api, ErrorCode, Malformed, Reader, Writer};

/// How much one response may bring, and how long the broker may wait for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchLimits {
    /// How long the broker may hold the request while fewer than `bytes_min` bytes are there.
    pub(crate) wait_ms_max: i32,
    pub(crate) bytes_min: i32,
    /// For the whole response and for each partition; a first batch that is larger comes whole (KIP-74).
    pub(crate) bytes_max: i32,
}

/// Asks for records of `partitions`, each from the offset beside it.
pub(crate) fn fetch(
    version: i16,
    correlation: i32,
    topic: &str,
    limits: FetchLimits,
    partitions: impl ExactSizeIterator<Item = (i32, i64)>,
) -> Vec<u8> {
    let mut out = Writer::request(Api::Fetch, version, correlation);
    out.i32(-1); // asked by a consumer, not a replica
    out.i32(limits.wait_ms_max);
    out.i32(limits.bytes_min);
    out.i32(limits.bytes_max);
    out.i8(0); // read_uncommitted
    if version >= 7 {
        out.i32(0); // session id
        out.i32(-1); // session epoch: none (KIP-227)
    }
    out.length(1);
    out.string(topic);
    out.length(partitions.len());
    for (partition, offset) in partitions {
        out.i32(partition);
        if version >= 9 {
            out.i32(-1); // current leader epoch: not known
        }
        out.i64(offset);
        if version >= 12 {
            out.i32(-1); // last fetched epoch: for replicas
        }
        if version >= 5 {
            out.i64(-1); // log start offset: for replicas
        }
        out.i32(limits.bytes_max);
        out.tags();
    }
    out.tags();
    if version >= 7 {
        out.length(0); // forgotten topics
    }
    if version >= 11 {
        out.string(""); // rack
    }
    out.tags();
    out.finish(0)
}

/// What a fetch brought of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetched<'a> {
    pub(crate) partition: i32,
    pub(crate) code: ErrorCode,
    pub(crate) high_watermark: i64,
    /// Record batches; the last may be cut short.
    pub(crate) records: &'a [u8],
}

/// Reads a response, calling `each` for every partition in it, and gives the correlation id with the error of the
/// request as a whole.
pub(crate) fn read_fetch<'a, E: From<Malformed>>(
    version: i16,
    frame: &'a [u8],
    mut each: impl FnMut(Fetched<'a>) -> Result<(), E>,
) -> Result<(i32, ErrorCode), E> {
    let (correlation, mut body) = Reader::response(Api::Fetch, version, frame)?;
    body.i32()?; // throttle time
    let mut code = ErrorCode::NONE;
    if version >= 7 {
        code = ErrorCode(body.i16()?);
        body.i32()?; // session id
    }
    for _ in 0..body.elements()? {
        body.string()?;
        for _ in 0..body.elements()? {
            let partition = body.i32()?;
            let code = ErrorCode(body.i16()?);
            let high_watermark = body.i64()?;
            body.i64()?; // last stable offset
            if version >= 5 {
                body.i64()?; // log start offset
            }
            for _ in 0..body.elements()? {
                body.take(8 + 8)?; // an aborted transaction
                body.tags()?;
            }
            if version >= 11 {
                body.i32()?; // preferred read replica
            }
            let length = body.elements()?;
            let records = body.take(length)?;
            body.tags()?;
            each(Fetched { partition, code, high_watermark, records })?;
        }
        body.tags()?;
    }
    Ok((correlation, code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::{parse_request, response_frame};
    use bytes::Bytes;
    use kafka_protocol::messages as oracle;
    use kafka_protocol::protocol::StrBytes;

    #[test]
    fn requests_are_understood_in_every_version() {
        for version in Api::Fetch.spoken() {
            let limits = FetchLimits { wait_ms_max: 500, bytes_min: 1, bytes_max: 1 << 20 };
            let frame = fetch(version, 6, "load", limits, [(0, 10), (3, 1 << 33)].into_iter());
            let read: oracle::FetchRequest = parse_request(Api::Fetch, version, 6, &frame);
            assert_eq!((read.max_wait_ms, read.min_bytes, read.max_bytes), (500, 1, 1 << 20));
            assert_eq!(read.topics[0].topic.as_str(), "load");
            assert_eq!(read.topics[0].partitions[1].partition, 3);
            assert_eq!(read.topics[0].partitions[1].fetch_offset, 1 << 33);
            assert_eq!(read.topics[0].partitions[1].partition_max_bytes, 1 << 20);
            if version >= 7 {
                assert_eq!((read.session_id, read.session_epoch), (0, -1));
            }
        }
    }

    #[test]
    fn answers_are_read_in_every_version() {
        for version in Api::Fetch.spoken() {
            let partition = |index, code, records: &'static [u8]| {
                oracle::fetch_response::PartitionData::default()
                    .with_partition_index(index)
                    .with_error_code(code)
                    .with_high_watermark(99)
                    .with_aborted_transactions(Some(vec![
                        oracle::fetch_response::AbortedTransaction::default().with_first_offset(4),
                    ]))
                    .with_records(Some(Bytes::from_static(records)))
            };
            let answer = oracle::FetchResponse::default().with_responses(vec![
                oracle::fetch_response::FetchableTopicResponse::default()
                    .with_topic(oracle::TopicName(StrBytes::from_static_str("load")))
                    .with_partitions(vec![partition(0, 0, b"some records"), partition(5, 1, b"")]),
            ]);
            let frame = response_frame(version, 8, &answer);
            let mut read = Vec::new();
            let header = read_fetch(version, &frame, |fetched| {
                read.push((fetched.partition, fetched.code, fetched.high_watermark, fetched.records));
                Ok::<_, Malformed>(())
            });
            assert_eq!(header, Ok((8, ErrorCode::NONE)));
            assert_eq!(read, [(0, ErrorCode::NONE, 99, &b"some records"[..]), (5, ErrorCode(1), 99, &b""[..])]);
        }
    }
}
