//! Who looks after groups from outside: describes, deletes, commits without membership, takes static members out, and
//! asks for what must be refused.
//!
//! One operation at a time: learn the topics, find the coordinator, act. What is not answered is not asked again, so that
//! what became of it stays open, and the history says so.

use std::collections::BTreeSet;
use std::time::Duration;

use chronik_core::group::protocol::ConsumerProtocolAssignment;
use chronik_core::ids::Offset;
use chronik_core::time::Instant;
use chronik_core::wire::consumer_group_describe::{self, ConsumerGroupDescribeRequest};
use chronik_core::wire::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use chronik_core::wire::delete_groups::DeleteGroupsRequest;
use chronik_core::wire::describe_groups::{self, DescribeGroupsRequest};
use chronik_core::wire::find_coordinator::FindCoordinatorRequest;
use chronik_core::wire::heartbeat::HeartbeatRequest;
use chronik_core::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use chronik_core::wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use chronik_core::wire::list_groups::ListGroupsRequest;
use chronik_core::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use chronik_core::wire::offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use chronik_core::wire::sync_group::SyncGroupRequest;
use chronik_core::wire::{ApiKey, ErrorCode, Request, Response, Str};

use super::super::caller::{Caller, Outcome};
use super::super::reading::known_code;
use super::super::schedule::Schedule;
use super::super::topics::{METADATA_VERSION, Topics};
use super::super::wires::Node;
use super::super::{Client, ClientNow, Happened, Wanted, stream};
use super::offsets::{self, Credentials};
use super::{Told, find_coordinator, found, group_name, instance_name, of_coordinator, topic_index};
use crate::history::{InGroup, Place, Tag, What};
use crate::plan::{Action, Operation, Plan};

/// How many kinds of requests there are that must be refused.
pub(in crate::client) const BOTHERS: u8 = 11;
/// An operation is given up after so many answers that say to try again.
const ERRORS_MAX: u32 = 3;
/// Longer than any broker of the plans takes, in bytes.
const METADATA_TOO_LONG: usize = 5_000;

/// A group admin.
pub(in crate::client) struct GroupAdmin {
    index: u32,
    caller: Caller,
    topics: Topics,
    schedule: Schedule,
    doing: Option<Doing>,
    asked: Option<Asked>,
    commits: u32,
    is_done: bool,
}

#[derive(Debug)]
struct Doing {
    operation: u32,
    what: Action,
    group: u32,
    has_topics: bool,
    coordinator: Option<Node>,
    errors: u32,
}

#[derive(Debug)]
enum Asked {
    Metadata,
    Coordinator,
    Act { version: i16, tag: Tag, offsets: Vec<(Place, Offset)> },
}

impl GroupAdmin {
    pub(in crate::client) fn new(
        plan: &Plan,
        index: u32,
        request_timeout: Duration,
        operations: &[Operation],
    ) -> GroupAdmin {
        let name = format!("group-admin-{index}");
        GroupAdmin {
            index,
            caller: Caller::new(plan, &name, request_timeout, stream(index)),
            topics: Topics::new(plan),
            schedule: Schedule::new(operations),
            doing: None,
            asked: None,
            commits: 0,
            is_done: false,
        }
    }

    fn finish(&mut self, is_ok: bool, code: Option<ErrorCode>, wanted: &mut Vec<Wanted>) {
        if let Some(doing) = self.doing.take() {
            wanted.push(Wanted::Record(Some(doing.operation), What::Finished { is_ok, code }));
        }
    }

    fn begin(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        while self.doing.is_none()
            && let Some((operation, due)) = self.schedule.due(now)
        {
            let what = due.what.clone();
            self.schedule.go_on();
            let group = match what {
                Action::AskGroup { group, .. }
                | Action::DeleteGroup { group }
                | Action::DeleteOffsets { group, .. }
                | Action::CommitAlone { group, .. }
                | Action::RemoveMember { group, .. }
                | Action::Bother { group, .. } => group,
                _ => {
                    wanted.push(Wanted::Record(Some(operation), What::Finished { is_ok: false, code: None }));
                    continue;
                }
            };
            let (has_topics, coordinator, errors) = (false, None, 0);
            self.doing = Some(Doing { operation, what, group, has_topics, coordinator, errors });
        }
    }

