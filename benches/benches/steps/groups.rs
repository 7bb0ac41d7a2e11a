//! What groups ask of the node: the small requests that come all the time, and the largest.

use std::time::Duration;

use chronik_core::boundary::{Client, Request};
use chronik_core::wire::consumer_group_describe::ConsumerGroupDescribeRequest;
use chronik_core::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use chronik_core::wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use chronik_core::wire::delete_groups::DeleteGroupsRequest;
use chronik_core::wire::describe_groups::DescribeGroupsRequest;
use chronik_core::wire::find_coordinator::FindCoordinatorRequest;
use chronik_core::wire::heartbeat::HeartbeatRequest;
use chronik_core::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use chronik_core::wire::list_groups::ListGroupsRequest;
use chronik_core::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use chronik_core::wire::offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use chronik_core::wire::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use chronik_core::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use chronik_core::wire::{self, Response, Str};

use super::Driver;

/// The partitions of the topic that is read.
const PARTITIONS: i32 = 10_000;
/// How many partitions one large request names: each of them as often as it takes.
const NAMED: i32 = 100_000;
const GROUPS: usize = 5_000;
const MEMBERS: usize = 1_000;
const TOPIC: &str = "read";

pub(crate) fn measure_all(driver: &mut Driver) {
    let nothing = |_: &mut Driver, _: usize| {};
    driver.ask(1, 7, topic(TOPIC, PARTITIONS, &[]));
    // One partition, so that one coordinator has all groups.
    driver.ask(1, 7, topic("__consumer_offsets", 1, &[("cleanup.policy", "compact")]));
    driver.ask(1, 4, FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() });

    driver.measure("OffsetCommit, 1 partition", nothing, |driver, run| {
        driver.ask(1, 8, commit("g", 0..1, run as i64));
    });
    driver.measure("OffsetFetch, 1 partition", nothing, |driver, _| driver.ask(1, 8, fetch("g", Some(0..1))));
    driver.measure("OffsetCommit, 1,000 partitions", nothing, |driver, run| {
        driver.ask(1, 8, commit("g", 0..1_000, run as i64));
        driver.pass(Duration::from_millis(1));
    });
    driver.measure("OffsetFetch, 1,000 partitions", nothing, |driver, _| driver.ask(1, 8, fetch("g", Some(0..1_000))));

    let joined = join(driver, "one", 1).remove(0);
    driver.measure("Heartbeat", nothing, |driver, _| driver.ask(1, 2, heartbeat(&joined)));
    let member = next(driver, "m-0", 0);
    driver.measure("ConsumerGroupHeartbeat", nothing, |driver, _| {
        next(driver, "m-0", member);
    });
    driver.measure("JoinGroup, 1,000 members and their assignment", nothing, |driver, run| {
        drop(join(driver, &format!("crowd-{run}"), MEMBERS));
    });
    driver.measure("ConsumerGroupHeartbeat, 200 members join one by one", nothing, |driver, run| {
        for member in 0..200 {
            next(driver, &format!("m-{run}-{member}"), 0);
        }
    });

    driver.measure("DescribeGroups, a group of 1,000 members", nothing, |driver, _| {
        driver.ask(1, 5, DescribeGroupsRequest { groups: vec!["crowd-8".into()], ..DescribeGroupsRequest::default() });
        driver.pass(Duration::from_millis(1));
    });
    driver.measure("ConsumerGroupDescribe, 1,800 members with 10,000 partitions", nothing, |driver, _| {
        let group_ids = vec!["next".into()];
        driver.ask(1, 1, ConsumerGroupDescribeRequest { group_ids, ..ConsumerGroupDescribeRequest::default() });
        driver.pass(Duration::from_millis(1));
    });
    driver.measure(
        "ConsumerGroupHeartbeat, a new member of 1,800, 10,000 partitions",
        |driver, _| driver.pass(Duration::from_secs(2)),
        |driver, run| {
            next(driver, &format!("late-{run}"), 0);
        },
    );
    driver.measure("ConsumerGroupHeartbeat, 10,000 partitions for one member", nothing, |driver, run| {
        heartbeat_with(driver, &format!("alone-{run}"), "m", 0, Some(TOPIC), None);
    });
    driver.measure("ConsumerGroupHeartbeat, a nasty expression", nothing, |driver, run| {
        heartbeat_with(driver, "regexes", &format!("m-{run}"), 0, None, Some(&nasty(run)));
        driver.pass(Duration::from_secs(20));
    });
    for group in 0..GROUPS {
        driver.ask(1, 8, commit(&format!("group-{group}"), 0..10, 7));
    }
    driver.measure("ListGroups, 5,000 groups", nothing, |driver, _| {
        driver.ask(1, 4, ListGroupsRequest::default());
        driver.pass(Duration::from_millis(1));
    });
    driver.measure("A scrape, 5,000 groups with 50,000 offsets", nothing, |driver, _| driver.scrape());
    driver.measure("CreateTopics, while there are 5,000 groups", nothing, |driver, run| {
        driver.ask(1, 7, topic(&format!("new-{run}"), 1, &[]));
        driver.pass(Duration::from_millis(1));
    });
    driver.measure("A load of 5,000 groups with 50,000 offsets", nothing, |driver, _| {
        driver.restart();
        driver.pass(Duration::from_millis(100));
    });

    driver.measure("OffsetCommit, 100,000 partitions", nothing, |driver, run| {
        driver.ask(1, 8, commit("large", 0..NAMED, run as i64));
        driver.pass(Duration::from_millis(100));
    });
    driver.measure("OffsetFetch, 100,000 partitions", nothing, |driver, _| {
        driver.ask(1, 8, fetch("large", Some(0..NAMED)));
        driver.pass(Duration::from_millis(1));
    });
    driver.measure("OffsetFetch, all 10,000 offsets of a group", nothing, |driver, _| {
        driver.ask(1, 8, fetch("large", None));
        driver.pass(Duration::from_millis(1));
    });
    driver.measure(
        "OffsetDelete, 100,000 partitions",
        |driver, _| {
            driver.ask(1, 8, commit("large", 0..PARTITIONS, 1));
            driver.pass(Duration::from_millis(100));
        },
        |driver, _| {
            let partition = |at| OffsetDeleteRequestPartition { partition_index: at % PARTITIONS };
            let topic =
                OffsetDeleteRequestTopic { name: TOPIC.into(), partitions: (0..NAMED).map(partition).collect() };
            driver.ask(1, 0, OffsetDeleteRequest { group_id: "large".into(), topics: vec![topic] });
            driver.pass(Duration::from_millis(100));
        },
    );
    driver.measure("Expiry, groups of 1,000 members", nothing, |driver, _| driver.pass(Duration::from_secs(600)));
    driver.measure(
        "DeleteGroups, a group with 10,000 offsets",
        |driver, _| {
            driver.ask(1, 8, commit("large", 0..PARTITIONS, 1));
            driver.pass(Duration::from_millis(100));
        },
        |driver, _| {
            driver.ask(1, 2, DeleteGroupsRequest { groups_names: vec!["large".into()] });
            driver.pass(Duration::from_millis(100));
        },
    );
}

