//! Replaying records into the image, and its snapshot.

use chronik_core::controller::image::{Change, MetadataImage};
use chronik_core::controller::records::{Listener, MetadataRecord, PartitionState, Registration, Resource, Standing};
use chronik_core::ids::{LeaderEpoch, NodeId, ProducerId, TopicPartition, Uuid};
use chronik_core::wire::Str;

fn register(node_id: i32, broker_epoch: i64) -> MetadataRecord {
    MetadataRecord::RegisterBroker(Registration {
        node_id: NodeId(node_id),
        directory_id: Uuid([9; 16]),
        broker_epoch,
        listeners: vec![Listener { name: "PLAINTEXT".into(), host: "localhost".into(), port: 9092 }],
        rack: None,
        process: 0,
        peer_address: None,
        standing: Standing::Active,
    })
}

fn topic(id: u8, name: &str) -> MetadataRecord {
    MetadataRecord::Topic { id: Uuid([id; 16]), name: name.into() }
}

fn led_by(leader: i32) -> PartitionState {
    PartitionState { leader: Some(NodeId(leader)), ..PartitionState::new(vec![NodeId(1), NodeId(2)]) }
}

fn partition(id: u8, partition: i32) -> TopicPartition {
    TopicPartition { topic: Uuid([id; 16]), partition }
}

/// Two brokers, and a topic that each of them leads one partition of.
fn image() -> MetadataImage {
    let mut image = MetadataImage::default();
    let records = [
        MetadataRecord::FormatLevel { level: 1 },
        register(1, 1),
        register(2, 2),
        topic(5, "orders"),
        MetadataRecord::Partition { partition: partition(5, 0), state: led_by(1) },
        MetadataRecord::Partition { partition: partition(5, 1), state: led_by(2) },
    ];
    for (index, record) in (1..).zip(&records) {
        image.replay(index, record);
    }
    image.invariants();
    image
}

#[test]
fn a_new_process_leads_in_a_new_epoch_only_what_it_led() {
    let mut image = image();
    let changes = image.replay(7, &register(1, 3));
    let registered = Change::BrokerRegistered { node_id: NodeId(1), broker_epoch: 3 };
    assert_eq!(changes.as_slice(), [registered, Change::PartitionChanged(partition(5, 0))]);
    assert_eq!(image.partition(partition(5, 0)).map(|state| state.leader_epoch), Some(LeaderEpoch(1)));
    assert_eq!(image.partition(partition(5, 0)).map(|state| state.partition_epoch), Some(1));
    assert_eq!(image.partition(partition(5, 1)).map(|state| state.leader_epoch), Some(LeaderEpoch(0)));
    image.invariants();
}

#[test]
fn a_process_that_registers_again_keeps_its_epochs() {
    let mut image = image();
    let before = image.partition(partition(5, 0)).cloned();
    assert_eq!(image.replay(7, &register(1, 1)).len(), 1);
    assert_eq!(image.partition(partition(5, 0)).cloned(), before);
}

#[test]
fn a_topic_created_again_under_its_name_is_another_one() {
    let mut image = image();
    let config = |value: Option<&str>, id| MetadataRecord::Config {
        of: Resource::Topic(Uuid([id; 16])),
        name: "retention.ms".into(),
        value: value.map(Str::from),
    };
    image.replay(7, &config(Some("1"), 5));
    let removed = image.replay(8, &MetadataRecord::RemoveTopic { id: Uuid([5; 16]) });
    let expect = Change::TopicRemoved { id: Uuid([5; 16]), name: "orders".into(), partitions: 2 };
    assert_eq!(removed.as_slice(), [expect]);
    assert_eq!((image.topic_count(), image.partition_count()), (0, 0));
    image.replay(9, &topic(6, "orders"));
    let again = image.topic_named("orders").expect("it exists");
    assert_eq!((again.id, again.settings.len(), again.partitions.len()), (Uuid([6; 16]), 0, 0));
}

#[test]
fn names_that_differ_in_dots_and_underscores_are_alike() {
    let mut image = image();
    image.replay(7, &topic(6, "a.b_c"));
    assert_eq!(image.topic_like("a_b.c").map(|topic| topic.name.clone()), Some("a.b_c".into()));
    assert!(image.topic_named("a_b.c").is_none());
}

#[test]
fn topics_come_in_the_order_of_their_names() {
    let mut image = image();
    image.replay(7, &topic(1, "zebra"));
    image.replay(7, &topic(2, "apple"));
    let from = |name| image.topics_from(name).map(|topic| topic.name.to_string()).collect::<Vec<_>>();
    assert_eq!(from(""), ["apple", "orders", "zebra"]);
    assert_eq!(from("orders"), ["orders", "zebra"]);
    assert_eq!(from("zz"), [""; 0]);
}

#[test]
fn a_snapshot_rebuilds_the_image() {
    let mut image = image();
    let config = |of, value: Option<&str>| MetadataRecord::Config {
        of,
        name: "log.retention.ms".into(),
        value: value.map(Str::from),
    };
    image.replay(7, &config(Resource::Cluster, Some("1")));
    image.replay(8, &config(Resource::Broker(NodeId(2)), Some("2")));
    image.replay(9, &config(Resource::Broker(NodeId(1)), Some("3")));
    image.replay(10, &config(Resource::Broker(NodeId(1)), None));
    let granted = ProducerId(1000);
    image.replay(11, &MetadataRecord::ProducerIds { node_id: NodeId(1), broker_epoch: 1, next: granted });
    image.replay(12, &register(1, 3));
    let again = MetadataImage::decode_snapshot(12, &image.encode_snapshot()).expect("it was just encoded");
    assert_eq!(again, image);
    assert_eq!(again.next_broker_epoch(), 4);
}

#[test]
fn an_empty_image_has_an_empty_snapshot() {
    assert_eq!(MetadataImage::default().encode_snapshot(), []);
    assert_eq!(MetadataImage::decode_snapshot(0, &[]), Ok(MetadataImage::default()));
}

#[test]
#[should_panic(expected = "format level 3 is newer than this program's 2")]
fn a_log_of_a_newer_format_stops_the_node() {
    MetadataImage::default().replay(1, &MetadataRecord::FormatLevel { level: 3 });
}
