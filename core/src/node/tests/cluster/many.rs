//! Many partitions share one connection.

use super::*;

const PARTITIONS: usize = 600;

#[test]
fn many_partitions_are_greeted_streamed_and_acknowledged_together() {
    let mut cluster = Cluster::new(2);
    let replicas: Vec<&[i32]> = vec![&[1, 2]; PARTITIONS];
    cluster.create(TOPIC, &replicas, &[]);
    let values: Vec<(i32, &str)> = (0..PARTITIONS as i32).map(|index| (index, "x")).collect();
    cluster.rig(2).hold = true;
    let sequence = cluster.rig(1).send_to_all(TOPIC, &values);
    cluster.run();
    assert!(cluster.rig(1).reply(sequence).is_none());
    cluster.rig(2).release();
    let acks: usize = cluster
        .rig(2)
        .said
        .as_ref()
        .expect("it is in a cluster")
        .iter()
        .map(|(_, message)| match message {
            Message::Acked(_) => 1,
            _ => 0,
        })
        .sum();
    assert!((1..=2).contains(&acks), "{acks} messages acknowledge what one commit made durable");
    cluster.run();
    assert!(cluster.rig(1).reply(sequence).is_some());
    cluster.pass(50);
    for index in 0..PARTITIONS as i32 {
        let id = cluster.partition(TOPIC, index);
        assert_eq!(cluster.host_of(2, id).partition.advanced().high_watermark.0, 1, "partition {index}");
    }
    // A connection that is new concerns all of them.
    cluster.isolate(2);
    let sequence = cluster.rig(1).send_to_all(TOPIC, &values);
    cluster.heal(2);
    assert!(cluster.rig(1).reply(sequence).is_some());
}
