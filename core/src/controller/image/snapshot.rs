//! The image as a run of records that rebuild it: at once, or in parts while it goes on changing.
//!
//! A [`Snapshot`] stands for the log up to one index, however many parts it is encoded in: what a record changes that
//! is not encoded yet is kept as it was. That is a topic at a time, which shares its partitions with the image, so that
//! keeping one costs as much as its settings and the first change of its partitions as much as these.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::super::records::{Malformed, MetadataRecord, Resource, decode_entry, encode_one};
use super::{MetadataImage, Topic};
use crate::config::Layer;
use crate::ids::{NodeId, ProducerId, TopicId, TopicPartition};

/// A snapshot in the making: what the image was when it began.
#[derive(Debug)]
pub struct Snapshot {
    /// What comes before the topics.
    head: Vec<MetadataRecord>,
    /// Topics up to here are encoded, but for what is left of `current`.
    after: Option<TopicId>,
    /// The topic after whose first partitions a part ended, and how many these are.
    current: Option<(Topic, usize)>,
    /// Topics behind `after` that have changed since: as they were, `None` where they were not.
    kept: BTreeMap<TopicId, Option<Topic>>,
}

impl Snapshot {
    /// Begins one of `image` as it is.
    pub fn begin(image: &MetadataImage) -> Snapshot {
        Snapshot { head: image.head().collect(), after: None, current: None, kept: BTreeMap::new() }
    }

    /// Takes note that `record` is about to be replayed into `image`.
    pub fn keep(&mut self, image: &MetadataImage, record: &MetadataRecord) {
        match record {
            MetadataRecord::Topic { id, .. }
            | MetadataRecord::RemoveTopic { id }
            | MetadataRecord::Config { of: Resource::Topic(id), .. } => self.keep_topic(image, *id),
            MetadataRecord::CreatedWith { topic, .. } => self.keep_topic(image, *topic),
            MetadataRecord::Partition { partition, .. } => self.keep_topic(image, partition.topic),
            MetadataRecord::RegisterBroker(registration) => {
                for partition in &image.partition_index().duties(registration.node_id).leads {
                    self.keep_topic(image, partition.topic);
                }
            }
            MetadataRecord::ForgetEligible { topic } => {
                for partition in &image.partition_index().with_eligible {
                    if topic.is_none_or(|topic| topic == partition.topic) {
                        self.keep_topic(image, partition.topic);
                    }
                }
            }
            MetadataRecord::FormatLevel { .. }
            | MetadataRecord::ProducerIds { .. }
            | MetadataRecord::ClusterId { .. }
            | MetadataRecord::FenceBroker { .. }
            | MetadataRecord::UnfenceBroker { .. }
            | MetadataRecord::BeginShutdown { .. }
            | MetadataRecord::RemoveBroker { .. }
            | MetadataRecord::BrokerEpochs { .. }
            | MetadataRecord::Config { of: Resource::Cluster | Resource::Broker(_), .. } => {}
        }
    }

    fn keep_topic(&mut self, image: &MetadataImage, id: TopicId) {
        if self.after.is_none_or(|after| id > after) {
            self.kept.entry(id).or_insert_with(|| image.topic(id).cloned());
        }
    }

    /// The bytes of the next records, as [`next_records`](Self::next_records) gives them, and whether more follow.
    pub fn next_part(&mut self, image: &MetadataImage, records_max: usize) -> (Vec<u8>, bool) {
        let mut part = Vec::new();
        let goes_on = self.next_records(image, records_max, &mut |record| encode_one(&record, &mut part));
        (part, goes_on)
    }

    /// Hands the next records to `take`, about `records_max` of them, and says whether more follow. `image` has replayed
    /// what [`keep`](Self::keep) was told of since the snapshot began, and nothing else.
    pub fn next_records(
        &mut self,
        image: &MetadataImage,
        records_max: usize,
        take: &mut impl FnMut(MetadataRecord),
    ) -> bool {
        std::mem::take(&mut self.head).into_iter().for_each(&mut *take);
        let mut left = records_max;
        while let Some((topic, from)) = self.current.take().or_else(|| self.next_topic(image)) {
            if left == 0 {
                self.current = Some((topic, from));
                return true;
            }
            if from == 0 {
                topic.head().for_each(&mut *take);
                left = left.saturating_sub(1 + topic.settings.len());
            }
            // At least one, so that a topic that is begun is not begun again.
            let to = topic.partitions.len().min(from.saturating_add(left.max(1)));
            topic.placed(from, to).for_each(&mut *take);
            left = left.saturating_sub(to - from);
            if to < topic.partitions.len() {
                self.current = Some((topic, to));
                return true;
            }
        }
        false
    }

