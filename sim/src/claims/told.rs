//! Histories in a few words, for the tests of claims.
//!
//! Time passes by a millisecond with every event, and whatever is told was asked for just before. There is a topic
//! `orders` of one partition with id 1; clients 0 and 1 write by id, client 2 reads by id and 3 by name, client 4 is an
//! admin. With [`Told::members`] clients 5 and 6 are members of a group, with a session of a second, and client 7 looks
//! after it.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::{Offset, TopicId, TopicPartition, Uuid};
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

use super::facts::{EARLIEST, LATEST};
use super::judge;
use crate::history::{ClientId, Committed, Event, History, InGroup, Place, Read, Role, Standing, Tag, What};
use crate::plan::{ClientKind, ClientPlan, FORMAT, FaultKind, GroupProtocol, NetworkPlan, NodePlan, Plan, TopicPlan};
use crate::value::Attempt;

pub(super) const READER: u32 = 2;
pub(super) const READER_BY_NAME: u32 = 3;
pub(super) const ADMIN: u32 = 4;
/// The first of two members of group 0, where there are any; the one behind them deletes.
pub(super) const MEMBERS: u32 = 5;

/// What was told so far.
pub(super) struct Told {
    pub plan: Plan,
    pub history: History,
    pub now: Instant,
    /// What the next words are about.
    pub on: TopicPartition,
    is_by_id: bool,
}

/// Client, operation and how many records: one batch, or its first records.
pub(super) type Batch = (u32, u32, u32);

/// Begins with a topic that is there.
pub(super) fn told() -> Told {
    let told = Told {
        plan: plan(),
        history: History::default(),
        now: Instant(1_000_000_000),
        on: TopicPartition { topic: topic(1), partition: 0 },
        is_by_id: true,
    };
    told.says(ClientId::ENGINE, None, What::Started { notes: Vec::new() }).created(1)
}

/// The id that a number stands for.
fn topic(number: u8) -> TopicId {
    Uuid([number; 16])
}

fn plan() -> Plan {
    let producer = ClientKind::Producer {
        is_idempotent: false,
        acks: -1,
        in_flight_max: 5,
        request_timeout_ms: 1_000,
        delivery_timeout_ms: 10_000,
        version: 13,
        first_sequence: 0,
        late_ms_max: 0,
    };
    let consumer = |version| ClientKind::Consumer {
        request_timeout_ms: 1_000,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        partition_max_bytes: 1 << 20,
        uses_session: false,
        is_read_committed: false,
        version,
    };
    let kinds =
        [producer.clone(), producer, consumer(13), consumer(12), ClientKind::Admin { request_timeout_ms: 1_000 }];
    Plan {
        format: FORMAT,
        seed: 1,
        duration_ms: 1_000,
        is_beyond_promises: false,
        node: NodePlan {
            trusts_os: false,
            commits_on_thread: false,
            commits_mixed: false,
            direct_from: 65_536,
            journal_file_bytes: 1 << 20,
            journal_files: 4,
            tail_cache_bytes: 1 << 20,
            broker: BTreeMap::new(),
            clock_skew_ms: 0,
            clock_drift_ppm: 0,
            sync_us_min: 50,
            sync_us_max: 100,
        },
        cluster: None,
        network: NetworkPlan { latency_us_min: 50, latency_us_max: 100, piece_bytes_max: 0, window_bytes: 1 << 16 },
        topics: Vec::new(),
        clients: kinds.map(|kind| ClientPlan { kind, operations: Vec::new() }).into(),
        faults: Vec::new(),
    }
}

impl Told {
    /// Records any event.
    pub(super) fn says(mut self, client: ClientId, operation: Option<u32>, what: What) -> Told {
        self.now = self.now + Duration::from_millis(1);
        self.history.events.push(Event { at: self.now, client, node: 1, operation, what });
        self
    }

    /// Records something about a broker.
    pub(super) fn of_node(mut self, node: u32, what: What) -> Told {
        self = self.engine(what);
        self.history.events.last_mut().expect("it was just recorded").node = node;
        self
    }

    /// After the last event and before the next.
    pub(super) fn just_now(&self) -> Instant {
        self.now + Duration::from_micros(500)
    }

    /// Records an event of a client's operation.
    pub(super) fn client(self, client: u32, operation: u32, what: What) -> Told {
        self.says(ClientId(client), Some(operation), what)
    }

    pub(super) fn engine(self, what: What) -> Told {
        self.says(ClientId::ENGINE, None, what)
    }

    pub(super) fn fault(self, kind: FaultKind) -> Told {
        self.engine(What::Fault(kind))
    }

