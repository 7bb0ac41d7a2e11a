//! Nodes that come, grow up to voters, and go.

use super::*;

#[test]
fn a_new_node_becomes_a_learner_and_is_sent_what_the_log_no_longer_holds() {
    let mut cluster = Cluster::running(3);
    cluster.create(1, "early");
    cluster.add_after_the_log_was_cut(4);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!(cluster.topics(4), ["early"]);
    cluster.create(4, "late");
    cluster.kill(4);
    cluster.start(4);
    assert_eq!(cluster.topics(4), ["early", "late"], "what it was sent is in its journal");
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn members_come_and_go_and_a_folder_that_was_lost_is_replaced() {
    let mut cluster = Cluster::running(3);
    cluster.begin(4);
    cluster.pass(15_000);
    let voter_directory_id = cluster.brokers[&4].directory;
    let request = AddRaftVoterRequest { voter_id: 4, voter_directory_id, timeout_ms: 5_000, ..Default::default() };
    let Response::AddRaftVoter(answer) = cluster.answer(1, 1, request.into()) else { panic!("another answer") };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    assert_eq!(cluster.voters(2), [1, 2, 3, 4]);
    // Node 3 has lost its folder: it is taken out before it comes back with another.
    let voter_directory_id = cluster.brokers[&3].directory;
    cluster.wipe(3);
    cluster.pass(15_000);
    let request = RemoveRaftVoterRequest { voter_id: 3, voter_directory_id, ..Default::default() };
    let Response::RemoveRaftVoter(answer) = cluster.answer(4, 0, request.into()) else { panic!("another answer") };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let request = UnregisterBrokerRequest { broker_id: 3 };
    let Response::UnregisterBroker(answer) = cluster.answer(1, 0, request.into()) else { panic!("another answer") };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    cluster.pass(1_000);
    assert_eq!(cluster.voters(4), [1, 2, 4]);
    cluster.start(3);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn a_folder_whose_broker_is_registered_no_more_does_not_count_again() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    let gone = (1..=3).find(|node| *node != decides).expect("there are three");
    let voter_directory_id = cluster.brokers[&gone].directory;
    let request = RemoveRaftVoterRequest { voter_id: gone, voter_directory_id, ..Default::default() };
    let Response::RemoveRaftVoter(answer) = cluster.answer(decides, 0, request.into()) else {
        panic!("another answer")
    };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    cluster.wipe(gone);
    cluster.miss(gone);
    cluster.pass(200);
    // It is among those that follow as yet, and was caught up a moment ago.
    let request = UnregisterBrokerRequest { broker_id: gone };
    let unregistered = cluster.ask(decides, 0, request.into());
    cluster.settle();
    let Some(Response::UnregisterBroker(answer)) = cluster.broker(decides).replies.remove(&unregistered) else {
        panic!("no answer: {}", cluster.lines)
    };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let request = AddRaftVoterRequest { voter_id: gone, voter_directory_id, timeout_ms: 5_000, ..Default::default() };
    let added = cluster.ask(decides, 1, request.into());
    cluster.settle();
    let Some(Response::AddRaftVoter(answer)) = cluster.broker(decides).replies.remove(&added) else {
        panic!("no answer: {}", cluster.lines)
    };
    assert_eq!(answer.error_code, ErrorCode::RequestTimedOut.code(), "{:?}", answer.error_message);
    // It comes back with an empty folder.
    cluster.pass(1_000);
    cluster.start(gone);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn who_was_away_while_others_came_elects_them() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    let away = (1..=3).find(|node| *node != decides).expect("there are three");
    cluster.kill(away);
    for node in [4, 5] {
        cluster.begin(node);
        cluster.pass(3_000);
        let voter_directory_id = cluster.brokers[&node].directory;
        let request =
            AddRaftVoterRequest { voter_id: node, voter_directory_id, timeout_ms: 5_000, ..Default::default() };
        let Response::AddRaftVoter(answer) = cluster.answer(decides, 1, request.into()) else {
            panic!("another answer")
        };
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    }
    // Three of five are there, and one of them has never heard of the other two.
    (1..=3).filter(|node| *node != away).for_each(|node| cluster.kill(node));
    cluster.start(away);
    cluster.pass(30_000);
    assert!(cluster.controller().is_some_and(|node| node > 3), "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn who_is_taken_out_while_it_stops_is_not_registered_again() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    let gone = (1..=3).find(|node| *node != decides).expect("there are three");
    cluster.cut_off(gone);
    // Whoever decides takes it for dead before it is asked to stop.
    cluster.pass(10_000);
    cluster.step(gone, Input::Stop);
    let voter_directory_id = cluster.brokers[&gone].directory;
    let request = RemoveRaftVoterRequest { voter_id: gone, voter_directory_id, ..Default::default() };
    let Response::RemoveRaftVoter(answer) = cluster.answer(decides, 0, request.into()) else {
        panic!("another answer")
    };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let request = UnregisterBrokerRequest { broker_id: gone };
    let Response::UnregisterBroker(answer) = cluster.answer(decides, 0, request.into()) else {
        panic!("another answer")
    };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    assert!(!cluster.brokers[&gone].stopped, "it waits for an answer");
    let registered = format!("node {gone} has registered");
    let before = cluster.lines.matches(&registered).count();
    cluster.heal();
    cluster.pass(12_000);
    assert!(cluster.brokers[&gone].stopped);
    let image = cluster.node(decides).controller.image();
    assert!(image.broker(NodeId(gone)).is_none(), "{}", cluster.lines);
    assert_eq!(cluster.lines.matches(&registered).count(), before, "{}", cluster.lines);
}

#[test]
fn who_begins_again_while_it_joins_remembers_what_it_promised() {
    let mut cluster = Cluster::running(3);
    cluster.slow = Some(4);
    cluster.begin(4);
    // The term is on its disk, and nothing of the log.
    let promised = loop {
        cluster.pass(10);
        cluster.write_some();
        let quorum = &cluster.node(4).metadata.quorum();
        assert!(quorum.membership().voters().is_empty(), "the log has come as well");
        if quorum.vote().term > 0 {
            cluster.write_some();
            break quorum_term(&cluster, 4);
        }
    };
    cluster.unwritten.clear();
    cluster.kill(4);
    cluster.start(4);
    for _ in 0..20 {
        assert_eq!(quorum_term(&cluster, 4), promised, "{}", cluster.lines);
        cluster.pass(10);
    }
    cluster.catch_up();
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
}

fn quorum_term(cluster: &Cluster, node: i32) -> u64 {
    cluster.node(node).metadata.quorum().term()
}

#[test]
fn a_voter_that_is_taken_out_may_go_when_that_is_told() {
    let mut cluster = Cluster::running(2);
    let leader = cluster.controller().expect("somebody decides");
    let other = 3 - leader;
    cluster.slow = Some(other);
    let voter_directory_id = cluster.brokers[&other].directory;
    let request = RemoveRaftVoterRequest { voter_id: other, voter_directory_id, ..Default::default() };
    let sequence = cluster.ask(leader, 0, request.into());
    while !cluster.broker(leader).replies.contains_key(&sequence) {
        cluster.write_some();
        cluster.pass(10);
    }
    cluster.slow = None;
    cluster.unwritten.clear();
    cluster.kill(other);
    cluster.pass(15_000);
    assert_eq!(cluster.controller(), Some(leader), "{}", cluster.lines);
}

#[test]
fn two_processes_of_one_node_are_told_once() {
    let mut cluster = Cluster::running(3);
    let hello = cluster.brokers[&3].neighbours.as_ref().expect("it runs").me.clone();
    for process in [7, 8, 7, 8, 7, 8, 7, 8] {
        cluster.step(1, Input::Peer(Box::new(PeerInput::Arrived(peer::Hello { process, ..hello.clone() }))));
    }
    assert_eq!(cluster.lines.matches("two processes run as node 3").count(), 1, "{}", cluster.lines);
}

#[test]
fn a_new_node_finds_who_decides_by_any_other_node() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    let known = (1..=3).find(|node| *node != decides).expect("there are three");
    cluster.told_of.insert(4, BTreeSet::from([known]));
    cluster.begin(4);
    cluster.pass(3_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    // Afterwards everybody has it from the metadata alone.
    for node in 1..=4 {
        assert!(cluster.node(node).metadata.introduced.is_empty(), "node {node}");
    }
}

#[test]
fn a_cluster_of_one_grows() {
    let mut cluster = Cluster::of(1);
    cluster.start(1);
    cluster.pass(1_000);
    cluster.create(1, "t");
    cluster.begin(2);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!(cluster.topics(2), ["t"]);
}

#[test]
fn the_first_node_begins_again_that_has_just_taken_in_another() {
    let mut cluster = Cluster::of(1);
    cluster.start(1);
    cluster.pass(1_000);
    let register = peer::Register {
        node_id: NodeId(2),
        directory_id: Uuid([2; 16]),
        process: 1,
        broker_epoch: BrokerEpoch(-1),
        listeners: vec![peer::Address { name: "PLAINTEXT".into(), host: "node2".into(), port: 9092 }],
        rack: None,
        peer_host: "node2".into(),
        peer_port: 9093,
    };
    let message = peer::Message::Register(register);
    cluster.step(1, Input::Peer(Box::new(PeerInput::Heard { from: NodeId(2), process: 1, message })));
    cluster.kill(1);
    cluster.start(1);
    cluster.pass(15_000);
    assert_eq!(cluster.controller(), Some(1), "{}", cluster.lines);
    let alone = NodeOptions { cluster: None, ..cluster.options(1) };
    let found = Node::recover(alone, &cluster.brokers[&1].files, [9; 32], cluster.now);
    assert!(found.is_err(), "it is nothing without the others");
}

#[test]
fn a_replica_that_comes_with_the_entry_after_its_topic_survives_a_restart() {
    let mut cluster = Cluster::running(3);
    let leader = cluster.controller().expect("somebody decides");
    let away = (1..=3).find(|node| *node != leader).expect("two follow");
    cluster.kill(away);
    let stay: Vec<i32> = (1..=3).filter(|node| *node != away).collect();
    let assigned = CreatableReplicaAssignment { partition_index: 0, broker_ids: stay.clone() };
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![assigned],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    let Response::CreateTopics(answer) = cluster.answer(leader, 7, request.into()) else { panic!("another answer") };
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    let replicas = Some(vec![stay[0], stay[1], away]);
    let partitions = vec![ReassignablePartition { partition_index: 0, replicas }];
    let topics = vec![ReassignableTopic { name: "t".into(), partitions }];
    let request = AlterPartitionReassignmentsRequest { topics, timeout_ms: 30_000, ..Default::default() };
    let answer = cluster.answer(leader, 0, request.into());
    let Response::AlterPartitionReassignments(answer) = answer else { panic!("another answer") };
    assert_eq!(answer.responses[0].partitions[0].error_code, 0, "{answer:?}");
    cluster.start(away);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.produce(stay[0], "t");
    cluster.pass(1_000);
    cluster.kill(away);
    cluster.start(away);
    assert_eq!(cluster.node(away).damaged, BTreeSet::new());
}

#[test]
fn a_node_that_was_moved_is_found_where_the_command_line_says_or_where_it_says_itself() {
    let mut cluster = Cluster::running(3);
    let looked_for = |cluster: &Cluster, node: i32| {
        let neighbours = cluster.brokers[&node].neighbours.as_ref().expect("it has peers");
        neighbours.peers[&NodeId(2)].host.to_string()
    };
    (1..=3).for_each(|node| cluster.kill(node));
    cluster.moved.insert(2, "elsewhere");
    cluster.start(1);
    cluster.pass(100);
    assert_eq!(looked_for(&cluster, 1), "elsewhere", "the metadata know only where it was");
    cluster.pass(3_500);
    assert_eq!(looked_for(&cluster, 1), "node2", "it may have come back there");
    cluster.pass(3_000);
    assert_eq!(looked_for(&cluster, 1), "elsewhere");
    cluster.moved.clear();
    cluster.start(3);
    cluster.moved.insert(2, "elsewhere");
    cluster.start(2);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!(looked_for(&cluster, 3), "elsewhere", "it has registered from there, whatever the command line says");
}

/// A leader sends nothing to who is no member, so only by asking can it find out.
#[test]
fn a_node_that_was_taken_out_while_it_was_cut_off_notices_when_it_is_back() {
    let mut cluster = Cluster::running(4);
    let away = (1..=4).find(|node| Some(*node) != cluster.controller()).expect("three follow");
    cluster.cut_off(away);
    cluster.pass(15_000);
    let asked = cluster.controller().expect("somebody decides");
    let voter_directory_id = cluster.brokers[&away].directory;
    let request = RemoveRaftVoterRequest { voter_id: away, voter_directory_id, ..Default::default() };
    let Response::RemoveRaftVoter(answer) = cluster.answer(asked, 0, request.into()) else { panic!("another answer") };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let request = UnregisterBrokerRequest { broker_id: away };
    let Response::UnregisterBroker(answer) = cluster.answer(asked, 0, request.into()) else { panic!("another answer") };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    cluster.create(asked, "meanwhile");
    cluster.heal();
    cluster.pass(30_000);
    assert_eq!(cluster.topics(away), ["meanwhile"], "{}", cluster.lines);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn what_a_process_asked_that_was_stopped_since_does_not_bring_it_back() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    let gone = (1..=3).find(|node| *node != decides).expect("there are three");
    let asked = peer::Register {
        node_id: NodeId(gone),
        directory_id: cluster.brokers[&gone].directory,
        process: cluster.node(gone).metadata_process(),
        broker_epoch: cluster.node(gone).broker_epoch().expect("it is registered"),
        listeners: vec![peer::Address { name: "PLAINTEXT".into(), host: "gone".into(), port: 9092 }],
        rack: None,
        peer_host: "gone".into(),
        peer_port: 9093,
    };
    let process = asked.process;
    let message = peer::Message::Register(asked);
    cluster.kill(gone);
    take_out(&mut cluster, decides, gone);
    let late = PeerInput::Heard { from: NodeId(gone), process, message };
    cluster.step(decides, Input::Peer(Box::new(late)));
    cluster.pass(3_000);
    let image = cluster.node(decides).controller.image();
    assert!(image.broker(NodeId(gone)).is_none(), "{}", cluster.lines);
    assert!(!cluster.lines.contains(&format!("node {gone} follows the metadata log")), "{}", cluster.lines);
}

#[test]
fn who_begins_again_says_as_what_its_broker_was_registered() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    let again = (1..=3).find(|node| *node != decides).expect("there are three");
    let before = cluster.node(again).broker_epoch().expect("it is registered");
    cluster.kill(again);
    cluster.registers.clear();
    cluster.start(again);
    cluster.pass(3_000);
    assert_eq!(cluster.registers.first(), Some(&(again, before)));
    assert!(cluster.node(again).broker_epoch().is_some_and(|epoch| epoch > before), "{}", cluster.lines);
}

/// As `remove-node` does it.
fn take_out(cluster: &mut Cluster, decides: i32, gone: i32) {
    let voter_directory_id = cluster.brokers[&gone].directory;
    let request = RemoveRaftVoterRequest { voter_id: gone, voter_directory_id, ..Default::default() };
    let Response::RemoveRaftVoter(answer) = cluster.answer(decides, 0, request.into()) else {
        panic!("another answer")
    };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    cluster.pass(12_000);
    let request = UnregisterBrokerRequest { broker_id: gone };
    let Response::UnregisterBroker(answer) = cluster.answer(decides, 0, request.into()) else {
        panic!("another answer")
    };
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
}
