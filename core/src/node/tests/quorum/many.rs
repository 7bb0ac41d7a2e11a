//! Changes of very many partitions are made some at a time, and are told of when all of it is done.

use super::*;

/// Several entries' worth of changed partitions, and several steps' worth of new ones.
const PARTITIONS: i32 = 1_000;

impl Cluster {
    /// Asks a node for a topic whose partitions are all on one node.
    fn ask_for_many(&mut self, node: i32, on: i32) -> u64 {
        let assignments = (0..PARTITIONS)
            .map(|partition_index| CreatableReplicaAssignment { partition_index, broker_ids: vec![on] })
            .collect();
        let topic = CreatableTopic {
            name: "many".into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..CreateTopicsRequest::default() };
        self.ask(node, 7, request.into())
    }

    /// Asks a node to have these partitions be on these nodes; nothing that it says is delivered yet.
    fn ask_to_move(&mut self, node: i32, partitions: impl Iterator<Item = i32>, to: &[i32]) -> u64 {
        let partitions = partitions
            .map(|partition_index| ReassignablePartition { partition_index, replicas: Some(to.to_vec()) })
            .collect();
        let topics = vec![ReassignableTopic { name: "many".into(), partitions }];
        let request =
            AlterPartitionReassignmentsRequest { topics, timeout_ms: 60_000, allow_replication_factor_change: true };
        let sequence = self.asked;
        self.asked += 1;
        let to = ReplyTo { conn: ConnId(1), sequence, version: 1, listener: ListenerId(0) };
        self.step(node, Input::Request { to, request: Request::Other(Box::new(request.into())) });
        sequence
    }

    /// Delivers the next messages, and no more.
    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let Some((from, to, message)) = self.said.pop_front() else { return };
            let process = self.node(from).metadata_process();
            for heard in by_connection(from, process, message) {
                self.step(to, Input::Peer(Box::new(heard)));
            }
        }
    }

    /// The error codes of the answer, if there is one, in the order of the request.
    fn moved(&mut self, node: i32, sequence: u64) -> Option<Vec<(i32, i16)>> {
        match self.broker(node).replies.remove(&sequence)? {
            Response::AlterPartitionReassignments(answer) => {
                let partitions = answer.responses[0].partitions.iter();
                Some(partitions.map(|partition| (partition.partition_index, partition.error_code)).collect())
            }
            other => panic!("another answer: {other:?}"),
        }
    }

    /// How many partitions two nodes hold, or are to hold, by what whoever decides has decided.
    fn doubled(&self, node: i32) -> usize {
        let image = self.node(node).leading().expect("it decides").image();
        let topic = image.topic_named::<str>("many").expect("it is there");
        topic.partitions.iter().filter(|state| state.replicas.len() == 2).count()
    }

    /// How many partitions of the topic a node knows of.
    fn known(&self, node: i32) -> usize {
        let topic = self.node(node).controller.image().topic_named::<str>("many");
        topic.map_or(0, |topic| topic.partitions.len())
    }
}

#[test]
fn very_many_partitions_move_in_small_entries_and_are_answered_in_order_when_all_is_decided() {
    let mut cluster = Cluster::running(3);
    let created = cluster.ask_for_many(1, 1);
    cluster.pass(1_000);
    assert_eq!(cluster.created(1, created), Some(0), "{}", cluster.lines);
    let controller = cluster.controller().expect("somebody decides");
    let before = cluster.node(controller).controller.image().index();
    // One that is named twice, and one that is not there.
    let sequence = cluster.ask_to_move(1, (0..PARTITIONS).chain([0, PARTITIONS]), &[1, 2]);
    cluster.pass(1_000);
    let told = cluster.moved(1, sequence).expect("an answer");
    let invalid = (0, ErrorCode::InvalidRequest.code());
    let unknown = (PARTITIONS, ErrorCode::UnknownTopicOrPartition.code());
    let expect: Vec<(i32, i16)> = (0..PARTITIONS).map(|index| (index, 0)).chain([invalid, unknown]).collect();
    assert_eq!(told, expect);
    let entries = cluster.node(controller).controller.image().index() - before;
    assert!(entries >= 20, "{entries} entries");
    cluster.pass(10_000);
    assert_eq!(cluster.doubled(controller), PARTITIONS as usize);
    cluster.agree();
}

#[test]
fn very_many_partitions_get_a_new_leader_without_waiting_for_a_tick_each_time() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    let gone = (1..=3).find(|node| *node != decides).expect("there are three");
    let created = cluster.ask_for_many(decides, gone);
    cluster.pass(1_000);
    assert_eq!(cluster.created(decides, created), Some(0), "{}", cluster.lines);
    let moved = cluster.ask_to_move(decides, 0..PARTITIONS, &[gone, decides]);
    cluster.pass(10_000);
    assert!(cluster.moved(decides, moved).is_some(), "{}", cluster.lines);
    cluster.kill(gone);
    cluster.miss(gone);
    // It is fenced in the first of these ticks, and their partitions fill twenty entries.
    cluster.pass(500);
    let image = cluster.node(decides).controller.image();
    let topic = image.topic_named::<str>("many").expect("it is there");
    let led = topic.partitions.iter().filter(|state| state.leader == Some(NodeId(decides))).count();
    assert_eq!(led, PARTITIONS as usize, "{}", cluster.lines);
}