    /// The next topic that there was when the snapshot began.
    fn next_topic(&mut self, image: &MetadataImage) -> Option<(Topic, usize)> {
        loop {
            let behind = (self.after.map_or(Unbounded, Excluded), Unbounded);
            let unchanged = image.topics.range(behind).next();
            let kept = self.kept.first_entry();
            if let Some(kept) = kept
                && unchanged.is_none_or(|(id, _)| kept.key() <= id)
            {
                let (id, topic) = kept.remove_entry();
                self.after = Some(id);
                let Some(topic) = topic else { continue };
                return Some((topic, 0));
            }
            let (&id, topic) = unchanged?;
            self.after = Some(id);
            return Some((topic.clone(), 0));
        }
    }
}

impl MetadataImage {
    /// The bytes of a whole snapshot: records that rebuild this image from nothing, and stand for the log up to
    /// [`index`](Self::index).
    pub fn encode_snapshot(&self) -> Vec<u8> {
        Snapshot::begin(self).next_part(self, usize::MAX).0
    }

    /// The image that a snapshot of the log up to entry `index` stands for.
    ///
    /// # Errors
    /// Where `bytes` are not records that this version knows.
    pub fn decode_snapshot(index: u64, bytes: &[u8]) -> Result<MetadataImage, Malformed> {
        let mut image = MetadataImage { index, ..MetadataImage::default() };
        for record in decode_entry(bytes)? {
            image.replay(index, &record);
        }
        Ok(image)
    }

    /// The records of all but the topics.
    fn head(&self) -> impl Iterator<Item = MetadataRecord> {
        let level = (self.format_level > 0).then_some(MetadataRecord::FormatLevel { level: self.format_level });
        let cluster_id = self.cluster_id.iter().map(|id| MetadataRecord::ClusterId { id: id.clone() });
        // The last registration is mostly of a broker that is still there.
        let highest = self.brokers.values().map(|broker| broker.broker_epoch).max().unwrap_or(0);
        let epochs =
            (self.last_broker_epoch > highest).then_some(MetadataRecord::BrokerEpochs { last: self.last_broker_epoch });
        // Brokers come before partitions, so that their registration raises no epoch a second time.
        let brokers = self.brokers.values().cloned().map(MetadataRecord::RegisterBroker);
        let cluster = configs(Resource::Cluster, &self.cluster_settings);
        let broker = self.broker_settings.iter().flat_map(|(id, layer)| configs(Resource::Broker(*id), layer));
        let granted = (self.next_producer_id > ProducerId(0)).then_some(MetadataRecord::ProducerIds {
            node_id: NodeId(-1),
            broker_epoch: -1,
            next: self.next_producer_id,
        });
        level.into_iter().chain(cluster_id).chain(brokers).chain(epochs).chain(cluster).chain(broker).chain(granted)
    }
}

impl Topic {
    /// The records of the topic without its partitions.
    fn head(&self) -> impl Iterator<Item = MetadataRecord> {
        let topic = MetadataRecord::Topic { id: self.id, name: self.name.clone() };
        let now = self.partitions.first().map_or(0, |state| state.replicas.len());
        let created = (now != self.replication_factor).then(|| MetadataRecord::CreatedWith {
            topic: self.id,
            replication_factor: u32::try_from(self.replication_factor).expect("brokers are fewer"),
        });
        [topic].into_iter().chain(created).chain(configs(Resource::Topic(self.id), &self.settings))
    }

    /// The records of the partitions `from..to`.
    fn placed(&self, from: usize, to: usize) -> impl Iterator<Item = MetadataRecord> {
        (0..).zip(self.partitions.iter()).take(to).skip(from).map(|(index, state)| MetadataRecord::Partition {
            partition: TopicPartition { topic: self.id, partition: index },
            state: state.clone(),
        })
    }
}

fn configs(of: Resource, layer: &Layer) -> impl Iterator<Item = MetadataRecord> {
    layer.iter().map(move |(name, value)| MetadataRecord::Config {
        of: of.clone(),
        name: name.as_str().into(),
        value: Some(value.as_str().into()),
    })
}
