//! What clients are told that ask a broker that is not the leader.

use super::*;
use crate::wire::delete_groups::DeleteGroupsRequest;
use crate::wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::wire::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};

fn fetch(cluster: &mut Cluster, node: i32, version: i16, request: FetchRequest) -> (u64, Option<FetchResponse>) {
    assert!(version >= 11);
    let sequence = cluster.rig(node).ask(version, Request::Other(request.into()));
    cluster.run();
    (sequence, cluster.rig(node).fetched(sequence))
}

fn by_id(cluster: &Cluster, offset: i64, rack: &'static str) -> FetchRequest {
    let mut request = Rig::fetch_request(TOPIC, offset, 0, 0);
    request.topics[0].topic_id = cluster.topics[TOPIC];
    request.rack_id = rack.into();
    request
}

#[test]
fn a_producer_is_told_who_leads_and_where() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[2, 1]], &[]);
    for asked in [1, 3] {
        let sequence = cluster.send(asked, -1, &["a"]);
        let Some(Some(Response::Produce(response))) = cluster.rig(asked).reply(sequence) else { panic!("no answer") };
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, ErrorCode::NotLeaderOrFollower.code());
        assert_eq!((answer.current_leader.leader_id, answer.current_leader.leader_epoch), (2, 0));
        let endpoint = &response.node_endpoints[0];
        assert_eq!((endpoint.node_id, &*endpoint.host, endpoint.port), (2, "node-2", 9094));
    }
}

#[test]
fn a_consumer_is_told_who_leads_by_a_broker_without_a_replica_and_epochs_are_checked() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[2, 1]], &[]);
    cluster.produce(2, &["a"]);
    cluster.elect(Some(1), &[1, 2]);
    let request = by_id(&cluster, 0, "");
    let (_, response) = fetch(&mut cluster, 3, 16, request);
    let response = response.expect("an answer");
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::NotLeaderOrFollower.code());
    assert_eq!((data.current_leader.leader_id, data.current_leader.leader_epoch), (1, 10));
    assert_eq!((response.node_endpoints[0].node_id, response.node_endpoints[0].port), (1, 9093));

    for (epoch, code) in [(0, ErrorCode::FencedLeaderEpoch), (11, ErrorCode::UnknownLeaderEpoch), (10, ErrorCode::None)]
    {
        let mut request = by_id(&cluster, 0, "");
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let (_, response) = fetch(&mut cluster, 1, 16, request);
        let found = response.expect("an answer").responses[0].partitions[0].error_code;
        assert_eq!(found, code.code(), "epoch {epoch}");
    }
}

/// What a broker answers whoever asks for an end: the error and the offset.
fn end_told(cluster: &mut Cluster, node: i32, replica_id: i32, timestamp: i64) -> (i16, i64) {
    let partition = ListOffsetsPartition { current_leader_epoch: -1, timestamp, ..ListOffsetsPartition::default() };
    let topic = ListOffsetsTopic { name: TOPIC.into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id, topics: vec![topic], ..ListOffsetsRequest::default() };
    let sequence = cluster.rig(node).ask(7, Request::Other(request.into()));
    cluster.run();
    let Some(Some(Response::ListOffsets(response))) = cluster.rig(node).reply(sequence) else { panic!("no answer") };
    let answer = &response.topics[0].partitions[0];
    (answer.error_code, answer.offset)
}

#[test]
fn every_replica_tells_where_its_own_log_ends_to_who_asks_for_that() {
    let (client, replica) = (-1, -2);
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.produce(1, &["a"]);
    cluster.isolate(2);
    cluster.send(1, 1, &["b"]);
    cluster.run();
    let not_leader = ErrorCode::NotLeaderOrFollower.code();
    // What is not committed yet is no consumer's.
    assert_eq!((end_told(&mut cluster, 1, client, -1), end_told(&mut cluster, 1, replica, -1)), ((0, 1), (0, 2)));
    assert_eq!(
        (end_told(&mut cluster, 2, client, -1), end_told(&mut cluster, 2, replica, -1)),
        ((not_leader, -1), (0, 1))
    );
    assert_eq!(end_told(&mut cluster, 2, replica, -2), (0, 0));
    // Records are looked for where the partition is led, by whomever; node 3 has nothing of it.
    assert_eq!(end_told(&mut cluster, 2, replica, 5), (not_leader, -1));
    assert_eq!(end_told(&mut cluster, 3, replica, -1), (not_leader, -1));
}