    fn advance(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        self.begin(now, wanted);
        if let Some(doing) = &self.doing
            && self.asked.is_none()
            && self.caller.is_free(now, doing.coordinator, wanted)
        {
            let (group, operation) = (group_name(doing.group), doing.operation);
            let newness = i16::try_from(operation % 100).expect("below a hundred");
            if !doing.has_topics {
                let request = self.topics.request(0..self.topics.len());
                self.caller.ask(now, &request, METADATA_VERSION, wanted);
                self.asked = Some(Asked::Metadata);
            } else if doing.coordinator.is_none() {
                let version = newness % 7;
                self.caller.ask(now, &find_coordinator(&group, version), version, wanted);
                self.asked = Some(Asked::Coordinator);
            } else {
                self.act(now, &group, newness, wanted);
            }
        }
        if !self.is_done && self.doing.is_none() && self.schedule.is_over() {
            self.is_done = true;
            self.caller.close(wanted);
            wanted.push(Wanted::Record(None, What::Done));
        }
    }

    fn act(&mut self, now: ClientNow, group: &Str, newness: i16, wanted: &mut Vec<Wanted>) {
        let doing = self.doing.as_ref().expect("an operation is under way");
        let number = doing.group;
        let mut record = |what| wanted.push(super::record(number, Some(doing.operation), what));
        let tag = Tag { client: self.index, number: self.commits };
        let mut committed = Vec::new();
        let (request, version): (Request, Option<i16>) = match doing.what {
            Action::AskGroup { which, .. } => match which % 4 {
                0 => {
                    let request = DescribeGroupsRequest { groups: vec![group.clone()], ..Default::default() };
                    (request.into(), None)
                }
                1 => {
                    let request = ConsumerGroupDescribeRequest { group_ids: vec![group.clone()], ..Default::default() };
                    (request.into(), None)
                }
                2 => (ListGroupsRequest::default().into(), None),
                _ => {
                    let version = 2 + newness % 8;
                    (offsets::fetch(version, group, &Credentials::none(), None, &self.topics), Some(version))
                }
            },
            Action::DeleteGroup { .. } => {
                record(InGroup::Delete { topic: None });
                (DeleteGroupsRequest { groups_names: vec![group.clone()] }.into(), None)
            }
            Action::DeleteOffsets { topic, .. } => {
                record(InGroup::Delete { topic: Some(topic_index(topic)) });
                let known = self.topics.get(topic);
                let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
                let partitions = (0..known.partitions.max(1)).map(partition).collect();
                let topics = vec![OffsetDeleteRequestTopic { name: known.name.clone(), partitions }];
                (OffsetDeleteRequest { group_id: group.clone(), topics }.into(), None)
            }
            Action::CommitAlone { topic, partition, .. } => {
                let place = Place { topic: topic_index(topic), partition };
                committed.push((place, Offset(i64::from(doing.operation))));
                let offsets = committed.clone();
                record(InGroup::Commit { tag, number: -1, offsets });
                self.commits += 1;
                let version = offsets::version(2 + newness % 9, &self.topics, [place]);
                let request = offsets::commit(version, group, &Credentials::none(), tag, &committed, &self.topics);
                (request, Some(version))
            }
            Action::RemoveMember { instance, .. } => {
                record(InGroup::Leaves { instance: Some(instance) });
                let member = MemberIdentity {
                    group_instance_id: Some(instance_name(instance)),
                    reason: Some("taken out".into()),
                    ..Default::default()
                };
                let request =
                    LeaveGroupRequest { group_id: group.clone(), members: vec![member], ..Default::default() };
                (request.into(), Some(3 + newness % 3))
            }
            Action::Bother { which, .. } => bother(which, group, &self.topics),
            _ => unreachable!("no other operation begins"),
        };
        let version = version.unwrap_or_else(|| {
            let versions = request.api_key().versions();
            versions.start() + newness % (versions.end() - versions.start() + 1)
        });
        self.caller.ask(now, &request, version, wanted);
        self.asked = Some(Asked::Act { version, tag, offsets: committed });
    }