    /// Loses power and starts again.
    pub(super) fn loses_power(self) -> Told {
        self.fault(FaultKind::PowerLoss { down_ms: 1, keep_permille: 0, sector_bytes: 512 })
            .engine(What::Ended { why: None })
            .engine(What::Started { notes: Vec::new() })
    }

    /// Changes the plan.
    pub(super) fn under(mut self, change: impl FnOnce(&mut Plan)) -> Told {
        change(&mut self.plan);
        self
    }

    /// Goes on with a topic of another id.
    pub(super) fn on(mut self, number: u8) -> Told {
        self.on.topic = topic(number);
        self
    }

    /// Goes on with requests that name the topic.
    pub(super) fn by_name(mut self) -> Told {
        self.is_by_id = false;
        self
    }

    pub(super) fn wait(mut self, ms: u64) -> Told {
        self.now = self.now + Duration::from_millis(ms);
        self
    }

    pub(super) fn created(self, number: u8) -> Told {
        let what = What::TopicCreated { name: "orders".into(), id: topic(number), partitions: 1 };
        self.says(ClientId::SETUP, Some(0), what).on(number)
    }

    pub(super) fn asks_to_delete(self, operation: u32) -> Told {
        let id = self.on.topic;
        self.client(ADMIN, operation, What::DeleteTopic { name: "orders".into(), id })
    }

    pub(super) fn deleted(self, operation: u32) -> Told {
        let id = self.on.topic;
        self.client(ADMIN, operation, What::TopicDeleted { name: "orders".into(), id })
    }

    pub(super) fn sends(self, client: u32, operation: u32, records: u32) -> Told {
        self.sends_in_sequence(client, operation, records, None)
    }

    pub(super) fn sends_in_sequence(
        self,
        client: u32,
        operation: u32,
        records: u32,
        sequence: Option<(i64, i16, i32)>,
    ) -> Told {
        let (to, is_by_id) = (self.on, self.is_by_id);
        let attempt = attempt(client, operation);
        let timestamp = timestamp(operation, records - 1);
        let (value_bytes, acks) = (100, -1);
        let what = What::Produce { to, attempt, records, value_bytes, acks, sequence, timestamp, is_by_id };
        self.client(client, operation, what)
    }

    pub(super) fn acked(self, client: u32, operation: u32, records: u32, base: i64) -> Told {
        let (to, attempt) = (self.on, attempt(client, operation));
        let (base, log_start) = (Offset(base), Offset(-1));
        self.client(client, operation, What::Produced { to, attempt, base, log_start, records, acks: -1 })
    }

    /// Sends and is acknowledged.
    pub(super) fn appends(self, client: u32, operation: u32, records: u32, base: i64) -> Told {
        self.sends(client, operation, records).acked(client, operation, records, base)
    }

    pub(super) fn refused(self, client: u32, operation: u32) -> Told {
        let (to, attempt) = (self.on, attempt(client, operation));
        let code = ErrorCode::KafkaStorageError;
        self.client(client, operation, What::ProduceRefused { to, attempt, code })
    }

    /// Reads batches, one after the other from an offset on, and is told that the high watermark is at their end.
    pub(super) fn reads(self, client: u32, from: i64, batches: &[Batch]) -> Told {
        let records = records(from, batches);
        let end = from + records.len() as i64;
        self.fetches(ClientId(client), from, records, (0, end))
    }

    /// Reads records and is told log start and high watermark.
    pub(super) fn fetches(self, client: ClientId, from: i64, records: Vec<Read>, (start, end): (i64, i64)) -> Told {
        let asked_at = self.just_now();
        self.fetches_as_of(asked_at, client, from, records, (start, end))
    }

    pub(super) fn fetches_as_of(
        self,
        asked_at: Instant,
        client: ClientId,
        from: i64,
        records: Vec<Read>,
        (start, end): (i64, i64),
    ) -> Told {
        let next = records.last().map_or(Offset(from), |last| Offset(last.offset.0 + 1));
        self.fetches_up_to(asked_at, client, from, records, next, (start, end))
    }

    /// Reads records, and batches up to `next` of which it gets no more.
    pub(super) fn fetches_up_to(
        self,
        asked_at: Instant,
        client: ClientId,
        from: i64,
        records: Vec<Read>,
        next: Offset,
        (start, end): (i64, i64),
    ) -> Told {
        let what = What::Fetched {
            partition: self.on,
            from: Offset(from),
            asked_at,
            code: ErrorCode::None,
            high_watermark: Offset(end),
            last_stable: Offset(end),
            log_start: Offset(start),
            records,
            next,
        };
        self.says(client, Some(0), what)
    }