#[test]
fn a_reader_that_knows_followers_reads_there_up_to_what_they_know_is_committed() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.produce(1, &["a"]);
    cluster.pass(20);
    assert_eq!(cluster.consume(2), ["a"]);
    let old = Rig::fetch_request(TOPIC, 0, 0, 0);
    let sequence = cluster.rig(2).ask(10, Request::Other(old.into()));
    let response = cluster.rig(2).fetched(sequence).expect("an answer");
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::NotLeaderOrFollower.code(), "before version 11 only leaders are read from");
    // One that waits at a follower hears of what is committed.
    let mut request = Rig::fetch_request(TOPIC, 1, 1, 10_000);
    request.rack_id = "anywhere".into();
    let (waiting, none) = fetch(&mut cluster, 2, 12, request);
    assert!(none.is_none());
    cluster.produce(1, &["b"]);
    cluster.pass(20);
    assert!(cluster.rig(2).fetched(waiting).is_some());
}

#[test]
fn a_reader_is_sent_to_the_replica_in_its_rack_that_has_what_it_wants() {
    let settings = [("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector")];
    let racks = [(1, "east"), (2, "west"), (3, "west")];
    let mut cluster = Cluster::in_racks(3, &settings, &racks);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.produce(1, &["a"]);
    for restarts in [false, true] {
        if restarts {
            cluster.crash(1);
            cluster.restart(1);
            cluster.pass(1000);
        }
        for (rack, expect) in [("west", 2), ("east", -1), ("north", -1), ("", -1)] {
            let request = by_id(&cluster, 0, rack);
            let (_, response) = fetch(&mut cluster, 1, 13, request);
            let data = response.expect("an answer").responses.remove(0).partitions.remove(0);
            assert_eq!((data.error_code, data.preferred_read_replica), (0, expect), "rack {rack:?}");
            assert_eq!(data.records.expect("records, if none").is_empty(), expect != -1);
        }
    }
    // At the replica itself nobody is sent on.
    cluster.pass(20);
    let request = by_id(&cluster, 0, "west");
    let (_, response) = fetch(&mut cluster, 2, 13, request);
    let data = response.expect("an answer").responses.remove(0).partitions.remove(0);
    assert_eq!((data.preferred_read_replica, data.high_watermark), (-1, 1));
    assert!(!data.records.expect("records").is_empty());
}

#[test]
fn a_reader_with_a_session_is_sent_on_each_time_it_comes_back() {
    let settings = [("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector")];
    let mut cluster = Cluster::in_racks(2, &settings, &[(1, "east"), (2, "west")]);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.produce(1, &["a"]);
    let begins = FetchRequest { session_epoch: 0, ..by_id(&cluster, 0, "west") };
    let (_, response) = fetch(&mut cluster, 1, 13, begins);
    let session_id = response.expect("an answer").session_id;
    assert_ne!(session_id, 0);
    for session_epoch in 1..4 {
        let next = FetchRequest { session_id, session_epoch, topics: Vec::new(), ..by_id(&cluster, 0, "west") };
        let (_, response) = fetch(&mut cluster, 1, 13, next);
        let response = response.expect("an answer");
        let told: Vec<_> = response.responses.iter().flat_map(|topic| &topic.partitions).collect();
        assert_eq!(told.iter().map(|data| data.preferred_read_replica).collect::<Vec<_>>(), [2]);
    }
}

#[test]
fn a_fetch_that_waits_at_a_leader_is_answered_when_another_leads() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    let mut request = by_id(&cluster, 0, "");
    (request.min_bytes, request.max_wait_ms) = (1, 60_000);
    request.topics[0].partitions[0].current_leader_epoch = 0;
    let (waiting, none) = fetch(&mut cluster, 1, 16, request);
    assert!(none.is_none());
    cluster.elect(Some(2), &[1, 2]);
    let response = cluster.rig(1).fetched(waiting).expect("an answer");
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::FencedLeaderEpoch.code());
    assert_eq!((data.current_leader.leader_id, response.node_endpoints[0].node_id), (2, 2));
}

#[test]
fn followers_of_other_clusters_get_nothing() {
    let mut cluster = Cluster::new(1);
    cluster.create(TOPIC, &[&[1]], &[]);
    let mut request = by_id(&cluster, 0, "");
    request.replica_state.replica_id = 2;
    let (_, response) = fetch(&mut cluster, 1, 15, request);
    assert_eq!(response.expect("an answer").error_code, ErrorCode::ClusterAuthorizationFailed.code());
}