#[test]
fn a_move_whose_controller_is_lost_halfway_is_ended_by_the_next() {
    let mut cluster = Cluster::running(3);
    let created = cluster.ask_for_many(1, 1);
    cluster.pass(1_000);
    assert_eq!(cluster.created(1, created), Some(0), "{}", cluster.lines);
    let old = cluster.controller().expect("somebody decides");
    // Else each commit would be a step.
    cluster.slow = Some(old);
    let sequence = cluster.ask_to_move(old, 0..PARTITIONS, &[1, 2]);
    (0..5).for_each(|_| cluster.step(old, Input::Deadline));
    cluster.deliver(10);
    let by_then = cluster.doubled(old);
    assert!((1..PARTITIONS as usize).contains(&by_then), "{by_then} are decided");
    cluster.cut_off(old);
    cluster.catch_up();
    cluster.pass(20_000);
    assert_eq!(cluster.moved(old, sequence), None, "{}", cluster.lines);
    let new = cluster.controller().expect("two of three elect another");
    assert!(cluster.doubled(new) < PARTITIONS as usize, "nobody has asked the next one");
    cluster.heal();
    cluster.pass(20_000);
    let told = cluster.moved(old, sequence).unwrap_or_else(|| panic!("no answer: {}", cluster.lines));
    assert_eq!(told, (0..PARTITIONS).map(|index| (index, 0)).collect::<Vec<_>>());
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!(cluster.doubled(cluster.controller().expect("somebody decides")), PARTITIONS as usize);
    cluster.agree();
}

#[test]
fn what_is_half_applied_is_told_of_by_nobody_and_in_no_snapshot() {
    let mut cluster = Cluster::running(3);
    let created = cluster.ask_for_many(1, 1);
    let mut halves = 0;
    for _ in 0..2_000 {
        for node in 1..=3 {
            if cluster.node(node).is_half_applied() {
                halves += 1;
                assert!((1..PARTITIONS as usize).contains(&cluster.known(node)), "a topic is never empty");
                let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
                let sequence = cluster.ask(node, 12, request.into());
                if let Some(answer) = cluster.broker(node).replies.remove(&sequence) {
                    let Response::Metadata(answer) = answer else { panic!("another answer") };
                    assert!(answer.topics.iter().all(|topic| topic.partitions.len() == PARTITIONS as usize));
                }
                let process = cluster.broker(node).node.as_mut().expect("it runs");
                process.checkpoint_soon();
                let before = process.checkpoints.is_running();
                cluster.step(node, Input::Deadline);
                let begins = !before && cluster.node(node).checkpoints.is_running();
                assert!(!begins || !cluster.node(node).is_half_applied(), "a snapshot is of a moment of the log");
            }
            cluster.step(node, Input::Deadline);
        }
        cluster.settle();
    }
    assert!(halves > 5, "{halves} were seen");
    cluster.pass(1_000);
    assert_eq!(cluster.created(1, created), Some(0), "{}", cluster.lines);
    cluster.agree();
    cluster.kill(2);
    cluster.start(2);
    cluster.pass(15_000);
    assert_eq!(cluster.known(2), PARTITIONS as usize);
    cluster.agree();
}

#[test]
fn what_is_decided_while_a_large_topic_is_learnt_waits_for_it() {
    let mut cluster = Cluster::running(3);
    let controller = cluster.controller().expect("somebody decides");
    let one = cluster.ask_for_many(controller, 1);
    let two = cluster.ask_to_create(controller, "many", 30_000);
    let three = cluster.ask_to_create(controller, "other", 30_000);
    cluster.pass(2_000);
    assert_eq!(cluster.created(controller, one), Some(0), "{}", cluster.lines);
    assert_eq!(cluster.created(controller, two), Some(ErrorCode::TopicAlreadyExists.code()));
    assert_eq!(cluster.created(controller, three), Some(0));
    let node = cluster.node(controller);
    assert_eq!(*node.leading().expect("it decides").image(), *node.controller.image());
}

#[test]
fn a_large_topic_of_a_controller_that_is_cut_off_is_made_by_the_next() {
    let mut cluster = Cluster::running(3);
    let old = cluster.controller().expect("somebody decides");
    cluster.cut_off(old);
    let sequence = cluster.ask_for_many(old, old % 3 + 1);
    cluster.pass(15_000);
    assert_eq!(cluster.created(old, sequence), None);
    let new = cluster.controller().expect("two of three elect another");
    assert_eq!(cluster.known(new), 0);
    cluster.heal();
    cluster.pass(20_000);
    assert_eq!(cluster.created(old, sequence), Some(0), "{}", cluster.lines);
    assert_eq!(cluster.known(new), PARTITIONS as usize);
    cluster.agree();
}
