//! What one request may name thousands of is answered a slice at a time.

use super::*;
use crate::node::slices::Long;
use crate::wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::wire::describe_log_dirs::DescribeLogDirsRequest;
use crate::wire::describe_producers::{DescribeProducersRequest, TopicRequest};
use crate::wire::find_coordinator::FindCoordinatorRequest;
use crate::wire::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

const PARTITIONS: i32 = 2_500;

/// A topic that takes three slices, between two small ones.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create("a", 1);
    rig.create("many", PARTITIONS);
    rig.create("z", 2);
    rig
}

fn metadata(topics: Option<&[&'static str]>) -> MetadataRequest {
    let named =
        |&name: &&'static str| MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() };
    let topics = topics.map(|names| names.iter().map(named).collect());
    MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() }
}

/// One step of what is too long for one; whether there is more.
fn slice(rig: &mut Rig) -> bool {
    let is_slice =
        |rig: &Rig| rig.node.deadline().is_some_and(|(_, reason)| matches!(reason, Reason::Slice | Reason::Metadata));
    assert!(is_slice(rig), "a slice is to come");
    rig.step(Input::Deadline);
    rig.run();
    is_slice(rig)
}

/// The topics of an answer, with their numbers of partitions and their errors.
fn topics(rig: &mut Rig, sequence: u64) -> Option<Vec<(String, usize, i16)>> {
    let Response::Metadata(response) = rig.reply(sequence)?.expect("it is answered") else { panic!("another answer") };
    let topic = |topic: &crate::wire::metadata::MetadataResponseTopic| {
        let name = topic.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        for (at, partition) in topic.partitions.iter().enumerate() {
            assert_eq!(partition.partition_index, i32::try_from(at).expect("a few thousand"));
        }
        (name, topic.partitions.len(), topic.error_code)
    };
    Some(response.topics.iter().map(topic).collect())
}

fn told(expect: &[(&str, i32, ErrorCode)]) -> Option<Vec<(String, usize, i16)>> {
    let count = |count: i32| usize::try_from(count).expect("not negative");
    Some(expect.iter().map(|&(name, partitions, error)| (name.to_owned(), count(partitions), error.code())).collect())
}

#[test]
fn a_large_answer_takes_several_steps_and_small_ones_pass_it_by() {
    let mut rig = rig();
    let large = rig.ask(12, Request::Other(metadata(None).into()));
    assert_eq!(topics(&mut rig, large), None);
    let small = rig.ask(12, Request::Other(metadata(Some(&["z"])).into()));
    assert_eq!(topics(&mut rig, small), told(&[("z", 2, ErrorCode::None)]));
    while slice(&mut rig) {
        assert_eq!(topics(&mut rig, large), None);
    }
    let all = told(&[("a", 1, ErrorCode::None), ("many", PARTITIONS, ErrorCode::None), ("z", 2, ErrorCode::None)]);
    assert_eq!(topics(&mut rig, large), all);
}

#[test]
fn large_answers_are_ended_one_after_the_other() {
    let mut rig = rig();
    let asked = [0; 3].map(|_| rig.ask(12, Request::Other(metadata(Some(&["many"])).into())));
    let mut order = Vec::new();
    loop {
        let more = slice(&mut rig);
        order.extend(asked.into_iter().filter(|&sequence| topics(&mut rig, sequence).is_some()));
        if !more {
            break;
        }
    }
    assert_eq!(order, asked);
}

#[test]
fn a_topic_that_goes_between_two_slices_is_told_as_what_it_is_by_then() {
    for (asked, expect) in [
        (None, told(&[("a", 1, ErrorCode::None), ("z", 2, ErrorCode::None)])),
        (Some(&["many", "a"][..]), told(&[("many", 0, ErrorCode::UnknownTopicOrPartition), ("a", 1, ErrorCode::None)])),
    ] {
        let mut rig = rig();
        let sequence = rig.ask(12, Request::Other(metadata(asked).into()));
        ask_to_delete(&mut rig, "many");
        while slice(&mut rig) {}
        assert_eq!(topics(&mut rig, sequence), expect);
    }
}

