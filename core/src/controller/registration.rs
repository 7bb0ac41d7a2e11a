//! The life of a broker, as the controller decides it: registered, unfenced, fenced, stopping, removed.
//!
//! | from | decision | to |
//! |---|---|---|
//! | unknown, or any process before | [`register`](Controller::register): the only voter, at its start | active |
//! | unknown, or any process before | [`register_broker`](Controller::register_broker): asks to be one of several | fenced |
//! | fenced | [`unfence`](Controller::unfence): it has come as far as its own registration | active |
//! | active, stopping | [`fence`](Controller::fence): it was not heard of for its session's time | fenced |
//! | active, fenced | [`begin_shutdown`](Controller::begin_shutdown): it asks for it | stopping |
//! | fenced | [`unregister_broker`](Controller::unregister_broker): a person says that it does not come back | unknown |
//!
//! What that means for partitions is [`due`](Controller::due).

use super::elections::{Batch, Election};
use super::image::{FIRST_FORMAT_LEVEL, FORMAT_LEVEL};
use super::records::{Listener, MetadataRecord, PeerAddress, Registration, Resource, Standing};
use super::{Controller, Decision, Refused};
use crate::ids::{BrokerEpoch, NodeId, Uuid};
use crate::wire::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use crate::wire::{ErrorCode, Str};

/// The most listeners that a broker may register.
const LISTENERS_MAX: usize = 100;

/// A process that asks to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its node.
    pub node_id: NodeId,
    /// Its data folder.
    pub directory_id: Uuid,
    /// The process, a random number drawn at each start.
    pub process: u64,
    /// Its addresses for clients, at least one.
    pub listeners: Vec<Listener>,
    /// Where other brokers reach it.
    pub peer_address: Option<PeerAddress>,
    /// Where it stands.
    pub rack: Option<Str>,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is done, under this broker epoch.
    As(i64),
    /// The process before has still a part in partitions, which the decision's records take from it. To be asked again
    /// once they have been replayed.
    NotYet,
}

impl Controller {
    /// Registers this process as one that may lead at once: the first decision of every start where this node is the
    /// only voter. Answers its broker epoch.
    ///
    /// # Errors
    /// Where the log knows the node with another data folder. What the other folder held is lost to this one, so it
    /// must not lead under the old one's name (rule 4 of the storage's rules).
    pub fn register(&self, directory_id: Uuid, listeners: Vec<Listener>) -> Result<Decision<i64>, Refused> {
        self.register_sole(directory_id, listeners, None)
    }

    /// As [`register`](Self::register), where there are other brokers, which reach this process at `peers`.
    pub fn register_sole(
        &self,
        directory_id: Uuid,
        listeners: Vec<Listener>,
        peers: Option<(u64, PeerAddress)>,
    ) -> Result<Decision<i64>, Refused> {
        assert!(!listeners.is_empty(), "a broker without a listener cannot be reached");
        self.check_directory(self.node_id, directory_id)?;
        let broker_epoch = self.image.next_broker_epoch();
        let level = if peers.is_some() { FORMAT_LEVEL } else { FIRST_FORMAT_LEVEL };
        let (process, peer_address) = peers.map_or((0, None), |(process, address)| (process, Some(address)));
        let register = MetadataRecord::RegisterBroker(Registration {
            node_id: self.node_id,
            directory_id,
            broker_epoch,
            listeners,
            rack: self.config.broker_rack.as_deref().map(Into::into),
            process,
            peer_address,
            standing: Standing::Active,
        });
        Ok(Decision { records: self.raise_level(level).chain([register]).collect(), response: broker_epoch })
    }

