//! A consumer of assigned partitions: it reads from their start on, keeps its own positions, and uses incremental fetch
//! sessions where the plan says so (KIP-227). Where partitions have several leaders, each poll asks one of them, in turn;
//! after a change of leaders it asks the new one where the epoch ended that it has read of last (KIP-320).
//!
//! A poll is: learn the topics if they are not known; ask for the start of each partition without a position; fetch.
//! Each of these is asked again until it is answered. Polls that come due meanwhile are left out, and nothing is
//! recorded of them.

mod epochs;
mod fetching;

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::wire::{ErrorCode, Response};

use super::caller::{Caller, Outcome};
use super::lane::is_about_topic;
use super::reading::{EARLIEST, MAX_TIMESTAMP, Sought, list_offsets, listed};
use super::schedule::Schedule;
use super::topics::{METADATA_VERSION, Topics};
use super::wires::Node;
use super::{Client, ClientNow, Happened, Wanted};
use crate::history::What;
use crate::plan::{Action, Operation, Plan};

/// From this version on topics go by their id.
const IDS_FROM: i16 = 13;
/// The version of ListOffsets that is asked in for positions.
const POSITIONS_VERSION: i16 = 6;

/// How a consumer behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) request_timeout: Duration,
    pub(super) max_wait_ms: i32,
    pub(super) min_bytes: i32,
    pub(super) max_bytes: i32,
    pub(super) partition_max_bytes: i32,
    pub(super) uses_session: bool,
    pub(super) is_read_committed: bool,
    pub(super) version: i16,
}

/// A consumer.
pub(super) struct Consumer {
    index: u32,
    settings: Settings,
    caller: Caller,
    topics: Topics,
    topics_used: Vec<usize>,
    schedule: Schedule,
    /// What is being done.
    doing: Option<Doing>,
    asked: Option<Asked>,
    parts: Vec<Part>,
    is_stale: bool,
    /// By broker, as they are numbered.
    sessions: Vec<Session>,
    /// Whom the last poll asked.
    last_leader: Node,
    is_done: bool,
}

/// A partition that is read.
#[derive(Debug)]
struct Part {
    topic: usize,
    id: TopicPartition,
    position: Option<Offset>,
    /// The epoch of what was read last.
    read_epoch: Option<i32>,
    /// The leader epoch that the position was last found to belong to.
    is_checked_in: i32,
    /// It cannot be read in this poll.
    is_left_out: bool,
}

/// The fetch session, if `id` is not 0.
#[derive(Clone, Debug, Default)]
struct Session {
    id: i32,
    epoch: i32,
    /// The positions that it knows.
    known: BTreeMap<TopicPartition, Offset>,
}

/// An operation under way.
#[derive(Debug)]
struct Doing {
    operation: u32,
    what: Action,
}

/// A request under way.
#[derive(Debug)]
enum Asked {
    Metadata,
    /// The starts of these partitions.
    Positions(Vec<Sought>),
    /// Where the epochs end that were read last, of the partitions at these places.
    Epochs(Vec<usize>),
    /// An offset that the plan asks for.
    Offset(Vec<Sought>, i64),
    /// By the places of the partitions.
    Fetch(Vec<usize>),
}

impl Consumer {
    pub(super) fn new(plan: &Plan, index: u32, settings: Settings, operations: &[Operation]) -> Consumer {
        let name = format!("consumer-{index}");
        let mut topics_used: Vec<usize> = operations
            .iter()
            .flat_map(|operation| match &operation.what {
                Action::Poll { topics } => topics.clone(),
                Action::ListOffsets { topic, .. } => vec![*topic],
                _ => Vec::new(),
            })
            .collect();
        topics_used.sort_unstable();
        topics_used.dedup();
        let wait = Duration::from_millis(u64::try_from(settings.max_wait_ms).unwrap_or(0));
        let timeout = settings.request_timeout.max(wait + Duration::from_millis(500));
        Consumer {
            index,
            settings,
            caller: Caller::new(plan, &name, timeout, super::stream(index)),
            topics: Topics::new(plan),
            topics_used,
            schedule: Schedule::new(operations),
            doing: None,
            asked: None,
            parts: Vec::new(),
            is_stale: true,
            sessions: vec![Session::default(); plan.nodes() as usize],
            last_leader: 0,
            is_done: false,
        }
    }