    /// A fetch is answered by an error.
    pub(super) fn fails_to_fetch(self, client: ClientId, from: i64, code: ErrorCode) -> Told {
        let none = Offset(-1);
        let what = What::Fetched {
            partition: self.on,
            from: Offset(from),
            asked_at: self.just_now(),
            code,
            high_watermark: none,
            last_stable: none,
            log_start: none,
            records: Vec::new(),
            next: Offset(from),
        };
        self.says(client, Some(0), what)
    }

    pub(super) fn lists(self, asked: i64, offset: i64, timestamp: i64) -> Told {
        let (partition, asked_at) = (self.on, self.just_now());
        let (code, offset) = (ErrorCode::None, Offset(offset));
        self.client(ADMIN, 9, What::Listed { partition, asked, asked_at, code, offset, timestamp })
    }

    /// Asks to delete records and is answered.
    pub(super) fn deletes_records(self, before: i64, low_watermark: i64) -> Told {
        let partition = self.on;
        let (before, low_watermark) = (Offset(before), Offset(low_watermark));
        self.client(ADMIN, 8, What::DeleteRecords { partition, before }).client(
            ADMIN,
            8,
            What::RecordsDeleted { partition, low_watermark },
        )
    }

    /// The auditor reads all from the log start on.
    pub(super) fn audits_from(self, start: i64, batches: &[Batch]) -> Told {
        let records = records(start, batches);
        let end = start + records.len() as i64;
        self.fetches(ClientId::AUDITOR, start, records, (start, end))
    }

    /// The auditor reads all, and is done.
    pub(super) fn audits(self, batches: &[Batch]) -> Told {
        self.audits_from(0, batches).audit_is_over()
    }

    /// The auditor finds nothing between start and end, and is done.
    pub(super) fn audits_empty(self, start: i64) -> Told {
        let (partition, asked_at) = (self.on, self.just_now());
        let listed = |asked| {
            let (code, offset) = (ErrorCode::None, Offset(start));
            What::Listed { partition, asked, asked_at, code, offset, timestamp: -1 }
        };
        self.says(ClientId::AUDITOR, None, listed(EARLIEST))
            .says(ClientId::AUDITOR, None, listed(LATEST))
            .audit_is_over()
    }

    pub(super) fn audit_is_over(self) -> Told {
        self.says(ClientId::AUDITOR, None, What::Done)
    }

    /// Everything heals and all clients are done.
    pub(super) fn heals(self) -> Told {
        let clients = self.plan.clients.len();
        (0..clients).fold(self.engine(What::Healed), Told::done)
    }

    /// A client has nothing more to do.
    pub(super) fn done(self, client: usize) -> Told {
        self.says(ClientId(u32::try_from(client).expect("few")), None, What::Done)
    }

    /// Goes on with two members of a group, and who looks after it.
    pub(super) fn members(self) -> Told {
        self.under(|plan| {
            let member = ClientKind::Member {
                group: 0,
                protocol: GroupProtocol::Range,
                instance: None,
                session_timeout_ms: 1_000,
                rebalance_timeout_ms: 5_000,
                heartbeat_ms: 300,
                request_timeout_ms: 1_000,
                topics: vec![0],
                uses_regex: false,
                age: 0,
            };
            let kinds = [member.clone(), member, ClientKind::GroupAdmin { request_timeout_ms: 1_000 }];
            plan.clients.extend(kinds.map(|kind| ClientPlan { kind, operations: Vec::new() }));
            plan.topics.push(TopicPlan {
                name: "orders".into(),
                partitions: 2,
                replication: 1,
                configs: BTreeMap::new(),
                shared_keys: None,
            });
        })
    }

    /// Something between a client and the group.
    pub(super) fn in_group(self, client: u32, what: InGroup) -> Told {
        self.says(ClientId(client), None, What::Group { group: 0, what })
    }

    pub(super) fn joined(self, member: u32, generation: i32, leader: &str) -> Told {
        let (asked_at, leader) = (self.just_now(), leader.to_owned());
        let member_id = format!("m{member}");
        self.in_group(MEMBERS + member, InGroup::Joined { asked_at, member: member_id, generation, leader })
    }

    pub(super) fn assigned(self, member: u32, number: i32, partitions: &[i32]) -> Told {
        let what = InGroup::Assigned {
            asked_at: self.just_now(),
            member: format!("m{member}"),
            number,
            is_next: false,
            is_first: false,
            places: partitions.iter().copied().map(place).collect(),
        };
        self.in_group(MEMBERS + member, what)
    }