    fn take(&mut self, now: ClientNow, outcome: Outcome, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        let (Some(asked), Some(doing)) = (self.asked.take(), &mut self.doing) else { return Ok(()) };
        let (at, response) = match outcome {
            Outcome::Answered(at, response) => (at, response),
            Outcome::Lost => {
                match asked {
                    Asked::Act { .. } => self.finish(false, None, wanted),
                    _ => (doing.has_topics, doing.coordinator) = (false, None),
                }
                return Ok(());
            }
        };
        match (asked, response) {
            (Asked::Metadata, Response::Metadata(response)) => {
                doing.has_topics = true;
                self.topics.learn(&response, wanted).map(drop)
            }
            (Asked::Coordinator, Response::FindCoordinator(response)) => {
                match found(&group_name(doing.group), &response)? {
                    Ok(node) => doing.coordinator = Some(node),
                    Err(code) => self.failed(now, code, wanted),
                }
                Ok(())
            }
            (Asked::Act { version, tag, offsets }, response) => {
                let answer = Answer { at, version, tag, offsets: &offsets };
                match self.acted(&answer, &response, wanted)? {
                    ErrorCode::None => self.finish(true, None, wanted),
                    code => self.failed(now, code, wanted),
                }
                Ok(())
            }
            (_, response) => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }

    fn failed(&mut self, now: ClientNow, code: ErrorCode, wanted: &mut Vec<Wanted>) {
        match &mut self.doing {
            Some(doing) if of_coordinator(code).is_some() && doing.errors < ERRORS_MAX => {
                doing.errors += 1;
                doing.coordinator.take_if(|_| of_coordinator(code) != Some(Told::Again));
                self.caller.back_off(now);
            }
            _ => self.finish(false, Some(code), wanted),
        }
    }

    fn acted(
        &mut self,
        answer: &Answer<'_>,
        response: &Response,
        wanted: &mut Vec<Wanted>,
    ) -> Result<ErrorCode, String> {
        let doing = self.doing.as_ref().expect("an operation is under way");
        let (number, name) = (doing.group, group_name(doing.group));
        let asked_at = answer.at;
        let mut record = |what| wanted.push(super::record(number, Some(doing.operation), what));
        if let Action::Bother { which, .. } = doing.what {
            return refusal(which, response);
        }
        match response {
            Response::DescribeGroups(response) => {
                let [group] = response.groups.as_slice() else { return Err(many(response.groups.len())) };
                let code = known_code(group.error_code)?;
                if code == ErrorCode::None {
                    let places = described(&name, group, &self.topics)?;
                    record(InGroup::Described { asked_at, epoch: None, places });
                }
                Ok(code)
            }
            Response::ConsumerGroupDescribe(response) => {
                let [group] = response.groups.as_slice() else { return Err(many(response.groups.len())) };
                let code = known_code(group.error_code)?;
                if code == ErrorCode::None {
                    let places = described_next(&name, group, &self.topics)?;
                    record(InGroup::Described { asked_at, epoch: Some(group.group_epoch), places });
                }
                Ok(code)
            }
            Response::ListGroups(response) => {
                let names: BTreeSet<&Str> = response.groups.iter().map(|group| &group.group_id).collect();
                if names.len() < response.groups.len() {
                    return Err("a group is listed twice".into());
                }
                known_code(response.error_code)
            }
            Response::OffsetFetch(response) => {
                match offsets::fetched(answer.version, &name, None, response, &self.topics)? {
                    Ok(committed) => {
                        record(InGroup::Offsets { asked_at, committed, is_all: true });
                        Ok(ErrorCode::None)
                    }
                    Err(code) => Ok(code),
                }
            }
            Response::DeleteGroups(response) => {
                let [result] = response.results.as_slice() else { return Err(many(response.results.len())) };
                let code = known_code(result.error_code)?;
                if code == ErrorCode::None {
                    record(InGroup::Deleted { topic: None, asked_at });
                }
                Ok(code)
            }
            Response::OffsetDelete(response) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                let mut code = known_code(response.error_code)?;
                for partition in partitions {
                    if code == ErrorCode::None {
                        code = known_code(partition.error_code)?;
                    }
                }
                if let (ErrorCode::None, Action::DeleteOffsets { topic, .. }) = (code, &doing.what) {
                    record(InGroup::Deleted { topic: Some(topic_index(*topic)), asked_at });
                }
                Ok(code)
            }
            Response::OffsetCommit(response) => {
                let told = offsets::committed(answer.version, answer.offsets, response, &self.topics)?;
                let (place, code) = told[0];
                let (tag, places) = (answer.tag, vec![place]);
                match code {
                    ErrorCode::None => record(InGroup::Taken { tag, places }),
                    code if offsets::is_declined(code) => record(InGroup::Declined { tag, code, places }),
                    _ => {}
                }
                Ok(code)
            }
            Response::LeaveGroup(response) => {
                let of_member = response.members.first().map_or(0, |member| member.error_code);
                match known_code(response.error_code)? {
                    ErrorCode::None => known_code(of_member),
                    code => Ok(code),
                }
            }
            response => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }
}

/// What belongs to an answer.
struct Answer<'a> {
    at: Instant,
    version: i16,
    tag: Tag,
    offsets: &'a [(Place, Offset)],
}

