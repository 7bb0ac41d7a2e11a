//! How far a group has come: its committed offsets, what may be asked and decided about them, and when they expire
//! (KIP-211).
//!
//! Offsets change by their records alone: a decision is written and replayed at once, by the function that a load uses.
//! Whether a client may commit or delete is not decided here, but by its group.
//!
//! A committed offset takes 48 bytes and its place in a map, about 100 in all, and what it has of metadata; the first one
//! of a topic takes about 600 and the topic's name, and the first of a group as much again. Nothing here keeps a
//! request's frame, or a batch of the log, alive.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::record::{Key, OffsetCommitValue, Record, Value};
use super::{Context, Settings, Topics};
use crate::ids::TopicId;
use crate::time::Timestamp;
use crate::wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::wire::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use crate::wire::{ErrorCode, Str};

/// A committed offset.
#[derive(Debug, PartialEq, Eq)]
struct Committed {
    /// The offset that is read next.
    offset: i64,
    /// The leader epoch of the record before it, -1 where the client did not say (KIP-320).
    leader_epoch: i32,
    /// When it was committed, by the coordinator's clock.
    at: Timestamp,
    /// The topic's id where it was known, else zero.
    topic_id: TopicId,
    /// What few offsets have.
    rare: Option<Box<Rare>>,
}

/// What few offsets have.
#[derive(Debug, PartialEq, Eq)]
struct Rare {
    /// What the client keeps with it.
    metadata: Str,
    /// When it expires, where the client asked for a time of its own (OffsetCommit 2 to 4); `None` by the broker's rule.
    expires: Option<Timestamp>,
}

/// The committed offsets of one group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    by_topic: BTreeMap<Str, BTreeMap<i32, Committed>>,
}

/// A committed offset's place in its group: those before it have been looked at.
pub(super) type Place = (Str, i32);

/// Where the next part of an OffsetFetch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchStop {
    /// At a topic of the request, and in it at a partition, by their places there.
    At(usize, usize),
    /// Behind a committed offset, where all are asked for.
    Behind(Place),
}