    pub(super) fn released(self, member: u32, partitions: &[i32]) -> Told {
        let places = partitions.iter().copied().map(place).collect();
        self.in_group(MEMBERS + member, InGroup::Released { places })
    }

    pub(super) fn alive(self, member: u32, number: i32) -> Told {
        let (asked_at, name) = (self.just_now(), format!("m{member}"));
        self.in_group(MEMBERS + member, InGroup::Alive { asked_at, member: name, number })
    }

    /// A member commits an offset of partition 0.
    pub(super) fn commits(self, member: u32, number: u32, offset: i64) -> Told {
        self.commits_under(member, number, 1, offset)
    }

    pub(super) fn commits_under(self, member: u32, number: u32, generation: i32, offset: i64) -> Told {
        let what =
            InGroup::Commit { tag: tag(member, number), number: generation, offsets: vec![(place(0), Offset(offset))] };
        self.in_group(MEMBERS + member, what)
    }

    pub(super) fn taken(self, member: u32, number: u32) -> Told {
        self.in_group(MEMBERS + member, InGroup::Taken { tag: tag(member, number), places: vec![place(0)] })
    }

    pub(super) fn declined(self, member: u32, number: u32) -> Told {
        let code = ErrorCode::IllegalGeneration;
        let places = vec![place(0)];
        self.in_group(MEMBERS + member, InGroup::Declined { tag: tag(member, number), code, places })
    }

    /// A member is told what is committed of partition 0: by whom, by which commit, and where.
    pub(super) fn committed(self, member: u32, told: Option<(u32, u32, i64)>) -> Told {
        let (tag, offset) = match told {
            Some((member, number, offset)) => (Some(tag(member, number)), Offset(offset)),
            None => (None, Offset(-1)),
        };
        let committed = vec![Committed { place: place(0), offset, tag }];
        let asked_at = self.just_now();
        self.in_group(MEMBERS + member, InGroup::Offsets { asked_at, committed, is_all: false })
    }

    /// A member asks for all offsets, and is told of none.
    pub(super) fn all_committed(self, member: u32) -> Told {
        let asked_at = self.just_now();
        self.in_group(MEMBERS + member, InGroup::Offsets { asked_at, committed: Vec::new(), is_all: true })
    }

    /// The group is deleted.
    pub(super) fn deletes(self) -> Told {
        let asked = self.in_group(MEMBERS + 2, InGroup::Delete { topic: None });
        let asked_at = asked.now;
        asked.in_group(MEMBERS + 2, InGroup::Deleted { topic: None, asked_at })
    }

    /// All claims hold.
    pub(super) fn holds(&self) {
        assert_eq!(judge(&self.plan, &self.history), []);
    }

    /// One claim is broken, by these words among others, and no other claim.
    pub(super) fn breaks(&self, claim: super::Claim, words: &str) {
        let violations = judge(&self.plan, &self.history);
        assert!(!violations.is_empty(), "{} is broken", claim.name);
        for violation in &violations {
            assert_eq!(violation.claim, claim.name, "{violations:#?}");
        }
        assert!(violations.iter().any(|violation| violation.text.contains(words)), "{violations:#?}");
    }
}

fn place(partition: i32) -> Place {
    Place { topic: 0, partition }
}

fn tag(member: u32, number: u32) -> Tag {
    Tag { client: MEMBERS + member, number }
}

pub(super) fn attempt(client: u32, operation: u32) -> Attempt {
    Attempt { client, operation, number: 0 }
}

/// A record's timestamp: later operations' are greater.
pub(super) fn timestamp(operation: u32, index: u32) -> i64 {
    1_000 + i64::from(operation) * 10 + i64::from(index)
}

/// Batches one after the other.
pub(super) fn records(from: i64, batches: &[Batch]) -> Vec<Read> {
    let record = |&(client, operation, count): &Batch| {
        (0..count).map(move |index| (attempt(client, operation), index, timestamp(operation, index)))
    };
    (from..)
        .zip(batches.iter().flat_map(record))
        .map(|(offset, (attempt, index, timestamp))| Read {
            offset: Offset(offset),
            timestamp,
            attempt,
            index,
            leader_epoch: 0,
        })
        .collect()
}

/// A leader whose log begins at `start`, and is empty.
pub(super) fn standing(told: &Told, start: i64) -> Standing {
    Standing {
        partition: told.on,
        role: Role::Leads,
        leader_epoch: 1,
        partition_epoch: 1,
        replicas: 3,
        is_moving: false,
        in_sync: vec![1, 2, 3],
        in_sync_min: 1,
        high_watermark: Offset(start),
        start: Offset(start),
        end: Offset(start),
    }
}
