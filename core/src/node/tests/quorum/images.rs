//! Images of the metadata that go to who lacks too much of the log.

use super::*;
use crate::journal::RecordKind;

/// How many partitions there are that node 3 gets while it does not run.
const PARTITIONS: i32 = 160;

impl Cluster {
    /// Makes a topic with a replica of each partition on node 1.
    fn create_on_1(&mut self) {
        let assignments = (0..PARTITIONS)
            .map(|partition_index| CreatableReplicaAssignment { partition_index, broker_ids: vec![1] })
            .collect();
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..CreateTopicsRequest::default() };
        let Response::CreateTopics(answer) = self.answer(1, 7, request.into()) else { panic!("another answer") };
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    }

    /// The same, and has all of them go to node 3 too, which does not run. The log does not tell of it any more when this
    /// ends.
    fn move_to_3_behind_its_back(&mut self) {
        self.create_on_1();
        self.pass(500);
        self.kill(3);
        let partitions = (0..PARTITIONS)
            .map(|partition_index| ReassignablePartition { partition_index, replicas: Some(vec![1, 3]) })
            .collect();
        let topics = vec![ReassignableTopic { name: "t".into(), partitions }];
        let request =
            AlterPartitionReassignmentsRequest { topics, timeout_ms: 5_000, allow_replication_factor_change: true };
        let Response::AlterPartitionReassignments(answer) = self.answer(1, 1, request.into()) else {
            panic!("another answer")
        };
        assert!(answer.responses[0].partitions.iter().all(|one| one.error_code == 0), "{answer:?}");
        self.cut_the_log();
    }

    /// Starts node 3 and has it be sent an image, which it does not have on its disk when this ends.
    fn send_to_3(&mut self) {
        self.start(3);
        self.slow = Some(3);
        for _ in 0..500 {
            self.write_some();
            self.pass(10);
            if self.node(3).is_installing() {
                return;
            }
        }
        panic!("it is sent no image: {}", self.lines);
    }

    /// How many partitions node 3 holds.
    fn held_by_3(&self) -> usize {
        self.node(3).by_id.len()
    }
}

#[test]
fn an_image_that_is_not_durable_yet_is_in_no_checkpoint() {
    let mut cluster = Cluster::running(3);
    cluster.create(1, "early");
    cluster.add_after_the_log_was_cut(4);
    cluster.slow = Some(4);
    while !cluster.node(4).is_installing() {
        cluster.write_some();
        cluster.pass(10);
    }
    cluster.broker(4).node.as_mut().expect("it runs").checkpoint_soon();
    cluster.pass(200);
    cluster.catch_up();
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.kill(4);
    cluster.start(4);
    assert_eq!(cluster.topics(4), ["early"]);
}

#[test]
fn whoever_takes_office_decides_on_a_copy_of_what_it_knows() {
    let mut cluster = Cluster::running(3);
    cluster.create_on_1();
    let before = cluster.controller().expect("somebody decides");
    cluster.kill(before);
    cluster.pass(20_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    let node = cluster.node(cluster.controller().expect("another one decides"));
    let leading = node.leading().expect("it decides");
    assert_eq!(*leading.image(), *node.controller.image(), "all that was decided is applied");
    assert_eq!(leading.figures(), node.controller.figures());
}

#[test]
fn partitions_that_come_with_an_image_wait_for_room_in_the_journal() {
    let mut cluster = Cluster::running(3);
    cluster.move_to_3_behind_its_back();
    cluster.send_to_3();
    cluster.broker(3).files.set_full(true);
    // The journal fills up meanwhile, but for what a tick may need.
    let node = cluster.broker(3).node.as_mut().expect("it runs");
    let applied = node.controller.image().index().to_le_bytes();
    while node.journal.has_room(8 << 10, crate::journal::Class::Critical) {
        node.journal_metadata(RecordKind::Applied, &applied);
    }
    cluster.write_some();
    while cluster.node(3).is_installing() {
        cluster.step(3, Input::Deadline);
        cluster.write_some();
    }
    cluster.pass(500);
    assert!(cluster.held_by_3() < PARTITIONS as usize, "{}", cluster.lines);
    cluster.broker(3).files.set_full(false);
    cluster.catch_up();
    cluster.pass(15_000);
    assert_eq!(cluster.held_by_3(), PARTITIONS as usize, "{}", cluster.lines);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.kill(3);
    cluster.start(3);
    assert_eq!(cluster.held_by_3(), PARTITIONS as usize);
    cluster.pass(15_000);
    cluster.agree();
}

#[test]
fn a_part_of_an_image_whose_rest_a_crash_took_is_passed_over() {
    let mut cluster = Cluster::running(3);
    let node = cluster.broker(3).node.as_mut().expect("it runs");
    node.journal_metadata(RecordKind::Image, b"a part");
    node.journal_metadata(RecordKind::Image, b"another");
    cluster.step(3, Input::Deadline);
    cluster.pass(100);
    cluster.move_to_3_behind_its_back();
    cluster.send_to_3();
    cluster.catch_up();
    cluster.pass(100);
    assert_eq!(cluster.held_by_3(), PARTITIONS as usize, "{}", cluster.lines);
    cluster.kill(3);
    cluster.start(3);
    assert_eq!(cluster.held_by_3(), PARTITIONS as usize);
    cluster.pass(15_000);
    cluster.agree();
}
