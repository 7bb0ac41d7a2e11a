//! Leaders stream, followers acknowledge, the high watermark follows.

use super::*;

#[test]
fn what_one_writes_all_have_and_all_show() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.produce(1, &["a", "b"]);
    cluster.produce(1, &["c"]);
    assert_eq!(cluster.consume(1), ["a", "b", "c"]);
    cluster.pass(20);
    cluster.expect_same();
    assert_eq!(cluster.ends(3), (3, 3), "a follower hears of the high watermark without a batch to carry it");
}

#[test]
fn a_partition_is_only_where_its_replicas_are() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    let id = cluster.partition(TOPIC, 0);
    let is_here = |cluster: &mut Cluster, node| cluster.rig(node).node.by_id.contains_key(&id);
    assert!(is_here(&mut cluster, 1) && is_here(&mut cluster, 2) && !is_here(&mut cluster, 3));
}

#[test]
fn all_acknowledge_when_the_last_disk_has_it_and_the_leader_alone_when_its_own_has() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.rig(1).hold = true;
    cluster.rig(2).hold = true;
    let all = cluster.send(1, -1, &["a"]);
    let one = cluster.send(1, 1, &["b"]);
    let none = cluster.send(1, 0, &["c"]);
    assert!(cluster.rig(1).reply(none).is_some(), "who asks for nothing waits for nothing");
    assert_eq!((cluster.code(1, all), cluster.code(1, one)), (None, None));
    assert_eq!(cluster.ends(3), (3, 0), "batches are sent before the leader's own disk has them");

    cluster.rig(1).release();
    cluster.run();
    assert_eq!((cluster.code(1, all), cluster.code(1, one)), (None, Some(0)));
    assert_eq!(cluster.consume(1), [""; 0], "what one replica lacks is shown to nobody");
    cluster.rig(2).release();
    cluster.run();
    assert_eq!(cluster.code(1, all), Some(0));
    assert_eq!(cluster.consume(1), ["a", "b", "c"]);
}

#[test]
fn a_consumer_that_waits_is_served_when_the_high_watermark_moves() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    let request = Rig::fetch_request(TOPIC, 0, 1, 10_000);
    let waiting = cluster.rig(1).ask(12, Request::Other(request.into()));
    cluster.rig(2).hold = true;
    cluster.send(1, 1, &["a"]);
    assert!(cluster.rig(1).fetched(waiting).is_none(), "one replica lacks it");
    cluster.rig(2).release();
    cluster.run();
    let response = cluster.rig(1).fetched(waiting).expect("an answer");
    assert_eq!(response.responses[0].partitions[0].high_watermark, 1);
}

#[test]
fn who_waits_for_others_waits_as_long_as_its_client_lets_it_and_its_batch_stays() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.rig(2).hold = true;
    let sequence = cluster.send(1, -1, &["a"]);
    cluster.pass(999);
    assert_eq!(cluster.code(1, sequence), None);
    cluster.pass(1);
    assert_eq!(cluster.code(1, sequence), Some(ErrorCode::RequestTimedOut.code()));
    cluster.rig(2).release();
    cluster.run();
    assert_eq!(cluster.consume(1), ["a"]);
}

#[test]
fn of_a_request_whose_time_is_up_only_what_others_lack_is_told_so() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2], &[1], &[1, 2]], &[]);
    cluster.rig(2).hold = true;
    let sequence = cluster.rig(1).send_to_all(TOPIC, &[(2, "a"), (1, "b"), (0, "c")]);
    cluster.pass(1_000);
    let Some(Some(Response::Produce(answer))) = cluster.rig(1).reply(sequence) else { panic!("no answer") };
    let told = answer.responses[0].partition_responses.iter();
    let told: Vec<_> = told.map(|told| (told.index, told.error_code, told.base_offset)).collect();
    let late = ErrorCode::RequestTimedOut.code();
    assert_eq!(told, [(2, late, -1), (1, 0, 0), (0, late, -1)]);
}

