//! Leaders come and go: nothing that was acknowledged by all is lost, and logs are the same again.

use super::*;

#[test]
fn what_a_deposed_leader_wrote_alone_is_cut_and_what_all_acknowledged_stays() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.produce(1, &["kept"]);
    cluster.isolate(1);
    let alone = cluster.send(1, 1, &["alone"]);
    assert_eq!(cluster.code(1, alone), Some(0), "one disk is what the client asked for");
    let waiting = cluster.send(1, -1, &["never"]);
    cluster.elect(Some(2), &[2, 3]);
    cluster.produce(2, &["next"]);
    cluster.heal(1);
    assert_eq!(cluster.code(1, waiting), Some(ErrorCode::NotLeaderOrFollower.code()));
    cluster.pass(1000);
    assert_eq!(cluster.in_sync(), [2, 1, 3]);
    assert_eq!(cluster.consume(2), ["kept", "next"]);
    cluster.expect_same();
}

#[test]
fn elections_without_writes_and_back_again_leave_one_history() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.produce(1, &["a"]);
    for leader in [2, 3, 1, 3, 2] {
        cluster.elect(Some(leader), &[1, 2, 3]);
    }
    cluster.produce(2, &["b"]);
    cluster.elect(None, &[2]);
    let refused = cluster.send(2, -1, &["nobody leads"]);
    assert_eq!(cluster.code(2, refused), Some(ErrorCode::NotLeaderOrFollower.code()));
    cluster.elect(Some(2), &[2]);
    cluster.produce(2, &["c"]);
    cluster.pass(1000);
    assert_eq!(cluster.consume(2), ["a", "b", "c"]);
    cluster.expect_same();
}

#[test]
fn a_leader_that_lost_its_tail_to_a_crash_takes_nothing_back_that_was_acknowledged() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.produce(1, &["acknowledged"]);
    cluster.rig(1).hold = true;
    let waiting = cluster.send(1, -1, &["on the followers alone"]);
    assert_eq!(cluster.code(1, waiting), None);
    assert_eq!(cluster.ends(2).0, 2);
    cluster.crash(1);
    // It is still the leader, in a newer epoch, of a log that is shorter than its followers'.
    cluster.restart(1);
    cluster.pass(1000);
    cluster.produce(1, &["another"]);
    cluster.pass(1000);
    assert_eq!(cluster.consume(1), ["acknowledged", "another"]);
    cluster.expect_same();
}

#[test]
fn all_crash_at_once_and_what_was_acknowledged_is_there() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    for n in 0..50 {
        cluster.produce(1, &[&n.to_string()]);
    }
    for node in 1..=3 {
        cluster.crash(node);
    }
    for node in [3, 2, 1] {
        cluster.restart(node);
    }
    cluster.pass(2000);
    let values: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(cluster.consume(1), values);
    cluster.produce(1, &["next"]);
    cluster.pass(20);
    cluster.expect_same();
}

#[test]
fn a_new_leader_tells_no_end_before_it_knows_it() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.produce(1, &["a"]);
    cluster.produce(1, &["b"]);
    // The high watermark of 2 has not been heard of yet.
    cluster.isolate(1);
    cluster.elect(Some(2), &[1, 2]);
    let ask = |cluster: &mut Cluster, version, timestamp| {
        let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: TOPIC.into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        match cluster.rig(2).answer(version, request.into()) {
            Response::ListOffsets(response) => {
                let found = &response.topics[0].partitions[0];
                (found.error_code, found.offset)
            }
            other => panic!("another answer: {other:?}"),
        }
    };
    for (version, code) in [(7, ErrorCode::OffsetNotAvailable), (4, ErrorCode::LeaderNotAvailable)] {
        assert_eq!(ask(&mut cluster, version, -1), (code.code(), -1), "the end");
        assert_eq!(ask(&mut cluster, version, -2), (code.code(), -1), "the start, which the other may have moved");
    }
    assert_eq!(ask(&mut cluster, 7, -3), (ErrorCode::OffsetNotAvailable.code(), -1), "the newest record");
    cluster.heal(1);
    assert_eq!(ask(&mut cluster, 7, -3), (0, 0), "the first of two that are as new");
    assert_eq!(ask(&mut cluster, 7, -1), (0, 2));
    assert_eq!(ask(&mut cluster, 7, -2), (0, 0));
}

