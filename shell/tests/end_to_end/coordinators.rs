//! Groups whose coordinator is killed or frozen: what was committed stays, every member goes on with what it had, and no
//! partition ever has two owners.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::support::client::Client;
use crate::support::cluster::{Addresses, Cluster, NODES, wait_for};
use crate::support::code;
use crate::support::group::{Group, NOBODY};
use crate::support::topic::{Topic, text};

const PARTITIONS: i32 = 4;
/// How soon members are back at work after their coordinator was killed: the 1.5 s until it is missed, an election, and
/// the load of the group, in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// The topic in which groups are kept.
fn offsets_topic() -> Topic {
    Topic { name: text("__consumer_offsets").into(), created: Default::default() }
}

/// A cluster, a topic on all of its nodes, and a group whose coordinator serves and may die.
fn cluster_with_group(purpose: &str) -> Option<(Cluster, Topic, Group)> {
    let cluster = Cluster::start()?;
    let topic = cluster.create(1, purpose, PARTITIONS);
    let group = Group::named_after(purpose);
    cluster.coordinator(&group);
    cluster.wait_until_in_sync(&offsets_topic(), &NODES, &NODES);
    Some((cluster, topic, group))
}

/// Kills the group's coordinator, and gives the next one once it serves; the one that was killed as well.
fn kill_coordinator(cluster: &mut Cluster, group: &Group) -> (i32, Client) {
    let (killed, _) = cluster.coordinator(group);
    cluster.kill(killed);
    let begun = Instant::now();
    let (next, client) = cluster.coordinator(group);
    assert!(next != killed && begun.elapsed() < SOON, "node {next} after {:?}", begun.elapsed());
    (killed, client)
}

/// Offsets as `topic`'s partition 0 has them for the group.
fn committed(client: &mut Client, group: &Group, topic: &Topic) -> i64 {
    group.committed(client, topic, 8).0
}

/// What a commit by a member of a generation or epoch is answered.
fn commit_as(client: &mut Client, version: i16, request: OffsetCommitRequest, member: &StrBytes, epoch: i32) -> i16 {
    let request = request.with_member_id(member.clone()).with_generation_id_or_member_epoch(epoch);
    client.call(version, &request).topics[0].partitions[0].error_code
}

/// A member of a group of the next protocol (KIP-848).
struct Member {
    id: StrBytes,
    /// Zero before it has joined.
    epoch: i32,
    owned: BTreeSet<i32>,
}

/// All members of one group, and the connection that they share.
struct Members {
    of: Vec<Member>,
    coordinator: Option<(i32, Client)>,
}

impl Members {
    fn join(&mut self) {
        let id = text(&format!("member-{}", self.of.len()));
        self.of.push(Member { id, epoch: 0, owned: BTreeSet::new() });
    }

    /// Everybody sends one heartbeat with what it owns, and takes what it is given at once. Gives the coordinator that
    /// has answered all of them.
    fn beat(&mut self, addresses: &Addresses, group: &Group, topic: &Topic) -> Option<i32> {
        if self.coordinator.is_none() {
            self.coordinator = addresses.try_coordinator(group);
        }
        let (node, mut client) = self.coordinator.take()?;
        for index in 0..self.of.len() {
            let member = &mut self.of[index];
            let answer = client.try_call::<ConsumerGroupHeartbeatRequest>(1, &member.heartbeat(group, topic)).ok()?;
            if answer.error_code != code::NONE {
                let passes = code::PASSING_FOR_MEMBERS.contains(&answer.error_code);
                assert!(passes, "node {node} answers {:?} with {}", member.id, answer.error_code);
                return None;
            }
            member.epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                member.owned = assignment.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect();
            }
            self.check_owners();
        }
        self.coordinator = Some((node, client));
        Some(node)
    }

    fn check_owners(&self) {
        let mut all = BTreeSet::new();
        for partition in self.of.iter().flat_map(|member| &member.owned) {
            assert!(all.insert(*partition), "two own partition {partition}: {:?}", self.holdings());
        }
    }

    /// The epoch and the partitions of each.
    fn holdings(&self) -> Vec<(i32, BTreeSet<i32>)> {
        self.of.iter().map(|member| (member.epoch, member.owned.clone())).collect()
    }

    /// Beats until all partitions have owners, and everybody knows of everybody.
    fn settle(&mut self, addresses: &Addresses, group: &Group, topic: &Topic) {
        wait_for("the group settles", || {
            self.beat(addresses, group, topic)?;
            let owned: usize = self.of.iter().map(|member| member.owned.len()).sum();
            let is_even = self.of.iter().all(|member| member.owned.len() >= PARTITIONS as usize / self.of.len());
            let is_one_epoch = self.of.iter().all(|member| member.epoch == self.of[0].epoch);
            (owned == PARTITIONS as usize && is_even && is_one_epoch).then_some(())
        });
    }
}

impl Member {
    fn heartbeat(&self, group: &Group, topic: &Topic) -> ConsumerGroupHeartbeatRequest {
        let owned = TopicPartitions::default()
            .with_topic_id(topic.created.topic_id)
            .with_partitions(self.owned.iter().copied().collect());
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group.id().clone())
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(10_000)
            .with_subscribed_topic_names(Some(vec![topic.name.clone()]))
            .with_topic_partitions(Some(if self.owned.is_empty() { Vec::new() } else { vec![owned] }))
    }
}

