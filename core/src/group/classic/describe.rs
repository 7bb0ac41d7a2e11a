//! What a group tells of itself, and what its members subscribe to.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Group, Seat, State};
use crate::group::protocol::{self, ConsumerProtocolSubscription};
use crate::wire::Str;
use crate::wire::describe_groups::{DescribedGroup, DescribedGroupMember};

impl Group {
    /// The group for DescribeGroups, the same in every version. What members say is told while the group is stable.
    pub fn describe(&self, _version: i16) -> DescribedGroup {
        let protocol = self.protocol.as_ref().filter(|_| self.state == State::Stable);
        DescribedGroup {
            group_id: self.name.clone(),
            group_state: Str::from_static(self.state.name()),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: protocol.cloned().unwrap_or_default(),
            members: self.roster.seats().map(|seat| describe(seat, protocol)).collect(),
            ..DescribedGroup::default()
        }
    }

    /// The topics that the members of the generation subscribe to; `None` where that cannot be known.
    pub(super) fn find_subscribed(&self) -> Option<BTreeSet<Str>> {
        if self.protocol_type.as_ref() != Some(&protocol::PROTOCOL_TYPE) {
            return None;
        }
        let mut subscribed = BTreeSet::new();
        let mut known = Topics::default();
        for seat in self.roster.seats() {
            let metadata = seat.metadata(self.protocol.as_ref()?);
            if !known.are_those_of(&metadata) {
                let subscription = ConsumerProtocolSubscription::from_bytes(&metadata).ok()?;
                known = Topics::new(&metadata, &subscription.topics);
                subscribed.extend(subscription.topics.iter().map(Str::detached));
            }
        }
        Some(subscribed)
    }
}

fn describe(seat: &Seat, protocol: Option<&Str>) -> DescribedGroupMember {
    let member = &seat.member;
    DescribedGroupMember {
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client.id.clone(),
        client_host: member.client.host.clone(),
        member_metadata: protocol.map(|protocol| seat.metadata(protocol)).unwrap_or_default(),
        member_assignment: member.assignment.clone(),
    }
}

/// The bytes of one subscription that say its topics. Members of a group subscribe to the same ones as a rule, and
/// comparing a thousand subscriptions takes far less time than reading them.
#[derive(Default)]
struct Topics(Bytes);

impl Topics {
    /// Where the topics begin: behind the version.
    const START: usize = 2;

    fn new(metadata: &Bytes, topics: &[Str]) -> Topics {
        let length = 4 + topics.iter().map(|topic| 2 + topic.len()).sum::<usize>();
        Topics(metadata.slice(Topics::START..Topics::START + length))
    }

    /// Whether this subscription, which is not looked at further, has the same.
    fn are_those_of(&self, metadata: &Bytes) -> bool {
        !self.0.is_empty() && metadata.get(Topics::START..).is_some_and(|bytes| bytes.starts_with(&self.0))
    }
}
