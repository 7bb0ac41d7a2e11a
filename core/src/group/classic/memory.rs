//! What a group remembers: its record in the log, written and read.

use std::collections::BTreeSet;

use super::{Group, Member, Seat, State};
use crate::boundary::Client;
use crate::group::record::{GroupMetadataValue, Key, MemberMetadata, Record, Value};
use crate::group::{Context, TimerKind};
use crate::time::Timestamp;
use crate::wire::Str;

impl Group {
    /// A group with members in a generation, which a downgrade makes of a group of the next protocol. It is Stable, or
    /// Empty without members. Whoever decides the downgrade writes its record with the tombstones of the other group, and
    /// lets its sessions [begin](Group::begin).
    pub fn restore(
        name: Str,
        generation: i32,
        protocol_type: Str,
        protocol: Str,
        leader: Option<Str>,
        members: Vec<Member>,
    ) -> Group {
        let mut group = Group { generation, protocol_type: Some(protocol_type), is_recorded: true, ..Group::new(name) };
        for mut member in members {
            let mut names = BTreeSet::new();
            member.protocols.retain(|(name, _)| names.insert(name.clone()));
            group.seat_restored(member);
        }
        if !group.roster.is_empty() {
            group.state = State::Stable;
            group.protocol = Some(protocol);
        }
        if let Some(leader) = leader {
            group.roster.appoint(&leader);
        }
        group.subscribed = group.find_subscribed();
        group
    }

    /// Takes the group's record of the log. `None`, the tombstone, leaves it empty without a generation.
    ///
    /// Clients can write to the log's topic, so nothing is taken for granted: of two members with one id or one name
    /// the first counts.
    pub fn replay(&mut self, value: Option<&Value>, written: Timestamp) {
        let name = self.name.clone();
        let value = match value {
            None => return *self = Group::new(name),
            Some(Value::Group(value)) => value,
            // No record of a classic group.
            Some(_) => return,
        };
        let protocol = value.protocol.as_ref().map(Str::detached);
        let members = value.members.iter().map(|member| remembered(member, protocol.as_ref())).collect();
        let protocol_type = value.protocol_type.detached();
        let leader = value.leader.clone();
        *self = Group::restore(
            name,
            // Clients take a negative one for none.
            value.generation.max(0),
            protocol_type.clone(),
            protocol.unwrap_or_default(),
            leader,
            members,
        );
        self.protocol_type = Some(protocol_type).filter(|name| !name.is_empty());
        self.is_unassigned = value.leader.is_none();
        // Brokers before Kafka 2.1 did not say. The group was in its state when the record was written, and an earlier
        // time would let its offsets expire too soon (KAFKA-8069).
        self.since = Some(Timestamp(value.current_state_timestamp)).filter(|at| at.0 >= 0).or(Some(written));
    }

    /// The load is complete: sessions of its members begin. If it has more of them than it may, it rebalances, so that
    /// they can commit before some of them have to go. So it does if its record is that of a downgrade, which names no
    /// leader: the rebalance that belongs to it may not have come to an end.
    pub fn begin(&mut self, ctx: &mut Context<'_>) {
        for id in self.roster.ids() {
            self.extend_session_of(ctx, &id);
        }
        let is_to = self.is_unassigned || self.roster.len() > ctx.settings.group_max_size;
        if self.state == State::Stable && is_to {
            self.rebalance(ctx);
        }
    }

    /// Writes the group's record. Returns whether that was possible: a record that is too large is not written.
    pub fn write(&mut self, ctx: &mut Context<'_>) -> bool {
        let value = self.value();
        if record_bytes(&self.name, &value) > ctx.settings.record_bytes_max {
            return false;
        }
        ctx.write(Record { key: Key::Group { group: self.name.clone() }, value: Some(Value::Group(value)) });
        self.is_recorded = true;
        true
    }

    /// Removes an empty group: writes its tombstone, if there is a record to take back. It is then as if it had never
    /// been.
    ///
    /// # Panics
    /// If it has members.
    pub fn delete(&mut self, ctx: &mut Context<'_>) {
        assert!(self.state == State::Empty, "only an empty group is deleted, not one in {:?}", self.state);
        for id in std::mem::take(&mut self.pending) {
            self.cancel(ctx, TimerKind::Pending(id));
        }
        if self.is_recorded {
            ctx.write(Record { key: Key::Group { group: self.name.clone() }, value: None });
        }
        *self = Group::new(self.name.clone());
    }

    fn seat_restored(&mut self, member: Member) {
        let is_named_twice = member.instance_id.as_ref().is_some_and(|name| self.roster.named(name).is_some());
        if self.roster.seat(&member.id).is_none() && !is_named_twice {
            self.roster.insert(Seat::new(member));
        }
    }

    fn value(&self) -> GroupMetadataValue {
        let written = |seat: &Seat| MemberMetadata {
            member_id: seat.member.id.clone(),
            group_instance_id: seat.member.instance_id.clone(),
            client_id: seat.member.client.id.clone(),
            client_host: seat.member.client.host.clone(),
            rebalance_timeout: seat.member.rebalance_timeout_ms,
            session_timeout: seat.member.session_timeout_ms,
            subscription: self.protocol.as_ref().map(|protocol| seat.metadata(protocol)).unwrap_or_default(),
            assignment: seat.member.assignment.clone(),
        };
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.roster.leader().cloned(),
            current_state_timestamp: self.since.map_or(-1, |at| at.0),
            members: self.roster.seats().map(written).collect(),
        }
    }
}

/// A member as the log has it: of the protocols that it supported, the one that was chosen.
fn remembered(member: &MemberMetadata, protocol: Option<&Str>) -> Member {
    Member {
        id: member.member_id.clone(),
        instance_id: member.group_instance_id.clone(),
        client: Client { id: member.client_id.clone(), host: member.client_host.clone() },
        rebalance_timeout_ms: match member.rebalance_timeout {
            -1 => member.session_timeout,
            timeout => timeout,
        },
        session_timeout_ms: member.session_timeout,
        protocols: vec![(protocol.cloned().unwrap_or_default(), member.subscription.clone())],
        assignment: member.assignment.clone(),
    }
}

/// How many bytes the record has, key and value together; counted, since it is encoded elsewhere.
fn record_bytes(group: &Str, value: &GroupMetadataValue) -> usize {
    let text = |text: &Str| 2 + text.len();
    let null = |name: &Option<Str>| 2 + name.as_ref().map_or(0, |name| name.len());
    let member = |member: &MemberMetadata| {
        let texts = text(&member.member_id) + text(&member.client_id) + text(&member.client_host);
        let bytes = 4 + member.subscription.len() + 4 + member.assignment.len();
        texts + null(&member.group_instance_id) + bytes + TIMEOUTS
    };
    let head = text(&value.protocol_type) + null(&value.protocol) + null(&value.leader) + HEAD;
    text(group) + 2 + head + value.members.iter().map(member).sum::<usize>()
}

/// The value's version, the generation, the timestamp and the number of members.
const HEAD: usize = 2 + 4 + 8 + 4;
/// A member's two.
const TIMEOUTS: usize = 4 + 4;
