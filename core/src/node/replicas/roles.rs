//! Roles: what the metadata say of a partition becomes leading it, following it, or neither.

use std::time::Duration;

use smallvec::SmallVec;

use super::walk::What;
use crate::boundary::{Level, Outbox};
use crate::controller::GROUP_OFFSETS;
use crate::controller::records::PartitionState;
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, TopicPartition};
use crate::log::Log;
use crate::node::{Node, Woken, logs};
use crate::partition::{Part, Played, Stage};
use crate::peer::Replica;
use crate::replication::{Leadership, Member, View};
use crate::time::Now;
use crate::wire::ErrorCode;

/// Damaged partitions that lose their part, or are made anew, in one turn, at about 2 µs each.
const RESTED_AT_ONCE: usize = 32;

/// Whoever waits for bytes of a partition has enough: it is answered with what there is.
const ENOUGH: usize = 1 << 31;

impl Node {
    /// The metadata have registered this process: it leads and follows from now on (rule 3: never in an epoch that began
    /// before).
    pub(in crate::node) fn registered(&mut self, broker_epoch: BrokerEpoch) {
        self.replicas.me = Some(Replica { node: self.replicas.node_id, broker_epoch });
        self.tell_all(What::Roles);
    }

    /// Another broker has registered, or may or may not join in-sync sets any more.
    pub(in crate::node) fn broker_changed(&mut self, node: NodeId) {
        if node != self.replicas.node_id {
            self.tell_all(What::Member(node));
        }
    }

    /// Takes over what the broker's settings say.
    pub(in crate::node) fn apply_replica_settings(&mut self) {
        let ms = self.controller.config().replica_lag_time_max_ms;
        self.replicas.settings.lag_time_max = Duration::from_millis(ms);
        self.obey_rates();
    }

    /// Settings of topics may be others.
    pub(in crate::node) fn replicas_obey(&mut self) {
        self.tell_all(What::Settings);
    }

    /// Something can be said to a peer from now on.
    pub(in crate::node) fn peer_connected(&mut self, node: NodeId) {
        self.replicas.peers.connected(node);
        self.tell_all(What::Connected(node));
    }

    /// Nothing can be said to a peer any more.
    pub(in crate::node) fn peer_disconnected(&mut self, node: NodeId) {
        self.replicas.peers.disconnected(node);
        self.tell_all(What::Disconnected(node));
    }

    /// A peer's connection is new.
    pub(in crate::node) fn peer_arrived(&mut self, node: NodeId) {
        // What it said on the one before is older than what it says now. Its batches are of sessions that are over: it begins
        // all of them anew with its connection, before it says anything by it.
        self.replicas.incoming.forget(node);
        self.tell_all(What::Connected(node));
    }

    /// This broker's number.
    pub(in crate::node) fn node_id(&self) -> NodeId {
        self.replicas.node_id
    }

    /// Whether this broker holds a replica of a partition.
    pub(in crate::node) fn is_replica(&self, id: TopicPartition) -> bool {
        self.is_replica_of(self.replicas.node_id, id)
    }

    /// Whether a broker holds a replica of a partition.
    pub(super) fn is_replica_of(&self, node: NodeId, id: TopicPartition) -> bool {
        self.controller.image().partition(id).is_some_and(|state| state.replicas.contains(&node))
    }

    /// A broker, as a member of a set of replicas.
    pub(super) fn member(&self, node: NodeId) -> Option<Member> {
        let broker = self.controller.image().broker(node)?;
        let replica = Replica { node, broker_epoch: BrokerEpoch(broker.broker_epoch) };
        Some(Member { replica, may_join: self.controller.image().is_active(node) })
    }

    /// How many replicas of a partition must be in sync for its high watermark to move: as elections go by, so that who
    /// is elected has all that was acknowledged.
    pub(super) fn min_in_sync(&self, id: TopicPartition) -> usize {
        let Some(state) = self.controller.image().partition(id) else { return 1 };
        self.controller.election_rules(id.topic).min_in_sync(state.replication_factor())
    }

    /// Whether all replicas of a partition are in sync, as far as is known here. Each of them then has what has been below
    /// the high watermark for a while: who joins has reached it.
    pub(in crate::node) fn is_everywhere(&self, id: TopicPartition) -> bool {
        let state = self.controller.image().partition(id);
        state.is_some_and(|state| state.replicas.iter().all(|node| state.isr.contains(node)))
    }

