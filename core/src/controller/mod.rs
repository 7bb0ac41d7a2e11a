//! The controller: decides what the cluster's metadata becomes, and answers what it is.
//!
//! Every function that decides takes `&self` and a decoded request and returns a [`Decision`]: the records that would
//! make the request true, and the response that holds once they have committed. Nothing changes before
//! [`Controller::replay`]. The one who drives it:
//!
//! 1. asks for a decision;
//! 2. appends its records to the metadata log as one entry, and replays them at once, so that the next decision sees
//!    them: two requests for one topic name cannot both succeed;
//! 3. acts on the changes that `replay` returned, in the order of the log;
//! 4. sends the response when everything replayed before it has committed. That holds for answers without records too:
//!    they may speak of what has not committed yet.
//!
//! If the log loses the records instead, the controller is dropped and rebuilt from the log; there is no undoing.
//!
//! It knows no clock. Chance comes in as an [`Rng`](crate::rng::Rng), for the identity of new topics. It does not know
//! partitions' logs, connections or who may do what: there is no access control yet, so everybody may do everything.

pub mod image;
pub mod records;

mod api_versions;
mod assignment;
mod brokers;
mod configs;
mod create;
mod damaged;
mod delete;
mod describe;
mod elect_leaders;
mod elections;
mod features;
mod figures;
mod in_sync;
mod name;
mod producer_ids;
mod reassignments;
mod registration;

pub use api_versions::api_versions;
pub use describe::{Described, Describing};
pub use elect_leaders::Electing;
pub use elections::{Elected, PARTITIONS_PER_ENTRY_MAX, Right};
pub use features::update_features;
pub use figures::Figures;
pub use name::{GROUP_OFFSETS, is_internal};
pub use producer_ids::{PRODUCER_IDS_PER_BLOCK, ProducerIdBlock};
pub use reassignments::{Listing, Reassigning};
pub use registration::{Candidate, Registered};

use std::fmt;

use crate::config::{BrokerConfig, TopicConfig};
use crate::ids::{NodeId, TopicId};
use crate::wire::{ErrorCode, Str};
use image::{Change, Changes, MetadataImage};
use records::{MetadataRecord, PartitionState, encode_entry};

/// The most partitions that one request creates. It bounds the time that one decision takes, and the entry it writes.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// The most partitions that there are. Each costs memory in every broker, whether it is used or not.
pub const PARTITIONS_MAX: usize = 100_000;

/// The most bytes of records that one request writes: it must fit well into one commit of the journal, about 4 MiB.
pub const ENTRY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The metadata of the cluster, as one broker decides about it and answers from it.
#[derive(Clone, Debug)]
pub struct Controller {
    node_id: NodeId,
    cluster_id: Str,
    /// The configuration file's settings.
    file: BrokerConfig,
    /// These, under what clients have set.
    config: BrokerConfig,
    image: MetadataImage,
    /// Who decides, as clients are told it.
    leader: Option<NodeId>,
    beside_min: figures::BesideMin,
    /// How many brokers there are to be at least.
    expected: usize,
}

/// What a request leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<Response> {
    /// The records that make it so: one entry of the log, or none.
    pub records: Vec<MetadataRecord>,
    /// What is answered once they have committed.
    pub response: Response,
}

/// Why something asked for is not done: the code that a client acts on, and a sentence for the person behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the client's code is told.
    pub error: ErrorCode,
    /// What a person is told.
    pub message: String,
}

impl Refused {
    fn new(error: ErrorCode, message: impl Into<String>) -> Refused {
        Refused { error, message: message.into() }
    }

    /// The code and message of a result, which has neither if nothing was refused.
    fn fields(of: Result<(), Refused>) -> (i16, Option<Str>) {
        match of {
            Ok(()) => (ErrorCode::None.code(), None),
            Err(refused) => (refused.error.code(), Some(refused.message.into())),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error.name(), self.message)
    }
}

impl std::error::Error for Refused {}

impl Controller {
    /// The controller of the broker `node_id`, with the settings of its configuration file and what the log says.
    pub fn new(node_id: NodeId, cluster_id: Str, file: BrokerConfig, image: MetadataImage) -> Controller {
        let config = in_force(&file, node_id, &image);
        let mut controller = Controller {
            node_id,
            cluster_id,
            file,
            config,
            image,
            leader: Some(node_id),
            beside_min: figures::BesideMin::default(),
            expected: 0,
        };
        controller.count_again(None);
        controller
    }

    /// At least so many brokers are to be: topics for which nobody says otherwise are placed for them, or wait.
    pub fn expect(&mut self, brokers: usize) {
        self.expected = brokers;
    }

    /// How many brokers there are, or are to be.
    fn brokers_to_be(&self) -> usize {
        self.image.brokers().len().max(self.expected)
    }

    /// Tells clients from now on that this broker decides, or that none is known to. That is this one to begin with.
    pub fn follow(&mut self, leader: Option<NodeId>) {
        self.leader = leader;
    }

    /// The same for another cluster: the one that the broker has found to be its own.
    #[must_use]
    pub fn of_cluster(self, cluster_id: Str) -> Controller {
        Controller { cluster_id, ..self }
    }