#[test]
fn a_log_whose_leader_keeps_nothing_of_what_it_has_begins_anew() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[("retention.bytes", "1"), ("segment.bytes", "1048576")]);
    cluster.produce(1, &["a"]);
    cluster.crash(2);
    cluster.pass(11_000);
    assert_eq!(cluster.in_sync(), [1]);
    let large = "x".repeat(15_000);
    for _ in 0..200 {
        cluster.produce(1, &[&large]);
        cluster.pass(10);
    }
    cluster.pass(301_000);
    let start = cluster.host(1).partition.log().start().0;
    assert!(start > 1, "retention has moved the start");
    cluster.restart(2);
    cluster.pass(5_000);
    assert!(cluster.host(2).partition.log().start().0 >= start);
    assert_eq!(cluster.in_sync(), [1, 2]);
    cluster.produce(1, &["z"]);
    cluster.pass(20);
    assert_eq!(cluster.ends(1), cluster.ends(2));
}

/// Who leads next has perhaps not deleted it, so nobody would be told that it is gone.
#[test]
fn retention_takes_nothing_below_the_minimum() {
    let mut cluster = Cluster::new(3);
    let configs = [("retention.bytes", "1"), ("segment.bytes", "1048576"), ("min.insync.replicas", "2")];
    cluster.create(TOPIC, &[&[1, 2, 3]], &configs);
    let large = "x".repeat(15_000);
    for _ in 0..200 {
        cluster.produce(1, &[&large]);
    }
    cluster.crash(2);
    cluster.crash(3);
    cluster.pass(301_000);
    assert_eq!(cluster.in_sync(), [1]);
    let starts = |cluster: &mut Cluster| {
        let partition = &cluster.host(1).partition;
        (partition.log().start().0, partition.advanced().start.map(|start| start.0))
    };
    assert_eq!(starts(&mut cluster), (0, Some(0)));
    cluster.restart(2);
    cluster.pass(301_000);
    let (start, shown) = starts(&mut cluster);
    assert!(start > 1, "retention has moved the start");
    assert_eq!(shown, Some(start));
}

/// The state that a reassignment comes to.
fn move_to(cluster: &mut Cluster, replicas: &[i32], isr: &[i32]) {
    let id = cluster.partition(TOPIC, 0);
    let before = cluster.state(id);
    let nodes = |numbers: &[i32]| numbers.iter().copied().map(NodeId).collect::<Vec<_>>();
    let state = PartitionState {
        replicas: nodes(replicas),
        isr: nodes(isr),
        partition_epoch: before.partition_epoch + STEP,
        ..before
    };
    cluster.states.insert(id, state.clone());
    cluster.entry(vec![MetadataRecord::Partition { partition: id, state }]);
}

#[test]
fn a_replica_that_moves_away_and_back_has_its_leaders_log_and_nothing_of_its_own() {
    let mut cluster = Cluster::with(3, &[("log.segment.delete.delay.ms", "60000")]);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    for n in 0..20 {
        cluster.produce(1, &[&format!("{n}-{}", "x".repeat(1000))]);
    }
    let id = cluster.partition(TOPIC, 0);
    move_to(&mut cluster, &[1, 3], &[1]);
    cluster.pass(1000);
    assert!(!cluster.rig(2).node.by_id.contains_key(&id));
    assert_eq!(cluster.in_sync(), [1, 3]);
    cluster.produce(1, &["only there"]);
    move_to(&mut cluster, &[1, 2, 3], &[1, 3]);
    cluster.pass(1000);
    cluster.produce(1, &["everywhere"]);
    // What was to be removed by now must not take anything new along.
    cluster.pass(120_000);
    cluster.expect_same();
    cluster.crash(2);
    cluster.restart(2);
    cluster.pass(1000);
    cluster.produce(1, &["after"]);
    cluster.pass(20);
    cluster.expect_same();
}

#[test]
fn a_replica_that_moves_away_and_back_again_and_again_is_whole_after_a_crash() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.produce(1, &["a"]);
    for _ in 0..2 {
        move_to(&mut cluster, &[1, 3], &[1]);
        cluster.pass(1000);
        move_to(&mut cluster, &[1, 2, 3], &[1, 3]);
        cluster.pass(1000);
    }
    cluster.produce(1, &["b"]);
    cluster.crash(2);
    cluster.restart(2);
    assert_eq!(cluster.host(2).partition.damage(), None);
    cluster.pass(1000);
    cluster.produce(1, &["c"]);
    cluster.pass(20);
    cluster.expect_same();
}

#[test]
fn a_replica_that_restarts_while_it_is_away_is_whole_when_it_comes_back() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    move_to(&mut cluster, &[1, 3], &[1]);
    move_to(&mut cluster, &[1, 2, 3], &[1, 3]);
    cluster.pass(1000);
    move_to(&mut cluster, &[1, 3], &[1]);
    cluster.pass(1000);
    cluster.crash(2);
    cluster.restart(2);
    move_to(&mut cluster, &[1, 2, 3], &[1, 3]);
    cluster.pass(1000);
    cluster.produce(1, &["a"]);
    cluster.crash(2);
    cluster.restart(2);
    assert_eq!(cluster.host(2).partition.damage(), None);
    cluster.pass(1000);
    cluster.produce(1, &["b"]);
    cluster.pass(20);
    cluster.expect_same();
}