#[test]
fn a_topic_that_is_made_anew_between_two_slices_is_told_whole() {
    let mut rig = rig();
    let sequence = rig.ask(12, Request::Other(metadata(Some(&["many"])).into()));
    ask_to_delete(&mut rig, "many");
    ask_to_create(&mut rig, "many", 3);
    while slice(&mut rig) {}
    assert_eq!(topics(&mut rig, sequence), told(&[("many", 3, ErrorCode::None)]));
}

#[test]
fn who_leaves_is_not_answered_and_holds_up_nobody() {
    let mut rig = rig();
    let partitions = (0..PARTITIONS).map(|partition_index| ListOffsetsPartition {
        partition_index,
        timestamp: -1,
        ..ListOffsetsPartition::default()
    });
    let topic = ListOffsetsTopic { name: "many".into(), partitions: partitions.collect() };
    let offsets = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
    rig.ask(12, Request::Other(metadata(None).into()));
    rig.ask(7, Request::Other(offsets.into()));
    rig.step(Input::Closed { conn: ConnId(1) });
    rig.out.0.retain(|effect| !matches!(effect, Effect::Reply { .. }));
    rig.pass(10);
    assert_eq!(rig.replies.len(), 0);
    assert!(rig.node.slices.is_empty() && rig.node.offset_queries.is_empty());
}

