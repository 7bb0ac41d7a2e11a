//! A member of a consumer group: reads what it is assigned, and commits how far it has come.
//!
//! It looks for its group's coordinator, takes part by one of the protocols, asks for what is committed of partitions
//! that it is given, reads on from there, and commits when the plan says so. So long after everything has healed it tells
//! what it has, and ends without a word.

mod answers;
mod role;

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use chronik_core::wire::{ErrorCode, Request, Str};

use role::Role;

use super::super::caller::Caller;
use super::super::reading::{EARLIEST, Sought, list_offsets};
use super::super::schedule::Schedule;
use super::super::topics::{METADATA_VERSION, Topics};
use super::super::wires::Node;
use super::super::{Client, ClientNow, Happened, Wanted, stream};
use super::classic::Classic;
use super::next::Next;
use super::offsets::{self, Credentials};
use super::{Settings, Sight, find_coordinator, group_name, instance_name, topic_index};
use crate::history::{InGroup, Place, Stands, Tag, What};
use crate::plan::{Action, Operation, Plan};

/// So long after everything has healed every group must have come to rest.
pub(super) const SETTLE: Duration = Duration::from_secs(20);
/// Topics are asked for again after this.
const TOPICS_AGE: Duration = Duration::from_secs(2);
/// A request to join or to sync may take so much longer than the rebalance timeout.
const REBALANCE_GRACE: Duration = Duration::from_secs(3);
/// The version of Fetch: topics go by id.
const FETCH_VERSION: i16 = 17;
/// The version of ListOffsets.
const POSITIONS_VERSION: i16 = 6;
/// As much as one answer should hold, in bytes.
const MAX_BYTES: i32 = 256 << 10;
/// As much as one partition's part of it should hold, in bytes.
const PARTITION_MAX_BYTES: i32 = 64 << 10;
/// How long the broker may wait for data, in milliseconds.
const MAX_WAIT_MS: i32 = 50;

/// A member.
pub(in crate::client) struct Member {
    index: u32,
    settings: Settings,
    group: Str,
    instance: Option<Str>,
    subscribed: Vec<usize>,
    caller: Caller,
    topics: Topics,
    topics_at: Option<Instant>,
    schedule: Schedule,
    role: Role,
    /// Who coordinates the group, if that is known.
    coordinator: Option<Node>,
    /// Whom the last poll asked.
    last_leader: Node,
    /// It was not let in when it last asked.
    is_barred: bool,
    parts: BTreeMap<Place, Part>,
    doing: Option<Doing>,
    asked: Option<Asked>,
    stalled_until: Option<Instant>,
    commits: u32,
    settles_at: Option<Instant>,
    is_done: bool,
}

/// A partition that it reads.
#[derive(Debug)]
struct Part {
    id: TopicPartition,
    position: Option<Offset>,
    /// Nothing is committed: it begins at the start.
    has_no_commit: bool,
}

/// An operation under way.
#[derive(Debug)]
struct Doing {
    operation: u32,
    what: Action,
    /// It was answered with an error before.
    errors: u32,
}

/// A request under way.
#[derive(Debug)]
enum Asked {
    Coordinator,
    Metadata,
    Membership,
    Offsets { version: i16, places: Vec<Place> },
    Starts(Vec<Sought>),
    Fetch(Vec<Place>),
    Commit { version: i16, tag: Tag, is_stale: bool, offsets: Vec<(Place, Offset)> },
}

impl Member {
    pub(in crate::client) fn new(
        plan: &Plan,
        index: u32,
        settings: Settings,
        topics: &[usize],
        operations: &[Operation],
    ) -> Member {
        let role = if settings.protocol.is_next() { Role::Next(Next::new()) } else { Role::Classic(Classic::new()) };
        let name = format!("member-{index}");
        Member {
            index,
            settings,
            group: group_name(settings.group),
            instance: settings.instance.map(instance_name),
            subscribed: topics.to_vec(),
            caller: Caller::new(plan, &name, settings.request_timeout, stream(index)),
            topics: Topics::new(plan),
            topics_at: None,
            schedule: Schedule::new(operations),
            role,
            coordinator: None,
            last_leader: 0,
            is_barred: false,
            parts: BTreeMap::new(),
            doing: None,
            asked: None,
            stalled_until: None,
            commits: 0,
            settles_at: None,
            is_done: false,
        }
    }