/// Whoever sends the same again and again without patience takes no memory: a duplicate costs it nothing.
#[test]
fn who_was_told_that_its_time_is_up_waits_no_more_and_who_comes_next_waits_for_its_own() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.rig(2).hold = true;
    let early = cluster.send(1, -1, &["a"]);
    cluster.pass(500);
    let late = cluster.send(1, -1, &["b"]);
    cluster.pass(500);
    assert_eq!(cluster.code(1, early), Some(ErrorCode::RequestTimedOut.code()));
    assert_eq!(cluster.rig(1).node.produces.len(), 1);
    // It takes the place of the first, whose batch is on all disks before its own is.
    let last = cluster.send(1, -1, &["c"]);
    let commit = cluster.rig(2).held.pop_front().expect("the first batch");
    cluster.rig(2).commit(commit);
    cluster.run();
    assert_eq!((cluster.ends(1).1, cluster.code(1, late), cluster.code(1, last)), (1, None, None));
    cluster.rig(2).release();
    cluster.run();
    assert_eq!((cluster.code(1, late), cluster.code(1, last)), (Some(0), Some(0)));
    assert_eq!(cluster.rig(1).node.produces.len(), 0);
    assert_eq!(cluster.consume(1), ["a", "b", "c"]);
}

#[test]
fn a_follower_that_was_away_reads_what_it_missed_and_is_in_sync_again() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.produce(1, &["before"]);
    cluster.crash(3);
    let waiting = cluster.send(1, -1, &["while it is away"]);
    assert_eq!(cluster.code(1, waiting), None, "it counts until it has been away for too long");
    cluster.pass(11_000);
    assert_eq!(cluster.in_sync(), [1, 2]);
    // Far more than memory holds, so that the beginning must be read from segments.
    for n in 0..200 {
        cluster.produce(1, &[&format!("{n}-{}", "x".repeat(1000))]);
    }
    cluster.pass(1000);
    let in_memory = cluster.host(1).partition.log().run_from(crate::ids::Offset(1), 1, 1).is_some();
    assert!(!in_memory, "the batches that it needs are in segments alone");
    cluster.restart(3);
    cluster.pass(1000);
    assert_eq!(cluster.in_sync(), [1, 2, 3]);
    cluster.produce(1, &["after"]);
    cluster.pass(20);
    cluster.expect_same();
}

/// Nobody writes any more, so nothing but time can bring the next attempt.
#[test]
fn a_read_for_a_follower_that_fails_is_tried_again_though_nothing_is_written() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.crash(3);
    cluster.pass(11_000);
    for n in 0..200 {
        cluster.produce(1, &[&format!("{n}-{}", "x".repeat(1000))]);
    }
    cluster.pass(1000);
    cluster.rig(1).hold_reads = true;
    cluster.restart(3);
    let Some(Done::Read(id, Ok(_))) = cluster.rig(1).held_reads.pop_front() else { panic!("a read for the follower") };
    let log = cluster.host(1).partition.log();
    let segment = log.name_of(log.segments().next().expect("what was read is in one"));
    let error = crate::boundary::DiskError::Io(FileName::Segment(segment), "it fails once".into());
    cluster.rig(1).hold_reads = false;
    cluster.rig(1).step(Input::Disk(Done::Read(id, Err(error))));
    cluster.pass(150);
    assert_eq!(cluster.rig(1).node.counters().read_errors, 1, "it is not tried again and again");
    assert_eq!(cluster.in_sync(), [1, 2]);
    cluster.pass(850);
    assert_eq!(cluster.in_sync(), [1, 2, 3]);
    cluster.expect_same();
}