#[test]
fn offsets_of_thousands_of_partitions_are_those_of_each() {
    let mut rig = rig();
    for partition in [0, 700, PARTITIONS - 1] {
        let batch = records(rig.now.wall, &["x"; 5]);
        rig.send("many", partition, -1, batch);
    }
    let asked = |partitions: std::ops::Range<i32>, timestamp| ListOffsetsTopic {
        name: "many".into(),
        partitions: partitions
            .map(|partition_index| ListOffsetsPartition {
                partition_index,
                timestamp,
                ..ListOffsetsPartition::default()
            })
            .collect(),
    };
    let mut answer = |topics| {
        let request = ListOffsetsRequest { topics, ..ListOffsetsRequest::default() };
        let sequence = rig.ask(7, Request::Other(request.into()));
        rig.pass(0);
        let Some(Some(Response::ListOffsets(response))) = rig.reply(sequence) else { panic!("no answer") };
        response
    };
    // A partition too many, a topic that is none, and one without partitions.
    let unknown = ListOffsetsTopic { name: "none".into(), ..asked(0..1, -1) };
    let topics = vec![asked(0..PARTITIONS + 1, -1), unknown, asked(0..0, -1)];
    let response = answer(topics);
    let sizes: Vec<usize> = response.topics.iter().map(|topic| topic.partitions.len()).collect();
    assert_eq!(sizes, [2_501, 1, 0]);
    for (at, partition) in response.topics[0].partitions.iter().enumerate() {
        let expect = match at {
            0 | 700 | 2_499 => (5, 0),
            2_500 => (-1, ErrorCode::UnknownTopicOrPartition.code()),
            _ => (0, 0),
        };
        assert_eq!((partition.offset, partition.error_code), expect, "partition {at}");
    }
    assert_eq!(response.topics[1].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    // Searches for records.
    let response = answer(vec![asked(0..1_000, 0)]);
    for (at, partition) in response.topics[0].partitions.iter().enumerate() {
        let expect = if [0, 700].contains(&at) { 0 } else { -1 };
        assert_eq!((partition.offset, partition.error_code), (expect, 0), "partition {at}");
    }
}

#[test]
fn epochs_of_thousands_of_partitions_end_where_each_ends() {
    let mut rig = rig();
    for partition in [0, 700, PARTITIONS - 1] {
        let batch = records(rig.now.wall, &["x"; 5]);
        rig.send("many", partition, -1, batch);
    }
    let asked = |topic: &'static str, partitions: std::ops::Range<i32>| OffsetForLeaderTopic {
        topic: topic.into(),
        partitions: partitions
            .map(|partition| OffsetForLeaderPartition { partition, ..OffsetForLeaderPartition::default() })
            .collect(),
    };
    // A partition too many, a topic that is none, and ones without partitions.
    let mut topics = vec![asked("many", 0..PARTITIONS + 1), asked("none", 0..1)];
    topics.extend(vec![asked("a", 0..0); 1_000]);
    let request = OffsetForLeaderEpochRequest { topics, ..OffsetForLeaderEpochRequest::default() };
    let sequence = rig.ask(4, Request::Other(request.into()));
    let mut slices = 1;
    while slice(&mut rig) {
        assert_eq!(rig.reply(sequence), None);
        slices += 1;
    }
    assert!(slices > 5, "{slices} slices");
    let Some(Some(Response::OffsetForLeaderEpoch(response))) = rig.reply(sequence) else { panic!("no answer") };
    assert_eq!(response.topics.len(), 1_002);
    let sizes: Vec<usize> = response.topics.iter().map(|topic| topic.partitions.len()).collect();
    assert_eq!((&sizes[..2], sizes.iter().sum()), (&[2_501, 1][..], 2_502));
    for (at, partition) in response.topics[0].partitions.iter().enumerate() {
        let expect = match at {
            0 | 700 | 2_499 => (5, 0),
            2_500 => (-1, ErrorCode::UnknownTopicOrPartition.code()),
            _ => (0, 0),
        };
        assert_eq!((partition.end_offset, partition.error_code), expect, "partition {at}");
        assert_eq!(partition.partition, i32::try_from(at).expect("a few thousand"));
    }
    assert_eq!(response.topics[1].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn all_sizes_and_all_settings_are_told() {
    let mut rig = rig();
    let sequence = rig.ask(4, Request::Other(DescribeLogDirsRequest::default().into()));
    rig.pass(0);
    let Some(Some(Response::DescribeLogDirs(response))) = rig.reply(sequence) else { panic!("no answer") };
    let mut sizes: Vec<(&str, usize)> =
        response.results[0].topics.iter().map(|topic| (topic.name.as_str(), topic.partitions.len())).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [("a", 1), ("many", 2_500), ("z", 2)]);

    let names = ["a", "many", "z", "none"].into_iter().cycle().take(50);
    let resources = names.clone().map(|name| DescribeConfigsResource {
        resource_type: 2,
        resource_name: name.into(),
        configuration_keys: None,
    });
    let request = DescribeConfigsRequest { resources: resources.collect(), ..DescribeConfigsRequest::default() };
    let expect = rig.node.controller.describe_configs(&request);
    let sequence = rig.ask(4, Request::Other(request.into()));
    rig.pass(0);
    assert_eq!(rig.reply(sequence), Some(Some(Response::DescribeConfigs(expect))));
}

#[test]
fn all_who_wait_for_one_record_get_it_in_slices() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let fetch = || Request::Other(Rig::fetch_request("t", 0, 1, 500).into());
    let waiting: Vec<u64> = (0..200).map(|_| rig.ask(12, fetch())).collect();
    assert_eq!(rig.produce("t", &["x"]), 0);
    let at_once = waiting.iter().filter(|&&sequence| rig.replies.contains_key(&sequence)).count();
    assert!((1..100).contains(&at_once), "{at_once} in one step");
    // Some are answered because their time is up, and their places taken, before their slice comes.
    rig.advance_to(Instant(rig.now.instant.0 + 500_000_000));
    rig.step(Input::Deadline);
    rig.run();
    let late = rig.ask(12, Request::Other(Rig::fetch_request("t", 1, 1, 500).into()));
    rig.pass(0);
    for sequence in waiting {
        let response = rig.fetched(sequence).expect("an answer");
        let records = response.responses[0].partitions[0].records.as_ref();
        assert!(records.is_some_and(|records| !records.is_empty()));
    }
    assert!(rig.fetched(late).is_none(), "it waits for what comes next");
}

