//! About how long the parts of answers about groups are, in bytes: what they take in memory, and what they refer to.
//!
//! What is referred to counts as if it were copied. In memory it is shared, but on the wire it is not.

use crate::wire::Str;
use crate::wire::consumer_group_describe::{self as consumer, Assignment};
use crate::wire::describe_groups::{DescribedGroup, DescribedGroupMember};
use crate::wire::offset_fetch::{OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics};

/// A group of DescribeGroups.
pub(super) fn described(group: &DescribedGroup) -> usize {
    let members = group.members.iter().map(|member| {
        let names = member.member_id.len() + bytes(&member.group_instance_id);
        let client = member.client_id.len() + member.client_host.len();
        size_of::<DescribedGroupMember>()
            + names
            + client
            + member.member_metadata.len()
            + member.member_assignment.len()
    });
    size_of::<DescribedGroup>() + group.group_id.len() + members.sum::<usize>()
}

/// A group of ConsumerGroupDescribe.
pub(super) fn described_consumer(group: &consumer::DescribedGroup) -> usize {
    let members = group.members.iter().map(|member| {
        let names = member.member_id.len() + bytes(&member.instance_id) + bytes(&member.rack_id);
        let client = member.client_id.len() + member.client_host.len();
        let topics = member.subscribed_topic_names.iter().map(|name| size_of::<Str>() + name.len());
        size_of::<consumer::Member>()
            + names
            + client
            + topics.sum::<usize>()
            + bytes(&member.subscribed_topic_regex)
            + assigned(&member.assignment)
            + assigned(&member.target_assignment)
    });
    size_of::<consumer::DescribedGroup>() + group.group_id.len() + members.sum::<usize>()
}

fn assigned(assignment: &Assignment) -> usize {
    let topics = assignment.topic_partitions.iter().map(|topic| {
        size_of::<consumer::TopicPartitions>() + topic.topic_name.len() + size_of::<i32>() * topic.partitions.len()
    });
    topics.sum()
}

/// The topics and partitions of a group of OffsetFetch behind the first `topics` of them, and behind the first
/// `partitions` of the last of these.
pub(super) fn fetched(group: &OffsetFetchResponseGroup, (topics, partitions): (usize, usize)) -> usize {
    let from = topics.saturating_sub(1);
    let rest = group.topics.iter().skip(from).zip(from..).map(|(topic, index)| {
        let (before, head) = match index < topics {
            true => (partitions, 0),
            false => (0, size_of::<OffsetFetchResponseTopics>() + topic.name.len()),
        };
        let partitions = topic.partitions[before..].iter();
        let partitions = partitions.map(|at| size_of::<OffsetFetchResponsePartitions>() + bytes(&at.metadata));
        head + partitions.sum::<usize>()
    });
    rest.sum()
}

fn bytes(text: &Option<Str>) -> usize {
    text.as_ref().map_or(0, |text| text.len())
}
