//! A history in the order in which claims ask: by topic, by batch sent, by partition and offset.
//!
//! Built in a few passes over the events and then only read. Offsets are dense and begin near 0, so a partition's
//! records lie in a row indexed by offset; a record that was read before costs one comparison.

mod calm;
mod faults;
mod groups;
mod keyed;
mod partition;
mod sent;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

pub(super) use calm::Calm;
pub(super) use faults::{Faults, is_of_the_disk};
pub(super) use groups::{Group, Groups, patience, rebalance_patience, session};
pub(super) use keyed::{Keyed, Written};
pub(super) use partition::{Ack, BatchRun, Partition, Seen};
pub(super) use sent::{Origin, Sends, Sent};
pub(super) use topics::Topics;

use crate::history::{ClientId, Event, History, Place, Read, What};
use crate::plan::{ClientKind, FaultKind, Plan};
use crate::value::{Attempt, Keys};

/// A history in order.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub plan: &'a Plan,
    pub events: &'a [Event],
    pub topics: Topics<'a>,
    pub faults: Faults<'a>,
    pub calm: Calm,
    pub sends: Sends,
    pub groups: Groups,
    /// By rising id.
    pub partitions: Vec<Partition>,
    /// The place in `partitions` of what each event is about; [`NOWHERE`] for the other events.
    places: Vec<u32>,
    /// When everything had healed.
    pub healed: Option<Instant>,
    /// Whether the auditor read everything to its end.
    pub is_audited: bool,
    /// How far clocks were moved about in all, in milliseconds.
    moved_ms: u64,
    /// Whether the clock stepped.
    has_steps: bool,
    /// Which topics were ever told what, by the topic's name and Kafka's name of the config.
    configured: BTreeSet<(&'a str, &'a str)>,
}

/// What ListOffsets asks the end of a log by.
pub(super) const LATEST: i64 = -1;
/// What ListOffsets asks the start of a log by.
pub(super) const EARLIEST: i64 = -2;
/// What ListOffsets asks the record with the greatest timestamp by (KIP-734).
pub(super) const MAX_TIMESTAMP: i64 = -3;

/// No place.
const NOWHERE: u32 = u32::MAX;

