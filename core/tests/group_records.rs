//! The records of `__consumer_offsets` and what consumers embed in them: as Apache Kafka writes them, whatever they
//! hold, and total to read.

use bytes::Bytes;
use chronik_core::group::protocol::{
    self, ConsumerProtocolAssignment, ConsumerProtocolSubscription, ProtocolError, VERSION_LAST,
};
use chronik_core::group::record::{Key, OffsetCommitValue, Record, RecordError, Value};
use chronik_core::wire::{Malformed, Str};

/// Partition 0 of `__consumer_offsets` of Apache Kafka 4.3, a line a record: key and value in hexadecimal, `-` for no
/// value. A Java client left it: a classic group, a consumer group with a regular expression and a static member, and
/// a group of members of both protocols, whose members left one after the other; then offsets and groups were deleted.
const KAFKA: &str = include_str!("group_records/apache-kafka-4.3.txt");

fn bytes(hex: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn kafka() -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
    KAFKA.lines().map(|line| {
        let (key, value) = line.split_once(' ').expect("a key and a value");
        (bytes(key), (value != "-").then(|| bytes(value)))
    })
}

fn records() -> Vec<Record> {
    let read = |(key, value): (Bytes, Option<Bytes>)| {
        Record::decode(&key, value.as_ref()).unwrap_or_else(|error| panic!("{key:?} {value:?}: {error}"))
    };
    kafka().map(read).collect()
}

/// The `at`-th value of Kafka's that `pick` takes.
#[track_caller]
fn nth<T>(at: usize, pick: impl FnMut(Value) -> Option<T>) -> T {
    records().into_iter().filter_map(|record| record.value).filter_map(pick).nth(at).expect("there are so many")
}

mod golden {
    use super::*;

    #[test]
    fn what_kafka_wrote_is_written_as_it_was_read() {
        for (key, value) in kafka() {
            let record = Record::decode(&key, value.as_ref()).expect("Kafka's are read");
            assert_eq!(record.encode(), (key, value), "{record:?}");
        }
    }

