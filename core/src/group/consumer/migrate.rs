//! The ways between the protocols while members live (KIP-848, "Upgrade" and "Downgrade").
//!
//! A classic group becomes one of this kind when its first member of the next protocol joins: it stands as it was, each
//! member with the generation as its epoch and what its leader assigned as its target. What a member says that it owns
//! beyond that it is taken to be giving up, so that nobody else has it before it has joined again. It becomes a classic group again
//! when the last member of the next protocol is gone. A member's assignment is then all that it has not given up. Kafka
//! takes its target; but the member may not have heard of that yet, and where the group is upgraded again before it has,
//! what it goes on reading would be given to somebody else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::group::protocol::{
    self, ConsumerProtocolAssignment, ConsumerProtocolSubscription, PROTOCOL_TYPE, TopicPartition,
};
use crate::group::record::{
    ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMetadataValue, GroupMetadataValue, Key, MemberMetadata,
    Record, Value,
};
use crate::group::settings::Migration;
use crate::group::{Context, classic};
use crate::wire::Str;

use super::Group;
use super::classic_members::assignment_of;
use super::heartbeat::bytes_of;
use super::member::{About, Classic, Current, Member, Owned, State, protocols_of, target_value, topics_of};
use super::regex::RECORD_OVERHEAD_BYTES;

impl Group {
    /// Whether a classic group with members may be upgraded (protocol type, decodable subscriptions, policy, room).
    pub fn may_upgrade(ctx: &Context<'_>, group: &mut classic::Group) -> bool {
        let is_allowed =
            matches!(ctx.settings.consumer_migration_policy, Migration::Upgrade | Migration::Bidirectional)
                && group.protocol_type().is_some_and(|name| *name == PROTOCOL_TYPE)
                && group.size() <= ctx.settings.consumer_max_size;
        let is_in_the_way = |member: &classic::Member| upgraded(ctx, group, member).is_none();
        if !is_allowed || group.obstacle().and_then(|id| group.member(id)).is_some_and(is_in_the_way) {
            return false;
        }
        let obstacle = group.members().find(is_in_the_way).map(|member| member.id);
        let may = obstacle.is_none();
        obstacle.into_iter().for_each(|id| group.note_obstacle(id));
        may
    }

