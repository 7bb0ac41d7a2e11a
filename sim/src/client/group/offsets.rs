//! Commits and what is committed, in any version of OffsetCommit and OffsetFetch.

use chronik_core::ids::Offset;
use chronik_core::wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use chronik_core::wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use chronik_core::wire::{ErrorCode, Request, Str};

use super::super::reading::known_code;
use super::super::topics::Topics;
use super::{by_topic, topic_index};
use crate::history::{Committed, Place, Tag};

/// From this version on both requests name topics by id.
const IDS_FROM: i16 = 10;
/// From this version on OffsetFetch asks for several groups.
const GROUPS_FROM: i16 = 8;

/// In whose name offsets are committed or asked for.
#[derive(Clone, Debug)]
pub(in crate::client) struct Credentials {
    /// Generation or epoch; -1 without membership.
    pub(super) number: i32,
    pub(super) member: Str,
    pub(super) instance: Option<Str>,
}

impl Credentials {
    /// Nobody's.
    pub(in crate::client) fn none() -> Credentials {
        Credentials { number: -1, member: Str::EMPTY, instance: None }
    }
}

/// The version to ask in: by name where the id of a topic is not known.
pub(super) fn version(newest: i16, topics: &Topics, places: impl IntoIterator<Item = Place>) -> i16 {
    let is_known = |place: Place| topics.get(place.topic as usize).id.is_some();
    if newest < IDS_FROM || places.into_iter().all(is_known) { newest } else { IDS_FROM - 1 }
}

/// Commits.
pub(super) fn commit(
    version: i16,
    group: &Str,
    credentials: &Credentials,
    tag: Tag,
    offsets: &[(Place, Offset)],
    topics: &Topics,
) -> Request {
    let metadata = Str::from(tag.to_string().as_str());
    let topic = |(topic, partitions): (u32, Vec<i32>)| {
        let known = topics.get(topic as usize);
        let partition = |&partition: &i32| {
            let is_it = |(place, _): &&(Place, Offset)| *place == Place { topic, partition };
            OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offsets.iter().find(is_it).map_or(0, |(_, offset)| offset.0),
                committed_leader_epoch: -1,
                committed_metadata: Some(metadata.clone()),
            }
        };
        let partitions = partitions.iter().map(partition).collect();
        match version >= IDS_FROM {
            true => OffsetCommitRequestTopic { name: Str::EMPTY, topic_id: known.id.unwrap_or_default(), partitions },
            false => OffsetCommitRequestTopic { name: known.name.clone(), partitions, ..Default::default() },
        }
    };
    OffsetCommitRequest {
        group_id: group.clone(),
        generation_id_or_member_epoch: credentials.number,
        member_id: credentials.member.clone(),
        group_instance_id: credentials.instance.clone(),
        retention_time_ms: -1,
        topics: by_topic(offsets.iter().map(|(place, _)| *place)).into_iter().map(topic).collect(),
    }
    .into()
}

/// What became of each offset of a commit.
///
/// # Errors
/// Where the answer does not name exactly what was committed.
pub(super) fn committed(
    version: i16,
    offsets: &[(Place, Offset)],
    response: &OffsetCommitResponse,
    topics: &Topics,
) -> Result<Vec<(Place, ErrorCode)>, String> {
    let mut told = Vec::new();
    for topic in &response.topics {
        let index = match version >= IDS_FROM {
            true => topics.with_id(topic.topic_id),
            false => topics.with_name(&topic.name),
        };
        let index = index.ok_or("a commit is answered for a topic that it did not name")?;
        for partition in &topic.partitions {
            let place = Place { topic: topic_index(index), partition: partition.partition_index };
            told.push((place, known_code(partition.error_code)?));
        }
    }
    told.sort_unstable_by_key(|(place, _)| *place);
    let mut asked: Vec<Place> = offsets.iter().map(|(place, _)| *place).collect();
    asked.sort_unstable();
    if !told.iter().map(|(place, _)| *place).eq(asked.iter().copied()) {
        return Err(format!("a commit of {} offsets is answered for {} others or not all", asked.len(), told.len()));
    }
    Ok(told)
}

