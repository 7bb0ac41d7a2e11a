//! Metadata as it is: what is answered from it, and what its changes mean for the node.

use std::sync::Arc;

use super::slices::Long;
use super::{Hosted, Node};
use crate::boundary::{Effect, Level, Outbox, ReplyTo};
use crate::config::TopicConfig;
use crate::controller::image::Change;
use crate::controller::{self, Describing, GROUP_OFFSETS, Listing};
use crate::ids::{BrokerEpoch, TopicId, TopicPartition};
use crate::time::Now;
use crate::topic_codecs::TopicCodecs;
use crate::wire::{self, Response};

/// Partitions that take over their broker's settings in one step, at about 0.1 µs each, and 1 µs for each topic.
const OBEYED_AT_ONCE: usize = 100;

/// Partitions of one topic that take over its settings in one step, at about 0.07 µs each.
const OF_A_TOPIC_AT_ONCE: usize = 1_000;

/// Partitions on their way to new settings of the broker.
#[derive(Debug)]
pub(super) struct Obeying {
    /// Up to here they have them.
    after: Option<TopicPartition>,
    /// The table that connections get when all of them have.
    codecs: TopicCodecs,
}

impl Node {
    /// Answers what the metadata says, or has it changed.
    pub(super) fn metadata_request(&mut self, now: Now, to: ReplyTo, request: wire::Request, out: &mut Outbox) {
        use wire::Request as R;
        let version = to.version;
        let response = match request {
            R::ApiVersions(request) => {
                // Answered at once: every connection begins with it.
                let response = Response::ApiVersions(controller::api_versions(version, &request));
                return out.push(Effect::Reply { to, response: Some(response) });
            }
            R::Metadata(request) => {
                return self.begin_long(now, to, Long::Metadata(Describing::new(version, request)), out);
            }
            R::DescribeConfigs(request) => return self.begin_long(now, to, Long::Configs(request, Vec::new(), 0), out),
            R::DescribeTopicPartitions(request) => return self.begin_long(now, to, Long::Topics(request), out),
            R::DescribeCluster(request) => {
                Response::DescribeCluster(self.controller.describe_cluster(self.listener(to), &request))
            }
            R::ListPartitionReassignments(request) => {
                return self.begin_long(now, to, Long::Reassignments(Listing::begin(request)), out);
            }
            R::UpdateFeatures(request) => Response::UpdateFeatures(controller::update_features(version, &request)),
            change @ (R::CreateTopics(_)
            | R::DeleteTopics(_)
            | R::CreatePartitions(_)
            | R::AlterConfigs(_)
            | R::IncrementalAlterConfigs(_)
            | R::InitProducerId(_)
            | R::AlterPartitionReassignments(_)
            | R::ElectLeaders(_)
            | R::UnregisterBroker(_)
            | R::DescribeQuorum(_)
            | R::AddRaftVoter(_)
            | R::RemoveRaftVoter(_)) => return self.change_metadata(now, to, change, out),
            other => unreachable!("{other:?} is answered elsewhere"),
        };
        out.push(Effect::Reply { to, response: Some(response) });
    }

    pub(super) fn listener(&self, to: ReplyTo) -> &str {
        &self.listeners[to.listener.0 as usize]
    }

    /// Acts on what an entry of the metadata log changed.
    pub(super) fn changed(&mut self, now: Now, change: Change, out: &mut Outbox) {
        match change {
            Change::TopicCreated(id) => {
                if let Some(topic) = self.controller.image().topic(id) {
                    out.log(Level::Info, format!("created topic {} ({id})", topic.name));
                }
            }
            Change::PartitionCreated(id) => {
                let topic = self.controller.image().topic(id.topic).expect("the topic of a new partition");
                match *topic.name == *GROUP_OFFSETS {
                    true => {
                        self.groups_live_in(id.topic);
                        self.take_in(now, id, out);
                    }
                    false => self.moves.come(id),
                }
                self.topics_changed();
            }
            Change::PartitionChanged(id) => {
                self.place(now, id, out);
            }
            Change::TopicRemoved { id, name, partitions } => {
                out.log(Level::Info, format!("deleted topic {name} ({id})"));
                self.codecs_changed |= self.codecs.forget(&name, id);
                if let Some(obeying) = &mut self.obeying {
                    obeying.codecs.forget(&name, id);
                }
                match *name == *GROUP_OFFSETS {
                    true => (0..partitions).for_each(|partition| {
                        self.groups_lose_topic();
                        self.drop_partition(now, TopicPartition { topic: id, partition }, out);
                    }),
                    false => self.moves.leave(id, partitions),
                }
                self.moves.forget(id);
                self.topics_changed();
                self.forget_topic(&name, id);
            }
            Change::TopicSettings(id) => {
                self.look_for_leaders();
                self.apply_topic_config(id);
            }
            Change::BrokerSettings => {
                self.look_for_leaders();
                self.apply_broker_config();
                let config = self.controller.config();
                let (max, max_per_ip) = (config.max_connections, config.max_connections_per_ip);
                out.push(Effect::AllowConnections { max, max_per_ip });
            }
            // Of a process before this one, the log may tell late.
            Change::BrokerRegistered { node_id, broker_epoch } if self.is_this_process(node_id, broker_epoch) => {
                self.broker_stands(node_id);
                self.registered(BrokerEpoch(broker_epoch));
            }
            Change::BrokerRegistered { node_id, .. } | Change::BrokerStanding { node_id, .. } => {
                self.look_for_leaders();
                self.broker_stands(node_id);
                self.broker_changed(node_id);
            }
        }
    }

