//! A member by the classic protocol, as the Java client and librdkafka behave.
//!
//! | phase | becomes | when |
//! | --- | --- | --- |
//! | out | joining | it wants in |
//! | joining | joining | it was given an id, or told to come again |
//! | joining | syncing | there is a generation |
//! | syncing | stable | it was told what it has |
//! | syncing, stable | joining | there is a rebalance, it is unknown or late, or it has given something up |
//! | any | leaving, out | it wants out |
//!
//! By ranges it gives up all that it has before it joins. Sticky and cooperative it joins with what it has, gives up what
//! it is then told of no longer, and joins again.

use std::collections::BTreeSet;

use bytes::Bytes;
use chronik_core::group::protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition as NamedPartitions, version,
};
use chronik_core::time::Instant;
use chronik_core::wire::heartbeat::HeartbeatRequest;
use chronik_core::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use chronik_core::wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use chronik_core::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use chronik_core::wire::{ErrorCode, Request, Response, Str};

use super::super::Wanted;
use super::super::reading::known_code;
use super::assignor::{Candidate, cooperative_sticky, range};
use super::{Sight, Told, by_topic, of_coordinator, topic_index};
use crate::history::{InGroup, Place};
use crate::plan::GroupProtocol;

/// What a member is called that has no id yet.
const NOBODY: Str = Str::EMPTY;

/// The member's side of the protocol.
#[derive(Debug)]
pub(super) struct Classic {
    phase: Phase,
    member: Str,
    generation: i32,
    /// What it reads.
    owned: BTreeSet<Place>,
    heartbeat_at: Instant,
    /// How many partitions each topic had when it assigned; `None` where another member does.
    assigned_over: Option<Vec<i32>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Out,
    Joining,
    /// With what the leader assigns, if it is the leader.
    Syncing(Vec<(Str, Bytes)>),
    Stable,
    Leaving,
}

/// Versions of JoinGroup, SyncGroup, Heartbeat, LeaveGroup and the subscription, by the client's age.
struct Versions {
    join: i16,
    sync: i16,
    heartbeat: i16,
    leave: i16,
    subscription: i16,
}

fn versions(sight: &Sight<'_>) -> Versions {
    // Static members came with JoinGroup 5.
    let age = if sight.instance.is_some() { sight.settings.age.min(1) } else { sight.settings.age };
    match age {
        0 => Versions { join: 9, sync: 5, heartbeat: 4, leave: 5, subscription: 3 },
        1 => Versions { join: 5, sync: 3, heartbeat: 3, leave: 3, subscription: 1 },
        _ => Versions { join: 3, sync: 2, heartbeat: 2, leave: 2, subscription: 1 },
    }
}

impl Classic {
    pub(super) fn new() -> Classic {
        Classic {
            phase: Phase::Out,
            member: NOBODY,
            generation: -1,
            owned: BTreeSet::new(),
            heartbeat_at: Instant(0),
            assigned_over: None,
        }
    }

    pub(super) fn is_in(&self) -> bool {
        self.phase != Phase::Out
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.phase == Phase::Leaving
    }

    pub(super) fn is_stable(&self) -> bool {
        self.phase == Phase::Stable
    }