/// Asks for what is committed of these, or all that is.
pub(in crate::client) fn fetch(
    version: i16,
    group: &Str,
    credentials: &Credentials,
    places: Option<&[Place]>,
    topics: &Topics,
) -> Request {
    let named = places.map(|places| by_topic(places.iter().copied()));
    if version < GROUPS_FROM {
        let topic = |(topic, partition_indexes): (u32, Vec<i32>)| OffsetFetchRequestTopic {
            name: topics.get(topic as usize).name.clone(),
            partition_indexes,
        };
        let topics = named.map(|named| named.into_iter().map(topic).collect());
        return OffsetFetchRequest { group_id: group.clone(), topics, ..Default::default() }.into();
    }
    let topic = |(topic, partition_indexes): (u32, Vec<i32>)| {
        let known = topics.get(topic as usize);
        match version >= IDS_FROM {
            true => {
                OffsetFetchRequestTopics { name: Str::EMPTY, topic_id: known.id.unwrap_or_default(), partition_indexes }
            }
            false => OffsetFetchRequestTopics { name: known.name.clone(), partition_indexes, ..Default::default() },
        }
    };
    let is_member = credentials.number >= 0 && version > GROUPS_FROM;
    let asked = OffsetFetchRequestGroup {
        group_id: group.clone(),
        member_id: is_member.then(|| credentials.member.clone()),
        member_epoch: if is_member { credentials.number } else { -1 },
        topics: named.map(|named| named.into_iter().map(topic).collect()),
    };
    OffsetFetchRequest { groups: vec![asked], require_stable: false, ..Default::default() }.into()
}

/// What is committed, or why it is not told.
///
/// # Errors
/// Where the answer does not name exactly what was asked for, or an offset that no client committed.
pub(in crate::client) fn fetched(
    version: i16,
    group: &Str,
    places: Option<&[Place]>,
    response: &OffsetFetchResponse,
    topics: &Topics,
) -> Result<Result<Vec<Committed>, ErrorCode>, String> {
    let mut told: Vec<(Place, i64, Option<&Str>, i16)> = Vec::new();
    let code = if version < GROUPS_FROM {
        for topic in &response.topics {
            let index = topics.with_name(&topic.name).ok_or("offsets of a topic are told that nobody committed")?;
            told.extend(topic.partitions.iter().map(|partition| {
                let place = Place { topic: topic_index(index), partition: partition.partition_index };
                (place, partition.committed_offset, partition.metadata.as_ref(), partition.error_code)
            }));
        }
        response.error_code
    } else {
        let [one] = response.groups.as_slice() else {
            return Err(format!("offsets of one group were asked for, {} are told", response.groups.len()));
        };
        if one.group_id != *group {
            return Err(format!("offsets of {group} were asked for, those of {} are told", one.group_id));
        }
        for topic in &one.topics {
            let index = match version >= IDS_FROM {
                true => topics.with_id(topic.topic_id),
                false => topics.with_name(&topic.name),
            };
            let index = index.ok_or("offsets of a topic are told that nobody asked for")?;
            told.extend(topic.partitions.iter().map(|partition| {
                let place = Place { topic: topic_index(index), partition: partition.partition_index };
                (place, partition.committed_offset, partition.metadata.as_ref(), partition.error_code)
            }));
        }
        one.error_code
    };
    let code = known_code(code)?;
    if code != ErrorCode::None {
        return Ok(Err(code));
    }
    told.sort_unstable_by_key(|(place, ..)| *place);
    if let Some(places) = places {
        let mut asked = places.to_vec();
        asked.sort_unstable();
        if !told.iter().map(|(place, ..)| *place).eq(asked.iter().copied()) {
            return Err(format!(
                "offsets of {} partitions were asked for, {} others or not all are told",
                asked.len(),
                told.len()
            ));
        }
    }
    let mut committed = Vec::new();
    for (place, offset, metadata, code) in told {
        match known_code(code)? {
            ErrorCode::None => {}
            code => return Ok(Err(code)),
        }
        let tag = metadata.and_then(|metadata| Tag::parse(metadata));
        match tag {
            None if offset >= 0 => return Err(format!("offset {offset} of {place} is committed with {metadata:?}")),
            Some(tag) if offset < 0 => return Err(format!("no offset of {place} is committed, by {tag}")),
            _ => {}
        }
        committed.push(Committed { place, offset: Offset(offset), tag });
    }
    Ok(Ok(committed))
}

/// Whether an error says that an offset was not committed and will not be.
pub(super) fn is_declined(code: ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        code,
        E::UnknownMemberId
            | E::IllegalGeneration
            | E::StaleMemberEpoch
            | E::FencedInstanceId
            | E::RebalanceInProgress
            | E::GroupIdNotFound
            | E::OffsetMetadataTooLarge
            | E::InvalidCommitOffsetSize
            | E::UnknownTopicId
            | E::UnknownTopicOrPartition
            | E::CoordinatorLoadInProgress
    )
}