    /// The same broker's, which knows nothing of the log yet.
    #[must_use]
    pub fn anew(&self) -> Controller {
        let (cluster_id, file) = (self.cluster_id.clone(), self.file.clone());
        Controller { leader: self.leader, ..Controller::new(self.node_id, cluster_id, file, MetadataImage::default()) }
    }

    /// Takes over what another one of the same broker has learnt. Returns the image before.
    pub fn take_over(&mut self, other: Controller) -> MetadataImage {
        let Controller { config, image, beside_min, .. } = other;
        (self.config, self.beside_min) = (config, beside_min);
        std::mem::replace(&mut self.image, image)
    }

    /// What the log says, for whoever needs nothing else.
    pub fn into_image(self) -> MetadataImage {
        self.image
    }

    /// What the log says.
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// The broker's settings in force.
    pub fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// The settings in force that the partitions of a topic use; `None` if it does not exist.
    pub fn topic_config(&self, id: TopicId) -> Option<TopicConfig> {
        let topic = self.image.topic(id)?;
        let config = self.config.topic(&topic.settings);
        Some(TopicConfig { min_insync_replicas: self.min_insync_replicas(topic), ..config })
    }

    /// The log's entries up to `index` hold no more records.
    pub fn pass(&mut self, index: u64) {
        self.image.pass(index);
    }

    /// Takes the next record, which is part of the log's entry `index`, and returns what it changed. After
    /// [`Change::BrokerSettings`] every topic's [`topic_config`](Self::topic_config) may be another.
    ///
    /// # Panics
    /// Where the record contradicts the image: see [`MetadataImage::replay`].
    pub fn replay(&mut self, index: u64, record: &MetadataRecord) -> Changes {
        self.count_before(record);
        let changes = self.image.replay(index, record);
        let joins = matches!(record, MetadataRecord::RegisterBroker(_) | MetadataRecord::RemoveBroker { .. });
        if joins || changes.contains(&Change::BrokerSettings) {
            self.config = in_force(&self.file, self.node_id, &self.image);
        }
        self.count_after(record);
        changes
    }
}

/// The settings of a broker: those of its file, under what clients have set.
fn in_force(file: &BrokerConfig, node_id: NodeId, image: &MetadataImage) -> BrokerConfig {
    let (cluster, broker) = (image.cluster_settings(), image.broker_settings(node_id));
    match image.brokers().len() {
        0 | 1 => file.with_dynamic(cluster, broker),
        _ => file.among_others().with_dynamic(cluster, broker),
    }
}

/// What the record of a partition takes at most beside its lists' elements, in bytes.
const PARTITION_BYTES: usize = 64;

/// How many bytes of an entry a record takes: of a partition, of which there may be thousands, at most so many.
fn bytes_of(record: &MetadataRecord) -> usize {
    match record {
        MetadataRecord::Partition { state, .. } => {
            let PartitionState { replicas, isr, adding, removing, eligible, .. } = state;
            let nodes = [replicas, isr, adding, removing, eligible].iter().map(|nodes| nodes.len()).sum::<usize>();
            PARTITION_BYTES + 4 * nodes
        }
        record => encode_entry(std::slice::from_ref(record)).len(),
    }
}

/// The records of one request as they are decided, and what is left of the limits on them.
struct Draft<'a> {
    controller: &'a Controller,
    records: Vec<MetadataRecord>,
    partitions: usize,
    bytes: usize,
}

impl<'a> Draft<'a> {
    fn new(controller: &'a Controller) -> Draft<'a> {
        Draft { controller, records: Vec::new(), partitions: 0, bytes: 0 }
    }

    /// Whether `partitions` more partitions are within the limits. To be asked before as many are made.
    fn admit(&self, partitions: usize) -> Result<(), Refused> {
        let refuse = |message| Err(Refused::new(ErrorCode::PolicyViolation, message));
        if self.partitions + partitions > PARTITIONS_PER_REQUEST_MAX {
            return refuse(format!(
                "One request may create {PARTITIONS_PER_REQUEST_MAX} partitions at most; ask for fewer at a time."
            ));
        }
        let exist = self.controller.image.partition_count();
        if exist + self.partitions + partitions > PARTITIONS_MAX {
            return refuse(format!(
                "The cluster holds {PARTITIONS_MAX} partitions at most, and {exist} exist; delete unused topics first."
            ));
        }
        Ok(())
    }

    /// Takes the records of one part of the request, all or none of them.
    fn add(&mut self, records: Vec<MetadataRecord>) -> Result<(), Refused> {
        let bytes = records.iter().map(bytes_of).sum::<usize>();
        if self.bytes + bytes > ENTRY_BYTES_MAX {
            let message = "The request changes too much at once; send it in several parts.";
            return Err(Refused::new(ErrorCode::PolicyViolation, message));
        }
        self.bytes += bytes;
        self.partitions += records.iter().filter(|record| matches!(record, MetadataRecord::Partition { .. })).count();
        self.records.extend(records);
        Ok(())
    }

    /// The decision, which changes nothing if it was only to be checked.
    fn decide<Response>(self, validate_only: bool, response: Response) -> Decision<Response> {
        Decision { records: if validate_only { Vec::new() } else { self.records }, response }
    }
}