#[test]
fn what_was_read_in_an_earlier_leadership_is_not_sent_in_a_later_one() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.decides = false;
    cluster.crash(3);
    cluster.isolate(2);
    for n in 0..200 {
        cluster.send(1, 1, &[&format!("cut-{n}-{}", "x".repeat(1000))]);
    }
    cluster.pass(100);
    cluster.rig(1).hold_reads = true;
    cluster.restart(3);
    cluster.elect(Some(1), &[1, 2, 3]);
    let early = cluster.rig(1).held_reads.pop_back().expect("a read for the one that has nothing");
    cluster.elect(Some(2), &[1, 2, 3]);
    cluster.heal(2);
    assert_eq!(cluster.ends(1), (0, 0), "what nobody else has is cut");
    cluster.part(2, 3);
    cluster.part(3, 2);
    for n in 0..200 {
        cluster.send(2, 1, &[&format!("new-{n}-{}", "y".repeat(1000))]);
    }
    cluster.pass(100);
    // As in the earlier leadership, the one follower that is connected is the one that has nothing.
    cluster.part(1, 2);
    cluster.part(2, 1);
    cluster.elect(Some(1), &[1, 2, 3]);
    assert_eq!((cluster.ends(1).0, cluster.ends(3).0), (200, 0));
    // The disk is done only now with what it was asked for before the log was cut.
    cluster.rig(1).step(Input::Disk(early));
    cluster.run();
    assert_eq!(cluster.ends(3).0, 0, "what was cut at the leader is sent to nobody");
    cluster.rig(1).hold_reads = false;
    while let Some(read) = cluster.rig(1).held_reads.pop_front() {
        cluster.rig(1).step(Input::Disk(read));
    }
    for (one, other) in [(1, 2), (2, 3)] {
        cluster.connect(one, other);
        cluster.connect(other, one);
    }
    cluster.pass(1000);
    cluster.expect_same();
}

#[test]
fn a_slow_disk_puts_a_follower_out_of_the_set_and_it_comes_back() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.rig(2).hold = true;
    let sequence = cluster.send(1, 1, &["a"]);
    assert_eq!(cluster.code(1, sequence), Some(0));
    cluster.pass(9_999);
    assert_eq!(cluster.in_sync(), [1, 2]);
    cluster.pass(2);
    assert_eq!(cluster.in_sync(), [1]);
    assert_eq!(cluster.consume(1), ["a"], "it counts no more");
    cluster.rig(2).release();
    cluster.pass(20);
    assert_eq!(cluster.in_sync(), [1, 2]);
    cluster.expect_same();
}

#[test]
fn below_the_minimum_nothing_is_taken_for_all_and_who_waits_is_told() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[("min.insync.replicas", "2")]);
    cluster.crash(2);
    cluster.crash(3);
    // Long enough for the set to shrink, short enough not to be told that its time is up.
    cluster.pass(9_500);
    let waiting = cluster.send(1, -1, &["a"]);
    cluster.pass(600);
    assert_eq!(cluster.in_sync(), [1]);
    assert_eq!(cluster.code(1, waiting), Some(ErrorCode::NotEnoughReplicasAfterAppend.code()));
    let refused = cluster.send(1, -1, &["b"]);
    assert_eq!(cluster.code(1, refused), Some(ErrorCode::NotEnoughReplicas.code()));
    let one = cluster.send(1, 1, &["c"]);
    assert_eq!(cluster.code(1, one), Some(0));
    assert_eq!(cluster.ends(1), (2, 0), "the high watermark stands still");
    cluster.restart(2);
    cluster.pass(1000);
    assert_eq!(cluster.in_sync(), [1, 2]);
    assert_eq!(cluster.consume(1), ["a", "c"]);
}