    /// Has its side of the protocol do something.
    fn with<T>(&mut self, act: impl FnOnce(&mut Role, &Sight<'_>) -> T) -> T {
        let sight = Sight {
            settings: &self.settings,
            group: &self.group,
            instance: self.instance.as_ref(),
            subscribed: &self.subscribed,
            topics: &self.topics,
        };
        act(&mut self.role, &sight)
    }

    fn record(&self, operation: Option<u32>, what: InGroup) -> Wanted {
        super::record(self.settings.group, operation, what)
    }

    fn finish(&mut self, is_ok: bool, code: Option<ErrorCode>, wanted: &mut Vec<Wanted>) {
        if let Some(doing) = self.doing.take() {
            wanted.push(Wanted::Record(Some(doing.operation), What::Finished { is_ok, code }));
        }
    }

    fn operation(&self) -> Option<u32> {
        self.doing.as_ref().map(|doing| doing.operation)
    }

    /// Begins what is due.
    fn begin(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        while self.stalled_until.is_none()
            && let Some((number, operation)) = self.schedule.due(now)
        {
            let is_poll = matches!(operation.what, Action::Poll { .. });
            if self.doing.is_some() && !is_poll {
                return;
            }
            // What was asked of its membership is answered first.
            let is_about_membership = matches!(operation.what, Action::Join | Action::Leave | Action::Subscribe { .. });
            if is_about_membership && (matches!(self.asked, Some(Asked::Membership)) || self.role.is_leaving()) {
                return;
            }
            let what = operation.what.clone();
            self.schedule.go_on();
            if self.doing.is_some() {
                continue;
            }
            let done = |is_ok| Wanted::Record(Some(number), What::Finished { is_ok, code: None });
            match what {
                Action::Poll { .. } | Action::Commit { .. } => {
                    self.doing = Some(Doing { operation: number, what, errors: 0 });
                    return;
                }
                Action::Join => {
                    let index = self.index;
                    self.with(|role, sight| role.join(sight, index));
                    wanted.push(done(true));
                }
                Action::Leave => {
                    self.with(|role, sight| role.leave(sight, wanted));
                    wanted.push(done(true));
                }
                Action::Vanish => {
                    self.with(|role, sight| role.forget(sight, wanted));
                    // Nobody is there to hear an answer.
                    self.asked = None;
                    self.caller.close(wanted);
                    self.coordinator = None;
                    wanted.push(done(true));
                }
                Action::Stall { for_ms } => {
                    let is_healed = self.settles_at.is_some();
                    self.stalled_until = (!is_healed).then(|| now.instant + Duration::from_millis(for_ms));
                    wanted.push(done(true));
                }
                Action::Subscribe { topics } => {
                    self.subscribed = topics;
                    self.role.resubscribe();
                    wanted.push(done(true));
                }
                _ => wanted.push(done(false)),
            }
        }
    }

    /// Keeps a place for each partition that it reads, and no other.
    fn keep_parts(&mut self) {
        let owned = self.role.owned();
        self.parts.retain(|place, _| owned.binary_search(place).is_ok());
        for place in owned {
            let Some(id) = self.topics.partition(place.topic as usize, place.partition) else {
                self.parts.remove(&place);
                continue;
            };
            let part = Part { id, position: None, has_no_commit: false };
            let known = self.parts.entry(place).or_insert(part);
            // A topic of another id is read from its start on.
            if known.id != id {
                *known = Part { id, position: None, has_no_commit: false };
            }
        }
    }

    /// Does whatever can be done now.
    fn advance(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        if self.stalled_until.is_some() {
            return;
        }
        loop {
            self.begin(now, wanted);
            self.keep_parts();
            if self.stalled_until.is_some() || self.settle(now, wanted) {
                return;
            }
            let wants = self.wants_to_ask(now);
            if self.asked.is_some() || !wants {
                return;
            }
            if self.caller.has_lost() {
                (self.topics_at, self.coordinator) = (None, None);
            }
            let to = self.whom(now);
            if !self.caller.is_free(now, to, wanted) {
                return;
            }
            if self.ask(now, wanted) {
                return;
            }
        }
    }

    fn needs_topics(&self, now: ClientNow) -> bool {
        self.role.is_in() && self.topics_at.is_none_or(|at| at + TOPICS_AGE <= now.instant) || self.role.lacks_topics()
    }

    fn wants_to_ask(&self, now: ClientNow) -> bool {
        let is_due = |at: Instant| at <= now.instant;
        self.doing.is_some() || self.role.due_at(&self.subscribed).is_some_and(is_due) || self.needs_topics(now)
    }

    /// Whom the next request goes to; `None` where it does not matter. As [`Member::ask`] chooses.
    fn whom(&self, now: ClientNow) -> Option<Node> {
        let is_due = self.role.due_at(&self.subscribed).is_some_and(|at| at <= now.instant);
        let is_poll = self.doing.as_ref().is_some_and(|doing| matches!(doing.what, Action::Poll { .. }));
        if self.needs_topics(now) {
            return None;
        }
        let is_unknown = |part: &Part| part.position.is_none() && !part.has_no_commit;
        if self.coordinator.is_none() || is_due || !is_poll || self.parts.values().any(is_unknown) {
            return self.coordinator;
        }
        // Starts are asked for before anything is read.
        let without = self.parts.iter().filter(|(_, part)| part.position.is_none());
        if let Some(leader) = without.filter_map(|(place, _)| self.leader(*place)).min() {
            return Some(leader);
        }
        let leaders = || self.parts.keys().filter_map(|&place| self.leader(place));
        leaders().filter(|&node| node > self.last_leader).min().or_else(|| leaders().min())
    }

    fn leader(&self, place: Place) -> Option<Node> {
        self.topics.leader(place.topic as usize, place.partition)
    }

    /// Whether whom it asks leads a partition.
    fn asks_leader_of(&self, place: Place) -> bool {
        self.leader(place) == Some(self.caller.asks())
    }

    /// Asks for what is next; whether it asked for anything.
    fn ask(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> bool {
        let is_due = self.role.due_at(&self.subscribed).is_some_and(|at| at <= now.instant);
        if self.needs_topics(now) {
            let request = self.topics.request(0..self.topics.len());
            self.put(now, &request, METADATA_VERSION, Asked::Metadata, wanted);
        } else if self.coordinator.is_none() {
            let version = [6, 3, 1][usize::from(self.settings.age.min(2))];
            let request = find_coordinator(&self.group, version);
            self.put(now, &request, version, Asked::Coordinator, wanted);
        } else if is_due {
            let (request, version) = self.with(|role, sight| role.request(sight, wanted));
            let is_waiting = matches!(request, Request::JoinGroup(_) | Request::SyncGroup(_));
            let patience = match is_waiting {
                true => self.settings.rebalance_timeout + REBALANCE_GRACE,
                false => self.settings.request_timeout,
            };
            self.caller.ask_within(now, patience, &request, version, wanted);
            self.asked = Some(Asked::Membership);
        } else if let Some(doing) = &self.doing {
            return match doing.what {
                Action::Commit { is_stale } => self.ask_commit(now, is_stale, wanted),
                _ => self.ask_poll(now, wanted),
            };
        }
        true
    }

    fn put(&mut self, now: ClientNow, request: &Request, version: i16, asked: Asked, wanted: &mut Vec<Wanted>) {
        self.caller.ask(now, request, version, wanted);
        self.asked = Some(asked);
    }

    /// The version of OffsetCommit and OffsetFetch.
    fn offsets_version(&self) -> i16 {
        match (self.settings.protocol.is_next(), self.settings.age) {
            (_, 0) => 10,
            (true, _) => 9,
            (false, 1) => 8,
            // Static members came with version 7.
            (false, _) => {
                if self.instance.is_some() {
                    7
                } else {
                    5
                }
            }
        }
    }

    fn ask_commit(&mut self, now: ClientNow, is_stale: bool, wanted: &mut Vec<Wanted>) -> bool {
        let Some(mut credentials) = self.role.credentials(self.instance.as_ref()) else {
            self.finish(false, None, wanted);
            return false;
        };
        let offsets: Vec<(Place, Offset)> =
            self.parts.iter().filter_map(|(place, part)| Some((*place, part.position?))).collect();
        if offsets.is_empty() || is_stale && credentials.number < 1 {
            self.finish(false, None, wanted);
            return false;
        }
        if is_stale {
            let back = 1 + i32::try_from(self.commits % 3).expect("below three");
            credentials.number = (credentials.number - back).max(0);
        }
        let tag = Tag { client: self.index, number: self.commits };
        self.commits += 1;
        let version = offsets::version(self.offsets_version(), &self.topics, offsets.iter().map(|(place, _)| *place));
        let request = offsets::commit(version, &self.group, &credentials, tag, &offsets, &self.topics);
        let number = credentials.number;
        let what = InGroup::Commit { tag, number, offsets: offsets.clone() };
        wanted.push(self.record(self.operation(), what));
        self.put(now, &request, version, Asked::Commit { version, tag, is_stale, offsets }, wanted);
        true
    }

    fn ask_poll(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> bool {
        let without = |has_no_commit: bool| {
            let parts = self
                .parts
                .iter()
                .filter(move |(_, part)| part.position.is_none() && part.has_no_commit == has_no_commit);
            parts.map(|(place, _)| *place).collect::<Vec<Place>>()
        };
        let (unknown, mut at_start) = (without(false), without(true));
        at_start.retain(|&place| self.asks_leader_of(place));
        // What nobody leads, as far as is known, is asked for when somebody does.
        let led: Vec<Place> = self.parts.keys().copied().filter(|&place| self.asks_leader_of(place)).collect();
        if unknown.is_empty() && led.is_empty() && !self.parts.is_empty() {
            self.topics_at = None;
            self.caller.back_off(now);
            self.finish(false, Some(ErrorCode::LeaderNotAvailable), wanted);
            return false;
        }
        if !unknown.is_empty() {
            let version = offsets::version(self.offsets_version(), &self.topics, unknown.iter().copied());
            let credentials = match (self.settings.protocol.is_next(), self.role.credentials(self.instance.as_ref())) {
                (true, Some(credentials)) => credentials,
                _ => Credentials::none(),
            };
            let request = offsets::fetch(version, &self.group, &credentials, Some(&unknown), &self.topics);
            self.put(now, &request, version, Asked::Offsets { version, places: unknown }, wanted);
        } else if !at_start.is_empty() {
            let sought = |place: &Place| Sought {
                name: self.topics.get(place.topic as usize).name.clone(),
                partition: self.parts[place].id,
            };
            let sought: Vec<Sought> = at_start.iter().map(sought).collect();
            let request = list_offsets(&sought, EARLIEST);
            self.put(now, &request, POSITIONS_VERSION, Asked::Starts(sought), wanted);
        } else if self.parts.is_empty() {
            self.finish(true, None, wanted);
            return false;
        } else {
            let mut topics: Vec<FetchTopic> = Vec::new();
            self.last_leader = self.caller.asks();
            for (place, part) in led.iter().map(|place| (place, &self.parts[place])) {
                let TopicPartition { topic: topic_id, partition } = part.id;
                if topics.last().is_none_or(|topic| topic.topic_id != topic_id) {
                    topics.push(FetchTopic { topic_id, ..FetchTopic::default() });
                }
                topics.last_mut().expect("one was pushed").partitions.push(FetchPartition {
                    partition,
                    // A replica that is being made does not lead, and would say that it has no such offset.
                    current_leader_epoch: self.topics.leader_epoch(place.topic as usize, partition),
                    fetch_offset: part.position.expect("positions are asked for first").0,
                    partition_max_bytes: PARTITION_MAX_BYTES,
                    ..FetchPartition::default()
                });
            }
            let request = FetchRequest {
                max_wait_ms: MAX_WAIT_MS,
                min_bytes: 1,
                max_bytes: MAX_BYTES,
                session_epoch: -1,
                topics,
                ..FetchRequest::default()
            };
            self.put(now, &request.into(), FETCH_VERSION, Asked::Fetch(led), wanted);
        }
        true
    }

    /// Ends the member's part, when it is time to; whether it is over.
    fn settle(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> bool {
        if self.is_done || self.settles_at.is_none_or(|at| at > now.instant) {
            return self.is_done;
        }
        self.finish(false, None, wanted);
        let topic = |&topic: &usize| {
            let known = self.topics.get(topic);
            known.id.is_some().then(|| (topic_index(topic), known.partitions))
        };
        let what = InGroup::Settled {
            stands: match (self.role.is_in(), self.is_barred) {
                (false, _) => Stands::Outside,
                (true, true) => Stands::Barred,
                (true, false) if self.role.is_stable() => Stands::Settled,
                (true, false) => Stands::Moving,
            },
            number: self.role.credentials(None).map_or(-1, |credentials| credentials.number),
            subscribed: self.subscribed.iter().filter_map(topic).collect(),
            places: self.role.owned(),
        };
        wanted.push(self.record(None, what));
        self.is_done = true;
        self.caller.close(wanted);
        wanted.push(Wanted::Record(None, What::Done));
        true
    }
}

impl Client for Member {
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) {
        self.schedule.take(&happened);
        if happened == Happened::Healed {
            self.settles_at = Some(now.instant + SETTLE);
            self.stalled_until = None;
        }
        if self.stalled_until.is_some_and(|until| until <= now.instant) {
            self.stalled_until = None;
        }
        if let Some(outcome) = self.caller.take(now, happened, wanted)
            && let Err(what) = self.take(now, outcome, wanted)
        {
            let operation = self.operation();
            self.caller.broken(now, operation, what, wanted);
            self.caller.back_off(now);
            self.finish(false, None, wanted);
        }
        self.advance(now, wanted);
        if self.is_done {
            return;
        }
        let topics_at = self.topics_at.filter(|_| self.role.is_in()).map(|at| at + TOPICS_AGE);
        let own = match self.stalled_until {
            Some(until) => vec![Some(until)],
            None => {
                vec![self.schedule.wake(now), self.role.due_at(&self.subscribed), topics_at, self.settles_at]
            }
        };
        let due = own.into_iter().flatten().filter(|at| *at > now.instant).min();
        let wants = self.stalled_until.is_none() && self.wants_to_ask(now);
        self.caller.rest(now, wants, due, wanted);
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn describe(&self) -> String {
        let (schedule, state) = (self.schedule.describe(), self.caller.describe());
        format!(
            "member {} of group {}: {state}, {schedule}, {:?}, reads {:?}",
            self.index, self.settings.group, self.role, self.parts
        )
    }
}
