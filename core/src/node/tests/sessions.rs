//! Fetch sessions whose requests overtake each other.

use super::*;
use crate::wire::fetch::ForgottenTopic;

/// A request of a session that names nothing new.
fn next(session_id: i32, session_epoch: i32, max_wait_ms: i32) -> FetchRequest {
    let min_bytes = i32::from(max_wait_ms > 0);
    let topics = Vec::new();
    FetchRequest { session_id, session_epoch, topics, ..Rig::fetch_request("t", 0, min_bytes, max_wait_ms) }
}

/// The partitions that an answer tells something of.
fn partitions(response: &FetchResponse) -> Vec<i32> {
    assert_eq!(response.error_code, 0);
    let topics = response.responses.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|partition| partition.partition_index)).collect()
}

#[test]
fn an_answer_that_a_later_request_overtook_is_remembered_for_its_own_partitions() {
    let mut rig = Rig::new();
    rig.create("t", 4);
    let wanted =
        |partition| FetchPartition { partition, ..Rig::fetch_request("t", 0, 0, 0).topics[0].partitions[0].clone() };
    let mut first = Rig::fetch_request("t", 0, 0, 0);
    first.session_epoch = 0;
    first.topics[0].partitions = (0..4).map(wanted).collect();
    let sequence = rig.ask(12, Request::Other(first.into()));
    let session = rig.fetched(sequence).expect("an answer").session_id;

    let waiting = rig.ask(12, Request::Other(next(session, 1, 500).into()));
    let gone = ForgottenTopic { topic: "t".into(), partitions: vec![0], ..ForgottenTopic::default() };
    let forgets = FetchRequest { forgotten_topics_data: vec![gone], ..next(session, 2, 0) };
    let sequence = rig.ask(12, Request::Other(forgets.into()));
    assert_eq!(partitions(&rig.fetched(sequence).expect("an answer")), []);

    let batch = records(rig.now.wall, &["x"]);
    rig.send("t", 1, -1, batch);
    // What the session knows nothing of any more is told in any case.
    assert_eq!(partitions(&rig.fetched(waiting).expect("an answer")), [0, 1]);
    let batch = records(rig.now.wall, &["y"]);
    rig.send("t", 3, -1, batch);
    let sequence = rig.ask(12, Request::Other(next(session, 3, 0).into()));
    // The one that got data before comes after the one that did not.
    assert_eq!(partitions(&rig.fetched(sequence).expect("an answer")), [3, 1]);
}