#[test]
fn what_the_disk_does_for_a_replica_that_has_left_is_not_done_for_the_one_that_comes_back() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.rig(2).hold_tasks = true;
    for n in 0..100 {
        cluster.produce(1, &[&format!("{n}-{}", "x".repeat(1000))]);
    }
    assert!(cluster.host(2).partition.log().is_flushing());
    move_to(&mut cluster, &[1, 3], &[1]);
    move_to(&mut cluster, &[1, 2, 3], &[1, 3]);
    cluster.rig(2).hold_tasks = false;
    while let Some(done) = cluster.rig(2).held_tasks.pop_front() {
        cluster.rig(2).step(Input::Disk(done));
    }
    cluster.pass(1000);
    cluster.produce(1, &["after"]);
    cluster.pass(20);
    cluster.expect_same();
}

#[test]
fn a_broker_that_is_forgotten_and_comes_again_is_followed_by_whoever_leads() {
    let mut cluster = Cluster::new(3);
    cluster.create(TOPIC, &[&[1, 2, 3]], &[]);
    cluster.produce(1, &["a"]);
    cluster.crash(3);
    cluster.elect(Some(1), &[1, 2]);
    cluster.entry(vec![MetadataRecord::RemoveBroker { node_id: NodeId(3) }]);
    // Whoever leads now has never known it.
    cluster.elect(Some(2), &[1, 2]);
    cluster.produce(2, &["b"]);
    cluster.restart(3);
    cluster.pass(1000);
    assert_eq!(cluster.in_sync(), [2, 1, 3]);
    cluster.expect_same();
}

#[test]
fn without_a_controller_nobody_leaves_the_set_and_leaders_do_not_ask_on_and_on() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.rig(1).node.follow_controller(None);
    cluster.crash(2);
    let waiting = cluster.send(1, 1, &["a"]);
    assert_eq!(cluster.code(1, waiting), Some(0));
    cluster.pass(20_000);
    assert_eq!(cluster.in_sync(), [1, 2]);
    cluster.rig(1).node.follow_controller(Some((CONTROLLER, TERM)));
    cluster.run();
    cluster.pass(20);
    assert_eq!(cluster.in_sync(), [1]);
    assert_eq!(cluster.consume(1), ["a"]);
}

/// How many deadlines a node has reached, of whatever kind.
fn deadlines(cluster: &mut Cluster, node: i32) -> usize {
    cluster.rig(node).lines.iter().filter(|line| line.contains("a deadline has come")).count()
}

#[test]
fn a_leader_that_waits_for_a_controller_sleeps_whether_it_has_asked_the_one_before_or_not() {
    for has_asked in [false, true] {
        let mut cluster = Cluster::new(2);
        cluster.create(TOPIC, &[&[1, 2]], &[]);
        cluster.decides = false;
        let follow = |cluster: &mut Cluster, controller| cluster.rig(1).node.follow_controller(controller);
        cluster.crash(2);
        cluster.send(1, 1, &["a"]);
        if has_asked {
            cluster.pass(11_000);
            follow(&mut cluster, None);
        } else {
            follow(&mut cluster, None);
            cluster.pass(11_000);
        }
        cluster.pass(5_000);
        let before = deadlines(&mut cluster, 1);
        cluster.pass(1_000);
        let count = deadlines(&mut cluster, 1) - before;
        assert!(count < 20, "{count} deadlines in a second in which nothing happens");
        // What has nothing to do with a controller goes on.
        cluster.restart(2);
        cluster.pass(1_000);
        assert_eq!(cluster.ends(2).0, 1);
        cluster.crash(2);
        cluster.send(1, 1, &["b"]);
        cluster.pass(11_000);
        cluster.decides = true;
        follow(&mut cluster, Some((CONTROLLER, TERM)));
        cluster.pass(20);
        assert_eq!(cluster.in_sync(), [1]);
    }
}

#[test]
fn a_proposal_that_is_lost_is_made_again() {
    let mut cluster = Cluster::new(2);
    cluster.create(TOPIC, &[&[1, 2]], &[]);
    cluster.decides = false;
    cluster.crash(2);
    cluster.send(1, 1, &["a"]);
    cluster.pass(11_000);
    assert_eq!(cluster.in_sync(), [1, 2]);
    cluster.decides = true;
    cluster.pass(2_000);
    assert_eq!(cluster.in_sync(), [1]);
}