    /// Decides the upgrade of a classic group with members: writes the tombstone of the classic record and the records
    /// of the new group, which stands as they describe it, with the members as members that use the classic protocol.
    ///
    /// # Panics
    /// Where [`Group::may_upgrade`] does not hold.
    pub fn upgrade(ctx: &mut Context<'_>, group: &classic::Group, name: Str) -> Group {
        let mut members: BTreeMap<Str, Member> = group
            .members()
            .map(|member| {
                let upgraded = upgraded(ctx, group, &member).expect("the group may be upgraded");
                (member.id.detached(), upgraded)
            })
            .collect();
        own_once(&mut members);
        ctx.write(Record { key: Key::Group { group: name.clone() }, value: None });

        let mut new = Group::new(name.clone());
        for (id, member) in &members {
            let key = Key::Member { group: name.clone(), member: id.clone() };
            new.decide(ctx, key, Some(Value::Member(member.about.to_value())));
        }
        let epoch = group.generation().max(0);
        let value = ConsumerGroupMetadataValue { epoch, metadata_hash: new.hash_of_topics(ctx) };
        new.decide(ctx, Key::ConsumerGroup { group: name.clone() }, Some(Value::ConsumerGroup(value)));
        for (id, member) in &members {
            let current = &member.current;
            let target = current.assigned.iter().map(|(topic, of)| (*topic, of.keys().copied().collect())).collect();
            let key = Key::TargetAssignmentMember { group: name.clone(), member: id.clone() };
            new.decide(ctx, key, Some(Value::TargetAssignmentMember(target_value(&target))));
            new.decide_current(ctx, id, current);
        }
        let value = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: epoch,
            assignment_timestamp: ctx.now.wall.0,
        };
        new.decide(ctx, Key::TargetAssignment { group: name }, Some(Value::TargetAssignment(value)));
        for id in members.keys() {
            new.renew_session(ctx, id);
        }
        new
    }

    /// Whether its last member of the next protocol is gone while members that use the classic protocol are left.
    pub fn may_downgrade(&self, ctx: &Context<'_>) -> bool {
        self.classic_members > 0
            && self.classic_members == self.members.len()
            && matches!(ctx.settings.consumer_migration_policy, Migration::Downgrade | Migration::Bidirectional)
            && self.members.len() <= ctx.settings.group_max_size
            && self.common_protocol().is_some()
            && self.classic_bytes() <= ctx.settings.record_bytes_max
    }

    /// What the record of the classic group would take, at most.
    fn classic_bytes(&self) -> usize {
        let held = |current: &Current| {
            let topics = current.assigned.values().chain(current.revoking.values());
            topics.map(|partitions| NAME_BYTES_MAX + 16 + 4 * partitions.len()).sum::<usize>()
        };
        let of_member = |(id, member): (&Str, &Member)| id.len() + 64 + bytes_of(&member.about) + held(&member.current);
        let members = self.members.iter().map(of_member);
        RECORD_OVERHEAD_BYTES + members.sum::<usize>()
    }

    /// Decides the downgrade: writes the tombstones of this group's records and the classic group's record. What the
    /// members that are gone had is nobody's: the classic group is to be rebalanced.
    ///
    /// # Panics
    /// Where [`Group::may_downgrade`] does not hold.
    pub fn downgrade(&mut self, ctx: &mut Context<'_>) -> classic::Group {
        let protocol = self.common_protocol().expect("the group may be downgraded");
        let members: Vec<classic::Member> =
            self.members.iter().map(|(id, member)| downgraded(ctx, id, member, &protocol)).collect();
        let (name, generation) = (self.name.clone(), self.epoch);
        let leader = members.first().map(|member| member.id.clone());
        self.bury(ctx);

        let value = GroupMetadataValue {
            protocol_type: PROTOCOL_TYPE,
            generation,
            protocol: Some(protocol.clone()),
            // As long as the group has not come together, it is to do so after a load.
            leader: None,
            current_state_timestamp: ctx.now.wall.0,
            members: members.iter().map(|member| member_value(member, &protocol)).collect(),
        };
        ctx.write(Record { key: Key::Group { group: name.clone() }, value: Some(Value::Group(value)) });
        classic::Group::restore(name, generation, PROTOCOL_TYPE, protocol, leader, members)
    }

    /// The protocol that all members support and most like best, the first by name of several.
    fn common_protocol(&self) -> Option<Str> {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for classic in self.members.values().filter_map(|member| member.about.classic.as_ref()) {
            if let Some((name, _)) = classic.protocols.iter().find(|(name, _)| self.is_supported_by_all(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(name, _)| name.clone())
    }
}

/// How long a topic's name is, at most.
const NAME_BYTES_MAX: usize = 249;

/// What a member of a classic group is in a group of the next protocol; `None` where that cannot be told.
fn upgraded(ctx: &Context<'_>, group: &classic::Group, member: &classic::Member) -> Option<Member> {
    // Before the first generation no protocol is chosen; all of a member's subscribe to the same.
    let metadata = metadata_of(&member.protocols, group.protocol())?;
    let subscription = ConsumerProtocolSubscription::from_bytes(metadata).ok()?;
    // What it is not assigned any more it may still be giving up (KIP-429).
    let revoking = there(ctx, group, &subscription.owned_partitions);
    let mut assigned = Owned::new();
    if !member.assignment.is_empty() {
        let assignment = ConsumerProtocolAssignment::from_bytes(&member.assignment).ok()?;
        // What an assignor of the clients' own added would be lost.
        if assignment.user_data.is_some_and(|data| !data.is_empty()) {
            return None;
        }
        assigned = there(ctx, group, &assignment.assigned_partitions);
    }
    let about = About {
        instance_id: member.instance_id.as_ref().map(Str::detached),
        rack_id: subscription.rack_id.as_ref().filter(|rack| !rack.is_empty()).map(Str::detached),
        client: member.client.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        topics: topics_of(&subscription.topics),
        regex: None,
        assignor: None,
        classic: Some(Classic {
            session_timeout_ms: member.session_timeout_ms,
            protocols: protocols_of(member.protocols.iter().map(|(name, metadata)| (name, metadata))),
        }),
    };
    let epoch = group.generation().max(0);
    let current = Current { epoch, previous_epoch: epoch, state: State::Stable, assigned, revoking };
    let fits = bytes_of(&about).max(current.bytes_max()) <= ctx.settings.record_bytes_max;
    fits.then(|| Member { about, current, ..Member::default() })
}

/// What a member that uses the classic protocol is in a classic group. It has what nobody else may have yet.
fn downgraded(ctx: &Context<'_>, id: &Str, member: &Member, protocol: &Str) -> classic::Member {
    let Member { about, current, .. } = member;
    let classic = about.classic.clone().unwrap_or_default();
    let metadata = metadata_of(&classic.protocols, Some(protocol));
    let version = metadata.and_then(|metadata| protocol::version(metadata).ok()).unwrap_or(0);
    let mut held = current.assigned.clone();
    for (topic, partitions) in &current.revoking {
        held.entry(*topic).or_default().extend(partitions);
    }
    classic::Member {
        id: id.clone(),
        instance_id: about.instance_id.clone(),
        client: about.client.clone(),
        rebalance_timeout_ms: about.rebalance_timeout_ms,
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic.protocols,
        assignment: assignment_of(ctx, &held, version),
    }
}

/// Those of a classic member's partitions that there are.
fn there(ctx: &Context<'_>, group: &classic::Group, topics: &[TopicPartition]) -> Owned {
    let mut owned = Owned::new();
    for topic in topics {
        let Some((id, count)) = ctx.topics.by_name(&topic.topic) else { continue };
        let is_there = |partition: &&i32| u32::try_from(**partition).is_ok_and(|partition| partition < count);
        let partitions = topic.partitions.iter().filter(is_there).map(|partition| (*partition, group.generation()));
        owned.entry(id).or_default().extend(partitions);
    }
    owned.retain(|_, partitions| !partitions.is_empty());
    owned
}

/// Leaves each partition to one member: to the first that it is assigned to, since an assignor of clients may have given
/// it to two; else to the first that says that it owns it, and is to give it up.
fn own_once(members: &mut BTreeMap<Str, Member>) {
    let mut taken = BTreeSet::new();
    let mut keep = |owned: &mut Owned| {
        for (topic, partitions) in owned.iter_mut() {
            partitions.retain(|partition, _| taken.insert((*topic, *partition)));
        }
        owned.retain(|_, partitions| !partitions.is_empty());
    };
    members.values_mut().for_each(|member| keep(&mut member.current.assigned));
    for member in members.values_mut() {
        keep(&mut member.current.revoking);
        if !member.current.revoking.is_empty() {
            member.current.state = State::Unrevoked;
        }
    }
}

fn metadata_of<'a>(protocols: &'a [(Str, Bytes)], chosen: Option<&Str>) -> Option<&'a Bytes> {
    let mut named = protocols.iter().filter(|(name, _)| chosen.is_none_or(|chosen| name == chosen));
    named.next().map(|(_, metadata)| metadata)
}

fn member_value(member: &classic::Member, protocol: &Str) -> MemberMetadata {
    MemberMetadata {
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client.id.clone(),
        client_host: member.client.host.clone(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: metadata_of(&member.protocols, Some(protocol)).cloned().unwrap_or_default(),
        assignment: member.assignment.clone(),
    }
}