    /// The part that the metadata give to a partition here, and its leader epoch.
    fn part_of(&self, slot: u32) -> (LeaderEpoch, Part) {
        let hosted = self.hosts[slot as usize].as_ref().expect("a hosted partition");
        let Some(state) = self.controller.image().partition(hosted.partition.id()) else {
            return (LeaderEpoch::default(), Part::Idle);
        };
        let leader_epoch = state.leader_epoch;
        let part = match &self.replicas.me {
            None => Part::Idle,
            Some(me) if state.leader == Some(me.node) => {
                let view = View {
                    leader_epoch,
                    partition_epoch: PartitionEpoch(state.partition_epoch),
                    replicas: state.replicas.iter().filter_map(|&node| self.member(node)).collect(),
                    in_sync: state.isr.clone(),
                };
                Part::Lead(view, self.min_in_sync(hosted.partition.id()))
            }
            Some(_) => {
                Part::Follow(Leadership { leader: state.leader, leader_epoch, unclean_epoch: state.unclean_epoch })
            }
        };
        (leader_epoch, part)
    }

    /// The metadata have another state of a partition.
    pub(in crate::node) fn place(&mut self, now: Now, id: TopicPartition, out: &mut Outbox) {
        match (self.by_id.get(&id).copied(), self.is_replica(id)) {
            (Some(slot), true) => self.play_sound(now, slot, out),
            (Some(_), false) => self.drop_partition(now, id, out),
            (None, true) if !self.moves.is_coming(id) => {
                self.take_in(now, id, out);
                self.begin_anew(id);
            }
            (None, _) => {}
        }
    }

    /// A partition has come that may have been here before: nothing of what the journal holds of that time is its own.
    fn begin_anew(&mut self, id: TopicPartition) {
        let Some(slot) = self.slot_of(id) else { return };
        self.storage.removals.keep_partition(id);
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let lsn = hosted.partition.log_mut().start_anew(Offset(0), &mut self.journal);
        self.woken.push_back((lsn, Woken::Partition(slot)));
    }

    /// Has a partition play the part that the metadata give to it.
    pub(in crate::node) fn play(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let (epoch, part) = self.part_of(slot);
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let Some(me) = &self.replicas.me else { return };
        let (before, settings) = (hosted.partition.advanced(), &self.replicas.settings);
        let mut stage = Stage { me, settings, now: now.instant, peers: &mut self.replicas.peers };
        let Played { begins_to_lead, ceases_to_lead, proposes, asks } = hosted.partition.play(epoch, part, &mut stage);
        self.replicas.heed(slot, proposes);
        if let Some((leader, asks)) = asks {
            self.replicas.said.entry(leader).or_default().mismatch.push(asks);
        }
        if ceases_to_lead {
            self.stand_down(slot, begins_to_lead, out);
        }
        self.slow_down(now, slot);
        if begins_to_lead && *self.host(slot).name == *GROUP_OFFSETS {
            let id = self.host(slot).partition.id();
            self.seat(id, slot);
        }
        self.touch(slot);
        self.rouse(slot, before, out);
        self.refuse_below_minimum(slot, out);
    }

    /// This process has been registered anew: what it did under another broker epoch is nobody's business any more. What
    /// it plays by the new one goes on, since the metadata may have given it its part before this walk has come here:
    /// whoever began anew in one leader epoch would count sessions and attempts from the beginning again.
    pub(super) fn play_anew(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let partition = &self.hosts[slot as usize].as_ref().expect("a hosted partition").partition;
        let plays_already = self.replicas.me.as_ref().is_some_and(|me| partition.plays_as(me));
        if !plays_already && self.rest(now, slot) {
            self.stand_down(slot, false, out);
        }
        self.play_sound(now, slot, out);
    }

    /// As [`Node::play`], after a damaged log that nobody relies on has been thrown away: it is made anew from its
    /// leader's. What the metadata do not say yet must not be acted on (rule 11 of the storage's rules), and what nobody
    /// else leads is kept for whoever comes to mend it.
    fn play_sound(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        let id = self.host(slot).partition.id();
        let is_led_by_another = |state: &PartitionState| state.leader.is_some_and(|leader| leader != self.node_id());
        let is_led = self.controller.image().partition(id).is_some_and(is_led_by_another);
        let is_dispensable = is_led && !self.is_relied_on(id);
        let Some(why) = self.host(slot).partition.damage().filter(|_| is_dispensable).map(str::to_owned) else {
            return self.play(now, slot, out);
        };
        if !self.has_room_to_advance() {
            self.checkpoint_soon();
            self.replicas.damaged.insert(slot);
            return self.play(now, slot, out);
        }
        let hosted = self.host(slot);
        let name = logs::display(&hosted.name, id);
        out.log(Level::Warn, format!("{name} is made anew from its leader's log, since it is damaged: {why}"));
        let (log, delay) = (hosted.partition.log(), hosted.config.file_delete_delay_ms);
        let files = log.segments().map(|segment| log.name_of(segment)).collect();
        self.drop_partition(now, id, out);
        self.take_in(now, id, out);
        self.begin_anew(id);
        self.storage.removals.drop_segments(files, delay);
    }

