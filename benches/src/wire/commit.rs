//! OffsetCommit 2-7 as a template: one offset of one partition, by somebody who is no member. Two requests of a
//! connection differ in their correlation id, their partition, and the offset, which rises, so that what was committed
//! last can be told. With it what a group needs around that: FindCoordinator 1-2, OffsetFetch 1-5.

use super::{Api, ErrorCode, Malformed, Reader, Writer};

/// An OffsetCommit request, short of what differs between two of them.
pub(crate) struct CommitTemplate {
    head: Vec<u8>,
    pub(crate) version: i16,
    partition_at: usize,
    offset_at: usize,
}

const CORRELATION_AT: usize = 8;

impl CommitTemplate {
    pub(crate) fn new(version: i16, group: &str, topic: &str) -> CommitTemplate {
        let mut out = Writer::request(Api::OffsetCommit, version, 0);
        out.string(group);
        out.i32(-1); // no generation
        out.string(""); // no member
        if version >= 7 {
            out.null_string(); // no instance
        }
        if version <= 4 {
            out.i64(-1); // kept as long as the broker likes
        }
        out.length(1);
        out.string(topic);
        out.length(1);
        let partition_at = out.len();
        out.i32(0);
        let offset_at = out.len();
        out.i64(0);
        if version >= 6 {
            out.i32(-1); // no leader epoch
        }
        out.string(""); // no metadata
        CommitTemplate { head: out.finish(0), version, partition_at, offset_at }
    }

    pub(crate) fn head_length(&self) -> usize {
        self.head.len()
    }

    /// Appends a request that commits `correlation` as the offset of `partition`.
    pub(crate) fn push_head(&self, heads: &mut Vec<u8>, correlation: i32, partition: i32) {
        let start = heads.len();
        heads.extend_from_slice(&self.head);
        let head = &mut heads[start..];
        head[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation.to_be_bytes());
        head[self.partition_at..self.partition_at + 4].copy_from_slice(&partition.to_be_bytes());
        head[self.offset_at..self.offset_at + 8].copy_from_slice(&i64::from(correlation).to_be_bytes());
    }
}

/// Reads the answer to a commit of one partition: the correlation id, the partition, its error code.
pub(crate) fn read_commit(version: i16, frame: &[u8]) -> Result<(i32, i32, ErrorCode), Malformed> {
    let (correlation, mut body) = Reader::response(Api::OffsetCommit, version, frame)?;
    if version >= 3 {
        body.i32()?; // throttled for so long
    }
    if body.elements()? == 0 {
        return Err(Malformed::EndsEarly);
    }
    body.skip_string()?;
    if body.elements()? == 0 {
        return Err(Malformed::EndsEarly);
    }
    Ok((correlation, body.i32()?, ErrorCode(body.i16()?)))
}

/// Asks who coordinates a group.
pub(crate) fn find_coordinator(version: i16, correlation: i32, group: &str) -> Vec<u8> {
    let mut out = Writer::request(Api::FindCoordinator, version, correlation);
    out.string(group);
    out.i8(0); // a group's
    out.finish(0)
}

/// Reads an address, or why there is none.
pub(crate) fn read_find_coordinator(mut body: Reader<'_>) -> Result<Result<String, ErrorCode>, Malformed> {
    body.i32()?; // throttled for so long
    let code = ErrorCode(body.i16()?);
    body.skip_string()?;
    body.i32()?; // the node's id
    let host = body.string()?.unwrap_or_default().to_owned();
    let port = body.i32()?;
    Ok(if code.is_error() { Err(code) } else { Ok(format!("{host}:{port}")) })
}

/// Asks for the offsets that a group has committed.
pub(crate) fn fetch_offsets(version: i16, correlation: i32, group: &str, topic: &str, partitions: &[i32]) -> Vec<u8> {
    let mut out = Writer::request(Api::OffsetFetch, version, correlation);
    out.string(group);
    out.length(1);
    out.string(topic);
    out.length(partitions.len());
    for partition in partitions {
        out.i32(*partition);
    }
    out.finish(0)
}

/// Partitions with the offsets that a group has committed, or why they cannot be told.
pub(crate) type CommittedOffsets = Vec<(i32, Result<i64, ErrorCode>)>;