impl Offsets {
    /// Takes a record: of a load, or one that was just decided. `None` is the tombstone.
    pub(super) fn replay(&mut self, topic: &Str, partition: i32, value: Option<&OffsetCommitValue>) {
        match (self.by_topic.get_mut(topic), value) {
            (Some(partitions), Some(value)) => {
                partitions.insert(partition, Committed::from(value));
            }
            (None, Some(value)) => {
                self.by_topic.insert(topic.detached(), BTreeMap::from([(partition, Committed::from(value))]));
            }
            (Some(partitions), None) => {
                partitions.remove(&partition);
                if partitions.is_empty() {
                    self.by_topic.remove(topic);
                }
            }
            (None, None) => {}
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Topic, partition and offset of each behind a place, or of all.
    pub(super) fn after(&self, place: Option<&Place>) -> impl Iterator<Item = (&Str, i32, i64)> {
        let first = place.map_or(Bound::Unbounded, |(topic, _)| Bound::Included(topic));
        self.by_topic.range::<Str, _>((first, Bound::Unbounded)).flat_map(move |(topic, partitions)| {
            let behind = match place {
                Some((first, partition)) if first == topic => Bound::Excluded(*partition),
                _ => Bound::Unbounded,
            };
            partitions.range((behind, Bound::Unbounded)).map(move |(at, committed)| (topic, *at, committed.offset))
        })
    }

    /// Decides an OffsetCommit that the group has `admitted`, or not, and answers for each partition. Partitions that do
    /// not exist are refused whatever the group says, as Kafka's brokers do before they ask the coordinator.
    pub(super) fn commit(
        &mut self,
        ctx: &mut Context<'_>,
        request: &OffsetCommitRequest,
        version: i16,
        admitted: Result<(), ErrorCode>,
    ) -> OffsetCommitResponse {
        // Versions 2 to 4 may ask for a time of their own; later ones have no such field, so it is -1.
        let expires = match request.retention_time_ms {
            -1 => -1,
            // The result stands for "none" where it would be -1, and no clock goes back before 1970.
            retention => ctx.now.wall.0.saturating_add(retention).max(0),
        };
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let target = Target::find(ctx.topics, version, &topic.name, topic.topic_id);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let code = match target.as_ref().map_err(|code| *code).and_then(|target| {
                    target.check(partition.partition_index)?;
                    admitted?;
                    fits(ctx.settings, &request.group_id, &target.name, partition)?;
                    Ok(target)
                }) {
                    Ok(target) => {
                        self.put(ctx, &request.group_id, target, partition, expires);
                        ErrorCode::None
                    }
                    Err(code) => code,
                };
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code as i16,
                });
            }
            topics.push(OffsetCommitResponseTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions });
        }
        OffsetCommitResponse { throttle_time_ms: 0, topics }
    }

    fn put(
        &mut self,
        ctx: &mut Context<'_>,
        group: &Str,
        target: &Target,
        partition: &OffsetCommitRequestPartition,
        expires: i64,
    ) {
        let value = OffsetCommitValue {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.clone().unwrap_or(Str::EMPTY),
            commit_timestamp: ctx.now.wall.0,
            expire_timestamp: expires,
            // A record with an end of its own has no room for the id.
            topic_id: if expires == -1 { target.id } else { TopicId::ZERO },
        };
        self.replay(&target.name, partition.partition_index, Some(&value));
        let key = Key::OffsetCommit {
            group: group.clone(),
            topic: target.name.clone(),
            partition: partition.partition_index,
        };
        ctx.write(Record { key, value: Some(Value::OffsetCommit(value)) });
    }

    /// Answers a part of an OffsetFetch that the group has admitted, from where the part before ended: looks at `budget`
    /// offsets at most, and at one topic at least. Returns where the next part begins, if there is one.
    pub(super) fn fetch(
        &self,
        topics: &dyn Topics,
        version: i16,
        request: &OffsetFetchRequestGroup,
        from: Option<FetchStop>,
        budget: &mut usize,
        answer: &mut Vec<OffsetFetchResponseTopics>,
    ) -> Option<FetchStop> {
        match (&request.topics, from) {
            (None, Some(FetchStop::Behind(place))) => self.fetch_all(topics, version, Some(place), budget, answer),
            (None, _) => self.fetch_all(topics, version, None, budget, answer),
            (Some(asked), Some(FetchStop::At(topic, partition))) => {
                self.fetch_some(topics, version, asked, (topic, partition), budget, answer)
            }
            (Some(asked), _) => self.fetch_some(topics, version, asked, (0, 0), budget, answer),
        }
    }

    /// Those that are asked for.
    fn fetch_some(
        &self,
        topics: &dyn Topics,
        version: i16,
        asked: &[OffsetFetchRequestTopics],
        (mut next, mut first): (usize, usize),
        budget: &mut usize,
        answer: &mut Vec<OffsetFetchResponseTopics>,
    ) -> Option<FetchStop> {
        while let Some(topic) = asked.get(next) {
            let target = Target::find(topics, version, &topic.name, topic.topic_id);
            let rest = &topic.partition_indexes[first..];
            let part = &rest[..rest.len().min((*budget).max(1))];
            if first == 0 {
                answer.push(OffsetFetchResponseTopics {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    // All at once: to move what is there when it grows would take as long as many parts.
                    partitions: Vec::with_capacity(rest.len()),
                });
            }
            let partitions = &mut answer.last_mut().expect("the topic has been begun").partitions;
            match target {
                Ok(target) => partitions.extend(part.iter().map(|at| fetched(*at, self.of(&target, *at)))),
                // Only of an id it is an error that nobody knows it: a name is looked up as it stands.
                Err(ErrorCode::UnknownTopicId) => partitions.extend(part.iter().map(|at| {
                    let error_code = ErrorCode::UnknownTopicId as i16;
                    OffsetFetchResponsePartitions { error_code, ..fetched(*at, None) }
                })),
                Err(_) => partitions.extend(part.iter().map(|at| fetched(*at, self.get(&topic.name, *at)))),
            }
            *budget = budget.saturating_sub(part.len().max(1));
            (next, first) = if part.len() == rest.len() { (next + 1, 0) } else { (next, first + part.len()) };
            if *budget == 0 && next < asked.len() {
                return Some(FetchStop::At(next, first));
            }
        }
        None
    }

    /// All of them. By id, those of topics that are no more cannot be told.
    fn fetch_all(
        &self,
        topics: &dyn Topics,
        version: i16,
        from: Option<Place>,
        budget: &mut usize,
        answer: &mut Vec<OffsetFetchResponseTopics>,
    ) -> Option<FetchStop> {
        let first = from.as_ref().map_or(Bound::Unbounded, |(topic, _)| Bound::Included(topic));
        for (name, partitions) in self.by_topic.range::<Str, _>((first, Bound::Unbounded)) {
            let id = topics.by_name(name).map(|(id, _)| id);
            let behind = match &from {
                Some((topic, partition)) if topic == name => Bound::Excluded(*partition),
                _ => Bound::Unbounded,
            };
            // What cannot be told is passed by.
            let told = if version >= BY_ID && id.is_none() { Bound::Excluded(i32::MAX) } else { behind };
            let mut last = i32::MAX;
            for (at, committed) in partitions.range((told, Bound::Unbounded)).take((*budget).max(1)) {
                last = *at;
                *budget = budget.saturating_sub(1);
                if id.is_some_and(|id| !committed.is_of(id)) {
                    continue;
                }
                if answer.last().is_none_or(|topic| topic.name != *name) {
                    answer.push(OffsetFetchResponseTopics {
                        name: name.clone(),
                        topic_id: id.unwrap_or_default(),
                        partitions: Vec::with_capacity(partitions.len()),
                    });
                }
                let topic = answer.last_mut().expect("the topic has been begun");
                topic.partitions.push(fetched(*at, Some(committed)));
            }
            if last == i32::MAX {
                *budget = budget.saturating_sub(1);
            }
            if *budget == 0 {
                return Some(FetchStop::Behind((name.clone(), last)));
            }
        }
        None
    }

    fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.by_topic.get(topic)?.get(&partition)
    }

    /// The offset for a partition of this very topic: what was committed for one of the same name that is no more says
    /// nothing about this one.
    fn of(&self, target: &Target, partition: i32) -> Option<&Committed> {
        self.get(&target.name, partition).filter(|committed| committed.is_of(target.id))
    }

    /// Decides an OffsetDelete, where `is_subscribed` tells which topics the group's members read.
    pub(super) fn delete(
        &mut self,
        ctx: &mut Context<'_>,
        request: &OffsetDeleteRequest,
        is_subscribed: impl Fn(&str) -> bool,
    ) -> OffsetDeleteResponse {
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let target = Target::find(ctx.topics, 0, &topic.name, TopicId::ZERO);
            let subscribed = is_subscribed(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let at = partition.partition_index;
                let code = match target.as_ref().map_err(|code| *code).and_then(|target| target.check(at)) {
                    Err(code) => code,
                    Ok(()) if subscribed => ErrorCode::GroupSubscribedToTopic,
                    Ok(()) => {
                        if self.get(&topic.name, at).is_some() {
                            self.remove(ctx, &request.group_id, &topic.name, at);
                        }
                        ErrorCode::None
                    }
                };
                partitions.push(OffsetDeleteResponsePartition { partition_index: at, error_code: code as i16 });
            }
            topics.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        OffsetDeleteResponse { error_code: 0, throttle_time_ms: 0, topics }
    }

    /// Removes offsets of the group, `budget` of them at most. Returns whether none is left.
    pub(super) fn clear(&mut self, ctx: &mut Context<'_>, group: &Str, budget: usize) -> bool {
        let mut left = budget;
        while let Some(mut topic) = self.by_topic.first_entry() {
            while left > 0
                && let Some((partition, _)) = topic.get_mut().pop_first()
            {
                left -= 1;
                ctx.write(tombstone(group, topic.key(), partition));
            }
            if !topic.get().is_empty() {
                return false;
            }
            topic.remove();
        }
        true
    }

    /// Removes the offsets in a topic that is deleted, `budget` of them at most. Returns whether none is left. Those that
    /// do not know their topic's id go too: nobody can tell them from those of the topic.
    pub(super) fn forget_topic(
        &mut self,
        ctx: &mut Context<'_>,
        group: &Str,
        (name, id): (&Str, TopicId),
        budget: &mut usize,
    ) -> bool {
        let Some(partitions) = self.by_topic.get(name) else { return true };
        let gone: Vec<i32> = partitions
            .iter()
            .filter(|(_, committed)| committed.is_of(id))
            .map(|(at, _)| *at)
            .take(*budget + 1)
            .collect();
        let taken = gone.len().min(*budget);
        for partition in &gone[..taken] {
            self.remove(ctx, group, name, *partition);
        }
        *budget -= taken;
        taken == gone.len()
    }

    /// Removes what has expired behind `from`, or from the first on, and looks at `budget` offsets at most. A topic that the
    /// group's members read, as `is_subscribed` tells, counts as one: its offsets do not expire. The time before the group
    /// became empty does not count against the others. Returns the place of the last one that it has looked at where there may be more.
    pub(super) fn expire(
        &mut self,
        ctx: &mut Context<'_>,
        group: &Str,
        empty_since: Option<Timestamp>,
        is_subscribed: impl Fn(&str) -> bool,
        from: Option<Place>,
        budget: &mut usize,
    ) -> Option<Place> {
        assert!(*budget > 0, "who may look at nothing finds no end");
        let mut expired = Vec::new();
        let mut last = None;
        let (first, partition) = match &from {
            Some((topic, partition)) => (Bound::Included(topic), Bound::Excluded(*partition)),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        'looking: for (topic, partitions) in self.by_topic.range::<Str, _>((first, Bound::Unbounded)) {
            if is_subscribed(topic) {
                if *budget == 0 {
                    break 'looking;
                }
                *budget -= 1;
                last = Some((topic, i32::MAX));
                continue;
            }
            let is_first = from.as_ref().is_some_and(|(from, _)| from == topic);
            let behind = if is_first { partition } else { Bound::Unbounded };
            for (at, committed) in partitions.range((behind, Bound::Unbounded)) {
                if *budget == 0 {
                    break 'looking;
                }
                *budget -= 1;
                last = Some((topic, *at));
                if committed.has_expired(empty_since, ctx.now.wall, ctx.settings.offsets_retention) {
                    expired.push((topic.clone(), *at));
                }
            }
        }
        let more = last.filter(|_| *budget == 0).map(|(topic, at)| (topic.clone(), at));
        for (topic, partition) in &expired {
            self.remove(ctx, group, topic, *partition);
        }
        more
    }

    fn remove(&mut self, ctx: &mut Context<'_>, group: &Str, topic: &Str, partition: i32) {
        self.replay(topic, partition, None);
        ctx.write(tombstone(group, topic, partition));
    }
}