fn many(count: usize) -> String {
    format!("one group was asked for, {count} are told")
}

/// What the members of a group have, by DescribeGroups.
fn described(name: &Str, group: &describe_groups::DescribedGroup, topics: &Topics) -> Result<Vec<Place>, String> {
    let states = ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Assigning", "Reconciling"];
    if group.group_id != *name || !states.contains(&&*group.group_state) {
        return Err(format!("{name} was asked for, {} is told of in state {}", group.group_id, group.group_state));
    }
    let ids: BTreeSet<&Str> = group.members.iter().map(|member| &member.member_id).collect();
    if ids.len() < group.members.len() {
        return Err(format!("{name} has a member twice"));
    }
    let is_empty = matches!(&*group.group_state, "Empty" | "Dead");
    if is_empty != group.members.is_empty() {
        return Err(format!("{name} is {} with {} members", group.group_state, group.members.len()));
    }
    let mut places = Vec::new();
    if &*group.group_state != "Stable" {
        return Ok(places);
    }
    for member in group.members.iter().filter(|member| !member.member_assignment.is_empty()) {
        let assignment = ConsumerProtocolAssignment::from_bytes(&member.member_assignment)
            .map_err(|error| format!("an assignment that is described cannot be read: {error}"))?;
        for topic in &assignment.assigned_partitions {
            let index = topics.with_name(&topic.topic).ok_or("partitions of a topic of nobody's are described")?;
            let place = |&partition: &i32| Place { topic: topic_index(index), partition };
            places.extend(topic.partitions.iter().map(place));
        }
    }
    Ok(places)
}

/// What the members of a group have, by ConsumerGroupDescribe.
fn described_next(
    name: &Str,
    group: &consumer_group_describe::DescribedGroup,
    topics: &Topics,
) -> Result<Vec<Place>, String> {
    let states = ["Empty", "Assigning", "Reconciling", "Stable", "Dead"];
    if group.group_id != *name || !states.contains(&&*group.group_state) {
        return Err(format!("{name} was asked for, {} is told of in state {}", group.group_id, group.group_state));
    }
    if group.assignment_epoch > group.group_epoch {
        return Err(format!("{name} is assigned for epoch {} in {}", group.assignment_epoch, group.group_epoch));
    }
    let mut places = Vec::new();
    for member in &group.members {
        if member.member_epoch > group.group_epoch {
            return Err(format!("a member of {name} is in epoch {} of {}", member.member_epoch, group.group_epoch));
        }
        for topic in &member.assignment.topic_partitions {
            // A topic that is gone by now is nobody's.
            let Some(index) = topics.with_id(topic.topic_id) else { continue };
            let place = |&partition: &i32| Place { topic: topic_index(index), partition };
            places.extend(topic.partitions.iter().map(place));
        }
    }
    Ok(places)
}