#[test]
fn a_group_moves_with_the_leader_of_its_partition_and_loses_no_offset() {
    const OFFSETS: &str = "__consumer_offsets";
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1]], &[]);
    cluster.create(OFFSETS, &[&[1, 2]], &[]);
    assert_eq!(commit(&mut cluster, 1, 5), Some(0));
    assert_eq!(commit(&mut cluster, 2, 6), Some(ErrorCode::NotCoordinator.code()));
    // One that is decided and not committed is told to nobody: it may be cut.
    cluster.isolate(1);
    let waiting = ask_commit(&mut cluster, 1, 7);
    assert!(committed(&mut cluster, 1, waiting).is_none());
    cluster.elect_of(OFFSETS, Some(2), &[2]);
    cluster.heal(1);
    assert_eq!(committed(&mut cluster, 1, waiting), Some(ErrorCode::NotCoordinator.code()));
    cluster.pass(1000);
    let id = cluster.partition(OFFSETS, 0);
    assert_eq!(cluster.state(id).isr.len(), 2);
    assert_eq!(cluster.rig(2).offset_of("g"), Ok(5));
    assert_eq!(commit(&mut cluster, 2, 8), Some(0));
    cluster.elect_of(OFFSETS, Some(1), &[1, 2]);
    cluster.pass(1000);
    assert_eq!(cluster.rig(1).offset_of("g"), Ok(8));
}

#[test]
fn a_lag_in_a_partition_that_others_have_is_counted_as_one_that_is_not_told() {
    for (replica, lags, untold) in [(1, 1, 0), (2, 0, 1)] {
        let mut cluster = Cluster::new(2);
        cluster.create(TOPIC, &[&[replica]], &[]);
        cluster.create("__consumer_offsets", &[&[1]], &[]);
        assert_eq!(commit(&mut cluster, 1, 5), Some(0));
        let text = cluster.rig(1).node.metrics();
        assert_eq!(text.lines().filter(|line| line.starts_with("chronik_group_lag{")).count(), lags, "{text}");
        assert!(text.contains(&format!("\nchronik_group_lags_untold {untold}\n")), "{text}");
        // What is gone has no lag.
        let id = cluster.topics[TOPIC];
        cluster.entry(vec![MetadataRecord::RemoveTopic { id }]);
        assert!(cluster.rig(1).node.metrics().contains("\nchronik_group_lags_untold 0\n"));
    }
}

#[test]
fn offsets_that_are_taken_back_are_errors_also_for_clients_that_know_none_but_of_partitions() {
    const OFFSETS: &str = "__consumer_offsets";
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1]], &[]);
    cluster.create(OFFSETS, &[&[1, 2]], &[]);
    assert_eq!(commit(&mut cluster, 1, 5), Some(0));
    let fetch = |partitions: i32| {
        let topic = OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: (0..partitions).collect() };
        let request = OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
        Request::Other(request.into())
    };
    let told = |cluster: &mut Cluster, sequence| match cluster.rig(1).reply(sequence) {
        Some(Some(Response::OffsetFetch(response))) => {
            let partitions = response.topics[0].partitions.iter();
            Some(partitions.map(|at| (at.error_code, at.committed_offset)).collect::<Vec<_>>())
        }
        None => None,
        other => panic!("another answer: {other:?}"),
    };
    cluster.isolate(1);
    ask_commit(&mut cluster, 1, 7);
    let waiting = cluster.rig(1).ask(1, fetch(1));
    // Of this one a part has been told.
    let partly = cluster.rig(1).ask(1, fetch(1000));
    assert_eq!((told(&mut cluster, waiting), told(&mut cluster, partly)), (None, None));
    cluster.elect_of(OFFSETS, Some(2), &[2]);
    cluster.heal(1);
    cluster.pass(1000);
    let refused = (ErrorCode::NotCoordinator.code(), -1);
    assert_eq!(told(&mut cluster, waiting), Some(vec![refused]));
    assert_eq!(told(&mut cluster, partly), Some(vec![refused; 1000]));
}