impl Committed {
    fn from(value: &OffsetCommitValue) -> Committed {
        Committed {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            at: Timestamp(value.commit_timestamp),
            topic_id: value.topic_id,
            rare: Rare::from(value).map(Box::new),
        }
    }

    fn metadata(&self) -> Str {
        self.rare.as_ref().map_or(Str::EMPTY, |rare| rare.metadata.clone())
    }

    /// Whether it was committed for the topic with this id, as far as it is known.
    fn is_of(&self, id: TopicId) -> bool {
        self.topic_id == TopicId::ZERO || self.topic_id == id
    }

    /// An end of its own decides where there is one. Else its time begins when it was committed, or when its group
    /// became empty if that was later. (Kafka counts from the group's becoming empty alone, so that an offset that is
    /// reset by hand in a group that has long been empty may be gone a minute later.)
    fn has_expired(&self, empty_since: Option<Timestamp>, now: Timestamp, retention: Duration) -> bool {
        match self.rare.as_ref().and_then(|rare| rare.expires) {
            Some(expires) => now >= expires,
            None => {
                let since = empty_since.map_or(self.at, |empty| empty.max(self.at));
                let age = now.0.saturating_sub(since.0);
                u128::try_from(age).is_ok_and(|age| age >= retention.as_millis())
            }
        }
    }
}