impl<'a> Facts<'a> {
    pub(super) fn gather(plan: &'a Plan, history: &'a History) -> Facts<'a> {
        let events = history.events.as_slice();
        let mut facts = Facts {
            plan,
            events,
            topics: Topics::of(plan, events),
            faults: Faults::of(plan, events),
            calm: Calm::of(plan, events),
            sends: Sends::of(events),
            groups: Groups::of(plan, events),
            partitions: Vec::new(),
            places: Vec::new(),
            healed: None,
            is_audited: false,
            moved_ms: (1..=plan.nodes()).map(|node| plan.machine(node).clock_skew_ms.unsigned_abs()).sum(),
            has_steps: false,
            configured: configured(plan, events),
        };
        facts.place();
        for (index, event) in events.iter().enumerate() {
            match &event.what {
                What::Fetched { .. } => facts.fetched(index, event),
                What::Listed { asked, code, offset, .. } if event.client == ClientId::AUDITOR => {
                    let audit = &mut facts.partitions[facts.places[index] as usize].audit;
                    match *asked {
                        EARLIEST => audit.begins(index, *code, *offset),
                        LATEST => audit.ends(index, *code, *offset),
                        _ => {}
                    }
                }
                What::Produced { to, attempt, base, records, acks, .. }
                    if *acks == -1 || *acks == 1 && facts.replication(*to) == 1 =>
                {
                    facts.produced(index, *to, *attempt, *base, *records);
                }
                What::DeleteRecords { partition, before } => facts.records_are_deleted(index, *partition, *before),
                What::Healed => facts.healed = Some(event.at),
                What::Done if event.client == ClientId::AUDITOR => facts.is_audited = true,
                What::Fault(FaultKind::ClockStep { by_ms }) => {
                    facts.moved_ms += by_ms.unsigned_abs();
                    facts.has_steps = true;
                }
                _ => {}
            }
        }
        let keyed: Vec<_> = facts.partitions.iter().map(|partition| Keyed::of(&facts, partition)).collect();
        for (partition, keyed) in facts.partitions.iter_mut().zip(keyed) {
            partition.keyed = keyed;
        }
        facts
    }

    /// Gives every partition that is named a place.
    fn place(&mut self) {
        let mut places: BTreeMap<TopicPartition, u32> = BTreeMap::new();
        self.places = vec![NOWHERE; self.events.len()];
        for (index, event) in self.events.iter().enumerate() {
            let id = match &event.what {
                What::Produce { to, .. } | What::Produced { to, .. } => *to,
                What::Fetched { partition, .. }
                | What::Listed { partition, .. }
                | What::DeleteRecords { partition, .. }
                | What::RecordsDeleted { partition, .. } => *partition,
                _ => continue,
            };
            let next = self.partitions.len() as u32;
            self.places[index] = *places.entry(id).or_insert_with(|| {
                self.partitions.push(Partition::new(id));
                next
            });
        }
        // Violations are told in the order of partitions, not in that of who came first.
        let mut order = vec![0; self.partitions.len()];
        for (to, &from) in places.values().enumerate() {
            order[from as usize] = to as u32;
        }
        self.partitions.sort_by_key(|partition| partition.id);
        for place in self.places.iter_mut().filter(|place| **place != NOWHERE) {
            *place = order[*place as usize];
        }
    }

    /// On how many brokers a partition lies, more than one where it may be moved. What the leader of several has acknowledged by itself (acks=1) may be lost
    /// with its leadership.
    fn replication(&self, id: TopicPartition) -> u32 {
        if self.plan.nodes() == 1 {
            return 1;
        }
        let name = self.topics.name(id.topic);
        let topics = self.plan.topics.iter().enumerate();
        let Some((index, topic)) = topics.into_iter().find(|(_, topic)| name == Some(topic.name.as_str())) else {
            return self.plan.nodes();
        };
        // While it is moved its leader is one of several, and hands over.
        let is_moved = self.plan.moves(index).next().is_some() || self.plan.removes_nodes();
        if is_moved { topic.replication.max(2) } else { topic.replication }
    }

    /// Whether several brokers are a cluster: what one of them tells, another may not have heard of yet.
    pub(super) fn has_several(&self) -> bool {
        self.plan.nodes() > 1
    }

    fn produced(&mut self, event: usize, to: TopicPartition, attempt: Attempt, base: Offset, records: u32) {
        let Some(sent) = self.sends.index(attempt, to) else { return };
        let asked = &self.events[self.sends.at(sent as u32).last.min(event)];
        let ack = Ack { event, sent: sent as u32, base, records, era: self.faults.era_at(asked.at) };
        self.partitions[self.places[event] as usize].acks.push(ack);
    }

    fn records_are_deleted(&mut self, event: usize, id: TopicPartition, before: Offset) {
        // -1 stands for the high watermark, whatever it is.
        let before = if before.0 < 0 { Offset(i64::MAX) } else { before };
        // By name: it may meet whichever topic has it.
        for partition in &mut self.partitions {
            if partition.id.partition == id.partition && self.topics.may_share_name(partition.id.topic, id.topic) {
                partition.ask_start(event, before);
            }
        }
    }

    fn fetched(&mut self, index: usize, event: &Event) {
        let What::Fetched { partition: id, from, asked_at, code, log_start, high_watermark, ref records, next, .. } =
            event.what
        else {
            return;
        };
        let is_audit = event.client == ClientId::AUDITOR;
        if !self.is_certain(index, id) {
            return;
        }
        let era = self.faults.era_at(asked_at);
        let partition = &mut self.partitions[self.places[index] as usize];
        if is_audit {
            partition.audit.fetched(index, code, from, (log_start, high_watermark), next);
        }
        let mut newest: Option<(Attempt, Origin)> = None;
        for read in records {
            let is_sound = u64::try_from(read.offset.0).is_ok_and(|offset| offset < self.sends.records);
            if !is_sound {
                partition.beyond.get_or_insert((index, *read));
                continue;
            }
            let seen = partition.at_mut(read.offset);
            if seen.is_here() && seen.is_of(read) {
                seen.is_audited |= is_audit;
                seen.era = seen.era.max(era);
                continue;
            }
            if seen.is_here() && seen.era > era {
                continue;
            }
            let origin = match newest {
                Some((attempt, origin)) if attempt == read.attempt => origin,
                _ => self.sends.origin(read.attempt, id, &self.topics),
            };
            newest = Some((read.attempt, origin));
            let was = std::mem::replace(seen, Seen::of(read, origin, index, era, is_audit));
            if was.is_here() && was.era == era {
                partition.contradict(index, *read, was);
            }
        }
    }

    /// Whether an answer about a partition is surely about the topic with that id: it was asked for by id, or its name
    /// was not anybody else's.
    pub(super) fn is_certain(&self, event: usize, id: TopicPartition) -> bool {
        self.is_by_id(event) || self.topics.name_is_certain(id.topic, event)
    }

    /// Whether a fetch named its topic by id.
    pub(super) fn is_by_id(&self, event: usize) -> bool {
        let client = self.events[event].client;
        client == ClientId::AUDITOR || self.reads_by_id(client)
    }

    /// Whether an answer to a request that went by name is surely about the topic that its client believed to have it.
    pub(super) fn is_certain_by_name(&self, event: usize, id: TopicPartition) -> bool {
        self.topics.name_is_certain(id.topic, event)
    }

    fn reads_by_id(&self, client: ClientId) -> bool {
        /// Fetch names topics by id from this version on (KIP-516).
        const FETCH_BY_ID: i16 = 13;
        let plan = self.plan.clients.get(client.0 as usize);
        plan.is_some_and(|plan| match plan.kind {
            ClientKind::Consumer { version, .. } => version >= FETCH_BY_ID,
            ClientKind::Member { .. } => true,
            _ => false,
        })
    }

    /// Whether records of a partition have keys in common, of which compaction leaves the newest.
    pub(super) fn compacts_shared_keys(&self, id: TopicPartition) -> bool {
        let name = self.topics.name(id.topic);
        let topic = self.plan.topics.iter().find(|topic| name == Some(topic.name.as_str()));
        topic.is_some_and(|topic| matches!(topic.keys(), Keys::Shared(_)))
    }

    /// Whether the record at an offset of a partition may be gone when an event is told: of an earlier era than the last
    /// it is not known what was there.
    pub(super) fn may_be_gone(&self, partition: &Partition, offset: Offset, event: usize, asked_at: Instant) -> bool {
        let is_known = self.faults.era_at(asked_at) == self.faults.last_era();
        partition.keyed.as_ref().is_some_and(|keyed| !is_known || keyed.may_be_gone(offset, event, self.events))
    }

    /// The partition that an event is about.
    pub(super) fn partition_of(&self, event: usize) -> Option<&Partition> {
        self.partitions.get(self.places[event] as usize)
    }

    /// The place of the partition that an event is about.
    pub(super) fn place_of(&self, event: usize) -> usize {
        self.places[event] as usize
    }

    /// Which of all that was sent an origin names, if it was sent there.
    pub(super) fn index_of(&self, origin: Origin) -> Option<u32> {
        match origin {
            Origin::Here(index) => Some(index),
            Origin::Elsewhere(_) | Origin::Nobody => None,
        }
    }

    /// A config of a topic or the broker that was ever set to anything, by Kafka's name for a topic's.
    fn is_configured(&self, id: TopicPartition, config: &str) -> bool {
        let Some(name) = self.topics.name(id.topic) else { return true };
        let of_broker = ["", "log."].map(|prefix| format!("{prefix}{config}"));
        self.configured.contains(&(name, config))
            || of_broker.iter().any(|name| self.plan.node.broker.contains_key(name))
    }

    /// Whether old records of a partition may be removed by the broker itself.
    pub(super) fn may_expire(&self, id: TopicPartition) -> bool {
        /// Kafka keeps records for a week unless it is told otherwise; less one day for what clocks drift.
        const WEEK_MS: u64 = 6 * 24 * 3_600_000;
        let configs = ["retention.ms", "retention.bytes", "retention.minutes", "retention.hours"];
        self.moved_ms > WEEK_MS || configs.iter().any(|config| self.is_configured(id, config))
    }

    /// Whether the broker may forget what it knows of idempotent producers.
    pub(super) fn may_forget_producers(&self) -> bool {
        /// Kafka keeps it for a day unless it is told otherwise; less two hours for what clocks drift.
        const DAY_MS: u64 = 22 * 3_600_000;
        self.moved_ms > DAY_MS || self.plan.node.broker.contains_key("producer.id.expiration.ms")
    }

    /// Whether the broker may have lost what it acknowledged, so that nothing is claimed of what groups remember.
    pub(super) fn may_lose(&self) -> bool {
        self.faults.last_era() > 0 || self.plan.is_beyond_promises
    }

    /// Whether a partition may have been one of another topic of the name.
    pub(super) fn may_be_another(&self, place: Place) -> bool {
        self.plan.topics.get(place.topic as usize).is_none_or(|topic| self.topics.is_ever_deleted(&topic.name))
    }

    /// Which static member a client is, of which group.
    pub(super) fn static_member(&self, client: ClientId) -> Option<(u32, u32)> {
        match self.plan.clients.get(client.0 as usize)?.kind {
            ClientKind::Member { group, instance: Some(instance), .. } => Some((group, instance)),
            _ => None,
        }
    }

    /// A partition by its topic's place in the plan, in Kafka's terms.
    pub(super) fn place_name(&self, place: Place) -> String {
        let name = self.plan.topics.get(place.topic as usize).map_or("?", |topic| &topic.name);
        format!("{name}-{}", place.partition)
    }

    /// How long offsets are kept that nobody reads on from; `None` where that is longer than any run.
    pub(super) fn offsets_are_kept(&self) -> Option<Duration> {
        /// Kafka keeps them for a week unless it is told otherwise; less one day for what clocks drift.
        const WEEK_MS: u64 = 6 * 24 * 3_600_000;
        let minutes = self.plan.node.broker.get("offsets.retention.minutes").and_then(|text| text.parse::<u64>().ok());
        match minutes {
            Some(minutes) => Some(Duration::from_secs(60 * minutes)),
            None => (self.moved_ms > WEEK_MS).then_some(Duration::ZERO),
        }
    }

    /// How far apart the brokers' clocks are at first.
    pub(super) fn clocks_apart(&self) -> Duration {
        let skews = (1..=self.plan.nodes()).map(|node| self.plan.machine(node).clock_skew_ms);
        let (first, last) = (skews.clone().min(), skews.max());
        Duration::from_millis(last.zip(first).map_or(0, |(last, first)| last.abs_diff(first)))
    }

    /// Whether the broker's clock stepped.
    pub(super) fn has_clock_steps(&self) -> bool {
        self.has_steps
    }

    /// Whether the broker, not the client, sets timestamps.
    pub(super) fn has_append_time(&self, id: TopicPartition) -> bool {
        self.is_configured(id, "message.timestamp.type")
    }

    /// Whether a partition may refuse to serve: its disk may have been damaged before, and it was said.
    pub(super) fn may_refuse(&self, partition: &Partition) -> bool {
        let Some(refused) = partition.audit.refused else { return false };
        self.faults.is_damaged_at(refused) && partition.audit.code == ErrorCode::KafkaStorageError
    }

    /// Whether a partition may lack what it had: its disk may have been damaged, and the operator was told so.
    pub(super) fn is_loss_reported(&self, partition: &Partition) -> bool {
        if self.faults.is_down_by_damage() {
            return true;
        }
        let id = partition.id;
        let mut names = vec![id.to_string()];
        names.extend(self.topics.name(id.topic).map(|name| format!("{name}-{}", id.partition)));
        self.plan.is_beyond_promises && self.faults.is_reported(&names)
    }

    /// A partition in Kafka's terms: name and index, and the id where it tells topics of one name apart.
    pub(super) fn name(&self, id: TopicPartition) -> String {
        let Some(name) = self.topics.name(id.topic) else { return id.to_string() };
        let is_only = self.topics.ids().filter(|&other| self.topics.name(other) == Some(name)).count() == 1;
        match is_only {
            true => format!("{name}-{}", id.partition),
            false => format!("{name}-{} (id {})", id.partition, id.topic),
        }
    }

    /// When an event was, for a person.
    pub(super) fn when(&self, event: usize) -> String {
        self.events.get(event).map_or_else(|| "never".into(), |event| time(event.at))
    }

    /// Whose an event is, for a person.
    pub(super) fn who(&self, event: usize) -> String {
        client(self.events[event].client)
    }
}