/// The other replica's broker is registered no more, so nobody follows; its place counts for the minimum all the same.
#[test]
fn a_leader_that_nobody_follows_hears_of_another_minimum() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.crash(2);
    cluster.pass(11_000);
    cluster.entry(vec![MetadataRecord::RemoveBroker { node_id: NodeId(2) }]);
    cluster.crash(1);
    cluster.restart(1);
    assert!(!cluster.host(1).partition.has_followers());
    cluster.produce(1, &["a"]);
    let of = crate::controller::records::Resource::Topic(cluster.topics[TOPIC]);
    let require = |cluster: &mut Cluster, least: &str| {
        let name = "min.insync.replicas".into();
        cluster.entry(vec![MetadataRecord::Config { of: of.clone(), name, value: Some(least.into()) }]);
    };
    require(&mut cluster, "2");
    let refused = cluster.send(1, -1, &["b"]);
    assert_eq!(cluster.code(1, refused), Some(ErrorCode::NotEnoughReplicas.code()));
    let one = cluster.send(1, 1, &["c"]);
    assert_eq!(cluster.code(1, one), Some(0));
    assert_eq!(cluster.ends(1), (2, 1), "below the minimum the high watermark stands still");
    require(&mut cluster, "1");
    assert_eq!(cluster.ends(1), (2, 2));
    cluster.produce(1, &["d"]);
}

/// As Kafka does it: a minimum above the number of replicas asks for all of them, not for the impossible. Those of brokers
/// that are gone count among them.
#[test]
fn a_minimum_above_the_number_of_replicas_asks_for_all_of_them() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 9]], &[("min.insync.replicas", "7")]);
    cluster.elect(Some(1), &[1, 2]);
    let refused = cluster.send(1, -1, &["a"]);
    assert_eq!(cluster.code(1, refused), Some(ErrorCode::NotEnoughReplicas.code()));
    let id = cluster.partition(TOPIC, 0);
    let before = cluster.state(id);
    let replicas = vec![NodeId(1), NodeId(2)];
    let state = PartitionState { replicas, partition_epoch: before.partition_epoch + STEP, ..before };
    cluster.states.insert(id, state.clone());
    cluster.entry(vec![MetadataRecord::Partition { partition: id, state }]);
    cluster.produce(1, &["b"]);
    cluster.decides = false;
    cluster.elect(Some(1), &[1]);
    let refused = cluster.send(1, -1, &["c"]);
    assert_eq!(cluster.code(1, refused), Some(ErrorCode::NotEnoughReplicas.code()));
}

#[test]
fn large_batches_go_straight_to_segments_on_followers_too() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    let large = "x".repeat(30_000);
    for _ in 0..20 {
        cluster.produce(1, &[&large]);
        cluster.pass(1);
    }
    assert!(cluster.rig(2).node.direct_bytes > 0, "some did");
    cluster.pass(20);
    cluster.expect_same();
    cluster.crash(2);
    cluster.restart(2);
    cluster.pass(1000);
    cluster.expect_same();
}

#[test]
fn a_follower_deletes_what_its_leader_does_and_who_asked_waits_for_it() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.produce(1, &["a", "b"]);
    cluster.produce(1, &["c"]);
    cluster.rig(2).hold = true;
    let partition = DeleteRecordsPartition { partition_index: 0, offset: 2 };
    let topics = vec![DeleteRecordsTopic { name: TOPIC.into(), partitions: vec![partition] }];
    let request = || Request::Other(Box::new(DeleteRecordsRequest { topics: topics.clone(), timeout_ms: 500 }.into()));
    let late = cluster.rig(1).ask(2, request());
    cluster.pass(499);
    assert!(cluster.rig(1).reply(late).is_none(), "the follower might lead next, and show them");
    cluster.pass(1);
    let deleted = |cluster: &mut Cluster, sequence| match cluster.rig(1).reply(sequence) {
        Some(Some(Response::DeleteRecords(response))) => {
            let found = &response.topics[0].partitions[0];
            (found.error_code, found.low_watermark)
        }
        other => panic!("another answer: {other:?}"),
    };
    assert_eq!(deleted(&mut cluster, late), (ErrorCode::RequestTimedOut.code(), -1));
    let waiting = cluster.rig(1).ask(2, request());
    cluster.rig(2).release();
    cluster.pass(20);
    assert_eq!(deleted(&mut cluster, waiting), (0, 2));
    assert_eq!(cluster.host(2).partition.log().start().0, 2);
    assert_eq!(cluster.consume(1), ["c"]);
}