    fn finish(&mut self, is_ok: bool, code: Option<ErrorCode>, wanted: &mut Vec<Wanted>) {
        if let Some(doing) = self.doing.take() {
            wanted.push(Wanted::Record(Some(doing.operation), What::Finished { is_ok, code }));
        }
        for part in &mut self.parts {
            part.is_left_out = false;
        }
    }

    fn operation(&self) -> Option<u32> {
        self.doing.as_ref().map(|doing| doing.operation)
    }

    /// Whom the next request of the operation goes to; `None` where nobody is known.
    fn leader(&self) -> Option<Node> {
        match &self.doing.as_ref()?.what {
            &Action::ListOffsets { topic, partition, .. } => self.topics.leader(topic, partition),
            Action::Poll { topics } => {
                let polled = || self.parts.iter().filter(|part| topics.contains(&part.topic) && !part.is_left_out);
                let leaders = || polled().filter_map(|part| self.topics.leader(part.topic, part.id.partition));
                leaders().filter(|&node| node > self.last_leader).min().or_else(|| leaders().min())
            }
            _ => None,
        }
    }

    /// The places of the partitions that the poll under way is about, of the leader that is asked.
    fn polled(&self) -> impl Iterator<Item = usize> {
        let topics: &[usize] = match &self.doing {
            Some(Doing { what: Action::Poll { topics }, .. }) => topics,
            _ => &[],
        };
        let asked = Some(self.caller.asks());
        let is_led = move |part: &Part| self.topics.leader(part.topic, part.id.partition) == asked;
        let is_polled = move |part: &Part| topics.contains(&part.topic) && !part.is_left_out && is_led(part);
        (0..self.parts.len()).filter(move |&place| is_polled(&self.parts[place]))
    }

    fn begin(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        while let Some((number, operation)) = self.schedule.due(now) {
            let is_poll = matches!(operation.what, Action::Poll { .. });
            if self.doing.is_some() && !is_poll {
                return;
            }
            let what = operation.what.clone();
            self.schedule.go_on();
            if self.doing.is_some() {
                continue;
            }
            match what {
                Action::Rewind => {
                    for part in &mut self.parts {
                        part.position = None;
                    }
                    wanted.push(Wanted::Record(Some(number), What::Finished { is_ok: true, code: None }));
                }
                Action::Poll { .. } | Action::ListOffsets { .. } => {
                    self.doing = Some(Doing { operation: number, what });
                }
                _ => wanted.push(Wanted::Record(Some(number), What::Finished { is_ok: false, code: None })),
            }
        }
    }

    /// Does whatever can be done now.
    fn advance(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        loop {
            self.begin(now, wanted);
            let Some(doing) = &self.doing else { break };
            self.is_stale |= self.caller.has_lost();
            let to = if self.is_stale { None } else { self.leader() };
            if self.asked.is_some() || !self.caller.is_free(now, to, wanted) {
                break;
            }
            if self.is_stale {
                let request = self.topics.request(self.topics_used.iter().copied());
                self.caller.ask(now, &request, METADATA_VERSION, wanted);
                self.asked = Some(Asked::Metadata);
                break;
            }
            let asks = match doing.what {
                Action::ListOffsets { topic, partition, timestamp } => {
                    self.ask_offset(now, topic, partition, timestamp, wanted)
                }
                _ => self.ask_positions(now, wanted) || self.ask_epochs(now, wanted) || self.ask_fetch(now, wanted),
            };
            if asks {
                break;
            }
            // Nothing of it is there: the next operation asks for the topics anew.
            self.is_stale = true;
            self.finish(false, Some(ErrorCode::UnknownTopicOrPartition), wanted);
        }
        if !self.is_done && self.doing.is_none() && self.schedule.is_over() {
            self.is_done = true;
            self.caller.close(wanted);
            wanted.push(Wanted::Record(None, What::Done));
        }
    }

    fn ask_offset(
        &mut self,
        now: ClientNow,
        topic: usize,
        partition: i32,
        timestamp: i64,
        wanted: &mut Vec<Wanted>,
    ) -> bool {
        let Some(id) = self.topics.partition(topic, partition) else { return false };
        let sought = vec![Sought { name: self.topics.get(topic).name.clone(), partition: id }];
        let asked = match timestamp {
            0.. => now.wall.0 - i64::try_from(now.instant.0 / 1_000_000).unwrap_or(0) + timestamp,
            special => special,
        };
        let operation = self.operation().map_or(0, |operation| i16::try_from(operation % 10).expect("below ten"));
        let version = if asked == MAX_TIMESTAMP { 7 + operation % 5 } else { 1 + operation };
        self.caller.ask(now, &list_offsets(&sought, asked), version, wanted);
        self.asked = Some(Asked::Offset(sought, asked));
        true
    }

