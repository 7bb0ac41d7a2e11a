//! Loading: a coordinator's state, from the records of its partition.
//!
//! Chunks of the log are read and opened beside the sequencer, one at a time for each partition that is being loaded; the
//! sequencer replays a few records a step. A load ends at the end that the log had when it began: what is appended
//! later, only a client can have appended, which changes no coordinator. A log that was compacted may have gaps, one of
//! them before its end, which must not keep a load from ending (KAFKA-9065).
//!
//! The sketch: a record takes about 1 µs to replay, so a million commits take a second or two, and 1 MiB is in memory for
//! each partition that is being loaded.

use std::collections::VecDeque;

use super::{Groups, NEXT_STEP, Node, ROOM_RETRY, Reason, State};
use crate::boundary::{DiskOp, Effect, Level, Outbox};
use crate::controller::GROUP_OFFSETS;
use crate::group::Coordinator;
use crate::group::record::Record;
use crate::ids::Offset;
use crate::log::{Opened, ReadOutcome};
use crate::node::{ReadResult, Reader, segment_of};
use crate::time::{Instant, Now};

/// How many partitions are loaded at once, so that a large one does not keep all others waiting.
const LOADS_AT_ONCE: usize = 4;

/// How much of a log is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// How many records are replayed in one step, and, unless one alone has more, of how many bytes.
const REPLAYED_AT_ONCE: usize = 64;
const REPLAYED_BYTES_MAX: usize = 64 << 10;

/// The partitions that are to be loaded.
#[derive(Debug, Default)]
pub(super) struct Loads {
    /// Those whose turn has not come, the next first.
    pub(super) waiting: VecDeque<i32>,
    /// Those that are being loaded, the one that goes on next first.
    active: VecDeque<i32>,
    /// Names a load, so that what is read for one that was given up is told from what is read for the next.
    newest: u64,
}

/// A load under way.
pub(super) struct Load {
    number: u64,
    coordinator: Box<Coordinator>,
    /// Where the next records are read.
    next: Offset,
    /// Where the log ended when the load began.
    end: Offset,
    /// Records that have been read and not replayed.
    opened: VecDeque<Opened>,
    replayed: u64,
    /// Records that make no sense: only a client can have written them.
    senseless: u64,
    since: Instant,
}

impl Node {
    /// Goes on with the loads, for one step.
    pub(in crate::node) fn load(&mut self, now: Now, out: &mut Outbox) {
        if self.stopping {
            return;
        }
        while self.groups.loads.active.len() < LOADS_AT_ONCE
            && let Some(partition) = self.groups.loads.waiting.pop_front()
        {
            self.begin_load(now, partition, out);
        }
        for _ in 0..self.groups.loads.active.len() {
            let partition = self.groups.loads.active.pop_front().expect("it was counted");
            if !self.is_loading(partition) {
                continue;
            }
            self.groups.loads.active.push_back(partition);
            if self.replay_some(now, partition, out) || self.begin_some(now, partition, out) {
                break;
            }
        }
        let Groups { loads, seats, unwritten, .. } = &self.groups;
        let goes_on = |partition: &i32| match seats.get(partition).map(|seat| &seat.state) {
            Some(State::Loading(load)) if !load.opened.is_empty() => Some(NEXT_STEP),
            Some(State::Beginning(..)) => Some(if unwritten.is_empty() { NEXT_STEP } else { ROOM_RETRY }),
            _ => None,
        };
        let may_begin = loads.active.len() < LOADS_AT_ONCE && !loads.waiting.is_empty();
        let next = loads.active.iter().filter_map(goes_on).chain(may_begin.then_some(NEXT_STEP)).min();
        self.deadlines.extend(next.map(|after| (now.instant + after, Reason::Load)));
    }

    fn is_loading(&self, partition: i32) -> bool {
        let seat = self.groups.seats.get(&partition);
        seat.is_some_and(|seat| matches!(seat.state, State::Loading(_) | State::Beginning(..)))
    }

    /// A partition is not being loaded any more: the next in the queue may be.
    pub(super) fn end_turn(&mut self, partition: i32) {
        self.groups.loads.active.retain(|&active| active != partition);
        self.deadlines.insert((Instant::default(), Reason::Load));
    }