/// Half a megabyte in 500 batches, which node 3 lacks and the others have.
fn leave_behind(settings: &[(&'static str, &'static str)], of_topic: &[(&'static str, &'static str)]) -> Cluster {
    let mut cluster = Cluster::with(3, settings);
    cluster.create(TOPIC, &[&[1, 2, 3]], of_topic);
    cluster.crash(3);
    cluster.pass(11_000);
    assert_eq!(cluster.in_sync(), [1, 2]);
    for n in 0..500 {
        // Who is in sync is not slowed down.
        cluster.produce(1, &[&format!("{n}-{}", "x".repeat(1000))]);
    }
    cluster.restart(3);
    cluster
}

/// KIP-73.
#[test]
fn a_leader_that_is_slowed_down_sends_so_much_a_second_to_who_is_not_in_sync() {
    let rate = [("leader.replication.throttled.rate", "100000")];
    let mut cluster = leave_behind(&rate, &[("leader.replication.throttled.replicas", "0:2,0:1")]);
    cluster.pass(2_000);
    let (end, _) = cluster.ends(3);
    assert!((150..300).contains(&end), "{end} batches of a kilobyte came in two seconds");
    cluster.pass(6_000);
    assert_eq!(cluster.in_sync(), [1, 2, 3]);
    cluster.produce(1, &["after"]);
    cluster.pass(20);
    cluster.expect_same();
}

#[test]
fn a_follower_that_is_slowed_down_acknowledges_when_what_it_took_is_paid_for() {
    let rate = [("follower.replication.throttled.rate", "100000")];
    let mut cluster = leave_behind(&rate, &[("follower.replication.throttled.replicas", "0:3")]);
    cluster.pass(4_000);
    assert_eq!(cluster.in_sync(), [1, 2]);
    cluster.pass(3_000);
    assert_eq!(cluster.in_sync(), [1, 2, 3]);
    cluster.produce(1, &["after"]);
    cluster.pass(20);
    cluster.expect_same();
}

#[test]
fn a_rate_slows_nobody_down_who_is_not_named() {
    let rates = [("leader.replication.throttled.rate", "10"), ("follower.replication.throttled.rate", "10")];
    let of_topic =
        [("leader.replication.throttled.replicas", "0:2"), ("follower.replication.throttled.replicas", "0:2,1:3")];
    let mut cluster = leave_behind(&rates, &of_topic);
    cluster.pass(1_000);
    assert_eq!(cluster.in_sync(), [1, 2, 3]);
}

#[test]
fn what_is_held_leaves_when_the_setting_goes() {
    let rates = [("leader.replication.throttled.rate", "0"), ("follower.replication.throttled.rate", "0")];
    let of_topic = [("leader.replication.throttled.replicas", "*"), ("follower.replication.throttled.replicas", "*")];
    let mut cluster = leave_behind(&rates, &of_topic);
    cluster.pass(20_000);
    assert_eq!(cluster.in_sync(), [1, 2]);
    let of = crate::controller::records::Resource::Topic(cluster.topics[TOPIC]);
    for (name, _) in of_topic {
        cluster.entry(vec![MetadataRecord::Config { of: of.clone(), name: name.into(), value: None }]);
    }
    cluster.pass(1_000);
    assert_eq!(cluster.in_sync(), [1, 2, 3]);
    cluster.expect_same();
}