#[test]
fn a_commit_that_waits_where_the_coordinator_moves_away_is_told_to_nobody() {
    const OFFSETS: &str = "__consumer_offsets";
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1]], &[]);
    cluster.create(OFFSETS, &[&[1, 2]], &[]);
    assert_eq!(commit(&mut cluster, 1, 5), Some(0));
    cluster.isolate(1);
    let waiting = ask_commit(&mut cluster, 1, 7);
    // In one entry another leads, and this broker holds no replica any more.
    let id = cluster.partition(OFFSETS, 0);
    let before = cluster.state(id);
    let state = PartitionState {
        replicas: vec![NodeId(2), NodeId(3)],
        isr: vec![NodeId(2)],
        leader: Some(NodeId(2)),
        leader_epoch: LeaderEpoch(before.leader_epoch.0 + STEP),
        partition_epoch: before.partition_epoch + STEP,
        ..before
    };
    cluster.states.insert(id, state.clone());
    cluster.entry(vec![MetadataRecord::Partition { partition: id, state }]);
    cluster.heal(1);
    assert_eq!(committed(&mut cluster, 1, waiting), Some(ErrorCode::NotCoordinator.code()));
    cluster.pass(1000);
    assert_eq!(cluster.rig(2).offset_of("g"), Ok(5));
}

#[test]
fn a_deletion_that_is_not_committed_is_taken_back_while_others_of_its_request_are_under_way() {
    const OFFSETS: &str = "__consumer_offsets";
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1]], &[]);
    cluster.create(OFFSETS, &[&[1, 2]], &[]);
    assert_eq!(commit(&mut cluster, 1, 5), Some(0));
    cluster.isolate(1);
    // The first is deleted at once; the others take several steps.
    let others = (0..100).map(|n| Str::from(format!("group-{n}")));
    let groups_names = std::iter::once("g".into()).chain(others).collect();
    let deleting = cluster.rig(1).ask(2, Request::Other(DeleteGroupsRequest { groups_names }.into()));
    assert!(cluster.rig(1).reply(deleting).is_none());
    cluster.elect_of(OFFSETS, Some(2), &[2]);
    cluster.heal(1);
    cluster.pass(1000);
    let Some(Some(Response::DeleteGroups(response))) = cluster.rig(1).reply(deleting) else { panic!("no answer") };
    assert_eq!(response.results.len(), 101);
    assert_eq!(response.results[0].error_code, ErrorCode::NotCoordinator.code());
    assert_eq!(cluster.rig(2).offset_of("g"), Ok(5));
}

#[test]
fn who_waits_for_a_coordinator_below_the_minimum_is_told_and_does_not_wait_for_ever() {
    const OFFSETS: &str = "__consumer_offsets";
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1]], &[]);
    cluster.create(OFFSETS, &[&[1, 2]], &[("min.insync.replicas", "2")]);
    assert_eq!(commit(&mut cluster, 1, 5), Some(0));
    cluster.rig(2).hold = true;
    let waiting = ask_commit(&mut cluster, 1, 6);
    assert!(committed(&mut cluster, 1, waiting).is_none());
    cluster.crash(2);
    cluster.pass(11_000);
    assert_eq!(cluster.state(cluster.partition(OFFSETS, 0)).isr, [NodeId(1)]);
    assert_eq!(committed(&mut cluster, 1, waiting), Some(ErrorCode::CoordinatorNotAvailable.code()));
    // What reads the group waits for what is not committed as well.
    assert_eq!(cluster.rig(1).offset_of("g"), Err(ErrorCode::CoordinatorNotAvailable.code()));
}

fn ask_commit(cluster: &mut Cluster, node: i32, offset: i64) -> u64 {
    let partitions = vec![OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() }];
    let topics = vec![OffsetCommitRequestTopic { name: TOPIC.into(), partitions, ..Default::default() }];
    let generation_id_or_member_epoch = -1;
    let request =
        OffsetCommitRequest { group_id: "g".into(), generation_id_or_member_epoch, topics, ..Default::default() };
    let sequence = cluster.rig(node).ask(8, Request::Other(request.into()));
    cluster.run();
    sequence
}

fn committed(cluster: &mut Cluster, node: i32, sequence: u64) -> Option<i16> {
    match cluster.rig(node).reply(sequence)? {
        Some(Response::OffsetCommit(response)) => Some(response.topics[0].partitions[0].error_code),
        other => panic!("another answer: {other:?}"),
    }
}

fn commit(cluster: &mut Cluster, node: i32, offset: i64) -> Option<i16> {
    let sequence = ask_commit(cluster, node, offset);
    committed(cluster, node, sequence)
}