impl Rare {
    fn from(value: &OffsetCommitValue) -> Option<Rare> {
        let expires = (value.expire_timestamp != -1).then_some(Timestamp(value.expire_timestamp));
        (!value.metadata.is_empty() || expires.is_some()).then(|| Rare { metadata: value.metadata.detached(), expires })
    }
}

/// The first version of OffsetCommit and OffsetFetch that names topics by their ids.
const BY_ID: i16 = 10;

/// A topic that a request is about.
#[derive(Debug)]
struct Target {
    name: Str,
    id: TopicId,
    partitions: u32,
}

impl Target {
    /// Finds the topic by what this version of the request says of it.
    fn find(topics: &dyn Topics, version: i16, name: &Str, id: TopicId) -> Result<Target, ErrorCode> {
        if version >= BY_ID {
            let (name, partitions) = topics.by_id(id).ok_or(ErrorCode::UnknownTopicId)?;
            Ok(Target { name: name.clone(), id, partitions })
        } else {
            let (id, partitions) = topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(Target { name: name.clone(), id, partitions })
        }
    }

    fn check(&self, partition: i32) -> Result<(), ErrorCode> {
        match u32::try_from(partition) {
            Ok(partition) if partition < self.partitions => Ok(()),
            _ => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }
}

/// The partitions of an OffsetCommit that exist. If there are none, the group is not asked about it.
pub(super) fn targets(
    topics: &dyn Topics,
    version: i16,
    request: &OffsetCommitRequest,
) -> impl Iterator<Item = (TopicId, i32)> {
    request.topics.iter().flat_map(move |topic| {
        let target = Target::find(topics, version, &topic.name, topic.topic_id).ok();
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        partitions.filter_map(move |at| {
            let target = target.as_ref()?;
            target.check(at).is_ok().then_some((target.id, at))
        })
    })
}

/// What a record has beside its group, topic and metadata, in bytes, at most: the key's type, two lengths and the
/// partition; the value's version, offset, leader epoch, length, timestamp, and the tagged id of the topic.
const RECORD_BYTES_MAX: usize = (2 + 2 + 2 + 4) + (2 + 8 + 4 + 3 + 8 + 1 + 2 + 16);

/// Whether the metadata may be kept, and the record be written.
fn fits(
    settings: &Settings,
    group: &Str,
    topic: &Str,
    partition: &OffsetCommitRequestPartition,
) -> Result<(), ErrorCode> {
    let bytes = partition.committed_metadata.as_ref().map_or(0, |metadata| metadata.as_bytes().len());
    // Kafka's limit counts in UTF-16 units, of which a text has at most as many as bytes.
    if bytes > settings.offset_metadata_max_bytes
        && let Some(metadata) = &partition.committed_metadata
        && metadata.encode_utf16().nth(settings.offset_metadata_max_bytes).is_some()
    {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    if RECORD_BYTES_MAX + group.as_bytes().len() + topic.as_bytes().len() + bytes > settings.record_bytes_max {
        return Err(ErrorCode::InvalidCommitOffsetSize);
    }
    Ok(())
}

fn fetched(partition_index: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.map_or(-1, |committed| committed.offset),
        committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
        metadata: Some(committed.map_or(Str::EMPTY, Committed::metadata)),
        error_code: 0,
    }
}

fn tombstone(group: &Str, topic: &Str, partition: i32) -> Record {
    Record { key: Key::OffsetCommit { group: group.clone(), topic: topic.clone(), partition }, value: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_offset_is_as_small_as_the_module_says() {
        assert_eq!(size_of::<Committed>(), 48);
    }
}