#[test]
fn all_who_wait_for_a_topic_that_is_deleted_are_told_in_slices() {
    let mut rig = Rig::new();
    rig.create("t", 2);
    rig.create("new", 1);
    let in_session = |partition| {
        let mut request = FetchRequest { session_epoch: 0, ..Rig::fetch_request("t", 0, 1, 30_000) };
        request.topics[0].partitions[0].partition = partition;
        request
    };
    let plain = || Rig::fetch_request("t", 0, 1, 30_000);
    let sessions: Vec<i32> = (0..50)
        .map(|at| {
            let sequence = rig.ask(12, Request::Other(FetchRequest { max_wait_ms: 0, ..in_session(at % 2) }.into()));
            rig.fetched(sequence).expect("an answer").session_id
        })
        .collect();
    let waits = |&session_id: &i32| FetchRequest { session_id, session_epoch: 1, topics: Vec::new(), ..plain() };
    let requests = std::iter::repeat_with(plain).take(150).chain(sessions.iter().map(waits));
    let waiting: Vec<u64> = requests.map(|request| rig.ask(12, Request::Other(request.into()))).collect();
    let answered = |rig: &Rig| waiting.iter().filter(|&sequence| rig.replies.contains_key(sequence)).count();
    let deleted = ask_to_delete(&mut rig, "t");
    let mut before = answered(&rig);
    let mut most = before;
    assert!(most < 100, "{most} at once");
    let mut others = Vec::new();
    while slice(&mut rig) {
        most = most.max(answered(&rig) - before);
        before = answered(&rig);
        others.push(rig.ask(12, Request::Other(Rig::fetch_request("new", 0, 1, 30_000).into())));
    }
    assert!((1..100).contains(&most), "{most} in one step");
    assert!(is_answered(&mut rig, deleted));
    for sequence in waiting {
        let response = rig.fetched(sequence).expect("an answer");
        let code = response.responses[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::UnknownTopicOrPartition.code());
    }
    assert!(others.iter().all(|&sequence| rig.fetched(sequence).is_none()), "there is nothing for them");
}

#[test]
fn a_request_that_names_one_broker_often_gets_no_more_settings_than_memory_has_room_for() {
    let mut rig = Rig::new();
    let broker = DescribeConfigsResource { resource_type: 4, resource_name: "1".into(), configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![broker; 1_500], ..DescribeConfigsRequest::default() };
    let sequence = rig.ask(4, Request::Other(request.into()));
    rig.pass(0);
    let Some(Some(Response::DescribeConfigs(response))) = rig.reply(sequence) else { panic!("no answer") };
    assert_eq!(response.results.len(), 1_500);
    assert!(response.results.iter().map(|result| result.configs.len()).sum::<usize>() < 351_000);
    assert_eq!(response.results[0].error_code, 0);
    assert_eq!(response.results[1_499].error_code, ErrorCode::PolicyViolation.code());
}