    /// Registers a process that asks for it: fenced, under a new broker epoch. One that has been registered already,
    /// since its question came twice, is told so again.
    ///
    /// A process leads and follows only in states that began after it, so that what its node leads by the log is taken
    /// from it first, in parts: then the answer is [`Registered::NotYet`]. The same goes for all that a broker was believed
    /// to hold that was removed: whoever has its number now may hold nothing (KIP-966).
    ///
    /// # Errors
    /// Where the log knows the node with another data folder; where it did, and partitions have nowhere else what was
    /// acknowledged; and where a registration makes no sense.
    pub fn register_broker(&self, candidate: &Candidate) -> Result<Decision<Registered>, Refused> {
        let invalid = |message: &str| Err(Refused::new(ErrorCode::InvalidRegistration, message));
        let node_id = candidate.node_id;
        if node_id < NodeId(0) || candidate.listeners.is_empty() || candidate.listeners.len() > LISTENERS_MAX {
            return invalid("A registration needs a node id of 0 or more, and some listeners.");
        }
        self.check_directory(node_id, candidate.directory_id)?;
        let known = self.image.broker(node_id);
        if let Some(known) = known.filter(|known| known.process == candidate.process && known.process != 0) {
            return Ok(Decision { records: Vec::new(), response: Registered::As(known.broker_epoch) });
        }
        let duties = self.image.partition_index().duties(node_id);
        if known.is_none() && duties.sole > 0 {
            let message = format!(
                "Node {node_id} was removed, and {} partition(s) have nowhere else what was acknowledged: elect other \
                 leaders for them by an unclean election, or delete them, before a new broker takes the number.",
                duties.sole
            );
            return Err(Refused::new(ErrorCode::InvalidRegistration, message));
        }
        let make_way = self.make_way(node_id, known.is_none());
        if !make_way.records.is_empty() {
            let active = known.filter(|known| known.standing != Standing::Fenced);
            let fence = active.map(|known| fence(node_id, known.broker_epoch));
            let records = fence.into_iter().chain(make_way.records).collect();
            return Ok(Decision { records, response: Registered::NotYet });
        }
        let broker_epoch = self.image.next_broker_epoch();
        let register = MetadataRecord::RegisterBroker(Registration {
            node_id,
            directory_id: candidate.directory_id,
            broker_epoch,
            listeners: candidate.listeners.clone(),
            rack: candidate.rack.clone(),
            process: candidate.process,
            peer_address: candidate.peer_address.clone(),
            standing: Standing::Fenced,
        });
        let is_second = known.is_none() && self.image.brokers().len() == 1;
        let shared = is_second.then(|| self.to_be_shared()).into_iter().flatten();
        let records = self.raise_level(FORMAT_LEVEL).chain(shared).chain([register]).collect();
        Ok(Decision { records, response: Registered::As(broker_epoch) })
    }

    /// Whether a process may ask to be registered whose broker was last as `broker_epoch`, or -1.
    ///
    /// # Errors
    /// Where its broker was removed since: it may have asked before that, and have been stopped. Who still runs asks again.
    pub fn check_not_removed(&self, node_id: NodeId, broker_epoch: BrokerEpoch) -> Result<(), Refused> {
        if broker_epoch < BrokerEpoch(0) || self.image.broker(node_id).is_some() {
            return Ok(());
        }
        let message = format!("Broker {node_id} was removed, which was registered under {broker_epoch}.");
        Err(Refused::new(ErrorCode::BrokerIdNotRegistered, message))
    }

    /// What this broker has gone by alone and all must go by from now on: a leader with a smaller `min.insync.replicas` than
    /// the controller would acknowledge what those do not have whom the controller takes for eligible (KIP-966).
    fn to_be_shared(&self) -> impl Iterator<Item = MetadataRecord> {
        let unset = |name: &str| !self.image.cluster_settings().contains_key(name);
        self.file.to_be_shared().filter(move |(name, _)| unset(name)).map(|(name, value)| MetadataRecord::Config {
            of: Resource::Cluster,
            name: name.into(),
            value: Some(value.into()),
        })
    }

    /// The next of what is taken from the process before.
    fn make_way(&self, node_id: NodeId, has_lost: bool) -> Batch {
        let duties = self.image.partition_index().duties(node_id);
        let believed = [&duties.shares, &duties.eligible, &duties.backed].into_iter().filter(|_| has_lost).flatten();
        let mut seen = std::collections::BTreeSet::new();
        let mut batch = Batch::default();
        for &partition in duties.leads.iter().chain(believed) {
            if batch.is_full() {
                break;
            }
            if seen.insert(partition) {
                let election = Election { gone: Some(node_id), has_lost, ..self.election(partition.topic) };
                let before = self.image.partition(partition).expect("the index knows partitions that exist");
                batch.add(partition, before, election.leave(before));
            }
        }
        batch
    }

    fn check_directory(&self, node_id: NodeId, directory_id: Uuid) -> Result<(), Refused> {
        match self.image.broker(node_id).filter(|known| known.directory_id != directory_id) {
            None => Ok(()),
            Some(known) => {
                let message = format!(
                    "Node {node_id} is registered with data folder {}, and this one is {directory_id}: give this node \
                     another id, or its own folder.",
                    known.directory_id
                );
                Err(Refused::new(ErrorCode::InvalidRegistration, message))
            }
        }
    }