#[test]
fn a_replica_that_comes_back_after_a_start_has_files_of_its_own() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    let id = cluster.partition(TOPIC, 0);
    let assign = |cluster: &mut Cluster, nodes: &[i32]| {
        let before = cluster.state(id);
        let replicas = nodes.iter().copied().map(NodeId).collect();
        let partition_epoch = before.partition_epoch + STEP;
        let state = PartitionState { replicas, isr: vec![NodeId(1)], partition_epoch, ..before };
        cluster.states.insert(id, state.clone());
        cluster.entry(vec![MetadataRecord::Partition { partition: id, state }]);
        cluster.pass(20);
    };
    assign(&mut cluster, &[1]);
    assign(&mut cluster, &[1, 2]);
    // Of these some go straight to a segment.
    for _ in 0..10 {
        cluster.produce(1, &["x".repeat(30_000).as_str()]);
        cluster.pass(20);
    }
    let before = cluster.host(2).partition.log().lineage();
    let has_files = |cluster: &mut Cluster| {
        let is_its = |name: FileName| matches!(name, FileName::Segment(name) if name.generation == before);
        cluster.rig(2).files.names().into_iter().any(is_its)
    };
    assert!(has_files(&mut cluster));
    assign(&mut cluster, &[1]);
    // No checkpoint that a start goes on from knows of it any more, and its files stay for a while.
    let checkpoints = cluster.rig(2).node.counters().checkpoints;
    for _ in 0..2 {
        cluster.rig(2).node.checkpoint_soon();
        cluster.rig(2).step(Input::Deadline);
        cluster.pass(20);
    }
    assert_eq!(cluster.rig(2).node.counters().checkpoints, checkpoints + 2);
    assert!(has_files(&mut cluster));
    cluster.crash(2);
    cluster.restart(2);
    assign(&mut cluster, &[1, 2]);
    assert!(cluster.host(2).partition.log().lineage() > before, "the old files are about to be removed");
    cluster.pass(1_000);
    cluster.expect_same();
}

/// Two nodes, the second of which has no room for the 800 kB that the first has written to a topic.
fn without_room() -> Cluster {
    let mut cluster = Cluster::new(2);
    cluster.create("other", &[&[1, 2]], &[]);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.rig(2).node.no_space = Some(FileName::Journal(0));
    let first = records(cluster.now.wall, &["first"]);
    cluster.rig(1).send("other", 0, 1, first);
    cluster.run();
    for _ in 0..8 {
        cluster.send(1, 1, &[&"v".repeat(100_000)]);
    }
    let bytes = cluster.rig(2).node.incoming_bytes();
    assert!((800_000..900_000).contains(&bytes), "{bytes} bytes wait");
    cluster
}

/// There is room again: what waited is taken, and replication goes on.
fn expect_all_taken(mut cluster: Cluster) {
    cluster.rig(2).node.no_space = None;
    cluster.pass(1_000);
    assert_eq!(cluster.rig(2).node.incoming_bytes(), 0);
    cluster.produce(1, &["after"]);
    cluster.pass(20);
    assert_eq!(cluster.ends(1), cluster.ends(2));
}

#[test]
fn what_a_follower_has_no_room_for_goes_with_the_connection_by_which_it_came() {
    let mut cluster = without_room();
    let bytes = cluster.rig(2).node.incoming_bytes();
    for _ in 0..10 {
        cluster.part(1, 2);
        cluster.connect(1, 2);
        cluster.run();
        let now = cluster.rig(2).node.incoming_bytes();
        assert!((800_000..=bytes).contains(&now), "{now} bytes wait, {bytes} before");
    }
    expect_all_taken(cluster);
}

#[test]
fn what_a_follower_has_no_room_for_is_bounded_whatever_begins_anew() {
    let mut cluster = without_room();
    for _ in 0..80 {
        cluster.elect(Some(1), &[1, 2]);
    }
    let bytes = cluster.rig(2).node.incoming_bytes();
    assert!((800_000..42 << 20).contains(&bytes), "{bytes} bytes wait");
    expect_all_taken(cluster);
}

#[test]
fn a_leader_that_was_placed_before_the_walk_of_its_registration_leads_on() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.produce(1, &["a"]);
    let broker = cluster.rig(1).node.controller.image().broker(NodeId(1)).expect("it is registered");
    let epoch = crate::ids::BrokerEpoch(broker.broker_epoch);
    // As where its entry comes first, and the walk only when the partition's entry has been applied.
    cluster.rig(1).node.registered(epoch);
    cluster.rig(1).step(Input::Deadline);
    cluster.pass(1_000);
    cluster.produce(1, &["b"]);
    cluster.pass(20);
    cluster.expect_same();
}