fn topic(name: &str, num_partitions: i32, settings: &[(&str, &str)]) -> CreateTopicsRequest {
    let config = |&(name, value): &(&str, &str)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: 1,
        configs: settings.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }
}

fn commit(group: &str, partitions: std::ops::Range<i32>, committed_offset: i64) -> OffsetCommitRequest {
    let partition = |at| OffsetCommitRequestPartition {
        partition_index: at % PARTITIONS,
        committed_offset,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: partitions.map(partition).collect(),
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest { group_id: group.into(), topics: vec![topic], ..OffsetCommitRequest::default() }
}

fn fetch(group: &str, partitions: Option<std::ops::Range<i32>>) -> OffsetFetchRequest {
    let topics = partitions.map(|partitions| {
        vec![OffsetFetchRequestTopics {
            name: TOPIC.into(),
            partition_indexes: partitions.map(|at| at % PARTITIONS).collect(),
            ..OffsetFetchRequestTopics::default()
        }]
    });
    let group = OffsetFetchRequestGroup { group_id: group.into(), topics, ..OffsetFetchRequestGroup::default() };
    OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() }
}

/// Members of a classic group join together, and get their assignments; gives what each was told, with its group.
fn join(driver: &mut Driver, group: &str, count: usize) -> Vec<(Str, JoinGroupResponse)> {
    driver.answers.clear();
    for member in 0..count {
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: vec![0; 64].into() };
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        let client = Client { id: "measured".into(), host: "/127.0.0.1".into() };
        driver.input(member as u64 + 10, 3, Request::Member { client, request: Box::new(request.into()) });
    }
    driver.pass(Duration::from_secs(7));
    let joined: Vec<(Str, JoinGroupResponse)> = driver
        .answers
        .drain(..)
        .filter_map(|answer| match answer {
            Response::JoinGroup(joined) => Some((Str::from(group), joined)),
            _ => None,
        })
        .collect();
    assert_eq!(joined.len(), count, "all have joined");
    for (group, member) in &joined {
        let assigned = member.members.iter().map(|other| SyncGroupRequestAssignment {
            member_id: other.member_id.clone(),
            assignment: vec![0; 64].into(),
        });
        let request = SyncGroupRequest {
            group_id: group.clone(),
            generation_id: member.generation_id,
            member_id: member.member_id.clone(),
            assignments: assigned.collect(),
            ..SyncGroupRequest::default()
        };
        driver.ask(1, 2, request);
    }
    joined
}

fn heartbeat((group, joined): &(Str, JoinGroupResponse)) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.clone(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    }
}

/// A heartbeat of a member of the next protocol, which joins at epoch 0; gives its epoch.
fn next(driver: &mut Driver, member: &str, epoch: i32) -> i32 {
    heartbeat_with(driver, "next", member, epoch, (epoch == 0).then_some(TOPIC), None)
}

/// An expression of the kind that takes longest to compile: no two are the same.
fn nasty(run: usize) -> String {
    format!("{}x{run}", r"(\w{4}|[a-z0-9]{5}\d){9}".repeat(4))
}

/// A heartbeat of a member of the next protocol that subscribes to a topic or to an expression; gives its epoch.
fn heartbeat_with(
    driver: &mut Driver,
    group: &str,
    member: &str,
    epoch: i32,
    topic: Option<&str>,
    regex: Option<&str>,
) -> i32 {
    driver.answers.clear();
    let request = ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if epoch == 0 { 300_000 } else { -1 },
        subscribed_topic_names: topic.map(|topic| vec![topic.into()]),
        subscribed_topic_regex: regex.map(Str::from),
        topic_partitions: (epoch == 0).then(Vec::new),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let client = Client { id: "measured".into(), host: "/127.0.0.1".into() };
    let request: wire::Request = request.into();
    driver.input(1, 1, Request::Member { client, request: Box::new(request) });
    if driver.answers.is_empty() {
        // It waits for what takes several steps.
        driver.pass(Duration::from_millis(100));
    }
    match driver.answers.pop() {
        Some(Response::ConsumerGroupHeartbeat(answer)) => answer.member_epoch,
        other => panic!("another answer: {other:?}"),
    }
}
