//! A member by the next protocol (KIP-848): it says what it subscribes to and what it reads, and is told what it has.
//!
//! Heartbeats are full when it joins and after one without an answer, and else tell only what has changed. It gives up
//! partitions as soon as it is told so, and then says so at once; what else it was told of it reads from then on.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::{TopicPartition, Uuid};
use chronik_core::time::Instant;
use chronik_core::wire::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use chronik_core::wire::{ErrorCode, Request, Response, Str};

use super::super::Wanted;
use super::super::reading::known_code;
use super::{Sight, Told, of_coordinator, topic_index};
use crate::history::{InGroup, Place};
use crate::plan::GroupProtocol;

/// The epoch of a heartbeat that asks to be let in.
const JOINS: i32 = 0;
/// That of one that leaves.
const LEAVES: i32 = -1;
/// That of a static member that leaves for a while.
const LEAVES_FOR_A_WHILE: i32 = -2;
/// The wait before a heartbeat where the broker has not said how long.
const INTERVAL: Duration = Duration::from_secs(1);

/// The member's side of the protocol.
#[derive(Debug)]
pub(super) struct Next {
    phase: Phase,
    /// Who it was before, for the next id.
    incarnations: u32,
    member: Str,
    epoch: i32,
    /// What it reads.
    owned: BTreeMap<TopicPartition, Place>,
    /// What it was told that it has, where it has not taken all of it over.
    target: Option<Vec<TopicPartition>>,
    /// What it was told last.
    last_target: Option<Vec<TopicPartition>>,
    /// The topics of what it has are not all known.
    lacks_topics: bool,
    /// When it asked for what it was told of last.
    target_at: Instant,
    /// What the broker knows that it reads.
    told: Option<Vec<TopicPartition>>,
    /// What the broker knows that it subscribes to.
    subscribed: Option<Vec<usize>>,
    is_full: bool,
    heartbeat_at: Instant,
    interval: Duration,
    /// The heartbeat under way.
    saying: Option<Saying>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Out,
    In,
    Leaving(i32),
}

/// What the broker knows once a heartbeat is answered.
#[derive(Debug)]
struct Saying {
    owned: Vec<TopicPartition>,
    subscribed: Vec<usize>,
    was_joining: bool,
}

impl Next {
    pub(super) fn new() -> Next {
        Next {
            phase: Phase::Out,
            incarnations: 0,
            member: Str::EMPTY,
            epoch: JOINS,
            owned: BTreeMap::new(),
            target: None,
            last_target: None,
            lacks_topics: false,
            target_at: Instant(0),
            told: None,
            subscribed: None,
            is_full: true,
            heartbeat_at: Instant(0),
            interval: INTERVAL,
            saying: None,
        }
    }

    pub(super) fn is_in(&self) -> bool {
        self.phase != Phase::Out
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    /// The next heartbeat is due.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.heartbeat_at = now;
    }

    /// Whether it has taken over what it was told of, and the broker knows that.
    pub(super) fn is_stable(&self) -> bool {
        self.phase == Phase::In && self.epoch > 0 && self.target.is_none() && !self.has_news()
    }

