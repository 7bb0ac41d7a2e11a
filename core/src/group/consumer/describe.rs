//! What tools are told of a group.

use crate::group::{Settings, Topics};
use crate::ids::TopicId;
use crate::wire::consumer_group_describe::{Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions};
use crate::wire::{ErrorCode, Str, describe_groups};

use super::Group;
use super::member::{Member, Owned, Partitions};

/// The first version of DescribeGroups that says of a group that is not there that it is an error (KIP-1043).
const NOT_FOUND_VERSION: i16 = 6;

/// The kinds of members of ConsumerGroupDescribe (KIP-1099).
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

impl Group {
    /// As ConsumerGroupDescribe tells of it: where no member asks for an assignor, it is the settings' first.
    pub fn describe(&self, settings: &Settings, topics: &dyn Topics) -> DescribedGroup {
        let default = || settings.consumer_assignors.first().map(|name| Str::from_static(name));
        DescribedGroup {
            group_id: self.name.clone(),
            group_state: Str::from_static(self.state()),
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: self.preferred_assignor().cloned().or_else(default).unwrap_or_default(),
            members: self.members.iter().map(|(id, member)| self.describe_member(topics, id, member)).collect(),
            ..DescribedGroup::default()
        }
    }

    /// As DescribeGroups tells of it, which knows only classic groups: as of one that is not there.
    pub fn describe_classic(&self, version: i16) -> describe_groups::DescribedGroup {
        let mut described = describe_groups::DescribedGroup {
            group_id: self.name.clone(),
            group_state: Str::from_static("Dead"),
            ..describe_groups::DescribedGroup::default()
        };
        if version >= NOT_FOUND_VERSION {
            described.error_code = ErrorCode::GroupIdNotFound as i16;
            described.error_message = Some(Str::from(format!("Group {} is not a classic group.", self.name)));
        }
        described
    }

    fn describe_member(&self, topics: &dyn Topics, id: &Str, member: &Member) -> DescribedMember {
        let about = &member.about;
        DescribedMember {
            member_id: id.clone(),
            instance_id: about.instance_id.clone(),
            rack_id: about.rack_id.clone(),
            member_epoch: member.current.epoch,
            client_id: about.client.id.clone(),
            client_host: about.client.host.clone(),
            subscribed_topic_names: about.topics.clone(),
            subscribed_topic_regex: about.regex.clone(),
            assignment: owned(topics, &member.current.assigned),
            target_assignment: self.targets.get(id).map_or_else(Assignment::default, |target| targeted(topics, target)),
            member_type: if member.is_classic() { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
        }
    }
}

fn owned(topics: &dyn Topics, owned: &Owned) -> Assignment {
    let topic = |(id, partitions): (&TopicId, &std::collections::BTreeMap<i32, i32>)| {
        named(topics, *id, partitions.keys().copied().collect())
    };
    Assignment { topic_partitions: owned.iter().filter_map(topic).collect() }
}

fn targeted(topics: &dyn Topics, target: &Partitions) -> Assignment {
    let topic = |(id, partitions): (&TopicId, &Vec<i32>)| named(topics, *id, partitions.clone());
    Assignment { topic_partitions: target.iter().filter_map(topic).collect() }
}

/// A topic that is gone has no name to be told by.
fn named(topics: &dyn Topics, id: TopicId, partitions: Vec<i32>) -> Option<TopicPartitions> {
    let (name, _) = topics.by_id(id)?;
    Some(TopicPartitions { topic_id: id, topic_name: name.clone(), partitions })
}