    /// Whether others may rely on what a damaged replica has been, by the metadata or by what it has acknowledged: then a
    /// leader may just be proposing it for the in-sync set.
    pub(in crate::node) fn is_relied_on(&self, id: TopicPartition) -> bool {
        let me = self.node_id();
        let Some(slot) = self.slot_of(id) else { return false };
        let relied_on_in = self.hosts[slot as usize].as_ref().and_then(|hosted| hosted.partition.relied_on_in());
        self.controller.image().partition(id).is_some_and(|state| {
            state.isr.contains(&me)
                || state.eligible.contains(&me)
                || relied_on_in.is_some_and(|epoch| epoch >= state.leader_epoch)
        })
    }

    /// Has a partition play no part. Returns whether it led.
    fn rest(&mut self, now: Now, slot: u32) -> bool {
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let Some(me) = &self.replicas.me else { return false };
        let (epoch, settings) = (hosted.partition.epoch(), &self.replicas.settings);
        let mut stage = Stage { me, settings, now: now.instant, peers: &mut self.replicas.peers };
        hosted.partition.play(epoch, Part::Idle, &mut stage).ceases_to_lead
    }

    /// Partitions whose damage was found have a part no more: the others do without this replica. Those that are to be
    /// made anew and for which the journal has no room are looked at again.
    pub(super) fn rest_damaged(&mut self, now: Now, out: &mut Outbox) {
        let next: SmallVec<[u32; RESTED_AT_ONCE]> =
            self.replicas.damaged.iter().copied().take(RESTED_AT_ONCE).collect();
        for slot in next {
            self.replicas.damaged.remove(&slot);
            if self.hosts[slot as usize].is_some() {
                self.play_sound(now, slot, out);
            }
        }
    }

    /// Damage of a partition has been found. One that nobody follows goes on to acknowledge what it has taken.
    pub(in crate::node) fn found_damaged(&mut self, slot: u32) {
        self.tell_damage_soon();
        let partition = &self.host(slot).partition;
        if partition.has_followers() || partition.is_followed() {
            self.replicas.damaged.insert(slot);
        }
    }

    /// A partition's leadership is over, or another of the same broker has begun: whoever waits for it is told so.
    fn stand_down(&mut self, slot: u32, leads_on: bool, out: &mut Outbox) {
        let id = self.host(slot).partition.id();
        if *self.host(slot).name == *GROUP_OFFSETS {
            self.unseat_leader(id, out);
        }
        if leads_on {
            // What was appended is there, and is acknowledged as what is to come.
            return;
        }
        let wakes_at = self.host(slot).wakes_at.take();
        self.replicas.forget(slot, wakes_at);
        let code = match self.host(slot).partition.damage() {
            Some(_) => ErrorCode::KafkaStorageError,
            None => ErrorCode::NotLeaderOrFollower,
        };
        self.refuse_waiting(slot, code, out);
        self.refuse_deletions(slot, code, out);
        self.credit(slot, ENOUGH, out);
    }

    /// A partition goes away: it plays no part any more, and whoever waits for it is told so.
    pub(in crate::node) fn retire(&mut self, now: Now, slot: u32, out: &mut Outbox) {
        self.rest(now, slot);
        let wakes_at = self.host(slot).wakes_at.take();
        self.replicas.forget(slot, wakes_at);
        self.refuse_waiting(slot, ErrorCode::UnknownTopicOrPartition, out);
        self.refuse_deletions(slot, ErrorCode::UnknownTopicOrPartition, out);
    }

    /// Whoever waits for the whole in-sync set is told when that has become too small: the high watermark stands still.
    pub(super) fn refuse_below_minimum(&mut self, slot: u32, out: &mut Outbox) {
        if self.host(slot).partition.is_below_minimum() {
            self.refuse_acks(slot, ErrorCode::NotEnoughReplicasAfterAppend, out);
            self.refuse_uncommitted(slot, out);
        }
    }

    /// Takes a partition in that is new to this broker.
    pub(in crate::node) fn take_in(&mut self, now: Now, id: TopicPartition, out: &mut Outbox) {
        // Its topic may have been deleted meanwhile, or it may be here already.
        if self.by_id.contains_key(&id) || !self.is_replica(id) {
            return;
        }
        let Some(topic) = self.controller.image().topic(id.topic) else { return };
        let name = topic.name.clone();
        let slot = self.host_partition(id, name, Log::after(id, self.moves.lineage_of(id)));
        self.play(now, slot, out);
    }
}