    fn raise_level(&self, level: u16) -> impl Iterator<Item = MetadataRecord> + use<> {
        (self.image.format_level() < level).then_some(MetadataRecord::FormatLevel { level }).into_iter()
    }

    /// Says what the cluster's identity is, as its first decision does; no records where the log says so already.
    pub fn name_cluster(&self) -> Decision<()> {
        let records = match self.image.cluster_id() {
            Some(_) => Vec::new(),
            None => {
                let id = self.cluster_id.clone();
                self.raise_level(FORMAT_LEVEL).chain([MetadataRecord::ClusterId { id }]).collect()
            }
        };
        Decision { records, response: () }
    }

    /// Fences a broker that is not heard of. No records where it is fenced.
    ///
    /// # Errors
    /// Where `broker_epoch` is not that of its last process.
    pub fn fence(&self, node_id: NodeId, broker_epoch: i64) -> Result<Decision<()>, Refused> {
        let known = self.process(node_id, broker_epoch)?;
        Ok(some((known.standing != Standing::Fenced).then(|| fence(node_id, broker_epoch))))
    }

    /// Lets a broker lead and be in sync. No records where it may. One that is about to stop may not any more.
    ///
    /// # Errors
    /// Where `broker_epoch` is not that of its last process.
    pub fn unfence(&self, node_id: NodeId, broker_epoch: i64) -> Result<Decision<()>, Refused> {
        let known = self.process(node_id, broker_epoch)?;
        let unfence = MetadataRecord::UnfenceBroker { node_id, broker_epoch };
        Ok(some((known.standing == Standing::Fenced).then_some(unfence)))
    }

    /// Takes its leaderships from a broker that is about to stop. No records where that is under way.
    ///
    /// # Errors
    /// Where `broker_epoch` is not that of its last process.
    pub fn begin_shutdown(&self, node_id: NodeId, broker_epoch: i64) -> Result<Decision<()>, Refused> {
        let known = self.process(node_id, broker_epoch)?;
        let begin = MetadataRecord::BeginShutdown { node_id, broker_epoch };
        Ok(some((known.standing != Standing::ShuttingDown).then_some(begin)))
    }

    /// Forgets a broker that does not come back: UnregisterBroker 0 (KIP-631). Unlike Kafka, none that is not fenced: it
    /// would go on serving what it no longer leads.
    pub fn unregister_broker(&self, request: &UnregisterBrokerRequest) -> Decision<UnregisterBrokerResponse> {
        let node_id = NodeId(request.broker_id);
        let refused = match self.image.broker(node_id).map(|broker| broker.standing) {
            Some(Standing::Fenced) => {
                let records = vec![MetadataRecord::RemoveBroker { node_id }];
                return Decision { records, response: UnregisterBrokerResponse::default() };
            }
            Some(_) => {
                let message = format!("Broker ID {node_id} is not fenced: stop it first.");
                Refused::new(ErrorCode::InvalidRequest, message)
            }
            None => {
                let message = format!("Broker ID {node_id} is not currently registered.");
                Refused::new(ErrorCode::BrokerIdNotRegistered, message)
            }
        };
        let (error_code, error_message) = Refused::fields(Err(refused));
        let response = UnregisterBrokerResponse { error_code, error_message, ..UnregisterBrokerResponse::default() };
        Decision { records: Vec::new(), response }
    }

    /// Whether a broker that is about to stop has no part any more in what clients wait for.
    pub fn may_stop(&self, node_id: NodeId) -> bool {
        let duties = self.image.partition_index().duties(node_id);
        !self.image.is_active(node_id) && duties.leads.is_empty() && duties.shares.is_empty()
    }

    /// The registration of a broker whose last process is `broker_epoch`.
    fn process(&self, node_id: NodeId, broker_epoch: i64) -> Result<&Registration, Refused> {
        let known = self.image.broker(node_id).ok_or_else(|| {
            Refused::new(ErrorCode::BrokerIdNotRegistered, format!("Broker {node_id} is not registered."))
        })?;
        if known.broker_epoch != broker_epoch {
            let message = format!(
                "Broker {node_id} is registered under broker epoch {}, not {broker_epoch}.",
                known.broker_epoch
            );
            return Err(Refused::new(ErrorCode::StaleBrokerEpoch, message));
        }
        Ok(known)
    }
}

fn fence(node_id: NodeId, broker_epoch: i64) -> MetadataRecord {
    MetadataRecord::FenceBroker { node_id, broker_epoch }
}

fn some(record: Option<MetadataRecord>) -> Decision<()> {
    Decision { records: record.into_iter().collect(), response: () }
}