#[test]
fn a_setting_of_all_brokers_is_in_force_everywhere_when_its_change_is_answered() {
    let mut rig = rig();
    rig.create_with("own", 1, &[("compression.type", "gzip")]);
    let codecs = rig.codecs.clone();
    let config = AlterableConfig { name: "log.retention.ms".into(), config_operation: 0, value: Some("77000".into()) };
    let resource = AlterConfigsResource { resource_type: 4, resource_name: "".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let sequence = rig.ask(1, Request::Other(request.into()));
    assert_eq!(rig.reply(sequence), None);
    // What is made meanwhile inherits it too.
    rig.create("new", 1);
    rig.delete("z");
    while slice(&mut rig) {
        assert_eq!(rig.codecs, codecs, "no table is half made");
    }
    assert!(matches!(rig.reply(sequence), Some(Some(Response::IncrementalAlterConfigs(_)))));
    let hosts = rig.node.hosts.iter().flatten();
    assert!(hosts.clone().count() > 2_500);
    for hosted in hosts {
        assert_eq!(hosted.config.retention_ms, Some(77_000), "{}-{}", hosted.name, hosted.partition.id().partition);
    }
    assert_eq!(rig.codecs, codecs);
}

#[test]
fn a_setting_of_a_large_topic_is_in_force_in_all_of_it_when_its_change_is_answered() {
    let mut rig = rig();
    let ask = |rig: &mut Rig, value: &'static str| {
        let config = AlterableConfig { name: "retention.ms".into(), config_operation: 0, value: Some(value.into()) };
        let resource = AlterConfigsResource { resource_type: 2, resource_name: "many".into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        rig.ask(1, Request::Other(request.into()))
    };
    let first = ask(&mut rig, "66000");
    let second = ask(&mut rig, "77000");
    assert_eq!(rig.reply(second), None);
    let mut slices = 0;
    while rig.node.is_obeying() {
        assert_eq!(rig.reply(second), None);
        slice(&mut rig);
        slices += 1;
    }
    assert!(slices > 1, "{slices} slices");
    rig.pass(0);
    for sequence in [first, second] {
        assert!(matches!(rig.reply(sequence), Some(Some(Response::IncrementalAlterConfigs(_)))));
    }
    let many: Vec<&Hosted> = rig.node.hosts.iter().flatten().filter(|hosted| *hosted.name == *"many").collect();
    assert_eq!(many.len(), 2_500);
    assert!(many.iter().all(|hosted| hosted.config.retention_ms == Some(77_000)));
    let others = rig.node.hosts.iter().flatten().filter(|hosted| *hosted.name != *"many");
    assert!(others.clone().count() > 1 && others.clone().all(|hosted| hosted.config.retention_ms != Some(77_000)));
}

#[test]
fn the_topic_that_groups_are_found_by_is_there_as_a_whole_or_not_at_all() {
    let mut rig = Rig::with(&[("offsets.topic.num.partitions", "1000")]);
    let request = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
    rig.ask(3, Request::Other(request.into()));
    let known = |rig: &Rig| {
        let topic = rig.node.controller.image().topic_named::<str>("__consumer_offsets");
        topic.map_or(0, |topic| topic.partitions.len())
    };
    while known(&rig) == 0 {
        slice(&mut rig);
    }
    assert_eq!(known(&rig), 1_000);
}

fn partitions_of(rig: &Rig, topic: &str) -> usize {
    rig.node.hosts.iter().flatten().filter(|hosted| *hosted.name == *topic).count()
}

fn ask_to_create(rig: &mut Rig, name: &'static str, partitions: i32) -> u64 {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    rig.ask(7, Request::Other(CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }.into()))
}

fn ask_to_delete(rig: &mut Rig, name: &'static str) -> u64 {
    let topic = DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() };
    rig.ask(6, Request::Other(DeleteTopicsRequest { topics: vec![topic], ..DeleteTopicsRequest::default() }.into()))
}

fn is_answered(rig: &mut Rig, sequence: u64) -> bool {
    match rig.reply(sequence) {
        None => false,
        Some(Some(Response::CreateTopics(response))) => response.topics[0].error_code == 0,
        Some(Some(Response::DeleteTopics(response))) => response.responses[0].error_code == 0,
        other => panic!("another answer: {other:?}"),
    }
}

#[test]
fn a_large_topic_comes_in_slices_and_is_told_of_when_all_of_it_is_there() {
    let mut rig = Rig::new();
    let created = ask_to_create(&mut rig, "many", 1_000);
    let seen = rig.ask(12, Request::Other(metadata(Some(&["many"])).into()));
    let mut slices = 0;
    while partitions_of(&rig, "many") < 1_000 {
        assert!(!is_answered(&mut rig, created));
        assert_eq!(topics(&mut rig, seen), None);
        slice(&mut rig);
        slices += 1;
    }
    assert!((5..=30).contains(&slices), "{slices} slices");
    while rig.node.deadline().is_some_and(|(_, reason)| reason == Reason::Slice) {
        slice(&mut rig);
    }
    assert!(is_answered(&mut rig, created));
    assert_eq!(topics(&mut rig, seen), told(&[("many", 1_000, ErrorCode::None)]));
    let batch = records(rig.now.wall, &["last"]);
    let sequence = rig.send("many", 999, -1, batch);
    assert_eq!(rig.produced(sequence).expect("an acknowledgement").error_code, 0);
}

#[test]
fn a_large_topic_is_there_as_a_whole_after_a_crash_in_the_middle_of_its_coming() {
    let mut rig = Rig::new();
    ask_to_create(&mut rig, "many", 1_000);
    assert!(partitions_of(&rig, "many") < 1_000);
    let rig = rig.crash();
    assert_eq!(partitions_of(&rig, "many"), 1_000);
}