    /// Lets a partition go, and has those told who wait for it.
    pub(super) fn drop_partition(&mut self, now: Now, id: TopicPartition, out: &mut Outbox) {
        let Some(slot) = self.by_id.remove(&id) else { return };
        self.damaged.remove(&id);
        let stays = self.controller.image().partition(id).is_some();
        match *self.host(slot).name == *GROUP_OFFSETS {
            // The topic goes on elsewhere, perhaps without what was decided here and is not committed.
            true if stays => self.unseat_leader(id, out),
            true => self.unseat(id, out),
            false => {}
        }
        self.retire(now, slot, out);
        let hosted = self.hosts[slot as usize].take().expect("a hosted partition");
        self.leave_all(&hosted, out);
        self.free_hosts.push(slot);
        if stays {
            self.moves.left(id, hosted.partition.log().lineage());
        }
        let Hosted { config, accounted, partition, .. } = hosted;
        self.close_account(accounted);
        self.tails.release(partition.into_log().release());
        self.compaction.forget(id);
        self.storage.removals.drop_partition(id, config.file_delete_delay_ms);
    }

    fn apply_topic_config(&mut self, topic: TopicId) {
        let Some(config) = self.controller.topic_config(topic) else { return };
        let name = &self.controller.image().topic(topic).expect("it has settings").name;
        self.codecs_changed |= self.codecs.set(name, topic, &config);
        if let Some(obeying) = &mut self.obeying {
            obeying.codecs.set(name, topic, &config);
        }
        self.compaction.obey(&config);
        self.obeying_topics.insert(topic, 0);
        self.obey_topic(topic);
    }

    /// Whether some partitions do not use the settings yet that are in force.
    pub(super) fn is_obeying(&self) -> bool {
        self.obeying.is_some() || !self.obeying_topics.is_empty()
    }

    /// Has the next partitions use what a topic says, or the broker.
    pub(super) fn obey_some(&mut self) {
        match self.obeying_topics.keys().next().copied() {
            _ if self.obeying.is_some() => self.obey_on(),
            Some(topic) => self.obey_topic(topic),
            None => {}
        }
    }

    /// Has the next partitions of a topic use its settings.
    fn obey_topic(&mut self, topic: TopicId) {
        let Some(from) = self.obeying_topics.remove(&topic) else { return };
        let Some(config) = self.controller.topic_config(topic).map(Arc::new) else { return };
        let first = TopicPartition { topic, partition: from };
        let last = TopicPartition { topic, partition: i32::MAX };
        let mut next = self.by_id.range(first..=last);
        for (_, &slot) in next.by_ref().take(OF_A_TOPIC_AT_ONCE) {
            self.hosts[slot as usize].as_mut().expect("a hosted partition").config = config.clone();
        }
        match next.next().map(|(id, _)| id.partition) {
            Some(partition) => _ = self.obeying_topics.insert(topic, partition),
            None => self.replicas_obey(),
        }
    }

    /// Takes over what the broker's settings say. Topics inherit from them: a slice of these in this step, the others in
    /// those to come.
    pub(super) fn apply_broker_config(&mut self) {
        let config = self.controller.config();
        self.fetch_bytes_max = config.fetch_max_bytes as usize;
        self.retention_interval = std::time::Duration::from_millis(config.log_retention_check_interval_ms);
        self.compaction.obey(&config.topic_defaults);
        self.producer_expiration_ms = config.producer_id_expiration_ms;
        self.sessions.resize(config.max_incremental_fetch_session_cache_slots as usize);
        self.obeying = Some(Obeying { after: None, codecs: TopicCodecs::new(&config.topic_defaults) });
        self.apply_group_settings();
        self.apply_replica_settings();
        self.obey_on();
    }

    /// Has the next partitions use what their topics inherit.
    pub(super) fn obey_on(&mut self) {
        let Some(mut obeying) = self.obeying.take() else { return };
        let next = self.partitions_after(obeying.after, OBEYED_AT_ONCE);
        let more = next.len() == OBEYED_AT_ONCE;
        let mut current: Option<(TopicId, Arc<TopicConfig>)> = None;
        for (id, slot) in next {
            obeying.after = Some(id);
            let config = match &current {
                Some((topic, config)) if *topic == id.topic => config.clone(),
                _ => {
                    // A partition whose topic is deleted, and that waits to be let go of, obeys nobody.
                    let Some(config) = self.controller.topic_config(id.topic) else { continue };
                    obeying.codecs.set(&self.host(slot).name, id.topic, &config);
                    self.compaction.obey(&config);
                    current.insert((id.topic, Arc::new(config))).1.clone()
                }
            };
            self.host(slot).config = config;
        }
        if more {
            self.obeying = Some(obeying);
        } else {
            self.codecs = obeying.codecs;
            self.codecs_changed = true;
            self.replicas_obey();
        }
    }
}