    pub(super) fn member(&self) -> &Str {
        &self.member
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn owned(&self) -> impl Iterator<Item = Place> {
        self.owned.iter().copied()
    }

    pub(super) fn join(&mut self) {
        if self.phase == Phase::Out {
            self.phase = Phase::Joining;
        }
    }

    /// It joins again, since what it subscribes to is another.
    pub(super) fn rejoin(&mut self) {
        if matches!(self.phase, Phase::Stable | Phase::Syncing(_)) {
            self.phase = Phase::Joining;
        }
    }

    /// Goes in order. A static member only stops: it is expected back (KIP-345).
    pub(super) fn leave(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        self.release_all(sight, wanted);
        if sight.instance.is_some() || self.member == NOBODY {
            self.forget(sight, wanted);
        } else if self.phase != Phase::Out {
            wanted.push(sight.record(InGroup::Leaves { instance: None }));
            self.phase = Phase::Leaving;
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        self.release_all(sight, wanted);
        *self = Classic::new();
    }

    /// Somebody said that it is no member any more, or not in this generation.
    pub(super) fn fenced(&mut self, sight: &Sight<'_>, code: ErrorCode, wanted: &mut Vec<Wanted>) -> Told {
        if self.phase == Phase::Leaving {
            self.forget(sight, wanted);
            return Told::Well;
        }
        if code == ErrorCode::RebalanceInProgress {
            self.rejoin();
            return Told::Well;
        }
        wanted.push(sight.record(InGroup::Fenced { code }));
        self.release_all(sight, wanted);
        match code {
            ErrorCode::FencedInstanceId => {
                *self = Classic::new();
                return Told::Out;
            }
            ErrorCode::IllegalGeneration => {}
            _ => self.member = NOBODY,
        }
        (self.generation, self.phase) = (-1, Phase::Joining);
        Told::Well
    }

    /// A leader whose topics have changed has everybody join again.
    pub(super) fn topics_learned(&mut self, sight: &Sight<'_>) {
        if self.phase == Phase::Stable && self.assigned_over.as_ref().is_some_and(|over| *over != counts(sight)) {
            self.phase = Phase::Joining;
        }
    }

    /// When to ask next; `None` while there is nothing to ask for.
    pub(super) fn due_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Out => None,
            Phase::Joining | Phase::Syncing(_) | Phase::Leaving => Some(Instant(0)),
            Phase::Stable => Some(self.heartbeat_at),
        }
    }

    /// What is to be asked now.
    pub(super) fn request(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) -> (Request, i16) {
        let versions = versions(sight);
        let group_id = sight.group.clone();
        let (member_id, group_instance_id) = (self.member.clone(), sight.instance.cloned());
        match &self.phase {
            Phase::Out => unreachable!("nobody outside asks"),
            Phase::Joining => {
                if sight.settings.protocol == GroupProtocol::Range {
                    self.release_all(sight, wanted);
                }
                wanted.push(sight.record(InGroup::Joins { instance: sight.settings.instance }));
                let name = protocol_name(sight.settings.protocol);
                let metadata = self.subscription(sight).to_bytes(versions.subscription);
                let milliseconds = |time: std::time::Duration| i32::try_from(time.as_millis()).expect("short");
                let request = JoinGroupRequest {
                    group_id,
                    session_timeout_ms: milliseconds(sight.settings.session_timeout),
                    rebalance_timeout_ms: milliseconds(sight.settings.rebalance_timeout),
                    member_id,
                    group_instance_id,
                    protocol_type: "consumer".into(),
                    protocols: vec![JoinGroupRequestProtocol { name, metadata }],
                    reason: None,
                };
                (request.into(), versions.join)
            }
            Phase::Syncing(assignments) => {
                let assignment = |(member_id, assignment): &(Str, Bytes)| SyncGroupRequestAssignment {
                    member_id: member_id.clone(),
                    assignment: assignment.clone(),
                };
                let request = SyncGroupRequest {
                    group_id,
                    generation_id: self.generation,
                    member_id,
                    group_instance_id,
                    protocol_type: Some("consumer".into()),
                    protocol_name: Some(protocol_name(sight.settings.protocol)),
                    assignments: assignments.iter().map(assignment).collect(),
                };
                (request.into(), versions.sync)
            }
            Phase::Stable => {
                let generation_id = self.generation;
                let request = HeartbeatRequest { group_id, generation_id, member_id, group_instance_id };
                (request.into(), versions.heartbeat)
            }
            Phase::Leaving => {
                let members = vec![MemberIdentity { member_id: member_id.clone(), group_instance_id, reason: None }];
                let request = match versions.leave {
                    ..3 => LeaveGroupRequest { group_id, member_id, members: Vec::new() },
                    _ => LeaveGroupRequest { group_id, member_id: NOBODY, members },
                };
                (request.into(), versions.leave)
            }
        }
    }

    /// Nobody knows what became of what was asked.
    pub(super) fn lost(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        match self.phase {
            // What its leader assigned may have been heard or not; the generation may be over.
            Phase::Syncing(_) => self.phase = Phase::Joining,
            // Nobody waits for an answer to that.
            Phase::Leaving => self.forget(sight, wanted),
            _ => {}
        }
    }

