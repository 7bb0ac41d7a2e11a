//! The bytes of the metadata log: golden for every kind and version, and total to decode.

use chronik_core::controller::records::{
    Listener, MetadataRecord, PartitionState, PeerAddress, Registration, Resource, Standing, decode_entry, encode_entry,
};
use chronik_core::ids::{LeaderEpoch, NodeId, ProducerId, TopicPartition, Uuid};
use proptest::prelude::*;

fn id(last: u8) -> Uuid {
    Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, last])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a released version never change: a data folder holds them.
#[track_caller]
fn golden(record: &MetadataRecord, expect: &str) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    assert_eq!(hex(&bytes), expect.replace(' ', ""));
    assert_eq!(MetadataRecord::decode(&bytes).as_ref(), Ok(record));
    // Decoding is total: every cut is an error, and so is a byte too many.
    for cut in 0..bytes.len() {
        assert!(MetadataRecord::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    bytes.push(0);
    assert!(MetadataRecord::decode(&bytes).is_err());
}

#[test]
fn format_level_version_0() {
    golden(&MetadataRecord::FormatLevel { level: 1 }, "01 00 0001");
}

#[test]
fn register_broker() {
    let mut registration = Registration {
        node_id: NodeId(1),
        directory_id: id(15),
        broker_epoch: 7,
        listeners: vec![Listener { name: "PLAIN".into(), host: "kafka".into(), port: 9092 }],
        rack: Some("a".into()),
        process: 0,
        peer_address: None,
        standing: Standing::Active,
    };
    let version_0 = "00000001 000102030405060708090a0b0c0d0e0f 0000000000000007 \
                     00000001 00000005504c41494e 000000056b61666b61 2384 01 0000000161";
    golden(&MetadataRecord::RegisterBroker(registration.clone()), &format!("02 00 {version_0}"));
    registration.standing = Standing::ShuttingDown;
    golden(&MetadataRecord::RegisterBroker(registration.clone()), &format!("02 01 {version_0} 0000000000000000 00 02"));
    registration.process = 9;
    registration.peer_address = Some(PeerAddress { host: "k".into(), port: 9093 });
    registration.standing = Standing::Fenced;
    golden(
        &MetadataRecord::RegisterBroker(registration),
        &format!("02 01 {version_0} 0000000000000009 01 000000016b 2385 01"),
    );
}

#[test]
fn topic_version_0() {
    let record = MetadataRecord::Topic { id: id(15), name: "orders".into() };
    golden(&record, "03 00 000102030405060708090a0b0c0d0e0f 000000066f7264657273");
}

#[test]
fn partition() {
    let mut state = PartitionState {
        isr: vec![NodeId(2)],
        leader: Some(NodeId(2)),
        leader_epoch: LeaderEpoch(3),
        partition_epoch: 4,
        ..PartitionState::new(vec![NodeId(1), NodeId(2)])
    };
    let partition = TopicPartition { topic: id(15), partition: 5 };
    golden(
        &MetadataRecord::Partition { partition, state: state.clone() },
        "04 00 000102030405060708090a0b0c0d0e0f 00000005 00000002 00000001 00000002 00000001 00000002 \
         00000002 00000003 00000004",
    );
    state.leader = None;
    let version_0 = "000102030405060708090a0b0c0d0e0f 00000005 00000002 00000001 00000002 00000001 00000002 \
                     ffffffff 00000003 00000004";
    golden(&MetadataRecord::Partition { partition, state: state.clone() }, &format!("04 00 {version_0}"));
    state.eligible = vec![NodeId(1)];
    golden(
        &MetadataRecord::Partition { partition, state: state.clone() },
        &format!("04 01 {version_0} 00000000 00000000 00000001 00000001 00"),
    );
    state.adding = vec![NodeId(2)];
    state.removing = vec![NodeId(1)];
    state.unclean_epoch = Some(LeaderEpoch(2));
    golden(
        &MetadataRecord::Partition { partition, state },
        &format!("04 01 {version_0} 00000001 00000002 00000001 00000001 00000001 00000001 01 00000002"),
    );
}

#[test]
fn remove_topic_version_0() {
    golden(&MetadataRecord::RemoveTopic { id: id(15) }, "05 00 000102030405060708090a0b0c0d0e0f");
}

#[test]
fn config_version_0() {
    let record = |of, value| MetadataRecord::Config { of, name: "k".into(), value };
    golden(&record(Resource::Cluster, None), "06 00 00 000000016b 00");
    golden(&record(Resource::Broker(NodeId(1)), Some("v".into())), "06 00 01 00000001 000000016b 01 0000000176");
    golden(
        &record(Resource::Topic(id(15)), Some("".into())),
        "06 00 02 000102030405060708090a0b0c0d0e0f 000000016b 01 00000000",
    );
}

#[test]
fn producer_ids_version_0() {
    let record = MetadataRecord::ProducerIds { node_id: NodeId(1), broker_epoch: 2, next: ProducerId(1000) };
    golden(&record, "07 00 00000001 0000000000000002 00000000000003e8");
}

#[test]
fn what_a_cluster_adds_version_0() {
    let (node_id, broker_epoch) = (NodeId(1), 2);
    golden(&MetadataRecord::ClusterId { id: "c".into() }, "08 00 0000000163");
    golden(&MetadataRecord::FenceBroker { node_id, broker_epoch }, "09 00 00000001 0000000000000002");
    golden(&MetadataRecord::UnfenceBroker { node_id, broker_epoch }, "0a 00 00000001 0000000000000002");
    golden(&MetadataRecord::BeginShutdown { node_id, broker_epoch }, "0b 00 00000001 0000000000000002");
    golden(&MetadataRecord::RemoveBroker { node_id }, "0c 00 00000001");
    golden(&MetadataRecord::BrokerEpochs { last: 2 }, "0d 00 0000000000000002");
    golden(&MetadataRecord::ForgetEligible { topic: None }, "0e 00 00");
    golden(
        &MetadataRecord::CreatedWith { topic: id(15), replication_factor: 3 },
        "0f 00 000102030405060708090a0b0c0d0e0f 00000003",
    );
    golden(&MetadataRecord::ForgetEligible { topic: Some(id(15)) }, "0e 00 01 000102030405060708090a0b0c0d0e0f");
}

#[test]
fn a_newer_version_that_says_nothing_new_is_refused() {
    let record = MetadataRecord::Partition {
        partition: TopicPartition { topic: id(15), partition: 0 },
        state: PartitionState::new(vec![NodeId(1)]),
    };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes[1] = 1;
    bytes.extend([0; 13]);
    let told = MetadataRecord::decode(&bytes).expect_err("there is one way to write it").to_string();
    assert_eq!(told, "a metadata record Partition of version 1 that says nothing that an older version could not");
}

#[test]
fn what_a_later_version_wrote_is_an_error_that_names_it() {
    let told = |bytes: &[u8]| MetadataRecord::decode(bytes).expect_err("unknown").to_string();
    assert_eq!(told(&[3, 1]), "a metadata record Topic of version 1, where this program knows versions up to 0");
    assert_eq!(told(&[16, 0]), "a metadata record of kind 16, version 0, which this program does not know");
    assert_eq!(told(&[0, 0]), "a metadata record of kind 0, version 0, which this program does not know");
    assert_eq!(told(&[1, 0, 0]), "a metadata record FormatLevel of version 0 that ends too early");
}

#[test]
fn a_list_that_claims_to_be_endless_allocates_nothing() {
    let bytes = [&[4, 0][..], &[0; 20], &[0xff; 4]].concat();
    assert!(MetadataRecord::decode(&bytes).is_err());
}

#[test]
fn an_entry_gives_back_its_records() {
    let records =
        vec![MetadataRecord::Topic { id: id(1), name: "a".into() }, MetadataRecord::RemoveTopic { id: id(1) }];
    let bytes = encode_entry(&records);
    assert_eq!(decode_entry(&bytes), Ok(records));
    assert_eq!(decode_entry(&[]), Ok(vec![]));
    assert!(decode_entry(&bytes[..bytes.len() - 1]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
        let _ = decode_entry(&bytes);
        let _ = MetadataRecord::decode(&bytes);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(kind in 1u8..17, version in 0u8..2, body: Vec<u8>) {
        let bytes = [&[kind, version][..], &body].concat();
        if let Ok(record) = MetadataRecord::decode(&bytes) {
            let mut again = Vec::new();
            record.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}