/// A request that must be refused, whatever the group is.
fn bother(which: u8, group: &Str, topics: &Topics) -> (Request, Option<i16>) {
    let group_id = group.clone();
    let member_id: Str = "nobody".into();
    let join = |session_timeout_ms, group_id, protocols| JoinGroupRequest {
        group_id,
        session_timeout_ms,
        rebalance_timeout_ms: 1_000,
        member_id: member_id.clone(),
        protocol_type: "consumer".into(),
        protocols,
        ..Default::default()
    };
    let range = || vec![JoinGroupRequestProtocol { name: "range".into(), metadata: vec![0, 1, 0, 0].into() }];
    let commit = |group_id, member_id, generation, metadata: String| {
        let partition = OffsetCommitRequestPartition {
            committed_metadata: Some(Str::from(metadata.as_str())),
            ..Default::default()
        };
        let name = topics.get(0).name.clone();
        let topic = OffsetCommitRequestTopic { name, partitions: vec![partition], ..Default::default() };
        OffsetCommitRequest {
            group_id,
            generation_id_or_member_epoch: generation,
            member_id,
            topics: vec![topic],
            ..Default::default()
        }
    };
    match which % BOTHERS {
        0 => (HeartbeatRequest { group_id, generation_id: 1, member_id, ..Default::default() }.into(), None),
        1 => (SyncGroupRequest { group_id, generation_id: 1, member_id, ..Default::default() }.into(), Some(3)),
        2 => (join(1, group_id, range()).into(), None),
        3 => (join(10_000, group_id, Vec::new()).into(), None),
        // Nobody was given that id.
        4 => (join(10_000, group_id, range()).into(), None),
        5 => (join(10_000, Str::EMPTY, range()).into(), None),
        6 => {
            let request = ConsumerGroupHeartbeatRequest { group_id, member_id, member_epoch: 5, ..Default::default() };
            (request.into(), None)
        }
        7 => {
            let request = ConsumerGroupHeartbeatRequest { group_id, member_id, member_epoch: -3, ..Default::default() };
            (request.into(), None)
        }
        8 => (commit(group_id, member_id, 1, "x".into()).into(), Some(9)),
        9 => (commit(group_id, Str::EMPTY, -1, "x".repeat(METADATA_TOO_LONG)).into(), Some(9)),
        _ => (FindCoordinatorRequest { key: group_id, key_type: 1, ..Default::default() }.into(), Some(3)),
    }
}

/// The error of what must be refused.
fn refusal(which: u8, response: &Response) -> Result<ErrorCode, String> {
    let code = match response {
        Response::Heartbeat(response) => response.error_code,
        Response::SyncGroup(response) => response.error_code,
        Response::JoinGroup(response) => response.error_code,
        Response::ConsumerGroupHeartbeat(response) => response.error_code,
        Response::FindCoordinator(response) => response.error_code,
        Response::OffsetCommit(response) => {
            let partition = response.topics.first().and_then(|topic| topic.partitions.first());
            partition.ok_or("a commit is answered for nothing")?.error_code
        }
        response => unreachable!("{} is decoded as what was asked", response.api_key()),
    };
    match known_code(code)? {
        ErrorCode::None => Err(format!("nonsense {} is answered as if it were none", which % BOTHERS)),
        // Whatever says to come again is no answer to that.
        code if of_coordinator(code).is_some() && response.api_key() != ApiKey::FindCoordinator => Ok(code),
        _ => Ok(ErrorCode::None),
    }
}

impl Client for GroupAdmin {
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) {
        self.schedule.take(&happened);
        if let Some(outcome) = self.caller.take(now, happened, wanted)
            && let Err(what) = self.take(now, outcome, wanted)
        {
            let operation = self.doing.as_ref().map(|doing| doing.operation);
            self.caller.broken(now, operation, what, wanted);
            self.finish(false, None, wanted);
        }
        // Who could not be reached before anything was asked may be gone for good, and another coordinates.
        if self.caller.has_lost()
            && self.asked.is_none()
            && let Some(doing) = &mut self.doing
        {
            doing.coordinator = None;
        }
        self.advance(now, wanted);
        self.caller.rest(now, self.doing.is_some(), self.schedule.wake(now), wanted);
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn describe(&self) -> String {
        let (state, schedule) = (self.caller.describe(), self.schedule.describe());
        let doing = self.doing.as_ref().map_or("nothing".to_owned(), |doing| format!("{:?}", doing.what));
        format!("group admin {}: {state}, {schedule}, does {doing}", self.index)
    }
}
