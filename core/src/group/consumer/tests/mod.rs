//! What members of a group of the next protocol see, rule by rule, and what holds whatever they do.

mod classic;
mod commits;
mod fencing;
mod joining;
mod load;
mod migration;
mod random;
mod slices;
mod subscriptions;

use std::collections::BTreeMap;
use std::time::Duration;

use super::Group;
use crate::group::record::Record;
use crate::group::testing::{Rig, client, topic_id};
use crate::group::{Timer, TimerKind};
use crate::time::Timestamp;
use crate::wire::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::wire::{ErrorCode, Str};

/// A group, what it stands on, and all that it wrote.
struct Scene {
    rig: Rig,
    group: Group,
    log: Vec<(Record, Timestamp)>,
    /// The group of another node, which loads what is written at once.
    other: Group,
}

impl Scene {
    /// An empty group, and topics with their numbers of partitions.
    fn new(topics: &[(&str, u32)]) -> Scene {
        let mut rig = Rig::new();
        for (name, partitions) in topics {
            rig.topic(name, *partitions);
        }
        Scene { rig, group: Group::new(Str::from("g")), log: Vec::new(), other: Group::new(Str::from("g")) }
    }

    /// A heartbeat in version 1.
    #[track_caller]
    fn beat(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        self.beat_in(1, request)
    }

    #[track_caller]
    fn beat_in(&mut self, version: i16, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let to = self.rig.ask(version);
        self.group.heartbeat(&mut self.rig.ctx(), to, &client("c"), request);
        self.settle();
        self.end_assigning();
        self.rig.reply(to)
    }

    /// A heartbeat that is not refused.
    #[track_caller]
    fn accepted(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let response = self.beat(request);
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        response
    }

    /// The error that a heartbeat is refused with.
    #[track_caller]
    fn refused(&mut self, request: ConsumerGroupHeartbeatRequest) -> ErrorCode {
        let response = self.beat(request);
        assert_eq!((response.member_id, response.member_epoch, response.assignment), (None, 0, None));
        ErrorCode::from_code(response.error_code).expect("a known error")
    }

    /// Time passes, and the group is called for what is due, as often as it wants to be.
    fn pass(&mut self, time: Duration) {
        self.rig.pass(time);
        while self.goes_on() {}
    }

    /// Calls the group for one thing that is due, a question that is answered above all. Returns whether there was one.
    fn goes_on(&mut self) -> bool {
        if let Some(found) = self.rig.answer_one() {
            self.group.found(&mut self.rig.ctx(), found.number, found.what);
        } else if let Some(timer) = self.rig.due() {
            self.group.timer(&mut self.rig.ctx(), timer.kind);
        } else {
            return false;
        }
        self.settle();
        true
    }

    /// An assignment that is being made is made, and nothing else happens.
    fn end_assigning(&mut self) {
        let timer = Timer { group: Str::from("g"), kind: TimerKind::Assigning };
        while self.group.is_assigning() {
            if let Some(found) = self.rig.answer_one() {
                self.group.found(&mut self.rig.ctx(), found.number, found.what);
            } else {
                self.rig.timers.cancel(&timer);
                self.group.timer(&mut self.rig.ctx(), TimerKind::Assigning);
            }
            self.settle();
        }
    }

    /// Topics have changed.
    fn topics_changed(&mut self) {
        self.group.topics_changed(&mut self.rig.ctx());
        self.pass(Duration::ZERO);
    }

    /// What was written goes to the log, and says all that the group is.
    #[track_caller]
    fn settle(&mut self) {
        let written = self.rig.records();
        let at = self.rig.now.wall;
        for record in written {
            self.other.replay(&record, at);
            self.log.push((record, at));
        }
        assert_eq!(told_by(&self.other), told_by(&self.group), "a load gives the same group");
        self.invariants();
    }

    /// A record that another version wrote.
    fn takes(&mut self, record: Record) {
        self.group.replay(&record, self.rig.now.wall);
        self.rig.ctx().write(record);
        self.settle();
    }

    /// What must hold after every step.
    #[track_caller]
    fn invariants(&self) {
        let group = &self.group;
        assert!(group.assignment_epoch <= group.epoch, "an assignment is made for an epoch that there is");
        let mut owned = BTreeMap::new();
        for (id, member) in &group.members {
            assert!(member.current.epoch <= group.assignment_epoch, "{id} has an epoch that has an assignment");
            for held in member.current.held() {
                assert_eq!(owned.insert(held, id), None, "{held:?} belongs to one member");
            }
        }
        let owners = group.owners.iter().flat_map(|(topic, of)| of.iter().map(|(at, id)| ((*topic, *at), id)));
        assert_eq!(owners.collect::<BTreeMap<_, _>>(), owned, "owners are those that own");
        let named = group.members.values().flat_map(|member| &member.about.topics);
        let resolved = group.expressions.keys().filter_map(|expression| group.resolved.get(expression));
        let mut topics: BTreeMap<Str, usize> = BTreeMap::new();
        for topic in named.chain(resolved.flat_map(|resolved| &resolved.topics)) {
            *topics.entry(topic.clone()).or_default() += 1;
        }
        assert_eq!(group.topics, topics, "topics are those named and matched");
    }

    /// The node fails, and another loads what was written.
    fn fail_over(&mut self) {
        self.group = replayed(&self.log);
        self.rig.timers = Default::default();
        self.group.begin(&mut self.rig.ctx());
        self.pass(Duration::ZERO);
    }

    fn records_written(&self) -> usize {
        self.log.len()
    }
}

/// The group that a log tells of.
fn replayed(log: &[(Record, Timestamp)]) -> Group {
    let mut group = Group::new(Str::from("g"));
    for (record, at) in log {
        group.replay(record, *at);
    }
    group
}

/// All of a group that must survive a failure, and what follows from it, in a form to compare.
fn told_by(group: &Group) -> impl PartialEq + std::fmt::Debug + '_ {
    let members: Vec<_> = group.members.iter().map(|(id, member)| (id, &member.about, &member.current)).collect();
    let epochs = (group.epoch, group.metadata_hash, group.assignment_epoch, group.empty_since());
    let derived =
        (&group.topics, &group.expressions, &group.instances, &group.owners, group.classic_members, &group.supported);
    (epochs, members, &group.targets, &group.resolved, group.written, derived)
}

/// The first heartbeat of a member.
fn join(id: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(|name| Str::from(*name)).collect()),
        topic_partitions: Some(Vec::new()),
        ..steady(id, 0)
    }
}

/// A heartbeat that only says that the member is there.
fn steady(id: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from("g"),
        member_id: Str::from(id),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// A heartbeat that says what the member owns.
fn owning(id: &str, epoch: i32, owned: &[(&str, &[i32])]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest { topic_partitions: Some(partitions(owned)), ..steady(id, epoch) }
}

fn static_join(id: &str, instance: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest { instance_id: Some(Str::from(instance)), ..join(id, topics) }
}

fn partitions(of: &[(&str, &[i32])]) -> Vec<TopicPartitions> {
    of.iter()
        .map(|(name, partitions)| TopicPartitions { topic_id: topic_id(name), partitions: partitions.to_vec() })
        .collect()
}

/// What a response tells a member to own.
fn told(of: &[(&str, &[i32])]) -> Option<Assignment> {
    Some(Assignment { topic_partitions: partitions(of) })
}