    fn ask_positions(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> bool {
        let without = self.polled().map(|place| &self.parts[place]).filter(|part| part.position.is_none());
        let name = |part: &Part| self.topics.get(part.topic).name.clone();
        let sought: Vec<Sought> = without.map(|part| Sought { name: name(part), partition: part.id }).collect();
        if sought.is_empty() {
            return false;
        }
        self.caller.ask(now, &list_offsets(&sought, EARLIEST), POSITIONS_VERSION, wanted);
        self.asked = Some(Asked::Positions(sought));
        true
    }

    fn take(&mut self, now: ClientNow, outcome: Outcome, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let Outcome::Answered(at, response) = outcome else {
            // The broker forgets a session with its connection.
            self.end_session();
            self.is_stale = true;
            return Ok(());
        };
        match (asked, response) {
            (Asked::Metadata, Response::Metadata(response)) => {
                let changed = self.topics.learn(&response, wanted)?;
                self.assign(!changed.is_empty());
                self.is_stale = false;
                Ok(())
            }
            (Asked::Positions(sought), Response::ListOffsets(response)) => {
                let offsets = listed(&sought, EARLIEST, at, &response, self.operation(), wanted)?;
                for (Sought { partition, .. }, offset) in sought.iter().zip(offsets) {
                    let part = self.parts.iter_mut().find(|part| part.id == *partition);
                    let part = part.expect("partitions change by Metadata alone");
                    match offset {
                        Ok(offset) => part.position = Some(offset),
                        Err(code) => {
                            part.is_left_out = true;
                            self.is_stale |= is_about_topic(code);
                        }
                    }
                }
                if self.polled().next().is_none() {
                    self.caller.back_off(now);
                    self.finish(false, None, wanted);
                }
                Ok(())
            }
            (Asked::Offset(sought, asked), Response::ListOffsets(response)) => {
                let offsets = listed(&sought, asked, at, &response, self.operation(), wanted)?;
                let code = offsets[0].err();
                self.is_stale |= code.is_some_and(is_about_topic);
                self.finish(code.is_none(), code, wanted);
                Ok(())
            }
            (Asked::Epochs(places), Response::OffsetForLeaderEpoch(response)) => {
                self.epochs_ended(now, &places, &response, wanted)
            }
            (Asked::Fetch(polled), Response::Fetch(response)) => self.fetched(now, &polled, at, &response, wanted),
            (_, response) => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }

    /// Takes over what topics and partitions there are now. A topic of another id is read from its start.
    fn assign(&mut self, is_changed: bool) {
        if is_changed {
            self.sessions.fill(Session::default());
        }
        let mut parts = Vec::with_capacity(self.parts.len());
        for &topic in &self.topics_used {
            let Some(id) = self.topics.get(topic).id else { continue };
            for partition in 0..self.topics.get(topic).partitions {
                let id = TopicPartition { topic: id, partition };
                let known = self.parts.iter().find(|part| part.id == id);
                parts.push(Part {
                    topic,
                    id,
                    position: known.and_then(|part| part.position),
                    read_epoch: known.and_then(|part| part.read_epoch),
                    is_checked_in: known.map_or(-1, |part| part.is_checked_in),
                    is_left_out: false,
                });
            }
        }
        self.parts = parts;
    }
}

impl Client for Consumer {
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) {
        self.schedule.take(&happened);
        if let Some(outcome) = self.caller.take(now, happened, wanted)
            && let Err(what) = self.take(now, outcome, wanted)
        {
            let operation = self.operation();
            self.caller.broken(now, operation, what, wanted);
            self.end_session();
            self.caller.back_off(now);
            self.is_stale = true;
            self.finish(false, None, wanted);
        }
        self.advance(now, wanted);
        self.caller.rest(now, self.doing.is_some(), self.schedule.wake(now), wanted);
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn describe(&self) -> String {
        let (schedule, state) = (self.schedule.describe(), self.caller.describe());
        let positions: Vec<String> =
            self.parts.iter().map(|part| format!("{} at {:?}", part.id, part.position.map(|at| at.0))).collect();
        format!("consumer {}: {state}, {schedule}, {}", self.index, positions.join(", "))
    }
}