    pub(super) fn member(&self) -> &Str {
        &self.member
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn owned(&self) -> impl Iterator<Item = Place> {
        self.owned.values().copied()
    }

    /// Whether topics must be asked for before it can go on.
    pub(super) fn lacks_topics(&self) -> bool {
        self.lacks_topics
    }

    pub(super) fn join(&mut self, sight: &Sight<'_>, client: u32) {
        if self.phase != Phase::Out {
            return;
        }
        // A member makes its own id from version 1 on.
        if sight.settings.age == 0 {
            let mut id = [0x5a; 16];
            id[..4].copy_from_slice(&client.to_be_bytes());
            id[4..8].copy_from_slice(&self.incarnations.to_be_bytes());
            self.member = Str::from(Uuid(id).to_string().as_str());
        }
        self.incarnations += 1;
        self.phase = Phase::In;
    }

    /// Goes in order; a static member for a while only.
    pub(super) fn leave(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        self.release_all(sight, wanted);
        if self.phase == Phase::In && self.epoch > 0 {
            wanted.push(sight.record(InGroup::Leaves { instance: None }));
            let epoch = if sight.instance.is_some() { LEAVES_FOR_A_WHILE } else { LEAVES };
            self.phase = Phase::Leaving(epoch);
        } else {
            self.forget(sight, wanted);
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        self.release_all(sight, wanted);
        *self = Next { incarnations: self.incarnations, ..Next::new() };
    }

    /// Somebody said that it is no member any more, or not in this epoch.
    pub(super) fn fenced(&mut self, sight: &Sight<'_>, code: ErrorCode, wanted: &mut Vec<Wanted>) -> Told {
        if matches!(self.phase, Phase::Leaving(_)) {
            self.forget(sight, wanted);
            return Told::Well;
        }
        wanted.push(sight.record(InGroup::Fenced { code }));
        self.release_all(sight, wanted);
        if code == ErrorCode::FencedInstanceId {
            self.forget(sight, wanted);
            return Told::Out;
        }
        self.begin_again();
        Told::Well
    }

    fn begin_again(&mut self) {
        let (member, incarnations) = (std::mem::take(&mut self.member), self.incarnations);
        *self = Next { member, incarnations, phase: Phase::In, ..Next::new() };
    }

    fn has_news(&self) -> bool {
        self.told.as_ref().is_none_or(|told| !told.iter().eq(self.owned.keys()))
    }

    /// When to ask next; `None` while there is nothing to ask for.
    pub(super) fn due_at(&self, subscribed: &[usize]) -> Option<Instant> {
        let is_other = self.subscribed.as_deref().is_some_and(|told| told != subscribed);
        match self.phase {
            Phase::Out => None,
            Phase::Leaving(_) => Some(Instant(0)),
            Phase::In if self.epoch == JOINS => Some(self.heartbeat_at),
            Phase::In if self.has_news() || is_other => Some(Instant(0)),
            Phase::In => Some(self.heartbeat_at),
        }
    }

    /// What is to be asked now.
    pub(super) fn request(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) -> (Request, i16) {
        let version = if sight.settings.age == 0 { 1 } else { 0 };
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: sight.group.clone(),
            member_id: self.member.clone(),
            member_epoch: self.epoch,
            instance_id: sight.instance.cloned(),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        if let Phase::Leaving(epoch) = self.phase {
            request.member_epoch = epoch;
            return (request.into(), version);
        }
        // With another subscription it is as good as another member.
        if self.epoch == JOINS || self.subscribed.as_deref() != Some(sight.subscribed) {
            wanted.push(sight.record(InGroup::Joins { instance: sight.settings.instance }));
        }
        let is_full = self.is_full || self.epoch == JOINS;
        let owned: Vec<TopicPartition> = self.owned.keys().copied().collect();
        if is_full {
            request.rebalance_timeout_ms =
                i32::try_from(sight.settings.rebalance_timeout.as_millis()).expect("seconds");
            let assignor = if sight.settings.protocol == GroupProtocol::NextRange { "range" } else { "uniform" };
            request.server_assignor = Some(assignor.into());
        }
        if is_full || self.subscribed.as_deref() != Some(sight.subscribed) {
            let names = sight.subscribed.iter().map(|&topic| sight.topics.get(topic).name.clone());
            if sight.settings.uses_regex && version > 0 {
                let names: Vec<String> = names.map(|name| name.to_string()).collect();
                request.subscribed_topic_regex = Some(Str::from(names.join("|").as_str()));
                request.subscribed_topic_names = is_full.then(Vec::new);
            } else {
                request.subscribed_topic_names = Some(names.collect());
            }
        }
        if is_full || self.has_news() {
            request.topic_partitions = Some(grouped(&owned));
        }
        let was_joining = self.epoch == JOINS;
        self.saying = Some(Saying { owned, subscribed: sight.subscribed.to_vec(), was_joining });
        (request.into(), version)
    }

    /// Nobody knows what became of what was asked: all is said again.
    pub(super) fn lost(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        self.saying = None;
        self.is_full = true;
        if matches!(self.phase, Phase::Leaving(_)) {
            self.forget(sight, wanted);
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
        let Response::ConsumerGroupHeartbeat(response) = response else {
            unreachable!("{} is decoded as what was asked", response.api_key())
        };
        let saying = self.saying.take();
        let code = known_code(response.error_code)?;
        if let Phase::Leaving(_) = self.phase {
            return Ok(match of_coordinator(code) {
                Some(told) => told,
                None => {
                    self.forget(sight, wanted);
                    Told::Well
                }
            });
        }
        if code != ErrorCode::None {
            return self.failed(sight, now, code, wanted);
        }
        let saying = saying.ok_or("a heartbeat that leaves is answered as if it did not")?;
        self.heard(sight, now, asked_at, &saying, response, wanted)
    }

    fn failed(
        &mut self,
        sight: &Sight<'_>,
        now: Instant,
        code: ErrorCode,
        wanted: &mut Vec<Wanted>,
    ) -> Result<Told, String> {
        use ErrorCode as E;
        self.is_full = true;
        self.heartbeat_at = now;
        match code {
            E::UnknownMemberId | E::FencedMemberEpoch | E::FencedInstanceId => Ok(self.fenced(sight, code, wanted)),
            // Another static member of the name is there, there are too many, or the group is not of this protocol.
            E::UnreleasedInstanceId | E::GroupMaxSizeReached | E::GroupIdNotFound | E::InconsistentGroupProtocol => {
                if self.epoch != JOINS {
                    return Ok(self.fenced(sight, code, wanted));
                }
                self.heartbeat_at = now + INTERVAL;
                Ok(Told::Barred)
            }
            code => of_coordinator(code).ok_or_else(|| format!("a heartbeat is answered with {code}")),
        }
    }

    fn heard(
        &mut self,
        sight: &Sight<'_>,
        now: Instant,
        asked_at: Instant,
        saying: &Saying,
        response: &ConsumerGroupHeartbeatResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<Told, String> {
        let member = response.member_id.clone().unwrap_or_default();
        if member == Str::EMPTY || self.member != Str::EMPTY && member != self.member {
            return Err(format!("the heartbeat of {} is answered to {member}", self.member));
        }
        if response.member_epoch < 1 {
            return Err(format!("a member is in epoch {}", response.member_epoch));
        }
        if saying.was_joining && response.assignment.is_none() {
            return Err("a member that joins is not told what it has".into());
        }
        (self.member, self.epoch) = (member, response.member_epoch);
        self.interval = match u64::try_from(response.heartbeat_interval_ms) {
            Ok(interval @ 1..) => Duration::from_millis(interval),
            _ => return Err(format!("heartbeats are asked for each {} ms", response.heartbeat_interval_ms)),
        };
        self.heartbeat_at = now + self.interval;
        self.is_full = false;
        self.told = Some(saying.owned.clone());
        self.subscribed = Some(saying.subscribed.clone());
        match &response.assignment {
            Some(assignment) => {
                let mut target: Vec<TopicPartition> = Vec::new();
                for topic in &assignment.topic_partitions {
                    let id = |&partition: &i32| TopicPartition { topic: topic.topic_id, partition };
                    target.extend(topic.partitions.iter().map(id));
                }
                target.sort_unstable();
                if target.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err("a member is told of a partition twice".into());
                }
                // As the Java client does: another assignment is acknowledged, though it may change nothing of what this
                // member has. It may take away what the member never knew that it had.
                if self.last_target.as_ref() != Some(&target) {
                    self.last_target = Some(target.clone());
                    self.told = None;
                }
                (self.target, self.target_at) = (Some(target), asked_at);
                self.take_over(sight, saying.was_joining, wanted);
            }
            None => {
                let (member, number) = (self.member.to_string(), self.epoch);
                wanted.push(sight.record(InGroup::Alive { asked_at, member, number }));
            }
        }
        Ok(Told::Well)
    }

    /// Topics are known anew.
    pub(super) fn topics_learned(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        if self.target.is_some() {
            self.take_over(sight, false, wanted);
            // What is still not known is not there any more: the broker will find that out.
            self.lacks_topics = false;
        }
    }

    /// Gives up what it has no longer, and then reads what it has, as far as that is known.
    fn take_over(&mut self, sight: &Sight<'_>, is_first: bool, wanted: &mut Vec<Wanted>) {
        let Some(target) = self.target.take() else { return };
        let revoked: Vec<Place> =
            self.owned.iter().filter(|(id, _)| !target.contains(id)).map(|(_, place)| *place).collect();
        if !revoked.is_empty() {
            wanted.push(sight.record(InGroup::Released { places: revoked }));
        }
        let known = |id: &TopicPartition| {
            let index = sight.topics.with_id(id.topic)?;
            Some((*id, Place { topic: topic_index(index), partition: id.partition }))
        };
        let was = std::mem::take(&mut self.owned);
        self.owned = target.iter().filter_map(|id| known(id).or_else(|| Some((*id, *was.get(id)?)))).collect();
        wanted.push(sight.record(InGroup::Assigned {
            asked_at: self.target_at,
            member: self.member.to_string(),
            number: self.epoch,
            is_next: true,
            is_first,
            places: self.owned.values().copied().collect(),
        }));
        self.lacks_topics = self.owned.len() < target.len();
        if self.lacks_topics {
            self.target = Some(target);
        }
    }

    fn release_all(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        if !self.owned.is_empty() {
            let places = std::mem::take(&mut self.owned).into_values().collect();
            wanted.push(sight.record(InGroup::Released { places }));
        }
    }
}

/// Partitions, which are in order, by topic.
fn grouped(partitions: &[TopicPartition]) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for &TopicPartition { topic: topic_id, partition } in partitions {
        match topics.last_mut() {
            Some(last) if last.topic_id == topic_id => last.partitions.push(partition),
            _ => topics.push(TopicPartitions { topic_id, partitions: vec![partition] }),
        }
    }
    topics
}