#[test]
fn a_group_of_the_next_protocol_outlives_its_coordinators() {
    let Some((mut cluster, topic, group)) = cluster_with_group("next") else { return };
    let mut members = Members { of: Vec::new(), coordinator: None };
    members.join();
    for round in 1..=2 {
        members.join();
        members.settle(&cluster, &group, &topic);
        let (_, mut client) = cluster.coordinator(&group);
        let owner = members.of.iter().find(|member| member.owned.contains(&0)).expect("somebody owns partition 0");
        let request = group.commit_request(&topic, 9, 0, 10 * round);
        assert_eq!(commit_as(&mut client, 9, request, &owner.id, owner.epoch), code::NONE);
        let before = members.holdings();
        let (killed, mut client) = kill_coordinator(&mut cluster, &group);
        assert_eq!(committed(&mut client, &group, &topic), 10 * round, "what was committed");
        let answered = wait_for("everybody is answered", || members.beat(&cluster, &group, &topic));
        assert_ne!(answered, killed);
        // Nobody had to join again: it is the same group, with the same epochs.
        assert_eq!(members.holdings(), before);
        cluster.restart(killed);
        cluster.wait_until_in_sync(&offsets_topic(), &NODES, &NODES);
    }
    members.join();
    members.settle(&cluster, &group, &topic);
}

/// Two members of the classic protocol, each with half of the partitions, given to them by the first.
struct Pair {
    joined: [JoinGroupResponse; 2],
}

impl Pair {
    const VERSION: i16 = 5;
    const HALVES: [&[u8]; 2] = [b"0 and 1", b"2 and 3"];

    fn join(group: &Group, clients: &mut [Client; 2]) -> Self {
        let [one, two] = clients;
        let alone = group.join(one, Self::VERSION);
        group.sync(one, 3, &alone);
        let named = two.call(Self::VERSION, &group.join_request(Self::VERSION, &NOBODY));
        assert_eq!(named.error_code, code::MEMBER_ID_REQUIRED);
        let asked = two.send(Self::VERSION, &group.join_request(Self::VERSION, &named.member_id));
        let asked = asked.expect("the connection is open");
        wait_for("the first hears of the second", || {
            (group.beat(one, 3, &alone) == code::REBALANCE_IN_PROGRESS).then_some(())
        });
        let leader = one.call(Self::VERSION, &group.join_request(Self::VERSION, &alone.member_id));
        let follower = two.receive::<JoinGroupRequest>(Self::VERSION, asked).expect("an answer once all have joined");
        assert_eq!((&leader.leader, leader.generation_id), (&leader.member_id, follower.generation_id));
        let pair = Self { joined: [leader, follower] };
        assert_eq!(pair.sync(group, one, 0), Self::HALVES[0]);
        assert_eq!(pair.sync(group, two, 1), Self::HALVES[1]);
        pair
    }

    /// What a member is told to own, also long after the rebalance.
    fn sync(&self, group: &Group, client: &mut Client, index: usize) -> Bytes {
        let joined = &self.joined[index];
        let assignments = self.joined.iter().zip(Self::HALVES).map(|(member, half)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(Bytes::from_static(half))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group.id().clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(if index == 0 { assignments.collect() } else { Vec::new() });
        let response = client.call(3, &request);
        assert_eq!(response.error_code, code::NONE);
        response.assignment
    }
}

#[test]
fn a_generation_of_the_classic_protocol_outlives_its_coordinators() {
    let Some((mut cluster, topic, group)) = cluster_with_group("classic") else { return };
    let pair = Pair::join(&group, &mut [cluster.coordinator(&group).1, cluster.coordinator(&group).1]);
    let [leader, _] = &pair.joined;
    for round in 1..=2 {
        let (_, mut client) = cluster.coordinator(&group);
        let commit = |client: &mut Client, offset, generation| {
            commit_as(client, 8, group.commit_request(&topic, 8, 0, offset), &leader.member_id, generation)
        };
        assert_eq!(commit(&mut client, 10 * round, leader.generation_id), code::NONE);
        let (killed, mut client) = kill_coordinator(&mut cluster, &group);
        assert_eq!(committed(&mut client, &group, &topic), 10 * round, "what was committed");
        for (index, (joined, half)) in pair.joined.iter().zip(Pair::HALVES).enumerate() {
            assert_eq!(group.beat(&mut client, 3, joined), code::NONE, "its generation goes on");
            assert_eq!(pair.sync(&group, &mut client, index), half, "with what it had");
        }
        // The one before this generation is not let in, by whoever is the coordinator.
        let gone = commit(&mut client, 999, leader.generation_id - 1);
        assert_eq!(gone, code::ILLEGAL_GENERATION);
        assert_eq!(committed(&mut client, &group, &topic), 10 * round);
        cluster.restart(killed);
        cluster.wait_until_in_sync(&offsets_topic(), &NODES, &NODES);
    }
}

#[test]
fn a_coordinator_that_was_frozen_commits_nothing_once_another_is_there() {
    let Some((mut cluster, topic, group)) = cluster_with_group("stale") else { return };
    let (old, mut stale) = cluster.coordinator(&group);
    assert_eq!(group.commit(&mut stale, &topic, 8, 1), code::NONE);
    // What is asked for now is read only when the process goes on.
    cluster.freeze(old);
    let late = stale.send(8, &group.commit_request(&topic, 8, 0, 99)).expect("the connection is open");
    let (_, mut client) = cluster.coordinator(&group);
    assert_eq!(committed(&mut client, &group, &topic), 1);
    assert_eq!(group.commit(&mut client, &topic, 8, 2), code::NONE);
    cluster.thaw(old);
    let answer = stale.receive::<OffsetCommitRequest>(8, late).expect("an answer, though late");
    let answer = answer.topics[0].partitions[0].error_code;
    assert!(code::PASSING_FOR_MEMBERS.contains(&answer), "a late commit is answered with {answer}");
    cluster.wait_until_in_sync(&offsets_topic(), &NODES, &NODES);
    let (_, mut client) = cluster.coordinator(&group);
    assert_eq!(committed(&mut client, &group, &topic), 2);
}