    pub(super) fn take(
        &mut self,
        sight: &Sight<'_>,
        now: Instant,
        asked_at: Instant,
        response: &Response,
        wanted: &mut Vec<Wanted>,
    ) -> Result<Told, String> {
        match response {
            Response::JoinGroup(response) => self.joined(sight, now, asked_at, response, wanted),
            Response::SyncGroup(response) => self.synced(sight, now, asked_at, response, wanted),
            Response::Heartbeat(response) => {
                let code = known_code(response.error_code)?;
                self.heartbeat_at = now + sight.settings.heartbeat;
                if code == ErrorCode::None {
                    let (member, number) = (self.member.to_string(), self.generation);
                    wanted.push(sight.record(InGroup::Alive { asked_at, member, number }));
                    return Ok(Told::Well);
                }
                self.failed(sight, code, wanted)
            }
            Response::LeaveGroup(response) => {
                let of_member = response.members.first().map_or(0, |member| member.error_code);
                for code in [response.error_code, of_member] {
                    let code = known_code(code)?;
                    if let Some(told) = of_coordinator(code) {
                        return Ok(told);
                    }
                }
                self.forget(sight, wanted);
                Ok(Told::Well)
            }
            response => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }

    fn failed(&mut self, sight: &Sight<'_>, code: ErrorCode, wanted: &mut Vec<Wanted>) -> Result<Told, String> {
        use ErrorCode as E;
        match code {
            E::RebalanceInProgress | E::UnknownMemberId | E::IllegalGeneration | E::FencedInstanceId => {
                Ok(self.fenced(sight, code, wanted))
            }
            // The other members may agree on another protocol, or be too many, for now.
            E::GroupMaxSizeReached | E::InconsistentGroupProtocol => {
                self.release_all(sight, wanted);
                (self.member, self.generation, self.phase) = (NOBODY, -1, Phase::Joining);
                Ok(Told::Barred)
            }
            code => of_coordinator(code).ok_or_else(|| format!("a member is answered with {code}")),
        }
    }

    fn joined(
        &mut self,
        sight: &Sight<'_>,
        now: Instant,
        asked_at: Instant,
        response: &JoinGroupResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<Told, String> {
        match known_code(response.error_code)? {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired if self.member == NOBODY && response.member_id != NOBODY => {
                self.member = response.member_id.clone();
                return Ok(Told::Well);
            }
            // The rebalance went on without it, or the generation is over before it could join.
            ErrorCode::RebalanceInProgress => return Ok(Told::Later),
            code => return self.failed(sight, code, wanted),
        }
        let JoinGroupResponse { generation_id, leader, member_id, members, .. } = response;
        if *member_id == NOBODY || self.member != NOBODY && sight.instance.is_none() && *member_id != self.member {
            return Err(format!("member {} joins and is told that it is {member_id}", self.member));
        }
        let protocol = protocol_name(sight.settings.protocol);
        if response.protocol_name.as_ref() != Some(&protocol) {
            return Err(format!("a member that speaks {protocol} joins by {:?}", response.protocol_name));
        }
        if *generation_id < 1 {
            return Err(format!("a member joins generation {generation_id}"));
        }
        (self.member, self.generation) = (member_id.clone(), *generation_id);
        wanted.push(sight.record(InGroup::Joined {
            asked_at,
            member: member_id.to_string(),
            generation: *generation_id,
            leader: leader.to_string(),
        }));
        let mut assignments = Vec::new();
        self.assigned_over = None;
        if leader == member_id {
            if !members.iter().any(|member| member.member_id == *member_id) {
                return Err(format!("leader {leader} is not among the {} members that it is told of", members.len()));
            }
            self.assigned_over = Some(counts(sight));
            if !response.skip_assignment {
                let members = members.iter().map(|member| (&member.member_id, &member.metadata));
                assignments = assign(sight, members)?;
            }
        } else if !members.is_empty() {
            return Err(format!("{member_id} is told of {} members, and {leader} is the leader", members.len()));
        }
        self.phase = Phase::Syncing(assignments);
        self.heartbeat_at = now + sight.settings.heartbeat;
        Ok(Told::Well)
    }

    fn synced(
        &mut self,
        sight: &Sight<'_>,
        now: Instant,
        asked_at: Instant,
        response: &SyncGroupResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<Told, String> {
        match known_code(response.error_code)? {
            ErrorCode::None => {}
            code => return self.failed(sight, code, wanted),
        }
        let places = match response.assignment.is_empty() {
            true => BTreeSet::new(),
            false => {
                let assignment = ConsumerProtocolAssignment::from_bytes(&response.assignment)
                    .map_err(|error| format!("an assignment cannot be read: {error}"))?;
                places(sight, &assignment.assigned_partitions)?
            }
        };
        let revoked: Vec<Place> = self.owned.difference(&places).copied().collect();
        let has_revoked = !revoked.is_empty();
        if has_revoked {
            wanted.push(sight.record(InGroup::Released { places: revoked }));
        }
        wanted.push(sight.record(InGroup::Assigned {
            asked_at,
            member: self.member.to_string(),
            number: self.generation,
            is_next: false,
            is_first: false,
            places: places.iter().copied().collect(),
        }));
        self.owned = places;
        // What it has given up it says by joining again.
        self.phase = if has_revoked { Phase::Joining } else { Phase::Stable };
        self.heartbeat_at = now + sight.settings.heartbeat;
        Ok(Told::Well)
    }

    fn release_all(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        if !self.owned.is_empty() {
            let places = std::mem::take(&mut self.owned).into_iter().collect();
            wanted.push(sight.record(InGroup::Released { places }));
        }
    }

    fn subscription(&self, sight: &Sight<'_>) -> ConsumerProtocolSubscription {
        let named = |(topic, partitions): (u32, Vec<i32>)| NamedPartitions {
            topic: sight.topics.get(topic as usize).name.clone(),
            partitions,
        };
        ConsumerProtocolSubscription {
            topics: sight.subscribed.iter().map(|&topic| sight.topics.get(topic).name.clone()).collect(),
            user_data: None,
            owned_partitions: by_topic(self.owned()).into_iter().map(named).collect(),
            generation_id: self.generation,
            rack_id: None,
        }
    }
}

fn protocol_name(protocol: GroupProtocol) -> Str {
    match protocol {
        GroupProtocol::CooperativeSticky => "cooperative-sticky".into(),
        _ => "range".into(),
    }
}

/// How many partitions the topics have.
fn counts(sight: &Sight<'_>) -> Vec<i32> {
    (0..sight.topics.len()).map(|topic| sight.partitions(topic_index(topic))).collect()
}

/// What the leader gives to each member, in the version of the member's subscription.
fn assign<'a>(
    sight: &Sight<'_>,
    members: impl Iterator<Item = (&'a Str, &'a Bytes)>,
) -> Result<Vec<(Str, Bytes)>, String> {
    let mut candidates = Vec::new();
    let mut versions = Vec::new();
    for (member, metadata) in members {
        let unreadable = |error| format!("the subscription of {member} cannot be read: {error}");
        let subscription = ConsumerProtocolSubscription::from_bytes(metadata).map_err(unreadable)?;
        versions.push(version(metadata).map_err(unreadable)?);
        let topics = subscription.topics.iter().filter_map(|name| sight.topics.with_name(name));
        candidates.push(Candidate {
            member: member.clone(),
            topics: topics.map(topic_index).collect(),
            owned: places(sight, &subscription.owned_partitions)?.into_iter().collect(),
            generation: subscription.generation_id,
        });
    }
    let assignment = match sight.settings.protocol {
        GroupProtocol::CooperativeSticky => cooperative_sticky(&candidates, |topic| sight.partitions(topic)),
        _ => range(&candidates, |topic| sight.partitions(topic)),
    };
    let named = |(topic, partitions): (u32, Vec<i32>)| NamedPartitions {
        topic: sight.topics.get(topic as usize).name.clone(),
        partitions,
    };
    let written = candidates.iter().zip(versions).map(|(candidate, version)| {
        let assigned_partitions =
            by_topic(assignment[&candidate.member].iter().copied()).into_iter().map(named).collect();
        let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
        (candidate.member.clone(), assignment.to_bytes(version))
    });
    Ok(written.collect())
}

fn places(sight: &Sight<'_>, named: &[NamedPartitions]) -> Result<BTreeSet<Place>, String> {
    let mut places = BTreeSet::new();
    for NamedPartitions { topic, partitions } in named {
        let Some(index) = sight.topics.with_name(topic) else {
            return Err(format!("partitions of {topic} are told of, which is none of the run's topics"));
        };
        places.extend(partitions.iter().map(|&partition| Place { topic: topic_index(index), partition }));
    }
    Ok(places)
}