    fn begin_load(&mut self, now: Now, partition: i32, out: &mut Outbox) {
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return };
        if !matches!(seat.state, State::Waiting) {
            return;
        }
        let hosted = self.hosts[seat.slot as usize].as_ref().expect("a seat's partition is hosted");
        if hosted.partition.damage().is_some() {
            // It stays so, and so does this.
            seat.state = State::Failed;
            return out.log(Level::Warn, format!("{GROUP_OFFSETS}-{partition} is damaged: it coordinates no groups"));
        }
        let log = hosted.partition.log();
        self.groups.loads.newest += 1;
        seat.state = State::Loading(Box::new(Load {
            number: self.groups.loads.newest,
            coordinator: Box::default(),
            next: log.start(),
            end: log.end(),
            opened: VecDeque::new(),
            replayed: 0,
            senseless: 0,
            since: now.instant,
        }));
        self.groups.loads.active.push_back(partition);
        self.read_on(now, partition, out);
    }

    /// Has the next records read, or ends the load.
    fn read_on(&mut self, now: Now, partition: i32, out: &mut Outbox) {
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return };
        let State::Loading(load) = &mut seat.state else { return };
        let log = self.hosts[seat.slot as usize].as_ref().expect("a seat's partition is hosted").partition.log();
        load.next = load.next.max(log.start());
        let Some(plan) = log.plan_for_records(load.next, load.end, READ_BYTES) else {
            return self.end_load(now, partition, out);
        };
        let number = load.number;
        let read = self.next_read();
        self.reads.insert(read, (Reader::Load(partition, number), segment_of(&plan)));
        out.push(Effect::Disk(DiskOp::Read(read, plan)));
    }

    /// Records of a partition have been read.
    pub(in crate::node) fn loaded(
        &mut self,
        now: Now,
        partition: i32,
        number: u64,
        result: ReadResult,
        out: &mut Outbox,
    ) {
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return };
        let slot = seat.slot;
        let State::Loading(load) = &mut seat.state else { return };
        if load.number != number {
            return;
        }
        match result {
            Ok(ReadOutcome::Records(opened, next)) => {
                load.next = next;
                load.opened = opened.into();
                if load.opened.is_empty() {
                    return self.read_on(now, partition, out);
                }
                self.deadlines.insert((now.instant + NEXT_STEP, Reason::Load));
            }
            Ok(_) => {
                let log = self.hosts[slot as usize].as_ref().expect("a seat's partition is hosted").partition.log();
                load.next = log.after_gap(load.next);
                self.read_on(now, partition, out);
            }
            // The segment is gone: the log begins later now, or has another in its place.
            Err(None) => self.read_on(now, partition, out),
            Err(Some(error)) => {
                self.fail_coordinator(now, partition, &error.to_string(), out);
                self.read_failed(slot, &error, out);
            }
        }
    }

    /// Replays the next records of a partition. Returns whether there were any.
    fn replay_some(&mut self, now: Now, partition: i32, out: &mut Outbox) -> bool {
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return false };
        let State::Loading(load) = &mut seat.state else { return false };
        let mut bytes = 0;
        let mut count = 0;
        while count < REPLAYED_AT_ONCE
            && bytes < REPLAYED_BYTES_MAX
            && let Some(Opened { key, value, timestamp, .. }) = load.opened.pop_front()
        {
            let length = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
            bytes += length(&key) + length(&value);
            count += 1;
            match key.map(|key| Record::decode(&key, value.as_ref())) {
                Some(Ok(record)) => {
                    load.coordinator.replay(record, timestamp);
                    load.replayed += 1;
                }
                None | Some(Err(_)) => load.senseless += 1,
            }
        }
        if count > 0 && load.opened.is_empty() {
            self.read_on(now, partition, out);
        }
        count > 0
    }

    fn end_load(&mut self, now: Now, partition: i32, out: &mut Outbox) {
        let seat = self.groups.seats.get_mut(&partition).expect("it is being loaded");
        let State::Loading(load) = std::mem::replace(&mut seat.state, State::Failed) else {
            unreachable!("it is being loaded")
        };
        let Load { coordinator, replayed, senseless, since, .. } = *load;
        seat.state = State::Beginning(coordinator, None);
        let ms = (now.instant - since).as_millis();
        out.log(Level::Info, format!("coordinator loaded: {GROUP_OFFSETS}-{partition} records={replayed} ms={ms}"));
        if senseless > 0 {
            out.log(Level::Warn, format!("{GROUP_OFFSETS}-{partition} holds records of no group: records={senseless}"));
        }
        self.counters.coordinator_loads += 1;
        self.counters.coordinator_records_loaded += replayed;
        self.deadlines.insert((now.instant + NEXT_STEP, Reason::Load));
    }

    /// Has the next groups of a partition begin whose records are all replayed. Returns whether there were any.
    fn begin_some(&mut self, now: Now, partition: i32, out: &mut Outbox) -> bool {
        // What a group decides as it begins must find its place in the log before anybody decides more.
        if !self.groups.unwritten.is_empty() {
            return false;
        }
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return false };
        let State::Beginning(_, after) = &mut seat.state else { return false };
        let after = after.take();
        let begun = self.call(now, partition, out, |coordinator, with| coordinator.begin(with, after));
        let seat = self.groups.seats.get_mut(&partition).expect("it is being loaded");
        seat.state = match (std::mem::replace(&mut seat.state, State::Failed), begun) {
            (State::Beginning(coordinator, _), Some(last)) => State::Beginning(coordinator, Some(last)),
            (State::Beginning(coordinator, _), None) => State::Serving(coordinator),
            (other, _) => other,
        };
        if matches!(seat.state, State::Serving(_)) {
            self.end_turn(partition);
        }
        true
    }
}
