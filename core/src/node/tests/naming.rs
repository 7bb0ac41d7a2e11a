//! How produce and fetch requests name topics: by name, or from version 13 on by id (KIP-516).

use super::*;

const UNKNOWN_NAME: ErrorCode = ErrorCode::UnknownTopicOrPartition;
const UNKNOWN_ID: ErrorCode = ErrorCode::UnknownTopicId;

/// The error codes of a produce and of a fetch request that name a topic so.
fn codes(rig: &mut Rig, version: i16, name: &'static str, id: TopicId) -> (i16, i16) {
    let limits = BatchLimits { batch_bytes_max: 1 << 24, decompressed_bytes_max: 1 << 24 };
    let batch = verify(records(rig.now.wall, &["a"]).build(), &limits).expect("a sound batch");
    let partitions = [ProducePartition { index: 0, batch: Ok(batch) }].into_iter().collect();
    let topics = [ProduceTopic { name: name.into(), id, partitions }].into_iter().collect();
    let produce = Produce { acks: -1, timeout_ms: 1000, transactional_id: None, may_write_internal: false, topics };
    let sequence = rig.ask(version, Request::Produce(produce.into()));
    let produced = rig.produced(sequence).expect("an answer").error_code;
    let mut request = Rig::fetch_request(name, 0, 0, 0);
    request.topics[0].topic_id = id;
    let sequence = rig.ask(version, Request::Other(request.into()));
    let fetched = rig.fetched(sequence).expect("an answer").responses.remove(0);
    assert_eq!(fetched.topic_id, id, "the answer names the topic as the request does");
    (produced, fetched.partitions[0].error_code)
}

#[test]
fn a_topic_is_found_by_what_counts_in_the_version() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let id = rig.node.controller.image().topic_named("t").expect("it was made").id;
    let both = |code: ErrorCode| (code.code(), code.code());
    assert_eq!(codes(&mut rig, 12, "t", TopicId::ZERO), (0, 0));
    assert_eq!(codes(&mut rig, 12, "other", TopicId::ZERO), both(UNKNOWN_NAME));
    assert_eq!(codes(&mut rig, 12, "", TopicId::ZERO), both(UNKNOWN_NAME));
    assert_eq!(codes(&mut rig, 13, "", id), (0, 0));
    assert_eq!(codes(&mut rig, 13, "", Uuid([7; 16])), both(UNKNOWN_ID));
    assert_eq!(codes(&mut rig, 13, "", TopicId::ZERO), both(UNKNOWN_ID));
}