    #[test]
    fn there_is_a_record_of_every_kind() {
        let records = records();
        let (said, taken_back): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.value.is_some());
        let is = |kind: fn(&Key) -> bool, among: &[&Record]| among.iter().any(|record| kind(&record.key));
        let kinds: [fn(&Key) -> bool; 8] = [
            |key| matches!(key, Key::OffsetCommit { .. }),
            |key| matches!(key, Key::Group { .. }),
            |key| matches!(key, Key::ConsumerGroup { .. }),
            |key| matches!(key, Key::Member { .. }),
            |key| matches!(key, Key::TargetAssignment { .. }),
            |key| matches!(key, Key::TargetAssignmentMember { .. }),
            |key| matches!(key, Key::CurrentAssignment { .. }),
            |key| matches!(key, Key::Regex { .. }),
        ];
        assert!(kinds.iter().all(|&kind| is(kind, &said)));
        // No expression was given up.
        assert!(kinds[..7].iter().all(|&kind| is(kind, &taken_back)));
        // What brokers before 4.1 kept is only taken back.
        assert!(is(|key| matches!(key, Key::PartitionMetadata { .. }), &taken_back));
        assert!(!is(|key| matches!(key, Key::PartitionMetadata { .. }), &said));
    }

    #[test]
    fn an_offset_has_its_epoch_its_metadata_and_its_topic() {
        let noted = nth(3, |value| if let Value::OffsetCommit(value) = value { Some(value) } else { None });
        assert_eq!((noted.offset, noted.leader_epoch, noted.expire_timestamp), (3, 0, -1));
        assert_eq!(noted.metadata, "noted");
        assert_eq!(noted.topic_id.to_string(), "JhF0Tt_BSf-_CiK7CVTtHw");
    }

    #[test]
    fn a_classic_group_has_members_that_speak_the_consumer_protocol() {
        let group = nth(2, |value| if let Value::Group(value) = value { Some(value) } else { None });
        assert_eq!((group.generation, group.protocol.as_deref()), (2, Some("range")));
        assert_eq!(group.protocol_type, protocol::PROTOCOL_TYPE);
        let names: Vec<_> = group.members.iter().map(|member| member.group_instance_id.as_deref()).collect();
        assert_eq!(names, [Some("static-two"), None]);
        let mut owned = Vec::new();
        for member in &group.members {
            let subscription = ConsumerProtocolSubscription::from_bytes(&member.subscription).expect("a subscription");
            assert_eq!(protocol::version(&member.subscription), Ok(3));
            assert_eq!(subscription.to_bytes(3), member.subscription);
            assert_eq!((subscription.topics, subscription.rack_id), (vec!["gold".into()], Some("rack-a".into())));
            let assignment = ConsumerProtocolAssignment::from_bytes(&member.assignment).expect("an assignment");
            assert_eq!(assignment.to_bytes(3), member.assignment);
            owned.extend(assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions));
        }
        owned.sort_unstable();
        assert_eq!(owned, [0, 1, 2]);
    }

    #[test]
    fn a_classic_member_of_a_consumer_group_brings_its_protocols() {
        let classic = nth(0, |value| match value {
            Value::Member(value) => value.classic_member_metadata,
            _ => None,
        });
        assert_eq!(classic.session_timeout_ms, 45_000);
        let names: Vec<_> = classic.supported_protocols.iter().map(|protocol| protocol.name.as_str()).collect();
        assert_eq!(names, ["range", "cooperative-sticky"]);
        // The cooperative assignor adds its generation in four bytes of its own.
        let sticky = ConsumerProtocolSubscription::from_bytes(&classic.supported_protocols[1].metadata);
        assert_eq!(sticky.expect("a subscription").user_data, Some(Bytes::from_static(&[0xff; 4])));
    }

    #[test]
    fn what_a_member_owns_has_the_epochs_at_which_it_was_given() {
        let owns = nth(0, |value| if let Value::CurrentAssignment(value) = value { Some(value) } else { None });
        assert_eq!((owns.member_epoch, owns.previous_member_epoch, owns.state), (2, 0, 0));
        let epochs = owns.assigned_partitions[0].assignment_epochs.as_deref();
        assert_eq!((&owns.assigned_partitions[0].partitions[..], epochs), (&[0, 1, 2][..], Some(&[2, 2, 2][..])));
    }
}

mod old {
    use super::*;

    #[track_caller]
    fn offset(key_version: u8, value: &str, expect: &OffsetCommitValue) {
        let key = [&[0, key_version, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 7][..]].concat();
        let record = Record::decode(&key.into(), Some(&bytes(&value.replace(' ', "")))).expect("it is read");
        assert_eq!(record.key, Key::OffsetCommit { group: "g".into(), topic: "t".into(), partition: 7 });
        assert_eq!(record.value, Some(Value::OffsetCommit(expect.clone())));
        let (key, value) = record.encode();
        assert_eq!(Record::decode(&key, value.as_ref()), Ok(record), "written in another version it is the same");
    }

    #[test]
    fn offsets_of_older_brokers_are_read() {
        let expect =
            OffsetCommitValue { offset: 9, metadata: "m".into(), commit_timestamp: 5, ..OffsetCommitValue::default() };
        let until_6 = OffsetCommitValue { expire_timestamp: 6, ..expect.clone() };
        let epoch_4 = OffsetCommitValue { leader_epoch: 4, ..expect.clone() };
        offset(0, "0000 0000000000000009 00016d 0000000000000005", &expect);
        offset(1, "0001 0000000000000009 00016d 0000000000000005 0000000000000006", &until_6);
        offset(1, "0002 0000000000000009 00016d 0000000000000005", &expect);
        offset(1, "0003 0000000000000009 00000004 00016d 0000000000000005", &epoch_4);
        offset(1, "0004 0000000000000009 00000004 026d 0000000000000005 00", &epoch_4);
    }