/// Reads partitions with their offsets, -1 where there is none, or why that cannot be told.
pub(crate) fn read_fetch_offsets(version: i16, mut body: Reader<'_>) -> Result<CommittedOffsets, Malformed> {
    if version >= 3 {
        body.i32()?; // throttled for so long
    }
    let mut offsets = Vec::new();
    for _ in 0..body.elements()? {
        body.skip_string()?;
        for _ in 0..body.elements()? {
            let partition = body.i32()?;
            let offset = body.i64()?;
            if version >= 5 {
                body.i32()?; // leader epoch
            }
            body.skip_string()?; // metadata
            let code = ErrorCode(body.i16()?);
            offsets.push((partition, if code.is_error() { Err(code) } else { Ok(offset) }));
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::{parse_request, response_frame};
    use kafka_protocol::messages as oracle;
    use kafka_protocol::protocol::StrBytes;

    fn name(text: &'static str) -> oracle::TopicName {
        oracle::TopicName(StrBytes::from_static_str(text))
    }

    #[test]
    fn a_commit_is_understood_in_every_version_and_so_is_its_answer() {
        for version in Api::OffsetCommit.spoken() {
            let template = CommitTemplate::new(version, "readers", "load");
            let mut frame = Vec::new();
            template.push_head(&mut frame, 41, 7);
            assert_eq!(frame.len(), template.head_length());
            let read: oracle::OffsetCommitRequest = parse_request(Api::OffsetCommit, version, 41, &frame);
            assert_eq!((read.group_id.as_str(), read.generation_id_or_member_epoch), ("readers", -1));
            assert_eq!(read.topics[0].name.as_str(), "load");
            let partition = &read.topics[0].partitions[0];
            assert_eq!((partition.partition_index, partition.committed_offset), (7, 41));

            let partition = oracle::offset_commit_response::OffsetCommitResponsePartition::default()
                .with_partition_index(7)
                .with_error_code(15);
            let answer = oracle::OffsetCommitResponse::default().with_topics(vec![
                oracle::offset_commit_response::OffsetCommitResponseTopic::default()
                    .with_name(name("load"))
                    .with_partitions(vec![partition]),
            ]);
            let frame = response_frame(version, 12, &answer);
            assert_eq!(read_commit(version, &frame), Ok((12, 7, ErrorCode(15))));
            for cut in 0..frame.len() {
                assert_eq!(read_commit(version, &frame[..cut]), Err(Malformed::EndsEarly));
            }
        }
    }

    #[test]
    fn coordinators_are_found_in_every_version() {
        for version in Api::FindCoordinator.spoken() {
            let asked: oracle::FindCoordinatorRequest =
                parse_request(Api::FindCoordinator, version, 3, &find_coordinator(version, 3, "readers"));
            assert_eq!((asked.key.as_str(), asked.key_type), ("readers", 0));
            let answer = oracle::FindCoordinatorResponse::default()
                .with_host(StrBytes::from_static_str("there"))
                .with_port(9092);
            let frame = response_frame(version, 3, &answer);
            let (_, body) = Reader::response(Api::FindCoordinator, version, &frame).expect("a whole header");
            assert_eq!(read_find_coordinator(body), Ok(Ok("there:9092".to_owned())));
        }
    }

    #[test]
    fn committed_offsets_are_asked_and_read_in_every_version() {
        for version in Api::OffsetFetch.spoken() {
            let asked: oracle::OffsetFetchRequest =
                parse_request(Api::OffsetFetch, version, 3, &fetch_offsets(version, 3, "readers", "load", &[0, 4]));
            let topics = asked.topics.expect("some");
            assert_eq!((asked.group_id.as_str(), &topics[0].partition_indexes[..]), ("readers", &[0, 4][..]));
            let partition = |index, code, offset| {
                oracle::offset_fetch_response::OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(offset)
                    .with_error_code(code)
            };
            let answer = oracle::OffsetFetchResponse::default().with_topics(vec![
                oracle::offset_fetch_response::OffsetFetchResponseTopic::default()
                    .with_name(name("load"))
                    .with_partitions(vec![partition(0, 0, 77), partition(4, 3, -1)]),
            ]);
            let frame = response_frame(version, 3, &answer);
            let (_, body) = Reader::response(Api::OffsetFetch, version, &frame).expect("a whole header");
            assert_eq!(read_fetch_offsets(version, body), Ok(vec![(0, Ok(77)), (4, Err(ErrorCode(3)))]));
        }
    }
}