#[test]
fn a_large_topic_goes_in_slices_and_one_of_its_name_is_another() {
    let mut rig = Rig::new();
    rig.create("many", 1_000);
    let batch = records(rig.now.wall, &["old"]);
    rig.send("many", 999, -1, batch);
    let mut request = Rig::fetch_request("many", 0, 1, 30_000);
    request.topics[0].partitions[0].partition = 998;
    let waiting = rig.ask(12, Request::Other(request.into()));
    let deleted = ask_to_delete(&mut rig, "many");
    assert!(partitions_of(&rig, "many") > 0);
    let created = ask_to_create(&mut rig, "many", 1_000);
    assert_eq!(rig.fetched(waiting), None);
    // A checkpoint may begin and end meanwhile.
    rig.node.checkpoint_soon();
    rig.pass(0);
    assert!(is_answered(&mut rig, deleted));
    let answer = rig.fetched(waiting).expect("it waits for nothing any more");
    assert_ne!(answer.responses[0].partitions[0].error_code, 0);
    assert!(is_answered(&mut rig, created));
    assert_eq!(partitions_of(&rig, "many"), 1_000);
    let mut again = Rig::fetch_request("many", 0, 0, 0);
    again.topics[0].partitions[0].partition = 999;
    let sequence = rig.ask(12, Request::Other(again.into()));
    let partition = rig.fetched(sequence).expect("an answer").responses.remove(0).partitions.remove(0);
    assert_eq!((partition.error_code, partition.high_watermark), (0, 0), "nothing of the old one is here");
    let rig = rig.crash();
    assert_eq!(partitions_of(&rig, "many"), 1_000);
}

#[test]
fn a_topic_that_is_deleted_while_it_comes_leaves_nothing() {
    let mut rig = Rig::new();
    let created = ask_to_create(&mut rig, "many", 1_000);
    let deleted = ask_to_delete(&mut rig, "many");
    rig.alter((4, ""), "log.retention.ms", "100000");
    while !is_answered(&mut rig, deleted) {
        slice(&mut rig);
    }
    assert!(is_answered(&mut rig, created));
    assert_eq!((partitions_of(&rig, "many"), rig.node.by_id.len()), (0, 0));
    assert!(rig.node.moves.is_empty());
}

#[test]
fn producers_of_a_partition_that_is_named_again_and_again_are_told_in_many_steps_and_not_without_end() {
    let mut rig = Rig::new();
    rig.create("t", 1);
    let request = |times| DescribeProducersRequest {
        topics: vec![
            TopicRequest { name: "t".into(), partition_indexes: vec![0; times] },
            TopicRequest { name: "none".into(), partition_indexes: vec![7] },
        ],
    };
    let codes = |rig: &mut Rig, sequence| match rig.reply(sequence) {
        Some(Some(Response::DescribeProducers(response))) => {
            let topics = response.topics.iter();
            let codes = topics.map(|topic| topic.partitions.iter().map(|at| at.error_code).collect::<Vec<_>>());
            Some(codes.collect::<Vec<_>>())
        }
        None => None,
        other => panic!("another answer: {other:?}"),
    };
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let sequence = rig.ask(0, Request::Other(request(1_200).into()));
    assert_eq!(codes(&mut rig, sequence), None);
    assert!(slice(&mut rig));
    assert!(!slice(&mut rig));
    assert_eq!(codes(&mut rig, sequence), Some(vec![vec![0; 1_200], vec![unknown]]));

    // As if many had been told of before.
    let to = ReplyTo { conn: ConnId(1), sequence: 1_000, version: 0, listener: ListenerId(0) };
    let long = Long::Producers(request(2), Vec::new(), 2_499_999);
    rig.node.begin_long(rig.now, to, long, &mut rig.out);
    rig.run();
    let refused = ErrorCode::PolicyViolation.code();
    assert_eq!(codes(&mut rig, 1_000), Some(vec![vec![0, refused], vec![refused]]));
}