    #[test]
    fn classic_groups_of_older_brokers_are_read() {
        let head = "0001 63 00000003 0001 70 0001 6c".replace(' ', "");
        let member =
            |rebalance: &str| format!("00000001 0001 61 0001 62 0001 63 {rebalance} 0000000a 00000000 00000000");
        for (version, value, timestamp, rebalance) in [
            (0, format!("0000 {head} {}", member("")), -1, -1),
            (1, format!("0001 {head} {}", member("00000014")), -1, 20),
            (2, format!("0002 {head} 0000000000000007 {}", member("00000014")), 7, 20),
        ] {
            let value = bytes(&value.replace(' ', ""));
            let record = Record::decode(&Bytes::from_static(b"\0\x02\0\x01g"), Some(&value)).expect("it is read");
            let Some(Value::Group(group)) = &record.value else { panic!("a group") };
            assert_eq!((group.generation, group.current_state_timestamp), (3, timestamp), "version {version}");
            let member = &group.members[0];
            assert_eq!((member.session_timeout, member.rebalance_timeout), (10, rebalance), "version {version}");
            assert_eq!(member.group_instance_id, None);
            let (key, value) = record.encode();
            assert_eq!(Record::decode(&key, value.as_ref()), Ok(record), "version {version}");
        }
    }

    #[test]
    fn subscriptions_of_every_version_are_read() {
        let full = ConsumerProtocolSubscription {
            topics: vec!["t".into()],
            user_data: Some(Bytes::from_static(b"u")),
            owned_partitions: vec![protocol::TopicPartition { topic: "t".into(), partitions: vec![1, 2] }],
            generation_id: 5,
            rack_id: Some("r".into()),
        };
        for version in 0..=VERSION_LAST {
            let mut expect = full.clone();
            if version < 3 {
                expect.rack_id = None;
            }
            if version < 2 {
                expect.generation_id = -1;
            }
            if version < 1 {
                expect.owned_partitions = Vec::new();
            }
            let bytes = full.to_bytes(version);
            assert_eq!(protocol::version(&bytes), Ok(version));
            assert_eq!(ConsumerProtocolSubscription::from_bytes(&bytes), Ok(expect), "version {version}");
        }
    }

    #[test]
    fn a_subscription_newer_than_ours_is_read_as_far_as_we_know_it() {
        let subscription = ConsumerProtocolSubscription { topics: vec!["t".into()], ..Default::default() };
        let newer = [&[0, 9], &subscription.to_bytes(3)[2..], b"what is new"].concat().into();
        assert_eq!(protocol::version(&newer), Ok(3));
        assert_eq!(ConsumerProtocolSubscription::from_bytes(&newer), Ok(subscription));
    }
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_cut_short_is_refused_and_so_is_one_too_long() {
        for (key, value) in kafka() {
            for cut in 0..key.len() {
                let refused = Record::decode(&key.slice(..cut), value.as_ref());
                assert!(matches!(refused, Err(RecordError::Key(_))), "{key:?} cut at {cut}");
            }
            let longer = [&key[..], &[0]].concat().into();
            assert_eq!(Record::decode(&longer, None), Err(RecordError::Key(Malformed::TrailingBytes)));
            let Some(value) = value else { continue };
            for cut in 0..value.len() {
                let refused = Record::decode(&key, Some(&value.slice(..cut)));
                assert!(matches!(refused, Err(RecordError::Value(_))), "{value:?} cut at {cut}");
            }
            let longer = [&value[..], &[0]].concat().into();
            assert_eq!(Record::decode(&key, Some(&longer)), Err(RecordError::Value(Malformed::TrailingBytes)));
        }
    }