/// An instant of the simulation, for a person.
pub(super) fn time(at: Instant) -> String {
    format!("{}.{:06} s", at.0 / 1_000_000_000, at.0 / 1_000 % 1_000_000)
}

/// A client, for a person.
pub(super) fn client(id: ClientId) -> String {
    match id {
        ClientId::SETUP => "the setup".into(),
        ClientId::AUDITOR => "the auditor".into(),
        ClientId::ENGINE => "the engine".into(),
        ClientId(index) => format!("client {index}"),
    }
}

/// An attempt, for a person.
pub(super) fn attempt(of: Attempt) -> String {
    format!("client {}'s operation {} (attempt {})", of.client, of.operation, of.number)
}

/// A record, for a person.
pub(super) fn record(read: &Read) -> String {
    format!("record {} of {}", read.index, attempt(read.attempt))
}

/// What any topic was ever told, when it was made or later.
fn configured<'a>(plan: &'a Plan, events: &'a [Event]) -> BTreeSet<(&'a str, &'a str)> {
    let planned = plan.topics.iter().flat_map(|topic| {
        let configs = topic.configs.keys();
        configs.map(|config| (topic.name.as_str(), config.as_str()))
    });
    let altered = events.iter().filter_map(|event| match &event.what {
        What::AlterConfig { topic, name, .. } => Some((topic.as_str(), name.as_str())),
        _ => None,
    });
    planned.chain(altered).collect()
}