    #[test]
    fn a_key_of_another_kind_is_told_apart_whatever_follows() {
        for code in [-1i16, 9, 10, 15, 17, i16::MAX] {
            let key = [&code.to_be_bytes(), &b"anything"[..]].concat().into();
            let record = Record::decode(&key, Some(&Bytes::from_static(b"\xff"))).expect("it can be skipped");
            assert_eq!(record, Record { key: Key::Unknown(code), value: None });
            assert_eq!(record.key.group(), None);
        }
    }

    #[test]
    fn a_value_of_an_unknown_version_names_it() {
        for (kind, value, version) in [(2, "0005", 5), (3, "0001", 1), (3, "ffff", -1)] {
            let refused = Record::decode(&vec![0, kind, 0, 1, b'g'].into(), Some(&bytes(value)));
            assert_eq!(refused, Err(RecordError::UnknownValueVersion { key: kind.into(), version }));
        }
    }

    #[test]
    fn a_list_that_claims_to_be_endless_is_refused() {
        // Two thousand million members, and no byte behind.
        let value = bytes("0003 0000 00000000 ffff ffff 0000000000000000 7fffffff".replace(' ', "").as_str());
        let refused = Record::decode(&Bytes::from_static(b"\0\x02\0\x01g"), Some(&value));
        assert_eq!(refused, Err(RecordError::Value(Malformed::TooManyElements)));
        let subscription = Bytes::from_static(b"\0\x03\x7f\xff\xff\xff");
        let refused = ConsumerProtocolSubscription::from_bytes(&subscription);
        assert_eq!(refused, Err(ProtocolError::Malformed(Malformed::TooManyElements)));
    }

    #[test]
    fn a_negative_version_of_the_embedded_protocol_is_refused() {
        let bytes = Bytes::from_static(b"\xff\xff\0\0\0\0\xff\xff\xff\xff");
        assert_eq!(ConsumerProtocolAssignment::from_bytes(&bytes), Err(ProtocolError::NegativeVersion(-1)));
        assert_eq!(protocol::version(&bytes), Err(ProtocolError::NegativeVersion(-1)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic_and_what_is_read_is_written(
            at in any::<proptest::sample::Index>(),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let all: Vec<_> = kafka().filter_map(|(key, value)| Some((key, value?))).collect();
            let (key, value) = &all[at.index(all.len())];
            let mut whole = [&key[..], value].concat();
            for (at, byte) in changes {
                let at = at.index(whole.len());
                whole[at] = byte;
            }
            let (key, value) = (Bytes::copy_from_slice(&whole[..key.len()]), Bytes::copy_from_slice(&whole[key.len()..]));
            if let Ok(record) = Record::decode(&key, Some(&value)) && !matches!(record.key, Key::Unknown(_)) {
                let (key, value) = record.encode();
                prop_assert_eq!(Record::decode(&key, value.as_ref()), Ok(record));
            }
        }
    }
}

mod round_trips {
    use super::*;
    use chronik_core::group::record::*;
    use chronik_core::ids::Uuid;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Str> {
        "[a-zß.]{0,8}".prop_map(Str::from)
    }

    fn blob() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn uuid() -> impl Strategy<Value = Uuid> {
        prop_oneof![Just(Uuid([0; 16])), any::<[u8; 16]>().prop_map(Uuid)]
    }

    fn offset_commit() -> impl Strategy<Value = OffsetCommitValue> {
        (any::<i64>(), text(), any::<i64>(), option::of(0..i64::MAX), any::<i32>(), uuid()).prop_map(
            |(offset, metadata, commit_timestamp, expires, leader_epoch, topic_id)| {
                let value = OffsetCommitValue { offset, metadata, commit_timestamp, ..Default::default() };
                // An offset with an end of its own has room for nothing newer.
                match expires {
                    Some(expire_timestamp) => OffsetCommitValue { expire_timestamp, ..value },
                    None => OffsetCommitValue { leader_epoch, topic_id, ..value },
                }
            },
        )
    }

    fn classic_member() -> impl Strategy<Value = MemberMetadata> {
        (text(), option::of(text()), text(), text(), any::<(i32, i32)>(), blob(), blob()).prop_map(
            |(member_id, group_instance_id, client_id, client_host, timeouts, subscription, assignment)| {
                let (rebalance_timeout, session_timeout) = timeouts;
                MemberMetadata {
                    member_id,
                    group_instance_id,
                    client_id,
                    client_host,
                    rebalance_timeout,
                    session_timeout,
                    subscription,
                    assignment,
                }
            },
        )
    }

    fn classic_group() -> impl Strategy<Value = GroupMetadataValue> {
        let names = (text(), option::of(text()), option::of(text()));
        (names, any::<i32>(), any::<i64>(), vec(classic_member(), 0..4)).prop_map(
            |((protocol_type, protocol, leader), generation, current_state_timestamp, members)| GroupMetadataValue {
                protocol_type,
                generation,
                protocol,
                leader,
                current_state_timestamp,
                members,
            },
        )
    }

    fn classic_part() -> impl Strategy<Value = ClassicMemberMetadata> {
        let protocol = (text(), blob()).prop_map(|(name, metadata)| ClassicProtocol { name, metadata });
        (any::<i32>(), vec(protocol, 0..3)).prop_map(|(session_timeout_ms, supported_protocols)| {
            ClassicMemberMetadata { session_timeout_ms, supported_protocols }
        })
    }

    fn member() -> impl Strategy<Value = ConsumerGroupMemberMetadataValue> {
        let nullable = (option::of(text()), option::of(text()), option::of(text()), option::of(text()));
        let names = (text(), text(), vec(text(), 0..4));
        (nullable, names, any::<i32>(), option::of(classic_part())).prop_map(
            |(nullable, names, rebalance_timeout_ms, classic_member_metadata)| {
                let (instance_id, rack_id, subscribed_topic_regex, server_assignor) = nullable;
                let (client_id, client_host, subscribed_topic_names) = names;
                ConsumerGroupMemberMetadataValue {
                    instance_id,
                    rack_id,
                    client_id,
                    client_host,
                    subscribed_topic_names,
                    subscribed_topic_regex,
                    rebalance_timeout_ms,
                    server_assignor,
                    classic_member_metadata,
                }
            },
        )
    }

    fn partition_metadata() -> impl Strategy<Value = ConsumerGroupPartitionMetadataValue> {
        let partition = (any::<i32>(), vec(text(), 0..3));
        let partition = partition.prop_map(|(partition, racks)| PartitionMetadata { partition, racks });
        let topic = (uuid(), text(), any::<i32>(), vec(partition, 0..3)).prop_map(
            |(topic_id, topic_name, num_partitions, partition_metadata)| TopicMetadata {
                topic_id,
                topic_name,
                num_partitions,
                partition_metadata,
            },
        );
        vec(topic, 0..3).prop_map(|topics| ConsumerGroupPartitionMetadataValue { topics })
    }

    fn owned() -> impl Strategy<Value = Vec<TopicPartitions>> {
        let topic = (uuid(), vec((any::<i32>(), any::<i32>()), 0..4), any::<bool>());
        let topic = topic.prop_map(|(topic_id, partitions, has_epochs)| {
            let (partitions, epochs) = partitions.into_iter().unzip();
            TopicPartitions { topic_id, partitions, assignment_epochs: has_epochs.then_some(epochs) }
        });
        vec(topic, 0..3)
    }

    fn current_assignment() -> impl Strategy<Value = ConsumerGroupCurrentMemberAssignmentValue> {
        (any::<(i32, i32, i8)>(), owned(), owned()).prop_map(|(numbers, assigned, pending)| {
            let (member_epoch, previous_member_epoch, state) = numbers;
            ConsumerGroupCurrentMemberAssignmentValue {
                member_epoch,
                previous_member_epoch,
                state,
                assigned_partitions: assigned,
                partitions_pending_revocation: pending,
            }
        })
    }

    fn target_member() -> impl Strategy<Value = ConsumerGroupTargetAssignmentMemberValue> {
        let topic = (uuid(), vec(any::<i32>(), 0..4));
        let topic = topic.prop_map(|(topic_id, partitions)| TopicPartition { topic_id, partitions });
        vec(topic, 0..3).prop_map(|topic_partitions| ConsumerGroupTargetAssignmentMemberValue { topic_partitions })
    }

    /// A key, and a value of its kind.
    fn said() -> impl Strategy<Value = (Key, Value)> {
        let names = || (text(), text());
        prop_oneof![
            (names(), any::<i32>(), offset_commit()).prop_map(|((group, topic), partition, value)| {
                (Key::OffsetCommit { group, topic, partition }, Value::OffsetCommit(value))
            }),
            (text(), classic_group()).prop_map(|(group, value)| (Key::Group { group }, Value::Group(value))),
            (text(), any::<(i32, i64)>()).prop_map(|(group, (epoch, metadata_hash))| {
                let value = ConsumerGroupMetadataValue { epoch, metadata_hash };
                (Key::ConsumerGroup { group }, Value::ConsumerGroup(value))
            }),
            (text(), partition_metadata())
                .prop_map(|(group, value)| (Key::PartitionMetadata { group }, Value::PartitionMetadata(value))),
            (names(), member())
                .prop_map(|((group, member), value)| (Key::Member { group, member }, Value::Member(value))),
            (text(), any::<(i32, i64)>()).prop_map(|(group, (assignment_epoch, assignment_timestamp))| {
                let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, assignment_timestamp };
                (Key::TargetAssignment { group }, Value::TargetAssignment(value))
            }),
            (names(), target_member()).prop_map(|((group, member), value)| {
                (Key::TargetAssignmentMember { group, member }, Value::TargetAssignmentMember(value))
            }),
            (names(), current_assignment()).prop_map(|((group, member), value)| {
                (Key::CurrentAssignment { group, member }, Value::CurrentAssignment(value))
            }),
            (names(), vec(text(), 0..4), any::<(i64, i64)>()).prop_map(
                |((group, regex), topics, (version, timestamp))| {
                    let value = ConsumerGroupRegularExpressionValue { topics, version, timestamp };
                    (Key::Regex { group, regex }, Value::Regex(value))
                }
            ),
        ]
    }

    fn topic_partitions() -> impl Strategy<Value = Vec<protocol::TopicPartition>> {
        let topic = (text(), vec(any::<i32>(), 0..4));
        vec(topic.prop_map(|(topic, partitions)| protocol::TopicPartition { topic, partitions }), 0..3)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read((key, value) in said()) {
            let group = key.group().cloned();
            prop_assert!(group.is_some());
            for value in [Some(value), None] {
                let record = Record { key: key.clone(), value };
                let (key, value) = record.encode();
                prop_assert_eq!(Record::decode(&key, value.as_ref()), Ok(record));
            }
        }

        #[test]
        fn a_subscription_comes_back(
            (topics, user_data, owned_partitions) in (vec(text(), 0..4), option::of(blob()), topic_partitions()),
            (generation_id, rack_id) in (any::<i32>(), option::of(text())),
        ) {
            let said =
                ConsumerProtocolSubscription { topics, user_data, owned_partitions, generation_id, rack_id };
            prop_assert_eq!(ConsumerProtocolSubscription::from_bytes(&said.to_bytes(VERSION_LAST)), Ok(said));
        }

        #[test]
        fn an_assignment_comes_back_in_every_version(
            (assigned_partitions, user_data) in (topic_partitions(), option::of(blob())),
            version in 0..=VERSION_LAST,
        ) {
            let said = ConsumerProtocolAssignment { assigned_partitions, user_data };
            prop_assert_eq!(ConsumerProtocolAssignment::from_bytes(&said.to_bytes(version)), Ok(said));
        }
    }
}
